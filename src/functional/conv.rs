//! Convolutions and transposed convolutions.
//!
//! A convolution is linear in the input and in the weight, so its two derivatives and their derivatives are again
//! convolutions of these kinds: three operations, each of which has the other two as its derivatives. The derivative
//! with respect to the input is the transposed convolution.

use std::{fmt, str::FromStr};

use ndnn_derive::concrete;

use super::{
    Dims, PaddingMode, by_rank, options, pad,
    windows::{Sliding, Spatial, batched},
};
use crate::{
    Error, Result,
    error::or_panic,
    kernels::{self, conv::ConvSizes, sizes::room},
    python::AsPython,
    tensor::{Real, Tensor},
};

/// The names over 1, 2 and 3 axes.
pub(crate) const CONV: [&str; 3] = ["conv1d", "conv2d", "conv3d"];
pub(crate) const CONV_TRANSPOSE: [&str; 3] = ["conv_transpose1d", "conv_transpose2d", "conv_transpose3d"];

/// How many elements a convolution adds at each end of each axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding<const N: usize> {
    /// As many as preserve the size; if their number is odd, the additional one is at the end. Requires a stride of 1.
    Same,
    /// None.
    Valid,
    /// This number at each end.
    Sizes(Dims<N>),
}

impl<const N: usize> From<usize> for Padding<N> {
    fn from(one: usize) -> Self {
        Padding::Sizes(one.into())
    }
}

impl<const N: usize> From<[usize; N]> for Padding<N> {
    fn from(sizes: [usize; N]) -> Self {
        Padding::Sizes(sizes.into())
    }
}

impl<const N: usize> From<Dims<N>> for Padding<N> {
    fn from(sizes: Dims<N>) -> Self {
        Padding::Sizes(sizes)
    }
}

impl<const N: usize> FromStr for Padding<N> {
    type Err = Error;
    fn from_str(word: &str) -> Result<Self> {
        match word {
            "same" => Ok(Padding::Same),
            "valid" => Ok(Padding::Valid),
            _ => Err(Error::value("padding", format!("{word:?}: expected \"same\", \"valid\" or numbers"))),
        }
    }
}

/// `"same"` or `"valid"`.
///
/// # Panics
/// If it is another word.
impl<const N: usize> From<&str> for Padding<N> {
    #[track_caller]
    fn from(word: &str) -> Self {
        or_panic(word.parse())
    }
}

impl<const N: usize> AsPython for Padding<N> {
    fn python(&self) -> String {
        self.to_string()
    }
}

/// As PyTorch prints it in a layer: `same`, `(1, 1)`.
impl<const N: usize> fmt::Display for Padding<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Padding::Same => f.write_str("same"),
            Padding::Valid => f.write_str("valid"),
            Padding::Sizes(sizes) => f.write_str(&sizes.tuple()),
        }
    }
}

options! {
    /// The options of a convolution.
    pub struct ConvOptions[const N: usize][N], setters conv_setters {
        /// The step from one window to the next; 1 by default.
        stride: into Dims<N> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
        /// How many elements are added at each end: numbers (0 by default), `"same"` or `"valid"`.
        padding: into Padding<N> = Padding::from(0);
        /// The step from one tap of the kernel to the next; 1 by default.
        dilation: into Dims<N> = Dims::from(1), if |d| d.is_positive(), "a dilation is at least 1";
        /// Number of groups into which the channels are divided; 1 by default. Output channels of one group depend only
        /// on input channels of that group. A layer initialises weight and bias again if this changes their shape.
        groups: of usize = 1, if |g| g > 0, "there is at least 1 group";
        /// What the input is padded with; zeros by default.
        padding_mode: into PaddingMode = PaddingMode::Constant;
    }
    if |o| o.padding != Padding::Same || o.stride.get() == [1; N], "padding \"same\" takes a stride of 1"
}

