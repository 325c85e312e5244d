//! `+ - * /` on tensors and with scalars, by value and by reference, with broadcasting.

use std::ops;

use ndarray::Dimension;
use ndnn_derive::concrete;

use super::select::keep_where;
use crate::{
    Error, Result,
    error::or_panic,
    kernels::{
        elementwise::{broadcast_shape, map, zip, zip_in_place, zip3},
        layout::row_major,
        sizes::room,
    },
    tensor::{DType, Element, Number, Operand, Real, Tensor, grad_enabled},
};

/// The shape that both broadcast to, or an error that shows both, or says that there is no memory for it.
pub(crate) fn broadcast<A: Element, B: Element>(op: &str, a: &Tensor<A>, b: &Tensor<B>) -> Result<Vec<usize>> {
    let shape = broadcast_shape(a.shape(), b.shape()).ok_or_else(|| {
        Error::shape(op, format!("shapes {:?} and {:?} do not broadcast together", a.shape(), b.shape()))
    })?;
    room::<A>(op, &shape)?;
    Ok(shape)
}

/// A binary operation with broadcasting: its value on numbers, and the derivatives of the broadcast result, `(g, x, y)`
/// to the gradient of each operand before `sum_to` undoes the broadcasting.
///
/// `keep` says which operands' values the derivatives read; the others are not kept alive, and are empty in the closures.
pub(crate) fn binary<T, DX, DY>(
    name: &'static str,
    [x, y]: [&Tensor<T>; 2],
    value: impl Fn(T, T) -> T + Sync,
    keep: [bool; 2],
    dx: DX,
    dy: DY,
) -> Result<Tensor<T>>
where
    T: Number,
    DX: Fn(&Tensor<T>, &Tensor<T>, &Tensor<T>) -> Result<Tensor<T>> + Send + Sync + 'static,
    DY: Fn(&Tensor<T>, &Tensor<T>, &Tensor<T>) -> Result<Tensor<T>> + Send + Sync + 'static,
{
    let shape = broadcast(name, x, y)?;
    let out = zip(x.view(), y.view(), &shape, value);
    if !grad_enabled() || !(x.requires_grad() || y.requires_grad()) {
        return Ok(out.into());
    }
    let kept = |tensor: &Tensor<T>, keep| if keep { tensor.clone() } else { Tensor::zeros([0]) };
    let (kept_x, kept_y) = (kept(x, keep[0]), kept(y, keep[1]));
    let (from_x, from_y) = (x.data().raw_dim(), y.data().raw_dim());
    Ok(Tensor::op(name, out, [x, y], move |g, [left, right]| {
        let dx = if left { Some(dx(g, &kept_x, &kept_y)?.sum_to(from_x.slice())?) } else { None };
        let dy = if right { Some(dy(g, &kept_x, &kept_y)?.sum_to(from_y.slice())?) } else { None };
        Ok([dx, dy])
    }))
}

/// `f` of each pair of elements in the memory of `x`, if nothing else holds it and nothing is recorded; else `x` back.
fn reuse<T: Number>(
    x: Tensor<T>,
    y: &Tensor<T>,
    f: impl Fn(T, T) -> T + Sync,
) -> std::result::Result<Tensor<T>, Tensor<T>> {
    let recorded = grad_enabled() && (x.requires_grad() || y.requires_grad());
    let Some(other) = y.data().as_slice().filter(|_| !recorded && x.shape() == y.shape()) else { return Err(x) };
    if !x.data().is_standard_layout() {
        return Err(x);
    }
    let Tensor { data, node } = x;
    match data.into_inner().try_into_owned_nocopy() {
        Ok(mut owned) => {
            zip_in_place(owned.as_slice_mut().expect("row-major order"), other, f);
            Ok(owned.into())
        }
        Err(shared) => Err(Tensor { data: shared.into(), node }),
    }
}

