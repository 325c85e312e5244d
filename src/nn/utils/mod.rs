//! torch.nn.utils: norms and clipping of gradients, parametrizations, pruning, fused layers, parameters as one vector, sequences of
//! different lengths, running a model with other parameters or with less memory.

mod checkpoint;
mod clip_grad;
mod convert_parameters;
mod functional_call;
mod fusion;
pub mod parametrizations;
pub mod parametrize;
pub mod prune;
pub mod rnn;
mod skip_init;
pub(super) mod snapshot;
mod spectral_norm;
mod weight_norm;

pub use checkpoint::{checkpoint, checkpoint_with};
pub use clip_grad::{
    TotalNormOptions, clip_grad_norm, clip_grad_norm_with, clip_grad_value, clip_grads_with_norm, get_total_norm,
};
pub use convert_parameters::{parameters_to_vector, vector_to_parameters};
pub use functional_call::functional_call;
pub use fusion::{
    BatchNormTensors, fuse_conv_bn_eval, fuse_conv_bn_weights, fuse_linear_bn_eval, fuse_linear_bn_weights,
};
pub use skip_init::skip_init;
pub use spectral_norm::{remove_spectral_norm, spectral_norm};
pub use weight_norm::{remove_weight_norm, weight_norm};
