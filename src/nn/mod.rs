//! Layers and what they are made of: structs with parameters whose forward is one call into [`functional`](crate::functional).

mod activation;
mod attention;
mod container;
mod conv;
mod copies;
mod dropout;
mod flatten;
pub mod init;
mod linear;
mod loss;
mod module;
mod norm;
mod operators;
mod param;
pub(crate) mod pattern;
mod pooling;
mod repr;
mod rnn;
mod sparse;
mod state;
mod summary;
pub mod utils;
mod walk;

pub use crate::functional::Reduction;
pub use activation::{
    CELU, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU,
    RReLU, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, Tanh,
    Tanhshrink, Threshold,
};
pub use attention::MultiheadAttention;
pub use container::{ModuleDict, ModuleList, Named, ParameterDict, ParameterList, Sequential};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use copies::copying;
pub use dropout::{AlphaDropout, ChannelDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout};
pub use flatten::{Flatten, Unflatten};
pub use linear::{Bilinear, Identity, Linear};
pub use loss::{BCELoss, BCEWithLogitsLoss, CrossEntropyLoss, HuberLoss, L1Loss, MSELoss, NLLLoss, SmoothL1Loss};
pub use module::{CloneForward, Dtype, Field, Forward, Members, MembersMut, Mode, Module, run};
pub use ndnn_derive::Module;
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm};
pub use param::{AnyBuffer, AnyParam, Buffer, Param, Parameters};
pub use pooling::{MaxPool, MaxPool1d, MaxPool2d, MaxPool3d};
pub use repr::{py_bool, py_float, py_tuple, repr};
pub use rnn::LSTM;
pub use sparse::Embedding;
pub use state::{LoadReport, StateDict};
pub use summary::{Output, Row, Summary, summary, summary_of};
