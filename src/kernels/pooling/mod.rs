//! Pooling: one number per window.

mod max;
mod sums;

use max::Each;
pub use max::unpool;
use ndnn_derive::concrete;
use sums::sums;

use super::{
    memory::{Aligned, mapped, vector},
    sizes::saturating,
    windows::{Span, Windows, per_axis},
};
use crate::number::{Element, Real};

/// The windows of a pooling, each a box of elements of a plane.
#[derive(Clone, Copy, Debug)]
pub enum Pattern {
    /// Windows of one size that slide over the plane.
    Sliding(Windows),
    /// As many windows as the output has elements, which cover the plane evenly; see [`Span::even`].
    Adaptive { input: [usize; 3], output: [usize; 3] },
}

impl Pattern {
    /// The lengths of the input and of the output.
    fn sizes(&self) -> [[usize; 3]; 2] {
        match *self {
            Pattern::Sliding(Windows { input, output, .. }) | Pattern::Adaptive { input, output } => [input, output],
        }
    }

    /// The number of elements of one plane of the input.
    pub fn input_len(&self) -> usize {
        self.sizes()[0].iter().product()
    }

    /// The number of windows.
    pub fn output_len(&self) -> usize {
        self.sizes()[1].iter().product()
    }

    /// For each window along one axis, the elements inside it.
    pub fn spans(&self, axis: usize) -> Vec<Span> {
        match self {
            Pattern::Sliding(windows) => windows.spans(axis),
            Pattern::Adaptive { input, output } => {
                let (n, m) = (input[axis], output[axis]);
                let mut spans = vector(m);
                for o in 0..m {
                    spans.push(Span::even(o, n, m));
                }
                spans
            }
        }
    }

    /// For each window, the number of elements inside it; with `padded`, of a sliding window also those in the padding.
    pub fn counts<T: Element>(&self, padded: bool) -> Vec<T> {
        let along = per_axis(|axis| self.counts_along(axis, padded));
        let mut counts = vector(self.output_len());
        for &d in &along[0] {
            for &h in &along[1] {
                for &w in &along[2] {
                    counts.push(T::of(d as f64 * h as f64 * w as f64));
                }
            }
        }
        counts
    }

    fn counts_along(&self, axis: usize, padded: bool) -> Vec<usize> {
        match self {
            Pattern::Sliding(windows) if padded => windows.padded_counts(axis),
            _ => mapped(&self.spans(axis), |span| span.count),
        }
    }
}

/// The windows of a fractional pooling: of one size, at steps that vary and that differ from plane to plane.
#[derive(Clone, Copy, Debug)]
pub struct Fractional<'a, T> {
    pub input: [usize; 3],
    pub kernel: [usize; 3],
    pub output: [usize; 3],
    /// Three numbers per plane, one per axis, from 0 to 1.
    pub samples: &'a [T],
}

impl<T: Real> Fractional<'_, T> {
    fn paths(&self, plane: usize) -> Paths {
        let samples = &self.samples[3 * plane..][..3];
        let spans = per_axis(|axis| {
            let (count, sample, windows) = (self.kernel[axis], samples[axis], self.output[axis]);
            let last = self.input[axis] - count;
            // In the arithmetic of the element type, as in PyTorch.
            let step = T::of(last as f64) / T::of(windows.saturating_sub(1).max(1) as f64);
            let start = |o: usize| match o + 1 == windows {
                true => last,
                false => (((T::of(o as f64) + sample) * step).as_i64() - (sample * step).as_i64()) as usize,
            };
            let mut spans = vector(windows);
            for o in 0..windows {
                spans.push(Span { start: start(o).min(last), count });
            }
            spans
        });
        Paths::one_by_one(self.input, [1; 3], spans)
    }
}

/// The largest element of each window of each plane, and its position in the plane. Of equal elements the first one is taken;
/// NaN is larger than anything, and the last NaN is taken. Each window has an element.
#[concrete]
pub fn max_pool<T: Real>(x: &[T], pattern: &Pattern) -> (Aligned<T>, Aligned<i64>) {
    max::max_pool::<T, true>(x, &Each::Same(Paths::new(pattern)))
}

