//! Normalization layers; see [`functional::batch_norm`](crate::functional::batch_norm),
//! [`functional::layer_norm`](crate::functional::layer_norm) and [`functional::group_norm`](crate::functional::group_norm).

use crate::{
    Error, Result, forward,
    functional::{self as F, BatchNormOptions, setters},
    kernels::sizes::must,
    module::{ExtraRepr, optional},
    nn::{Buffer, Forward, Mode, Module, Param, StateDict},
    tensor::{Real, Sizes, Tensor},
};

/// The setters of a norm with weight and bias: `eps`, the one that switches both, named as PyTorch names it, and `bias`.
macro_rules! affine_setters {
    ($affine:ident, |$norm:ident| $shape:expr) => {
        setters! {
            /// Added to the variance; 1e-5 by default.
            eps: of f64;
        }

        /// With (the default) or without weight and bias.
        #[track_caller]
        pub fn $affine(mut self, affine: bool) -> Self {
            self.affine = affine;
            self.settled()
        }

        /// With (the default) or without a bias in addition to the weight; without the weight there is no bias.
        #[track_caller]
        pub fn bias(mut self, bias: bool) -> Self {
            self.biased = bias;
            self.settled()
        }

        #[track_caller]
        fn settled(mut self) -> Self {
            let pair = (self.weight.take(), self.bias.take());
            let $norm = &self;
            (self.weight, self.bias) = affine(pair, &$shape, self.affine, self.biased);
            self
        }
    };
}

/// Weight and bias of a norm as its options require: the existing ones, or new ones that start at 1 and 0.
#[track_caller]
fn affine<T: Real>(
    (weight, bias): (Option<Param<T>>, Option<Param<T>>),
    shape: &[usize],
    affine: bool,
    biased: bool,
) -> (Option<Param<T>>, Option<Param<T>>) {
    must::<T>("parameter", shape);
    let weight = optional(weight, affine, || Param::new(Tensor::ones(shape)));
    (weight, optional(bias, affine && biased, || Param::new(Tensor::zeros(shape))))
}

/// Batch norm over inputs with N spatial axes: [`BatchNorm1d`], [`BatchNorm2d`], [`BatchNorm3d`]; see
/// [`functional::batch_norm`](crate::functional::batch_norm).
///
/// Input and output `(batch, num_features, *)`. `weight` starts at 1, `bias` at 0; the running statistics are buffers.
///
/// ```
/// use ndnn::prelude::*;
/// let mut layer = BatchNorm2d::new(16).momentum(0.05);
/// let y = layer.forward(&Tensor::zeros([4, 16, 8, 8]))?;     // the batch's statistics
/// layer.eval();
/// let y = layer.forward(&y)?;                                // the running ones
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name, upgrade)]
pub struct BatchNorm<const N: usize, T: Real = f32> {
    /// `[num_features]`
    pub weight: Option<Param<T>>,
    /// `[num_features]`
    pub bias: Option<Param<T>>,
    /// `[num_features]`
    pub running_mean: Option<Buffer<T>>,
    /// `[num_features]`
    pub running_var: Option<Buffer<T>>,
    /// How many batches were used for the running statistics.
    pub num_batches_tracked: Option<Buffer<i64>>,
    pub(super) num_features: usize,
    pub(super) eps: f64,
    momentum: Option<f64>,
    affine: bool,
    biased: bool,
    pub(super) mode: Mode,
}

/// Batch norm over `(N, C)` or `(N, C, L)`.
pub type BatchNorm1d<T = f32> = BatchNorm<1, T>;
/// Batch norm over `(N, C, H, W)`.
pub type BatchNorm2d<T = f32> = BatchNorm<2, T>;
/// Batch norm over `(N, C, D, H, W)`.
pub type BatchNorm3d<T = f32> = BatchNorm<3, T>;

