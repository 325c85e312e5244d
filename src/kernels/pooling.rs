//! Pooling: one number per window.

use std::ops::Range;

use num_traits::Float;

use super::{
    isa::{Isa, Kernel, dispatch},
    memory::{Aligned, collected},
    row_kernel::{self, Blank, RowKernel, Sizes, write},
    sizes::saturating,
    threads,
    thresholds::{POOLING_PARALLEL as PARALLEL, POOLING_TASK as TASK},
    windows::{Span, Windows},
};
use crate::number::{Element, Real};

/// Pooling for one element type, compiled in this crate and not where it is called.
pub trait Pool: Sized {
    /// The largest element of each window of each plane, and its position in the plane. Of equal elements the first one
    /// is taken; NaN is larger than anything, and the last NaN is taken. Each window has a tap inside the input.
    fn max_pool(x: &[Self], windows: &Windows) -> (Aligned<Self>, Aligned<i64>);

    /// Only the largest elements, in half the time.
    fn max_pool_values(x: &[Self], windows: &Windows) -> Aligned<Self>;

    /// The sum of each window of each plane, added in the order of its taps.
    fn sum_pool(x: &[Self], windows: &Windows) -> Aligned<Self>;

    /// The derivative of `sum_pool`: for each element the sum of the windows that contain it.
    fn spread(g: &[Self], windows: &Windows) -> Aligned<Self>;
}

macro_rules! pool {
    ($($t:ty),*) => {$(
        impl Pool for $t {
            fn max_pool(x: &[Self], windows: &Windows) -> (Aligned<Self>, Aligned<i64>) {
                max_pool::<Self, true>(x, windows)
            }
            fn max_pool_values(x: &[Self], windows: &Windows) -> Aligned<Self> {
                max_pool::<Self, false>(x, windows).0
            }
            fn sum_pool(x: &[Self], windows: &Windows) -> Aligned<Self> {
                sums::<Self, false>(x, windows)
            }
            fn spread(g: &[Self], windows: &Windows) -> Aligned<Self> {
                sums::<Self, true>(g, windows)
            }
        }
    )*};
}
pool!(f32, f64);

/// The order in which the windows of a plane are processed: by rows of windows, lines of the input under a row, and
/// taps along a line.
struct Paths {
    windows: Windows,
    spans: [Vec<Span>; 3],
    /// For each tap along a line: the windows of a row that have it inside the input, and the element at the tap of the
    /// first one.
    across: Vec<(Range<usize>, usize)>,
}

impl Paths {
    fn new(windows: &Windows) -> Self {
        let windows = windows.merged();
        Paths { windows, spans: [0, 1, 2].map(|axis| windows.spans(axis)), across: windows.across() }
    }

    /// The rows of windows, each given by its spans along the first two axes.
    #[inline(always)]
    fn rows(&self) -> impl Iterator<Item = [Span; 2]> {
        self.spans[0].iter().flat_map(|&d| self.spans[1].iter().map(move |&h| [d, h]))
    }

    /// The offsets in the plane of the lines under a row.
    #[inline(always)]
    fn lines(&self, [d, h]: [Span; 2]) -> impl Iterator<Item = usize> {
        let ([_, height, width], [by_d, by_h, _]) = (self.windows.input, self.windows.dilation);
        let steps = |span: Span, by: usize| (0..span.count).map(move |k| span.start + k * by);
        steps(d, by_d).flat_map(move |d| steps(h, by_h).map(move |h| (d * height + h) * width))
    }
}

