//! Attention step by step: keys and values of the steps so far are kept.

use ndnn_derive::concrete;

use super::{AttentionMask, MultiheadAttentionParameters, Plan, causal, multi_head::Call};
use crate::{
    Error, Result,
    kernels::memory::try_collected,
    tensor::{Real, Tensor},
};

const OP: &str = "multi_head_attention_cached";

/// What is kept for one attention.
#[derive(Clone, Debug)]
pub(crate) struct Slot<T: Real> {
    /// The projected keys and values, `(S, N, E)` each.
    kv: Option<[Tensor<T>; 2]>,
    /// Which of the steps are padding, and which keys of the memory.
    padding: [Option<AttentionMask<T>>; 2],
}

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
    padding: [Option<AttentionMask<T>>; 2],
}

impl<T: Real> Default for KeyValueCache<T> {
    fn default() -> Self {
        KeyValueCache { slots: Vec::new(), padding: [None, None] }
    }
}

impl<T: Real> KeyValueCache<T> {
    /// Steps that no query attends to, `(N, S)`, or `(S)` without a batch: the padding of beginnings of different lengths.
    /// Steps beyond the mask are attended to.
    pub fn key_padding_mask(self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
        let [_, memory] = self.padding.clone();
        self.padded([mask.into(), memory])
    }

    /// Keys of the memory that no query attends to, `(N, S)`, or `(S)` without a batch.
    pub fn memory_key_padding_mask(self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
        let [steps, _] = self.padding.clone();
        self.padded([steps, mask.into()])
    }

    fn padded(mut self, padding: [Option<AttentionMask<T>>; 2]) -> Self {
        self.slots.iter_mut().for_each(|slot| slot.padding.clone_from(&padding));
        self.padding = padding;
        self
    }

    /// The number of steps so far.
    pub fn len(&self) -> usize {
        self.slots.first().and_then(|slot| slot.kv.as_ref()).map_or(0, |[keys, _]| keys.shape()[0])
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
        slots.resize(count, Slot { kv: None, padding: self.padding.clone() });
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
    if let Some([keys, _]) = &slot.kv {
        let (is, new) = (keys.shape(), source.shape());
        if is[1] != new[1] || is[2] != query.shape()[2] || (memory.is_some() && is[0] != new[0]) {
            let what = format!("the cache holds keys of {is:?} (steps, batch, features), got {new:?}");
            return Err(Error::shape(OP, what));
        }
    }
    let (q, kv, past) = match (&slot.kv, memory) {
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
    let (steps, batch, keys) = (query.shape()[0], query.shape()[1], kv[0].shape()[0]);
    let padding = slot.padding[usize::from(memory.is_some())].as_ref();
    let mut masks: Vec<_> =
        padding.map(|mask| of_keys(mask, batch, keys, memory.is_some())).transpose()?.into_iter().collect();
    if memory.is_none() && steps > 1 {
        masks.push(AttentionMask::added(&causal(OP, steps, keys, past)?));
    }
    let masks = try_collected(masks.into_iter().map(|mask| parameters.with_columns(mask)))?;
    let [k, v] = kv.clone();
    let output = parameters.attend(&[q, k, v], Call { masks, ..Call::default() })?.0;
    slot.kv = Some(kv);
    if batched { Ok(output) } else { output.squeeze_dim(1) }
}

/// A padding mask as one of the scores `(N, num_heads, L, keys)`.
fn of_keys<T: Real>(mask: &AttentionMask<T>, batch: usize, keys: usize, whole: bool) -> Result<AttentionMask<T>> {
    let shape = mask.shape();
    let len = shape.last().copied().unwrap_or(0);
    if shape != [batch, len] && (batch != 1 || shape != [len]) || whole && len != keys {
        let (name, expected) = if whole { ("memory_", keys.to_string()) } else { ("", "S".to_string()) };
        let what = format!("the cache's {name}key_padding_mask is {shape:?}, expected [{batch}, {expected}]");
        return Err(Error::shape(OP, what));
    }
    let numbers = mask.numbers().reshape(&[batch, 1, 1, len][..])?;
    let fitted = numbers.narrow(3, 0, len.min(keys))?;
    let missing = (keys - len.min(keys)) as isize;
    Ok(AttentionMask::added(&fitted.constant_pad(&[(0, 0), (0, 0), (0, 0), (0, missing)], T::ZERO)?))
}
