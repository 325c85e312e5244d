//! Functions of one or two numbers, each with its rule for NaN.

use crate::number::{Element, Number, Real};

#[allow(clippy::eq_op)]
#[inline(always)]
pub fn is_nan<T: Element>(x: T) -> bool {
    x != x
}

/// The larger one; NaN if either is NaN.
#[inline(always)]
pub fn max_nan<T: Element>(a: T, b: T) -> T {
    if a > b || is_nan(a) { a } else { b }
}

/// The smaller one; NaN if either is NaN.
#[inline(always)]
pub fn min_nan<T: Element>(a: T, b: T) -> T {
    if a < b || is_nan(a) { a } else { b }
}

/// The larger one; `a` if `b` is NaN.
#[inline(always)]
pub fn max_num<T: Element>(a: T, b: T) -> T {
    if b > a { b } else { a }
}

/// `min(max(x, low), high)`; NaN stays NaN, and everything becomes `high` if `low` is above it.
#[inline(always)]
pub fn clamp<T: Element>(x: T, low: T, high: T) -> T {
    min_nan(max_nan(x, low), high)
}

/// -1, 0 or 1, as `x` is negative, zero (or NaN) or positive.
#[inline(always)]
pub fn sign<T: Number>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}

/// `log(eᵃ + eᵇ)`, without overflow.
pub fn log_add_exp<T: Real>(a: T, b: T) -> T {
    log_add(a, b, T::exp, T::ln_1p)
}

/// `log₂(2ᵃ + 2ᵇ)`, without overflow.
pub fn log_add_exp2<T: Real>(a: T, b: T) -> T {
    log_add(a, b, T::exp2, |t| t.ln_1p() * T::LOG2_E())
}

fn log_add<T: Real>(a: T, b: T, exp: fn(T) -> T, log_1p: fn(T) -> T) -> T {
    // Equal infinities have no difference.
    if a == b && a.is_infinite() {
        return a;
    }
    max_nan(a, b) + log_1p(exp(-(a - b).abs()))
}

/// `x · log(y)`; 0 where `x` is 0, unless `y` is NaN.
pub fn x_log_y<T: Real>(x: T, y: T) -> T {
    if x == T::ZERO && !y.is_nan() { T::ZERO } else { x * y.ln() }
}

/// The inverse hyperbolic tangent. std's formula loses digits near -1, where the argument of its `ln_1p` is near -1 too.
pub fn artanh<T: Real>(x: T) -> T {
    let a = x.abs();
    (((a + a) / (T::ONE - a)).ln_1p() * T::of(0.5)).copysign(x)
}

/// The nearest whole number, with halves rounded to even. Exact: every `f32` is an `f64`, and so is the result.
pub fn half_to_even<T: Real>(x: T) -> T {
    T::of(x.as_f64().round_ties_even())
}

/// A function of `f64` on an element.
pub fn via_f64<T: Real>(x: T, f: impl Fn(f64) -> f64) -> T {
    T::of(f(x.as_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_a_number() {
        let nan = f64::NAN;
        for (a, b) in [(nan, 1.), (1., nan)] {
            assert!(max_nan(a, b).is_nan() && min_nan(a, b).is_nan() && log_add_exp(a, b).is_nan(), "{a} and {b}");
        }
        assert!(max_num(nan, 1.).is_nan() && clamp(nan, 0., 1.).is_nan());
        assert_eq!((max_num(1., nan), sign(nan), x_log_y(0., f64::INFINITY)), (1., 0., 0.));
    }

    #[test]
    fn infinite_sums() {
        let inf = f64::INFINITY;
        for (a, b, sum) in
            [(-inf, -inf, -inf), (-inf, 2., 2.), (inf, inf, inf), (inf, -inf, inf), (1e300, 1e300, 1e300)]
        {
            assert_eq!((log_add_exp(a, b), log_add_exp2(b, a)), (sum, sum), "{a} and {b}");
        }
        assert_eq!(clamp(3, 5, 1), 1);
    }
}
