//! Elementwise maps over one, two or three arrays of dynamic rank: compiled for each instruction set, and split over the
//! threads where there is much to do.

use std::{mem::MaybeUninit, slice::from_raw_parts};

use ndarray::{ArrayD, ArrayViewD, Axis, IxDyn};

use super::{
    isa::{Isa, Kernel, dispatch},
    layout::{memory_order, row_major},
    memory::Aligned,
    prefetch, threads,
    vmath::fill,
};

/// From so many elements on the work is split; a task is [`PIECE`] elements.
const PARALLEL: usize = 1 << 16;
const PIECE: usize = 1 << 15;

/// So many elements are written before the memory of others is fetched.
const NOW: usize = 512;
/// So many elements that lie apart in memory are brought together at a time.
const GATHERED: usize = 256;

/// The shape that two shapes broadcast to, as NumPy and PyTorch define it; `None` where they do not.
pub fn broadcast_shape(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let mut out = long.to_vec();
    for (o, &s) in out.iter_mut().rev().zip(short.iter().rev()) {
        match (*o, s) {
            (x, y) if x == y => {}
            (1, y) => *o = y,
            (_, 1) => {}
            _ => return None,
        }
    }
    Some(out)
}

// ------------------------------------------------------------------------------------------------------- the functions

/// A function of one element or of a tuple of them, that may use [`VectorMath`](super::vmath::VectorMath); `at` must be
/// `#[inline(always)]`, as for [`Kernel`].
pub trait Map<X, Y>: Sync {
    /// Its value.
    fn at<I: Isa>(&self, x: X) -> Y;

    /// Fills `out` with its values at `x`, of the same length. A function of one array that is faster on many elements at
    /// once has its own form of this, and then every element goes through that one.
    #[inline(always)]
    fn each<I: Isa>(&self, x: &[X], out: &mut [MaybeUninit<Y>])
    where
        X: Copy,
    {
        fill(x, out, |x| self.at::<I>(x));
    }
}

/// Closures, which know no instruction set.
struct One<F>(F);
struct Two<F>(F);
struct Three<F>(F);

impl<A, B, F: Fn(A) -> B + Sync> Map<A, B> for One<F> {
    #[inline(always)]
    fn at<I: Isa>(&self, x: A) -> B {
        (self.0)(x)
    }
}

impl<A, B, C, F: Fn(A, B) -> C + Sync> Map<(A, B), C> for Two<F> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (A, B)) -> C {
        (self.0)(x, y)
    }
}

impl<A, B, C, D, F: Fn(A, B, C) -> D + Sync> Map<(A, B, C), D> for Three<F> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y, z): (A, B, C)) -> D {
        (self.0)(x, y, z)
    }
}

/// `f` of each element, in no promised order; the result lies in memory as `x` does where `x` has no gaps.
pub fn map<A, B>(x: ArrayViewD<'_, A>, f: impl Fn(A) -> B + Sync) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_with(x, One(f))
}

/// As [`map`], for a function that is compiled for each instruction set.
pub fn map_with<A, B>(x: ArrayViewD<'_, A>, f: impl Map<A, B>) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    if x.is_standard_layout() {
        return flat([&x], [1], x.len(), &f).array(x.raw_dim());
    }
    if in_memory_order(&x) {
        return as_laid_out(&x, flat([&x], [1], x.len(), &f));
    }
    let out = strided([&x], &Walk::new(x.shape(), [x.strides()]), &f);
    out.array(x.raw_dim())
}

/// `f` of each element, in row-major order: one plain loop, for conversions, which are bound by memory.
pub fn convert<A, B>(x: ArrayViewD<'_, A>, f: impl Fn(A) -> B + Sync) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    let elements = row_major(&x);
    let out = filled(x.len(), |start, out| {
        out.iter_mut().zip(&elements[start..]).for_each(|(out, &x)| {
            out.write(f(x));
        });
    });
    out.array(x.raw_dim())
}

/// `f` of each pair of elements of two arrays broadcast to `shape`, in no promised order.
pub fn zip<A, B, C>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    shape: &[usize],
    f: impl Fn(A, B) -> C + Sync,
) -> ArrayD<C>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Default + Send,
{
    zip_with(a, b, shape, Two(f))
}