/// Only the largest elements, in half the time.
#[concrete]
pub fn max_pool_values<T: Real>(x: &[T], pattern: &Pattern) -> Aligned<T> {
    max::max_pool::<T, false>(x, &Each::Same(Paths::new(pattern))).0
}

/// As [`max_pool`], of other windows.
#[concrete]
pub fn fractional_max_pool<T: Real>(x: &[T], windows: &Fractional<'_, T>) -> (Aligned<T>, Aligned<i64>) {
    max::max_pool::<T, true>(x, &Each::Own(windows.paths(0), &|plane| windows.paths(plane)))
}

/// The sum of each window of each plane, added in the order of its elements.
#[concrete]
pub fn sum_pool<T: Real>(x: &[T], pattern: &Pattern) -> Aligned<T> {
    sums::<T, false>(x, pattern)
}

/// The derivative of [`sum_pool`]: for each element the sum of the windows that contain it.
#[concrete]
pub fn spread<T: Real>(g: &[T], pattern: &Pattern) -> Aligned<T> {
    sums::<T, true>(g, pattern)
}

/// The order in which the windows of a plane are processed: by rows of windows, lines of the input under a row, and
/// runs along a line.
struct Paths {
    input: [usize; 3],
    output: [usize; 3],
    spans: [Vec<Span>; 3],
    /// The lines under each row of windows.
    rows: Vec<Lines>,
    /// Where each window of a row starts in a line.
    starts: Vec<i64>,
    runs: Vec<Run>,
    /// The step from one pair of a run to the next: in the row of windows, and in the line.
    steps: [usize; 2],
}

/// Pairs of a window of a row and an element of the line under it, at equal steps: either one element of many windows or
/// all elements of one window.
struct Run {
    window: usize,
    element: usize,
    count: usize,
}

impl Paths {
    fn new(pattern: &Pattern) -> Self {
        let sliding = match *pattern {
            Pattern::Sliding(windows) => windows,
            Pattern::Adaptive { input, output } => {
                if (0..3).any(|axis| !input[axis].is_multiple_of(output[axis])) {
                    return Paths::one_by_one(input, [1; 3], per_axis(|axis| pattern.spans(axis)));
                }
                // Windows of one size, next to one another.
                let kernel = per_axis(|axis| input[axis] / output[axis]);
                Windows { input, kernel, stride: kernel, dilation: [1; 3], before: [0; 3], output }
            }
        };
        let windows = sliding.merged();
        let spans = per_axis(|axis| windows.spans(axis));
        // The longer runs: across all windows, or along one.
        if windows.output[2] < windows.kernel[2].min(windows.input[2]) {
            return Paths::one_by_one(windows.input, windows.dilation, spans);
        }
        let across = windows.across();
        let mut runs = vector(across.len());
        for (range, element) in across {
            runs.push(Run { window: range.start, element, count: range.len() });
        }
        Paths::with(windows.input, windows.dilation, spans, runs, [1, windows.stride[2]])
    }

    /// Windows given by their elements along each axis, with a run for each window of a row.
    fn one_by_one(input: [usize; 3], dilation: [usize; 3], spans: [Vec<Span>; 3]) -> Self {
        let mut runs = vector(spans[2].len());
        for (window, &Span { start, count }) in spans[2].iter().enumerate() {
            if count > 0 {
                runs.push(Run { window, element: start, count });
            }
        }
        Paths::with(input, dilation, spans, runs, [0, dilation[2]])
    }

    fn with(input: [usize; 3], dilation: [usize; 3], spans: [Vec<Span>; 3], runs: Vec<Run>, steps: [usize; 2]) -> Self {
        let (output, starts) = (per_axis(|axis| spans[axis].len()), mapped(&spans[2], |span| span.start as i64));
        let [_, height, width] = input;
        let step = [dilation[0].wrapping_mul(height * width), dilation[1].wrapping_mul(width)];
        let mut rows = vector(output[0] * output[1]);
        for d in &spans[0] {
            for h in &spans[1] {
                let (at, count) = ((d.start * height + h.start) * width, [d.count, h.count]);
                rows.push(Lines { at, count, step, done: 0 });
            }
        }
        Paths { input, output, spans, rows, starts, runs, steps }
    }

