//! Convolutions, folding, and what goes with them.

use ndnn::{
    Real, Result,
    functional::{self as F, ConvOptions, ConvTransposeOptions, FoldOptions, Padding},
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims_or, refused},
        out,
    },
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "conv1d" => conv::<1, T>(a)?,
        "conv2d" => conv::<2, T>(a)?,
        "conv3d" => conv::<3, T>(a)?,
        "conv_tbc" => {
            let (input, weight, bias) = (a.tensor(0, "input")?, a.tensor(1, "weight")?, a.tensor(2, "bias")?);
            out![F::conv_tbc(&input, &weight, &bias, a.size_or(3, "pad", 0)?)?]
        }
        "conv_transpose1d" => conv_transpose::<1, T>(a)?,
        "conv_transpose2d" => conv_transpose::<2, T>(a)?,
        "conv_transpose3d" => conv_transpose::<3, T>(a)?,
        "fold" => {
            let (output, kernel) = (dims_or(a, 1, "output_size", 0)?, dims_or(a, 2, "kernel_size", 0)?);
            out![F::fold(&a.tensor(0, "input")?, output, kernel, fold_options(a, 3)?)?]
        }
        "unfold" => {
            let kernel = dims_or(a, 1, "kernel_size", 0)?;
            out![F::unfold(&a.tensor(0, "input")?, kernel, fold_options(a, 2)?)?]
        }
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

fn conv_transpose<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<ndnn::AnyTensor>> {
    let (input, weight, bias) = (a.tensor(0, "input")?, a.tensor(1, "weight")?, a.opt_tensor(2, "bias")?);
    let (stride, padding) = (dims_or(a, 3, "stride", 1)?, dims_or(a, 4, "padding", 0)?);
    let (output_padding, groups) = (dims_or(a, 5, "output_padding", 0)?, a.size_or(6, "groups", 1)?);
    let dilation = dims_or(a, 7, "dilation", 1)?;
    let options = refused(|| {
        let options = ConvTransposeOptions::<N>::default().stride(stride).padding(padding).groups(groups);
        options.output_padding(output_padding).dilation(dilation)
    })?;
    Ok(out![F::conv_transpose(&input, &weight, bias.as_ref(), options)?])
}

/// Dilation, padding and stride, from the argument `at` on.
pub fn fold_options<T: Real>(a: &Args<T>, at: usize) -> Result<FoldOptions> {
    let (dilation, padding) = (dims_or(a, at, "dilation", 1)?, dims_or(a, at + 1, "padding", 0)?);
    let stride = dims_or(a, at + 2, "stride", 1)?;
    refused(|| FoldOptions::default().dilation(dilation).padding(padding).stride(stride))
}
