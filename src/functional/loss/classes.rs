//! Losses of scores of classes: `(C)`, `(N, C)` or `(N, C, d₁, …)`, where any number of axes may follow the classes.

use ndarray::{ArrayD, CowArray, IxDyn};
use ndnn_derive::concrete;

use super::{INPUT_AND_TARGET, Reduction, first, linear_in, same_shape};
use crate::{
    Error, Result,
    kernels::{
        copy::contiguous,
        cross_entropy::{Targets, gradient, losses},
        layout::array,
        memory::{Aligned, collected, filled, vector},
        passes::sum,
    },
    ops::shared,
    tensor::{Real, Tensor, grad_enabled},
};

loss_options! {
    /// The options of [`cross_entropy`].
    pub struct CrossEntropyLossOptions, setters cross_entropy_setters,
    weight "A weight for each class, `(C)`; none by default. With class indices the mean divides by the sum of the targets'
weights." {
        /// The class index that is ignored; -100 by default. Not for probabilities.
        ignore_index: of i64 = -100;
        /// The part of the target that is spread evenly over all classes, from 0 to 1; 0 by default.
        label_smoothing: of f64 = 0., if |s| (0. ..=1.).contains(&s), "label_smoothing is a share, from 0 to 1";
    }
}

loss_options! {
    /// The options of [`nll_loss`].
    pub struct NLLLossOptions, setters nll_loss_setters,
    weight "A weight for each class, `(C)`; none by default. The mean divides by the sum of the targets' weights." {
        /// The class index that is ignored; -100 by default.
        ignore_index: of i64 = -100;
    }
}

/// The target of [`cross_entropy`]: made from a `&Tensor<i64>` or a `&Tensor<T>`.
#[derive(Clone, Copy, Debug)]
pub enum CrossEntropyTarget<'a, T: Real> {
    /// The index of the right class at each position: the input's shape without the class axis.
    Classes(&'a Tensor<i64>),
    /// The probability of each class at each position: the input's shape.
    Probabilities(&'a Tensor<T>),
}

impl<'a, T: Real> From<&'a Tensor<i64>> for CrossEntropyTarget<'a, T> {
    fn from(classes: &'a Tensor<i64>) -> Self {
        CrossEntropyTarget::Classes(classes)
    }
}

impl<'a, T: Real> From<&'a Tensor<T>> for CrossEntropyTarget<'a, T> {
    fn from(probabilities: &'a Tensor<T>) -> Self {
        CrossEntropyTarget::Probabilities(probabilities)
    }
}

/// The axis of the classes in scores of this shape.
fn class_axis(op: &str, shape: &[usize]) -> Result<usize> {
    match shape.len() {
        0 => Err(Error::shape(op, "the input is a scalar, expected (C), (N, C) or (N, C, d1, …)")),
        n => Ok(usize::from(n > 1)),
    }
}

/// Returns an error unless the weight has one number per class.
pub(super) fn one_per_class<T: Real>(op: &str, weight: Option<&Tensor<T>>, classes: usize) -> Result<()> {
    match weight {
        Some(w) if w.shape() != [classes] => Err(Error::shape(
            op,
            format!("the weight is {:?}, expected [{classes}]: one for each class of the input", w.shape()),
        )),
        _ => Ok(()),
    }
}

// ----------------------------------------------------------------------------------------------------- class indices

/// Targets as class indices, checked, and their weights.
struct Labels<T> {
    axis: usize,
    /// The input's shape.
    shape: Vec<usize>,
    /// The class at each position in row-major order; `None` where it is ignored.
    classes: Vec<Option<usize>>,
    /// The weight of each class; `None` if all are 1.
    weight: Option<Vec<T>>,
    reduction: Reduction,
}

