//! The number of elements and bytes of an array of some shape: the only place where sizes that a caller asked for are
//! multiplied.
//!
//! The rule: the shape of a result goes through [`room`] (or [`must`]) before a kernel runs. Axes of an array that
//! exists may be multiplied without a check, since ndarray creates none whose lengths, without those that are 0,
//! multiply to more than `isize::MAX`. Where sizes of several arrays are multiplied to estimate an amount of work, the
//! product saturates.

use super::memory;
use crate::{Error, Result, error::or_panic};

/// The product of the lengths that are not 0, if it is at most `isize::MAX`; and whether any length is 0.
#[inline]
fn product(lengths: impl IntoIterator<Item = usize>) -> Option<(usize, bool)> {
    let (mut product, mut empty) = (1usize, false);
    for n in lengths {
        if n == 0 {
            empty = true;
        } else {
            product = product.checked_mul(n)?;
        }
    }
    (product <= isize::MAX as usize).then_some((product, empty))
}

/// The number of elements of an array with these lengths; `None` if there can be no such array.
#[inline]
pub fn count(lengths: impl IntoIterator<Item = usize>) -> Option<usize> {
    product(lengths).map(|(n, empty)| if empty { 0 } else { n })
}

/// The number of bytes of an array of this shape; `None` if there can be no such array.
#[inline]
fn bytes(shape: &[usize], element: usize) -> Option<usize> {
    let bytes = count(shape.iter().copied())?.checked_mul(element)?;
    (bytes <= isize::MAX as usize).then_some(bytes)
}

/// The number of elements of a result of this shape.
///
/// # Errors
/// If no array can have this shape, or there is not enough memory for it.
#[inline]
pub fn room<T>(op: &str, shape: &[usize]) -> Result<usize> {
    room_for(op, shape, size_of::<T>())
}

#[inline(never)]
fn room_for(op: &str, shape: &[usize], element: usize) -> Result<usize> {
    match bytes(shape, element) {
        Some(bytes) if memory::available(bytes) => Ok(bytes / element),
        _ => Err(too_large(op, shape, element)),
    }
}

/// As [`room`], for functions that cannot return an error.
///
/// # Panics
/// Where [`room`] has an error, with its message.
#[inline(never)]
#[track_caller]
pub fn must<T>(op: &str, shape: &[usize]) -> usize {
    or_panic(room::<T>(op, shape))
}

/// The product, or `usize::MAX` if it overflows: an amount of work that is only compared.
#[inline]
pub fn saturating(sizes: impl IntoIterator<Item = usize>) -> usize {
    sizes.into_iter().fold(1, usize::saturating_mul)
}

/// The error for a result of this shape, for which there is not enough memory.
#[cold]
pub fn too_large(op: &str, shape: &[usize], element: usize) -> Error {
    if shape.contains(&0) {
        let most = isize::MAX;
        return Error::value(
            op,
            format!("a result of shape {shape:?} is empty, but its other sizes multiply to more than {most}"),
        );
    }
    let bytes = shape.iter().try_fold(element as u128, |bytes, &n| bytes.checked_mul(n as u128));
    let bytes = bytes.map_or("more than 2^128".to_string(), |bytes| bytes.to_string());
    Error::value(op, format!("a result of shape {shape:?} does not fit into memory, it takes {bytes} bytes"))
}

/// Panics in a kernel whose allocation failed although it was checked before.
#[cold]
#[track_caller]
pub fn refused(len: usize, element: usize) -> ! {
    let bytes = len as u128 * element as u128;
    panic!("out of memory: {len} numbers take {bytes} bytes, which cannot be allocated")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_counted_or_refused() {
        const MOST: usize = isize::MAX as usize;
        assert_eq!(count([]), Some(1));
        assert_eq!(count([2, 3, 4]), Some(24));
        assert_eq!(count([MOST]), Some(MOST));
        assert_eq!(count([MOST, 0, 1]), Some(0));
        for none in [[MOST + 1, 1, 1], [usize::MAX, 1, 0], [1 << 33, 1 << 33, 0], [1 << 32, 1 << 32, 1], [MOST, 2, 1]] {
            assert_eq!(count(none), None, "{none:?}");
        }
        assert_eq!(room::<f32>("f", &[2, 3]).unwrap(), 6);
        assert_eq!(room::<f64>("f", &[MOST, 0]).unwrap(), 0);
        let text = |shape: &[usize]| room::<f64>("f", shape).unwrap_err().to_string();
        let too_large = "f: a result of shape [1152921504606846976, 2] does not fit into memory, it takes \
                         18446744073709551616 bytes";
        assert_eq!(text(&[1 << 60, 2]), too_large);
        assert!(text(&[1 << 57]).ends_with("it takes 1152921504606846976 bytes"), "refused by the allocator");
        assert!(text(&[usize::MAX; 3]).ends_with("it takes more than 2^128 bytes"));
        assert!(text(&[1 << 33, 1 << 33, 0]).contains("is empty, but its other sizes multiply to more than"));
    }
}
