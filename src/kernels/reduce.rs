//! Reductions, scans and searches along axes.
//!
//! Elements are combined in lanes and in levels of a few elements each, split by length alone: sums of many `f32` stay
//! accurate, and the bits do not depend on the number of threads.

use std::{mem::MaybeUninit, ops::Range};

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};

use super::{
    copy::{contiguous, copy_into},
    elementwise::{Body, write_pairs, zip},
    gather::Rows,
    isa::{Isa, Kernel, dispatch_light},
    layout::{Shared, array, memory_order, row_major, sort_falling},
    memory::{copied, filled, full, recycle, vector},
    passes::{self, LANES, LEVEL, combine},
    scalar::{is_nan, log_add_exp},
    threads::{self, Cut},
    thresholds::{REDUCE_PARALLEL as PARALLEL, REDUCE_TASK as TASK},
};
use crate::number::{DType, Element, Number, Real};

/// Maximum number of columns per task: their sums stay in the first-level cache.
const WIDE: usize = 1 << 11;
/// Terms of a sum that are written at a time: they stay in the first-level cache.
const NEAR: usize = 1 << 12;

/// `Σ term(x, y)` over the places of two slices of one length: the terms of a part are written, then added.
pub fn sum_of<T: Number>(x: &[T], y: &[T], term: Body<'_, (T, T), T>) -> T {
    let sum = |part: Range<usize>| {
        let mut terms = [MaybeUninit::uninit(); NEAR];
        let terms = write_pairs(&x[part.clone()], &y[part.clone()], &mut terms[..part.len()], term);
        passes::sum(terms)
    };
    let parts = x.len().div_ceil(NEAR);
    if parts < 2 {
        return sum(0..x.len());
    }
    let part = |i: usize| sum(i * NEAR..x.len().min((i + 1) * NEAR));
    let mut sums = filled(parts, T::ZERO);
    if x.len() < PARALLEL {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = part(i);
        }
    } else {
        threads::chunks(&mut sums, 1, &|i, sum| sum[0] = part(i));
    }
    passes::sum(&sums)
}

// ---------------------------------------------------------------------------------------------------- rows of elements

/// Blocks of rows, each of which is combined into one row of `out`.
struct Blocks<'a, T> {
    x: &'a [T],
    /// The elements per block.
    block: usize,
    /// The distance of its rows, and their number.
    stride: usize,
    count: usize,
    /// The length of a row.
    width: usize,
    out: &'a mut [T],
}

/// Combines `count` elements from the start of each block of `x` into one of `out`.
struct Lanes<'a, T, F> {
    x: &'a [T],
    block: usize,
    count: usize,
    out: &'a mut [T],
    identity: T,
    f: F,
}

impl<T: Element, F: Fn(T, T) -> T + Copy> Kernel for Lanes<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for (out, x) in self.out.iter_mut().zip(self.x.chunks_exact(self.block)) {
            let [all] = combine::<T, I, _, _>([&x[..self.count]], |x| x, self.identity, self.f);
            *out = (self.f)(*out, all);
        }
    }
}

/// Combines `count` rows into `out`, eight at a time: `out` is read and written once for all eight.
struct ByEight<'a, T, F> {
    x: &'a [T],
    stride: usize,
    count: usize,
    out: &'a mut [T],
    f: F,
}

impl<T: Element, F: Fn(T, T) -> T + Copy> Kernel for ByEight<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        by_eight(self.x, self.stride, self.count, self.out, self.f);
    }
}

/// A function, so that the compiler knows that `out` does not overlap `x`.
#[inline(always)]
fn by_eight<T: Element>(x: &[T], stride: usize, count: usize, out: &mut [T], f: impl Fn(T, T) -> T + Copy) {
    let width = out.len();
    let row = |i: usize| &x[i * stride..][..width];
    let mut at = 0;
    while at + 8 <= count {
        let (a, b, c, d) = (row(at), row(at + 1), row(at + 2), row(at + 3));
        let (e, g, h, k) = (row(at + 4), row(at + 5), row(at + 6), row(at + 7));
        for i in 0..width {
            let halves = (f(f(a[i], b[i]), f(c[i], d[i])), f(f(e[i], g[i]), f(h[i], k[i])));
            out[i] = f(out[i], f(halves.0, halves.1));
        }
        at += 8;
    }
    for i in at..count {
        add_row(out, row(i), f);
    }
}

