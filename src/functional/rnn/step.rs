//! One step of each kind, in tensor operations.

use super::RecurrentWeights;
use crate::{
    Result,
    functional::{linear, relu},
    kernels::recurrent::Kind,
    tensor::{Real, Tensor},
};

/// The next state, from the input's part of the gates, `(N, G · hidden)`, and the state.
pub(super) fn step<T: Real>(
    kind: Kind,
    gates: &Tensor<T>,
    state: &[Tensor<T>],
    w: &RecurrentWeights<T>,
) -> Result<Vec<Tensor<T>>> {
    let of_hidden = linear(&state[0], &w.weight_hh, w.bias_hh.as_ref())?;
    Ok(match kind {
        Kind::Tanh => vec![(gates + of_hidden).tanh()],
        Kind::Relu => vec![relu(&(gates + of_hidden))],
        Kind::Lstm => lstm(&(gates + of_hidden), &state[1], w.weight_hr.as_ref())?,
        Kind::Gru => vec![gru(gates, &of_hidden, &state[0])?],
    })
}

fn lstm<T: Real>(gates: &Tensor<T>, c: &Tensor<T>, weight_hr: Option<&Tensor<T>>) -> Result<Vec<Tensor<T>>> {
    let gates = gates.chunk(4, -1)?;
    let c = gates[1].sigmoid() * c + gates[0].sigmoid() * gates[2].tanh();
    let h = gates[3].sigmoid() * c.tanh();
    Ok(vec![if let Some(weight) = weight_hr { linear(&h, weight, None)? } else { h }, c])
}

fn gru<T: Real>(gates: &Tensor<T>, of_hidden: &Tensor<T>, h: &Tensor<T>) -> Result<Tensor<T>> {
    let (x, by) = (gates.chunk(3, -1)?, of_hidden.chunk(3, -1)?);
    let (r, z) = ((&x[0] + &by[0]).sigmoid(), (&x[1] + &by[1]).sigmoid());
    let n = (&x[2] + r * &by[2]).tanh();
    Ok((h - &n) * z + n)
}
