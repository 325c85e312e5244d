//! Reductions, scans and searches along axes.
//!
//! Elements are combined in pairs of halves, split by length alone: sums of many `f32` stay accurate, and the bits are
//! the same for any number of threads.

use std::borrow::Cow;

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn, Zip};

use crate::tensor::{DType, Element, Number, Real};

/// From so many elements on, two halves go to two threads.
const PARALLEL: usize = 1 << 17;
/// So many elements of a contiguous run are combined in one loop.
const LEAF: usize = 1 << 9;
/// So many rows are combined in one loop.
const LEAF_ROWS: usize = 1 << 5;

/// The axes by falling stride: an order in which a transposed array lies in memory without gaps.
fn memory_order<T>(x: &ArrayViewD<'_, T>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.ndim()).collect();
    if !x.is_standard_layout() {
        order.sort_by_key(|&axis| std::cmp::Reverse(x.strides()[axis]));
    }
    order
}

/// Combines all elements along `axes` (each once) with `f`, which is associative and commutative; the other axes stay,
/// in their order.
pub fn fold<T: Element>(
    x: ArrayViewD<'_, T>,
    axes: &[usize],
    identity: T,
    f: impl Fn(T, T) -> T + Copy + Send + Sync,
) -> ArrayD<T> {
    let order = memory_order(&x);
    let x = x.permuted_axes(IxDyn(&order));
    let x = x.as_standard_layout();
    // Neighbouring axes of a kind are one; axes of length 1 are none.
    let mut groups: Vec<(bool, usize)> = Vec::new();
    for (&axis, &n) in order.iter().zip(x.shape()).filter(|(_, n)| **n != 1) {
        let reduced = axes.contains(&axis);
        match groups.last_mut() {
            Some((kind, size)) if *kind == reduced => *size *= n,
            _ => groups.push((reduced, n)),
        }
    }
    let mut data = Cow::Borrowed(x.as_slice().expect("standard layout"));
    while let Some(at) = groups.iter().rposition(|&(reduced, _)| reduced) {
        let size = |groups: &[(bool, usize)]| groups.iter().map(|g| g.1).product::<usize>();
        let (outer, n, inner) = (size(&groups[..at]), groups[at].1, size(&groups[at + 1..]));
        data = Cow::Owned(fold_middle(&data, [outer, n, inner], identity, f));
        groups.remove(at);
    }
    let kept: Vec<(usize, usize)> = order.iter().copied().zip(x.shape().iter().copied()).collect();
    let kept: Vec<(usize, usize)> = kept.into_iter().filter(|(axis, _)| !axes.contains(axis)).collect();
    let shape: Vec<usize> = kept.iter().map(|k| k.1).collect();
    let out = ArrayD::from_shape_vec(IxDyn(&shape), data.into_owned()).expect("the kept axes");
    let mut back: Vec<usize> = (0..kept.len()).collect();
    back.sort_by_key(|&i| kept[i].0);
    if back.is_sorted() { out } else { out.permuted_axes(IxDyn(&back)).as_standard_layout().into_owned() }
}

/// `[outer, n, inner]` to `[outer, inner]`.
fn fold_middle<T: Element>(
    x: &[T],
    [outer, n, inner]: [usize; 3],
    identity: T,
    f: impl Fn(T, T) -> T + Copy + Send + Sync,
) -> Vec<T> {
    use rayon::prelude::*;
    let mut out = vec![identity; outer * inner];
    if x.is_empty() {
        return out;
    }
    let threads = x.len() >= PARALLEL && outer > 1;
    let blocks_a_task = (PARALLEL / 4 / (n * inner)).max(1);
    let task = |out: &mut [T], x: &[T]| {
        for (out, x) in out.chunks_exact_mut(inner).zip(x.chunks_exact(n * inner)) {
            if inner == 1 { out[0] = fold_run(x, identity, f) } else { fold_rows(x, out, f) }
        }
    };
    if threads {
        let out = out.par_chunks_mut(inner * blocks_a_task);
        out.zip(x.par_chunks(n * inner * blocks_a_task)).for_each(|(out, x)| task(out, x));
    } else {
        task(&mut out, x);
    }
    out
}