#[inline(always)]
pub(super) fn add_row<T: Copy>(out: &mut [T], row: &[T], f: impl Fn(T, T) -> T + Copy) {
    for (o, &x) in out.iter_mut().zip(row) {
        *o = f(*o, x);
    }
}

/// A function that combines elements, as what goes through arrays needs of it: that is compiled for the types alone.
#[derive(Clone, Copy)]
struct Fold<'a, T> {
    identity: T,
    /// [`Lanes`] with the function: of `x`, `block`, `count` and `out`.
    lanes: &'a (dyn Fn(&[T], usize, usize, &mut [T]) + Sync),
    /// [`ByEight`] with the function: of `x`, `stride`, `count` and `out`.
    rows: &'a (dyn Fn(&[T], usize, usize, &mut [T]) + Sync),
}

impl<T: Element> Fold<'_, T> {
    /// Calls `then` with the function `f`, which is associative and commutative.
    fn with<R>(identity: T, f: impl Fn(T, T) -> T + Copy + Sync, then: impl FnOnce(Fold<'_, T>) -> R) -> R {
        let lanes = |x: &[T], block, count, out: &mut [T]| {
            dispatch_light::<T, false, _>(Lanes { x, block, count, out, identity, f });
        };
        let rows = |x: &[T], stride, count, out: &mut [T]| {
            dispatch_light::<T, false, _>(ByEight { x, stride, count, out, f });
        };
        then(Fold { identity, lanes: &lanes, rows: &rows })
    }

    #[inline(never)]
    fn columns(self, of: Blocks<'_, T>) {
        let Blocks { x, block, stride, count, width, out } = of;
        if width == 1 && stride == 1 {
            return (self.lanes)(x, block, count, out);
        }
        // Narrow rows: several side by side are treated as one.
        let several = LANES / width;
        if several < 2 || stride != width || count < 2 * several {
            for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(block)) {
                self.level(x, stride, count, out);
            }
            return;
        }
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(block)) {
            let mut wide = [self.identity; LANES];
            let wide = &mut wide[..several * width];
            self.level(x, wide.len(), count / several, wide);
            (self.rows)(wide, width, several, out);
            (self.rows)(&x[count / several * wide.len()..], width, count % several, out);
        }
    }

    /// Combines rows into `out`; if there are many, through an intermediate result.
    #[inline(never)]
    fn level(self, x: &[T], stride: usize, rows: usize, out: &mut [T]) {
        const MANY: usize = 8 * LEVEL;
        if rows <= MANY {
            return (self.rows)(x, stride, rows, out);
        }
        let mut middle = filled(out.len(), self.identity);
        for from in (0..rows).step_by(MANY) {
            middle.fill(self.identity);
            (self.rows)(&x[from * stride..], stride, MANY.min(rows - from), &mut middle);
            (self.rows)(&middle, 0, 1, out);
        }
        recycle(middle);
    }
}

/// Combines rows of the length of `out` into it, on this thread.
pub(super) fn fold_rows<T: Element>(x: &[T], out: &mut [T], identity: T, f: impl Fn(T, T) -> T + Copy + Sync) {
    if !out.is_empty() {
        let width = out.len();
        let of = Blocks { x, block: x.len().max(1), stride: width, count: x.len() / width, width, out };
        Fold::with(identity, f, |fold| fold.columns(of));
    }
}

/// Combines rows of one length, stored one after another in `rows`, into the first one, by halves: `combine` adds one of two
/// parts to the other.
pub(super) fn halve<T>(rows: &mut [T], width: usize, combine: &dyn Fn(&mut [T], &[T])) {
    let mut count = rows.len() / width.max(1);
    while count > 1 {
        let half = count.div_ceil(2);
        let (low, high) = rows.split_at_mut(half * width);
        let rest = (count - half) * width;
        combine(&mut low[..rest], &high[..rest]);
        count = half;
    }
}

