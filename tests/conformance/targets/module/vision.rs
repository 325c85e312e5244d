//! Interpolation, and other layers of images.

use ndnn::{
    Real,
    nn::{ChannelShuffle, PixelShuffle, PixelUnshuffle, Upsample, UpsamplingBilinear2d, UpsamplingNearest2d},
};

use super::{Built, layer};
use crate::{
    args::Args,
    targets::{
        dims::refused,
        functional::{interpolate_options, resize},
    },
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "ChannelShuffle" => {
            let groups = a.size(0, "groups")?;
            layer(refused(|| ChannelShuffle::new(groups))?)
        }
        "PixelShuffle" => {
            let factor = a.size(0, "upscale_factor")?;
            layer(refused(|| PixelShuffle::new(factor))?)
        }
        "PixelUnshuffle" => {
            let factor = a.size(0, "downscale_factor")?;
            layer(refused(|| PixelUnshuffle::new(factor))?)
        }
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