/// As [`zip`], for a function that is compiled for each instruction set.
pub fn zip_with<A, B, C>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    shape: &[usize],
    f: impl Map<(A, B), C>,
) -> ArrayD<C>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Default + Send,
{
    if let (Some(s), Some(t)) = (flat_step(&a, shape), flat_step(&b, shape)) {
        let out = flat((&a, &b), [s, t], shape.iter().product(), &f);
        return out.array(shape);
    }
    if a.shape() == b.shape() && a.strides() == b.strides() && in_memory_order(&a) {
        return as_laid_out(&a, flat((&a, &b), [1, 1], a.len(), &f));
    }
    let a = a.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let out = strided((&a, &b), &Walk::new(shape, [a.strides(), b.strides()]), &f);
    out.array(shape)
}

/// `f` of each triple of elements of three arrays broadcast to `shape`, in no promised order.
pub fn zip3<A, B, C, D>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    c: ArrayViewD<'_, C>,
    shape: &[usize],
    f: impl Fn(A, B, C) -> D + Sync,
) -> ArrayD<D>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    D: Copy + Default + Send,
{
    zip3_with(a, b, c, shape, Three(f))
}

/// As [`zip3`], for a function that is compiled for each instruction set.
pub fn zip3_with<A, B, C, D>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    c: ArrayViewD<'_, C>,
    shape: &[usize],
    f: impl Map<(A, B, C), D>,
) -> ArrayD<D>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    D: Copy + Default + Send,
{
    if let (Some(s), Some(t), Some(u)) = (flat_step(&a, shape), flat_step(&b, shape), flat_step(&c, shape)) {
        let out = flat((&a, &b, &c), [s, t, u], shape.iter().product(), &f);
        return out.array(shape);
    }
    let a = a.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let c = c.broadcast(IxDyn(shape)).expect("a broadcastable shape");
    let out = strided((&a, &b, &c), &Walk::new(shape, [a.strides(), b.strides(), c.strides()]), &f);
    out.array(shape)
}

/// How far apart elements are that follow each other in row-major order of `shape`, if they are evenly: 1 without gaps, 0
/// for one element that is broadcast.
fn flat_step<A>(x: &ArrayViewD<'_, A>, shape: &[usize]) -> Option<isize> {
    if x.shape() == shape && x.is_standard_layout() {
        return Some(1);
    }
    (x.len() == 1).then_some(0)
}

/// Whether the elements lie in memory without gaps, and no axis runs backwards.
fn in_memory_order<A>(x: &ArrayViewD<'_, A>) -> bool {
    x.strides().iter().all(|&s| s > 0) && x.as_slice_memory_order().is_some()
}

/// An array with the shape and strides of `like`, from elements in memory order.
fn as_laid_out<A, B: Copy + Default>(like: &ArrayViewD<'_, A>, elements: Aligned<B>) -> ArrayD<B> {
    let order = memory_order(like);
    let shape: Vec<usize> = order.iter().map(|&axis| like.len_of(Axis(axis))).collect();
    // Where each axis is in that order.
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &axis)| place[axis] = at);
    elements.array(shape).permuted_axes(place)
}

// ----------------------------------------------------------------------------------------------------------- the loops

/// N arrays that are read together.
trait Sources<const N: usize>: Copy + Sync {
    /// One element of each.
    type Item;

    /// Fills `out` with `f` of the elements that start `offsets` from each array's first one and lie `steps` apart.
    ///
    /// # Safety
    /// These elements must be inside the arrays.
    #[allow(unsafe_code)]
    unsafe fn fill<I: Isa, Y>(
        self,
        offsets: [isize; N],
        steps: [isize; N],
        out: &mut [MaybeUninit<Y>],
        f: &impl Map<Self::Item, Y>,
    );
}

impl<A: Copy + Sync> Sources<1> for [&ArrayViewD<'_, A>; 1] {
    type Item = A;

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn fill<I: Isa, Y>(self, [i]: [isize; 1], [s]: [isize; 1], out: &mut [MaybeUninit<Y>], f: &impl Map<A, Y>) {
        // SAFETY: the caller promises that the elements are there; a step of 1 is a slice.
        unsafe {
            let p = self[0].as_ptr().offset(i);
            if s == 1 {
                return f.each::<I>(from_raw_parts(p, out.len()), out);
            }
            // Brought together they are a vector loop too.
            let mut near = [MaybeUninit::uninit(); GATHERED];
            for (n, out) in out.chunks_mut(GATHERED).enumerate() {
                let p = p.offset((n * GATHERED) as isize * s);
                for (k, near) in near[..out.len()].iter_mut().enumerate() {
                    near.write(*p.offset(k as isize * s));
                }
                f.each::<I>(from_raw_parts(near.as_ptr().cast(), out.len()), out);
            }
        }
    }
}

