//! Softmax and its logarithm along one axis, and their derivatives.

use ndarray::{ArrayD, ArrayViewD, CowArray, IxDyn};
use rayon::prelude::*;

use super::reduce::{fold_run, greater};
use crate::tensor::Real;

/// So many elements make a task for a thread.
const TASK: usize = 1 << 14;

/// `f(row of x, row of y, row of out)` for each row along `axis`.
fn rows<T: Real>(
    x: ArrayViewD<'_, T>,
    y: ArrayViewD<'_, T>,
    axis: usize,
    f: impl Fn(&[T], &[T], &mut [T]) + Sync,
) -> ArrayD<T> {
    let last = x.ndim().saturating_sub(1);
    let lying = |mut a: ArrayViewD<'_, T>| -> CowArray<'_, T, IxDyn> {
        if axis != last {
            a.swap_axes(axis, last);
        }
        // The borrow cannot outlive this closure; a strided array is copied in any case.
        CowArray::from(a.as_standard_layout().into_owned())
    };
    let swapped = axis != last || !x.is_standard_layout();
    let (x, y) = if swapped { (lying(x), lying(y)) } else { (CowArray::from(x), CowArray::from(y)) };
    let y = if y.is_standard_layout() { y } else { CowArray::from(y.as_standard_layout().into_owned()) };
    let mut out = ArrayD::from_elem(x.raw_dim(), T::ZERO);
    let n = x.shape().last().copied().unwrap_or(1);
    if !x.is_empty() {
        let step = n * (TASK / n).max(1);
        let (x, y, out) = (x.as_slice(), y.as_slice(), out.as_slice_mut());
        let (x, y, out) = (x.expect("lying"), y.expect("lying"), out.expect("new"));
        let task = |((x, y), out): ((&[T], &[T]), &mut [T])| {
            x.chunks_exact(n)
                .zip(y.chunks_exact(n))
                .zip(out.chunks_exact_mut(n))
                .for_each(|((x, y), out)| f(x, y, out));
        };
        match x.len() <= step {
            true => task(((x, y), out)),
            false => x.par_chunks(step).zip(y.par_chunks(step)).zip(out.par_chunks_mut(step)).for_each(task),
        }
    }
    if axis != last {
        out.swap_axes(axis, last);
        return out.as_standard_layout().into_owned();
    }
    out
}

/// `eˣ / Σ eˣ` along `axis`, or with `log` its logarithm.
pub fn softmax<T: Real>(x: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    rows(x.view(), x.view(), axis, |x, _, out| {
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
    rows(g, y, axis, |g, y, out| match log {
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