fn both<A: Send, B: Send>(threads: bool, a: impl FnOnce() -> A + Send, b: impl FnOnce() -> B + Send) -> (A, B) {
    if threads { rayon::join(a, b) } else { (a(), b()) }
}

/// A contiguous run to one element.
pub fn fold_run<T: Element>(x: &[T], identity: T, f: impl Fn(T, T) -> T + Copy + Send + Sync) -> T {
    if x.len() > LEAF {
        let (a, b) = x.split_at((x.len() / 2).next_multiple_of(LEAF));
        let (a, b) = both(x.len() >= PARALLEL, || fold_run(a, identity, f), || fold_run(b, identity, f));
        return f(a, b);
    }
    let (chunks, rest) = x.as_chunks::<16>();
    let mut lanes = [identity; 16];
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = f(*lane, x);
        }
    }
    lanes.iter().chain(rest).fold(identity, |a, &b| f(a, b))
}

/// Rows of the length of `out` to one row.
fn fold_rows<T: Element>(x: &[T], out: &mut [T], f: impl Fn(T, T) -> T + Copy + Send + Sync) {
    let inner = out.len();
    let rows = x.len() / inner;
    if rows > LEAF_ROWS {
        let (a, b) = x.split_at((rows / 2).next_multiple_of(LEAF_ROWS) * inner);
        let mut second = vec![T::ZERO; inner];
        both(x.len() >= PARALLEL, || fold_rows(a, out, f), || fold_rows(b, &mut second, f));
        out.iter_mut().zip(&second).for_each(|(a, &b)| *a = f(*a, b));
        return;
    }
    let (first, others) = x.split_at(inner);
    out.copy_from_slice(first);
    for row in others.chunks_exact(inner) {
        out.iter_mut().zip(row).for_each(|(a, &b)| *a = f(*a, b));
    }
}

/// The sum along `axes`; of `bool`, whether any is true.
pub fn sum<T: Element>(x: ArrayViewD<'_, T>, axes: &[usize]) -> ArrayD<T> {
    fold(x, axes, T::ZERO, T::plus)
}

/// The greater, or NaN if either is NaN.
pub fn greater<T: Element>(a: T, b: T) -> T {
    if b > a || is_nan(b) { b } else { a }
}

/// The smaller, or NaN if either is NaN.
pub fn smaller<T: Element>(a: T, b: T) -> T {
    if b < a || is_nan(b) { b } else { a }
}

#[allow(clippy::eq_op)]
pub fn is_nan<T: Element>(x: T) -> bool {
    x != x
}

/// The position of the first element of `x` that none precedes in the order of `before`; a NaN precedes all.
pub fn position<T: Element>(x: impl Iterator<Item = T>, before: impl Fn(T, T) -> bool) -> usize {
    let mut best: Option<(usize, T)> = None;
    for (i, v) in x.enumerate() {
        if best.is_none_or(|(_, b)| before(v, b) || (is_nan(v) && !is_nan(b))) {
            best = Some((i, v));
        }
    }
    best.map_or(0, |(i, _)| i)
}

/// [`position`] in each lane along `axis`, which goes.
pub fn positions<T: Element>(
    x: ArrayViewD<'_, T>,
    axis: usize,
    before: impl Fn(T, T) -> bool + Copy + Send + Sync,
) -> ArrayD<i64> {
    Zip::from(x.lanes(Axis(axis))).map_collect(|lane| match lane.as_slice() {
        Some(lane) => position(lane.iter().copied(), before) as i64,
        None => position(lane.iter().copied(), before) as i64,
    })
}

