//! What chooses between elements: by a mask, or by comparing them.

use super::{arithmetic::binary, broadcast};
use crate::{
    Error, Result,
    kernels::{
        elementwise::{broadcast_shape, map, zip, zip3},
        reduce::is_nan,
        sizes::room,
    },
    tensor::{Element, Number, Operand, Real, Tensor, grad_enabled},
};
use ndnn_derive::concrete;

// ------------------------------------------------------------------------------------------------- choosing by a mask

impl<T: Element> Tensor<T> {
    /// `self` where `mask` is `when`, zero elsewhere, in the shape of `self`: linear, and its own derivative.
    fn masked(&self, mask: &Tensor<bool>, when: bool) -> Tensor<T> {
        let out = zip(self.view(), mask.view(), self.shape(), |x, m| if m == when { x } else { T::ZERO });
        let mask = mask.clone();
        Tensor::op("masked", out, [self], move |g, _| Ok([Some(g.masked(&mask, when))]))
    }

    /// Zero where `mask`; no gradient flows there.
    pub(crate) fn zero_where(&self, mask: &Tensor<bool>) -> Tensor<T> {
        self.masked(mask, false)
    }

    /// `a` where `cond` is true, `b` elsewhere, all three broadcast together; `a` and `b` may be scalars. PyTorch's
    /// `torch.where(cond, a, b)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![-1.0, 2.0];
    /// assert_eq!(Tensor::where_(&x.gt(0.0)?, &x, 0.0)?, tensor![0.0, 2.0]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    #[concrete(Element)]
    pub fn where_(cond: &Tensor<bool>, a: impl Operand<T>, b: impl Operand<T>) -> Result<Tensor<T>> {
        let (a, b) = (a.operand(), b.operand());
        let shape = broadcast("where", &a, &b)?;
        let shape = broadcast_shape(&shape, cond.shape()).ok_or_else(|| {
            Error::shape("where", format!("cond {:?} does not broadcast with {shape:?}", cond.shape()))
        })?;
        room::<T>("where", &shape)?;
        let out = zip3(cond.view(), a.view(), b.view(), &shape, |c, x, y| if c { x } else { y });
        let (cond, from_a, from_b) = (cond.clone(), a.shape().to_vec(), b.shape().to_vec());
        Ok(Tensor::op("where", out, [&a, &b], move |g, [da, db]| {
            let da = if da { Some(g.masked(&cond, true).sum_to(&from_a)?) } else { None };
            let db = if db { Some(g.masked(&cond, false).sum_to(&from_b)?) } else { None };
            Ok([da, db])
        }))
    }

    /// `value` where `mask` is true, `self` elsewhere, broadcast together; `value` is a scalar or a tensor of no axes.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or `value` has axes.
    pub fn masked_fill(&self, mask: &Tensor<bool>, value: impl Operand<T>) -> Result<Tensor<T>> {
        let value = value.operand();
        if value.ndim() != 0 {
            return Err(Error::shape(
                "masked_fill",
                format!("value must be a scalar or a tensor of no axes, got {:?}", value.shape()),
            ));
        }
        broadcast("masked_fill", self, mask)?;
        Self::where_(mask, value, self)
    }
}

// ------------------------------------------------------------------------------------------- choosing by comparison

/// `g · weight(x, y)`, but zero where the weight is, whatever `g`; linear in `g`, and its own derivative.
fn route<T: Number>(g: &Tensor<T>, x: &Tensor<T>, y: &Tensor<T>, weight: fn(T, T) -> f64) -> Result<Tensor<T>> {
    let out = zip3(g.view(), x.view(), y.view(), g.shape(), |g, x, y| match weight(x, y) {
        0. => T::ZERO,
        1. => g,
        w => g * T::of(w),
    });
    let (x, y) = (x.detach(), y.detach());
    Ok(Tensor::op("route", out, [g], move |g, _| Ok([Some(route(g, &x, &y, weight)?)])))
}

/// `g` where `keep(x)`, zero elsewhere; linear in `g`, and its own derivative.
pub(super) fn gate<T: Number>(
    g: &Tensor<T>,
    x: &Tensor<T>,
    keep: impl Fn(T) -> bool + Copy + Send + Sync + 'static,
) -> Tensor<T> {
    let out = zip(g.view(), x.view(), g.shape(), |g, x| if keep(x) { g } else { T::ZERO });
    let x = x.detach();
    Tensor::op("gate", out, [g], move |g, _| Ok([Some(gate(g, &x, keep))]))
}

