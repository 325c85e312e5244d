//! Embeddings.

use ndnn::{
    Real,
    nn::{Dtype, Embedding, EmbeddingBag},
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{dims::refused, functional::sparse::bag_mode, out},
};

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Embedding" => {
            let mut table = Embedding::new(a.size(0, "num_embeddings")?, a.size(1, "embedding_dim")?);
            if let Some(row) = a.opt_int(2, "padding_idx")? {
                table = table.padding_idx(row);
            }
            table = table.max_norm(a.opt_float(3, "max_norm")?).norm_type(a.float_or(4, "norm_type", 2.)?);
            table = table.scale_grad_by_freq(a.bool_or(5, "scale_grad_by_freq", false)?);
            a.ignore(6, "sparse");
            case(table.dtype::<T>(), |table, a| Ok(out![table.forward(&a.long(0, "input")?)?]))
        }
        "EmbeddingBag" => {
            let (by_frequency, mode) = (a.bool_or(4, "scale_grad_by_freq", false)?, bag_mode(a, 5)?);
            let mut table = EmbeddingBag::new(a.size(0, "num_embeddings")?, a.size(1, "embedding_dim")?).mode(mode);
            if let Some(row) = a.opt_int(9, "padding_idx")? {
                table = refused(|| table.padding_idx(row))?;
            }
            table = table.max_norm(a.opt_float(2, "max_norm")?).norm_type(a.float_or(3, "norm_type", 2.)?);
            table = refused(|| table.scale_grad_by_freq(by_frequency))?;
            table = table.include_last_offset(a.bool_or(8, "include_last_offset", false)?);
            a.ignore(6, "sparse");
            case(table.dtype::<T>(), |table, a| {
                let (offsets, weights) = (a.opt_long(1, "offsets")?, a.opt_tensor(2, "per_sample_weights")?);
                Ok(out![table.forward(&a.long(0, "input")?, offsets.as_ref(), weights.as_ref())?])
            })
        }
        _ => return Ok(None),
    }))
}