/// `state = step(state, element, index)` along each lane of `axis`, from its end if `reverse`; `get` of each state.
pub fn scan<T: Element, S: Copy, U: Element>(
    x: ArrayViewD<'_, T>,
    axis: usize,
    reverse: bool,
    start: S,
    step: impl Fn(S, T, usize) -> S,
    get: impl Fn(S) -> U,
) -> ArrayD<U> {
    let mut out = ArrayD::from_elem(x.raw_dim(), U::ZERO);
    Zip::from(x.lanes(Axis(axis))).and(out.lanes_mut(Axis(axis))).for_each(|x, mut out| {
        let (n, mut state) = (x.len(), start);
        for i in 0..n {
            let i = if reverse { n - 1 - i } else { i };
            state = step(state, x[i], i);
            out[i] = get(state);
        }
    });
    out
}

/// The running sum along `axis`, from its end if `reverse`; `f32` adds in `f64`.
pub fn cumsum<T: Number>(x: ArrayViewD<'_, T>, axis: usize, reverse: bool) -> ArrayD<T> {
    match T::DTYPE {
        DType::F32 => scan(x, axis, reverse, 0., |s, x, _| s + x.as_f64(), T::of),
        _ => scan(x, axis, reverse, T::ZERO, |s, x, _| s + x, |s| s),
    }
}

/// The running product along `axis`; `f32` multiplies in `f64`.
pub fn cumprod<T: Number>(x: ArrayViewD<'_, T>, axis: usize) -> ArrayD<T> {
    match T::DTYPE {
        DType::F32 => scan(x, axis, false, 1., |s, x, _| s * x.as_f64(), T::of),
        _ => scan(x, axis, false, T::ONE, |s, x, _| s * x, |s| s),
    }
}

/// `log(eᵃ + eᵇ)`
fn log_add_exp<T: Real>(a: T, b: T) -> T {
    let (low, high) = (smaller(a, b), greater(a, b));
    if high.is_infinite() || low == T::neg_infinity() { high } else { high + (low - high).exp().ln_1p() }
}

/// The logarithm of the running sum of exponentials along `axis`, from its end if `reverse`; `f32` adds in `f64`.
pub fn logcumsumexp<T: Real>(x: ArrayViewD<'_, T>, axis: usize, reverse: bool) -> ArrayD<T> {
    match T::DTYPE {
        DType::F32 => scan(x, axis, reverse, -f64::INFINITY, |s, x, _| log_add_exp(s, x.as_f64()), T::of),
        _ => scan(x, axis, reverse, T::neg_infinity(), |s, x, _| log_add_exp(s, x), |s| s),
    }
}

/// The gradient of [`logcumsumexp`]'s input `x` from that of its output `y`: positive and negative gradients apart, by
/// their logarithms, as PyTorch adds them up; where x is large this decides how `f32` rounds.
pub fn logcumsumexp_backward<T: Real>(
    g: ArrayViewD<'_, T>,
    x: ArrayViewD<'_, T>,
    y: ArrayViewD<'_, T>,
    axis: usize,
) -> ArrayD<T> {
    let part = |sign: T| {
        let log = |g: T| if g * sign > T::ZERO { g.abs().ln() } else { T::min_value() };
        let logs = Zip::from(&g).and(&y).map_collect(|&g, &y| log(g) - y);
        let sums = logcumsumexp(logs.view(), axis, true);
        Zip::from(&sums).and(&x).map_collect(|&s, &x| (s + x).exp())
    };
    part(T::ONE) - part(-T::ONE)
}

/// `x` moved by `by` along `axis`; what comes in from outside is `fill`.
pub fn shift<T: Element>(x: ArrayViewD<'_, T>, axis: usize, by: isize, fill: T) -> ArrayD<T> {
    let mut out = ArrayD::from_elem(x.raw_dim(), fill);
    let (n, k) = (x.len_of(Axis(axis)), by.unsigned_abs());
    if k < n {
        let (head, tail) = (ndarray::Slice::from(..n - k), ndarray::Slice::from(k..));
        let (from, to) = if by >= 0 { (head, tail) } else { (tail, head) };
        out.slice_axis_mut(Axis(axis), to).assign(&x.slice_axis(Axis(axis), from));
    }
    out
}
