//! Normalisations.

use ndnn::{
    Real,
    functional::{
        self as F, BatchNormOptions, InstanceNormOptions, LocalResponseNormOptions, NormalizeOptions, PyNumber,
    },
};

use crate::{
    args::Args,
    targets::{Called, dims::py_number, out},
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "batch_norm" => {
            let (mut mean, mut var) = (a.opt_detached(1, "running_mean")?, a.opt_detached(2, "running_var")?);
            let options = BatchNormOptions::default()
                .training(a.bool_or(5, "training", false)?)
                .momentum(a.float_or(6, "momentum", 0.1)?)
                .eps(a.float_or(7, "eps", 1e-5)?);
            let (weight, bias) = (a.opt_tensor(3, "weight")?, a.opt_tensor(4, "bias")?);
            let y = F::batch_norm(
                &a.tensor(0, "input")?,
                mean.as_mut(),
                var.as_mut(),
                weight.as_ref(),
                bias.as_ref(),
                options,
            )?;
            mean.into_iter().for_each(|m| a.report_mutated(1, "running_mean", m));
            var.into_iter().for_each(|v| a.report_mutated(2, "running_var", v));
            out![y]
        }
        "group_norm" => {
            let (weight, bias) = (a.opt_tensor(2, "weight")?, a.opt_tensor(3, "bias")?);
            let (x, groups) = (a.tensor(0, "input")?, a.size(1, "num_groups")?);
            out![F::group_norm(&x, groups, weight.as_ref(), bias.as_ref(), a.float_or(4, "eps", 1e-5)?)?]
        }
        "instance_norm" => {
            let (mut mean, mut var) = (a.opt_detached(1, "running_mean")?, a.opt_detached(2, "running_var")?);
            let options = InstanceNormOptions::default()
                .use_input_stats(a.bool_or(5, "use_input_stats", true)?)
                .momentum(a.float_or(6, "momentum", 0.1)?)
                .eps(a.float_or(7, "eps", 1e-5)?);
            let (x, weight, bias) = (a.tensor(0, "input")?, a.opt_tensor(3, "weight")?, a.opt_tensor(4, "bias")?);
            let y = F::instance_norm(&x, mean.as_mut(), var.as_mut(), weight.as_ref(), bias.as_ref(), options)?;
            mean.into_iter().for_each(|m| a.report_mutated(1, "running_mean", m));
            var.into_iter().for_each(|v| a.report_mutated(2, "running_var", v));
            out![y]
        }
        "local_response_norm" => {
            let options = LocalResponseNormOptions::default().alpha(a.float_or(2, "alpha", 1e-4)?);
            let options = options.beta(a.float_or(3, "beta", 0.75)?).k(py_number(a, 4, "k", PyNumber::float(1.))?);
            out![F::local_response_norm(&a.tensor(0, "input")?, a.size(1, "size")?, options)?]
        }
        "normalize" => {
            let options = NormalizeOptions::default().p(a.float_or(1, "p", 2.)?).dim(a.int_or(2, "dim", 1)?);
            a.ignore(4, "out");
            out![F::normalize(&a.tensor(0, "input")?, options.eps(a.float_or(3, "eps", 1e-12)?))?]
        }
        "rms_norm" => {
            let (x, shape, weight) =
                (a.tensor(0, "input")?, a.sizes(1, "normalized_shape")?, a.opt_tensor(2, "weight")?);
            out![F::rms_norm(&x, &shape, weight.as_ref(), a.opt_float(3, "eps")?)?]
        }
        "layer_norm" => {
            let (weight, bias) = (a.opt_tensor(2, "weight")?, a.opt_tensor(3, "bias")?);
            let shape = a.sizes(1, "normalized_shape")?;
            out![F::layer_norm(
                &a.tensor(0, "input")?,
                &shape,
                weight.as_ref(),
                bias.as_ref(),
                a.float_or(4, "eps", 1e-5)?
            )?]
        }
        _ => return Ok(None),
    }))
}