impl<A: Copy + Sync, B: Copy + Sync> Sources<2> for (&ArrayViewD<'_, A>, &ArrayViewD<'_, B>) {
    type Item = (A, B);

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn fill<I: Isa, Y>(
        self,
        [i, j]: [isize; 2],
        [s, t]: [isize; 2],
        out: &mut [MaybeUninit<Y>],
        f: &impl Map<(A, B), Y>,
    ) {
        let n = out.len();
        // SAFETY: as above.
        unsafe {
            let (p, q) = (self.0.as_ptr().offset(i), self.1.as_ptr().offset(j));
            match (s, t) {
                (1, 1) => {
                    for ((o, &x), &y) in out.iter_mut().zip(from_raw_parts(p, n)).zip(from_raw_parts(q, n)) {
                        o.write(f.at::<I>((x, y)));
                    }
                }
                (1, 0) => {
                    let y = *q;
                    for (o, &x) in out.iter_mut().zip(from_raw_parts(p, n)) {
                        o.write(f.at::<I>((x, y)));
                    }
                }
                (0, 1) => {
                    let x = *p;
                    for (o, &y) in out.iter_mut().zip(from_raw_parts(q, n)) {
                        o.write(f.at::<I>((x, y)));
                    }
                }
                _ => {
                    for (k, o) in out.iter_mut().enumerate() {
                        let k = k as isize;
                        o.write(f.at::<I>((*p.offset(k * s), *q.offset(k * t))));
                    }
                }
            }
        }
    }
}

impl<A: Copy + Sync, B: Copy + Sync, C: Copy + Sync> Sources<3>
    for (&ArrayViewD<'_, A>, &ArrayViewD<'_, B>, &ArrayViewD<'_, C>)
{
    type Item = (A, B, C);

    #[allow(unsafe_code)]
    #[inline(always)]
    unsafe fn fill<I: Isa, Y>(
        self,
        [i, j, k]: [isize; 3],
        [s, t, u]: [isize; 3],
        out: &mut [MaybeUninit<Y>],
        f: &impl Map<(A, B, C), Y>,
    ) {
        let n = out.len();
        // SAFETY: as above.
        unsafe {
            let (p, q, r) = (self.0.as_ptr().offset(i), self.1.as_ptr().offset(j), self.2.as_ptr().offset(k));
            if (s, t, u) == (1, 1, 1) {
                let (x, y, z) = (from_raw_parts(p, n), from_raw_parts(q, n), from_raw_parts(r, n));
                for (((o, &x), &y), &z) in out.iter_mut().zip(x).zip(y).zip(z) {
                    o.write(f.at::<I>((x, y, z)));
                }
            } else {
                for (k, o) in out.iter_mut().enumerate() {
                    let k = k as isize;
                    o.write(f.at::<I>((*p.offset(k * s), *q.offset(k * t), *r.offset(k * u))));
                }
            }
        }
    }
}

/// Some stretches of a [`Walk`], beginning with element number `start`.
struct Stretches<'a, const N: usize, S, F, Y> {
    sources: S,
    walk: &'a Walk<N>,
    start: usize,
    out: &'a mut [MaybeUninit<Y>],
    f: &'a F,
}

impl<const N: usize, S: Sources<N>, F: Map<S::Item, Y>, Y> Kernel for Stretches<'_, N, S, F, Y> {
    type Output = ();

    #[allow(unsafe_code)]
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Walk { axes, len, steps } = self.walk;
        let (mut index, mut offsets) = self.walk.position(self.start / len);
        let (mut skip, mut out) = (self.start % len, self.out);
        while !out.is_empty() {
            let (now, later) = out.split_at_mut(out.len().min(len - skip).min(NOW));
            if later.len() > 2 * NOW {
                prefetch::for_writing(&later[NOW..2 * NOW]);
            }
            let mut from = offsets;
            for (offset, step) in from.iter_mut().zip(steps) {
                *offset += step * skip as isize;
            }
            // SAFETY: a `Walk` has the shape and the strides of the arrays themselves, or is one stretch of all they have.
            unsafe { self.sources.fill::<I, Y>(from, *steps, now, self.f) };
            (skip, out) = (skip + now.len(), later);
            if skip == *len {
                skip = 0;
                advance(axes, &mut index, &mut offsets);
            }
        }
    }
}

