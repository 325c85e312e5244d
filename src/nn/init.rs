//! Initialising parameters: torch.nn.init.
//!
//! Each function fills a [`Param`] in place; the next forward pass uses the new values. A [lazy](Param::is_lazy) parameter is
//! refused: its first input initialises it. Inside
//! [`random::with`](crate::random::with) the numbers are drawn from the caller's generator.
//!
//! ```
//! use ndnn::{nn::init::{self, Fan, Nonlinearity}, prelude::*};
//! let layer = Linear::new(64, 32);
//! init::kaiming_normal(&layer.weight, Fan::In, Nonlinearity::ReLU)?;
//! init::zeros(layer.bias.as_ref().unwrap());
//! # Ok::<(), ndnn::Error>(())
//! ```

use crate::{
    Error, Result,
    error::or_panic,
    kernels::{
        elementwise::map,
        memory::collected,
        sizes::{must, room, saturating},
        special_f64::{erf, erfinv},
    },
    nn::Param,
    tensor::{Real, Tensor},
};

/// The nonlinearity after a layer, which determines the gain: the argument of [`calculate_gain`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Nonlinearity {
    /// None, or a convolution: 1.
    Linear,
    /// 1.
    Sigmoid,
    /// 5/3.
    Tanh,
    /// √2.
    ReLU,
    /// √(2 / (1 + slope²)), with the slope on the negative side (0.01 by default in
    /// [`LeakyReLU`](struct@crate::nn::LeakyReLU)).
    LeakyReLU(f64),
    /// 3/4.
    SELU,
}

/// The factor by which the standard deviation of weights is scaled before a nonlinearity.
///
/// ```
/// use ndnn::nn::init::{Nonlinearity, calculate_gain};
/// assert_eq!(calculate_gain(Nonlinearity::Tanh), 5.0 / 3.0);
/// ```
pub fn calculate_gain(nonlinearity: Nonlinearity) -> f64 {
    match nonlinearity {
        Nonlinearity::Linear | Nonlinearity::Sigmoid => 1.,
        Nonlinearity::Tanh => 5. / 3.,
        Nonlinearity::ReLU => 2f64.sqrt(),
        Nonlinearity::LeakyReLU(slope) => (2. / (1. + slope * slope)).sqrt(),
        Nonlinearity::SELU => 0.75,
    }
}

/// The pass in which a layer preserves the variance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fan {
    /// The number of inputs of one output: preserves the variance in the forward pass.
    In,
    /// The number of outputs of one input: preserves it in the backward pass.
    Out,
}

/// For a weight `[out, in, *kernel]`, the number of inputs of one output, and of outputs of one input.
fn fans(op: &str, shape: &[usize]) -> Result<(usize, usize)> {
    match shape {
        [outputs, inputs, kernel @ ..] => {
            let field: usize = kernel.iter().product();
            Ok((inputs * field, outputs * field))
        }
        _ => {
            Err(Error::shape(op, format!("inputs and outputs are counted on weights of 2 axes or more, got {shape:?}")))
        }
    }
}

// ------------------------------------------------------------------------------------------------- without randomness

/// Fills with one value.
///
/// # Panics
/// If the parameter has no values yet, or cannot be set: see [`Param::set`].
#[track_caller]
pub fn constant<T: Real>(param: &Param<T>, value: T) {
    let shape = or_panic(param.known("constant"));
    or_panic(param.set(&Tensor::full(shape, value)));
}

/// Fills with 1.
///
/// # Panics
/// As [`constant`].
#[track_caller]
pub fn ones<T: Real>(param: &Param<T>) {
    constant(param, T::ONE);
}

/// Fills with 0.
///
/// # Panics
/// As [`constant`].
#[track_caller]
pub fn zeros<T: Real>(param: &Param<T>) {
    constant(param, T::ZERO);
}

/// Fills a matrix with the identity, so that a linear layer returns its inputs.
///
/// # Errors
/// If the parameter does not have two axes.
pub fn eye<T: Real>(param: &Param<T>) -> Result<()> {
    let shape = param.known("eye")?;
    if shape.len() != 2 {
        return Err(Error::shape("eye", format!("needs a parameter of 2 axes, got {shape:?}")));
    }
    param.set(&Tensor::zeros(shape.as_slice()))?;
    param.update(|mut values| values.diag_mut().fill(T::ONE));
    Ok(())
}

