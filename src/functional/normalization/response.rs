//! Norms over neighbouring channels, and vectors of a given length.

use crate::{
    Error, Result,
    functional::{self as F, AvgPoolOptions, options},
    tensor::{Real, Tensor, no_grad},
};

options! {
    /// The options of [`local_response_norm`].
    pub struct LocalResponseNormOptions, setters local_response_norm_setters {
        /// The factor α of the mean of the squares; 1e-4 by default.
        alpha: of f64 = 1e-4;
        /// The exponent β; 0.75 by default.
        beta: of f64 = 0.75;
        /// What is added to the mean of the squares; 1 by default.
        k: into crate::functional::PyNumber = crate::functional::PyNumber::float(1.);
    }
}

/// `x / (k + α · mean)^β`, where `mean` is that of the squares of the `size` neighbouring channels, from `size / 2` before to
/// `(size − 1) / 2` after; channels beyond the ends count as 0.
///
/// `input` is `(N, C, *)` with at least 3 axes, and so is the result. As torch.nn.functional.local_response_norm; Krizhevsky,
/// Sutskever and Hinton, 2012.
///
/// ```
/// use ndnn::{functional::{self as F, LocalResponseNormOptions}, prelude::*};
/// let x = tensor![[[1.0], [2.0], [3.0]]];                // 3 channels of 1 element
/// let options = LocalResponseNormOptions::default().alpha(3.0).beta(1.0).k(0);
/// let y = F::local_response_norm(&x, 3, options)?;
/// assert!((y - tensor![[[1.0 / 5.0], [2.0 / 14.0], [3.0 / 13.0]]]).abs().max()?.item()? < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer than 3 axes, or `size` is 0.
pub fn local_response_norm<T: Real>(
    input: &Tensor<T>,
    size: usize,
    options: LocalResponseNormOptions,
) -> Result<Tensor<T>> {
    const OP: &str = "local_response_norm";
    let shape = input.shape();
    if shape.len() < 3 {
        return Err(Error::shape(OP, format!("needs an input (N, C, *) of 3 axes or more, got {shape:?}")));
    }
    positive(OP, size)?;
    if input.numel() == 0 {
        return Ok(input.clone());
    }
    let mean = neighbours(&input.square(), [(size / 2) as isize, ((size - 1) / 2) as isize], size)?;
    input.try_div(&powered(&mean, options.alpha, options.k.get(), options.beta))
}

fn positive(op: &str, size: usize) -> Result<()> {
    if size == 0 { Err(Error::value(op, "size must be at least 1, got 0")) } else { Ok(()) }
}

/// `(k + α · x)^β`
fn powered<T: Real>(x: &Tensor<T>, alpha: f64, k: f64, beta: f64) -> Tensor<T> {
    let base = x * T::of(alpha) + T::of(k);
    if beta == 1. { base } else { base.pow_scalar(T::of(beta)) }
}

/// The sum over the channels from `before` to `after` each channel, by `divisor`.
fn neighbours<T: Real>(x: &Tensor<T>, reach: [isize; 2], divisor: usize) -> Result<Tensor<T>> {
    let (shape, [n, channels]) = (x.shape(), [x.shape()[0], x.shape()[1]]);
    let len: usize = shape[2..].iter().product();
    let [before, after] = reach.map(|reach| reach.min(channels as isize));
    let rows = F::pad(&x.reshape([n, 1, channels, len].map(|n| n as isize))?, [0, 0, before, after], 0.)?;
    let options = AvgPoolOptions::default().stride(1).divisor_override(divisor);
    F::avg_pool2d(&rows, [(before + after + 1) as usize, 1], options)?.reshape(shape)
}

/// The function of [`CrossMapLRN2d`](crate::nn::CrossMapLRN2d), with the peculiarities of PyTorch's: once the first channel
/// leaves the window it keeps counting, and the gradient's windows lie one channel too early.
pub(crate) fn cross_map_lrn<T: Real>(
    input: &Tensor<T>,
    size: usize,
    options: LocalResponseNormOptions,
) -> Result<Tensor<T>> {
    const OP: &str = "cross_map_lrn2d";
    let LocalResponseNormOptions { alpha, beta, k } = options;
    let shape = input.shape();
    if shape.len() != 4 {
        return Err(Error::shape(OP, format!("needs an input (N, C, H, W), got {shape:?}")));
    }
    positive(OP, size)?;
    if input.numel() == 0 {
        return Ok(input.clone());
    }
    // The power of the sum of squares, and its base.
    let reach = (size - 1) / 2;
    let around = move |x: &Tensor<T>| {
        let squares = x.square();
        let mut sum = neighbours(&squares, [reach as isize; 2], 1)?;
        let late = x.shape()[1].saturating_sub(reach + 1);
        if late > 0 {
            let zeros = squares.narrow(1, 0, reach + 1)?.zeros_like();
            let first = squares.narrow(1, 0, 1)?;
            let mut parts = vec![zeros];
            parts.extend((0..late).map(|_| first.clone()));
            sum = sum.try_add(&Tensor::cat(&parts, 1)?)?;
        }
        Ok::<_, Error>(powered(&sum, alpha / size as f64, k.get(), 1.))
    };
    let out = no_grad(|| around(input)?.pow_scalar(T::of(-beta)).try_mul(input))?;
    let x = input.clone();
    Ok(Tensor::op(OP, out.data().clone(), [input], move |g, _| {
        let base = around(&x)?;
        let scaled = base.pow_scalar(T::of(-beta)).try_mul(g)?;
        let ratio = scaled.try_mul(&x)?.try_div(&base)?;
        let before = (size - (size - 1) / 2 - usize::from(size.is_multiple_of(2))) as isize;
        let near = neighbours(&ratio, [before, (size - 1) as isize - before], size)?;
        Ok([Some(scaled.try_sub(&(near.try_mul(&x)? * T::of(2. * alpha * beta)))?)])
    }))
}

options! {
    /// The options of [`normalize`].
    pub struct NormalizeOptions, setters normalize_setters {
        /// The p of the norm; 2 by default.
        p: of f64 = 2.;
        /// The axis of the vectors; 1 by default.
        dim: of isize = 1;
        /// The least length that a vector is divided by; 1e-12 by default.
        eps: of f64 = 1e-12;
    }
}

/// `x / max(‖x‖ₚ, ε)`, with the norm over one axis.
///
/// As torch.nn.functional.normalize.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// assert_eq!(F::normalize(&tensor![[3.0, 4.0], [0.0, 0.0]], Default::default())?, tensor![[0.6, 0.8], [0.0, 0.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no such axis, or `p` is infinite or negative and the vectors have no elements.
pub fn normalize<T: Real>(input: &Tensor<T>, options: NormalizeOptions) -> Result<Tensor<T>> {
    let NormalizeOptions { p, dim, eps } = options;
    let length = input.norm(p, dim, true).map_err(|e| e.within("normalize"))?.clamp_min(T::of(eps));
    input.try_div(&length)
}
