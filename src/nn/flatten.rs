//! Joining and splitting axes; see [`Tensor::flatten`] and [`Tensor::unflatten`].

use crate::{
    Result, forward,
    functional::setters,
    module::ExtraRepr,
    nn::{Forward, Module},
    tensor::{Ints, Real, Tensor},
};

/// Joins the axes from `start_dim` (1 by default) to `end_dim` (-1, the last) into one; see [`Tensor::flatten`].
///
/// ```
/// use ndnn::prelude::*;
/// let x: Tensor = Tensor::zeros([32, 1, 5, 5]);
/// assert_eq!(Flatten.forward(&x)?.shape(), [32, 25]);
/// assert_eq!(Flatten.start_dim(0).end_dim(2).forward(&x)?.shape(), [160, 5]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, stateless)]
pub struct Flatten {
    start_dim: isize,
    end_dim: isize,
}

#[doc(hidden)]
#[allow(non_upper_case_globals)]
pub const Flatten: Flatten = Flatten { start_dim: 1, end_dim: -1 };

impl Default for Flatten {
    fn default() -> Self {
        Flatten
    }
}

impl Flatten {
    /// The same as the name alone: joins all axes but the first.
    pub fn new() -> Self {
        Flatten
    }

    setters! {
        /// The first axis to join; 1 by default.
        start_dim: of isize;
        /// The last axis to join; -1 by default.
        end_dim: of isize;
    }

    #[inline]
    fn extra_repr(&self) -> String {
        ExtraRepr::new().named("start_dim", self.start_dim).named("end_dim", self.end_dim).finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for Flatten {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.flatten(self.start_dim, self.end_dim)
    }
}

/// Splits the axis `dim` into `unflattened_size`, of which one size may be -1; see [`Tensor::unflatten`].
///
/// ```
/// use ndnn::prelude::*;
/// let layer = Unflatten::new(1, [2, -1]);
/// assert_eq!(layer.forward(&Tensor::<f32>::zeros([4, 6]))?.shape(), [4, 2, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr, stateless)]
pub struct Unflatten {
    dim: isize,
    unflattened_size: Vec<isize>,
}

impl Unflatten {
    /// A layer that splits the axis `dim`.
    pub fn new(dim: isize, unflattened_size: impl Into<Ints>) -> Self {
        Unflatten { dim, unflattened_size: unflattened_size.into().0 }
    }

    #[inline]
    fn extra_repr(&self) -> String {
        ExtraRepr::new().named("dim", self.dim).named("unflattened_size", &self.unflattened_size).finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for Unflatten {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.unflatten(self.dim, self.unflattened_size.as_slice())
    }
}
