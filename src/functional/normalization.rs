//! Normalizations: batch, layer and group norm.

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
/// If the shapes do not match, `eps` is negative, or in training `eps` is 0 or there is only one value per channel.
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
    room::<T>("batch_norm", &[channels])?;
    let form = Form { sizes: [shape[0], 1, channels, shape[2..].iter().product()], axes: [0, 3] };
    let eps = T::of(options.eps);
    if let (Some(mean), Some(var), false) = (running_mean, running_var, options.training) {
        let rstd = collected(var.view().iter().map(|&v| (v + eps).sqrt().recip()));
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
        let rstd = collected(var.iter().zip(eps).map(|(&v, &eps)| (v + eps).sqrt().recip()));
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
        let mean = collected((0..channels).map(|c| (moments[0][c] + moments[1][c]) / scales[c]));
        [mean, collected(var.iter().zip(&scales).map(|(&v, &s)| v * unbias / s / s))]
    });
    Ok((channels_normed(&x, form, moments, weight, bias, Some(eps)), trained))
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
                Some(eps) => Centred::own(x, form.axes, &of(eps)),
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
    let shape = input.shape();
    if normalized_shape.is_empty() || !shape.ends_with(normalized_shape) {
        let what =
            format!("normalized_shape {normalized_shape:?} is to be the input's last axes, the input is {shape:?}");
        return Err(Error::shape("layer_norm", what));
    }
    for (name, tensor) in [("weight", weight), ("bias", bias)] {
        if let Some(t) = tensor.filter(|t| t.shape() != normalized_shape) {
            let what = format!("{name} is {:?}, normalized_shape is {normalized_shape:?}", t.shape());
            return Err(Error::shape("layer_norm", what));
        }
    }
    let rows = shape[..shape.len() - normalized_shape.len()].iter().product();
    let form = Form { sizes: [rows, 1, normalized_shape.iter().product(), 1], axes: [2, 3] };
    row_norm("layer_norm", input, form, weight, bias, eps)
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
    let [n, channels] = *shape
        .first_chunk()
        .ok_or_else(|| Error::shape(OP, format!("needs an input (N, C, *) of 2 axes or more, got {shape:?}")))?;
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
    row_norm(OP, input, Form { sizes: [n, num_groups, runs, len], axes: [2, 3] }, weight, bias, eps)
}

/// The norm over rows, one per `(outer, group)`.
#[concrete]
fn row_norm<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    form: Form,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: f64,
) -> Result<Tensor<T>> {
    let one = Tensor::scalar(T::of(eps));
    let (out, moments) = rows_normed(op, input, form, weight, bias, one.clone());
    let rstd = collected(moments.iter().map(|m| m.rstd));
    let Some((scaled, scale)) = form.balanced_if_wild(input, &rstd, eps)? else { return Ok(out) };
    Ok(rows_normed(op, &scaled, form, weight, bias, one * &scale * scale).0)
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
    let (out, moments) =
        affine.given(bias, |x, w, b| kernel::row_norm(x, n, form.map(), w, b, &row_major(&eps.view())));
    let moments: Arc<[_]> = moments.into();
    let kept = moments.clone();
    let inputs: Vec<_> = [Some(input), weight, bias].into_iter().flatten().collect();
    let out = Tensor::op_many(op, out.array(input.shape()), &inputs, move |g, needed| {
        if grad_enabled() {
            return affine.gradients(g, |x| Centred::own(x, form.axes, &eps));
        }
        let (dx, mut dw) = affine.given(Some(g), |x, w, g| {
            let (g, parameters) = (g.expect("a gradient"), needed[1..].contains(&true));
            kernel::row_norm_backward(g, x, form.map(), &kept, w, parameters)
        });
        let db = dw.split_off(dw.len() / 2);
        Ok(affine.listed(Some(dx.array(affine.x.shape()).into()), dw, db))
    });
    (out, moments)
}

// ------------------------------------------------------------------------------------------------- what norms share

/// Checks that each of these tensors has one number per channel of an input `(N, C, *)`.
fn per_channel<'a, T: Real>(
    op: &str,
    shape: &[usize],
    tensors: impl IntoIterator<Item = (&'static str, Option<&'a Tensor<T>>)>,
) -> Result<()> {
    let channels = shape[1];
    for (name, tensor) in tensors {
        if let Some(t) = tensor.filter(|t| t.shape() != [channels]) {
            let what = format!("the input {shape:?} has {channels} channels on axis 1, {name} is {:?}", t.shape());
            return Err(Error::shape(op, what));
        }
    }
    Ok(())
}

/// The input as a norm sees it: `[outer, groups, runs, len]`, normalized over `axes`. Each of the `groups · runs`
/// channels has a weight and a bias.
#[derive(Clone, Copy)]
struct Form {
    sizes: [usize; 4],
    axes: [isize; 2],
}

impl Form {
    /// Which weight and bias an element has.
    fn map(self) -> kernel::Map {
        let [_, groups, runs, len] = self.sizes;
        kernel::Map { channels: groups * runs, len }
    }

    /// The shape in which weight and bias broadcast with the input's form.
    fn parameters(self) -> [usize; 4] {
        let [_, groups, runs, _] = self.sizes;
        [1, groups, runs, 1]
    }

