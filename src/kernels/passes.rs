//! Passes over the numbers of one row: what softmax, norms, losses and sums are made of. Each is compiled for the sets of
//! instructions here, and only here; what calls them for row after row is compiled once.
//!
//! Sums are made in lanes and in levels of a few numbers each, split by length alone: those of many `f32` stay accurate.

use std::{hint::black_box, mem::MaybeUninit};

use super::{
    isa::{Isa, Kernel, dispatch_for, dispatch_narrow},
    scalar::max_num,
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
    unsafe { &mut *(std::ptr::from_mut(out) as *mut [T]) }
}

// --------------------------------------------------------------------------------------------------- what combines

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
fn join<T: Copy, const S: usize>(into: &mut [[T; LANES]; S], x: &[[T; LANES]; S], f: impl Fn(T, T) -> T + Copy) {
    for s in 0..S {
        for i in 0..LANES {
            into[s][i] = f(into[s][i], x[s][i]);
        }
    }
}

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

/// Combines `S` terms for each place of the inputs with `f`, which is associative and commutative. To be called inside
/// [`dispatch`](super::isa::dispatch).
#[inline(always)]
pub(super) fn combine<T: Element, const K: usize, const S: usize>(
    inputs: [&[T]; K],
    terms: impl Fn([T; K]) -> [T; S] + Copy,
    identity: T,
    f: impl Fn(T, T) -> T + Copy,
) -> [T; S] {
    let n = inputs[0].len();
    let mut eight = [[identity; 8]; S];
    let mut at = 0;
    if n >= LANES {
        let none = [[identity; LANES]; S];
        let (mut total, mut middle, mut leaf) = (none, none, none);
        while at + LANES <= n {
            add(&mut leaf, &inputs, at, terms, f);
            at += LANES;
            if at.is_multiple_of(LANES * LEVEL) {
                join(&mut middle, &leaf, f);
                leaf = none;
                if at.is_multiple_of(LANES * LEVEL * LEVEL) {
                    join(&mut total, &middle, f);
                    middle = none;
                }
            }
        }
        join(&mut middle, &leaf, f);
        join(&mut total, &middle, f);
        // Without this the compiler arranges the lanes above for the way they are combined below, which is ten times
        // slower.
        let total = black_box(total);
        for s in 0..S {
            for i in 0..8 {
                eight[s][i] = f(f(total[s][i], total[s][i + 8]), f(total[s][i + 16], total[s][i + 24]));
            }
        }
    }
    while at + 8 <= n {
        add(&mut eight, &inputs, at, terms, f);
        at += 8;
    }
    let mut out = [[identity]; S];
    if n >= 8 {
        for s in 0..S {
            let [a, b, c, d, e, g, h, i] = black_box(eight[s]);
            out[s] = [f(f(f(a, e), f(b, g)), f(f(c, h), f(d, i)))];
        }
    }
    while at < n {
        add(&mut out, &inputs, at, terms, f);
        at += 1;
    }
    let mut all = [identity; S];
    for s in 0..S {
        all[s] = out[s][0];
    }
    all
}

// ---------------------------------------------------------------------------------------------------------- passes

/// Runs a pass that gains from AVX-512.
#[inline]
fn wide<T, K: Kernel>(pass: K) -> K::Output {
    dispatch_for::<T, K>(pass)
}

/// Runs a pass that waits for memory, or is rare.
#[inline]
fn narrow<T, K: Kernel>(pass: K) -> K::Output {
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
            impl<'a, 'o, $t: $bound> Kernel for Pass<'a, 'o, $t> {
                type Output = $out;
                #[inline(always)]
                fn run<$i: Isa>(self) -> $out {
                    // A function, so that the compiler knows that what is written does not overlap what is read.
                    #[inline(always)]
                    fn body<'a, 'o, $t: $bound, $i: Isa>($($arg: $ty),*) -> $out $body
                    body::<$t, $i>($(self.$arg),*)
                }
            }
            let pass = Pass { $($arg,)* of: std::marker::PhantomData };
            $dispatch::<$t, _>(pass)
        }
    )*};
}

