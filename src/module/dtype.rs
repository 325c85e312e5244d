//! [`Dtype`]: a module in another floating type.

use std::{collections::BTreeMap, marker::PhantomData};

use super::{buffer::Buffer, copies::copying, param::Param};
use crate::Real;

/// Conversion of a module, or a part of one, to another floating type: `Linear::new(10, 1).dtype::<f64>()`.
///
/// `#[derive(Module)]` implements it for structs with a type parameter bounded by [`Real`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no form in another element type",
    label = "not `Dtype`",
    note = "what is in a box, or in a Sequential, is converted before it is put there: `sequential![f64; Linear::new(1, 32), Tanh]`, in \
            generic code `sequential![T; …]`; the struct around it is then marked `#[module(no_dtype)]`",
    note = "give the struct a type parameter, `struct Net<T: Real = f32>`, and use it in its layers: `Linear<T>`; where it holds no \
            numbers of a type, mark it `#[module(stateless)]`"
)]
pub trait Dtype {
    /// The same type with elements of type `U`.
    type With<U: Real>;

    /// Converts every parameter and floating buffer.
    fn dtype<U: Real>(self) -> Self::With<U>;
}

impl<T: Real> Dtype for Param<T> {
    type With<U: Real> = Param<U>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Param<U> {
        self.cast()
    }
}

/// For a struct whose type parameter occurs in no value of its own.
impl<T: Real> Dtype for PhantomData<T> {
    type With<U: Real> = PhantomData<U>;
    fn dtype<U: Real>(self) -> PhantomData<U> {
        PhantomData
    }
}

impl<T: Real> Dtype for Buffer<T> {
    type With<U: Real> = Buffer<U>;
    fn dtype<U: Real>(self) -> Buffer<U> {
        self.cast()
    }
}

impl<F: Dtype> Dtype for Option<F> {
    type With<U: Real> = Option<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Option<F::With<U>> {
        let copying = copying();
        copying.end(self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for Vec<F> {
    type With<U: Real> = Vec<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Vec<F::With<U>> {
        let copying = copying();
        copying.end(self.into_iter().map(F::dtype::<U>).collect())
    }
}

impl<F: Dtype, const N: usize> Dtype for [F; N] {
    type With<U: Real> = [F::With<U>; N];
    #[track_caller]
    fn dtype<U: Real>(self) -> [F::With<U>; N] {
        let copying = copying();
        copying.end(self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for BTreeMap<String, F> {
    type With<U: Real> = BTreeMap<String, F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> BTreeMap<String, F::With<U>> {
        let copying = copying();
        copying.end(self.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect())
    }
}

impl<F: Dtype> Dtype for Box<F> {
    type With<U: Real> = Box<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Box<F::With<U>> {
        let copying = copying();
        copying.end(Box::new((*self).dtype::<U>()))
    }
}