/// `[outer, n, inner]` to `[outer, inner]`.
#[allow(unsafe_code)]
fn fold_middle<T: Element>(x: &[T], [outer, n, inner]: [usize; 3], fold: Fold<'_, T>) -> Vec<T> {
    let identity = fold.identity;
    if x.is_empty() {
        return filled(outer * inner, identity);
    }
    let block = n * inner;
    // Blocks per part.
    let part = (TASK / inner.min(WIDE)).next_multiple_of(8 * LEVEL);
    if x.len() < PARALLEL || (n <= part && inner <= WIDE) {
        let mut out = filled(outer * inner, identity);
        let blocks = if x.len() < PARALLEL { outer } else { (TASK / block).max(1) };
        threads::chunks(&mut out, blocks * inner, &|i, out| {
            fold.columns(Blocks { x: &x[i * blocks * block..], block, stride: inner, count: n, width: inner, out });
        });
        return out;
    }
    let parts = n.div_ceil(part);
    let mut sums = filled(outer * parts * inner, identity);
    let (pieces, cut) = (inner.div_ceil(WIDE), &Cut::new(&mut sums));
    threads::for_each(x.len(), outer * parts * pieces, &|task| {
        let (i, first) = (task / pieces, task % pieces * WIDE);
        let (row, count) = (i / parts * n + i % parts * part, part.min(n - i % parts * part));
        let (x, width) = (&x[row * inner + first..], WIDE.min(inner - first));
        // SAFETY: each piece of a row is handed out once.
        let out = unsafe { cut.part(i * inner + first, width) };
        fold.columns(Blocks { x, block: x.len(), stride: inner, count, width, out });
    });
    if parts == 1 {
        return sums;
    }
    let mut out = filled(outer * inner, identity);
    for (out, sums) in out.chunks_exact_mut(inner).zip(sums.chunks_exact_mut(parts * inner)) {
        // A single row, so any stride would do; with 1, a row of one number would be summed in lanes.
        halve(sums, inner, &|out, x| {
            fold.columns(Blocks { x, block: x.len(), stride: 2, count: 1, width: x.len(), out })
        });
        out.copy_from_slice(&sums[..inner]);
    }
    recycle(sums);
    out
}

// ------------------------------------------------------------------------------------------------------------ along axes

/// Combines all elements along `axes` (each given once) with `f`, which is associative and commutative; the other axes
/// keep their order.
pub fn fold<T: Element>(
    x: ArrayViewD<'_, T>,
    axes: &[usize],
    identity: T,
    f: impl Fn(T, T) -> T + Copy + Send + Sync,
) -> ArrayD<T> {
    Fold::with(identity, f, |fold| fold_by(x, axes, fold))
}

fn fold_by<T: Element>(x: ArrayViewD<'_, T>, axes: &[usize], fold: Fold<'_, T>) -> ArrayD<T> {
    if let Some(data) = x.as_slice() {
        return fold_slice(data, x.shape(), &|axis| axes.contains(&axis), fold);
    }
    let order = memory_order(&x);
    let x = x.permuted_axes(IxDyn(&order));
    let out = fold_slice(&row_major(&x), x.shape(), &|axis| axes.contains(&order[axis]), fold);
    match kept_order(&order, axes) {
        back if back.is_sorted() => out,
        back => contiguous(out.view().permuted_axes(IxDyn(&back))),
    }
}

/// Where each axis that is not in `axes` stands among such axes, if all stand in this order.
fn kept_order(order: &[usize], axes: &[usize]) -> Vec<usize> {
    let (mut kept, mut back) = (Vec::new(), Vec::new());
    for axis in order.iter().filter(|axis| !axes.contains(axis)) {
        back.push(kept.len());
        kept.push(*axis);
    }
    sort_falling(&mut back, |&i| -(kept[i] as isize));
    back
}

