//! [`Forward`]: one tensor in, one tensor out; and what runs around it.

use super::{Module, printing, summary};
use crate::{DType, Real, Result, Tensor};
use std::any::Any;

/// A module that takes one tensor and gives one: what a [`Sequential`](super::Sequential) holds.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net { fc: Linear, act: Tanh }
/// impl Forward for Net {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.act.forward(&self.fc.forward(x)?)
///     }
/// }
/// let net = Net { fc: Linear::new(3, 2), act: Tanh };
/// assert_eq!(net.forward(&Tensor::zeros([5, 3]))?.shape(), [5, 2]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not take a tensor of `{T}` to a tensor of `{T}`",
    label = "not a `Forward<{T}>`",
    note = "write `impl Forward for {Self}` with its `forward(&self, x: &Tensor) -> Result<Tensor>`; where it has a type parameter, \
            `impl<T: Real> Forward<T>`",
    note = "a layer for another element type is made by `.dtype::<f64>()`"
)]
pub trait Forward<T: Real = f32>: Module + CloneForward<T> {
    /// The output for `x`.
    ///
    /// # Errors
    /// If `x` does not fit; the error names the layer.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;

    /// This layer in another element type, as a `Box<dyn Forward<U>>`; `None` where it has no such form.
    #[doc(hidden)]
    fn dtype_boxed(&self, _dtype: DType) -> Option<Box<dyn Any>> {
        None
    }
}

/// What makes `Box<dyn Forward>` cloneable; holds for everything that is `Clone`, as `#[derive(Module)]` makes it.
pub trait CloneForward<T: Real> {
    #[doc(hidden)]
    fn clone_forward(&self) -> Box<dyn Forward<T>>;
}

impl<T: Real, M: Forward<T> + Clone> CloneForward<T> for M {
    fn clone_forward(&self) -> Box<dyn Forward<T>> {
        Box::new(self.copied())
    }
}

impl<T: Real> Clone for Box<dyn Forward<T>> {
    fn clone(&self) -> Self {
        (**self).clone_forward()
    }
}

impl<T: Real> Forward<T> for Box<dyn Forward<T>> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
    fn dtype_boxed(&self, dtype: DType) -> Option<Box<dyn Any>> {
        (**self).dtype_boxed(dtype)
    }
}

/// Runs a layer's forward: an error in it names the layer, and a [`summary`](super::summary()) under way sees the output.
pub fn run<M: Module, R: summary::Output>(module: &M, forward: impl FnOnce() -> Result<R>) -> Result<R> {
    summary::observe(module, || forward().map_err(|e| e.within(printing::line(module))))
}
