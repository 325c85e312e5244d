//! Losses of pairs of numbers, and their slopes.

use super::{
    isa::Isa,
    reduce::{Term, sum_of},
    rows::{Blank, Elements, elements, exp, write},
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
        x.max(T::ZERO) + exp::<I, T>(-x.abs()).ln_1p() - y * x
    }
    #[inline(always)]
    fn slope<I: Isa>(self, x: T, y: T) -> T {
        (T::ONE + exp::<I, T>(-x)).recip() - y
    }
}

struct Values<'a, T, L> {
    x: &'a [T],
    y: &'a [T],
    loss: L,
}

impl<T: Real, L: Loss<T>> Elements<T> for Values<'_, T, L> {
    #[inline(always)]
    fn write<'a, I: Isa>(&self, first: usize, out: &'a mut Blank<T>) -> &'a mut [T] {
        let (n, loss) = (out.len(), self.loss);
        let (x, y) = (&self.x[first..][..n], &self.y[first..][..n]);
        write(out, |i| loss.value::<I>(x[i], y[i]))
    }
}

/// The loss of each pair.
pub fn values<T: Real>(x: &[T], y: &[T], loss: impl Loss<T>) -> Vec<T> {
    elements(&Values { x, y, loss }, x.len())
}

#[derive(Clone, Copy)]
struct Value<L>(L);

impl<T: Real, L: Loss<T>> Term<T> for Value<L> {
    #[inline(always)]
    fn term<I: Isa>(&self, x: T, y: T) -> T {
        self.0.value::<I>(x, y)
    }
}

/// The sum of all pairs' losses.
pub fn total<T: Real>(x: &[T], y: &[T], loss: impl Loss<T>) -> T {
    sum_of(x, y, &Value(loss))
}

struct Slopes<'a, T, L> {
    x: &'a [T],
    y: &'a [T],
    /// One for all pairs, or one each.
    g: Result<T, &'a [T]>,
    loss: L,
}

impl<T: Real, L: Loss<T>> Elements<T> for Slopes<'_, T, L> {
    #[inline(always)]
    fn write<'a, I: Isa>(&self, first: usize, out: &'a mut Blank<T>) -> &'a mut [T] {
        let (n, loss) = (out.len(), self.loss);
        let (x, y) = (&self.x[first..][..n], &self.y[first..][..n]);
        match self.g {
            Ok(g) => write(out, |i| g * loss.slope::<I>(x[i], y[i])),
            Err(g) => {
                let g = &g[first..][..n];
                write(out, |i| g[i] * loss.slope::<I>(x[i], y[i]))
            }
        }
    }
}

/// The gradient of `x` from that of the losses: one number for all pairs, or one each.
pub fn slopes<T: Real>(x: &[T], y: &[T], g: Result<T, &[T]>, loss: impl Loss<T>) -> Vec<T> {
    elements(&Slopes { x, y, g, loss }, x.len())
}
