//! The language of derivatives, so that each is written once: as mathematics, for numbers and for tensors.

use std::{
    cmp::Ordering,
    marker::PhantomData,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub},
};

use super::select::step;
use crate::{
    kernels::{
        elementwise::{Loops, Map, Speed, map, map_by},
        isa::Isa,
        scalar::{self, is_nan},
        special_f64,
        vmath::VectorMath,
    },
    tensor::{Element, Real, Tensor},
};

/// Passes one expression as two functions, where `T` is `f32` and where it is `f64`.
macro_rules! typed {
    ($of:ident.$by:ident($($argument:expr)?), |$($x:ident),+| $body:expr) => {
        $of.$by($($argument,)? typed!(f32 |$($x),+| $body), typed!(f64 |$($x),+| $body))
    };
    ($t:ident |$($x:ident),+| $body:expr) => {
        |$($x),+| {
            #[allow(dead_code)]
            type T = $t;
            $body
        }
    };
}

mod symbol;

use symbol::Marks;
pub(crate) use symbol::{Symbol, on_tensors};

/// The operands of a derivative: numbers ([`Lane`]) in the fast first-order pass, or tensors ([`Symbol`]) if it is
/// differentiated again. A formula does not know the type of the elements, so that one on tensors is compiled once.
pub(crate) trait Formula:
    Functions
    + Conditions
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// Itself where the condition holds, 0 elsewhere, whatever its value is there: this is how a gradient passes a
    /// function that is flat in parts. A factor of 0 would turn an infinite gradient into NaN.
    fn kept(self, truth: Self::Truth) -> Self;
    /// One number where the condition holds, another one elsewhere: its derivative is 0.
    fn either(truth: Self::Truth, yes: f64, no: f64) -> Self;
    /// Limited to `-limit` and `limit`: for a factor of something that is 0 beyond them, since ∞ · 0 is NaN.
    fn bounded(self, limit: f64) -> Self;
    /// 0, which depends on nothing.
    fn zero(self) -> Self;
    /// Itself as a constant: its derivative is 0.
    fn fixed(self) -> Self;
    /// `xᵉ`
    fn power(self, exponent: f64) -> Self;
    /// `baseˣ`
    fn power_of(self, base: f64) -> Self;
    /// See [`Tensor::polygamma`]; `n` is at least 1.
    fn polygamma(self, n: u32) -> Self;
}

