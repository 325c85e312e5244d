//! [`Dtype`]: a module in another floating type.

use std::collections::BTreeMap;

use super::{
    buffer::Buffer,
    copies::{self, copying},
    forward::Forward,
    param::Param,
};
use crate::{Real, nn::Identity};

/// Conversion of a module, or a part of one, to another floating type: `Linear::new(10, 1).dtype::<f64>()`.
///
/// `#[derive(Module)]` writes it for structs with a type parameter bound by [`Real`].
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no form in another element type",
    label = "not `Dtype`",
    note = "give the struct a type parameter, `struct Net<T: Real = f32>`, and use it in its layers: `Linear<T>`; where it holds no \
            numbers of a type, mark it `#[module(stateless)]`"
)]
pub trait Dtype {
    /// The same in elements of type `U`.
    type With<U: Real>;

    /// Converts every parameter and floating buffer.
    fn dtype<U: Real>(self) -> Self::With<U>;
}

impl<T: Real> Dtype for Param<T> {
    type With<U: Real> = Param<U>;
    fn dtype<U: Real>(self) -> Param<U> {
        self.cast()
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
        copying(|| self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for Vec<F> {
    type With<U: Real> = Vec<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Vec<F::With<U>> {
        copying(|| self.into_iter().map(F::dtype::<U>).collect())
    }
}

impl<F: Dtype, const N: usize> Dtype for [F; N] {
    type With<U: Real> = [F::With<U>; N];
    #[track_caller]
    fn dtype<U: Real>(self) -> [F::With<U>; N] {
        copying(|| self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for BTreeMap<String, F> {
    type With<U: Real> = BTreeMap<String, F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> BTreeMap<String, F::With<U>> {
        copying(|| self.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect())
    }
}

impl<F: Dtype> Dtype for Box<F> {
    type With<U: Real> = Box<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Box<F::With<U>> {
        copying(|| Box::new((*self).dtype::<U>()))
    }
}

impl<T: Real> Dtype for Box<dyn Forward<T>> {
    type With<U: Real> = Box<dyn Forward<U>>;
    /// # Panics
    /// If the layer inside is written for one element type only.
    #[track_caller]
    fn dtype<U: Real>(self) -> Box<dyn Forward<U>> {
        copying(|| match self.dtype_boxed(U::DTYPE).and_then(|b| b.downcast::<Box<dyn Forward<U>>>().ok()) {
            Some(boxed) => *boxed,
            None => {
                let name = self.type_name();
                copies::fail(format!(
                    "dtype: {name} is written for {} only; give it a type parameter (`struct {name}<T: Real>`) and put \
                     `ndnn::forward_dtype!();` into its `impl Forward<T>`",
                    T::DTYPE
                ));
                Box::new(Identity)
            }
        })
    }
}

/// Inside an `impl<T: Real> Forward<T>` of a module that has [`Dtype`]: lets `dtype` reach it inside a `Sequential`.
#[macro_export]
macro_rules! forward_dtype {
    () => {
        fn dtype_boxed(&self, dtype: $crate::DType) -> Option<Box<dyn std::any::Any>> {
            match dtype {
                $crate::DType::F32 => {
                    let layer = $crate::nn::Dtype::dtype::<f32>(self.clone());
                    Some(Box::new(Box::new(layer) as Box<dyn $crate::nn::Forward<f32>>))
                }
                $crate::DType::F64 => {
                    let layer = $crate::nn::Dtype::dtype::<f64>(self.clone());
                    Some(Box::new(Box::new(layer) as Box<dyn $crate::nn::Forward<f64>>))
                }
                _ => None,
            }
        }
    };
}
