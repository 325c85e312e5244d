//! Elementwise mathematics: a table of values and derivatives.

use std::f64::consts::{LN_2, LOG2_E, LOG10_E};

use num_traits::Float;

use super::elementwise::{one, pairs, row, two};
use crate::{
    Result,
    kernels::{
        scalar::{self, artanh, half_to_even, via_f64},
        special_f64,
    },
    ops::Formula,
    tensor::{Number, Operand, Real, Tensor},
};

/// One row per method of a tensor: see [`row`].
macro_rules! unary {
    ($class:ident $bound:ident: $($(#[$doc:meta])* $name:ident $work:ident $(many $many:ident)?: |$x:ident| $value:expr,
     from $from:ident |$($k:ident),+| $derivative:expr $(, in f64 from input |$($w:ident),+| $wide:expr)?;)*) => {
        impl<T: $bound> Tensor<T> {$(
            $(#[$doc])*
            pub fn $name(&self) -> Tensor<T> {
                row!($class $bound stringify!($name), (), $work $(many $many)?, |$x| $value,
                     from $from |$($k),+| $derivative $(, in f64 from input |$($w),+| $wide)?);
                $crate::ops::one(row(), self)
            }
        )*}
    };
}
pub(super) use unary;

unary! { number Number:
    /// `|x|`; the gradient at 0 is 0.
    abs common: |x| x.magnitude(), from input |g, x| g.kept(x.gt(0.) | x.lt(0.)) * x.sign();
    /// -1, 0 or 1, as `x` is negative, zero (or NaN) or positive; the gradient is 0.
    sign short: |x| scalar::sign(x), from nothing |g, x| g.zero();
    /// `x²`
    square common: |x| x.times(x), from input |x| x * 2.;
    /// `max(x, 0)`; NaN stays NaN. The gradient is 0 at 0 and passes at NaN, as in PyTorch.
    relu common: |x| if x < T::ZERO { T::ZERO } else { x }, from output |g, y| g.kept(y.gt(0.) | y.is_nan());
}

unary! { real Real:
    /// `eˣ`
    exp common_long: |x| x.exp(), from output |y| y;
    /// `2ˣ`
    exp2 libm: |x| x.by(T::exp2), from output |y| y * LN_2;
    /// `eˣ - 1`, accurate near 0.
    expm1 long: |x| x.expm1(), from input |x| x.exp();
    /// The natural logarithm.
    log common_long: |x| x.log(), from input |g, x| g / x;
    /// The logarithm to base 2.
    log2 libm: |x| x.by(T::log2), from input |g, x| g * LOG2_E / x;
    /// The logarithm to base 10.
    log10 libm: |x| x.by(T::log10), from input |g, x| g * LOG10_E / x;
    /// `log(1 + x)`, accurate near 0.
    log1p long: |x| x.log1p(), from input |x| (x + 1.).reciprocal();
    /// `√x`
    sqrt common: |x| x.sqrt(), from output |y| (y * 2.).reciprocal();
    /// `1/√x`
    rsqrt common: |x| x.rsqrt(), from output |g, y| g * -0.5 * y * y * y;
    /// `1/x`
    reciprocal common: |x| x.reciprocal(), from output |g, y| -(g * y * y);
    /// The sine of an angle in radians.
    sin libm: |x| x.sin(), from input |x| x.cos();
    /// The cosine of an angle in radians.
    cos libm: |x| x.cos(), from input |x| -x.sin();
    /// The tangent of an angle in radians.
    tan libm: |x| x.by(T::tan), from output |y| y * y + 1.;
    /// The inverse sine, in radians; NaN outside [-1, 1].
    asin libm: |x| x.by(T::asin), from input |x| x.one_less_square().rsqrt();
    /// The inverse cosine, in radians; NaN outside [-1, 1].
    acos libm: |x| x.by(T::acos), from input |x| -x.one_less_square().rsqrt();
    /// The inverse tangent, in radians.
    atan libm: |x| x.by(T::atan), from input |g, x| {
        let r = x.hypot_1().reciprocal();
        g * r * r
    };
    /// The hyperbolic sine.
    sinh libm: |x| x.sinh(), from input |x| x.cosh();
    /// The hyperbolic cosine.
    cosh libm: |x| x.cosh(), from input |x| x.sinh();
    /// The hyperbolic tangent.
    tanh common_long many TANH: |x| x.tanh(), from output |y| y.one_less_square(),
        in f64 from input |x| x.sech_square();
    /// The inverse hyperbolic sine.
    asinh libm: |x| x.by(|x| via_f64(x, special_f64::asinh)), from input |x| x.hypot_1().reciprocal();
    /// The inverse hyperbolic cosine; NaN below 1.
    acosh libm: |x| x.by(|x| via_f64(x, special_f64::acosh)), from input |x| (x - 1.).rsqrt() * (x + 1.).rsqrt();
    /// The inverse hyperbolic tangent; NaN outside [-1, 1].
    atanh libm: |x| x.by(artanh), from input |x| x.one_less_square().reciprocal();
    /// `1 / (1 + e⁻ˣ)`
    sigmoid common_long: |x| x.sigmoid(), from output |y| y * y.rest(),
        in f64 from input |x| x.sigmoid() * (-x).sigmoid();
    /// The largest whole number that is not above `x`; the gradient is 0.
    floor short: |x| x.by(T::floor), from nothing |g, x| g.zero();
    /// The smallest whole number that is not below `x`; the gradient is 0.
    ceil short: |x| x.by(T::ceil), from nothing |g, x| g.zero();
    /// `x` without its fractional part; the gradient is 0.
    trunc short: |x| x.by(T::trunc), from nothing |g, x| g.zero();
    /// The nearest whole number, with halves rounded to even; the gradient is 0.
    round short: |x| x.by(half_to_even), from nothing |g, x| g.zero();
    /// `x - trunc(x)`; has the sign of `x`.
    frac short: |x| x.by(|x| x - x.trunc()), from nothing |g, x| g;
}

impl<T: Number> Tensor<T> {
    /// `-x`
    pub fn neg(&self) -> Tensor<T> {
        -self
    }

    /// [`sign`](Tensor::sign): PyTorch has both, which differ only for complex numbers.
    pub fn sgn(&self) -> Tensor<T> {
        self.sign()
    }
}

impl<T: Real> Tensor<T> {
    /// `x` rounded to this number of decimals or, if it is negative, to tens, hundreds, …; the gradient is 0.
    pub fn round_decimals(&self, decimals: i32) -> Tensor<T> {
        row!(real Real "round", (decimals, power), libm, |x| x.by(|x| match T::of(power) {
            _ if decimals == 0. => half_to_even(x),
            ten if decimals > 0. => half_to_even(x * ten) / ten,
            ten => half_to_even(x / ten) * ten,
        }), from nothing |g, x| g.zero());
        one(row(decimals.into(), 10f64.powi(decimals.saturating_abs())), self)
    }

    /// Replaces NaN, +∞ and -∞ by these values, by default 0 and the type's largest and smallest number; they get no
    /// gradient.
    pub fn nan_to_num(&self, nan: Option<T>, posinf: Option<T>, neginf: Option<T>) -> Tensor<T> {
        row!(real Real "nan_to_num", (nan, posinf, neginf), short, |x| x.by(|x| match x {
            x if x.is_finite() => x,
            x if x.is_nan() => T::of(nan),
            x => T::of(if x > T::ZERO { posinf } else { neginf }),
        }), from input |g, x| g.kept(x.is_finite()));
        let or = |value: Option<T>, default: T| value.unwrap_or(default).as_f64();
        let (posinf, neginf) = (or(posinf, Float::max_value()), or(neginf, Float::min_value()));
        one(row(or(nan, T::ZERO), posinf, neginf), self)
    }

    /// `xᵉ` for one exponent; the gradient is 0 if the exponent is.
    pub fn pow_scalar(&self, exponent: T) -> Tensor<T> {
        row!(real Real "pow", (exponent), libm, |x| match exponent {
            1. => x,
            3. => x * x * x,
            -2. => (x * x).reciprocal(),
            _ => x.power(exponent),
        }, from input |g, x| match exponent {
            0. => g.zero(),
            _ => g * (x.power(exponent - 1.) * exponent),
        });
        match exponent.as_f64() {
            2. => self.square(),
            0.5 => self.sqrt(),
            -0.5 => self.rsqrt(),
            -1. => self.reciprocal(),
            exponent => one(row(exponent), self),
        }
    }

    /// `selfᵉ`, elementwise, broadcasting; the exponent is a tensor or a scalar.
    ///
    /// The base gets no gradient where the exponent is 0; the exponent gets none where the base is 0 and the exponent
    /// is not negative.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn pow(&self, exponent: impl Operand<T>) -> Result<Tensor<T>> {
        let exponent = exponent.operand();
        if exponent.ndim() == 0 && !exponent.requires_grad() {
            return Ok(self.pow_scalar(exponent.item()?));
        }
        two(Power::row(), self, &exponent)
    }

    /// `baseˣ`: Python's `base ** x`.
    pub fn rpow(&self, base: T) -> Tensor<T> {
        row!(real Real "rpow", (base), libm, |x| x.power_of(base), from input |g, x| {
            let grad = g * (x.power_of(base) * base.ln());
            match base {
                // 1 everywhere.
                1. => g.zero(),
                0. => grad.kept(x.lt(0.) | x.is_nan()),
                _ => grad,
            }
        });
        one(row(base.as_f64()), self)
    }

    /// The angle of the point `(other, self)`, in (-π, π], broadcasting. At the origin, which has no angle, the gradients
    /// are 0, as in PyTorch.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn atan2(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(Angle::row(), self, &other.operand())
    }

    /// `√(self² + other²)`, broadcasting, without overflow; the gradient at (0, 0) is NaN, as in PyTorch.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn hypot(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(Hypotenuse::row(), self, &other.operand())
    }

    /// `|self|` with the sign of `other`, broadcasting; the gradient at 0 is 0.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn copysign(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        two(CopySign::row(), self, &other.operand())
    }
}

