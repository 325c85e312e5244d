//! Normalizations and their derivatives: statistics over rows (layer, group, instance and RMS norm), or over all but the
//! channels (batch norm).

use ndnn_derive::concrete;

use super::{
    isa::{Isa, Kernel, dispatch, dispatch_narrow},
    layout::empty_slices,
    memory::{Aligned, copied, filled, mapped, recycle},
    prefetch,
    reduce::{self, Each, combine, fold_contiguous, fold_rows},
    row_kernel::{Blank, RowKernel, Sizes, run, write, write_rows},
};
use crate::number::Real;

/// Mean, variance and `1 / √(variance + eps)`. The mean is `mean + rest`, so that `(x − mean) − rest` is exact to the last digit
/// even if the deviation is small relative to the mean; for equal numbers it is exactly 0.
#[derive(Clone, Copy, Debug)]
pub struct Moments<T> {
    pub mean: T,
    pub rest: T,
    pub var: T,
    pub rstd: T,
}

/// Whether a mean must be corrected by its remaining error `rest`: it is no nearer to the true mean than the elements
/// are, whose mean squared distance from it is `square`.
#[inline(always)]
pub fn is_rough<T: Real>(rest: T, square: T) -> bool {
    // Written so that NaN is rough.
    let near = square > rest * rest + rest * rest;
    rest != T::ZERO && !near
}

/// The variance, from the mean squared distance from a mean whose remaining error is `rest`.
#[inline(always)]
pub fn spread<T: Real>(square: T, rest: T) -> T {
    let variance = square - rest * rest;
    // Not `max`, which would turn NaN into a number.
    if variance < T::ZERO { T::ZERO } else { variance }
}

/// Whether a mean is certainly accurate enough for a variance: its error is a few roundings of it.
#[inline(always)]
fn is_settled<T: Real>(mean: T, variance: T) -> bool {
    let roundings = T::of(65536.) * T::epsilon() * mean;
    variance > roundings * roundings
}

/// The mean, its remaining error, and the variance; if not `centred`, of a mean that is taken to be 0.
#[inline(always)]
fn moments<T: Real>(x: &[T], centred: bool) -> [T; 3] {
    let count = T::of(x.len() as f64);
    if !centred {
        let squares = combine(Each([x], |[x]: [T; 1]| x * x), x.len(), T::ZERO, |a, b| a + b);
        return [T::ZERO, T::ZERO, squares / count];
    }
    let mean = combine(Each([x], |[x]: [T; 1]| x), x.len(), T::ZERO, |a, b| a + b) / count;
    let square = |[x]: [T; 1]| (x - mean) * (x - mean);
    let variance = combine(Each([x], square), x.len(), T::ZERO, |a, b| a + b) / count;
    if is_settled(mean, variance) { [mean, T::ZERO, variance] } else { careful_moments(x, mean) }
}

/// [`moments`], as a kernel of its own.
struct MomentsOf<'a, T>(&'a [T], bool);

impl<T: Real> Kernel for MomentsOf<'_, T> {
    type Output = [T; 3];
    #[inline(always)]
    fn run<I: Isa>(self) -> [T; 3] {
        moments(self.0, self.1)
    }
}

/// [`moments`] where the mean is large beside the deviation from it, or its sum overflows.
#[cold]
fn careful_moments<T: Real>(x: &[T], mut mean: T) -> [T; 3] {
    let count = T::of(x.len() as f64);
    if !mean.is_finite() {
        // The sum overflows, but the mean need not.
        mean = fold_contiguous(&mapped(x, |x| x / count), T::ZERO, T::plus);
    }
    let about = |mean| dispatch_narrow(About { x, mean }).map(|sum| sum / count);
    let [mut rest, mut square] = about(mean);
    if is_rough(rest, square) {
        mean += rest;
        [rest, square] = about(mean);
    }
    [mean, rest, spread(square, rest)]
}

/// The sums of the distances from a mean and of their squares.
struct About<'a, T> {
    x: &'a [T],
    mean: T,
}

