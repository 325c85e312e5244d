//! Normalisations.

use ndnn::{
    Real, Result,
    functional::PyNumber,
    nn::{
        BatchNorm, CrossMapLRN2d, Dtype, GroupNorm, InstanceNorm, LayerNorm, LazyBatchNorm, LazyInstanceNorm,
        LocalResponseNorm, RMSNorm,
    },
};

use super::{Built, layer};
use crate::{
    args::{Args, KW},
    targets::dims::{py_number, refused},
};

/// The options of a norm over channels that are given, whose positions begin at `$first`.
macro_rules! channel_norm {
    ($norm:expr, $a:expr, $first:expr) => {{
        let (mut norm, a, i) = ($norm.eps($a.float_or($first, "eps", 1e-5)?), $a, $first);
        match (a.is_none(i + 1, "momentum"), a.opt_float(i + 1, "momentum")?) {
            (true, _) => norm = norm.momentum(None),
            (_, Some(momentum)) => norm = norm.momentum(momentum),
            _ => {}
        }
        if let Some(affine) = a.opt_bool(i + 2, "affine")? {
            norm = norm.affine(affine);
        }
        if let Some(track) = a.opt_bool(i + 3, "track_running_stats")? {
            norm = norm.track_running_stats(track);
        }
        norm.bias(a.bool_or(KW, "bias", true)?)
    }};
}

fn batch_norm<T: Real, const N: usize>(a: &Args<T>) -> Result<BatchNorm<N, T>> {
    a.ignore(5, "process_group");
    Ok(channel_norm!(BatchNorm::<N>::new(a.size(0, "num_features")?), a, 1).dtype::<T>())
}

fn instance_norm<T: Real, const N: usize>(a: &Args<T>) -> Result<InstanceNorm<N, T>> {
    Ok(channel_norm!(InstanceNorm::<N>::new(a.size(0, "num_features")?), a, 1).dtype::<T>())
}

fn lazy_batch_norm<T: Real, const N: usize>(a: &Args<T>) -> Result<BatchNorm<N, T>> {
    Ok(channel_norm!(LazyBatchNorm::<N>::new(), a, 0).dtype::<T>())
}

fn lazy_instance_norm<T: Real, const N: usize>(a: &Args<T>) -> Result<InstanceNorm<N, T>> {
    Ok(channel_norm!(LazyInstanceNorm::<N>::new(), a, 0).dtype::<T>())
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "BatchNorm1d" => layer(batch_norm::<T, 1>(a)?),
        "BatchNorm2d" => layer(batch_norm::<T, 2>(a)?),
        "BatchNorm3d" => layer(batch_norm::<T, 3>(a)?),
        "SyncBatchNorm" => layer(batch_norm::<T, 0>(a)?),
        "LazyBatchNorm1d" => layer(lazy_batch_norm::<T, 1>(a)?),
        "LazyBatchNorm2d" => layer(lazy_batch_norm::<T, 2>(a)?),
        "LazyBatchNorm3d" => layer(lazy_batch_norm::<T, 3>(a)?),
        "InstanceNorm1d" => layer(instance_norm::<T, 1>(a)?),
        "InstanceNorm2d" => layer(instance_norm::<T, 2>(a)?),
        "InstanceNorm3d" => layer(instance_norm::<T, 3>(a)?),
        "LazyInstanceNorm1d" => layer(lazy_instance_norm::<T, 1>(a)?),
        "LazyInstanceNorm2d" => layer(lazy_instance_norm::<T, 2>(a)?),
        "LazyInstanceNorm3d" => layer(lazy_instance_norm::<T, 3>(a)?),
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
        "RMSNorm" => {
            let norm = RMSNorm::new(a.sizes(0, "normalized_shape")?).eps(a.opt_float(1, "eps")?);
            layer(norm.elementwise_affine(a.bool_or(2, "elementwise_affine", true)?).dtype::<T>())
        }
        "LocalResponseNorm" => {
            let norm = LocalResponseNorm::new(a.size(0, "size")?).alpha(a.float_or(1, "alpha", 1e-4)?);
            layer(norm.beta(a.float_or(2, "beta", 0.75)?).k(py_number(a, 3, "k", PyNumber::float(1.))?))
        }
        "CrossMapLRN2d" => {
            let norm = CrossMapLRN2d::new(a.size(0, "size")?).alpha(a.float_or(1, "alpha", 1e-4)?);
            layer(norm.beta(a.float_or(2, "beta", 0.75)?).k(py_number(a, 3, "k", 1.into())?))
        }
        _ => return Ok(None),
    }))
}
