//! Layer and batch norm, and their derivatives.

use super::{
    isa::Isa,
    memory::{Aligned, filled, recycle},
    prefetch,
    reduce::{self, Each, combine, fold_rows},
    rows::{Blank, RowKernel, Sizes, run, write},
};
use crate::tensor::Real;

/// Mean and `1 / √(variance + eps)`.
#[derive(Clone, Copy, Debug)]
pub struct Moments<T> {
    pub mean: T,
    pub rstd: T,
}

#[inline(always)]
fn sum<T: Real, const K: usize>(x: [&[T]; K], f: impl Fn([T; K]) -> T + Copy) -> T {
    combine(Each(x, f), x[0].len(), T::ZERO, |a, b| a + b)
}

/// A parameter, or what stands for it where there is none.
fn or_all<T: Real>(parameter: Option<&[T]>, value: T, len: usize) -> std::borrow::Cow<'_, [T]> {
    parameter.map_or_else(|| vec![value; len].into(), Into::into)
}

// ---------------------------------------------------------------------------------------------------------- layer norm

struct LayerNorm<'a, T> {
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    eps: T,
}

impl<T: Real> RowKernel<T> for LayerNorm<'_, T> {
    type Note = Moments<T>;
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], Moments<T>) {
        let n = out.len();
        prefetch::for_reading(self.x, (i + 1) * n, n);
        let (x, count) = (&self.x[i * n..][..n], T::of(n as f64));
        let (weight, bias) = (&self.weight[..n], &self.bias[..n]);
        let mean = sum([x], |[x]| x) / count;
        let var = sum([x], |[x]| (x - mean) * (x - mean)) / count;
        let rstd = (var + self.eps).sqrt().recip();
        let out = write(out, |i| I::mul_add((x[i] - mean) * rstd, weight[i], bias[i]));
        (out, Moments { mean, rstd })
    }
}

/// `(x − mean) · rstd · weight + bias` for each row of `n` elements, and the rows' moments.
pub fn layer_norm<T: Real>(
    x: &[T],
    n: usize,
    weight: Option<&[T]>,
    bias: Option<&[T]>,
    eps: T,
) -> (Aligned<T>, Vec<Moments<T>>) {
    // No rows, no numbers: they may be of any length.
    let columns = n.min(x.len());
    let (weight, bias) = (or_all(weight, T::ONE, columns), or_all(bias, T::ZERO, columns));
    let kernel = LayerNorm { x, weight: &weight, bias: &bias, eps };
    let (out, moments, _) = run(&kernel, Sizes { rows: x.len() / n.max(1), read: n, written: n, sums: 0 });
    (out, moments)
}

struct LayerNormBackward<'a, T> {
    g: &'a [T],
    x: &'a [T],
    moments: &'a [Moments<T>],
    weight: &'a [T],
}

impl<T: Real> RowKernel<T> for LayerNormBackward<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], ()) {
        let n = out.len();
        prefetch::for_reading(self.g, (i + 1) * n, n);
        prefetch::for_reading(self.x, (i + 1) * n, n);
        let (g, x, w, count) = (&self.g[i * n..][..n], &self.x[i * n..][..n], &self.weight[..n], T::of(n as f64));
        let Moments { mean, rstd } = self.moments[i];
        let inputs = [g, x, w];
        let over = |[g, x, w]: [T; 3]| [g * w, g * w * (x - mean)];
        let [all, along] = if sums.is_empty() {
            reduce::sums(inputs, [], |x| (over(x), []))
        } else {
            let (weight, bias) = sums.split_at_mut(n);
            reduce::sums(inputs, [weight, bias], |[g, x, w]| (over([g, x, w]), [g * ((x - mean) * rstd), g]))
        };
        let (all, along) = (all / count, along * rstd / count);
        (write(out, |i| rstd * (g[i] * w[i] - all - (x[i] - mean) * rstd * along)), ())
    }
}

/// The gradients of [`layer_norm`]'s input, and, if `parameters`, of weight and bias, one behind the other.
pub fn layer_norm_backward<T: Real>(
    g: &[T],
    x: &[T],
    moments: &[Moments<T>],
    weight: Option<&[T]>,
    n: usize,
    parameters: bool,
) -> (Aligned<T>, Vec<T>) {
    let weight = or_all(weight, T::ONE, n.min(x.len()));
    let kernel = LayerNormBackward { g, x, moments, weight: &weight };
    let sums = if parameters { 2 * n } else { 0 };
    let (out, _, sums) = run(&kernel, Sizes { rows: moments.len(), read: n, written: n, sums });
    (out, sums)
}

// ---------------------------------------------------------------------------------------------------------- batch norm

/// The sizes of `(N, C, L)`.
#[derive(Clone, Copy, Debug)]
pub struct Batch {
    pub channels: usize,
    pub len: usize,
}

impl Batch {
    fn sizes(self, elements: usize, written: bool, sums: usize) -> Sizes {
        // Where each channel is one column, a row is a sample; otherwise it is one channel of a sample.
        let width = if self.len == 1 { self.channels } else { self.len };
        let rows = elements / width.max(1);
        let sums = if self.len == 1 { sums * self.channels } else { 0 };
        Sizes { rows, read: width, written: if written { width } else { 0 }, sums }
    }
}

/// `N` sums over all but the channels, of functions of `x`, `y` and the channel's mean.
struct Sums<'a, T, F> {
    batch: Batch,
    x: &'a [T],
    y: &'a [T],
    mean: &'a [T],
    f: F,
}

