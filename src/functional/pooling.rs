//! Pooling.

use super::{
    Dims,
    conv::{no_longer, padded, three},
    options,
};
use crate::{
    Error, Result,
    kernels::{layout::row_major, pooling::unpool, sizes::room, windows::Windows},
    tensor::{Real, Tensor, grad_enabled},
};

/// The step from one window of a pooling to the next: the window's own size unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStride<const N: usize>(Option<Dims<N>>);

impl<const N: usize> PoolStride<N> {
    /// The step for windows of this size.
    pub fn or(self, kernel_size: Dims<N>) -> Dims<N> {
        self.0.unwrap_or(kernel_size)
    }
}

impl<const N: usize> From<usize> for PoolStride<N> {
    fn from(one: usize) -> Self {
        PoolStride(Some(one.into()))
    }
}

impl<const N: usize> From<[usize; N]> for PoolStride<N> {
    fn from(sizes: [usize; N]) -> Self {
        PoolStride(Some(sizes.into()))
    }
}

impl<const N: usize> From<Option<Dims<N>>> for PoolStride<N> {
    fn from(sizes: Option<Dims<N>>) -> Self {
        PoolStride(sizes)
    }
}

options! {
    /// What max pooling takes besides the input and the windows' size.
    pub struct MaxPoolOptions[const N: usize][N], setters max_pool_setters {
        /// The step from one window to the next; the windows' size by default.
        stride: into crate::functional::PoolStride<N> = PoolStride::default(),
            if |s| s.0.is_none_or(Dims::is_positive), "a stride is at least 1";
        /// How many elements, never the largest, are added at each end; 0 by default, at most half a window.
        padding: into Dims<N> = Dims::from(0);
        /// The step from one element of a window to the next; 1 by default.
        dilation: into Dims<N> = Dims::from(1), if |d| d.is_positive(), "a dilation is at least 1";
        /// Whether a last window that does not fit wholly counts too, if it starts inside.
        ceil_mode: of bool = false;
    }
}

/// The largest element of each window over N axes.
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; the result has the same leading axes and
/// `out = ⌊(size + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1`, or ⌈…⌉ with `ceil_mode`, where the last
/// window starts inside. The first of equals wins, and gets the gradient; NaN is larger than anything.
///
/// # Errors
/// If the input has another number of axes or is empty, no window fits, or there is no memory for the result.
pub fn max_pool<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    options: MaxPoolOptions<N>,
) -> Result<Tensor<T>> {
    if input.requires_grad() && grad_enabled() {
        return Ok(max_pool_with_indices(input, kernel_size, options)?.0);
    }
    let Pooling { op, windows, shape } = Pooling::new(input, kernel_size.into(), &options)?;
    if room::<T>(op, &shape)? == 0 {
        return Ok(input.nothing(op, &shape));
    }
    Ok(T::max_pool_values(&row_major(&input.view()), &windows).array(shape.as_slice()).into())
}

/// What is known before a pooling runs: the windows, none of which lies wholly in the padding, and the result's shape.
struct Pooling {
    op: &'static str,
    windows: Windows,
    shape: Vec<usize>,
}

impl Pooling {
    fn new<const N: usize, T: Real>(
        input: &Tensor<T>,
        kernel_size: Dims<N>,
        options: &MaxPoolOptions<N>,
    ) -> Result<Pooling> {
        let op = const { ["max_pool1d", "max_pool2d", "max_pool3d"][N - 1] };
        let windows = windows(op, input.shape(), kernel_size, options)?;
        let shape = [&input.shape()[..input.ndim() - N], &windows.output[3 - N..]].concat();
        // Of a result without elements there may be very many windows.
        let padding_alone = |axis: usize| windows.spans(axis).iter().any(|span| span.count == 0);
        if room::<i64>(op, &shape)? > 0 && (0..3).any(padding_alone) {
            let what = format!("a window lies wholly in the padding of the input {:?}", input.shape());
            return Err(Error::shape(op, what));
        }
        Ok(Pooling { op, windows, shape })
    }
}

/// As [`max_pool`], also where each came from: its index in the row-major sizes of its channel.
///
/// # Errors
/// As [`max_pool`].
pub fn max_pool_with_indices<const N: usize, T: Real>(
    input: &Tensor<T>,
    kernel_size: impl Into<Dims<N>>,
    options: MaxPoolOptions<N>,
) -> Result<(Tensor<T>, Tensor<i64>)> {
    let Pooling { op, windows, shape } = Pooling::new(input, kernel_size.into(), &options)?;
    if room::<i64>(op, &shape)? == 0 {
        return Ok((input.nothing(op, &shape), Tensor::from_vec(&shape, Vec::new())?));
    }
    let (values, places) = T::max_pool(&row_major(&input.view()), &windows);
    let places = Tensor::from(places.array(shape.as_slice()));
    let rows: usize = shape[..input.ndim() - N].iter().product();
    let index = places.reshape([rows as isize, windows.output_len() as isize])?;
    let x = input.clone();
    let out = values.array(shape.as_slice());
    let out = Tensor::op(op, out, [input], move |g, _| Ok([Some(unpooled(g, &x, &index)?)]));
    Ok((out, places))
}

