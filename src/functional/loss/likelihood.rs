//! Losses of distributions: the divergence of two, and the likelihood of a count or a number under one.

use std::f64::consts::PI;

use super::{
    Reduction, broadcasts_to, negative,
    pairs::{Divergence, LogDivergence, Poisson, PoissonOfLog, of_pairs},
};
use crate::{
    Error, Result,
    functional::{distance::floored, options, words},
    tensor::{Real, Tensor},
};

words! {
    /// How the losses of [`kl_div`] are reduced: a [`Reduction`], or `batchmean`.
    pub enum KLDivReduction, "reduction" {
        /// They are returned.
        None = "none",
        /// Their mean, the default; NaN if there are none.
        #[default]
        Mean = "mean",
        /// Their sum divided by the length of the first axis: the mean divergence of a batch.
        BatchMean = "batchmean",
        /// Their sum.
        Sum = "sum",
    }
}

impl From<Reduction> for KLDivReduction {
    fn from(reduction: Reduction) -> Self {
        match reduction {
            Reduction::None => KLDivReduction::None,
            Reduction::Mean => KLDivReduction::Mean,
            Reduction::Sum => KLDivReduction::Sum,
        }
    }
}

options! {
    /// The options of [`kl_div`].
    pub struct KLDivLossOptions, setters kl_div_setters {
        /// Whether the target holds logarithms of probabilities; it does not by default.
        log_target: of bool = false;
        /// How the losses of the elements are reduced; to their mean by default.
        reduction: into KLDivReduction = KLDivReduction::Mean;
    }
}

loss_options! {
    /// The options of [`poisson_nll_loss`].
    pub struct PoissonNLLLossOptions, setters poisson_nll_setters {
        /// Whether the input is the logarithm of the rate; it is by default.
        log_input: of bool = true;
        /// Whether the term without the input is added, by Stirling's approximation; it is not by default.
        full: of bool = false;
        /// What is added to a rate before its logarithm is taken; 10⁻⁸ by default.
        eps: of f64 = 1e-8;
    }
}

loss_options! {
    /// The options of [`gaussian_nll_loss`].
    pub struct GaussianNLLLossOptions, setters gaussian_nll_setters {
        /// Whether the constant `log(2π) / 2` is added; it is not by default.
        full: of bool = false;
        /// The smallest variance, above 0; 10⁻⁶ by default.
        eps: of f64 = 1e-6, if |e| e > 0., "eps is above 0";
    }
}

/// The Kullback–Leibler divergence of probabilities `y` from log probabilities `x`, elementwise: `y (log y − x)`, or
/// `e^y (y − x)` if `y` holds logarithms too.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. An element whose
/// target is a probability of 0 contributes 0, also where PyTorch gives NaN because the input is −∞. Gradients flow to
/// both. `"mean"` divides by the number of elements; the divergence of a batch of distributions is `"batchmean"`.
///
/// ```
/// use ndnn::{functional::{self as F, KLDivLossOptions}, prelude::*};
/// let (x, y) = (tensor![[0.5, 0.5]].log(), tensor![[1.0, 0.0]]);
/// let loss = F::kl_div(&x, &y, KLDivLossOptions::default().reduction("batchmean"))?;
/// assert_eq!(loss.item()?, std::f32::consts::LN_2);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn kl_div<T: Real>(input: &Tensor<T>, target: &Tensor<T>, options: KLDivLossOptions) -> Result<Tensor<T>> {
    let reduction = match options.reduction {
        KLDivReduction::None => Reduction::None,
        KLDivReduction::Mean => Reduction::Mean,
        KLDivReduction::BatchMean | KLDivReduction::Sum => Reduction::Sum,
    };
    let loss = match options.log_target {
        true => of_pairs("kl_div", input, target, reduction, LogDivergence::row())?,
        false => of_pairs("kl_div", input, target, reduction, Divergence::row())?,
    };
    Ok(match (options.reduction, input.shape()) {
        (KLDivReduction::BatchMean, &[batch, ..]) => loss / T::of(batch as f64),
        _ => loss,
    })
}

