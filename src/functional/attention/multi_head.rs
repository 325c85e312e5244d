//! Attention in several heads, of projected queries, keys and values.

use super::{AttentionMask, ScaledDotProductAttentionOptions, safe_softmax, scaled_dot_product_attention};
use crate::{
    Error, Result,
    functional::{dropout, linear},
    tensor::{Real, Tensor},
};

/// The weights that project queries, keys and values.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)] // There is one at a time, for one call.
pub enum InProjection<T: Real = f32> {
    /// `(3 · E, E)`: the weights for queries, keys and values, stacked along the first axis.
    Packed(Tensor<T>),
    /// For queries `(E, E)`, keys `(E, kdim)` and values `(E, vdim)`.
    Separate([Tensor<T>; 3]),
}

/// The weights and settings of a layer for [`multi_head_attention_forward`].
#[derive(Clone, Debug)]
pub struct MultiheadAttentionParameters<T: Real = f32> {
    /// The number of heads among which the features are divided.
    pub num_heads: usize,
    /// The weights of the input projections.
    pub in_proj_weight: InProjection<T>,
    /// `(3 · E)`: the biases of the input projections.
    pub in_proj_bias: Option<Tensor<T>>,
    /// An additional, learnable key and value, `(1, 1, E)` each.
    pub bias_kv: Option<(Tensor<T>, Tensor<T>)>,
    /// Whether to add a key and a value of zeros.
    pub add_zero_attn: bool,
    /// `(E, E)`
    pub out_proj_weight: Tensor<T>,
    /// `(E)`
    pub out_proj_bias: Option<Tensor<T>>,
    /// The probability with which a weight is dropped in training.
    pub dropout_p: f64,
    /// Whether weights are dropped.
    pub training: bool,
}

/// The masks for one call of [`multi_head_attention_forward`] or
/// [`MultiheadAttention::forward`](crate::nn::MultiheadAttention::forward), and what it returns.
#[must_use = "a setter returns the options changed"]
#[derive(Clone, Debug)]
pub struct AttentionOptions<T: Real = f32> {
    key_padding_mask: Option<AttentionMask<T>>,
    attn_mask: Option<AttentionMask<T>>,
    need_weights: bool,
    average_attn_weights: bool,
    is_causal: bool,
    static_k: Option<Tensor<T>>,
    static_v: Option<Tensor<T>>,
}

impl<T: Real> Default for AttentionOptions<T> {
    fn default() -> Self {
        AttentionOptions {
            key_padding_mask: None,
            attn_mask: None,
            need_weights: true,
            average_attn_weights: true,
            is_causal: false,
            static_k: None,
            static_v: None,
        }
    }
}

impl<T: Real> AttentionOptions<T> {
    /// Keys that no query attends to, `(N, S)`, or `(S)` without a batch.
    pub fn key_padding_mask(mut self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
        self.key_padding_mask = mask.into();
        self
    }

    /// Keys that a query does not attend to, `(L, S)` or `(N · num_heads, L, S)`.
    pub fn attn_mask(mut self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
        self.attn_mask = mask.into();
        self
    }

    /// Whether the weights are returned (the default).
    pub fn need_weights(mut self, need_weights: bool) -> Self {
        self.need_weights = need_weights;
        self
    }

    /// Whether the returned weights are averaged over the heads (the default).
    pub fn average_attn_weights(mut self, average_attn_weights: bool) -> Self {
        self.average_attn_weights = average_attn_weights;
        self
    }

    /// A hint that `attn_mask`, which must be given, is the causal mask; `false` by default.
    pub fn is_causal(mut self, is_causal: bool) -> Self {
        self.is_causal = is_causal;
        self
    }

    /// Keys that stand in the place of the projected ones, `(N · num_heads, S, E / num_heads)`.
    pub fn static_k(mut self, static_k: &Tensor<T>) -> Self {
        self.static_k = Some(static_k.clone());
        self
    }

    /// Values that stand in the place of the projected ones, `(N · num_heads, S, E / num_heads)`.
    pub fn static_v(mut self, static_v: &Tensor<T>) -> Self {
        self.static_v = Some(static_v.clone());
        self
    }
}

const MHA: &str = "multi_head_attention_forward";

