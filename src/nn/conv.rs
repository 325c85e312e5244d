//! Convolutional layers; see [`functional::conv`](crate::functional::conv()).

use crate::{
    Result, forward,
    functional::{self as F, ConvOptions, Dims, Padding, PaddingMode},
    kernels::sizes::saturating,
    module::ExtraRepr,
    nn::{Forward, Module, Param, init},
    tensor::{Real, Tensor},
};

/// Convolution over N axes; see [`functional::conv`](crate::functional::conv()).
///
/// Input `(B, in_channels, *sizes)` or `(in_channels, *sizes)`, output with `out_channels` instead; `weight` is
/// `[out_channels, in_channels / groups, *kernel_size]`, `bias` `[out_channels]`, both drawn from U(−√k, √k) with
/// k = groups / (in_channels · Π kernel_size).
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Conv2d::new(3, 16, 3).stride(2).padding(1);
/// assert_eq!(layer.to_string(), "Conv2d(3, 16, kernel_size=(3, 3), stride=(2, 2), padding=(1, 1))");
/// assert_eq!(layer.forward(&Tensor::zeros([8, 3, 32, 32]))?.shape(), [8, 16, 16, 16]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name)]
pub struct Conv<const N: usize, T: Real = f32> {
    /// `[out_channels, in_channels / groups, *kernel_size]`
    pub weight: Param<T>,
    /// `[out_channels]`
    pub bias: Option<Param<T>>,
    options: ConvOptions<N>,
}

F::by_rank! { type Conv<_, T = f32>: Conv1d, Conv2d, Conv3d }

impl<const N: usize> Conv<N> {
    /// A layer from `in_channels` to `out_channels`, with a bias.
    #[track_caller]
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Dims<N>>) -> Self {
        let kernel_size = kernel_size.into();
        assert!(kernel_size.is_positive(), "a kernel size is at least 1, got {kernel_size}");
        let weight = weight(out_channels, in_channels, &kernel_size.get());
        Conv { weight, bias: None, options: ConvOptions::default() }.bias(true)
    }
}

#[track_caller]
fn weight<T: Real>(features: usize, channels: usize, kernel: &[usize]) -> Param<T> {
    let shape = [&[features, channels], kernel].concat();
    init::drawn(&shape, saturating(shape[1..].iter().copied()))
}

impl<const N: usize, T: Real> Conv<N, T> {
    F::conv_setters!(through changed);

    bias_setter!(|shape| shape[1..].iter().product());

    #[track_caller]
    fn changed(mut self, options: ConvOptions<N>) -> Self {
        let (shape, channels, groups) = (self.weight.shape(), self.in_channels(), options.groups);
        self.options = options;
        assert!(
            channels.is_multiple_of(groups) && shape[0].is_multiple_of(groups),
            "{channels} input and {} output channels do not divide into {groups} groups",
            shape[0]
        );
        if shape[1] == channels / groups {
            return self;
        }
        let biased = self.bias.take().is_some();
        Conv { weight: weight(shape[0], channels / groups, &shape[2..]), ..self }.bias(biased)
    }

    fn in_channels(&self) -> usize {
        self.weight.shape()[1] * self.options.groups
    }

    fn type_name(&self) -> String {
        format!("Conv{N}d")
    }

    fn extra_repr(&self) -> String {
        let (shape, options) = (self.weight.shape(), &self.options);
        ExtraRepr::new()
            .value(self.in_channels())
            .value(shape[0])
            .named("kernel_size", &shape[2..])
            .named("stride", options.stride.tuple())
            .unless_default("padding", options.padding.to_string(), Dims::from([0; N]).tuple())
            .unless_default("dilation", options.dilation.tuple(), Dims::from([1; N]).tuple())
            .unless_default("groups", options.groups, 1)
            .unless_default("bias", self.bias.is_some(), true)
            .unless_default("padding_mode", options.padding_mode, PaddingMode::Constant)
            .finish()
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for Conv<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::conv(x, &self.weight.tensor(), self.bias.as_ref().map(Param::tensor).as_ref(), self.options)
    }
}
