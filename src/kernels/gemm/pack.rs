//! Copies of matrices that lie as the loops read and write them.

use std::{any::TypeId, cell::Cell};

use super::Mat;
use crate::{
    kernels::{
        isa::{Capability, capability},
        memory::vector,
    },
    tensor::Element,
};

/// 64 bytes, a line of the cache.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [u8; 64]);

thread_local! {
    static SPACE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Memory that each thread keeps for copies.
pub struct Space(Vec<Line>);

impl Space {
    /// What is kept, or nothing while the thread ends and its thread-locals are gone.
    pub fn take() -> Self {
        Space(SPACE.try_with(Cell::take).unwrap_or_default())
    }

    /// Keeps it for the next product of this thread.
    pub fn give(self) {
        let _ = SPACE.try_with(|space| space.set(self.0));
    }

    /// Room for parts of so many numbers, of any value, each at the start of a line.
    pub fn rooms<T, const N: usize>(&mut self, lens: [usize; N]) -> [*mut T; N] {
        let lines = lens.map(|len| (len * size_of::<T>()).div_ceil(64));
        let total = lines.iter().sum();
        if self.0.len() < total {
            // Nothing in it need be kept, nor copied to a larger place.
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

/// Copies panels of `width` columns one behind the other, each step's columns side by side, filled up with zeros to whole
/// vectors of `lanes`.
///
/// # Safety
/// `out` has room for the columns of `b`, rounded up to vectors.
#[allow(unsafe_code)]
pub unsafe fn pack_columns<T: Copy + Default + 'static>(b: Mat<T>, width: usize, lanes: usize, out: *mut T) {
    for j in (0..b.columns).step_by(width) {
        let columns = width.min(b.columns - j);
        let wide = columns.next_multiple_of(lanes);
        let panel = b.part(0..b.rows, j..j + columns);
        // SAFETY: the panels of the columns up to `j` fill `j` numbers a step of the room; reads stay within `b`.
        unsafe {
            let out = out.add(j * b.rows);
            if b.column == 1 {
                for p in 0..b.rows {
                    copy(panel.element(p, 0), out.add(p * wide), columns);
                }
            } else {
                turn(panel.t(), out, wide);
            }
            for p in 0..b.rows {
                (columns..wide).for_each(|c| *out.add(p * wide + c) = T::default());
            }
        }
    }
}

/// Copies rows so that the numbers of one step lie side by side.
///
/// # Safety
/// `out` has room for `a`, and 8 numbers more.
#[allow(unsafe_code)]
pub unsafe fn pack_rows<T: Copy + 'static>(a: Mat<T>, out: *mut T) {
    // SAFETY: the caller's promise.
    unsafe {
        if a.row == 1 {
            for p in 0..a.columns {
                copy(a.element(0, p), out.add(p * a.rows), a.rows);
            }
        } else {
            turn(a, out, a.rows);
        }
    }
}

/// Copies a few numbers without a call.
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
            to.add(i).cast::<[T; 4]>().write_unaligned(from.add(i).cast::<[T; 4]>().read_unaligned());
        }
        for i in whole..n {
            *to.add(i) = *from.add(i);
        }
    }
}

/// `out[p, i] = x[i, p]`, rows of `out` being `wide` apart.
///
/// # Safety
/// `out` has room for `wide` numbers a column of `x`, and for 8 more; what lies between the rows of `out` may be
/// overwritten.
#[allow(unsafe_code)]
unsafe fn turn<T: Copy + 'static>(x: Mat<T>, out: *mut T, wide: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if TypeId::of::<T>() == TypeId::of::<f32>() && x.column == 1 && capability() >= Capability::Avx2 {
            let x = Mat { at: x.at.cast(), rows: x.rows, columns: x.columns, row: x.row, column: 1 };
            return x86::turn(x, out.cast(), wide);
        }
        turn_plainly(x, 0, out, wide);
    }
}

/// As [`turn`], from column `from` on.
///
/// # Safety
/// As [`turn`].
#[allow(unsafe_code)]
unsafe fn turn_plainly<T: Copy>(x: Mat<T>, from: usize, out: *mut T, wide: usize) {
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

/// `c[j, i] = x[i, j]`, or with `add` `+=`; numbers of a row of `c` lie side by side.
///
/// # Safety
/// `space` has room for 64 numbers.
#[allow(unsafe_code)]
pub unsafe fn unpack<T: Element>(x: Mat<T>, c: Mat<T>, add: bool) {
    let mut block = [T::default(); 8 * 9];
    for j in (0..x.columns).step_by(8) {
        let columns = 8.min(x.columns - j);
        for i in (0..x.rows).step_by(8) {
            let rows = 8.min(x.rows - i);
            // SAFETY: the block has room for 8 rows of 8 and 8 more; the rest lies within the matrices.
            unsafe {
                turn(x.part(i..i + rows, j..j + columns), block.as_mut_ptr(), 8);
                for (s, row) in block.chunks_exact(8).take(columns).enumerate() {
                    let to = c.element(j + s, i);
                    for (r, &value) in row[..rows].iter().enumerate() {
                        let to = to.add(r);
                        *to = if add { (*to).plus(value) } else { value };
                    }
                }
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Mat, turn_plainly};

    /// The transpose of 8 rows of 8 numbers, of which row `i` is at `from[i] + p`, to rows `wide` apart.
    ///
    /// # Safety
    /// The CPU must have AVX2, and the pointers be good for 8 numbers each.
    #[inline]
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    unsafe fn turn_8(from: [*const f32; 8], p: usize, out: *mut f32, wide: usize) {
        // SAFETY: the caller's promise.
        unsafe {
            // Rows r and r + 4 share a register: then all that is left stays within its halves.
            let pair = |r: usize, at: usize| {
                let (low, high) = (_mm_loadu_ps(from[r].add(at)), _mm_loadu_ps(from[r + 4].add(at)));
                _mm256_insertf128_ps::<1>(_mm256_castps128_ps256(low), high)
            };
            for half in [0, 4] {
                let [a, b, c, d] = [0, 1, 2, 3].map(|r| pair(r, p + half));
                let (ab, ba) = (_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
                let (cd, dc) = (_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
                let out = out.add(half * wide);
                _mm256_storeu_ps(out, _mm256_shuffle_ps::<0x44>(ab, cd));
                _mm256_storeu_ps(out.add(wide), _mm256_shuffle_ps::<0xee>(ab, cd));
                _mm256_storeu_ps(out.add(2 * wide), _mm256_shuffle_ps::<0x44>(ba, dc));
                _mm256_storeu_ps(out.add(3 * wide), _mm256_shuffle_ps::<0xee>(ba, dc));
            }
        }
    }

    /// As [`super::turn`], for rows whose numbers lie side by side.
    ///
    /// # Safety
    /// As [`super::turn`], and the CPU must have AVX2.
    #[target_feature(enable = "avx2")]
    #[allow(unsafe_code)]
    pub unsafe fn turn(x: Mat<f32>, out: *mut f32, wide: usize) {
        let whole = x.columns / 8 * 8;
        // SAFETY: rows beyond the last are read as the last; what they write beyond a row of `out` is in the next row,
        // which is written later, or in the 8 numbers more that the caller promises.
        unsafe {
            for i in (0..x.rows).step_by(8).rev() {
                let from = std::array::from_fn(|r| x.element((i + r).min(x.rows - 1), 0).cast_const());
                for p in (0..whole).step_by(8) {
                    turn_8(from, p, out.add(p * wide + i), wide);
                }
            }
            turn_plainly(x, whole, out, wide);
        }
    }
}
