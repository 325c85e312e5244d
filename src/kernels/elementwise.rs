//! Elementwise maps over one, two or three arrays of dynamic rank, split among threads if there is much to do.
//!
//! Only the innermost loop, over a segment of elements, knows the function and the types; its [`Speed`] says for which
//! instruction sets it is compiled. [`walk`](super::walk) goes through the arrays.

use std::{borrow::Cow, marker::PhantomData, mem::MaybeUninit};

use ndarray::{ArrayRefD, IxDyn};

#[cfg(target_arch = "x86_64")]
use super::isa::{Avx2, Avx512};
use super::{
    isa::{Baseline, Isa},
    layout::{Shared, Strided, assert_word},
    memory::Aligned,
    walk::{self, Loop, MOST, RunFn, Source, Versions, Walk},
};

/// The shape that two shapes broadcast to, as NumPy and PyTorch define it; `None` if they do not.
#[inline(never)]
pub fn broadcast_shape<'a>(a: &'a [usize], b: &'a [usize]) -> Option<Cow<'a, [usize]>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let (mut out, lead) = (Cow::Borrowed(long), long.len() - short.len());
    for (i, &n) in short.iter().enumerate() {
        match (long[lead + i], n) {
            (x, y) if x == y => {}
            (1, y) => out.to_mut()[lead + i] = y,
            (_, 1) => {}
            _ => return None,
        }
    }
    Some(out)
}

// ------------------------------------------------------------------------------------------------------- the functions

/// For which instruction sets a loop is compiled, and how.
#[derive(Clone, Copy)]
pub struct Speed {
    avx2: bool,
    avx512: bool,
    /// Whether it runs over whole blocks of elements only, so that it has no code for the last few: see [`walk`].
    blocks: bool,
}

impl Speed {
    /// Once, since calls of libm take most of the time, or memory does.
    pub const PLAIN: Speed = Speed { avx2: false, avx512: false, blocks: false };
    /// Twice, for short functions, of which memory takes most of the time.
    pub const NARROW: Speed = Speed { avx2: true, avx512: false, blocks: false };
    /// Three times, for the commonest functions: AVX-512 gains a tenth in the first-level cache.
    pub const WIDE: Speed = Speed { avx2: true, avx512: true, blocks: false };

    /// The same in blocks, for functions that are rarely called on a few elements, or long: then a block is as fast as a
    /// few elements.
    pub const fn in_blocks(self) -> Self {
        Speed { blocks: true, ..self }
    }
}

/// A function of one element or of a tuple of elements, and of parameters `P`; it may use
/// [`VectorMath`](super::vmath::VectorMath). `at` must be `#[inline(always)]`, as for [`Kernel`](super::isa::Kernel).
pub trait Map<P, X, Y> {
    const SPEED: Speed;
    /// A loop for AVX-512 that is faster than that of `at`.
    const MANY: Option<Many<X, Y>> = None;

    /// The value of the function.
    fn at<I: Isa>(p: &P, x: X) -> Y;
}

/// A loop for AVX-512 of a function from `X` to `Y` that reads no parameters.
pub struct Many<X, Y> {
    run: RunFn,
    types: PhantomData<fn(X) -> Y>,
}

impl<X, Y> Many<X, Y> {
    /// The loop `run`.
    ///
    /// # Safety
    /// It must take elements of type `X`, or of the types of that tuple, and write elements of type `Y`; it must not read what
    /// its first argument points to, and need no other instructions than those of [`Avx512`](super::isa::Avx512).
    #[allow(unsafe_code)]
    pub const unsafe fn new(run: RunFn) -> Self {
        Many { run, types: PhantomData }
    }
}

/// Closures, which are their own parameters; they do not know the instruction set.
struct One;
struct Two;
struct Three;
/// As [`One`], for closures for which one compiled version is enough.
struct Plain;

impl<A, B, F: Fn(A) -> B> Map<F, A, B> for One {
    const SPEED: Speed = Speed::NARROW;
    #[inline(always)]
    fn at<I: Isa>(f: &F, x: A) -> B {
        f(x)
    }
}

impl<A, B, F: Fn(A) -> B> Map<F, A, B> for Plain {
    const SPEED: Speed = Speed::PLAIN;
    #[inline(always)]
    fn at<I: Isa>(f: &F, x: A) -> B {
        f(x)
    }
}

impl<A, B, C, F: Fn(A, B) -> C> Map<F, (A, B), C> for Two {
    const SPEED: Speed = Speed::NARROW;
    #[inline(always)]
    fn at<I: Isa>(f: &F, (x, y): (A, B)) -> C {
        f(x, y)
    }
}

impl<A, B, C, D, F: Fn(A, B, C) -> D> Map<F, (A, B, C), D> for Three {
    const SPEED: Speed = Speed::NARROW;
    #[inline(always)]
    fn at<I: Isa>(f: &F, (x, y, z): (A, B, C)) -> D {
        f(x, y, z)
    }
}

