//! Utilities: clipping gradients, parametrizations, running a model with other parameters or with less memory, sequences of
//! different lengths.

mod checkpoint;
mod clip_grad;
mod functional_call;
pub mod parametrizations;
pub mod parametrize;
pub mod rnn;
pub(super) mod snapshot;

pub use checkpoint::{checkpoint, checkpoint_with};
pub use clip_grad::{clip_grad_norm, clip_grad_norm_p, clip_grad_value};
pub use functional_call::functional_call;
