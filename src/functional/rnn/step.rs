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
    match kind {
        Kind::Tanh => Ok(vec![gates.try_add(&of_hidden)?.tanh()]),
        Kind::Relu => Ok(vec![relu(&gates.try_add(&of_hidden)?)]),
        Kind::Lstm => lstm(&gates.try_add(&of_hidden)?, &state[1], w.weight_hr.as_ref()),
        Kind::Gru => Ok(vec![gru(gates, &of_hidden, &state[0])?]),
    }
}

fn lstm<T: Real>(gates: &Tensor<T>, c: &Tensor<T>, weight_hr: Option<&Tensor<T>>) -> Result<Vec<Tensor<T>>> {
    let gates = gates.chunk(4, -1)?;
    let c = gates[1].sigmoid().try_mul(c)?.try_add(&gates[0].sigmoid().try_mul(&gates[2].tanh())?)?;
    let mut h = gates[3].sigmoid().try_mul(&c.tanh())?;
    if let Some(weight) = weight_hr {
        h = linear(&h, weight, None)?;
    }
    Ok(vec![h, c])
}

fn gru<T: Real>(gates: &Tensor<T>, of_hidden: &Tensor<T>, h: &Tensor<T>) -> Result<Tensor<T>> {
    let (x, by) = (gates.chunk(3, -1)?, of_hidden.chunk(3, -1)?);
    let (r, z) = (x[0].try_add(&by[0])?.sigmoid(), x[1].try_add(&by[1])?.sigmoid());
    let n = x[2].try_add(&r.try_mul(&by[2])?)?.tanh();
    h.try_sub(&n)?.try_mul(&z)?.try_add(&n)
}
