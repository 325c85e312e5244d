//! Copies of arrays at any strides: into row-major order, and into parts of other arrays.
//!
//! A copy is described by a list of axes ([`Line`]s), as few as the strides allow. The two axes that matter most for
//! speed are copied together as a plane, by the method that suits their strides (see [`plane`]); the others are
//! outer loops. The code knows elements by their size only, and but for a few innermost loops it is compiled once, for what
//! every CPU has: a copy gains nothing from longer vectors.

mod squares;

use std::{mem::MaybeUninit, ops::Deref, slice::from_raw_parts_mut};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD};

use self::squares::{Word, square};
use super::{
    layout::{assert_word, sort_falling},
    memory::{Aligned, buffer, full, recycle, vector},
    threads,
    thresholds::{COPY_PARALLEL as PARALLEL, COPY_TASK as TASK},
};

/// Rows of fewer bytes are copied in registers; for longer ones `memcpy` is faster.
const LONG: usize = 256;
/// Minimum length of an axis that is worth a loop of its own.
const SHORT: usize = 8;
/// Bytes of the side of a tile: one cache line.
const SIDE: usize = 64;

// ------------------------------------------------------------------------------------------------- what others call

/// A copy in row-major order.
#[inline(never)]
pub fn contiguous<T: Copy + Default>(x: ArrayViewD<'_, T>) -> ArrayD<T> {
    elements(&x).array(x.raw_dim())
}

/// The elements in row-major order, in memory of the pool.
#[allow(unsafe_code)]
#[inline(never)]
pub fn elements<T: Copy + Default>(x: &ArrayViewD<'_, T>) -> Aligned<T> {
    let mut out = Aligned::with_capacity(x.len());
    write(x, out.spare(x.len()));
    // SAFETY: `write` wrote all of them.
    unsafe { out.set_len(x.len()) };
    out
}

/// The elements in row-major order, in an ordinary vector that a user may keep.
#[allow(unsafe_code)]
pub fn to_vec<T: Copy>(x: &ArrayViewD<'_, T>) -> Vec<T> {
    let mut out = vector(x.len());
    write(x, &mut out.spare_capacity_mut()[..x.len()]);
    // SAFETY: `write` wrote all of them.
    unsafe { out.set_len(x.len()) };
    out
}

/// The elements of an array in row-major order: the array's own, or a copy that goes back to the pool.
pub enum RowMajor<'a, T: Copy> {
    /// The array is in row-major order.
    Own(&'a [T]),
    /// The array is not: this is a copy.
    Copied(Vec<T>),
}

impl<'a, T: Copy> RowMajor<'a, T> {
    /// Copies only if the elements are not in row-major order.
    #[allow(unsafe_code)]
    pub fn of(x: ArrayViewD<'a, T>) -> Self {
        if let Some(slice) = x.to_slice() {
            return RowMajor::Own(slice);
        }
        let mut out = buffer(x.len());
        write(&x, &mut out.spare_capacity_mut()[..x.len()]);
        // SAFETY: `write` wrote all of them.
        unsafe { out.set_len(x.len()) };
        RowMajor::Copied(out)
    }
}

impl<T: Copy> Deref for RowMajor<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match self {
            RowMajor::Own(slice) => slice,
            RowMajor::Copied(vector) => vector,
        }
    }
}

impl<T: Copy> Drop for RowMajor<'_, T> {
    fn drop(&mut self) {
        if let RowMajor::Copied(vector) = self {
            recycle(std::mem::take(vector));
        }
    }
}

/// Copies `from` into `to`, of the same shape.
#[allow(unsafe_code)]
pub fn copy_into<T: Copy>(mut to: ArrayViewMutD<'_, T>, from: ArrayViewD<'_, T>) {
    assert_eq!(to.shape(), from.shape(), "the shapes of a copy");
    let start = to.as_mut_ptr();
    // SAFETY: both views have this shape and are valid with their own strides; a mutable view does not overlap another
    // one.
    unsafe { strided(from.shape(), start, to.strides(), from.as_ptr(), from.strides()) };
}

