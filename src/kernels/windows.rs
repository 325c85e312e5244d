//! Windows that slide over an input of up to three axes: their positions, and which of their taps are inside the input.

use std::ops::Range;

use super::{
    memory::{push, vector},
    sizes::saturating,
    sort::order,
};

/// The positions of windows on an input with three axes; for a problem with fewer axes the first ones have length 1.
///
/// No axis is longer than `isize::MAX` including its padding, and no stride or dilation is longer than the axis, so
/// that a position (the start of a window plus an offset in it) cannot overflow. The lengths of input and output are
/// those of tensors.
#[derive(Clone, Copy, Debug)]
pub struct Windows {
    pub input: [usize; 3],
    pub kernel: [usize; 3],
    pub stride: [usize; 3],
    pub dilation: [usize; 3],
    /// The padding before each axis; the padding after it follows from the size of the output.
    pub before: [usize; 3],
    pub output: [usize; 3],
}

/// What `f` gives for each axis. (`map` of an array is compiled in several pieces for each closure.)
#[inline(always)]
pub fn per_axis<R>(f: impl Fn(usize) -> R) -> [R; 3] {
    [f(0), f(1), f(2)]
}

/// The taps of one window that are inside the input along one axis: `count` of them, from the one at `start` on.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: usize,
    pub count: usize,
}

impl Span {
    /// Window `o` of `m` that cover an axis of `n` elements evenly: `⌊o·n / m⌋..⌈(o + 1)·n / m⌉`.
    pub fn even(o: usize, n: usize, m: usize) -> Self {
        let (o, n, m) = (o as u128, n as u128, m as u128);
        let start = o * n / m;
        Span { start: start as usize, count: (((o + 1) * n).div_ceil(m) - start) as usize }
    }
}

/// A part of one row of the output, seen through one tap: `range` counts within the requested windows; the tap of
/// window `range.start + i` is at the input's element `from + i · stride`. Windows between two runs have the tap in the
/// padding.
pub struct Run {
    pub range: Range<usize>,
    pub from: usize,
}

impl Windows {
    /// The number of elements of one channel of the input.
    pub fn input_len(&self) -> usize {
        self.input.iter().product()
    }

    /// The number of taps. It saturates, since the window of a pooling may reach far beyond the input.
    pub fn kernel_len(&self) -> usize {
        saturating(self.kernel)
    }

    /// The number of windows.
    pub fn output_len(&self) -> usize {
        self.output.iter().product()
    }

    /// Whether each window is one element, in order: then the columns are the input.
    pub fn is_identity(&self) -> bool {
        self.kernel == [1; 3] && self.stride == [1; 3] && self.before == [0; 3] && self.input == self.output
    }

    /// The same windows in the same order, on fewer axes: if each window covers one element of the last axis, that axis
    /// and the one before it are merged. So a kernel of `(k, 1)` has long runs on an input of any width.
    pub fn merged(&self) -> Windows {
        let mut w = *self;
        for _ in 0..2 {
            let n = w.input[2];
            let elements = w.kernel[2] == 1 && w.before[2] == 0 && w.output[2] == n && (n == 1 || w.stride[2] == 1);
            let numbers = [w.input[1], w.kernel[1].saturating_mul(w.dilation[1]), w.before[1], w.output[1]];
            let countable = numbers.iter().all(|&v| v.checked_mul(n).is_some_and(|v| v < usize::MAX / 4));
            if !elements || !countable || (n != 1 && w.stride[1] != 1) {
                break;
            }
            let join = |[a, b, _]: [usize; 3], one: usize, n: usize| [one, a, b * n];
            w = Windows {
                input: join(w.input, 1, n),
                kernel: join(w.kernel, 1, 1),
                stride: join(w.stride, 1, 1),
                dilation: join(w.dilation, 1, n),
                before: join(w.before, 0, n),
                output: join(w.output, 1, n),
            };
        }
        w
    }

    /// For each window along one axis, the taps that are inside the input.
    pub fn spans(&self, axis: usize) -> Vec<Span> {
        let (stride, dilation, before) = (self.stride[axis], self.dilation[axis], self.before[axis]);
        let mut spans = vector(self.output[axis]);
        for o in 0..self.output[axis] {
            let skipped = before.saturating_sub(o * stride).div_ceil(dilation);
            let start = o * stride + skipped * dilation - before;
            let inside = self.input[axis].saturating_sub(start).div_ceil(dilation);
            spans.push(Span { start, count: inside.min(self.kernel[axis].saturating_sub(skipped)) });
        }
        spans
    }

    /// For each window along one axis, the number of taps inside the input or the padding, which must be the same at both
    /// ends. For a dilation of 1.
    pub fn padded_counts(&self, axis: usize) -> Vec<usize> {
        let end = self.input[axis] + 2 * self.before[axis];
        let mut counts = vector(self.output[axis]);
        for o in 0..self.output[axis] {
            counts.push(self.kernel[axis].min(end - o * self.stride[axis]));
        }
        counts
    }

