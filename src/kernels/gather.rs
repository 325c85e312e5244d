//! Copies by position along one axis, on which joining, indexing and scattering are built. Arrays are row-major slices.

use ndarray::ArrayD;

use super::{
    copy::{by_size, words},
    layout::{array, assert_word},
    memory::{Aligned, push, vector},
    sizes::saturating,
};

/// The number of rows that are copied in the time in which a copy by its own kernel starts.
const RUN: usize = 32;

/// A row-major array seen along one axis: `outer` blocks of `len` rows of `inner` elements. A scalar is one row of one
/// element.
#[derive(Clone, Copy)]
pub struct Rows {
    pub outer: usize,
    pub len: usize,
    pub inner: usize,
}

impl Rows {
    #[inline(never)]
    pub fn new(shape: &[usize], axis: usize) -> Rows {
        if shape.is_empty() {
            return Rows { outer: 1, len: 1, inner: 1 };
        }
        Rows { outer: shape[..axis].iter().product(), len: shape[axis], inner: shape[axis + 1..].iter().product() }
    }

    /// Where lane `i` of `outer · inner` along the axis begins; its elements are `inner` apart.
    #[inline]
    pub fn lane(&self, i: usize) -> usize {
        i / self.inner * self.len * self.inner + i % self.inner
    }
}

/// The rows of every block that `index` names: `outer` blocks of `index.len()` rows.
#[allow(unsafe_code)]
pub fn take_rows<T: Copy + Default>(x: &[T], rows: Rows, index: &[usize]) -> ArrayD<T> {
    const { assert_word::<T>() };
    let Rows { outer, len, inner } = rows;
    assert!(x.len() == saturating([outer, len, inner]) && index.iter().all(|&i| i < len), "rows of an array");
    // If it overflows, there is no memory for so many.
    let count = saturating([outer, index.len(), inner]);
    let mut out = Aligned::with_capacity(count);
    // SAFETY: each index names a row of each block, and there is space for all rows.
    unsafe {
        take(size_of::<T>(), x.as_ptr().cast(), rows, index, out.spare(count).as_mut_ptr().cast());
        out.set_len(count);
    }
    out.array([outer, index.len(), inner].as_slice())
}

/// [`take_rows`] for elements of `size` bytes.
///
/// # Safety
/// `from` is valid for reading all rows, `to` for writing those of the index, and each index is a row.
#[allow(unsafe_code)]
unsafe fn take(size: usize, from: *const u8, Rows { outer, len, inner }: Rows, index: &[usize], to: *mut u8) {
    let row = inner * size;
    // SAFETY: the caller's promise.
    unsafe {
        // Runs are worth a copy of their own only if each has many elements; the words of a sentence do not form such runs.
        if let Some(runs) = runs(index, outer.saturating_mul(index.len()) / RUN) {
            let stride = |n: usize| n as isize;
            let (mut to, behind) = (to, [stride(index.len() * inner), stride(inner), 1]);
            for run in runs {
                let from_strides = [stride(len * inner), run.step * stride(inner), 1];
                words(size, &[outer, run.count, inner], to, &behind, from.wrapping_add(run.start * row), &from_strides);
                to = to.wrapping_add(run.count * row);
            }
            return;
        }
        for block in 0..outer {
            let (from, to) = (from.wrapping_add(block * len * row), to.wrapping_add(block * index.len() * row));
            if inner == 1 {
                by_size!(size, pick(from, index, to));
                continue;
            }
            for (k, &i) in index.iter().enumerate() {
                to.wrapping_add(k * row).copy_from_nonoverlapping(from.wrapping_add(i * row), row);
            }
        }
    }
}

/// The elements that `index` names.
///
/// # Safety
/// As [`take`].
#[allow(unsafe_code)]
unsafe fn pick<E: Copy>(from: *const u8, index: &[usize], to: *mut u8) {
    let (from, to) = (from.cast::<E>(), to.cast::<E>());
    for (k, &i) in index.iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { *to.wrapping_add(k) = *from.wrapping_add(i) };
    }
}

/// Consecutive indices that differ by the same step: 1, 0 or -1.
struct Run {
    start: usize,
    step: isize,
    count: usize,
}

/// The index as runs, each as long as possible; `None` if there are more than `most`.
fn runs(index: &[usize], most: usize) -> Option<Vec<Run>> {
    let mut runs: Vec<Run> = Vec::new();
    for &i in index {
        if let Some(run) = runs.last_mut() {
            let step = i as isize - (run.start as isize + run.step * (run.count as isize - 1));
            if step == run.step || (run.count == 1 && step.abs() <= 1) {
                (run.step, run.count) = (step, run.count + 1);
                continue;
            }
        }
        if runs.len() == most {
            return None;
        }
        push(&mut runs, Run { start: i, step: 1, count: 1 });
    }
    Some(runs)
}

