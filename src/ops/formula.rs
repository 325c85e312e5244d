//! The language of derivatives, so that each is written once: as mathematics, for numbers and for tensors.

use std::{
    cell::OnceCell,
    marker::PhantomData,
    ops::{Add, BitAnd, BitOr, Div, Mul, Neg, Not, Sub},
    ptr,
};

use ndarray::Dimension;

use super::select::{connected, step};
use crate::{
    kernels::{
        elementwise::{Loops, Map, Speed, map, map_by, zip},
        isa::Isa,
        scalar::{self, is_nan},
        special_f64,
        vmath::VectorMath,
    },
    tensor::{Number, Real, Tensor},
};

/// The operands of a derivative: numbers ([`Lane`]) in the fast first-order pass, or tensors ([`Symbol`]) if it is
/// differentiated again.
pub(crate) trait Formula<T: Real>:
    Functions<T>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + Add<f64, Output = Self>
    + Sub<f64, Output = Self>
    + Mul<f64, Output = Self>
{
    /// The mask of a condition.
    type Truth: Copy + BitAnd<Output = Self::Truth> + BitOr<Output = Self::Truth> + Not<Output = Self::Truth>;

    fn test(self, holds: impl Fn(T) -> bool + Sync) -> Self::Truth;
    fn test_with(self, other: Self, holds: impl Fn(T, T) -> bool + Sync) -> Self::Truth;

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

    #[inline(always)]
    fn gt(self, limit: f64) -> Self::Truth {
        self.test(|x| x > T::of(limit))
    }
    #[inline(always)]
    fn ge(self, limit: f64) -> Self::Truth {
        self.test(|x| x >= T::of(limit))
    }
    #[inline(always)]
    fn lt(self, limit: f64) -> Self::Truth {
        self.test(|x| x < T::of(limit))
    }
    #[inline(always)]
    fn le(self, limit: f64) -> Self::Truth {
        self.test(|x| x <= T::of(limit))
    }
    #[inline(always)]
    fn equals(self, other: f64) -> Self::Truth {
        self.test(|x| x == T::of(other))
    }
    #[inline(always)]
    fn is_nan(self) -> Self::Truth {
        self.test(is_nan)
    }
    #[inline(always)]
    fn is_finite(self) -> Self::Truth {
        self.test(T::is_finite)
    }
    /// Where it is above the other, or one of them is NaN.
    #[inline(always)]
    fn above(self, other: Self) -> Self::Truth {
        self.test_with(other, |x, y| {
            !matches!(x.partial_cmp(&y), Some(std::cmp::Ordering::Less | std::cmp::Ordering::Equal))
        })
    }
    #[inline(always)]
    fn same(self, other: Self) -> Self::Truth {
        self.test_with(other, |x, y| x == y)
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
        impl<T: Real> $trait for Symbol<'_, T> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, other: Self) -> Self {
                self.page.keep(self.of $op other.of)
            }
        }
        impl<T: Real> $trait<f64> for Symbol<'_, T> {
            type Output = Self;
            #[inline(never)]
            fn $method(self, constant: f64) -> Self {
                self.page.keep(self.of $op T::of(constant))
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

impl<I: Isa, T: Real> Formula<T> for Lane<I, T> {
    type Truth = bool;

    #[inline(always)]
    fn test(self, holds: impl Fn(T) -> bool + Sync) -> bool {
        holds(self.0)
    }
    #[inline(always)]
    fn test_with(self, other: Self, holds: impl Fn(T, T) -> bool + Sync) -> bool {
        holds(self.0, other.0)
    }
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

// --------------------------------------------------------------------------------------------------------- on tensors

/// A tensor in a formula. Intermediate results are stored on a [`Page`], so that this can be copied as a number can.
pub(crate) struct Symbol<'a, T: Real> {
    of: &'a Tensor<T>,
    page: &'a Page<T>,
}

impl<T: Real> Clone for Symbol<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Real> Copy for Symbol<'_, T> {}

/// The tensors of a formula.
pub(crate) struct Page<T: Real> {
    lines: [OnceCell<Tensor<T>>; 4],
    next: OnceCell<Box<Page<T>>>,
}

impl<T: Real> Page<T> {
    fn new() -> Self {
        Page { lines: [const { OnceCell::new() }; 4], next: OnceCell::new() }
    }

    /// An input of the formula.
    pub fn symbol<'a>(&'a self, of: &'a Tensor<T>) -> Symbol<'a, T> {
        Symbol { of, page: self }
    }

    fn keep(&self, tensor: Tensor<T>) -> Symbol<'_, T> {
        self.symbol(self.write(tensor))
    }

    fn write(&self, mut tensor: Tensor<T>) -> &Tensor<T> {
        for line in &self.lines {
            match line.set(tensor) {
                Ok(()) => return line.get().expect("just written"),
                Err(back) => tensor = back,
            }
        }
        self.next.get_or_init(|| Box::new(Page::new())).write(tensor)
    }

    /// The tensor at this address, if it is on this page.
    fn take(&mut self, at: *const Tensor<T>) -> Option<Tensor<T>> {
        let here = self.lines.iter_mut().find(|line| line.get().is_some_and(|tensor| ptr::eq(tensor, at)));
        match here {
            Some(line) => line.take(),
            None => self.next.get_mut()?.take(at),
        }
    }
}

