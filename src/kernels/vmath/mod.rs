//! Elementary functions of `f32` without branches or tables, so that the compiler vectorizes the loops in which they stand.

mod exp;

pub use exp::exp;

use crate::kernels::isa::Isa;

/// `c₀ + c₁ x + c₂ x² + …`
#[inline(always)]
fn horner<I: Isa, const N: usize>(x: f32, c: [f32; N]) -> f32 {
    let mut sum = c[N - 1];
    let mut k = N - 1;
    while k > 0 {
        k -= 1;
        sum = I::mul_add(sum, x, c[k]);
    }
    sum
}

/// 2 to the power of `exponent - 127`, for exponents from 1 to 254.
#[inline(always)]
fn power_of_two(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}
