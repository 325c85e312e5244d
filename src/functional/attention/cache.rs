//! Attention step by step: keys and values of the steps so far are kept.

use super::{AttentionMask, MultiheadAttentionParameters, Plan, causal, multi_head::Call};
use crate::{
    Error, Result,
    tensor::{Real, Tensor},
};
use ndnn_derive::concrete;

const OP: &str = "multi_head_attention_cached";

/// The projected keys and values of one attention, `(S, N, E)` each.
pub(crate) type Slot<T> = Option<[Tensor<T>; 2]>;

/// The keys and values of the steps so far, for generating a sequence step by step: each step is computed once, and the
/// result is that of the whole sequence with a causal mask.
///
/// It begins empty, and belongs to one model and one batch: [`MultiheadAttention`](crate::nn::MultiheadAttention),
/// [`TransformerEncoder`](crate::nn::TransformerEncoder), [`TransformerDecoder`](crate::nn::TransformerDecoder) and their
/// layers fill it in `forward_cached`. A clone shares its memory, so that several continuations can start from one
/// beginning.
///
/// ```
/// use ndnn::{functional::{AttentionMask, KeyValueCache}, nn::TransformerEncoderOptions, prelude::*};
/// let mut encoder = TransformerEncoder::new(TransformerEncoderLayer::new(8, 2).dim_feedforward(16), 2);
/// encoder.eval();
/// let x = Tensor::uniform([5, 3, 8], -1.0, 1.0)?;
/// let whole = encoder.forward(&x, TransformerEncoderOptions::default().src_mask(AttentionMask::causal(5, 5)?))?;
/// let mut cache = KeyValueCache::default();
/// for (i, step) in x.split(1, 0)?.iter().enumerate() {
///     let y = encoder.forward_cached(step, &mut cache)?;
///     assert!(y.allclose(&whole.narrow(0, i as isize, 1)?, 1e-4, 1e-5, false)?);
/// }
/// assert_eq!(cache.len(), 5);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct KeyValueCache<T: Real = f32> {
    slots: Vec<Slot<T>>,
}

impl<T: Real> Default for KeyValueCache<T> {
    fn default() -> Self {
        KeyValueCache { slots: Vec::new() }
    }
}

impl<T: Real> KeyValueCache<T> {
    /// The number of steps so far.
    pub fn len(&self) -> usize {
        self.slots.first().and_then(Option::as_ref).map_or(0, |[keys, _]| keys.shape()[0])
    }

    /// Whether there has been no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Runs a model of `count` attentions, each with its slot. After an error the cache is as before.
    pub(crate) fn with<R>(&mut self, count: usize, run: impl FnOnce(&mut [Slot<T>]) -> Result<R>) -> Result<R> {
        if !self.slots.is_empty() && self.slots.len() != count {
            let what = format!(
                "the cache was filled by a model of {} attentions, this one has {count}: start with an empty cache",
                self.slots.len()
            );
            return Err(Error::value(OP, what));
        }
        let mut slots = self.slots.clone();
        slots.resize(count, None);
        let result = run(&mut slots)?;
        self.slots = slots;
        Ok(result)
    }
}

/// [`multi_head_attention_forward`](super::multi_head_attention_forward) of further steps of a sequence to themselves and
/// to all steps before them, whose keys and values are in the cache.
///
/// `query` is `(L, N, E)`, or `(L, E)` without a batch, with one or more further steps; each attends to the steps up to
/// itself. Returns the output, with the shape of the query.
///
/// # Errors
/// If the shapes do not match one another or the cache, or the cache belongs to a model of several attentions.
pub fn multi_head_attention_cached<T: Real>(
    query: &Tensor<T>,
    parameters: &MultiheadAttentionParameters<T>,
    cache: &mut KeyValueCache<T>,
) -> Result<Tensor<T>> {
    cache.with(1, |slots| attended(query, None, parameters, &mut slots[0]))
}

/// Attention of `query` to the steps so far and to itself, or to a memory, which is projected at the first call.
#[concrete]
pub(crate) fn attended<T: Real>(
    query: &Tensor<T>,
    memory: Option<&Tensor<T>>,
    parameters: &MultiheadAttentionParameters<T>,
    slot: &mut Slot<T>,
) -> Result<Tensor<T>> {
    let batched = query.ndim() == 3;
    let source = memory.unwrap_or(query);
    parameters.check(query, source, source)?;
    let lifted = |t: &Tensor<T>| if batched { Ok(t.clone()) } else { t.unsqueeze(1) };
    let (query, source) = (lifted(query)?, lifted(source)?);
    if let Some([keys, _]) = &slot {
        let (is, new) = (keys.shape(), source.shape());
        if is[1] != new[1] || is[2] != query.shape()[2] || (memory.is_some() && is[0] != new[0]) {
            let what = format!("the cache holds keys of {is:?} (steps, batch, features), got {new:?}");
            return Err(Error::shape(OP, what));
        }
    }
    let (q, kv, past) = match (&slot, memory) {
        (Some(kv), Some(_)) => (parameters.project_query(&query)?, kv.clone(), 0),
        (before, _) => {
            let [q, k, v] = Plan::parts(
                &parameters.project(&query, &source, &source, memory.is_none())?.iter().collect::<Vec<_>>(),
            )?;
            match before {
                Some([keys, values]) => {
                    let kv = [Tensor::cat(&[keys, &k], 0)?, Tensor::cat(&[values, &v], 0)?];
                    (q, kv, keys.shape()[0])
                }
                None => (q, [k, v], 0),
            }
        }
    };
    let (steps, keys) = (query.shape()[0], kv[0].shape()[0]);
    let masks = match memory {
        None if steps > 1 => {
            vec![parameters.with_columns(AttentionMask::added(&causal(OP, steps, keys, past)?))?]
        }
        _ => Vec::new(),
    };
    let [k, v] = kv.clone();
    let output = parameters.attend(&[q, k, v], Call { masks, ..Call::default() })?.0;
    *slot = Some(kv);
    if batched { Ok(output) } else { output.squeeze_dim(1) }
}
