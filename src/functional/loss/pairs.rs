//! Losses of pairs of an input `x` and a target `y`, elementwise: a value and its derivatives.

use super::{INPUT_AND_TARGET, Reduction, same_shape};
use crate::{
    Result,
    kernels::scalar::max_nan,
    ops::{Functions, Lane, Total, Two, loss, pairs},
    tensor::{Real, Tensor},
};

pairs! {
    /// `(x − y)²`
    real Real Square, "loss", first common: |x, y| (x - y) * (x - y), |g, x, y| g * ((x - y) * 2.);

    /// `|x − y|`
    real Real Absolute, "loss", first common: |x, y| (x - y).abs(), |g, x, y| {
        let d = x - y;
        // As in PyTorch a NaN gets gradient 0.
        g.kept(d.lt(0.) | d.gt(0.)) * d.sign()
    };

    /// `d² / 2·scale` while `|d| < bend`, otherwise `slope · (|d| − bend/2)`, where `d = x − y`.
    real Real Bent(bend, scale, slope), "loss", first short: |x, y| {
        let (bend, scale, slope) = (T::of(bend), T::of(scale), T::of(slope));
        let half = T::of(0.5);
        let a = (x - y).abs();
        let (near, far) = (half * a * (a / scale), slope * (a - half * bend));
        if a < bend { near } else { far }
    }, |g, x, y| {
        let d = x - y;
        // A NaN counts as within the bend, so that the result is NaN.
        let far = d.ge(bend) | d.le(-bend);
        // The reciprocal of a number that is subnormal, as an f64 or as an f32, may be ∞.
        let up = if scale < f64::MIN_POSITIVE {
            f64::EPSILON.recip()
        } else if scale < f32::MIN_POSITIVE.into() {
            f32::EPSILON.recip().into()
        } else {
            1.
        };
        let near = d.kept(!far) * up * (scale * up).recip();
        g * (near + (d.sign() * slope).kept(far))
    };

    /// `log(1 + eˣ) − y x` without cancellation: `(1 − y) x + log(1 + e⁻ˣ)` above 0, `−y x + log(1 + eˣ)` below.
    real Real Logistic, "loss", first common_long: |x, y| {
        let (size, wrong) = (x.abs(), if x > T::ZERO { T::ONE - y } else { y });
        let far = if wrong == T::ZERO { T::ZERO } else { size * wrong };
        far + Lane::<I, T>::new(-size).softplus().0
    }, |g, x, y| {
        // `σ(x) − y`, above 0 as `(1 − y) − σ(−x)`: if σ is near 1, the difference has no digits left.
        let sign = E::either(x.gt(0.), -1., 1.);
        let wrong = y * sign + E::either(x.gt(0.), 1., 0.);
        g * (((x * sign).sigmoid() - wrong) * sign)
    }, g * -x;

    /// `log(1 + e^(−y x))`
    real Real SoftMargin, "loss", first long: |x, y| Lane::<I, T>::new(-(x * y)).softplus().0, |g, x, y|
        -(g * y * (-(x * y)).sigmoid()), -(g * x * (-(x * y)).sigmoid());

    /// `max(0, margin − y x)`; at the bend it has the slope of the line, as in PyTorch.
    real Real Hinge(margin), "loss", first short: |x, y| max_nan(T::of(margin) - y * x, T::ZERO), |g, x, y| {
        let below = !(y * x).gt(margin);
        -(g.kept(below) * y.kept(below))
    }, {
        let below = !(y * x).gt(margin);
        -(g.kept(below) * x.kept(below))
    };

    /// `x` where `y` is 1, `max(0, margin − x)` where it is −1, and the sum of both elsewhere.
    real Real HingeEmbedding(margin), "loss", first short: |x, y| {
        let far = if y == T::ONE { T::ZERO } else { max_nan(T::of(margin) - x, T::ZERO) };
        let near = if y == -T::ONE { T::ZERO } else { x };
        far + near
    }, |g, x, y| {
        g.kept(!y.equals(-1.)) - g.kept(!y.equals(1.) & !x.ge(margin))
    }, g.zero();

    /// `y (log y − x)`, 0 where `y` is.
    real Real Divergence, "loss", first long: |x, y| {
        if y == T::ZERO { T::ZERO } else { y * (Lane::<I, T>::new(y).log().0 - x) }
    }, |g, x, y| -(g * y), g * (y.log() - x + 1.);

    /// `e^y (y − x)`, 0 where `e^y` is.
    real Real LogDivergence, "loss", first long: |x, y| {
        let p = Lane::<I, T>::new(y).exp().0;
        if p == T::ZERO { T::ZERO } else { p * (y - x) }
    }, |g, x, y| -(g * y.exp()), {
        let p = y.exp();
        g * (p * (y - x + 1.)).kept(!p.equals(0.))
    };

    /// `eˣ − y x`, where `y x` is 0 for a `y` of 0.
    real Real PoissonOfLog, "loss", first long: |x, y| {
        Lane::<I, T>::new(x).exp().0 - if y == T::ZERO { T::ZERO } else { y * x }
    }, |g, x, y| g * (x.exp() - y), g * -x;

    /// `x − y log(x + ε)`
    real Real Poisson(eps), "loss", first long: |x, y| x - y * Lane::<I, T>::new(x + T::of(eps)).log().0, |g, x, y|
        g * (-y / (x + eps) + 1.), -(g * (x + eps).log());
}

/// The reduced losses of pairs, as one operation.
pub(super) fn of_pairs<T: Real>(
    op: &'static str,
    input: &Tensor<T>,
    target: &Tensor<T>,
    reduction: Reduction,
    row: Two,
) -> Result<Tensor<T>> {
    same_shape(op, INPUT_AND_TARGET, [input, target])?;
    let total = match reduction {
        Reduction::None => Total::Each,
        Reduction::Mean => Total::Mean,
        Reduction::Sum => Total::Sum,
    };
    loss(op, row, input, target, total)
}
