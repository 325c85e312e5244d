//! Norms over rows: layer, group and RMS norm.

use super::{affine, affine_setters};
use crate::{
    Result, forward,
    functional::{self as F, setters},
    module::ExtraRepr,
    nn::{Forward, Module, Param},
    tensor::{Real, Sizes, Tensor},
};

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
    affine_setters!(elementwise_affine, true, |norm| Some(norm.normalized_shape.clone()));

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
    affine_setters!(affine, true, |norm| Some(vec![norm.num_channels]));

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

/// RMS norm over the last axes; see [`functional::rms_norm`](crate::functional::rms_norm).
///
/// Input and output `(*, normalized_shape)`. `weight` starts at 1.
///
/// ```
/// use ndnn::prelude::*;
/// assert_eq!(RMSNorm::new(10).forward(&Tensor::zeros([20, 5, 10]))?.shape(), [20, 5, 10]);
/// assert_eq!(RMSNorm::new([5, 10]).to_string(), "RMSNorm((5, 10), eps=None, elementwise_affine=True)");
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct RMSNorm<T: Real = f32> {
    /// `normalized_shape`
    pub weight: Option<Param<T>>,
    normalized_shape: Vec<usize>,
    eps: Option<f64>,
}

impl RMSNorm {
    /// A layer over the last axes, which have this shape: one number, or several.
    #[track_caller]
    pub fn new(normalized_shape: impl Into<Sizes>) -> Self {
        let Sizes(normalized_shape) = normalized_shape.into();
        RMSNorm { weight: None, normalized_shape, eps: None }.elementwise_affine(true)
    }
}

impl<T: Real> RMSNorm<T> {
    setters! {
        /// Added to the mean of the squares; `None`, the default, is the distance from 1 to the next larger number.
        eps: into Option<f64>;
    }

    /// With (the default) or without a weight.
    #[track_caller]
    pub fn elementwise_affine(mut self, affine: bool) -> Self {
        let pair = (self.weight.take(), None);
        self.weight = super::affine(pair, Some(self.normalized_shape.clone()), affine, false).0;
        self
    }

    fn extra_repr(&self) -> String {
        ExtraRepr::new()
            .value(&self.normalized_shape)
            .named("eps", self.eps)
            .named("elementwise_affine", self.weight.is_some())
            .finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for RMSNorm<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::rms_norm(x, &self.normalized_shape, self.weight.as_ref().map(Param::tensor).as_ref(), self.eps)
    }
}