/// Joins arrays along `axis` into one of `shape`; their other axes have the lengths of `shape`.
#[allow(unsafe_code)]
pub fn concat<T: Copy + Default>(shape: &[usize], axis: usize, parts: &[ArrayViewD<'_, T>]) -> ArrayD<T> {
    let mut len = 0;
    for part in parts {
        len += part.len();
    }
    let strides = row_strides(shape);
    let mut out = Aligned::with_capacity(len);
    let space = out.spare(len);
    let mut start = 0;
    for part in parts {
        let first = space[(start * strides[axis] as usize).min(len)..].as_mut_ptr().cast();
        start = behind(part.shape(), shape, axis, start);
        // SAFETY: the part covers places of `shape` from `start` on, which are inside; so are the places that it is
        // copied to.
        unsafe { strided(part.shape(), first, &strides, part.as_ptr(), part.strides()) };
    }
    assert!(len == 0 || start == shape[axis], "the parts fill the axis");
    // SAFETY: the parts follow one another along the axis and fill it, so each element was written.
    unsafe { out.set_len(len) };
    out.array(shape)
}

/// Where a part of an array that starts at `start` of `axis` ends.
fn behind(part: &[usize], shape: &[usize], axis: usize, start: usize) -> usize {
    assert!(
        part.len() == shape.len() && (0..shape.len()).all(|i| i == axis || part[i] == shape[i]),
        "the shape of a part"
    );
    let end = start + part[axis];
    assert!(end <= shape[axis], "a part beyond the axis");
    end
}

/// An array of `shape`, filled with `value` except for `x`, whose first element is placed at `at`.
#[allow(unsafe_code)]
pub fn placed<T: Copy + Default>(x: ArrayViewD<'_, T>, shape: &[usize], at: &[usize], value: T) -> ArrayD<T> {
    let mut out = full("pad", shape, value);
    let strides = row_strides(shape);
    let first = out.as_mut_ptr().wrapping_add(offset(x.shape(), shape, at, &strides));
    // SAFETY: `offset` checked that each place is inside.
    unsafe { strided(x.shape(), first, &strides, x.as_ptr(), x.strides()) };
    out
}

/// How far a part of an array is from the start.
fn offset(part: &[usize], shape: &[usize], at: &[usize], strides: &[isize]) -> usize {
    let mut offset = 0;
    for axis in 0..shape.len() {
        assert!(at[axis].checked_add(part[axis]).is_some_and(|end| end <= shape[axis]), "a part beyond an axis");
        offset += at[axis] * strides[axis] as usize;
    }
    offset
}

/// The diagonals of the square matrices formed by axes `a` and `b`, as the last axis.
#[allow(unsafe_code)]
pub fn diagonals<T: Copy + Default>(x: ArrayViewD<'_, T>, a: usize, b: usize) -> ArrayD<T> {
    let (shape, steps) = on_diagonals(x.shape(), x.strides(), a, b);
    let len = shape.iter().product();
    let mut out = Aligned::with_capacity(len);
    let to = out.spare(len).as_mut_ptr().cast();
    // SAFETY: stepping along both axes at once stays inside the squares; `out` has one element for each place.
    unsafe {
        strided(&shape, to, &row_strides(&shape), x.as_ptr(), &steps);
        out.set_len(len);
    }
    out.array(shape)
}

/// Copies the last axis of `from` to the diagonals of the square matrices formed by axes `a` and `b`.
#[allow(unsafe_code)]
pub fn put_diagonals<T: Copy>(mut to: ArrayViewMutD<'_, T>, a: usize, b: usize, from: ArrayViewD<'_, T>) {
    let start = to.as_mut_ptr();
    let (shape, steps) = on_diagonals(to.shape(), to.strides(), a, b);
    assert_eq!(shape, from.shape(), "the shape of the diagonals");
    // SAFETY: as above; the mutable view does not overlap `from`.
    unsafe { strided(&shape, start, &steps, from.as_ptr(), from.strides()) };
}

/// The shape and the strides of the diagonals.
fn on_diagonals(shape: &[usize], strides: &[isize], a: usize, b: usize) -> (Vec<usize>, Vec<isize>) {
    assert!(a != b && shape[a] == shape[b], "square matrices");
    let (mut lens, mut steps) = (Vec::new(), Vec::new());
    for i in (0..shape.len()).filter(|&i| i != a && i != b) {
        lens.push(shape[i]);
        steps.push(strides[i]);
    }
    lens.push(shape[a]);
    steps.push(strides[a] + strides[b]);
    (lens, steps)
}

/// Writes all elements into `out`, which has the same number of them.
#[allow(unsafe_code)]
fn write<T: Copy>(x: &ArrayViewD<'_, T>, out: &mut [MaybeUninit<T>]) {
    const { assert_word::<T>() };
    assert_eq!(out.len(), x.len());
    // SAFETY: `out` has as many elements as the shape, and `x` is a view.
    unsafe { in_order(size_of::<T>(), x.shape(), out.as_mut_ptr().cast(), x.as_ptr().cast(), x.strides()) };
}

/// A copy in row-major order of elements of `size` bytes.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
#[inline(never)]
unsafe fn in_order(size: usize, shape: &[usize], to: *mut u8, from: *const u8, from_strides: &[isize]) {
    // SAFETY: the caller's promise.
    unsafe { words(size, shape, to, &row_strides(shape), from, from_strides) };
}

/// The strides of an array in row-major order.
fn row_strides(shape: &[usize]) -> Vec<isize> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis] as isize;
    }
    strides
}

