//! The arithmetic of a step between its products: from gates to the next state, and back.

use std::mem::MaybeUninit;

use super::Kind;
use crate::{
    kernels::{
        passes::{passes, write},
        reduce::add_row,
        vmath::VectorMath,
    },
    number::Real,
};

/// From the gates of some rows, which become what the way back needs, to the next state.
pub struct Forth<'a, T> {
    pub kind: Kind,
    pub hidden: usize,
    pub gates: &'a mut [T],
    /// Of a GRU: the hidden state's product with the weights. The part of n becomes what r is multiplied by.
    pub product: &'a mut [T],
    pub bias: &'a [T],
    /// The hidden state, or what will be projected.
    pub h: &'a mut [T],
    pub c: &'a mut [T],
}

impl<T: Real> Forth<'_, T> {
    pub fn call(self) {
        let Forth { kind, hidden, gates, product, bias, h, c } = self;
        match kind {
            Kind::Tanh => {
                tanh(gates);
                h.copy_from_slice(gates);
            }
            Kind::Relu => {
                for x in gates.iter_mut() {
                    // NaN passes.
                    *x = if *x < T::ZERO { T::ZERO } else { *x };
                }
                h.copy_from_slice(gates);
            }
            Kind::Lstm => {
                for row in 0..h.len().checked_div(hidden).unwrap_or(0) {
                    let gates = part_mut(gates, row, 4 * hidden);
                    sigmoid(&mut gates[..2 * hidden]);
                    sigmoid(&mut gates[3 * hidden..]);
                    tanh(part_mut(gates, 2, hidden));
                    lstm_state(gates, part_mut(c, row, hidden), part_mut(h, row, hidden));
                }
            }
            Kind::Gru => {
                for row in 0..h.len().checked_div(hidden).unwrap_or(0) {
                    let (rz, new) = part_mut(gates, row, 3 * hidden).split_at_mut(2 * hidden);
                    let (of_rz, inner) = part_mut(product, row, 3 * hidden).split_at_mut(2 * hidden);
                    gru_rz(rz, of_rz, &bias[..2 * hidden]);
                    gru_new(new, &rz[..hidden], inner, &bias[2 * hidden..]);
                    gru_state(part_mut(h, row, hidden), &rz[hidden..], new);
                }
            }
        }
    }
}

/// Part `i` of parts of this length.
fn part<T>(x: &[T], i: usize, len: usize) -> &[T] {
    &x[i * len..][..len]
}

fn part_mut<T>(x: &mut [T], i: usize, len: usize) -> &mut [T] {
    &mut x[i * len..][..len]
}

// Slices of one length, so that no index is checked inside the loops.
passes! {
    wide fn tanh<T: Real, I>(x: &'o mut [T]) -> () {
        for x in x {
            *x = x.vtanh::<I>();
        }
    }

    wide fn sigmoid<T: Real, I>(x: &'o mut [T]) -> () {
        for x in x {
            *x = x.vsigmoid::<I>();
        }
    }

    wide fn lstm_state<T: Real, I>(gates: &'a [T], c: &'o mut [T], h: &'o mut [T]) -> () {
        let n = h.len();
        let (i, f, g, o) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n), part(gates, 3, n));
        let c = &mut c[..n];
        for k in 0..n {
            c[k] = f[k] * c[k] + i[k] * g[k];
            h[k] = o[k] * c[k].vtanh::<I>();
        }
    }

    wide fn gru_rz<T: Real, I>(gates: &'o mut [T], product: &'a [T], bias: &'a [T]) -> () {
        let n = gates.len();
        let (product, bias) = (&product[..n], &bias[..n]);
        for k in 0..n {
            gates[k] = (gates[k] + (product[k] + bias[k])).vsigmoid::<I>();
        }
    }

    wide fn gru_new<T: Real, I>(new: &'o mut [T], r: &'a [T], inner: &'o mut [T], bias: &'a [T]) -> () {
        let n = r.len();
        let (new, inner, bias) = (&mut new[..n], &mut inner[..n], &bias[..n]);
        for k in 0..n {
            inner[k] += bias[k];
            new[k] = (new[k] + r[k] * inner[k]).vtanh::<I>();
        }
    }

    narrow fn gru_state<T: Real, I>(h: &'o mut [T], z: &'a [T], new: &'a [T]) -> () {
        let n = h.len();
        let (z, new) = (&z[..n], &new[..n]);
        for k in 0..n {
            h[k] = (h[k] - new[k]) * z[k] + new[k];
        }
    }
}

/// From the gradient of the state behind a step, for some rows, to those of its gates and of the state before it.
pub struct Back<'a, T> {
    pub kind: Kind,
    pub hidden: usize,
    /// What [`Forth`] left.
    pub gates: &'a [T],
    /// The state before the step: of an LSTM the cells, of a GRU the hidden state.
    pub before: &'a [T],
    /// Of a GRU: what r was multiplied by.
    pub inner: &'a [T],
    /// The gradient of the hidden state; of a GRU it becomes what goes directly to the state before.
    pub dh: &'a mut [T],
    pub dc: &'a mut [T],
    pub dgates: &'a mut [MaybeUninit<T>],
    /// Of an LSTM that projects: what was projected.
    pub whole: &'a mut [MaybeUninit<T>],
}