impl<const N: usize> ConvOptions<N> {
    /// The number of elements added before and after each axis.
    fn pads(&self, kernel: [usize; N]) -> [(usize, usize); N] {
        let mut pads = [(0, 0); N];
        for i in 0..N {
            pads[i] = match self.padding {
                Padding::Valid => (0, 0),
                Padding::Sizes(sizes) => (sizes.get()[i], sizes.get()[i]),
                Padding::Same => {
                    let total = self.dilation.get()[i].saturating_mul(kernel[i] - 1);
                    (total / 2, total - total / 2)
                }
            };
        }
        pads
    }
}

/// Convolution over N axes: `y[n, f] = bias[f] + Σ_c weight[f, c] ⋆ x[n, c]`, where ⋆ is cross-correlation.
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; `weight` is `(F, C / groups, *kernel_size)`, `bias`
/// `(F)`. The result is `(B, F, *out)` with `out = ⌊(size + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1`.
/// An empty batch gives an empty result; an input without channels gives a result without channels, as in PyTorch.
///
/// # Errors
/// If the shapes do not match, the kernel is larger than the padded input, or there is not enough memory for the
/// result.
pub fn conv<const N: usize, T: Real>(
    input: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    options: ConvOptions<N>,
) -> Result<Tensor<T>> {
    let op = const { CONV[N - 1] };
    check_shapes(
        &Spatial::<N>::new(op, input.shape())?,
        weight.shape(),
        bias.map(Tensor::shape),
        options.groups,
        false,
    )?;
    batched::<N, T>(input, |x| {
        let kernel: [usize; N] = weight.shape()[2..].try_into().expect("as many axes as checked");
        let ConvOptions { stride, dilation, groups, padding_mode, .. } = options;
        let (mut x, mut pads) = (x.clone(), options.pads(kernel));
        if padding_mode != PaddingMode::Constant {
            // More than `isize::MAX` is an error in `pad` too.
            let signed = |n: usize| n.min(isize::MAX as usize) as isize;
            let sizes: Vec<isize> = pads.iter().rev().flat_map(|&(a, b)| [signed(a), signed(b)]).collect();
            x = pad(&x, sizes, padding_mode)?;
            pads = [(0, 0); N];
        }
        let padded = Spatial::<N>::new(op, x.shape())?;
        padded.filled(true)?;
        let sliding = Sliding { kernel, stride: stride.get(), dilation: dilation.get(), pads, ceil_mode: false };
        let windows = sliding.over(&padded)?;
        // For an input without channels PyTorch returns a result without channels.
        let features = if padded.channels() == 0 { 0 } else { weight.shape()[0] };
        let (weight, bias) = match features {
            0 => (&weight.narrow(0, 0, 0)?, bias.map(|b| b.narrow(0, 0, 0)).transpose()?),
            _ => (weight, bias.cloned()),
        };
        let sizes = ConvSizes { axes: N, batch: x.shape()[0], groups, channels: x.shape()[1], features, windows };
        room::<T>(op, &sizes.output_shape())?;
        Ok(convolved(op, &x, weight, bias.as_ref(), sizes))
    })
}

/// Checks weight and bias of a convolution or a transposed one, whose weight has the channels of the input in front.
fn check_shapes<const N: usize>(
    input: &Spatial<'_, N>,
    w: &[usize],
    bias: Option<&[usize]>,
    groups: usize,
    transposed: bool,
) -> Result<()> {
    let wrong = |message: String| Err(Error::shape(input.op, message));
    let (first, second, role) = if transposed { ("in", "out", "input") } else { ("out", "in", "output") };
    if w.len() != N + 2 {
        let axes = format!("({first}, {second} / groups, kernel sizes)");
        return wrong(format!("the weight is {w:?}, expected {} axes: {axes}", N + 2));
    }
    if w[2..].contains(&0) {
        return wrong(format!("weight {w:?} has a kernel without taps, each of its sizes is at least 1"));
    }
    if w[0] == 0 || !w[0].is_multiple_of(groups) {
        return wrong(format!(
            "weight {w:?} has {} {role} channels, {groups} groups need a multiple of {groups}",
            w[0]
        ));
    }
    if transposed && w[1] == 0 {
        return wrong(format!("weight {w:?} has no output channels"));
    }
    // The groups are not more than the channels in front.
    let (channels, expected) = (input.channels(), if transposed { w[0] } else { w[1] * groups });
    if channels != expected {
        let of = if groups == 1 || transposed { String::new() } else { format!(" in {groups} groups") };
        let described = input.described();
        return wrong(format!("the input has {channels} channels ({described}), weight {w:?}{of} expects {expected}"));
    }
    let outputs = if transposed { w[1] * groups } else { w[0] };
    match bias {
        Some(b) if b != [outputs] => {
            wrong(format!("the bias is {b:?}, weight {w:?} expects one for each output channel: [{outputs}]"))
        }
        _ => Ok(()),
    }
}

