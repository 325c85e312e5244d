//! Activations.

use ndnn::{
    DType, Real, Result, Tensor,
    functional::{self as F, GELUApproximate},
};

use crate::{
    args::{Args, KW},
    targets::{Called, out},
};

const TARGETS: &[&str] = &[
    "celu",
    "elu",
    "gelu",
    "glu",
    "gumbel_softmax",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "log_softmax",
    "logsigmoid",
    "mish",
    "prelu",
    "relu",
    "relu6",
    "rrelu",
    "selu",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softshrink",
    "softsign",
    "tanh",
    "tanhshrink",
    "threshold",
];

/// PyTorch's name for an approximation of gelu.
pub fn approximate<T: Real>(a: &Args<T>, index: usize) -> Result<GELUApproximate> {
    a.str_or(index, "approximate", "none")?.parse()
}

/// A function along an axis, in the requested element type.
fn along<T: Real>(
    a: &Args<T>,
    single: fn(&Tensor<f32>, isize) -> Result<Tensor<f32>>,
    double: fn(&Tensor<f64>, isize) -> Result<Tensor<f64>>,
) -> Called {
    let x = match a.tensor_dtype(0, "input") {
        Some(DType::I64) => a.long(0, "input")?.cast(),
        _ => a.tensor(0, "input")?,
    };
    // PyTorch's choice where it is left out, which ndnn does not make.
    let dim = a.int_or(1, "dim", if matches!(x.ndim(), 0 | 1 | 3) { 0 } else { 1 })?;
    a.ignore(2, "_stacklevel");
    Ok(Some(match a.dtype(3, "dtype")?.unwrap_or(T::DTYPE) {
        DType::F64 => out![double(&x.cast(), dim)?],
        _ => out![single(&x.cast(), dim)?],
    }))
}

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    if TARGETS.contains(&target) {
        a.ignore(KW, "inplace");
    }
    let x = || a.tensor(0, "input");
    Ok(Some(match target {
        "celu" => out![F::celu(&x()?, a.float_or(1, "alpha", 1.)?)?],
        "elu" => out![F::elu(&x()?, a.float_or(1, "alpha", 1.)?)],
        "gelu" => out![F::gelu(&x()?, approximate(a, KW)?)],
        "glu" => out![F::glu(&x()?, a.int_or(1, "dim", -1)?)?],
        "gumbel_softmax" => {
            a.ignore(3, "eps");
            let (tau, hard) = (a.float_or(1, "tau", 1.)?, a.bool_or(2, "hard", false)?);
            out![F::gumbel_softmax(&a.tensor(0, "logits")?, tau, hard, a.int_or(4, "dim", -1)?)?]
        }
        "hardshrink" => out![F::hardshrink(&x()?, a.float_or(1, "lambd", 0.5)?)],
        "hardsigmoid" => out![F::hardsigmoid(&x()?)],
        "hardswish" => out![F::hardswish(&x()?)],
        "hardtanh" => out![F::hardtanh(&x()?, a.float_or(1, "min_val", -1.)?, a.float_or(2, "max_val", 1.)?)?],
        "leaky_relu" => out![F::leaky_relu(&x()?, a.float_or(1, "negative_slope", 0.01)?)],
        "log_softmax" => return along(a, F::log_softmax, F::log_softmax),
        "logsigmoid" => out![F::logsigmoid(&x()?)],
        "mish" => out![F::mish(&x()?)],
        "prelu" => out![F::prelu(&x()?, &a.tensor(1, "weight")?)?],
        "relu" => out![F::relu(&x()?)],
        "relu6" => out![F::relu6(&x()?)],
        "rrelu" => {
            let (lower, upper) = (a.float_or(1, "lower", 1. / 8.)?, a.float_or(2, "upper", 1. / 3.)?);
            out![F::rrelu(&x()?, lower, upper, a.bool_or(3, "training", false)?)?]
        }
        "selu" => out![F::selu(&x()?)],
        "sigmoid" => out![F::sigmoid(&x()?)],
        "silu" => out![F::silu(&x()?)],
        "softmax" => return along(a, F::softmax, F::softmax),
        "softmin" => return along(a, F::softmin, F::softmin),
        "softplus" => out![F::softplus(&x()?, a.float_or(1, "beta", 1.)?, a.float_or(2, "threshold", 20.)?)],
        "softshrink" => out![F::softshrink(&x()?, a.float_or(1, "lambd", 0.5)?)?],
        "softsign" => out![F::softsign(&x()?)],
        "tanh" => out![F::tanh(&x()?)],
        "tanhshrink" => out![F::tanhshrink(&x()?)],
        "threshold" => out![F::threshold(&x()?, a.float(1, "threshold")?, a.float(2, "value")?)],
        _ => return Ok(None),
    }))
}
