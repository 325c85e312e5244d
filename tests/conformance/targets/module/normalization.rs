//! Normalisations.

use ndnn::{
    Real, Result,
    nn::{BatchNorm, Dtype, GroupNorm, LayerNorm},
};

use super::{Built, layer};
use crate::{args::Args, targets::dims::refused};

pub const BUILT: &[&str] = &["BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "GroupNorm", "LayerNorm"];

fn batch_norm<T: Real, const N: usize>(a: &Args<T>) -> Result<BatchNorm<N, T>> {
    let norm = BatchNorm::<N>::new(a.size(0, "num_features")?).eps(a.float_or(1, "eps", 1e-5)?);
    let momentum = if a.is_none(2, "momentum") { None } else { Some(a.float_or(2, "momentum", 0.1)?) };
    let norm = norm.momentum(momentum).affine(a.bool_or(3, "affine", true)?);
    let norm = norm.track_running_stats(a.bool_or(4, "track_running_stats", true)?);
    Ok(norm.bias(a.bool_or(usize::MAX, "bias", true)?).dtype::<T>())
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "BatchNorm1d" => layer(batch_norm::<T, 1>(a)?),
        "BatchNorm2d" => layer(batch_norm::<T, 2>(a)?),
        "BatchNorm3d" => layer(batch_norm::<T, 3>(a)?),
        "GroupNorm" => {
            let (groups, channels) = (a.size(0, "num_groups")?, a.size(1, "num_channels")?);
            let norm = refused(|| GroupNorm::new(groups, channels))?;
            let norm = norm.eps(a.float_or(2, "eps", 1e-5)?).affine(a.bool_or(3, "affine", true)?);
            layer(norm.bias(a.bool_or(usize::MAX, "bias", true)?).dtype::<T>())
        }
        "LayerNorm" => {
            let norm = LayerNorm::new(a.sizes(0, "normalized_shape")?).eps(a.float_or(1, "eps", 1e-5)?);
            let norm = norm.elementwise_affine(a.bool_or(2, "elementwise_affine", true)?);
            layer(norm.bias(a.bool_or(3, "bias", true)?).dtype::<T>())
        }
        _ => return Ok(None),
    }))
}
