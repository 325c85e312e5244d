//! Losses that ask for a margin between scores.

use ndnn_derive::concrete;

use super::{
    Reduction, broadcasts_to,
    classes::one_per_class,
    first, linear_in,
    pairs::{Hinge, Logistic, of_pairs},
    same_shape,
};
use crate::{
    Error, Result,
    functional::activation::{relu, squared_relu},
    kernels::{
        layout::array,
        memory::{filled, vector},
        scalar::is_nan,
    },
    ops::shared,
    tensor::{Real, Tensor},
};

loss_options! {
    /// The options of [`margin_ranking_loss`].
    pub struct MarginRankingLossOptions, setters margin_ranking_setters {
        /// The difference from which on the loss is 0; 0 by default.
        margin: of f64 = 0.;
    }
}

loss_options! {
    /// The options of [`multi_margin_loss`].
    pub struct MultiMarginLossOptions, setters multi_margin_setters,
    weight "A weight for each class, `(C)`; none by default." {
        /// The power of the differences, 1 or 2; 1 by default.
        p: of usize = 1, if |p| p == 1 || p == 2, "p is 1 or 2";
        /// How much larger the score of the right class should be; 1 by default.
        margin: of f64 = 1.;
    }
}

loss_options! {
    /// The options of [`multilabel_margin_loss`].
    pub struct MultiLabelMarginLossOptions, setters multilabel_margin_setters {}
}

loss_options! {
    /// The options of [`multilabel_soft_margin_loss`].
    pub struct MultiLabelSoftMarginLossOptions, setters multilabel_soft_margin_setters,
    weight "A weight for each element, broadcast to the input's shape; none by default." {}
}

/// `max(0, margin − y (x₁ − x₂))` for scores `x₁` and `x₂` and targets `y`: 1 if the first should be larger, −1 if the
/// second should be.
///
/// `input1`, `input2` and `target` have the same shape `(*)`; the result is a scalar, or `(*)` without a reduction. Where
/// PyTorch broadcasts, this returns an error. Gradients flow to all three.
///
/// ```
/// use ndnn::{functional::{self as F, MarginRankingLossOptions}, prelude::*};
/// let (better, worse) = (tensor![2.0, 1.0], tensor![0.0, 0.5]);
/// let options = MarginRankingLossOptions::default().margin(1.0).reduction("sum");
/// assert_eq!(F::margin_ranking_loss(&better, &worse, &tensor![1.0, 1.0], options)?.item()?, 0.5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ.
pub fn margin_ranking_loss<T: Real>(
    input1: &Tensor<T>,
    input2: &Tensor<T>,
    target: &Tensor<T>,
    options: MarginRankingLossOptions,
) -> Result<Tensor<T>> {
    let op = "margin_ranking_loss";
    same_shape(op, ["first input", "second"], [input1, input2])?;
    of_pairs(op, &input1.try_sub(input2)?, target, options.reduction, Hinge::row(options.margin))
}

/// The number of rows of scores and of classes: those of `(C)`, `(N, C)`, or of a scalar, which is one score of one class.
fn rows<T: Real>(op: &str, input: &Tensor<T>) -> Result<[usize; 2]> {
    match *input.shape() {
        [] => Ok([1, 1]),
        [c] if c > 0 => Ok([1, c]),
        [n, c] if c > 0 => Ok([n, c]),
        ref shape => {
            Err(Error::shape(op, format!("the input is {shape:?}, expected (C) or (N, C) with at least 1 class")))
        }
    }
}

/// The error for a target that is no class.
fn no_class(op: &str, target: &Tensor<i64>, classes: usize, least: i64) -> Result<()> {
    let fits = |t: i64| t >= least && usize::try_from(t).map_or(true, |t| t < classes);
    match first(target, |t| !fits(t)) {
        None => Ok(()),
        Some((t, at)) => Err(Error::index(
            op,
            format!(
                "the target is {t} at {at:?}, expected a class from 0 to {}{}",
                classes - 1,
                if least < 0 { ", or -1 after the last one" } else { "" }
            ),
        )),
    }
}

/// A mask of the right class of each of `n` rows; the classes were checked.
fn at_classes([n, c]: [usize; 2], right: &Tensor<i64>) -> Tensor<bool> {
    let mut mask = filled(n * c, false);
    for (row, &class) in right.elements().iter().enumerate() {
        mask[row * c + class as usize] = true;
    }
    array(&[n, c], mask).into()
}

