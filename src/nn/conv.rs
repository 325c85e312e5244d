//! Convolutional layers, transposed and lazy ones; see [`functional::conv`](crate::functional::conv()).

use crate::{
    Error, Result, forward,
    functional::{self as F, ConvOptions, ConvTransposeOptions, Dims, Padding, PaddingMode},
    kernels::sizes::{must, saturating},
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
        Self::over([Some(out_channels), Some(in_channels)], kernel_size.into())
    }

    #[track_caller]
    fn over(channels: [Option<usize>; 2], kernel_size: Dims<N>) -> Self {
        Conv { weight: weight(channels, kernel_size), bias: None, options: ConvOptions::default() }.bias(true)
    }
}

impl<const N: usize, T: Real> Conv<N, T> {
    F::conv_setters!(through changed);

    bias_setter!(|shape| saturating(shape[1..].iter().copied()));

    #[track_caller]
    fn changed(mut self, options: ConvOptions<N>) -> Self {
        let (known, channels, groups) = (self.weight.known_shape(), self.in_channels(), options.groups);
        self.options = options;
        must_divide(channels, known[0], groups);
        let per_group = channels.map(|n| n / groups);
        if known[1] == per_group {
            return self;
        }
        let biased = self.bias.take().is_some();
        Conv { weight: drawn(&[&[known[0], per_group], &known[2..]].concat()), ..self }.bias(biased)
    }

    fn in_channels(&self) -> Option<usize> {
        self.weight.known_shape()[1].map(|n| n * self.options.groups)
    }

    fn type_name(&self) -> String {
        format!("{}Conv{N}d", lazy(&self.weight))
    }

    fn extra_repr(&self) -> String {
        let channels = [self.in_channels(), self.weight.known_shape()[0]];
        described(channels, &self.weight, &self.options, Dims::from(0), self.bias.is_some())
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for Conv<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let (op, groups) = (const { F::CONV[N - 1] }, self.options.groups);
        let inputs = || Ok(channels::<N>(op, x.shape(), groups)? / groups);
        let (weight, bias) = init::begun(op, &self.weight, self.bias.as_ref(), &inputs)?;
        F::conv(x, &weight, bias.as_ref(), self.options)
    }
}

/// Transposed convolution over N axes; see [`functional::conv_transpose`](crate::functional::conv_transpose()).
///
/// Input `(B, in_channels, *sizes)` or `(in_channels, *sizes)`, output with `out_channels` instead; `weight` is
/// `[in_channels, out_channels / groups, *kernel_size]`, `bias` `[out_channels]`, both drawn from U(−√k, √k) with
/// k = groups / (out_channels · Π kernel_size).
///
/// ```
/// use ndnn::prelude::*;
/// let layer = ConvTranspose2d::new(16, 3, 2).stride(2);
/// assert_eq!(layer.to_string(), "ConvTranspose2d(16, 3, kernel_size=(2, 2), stride=(2, 2))");
/// assert_eq!(layer.forward(&Tensor::zeros([8, 16, 14, 14]))?.shape(), [8, 3, 28, 28]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name)]
pub struct ConvTranspose<const N: usize, T: Real = f32> {
    /// `[in_channels, out_channels / groups, *kernel_size]`
    pub weight: Param<T>,
    /// `[out_channels]`
    pub bias: Option<Param<T>>,
    pub(super) options: ConvTransposeOptions<N>,
}

F::by_rank! { type ConvTranspose<_, T = f32>: ConvTranspose1d, ConvTranspose2d, ConvTranspose3d }

impl<const N: usize> ConvTranspose<N> {
    /// A layer from `in_channels` to `out_channels`, with a bias.
    #[track_caller]
    pub fn new(in_channels: usize, out_channels: usize, kernel_size: impl Into<Dims<N>>) -> Self {
        Self::over([Some(in_channels), Some(out_channels)], kernel_size.into())
    }

    #[track_caller]
    fn over(channels: [Option<usize>; 2], kernel_size: Dims<N>) -> Self {
        let options = ConvTransposeOptions::default();
        ConvTranspose { weight: weight(channels, kernel_size), bias: None, options }.bias(true)
    }
}

impl<const N: usize, T: Real> ConvTranspose<N, T> {
    F::conv_transpose_setters!(through changed);

