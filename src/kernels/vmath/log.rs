//! The natural logarithm.

use std::f32::consts::FRAC_1_SQRT_2;

use super::{
    exp::{LN_2_HIGH, LN_2_LOW},
    power_of_two,
};
use crate::kernels::isa::Isa;

/// `(ln(1 + f) - f + f²/2) / f³` for 1 + f from √½ to √2; minimises the relative error of the logarithm, 2⁻²⁷.
const LOG: [f32; 8] =
    [3.333333e-1, -2.5000823e-1, 2.0001258e-1, -1.662332e-1, 1.4201032e-1, -1.3159838e-1, 1.2766473e-1, -7.64145e-2];

/// A positive normal number as `2ᵉ m` with m from √½ to √2.
#[inline(always)]
fn split(x: f32) -> (i32, f32) {
    let bits = x.to_bits();
    let e = (bits.wrapping_sub(FRAC_1_SQRT_2.to_bits()) as i32) >> 23;
    (e, f32::from_bits(bits.wrapping_sub((e as u32) << 23)))
}

/// `e · ln 2 + ln(1 + f)`
#[inline(always)]
fn joined<I: Isa>(e: f32, f: f32) -> f32 {
    let square = f * f;
    let fourth = square * square;
    let pair = |k: usize| I::mul_add(f, LOG[k + 1], LOG[k]);
    let low = I::mul_add(square, pair(2), pair(0));
    let high = I::mul_add(square, pair(6), pair(4));
    let cubic = f * I::mul_add(fourth, high, low) - 0.5;
    let log = f + I::mul_add(square, cubic, e * LN_2_LOW);
    I::mul_add(e, LN_2_HIGH, log)
}

/// The special values of the logarithm of `x`: at 0, below 0, at infinity and NaN.
#[inline(always)]
fn with_limits(x: f32, log: f32) -> f32 {
    let log = if x == f32::INFINITY { x } else { log };
    let below = if x == 0. { f32::NEG_INFINITY } else { f32::NAN };
    if x > 0. { log } else { below }
}

/// The natural logarithm: within 1.5 ulp, including that of subnormal numbers.
#[inline(always)]
pub fn ln<I: Isa>(x: f32) -> f32 {
    let small = x < f32::MIN_POSITIVE;
    let (e, m) = split(if small { x * 8_388_608. } else { x });
    let e = e as f32 - if small { 23. } else { 0. };
    with_limits(x, joined::<I>(e, m - 1.))
}

/// `ln(1 + x)`: within 1.5 ulp, including near 0.
#[inline(always)]
pub fn ln_1p<I: Isa>(x: f32) -> f32 {
    let sum = 1. + x;
    let (e, m) = split(sum);
    // 1 + f = (1 + x) / 2ᵉ without the rounding of the sum. For large x it does not matter, and 1/2ᵉ may be too small.
    let scale = power_of_two(127u32.wrapping_sub(e as u32));
    let f = if x > 1e9 { m - 1. } else { I::mul_add(x, scale, scale - 1.) };
    let log = with_limits(sum, joined::<I>(e as f32, f));
    if x.abs() < 1e-8 { x } else { log }
}
