//! Layers and their parts: structs with parameters, whose forward is a single call into [`functional`](crate::functional).

/// The setter `bias` of a layer whose `weight` has the shape `[out, …]`, which determines the number of inputs: a bias that was
/// removed before is initialised as in a new layer.
macro_rules! bias_setter {
    (|$shape:ident| $inputs:expr) => {
        /// With (the default) or without a bias; a bias that was removed before is initialised again.
        #[track_caller]
        pub fn bias(mut self, bias: bool) -> Self {
            let known = self.weight.known_shape();
            // Not a closure, which would lose the caller's line.
            self.bias = match (self.bias.take(), known.iter().copied().collect::<Option<Vec<usize>>>()) {
                _ if !bias => None,
                (Some(kept), _) => Some(kept),
                (None, Some($shape)) => Some($crate::nn::init::drawn(&$shape[..1], $inputs)),
                (None, None) => Some($crate::nn::Param::lazy(&known[..1])),
            };
            self
        }
    };
}

mod activation;
mod attention;
mod conv;
mod dropout;
mod flatten;
pub mod init;
mod linear;
mod loss;
mod normalization;
mod padding;
mod pooling;
mod rnn;
mod sparse;
pub mod utils;

#[doc(inline)]
pub use crate::{
    functional::Reduction,
    module::{
        AnyBuffer, AnyParam, Buffer, Dict, Dtype, Forward, LoadReport, Mode, Module, ModuleDict, ModuleList, Param,
        ParameterDict, ParameterList, Parameters, Sequential, Summary, summary, summary_of,
    },
    state::StateDict,
};
pub use activation::{
    CELU, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU,
    RReLU, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, SquaredReLU,
    Tanh, Tanhshrink, Threshold,
};
pub use attention::MultiheadAttention;
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use dropout::{AlphaDropout, ChannelDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout};
pub use flatten::{Flatten, Unflatten};
pub use linear::{Bilinear, Identity, LazyLinear, Linear};
pub use loss::{
    BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, MarginRankingLoss, NLLLoss, SmoothL1Loss,
    SoftMarginLoss,
};
pub use ndnn_derive::Module;
pub use normalization::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm};
pub use padding::{
    CircularPad, CircularPad1d, CircularPad2d, CircularPad3d, ConstantPad, ConstantPad1d, ConstantPad2d, ConstantPad3d,
    ReflectionPad, ReflectionPad1d, ReflectionPad2d, ReflectionPad3d, ReplicationPad, ReplicationPad1d,
    ReplicationPad2d, ReplicationPad3d, ZeroPad, ZeroPad1d, ZeroPad2d, ZeroPad3d,
};
pub use pooling::{
    AdaptiveAvgPool, AdaptiveAvgPool1d, AdaptiveAvgPool2d, AdaptiveAvgPool3d, AdaptiveMaxPool, AdaptiveMaxPool1d,
    AdaptiveMaxPool2d, AdaptiveMaxPool3d, AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, FractionalMaxPool,
    FractionalMaxPool2d, FractionalMaxPool3d, LPPool, LPPool1d, LPPool2d, LPPool3d, MaxPool, MaxPool1d, MaxPool2d,
    MaxPool3d, MaxUnpool, MaxUnpool1d, MaxUnpool2d, MaxUnpool3d,
};
pub use rnn::{GRU, GRUCell, LSTM, LSTMCell, Recurrent, RecurrentCell};
pub use sparse::Embedding;
pub use utils::functional_call;
