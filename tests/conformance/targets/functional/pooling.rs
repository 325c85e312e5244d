//! Pooling, resampling, padding.

use ndnn::{
    AnyTensor, DType, Error, Real, Result,
    functional::{self as F, Dims, MaxPoolOptions, PadMode},
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims, dims_or},
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
    let options = MaxPoolOptions {
        stride: dims(a, 2, "stride")?.into(),
        padding: dims_or(a, 3, "padding", 0)?,
        dilation: dims_or(a, 4, "dilation", 1)?,
        ceil_mode: a.bool_or(5, "ceil_mode", false)?,
    };
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
    let value = a.opt_float(3, "value")?;
    let mode = match (a.str_or(2, "mode", "constant")?, value) {
        ("constant", value) => PadMode::Constant(value.unwrap_or(0.)),
        ("reflect", None) => PadMode::Reflect,
        ("replicate", None) => PadMode::Replicate,
        ("circular", None) => PadMode::Circular,
        (mode, value) => return Err(Error::value("case", format!("mode {mode} with the value {value:?}"))),
    };
    Ok(match a.tensor_dtype(0, "input") {
        Some(DType::I64) => out![F::pad(&a.long(0, "input")?, pads, mode)?],
        Some(DType::Bool) => out![F::pad(&a.mask(0, "input")?, pads, mode)?],
        _ => out![F::pad(&a.tensor(0, "input")?, pads, mode)?],
    })
}