options! {
    /// The options of a transposed convolution: those of the convolution whose input it computes.
    pub struct ConvTransposeOptions[const N: usize][N], setters conv_transpose_setters {
        /// The step from one window of the output to the next; 1 by default.
        stride: into Dims<N> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
        /// How many elements are cut off at each end of each axis; 0 by default.
        padding: into Dims<N> = Dims::from(0);
        /// How many elements are added at the end of each axis, less than the stride or the dilation; 0 by default.
        /// Several sizes of an input lead to the same output of a strided convolution; this chooses among them.
        output_padding: into Dims<N> = Dims::from(0);
        /// Number of groups into which the channels are divided; 1 by default. Output channels of one group depend only
        /// on input channels of that group. A layer initialises weight and bias again if this changes their shape.
        groups: of usize = 1, if |g| g > 0, "there is at least 1 group";
        /// The step from one tap of the kernel to the next; 1 by default.
        dilation: into Dims<N> = Dims::from(1), if |d| d.is_positive(), "a dilation is at least 1";
    }
}

impl<const N: usize> ConvTransposeOptions<N> {
    fn sliding(&self, kernel: [usize; N]) -> Sliding<N> {
        let pads = self.padding.get().map(|p| (p, p));
        Sliding { kernel, stride: self.stride.get(), dilation: self.dilation.get(), pads, ceil_mode: false }
    }
}

/// Transposed convolution over N axes, the derivative of [`conv`](conv()) with respect to its input: each element of the
/// input adds its multiple of the kernel to the output, `y[n, f] = bias[f] + Σ_c weight[c, f] ∗ x[n, c]`.
///
/// `input` is `(B, C, *sizes)` or, without a batch, `(C, *sizes)`; `weight` is `(C, F / groups, *kernel_size)`, `bias`
/// `(F)`. The result is `(B, F, *out)` with `out = (size − 1)·stride − 2·padding + dilation·(kernel_size − 1) +
/// output_padding + 1`.
///
/// # Errors
/// If the shapes do not match, an axis of the result would have no elements, an output padding is neither less than the
/// stride nor than the dilation, or there is not enough memory for the result.
pub fn conv_transpose<const N: usize, T: Real>(
    input: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    options: ConvTransposeOptions<N>,
) -> Result<Tensor<T>> {
    let op = const { CONV_TRANSPOSE[N - 1] };
    let groups = options.groups;
    let spatial = Spatial::<N>::new(op, input.shape())?;
    check_shapes(&spatial, weight.shape(), bias.map(Tensor::shape), groups, true)?;
    spatial.filled(true)?;
    let kernel = *weight.shape().last_chunk().expect("as many axes as checked");
    let windows = options.sliding(kernel).transposed(&spatial, options.output_padding.get())?;
    let (features, channels) = (weight.shape()[0], weight.shape()[1] * groups);
    batched::<N, T>(input, |x| {
        let sizes = ConvSizes { axes: N, batch: x.shape()[0], groups, channels, features, windows };
        room::<T>(op, &sizes.input_shape())?;
        Ok(transposed(op, x, weight, bias, sizes))
    })
}

