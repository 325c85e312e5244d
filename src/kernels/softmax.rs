//! Softmax and its logarithm along one axis, and their derivatives.

use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use rayon::prelude::*;

use super::reduce::{fold_run, greater};
use crate::tensor::Real;

/// So many elements make a task for a thread.
const TASK: usize = 1 << 14;

/// `x` in row-major order with `axis` and the last one swapped.
fn with_axis_last<T: Real>(mut x: ArrayViewD<'_, T>, axis: usize, last: usize) -> CowArray<'_, T, IxDyn> {
    if axis != last {
        x.swap_axes(axis, last);
    }
    if x.is_standard_layout() { CowArray::from(x) } else { CowArray::from(x.as_standard_layout().into_owned()) }
}

/// `f(a row of each input, the row of the result)` for each row along `axis`.
fn rows<T: Real, const N: usize>(
    inputs: [ArrayViewD<'_, T>; N],
    axis: usize,
    f: impl Fn([&[T]; N], &mut [T]) + Sync,
) -> ArrayD<T> {
    let last = inputs[0].ndim().saturating_sub(1);
    let inputs = inputs.map(|x| with_axis_last(x, axis, last));
    let mut out = ArrayD::from_elem(inputs[0].raw_dim(), T::ZERO);
    if !out.is_empty() {
        let n = out.shape().last().copied().unwrap_or(1);
        let step = n * (TASK / n).max(1);
        let inputs = inputs.each_ref().map(|x| x.as_slice().expect("row-major"));
        let task = |(i, out): (usize, &mut [T])| {
            for (row, out) in out.chunks_exact_mut(n).enumerate() {
                let from = i * step + row * n;
                f(inputs.map(|x| &x[from..from + n]), out);
            }
        };
        let out = out.as_slice_mut().expect("row-major");
        if out.len() <= step { task((0, out)) } else { out.par_chunks_mut(step).enumerate().for_each(task) }
    }
    if axis != last {
        out.swap_axes(axis, last);
        return out.as_standard_layout().into_owned();
    }
    out
}

/// `eˣ / Σ eˣ` along `axis`, or with `log` its logarithm.
pub fn softmax<T: Real>(x: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    rows([x], axis, |[x], out| {
        // Shifting by the maximum changes nothing but keeps every power in [0, 1].
        let max = fold_run(x, T::neg_infinity(), greater);
        out.iter_mut().zip(x).for_each(|(o, &x)| *o = (x - max).exp());
        let sum = fold_run(out, T::ZERO, |a, b| a + b);
        match log {
            true => {
                let shift = sum.ln();
                out.iter_mut().zip(x).for_each(|(o, &x)| *o = (x - max) - shift);
            }
            false => {
                let scale = sum.recip();
                out.iter_mut().for_each(|o| *o *= scale);
            }
        }
    })
}

/// The gradient of [`softmax`]'s input from that of its output `y`: `(g − Σ g·y)·y`, with `log` `g − eʸ Σ g`.
pub fn softmax_backward<T: Real>(g: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    rows([g, y], axis, |[g, y], out| match log {
        true => {
            let sum = fold_run(g, T::ZERO, |a, b| a + b);
            out.iter_mut().zip(g.iter().zip(y)).for_each(|(o, (&g, &y))| *o = g - y.exp() * sum);
        }
        false => {
            out.iter_mut().zip(g.iter().zip(y)).for_each(|(o, (&g, &y))| *o = g * y);
            let sum = fold_run(out, T::ZERO, |a, b| a + b);
            out.iter_mut().zip(g.iter().zip(y)).for_each(|(o, (&g, &y))| *o = (g - sum) * y);
        }
    })
}
