//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod activation;
mod attention;
mod conv;
mod dropout;
mod linear;
mod loss;
mod normalization;
mod options;
mod padding;
mod pooling;
mod rnn;
mod sparse;
mod windows;

pub use activation::{
    GELUApproximate, celu, elu, gelu, glu, gumbel_softmax, hardshrink, hardsigmoid, hardswish, hardtanh, leaky_relu,
    log_softmax, logsigmoid, mish, prelu, relu, relu6, rrelu, selu, sigmoid, silu, softmax, softmin, softplus,
    softshrink, softsign, squared_relu, tanh, tanhshrink, threshold,
};
pub use attention::{
    AttentionMask, AttentionOptions, InProjection, MultiheadAttentionParameters, ScaledDotProductAttentionOptions,
    multi_head_attention_forward, scaled_dot_product_attention,
};
pub(crate) use conv::conv_setters;
pub use conv::{ConvOptions, Padding, conv, conv1d, conv2d, conv3d};
pub(crate) use dropout::channel_dropout;
pub use dropout::{alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout};
pub use linear::{bilinear, linear};
pub use loss::{
    BCELossOptions, BCEWithLogitsLossOptions, CrossEntropyLossOptions, CrossEntropyTarget, HuberLossOptions,
    L1LossOptions, MSELossOptions, MarginRankingLossOptions, NLLLossOptions, Reduction, SmoothL1LossOptions,
    SoftMarginLossOptions, binary_cross_entropy, binary_cross_entropy_with_logits, cross_entropy, huber_loss, l1_loss,
    margin_ranking_loss, mse_loss, nll_loss, smooth_l1_loss, soft_margin_loss,
};
pub use normalization::{BatchNormOptions, batch_norm, group_norm, layer_norm};
pub(crate) use normalization::{batch_norm_and_moments, towards};
pub use options::{Dims, PyNumber};
pub(crate) use options::{argument, by_rank, changed, no_word, options, panics, refuse_unless, setters, words};
pub use padding::{PadOptions, PaddingMode, Pads, pad};
pub use pooling::{
    AdaptiveSize, AvgPoolOptions, FractionalSize, LPPoolOptions, MaxPoolOptions, MaxUnpoolOptions, PoolStride,
    adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool,
    adaptive_max_pool_with_indices, adaptive_max_pool1d, adaptive_max_pool1d_with_indices, adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices, adaptive_max_pool3d, adaptive_max_pool3d_with_indices, avg_pool, avg_pool1d,
    avg_pool2d, avg_pool3d, fractional_max_pool, fractional_max_pool_with_indices, fractional_max_pool2d,
    fractional_max_pool2d_with_indices, fractional_max_pool3d, fractional_max_pool3d_with_indices, lp_pool, lp_pool1d,
    lp_pool2d, lp_pool3d, max_pool, max_pool_with_indices, max_pool1d, max_pool1d_with_indices, max_pool2d,
    max_pool2d_with_indices, max_pool3d, max_pool3d_with_indices, max_unpool, max_unpool1d, max_unpool2d, max_unpool3d,
};
pub(crate) use pooling::{avg_pool_setters, lp_pool_setters, max_pool_setters, max_unpool_setters};
pub(crate) use rnn::recurrent_setters;
pub use rnn::{
    GruKind, LstmKind, LstmState, RecurrentKind, RecurrentOptions, RecurrentState, RecurrentWeights, gru, gru_cell,
    lstm, lstm_cell,
};
pub(crate) use sparse::embedding_setters;
pub use sparse::{EmbeddingOptions, embedding, embedding_renorm};
pub(crate) use sparse::{padding_row, renorm};
