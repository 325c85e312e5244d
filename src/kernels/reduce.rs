//! Reductions, scans and searches along axes.
//!
//! Elements are combined in lanes and in levels of a few elements each, split by length alone: sums of many `f32` stay
//! accurate, and the bits do not depend on the number of threads.

use std::{hint::black_box, mem::MaybeUninit, ops::Range};

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};

use super::{
    copy::{contiguous, copy_into},
    elementwise::{Body, write_pairs, zip},
    gather::Rows,
    isa::{Isa, Kernel, dispatch_for, dispatch_narrow, with_baseline},
    layout::{array, memory_order, row_major, sort_falling},
    memory::{collected, copied, filled, full, recycle, vector},
    scalar::{is_nan, log_add_exp},
    threads,
    thresholds::{REDUCE_PARALLEL as PARALLEL, REDUCE_TASK as TASK},
};
use crate::number::{DType, Element, Number, Real};

/// Maximum number of columns per task: their sums stay in the first-level cache.
const WIDE: usize = 1 << 11;
/// Elements that are combined in parallel lanes.
const LANES: usize = 32;
/// Terms of a sum that are written at a time: they stay in the first-level cache.
const NEAR: usize = 1 << 12;
/// Elements that are combined one after another before the next level takes their result.
const LEVEL: usize = 16;

// ------------------------------------------------------------------------------------------------------ runs of elements

/// What is combined: one number per place.
pub(super) trait Terms<T>: Copy {
    /// `N` terms, from one place on.
    fn at<const N: usize>(self, from: usize) -> [T; N];
}

/// `f([x[i], y[i], …])`
#[derive(Clone, Copy)]
pub(super) struct Each<'a, A, F, const K: usize>(pub [&'a [A]; K], pub F);

impl<A: Copy, T: Element, F: Fn([A; K]) -> T + Copy, const K: usize> Terms<T> for Each<'_, A, F, K> {
    #[inline(always)]
    fn at<const N: usize>(self, from: usize) -> [T; N] {
        let (mut inputs, mut out) = (self.0, [T::ZERO; N]);
        for x in &mut inputs {
            *x = &x[from..from + N];
        }
        for (i, out) in out.iter_mut().enumerate() {
            *out = (self.1)(at_place(&inputs, i));
        }
        out
    }
}

/// The elements at place `i`. (`map` of an array is compiled in ten pieces for each of its uses.)
#[inline(always)]
pub(super) fn at_place<A: Copy, const K: usize>(inputs: &[&[A]; K], i: usize) -> [A; K] {
    let mut out = [inputs[0][i]; K];
    for k in 1..K {
        out[k] = inputs[k][i];
    }
    out
}

#[inline(always)]
fn join<T: Copy, const N: usize>(into: &mut [T; N], x: [T; N], f: impl Fn(T, T) -> T + Copy) {
    for i in 0..N {
        into[i] = f(into[i], x[i]);
    }
}

/// Combines `n` terms with `f`, which is associative and commutative. To be called inside [`dispatch`].
#[inline(always)]
pub(super) fn combine<T: Element>(terms: impl Terms<T>, n: usize, identity: T, f: impl Fn(T, T) -> T + Copy) -> T {
    let (mut lanes, mut at) = ([identity; LANES], 0);
    while at + LANES <= n {
        let end = n.min(at + LANES * LEVEL * LEVEL);
        let mut middle = [identity; LANES];
        while at + LANES <= end {
            let end = end.min(at + LANES * LEVEL);
            let mut leaf = [identity; LANES];
            while at + LANES <= end {
                join(&mut leaf, terms.at(at), f);
                at += LANES;
            }
            join(&mut middle, leaf, f);
        }
        join(&mut lanes, middle, f);
    }
    // Without this the compiler arranges the lanes above for the way they are combined below, which is ten times
    // slower.
    let lanes = black_box(lanes);
    let mut eight = [identity; 8];
    while at + 8 <= n {
        join(&mut eight, terms.at(at), f);
        at += 8;
    }
    let mut eight = black_box(eight);
    if n >= LANES {
        for i in 0..8 {
            eight[i] = f(eight[i], f(f(lanes[i], lanes[i + 8]), f(lanes[i + 16], lanes[i + 24])));
        }
    }
    let mut out = identity;
    if n >= 8 {
        let [a, b, c, d, e, g, h, i] = eight;
        out = f(f(f(a, e), f(b, g)), f(f(c, h), f(d, i)));
    }
    for i in at..n {
        let [last] = terms.at::<1>(i);
        out = f(out, last);
    }
    out
}

