//! Norms over rows: layer, group, instance and RMS norm.

use std::sync::Arc;

use ndnn_derive::concrete;

use super::{
    Affine, Centred, Form,
    batch::{batch_norm_and_moments, both_or_neither, move_running},
    per_channel,
};
use crate::{
    Error, Result,
    functional::{BatchNormOptions, options},
    kernels::{
        memory::{filled, mapped},
        normalization as kernel,
    },
    tensor::{Real, Tensor, grad_enabled},
};

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, with statistics over the last axes, whose shape is `normalized_shape`.
///
/// `weight` γ and `bias` β have the shape `normalized_shape`; the variance is the biased one. PyTorch's default for
/// `eps` is 1e-5. As torch.nn.functional.layer_norm; Ba, Kiros and Hinton, 2016.
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
    let form = over_last("layer_norm", input.shape(), normalized_shape, [("weight", weight), ("bias", bias)])?;
    Ok(row_norm("layer_norm", input, form, weight, bias, eps)?.0)
}

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, with statistics over each group of channels of each sample.
///
/// `input` is `(N, C, *)`, whose channels are divided into `num_groups` groups of equal size, each of consecutive
/// channels; `weight` γ and `bias` β are `(C)`; the variance is the biased one. PyTorch's default for `eps` is 1e-5. As
/// torch.nn.functional.group_norm; Wu and He, 2018.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0, 3.0], [1.0, 3.0], [10.0, 30.0], [10.0, 30.0]]];        // 4 channels, 2 groups
/// let y = F::group_norm(&x, 2, None, None, 1e-5)?;
/// assert!((y - tensor![-1.0, 1.0]).abs().max()?.item()? < 1e-4);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer than 2 axes, no channels or no values per channel, the channels cannot be divided into this
/// number of groups, weight or bias have another shape, or there is a single sample with one value per group.
pub fn group_norm<T: Real>(
    input: &Tensor<T>,
    num_groups: usize,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: f64,
) -> Result<Tensor<T>> {
    const OP: &str = "group_norm";
    let shape = input.shape();
    let [n, channels] = channelled(OP, shape)?;
    let len: usize = shape[2..].iter().product();
    if channels == 0 || len == 0 {
        return Err(Error::shape(OP, format!("needs at least one value per channel, and a channel, got {shape:?}")));
    }
    if num_groups == 0 || channels % num_groups != 0 {
        let what = format!("{channels} channels ({shape:?}) cannot be cut into {num_groups} groups of as many");
        return Err(Error::shape(OP, what));
    }
    per_channel(OP, shape, [("weight", weight), ("bias", bias)])?;
    let runs = channels / num_groups;
    if n == 1 && runs * len == 1 {
        let what = format!("needs more than 1 value per group, got {shape:?} and {num_groups} groups");
        return Err(Error::value(OP, what));
    }
    let form = Form { sizes: [n, num_groups, runs, len], axes: [2, 3], centred: true };
    Ok(row_norm(OP, input, form, weight, bias, eps)?.0)
}

options! {
    /// The options of [`instance_norm`].
    pub struct InstanceNormOptions, setters instance_norm_setters {
        /// Whether each sample's own statistics are used, instead of the running ones; `true` by default.
        use_input_stats: of bool = true;
        /// The weight of the batch's statistics in the running ones; 0.1 by default.
        momentum: of f64 = 0.1;
        /// Added to the variance; 1e-5 by default.
        eps: of f64 = 1e-5;
    }
}

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, with statistics over each channel of each sample.
///
/// `input` is `(N, C, *)`; `weight` γ, `bias` β and the running statistics are `(C)`; the variance is the biased one. The
/// running statistics become `(1 − momentum) · running + momentum · batch`, where `batch` is the mean of the samples'
/// means, or of their unbiased variances; without `use_input_stats` they are used in place of the samples'. As
/// torch.nn.functional.instance_norm; Ulyanov, Vedaldi and Lempitsky, 2016.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0, 3.0], [10.0, 30.0]]];        // 1 sample, 2 channels
/// let y = F::instance_norm(&x, None, None, None, None, Default::default())?;
/// assert!((y - tensor![-1.0, 1.0]).abs().max()?.item()? < 1e-4);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not match, only one of the running statistics is given, there is only one value per channel, or the
/// running statistics are to be used and are missing.
pub fn instance_norm<T: Real>(
    input: &Tensor<T>,
    running_mean: Option<&mut Tensor<T>>,
    running_var: Option<&mut Tensor<T>>,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: InstanceNormOptions,
) -> Result<Tensor<T>> {
    let running = [running_mean.as_deref(), running_var.as_deref()];
    let (y, moments) = instance_norm_and_moments(input, running, weight, bias, options)?;
    move_running([running_mean, running_var], moments, options.momentum);
    Ok(y)
}