#[allow(unsafe_code)]
fn max_pool<T: Float + Element, const PLACES: bool>(x: &[T], windows: &Windows) -> (Aligned<T>, Aligned<i64>) {
    let paths = &Paths::new(windows);
    let windows = &paths.windows;
    let (from, to) = (windows.input_len(), windows.output_len());
    let planes = x.len() / from.max(1);
    let places_to = if PLACES { to } else { 0 };
    let (mut values, mut places) = (Aligned::with_capacity(planes * to), Aligned::with_capacity(planes * places_to));
    let work = saturating([to, windows.kernel_len()]);
    // Planes per task.
    let step = if saturating([planes, work]) < PARALLEL { planes.max(1) } else { TASK.div_ceil(work) };
    let mut rest = places.spare(planes * places_to);
    let tasks = x.chunks(from * step).zip(values.spare(planes * to).chunks_mut(to * step)).map(|(x, values)| {
        let places = rest.split_off_mut(..if PLACES { values.len() } else { 0 }).expect("as many as values");
        (x, values, places)
    });
    threads::each(saturating([planes, work]), tasks, |(x, values, places)| {
        dispatch(Planes::<T, PLACES> { x, paths, values, places })
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
    paths: &'a Paths,
    values: &'a mut Blank<T>,
    places: &'a mut Blank<i64>,
}

impl<T: Float, const PLACES: bool> Kernel for Planes<'_, T, PLACES> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Planes { x, paths, values, places } = self;
        let Paths { windows, spans, across } = paths;
        let ([_, height, width], width_out) = (windows.input, windows.output[2]);
        let starts = collected(spans[2].iter().map(|span| span.start as i64));
        let (mut out, mut rest) = (values.chunks_exact_mut(width_out), places);
        for plane in x.chunks_exact(windows.input_len()) {
            for row in paths.rows() {
                let values = out.next().expect("a row for each");
                let places = rest.split_off_mut(..if PLACES { width_out } else { 0 }).expect("a row for each");
                let first = ((row[0].start * height + row[1].start) * width) as i64;
                let values = write(values, |_| T::neg_infinity());
                let places = write(places, |o| first + starts[o]);
                for at in paths.lines(row) {
                    let line = &plane[at..][..width];
                    for (range, from) in across {
                        let places = if PLACES { &mut places[range.clone()] } else { &mut [] };
                        let (line, step) = (&line[*from..], windows.stride[2]);
                        improve::<T, PLACES>(line, at + from, step, &mut values[range.clone()], places);
                    }
                }
            }
        }
    }
}

/// Takes every `step`th element of `line` that is larger; the first one is at `place`.
#[inline(always)]
fn improve<T: Float, const PLACES: bool>(line: &[T], place: usize, step: usize, values: &mut [T], places: &mut [i64]) {
    assert!((values.len() - 1) * step < line.len());
    // One loop for each step: with a step that it knows, the compiler vectorizes the loop.
    match step {
        1 => improve_by::<T, PLACES>(line, place, 1, values, places),
        2 => improve_by::<T, PLACES>(line, place, 2, values, places),
        _ => improve_by::<T, PLACES>(line, place, step, values, places),
    }
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
    let better = |x: T, best: T| (x > best) | x.is_nan();
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

/// Sums of windows, one plane per row; with `BACK`, for each element the sum of the windows that contain it.
struct WindowSums<'a, T, const BACK: bool> {
    x: &'a [T],
    paths: Paths,
}

impl<T: Real, const BACK: bool> RowKernel<T> for WindowSums<'_, T, BACK> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let Paths { windows, across, .. } = &self.paths;
        let (width, step) = (windows.output[2], windows.stride[2]);
        let len = if BACK { windows.output_len() } else { windows.input_len() };
        let (x, out) = (&self.x[i * len..][..len], write(out, |_| T::ZERO));
        for (r, row) in self.paths.rows().enumerate() {
            for line in self.paths.lines(row) {
                for (range, from) in across {
                    let (window, element) = (r * width + range.start, line + from);
                    match BACK {
                        false => add(&mut out[window..], 1, &x[element..], step, range.len()),
                        true => add(&mut out[element..], step, &x[window..], 1, range.len()),
                    }
                }
            }
        }
        (out, ())
    }
}

fn sums<T: Real, const BACK: bool>(x: &[T], windows: &Windows) -> Aligned<T> {
    let (from, to) = (windows.input_len(), windows.output_len());
    let (rows, written) = if BACK { (x.len() / to, from) } else { (x.len() / from, to) };
    let kernel = WindowSums::<T, BACK> { x, paths: Paths::new(windows) };
    row_kernel::run(&kernel, Sizes { rows, read: from + to, written, sums: 0 }).0
}