// --------------------------------------------------------------------------------------------------- what is copied

/// One axis of a copy: its length, and how many bytes its elements are apart in the destination and in the source.
#[derive(Clone, Copy, Debug)]
struct Line {
    len: usize,
    to: isize,
    from: isize,
}

/// Where a copy begins, in the destination and in the source.
#[derive(Clone, Copy)]
struct Ends {
    to: *mut u8,
    from: *const u8,
}

#[allow(unsafe_code)]
// SAFETY: tasks of one copy write different elements; see `copy`.
unsafe impl Sync for Ends {}

impl Ends {
    /// The same `i` elements further along an axis. This is only an address: it may be out of bounds.
    #[inline(always)]
    fn along(self, line: Line, i: usize) -> Self {
        let by = |step: isize| step.wrapping_mul(i as isize);
        Ends { to: self.to.wrapping_offset(by(line.to)), from: self.from.wrapping_offset(by(line.from)) }
    }
}

/// Copies an array of `shape`.
///
/// # Safety
///
/// Every element that the shape and the strides address must be inside one allocation for `to` and one for `from`.
/// Those of `from` must be readable, those of `to` writable and distinct, and the two must not overlap.
#[allow(unsafe_code)]
unsafe fn strided<T: Copy>(shape: &[usize], to: *mut T, to_strides: &[isize], from: *const T, from_strides: &[isize]) {
    const { assert_word::<T>() };
    // SAFETY: the caller's promise; a word has the size and the alignment of `T` and may hold any bytes.
    unsafe { words(size_of::<T>(), shape, to.cast(), to_strides, from.cast(), from_strides) }
}

/// [`strided`] for elements of `size` bytes.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
#[inline(never)]
pub(super) unsafe fn words(
    size: usize,
    shape: &[usize],
    to: *mut u8,
    to_strides: &[isize],
    from: *const u8,
    from_strides: &[isize],
) {
    let (mut lines, mut ends) = (Vec::with_capacity(shape.len()), Ends { to, from });
    for i in 0..shape.len() {
        let [to, from] = [to_strides[i], from_strides[i]].map(|stride| stride.wrapping_mul(size as isize));
        let line = Line { len: shape[i], to, from };
        match line.len {
            0 => return,
            1 => continue,
            // In the order of the destination all strides are positive.
            _ if to < 0 => {
                ends = ends.along(line, line.len - 1);
                lines.push(Line { to: -to, from: -from, ..line });
            }
            _ => lines.push(line),
        }
    }
    merge(&mut lines);
    // SAFETY: the caller's promise.
    unsafe { copy(size, lines, ends) };
}

/// Puts the axes in the order of the destination, and merges neighbours that have no gap between them.
fn merge(lines: &mut Vec<Line>) {
    sort_falling(lines, |line| line.to);
    lines.dedup_by(|inner, outer| {
        let whole = |step: isize| step.wrapping_mul(inner.len as isize);
        let follow = outer.to == whole(inner.to) && outer.from == whole(inner.from);
        if follow {
            *outer = Line { len: outer.len * inner.len, ..*inner };
        }
        follow
    });
}

