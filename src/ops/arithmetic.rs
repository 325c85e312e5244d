//! `+ - * /` on tensors and with scalars, by value and by reference, with broadcasting.

use std::ops;

use crate::{
    Error, Result,
    kernels::elementwise::{broadcast_shape, map, zip},
    tensor::{Element, Number, Real, Tensor},
};

/// The shape that both broadcast to, or an error that shows both.
pub(crate) fn broadcast<A: Element, B: Element>(op: &str, a: &Tensor<A>, b: &Tensor<B>) -> Result<Vec<usize>> {
    broadcast_shape(a.shape(), b.shape()).ok_or_else(|| {
        Error::shape(op, format!("shapes {:?} and {:?} do not broadcast together", a.shape(), b.shape()))
    })
}

/// One binary operation: the fallible method, the operator on every mix of values and references and with a scalar on
/// the right. The derivatives are of the broadcast result; `sum_to` undoes the broadcasting.
macro_rules! binary {
    ($(#[$doc:meta])* $bound:ident, $try:ident, $trait:ident :: $method:ident, $name:literal, |$a:ident, $b:ident| $value:expr,
     |$g:ident, $x:ident, $y:ident| $dx:expr, $dy:expr) => {
        impl<T: $bound> Tensor<T> {
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together.
            pub fn $try(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
                let shape = broadcast($name, self, other)?;
                let out = zip(self.view(), other.view(), &shape, |$a, $b| $value);
                let ($x, $y) = (self.clone(), other.clone());
                Ok(Tensor::op($name, out, [self, other], move |$g, [left, right]| {
                    // Some derivatives read one operand, some both, some none.
                    let _ = (&$x, &$y);
                    let dx = if left { Some($dx.sum_to($x.shape())?) } else { None };
                    let dy = if right { Some($dy.sum_to($y.shape())?) } else { None };
                    Ok([dx, dy])
                }))
            }
        }

        impl<T: $bound> ops::$trait<&Tensor<T>> for &Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: &Tensor<T>) -> Tensor<T> {
                self.$try(other).unwrap_or_else(|error| panic!("{error}"))
            }
        }
        impl<T: $bound> ops::$trait<Tensor<T>> for &Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: Tensor<T>) -> Tensor<T> {
                ops::$trait::$method(self, &other)
            }
        }
        impl<T: $bound> ops::$trait<&Tensor<T>> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: &Tensor<T>) -> Tensor<T> {
                ops::$trait::$method(&self, other)
            }
        }
        impl<T: $bound> ops::$trait<Tensor<T>> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: Tensor<T>) -> Tensor<T> {
                ops::$trait::$method(&self, &other)
            }
        }
    };
}

binary! {
    /// `self + other`, broadcasting.
    Number, try_add, Add::add, "add", |a, b| a + b, |g, x, y| g.clone(), g.clone()
}
binary! {
    /// `self - other`, broadcasting.
    Number, try_sub, Sub::sub, "sub", |a, b| a - b, |g, x, y| g.clone(), -g
}
binary! {
    /// `self * other`, element by element, broadcasting.
    Number, try_mul, Mul::mul, "mul", |a, b| a * b, |g, x, y| (g * &y), (g * &x)
}
binary! {
    /// `self / other`, element by element, broadcasting. Integers divide with [`Tensor::div_floor`] or
    /// [`Tensor::div_trunc`]: PyTorch's `/` makes floats of them.
    Real, try_div, Div::div, "div", |a, b| a / b, |g, x, y| (g / &y), (-(g * &x) / (&y * &y))
}

/// Each operator with a scalar on the right, and on the left for `f32`, `f64` and `i64`.
macro_rules! scalar {
    ($($bound:ident, $trait:ident :: $method:ident, $name:literal, |$x:ident, $c:ident| $value:expr, |$g:ident| $grad:expr;)*) => {$(
        impl<T: $bound> ops::$trait<T> for &Tensor<T> {
            type Output = Tensor<T>;
            fn $method(self, $c: T) -> Tensor<T> {
                let out = map(self.view(), |$x| $value);
                Tensor::op($name, out, [self], move |$g, _| Ok([Some($grad)]))
            }
        }
        impl<T: $bound> ops::$trait<T> for Tensor<T> {
            type Output = Tensor<T>;
            fn $method(self, scalar: T) -> Tensor<T> {
                ops::$trait::$method(&self, scalar)
            }
        }
    )*};
}

scalar! {
    Number, Add::add, "add", |x, c| x + c, |g| g.clone();
    Number, Sub::sub, "sub", |x, c| x - c, |g| g.clone();
    Number, Mul::mul, "mul", |x, c| x * c, |g| g * c;
    Real, Div::div, "div", |x, c| x / c, |g| g / c;
}

/// A scalar on the left; only for each type by name, since Rust allows no foreign trait on every `T`.
macro_rules! scalar_left {
    ($($t:ty),*) => {$(
        impl ops::Add<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn add(self, x: &Tensor<$t>) -> Tensor<$t> {
                x + self
            }
        }
        impl ops::Sub<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn sub(self, x: &Tensor<$t>) -> Tensor<$t> {
                -x + self
            }
        }
        impl ops::Mul<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn mul(self, x: &Tensor<$t>) -> Tensor<$t> {
                x * self
            }
        }
        scalar_left!(by value $t: Add::add, Sub::sub, Mul::mul);
    )*};
    (by value $t:ty: $($trait:ident :: $method:ident),*) => {$(
        impl ops::$trait<Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn $method(self, x: Tensor<$t>) -> Tensor<$t> {
                ops::$trait::$method(self, &x)
            }
        }
    )*};
    (div $($t:ty),*) => {$(
        impl ops::Div<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            fn div(self, x: &Tensor<$t>) -> Tensor<$t> {
                x.reciprocal() * self
            }
        }
        scalar_left!(by value $t: Div::div);
    )*};
}
scalar_left!(f32, f64, i64);
scalar_left!(div f32, f64);

impl<T: Number> ops::Neg for &Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        Tensor::op("neg", map(self.view(), |x| -x), [self], |g, _| Ok([Some(-g)]))
    }
}

impl<T: Number> ops::Neg for Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        -&self
    }
}
