//! Linear and bilinear layers.

use ndnn::{
    Real,
    nn::{Dtype, Linear},
};

use super::{Built, layer};
use crate::args::Args;

pub const BUILT: &[&str] = &["Linear"];

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Linear" => {
            let linear = Linear::new(a.size(0, "in_features")?, a.size(1, "out_features")?);
            layer(linear.bias(a.bool_or(2, "bias", true)?).dtype::<T>())
        }
        _ => return Ok(None),
    }))
}
