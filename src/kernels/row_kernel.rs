//! Work on one row after another: functions that see one row each produce an output and, where wanted, sums over all
//! rows. What they do with the numbers of a row is in [`passes`](super::passes).
//!
//! Rows are divided among threads in pieces of a fixed size. Outputs are in memory of the pool and written once.

use super::{
    memory::{Aligned, filled, vector},
    passes::{Blank, written},
    reduce::{add_row, halve},
    threads,
    thresholds::{ROW_PARALLEL as PARALLEL, ROW_TASK as TASK},
};
use crate::number::Element;

/// Maximum number of rows per task, and so of the terms of a sum over rows that are added one after another.
const ROWS: usize = 128;

/// What is done with row `i`: writes all of the output and returns it, with what is kept for each row besides its elements;
/// adds to the last argument what is summed over rows.
type Row<'k, T, N> = &'k (dyn for<'a> Fn(usize, &'a mut Blank<T>, &mut [T]) -> (&'a mut [T], N) + Sync);

/// What is done with a piece: writes all of it, and returns it.
type Work<'k, T, N> = &'k (dyn for<'a> Fn(Piece<'a, T, N>) -> Written<'a, T, N> + Sync);

/// The number of rows and their lengths.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rows: usize,
    /// Elements read per row, which determine the size of the pieces.
    pub read: usize,
    /// Elements written per row.
    pub written: usize,
    /// Numbers that are summed over all rows.
    pub sums: usize,
}

/// Some rows, and what is written for them.
pub struct Piece<'a, T, N> {
    /// The number of its first row.
    pub first: usize,
    width: usize,
    out: &'a mut Blank<T>,
    notes: &'a mut Blank<N>,
    sums: &'a mut [T],
}

/// A piece that was written: its output, and what is kept of its rows.
pub type Written<'a, T, N> = (&'a mut [T], &'a mut [N]);

impl<'a, T, N> Piece<'a, T, N> {
    /// Splits off the next piece: `step` rows, or those that are left, and the first `sums` numbers.
    fn take(&mut self, step: usize, sums: usize) -> Piece<'a, T, N> {
        let rows = step.min(self.notes.len());
        let piece = Piece {
            first: self.first,
            width: self.width,
            out: self.out.split_off_mut(..rows * self.width).expect("enough rows"),
            notes: self.notes.split_off_mut(..rows).expect("enough rows"),
            sums: self.sums.split_off_mut(..sums).expect("enough pieces"),
        };
        self.first += rows;
        piece
    }

    /// Calls `row` for each row: see [`Row`].
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn each(
        self,
        mut row: impl for<'b> FnMut(usize, &'b mut Blank<T>, &mut [T]) -> (&'b mut [T], N),
    ) -> Written<'a, T, N> {
        assert!(self.out.len() == self.notes.len() * self.width);
        for k in 0..self.notes.len() {
            let one = &mut self.out[k * self.width..][..self.width];
            let place = Place::of(one);
            let (done, kept) = row(self.first + k, one, self.sums);
            place.check(done);
            self.notes[k].write(kept);
        }
        // SAFETY: all rows, and a note for each, were just written, and together they are all there is.
        unsafe { (written(self.out), written(self.notes)) }
    }
}

/// The address and length of a slice that must be written.
struct Place(usize, usize);

impl Place {
    #[inline(always)]
    fn of<T>(out: &Blank<T>) -> Self {
        Place(out.as_ptr().addr(), out.len())
    }

    /// A function returns the slice that it wrote: the same address and length prove that it wrote all of it.
    #[inline(always)]
    fn check<T>(&self, done: &[T]) {
        assert!(done.as_ptr().addr() == self.0 && done.len() == self.1);
    }
}

/// Calls `row` for each row; returns the output, what is kept of the rows, and the sums, added in a fixed order.
#[inline]
pub fn run<T: Element, N: Copy + Send, F>(sizes: Sizes, row: &F) -> (Aligned<T>, Vec<N>, Vec<T>)
where
    F: for<'a> Fn(usize, &'a mut Blank<T>, &mut [T]) -> (&'a mut [T], N) + Sync,
{
    // Whether threads gain anything is found out for each kind of rows by itself.
    run_rows(run::<T, N, F> as *const () as usize, sizes, row)
}

fn run_rows<T: Element, N: Copy + Send>(kind: usize, sizes: Sizes, row: Row<'_, T, N>) -> (Aligned<T>, Vec<N>, Vec<T>) {
    run_as(kind, sizes, &|piece| piece.each(row))
}

/// As [`run`], with one call for several rows: for what is done with a row in less time than it takes to call a function that
/// was compiled for the instructions of this CPU.
#[inline]
pub fn run_pieces<T: Element, N: Copy + Send, F>(sizes: Sizes, work: &F) -> (Aligned<T>, Vec<N>, Vec<T>)
where
    F: for<'a> Fn(Piece<'a, T, N>) -> Written<'a, T, N> + Sync,
{
    run_as(run_pieces::<T, N, F> as *const () as usize, sizes, work)
}

#[allow(unsafe_code)]
fn run_as<T: Element, N: Copy + Send>(kind: usize, sizes: Sizes, work: Work<'_, T, N>) -> (Aligned<T>, Vec<N>, Vec<T>) {
    let work = |piece: Piece<'_, T, N>| {
        let (out, notes) = (Place::of(piece.out), Place::of(piece.notes));
        let done = work(piece);
        out.check(done.0);
        notes.check(done.1);
    };
    let Sizes { rows, read, written, sums } = sizes;
    let mut step = (TASK / read.max(1)).clamp(1, ROWS);
    if sums == 0 && rows * read < PARALLEL {
        step = rows.max(1);
    }
    let pieces = rows.div_ceil(step);
    // Rows times what each reads or writes are parts of arrays that exist; the sums are at most twice what is read.
    let (mut out, mut notes) = (Aligned::with_capacity(rows * written), vector::<N>(rows));
    let mut totals = filled(pieces.max(1) * sums, T::ZERO);
    {
        let (out, notes) = (out.spare(rows * written), &mut notes.spare_capacity_mut()[..rows]);
        let mut left = Piece { first: 0, width: written, out, notes, sums: &mut totals };
        if rows * read < PARALLEL {
            for _ in 0..pieces {
                work(left.take(step, sums));
            }
        } else {
            let mut all = vector(pieces);
            for _ in 0..pieces {
                all.push(left.take(step, sums));
            }
            threads::each_of(kind, rows * read, all, &work);
        }
    }
    // SAFETY: every piece ran, and wrote all of its rows and notes; together they are all there is.
    unsafe {
        out.set_len(rows * written);
        notes.set_len(rows);
    }
    halve(&mut totals, sums, &|sums, more| add_row(sums, more, T::plus));
    totals.truncate(sums);
    (out, notes, totals)
}

/// Writes parts of `width` elements, one after another: `part(k, out)` writes all of part k and returns it.
#[allow(unsafe_code)]
pub fn write_parts<'a, T>(
    out: &'a mut Blank<T>,
    width: usize,
    part: &mut dyn for<'b> FnMut(usize, &'b mut Blank<T>) -> &'b mut [T],
) -> &'a mut [T] {
    for (k, out) in out.chunks_mut(width.max(1)).enumerate() {
        let place = Place::of(out);
        place.check(part(k, out));
    }
    // SAFETY: every part was just written, and together they are all of `out`.
    unsafe { written(out) }
}
