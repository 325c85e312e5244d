//! Sums of rows of a matrix: lookups in a table, and their gradients.

use std::ops::Range;

use ndnn_derive::concrete;

use super::{
    isa::{Isa, Kernel, dispatch_for},
    memory::{Aligned, filled},
    passes::{Blank, write, written},
    prefetch,
    row_kernel::{Sizes, run},
    sizes::saturating,
    threads,
};
use crate::number::Real;

/// How many lookups ahead rows are fetched.
const AHEAD: usize = 12;

/// How many columns are summed at a time, in registers.
const BLOCK: usize = 64;

/// Minimum number of bytes of looked-up rows that do not stay in the caches. (Tests use a small limit.)
const STREAMED: usize = if cfg!(test) { 1 << 12 } else { 16 << 20 };
/// Rows of a task that writes them around the caches.
const STREAMED_ROWS: usize = 1 << 9;

/// Which rows of a matrix are summed: `index[starts[i]..starts[i + 1]]` are those of sum `i`; without `starts` each is one
/// row.
#[derive(Clone, Debug)]
pub struct Groups {
    pub starts: Option<Vec<usize>>,
    pub index: Vec<usize>,
}

impl Groups {
    /// The number of sums.
    pub fn len(&self) -> usize {
        self.starts.as_ref().map_or(self.index.len(), |starts| starts.len() - 1)
    }

    /// The places in the index of the rows of sum `i`.
    #[inline(always)]
    pub fn places(&self, i: usize) -> Range<usize> {
        match &self.starts {
            Some(starts) => starts[i]..starts[i + 1],
            None => i..i + 1,
        }
    }

    /// For each of `rows` rows the sums that it is in, in their order.
    pub fn transposed(&self, rows: usize) -> Groups {
        let mut starts = filled(rows + 1, 0);
        self.index.iter().for_each(|&row| starts[row + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let (mut next, mut index) = (filled(rows, 0), filled(self.index.len(), 0));
        next.copy_from_slice(&starts[..rows]);
        for sum in 0..self.len() {
            for &row in &self.index[self.places(sum)] {
                index[next[row]] = sum;
                next[row] += 1;
            }
        }
        Groups { starts: Some(starts), index }
    }
}

/// One sum of several rows.
struct RowSum<'a, 'o, T> {
    matrix: &'a [T],
    /// The index of its rows and of those that are looked up next.
    index: &'a [usize],
    rows: usize,
    mean: bool,
    out: &'o mut Blank<T>,
}

impl<T: Real> RowSum<'_, '_, T> {
    /// Writes as many columns, from `from` on, as blocks of `N` fill; returns where they end.
    #[inline(always)]
    fn columns<const N: usize>(&mut self, mut from: usize) -> usize {
        let n = self.out.len();
        let count = T::of(if self.mean { self.rows.max(1) as f64 } else { 1. });
        let ahead = self.index.get(AHEAD..).unwrap_or(&[]);
        while from + N <= n {
            let mut sums = [T::ZERO; N];
            for (k, &row) in self.index[..self.rows].iter().enumerate() {
                if let (true, Some(&next)) = (N > 1, ahead.get(k)) {
                    prefetch::for_reading(self.matrix, next * n + from, N);
                }
                let x: &[T; N] = self.matrix[row * n + from..].first_chunk().expect("a whole row");
                for j in 0..N {
                    sums[j] += x[j];
                }
            }
            for (out, &sum) in self.out[from..from + N].iter_mut().zip(&sums) {
                out.write(sum / count);
            }
            from += N;
        }
        from
    }
}

impl<'o, T: Real> Kernel for RowSum<'_, 'o, T> {
    type Output = &'o mut [T];
    #[allow(unsafe_code)]
    #[inline(always)]
    fn run<I: Isa>(mut self) -> &'o mut [T] {
        let done = self.columns::<BLOCK>(0);
        let done = self.columns::<16>(done);
        let done = self.columns::<1>(done);
        assert!(done == self.out.len());
        // SAFETY: the columns before `done`, which are all of them, were written.
        unsafe { written(self.out) }
    }
}

