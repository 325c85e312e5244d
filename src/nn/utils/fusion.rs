//! A batch norm in evaluation mode, folded into the layer before it.

use crate::{
    Error, Real, Result, Tensor,
    nn::{BatchNorm, Conv, ConvTranspose, Linear, Param},
};

/// The convolution that computes what `conv` followed by `bn` computes in evaluation mode: `W · s` and `(b − mean) · s + bias`
/// with `s = weight / √(var + eps)` for each output channel.
///
/// ```
/// use ndnn::{nn::utils::fuse_conv_bn_eval, prelude::*};
/// let (conv, mut bn) = (Conv2d::new(3, 8, 3), BatchNorm2d::new(8));
/// bn.eval();
/// let fused = fuse_conv_bn_eval(&conv, &bn)?;
/// let x = Tensor::randn([4, 3, 10, 10]);
/// assert!((fused.forward(&x)? - bn.forward(&conv.forward(&x)?)?).abs().max()?.item()? < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `bn` is in training mode, has no running statistics, or has another number of channels, or `conv` is lazy.
pub fn fuse_conv_bn_eval<const N: usize, T: Real, C: Convolution<N, T>>(conv: &C, bn: &BatchNorm<N, T>) -> Result<C> {
    let op = "fuse_conv_bn_eval";
    let mut fused = conv.clone();
    let groups = fused.groups();
    let (weight, bias) = fused.parts();
    let outputs = weight.known(op)?[usize::from(C::TRANSPOSED)] * groups;
    if outputs != bn.features().unwrap_or(0) {
        let what =
            format!("the convolution has {outputs} output channels, the batch norm {}", bn.features().unwrap_or(0));
        return Err(Error::shape(op, what));
    }
    let made = fused_with(op, weight, bias.as_ref(), bn, C::TRANSPOSED.then_some(groups))?;
    (*weight, *bias) = (made.0, Some(made.1));
    Ok(fused)
}

/// [`Conv`] and [`ConvTranspose`], for [`fuse_conv_bn_eval`].
pub trait Convolution<const N: usize, T: Real>: Clone {
    #[doc(hidden)]
    const TRANSPOSED: bool;
    #[doc(hidden)]
    fn parts(&mut self) -> (&mut Param<T>, &mut Option<Param<T>>);
    /// The groups whose output channels the weight does not count.
    #[doc(hidden)]
    fn groups(&self) -> usize;
}

impl<const N: usize, T: Real> Convolution<N, T> for Conv<N, T> {
    const TRANSPOSED: bool = false;
    fn parts(&mut self) -> (&mut Param<T>, &mut Option<Param<T>>) {
        (&mut self.weight, &mut self.bias)
    }
    fn groups(&self) -> usize {
        1
    }
}

impl<const N: usize, T: Real> Convolution<N, T> for ConvTranspose<N, T> {
    const TRANSPOSED: bool = true;
    fn parts(&mut self) -> (&mut Param<T>, &mut Option<Param<T>>) {
        (&mut self.weight, &mut self.bias)
    }
    fn groups(&self) -> usize {
        self.options.groups
    }
}

/// The linear layer that computes what `linear` followed by `bn` computes in evaluation mode.
///
/// ```
/// use ndnn::{nn::utils::fuse_linear_bn_eval, prelude::*};
/// let (linear, mut bn) = (Linear::new(3, 8), BatchNorm1d::new(8));
/// bn.eval();
/// let fused = fuse_linear_bn_eval(&linear, &bn)?;
/// let x = Tensor::randn([4, 3]);
/// assert!((fused.forward(&x)? - bn.forward(&linear.forward(&x)?)?).abs().max()?.item()? < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `bn` is in training mode, has no running statistics, or has neither as many features as `linear` has outputs nor one.
pub fn fuse_linear_bn_eval<const N: usize, T: Real>(linear: &Linear<T>, bn: &BatchNorm<N, T>) -> Result<Linear<T>> {
    let op = "fuse_linear_bn_eval";
    let outputs = linear.weight.known(op)?[0];
    if ![outputs, 1].contains(&bn.features().unwrap_or(0)) {
        let what =
            format!("the linear layer has {outputs} outputs, the batch norm {} features", bn.features().unwrap_or(0));
        return Err(Error::shape(op, what));
    }
    let (weight, bias) = fused_with(op, &linear.weight, linear.bias.as_ref(), bn, None)?;
    let mut fused = linear.clone();
    (fused.weight, fused.bias) = (weight, Some(bias));
    Ok(fused)
}

/// With a transposed convolution's groups.
fn fused_with<const N: usize, T: Real>(
    op: &str,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    bn: &BatchNorm<N, T>,
    transposed: Option<usize>,
) -> Result<(Param<T>, Param<T>)> {
    if bn.mode.is_training() {
        return Err(Error::state(op, "the batch norm is in training mode; call eval() first"));
    }
    let (Some(mean), Some(var)) = (&bn.running_mean, &bn.running_var) else {
        return Err(Error::state(op, "the batch norm has no running statistics"));
    };
    let tensor = |param: Option<&Param<T>>| param.map(Param::tensor);
    let (scale, shift) = (tensor(bn.weight.as_ref()), tensor(bn.bias.as_ref()));
    let norm = BatchNormTensors {
        running_mean: &mean.tensor(),
        running_var: &var.tensor(),
        eps: bn.eps,
        weight: scale.as_ref(),
        bias: shift.as_ref(),
    };
    fuse(op, &weight.tensor(), tensor(bias).as_ref(), norm, transposed)
}

