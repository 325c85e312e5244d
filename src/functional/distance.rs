//! Distances and similarities of vectors.

use ndnn_derive::concrete;

use super::options;
use crate::{
    Error, Result,
    kernels::{elementwise::map, memory::collected, scalar::max_nan, sizes::room},
    tensor::{Real, Tensor},
};

options! {
    /// The options of [`cosine_similarity`].
    pub struct CosineSimilarityOptions, setters cosine_similarity_setters {
        /// The axis of the vectors; 1 by default.
        dim: of isize = 1;
        /// The smallest length that a vector is divided by; 10⁻⁸ by default.
        eps: of f64 = 1e-8;
    }
}

options! {
    /// The options of [`pairwise_distance`].
    pub struct PairwiseDistanceOptions, setters pairwise_distance_setters {
        /// The norm's degree, which may be infinite, 0 or negative; 2 by default.
        p: of f64 = 2.;
        /// What is added to each difference; 10⁻⁶ by default.
        eps: of f64 = 1e-6;
        /// Whether the last axis stays, with length 1; it does not by default.
        keepdim: of bool = false;
    }
}

/// `max(x, floor)`, whose gradient passes below the floor too, as where PyTorch clamps without recording.
pub(super) fn floored<T: Real>(x: &Tensor<T>, floor: f64) -> Tensor<T> {
    let value = map(x.view(), |x| max_nan(x, T::of(floor)));
    Tensor::op("floored", value, [x], |g, _| Ok([Some(g.clone())]))
}

/// The cosine of the angle between vectors, `x₁ · x₂ / (max(|x₁|, ε) max(|x₂|, ε))`.
///
/// `x1` and `x2` broadcast together; the result has their shape without the axis `dim`.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let (a, b) = (tensor![[3.0, 4.0], [1.0, 0.0]], tensor![[3.0, 4.0], [0.0, 2.0]]);
/// assert!(F::cosine_similarity(&a, &b, Default::default())?.allclose(&tensor![1.0, 0.0], 1e-6, 1e-6, false)?);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not broadcast together, or have no such axis.
#[concrete]
pub fn cosine_similarity<T: Real>(
    x1: &Tensor<T>,
    x2: &Tensor<T>,
    options: CosineSimilarityOptions,
) -> Result<Tensor<T>> {
    let op = "cosine_similarity";
    let shape = crate::ops::broadcast(op, x1, x2)?;
    crate::tensor::axis(op, options.dim, shape.len())?;
    let unit = |x: &Tensor<T>| {
        let x = x.broadcast_to(&shape)?;
        x.try_div(&floored(&x.norm(2., options.dim, true)?, options.eps))
    };
    unit(x1)?.try_mul(&unit(x2)?)?.sum_dim(options.dim, false)
}

/// The distance of vectors, the `p`-norm of `x₁ − x₂ + ε` over the last axis.
///
/// `x1` and `x2`, `(*, D)`, broadcast together; the result is `(*)`.
///
/// ```
/// use ndnn::{functional::{self as F, PairwiseDistanceOptions}, prelude::*};
/// let (a, b) = (tensor![[3.0, 4.0], [1.0, 1.0]], tensor![[0.0, 0.0], [1.0, -1.0]]);
/// let options = PairwiseDistanceOptions::default().eps(0.0);
/// assert_eq!(F::pairwise_distance(&a, &b, options)?, tensor![5.0, 2.0]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not broadcast together, or the vectors are empty and `p` is negative or infinite.
#[concrete]
pub fn pairwise_distance<T: Real>(
    x1: &Tensor<T>,
    x2: &Tensor<T>,
    options: PairwiseDistanceOptions,
) -> Result<Tensor<T>> {
    crate::ops::broadcast("pairwise_distance", x1, x2)?;
    (x1.try_sub(x2)? + T::of(options.eps)).norm(options.p, -1, options.keepdim)
}

/// The `p`-norms of the differences of each row and every later one.
///
/// `input` is `(N, D)`; the result has `N (N − 1) / 2` elements: rows 0 and 1, 0 and 2, …, 1 and 2, …
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let points = tensor![[0.0, 0.0], [3.0, 4.0], [0.0, 1.0]];
/// assert_eq!(F::pdist(&points, f64::INFINITY)?, tensor![4.0, 1.0, 3.0]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has not 2 axes, `p` is negative or NaN, or the differences do not fit into memory.
#[concrete]
pub fn pdist<T: Real>(input: &Tensor<T>, p: f64) -> Result<Tensor<T>> {
    let &[n, d] = input.shape() else {
        return Err(Error::shape(
            "pdist",
            format!("the input is {:?}, expected rows of vectors, (N, D)", input.shape()),
        ));
    };
    if p.is_nan() || p < 0. {
        return Err(Error::value("pdist", format!("p is {p}, expected a degree of at least 0")));
    }
    let pairs = n.saturating_mul(n.saturating_sub(1)) / 2;
    room::<T>("pdist", &[pairs, d])?;
    room::<i64>("pdist", &[pairs])?;
    let of = |pick: fn((usize, usize)) -> usize| {
        let rows = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).map(|pair| pick(pair) as i64);
        input.index_select(0, &Tensor::from_vec([pairs], collected(rows))?)
    };
    let differences = of(|(i, _)| i)?.try_sub(&of(|(_, j)| j)?)?;
    if d == 0 { differences.sum_dim(1, false) } else { differences.norm(p, 1, false) }
}