/// `g` where `keep(x)`, zero elsewhere, as [`gate`], but connected to `x`, with a gradient of 0.
pub(super) fn keep_where<T: Number>(g: &Tensor<T>, x: &Tensor<T>, keep: impl Fn(T) -> bool + Sync) -> Tensor<T> {
    let mask: Tensor<bool> = map(x.view(), keep).into();
    let out = zip(g.view(), mask.view(), g.shape(), |g, m| if m { g } else { T::ZERO });
    Tensor::op("gate", out, [g, x], move |g, [_, dx]| Ok([Some(g.masked(&mask, true)), dx.then(|| g.zeros_like())]))
}

/// `g · factor`, broadcasting, but zero where the factor is, whatever `g`; linear in `g`, and its own derivative.
pub(crate) fn shared<T: Number>(g: &Tensor<T>, factor: &Tensor<T>) -> Result<Tensor<T>> {
    let out =
        zip(
            g.view(),
            factor.view(),
            &broadcast("shared", g, factor)?,
            |g, f| {
                if f == T::ZERO { T::ZERO } else { g * f }
            },
        );
    let (from, factor) = (g.shape().to_vec(), factor.detach());
    Ok(Tensor::op("shared", out, [g], move |u, _| Ok([Some(shared(u, &factor)?.sum_to(&from)?)])))
}

/// `x · by`, but 0 where `by` is 0, also of an infinite or missing `x`; derivatives are the product's.
pub(crate) fn scaled<T: Real>(x: &Tensor<T>, by: &Tensor<T>) -> Result<Tensor<T>> {
    let shape = broadcast("scaled", x, by)?;
    let lost = |x: T, by: T| by == T::ZERO && !x.is_finite();
    let lost: Tensor<bool> = zip(x.view(), by.view(), &shape, lost).into();
    match lost.any().item()? {
        true => x.broadcast_to(&shape)?.zero_where(&lost).try_mul(by),
        false => x.try_mul(by),
    }
}

/// `f` of each element, which is constant piece by piece: connected to `x`, with a gradient of 0.
pub(crate) fn step<T: Number>(x: &Tensor<T>, f: impl Fn(T) -> T + Sync) -> Tensor<T> {
    Tensor::op("step", map(x.view(), f), [x], |g, _| Ok([Some(g.zeros_like())]))
}

/// How much of the gradient goes to the one that is larger: all, half at a tie, none. NaN counts as larger than all.
fn larger<T: Number>(x: T, y: T) -> f64 {
    match x.partial_cmp(&y) {
        Some(std::cmp::Ordering::Less) => 0.,
        Some(std::cmp::Ordering::Equal) => 0.5,
        _ => 1.,
    }
}

/// What of the gradient of a clamp goes to the value, to the lower and to the upper bound.
fn clamp_shares<T: Number>(x: T, lo: T, hi: T) -> [f64; 3] {
    if is_nan(x) {
        [1., 0., 0.]
    } else if hi < lo || x > hi {
        [0., 0., 1.]
    } else if x < lo {
        [0., 1., 0.]
    } else if lo < hi && x == lo {
        [0.5, 0.5, 0.]
    } else if lo < hi && x == hi {
        [0.5, 0., 0.5]
    } else {
        [1., 0., 0.]
    }
}

fn max<T: Number>(a: T, b: T) -> T {
    // NaN on either side wins.
    #[allow(clippy::eq_op)]
    if a > b || a != a { a } else { b }
}

fn min<T: Number>(a: T, b: T) -> T {
    #[allow(clippy::eq_op)]
    if a < b || a != a { a } else { b }
}