/// In one pass: `f` takes the inputs at one place, and returns `S` numbers that are summed over all places and `M`
/// numbers that are added to `per_place` at that place. To be called inside [`dispatch`].
#[inline(always)]
pub(super) fn sums<T: Number, const K: usize, const S: usize, const M: usize>(
    inputs: [&[T]; K],
    per_place: [&mut [T]; M],
    f: impl Fn([T; K]) -> ([T; S], [T; M]) + Copy,
) -> [T; S] {
    let n = inputs[0].len();
    let (mut total, mut at) = ([[T::ZERO; LANES]; S], 0);
    while at + LANES <= n {
        let end = n.min(at + LANES * LEVEL * LEVEL);
        let mut middle = [[T::ZERO; LANES]; S];
        while at + LANES <= end {
            let end = end.min(at + LANES * LEVEL);
            let mut leaf = [[T::ZERO; LANES]; S];
            while at + LANES <= end {
                // By value, so that the compiler sees that they do not overlap.
                let (mut x, mut places) = ([[T::ZERO; LANES]; K], [[T::ZERO; LANES]; M]);
                for k in 0..K {
                    x[k] = block(inputs[k], at);
                }
                for m in 0..M {
                    places[m] = block(per_place[m], at);
                }
                for i in 0..LANES {
                    let mut one = [T::ZERO; K];
                    for k in 0..K {
                        one[k] = x[k][i];
                    }
                    let (over, here) = f(one);
                    for s in 0..S {
                        leaf[s][i] += over[s];
                    }
                    for m in 0..M {
                        places[m][i] += here[m];
                    }
                }
                for m in 0..M {
                    per_place[m][at..at + LANES].copy_from_slice(&places[m]);
                }
                at += LANES;
            }
            for s in 0..S {
                join(&mut middle[s], leaf[s], |a, b| a + b);
            }
        }
        for s in 0..S {
            join(&mut total[s], middle[s], |a, b| a + b);
        }
    }
    for i in at..n {
        let (over, here) = f(at_place(&inputs, i));
        for s in 0..S {
            total[s][i - at] += over[s];
        }
        for m in 0..M {
            per_place[m][i] += here[m];
        }
    }
    // As in `combine`.
    let (mut total, mut out) = (black_box(total), [T::ZERO; S]);
    for s in 0..S {
        let mut half = LANES / 2;
        while half > 0 {
            for i in 0..half {
                total[s][i] += total[s][i + half];
            }
            half /= 2;
        }
        out[s] = total[s][0];
    }
    out
}

#[inline(always)]
fn block<T: Copy>(x: &[T], at: usize) -> [T; LANES] {
    x[at..at + LANES].try_into().expect("so many lanes")
}

/// Integers and truth values are combined by what every CPU has: one version is compiled for them. Sums gain a tenth from
/// AVX-512 in the first-level cache, extremes nothing.
fn choose<T: Element, K: Kernel, const SUM: bool>(kernel: K) -> K::Output {
    if !T::REAL {
        with_baseline(kernel)
    } else if SUM {
        dispatch_for::<T, _>(kernel)
    } else {
        dispatch_narrow(kernel)
    }
}

struct FoldContiguous<T, S, F> {
    terms: S,
    n: usize,
    identity: T,
    f: F,
}

impl<T: Element, S: Terms<T>, F: Fn(T, T) -> T + Copy> Kernel for FoldContiguous<T, S, F> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self) -> T {
        combine(self.terms, self.n, self.identity, self.f)
    }
}

/// Combines a contiguous slice into one element, on this thread.
pub fn fold_contiguous<T: Element>(x: &[T], identity: T, f: impl Fn(T, T) -> T + Copy) -> T {
    choose::<T, _, true>(FoldContiguous { terms: Each([x], |[x]: [T; 1]| x), n: x.len(), identity, f })
}

/// `Σ term(x, y)` over the places of two slices of one length: the terms of a part are written, then added.
pub fn sum_of<T: Number>(x: &[T], y: &[T], term: Body<'_, (T, T), T>) -> T {
    let sum = |part: Range<usize>| {
        let mut terms = [MaybeUninit::uninit(); NEAR];
        let terms = write_pairs(&x[part.clone()], &y[part.clone()], &mut terms[..part.len()], term);
        fold_contiguous(terms, T::ZERO, T::plus)
    };
    let parts = x.len().div_ceil(NEAR);
    if parts < 2 {
        return sum(0..x.len());
    }
    let part = |i: usize| sum(i * NEAR..x.len().min((i + 1) * NEAR));
    let sums = if x.len() < PARALLEL { collected((0..parts).map(part)) } else { threads::collect(parts, part) };
    fold_contiguous(&sums, T::ZERO, T::plus)
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

struct Columns<'a, T, F> {
    of: Blocks<'a, T>,
    identity: T,
    f: F,
}

