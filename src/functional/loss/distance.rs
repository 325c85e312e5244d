//! Losses of the difference between input and target.

use super::{Reduction, same_shape};
use crate::{
    Error, Result,
    functional::options,
    kernels::elementwise::map,
    tensor::{Real, Tensor},
};

options! {
    /// What [`mse_loss`] and [`l1_loss`] take besides input and target.
    pub struct DistanceOptions['a, T: Real]['a, T], setters distance_setters {
        /// A weight for each element, of the input's shape; the mean then divides by the sum of the weights. None by default.
        weight: into Option<&'a Tensor<T>> = None;
        /// What becomes of the elements' losses; their mean by default.
        reduction: of Reduction = Reduction::Mean;
    }
}

options! {
    /// What [`smooth_l1_loss`] takes besides input and target.
    pub struct SmoothL1LossOptions, setters smooth_l1_setters {
        /// The difference from which on the loss is linear, at least 0; 1 by default.
        beta: of f64 = 1.;
        /// What becomes of the elements' losses; their mean by default.
        reduction: of Reduction = Reduction::Mean;
    }
}

options! {
    /// What [`huber_loss`] takes besides input and target.
    pub struct HuberLossOptions['a, T: Real]['a, T], setters huber_setters {
        /// The difference from which on the loss is linear, above 0; 1 by default.
        delta: of f64 = 1.;
        /// A weight for each element, of the input's shape; the mean divides by the number of elements all the same. None
        /// by default.
        weight: into Option<&'a Tensor<T>> = None;
        /// What becomes of the elements' losses; their mean by default.
        reduction: of Reduction = Reduction::Mean;
    }
}

/// `input − target`, which must have one shape.
fn difference<T: Real>(op: &str, input: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
    same_shape(op, input, target)?;
    input.try_sub(target)
}

/// The losses times their weights, which must have the same shape.
fn weighted<T: Real>(op: &str, losses: Tensor<T>, weight: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    match weight {
        None => Ok(losses),
        Some(w) if w.shape() == losses.shape() => losses.try_mul(w),
        Some(w) => Err(Error::shape(
            op,
            format!("the weight is {:?}, the input {:?}, they must have one shape", w.shape(), losses.shape()),
        )),
    }
}

/// The mean with weights is the weighted mean.
fn reduced<T: Real>(op: &str, losses: Tensor<T>, options: DistanceOptions<'_, T>) -> Result<Tensor<T>> {
    let losses = weighted(op, losses, options.weight)?;
    match (options.reduction, options.weight) {
        (Reduction::Mean, Some(weight)) => losses.sum().try_div(&weight.sum()),
        (reduction, _) => Ok(reduction.apply(losses)),
    }
}

/// The squared error, `(x − y)²`.
///
/// `input` and `target` have one shape `(*)`; the result is a scalar, or `(*)` without a reduction. Where PyTorch
/// broadcasts with a warning, this is an error. Gradients flow to the input, the target and the weight.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::mse_loss(&tensor![1.0, 2.0], &tensor![1.0, 4.0], Default::default())?;
/// assert_eq!(loss.item()?, 2.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn mse_loss<T: Real>(input: &Tensor<T>, target: &Tensor<T>, options: DistanceOptions<'_, T>) -> Result<Tensor<T>> {
    reduced("mse_loss", difference("mse_loss", input, target)?.square(), options)
}

/// The absolute error, `|x − y|`; the gradient at 0 is 0.
///
/// Shapes, reduction and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ.
pub fn l1_loss<T: Real>(input: &Tensor<T>, target: &Tensor<T>, options: DistanceOptions<'_, T>) -> Result<Tensor<T>> {
    reduced("l1_loss", difference("l1_loss", input, target)?.abs(), options)
}

/// `d² / 2·scale` while `|d| < bend`, then `slope · (|d| − bend/2)`.
fn bent<T: Real>(name: &'static str, d: &Tensor<T>, bend: T, scale: T, slope: T) -> Tensor<T> {
    let half = T::of(0.5);
    let losses = map(d.view(), |d| match d.abs() {
        a if a < bend => half * a * a / scale,
        a => slope * (a - half * bend),
    });
    let kept = d.clone();
    Tensor::op(name, losses, [d], move |g, _| {
        // A NaN counts as within the bend, so that it stays one.
        let slopes = Tensor::where_(&kept.abs().ge(bend)?, kept.sign() * slope, &kept / scale)?;
        Ok([Some(g.try_mul(&slopes)?)])
    })
}

/// The absolute error, rounded off near 0: `d² / 2β` while `|d| = |x − y| < β`, then `|d| − β/2`; for β = 0 it is
/// [`l1_loss`].
///
/// Shapes and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ, or `beta` is negative.
pub fn smooth_l1_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: SmoothL1LossOptions,
) -> Result<Tensor<T>> {
    let op = "smooth_l1_loss";
    if options.beta < 0. || options.beta.is_nan() {
        return Err(Error::value(op, format!("beta is {}, expected at least 0", options.beta)));
    }
    let d = difference(op, input, target)?;
    let beta = T::of(options.beta);
    Ok(options.reduction.apply(if beta == T::ZERO { d.abs() } else { bent(op, &d, beta, beta, T::ONE) }))
}

/// The squared error, made linear far from 0: `d² / 2` while `|d| = |x − y| < δ`, then `δ (|d| − δ/2)`.
///
/// Shapes and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ, or `delta` is not above 0.
pub fn huber_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: HuberLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "huber_loss";
    if options.delta <= 0. || options.delta.is_nan() {
        return Err(Error::value(op, format!("delta is {}, expected above 0", options.delta)));
    }
    let delta = T::of(options.delta);
    let losses = bent(op, &difference(op, input, target)?, delta, T::ONE, delta);
    Ok(options.reduction.apply(weighted(op, losses, options.weight)?))
}
