//! The sum of each window, and the derivative of it.

use super::{
    super::{
        isa::{Isa, Kernel, dispatch_light},
        memory::{Aligned, filled},
        passes::{Blank, write},
        sizes::saturating,
        threads,
        thresholds::{POOLING_PARALLEL as PARALLEL, POOLING_TASK as TASK},
    },
    Paths, Pattern,
};
use crate::number::Real;

/// The sums of windows; with `BACK`, for each element the sum of the windows that contain it.
#[allow(unsafe_code)]
pub(super) fn sums<T: Real, const BACK: bool>(x: &[T], pattern: &Pattern) -> Aligned<T> {
    let paths = &Paths::new(pattern);
    let mut sizes = [pattern.input_len(), pattern.output_len()];
    if BACK {
        sizes.reverse();
    }
    let [from, to] = sizes;
    let (planes, work) = (x.len() / from, paths.work());
    let step = if saturating([planes, work]) < PARALLEL { planes } else { TASK.div_ceil(work) };
    let mut out = Aligned::with_capacity(planes * to);
    threads::chunks(out.spare(planes * to), to * step, &|i, out| {
        dispatch_light::<T, BACK, _>(Sums::<T, BACK> { x: &x[i * from * step..], paths, out });
    });
    // SAFETY: there is one task for each `step` planes, and each wrote all of its planes.
    unsafe { out.set_len(planes * to) };
    out
}

/// Some planes of [`sums`].
struct Sums<'a, T, const BACK: bool> {
    x: &'a [T],
    paths: &'a Paths,
    out: &'a mut Blank<T>,
}

impl<T: Real, const BACK: bool> Kernel for Sums<'_, T, BACK> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Sums { x, paths, out } = self;
        let Paths { input, output: [_, _, width_out], runs, steps: [a, b], .. } = paths;
        let (width, out) = (input[2], write(out, |_| T::ZERO));
        let sizes = [input, &paths.output].map(|sizes| sizes.iter().product::<usize>());
        let [from, to] = if BACK { [sizes[1], sizes[0]] } else { sizes };
        let mut sum = filled(width, T::ZERO);
        let sum = &mut sum[..width];
        for (x, out) in x.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            for (r, lines) in paths.rows.iter().enumerate() {
                let (windows, mut lines) = (r * width_out..(r + 1) * width_out, *lines);
                // The lines under a row are summed first, or get the same.
                if BACK {
                    sum.fill(T::ZERO);
                    let g = &x[windows];
                    for run in runs {
                        add::<T, BACK>(&mut sum[run.element..], *b, &g[run.window..], *a, run.count);
                    }
                    while let Some(line) = lines.next() {
                        add_all(&mut out[line..][..width], sum);
                    }
                    continue;
                }
                let Some(first) = lines.next() else { continue };
                let mut line = &x[first..][..width];
                if let Some(second) = lines.next() {
                    let second = &x[second..][..width];
                    for i in 0..width {
                        sum[i] = line[i] + second[i];
                    }
                    while let Some(line) = lines.next() {
                        add_all(sum, &x[line..][..width]);
                    }
                    line = sum;
                }
                let out = &mut out[windows];
                for run in runs {
                    add::<T, BACK>(&mut out[run.window..], *a, &line[run.element..], *b, run.count);
                }
            }
        }
    }
}

#[inline(always)]
fn add_all<T: Real>(to: &mut [T], from: &[T]) {
    to.iter_mut().zip(from).for_each(|(to, &from)| *to += from);
}

/// Adds every `b`th element of `from` to every `a`th element of `to`, `count` of them, at least one.
#[inline(always)]
fn add<T: Real, const BACK: bool>(to: &mut [T], a: usize, from: &[T], b: usize, count: usize) {
    assert!((count - 1) * a < to.len() && (count - 1) * b < from.len());
    // With steps that it knows, the compiler makes a better loop.
    match (a, b) {
        (1, 1) => add_by(to, 1, from, 1, count),
        (1, 2) if !BACK => add_by(to, 1, from, 2, count),
        (1, 0) if BACK => add_by(to, 1, from, 0, count),
        (0, 1) if !BACK => add_by(to, 0, from, 1, count),
        _ => add_by(to, a, from, b, count),
    }
}

#[inline(always)]
#[allow(unsafe_code)]
fn add_by<T: Real>(to: &mut [T], a: usize, from: &[T], b: usize, count: usize) {
    for i in 0..count {
        // SAFETY: `add` checked that the last ones are inside.
        unsafe { *to.get_unchecked_mut(i * a) += *from.get_unchecked(i * b) };
    }
}
