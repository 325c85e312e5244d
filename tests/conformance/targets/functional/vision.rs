//! Interpolation, and other functions of images.

use ndnn::{
    AnyTensor, Error, Real, Result,
    functional::{
        self as F, GridSampleMode, GridSampleOptions, GridSamplePadding, InterpolateMode, InterpolateOptions, Resize,
    },
};

use crate::{
    args::Args,
    targets::{Called, dims::refused, out},
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "affine_grid" => {
            let (theta, size) = (a.tensor(0, "theta")?, a.sizes(1, "size")?);
            out![F::affine_grid(&theta, size, a.bool_or(2, "align_corners", false)?)?]
        }
        "channel_shuffle" => out![F::channel_shuffle(&a.tensor(0, "input")?, a.size(1, "groups")?)?],
        "grid_sample" => {
            let mode: GridSampleMode = a.str_or(2, "mode", "bilinear")?.parse()?;
            let padding: GridSamplePadding = a.str_or(3, "padding_mode", "zeros")?.parse()?;
            let options = GridSampleOptions::default().mode(mode).padding_mode(padding);
            let options = options.align_corners(a.bool_or(4, "align_corners", false)?);
            out![F::grid_sample(&a.tensor(0, "input")?, &a.tensor(1, "grid")?, options)?]
        }
        "interpolate" => interpolate(a)?,
        "pixel_shuffle" => out![F::pixel_shuffle(&a.tensor(0, "input")?, a.size(1, "upscale_factor")?)?],
        "pixel_unshuffle" => out![F::pixel_unshuffle(&a.tensor(0, "input")?, a.size(1, "downscale_factor")?)?],
        "upsample" => out![F::upsample(&a.tensor(0, "input")?, resize(a, 1)?, interpolate_options(a, 3)?)?],
        "upsample_bilinear" => out![F::upsample_bilinear(&a.tensor(0, "input")?, resize(a, 1)?)?],
        "upsample_nearest" => out![F::upsample_nearest(&a.tensor(0, "input")?, resize(a, 1)?)?],
        _ => return Ok(None),
    }))
}

fn interpolate<T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (to, options) = (resize(a, 1)?, interpolate_options(a, 3)?);
    let options = options.recompute_scale_factor(a.opt_bool(5, "recompute_scale_factor")?);
    let options = options.antialias(a.bool_or(6, "antialias", false)?);
    Ok(out![F::interpolate(&a.tensor(0, "input")?, to, options)?])
}

/// `size` at position `first`, and `scale_factor` after it.
pub fn resize<T: Real>(a: &Args<T>, first: usize) -> Result<Resize> {
    let wrong = |what: &str| Error::value("case", format!("{what} for 1, 2 or 3 axes, and not both"));
    let (size_is_list, factor_is_list) = (a.is_list(first, "size"), a.is_list(first + 1, "scale_factor"));
    match (a.opt_sizes(first, "size")?, a.opt_floats(first + 1, "scale_factor")?) {
        (Some(size), None) => match size[..] {
            [one] if !size_is_list => Ok(Resize::size(one)),
            [l] => Ok(Resize::size([l])),
            [h, w] => Ok(Resize::size([h, w])),
            [d, h, w] => Ok(Resize::size([d, h, w])),
            _ => Err(wrong("a size")),
        },
        (None, Some(factor)) => match factor[..] {
            [one] if !factor_is_list => refused(|| Resize::scale_factor(one)),
            [l] => refused(|| Resize::scale_factor([l])),
            [h, w] => refused(|| Resize::scale_factor([h, w])),
            [d, h, w] => refused(|| Resize::scale_factor([d, h, w])),
            _ => Err(wrong("a scale factor")),
        },
        _ => Err(wrong("a size or a scale factor")),
    }
}

/// `mode` at position `first`, and `align_corners` after it.
pub fn interpolate_options<T: Real>(a: &Args<T>, first: usize) -> Result<InterpolateOptions> {
    let mode: InterpolateMode = a.str_or(first, "mode", "nearest")?.parse()?;
    Ok(InterpolateOptions::from(mode).align_corners(a.opt_bool(first + 1, "align_corners")?))
}
