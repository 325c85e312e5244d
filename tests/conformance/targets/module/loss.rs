//! Losses.

use ndnn::{
    Real, Result, Tensor,
    functional::CrossEntropyTarget,
    nn::{
        AdaptiveLogSoftmaxWithLoss, BCELoss, BCEWithLogitsLoss, CTCLoss, CosineEmbeddingLoss, CrossEntropyLoss, Dtype,
        GaussianNLLLoss, HingeEmbeddingLoss, HuberLoss, KLDivLoss, L1Loss, LinearCrossEntropyLoss, MSELoss,
        MarginRankingLoss, Module, MultiLabelMarginLoss, MultiLabelSoftMarginLoss, MultiMarginLoss, NLLLoss, NLLLoss2d,
        PoissonNLLLoss, SmoothL1Loss, SoftMarginLoss, TripletMarginLoss, TripletMarginWithDistanceLoss,
    },
};

use super::{Built, Case, case};
use crate::{
    args::{Args, KW},
    targets::{
        dims::refused,
        functional::loss::{by_class, distance, lengths, reduction, triplet_options},
        out,
    },
};

/// A loss, called with `input` and `target`, the latter read by `$target`, or with three tensors of these names.
macro_rules! loss {
    ($layer:expr, $target:ident) => {
        case($layer, |layer, a: &Args<T>| Ok(out![layer.forward(&a.tensor(0, "input")?, &a.$target(1, "target")?)?]))
    };
    ($layer:expr, $x:literal, $y:literal, $z:literal) => {
        case($layer, |layer, a: &Args<T>| {
            // Targets are whole numbers in some cases, which PyTorch converts.
            Ok(out![layer.forward(&a.tensor(0, $x)?, &a.tensor(1, $y)?, &a.promoted(2, $z)?)?])
        })
    };
}

/// A loss of scores and of class indices or probabilities.
fn scores<T: Real, M: Module>(
    layer: M,
    loss: impl Fn(&M, &Tensor<T>, CrossEntropyTarget<'_, T>) -> Result<Tensor<T>> + 'static,
) -> Box<dyn Case<T>> {
    case(layer, move |layer, a: &Args<T>| {
        let input = a.tensor(0, "input")?;
        Ok(out![by_class(a, 1, |target| loss(layer, &input, target))?])
    })
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
            loss!(layer, "input1", "input2", "target")
        }
        "CosineEmbeddingLoss" => {
            let layer = CosineEmbeddingLoss::new().margin(a.float_or(0, "margin", 0.)?).reduction(reduction(a, 3)?);
            loss!(layer, "input1", "input2", "target")
        }
        "HingeEmbeddingLoss" => {
            let layer = HingeEmbeddingLoss::new().margin(a.float_or(0, "margin", 1.)?).reduction(reduction(a, 3)?);
            loss!(layer, promoted)
        }
        "KLDivLoss" => {
            let layer = KLDivLoss::new().reduction(a.str_or(2, "reduction", "mean")?);
            loss!(layer.log_target(a.bool_or(3, "log_target", false)?), tensor)
        }
        "PoissonNLLLoss" => {
            let layer = PoissonNLLLoss::new().log_input(a.bool_or(0, "log_input", true)?);
            let layer = layer.full(a.bool_or(1, "full", false)?).eps(a.float_or(3, "eps", 1e-8)?);
            loss!(layer.reduction(reduction(a, 5)?), promoted)
        }
        "GaussianNLLLoss" => {
            let layer = GaussianNLLLoss::new().full(a.bool_or(KW, "full", false)?).eps(a.float_or(KW, "eps", 1e-6)?);
            loss!(layer.reduction(reduction(a, KW)?), "input", "target", "var")
        }
        "TripletMarginLoss" => {
            let layer = TripletMarginLoss::new().margin(a.float_or(0, "margin", 1.)?).p(a.float_or(1, "p", 2.)?);
            let layer = layer.eps(a.float_or(2, "eps", 1e-6)?).swap(a.bool_or(3, "swap", false)?);
            loss!(layer.reduction(reduction(a, 6)?), "anchor", "positive", "negative")
        }
        "TripletMarginWithDistanceLoss" => {
            let options = triplet_options(a)?;
            let layer = TripletMarginWithDistanceLoss::by(distance(a)?).margin(options.get_margin());
            let layer = layer.swap(options.get_swap()).reduction(options.get_reduction());
            loss!(layer, "anchor", "positive", "negative")
        }
        "CTCLoss" => {
            let layer = CTCLoss::new().blank(a.size_or(0, "blank", 0)?).reduction(reduction(a, 1)?);
            case(layer.zero_infinity(a.bool_or(2, "zero_infinity", false)?), |layer, a: &Args<T>| {
                let (x, y) = (a.tensor(0, "log_probs")?, a.long(1, "targets")?);
                let (steps, sizes) = (lengths(a, 2, "input_lengths")?, lengths(a, 3, "target_lengths")?);
                Ok(out![layer.forward(&x, &y, &steps, &sizes)?])
            })
        }
        "MultiMarginLoss" => {
            let layer = MultiMarginLoss::new().dtype::<T>().weight(a.opt_detached(2, "weight")?);
            let layer = layer.p(a.size_or(0, "p", 1)?).margin(a.float_or(1, "margin", 1.)?);
            loss!(layer.reduction(reduction(a, 5)?), long)
        }
        "MultiLabelMarginLoss" => loss!(MultiLabelMarginLoss::new().reduction(reduction(a, 2)?), long),
        "MultiLabelSoftMarginLoss" => {
            let layer = MultiLabelSoftMarginLoss::new().dtype::<T>().weight(a.opt_detached(0, "weight")?);
            loss!(layer.reduction(reduction(a, 3)?), promoted)
        }
        "NLLLoss2d" => {
            let layer = NLLLoss2d::new().dtype::<T>().weight(a.opt_detached(0, "weight")?);
            let layer = layer.ignore_index(a.int_or(2, "ignore_index", -100)? as i64).reduction(reduction(a, 4)?);
            loss!(layer, long)
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
            scores(layer, |layer, x, target| layer.forward(x, target))
        }
        "LinearCrossEntropyLoss" => {
            let (layer, weight) = (
                LinearCrossEntropyLoss::new(a.size(0, "in_features")?, a.size(1, "num_classes")?),
                a.opt_detached(KW, "weight")?,
            );
            let layer = layer.out_features(a.opt_sizes(KW, "out_features")?.unwrap_or_default());
            let layer = layer.bias(a.bool_or(KW, "bias", false)?).dtype::<T>();
            let layer = refused(|| layer.weight(weight))?.reduction(reduction(a, KW)?);
            let layer = layer.ignore_index(a.opt_int(KW, "ignore_index")?.map(|i| i as i64));
            let smoothing = a.float_or(KW, "label_smoothing", 0.)?;
            scores(refused(|| layer.label_smoothing(smoothing))?, |layer, x, target| layer.forward(x, target))
        }
        "AdaptiveLogSoftmaxWithLoss" => {
            let (features, classes, cutoffs) =
                (a.size(0, "in_features")?, a.size(1, "n_classes")?, a.sizes(2, "cutoffs")?);
            let layer = refused(|| AdaptiveLogSoftmaxWithLoss::new(features, classes, cutoffs))?;
            let layer = layer.div_value(a.float_or(3, "div_value", 4.)?).head_bias(a.bool_or(4, "head_bias", false)?);
            case(layer.dtype::<T>(), |layer, a: &Args<T>| {
                let (output, loss) = layer.forward(&a.tensor(0, "input_|input")?, &a.long(1, "target_|target")?)?;
                Ok(out![output, loss])
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