/// The output padding with which a transposed convolution of an input of this shape has the size `output`, which may
/// begin with batch and channels.
///
/// # Errors
/// If none has.
pub(crate) fn output_padding_for<const N: usize>(
    shape: &[usize],
    kernel: [usize; N],
    output: &[usize],
    options: &ConvTransposeOptions<N>,
) -> Result<Dims<N>> {
    let op = "output_size";
    let spatial = Spatial::<N>::new(op, shape)?;
    let sizes = output.last_chunk::<N>().filter(|_| output.len() == N || output.len() == shape.len());
    let Some(sizes) = sizes else {
        let all = shape.len();
        return Err(Error::shape(
            op,
            format!("{output:?} for an input {shape:?}, expected {N} sizes, or all {all} axes"),
        ));
    };
    let least = options.sliding(kernel).reached(&spatial);
    let mut padding = [0; N];
    for i in 0..N {
        let more = usize::try_from(sizes[i] as i128 - least[i]).ok().filter(|&p| p < options.stride.get()[i]);
        padding[i] = more.ok_or_else(|| {
            let most = least[i] + options.stride.get()[i] as i128 - 1;
            let range = format!("axis {i} of the sizes may have {} to {most} elements", least[i]);
            Error::value(op, format!("{output:?} for an input {shape:?}: {range}"))
        })?;
    }
    Ok(padding.into())
}

/// Convolution over time of a tensor `(T, B, C)`: `y[t] = bias + Σ_k x[t + k − pad] · weight[k]`, where x is 0 outside.
///
/// `weight` is `(kernel_size, C, F)`, `bias` `(F)`; the result is `(T + 2·pad − kernel_size + 1, B, F)`. As
/// torch.nn.functional.conv_tbc.
///
/// # Errors
/// If the shapes do not match, the kernel is longer than the padded input by more than one, or there is not enough memory
/// for the result.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0]], [[2.0]], [[3.0]]];
/// let y = F::conv_tbc(&x, &tensor![[[1.0]], [[10.0]]], &tensor![0.0], 0)?;
/// assert_eq!(y, tensor![[[21.0]], [[32.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn conv_tbc<T: Real>(input: &Tensor<T>, weight: &Tensor<T>, bias: &Tensor<T>, padding: usize) -> Result<Tensor<T>> {
    let wrong = |message: String| Err(Error::shape("conv_tbc", message));
    let (x, w) = (input.shape(), weight.shape());
    let (&[time, batch, channels], &[taps, inputs, features]) = (x, w) else {
        return wrong(format!("input {x:?}, weight {w:?}; expected (T, B, C) and (kernel_size, C, F)"));
    };
    if channels != inputs {
        return wrong(format!("the input {x:?} has {channels} channels, weight {w:?} expects {inputs}"));
    }
    if bias.shape() != [features] {
        return wrong(format!("the bias is {:?}, weight {w:?} expects [{features}]", bias.shape()));
    }
    let times = (time as i128 + 2 * padding as i128 + 1 - taps as i128).try_into();
    let Ok(times) = times else {
        return wrong(format!("{taps} taps are too many for {time} times with a padding of {padding} at each end"));
    };
    room::<T>("conv_tbc", &[times, batch, features])?;
    // More than `isize::MAX` is an error in `pad` too.
    let pads = [0, 0, 0, 0, 1, 1].map(|n| n * padding.min(isize::MAX as usize) as isize);
    let padded = if padding == 0 { input.clone() } else { pad(input, pads, PaddingMode::Constant)? };
    // A weight without elements may have any number of taps.
    let taps = if weight.numel() == 0 { taps.min(1) } else { taps };
    (0..taps).try_fold(bias.broadcast_to([times, batch, features])?, |sum, tap| {
        let seen = padded.narrow(0, tap as isize, times)?;
        sum.try_add(&seen.matmul(&weight.select(0, tap as isize)?)?)
    })
}

// ------------------------------------------------------------------------------- the three operations and their derivatives

/// The convolution itself; `sizes` has all shapes.
#[concrete]
fn convolved<T: Real>(
    op: &'static str,
    x: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    sizes: ConvSizes,
) -> Tensor<T> {
    let out = kernels::conv::conv(x.view(), weight.view(), bias.map(Tensor::view), &sizes);
    let inputs: Vec<&Tensor<T>> = [x, weight].into_iter().chain(bias).collect();
    let (x, w) = (x.clone(), weight.clone());
    Tensor::op_many(op, out, &inputs, move |g, needed| {
        let by_input = needed[0].then(|| input_grad(g, &w, sizes));
        with_bias_grad([by_input, needed[1].then(|| weight_grad(&x, g, sizes))], needed, g)
    })
}

