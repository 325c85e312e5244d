//! Unfolding into columns of windows, and folding back; see [`functional::unfold`](crate::functional::unfold).

use crate::{
    Result, forward,
    functional::{self as F, Dims, FoldOptions},
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// The windows of an image as columns; see [`functional::unfold`](F::unfold).
///
/// Input `(N, C, H, W)` or `(C, H, W)`, output `(N, C · taps, windows)` or `(C · taps, windows)`.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Unfold::new([2, 3]);
/// assert_eq!(layer.to_string(), "Unfold(kernel_size=(2, 3), dilation=1, padding=0, stride=1)");
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([2, 5, 3, 4]))?.shape(), [2, 30, 4]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, stateless)]
pub struct Unfold {
    kernel_size: Dims<2>,
    options: FoldOptions,
}

impl Unfold {
    /// Windows of this size.
    #[track_caller]
    pub fn new(kernel_size: impl Into<Dims<2>>) -> Self {
        Unfold { kernel_size: positive("kernel", kernel_size.into()), options: FoldOptions::default() }
    }

    F::fold_setters!();

    #[inline]
    fn extra_repr(&self) -> String {
        described(ExtraRepr::new(), self.kernel_size, &self.options)
    }
}

#[forward]
impl<T: Real> Forward<T> for Unfold {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::unfold(x, self.kernel_size, self.options)
    }
}

/// The sum of windows that are columns, each at its place in an image; see [`functional::fold`](F::fold).
///
/// Input `(N, C · taps, windows)` or `(C · taps, windows)`, output `(N, C, *output_size)` or `(C, *output_size)`.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Fold::new([4, 5], [2, 2]);
/// assert_eq!(layer.to_string(), "Fold(output_size=(4, 5), kernel_size=(2, 2), dilation=1, padding=0, stride=1)");
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([1, 12, 12]))?.shape(), [1, 3, 4, 5]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, stateless)]
pub struct Fold {
    output_size: Dims<2>,
    kernel_size: Dims<2>,
    options: FoldOptions,
}

impl Fold {
    /// From windows of the size `kernel_size` to images of the size `output_size`.
    #[track_caller]
    pub fn new(output_size: impl Into<Dims<2>>, kernel_size: impl Into<Dims<2>>) -> Self {
        let (output_size, kernel_size) = (output_size.into(), kernel_size.into());
        let options = FoldOptions::default();
        Fold { output_size: positive("output", output_size), kernel_size: positive("kernel", kernel_size), options }
    }

    F::fold_setters!();

    #[inline]
    fn extra_repr(&self) -> String {
        described(ExtraRepr::new().named("output_size", self.output_size), self.kernel_size, &self.options)
    }
}

#[forward]
impl<T: Real> Forward<T> for Fold {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::fold(x, self.output_size, self.kernel_size, self.options)
    }
}

#[track_caller]
fn positive(what: &str, size: Dims<2>) -> Dims<2> {
    assert!(size.is_positive(), "each {what} size is at least 1, got {size}");
    size
}

fn described(extra: ExtraRepr, kernel_size: Dims<2>, options: &FoldOptions) -> String {
    let extra = extra.named("kernel_size", kernel_size).named("dilation", options.dilation);
    extra.named("padding", options.padding).named("stride", options.stride).finish()
}