pairs! {
    real Real Power, "pow", composed libm: |x, e| x.powf(e), |g, x, e|
        (g * (e * x.pow(e - 1.))).kept(!e.equals(0.)),
        (g * (x.pow(e) * x.log())).kept(!(x.equals(0.) & e.ge(0.)));

    real Real Angle, "atan2", composed libm: |y, x| y.atan2(x), |g, y, x| g * x * over_square(x, y), -(g * y * over_square(x, y));

    real Real Hypotenuse, "hypot", composed libm: |x, y| x.hypot(y), |g, x, y| g * cosine(x, y), g * cosine(y, x);

    real Real CopySign, "copysign", composed short: |x, y| x.abs().copysign(y), |g, x, y|
        g.kept(!x.equals(0.)) * (x.sign() * y.signum()), g.zero();
}

/// `1 / (x² + y²)`, and 0 at the origin, as are its derivatives.
#[inline(always)]
fn over_square<E: Formula>(x: E, y: E) -> E {
    let square = x * x + y * y;
    let origin = square.equals(0.);
    (square + E::either(origin, 1., 0.)).reciprocal().kept(!origin)
}

/// `x / √(x² + y²)`, even if the root overflows.
#[inline(always)]
fn cosine<E: Formula>(x: E, y: E) -> E {
    let scale = E::either(x.abs().gt(1.) | y.abs().gt(1.), 0.5, 1.);
    (x * scale) / (x * scale).hypot(y * scale)
}
