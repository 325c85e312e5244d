//! Fractional max pooling: windows at steps that vary at random.

use ndnn_derive::concrete;

use super::{filled, max::picked};
use crate::{
    Error, Result,
    functional::{
        Dims,
        windows::{Spatial, pad_to_3},
    },
    kernels::{
        memory::vector,
        pooling::{self, Fractional},
        sizes::room,
    },
    tensor::{Real, Tensor},
};

/// The size of the result of a fractional pooling along each of N axes: whole numbers, or the ratio to the size of the
/// input, between 0 and 1; one number for all axes, or an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FractionalSize<const N: usize> {
    /// These sizes.
    Size([usize; N]),
    /// These parts of the input's sizes, rounded down.
    Ratio([f64; N]),
}

impl<const N: usize> From<usize> for FractionalSize<N> {
    fn from(one: usize) -> Self {
        FractionalSize::Size([one; N])
    }
}

impl<const N: usize> From<[usize; N]> for FractionalSize<N> {
    fn from(sizes: [usize; N]) -> Self {
        FractionalSize::Size(sizes)
    }
}

impl<const N: usize> From<f64> for FractionalSize<N> {
    fn from(one: f64) -> Self {
        FractionalSize::Ratio([one; N])
    }
}

impl<const N: usize> From<[f64; N]> for FractionalSize<N> {
    fn from(ratios: [f64; N]) -> Self {
        FractionalSize::Ratio(ratios)
    }
}

impl<const N: usize> FractionalSize<N> {
    /// # Errors
    /// If a ratio is not between 0 and 1.
    pub(crate) fn check(self) -> Result<()> {
        match self {
            FractionalSize::Ratio(ratios) if !ratios.iter().all(|&r| 0. < r && r < 1.) => Err(Error::value(
                "fractional_max_pool",
                format!("output ratios of {ratios:?}: each is between 0 and 1"),
            )),
            _ => Ok(()),
        }
    }
}

/// The largest element of each window over 2 or 3 axes, where the windows are as far apart as the size of the result asks
/// for, on average.
///
/// Along an axis of n elements window `o` of `m` starts at `⌊(o + u)·α⌋ − ⌊u·α⌋` with `α = (n − kernel_size) / (m − 1)`,
/// the last one at `n − kernel_size`; u is drawn from U(0, 1) for each channel and axis. `input` is `(B, C, *sizes)` or,
/// without a batch, `(C, *sizes)`; the result has the same leading axes and the sizes `output`. With `random_samples`, `(B,
/// C, N)` with a batch of 1 if the input has none, these are the numbers u: in the order of the sizes over three axes, in
/// the reverse order over two. See [Fractional Max-Pooling](https://arxiv.org/abs/1412.6071).
///
/// # Errors
/// If the input has another number of axes, an axis other than the first one is empty, a ratio is not between 0 and 1, so
/// many windows do not fit, the samples have another shape or are not in `[0, 1]`, or there is not enough memory for the
/// result.
pub fn fractional_max_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    output: impl Into<FractionalSize<N>>,
    random_samples: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    Ok(fractional_max_pool_with_indices(input, kernel_size, output, random_samples)?.0)
}

/// As [`fractional_max_pool`], and also the position of each element: its row-major index among the sizes of its channel.
///
/// # Errors
/// As [`fractional_max_pool`].
pub fn fractional_max_pool_with_indices<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    output: impl Into<FractionalSize<N>>,
    random_samples: Option<&Tensor<T>>,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    const { assert!(N == 2 || N == 3, "fractional pooling is over 2 or 3 axes") };
    let op = const { ["", "fractional_max_pool2d", "fractional_max_pool3d"][N - 1] };
    let (kernel, output) = (kernel_size.into().get(), output.into());
    let spatial = Spatial::<N>::new(op, input.shape())?;
    filled(op, input.shape())?;
    output.check()?;
    let output = match output {
        FractionalSize::Size(sizes) => sizes,
        FractionalSize::Ratio(ratios) => std::array::from_fn(|i| (spatial.sizes[i] as f64 * ratios[i]) as usize),
    };
    for i in 0..N {
        let (n, k, m) = (spatial.sizes[i], kernel[i], output[i]);
        // As in PyTorch, where one window less fits over three axes.
        let most = n as i128 + 1 - k as i128 - i128::from(N == 3);
        if k == 0 || m as i128 > most {
            let what = format!("{m} windows of {k} for axis {i} of the sizes, which has {n} elements");
            let limit = format!("a window has 1 element or more, and {} of these fit", most.max(0));
            return Err(Error::shape(op, format!("{what} (input {:?}); {limit}", input.shape())));
        }
    }
    let windows = [spatial.sizes, kernel, output].map(|sizes| pad_to_3(sizes, 1));
    let shape = [spatial.leading(), &output].concat();
    fractional(op, input, windows, &shape, random_samples, N)
}

