//! Creating tensors: zeros, ranges, the identity, `tensor!`.

use ndarray::Array;
use ndnn_derive::concrete;

use super::{Element, Number, Real, Tensor};
use crate::{
    Error, Result,
    kernels::{
        layout::array,
        memory,
        sizes::{count, must, room},
    },
};

impl<T: Element> Tensor<T> {
    /// A tensor of zeros (`false` for `bool`).
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn zeros(shape: impl AsRef<[usize]>) -> Tensor<T> {
        let shape = shape.as_ref();
        must::<T>("zeros", shape);
        Self::filled_with("zeros", shape, T::ZERO)
    }

    /// A tensor of ones (`true` for `bool`).
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn ones(shape: impl AsRef<[usize]>) -> Tensor<T> {
        let shape = shape.as_ref();
        must::<T>("ones", shape);
        Self::filled_with("ones", shape, T::ONE)
    }

    /// A tensor filled with one value.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn full(shape: impl AsRef<[usize]>, value: T) -> Tensor<T> {
        let shape = shape.as_ref();
        must::<T>("full", shape);
        Self::filled_with("full", shape, value)
    }

    /// As [`full`](Tensor::full), for an operation that can return an error.
    pub(crate) fn try_full(op: &str, shape: &[usize], value: T) -> Result<Tensor<T>> {
        room::<T>(op, shape)?;
        Ok(Self::filled_with(op, shape, value))
    }

    /// As [`Tensor::full`], for which there is room.
    #[concrete(Element)]
    fn filled_with(op: &str, shape: &[usize], value: T) -> Tensor<T> {
        memory::full(op, shape, value).into()
    }

    /// A tensor with no axes.
    pub fn scalar(value: T) -> Tensor<T> {
        memory::single(value).into()
    }

    /// Zeros in the shape of this tensor.
    pub fn zeros_like(&self) -> Tensor<T> {
        Self::zeros(self.shape())
    }

    /// Ones in the shape of this tensor.
    pub fn ones_like(&self) -> Tensor<T> {
        Self::ones(self.shape())
    }

    /// One value in the shape of this tensor.
    pub fn full_like(&self, value: T) -> Tensor<T> {
        Self::full(self.shape(), value)
    }

    /// A tensor of the given shape from its elements in row-major order.
    ///
    /// # Errors
    /// If the number of elements does not match the shape.
    pub fn from_vec(shape: impl AsRef<[usize]>, elements: Vec<T>) -> Result<Tensor<T>> {
        let shape = shape.as_ref();
        takes(shape, elements.len())?;
        Ok(array(shape, elements).into())
    }
}

/// Checks that an array of this shape has `n` elements.
fn takes(shape: &[usize], n: usize) -> Result<()> {
    let why = match count(shape.iter().copied()) {
        Some(wanted) if wanted == n => return Ok(()),
        Some(wanted) => format!("shape {shape:?} takes {wanted} elements, there are {n}"),
        None => {
            let most = isize::MAX;
            format!("the sizes of shape {shape:?} multiply to more than {most}, there are {n} elements")
        }
    };
    Err(Error::shape("from_vec", why))
}

impl<T: Element> From<Vec<T>> for Tensor<T> {
    fn from(elements: Vec<T>) -> Self {
        Array::from_vec(elements).into()
    }
}

impl<T: Element> From<&[T]> for Tensor<T> {
    fn from(elements: &[T]) -> Self {
        memory::copied(elements).into()
    }
}

impl<T: Element> FromIterator<T> for Tensor<T> {
    fn from_iter<I: IntoIterator<Item = T>>(iter: I) -> Self {
        memory::collected(iter).into()
    }
}

