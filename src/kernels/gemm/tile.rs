//! The innermost loops of a product: a tile of the result stays in registers while the loop runs along the common axis.

// Registers are addressed by index, in loops that are unrolled.
#![allow(clippy::needless_range_loop)]

use std::{hint::black_box, mem::MaybeUninit, ptr};

use super::simd::{Plain, Simd};
use crate::{
    kernels::{
        isa::{Capability, capability},
        memory::LINE,
        raw,
    },
    number::{Element, Number, PerNumber},
};

/// One tile: `c (+)= a · b`, up to as many rows and columns as the loop was made for.
///
/// Elements of `a` are read one by one, with any stride. The columns of `b` are contiguous.
pub struct Tile<T> {
    pub k: usize,
    pub a: *const T,
    pub a_row: isize,
    pub a_k: isize,
    pub b: *const T,
    pub b_k: isize,
    /// Its columns are contiguous too.
    pub c: *mut T,
    pub c_row: isize,
    /// The number of columns, which exceeds the loop's maximum less one vector.
    pub columns: usize,
    /// Whether to add to what `c` already holds.
    pub add: bool,
    /// The initial values of the sums, with any row stride and a column stride of 0 or 1; null for zeros.
    pub start: *const T,
    pub start_row: isize,
    pub start_column: isize,
    pub ahead: Ahead<T>,
    /// Whether `c`, which is not added to, is written around the caches: its rows begin at multiples of a vector's
    /// size, and all vectors are whole.
    pub stream: bool,
    pub ends: Ends<T>,
}

/// What will be read after a tile, prefetched while the tile is computed: one cache line per `every` steps, `lines` of
/// one row, then those of the next row, at distance `row`. Addresses outside of the memory do no harm.
#[derive(Clone, Copy)]
pub struct Ahead<T> {
    pub at: *const T,
    pub row: isize,
    pub lines: usize,
    pub every: usize,
}

impl<T> Ahead<T> {
    /// Elements per cache line.
    pub const LINE: usize = LINE / size_of::<T>();
    pub const NOTHING: Self = Ahead { at: ptr::null(), row: 0, lines: 1, every: usize::MAX };

    /// Advances to the next line; `done` counts those of this row.
    #[inline(always)]
    fn next(&mut self, done: &mut usize) {
        *done += 1;
        self.at = self.at.wrapping_add(Self::LINE);
        if *done == self.lines {
            *done = 0;
            self.at = self.at.wrapping_offset(self.row - (self.lines * Self::LINE) as isize);
        }
    }
}

/// Dot products of a few rows with many, all contiguous along the common axis:
/// `c[i, j] = start[i, j] + Σ_p a[i, p] b[j, p]`.
pub struct Dots<T> {
    pub k: usize,
    pub a: *const T,
    pub a_row: isize,
    pub b: *const T,
    pub b_row: isize,
    /// The number of rows of `b`.
    pub n: usize,
    pub c: *mut T,
    pub c_row: isize,
    pub c_column: isize,
    /// What the products are added to, at any strides.
    pub start: *const T,
    pub start_row: isize,
    pub start_column: isize,
    pub add: AddFn<T>,
}

pub type TileFn<T> = unsafe fn(&Tile<T>);
pub type DotsFn<T> = unsafe fn(&Dots<T>);
/// What all tiles share, compiled once. It is called by pointers that the compiler does not know, since that ignores
/// `inline(never)` of functions with `target_feature`.
#[derive(Clone, Copy)]
pub struct Ends<T> {
    /// Reads so many rows of vectors, the initial values of a tile's sums.
    begin: unsafe fn(&Tile<T>, *mut T, rows: usize, vectors: usize),
    /// Streams so many rows of vectors, the sums of a tile, or adds them to what is there.
    finish: unsafe fn(&Tile<T>, *const T, rows: usize, vectors: usize),
}
/// Writes dot products with so many rows of `b`, from row `j` on, given as a vector each whose lanes are to be added; the
/// lanes begin with the one after `first`.
pub type AddFn<T> = unsafe fn(&Dots<T>, *const T, [usize; 2], j: usize, first: usize);

/// The most rows of `a` whose products are dot products.
pub const DOT_ROWS: usize = 4;

/// Loops for tiles, with the number of rows that each takes, in ascending order from 1; a tile of another height is
/// split into several of them. In f32, where speed matters most, every height up to the maximum has its own loop.
pub type Tiles<T> = &'static [(usize, TileFn<T>)];