/// One row per condition: on a number and a limit, on a number alone, on two numbers.
macro_rules! conditions {
    (limit { $($name:ident: |$x:ident, $limit:ident| $holds:expr;)* }
     alone { $($alone:ident: |$y:ident| $it_holds:expr;)* }
     two { $($(#[$doc:meta])* $two:ident: |$a:ident, $b:ident| $both_hold:expr;)* }) => {
        /// The conditions in a [`Formula`].
        pub(crate) trait Conditions: Copy {
            /// The mask of a condition.
            type Truth: Copy + BitAnd<Output = Self::Truth> + BitOr<Output = Self::Truth> + Not<Output = Self::Truth>;
            $(fn $name(self, limit: f64) -> Self::Truth;)*
            $(fn $alone(self) -> Self::Truth;)*
            $($(#[$doc])* fn $two(self, other: Self) -> Self::Truth;)*
        }

        impl<I: Isa, T: Real> Conditions for Lane<I, T> {
            type Truth = bool;
            $(
                #[inline(always)]
                fn $name(self, limit: f64) -> bool {
                    let ($x, $limit) = (self.0, T::of(limit));
                    $holds
                }
            )*
            $(
                #[inline(always)]
                fn $alone(self) -> bool {
                    let $y = self.0;
                    $it_holds
                }
            )*
            $(
                #[inline(always)]
                fn $two(self, other: Self) -> bool {
                    let ($a, $b) = (self.0, other.0);
                    $both_hold
                }
            )*
        }

        impl<'a> Conditions for Symbol<'a> {
            type Truth = Marks<'a>;
            $(
                #[inline(never)]
                fn $name(self, limit: f64) -> Marks<'a> {
                    self.marked(limit, |$x, $limit| $holds)
                }
            )*
            $(
                #[inline(never)]
                fn $alone(self) -> Marks<'a> {
                    self.marked(0., |$y, _| $it_holds)
                }
            )*
            $(
                #[inline(never)]
                fn $two(self, other: Self) -> Marks<'a> {
                    self.marked_with(other, |$a, $b| $both_hold)
                }
            )*
        }
    };
}
conditions! {
    limit {
        gt: |x, limit| x > limit;
        ge: |x, limit| x >= limit;
        lt: |x, limit| x < limit;
        le: |x, limit| x <= limit;
        equals: |x, limit| x == limit;
    }
    alone {
        is_nan: |x| is_nan(x);
        is_finite: |x| x.is_finite();
    }
    two {
        /// Where it is above the other, or one of them is NaN.
        above: |x, y| !matches!(x.partial_cmp(&y), Some(Ordering::Less | Ordering::Equal));
        same: |x, y| x == y;
    }
}

// --------------------------------------------------------------------------------------------------------- on numbers

/// A number in a loop that is compiled for `I`.
pub(crate) struct Lane<I, T>(pub T, PhantomData<I>);

impl<I, T: Copy> Clone for Lane<I, T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<I, T: Copy> Copy for Lane<I, T> {}

impl<I, T: Copy> Lane<I, T> {
    #[inline(always)]
    pub fn new(x: T) -> Self {
        Lane(x, PhantomData)
    }

    /// A function of the number itself.
    #[inline(always)]
    pub fn by(self, f: impl FnOnce(T) -> T) -> Self {
        Lane::new(f(self.0))
    }
}

impl<I: Isa, T: Real> Lane<I, T> {
    #[inline(always)]
    pub fn constant(self, value: f64) -> Self {
        Lane::new(T::of(value))
    }
    /// `min(max(x, low), high)`; NaN stays NaN.
    #[inline(always)]
    pub fn clamp(self, low: f64, high: f64) -> Self {
        self.by(|x| scalar::clamp(x, T::of(low), T::of(high)))
    }
    /// `max(x, low)`; NaN stays NaN.
    #[inline(always)]
    pub fn not_below(self, low: f64) -> Self {
        self.by(|x| scalar::max_nan(x, T::of(low)))
    }
    /// `log(1 + eˣ)`, without overflow.
    #[inline(always)]
    pub fn softplus(self) -> Self {
        self.by(|x| scalar::max_nan(x, T::ZERO)) + (-self.abs()).exp().log1p()
    }
}

/// The operators, for numbers and tensors, with each other and with a constant. Those of tensors are not inlined: there are
/// hundreds of formulas.
macro_rules! operators {
    ($($trait:ident :: $method:ident, $op:tt;)*) => {$(
        impl<I, T: Real> $trait for Lane<I, T> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Lane::new(self.0 $op other.0)
            }
        }
        impl<I, T: Real> $trait<f64> for Lane<I, T> {
            type Output = Self;
            #[inline(always)]
            fn $method(self, constant: f64) -> Self {
                Lane::new(self.0 $op T::of(constant))
            }
        }
        impl $trait for Symbol<'_> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, other: Self) -> Self {
                typed!(self.and(other), |x, y| x $op y)
            }
        }
        impl $trait<f64> for Symbol<'_> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, constant: f64) -> Self {
                typed!(self.with(constant), |x, c| x $op c)
            }
        }
    )*};
}
operators! { Add::add, +; Sub::sub, -; Mul::mul, *; Div::div, /; }

impl<I, T: Real> Neg for Lane<I, T> {
    type Output = Self;
    #[inline(always)]
    fn neg(self) -> Self {
        Lane::new(-self.0)
    }
}

impl<I: Isa, T: Real> Formula for Lane<I, T> {
    #[inline(always)]
    fn kept(self, truth: bool) -> Self {
        if truth { self } else { Lane::new(T::ZERO) }
    }
    #[inline(always)]
    fn either(truth: bool, yes: f64, no: f64) -> Self {
        Lane::new(if truth { T::of(yes) } else { T::of(no) })
    }
    #[inline(always)]
    fn bounded(self, limit: f64) -> Self {
        let limit = T::of(limit);
        let below = if self.0 > limit { limit } else { self.0 };
        Lane::new(if below < -limit { -limit } else { below })
    }
    #[inline(always)]
    fn zero(self) -> Self {
        Lane::new(T::ZERO)
    }
    #[inline(always)]
    fn fixed(self) -> Self {
        self
    }
    #[inline(always)]
    fn power(self, exponent: f64) -> Self {
        self.by(|x| x.powf(T::of(exponent)))
    }
    #[inline(always)]
    fn power_of(self, base: f64) -> Self {
        self.by(|x| T::of(base).powf(x))
    }
    #[inline(always)]
    fn polygamma(self, n: u32) -> Self {
        self.by(|x| scalar::via_f64(x, |x| special_f64::polygamma(n, x)))
    }
}

// --------------------------------------------------------------------------------------------------------- functions