impl<T: Real> Back<'_, T> {
    pub fn call(self) {
        let Back { kind, hidden, gates, before, inner, dh, dc, dgates, whole } = self;
        match kind {
            Kind::Tanh => {
                let (dh, gates) = (&dh[..dgates.len()], &gates[..dgates.len()]);
                for k in 0..dgates.len() {
                    dgates[k].write(dh[k] * (T::ONE - gates[k] * gates[k]));
                }
            }
            Kind::Relu => {
                let (dh, gates) = (&dh[..dgates.len()], &gates[..dgates.len()]);
                for k in 0..dgates.len() {
                    // NaN passes, as it does forth.
                    dgates[k].write(if gates[k] <= T::ZERO { T::ZERO } else { dh[k] });
                }
            }
            Kind::Lstm => {
                for row in 0..dh.len().checked_div(hidden).unwrap_or(0) {
                    let (gates, before) = (part(gates, row, 4 * hidden), part(before, row, hidden));
                    let (dh, dc) = (part(dh, row, hidden), part_mut(dc, row, hidden));
                    let whole = if whole.is_empty() { &mut [] } else { part_mut(whole, row, hidden) };
                    lstm_back(gates, before, dh, dc, part_mut(dgates, row, 4 * hidden), whole);
                }
            }
            Kind::Gru => {
                for row in 0..dh.len().checked_div(hidden).unwrap_or(0) {
                    let (gates, before) = (part(gates, row, 3 * hidden), part(before, row, hidden));
                    let (inner, dh) = (part(inner, row, hidden), part_mut(dh, row, hidden));
                    gru_back(gates, before, inner, dh, part_mut(dgates, row, 4 * hidden));
                }
            }
        }
    }
}

fn lstm_back<T: Real>(
    gates: &[T],
    before: &[T],
    dh: &[T],
    dc: &mut [T],
    dgates: &mut [MaybeUninit<T>],
    whole: &mut [MaybeUninit<T>],
) {
    let n = dh.len();
    let (i, f, g, o) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n), part(gates, 3, n));
    if !whole.is_empty() {
        let whole = write(whole, |k| f[k] * before[k] + i[k] * g[k]);
        tanh(whole);
        add_row(whole, o, T::times);
    }
    let (di, rest) = dgates.split_at_mut(n);
    let (df, rest) = rest.split_at_mut(n);
    let (dg, d_o) = rest.split_at_mut(n);
    lstm_gates([i, f, g, o], before, dh, dc, di, df, dg, d_o);
}

fn gru_back<T: Real>(gates: &[T], before: &[T], inner: &[T], dh: &mut [T], dgates: &mut [MaybeUninit<T>]) {
    let n = dh.len();
    let (r, z, new) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n));
    let (dn, rest) = dgates.split_at_mut(n);
    let (dr, rest) = rest.split_at_mut(n);
    let (dz, of_inner) = rest.split_at_mut(n);
    gru_gates([r, z, new], before, inner, dh, dn, dr, dz, of_inner);
}

passes! {
    narrow fn lstm_gates<T: Real, I>(
        gates: [&'a [T]; 4],
        before: &'a [T],
        dh: &'a [T],
        dc: &'o mut [T],
        di: &'o mut [MaybeUninit<T>],
        df: &'o mut [MaybeUninit<T>],
        dg: &'o mut [MaybeUninit<T>],
        d_o: &'o mut [MaybeUninit<T>]
    ) -> () {
        let ([i, f, g, o], n) = (gates, dh.len());
        let (i, f, g, o, before, dc) = (&i[..n], &f[..n], &g[..n], &o[..n], &before[..n], &mut dc[..n]);
        let (di, df, dg, d_o) = (&mut di[..n], &mut df[..n], &mut dg[..n], &mut d_o[..n]);
        for k in 0..n {
            let c = (f[k] * before[k] + i[k] * g[k]).vtanh::<I>();
            d_o[k].write(dh[k] * c * (o[k] * (T::ONE - o[k])));
            let d = dc[k] + dh[k] * o[k] * (T::ONE - c * c);
            di[k].write(d * g[k] * (i[k] * (T::ONE - i[k])));
            df[k].write(d * before[k] * (f[k] * (T::ONE - f[k])));
            dg[k].write(d * i[k] * (T::ONE - g[k] * g[k]));
            dc[k] = d * f[k];
        }
    }

    narrow fn gru_gates<T: Real, I>(
        gates: [&'a [T]; 3],
        before: &'a [T],
        inner: &'a [T],
        dh: &'o mut [T],
        dn: &'o mut [MaybeUninit<T>],
        dr: &'o mut [MaybeUninit<T>],
        dz: &'o mut [MaybeUninit<T>],
        of_inner: &'o mut [MaybeUninit<T>]
    ) -> () {
        let ([r, z, new], n) = (gates, dh.len());
        let (r, z, new, before, inner) = (&r[..n], &z[..n], &new[..n], &before[..n], &inner[..n]);
        let (dn, dr, dz, of_inner) = (&mut dn[..n], &mut dr[..n], &mut dz[..n], &mut of_inner[..n]);
        for k in 0..n {
            let direct = dh[k] * z[k];
            let d = (dh[k] - direct) * (T::ONE - new[k] * new[k]);
            dn[k].write(d);
            of_inner[k].write(d * r[k]);
            dr[k].write(d * inner[k] * (r[k] * (T::ONE - r[k])));
            dz[k].write(dh[k] * (before[k] - new[k]) * (z[k] * (T::ONE - z[k])));
            dh[k] = direct;
        }
    }
}