impl<T: Real> Labels<T> {
    /// For scores of this shape.
    fn new(op: &str, scores: &[usize], target: &Tensor<i64>, options: NLLLossOptions<'_, T>) -> Result<Self> {
        let shape = scores.to_vec();
        let axis = class_axis(op, &shape)?;
        let n = shape[axis];
        one_per_class(op, options.weight, n)?;
        let mut positions = shape.clone();
        positions.remove(axis);
        // As in PyTorch, scores without a batch accept a scalar or one element as their target.
        if target.shape() != positions && !(positions.is_empty() && target.shape() == [1]) {
            let hint = match target.shape() == shape {
                true => "; probabilities must be of the input's floating type",
                false => "",
            };
            return Err(Error::shape(
                op,
                format!(
                    "the input is {shape:?} with {n} classes on axis {axis}, so class indices are {positions:?}, got \
                     {:?}{hint}",
                    target.shape()
                ),
            ));
        }
        let class = |&t: &i64| match usize::try_from(t) {
            _ if t == options.ignore_index => Some(None),
            Ok(t) if t < n => Some(Some(t)),
            _ => None,
        };
        let mut classes = vector(target.numel());
        classes.extend(target.elements().iter().map_while(class));
        if classes.len() < target.numel() {
            let (t, at) = first(target, |t| class(&t).is_none()).expect("one is no class");
            return Err(Error::index(
                op,
                format!(
                    "the target is {t} at {at:?}, the input {shape:?} has {n} classes: expected {}ignore_index = {}",
                    n.checked_sub(1).map_or(String::new(), |last| format!("0 to {last}, or ")),
                    options.ignore_index
                ),
            ));
        };
        let weight = options.weight.map(Tensor::to_vec);
        Ok(Labels { axis, shape, classes, weight, reduction: options.reduction })
    }

    /// The shape of the losses before they are reduced.
    fn positions(&self) -> Vec<usize> {
        let mut positions = self.shape.clone();
        positions.remove(self.axis);
        positions
    }

    fn targets(&self, keep: T, spread: T) -> Targets<'_, T> {
        Targets { classes: &self.classes, weight: self.weight.as_deref(), keep, spread }
    }

    /// How far apart the classes of a position are among the scores in row-major order.
    fn inner(&self) -> usize {
        self.shape[self.axis + 1..].iter().product()
    }

    /// Calls `f` with each position that is not ignored, its class, and the place of that one's score in row-major order.
    fn each(&self, mut f: impl FnMut(usize, usize, usize)) {
        let (classes, inner) = (self.shape[self.axis], self.inner().max(1));
        for (outer, named) in self.classes.chunks(inner).enumerate() {
            for (j, class) in named.iter().enumerate() {
                if let Some(class) = *class {
                    f(outer * inner + j, class, (outer * classes + class) * inner + j);
                }
            }
        }
    }

    /// The weight of a class.
    fn weight(&self, class: usize) -> T {
        self.weight.as_ref().map_or(T::ONE, |w| w[class])
    }

    /// The divisor of the losses or of a gradient.
    fn divisor(&self) -> T {
        match self.reduction {
            Reduction::Mean if self.weight.is_none() => T::of(self.classes.iter().flatten().count() as f64),
            Reduction::Mean => {
                let weights = self.classes.iter().map(|class| class.map_or(T::ZERO, |c| self.weight(c)));
                sum(&collected(weights))
            }
            _ => T::ONE,
        }
    }

    /// Reduces one loss per position.
    fn reduce(&self, losses: Aligned<T>) -> ArrayD<T> {
        match self.reduction {
            Reduction::None => losses.array(self.positions()),
            _ => ndarray::arr0(sum(&losses) / self.divisor()).into_dyn(),
        }
    }

    /// One number per position, as a tensor that broadcasts with the input.
    fn beside_input<E: crate::Element>(&self, values: Vec<E>) -> Tensor<E> {
        let mut shape = self.shape.clone();
        shape[self.axis] = 1;
        Tensor::from_vec(shape, values).expect("a value for each position")
    }

    /// The gradient of the loss of each position, from that of the result, in a shape that broadcasts with the input.
    fn gradients(&self, g: &Tensor<T>) -> Result<Tensor<T>> {
        let g = g / self.divisor();
        match self.reduction {
            Reduction::None => g.unsqueeze(self.axis as isize),
            _ => Ok(g),
        }
    }

    /// The target distribution times the weights: each class at each position has `spread` times its weight, and the
    /// right class additionally `keep` times its weight.
    fn wanted(&self, keep: T, spread: T) -> Tensor<T> {
        let (mut wanted, step) = (filled(self.shape.iter().product(), T::ZERO), self.inner());
        self.each(|_, class, at| {
            let first = at - class * step;
            if spread != T::ZERO {
                for c in 0..self.shape[self.axis] {
                    wanted[first + c * step] = spread * self.weight(c);
                }
            }
            wanted[at] += keep * self.weight(class);
        });
        array(&self.shape, wanted).into()
    }

    /// The gradient of `−w[y] x[y]`, where `g` is one number for all positions, or one per position.
    fn picked(&self, g: &[T]) -> Tensor<T> {
        let mut grad = filled(self.shape.iter().product(), T::ZERO);
        self.each(|i, class, at| {
            let (g, weight) = (g[if g.len() == 1 { 0 } else { i }], self.weight(class));
            grad[at] = if weight == T::ZERO { T::ZERO } else { g * -weight };
        });
        array(&self.shape, grad).into()
    }

    /// The scores with the axis of the classes last.
    fn rows<'a>(&self, x: &'a Tensor<T>) -> CowArray<'a, T, IxDyn> {
        let mut order: Vec<usize> = (0..self.shape.len()).filter(|&a| a != self.axis).collect();
        order.push(self.axis);
        let x = x.view().permuted_axes(IxDyn(&order));
        if x.is_standard_layout() { x.into() } else { contiguous(x).into() }
    }

    /// From the order of [`rows`](Labels::rows) back to that of the input.
    fn unrows(&self, elements: Aligned<T>) -> ArrayD<T> {
        let mut shape = self.positions();
        shape.push(self.shape[self.axis]);
        let mut order: Vec<usize> = (0..shape.len() - 1).collect();
        order.insert(self.axis, shape.len() - 1);
        let out = elements.array(shape).permuted_axes(IxDyn(&order));
        if out.is_standard_layout() { out } else { contiguous(out.view()) }
    }

    /// A mask of the right class at each position.
    fn right(&self) -> Tensor<bool> {
        let mut right = filled(self.shape.iter().product(), false);
        self.each(|_, _, at| right[at] = true);
        array(&self.shape, right).into()
    }

    /// Zero at ignored positions, even if the divisor was 0.
    fn without(&self, ignored: impl Fn(Option<usize>) -> bool, grad: Tensor<T>) -> Tensor<T> {
        let ignored = collected(self.classes.iter().map(|&class| ignored(class)));
        if !ignored.contains(&true) {
            return grad;
        }
        grad.zero_where(&self.beside_input(ignored))
    }
}

