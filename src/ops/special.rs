//! Special functions: error function, gamma function and its kin, logarithms of sums and odds.

use super::{Lane, arithmetic::binary, math::unary};
use crate::{
    Result,
    kernels::{
        elementwise::{Map, map, map_with, zip_with},
        isa::Isa,
        special_f64,
    },
    tensor::{Operand, Real, Tensor, grad_enabled},
};

/// A function of `f64` on an element.
pub(super) fn via_f64<T: Real>(x: T, f: impl Fn(f64) -> f64) -> T {
    T::of(f(x.as_f64()))
}

/// `2/√π · e^(-x²)`: the derivative of erf.
#[inline(always)]
fn erf_slope<T: Real, E: super::RealFormula<T>>(x: E) -> E {
    (-(x.clone() * x)).exp() * T::FRAC_2_SQRT_PI()
}

unary! { Real, RealFormula:
    /// The error function, `2/√π ∫₀ˣ e^(-t²) dt`.
    erf: |x| x.verf::<I>(), from input |x| erf_slope(x);
    /// `1 - erf(x)`, exact where that is small.
    erfc: |x| via_f64(x, special_f64::erfc), from input |x| -erf_slope(x);
    /// The inverse of [`erf`](Tensor::erf): infinite at ±1, NaN beyond.
    erfinv: |x| via_f64(x, special_f64::erfinv), from output |y| erf_slope(y).reciprocal();
    /// The logarithm of the gamma function's absolute value.
    lgamma: |x| via_f64(x, special_f64::lgamma), from input |x| x.digamma();
    /// The logarithmic derivative of the gamma function, `ψ(x) = Γ'(x) / Γ(x)`.
    digamma: |x| via_f64(x, special_f64::digamma), from input |x| x.trigamma();
}

impl<T: Real> Tensor<T> {
    /// The n-th derivative of [`digamma`](Tensor::digamma): `(-1)ⁿ⁺¹ n! Σₖ (x + k)⁻ⁿ⁻¹`, infinite at the poles 0, −1, −2, …
    ///
    /// PyTorch's trigamma, `n = 1`, differs: it reflects by a rounded sin πx, which gives 6.6e32 at the pole −1.
    pub fn polygamma(&self, n: u32) -> Tensor<T> {
        let out = map(self.view(), |x| {
            via_f64(x, |x| if n == 0 { special_f64::digamma(x) } else { special_f64::polygamma(n, x) })
        });
        let x = self.clone();
        Tensor::op("polygamma", out, [self], move |g, _| Ok([Some(g * x.polygamma(n.saturating_add(1)))]))
    }

    /// The log odds, `log(x / (1 - x))`: the inverse of [`sigmoid`](Tensor::sigmoid). With `eps`, `x` is first clamped to
    /// `[eps, 1 - eps]`, and gets no gradient beyond it; without, the answer outside `[0, 1]` is NaN.
    pub fn logit(&self, eps: Option<T>) -> Tensor<T> {
        let (lo, hi) = eps.map_or((T::ZERO, T::ONE), |eps| (eps, T::ONE - eps));
        let out = map(self.view(), |x: T| {
            let x = match eps {
                Some(_) if x < lo => lo,
                Some(_) if x > hi => hi,
                _ => x,
            };
            (x / (T::ONE - x)).ln()
        });
        let x = self.clone();
        Tensor::op("logit", out, [self], move |g, _| {
            let inside = x.ge(lo)?.logical_and(&x.le(hi)?)?;
            let beyond = if eps.is_some() { T::ZERO } else { T::nan() };
            Ok([Some(Tensor::where_(&inside, g / (&x * (-&x + T::ONE)), beyond)?)])
        })
    }

    /// `self · log(other)`, broadcasting; 0 where `self` is 0, unless `other` is NaN.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn xlogy(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        binary(
            "xlogy",
            [self, &other.operand()],
            |x, y| if x == T::ZERO && !y.is_nan() { T::ZERO } else { x * y.ln() },
            [true, true],
            |g, x, y| {
                let flat = x.eq(T::ZERO)?.logical_and(&y.le(T::ZERO)?)?;
                g.xlogy(y)?.masked_fill(&flat, T::ZERO)
            },
            |g, x, y| Ok(g * x / y),
        )
    }

    /// `log(eˣ + eʸ)`, broadcasting, without overflow.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn logaddexp(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        binary(
            "logaddexp",
            [self, &other.operand()],
            |x, y| log_add(x, y, T::exp, T::ln_1p),
            [true, true],
            |g, x, y| Ok(g * (x - y).sigmoid()),
            |g, x, y| Ok(g * (y - x).sigmoid()),
        )
    }

    /// `log₂(2ˣ + 2ʸ)`, broadcasting, without overflow.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn logaddexp2(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        binary(
            "logaddexp2",
            [self, &other.operand()],
            |x, y| log_add(x, y, T::exp2, |t| t.ln_1p() * T::LOG2_E()),
            [true, true],
            |g, x, y| Ok(g * ((x - y) * T::LN_2()).sigmoid()),
            |g, x, y| Ok(g * ((y - x) * T::LN_2()).sigmoid()),
        )
    }
}

fn log_add<T: Real>(x: T, y: T, exp: fn(T) -> T, log_1p: impl Fn(T) -> T) -> T {
    // Equal infinities have no difference.
    if x == y && x.is_infinite() {
        return x;
    }
    let larger = if x > y || x.is_nan() { x } else { y };
    larger + log_1p(exp(-(x - y).abs()))
}
