//! The cross entropy of binary probabilities `x` and `y`, elementwise.

use ndarray::ArrayViewD;
use ndnn_derive::concrete;

use super::{
    elementwise::{zip, zip3},
    layout::Shared,
};
use crate::number::Real;

/// The least variance `x (1 − x)` that a gradient is divided by, as in PyTorch.
pub const EPS: f64 = 1e-12;

/// `−y log x − (1 − y) log(1 − x)`, whose logarithms are at least −100.
#[concrete]
pub fn losses<T: Real>(x: &ArrayViewD<'_, T>, y: &ArrayViewD<'_, T>) -> Shared<T> {
    let floor = T::of(-100.);
    zip(x, y, x.raw_dim(), |x, y| (y - T::ONE) * (-x).ln_1p().max(floor) - y * x.ln().max(floor))
}

/// `g (x − y) / max(x (1 − x), ε)`
#[concrete]
pub fn gradient<T: Real>(g: &ArrayViewD<'_, T>, x: &ArrayViewD<'_, T>, y: &ArrayViewD<'_, T>) -> Shared<T> {
    zip3(g, x, y, x.raw_dim(), |g, x, y| g * ((x - y) / (x * (T::ONE - x)).max(T::of(EPS))))
}
