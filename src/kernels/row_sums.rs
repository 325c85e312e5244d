//! Sums of rows of a matrix: lookups in a table, and their gradients.

use super::{
    isa::Isa,
    memory::{Aligned, filled},
    prefetch,
    row_kernel::{Blank, RowKernel, Sizes, run, write},
};
use crate::number::Real;

/// How many lookups ahead rows are fetched.
const AHEAD: usize = 12;

/// Which rows of a matrix are summed: `index[starts[i]..starts[i + 1]]` are those of sum `i`.
#[derive(Clone, Debug)]
pub struct Groups {
    pub starts: Vec<usize>,
    pub index: Vec<usize>,
}

impl Groups {
    /// The number of sums.
    pub fn len(&self) -> usize {
        self.starts.len() - 1
    }

    /// The number of rows in each sum.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.starts.windows(2).map(|ends| ends[1] - ends[0])
    }

    /// For each of `rows` rows the sums that it is in, in their order.
    pub fn transposed(&self, rows: usize) -> Groups {
        let mut starts = filled(rows + 1, 0);
        self.index.iter().for_each(|&row| starts[row + 1] += 1);
        (0..rows).for_each(|row| starts[row + 1] += starts[row]);
        let (mut next, mut index) = (filled(rows, 0), filled(self.index.len(), 0));
        next.copy_from_slice(&starts[..rows]);
        for sum in 0..self.len() {
            for &row in &self.index[self.starts[sum]..self.starts[sum + 1]] {
                index[next[row]] = sum;
                next[row] += 1;
            }
        }
        Groups { starts, index }
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
        let (from, to) = (self.groups.starts[i], self.groups.starts[i + 1]);
        for &row in &index[(from + AHEAD).min(index.len())..(to + AHEAD).min(index.len())] {
            prefetch::for_reading(self.matrix, row * n, n);
        }
        let row = |k: usize| &self.matrix[index[k] * n..][..n];
        if from == to {
            return (write(out, |_| T::ZERO), ());
        }
        let (first, mut k) = (row(from), from + 1);
        let out = write(out, |j| first[j]);
        while k + 4 <= to {
            let [a, b, c, d] = [row(k), row(k + 1), row(k + 2), row(k + 3)];
            for j in 0..n {
                out[j] = out[j] + ((a[j] + b[j]) + (c[j] + d[j]));
            }
            k += 4;
        }
        for k in k..to {
            out.iter_mut().zip(row(k)).for_each(|(sum, &x)| *sum = *sum + x);
        }
        if self.mean && to - from > 1 {
            let count = T::of((to - from) as f64);
            out.iter_mut().for_each(|sum| *sum = *sum / count);
        }
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
        let from = groups.starts[i];
        for k in from..groups.starts[i + 1] {
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
