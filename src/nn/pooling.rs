//! Pooling layers; see [`functional::max_pool`](crate::functional::max_pool).

use crate::{
    Result,
    functional::{self as F, Dims, MaxPoolOptions},
    module::{ExtraRepr, run},
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// The largest element of each window over N axes; see [`functional::max_pool`](crate::functional::max_pool).
///
/// Input `(B, C, *sizes)` or `(C, *sizes)`.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = MaxPool2d::new(2);
/// assert_eq!(layer.to_string(), "MaxPool2d(kernel_size=2, stride=2, padding=0, dilation=1, ceil_mode=False)");
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 32, 32]))?.shape(), [8, 3, 16, 16]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name, stateless)]
pub struct MaxPool<const N: usize> {
    kernel_size: Dims<N>,
    options: MaxPoolOptions<N>,
}

/// [`MaxPool`] over one axis.
pub type MaxPool1d = MaxPool<1>;
/// [`MaxPool`] over two axes.
pub type MaxPool2d = MaxPool<2>;
/// [`MaxPool`] over three axes.
pub type MaxPool3d = MaxPool<3>;

impl<const N: usize> MaxPool<N> {
    /// Windows of this size, side by side.
    #[track_caller]
    pub fn new(kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into();
        assert!(kernel_size.is_positive(), "a kernel size is at least 1, not {kernel_size}");
        MaxPool { kernel_size, options: MaxPoolOptions::default() }
    }

    F::max_pool_setters!();

    /// The output for `x`, and where each element came from, as PyTorch's `return_indices`: what unpooling takes.
    ///
    /// # Errors
    /// If `x` does not fit; the error names the layer.
    pub fn forward_with_indices<T: Real>(&self, x: &Tensor<T>) -> Result<(Tensor<T>, Tensor<i64>)> {
        run(self, || F::max_pool_with_indices(x, self.kernel_size, self.options))
    }

    fn type_name(&self) -> String {
        format!("MaxPool{N}d")
    }

    fn extra_repr(&self) -> String {
        let MaxPoolOptions { stride, padding, dilation, ceil_mode } = self.options;
        let extra =
            ExtraRepr::new().named("kernel_size", self.kernel_size).named("stride", stride.or(self.kernel_size));
        extra.named("padding", padding).named("dilation", dilation).named("ceil_mode", ceil_mode).finish()
    }
}

impl<const N: usize, T: Real> Forward<T> for MaxPool<N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(self.forward_with_indices(x)?.0)
    }
    crate::forward_dtype!();
}
