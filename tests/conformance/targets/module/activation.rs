//! Activations.

use ndnn::{
    Real,
    functional::PyNumber,
    nn::{
        CELU, Dtype, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax,
        Mish, PReLU, RReLU, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmax2d, Softmin, Softplus, Softshrink,
        Softsign, Tanh, Tanhshrink, Threshold,
    },
};

use super::{Built, layer};
use crate::{
    args::Args,
    targets::{
        dims::{py_number, refused},
        functional::activation::approximate,
    },
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    let inplace = |index| a.bool_or(index, "inplace", false);
    let number = |index, name, default| py_number(a, index, name, PyNumber::float(default));
    Ok(Some(match target {
        "CELU" => {
            let alpha = number(0, "alpha", 1.)?;
            layer(refused(|| CELU::new(alpha))?.inplace(inplace(1)?))
        }
        "ELU" => layer(ELU::new(number(0, "alpha", 1.)?).inplace(inplace(1)?)),
        "GELU" => layer(GELU.approximate(approximate(a, 0)?)),
        "GLU" => layer(GLU::new(a.int_or(0, "dim", -1)?)),
        "Hardshrink" => layer(Hardshrink::new(number(0, "lambd", 0.5)?)),
        "Hardsigmoid" => layer(Hardsigmoid.inplace(inplace(0)?)),
        "Hardswish" => layer(Hardswish.inplace(inplace(0)?)),
        "Hardtanh" => {
            let (low, high) = (number(0, "min_val", -1.)?, number(1, "max_val", 1.)?);
            layer(refused(|| Hardtanh::new(low, high))?.inplace(inplace(2)?))
        }
        "LeakyReLU" => layer(LeakyReLU::new(number(0, "negative_slope", 0.01)?).inplace(inplace(1)?)),
        "LogSigmoid" => layer(LogSigmoid),
        "LogSoftmax" => layer(LogSoftmax::new(a.int(0, "dim")?)),
        "Mish" => layer(Mish.inplace(inplace(0)?)),
        "PReLU" => {
            let (n, init) = (a.size_or(0, "num_parameters", 1)?, a.float_or(1, "init", 0.25)?);
            layer(PReLU::new().num_parameters(n).init(init).dtype::<T>())
        }
        "RReLU" => {
            let (lower, upper) = (number(0, "lower", 1. / 8.)?, number(1, "upper", 1. / 3.)?);
            layer(refused(|| RReLU::new(lower, upper))?.inplace(inplace(2)?))
        }
        "ReLU" => layer(ReLU.inplace(inplace(0)?)),
        "ReLU6" => layer(ReLU6.inplace(inplace(0)?)),
        "SELU" => layer(SELU.inplace(inplace(0)?)),
        "SiLU" => layer(SiLU.inplace(inplace(0)?)),
        "Sigmoid" => layer(Sigmoid),
        "Softmax" => layer(Softmax::new(a.int(0, "dim")?)),
        "Softmax2d" => layer(Softmax2d),
        "Softmin" => layer(Softmin::new(a.int(0, "dim")?)),
        "Softplus" => layer(Softplus::new(number(0, "beta", 1.)?, number(1, "threshold", 20.)?)),
        "Softshrink" => {
            let lambd = number(0, "lambd", 0.5)?;
            layer(refused(|| Softshrink::new(lambd))?)
        }
        "Softsign" => layer(Softsign),
        "Tanh" => layer(Tanh),
        "Tanhshrink" => layer(Tanhshrink),
        "Threshold" => layer(Threshold::new(number(0, "threshold", 0.)?, number(1, "value", 0.)?).inplace(inplace(2)?)),
        _ => return Ok(None),
    }))
}
