//! Convolutions, folding, and what goes with them.

use ndnn::{
    Real, Result,
    functional::{Dims, Padding},
    nn::{Conv, Dtype},
};

use super::{Built, Case, layer};
use crate::{
    args::Args,
    targets::{
        dims::{dims_or, refused},
        functional,
    },
};

pub const BUILT: &[&str] = &["Conv1d", "Conv2d", "Conv3d"];

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Conv1d" => conv::<1, T>(a)?,
        "Conv2d" => conv::<2, T>(a)?,
        "Conv3d" => conv::<3, T>(a)?,
        _ => return Ok(None),
    }))
}

fn conv<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (inputs, outputs) = (a.size(0, "in_channels")?, a.size(1, "out_channels")?);
    let kernel_size: Dims<N> = dims_or(a, 2, "kernel_size", 0)?;
    let stride: Dims<N> = dims_or(a, 3, "stride", 1)?;
    let padding: Padding<N> = functional::padding(a, 4)?;
    let dilation: Dims<N> = dims_or(a, 5, "dilation", 1)?;
    let (groups, bias) = (a.size_or(6, "groups", 1)?, a.bool_or(7, "bias", true)?);
    let mode = a.str_or(8, "padding_mode", "zeros")?;
    let conv = refused(|| {
        let conv = Conv::new(inputs, outputs, kernel_size).stride(stride).padding(padding).dilation(dilation);
        conv.groups(groups).bias(bias).padding_mode(mode)
    })?;
    Ok(layer(conv.dtype::<T>()))
}
