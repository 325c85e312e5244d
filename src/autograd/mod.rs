//! Gradients: [`Tensor::backward`], [`grad`], and checks of them against finite differences.

mod engine;

pub use engine::{grad, grad_with};
