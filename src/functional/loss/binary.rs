//! Cross entropy of binary probabilities.

use super::{
    INPUT_AND_TARGET, Reduction, broadcasts_to, no_probability,
    pairs::{Logistic, SoftMargin, of_pairs},
    same_shape,
};
use crate::{
    Error, Result,
    functional::activation::logsigmoid,
    kernels::binary_cross_entropy::{self as kernel, EPS},
    ops::scaled,
    tensor::{Real, Tensor, no_grad},
};

loss_options! {
    /// The options of [`binary_cross_entropy`].
    pub struct BCELossOptions, setters bce_setters,
    weight "A weight for each loss, broadcast to the input's shape; none by default." {}
}

loss_options! {
    /// The options of [`binary_cross_entropy_with_logits`].
    pub struct BCEWithLogitsLossOptions, setters bce_with_logits_setters,
    weight "A weight for each loss, broadcast to the input's shape; none by default." {
        /// The weight of positives relative to negatives, broadcast to the input's shape; none (1) by default.
        pos_weight: into Option<&'a Tensor<T>> = None;
    }
}

loss_options! {
    /// The options of [`soft_margin_loss`].
    pub struct SoftMarginLossOptions, setters soft_margin_setters {}
}

/// Returns an error for an element outside [0, 1], including NaN, with its position.
fn probabilities<T: Real>(op: &str, what: &str, x: &Tensor<T>, hint: &str) -> Result<()> {
    match no_probability(x) {
        None => Ok(()),
        Some((value, at)) => {
            Err(Error::value(op, format!("the {what} is {value} at {at:?}, expected a probability from 0 to 1{hint}")))
        }
    }
}

fn weighted<T: Real>(op: &str, losses: Tensor<T>, weight: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    match weight {
        None => Ok(losses),
        Some(w) => {
            broadcasts_to(op, "weight", w, &losses)?;
            losses.try_mul(w)
        }
    }
}

/// `g (x − y) / max(x (1 − x), ε)`. The derivative of that would be 1/ε near 0 and 1; instead this uses the loss's
/// second derivative, `(1 − y) / (1 − x)² + y / x²`, where neither divisor is below ε².
fn input_gradient<T: Real>(g: &Tensor<T>, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    let out = kernel::gradient(&g.view(), &x.view(), &y.view());
    let kept = [g.clone(), x.clone(), y.clone()];
    Ok(Tensor::op("binary_cross_entropy_backward", out, [g, x, y], move |u, [dg, dx, dy]| {
        let [g, x, y] = &kept;
        let rest = -x + T::ONE;
        let of = |needed: bool, f: &dyn Fn() -> Result<Tensor<T>>| needed.then(f).transpose();
        Ok([
            of(dg, &|| input_gradient(u, x, y))?,
            of(dx, &|| {
                let square = |x: &Tensor<T>| x.clamp_min(T::of(EPS)).square();
                u.try_mul(g)?.try_mul(&((-y + T::ONE) / square(&rest) + y / &square(x)))
            })?,
            of(dy, &|| Ok(-(u.try_mul(g)? / (x * &rest).clamp_min(T::of(EPS)))))?,
        ])
    }))
}

/// `−(y log x + (1 − y) log(1 − x))` for probabilities `x`, where logarithms are limited to −100 from below.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. As in PyTorch
/// the gradient of the input is `(x − y) / max(x (1 − x), 10⁻¹²)`, while that of the target is not limited.
/// [`binary_cross_entropy_with_logits`] is more accurate than a sigmoid followed by this function.
///
/// # Errors
/// If the shapes differ, or an element of either is outside [0, 1].
pub fn binary_cross_entropy<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: BCELossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "binary_cross_entropy";
    same_shape(op, INPUT_AND_TARGET, [input, target])?;
    probabilities(op, "input", input, "; for scores use binary_cross_entropy_with_logits")?;
    probabilities(op, "target", target, "")?;
    let losses = kernel::losses(&input.view(), &target.view());
    let (x, y) = (input.clone(), target.clone());
    let losses = Tensor::op(op, losses, [input, target], move |g, [dx, dy]| {
        let dx = if dx { Some(input_gradient(g, &x, &y)?) } else { None };
        let dy = if dy { Some(g.try_mul(&((-&x).log1p() - x.log()))?) } else { None };
        Ok([dx, dy])
    });
    Ok(options.reduction.apply(weighted(op, losses, options.weight)?))
}

/// `−(p y log σ(x) + (1 − y) log(1 − σ(x)))` for scores `x` (logits) and the weight `p` of positives, exact for scores
/// of any size.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Gradients flow
/// to the input, the target and the weights.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::binary_cross_entropy_with_logits(&tensor![1e4, -1e4], &tensor![1.0, 0.0], Default::default())?;
/// assert_eq!(loss.item()?, 0.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn binary_cross_entropy_with_logits<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: BCEWithLogitsLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "binary_cross_entropy_with_logits";
    let Some(p) = options.pos_weight else {
        let plain = options.weight.is_none();
        let losses =
            of_pairs(op, input, target, if plain { options.reduction } else { Reduction::None }, Logistic::row())?;
        return Ok(if plain { losses } else { options.reduction.apply(weighted(op, losses, options.weight)?) });
    };
    same_shape(op, INPUT_AND_TARGET, [input, target])?;
    broadcasts_to(op, "pos_weight", p, input)?;
    let losses = weighted_logistic(op, input, target, p)?;
    Ok(options.reduction.apply(weighted(op, losses, options.weight)?))
}

/// `−p y log σ(x) − (1 − y) log σ(−x)`: a term whose weight is 0 is 0, even if its logarithm is infinite.
fn weighted_logistic<T: Real>(op: &'static str, x: &Tensor<T>, y: &Tensor<T>, p: &Tensor<T>) -> Result<Tensor<T>> {
    // The two terms separately: with `p − 1` as a factor of one term, a small weight would be lost.
    let value = no_grad(|| {
        let yes = scaled(&logsigmoid(x), &y.try_mul(p)?)?;
        Ok(-(yes + scaled(&logsigmoid(&-x), &(-y + T::ONE))?))
    })?;
    let kept = [x.clone(), y.clone(), p.clone()];
    Ok(Tensor::op(op, value, [x, y, p], move |g, [dx, dy, dp]| {
        let [x, y, p] = &kept;
        let of = |needed: bool, f: &dyn Fn() -> Result<Tensor<T>>| needed.then(f).transpose();
        Ok([
            of(dx, &|| {
                let yes = y.try_mul(p)?.try_mul(&(-x).sigmoid())?;
                g.try_mul(&((-y + T::ONE).try_mul(&x.sigmoid())? - yes))
            })?,
            of(dy, &|| g.try_mul(&(logsigmoid(&-x) - scaled(&logsigmoid(x), p)?)))?,
            of(dp, &|| g.try_mul(&-scaled(&logsigmoid(x), y)?)?.sum_to(p.shape()))?,
        ])
    }))
}

/// `log(1 + e^(−y x))` for scores `x` and targets `y` of −1 or 1, exact for scores of any size, where PyTorch
/// overflows.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Gradients flow
/// to both.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::soft_margin_loss(&tensor![0.0, 200.0], &tensor![1.0, -1.0], Reduction::Sum.into())?;
/// assert_eq!(loss.item()?, std::f32::consts::LN_2 + 200.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn soft_margin_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: SoftMarginLossOptions,
) -> Result<Tensor<T>> {
    of_pairs("soft_margin_loss", input, target, options.reduction, SoftMargin::row())
}