    bias_setter!(|shape| saturating(shape[1..].iter().copied()), out_channels);

    #[track_caller]
    fn changed(mut self, options: ConvTransposeOptions<N>) -> Self {
        let (known, channels, groups) = (self.weight.known_shape(), self.out_channels(), options.groups);
        self.options = options;
        must_divide(known[0], channels, groups);
        let per_group = channels.map(|n| n / groups);
        if known[1] == per_group {
            return self;
        }
        let biased = self.bias.take().is_some();
        ConvTranspose { weight: drawn(&[&[known[0], per_group], &known[2..]].concat()), ..self }.bias(biased)
    }

    fn out_channels(&self) -> Option<usize> {
        self.weight.known_shape()[1].map(|n| n * self.options.groups)
    }

    fn type_name(&self) -> String {
        format!("{}ConvTranspose{N}d", lazy(&self.weight))
    }

    fn extra_repr(&self) -> String {
        let o = &self.options;
        let options = ConvOptions { padding: o.padding.into(), ..Default::default() };
        let options = ConvOptions { stride: o.stride, dilation: o.dilation, groups: o.groups, ..options };
        let channels = [self.weight.known_shape()[0], self.out_channels()];
        described(channels, &self.weight, &options, o.output_padding, self.bias.is_some())
    }

    /// The output for `x` with these sizes, `[height, width]` or all axes: the output padding is chosen so, whatever is set.
    /// With a stride above 1 several sizes are possible.
    ///
    /// # Errors
    /// If `x` does not match, or the output cannot have these sizes.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (x, down) = (Tensor::zeros([1, 3, 12, 12]), Conv2d::new(3, 4, 3).stride(2).padding(1));
    /// let up = ConvTranspose2d::new(4, 3, 3).stride(2).padding(1);
    /// let y = down.forward(&x)?;
    /// assert_eq!(up.forward(&y)?.shape(), [1, 3, 11, 11]);
    /// assert_eq!(up.forward_with_output_size(&y, x.shape())?.shape(), x.shape());
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    #[forward]
    pub fn forward_with_output_size(&self, x: &Tensor<T>, output_size: impl AsRef<[usize]>) -> Result<Tensor<T>> {
        self.transpose(x, Some(output_size.as_ref()))
    }

    fn transpose(&self, x: &Tensor<T>, output_size: Option<&[usize]>) -> Result<Tensor<T>> {
        let (op, mut options) = (const { F::CONV_TRANSPOSE[N - 1] }, self.options);
        let inputs = || channels::<N>(op, x.shape(), self.options.groups);
        let (weight, bias) = init::begun(op, &self.weight, self.bias.as_ref(), &inputs)?;
        if let Some(output_size) = output_size {
            let kernel = *weight.shape().last_chunk().expect("a size per axis");
            options.output_padding = F::output_padding_for(x.shape(), kernel, output_size, &options)?;
        }
        F::conv_transpose(x, &weight, bias.as_ref(), options)
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for ConvTranspose<N, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        self.transpose(x, None)
    }
}

/// A [`Conv`] that takes `in_channels` from its first input, or from a state_dict: torch.nn.LazyConv2d.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = LazyConv2d::new(16, 3).stride(2);
/// assert_eq!(layer.to_string(), "LazyConv2d(0, 16, kernel_size=(3, 3), stride=(2, 2))");
/// let y = layer.forward(&Tensor::zeros([8, 3, 32, 32]))?;
/// assert_eq!(layer.to_string(), "Conv2d(3, 16, kernel_size=(3, 3), stride=(2, 2))");
/// # Ok::<(), ndnn::Error>(())
/// ```
pub enum LazyConv<const N: usize> {}

F::by_rank! { type LazyConv<_>: LazyConv1d, LazyConv2d, LazyConv3d }

impl<const N: usize> LazyConv<N> {
    /// The layer to `out_channels`, with a bias.
    #[allow(clippy::new_ret_no_self)]
    #[track_caller]
    pub fn new(out_channels: usize, kernel_size: impl Into<Dims<N>>) -> Conv<N> {
        Conv::over([Some(out_channels), None], kernel_size.into())
    }
}

