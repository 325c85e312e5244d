//! Sorting, selecting and searching rows of `len` elements in row-major order. NaN counts as the largest.

use std::cmp::Ordering;

use super::memory::vector;

/// The order of numbers in which NaN equals itself and is larger than all others.
pub fn compare<T: PartialOrd>(a: &T, b: &T) -> Ordering {
    let nan = |x: &T| x.partial_cmp(x).is_none();
    a.partial_cmp(b).unwrap_or_else(|| nan(a).cmp(&nan(b)))
}

/// The positions of the `k` largest (or smallest) elements of each row, best first; of equal elements, the first one
/// first. With `k` equal to the length this is a stable sort, without the memory that one takes.
pub fn topk<T: Copy + PartialOrd>(x: &[T], len: usize, k: usize, largest: bool) -> Vec<i64> {
    let order = |a: &(T, i64), b: &(T, i64)| {
        let by_value = if largest { compare(&b.0, &a.0) } else { compare(&a.0, &b.0) };
        by_value.then(a.1.cmp(&b.1))
    };
    each_row(x, len, k, |row| {
        if 0 < k && k < len {
            row.select_nth_unstable_by(k - 1, order);
        }
        row[..k].sort_unstable_by(order);
    })
}

/// Lets `f` arrange each row, whose elements are paired with their positions, and returns the first `keep` positions.
fn each_row<T: Copy>(x: &[T], len: usize, keep: usize, f: impl Fn(&mut [(T, i64)])) -> Vec<i64> {
    if x.is_empty() {
        return Vec::new();
    }
    let mut out = vector(x.len() / len * keep);
    let mut pairs = vector(len);
    for row in x.chunks_exact(len) {
        pairs.clear();
        pairs.extend(row.iter().copied().zip(0..));
        f(&mut pairs);
        out.extend(pairs[..keep].iter().map(|p| p.1));
    }
    out
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
