//! The error function, and the normal distribution.

use std::f32::consts::SQRT_2;

use super::exp::exp_below_89;
use crate::kernels::isa::Isa;

/// `erf(x) / x - 1` in powers of x², for |x| ≤ 0.9: the least relative error, 2⁻²⁶.
const ERF: [f32; 6] = [1.2837915e-1, -3.7612504e-1, 1.1281922e-1, -2.6770493e-2, 4.998959e-3, -6.0207996e-4];

/// `e^(t²/2) Φ(-t) / w` in powers of `w = 1 / (1 + TAIL t)`, for t from 0 to 14.5, beyond which Φ is 0: the least error
/// relative to `1 + t²/2`, which is as the error from the rounding of t² grows.
const NORMAL: [f32; 8] =
    [1.1964139e-1, 1.2061542e-1, 1.0050628e-1, 1.2740238e-1, -5.2798882e-2, 2.0660992e-1, -1.5795647e-1, 3.597996e-2];
const TAIL: f32 = 0.3;

/// `Φ(-t) / e^(-t²/2)` for t ≥ 0, Φ being the distribution function of the standard normal distribution.
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

/// Φ(x), the distribution function of the standard normal distribution: within 3 ulp where it is above 0.1, and below with
/// the error that `x²`, rounded, makes in `e^(-x²/2)`.
#[inline(always)]
pub fn normal_cdf<I: Isa>(x: f32) -> f32 {
    let below = bell::<I>(x) * tail::<I>(x.abs());
    if x > 0. { 1. - below } else { below }
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
