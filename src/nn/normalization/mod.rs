//! Normalization layers, in the order of [`functional`](crate::functional)'s: over channels, over rows, over neighbouring channels.

mod channels;
mod response;
mod rows;

use crate::{
    kernels::sizes::must,
    module::optional,
    nn::Param,
    tensor::{Real, Tensor},
};

pub use channels::{
    BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, InstanceNorm, InstanceNorm1d, InstanceNorm2d, InstanceNorm3d,
    LazyBatchNorm, LazyBatchNorm1d, LazyBatchNorm2d, LazyBatchNorm3d, LazyInstanceNorm, LazyInstanceNorm1d,
    LazyInstanceNorm2d, LazyInstanceNorm3d, SyncBatchNorm,
};
pub use response::{CrossMapLRN2d, LocalResponseNorm};
pub use rows::{GroupNorm, LayerNorm, RMSNorm};

/// The setters of a norm with weight and bias: `eps`, the one that switches both, named as PyTorch names it and with its default, and
/// `bias`. The shape is `None` as long as it is not known.
macro_rules! affine_setters {
    ($affine:ident, $default:literal, |$norm:ident| $shape:expr) => {
        setters! {
            /// Added to the variance; 1e-5 by default.
            eps: of f64;
        }

        #[doc = concat!("With or without weight and bias; `", $default, "` by default.")]
        #[track_caller]
        pub fn $affine(mut self, affine: bool) -> Self {
            self.affine = affine;
            self.settled()
        }

        /// With (the default) or without a bias in addition to the weight; without the weight there is no bias.
        #[track_caller]
        pub fn bias(mut self, bias: bool) -> Self {
            self.biased = bias;
            self.settled()
        }

        #[track_caller]
        fn settled(mut self) -> Self {
            let pair = (self.weight.take(), self.bias.take());
            let $norm = &self;
            (self.weight, self.bias) = affine(pair, $shape, self.affine, self.biased);
            self
        }
    };
}

use affine_setters;

/// Weight and bias of a norm as its options require: the existing ones, or new ones that start at 1 and 0.
#[track_caller]
fn affine<T: Real>(
    (weight, bias): (Option<Param<T>>, Option<Param<T>>),
    shape: Option<Vec<usize>>,
    affine: bool,
    biased: bool,
) -> (Option<Param<T>>, Option<Param<T>>) {
    must::<T>("parameter", shape.as_deref().unwrap_or_default());
    let new = |start: T| match &shape {
        Some(shape) => Param::new(Tensor::full(shape, start)),
        None => Param::lazy([None]),
    };
    let weight = optional(weight, affine, || new(T::ONE));
    (weight, optional(bias, affine && biased, || new(T::ZERO)))
}
