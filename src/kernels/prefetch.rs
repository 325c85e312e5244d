//! Prefetching cache lines. The CPU itself prefetches what is read in order, but hardly what is written: without this,
//! a store to memory that is not in the cache waits until its line has been read. And writing around the caches.

use std::mem::MaybeUninit;

use super::memory::LINE;

/// Maximum number of bytes of a row that is prefetched.
const SHORT: usize = 1 << 13;

/// Prefetches `len` elements from `from` on, which will be read soon and may lie beyond the end. Longer rows are left
/// to the CPU, which prefetches them in time.
#[inline(always)]
#[allow(unsafe_code)]
pub fn for_reading<T>(x: &[T], from: usize, len: usize) {
    #[cfg(target_arch = "x86_64")]
    if len * size_of::<T>() <= SHORT {
        let (mut at, end) = (x.as_ptr().wrapping_add(from), x.as_ptr().wrapping_add(from + len));
        // `step_by` is three times as much code, in each kernel.
        while at < end {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            // SAFETY: an address that is not mapped is not read.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
            at = at.wrapping_byte_add(LINE);
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (x, from, len, SHORT, LINE);
}

/// Prefetches `len` bytes from `out` on, which will be written soon. It helps if the data are far larger than the
/// second-level cache; in the rows of `row_kernel.rs` it cost more than it saved.
#[inline(always)]
#[allow(unsafe_code)]
pub fn for_writing(out: *const u8, len: usize) {
    #[cfg(target_arch = "x86_64")]
    for at in (0..len).step_by(LINE) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: nothing is read or written that a program could observe, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(out.wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (out, len);
}

/// Copies elements around the caches, if they are a multiple of 16 bytes, to an address that is; [`end_stream`] follows
/// before anything else may see them.
///
/// # Panics
/// If the lengths differ.
#[inline(always)]
#[allow(unsafe_code)]
pub fn stream<T: Copy>(from: &[T], to: &mut [MaybeUninit<T>]) {
    assert!(from.len() == to.len(), "as many elements");
    #[cfg(target_arch = "x86_64")]
    if size_of_val(from).is_multiple_of(16) && to.as_ptr().addr().is_multiple_of(16) {
        use std::arch::x86_64::{_mm_loadu_si128, _mm_stream_si128};
        for at in (0..size_of_val(from)).step_by(16) {
            // SAFETY: both have all of these bytes, and the address to write to is a multiple of 16.
            unsafe {
                let bytes = _mm_loadu_si128(from.as_ptr().byte_add(at).cast());
                _mm_stream_si128(to.as_mut_ptr().byte_add(at).cast(), bytes);
            }
        }
        return;
    }
    for (to, &from) in to.iter_mut().zip(from) {
        to.write(from);
    }
}

/// Lets other threads see what was streamed before anything that is written later.
#[inline]
#[allow(unsafe_code)]
pub fn end_stream() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 CPU has this instruction.
    unsafe {
        std::arch::x86_64::_mm_sfence();
    }
}
