//! Packing: copies of matrices in the order in which the loops read and write them.

use std::{any::TypeId, cell::Cell, hint::black_box};

use super::Mat;
use crate::{
    kernels::{
        isa::{Capability, capability},
        memory::vector,
        raw,
    },
    number::Element,
};

/// 64 bytes, one cache line.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

thread_local! {
    static SPACE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Memory that each thread keeps for packing.
pub struct Space(Vec<Line>);

impl Space {
    /// The memory that this thread kept, or none if the thread is ending and its thread-locals are gone.
    pub fn take() -> Self {
        Space(SPACE.try_with(Cell::take).unwrap_or_default())
    }

    /// Keeps the memory for the next product of this thread.
    pub fn give(self) {
        let _ = SPACE.try_with(|space| space.set(self.0));
    }

    /// Space for `N` parts of these lengths, uninitialised, each at the start of a cache line.
    pub fn parts<T, const N: usize>(&mut self, lens: [usize; N]) -> [*mut T; N] {
        let lines = lens.map(|len| (len * size_of::<T>()).div_ceil(64));
        let total = lines.iter().sum();
        if self.0.len() < total {
            // Its contents are not needed, so do not copy them to a larger allocation.
            self.0 = vector(0);
            self.0 = vector(total);
            self.0.resize(total, Line([0; 64]));
        }
        let mut at = self.0.as_mut_ptr();
        lines.map(|n| {
            let room = at.cast();
            at = at.wrapping_add(n);
            room
        })
    }
}

/// Copies panels of `width` columns one after another, the columns of one step side by side, padded with zeros to whole
/// vectors of `lanes`.
///
/// # Safety
/// `out` has space for the columns of `b`, rounded up to whole vectors.
#[allow(unsafe_code)]
pub unsafe fn pack_columns<T: Copy + Default + 'static>(b: Mat<T>, width: usize, lanes: usize, out: *mut T) {
    for j in (0..b.columns).step_by(width) {
        let columns = width.min(b.columns - j);
        let wide = columns.next_multiple_of(lanes);
        let panel = b.part(0..b.rows, j..j + columns);
        // SAFETY: the panels of the columns before `j` fill `j` elements of the space per step; reads stay inside `b`.
        unsafe {
            let out = out.add(j * b.rows);
            if b.column == 1 {
                for p in 0..b.rows {
                    copy(panel.element(p, 0), out.add(p * wide), columns);
                }
            } else {
                transpose(panel.t(), out, wide);
            }
            for p in 0..b.rows {
                (columns..wide).for_each(|c| *out.add(p * wide + c) = T::default());
            }
        }
    }
}

/// Copies rows so that the elements of one step are contiguous.
///
/// # Safety
/// `out` has space for `a` and 8 more elements.
#[allow(unsafe_code)]
pub unsafe fn pack_rows<T: Copy + 'static>(a: Mat<T>, out: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        if a.row == 1 {
            for p in 0..a.columns {
                copy(a.element(0, p), out.add(p * a.rows), a.rows);
            }
        } else {
            transpose(a, out, a.rows);
        }
    }
}

/// Copies a few elements without a function call.
///
/// # Safety
/// As `copy_nonoverlapping`.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn copy<T: Copy>(from: *const T, to: *mut T, n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = n / 4 * 4;
        for i in (0..whole).step_by(4) {
            raw::write(to.wrapping_add(i), raw::read::<T, [T; 4]>(from.wrapping_add(i)));
        }
        for i in whole..n {
            *to.add(i) = *from.add(i);
        }
    }
}

/// `out[p, i] = x[i, p]`, where the rows of `out` are `wide` apart.
///
/// # Safety
/// `out` has space for `wide` elements per column of `x`, and for 8 more; what is between the rows of `out` may be
/// overwritten.
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn transpose<T: Copy + 'static>(x: Mat<T>, out: *mut T, wide: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<T>() == TypeId::of::<f32>() && x.column == 1 && capability() >= Capability::Avx2 {
            let x = Mat { at: x.at.cast(), rows: x.rows, columns: x.columns, row: x.row, column: 1 };
            return x86::transpose(x, out.cast(), wide);
        }
        transpose_plain(x, 0, out, wide);
    }
}

/// As [`transpose`], from column `from` on, without vector instructions.
///
/// # Safety
/// As [`transpose`].
#[allow(unsafe_code)]
unsafe fn transpose_plain<T: Copy>(x: Mat<T>, from: usize, out: *mut T, wide: usize) {
    const STEP: usize = 16;
    // SAFETY: the caller's promise.
    unsafe {
        for p in (from..x.columns).step_by(STEP) {
            for i in 0..x.rows {
                for s in p..x.columns.min(p + STEP) {
                    *out.add(s * wide + i) = *x.element(i, s);
                }
            }
        }
    }
}

