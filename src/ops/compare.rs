//! Comparisons and logic.

use std::ops;

use ndnn_derive::concrete;

use super::broadcast;
use crate::{
    Error, Result,
    error::or_panic,
    kernels::elementwise::{map, zip},
    tensor::{DType, Element, Number, Operand, Tensor},
};

fn pairwise<A: Element, B: Element, C: Element>(
    op: &str,
    a: &Tensor<A>,
    b: &Tensor<B>,
    f: impl Fn(A, B) -> C + Sync,
) -> Result<Tensor<C>> {
    Ok(zip(a.data(), b.data(), broadcast(op, a, b)?, f).into())
}

/// A comparison: its name, whether the operands are swapped, and the test.
#[derive(Clone, Copy)]
struct Comparison(&'static str, bool, Test);

#[derive(Clone, Copy)]
enum Test {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
}

impl<T: Element> Tensor<T> {
    #[concrete(Element)]
    fn compared(&self, other: &Tensor<T>, comparison: Comparison) -> Result<Tensor<bool>> {
        let Comparison(name, swapped, test) = comparison;
        let shape = broadcast(name, self, other)?;
        let (a, b) = if swapped { (other, self) } else { (self, other) };
        let out = match test {
            Test::Equal => zip(a.data(), b.data(), shape, |a, b| a == b),
            Test::Unequal => zip(a.data(), b.data(), shape, |a, b| a != b),
            Test::Less => zip(a.data(), b.data(), shape, |a, b| a < b),
            Test::LessOrEqual => zip(a.data(), b.data(), shape, |a, b| a <= b),
        };
        Ok(out.into())
    }
}

/// One row per comparison.
macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident: $swapped:literal, $test:ident;)*) => {
        impl<T: Element> Tensor<T> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together.
            pub fn $name(&self, other: impl Operand<T>) -> Result<Tensor<bool>> {
                self.compared(&other.operand(), Comparison(stringify!($name), $swapped, Test::$test))
            }
        )*}
    };
}

comparisons! {
    /// Where `self == other`, elementwise, with a tensor or a scalar; the operator `==` compares whole tensors.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![1, 2, 3].eq(2)?, tensor![false, true, false]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    eq: false, Equal;
    /// Where `self != other`, elementwise, with a tensor or a scalar.
    ne: false, Unequal;
    /// Where `self < other`, with a tensor or a scalar.
    lt: false, Less;
    /// Where `self <= other`, with a tensor or a scalar.
    le: false, LessOrEqual;
    /// Where `self > other`, with a tensor or a scalar.
    gt: true, Less;
    /// Where `self >= other`, with a tensor or a scalar.
    ge: true, LessOrEqual;
}

/// One row per logical operation; an element is true if it is not zero, so NaN is true.
macro_rules! logic {
    ($($(#[$doc:meta])* $name:ident: $op:tt;)*) => {
        impl<T: Element> Tensor<T> {$(
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together.
            pub fn $name<U: Element>(&self, other: &Tensor<U>) -> Result<Tensor<bool>> {
                pairwise(stringify!($name), self, other, |a, b| (a != T::ZERO) $op (b != U::ZERO))
            }
        )*}
    };
}

logic! {
    /// Where both are nonzero.
    logical_and: &;
    /// Where one or both are nonzero.
    logical_or: |;
    /// Where exactly one is nonzero.
    logical_xor: ^;
}

/// `&`, `|`, `^` on masks, for every combination of values and references; they panic if shapes do not broadcast, as
/// `+` does.
macro_rules! mask_operators {
    ($($trait:ident :: $method:ident = $logical:ident;)*) => {$(
        mask_operators!(@ $trait::$method = $logical, &Tensor<bool>, &Tensor<bool>);
        mask_operators!(@ $trait::$method = $logical, &Tensor<bool>, Tensor<bool>);
        mask_operators!(@ $trait::$method = $logical, Tensor<bool>, &Tensor<bool>);
        mask_operators!(@ $trait::$method = $logical, Tensor<bool>, Tensor<bool>);
    )*};
    (@ $trait:ident :: $method:ident = $logical:ident, $left:ty, $right:ty) => {
        impl ops::$trait<$right> for $left {
            type Output = Tensor<bool>;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor<bool> {
                let other: &Tensor<bool> = std::borrow::Borrow::borrow(&other);
                or_panic(self.$logical(other))
            }
        }
    };
}

mask_operators! {
    BitAnd::bitand = logical_and;
    BitOr::bitor = logical_or;
    BitXor::bitxor = logical_xor;
}

impl ops::Not for &Tensor<bool> {
    type Output = Tensor<bool>;
    fn not(self) -> Tensor<bool> {
        self.logical_not()
    }
}

impl ops::Not for Tensor<bool> {
    type Output = Tensor<bool>;
    fn not(self) -> Tensor<bool> {
        self.logical_not()
    }
}

/// One row per test of each element, on its value as `f64`.
macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident: |$x:ident| $value:expr;)*) => {
        impl<T: Element> Tensor<T> {$(
            $(#[$doc])*
            #[concrete(Element)]
            pub fn $name(&self) -> Tensor<bool> {
                let answer = |x: T| {
                    let $x = x.as_f64();
                    $value
                };
                map(self.data(), answer).into()
            }
        )*}
    };
}

questions! {
    /// Where an element is zero (or `false`).
    logical_not: |x| x == 0.;
    /// Where an element is NaN.
    isnan: |x| x.is_nan();
    /// Where an element is infinite.
    isinf: |x| x.is_infinite();
    /// Where an element is neither infinite nor NaN.
    isfinite: |x| x.is_finite();
    /// Where an element is +∞.
    isposinf: |x| x == f64::INFINITY;
    /// Where an element is -∞.
    isneginf: |x| x == f64::NEG_INFINITY;
}

impl<T: Number> Tensor<T> {
    /// Where `|self - other| ≤ atol + rtol · |other|`, or both are equal, or, with `equal_nan`, both are NaN. PyTorch's
    /// defaults are `rtol` 1e-5, `atol` 1e-8 and `equal_nan` false.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or a tolerance is negative.
    pub fn isclose(&self, other: &Tensor<T>, rtol: f64, atol: f64, equal_nan: bool) -> Result<Tensor<bool>> {
        for (name, tolerance) in [("rtol", rtol), ("atol", atol)] {
            if tolerance < 0. || tolerance.is_nan() {
                return Err(Error::value("isclose", format!("{name} must be at least 0, got {tolerance}")));
            }
        }
        pairwise("isclose", self, other, |a, b| {
            let (x, y) = (a.as_f64(), b.as_f64());
            let distance = match T::DTYPE {
                // As f64 the integers themselves would be rounded.
                DType::I64 => a.as_i64().abs_diff(b.as_i64()) as f64,
                _ => (x - y).abs(),
            };
            // Different infinities are not close, although their distance is within an infinite tolerance.
            a == b
                || (equal_nan && x.is_nan() && y.is_nan())
                || (distance.is_finite() && distance <= atol + (rtol * y).abs())
        })
    }

    /// Whether all elements are close, as defined by [`isclose`](Tensor::isclose).
    ///
    /// # Errors
    /// As [`isclose`](Tensor::isclose).
    pub fn allclose(&self, other: &Tensor<T>, rtol: f64, atol: f64, equal_nan: bool) -> Result<bool> {
        Ok(self.isclose(other, rtol, atol, equal_nan)?.elements().iter().all(|&close| close))
    }
}