/// `concat(head₁, …) W_out`, where `headᵢ` is the [`scaled_dot_product_attention`] of its part of the projected
/// features.
///
/// `query` is `(L, N, E)`, `key` `(S, N, kdim)`, `value` `(S, N, vdim)`, or all without `N`. Returns the output, with
/// the shape of the query, and if requested the weights, `(N, L, S)`, or `(N, num_heads, L, S)` for each head. For a query
/// that attends to no key, weights and result are zeros before the output projection, and no gradient passes (PyTorch
/// gives NaN if the weights are requested). As torch.nn.functional.multi_head_attention_forward.
///
/// # Errors
/// If shapes or masks do not match, `is_causal` is given without `attn_mask`, or static keys or values are given together
/// with additional learnable ones.
pub fn multi_head_attention_forward<T: Real>(
    query: &Tensor<T>,
    key: &Tensor<T>,
    value: &Tensor<T>,
    parameters: &MultiheadAttentionParameters<T>,
    options: AttentionOptions<T>,
) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
    let batched = query.ndim() == 3;
    parameters.check(query, key, value)?;
    let one = query.is_same(key) && key.is_same(value);
    let lifted = |t: &Tensor<T>| if batched { Ok(t.clone()) } else { t.unsqueeze(1) };
    let (query, key, value) = (lifted(query)?, lifted(key)?, lifted(value)?);

    // The hint is used only if there is no other mask to combine with the causal one.
    let causal = options.is_causal && options.key_padding_mask.is_none() && !options.need_weights;
    let keys = options.static_k.as_ref().filter(|k| k.ndim() == 3).map_or(key.shape()[0], |k| k.shape()[1]);
    let mask = parameters.mask(&options, causal, [query.shape()[1], query.shape()[0], keys], batched)?;
    let [q, k, v] = parameters.project(&query, &key, &value, one)?;
    let [k, v] = parameters.with_bias([k, v])?;
    let mut kv = [parameters.split(&k)?, parameters.split(&v)?];
    for (t, (name, given)) in kv.iter_mut().zip([("static_k", &options.static_k), ("static_v", &options.static_v)]) {
        if let Some(given) = given {
            *t = parameters.in_place_of(t, name, given)?;
        }
    }
    let (output, weights) = parameters.attend(&q, parameters.with_zeros(kv)?, mask, causal, options.need_weights)?;
    let weights = weights.map(|w| {
        let w = w.unflatten(0, [query.shape()[1] as isize, parameters.num_heads as isize])?;
        let w = if options.average_attn_weights { w.mean_dim(1, false)? } else { w };
        if batched { Ok(w) } else { w.squeeze_dim(0) }
    });
    Ok((if batched { output } else { output.squeeze_dim(1)? }, weights.transpose()?))
}

impl<T: Real> MultiheadAttentionParameters<T> {
    pub(super) fn check(&self, query: &Tensor<T>, key: &Tensor<T>, value: &Tensor<T>) -> Result<()> {
        let (q, k, v) = (query.shape(), key.shape(), value.shape());
        let came = format!("query {q:?}, key {k:?}, value {v:?}");
        if !matches!(q.len(), 2 | 3) || k.len() != q.len() || v.len() != q.len() {
            let what = format!("expected (L, N, E) and (S, N, E), or (L, E) and (S, E) without a batch, got {came}");
            return Err(Error::shape(MHA, what));
        }
        let (features, last) = (q[q.len() - 1], q.len() - 1);
        if k[..last] != v[..last] || k[1..last] != q[1..last] {
            let what = format!("expected keys and values of one length, and one batch size in all, got {came}");
            return Err(Error::shape(MHA, what));
        }
        // No features would divide into any number of heads.
        if self.num_heads == 0 || features == 0 || !features.is_multiple_of(self.num_heads) {
            let what = format!("the query's {features} features do not divide into {} heads", self.num_heads);
            return Err(Error::shape(MHA, what));
        }
        let weights: Vec<(&str, &Tensor<T>, [usize; 2])> = match &self.in_proj_weight {
            InProjection::Packed(w) => vec![("in_proj_weight", w, [3 * features, features])],
            InProjection::Separate([wq, wk, wv]) => vec![
                ("q_proj_weight", wq, [features, features]),
                ("k_proj_weight", wk, [features, k[last]]),
                ("v_proj_weight", wv, [features, v[last]]),
            ],
        };
        for (name, weight, expected) in weights {
            if weight.shape() != expected {
                let what = format!("{name} is {:?}, {expected:?} is expected for {came}", weight.shape());
                return Err(Error::shape(MHA, what));
            }
        }
        if matches!(self.in_proj_weight, InProjection::Packed(_)) && (k != v || k[last] != features) {
            let what = format!("a packed in_proj_weight takes keys and values of the query's features, got {came}");
            return Err(Error::shape(MHA, what));
        }
        match self.in_proj_bias.as_ref().filter(|b| b.shape() != [3 * features]) {
            Some(bias) => {
                let what = format!("in_proj_bias is {:?}, [{}] is expected for {came}", bias.shape(), 3 * features);
                Err(Error::shape(MHA, what))
            }
            None => Ok(()),
        }
    }