/// What the mean of the losses of these targets divides by.
#[concrete]
pub(super) fn mean_divisor<T: Real>(
    op: &str,
    scores: &[usize],
    target: &Tensor<i64>,
    options: NLLLossOptions<'_, T>,
) -> Result<T> {
    Ok(Labels::new(op, scores, target, options)?.divisor())
}

/// `−w[y] x[y]`: the negative log likelihood of the class `y`, where `x` are log probabilities and `w` weights of
/// classes.
///
/// `input` is `(C)`, `(N, C)` or `(N, C, d₁, …)`, `target` holds class indices and has the same shape without `C`. The
/// result is a scalar, or has the target's shape without a reduction. The mean divides by Σ w\[y\] over the targets
/// that are not ignored; if there are none it is NaN. No gradient flows to the weight.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[0.5, 0.5], [0.2, 0.8]].log();
/// let loss = F::nll_loss(&x, &tensor![-100, 1], Default::default())?;
/// assert!((loss.item()? + 0.8f32.ln()).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not match, or a target is not a class.
#[concrete]
pub fn nll_loss<T: Real>(input: &Tensor<T>, target: &Tensor<i64>, options: NLLLossOptions<'_, T>) -> Result<Tensor<T>> {
    let labels = Labels::new("nll_loss", input.shape(), target, options)?;
    let (given, mut losses) = (input.elements(), filled(labels.classes.len(), T::ZERO));
    labels.each(|i, class, at| losses[i] = -labels.weight(class) * given[at]);
    drop(given);
    let x = input.clone();
    Ok(Tensor::op("nll_loss", labels.reduce(losses.into()), [input], move |g, _| {
        if !grad_enabled() {
            return Ok([Some(labels.picked(&labels.gradients(g)?.to_vec()))]);
        }
        let grad = shared(&labels.gradients(g)?, &labels.wanted(-T::ONE, T::ZERO))?;
        Ok([Some(linear_in(grad, &x))])
    }))
}

