//! Helpers for training: clipping gradients.

mod clip_grad;

pub use clip_grad::{clip_grad_norm, clip_grad_norm_p, clip_grad_value};
