//! Elementwise maps over one, two or three arrays of dynamic rank, split among threads if there is much to do.
//!
//! Only the innermost loop, over a segment of elements, knows the function and the types; it is compiled for each
//! instruction set. [`walk`](super::walk) goes through the arrays.

use std::{
    marker::PhantomData,
    mem::MaybeUninit,
    slice::{from_raw_parts, from_raw_parts_mut},
};

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::{
    isa::{Baseline, Isa},
    memory::Aligned,
    vmath::fill,
    walk::{self, Loop, MOST, RunFn, Source, Walk},
};

/// The shape that two shapes broadcast to, as NumPy and PyTorch define it; `None` if they do not.
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

/// A function of one element or of a tuple of elements, which may use [`VectorMath`](super::vmath::VectorMath); `at`
/// must be `#[inline(always)]`, as for [`Kernel`].
pub trait Map<X, Y>: Sync {
    /// Whether compiling it for each instruction set pays, which it does not if a call of libm dominates.
    const VECTORS: bool = true;
    /// Whether a version for AVX-512 pays too: a tenth for sums in the first-level cache, and a half and more for
    /// exponentials; nothing for comparisons. Numbers of 8 bytes, which are rarer, do without one.
    const WIDE: bool = size_of::<Y>() == size_of::<f32>();

    /// The value of the function.
    fn at<I: Isa>(&self, x: X) -> Y;

    /// Fills `out` with the values at `x`, which has the same length. A function of one array that is faster on many
    /// elements at once overrides this, and then every element is computed by it.
    #[inline(always)]
    fn each<I: Isa>(&self, x: &[X], out: &mut [MaybeUninit<Y>])
    where
        X: Copy,
        Y: Copy,
    {
        fill(x, out, |x| self.at::<I>(x));
    }
}

/// Closures do not know the instruction set.
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

// ----------------------------------------------------------------------------------------------------------- the loops

/// A loop over a segment of elements, by a function of one, two or three; it is compiled for each instruction set.
trait Segment {
    /// See [`Map::VECTORS`] and [`Map::WIDE`].
    const VECTORS: bool;
    const WIDE: bool;

    /// It must be `#[inline(always)]`.
    ///
    /// # Safety
    /// There must be `n` elements of its types to read and to write, `f` must point to its function, and the CPU must have
    /// the instructions of `I`.
    #[allow(unsafe_code)]
    unsafe fn run<I: Isa>(f: *const (), inputs: [*const u8; MOST], out: *mut u8, n: usize);
}

/// The versions of a segment, by [`Capability`](super::isa::Capability): pointers to them are all that a function costs
/// besides its loops.
#[allow(unsafe_code)]
const fn versions<S: Segment>() -> [RunFn; 3] {
    /// # Safety
    /// As [`Segment::run`].
    unsafe fn baseline<S: Segment>(f: *const (), inputs: [*const u8; MOST], out: *mut u8, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { S::run::<Baseline>(f, inputs, out, n) }
    }
    #[cfg(target_arch = "x86_64")]
    {
        use super::isa::{Avx2, Avx512};
        /// # Safety
        /// As [`Segment::run`].
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2<S: Segment>(f: *const (), inputs: [*const u8; MOST], out: *mut u8, n: usize) {
            // SAFETY: the caller's promise.
            unsafe { S::run::<Avx2>(f, inputs, out, n) }
        }
        /// # Safety
        /// As [`Segment::run`].
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
        unsafe fn avx512<S: Segment>(f: *const (), inputs: [*const u8; MOST], out: *mut u8, n: usize) {
            // SAFETY: the caller's promise.
            unsafe { S::run::<Avx512>(f, inputs, out, n) }
        }
        if S::VECTORS {
            return [baseline::<S>, avx2::<S>, if S::WIDE { avx512::<S> } else { avx2::<S> }];
        }
    }
    [baseline::<S>; 3]
}

struct OverOne<A, Y, F>(PhantomData<(A, Y, F)>);

impl<A: Copy, Y: Copy, F: Map<A, Y>> Segment for OverOne<A, Y, F> {
    const VECTORS: bool = F::VECTORS;
    const WIDE: bool = F::WIDE;
    #[inline(always)]
    #[allow(unsafe_code)]
    unsafe fn run<I: Isa>(f: *const (), [x, ..]: [*const u8; MOST], out: *mut u8, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { (*f.cast::<F>()).each::<I>(from_raw_parts(x.cast(), n), from_raw_parts_mut(out.cast(), n)) };
    }
}

