//! Sorting, selecting and searching rows of `len` elements in row-major order. NaN counts as the largest.

use std::cmp::Ordering;

use super::memory::vector;
use crate::number::{DType, Element};

/// A number in the order of the elements, in which NaN equals itself and is larger than all others: the elements are sorted by
/// it, by code that does not know their type.
pub fn rank<T: Element>(x: T) -> u64 {
    const SIGN: u64 = 1 << 63;
    match T::DTYPE {
        DType::I64 | DType::Bool => x.as_i64() as u64 ^ SIGN,
        _ => {
            // Both zeros are one. Without branches, which no CPU could predict.
            let (bits, nan) = ((x.as_f64() + 0.).to_bits(), x.as_f64().is_nan());
            let key = bits ^ ((bits as i64 >> 63) as u64 | SIGN);
            if nan { u64::MAX } else { key }
        }
    }
}

/// The positions of `len` keys in rising order; equal ones keep their order. The one sort of many things: for each type and key,
/// one of the standard library is compiled in 20 pieces. (A few things are sorted by
/// [`sort_falling`](super::layout::sort_falling).)
///
/// # Panics
/// If there is not enough memory.
pub fn order(len: usize, key: &dyn Fn(usize) -> u64) -> Vec<usize> {
    let mut pairs: Vec<(u64, usize)> = vector(len);
    for at in 0..len {
        pairs.push((key(at), at));
    }
    pairs.sort_unstable();
    let mut order = vector(len);
    for (_, at) in pairs {
        order.push(at);
    }
    order
}

/// The numbers in rising order, each once.
///
/// # Panics
/// If there is not enough memory.
pub fn distinct(numbers: &[usize]) -> Vec<usize> {
    let mut distinct = vector(numbers.len());
    for at in order(numbers.len(), &|at| numbers[at] as u64) {
        if distinct.last() != Some(&numbers[at]) {
            distinct.push(numbers[at]);
        }
    }
    distinct
}

/// The positions of the `k` largest (or smallest) elements of each row, best first; of equal elements, the first one
/// first. With `k` equal to the length this is a stable sort, without the memory that one takes.
pub fn topk<T: Element>(x: &[T], len: usize, k: usize, largest: bool) -> Vec<i64> {
    if x.is_empty() {
        return Vec::new();
    }
    let mut out = vector(x.len() / len * k);
    let mut pairs = vector(len);
    for row in x.chunks_exact(len) {
        pairs.clear();
        for (at, &x) in row.iter().enumerate() {
            pairs.push((if largest { !rank(x) } else { rank(x) }, at));
        }
        best(&mut pairs, k, &mut out);
    }
    out
}

/// Adds the positions in the `k` smallest pairs, in order.
fn best(pairs: &mut [(u64, usize)], k: usize, out: &mut Vec<i64>) {
    if 0 < k && k < pairs.len() {
        pairs.select_nth_unstable(k - 1);
    }
    pairs[..k].sort_unstable();
    for &(_, at) in &pairs[..k] {
        out.push(at as i64);
    }
}

/// The position at which `value` belongs in a sorted row: before equal elements, or after them with `right`. NaN
/// belongs at the end.
pub fn search<T: PartialOrd>(sorted: &[T], value: &T, right: bool) -> i64 {
    // Comparisons with NaN have no order: continue to the end.
    let place = sorted.partition_point(|x| match x.partial_cmp(value) {
        Some(Ordering::Greater) => false,
        Some(Ordering::Equal) => right,
        _ => true,
    });
    place as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_keep_their_order() {
        let keys = [3, u64::MAX, 0, 3, 0, 7];
        assert_eq!(order(keys.len(), &|at| keys[at]), [2, 4, 0, 3, 5, 1]);
        assert!(order(0, &|_| unreachable!()).is_empty() && distinct(&[]).is_empty());
        assert_eq!(distinct(&[5, 0, usize::MAX, 5, 0, 1]), [0, 1, 5, usize::MAX]);
    }

    #[test]
    fn ranks_rise_with_the_numbers() {
        let rising = [f32::NEG_INFINITY, -1e30, -1e-40, 0., 1e-40, 1., f32::INFINITY, f32::NAN];
        assert!(rising.windows(2).all(|pair| rank(pair[0]) < rank(pair[1])));
        assert_eq!((rank(-0f64), rank(-f64::NAN)), (rank(0f64), rank(f64::NAN)));
        assert!(rank(i64::MIN) < rank(-1i64) && rank(-1i64) < rank(i64::MAX) && rank(false) < rank(true));
    }
}
