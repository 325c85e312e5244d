//! Pooling, resampling, padding.

use ndnn::{
    Real, Result,
    functional::{Dims, PoolStride, PyNumber},
    nn::{AdaptiveAvgPool, AdaptiveMaxPool, AvgPool, Dtype, FractionalMaxPool, LPPool, MaxPool, MaxUnpool},
};

use super::{Built, Case, case, layer};
use crate::{
    args::Args,
    targets::{
        dims::{dims, dims_or, refused},
        functional::{adaptive_size, avg_pool_options, fractional_size, max_unpool_options},
        out,
    },
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "AvgPool1d" => avg_pool::<1, T>(a)?,
        "AvgPool2d" => avg_pool::<2, T>(a)?,
        "AvgPool3d" => avg_pool::<3, T>(a)?,
        "MaxPool1d" => max_pool::<1, T>(a)?,
        "MaxPool2d" => max_pool::<2, T>(a)?,
        "MaxPool3d" => max_pool::<3, T>(a)?,
        "MaxUnpool1d" => max_unpool::<1, T>(a)?,
        "MaxUnpool2d" => max_unpool::<2, T>(a)?,
        "MaxUnpool3d" => max_unpool::<3, T>(a)?,
        "LPPool1d" => lp_pool::<1, T>(a)?,
        "LPPool2d" => lp_pool::<2, T>(a)?,
        "LPPool3d" => lp_pool::<3, T>(a)?,
        "AdaptiveAvgPool1d" => layer(AdaptiveAvgPool::<1>::new(adaptive_size(a, 0)?)),
        "AdaptiveAvgPool2d" => layer(AdaptiveAvgPool::<2>::new(adaptive_size(a, 0)?)),
        "AdaptiveAvgPool3d" => layer(AdaptiveAvgPool::<3>::new(adaptive_size(a, 0)?)),
        "AdaptiveMaxPool1d" => adaptive_max_pool::<1, T>(a)?,
        "AdaptiveMaxPool2d" => adaptive_max_pool::<2, T>(a)?,
        "AdaptiveMaxPool3d" => adaptive_max_pool::<3, T>(a)?,
        "FractionalMaxPool2d" => fractional_max_pool::<2, T>(a)?,
        "FractionalMaxPool3d" => fractional_max_pool::<3, T>(a)?,
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

fn max_unpool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let kernel_size: Dims<N> = dims_or(a, 0, "kernel_size", 0)?;
    let options = max_unpool_options::<N, T>(a, 1)?;
    let pool = refused(|| MaxUnpool::new(kernel_size).stride(options.get_stride()).padding(options.get_padding()))?;
    Ok(case(pool, |pool, a: &Args<T>| {
        let (input, indices) = (a.tensor(0, "input")?, a.long(1, "indices")?);
        Ok(out![match a.opt_sizes(2, "output_size")? {
            None => pool.forward(&input, &indices)?,
            Some(size) => pool.forward_with_output_size(&input, &indices, size)?,
        }])
    }))
}

fn lp_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (norm_type, whole) = (a.float(0, "norm_type")?, a.is_int(0, "norm_type"));
    let norm_type = if whole { PyNumber::from(norm_type as i32) } else { PyNumber::from(norm_type) };
    let kernel_size: Dims<N> = dims_or(a, 1, "kernel_size", 0)?;
    let (stride, ceil_mode): (PoolStride<N>, _) = (dims(a, 2, "stride")?.into(), a.bool_or(3, "ceil_mode", false)?);
    Ok(layer(refused(|| LPPool::new(norm_type, kernel_size).stride(stride).ceil_mode(ceil_mode))?))
}

fn adaptive_max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let pool = AdaptiveMaxPool::<N>::new(adaptive_size(a, 0)?);
    Ok(match a.bool_or(1, "return_indices", false)? {
        true => case(pool, |pool, a: &Args<T>| {
            let (values, indices) = pool.forward_with_indices(&a.tensor(0, "input")?)?;
            Ok(out![values, indices])
        }),
        false => layer(pool),
    })
}

fn fractional_max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let kernel_size: Dims<N> = dims_or(a, 0, "kernel_size", 0)?;
    let (size, samples) = (fractional_size::<N, T>(a, 1)?, a.opt_any(4, "_random_samples")?);
    let pool = refused(|| FractionalMaxPool::new(kernel_size, size))?.dtype::<T>();
    let pool = match samples {
        // PyTorch converts the buffer with the module.
        Some(samples) => pool.random_samples(samples.to()),
        None => pool,
    };
    Ok(match a.bool_or(3, "return_indices", false)? {
        true => case(pool, |pool, a: &Args<T>| {
            let (values, indices) = pool.forward_with_indices(&a.tensor(0, "input")?)?;
            Ok(out![values, indices])
        }),
        false => layer(pool),
    })
}
