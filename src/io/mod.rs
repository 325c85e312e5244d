//! Files of weights.

mod atomic;
mod header;
pub mod safetensors;
