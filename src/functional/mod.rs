//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod linear;
mod options;

pub use linear::linear;
pub use options::Dims;
pub(crate) use options::options;
