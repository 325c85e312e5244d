//! Losses.

use ndnn::{
    Real,
    nn::{
        BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, Dtype, HuberLoss, L1Loss, MSELoss, MarginRankingLoss, NLLLoss,
        SmoothL1Loss, SoftMarginLoss,
    },
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{
        dims::refused,
        functional::loss::{is_classes, reduction},
        out,
    },
};

pub const BUILT: &[&str] = &[
    "BCELoss",
    "BCEWithLogitsLoss",
    "CrossEntropyLoss",
    "HuberLoss",
    "L1Loss",
    "MSELoss",
    "MarginRankingLoss",
    "NLLLoss",
    "SmoothL1Loss",
    "SoftMarginLoss",
];

/// A loss, called with `input` and `target`, the latter read by `$target`.
macro_rules! loss {
    ($layer:expr, $target:ident) => {
        case($layer, |layer, a: &Args<T>| Ok(out![layer.forward(&a.tensor(0, "input")?, &a.$target(1, "target")?)?]))
    };
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "MSELoss" => loss!(MSELoss::new().reduction(reduction(a, 2)?), tensor),
        "L1Loss" => loss!(L1Loss::new().reduction(reduction(a, 2)?), tensor),
        "SmoothL1Loss" => {
            let (layer, beta) = (SmoothL1Loss::new().reduction(reduction(a, 2)?), a.float_or(3, "beta", 1.)?);
            loss!(refused(|| layer.beta(beta))?, tensor)
        }
        "SoftMarginLoss" => loss!(SoftMarginLoss::new().reduction(reduction(a, 2)?), tensor),
        "MarginRankingLoss" => {
            let layer = MarginRankingLoss::new().margin(a.float_or(0, "margin", 0.)?).reduction(reduction(a, 3)?);
            case(layer, |layer, a: &Args<T>| {
                let [x1, x2] = [a.tensor(0, "input1")?, a.tensor(1, "input2")?];
                // Whole numbers in some cases, which PyTorch converts.
                let target = a.long(2, "target").map(|target| target.cast()).or_else(|_| a.tensor(2, "target"))?;
                Ok(out![layer.forward(&x1, &x2, &target)?])
            })
        }
        "HuberLoss" => {
            let (layer, delta) = (HuberLoss::new().reduction(reduction(a, 0)?), a.float_or(1, "delta", 1.)?);
            loss!(refused(|| layer.delta(delta))?, tensor)
        }
        "CrossEntropyLoss" => {
            let layer = CrossEntropyLoss::new()
                .dtype::<T>()
                .weight(a.opt_detached(0, "weight")?)
                .ignore_index(a.int_or(2, "ignore_index", -100)? as i64)
                .reduction(reduction(a, 4)?);
            let smoothing = a.float_or(5, "label_smoothing", 0.)?;
            let layer = refused(|| layer.label_smoothing(smoothing))?;
            case(layer, |layer, a: &Args<T>| {
                let input = a.tensor(0, "input")?;
                Ok(out![match is_classes(a) {
                    true => layer.forward(&input, &a.long(1, "target")?)?,
                    false => layer.forward(&input, &a.tensor(1, "target")?)?,
                }])
            })
        }
        "NLLLoss" => {
            let layer = NLLLoss::new().dtype::<T>().weight(a.opt_detached(0, "weight")?);
            let layer = layer.ignore_index(a.int_or(2, "ignore_index", -100)? as i64).reduction(reduction(a, 4)?);
            loss!(layer, long)
        }
        "BCELoss" => {
            let layer = BCELoss::new().dtype::<T>().weight(a.opt_detached(0, "weight")?);
            loss!(layer.reduction(reduction(a, 3)?), tensor)
        }
        "BCEWithLogitsLoss" => {
            let layer = BCEWithLogitsLoss::new().dtype::<T>().weight(a.opt_detached(0, "weight")?);
            let layer = layer.pos_weight(a.opt_detached(4, "pos_weight")?);
            loss!(layer.reduction(reduction(a, 3)?), tensor)
        }
        _ => return Ok(None),
    }))
}
