//! Dropout layers; see [`functional::dropout`](crate::functional::dropout()).

use crate::{
    Result, forward,
    functional::{self as F, setters},
    module::ExtraRepr,
    nn::{Forward, Mode, Module},
    tensor::{Real, Tensor},
};

/// One row per layer: they differ only in their function.
macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident $([const $n:ident])?, $type_name:expr, $function:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, name, stateless)]
        pub struct $name $(<const $n: usize>)? {
            p: f64,
            inplace: bool,
            mode: Mode,
        }

        /// Drops with probability 0.5.
        impl $(<const $n: usize>)? Default for $name $(<$n>)? {
            fn default() -> Self {
                Self::new(0.5)
            }
        }

        impl $(<const $n: usize>)? $name $(<$n>)? {
            /// The layer that drops with probability `p`.
            ///
            /// # Panics
            /// If `p` is not between 0 and 1.
            #[track_caller]
            #[inline]
            pub fn new(p: f64) -> Self {
                assert!((0. ..=1.).contains(&p), "dropout probability has to be between 0 and 1, but got {p}");
                Self { p, inplace: false, mode: Mode::training() }
            }

            setters! {
                /// Only printed, as in PyTorch: a tensor here is a value, and a layer never changes its input.
                inplace: of bool;
            }

            fn type_name(&self) -> String {
                $type_name
            }

            #[inline]
            fn extra_repr(&self) -> String {
                ExtraRepr::new().named("p", self.p).named("inplace", self.inplace).finish()
            }
        }

        #[forward]
        impl<T: Real $(, const $n: usize)?> Forward<T> for $name $(<$n>)? {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.p, self.mode.is_training())
            }
        }
    )*};
}

layers! {
    /// In training, each element becomes 0 with probability `p`, and is otherwise divided by `1 - p`; see
    /// [`functional::dropout`](F::dropout()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut layer = Dropout::new(0.5);
    /// assert_eq!(layer.to_string(), "Dropout(p=0.5, inplace=False)");
    /// layer.eval();
    /// assert_eq!(layer.forward(&tensor![1.0, 2.0])?, tensor![1.0, 2.0]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    Dropout, "Dropout".into(), F::dropout;

    /// Dropout of whole channels with N axes each: [`Dropout1d`], [`Dropout2d`], [`Dropout3d`].
    ChannelDropout[const N], format!("Dropout{N}d"), F::channel_dropout::<T, N>;

    /// Dropout that preserves the mean and variance of the output of [`SELU`](struct@super::SELU); see
    /// [`functional::alpha_dropout`](F::alpha_dropout).
    AlphaDropout, "AlphaDropout".into(), F::alpha_dropout;

    /// [`AlphaDropout`] of whole channels; see [`functional::feature_alpha_dropout`](F::feature_alpha_dropout).
    FeatureAlphaDropout, "FeatureAlphaDropout".into(), F::feature_alpha_dropout;
}

/// Dropout of whole channels of `(N, C, L)` or `(C, L)`; see [`functional::dropout1d`](F::dropout1d).
pub type Dropout1d = ChannelDropout<1>;

/// Dropout of whole channels of `(N, C, H, W)`; see [`functional::dropout2d`](F::dropout2d).
pub type Dropout2d = ChannelDropout<2>;

/// Dropout of whole channels of `(N, C, D, H, W)` or `(C, D, H, W)`; see [`functional::dropout3d`](F::dropout3d).
pub type Dropout3d = ChannelDropout<3>;