/// `−log softmax(x)[y]`, the cross entropy of scores `x` (logits) and the right class `y`, or of `x` and probabilities
/// `p`: `−Σ p log softmax(x)`.
///
/// `input` is `(C)`, `(N, C)` or `(N, C, d₁, …)`; `target` is a `&Tensor<i64>` of class indices, with the same shape
/// without `C`, or a `&Tensor<T>` of probabilities, with the same shape. The result is a scalar, or without a reduction
/// has the shape without `C`. With class indices the mean divides by the sum of the weights of the targets that are not
/// ignored (NaN if there are none), with probabilities by the number of positions. With label smoothing ε the target is
/// `(1 − ε) p + ε/C`. Gradients flow to the input and to probabilities.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let logits = tensor![[2.0, 1.0, 0.1], [0.0, 3.0, 0.0]];
/// let by_index = F::cross_entropy(&logits, &tensor![0, 1], Default::default())?;
/// let by_probability = F::cross_entropy(&logits, &tensor![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], Default::default())?;
/// assert!((by_index.item()? - by_probability.item()?).abs() < 1e-6);
/// let options = F::CrossEntropyLossOptions::default().ignore_index(1).reduction(F::Reduction::Sum);
/// assert!((F::cross_entropy(&logits, &tensor![0, 1], options)?.item()? - 0.417).abs() < 1e-4);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not match, a target is not a class, or an `ignore_index` of 0 or more is given with probabilities.
#[concrete]
pub fn cross_entropy<'t, T: Real>(
    input: &Tensor<T>,
    target: impl Into<CrossEntropyTarget<'t, T>>,
    options: CrossEntropyLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let op = "cross_entropy";
    match target.into() {
        CrossEntropyTarget::Probabilities(target) => with_probabilities(op, input, target, options),
        CrossEntropyTarget::Classes(target) => {
            let CrossEntropyLossOptions { weight, ignore_index, reduction, label_smoothing } = options;
            let labels = Labels::new(op, input.shape(), target, NLLLossOptions { weight, ignore_index, reduction })?;
            Ok(with_classes(op, input, labels, label_smoothing))
        }
    }
}

/// One operation for `−Σ q log softmax(x)`, where `q` is [`Labels::wanted`].
fn with_classes<T: Real>(op: &'static str, input: &Tensor<T>, labels: Labels<T>, smoothing: f64) -> Tensor<T> {
    let n = labels.shape[labels.axis];
    let (keep, spread) = (T::of(1. - smoothing), T::of(smoothing / n.max(1) as f64));
    let (losses, sums) = losses(slice(&labels.rows(input)), &labels.targets(keep, spread));
    let x = input.clone();
    Tensor::op(op, labels.reduce(losses), [input], move |g, _| {
        let g = labels.gradients(g)?;
        if grad_enabled() {
            let (wanted, dim) = (labels.wanted(keep, spread), labels.axis as isize);
            let (log, total) = (x.log_softmax(dim)?, wanted.sum_dim(dim, true)?);
            // At the right class, computed without `p − 1`, which loses digits.
            let right = log.expm1().try_mul(&total)? + (&total - &wanted);
            let slopes = Tensor::where_(&labels.right(), right, log.exp().try_mul(&total)? - wanted)?;
            let ignored = |class: Option<usize>| class.is_none_or(|c| labels.targets(keep, spread).ignores(c));
            return Ok([Some(labels.without(ignored, slopes.try_mul(&g)?))]);
        }
        let all = labels.weight.as_ref().map_or(T::of(n as f64), |w| sum(w));
        let targets = labels.targets(keep, spread);
        let grad = gradient(slice(&labels.rows(&x)), &targets, &sums, all, &g.elements());
        Ok([Some(labels.unrows(grad).into())])
    })
}

/// The elements of an array in row-major order.
fn slice<'a, T>(x: &'a CowArray<'_, T, IxDyn>) -> &'a [T] {
    x.as_slice().expect("standard layout")
}

/// `−Σ w p log softmax(x)`, where the mean is over positions.
fn with_probabilities<T: Real>(
    op: &str,
    input: &Tensor<T>,
    target: &Tensor<T>,
    options: CrossEntropyLossOptions<'_, T>,
) -> Result<Tensor<T>> {
    let axis = class_axis(op, input.shape())?;
    let n = input.shape()[axis];
    same_shape(op, INPUT_AND_TARGET, [input, target])?;
    one_per_class(op, options.weight, n)?;
    if options.ignore_index >= 0 {
        return Err(Error::value(
            op,
            format!("ignore_index = {} is for class indices, the target holds probabilities", options.ignore_index),
        ));
    }
    let mut likelihoods = input.log_softmax(axis as isize)?;
    if let Some(weight) = options.weight {
        let mut beside = vec![1; input.ndim()];
        beside[axis] = n;
        likelihoods = likelihoods.try_mul(&weight.reshape(beside.as_slice())?)?;
    }
    let smoothed = match options.label_smoothing {
        0. => target.clone(),
        s => target * T::of(1. - s) + T::of(s / n as f64),
    };
    let losses = -likelihoods.try_mul(&smoothed)?.sum_dim(axis as isize, false)?;
    // PyTorch's mean over empty scores is NaN even if there are positions.
    if n == 0 && options.reduction == Reduction::Mean {
        return Ok(losses.mean() * T::nan());
    }
    Ok(options.reduction.apply(losses))
}