impl<T: Number> Tensor<T> {
    /// The larger of each pair, broadcasting; NaN where one is NaN. At a tie each gets half of the gradient.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn maximum(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        binary(
            "maximum",
            [self, &other.operand()],
            max,
            [true, true],
            |g, x, y| route(g, x, y, larger),
            |g, x, y| route(g, y, x, larger),
        )
    }

    /// The smaller of each pair, broadcasting; NaN where one is NaN. At a tie each gets half of the gradient.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn minimum(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        // `1 - larger`, but NaN takes all here too.
        fn smaller<T: Number>(x: T, y: T) -> f64 {
            match larger(x, y) {
                0. => 1.,
                1. if x > y => 0.,
                same => same,
            }
        }
        binary(
            "minimum",
            [self, &other.operand()],
            min,
            [true, true],
            |g, x, y| route(g, x, y, smaller),
            |g, x, y| route(g, y, x, smaller),
        )
    }

    /// `min(max(self, min), max)`, either bound may be `None`: NaN stays NaN, and all becomes `max` where `min > max`.
    /// The gradient is 1 strictly inside the bounds, 0 at them and beyond.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![-2.0, 0.5, 2.0].clamp(-1.0, 1.0), tensor![-1.0, 0.5, 1.0]);
    /// assert_eq!(tensor![-2.0, 0.5, 2.0].clamp(None, 1.0), tensor![-2.0, 0.5, 1.0]);
    /// ```
    pub fn clamp(&self, min: impl Into<Option<T>>, max: impl Into<Option<T>>) -> Tensor<T> {
        let (lo, hi) = (min.into(), max.into());
        let out = match (lo, hi) {
            (Some(lo), Some(hi)) => map(self.view(), |x| self::min(self::max(x, lo), hi)),
            (Some(lo), None) => map(self.view(), |x| self::max(x, lo)),
            (None, Some(hi)) => map(self.view(), |x| self::min(x, hi)),
            (None, None) => return self.clone(),
        };
        let x = self.clone();
        Tensor::op("clamp", out, [self], move |g, _| {
            Ok([Some(gate(g, &x, move |x| lo.is_none_or(|lo| x > lo) && hi.is_none_or(|hi| x < hi)))])
        })
    }

    /// `max(self, min)`.
    pub fn clamp_min(&self, min: T) -> Tensor<T> {
        self.clamp(min, None)
    }

    /// `min(self, max)`.
    pub fn clamp_max(&self, max: T) -> Tensor<T> {
        self.clamp(None, max)
    }

    /// [`clamp`](Tensor::clamp) with a tensor for each bound, broadcasting; gradients reach the bounds too, half at a tie.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn clamp_tensor(&self, min: Option<&Tensor<T>>, max: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        let (lo, hi) = match (min, max) {
            (Some(lo), Some(hi)) => (lo, hi),
            (Some(lo), None) => return self.maximum(lo),
            (None, Some(hi)) => return self.minimum(hi),
            (None, None) => return Ok(self.clone()),
        };
        let shape = broadcast_shape(&broadcast("clamp", self, lo)?, hi.shape()).ok_or_else(|| {
            let (x, lo, hi) = (self.shape(), lo.shape(), hi.shape());
            Error::shape("clamp", format!("{x:?}, min {lo:?} and max {hi:?} do not broadcast together"))
        })?;
        room::<T>("clamp", &shape)?;
        let out = zip3(self.view(), lo.view(), hi.view(), &shape, |x, lo, hi| self::min(self::max(x, lo), hi));
        let kept = [self, lo, hi].map(Tensor::detach);
        Ok(Tensor::op("clamp", out, [self, lo, hi], move |g, needed| {
            let mut grads = [None, None, None];
            for (i, grad) in grads.iter_mut().enumerate().filter(|&(i, _)| needed[i]) {
                let [x, lo, hi] = &kept;
                let weights: Tensor<T> =
                    zip3(x.view(), lo.view(), hi.view(), g.shape(), |x, lo, hi| T::of(clamp_shares(x, lo, hi)[i]))
                        .into();
                *grad = Some(shared(g, &weights)?.sum_to(kept[i].shape())?);
            }
            Ok(grads)
        }))
    }

    /// `max(self, 0)`, NaN staying NaN; the gradient at 0 is 0.
    #[concrete(Number)]
    pub fn relu(&self) -> Tensor<T> {
        let out = map(self.view(), |x| if x < T::ZERO { T::ZERO } else { x });
        // As in PyTorch a NaN lets the gradient through.
        Tensor::op_with_output("relu", out, [self], |g, _, y| {
            let open = |y: T| y > T::ZERO || y.as_f64().is_nan();
            Ok([Some(match grad_enabled() {
                true => keep_where(g, y, open),
                false => gate(g, y, open),
            })])
        })
    }
}
