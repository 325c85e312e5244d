//! Layers and their parts: structs with parameters, whose forward is a single call into [`functional`](crate::functional).

/// The setter `bias` of a layer whose `weight` has the shape `[out, …]`, which determines the number of inputs: a bias that was
/// removed before is initialised as in a new layer. If `out` is not the first axis, a method of the layer returns it.
macro_rules! bias_setter {
    (@outputs $layer:expr, $known:expr) => {
        $known[0]
    };
    (@outputs $layer:expr, $known:expr, $outputs:ident) => {
        $layer.$outputs()
    };
    (|$shape:ident| $inputs:expr $(, $outputs:ident)?) => {
        /// With (the default) or without a bias; a bias that was removed before is initialised again.
        #[track_caller]
        pub fn bias(mut self, bias: bool) -> Self {
            let known = self.weight.known_shape();
            let outputs = bias_setter!(@outputs self, known $(, $outputs)?);
            // Not a closure, which would lose the caller's line.
            self.bias = match (self.bias.take(), known.iter().copied().collect::<Option<Vec<usize>>>()) {
                _ if !bias => None,
                (Some(kept), _) => Some(kept),
                (None, Some($shape)) => Some($crate::nn::init::drawn(outputs.as_slice(), $inputs)),
                (None, None) => Some($crate::nn::Param::lazy([outputs])),
            };
            self
        }
    };
}

mod activation;
mod adaptive;
mod attention;
mod conv;
mod distance;
mod dropout;
mod flatten;
mod fold;
pub mod init;
mod linear;
mod loss;
mod normalization;
mod padding;
pub mod parallel;
mod pooling;
mod rnn;
mod sparse;
mod transformer;
mod upsampling;
pub mod utils;
mod vision;

#[doc(inline)]
pub use crate::{
    functional::Reduction,
    module::{
        AnyBuffer, AnyParam, Buffer, Dict, Dtype, Forward, LoadReport, Mode, Module, ModuleDict, ModuleExt, ModuleList,
        Param, ParameterDict, ParameterList, Parameters, Sequential, Summary, summary, summary_of,
    },
    state::StateDict,
};
pub use activation::{
    CELU, ELU, GELU, GLU, Hardshrink, Hardsigmoid, Hardswish, Hardtanh, LeakyReLU, LogSigmoid, LogSoftmax, Mish, PReLU,
    RReLU, ReLU, ReLU6, SELU, SiLU, Sigmoid, Softmax, Softmax2d, Softmin, Softplus, Softshrink, Softsign, SquaredReLU,
    Tanh, Tanhshrink, Threshold,
};
pub use adaptive::AdaptiveLogSoftmaxWithLoss;
pub use attention::MultiheadAttention;
pub use conv::{
    Conv, Conv1d, Conv2d, Conv3d, ConvTranspose, ConvTranspose1d, ConvTranspose2d, ConvTranspose3d, LazyConv,
    LazyConv1d, LazyConv2d, LazyConv3d, LazyConvTranspose, LazyConvTranspose1d, LazyConvTranspose2d,
    LazyConvTranspose3d,
};
pub use distance::{CosineSimilarity, PairwiseDistance};
pub use dropout::{AlphaDropout, ChannelDropout, Dropout, Dropout1d, Dropout2d, Dropout3d, FeatureAlphaDropout};
pub use flatten::{Flatten, Unflatten};
pub use fold::{Fold, Unfold};
pub use linear::{Bilinear, Identity, LazyLinear, Linear};
pub use loss::{
    BCELoss, BCEWithLogitsLoss, CTCLoss, CosineEmbeddingLoss, CrossEntropyLoss, Distance, GaussianNLLLoss,
    HingeEmbeddingLoss, HuberLoss, KLDivLoss, L1Loss, LinearCrossEntropyLoss, MSELoss, MarginRankingLoss,
    MultiLabelMarginLoss, MultiLabelSoftMarginLoss, MultiMarginLoss, NLLLoss, NLLLoss2d, PoissonNLLLoss, SmoothL1Loss,
    SoftMarginLoss, TripletMarginLoss, TripletMarginWithDistanceLoss,
};
pub use ndnn_derive::Module;
pub use normalization::{
    BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, CrossMapLRN2d, GroupNorm, InstanceNorm, InstanceNorm1d,
    InstanceNorm2d, InstanceNorm3d, LayerNorm, LazyBatchNorm, LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d,
    LazyInstanceNorm, LazyInstanceNorm1d, LazyInstanceNorm2d, LazyInstanceNorm3d, LocalResponseNorm, RMSNorm,
    SyncBatchNorm,
};
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
pub use rnn::{GRU, GRUCell, LSTM, LSTMCell, RNN, RNNCell, Recurrent, RecurrentCell};
pub use sparse::{Embedding, EmbeddingBag};
pub use transformer::{
    Transformer, TransformerActivation, TransformerDecoder, TransformerDecoderLayer, TransformerDecoderOptions,
    TransformerEncoder, TransformerEncoderLayer, TransformerEncoderOptions, TransformerOptions,
};
pub use upsampling::{Upsample, UpsamplingBilinear2d, UpsamplingNearest2d};
pub use utils::functional_call;
pub use vision::{ChannelShuffle, PixelShuffle, PixelUnshuffle};
