//! [`Forward`]: one input, one output tensor.

use super::Module;
use crate::{Real, Result, Tensor};

/// A module that takes one input and returns one tensor, as the layers of a [`Sequential`](super::Sequential) do.
///
/// The input is a tensor of the same type unless `X` says otherwise: an [`Embedding`](crate::nn::Embedding) is a
/// `Forward<f32, Tensor<i64>>`, since it takes indices.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net { fc: Linear, act: Tanh }
/// #[forward]
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
    message = "`{Self}` has no `forward` from this input to a tensor",
    label = "not a `Forward`",
    note = "write `impl Forward for {Self}` with its `forward(&self, x: &Tensor) -> Result<Tensor>`; where it has a type parameter, \
            `impl<T: Real> Forward<T>`",
    note = "a layer for another element type is made by `.dtype::<f64>()`"
)]
pub trait Forward<T: Real = f32, X: 'static = Tensor<T>>: Module + CloneForward<T, X> {
    /// The output for `x`.
    ///
    /// # Errors
    /// If `x` does not match; the error names the layer, and its path in the model if that is marked
    /// [`#[forward]`](crate::forward).
    fn forward(&self, x: &X) -> Result<Tensor<T>>;
}

/// Makes `Box<dyn Forward>` cloneable; implemented for everything that is `Clone`, as `#[derive(Module)]` provides it.
pub trait CloneForward<T: Real, X> {
    #[doc(hidden)]
    fn clone_forward(&self) -> Box<dyn Forward<T, X>>;
}

impl<T: Real, X: 'static, M: Forward<T, X> + Clone> CloneForward<T, X> for M {
    fn clone_forward(&self) -> Box<dyn Forward<T, X>> {
        Box::new(self.copied())
    }
}

impl<T: Real, X: 'static> Clone for Box<dyn Forward<T, X>> {
    fn clone(&self) -> Self {
        (**self).clone_forward()
    }
}

impl<T: Real, X: 'static> Forward<T, X> for Box<dyn Forward<T, X>> {
    fn forward(&self, x: &X) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
}
