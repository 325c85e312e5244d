//! Passes over the numbers of one row: what softmax, norms, losses and sums are made of. Each is compiled for each
//! set of instructions; what calls them for row after row is compiled once.
//!
//! Sums are made in lanes and in levels of a few numbers each, split by length alone: those of many `f32` stay accurate.

use std::{hint::black_box, mem::MaybeUninit};

use super::{
    isa::{Isa, Kernel, dispatch_for, dispatch_narrow},
    scalar::max_num,
    vmath::VectorMath,
};
use crate::number::{Element, Number, Real};

/// Elements that are combined in parallel lanes.
pub(super) const LANES: usize = 32;
/// Elements that are combined one after another before the next level takes their result.
pub(super) const LEVEL: usize = 16;

/// A part of an output that was not written yet.
pub type Blank<T> = [MaybeUninit<T>];

/// Writes `f(i)` to each place.
#[inline(always)]
#[allow(unsafe_code)]
pub fn write<T: Copy>(out: &mut Blank<T>, f: impl Fn(usize) -> T + Copy) -> &mut [T] {
    // By index: `f` indexes slices of this length, and this way the compiler sees that they are long enough.
    #[allow(clippy::needless_range_loop)]
    for i in 0..out.len() {
        out[i].write(f(i));
    }
    // SAFETY: every element was just written.
    unsafe { written(out) }
}

