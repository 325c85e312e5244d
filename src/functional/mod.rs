//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod linear;
mod norm;
mod options;
mod sparse;

pub use linear::linear;
pub use norm::{BatchNormOptions, batch_norm, layer_norm};
pub use options::Dims;
pub(crate) use options::options;
pub(crate) use sparse::padding_row;
pub use sparse::{EmbeddingOptions, embedding, embedding_renorm};
