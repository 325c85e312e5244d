//! Gradients: [`Tensor::backward`](crate::Tensor::backward), [`grad`], and checks of them against finite differences.

mod again;
mod check;
mod engine;

pub(crate) use again::{apart, gradients_again};
pub use check::{CheckOptions, gradcheck, gradgradcheck};
pub(crate) use engine::gradients;
pub use engine::{grad, grad_with};
