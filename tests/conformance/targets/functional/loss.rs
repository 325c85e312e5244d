//! Losses.

use ndnn::{
    DType, Real, Result, Tensor,
    functional::{self as F, CrossEntropyTarget, Reduction},
    nn::PairwiseDistance,
};

use crate::{
    args::{Args, KW},
    targets::{Called, dims::refused, out},
};

const TARGETS: &[&str] = &[
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cosine_embedding_loss",
    "cross_entropy",
    "ctc_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "linear_cross_entropy",
    "margin_ranking_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
];

/// The argument `reduction`, from PyTorch's name for it.
pub fn reduction<T: Real>(a: &Args<T>, index: usize) -> Result<Reduction> {
    a.str_or(index, "reduction", "mean")?.parse()
}

/// A loss of class indices or of probabilities, as the argument `target` is.
pub fn by_class<T: Real>(
    a: &Args<T>,
    index: usize,
    loss: impl Fn(CrossEntropyTarget<'_, T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    match a.tensor_dtype(index, "target") {
        Some(DType::I64) => loss((&a.long(index, "target")?).into()),
        _ => loss((&a.tensor(index, "target")?).into()),
    }
}

/// The lengths of sequences: a tensor, or a list.
pub fn lengths<T: Real>(a: &Args<T>, index: usize, name: &str) -> Result<Tensor<i64>> {
    match a.is_tensor(index, name) {
        true => a.long(index, name),
        false => Ok(a.ints(index, name)?.into_iter().map(|n| n as i64).collect()),
    }
}

/// The options of triplet_margin_with_distance_loss.
pub fn triplet_options<T: Real>(a: &Args<T>) -> Result<F::TripletMarginWithDistanceLossOptions> {
    let options = F::TripletMarginWithDistanceLossOptions::from(reduction(a, KW)?).swap(a.bool_or(KW, "swap", false)?);
    let margin = a.float_or(KW, "margin", 1.)?;
    refused(|| options.margin(margin))
}

