//! Gradients: [`Tensor::backward`](crate::Tensor::backward), [`grad`], and checks of them against finite differences.

mod check;
mod engine;

pub use check::{CheckOptions, gradcheck, gradgradcheck};
pub(crate) use engine::{apart, gradients};
pub use engine::{grad, grad_with};
