//! Batch norm.

use ndarray::ArrayViewMutD;
use ndnn_derive::concrete;

use super::{Affine, Centred, Form, per_channel};
use crate::{
    Error, Result,
    functional::options,
    kernels::{
        layout::{array, row_major},
        memory::{filled, mapped},
        normalization as kernel,
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
};

options! {
    /// The options of [`batch_norm`].
    pub struct BatchNormOptions, setters batch_norm_setters {
        /// Whether the statistics of the batch are used, and the running ones updated; `false` by default.
        training: of bool = false;
        /// The weight of the batch's statistics in the running ones; 0.1 by default.
        momentum: of f64 = 0.1;
        /// Added to the variance; 1e-5 by default.
        eps: of f64 = 1e-5;
    }
}

/// `(x − E[x]) / √(Var[x] + ε) · γ + β`, with statistics over every axis but the second.
///
/// `input` is `(N, C, *)`; `weight` γ, `bias` β and the running statistics are `(C)`. In training (and if there are no
/// running statistics) mean and biased variance are those of the batch, and the running statistics become `(1 −
/// momentum) · running + momentum · batch`, with the unbiased variance; otherwise the running statistics are used. As
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
/// If the shapes do not match, only one of the running statistics is given, `eps` is negative, or in training `eps` is 0 or
/// there is only one value per channel.
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
    move_running([running_mean, running_var], moments, options.momentum);
    Ok(y)
}

/// Moves the running statistics that exist towards those of the batch, if it has any.
pub(super) fn move_running<T: Real>(running: [Option<&mut Tensor<T>>; 2], batch: Option<[Vec<T>; 2]>, momentum: f64) {
    for (running, batch) in running.into_iter().zip(batch.iter().flatten()) {
        if let Some(running) = running {
            let mut moved = running.detach().into_array();
            towards(moved.view_mut(), batch, momentum);
            *running = moved.into();
        }
    }
}

