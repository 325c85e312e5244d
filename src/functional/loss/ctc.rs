//! Connectionist temporal classification: sequences of labels without their positions.

use ndarray::ArrayViewD;

use super::Reduction;
use crate::{
    Error, Result,
    functional::Lengths,
    kernels::{
        ctc::{self as kernel, Ctc},
        memory::{collected, try_collected},
        sizes::room,
    },
    tensor::{Real, Tensor},
};

loss_options! {
    /// The options of [`ctc_loss`].
    pub struct CTCLossOptions, setters ctc_setters {
        /// The class of no label; 0 by default.
        blank: of usize = 0;
        /// Whether an infinite loss, of a target that does not fit into its steps, counts as 0, with gradient 0; it does not
        /// by default.
        zero_infinity: of bool = false;
    }
}

/// What [`ctc_loss`] was given, checked.
struct Sequences {
    labels: Vec<Vec<usize>>,
    steps: Vec<usize>,
    blank: usize,
}

const OP: &str = "ctc_loss";

impl Sequences {
    /// For log probabilities of this shape, `[steps, batch, classes]`.
    fn new<T>(
        [steps, batch, classes]: [usize; 3],
        targets: &Tensor<i64>,
        [input_lengths, target_lengths]: [Lengths; 2],
        blank: usize,
    ) -> Result<Self> {
        if blank >= classes {
            return Err(Error::value(OP, format!("blank is {blank}, expected a class, below {classes}")));
        }
        let steps = input_lengths.of_batch(OP, "input length", batch, 0..=steps)?;
        let one_axis = targets.ndim() == 1;
        let longest = *targets.shape().last().unwrap_or(&0);
        let sizes = target_lengths.of_batch(OP, "target length", batch, 0..=longest)?;
        let total: usize = sizes.iter().sum();
        match *targets.shape() {
            [n] if n == total => {}
            [n, _] if n == batch => {}
            ref shape => {
                return Err(Error::shape(
                    OP,
                    format!(
                        "the targets are {shape:?}, expected [{batch}, longest], or [{total}]: one after another, as long \
                         as the target lengths together"
                    ),
                ));
            }
        }
        // The backward pass needs all states at all steps.
        let states = sizes.iter().zip(&steps).map(|(&size, &steps)| (2 * size + 1).saturating_mul(steps));
        room::<T>(OP, &[states.fold(0, usize::saturating_add)])?;
        let all = targets.elements();
        let mut from = 0;
        let each = sizes.iter().enumerate().map(|(n, &size)| {
            let start = if one_axis { from } else { n * longest };
            from += size;
            let class = |(i, &label): (usize, &i64)| {
                usize::try_from(label).ok().filter(|&label| label < classes).ok_or_else(|| {
                    Error::index(OP, format!("label {i} of sample {n} is {label}, expected 0 to {}", classes - 1))
                })
            };
            try_collected(all[start..][..size].iter().enumerate().map(class))
        });
        Ok(Sequences { labels: try_collected(each)?, steps, blank })
    }

    fn with<'a, T>(&'a self, log_probs: ArrayViewD<'a, T>) -> Ctc<'a, T> {
        Ctc { log_probs, labels: &self.labels, steps: &self.steps, blank: self.blank }
    }
}

/// Minus the logarithm of the probability that a sequence of classes becomes the target when runs of one class are taken as
/// one, and blanks are then left out (A. Graves et al., 2006).
///
/// `log_probs` is `(T, N, C)`, the log softmax of scores of `C` classes at each of `T` steps; `targets` is `(N, S)`, or all
/// targets one after another, `(sum(target_lengths))`; each sample has a length of both, see [`Lengths`]. A single sample may
/// be `(T, C)`. The result is a scalar, or `(N)` without a reduction; the mean divides each loss by the length of its target
/// first.
///
/// As in PyTorch the gradient is that of the scores *before* the log softmax, `e^log_probs − p` with the share `p` of the
/// paths that are in each class; the log softmax passes it on unchanged. It has no derivative of its own. A target that does
/// not fit into its steps has an infinite loss and gradient NaN, or 0 for both with `zero_infinity`.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// // 3 steps of 3 equally likely classes: 0 is blank, and "1 2" is read from 5 of 27 sequences.
/// let log_probs = Tensor::<f32>::zeros([3, 1, 3]).log_softmax(2)?;
/// let loss = F::ctc_loss(&log_probs, &tensor![[1, 2]], &[3], &[2], F::Reduction::Sum.into())?;
/// assert!((loss.item()? - (27.0f32 / 5.0).ln()).abs() < 1e-6);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit, a length is longer than what it counts, a label or `blank` is no class, there are no samples or
/// steps, or there is not enough memory for each label at each step.
pub fn ctc_loss<T: Real>(
    log_probs: &Tensor<T>,
    targets: &Tensor<i64>,
    input_lengths: impl Into<Lengths>,
    target_lengths: impl Into<Lengths>,
    options: CTCLossOptions,
) -> Result<Tensor<T>> {
    let sizes = match *log_probs.shape() {
        [t, n, c] if t > 0 && n > 0 => [t, n, c],
        [t, c] if t > 0 => [t, 1, c],
        ref shape => {
            return Err(Error::shape(
                OP,
                format!("log_probs is {shape:?}, expected (T, N, C) or (T, C) with at least 1 step and 1 sample"),
            ));
        }
    };
    let sequences = Sequences::new::<T>(sizes, targets, [input_lengths.into(), target_lengths.into()], options.blank)?;
    let divisors = collected(sequences.labels.iter().map(|labels| T::of(labels.len().max(1) as f64)));
    let batched = log_probs.reshape(sizes)?;
    let losses = losses(&batched, sequences, options.zero_infinity);
    let losses = match options.reduction {
        Reduction::Mean => losses.try_div(&Tensor::from_vec([sizes[1]], divisors)?)?,
        _ => losses,
    };
    let losses = if log_probs.ndim() == 2 { losses.squeeze_dim(0)? } else { losses };
    Ok(options.reduction.apply(losses))
}

/// The loss of each sample.
fn losses<T: Real>(log_probs: &Tensor<T>, sequences: Sequences, zero_infinity: bool) -> Tensor<T> {
    let x = log_probs.detach().contiguous();
    let (mut losses, paths) = kernel::losses(&sequences.with(x.view()));
    // The factor of each sample's gradient.
    let infinite = if zero_infinity { None } else { Some(T::nan()) };
    let factors = collected(losses.iter().map(|&loss| if loss == T::infinity() { infinite } else { Some(T::ONE) }));
    if zero_infinity {
        losses.iter_mut().for_each(|loss| {
            if *loss == T::infinity() {
                *loss = T::ZERO;
            }
        });
    }
    let batch = losses.len();
    let losses = Tensor::from_vec([batch], losses).expect("one per sample");
    let kept = log_probs.clone();
    Tensor::op(OP, losses, [log_probs], move |g, _| {
        let each = collected(g.elements().iter().zip(&factors).map(|(&g, f)| f.map(|f| g * f)));
        let grad = kernel::gradient(&sequences.with(x.view()), &paths, &each);
        Ok([Some(Tensor::op("ctc_loss_backward", grad, [g, &kept], |_, _| {
            Err(Error::value(OP, "the gradient has no derivative of its own, as in PyTorch"))
        }))])
    })
}
