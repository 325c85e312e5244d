//! Pooling, resampling, padding.

use ndnn::{
    AnyTensor, DType, Real, Result,
    functional::{self as F, AvgPoolOptions, Dims, MaxPoolOptions, PadOptions, PaddingMode, PoolStride},
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims, dims_or, refused},
        out,
    },
};

pub const BUILT: &[&str] = &["avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d", "pad"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "avg_pool1d" => avg_pool::<1, T>(a)?,
        "avg_pool2d" => avg_pool::<2, T>(a)?,
        "avg_pool3d" => avg_pool::<3, T>(a)?,
        "max_pool1d" => max_pool::<1, T>(a)?,
        "max_pool2d" => max_pool::<2, T>(a)?,
        "max_pool3d" => max_pool::<3, T>(a)?,
        "pad" => pad(a)?,
        _ => return Ok(None),
    }))
}

fn max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let kernel_size: Dims<N> = dims_or(a, 1, "kernel_size", 0)?;
    let stride: PoolStride<N> = dims(a, 2, "stride")?.into();
    let (padding, dilation) = (dims_or(a, 3, "padding", 0)?, dims_or(a, 4, "dilation", 1)?);
    let ceil_mode = a.bool_or(5, "ceil_mode", false)?;
    let options =
        refused(|| MaxPoolOptions::default().stride(stride).padding(padding).dilation(dilation).ceil_mode(ceil_mode))?;
    let input = a.tensor(0, "input")?;
    Ok(match a.bool_or(6, "return_indices", false)? {
        true => {
            let (values, indices) = F::max_pool_with_indices(&input, kernel_size, options)?;
            out![values, indices]
        }
        false => out![F::max_pool(&input, kernel_size, options)?],
    })
}

fn avg_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let kernel_size: Dims<N> = dims_or(a, 1, "kernel_size", 0)?;
    let options = avg_pool_options(a, 2)?;
    Ok(out![F::avg_pool(&a.tensor(0, "input")?, kernel_size, options)?])
}

/// The arguments from `stride` on, which is at position `first`.
pub fn avg_pool_options<const N: usize, T: Real>(a: &Args<T>, first: usize) -> Result<AvgPoolOptions<N>> {
    let stride: PoolStride<N> = dims(a, first, "stride")?.into();
    let (padding, ceil_mode) = (dims_or(a, first + 1, "padding", 0)?, a.bool_or(first + 2, "ceil_mode", false)?);
    let count_include_pad = a.bool_or(first + 3, "count_include_pad", true)?;
    let divisor = a.opt_size(first + 4, "divisor_override")?;
    let options = refused(|| AvgPoolOptions::default().stride(stride).padding(padding).ceil_mode(ceil_mode))?;
    refused(|| options.count_include_pad(count_include_pad).divisor_override(divisor))
}

fn pad<T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let pads = a.ints(1, "pad")?;
    let mode: PaddingMode = a.str_or(2, "mode", "constant")?.parse()?;
    let value = a.opt_float(3, "value")?;
    let mode = refused(|| PadOptions::from(mode).value(value))?;
    Ok(match a.tensor_dtype(0, "input") {
        Some(DType::I64) => out![F::pad(&a.long(0, "input")?, pads, mode)?],
        Some(DType::Bool) => out![F::pad(&a.mask(0, "input")?, pads, mode)?],
        _ => out![F::pad(&a.tensor(0, "input")?, pads, mode)?],
    })
}
