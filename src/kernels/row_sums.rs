//! Sums of rows of a matrix: lookups in a table, and their gradients.

use std::ops::Range;

use super::{
    isa::Isa,
    memory::{Aligned, filled},
    prefetch,
    row_kernel::{Blank, RowKernel, Sizes, run, write},
};
use crate::number::Real;

/// How many lookups ahead rows are fetched.
const AHEAD: usize = 12;

/// How many columns are summed at a time, in registers.
const BLOCK: usize = 32;

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

impl<T: Real> RowKernel<T> for RowSums<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let (n, index) = (out.len(), &self.groups.index);
        let Range { start: from, end: to } = self.groups.places(i);
        let fetch_ahead = |k: usize| {
            if let Some(&row) = index.get(k + AHEAD) {
                prefetch::for_reading(self.matrix, row * n, n);
            }
        };
        let row = |k: usize| &self.matrix[index[k] * n..][..n];
        if from == to {
            return (write(out, |_| T::ZERO), ());
        }
        fetch_ahead(from);
        let first = row(from);
        let out = write(out, |j| first[j]);
        if to - from == 1 {
            return (out, ());
        }
        let count = T::of(if self.mean { (to - from) as f64 } else { 1. });
        let (blocks, rest) = out.as_chunks_mut::<BLOCK>();
        for (b, block) in blocks.iter_mut().enumerate() {
            let mut sums = *block;
            for k in from + 1..to {
                if b == 0 {
                    fetch_ahead(k);
                }
                let x: &[T; BLOCK] = row(k)[b * BLOCK..].first_chunk().expect("a whole row");
                sums.iter_mut().zip(x).for_each(|(sum, &x)| *sum += x);
            }
            *block = sums.map(|sum| sum / count);
        }
        let at = n - rest.len();
        for k in from + 1..to {
            rest.iter_mut().zip(&row(k)[at..]).for_each(|(sum, &x)| *sum += x);
        }
        rest.iter_mut().for_each(|sum| *sum /= count);
        (out, ())
    }
}

/// The sum of each group of rows of a matrix with rows of `width` elements, or their mean; 0 for an empty group.
pub fn row_sums<T: Real>(matrix: &[T], width: usize, groups: &Groups, mean: bool) -> Aligned<T> {
    // What is read counts for the size of the pieces, with at least one row per sum.
    let read = width * groups.index.len().div_ceil(groups.len().max(1)).max(1);
    run(&RowSums { matrix, groups, mean }, Sizes { rows: groups.len(), read, written: width, sums: 0 }).0
}

/// The largest of each column of each group of rows, and for each the place of its row in `groups.index`; 0 for an empty
/// group, whose places have no meaning. The first of equal elements is chosen; a NaN is chosen only if it comes first.
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
