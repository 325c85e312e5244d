//! Sums of rows of a matrix: lookups in a table, and their gradients.

use std::ops::Range;

use ndnn_derive::concrete;

use super::{
    isa::Isa,
    memory::{Aligned, filled},
    prefetch,
    row_kernel::{Blank, RowKernel, Sizes, run, write},
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

struct RowSums<'a, T> {
    matrix: &'a [T],
    groups: &'a Groups,
    mean: bool,
}

impl<T: Real> RowSums<'_, T> {
    /// Writes as many columns of one sum, from `from` on, as blocks of `N` fill; returns where they end.
    #[inline(always)]
    fn columns<const N: usize>(&self, out: &mut Blank<T>, mut from: usize, places: Range<usize>) -> usize {
        let (n, index) = (out.len(), &self.groups.index);
        let count = T::of(if self.mean { places.len().max(1) as f64 } else { 1. });
        let ahead = index.get(places.start + AHEAD..).unwrap_or(&[]);
        while from + N <= n {
            let mut sums = [T::ZERO; N];
            for (k, &row) in index[places.clone()].iter().enumerate() {
                if let (true, Some(&next)) = (N > 1, ahead.get(k)) {
                    prefetch::for_reading(self.matrix, next * n + from, N);
                }
                let x: &[T; N] = self.matrix[row * n + from..].first_chunk().expect("a whole row");
                (0..N).for_each(|j| sums[j] += x[j]);
            }
            for (out, &sum) in out[from..from + N].iter_mut().zip(&sums) {
                out.write(sum / count);
            }
            from += N;
        }
        from
    }
}

impl<T: Real> RowKernel<T> for RowSums<'_, T> {
    type Note = ();
    #[allow(unsafe_code)]
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let places = self.groups.places(i);
        if places.len() == 1 {
            let (n, index) = (out.len(), &self.groups.index);
            if let Some(&row) = index.get(places.start + AHEAD) {
                prefetch::for_reading(self.matrix, row * n, n);
            }
            let x = &self.matrix[index[places.start] * n..][..n];
            return (write(out, |j| x[j]), ());
        }
        let done = self.columns::<BLOCK>(out, 0, places.clone());
        let done = self.columns::<16>(out, done, places.clone());
        let done = self.columns::<1>(out, done, places);
        assert!(done == out.len());
        // SAFETY: the columns before `done`, which are all of them, were written.
        (unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }, ())
    }
}

/// Rows of a matrix, written around the caches; `width` elements are a multiple of 16 bytes.
#[allow(unsafe_code)]
fn streamed<T: Real>(matrix: &[T], width: usize, index: &[usize]) -> Aligned<T> {
    let mut out = Aligned::with_capacity(index.len() * width);
    threads::chunks(out.spare(index.len() * width), STREAMED_ROWS * width, |task, out| {
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
    run(&RowSums { matrix, groups, mean }, Sizes { rows: groups.len(), read, written: width, sums: 0 }).0
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