/// The segments of functions of several arrays.
macro_rules! segments {
    ($($name:ident, $fill:ident: $($x:ident: $X:ident),*;)*) => {$(
        /// As [`fill`], for tuples. The slices are arguments, so that the compiler knows that `out` does not overlap them.
        ///
        /// # Safety
        /// They must have one length.
        #[inline(always)]
        #[allow(unsafe_code)]
        unsafe fn $fill<$($X: Copy,)* Y: Copy>(
            $($x: &[$X],)*
            out: &mut [MaybeUninit<Y>],
            f: impl Fn($($X),*) -> Y + Copy,
        ) {
            let n = out.len();
            let ($($x,)* out) = ($($x.as_ptr(),)* out.as_mut_ptr());
            let mut i = 0;
            while i < n {
                // SAFETY: `i` is below the lengths.
                unsafe { *out.add(i) = MaybeUninit::new(f($(*$x.add(i)),*)) };
                i += 1;
            }
        }

        struct $name<$($X,)* Y, F>(PhantomData<($($X,)* Y, F)>);

        impl<$($X: Copy,)* Y: Copy, F: Map<($($X),*), Y>> Segment for $name<$($X,)* Y, F> {
            const VECTORS: bool = F::VECTORS;
            const WIDE: bool = F::WIDE;
            #[inline(always)]
            #[allow(unsafe_code)]
            unsafe fn run<I: Isa>(f: *const (), [$($x,)* ..]: [*const u8; MOST], out: *mut u8, n: usize) {
                // SAFETY: the caller's promise.
                unsafe {
                    let (f, out) = (&*f.cast::<F>(), from_raw_parts_mut(out.cast(), n));
                    $fill($(from_raw_parts($x.cast(), n),)* out, |$($x),*| f.at::<I>(($($x),*)));
                }
            }
        }
    )*};
}
segments! {
    OverPairs, fill_pairs: x: A, y: B;
    OverTriples, fill_triples: x: A, y: B, z: C;
}

/// The loop of a function from `X` to `Y`, which is no longer known: what goes through the arrays is compiled for the
/// types alone.
#[derive(Clone, Copy)]
pub struct Body<'a, X, Y> {
    run: Loop<'a>,
    types: PhantomData<fn(X) -> Y>,
}

impl<'a, A: Copy, B: Copy> Body<'a, A, B> {
    #[allow(unsafe_code)]
    pub fn of_one<F: Map<A, B>>(f: &'a F) -> Self {
        // SAFETY: the versions of a segment that takes an `F`, by capability.
        Body { run: unsafe { Loop::new(const { &versions::<OverOne<A, B, F>>() }, f) }, types: PhantomData }
    }
}

impl<'a, A: Copy, B: Copy, C: Copy> Body<'a, (A, B), C> {
    #[allow(unsafe_code)]
    pub fn of_two<F: Map<(A, B), C>>(f: &'a F) -> Self {
        // SAFETY: the versions of a segment that takes an `F`, by capability.
        Body { run: unsafe { Loop::new(const { &versions::<OverPairs<A, B, C, F>>() }, f) }, types: PhantomData }
    }
}

impl<'a, A: Copy, B: Copy, C: Copy, D: Copy> Body<'a, (A, B, C), D> {
    #[allow(unsafe_code)]
    pub fn of_three<F: Map<(A, B, C), D>>(f: &'a F) -> Self {
        // SAFETY: the versions of a segment that takes an `F`, by capability.
        Body { run: unsafe { Loop::new(const { &versions::<OverTriples<A, B, C, D, F>>() }, f) }, types: PhantomData }
    }
}

/// A new array of `shape` with the results of the loop on the sources, which are broadcast to it.
///
/// # Safety
/// The loop must take elements of the sources' types and write as many elements of type `Y`.
#[allow(unsafe_code)]
unsafe fn made<Y: Copy + Default + Send>(shape: &[usize], sources: &[Source<'_>], run: Loop<'_>) -> ArrayD<Y> {
    let walk = Walk::new(shape, sources);
    let mut out = Aligned::with_capacity(walk.len);
    if walk.len > 0 {
        let start = out.spare(walk.len).as_mut_ptr().cast();
        // SAFETY: there is space for this many elements, and every one is written; if a loop panics, `out` is still
        // empty.
        unsafe {
            walk::run(&walk, sources, start, size_of::<Y>(), run);
            out.set_len(walk.len);
        }
    }
    let Some(order) = walk.order else { return out.array(shape) };
    let sorted: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    // The position of each axis in that order.
    let mut place = vec![0; order.len()];
    order.iter().enumerate().for_each(|(at, &axis)| place[axis] = at);
    out.array(IxDyn(&sorted)).permuted_axes(IxDyn(&place))
}

/// `f` of each element, in any order; the result has the memory order of `x` if `x` has no gaps.
pub fn map<A, B>(x: ArrayViewD<'_, A>, f: impl Fn(A) -> B + Sync) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_with(x, One(f))
}

/// As [`map`], for a function that is compiled for each instruction set.
pub fn map_with<A, B, F: Map<A, B>>(x: ArrayViewD<'_, A>, f: F) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_by(x, Body::of_one(&f))
}

/// As [`map`], for the loop of any function.
#[allow(unsafe_code)]
pub fn map_by<A, B>(x: ArrayViewD<'_, A>, body: Body<'_, A, B>) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(x.shape(), &[Source::of(&x)], body.run) }
}

