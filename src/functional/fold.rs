//! Unfolding an image into columns of windows, and folding them back: each is the derivative of the other.

use super::{
    Dims, options,
    windows::{Sliding, Spatial, batched},
};
use crate::{
    Error, Result,
    kernels::{
        im2col::{fold as fold_kernel, unfold as unfold_kernel},
        sizes::{room, saturating},
        windows::Windows,
    },
    tensor::{Real, Tensor},
};

options! {
    /// The options of unfolding and folding.
    pub struct FoldOptions, setters fold_setters {
        /// The step from one tap of the kernel to the next; 1 by default.
        dilation: into Dims<2> = Dims::from(1), if |d| d.is_positive(), "a dilation is at least 1";
        /// How many zeros are added at each end; 0 by default.
        padding: into Dims<2> = Dims::from(0);
        /// The step from one window to the next; 1 by default.
        stride: into Dims<2> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
    }
}

impl FoldOptions {
    #[inline]
    fn over(&self, image: &Spatial<'_, 2>, kernel_size: Dims<2>) -> Result<Windows> {
        let (pads, kernel) = (self.padding.get().map(|p| (p, p)), kernel_size.get());
        let (stride, dilation) = (self.stride.get(), self.dilation.get());
        Sliding { kernel, stride, dilation, pads, ceil_mode: false }.over(image)
    }
}

/// The windows of an image as columns: `y[n, c·K + k, l]` is the element of channel c at the k-th of the K taps of window l.
///
/// `input` is `(N, C, H, W)` or `(C, H, W)`, the result `(N, C·K, L)` or `(C·K, L)` with L windows, as many as in
/// [`conv2d`](super::conv2d), row by row. As torch.nn.functional.unfold.
///
/// # Errors
/// If the input has another number of axes or is empty, no window fits, or there is not enough memory for the result.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]];
/// let y = F::unfold(&x, 2, Default::default())?;
/// assert_eq!(y, tensor![[1.0, 2.0], [2.0, 3.0], [4.0, 5.0], [5.0, 6.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn unfold<T: Real>(input: &Tensor<T>, kernel_size: impl Into<Dims<2>>, options: FoldOptions) -> Result<Tensor<T>> {
    let image = Spatial::<2>::new("unfold", input.shape())?;
    image.filled(false)?;
    let windows = options.over(&image, kernel_size.into())?;
    let (rows, len) = (saturating([image.channels(), windows.kernel_len()]), saturating(windows.output));
    batched::<2, T>(input, |x| {
        room::<T>("unfold", &[x.shape()[0], rows, len])?;
        Ok(unfolded(x, windows))
    })
}

/// The sum of windows that are columns, each at its place in the image; where windows overlap, elements are added.
///
/// `input` is `(N, C·K, L)` or `(C·K, L)`, the result `(N, C, *output_size)` or `(C, *output_size)`: the reverse of
/// [`unfold`] of an image of this size, up to the number of windows that contain an element. As
/// torch.nn.functional.fold.
///
/// # Errors
/// If the input has another number of axes, is empty, or does not have the windows of such an image, or there is not enough
/// memory for the result.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::fold(&Tensor::ones([4, 2]), [2, 3], 2, Default::default())?;
/// assert_eq!(y, tensor![[[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn fold<T: Real>(
    input: &Tensor<T>,
    output_size: impl Into<Dims<2>>,
    kernel_size: impl Into<Dims<2>>,
    options: FoldOptions,
) -> Result<Tensor<T>> {
    let (output_size, kernel_size) = (output_size.into(), kernel_size.into());
    let wrong = |message: String| Err(Error::shape("fold", message));
    let shape = input.shape();
    let (&[rows, len] | &[_, rows, len]) = shape else {
        return wrong(format!("the input is {shape:?}, expected (N, C * taps, windows) or (C * taps, windows)"));
    };
    let ([height, width], taps) = (output_size.get(), saturating(kernel_size.get()));
    if !output_size.is_positive() || !kernel_size.is_positive() {
        return wrong(format!("output {output_size}, kernel {kernel_size}: each size is at least 1"));
    }
    if rows == 0 || !rows.is_multiple_of(taps) {
        let of = format!("kernel {kernel_size} has {taps} taps: one row for each channel and tap");
        return wrong(format!("the input {shape:?} has {rows} rows, expected a multiple of {taps}, since {of}"));
    }
    let channels = rows / taps;
    let none = |_| {
        Error::shape("fold", format!("an output of {output_size} has no windows of {kernel_size} with these options"))
    };
    let windows = options.over(&Spatial::new("fold", &[channels, height, width])?, kernel_size).map_err(none)?;
    let count = saturating(windows.output);
    if len != count {
        let of = format!("an output of {output_size} has {count} windows of {kernel_size} with these options");
        return wrong(format!("the input {shape:?} has {len} windows, {of}"));
    }
    let fold = |x: &Tensor<T>| {
        room::<T>("fold", &[x.shape()[0], channels, height, width])?;
        Ok(folded(x, channels, windows))
    };
    batched::<1, T>(input, fold)
}

/// The columns of windows of a batch of images.
fn unfolded<T: Real>(x: &Tensor<T>, windows: Windows) -> Tensor<T> {
    let (out, channels) = (unfold_kernel(x.view(), &windows), x.shape()[1]);
    Tensor::op("unfold", out, [x], move |g, _| Ok([Some(folded(g, channels, windows))]))
}

/// The images of a batch of columns.
fn folded<T: Real>(columns: &Tensor<T>, channels: usize, windows: Windows) -> Tensor<T> {
    let out = fold_kernel(columns.view(), channels, &windows);
    Tensor::op("fold", out, [columns], move |g, _| Ok([Some(unfolded(g, windows))]))
}
