//! Layers of images; see [`functional::pixel_shuffle`](crate::functional::pixel_shuffle).

use crate::{
    Result, forward, functional as F,
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// One layer per row: its number, what is wrong with 0, and its function.
macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident, $number:ident, $what:literal, $function:path;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {
            $number: usize,
        }

        impl $name {
            /// A layer with this number.
            ///
            /// # Panics
            /// If it is 0.
            #[track_caller]
            #[inline]
            pub fn new($number: usize) -> Self {
                assert!($number > 0, "{} at least 1, got 0", $what);
                Self { $number }
            }

            #[inline]
            fn extra_repr(&self) -> String {
                ExtraRepr::new().named(stringify!($number), self.$number).finish()
            }
        }

        #[forward]
        impl<T: Real> Forward<T> for $name {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                $function(x, self.$number)
            }
        }
    )*};
}

layers! {
    /// Channels moved into the space of an image, which becomes `upscale_factor` times as high and wide; see
    /// [`functional::pixel_shuffle`](crate::functional::pixel_shuffle).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = PixelShuffle::new(3);
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([1, 9, 4, 4]))?.shape(), [1, 1, 12, 12]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    PixelShuffle, upscale_factor, "an upscale factor is", F::pixel_shuffle;

    /// Pixels moved into channels; it undoes [`PixelShuffle`]. See
    /// [`functional::pixel_unshuffle`](crate::functional::pixel_unshuffle).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = PixelUnshuffle::new(3);
    /// assert_eq!(layer.forward(&Tensor::<f32>::zeros([1, 1, 12, 12]))?.shape(), [1, 9, 4, 4]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    PixelUnshuffle, downscale_factor, "a downscale factor is", F::pixel_unshuffle;

    /// Channels dealt to groups in turn; see [`functional::channel_shuffle`](crate::functional::channel_shuffle).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![[[1.0], [2.0], [3.0], [4.0]]];
    /// assert_eq!(ChannelShuffle::new(2).forward(&x)?, tensor![[[1.0], [3.0], [2.0], [4.0]]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ChannelShuffle, groups, "groups are", F::channel_shuffle;
}