impl<T: Real> Kernel for About<'_, T> {
    type Output = [T; 2];
    #[inline(always)]
    fn run<I: Isa>(self) -> [T; 2] {
        let mean = self.mean;
        reduce::sums([self.x], [], |[x]| ([x - mean, (x - mean) * (x - mean)], []))
    }
}

/// A parameter, or a constant where there is none.
fn or_all<T: Real>(parameter: Option<&[T]>, value: T, len: usize) -> std::borrow::Cow<'_, [T]> {
    parameter.map_or_else(|| filled(len, value).into(), Into::into)
}

/// Which weight and bias an element of the input has: element `i` has those of channel `i / len % channels`.
#[derive(Clone, Copy, Debug)]
pub struct Map {
    pub channels: usize,
    pub len: usize,
}

// ---------------------------------------------------------------------------------------------------- statistics of rows

impl Map {
    /// The channel of the first element of row `i`, for rows of `n` elements.
    #[inline(always)]
    fn first(self, i: usize, n: usize) -> usize {
        if self.channels * self.len == n { 0 } else { i * n / self.len % self.channels }
    }
}

/// With `RUNS`, several elements in succession have the same weight and bias.
struct RowNorm<'a, T, const RUNS: bool> {
    x: &'a [T],
    map: Map,
    centred: bool,
    weight: &'a [T],
    bias: &'a [T],
    /// One for all rows, or one per row.
    eps: &'a [T],
}

impl<T: Real, const RUNS: bool> RowKernel<T> for RowNorm<'_, T, RUNS> {
    type Note = Moments<T>;
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], Moments<T>) {
        let (n, len) = (out.len(), self.map.len);
        prefetch::for_reading(self.x, (i + 1) * n, n);
        let x = &self.x[i * n..][..n];
        let first = self.map.first(i, n);
        // A call pays for long rows, as these are.
        let [mean, rest, var] = if RUNS { dispatch(MomentsOf(x, self.centred)) } else { moments(x, self.centred) };
        let rstd = (var + self.eps[i % self.eps.len()]).sqrt().recip();
        let out = if !RUNS {
            let (weight, bias) = (&self.weight[first..][..n], &self.bias[first..][..n]);
            write(out, |i| I::mul_add(((x[i] - mean) - rest) * rstd, weight[i], bias[i]))
        } else {
            let run = |k: usize| {
                let (x, weight, bias) = (&x[k * len..][..len], self.weight[first + k], self.bias[first + k]);
                move |i: usize| I::mul_add(((x[i] - mean) - rest) * rstd, weight, bias)
            };
            write_rows(out, len, run, |_| ())
        };
        (out, Moments { mean, rest, var, rstd })
    }
}

/// `(x − mean) · rstd · weight + bias` for each row of `n` elements, and the moments of the rows; `eps` is one number,
/// or one per row. If the rows are not `centred`, their means are taken to be 0.
pub fn row_norm<T: Real>(
    x: &[T],
    n: usize,
    map: Map,
    centred: bool,
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    eps: &[T],
) -> (Aligned<T>, Vec<Moments<T>>) {
    // Without rows there may be any number of channels.
    let channels = map.channels.min(x.len());
    let (weight, bias) = (or_all(weight, T::ONE, channels), or_all(bias, T::ZERO, channels));
    let sizes = Sizes { rows: x.len() / n.max(1), read: n, written: n, sums: 0 };
    let (out, moments, _) = if map.len == 1 {
        run(&RowNorm::<T, false> { x, map, centred, weight: &weight, bias: &bias, eps }, sizes)
    } else {
        run(&RowNorm::<T, true> { x, map, centred, weight: &weight, bias: &bias, eps }, sizes)
    };
    (out, moments)
}

struct RowNormBackward<'a, T> {
    g: &'a [T],
    x: &'a [T],
    map: Map,
    centred: bool,
    moments: &'a [Moments<T>],
    weight: &'a [T],
}