passes! {
    /// `Σ xᵢ`
    wide fn sum<T: Number, I>(x: &'a [T]) -> T {
        let [sum] = combine([x], |x| x, T::ZERO, T::plus);
        sum
    }

    /// The largest number that is not NaN.
    narrow fn largest<T: Real, I>(x: &'a [T]) -> T {
        let [largest] = combine([x], |x| x, T::neg_infinity(), max_num);
        largest
    }

    /// `Σ xᵢ yᵢ`
    wide fn dot<T: Real, I>(x: &'a [T], y: &'a [T]) -> T {
        let [sum] = combine([x, &y[..x.len()]], |[x, y]| [x * y], T::ZERO, T::plus);
        sum
    }

    /// The sums of the distances from a number, and of their squares.
    wide fn about<T: Real, I>(x: &'a [T], mean: T) -> [T; 2] {
        combine([x], |[x]| [x - mean, (x - mean) * (x - mean)], T::ZERO, T::plus)
    }

    /// `Σ gᵢ` and `Σ gᵢ dᵢ`, where `d = (x − mean) − rest`.
    wide fn along<T: Real, I>(g: &'a [T], x: &'a [T], mean: T, rest: T) -> [T; 2] {
        combine([g, &x[..g.len()]], |[g, x]| [g, g * ((x - mean) - rest)], T::ZERO, T::plus)
    }

    /// As [`along`] of `gᵢ wᵢ`.
    wide fn along_weighted<T: Real, I>(g: &'a [T], w: &'a [T], x: &'a [T], mean: T, rest: T) -> [T; 2] {
        let n = g.len();
        combine([g, &w[..n], &x[..n]], |[g, w, x]| [g * w, g * w * ((x - mean) - rest)], T::ZERO, T::plus)
    }

    /// `e^(xᵢ − a)`
    wide fn powers<T: Real, I>(x: &'a [T], a: T, out: &'o mut Blank<T>) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| T::vexp::<I>(x[i] - a))
    }

    /// `e^((xᵢ − a) − b) · factor − rest`
    wide fn scaled_powers<T: Real, I>(
        x: &'a [T], a: T, b: T, factor: T, rest: T, out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| T::vexp::<I>((x[i] - a) - b) * factor - rest)
    }

    /// `(xᵢ − a) − b`
    narrow fn less<T: Real, I>(x: &'a [T], a: T, b: T, out: &'o mut Blank<T>) -> &'o mut [T] {
        let x = &x[..out.len()];
        write(out, |i| (x[i] - a) - b)
    }

    /// Multiplies all by a number.
    narrow fn scale<T: Real, I>(x: &'a mut [T], by: T) -> () {
        for x in x {
            *x *= by;
        }
    }

    /// `(gᵢ − sum) yᵢ`
    narrow fn softmax_slope<T: Real, I>(g: &'a [T], y: &'a [T], sum: T, out: &'o mut Blank<T>) -> &'o mut [T] {
        let (g, y) = (&g[..out.len()], &y[..out.len()]);
        write(out, |i| (g[i] - sum) * y[i])
    }

    /// `((xᵢ − mean) − rest) · rstd · wᵢ + bᵢ`, with `m` mean, rest and rstd.
    wide fn normalize<T: Real, I>(
        x: &'a [T], m: [T; 3], w: &'a [T], b: &'a [T], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([mean, rest, rstd], x, w, b) = (m, &x[..out.len()], &w[..out.len()], &b[..out.len()]);
        write(out, |i| I::mul_add(((x[i] - mean) - rest) * rstd, w[i], b[i]))
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

    /// `rstd (gᵢ wᵢ − all − ((xᵢ − mean) − rest) · rstd · along)`, with `m` mean, rest and rstd.
    wide fn norm_slope<T: Real, I>(
        g: &'a [T], w: &'a [T], x: &'a [T], m: [T; 3], sums: [T; 2], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([mean, rest, rstd], [all, along]) = (m, sums);
        let (g, w, x) = (&g[..out.len()], &w[..out.len()], &x[..out.len()]);
        write(out, |i| rstd * (g[i] * w[i] - all - ((x[i] - mean) - rest) * rstd * along))
    }

    /// `gᵢ · scale − (xᵢ − mean) · slope − shift`, with these four numbers.
    narrow fn norm_slope_run<T: Real, I>(
        g: &'a [T], x: &'a [T], numbers: [T; 4], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([scale, mean, slope, shift], g, x) = (numbers, &g[..out.len()], &x[..out.len()]);
        write(out, |i| g[i] * scale - (x[i] - mean) * slope - shift)
    }

    /// As [`norm_slope_run`], with four numbers for each place.
    narrow fn norm_slope_columns<T: Real, I>(
        g: &'a [T], x: &'a [T], numbers: [&'a [T]; 4], out: &'o mut Blank<T>
    ) -> &'o mut [T] {
        let ([scale, mean, slope, shift], n) = (numbers, out.len());
        let (g, x, scale, mean) = (&g[..n], &x[..n], &scale[..n], &mean[..n]);
        let (slope, shift) = (&slope[..n], &shift[..n]);
        write(out, |i| g[i] * scale[i] - (x[i] - mean[i]) * slope[i] - shift[i])
    }

    /// Adds `gᵢ (((xᵢ − mean) − rest) · rstd)` to `dw`, and `gᵢ` to `db`; `m` is mean, rest and rstd.
    wide fn add_parameters<T: Real, I>(
        g: &'a [T], x: &'a [T], m: [T; 3], dw: &'a mut [T], db: &'a mut [T]
    ) -> () {
        let ([mean, rest, rstd], n) = (m, g.len());
        let (x, dw, db) = (&x[..n], &mut dw[..n], &mut db[..n]);
        for i in 0..n {
            dw[i] += g[i] * (((x[i] - mean) - rest) * rstd);
            db[i] += g[i];
        }
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
