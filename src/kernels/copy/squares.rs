//! Elements as words, and squares of them, which are transposed in registers.

use std::mem::MaybeUninit;

#[cfg(not(target_arch = "x86_64"))]
use super::{Ends, Line, by_element};

/// See [`Word::SQUARE`]: a row is a vector of 16 bytes, or half of one.
pub(super) const fn square(size: usize) -> usize {
    if size == 1 { 8 } else { 16 / size }
}

/// An element of which only the size is known; it may be padding or uninitialised.
#[allow(unsafe_code)]
pub(super) trait Word: Copy {
    /// The side of the squares that [`square`](Word::square) transposes.
    const SQUARE: usize = square(size_of::<Self>());

    /// Transposes a square: element `r` of column `c`, which begins at `from + c · from_row`, becomes element `c` of row
    /// `r`, which begins at `to + r · to_row`.
    ///
    /// # Safety
    /// As [`strided`](super::strided).
    unsafe fn square(to: *mut u8, to_row: isize, from: *const u8, from_row: isize);
}

#[allow(unsafe_code)]
impl Word for MaybeUninit<u8> {
    #[inline(always)]
    unsafe fn square(to: *mut u8, to_row: isize, from: *const u8, from_row: isize) {
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
            plain::<Self>(to, to_row, from, from_row);
        }
    }
}

#[allow(unsafe_code)]
impl Word for MaybeUninit<u32> {
    #[inline(always)]
    unsafe fn square(to: *mut u8, to_row: isize, from: *const u8, from_row: isize) {
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
            plain::<Self>(to, to_row, from, from_row);
        }
    }
}

#[allow(unsafe_code)]
impl Word for MaybeUninit<u64> {
    #[inline(always)]
    unsafe fn square(to: *mut u8, to_row: isize, from: *const u8, from_row: isize) {
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
            plain::<Self>(to, to_row, from, from_row);
        }
    }
}

/// [`Word::square`] without vector instructions.
///
/// # Safety
/// As [`strided`](super::strided).
#[cfg(not(target_arch = "x86_64"))]
#[allow(unsafe_code)]
unsafe fn plain<E: Word>(to: *mut u8, to_row: isize, from: *const u8, from_row: isize) {
    let (len, beside) = (E::SQUARE, size_of::<E>() as isize);
    let (rows, columns) = (Line { len, to: to_row, from: beside }, Line { len, to: beside, from: from_row });
    // SAFETY: the caller's promise.
    unsafe { by_element::<E>(rows, columns, Ends { to, from }) };
}
