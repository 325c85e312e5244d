//! Work on one row after another: kernels that see one row each produce an output and, where wanted, sums over all
//! rows.
//!
//! Rows are divided among threads in pieces of a fixed size. Outputs are in memory of the pool and written once.

use std::mem::MaybeUninit;

use super::{
    isa::{Isa, Kernel, dispatch_for},
    memory::{Aligned, vector},
    reduce::{add_row, halve},
    threads,
    thresholds::{ROW_PARALLEL as PARALLEL, ROW_TASK as TASK},
};
use crate::number::Element;

/// Maximum number of rows per task, and so of the terms of a sum over rows that are added one after another.
const ROWS: usize = 128;

/// A part of an output that was not written yet.
pub type Blank<T> = [MaybeUninit<T>];

/// What is done with each row. It and everything that it calls must be `#[inline(always)]`.
pub trait RowKernel<T>: Sync {
    /// A value that is kept for each row besides its elements; `()` for none.
    type Note: Copy + Send;
    /// Row `i`: writes all of `out` and returns it, and adds to `sums` what is summed over rows.
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], Self::Note);
}

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

struct Piece<'a, T, K: RowKernel<T>> {
    kernel: &'a K,
    first: usize,
    width: usize,
    out: &'a mut Blank<T>,
    notes: &'a mut Blank<K::Note>,
    sums: &'a mut [T],
}

impl<T, K: RowKernel<T>> Kernel for Piece<'_, T, K> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let mut out = self.out;
        for (i, note) in self.notes.iter_mut().enumerate() {
            let (row, rest) = out.split_at_mut(self.width);
            let place = Place::of(row);
            let (done, kept) = self.kernel.row::<I>(self.first + i, row, self.sums);
            place.check(done);
            note.write(kept);
            out = rest;
        }
    }
}

/// The address and length of a slice that must be written.
struct Place(usize, usize);

impl Place {
    #[inline(always)]
    fn of<T>(out: &Blank<T>) -> Self {
        Place(out.as_ptr().addr(), out.len())
    }

    /// A kernel returns the slice that it wrote: the same address and length prove that it wrote all of it.
    #[inline(always)]
    fn check<T>(&self, done: &[T]) {
        assert!(done.as_ptr().addr() == self.0 && done.len() == self.1);
    }
}

/// Runs a kernel; returns the output, the notes of the rows, and the sums, added in a fixed order.
#[allow(unsafe_code)]
pub fn run<T: Element, K: RowKernel<T>>(kernel: &K, sizes: Sizes) -> (Aligned<T>, Vec<K::Note>, Vec<T>) {
    let Sizes { rows, read, written, sums } = sizes;
    let mut step = (TASK / read.max(1)).clamp(1, ROWS);
    if sums == 0 && rows * read < PARALLEL {
        step = rows.max(1);
    }
    let pieces = rows.div_ceil(step);
    // Rows times what each reads or writes are parts of arrays that exist; the sums are at most twice what is read.
    let (mut out, mut notes) = (Aligned::with_capacity(rows * written), vector::<K::Note>(rows));
    let mut totals = super::memory::filled(pieces.max(1) * sums, T::ZERO);
    {
        let mut parts =
            Parts { out: out.spare(rows * written), notes: &mut notes.spare_capacity_mut()[..rows], sums: &mut totals };
        let piece = |(i, p): (usize, Parts<'_, T, K::Note>)| {
            dispatch_for::<T, _>(Piece {
                kernel,
                first: i * step,
                width: written,
                out: p.out,
                notes: p.notes,
                sums: p.sums,
            });
        };
        if rows * read < PARALLEL {
            for i in 0..pieces {
                piece((i, parts.take(step, written, sums)));
            }
        } else {
            let mut all = vector(pieces);
            for i in 0..pieces {
                all.push((i, parts.take(step, written, sums)));
            }
            threads::each(rows * read, all, piece);
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

/// What one piece writes to.
struct Parts<'a, T, N> {
    out: &'a mut Blank<T>,
    notes: &'a mut Blank<N>,
    sums: &'a mut [T],
}

impl<'a, T, N> Parts<'a, T, N> {
    /// Splits off the part of the next piece: `step` rows, or those that are left.
    fn take(&mut self, step: usize, written: usize, sums: usize) -> Parts<'a, T, N> {
        let rows = step.min(self.notes.len());
        Parts {
            out: self.out.split_off_mut(..rows * written).expect("enough rows"),
            notes: self.notes.split_off_mut(..rows).expect("enough rows"),
            sums: self.sums.split_off_mut(..sums).expect("enough pieces"),
        }
    }
}

// ------------------------------------------------------------------------------------------------- what kernels call

/// Writes `f(i)` to each place.
#[inline(always)]
#[allow(unsafe_code)]
pub fn write<T: Copy>(out: &mut Blank<T>, f: impl Fn(usize) -> T + Copy) -> &mut [T] {
    // By index: `f` indexes slices of this length, and this way the compiler sees that they are long enough.
    #[allow(clippy::needless_range_loop)]
    for i in 0..out.len() {
        out[i].write(f(i));
    }
    // SAFETY: every element was just written.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

/// Writes `row(k)(i)` to place `i` of row `k`, for rows of `width` elements; `each` receives a row after it was
/// written.
#[inline(always)]
#[allow(unsafe_code)]
pub fn write_rows<T: Copy, F: Fn(usize) -> T + Copy>(
    out: &mut Blank<T>,
    width: usize,
    row: impl Fn(usize) -> F,
    mut each: impl FnMut(&[T]),
) -> &mut [T] {
    assert!(out.len().is_multiple_of(width.max(1)));
    for (k, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        each(write(out, row(k)));
    }
    // SAFETY: every row was just written, and together they are all of `out`.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}
