//! `+ - * /` with a parameter on either side: each reads it through [`Param::tensor`], so that the parameter gets a
//! gradient.

use std::ops;

use super::Param;
use crate::{
    Operand,
    tensor::{Real, Tensor},
};

/// One row per pair of operand types, with the conversion of each into an operand for tensors.
macro_rules! operators {
    ($([$($generics:tt)*] $left:ty, $right:ty => $t:ty, |$a:ident, $b:ident| $x:expr, $y:expr;)*) => {$(
        operators!(@ Add::add [$($generics)*] $left, $right => $t, |$a, $b| $x, $y);
        operators!(@ Sub::sub [$($generics)*] $left, $right => $t, |$a, $b| $x, $y);
        operators!(@ Mul::mul [$($generics)*] $left, $right => $t, |$a, $b| $x, $y);
        operators!(@ Div::div [$($generics)*] $left, $right => $t, |$a, $b| $x, $y);
    )*};
    (@ $trait:ident::$method:ident [$($generics:tt)*] $left:ty, $right:ty => $t:ty, |$a:ident, $b:ident| $x:expr, $y:expr) => {
        impl<$($generics)*> ops::$trait<$right> for $left {
            type Output = Tensor<$t>;
            #[track_caller]
            #[inline]
            fn $method(self, $b: $right) -> Tensor<$t> {
                let $a = self;
                ops::$trait::$method($x, $y)
            }
        }
    };
}

operators! {
    [T: Real] &Param<T>, &Tensor<T> => T, |a, b| &a.tensor(), b;
    [T: Real] &Param<T>, Tensor<T> => T, |a, b| &a.tensor(), b;
    [T: Real] &Param<T>, &Param<T> => T, |a, b| &a.tensor(), &b.tensor();
    [T: Real] &Param<T>, T => T, |a, b| &a.tensor(), b;
    [T: Real] &Tensor<T>, &Param<T> => T, |a, b| a, &b.tensor();
    [T: Real] Tensor<T>, &Param<T> => T, |a, b| a, &b.tensor();
    [] f32, &Param<f32> => f32, |a, b| a, &b.tensor();
    [] f64, &Param<f64> => f64, |a, b| a, &b.tensor();
}

impl<T: Real> ops::Neg for &Param<T> {
    type Output = Tensor<T>;
    #[track_caller]
    fn neg(self) -> Tensor<T> {
        -&self.tensor()
    }
}

impl<T: Real> Operand<T> for &Param<T> {
    #[track_caller]
    fn operand(self) -> Tensor<T> {
        self.tensor()
    }
}