/// [`fold`] of an array in row-major order.
fn fold_slice<T: Element>(x: &[T], shape: &[usize], reduced: &dyn Fn(usize) -> bool, fold: Fold<'_, T>) -> ArrayD<T> {
    let (kept, mut groups) = groups(shape, reduced);
    if x.is_empty() {
        // Reducing axis by axis might make it larger in between.
        let data = filled(kept.iter().product(), fold.identity);
        return array(&kept, data);
    }
    let mut data: Option<Vec<T>> = None;
    while let Some(sizes) = last(&mut groups) {
        let next = fold_middle(data.as_deref().unwrap_or(x), sizes, fold);
        if let Some(before) = data.replace(next) {
            recycle(before);
        }
    }
    let data = data.unwrap_or_else(|| copied(x));
    array(&kept, data)
}

/// The lengths of the axes that are kept, and all lengths in groups of axes that are reduced or kept.
fn groups(shape: &[usize], reduced: &dyn Fn(usize) -> bool) -> (Vec<usize>, Vec<(bool, usize)>) {
    let (mut kept, mut groups) = (Vec::new(), Vec::<(bool, usize)>::with_capacity(shape.len()));
    for (axis, &n) in shape.iter().enumerate() {
        let reduced = reduced(axis);
        if !reduced {
            kept.push(n);
        }
        // Neighbouring axes that are both kept or both reduced become one; axes of length 1 are dropped.
        match groups.last_mut() {
            _ if n == 1 => (),
            Some((kind, size)) if *kind == reduced => *size *= n,
            _ => groups.push((reduced, n)),
        }
    }
    (kept, groups)
}

/// Removes the last group that is reduced: its length, and those of all before and all behind it.
fn last(groups: &mut Vec<(bool, usize)>) -> Option<[usize; 3]> {
    let (mut at, mut inner) = (groups.len(), 1);
    while at > 0 {
        at -= 1;
        let (reduced, n) = groups[at];
        if reduced {
            groups.remove(at);
            return Some([groups[..at].iter().map(|group| group.1).product(), n, inner]);
        }
        inner *= n;
    }
    None
}

/// The sum along `axes`; of `bool`, whether any is true.
pub fn sum<T: Element>(x: ArrayViewD<'_, T>, axes: &[usize]) -> ArrayD<T> {
    Fold::with(T::ZERO, T::plus, |fold| fold_by(x, axes, fold))
}

/// The position of the first of `len` elements of `x`, `step` apart, that no other precedes in the order of `before`; NaN
/// precedes all.
pub fn position<T: Element>(x: &[T], len: usize, step: usize, before: impl Fn(T, T) -> bool + Copy) -> usize {
    let Some(&(mut best)) = x.first().filter(|_| len > 0) else { return 0 };
    let mut place = 0;
    let mut compare = |i, v| {
        if before(v, best) || (is_nan(v) && !is_nan(best)) {
            (best, place) = (v, i);
        }
    };
    // A loop of its own, in which the compiler knows the step.
    if step == 1 {
        x[..len].iter().enumerate().for_each(|(i, &v)| compare(i, v));
    } else {
        (0..len).for_each(|i| compare(i, x[i * step]));
    }
    place
}

/// [`position`] in each lane along `axis`, which is removed.
pub fn positions<T: Element>(
    x: ArrayViewD<'_, T>,
    axis: usize,
    before: impl Fn(T, T) -> bool + Copy + Send + Sync,
) -> ArrayD<i64> {
    of_lanes(x, axis, &|lane, len, step| position(lane, len, step, before) as i64)
}

/// A number for each lane along `axis`, which is removed: of its elements, their number, and how far they are apart.
fn of_lanes<T: Element>(x: ArrayViewD<'_, T>, axis: usize, f: &dyn Fn(&[T], usize, usize) -> i64) -> ArrayD<i64> {
    let (data, lanes) = (row_major(&x), Rows::new(x.shape(), axis));
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    let mut out = vector(shape.iter().product());
    // Not axis by axis: there may be very many blocks without elements.
    for lane in 0..lanes.outer * lanes.inner {
        out.push(f(&data[lanes.lane(lane)..], lanes.len, lanes.inner));
    }
    array(&shape, out)
}