// ----------------------------------------------------------------------------------------------------------- the loops

/// The compiled loops of a function from `X` to `Y` with parameters `P`; the function is no longer known, so that what
/// goes through the arrays is compiled for the types alone.
pub struct Loops<P, X, Y> {
    versions: Versions,
    types: PhantomData<fn(&P, X) -> Y>,
}

/// There are hundreds of these loops, so each is one function.
macro_rules! loops {
    ($($name:ident: $($x:ident: $X:ident),+;)*) => {$(
        #[allow(unused_parens)]
        impl<P, $($X: Copy,)+ Y: Copy> Loops<P, ($($X),+), Y> {
            #[allow(unsafe_code)]
            pub const fn $name<F: Map<P, ($($X),+), Y>>() -> Self {
                // [`walk`] copies elements as words.
                $(assert_word::<$X>();)+
                assert_word::<Y>();
                loops!(@ baseline Baseline [] $($x: $X),+);
                #[allow(unused_mut)]
                let mut run: [RunFn; 3] = [baseline::<P, $($X,)+ Y, F>; 3];
                #[cfg(target_arch = "x86_64")]
                {
                    loops!(@ avx2 Avx2 [target_feature(enable = "avx2,fma")] $($x: $X),+);
                    loops!(@ avx512 Avx512
                        [target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")] $($x: $X),+);
                    if const { F::SPEED.avx2 } {
                        run = [run[0], avx2::<P, $($X,)+ Y, F>, avx2::<P, $($X,)+ Y, F>];
                    }
                    if let Some(many) = const { F::MANY } {
                        run[2] = many.run;
                    } else if const { F::SPEED.avx512 } {
                        run[2] = avx512::<P, $($X,)+ Y, F>;
                    }
                }
                let mut sizes = [0; MOST + 1];
                sizes[MOST] = size_of::<Y>();
                let inputs = [$(size_of::<$X>()),+];
                let mut k = 0;
                while k < inputs.len() {
                    sizes[k] = inputs[k];
                    k += 1;
                }
                Loops { versions: Versions { run, blocks: F::SPEED.blocks, sizes }, types: PhantomData }
            }
        }
    )*};
    (@ $version:ident $I:ident [$($feature:meta)?] $($x:ident: $X:ident),+) => {
        /// # Safety
        /// As for [`RunFn`]: `p` must point to a `P`, the elements must be of these types, and the CPU must have these
        /// instructions.
        $(#[$feature])?
        unsafe fn $version<P, $($X: Copy,)+ Y: Copy, F: Map<P, ($($X),+), Y>>(
            p: *const (),
            &[$($x,)+ ..]: &[*const u8; MOST],
            out: &mut [MaybeUninit<u8>],
        ) {
            let n = out.len() / size_of::<Y>();
            // The compiler knows that nothing is left after its vectors.
            let n = if F::SPEED.blocks { n & !($I::BLOCK - 1) } else { n };
            let ($($x,)+ out) = ($($x.cast::<$X>(),)+ out.as_mut_ptr().cast::<Y>());
            let mut i = 0;
            while i < n {
                // SAFETY: the caller's promise; `i` is below the number of elements.
                unsafe { out.add(i).write(F::at::<$I>(&*p.cast::<P>(), ($(*$x.add(i)),+))) };
                i += 1;
            }
        }
    };
}
loops! {
    of_one: x: A;
    of_two: x: A, y: B;
    of_three: x: A, y: B, z: C;
}

impl<P: Sync, X, Y> Loops<P, X, Y> {
    /// With these parameters.
    #[allow(unsafe_code)]
    #[inline(always)]
    pub fn with<'a>(&'a self, p: &'a P) -> Body<'a, X, Y> {
        // SAFETY: they are made for a `P`, which is `Sync`.
        Body { run: unsafe { Loop::new(&self.versions, std::ptr::from_ref(p).cast()) }, types: PhantomData }
    }
}

/// The loop of a function from `X` to `Y`, with its parameters.
#[derive(Clone, Copy)]
pub struct Body<'a, X, Y> {
    run: Loop<'a>,
    types: PhantomData<fn(X) -> Y>,
}

/// A new array of `shape` with the results of the loop on the sources, which are broadcast to it.
///
/// # Safety
/// The loop must take elements of the sources' types and write as many elements of type `Y`.
#[allow(unsafe_code)]
unsafe fn made<Y: Copy + Default + Send>(shape: IxDyn, sources: &[Source<'_>], run: Loop<'_>) -> Shared<Y> {
    let strided = Strided::of(shape);
    let walk = Walk::new(strided.shape(), sources);
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
    match walk.order {
        None => out.shared(strided),
        Some(order) => ordered(out, strided.shape(), &order),
    }
}

/// An array whose elements are in this order of its axes.
fn ordered<T: Copy + Default>(elements: Aligned<T>, shape: &[usize], order: &[usize]) -> Shared<T> {
    let (mut sorted, mut place) = (IxDyn::zeros(shape.len()), IxDyn::zeros(shape.len()));
    for (at, &axis) in order.iter().enumerate() {
        sorted[at] = shape[axis];
        place[axis] = at;
    }
    elements.array(sorted).permuted_axes(place).into_shared()
}

/// `f` of each element, in any order; the result has the memory order of `x` if `x` has no gaps.
#[inline]
pub fn map<A, B>(x: &ArrayRefD<A>, f: impl Fn(A) -> B + Sync) -> Shared<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_by(x, const { &Loops::of_one::<One>() }.with(&f))
}

/// As [`map`], for the loop of any function.
#[allow(unsafe_code)]
#[inline(never)]
pub fn map_by<A, B>(x: &ArrayRefD<A>, body: Body<'_, A, B>) -> Shared<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(x.raw_dim(), &[Source::of(x)], body.run) }
}

/// As [`map`], in one plain loop: for conversions, which are limited by memory.
#[inline]
pub fn convert<A, B>(x: &ArrayRefD<A>, f: impl Fn(A) -> B + Sync) -> Shared<B>
where
    A: Copy + Sync,
    B: Copy + Default + Send,
{
    map_by(x, const { &Loops::of_one::<Plain>() }.with(&f))
}

/// `f` of each pair of elements of two arrays broadcast to `shape`, in any order.
#[inline]
pub fn zip<A, B, C>(a: &ArrayRefD<A>, b: &ArrayRefD<B>, shape: IxDyn, f: impl Fn(A, B) -> C + Sync) -> Shared<C>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Default + Send,
{
    zip_by(a, b, shape, const { &Loops::of_two::<Two>() }.with(&f))
}

/// As [`zip`], for the loop of any function.
#[allow(unsafe_code)]
#[inline(never)]
pub fn zip_by<A, B, C>(a: &ArrayRefD<A>, b: &ArrayRefD<B>, shape: IxDyn, body: Body<'_, (A, B), C>) -> Shared<C>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(shape, &[Source::of(a), Source::of(b)], body.run) }
}

/// As [`zip_by`], with the same number in the place of the second array.
#[allow(unsafe_code)]
pub fn zip_one<A: Copy + Sync, B: Copy + Sync, C: Copy + Default + Send>(
    a: &ArrayRefD<A>,
    b: &B,
    body: Body<'_, (A, B), C>,
) -> Shared<C> {
    // SAFETY: a loop over these types.
    unsafe { made(a.raw_dim(), &[Source::of(a), Source::line(b, &[], false)], body.run) }
}

/// Writes the values for the pairs of two slices, on this thread.
#[allow(unsafe_code)]
pub fn write_pairs<'a, A, B, C>(x: &[A], y: &[B], out: &'a mut [MaybeUninit<C>], body: Body<'_, (A, B), C>) -> &'a [C] {
    assert!(x.len() == out.len() && y.len() == out.len());
    let inputs = [x.as_ptr().cast(), y.as_ptr().cast(), std::ptr::null()];
    // SAFETY: as many elements to read and to write, all of which are written.
    unsafe {
        body.run.call(&inputs, out.as_mut_ptr().cast(), out.len());
        &*(std::ptr::from_mut(out) as *const [C])
    }
}

/// `x[i] = f(x[i], y[i])`, by the loop of a function; `y` has as many elements as `x`, or one.
#[allow(unsafe_code)]
pub fn zip_in_place<A: Copy + Send + Sync>(x: &mut [A], y: &[A], body: Body<'_, (A, A), A>) {
    let (start, shape, other) = (x.as_mut_ptr(), [x.len()], [y.len()]);
    let sources = [Source::line(start, &shape, true), Source::line(y.as_ptr(), &other, false)];
    let walk = Walk::new(&shape, &sources);
    // SAFETY: the elements of `x` are also read through `start`, and are copied before they are overwritten.
    unsafe { walk::run(&walk, &sources, start.cast(), size_of::<A>(), body.run) };
}

/// `f` of each triple of elements of three arrays broadcast to `shape`, in any order.
#[inline]
pub fn zip3<A, B, C, D>(
    a: &ArrayRefD<A>,
    b: &ArrayRefD<B>,
    c: &ArrayRefD<C>,
    shape: IxDyn,
    f: impl Fn(A, B, C) -> D + Sync,
) -> Shared<D>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    D: Copy + Default + Send,
{
    zip3_by(a, b, c, shape, const { &Loops::of_three::<Three>() }.with(&f))
}

/// As [`zip3`], for the loop of any function.
#[allow(unsafe_code)]
#[inline(never)]
pub fn zip3_by<A, B, C, D>(
    a: &ArrayRefD<A>,
    b: &ArrayRefD<B>,
    c: &ArrayRefD<C>,
    shape: IxDyn,
    body: Body<'_, (A, B, C), D>,
) -> Shared<D>
where
    A: Copy + Sync,
    B: Copy + Sync,
    C: Copy + Sync,
    D: Copy + Default + Send,
{
    // SAFETY: a loop over these types.
    unsafe { made(shape, &[Source::of(a), Source::of(b), Source::of(c)], body.run) }
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
            assert_eq!(map(a, |x| x + 1.), a.mapv(|x| x + 1.));
            let mut row = a.slice_axis(Axis(0), (0..a.len_of(Axis(0)).min(1)).into());
            for _ in 0..2 {
                let shape = broadcast_shape(a.shape(), row.shape()).unwrap();
                let wide = row.broadcast(IxDyn(&shape)).unwrap();
                let want = &a.broadcast(IxDyn(&shape)).unwrap() - &wide;
                assert_eq!(zip(a, &row, IxDyn(&shape), |x, y| x - y), want);
                assert_eq!(zip(&row, a, IxDyn(&shape), |x, y| y - x), want);
                assert_eq!(zip3(a, &row, a, IxDyn(&shape), |x, y, z| 2. * x - y - z), want);
                if row.shape().last() != Some(&0) {
                    row.slice_axis_inplace(Axis(row.ndim() - 1), (0..1).into());
                }
            }
        }
    }

    struct Affine;

    impl Map<f32, f32, f32> for Affine {
        const SPEED: Speed = Speed::WIDE.in_blocks();
        #[inline(always)]
        fn at<I: Isa>(p: &f32, x: f32) -> f32 {
            x * 2. + p
        }
    }

    impl Map<f32, (f32, f32), f32> for Affine {
        const SPEED: Speed = Speed::NARROW.in_blocks();
        #[inline(always)]
        fn at<I: Isa>(p: &f32, (x, y): (f32, f32)) -> f32 {
            x * p - y
        }
    }

    /// Fewer elements than a block, some blocks and a few elements, and short rows of a larger array.
    #[test]
    fn loops_in_blocks_take_any_number_of_elements() {
        let of_one = Loops::of_one::<Affine>();
        let of_two = Loops::of_two::<Affine>();
        for n in (0..140).chain([2047, 2048, 2049, 2100, 5000]) {
            let x = Array::from_shape_fn(n, |i| i as f32).into_dyn();
            let y = x.mapv(|x| 3. - x);
            assert_eq!(map_by(&x, of_one.with(&5.)), x.mapv(|x| x * 2. + 5.), "{n}");
            let want = &(&x * 4.) - &y;
            assert_eq!(zip_by(&x, &y, IxDyn(&[n]), of_two.with(&4.)), want, "{n}");
            let mut replaced = x.as_slice().unwrap().to_vec();
            zip_in_place(&mut replaced, y.as_slice().unwrap(), of_two.with(&4.));
            assert_eq!(replaced, want.into_raw_vec_and_offset().0, "{n}");
            let wide = Array::from_shape_fn((3, n + 2), |(i, k)| (i * 100 + k) as f32).into_dyn();
            let part = wide.slice(s![.., 1..n + 1]).into_dyn();
            assert_eq!(map_by(&part, of_one.with(&5.)), part.mapv(|x| x * 2. + 5.), "{n}");
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
            let shape = broadcast_shape(a.shape(), &sizes).unwrap_or(a.shape().into());
            let wide = a.broadcast(IxDyn(&shape)).unwrap();
            let scalar = ndarray::arr0(3).into_dyn();
            assert_eq!(map(&wide, |x| x + 1), wide.mapv(|x| x + 1));
            assert_eq!(zip(a, &scalar, IxDyn(&shape), |x, y| x - y), wide.mapv(|x| x - 3));
            let row = wide.index_axis(Axis(0), 1);
            let want = &wide - &row.insert_axis(Axis(0)).broadcast(IxDyn(&shape)).unwrap();
            let row = wide.index_axis(Axis(0), 1);
            assert_eq!(zip(a, &row, IxDyn(&shape), |x, y| x - y), want);
            assert_eq!(zip3(a, &row, &scalar, IxDyn(&shape), |x, y, z| x - y + z), want.mapv(|x| x + 3));
        }
    }

    #[test]
    fn maps_keep_the_layout() {
        let t = Array::from_shape_fn((3, 4), |(i, j)| i + 10 * j).into_dyn().reversed_axes();
        assert_eq!(map(&t, |x| x).strides(), t.strides());
        assert_eq!(zip(&t, &t, t.raw_dim(), |x, y| x + y).strides(), t.strides());
    }
}
