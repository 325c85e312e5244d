//! Convolutions, folding, and what goes with them.

use ndnn::{
    Real, Result,
    functional::{Dims, Padding},
    nn::{Conv, ConvTranspose, Dtype, Fold, LazyConv, LazyConvTranspose, Unfold},
};

use super::{Built, Case, case, layer};
use crate::{
    args::Args,
    targets::{
        dims::{dims_or, refused},
        functional, out,
    },
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Conv1d" => conv::<1, T>(a)?,
        "Conv2d" => conv::<2, T>(a)?,
        "Conv3d" => conv::<3, T>(a)?,
        "ConvTranspose1d" => transposed::<1, T>(a)?,
        "ConvTranspose2d" => transposed::<2, T>(a)?,
        "ConvTranspose3d" => transposed::<3, T>(a)?,
        "Fold" => {
            let (output, kernel) = (dims_or(a, 0, "output_size", 0)?, dims_or(a, 1, "kernel_size", 0)?);
            let o = functional::fold_options(a, 2)?;
            let fold = refused(|| Fold::new(output, kernel))?;
            layer(fold.dilation(o.get_dilation()).padding(o.get_padding()).stride(o.get_stride()))
        }
        "LazyConv1d" => lazy_conv::<1, T>(a)?,
        "LazyConv2d" => lazy_conv::<2, T>(a)?,
        "LazyConv3d" => lazy_conv::<3, T>(a)?,
        "LazyConvTranspose1d" => lazy_transposed::<1, T>(a)?,
        "LazyConvTranspose2d" => lazy_transposed::<2, T>(a)?,
        "LazyConvTranspose3d" => lazy_transposed::<3, T>(a)?,
        "Unfold" => {
            let (kernel, o) = (dims_or(a, 0, "kernel_size", 0)?, functional::fold_options(a, 1)?);
            let unfold = refused(|| Unfold::new(kernel))?;
            layer(unfold.dilation(o.get_dilation()).padding(o.get_padding()).stride(o.get_stride()))
        }
        _ => return Ok(None),
    }))
}

fn conv<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (inputs, outputs) = (a.size(0, "in_channels")?, a.size(1, "out_channels")?);
    let kernel_size: Dims<N> = dims_or(a, 2, "kernel_size", 0)?;
    finish(a, 3, || Conv::new(inputs, outputs, kernel_size))
}

fn lazy_conv<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (outputs, kernel_size) = (a.size(0, "out_channels")?, dims_or::<N, T>(a, 1, "kernel_size", 0)?);
    finish(a, 2, || LazyConv::new(outputs, kernel_size))
}

/// The options, from the argument `at` on.
fn finish<const N: usize, T: Real>(a: &Args<T>, at: usize, make: impl FnOnce() -> Conv<N>) -> Result<Box<dyn Case<T>>> {
    let stride: Dims<N> = dims_or(a, at, "stride", 1)?;
    let padding: Padding<N> = functional::padding(a, at + 1)?;
    let dilation: Dims<N> = dims_or(a, at + 2, "dilation", 1)?;
    let (groups, bias) = (a.size_or(at + 3, "groups", 1)?, a.bool_or(at + 4, "bias", true)?);
    let mode = a.str_or(at + 5, "padding_mode", "zeros")?;
    let conv = refused(|| {
        let conv = make().stride(stride).padding(padding).dilation(dilation);
        conv.groups(groups).bias(bias).padding_mode(mode)
    })?;
    Ok(layer(conv.dtype::<T>()))
}

fn transposed<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (inputs, outputs) = (a.size(0, "in_channels")?, a.size(1, "out_channels")?);
    let kernel_size: Dims<N> = dims_or(a, 2, "kernel_size", 0)?;
    finish_transposed(a, 3, || ConvTranspose::new(inputs, outputs, kernel_size))
}

fn lazy_transposed<const N: usize, T: Real>(a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    let (outputs, kernel_size) = (a.size(0, "out_channels")?, dims_or::<N, T>(a, 1, "kernel_size", 0)?);
    finish_transposed(a, 2, || LazyConvTranspose::new(outputs, kernel_size))
}

fn finish_transposed<const N: usize, T: Real>(
    a: &Args<T>,
    at: usize,
    make: impl FnOnce() -> ConvTranspose<N>,
) -> Result<Box<dyn Case<T>>> {
    let (stride, padding): (Dims<N>, Dims<N>) = (dims_or(a, at, "stride", 1)?, dims_or(a, at + 1, "padding", 0)?);
    let (more, groups) = (dims_or::<N, T>(a, at + 2, "output_padding", 0)?, a.size_or(at + 3, "groups", 1)?);
    let (bias, dilation) = (a.bool_or(at + 4, "bias", true)?, dims_or::<N, T>(a, at + 5, "dilation", 1)?);
    let layer = refused(|| {
        assert_eq!(a.str_or(at + 6, "padding_mode", "zeros").unwrap(), "zeros", "there is no other");
        make().stride(stride).padding(padding).output_padding(more).groups(groups).bias(bias).dilation(dilation)
    })?;
    Ok(case(layer.dtype::<T>(), |m, a| {
        let x = a.tensor(0, "input")?;
        Ok(out![match a.opt_sizes(1, "output_size")? {
            Some(sizes) => m.forward_with_output_size(&x, sizes)?,
            None => ndnn::nn::Forward::forward(m, &x)?,
        }])
    }))
}
