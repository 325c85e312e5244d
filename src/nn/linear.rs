//! Linear and bilinear layers, and the identity; see [`functional::linear`](crate::functional::linear()).

use crate::{
    Error, Result, forward, functional as F,
    kernels::sizes::must,
    module::ExtraRepr,
    nn::{Forward, Module, Param, init},
    tensor::{Real, Tensor},
};

/// `y = x Wᵀ + b`; see [`functional::linear`](crate::functional::linear()).
///
/// Input `(*, in_features)`, output `(*, out_features)`; `weight` is `[out_features, in_features]`, `bias`
/// `[out_features]`, both drawn from U(−√k, √k) with k = 1 / in_features.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Linear::new(20, 30);
/// assert_eq!(layer.forward(&Tensor::zeros([128, 20]))?.shape(), [128, 30]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name)]
pub struct Linear<T: Real = f32> {
    /// `[out_features, in_features]`
    pub weight: Param<T>,
    /// `[out_features]`
    pub bias: Option<Param<T>>,
    /// The name that is printed.
    name: &'static str,
}

impl Linear {
    /// A layer from `in_features` to `out_features`, with a bias.
    #[track_caller]
    pub fn new(in_features: usize, out_features: usize) -> Self {
        let weight = init::drawn(&[out_features, in_features], in_features);
        Linear { weight, bias: None, name: "Linear" }.bias(true)
    }
}

/// A [`Linear`] that takes `in_features` from its first input, or from a state_dict: torch.nn.LazyLinear.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = LazyLinear::new(30);
/// assert_eq!(layer.to_string(), "LazyLinear(in_features=0, out_features=30, bias=True)");
/// let y = layer.forward(&Tensor::zeros([128, 20]))?;
/// assert_eq!(layer.to_string(), "Linear(in_features=20, out_features=30, bias=True)");
/// # Ok::<(), ndnn::Error>(())
/// ```
pub enum LazyLinear {}

impl LazyLinear {
    /// The layer to `out_features`, with a bias.
    ///
    /// # Panics
    /// If there is not enough memory for weights from a single feature.
    #[allow(clippy::new_ret_no_self)]
    #[track_caller]
    pub fn new(out_features: usize) -> Linear {
        must::<f32>("parameter", &[out_features]);
        Linear { weight: Param::lazy([Some(out_features), None]), bias: None, name: "Linear" }.bias(true)
    }
}

impl<T: Real> Linear<T> {
    bias_setter!(|shape| shape[1]);

    /// Prints another name: PyTorch's attention projects with a subclass.
    pub(super) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    fn type_name(&self) -> String {
        if self.weight.is_lazy() { format!("Lazy{}", self.name) } else { self.name.into() }
    }

    fn extra_repr(&self) -> String {
        let shape = self.weight.known_shape();
        let [out_features, in_features] = [0, 1].map(|axis| shape[axis].unwrap_or_default());
        let sizes = ExtraRepr::new().named("in_features", in_features).named("out_features", out_features);
        sizes.named("bias", self.bias.is_some()).finish()
    }

    fn map(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let Some(&inputs) = x.shape().last() else {
            return Err(Error::shape("linear", "expected an input of at least 1 axis, got a scalar"));
        };
        let (weight, bias) = init::begun("linear", &self.weight, self.bias.as_ref(), &|| Ok(inputs))?;
        F::linear(x, &weight, bias.as_ref())
    }
}

#[forward]
impl<T: Real> Forward<T> for Linear<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.map(x)
    }
}

/// `yₒ = x₁ᵀ Wₒ x₂ + bₒ`; see [`functional::bilinear`](F::bilinear).
///
/// Inputs `(*, in1_features)` and `(*, in2_features)`, output `(*, out_features)`; `weight` is
/// `[out_features, in1_features, in2_features]`, `bias` `[out_features]`, both drawn from U(−√k, √k) with
/// k = 1 / in1_features.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Bilinear::new(20, 30, 40);
/// let y = layer.forward(&Tensor::zeros([128, 20]), &Tensor::zeros([128, 30]))?;
/// assert_eq!(y.shape(), [128, 40]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct Bilinear<T: Real = f32> {
    /// `[out_features, in1_features, in2_features]`
    pub weight: Param<T>,
    /// `[out_features]`
    pub bias: Option<Param<T>>,
}

impl Bilinear {
    /// A layer from `in1_features` and `in2_features` to `out_features`, with a bias.
    ///
    /// # Panics
    /// If `in1_features` is 0.
    #[track_caller]
    #[inline]
    pub fn new(in1_features: usize, in2_features: usize, out_features: usize) -> Self {
        assert!(in1_features > 0, "Bilinear: in1_features must be > 0, but got 0");
        let weight = init::drawn(&[out_features, in1_features, in2_features], in1_features);
        Bilinear { weight, bias: None }.bias(true)
    }
}

impl<T: Real> Bilinear<T> {
    bias_setter!(|shape| shape[1]);

    /// The output for `x1` and `x2`.
    ///
    /// # Errors
    /// If they do not match.
    #[forward]
    pub fn forward(&self, x1: &Tensor<T>, x2: &Tensor<T>) -> Result<Tensor<T>> {
        F::bilinear(x1, x2, &self.weight.tensor(), self.bias.as_ref().map(Param::tensor).as_ref())
    }

    fn extra_repr(&self) -> String {
        let shape = self.weight.shape();
        let inputs = ExtraRepr::new().named("in1_features", shape[1]).named("in2_features", shape[2]);
        inputs.named("out_features", shape[0]).named("bias", self.bias.is_some()).finish()
    }
}

/// Returns the input unchanged: a placeholder.
#[derive(Default, Module)]
#[module(stateless)]
pub struct Identity {
    _place: u8,
}

#[doc(hidden)]
#[allow(non_upper_case_globals)]
pub const Identity: Identity = Identity { _place: 0 };

impl Identity {
    /// The layer.
    pub fn new() -> Self {
        Identity
    }
}

#[forward]
impl<T: Real> Forward<T> for Identity {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(x.clone())
    }
}