/// The whole copy, on several threads where it is large. No axis is of length 0.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
unsafe fn copy(size: usize, lines: Vec<Line>, ends: Ends) {
    let bytes = lines.iter().map(|line| line.len).product::<usize>() * size;
    if bytes < PARALLEL {
        // SAFETY: the caller's promise.
        return unsafe { walk(size, lines, ends) };
    }
    let tasks = bytes / TASK;
    let longest = || (0..lines.len()).max_by_key(|&i| lines[i].len).expect("many elements");
    let at = lines.iter().position(|line| line.len >= tasks).unwrap_or_else(longest);
    let line = lines[at];
    // Whole tiles, if there are several.
    let part = line.len.div_ceil(tasks);
    let part = if part < SIDE { part } else { part.next_multiple_of(SIDE) };
    let ends = &ends;
    threads::for_each(bytes, line.len.div_ceil(part), &|i| {
        let mut lines = lines.clone();
        lines[at].len = part.min(line.len - i * part);
        // SAFETY: a part of one axis is a part of the copy; each part is handed out once.
        unsafe { walk(size, lines, ends.along(line, i * part)) };
    });
}

/// The copy as planes, each made of the innermost axis of the destination and one other axis.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
unsafe fn walk(size: usize, mut lines: Vec<Line>, mut ends: Ends) {
    const ONE: Line = Line { len: 1, to: 0, from: 0 };
    let columns = lines.pop().unwrap_or(ONE);
    // The other axis is the next one or, if the stride in the source is long, the one with the shortest stride.
    let near = (0..lines.len()).min_by_key(|&i| (lines[i].from == 0, lines[i].from.unsigned_abs()));
    let near = near.filter(|&i| (1..columns.from.unsigned_abs()).contains(&lines[i].from.unsigned_abs()));
    let mut beside = near.unwrap_or(lines.len().saturating_sub(1));
    if columns.len < SHORT && lines.get(beside).is_some_and(|line| line.len < SHORT) {
        // If both axes are short, take the longest of the others instead.
        beside = (0..lines.len()).max_by_key(|&i| lines[i].len).expect("an axis");
    }
    let rows = if lines.is_empty() { ONE } else { lines.remove(beside) };
    let mut index = vec![0; lines.len()];
    'planes: loop {
        // SAFETY: each index of the other axes is visited once, which the caller's promise covers.
        unsafe { plane(size, rows, columns, ends) };
        for (at, line) in index.iter_mut().zip(&lines).rev() {
            *at += 1;
            if *at < line.len {
                ends = ends.along(*line, 1);
                continue 'planes;
            }
            ends = ends.along(Line { to: -line.to, from: -line.from, ..*line }, line.len - 1);
            *at = 0;
        }
        return;
    }
}

/// Calls a function that is compiled for each size of elements.
macro_rules! by_size {
    ($size:expr, $f:ident($($x:expr),*)) => {
        match $size {
            1 => $f::<std::mem::MaybeUninit<u8>>($($x),*),
            4 => $f::<std::mem::MaybeUninit<u32>>($($x),*),
            _ => $f::<std::mem::MaybeUninit<u64>>($($x),*),
        }
    };
}

pub(super) use by_size;

/// Two axes.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
unsafe fn plane(size: usize, rows: Line, columns: Line, ends: Ends) {
    let (bytes, beside) = (columns.len * size, size as isize);
    // SAFETY: the caller's promise; each branch visits the same elements.
    unsafe {
        match (columns.to == beside, columns.from == beside) {
            (true, true) if bytes >= LONG => {
                for r in 0..rows.len {
                    let Ends { to, from } = ends.along(rows, r);
                    to.copy_from_nonoverlapping(from, bytes);
                }
            }
            (true, true) if bytes >= 64 => by_chunks::<[u8; 64]>(rows, bytes, ends),
            (true, true) if bytes >= 16 => by_chunks::<[u8; 16]>(rows, bytes, ends),
            (true, true) if bytes >= 8 => by_chunks::<[u8; 8]>(rows, bytes, ends),
            (true, _) if rows.from == beside && columns.from != 0 && rows.len.min(columns.len) >= square(size) => {
                blocks(size, rows, columns, ends, |rows, columns, ends| by_size!(size, tile(rows, columns, ends)));
            }
            _ if rows.len.min(columns.len) >= SHORT && rows.from.abs() < columns.from.abs() => {
                blocks(size, rows, columns, ends, |rows, columns, ends| {
                    by_size!(size, by_element(rows, columns, ends))
                });
            }
            _ if columns.len < SHORT && columns.len < rows.len => by_size!(size, by_element(columns, rows, ends)),
            _ => by_size!(size, by_element(rows, columns, ends)),
        }
    }
}