/// The distance passed to triplet_margin_with_distance_loss.
pub fn distance<T: Real>(a: &Args<T>) -> Result<PairwiseDistance> {
    let Some((_, a)) = a.module(KW, "distance_function")? else { return Ok(PairwiseDistance::new()) };
    let distance = PairwiseDistance::new().p(a.float_or(0, "p", 2.)?).eps(a.float_or(1, "eps", 1e-6)?);
    Ok(distance.keepdim(a.bool_or(2, "keepdim", false)?))
}

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    if !TARGETS.contains(&target) {
        return Ok(None);
    }
    let input = a.tensor(0, "input|self|input1|anchor|log_probs")?;
    Ok(Some(out![match target {
        "ctc_loss" => {
            let options = F::CTCLossOptions::from(reduction(a, 5)?).blank(a.size_or(4, "blank", 0)?);
            let options = options.zero_infinity(a.bool_or(6, "zero_infinity", false)?);
            let lengths = [lengths(a, 2, "input_lengths")?, lengths(a, 3, "target_lengths")?];
            F::ctc_loss(&input, &a.long(1, "targets")?, &lengths[0], &lengths[1], options)?
        }
        "linear_cross_entropy" => {
            let (bias, weight) = (a.opt_tensor(KW, "linear_bias")?, a.opt_detached(KW, "weight")?);
            let options = F::LinearCrossEntropyLossOptions::from(reduction(a, KW)?)
                .linear_bias(bias.as_ref())
                .weight(weight.as_ref())
                .ignore_index(a.opt_int(KW, "ignore_index")?.map(|i| i as i64));
            let smoothing = a.float_or(KW, "label_smoothing", 0.)?;
            let options = refused(|| options.label_smoothing(smoothing))?;
            let whole = by_class(a, 2, |target| {
                F::linear_cross_entropy(&input, &a.tensor(1, "linear_weight")?, target, options)
            })?;
            // The same in chunks.
            let chunked = options.batch_chunk_size(3);
            let chunked = by_class(a, 2, |target| {
                F::linear_cross_entropy(&input, &a.tensor(1, "linear_weight")?, target, chunked)
            })?;
            assert!(chunked.allclose(&whole, 1e-5, 1e-6, true)?);
            whole
        }
        "kl_div" => {
            let options = F::KLDivLossOptions::default().reduction(a.str_or(4, "reduction", "mean")?);
            F::kl_div(&input, &a.tensor(1, "target")?, options.log_target(a.bool_or(5, "log_target", false)?))?
        }
        "poisson_nll_loss" => {
            let options = F::PoissonNLLLossOptions::from(reduction(a, 7)?).eps(a.float_or(5, "eps", 1e-8)?);
            let options = options.log_input(a.bool_or(2, "log_input", true)?).full(a.bool_or(3, "full", false)?);
            F::poisson_nll_loss(&input, &a.tensor(1, "target")?, options)?
        }
        "gaussian_nll_loss" => {
            let options = F::GaussianNLLLossOptions::from(reduction(a, 5)?).full(a.bool_or(3, "full", false)?);
            let options = options.eps(a.float_or(4, "eps", 1e-6)?);
            F::gaussian_nll_loss(&input, &a.tensor(1, "target")?, &a.tensor(2, "var")?, options)?
        }
        "cosine_embedding_loss" => {
            let options = F::CosineEmbeddingLossOptions::from(reduction(a, 6)?).margin(a.float_or(3, "margin", 0.)?);
            F::cosine_embedding_loss(&input, &a.tensor(1, "input2")?, &a.tensor(2, "target")?, options)?
        }
        "hinge_embedding_loss" => {
            let options = F::HingeEmbeddingLossOptions::from(reduction(a, 5)?).margin(a.float_or(2, "margin", 1.)?);
            F::hinge_embedding_loss(&input, &a.tensor(1, "target")?, options)?
        }
        "triplet_margin_loss" => {
            let options = F::TripletMarginLossOptions::from(reduction(a, 9)?).swap(a.bool_or(6, "swap", false)?);
            let options = options.p(a.float_or(4, "p", 2.)?).eps(a.float_or(5, "eps", 1e-6)?);
            let margin = a.float_or(3, "margin", 1.)?;
            let options = refused(|| options.margin(margin))?;
            F::triplet_margin_loss(&input, &a.tensor(1, "positive")?, &a.tensor(2, "negative")?, options)?
        }
        "triplet_margin_with_distance_loss" => {
            let (positive, negative) = (a.tensor(1, "positive")?, a.tensor(2, "negative")?);
            let (distance, options) = (distance(a)?, triplet_options(a)?);
            let distance = |x: &Tensor<T>, y: &Tensor<T>| distance.forward(x, y);
            F::triplet_margin_with_distance_loss(&input, &positive, &negative, distance, options)?
        }
        "multi_margin_loss" => {
            let weight = a.opt_detached(4, "weight")?;
            let options = F::MultiMarginLossOptions::default().weight(weight.as_ref()).reduction(reduction(a, 7)?);
            let (p, margin) = (a.size_or(2, "p", 1)?, a.float_or(3, "margin", 1.)?);
            let options = refused(|| options.p(p).margin(margin))?;
            F::multi_margin_loss(&input, &a.long(1, "target")?, options)?
        }
        "multilabel_margin_loss" => {
            F::multilabel_margin_loss(&input, &a.long(1, "target")?, reduction(a, 4)?.into())?
        }
        "multilabel_soft_margin_loss" => {
            let weight = a.opt_detached(2, "weight")?;
            let options = F::MultiLabelSoftMarginLossOptions::from(reduction(a, 5)?).weight(weight.as_ref());
            F::multilabel_soft_margin_loss(&input, &a.promoted(1, "target")?, options)?
        }
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
            by_class(a, 1, |target| F::cross_entropy(&input, target, options))?
        }
    }]))
}
