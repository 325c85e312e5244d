//! The exponential function, and functions built on it: `eˣ - 1`, tanh, σ.

use std::f32::consts::{LN_2, LOG2_E};

use super::power_of_two;
use crate::kernels::isa::Isa;

/// The first 16 bits of ln 2: times an integer of 8 bits it is exact.
pub(super) const LN_2_HIGH: f32 = f32::from_bits(LN_2.to_bits() & 0xffff_ff00);
/// The rest of ln 2.
pub(super) const LN_2_LOW: f32 = (std::f64::consts::LN_2 - LN_2_HIGH as f64) as f32;

/// 1.5 · 2²³: floats near it have no fraction, so adding it rounds to an integer, which is then in the low bits.
const ROUND: f32 = 12_582_912.;

/// `(eʳ - 1 - r) / r²` for |r| ≤ ln 2 / 2; minimises the relative error of `eʳ - 1`, 2⁻²⁶.
const EXP: [f32; 5] = [4.9999997e-1, 1.6666539e-1, 4.1667756e-2, 8.367104e-3, 1.3836563e-3];

/// `x` as `n · ln 2 + r` with |r| ≤ ln 2 / 2: returns `ROUND + n`, whose low bits are n, and r.
#[inline(always)]
fn reduced<I: Isa>(x: f32) -> (u32, f32) {
    let rounded = I::mul_add(x, LOG2_E, ROUND);
    let n = rounded - ROUND;
    (rounded.to_bits(), I::mul_add(n, -LN_2_LOW, I::mul_add(n, -LN_2_HIGH, x)))
}

/// `eʳ - 1` for |r| ≤ ln 2 / 2. Written with short chains of dependent operations, whose latency determines the time of
/// such loops.
#[inline(always)]
fn exp_m1_near_0<I: Isa>(r: f32) -> f32 {
    let square = r * r;
    let high = I::mul_add(square, EXP[4], I::mul_add(r, EXP[3], EXP[2]));
    I::mul_add(square, I::mul_add(square, high, I::mul_add(r, EXP[1], EXP[0])), r)
}

/// `eˣ`: within 1.1 ulp, including subnormal results.
#[inline(always)]
pub fn exp<I: Isa>(x: f32) -> f32 {
    // Beyond 89 it is ∞; NaN passes.
    exp_below_89::<I>(if x > 89. { 89. } else { x })
}

/// [`exp`] for `x` up to 89.
#[inline(always)]
pub(super) fn exp_below_89<I: Isa>(x: f32) -> f32 {
    let x = if x < -104. { -104. } else { x };
    let (rounded, r) = reduced::<I>(x);
    // 2ⁿ as two factors, since it may be too small or too large for a normal number.
    let exponent = rounded.wrapping_sub(ROUND.to_bits() - 254);
    let half = exponent >> 1;
    let scale = power_of_two(half);
    I::mul_add(scale, exp_m1_near_0::<I>(r), scale) * power_of_two(exponent.wrapping_sub(half))
}

/// `eˣ - 1`: within 1.8 ulp.
#[inline(always)]
pub fn exp_m1<I: Isa>(x: f32) -> f32 {
    // Beyond these bounds it is ∞ or -1; NaN passes.
    let bounded = if x > 89. { 89. } else { x };
    let bounded = if bounded < -18. { -18. } else { bounded };
    let (rounded, r) = reduced::<I>(bounded);
    // Half of 2ⁿ, since 2¹²⁸ is not finite.
    let scale = power_of_two(rounded.wrapping_sub(ROUND.to_bits() - 126));
    let half = I::mul_add(scale, exp_m1_near_0::<I>(r), scale - 0.5);
    // Near 0, where the halves may have lost a bit and the sign, it is x.
    if x.abs() < 1e-8 { x } else { half + half }
}

/// `(tanh x / x - 1) / x²` in powers of x², for |x| ≤ 0.355; minimises the relative error of tanh, 2⁻²⁴·⁴.
const TANH: [f32; 3] = [-3.3332607e-1, 1.3297988e-1, -4.9020525e-2];

/// The hyperbolic tangent, within 2 ulp: `m / (m + 2)` with `m = e^(2|x|) - 1`; near 0, where rounding `m + 2` loses
/// too much, a polynomial.
#[inline(always)]
pub fn tanh<I: Isa>(x: f32) -> f32 {
    let size = x.abs();
    // Beyond 10 it is 1; NaN passes.
    let bounded = if size > 10. { 10. } else { size };
    // As `reduced(2 * bounded)`, where n is so small that one fused step is accurate enough.
    let rounded = I::mul_add(bounded, 2. * LOG2_E, ROUND);
    let (n, twice) = (rounded - ROUND, bounded + bounded);
    let r = if I::FMA { n.mul_add(-LN_2, twice) } else { twice - n * LN_2_HIGH - n * LN_2_LOW };
    let scale = power_of_two(rounded.to_bits().wrapping_sub(ROUND.to_bits() - 127));
    let m = I::mul_add(scale, exp_m1_near_0::<I>(r), scale - 1.);
    let square = x * x;
    let series = I::mul_add(square, I::mul_add(square, TANH[2], TANH[1]), TANH[0]);
    let near = I::mul_add(x * square, series, x);
    (if size < 0.35 { near } else { m / (m + 2.) }).copysign(x)
}

/// `1 / (1 + e⁻ˣ)`: within 2 ulp, including subnormal results.
#[inline(always)]
pub fn sigmoid<I: Isa>(x: f32) -> f32 {
    let power = exp_below_89::<I>(-x.abs());
    let sum = 1. + power;
    let lost = power - (sum - 1.);
    let quotient = (if x < 0. { power } else { 1. }) / sum;
    I::mul_add(-quotient, lost, quotient)
}