/// The derivative of max pooling: each element of `g` added at the place in `x` that it came from, a row of `index` a
/// channel. `x` only decides the places: its derivative is zero, as PyTorch has it, and not absent.
fn unpooled<T: Real>(g: &Tensor<T>, x: &Tensor<T>, index: &Tensor<i64>) -> Result<Tensor<T>> {
    let (rows, inside) = (index.shape()[0], x.numel() / index.shape()[0].max(1));
    let placed = unpool(&row_major(&g.view()), &row_major(&index.view()), rows, inside).array(x.shape());
    let (x, index, shape) = (x.clone(), index.clone(), g.shape().to_vec());
    Ok(Tensor::op("max_pool_backward", placed, [g, &x.clone()], move |h, [by_g, by_x]| {
        let picked = || h.reshape([rows as isize, inside as isize])?.gather(1, &index)?.reshape(&shape);
        Ok([by_g.then(picked).transpose()?, by_x.then(|| x.zeros_like())])
    }))
}

/// Where the windows lie, by PyTorch's rules.
fn windows<const N: usize>(
    op: &str,
    shape: &[usize],
    kernel_size: Dims<N>,
    options: &MaxPoolOptions<N>,
) -> Result<Windows> {
    let (kernel, stride) = (kernel_size.get(), options.stride.or(kernel_size).get());
    let (padding, dilation) = (options.padding.get(), options.dilation.get());
    for (name, sizes) in [("window", kernel), ("stride", stride), ("dilation", dilation)] {
        if sizes.contains(&0) {
            return Err(Error::value(op, format!("a {name} of {sizes:?}: each is at least 1")));
        }
    }
    if let Some(i) = (0..N).find(|&i| padding[i] > kernel[i] / 2) {
        let (p, k) = (padding[i], kernel[i]);
        return Err(Error::value(
            op,
            format!("a padding of {p} is more than half a window of {k} (axis {i} of the sizes)"),
        ));
    }
    let (one, many) = (N + 1, N + 2);
    if shape.len() != one && shape.len() != many {
        return Err(Error::shape(
            op,
            format!("the input is {shape:?}, expected {many} axes (batch, channels, sizes) or {one} without a batch"),
        ));
    }
    if shape[shape.len() - N - 1..].contains(&0) {
        return Err(Error::shape(op, format!("the input {shape:?} is empty; only the batch may be")));
    }
    let sizes: [usize; N] = shape[shape.len() - N..].try_into().expect("as many axes as checked");
    let (mut output, mut whole) = ([0; N], [0; N]);
    for i in 0..N {
        whole[i] = padded(op, i, sizes[i], (padding[i], padding[i]))?;
        output[i] = output_size(sizes[i], kernel[i], stride[i], padding[i], dilation[i], options.ceil_mode)
            .ok_or_else(|| {
                let span = format!("windows of {kernel:?} with dilation {dilation:?} and padding {padding:?}");
                Error::shape(
                    op,
                    format!("no window fits axis {i} of the sizes {sizes:?} of the input {shape:?}: {span}"),
                )
            })?;
    }
    Ok(Windows {
        input: three(sizes, 1),
        kernel: three(kernel, 1),
        stride: three(no_longer(stride, whole), 1),
        dilation: three(no_longer(dilation, whole), 1),
        before: three(padding, 0),
        output: three(output, 1),
    })
}

/// The number of windows along one axis; `None` if there is none.
fn output_size(
    size: usize,
    kernel: usize,
    stride: usize,
    padding: usize,
    dilation: usize,
    ceil_mode: bool,
) -> Option<usize> {
    let wide = |n: usize| n as i128;
    let (size, stride, padding) = (wide(size), wide(stride), wide(padding));
    let reach = (wide(kernel) - 1).saturating_mul(wide(dilation)).min(1 << 100) + 1;
    let room = size + 2 * padding - reach + if ceil_mode { stride - 1 } else { 0 };
    let mut count = room.div_euclid(stride) + 1;
    if ceil_mode && (count - 1) * stride >= size + padding {
        count -= 1;
    }
    usize::try_from(count).ok().filter(|&count| count > 0)
}

macro_rules! named {
    ($($(#[$doc:meta])* $name:ident, $with_indices:ident, $n:literal;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// As [`max_pool`].
        pub fn $name<T: Real>(
            input: &Tensor<T>,
            kernel_size: impl Into<Dims<$n>>,
            options: MaxPoolOptions<$n>,
        ) -> Result<Tensor<T>> {
            max_pool(input, kernel_size, options)
        }

        #[doc = concat!("[`", stringify!($name), "`] and the indices, as [`max_pool_with_indices`].")]
        ///
        /// # Errors
        /// As [`max_pool`].
        pub fn $with_indices<T: Real>(
            input: &Tensor<T>,
            kernel_size: impl Into<Dims<$n>>,
            options: MaxPoolOptions<$n>,
        ) -> Result<(Tensor<T>, Tensor<i64>)> {
            max_pool_with_indices(input, kernel_size, options)
        }
    )*};
}

named! {
    /// [`max_pool`] over one axis: `(B, C, L)` or `(C, L)`.
    max_pool1d, max_pool1d_with_indices, 1;
    /// [`max_pool`] over two axes: `(B, C, H, W)` or `(C, H, W)`.
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x = tensor![[[1.0, 5.0, 2.0, 0.0], [3.0, 4.0, 2.0, 9.0]]];
    /// assert_eq!(F::max_pool2d(&x, 2, Default::default())?, tensor![[[5.0, 9.0]]]);
    /// assert_eq!(F::max_pool2d_with_indices(&x, 2, Default::default())?.1, tensor![[[1, 7]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    max_pool2d, max_pool2d_with_indices, 2;
    /// [`max_pool`] over three axes: `(B, C, D, H, W)` or `(C, D, H, W)`.
    max_pool3d, max_pool3d_with_indices, 3;
}