/// `c[j, i] = x[i, j]`, or `+=` with `add`; the elements of a row of `c` are contiguous.
///
/// # Safety
/// `x` is valid for reading all its elements, `c`, which has the shape of the transpose, for reading and writing.
#[allow(unsafe_code)]
pub unsafe fn unpack<T: Element>(x: Mat<T>, c: Mat<T>, add: bool) {
    let mut block = [T::default(); 8 * 9];
    for j in (0..x.columns).step_by(8) {
        let columns = 8.min(x.columns - j);
        for i in (0..x.rows).step_by(8) {
            let rows = 8.min(x.rows - i);
            // SAFETY: the block has space for 8 rows of 8 elements and 8 more; the rest is inside the matrices.
            unsafe {
                transpose(x.part(i..i + rows, j..j + columns), block.as_mut_ptr(), 8);
                for s in 0..columns {
                    put(block.as_ptr().wrapping_add(8 * s), c.element(j + s, i), rows, add);
                }
            }
        }
    }
}

/// Writes up to 8 elements, or adds them.
///
/// # Safety
/// 8 elements of `from` are valid for reading, and `n` of `to` for writing (and for reading, to add).
#[allow(unsafe_code)]
unsafe fn put<T: Element>(from: *const T, to: *mut T, n: usize, add: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        if n == 8 {
            let mut values = raw::read::<T, [T; 8]>(from);
            if add {
                let before = raw::read::<T, [T; 8]>(to);
                for i in 0..8 {
                    values[i] = before[i].plus(values[i]);
                }
            }
            return raw::write(to, values);
        }
        // The compiler would make 8 copies of a loop of which it knows that it is so short.
        for i in 0..black_box(n) {
            let (value, to) = (*from.add(i), to.add(i));
            *to = if add { (*to).plus(value) } else { value };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Mat, raw, transpose_plain};

    /// Writes the transpose of 8 rows of 8 elements, of which row `i` is at `from[i] + p`, to rows `wide` apart.
    ///
    /// # Safety
    /// The CPU must have AVX2, and the pointers must be valid for 8 elements each.
    #[inline]
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    unsafe fn transpose_8(from: [*const f32; 8], p: usize, out: *mut f32, wide: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            for half in [0, 4] {
                let at = p.wrapping_add(half);
                // Rows r and r + 4 share a register, so that the remaining steps stay within its halves.
                let mut pairs = [_mm256_setzero_ps(); 4];
                for (r, pair) in pairs.iter_mut().enumerate() {
                    let (low, high) = (raw::read(from[r].wrapping_add(at)), raw::read(from[r + 4].wrapping_add(at)));
                    *pair = _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high);
                }
                let [a, b, c, d] = pairs;
                let (ab, ba) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd, dc) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let out = out.wrapping_add(wide.wrapping_mul(half));
                raw::write(out, _mm256_shuffle_ps::<0x44>(ab, cd));
                raw::write(out.wrapping_add(wide), _mm256_shuffle_ps::<0xee>(ab, cd));
                raw::write(out.wrapping_add(wide.wrapping_mul(2)), _mm256_shuffle_ps::<0x44>(ba, dc));
                raw::write(out.wrapping_add(wide.wrapping_mul(3)), _mm256_shuffle_ps::<0xee>(ba, dc));
            }
        }
    }

    /// As [`super::transpose`], for rows whose elements are contiguous.
    ///
    /// # Safety
    /// As [`super::transpose`], and the CPU must have AVX2.
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    pub unsafe fn transpose(x: Mat<f32>, out: *mut f32, wide: usize) {
        let whole = x.columns / 8 * 8;
        // SAFETY: rows beyond the last one are read as the last one; what they write beyond a row of `out` is in the
        // next row, which is written later, or in the 8 additional elements that the caller promises.
        unsafe {
            for i in (0..x.rows).step_by(8).rev() {
                let from = std::array::from_fn(|r| x.element((i + r).min(x.rows - 1), 0).cast_const());
                let (mut p, mut to) = (0, out.wrapping_add(i));
                while p < whole {
                    transpose_8(from, p, to, wide);
                    p += 8;
                    to = to.wrapping_add(wide.wrapping_mul(8));
                }
            }
            transpose_plain(x, whole, out, wide);
        }
    }
}
