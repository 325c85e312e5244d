//! Pooling: one number per window.

use num_traits::Float;

use super::{
    isa::{Isa, Kernel, dispatch_for},
    memory::{Aligned, collected, filled, vector},
    row_kernel::{self, Blank, RowKernel, Sizes, write},
    sizes::saturating,
    threads,
    thresholds::{POOLING_PARALLEL as PARALLEL, POOLING_TASK as TASK},
    windows::{Span, Windows},
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
                collected((0..m).map(|o| Span::even(o, n, m)))
            }
        }
    }

    /// For each window, the number of elements inside it; with `padded`, of a sliding window also those in the padding.
    pub fn counts<T: Element>(&self, padded: bool) -> Vec<T> {
        let along = [0, 1, 2].map(|axis| match self {
            Pattern::Sliding(windows) if padded => windows.padded_counts(axis),
            _ => collected(self.spans(axis).iter().map(|span| span.count)),
        });
        let rows = along[0].iter().flat_map(|&d| along[1].iter().map(move |&h| d as f64 * h as f64));
        collected(rows.flat_map(|row| along[2].iter().map(move |&w| T::of(row * w as f64))))
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
        let spans = [0, 1, 2].map(|axis| {
            let (count, sample, windows) = (self.kernel[axis], samples[axis], self.output[axis]);
            let last = self.input[axis] - count;
            // In the arithmetic of the element type, as in PyTorch.
            let step = T::of(last as f64) / T::of(windows.saturating_sub(1).max(1) as f64);
            let start = |o: usize| match o + 1 == windows {
                true => last,
                false => (((T::of(o as f64) + sample) * step).as_i64() - (sample * step).as_i64()) as usize,
            };
            collected((0..windows).map(|o| Span { start: start(o).min(last), count }))
        });
        Paths::one_by_one(self.input, [1; 3], spans)
    }
}

/// Pooling for one element type, compiled in this crate and not where it is called.
pub trait Pool: Sized {
    /// The largest element of each window of each plane, and its position in the plane. Of equal elements the first one
    /// is taken; NaN is larger than anything, and the last NaN is taken. Each window has an element.
    fn max_pool(x: &[Self], pattern: &Pattern) -> (Aligned<Self>, Aligned<i64>);

    /// Only the largest elements, in half the time.
    fn max_pool_values(x: &[Self], pattern: &Pattern) -> Aligned<Self>;

