//! What derivatives are written in, so that each stands once.

use std::{
    marker::PhantomData,
    ops::{Add, Mul, Neg},
};

use super::{select::keep_where, step};
use crate::{
    kernels::{
        elementwise::{Map, map, map_with},
        isa::Isa,
        special_f64,
    },
    tensor::{Number, Real, Tensor},
};

/// What a derivative is written in: numbers ([`Lane`]), for the fast first-order pass, or tensors, where it is
/// differentiated again.
pub(crate) trait Formula<T: Number>:
    Clone + Add<Output = Self> + Mul<Output = Self> + Neg<Output = Self> + Add<T, Output = Self> + Mul<T, Output = Self>
{
    /// Itself where the condition holds for `by`, 0 elsewhere, whatever it is there: how a gradient passes a function that
    /// is flat in parts. A factor of 0 would make NaN of an infinite gradient.
    fn kept(self, by: &Self, keep: impl Fn(T) -> bool + Sync) -> Self;
    /// Itself where the condition holds for it, 0 elsewhere.
    fn only(self, keep: impl Fn(T) -> bool + Sync) -> Self {
        let by = self.clone();
        self.kept(&by, keep)
    }
    /// Itself between `-limit` and `limit`, the nearer of these beyond: in a factor of what is 0 there, as ∞ · 0 is NaN.
    fn bounded(self, limit: T) -> Self;
    /// A function of it that is constant piece by piece: its derivative is 0.
    fn step(self, f: impl Fn(T) -> T + Sync) -> Self;
}

/// A number in a loop that is compiled for `I`.
#[derive(Clone, Copy)]
pub(crate) struct Lane<I, T>(pub T, PhantomData<I>);

impl<I, T> Lane<I, T> {
    #[inline(always)]
    pub fn new(x: T) -> Self {
        Lane(x, PhantomData)
    }
}

impl<I, T: Add<Output = T>> Add for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Lane::new(self.0 + other.0)
    }
}

impl<I, T: Mul<Output = T>> Mul for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: Self) -> Self {
        Lane::new(self.0 * other.0)
    }
}

impl<I, T: Add<Output = T>> Add<T> for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn add(self, other: T) -> Self {
        Lane::new(self.0 + other)
    }
}

impl<I, T: Mul<Output = T>> Mul<T> for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn mul(self, other: T) -> Self {
        Lane::new(self.0 * other)
    }
}

impl<I, T: Neg<Output = T>> Neg for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Lane::new(-self.0)
    }
}

impl<I: Isa, T: Number> Formula<T> for Lane<I, T> {
    #[inline(always)]
    fn kept(self, by: &Self, keep: impl Fn(T) -> bool + Sync) -> Self {
        if keep(by.0) { self } else { Lane::new(T::ZERO) }
    }
    #[inline(always)]
    fn bounded(self, limit: T) -> Self {
        let below = if self.0 > limit { limit } else { self.0 };
        Lane::new(if below < -limit { -limit } else { below })
    }
    #[inline(always)]
    fn step(self, f: impl Fn(T) -> T + Sync) -> Self {
        Lane::new(f(self.0))
    }
}

impl<T: Number> Formula<T> for Tensor<T> {
    fn kept(self, by: &Self, keep: impl Fn(T) -> bool + Sync) -> Self {
        keep_where(&self, by, keep)
    }
    fn bounded(self, limit: T) -> Self {
        self.clamp(-limit, limit)
    }
    fn step(self, f: impl Fn(T) -> T + Sync) -> Self {
        step(&self, f)
    }
}

/// The gradient that a row of a table names: with one name the slope, by which `g` is multiplied; with two the gradient
/// itself, where a product would not do.
macro_rules! gradient_of {
    ($g:expr, $kept:expr, |$k:ident| $slope:expr) => {{
        let $k = $kept;
        $g * $slope
    }};
    ($g:expr, $kept:expr, |$gradient:ident, $k:ident| $whole:expr) => {{
        let ($gradient, $k) = ($g, $kept);
        $whole
    }};
}
pub(crate) use gradient_of;

