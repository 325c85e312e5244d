//! The error function, and the normal distribution.

use std::f32::consts::SQRT_2;

use super::exp::exp_below_89;
use crate::kernels::isa::Isa;

/// `erf(x) / x - 1` in powers of x², for |x| ≤ 0.9; minimises the relative error, 2⁻²⁶.
const ERF: [f32; 6] = [1.2837915e-1, -3.7612504e-1, 1.1281922e-1, -2.6770493e-2, 4.998959e-3, -6.0207996e-4];

/// `e^(t²/2) Φ(-t) / w` in powers of `w = 1 / (1 + TAIL t)`, for t from 0 to 14.5; minimises the error relative to `1 +
/// t²/2`, since the error from rounding t² grows in this way. Φ is the distribution function of the standard normal
/// distribution.
const NORMAL: [f32; 8] =
    [1.1964139e-1, 1.2061542e-1, 1.0050628e-1, 1.2740238e-1, -5.2798882e-2, 2.0660992e-1, -1.5795647e-1, 3.597996e-2];
const TAIL: f32 = 0.3;

/// `Φ(-t) / e^(-t²/2)` for t ≥ 0.
#[inline(always)]
fn tail<I: Isa>(t: f32) -> f32 {
    let w = 1. / I::mul_add(t, TAIL, 1.);
    let square = w * w;
    let fourth = square * square;
    let pair = |k: usize| I::mul_add(w, NORMAL[k + 1], NORMAL[k]);
    let low = I::mul_add(square, pair(2), pair(0));
    let high = I::mul_add(square, pair(6), pair(4));
    w * I::mul_add(fourth, high, low)
}

/// `e^(-x²/2)`
#[inline(always)]
pub fn bell<I: Isa>(x: f32) -> f32 {
    exp_below_89::<I>(x * x * -0.5)
}

/// `(Φ(x) - ½) / x` for |x| ≤ 5.52 as a quotient of polynomials in x²; minimises the relative error, 2⁻²⁴·⁴. All
/// coefficients are positive, so that little accuracy is lost in adding.
const ABOVE: [f32; 6] = [3.9894226e-1, 3.3502355e-2, 4.653804e-3, 1.6497384e-4, 6.2998724e-6, 2.287092e-8];
const BELOW: [f32; 6] = [1., 2.5064424e-1, 2.8440151e-2, 1.8629091e-3, 7.227208e-5, 1.1971006e-6];

/// Φ(x), the distribution function of the standard normal distribution, with an absolute error of about 10⁻⁷: `(1 +
/// erf(x / √2)) / 2`, as PyTorch computes it. GELU uses it; a more accurate tail would be too slow there.
#[inline(always)]
pub fn normal_cdf<I: Isa>(x: f32) -> f32 {
    // Beyond ±5.5 it is 1 or 0; NaN passes.
    let y = if x > 5.5 { 5.5 } else { x };
    let square = y * y;
    let polynomial = |c: [f32; 6]| {
        let mut sum = c[5];
        sum = I::mul_add(sum, square, c[4]);
        sum = I::mul_add(sum, square, c[3]);
        sum = I::mul_add(sum, square, c[2]);
        sum = I::mul_add(sum, square, c[1]);
        I::mul_add(sum, square, c[0])
    };
    let half = y * polynomial(ABOVE) / polynomial(BELOW);
    if x < -5.5 { 0. } else { half + 0.5 }
}

/// The error function: within 2 ulp.
#[inline(always)]
pub fn erf<I: Isa>(x: f32) -> f32 {
    let (size, square) = (x.abs(), x * x);
    let fourth = square * square;
    let pair = |k: usize| I::mul_add(square, ERF[k + 1], ERF[k]);
    let series = I::mul_add(fourth, I::mul_add(fourth, pair(4), pair(2)), pair(0));
    let near = I::mul_add(x, series, x);
    let power = exp_below_89::<I>(-square);
    let far = I::mul_add(power * -2., tail::<I>(size * SQRT_2), 1.);
    if size < 0.9 { near } else { far.copysign(x) }
}
