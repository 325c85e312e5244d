//! Clipping gradients by their global norm, or by value.

use crate::{
    Error, Result,
    kernels::{elementwise::map, layout::row_major},
    nn::{AnyParam, Parameters},
    tensor::{AnyTensor, Real, Tensor, no_grad},
};

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
/// If `max_norm` is negative or NaN, or a gradient is not finite: the error names the parameters, and the gradients are
/// unchanged. A norm that is too large for an `f64` is returned as infinite, but the gradients are clipped correctly.
pub fn clip_grad_norm(params: impl Parameters, max_norm: f64) -> Result<f64> {
    clip_grad_norm_p(params, max_norm, 2.)
}

/// As [`clip_grad_norm`] for another norm: `norm_type` is p, or infinity for the largest magnitude.
///
/// # Errors
/// As [`clip_grad_norm`], and if `norm_type` is not above 0.
pub fn clip_grad_norm_p(params: impl Parameters, max_norm: f64, norm_type: f64) -> Result<f64> {
    if max_norm.is_nan() || max_norm < 0. {
        return Err(Error::value("clip_grad_norm", format!("max_norm is at least 0, got {max_norm}")));
    }
    if norm_type.is_nan() || norm_type <= 0. {
        return Err(Error::value("clip_grad_norm", format!("norm_type is above 0, got {norm_type}")));
    }
    let params = params.named();
    let grads: Vec<AnyTensor> = params.iter().filter_map(|(_, p)| p.grad()).collect();
    let larger = |most: f64, x: f64| if x.abs() > most || x.is_nan() { x.abs() } else { most };
    let bad = |p: &AnyParam| p.grad().is_some_and(|grad| !fold(&grad, 0., larger).is_finite());
    let most = grads.iter().fold(0., |most, grad| fold(grad, most, larger));
    if !most.is_finite() {
        let bad: Vec<&str> = params.iter().filter(|(_, p)| bad(p)).map(|(name, _)| &**name).collect();
        return Err(Error::value(
            "clip_grad_norm",
            format!("the gradient is not finite in {}; no gradient was changed", bad.join(", ")),
        ));
    }
    // The norm is `most · parts`: powers of numbers up to 1 do not overflow.
    let parts = match norm_type {
        f64::INFINITY => 1.,
        _ => {
            let power = |x: f64| if norm_type == 2. { x * x } else { x.abs().powf(norm_type) };
            let sum: f64 = grads.iter().map(|grad| fold(grad, 0., |sum, x| sum + power(x / most))).sum();
            if norm_type == 2. { sum.sqrt() } else { sum.powf(1. / norm_type) }
        }
    };
    let total = if most == 0. { 0. } else { most * parts };
    if total + 1e-6 > max_norm {
        // In two steps, neither of which leaves the range of f64.
        let (down, scale) = if total > 1e150 { (most, max_norm / parts) } else { (1., max_norm / (total + 1e-6)) };
        change(&params, |g| g / down * scale, |g| map(g.view(), |x| (f64::from(x) / down * scale) as f32).into());
    }
    Ok(total)
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
        map(g.view(), limited).into()
    }
    change(&params.named(), |g| limit(g, clip_value), |g| limit(g, clip_value as f32));
    Ok(())
}

/// Folds the elements, as `f64`.
fn fold(grad: &AnyTensor, start: f64, f: impl Fn(f64, f64) -> f64) -> f64 {
    match grad {
        AnyTensor::F32(g) => row_major(&g.view()).iter().fold(start, |before, &x| f(before, f64::from(x))),
        AnyTensor::F64(g) => row_major(&g.view()).iter().fold(start, |before, &x| f(before, x)),
        AnyTensor::I64(_) | AnyTensor::Bool(_) => unreachable!("gradients are floats"),
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
