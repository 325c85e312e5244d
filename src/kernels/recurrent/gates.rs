//! The arithmetic of a step between its products: from gates to the next state, and back.

use std::mem::MaybeUninit;

use super::Kind;
use crate::{
    kernels::isa::{Isa, Kernel, dispatch, dispatch_narrow, with_baseline},
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
        // Functions of f64 are computed one by one.
        if const { size_of::<T>() == 4 } { dispatch(self) } else { with_baseline(self) }
    }
}

impl<T: Real> Kernel for Forth<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Forth { kind, hidden, gates, product, bias, h, c } = self;
        match kind {
            Kind::Tanh => {
                tanh::<T, I>(gates);
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
                    let gates = &mut gates[row * 4 * hidden..][..4 * hidden];
                    lstm::<T, I>(gates, part_mut(h, row, hidden), part_mut(c, row, hidden));
                }
            }
            Kind::Gru => {
                for row in 0..h.len().checked_div(hidden).unwrap_or(0) {
                    let (at, len) = (row * 3 * hidden, 3 * hidden);
                    gru::<T, I>(&mut gates[at..][..len], &mut product[at..][..len], bias, part_mut(h, row, hidden));
                }
            }
        }
    }
}

/// Part `i` of parts of this length.
#[inline(always)]
fn part<T>(x: &[T], i: usize, len: usize) -> &[T] {
    &x[i * len..][..len]
}

#[inline(always)]
fn part_mut<T>(x: &mut [T], i: usize, len: usize) -> &mut [T] {
    &mut x[i * len..][..len]
}

#[inline(always)]
fn tanh<T: Real, I: Isa>(x: &mut [T]) {
    for x in x {
        *x = x.vtanh::<I>();
    }
}

#[inline(always)]
fn sigmoid<T: Real, I: Isa>(x: &mut [T]) {
    for x in x {
        *x = x.vsigmoid::<I>();
    }
}

#[inline(always)]
fn lstm<T: Real, I: Isa>(gates: &mut [T], h: &mut [T], c: &mut [T]) {
    let n = h.len();
    for (from, to) in [(0, 2 * n), (3 * n, 4 * n)] {
        sigmoid::<T, I>(&mut gates[from..to]);
    }
    tanh::<T, I>(&mut gates[2 * n..3 * n]);
    let (i, f, g, o) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n), part(gates, 3, n));
    let c = &mut c[..n];
    for k in 0..n {
        c[k] = f[k] * c[k] + i[k] * g[k];
        h[k] = o[k] * c[k].vtanh::<I>();
    }
}

#[inline(always)]
fn gru<T: Real, I: Isa>(gates: &mut [T], product: &mut [T], bias: &[T], h: &mut [T]) {
    let n = h.len();
    let (rz, new) = gates.split_at_mut(2 * n);
    let (of_rz, inner) = product.split_at_mut(2 * n);
    gru_rz::<T, I>(rz, of_rz, &bias[..2 * n]);
    gru_new::<T, I>(new, &rz[..n], inner, &bias[2 * n..]);
    gru_h(h, &rz[n..], new);
}

// Functions, so that the compiler knows that their arguments do not overlap; slices of one length, so that no index is
// checked inside the loop.

#[inline(always)]
fn gru_rz<T: Real, I: Isa>(gates: &mut [T], product: &[T], bias: &[T]) {
    let n = gates.len();
    let (product, bias) = (&product[..n], &bias[..n]);
    for k in 0..n {
        gates[k] = (gates[k] + (product[k] + bias[k])).vsigmoid::<I>();
    }
}

#[inline(always)]
fn gru_new<T: Real, I: Isa>(new: &mut [T], r: &[T], inner: &mut [T], bias: &[T]) {
    let n = r.len();
    let (new, inner, bias) = (&mut new[..n], &mut inner[..n], &bias[..n]);
    for k in 0..n {
        inner[k] += bias[k];
        new[k] = (new[k] + r[k] * inner[k]).vtanh::<I>();
    }
}

#[inline(always)]
fn gru_h<T: Real>(h: &mut [T], z: &[T], new: &[T]) {
    let n = h.len();
    let (z, new) = (&z[..n], &new[..n]);
    for k in 0..n {
        h[k] = (h[k] - new[k]) * z[k] + new[k];
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
        if const { size_of::<T>() == 4 } { dispatch_narrow(self) } else { with_baseline(self) }
    }
}

impl<T: Real> Kernel for Back<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
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
                    lstm_back::<T, I>(gates, before, dh, dc, part_mut(dgates, row, 4 * hidden), whole);
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

#[inline(always)]
fn lstm_back<T: Real, I: Isa>(
    gates: &[T],
    before: &[T],
    dh: &[T],
    dc: &mut [T],
    dgates: &mut [MaybeUninit<T>],
    whole: &mut [MaybeUninit<T>],
) {
    let n = dh.len();
    let (i, f, g, o) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n), part(gates, 3, n));
    for k in 0..whole.len() {
        whole[k].write(o[k] * (f[k] * before[k] + i[k] * g[k]).vtanh::<I>());
    }
    let (di, rest) = dgates.split_at_mut(n);
    let (df, rest) = rest.split_at_mut(n);
    let (dg, d_o) = rest.split_at_mut(n);
    lstm_gates::<T, I>([i, f, g, o], before, dh, dc, di, df, dg, d_o);
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn lstm_gates<T: Real, I: Isa>(
    [i, f, g, o]: [&[T]; 4],
    before: &[T],
    dh: &[T],
    dc: &mut [T],
    di: &mut [MaybeUninit<T>],
    df: &mut [MaybeUninit<T>],
    dg: &mut [MaybeUninit<T>],
    d_o: &mut [MaybeUninit<T>],
) {
    let n = dh.len();
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

#[inline(always)]
fn gru_back<T: Real>(gates: &[T], before: &[T], inner: &[T], dh: &mut [T], dgates: &mut [MaybeUninit<T>]) {
    let n = dh.len();
    let (r, z, new) = (part(gates, 0, n), part(gates, 1, n), part(gates, 2, n));
    let (dn, rest) = dgates.split_at_mut(n);
    let (dr, rest) = rest.split_at_mut(n);
    let (dz, of_inner) = rest.split_at_mut(n);
    gru_gates([r, z, new], before, inner, dh, dn, dr, dz, of_inner);
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn gru_gates<T: Real>(
    [r, z, new]: [&[T]; 3],
    before: &[T],
    inner: &[T],
    dh: &mut [T],
    dn: &mut [MaybeUninit<T>],
    dr: &mut [MaybeUninit<T>],
    dz: &mut [MaybeUninit<T>],
    of_inner: &mut [MaybeUninit<T>],
) {
    let n = dh.len();
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
