//! Normalisations: batch and layer norm.

use ndnn_derive::concrete;
use std::sync::Arc;

use ndarray::ArrayViewMutD;

use crate::{
    Error, Result,
    kernels::{
        layout::{array, row_major},
        memory::{collected, filled},
        normalization as kernel,
        sizes::room,
    },
    ops::faint,
    tensor::{Real, Tensor, grad_enabled},
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
    let running = [running_mean.as_deref(), running_var.as_deref()];
    let (y, moments) = batch_norm_and_moments(input, running, weight, bias, options)?;
    if let Some(moments) = moments {
        for (running, batch) in [running_mean, running_var].into_iter().zip(&moments) {
            if let Some(running) = running {
                let mut moved = running.detach().into_array();
                towards(moved.view_mut(), batch, options.momentum);
                *running = moved.into();
            }
        }
    }
    Ok(y)
}

/// As [`batch_norm`], but leaves the running statistics to the caller: beside the result, a training batch's mean and unbiased
/// variance.
pub(crate) fn batch_norm_and_moments<T: Real>(
    input: &Tensor<T>,
    [running_mean, running_var]: [Option<&Tensor<T>>; 2],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<(Tensor<T>, Option<[Vec<T>; 2]>)> {
    let shape = input.shape();
    if input.ndim() == 1 && input.numel() == 0 {
        // No channel and no value: PyTorch's answer is the input.
        return Ok((input.clone(), None));
    }
    if input.ndim() < 2 {
        return Err(Error::shape("batch_norm", format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}")));
    }
    let channels = shape[1];
    let per_channel = [("running_mean", running_mean), ("running_var", running_var)];
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
    room::<T>("batch_norm", &[channels])?;
    let batch = kernel::Batch { channels, len: shape[2..].iter().product() };
    let eps = T::of(options.eps);
    if let (Some(mean), Some(var), false) = (running_mean, running_var, options.training) {
        let rstd = collected(var.view().iter().map(|&v| (v + eps).sqrt().recip()));
        let moments = [mean.to_vec(), filled(channels, T::ZERO), rstd];
        return Ok((batch_normed(input, batch, moments, weight, bias, None), None));
    }
    let count = input.numel() / channels.max(1);
    let values = shape[0].checked_mul(batch.len);
    if options.training && values == Some(1) {
        let what = format!("training needs more than 1 value per channel, the input is {shape:?}");
        return Err(Error::value("batch_norm", what));
    }
    let (mut x, mut eps, mut scales) = (input.clone(), filled(channels, eps), filled(channels, T::ONE));
    let of = |x: &Tensor<T>, eps: &[T]| {
        let [mean, rest, var] = kernel::batch_moments(&row_major(&x.view()), batch);
        let rstd = collected(var.iter().zip(eps).map(|(&v, &eps)| (v + eps).sqrt().recip()));
        ([mean, rest, rstd], var)
    };
    let (mut moments, mut var) = of(&x, &eps);
    if let Some(scale) = balance_if_wild(input, &moments[2], |axis| axis != 1, options.eps) {
        scales = scale.to_vec();
        x = input.try_mul(&scale)?;
        eps.iter_mut().zip(&scales).for_each(|(eps, &s)| *eps = *eps * s * s);
        (moments, var) = of(&x, &eps);
    }
    // An empty batch says nothing about the statistics.
    let trained = (options.training && count > 0).then(|| {
        let unbias = T::of(count as f64 / (count as f64 - 1.));
        let mean = collected((0..channels).map(|c| (moments[0][c] + moments[1][c]) / scales[c]));
        [mean, collected(var.iter().zip(&scales).map(|(&v, &s)| v * unbias / s / s))]
    });
    Ok((batch_normed(&x, batch, moments, weight, bias, Some(eps)), trained))
}

/// Moves a running statistic towards the batch's.
pub(crate) fn towards<T: Real>(mut running: ArrayViewMutD<'_, T>, batch: &[T], momentum: f64) {
    let (keep, momentum) = (T::of(1. - momentum), T::of(momentum));
    // A factor of 0 leaves nothing, also of an infinity.
    let part = |x: T, factor: T| if factor == T::ZERO { T::ZERO } else { x * factor };
    running.iter_mut().zip(batch).for_each(|(r, &b)| *r = part(*r, keep) + part(b, momentum));
}

/// The batch norm with these means, what is left of them, and 1 / √(variance + ε); with `own`, which is each channel's ε,
/// they are the input's.
fn batch_normed<T: Real>(
    input: &Tensor<T>,
    batch: kernel::Batch,
    moments: [Vec<T>; 3],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    own: Option<Vec<T>>,
) -> Tensor<T> {
    let out = {
        let (x, w, b) = (input.view(), weight.map(Tensor::view), bias.map(Tensor::view));
        let (w, b) = (w.as_ref().map(row_major), b.as_ref().map(row_major));
        kernel::batch_norm(&row_major(&x), batch, moments.each_ref().map(Vec::as_slice), w.as_deref(), b.as_deref())
    };
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    // `(C)` as `(1, C, 1, …)`, to broadcast against the input.
    let mut along = vec![1; input.ndim()];
    along[1] = batch.channels;
    let affine = Affine::new(input, weight, bias, vec![batch.channels], along);
    Tensor::op_many("batch_norm", out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            let of = |v: &[T]| Tensor::from(array(&affine.along, v.to_vec()));
            let axes = (0..affine.x.ndim() as isize).filter(|&a| a != 1).collect();
            let [mean, _, rstd] = &moments;
            let moments = match &own {
                Some(eps) => Centred::own(&affine.x, axes, &of(eps))?,
                None => Centred { centred: affine.x.try_sub(&of(mean))?, rstd: of(rstd), own: None },
            };
            return affine.gradients(g, &moments);
        }
        let (g, x, w) = (g.view(), affine.x.view(), affine.weight.as_ref().map(Tensor::view));
        let (g, x, w) = (row_major(&g), row_major(&x), w.as_ref().map(row_major));
        let moments = moments.each_ref().map(Vec::as_slice);
        let (dx, [dw, db]) =
            kernel::batch_norm_backward(&g, &x, batch, moments, w.as_deref(), own.is_some(), needed[0]);
        Ok(affine.answer(dx.map(|dx| dx.array(affine.x.shape()).into()), dw, db))
    })
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
#[concrete]
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
    let first = input.ndim() - normalized_shape.len();
    let tensor = Tensor::scalar(T::of(eps));
    let (out, moments) = layer_normed(input, normalized_shape, weight, bias, tensor.clone());
    let rstd = collected(moments.iter().map(|m| m.rstd));
    let Some(scale) = balance_if_wild(input, &rstd, |axis| axis >= first, eps) else { return Ok(out) };
    Ok(layer_normed(&input.try_mul(&scale)?, normalized_shape, weight, bias, tensor * &scale * scale).0)
}