/// Combines row `k` of every block of `source` into the row `index[k]` of the same block of `out`.
pub fn put_rows<T: Copy>(out: &mut [T], rows: Rows, index: &[usize], source: &[T], f: impl Fn(T, T) -> T) {
    let Rows { outer, len, inner } = rows;
    if inner == 1 {
        let blocks = out.chunks_exact_mut(len.max(1)).zip(source.chunks_exact(index.len().max(1)));
        return blocks.for_each(|(out, source)| {
            index.iter().zip(source).for_each(|(&i, &x)| out[i] = f(out[i], x));
        });
    }
    for o in 0..if source.is_empty() { 0 } else { outer } {
        for (k, &i) in index.iter().enumerate() {
            let to = &mut out[(o * len + i) * inner..][..inner];
            let from = &source[(o * index.len() + k) * inner..][..inner];
            to.iter_mut().zip(from).for_each(|(a, &b)| *a = f(*a, b));
        }
    }
}

/// Calls `f(at, k)` for the `k`-th element of an index of shape `index_shape`: `at` is the offset in an array of shape
/// `shape` of the element with the same coordinates, but `index[k]` on `axis`.
pub fn places(shape: &[usize], index_shape: &[usize], axis: usize, index: &[usize], mut f: impl FnMut(usize, usize)) {
    // A scalar counts as a vector of one element; an empty index may have any rank.
    if index.is_empty() || shape.is_empty() || index_shape.is_empty() {
        index.iter().enumerate().for_each(|(k, &i)| f(i, k));
        return;
    }
    let stride: usize = shape[axis + 1..].iter().product();
    let inner = offsets(&shape[axis + 1..], &index_shape[axis + 1..], 1);
    let outer = offsets(&shape[..axis], &index_shape[..axis], stride * shape[axis]);
    let mut k = 0;
    for &o in &outer {
        for _ in 0..index_shape[axis] {
            for &i in &inner {
                f(o + index[k] * stride + i, k);
                k += 1;
            }
        }
    }
}

/// Offsets of the elements in the first `part` places of each axis, in a row-major array whose last axis has `stride`.
fn offsets(shape: &[usize], part: &[usize], stride: usize) -> Vec<usize> {
    let mut out = vec![0];
    for (axis, &n) in part.iter().enumerate() {
        let stride = stride * shape[axis + 1..].iter().product::<usize>();
        let mut wider = vector(out.len() * n);
        out.iter().for_each(|&o| wider.extend((0..n).map(|i| o + i * stride)));
        out = wider;
    }
    out
}

/// The matrices of the last two axes with `zero` wherever `keep(row, column)` is false.
pub fn mask_matrix<T: Copy>(
    mut elements: Vec<T>,
    shape: &[usize],
    zero: T,
    keep: impl Fn(isize, isize) -> bool,
) -> ArrayD<T> {
    let (rows, columns) = (shape[shape.len() - 2], shape[shape.len() - 1]);
    if columns > 0 {
        for (i, row) in elements.chunks_exact_mut(columns).enumerate() {
            let i = (i % rows) as isize;
            row.iter_mut().enumerate().filter(|(j, _)| !keep(i, *j as isize)).for_each(|(_, x)| *x = zero);
        }
    }
    array(shape, elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_in_runs_or_one_by_one() {
        let indices: [&[usize]; 8] = [
            &[0, 0, 1, 2, 3, 3],
            &[3, 2, 1, 0, 1, 2],
            &[2],
            &[],
            &[1, 3, 0, 2],
            &[0, 0, 0],
            &[3, 3, 2, 2, 1],
            &[2, 3, 3],
        ];
        for (outer, inner) in [(1, 1), (1, 7), (300, 1), (200, 3), (0, 2), (2, 0)] {
            let rows = Rows { outer, len: 4, inner };
            let x: Vec<i64> = (0..(outer * 4 * inner) as i64).collect();
            for index in indices {
                let taken = take_rows(&x, rows, index);
                assert_eq!(taken.shape(), [outer, index.len(), inner]);
                let mut back = vec![0; x.len()];
                let source: Vec<i64> = taken.iter().copied().collect();
                put_rows(&mut back, rows, index, &source, |a, b| a + b);
                for ((o, k, i), &got) in taken.into_dimensionality::<ndarray::Ix3>().unwrap().indexed_iter() {
                    assert_eq!(got, x[(o * 4 + index[k]) * inner + i], "{index:?}");
                }
                for (at, (&got, &x)) in back.iter().zip(&x).enumerate() {
                    let times = index.iter().filter(|&&k| k == at / inner % 4).count() as i64;
                    assert_eq!(got, x * times, "{index:?}");
                }
            }
        }
    }
}