    /// Both masks combined into one that is added to the scores `(N · num_heads, L, S)` and broadcasts to them.
    fn mask(
        &self,
        options: &AttentionOptions<T>,
        causal: bool,
        [batch, len, keys]: [usize; 3],
        batched: bool,
    ) -> Result<Option<Tensor<T>>> {
        let unbatched = if batched { "" } else { ", the input is without a batch" };
        let of_queries = match &options.attn_mask {
            None if options.is_causal => {
                let what = "is_causal is a hint that attn_mask is the causal mask: attn_mask is needed too";
                return Err(Error::value(MHA, what));
            }
            None => None,
            Some(mask) => {
                let whole = [batch * self.num_heads, len, keys];
                if mask.shape() != whole && mask.shape() != &whole[1..] {
                    let (got, two) = (mask.shape(), &whole[1..]);
                    let what =
                        format!("attn_mask is {got:?}, expected {two:?} or {whole:?} (N · num_heads, L, S){unbatched}");
                    return Err(Error::shape(MHA, what));
                }
                let added = mask.numbers();
                let added = if added.ndim() == 2 { added.unsqueeze(0)? } else { added };
                (!causal).then(|| self.with_columns(added)).transpose()?
            }
        };
        let Some(padding) = &options.key_padding_mask else { return Ok(of_queries) };
        let expected = if batched { &[batch, keys][..] } else { &[keys] };
        if padding.shape() != expected {
            let what = format!("key_padding_mask is {:?}, expected {expected:?}{unbatched}", padding.shape());
            return Err(Error::shape(MHA, what));
        }
        let padding = self.with_columns(padding.numbers().reshape(&[batch, keys][..])?)?;
        let padding = padding.unsqueeze(1)?.repeat_interleave(self.num_heads, 0)?;
        of_queries.map_or(Ok(padding.clone()), |mask| mask.try_add(&padding)).map(Some)
    }

    /// Projected queries, keys and values `(L or S, N, E)`; in a single product if all three are `one` tensor.
    pub(super) fn project(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        one: bool,
    ) -> Result<[Tensor<T>; 3]> {
        if one && let InProjection::Packed(weight) = &self.in_proj_weight {
            let all = linear(query, weight, self.in_proj_bias.as_ref())?.chunk(3, -1)?;
            return Ok(all.try_into().expect("three parts"));
        }
        Ok([self.projected(0, query)?, self.projected(1, key)?, self.projected(2, value)?])
    }

    /// Projected queries alone.
    pub(super) fn project_query(&self, query: &Tensor<T>) -> Result<Tensor<T>> {
        self.projected(0, query)
    }

    /// The projection of queries (0), keys (1) or values (2).
    fn projected(&self, which: usize, x: &Tensor<T>) -> Result<Tensor<T>> {
        let part = |t: &Tensor<T>| t.chunk(3, 0).map(|mut parts| parts.swap_remove(which));
        let weight = match &self.in_proj_weight {
            InProjection::Packed(weight) => part(weight)?,
            InProjection::Separate(weights) => weights[which].clone(),
        };
        linear(x, &weight, self.in_proj_bias.as_ref().map(part).transpose()?.as_ref())
    }

    /// A mask `(*, L, S)` that shows the keys that are added, too.
    pub(super) fn with_columns(&self, mask: Tensor<T>) -> Result<Tensor<T>> {
        let more = usize::from(self.bias_kv.is_some()) + usize::from(self.add_zero_attn);
        if more == 0 {
            return Ok(mask);
        }
        let mut pads = vec![(0, 0); mask.ndim()];
        pads[mask.ndim() - 1].1 = more as isize;
        mask.constant_pad(&pads, T::ZERO)
    }

