//! Embeddings.

use ndnn::{
    DType, Error, Real, Result, Tensor,
    functional::{self as F, EmbeddingBagMode, EmbeddingBagOptions, EmbeddingOptions},
};

use crate::{
    args::Args,
    targets::{Called, dims::refused, out},
};

/// The indices and the table, whose rows `max_norm` and `norm_type`, in these places, shorten first.
fn table<T: Real>(a: &Args<T>, [max_norm, norm_type]: [usize; 2]) -> Result<(Tensor<i64>, Tensor<T>)> {
    // OpInfo's samples pass the weight first.
    let (first, second) = if a.tensor_dtype(0, "input") == Some(DType::I64) { (0, 1) } else { (1, 0) };
    let (input, weight) = (a.long(first, "input")?, a.tensor(second, "weight")?);
    let norm_type = a.float_or(norm_type, "norm_type", 2.)?;
    let Some(max_norm) = a.opt_float(max_norm, "max_norm")? else { return Ok((input, weight)) };
    // The weight that was changed in place is still the leaf whose gradient is compared.
    let scaled = F::embedding_renorm(&weight, &input, max_norm, norm_type)?;
    a.report_mutated(second, "weight", scaled.clone());
    Ok((input, &weight + (scaled - weight.detach())))
}

/// How the rows of a bag are joined.
pub fn bag_mode<T: Real>(a: &Args<T>, index: usize) -> Result<EmbeddingBagMode> {
    a.str_or(index, "mode", "mean")?.parse()
}

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "embedding" => {
            let (input, weight) = table(a, [3, 4])?;
            let options = EmbeddingOptions::default()
                .padding_idx(a.opt_int(2, "padding_idx")?)
                .scale_grad_by_freq(a.bool_or(5, "scale_grad_by_freq", false)?);
            a.ignore(6, "sparse");
            out![F::embedding(&input, &weight, options)?]
        }
        "embedding_bag" => {
            let (input, weight) = table(a, [3, 4])?;
            let offsets = a.opt_long(2, "offsets")?;
            a.ignore(7, "sparse");
            let (by_frequency, mode) = (a.bool_or(5, "scale_grad_by_freq", false)?, bag_mode(a, 6)?);
            let options = EmbeddingBagOptions::default()
                .mode(mode)
                .include_last_offset(a.bool_or(9, "include_last_offset", false)?)
                .padding_idx(a.opt_int(10, "padding_idx")?);
            let options = refused(|| options.scale_grad_by_freq(by_frequency))?;
            let weights = a.opt_tensor(8, "per_sample_weights")?;
            out![F::embedding_bag(&input, &weight, offsets.as_ref(), weights.as_ref(), options)?]
        }
        "one_hot" => {
            let classes = match a.int_or(1, "num_classes", -1)? {
                -1 => None,
                n => Some(usize::try_from(n).map_err(|_| Error::value("case", format!("{n} classes")))?),
            };
            out![F::one_hot(&a.long(0, "input")?, classes)?]
        }
        _ => return Ok(None),
    }))
}
