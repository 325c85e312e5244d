//! Batch norm over all parts of a batch that run side by side.

use std::sync::Arc;

use ndnn_derive::concrete;

use super::{
    BatchNormOptions, Form,
    batch::{Own, Statistics, batch_norm_and_moments, channels_normed, form, more_than_one},
    is_wild,
};
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::{
        memory::{copied, filled},
        normalization as kernel,
        parts::{self, About, Part, Phase},
    },
    tensor::{Real, Tensor},
};

const OP: &str = "batch_norm";

/// In training, batch norm of one part of a batch with the statistics of all parts; also returns their mean and unbiased
/// variance. All parts give the same `layer`, which tells one layer from another.
pub(crate) fn batch_norm_of_parts<T: Real>(
    part: &Part,
    layer: usize,
    input: &Tensor<T>,
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    eps: f64,
) -> Result<(Tensor<T>, Option<[Vec<T>; 2]>)> {
    let options = BatchNormOptions::default().training(true).eps(eps);
    let form = form(OP, input, [None, None], weight, bias, options)?;
    // The parts must agree on the number of channels too.
    let about = (OP, layer.wrapping_add(form.sizes[2]));
    if part.phase() == Phase::Joint {
        let all = part.meet(about, input.clone(), |inputs| jointly(&inputs, weight, bias, options))?;
        return Ok((all.0[part.index()].clone(), all.1.clone()));
    }
    let own = kernel::batch_moments(&input.elements(), form.map());
    let merged = part.meet(about, (own, form.count()), |all| {
        let count = all.iter().map(|(_, count)| count).sum();
        more_than_one(OP, input.shape(), count)?;
        Ok((Statistics::with(merged(&all), filled(form.sizes[2], T::of(eps))), count))
    })?;
    let (mut found, count) = (merged.0.clone(), merged.1);
    let mut x = input.clone();
    if found.moments[2].iter().any(|&rstd| is_wild(rstd)) {
        // As the whole batch: all parts come to the same decision.
        let whole = part.meet(about, input.detach(), |inputs| {
            let input = Tensor::cat(&inputs, 0)?;
            let form = Form { sizes: [input.shape()[0], form.sizes[1], form.sizes[2], form.sizes[3]], ..form };
            Statistics::of(&input, form, eps)
        })?;
        found = (*whole).clone();
        if let Some((_, scale)) = &found.scaled {
            x = form.of(input)?.try_mul(scale)?.reshape(input.shape())?;
        }
    }
    let trained = (count > 0).then(|| found.unbiased(count));
    let own = Own::Parts(Together { about, count: count as f64 });
    Ok((channels_normed(OP, &x, form, found.moments, weight, bias, Some(own)), trained))
}

/// What each part normalizes to, if the graph is one for all parts.
#[allow(clippy::type_complexity)]
fn jointly<T: Real>(
    inputs: &[Tensor<T>],
    weight: Option<&Tensor<T>>,
    bias: Option<&Tensor<T>>,
    options: BatchNormOptions,
) -> Result<(Vec<Tensor<T>>, Option<[Vec<T>; 2]>)> {
    let (y, moments) = batch_norm_and_moments(OP, &Tensor::cat(inputs, 0)?, [None, None], weight, bias, options)?;
    let mut start = 0;
    let cut = |input: &Tensor<T>| {
        let len = input.shape()[0];
        start += len;
        y.narrow(0, start - len, len)
    };
    Ok((inputs.iter().map(cut).collect::<Result<_>>()?, moments))
}

/// Mean, remaining error and variance of a batch, from those of its parts and their numbers of elements per channel.
#[concrete]
fn merged<T: Real>(parts: &[([Vec<T>; 3], usize)]) -> [Vec<T>; 3] {
    let count: usize = parts.iter().map(|(_, count)| count).sum();
    let zeros = || filled(parts[0].0[0].len(), T::ZERO);
    let mut merged = [zeros(), zeros(), zeros()];
    for c in 0..merged[0].len() {
        let of = |([mean, rest, var], count): &([Vec<T>; 3], usize)| {
            (mean[c].as_f64() + rest[c].as_f64(), var[c].as_f64(), *count as f64)
        };
        let over = |f: &dyn Fn(f64, f64) -> f64| {
            let sum: f64 = parts.iter().map(of).map(|(mean, var, n)| if n > 0. { n * f(mean, var) } else { 0. }).sum();
            sum / count as f64
        };
        let mean = over(&|mean, _| mean);
        let rounded = T::of(mean);
        merged[0][c] = rounded;
        merged[1][c] = T::of(mean - rounded.as_f64());
        merged[2][c] = T::of(over(&|part, var| var + (part - mean) * (part - mean)));
    }
    merged
}

/// What the parts of a batch that are normalized together do together in their backward passes.
#[derive(Clone, Copy)]
pub(super) struct Together {
    about: About,
    /// The elements of all parts per channel.
    count: f64,
}

impl Together {
    /// The sums of all parts, and their number of elements per channel.
    pub fn sums<T: Real>(&self, own: &[Vec<T>; 2]) -> Result<Arc<([Vec<T>; 2], f64)>> {
        let part = parts::here().filter(|part| part.phase() == Phase::Backward).ok_or_else(elsewhere)?;
        let count = self.count;
        part.meet(self.about, [copied(&own[0]), copied(&own[1])], |all| {
            let mut all = all.into_iter();
            let mut sums = all.next().expect("at least one part");
            for part in all {
                for (sum, part) in sums.iter_mut().zip(part) {
                    sum.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
                }
            }
            Ok((sums, count))
        })
    }
}

/// The error of a backward pass that is not that of the whole batch.
#[cold]
pub(super) fn elsewhere() -> Error {
    let why = "the statistics of SyncBatchNorm are those of all parts of the batch, and so is its backward pass: call \
               backward on what is computed from the output of DataParallel, not inside the module, nor on a tensor \
               that was kept there";
    Error::new(ErrorKind::Graph, OP, why)
}
