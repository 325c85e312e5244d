//! Attention.

use ndnn::{
    AnyTensor, DType, Real, Result, Tensor,
    functional::{
        self as F, AttentionMask, AttentionOptions, InProjection, MultiheadAttentionParameters,
        ScaledDotProductAttentionOptions,
    },
};

use crate::{
    args::{Args, KW},
    targets::{Called, out},
};

/// A mask of bools, where `true` means that a key is hidden, or of floats.
pub fn mask<T: Real>(a: &Args<T>, index: usize, name: &str) -> Result<Option<AttentionMask<T>>> {
    mask_of(AttentionMask::hidden, a, index, name)
}

fn mask_of<T: Real>(
    bools: fn(&Tensor<bool>) -> AttentionMask<T>,
    a: &Args<T>,
    index: usize,
    name: &str,
) -> Result<Option<AttentionMask<T>>> {
    Ok(match a.tensor_dtype(index, name) {
        Some(DType::Bool) => a.opt_mask(index, name)?.as_ref().map(bools),
        _ => a.opt_tensor(index, name)?.as_ref().map(AttentionMask::added),
    })
}

/// The output, and the weights if there are any.
pub fn outputs<T: Real>((output, weights): (Tensor<T>, Option<Tensor<T>>)) -> Vec<AnyTensor> {
    [Some(output), weights].into_iter().flatten().map(AnyTensor::from).collect()
}

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "scaled_dot_product_attention" => {
            let (q, k, v) = (a.tensor(0, "query")?, a.tensor(1, "key")?, a.tensor(2, "value")?);
            let options = ScaledDotProductAttentionOptions::default()
                .dropout_p(a.float_or(4, "dropout_p", 0.)?)
                .is_causal(a.bool_or(5, "is_causal", false)?)
                .scale(a.opt_float(KW, "scale")?)
                .enable_gqa(a.bool_or(KW, "enable_gqa", false)?);
            let mask = mask_of(AttentionMask::attended, a, 3, "attn_mask")?;
            out![F::scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), options)?]
        }
        "multi_head_attention_forward" => multi_head(a)?,
        _ => return Ok(None),
    }))
}

fn multi_head<T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (q, k, v) = (a.tensor(0, "query")?, a.tensor(1, "key")?, a.tensor(2, "value")?);
    a.ignore(3, "embed_dim_to_check");
    let in_proj_weight = match a.bool_or(17, "use_separate_proj_weight", false)? {
        true => InProjection::Separate([
            a.tensor(18, "q_proj_weight")?,
            a.tensor(19, "k_proj_weight")?,
            a.tensor(20, "v_proj_weight")?,
        ]),
        false => InProjection::Packed(a.tensor(5, "in_proj_weight")?),
    };
    let heads = MultiheadAttentionParameters {
        num_heads: a.size(4, "num_heads")?,
        in_proj_weight,
        in_proj_bias: a.opt_tensor(6, "in_proj_bias")?,
        bias_kv: a.opt_tensor(7, "bias_k")?.zip(a.opt_tensor(8, "bias_v")?),
        add_zero_attn: a.bool_or(9, "add_zero_attn", false)?,
        dropout_p: a.float_or(10, "dropout_p", 0.)?,
        out_proj_weight: a.tensor(11, "out_proj_weight")?,
        out_proj_bias: a.opt_tensor(12, "out_proj_bias")?,
        training: a.bool_or(13, "training", true)?,
    };
    let options = AttentionOptions::default()
        .need_weights(a.bool_or(15, "need_weights", true)?)
        .average_attn_weights(a.bool_or(23, "average_attn_weights", true)?)
        .key_padding_mask(mask(a, 14, "key_padding_mask")?)
        .attn_mask(mask(a, 16, "attn_mask")?)
        .is_causal(a.bool_or(24, "is_causal", false)?);
    let options = a.opt_tensor(21, "static_k")?.iter().fold(options, |options, k| options.static_k(k));
    let options = a.opt_tensor(22, "static_v")?.iter().fold(options, |options, v| options.static_v(v));
    F::multi_head_attention_forward(&q, &k, &v, &heads, options).map(outputs)
}