/// Fills the weight of a convolution with a Dirac delta, in each of `groups`: the layer returns as many of its input
/// channels as possible.
///
/// # Errors
/// If the parameter does not have 3, 4 or 5 axes, or `groups` does not divide the length of the first one.
pub fn dirac<T: Real>(param: &Param<T>, groups: usize) -> Result<()> {
    let shape = param.known("dirac")?;
    if !matches!(shape.len(), 3..=5) {
        return Err(Error::shape("dirac", format!("needs a parameter of 3, 4 or 5 axes, got {shape:?}")));
    }
    if groups == 0 || !shape[0].is_multiple_of(groups) {
        return Err(Error::shape("dirac", format!("the first axis of {shape:?} does not divide into {groups} groups")));
    }
    param.set(&Tensor::zeros(shape.as_slice()))?;
    if shape.contains(&0) {
        return Ok(());
    }
    let per_group = shape[0] / groups;
    param.update(|mut values| {
        for channel in 0..per_group.min(shape[1]) {
            for group in 0..groups {
                let mut at = vec![group * per_group + channel, channel];
                at.extend(shape[2..].iter().map(|k| k / 2));
                values[at.as_slice()] = T::ONE;
            }
        }
    });
    Ok(())
}

// ---------------------------------------------------------------------------------------------------- with randomness

/// Fills from U(low, high).
///
/// # Errors
/// If `low` is above `high`, or one is not finite.
pub fn uniform<T: Real>(param: &Param<T>, low: T, high: T) -> Result<()> {
    param.set(&Tensor::uniform(param.known("uniform")?, low, high)?)
}

/// Fills from N(mean, std²).
///
/// # Errors
/// If `std` is negative or not finite.
pub fn normal<T: Real>(param: &Param<T>, mean: T, std: T) -> Result<()> {
    param.set(&Tensor::normal(param.known("normal")?, mean, std)?)
}

/// Fills from N(mean, std²), truncated to `low` to `high`.
///
/// # Errors
/// If `std` is not above 0, or `low` is above `high`.
pub fn trunc_normal<T: Real>(param: &Param<T>, mean: f64, std: f64, low: f64, high: f64) -> Result<()> {
    if std.is_nan() || std <= 0. || low.is_nan() || high.is_nan() || low > high {
        let what = format!("needs std > 0 and low <= high, got std {std}, low {low}, high {high}");
        return Err(Error::value("trunc_normal", what));
    }
    // Uses the inverse of the cumulative distribution function between the two bounds.
    let root = 2f64.sqrt();
    let of = |x: f64| erf((x - mean) / std / root);
    let uniform = Tensor::<f64>::uniform(param.known("trunc_normal")?, of(low), of(high))?;
    let values = map(uniform.data(), |u| T::of((mean + std * root * erfinv(u)).clamp(low, high)));
    param.set(&values.into())
}

/// Fills from U(−a, a) with a = gain · √(6 / (inputs + outputs)): Glorot's initialisation.
///
/// # Errors
/// If the parameter has fewer than 2 axes.
pub fn xavier_uniform<T: Real>(param: &Param<T>, gain: f64) -> Result<()> {
    let (inputs, outputs) = fans("xavier_uniform", &param.known("xavier_uniform")?)?;
    let a = T::of(gain * (6. / (inputs + outputs).max(1) as f64).sqrt());
    uniform(param, -a, a)
}

/// Fills from N(0, σ²) with σ = gain · √(2 / (inputs + outputs)): Glorot's initialisation.
///
/// # Errors
/// If the parameter has fewer than 2 axes.
pub fn xavier_normal<T: Real>(param: &Param<T>, gain: f64) -> Result<()> {
    let (inputs, outputs) = fans("xavier_normal", &param.known("xavier_normal")?)?;
    normal(param, T::ZERO, T::of(gain * (2. / (inputs + outputs).max(1) as f64).sqrt()))
}

/// Fills from U(−a, a) with a = gain · √(3 / fan): He's initialisation.
///
/// # Errors
/// If the parameter has fewer than 2 axes.
pub fn kaiming_uniform<T: Real>(param: &Param<T>, fan: Fan, nonlinearity: Nonlinearity) -> Result<()> {
    let a = T::of(3f64.sqrt() * kaiming("kaiming_uniform", &param.known("kaiming_uniform")?, fan, nonlinearity)?);
    uniform(param, -a, a)
}

/// Fills from N(0, σ²) with σ = gain / √fan: He's initialisation.
///
/// # Errors
/// If the parameter has fewer than 2 axes.
pub fn kaiming_normal<T: Real>(param: &Param<T>, fan: Fan, nonlinearity: Nonlinearity) -> Result<()> {
    let std = kaiming("kaiming_normal", &param.known("kaiming_normal")?, fan, nonlinearity)?;
    normal(param, T::ZERO, T::of(std))
}

