//! Embeddings.

use ndnn::{
    DType, Real,
    functional::{self as F, EmbeddingOptions},
};

use crate::{
    args::Args,
    targets::{Called, out},
};

pub const BUILT: &[&str] = &["embedding"];

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "embedding" => {
            // OpInfo's samples pass the weight first.
            let (first, second) = if a.tensor_dtype(0, "input") == Some(DType::I64) { (0, 1) } else { (1, 0) };
            let (input, weight) = (a.long(first, "input")?, a.tensor(second, "weight")?);
            let options = EmbeddingOptions::default()
                .padding_idx(a.opt_int(2, "padding_idx")?)
                .scale_grad_by_freq(a.bool_or(5, "scale_grad_by_freq", false)?);
            a.ignore(6, "sparse");
            let norm_type = a.float_or(4, "norm_type", 2.)?;
            let weight = match a.opt_float(3, "max_norm")? {
                // The weight that was changed in place is still the leaf whose gradient is compared.
                Some(max_norm) => {
                    let scaled = F::embedding_renorm(&weight, &input, max_norm, norm_type)?;
                    a.report_mutated(second, "weight", scaled.clone());
                    &weight + (scaled - weight.detach())
                }
                None => weight,
            };
            out![F::embedding(&input, &weight, options)?]
        }
        _ => return Ok(None),
    }))
}
