//! Attention: scaled dot products, masks, several heads, decoding step by step.

mod cache;
mod mask;
mod multi_head;
mod tiles;

use crate::{
    Error, Result,
    functional::{dropout, options},
    kernels::{gather::mask_matrix, memory::filled, sizes::room},
    tensor::{Real, Tensor},
};
use ndnn_derive::concrete;

pub use cache::{KeyValueCache, multi_head_attention_cached};
pub(crate) use cache::{Slot, attended};
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
/// broadcast. `attn_mask` broadcasts to `(*, L, S)`. A query that attends to no key gives zeros, and passes no gradient. As
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
    let [key, value] = match options.enable_gqa {
        true => [shared_heads(query, key)?, shared_heads(query, value)?],
        false => [key.clone(), value.clone()],
    };
    if attn_mask.is_some() && options.is_causal {
        let what = "is_causal stands for a mask of its own: give attn_mask or is_causal, not both";
        return Err(Error::value(OP, what));
    }
    let added = attn_mask.map(AttentionMask::numbers);
    let scale = options.scale.unwrap_or(1. / (features as f64).sqrt());
    let lead = &query.shape()[..query.ndim() - 2];
    let alike = [&key, &value].iter().all(|t| t.ndim() == query.ndim() && t.shape().starts_with(lead));
    if alike && options.dropout_p == 0. && tiles::pays(query, &key) && added.as_ref().is_none_or(|m| !m.requires_grad())
    {
        let scores = [lead, &[len, key.size(-2)?]].concat();
        let added = added.map(|added| stack_of_masks(&added, &scores)).transpose()?;
        let stack = |t: &Tensor<T>| {
            t.reshape(
                &[&[-1], &t.shape()[lead.len()..].iter().map(|&n| n as isize).collect::<Vec<_>>()[..]].concat()[..],
            )
        };
        let tiles = tiles::Tiles { scale: T::of(scale), added, causal: options.is_causal };
        let y = tiles.attend(&stack(query)?, &stack(&key)?, &stack(&value)?)?;
        return y.reshape(&[lead, &y.shape()[1..]].concat()[..]);
    }
    let mut scores = (query * T::of(scale)).matmul(&key.transpose(-2, -1)?)?;
    if options.is_causal {
        scores = scores.try_add(&causal(OP, len, key.size(-2)?, 0)?)?;
    }
    if let Some(added) = &added {
        let masked = scores.try_add(added).ok().filter(|masked| masked.shape() == scores.shape());
        scores = masked.ok_or_else(|| unlike(added, scores.shape()))?;
    }
    let weights = if added.is_some() { safe_softmax(&scores)? } else { scores.softmax(-1)? };
    dropout(&weights, options.dropout_p, true)?.matmul(&value)
}

fn unlike<T: Real>(mask: &Tensor<T>, scores: &[usize]) -> Error {
    Error::shape(OP, format!("attn_mask {:?} does not broadcast to the scores {scores:?}", mask.shape()))
}

/// A mask of scores `(*, L, S)` as `(B or 1, L or 1, S or 1)`, written out along the leading axes only if it differs there.
fn stack_of_masks<T: Real>(mask: &Tensor<T>, scores: &[usize]) -> Result<Tensor<T>> {
    let (shape, lead) = (mask.shape(), scores.len() - 2);
    let skipped = scores.len().checked_sub(shape.len()).ok_or_else(|| unlike(mask, scores))?;
    if shape.iter().zip(&scores[skipped..]).any(|(&m, &n)| m != 1 && m != n) {
        return Err(unlike(mask, scores));
    }
    let whole = [&vec![1; skipped][..], shape].concat();
    let same = whole[..lead].iter().all(|&n| n == 1);
    let of_heads = if same { vec![1] } else { scores[..lead].to_vec() };
    let batch: usize = of_heads.iter().product();
    let written = mask.reshape(&whole[..])?;
    let written = if same { written } else { written.broadcast_to([&of_heads[..], &whole[lead..]].concat())? };
    written.reshape(&[&[batch], &whole[lead..]].concat()[..])
}

/// Numbers that are added to the scores so that query i attends only to the keys 0 to `past` + i.
pub(crate) fn causal<T: Real>(op: &str, len: usize, keys: usize, past: usize) -> Result<Tensor<T>> {
    let zeros = filled(room::<T>(op, &[len, keys])?, T::ZERO);
    Ok(mask_matrix(zeros, &[len, keys], T::neg_infinity(), |i, j| j <= i + past as isize).into())
}

/// Keys or values with each head repeated, so that they have as many heads as the query.
fn shared_heads<T: Real>(query: &Tensor<T>, shared: &Tensor<T>) -> Result<Tensor<T>> {
    let heads = |t: &Tensor<T>| t.ndim().checked_sub(3).map_or(0, |axis| t.shape()[axis]);
    match (heads(query), heads(shared)) {
        (n, m) if m > 0 && n.is_multiple_of(m) => shared.repeat_interleave(n / m, -3),
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
    let blind = scores.detach().eq(T::neg_infinity())?.all_dim([-1], true)?;
    if !blind.any().item()? {
        return scores.softmax(-1);
    }
    scores.masked_fill(&blind, T::ZERO)?.softmax(-1)?.masked_fill(&blind, T::ZERO)
}
