//! Losses that ask for a margin between two scores.

use super::{
    Reduction,
    pairs::{Hinge, of_pairs},
    same_shape,
};
use crate::{
    Result,
    tensor::{Real, Tensor},
};

loss_options! {
    /// The options of [`margin_ranking_loss`].
    pub struct MarginRankingLossOptions, setters margin_ranking_setters {
        /// The difference from which on the loss is 0; 0 by default.
        margin: of f64 = 0.;
    }
}

/// `max(0, margin − y (x₁ − x₂))` for scores `x₁` and `x₂` and targets `y`: 1 if the first should be larger, −1 if the
/// second should be.
///
/// `input1`, `input2` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Where
/// PyTorch broadcasts, this returns an error. Gradients flow to all three.
///
/// ```
/// use ndnn::{functional::{self as F, MarginRankingLossOptions}, prelude::*};
/// let (better, worse) = (tensor![2.0, 1.0], tensor![0.0, 0.5]);
/// let options = MarginRankingLossOptions::default().margin(1.0).reduction("sum");
/// assert_eq!(F::margin_ranking_loss(&better, &worse, &tensor![1.0, 1.0], options)?.item()?, 0.5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn margin_ranking_loss<T: Real>(
    input1: &Tensor<T>,
    input2: &Tensor<T>,
    target: &Tensor<T>,
    options: MarginRankingLossOptions,
) -> Result<Tensor<T>> {
    let op = "margin_ranking_loss";
    same_shape(op, ["first input", "second"], [input1, input2])?;
    of_pairs(op, &input1.try_sub(input2)?, target, options.reduction, Hinge { margin: options.margin })
}
