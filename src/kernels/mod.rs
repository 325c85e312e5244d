//! Numbers only: ndarray views in, arrays out. All SIMD, threads and `unsafe` code is here.
//!
//! - The machine: [`isa`] chooses the instruction set, [`threads`] share work, `thresholds` says from which size on,
//!   [`memory`] keeps buffers, [`prefetch`] fetches ahead, [`profile`] counts multiply-adds, [`sizes`] multiplies lengths
//!   without overflow, [`lend`] lets a borrowed closure be called from elsewhere, [`retype`] takes a value as the type
//!   that it is.
//! - Arrays: [`layout`] (the order of elements in memory), [`copy`] (any strides to any strides), [`gather`] (by index).
//! - Mathematics of one number: [`scalar`] (maximum, sign and similar, with their rules for NaN), [`vmath`] (f32 in
//!   vectors), [`special_f64`] (gamma, erf and related functions, in f64).
//! - Loops: [`elementwise`] (with [`walk`]), [`reduce`], [`row_kernel`] (one row after another) with [`passes`], [`windows`]
//!   (positions of sliding windows).
//! - Operations made of them: [`attention`], [`binary_cross_entropy`], [`conv`] with [`im2col`], [`cross_entropy`],
//!   [`ctc`], [`interpolation`], [`normalization`], [`pooling`],
//!   [`products`], [`random`], [`recurrent`], [`row_sums`], [`sampling`], [`softmax`], [`sort`], and [`optimizer_pass`].
//! - Products of matrices: [`gemm`]; equations, reflections and nuclear norms: [`linalg`].

pub mod attention;
pub mod binary_cross_entropy;
pub mod conv;
pub mod copy;
pub mod cross_entropy;
pub mod ctc;
pub mod elementwise;
pub mod gather;
pub mod gemm;
pub mod held;
pub mod im2col;
pub mod interpolation;
pub mod isa;
pub mod layout;
pub mod lend;
pub mod linalg;
pub mod memory;
pub mod normalization;
pub mod optimizer_pass;
pub mod parts;
pub mod passes;
pub mod pooling;
pub mod prefetch;
pub mod products;
pub mod profile;
pub mod random;
pub mod raw;
pub mod recurrent;
pub mod reduce;
pub mod retype;
pub mod row_kernel;
pub mod row_sums;
pub mod sampling;
pub mod scalar;
pub mod sizes;
pub mod softmax;
pub mod sort;
pub mod special_f64;
mod taps;
pub mod threads;
mod thresholds;
pub mod vmath;
pub mod walk;
pub mod windows;