impl<T: Element, F: Fn(T, T) -> T + Copy> Kernel for Columns<'_, T, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Columns { of: Blocks { x, block, stride, count, width, out }, identity, f } = self;
        for (out, x) in out.chunks_exact_mut(width).zip(x.chunks_exact(block)) {
            if width == 1 && stride == 1 {
                out[0] = f(out[0], combine(Each([&x[..count]], |[x]: [T; 1]| x), count, identity, f));
                continue;
            }
            // Narrow rows: several side by side are treated as one.
            let several = LANES / width;
            if several < 2 || stride != width || count < 2 * several {
                level(x, stride, count, out, identity, f);
                continue;
            }
            let mut wide = [identity; LANES];
            let wide = &mut wide[..several * width];
            level(x, wide.len(), count / several, wide, identity, f);
            let rest = &x[count / several * wide.len()..count * width];
            for row in wide.chunks_exact(width).chain(rest.chunks_exact(width)) {
                add_row(out, row, f);
            }
        }
    }
}

#[inline(always)]
pub(super) fn add_row<T: Copy>(out: &mut [T], row: &[T], f: impl Fn(T, T) -> T + Copy) {
    for (o, &x) in out.iter_mut().zip(row) {
        *o = f(*o, x);
    }
}

/// Combines rows into `out`; if there are many, through an intermediate result.
#[inline(always)]
fn level<T: Element>(x: &[T], stride: usize, rows: usize, out: &mut [T], identity: T, f: impl Fn(T, T) -> T + Copy) {
    const MANY: usize = 8 * LEVEL;
    let mut middle = filled(if rows > MANY { out.len() } else { 0 }, identity);
    for from in (0..rows).step_by(MANY) {
        middle.fill(identity);
        let into = if rows > MANY { &mut middle[..] } else { &mut *out };
        by_eight(&x[from * stride..], stride, MANY.min(rows - from), into, f);
        if rows > MANY {
            add_row(out, &middle, f);
        }
    }
    recycle(middle);
}

/// Combines rows into `out`, eight at a time: `out` is read and written once for all eight.
#[inline(always)]
fn by_eight<T: Element>(x: &[T], stride: usize, rows: usize, out: &mut [T], f: impl Fn(T, T) -> T + Copy) {
    let width = out.len();
    let row = |i: usize| &x[i * stride..][..width];
    let mut at = 0;
    while at + 8 <= rows {
        let (a, b, c, d) = (row(at), row(at + 1), row(at + 2), row(at + 3));
        let (e, g, h, k) = (row(at + 4), row(at + 5), row(at + 6), row(at + 7));
        for i in 0..width {
            let halves = (f(f(a[i], b[i]), f(c[i], d[i])), f(f(e[i], g[i]), f(h[i], k[i])));
            out[i] = f(out[i], f(halves.0, halves.1));
        }
        at += 8;
    }
    for i in at..rows {
        add_row(out, row(i), f);
    }
}

/// Combines rows of the length of `out` into it, on this thread.
pub(super) fn fold_rows<T: Element>(x: &[T], out: &mut [T], identity: T, f: impl Fn(T, T) -> T + Copy) {
    if !out.is_empty() {
        let width = out.len();
        let of = Blocks { x, block: x.len().max(1), stride: width, count: x.len() / width, width, out };
        choose::<T, _, true>(Columns { of, identity, f });
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

/// A function that combines elements, as what goes through arrays needs of it: that is compiled for the types alone.
#[derive(Clone, Copy)]
struct Fold<'a, T> {
    identity: T,
    /// [`Columns`] with the function.
    columns: &'a (dyn Fn(Blocks<'_, T>) + Sync),
}

