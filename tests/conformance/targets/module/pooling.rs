//! Pooling, resampling, padding.

use ndnn::{
    Real, Result,
    functional::{Dims, PoolStride},
    nn::{AvgPool, MaxPool},
};

use super::{Built, Case, case, layer};
use crate::{
    args::Args,
    targets::{
        dims::{dims, dims_or, refused},
        functional::avg_pool_options,
        out,
    },
};

pub const BUILT: &[&str] = &["AvgPool1d", "AvgPool2d", "AvgPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d"];

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "AvgPool1d" => avg_pool::<1, T>(a)?,
        "AvgPool2d" => avg_pool::<2, T>(a)?,
        "AvgPool3d" => avg_pool::<3, T>(a)?,
        "MaxPool1d" => max_pool::<1, T>(a)?,
        "MaxPool2d" => max_pool::<2, T>(a)?,
        "MaxPool3d" => max_pool::<3, T>(a)?,
        _ => return Ok(None),
    }))
}

fn avg_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let kernel_size: Dims<N> = dims_or(a, 0, "kernel_size", 0)?;
    let options = avg_pool_options::<N, T>(a, 1)?;
    let pool = refused(|| {
        let pool = AvgPool::new(kernel_size).stride(options.get_stride()).padding(options.get_padding());
        let pool = pool.ceil_mode(options.get_ceil_mode()).count_include_pad(options.get_count_include_pad());
        pool.divisor_override(options.get_divisor_override())
    })?;
    Ok(layer(pool))
}

fn max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let kernel_size: Dims<N> = dims_or(a, 0, "kernel_size", 0)?;
    let stride: PoolStride<N> = dims(a, 1, "stride")?.into();
    let (padding, dilation) = (dims_or(a, 2, "padding", 0)?, dims_or(a, 3, "dilation", 1)?);
    let ceil_mode = a.bool_or(5, "ceil_mode", false)?;
    let pool = refused(|| {
        MaxPool::<N>::new(kernel_size).stride(stride).padding(padding).dilation(dilation).ceil_mode(ceil_mode)
    })?;
    Ok(match a.bool_or(4, "return_indices", false)? {
        true => case(pool, |pool, a: &Args<T>| {
            let (values, indices) = pool.forward_with_indices(&a.tensor(0, "input")?)?;
            Ok(out![values, indices])
        }),
        false => layer(pool),
    })
}