/// The loops for one type of numbers and one instruction set.
pub struct Kernels<T: 'static> {
    /// Elements per vector.
    pub lanes: usize,
    /// Maximum number of rows per tile.
    pub rows: usize,
    /// Tiles of one vector.
    pub narrow: Tiles<T>,
    /// Tiles of two vectors, if any.
    pub double: Tiles<T>,
    /// Tiles of four vectors, if any, for products of a few rows.
    pub wide: Tiles<T>,
    /// Indexed by the number of rows of `a`, less 1; more rows are split.
    pub dots: &'static [DotsFn<T>],
    pub ends: Ends<T>,
    /// What all dot products share, as [`Ends`].
    pub add: AddFn<T>,
}

impl<T> Kernels<T> {
    /// Vectors per panel for products of so many rows, and the maximum number of rows per tile.
    pub fn shape(&self, rows: usize) -> (usize, usize) {
        match (self.wide, self.double) {
            ([.., (most, _)], _) if rows <= *most => (4, *most),
            (_, [_, ..]) => (2, self.rows),
            _ => (1, self.rows),
        }
    }

    /// The loops for tiles of so many vectors.
    pub fn tiles(&self, vectors: usize) -> Tiles<T> {
        match vectors {
            1 => self.narrow,
            2 => self.double,
            _ => self.wide,
        }
    }
}

/// # Safety
/// The CPU must have the instructions of `V`, and the pointers must be valid for `MR` rows, `columns` columns and `k`
/// steps.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn tile<V: Simd, const MR: usize, const NV: usize, const BESIDE: bool>(t: &Tile<V::T>) {
    // SAFETY: the caller's promise covers each row, step and lane below; the mask leaves out what is beyond `columns`.
    unsafe {
        let mask = V::first(t.columns - (NV - 1) * V::LANES);
        if !t.stream {
            let (mut c, mut i) = (t.c, 0);
            while i < MR {
                let mut v = 0;
                while v < NV {
                    V::prefetch(c.wrapping_add(v * V::LANES));
                    v += 1;
                }
                c = c.wrapping_offset(t.c_row);
                i += 1;
            }
        }
        let mut sums = [[V::zero(); NV]; MR];
        if !t.start.is_null() {
            let mut values = MaybeUninit::<[[V; NV]; MR]>::uninit();
            (t.ends.begin)(t, values.as_mut_ptr().cast(), MR, NV);
            sums = values.assume_init();
        }
        // Addresses that are known at compile time make a better loop.
        if BESIDE && t.a_row == 1 {
            steps::<V, MR, NV, true>(t, mask, &mut sums);
        } else {
            steps::<V, MR, NV, false>(t, mask, &mut sums);
        }
        if t.stream || t.add {
            let last = sums;
            return (t.ends.finish)(t, last.as_ptr().cast(), MR, NV);
        }
        let (mut c, mut i) = (t.c, 0);
        while i < MR {
            let mut v = 0;
            while v < NV - 1 {
                sums[i][v].store(c.wrapping_add(v * V::LANES));
                v += 1;
            }
            sums[i][NV - 1].store_part(c.wrapping_add((NV - 1) * V::LANES), mask);
            c = c.wrapping_offset(t.c_row);
            i += 1;
        }
    }
}

/// All steps along the common axis; with `BESIDE` the rows of `a` are at distance 1.
///
/// # Safety
/// As [`tile`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn steps<V: Simd, const MR: usize, const NV: usize, const BESIDE: bool>(
    t: &Tile<V::T>,
    mask: V::Mask,
    sums: &mut [[V; NV]; MR],
) {
    // SAFETY: the caller's promise.
    unsafe {
        let (mut a, mut b) = (t.a, t.b);
        // Every fourth row has an address of its own, hidden from the compiler: otherwise it would derive the addresses
        // of all rows from one chain of additions, which takes as long as the products.
        let row = if BESIDE { 1 } else { t.a_row };
        let apart = |rows: isize| if BESIDE { rows } else { black_box(row.wrapping_mul(rows)) };
        let fourths = [0, apart(4), apart(8), apart(12)];
        let beside_them = [0, row, row.wrapping_mul(2), apart(3)];
        let (mut left, mut ahead, mut fetched) = (t.k, t.ahead, 0);
        while left > 0 {
            V::prefetch_read(ahead.at);
            ahead.next(&mut fetched);
            let mut steps = left.min(ahead.every);
            left -= steps;
            while steps > 0 {
                steps -= 1;
                let mut vectors = [V::zero(); NV];
                let mut v = 0;
                while v < NV - 1 {
                    vectors[v] = V::load(b.wrapping_add(v * V::LANES));
                    v += 1;
                }
                vectors[NV - 1] = V::load_part(b.wrapping_add((NV - 1) * V::LANES), mask);
                let mut i = 0;
                while i < MR {
                    let x = a.wrapping_offset(fourths[i / 4]).wrapping_offset(beside_them[i % 4]);
                    let x = V::splat(raw::element(x));
                    let mut v = 0;
                    while v < NV {
                        sums[i][v] = sums[i][v].add_product(x, vectors[v]);
                        v += 1;
                    }
                    i += 1;
                }
                // After the last step the addresses may be anywhere.
                a = a.wrapping_offset(t.a_k);
                b = b.wrapping_offset(t.b_k);
            }
        }
    }
}