/// A row an operator: the fallible method, and the operator on every mix of values and references. `keep` as in
/// [`binary`], knowing which operands are tracked.
macro_rules! operators {
    ($($(#[$doc:meta])* $bound:ident, $try:ident, $trait:ident :: $method:ident, |$a:ident, $b:ident| $value:expr,
     keep |$tx:ident, $ty:ident| $keep:expr, |$g:ident, $x:ident, $y:ident| $dx:expr, $dy:expr;)*) => {$(
        impl<T: $bound> Tensor<T> {
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together.
            #[allow(unused_variables)]
            #[concrete($bound)]
            pub fn $try(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
                let ($tx, $ty) = (self.requires_grad(), other.requires_grad());
                let value = |$a: T, $b: T| $value;
                binary(stringify!($method), [self, other], value, $keep, |$g, $x, $y| Ok($dx), |$g, $x, $y| Ok($dy))
            }
        }
        operators!(@ $bound, $try, $trait::$method, &Tensor<T>, &Tensor<T>, |a, b| a, b);
        operators!(@ $bound, $try, $trait::$method, &Tensor<T>, Tensor<T>, |a, b| a, &b);
        operators!(@ reuse $bound, $try, $trait::$method, &Tensor<T>, |$a, $b| $value, |b| b);
        operators!(@ reuse $bound, $try, $trait::$method, Tensor<T>, |$a, $b| $value, |b| &b);
    )*};
    (@ reuse $bound:ident, $try:ident, $trait:ident :: $method:ident, $right:ty, |$a:ident, $b:ident| $value:expr,
     |$o:ident| $other:expr) => {
        impl<T: $bound> ops::$trait<$right> for Tensor<T> {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, $o: $right) -> Tensor<T> {
                #[concrete]
                fn reusing<T: $bound>(x: Tensor<T>, other: &Tensor<T>) -> Result<Tensor<T>> {
                    reuse(x, other, |$a: T, $b: T| $value).or_else(|x| x.$try(other))
                }
                or_panic(reusing(self, $other))
            }
        }
    };
    (@ $bound:ident, $try:ident, $trait:ident :: $method:ident, $left:ty, $right:ty, |$a:ident, $b:ident| $x:expr, $y:expr) => {
        impl<T: $bound> ops::$trait<$right> for $left {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor<T> {
                let ($a, $b) = (self, other);
                or_panic($x.$try($y))
            }
        }
    };
}

operators! {
    /// `self + other`, broadcasting.
    Number, try_add, Add::add, |a, b| a.plus(b), keep |_x, _y| [false, false], |g, _x, _y| g.clone(), g.clone();
    /// `self - other`, broadcasting.
    Number, try_sub, Sub::sub, |a, b| a.minus(b), keep |_x, _y| [false, false], |g, _x, _y| g.clone(), -g;
    /// `self * other`, element by element, broadcasting.
    Number, try_mul, Mul::mul, |a, b| a.times(b), keep |x, y| [y, x], |g, x, y| g * y, g * x;
    /// `self / other`, element by element, broadcasting. Integers divide with [`Tensor::div_floor`] or
    /// [`Tensor::div_trunc`]: PyTorch's `/` makes floats of them.
    Real, try_div, Div::div, |a, b| a / b, keep |_x, y| [y, true], |g, x, y| g / y, -(g * (x / y / y));
}

