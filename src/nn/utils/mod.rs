//! Utilities: clipping gradients, parametrizations, running a model with other parameters, sequences of
//! different lengths.

mod clip_grad;
mod functional_call;
pub mod parametrizations;
pub mod parametrize;
pub mod rnn;

pub use clip_grad::{clip_grad_norm, clip_grad_norm_p, clip_grad_value};
pub use functional_call::functional_call;
