//! Losses of embeddings: which of them should be near each other.

use super::{
    Reduction,
    pairs::{HingeEmbedding, of_pairs},
    same_shape,
};
use crate::{
    Error, Result,
    functional::distance::{PairwiseDistanceOptions, pairwise_distance},
    tensor::{Real, Tensor},
};

loss_options! {
    /// The options of [`cosine_embedding_loss`].
    pub struct CosineEmbeddingLossOptions, setters cosine_embedding_setters {
        /// The cosine up to which unlike pairs have no loss; 0 by default.
        margin: of f64 = 0.;
    }
}

loss_options! {
    /// The options of [`hinge_embedding_loss`].
    pub struct HingeEmbeddingLossOptions, setters hinge_embedding_setters {
        /// The distance from which on unlike pairs have no loss; 1 by default.
        margin: of f64 = 1.;
    }
}

loss_options! {
    /// The options of [`triplet_margin_loss`].
    pub struct TripletMarginLossOptions, setters triplet_margin_setters {
        /// How much farther the negative example should be, above 0; 1 by default.
        margin: of f64 = 1., if |m| m > 0., "margin is above 0";
        /// The degree of the norm; 2 by default.
        p: of f64 = 2.;
        /// What is added to each difference; 10⁻⁶ by default.
        eps: of f64 = 1e-6;
        /// Whether the distance of the two examples counts if it is smaller than that of the negative one to the anchor; it
        /// does not by default.
        swap: of bool = false;
    }
}

loss_options! {
    /// The options of [`triplet_margin_with_distance_loss`].
    pub struct TripletMarginWithDistanceLossOptions, setters triplet_margin_with_distance_setters {
        /// How much farther the negative example should be, above 0; 1 by default.
        margin: of f64 = 1., if |m| m > 0., "margin is above 0";
        /// Whether the distance of the two examples counts if it is smaller than that of the negative one to the anchor; it
        /// does not by default.
        swap: of bool = false;
    }
}

/// `1 − c` for pairs of vectors with target 1, and `max(0, c − margin)` for those with −1, where `c` is the cosine of the
/// angle between them; 0 for any other target.
///
/// The inputs are `(N, D)` and `target` `(N)`, or `(D)` and a scalar; the result is a scalar, or has the target's shape
/// without a reduction. The squares of lengths are taken 10⁻¹² larger. Gradients flow to the inputs.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let (a, b) = (tensor![[1.0, 0.0], [0.0, 2.0]], tensor![[1.0, 0.0], [0.0, 3.0]]);
/// let loss = F::cosine_embedding_loss(&a, &b, &tensor![1.0, -1.0], Default::default())?;
/// assert!((loss.item()? - 0.5).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the inputs differ in shape, or the target has not one element per pair.
pub fn cosine_embedding_loss<T: Real>(
    input1: &Tensor<T>,
    input2: &Tensor<T>,
    target: &Tensor<T>,
    options: CosineEmbeddingLossOptions,
) -> Result<Tensor<T>> {
    let op = "cosine_embedding_loss";
    same_shape(op, ["first input", "second"], [input1, input2])?;
    let fits = matches!(input1.ndim(), 1 | 2) && input1.shape()[..input1.ndim() - 1] == *target.shape();
    if !fits {
        return Err(Error::shape(
            op,
            format!(
                "the inputs are {:?}, the target {:?}; expected (N, D) and (N), or (D) and a scalar",
                input1.shape(),
                target.shape()
            ),
        ));
    }
    let dot = |a: &Tensor<T>, b: &Tensor<T>| a.try_mul(b)?.sum_dim(-1, false);
    let length = |x: &Tensor<T>| Ok((dot(x, x)? + T::of(1e-12)).sqrt());
    let cosine = dot(input1, input2)?.try_div(&length(input1)?)?.try_div(&length(input2)?)?;
    let like = (-&cosine + T::ONE).zero_where(&target.ne(T::ONE)?);
    let unlike = (cosine - T::of(options.margin)).clamp_min(T::ZERO).zero_where(&target.ne(-T::ONE)?);
    Ok(options.reduction.apply(like.try_add(&unlike)?))
}

