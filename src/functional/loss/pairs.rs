//! Losses of pairs of an input `x` and a target `y`, element by element: a value, its derivatives, and one operation for
//! all of them.

use ndarray::arr0;

use super::{Reduction, same_shape};
use crate::{
    Result,
    functional::activation::softplus_of,
    kernels::{
        elementwise::{Map, zip_with, zip3_with},
        index::row_major,
        isa::Isa,
        reduce::{Term, sum_of},
    },
    ops::{Lane, RealFormula},
    tensor::{Real, Tensor, grad_enabled},
};

/// One loss. All of it is to be `#[inline(always)]`.
pub(super) trait Loss<T: Real>: Copy + Send + Sync + 'static {
    /// Its value.
    fn value<I: Isa>(self, x: T, y: T) -> T;
    /// Its derivative by the input.
    fn slope<E: RealFormula<T>>(self, x: E, y: E) -> E;
    /// Its derivative by the target: the negated one, as for all losses of `x − y`.
    #[inline(always)]
    fn target_slope<E: RealFormula<T>>(self, x: E, y: E) -> E {
        -self.slope(x, y)
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
    fn slope<E: RealFormula<T>>(self, x: E, y: E) -> E {
        (x + -y) * T::of(2.)
    }
}

/// −1, 0 or 1; NaN stays.
#[inline(always)]
fn sign<T: Real>(d: T) -> T {
    let one = if d < T::ZERO { -T::ONE } else { T::ONE };
    if d.abs() > T::ZERO { one } else { d }
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
    fn slope<E: RealFormula<T>>(self, x: E, y: E) -> E {
        (x + -y).step(sign)
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
        let (near, far) = (half * a * a / self.scale, self.slope * (a - half * self.bend));
        if a < self.bend { near } else { far }
    }
    #[inline(always)]
    fn slope<E: RealFormula<T>>(self, x: E, y: E) -> E {
        let d = x + -y;
        // A NaN counts as within the bend, so that it stays one.
        let far = |d: T| d.abs() >= self.bend;
        d.clone().only(|d| !far(d)) * self.scale.recip()
            + d.step(|d| if far(d) { sign(d) * self.slope } else { T::ZERO })
    }
}

/// `log(1 + eˣ) − y x`
#[derive(Clone, Copy)]
pub(super) struct Logistic;

impl<T: Real> Loss<T> for Logistic {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        softplus_of::<I, T>(x) - y * x
    }
    #[inline(always)]
    fn slope<E: RealFormula<T>>(self, x: E, y: E) -> E {
        x.sigmoid() + -y
    }
    #[inline(always)]
    fn target_slope<E: RealFormula<T>>(self, x: E, _: E) -> E {
        -x
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

/// A loss where its slope is wanted, by the target or by the input, times a gradient.
struct Slope<T, L> {
    g: T,
    loss: L,
    by_target: bool,
}

impl<T: Real, L: Loss<T>> Map<(T, T), T> for Slope<T, L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (T, T)) -> T {
        let (x, y) = (Lane::<I, T>::new(x), Lane::new(y));
        self.g * if self.by_target { self.loss.target_slope(x, y) } else { self.loss.slope(x, y) }.0
    }
}

impl<T: Real, L: Loss<T>> Map<(T, T, T), T> for Slope<T, L> {
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y, g): (T, T, T)) -> T {
        g * Map::<(T, T), T>::at::<I>(self, (x, y))
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
            if grad_enabled() {
                let (x, y) = (x.clone(), y.clone());
                let slope = if by_target { loss.target_slope(x, y) } else { loss.slope(x, y) };
                return slope.try_mul(&(g / count));
            }
            let slope = |g| Slope { g, loss, by_target };
            Ok(match reduction {
                Reduction::None => zip3_with(x.view(), y.view(), g.view(), x.shape(), slope(T::ONE)),
                _ => zip_with(x.view(), y.view(), x.shape(), slope(g.item()? / count)),
            }
            .into())
        };
        Ok([needed[0].then(|| grad(false)).transpose()?, needed[1].then(|| grad(true)).transpose()?])
    }))
}
