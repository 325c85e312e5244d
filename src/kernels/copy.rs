//! Copies of arrays at any strides: into row-major order, and into parts of other arrays.
//!
//! A copy is described by a list of axes ([`Line`]s), as few as the strides allow. The two axes that matter most for
//! speed are copied together as a plane, by the method that suits their strides (see [`Word::plane`]); the others are
//! outer loops. The code knows elements by their size only, so it is compiled three times in all, and not in a user's
//! crate.

use std::{mem::MaybeUninit, ops::Deref, slice::from_raw_parts_mut};

use ndarray::{ArrayD, ArrayViewD, ArrayViewMutD, Axis, Slice};

use super::{
    isa::{Isa, Kernel, dispatch_narrow},
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
    let len = parts.iter().map(|p| p.len()).sum();
    let strides = row_strides(shape);
    let mut out = Aligned::with_capacity(len);
    let space = out.spare(len);
    let mut start = 0;
    for part in parts {
        assert!(
            part.ndim() == shape.len() && (0..shape.len()).all(|i| i == axis || part.shape()[i] == shape[i]),
            "the shape of a part"
        );
        let first = space[(start * strides[axis] as usize).min(len)..].as_mut_ptr().cast();
        start += part.len_of(Axis(axis));
        assert!(start <= shape[axis], "a part beyond the axis");
        // SAFETY: the part covers places of `shape` from `start` on, which are inside; so are the places that it is
        // copied to.
        unsafe { strided(part.shape(), first, &strides, part.as_ptr(), part.strides()) };
    }
    assert!(len == 0 || start == shape[axis], "the parts fill the axis");
    // SAFETY: the parts follow one another along the axis and fill it, so each element was written.
    unsafe { out.set_len(len) };
    out.array(shape)
}

/// An array of `shape`, filled with `value` except for `x`, whose first element is placed at `at`.
pub fn placed<T: Copy + Default>(x: ArrayViewD<'_, T>, shape: &[usize], at: &[usize], value: T) -> ArrayD<T> {
    let mut out = full("pad", shape, value);
    let mut inside = out.view_mut();
    for (i, (&from, &n)) in at.iter().zip(x.shape()).enumerate() {
        inside.slice_axis_inplace(Axis(i), Slice::from(from..from + n));
    }
    copy_into(inside, x);
    out
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
    let rest = || (0..shape.len()).filter(|&i| i != a && i != b);
    (
        rest().map(|i| shape[i]).chain([shape[a]]).collect(),
        rest().map(|i| strides[i]).chain([strides[a] + strides[b]]).collect(),
    )
}

