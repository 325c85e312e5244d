//! The operations of a network, each with its derivative: every layer of [`nn`](crate::nn) as a plain function.

mod activation;
mod attention;
mod conv;
mod distance;
mod dropout;
mod fold;
mod lengths;
mod linear;
mod loss;
mod normalization;
mod options;
mod padding;
mod pooling;
mod rnn;
mod sparse;
mod upsampling;
mod vision;
mod windows;

pub use activation::{
    GELUApproximate, celu, elu, gelu, glu, gumbel_softmax, hardshrink, hardsigmoid, hardswish, hardtanh, leaky_relu,
    log_softmax, logsigmoid, mish, prelu, relu, relu6, rrelu, selu, sigmoid, silu, softmax, softmin, softplus,
    softshrink, softsign, squared_relu, tanh, tanhshrink, threshold,
};
pub use attention::{
    AttentionMask, AttentionOptions, InProjection, KeyValueCache, MultiheadAttentionParameters,
    ScaledDotProductAttentionOptions, multi_head_attention_cached, multi_head_attention_forward,
    scaled_dot_product_attention,
};
pub(crate) use attention::{Slot, attended, causal};
pub(crate) use conv::{CONV, CONV_TRANSPOSE, conv_setters, conv_transpose_setters, output_padding_for};
pub use conv::{
    ConvOptions, ConvTransposeOptions, Padding, conv, conv_tbc, conv_transpose, conv_transpose1d, conv_transpose2d,
    conv_transpose3d, conv1d, conv2d, conv3d,
};
pub use distance::{CosineSimilarityOptions, PairwiseDistanceOptions, cosine_similarity, pairwise_distance, pdist};
pub(crate) use distance::{cosine_similarity_setters, pairwise_distance_setters};
pub(crate) use dropout::channel_dropout;
pub use dropout::{alpha_dropout, dropout, dropout1d, dropout2d, dropout3d, feature_alpha_dropout};
pub(crate) use fold::fold_setters;
pub use fold::{FoldOptions, fold, unfold};
pub use lengths::Lengths;
pub use linear::{bilinear, grouped_mm, linear};
pub(crate) use loss::triplet_margin_with_distance_setters;
pub use loss::{
    BCELossOptions, BCEWithLogitsLossOptions, CTCLossOptions, CosineEmbeddingLossOptions, CrossEntropyLossOptions,
    CrossEntropyTarget, GaussianNLLLossOptions, HingeEmbeddingLossOptions, HuberLossOptions, KLDivLossOptions,
    KLDivReduction, L1LossOptions, LinearCrossEntropyLossOptions, MSELossOptions, MarginRankingLossOptions,
    MultiLabelMarginLossOptions, MultiLabelSoftMarginLossOptions, MultiMarginLossOptions, NLLLossOptions,
    PoissonNLLLossOptions, Reduction, SmoothL1LossOptions, SoftMarginLossOptions, TripletMarginLossOptions,
    TripletMarginWithDistanceLossOptions, binary_cross_entropy, binary_cross_entropy_with_logits,
    cosine_embedding_loss, cross_entropy, ctc_loss, gaussian_nll_loss, hinge_embedding_loss, huber_loss, kl_div,
    l1_loss, linear_cross_entropy, margin_ranking_loss, mse_loss, multi_margin_loss, multilabel_margin_loss,
    multilabel_soft_margin_loss, nll_loss, poisson_nll_loss, smooth_l1_loss, soft_margin_loss, triplet_margin_loss,
    triplet_margin_with_distance_loss,
};
pub use normalization::{
    BatchNormOptions, InstanceNormOptions, LocalResponseNormOptions, NormalizeOptions, batch_norm, group_norm,
    instance_norm, layer_norm, local_response_norm, normalize, rms_norm,
};
pub(crate) use normalization::{
    batch_norm_and_moments, batch_norm_of_parts, cross_map_lrn, instance_norm_and_moments, local_response_norm_setters,
    towards,
};
pub use options::{Dims, PerAxis, PyNumber};
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
pub use rnn::{
    GruKind, LstmKind, LstmState, PackedSequence, RecurrentKind, RecurrentOptions, RecurrentState, RecurrentWeights,
    RnnKind, RnnNonlinearity, gru, gru_cell, gru_packed, lstm, lstm_cell, lstm_packed, rnn, rnn_cell, rnn_packed,
};
pub(crate) use rnn::{packed, recurrent_setters};
pub use sparse::{
    EmbeddingBagMode, EmbeddingBagOptions, EmbeddingOptions, embedding, embedding_bag, embedding_renorm, one_hot,
};
pub(crate) use sparse::{embedding_bag_setters, embedding_setters, padding_row, renorm};
pub(crate) use upsampling::interpolate_setters;
pub use upsampling::{
    InterpolateMode, InterpolateOptions, Resize, interpolate, upsample, upsample_bilinear, upsample_nearest,
};
pub use vision::{
    GridSampleMode, GridSampleOptions, GridSamplePadding, affine_grid, channel_shuffle, grid_sample, pixel_shuffle,
    pixel_unshuffle,
};
pub(crate) use windows::Spatial;
