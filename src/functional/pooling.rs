//! Pooling.

use ndnn_derive::concrete;

use super::{
    Dims, by_rank, options,
    windows::{Sliding, Spatial},
};
use crate::{
    Error, Result,
    kernels::{layout::row_major, pooling::unpool, sizes::room, windows::Windows},
    python::AsPython,
    tensor::{Real, Tensor, grad_enabled},
};

/// The step between windows of a pooling: the size of a window unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStride<const N: usize>(Option<Dims<N>>);

impl<const N: usize> PoolStride<N> {
    /// The step for windows of this size.
    pub fn or(self, kernel_size: Dims<N>) -> Dims<N> {
        self.0.unwrap_or(kernel_size)
    }
}

impl<const N: usize> AsPython for PoolStride<N> {
    fn python(&self) -> String {
        self.0.python()
    }
}

impl<const N: usize> From<usize> for PoolStride<N> {
    fn from(one: usize) -> Self {
        PoolStride(Some(one.into()))
    }
}

impl<const N: usize> From<[usize; N]> for PoolStride<N> {
    fn from(sizes: [usize; N]) -> Self {
        PoolStride(Some(sizes.into()))
    }
}

impl<const N: usize> From<Option<Dims<N>>> for PoolStride<N> {
    fn from(sizes: Option<Dims<N>>) -> Self {
        PoolStride(sizes)
    }
}

options! {
    /// The options of max pooling.
    pub struct MaxPoolOptions[const N: usize][N], setters max_pool_setters {
        /// The step from one window to the next; the size of a window by default.
        stride: into crate::functional::PoolStride<N> = PoolStride::default(),
            if |s| s.0.is_none_or(Dims::is_positive), "a stride is at least 1";
        /// How many elements, which are never the largest, are added at each end; 0 by default, at most half a window.
        padding: into Dims<N> = Dims::from(0);
        /// The step from one element of a window to the next; 1 by default.
        dilation: into Dims<N> = Dims::from(1), if |d| d.is_positive(), "a dilation is at least 1";
        /// Whether an incomplete last window counts too, if it starts inside.
        ceil_mode: of bool = false;
    }
}

/// The largest element of each window over N axes.
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes and `out =
/// ⌊(size + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1`, or ⌈…⌉ with `ceil_mode`, if the last window
/// starts inside. Of equal elements the first one is chosen, and gets the gradient; NaN is larger than anything.
///
/// # Errors
/// If the input has another number of axes or is empty, no window fits, or there is not enough memory for the result.
pub fn max_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    options: MaxPoolOptions<N>,
) -> Result<Tensor<T>> {
    if input.requires_grad() && grad_enabled() {
        return Ok(max_pool_with_indices(input, kernel_size, options)?.0);
    }
    let (op, windows, shape) = max_pooled(input.shape(), kernel_size.into(), &options)?;
    largest(op, input, windows, &shape)
}

/// The largest element of each window.
#[concrete]
fn largest<T: Real>(op: &'static str, x: &Tensor<T>, windows: Windows, shape: &[usize]) -> Result<Tensor<T>> {
    if room::<T>(op, shape)? == 0 {
        return Ok(x.nothing(op, shape));
    }
    Ok(T::max_pool_values(&row_major(&x.view()), &windows).array(shape).into())
}

/// The windows of a pooling, and the shape of the result.
fn pooled<const N: usize>(
    op: &'static str,
    shape: &[usize],
    sizes: [Dims<N>; 3],
    (stride, ceil_mode): (PoolStride<N>, bool),
) -> Result<(Windows, Vec<usize>)> {
    let [kernel, padding, dilation] = sizes.map(Dims::get);
    let (stride, pads) = (stride.or(sizes[0]).get(), padding.map(|p| (p, p)));
    let (input, sliding) = (Spatial::new(op, shape)?, Sliding { kernel, stride, dilation, pads, ceil_mode });
    sliding.half_padded(op)?;
    input.filled(false)?;
    let windows = sliding.over(&input)?;
    Ok((windows, [input.leading(), &windows.output[3 - N..]].concat()))
}