/// Writes all elements into `out`, which has the same number of them.
#[allow(unsafe_code)]
fn write<T: Copy>(x: &ArrayViewD<'_, T>, out: &mut [MaybeUninit<T>]) {
    assert_eq!(out.len(), x.len());
    // SAFETY: `out` has as many elements as the shape, and `x` is a view.
    unsafe { strided(x.shape(), out.as_mut_ptr().cast(), &row_strides(x.shape()), x.as_ptr(), x.strides()) };
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

/// One axis of a copy: its length, and how far apart its elements are in the destination and in the source.
#[derive(Clone, Copy, Debug)]
struct Line {
    len: usize,
    to: isize,
    from: isize,
}

/// Where a copy begins, in the destination and in the source.
#[derive(Clone, Copy)]
struct Ends<E> {
    to: *mut E,
    from: *const E,
}

#[allow(unsafe_code)]
// SAFETY: tasks of one copy write different elements; see `Word::copy`.
unsafe impl<E> Sync for Ends<E> {}

impl<E> Ends<E> {
    /// The same `i` elements further along an axis. This is only an address: it may be out of bounds.
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
#[allow(unsafe_code)]
unsafe fn words(
    size: usize,
    shape: &[usize],
    to: *mut u8,
    to_strides: &[isize],
    from: *const u8,
    from_strides: &[isize],
) {
    if shape.contains(&0) {
        return;
    }
    let lines = (0..shape.len()).map(|i| Line { len: shape[i], to: to_strides[i], from: from_strides[i] });
    let lines = lines.filter(|line| line.len > 1).collect();
    // SAFETY: the caller's promise.
    unsafe {
        match size {
            1 => MaybeUninit::<u8>::copy(lines, Ends { to: to.cast(), from: from.cast() }),
            4 => MaybeUninit::<u32>::copy(lines, Ends { to: to.cast(), from: from.cast() }),
            _ => MaybeUninit::<u64>::copy(lines, Ends { to: to.cast(), from: from.cast() }),
        }
    }
}

/// Puts the axes in the order of the destination with positive strides, and merges neighbours that have no gap between
/// them.
fn ordered<E: Word>(mut lines: Vec<Line>, mut ends: Ends<E>) -> (Vec<Line>, Ends<E>) {
    for line in lines.iter_mut().filter(|line| line.to < 0) {
        ends = ends.along(*line, line.len - 1);
        (line.to, line.from) = (-line.to, -line.from);
    }
    merge(&mut lines);
    (lines, ends)
}

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

/// A copy for [`dispatch_narrow`]: see [`Word::walk`].
struct Walk<E> {
    lines: Vec<Line>,
    ends: Ends<E>,
}

impl<E> Walk<E> {
    /// # Safety
    /// As [`strided`].
    #[allow(unsafe_code)]
    unsafe fn new(lines: Vec<Line>, ends: Ends<E>) -> Self {
        Walk { lines, ends }
    }
}

impl<E: Word> Kernel for Walk<E> {
    type Output = ();

    #[allow(unsafe_code)]
    #[inline(always)]
    fn run<I: Isa>(self) {
        // SAFETY: promised to `new`.
        unsafe { E::walk(self.lines, self.ends) };
    }
}

/// An element of which only the size is known; it may be padding or uninitialised.
#[allow(unsafe_code)]
trait Word: Copy + Send + 'static {
    /// The side of the squares that [`square`](Word::square) transposes.
    const SQUARE: usize;

    /// Transposes a square: `to[r · to_row + c] = from[c · from_row + r]`.
    ///
    /// # Safety
    /// As [`strided`].
    unsafe fn square(to: *mut Self, to_row: isize, from: *const Self, from_row: isize);

    /// The whole copy, on several threads where it is large. No axis is of length 0.
    ///
    /// # Safety
    /// As [`strided`].
    unsafe fn copy(lines: Vec<Line>, ends: Ends<Self>) {
        let (lines, ends) = ordered(lines, ends);
        let bytes = lines.iter().map(|line| line.len).product::<usize>() * size_of::<Self>();
        if bytes < PARALLEL {
            // SAFETY: the caller's promise.
            return dispatch_narrow(unsafe { Walk::new(lines, ends) });
        }
        let tasks = bytes / TASK;
        let longest = || (0..lines.len()).max_by_key(|&i| lines[i].len).expect("many elements");
        let at = lines.iter().position(|line| line.len >= tasks).unwrap_or_else(longest);
        let line = lines[at];
        // Whole tiles, if there are several.
        let part = line.len.div_ceil(tasks);
        let part = if part < SIDE { part } else { part.next_multiple_of(SIDE) };
        let ends = &ends;
        threads::for_each(bytes, line.len.div_ceil(part), |i| {
            let mut lines = lines.clone();
            lines[at].len = part.min(line.len - i * part);
            // SAFETY: a part of one axis is a part of the copy; each part is handed out once.
            dispatch_narrow(unsafe { Walk::new(lines, ends.along(line, i * part)) });
        });
    }

    /// The copy as planes, each made of the innermost axis of the destination and one other axis.
    ///
    /// # Safety
    /// As [`strided`].
    #[inline(always)]
    unsafe fn walk(mut lines: Vec<Line>, ends: Ends<Self>) {
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
        let mut ends = ends;
        'planes: loop {
            // SAFETY: each index of the other axes is visited once, which the caller's promise covers.
            unsafe { Self::plane(rows, columns, ends) };
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

    /// Two axes.
    ///
    /// # Safety
    /// As [`strided`].
    #[inline(always)]
    unsafe fn plane(rows: Line, columns: Line, ends: Ends<Self>) {
        let bytes = columns.len * size_of::<Self>();
        // SAFETY: the caller's promise; each branch visits the same elements.
        unsafe {
            match (columns.to, columns.from) {
                (1, 1) if bytes >= LONG => {
                    for r in 0..rows.len {
                        let Ends { to, from } = ends.along(rows, r);
                        to.copy_from_nonoverlapping(from, columns.len);
                    }
                }
                (1, 1) if bytes >= 64 => by_chunks::<Self, [u8; 64]>(rows, bytes, ends),
                (1, 1) if bytes >= 16 => by_chunks::<Self, [u8; 16]>(rows, bytes, ends),
                (1, 1) if bytes >= 8 => by_chunks::<Self, [u8; 8]>(rows, bytes, ends),
                (1, 0) if columns.len >= SHORT => {
                    for r in 0..rows.len {
                        let Ends { to, from } = ends.along(rows, r);
                        from_raw_parts_mut(to, columns.len).fill(*from);
                    }
                }
                (1, _) if rows.from == 1 && rows.len.min(columns.len) >= Self::SQUARE => tiles(rows, columns, ends),
                _ if rows.len.min(columns.len) >= SHORT && rows.from.abs() < columns.from.abs() => {
                    blocks(rows, columns, SIDE / size_of::<Self>(), ends, |rows, columns, ends| {
                        by_element(rows, columns, ends)
                    });
                }
                _ if columns.len < SHORT && columns.len < rows.len => by_element(columns, rows, ends),
                _ => by_element(rows, columns, ends),
            }
        }
    }
}

/// Row by row, element by element; compiled once, since vector instructions do not help it.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
#[inline(never)]
unsafe fn by_element<E: Word>(rows: Line, columns: Line, ends: Ends<E>) {
    for r in 0..rows.len {
        let Ends { to, from } = ends.along(rows, r);
        // SAFETY: the caller's promise. The branches differ in what the compiler knows about the strides.
        unsafe {
            match (columns.to, columns.from) {
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
#[inline(always)]
unsafe fn by_chunks<E: Word, C: Copy>(rows: Line, bytes: usize, ends: Ends<E>) {
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

/// Calls `f` for blocks of at most `side` by `side` elements, whose cache lines stay in the cache.
#[inline(always)]
fn blocks<E: Word>(rows: Line, columns: Line, side: usize, ends: Ends<E>, f: impl Fn(Line, Line, Ends<E>)) {
    for r in (0..rows.len).step_by(side) {
        let rows_here = Line { len: side.min(rows.len - r), ..rows };
        for c in (0..columns.len).step_by(side) {
            let columns_here = Line { len: side.min(columns.len - c), ..columns };
            f(rows_here, columns_here, ends.along(rows, r).along(columns, c));
        }
    }
}

/// A transposed matrix: the stride of the rows in the source and of the columns in the destination is 1.
///
/// # Safety
/// As [`strided`].
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn tiles<E: Word>(rows: Line, columns: Line, ends: Ends<E>) {
    blocks(rows, columns, SIDE / size_of::<E>(), ends, |rows, columns, ends| {
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
            by_element(rest(rows, height), Line { len: width, ..columns }, ends.along(rows, height));
            by_element(rows, rest(columns, width), ends.along(columns, width));
        }
    });
}

// --------------------------------------------------------------------------------------------------------- the words

#[allow(unsafe_code)]
impl Word for MaybeUninit<u8> {
    const SQUARE: usize = 8;

    #[inline(always)]
    unsafe fn square(to: *mut Self, to_row: isize, from: *const Self, from_row: isize) {
        // SAFETY: rows of eight bytes; an unaligned word is eight bytes.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::*;
                let row = |i: isize| _mm_loadl_epi64(from.offset(i * from_row).cast());
                // Bytes of neighbouring rows, then pairs of them, then fours.
                let two = |i: isize| _mm_unpacklo_epi8(row(i), row(i + 1));
                let four = |i: isize| {
                    let (a, b) = (two(i), two(i + 2));
                    [_mm_unpacklo_epi16(a, b), _mm_unpackhi_epi16(a, b)]
                };
                let (top, bottom) = (four(0), four(4));
                for half in 0..2 {
                    let (a, b) = (top[half], bottom[half]);
                    for (pair, eight) in [_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)].into_iter().enumerate() {
                        let r = (4 * half + 2 * pair) as isize;
                        _mm_storel_epi64(to.offset(r * to_row).cast(), eight);
                        _mm_storel_epi64(to.offset((r + 1) * to_row).cast(), _mm_unpackhi_epi64(eight, eight));
                    }
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain(8, to, to_row, from, from_row);
        }
    }
}

#[allow(unsafe_code)]
impl Word for MaybeUninit<u32> {
    const SQUARE: usize = 4;

    #[inline(always)]
    unsafe fn square(to: *mut Self, to_row: isize, from: *const Self, from_row: isize) {
        // SAFETY: rows of four elements; a vector is four elements.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::*;
                let row = |i: isize| _mm_loadu_si128(from.offset(i * from_row).cast());
                let (a, b, c, d) = (row(0), row(1), row(2), row(3));
                let (ab, cd) = (_mm_unpacklo_epi32(a, b), _mm_unpacklo_epi32(c, d));
                let (low, high) = (_mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd));
                let (ab, cd) = (_mm_unpackhi_epi32(a, b), _mm_unpackhi_epi32(c, d));
                let rows = [low, high, _mm_unpacklo_epi64(ab, cd), _mm_unpackhi_epi64(ab, cd)];
                for (i, row) in (0..).zip(rows) {
                    _mm_storeu_si128(to.offset(i * to_row).cast(), row);
                }
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain(4, to, to_row, from, from_row);
        }
    }
}

#[allow(unsafe_code)]
impl Word for MaybeUninit<u64> {
    const SQUARE: usize = 2;

    #[inline(always)]
    unsafe fn square(to: *mut Self, to_row: isize, from: *const Self, from_row: isize) {
        // SAFETY: rows of two elements; a vector is two elements.
        unsafe {
            #[cfg(target_arch = "x86_64")]
            {
                use std::arch::x86_64::*;
                let row = |i: isize| _mm_loadu_si128(from.offset(i * from_row).cast());
                let (a, b) = (row(0), row(1));
                _mm_storeu_si128(to.cast(), _mm_unpacklo_epi64(a, b));
                _mm_storeu_si128(to.offset(to_row).cast(), _mm_unpackhi_epi64(a, b));
            }
            #[cfg(not(target_arch = "x86_64"))]
            plain(2, to, to_row, from, from_row);
        }
    }
}

/// [`Word::square`] without vector instructions.
///
/// # Safety
/// As [`strided`].
#[cfg(not(target_arch = "x86_64"))]
#[allow(unsafe_code)]
unsafe fn plain<E: Word>(side: usize, to: *mut E, to_row: isize, from: *const E, from_row: isize) {
    let (rows, columns) = (Line { len: side, to: to_row, from: 1 }, Line { len: side, to: 1, from: from_row });
    // SAFETY: the caller's promise.
    unsafe { by_element(rows, columns, Ends { to, from }) };
}

#[cfg(test)]
mod tests;
