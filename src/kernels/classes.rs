//! The scores of the classes at each position of `(N, C, d₁, …)`: one lane along the class axis a position.

use ndarray::{ArrayD, ArrayView1, ArrayViewD, ArrayViewMutD, Axis};
use rayon::prelude::*;

use super::reduce::{fold_run, greater};
use crate::tensor::Real;

/// So many scores make a task for a thread.
const TASK: usize = 1 << 14;

/// The largest score of a position, and `log Σ e^(x − max)`: together its log Σ eˣ, without loss of digits.
#[derive(Clone, Copy)]
pub struct LogSum<T> {
    pub max: T,
    pub log_sum: T,
}

impl<T: Real> LogSum<T> {
    pub fn of(scores: &[T]) -> Self {
        let max = fold_run(scores, T::neg_infinity(), greater);
        let log_sum = scores.iter().map(|&x| (x - max).exp()).fold(T::ZERO, |a, b| a + b).ln();
        LogSum { max, log_sum }
    }

    /// The logarithm of the softmax at the score `x`.
    pub fn log_softmax(self, x: T) -> T {
        (x - self.max) - self.log_sum
    }
}

/// The indices of axis 0 that make a task; all of them where there is not enough work, or nothing to split.
fn indices_a_task(shape: &[usize], axis: usize) -> usize {
    let elements: usize = shape.iter().product();
    if axis == 0 || elements <= TASK {
        return usize::MAX;
    }
    (TASK / (elements / shape[0])).max(1)
}

/// A lane as a slice, copied if its elements do not lie side by side.
fn lying<'a, T: Copy>(lane: &'a ArrayView1<'_, T>, copy: &'a mut Vec<T>) -> &'a [T] {
    match lane.as_slice() {
        Some(slice) => slice,
        None => {
            copy.clear();
            copy.extend(lane.iter());
            copy
        }
    }
}

/// `f(position, scores)` for each position, in row-major order.
pub fn each<T: Real, R: Send>(x: ArrayViewD<'_, T>, axis: usize, f: impl Fn(usize, &[T]) -> R + Sync) -> Vec<R> {
    let task = |first: usize, x: ArrayViewD<'_, T>| -> Vec<R> {
        let mut copy = Vec::new();
        let lanes = x.lanes(Axis(axis)).into_iter().enumerate();
        lanes.map(|(i, lane)| f(first + i, lying(&lane, &mut copy))).collect()
    };
    let step = indices_a_task(x.shape(), axis);
    if step == usize::MAX {
        return task(0, x);
    }
    let positions = step * x.shape()[2..].iter().product::<usize>();
    let parts: Vec<_> = x.axis_chunks_iter(Axis(0), step).enumerate().collect();
    parts.into_par_iter().flat_map_iter(|(k, x)| task(k * positions, x)).collect()
}

/// `f(position, scores, out)` for each position; the result has the shape of `x` and starts as zeros.
pub fn map_each<T: Real>(x: ArrayViewD<'_, T>, axis: usize, f: impl Fn(usize, &[T], &mut [T]) + Sync) -> ArrayD<T> {
    let task = |first: usize, x: ArrayViewD<'_, T>, mut out: ArrayViewMutD<'_, T>| {
        let (mut copy, mut result) = (Vec::new(), Vec::new());
        for (i, (lane, mut to)) in x.lanes(Axis(axis)).into_iter().zip(out.lanes_mut(Axis(axis))).enumerate() {
            let scores = lying(&lane, &mut copy);
            match to.as_slice_mut() {
                Some(to) => f(first + i, scores, to),
                None => {
                    result.clear();
                    result.resize(scores.len(), T::ZERO);
                    f(first + i, scores, &mut result);
                    to.iter_mut().zip(&result).for_each(|(to, &r)| *to = r);
                }
            }
        }
    };
    let mut out = ArrayD::from_elem(x.raw_dim(), T::ZERO);
    let step = indices_a_task(x.shape(), axis);
    if step == usize::MAX {
        task(0, x, out.view_mut());
        return out;
    }
    let positions = step * x.shape()[2..].iter().product::<usize>();
    let parts: Vec<_> = x.axis_chunks_iter(Axis(0), step).zip(out.axis_chunks_iter_mut(Axis(0), step)).collect();
    parts.into_par_iter().enumerate().for_each(|(k, (x, out))| task(k * positions, x, out));
    out
}
