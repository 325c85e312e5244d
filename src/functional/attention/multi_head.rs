//! Attention in several heads, of projected queries, keys and values.

#[cfg(doc)]
use super::scaled_dot_product_attention;
use super::{AttentionMask, Plan, dropped};
use crate::{
    Error, Result,
    functional::linear,
    kernels::attention::Layout,
    tensor::{Real, Tensor},
};
use ndnn_derive::concrete;

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
#[concrete]
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
    let masks = parameters.masks(&options, causal, [query.shape()[1], query.shape()[0], keys], batched)?;
    let projected = parameters.project(&query, &key, &value, one)?;
    let given = [options.static_k.as_ref(), options.static_v.as_ref()];
    let call = Call { given, masks, causal, need_weights: options.need_weights };
    let (output, weights) = parameters.attend(&projected, call)?;
    let weights = weights.map(|w| {
        let w = if options.average_attn_weights { w.mean_dim(1, false)? } else { w };
        if batched { Ok(w) } else { w.squeeze_dim(0) }
    });
    Ok((if batched { output } else { output.squeeze_dim(1)? }, weights.transpose()?))
}

/// What one call of attention takes besides projected queries, keys and values.
#[derive(Default)]
pub(super) struct Call<'a, T: Real> {
    /// Keys and values of the heads in the place of the projected ones.
    pub given: [Option<&'a Tensor<T>>; 2],
    /// Each broadcasts to the scores `(N, num_heads, L, S)`.
    pub masks: Vec<AttentionMask<T>>,
    pub causal: bool,
    pub need_weights: bool,
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
        let mut weights: Vec<(&str, &Tensor<T>, [usize; 2])> = match &self.in_proj_weight {
            InProjection::Packed(w) => vec![("in_proj_weight", w, [3 * features, features])],
            InProjection::Separate([wq, wk, wv]) => vec![
                ("q_proj_weight", wq, [features, features]),
                ("k_proj_weight", wk, [features, k[last]]),
                ("v_proj_weight", wv, [features, v[last]]),
            ],
        };
        let out = &self.out_proj_weight;
        weights.push(("out_proj_weight", out, [out.shape().first().copied().unwrap_or(features), features]));
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

    /// The masks, each of which broadcasts to the scores `(N, num_heads, L, S)`.
    fn masks(
        &self,
        options: &AttentionOptions<T>,
        causal: bool,
        [batch, len, keys]: [usize; 3],
        batched: bool,
    ) -> Result<Vec<AttentionMask<T>>> {
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
                let each = [batch, self.num_heads, len, keys];
                let mask = if mask.shape().len() == 2 { mask.clone() } else { mask.reshape(&each)? };
                (!causal).then(|| self.with_columns(mask)).transpose()?
            }
        };
        let mut masks: Vec<_> = of_queries.into_iter().collect();
        if let Some(padding) = &options.key_padding_mask {
            let expected = if batched { &[batch, keys][..] } else { &[keys] };
            if padding.shape() != expected {
                let what = format!("key_padding_mask is {:?}, expected {expected:?}{unbatched}", padding.shape());
                return Err(Error::shape(MHA, what));
            }
            masks.push(self.with_columns(padding.reshape(&[batch, 1, 1, keys])?)?);
        }
        Ok(masks)
    }

    /// Projected queries, keys and values `(L or S, N, E)`; if all three are `one` tensor, side by side in one, of a single
    /// product.
    pub(super) fn project(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        one: bool,
    ) -> Result<Vec<Tensor<T>>> {
        match &self.in_proj_weight {
            InProjection::Packed(weight) if one => Ok(vec![linear(query, weight, self.in_proj_bias.as_ref())?]),
            _ => Ok(vec![self.projected(0, query)?, self.projected(1, key)?, self.projected(2, value)?]),
        }
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

    /// A mask `(*, S)` that shows the keys that are added, too.
    pub(super) fn with_columns(&self, mask: AttentionMask<T>) -> Result<AttentionMask<T>> {
        let more = usize::from(self.bias_kv.is_some()) + usize::from(self.add_zero_attn);
        if more == 0 {
            return Ok(mask);
        }
        let mut pads = vec![(0, 0); mask.shape().len()];
        pads[mask.shape().len() - 1].1 = more as isize;
        Ok(AttentionMask::added(&mask.numbers().constant_pad(&pads, T::ZERO)?))
    }

    /// Keys or values `(N, num_heads, S, E / num_heads)` in the place of the projected ones.
    fn in_place_of(&self, projected: &Tensor<T>, name: &str, given: &Tensor<T>) -> Result<Tensor<T>> {
        if self.bias_kv.is_some() {
            let what = format!("{name} cannot be combined with additional learnable keys and values (add_bias_kv)");
            return Err(Error::value(MHA, what));
        }
        let (is, heads) = (given.shape(), projected.shape());
        let count = heads[0] * heads[1];
        if is.len() != 3 || is[0] != count || is[2] != heads[3] {
            let what = format!(
                "{name} is {is:?}, expected (N · num_heads, S, E / num_heads), which is [{count}, S, {}]",
                heads[3]
            );
            return Err(Error::shape(MHA, what));
        }
        given.reshape(&[heads[0], heads[1], is[1], is[2]][..])
    }

    /// The output `(L, N, E)`, and if requested the weights `(N, num_heads, L, S)`, from projected queries, keys and values
    /// `(L or S, N, E)`, or from all three side by side.
    pub(super) fn attend(&self, projected: &[Tensor<T>], call: Call<'_, T>) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
        let Call { given, masks, causal, need_weights } = call;
        let (shape, features) = (projected[0].shape(), self.out_proj_weight.shape()[1]);
        let (len, batch) = (shape[0], shape[1]);
        let plan = Plan {
            masks,
            causal,
            scale: T::of(1. / ((features / self.num_heads) as f64).sqrt()),
            dropped: dropped(MHA, if self.training { self.dropout_p } else { 0. })?,
            layout: Layout::Features { heads: self.num_heads },
        };
        let whole = need_weights || plan.is_whole(len, projected[1 % projected.len()].shape()[0]);
        let replaced = self.add_zero_attn || given.iter().any(Option::is_some);
        let (output, weights) = match projected {
            [all] if !whole && !replaced && self.bias_kv.is_none() => (plan.fused([all])?, None),
            _ => {
                let [q, k, v] = self.with_bias(&Plan::parts(&projected.iter().collect::<Vec<_>>())?)?;
                if !whole && !replaced {
                    (plan.fused([&q, &k, &v])?, None)
                } else {
                    let [q, k, v] = self.with_given(plan.stacks(&[&q, &k, &v])?, given)?;
                    let (y, weights) = match whole {
                        true => plan.whole([&q, &k, &v]).map(|[y, weights]| (y, Some(weights)))?,
                        false => (Plan { layout: Layout::Matrices, ..plan.clone() }.fused([&q, &k, &v])?, None),
                    };
                    (plan.unstacked(&y, &[len, batch])?, weights)
                }
            }
        };
        let output = linear(&output, &self.out_proj_weight, self.out_proj_bias.as_ref())?;
        Ok((output, weights.filter(|_| need_weights)))
    }

    /// Keys and values `(S, N, E)` with the learnable ones appended.
    fn with_bias(&self, [q, k, v]: &[Tensor<T>; 3]) -> Result<[Tensor<T>; 3]> {
        let mut kv = [k.clone(), v.clone()];
        if let Some((bias_k, bias_v)) = &self.bias_kv {
            for (t, bias) in kv.iter_mut().zip([bias_k, bias_v]) {
                let one = [1, t.shape()[1], t.shape()[2]];
                *t = Tensor::cat(&[&*t, &bias.broadcast_to(one)?], 0)?;
            }
        }
        let [k, v] = kv;
        Ok([q.clone(), k, v])
    }

    /// Keys and values of the heads `(N, num_heads, S, E / num_heads)`, or given ones, with zeros appended.
    fn with_given(&self, [q, k, v]: [Tensor<T>; 3], given: [Option<&Tensor<T>>; 2]) -> Result<[Tensor<T>; 3]> {
        let mut kv = [k, v];
        for ((t, given), name) in kv.iter_mut().zip(given).zip(["static_k", "static_v"]) {
            if let Some(given) = given {
                *t = self.in_place_of(t, name, given)?;
            }
            if self.add_zero_attn {
                let one = [t.shape()[0], t.shape()[1], 1, t.shape()[3]];
                *t = Tensor::cat(&[&*t, &Tensor::try_full(MHA, &one, T::ZERO)?], 2)?;
            }
        }
        let [k, v] = kv;
        if k.shape()[2] != v.shape()[2] {
            let what = format!("expected as many keys as values, got {} and {}", k.shape()[2], v.shape()[2]);
            return Err(Error::shape(MHA, what));
        }
        Ok([q, k, v])
    }
}
