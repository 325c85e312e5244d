//! The norm of many tensors as one, and clipping gradients by it or by value.

use crate::{
    Error, Result,
    error::listed,
    functional::options,
    kernels::{elementwise::map, layout::row_major},
    nn::{AnyParam, Parameters},
    tensor::{AnyTensor, Real, Tensor, Tensors, no_grad},
};

options! {
    /// The options of [`get_total_norm`] and [`clip_grad_norm_with`].
    pub struct TotalNormOptions, setters total_norm_setters {
        /// The order p of the norm, of either sign, 0 or infinite; 2 by default.
        norm_type: of f64 = 2., if |p| !p.is_nan(), "the order of a norm is a number";
        /// Whether a number that is not finite is an error, as it is by default, against PyTorch.
        error_if_nonfinite: of bool = true;
    }
}

/// The p-norm of all elements of some tensors, as if they were one vector: `(Σ |x|ᵖ)^(1/p)`.
///
/// For ∞ and −∞ it is the largest and the smallest `|x|`; for 0, as in PyTorch, the number of tensors that are not all 0.
/// Without tensors it is 0.
///
/// ```
/// use ndnn::{nn::utils::{TotalNormOptions, get_total_norm}, prelude::*};
/// let weights = vec![tensor![3.0, 0.0], tensor![-4.0]];
/// assert_eq!(get_total_norm(&weights, TotalNormOptions::default())?, 5.0);
/// assert_eq!(get_total_norm(&weights, TotalNormOptions::default().norm_type(f64::INFINITY))?, 4.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If a tensor is not of floats or, with `error_if_nonfinite`, has an element that is not finite.
pub fn get_total_norm(tensors: &impl Tensors, options: TotalNormOptions) -> Result<f64> {
    let op = "get_total_norm";
    let tensors = tensors.tensors();
    if let Some(other) = tensors.iter().find(|t| !matches!(t, AnyTensor::F32(_) | AnyTensor::F64(_))) {
        return Err(Error::value(op, format!("expected tensors of floats, got one of {}", other.dtype())));
    }
    let bad: Vec<String> = (0..tensors.len()).filter(|&i| !is_finite(&tensors[i])).map(|i| i.to_string()).collect();
    if options.error_if_nonfinite && !bad.is_empty() {
        return Err(Error::value(
            op,
            format!("there are elements that are not finite in tensor {}", listed(bad.iter())),
        ));
    }
    let (size, parts) = norm(&tensors, options.norm_type);
    Ok(if size == 0. { 0. } else { size * parts })
}

/// Scales the gradients of all parameters so that their global 2-norm is at most `max_norm`; returns the norm before.
///
/// The norm is that of all gradients as one vector, as in torch.nn.utils.clip_grad_norm_.
///
/// ```
/// use ndnn::{nn::utils::clip_grad_norm, prelude::*};
/// let w = Param::new(tensor![3.0, 4.0]);
/// w.tensor().square().sum().backward()?;      // the gradient is [6, 8]
/// assert_eq!(clip_grad_norm(vec![w.clone()], 1.0)?, 10.0);
/// assert!((w.grad().unwrap().square().sum().item()? - 1.0).abs() < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `max_norm` is negative or NaN, or a gradient is not finite: the error names the first ten such parameters, and the
/// gradients are unchanged. A norm that is too large for an `f64` is returned as infinite, but the gradients are clipped correctly.
pub fn clip_grad_norm(params: impl Parameters, max_norm: f64) -> Result<f64> {
    clip_grad_norm_with(params, max_norm, TotalNormOptions::default())
}

/// As [`clip_grad_norm`], for a norm of any order, and gradients that may not be finite: without `error_if_nonfinite` they are
/// scaled all the same, as PyTorch does, by NaN if the norm is NaN and by 0 if it is infinite.
///
/// # Errors
/// As [`clip_grad_norm`].
pub fn clip_grad_norm_with(params: impl Parameters, max_norm: f64, options: TotalNormOptions) -> Result<f64> {
    let op = "clip_grad_norm";
    at_least_0(op, max_norm)?;
    let params = params.named();
    let grads: Vec<AnyTensor> = params.iter().filter_map(|(_, p)| p.grad()).collect();
    let finite = grads.iter().all(is_finite);
    if !finite && options.error_if_nonfinite {
        let bad = |p: &AnyParam| p.grad().is_some_and(|grad| !is_finite(&grad));
        let bad: Vec<&str> = params.iter().filter(|(_, p)| bad(p)).map(|(name, _)| &**name).collect();
        let what = format!("the gradient is not finite in {}; no gradient was changed", listed(bad.iter()));
        return Err(Error::value(op, what));
    }
    let (size, parts) = norm(&grads, options.norm_type);
    let total = if size == 0. { 0. } else { size * parts };
    let (down, scale) = match finite && total > 1e150 {
        false => (1., coefficient(max_norm, total)),
        true if max_norm >= total => (1., 1.),
        // In two steps, neither of which leaves the range of f64.
        true => (size, max_norm / parts),
    };
    scale_all(&params, down, scale);
    Ok(total)
}

