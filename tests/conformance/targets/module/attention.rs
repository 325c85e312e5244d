//! Attention.

use ndnn::{
    Real,
    functional::AttentionOptions,
    nn::{Dtype, MultiheadAttention},
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{
        dims::refused,
        functional::attention::{mask, outputs},
    },
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "MultiheadAttention" => {
            let (dim, heads) = (a.size(0, "embed_dim")?, a.size(1, "num_heads")?);
            let (dropout, bias) = (a.float_or(2, "dropout", 0.)?, a.bool_or(3, "bias", true)?);
            let (bias_kv, zeros) = (a.bool_or(4, "add_bias_kv", false)?, a.bool_or(5, "add_zero_attn", false)?);
            let (kdim, vdim) = (a.opt_size(6, "kdim")?.unwrap_or(dim), a.opt_size(7, "vdim")?.unwrap_or(dim));
            let batch_first = a.bool_or(8, "batch_first", false)?;
            let attention = refused(|| {
                let attention = MultiheadAttention::new(dim, heads).dropout(dropout).kdim(kdim).vdim(vdim).bias(bias);
                attention.add_bias_kv(bias_kv).add_zero_attn(zeros).batch_first(batch_first)
            })?;
            case(attention.dtype::<T>(), |attention, a| {
                let options = AttentionOptions::default()
                    .need_weights(a.bool_or(4, "need_weights", true)?)
                    .average_attn_weights(a.bool_or(6, "average_attn_weights", true)?)
                    .key_padding_mask(mask(a, 3, "key_padding_mask")?)
                    .attn_mask(mask(a, 5, "attn_mask")?)
                    .is_causal(a.bool_or(7, "is_causal", false)?);
                let (q, k, v) = (a.tensor(0, "query")?, a.tensor(1, "key")?, a.tensor(2, "value")?);
                attention.forward(&q, &k, &v, options).map(outputs)
            })
        }
        _ => return Ok(None),
    }))
}