/// As [`batch_norm`], but leaves the running statistics to the caller: it also returns mean and unbiased variance of a
/// training batch.
#[concrete]
pub(crate) fn batch_norm_and_moments<T: Real>(
    input: &Tensor<T>,
    running: [Option<&Tensor<T>>; 2],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<(Tensor<T>, Option<[Vec<T>; 2]>)> {
    let ([running_mean, running_var], shape) = (running, input.shape());
    if input.ndim() == 1 && input.numel() == 0 {
        // If there is neither a channel nor a value, PyTorch returns the input.
        return Ok((input.clone(), None));
    }
    if input.ndim() < 2 {
        return Err(Error::shape("batch_norm", format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}")));
    }
    let channels = shape[1];
    let running = [("running_mean", running_mean), ("running_var", running_var)];
    per_channel("batch_norm", shape, running.into_iter().chain([("weight", weight), ("bias", bias)]))?;
    let least = if options.training { f64::MIN_POSITIVE } else { 0. };
    if options.eps.is_nan() || options.eps < least {
        let needed = if options.training { "above 0 in training" } else { "at least 0" };
        return Err(Error::value("batch_norm", format!("eps must be {needed}, got {}", options.eps)));
    }
    both_or_neither("batch_norm", [running_mean, running_var])?;
    room::<T>("batch_norm", &[channels])?;
    let form = Form { sizes: [shape[0], 1, channels, shape[2..].iter().product()], axes: [0, 3], centred: true };
    let eps = T::of(options.eps);
    if let (Some(mean), Some(var), false) = (running_mean, running_var, options.training) {
        let rstd = mapped(&row_major(&var.view()), |v| (v + eps).sqrt().recip());
        let moments = [mean.to_vec(), filled(channels, T::ZERO), rstd];
        return Ok((channels_normed(input, form, moments, weight, bias, None), None));
    }
    let count = input.numel() / channels.max(1);
    let values = shape[0].checked_mul(form.sizes[3]);
    if options.training && values == Some(1) {
        let what = format!("training needs more than 1 value per channel, the input is {shape:?}");
        return Err(Error::value("batch_norm", what));
    }
    let (mut x, mut eps, mut scales) = (input.clone(), filled(channels, eps), filled(channels, T::ONE));
    let of = |x: &Tensor<T>, eps: &[T]| {
        let [mean, rest, var] = kernel::batch_moments(&row_major(&x.view()), form.map());
        let rstd = kernel::per_channel(&var, eps, |v, eps| (v + eps).sqrt().recip());
        ([mean, rest, rstd], var)
    };
    let (mut moments, mut var) = of(&x, &eps);
    if let Some((scaled, scale)) = form.balanced_if_wild(input, &moments[2], options.eps)? {
        (x, scales) = (scaled, scale.to_vec());
        eps.iter_mut().zip(&scales).for_each(|(eps, &s)| *eps = *eps * s * s);
        (moments, var) = of(&x, &eps);
    }
    // An empty batch does not update the statistics.
    let trained = (options.training && count > 0).then(|| {
        let unbias = T::of(count as f64 / (count as f64 - 1.));
        let mean = kernel::per_channel(&moments[0], &moments[1], |mean, rest| mean + rest);
        [
            kernel::per_channel(&mean, &scales, |mean, s| mean / s),
            kernel::per_channel(&var, &scales, |v, s| v * unbias / s / s),
        ]
    });
    Ok((channels_normed(&x, form, moments, weight, bias, Some(eps)), trained))
}

/// Checks that both running statistics are given, or none.
pub(super) fn both_or_neither<T: Real>(op: &str, running: [Option<&Tensor<T>>; 2]) -> Result<()> {
    match running {
        [Some(_), Some(_)] | [None, None] => Ok(()),
        _ => Err(Error::value(op, "running_mean and running_var must both be given, or neither of them")),
    }
}

/// Moves a running statistic towards that of the batch.
pub(crate) fn towards<T: Real>(mut running: ArrayViewMutD<'_, T>, batch: &[T], momentum: f64) {
    let (keep, momentum) = (T::of(1. - momentum), T::of(momentum));
    // A factor of 0 gives 0, even for an infinity.
    let part = |x: T, factor: T| if factor == T::ZERO { T::ZERO } else { x * factor };
    running.iter_mut().zip(batch).for_each(|(r, &b)| *r = part(*r, keep) + part(b, momentum));
}

/// Normalizes channels with these means, their remaining errors, and `1 / √(variance + ε)`. If ε is given, one per
/// channel, these are the moments of the input; otherwise they are constants.
fn channels_normed<T: Real>(
    input: &Tensor<T>,
    form: Form,
    moments: [Vec<T>; 3],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    own_eps: Option<Vec<T>>,
) -> Tensor<T> {
    let affine = Affine::new(input, weight, bias, form);
    let out = affine.given(bias, |x, w, b| kernel::batch_norm(x, form.map(), slices(&moments), w, b));
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    Tensor::op_many("batch_norm", out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            let of = |v: &[T]| Tensor::from(array(&form.parameters(), v.to_vec()));
            let [mean, _, rstd] = &moments;
            return affine.gradients(g, |x| match &own_eps {
                Some(eps) => Centred::own(x, form, &of(eps)),
                None => Ok(Centred { centred: x.try_sub(&of(mean))?, rstd: of(rstd), own: None }),
            });
        }
        let (dx, [dw, db]) = affine.given(Some(g), |x, w, g| {
            let (g, own) = (g.expect("a gradient"), own_eps.is_some());
            kernel::batch_norm_backward(g, x, form.map(), slices(&moments), w, own, needed[0])
        });
        Ok(affine.listed(dx.map(|dx| dx.array(affine.x.shape()).into()), dw, db))
    })
}

fn slices<T>(moments: &[Vec<T>; 3]) -> [&[T]; 3] {
    moments.each_ref().map(Vec::as_slice)
}
