//! Losses as layers; see [`functional`].
//!
//! A loss compares two or three tensors, so it has a different `forward(&input, &target)` and cannot be in a `Sequential`.

use crate::{
    Result, forward,
    functional::{
        self as F, CrossEntropyTarget, KLDivReduction, Reduction, setters, triplet_margin_with_distance_setters,
    },
    kernels::sizes::must,
    module::ExtraRepr,
    nn::{Buffer, Linear, Module, PairwiseDistance, Param, init},
    tensor::{Real, Tensor},
};

/// The documentation of a field or setter: which option of the function it is.
macro_rules! see {
    ($options:ident $field:ident) => {
        concat!(
            "See [`",
            stringify!($options),
            "::",
            stringify!($field),
            "`](F::",
            stringify!($options),
            "::",
            stringify!($field),
            ")."
        )
    };
}

/// One row per layer: its own options, besides `reduction`, and those that are weights, which are buffers as in PyTorch
/// (then the layer has the type of its weights, and is not `stateless`); the tensors it takes, two or more; the function;
/// and the options of the function, whose setters check values for the layer too. The type of `reduction` follows `by`, if it
/// is its own.
macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident$(<$t:ident>)? $($stateless:ident)? $(by $reduction:ty;)? { $($field:ident: $ty:ty),* } $([$($buffer:ident),*])?
       forward[$($own:tt)*]($($arg:ident: $arg_ty:ty),*) = $function:ident, $options:ident$(<$option_t:ty>)?;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        $(#[module($stateless)])?
        pub struct $name<$($t: Real = f32)?> {
            $($(#[doc = see!($options $buffer)]
            pub $buffer: Option<Buffer<T>>,)*)?
            $($field: $ty,)*
            reduction: losses!(@ reduction $($reduction)?),
        }

        impl $name {
            /// With PyTorch's default options.
            #[inline]
            pub fn new() -> Self {
                let options = Self::defaults();
                $name { $($($buffer: None,)*)? $($field: options.$field,)* reduction: options.reduction }
            }

            #[inline]
            fn defaults() -> F::$options$(<'static, losses!(@ f32 $option_t)>)? {
                Default::default()
            }
        }

        impl Default for $name {
            #[inline]
            fn default() -> Self {
                Self::new()
            }
        }

        impl<$($t: Real)?> $name<$($t)?> {
            $($(#[doc = see!($options $buffer)]
            pub fn $buffer(mut self, $buffer: impl Into<Option<Tensor<T>>>) -> Self {
                self.$buffer = $buffer.into().map(Buffer::new);
                self
            })*)?

            $(#[doc = see!($options $field)]
            #[inline]
            #[track_caller]
            pub fn $field(mut self, $field: $ty) -> Self {
                self.$field = $name::defaults().$field($field).$field;
                self
            })*

            setters! {
                #[doc = see!($options reduction)]
                reduction: into losses!(@ reduction $($reduction)?);
            }

            #[doc = concat!("The loss; see [`", stringify!($function), "`](F::", stringify!($function), "()).")]
            ///
            /// # Errors
            /// As the function.
            #[forward]
            pub fn forward<$($own)*>(&self, $($arg: $arg_ty),*) -> Result<Tensor<T>> {
                $($(let $buffer = self.$buffer.as_ref().map(Buffer::tensor);)*)?
                let options = F::$options::default().reduction(self.reduction)$($(.$buffer($buffer.as_ref()))*)?$(.$field(self.$field))*;
                F::$function($($arg,)* options)
            }
        }
    )*};
    (@ f32 $t:ty) => { f32 };
    (@ reduction) => { Reduction };
    (@ reduction $reduction:ty) => { $reduction };
}