impl<const N: usize> BatchNorm<N> {
    /// A layer over `num_features` channels.
    #[track_caller]
    pub fn new(num_features: usize) -> Self {
        let norm = BatchNorm {
            weight: None,
            bias: None,
            running_mean: None,
            running_var: None,
            num_batches_tracked: None,
            num_features,
            eps: 1e-5,
            momentum: Some(0.1),
            affine: true,
            biased: true,
            mode: Mode::default(),
        };
        norm.affine(true).track_running_stats(true)
    }
}

impl<const N: usize, T: Real> BatchNorm<N, T> {
    setters! {
        /// The weight of a batch in the running statistics; 0.1 by default. With `None` they are the average over all
        /// batches.
        momentum: into Option<f64>;
    }

    affine_setters!(affine, |norm| [norm.num_features]);

    /// With (the default) or without running statistics; without them, those of the batch are always used.
    pub fn track_running_stats(mut self, track: bool) -> Self {
        let n = self.num_features;
        self.running_mean = optional(self.running_mean, track, || Buffer::new(Tensor::zeros([n])));
        self.running_var = optional(self.running_var, track, || Buffer::new(Tensor::ones([n])));
        self.num_batches_tracked = optional(self.num_batches_tracked, track, || Buffer::new(Tensor::scalar(0)));
        self
    }

    /// Files of PyTorch before 0.4.1 have no count of batches.
    fn upgrade(&self, prefix: &str, state: &mut StateDict) {
        let (count, statistics) = (format!("{prefix}num_batches_tracked"), format!("{prefix}running_mean"));
        if let (Some(tracked), Some(_), None) = (&self.num_batches_tracked, state.get(&statistics), state.get(&count)) {
            state.insert(count, tracked.tensor());
        }
    }

    fn type_name(&self) -> String {
        format!("BatchNorm{N}d")
    }

    fn extra_repr(&self) -> String {
        ExtraRepr::new()
            .value(self.num_features)
            .named("eps", self.eps)
            .named("momentum", self.momentum)
            .named("affine", self.weight.is_some())
            .named("bias", self.bias.is_some())
            .named("track_running_stats", self.running_mean.is_some())
            .finish()
    }

    /// Counts a training batch, and moves the running statistics towards its mean and variance.
    fn track(&self, moments: Option<[Vec<T>; 2]>) {
        let moved = |share: f64| {
            for (running, batch) in [&self.running_mean, &self.running_var].into_iter().zip(moments.iter().flatten()) {
                running.iter().for_each(|r| r.update(|r| F::towards(r, batch, share)));
            }
        };
        match &self.num_batches_tracked {
            // All under the lock of the count: if two threads process batches, one comes after the other, with its own
            // weight.
            Some(count) => count.update(|mut seen| {
                seen.mapv_inplace(|n| n.saturating_add(1));
                moved(self.momentum.unwrap_or_else(|| 1. / seen.sum() as f64));
            }),
            None => moved(self.momentum.unwrap_or(0.)),
        }
    }

    fn normalize(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let ranks = if N == 1 { 2..=3 } else { N + 2..=N + 2 };
        if !ranks.contains(&x.ndim()) {
            let axes = if N == 1 { "2 or 3".to_string() } else { (N + 2).to_string() };
            return Err(Error::shape("batch_norm", format!("expected an input of {axes} axes, got {:?}", x.shape())));
        }
        let running = [&self.running_mean, &self.running_var].map(|b| b.as_ref().map(Buffer::tensor));
        let options =
            BatchNormOptions::default().training(self.mode.is_training() || running[0].is_none()).eps(self.eps);
        let (weight, bias) = (self.weight.as_ref().map(Param::tensor), self.bias.as_ref().map(Param::tensor));
        let running = running.each_ref().map(Option::as_ref);
        let (y, moments) = F::batch_norm_and_moments(x, running, weight.as_ref(), bias.as_ref(), options)?;
        if self.mode.is_training() {
            self.track(moments);
        }
        Ok(y)
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for BatchNorm<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.normalize(x)
    }
}