/// One row per function of one number: for numbers, and for tensors. Then the functions of two.
macro_rules! functions {
    (one { $($(#[$doc:meta])* $name:ident: |$x:ident| $number:expr, |$t:ident| $tensor:expr;)* }
     two { $($(#[$doc2:meta])* $name2:ident: |$x2:ident, $y2:ident| $number2:expr, |$t2:ident, $u2:ident| $tensor2:expr;)* }) => {
        /// The functions in a [`Formula`].
        pub(crate) trait Functions: Copy {
            $(
                $(#[$doc])*
                fn $name(self) -> Self;
            )*
            $(
                $(#[$doc2])*
                fn $name2(self, other: Self) -> Self;
            )*
        }

        impl<I: Isa, T: Real> Functions for Lane<I, T> {
            $(
                #[inline(always)]
                fn $name(self) -> Self {
                    let $x = self.0;
                    Lane::new($number)
                }
            )*
            $(
                #[inline(always)]
                fn $name2(self, other: Self) -> Self {
                    let ($x2, $y2) = (self.0, other.0);
                    Lane::new($number2)
                }
            )*
        }

        impl Functions for Symbol<'_> {
            $(
                #[inline(never)]
                fn $name(self) -> Self {
                    typed!(self.by(), |$t| $tensor)
                }
            )*
            $(
                #[inline(never)]
                fn $name2(self, other: Self) -> Self {
                    typed!(self.and(other), |$t2, $u2| $tensor2.expect("shapes that the operation has checked"))
                }
            )*
        }
    };
}

#[inline(always)]
fn sech_square_of<I: Isa, T: Real>(x: T) -> T {
    (x + x).vsigmoid::<I>() * (-x - x).vsigmoid::<I>() * T::of(4.)
}

struct SechSquare;

impl<T: Real> Map<(), T, T> for SechSquare {
    const SPEED: Speed = Speed::NARROW;
    #[inline(always)]
    fn at<I: Isa>(_: &(), x: T) -> T {
        sech_square_of::<I, T>(x)
    }
}

fn sech_square<T: Real>(x: &Tensor<T>) -> Tensor<T> {
    let kept = x.clone();
    Tensor::op("sech_square", map_by(x.data(), const { &Loops::of_one::<SechSquare>() }.with(&())), [x], move |g, _| {
        Ok([Some(g * (kept.tanh() * sech_square(&kept) * T::of(-2.)))])
    })
}

fn one_less_square<T: Real>(x: &Tensor<T>) -> Tensor<T> {
    let kept = x.clone();
    let value = map(x.data(), |x| (T::ONE - x) * (T::ONE + x));
    Tensor::op("one_less_square", value, [x], move |g, _| Ok([Some(g * (&kept * T::of(-2.)))]))
}

functions! {
    one {
    abs: |x| x.abs(), |x| x.abs();
    sign: |x| scalar::sign(x), |x| x.sign();
    /// 1 with the sign of the number, also for zeros; its derivative is 0.
    signum: |x| T::ONE.copysign(x), |x| step(x, |x: T| T::ONE.copysign(x));
    reciprocal: |x| x.recip(), |x| x.reciprocal();
    sqrt: |x| x.sqrt(), |x| x.sqrt();
    rsqrt: |x| x.sqrt().recip(), |x| x.rsqrt();
    exp: |x| x.vexp::<I>(), |x| x.exp();
    expm1: |x| x.vexp_m1::<I>(), |x| x.expm1();
    log: |x| x.vln::<I>(), |x| x.log();
    log1p: |x| x.vln_1p::<I>(), |x| x.log1p();
    sin: |x| x.sin(), |x| x.sin();
    cos: |x| x.cos(), |x| x.cos();
    sinh: |x| x.sinh(), |x| x.sinh();
    cosh: |x| x.cosh(), |x| x.cosh();
    tanh: |x| x.vtanh::<I>(), |x| x.tanh();
    sigmoid: |x| x.vsigmoid::<I>(), |x| x.sigmoid();
    erf: |x| x.verf::<I>(), |x| x.erf();
    /// `e^(-x²/2)`
    bell: |x| x.vbell::<I>(), |x| (x * x * T::of(-0.5)).exp();
    /// The distribution function of the standard normal distribution.
    normal_cdf: |x| x.vnormal_cdf::<I>(), |x| x.ndtr();
    digamma: |x| T::of(special_f64::digamma(x.as_f64())), |x| x.digamma();
    /// `1 − x`
    rest: |x| T::ONE - x, |x| -x + T::ONE;
    /// `1 − x²`, whose derivative is accurate near 0.
    one_less_square: |x| (T::ONE - x) * (T::ONE + x), |x| one_less_square(x);
    /// The derivative of `tanh`, computed from its input.
    sech_square: |x| sech_square_of::<I, T>(x), |x| sech_square(x);
    /// `√(x² + 1)`, without overflow.
    hypot_1: |x| x.hypot(T::ONE), |x| x.hypot(T::ONE).expect("a scalar broadcasts");
    }
    two {
    pow: |x, y| x.powf(y), |x, y| x.pow(y);
    hypot: |x, y| x.hypot(y), |x, y| x.hypot(y);
    /// `x log y`, 0 where `x` is 0.
    xlogy: |x, y| scalar::x_log_y(x, y), |x, y| x.xlogy(y);
    /// `⌊x / y⌋`; its derivatives are 0.
    div_floor: |x, y| super::arithmetic::quotient_floor(x, y), |x, y| x.div_floor(y);
    /// `x / y` without its fractional part; its derivatives are 0.
    div_trunc: |x, y| super::arithmetic::quotient_trunc(x, y), |x, y| x.div_trunc(y);
    }
}
