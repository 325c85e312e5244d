//! [`Operand`]: what may stand on the right of an operation.

use super::{Element, Tensor};

/// What may stand on the right of an operation: a tensor, by value or by reference, or a scalar.
pub trait Operand<T: Element> {
    /// As a tensor; a scalar has no axes.
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
