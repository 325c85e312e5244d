//! Distances.

use ndnn::{
    Real,
    nn::{CosineSimilarity, PairwiseDistance},
};

use super::{Built, case};
use crate::{args::Args, targets::out};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "CosineSimilarity" => {
            let layer = CosineSimilarity::new().dim(a.int_or(0, "dim", 1)?).eps(a.float_or(1, "eps", 1e-8)?);
            case(layer, |layer, a: &Args<T>| Ok(out![layer.forward(&a.tensor(0, "x1")?, &a.tensor(1, "x2")?)?]))
        }
        "PairwiseDistance" => {
            let layer = PairwiseDistance::new().p(a.float_or(0, "p", 2.)?).eps(a.float_or(1, "eps", 1e-6)?);
            let layer = layer.keepdim(a.bool_or(2, "keepdim", false)?);
            case(layer, |layer, a: &Args<T>| Ok(out![layer.forward(&a.tensor(0, "x1")?, &a.tensor(1, "x2")?)?]))
        }
        _ => return Ok(None),
    }))
}
