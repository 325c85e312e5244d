//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod activation;
mod dropout;
mod linear;
mod options;

pub use activation::{
    Approximate, celu, elu, gelu, glu, gumbel_softmax, gumbel_softmax_with, hardshrink, hardsigmoid, hardswish,
    hardtanh, leaky_relu, log_softmax, logsigmoid, mish, prelu, relu, relu6, rrelu, rrelu_with, selu, sigmoid, silu,
    softmax, softmin, softplus, softshrink, softsign, tanh, tanhshrink, threshold,
};
pub(crate) use dropout::channel_dropout;
pub use dropout::{
    alpha_dropout, alpha_dropout_with, dropout, dropout_with, dropout1d, dropout1d_with, dropout2d, dropout2d_with,
    dropout3d, dropout3d_with, feature_alpha_dropout, feature_alpha_dropout_with,
};
pub use linear::{bilinear, linear};
pub use options::{Dims, Scalar};
pub(crate) use options::{argument, options};