/// See [`Ends`].
///
/// # Safety
/// As [`tile`]; there is space for so many vectors.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn begin<V: Simd>(t: &Tile<V::T>, mut sums: *mut V::T, rows: usize, vectors: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = V::first(t.columns - (vectors - 1) * V::LANES);
        for i in 0..rows {
            let start = t.start.wrapping_offset((i as isize).wrapping_mul(t.start_row));
            for v in 0..vectors {
                let start = start.wrapping_add(if t.start_column == 0 { 0 } else { v * V::LANES });
                let values = match t.start_column {
                    0 => V::splat(raw::element(start)),
                    _ if v + 1 < vectors => V::load(start),
                    _ => V::load_part(start, mask),
                };
                values.store(sums);
                sums = sums.wrapping_add(V::LANES);
            }
        }
    }
}

/// See [`Ends`].
///
/// # Safety
/// As [`tile`]; there are so many vectors.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn finish<V: Simd>(t: &Tile<V::T>, mut sums: *const V::T, rows: usize, vectors: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let mask = V::first(t.columns - (vectors - 1) * V::LANES);
        for i in 0..rows {
            let c = t.c.wrapping_offset((i as isize).wrapping_mul(t.c_row));
            for v in 0..vectors {
                let (c, sum) = (c.wrapping_add(v * V::LANES), V::load(sums));
                if t.stream {
                    sum.stream(c);
                } else if v + 1 < vectors {
                    V::load(c).add(sum).store(c);
                } else {
                    V::load_part(c, mask).add(sum).store_part(c, mask);
                }
                sums = sums.wrapping_add(V::LANES);
            }
        }
    }
}

/// One step along the common axis of `MR` rows of `a` and `NR` of `b`, at place `p`.
///
/// # Safety
/// As [`dots`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn dot_step<V: Simd, const MR: usize, const NR: usize>(
    t: &Dots<V::T>,
    b: *const V::T,
    p: isize,
    mask: Option<V::Mask>,
    sums: &mut [[V; NR]; MR],
) {
    // SAFETY: the caller's promise; the mask leaves out what is beyond `k`.
    unsafe {
        let mut rows = [V::zero(); MR];
        let mut i = 0;
        while i < MR {
            let from = t.a.wrapping_offset((i as isize).wrapping_mul(t.a_row).wrapping_add(p));
            rows[i] = if let Some(mask) = mask { V::load_part(from, mask) } else { V::load(from) };
            i += 1;
        }
        let mut r = 0;
        while r < NR {
            let from = b.wrapping_offset((r as isize).wrapping_mul(t.b_row).wrapping_add(p));
            let y = if let Some(mask) = mask { V::load_part(from, mask) } else { V::load(from) };
            let mut i = 0;
            while i < MR {
                sums[i][r] = sums[i][r].add_product(rows[i], y);
                i += 1;
            }
            r += 1;
        }
    }
}

