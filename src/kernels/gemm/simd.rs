//! Vectors of numbers in registers, from which the tiles of a product are built; one implementation per instruction
//! set.

// Lanes are addressed by index.
#![allow(clippy::needless_range_loop)]

use crate::{
    kernels::raw,
    number::{Element, Number},
};

/// A vector register.
///
/// # Safety
/// The methods may only run on a CPU with the vector's instructions; pointers must be valid for the lanes that are read
/// or written.
#[allow(unsafe_code, clippy::missing_safety_doc)]
pub trait Simd: Copy {
    /// One lane.
    type T: Element;
    /// Which lanes are read or written.
    type Mask: Copy;
    const LANES: usize;
    /// The first `n` lanes.
    unsafe fn first(n: usize) -> Self::Mask;
    /// The last `n` lanes.
    unsafe fn last(n: usize) -> Self::Mask;
    unsafe fn zero() -> Self;
    unsafe fn splat(x: Self::T) -> Self;
    unsafe fn load(from: *const Self::T) -> Self;
    /// The lanes outside the mask are 0, and are not read.
    unsafe fn load_part(from: *const Self::T, mask: Self::Mask) -> Self;
    unsafe fn store(self, to: *mut Self::T);
    unsafe fn store_part(self, to: *mut Self::T, mask: Self::Mask);
    /// Prefetches the cache line, for writing.
    unsafe fn prefetch(_to: *mut Self::T) {}
    /// Prefetches the cache line into the second-level cache, for reading.
    unsafe fn prefetch_read(_from: *const Self::T) {}
    /// Writes around the caches, to an address that is a multiple of the vector's size.
    unsafe fn stream(self, to: *mut Self::T) {
        // SAFETY: the caller's promise.
        unsafe { self.store(to) }
    }
    /// `self + a · b`
    unsafe fn add_product(self, a: Self, b: Self) -> Self;
    unsafe fn add(self, other: Self) -> Self;
    /// Moves lane `i` to lane `i + by`, and the last lanes to the front.
    unsafe fn rotate(self, by: usize) -> Self;
    /// The sum of the lanes.
    unsafe fn sum(self) -> Self::T;
}

/// Four lanes in plain Rust, for CPUs without an implementation of their own.
#[derive(Clone, Copy)]
pub struct Plain<T>([T; 4]);

macro_rules! plain {
    ($($t:ty),*) => {$(
        #[allow(unsafe_code)]
        // SAFETY of the blocks: the caller's pointers are valid for the lanes that are read or written.
        impl Simd for Plain<$t> {
            type T = $t;
            type Mask = (usize, usize);
            const LANES: usize = 4;
            #[inline(always)]
            unsafe fn first(n: usize) -> (usize, usize) {
                (0, n)
            }
            #[inline(always)]
            unsafe fn last(n: usize) -> (usize, usize) {
                (4 - n, 4)
            }
            #[inline(always)]
            unsafe fn zero() -> Self {
                Plain([<$t>::default(); 4])
            }
            #[inline(always)]
            unsafe fn splat(x: $t) -> Self {
                Plain([x; 4])
            }
            #[inline(always)]
            unsafe fn load(from: *const $t) -> Self {
                Plain(unsafe { raw::read(from) })
            }
            #[inline(always)]
            unsafe fn load_part(from: *const $t, (start, end): (usize, usize)) -> Self {
                if end - start == 4 {
                    return unsafe { Self::load(from) };
                }
                let mut lanes = [<$t>::default(); 4];
                // `from` itself may point before the array.
                for i in start..end {
                    lanes[i] = unsafe { *from.wrapping_add(i) };
                }
                Plain(lanes)
            }
            #[inline(always)]
            unsafe fn store(self, to: *mut $t) {
                unsafe { raw::write(to, self.0) }
            }
            #[inline(always)]
            unsafe fn store_part(self, to: *mut $t, (start, end): (usize, usize)) {
                if end - start == 4 {
                    return unsafe { self.store(to) };
                }
                for i in start..end {
                    unsafe { *to.wrapping_add(i) = self.0[i] };
                }
            }
            #[inline(always)]
            unsafe fn add_product(self, a: Self, b: Self) -> Self {
                let mut lanes = self.0;
                for i in 0..4 {
                    lanes[i] = self.0[i].plus(a.0[i].times(b.0[i]));
                }
                Plain(lanes)
            }
            #[inline(always)]
            unsafe fn add(self, other: Self) -> Self {
                let mut lanes = self.0;
                for i in 0..4 {
                    lanes[i] = self.0[i].plus(other.0[i]);
                }
                Plain(lanes)
            }
            #[inline(always)]
            unsafe fn rotate(self, by: usize) -> Self {
                let mut lanes = self.0;
                for i in 0..4 {
                    lanes[i] = self.0[(i + 4 - by) % 4];
                }
                Plain(lanes)
            }
            #[inline(always)]
            unsafe fn sum(self) -> $t {
                self.0[0].plus(self.0[2]).plus(self.0[1].plus(self.0[3]))
            }
        }
    )*};
}
plain!(f32, f64, i64);