/// Layer norm over the last axes; see [`functional::layer_norm`](crate::functional::layer_norm).
///
/// Input and output `(*, normalized_shape)`. `weight` starts at 1, `bias` at 0.
///
/// ```
/// use ndnn::prelude::*;
/// assert_eq!(LayerNorm::new(10).forward(&Tensor::zeros([20, 5, 10]))?.shape(), [20, 5, 10]);
/// assert_eq!(LayerNorm::new([5, 10]).to_string(), "LayerNorm((5, 10), eps=1e-05, elementwise_affine=True, bias=True)");
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct LayerNorm<T: Real = f32> {
    /// `normalized_shape`
    pub weight: Option<Param<T>>,
    /// `normalized_shape`
    pub bias: Option<Param<T>>,
    normalized_shape: Vec<usize>,
    eps: f64,
    affine: bool,
    biased: bool,
}

impl LayerNorm {
    /// A layer over the last axes, which have this shape: one number, or several.
    #[track_caller]
    pub fn new(normalized_shape: impl Into<Sizes>) -> Self {
        let Sizes(normalized_shape) = normalized_shape.into();
        let norm = LayerNorm { weight: None, bias: None, normalized_shape, eps: 1e-5, affine: true, biased: true };
        norm.settled()
    }
}

impl<T: Real> LayerNorm<T> {
    affine_setters!(elementwise_affine, |norm| norm.normalized_shape);

    fn extra_repr(&self) -> String {
        ExtraRepr::new()
            .value(&self.normalized_shape)
            .named("eps", self.eps)
            .named("elementwise_affine", self.weight.is_some())
            .named("bias", self.bias.is_some())
            .finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for LayerNorm<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.as_ref().map(Param::tensor), self.bias.as_ref().map(Param::tensor));
        F::layer_norm(x, &self.normalized_shape, weight.as_ref(), bias.as_ref(), self.eps)
    }
}

/// Group norm: the channels of each sample are divided into groups, each with its own mean and variance; see
/// [`functional::group_norm`](crate::functional::group_norm).
///
/// Input and output `(N, num_channels, *)`. `weight` starts at 1, `bias` at 0.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = GroupNorm::new(3, 6);
/// assert_eq!(layer.forward(&Tensor::zeros([20, 6, 10, 10]))?.shape(), [20, 6, 10, 10]);
/// assert_eq!(layer.to_string(), "GroupNorm(3, 6, eps=1e-05, affine=True, bias=True)");
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct GroupNorm<T: Real = f32> {
    /// `[num_channels]`
    pub weight: Option<Param<T>>,
    /// `[num_channels]`
    pub bias: Option<Param<T>>,
    num_groups: usize,
    num_channels: usize,
    eps: f64,
    affine: bool,
    biased: bool,
}

impl GroupNorm {
    /// A layer over `num_channels` channels in `num_groups` groups.
    ///
    /// # Panics
    /// If the channels cannot be divided into this number of equal groups.
    #[track_caller]
    pub fn new(num_groups: usize, num_channels: usize) -> Self {
        assert!(
            num_groups > 0 && num_channels.is_multiple_of(num_groups),
            "GroupNorm: {num_channels} channels cannot be cut into {num_groups} groups of as many"
        );
        let norm =
            GroupNorm { weight: None, bias: None, num_groups, num_channels, eps: 1e-5, affine: true, biased: true };
        norm.settled()
    }
}

impl<T: Real> GroupNorm<T> {
    affine_setters!(affine, |norm| [norm.num_channels]);

    fn extra_repr(&self) -> String {
        ExtraRepr::new()
            .value(self.num_groups)
            .value(self.num_channels)
            .named("eps", self.eps)
            .named("affine", self.weight.is_some())
            .named("bias", self.bias.is_some())
            .finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for GroupNorm<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.as_ref().map(Param::tensor), self.bias.as_ref().map(Param::tensor));
        F::group_norm(x, self.num_groups, weight.as_ref(), bias.as_ref(), self.eps)
    }
}