/// The windows of a max pooling, none of which is entirely in the padding.
fn max_pooled<const N: usize>(
    shape: &[usize],
    kernel_size: Dims<N>,
    options: &MaxPoolOptions<N>,
) -> Result<(&'static str, Windows, Vec<usize>)> {
    let op = const { ["max_pool1d", "max_pool2d", "max_pool3d"][N - 1] };
    let MaxPoolOptions { stride, padding, dilation, ceil_mode } = *options;
    let (windows, out) = pooled(op, shape, [kernel_size, padding, dilation], (stride, ceil_mode))?;
    // A result without elements may have very many windows.
    let padding_alone = |axis: usize| windows.spans(axis).iter().any(|span| span.count == 0);
    if room::<i64>(op, &out)? > 0 && (0..3).any(padding_alone) {
        return Err(Error::shape(op, format!("a window is entirely in the padding of the input {shape:?}")));
    }
    Ok((op, windows, out))
}

/// As [`max_pool`], and also the position of each element: its row-major index among the sizes of its channel.
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_with_indices<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    options: MaxPoolOptions<N>,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let (op, windows, shape) = max_pooled(input.shape(), kernel_size.into(), &options)?;
    largest_with_indices(op, input, windows, &shape)
}

/// The largest element of each window, and its position.
#[concrete]
fn largest_with_indices<T: Real>(
    op: &'static str,
    x: &Tensor<T>,
    windows: Windows,
    shape: &[usize],
) -> Result<(Tensor<T>, Tensor<i64>)> {
    if room::<i64>(op, shape)? == 0 {
        return Ok((x.nothing(op, shape), Tensor::from_vec(shape, Vec::new())?));
    }
    let (values, places) = T::max_pool(&row_major(&x.view()), &windows);
    let places = Tensor::from(places.array(shape));
    let per_channel = windows.output_len();
    let index = places.reshape([(places.numel() / per_channel) as isize, per_channel as isize])?;
    let input = x.clone();
    let out = Tensor::op(op, values.array(shape), [x], move |g, _| Ok([Some(unpooled(g, &input, &index)?)]));
    Ok((out, places))
}

/// The derivative of max pooling: adds each element of `g` at the place in `x` that it came from; `index` has one row
/// per channel. `x` determines only the places: its derivative is zero, as in PyTorch, and not absent.
fn unpooled<T: Real>(g: &Tensor<T>, x: &Tensor<T>, index: &Tensor<i64>) -> Result<Tensor<T>> {
    let (rows, inside) = (index.shape()[0], x.numel() / index.shape()[0].max(1));
    let placed = unpool(&row_major(&g.view()), &row_major(&index.view()), rows, inside).array(x.shape());
    let (x, index, shape) = (x.clone(), index.clone(), g.shape().to_vec());
    Ok(Tensor::op("max_pool_backward", placed, [g, &x.clone()], move |h, [by_g, by_x]| {
        let picked = || h.reshape([rows as isize, inside as isize])?.gather(1, &index)?.reshape(&shape);
        Ok([by_g.then(picked).transpose()?, by_x.then(|| x.zeros_like())])
    }))
}

options! {
    /// The options of average pooling.
    pub struct AvgPoolOptions[const N: usize][N], setters avg_pool_setters {
        /// The step from one window to the next; the size of a window by default.
        stride: into crate::functional::PoolStride<N> = PoolStride::default(),
            if |s| s.0.is_none_or(Dims::is_positive), "a stride is at least 1";
        /// How many zeros are added at each end; 0 by default, at most half a window.
        padding: into Dims<N> = Dims::from(0);
        /// Whether an incomplete last window counts too, if it starts inside.
        ceil_mode: of bool = false;
        /// Whether the zeros count as elements (the default). Elements added by `ceil_mode` never count.
        count_include_pad: of bool = true;
        /// The divisor of all sums; by default, and always over one axis, the number of elements in the window.
        divisor_override: into Option<usize> = None, if |d| d != Some(0), "a divisor is not 0";
    }
    if |o| N > 1 || o.divisor_override.is_none(), "average pooling over one axis has no divisor_override"
}