/// The value of a formula on tensors.
pub(crate) fn on_tensors<T: Real>(
    inputs: [&Tensor<T>; 3],
    formula: &dyn for<'a> Fn([Symbol<'a, T>; 3]) -> Symbol<'a, T>,
) -> Tensor<T> {
    let mut page = Page::new();
    let [x, y, z] = inputs;
    let at = ptr::from_ref(formula([page.symbol(x), page.symbol(y), page.symbol(z)]).of);
    page.take(at).unwrap_or_else(|| {
        inputs.into_iter().find(|&input| ptr::eq(input, at)).expect("an input of the formula").clone()
    })
}

/// A mask of ones and zeros for a condition, and the tensors that were compared.
pub(crate) struct Marks<'a, T: Real> {
    ones: &'a Tensor<T>,
    by: Symbol<'a, T>,
}

impl<T: Real> Clone for Marks<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T: Real> Copy for Marks<'_, T> {}

impl<'a, T: Real> Marks<'a, T> {
    fn with(self, other: &Tensor<T>, f: fn(T, T) -> T) -> Self {
        Marks { ones: self.by.page.write(self.ones.combined(other, f)), by: self.by }
    }
}

impl<T: Real> BitAnd for Marks<'_, T> {
    type Output = Self;
    #[inline(never)]
    fn bitand(self, other: Self) -> Self {
        self.with(other.ones, |a, b| a * b)
    }
}
impl<T: Real> BitOr for Marks<'_, T> {
    type Output = Self;
    #[inline(never)]
    fn bitor(self, other: Self) -> Self {
        self.with(other.ones, |a, b| if a > b { a } else { b })
    }
}
impl<T: Real> Not for Marks<'_, T> {
    type Output = Self;
    #[inline(never)]
    fn not(self) -> Self {
        self.with(self.ones, |a, _| T::ONE - a)
    }
}

impl<T: Real> Tensor<T> {
    /// `f` of each pair, broadcasting; no gradient flows.
    fn combined(&self, other: &Tensor<T>, f: impl Fn(T, T) -> T + Sync) -> Tensor<T> {
        let shape = super::broadcast("formula", self, other).expect("shapes that the operation has checked");
        zip(self.view(), other.view(), &shape, f).into()
    }
}

impl<T: Real> Neg for Symbol<'_, T> {
    type Output = Self;
    #[inline(never)]
    fn neg(self) -> Self {
        self.page.keep(-self.of)
    }
}

fn one<T: Number>(holds: bool) -> T {
    if holds { T::ONE } else { T::ZERO }
}

impl<'a, T: Real> Formula<T> for Symbol<'a, T> {
    type Truth = Marks<'a, T>;