/// `f` of `len` elements of arrays without gaps (a step of 1), or of one element (0).
fn flat<const N: usize, S: Sources<N>, Y: Copy + Default + Send>(
    sources: S,
    steps: [isize; N],
    len: usize,
    f: &impl Map<S::Item, Y>,
) -> Aligned<Y> {
    strided(sources, &Walk { axes: Vec::new(), len, steps }, f)
}

/// `f` of all elements of a walk.
fn strided<const N: usize, S: Sources<N>, Y: Copy + Default + Send>(
    sources: S,
    walk: &Walk<N>,
    f: &impl Map<S::Item, Y>,
) -> Aligned<Y> {
    let len = walk.len * walk.axes.iter().map(|(n, _)| n).product::<usize>();
    filled(len, |start, out| dispatch(Stretches { sources, walk, start, out, f }))
}

/// `len` elements, of which `fill(start, out)` writes those from `start` on into the whole of `out`.
#[allow(unsafe_code)]
fn filled<Y: Copy + Default + Send>(len: usize, fill: impl Fn(usize, &mut [MaybeUninit<Y>]) + Sync) -> Aligned<Y> {
    let mut out = Aligned::with_capacity(len);
    if len == 0 {
        return out;
    }
    let spare = out.spare(len);
    if len < PARALLEL {
        fill(0, spare);
    } else {
        threads::chunks(spare, PIECE, |i, piece| fill(i * PIECE, piece));
    }
    // SAFETY: the kernels above write every element of `out`; where one panics, `out` is still empty.
    unsafe { out.set_len(len) };
    out
}

/// How N arrays of one shape are walked together in row-major order: in stretches of `len` elements that lie `steps` apart.
/// Axes that follow each other without a gap in all arrays are one.
struct Walk<const N: usize> {
    /// Length and steps of the axes over the stretches.
    axes: Vec<(usize, [isize; N])>,
    len: usize,
    steps: [isize; N],
}

impl<const N: usize> Walk<N> {
    fn new(shape: &[usize], strides: [&[isize]; N]) -> Self {
        let mut axes: Vec<(usize, [isize; N])> = Vec::with_capacity(shape.len());
        for (axis, &n) in shape.iter().enumerate().filter(|&(_, &n)| n != 1) {
            let steps = strides.map(|s| s[axis]);
            match axes.last_mut() {
                Some((len, outer)) if outer.iter().zip(&steps).all(|(&o, &s)| o == s * n as isize) => {
                    *len *= n;
                    *outer = steps;
                }
                _ => axes.push((n, steps)),
            }
        }
        let (len, steps) = axes.pop().unwrap_or((1, [0; N]));
        Walk { axes, len, steps }
    }

    /// The index of a stretch along each of the axes, and its offset in each array.
    fn position(&self, stretch: usize) -> (Vec<usize>, [isize; N]) {
        let (mut index, mut offsets, mut rest) = (vec![0; self.axes.len()], [0; N], stretch);
        for (at, (n, steps)) in index.iter_mut().zip(&self.axes).rev() {
            (*at, rest) = (rest % n, rest / n);
            for (offset, step) in offsets.iter_mut().zip(steps) {
                *offset += step * *at as isize;
            }
        }
        (index, offsets)
    }
}

/// Goes on to the next stretch.
fn advance<const N: usize>(axes: &[(usize, [isize; N])], index: &mut [usize], offsets: &mut [isize; N]) {
    for (at, (n, steps)) in index.iter_mut().zip(axes).rev() {
        *at += 1;
        let back = if *at < *n { 0 } else { *n as isize };
        for (offset, step) in offsets.iter_mut().zip(steps) {
            *offset += step - back * step;
        }
        if back == 0 {
            return;
        }
        *at = 0;
    }
}

// ------------------------------------------------------------------------------------------------------------- in place

struct InPlace<'a, A, F> {
    x: &'a mut [A],
    y: &'a [A],
    f: &'a F,
}

