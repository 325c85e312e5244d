//! Losses.

use ndnn::{
    DType, Real, Result,
    functional::{self as F, Reduction},
};

use crate::{
    args::Args,
    targets::{Called, dims::refused, out},
};

pub const BUILT: &[&str] = &[
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "huber_loss",
    "l1_loss",
    "margin_ranking_loss",
    "mse_loss",
    "nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
];

/// The argument `reduction`, from PyTorch's name for it.
pub fn reduction<T: Real>(a: &Args<T>, index: usize) -> Result<Reduction> {
    a.str_or(index, "reduction", "mean")?.parse()
}

/// Whether the argument `target` holds class indices.
pub fn is_classes<T: Real>(a: &Args<T>) -> bool {
    a.tensor_dtype(1, "target") == Some(DType::I64)
}

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    if !BUILT.contains(&target) {
        return Ok(None);
    }
    let input = a.tensor(0, "input|self|input1")?;
    Ok(Some(out![match target {
        "mse_loss" | "l1_loss" => {
            let weight = a.opt_tensor(5, "weight")?;
            let options = F::MSELossOptions::default().weight(weight.as_ref()).reduction(reduction(a, 4)?);
            let loss = if target == "l1_loss" { F::l1_loss } else { F::mse_loss };
            loss(&input, &a.tensor(1, "target")?, options)?
        }
        "smooth_l1_loss" => {
            let (options, beta) = (F::SmoothL1LossOptions::from(reduction(a, 4)?), a.float_or(5, "beta", 1.)?);
            let options = refused(|| options.beta(beta))?;
            F::smooth_l1_loss(&input, &a.tensor(1, "target")?, options)?
        }
        "soft_margin_loss" => {
            F::soft_margin_loss(&input, &a.tensor(1, "target")?, reduction(a, 4)?.into())?
        }
        "margin_ranking_loss" => {
            let options = F::MarginRankingLossOptions::from(reduction(a, 6)?).margin(a.float_or(3, "margin", 0.)?);
            F::margin_ranking_loss(&input, &a.tensor(1, "input2")?, &a.tensor(2, "target")?, options)?
        }
        "huber_loss" => {
            let (delta, weight) = (a.float_or(3, "delta", 1.)?, a.opt_tensor(4, "weight")?);
            let options = F::HuberLossOptions::from(reduction(a, 2)?).weight(weight.as_ref());
            let options = refused(|| options.delta(delta))?;
            F::huber_loss(&input, &a.tensor(1, "target")?, options)?
        }
        "binary_cross_entropy" => {
            let weight = a.opt_detached(2, "weight")?;
            let options = F::BCELossOptions::default().weight(weight.as_ref()).reduction(reduction(a, 5)?);
            F::binary_cross_entropy(&input, &a.tensor(1, "target")?, options)?
        }
        "binary_cross_entropy_with_logits" => {
            let (weight, pos_weight) = (a.opt_detached(2, "weight")?, a.opt_detached(6, "pos_weight")?);
            let options = F::BCEWithLogitsLossOptions::default()
                .weight(weight.as_ref())
                .pos_weight(pos_weight.as_ref())
                .reduction(reduction(a, 5)?);
            F::binary_cross_entropy_with_logits(&input, &a.tensor(1, "target")?, options)?
        }
        "nll_loss" => {
            let weight = a.opt_detached(2, "weight")?;
            let options = F::NLLLossOptions::default()
                .weight(weight.as_ref())
                .ignore_index(a.int_or(4, "ignore_index", -100)? as i64)
                .reduction(reduction(a, 6)?);
            F::nll_loss(&input, &a.long(1, "target")?, options)?
        }
        _ => {
            let weight = a.opt_tensor(2, "weight")?;
            let options = F::CrossEntropyLossOptions::default()
                .weight(weight.as_ref())
                .ignore_index(a.int_or(4, "ignore_index", -100)? as i64)
                .reduction(reduction(a, 6)?);
            let smoothing = a.float_or(7, "label_smoothing", 0.)?;
            let options = refused(|| options.label_smoothing(smoothing))?;
            match is_classes(a) {
                true => F::cross_entropy(&input, &a.long(1, "target")?, options)?,
                false => F::cross_entropy(&input, &a.tensor(1, "target")?, options)?,
            }
        }
    }]))
}
