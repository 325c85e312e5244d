//! A number as exact arithmetic gives it, and a bound for the error of an `f32` that is computed in the same steps: the
//! errors of all roundings, propagated to first order. So a test needs no tolerance that was chosen by hand.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// The largest relative error of one rounding.
const ROUNDING: f64 = f32::EPSILON as f64 / 2.;

#[derive(Clone, Copy, Debug)]
pub struct Rounded {
    pub value: f64,
    pub error: f64,
}

impl Rounded {
    /// A number that an `f32` represents exactly.
    pub fn exact(value: f64) -> Self {
        Rounded { value, error: 0. }
    }

    /// A constant, rounded.
    pub fn of(value: f64) -> Self {
        Self::new(value, 0., 1.)
    }

    /// A result with the errors of its inputs and a number of roundings (half an ulp each) of its own.
    fn new(value: f64, inherited: f64, roundings: f64) -> Self {
        Rounded { value, error: inherited + roundings * ROUNDING * value.abs() }
    }

    /// A function whose kernel is within `ulps`, with its derivative.
    fn function(self, f: impl Fn(f64) -> f64, slope: f64, ulps: f64) -> Self {
        Self::new(f(self.value), slope.abs() * self.error, 2. * ulps)
    }

    pub fn exp(self) -> Self {
        // To first order in the relative error, which may be large for a sum.
        self.function(f64::exp, self.value.exp() * self.error.exp(), 1.1)
    }

    pub fn ln(self) -> Self {
        self.function(f64::ln, self.value.recip(), 1.)
    }

    pub fn exp_m1(self) -> Self {
        self.function(f64::exp_m1, self.value.exp() * self.error.exp(), 1.8)
    }

    pub fn ln_1p(self) -> Self {
        self.function(f64::ln_1p, (1. + self.value).recip(), 1.5)
    }

    pub fn sqrt(self) -> Self {
        self.function(f64::sqrt, 0.5 / self.value.sqrt(), 0.5)
    }

    pub fn abs(self) -> Self {
        Rounded { value: self.value.abs(), ..self }
    }

    /// A sum by halves or by levels: no number takes part in more than this many additions.
    pub fn sum(terms: impl IntoIterator<Item = Self>) -> Self {
        Self::added(terms, |n| n.min(40 + n / 16))
    }

    /// A sum of one number after another.
    pub fn sum_in_order(terms: impl IntoIterator<Item = Self>) -> Self {
        Self::added(terms, |n| n)
    }

    fn added(terms: impl IntoIterator<Item = Self>, additions: impl Fn(usize) -> usize) -> Self {
        let (mut value, mut size, mut error, mut n) = (0., 0., 0., 0);
        for term in terms {
            (value, size, error, n) = (value + term.value, size + term.value.abs(), error + term.error, n + 1);
        }
        Rounded { value, error: error + additions(n) as f64 * ROUNDING * size }
    }

    /// Whether `got` is as close to this number as the roundings allow. Below the normal numbers a rounding is
    /// absolute.
    pub fn allows(self, got: f32) -> bool {
        let got = f64::from(got);
        got == self.value
            || got.is_nan() && self.value.is_nan()
            || (got - self.value).abs() <= self.error + f64::from(f32::MIN_POSITIVE)
    }
}

impl Neg for Rounded {
    type Output = Self;
    fn neg(self) -> Self {
        Rounded { value: -self.value, ..self }
    }
}

impl Add for Rounded {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self::new(self.value + other.value, self.error + other.error, 1.)
    }
}

impl Sub for Rounded {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Rounded {
    type Output = Self;
    fn mul(self, other: Self) -> Self {
        let inherited = self.error * (other.value.abs() + other.error) + self.value.abs() * other.error;
        Self::new(self.value * other.value, inherited, 1.)
    }
}

impl Div for Rounded {
    type Output = Self;
    fn div(self, other: Self) -> Self {
        let quotient = self.value / other.value;
        Self::new(quotient, (self.error + quotient.abs() * other.error) / other.value.abs(), 1.)
    }
}