/// A row a function: on numbers, and on tensors.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident: |$x:ident| $number:expr, |$t:ident| $tensor:expr;)*) => {
        /// The functions of a [`Formula`] in floating-point numbers.
        pub(crate) trait RealFormula<T: Real>: Formula<T> {
            /// The quotient: where `1 / other` overflows, it need not.
            fn over(self, other: Self) -> Self;
            $(
            $(#[$doc])*
            fn $name(self) -> Self;
        )*}

        impl<I: Isa, T: Real> RealFormula<T> for Lane<I, T> {
            #[inline(always)]
            fn over(self, other: Self) -> Self {
                Lane::new(self.0 / other.0)
            }
            $(
            #[inline(always)]
            fn $name(self) -> Self {
                let $x = self.0;
                Lane::new($number)
            }
        )*}

        impl<T: Real> RealFormula<T> for Tensor<T> {
            fn over(self, other: Self) -> Self {
                self / other
            }
            $(
            fn $name(self) -> Self {
                let $t = &self;
                $tensor
            }
        )*}
    };
}

#[inline(always)]
fn sech_square<I: Isa, T: Real>(x: T) -> T {
    (x + x).vsigmoid::<I>() * (-x - x).vsigmoid::<I>() * T::of(4.)
}

struct SechSquare;

impl<T: Real> Map<T, T> for SechSquare {
    #[inline(always)]
    fn at<I: Isa>(&self, x: T) -> T {
        sech_square::<I, T>(x)
    }
}

functions! {
    abs: |x| num_traits::Float::abs(x), |x| x.abs();
    reciprocal: |x| x.recip(), |x| x.reciprocal();
    rsqrt: |x| x.sqrt().recip(), |x| x.rsqrt();
    digamma: |x| T::of(special_f64::digamma(x.as_f64())), |x| x.digamma();
    /// The derivative of `digamma`.
    trigamma: |x| T::of(special_f64::polygamma(1, x.as_f64())), |x| x.polygamma(1);
    exp: |x| x.vexp::<I>(), |x| x.exp();
    tanh: |x| x.vtanh::<I>(), |x| x.tanh();
    sigmoid: |x| x.vsigmoid::<I>(), |x| x.sigmoid();
    /// `1 − x²`, whose derivative keeps its digits near 0.
    one_less_square: |x| (T::ONE - x) * (T::ONE + x), |x| {
        let slope = x.clone();
        let value = map(x.view(), |x| (T::ONE - x) * (T::ONE + x));
        Tensor::op("one_less_square", value, [x], move |g, _| Ok([Some(g * (&slope * T::of(-2.)))]))
    };
    /// The derivative of `tanh`, worked out from its input.
    sech_square: |x| sech_square::<I, T>(x), |x| {
        let kept = x.clone();
        let value = map_with(x.view(), SechSquare);
        Tensor::op("sech_square", value, [x], move |g, _| Ok([Some(g * (Tensor::tanh(&kept) * kept.clone().sech_square() * T::of(-2.)))]))
    };
    /// `√(x² + 1)`, without overflow.
    hypot_1: |x| x.hypot(T::ONE), |x| x.hypot(T::ONE).expect("a scalar broadcasts");
    sin: |x| x.sin(), |x| x.sin();
    cos: |x| x.cos(), |x| x.cos();
    sinh: |x| x.sinh(), |x| x.sinh();
    cosh: |x| x.cosh(), |x| x.cosh();
    /// `e^(-x²/2)`
    bell: |x| x.vbell::<I>(), |x| (x * x * T::of(-0.5)).exp();
    /// The distribution function of the standard normal distribution.
    normal_cdf: |x| x.vnormal_cdf::<I>(), |x| (x * -T::FRAC_1_SQRT_2()).erfc() * T::of(0.5);
}
