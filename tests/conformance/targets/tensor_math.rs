//! Elementwise operations and matrix products.

use ndnn::{Real, Result, Tensor};

use super::{Called, out};
use crate::args::{Args, KW};

pub const BUILT: &[&str] = &["add", "exp"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "add" => out![add(a)?],
        "exp" => out![a.tensor(0, "input")?.exp()],
        _ => return Ok(None),
    }))
}

fn add<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let alpha = T::of(a.float_or(KW, "alpha", 1.)?);
    a.tensor(0, "input")?.try_add(&(a.promoted(1, "other")? * alpha))
}