/// Row by row, element by element.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
unsafe fn by_element<E: Word>(rows: Line, columns: Line, ends: Ends) {
    let size = size_of::<E>() as isize;
    let steps = (columns.to / size, columns.from / size);
    for r in 0..rows.len {
        let Ends { to, from } = ends.along(rows, r);
        let (to, from) = (to.cast::<E>(), from.cast::<E>());
        // SAFETY: the caller's promise. The branches differ in what the compiler knows about the strides.
        unsafe {
            match steps {
                (1, 0) => from_raw_parts_mut(to, columns.len).fill(*from),
                (1, -1) => (0..columns.len).for_each(|c| *to.add(c) = *from.sub(c)),
                (1, step) => (0..columns.len as isize).for_each(|c| *to.offset(c) = *from.offset(c * step)),
                (step, 1) => (0..columns.len as isize).for_each(|c| *to.offset(c * step) = *from.offset(c)),
                (s, t) => (0..columns.len as isize).for_each(|c| *to.offset(c * s) = *from.offset(c * t)),
            }
        }
    }
}

/// Copies rows of a few bytes, at least as many as a chunk has, by chunks; the last chunk overlaps the one before it.
///
/// # Safety
/// As [`strided`]; `bytes` is the length of the rows, which have no gaps.
#[allow(unsafe_code)]
#[inline(never)]
unsafe fn by_chunks<C: Copy>(rows: Line, bytes: usize, ends: Ends) {
    let last = bytes - size_of::<C>();
    for r in 0..rows.len {
        let Ends { to, from } = ends.along(rows, r);
        let (to, from) = (to.cast::<MaybeUninit<C>>(), from.cast::<MaybeUninit<C>>());
        // SAFETY: chunks that begin no later than `last` end inside the row; they need no alignment.
        unsafe {
            for at in (0..last).step_by(size_of::<C>()) {
                to.byte_add(at).write_unaligned(from.byte_add(at).read_unaligned());
            }
            to.byte_add(last).write_unaligned(from.byte_add(last).read_unaligned());
        }
    }
}

/// Calls `f` for blocks whose rows are at most as long as a cache line, in both arrays: they stay in the cache.
#[inline(always)]
fn blocks(size: usize, rows: Line, columns: Line, ends: Ends, f: impl Fn(Line, Line, Ends)) {
    let side = SIDE / size;
    for r in (0..rows.len).step_by(side) {
        let rows_here = Line { len: side.min(rows.len - r), ..rows };
        for c in (0..columns.len).step_by(side) {
            let columns_here = Line { len: side.min(columns.len - c), ..columns };
            f(rows_here, columns_here, ends.along(rows, r).along(columns, c));
        }
    }
}

/// A block of a transposed matrix: the stride of the rows in the source and of the columns in the destination is one
/// element.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
unsafe fn tile<E: Word>(rows: Line, columns: Line, ends: Ends) {
    let whole = |line: Line| line.len - line.len % E::SQUARE;
    let (height, width) = (whole(rows), whole(columns));
    // SAFETY: squares inside the block, then what is left below and beside them.
    unsafe {
        for r in (0..height).step_by(E::SQUARE) {
            for c in (0..width).step_by(E::SQUARE) {
                let Ends { to, from } = ends.along(rows, r).along(columns, c);
                E::square(to, rows.to, from, columns.from);
            }
        }
        let rest = |line: Line, done: usize| Line { len: line.len - done, ..line };
        by_element::<E>(rest(rows, height), Line { len: width, ..columns }, ends.along(rows, height));
        by_element::<E>(rows, rest(columns, width), ends.along(columns, width));
    }
}

#[cfg(test)]
mod tests;