    fn of<T: Real>(self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.reshape(self.sizes.map(|n| n as isize))
    }

    /// The input multiplied by one factor per group of elements that are normalized together, and the factors. They
    /// differ from 1 for groups in which the square of a deviation overflows, or underflows while `eps` is tiny, as
    /// their `rstd` shows. `eps` must be multiplied by the square of the factor. `None` if no group needs this.
    fn balanced_if_wild<T: Real>(
        self,
        input: &Tensor<T>,
        rstd: &[T],
        eps: f64,
    ) -> Result<Option<(Tensor<T>, Tensor<T>)>> {
        let limit = faint::<T>().sqrt().recip();
        let wild = |rstd: T| !(rstd > T::ZERO && rstd < limit);
        if !rstd.iter().any(|&rstd| wild(rstd)) {
            return Ok(None);
        }
        let x = self.of(input)?;
        let axes = self.axes.map(|axis| axis as usize);
        let Some(scale) = x.balance(&axes, T::of(eps.sqrt())) else { return Ok(None) };
        let only_wild = |(&scale, &rstd): (&T, &T)| if wild(rstd) { scale } else { T::ONE };
        let scale: Tensor<T> = array(scale.shape(), collected(scale.view().iter().zip(rstd).map(only_wild))).into();
        Ok(Some((x.try_mul(&scale)?.reshape(input.shape())?, scale)))
    }
}

/// What the backward pass of a norm keeps of its inputs.
struct Affine<T: Real> {
    x: Tensor<T>,
    weight: Option<Tensor<T>>,
    /// The shape of the bias, if there is one.
    bias: Option<Vec<usize>>,
    form: Form,
}

/// `x − mean` and `1 / √(variance + ε)`, as tensors that can be differentiated.
struct Centred<T: Real> {
    centred: Tensor<T>,
    rstd: Tensor<T>,
    /// The axes over which the moments were taken, if they are those of the input.
    own: Option<[isize; 2]>,
}

impl<T: Real> Centred<T> {
    fn own(x: &Tensor<T>, axes: [isize; 2], eps: &Tensor<T>) -> Result<Self> {
        let centred = x.centred(&axes)?;
        let rstd = centred.square().mean_dim(axes, true)?.try_add(eps)?.rsqrt();
        Ok(Centred { centred, rstd, own: Some(axes) })
    }
}

impl<T: Real> Affine<T> {
    fn new(x: &Tensor<T>, weight: Option<&Tensor<T>>, bias: Option<&Tensor<T>>, form: Form) -> Self {
        Affine { x: x.clone(), weight: weight.cloned(), bias: bias.map(|b| b.shape().to_vec()), form }
    }

    /// Calls a kernel with the input, the weight and another tensor, all in row-major order.
    fn given<R>(&self, other: Option<&Tensor<T>>, f: impl FnOnce(&[T], Option<&[T]>, Option<&[T]>) -> R) -> R {
        let (x, w, o) = (self.x.view(), self.weight.as_ref().map(Tensor::view), other.map(Tensor::view));
        let (w, o) = (w.as_ref().map(row_major), o.as_ref().map(row_major));
        f(&row_major(&x), w.as_deref(), o.as_deref())
    }

    /// The gradients of the inputs that exist; an empty vector means that a parameter's gradient was not computed.
    fn listed(&self, dx: Option<Tensor<T>>, dw: Vec<T>, db: Vec<T>) -> Vec<Option<Tensor<T>>> {
        let channels = self.form.map().channels;
        let of = |d: Vec<T>, shape: &[usize]| (d.len() == channels).then(|| array(shape, d).into());
        let weight = self.weight.as_ref().map(|w| of(dw, w.shape()));
        let bias = self.bias.as_ref().map(|shape| of(db, shape));
        [Some(dx), weight, bias].into_iter().flatten().collect()
    }

    /// The gradients as tensors, which can be differentiated in turn.
    fn gradients(
        &self,
        g: &Tensor<T>,
        moments: impl FnOnce(&Tensor<T>) -> Result<Centred<T>>,
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let along = self.form.parameters();
        let g = self.form.of(g)?;
        let Centred { centred, rstd, own } = moments(&self.form.of(&self.x)?)?;
        let normal = centred.try_mul(&rstd)?;
        let scaled = match &self.weight {
            Some(w) => g.try_mul(&w.reshape(along.map(|n| n as isize))?)?,
            None => g.clone(),
        };
        let dx = match own {
            Some(axes) => {
                let mean = |t: &Tensor<T>| t.mean_dim(axes, true);
                let along = normal.try_mul(&mean(&scaled.try_mul(&normal)?)?)?;
                scaled.try_sub(&mean(&scaled)?)?.try_sub(&along)?.try_mul(&rstd)?
            }
            None => scaled.try_mul(&rstd)?,
        };
        let mut grads = vec![Some(dx.reshape(self.x.shape())?)];
        let per_parameter = |t: &Tensor<T>, shape: &[usize]| t.sum_to(&along)?.reshape(shape);
        if let Some(w) = &self.weight {
            grads.push(Some(per_parameter(&g.try_mul(&normal)?, w.shape())?));
        }
        if let Some(shape) = &self.bias {
            grads.push(Some(per_parameter(&g, shape)?));
        }
        Ok(grads)
    }
}