    /// Keys and values `(S, N, E)` with the learnable ones appended.
    pub(super) fn with_bias(&self, mut kv: [Tensor<T>; 2]) -> Result<[Tensor<T>; 2]> {
        let one = [1, kv[0].shape()[1], kv[0].shape()[2]];
        if let Some((bias_k, bias_v)) = &self.bias_kv {
            for (t, bias) in kv.iter_mut().zip([bias_k, bias_v]) {
                *t = Tensor::cat(&[&*t, &bias.broadcast_to(one)?], 0)?;
            }
        }
        Ok(kv)
    }

    /// Keys and values of the heads `(N · num_heads, S, E / num_heads)` with zeros appended.
    pub(super) fn with_zeros(&self, mut kv: [Tensor<T>; 2]) -> Result<[Tensor<T>; 2]> {
        if self.add_zero_attn {
            for t in &mut kv {
                let one = [t.shape()[0], 1, t.shape()[2]];
                *t = Tensor::cat(&[&*t, &Tensor::try_full(MHA, &one, T::ZERO)?], 1)?;
            }
        }
        Ok(kv)
    }

    /// The given keys or values, in the place of the projected ones.
    fn in_place_of(&self, projected: &Tensor<T>, name: &str, given: &Tensor<T>) -> Result<Tensor<T>> {
        if self.bias_kv.is_some() {
            let what = format!("{name} cannot be combined with additional learnable keys and values (add_bias_kv)");
            return Err(Error::value(MHA, what));
        }
        let (is, heads) = (given.shape(), projected.shape());
        if is.len() != 3 || is[0] != heads[0] || is[2] != heads[2] {
            let what = format!(
                "{name} is {is:?}, expected (N · num_heads, S, E / num_heads), which is [{}, S, {}]",
                heads[0], heads[2]
            );
            return Err(Error::shape(MHA, what));
        }
        Ok(given.clone())
    }

    /// The output `(L, N, E)` of all heads, and their weights `(N · num_heads, L, S)` if requested, from projected queries
    /// `(L, N, E)` and the heads' keys and values.
    pub(super) fn attend(
        &self,
        q: &Tensor<T>,
        [k, v]: [Tensor<T>; 2],
        mask: Option<Tensor<T>>,
        causal: bool,
        need_weights: bool,
    ) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
        if k.shape()[1] != v.shape()[1] {
            let what = format!("expected as many keys as values, got {} and {}", k.shape()[1], v.shape()[1]);
            return Err(Error::shape(MHA, what));
        }
        let (len, batch, features) = (q.shape()[0], q.shape()[1], q.shape()[2]);
        let q = self.split(q)?;
        let (output, weights) = if need_weights {
            let scale = 1. / (q.shape()[2] as f64).sqrt();
            let scores = (&q * T::of(scale)).bmm(&k.transpose(1, 2)?)?;
            let weights = match mask {
                Some(mask) => safe_softmax(&scores.try_add(&mask)?)?,
                None => scores.softmax(-1)?,
            };
            let weights = dropout(&weights, self.dropout_p, self.training)?;
            (weights.bmm(&v)?, Some(weights))
        } else {
            let dropout_p = if self.training { self.dropout_p } else { 0. };
            let dot = ScaledDotProductAttentionOptions::default().dropout_p(dropout_p).is_causal(causal);
            let mask = mask.as_ref().map(AttentionMask::added);
            (scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), dot)?, None)
        };
        let output = output.transpose(0, 1)?.reshape(&[len * batch, features][..])?;
        let output = linear(&output, &self.out_proj_weight, self.out_proj_bias.as_ref())?;
        Ok((output.reshape(&[len, batch, self.out_proj_weight.shape()[0]][..])?, weights))
    }

    /// `(L, N, E)` as `(N · num_heads, L, E / num_heads)`.
    pub(super) fn split(&self, t: &Tensor<T>) -> Result<Tensor<T>> {
        let [len, batch, features] = [t.shape()[0], t.shape()[1], t.shape()[2]];
        t.reshape(&[len, batch * self.num_heads, features / self.num_heads][..])?.transpose(0, 1)
    }
}