/// A closure for which one compiled version is enough.
struct Plain<F>(F);

impl<A, B, F: Fn(A) -> B + Sync> Map<A, B> for Plain<F> {
    const VECTORS: bool = false;
    #[inline(always)]
    fn at<I: Isa>(&self, x: A) -> B {
        (self.0)(x)
    }
}

/// As [`map`], in one plain loop: for conversions, which are limited by memory.
pub fn convert<A, B>(x: ArrayViewD<'_, A>, f: impl Fn(A) -> B + Sync) -> ArrayD<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_with(x, Plain(f))
}

/// `f` of each pair of elements of two arrays broadcast to `shape`, in any order.
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
    zip_by(a, b, shape, Body::of_two(&Two(f)))
}

/// As [`zip`], for the loop of any function.
#[allow(unsafe_code)]
pub fn zip_by<A, B, C>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    shape: &[usize],
    body: Body<'_, (A, B), C>,
) -> ArrayD<C>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(shape, &[Source::of(&a), Source::of(&b)], body.run) }
}

/// Writes the values for the pairs of two slices, on this thread.
#[allow(unsafe_code)]
pub fn write_pairs<'a, A, B, C>(x: &[A], y: &[B], out: &'a mut [MaybeUninit<C>], body: Body<'_, (A, B), C>) -> &'a [C] {
    assert!(x.len() == out.len() && y.len() == out.len());
    let inputs = [x.as_ptr().cast(), y.as_ptr().cast(), std::ptr::null()];
    // SAFETY: as many elements to read and to write, all of which are written.
    unsafe {
        body.run.call(inputs, out.as_mut_ptr().cast(), out.len());
        &*(std::ptr::from_mut(out) as *const [C])
    }
}

/// `x[i] = f(x[i], y[i])`, by the loop of a function; `y` has as many elements as `x`, or one.
#[allow(unsafe_code)]
pub fn zip_in_place<A: Copy + Send + Sync>(x: &mut [A], y: &[A], body: Body<'_, (A, A), A>) {
    let (len, y) = (x.len(), ArrayViewD::from_shape(IxDyn(&[y.len()]), y).expect("as many elements"));
    let (start, shape) = (x.as_mut_ptr(), [len]);
    let sources = [Source::replaced(start, &shape), Source::of(&y)];
    let walk = Walk::new(&shape, &sources);
    // SAFETY: the elements of `x` are also read through `start`, and are copied before they are overwritten.
    unsafe { walk::run(&walk, &sources, start.cast(), size_of::<A>(), body.run) };
}

/// `f` of each triple of elements of three arrays broadcast to `shape`, in any order.
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
    zip3_by(a, b, c, shape, Body::of_three(&Three(f)))
}

/// As [`zip3`], for the loop of any function.
#[allow(unsafe_code)]
pub fn zip3_by<A, B, C, D>(
    a: ArrayViewD<'_, A>,
    b: ArrayViewD<'_, B>,
    c: ArrayViewD<'_, C>,
    shape: &[usize],
    body: Body<'_, (A, B, C), D>,
) -> ArrayD<D>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    D: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(shape, &[Source::of(&a), Source::of(&b), Source::of(&c)], body.run) }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, Axis, s};

    use super::{
        super::thresholds::{ELEMENTWISE_PARALLEL as PARALLEL, ELEMENTWISE_TASK as TASK},
        *,
    };

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

    /// Tasks begin and end in the middle of rows; the last one is short.
    #[test]
    fn large_arrays_are_split_and_come_out_whole() {
        large_arrays([7, 150, 101]);
    }

    /// Beyond this size segments are shorter, and what follows is prefetched.
    #[test]
    fn still_larger_arrays_too() {
        large_arrays([7, 400, 101]);
        const { assert!(7 * 400 * 101 > walk::LARGE) };
    }

    fn large_arrays(sizes: [usize; 3]) {
        let base = Array::from_shape_fn(sizes, |(i, j, k)| (i * 50_000 + j * 110 + k) as i64).into_dyn();
        assert!(base.len() > PARALLEL && !base.len().is_multiple_of(TASK));
        let views = [
            base.view(),
            base.view().permuted_axes(IxDyn(&[2, 0, 1])),
            base.slice(s![.., ..;-1, ..]).into_dyn(),
            base.slice(s![.., 3..4, 5..6]).into_dyn(),
        ];
        for a in &views {
            let shape = broadcast_shape(a.shape(), &sizes).unwrap_or(a.shape().to_vec());
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