/// The layer norm of rows with one ε, or one per row, and the rows' moments.
fn layer_normed<T: Real>(
    input: &Tensor<T>,
    normalized_shape: &[usize],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: Tensor<T>,
) -> (Tensor<T>, Arc<[kernel::Moments<T>]>) {
    let n = normalized_shape.iter().product();
    let (out, moments) = {
        let (x, w, b) = (input.view(), weight.map(Tensor::view), bias.map(Tensor::view));
        let (w, b) = (w.as_ref().map(row_major), b.as_ref().map(row_major));
        kernel::layer_norm(&row_major(&x), n, w.as_deref(), b.as_deref(), &row_major(&eps.view()))
    };
    let moments: Arc<[_]> = moments.into();
    let kept = moments.clone();
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    let affine = Affine::new(input, weight, bias, normalized_shape.to_vec(), normalized_shape.to_vec());
    let out = Tensor::op_many("layer_norm", out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            let axes = (1..=affine.along.len() as isize).map(|a| -a).collect();
            return affine.gradients(g, &Centred::own(&affine.x, axes, &eps)?);
        }
        let (g, x, w) = (g.view(), affine.x.view(), affine.weight.as_ref().map(Tensor::view));
        let (g, x, w) = (row_major(&g), row_major(&x), w.as_ref().map(row_major));
        let parameters = needed[1..].contains(&true);
        let (dx, mut dw) = kernel::layer_norm_backward(&g, &x, &kept, w.as_deref(), n, parameters);
        let db = dw.split_off(dw.len() / 2);
        Ok(affine.answer(Some(dx.array(affine.x.shape()).into()), dw, db))
    });
    (out, moments)
}

// ------------------------------------------------------------------------------------------------- what norms share