impl<T: Real, F: Fn([T; 3]) -> [T; N] + Sync + Copy, const N: usize> RowKernel<T> for Sums<'_, T, F> {
    type Note = [T; N];
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], [T; N]) {
        let (c, f) = (self.batch.channels, self.f);
        let note = if self.batch.len == 1 {
            let mut sums = sums.chunks_exact_mut(c);
            let sums: [&mut [T]; N] = std::array::from_fn(|_| sums.next().expect("a row for each sum"));
            let inputs = [&self.x[i * c..][..c], &self.y[i * c..][..c], &self.mean[..c]];
            reduce::sums(inputs, sums, |x| ([], f(x)));
            [T::ZERO; N]
        } else {
            let (n, mean) = (self.batch.len, self.mean[i % c]);
            reduce::sums([&self.x[i * n..][..n], &self.y[i * n..][..n]], [], |[x, y]| (f([x, y, mean]), []))
        };
        (write(out, |_| T::ZERO), note)
    }
}

/// The sums for each channel.
fn sums<T: Real, const N: usize>(
    [x, y]: [&[T]; 2],
    batch: Batch,
    mean: &[T],
    f: impl Fn([T; 3]) -> [T; N] + Sync + Copy,
) -> [Vec<T>; N] {
    let (_, notes, sums) = run(&Sums { batch, x, y, mean, f }, batch.sizes(x.len(), false, N));
    if batch.len == 1 {
        return std::array::from_fn(|k| sums[k * batch.channels..][..batch.channels].to_vec());
    }
    let mut kind = filled(notes.len(), T::ZERO);
    let out = std::array::from_fn(|k| {
        let mut out = vec![T::ZERO; batch.channels];
        kind.iter_mut().zip(&notes).for_each(|(one, note): (&mut T, &[T; N])| *one = note[k]);
        fold_rows(&kind, &mut out, T::ZERO, |a, b| a + b);
        out
    });
    recycle(kind);
    out
}

/// Each channel's mean and biased variance.
pub fn batch_moments<T: Real>(x: &[T], batch: Batch) -> (Vec<T>, Vec<T>) {
    let count = T::of((x.len() / batch.channels.max(1)) as f64);
    let zeros = vec![T::ZERO; batch.channels];
    let [mean] = sums([x, x], batch, &zeros, |[x, ..]| [x]);
    let mean: Vec<T> = mean.into_iter().map(|s| s / count).collect();
    let [var] = sums([x, x], batch, &mean, |[x, _, mean]| [(x - mean) * (x - mean)]);
    (mean, var.into_iter().map(|s| s / count).collect())
}

/// `f(x, y, [a, b, c, d])` of four numbers for each channel.
struct Channels<'a, T, F> {
    batch: Batch,
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
        if self.batch.len == 1 {
            let numbers = self.numbers.map(|k| &k[..n]);
            return (write(out, |j| f(x[j], y[j], numbers.map(|k| k[j]))), ());
        }
        let numbers = self.numbers.map(|k| k[i % self.batch.channels]);
        (write(out, |j| f(x[j], y[j], numbers)), ())
    }
}

/// One number for each channel, from two others.
fn each<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> Vec<T> {
    a.iter().zip(b).map(|(&a, &b)| f(a, b)).collect()
}

/// `(x − mean) · rstd · weight + bias`, where each channel has its own.
pub fn batch_norm<T: Real>(
    x: &[T],
    batch: Batch,
    [mean, rstd]: [&[T]; 2],
    weight: Option<&[T]>,
    bias: Option<&[T]>,
) -> Aligned<T> {
    let scale = each(&or_all(weight, T::ONE, batch.channels), rstd, |w, r| w * r);
    let bias = or_all(bias, T::ZERO, batch.channels);
    let numbers = [mean, &scale, &bias, mean];
    let f = |x, _, [mean, scale, bias, _]: [T; 4]| (x - mean) * scale + bias;
    let kernel = Channels { batch, x, y: x, numbers, f };
    run(&kernel, batch.sizes(x.len(), true, 0)).0
}

/// The gradients of [`batch_norm`]'s input (if `input`), weight and bias. With `own` the moments are the batch's, so that the gradient
/// flows through them too.
pub fn batch_norm_backward<T: Real>(
    g: &[T],
    x: &[T],
    batch: Batch,
    [mean, rstd]: [&[T]; 2],
    weight: Option<&[T]>,
    own: bool,
    input: bool,
) -> (Option<Aligned<T>>, [Vec<T>; 2]) {
    let channels = batch.channels;
    let [bias, along] = sums([g, x], batch, mean, |[g, x, mean]| [g, g * (x - mean)]);
    let scale = each(&or_all(weight, T::ONE, channels), rstd, |w, r| w * r);
    let sizes = batch.sizes(x.len(), true, 0);
    let dx = if !input {
        None
    } else if own {
        let count = T::of((x.len() / channels.max(1)) as f64);
        let slope = each(&each(&along, rstd, |a, r| a * r * r), &scale, |a, s| a * s / count);
        let shift = each(&bias, &scale, |b, s| b * s / count);
        let numbers = [mean, &scale, &slope, &shift];
        let f = |g, x, [mean, scale, slope, shift]: [T; 4]| g * scale - (x - mean) * slope - shift;
        Some(run(&Channels { batch, x: g, y: x, numbers, f }, sizes).0)
    } else {
        let f = |g, _, [scale, ..]: [T; 4]| g * scale;
        Some(run(&Channels { batch, x: g, y: g, numbers: [&scale; 4], f }, sizes).0)
    };
    (dx, [each(&along, rstd, |a, r| a * r), bias])
}
