//! Interpolation, and other layers of images.

use ndnn::{
    Real,
    nn::{Upsample, UpsamplingBilinear2d, UpsamplingNearest2d},
};

use super::{Built, layer};
use crate::{
    args::Args,
    targets::functional::{interpolate_options, resize},
};

pub const BUILT: &[&str] = &["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"];

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Upsample" => {
            let (to, options) = (resize(a, 0)?, interpolate_options(a, 2)?);
            let recompute = a.opt_bool(4, "recompute_scale_factor")?;
            let upsample = Upsample::new(to).mode(options.get_mode()).align_corners(options.get_align_corners());
            layer(upsample.recompute_scale_factor(recompute))
        }
        "UpsamplingBilinear2d" => layer(UpsamplingBilinear2d::new(resize(a, 0)?)),
        "UpsamplingNearest2d" => layer(UpsamplingNearest2d::new(resize(a, 0)?)),
        _ => return Ok(None),
    }))
}