/// As [`instance_norm`], but leaves the running statistics to the caller: if there are any and `use_input_stats` is set, it
/// also returns the means of the samples' means and of their unbiased variances.
pub(crate) fn instance_norm_and_moments<T: Real>(
    input: &Tensor<T>,
    running: [Option<&Tensor<T>>; 2],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: InstanceNormOptions,
) -> Result<(Tensor<T>, Option<[Vec<T>; 2]>)> {
    const OP: &str = "instance_norm";
    let shape = input.shape();
    let [n, channels] = channelled(OP, shape)?;
    let named = [("running_mean", running[0]), ("running_var", running[1]), ("weight", weight), ("bias", bias)];
    per_channel(OP, shape, named)?;
    both_or_neither(OP, running)?;
    if !options.use_input_stats {
        if running[0].is_none() {
            return Err(Error::value(OP, "without use_input_stats it needs running_mean and running_var"));
        }
        let options = BatchNormOptions::default().eps(options.eps);
        return batch_norm_and_moments(OP, input, running, weight, bias, options);
    }
    let len: usize = shape[2..].iter().product();
    if len == 1 {
        return Err(Error::value(OP, format!("needs more than 1 value per channel of a sample, got {shape:?}")));
    }
    let form = Form { sizes: [n, channels, 1, len], axes: [2, 3], centred: true };
    let (out, moments, scale) = row_norm(OP, input, form, weight, bias, options.eps)?;
    // An empty batch does not update the statistics.
    let tracked = running[0].is_some() && input.numel() > 0;
    Ok((out, tracked.then(|| means_per_channel(&moments, scale.map(|s| s.to_vec()), channels, len))))
}

/// The means over the samples of their means and unbiased variances, for each channel of `len` elements that were multiplied
/// by these factors.
fn means_per_channel<T: Real>(
    moments: &[kernel::Moments<T>],
    scale: Option<Vec<T>>,
    channels: usize,
    len: usize,
) -> [Vec<T>; 2] {
    let (samples, unbias) = (T::of((moments.len() / channels) as f64), T::of(len as f64 / (len as f64 - 1.)));
    let mut sums = [filled(channels, T::ZERO), filled(channels, T::ZERO)];
    for (i, m) in moments.iter().enumerate() {
        let scale = scale.as_ref().map_or(T::ONE, |scale| scale[i]);
        for (sums, value) in sums.iter_mut().zip([(m.mean + m.rest) / scale, m.var * unbias / scale / scale]) {
            sums[i % channels] += value / samples;
        }
    }
    sums
}

/// `x / √(E[x²] + ε) · γ`, with the mean over the last axes, whose shape is `normalized_shape`.
///
/// `weight` γ has the shape `normalized_shape`. PyTorch's default for `eps` is `None`: the distance from 1 to the next larger
/// number of this type, 1.2e-7 for f32. As torch.nn.functional.rms_norm; Zhang and Sennrich, 2019.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::rms_norm(&tensor![[1.0, 7.0], [10.0, 70.0]], &[2], None, None)?;
/// assert!((y - tensor![0.2, 1.4]).abs().max()?.item()? < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the last axes or the weight have another shape.
pub fn rms_norm<T: Real>(
    input: &Tensor<T>,
    normalized_shape: &[usize],
    weight: Option<&Tensor<T>>,
    eps: impl Into<Option<f64>>,
) -> Result<Tensor<T>> {
    let form = over_last("rms_norm", input.shape(), normalized_shape, [("weight", weight)])?;
    let eps = eps.into().unwrap_or_else(|| T::epsilon().as_f64());
    Ok(row_norm("rms_norm", input, Form { centred: false, ..form }, weight, None, eps)?.0)
}