/// The transposed convolution: from `y`, in the shape of the convolution's output, to its input.
#[concrete]
fn transposed<T: Real>(
    op: &'static str,
    y: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    sizes: ConvSizes,
) -> Tensor<T> {
    let out = kernels::conv::input_grad(y.view(), weight.view(), bias.map(Tensor::view), &sizes);
    let inputs: Vec<&Tensor<T>> = [y, weight].into_iter().chain(bias).collect();
    let (y, w) = (y.clone(), weight.clone());
    Tensor::op_many(op, out, &inputs, move |g, needed| {
        let by_input = needed[0].then(|| convolved("conv", g, &w, None, sizes));
        with_bias_grad([by_input, needed[1].then(|| weight_grad(g, &y, sizes))], needed, g)
    })
}

/// The gradients of input and weight, and, if there is a bias, its own: the sum over everything but the channels.
fn with_bias_grad<T: Real>(
    grads: [Option<Tensor<T>>; 2],
    needed: &[bool],
    g: &Tensor<T>,
) -> Result<Vec<Option<Tensor<T>>>> {
    let mut grads = Vec::from(grads);
    if let Some(&bias) = needed.get(2) {
        let all_but_channels: Vec<isize> = (0..g.ndim() as isize).filter(|&axis| axis != 1).collect();
        grads.push(bias.then(|| g.sum_dim(all_but_channels, false)).transpose()?);
    }
    Ok(grads)
}

/// The derivative with respect to the input: from `g`, in the shape of the output, to the input.
pub(crate) fn input_grad<T: Real>(g: &Tensor<T>, weight: &Tensor<T>, sizes: ConvSizes) -> Tensor<T> {
    transposed("conv_input_grad", g, weight, None, sizes)
}

/// The derivative with respect to the weight: from the input and `g`, in the shape of the output, to the weight.
fn weight_grad<T: Real>(x: &Tensor<T>, g: &Tensor<T>, sizes: ConvSizes) -> Tensor<T> {
    let out = kernels::conv::weight_grad(x.view(), g.view(), &sizes);
    let (input, y) = (x.clone(), g.clone());
    Tensor::op("conv_weight_grad", out, [x, g], move |h, [by_x, by_g]| {
        Ok([by_x.then(|| input_grad(&y, h, sizes)), by_g.then(|| convolved("conv", &input, h, None, sizes))])
    })
}

by_rank! {
    ($n) conv(input, weight, bias, options):
        (input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>, options: ConvOptions<$n>) -> Tensor<T>;
    conv1d,
    /// ```
    /// use ndnn::{functional::{self as F, ConvOptions}, prelude::*};
    /// let x = Tensor::ones([1, 1, 3, 3]);
    /// let y = F::conv2d(&x, &Tensor::ones([1, 1, 3, 3]), None, ConvOptions::default().padding(1))?;
    /// assert_eq!(y, tensor![[[[4.0, 6.0, 4.0], [6.0, 9.0, 6.0], [4.0, 6.0, 4.0]]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    conv2d,
    conv3d
}

by_rank! {
    ($n) conv_transpose(input, weight, bias, options):
        (input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>, options: ConvTransposeOptions<$n>) -> Tensor<T>;
    conv_transpose1d,
    /// ```
    /// use ndnn::{functional::{self as F, ConvTransposeOptions}, prelude::*};
    /// let x = tensor![[[[1.0, 2.0]]]];
    /// let y = F::conv_transpose2d(&x, &Tensor::ones([1, 1, 1, 2]), None, ConvTransposeOptions::default().stride(2))?;
    /// assert_eq!(y, tensor![[[[1.0, 1.0, 2.0, 2.0]]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    conv_transpose2d,
    conv_transpose3d
}
