//! Pooling: one number per window.

mod adaptive;
mod average;
mod fractional;
mod lp;
mod max;
mod unpool;

use super::{
    Dims,
    windows::{Sliding, Spatial},
};
use crate::{Error, Result, kernels::pooling::Pattern, python::AsPython};

pub(super) use adaptive::area;
pub use adaptive::{
    AdaptiveSize, adaptive_avg_pool, adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d, adaptive_max_pool,
    adaptive_max_pool_with_indices, adaptive_max_pool1d, adaptive_max_pool1d_with_indices, adaptive_max_pool2d,
    adaptive_max_pool2d_with_indices, adaptive_max_pool3d, adaptive_max_pool3d_with_indices,
};
pub(crate) use average::avg_pool_setters;
pub use average::{AvgPoolOptions, avg_pool, avg_pool1d, avg_pool2d, avg_pool3d};
pub use fractional::{
    FractionalSize, fractional_max_pool, fractional_max_pool_with_indices, fractional_max_pool2d,
    fractional_max_pool2d_with_indices, fractional_max_pool3d, fractional_max_pool3d_with_indices,
};
pub(crate) use lp::lp_pool_setters;
pub use lp::{LPPoolOptions, lp_pool, lp_pool1d, lp_pool2d, lp_pool3d};
pub(crate) use max::max_pool_setters;
pub use max::{
    MaxPoolOptions, max_pool, max_pool_with_indices, max_pool1d, max_pool1d_with_indices, max_pool2d,
    max_pool2d_with_indices, max_pool3d, max_pool3d_with_indices,
};
pub(crate) use unpool::max_unpool_setters;
pub use unpool::{MaxUnpoolOptions, max_unpool, max_unpool1d, max_unpool2d, max_unpool3d};

/// The step between windows of a pooling: the size of a window unless set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStride<const N: usize>(Option<Dims<N>>);

impl<const N: usize> PoolStride<N> {
    /// The step for windows of this size.
    pub fn or(self, kernel_size: Dims<N>) -> Dims<N> {
        self.0.unwrap_or(kernel_size)
    }
}

impl<const N: usize> AsPython for PoolStride<N> {
    fn python(&self) -> String {
        self.0.python()
    }
}

impl<const N: usize> From<usize> for PoolStride<N> {
    fn from(one: usize) -> Self {
        PoolStride(Some(one.into()))
    }
}

impl<const N: usize> From<[usize; N]> for PoolStride<N> {
    fn from(sizes: [usize; N]) -> Self {
        PoolStride(Some(sizes.into()))
    }
}

impl<const N: usize> From<Option<Dims<N>>> for PoolStride<N> {
    fn from(sizes: Option<Dims<N>>) -> Self {
        PoolStride(sizes)
    }
}

/// The windows of a pooling that was checked, and the shape of its result.
struct Pooling {
    op: &'static str,
    pattern: Pattern,
    shape: Vec<usize>,
}

/// The windows of a pooling of an input of this shape, given the sizes of a window, its padding and its dilation.
fn pooled<const N: usize>(
    op: &'static str,
    shape: &[usize],
    sizes: [Dims<N>; 3],
    (stride, ceil_mode): (PoolStride<N>, bool),
) -> Result<Pooling> {
    let [kernel, padding, dilation] = sizes.map(Dims::get);
    let (stride, pads) = (stride.or(sizes[0]).get(), padding.map(|p| (p, p)));
    let (input, sliding) = (Spatial::new(op, shape)?, Sliding { kernel, stride, dilation, pads, ceil_mode });
    sliding.half_padded(op)?;
    input.filled(false)?;
    let windows = sliding.over(&input)?;
    let shape = [input.leading(), &windows.output[3 - N..]].concat();
    Ok(Pooling { op, pattern: Pattern::Sliding(windows), shape })
}

/// As PyTorch for some poolings.
///
/// # Errors
/// If an axis other than the first one is empty.
fn filled(op: &str, shape: &[usize]) -> Result<()> {
    match shape[1..].contains(&0) {
        true => Err(Error::shape(op, format!("the input {shape:?} is empty; only the first axis may be"))),
        false => Ok(()),
    }
}
