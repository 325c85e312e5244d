//! [`Operand`]: what may be the right operand of an operation.

use super::{Element, Tensor};

/// What may be the right operand of an operation: a tensor, by value or by reference, or a scalar.
pub trait Operand<T: Element> {
    /// The operand as a tensor; a scalar has no axes.
    fn operand(self) -> Tensor<T>;
}

impl<T: Element> Operand<T> for &Tensor<T> {
    fn operand(self) -> Tensor<T> {
        self.clone()
    }
}

impl<T: Element> Operand<T> for Tensor<T> {
    fn operand(self) -> Tensor<T> {
        self
    }
}

impl<T: Element> Operand<T> for T {
    fn operand(self) -> Tensor<T> {
        Tensor::scalar(self)
    }
}
