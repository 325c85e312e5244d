//! Choosing between elements: by a mask, or by comparing them.

use ndarray::{Dimension, IxDyn};

use super::{
    arithmetic::{broadcast_three, of_three},
    broadcast,
    elementwise::{One, Params, Reads, Unary, UnaryRows, Work, one, pairs, two},
    formula::Formula,
};
use crate::{
    Error, Result,
    kernels::{
        elementwise::{Map, Speed, broadcast_shape, map, zip, zip3},
        isa::Isa,
        scalar::{self, is_nan, max_nan, min_nan},
        sizes::room,
    },
    tensor::{DType, Element, Number, Operand, Real, Tensor},
};
use ndnn_derive::concrete;

// ------------------------------------------------------------------------------------------------- choosing by a mask

impl<T: Element> Tensor<T> {
    /// `self` where `mask` equals `when`, zero elsewhere, in the shape of `self`: linear, and its own derivative.
    #[concrete(Element)]
    fn masked(&self, mask: &Tensor<bool>, when: bool) -> Tensor<T> {
        let out = zip(self.data(), mask.data(), self.raw_dim(), |x, m| if m == when { x } else { T::ZERO });
        let mask = mask.clone();
        Tensor::op("masked", out, [self], move |g, _| Ok([Some(g.masked(&mask, when))]))
    }

    /// Zero where `mask` is true; no gradient flows there.
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
        let shape = broadcast_shape(shape.slice(), cond.shape()).ok_or_else(|| {
            Error::shape("where", format!("cond {:?} does not broadcast with {shape:?}", cond.shape()))
        })?;
        room::<T>("where", &shape)?;
        let out = zip3(cond.data(), a.data(), b.data(), IxDyn(&shape), |c, x, y| if c { x } else { y });
        let (cond, from_a, from_b) = (cond.clone(), a.shape().to_vec(), b.shape().to_vec());
        Ok(Tensor::op("where", out, [&a, &b], move |g, [da, db]| {
            let da = if da { Some(g.masked(&cond, true).sum_to(&from_a)?) } else { None };
            let db = if db { Some(g.masked(&cond, false).sum_to(&from_b)?) } else { None };
            Ok([da, db])
        }))
    }

    /// `value` where `mask` is true, `self` elsewhere, broadcast together; `value` is a scalar or a tensor with no
    /// axes.
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

/// `g` times a mask of ones and zeros, but 0 where the mask is, whatever `g` is; connected to the tensors that decided
/// about the mask, with a gradient of 0.
pub(super) fn connected<T: Real>(g: &Tensor<T>, ones: &Tensor<T>, by: &Tensor<T>) -> Tensor<T> {
    let shape = broadcast("kept", g, ones).expect("shapes that the operation has checked");
    let out = zip(g.data(), ones.data(), shape, weighed);
    let (from, ones, flat) = (g.shape().to_vec(), ones.clone(), by.data().raw_dim());
    Tensor::op("kept", out, [g, by], move |u, [dg, dx]| {
        let dg = if dg { Some(shared(u, &ones)?.sum_to(&from)?) } else { None };
        Ok([dg, dx.then(|| Tensor::zeros(flat.slice()))])
    })
}

/// `g · factor`; 0 where the factor is 0, whatever `g` is.
#[inline(always)]
fn weighed<T: Number>(g: T, factor: T) -> T {
    if factor == T::ZERO { T::ZERO } else { g * factor }
}

/// `g · factor`, broadcasting, but zero where the factor is, whatever `g` is; linear in `g`, and its own derivative.
#[concrete]
pub(crate) fn shared<T: Number>(g: &Tensor<T>, factor: &Tensor<T>) -> Result<Tensor<T>> {
    let out = zip(g.data(), factor.data(), broadcast("shared", g, factor)?, weighed);
    let (from, factor) = (g.shape().to_vec(), factor.detach());
    Ok(Tensor::op("shared", out, [g], move |u, _| Ok([Some(shared(u, &factor)?.sum_to(&from)?)])))
}

/// `x · by`, but 0 where `by` is 0, even if `x` is infinite or NaN; its derivatives are those of the product.
pub(crate) fn scaled<T: Real>(x: &Tensor<T>, by: &Tensor<T>) -> Result<Tensor<T>> {
    let shape = broadcast("scaled", x, by)?;
    let lost = |x: T, by: T| by == T::ZERO && !x.is_finite();
    let lost: Tensor<bool> = zip(x.data(), by.data(), shape, lost).into();
    match lost.any().item()? {
        true => x.broadcast_to(lost.shape())?.zero_where(&lost).try_mul(by),
        false => x.try_mul(by),
    }
}

/// `f` of each element, which is piecewise constant: connected to `x`, with a gradient of 0.
pub(crate) fn step<T: Number>(x: &Tensor<T>, f: impl Fn(T) -> T + Sync) -> Tensor<T> {
    Tensor::op("step", map(x.data(), f), [x], |g, _| Ok([Some(g.zeros_like())]))
}

