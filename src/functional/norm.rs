//! Normalisations: batch and layer norm.

use crate::{
    Error, Result,
    tensor::{Real, Tensor},
};

use super::options;

options! {
    /// What [`batch_norm`] takes besides tensors.
    pub struct BatchNormOptions, setters batch_norm_setters {
        /// Whether the batch's own statistics are used, and the running ones updated; `false` by default.
        training: of bool = false;
        /// The share of the batch's statistics in the running ones; 0.1 by default.
        momentum: of f64 = 0.1;
        /// Added to the variance; 1e-5 by default.
        eps: of f64 = 1e-5;
    }
}

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, the statistics over every axis but the second.
///
/// `input` is `(N, C, *)`; `weight` γ, `bias` β and the running statistics are `(C)`. In training (and where there are no
/// running statistics) mean and biased variance are the batch's, and the running ones become
/// `(1 − momentum) · running + momentum · batch`, with the unbiased variance; otherwise the running ones are used. As
/// torch.nn.functional.batch_norm; Ioffe and Szegedy, 2015.
///
/// ```
/// use ndnn::{functional::{self as F, BatchNormOptions}, prelude::*};
/// let x = tensor![[1.0, 10.0], [3.0, 30.0]];
/// let y = F::batch_norm(&x, None, None, None, None, BatchNormOptions::default().training(true))?;
/// assert!((y.select(1, 0)? + tensor![1.0, -1.0]).abs().sum().item()? < 1e-4);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, `eps` is negative, or in training `eps` is 0 or there is one value a channel.
pub fn batch_norm<T: Real>(
    input: &Tensor<T>,
    running_mean: Option<&mut Tensor<T>>,
    running_var: Option<&mut Tensor<T>>,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<Tensor<T>> {
    let shape = input.shape();
    if input.ndim() == 1 && input.numel() == 0 {
        // No channel and no value: PyTorch's answer is the input.
        return Ok(input.clone());
    }
    if input.ndim() < 2 {
        return Err(Error::shape("batch_norm", format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}")));
    }
    let channels = shape[1];
    let per_channel = [("running_mean", running_mean.as_deref()), ("running_var", running_var.as_deref())];
    for (name, tensor) in per_channel.into_iter().chain([("weight", weight), ("bias", bias)]) {
        if let Some(t) = tensor.filter(|t| t.shape() != [channels]) {
            let what = format!("the input {shape:?} has {channels} channels on axis 1, {name} is {:?}", t.shape());
            return Err(Error::shape("batch_norm", what));
        }
    }
    let least = if options.training { f64::MIN_POSITIVE } else { 0. };
    if options.eps.is_nan() || options.eps < least {
        let needed = if options.training { "above 0 in training" } else { "at least 0" };
        return Err(Error::value("batch_norm", format!("eps must be {needed}, got {}", options.eps)));
    }
    // `(C)` as `(1, C, 1, …)`, to broadcast against the input.
    let mut along = vec![1; input.ndim()];
    along[1] = channels;
    let spread = |t: &Tensor<T>| t.reshape(along.as_slice());

    let (centred, var) = match (running_mean, running_var) {
        (Some(mean), Some(var)) if !options.training => (input.try_sub(&spread(mean)?)?, spread(var)?),
        (mean, var) => {
            let count = input.numel() / channels.max(1);
            if options.training && count == 1 {
                let what = format!("training needs more than 1 value per channel, the input is {shape:?}");
                return Err(Error::value("batch_norm", what));
            }
            let axes: Vec<isize> = (0..input.ndim() as isize).filter(|&a| a != 1).collect();
            let batch_mean = input.mean_dim(axes.as_slice(), true)?;
            let centred = input.try_sub(&batch_mean)?;
            let batch_var = centred.square().mean_dim(axes.as_slice(), true)?;
            // An empty batch says nothing about the statistics.
            if options.training && count > 0 {
                let unbiased = batch_var.detach() * T::of(count as f64 / (count as f64 - 1.));
                update(mean, &batch_mean, options.momentum)?;
                update(var, &unbiased, options.momentum)?;
            }
            (centred, batch_var)
        }
    };
    let y = centred.try_mul(&(var + T::of(options.eps)).rsqrt())?;
    let y = weight.map_or(Ok(y.clone()), |w| y.try_mul(&spread(w)?))?;
    bias.map_or(Ok(y.clone()), |b| y.try_add(&spread(b)?))
}

/// Moves a running statistic towards the batch's.
fn update<T: Real>(running: Option<&mut Tensor<T>>, batch: &Tensor<T>, momentum: f64) -> Result<()> {
    if let Some(running) = running {
        let batch = batch.detach().reshape([-1])?;
        *running = running.detach() * T::of(1. - momentum) + batch * T::of(momentum);
    }
    Ok(())
}

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, the statistics over the last axes, whose shape is `normalized_shape`.
///
/// `weight` γ and `bias` β have the shape `normalized_shape`; the variance is the biased one. `eps` is 1e-5 in PyTorch by
/// default. As torch.nn.functional.layer_norm; Ba, Kiros and Hinton, 2016.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::layer_norm(&tensor![[1.0, 3.0], [10.0, 30.0]], &[2], None, None, 1e-5)?;
/// assert!((y.select(0, 0)? + tensor![1.0, -1.0]).abs().sum().item()? < 1e-4);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the last axes, the weight or the bias have another shape.
pub fn layer_norm<T: Real>(
    input: &Tensor<T>,
    normalized_shape: &[usize],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: f64,
) -> Result<Tensor<T>> {
    if normalized_shape.is_empty() || !input.shape().ends_with(normalized_shape) {
        return Err(Error::shape(
            "layer_norm",
            format!(
                "normalized_shape {normalized_shape:?} is to be the input's last axes, the input is {:?}",
                input.shape()
            ),
        ));
    }
    for (name, tensor) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = tensor.filter(|t| t.shape() != normalized_shape) {
            let what = format!("{name} is {:?}, normalized_shape is {normalized_shape:?}", t.shape());
            return Err(Error::shape("layer_norm", what));
        }
    }
    let axes: Vec<isize> = (1..=normalized_shape.len() as isize).map(|a| -a).collect();
    let centred = input.try_sub(&input.mean_dim(axes.as_slice(), true)?)?;
    let var = centred.square().mean_dim(axes.as_slice(), true)?;
    let y = centred.try_mul(&(var + T::of(eps)).rsqrt())?;
    let y = weight.map_or(Ok(y.clone()), |w| y.try_mul(w))?;
    bias.map_or(Ok(y.clone()), |b| y.try_add(b))
}
