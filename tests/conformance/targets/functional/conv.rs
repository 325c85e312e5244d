//! Convolutions, folding, and what goes with them.

use ndnn::{
    Real, Result,
    functional::{self as F, ConvOptions, Padding},
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims_or, refused},
        out,
    },
};

pub const BUILT: &[&str] = &["conv1d", "conv2d", "conv3d"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "conv1d" => conv::<1, T>(a)?,
        "conv2d" => conv::<2, T>(a)?,
        "conv3d" => conv::<3, T>(a)?,
        _ => return Ok(None),
    }))
}

fn conv<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<ndnn::AnyTensor>> {
    let (stride, padding) = (dims_or(a, 3, "stride", 1)?, padding(a, 4)?);
    let (dilation, groups) = (dims_or(a, 5, "dilation", 1)?, a.size_or(6, "groups", 1)?);
    let options =
        refused(|| ConvOptions::<N>::default().stride(stride).padding(padding).dilation(dilation).groups(groups))?;
    let (input, weight, bias) = (a.tensor(0, "input")?, a.tensor(1, "weight")?, a.opt_tensor(2, "bias")?);
    Ok(out![F::conv(&input, &weight, bias.as_ref(), options)?])
}

/// Numbers or a word.
pub fn padding<const N: usize, T: Real>(a: &Args<T>, index: usize) -> Result<Padding<N>> {
    match a.is_str(index, "padding") {
        true => a.str(index, "padding")?.parse(),
        false => Ok(dims_or(a, index, "padding", 0)?.into()),
    }
}
