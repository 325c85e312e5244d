//! Losses of pairs of numbers, and their slopes.

use ndarray::{ArrayD, ArrayViewD};

use super::{
    elementwise::{Map, zip_with, zip3_with},
    index::row_major,
    isa::Isa,
    reduce::{Term, sum_of},
};
use crate::tensor::Real;

/// A loss of an input `x` and a target `y`. All of it is to be `#[inline(always)]`.
pub trait Loss<T>: Copy + Send + Sync + 'static {
    /// Its value.
    fn value<I: Isa>(self, x: T, y: T) -> T;
    /// Its derivative by `x`.
    fn slope<I: Isa>(self, x: T, y: T) -> T;
}

/// `(x − y)²`
#[derive(Clone, Copy)]
pub struct Square;
/// `|x − y|`
#[derive(Clone, Copy)]
pub struct Absolute;
/// `d² / 2·scale` while `|d| < bend`, then `slope · (|d| − bend/2)`, where `d = x − y`.
#[derive(Clone, Copy)]
pub struct Bent<T> {
    pub bend: T,
    pub scale: T,
    pub slope: T,
}
/// `log(1 + eˣ) − y x`
#[derive(Clone, Copy)]
pub struct Logistic;

impl<T: Real> Loss<T> for Square {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y) * (x - y)
    }
    #[inline(always)]
    fn slope<I: Isa>(self, x: T, y: T) -> T {
        let d = x - y;
        d + d
    }
}

/// −1, 0 or 1; NaN stays.
#[inline(always)]
fn sign<T: Real>(d: T) -> T {
    let one = if d < T::ZERO { -T::ONE } else { T::ONE };
    if d.abs() > T::ZERO { one } else { d }
}

impl<T: Real> Loss<T> for Absolute {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y).abs()
    }
    #[inline(always)]
    fn slope<I: Isa>(self, x: T, y: T) -> T {
        sign(x - y)
    }
}

impl<T: Real> Loss<T> for Bent<T> {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        let half = T::of(0.5);
        let a = (x - y).abs();
        let (near, far) = (half * a * a / self.scale, self.slope * (a - half * self.bend));
        if a < self.bend { near } else { far }
    }
    #[inline(always)]
    fn slope<I: Isa>(self, x: T, y: T) -> T {
        let d = x - y;
        let (near, far) = (d / self.scale, sign(d) * self.slope);
        // A NaN counts as within the bend, so that it stays one.
        if d.abs() >= self.bend { far } else { near }
    }
}

impl<T: Real> Loss<T> for Logistic {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        x.max(T::ZERO) + (-x.abs()).vexp::<I>().vln_1p::<I>() - y * x
    }
    #[inline(always)]
    fn slope<I: Isa>(self, x: T, y: T) -> T {
        x.vsigmoid::<I>() - y
    }
}

/// A loss in the places where its value is wanted.
struct Value<L>(L);

impl<T: Real, L: Loss<T>> Map<(T, T), T> for Value<L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (T, T)) -> T {
        self.0.value::<I>(x, y)
    }
}

impl<T: Real, L: Loss<T>> Term<T> for Value<L> {
    #[inline(always)]
    fn term<I: Isa>(&self, x: T, y: T) -> T {
        self.0.value::<I>(x, y)
    }
}

/// The loss of each pair.
pub fn values<T: Real>(x: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, loss: impl Loss<T>) -> ArrayD<T> {
    let shape = x.raw_dim();
    zip_with(x, y, ndarray::Dimension::slice(&shape), Value(loss))
}

/// The sum of all pairs' losses.
pub fn total<T: Real>(x: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, loss: impl Loss<T>) -> T {
    sum_of(&row_major(&x), &row_major(&y), &Value(loss))
}

/// A loss where its slope is wanted, times a gradient.
struct Slope<T, L>(T, L);

impl<T: Real, L: Loss<T>> Map<(T, T), T> for Slope<T, L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (T, T)) -> T {
        self.0 * self.1.slope::<I>(x, y)
    }
}

impl<T: Real, L: Loss<T>> Map<(T, T, T), T> for Slope<T, L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y, g): (T, T, T)) -> T {
        g * self.0 * self.1.slope::<I>(x, y)
    }
}

/// The gradient of `x` from the gradients of the losses.
pub fn slopes<T: Real>(
    x: ArrayViewD<'_, T>,
    y: ArrayViewD<'_, T>,
    g: ArrayViewD<'_, T>,
    loss: impl Loss<T>,
) -> ArrayD<T> {
    let shape = x.raw_dim();
    zip3_with(x, y, g, ndarray::Dimension::slice(&shape), Slope(T::ONE, loss))
}

/// The gradient of `x` where the gradient of each loss is `g`.
pub fn slopes_by<T: Real>(x: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, g: T, loss: impl Loss<T>) -> ArrayD<T> {
    let shape = x.raw_dim();
    zip_with(x, y, ndarray::Dimension::slice(&shape), Slope(g, loss))
}
