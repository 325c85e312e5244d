//! Special functions: error function, gamma function and its derivatives, logarithms of sums, log odds.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, LN_2};

use super::{
    Formula,
    elementwise::{one, pairs, row, two},
    math::unary,
};
use crate::{
    Result,
    kernels::{
        scalar::{log_add_exp, log_add_exp2, via_f64, x_log_y},
        special_f64,
    },
    tensor::{Operand, Real, Tensor},
};

/// `2/√π · e^(-x²)`: the derivative of erf.
#[inline(always)]
fn erf_slope<E: Formula>(x: E) -> E {
    (-(x * x)).exp() * FRAC_2_SQRT_PI
}

unary! { real Real:
    /// The error function, `2/√π ∫₀ˣ e^(-t²) dt`.
    erf long: |x| x.erf(), from input |x| erf_slope(x);
    /// `1 - erf(x)`, accurate even if it is small.
    erfc libm: |x| x.by(|x| via_f64(x, special_f64::erfc)), from input |x| -erf_slope(x);
    /// The distribution function of the standard normal distribution, PyTorch's `torch.special.ndtr`; accurate far
    /// below 0.
    ndtr libm: |x| x.by(|x| via_f64(x, |x| special_f64::erfc(-x * FRAC_1_SQRT_2) * 0.5)), from input |x| x.bell() * (FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * 0.5);
    /// The inverse of [`erf`](Tensor::erf): infinite at ±1, NaN beyond.
    erfinv libm: |x| x.by(|x| via_f64(x, special_f64::erfinv)), from output |y| erf_slope(y).reciprocal();
    /// The logarithm of the absolute value of the gamma function.
    lgamma libm: |x| x.by(|x| via_f64(x, special_f64::lgamma)), from input |x| x.digamma();
    /// The logarithmic derivative of the gamma function, `ψ(x) = Γ'(x) / Γ(x)`.
    digamma libm: |x| x.by(|x| via_f64(x, special_f64::digamma)), from input |x| x.polygamma(1);
}

impl<T: Real> Tensor<T> {
    /// The n-th derivative of [`digamma`](Tensor::digamma): `(-1)ⁿ⁺¹ n! Σₖ (x + k)⁻ⁿ⁻¹`, infinite at the poles 0, −1, −2, …
    ///
    /// PyTorch's trigamma, `n = 1`, differs: it reflects by a rounded sin πx, which gives 6.6e32 at the pole −1.
    pub fn polygamma(&self, n: u32) -> Tensor<T> {
        row!(real Real "polygamma", (n), libm, |x| x.polygamma(n as u32),
             from input |x| x.polygamma((n as u32).saturating_add(1)));
        if n == 0 { self.digamma() } else { one(row(n.into()), self) }
    }

    /// The log odds, `log(x / (1 - x))`: the inverse of [`sigmoid`](Tensor::sigmoid). With `eps`, `x` is first clamped
    /// to `[eps, 1 - eps]`, and gets no gradient outside; without it, the result outside `[0, 1]` is NaN.
    pub fn logit(&self, eps: Option<T>) -> Tensor<T> {
        row!(real Real "logit", (low, high, beyond), libm, |x| {
            let x = if beyond.is_nan() { x } else if x.lt(low) { x.by(|_| T::of(low)) } else if x.gt(high) { x.by(|_| T::of(high)) } else { x };
            (x / x.rest()).by(T::ln)
        }, from input |g, x| {
            let inside = x.ge(low) & x.le(high);
            (g / (x * x.rest())).kept(inside) + E::either(inside, 0., beyond)
        });
        let (low, high) = eps.map_or((T::ZERO, T::ONE), |eps| (eps, T::ONE - eps));
        let beyond = if eps.is_some() { 0. } else { f64::NAN };
        one(row(low.as_f64(), high.as_f64(), beyond), self)
    }

    /// `self · log(other)`, broadcasting; 0 where `self` is 0, unless `other` is NaN.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn xlogy(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(XLogY::row(), self, &other.operand())
    }

    /// `log(eˣ + eʸ)`, broadcasting, without overflow.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn logaddexp(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(LogAddExp::row(), self, &other.operand())
    }

    /// `log₂(2ˣ + 2ʸ)`, broadcasting, without overflow.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn logaddexp2(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(LogAddExp2::row(), self, &other.operand())
    }
}

pairs! {
    real Real XLogY, "xlogy", composed libm: |x, y| x_log_y(x, y), |g, x, y|
        g.xlogy(y).kept(!(x.equals(0.) & y.le(0.))), g * x / y;

    real Real LogAddExp, "logaddexp", composed libm: |x, y| log_add_exp(x, y), |g, x, y|
        g * (x - y).sigmoid(), g * (y - x).sigmoid();

    real Real LogAddExp2, "logaddexp2", composed libm: |x, y| log_add_exp2(x, y), |g, x, y|
        g * ((x - y) * LN_2).sigmoid(), g * ((y - x) * LN_2).sigmoid();
}