/// The dot products of `MR` rows of `a` with `NR` rows of `b` from row `j` on; the first step takes `first` elements, or
/// a whole vector if that is 0.
///
/// # Safety
/// As [`dots`].
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn dot_block<V: Simd, const MR: usize, const NR: usize>(t: &Dots<V::T>, j: usize, first: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let b = t.b.wrapping_offset((j as isize).wrapping_mul(t.b_row));
        let mut sums = [[V::zero(); NR]; MR];
        let (lanes, k) = (V::LANES as isize, t.k as isize);
        // Whole vectors before the next part of one. The first part is in the last lanes: each element is in the same
        // lane as the one that is a vector further on.
        let (mut p, mut whole, mut mask) = match first {
            0 => (0, t.k / V::LANES, V::first(t.k % V::LANES)),
            _ => (first as isize - lanes, 0, V::last(first)),
        };
        loop {
            while whole > 0 {
                dot_step(t, b, p, None, &mut sums);
                p += lanes;
                whole -= 1;
            }
            if p >= k {
                break;
            }
            dot_step(t, b, p, Some(mask), &mut sums);
            p += lanes;
            let rest = t.k.saturating_sub(p as usize);
            (whole, mask) = (rest / V::LANES, V::first(rest % V::LANES));
        }
        let last = sums;
        if const { MR == 1 && size_of::<V::T>() == 4 } {
            // For a single row a call would take a twentieth of the time.
            return add::<V>(t, last.as_ptr().cast(), [1, NR], j, first);
        }
        (t.add)(t, last.as_ptr().cast(), [MR, NR], j, first);
    }
}

/// See [`AddFn`].
///
/// # Safety
/// As [`dots`]; there are so many vectors.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn add<V: Simd>(t: &Dots<V::T>, mut sums: *const V::T, [rows, columns]: [usize; 2], j: usize, first: usize) {
    let along = |steps: usize, stride: isize| (steps as isize).wrapping_mul(stride);
    for i in 0..rows {
        let mut c = t.c.wrapping_offset(along(i, t.c_row)).wrapping_offset(along(j, t.c_column));
        let mut start = t.start.wrapping_offset(along(i, t.start_row)).wrapping_offset(along(j, t.start_column));
        for _ in 0..columns {
            // SAFETY: the caller's promise.
            unsafe {
                // As if the first step had been a whole vector: sums must not depend on where in memory the elements are.
                let sum = V::load(sums).rotate(first).sum();
                raw::write(c, raw::element(start).plus(sum));
            }
            sums = sums.wrapping_add(V::LANES);
            (c, start) = (c.wrapping_offset(t.c_column), start.wrapping_offset(t.start_column));
        }
    }
}

/// # Safety
/// The CPU must have the instructions of `V`, and the pointers must be valid for `MR` rows, `n` rows of `b` and `k`
/// steps.
#[inline(always)]
#[allow(unsafe_code)]
unsafe fn dots<V: Simd, const MR: usize, const NR: usize>(t: &Dots<V::T>) {
    // SAFETY: the caller's promise.
    unsafe {
        // A vector that straddles two cache lines costs twice as much: if all rows of `b` are aligned alike, begin with
        // a short step.
        let line = V::LANES * size_of::<V::T>();
        let alike = (t.b_row.unsigned_abs() * size_of::<V::T>()).is_multiple_of(line);
        let first = if alike { (t.b.align_offset(line)).min(t.k) } else { 0 };
        let mut j = 0;
        while j + NR <= t.n {
            dot_block::<V, MR, NR>(t, j, first);
            j += NR;
        }
        while j < t.n {
            dot_block::<V, MR, 1>(t, j, first);
            j += 1;
        }
    }
}

