//! Distances and similarities of vectors.

use std::ops::Range;

use ndarray::Dimension;

use super::options;
use crate::{
    Error, Result,
    autograd::gradients_again,
    kernels::{
        memory::{try_collected, vector},
        sizes::{room, saturating},
    },
    tensor::{Real, Tensor, grad_enabled, no_grad},
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
    let value = x.detach().clamp_min(T::of(floor));
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
pub fn cosine_similarity<T: Real>(
    x1: &Tensor<T>,
    x2: &Tensor<T>,
    options: CosineSimilarityOptions,
) -> Result<Tensor<T>> {
    let op = "cosine_similarity";
    let shape = crate::ops::broadcast(op, x1, x2)?;
    let shape = shape.slice();
    crate::tensor::axis(op, options.dim, shape.len())?;
    let unit = |x: &Tensor<T>| {
        let x = x.broadcast_to(shape)?;
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
/// If the input has not 2 axes, `p` is negative or NaN, or the distances do not fit into memory.
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
    room::<T>("pdist", &[pairs])?;
    room::<i64>("pdist", &[pairs])?;
    // As many first rows at a time as `DIFFERENCES` allows.
    let size = (DIFFERENCES / saturating([n, d]).max(1)).max(1);
    let chunks = move || (0..n).step_by(size).map(move |from| from..n.min(from + size));
    if size >= n {
        return distances(input, 0..n, p);
    }
    let parts = no_grad(|| try_collected(chunks().map(|rows| distances(input, rows, p))))?;
    let (y, x) = (Tensor::cat(&parts, 0)?, input.clone());
    Ok(Tensor::op("pdist", y, [input], move |g, needed| {
        let of = |rows: Range<usize>, g: &Tensor<T>| {
            gradients_again(&[&x], &needed, g, &|x| distances(&x[0], rows.clone(), p)).map(|mut all| all.swap_remove(0))
        };
        if grad_enabled() {
            return Ok([of(0..n, g)?]);
        }
        let (mut sum, mut at) = (None, 0);
        for rows in chunks() {
            let count = rows.clone().map(|i| n - 1 - i).sum();
            let gradient = of(rows, &g.narrow(0, at as isize, count)?)?;
            at += count;
            sum = match (sum, gradient) {
                (Some(sum), Some(gradient)) => Some(sum + gradient),
                (sum, gradient) => sum.or(gradient),
            };
        }
        Ok([sum])
    }))
}

/// The number of elements of differences that [`pdist`] holds.
const DIFFERENCES: usize = if cfg!(test) { 40 } else { 1 << 20 };

/// The distances of some rows from each later one.
fn distances<T: Real>(x: &Tensor<T>, first: Range<usize>, p: f64) -> Result<Tensor<T>> {
    let n = x.shape()[0];
    let [one, other] = pairs(first, n);
    let differences = x.rows_taken("pdist", 0, one)?.try_sub(&x.rows_taken("pdist", 0, other)?)?;
    if x.shape()[1] == 0 { differences.sum_dim(1, false) } else { differences.norm(p, 1, false) }
}

/// The two rows of each pair of one of the first rows and one behind it, of `n`.
fn pairs(first: Range<usize>, n: usize) -> [Vec<usize>; 2] {
    let count = first.clone().map(|i| n - 1 - i).sum();
    let (mut one, mut other) = (vector(count), vector(count));
    for i in first {
        for j in i + 1..n {
            one.push(i);
            other.push(j);
        }
    }
    [one, other]
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;
    use crate::{
        autograd::{CheckOptions, grad, gradcheck, gradgradcheck},
        kernels::memory,
        random::{Generator, SeedableRng},
    };

    fn points(shape: [usize; 2]) -> Tensor<f64> {
        Tensor::uniform_with(shape, -1.0, 1.0, &mut Generator::seed_from_u64(1)).unwrap().set_requires_grad(true)
    }

    #[test]
    fn a_few_distances_at_a_time_are_all_of_them() {
        for p in [0., 0.5, 1., 2., 3., f64::INFINITY] {
            let x = points([9, 3]);
            let (some, all) = (pdist(&x, p).unwrap(), distances(&x, 0..9, p).unwrap());
            assert_eq!(some, all, "{p}");
            let weight = points([36, 1]).reshape([36]).unwrap().detach();
            let gradient = |y: Tensor<f64>| grad(&[&(y * &weight).sum()], &[&x], false).unwrap().remove(0).unwrap();
            assert!(gradient(some).allclose(&gradient(all), 1e-13, 1e-14, false).unwrap(), "{p}");
            gradcheck(|t: &[Tensor<f64>]| pdist(&t[0], p), std::slice::from_ref(&x), CheckOptions::default()).unwrap();
            gradgradcheck(|t: &[Tensor<f64>]| pdist(&t[0], p), &[x], CheckOptions::default()).unwrap();
        }
    }

    #[test]
    fn the_differences_are_not_held() {
        let x = points([300, 20]);
        memory::clear();
        let peak = measure(|| pdist(&x, 2.).unwrap().sum().backward().unwrap()).bytes_max;
        let all = 300 * 299 / 2 * 20 * 8;
        assert!(2 * peak < all, "{peak} bytes, all differences are {all}");
    }
}
