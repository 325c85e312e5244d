//! Pooling, resampling, padding.

use ndnn::{
    AnyTensor, DType, Error, Real, Result,
    functional::{
        self as F, AdaptiveSize, AvgPoolOptions, Dims, FractionalSize, LPPoolOptions, MaxPoolOptions, MaxUnpoolOptions,
        PadOptions, PaddingMode, PoolStride,
    },
};

use crate::{
    args::Args,
    targets::{
        Called,
        dims::{dims, dims_or, refused},
        out,
    },
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "avg_pool1d" => avg_pool::<1, T>(a)?,
        "avg_pool2d" => avg_pool::<2, T>(a)?,
        "avg_pool3d" => avg_pool::<3, T>(a)?,
        "max_pool1d" => max_pool::<1, T>(a)?,
        "max_pool2d" => max_pool::<2, T>(a)?,
        "max_pool3d" => max_pool::<3, T>(a)?,
        "max_unpool1d" => max_unpool::<1, T>(a)?,
        "max_unpool2d" => max_unpool::<2, T>(a)?,
        "max_unpool3d" => max_unpool::<3, T>(a)?,
        "lp_pool1d" => lp_pool::<1, T>(a)?,
        "lp_pool2d" => lp_pool::<2, T>(a)?,
        "lp_pool3d" => lp_pool::<3, T>(a)?,
        "adaptive_avg_pool1d" => adaptive_avg_pool::<1, T>(a)?,
        "adaptive_avg_pool2d" => adaptive_avg_pool::<2, T>(a)?,
        "adaptive_avg_pool3d" => adaptive_avg_pool::<3, T>(a)?,
        "adaptive_max_pool1d" => adaptive_max_pool::<1, T>(a)?,
        "adaptive_max_pool2d" => adaptive_max_pool::<2, T>(a)?,
        "adaptive_max_pool3d" => adaptive_max_pool::<3, T>(a)?,
        "fractional_max_pool2d" => fractional_max_pool::<2, T>(a)?,
        "fractional_max_pool3d" => fractional_max_pool::<3, T>(a)?,
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

fn max_unpool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let kernel_size: Dims<N> = dims_or(a, 2, "kernel_size", 0)?;
    let options = max_unpool_options(a, 3)?;
    let output_size = a.opt_sizes(5, "output_size")?;
    let (input, indices) = (a.tensor(0, "input")?, a.long(1, "indices")?);
    Ok(out![F::max_unpool(&input, &indices, kernel_size, options, output_size.as_deref())?])
}

/// The arguments from `stride` on, which is at position `first`.
pub fn max_unpool_options<const N: usize, T: Real>(a: &Args<T>, first: usize) -> Result<MaxUnpoolOptions<N>> {
    let stride: PoolStride<N> = dims(a, first, "stride")?.into();
    let padding = dims_or(a, first + 1, "padding", 0)?;
    refused(|| MaxUnpoolOptions::default().stride(stride).padding(padding))
}

fn lp_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let kernel_size: Dims<N> = dims_or(a, 2, "kernel_size", 0)?;
    let (stride, ceil_mode): (PoolStride<N>, _) = (dims(a, 3, "stride")?.into(), a.bool_or(4, "ceil_mode", false)?);
    let options = refused(|| LPPoolOptions::default().stride(stride).ceil_mode(ceil_mode))?;
    Ok(out![F::lp_pool(&a.tensor(0, "input")?, a.float(1, "norm_type")?, kernel_size, options)?])
}

/// One number, or a list of N numbers and None.
pub fn adaptive_size<const N: usize, T: Real>(a: &Args<T>, index: usize) -> Result<AdaptiveSize<N>> {
    let negative = |_| Error::value("case", "a negative output_size");
    let size = |n: Option<isize>| n.map(usize::try_from).transpose().map_err(negative);
    let sizes: Vec<Option<usize>> =
        a.ints_or_none(index, "output_size")?.into_iter().map(size).collect::<Result<_>>()?;
    match (<[Option<usize>; N]>::try_from(sizes.as_slice()), sizes.as_slice()) {
        (Ok(each), _) if a.is_list(index, "output_size") => Ok(each.into()),
        (_, &[Some(one)]) => Ok(one.into()),
        _ => Err(Error::value("case", format!("output_size is {sizes:?}"))),
    }
}

fn adaptive_avg_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    Ok(out![F::adaptive_avg_pool::<N, T>(&a.tensor(0, "input")?, adaptive_size(a, 1)?)?])
}

fn adaptive_max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (input, size) = (a.tensor(0, "input")?, adaptive_size::<N, T>(a, 1)?);
    Ok(match a.bool_or(2, "return_indices", false)? {
        true => {
            let (values, indices) = F::adaptive_max_pool_with_indices(&input, size)?;
            out![values, indices]
        }
        false => out![F::adaptive_max_pool(&input, size)?],
    })
}

/// `output_size` or `output_ratio`, from position `index` on.
pub fn fractional_size<const N: usize, T: Real>(a: &Args<T>, index: usize) -> Result<FractionalSize<N>> {
    if let Some(size) = dims::<N, T>(a, index, "output_size")? {
        return Ok(size.get().into());
    }
    match a.opt_floats(index + 1, "output_ratio")?.as_deref() {
        Some(&[one]) => Ok(one.into()),
        Some(each) => each.try_into().map(FractionalSize::Ratio).map_err(|_| Error::value("case", "output_ratio")),
        None => Err(Error::value("case", "neither output_size nor output_ratio")),
    }
}

fn fractional_max_pool<const N: usize, T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (input, kernel_size): (_, Dims<N>) = (a.tensor(0, "input")?, dims_or(a, 1, "kernel_size", 0)?);
    let (size, samples) = (fractional_size(a, 2)?, a.opt_detached(5, "_random_samples")?);
    let (values, indices) = F::fractional_max_pool_with_indices(&input, kernel_size, size, samples.as_ref())?;
    Ok(if a.bool_or(4, "return_indices", false)? { out![values, indices] } else { out![values] })
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
