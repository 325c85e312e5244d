//! Where PyTorch's public names are in ndnn. A path that does not exist does not compile.

use crate::Place;

/// Names of one of PyTorch's modules: those that one module of ndnn has too, and those that stand elsewhere.
macro_rules! there {
    ($($of:literal in $($module:ident)::+ { $($name:ident)* } $($other:ident => $($path:ident)::+;)*)*) => {
        pub const THERE: &[&[Place]] = &[$(
            there!(@ $of, stringify!($($module)::+), $($name)*),
            &[$(Place { of: $of, name: stringify!($other), module: "", path: stringify!($($path)::+) }),*],
        )*];
        $(
            const _: () = {
                #[allow(unused_imports)]
                use $($module)::+::{$($name as _),*};
                $(
                    #[allow(unused_imports)]
                    use $($path)::+ as _;
                )*
            };
        )*
    };
    (@ $of:literal, $module:expr, $($name:ident)*) => {
        &[$(Place { of: $of, name: stringify!($name), module: $module, path: stringify!($name) }),*]
    };
}

there! {
    "torch.nn.utils.rnn" in ndnn::nn::utils::rnn {
        PackedSequence pack_padded_sequence pack_sequence pad_packed_sequence pad_sequence unpack_sequence unpad_sequence
    }
    "torch.nn" in ndnn::nn {
        AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveAvgPool3d AdaptiveLogSoftmaxWithLoss AdaptiveMaxPool1d
        AdaptiveMaxPool2d AdaptiveMaxPool3d AlphaDropout AvgPool1d AvgPool2d AvgPool3d BCELoss BCEWithLogitsLoss
        BatchNorm1d BatchNorm2d BatchNorm3d Bilinear CELU CTCLoss ChannelShuffle CircularPad1d CircularPad2d
        CircularPad3d ConstantPad1d ConstantPad2d ConstantPad3d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d
        ConvTranspose3d CosineEmbeddingLoss CosineSimilarity CrossEntropyLoss CrossMapLRN2d Dropout Dropout1d
        Dropout2d Dropout3d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten Fold FractionalMaxPool2d
        FractionalMaxPool3d GELU GLU GRU GRUCell GaussianNLLLoss GroupNorm Hardshrink Hardsigmoid Hardswish Hardtanh
        HingeEmbeddingLoss HuberLoss Identity InstanceNorm1d InstanceNorm2d InstanceNorm3d KLDivLoss L1Loss LPPool1d
        LPPool2d LPPool3d LSTM LSTMCell LayerNorm LazyBatchNorm1d LazyBatchNorm2d LazyBatchNorm3d LazyConv1d
        LazyConv2d LazyConv3d LazyConvTranspose1d LazyConvTranspose2d LazyConvTranspose3d LazyInstanceNorm1d
        LazyInstanceNorm2d LazyInstanceNorm3d LazyLinear LeakyReLU Linear LinearCrossEntropyLoss LocalResponseNorm
        LogSigmoid LogSoftmax MSELoss MarginRankingLoss MaxPool1d MaxPool2d MaxPool3d MaxUnpool1d MaxUnpool2d
        MaxUnpool3d Mish Module ModuleDict ModuleList MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss
        MultiheadAttention NLLLoss NLLLoss2d PReLU PairwiseDistance ParameterDict ParameterList PixelShuffle
        PixelUnshuffle PoissonNLLLoss RMSNorm RNN RNNCell RReLU ReLU ReLU6 ReflectionPad1d ReflectionPad2d
        ReflectionPad3d ReplicationPad1d ReplicationPad2d ReplicationPad3d SELU Sequential SiLU Sigmoid SmoothL1Loss
        SoftMarginLoss Softmax Softmax2d Softmin Softplus Softshrink Softsign SyncBatchNorm Tanh Tanhshrink Threshold
        Transformer TransformerDecoder TransformerDecoderLayer TransformerEncoder TransformerEncoderLayer
        TripletMarginLoss TripletMarginWithDistanceLoss Unflatten Unfold Upsample UpsamplingBilinear2d
        UpsamplingNearest2d ZeroPad1d ZeroPad2d ZeroPad3d
    }
    "torch.nn.functional" in ndnn::functional {
        adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d
        adaptive_max_pool1d_with_indices adaptive_max_pool2d adaptive_max_pool2d_with_indices adaptive_max_pool3d
        adaptive_max_pool3d_with_indices affine_grid alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm
        bilinear binary_cross_entropy binary_cross_entropy_with_logits celu channel_shuffle conv1d conv2d conv3d
        conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d cosine_embedding_loss cosine_similarity
        cross_entropy ctc_loss dropout dropout1d dropout2d dropout3d elu embedding embedding_bag feature_alpha_dropout
        fold fractional_max_pool2d fractional_max_pool2d_with_indices fractional_max_pool3d
        fractional_max_pool3d_with_indices gaussian_nll_loss gelu glu grid_sample group_norm grouped_mm gumbel_softmax
        hardshrink hardsigmoid hardswish hardtanh hinge_embedding_loss huber_loss instance_norm interpolate kl_div
        l1_loss layer_norm leaky_relu linear linear_cross_entropy local_response_norm log_softmax logsigmoid lp_pool1d
        lp_pool2d lp_pool3d margin_ranking_loss max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices
        max_pool3d max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d mish mse_loss
        multi_head_attention_forward multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss
        normalize one_hot pad pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu relu relu6
        rms_norm rrelu scaled_dot_product_attention selu sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin
        softplus softshrink softsign tanh tanhshrink threshold triplet_margin_loss triplet_margin_with_distance_loss
        unfold upsample upsample_bilinear upsample_nearest
    }
    "torch.nn.init" in ndnn::nn::init {
        calculate_gain constant dirac eye kaiming_normal kaiming_uniform normal orthogonal sparse uniform
        xavier_normal xavier_uniform
    }
    constant_ => ndnn::nn::init::constant;
    dirac_ => ndnn::nn::init::dirac;
    eye_ => ndnn::nn::init::eye;
    kaiming_normal_ => ndnn::nn::init::kaiming_normal;
    kaiming_uniform_ => ndnn::nn::init::kaiming_uniform;
    normal_ => ndnn::nn::init::normal;
    ones_ => ndnn::nn::init::ones;
    orthogonal_ => ndnn::nn::init::orthogonal;
    sparse_ => ndnn::nn::init::sparse;
    trunc_normal_ => ndnn::nn::init::trunc_normal;
    uniform_ => ndnn::nn::init::uniform;
    xavier_normal_ => ndnn::nn::init::xavier_normal;
    xavier_uniform_ => ndnn::nn::init::xavier_uniform;
    zeros_ => ndnn::nn::init::zeros;
    "torch.nn.utils" in ndnn::nn::utils {
        clip_grad_norm fuse_conv_bn_eval fuse_conv_bn_weights fuse_linear_bn_eval fuse_linear_bn_weights get_total_norm
        parameters_to_vector remove_spectral_norm remove_weight_norm skip_init spectral_norm vector_to_parameters
        weight_norm
    }
    clip_grad_norm_ => ndnn::nn::utils::clip_grad_norm;
    clip_grad_value_ => ndnn::nn::utils::clip_grad_value;
    clip_grads_with_norm_ => ndnn::nn::utils::clip_grads_with_norm;
    "torch.nn.utils.prune" in ndnn::nn::utils::prune {
        CustomFromMask Identity L1Unstructured LnStructured RandomStructured RandomUnstructured custom_from_mask
        global_unstructured identity is_pruned l1_unstructured ln_structured random_structured random_unstructured
        remove
    }
    BasePruningMethod => ndnn::nn::utils::prune::PruningMethod;
    "torch.nn.utils.parametrize" in ndnn::nn::utils::parametrize {
        cached is_parametrized register_parametrization remove_parametrizations
    }
    "torch.nn.utils.parametrizations" in ndnn::nn::utils::parametrizations {
        orthogonal spectral_norm weight_norm
    }
    "torch.optim" in ndnn::optim {
        Adam AdamW Optimizer RMSprop SGD
    }
    "torch.utils.data" in ndnn::data {
        DataLoader Dataset Subset TensorDataset random_split
    }
}