/// The mean of each window over N axes.
///
/// `input` is `(N, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes and `out =
/// ⌊(size + 2·padding − kernel_size) / stride⌋ + 1`, or ⌈…⌉ with `ceil_mode`, if the last window starts inside. As
/// torch.nn.functional.avg_pool2d.
///
/// # Errors
/// If the input has another number of axes or is empty, no window fits, or there is not enough memory for the result.
pub fn avg_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    options: AvgPoolOptions<N>,
) -> Result<Tensor<T>> {
    let op = const { ["avg_pool1d", "avg_pool2d", "avg_pool3d"][N - 1] };
    let AvgPoolOptions { stride, padding, ceil_mode, count_include_pad, divisor_override } = options;
    let sizes = [kernel_size.into(), padding, Dims::from(1)];
    let (windows, shape) = pooled(op, input.shape(), sizes, (stride, ceil_mode))?;
    averaged(op, input, windows, &shape, &shape[shape.len() - N..], divisor_override, count_include_pad)
}

/// The mean of each window; the last axes of the result are `sizes`.
#[concrete]
fn averaged<T: Real>(
    op: &'static str,
    x: &Tensor<T>,
    windows: Windows,
    shape: &[usize],
    sizes: &[usize],
    divisor: Option<usize>,
    count_include_pad: bool,
) -> Result<Tensor<T>> {
    if room::<T>(op, shape)? == 0 {
        return Ok(x.nothing(op, shape));
    }
    let sums = summed(op, x, windows, shape);
    let counts = match divisor {
        Some(divisor) => vec![T::of(divisor as f64)],
        None => windows.counts(count_include_pad),
    };
    match counts.iter().all(|&count| count == counts[0]) {
        true => Ok(sums / counts[0]),
        false => sums.try_div(&Tensor::from_vec(sizes, counts)?),
    }
}

/// The sum of each window.
fn summed<T: Real>(op: &'static str, x: &Tensor<T>, windows: Windows, shape: &[usize]) -> Tensor<T> {
    let (sums, x) = (T::sum_pool(&row_major(&x.view()), &windows).array(shape), x.clone());
    Tensor::op(op, sums, [&x.clone()], move |g, _| Ok([Some(spread(g, &x, windows))]))
}

/// The derivative of [`summed`]: adds each element of `g` to all elements of its window. It does not depend on `x`, and is
/// connected to it with a gradient of 0, as in PyTorch.
fn spread<T: Real>(g: &Tensor<T>, x: &Tensor<T>, windows: Windows) -> Tensor<T> {
    let (spread, to) = (T::spread(&row_major(&g.view()), &windows).array(x.shape()), g.shape().to_vec());
    Tensor::op("sum_pool_backward", spread, [g, x], move |h, [by_g, by_x]| {
        Ok([by_g.then(|| summed("sum_pool", h, windows, &to)), by_x.then(|| h.zeros_like())])
    })
}

by_rank! {
    ($n) max_pool(input, kernel_size, options):
        (input: &Tensor<T>, kernel_size: impl Into<Dims<$n>>, options: MaxPoolOptions<$n>) -> Tensor<T>;
    max_pool1d,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0]]];
    /// assert_eq!(F::max_pool2d(&x, 2, Default::default())?, tensor![[[5.0, 9.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    max_pool2d,
    max_pool3d
}

by_rank! {
    ($n) max_pool_with_indices(input, kernel_size, options):
        (input: &Tensor<T>, kernel_size: impl Into<Dims<$n>>, options: MaxPoolOptions<$n>) -> (Tensor<T>, Tensor<i64>);
    max_pool1d_with_indices,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0]]];
    /// assert_eq!(F::max_pool2d_with_indices(&x, 2, Default::default())?.1, tensor![[[1, 7]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    max_pool2d_with_indices,
    max_pool3d_with_indices
}

by_rank! {
    ($n) avg_pool(input, kernel_size, options):
        (input: &Tensor<T>, kernel_size: impl Into<Dims<$n>>, options: AvgPoolOptions<$n>) -> Tensor<T>;
    avg_pool1d,
    /// ```
    /// use ndnn::{functional::{self as F, AvgPoolOptions}, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 3.0, 2.0, 8.0]]];
    /// assert_eq!(F::avg_pool2d(&x, 2, Default::default())?, tensor![[[3.0, 3.0]]]);
    /// let padded = AvgPoolOptions::default().padding([0, 1]).count_include_pad(false);
    /// assert_eq!(F::avg_pool2d(&x, 2, padded)?, tensor![[[2.0, 3.0, 4.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    avg_pool2d,
    avg_pool3d
}
