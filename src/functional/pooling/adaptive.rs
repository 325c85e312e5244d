//! Adaptive pooling: windows that follow from the size of the result.

use super::{
    Pooling,
    average::means,
    filled,
    max::{largest, largest_with_indices},
};
use crate::{
    Error, Result,
    functional::{
        by_rank,
        windows::{Spatial, pad_to_3},
    },
    kernels::pooling::Pattern,
    python::{AsPython, py_tuple},
    tensor::{Real, Tensor},
};

/// The size of the result of an adaptive pooling along each of N axes: one number for all, or an array of numbers or of
/// `Option`s, where `None` keeps the size of the input.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x: Tensor = Tensor::zeros([1, 8, 9]);
/// assert_eq!(F::adaptive_avg_pool2d(&x, 3)?.shape(), [1, 3, 3]);
/// assert_eq!(F::adaptive_avg_pool2d(&x, [2, 3])?.shape(), [1, 2, 3]);
/// assert_eq!(F::adaptive_avg_pool2d(&x, [None, Some(3)])?.shape(), [1, 8, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AdaptiveSize<const N: usize> {
    sizes: [Option<usize>; N],
    one: bool,
}

impl<const N: usize> From<usize> for AdaptiveSize<N> {
    fn from(one: usize) -> Self {
        AdaptiveSize { sizes: [Some(one); N], one: true }
    }
}

impl<const N: usize> From<[usize; N]> for AdaptiveSize<N> {
    fn from(sizes: [usize; N]) -> Self {
        AdaptiveSize { sizes: sizes.map(Some), one: false }
    }
}

impl<const N: usize> From<[Option<usize>; N]> for AdaptiveSize<N> {
    fn from(sizes: [Option<usize>; N]) -> Self {
        AdaptiveSize { sizes, one: false }
    }
}

/// As PyTorch prints the argument: `3`, `(3, None)`.
impl<const N: usize> AsPython for AdaptiveSize<N> {
    fn python(&self) -> String {
        let each = self.sizes.map(|size| size.python());
        if self.one { each[0].clone() } else { py_tuple(&each) }
    }
}

/// The windows for a result of this size; `channels_may` be empty.
fn adaptive<const N: usize>(
    op: &'static str,
    shape: &[usize],
    size: AdaptiveSize<N>,
    channels_may: bool,
) -> Result<Pooling> {
    let input = Spatial::<N>::new(op, shape)?;
    match channels_may {
        true if input.sizes.contains(&0) => {
            return Err(Error::shape(op, format!("the input {shape:?} is empty; only batch or channels may be")));
        }
        true => (),
        false => filled(op, shape)?,
    }
    let mut output = input.sizes;
    output.iter_mut().zip(size.sizes).for_each(|(n, size)| *n = size.unwrap_or(*n));
    let pattern = Pattern::Adaptive { input: pad_to_3(input.sizes, 1), output: pad_to_3(output, 1) };
    Ok(Pooling { op, pattern, shape: [input.leading(), &output].concat() })
}

/// The mean of each of `output_size` windows along N axes, which cover the input evenly.
///
/// Along an axis of `n` elements window `o` of `m` is `⌊o·n / m⌋ .. ⌈(o + 1)·n / m⌉`: windows may overlap, and differ in
/// length by one. `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes
/// and the sizes `output_size`.
///
/// # Errors
/// If the input has another number of axes or its sizes (over three axes also the channels) are empty, or there is not
/// enough memory for the result.
pub fn adaptive_avg_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    output_size: impl Into<AdaptiveSize<N>>,
) -> Result<Tensor<T>> {
    let op = const { ["adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d"][N - 1] };
    // As in PyTorch.
    let channels_may = N < 3;
    means(input, adaptive(op, input.shape(), output_size.into(), channels_may)?, N, None, false)
}

/// [`adaptive_avg_pool`] of an input `(B, C, *sizes)` over 1, 2 or 3 axes, under the name of an operation that checked it.
pub(in crate::functional) fn area<T: Real>(op: &'static str, input: &Tensor<T>, sizes: &[usize]) -> Result<Tensor<T>> {
    let shape = input.shape();
    let pattern = Pattern::Adaptive { input: pad_to_3(&shape[2..], 1), output: pad_to_3(sizes, 1) };
    means(input, Pooling { op, pattern, shape: [&shape[..2], sizes].concat() }, sizes.len(), None, false)
}

const MAX: [&str; 3] = ["adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d"];

/// The largest element of each of `output_size` windows along N axes, which are those of [`adaptive_avg_pool`].
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes and the sizes
/// `output_size`. Of equal elements the first one is chosen, and gets the gradient; NaN is larger than anything.
///
/// # Errors
/// If the input has another number of axes, an axis other than the first one is empty, or there is not enough memory for
/// the result.
pub fn adaptive_max_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    output_size: impl Into<AdaptiveSize<N>>,
) -> Result<Tensor<T>> {
    largest(input, adaptive(MAX[N - 1], input.shape(), output_size.into(), false)?)
}

/// As [`adaptive_max_pool`], and also the position of each element: its row-major index among the sizes of its channel.
///
/// # Errors
/// As [`adaptive_max_pool`].
pub fn adaptive_max_pool_with_indices<const N: usize, T: Real>(
    input: &Tensor<T>,
    output_size: impl Into<AdaptiveSize<N>>,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    largest_with_indices(input, adaptive(MAX[N - 1], input.shape(), output_size.into(), false)?)
}

by_rank! {
    ($n) adaptive_avg_pool(input, output_size):
        (input: &Tensor<T>, output_size: impl Into<AdaptiveSize<$n>>) -> Tensor<T>;
    adaptive_avg_pool1d,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 3.0], [3.0, 3.0, 7.0]]];
    /// assert_eq!(F::adaptive_avg_pool2d(&x, [1, 2])?, tensor![[[3.0, 4.5]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    adaptive_avg_pool2d,
    adaptive_avg_pool3d
}

by_rank! {
    ($n) adaptive_max_pool(input, output_size):
        (input: &Tensor<T>, output_size: impl Into<AdaptiveSize<$n>>) -> Tensor<T>;
    adaptive_max_pool1d,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 3.0], [3.0, 3.0, 7.0]]];
    /// assert_eq!(F::adaptive_max_pool2d(&x, [Some(1), None])?, tensor![[[3.0, 5.0, 7.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    adaptive_max_pool2d,
    adaptive_max_pool3d
}

by_rank! {
    ($n) adaptive_max_pool_with_indices(input, output_size):
        (input: &Tensor<T>, output_size: impl Into<AdaptiveSize<$n>>) -> (Tensor<T>, Tensor<i64>);
    adaptive_max_pool1d_with_indices,
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 3.0], [3.0, 3.0, 7.0]]];
    /// assert_eq!(F::adaptive_max_pool2d_with_indices(&x, [1, 2])?.1, tensor![[[1, 5]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    adaptive_max_pool2d_with_indices,
    adaptive_max_pool3d_with_indices
}