/// `windows` is the sizes of the input, of a window and of the output.
fn fractional<T: Real>(
    op: &'static str,
    x: &Tensor<T>,
    windows: [[usize; 3]; 3],
    shape: &[usize],
    samples: Option<&Tensor<T>>,
    axes: usize,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let lead = &shape[..shape.len() - axes];
    let (batch, channels) = (if lead.len() == 2 { lead[0] } else { 1 }, lead[lead.len() - 1]);
    // As in PyTorch there may be more than are needed.
    let fits = |u: &Tensor<T>| u.ndim() == 3 && u.shape()[0] >= batch && u.shape()[1..] == [channels, axes];
    if let Some(samples) = samples.filter(|samples| !fits(samples)) {
        let what = format!("the random samples are {:?}, expected [{batch}, {channels}, {axes}]", samples.shape());
        return Err(Error::shape(op, what));
    }
    if room::<i64>(op, shape)? == 0 {
        return Ok((x.nothing(op, shape), Tensor::from_vec(shape, Vec::new())?));
    }
    room::<T>(op, &[batch, channels, axes])?;
    let samples = samples.map_or_else(|| Tensor::rand([batch, channels, axes]), Tensor::detach);
    let samples = for_three_axes(op, &samples, axes)?;
    let [input, kernel, output] = windows;
    let windows = Fractional { input, kernel, output, samples: &samples };
    let found = pooling::fractional_max_pool(&x.elements(), &windows);
    picked(op, x, found, output.iter().product(), shape)
}

/// The samples of each channel, in the order of three axes.
#[concrete]
fn for_three_axes<T: Real>(op: &'static str, samples: &Tensor<T>, axes: usize) -> Result<Vec<T>> {
    let samples = samples.elements();
    let mut three = vector(samples.len() / axes * 3);
    for of_channel in samples.chunks_exact(axes) {
        for &u in of_channel {
            if !(T::ZERO <= u && u <= T::ONE) {
                return Err(Error::value(op, format!("the random samples are between 0 and 1, got {u}")));
            }
        }
        match *of_channel {
            [width, height] => three.extend([T::ZERO, height, width]),
            _ => three.extend_from_slice(of_channel),
        }
    }
    Ok(three)
}

/// The names over 2 and 3 axes.
macro_rules! named {
    ($($(#[$doc:meta])* $name:ident = $family:ident over $n:literal, $axes:literal -> $result:ty;)*) => {$(
        #[doc = concat!("[`", stringify!($family), "`] over ", $axes, ".\n")]
        ///
        /// # Errors
        #[doc = concat!("As [`", stringify!($family), "`].\n")]
        $(#[$doc])*
        pub fn $name<T: Real>(
            input: &Tensor<T>,
            kernel_size: impl Into<Dims<$n>>,
            output: impl Into<FractionalSize<$n>>,
            random_samples: Option<&Tensor<T>>,
        ) -> Result<$result> {
            $family(input, kernel_size, output, random_samples)
        }
    )*};
}
named! {
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x: Tensor = Tensor::rand([8, 16, 15, 15]);
    /// assert_eq!(F::fractional_max_pool2d(&x, 2, 0.7, None)?.shape(), [8, 16, 10, 10]);
    /// assert_eq!(F::fractional_max_pool2d(&x, 2, [9, 8], None)?.shape(), [8, 16, 9, 8]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    fractional_max_pool2d = fractional_max_pool over 2, "two axes: `(N, C, H, W)` or `(C, H, W)`" -> Tensor<T>;
    fractional_max_pool3d = fractional_max_pool over 3, "three axes: `(N, C, D, H, W)` or `(C, D, H, W)`" -> Tensor<T>;
    fractional_max_pool2d_with_indices = fractional_max_pool_with_indices over 2,
        "two axes: `(N, C, H, W)` or `(C, H, W)`" -> (Tensor<T>, Tensor<i64>);
    fractional_max_pool3d_with_indices = fractional_max_pool_with_indices over 3,
        "three axes: `(N, C, D, H, W)` or `(C, D, H, W)`" -> (Tensor<T>, Tensor<i64>);
}
