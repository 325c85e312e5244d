//! Normalizations and their derivatives: statistics over rows (layer, group, instance and RMS norm), or over all but the
//! channels (batch norm).

use ndnn_derive::concrete;

use super::{
    memory::{Aligned, copied, filled, mapped, recycle},
    passes::{
        self, about, add_about, add_along, along, combine, mean_and_squares, norm_slope_columns, norm_slope_run,
        normalize_columns, normalize_run, passes, sum, write, written,
    },
    prefetch,
    reduce::{add_row, fold_rows},
    row_kernel::{Piece, Sizes, Written, run, run_pieces, write_parts},
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

impl<T: Real> Moments<T> {
    /// From the mean, its remaining error and the variance.
    fn of([mean, rest, var]: [T; 3], eps: T) -> Self {
        Moments { mean, rest, var, rstd: (var + eps).sqrt().recip() }
    }
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
fn moments<T: Real>(x: &[T], centred: bool) -> [T; 3] {
    let count = T::of(x.len() as f64);
    let [mean, squares] = passes::moments(x, centred);
    let variance = squares / count;
    if !centred || is_settled(mean, variance) { [mean, T::ZERO, variance] } else { careful_moments(x, mean) }
}

/// [`moments`] where the mean is large beside the deviation from it, or its sum overflows.
#[cold]
fn careful_moments<T: Real>(x: &[T], mut mean: T) -> [T; 3] {
    let count = T::of(x.len() as f64);
    if !mean.is_finite() {
        // The sum overflows, but the mean need not.
        mean = sum(&mapped(x, |x| x / count));
    }
    let about = |mean| about(x, mean).map(|sum| sum / count);
    let [mut rest, mut square] = about(mean);
    if is_rough(rest, square) {
        mean += rest;
        [rest, square] = about(mean);
    }
    [mean, rest, spread(square, rest)]
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
    fn first(self, i: usize, n: usize) -> usize {
        if self.channels * self.len == n { 0 } else { i * n / self.len % self.channels }
    }
}

passes! {
    /// `(x − mean) · rstd · w + b` for each row of a piece, of `n` elements.
    wide fn norm_rows<T: Real, I>(
        piece: Piece<'o, T, Moments<T>>, x: &'a [T], n: usize, centred: bool, eps: &'a [T], w: &'a [T], b: &'a [T]
    ) -> Written<'o, T, Moments<T>> {
        let mut next = Map { channels: w.len(), len: 1 }.first(piece.first, n);
        piece.each(|i, out, _| {
            prefetch::for_reading(x, (i + 1) * n, n);
            let n = out.len();
            let (x, eps, at) = (&x[i * n..][..n], eps[i.min(eps.len() - 1)], next);
            next = if at + n < w.len() { at + n } else { 0 };
            let (w, b) = (&w[at..][..n], &b[at..][..n]);
            let [mean, squares] = mean_and_squares::<T, I>(x, centred);
            let mut found = [mean, T::ZERO, squares / T::of(n as f64)];
            if centred && !is_settled(mean, found[2]) {
                found = careful_moments(x, mean);
            }
            let m = Moments::of(found, eps);
            (write(out, |i| I::mul_add(((x[i] - m.mean) - m.rest) * m.rstd, w[i], b[i])), m)
        })
    }

    /// `rstd (g w − all − d · rstd · along)` for each row of a piece, of `n` elements, where `d = (x − mean) − rest`, `all` is the
    /// mean of `g w`, or 0 if not `centred`, and `along` that of `g w d rstd`. If there are sums, adds the gradients of the
    /// weights, `g d rstd`, and of the biases, `g`.
    narrow fn norm_rows_slope<T: Real, I>(
        piece: Piece<'o, T, ()>, g: &'a [T], x: &'a [T], n: usize, w: &'a [T], moments: &'a [Moments<T>], centred: bool
    ) -> Written<'o, T, ()> {
        let mut next = Map { channels: w.len(), len: 1 }.first(piece.first, n);
        piece.each(|i, out, sums| {
            prefetch::for_reading(g, (i + 1) * n, n);
            prefetch::for_reading(x, (i + 1) * n, n);
            let n = out.len();
            let (g, x, count, at) = (&g[i * n..][..n], &x[i * n..][..n], T::of(n as f64), next);
            next = if at + n < w.len() { at + n } else { 0 };
            let (w, Moments { mean, rest, rstd, .. }) = (&w[at..][..n], moments[i]);
            let apart = |x: T| (x - mean) - rest;
            let [all, along] =
                combine::<T, I, _, _>([g, w, x], |[g, w, x]| [g * w, g * w * apart(x)], T::ZERO, T::plus);
            let (all, along) = (if centred { all / count } else { T::ZERO }, along * rstd / count);
            let slope = |i: usize| rstd * (g[i] * w[i] - all - apart(x[i]) * rstd * along);
            if sums.is_empty() {
                return (write(out, slope), ());
            }
            let (dw, db) = sums.split_at_mut(sums.len() / 2);
            let (dw, db) = (&mut dw[at..][..n], &mut db[at..][..n]);
            // One loop, which reads everything once.
            for i in 0..n {
                dw[i] += g[i] * (apart(x[i]) * rstd);
                db[i] += g[i];
                out[i].write(slope(i));
            }
            // SAFETY: all `n` elements were just written.
            #[allow(unsafe_code)]
            let out = unsafe { written(out) };
            (out, ())
        })
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
    if map.len == 1 {
        let (out, moments, _) = run_pieces(sizes, &|piece| norm_rows(piece, x, n, centred, eps, &weight, &bias));
        return (out, moments);
    }
    let (out, moments, _) = run(sizes, &|i, out, _| {
        prefetch::for_reading(x, (i + 1) * n, n);
        let (x, len, first) = (&x[i * n..][..n], map.len, map.first(i, n));
        let eps = eps[i % eps.len()];
        let moments = Moments::of(moments(x, centred), eps);
        let Moments { mean, rest, rstd, .. } = moments;
        let out = write_parts(out, len, &mut |k, out| {
            let numbers = [mean, rest, rstd * weight[first + k], bias[first + k]];
            normalize_run(&x[k * len..][..len], numbers, out)
        });
        (out, moments)
    });
    (out, moments)
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
    let sums = if parameters { 2 * map.channels } else { 0 };
    let sizes = Sizes { rows: moments.len(), read: n, written: n, sums };
    if map.len == 1 {
        let (out, _, sums) = run_pieces(sizes, &|piece| norm_rows_slope(piece, g, x, n, &weight, moments, centred));
        return (out, sums);
    }
    let (out, _, sums) = run(sizes, &|i, out, sums| {
        prefetch::for_reading(g, (i + 1) * n, n);
        prefetch::for_reading(x, (i + 1) * n, n);
        let (g, x, len, first) = (&g[i * n..][..n], &x[i * n..][..n], map.len, map.first(i, n));
        let (w, count) = (&weight[first..][..n / len], T::of(n as f64));
        let (dw, db) = sums.split_at_mut(sums.len() / 2);
        let Moments { mean, rest, rstd, .. } = moments[i];
        let [mut all, mut over] = [T::ZERO; 2];
        for (k, (g, x)) in g.chunks_exact(len).zip(x.chunks_exact(len)).enumerate() {
            let [one, apart] = along(g, x, mean, rest);
            (all, over) = (all + one * w[k], over + apart * w[k]);
            if parameters {
                dw[first + k] += apart * rstd;
                db[first + k] += one;
            }
        }
        let slope = rstd * (rstd * (over * rstd / count));
        let shift = if centred { rstd * (all / count) } else { T::ZERO };
        let out = write_parts(out, len, &mut |k, out| {
            let part = k * len..(k + 1) * len;
            norm_slope_run(&g[part.clone()], &x[part], [rstd * w[k], mean, rest, slope, shift], out)
        });
        (out, ())
    });
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

/// Two sums for each channel, over all other axes: those of the elements of `x`, and 0; with a mean and its remaining error
/// those of the distances of `x` from the mean, and of their squares; and with `g` those of the gradients, and of these times
/// the distances from both.
fn channel_sums<T: Real>(g: Option<&[T]>, x: &[T], map: Map, from: Option<[&[T]; 2]>) -> [Vec<T>; 2] {
    let (c, n) = (map.channels, if map.len == 1 { map.channels } else { map.len });
    let (_, notes, sums) = run(map.sizes(x.len(), false, 2), &|i, out, sums| {
        let (x, g, at) = (&x[i * n..][..n], g.map(|g| &g[i * n..][..n]), i % c);
        let mut note = [T::ZERO; 2];
        let (all, over) = sums.split_at_mut(sums.len() / 2);
        match (map.len, from, g) {
            (1, None, _) => add_row(all, x, T::plus),
            (1, Some([mean, _]), None) => add_about(x, mean, all, over),
            (1, Some([mean, rest]), Some(g)) => add_along(g, x, mean, rest, all, over),
            (_, None, _) => note[0] = sum(x),
            (_, Some([mean, _]), None) => note = about(x, mean[at]),
            (_, Some([mean, rest]), Some(g)) => note = along(g, x, mean[at], rest[at]),
        }
        (write(out, |_| T::ZERO), note)
    });
    let mut out = [filled(c, T::ZERO), filled(c, T::ZERO)];
    if map.len == 1 {
        out[0].copy_from_slice(&sums[..c]);
        out[1].copy_from_slice(&sums[c..]);
        return out;
    }
    let mut kind = filled(notes.len(), T::ZERO);
    for (k, out) in out.iter_mut().enumerate() {
        for (one, note) in kind.iter_mut().zip(&notes) {
            *one = note[k];
        }
        fold_rows(&kind, out, T::ZERO, T::plus);
    }
    recycle(kind);
    out
}

/// For each channel the mean, its remaining error, and the biased variance.
#[concrete]
pub fn batch_moments<T: Real>(x: &[T], map: Map) -> [Vec<T>; 3] {
    let count = T::of((x.len() / map.channels.max(1)) as f64);
    let zeros = filled(map.channels, T::ZERO);
    let over_count = |sum: Vec<T>| mapped(&sum, |sum| sum / count);
    let about = |mean: &[T]| channel_sums(None, x, map, Some([mean, &zeros])).map(over_count);
    let [all, _] = channel_sums(None, x, map, None);
    let mut mean = over_count(all);
    if !mean.iter().all(|mean| mean.is_finite()) {
        // The sum overflows, but the mean need not.
        [mean, _] = channel_sums(None, &mapped(x, |x| x / count), map, None);
    }
    let [mut rest, mut square] = about(&mean);
    if mean.iter().zip(&square).all(|(&mean, &var)| is_settled(mean, var)) {
        return [mean, zeros, square];
    }
    if rest.iter().zip(&square).any(|(&rest, &square)| is_rough(rest, square)) {
        mean = per_channel(&mean, &rest, |mean, rest| mean + rest);
        [rest, square] = about(&mean);
    }
    let var = per_channel(&square, &rest, spread);
    [mean, rest, var]
}

/// One number per channel, from two others.
#[inline]
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
    normed_channels(x, map, [mean, rest, &scale, &bias])
}

/// The numbers at place `i`. (`map` of an array is compiled in ten pieces for each of its uses.)
fn at_place<A: Copy, const K: usize>(inputs: &[&[A]; K], i: usize) -> [A; K] {
    let mut out = [inputs[0][i]; K];
    for k in 1..K {
        out[k] = inputs[k][i];
    }
    out
}

/// `((x − mean) − rest) · scale + bias`, with these four numbers per channel.
fn normed_channels<T: Real>(x: &[T], map: Map, numbers: [&[T]; 4]) -> Aligned<T> {
    run(map.sizes(x.len(), true, 0), &|i, out, _| {
        let x = &x[i * out.len()..][..out.len()];
        let out = match map.len {
            1 => normalize_columns(x, numbers, out),
            _ => normalize_run(x, at_place(&numbers, i % map.channels), out),
        };
        (out, ())
    })
    .0
}

/// For each channel the sum of the gradients, and that of the gradients times the deviations from the mean.
pub fn batch_norm_sums<T: Real>(g: &[T], x: &[T], map: Map, [mean, rest]: [&[T]; 2]) -> [Vec<T>; 2] {
    channel_sums(Some(g), x, map, Some([mean, rest]))
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
    let Some(([all, along], count)) = own else {
        let zeros = filled(map.channels, T::ZERO);
        return normed_channels(g, map, [&zeros, &zeros, &scale, &zeros]);
    };
    let count = T::of(count);
    let slope = per_channel(&per_channel(along, rstd, |a, r| a * r * r), &scale, |a, s| a * s / count);
    let shift = per_channel(all, &scale, |b, s| b * s / count);
    let numbers = [&scale, mean, rest, &slope, &shift];
    run(map.sizes(x.len(), true, 0), &|i, out, _| {
        let part = i * out.len()..(i + 1) * out.len();
        let (g, x) = (&g[part.clone()], &x[part]);
        let out = match map.len {
            1 => norm_slope_columns(g, x, numbers, out),
            _ => norm_slope_run(g, x, at_place(&numbers, i % map.channels), out),
        };
        (out, ())
    })
    .0
}
