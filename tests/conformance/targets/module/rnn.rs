//! Recurrent networks.

use ndnn::{
    Error, Real, Result, Tensor,
    nn::{Dtype, LSTM},
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{dims::refused, out},
};

pub const BUILT: &[&str] = &["LSTM"];

/// The state `(h, c)`, if there is one.
fn state<T: Real>(a: &Args<T>) -> Result<Option<(Tensor<T>, Tensor<T>)>> {
    if !a.has(1, "hx") {
        return Ok(None);
    }
    match a.tensors(1, "hx")?.as_slice() {
        [h, c] => Ok(Some((h.clone(), c.clone()))),
        other => Err(Error::value("case", format!("the state is of {} tensors, expected h and c", other.len()))),
    }
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    Ok(Some(match target {
        "LSTM" => {
            let (inputs, hidden) = (a.size(0, "input_size")?, a.size(1, "hidden_size")?);
            let (layers, bias) = (a.size_or(2, "num_layers", 1)?, a.bool_or(3, "bias", true)?);
            let (batch_first, dropout) = (a.bool_or(4, "batch_first", false)?, a.float_or(5, "dropout", 0.)?);
            let (bidirectional, proj_size) = (a.bool_or(6, "bidirectional", false)?, a.size_or(7, "proj_size", 0)?);
            let lstm = refused(|| {
                let lstm = LSTM::new(inputs, hidden).num_layers(layers).bias(bias).batch_first(batch_first);
                lstm.dropout(dropout).bidirectional(bidirectional).proj_size(proj_size)
            })?;
            case(lstm.dtype::<T>(), |lstm, a| {
                let (output, (h, c)) = lstm.forward(&a.tensor(0, "input")?, state(a)?)?;
                Ok(out![output, h, c])
            })
        }
        _ => return Ok(None),
    }))
}