    #[inline(never)]
    fn test(self, holds: impl Fn(T) -> bool + Sync) -> Marks<'a, T> {
        Marks { ones: self.page.write(map(self.of.view(), |x| one(holds(x))).into()), by: self }
    }
    #[inline(never)]
    fn test_with(self, other: Self, holds: impl Fn(T, T) -> bool + Sync) -> Marks<'a, T> {
        let ones = self.of.combined(other.of, |x, y| one(holds(x, y)));
        Marks { ones: self.page.write(ones), by: self }
    }
    #[inline(never)]
    fn kept(self, truth: Marks<'a, T>) -> Self {
        self.page.keep(connected(self.of, truth.ones, truth.by.of))
    }
    #[inline(never)]
    fn either(truth: Marks<'a, T>, yes: f64, no: f64) -> Self {
        let value = map(truth.ones.view(), |one| T::of(if one == T::ONE { yes } else { no }));
        let shape = truth.by.of.data().raw_dim();
        let flat = move |_: &Tensor<T>, _: [bool; 1]| Ok([Some(Tensor::zeros(shape.slice()))]);
        truth.by.page.keep(Tensor::op("either", value, [truth.by.of], flat))
    }
    #[inline(never)]
    fn bounded(self, limit: f64) -> Self {
        self.page.keep(self.of.clamp(T::of(-limit), T::of(limit)))
    }
    #[inline(never)]
    fn zero(self) -> Self {
        self.page.keep(self.of.zeros_like())
    }
    #[inline(never)]
    fn fixed(self) -> Self {
        self.page.keep(self.of.detach())
    }
    #[inline(never)]
    fn power(self, exponent: f64) -> Self {
        self.page.keep(self.of.pow_scalar(T::of(exponent)))
    }
    #[inline(never)]
    fn power_of(self, base: f64) -> Self {
        self.page.keep(self.of.rpow(T::of(base)))
    }
    #[inline(never)]
    fn polygamma(self, n: u32) -> Self {
        self.page.keep(self.of.polygamma(n))
    }
}

// --------------------------------------------------------------------------------------------------------- functions

/// One row per function of one number: for numbers, and for tensors. Then the functions of two.
macro_rules! functions {
    (one { $($(#[$doc:meta])* $name:ident: |$x:ident| $number:expr, |$t:ident| $tensor:expr;)* }
     two { $($(#[$doc2:meta])* $name2:ident: |$x2:ident, $y2:ident| $number2:expr, |$t2:ident, $u2:ident| $tensor2:expr;)* }) => {
        /// The functions in a [`Formula`].
        pub(crate) trait Functions<T: Real>: Copy {
            $(
                $(#[$doc])*
                fn $name(self) -> Self;
            )*
            $(
                $(#[$doc2])*
                fn $name2(self, other: Self) -> Self;
            )*
        }

        impl<I: Isa, T: Real> Functions<T> for Lane<I, T> {
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

        impl<T: Real> Functions<T> for Symbol<'_, T> {
            $(
                #[inline(never)]
                fn $name(self) -> Self {
                    let $t = self.of;
                    self.page.keep($tensor)
                }
            )*
            $(
                #[inline(never)]
                fn $name2(self, other: Self) -> Self {
                    let ($t2, $u2) = (self.of, other.of);
                    self.page.keep($tensor2.expect("shapes that the operation has checked"))
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
    Tensor::op("sech_square", map_by(x.view(), const { &Loops::of_one::<SechSquare>() }.with(&())), [x], move |g, _| {
        Ok([Some(g * (kept.tanh() * sech_square(&kept) * T::of(-2.)))])
    })
}

fn one_less_square<T: Real>(x: &Tensor<T>) -> Tensor<T> {
    let kept = x.clone();
    let value = map(x.view(), |x| (T::ONE - x) * (T::ONE + x));
    Tensor::op("one_less_square", value, [x], move |g, _| Ok([Some(g * (&kept * T::of(-2.)))]))
}

functions! {
    one {
    abs: |x| x.abs(), |x| x.abs();
    sign: |x| scalar::sign(x), |x| x.sign();
    /// 1 with the sign of the number, also for zeros; its derivative is 0.
    signum: |x| T::ONE.copysign(x), |x| step(x, |x| T::ONE.copysign(x));
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
