//! Cross entropy of scores that a linear map computes, without holding all of them.

use super::{
    Reduction,
    classes::{CrossEntropyLossOptions, CrossEntropyTarget, NLLLossOptions, cross_entropy, mean_divisor},
};
use crate::{
    Error, Result,
    autograd::gradients_again,
    functional::linear::linear,
    kernels::memory::try_collected,
    tensor::{Real, Tensor, grad_enabled, no_grad},
};

loss_options! {
    /// The options of [`linear_cross_entropy`].
    pub struct LinearCrossEntropyLossOptions, setters linear_cross_entropy_setters,
    weight "A weight for each class, `(C)`; none by default." {
        /// The bias of the linear map, in the shape of its weight without the last axis; none by default.
        linear_bias: into Option<&'a Tensor<T>> = None;
        /// The class index that is ignored; `None`, the default, is -100. Not for probabilities.
        ignore_index: into Option<i64> = None;
        /// The part of the target that is spread evenly over all classes, from 0 to 1; 0 by default.
        label_smoothing: of f64 = 0., if |s| (0. ..=1.).contains(&s), "label_smoothing is a share, from 0 to 1";
        /// How many samples' scores are held at a time; `None`, the default, holds all.
        batch_chunk_size: into Option<usize> = None, if |n| n != Some(0), "batch_chunk_size is at least 1";
    }
}

const OP: &str = "linear_cross_entropy";

/// The tensors of a call: input and weight, the others where they were given.
#[derive(Clone)]
struct Inputs<T: Real> {
    input: Tensor<T>,
    /// `[C · d₁ · …, in_features]`
    weight: Tensor<T>,
    bias: Option<Tensor<T>>,
    class_weight: Option<Tensor<T>>,
    target: Target<T>,
}

#[derive(Clone)]
enum Target<T: Real> {
    Classes(Tensor<i64>),
    Probabilities(Tensor<T>),
}

/// What does not change from chunk to chunk.
#[derive(Clone)]
struct Call {
    /// The shape of a sample's scores: classes, then positions.
    scores: Vec<usize>,
    ignore_index: i64,
    label_smoothing: f64,
}

impl<T: Real> Inputs<T> {
    /// Those that may have a gradient.
    fn floats(&self) -> Vec<&Tensor<T>> {
        let target = match &self.target {
            Target::Probabilities(target) => Some(target),
            Target::Classes(_) => None,
        };
        let given = [self.bias.as_ref(), self.class_weight.as_ref(), target].into_iter().flatten();
        [&self.input, &self.weight].into_iter().chain(given).collect()
    }

    /// The same with other tensors in the place of [`floats`](Inputs::floats).
    fn with(&self, floats: &[Tensor<T>]) -> Self {
        let mut floats = floats.iter().cloned();
        let mut next = || floats.next().expect("a tensor for each");
        Inputs {
            input: next(),
            weight: next(),
            bias: self.bias.as_ref().map(|_| next()),
            class_weight: self.class_weight.as_ref().map(|_| next()),
            target: match &self.target {
                Target::Classes(target) => Target::Classes(target.clone()),
                Target::Probabilities(_) => Target::Probabilities(next()),
            },
        }
    }

    /// Some samples.
    fn chunk(&self, from: usize, len: usize) -> Result<Self> {
        let target = match &self.target {
            Target::Classes(target) => Target::Classes(target.narrow(0, from, len)?),
            Target::Probabilities(target) => Target::Probabilities(target.narrow(0, from, len)?),
        };
        Ok(Inputs { input: self.input.narrow(0, from, len)?, target, ..self.clone() })
    }

    /// The losses, from all scores at once.
    fn losses(&self, call: &Call, reduction: Reduction) -> Result<Tensor<T>> {
        let scores = linear(&self.input, &self.weight, self.bias.as_ref())?;
        let lead = &self.input.shape()[..self.input.ndim() - 1];
        let scores = scores.reshape([lead, &call.scores].concat())?;
        let options = CrossEntropyLossOptions::from(reduction)
            .weight(self.class_weight.as_ref())
            .label_smoothing(call.label_smoothing);
        match &self.target {
            Target::Classes(target) => cross_entropy(&scores, target, options.ignore_index(call.ignore_index)),
            Target::Probabilities(target) => cross_entropy(&scores, target, options),
        }
    }
}

