//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod conv;
mod linear;
pub(crate) mod options;
mod padding;
mod pooling;

pub use conv::{ConvOptions, Padding, conv, conv1d, conv2d, conv3d};
pub use linear::linear;
pub use options::Dims;
pub(crate) use options::options;
pub use padding::{PadMode, PaddingMode, pad};
pub(crate) use pooling::max_pool_setters;
pub use pooling::{
    MaxPoolOptions, PoolStride, max_pool, max_pool_with_indices, max_pool1d, max_pool1d_with_indices, max_pool2d,
    max_pool2d_with_indices, max_pool3d, max_pool3d_with_indices,
};