/// `Σ max(0, margin − x[y] + x[i])ᵖ / C` over the classes `i` other than the right class `y`, for scores `x`; with weights
/// each term is multiplied by `w[y]`.
///
/// `input` is `(N, C)` and `target` `(N)`, or `(C)` and a scalar or one element. The result is a scalar, or has the
/// target's shape without a reduction. Of an empty batch the mean is NaN and the sum 0, where PyTorch returns memory that it
/// did not write. Gradients flow to the input.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::multi_margin_loss(&tensor![[0.1, 0.2, 0.4, 0.8]], &tensor![3], Default::default())?;
/// assert!((loss.item()? - 0.325).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, there are no classes, or a target is not a class.
pub fn multi_margin_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<i64>,
    options: MultiMarginLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "multi_margin_loss";
    let [n, c] = rows(op, input)?;
    one_per_class(op, options.weight, c)?;
    let one = input.ndim() < 2 && target.shape().is_empty();
    if !one && target.shape() != [n] {
        let expected = if input.ndim() < 2 { "a scalar or [1]".to_string() } else { format!("[{n}]") };
        let (x, y) = (input.shape(), target.shape());
        return Err(Error::shape(op, format!("the input is {x:?}, the target {y:?}, expected {expected}")));
    }
    no_class(op, target, c, 0)?;
    let (x, right) = (input.reshape([n, c])?, target.reshape([n, 1])?);
    let short = x.try_sub(&x.gather(1, &right)?)? + T::of(options.margin);
    let short = short.zero_where(&at_classes([n, c], &right));
    let terms = if options.p == 1 { relu(&short) } else { squared_relu(&short) };
    let mut losses = terms.sum_dim(1, false)? / T::of(c as f64);
    if let Some(weight) = options.weight {
        losses = losses.try_mul(&weight.detach().index_select(0, &right.reshape([n])?)?)?;
    }
    Ok(options.reduction.apply(losses.reshape(target.shape())?))
}

/// The loss of one row of scores, and its derivative by each of them.
fn labels_above<T: Real>(x: &[T], labels: &[i64], slopes: &mut [T]) -> T {
    let labels = || labels.iter().map_while(|&label| usize::try_from(label).ok());
    let share = T::of(x.len() as f64).recip();
    let mut right = filled(x.len(), false);
    labels().for_each(|label| right[label] = true);
    let mut sum = T::ZERO;
    for label in labels() {
        for i in (0..x.len()).filter(|&i| !right[i]) {
            let short = T::ONE - (x[label] - x[i]);
            if short > T::ZERO || is_nan(short) {
                sum += short * share;
                slopes[i] += share;
                slopes[label] -= share;
            }
        }
    }
    sum
}

/// The loss of each row of `c` scores, and the slopes of all of them.
#[concrete]
fn rows_above<T: Real>(x: &[T], labels: &[i64], c: usize) -> (Vec<T>, Vec<T>) {
    let (mut losses, mut slopes) = (vector(x.len() / c), filled(x.len(), T::ZERO));
    for ((x, labels), slopes) in x.chunks_exact(c).zip(labels.chunks_exact(c)).zip(slopes.chunks_exact_mut(c)) {
        losses.push(labels_above(x, labels, slopes));
    }
    (losses, slopes)
}

/// `Σ max(0, 1 − (x[y] − x[i])) / C` over the right classes `y` and the others `i`, for scores `x`.
///
/// `input` is `(C)` or `(N, C)`; `target` has the same shape and begins with the right classes, of which −1 is the end.
/// The result is a scalar, or `(N)` without a reduction; that of an empty batch is as for [`multi_margin_loss`]. Gradients
/// flow to the input.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::multilabel_margin_loss(&tensor![0.1, 0.2, 0.4, 0.8], &tensor![3, 0, -1, 1], Default::default())?;
/// assert!((loss.item()? - 0.85).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ, there are no classes, or a target is neither a class nor −1.
pub fn multilabel_margin_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<i64>,
    options: MultiLabelMarginLossOptions,
) -> Result<Tensor<T>> {
    let op = "multilabel_margin_loss";
    let [_, c] = rows(op, input)?;
    if target.shape() != input.shape() {
        let (x, y) = (input.shape(), target.shape());
        return Err(Error::shape(op, format!("the input is {x:?}, the target {y:?}, they must have one shape")));
    }
    no_class(op, target, c, -1)?;
    let (losses, slopes) = rows_above(&input.elements(), &target.elements(), c);
    let (slopes, x) = (Tensor::from(array(input.shape(), slopes)), input.clone());
    let batch = if input.ndim() == 2 { &input.shape()[..1] } else { &[] };
    let losses = Tensor::from_vec(batch, losses)?;
    let losses = Tensor::op(op, losses, [input], move |g, _| {
        let g = if x.ndim() == 0 { g.clone() } else { g.unsqueeze(-1)? };
        Ok([Some(linear_in(shared(&g, &slopes)?, &x))])
    });
    Ok(options.reduction.apply(losses))
}

/// The logistic loss of each label, `−(y log σ(x) + (1 − y) log(1 − σ(x)))`, in the mean over the classes.
///
/// `input` and `target` have the same shape `(*, C)`; the result is a scalar, or `(*)` without a reduction. A weight is
/// multiplied with the loss of each label. Gradients flow to the input, the target and the weight.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let loss = F::multilabel_soft_margin_loss(&tensor![[0.0, 0.0]], &tensor![[1.0, 0.0]], Default::default())?;
/// assert_eq!(loss.item()?, std::f32::consts::LN_2);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes differ, or the input is a scalar.
pub fn multilabel_soft_margin_loss<T: Real>(
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: MultiLabelSoftMarginLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "multilabel_soft_margin_loss";
    let Some(&c) = input.shape().last() else {
        return Err(Error::shape(op, "the input is a scalar, expected scores of classes, (*, C)"));
    };
    let mut losses = of_pairs(op, input, target, Reduction::None, Logistic::row())?;
    if let Some(weight) = options.weight {
        broadcasts_to(op, "weight", weight, input)?;
        losses = losses.try_mul(weight)?;
    }
    Ok(options.reduction.apply(losses.sum_dim(-1, false)? / T::of(c as f64)))
}