/// The tensors of a batch norm in evaluation mode, each `[num_features]`: what [`fuse_conv_bn_weights`] takes.
#[derive(Clone, Copy, Debug)]
pub struct BatchNormTensors<'a, T: Real = f32> {
    /// The running mean.
    pub running_mean: &'a Tensor<T>,
    /// The running variance.
    pub running_var: &'a Tensor<T>,
    /// What is added to the variance.
    pub eps: f64,
    /// The scale; 1 if there is none.
    pub weight: Option<&'a Tensor<T>>,
    /// The shift; 0 if there is none.
    pub bias: Option<&'a Tensor<T>>,
}

/// The weight and the bias of a convolution and the batch norm after it, fused as in [`fuse_conv_bn_eval`]. With `transpose`, the
/// output channels are the second axis of the weight, as in a transposed convolution without groups.
///
/// ```
/// use ndnn::{nn::utils::{BatchNormTensors, fuse_conv_bn_weights}, prelude::*};
/// let (mean, var) = (tensor![1.0, 0.0], tensor![4.0, 1.0]);
/// let norm = BatchNormTensors { running_mean: &mean, running_var: &var, eps: 0.0, weight: None, bias: None };
/// let (weight, bias) = fuse_conv_bn_weights(&Tensor::ones([2, 1, 1]), None, norm, false)?;
/// assert_eq!((weight.detach(), bias.detach()), (tensor![[[0.5]], [[1.0]]], tensor![-0.5, 0.0]));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not match.
pub fn fuse_conv_bn_weights<T: Real>(
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    norm: BatchNormTensors<'_, T>,
    transpose: bool,
) -> Result<(Param<T>, Param<T>)> {
    fuse("fuse_conv_bn_weights", weight, bias, norm, transpose.then_some(1))
}

/// The weight and the bias of a linear layer and the batch norm after it, fused as in [`fuse_linear_bn_eval`].
///
/// # Errors
/// If the shapes do not match.
pub fn fuse_linear_bn_weights<T: Real>(
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    norm: BatchNormTensors<'_, T>,
) -> Result<(Param<T>, Param<T>)> {
    fuse("fuse_linear_bn_weights", weight, bias, norm, None)
}

/// Scales each output channel of `weight`: along its first axis or, in a transposed convolution of so many groups, its second. What
/// is new requires gradients where what it is made of does, as in PyTorch.
fn fuse<T: Real>(
    op: &str,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
    norm: BatchNormTensors<'_, T>,
    transposed: Option<usize>,
) -> Result<(Param<T>, Param<T>)> {
    // The weight as [groups, inputs, outputs, *] or [1, 1, outputs, *].
    let shape = match (weight.shape(), transposed) {
        (&[inputs, outputs, ref rest @ ..], Some(groups)) => [&[groups, inputs / groups, outputs], rest].concat(),
        (&[outputs, ref rest @ ..], None) => [&[1, 1, outputs], rest].concat(),
        (shape, _) => {
            return Err(Error::shape(op, format!("a weight of {shape:?} has no axis of output channels")));
        }
    };
    let outputs = shape[0] * shape[2];
    let rows = |what: &str, tensor: &Tensor<T>, shapes: &[[usize; 1]]| match shapes.iter().any(|s| tensor.shape() == s)
    {
        true => tensor.detach().broadcast_to([outputs]),
        false => Err(Error::shape(op, format!("{outputs} outputs, but {what} is {:?}", tensor.shape()))),
    };
    let of_norm = |what: &str, tensor: &Tensor<T>| rows(what, tensor, &[[outputs], [1]]);
    let or = |what: &str, tensor: Option<&Tensor<T>>, value: T| match tensor {
        Some(tensor) => of_norm(what, tensor),
        None => Ok(Tensor::full([outputs], value)),
    };
    let (mean, var) = (of_norm("running_mean", norm.running_mean)?, of_norm("running_var", norm.running_var)?);
    let (scale, shift) = (or("weight", norm.weight, T::ONE)?, or("bias", norm.bias, T::ZERO)?);
    let before =
        bias.map_or_else(|| Ok(Tensor::zeros([outputs])), |bias| rows("the layer's bias", bias, &[[outputs]]))?;
    let rsqrt = (var + T::of(norm.eps)).rsqrt();
    let factor = &scale * &rsqrt;
    let mut along = vec![1; shape.len()];
    (along[0], along[2]) = (shape[0], shape[2]);
    let made = |values: Tensor<T>, requires_grad: bool| {
        let param = Param::new(values);
        param.set_requires_grad(requires_grad);
        param
    };
    let scaled = weight.detach().reshape(shape.as_slice())?.try_mul(&factor.reshape(along.as_slice())?)?;
    let new_weight = scaled.reshape(weight.shape())?;
    let new_bias = (before - mean) * rsqrt * scale + shift;
    Ok((made(new_weight, weight.requires_grad()), made(new_bias, bias.is_some_and(Tensor::requires_grad))))
}
