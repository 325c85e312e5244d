//! The largest element of each window, and its place.

use ndnn_derive::concrete;
use num_traits::Float;

use super::{
    super::{
        isa::{Isa, Kernel, dispatch_light},
        memory::Aligned,
        passes::{Blank, write},
        row_kernel::{self, Sizes},
        sizes::saturating,
        threads::{self, Cut},
        thresholds::{POOLING_PARALLEL as PARALLEL, POOLING_TASK as TASK},
    },
    Paths,
};
use crate::number::{Element, Real};

/// The windows of each plane.
pub(super) enum Each<'a> {
    Same(Paths),
    /// Those of the first plane, which have the sizes of all, and those of any plane.
    Own(Paths, &'a (dyn Fn(usize) -> Paths + Sync)),
}

#[allow(unsafe_code)]
pub(super) fn max_pool<T: Float + Element, const PLACES: bool>(x: &[T], each: &Each<'_>) -> (Aligned<T>, Aligned<i64>) {
    let (Each::Same(first) | Each::Own(first, _)) = each;
    let (from, to) = (first.input.iter().product::<usize>(), first.output.iter().product::<usize>());
    let planes = x.len() / from.max(1);
    let places_to = if PLACES { to } else { 0 };
    let (mut values, mut places) = (Aligned::with_capacity(planes * to), Aligned::with_capacity(planes * places_to));
    let work = first.work();
    // Planes per task.
    let step = if saturating([planes, work]) < PARALLEL { planes.max(1) } else { TASK.div_ceil(work) };
    let at = &Cut::new(places.spare(planes * places_to));
    threads::chunks(values.spare(planes * to), to * step, &|i, values| {
        // SAFETY: each chunk is handed out once.
        let places = unsafe { at.chunk(i, places_to * step) };
        let x = &x[i * from * step..][..values.len() / to * from];
        dispatch_light::<T, PLACES, _>(Planes::<T, PLACES> { x, first: i * step, each, values, places });
    });
    // SAFETY: there is one task for each `step` planes, and each wrote all rows of its planes.
    unsafe {
        values.set_len(planes * to);
        places.set_len(planes * places_to);
    }
    (values, places)
}

/// Some planes of [`max_pool`]; without `PLACES`, `places` is empty.
struct Planes<'a, T, const PLACES: bool> {
    x: &'a [T],
    first: usize,
    each: &'a Each<'a>,
    values: &'a mut Blank<T>,
    places: &'a mut Blank<i64>,
}

impl<T: Float, const PLACES: bool> Kernel for Planes<'_, T, PLACES> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Planes { x, first, each, mut values, places: mut rest } = self;
        let (Each::Same(sizes) | Each::Own(sizes, _)) = each;
        let ([depth, height, width], width_out) = (sizes.input, sizes.output[2]);
        for (i, plane) in x.chunks_exact(depth * height * width).enumerate() {
            let own;
            let paths = match each {
                Each::Same(paths) => paths,
                Each::Own(_, of) => {
                    own = of(first + i);
                    &own
                }
            };
            // Outside the loops, so that what they write cannot change them.
            let (starts, runs, steps) = (&paths.starts[..width_out], &paths.runs[..], paths.steps);
            for lines in &paths.rows {
                let mut lines = *lines;
                let line = values.split_off_mut(..width_out).expect("a row for each");
                let places = rest.split_off_mut(..if PLACES { width_out } else { 0 }).expect("a row for each");
                let first = lines.at as i64;
                let values = write(line, |_| T::neg_infinity());
                let places = write(places, |o| first + starts[o]);
                while let Some(at) = lines.next() {
                    let line = &plane[at..][..width];
                    for run in runs {
                        let places = if PLACES { &mut places[run.window..] } else { &mut [] };
                        let (values, place) = (&mut values[run.window..], at + run.element);
                        improve::<T, PLACES>(&line[run.element..], place, run.count, steps, values, places);
                    }
                }
            }
        }
        assert!(values.is_empty() && rest.is_empty());
    }
}

/// Takes the elements of a run where they are larger; the first one is `line[0]`, at `place`.
#[inline(always)]
fn improve<T: Float, const PLACES: bool>(
    line: &[T],
    place: usize,
    count: usize,
    [along, step]: [usize; 2],
    values: &mut [T],
    places: &mut [i64],
) {
    if along == 0 {
        let run = line.iter().step_by(step).take(count).enumerate();
        let (mut best, mut at) = (values[0], None);
        for (i, &x) in run {
            if better(x, best) {
                (best, at) = (x, Some((place + i * step) as i64));
            }
        }
        values[0] = best;
        if let (true, Some(at)) = (PLACES, at) {
            places[0] = at;
        }
        return;
    }
    let (values, places) = (&mut values[..count], if PLACES { &mut places[..count] } else { &mut [] });
    assert!((count - 1) * step < line.len());
    // One loop for each step: with a step that it knows, the compiler vectorizes the loop.
    match step {
        1 => improve_by::<T, PLACES>(line, place, 1, values, places),
        2 => improve_by::<T, PLACES>(line, place, 2, values, places),
        _ => improve_by::<T, PLACES>(line, place, step, values, places),
    }
}

#[inline(always)]
fn better<T: Float>(x: T, best: T) -> bool {
    (x > best) | x.is_nan()
}

#[inline(always)]
#[allow(unsafe_code)]
fn improve_by<T: Float, const PLACES: bool>(
    line: &[T],
    place: usize,
    step: usize,
    values: &mut [T],
    places: &mut [i64],
) {
    // SAFETY: `improve` checked that the last one is inside.
    let element = |i: usize| unsafe { *line.get_unchecked(i * step) };
    if !PLACES {
        for (i, best) in values.iter_mut().enumerate() {
            let x = element(i);
            *best = if better(x, *best) { x } else { *best };
        }
        return;
    }
    for (i, (best, at)) in values.iter_mut().zip(places).enumerate() {
        let x = element(i);
        let better = better(x, *best);
        *best = if better { x } else { *best };
        *at = if better { (place + i * step) as i64 } else { *at };
    }
}

/// The derivative of max pooling: adds each element of `g` at its place in one of `rows` planes of `len` elements.
#[concrete]
pub fn unpool<T: Real>(g: &[T], places: &[i64], rows: usize, len: usize) -> Aligned<T> {
    let count = g.len() / rows.max(1);
    let sizes = Sizes { rows, read: len, written: len, sums: 0 };
    row_kernel::run(sizes, &|i, out, _| {
        let out = write(out, |_| T::ZERO);
        let part = i * count..(i + 1) * count;
        for (&g, &at) in g[part.clone()].iter().zip(&places[part]) {
            out[at as usize] += g;
        }
        (out, ())
    })
    .0
}
