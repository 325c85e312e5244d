//! Losses of pairs of an input `x` and a target `y`, elementwise: a value and its derivatives.

use super::{Reduction, same_shape};
use crate::{
    Result,
    kernels::isa::Isa,
    ops::{Binary, Formula, Lane, Total, Totals, compiled, loss, pairs},
    tensor::{Real, Tensor},
};

/// `(x − y)²`
#[derive(Clone, Copy)]
pub(super) struct Square;

impl<T: Real> Binary<T> for Square {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y) * (x - y)
    }
    #[inline(always)]
    fn gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E {
        g * ((x - y) * 2.)
    }
}
compiled!(loss Square);

/// `|x − y|`
#[derive(Clone, Copy)]
pub(super) struct Absolute;

impl<T: Real> Binary<T> for Absolute {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        (x - y).abs()
    }
    #[inline(always)]
    fn gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E {
        let d = x - y;
        // As in PyTorch a NaN gets gradient 0.
        g.kept(d.lt(0.) | d.gt(0.)) * d.sign()
    }
}
compiled!(loss Absolute);

/// `d² / 2·scale` while `|d| < bend`, otherwise `slope · (|d| − bend/2)`, where `d = x − y`.
#[derive(Clone, Copy)]
pub(super) struct Bent {
    pub bend: f64,
    pub scale: f64,
    pub slope: f64,
}

impl<T: Real> Binary<T> for Bent {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        let [bend, scale, slope] = [self.bend, self.scale, self.slope].map(T::of);
        let half = T::of(0.5);
        let a = (x - y).abs();
        let (near, far) = (half * a * (a / scale), slope * (a - half * bend));
        if a < bend { near } else { far }
    }
    #[inline(always)]
    fn gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E {
        let d = x - y;
        // A NaN counts as within the bend, so that the result is NaN.
        let far = d.ge(self.bend) | d.le(-self.bend);
        // The reciprocal of a subnormal number may be ∞.
        let up = if T::of(self.scale) < T::min_positive_value() { T::epsilon().recip().as_f64() } else { 1. };
        let near = d.kept(!far) * up * (self.scale * up).recip();
        g * (near + (d.sign() * self.slope).kept(far))
    }
}
compiled!(loss Bent);

/// `log(1 + eˣ) − y x` without cancellation: `(1 − y) x + log(1 + e⁻ˣ)` above 0, `−y x + log(1 + eˣ)` below.
#[derive(Clone, Copy)]
pub(super) struct Logistic;

impl<T: Real> Binary<T> for Logistic {
    #[inline(always)]
    fn value<I: Isa>(self, x: T, y: T) -> T {
        let (size, wrong) = (x.abs(), if x > T::ZERO { T::ONE - y } else { y });
        let far = if wrong == T::ZERO { T::ZERO } else { size * wrong };
        far + Lane::<I, T>::new(-size).softplus().0
    }
    #[inline(always)]
    fn gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E {
        // `σ(x) − y`, above 0 as `(1 − y) − σ(−x)`: if σ is near 1, the difference has no digits left.
        let sign = E::either(x.gt(0.), -1., 1.);
        let wrong = y * sign + E::either(x.gt(0.), 1., 0.);
        g * (((x * sign).sigmoid() - wrong) * sign)
    }
    #[inline(always)]
    fn second_gradient<E: Formula<T>>(self, g: E, x: E, _: E) -> E {
        g * -x
    }
}
compiled!(loss Logistic);

pairs! {
    /// `log(1 + e^(−y x))`
    loss Real SoftMargin, "soft_margin_loss", fused vectors: |x, y| Lane::<I, T>::new(-(x * y)).softplus().0, |g, x, y|
        -(g * y * (-(x * y)).sigmoid()), -(g * x * (-(x * y)).sigmoid());
}

/// The reduced losses of pairs, as one operation.
pub(super) fn of_pairs<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    target: &Tensor<T>,
    reduction: Reduction,
    row: impl Totals<f32> + Totals<f64>,
) -> Result<Tensor<T>> {
    same_shape(op, input, target)?;
    let total = match reduction {
        Reduction::None => Total::Each,
        Reduction::Mean => Total::Mean,
        Reduction::Sum => Total::Sum,
    };
    loss(op, row, input, target, total)
}