/// The negative log likelihood of counts `y` under Poisson distributions: `eˣ − y x` if `x` is the logarithm of the rate,
/// otherwise `x − y log(x + ε)`; with `full`, `y log y − y + log(2π y) / 2` is added where `y` is above 1.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Gradients flow to
/// both. If `x` is a logarithm, `y x` is 0 for a count of 0, also where PyTorch gives NaN because `x` is infinite. Otherwise
/// the loss is NaN, as in PyTorch, for a count of 0 where `log(x + ε)` is infinite or NaN.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::poisson_nll_loss(&tensor![0.0, 0.0], &tensor![1.0, 3.0], Default::default())?;
/// assert_eq!(loss.item()?, 1.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn poisson_nll_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: PoissonNLLLossOptions,
) -> Result<Tensor<T>> {
    let op = "poisson_nll_loss";
    let reduction = if options.full { Reduction::None } else { options.reduction };
    let losses = match options.log_input {
        true => of_pairs(op, input, target, reduction, PoissonOfLog::row())?,
        false => of_pairs(op, input, target, reduction, Poisson::row(options.eps))?,
    };
    if !options.full {
        return Ok(losses);
    }
    let small = target.le(T::ONE)?;
    let y = target.masked_fill(&small, T::ONE)?;
    let log_factorial = y.try_mul(&y.log())? - &y + (&y * T::of(2. * PI)).log() * T::of(0.5);
    Ok(options.reduction.apply(losses.try_add(&log_factorial.zero_where(&small))?))
}

/// The variance in a shape that broadcasts to the input's.
fn variance<T: Real>(op: &str, input: &Tensor<T>, var: &Tensor<T>) -> Result<Tensor<T>> {
    if let Some((v, at)) = negative(var) {
        return Err(Error::value(op, format!("the variance is {v} at {at:?}, expected at least 0")));
    }
    let (shape, of) = (input.shape(), var.shape());
    let differing = || shape.iter().zip(of).filter(|(a, b)| a != b);
    match shape.split_last() {
        _ if shape == of || of.is_empty() => Ok(var.clone()),
        Some((_, lead)) if lead == of => var.unsqueeze(-1),
        Some(_) if shape.len() == of.len() && differing().map(|(_, &b)| b).eq([1]) => Ok(var.clone()),
        _ => Err(Error::shape(
            op,
            format!(
                "the variance is {of:?}, the input {shape:?}; expected its shape, the same without the last axis or with \
                 one axis of length 1, or a scalar"
            ),
        )),
    }
}

/// The negative log likelihood of `y` under normal distributions of mean `x` and variance `v`, at least ε:
/// `(log v + (x − y)² / v) / 2`.
///
/// `input` is `(*)`; `target` broadcasts to it; `var` has its shape, or lacks its last axis, or has one axis of length 1
/// instead, or is a scalar. The result is a scalar, or `(*)` without a reduction. Gradients flow to all three, as in
/// PyTorch also to a variance below ε.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::gaussian_nll_loss(&tensor![0.0, 1.0], &tensor![2.0, 1.0], &Tensor::ones([2]), Default::default())?;
/// assert_eq!(loss.item()?, 1.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, or a variance is below 0.
pub fn gaussian_nll_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    var: &Tensor<T>,
    options: GaussianNLLLossOptions,
) -> Result<Tensor<T>> {
    let op = "gaussian_nll_loss";
    broadcasts_to(op, "target", target, input)?;
    let var = floored(&variance(op, input, var)?, options.eps);
    let losses = (input.try_sub(target)?.square().try_div(&var)?.try_add(&var.log())?) * T::of(0.5);
    let constant = if options.full { 0.5 * (2. * PI).ln() } else { 0. };
    Ok(options.reduction.apply(losses + T::of(constant)))
}
