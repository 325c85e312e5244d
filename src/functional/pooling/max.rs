//! Max pooling.

use ndnn_derive::concrete;

use super::{PoolStride, Pooling, pooled};
use crate::{
    Error, Result,
    functional::{Dims, by_rank, options},
    kernels::{
        memory::Aligned,
        pooling::{self, unpool},
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
};

const NAMES: [&str; 3] = ["max_pool1d", "max_pool2d", "max_pool3d"];

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
    largest(input, max_pooled(NAMES[N - 1], input.shape(), kernel_size.into(), &options)?)
}

/// The windows of a max pooling, none of which is entirely in the padding.
pub(super) fn max_pooled<const N: usize>(
    op: &'static str,
    shape: &[usize],
    kernel_size: Dims<N>,
    options: &MaxPoolOptions<N>,
) -> Result<Pooling> {
    let MaxPoolOptions { stride, padding, dilation, ceil_mode } = *options;
    let pooling = pooled(op, shape, [kernel_size, padding, dilation], (stride, ceil_mode))?;
    // A window starts inside or in at most half a window of padding, so only gaps can lead past the input.
    let may_be = |i: usize| padding.get()[i] > 0 && dilation.get()[i] > 1;
    let padding_alone = |i: usize| may_be(i) && pooling.pattern.spans(3 - N + i).iter().any(|span| span.count == 0);
    // A result without elements may have very many windows.
    if room::<i64>(op, &pooling.shape)? > 0 && (0..N).any(padding_alone) {
        return Err(Error::shape(op, format!("a window is entirely in the padding of the input {shape:?}")));
    }
    Ok(pooling)
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
    largest_with_indices(input, max_pooled(NAMES[N - 1], input.shape(), kernel_size.into(), &options)?)
}

/// The largest element of each window.
#[concrete]
pub(super) fn largest<T: Real>(input: &Tensor<T>, pooling: Pooling) -> Result<Tensor<T>> {
    if input.requires_grad() && grad_enabled() {
        return Ok(largest_with_indices(input, pooling)?.0);
    }
    let Pooling { op, pattern, shape } = pooling;
    if room::<T>(op, &shape)? == 0 {
        return Ok(input.nothing(op, &shape));
    }
    Ok(pooling::max_pool_values(&input.elements(), &pattern).array(shape.as_slice()).into())
}

/// As [`largest`], and where each one is.
#[concrete]
pub(super) fn largest_with_indices<T: Real>(input: &Tensor<T>, pooling: Pooling) -> Result<(Tensor<T>, Tensor<i64>)> {
    let Pooling { op, pattern, shape } = pooling;
    if room::<i64>(op, &shape)? == 0 {
        return Ok((input.nothing(op, &shape), Tensor::from_vec(&shape, Vec::new())?));
    }
    picked(op, input, pooling::max_pool(&input.elements(), &pattern), pattern.output_len(), &shape)
}

/// The result of a max pooling, `windows` elements for each plane, with its derivative.
pub(super) fn picked<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    (values, places): (Aligned<T>, Aligned<i64>),
    windows: usize,
    shape: &[usize],
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let places = Tensor::from(places.array(shape));
    let index = places.reshape([-1, windows as isize])?;
    let (x, out) = (input.clone(), values.array(shape));
    let out = Tensor::op(op, out, [input], move |g, _| Ok([Some(unpooled(g, &x, &index)?)]));
    Ok((out, places))
}

/// The derivative of max pooling: adds each element of `g` at the place in `x` that it came from; `index` has one row
/// per channel. `x` determines only the places: its derivative is zero, as in PyTorch, and not absent.
fn unpooled<T: Real>(g: &Tensor<T>, x: &Tensor<T>, index: &Tensor<i64>) -> Result<Tensor<T>> {
    let (rows, inside) = (index.shape()[0], x.numel() / index.shape()[0].max(1));
    let placed = unpool(&g.elements(), &index.elements(), rows, inside).array(x.shape());
    let (x, index, shape) = (x.clone(), index.clone(), g.shape().to_vec());
    Ok(Tensor::op("max_pool_backward", placed, [g, &x.clone()], move |h, [by_g, by_x]| {
        let picked = || h.reshape([rows as isize, inside as isize])?.gather(1, &index)?.reshape(&shape);
        Ok([by_g.then(picked).transpose()?, by_x.then(|| x.zeros_like())])
    }))
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