/// The names that ndnn does not have: PyTorch's module, names, and why.
pub const ABSENT: &[(&str, &str, &str)] = &[
    ("torch.nn", "LinearCrossEntropyOptions", "`LinearCrossEntropyLoss::batch_chunk_size` says all there is to choose"),
    ("torch.nn", "Container", "deprecated in PyTorch"),
    ("torch.nn", "RNNBase RNNCellBase", "a base class; here `Recurrent` and `RecurrentCell`, generic over the kind"),
    (
        "torch.nn.functional",
        "celu_ elu_ hardtanh_ leaky_relu_ relu_ rrelu_ scaled_addmm_ selu_ threshold_",
        "an in-place form: tensors do not change in place",
    ),
    ("torch.nn.functional", "native_channel_shuffle", "`channel_shuffle`'s private twin"),
    ("torch.nn.functional", "scaled_addmm scaled_grouped_mm scaled_mm", "CUDA only: products of scaled 8-bit floats"),
    (
        "torch.nn.utils",
        "convert_conv2d_weight_memory_format convert_conv3d_weight_memory_format",
        "CUDA and channels-last memory only",
    ),
    ("torch.nn.utils.rnn", "PackedSequence_ bind invert_permutation", "an internal helper of PyTorch"),
    ("torch.nn.utils.prune", "PruningContainer", "pruning again combines the masks by itself"),
    (
        "torch.nn.utils.parametrize",
        "ParametrizationList",
        "an internal class of PyTorch: `named_parameters` and `apply` show what it holds",
    ),
    (
        "torch.nn.utils.parametrize",
        "transfer_parametrizations_and_params",
        "a copy of the parameter has its parametrizations: `to.weight = from.weight.deep_clone()`",
    ),
    ("torch.nn.utils.parametrize", "type_before_parametrizations", "a parametrized module keeps its type"),
    ("torch.optim", "ASGD Adadelta Adafactor Adagrad Adamax LBFGS Muon NAdam RAdam Rprop", "not yet"),
    ("torch.optim", "SparseAdam", "sparse gradients: there are none here"),
    (
        "torch.optim.lr_scheduler",
        "ChainedScheduler ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR \
         LRScheduler LambdaLR LinearLR MultiStepLR MultiplicativeLR OneCycleLR PolynomialLR ReduceLROnPlateau \
         SequentialLR StepLR",
        "not yet",
    ),
    (
        "torch.optim.swa_utils",
        "AveragedModel SWALR get_ema_avg_fn get_ema_multi_avg_fn get_swa_avg_fn get_swa_multi_avg_fn update_bn",
        "not yet",
    ),
    (
        "torch.utils.data",
        "BatchSampler ChainDataset ConcatDataset IterableDataset RandomSampler Sampler SequentialSampler \
         StackDataset SubsetRandomSampler WeightedRandomSampler",
        "not yet",
    ),
    (
        "torch.utils.data",
        "DFIterDataPipe DataChunk IterDataPipe MapDataPipe argument_validation functional_datapipe \
         guaranteed_datapipes_determinism non_deterministic runtime_validation runtime_validation_disabled",
        "data pipes: iterators of Rust's do this",
    ),
    ("torch.utils.data", "DistributedSampler get_worker_info", "one process: there are no workers or ranks"),
    ("torch.utils.data", "default_collate default_convert", "`Batch` and the derived data sets do this by type"),
];