/// A [`ConvTranspose`] that takes `in_channels` from its first input, or from a state_dict: torch.nn.LazyConvTranspose2d.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = LazyConvTranspose2d::new(3, 2).stride(2);
/// assert_eq!(layer.to_string(), "LazyConvTranspose2d(0, 3, kernel_size=(2, 2), stride=(2, 2))");
/// let y = layer.forward(&Tensor::zeros([8, 16, 14, 14]))?;
/// assert_eq!(layer.to_string(), "ConvTranspose2d(16, 3, kernel_size=(2, 2), stride=(2, 2))");
/// # Ok::<(), ndnn::Error>(())
/// ```
pub enum LazyConvTranspose<const N: usize> {}

F::by_rank! { type LazyConvTranspose<_>: LazyConvTranspose1d, LazyConvTranspose2d, LazyConvTranspose3d }

impl<const N: usize> LazyConvTranspose<N> {
    /// The layer to `out_channels`, with a bias.
    #[allow(clippy::new_ret_no_self)]
    #[track_caller]
    pub fn new(out_channels: usize, kernel_size: impl Into<Dims<N>>) -> ConvTranspose<N> {
        ConvTranspose::over([None, Some(out_channels)], kernel_size.into())
    }
}

// ------------------------------------------------------------------------------------------------------ what they share

/// The weight of a layer with one group.
#[track_caller]
fn weight<const N: usize, T: Real>(channels: [Option<usize>; 2], kernel_size: Dims<N>) -> Param<T> {
    assert!(kernel_size.is_positive(), "a kernel size is at least 1, got {kernel_size}");
    drawn(&[&channels[..], &kernel_size.get().map(Some)].concat())
}

/// A weight of this shape, lazy where a size is missing.
#[track_caller]
fn drawn<T: Real>(shape: &[Option<usize>]) -> Param<T> {
    let sizes: Vec<usize> = shape.iter().copied().flatten().collect();
    if sizes.len() < shape.len() {
        must::<T>("parameter", &sizes);
        return Param::lazy(shape);
    }
    init::drawn(&sizes, saturating(sizes[1..].iter().copied()))
}

/// Refuses groups that do not divide the channels, as far as these are known.
#[track_caller]
fn must_divide(inputs: Option<usize>, outputs: Option<usize>, groups: usize) {
    let divided = [inputs, outputs].iter().flatten().all(|n| n.is_multiple_of(groups));
    let inputs = inputs.map(|n| format!("{n} input and ")).unwrap_or_default();
    let outputs = outputs.unwrap_or_default();
    assert!(divided, "{inputs}{outputs} output channels do not divide into {groups} groups");
}

/// The channels of the first input of a lazy layer.
fn channels<const N: usize>(op: &'static str, input: &[usize], groups: usize) -> Result<usize> {
    let channels = F::Spatial::<N>::new(op, input)?.channels();
    match channels.is_multiple_of(groups) {
        true => Ok(channels),
        false => {
            let what =
                format!("the input {input:?} has {channels} channels, {groups} groups need a multiple of {groups}");
            Err(Error::shape(op, what))
        }
    }
}

fn lazy<T: Real>(weight: &Param<T>) -> &'static str {
    if weight.is_lazy() { "Lazy" } else { "" }
}

fn described<const N: usize, T: Real>(
    channels: [Option<usize>; 2],
    weight: &Param<T>,
    options: &ConvOptions<N>,
    output_padding: Dims<N>,
    bias: bool,
) -> String {
    let [inputs, outputs] = channels.map(Option::unwrap_or_default);
    let kernel: Vec<usize> = weight.known_shape()[2..].iter().copied().flatten().collect();
    let none = Dims::from([0; N]).tuple();
    ExtraRepr::new()
        .value(inputs)
        .value(outputs)
        .named("kernel_size", kernel.as_slice())
        .named("stride", options.stride.tuple())
        .unless_default("padding", options.padding.to_string(), none.clone())
        .unless_default("dilation", options.dilation.tuple(), Dims::from([1; N]).tuple())
        .unless_default("output_padding", output_padding.tuple(), none)
        .unless_default("groups", options.groups, 1)
        .unless_default("bias", bias, true)
        .unless_default("padding_mode", options.padding_mode, PaddingMode::Constant)
        .finish()
}
