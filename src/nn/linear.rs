//! Linear layers; see [`functional::linear`](crate::functional::linear()).

use crate::{
    Result, functional as F,
    nn::{Forward, Module, Param, py_bool, run},
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
    pub fn new(in_features: usize, out_features: usize) -> Self {
        let bound = 1. / (in_features.max(1) as f64).sqrt();
        let uniform = |shape: &[usize]| Param::new(crate::nn::init::draw(shape, -bound, bound));
        Linear { weight: uniform(&[out_features, in_features]), bias: Some(uniform(&[out_features])), name: "Linear" }
    }
}

impl<T: Real> Linear<T> {
    /// With (the default) or without a bias.
    pub fn bias(mut self, bias: bool) -> Self {
        if !bias {
            self.bias = None;
        }
        self
    }

    /// Printed under another name: PyTorch's attention projects with a subclass.
    pub(super) fn named(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    fn type_name(&self) -> String {
        self.name.into()
    }

    fn extra_repr(&self) -> String {
        let shape = self.weight.shape();
        format!("in_features={}, out_features={}, bias={}", shape[1], shape[0], py_bool(self.bias.is_some()))
    }
}

impl<T: Real> Forward<T> for Linear<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        run(self, || F::linear(x, &self.weight.tensor(), self.bias.as_ref().map(Param::tensor).as_ref()))
    }
    crate::forward_dtype!();
}
