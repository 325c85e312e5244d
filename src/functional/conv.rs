//! Convolutions.
//!
//! A convolution is linear in the input and in the weight, so its two derivatives and their derivatives are again
//! convolutions of these kinds: three operations, each of which has the other two as its derivatives.

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
        std::array::from_fn(|i| match self.padding {
            Padding::Valid => (0, 0),
            Padding::Sizes(sizes) => (sizes.get()[i], sizes.get()[i]),
            Padding::Same => {
                let total = self.dilation.get()[i].saturating_mul(kernel[i] - 1);
                (total / 2, total - total / 2)
            }
        })
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
    let op = const { ["conv1d", "conv2d", "conv3d"][N - 1] };
    check_shapes(&Spatial::<N>::new(op, input.shape())?, weight, bias, &options)?;
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

fn check_shapes<const N: usize, T: Real>(
    input: &Spatial<'_, N>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    options: &ConvOptions<N>,
) -> Result<()> {
    let (w, groups) = (weight.shape(), options.groups);
    let wrong = |message: String| Err(Error::shape(input.op, message));
    if w.len() != N + 2 {
        return wrong(format!("the weight is {w:?}, expected {} axes: (out, in / groups, kernel sizes)", N + 2));
    }
    if w[2..].contains(&0) {
        return wrong(format!("weight {w:?} has a kernel without taps, each of its sizes is at least 1"));
    }
    if w[0] == 0 || !w[0].is_multiple_of(groups) {
        return wrong(format!(
            "weight {w:?} has {} output channels, {groups} groups need a multiple of {groups}",
            w[0]
        ));
    }
    let channels = input.channels();
    if Some(channels) != w[1].checked_mul(groups) {
        let of = if groups == 1 { String::new() } else { format!(" in {groups} groups") };
        return wrong(format!(
            "the input has {channels} channels ({}), weight {w:?}{of} expects {}",
            input.described(),
            w[1].saturating_mul(groups)
        ));
    }
    match bias {
        Some(b) if b.shape() != [w[0]] => {
            wrong(format!("the bias is {:?}, weight {w:?} expects one for each output channel: [{}]", b.shape(), w[0]))
        }
        _ => Ok(()),
    }
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
        let mut grads = vec![needed[0].then(|| input_grad(g, &w, sizes)), needed[1].then(|| weight_grad(&x, g, sizes))];
        if let Some(&bias) = needed.get(2) {
            let all_but_features: Vec<isize> = (0..sizes.axes as isize + 2).filter(|&axis| axis != 1).collect();
            grads.push(bias.then(|| g.sum_dim(all_but_features, false)).transpose()?);
        }
        Ok(grads)
    })
}

/// The derivative with respect to the input: from `g`, in the shape of the output, to the input. This is the
/// transposed convolution.
pub(crate) fn input_grad<T: Real>(g: &Tensor<T>, weight: &Tensor<T>, sizes: ConvSizes) -> Tensor<T> {
    let out = kernels::conv::input_grad(g.view(), weight.view(), &sizes);
    let (y, w) = (g.clone(), weight.clone());
    Tensor::op("conv_input_grad", out, [g, weight], move |h, [by_g, by_weight]| {
        Ok([by_g.then(|| convolved("conv", h, &w, None, sizes)), by_weight.then(|| weight_grad(h, &y, sizes))])
    })
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
