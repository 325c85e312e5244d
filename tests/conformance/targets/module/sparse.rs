//! Embeddings.

use ndnn::{
    Real,
    nn::{Dtype, Embedding},
};

use super::{Built, case};
use crate::{args::Args, targets::out};

pub const BUILT: &[&str] = &["Embedding"];

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "Embedding" => {
            let mut table = Embedding::new(a.size(0, "num_embeddings")?, a.size(1, "embedding_dim")?);
            if let Some(row) = a.opt_int(2, "padding_idx")? {
                table = table.padding_idx(row);
            }
            if let Some(norm) = a.opt_float(3, "max_norm")? {
                table = table.max_norm(norm);
            }
            table = table.norm_type(a.float_or(4, "norm_type", 2.)?);
            table = table.scale_grad_by_freq(a.bool_or(5, "scale_grad_by_freq", false)?);
            a.ignore(6, "sparse");
            case(table.dtype::<T>(), |table, a| Ok(out![table.forward(&a.long(0, "input")?)?]))
        }
        _ => return Ok(None),
    }))
}
