//! [`Tensors`]: a tensor, or a group of tensors.

use super::{AnyTensor, Tensor, erase::unerase};
use crate::{Error, Result, number::Element};

/// A tensor of any type, or a tuple, array, `Vec` or `Option` of such: what hooks see and return, what
/// [`summary`](crate::nn::summary()) measures, what a batch of data consists of, what
/// [`gradcheck`](crate::autograd::gradcheck) compares.
///
/// Your own structs can implement it with one method:
///
/// ```
/// use ndnn::{AnyTensor, Tensors, prelude::*};
/// struct Boxes { corners: Tensor, classes: Tensor<i64> }
/// impl Tensors for Boxes {
///     fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
///         Ok(Boxes { corners: self.corners.map(f)?, classes: self.classes.map(f)? })
///     }
/// }
/// let boxes = Boxes { corners: Tensor::zeros([5, 4]), classes: Tensor::zeros([5]) };
/// assert_eq!(boxes.tensors()[1].shape(), [5]);
/// ```
pub trait Tensors: Sized {
    /// The same group with each tensor replaced by `f` of it, from the first to the last.
    ///
    /// # Errors
    /// Those of `f`, and if it returns a tensor of another element type where the type is fixed.
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self>;

    /// The tensors in order, each with its graph.
    fn tensors(&self) -> Vec<AnyTensor> {
        let mut found = Vec::new();
        let seen = self.map(&mut |tensor| {
            found.push(tensor.clone());
            Ok(tensor)
        });
        seen.map(|_| found).expect("every tensor is of its own type")
    }
}

impl<T: Element> Tensors for Tensor<T> {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        let mapped = f(self.clone().into())?;
        let dtype = mapped.dtype();
        unerase(mapped).ok_or_else(|| {
            Error::value("tensors", format!("a tensor of {dtype} cannot take the place of one of {}", T::DTYPE))
        })
    }
}

impl Tensors for AnyTensor {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        f(self.clone())
    }
}

impl<A: Tensors> Tensors for Option<A> {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        self.as_ref().map(|a| a.map(f)).transpose()
    }
}

impl<A: Tensors> Tensors for Vec<A> {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        self.iter().map(|a| a.map(f)).collect()
    }
}

impl<A: Tensors, const N: usize> Tensors for [A; N] {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        let mapped: Vec<A> = self.iter().map(|a| a.map(f)).collect::<Result<_>>()?;
        Ok(mapped.try_into().unwrap_or_else(|_| unreachable!("as many as there were")))
    }
}

macro_rules! tuples {
    ($(($($name:ident $i:tt),*)),*) => {$(
        impl<$($name: Tensors),*> Tensors for ($($name,)*) {
            #[allow(unused_variables, clippy::unused_unit)]
            fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
                Ok(($(self.$i.map(f)?,)*))
            }
        }
    )*};
}
tuples!((), (A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4), (A 0, B 1, C 2, D 3, E 4, F 5));
