//! The reverse of max pooling.

use ndnn_derive::concrete;

use super::{PoolStride, filled};
use crate::{
    Error, Result,
    functional::{Dims, by_rank, options, windows::Spatial},
    kernels::sizes::room,
    tensor::{Real, Tensor},
};

options! {
    /// The options of max unpooling: those of the pooling that it reverses.
    pub struct MaxUnpoolOptions[const N: usize][N], setters max_unpool_setters {
        /// The step from one window to the next; the size of a window by default.
        stride: into crate::functional::PoolStride<N> = PoolStride::default(),
            if |s| s.0.is_none_or(Dims::is_positive), "a stride is at least 1";
        /// How many elements were added at each end; 0 by default.
        padding: into Dims<N> = Dims::from(0);
    }
}

/// Reverses max pooling over N axes: places each element where `indices` says, among zeros.
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`, and `indices`, of the same shape, is what
/// [`max_pool_with_indices`](super::max_pool_with_indices) returned with it: for each element a row-major index among the
/// sizes of the result. These are `output_size` if it is given, N sizes or all axes, and otherwise `(size − 1)·stride +
/// kernel_size − 2·padding`, from which `output_size` may differ by less than a stride. Of elements with the same index the
/// last one is used, and all get its gradient.
///
/// # Errors
/// If the shapes do not match, an axis other than the first one is empty, there can be no such `output_size`, an index is
/// negative or outside the result, or there is not enough memory for it.
pub fn max_unpool<const N: usize, T: Real>(
    input: &Tensor<T>,
    indices: &Tensor<i64>,
    kernel_size: impl Into<Dims<N>>,
    options: MaxUnpoolOptions<N>,
    output_size: Option<&[usize]>,
) -> Result<Tensor<T>> {
    let op = const { ["max_unpool1d", "max_unpool2d", "max_unpool3d"][N - 1] };
    let spatial = Spatial::<N>::new(op, input.shape())?;
    if indices.shape() != input.shape() {
        let what = format!(
            "the indices are {:?}, the input {:?}; expected one index for each element",
            indices.shape(),
            input.shape()
        );
        return Err(Error::shape(op, what));
    }
    filled(op, input.shape())?;
    let sizes = unpooled_sizes(&spatial, kernel_size.into(), options, output_size)?;
    let shape = [spatial.leading(), &sizes].concat();
    placed(op, input, indices, &shape, N)
}

/// The sizes of the result.
fn unpooled_sizes<const N: usize>(
    input: &Spatial<'_, N>,
    kernel_size: Dims<N>,
    MaxUnpoolOptions { stride, padding }: MaxUnpoolOptions<N>,
    output_size: Option<&[usize]>,
) -> Result<[usize; N]> {
    let &Spatial { op, shape, sizes } = input;
    let [kernel, stride, padding] = [kernel_size.get(), stride.or(kernel_size).get(), padding.get()];
    let given = match output_size {
        None => None,
        Some(all) => {
            Some(*all.last_chunk::<N>().filter(|_| [N, N + 2, shape.len()].contains(&all.len())).ok_or_else(|| {
                Error::shape(op, format!("the output size is {all:?}, expected {N} sizes or the shape of the result"))
            })?)
        }
    };
    let mut result = [0; N];
    for i in 0..N {
        let stride = stride[i] as i128;
        let usual = (sizes[i] as i128 - 1) * stride + kernel[i] as i128 - 2 * padding[i] as i128;
        result[i] = match given {
            Some(given) if (given[i] as i128 - usual).abs() < stride => given[i],
            Some(given) => {
                let (least, most) = ((usual - stride + 1).max(0), usual + stride - 1);
                let what = format!("an output size of {:?} for the input {shape:?}", given);
                return Err(Error::value(
                    op,
                    format!("{what}: axis {i} of the sizes may have {least} to {most} elements"),
                ));
            }
            None => usize::try_from(usual).map_err(|_| {
                let what = format!("axis {i} of the sizes of the input {shape:?} would become {usual} elements long");
                Error::value(op, format!("{what} with windows of {kernel:?}, stride {stride}, padding {padding:?}"))
            })?,
        };
    }
    Ok(result)
}

/// Zeros of this shape, with the elements at their places among the last `axes` axes.
#[concrete]
fn placed<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    indices: &Tensor<i64>,
    shape: &[usize],
    axes: usize,
) -> Result<Tensor<T>> {
    let (leading, sizes) = shape.split_at(shape.len() - axes);
    if room::<T>(op, shape)? == 0 {
        return Ok(input.nothing(op, shape));
    }
    let (rows, inside) = (leading.iter().product::<usize>(), sizes.iter().product::<usize>());
    if let Some(index) = indices.elements().iter().find(|&&i| usize::try_from(i).map_or(true, |i| i >= inside)) {
        let what =
            format!("the index {index} is outside the result, which has {inside} elements per channel, {sizes:?}");
        let hint = "if the pooling's input had other sizes, give them as the output size";
        return Err(Error::index(op, format!("{what}; {hint}")));
    }
    let rows = [rows as isize, (input.numel() / rows) as isize];
    let zeros = Tensor::zeros([rows[0] as usize, inside]);
    zeros.scatter(1, &indices.reshape(rows)?, &input.reshape(rows)?)?.reshape(shape)
}

by_rank! {
    ($n) max_unpool(input, indices, kernel_size, options, output_size):
        (input: &Tensor<T>, indices: &Tensor<i64>, kernel_size: impl Into<Dims<$n>>, options: MaxUnpoolOptions<$n>, output_size: Option<&[usize]>) -> Tensor<T>;
    max_unpool1d,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0]]];
    /// let (y, indices) = F::max_pool2d_with_indices(&x, 2, Default::default())?;
    /// let back = F::max_unpool2d(&y, &indices, 2, Default::default(), Some(x.shape()))?;
    /// assert_eq!(back, tensor![[[0.0, 5.0, 0.0, 0.0], [0.0, 0.0, 0.0, 9.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    max_unpool2d,
    max_unpool3d
}