/// Scales the gradients of all parameters by `min(max_norm / (total_norm + 1e-6), 1)`, for a norm that is known:
/// [`clip_grad_norm`] is [`get_total_norm`] of the gradients and this.
///
/// ```
/// use ndnn::{nn::utils::clip_grads_with_norm, prelude::*};
/// let w = Param::new(tensor![3.0, 4.0]);
/// w.tensor().square().sum().backward()?;      // the gradient is [6, 8]
/// clip_grads_with_norm(vec![w.clone()], 1.0, 2.0)?;
/// assert!((w.grad().unwrap() - tensor![3.0, 4.0]).abs().max()?.item()? < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `max_norm` is negative or NaN.
pub fn clip_grads_with_norm(params: impl Parameters, max_norm: f64, total_norm: f64) -> Result<()> {
    at_least_0("clip_grads_with_norm", max_norm)?;
    scale_all(&params.named(), 1., coefficient(max_norm, total_norm));
    Ok(())
}

fn at_least_0(op: &str, max_norm: f64) -> Result<()> {
    match max_norm >= 0. {
        true => Ok(()),
        false => Err(Error::value(op, format!("max_norm is at least 0, got {max_norm}"))),
    }
}

/// At most 1; NaN if the norm is.
fn coefficient(max_norm: f64, total_norm: f64) -> f64 {
    let coefficient = max_norm / (total_norm + 1e-6);
    if coefficient > 1. { 1. } else { coefficient }
}

fn scale_all(params: &[(String, AnyParam)], down: f64, scale: f64) {
    if (down, scale) != (1., 1.) {
        change(params, |g| g / down * scale, |g| map(g.data(), |x| (f64::from(x) / down * scale) as f32).into());
    }
}

/// The norm as a product of two numbers, a magnitude among the elements and the norm of the elements divided by it: powers of
/// such quotients do not overflow.
fn norm(tensors: &[AnyTensor], p: f64) -> (f64, f64) {
    let larger = |most: f64, x: f64| if x.abs() > most || x.is_nan() { x.abs() } else { most };
    let smaller = |least: f64, x: f64| if x.abs() < least || x.is_nan() { x.abs() } else { least };
    if p == 0. {
        let not_0 = |t: &&AnyTensor| fold(t, 0., |n, x| if x == 0. { n } else { 1. }) > 0.;
        return (1., tensors.iter().filter(not_0).count() as f64);
    }
    let size = match p > 0. {
        true => tensors.iter().fold(0., |most, t| fold(t, most, larger)),
        false if tensors.iter().all(|t| t.shape().contains(&0)) => 0.,
        false => tensors.iter().fold(f64::INFINITY, |least, t| fold(t, least, smaller)),
    };
    if p.is_infinite() || size == 0. || !size.is_finite() {
        return (size, 1.);
    }
    let power = |x: f64| if p == 2. { x * x } else { x.abs().powf(p) };
    let sum: f64 = tensors.iter().map(|t| fold(t, 0., |sum, x| sum + power(x / size))).sum();
    (size, if p == 2. { sum.sqrt() } else { sum.powf(1. / p) })
}

fn is_finite(tensor: &AnyTensor) -> bool {
    fold(tensor, 0., |worst, x| if x.is_finite() { worst } else { x }) == 0.
}

/// Limits every element of every gradient to ±`clip_value`.
///
/// # Errors
/// If `clip_value` is negative or NaN.
pub fn clip_grad_value(params: impl Parameters, clip_value: f64) -> Result<()> {
    if clip_value.is_nan() || clip_value < 0. {
        return Err(Error::value("clip_grad_value", format!("clip_value is at least 0, got {clip_value}")));
    }
    fn limit<T: Real>(g: &Tensor<T>, to: T) -> Tensor<T> {
        // Not min and max, which would turn NaN into a number.
        let limited = |x: T| match () {
            () if x > to => to,
            () if x < -to => -to,
            () => x,
        };
        map(g.data(), limited).into()
    }
    change(&params.named(), |g| limit(g, clip_value), |g| limit(g, clip_value as f32));
    Ok(())
}

/// Folds the elements, as `f64`.
fn fold(grad: &AnyTensor, start: f64, f: impl Fn(f64, f64) -> f64) -> f64 {
    match grad {
        AnyTensor::F32(g) => row_major(&g.view()).iter().fold(start, |before, &x| f(before, f64::from(x))),
        AnyTensor::F64(g) => row_major(&g.view()).iter().fold(start, |before, &x| f(before, x)),
        AnyTensor::I64(_) | AnyTensor::Bool(_) => unreachable!("floats"),
    }
}

fn change(
    params: &[(String, AnyParam)],
    f64: impl Fn(&Tensor<f64>) -> Tensor<f64>,
    f32: impl Fn(&Tensor<f32>) -> Tensor<f32>,
) {
    no_grad(|| {
        for (_, param) in params {
            match param {
                AnyParam::F32(p) => p.set_grad(p.grad().map(|g| f32(&g))),
                AnyParam::F64(p) => p.set_grad(p.grad().map(|g| f64(&g))),
            }
            .expect("the same shape");
        }
    });
}