impl<T: Number> Tensor<T> {
    /// `start, start + step, …`, excluding `end`.
    ///
    /// # Errors
    /// If `step` is zero or leads away from `end`, or there is not enough memory for that many elements.
    pub fn arange(start: T, end: T, step: T) -> Result<Tensor<T>> {
        let astray = || Error::value("arange", format!("a step of {step} does not lead from {start} to {end}"));
        if T::DTYPE == super::DType::I64 {
            let (start, end, step) = (start.as_i64(), end.as_i64(), step.as_i64());
            // The distance may not fit an i64; the elements themselves do, even if `i · step` does not.
            let way = i128::from(end) - i128::from(start);
            if step == 0 || way != 0 && way.is_negative() != step.is_negative() {
                return Err(astray());
            }
            let n = way.unsigned_abs().div_ceil(u128::from(step.unsigned_abs()));
            let n = room::<i64>("arange", &[usize::try_from(n).unwrap_or(usize::MAX)])?;
            let at = |i: usize| start.wrapping_add((i as i64).wrapping_mul(step));
            return Ok((0..n).map(at).collect::<Tensor<i64>>().cast());
        }
        let (from, to, by) = (start.as_f64(), end.as_f64(), step.as_f64());
        let n = (to - from) / by;
        if by == 0. || n < 0. || !n.is_finite() {
            return Err(astray());
        }
        let n = room::<T>("arange", &[n.ceil() as usize])?;
        Ok((0..n).map(|i| T::of(from + i as f64 * by)).collect())
    }

    /// The identity matrix, `n` by `n`.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn eye(n: usize) -> Tensor<T> {
        let mut eye = memory::full("eye", &[n, n], T::ZERO);
        eye.diag_mut().fill(T::ONE);
        eye.into()
    }
}

impl<T: Real> Tensor<T> {
    /// `steps` values evenly spaced from `start` to `end`, both included.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn linspace(start: T, end: T, steps: usize) -> Tensor<T> {
        must::<T>("linspace", &[steps]);
        let (from, to) = (start.as_f64(), end.as_f64());
        let step = (to - from) / (steps.max(2) - 1) as f64;
        // From both ends, as PyTorch does: the values are symmetric, and the last one is exactly `end`.
        (0..steps)
            .map(|i| {
                T::of(if i < steps.div_ceil(2) { from + i as f64 * step } else { to - (steps - 1 - i) as f64 * step })
            })
            .collect()
    }
}

/// Nested arrays of literals, for [`tensor!`](crate::tensor!).
#[doc(hidden)]
pub trait Nested {
    type Leaf: Literal;
    fn shape(shape: &mut Vec<usize>);
    fn flatten(self, out: &mut Vec<Self::Leaf>);
}

/// What may appear in [`tensor!`](crate::tensor!), and the element type it becomes: Rust makes a float literal an
/// `f64`, but in a tensor it is an `f32`, as in PyTorch.
#[doc(hidden)]
pub trait Literal: Copy {
    type Elem: Element;
    fn to<T: Element>(self) -> T;
}

impl<N: Nested, const K: usize> Nested for [N; K] {
    type Leaf = N::Leaf;
    fn shape(shape: &mut Vec<usize>) {
        shape.push(K);
        N::shape(shape);
    }
    fn flatten(self, out: &mut Vec<N::Leaf>) {
        self.into_iter().for_each(|n| n.flatten(out));
    }
}

macro_rules! literal {
    ($($t:ty => $elem:ty, |$x:ident| $value:expr);* $(;)?) => {$(
        impl Literal for $t {
            type Elem = $elem;
            fn to<T: Element>(self) -> T {
                let $x = self;
                $value
            }
        }
        impl Nested for $t {
            type Leaf = $t;
            fn shape(_: &mut Vec<usize>) {}
            fn flatten(self, out: &mut Vec<$t>) {
                out.push(self);
            }
        }
    )*};
}
literal! {
    f32 => f32, |x| T::of(x as f64);
    f64 => f32, |x| T::of(x);
    i32 => i64, |x| T::of_i64(i64::from(x));
    i64 => i64, |x| T::of_i64(x);
    usize => i64, |x| T::of_i64(x as i64);
    bool => bool, |x| T::of_i64(i64::from(x));
}

#[doc(hidden)]
pub fn tensor_of<T: Element, N: Nested>(nested: N) -> Tensor<T> {
    let (mut shape, mut leaves) = (Vec::new(), Vec::new());
    N::shape(&mut shape);
    nested.flatten(&mut leaves);
    Tensor::from_vec(shape, leaves.into_iter().map(Literal::to).collect()).expect("a full array")
}

#[doc(hidden)]
pub fn tensor_default<N: Nested>(nested: N) -> Tensor<<N::Leaf as Literal>::Elem> {
    tensor_of(nested)
}