/// The parts of the gradient of a clamp that go to the value, to the lower and to the upper bound.
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

pairs! {
    // At a tie each gets half; if one is NaN, each gets all.
    number Number Maximum, "maximum", fused common: |x, y| max_nan(x, y), |g, x, y|
        g.kept(x.above(y)) + g.kept(x.same(y)) * 0.5, g.kept(y.above(x)) + g.kept(x.same(y)) * 0.5;
    number Number Minimum, "minimum", fused common: |x, y| min_nan(x, y), |g, x, y|
        g.kept(y.above(x)) + g.kept(x.same(y)) * 0.5, g.kept(x.above(y)) + g.kept(x.same(y)) * 0.5;
}

/// `min(max(x, low), high)`. Its parameters are the bounds, of integers as bits, since floats cannot represent them exactly in
/// all cases; and which of them are given: bit 0 for the lower one, bit 1 for the upper one.
struct Clamp;

impl Clamp {
    fn row<T: Number>(low: Option<T>, high: Option<T>) -> One {
        static ROWS: UnaryRows = UnaryRows::number::<Clamp>();
        let bound = |of: Option<T>, none: (f64, i64)| match T::DTYPE {
            DType::I64 => f64::from_bits(of.map_or(none.1, T::as_i64) as u64),
            _ => of.map_or(none.0, T::as_f64),
        };
        let given = u8::from(low.is_some()) + 2 * u8::from(high.is_some());
        let low = bound(low, (f64::NEG_INFINITY, i64::MIN));
        One { rows: &ROWS, params: [low, bound(high, (f64::INFINITY, i64::MAX)), given.into()] }
    }
}

impl<T: Number> Map<Params, T, T> for Clamp {
    const SPEED: Speed = Work::COMMON.speed::<T>();
    #[inline(always)]
    fn at<I: Isa>(&[low, high, _]: &Params, x: T) -> T {
        let of = |bound: f64| if T::DTYPE == DType::I64 { T::of_i64(bound.to_bits() as i64) } else { T::of(bound) };
        scalar::clamp(x, of(low), of(high))
    }
}

impl<T: Number> Unary<T> for Clamp {
    const NAME: &'static str = "clamp";
    const READS: Reads = Reads::Input;
    #[inline(always)]
    fn gradient<E: Formula>(&[low, high, given]: &Params, g: E, x: E) -> E
    where
        T: Real,
    {
        match given {
            3. => g.kept(x.gt(low) & x.lt(high)),
            1. => g.kept(x.gt(low)),
            _ => g.kept(x.lt(high)),
        }
    }
}

impl<T: Number> Tensor<T> {
    /// The larger of each pair, broadcasting; NaN if one is NaN. At a tie each gets half of the gradient.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn maximum(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(Maximum::row(), self, &other.operand())
    }

    /// The smaller of each pair, broadcasting; NaN if one is NaN. At a tie each gets half of the gradient.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn minimum(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(Minimum::row(), self, &other.operand())
    }

    /// `min(max(self, min), max)`, where either bound may be `None`: NaN stays NaN, and everything becomes `max` if
    /// `min > max`. The gradient is 1 strictly inside the bounds, 0 at them and beyond.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![-2.0, 0.5, 2.0].clamp(-1.0, 1.0), tensor![-1.0, 0.5, 1.0]);
    /// assert_eq!(tensor![-2.0, 0.5, 2.0].clamp(None, 1.0), tensor![-2.0, 0.5, 1.0]);
    /// ```
    pub fn clamp(&self, min: impl Into<Option<T>>, max: impl Into<Option<T>>) -> Tensor<T> {
        match (min.into(), max.into()) {
            (None, None) => self.clone(),
            (low, high) => one(Clamp::row(low, high), self),
        }
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
    #[concrete(Number)]
    pub fn clamp_tensor(&self, min: Option<&Tensor<T>>, max: Option<&Tensor<T>>) -> Result<Tensor<T>> {
        let (lo, hi) = match (min, max) {
            (Some(lo), Some(hi)) => (lo, hi),
            (Some(lo), None) => return self.maximum(lo),
            (None, Some(hi)) => return self.minimum(hi),
            (None, None) => return Ok(self.clone()),
        };
        let shape = broadcast_three("clamp", ["input", "min", "max"], [self, lo, hi])?;
        let out = zip3(self.data(), lo.data(), hi.data(), shape, scalar::clamp);
        Ok(of_three("clamp", out, [self, lo, hi], |k, g, [x, lo, hi]| {
            let share = |x, lo, hi| T::of(clamp_shares(x, lo, hi)[k]);
            shared(g, &zip3(x.data(), lo.data(), hi.data(), g.raw_dim(), share).into())
        }))
    }
}
