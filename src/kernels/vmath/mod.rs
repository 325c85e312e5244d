//! Elementary functions of `f32` without branches or tables, so that the compiler vectorizes the loops in which they stand.

mod exp;

pub use exp::exp;

/// 2 to the power of `exponent - 127`, for exponents from 1 to 254.
#[inline(always)]
fn power_of_two(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}
