//! The exponential function, and what is made of it: `eˣ - 1`, tanh, σ.

use std::f32::consts::{LN_2, LOG2_E};

use super::power_of_two;
use crate::kernels::isa::Isa;

/// ln 2, its first 16 bits: times a whole number of 8 bits it is exact.
const LN_2_HIGH: f32 = f32::from_bits(LN_2.to_bits() & 0xffff_ff00);
/// The rest of it.
const LN_2_LOW: f32 = (std::f64::consts::LN_2 - LN_2_HIGH as f64) as f32;

/// 1.5 · 2²³: numbers near it have no fraction, so that adding it rounds, and leaves the whole number in the low bits.
const ROUND: f32 = 12_582_912.;

/// `(eʳ - 1 - r) / r²` for |r| ≤ ln 2 / 2: the least relative error in eʳ, 2⁻²⁸ (Remez; coefficients rounded to f32 one by
/// one from the lowest power up, the rest fitted again each time; so are all in this folder).
const EXP: [f32; 5] = [4.9999994e-1, 1.6666517e-1, 4.1668106e-2, 8.369192e-3, 1.3838416e-3];

/// `x` as `n · ln 2 + r` with |r| ≤ ln 2 / 2; n as the last bits of `ROUND + n`.
#[inline(always)]
fn reduced<I: Isa>(x: f32) -> (u32, f32) {
    let rounded = I::mul_add(x, LOG2_E, ROUND);
    let n = rounded - ROUND;
    (rounded.to_bits(), I::mul_add(n, -LN_2_LOW, I::mul_add(n, -LN_2_HIGH, x)))
}

/// `eʳ - 1` for |r| ≤ ln 2 / 2. In an order that waits little: it is waiting, not work, that such loops take time with.
#[inline(always)]
fn exp_m1_near_0<I: Isa>(r: f32) -> f32 {
    let square = r * r;
    let high = I::mul_add(square, EXP[4], I::mul_add(r, EXP[3], EXP[2]));
    I::mul_add(square, I::mul_add(square, high, I::mul_add(r, EXP[1], EXP[0])), r)
}

/// `eˣ`: within 1.1 ulp, results below the normal numbers included.
#[inline(always)]
pub fn exp<I: Isa>(x: f32) -> f32 {
    // Beyond these it is ∞ and 0; NaN passes.
    let x = if x > 89. { 89. } else { x };
    let x = if x < -104. { -104. } else { x };
    let (rounded, r) = reduced::<I>(x);
    // 2ⁿ in two factors, as it may be below or above all normal numbers.
    let exponent = rounded.wrapping_sub(ROUND.to_bits() - 254);
    let half = exponent >> 1;
    let scale = power_of_two(half);
    I::mul_add(scale, exp_m1_near_0::<I>(r), scale) * power_of_two(exponent.wrapping_sub(half))
}