/// The form of a norm over the last axes, with parameters of their shape.
fn over_last<'a, T: Real>(
    op: &str,
    shape: &[usize],
    normalized_shape: &[usize],
    parameters: impl IntoIterator<Item = (&'static str, Option<&'a Tensor<T>>)>,
) -> Result<Form> {
    if normalized_shape.is_empty() || !shape.ends_with(normalized_shape) {
        let what =
            format!("normalized_shape {normalized_shape:?} is to be the input's last axes, the input is {shape:?}");
        return Err(Error::shape(op, what));
    }
    for (name, tensor) in parameters {
        if let Some(t) = tensor.filter(|t| t.shape() != normalized_shape) {
            let what = format!("{name} is {:?}, normalized_shape is {normalized_shape:?}", t.shape());
            return Err(Error::shape(op, what));
        }
    }
    let rows = shape[..shape.len() - normalized_shape.len()].iter().product();
    Ok(Form { sizes: [rows, 1, normalized_shape.iter().product(), 1], axes: [2, 3], centred: true })
}

/// The samples and channels of an input `(N, C, *)`.
fn channelled(op: &str, shape: &[usize]) -> Result<[usize; 2]> {
    let needed = || Error::shape(op, format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}"));
    shape.first_chunk().copied().ok_or_else(needed)
}

/// What a norm over rows returns: the result, the moments of the rows, and the factors by which the rows were multiplied
/// first, where squares would overflow or vanish.
type Normed<T> = (Tensor<T>, Arc<[kernel::Moments<T>]>, Option<Tensor<T>>);

/// The norm over rows, one per `(outer, group)`.
#[concrete]
fn row_norm<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    form: Form,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: f64,
) -> Result<Normed<T>> {
    let one = Tensor::scalar(T::of(eps));
    let (out, moments) = rows_normed(op, input, form, weight, bias, one.clone());
    let rstd = mapped(&moments, |m| m.rstd);
    let Some((scaled, scale)) = form.balanced_if_wild(input, &rstd, eps)? else { return Ok((out, moments, None)) };
    let (out, moments) = rows_normed(op, &scaled, form, weight, bias, one * &scale * &scale);
    Ok((out, moments, Some(scale)))
}

/// The norm over rows with one ε, or one per row; also returns the moments of the rows.
fn rows_normed<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    form: Form,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: Tensor<T>,
) -> (Tensor<T>, Arc<[kernel::Moments<T>]>) {
    let affine = Affine::new(input, weight, bias, form);
    let n = form.sizes[2] * form.sizes[3];
    let (x, w, b) = (input.elements(), weight.map(Tensor::elements), bias.map(Tensor::elements));
    let (out, moments) = kernel::row_norm(&x, n, form.map(), form.centred, w.as_deref(), b.as_deref(), &eps.elements());
    let moments: Arc<[_]> = moments.into();
    let kept = moments.clone();
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    let out = Tensor::op_many(op, out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            return affine.gradients(g, Centred::own(&affine.formed()?, form, &eps)?);
        }
        let (x, w, g) = (affine.x.elements(), affine.weight.as_ref().map(Tensor::elements), g.elements());
        let parameters = needed[1..].contains(&true);
        let (dx, mut dw) =
            kernel::row_norm_backward([&g, &x], form.map(), form.centred, &kept, w.as_deref(), parameters);
        let db = dw.split_off(dw.len() / 2);
        Ok(affine.listed(Some(dx.array(affine.x.shape()).into()), dw, db))
    });
    (out, moments)
}