impl<T: Real> RowKernel<T> for RowNormBackward<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], ()) {
        let (n, len, count) = (out.len(), self.map.len, T::of(out.len() as f64));
        prefetch::for_reading(self.g, (i + 1) * n, n);
        prefetch::for_reading(self.x, (i + 1) * n, n);
        let (g, x, first) = (&self.g[i * n..][..n], &self.x[i * n..][..n], self.map.first(i, n));
        let w = &self.weight[first..][..n / len];
        let (dw, db) = sums.split_at_mut(sums.len() / 2);
        let Moments { mean, rest, rstd, .. } = self.moments[i];
        let apart = |x: T| (x - mean) - rest;
        let mean_of = |sum: T| if self.centred { sum / count } else { T::ZERO };
        if len > 1 {
            let [mut all, mut along] = [T::ZERO; 2];
            for (k, (g, x)) in g.chunks_exact(len).zip(x.chunks_exact(len)).enumerate() {
                let [one, apart] = reduce::sums([g, x], [], |[g, x]| ([g, g * apart(x)], []));
                (all, along) = (all + one * w[k], along + apart * w[k]);
                if !dw.is_empty() {
                    dw[first + k] += apart * rstd;
                    db[first + k] += one;
                }
            }
            let (all, along) = (mean_of(all), along * rstd / count);
            let run = |k: usize| {
                let (g, x, w) = (&g[k * len..][..len], &x[k * len..][..len], w[k]);
                move |i: usize| rstd * (g[i] * w - all - apart(x[i]) * rstd * along)
            };
            return (write_rows(out, len, run, |_| ()), ());
        }
        let w = &w[..n];
        let inputs = [g, x, w];
        let over = |[g, x, w]: [T; 3]| [g * w, g * w * apart(x)];
        let [all, along] = if dw.is_empty() {
            reduce::sums(inputs, [], |x| (over(x), []))
        } else {
            let parameters = [&mut dw[first..][..n], &mut db[first..][..n]];
            reduce::sums(inputs, parameters, |[g, x, w]| (over([g, x, w]), [g * (apart(x) * rstd), g]))
        };
        let (all, along) = (mean_of(all), along * rstd / count);
        (write(out, |i| rstd * (g[i] * w[i] - all - apart(x[i]) * rstd * along)), ())
    }
}

/// The gradient of [`row_norm`]'s input and, if `parameters`, those of weight and bias, one after the other.
pub fn row_norm_backward<T: Real>(
    [g, x]: [&[T]; 2],
    map: Map,
    centred: bool,
    moments: &[Moments<T>],
    weight: Option<&[T]>,
    parameters: bool,
) -> (Aligned<T>, Vec<T>) {
    let weight = or_all(weight, T::ONE, map.channels.min(x.len()));
    let n = x.len() / moments.len().max(1);
    let kernel = RowNormBackward { g, x, map, centred, moments, weight: &weight };
    let sums = if parameters { 2 * map.channels } else { 0 };
    let (out, _, sums) = run(&kernel, Sizes { rows: moments.len(), read: n, written: n, sums });
    (out, sums)
}

// ------------------------------------------------------------------------------------------ statistics of the channels

impl Map {
    fn sizes(self, elements: usize, written: bool, sums: usize) -> Sizes {
        // If each channel is one column, a row is a sample; otherwise it is one channel of a sample.
        let width = if self.len == 1 { self.channels } else { self.len };
        let rows = elements / width.max(1);
        let sums = if self.len == 1 { sums * self.channels } else { 0 };
        Sizes { rows, read: width, written: if written { width } else { 0 }, sums }
    }
}

/// `N` sums over all axes but the channels, of functions of `x`, `y`, the channel's mean and its remaining error.
struct ChannelSums<'a, T, F> {
    map: Map,
    x: &'a [T],
    y: &'a [T],
    mean: [&'a [T]; 2],
    f: F,
}