/// What to multiply the input by: other than 1 for those groups in which the square of a deviation overflows, or vanishes
/// beside a tiny `eps`, as `rstd` of the group tells; `eps` is to be multiplied by its square. `together` are the axes that
/// are normed together. `None` where all is well.
fn balance_if_wild<T: Real>(
    input: &Tensor<T>,
    rstd: &[T],
    together: impl Fn(usize) -> bool,
    eps: f64,
) -> Option<Tensor<T>> {
    let limit = faint::<T>().sqrt().recip();
    let wild = |rstd: T| !(rstd > T::ZERO && rstd < limit);
    if !rstd.iter().any(|&rstd| wild(rstd)) {
        return None;
    }
    let axes: Vec<usize> = (0..input.ndim()).filter(|&axis| together(axis)).collect();
    let scale = input.balance(&axes, T::of(eps.sqrt()))?;
    let only_wild =
        scale.view().iter().zip(rstd).map(|(&scale, &rstd)| if wild(rstd) { scale } else { T::ONE }).collect();
    Some(array(scale.shape(), only_wild).into())
}

/// What the backward pass of a norm keeps of its inputs.
struct Affine<T: Real> {
    x: Tensor<T>,
    weight: Option<Tensor<T>>,
    biased: bool,
    /// The shape of weight and bias.
    shape: Vec<usize>,
    /// That shape so that it broadcasts with the input.
    along: Vec<usize>,
}

/// `x − mean` and `1 / √(variance + ε)`, to be differentiated.
struct Centred<T: Real> {
    centred: Tensor<T>,
    rstd: Tensor<T>,
    /// The axes that the moments were taken over, if they are those of the input.
    own: Option<Vec<isize>>,
}

impl<T: Real> Centred<T> {
    fn own(x: &Tensor<T>, axes: Vec<isize>, eps: &Tensor<T>) -> Result<Self> {
        let centred = x.centred(&axes)?;
        let rstd = centred.square().mean_dim(axes.as_slice(), true)?.try_add(eps)?.rsqrt();
        Ok(Centred { centred, rstd, own: Some(axes) })
    }
}

impl<T: Real> Affine<T> {
    fn new(
        x: &Tensor<T>,
        weight: Option<&Tensor<T>>,
        bias: Option<&Tensor<T>>,
        shape: Vec<usize>,
        along: Vec<usize>,
    ) -> Self {
        Affine { x: x.clone(), weight: weight.cloned(), biased: bias.is_some(), shape, along }
    }

    /// The gradients of those inputs that there are; a parameter's is empty where it was not worked out.
    fn answer(&self, dx: Option<Tensor<T>>, dw: Vec<T>, db: Vec<T>) -> Vec<Option<Tensor<T>>> {
        let of = |d: Vec<T>| (d.len() == self.shape.iter().product::<usize>()).then(|| array(&self.shape, d).into());
        let parameters = [self.weight.as_ref().map(|_| of(dw)), self.biased.then(|| of(db))];
        [Some(dx)].into_iter().chain(parameters).flatten().collect()
    }

    /// The gradients as tensors, to be differentiated in turn.
    fn gradients(&self, g: &Tensor<T>, moments: &Centred<T>) -> Result<Vec<Option<Tensor<T>>>> {
        let Centred { centred, rstd, own } = moments;
        let normal = centred.try_mul(rstd)?;
        let scaled = match &self.weight {
            Some(w) => g.try_mul(&w.reshape(self.along.as_slice())?)?,
            None => g.clone(),
        };
        let dx = match own {
            Some(axes) => {
                let mean = |t: &Tensor<T>| t.mean_dim(axes.as_slice(), true);
                let along = normal.try_mul(&mean(&scaled.try_mul(&normal)?)?)?;
                scaled.try_sub(&mean(&scaled)?)?.try_sub(&along)?.try_mul(rstd)?
            }
            None => scaled.try_mul(rstd)?,
        };
        let mut grads = vec![Some(dx)];
        let per_parameter = |t: &Tensor<T>| t.sum_to(&self.along)?.reshape(self.shape.as_slice());
        if self.weight.is_some() {
            grads.push(Some(per_parameter(&g.try_mul(&normal)?)?));
        }
        if self.biased {
            grads.push(Some(per_parameter(g)?));
        }
        Ok(grads)
    }
}
