//! Attention: scaled dot products, masks, several heads, decoding step by step.

mod cache;
mod fused;
mod mask;
mod multi_head;

use crate::{
    Error, Result,
    functional::options,
    kernels::{
        attention::{Dropped, Layout},
        gather::mask_matrix,
        memory::filled,
        random::Key,
        sizes::room,
    },
    random::draw,
    tensor::{Real, Tensor},
};
use ndnn_derive::concrete;

pub use cache::{KeyValueCache, multi_head_attention_cached};
pub(crate) use cache::{Slot, attended};
use fused::Plan;
pub use mask::AttentionMask;
pub use multi_head::{AttentionOptions, InProjection, MultiheadAttentionParameters, multi_head_attention_forward};

const OP: &str = "scaled_dot_product_attention";

options! {
    /// The options of [`scaled_dot_product_attention`].
    pub struct ScaledDotProductAttentionOptions, setters scaled_dot_product_attention_setters {
        /// The probability with which a weight is dropped, in any mode: pass 0 (the default) outside training.
        dropout_p: of f64 = 0.;
        /// Whether query i attends only to the keys 0 to i; `false` by default.
        is_causal: of bool = false;
        /// The factor of the scores; by default 1 / √E.
        scale: into Option<f64> = None;
        /// Whether several query heads (axis −3) share one head of keys and values; `false` by default.
        enable_gqa: of bool = false;
    }
}

/// `softmax(Q Kᵀ / √E + mask) V`, softmax over the keys.
///
/// `query` is `(*, L, E)`, `key` `(*, S, E)`, `value` `(*, S, Ev)`; the result is `(*, L, Ev)`. The leading axes
/// broadcast. `attn_mask` broadcasts to `(*, L, S)`. A query that attends to no key gives zeros, and passes no gradient.
/// Memory grows with the numbers of queries and keys and not with that of scores, which are computed in tiles and again in
/// the backward pass, unless the mask needs a gradient, the leading axes differ, or a gradient is differentiated again. As
/// torch.nn.functional.scaled_dot_product_attention; Vaswani and others, 2017.
///
/// ```
/// use ndnn::{functional::{self as F, ScaledDotProductAttentionOptions}, prelude::*};
/// let (q, v) = (Tensor::ones([2, 2]), tensor![[1.0, 2.0], [3.0, 4.0]]);
/// let y = F::scaled_dot_product_attention(&q, &q, &v, None, ScaledDotProductAttentionOptions::default().is_causal(true))?;
/// assert_eq!(y, tensor![[1.0, 2.0], [2.0, 3.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not match, both a mask and `is_causal` are given, or `dropout_p` is not a probability.
#[concrete]
pub fn scaled_dot_product_attention<T: Real>(
    query: &Tensor<T>,
    key: &Tensor<T>,
    value: &Tensor<T>,
    attn_mask: Option<&AttentionMask<T>>,
    options: ScaledDotProductAttentionOptions,
) -> Result<Tensor<T>> {
    let shapes = || format!("query {:?}, key {:?}, value {:?}", query.shape(), key.shape(), value.shape());
    if [query, key, value].iter().any(|t| t.ndim() < 2) {
        return Err(Error::shape(OP, format!("expected at least 2 axes each, got {}", shapes())));
    }
    let (len, features) = (query.size(-2)?, query.size(-1)?);
    if key.size(-1)? != features || key.size(-2)? != value.size(-2)? {
        let what = format!("expected query (*, L, E), key (*, S, E), value (*, S, Ev), got {}", shapes());
        return Err(Error::shape(OP, what));
    }
    if attn_mask.is_some() && options.is_causal {
        let what = "is_causal stands for a mask of its own: give attn_mask or is_causal, not both";
        return Err(Error::value(OP, what));
    }
    let (of_key, of_value) = match options.enable_gqa {
        true => (group(query, key)?, group(query, value)?),
        false => (1, 1),
    };
    let plan = Plan {
        masks: attn_mask.cloned().into_iter().collect(),
        causal: options.is_causal,
        scale: T::of(options.scale.unwrap_or(1. / (features as f64).sqrt())),
        dropped: dropped(OP, options.dropout_p)?,
        layout: Layout::Matrices,
    };
    let lead = |t: &Tensor<T>| t.shape()[..t.ndim() - 2].to_vec();
    let (mut batch, of_keys) = (lead(query), lead(key));
    if of_key > 1 {
        batch[query.ndim() - 3] /= of_key;
    }
    let alike = of_keys == batch && lead(value) == batch;
    let scores = [&query.shape()[..query.ndim() - 1], &[key.size(-2)?]].concat();
    if alike {
        plan.check(&scores)?;
    }
    // Heads that share keys would have to copy them.
    if alike && !plan.is_whole(if of_key > 1 { usize::MAX } else { len }, key.size(-2)?) {
        return plan.fused([query, key, value]);
    }
    let repeated = |t: &Tensor<T>, n| if n == 1 { Ok(t.clone()) } else { t.repeat_interleave(n, -3) };
    let (key, value) = (repeated(key, of_key)?, repeated(value, of_value)?);
    plan.whole([query, &key, &value]).map(|[y, _]| y)
}

/// Which weights are dropped with this probability.
fn dropped(op: &str, p: f64) -> Result<Option<Dropped>> {
    match p {
        0. => Ok(None),
        p if (0. ..=1.).contains(&p) => Ok(Some(Dropped { key: Key::of(&mut draw()), p })),
        _ => Err(Error::value(op, format!("dropout probability has to be between 0 and 1, but got {p}"))),
    }
}

fn unlike(mask: &[usize], scores: &[usize]) -> Error {
    Error::shape(OP, format!("attn_mask {mask:?} does not broadcast to the scores {scores:?}"))
}

/// Numbers that are added to the scores so that query i attends only to the keys 0 to `past` + i.
#[concrete]
pub(crate) fn causal<T: Real>(op: &str, len: usize, keys: usize, past: usize) -> Result<Tensor<T>> {
    let zeros = filled(room::<T>(op, &[len, keys])?, T::ZERO);
    Ok(mask_matrix(zeros, &[len, keys], T::neg_infinity(), |i, j| j <= i + past as isize).into())
}

/// The length of the axis of heads.
fn heads<T: Real>(t: &Tensor<T>) -> usize {
    t.ndim().checked_sub(3).map_or(0, |axis| t.shape()[axis])
}

/// The number of heads of the query per head of keys or values.
fn group<T: Real>(query: &Tensor<T>, shared: &Tensor<T>) -> Result<usize> {
    match (heads(query), heads(shared)) {
        (n, m) if m > 0 && n.is_multiple_of(m) => Ok(n / m),
        _ => Err(Error::shape(
            OP,
            format!(
                "with enable_gqa the heads (axis -3) of keys and values must divide the query's, got {:?} for query {:?}",
                shared.shape(),
                query.shape()
            ),
        )),
    }
}

/// Softmax over the last axis; a row of −∞ gives zeros and no gradient instead of NaN.
fn safe_softmax<T: Real>(scores: &Tensor<T>) -> Result<Tensor<T>> {
    // Without keys there is no largest score, and nothing to hide.
    if scores.shape().last() == Some(&0) {
        return scores.softmax(-1);
    }
    let blind = scores.detach().amax([-1], true)?.eq(T::neg_infinity())?;
    if !blind.elements().contains(&true) {
        return scores.softmax(-1);
    }
    scores.masked_fill(&blind, T::ZERO)?.softmax(-1)?.masked_fill(&blind, T::ZERO)
}
