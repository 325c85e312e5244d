//! Losses of the difference between input and target.

use super::{
    Reduction,
    pairs::{Absolute, Bent, Square, of_pairs},
};
use crate::{
    Error, Result,
    ops::Two,
    tensor::{Real, Tensor},
};

loss_options! {
    /// The options of [`mse_loss`] and [`l1_loss`].
    pub struct MSELossOptions, setters mse_setters,
    weight "A weight for each element, of the input's shape; the mean then divides by the sum of the weights. None by default." {}
}

/// The options of [`l1_loss`].
pub type L1LossOptions<'a, T> = MSELossOptions<'a, T>;

loss_options! {
    /// The options of [`smooth_l1_loss`].
    pub struct SmoothL1LossOptions, setters smooth_l1_setters {
        /// The difference from which on the loss is linear, at least 0; 1 by default.
        beta: of f64 = 1., if |b| b >= 0., "beta is at least 0";
    }
}

loss_options! {
    /// The options of [`huber_loss`].
    pub struct HuberLossOptions, setters huber_setters,
    weight "A weight for each element, of the input's shape; the mean divides by the number of elements all the same. None
by default." {
        /// The difference from which on the loss is linear, above 0; 1 by default.
        delta: of f64 = 1., if |d| d > 0., "delta is above 0";
    }
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

/// [`of_pairs`], but with weights the mean is the weighted mean.
fn distance<T: Real>(
    op: &'static str,
    [input, target]: [&Tensor<T>; 2],
    options: MSELossOptions<'_, T>,
    loss: Two,
) -> Result<Tensor<T>> {
    let Some(weight) = options.weight else { return of_pairs(op, input, target, options.reduction, loss) };
    let losses = weighted(op, of_pairs(op, input, target, Reduction::None, loss)?, Some(weight))?;
    match options.reduction {
        Reduction::Mean => losses.sum().try_div(&weight.sum()),
        reduction => Ok(reduction.apply(losses)),
    }
}

/// The squared error, `(x − y)²`.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Where PyTorch
/// broadcasts with a warning, this returns an error. Gradients flow to the input, the target and the weight.
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
pub fn mse_loss<T: Real>(input: &Tensor<T>, target: &Tensor<T>, options: MSELossOptions<'_, T>) -> Result<Tensor<T>> {
    distance("mse_loss", [input, target], options, Square::row())
}

/// The absolute error, `|x − y|`; the gradient at 0 is 0.
///
/// Shapes, reduction and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ.
pub fn l1_loss<T: Real>(input: &Tensor<T>, target: &Tensor<T>, options: L1LossOptions<'_, T>) -> Result<Tensor<T>> {
    distance("l1_loss", [input, target], options, Absolute::row())
}

/// The absolute error, smooth near 0: `d² / 2β` while `|d| = |x − y| < β`, otherwise `|d| − β/2`; for β = 0 it is
/// [`l1_loss`].
///
/// Shapes and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ.
pub fn smooth_l1_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: SmoothL1LossOptions,
) -> Result<Tensor<T>> {
    let (op, beta) = ("smooth_l1_loss", options.beta);
    if T::of(beta) == T::ZERO {
        return of_pairs(op, input, target, options.reduction, Absolute::row());
    }
    of_pairs(op, input, target, options.reduction, Bent::row(beta, beta, 1.))
}

/// The squared error, linear far from 0: `d² / 2` while `|d| = |x − y| < δ`, otherwise `δ (|d| − δ/2)`.
///
/// Shapes and gradients as in [`mse_loss`].
///
/// # Errors
/// If the shapes differ.
pub fn huber_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: HuberLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let (op, delta) = ("huber_loss", options.delta);
    let loss = Bent::row(delta, 1., delta);
    let reduction = if options.weight.is_some() { Reduction::None } else { options.reduction };
    let losses = of_pairs(op, input, target, reduction, loss)?;
    match options.weight {
        None => Ok(losses),
        weight => Ok(options.reduction.apply(weighted(op, losses, weight)?)),
    }
}