/// All of an output that was written.
///
/// # Safety
/// All elements were written.
#[inline(always)]
#[allow(unsafe_code)]
pub(super) unsafe fn written<T>(out: &mut Blank<T>) -> &mut [T] {
    // SAFETY: the caller's promise.
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

// --------------------------------------------------------------------------------------------------- what combines

/// Combines each lane with the terms of one of `N` places, from `at` on.
#[inline(always)]
fn add<T: Element, const K: usize, const S: usize, const N: usize>(
    into: &mut [[T; N]; S],
    inputs: &[&[T]; K],
    at: usize,
    terms: impl Fn([T; K]) -> [T; S] + Copy,
    f: impl Fn(T, T) -> T + Copy,
) {
    // By value, so that the compiler sees that they do not overlap.
    let mut x = [[T::ZERO; N]; K];
    for k in 0..K {
        x[k] = inputs[k][at..at + N].try_into().expect("so many lanes");
    }
    for i in 0..N {
        let mut one = [T::ZERO; K];
        for k in 0..K {
            one[k] = x[k][i];
        }
        let terms = terms(one);
        for s in 0..S {
            into[s][i] = f(into[s][i], terms[s]);
        }
    }
}

#[inline(always)]
fn join<T: Copy, const S: usize, const N: usize>(
    into: &mut [[T; N]; S],
    x: &[[T; N]; S],
    f: impl Fn(T, T) -> T + Copy,
) {
    for s in 0..S {
        for i in 0..N {
            into[s][i] = f(into[s][i], x[s][i]);
        }
    }
}

/// Combines the terms in `N` lanes, in levels, as far as there are places for all.
#[inline(always)]
fn in_lanes<T: Element, const K: usize, const S: usize, const N: usize>(
    inputs: &[&[T]; K],
    terms: impl Fn([T; K]) -> [T; S] + Copy,
    identity: T,
    f: impl Fn(T, T) -> T + Copy,
) -> [[T; N]; S] {
    let (n, none) = (inputs[0].len(), [[identity; N]; S]);
    let (mut total, mut middle, mut leaf, mut at) = (none, none, none, 0);
    while at + N <= n {
        add(&mut leaf, inputs, at, terms, f);
        at += N;
        if at.is_multiple_of(N * LEVEL) {
            join(&mut middle, &leaf, f);
            leaf = none;
            if at.is_multiple_of(N * LEVEL * LEVEL) {
                join(&mut total, &middle, f);
                middle = none;
            }
        }
    }
    join(&mut middle, &leaf, f);
    join(&mut total, &middle, f);
    settled(total)
}

/// Lanes that are about to be combined with each other. Without this the compiler arranges them for that from the beginning,
/// which is ten times slower.
#[inline(always)]
fn settled<L>(lanes: L) -> L {
    /// A vector that straddles two lines of the cache is stored and read again far more slowly.
    #[repr(align(64))]
    struct InLines<L>(L);
    black_box(InLines(lanes)).0
}

/// Combines `S` terms for each place of the inputs with `f`, which is associative and commutative. To be called inside
/// [`dispatch`](super::isa::dispatch).
#[inline(always)]
pub(super) fn combine<T: Element, I: Isa, const K: usize, const S: usize>(
    inputs: [&[T]; K],
    terms: impl Fn([T; K]) -> [T; S] + Copy,
    identity: T,
    f: impl Fn(T, T) -> T + Copy,
) -> [T; S] {
    let n = inputs[0].len();
    let mut eight = [[identity; 8]; S];
    if !I::FMA {
        // Vectors are short here, and code is long: fewer lanes.
        if n >= 8 {
            eight = in_lanes(&inputs, terms, identity, f);
        }
    } else {
        if n >= LANES {
            let lanes: [[T; LANES]; S] = in_lanes(&inputs, terms, identity, f);
            for s in 0..S {
                for i in 0..8 {
                    eight[s][i] = f(f(lanes[s][i], lanes[s][i + 8]), f(lanes[s][i + 16], lanes[s][i + 24]));
                }
            }
        }
        let mut at = n & !(LANES - 1);
        if at + 8 <= n {
            while at + 8 <= n {
                add(&mut eight, &inputs, at, terms, f);
                at += 8;
            }
            eight = settled(eight);
        }
    }
    let mut out = [[identity]; S];
    if n >= 8 {
        for s in 0..S {
            let [a, b, c, d, e, g, h, i] = eight[s];
            out[s] = [f(f(f(a, e), f(b, g)), f(f(c, h), f(d, i)))];
        }
    }
    // Written so that the compiler sees that there are few, and does not unroll the loop.
    for at in n & !7..n {
        add(&mut out, &inputs, at, terms, f);
    }
    let mut all = [identity; S];
    for s in 0..S {
        all[s] = out[s][0];
    }
    all
}

// ---------------------------------------------------------------------------------------------------------- passes

/// Runs a pass that gains from AVX-512: powers, and what reads and writes much.
#[inline]
pub(super) fn wide<T, K: Kernel>(pass: K) -> K::Output {
    dispatch_for::<T, K>(pass)
}

/// Runs a pass that waits for memory, is rare, or sums: there the lanes of AVX-512 cost as much in the end as they gain.
#[inline]
// As `wide`, which asks for the type.
#[allow(clippy::extra_unused_type_parameters)]
pub(super) fn narrow<T, K: Kernel>(pass: K) -> K::Output {
    dispatch_narrow(pass)
}

/// Functions that [`wide`] or [`narrow`] runs, compiled for the set of instructions that is named `I`.
macro_rules! passes {
    ($($(#[$doc:meta])* $dispatch:ident fn $name:ident<$t:ident: $bound:ident, $i:ident>(
        $($arg:ident: $ty:ty),*
    ) -> $out:ty $body:block)*) => {$(
        $(#[$doc])*
        pub fn $name<'a, 'o, $t: $bound>($($arg: $ty),*) -> $out {
            struct Pass<'a, 'o, $t> {
                $($arg: $ty,)*
                of: std::marker::PhantomData<(&'a $t, &'o $t)>,
            }
            impl<'a, 'o, $t: $bound> $crate::kernels::isa::Kernel for Pass<'a, 'o, $t> {
                type Output = $out;
                #[inline(always)]
                fn run<$i: $crate::kernels::isa::Isa>(self) -> $out {
                    // A function, so that the compiler knows that what is written does not overlap what is read.
                    #[inline(always)]
                    fn body<'a, 'o, $t: $bound, $i: $crate::kernels::isa::Isa>($($arg: $ty),*) -> $out $body
                    body::<$t, $i>($(self.$arg),*)
                }
            }
            let pass = Pass { $($arg,)* of: std::marker::PhantomData };
            $crate::kernels::passes::$dispatch::<$t, _>(pass)
        }
    )*};
}

pub(super) use passes;

/// What [`moments`] returns, for passes that go on with it.
#[inline(always)]
pub(super) fn mean_and_squares<T: Real, I: Isa>(x: &[T], centred: bool) -> [T; 2] {
    let mut mean = T::ZERO;
    if centred {
        [mean] = combine::<T, I, _, _>([x], |x| x, T::ZERO, T::plus);
        mean /= T::of(x.len() as f64);
    }
    let [squares] = combine::<T, I, _, _>([x], |[x]| [(x - mean) * (x - mean)], T::ZERO, T::plus);
    [mean, squares]
}

passes! {
    /// `Σ xᵢ`
    narrow fn sum<T: Number, I>(x: &'a [T]) -> T {
        let [sum] = combine::<T, I, _, _>([x], |x| x, T::ZERO, T::plus);
        sum
    }

    /// The largest number that is not NaN.
    narrow fn largest<T: Real, I>(x: &'a [T]) -> T {
        let [largest] = combine::<T, I, _, _>([x], |x| x, T::neg_infinity(), max_num);
        largest
    }

    /// `Σ xᵢ yᵢ`
    narrow fn dot<T: Real, I>(x: &'a [T], y: &'a [T]) -> T {
        let [sum] = combine::<T, I, _, _>([x, &y[..x.len()]], |[x, y]| [x * y], T::ZERO, T::plus);
        sum
    }

    /// The mean, or 0 if not `centred`, and the sum of the squares of the distances from it.
    narrow fn moments<T: Real, I>(x: &'a [T], centred: bool) -> [T; 2] {
        mean_and_squares::<T, I>(x, centred)
    }

    /// The sums of the distances from a number, and of their squares.
    narrow fn about<T: Real, I>(x: &'a [T], mean: T) -> [T; 2] {
        combine::<T, I, _, _>([x], |[x]| [x - mean, (x - mean) * (x - mean)], T::ZERO, T::plus)
    }

    /// `Σ gᵢ` and `Σ gᵢ dᵢ`, where `d = (x − mean) − rest`.
    narrow fn along<T: Real, I>(g: &'a [T], x: &'a [T], mean: T, rest: T) -> [T; 2] {
        combine::<T, I, _, _>([g, &x[..g.len()]], |[g, x]| [g, g * ((x - mean) - rest)], T::ZERO, T::plus)
    }

    /// The largest number, and `Σ e^(xᵢ − largest)`.
    wide fn log_sum<T: Real, I>(x: &'a [T]) -> [T; 2] {
        let [largest] = combine::<T, I, _, _>([x], |x| x, T::neg_infinity(), max_num);
        let [sum] = combine::<T, I, _, _>([x], |[x]| [T::vexp::<I>(x - largest)], T::ZERO, T::plus);
        [largest, sum]
    }

    /// `e^(xᵢ − a)`
    wide fn powers<T: Real, I>(x: &'a [T], a: T, out: &'o mut Blank<T>) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| T::vexp::<I>(x[i] - a))
    }

    /// `g (e^((xᵢ − a) − b) · factor − rest)`
    wide fn scaled_powers<T: Real, I>(
        g: T, x: &'a [T], a: T, b: T, factor: T, rest: T, out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| g * I::mul_add(T::vexp::<I>((x[i] - a) - b), factor, -rest))
    }

    /// `(xᵢ − a) − b`
    narrow fn less<T: Real, I>(x: &'a [T], a: T, b: T, out: &'o mut Blank<T>) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| (x[i] - a) - b)
    }

    /// `gᵢ − e^yᵢ · Σ g`, and the sum.
    wide fn log_softmax_slope<T: Real, I>(g: &'a [T], y: &'a [T], out: &'o mut Blank<T>) -> (&'o mut [T], T) {
        let (g, y) = (&g[..out.len()], &y[..out.len()]);
        let [sum] = combine::<T, I, _, _>([g], |x| x, T::ZERO, T::plus);
        (write(out, |i| g[i] - T::vexp::<I>(y[i]) * sum), sum)
    }

    /// `((xᵢ − mean) − rest) · scale + bias`, with these four numbers.
    narrow fn normalize_run<T: Real, I>(x: &'a [T], numbers: [T; 4], out: &'o mut Blank<T>) -> &'o mut [T] {
        let ([mean, rest, scale, bias], x) = (numbers, &x[..out.len()]);
        write(out, |i| I::mul_add((x[i] - mean) - rest, scale, bias))
    }

    /// As [`normalize_run`], with four numbers for each place.
    narrow fn normalize_columns<T: Real, I>(
        x: &'a [T], numbers: [&'a [T]; 4], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([mean, rest, scale, bias], n) = (numbers, out.len());
        let (x, mean, rest, scale, bias) = (&x[..n], &mean[..n], &rest[..n], &scale[..n], &bias[..n]);
        write(out, |i| I::mul_add((x[i] - mean[i]) - rest[i], scale[i], bias[i]))
    }

    /// `gᵢ · scale − ((xᵢ − mean) − rest) · slope − shift`, with these five numbers.
    narrow fn norm_slope_run<T: Real, I>(
        g: &'a [T], x: &'a [T], numbers: [T; 5], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([scale, mean, rest, slope, shift], g, x) = (numbers, &g[..out.len()], &x[..out.len()]);
        write(out, |i| g[i] * scale - ((x[i] - mean) - rest) * slope - shift)
    }

    /// As [`norm_slope_run`], with five numbers for each place.
    narrow fn norm_slope_columns<T: Real, I>(
        g: &'a [T], x: &'a [T], numbers: [&'a [T]; 5], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([scale, mean, rest, slope, shift], n) = (numbers, out.len());
        let (g, x, scale, mean) = (&g[..n], &x[..n], &scale[..n], &mean[..n]);
        let (rest, slope, shift) = (&rest[..n], &slope[..n], &shift[..n]);
        write(out, |i| g[i] * scale[i] - ((x[i] - mean[i]) - rest[i]) * slope[i] - shift[i])
    }

    /// Adds the distance from the mean of each place to `all`, and its square to `along`.
    narrow fn add_about<T: Real, I>(x: &'a [T], mean: &'a [T], all: &'a mut [T], along: &'a mut [T]) -> () {
        let n = x.len();
        let (mean, all, along) = (&mean[..n], &mut all[..n], &mut along[..n]);
        for i in 0..n {
            all[i] += x[i] - mean[i];
            along[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
        }
    }

    /// Adds `gᵢ` to `all`, and `gᵢ ((xᵢ − meanᵢ) − restᵢ)` to `along`.
    narrow fn add_along<T: Real, I>(
        g: &'a [T], x: &'a [T], mean: &'a [T], rest: &'a [T], all: &'a mut [T], along: &'a mut [T]
    ) -> () {
        let n = g.len();
        let (x, mean, rest, all, along) = (&x[..n], &mean[..n], &rest[..n], &mut all[..n], &mut along[..n]);
        for i in 0..n {
            all[i] += g[i];
            along[i] += g[i] * ((x[i] - mean[i]) - rest[i]);
        }
    }
}