/// `state = step(state, element, index)` along each lane of `axis`, from its end if `reverse`; the result is `get` of
/// each state.
pub fn scan<T: Element, S: Copy, U: Element>(
    x: ArrayViewD<'_, T>,
    axis: usize,
    reverse: bool,
    start: S,
    step: impl Fn(S, T, usize) -> S,
    get: impl Fn(S) -> U,
) -> ArrayD<U> {
    let mut out = full("scan", x.shape(), U::ZERO);
    if x.is_empty() {
        // There may be very many lanes without elements.
        return out;
    }
    let (data, lanes) = (row_major(&x), Rows::new(x.shape(), axis));
    let out_data = out.as_slice_mut().expect("row-major order");
    for lane in 0..lanes.outer * lanes.inner {
        let (first, mut state) = (lanes.lane(lane), start);
        for i in 0..lanes.len {
            let i = if reverse { lanes.len - 1 - i } else { i };
            let at = first + i * lanes.inner;
            state = step(state, data[at], i);
            out_data[at] = get(state);
        }
    }
    out
}

/// The running sum along `axis`, from its end if `reverse`; `f32` is summed in `f64`.
pub fn cumsum<T: Number>(x: ArrayViewD<'_, T>, axis: usize, reverse: bool) -> ArrayD<T> {
    match T::DTYPE {
        DType::F32 => scan(x, axis, reverse, 0., |s, x, _| s + x.as_f64(), T::of),
        _ => scan(x, axis, reverse, T::ZERO, |s, x, _| s.plus(x), |s| s),
    }
}

/// The logarithm of the running sum of exponentials along `axis`, from its end if `reverse`; `f32` is summed in `f64`.
pub fn logcumsumexp<T: Real>(x: ArrayViewD<'_, T>, axis: usize, reverse: bool) -> ArrayD<T> {
    match T::DTYPE {
        DType::F32 => scan(x, axis, reverse, -f64::INFINITY, |s, x, _| log_add_exp(s, x.as_f64()), T::of),
        _ => scan(x, axis, reverse, T::neg_infinity(), |s, x, _| log_add_exp(s, x), |s| s),
    }
}

/// The gradient of [`logcumsumexp`]'s input `x` from that of its output `y`. Positive and negative gradients are added
/// separately, by their logarithms, as PyTorch does; where x is large this decides how `f32` rounds.
pub fn logcumsumexp_backward<T: Real>(
    g: ArrayViewD<'_, T>,
    x: ArrayViewD<'_, T>,
    y: ArrayViewD<'_, T>,
    axis: usize,
) -> Shared<T> {
    let part = |sign: T| {
        let log = |g: T| if g * sign > T::ZERO { g.abs().ln() } else { T::min_value() };
        let logs = zip(&g, &y, x.raw_dim(), |g, y| log(g) - y);
        let sums = logcumsumexp(logs.view(), axis, true);
        zip(&sums, &x, x.raw_dim(), |s, x| (s + x).exp())
    };
    zip(&part(T::ONE), &part(-T::ONE), x.raw_dim(), |a, b| a - b)
}

/// `x` moved by `by` along `axis`; places that become free get `fill`.
pub fn shift<T: Element>(x: ArrayViewD<'_, T>, axis: usize, by: isize, fill: T) -> ArrayD<T> {
    let mut out = full("shift", x.shape(), fill);
    let (n, k) = (x.len_of(Axis(axis)), by.unsigned_abs());
    if k < n {
        let (head, tail) = (ndarray::Slice::from(..n - k), ndarray::Slice::from(k..));
        let (from, to) = if by >= 0 { (head, tail) } else { (tail, head) };
        copy_into(out.slice_axis_mut(Axis(axis), to), x.slice_axis(Axis(axis), from));
    }
    out
}
