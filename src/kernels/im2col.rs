//! The columns of windows: the elements at each tap, as the rows of a matrix.

use std::ops::Range;

use ndarray::{ArrayD, ArrayViewD};
use ndnn_derive::concrete;

use super::{
    layout::row_major,
    memory::full,
    sizes::saturating,
    threads,
    thresholds::{POOLING_PARALLEL as PARALLEL, POOLING_TASK as TASK},
    windows::{Run, Windows},
};
use crate::number::Real;

/// The columns of the windows `at`: one row per channel and tap, one column per window; zeros in the padding.
pub fn im2col<T: Real>(x: &[T], windows: &Windows, at: Range<usize>, columns: &mut [T]) {
    let windows = windows.merged();
    let (taps, len, step) = (windows.kernel_len(), windows.input_len(), windows.stride[2]);
    for (row, out) in columns.chunks_exact_mut(at.len()).enumerate() {
        let plane = &x[row / taps * len..][..len];
        let mut done = 0;
        windows.runs(row % taps, at.clone(), |Run { range, from }| {
            out[done..range.start].fill(T::zero());
            done = range.end;
            gather(&plane[from..], step, &mut out[range]);
        });
        out[done..].fill(T::zero());
    }
}

/// Every `step`-th element.
pub fn gather<T: Copy>(from: &[T], step: usize, to: &mut [T]) {
    match step {
        1 => to.copy_from_slice(&from[..to.len()]),
        // The common step has a loop of its own, in vectors; the last element may have no other after it.
        2 => {
            let (pairs, rest) = from.as_chunks::<2>();
            to.iter_mut().zip(pairs.iter().map(|pair| pair[0]).chain(rest.iter().copied())).for_each(|(t, v)| *t = v);
        }
        _ => to.iter_mut().zip(from.iter().step_by(step)).for_each(|(t, &v)| *t = v),
    }
}

/// The reverse of [`gather`].
pub fn scatter<T: Copy>(from: &[T], step: usize, to: &mut [T]) {
    match step {
        1 => to[..from.len()].copy_from_slice(from),
        _ => to.iter_mut().step_by(step).zip(from).for_each(|(t, &v)| *t = v),
    }
}

/// The derivative of [`im2col`]: adds each element of the columns to the element of `x` that it came from.
pub fn col2im<T: Real>(columns: &[T], windows: &Windows, at: Range<usize>, x: &mut [T]) {
    let windows = windows.merged();
    let (taps, len, step) = (windows.kernel_len(), windows.input_len(), windows.stride[2]);
    for (row, column) in columns.chunks_exact(at.len()).enumerate() {
        let plane = &mut x[row / taps * len..][..len];
        windows.runs(row % taps, at.clone(), |Run { range, from }| {
            let column = &column[range];
            match step {
                1 => plane[from..].iter_mut().zip(column).for_each(|(x, &v)| *x += v),
                _ => plane[from..].iter_mut().step_by(step).zip(column).for_each(|(x, &v)| *x += v),
            }
        });
    }
}

/// The columns of all windows of the images `(batch, channels, …)`: `(batch, channels · taps, windows)`.
#[concrete]
pub fn unfold<T: Real>(x: ArrayViewD<'_, T>, windows: &Windows) -> ArrayD<T> {
    let (columns, len) = (windows.kernel_len() * windows.output_len(), windows.input_len());
    let shape = [x.shape()[0], x.shape()[1] * windows.kernel_len(), windows.output_len()];
    let (mut out, x) = (full("unfold", &shape, T::ZERO), row_major(&x));
    by_planes(out.as_slice_mut().expect("standard layout"), columns, columns, &|at, out| {
        im2col(&x[at.start * len..at.end * len], windows, 0..windows.output_len(), out);
    });
    out
}

/// The derivative of [`unfold`]: from columns to images.
#[concrete]
pub fn fold<T: Real>(columns: ArrayViewD<'_, T>, channels: usize, windows: &Windows) -> ArrayD<T> {
    let (len, plane) = (windows.kernel_len() * windows.output_len(), windows.input_len());
    let shape = [&[columns.shape()[0], channels], &windows.input[1..]].concat();
    let (mut out, columns) = (full("fold", &shape, T::ZERO), row_major(&columns));
    by_planes(out.as_slice_mut().expect("standard layout"), plane, len, &|at, out| {
        col2im(&columns[at.start * len..at.end * len], windows, 0..windows.output_len(), out);
    });
    out
}

/// Runs `f` on the planes of `out`, on several threads if there is enough work: `work` for each.
#[track_caller]
fn by_planes<T: Send>(out: &mut [T], plane: usize, work: usize, f: &(dyn Fn(Range<usize>, &mut [T]) + Sync)) {
    let planes = out.len() / plane.max(1);
    let each = if saturating([planes, work]) < PARALLEL { planes } else { TASK.div_ceil(work) };
    threads::chunks(out, each * plane, &|i, out| f(i * each..i * each + out.len() / plane, out));
}

#[cfg(test)]
mod tests {
    use super::{
        super::windows::tests::{many, under},
        *,
    };

    #[test]
    fn columns_hold_what_the_taps_see() {
        let mut joined = 0;
        for w in many() {
            joined += usize::from(w.merged().input != w.input);
            let x: Vec<f64> = (1..=2 * w.input_len()).map(|i| i as f64).collect();
            for at in [0..w.output_len(), w.output_len() / 3..w.output_len().div_ceil(2)] {
                let mut columns = vec![-1.; 2 * w.kernel_len() * at.len()];
                if at.is_empty() {
                    continue;
                }
                im2col(&x, &w, at.clone(), &mut columns);
                let mut back = vec![0.; x.len()];
                col2im(&columns, &w, at.clone(), &mut back);
                let mut want = vec![0.; x.len()];
                for (row, column) in columns.chunks(at.len()).enumerate() {
                    for (window, &value) in at.clone().zip(column) {
                        let seen = under(&w, window, row % w.kernel_len());
                        let seen = seen.map(|i| row / w.kernel_len() * w.input_len() + i);
                        assert_eq!(value, seen.map_or(0., |i| x[i]), "{w:?}");
                        seen.into_iter().for_each(|i| want[i] += value);
                    }
                }
                assert_eq!(back, want, "{w:?}");
            }
        }
        assert!(joined > 100, "{joined}");
    }
}
