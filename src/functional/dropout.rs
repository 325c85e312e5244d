//! Dropout: elements or channels dropped at random while training.

use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::elementwise::{map, zip},
    ops::shared,
    tensor::{Real, Tensor},
};

/// The limit of SELU for large negative numbers, negated: `scale · alpha`.
const SATURATION: f64 = super::activation::SELU_ALPHA * super::activation::SELU_SCALE;

/// What is dropped, and what replaces it.
#[derive(Clone, Copy)]
struct DropoutKind {
    op: &'static str,
    drawn: Drawn,
    /// Replaces by SELU's limit instead of 0, and scales and shifts everything to mean 0 and variance 1.
    alpha: bool,
}

#[derive(Clone, Copy)]
enum Drawn {
    Elements,
    /// Channels of `(N, C, …)`, or of `(C, …)` if the rank is not the given one.
    Channels {
        batched_rank: Option<usize>,
    },
}

impl DropoutKind {
    /// The shape of the mask, which broadcasts to the input's.
    fn mask_shape(self, shape: &[usize]) -> Result<Vec<usize>> {
        let Drawn::Channels { batched_rank } = self.drawn else { return Ok(shape.to_vec()) };
        let leading = if batched_rank.is_none_or(|rank| rank == shape.len()) { 2 } else { 1 };
        if shape.len() < leading {
            return Err(Error::shape(
                self.op,
                format!("expected at least {leading} axes, channels among them, got {shape:?}"),
            ));
        }
        Ok(shape.iter().enumerate().map(|(i, &n)| if i < leading { n } else { 1 }).collect())
    }

    fn apply<T: Real>(self, input: &Tensor<T>, p: f64, training: bool) -> Result<Tensor<T>> {
        if !(0. ..=1.).contains(&p) {
            return Err(Error::value(self.op, format!("dropout probability has to be between 0 and 1, but got {p}")));
        }
        if p == 0. || !training || input.numel() == 0 {
            return Ok(input.clone());
        }
        // The factor, and what is added to elements that are kept and that are dropped.
        let (scale, kept, dropped) = match self.alpha {
            _ if p == 1. => (0., 0., 0.),
            false => (1. / (1. - p), 0., 0.),
            true => {
                let scale = 1. / ((SATURATION * SATURATION * p + 1.) * (1. - p)).sqrt();
                (scale, SATURATION * scale * p, SATURATION * scale * (p - 1.))
            }
        };
        let keep = match p {
            1. => Tensor::scalar(T::ZERO),
            _ => Tensor::bernoulli(self.mask_shape(input.shape())?, 1. - p)?,
        };
        let numbers = [T::of(scale), T::of(kept), T::of(dropped)];
        Ok(masked(self.op, input, &keep, numbers, self.alpha))
    }
}

/// Elements that are kept, times `scale`, plus `kept`; `dropped` replaces the others; see [`DropoutKind::alpha`].
#[concrete]
fn masked<T: Real>(op: &'static str, input: &Tensor<T>, keep: &Tensor<T>, numbers: [T; 3], alpha: bool) -> Tensor<T> {
    let [scale, kept, dropped] = numbers;
    let factor: Tensor<T> = map(keep.data(), |k| k * scale).into();
    let out = match alpha {
        // Selected, not multiplied: infinity times 0 would be NaN.
        false => zip(input.data(), factor.data(), input.raw_dim(), |x, f| if f == T::ZERO { T::ZERO } else { x * f }),
        true => {
            zip(input.data(), factor.data(), input.raw_dim(), |x, f| if f == T::ZERO { dropped } else { x * f + kept })
        }
    };
    Tensor::op(op, out, [input], move |g, _| Ok([Some(shared(g, &factor)?)]))
}

/// One function per row.
macro_rules! functions {
    ($($(#[$doc:meta])* $name:ident, $drawn:expr, alpha $alpha:literal $(, $check:ident)?;)*) => {$(
        $(#[$doc])*
        ///
        /// # Errors
        /// If `p` is not a probability, or `input` has no channels to drop.
        pub fn $name<T: Real>(input: &Tensor<T>, p: f64, training: bool) -> Result<Tensor<T>> {
            $($check(input.shape())?;)?
            let kind = DropoutKind { op: stringify!($name), drawn: $drawn, alpha: $alpha };
            kind.apply(input, p, training)
        }
    )*};
}

functions! {
    /// In training, each element becomes 0 with probability `p`, and is otherwise divided by `1 - p`; else `input` is
    /// returned unchanged.
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// let x: Tensor = Tensor::ones([1000]);
    /// let y = F::dropout(&x, 0.25, true)?;
    /// assert!(y.to_vec().iter().all(|&v| v == 0.0 || (v - 1.0 / 0.75).abs() < 1e-6));
    /// assert_eq!(F::dropout(&x, 0.25, false)?, x);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    dropout, Drawn::Elements, alpha false;

    /// [`dropout`] of whole channels of `(N, C, L)` or `(C, L)`.
    dropout1d, Drawn::Channels { batched_rank: Some(3) }, alpha false, one_spatial_axis;

    /// [`dropout`] of whole channels of `(N, C, H, W)`; three axes are interpreted as `(N, C, L)`, as in PyTorch.
    dropout2d, Drawn::Channels { batched_rank: None }, alpha false;

    /// [`dropout`] of whole channels of `(N, C, D, H, W)` or `(C, D, H, W)`.
    dropout3d, Drawn::Channels { batched_rank: Some(5) }, alpha false;

    /// [`dropout`] for [`selu`](super::selu): dropped elements become SELU's lowest value, and mean 0 and variance 1
    /// are preserved (Klambauer et al. 2017).
    alpha_dropout, Drawn::Elements, alpha true;

    /// [`alpha_dropout`] of whole channels of `(N, C, …)`.
    feature_alpha_dropout, Drawn::Channels { batched_rank: None }, alpha true;
}

fn one_spatial_axis(shape: &[usize]) -> Result<()> {
    match shape.len() {
        2 | 3 => Ok(()),
        _ => Err(Error::shape("dropout1d", format!("expected (N, C, L) or (C, L), got {shape:?}"))),
    }
}

/// [`dropout1d`], [`dropout2d`] or [`dropout3d`].
pub(crate) fn channel_dropout<T: Real, const N: usize>(input: &Tensor<T>, p: f64, training: bool) -> Result<Tensor<T>> {
    match N {
        1 => dropout1d(input, p, training),
        2 => dropout2d(input, p, training),
        _ => dropout3d(input, p, training),
    }
}