impl<T: Real, F: Fn([T; 4]) -> [T; N] + Sync + Copy, const N: usize> RowKernel<T> for ChannelSums<'_, T, F> {
    type Note = [T; N];
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], [T; N]) {
        let (c, f) = (self.map.channels, self.f);
        let note = if self.map.len == 1 {
            let (mut left, mut sums) = (sums, empty_slices::<T, N>());
            for one in &mut sums {
                *one = left.split_off_mut(..c).expect("a row for each sum");
            }
            let [mean, rest] = [&self.mean[0][..c], &self.mean[1][..c]];
            let inputs = [&self.x[i * c..][..c], &self.y[i * c..][..c], mean, rest];
            reduce::sums(inputs, sums, |x| ([], f(x)));
            [T::ZERO; N]
        } else {
            let (n, [mean, rest]) = (self.map.len, reduce::at_place(&self.mean, i % c));
            reduce::sums([&self.x[i * n..][..n], &self.y[i * n..][..n]], [], |[x, y]| (f([x, y, mean, rest]), []))
        };
        (write(out, |_| T::ZERO), note)
    }
}

/// The sums for each channel.
fn channel_sums<T: Real, const N: usize>(
    [x, y]: [&[T]; 2],
    map: Map,
    mean: [&[T]; 2],
    f: impl Fn([T; 4]) -> [T; N] + Sync + Copy,
) -> [Vec<T>; N] {
    let (_, notes, sums) = run(&ChannelSums { map, x, y, mean, f }, map.sizes(x.len(), false, N));
    if map.len == 1 {
        return std::array::from_fn(|k| copied(&sums[k * map.channels..][..map.channels]));
    }
    let mut kind = filled(notes.len(), T::ZERO);
    let out = std::array::from_fn(|k| {
        let mut out = filled(map.channels, T::ZERO);
        kind.iter_mut().zip(&notes).for_each(|(one, note): (&mut T, &[T; N])| *one = note[k]);
        fold_rows(&kind, &mut out, T::ZERO, T::plus);
        out
    });
    recycle(kind);
    out
}

/// For each channel the mean, its remaining error, and the biased variance.
#[concrete]
pub fn batch_moments<T: Real>(x: &[T], map: Map) -> [Vec<T>; 3] {
    let count = T::of((x.len() / map.channels.max(1)) as f64);
    let zeros = filled(map.channels, T::ZERO);
    let over = |sum: Vec<T>| mapped(&sum, |sum| sum / count);
    let about = |mean: &[T]| {
        channel_sums([x, x], map, [mean, &zeros], |[x, _, mean, _]| [x - mean, (x - mean) * (x - mean)]).map(over)
    };
    let sums = |scale: T| channel_sums([x, x], map, [&zeros, &zeros], |[x, ..]| [x * scale]);
    let [mean] = sums(T::ONE);
    let mut mean = over(mean);
    if !mean.iter().all(|mean| mean.is_finite()) {
        // The sum overflows, but the mean need not.
        [mean] = sums(count.recip());
    }
    let [var] = channel_sums([x, x], map, [&mean, &zeros], |[x, _, mean, _]| [(x - mean) * (x - mean)]).map(over);
    if mean.iter().zip(&var).all(|(&mean, &var)| is_settled(mean, var)) {
        return [mean, zeros, var];
    }
    let [mut rest, mut square] = about(&mean);
    if rest.iter().zip(&square).any(|(&rest, &square)| is_rough(rest, square)) {
        mean = per_channel(&mean, &rest, |mean, rest| mean + rest);
        [rest, square] = about(&mean);
    }
    let var = per_channel(&square, &rest, spread);
    [mean, rest, var]
}

/// `f(x, y, [a, b, c, d])` with four numbers per channel.
struct Channels<'a, T, F> {
    map: Map,
    x: &'a [T],
    y: &'a [T],
    numbers: [&'a [T]; 4],
    f: F,
}

