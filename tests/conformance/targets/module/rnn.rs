//! Recurrent networks.

use ndnn::{
    AnyTensor, Error, Real, Result, Tensor,
    functional::{GruKind, LstmKind, RecurrentKind, RnnKind, RnnNonlinearity},
    nn::{Dtype, Recurrent, RecurrentCell},
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{dims::refused, out},
};

/// The state of a kind, as PyTorch hands it in and out.
trait State: RecurrentKind {
    fn read<T: Real>(a: &Args<T>) -> Result<Self::State<T>>;
    fn listed<T: Real>(state: Self::State<T>) -> Vec<AnyTensor>;
}

impl State for LstmKind {
    fn read<T: Real>(a: &Args<T>) -> Result<(Tensor<T>, Tensor<T>)> {
        match a.tensors(1, "hx")?.as_slice() {
            [h, c] => Ok((h.clone(), c.clone())),
            other => Err(Error::value("case", format!("the state is of {} tensors, expected h and c", other.len()))),
        }
    }
    fn listed<T: Real>((h, c): (Tensor<T>, Tensor<T>)) -> Vec<AnyTensor> {
        out![h, c]
    }
}

/// A state of one tensor.
macro_rules! single {
    ($($kind:ty),*) => {$(
        impl State for $kind {
            fn read<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
                a.tensor(1, "hx")
            }
            fn listed<T: Real>(h: Tensor<T>) -> Vec<AnyTensor> {
                out![h]
            }
        }
    )*};
}
single!(GruKind, RnnKind);

fn state<K: State, T: Real>(a: &Args<T>) -> Result<Option<K::State<T>>> {
    a.has(1, "hx").then(|| K::read(a)).transpose()
}

/// `more` is the number of arguments that the kind has before `bias`.
fn layer<K: State, T: Real>(a: &Args<T>, more: usize, set: impl Fn(Recurrent<K>) -> Result<Recurrent<K>>) -> Built<T> {
    let (inputs, hidden) = (a.size(0, "input_size")?, a.size(1, "hidden_size")?);
    let (layers, bias) = (a.size_or(2, "num_layers", 1)?, a.bool_or(3 + more, "bias", true)?);
    let (batch_first, dropout) = (a.bool_or(4 + more, "batch_first", false)?, a.float_or(5 + more, "dropout", 0.)?);
    let bidirectional = a.bool_or(6 + more, "bidirectional", false)?;
    let layer = refused(|| {
        let layer = Recurrent::<K>::new(inputs, hidden).num_layers(layers).bias(bias).batch_first(batch_first);
        layer.dropout(dropout).bidirectional(bidirectional)
    })?;
    Ok(Some(case(set(layer)?.dtype::<T>(), |layer, a| {
        let (output, last) = layer.forward(&a.tensor(0, "input")?, state::<K, T>(a)?)?;
        Ok([out![output], K::listed(last)].concat())
    })))
}

fn cell<K: State, T: Real>(a: &Args<T>, set: impl Fn(RecurrentCell<K>) -> RecurrentCell<K>) -> Built<T> {
    let (inputs, hidden) = (a.size(0, "input_size")?, a.size(1, "hidden_size")?);
    // A case gives the nonlinearity where the bias belongs; Python takes a word as true.
    let bias = if a.is_str(2, "bias") { !a.str(2, "bias")?.is_empty() } else { a.bool_or(2, "bias", true)? };
    let cell = refused(|| set(RecurrentCell::new(inputs, hidden).bias(bias)))?;
    Ok(Some(case(cell.dtype::<T>(), |cell, a| Ok(K::listed(cell.forward(&a.tensor(0, "input")?, state::<K, T>(a)?)?)))))
}

fn nonlinearity<T: Real>(a: &Args<T>) -> Result<RnnNonlinearity> {
    a.str_or(3, "nonlinearity", "tanh")?.parse()
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    match target {
        "GRU" => layer::<GruKind, T>(a, 0, Ok),
        "LSTM" => {
            let proj_size = a.size_or(7, "proj_size", 0)?;
            layer::<LstmKind, T>(a, 0, |lstm| refused(|| lstm.proj_size(proj_size)))
        }
        "RNN" => {
            let nonlinearity = nonlinearity(a)?;
            layer::<RnnKind, T>(a, 1, |rnn| Ok(rnn.nonlinearity(nonlinearity)))
        }
        "GRUCell" => cell::<GruKind, T>(a, |cell| cell),
        "LSTMCell" => cell::<LstmKind, T>(a, |cell| cell),
        "RNNCell" => {
            let nonlinearity = nonlinearity(a)?;
            cell::<RnnKind, T>(a, |cell| cell.nonlinearity(nonlinearity))
        }
        _ => Ok(None),
    }
}
