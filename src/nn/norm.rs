//! Normalisation layers; see [`functional::batch_norm`](crate::functional::batch_norm) and
//! [`functional::layer_norm`](crate::functional::layer_norm).

use crate::{
    Error, Result,
    functional::{self as F, BatchNormOptions},
    nn::{Buffer, Forward, Mode, Module, Param, py_bool, py_float, py_tuple, run},
    tensor::{Real, Sizes, Tensor},
};

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
#[module(repr, name)]
pub struct BatchNorm<const N: usize, T: Real = f32> {
    /// `[num_features]`
    pub weight: Option<Param<T>>,
    /// `[num_features]`
    pub bias: Option<Param<T>>,
    /// `[num_features]`
    pub running_mean: Option<Buffer<T>>,
    /// `[num_features]`
    pub running_var: Option<Buffer<T>>,
    /// How many batches the running statistics have seen.
    pub num_batches_tracked: Option<Buffer<i64>>,
    num_features: usize,
    eps: f64,
    momentum: Option<f64>,
    mode: Mode,
}

/// Batch norm over `(N, C)` or `(N, C, L)`.
pub type BatchNorm1d<T = f32> = BatchNorm<1, T>;
/// Batch norm over `(N, C, H, W)`.
pub type BatchNorm2d<T = f32> = BatchNorm<2, T>;
/// Batch norm over `(N, C, D, H, W)`.
pub type BatchNorm3d<T = f32> = BatchNorm<3, T>;

impl<const N: usize> BatchNorm<N> {
    /// A layer over `num_features` channels.
    pub fn new(num_features: usize) -> Self {
        BatchNorm {
            weight: Some(Param::new(Tensor::ones([num_features]))),
            bias: Some(Param::new(Tensor::zeros([num_features]))),
            running_mean: Some(Buffer::new(Tensor::zeros([num_features]))),
            running_var: Some(Buffer::new(Tensor::ones([num_features]))),
            num_batches_tracked: Some(Buffer::new(Tensor::scalar(0))),
            num_features,
            eps: 1e-5,
            momentum: Some(0.1),
            mode: Mode::default(),
        }
    }
}

impl<const N: usize, T: Real> BatchNorm<N, T> {
    /// Added to the variance; 1e-5 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// The share of a batch in the running statistics; 0.1 by default. `None`: their plain average over all batches.
    pub fn momentum(mut self, momentum: impl Into<Option<f64>>) -> Self {
        self.momentum = momentum.into();
        self
    }

    /// With (the default) or without weight and bias.
    pub fn affine(mut self, affine: bool) -> Self {
        if !affine {
            (self.weight, self.bias) = (None, None);
        }
        self
    }

    /// With (the default) or without a bias beside the weight.
    pub fn bias(mut self, bias: bool) -> Self {
        if !bias {
            self.bias = None;
        }
        self
    }

    /// With (the default) or without running statistics; without, a batch's own are always used.
    pub fn track_running_stats(mut self, track: bool) -> Self {
        if !track {
            (self.running_mean, self.running_var, self.num_batches_tracked) = (None, None, None);
        }
        self
    }

    fn type_name(&self) -> String {
        format!("BatchNorm{N}d")
    }

    fn extra_repr(&self) -> String {
        format!(
            "{}, eps={}, momentum={}, affine={}, bias={}, track_running_stats={}",
            self.num_features,
            py_float(self.eps),
            self.momentum.map_or("None".into(), py_float),
            py_bool(self.weight.is_some()),
            py_bool(self.bias.is_some()),
            py_bool(self.running_mean.is_some())
        )
    }

    /// The share of this batch in the running statistics; counts the batch.
    fn share(&self) -> f64 {
        let Some(count) = self.num_batches_tracked.as_ref().filter(|_| self.mode.is_training()) else {
            return self.momentum.unwrap_or(0.);
        };
        let seen = count.tensor() + 1;
        count.set(&seen);
        self.momentum.unwrap_or_else(|| 1. / seen.item().expect("a scalar") as f64)
    }

    fn normalize(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let ranks = if N == 1 { 2..=3 } else { N + 2..=N + 2 };
        if !ranks.contains(&x.ndim()) {
            let axes = if N == 1 { "2 or 3".to_string() } else { (N + 2).to_string() };
            return Err(Error::shape("batch_norm", format!("expected an input of {axes} axes, got {:?}", x.shape())));
        }
        let mut mean = self.running_mean.as_ref().map(Buffer::tensor);
        let mut var = self.running_var.as_ref().map(Buffer::tensor);
        let training = self.mode.is_training() || mean.is_none();
        let options = BatchNormOptions { training, momentum: self.share(), eps: self.eps };
        let (weight, bias) = (self.weight.as_ref().map(Param::tensor), self.bias.as_ref().map(Param::tensor));
        let y = F::batch_norm(x, mean.as_mut(), var.as_mut(), weight.as_ref(), bias.as_ref(), options)?;
        if training {
            self.running_mean.iter().zip(&mean).for_each(|(buffer, now)| buffer.set(now));
            self.running_var.iter().zip(&var).for_each(|(buffer, now)| buffer.set(now));
        }
        Ok(y)
    }
}

impl<const N: usize, T: Real> Forward<T> for BatchNorm<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        run(self, || self.normalize(x))
    }
    crate::forward_dtype!();
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
}

impl LayerNorm {
    /// A layer over last axes of this shape: one number, or several.
    pub fn new(normalized_shape: impl Into<Sizes>) -> Self {
        let Sizes(shape) = normalized_shape.into();
        LayerNorm {
            weight: Some(Param::new(Tensor::ones(&shape))),
            bias: Some(Param::new(Tensor::zeros(&shape))),
            normalized_shape: shape,
            eps: 1e-5,
        }
    }
}

impl<T: Real> LayerNorm<T> {
    /// Added to the variance; 1e-5 by default.
    pub fn eps(mut self, eps: f64) -> Self {
        self.eps = eps;
        self
    }

    /// With (the default) or without weight and bias.
    pub fn elementwise_affine(mut self, affine: bool) -> Self {
        if !affine {
            (self.weight, self.bias) = (None, None);
        }
        self
    }

    /// With (the default) or without a bias beside the weight.
    pub fn bias(mut self, bias: bool) -> Self {
        if !bias {
            self.bias = None;
        }
        self
    }

    fn extra_repr(&self) -> String {
        format!(
            "{}, eps={}, elementwise_affine={}, bias={}",
            py_tuple(&self.normalized_shape),
            py_float(self.eps),
            py_bool(self.weight.is_some()),
            py_bool(self.bias.is_some())
        )
    }
}

impl<T: Real> Forward<T> for LayerNorm<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (weight, bias) = (self.weight.as_ref().map(Param::tensor), self.bias.as_ref().map(Param::tensor));
        run(self, || F::layer_norm(x, &self.normalized_shape, weight.as_ref(), bias.as_ref(), self.eps))
    }
    crate::forward_dtype!();
}