/// Rows of a matrix, written around the caches; `width` elements are a multiple of 16 bytes.
#[allow(unsafe_code)]
fn streamed<T: Real>(matrix: &[T], width: usize, index: &[usize]) -> Aligned<T> {
    let mut out = Aligned::with_capacity(index.len() * width);
    threads::chunks(out.spare(index.len() * width), STREAMED_ROWS * width, &|task, out| {
        let index = &index[task * STREAMED_ROWS..];
        for (k, out) in out.chunks_exact_mut(width).enumerate() {
            if let Some(&row) = index.get(k + AHEAD) {
                prefetch::for_reading(matrix, row * width, width);
            }
            prefetch::stream(&matrix[index[k] * width..][..width], out);
        }
        prefetch::end_stream();
    });
    // SAFETY: all rows were written.
    unsafe { out.set_len(index.len() * width) };
    out
}

/// The sum of each group of rows of a matrix with rows of `width` elements, or their mean; 0 for an empty group.
pub fn row_sums<T: Real>(matrix: &[T], width: usize, groups: &Groups, mean: bool) -> Aligned<T> {
    // Rows that no lookup asks for may be of any length.
    let far = saturating([groups.len(), width, size_of::<T>()]) >= STREAMED;
    if groups.starts.is_none() && far && (width * size_of::<T>()).is_multiple_of(16) {
        return streamed(matrix, width, &groups.index);
    }
    // What is read counts for the size of the pieces, with at least one row per sum.
    let read = width * groups.index.len().div_ceil(groups.len().max(1)).max(1);
    run(Sizes { rows: groups.len(), read, written: width, sums: 0 }, &|i, out, _| {
        let places = groups.places(i);
        let (index, rows) = (&groups.index[places.start..], places.len());
        if rows != 1 {
            return (dispatch_for::<T, _>(RowSum { matrix, index, rows, mean, out }), ());
        }
        if let Some(&row) = index.get(AHEAD) {
            prefetch::for_reading(matrix, row * width, width);
        }
        let x = &matrix[index[0] * width..][..out.len()];
        (write(out, |j| x[j]), ())
    })
    .0
}

/// The largest of each column of each group of rows, and for each the place of its row in `groups.index`; 0 for an empty
/// group, whose places have no meaning. The first of equal elements is chosen; a NaN is chosen only if it comes first.
#[concrete]
pub fn row_maxima<T: Real>(matrix: &[T], width: usize, groups: &Groups) -> (Vec<T>, Vec<usize>) {
    let size = groups.len() * width;
    let (mut out, mut places) = (filled(size, T::ZERO), filled(size, 0));
    for i in 0..groups.len() {
        let (out, places) = (&mut out[i * width..][..width], &mut places[i * width..][..width]);
        let places_of = groups.places(i);
        let from = places_of.start;
        for k in places_of {
            let row = &matrix[groups.index[k] * width..][..width];
            for j in 0..width {
                if k == from || row[j] > out[j] {
                    (out[j], places[j]) = (row[j], k);
                }
            }
        }
    }
    (out, places)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_written_around_the_caches_are_the_others() {
        for width in [4, 6, 64, 68] {
            let matrix: Vec<f32> = (0..50 * width).map(|i| i as f32).collect();
            let index: Vec<usize> = (0..1100).map(|i| i * 7 % 50).collect();
            let want: Vec<f32> = index.iter().flat_map(|&row| matrix[row * width..][..width].to_vec()).collect();
            let starts = Some((0..=index.len()).collect());
            let apart = row_sums(&matrix, width, &Groups { starts, index: index.clone() }, false);
            let together = row_sums(&matrix, width, &Groups { starts: None, index }, false);
            assert!(*apart == want[..] && *together == want[..], "{width}");
        }
    }

    #[test]
    fn columns_are_summed_in_blocks_of_any_size() {
        for width in [1, 7, 8, 63, 64, 73, 150] {
            let matrix: Vec<f64> = (0..9 * width).map(|i| (i * i % 13) as f64).collect();
            let groups = Groups { starts: Some(vec![0, 0, 3, 4, 9]), index: vec![8, 2, 2, 0, 1, 3, 5, 7, 6] };
            for mean in [false, true] {
                let got = row_sums(&matrix, width, &groups, mean);
                for i in 0..groups.len() {
                    let rows = &groups.index[groups.places(i)];
                    let count = if mean { rows.len().max(1) as f64 } else { 1. };
                    for j in 0..width {
                        let sum: f64 = rows.iter().map(|row| matrix[row * width + j]).sum();
                        assert_eq!(got[i * width + j], sum / count, "{width}, {mean}, {i}, {j}");
                    }
                }
            }
        }
    }
}
