//! Memory behind pointers, for innermost loops.
//!
//! A debug build of a user's program has ndnn's own code optimised, but keeps the checks of `*pointer`, `read_unaligned`,
//! `add` and of ranges: a product took twice as long with them. These functions have none, and the loops step through
//! memory with `wrapping_add` and count down to 0.

#![allow(unsafe_code)]
// `&*pointer` is checked too.
#![allow(clippy::transmute_ptr_to_ref)]

use std::mem::{MaybeUninit, transmute};

/// A value at any address.
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Anywhere<V>(V);

/// Reads a value that begins at `from`, at any address.
///
/// # Safety
/// `from` must be valid for reading as many bytes as the value has, and they must be those of a valid value.
#[inline(always)]
pub unsafe fn read<T, V: Copy>(from: *const T) -> V {
    // SAFETY: the caller's promise. It is a reference of alignment 1 that ends here.
    unsafe { transmute::<*const T, &Anywhere<V>>(from) }.0
}

/// Writes a value to `to`, at any address.
///
/// # Safety
/// `to` must be valid for writing as many bytes as the value has.
#[inline(always)]
pub unsafe fn write<T, V: Copy>(to: *mut T, value: V) {
    // SAFETY: the caller's promise. Nothing else refers to this memory while the reference exists, which is until the end
    // of this line; it may hold no value yet.
    unsafe { transmute::<*mut T, &mut Anywhere<MaybeUninit<V>>>(to) }.0 = MaybeUninit::new(value);
}

/// Reads one element.
///
/// # Safety
/// As for `*from`.
#[inline(always)]
pub unsafe fn element<T: Copy>(from: *const T) -> T {
    // SAFETY: the caller's promise.
    unsafe { *transmute::<*const T, &T>(from) }
}