/// Each operator with a scalar on the right, and on the left for `f32`, `f64` and `i64`.
macro_rules! scalar {
    ($($bound:ident, $trait:ident :: $method:ident, $name:literal, |$x:ident, $c:ident| $value:expr, |$g:ident| $grad:expr;)*) => {$(
        impl<T: $bound> ops::$trait<T> for &Tensor<T> {
            type Output = Tensor<T>;
            fn $method(self, scalar: T) -> Tensor<T> {
                #[concrete]
                fn with_scalar<T: $bound>(x: &Tensor<T>, $c: T) -> Tensor<T> {
                    let out = map(x.view(), |$x| $value);
                    Tensor::op($name, out, [x], move |$g, _| Ok([Some($grad)]))
                }
                with_scalar(self, scalar)
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
    Number, Add::add, "add", |x, c| x.plus(c), |g| g.clone();
    Number, Sub::sub, "sub", |x, c| x.minus(c), |g| g.clone();
    Number, Mul::mul, "mul", |x, c| x.times(c), |g| g * c;
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
                Tensor::scalar(self).try_div(x).expect("a scalar broadcasts")
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
        #[concrete]
        fn negated<T: Number>(x: &Tensor<T>) -> Tensor<T> {
            Tensor::op("neg", map(x.view(), T::negated), [x], |g, _| Ok([Some(-g)]))
        }
        negated(self)
    }
}

impl<T: Number> ops::Neg for Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        -&self
    }
}

// ------------------------------------------------------------------------------------------------------ whole quotients

fn refuse_zero<T: Number>(op: &str, divisor: &Tensor<T>) -> Result<()> {
    match T::DTYPE == DType::I64 && row_major(&divisor.view()).contains(&T::ZERO) {
        true => Err(Error::value(op, "an integer is divided by zero; use floats, or fill the zeros first")),
        false => Ok(()),
    }
}

/// What is left of `a / b` truncated; has the sign of `a`.
fn rem<T: Number>(a: T, b: T) -> T {
    // i64::MIN % -1 would overflow.
    if T::DTYPE == DType::I64 && b == -T::ONE { T::ZERO } else { a % b }
}

/// What is left of `a / b` rounded down; has the sign of `b`.
fn rem_floor<T: Number>(a: T, b: T) -> T {
    let rest = rem(a, b);
    if rest != T::ZERO && (b < T::ZERO) != (rest < T::ZERO) { rest + b } else { rest }
}

fn quotient_trunc<T: Number>(a: T, b: T) -> T {
    match T::DTYPE {
        DType::I64 if b == -T::ONE => a.negated(),
        DType::I64 => a / b,
        _ => T::of((a / b).as_f64().trunc()),
    }
}

fn quotient_floor<T: Number>(a: T, b: T) -> T {
    if T::DTYPE == DType::I64 {
        let down = rem(a, b) != T::ZERO && (a < T::ZERO) != (b < T::ZERO);
        return quotient_trunc(a, b) - if down { T::ONE } else { T::ZERO };
    }
    if b == T::ZERO {
        return a / b;
    }
    // From the remainder, as Python does: a / b may round up to a whole number that it does not reach.
    let rest = a % b;
    let down = rest != T::ZERO && (b < T::ZERO) != (rest < T::ZERO);
    let quotient = ((a - rest) / b - if down { T::ONE } else { T::ZERO }).as_f64();
    if quotient == 0. { T::of(0f64.copysign((a / b).as_f64())) } else { T::of(quotient.round_ties_even()) }
}

/// `-g q`, the gradient of the divisor of a remainder, which is flat where the whole quotient `q` is 0.
fn times_quotient<T: Number>(g: &Tensor<T>, q: Tensor<T>) -> Result<Tensor<T>> {
    Ok(-(keep_where(g, &q, |q| q != T::ZERO) * q))
}

impl<T: Number> Tensor<T> {
    /// `⌊self / other⌋`, broadcasting, for floats and integers; the gradient is zero. PyTorch's `floor_divide`, and
    /// `div` with `rounding_mode="floor"`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![7, -7].div_floor(2)?, tensor![3, -4]);
    /// assert_eq!(tensor![7, -7].div_trunc(2)?, tensor![3, -3]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn div_floor(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        let other = other.operand();
        refuse_zero("div_floor", &other)?;
        let zero = |g: &Tensor<T>, _: &Tensor<T>, _: &Tensor<T>| Ok(g.zeros_like());
        binary("div_floor", [self, &other], quotient_floor, [false, false], zero, zero)
    }

    /// `self / other` rounded towards zero, broadcasting, for floats and integers; the gradient is zero. PyTorch's `div`
    /// with `rounding_mode="trunc"`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn div_trunc(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        let other = other.operand();
        refuse_zero("div_trunc", &other)?;
        let zero = |g: &Tensor<T>, _: &Tensor<T>, _: &Tensor<T>| Ok(g.zeros_like());
        binary("div_trunc", [self, &other], quotient_trunc, [false, false], zero, zero)
    }

    /// `self - other · ⌊self / other⌋`, broadcasting: what is left of the division, with the sign of `other`. Python's `%`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn remainder(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        let other = other.operand();
        refuse_zero("remainder", &other)?;
        binary(
            "remainder",
            [self, &other],
            rem_floor,
            [true, true],
            |g, _, _| Ok(g.clone()),
            |g, x, y| times_quotient(g, x.div_floor(y)?),
        )
    }

    /// What is left of the division rounded towards zero, broadcasting; has the sign of `self`. Rust's `%`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn fmod(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        let other = other.operand();
        refuse_zero("fmod", &other)?;
        binary(
            "fmod",
            [self, &other],
            rem,
            [true, true],
            |g, _, _| Ok(g.clone()),
            |g, x, y| times_quotient(g, x.div_trunc(y)?),
        )
    }

    /// `self + value · a · b`, broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn addcmul(&self, a: &Tensor<T>, b: &Tensor<T>, value: T) -> Result<Tensor<T>> {
        self.try_add(&(a.try_mul(b)? * value))
    }
}

impl<T: Real> Tensor<T> {
    /// `self + value · a / b`, broadcasting.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn addcdiv(&self, a: &Tensor<T>, b: &Tensor<T>, value: T) -> Result<Tensor<T>> {
        self.try_add(&(a.try_div(b)? * value))
    }

    /// `self + weight · (end - self)`, broadcasting: exactly `self` at weight 0 and `end` at weight 1.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (a, b) = (tensor![0.0, 10.0], tensor![1.0, 20.0]);
    /// assert_eq!(a.lerp(&b, 0.5)?, tensor![0.5, 15.0]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn lerp(&self, end: &Tensor<T>, weight: impl Operand<T>) -> Result<Tensor<T>> {
        let weight = weight.operand();
        let shape = broadcast("lerp", self, end)?;
        let shape = broadcast_shape(&shape, weight.shape()).ok_or_else(|| {
            Error::shape("lerp", format!("weight {:?} does not broadcast with {shape:?}", weight.shape()))
        })?;
        room::<T>("lerp", &shape)?;
        let out = zip3(self.view(), end.view(), weight.view(), &shape, |a, b, w| {
            if w.abs() < T::of(0.5) { a + w * (b - a) } else { b - (b - a) * (T::ONE - w) }
        });
        let (a, b, w) = (self.clone(), end.clone(), weight.clone());
        Ok(Tensor::op("lerp", out, [self, end, &weight], move |g, [da, db, dw]| {
            Ok([
                if da { Some((g * (-&w + T::ONE)).sum_to(a.shape())?) } else { None },
                if db { Some((g * &w).sum_to(b.shape())?) } else { None },
                if dw { Some((g * (&b - &a)).sum_to(w.shape())?) } else { None },
            ])
        }))
    }
}
