//! Layers and their parts: structs with parameters, whose forward is a single call into [`functional`](crate::functional).

mod activation;
mod attention;
mod conv;
mod dropout;
mod flatten;
pub mod init;
mod linear;
mod loss;
mod normalization;
mod pooling;
mod rnn;
mod sparse;
pub mod utils;

#[doc(inline)]
pub use crate::{
    functional::Reduction,
    module::{
        AnyBuffer, AnyParam, Buffer, Dtype, Forward, LoadReport, Mode, Module, ModuleDict, ModuleList, Named, Param,
        ParameterDict, ParameterList, Parameters, Sequential, Summary, summary, summary_of,
    },
    state::StateDict,
};
pub use activation::{
    CELU, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU,
    RReLU, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanh,
    Tanhshrink, Threshold,
};
pub use attention::MultiheadAttention;
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use dropout::{AlphaDropout, ChannelDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout};
pub use flatten::{Flatten, Unflatten};
pub use linear::{Bilinear, Identity, LazyLinear, Linear};
pub use loss::{
    BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss, SoftMarginLoss,
};
pub use ndnn_derive::Module;
pub use normalization::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, GroupNorm, LayerNorm};
pub use pooling::{AvgPool, AvgPool1d, AvgPool2d, AvgPool3d, MaxPool, MaxPool1d, MaxPool2d, MaxPool3d};
pub use rnn::LSTM;
pub use sparse::Embedding;
pub use utils::functional_call;