/// Adds every `b`th element of `from` to every `a`th element of `to`, `count` of them, at least one.
#[inline(always)]
fn add<T: Real>(to: &mut [T], a: usize, from: &[T], b: usize, count: usize) {
    assert!((count - 1) * a < to.len() && (count - 1) * b < from.len());
    // One loop for each pair of steps: with steps that it knows, the compiler vectorizes the loop.
    match (a, b) {
        (1, 1) => add_by(to, 1, from, 1, count),
        (1, 2) => add_by(to, 1, from, 2, count),
        (2, 1) => add_by(to, 2, from, 1, count),
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

/// Rows of zeros to which each element of `g` is added at its place.
struct Unpool<'a, T> {
    g: &'a [T],
    places: &'a [i64],
    count: usize,
}

impl<T: Real> RowKernel<T> for Unpool<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let out = write(out, |_| T::ZERO);
        let part = i * self.count..(i + 1) * self.count;
        for (&g, &at) in self.g[part.clone()].iter().zip(&self.places[part]) {
            out[at as usize] += g;
        }
        (out, ())
    }
}

/// The derivative of max pooling: adds each element of `g` at its place in one of `rows` planes of `len` elements.
pub fn unpool<T: Real>(g: &[T], places: &[i64], rows: usize, len: usize) -> Aligned<T> {
    let kernel = Unpool { g, places, count: g.len() / rows.max(1) };
    row_kernel::run(&kernel, Sizes { rows, read: len, written: len, sums: 0 }).0
}

#[cfg(test)]
mod tests {
    use super::{
        super::windows::tests::{many, under},
        *,
    };

    /// Against a loop over one tap after another; also the derivative, which gives each tap its share of the window.
    #[test]
    fn each_window_has_its_sum() {
        for w in many() {
            let x: Vec<f64> = (0..2 * w.input_len()).map(|i| ((i * 7 + 3) % 11) as f64).collect();
            let g: Vec<f64> = (0..2 * w.output_len()).map(|i| ((i * 5 + 1) % 13) as f64).collect();
            let (mut sums, mut spread) = (vec![0.; g.len()], vec![0.; x.len()]);
            for (i, sum) in sums.iter_mut().enumerate() {
                let (plane, window) = (i / w.output_len() * w.input_len(), i % w.output_len());
                for at in (0..w.kernel_len()).filter_map(|tap| under(&w, window, tap)) {
                    *sum += x[plane + at];
                    spread[plane + at] += g[i];
                }
            }
            assert_eq!((&f64::sum_pool(&x, &w)[..], &f64::spread(&g, &w)[..]), (&sums[..], &spread[..]), "{w:?}");
        }
    }

    /// Against a loop over one window after another, with many equal numbers, NaN and infinities.
    #[test]
    fn each_window_has_its_largest_element() {
        let values = [1., 2., 2., f64::NAN, 0., -1., f64::NEG_INFINITY, f64::INFINITY, -0.];
        let mut seed = 1usize;
        for w in many() {
            let taps = |window: usize| (0..w.kernel_len()).filter_map(move |tap| under(&w, window, tap));
            if (0..w.output_len()).any(|window| taps(window).next().is_none()) {
                continue;
            }
            for most in [values.len(), 3] {
                let x: Vec<f64> = std::iter::repeat_with(|| {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    values[(seed >> 33) % most]
                })
                .take(3 * w.input_len())
                .collect();
                let (largest, places) = f64::max_pool(&x, &w);
                assert_eq!((largest.len(), places.len()), (3 * w.output_len(), 3 * w.output_len()));
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&f64::max_pool_values(&x, &w)), bits(&largest), "{w:?}");
                for (i, (&value, &place)) in largest.iter().zip(&*places).enumerate() {
                    let plane = &x[i / w.output_len() * w.input_len()..];
                    let better = |best: usize, at: usize| {
                        if plane[at] > plane[best] || plane[at].is_nan() { at } else { best }
                    };
                    let want = taps(i % w.output_len()).reduce(better).unwrap();
                    assert_eq!((value.to_bits(), place), (plane[want].to_bits(), want as i64), "{w:?}");
                }
            }
        }
    }
}