    /// As `max_pool`, of other windows.
    fn fractional_max_pool(x: &[Self], windows: &Fractional<'_, Self>) -> (Aligned<Self>, Aligned<i64>);

    /// The sum of each window of each plane, added in the order of its elements.
    fn sum_pool(x: &[Self], pattern: &Pattern) -> Aligned<Self>;

    /// The derivative of `sum_pool`: for each element the sum of the windows that contain it.
    fn spread(g: &[Self], pattern: &Pattern) -> Aligned<Self>;
}

macro_rules! pool {
    ($($t:ty),*) => {$(
        impl Pool for $t {
            fn max_pool(x: &[Self], pattern: &Pattern) -> (Aligned<Self>, Aligned<i64>) {
                max_pool::<Self, true>(x, &Each::Same(Paths::new(pattern)))
            }
            fn max_pool_values(x: &[Self], pattern: &Pattern) -> Aligned<Self> {
                max_pool::<Self, false>(x, &Each::Same(Paths::new(pattern))).0
            }
            fn fractional_max_pool(x: &[Self], windows: &Fractional<'_, Self>) -> (Aligned<Self>, Aligned<i64>) {
                max_pool::<Self, true>(x, &Each::Own(windows.paths(0), &|plane| windows.paths(plane)))
            }
            fn sum_pool(x: &[Self], pattern: &Pattern) -> Aligned<Self> {
                sums::<Self, false>(x, pattern)
            }
            fn spread(g: &[Self], pattern: &Pattern) -> Aligned<Self> {
                sums::<Self, true>(g, pattern)
            }
        }
    )*};
}
pool!(f32, f64);

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
                    return Paths::one_by_one(input, [1; 3], [0, 1, 2].map(|axis| pattern.spans(axis)));
                }
                // Windows of one size, next to one another.
                let kernel = [0, 1, 2].map(|axis| input[axis] / output[axis]);
                Windows { input, kernel, stride: kernel, dilation: [1; 3], before: [0; 3], output }
            }
        };
        let windows = sliding.merged();
        let spans = [0, 1, 2].map(|axis| windows.spans(axis));
        // The longer runs: across all windows, or along one.
        if windows.output[2] < windows.kernel[2].min(windows.input[2]) {
            return Paths::one_by_one(windows.input, windows.dilation, spans);
        }
        let runs = windows.across().into_iter();
        let runs = collected(runs.map(|(range, element)| Run { window: range.start, element, count: range.len() }));
        Paths::with(windows.input, windows.dilation, spans, runs, [1, windows.stride[2]])
    }

    /// Windows given by their elements along each axis, with a run for each window of a row.
    fn one_by_one(input: [usize; 3], dilation: [usize; 3], spans: [Vec<Span>; 3]) -> Self {
        let each = spans[2].iter().enumerate().filter(|(_, span)| span.count > 0);
        let runs = collected(each.map(|(window, span)| Run { window, element: span.start, count: span.count }));
        Paths::with(input, dilation, spans, runs, [0, dilation[2]])
    }

    fn with(input: [usize; 3], dilation: [usize; 3], spans: [Vec<Span>; 3], runs: Vec<Run>, steps: [usize; 2]) -> Self {
        let (output, starts) =
            ([0, 1, 2].map(|axis| spans[axis].len()), collected(spans[2].iter().map(|span| span.start as i64)));
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

/// The windows of each plane.
enum Each<'a> {
    Same(Paths),
    /// Those of the first plane, which have the sizes of all, and those of any plane.
    Own(Paths, &'a (dyn Fn(usize) -> Paths + Sync)),
}

#[allow(unsafe_code)]
fn max_pool<T: Float + Element, const PLACES: bool>(x: &[T], each: &Each<'_>) -> (Aligned<T>, Aligned<i64>) {
    let (Each::Same(first) | Each::Own(first, _)) = each;
    let (from, to) = (first.input.iter().product::<usize>(), first.output.iter().product::<usize>());
    let planes = x.len() / from.max(1);
    let places_to = if PLACES { to } else { 0 };
    let (mut values, mut places) = (Aligned::with_capacity(planes * to), Aligned::with_capacity(planes * places_to));
    let work = first.work();
    // Planes per task.
    let step = if saturating([planes, work]) < PARALLEL { planes.max(1) } else { TASK.div_ceil(work) };
    let mut rest = places.spare(planes * places_to);
    let parts = x.chunks(from * step).zip(values.spare(planes * to).chunks_mut(to * step)).enumerate();
    let tasks = parts.map(|(i, (x, values))| {
        let places = rest.split_off_mut(..if PLACES { values.len() } else { 0 }).expect("as many as values");
        Planes::<T, PLACES> { x, first: i * step, each, values, places }
    });
    threads::each(saturating([planes, work]), tasks, dispatch_for::<T, _>);
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

/// The sums of windows; with `BACK`, for each element the sum of the windows that contain it.
#[allow(unsafe_code)]
fn sums<T: Real, const BACK: bool>(x: &[T], pattern: &Pattern) -> Aligned<T> {
    let paths = &Paths::new(pattern);
    let mut sizes = [pattern.input_len(), pattern.output_len()];
    if BACK {
        sizes.reverse();
    }
    let [from, to] = sizes;
    let (planes, work) = (x.len() / from, paths.work());
    let step = if saturating([planes, work]) < PARALLEL { planes } else { TASK.div_ceil(work) };
    let mut out = Aligned::with_capacity(planes * to);
    let parts = x.chunks(from * step).zip(out.spare(planes * to).chunks_mut(to * step));
    let tasks = parts.map(|(x, out)| Sums::<T, BACK> { x, paths, out });
    threads::each(saturating([planes, work]), tasks, dispatch_for::<T, _>);
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
        for (x, out) in x.chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            for (r, lines) in paths.rows.iter().enumerate() {
                let (windows, mut lines) = (r * width_out..(r + 1) * width_out, *lines);
                // The lines under a row are summed first, or get the same.
                if BACK {
                    sum.fill(T::ZERO);
                    let g = &x[windows];
                    runs.iter().for_each(|run| add(&mut sum[run.element..], *b, &g[run.window..], *a, run.count));
                    while let Some(line) = lines.next() {
                        add_all(&mut out[line..][..width], &sum);
                    }
                    continue;
                }
                let Some(first) = lines.next() else { continue };
                let mut line = &x[first..][..width];
                if let Some(second) = lines.next() {
                    sum.iter_mut().zip(line).zip(&x[second..][..width]).for_each(|((sum, &a), &b)| *sum = a + b);
                    while let Some(line) = lines.next() {
                        add_all(&mut sum, &x[line..][..width]);
                    }
                    line = &sum;
                }
                let out = &mut out[windows];
                runs.iter().for_each(|run| add(&mut out[run.window..], *a, &line[run.element..], *b, run.count));
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
fn add<T: Real>(to: &mut [T], a: usize, from: &[T], b: usize, count: usize) {
    assert!((count - 1) * a < to.len() && (count - 1) * b < from.len());
    // One loop for each pair of steps: with steps that it knows, the compiler vectorizes the loop.
    match (a, b) {
        (1, 1) => add_by(to, 1, from, 1, count),
        (1, 2) => add_by(to, 1, from, 2, count),
        (2, 1) => add_by(to, 2, from, 1, count),
        (0, 1) => add_by(to, 0, from, 1, count),
        (1, 0) => add_by(to, 1, from, 0, count),
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
            let pattern = Pattern::Sliding(w);
            assert_eq!(
                (&f64::sum_pool(&x, &pattern)[..], &f64::spread(&g, &pattern)[..]),
                (&sums[..], &spread[..]),
                "{w:?}"
            );
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
                (&f64::sum_pool(&x, &pattern)[..], pattern.counts(false)),
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
                let (largest, places) = f64::max_pool(&x, &Pattern::Sliding(w));
                assert_eq!((largest.len(), places.len()), (3 * w.output_len(), 3 * w.output_len()));
                let bits = |values: &[f64]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                assert_eq!(bits(&f64::max_pool_values(&x, &Pattern::Sliding(w))), bits(&largest), "{w:?}");
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
