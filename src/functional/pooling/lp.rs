//! Power-average pooling.

use super::{
    PoolStride,
    average::{AvgPoolOptions, averaged},
    max::{MaxPoolOptions, largest, max_pooled},
};
use crate::{
    Error, Result,
    functional::{Dims, by_rank, options},
    kernels::sizes::saturating,
    tensor::{Real, Tensor},
};

options! {
    /// The options of power-average pooling.
    pub struct LPPoolOptions[const N: usize][N], setters lp_pool_setters {
        /// The step from one window to the next; the size of a window by default.
        stride: into crate::functional::PoolStride<N> = PoolStride::default(),
            if |s| s.0.is_none_or(Dims::is_positive), "a stride is at least 1";
        /// Whether an incomplete last window counts too; its sum is scaled to a whole window.
        ceil_mode: of bool = false;
    }
}

/// The norm of each window over N axes: `(Σ x^p)^(1 / p)` with `p = norm_type`.
///
/// With p = ∞ it is the largest magnitude, with p = −∞ the smallest. As in PyTorch, `x^p` is not the power of the magnitude:
/// for an odd p a negative sum, and for a p that is not whole a negative element, gives NaN. Where the sum is 0, no
/// gradient flows. `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes and
/// `out = ⌊(size − kernel_size) / stride⌋ + 1`, or ⌈…⌉ with `ceil_mode`.
///
/// # Errors
/// If `norm_type` is 0, the input has another number of axes or is empty, no window fits, or there is not enough memory for
/// the result.
pub fn lp_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    norm_type: f64,
    kernel_size: impl Into<Dims<N>>,
    options: LPPoolOptions<N>,
) -> Result<Tensor<T>> {
    let op = const { ["lp_pool1d", "lp_pool2d", "lp_pool3d"][N - 1] };
    let (kernel_size, LPPoolOptions { stride, ceil_mode }) = (kernel_size.into(), options);
    if norm_type == 0. {
        return Err(Error::value(op, "a norm_type of 0 is no norm; expected another number"));
    }
    if norm_type.is_infinite() {
        let options = MaxPoolOptions::default().stride(stride).ceil_mode(ceil_mode);
        let pooling = max_pooled(op, input.shape(), kernel_size, &options)?;
        return match norm_type > 0. {
            true => largest(&input.abs(), pooling),
            false => Ok(-largest(&-input.abs(), pooling)?),
        };
    }
    let powers = input.pow(T::of(norm_type))?;
    let options = AvgPoolOptions::default().stride(stride).ceil_mode(ceil_mode);
    root(&averaged(op, &powers, kernel_size, &options)?, norm_type, saturating(kernel_size.get()) as f64)
}

/// From the mean of `count` powers to their norm.
fn root<T: Real>(mean: &Tensor<T>, norm_type: f64, count: f64) -> Result<Tensor<T>> {
    // Where the mean is 0 no gradient flows back, not even the infinite one of the root.
    (mean.masked_fill(&mean.eq(T::ZERO)?, T::ZERO)? * T::of(count)).pow(T::of(1. / norm_type))
}

by_rank! {
    ($n) lp_pool(input, norm_type, kernel_size, options):
        (input: &Tensor<T>, norm_type: f64, kernel_size: impl Into<Dims<$n>>, options: LPPoolOptions<$n>) -> Tensor<T>;
    lp_pool1d,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[2.0, 4.0, 0.0], [4.0, 8.0, 1.0]]];
    /// assert_eq!(F::lp_pool2d(&x, 2.0, 2, Default::default())?, tensor![[[10.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    lp_pool2d,
    lp_pool3d
}