/// Fills with a (semi-)orthogonal matrix times `gain`; further axes are flattened into the second. Saxe et al., 2013.
///
/// # Errors
/// If the parameter has fewer than 2 axes.
pub fn orthogonal<T: Real>(param: &Param<T>, gain: f64) -> Result<()> {
    let shape = param.known("orthogonal")?;
    if shape.len() < 2 {
        return Err(Error::shape("orthogonal", format!("needs a parameter of 2 axes or more, got {shape:?}")));
    }
    let (rows, columns) = (shape[0], shape[1..].iter().product::<usize>());
    let (long, short) = (rows.max(columns), rows.min(columns));
    // `short` orthonormal vectors of length `long`: the rows of a wide matrix, the columns of a tall one.
    let basis = orthonormal(Tensor::<f64>::randn([short, long]).to_vec(), long);
    let at = |r: usize, c: usize| if rows < columns { basis[r * long + c] } else { basis[c * long + r] };
    let values = collected((0..rows * columns).map(|i| T::of(gain * at(i / columns, i % columns))));
    param.set(&Tensor::from_vec(shape, values)?)
}

/// Fills a matrix from N(0, std²), with a proportion `sparsity` of each column set to 0. Martens, 2010.
///
/// # Errors
/// If the parameter does not have 2 axes, or `sparsity` is outside 0 to 1.
pub fn sparse<T: Real>(param: &Param<T>, sparsity: f64, std: T) -> Result<()> {
    let shape = param.known("sparse")?;
    let &[rows, columns] = shape.as_slice() else {
        return Err(Error::shape("sparse", format!("needs a parameter of 2 axes, got {shape:?}")));
    };
    if !(0. ..=1.).contains(&sparsity) {
        return Err(Error::value("sparse", format!("sparsity is a share from 0 to 1, got {sparsity}")));
    }
    normal(param, T::ZERO, std)?;
    let zeros = (sparsity * rows as f64).ceil() as usize;
    for column in 0..columns {
        let order = Tensor::randperm(rows).to_vec();
        param.update(|mut values| {
            order[..zeros].iter().for_each(|&row| values[[row as usize, column].as_slice()] = T::ZERO);
        });
    }
    Ok(())
}

/// The standard deviation of He's initialisation.
fn kaiming(op: &str, shape: &[usize], fan: Fan, nonlinearity: Nonlinearity) -> Result<f64> {
    let (inputs, outputs) = fans(op, shape)?;
    let fan = if fan == Fan::In { inputs } else { outputs };
    Ok(calculate_gain(nonlinearity) / (fan.max(1) as f64).sqrt())
}

/// Makes the rows of a matrix orthonormal by the Gram-Schmidt process, twice for each row, since doing it once is not
/// accurate enough.
fn orthonormal(mut rows: Vec<f64>, length: usize) -> Vec<f64> {
    for i in 0..rows.len() / length.max(1) {
        let (done, rest) = rows.split_at_mut(i * length);
        let row = &mut rest[..length];
        for _ in 0..2 {
            for earlier in done.chunks_exact(length) {
                let along: f64 = row.iter().zip(earlier).map(|(a, b)| a * b).sum();
                row.iter_mut().zip(earlier).for_each(|(a, b)| *a -= along * b);
            }
        }
        let norm = row.iter().map(|a| a * a).sum::<f64>().sqrt();
        row.iter_mut().for_each(|a| *a /= norm);
    }
    rows
}

/// Values from U(−√k, √k) with k = 1 / fan_in, or zeros if there are no inputs: how most layers are initialised.
#[track_caller]
pub(crate) fn values<T: Real>(shape: &[usize], fan_in: usize) -> Tensor<T> {
    let bound = if fan_in == 0 { 0. } else { 1. / (fan_in as f64).sqrt() };
    draw(shape, -bound, bound)
}

/// A parameter with such [`values`].
#[track_caller]
pub(crate) fn drawn<T: Real>(shape: &[usize], fan_in: usize) -> Param<T> {
    Param::new(values(shape, fan_in))
}

/// The values of a layer's weight and bias. Those that are lazy are drawn first, as [`values`]; `missing` is the size that the
/// weight lacks.
///
/// # Errors
/// If `missing` is one, or there is not enough memory.
#[track_caller]
pub(crate) fn begun<T: Real>(
    op: &str,
    weight: &Param<T>,
    bias: Option<&Param<T>>,
    missing: &dyn Fn() -> Result<usize>,
) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
    let weight = weight.tensor_or_try(|known| {
        let inputs = missing()?;
        let shape: Vec<usize> = known.iter().map(|n| n.unwrap_or(inputs)).collect();
        room::<T>(op, &shape)?;
        Ok(values(&shape, saturating(shape[1..].iter().copied())))
    })?;
    let drawn = |bias: &Param<T>| {
        let inputs = weight.shape()[1..].iter().product();
        bias.tensor_or_try(|known| Ok(values(&[known[0].unwrap_or_default()], inputs)))
    };
    let bias = bias.map(drawn).transpose()?;
    Ok((weight, bias))
}

/// Values from U(low, high), in a new tensor.
///
/// # Panics
/// If there is not enough memory.
#[track_caller]
pub(crate) fn draw<T: Real>(shape: &[usize], low: f64, high: f64) -> Tensor<T> {
    must::<T>("parameter", shape);
    Tensor::uniform(shape, T::of(low), T::of(high)).expect("finite bounds")
}