losses! {
    /// The squared error; see [`mse_loss`](F::mse_loss()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let loss = MSELoss::new().reduction("sum");
    /// assert_eq!(loss.forward(&tensor![1.0, 2.0], &tensor![1.0, 4.0])?.item()?, 4.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    MSELoss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = mse_loss, MSELossOptions<f32>;

    /// The absolute error; see [`l1_loss`](F::l1_loss()).
    L1Loss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = l1_loss, L1LossOptions<f32>;

    /// The absolute error, smooth near 0; see [`smooth_l1_loss`](F::smooth_l1_loss()).
    SmoothL1Loss stateless { beta: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = smooth_l1_loss, SmoothL1LossOptions;

    /// The squared error, linear far from 0; see [`huber_loss`](F::huber_loss()).
    HuberLoss stateless { delta: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = huber_loss, HuberLossOptions<f32>;

    /// The logistic loss of scores and targets of −1 or 1; see [`soft_margin_loss`](F::soft_margin_loss()).
    SoftMarginLoss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = soft_margin_loss, SoftMarginLossOptions;

    /// Which of two scores should be larger; see [`margin_ranking_loss`](F::margin_ranking_loss()).
    MarginRankingLoss stateless { margin: f64 }
        forward[T: Real](input1: &Tensor<T>, input2: &Tensor<T>, target: &Tensor<T>) = margin_ranking_loss, MarginRankingLossOptions;

    /// The divergence of probabilities from log probabilities; see [`kl_div`](F::kl_div()).
    KLDivLoss stateless by KLDivReduction; { log_target: bool }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = kl_div, KLDivLossOptions;

    /// The likelihood of counts under Poisson distributions; see [`poisson_nll_loss`](F::poisson_nll_loss()).
    PoissonNLLLoss stateless { log_input: bool, full: bool, eps: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = poisson_nll_loss, PoissonNLLLossOptions;

    /// The likelihood of numbers under normal distributions; see [`gaussian_nll_loss`](F::gaussian_nll_loss()).
    GaussianNLLLoss stateless { full: bool, eps: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>, var: &Tensor<T>) = gaussian_nll_loss, GaussianNLLLossOptions;

    /// Which vectors should point the same way; see [`cosine_embedding_loss`](F::cosine_embedding_loss()).
    CosineEmbeddingLoss stateless { margin: f64 }
        forward[T: Real](input1: &Tensor<T>, input2: &Tensor<T>, target: &Tensor<T>) = cosine_embedding_loss, CosineEmbeddingLossOptions;

    /// Which distances should be small, and which large; see [`hinge_embedding_loss`](F::hinge_embedding_loss()).
    HingeEmbeddingLoss stateless { margin: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = hinge_embedding_loss, HingeEmbeddingLossOptions;

    /// An anchor, an example near it and one far from it; see [`triplet_margin_loss`](F::triplet_margin_loss()).
    TripletMarginLoss stateless { margin: f64, p: f64, eps: f64, swap: bool }
        forward[T: Real](anchor: &Tensor<T>, positive: &Tensor<T>, negative: &Tensor<T>) = triplet_margin_loss, TripletMarginLossOptions;

    /// A margin between the right class and each other; see [`multi_margin_loss`](F::multi_margin_loss()).
    MultiMarginLoss<T> { p: usize, margin: f64 } [weight]
        forward[](input: &Tensor<T>, target: &Tensor<i64>) = multi_margin_loss, MultiMarginLossOptions<T>;

    /// A margin between each right class and each other; see [`multilabel_margin_loss`](F::multilabel_margin_loss()).
    MultiLabelMarginLoss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<i64>) = multilabel_margin_loss, MultiLabelMarginLossOptions;

    /// The logistic loss of several labels; see [`multilabel_soft_margin_loss`](F::multilabel_soft_margin_loss()).
    MultiLabelSoftMarginLoss<T> {} [weight]
        forward[](input: &Tensor<T>, target: &Tensor<T>) = multilabel_soft_margin_loss, MultiLabelSoftMarginLossOptions<T>;

    /// The probability of a sequence of labels, with blanks between them; see [`ctc_loss`](F::ctc_loss()).
    CTCLoss stateless { blank: usize, zero_infinity: bool }
        forward[T: Real](log_probs: &Tensor<T>, targets: &Tensor<i64>, input_lengths: impl Into<F::Lengths>, target_lengths: impl Into<F::Lengths>) = ctc_loss, CTCLossOptions;

    /// Cross entropy of scores (logits) with class indices or probabilities; see [`cross_entropy`](F::cross_entropy()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let loss = CrossEntropyLoss::new().label_smoothing(0.1).weight(tensor![1.0, 2.0]);
    /// let logits = tensor![[3.0, -1.0], [0.5, 0.0]];
    /// let by_index = loss.forward(&logits, &tensor![0, 1])?;
    /// let by_probability = loss.forward(&logits, &tensor![[0.9, 0.1], [0.2, 0.8]])?;
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    CrossEntropyLoss<T> { ignore_index: i64, label_smoothing: f64 } [weight]
        forward['t](input: &Tensor<T>, target: impl Into<CrossEntropyTarget<'t, T>>) = cross_entropy, CrossEntropyLossOptions<T>;

    /// The negative log likelihood of class indices under log probabilities; see [`nll_loss`](F::nll_loss()).
    NLLLoss<T> { ignore_index: i64 } [weight]
        forward[](input: &Tensor<T>, target: &Tensor<i64>) = nll_loss, NLLLossOptions<T>;

    /// [`NLLLoss`] under the name that PyTorch keeps for images.
    NLLLoss2d<T> { ignore_index: i64 } [weight]
        forward[](input: &Tensor<T>, target: &Tensor<i64>) = nll_loss, NLLLossOptions<T>;

    /// Cross entropy of binary probabilities; see [`binary_cross_entropy`](F::binary_cross_entropy()).
    BCELoss<T> {} [weight]
        forward[](input: &Tensor<T>, target: &Tensor<T>) = binary_cross_entropy, BCELossOptions<T>;

    /// Cross entropy of binary scores (logits) and probabilities; see
    /// [`binary_cross_entropy_with_logits`](F::binary_cross_entropy_with_logits()).
    BCEWithLogitsLoss<T> {} [weight, pos_weight]
        forward[](input: &Tensor<T>, target: &Tensor<T>) = binary_cross_entropy_with_logits, BCEWithLogitsLossOptions<T>;
}

/// A distance of vectors as a module, for [`TripletMarginWithDistanceLoss`]; it may have parameters of its own.
pub trait Distance<T: Real = f32>: Module {
    /// The distances of `x1` and `x2`.
    ///
    /// # Errors
    /// If the shapes do not fit.
    fn distance(&self, x1: &Tensor<T>, x2: &Tensor<T>) -> Result<Tensor<T>>;
}

impl<T: Real> Distance<T> for PairwiseDistance {
    fn distance(&self, x1: &Tensor<T>, x2: &Tensor<T>) -> Result<Tensor<T>> {
        self.forward(x1, x2)
    }
}

/// [`TripletMarginLoss`] with a distance of your own; see
/// [`triplet_margin_with_distance_loss`](F::triplet_margin_with_distance_loss()).
///
/// ```
/// use ndnn::{functional as F, nn::Distance, prelude::*};
/// #[derive(Module)]
/// struct Apart;
/// impl Distance for Apart {
///     fn distance(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
///         Ok(-F::cosine_similarity(a, b, Default::default())? + 1.0)
///     }
/// }
/// let loss = TripletMarginWithDistanceLoss::by(Apart).margin(0.5).swap(true);
/// let (anchor, positive, negative) = (tensor![[1.0, 0.0]], tensor![[2.0, 0.0]], tensor![[1.0, 1.0]]);
/// assert!((loss.forward(&anchor, &positive, &negative)?.item()? - 0.5f32.sqrt() + 0.5).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct TripletMarginWithDistanceLoss<D: Module + Clone = PairwiseDistance> {
    /// The distance; [`PairwiseDistance`] by default.
    pub distance_function: D,
    options: F::TripletMarginWithDistanceLossOptions,
}

impl TripletMarginWithDistanceLoss {
    /// With PyTorch's default options, and [`PairwiseDistance`].
    pub fn new() -> Self {
        Self::by(PairwiseDistance::new())
    }
}

impl Default for TripletMarginWithDistanceLoss {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Module + Clone> TripletMarginWithDistanceLoss<D> {
    /// With a distance.
    pub fn by(distance_function: D) -> Self {
        TripletMarginWithDistanceLoss { distance_function, options: Default::default() }
    }

    triplet_margin_with_distance_setters!();

    /// The loss; see [`triplet_margin_with_distance_loss`](F::triplet_margin_with_distance_loss()).
    ///
    /// # Errors
    /// As the function.
    #[forward]
    pub fn forward<T: Real>(&self, anchor: &Tensor<T>, positive: &Tensor<T>, negative: &Tensor<T>) -> Result<Tensor<T>>
    where
        D: Distance<T>,
    {
        let distance = |a: &Tensor<T>, b: &Tensor<T>| self.distance_function.distance(a, b);
        F::triplet_margin_with_distance_loss(anchor, positive, negative, distance, self.options)
    }
}

/// Cross entropy of scores that a linear layer of its own computes; see
/// [`linear_cross_entropy`](F::linear_cross_entropy()).
///
/// `linear` maps from `in_features` to `num_classes`, times the positions of [`out_features`](Self::out_features).
///
/// ```
/// use ndnn::prelude::*;
/// let loss = LinearCrossEntropyLoss::new(64, 10_000).batch_chunk_size(32);
/// let x = Tensor::ones([128, 64]);
/// loss.forward(&x, &Tensor::<i64>::zeros([128]))?.backward()?;
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct LinearCrossEntropyLoss<T: Real = f32> {
    /// A weight for each class; none by default.
    pub weight: Option<Buffer<T>>,
    /// The linear layer; without a bias by default.
    pub linear: Linear<T>,
    num_classes: usize,
    out_features: Vec<usize>,
    reduction: Reduction,
    ignore_index: Option<i64>,
    label_smoothing: f64,
    batch_chunk_size: Option<usize>,
}

impl LinearCrossEntropyLoss {
    /// From `in_features` features to `num_classes` classes, without a bias.
    #[track_caller]
    pub fn new(in_features: usize, num_classes: usize) -> Self {
        LinearCrossEntropyLoss {
            weight: None,
            linear: Linear::new(in_features, num_classes).bias(false),
            num_classes,
            out_features: Vec::new(),
            reduction: Reduction::Mean,
            ignore_index: None,
            label_smoothing: 0.,
            batch_chunk_size: None,
        }
    }
}

impl<T: Real> LinearCrossEntropyLoss<T> {
    setters! {
        /// The class index that is ignored; `None`, the default, is -100. Not for probabilities.
        ignore_index: into Option<i64>;
        /// How the losses are reduced; to their mean by default.
        reduction: into Reduction;
        /// The part of the target that is spread evenly over all classes, from 0 to 1; 0 by default.
        label_smoothing: of f64, if |s| (0. ..=1.).contains(&s), "label_smoothing is a share, from 0 to 1";
        /// How many samples' scores are held at a time; `None`, the default, holds all.
        batch_chunk_size: into Option<usize>, if |n| n != Some(0), "batch_chunk_size is at least 1";
    }

    /// Positions `(d₁, …)`, each with scores of its own: targets are `(N, d₁, …)`. None by default. Draws the weights again.
    #[track_caller]
    pub fn out_features(mut self, out_features: impl Into<Vec<usize>>) -> Self {
        self.out_features = out_features.into();
        let in_features = self.linear.weight.shape()[1];
        must::<T>("LinearCrossEntropyLoss", &[&self.out_features[..], &[self.num_classes, in_features]].concat());
        let outputs = self.out_features.iter().product::<usize>() * self.num_classes;
        self.linear.weight = init::drawn(&[outputs, in_features], in_features);
        let bias = self.linear.bias.take().is_some();
        self.linear = self.linear.bias(bias);
        self
    }

    /// Whether the linear layer has a bias; it has none by default.
    #[track_caller]
    pub fn bias(mut self, bias: bool) -> Self {
        self.linear = self.linear.bias(bias);
        self
    }

    /// A weight for each class; none by default.
    ///
    /// # Panics
    /// If it has not one number per class.
    #[track_caller]
    pub fn weight(mut self, weight: impl Into<Option<Tensor<T>>>) -> Self {
        let weight = weight.into();
        let shape = weight.as_ref().map(Tensor::shape);
        assert!(
            shape.is_none_or(|shape| shape == [self.num_classes]),
            "LinearCrossEntropyLoss: the weight is {:?}, expected [{}]: one for each class",
            shape.unwrap_or_default(),
            self.num_classes
        );
        self.weight = weight.map(Buffer::new);
        self
    }

    fn extra_repr(&self) -> String {
        let chunked = |size| format!("LinearCrossEntropyOptions(batch_chunk_size={size})");
        ExtraRepr::new()
            .named("in_features", self.linear.weight.shape()[1])
            .named("num_classes", self.num_classes)
            .named("out_features", &self.out_features)
            .named("bias", self.linear.bias.is_some())
            .named("reduction", self.reduction)
            .named("ignore_index", self.ignore_index)
            .named("label_smoothing", self.label_smoothing)
            .named("options", self.batch_chunk_size.map(chunked))
            .finish()
    }

    /// The loss; see [`linear_cross_entropy`](F::linear_cross_entropy()).
    ///
    /// # Errors
    /// As the function.
    #[forward]
    pub fn forward<'t>(&self, input: &Tensor<T>, target: impl Into<CrossEntropyTarget<'t, T>>) -> Result<Tensor<T>> {
        let scores = [&[self.num_classes], &self.out_features[..]].concat();
        let (weight, bias) = (self.linear.weight.tensor(), self.linear.bias.as_ref().map(Param::tensor));
        let linear_weight = weight.reshape([&scores[..], &weight.shape()[1..]].concat())?;
        let bias = bias.map(|bias| bias.reshape(scores)).transpose()?;
        let class_weight = self.weight.as_ref().map(Buffer::tensor);
        let options = F::LinearCrossEntropyLossOptions::from(self.reduction)
            .linear_bias(bias.as_ref())
            .weight(class_weight.as_ref())
            .ignore_index(self.ignore_index)
            .label_smoothing(self.label_smoothing)
            .batch_chunk_size(self.batch_chunk_size);
        F::linear_cross_entropy(input, &linear_weight, target, options)
    }
}