impl<T: Real, F: Fn(T, T, [T; 4]) -> T + Sync + Copy> RowKernel<T> for Channels<'_, T, F> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let (n, f) = (out.len(), self.f);
        let (x, y) = (&self.x[i * n..][..n], &self.y[i * n..][..n]);
        if self.map.len == 1 {
            let mut numbers = self.numbers;
            for k in &mut numbers {
                *k = &k[..n];
            }
            return (write(out, |j| f(x[j], y[j], reduce::at_place(&numbers, j))), ());
        }
        let numbers = reduce::at_place(&self.numbers, i % self.map.channels);
        (write(out, |j| f(x[j], y[j], numbers)), ())
    }
}

/// One number per channel, from two others.
pub fn per_channel<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T + Copy) -> Vec<T> {
    let mut out = copied(a);
    for (a, &b) in out.iter_mut().zip(b) {
        *a = f(*a, b);
    }
    out
}

/// `(x − mean) · rstd · weight + bias`, with statistics and parameters per channel.
pub fn batch_norm<T: Real>(
    x: &[T],
    map: Map,
    [mean, rest, rstd]: [&[T]; 3],
    weight: Option<&[T]>,
    bias: Option<&[T]>,
) -> Aligned<T> {
    let scale = per_channel(&or_all(weight, T::ONE, map.channels), rstd, |w, r| w * r);
    let bias = or_all(bias, T::ZERO, map.channels);
    let numbers = [mean, rest, &scale, &bias];
    let f = |x, _, [mean, rest, scale, bias]: [T; 4]| ((x - mean) - rest) * scale + bias;
    let kernel = Channels { map, x, y: x, numbers, f };
    run(&kernel, map.sizes(x.len(), true, 0)).0
}

/// For each channel the sum of the gradients, and that of the gradients times the deviations from the mean.
pub fn batch_norm_sums<T: Real>(g: &[T], x: &[T], map: Map, [mean, rest]: [&[T]; 2]) -> [Vec<T>; 2] {
    channel_sums([g, x], map, [mean, rest], |[g, x, mean, rest]| [g, g * ((x - mean) - rest)])
}

/// The gradients of [`batch_norm`]'s weight and bias, from the [sums](batch_norm_sums).
pub fn batch_norm_parameters<T: Real>([all, along]: [Vec<T>; 2], rstd: &[T]) -> [Vec<T>; 2] {
    [per_channel(&along, rstd, |a, r| a * r), all]
}

/// The gradient of [`batch_norm`]'s input. If the moments are those of a batch, the gradient also flows through them: then
/// `own` has the batch's [sums](batch_norm_sums) and its number of elements per channel.
pub fn batch_norm_backward<T: Real>(
    g: &[T],
    x: &[T],
    map: Map,
    [mean, rest, rstd]: [&[T]; 3],
    weight: Option<&[T]>,
    own: Option<(&[Vec<T>; 2], f64)>,
) -> Aligned<T> {
    let scale = per_channel(&or_all(weight, T::ONE, map.channels), rstd, |w, r| w * r);
    let sizes = map.sizes(x.len(), true, 0);
    let Some(([all, along], count)) = own else {
        let f = |g, _, [scale, ..]: [T; 4]| g * scale;
        return run(&Channels { map, x: g, y: g, numbers: [&scale; 4], f }, sizes).0;
    };
    let count = T::of(count);
    let slope = per_channel(&per_channel(along, rstd, |a, r| a * r * r), &scale, |a, s| a * s / count);
    let shift = per_channel(all, &scale, |b, s| b * s / count);
    // The remaining error of the mean is part of the shift, so four numbers per channel are enough.
    let shift = per_channel(&shift, &per_channel(rest, &slope, |r, s| r * s), |shift, left| shift - left);
    let numbers = [mean, &scale, &slope, &shift];
    let f = |g, x, [mean, scale, slope, shift]: [T; 4]| g * scale - (x - mean) * slope - shift;
    run(&Channels { map, x: g, y: x, numbers, f }, sizes).0
}
