//! Shapes, joining and splitting, indexing.

use ndnn::Real;

use super::{Called, out};
use crate::args::Args;

pub const BUILT: &[&str] = &["permute", "reshape"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "permute" => out![a.tensor(0, "input")?.permute(a.rest_ints(1, "dims")?)?],
        "reshape" => out![a.tensor(0, "input")?.reshape(a.rest_ints(1, "shape")?)?],
        _ => return Ok(None),
    }))
}
