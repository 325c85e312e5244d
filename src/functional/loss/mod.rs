//! Losses: how much predictions differ from their targets.
//!
//! `distance` compares numbers, `margin` scores, `embedding` vectors, `likelihood` distributions, `ctc` sequences, `binary`
//! binary probabilities, `classes` scores of classes, `linear` those that a linear map computes. `pairs` computes losses of
//! pairs of an input and a target.

/// The options of a loss: its own, PyTorch's `reduction`, and a `weight` if a text describes it. A [`Reduction`] can
/// replace all of them: `Reduction::Sum.into()`.
macro_rules! loss_options {
    ($(#[$doc:meta])* pub struct $name:ident, setters $setters:ident, weight $weight:literal { $($own:tt)* }) => {
        crate::functional::options! {
            $(#[$doc])*
            pub struct $name['a, T: Real]['a, T], setters $setters {
                #[doc = $weight]
                weight: into Option<&'a Tensor<T>> = None;
                $($own)*
                /// How the losses of the elements are reduced; to their mean by default.
                reduction: into Reduction = Reduction::Mean;
            }
        }
        impl<T: Real> From<Reduction> for $name<'_, T> {
            fn from(reduction: Reduction) -> Self {
                Self::default().reduction(reduction)
            }
        }
    };
    ($(#[$doc:meta])* pub struct $name:ident, setters $setters:ident { $($own:tt)* }) => {
        crate::functional::options! {
            $(#[$doc])*
            pub struct $name, setters $setters {
                $($own)*
                /// How the losses of the elements are reduced; to their mean by default.
                reduction: into Reduction = Reduction::Mean;
            }
        }
        impl From<Reduction> for $name {
            fn from(reduction: Reduction) -> Self {
                Self::default().reduction(reduction)
            }
        }
    };
}
mod binary;
mod classes;
mod ctc;
mod distance;
mod embedding;
mod likelihood;
mod linear;
mod margin;
mod pairs;

pub use binary::{
    BCELossOptions, BCEWithLogitsLossOptions, SoftMarginLossOptions, binary_cross_entropy,
    binary_cross_entropy_with_logits, soft_margin_loss,
};
pub use classes::{CrossEntropyLossOptions, CrossEntropyTarget, NLLLossOptions, cross_entropy, nll_loss};
pub use ctc::{CTCLossOptions, ctc_loss};
pub use distance::{
    HuberLossOptions, L1LossOptions, MSELossOptions, SmoothL1LossOptions, huber_loss, l1_loss, mse_loss, smooth_l1_loss,
};
pub(crate) use embedding::triplet_margin_with_distance_setters;
pub use embedding::{
    CosineEmbeddingLossOptions, HingeEmbeddingLossOptions, TripletMarginLossOptions,
    TripletMarginWithDistanceLossOptions, cosine_embedding_loss, hinge_embedding_loss, triplet_margin_loss,
    triplet_margin_with_distance_loss,
};
pub use likelihood::{
    GaussianNLLLossOptions, KLDivLossOptions, KLDivReduction, PoissonNLLLossOptions, gaussian_nll_loss, kl_div,
    poisson_nll_loss,
};
pub use linear::{LinearCrossEntropyLossOptions, linear_cross_entropy};
pub use margin::{
    MarginRankingLossOptions, MultiLabelMarginLossOptions, MultiLabelSoftMarginLossOptions, MultiMarginLossOptions,
    margin_ranking_loss, multi_margin_loss, multilabel_margin_loss, multilabel_soft_margin_loss,
};

use ndnn_derive::concrete;

use crate::{
    Error, Result,
    functional::words,
    kernels::{elementwise::broadcast_shape, layout::index_of},
    tensor::{Element, Real, Tensor},
};

words! {
    /// How the losses of the elements are reduced: PyTorch's `reduction`.
    pub enum Reduction, "reduction" {
        /// They are returned.
        None = "none",
        /// Their mean, the default; NaN if there are none.
        #[default]
        Mean = "mean",
        /// Their sum.
        Sum = "sum",
    }
}

impl Reduction {
    pub(crate) fn apply<T: Real>(self, losses: Tensor<T>) -> Tensor<T> {
        match self {
            Reduction::None => losses,
            Reduction::Mean => losses.mean(),
            Reduction::Sum => losses.sum(),
        }
    }
}

/// Returns an error where PyTorch broadcasts with a warning: `[64, 1]` and `[64]` would be compared all with all.
fn same_shape<T: Real>(op: &str, names: [&str; 2], [a, b]: [&Tensor<T>; 2]) -> Result<()> {
    if a.shape() == b.shape() {
        return Ok(());
    }
    let hint = match a.numel() == b.numel() {
        true => "reshape one of them",
        false => "losses do not broadcast; use broadcast_to if that is meant",
    };
    Err(Error::shape(
        op,
        format!(
            "the {} is {:?}, the {} {:?}, they must have one shape; {hint}",
            names[0],
            a.shape(),
            names[1],
            b.shape()
        ),
    ))
}

/// A gradient of a loss that is linear in its input, at least near it: as in PyTorch the second derivative is 0, not
/// absent.
fn linear_in<T: Real>(grad: Tensor<T>, input: &Tensor<T>) -> Tensor<T> {
    Tensor::op("linear_loss_backward", grad.data().clone(), [&grad, input], |g, [dg, dx]| {
        Ok([dg.then(|| g.clone()), dx.then(|| g.zeros_like())])
    })
}

/// The first element that is `wrong`, and where it is; positions are followed only if there is one.
fn first<E: Element>(x: &Tensor<E>, wrong: impl Fn(E) -> bool) -> Option<(E, Vec<i64>)> {
    let elements = x.elements();
    let at = elements.iter().position(|&x| wrong(x))?;
    Some((elements[at], index_of(at, x.shape())))
}

/// The first element that is no probability.
#[concrete]
fn no_probability<T: Real>(x: &Tensor<T>) -> Option<(T, Vec<i64>)> {
    first(x, |x| !(x >= T::ZERO && x <= T::ONE))
}

/// The first element below 0.
#[concrete]
fn negative<T: Real>(x: &Tensor<T>) -> Option<(T, Vec<i64>)> {
    first(x, |x| x < T::ZERO)
}

const INPUT_AND_TARGET: [&str; 2] = ["input", "target"];

/// Returns an error if a weight does not broadcast to the input's shape.
fn broadcasts_to<T: Real>(op: &str, what: &str, weight: &Tensor<T>, input: &Tensor<T>) -> Result<()> {
    if broadcast_shape(weight.shape(), input.shape()).is_some_and(|shape| shape == input.shape()) {
        return Ok(());
    }
    Err(Error::shape(
        op,
        format!("the {what} {:?} does not broadcast to the input's shape {:?}", weight.shape(), input.shape()),
    ))
}
