//! Batch norm.

use ndarray::ArrayViewMutD;
use ndnn_derive::concrete;

use super::{
    Affine, Centred, Form, per_channel,
    sync::{Together, elsewhere},
};
use crate::{
    Error, Result,
    functional::options,
    kernels::{
        layout::array,
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
    let (y, moments) = batch_norm_and_moments("batch_norm", input, running, weight, bias, options)?;
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
    op: &'static str,
    input: &Tensor<T>,
    running: [Option<&Tensor<T>>; 2],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<(Tensor<T>, Option<[Vec<T>; 2]>)> {
    if input.ndim() == 1 && input.numel() == 0 {
        // If there is neither a channel nor a value, PyTorch returns the input.
        return Ok((input.clone(), None));
    }
    let form = form(op, input, running, weight, bias, options)?;
    if let ([Some(mean), Some(var)], false) = (running, options.training) {
        let eps = T::of(options.eps);
        let rstd = mapped(&var.elements(), |v| (v + eps).sqrt().recip());
        let moments = [mean.to_vec(), filled(form.sizes[2], T::ZERO), rstd];
        return Ok((channels_normed(op, input, form, moments, weight, bias, None), None));
    }
    if options.training {
        more_than_one(op, input.shape(), form.count())?;
    }
    let mut found = Statistics::of(input, form, options.eps)?;
    // An empty batch does not update the statistics.
    let trained = (options.training && form.count() > 0).then(|| found.unbiased(form.count()));
    let x = found.scaled.take().map_or_else(|| input.clone(), |(x, _)| x);
    Ok((channels_normed(op, &x, form, found.moments, weight, bias, Some(Own::Input(found.eps))), trained))
}

/// Checks the arguments of a batch norm; returns the form of the input.
pub(super) fn form<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    [running_mean, running_var]: [Option<&Tensor<T>>; 2],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<Form> {
    let shape = input.shape();
    if input.ndim() < 2 {
        return Err(Error::shape(op, format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}")));
    }
    let running = [("running_mean", running_mean), ("running_var", running_var)];
    per_channel(op, shape, running.into_iter().chain([("weight", weight), ("bias", bias)]))?;
    let least = if options.training { f64::MIN_POSITIVE } else { 0. };
    if options.eps.is_nan() || options.eps < least {
        let needed = if options.training { "above 0 in training" } else { "at least 0" };
        return Err(Error::value(op, format!("eps must be {needed}, got {}", options.eps)));
    }
    both_or_neither(op, [running_mean, running_var])?;
    room::<T>(op, &[shape[1]])?;
    Ok(Form { sizes: [shape[0], 1, shape[1], shape[2..].iter().product()], axes: [0, 3], centred: true })
}

impl Form {
    /// The number of elements per channel.
    pub(super) fn count(self) -> usize {
        self.sizes[0].saturating_mul(self.sizes[3])
    }
}

/// Checks that the variance of a training batch has a meaning.
pub(super) fn more_than_one(op: &str, shape: &[usize], count: usize) -> Result<()> {
    match count {
        1 => Err(Error::value(op, format!("training needs more than 1 value per channel, the input is {shape:?}"))),
        _ => Ok(()),
    }
}

/// What a batch is normalized with.
#[derive(Clone)]
pub(super) struct Statistics<T: Real> {
    /// For each channel the mean, its remaining error, and `1 / √(variance + ε)`.
    pub moments: [Vec<T>; 3],
    /// The biased variance.
    pub var: Vec<T>,
    /// One per channel.
    pub eps: Vec<T>,
    /// The input multiplied by one factor per channel, to which the rest refers, and the factors; only where squares would
    /// overflow or vanish.
    pub scaled: Option<(Tensor<T>, Tensor<T>)>,
}

impl<T: Real> Statistics<T> {
    /// From mean, remaining error and variance.
    pub(super) fn with([mean, rest, var]: [Vec<T>; 3], eps: Vec<T>) -> Self {
        let rstd = kernel::per_channel(&var, &eps, |v, eps| (v + eps).sqrt().recip());
        Statistics { moments: [mean, rest, rstd], var, eps, scaled: None }
    }

    pub(super) fn of(input: &Tensor<T>, form: Form, eps: f64) -> Result<Self> {
        let map = form.map();
        let found = Self::with(kernel::batch_moments(&input.elements(), map), filled(map.channels, T::of(eps)));
        let Some((x, scale)) = form.balanced_if_wild(input, &found.moments[2], eps)? else { return Ok(found) };
        let eps = mapped(&scale.elements(), |s| T::of(eps) * s * s);
        let moments = kernel::batch_moments(&x.elements(), map);
        Ok(Statistics { scaled: Some((x, scale)), ..Self::with(moments, eps) })
    }

    /// The mean and the unbiased variance of a batch with this many elements per channel.
    pub(super) fn unbiased(&self, count: usize) -> [Vec<T>; 2] {
        let unbias = T::of(count as f64 / (count as f64 - 1.));
        let scales = self.scaled.as_ref().map_or_else(|| filled(self.var.len(), T::ONE), |(_, scale)| scale.to_vec());
        let [mean, rest, _] = &self.moments;
        let mean = kernel::per_channel(mean, rest, |mean, rest| mean + rest);
        [
            kernel::per_channel(&mean, &scales, |mean, s| mean / s),
            kernel::per_channel(&self.var, &scales, |v, s| v * unbias / s / s),
        ]
    }
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

/// Whose moments normalize an input, if they depend on it.
pub(super) enum Own<T: Real> {
    /// Its own, with this ε per channel.
    Input(Vec<T>),
    /// Those of all parts of a batch.
    Parts(Together),
}

/// Normalizes channels with these means, their remaining errors, and `1 / √(variance + ε)`, which are constants if they are not
/// the input's `own`.
#[concrete]
pub(super) fn channels_normed<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    form: Form,
    moments: [Vec<T>; 3],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    own: Option<Own<T>>,
) -> Tensor<T> {
    let affine = Affine::new(input, weight, bias, form);
    let (w, b) = (weight.map(Tensor::elements), bias.map(Tensor::elements));
    let out = kernel::batch_norm(&input.elements(), form.map(), slices(&moments), w.as_deref(), b.as_deref());
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    Tensor::op_many(op, out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            let of = |v: &[T]| Tensor::from(array(&form.parameters(), v.to_vec()));
            let [mean, _, rstd] = &moments;
            return match &own {
                Some(Own::Parts(_)) => Err(elsewhere()),
                Some(Own::Input(eps)) => affine.gradients(g, Centred::own(&affine.formed()?, form, &of(eps))?),
                None => {
                    let centred = affine.formed()?.try_sub(&of(mean))?;
                    affine.gradients(g, Centred { centred, rstd: of(rstd), own: None })
                }
            };
        }
        let [mean, rest, rstd] = slices(&moments);
        let (x, w, g) = (affine.x.elements(), affine.weight.as_ref().map(Tensor::elements), g.elements());
        let sums = kernel::batch_norm_sums(&g, &x, form.map(), [mean, rest]);
        let mut dx = None;
        if needed[0] {
            let of_all;
            let own = match &own {
                None => None,
                Some(Own::Input(_)) => Some((&sums, form.count() as f64)),
                Some(Own::Parts(together)) => {
                    of_all = together.sums(&sums)?;
                    Some((&of_all.0, of_all.1))
                }
            };
            dx = Some(kernel::batch_norm_backward(&g, &x, form.map(), [mean, rest, rstd], w.as_deref(), own));
        }
        let dx = dx.map(|dx| dx.array(affine.x.shape()).into());
        let [dw, db] = kernel::batch_norm_parameters(sums, rstd);
        Ok(affine.listed(dx, dw, db))
    })
}

fn slices<T>(moments: &[Vec<T>; 3]) -> [&[T]; 3] {
    [&moments[0], &moments[1], &moments[2]]
}
