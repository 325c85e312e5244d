//! Pooling, resampling, padding.

use ndnn::{
    AnyTensor, DType, Real, Result,
    functional::{self as F, Dims, MaxPoolOptions, PadOptions, PaddingMode, PoolStride},
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims, dims_or, refused},
        out,
    },
};

pub const BUILT: &[&str] = &["max_pool1d", "max_pool2d", "max_pool3d", "pad"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
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
