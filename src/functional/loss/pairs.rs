//! Losses of pairs of an input `x` and a target `y`, element by element: a value, its derivatives, and one operation for
//! all of them.

use ndarray::arr0;

use super::{Reduction, same_shape};
use crate::{
    Result,
    functional::activation::softplus_of,
    kernels::{
        elementwise::{Map, zip_with, zip3_with},
        isa::Isa,
        layout::row_major,
        reduce::{Term, sum_of},
    },
    ops::{Lane, RealFormula},
    tensor::{Real, Tensor, grad_enabled},
};

/// One loss. All of it is to be `#[inline(always)]`.
pub(super) trait Loss<T: Real>: Copy + Send + Sync + 'static {
    /// Its value.
    fn value<I: Isa>(self, x: T, y: T) -> T;
    /// The gradient of the input from that of the loss.
    fn gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E;
    /// The gradient of the target: the negated one, as for all losses of `x − y`.
    #[inline(always)]
    fn target_gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E {
        -self.gradient(g, x, y)
    }
}

/// `(x − y)²`
#[derive(Clone, Copy)]
pub(super) struct Square;

impl<T: Real> Loss<T> for Square {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y) * (x - y)
    }
    #[inline(always)]
    fn gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E {
        g * ((x + -y) * T::of(2.))
    }
}

/// −1 below 0, else 1.
#[inline(always)]
fn sign<T: Real>(d: T) -> T {
    if d < T::ZERO { -T::ONE } else { T::ONE }
}

/// `|x − y|`
#[derive(Clone, Copy)]
pub(super) struct Absolute;

impl<T: Real> Loss<T> for Absolute {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y).abs()
    }
    #[inline(always)]
    fn gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E {
        let d = x + -y;
        // As in PyTorch a NaN gets nothing, as if it were 0.
        g.kept(&d, |d| d.abs() > T::ZERO) * d.step(sign)
    }
}

/// `d² / 2·scale` while `|d| < bend`, then `slope · (|d| − bend/2)`, where `d = x − y`.
#[derive(Clone, Copy)]
pub(super) struct Bent<T> {
    pub bend: T,
    pub scale: T,
    pub slope: T,
}

impl<T: Real> Loss<T> for Bent<T> {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        let half = T::of(0.5);
        let a = (x - y).abs();
        let (near, far) = (half * a * (a / self.scale), self.slope * (a - half * self.bend));
        if a < self.bend { near } else { far }
    }
    #[inline(always)]
    fn gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E {
        let d = x + -y;
        // A NaN counts as within the bend, so that it stays one.
        let far = |d: T| d.abs() >= self.bend;
        // The reciprocal of a number below the normal ones may be ∞.
        let up = if self.scale < T::min_positive_value() { T::epsilon().recip() } else { T::ONE };
        let near = d.clone().only(|d| !far(d)) * up * (self.scale * up).recip();
        g * (near + d.step(|d| if far(d) { sign(d) * self.slope } else { T::ZERO }))
    }
}

/// `log(1 + eˣ) − y x`, of which nothing cancels: `(1 − y) x + log(1 + e⁻ˣ)` above 0, `−y x + log(1 + eˣ)` below.
#[derive(Clone, Copy)]
pub(super) struct Logistic;

impl<T: Real> Loss<T> for Logistic {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        let (size, wrong) = (x.abs(), if x > T::ZERO { T::ONE - y } else { y });
        let far = if wrong == T::ZERO { T::ZERO } else { size * wrong };
        far + softplus_of::<I, T>(-size)
    }
    #[inline(always)]
    fn gradient<E: RealFormula<T>>(self, g: E, x: E, y: E) -> E {
        // `σ(x) − y`, above 0 as `(1 − y) − σ(−x)`: where σ is near 1, it has no digits left of the difference.
        let above = |x: T| x > T::ZERO;
        let sign = x.clone().step(|x| if above(x) { -T::ONE } else { T::ONE });
        let wrong = y * sign.clone() + x.clone().step(|x| if above(x) { T::ONE } else { T::ZERO });
        g * (((x * sign.clone()).sigmoid() + -wrong) * sign)
    }
    #[inline(always)]
    fn target_gradient<E: RealFormula<T>>(self, g: E, x: E, _: E) -> E {
        g * -x
    }
}

// --------------------------------------------------------------------------------------------------------- as kernels

/// A loss where its value is wanted.
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

/// A loss where its gradient is wanted, by the target or by the input, from one of its value for each element.
struct Gradient<L> {
    loss: L,
    by_target: bool,
}

impl<L> Gradient<L> {
    #[inline(always)]
    fn of<T: Real, E: RealFormula<T>>(&self, g: E, x: E, y: E) -> E
    where
        L: Loss<T>,
    {
        if self.by_target { self.loss.target_gradient(g, x, y) } else { self.loss.gradient(g, x, y) }
    }
}

impl<T: Real, L: Loss<T>> Map<(T, T, T), T> for Gradient<L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y, g): (T, T, T)) -> T {
        self.of(Lane::<I, T>::new(g), Lane::new(x), Lane::new(y)).0
    }
}

/// The same from one for all elements.
struct OfOne<T, L> {
    g: T,
    gradient: Gradient<L>,
}

impl<T: Real, L: Loss<T>> Map<(T, T), T> for OfOne<T, L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (T, T)) -> T {
        self.gradient.at::<I>((x, y, self.g))
    }
}

// ------------------------------------------------------------------------------------------------------ the operation

/// The losses of pairs, reduced: one operation.
pub(super) fn of_pairs<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    target: &Tensor<T>,
    reduction: Reduction,
    loss: impl Loss<T>,
) -> Result<Tensor<T>> {
    same_shape(op, input, target)?;
    let count = match reduction {
        Reduction::Mean => T::of(input.numel() as f64),
        _ => T::ONE,
    };
    let out = match reduction {
        Reduction::None => zip_with(input.view(), target.view(), input.shape(), Value(loss)),
        _ => {
            let (x, y) = (input.view(), target.view());
            arr0(sum_of(&row_major(&x), &row_major(&y), &Value(loss)) / count).into_dyn()
        }
    };
    let (x, y) = (input.clone(), target.clone());
    Ok(Tensor::op(op, out, [input, target], move |g, needed| {
        let grad = |by_target: bool| -> Result<Tensor<T>> {
            let gradient = Gradient { loss, by_target };
            if grad_enabled() {
                return Ok(gradient.of((g / count).broadcast_to(x.shape())?, x.clone(), y.clone()));
            }
            Ok(match reduction {
                Reduction::None => zip3_with(x.view(), y.view(), g.view(), x.shape(), gradient),
                _ => zip_with(x.view(), y.view(), x.shape(), OfOne { g: g.item()? / count, gradient }),
            }
            .into())
        };
        Ok([needed[0].then(|| grad(false)).transpose()?, needed[1].then(|| grad(true)).transpose()?])
    }))
}