    /// The windows along one axis whose tap `tap` is inside the input.
    fn meeting(&self, axis: usize, tap: usize) -> Range<usize> {
        let (before, offset, stride) = (self.before[axis], tap * self.dilation[axis], self.stride[axis]);
        let first = before.saturating_sub(offset).div_ceil(stride);
        let end = (self.input[axis] + before).saturating_sub(offset).div_ceil(stride);
        first..end.min(self.output[axis])
    }

    /// For each tap along the last axis that is inside the input in some window: these windows, and the element at the
    /// tap of the first one.
    pub fn across(&self) -> Vec<(Range<usize>, usize)> {
        let (stride, dilation, before) = (self.stride[2], self.dilation[2], self.before[2]);
        // A kernel may be much longer than the input, so this does not loop over all taps.
        let spans = self.spans(2);
        let first = |o: usize| (spans[o].start + before - o * stride) / dilation;
        // Each tap once, although many windows have it.
        let (mut all, mut next) = (Vec::new(), 0);
        for o in order(spans.len(), &|o| first(o) as u64) {
            let end = first(o) + spans[o].count;
            for tap in first(o).max(next)..end {
                let range = self.meeting(2, tap);
                let from = range.start * stride + tap * dilation - before;
                push(&mut all, (range, from));
            }
            next = next.max(end);
        }
        all
    }

    /// Calls `f` for every run of the windows `at` (numbered over all axes, row-major) through one tap.
    pub fn runs(&self, tap: usize, at: Range<usize>, mut f: impl FnMut(Run)) {
        let [_, kh, kw] = self.kernel;
        let taps = [tap / (kh * kw), tap / kw % kh, tap % kw];
        let meeting = per_axis(|axis| self.meeting(axis, taps[axis]));
        let place =
            |axis: usize, o: usize| o * self.stride[axis] + taps[axis] * self.dilation[axis] - self.before[axis];
        let [_, oh, ow] = self.output;
        for row in at.start / ow..at.end.div_ceil(ow) {
            let (d, h) = (row / oh, row % oh);
            if !meeting[0].contains(&d) || !meeting[1].contains(&h) {
                continue;
            }
            let first = meeting[2].start.max(at.start.saturating_sub(row * ow));
            let end = meeting[2].end.min(at.end - row * ow);
            if first < end {
                let line = (place(0, d) * self.input[1] + place(1, h)) * self.input[2];
                let range = row * ow + first - at.start..row * ow + end - at.start;
                f(Run { range, from: line + place(2, first) });
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// All windows with a few sizes along each axis, including ones that [`Windows::merged`] merges.
    pub fn many() -> Vec<Windows> {
        const LINES: [[usize; 6]; 9] = [
            // input, kernel, stride, dilation, before, output
            [1, 1, 1, 1, 0, 1],
            [1, 1, 3, 5, 0, 1],
            [3, 1, 1, 1, 0, 3],
            [2, 1, 1, usize::MAX, 0, 2],
            [7, 3, 1, 2, 1, 5],
            [7, 3, 2, 1, 1, 4],
            [5, 1, 2, 1, 0, 3],
            [2, 3, 1, 1, 1, 2],
            // All taps are an even number of elements apart.
            [6, 2, 2, 2, 0, 2],
        ];
        let all = LINES.iter().flat_map(|d| LINES.iter().flat_map(move |h| LINES.iter().map(move |w| [d, h, w])));
        let windows = all.map(|axes| {
            let of = |field: usize| axes.map(|axis: &[usize; 6]| axis[field]);
            let [input, kernel, stride, dilation, before, output] = [0, 1, 2, 3, 4, 5].map(of);
            Windows { input, kernel, stride, dilation, before, output }
        });
        windows.collect()
    }

    /// A list of the taps of each window would have 10^10 entries.
    #[test]
    fn each_tap_is_listed_once() {
        let (input, kernel, output) = ([1, 1, 200_000], [1, 1, 100_000], [1, 1, 100_001]);
        let w = Windows { input, kernel, stride: [1; 3], dilation: [1; 3], before: [0; 3], output };
        let across = w.across();
        assert_eq!(across.len(), 100_000);
        assert!(across.iter().enumerate().all(|(tap, (range, from))| *range == (0..100_001) && *from == tap));
    }

    /// The element at one tap of one window; `None` in the padding.
    pub fn under(w: &Windows, window: usize, tap: usize) -> Option<usize> {
        let split = |i: usize, sizes: [usize; 3]| [i / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2]];
        let (window, tap) = (split(window, w.output), split(tap, w.kernel));
        (0..3).try_fold(0, |place, axis| {
            let offset = tap[axis].wrapping_mul(w.dilation[axis]);
            let at = (window[axis] * w.stride[axis] + offset).checked_sub(w.before[axis])?;
            (at < w.input[axis]).then_some(place * w.input[axis] + at)
        })
    }
}
