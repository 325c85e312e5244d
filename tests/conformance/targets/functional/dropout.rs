//! Dropout and its variants.

use ndnn::{Real, Result, Tensor, functional as F};

use crate::{
    args::Args,
    targets::{Called, out},
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    // PyTorch's functions differ in the default of `training`.
    let (function, training): (fn(&Tensor<T>, f64, bool) -> Result<Tensor<T>>, _) = match target {
        "alpha_dropout" => (F::alpha_dropout, false),
        "dropout" => (F::dropout, true),
        "dropout1d" => (F::dropout1d, true),
        "dropout2d" => (F::dropout2d, true),
        "dropout3d" => (F::dropout3d, true),
        "feature_alpha_dropout" => (F::feature_alpha_dropout, false),
        _ => return Ok(None),
    };
    a.ignore(3, "inplace");
    let (p, training) = (a.float_or(1, "p", 0.5)?, a.bool_or(2, "training", training)?);
    Ok(Some(out![function(&a.tensor(0, "input")?, p, training)?]))
}