/// [`cross_entropy`](super::cross_entropy()) of the scores `x Wᵀ + b`, of which with
/// [`batch_chunk_size`](LinearCrossEntropyLossOptions::batch_chunk_size) only those of some samples are held at a time,
/// forward and backward: the backward pass computes them again.
///
/// `input` is `(N, in_features)` or `(in_features)`; `linear_weight` is `(C, in_features)`, or `(C, d₁, …, in_features)` for
/// scores `(N, C, d₁, …)`; `target` is that of [`cross_entropy`](super::cross_entropy()). The result is a scalar, or `(N, d₁,
/// …)` without a reduction. A second derivative holds all scores.
///
/// ```
/// use ndnn::{functional::{self as F, LinearCrossEntropyLossOptions}, prelude::*};
/// let (x, weight, target) = (Tensor::<f32>::ones([4, 3]), Tensor::ones([10, 3]), tensor![0, 1, 2, 9]);
/// let options = LinearCrossEntropyLossOptions::default().batch_chunk_size(2);
/// let loss = F::linear_cross_entropy(&x, &weight, &target, options)?;
/// assert!((loss.item()? - 10f32.ln()).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, a target is not a class, or an `ignore_index` is given with probabilities.
pub fn linear_cross_entropy<'t, T: Real>(
    input: &Tensor<T>,
    linear_weight: &Tensor<T>,
    target: impl Into<CrossEntropyTarget<'t, T>>,
    options: LinearCrossEntropyLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let target = match target.into() {
        CrossEntropyTarget::Classes(target) => Target::Classes(target.clone()),
        CrossEntropyTarget::Probabilities(_) if options.ignore_index.is_some() => {
            return Err(Error::value(OP, "ignore_index is for class indices, the target holds probabilities"));
        }
        CrossEntropyTarget::Probabilities(target) => Target::Probabilities(target.clone()),
    };
    let scores = scores_shape(input, linear_weight, options.linear_bias)?;
    let outputs: usize = scores.iter().product();
    let inputs = Inputs {
        input: input.clone(),
        weight: linear_weight.reshape([outputs, input.shape()[input.ndim() - 1]])?,
        bias: options.linear_bias.map(|bias| bias.reshape([outputs])).transpose()?,
        class_weight: options.weight.cloned(),
        target,
    };
    let (ignore_index, label_smoothing) = (options.ignore_index.unwrap_or(-100), options.label_smoothing);
    let call = Call { scores, ignore_index, label_smoothing };
    match options.batch_chunk_size {
        Some(size) if input.ndim() == 2 && input.shape()[0] > size => {
            let divisor = divisor(&inputs, &call)?;
            let losses = in_chunks(inputs, call, size)?;
            Ok(match options.reduction {
                Reduction::Mean => losses.sum() / divisor,
                reduction => reduction.apply(losses),
            })
        }
        _ => inputs.losses(&call, options.reduction),
    }
}

/// The shape of a sample's scores.
fn scores_shape<T: Real>(input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Vec<usize>> {
    let (x, w) = (input.shape(), weight.shape());
    let wrong = |what: String| Err(Error::shape(OP, format!("the input is {x:?}, the linear weight {w:?}; {what}")));
    let (&[.., features], 1 | 2) = (x, x.len()) else {
        return wrong("the input has 1 or 2 axes, (in_features) or (N, in_features)".into());
    };
    let Some((&expected, scores)) = w.split_last().filter(|(_, scores)| !scores.is_empty()) else {
        return wrong("the weight has at least 2 axes, (C, in_features) or (C, d1, …, in_features)".into());
    };
    if features != expected {
        return wrong(format!("their last axes have {features} and {expected} features"));
    }
    if x.len() == 1 && scores.len() > 1 {
        return wrong("a weight of more than 2 axes takes inputs in a batch, (N, in_features)".into());
    }
    match bias {
        Some(bias) if bias.shape() != scores => wrong(format!("the bias is {:?}, expected {scores:?}", bias.shape())),
        _ => Ok(scores.to_vec()),
    }
}

/// What the mean divides by; checks the classes.
fn divisor<T: Real>(inputs: &Inputs<T>, call: &Call) -> Result<T> {
    let shape = [&inputs.input.shape()[..1], &call.scores].concat();
    match &inputs.target {
        Target::Classes(target) => {
            let options =
                NLLLossOptions::default().weight(inputs.class_weight.as_ref()).ignore_index(call.ignore_index);
            mean_divisor(OP, &shape, target, options)
        }
        Target::Probabilities(target) if target.shape() == shape => {
            Ok(T::of((shape.iter().product::<usize>() / shape[1].max(1)) as f64))
        }
        Target::Probabilities(target) => Err(Error::shape(
            OP,
            format!("the scores are {shape:?}, the target {:?}, they must have one shape", target.shape()),
        )),
    }
}

/// The losses of all samples, from the scores of `size` of them at a time.
fn in_chunks<T: Real>(inputs: Inputs<T>, call: Call, size: usize) -> Result<Tensor<T>> {
    let samples = inputs.input.shape()[0];
    let chunks = move || (0..samples).step_by(size).map(move |from| (from, size.min(samples - from)));
    let each = |(from, len)| no_grad(|| inputs.chunk(from, len)?.losses(&call, Reduction::None));
    let losses = Tensor::cat(&try_collected(chunks().map(each))?, 0)?;
    let kept = inputs.clone();
    Ok(Tensor::op_many(OP, losses, &inputs.floats(), move |g, needed| {
        let gradients = |inputs: &Inputs<T>, g: &Tensor<T>| {
            let losses = |floats: &[Tensor<T>]| inputs.with(floats).losses(&call, Reduction::None);
            gradients_again(&inputs.floats(), needed, g, &losses)
        };
        if grad_enabled() {
            return gradients(&kept, g);
        }
        let by_sample =
            |i: usize| i == 0 || i == kept.floats().len() - 1 && matches!(kept.target, Target::Probabilities(_));
        let mut parts = vec![Vec::new(); needed.len()];
        for (from, len) in chunks() {
            let grads = gradients(&kept.chunk(from, len)?, &g.narrow(0, from, len)?)?;
            for (i, (parts, grad)) in parts.iter_mut().zip(grads).enumerate() {
                match (grad, parts.pop()) {
                    (Some(grad), Some(sum)) if !by_sample(i) => parts.push(sum + grad),
                    (grad, last) => parts.extend([last, grad].into_iter().flatten()),
                }
            }
        }
        let whole = |parts: Vec<Tensor<T>>| (!parts.is_empty()).then(|| Tensor::cat(&parts, 0)).transpose();
        parts.into_iter().map(whole).collect()
    }))
}
