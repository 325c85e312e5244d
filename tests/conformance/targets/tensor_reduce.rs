//! Reductions, scans, sorting, linear algebra over axes.

use ndnn::{Real, Result, Tensor};

use super::{Called, out};
use crate::args::Args;

pub const BUILT: &[&str] = &["sum"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "sum" => out![sum(a)?],
        _ => return Ok(None),
    }))
}

fn sum<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let dims = a.opt_ints(1, "dim")?.unwrap_or_default();
    a.tensor(0, "input")?.sum_dim(dims, a.bool_or(2, "keepdim", false)?)
}
