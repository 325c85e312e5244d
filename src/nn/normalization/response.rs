//! Norms over neighbouring channels.

use crate::{
    Result, forward,
    functional::{self as F, LocalResponseNormOptions},
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// One layer per row: its name, its function, and the default of `k`.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident, $function:path, $k:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {
            size: usize,
            options: LocalResponseNormOptions,
        }

        impl $name {
            /// A layer over this number of neighbouring channels.
            #[track_caller]
            #[inline]
            pub fn new(size: usize) -> Self {
                assert!(size > 0, "a size is at least 1, got 0");
                $name { size, options: LocalResponseNormOptions::default().k($k) }
            }

            F::local_response_norm_setters!();

            #[inline]
            fn extra_repr(&self) -> String {
                let LocalResponseNormOptions { alpha, beta, k } = self.options;
                ExtraRepr::new().value(self.size).named("alpha", alpha).named("beta", beta).named("k", k).finish()
            }
        }

        #[forward]
        impl<T: Real> Forward<T> for $name {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.size, self.options)
            }
        }
    )*};
}

layers! {
    /// Divides by a power of the mean square of neighbouring channels; see
    /// [`functional::local_response_norm`](crate::functional::local_response_norm).
    ///
    /// Input and output `(N, C, *)` with at least 3 axes.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = LocalResponseNorm::new(5);
    /// assert_eq!(layer.to_string(), "LocalResponseNorm(5, alpha=0.0001, beta=0.75, k=1.0)");
    /// assert_eq!(layer.forward(&Tensor::<f32>::ones([2, 8, 7, 7]))?.shape(), [2, 8, 7, 7]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    LocalResponseNorm, F::local_response_norm, 1.;

    /// The form of [`LocalResponseNorm`] that Lua Torch had, for models that were trained with it.
    ///
    /// Input and output `(N, C, H, W)`. Windows reach `(size − 1) / 2` channels to both sides. As in PyTorch, the first channel
    /// keeps counting in windows that it has left, and the gradient takes windows that lie one channel too early.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = CrossMapLRN2d::new(5);
    /// assert_eq!(layer.to_string(), "CrossMapLRN2d(5, alpha=0.0001, beta=0.75, k=1)");
    /// assert_eq!(layer.forward(&Tensor::<f32>::ones([2, 8, 7, 7]))?.shape(), [2, 8, 7, 7]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    CrossMapLRN2d, F::cross_map_lrn, 1;
}