/// `[outer, n, inner]` to `[outer, inner]`.
fn fold_middle<T: Element>(x: &[T], [outer, n, inner]: [usize; 3], fold: Fold<'_, T>) -> Vec<T> {
    let Fold { identity, columns } = fold;
    if x.is_empty() {
        return filled(outer * inner, identity);
    }
    let block = n * inner;
    // Blocks per part.
    let part = (TASK / inner.min(WIDE)).next_multiple_of(8 * LEVEL);
    if x.len() < PARALLEL || (n <= part && inner <= WIDE) {
        let mut out = filled(outer * inner, identity);
        let blocks = if x.len() < PARALLEL { outer } else { (TASK / block).max(1) };
        threads::chunks(&mut out, blocks * inner, |i, out| {
            columns(Blocks { x: &x[i * blocks * block..], block, stride: inner, count: n, width: inner, out });
        });
        return out;
    }
    let parts = n.div_ceil(part);
    let mut sums = filled(outer * parts * inner, identity);
    let tiles = sums.chunks_exact_mut(inner).enumerate().flat_map(|(i, row)| {
        let (from, count) = (i / parts * n + i % parts * part, part.min(n - i % parts * part));
        row.chunks_mut(WIDE).enumerate().map(move |(j, out)| (from * inner + j * WIDE, count, out))
    });
    threads::each(x.len(), tiles, |(from, count, out)| {
        let x = &x[from..];
        columns(Blocks { x, block: x.len(), stride: inner, count, width: out.len(), out });
    });
    if parts == 1 {
        return sums;
    }
    let mut out = filled(outer * inner, identity);
    for (out, sums) in out.chunks_exact_mut(inner).zip(sums.chunks_exact_mut(parts * inner)) {
        // A single row, so any stride would do; with 1, a row of one number would be summed in lanes.
        halve(sums, inner, &|out, x| columns(Blocks { x, block: x.len(), stride: 2, count: 1, width: x.len(), out }));
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
    fold_by(x, axes, Fold { identity, columns: &|of| choose::<T, _, false>(Columns { of, identity, f }) })
}

fn fold_by<T: Element>(x: ArrayViewD<'_, T>, axes: &[usize], fold: Fold<'_, T>) -> ArrayD<T> {
    if let Some(data) = x.as_slice() {
        return fold_slice(data, x.shape(), &|axis| axes.contains(&axis), fold);
    }
    let order = memory_order(&x);
    let x = x.permuted_axes(IxDyn(&order));
    let data = row_major(&x);
    let out = fold_slice(&data, x.shape(), &|axis| axes.contains(&order[axis]), fold);
    let kept: Vec<usize> = order.into_iter().filter(|axis| !axes.contains(axis)).collect();
    let mut back: Vec<usize> = (0..kept.len()).collect();
    sort_falling(&mut back, |&i| -(kept[i] as isize));
    if back.is_sorted() { out } else { contiguous(out.view().permuted_axes(IxDyn(&back))) }
}

/// [`fold`] of an array in row-major order.
fn fold_slice<T: Element>(x: &[T], shape: &[usize], reduced: &dyn Fn(usize) -> bool, fold: Fold<'_, T>) -> ArrayD<T> {
    let kept: Vec<usize> = shape.iter().enumerate().filter(|&(axis, _)| !reduced(axis)).map(|(_, &n)| n).collect();
    if x.is_empty() {
        // Reducing axis by axis might make it larger in between.
        let data = filled(kept.iter().product(), fold.identity);
        return array(&kept, data);
    }
    // Neighbouring axes that are both kept or both reduced become one; axes of length 1 are dropped.
    let mut groups: Vec<(bool, usize)> = Vec::with_capacity(shape.len());
    for (axis, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
        match groups.last_mut() {
            Some((kind, size)) if *kind == reduced(axis) => *size *= n,
            _ => groups.push((reduced(axis), n)),
        }
    }
    let mut data: Option<Vec<T>> = None;
    while let Some(at) = groups.iter().rposition(|&(reduced, _)| reduced) {
        let size = |groups: &[(bool, usize)]| groups.iter().map(|g| g.1).product::<usize>();
        let sizes = [size(&groups[..at]), groups[at].1, size(&groups[at + 1..])];
        let next = fold_middle(data.as_deref().unwrap_or(x), sizes, fold);
        data.replace(next).into_iter().for_each(recycle);
        groups.remove(at);
    }
    let data = data.unwrap_or_else(|| copied(x));
    array(&kept, data)
}

/// The sum along `axes`; of `bool`, whether any is true.
pub fn sum<T: Element>(x: ArrayViewD<'_, T>, axes: &[usize]) -> ArrayD<T> {
    let columns = |of: Blocks<'_, T>| choose::<T, _, true>(Columns { of, identity: T::ZERO, f: T::plus });
    fold_by(x, axes, Fold { identity: T::ZERO, columns: &columns })
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
    let (data, lanes) = (row_major(&x), Rows::new(x.shape(), axis));
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    let mut out = vector(shape.iter().product());
    // Not axis by axis: there may be very many blocks without elements.
    for lane in 0..lanes.outer * lanes.inner {
        out.push(position(&data[lanes.lane(lane)..], lanes.len, lanes.inner, before) as i64);
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
) -> ArrayD<T> {
    let part = |sign: T| {
        let log = |g: T| if g * sign > T::ZERO { g.abs().ln() } else { T::min_value() };
        let logs = zip(g.view(), y.view(), x.shape(), |g, y| log(g) - y);
        let sums = logcumsumexp(logs.view(), axis, true);
        zip(sums.view(), x.view(), x.shape(), |s, x| (s + x).exp())
    };
    part(T::ONE) - part(-T::ONE)
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
