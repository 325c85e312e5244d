//! Clipping gradients by their global norm, or by value.

use crate::{
    Error, Result,
    kernels::{elementwise::map, index::row_major},
    nn::{AnyParam, Parameters},
    tensor::{AnyTensor, Real, Tensor, no_grad},
};

/// Scales the gradients of all parameters so that their global 2-norm is at most `max_norm`; answers the norm before.
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
/// If `max_norm` is negative or NaN, or a gradient is not finite: the error names the parameters, and the gradients stay
/// as they were.
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
    let norms: Vec<f64> = params.iter().map(|(_, p)| p.grad().map_or(0., |g| norm(&g, norm_type))).collect();
    let total = gather(norms.iter().copied(), norm_type);
    if !total.is_finite() {
        let bad: Vec<&str> =
            params.iter().zip(&norms).filter(|(_, n)| !n.is_finite()).map(|((name, _), _)| &**name).collect();
        return Err(Error::value(
            "clip_grad_norm",
            format!("the gradient is not finite in {}; no gradient was changed", bad.join(", ")),
        ));
    }
    let scale = (max_norm / (total + 1e-6)).min(1.);
    if scale < 1. {
        change(&params, |g| g * scale, |g| g * scale as f32);
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
        // Not min and max, which would make a number of a NaN.
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

/// The p-norm of one gradient, summed in f64.
fn norm(grad: &AnyTensor, p: f64) -> f64 {
    match grad {
        AnyTensor::F32(g) => gather(row_major(&g.view()).iter().map(|&x| f64::from(x)), p),
        AnyTensor::F64(g) => gather(row_major(&g.view()).iter().copied(), p),
        AnyTensor::I64(_) | AnyTensor::Bool(_) => unreachable!("gradients are floats"),
    }
}

/// The p-norm of some numbers, or of the norms of parts of a vector.
fn gather(values: impl Iterator<Item = f64>, p: f64) -> f64 {
    match p {
        2. => values.map(|x| x * x).sum::<f64>().sqrt(),
        f64::INFINITY => values.fold(0., |most, x| if x.is_nan() || x.abs() > most { x.abs() } else { most }),
        _ => values.map(|x| x.abs().powf(p)).sum::<f64>().powf(1. / p),
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