    /// How many elements all windows have together.
    fn work(&self) -> usize {
        let along = |spans: &Vec<Span>| spans.iter().fold(0usize, |sum, span| sum.saturating_add(span.count));
        saturating(self.spans.iter().map(along))
    }
}

/// The offsets in a plane of the lines under a row of windows.
#[derive(Clone, Copy)]
struct Lines {
    at: usize,
    /// What is left along the first axis, and the number along the second.
    count: [usize; 2],
    step: [usize; 2],
    /// How many along the second axis were passed.
    done: usize,
}

impl Lines {
    #[inline(always)]
    fn next(&mut self) -> Option<usize> {
        if self.count[0] == 0 || self.count[1] == 0 {
            return None;
        }
        // A step that is not taken may be beyond any plane.
        let at = self.at;
        self.at = at.wrapping_add(self.step[1]);
        self.done += 1;
        if self.done == self.count[1] {
            self.at = self.at.wrapping_sub(self.done.wrapping_mul(self.step[1])).wrapping_add(self.step[0]);
            self.done = 0;
            self.count[0] -= 1;
        }
        Some(at)
    }
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
            let (mut sums, mut spreads) = (vec![0.; g.len()], vec![0.; x.len()]);
            for (i, sum) in sums.iter_mut().enumerate() {
                let (plane, window) = (i / w.output_len() * w.input_len(), i % w.output_len());
                for at in (0..w.kernel_len()).filter_map(|tap| under(&w, window, tap)) {
                    *sum += x[plane + at];
                    spreads[plane + at] += g[i];
                }
            }
            let pattern = Pattern::Sliding(w);
            assert_eq!((&sum_pool(&x, &pattern)[..], &spread(&g, &pattern)[..]), (&sums[..], &spreads[..]), "{w:?}");
        }
    }

    /// Windows of different lengths, some of which share elements, and few long ones.
    #[test]
    fn windows_that_cover_the_plane_evenly() {
        let sizes = [[1, 1, 1], [2, 3, 7], [1, 5, 4], [4, 1, 9]];
        for (input, output) in sizes.iter().flat_map(|&input| sizes.map(|output| (input, output))) {
            let pattern = Pattern::Adaptive { input, output };
            let x: Vec<f64> = (0..2 * pattern.input_len()).map(|i| ((i * 7 + 3) % 11) as f64).collect();
            let spans = [0, 1, 2].map(|axis| {
                let at = |o: usize| (o * input[axis] / output[axis], ((o + 1) * input[axis]).div_ceil(output[axis]));
                (0..output[axis]).map(move |o| at(o).0..at(o).1).collect::<Vec<_>>()
            });
            let mut sums = Vec::new();
            let mut counts = Vec::new();
            for plane in x.chunks(pattern.input_len()) {
                for (d, h, w) in (0..pattern.output_len())
                    .map(|i| (i / output[2] / output[1], i / output[2] % output[1], i % output[2]))
                {
                    let rows = spans[0][d].clone().flat_map(|d| spans[1][h].clone().map(move |h| d * input[1] + h));
                    let window: Vec<f64> =
                        rows.flat_map(|row| &plane[row * input[2]..][spans[2][w].clone()]).copied().collect();
                    sums.push(window.iter().sum::<f64>());
                    counts.push(window.len() as f64);
                }
            }
            assert_eq!(
                (&sum_pool(&x, &pattern)[..], pattern.counts(false)),
                (&sums[..], counts[..pattern.output_len()].to_vec()),
                "{pattern:?}"
            );
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
                let (largest, places) = max_pool(&x, &Pattern::Sliding(w));
                assert_eq!((largest.len(), places.len()), (3 * w.output_len(), 3 * w.output_len()));
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&max_pool_values(&x, &Pattern::Sliding(w))), bits(&largest), "{w:?}");
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
