//! Interpolation to another size; see [`functional::interpolate`](crate::functional::interpolate).

use crate::{
    Result, forward,
    functional::{self as F, InterpolateMode, InterpolateOptions, Resize},
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// Another size for all axes after the first two; see [`functional::interpolate`](crate::functional::interpolate).
///
/// Input `(N, C, L)`, `(N, C, H, W)` or `(N, C, D, H, W)`.
///
/// ```
/// use ndnn::{functional::Resize, prelude::*};
/// let layer = Upsample::new(Resize::scale_factor(2.0)).mode("bilinear");
/// assert_eq!(layer.to_string(), "Upsample(scale_factor=2.0, mode='bilinear')");
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([8, 3, 16, 16]))?.shape(), [8, 3, 32, 32]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, stateless)]
pub struct Upsample {
    to: Resize,
    options: InterpolateOptions,
}

impl Upsample {
    /// Of this size, in the mode nearest.
    pub fn new(to: Resize) -> Self {
        Upsample { to, options: InterpolateOptions::default() }
    }

    // PyTorch's layer has no antialias.
    F::interpolate_setters!(except(antialias));

    #[inline]
    fn extra_repr(&self) -> String {
        format!("{}, mode='{}'", self.to, self.options.mode)
    }
}

#[forward]
impl<T: Real> Forward<T> for Upsample {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::interpolate(x, self.to, self.options)
    }
}

/// Layers that are [`Upsample`] in one mode: a row each.
macro_rules! in_one_mode {
    ($($(#[$doc:meta])* $name:ident, $mode:expr, $function:path;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {
            to: Resize,
        }

        impl $name {
            /// Of this size.
            pub fn new(to: Resize) -> Self {
                Self { to }
            }

            #[inline]
            fn extra_repr(&self) -> String {
                format!("{}, mode='{}'", self.to, $mode)
            }
        }

        #[forward]
        impl<T: Real> Forward<T> for $name {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.to)
            }
        }
    )*};
}

in_one_mode! {
    /// Another size by the element below; see [`functional::upsample_nearest`](crate::functional::upsample_nearest).
    ///
    /// ```
    /// use ndnn::{functional::Resize, prelude::*};
    /// let layer = UpsamplingNearest2d::new(Resize::scale_factor(2.0));
    /// let x = tensor![[[[1.0, 2.0]]]];
    /// assert_eq!(layer.forward(&x)?, tensor![[[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    UpsamplingNearest2d, InterpolateMode::Nearest, F::upsample_nearest;

    /// Another size by bilinear interpolation between corners that stay where they are; see
    /// [`functional::upsample_bilinear`](crate::functional::upsample_bilinear).
    ///
    /// ```
    /// use ndnn::{functional::Resize, prelude::*};
    /// let layer = UpsamplingBilinear2d::new(Resize::size([1, 3]));
    /// assert_eq!(layer.forward(&tensor![[[[1.0, 2.0]]]])?, tensor![[[[1.0, 1.5, 2.0]]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    UpsamplingBilinear2d, InterpolateMode::Bilinear, F::upsample_bilinear;
}
