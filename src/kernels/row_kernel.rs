//! Work on one row after another: an output, and what is left over a row, from kernels that see one row each.
//!
//! Rows are shared out to threads in pieces of a fixed size. Outputs are in memory of the pool, written once.

use std::mem::MaybeUninit;

use super::{
    isa::{Isa, Kernel, dispatch},
    memory::{Aligned, vector},
    threads,
};
use crate::number::Element;

/// From so many elements on, threads share the work.
const PARALLEL: usize = 1 << 16;
/// So many elements make a piece.
const PIECE: usize = 1 << 14;
/// The most rows of a piece: so many terms of a sum over rows are added one after another.
const ROWS: usize = 128;

/// A part of an output that nothing has been written to.
pub type Blank<T> = [MaybeUninit<T>];

/// What is to be done with each row. It and all that it calls is to be `#[inline(always)]`.
pub trait RowKernel<T>: Sync {
    /// What is kept of a row besides its elements; `()` for nothing.
    type Note: Copy + Send;
    /// Row `i`: writes all of `out`, adds to `sums` what is to be added up over rows.
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, sums: &mut [T]) -> (&'a mut [T], Self::Note);
}

/// How many rows there are, and their lengths.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub rows: usize,
    /// Elements that are read: what decides about pieces.
    pub read: usize,
    /// Elements of the output.
    pub written: usize,
    /// Numbers that are added up over all rows.
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

/// Where something is to be written.
struct Place(usize, usize);

impl Place {
    #[inline(always)]
    fn of<T>(out: &Blank<T>) -> Self {
        Place(out.as_ptr().addr(), out.len())
    }

    /// That somebody holds it as written is the proof that it is.
    #[inline(always)]
    fn check<T>(&self, done: &[T]) {
        assert!(done.as_ptr().addr() == self.0 && done.len() == self.1);
    }
}

/// The rows' output, their notes, and the sums, added up in a fixed order.
#[allow(unsafe_code)]
pub fn run<T: Element, K: RowKernel<T>>(kernel: &K, sizes: Sizes) -> (Aligned<T>, Vec<K::Note>, Vec<T>) {
    let Sizes { rows, read, written, sums } = sizes;
    let mut step = (PIECE / read.max(1)).clamp(1, ROWS);
    if sums == 0 && rows * read < PARALLEL {
        step = rows.max(1);
    }
    let pieces = rows.div_ceil(step);
    // Rows times what each reads or writes are parts of arrays that exist; the sums are no more than twice what is read.
    let (mut out, mut notes) = (Aligned::with_capacity(rows * written), vector::<K::Note>(rows));
    let mut totals = super::memory::filled(pieces.max(1) * sums, T::ZERO);
    {
        let mut parts =
            Parts { out: out.spare(rows * written), notes: &mut notes.spare_capacity_mut()[..rows], sums: &mut totals };
        let piece = |(i, p): (usize, Parts<'_, T, K::Note>)| {
            dispatch(Piece { kernel, first: i * step, width: written, out: p.out, notes: p.notes, sums: p.sums });
        };
        let each = (0..pieces).map(|i| (i, parts.take(step, written, sums)));
        if rows * read < PARALLEL { each.for_each(piece) } else { threads::each(rows * read, each, piece) }
    }
    // SAFETY: every piece ran, and each wrote all its rows and notes, which together are these.
    unsafe {
        out.set_len(rows * written);
        notes.set_len(rows);
    }
    super::reduce::halve(&mut totals, sums, T::plus);
    totals.truncate(sums);
    (out, notes, totals)
}

/// What the pieces write to.
struct Parts<'a, T, N> {
    out: &'a mut Blank<T>,
    notes: &'a mut Blank<N>,
    sums: &'a mut [T],
}

impl<'a, T, N> Parts<'a, T, N> {
    /// The next piece's part: `step` rows, or those that are left.
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
pub fn write<T>(out: &mut Blank<T>, f: impl Fn(usize) -> T) -> &mut [T] {
    // By index: `f` indexes slices of this length, and so the compiler sees that they are long enough.
    #[allow(clippy::needless_range_loop)]
    for i in 0..out.len() {
        out[i].write(f(i));
    }
    // SAFETY: every element was just written.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

/// Writes `row(k)(i)` to place `i` of row `k`, the rows being of `width` elements; `each` sees a row after it was written.
#[inline(always)]
#[allow(unsafe_code)]
pub fn write_rows<T, F: Fn(usize) -> T>(
    out: &mut Blank<T>,
    width: usize,
    row: impl Fn(usize) -> F,
    mut each: impl FnMut(&[T]),
) -> &mut [T] {
    assert!(out.len().is_multiple_of(width.max(1)));
    for (k, out) in out.chunks_exact_mut(width.max(1)).enumerate() {
        each(write(out, row(k)));
    }
    // SAFETY: every row was just written, and they are all there is.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}
