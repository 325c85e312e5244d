//! Elementary functions of `f32` without branches or tables, so that the compiler vectorizes the loops that call them;
//! and, in `pieces`, a loop with tables in registers.
//!
//! The polynomials are minimax approximations, found by Remez's algorithm in 40 digits for the interval and the error
//! given at each constant. The coefficients were then rounded to `f32` one by one from the lowest power up, and the
//! rest fitted again each time. On CPUs without fused multiply-add, the same formulas stay within the same bounds.

mod erf;
mod exp;
mod log;
#[cfg(target_arch = "x86_64")]
mod pieces;

use std::{marker::PhantomData, mem::MaybeUninit};

pub use self::{
    erf::{bell, erf, normal_cdf},
    exp::{exp, exp_m1, sigmoid, tanh},
    log::{ln, ln_1p},
};
use super::{elementwise::Many, isa::Isa};
use crate::number::{DType, PerReal, Real};

/// 2 to the power of `exponent - 127`, for `exponent` from 1 to 254.
#[inline(always)]
fn power_of_two(exponent: u32) -> f32 {
    f32::from_bits(exponent << 23)
}

/// Fills `out` with `f` of each element of `x`, which has the same length.
///
/// There are hundreds of these loops: an iterator is four times as much code, and what is not `Copy` might need to be dropped
/// when `f` panics.
#[inline(always)]
#[allow(unsafe_code)]
pub fn fill<X: Copy, Y: Copy>(x: &[X], out: &mut [MaybeUninit<Y>], f: impl Fn(X) -> Y + Copy) {
    let n = if x.len() < out.len() { x.len() } else { out.len() };
    let (x, out) = (x.as_ptr(), out.as_mut_ptr());
    let mut i = 0;
    while i < n {
        // SAFETY: `i` is below both lengths.
        unsafe { *out.add(i) = MaybeUninit::new(f(*x.add(i))) };
        i += 1;
    }
}

/// One row per function: its name, its form for `f32` and for `f64`.
macro_rules! vector_math {
    ($($(#[$doc:meta])* $name:ident: $f32:path, |$x:ident| $f64:expr;)*) => {
        /// Elementary functions for loops that [`dispatch`](super::isa::dispatch) compiles for each instruction set:
        /// those of this module for `f32`, those of std and libm for `f64`.
        pub trait VectorMath: Real {
            /// A loop of tanh for AVX-512 that is faster than that of [`vtanh`](VectorMath::vtanh), within the same error
            /// bound, but not always with the same bits.
            #[allow(unsafe_code)]
            const TANH: Option<Many<Self, Self>> = match Self::DTYPE {
                #[cfg(target_arch = "x86_64")]
                // SAFETY: elements are `f32`, as those of this loop for AVX-512, which reads no parameters.
                DType::F32 => Some(unsafe { Many::new(pieces::tanh) }),
                _ => None,
            };

            $(
                $(#[$doc])*
                #[inline(always)]
                fn $name<I: Isa>(self) -> Self {
                    struct Of<I>(PhantomData<I>);
                    impl<I: Isa> PerReal for Of<I> {
                        type In<T: Real> = T;
                        type Out<T: Real> = T;
                        #[inline(always)]
                        fn f32(x: f32) -> f32 {
                            $f32(x)
                        }
                        #[inline(always)]
                        fn f64($x: f64) -> f64 {
                            $f64
                        }
                    }
                    Self::per_real::<Of<I>>(self)
                }
            )*
        }

        impl<T: Real> VectorMath for T {}
    };
}

vector_math! {
    /// `eˣ`
    vexp: exp::<I>, |x| x.exp();
    /// `eˣ - 1`
    vexp_m1: exp_m1::<I>, |x| x.exp_m1();
    /// The natural logarithm.
    vln: ln::<I>, |x| x.ln();
    /// `ln(1 + x)`
    vln_1p: ln_1p::<I>, |x| x.ln_1p();
    /// The hyperbolic tangent.
    vtanh: tanh::<I>, |x| x.tanh();
    /// `1 / (1 + e⁻ˣ)`
    vsigmoid: sigmoid::<I>, |x| 1. / (1. + (-x).exp());
    /// The error function.
    verf: erf::<I>, |x| libm::erf(x);
    /// `e^(-x²/2)`
    vbell: bell::<I>, |x| (-0.5 * x * x).exp();
    /// The distribution function of the standard normal distribution.
    vnormal_cdf: normal_cdf::<I>, |x| 0.5 * libm::erfc(-x * std::f64::consts::FRAC_1_SQRT_2);
}
