//! Normalisations.

use ndnn::{
    Real,
    functional::{self as F, BatchNormOptions},
};

use crate::{
    args::Args,
    targets::{Called, out},
};

pub const BUILT: &[&str] = &["batch_norm", "group_norm", "layer_norm"];

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
