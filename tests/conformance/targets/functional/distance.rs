//! Distances.

use ndnn::{Real, functional as F};

use crate::{
    args::Args,
    targets::{Called, out},
};

const TARGETS: &[&str] = &["cosine_similarity", "pairwise_distance", "pdist"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    if !TARGETS.contains(&target) {
        return Ok(None);
    }
    let x1 = a.tensor(0, "x1|input")?;
    Ok(Some(out![match target {
        "cosine_similarity" => {
            let options = F::CosineSimilarityOptions::default().dim(a.int_or(2, "dim", 1)?);
            F::cosine_similarity(&x1, &a.tensor(1, "x2")?, options.eps(a.float_or(3, "eps", 1e-8)?))?
        }
        "pairwise_distance" => {
            let options = F::PairwiseDistanceOptions::default().p(a.float_or(2, "p", 2.)?);
            let options = options.eps(a.float_or(3, "eps", 1e-6)?).keepdim(a.bool_or(4, "keepdim", false)?);
            F::pairwise_distance(&x1, &a.tensor(1, "x2")?, options)?
        }
        _ => F::pdist(&x1, a.float_or(1, "p", 2.)?)?,
    }]))
}
