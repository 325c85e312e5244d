//! Average pooling.

use ndnn_derive::concrete;

use super::{PoolStride, Pooling, pooled};
use crate::{
    Error, Result,
    functional::{Dims, by_rank, options},
    kernels::{
        pooling::{self, Pattern},
        sizes::room,
    },
    tensor::{Real, Tensor},
};

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
    let kernel_size = kernel_size.into();
    averaged(op, input, kernel_size, &options)
}

/// [`avg_pool`] under the name of an operation made of it.
pub(super) fn averaged<const N: usize, T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    kernel_size: Dims<N>,
    options: &AvgPoolOptions<N>,
) -> Result<Tensor<T>> {
    let AvgPoolOptions { stride, padding, ceil_mode, count_include_pad, divisor_override } = *options;
    let pooling = pooled(op, input.shape(), [kernel_size, padding, Dims::from(1)], (stride, ceil_mode))?;
    let sizes = &input.shape()[input.ndim() - N..];
    // As in PyTorch, over three axes only.
    if N == 3 && sizes.iter().zip(kernel_size.get()).any(|(&n, k)| n < k) {
        let what =
            format!("windows of {kernel_size} are larger than the input {:?} without its padding", input.shape());
        return Err(Error::shape(op, what));
    }
    means(input, pooling, N, divisor_override, count_include_pad)
}

/// The mean of each window over the last `axes` axes.
#[concrete]
pub(super) fn means<T: Real>(
    input: &Tensor<T>,
    pooling: Pooling,
    axes: usize,
    divisor: Option<usize>,
    padded: bool,
) -> Result<Tensor<T>> {
    let Pooling { op, pattern, shape } = pooling;
    if room::<T>(op, &shape)? == 0 {
        return Ok(input.nothing(op, &shape));
    }
    if let Pattern::Adaptive { output: [1, 1, 1], .. } = pattern {
        return input.mean_dim((-(axes as isize)..0).collect::<Vec<_>>(), true);
    }
    let sums = summed(op, input, pattern, &shape);
    let counts = match divisor {
        Some(divisor) => vec![T::of(divisor as f64)],
        None => pattern.counts(padded),
    };
    match counts.iter().all(|&count| count == counts[0]) {
        true => Ok(sums / counts[0]),
        false => sums.try_div(&Tensor::from_vec(&shape[shape.len() - axes..], counts)?),
    }
}

/// The sum of each window.
fn summed<T: Real>(op: &'static str, x: &Tensor<T>, pattern: Pattern, shape: &[usize]) -> Tensor<T> {
    let (sums, x) = (pooling::sum_pool(&x.elements(), &pattern).array(shape), x.clone());
    Tensor::op(op, sums, [&x.clone()], move |g, _| Ok([Some(spread(g, &x, pattern))]))
}

/// The derivative of [`summed`]: adds each element of `g` to all elements of its window. It does not depend on `x`, and is
/// connected to it with a gradient of 0, as in PyTorch.
fn spread<T: Real>(g: &Tensor<T>, x: &Tensor<T>, pattern: Pattern) -> Tensor<T> {
    let (spread, to) = (pooling::spread(&g.elements(), &pattern).array(x.shape()), g.shape().to_vec());
    Tensor::op("sum_pool_backward", spread, [g, x], move |h, [by_g, by_x]| {
        Ok([by_g.then(|| summed("sum_pool", h, pattern, &to)), by_x.then(|| h.zeros_like())])
    })
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