#[cfg(target_arch = "x86_64")]
pub use x86::{F32x8, F32x16, F64x4, F64x8};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;

    use super::{Simd, raw};

    /// The masks of AVX2: windows of 8 into zeros, ones and zeros.
    const ONES: [i32; 24] = [0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

    /// The indices of `LANES` lanes, twice: a window is a rotation of the lanes.
    const fn rotations<const LANES: usize>() -> &'static [u32] {
        const TWICE_16: [u32; 32] = indices_twice(16);
        const TWICE_8: [u32; 32] = indices_twice(8);
        if LANES == 16 { &TWICE_16 } else { &TWICE_8 }
    }

    const fn indices_twice(lanes: u32) -> [u32; 32] {
        let mut out = [0; 32];
        let mut i = 0;
        while i < 32 {
            out[i] = i as u32 % lanes;
            i += 1;
        }
        out
    }

    /// The mask of 8 lanes that begins at element `at` of [`ONES`].
    ///
    /// # Safety
    /// The CPU must have AVX, and `at` must be at most 16.
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn ones(at: usize) -> __m256i {
        // SAFETY: the caller's promise.
        unsafe { _mm256_loadu_si256(ONES.as_ptr().add(at).cast()) }
    }

    macro_rules! vector {
        ($(#[$doc:meta])* $name:ident($reg:ty) of $t:ty, $lanes:literal, mask $mask:ty, first |$n:ident| $first:expr, last |$m:ident| $last:expr,
         zero $zero:ident, splat $splat:ident, load $load_part:ident, store $store_part:ident, $stream:ident,
         fma $fma:ident, add $add:ident, rotate |$r:ident, $by:ident| $rotate:expr, sum |$x:ident| $sum:expr) => {
            $(#[$doc])*
            #[derive(Clone, Copy)]
            pub struct $name($reg);

            #[allow(unsafe_code)]
            // SAFETY of the blocks: the caller promises the instructions, and that pointers are valid for the lanes
            // that are read or written.
            impl Simd for $name {
                type T = $t;
                type Mask = $mask;
                const LANES: usize = $lanes;
                #[inline(always)]
                unsafe fn first($n: usize) -> $mask {
                    #[allow(unused_unsafe)]
                    unsafe {
                        $first
                    }
                }
                #[inline(always)]
                unsafe fn last($m: usize) -> $mask {
                    #[allow(unused_unsafe)]
                    unsafe {
                        $last
                    }
                }
                #[inline(always)]
                unsafe fn zero() -> Self {
                    $name(unsafe { $zero() })
                }
                #[inline(always)]
                unsafe fn splat(x: $t) -> Self {
                    $name(unsafe { $splat(x) })
                }
                #[inline(always)]
                unsafe fn load(from: *const $t) -> Self {
                    $name(unsafe { raw::read(from) })
                }
                #[inline(always)]
                unsafe fn load_part(from: *const $t, mask: $mask) -> Self {
                    $name(unsafe { part!(load $load_part, mask, from) })
                }
                #[inline(always)]
                unsafe fn store(self, to: *mut $t) {
                    unsafe { raw::write(to, self.0) }
                }
                #[inline(always)]
                unsafe fn store_part(self, to: *mut $t, mask: $mask) {
                    unsafe { $store_part(to, mask, self.0) }
                }
                #[inline(always)]
                unsafe fn prefetch(to: *mut $t) {
                    unsafe { _mm_prefetch::<_MM_HINT_ET0>(to.cast()) }
                }
                #[inline(always)]
                unsafe fn prefetch_read(from: *const $t) {
                    unsafe { _mm_prefetch::<_MM_HINT_T1>(from.cast()) }
                }
                #[inline(always)]
                unsafe fn stream(self, to: *mut $t) {
                    unsafe { $stream(to, self.0) }
                }
                #[inline(always)]
                unsafe fn add_product(self, a: Self, b: Self) -> Self {
                    $name(unsafe { $fma(a.0, b.0, self.0) })
                }
                #[inline(always)]
                unsafe fn add(self, other: Self) -> Self {
                    $name(unsafe { $add(self.0, other.0) })
                }
                #[inline(always)]
                unsafe fn rotate(self, $by: usize) -> Self {
                    let $r = self.0;
                    $name(unsafe { $rotate })
                }
                #[inline(always)]
                unsafe fn sum(self) -> $t {
                    let $x = self.0;
                    unsafe { $sum }
                }
            }
        };
    }

    /// AVX2 and AVX-512 order the arguments of a masked load differently.
    macro_rules! part {
        (load _mm512_maskz_loadu_ps, $mask:expr, $from:expr) => {
            _mm512_maskz_loadu_ps($mask, $from)
        };
        (load _mm512_maskz_loadu_pd, $mask:expr, $from:expr) => {
            _mm512_maskz_loadu_pd($mask, $from)
        };
        (load $load:ident, $mask:expr, $from:expr) => {
            $load($from, $mask)
        };
    }

    vector!(
        /// AVX-512
        F32x16(__m512) of f32, 16, mask __mmask16, first |n| ((1u32 << n) - 1) as __mmask16,
        last |n| (0xffffu32 << (16 - n)) as __mmask16,
        zero _mm512_setzero_ps, splat _mm512_set1_ps, load _mm512_maskz_loadu_ps,
        store _mm512_mask_storeu_ps, _mm512_stream_ps, fma _mm512_fmadd_ps, add _mm512_add_ps,
        rotate |x, by| _mm512_permutexvar_ps(_mm512_loadu_si512(rotations::<16>().as_ptr().add(16 - by).cast()), x), sum |x| _mm512_reduce_add_ps(x)
    );
    vector!(
        /// AVX-512
        F64x8(__m512d) of f64, 8, mask __mmask8, first |n| ((1u32 << n) - 1) as __mmask8,
        last |n| (0xffu32 << (8 - n)) as __mmask8,
        zero _mm512_setzero_pd, splat _mm512_set1_pd, load _mm512_maskz_loadu_pd,
        store _mm512_mask_storeu_pd, _mm512_stream_pd, fma _mm512_fmadd_pd, add _mm512_add_pd,
        rotate |x, by| _mm512_permutexvar_pd(_mm512_cvtepu32_epi64(_mm256_loadu_si256(rotations::<8>().as_ptr().add(8 - by).cast())), x), sum |x| _mm512_reduce_add_pd(x)
    );
    vector!(
        /// AVX2 with FMA
        F32x8(__m256) of f32, 8, mask __m256i, first |n| ones(16 - n), last |n| ones(n),
        zero _mm256_setzero_ps, splat _mm256_set1_ps, load _mm256_maskload_ps,
        store _mm256_maskstore_ps, _mm256_stream_ps, fma _mm256_fmadd_ps, add _mm256_add_ps,
        rotate |x, by| _mm256_permutevar8x32_ps(x, _mm256_loadu_si256(rotations::<8>().as_ptr().add(8 - by).cast())), sum |x| {
            let half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
            let pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
            _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps::<1>(pair, pair)))
        }
    );
    vector!(
        /// AVX2 with FMA
        F64x4(__m256d) of f64, 4, mask __m256i, first |n| ones(16 - 2 * n), last |n| ones(2 * n),
        zero _mm256_setzero_pd, splat _mm256_set1_pd, load _mm256_maskload_pd,
        store _mm256_maskstore_pd, _mm256_stream_pd, fma _mm256_fmadd_pd, add _mm256_add_pd,
        // Each number is a pair of halves.
        rotate |x, by| _mm256_castps_pd(_mm256_permutevar8x32_ps(
            _mm256_castpd_ps(x),
            _mm256_loadu_si256(rotations::<8>().as_ptr().add(8 - 2 * by).cast()),
        )), sum |x| {
            let half = _mm_add_pd(_mm256_castpd256_pd128(x), _mm256_extractf128_pd::<1>(x));
            _mm_cvtsd_f64(_mm_add_sd(half, _mm_unpackhi_pd(half, half)))
        }
    );
}