/// The loops of one instruction set: `tile` and `dots` compiled for it, and their table.
macro_rules! kernels {
    ($name:ident: $t:ty, $vector:ty, rows $rows:literal, features [$($feature:meta)?],
     narrow [$($n:literal)*], double [$($d:literal)*], wide [$($w:literal)*], dots [$($mr:literal of $nr:literal),*]) => {
        mod $name {
            use super::*;
            /// # Safety
            /// As [`super::begin`].
            #[allow(unsafe_code)]
            $(#[$feature])?
            unsafe fn begin(t: &Tile<$t>, sums: *mut $t, rows: usize, vectors: usize) {
                // SAFETY: the caller's promise.
                unsafe { super::begin::<$vector>(t, sums, rows, vectors) }
            }
            /// # Safety
            /// As [`super::finish`].
            #[allow(unsafe_code)]
            $(#[$feature])?
            unsafe fn finish(t: &Tile<$t>, sums: *const $t, rows: usize, vectors: usize) {
                // SAFETY: the caller's promise.
                unsafe { super::finish::<$vector>(t, sums, rows, vectors) }
            }
            /// # Safety
            /// As [`super::add`].
            #[allow(unsafe_code)]
            $(#[$feature])?
            unsafe fn add(t: &Dots<$t>, sums: *const $t, count: [usize; 2], j: usize, first: usize) {
                // SAFETY: the caller's promise.
                unsafe { super::add::<$vector>(t, sums, count, j, first) }
            }
            /// # Safety
            /// As [`super::tile`].
            #[allow(unsafe_code)]
            $(#[$feature])?
            unsafe fn tile<const MR: usize, const NV: usize>(t: &Tile<$t>) {
                // SAFETY: the caller's promise.
                unsafe {
                    // It pays for tall tiles.
                    match const { size_of::<$t>() == 4 && MR * NV > $rows } {
                        true => super::tile::<$vector, MR, NV, true>(t),
                        false => super::tile::<$vector, MR, NV, false>(t),
                    }
                }
            }
            /// # Safety
            /// As [`super::dots`].
            #[allow(unsafe_code, dead_code)]
            $(#[$feature])?
            unsafe fn dots<const MR: usize, const NR: usize>(t: &Dots<$t>) {
                // SAFETY: the caller's promise.
                unsafe { super::dots::<$vector, MR, NR>(t) }
            }
            pub static KERNELS: Kernels<$t> = Kernels {
                lanes: <$vector as Simd>::LANES,
                rows: $rows,
                narrow: &[$(($n, tile::<$n, 1>)),*],
                double: &[$(($d, tile::<$d, 2>)),*],
                wide: &[$(($w, tile::<$w, 4>)),*],
                dots: &[$(dots::<$mr, $nr>),*],
                ends: Ends { begin, finish },
                add,
            };
        }
    };
}

kernels!(plain_f32: f32, Plain<f32>, rows 4, features [],
    narrow [1 2 4], double [1 2 4], wide [1 2], dots [1 of 4]);
// Products of integers are rare. Four numbers of 8 bytes are two vectors of such a CPU.
kernels!(plain_i64: i64, Plain<i64>, rows 4, features [], narrow [1 4], double [], wide [], dots []);
kernels!(plain_f64: f64, Plain<f64>, rows 4, features [], narrow [1 2 4], double [], wide [], dots []);

#[cfg(target_arch = "x86_64")]
use super::simd::{F32x8, F32x16, F64x4, F64x8};

#[cfg(target_arch = "x86_64")]
kernels!(avx2_f32: f32, F32x8, rows 6, features [target_feature(enable = "avx2,fma")],
    narrow [1 2 3 4 5 6], double [1 2 3 4 5 6], wide [1 2 3], dots [1 of 8, 2 of 4, 3 of 3, 4 of 2]);
#[cfg(target_arch = "x86_64")]
kernels!(avx2_f64: f64, F64x4, rows 4, features [target_feature(enable = "avx2,fma")],
    narrow [1 2 4], double [1 2 4], wide [1], dots [1 of 8, 2 of 4]);
#[cfg(target_arch = "x86_64")]
kernels!(avx512_f32: f32, F32x16, rows 14, features [target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")],
    narrow [1 2 3 4 5 6 7 8 9 10 11 12 13 14], double [1 2 3 4 5 6 7 8 9 10 11 12 13 14], wide [1 2 3 4 5 6 7],
    dots [1 of 8, 2 of 8, 3 of 6, 4 of 6]);
#[cfg(target_arch = "x86_64")]
kernels!(avx512_f64: f64, F64x8, rows 8, features [target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")],
    narrow [1 2 4 8], double [1 2 4 8], wide [1], dots [1 of 8, 2 of 8]);

/// The loops for this CPU.
pub fn kernels<T: Number>() -> &'static Kernels<T> {
    struct Chosen;
    impl PerNumber for Chosen {
        type In<T: Number> = ();
        type Out<T: Number> = &'static Kernels<T>;
        fn f32((): ()) -> &'static Kernels<f32> {
            match capability() {
                #[cfg(target_arch = "x86_64")]
                Capability::Avx512 => &avx512_f32::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Capability::Avx2 => &avx2_f32::KERNELS,
                _ => &plain_f32::KERNELS,
            }
        }
        fn f64((): ()) -> &'static Kernels<f64> {
            match capability() {
                #[cfg(target_arch = "x86_64")]
                Capability::Avx512 => &avx512_f64::KERNELS,
                #[cfg(target_arch = "x86_64")]
                Capability::Avx2 => &avx2_f64::KERNELS,
                _ => &plain_f64::KERNELS,
            }
        }
        fn i64((): ()) -> &'static Kernels<i64> {
            &plain_i64::KERNELS
        }
    }
    T::per_number::<Chosen>(())
}