impl<A: Copy, F: Fn(A, A) -> A> Kernel for InPlace<'_, A, F> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        for (x, &y) in self.x.iter_mut().zip(self.y) {
            *x = (self.f)(*x, y);
        }
    }
}

/// `x[i] = f(x[i], y[i])`
pub fn zip_in_place<A: Copy + Send + Sync>(x: &mut [A], y: &[A], f: impl Fn(A, A) -> A + Sync) {
    if x.len() < PARALLEL {
        return dispatch(InPlace { x, y, f: &f });
    }
    threads::chunks(x, PIECE, |i, x| {
        let y = &y[i * PIECE..][..x.len()];
        dispatch(InPlace { x, y, f: &f });
    });
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Axis, s};

    use super::*;

    #[test]
    fn broadcasting_and_strides_agree_with_indexing() {
        let base = Array::from_shape_fn((4, 3, 5), |(i, j, k)| (100 * i + 10 * j + k) as f64).into_dyn();
        let views = [
            base.view(),
            base.view().permuted_axes(IxDyn(&[2, 0, 1])),
            base.slice(s![.., ..;-1, ..;2]).into_dyn(),
            base.slice(s![1..2, .., ..]).into_dyn(),
            base.slice(s![.., 1, ..]).into_dyn(),
            base.slice(s![0..0, .., ..]).into_dyn(),
            base.view().reversed_axes(),
        ];
        for a in &views {
            assert_eq!(map(a.view(), |x| x + 1.), a.mapv(|x| x + 1.));
            let mut row = a.slice_axis(Axis(0), (0..a.len_of(Axis(0)).min(1)).into());
            for _ in 0..2 {
                let shape = broadcast_shape(a.shape(), row.shape()).unwrap();
                let wide = row.broadcast(IxDyn(&shape)).unwrap();
                let want = &a.broadcast(IxDyn(&shape)).unwrap() - &wide;
                assert_eq!(zip(a.view(), row.view(), &shape, |x, y| x - y), want);
                assert_eq!(zip(row.view(), a.view(), &shape, |x, y| y - x), want);
                assert_eq!(zip3(a.view(), row.view(), a.view(), &shape, |x, y, z| 2. * x - y - z), want);
                if row.shape().last() != Some(&0) {
                    row.slice_axis_inplace(Axis(row.ndim() - 1), (0..1).into());
                }
            }
        }
    }

    /// Pieces begin and end in the middle of rows; the last one is short.
    #[test]
    fn large_arrays_are_split_and_come_out_whole() {
        let base = Array::from_shape_fn((7, 150, 101), |(i, j, k)| (i * 20_000 + j * 110 + k) as i64).into_dyn();
        assert!(base.len() > PARALLEL && !base.len().is_multiple_of(PIECE));
        let views = [
            base.view(),
            base.view().permuted_axes(IxDyn(&[2, 0, 1])),
            base.slice(s![.., ..;-1, ..]).into_dyn(),
            base.slice(s![.., 3..4, 5..6]).into_dyn(),
        ];
        for a in &views {
            let shape = broadcast_shape(a.shape(), &[7, 150, 101]).unwrap_or(a.shape().to_vec());
            let wide = a.broadcast(IxDyn(&shape)).unwrap();
            let scalar = ndarray::arr0(3).into_dyn();
            assert_eq!(map(wide.view(), |x| x + 1), wide.mapv(|x| x + 1));
            assert_eq!(zip(a.view(), scalar.view(), &shape, |x, y| x - y), wide.mapv(|x| x - 3));
            let row = wide.index_axis(Axis(0), 1);
            let want = &wide - &row.insert_axis(Axis(0)).broadcast(IxDyn(&shape)).unwrap();
            let row = wide.index_axis(Axis(0), 1);
            assert_eq!(zip(a.view(), row.view(), &shape, |x, y| x - y), want);
            assert_eq!(zip3(a.view(), row.view(), scalar.view(), &shape, |x, y, z| x - y + z), want.mapv(|x| x + 3));
        }
    }

    #[test]
    fn maps_keep_the_layout() {
        let t = Array::from_shape_fn((3, 4), |(i, j)| i + 10 * j).into_dyn().reversed_axes();
        assert_eq!(map(t.view(), |x| x).strides(), t.strides());
        assert_eq!(zip(t.view(), t.view(), t.shape(), |x, y| x + y).strides(), t.strides());
    }
}