/// The distance `x` of a pair with target 1, and `max(0, margin − x)` for a pair with target −1.
///
/// `input` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Any other target
/// gives the sum of both. Gradients flow to the input.
///
/// ```
/// use ndnn::{functional::{self as F, Reduction}, prelude::*};
/// let loss = F::hinge_embedding_loss(&tensor![0.3, 0.25], &tensor![1.0, -1.0], Reduction::None.into())?;
/// assert_eq!(loss, tensor![0.3, 0.75]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn hinge_embedding_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: HingeEmbeddingLossOptions,
) -> Result<Tensor<T>> {
    let row = HingeEmbedding::row(options.margin);
    of_pairs("hinge_embedding_loss", input, &target.detach(), options.reduction, row)
}

/// `max(0, margin + d(a, p) − d(a, n))` for an anchor `a`, an example `p` of its class, an example `n` of another, and the
/// [`pairwise_distance`] `d`.
///
/// The three have the same shape `(*, D)`; the result is a scalar, or `(*)` without a reduction. Where PyTorch broadcasts,
/// this returns an error.
///
/// ```
/// use ndnn::{functional::{self as F, TripletMarginLossOptions}, prelude::*};
/// let (anchor, positive, negative) = (tensor![[0.0, 0.0]], tensor![[3.0, 4.0]], tensor![[0.0, 2.0]]);
/// let options = TripletMarginLossOptions::default().eps(0.0);
/// assert_eq!(F::triplet_margin_loss(&anchor, &positive, &negative, options)?.item()?, 4.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn triplet_margin_loss<T: Real>(
    anchor: &Tensor<T>,
    positive: &Tensor<T>,
    negative: &Tensor<T>,
    options: TripletMarginLossOptions,
) -> Result<Tensor<T>> {
    let TripletMarginLossOptions { margin, p, eps, swap, reduction } = options;
    let distance =
        |a: &Tensor<T>, b: &Tensor<T>| pairwise_distance(a, b, PairwiseDistanceOptions::default().p(p).eps(eps));
    let rest = TripletMarginWithDistanceLossOptions { margin, swap, reduction };
    triplets("triplet_margin_loss", [anchor, positive, negative], &distance, rest)
}

/// [`triplet_margin_loss`] with a distance of your own, which returns a number for each triplet.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let (anchor, positive, negative) = (tensor![[1.0, 0.0]], tensor![[2.0, 0.0]], tensor![[0.0, 1.0]]);
/// let apart = |a: &Tensor, b: &Tensor| Ok(-F::cosine_similarity(a, b, Default::default())? + 1.0);
/// let loss = F::triplet_margin_with_distance_loss(&anchor, &positive, &negative, apart, Default::default())?;
/// assert_eq!(loss.item()?, 0.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ, or the distance returns an error.
pub fn triplet_margin_with_distance_loss<T: Real>(
    anchor: &Tensor<T>,
    positive: &Tensor<T>,
    negative: &Tensor<T>,
    distance: impl Fn(&Tensor<T>, &Tensor<T>) -> Result<Tensor<T>>,
    options: TripletMarginWithDistanceLossOptions,
) -> Result<Tensor<T>> {
    triplets("triplet_margin_with_distance_loss", [anchor, positive, negative], &distance, options)
}

/// A distance of two tensors.
type Distance<'a, T> = &'a dyn Fn(&Tensor<T>, &Tensor<T>) -> Result<Tensor<T>>;

fn triplets<T: Real>(
    op: &str,
    examples: [&Tensor<T>; 3],
    distance: Distance<'_, T>,
    options: TripletMarginWithDistanceLossOptions,
) -> Result<Tensor<T>> {
    let [anchor, positive, negative] = examples;
    same_shape(op, ["anchor", "positive example"], [anchor, positive])?;
    same_shape(op, ["anchor", "negative example"], [anchor, negative])?;
    let near = distance(anchor, positive)?;
    let mut far = distance(anchor, negative)?;
    if options.swap {
        far = far.minimum(&distance(positive, negative)?)?;
    }
    let losses = (near.try_sub(&far)? + T::of(options.margin)).clamp_min(T::ZERO);
    Ok(options.reduction.apply(losses))
}
