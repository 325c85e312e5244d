//! Padding layers; see [`functional::pad`](crate::functional::pad).

use crate::{
    Result, forward,
    functional::{self as F, PadOptions, PaddingMode, Pads, PyNumber},
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Real, Tensor},
};

/// One layer per row, and its mode.
macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident, $mode:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, name, stateless)]
        pub struct $name<const N: usize> {
            padding: Pads<N>,
        }

        impl<const N: usize> $name<N> {
            /// With this many elements at each end of each axis: one number, or 2N numbers in PyTorch's order, before and
            /// after the last axis, then those of the axis before it.
            pub fn new(padding: impl Into<Pads<N>>) -> Self {
                Self { padding: padding.into() }
            }

            fn type_name(&self) -> String {
                format!(concat!(stringify!($name), "{}d"), N)
            }

            #[inline]
            fn extra_repr(&self) -> String {
                ExtraRepr::new().value(self.padding).finish()
            }
        }

        #[forward]
        impl<const N: usize, T: Real> Forward<T> for $name<N> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                F::pad(x, self.padding.get().as_flattened(), PaddingMode::$mode)
            }
        }
    )*};
}

layers! {
    /// Padding of N axes with the elements next to the end in reverse order, without the last one: `3 2 | 1 2 3`; see
    /// [`functional::pad`](crate::functional::pad).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`; an axis is longer than its padding.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = ReflectionPad1d::new([2, 1]);
    /// assert_eq!(layer.to_string(), "ReflectionPad1d((2, 1))");
    /// assert_eq!(layer.forward(&tensor![[1.0, 2.0, 3.0]])?, tensor![[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ReflectionPad, Reflect;

    /// Padding of N axes with their first and last elements: `1 1 | 1 2 3`; see
    /// [`functional::pad`](crate::functional::pad).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = ReplicationPad1d::new([2, 1]);
    /// assert_eq!(layer.to_string(), "ReplicationPad1d((2, 1))");
    /// assert_eq!(layer.forward(&tensor![[1.0, 2.0, 3.0]])?, tensor![[1.0, 1.0, 1.0, 2.0, 3.0, 3.0]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ReplicationPad, Replicate;

    /// Padding of N axes with the elements from the other end: `2 3 | 1 2 3`; see
    /// [`functional::pad`](crate::functional::pad).
    ///
    /// Input `(N, C, *sizes)` or `(C, *sizes)`; an axis is at least as long as its padding.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = CircularPad1d::new([2, 1]);
    /// assert_eq!(layer.to_string(), "CircularPad1d((2, 1))");
    /// assert_eq!(layer.forward(&tensor![[1.0, 2.0, 3.0]])?, tensor![[2.0, 3.0, 1.0, 2.0, 3.0, 1.0]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    CircularPad, Circular;

    /// Padding of the last N axes of any tensor with zeros; see [`functional::pad`](crate::functional::pad).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let layer = ZeroPad2d::new([1, 0, 0, -1]);
    /// assert_eq!(layer.to_string(), "ZeroPad2d((1, 0, 0, -1))");
    /// assert_eq!(layer.forward(&tensor![[1.0, 2.0], [3.0, 4.0]])?, tensor![[0.0, 1.0, 2.0]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ZeroPad, Constant;
}

/// Padding of the last N axes of any tensor with one value; see [`functional::pad`](crate::functional::pad).
///
/// ```
/// use ndnn::prelude::*;
/// let layer = ConstantPad1d::new([2, 1], 0.5);
/// assert_eq!(layer.to_string(), "ConstantPad1d(padding=(2, 1), value=0.5)");
/// assert_eq!(layer.forward(&tensor![[1.0, 2.0]])?, tensor![[0.5, 0.5, 1.0, 2.0, 0.5]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, name, stateless)]
pub struct ConstantPad<const N: usize> {
    padding: Pads<N>,
    value: PyNumber,
}

impl<const N: usize> ConstantPad<N> {
    /// With this many elements at each end of each axis (one number, or 2N numbers in PyTorch's order, before and after the
    /// last axis, then those of the axis before it), all of this value.
    pub fn new(padding: impl Into<Pads<N>>, value: impl Into<PyNumber>) -> Self {
        Self { padding: padding.into(), value: value.into() }
    }

    fn type_name(&self) -> String {
        format!("ConstantPad{N}d")
    }

    #[inline]
    fn extra_repr(&self) -> String {
        ExtraRepr::new().named("padding", self.padding).named("value", self.value).finish()
    }
}

#[forward]
impl<const N: usize, T: Real> Forward<T> for ConstantPad<N> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::pad(x, self.padding.get().as_flattened(), PadOptions::from(self.value.get()))
    }
}

F::by_rank! { type ReflectionPad<_>: ReflectionPad1d, ReflectionPad2d, ReflectionPad3d }
F::by_rank! { type ReplicationPad<_>: ReplicationPad1d, ReplicationPad2d, ReplicationPad3d }
F::by_rank! { type CircularPad<_>: CircularPad1d, CircularPad2d, CircularPad3d }
F::by_rank! { type ZeroPad<_>: ZeroPad1d, ZeroPad2d, ZeroPad3d }
F::by_rank! { type ConstantPad<_>: ConstantPad1d, ConstantPad2d, ConstantPad3d }
