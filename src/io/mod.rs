//! Files of weights.

mod atomic;
pub mod safetensors;
