//! `+ - * /` on tensors and with scalars, by value and by reference, with broadcasting.

use std::{borrow::Cow, ops};

use ndarray::{Dimension, IxDyn};
use ndnn_derive::concrete;

use super::elementwise::{Two, constant, one, pairs, row, two, two_onto};
use crate::{
    Error, Result,
    error::or_panic,
    kernels::{
        elementwise::{broadcast_shape, zip3},
        layout::row_major,
        sizes::room,
    },
    tensor::{Array, DType, Element, Number, Operand, Real, Tensor, no_grad},
};

/// The shape that both broadcast to, or an error that shows both shapes, or that there is not enough memory.
#[inline(never)]
pub(crate) fn broadcast<A: Element, B: Element>(op: &str, a: &Tensor<A>, b: &Tensor<B>) -> Result<IxDyn> {
    let shape = match broadcast_shape(a.shape(), b.shape()) {
        Some(Cow::Borrowed(_)) if a.ndim() >= b.ndim() => a.raw_dim(),
        Some(Cow::Borrowed(_)) => b.raw_dim(),
        Some(Cow::Owned(shape)) => IxDyn(&shape),
        None => {
            let shapes = format!("shapes {:?} and {:?} do not broadcast together", a.shape(), b.shape());
            return Err(Error::shape(op, shapes));
        }
    };
    room::<A>(op, shape.slice())?;
    Ok(shape)
}

/// The shape that three operands with these names broadcast to.
pub(super) fn broadcast_three<T: Element>(op: &str, names: [&str; 3], operands: [&Tensor<T>; 3]) -> Result<IxDyn> {
    let shapes = [operands[0].shape(), operands[1].shape(), operands[2].shape()];
    let shape = shape_of_three(op, names, shapes)?;
    room::<T>(op, &shape)?;
    Ok(IxDyn(&shape))
}

fn shape_of_three(op: &str, names: [&str; 3], [a, b, c]: [&[usize]; 3]) -> Result<Vec<usize>> {
    broadcast_shape(a, b).and_then(|shape| broadcast_shape(&shape, c).map(Cow::into_owned)).ok_or_else(|| {
        let [x, y, z] = names;
        Error::shape(op, format!("the shapes do not broadcast together: {x} {a:?}, {y} {b:?}, {z} {c:?}"))
    })
}

/// The gradient of operand `k` of an operation of three, in the shape of the result.
type GradientOfThree<T> = fn(usize, &Tensor<T>, [&Tensor<T>; 3]) -> Result<Tensor<T>>;

/// An operation of three operands, which broadcast.
pub(super) fn of_three<T: Number>(
    op: &'static str,
    out: Array<T>,
    operands: [&Tensor<T>; 3],
    gradient: GradientOfThree<T>,
) -> Tensor<T> {
    let [a, b, c] = [operands[0].clone(), operands[1].clone(), operands[2].clone()];
    Tensor::op(op, out, operands, move |g, needed| {
        let (kept, mut gradients) = ([&a, &b, &c], [None, None, None]);
        for k in 0..3 {
            if needed[k] {
                gradients[k] = Some(gradient(k, g, kept)?.into_sum_to(kept[k].shape())?);
            }
        }
        Ok(gradients)
    })
}

pairs! {
    number Number Sum, "add", composed common reads [[false, false], [false, false]]: |x, y| x.plus(y), |g, x, y| g, g;
    number Number Difference, "sub", composed common reads [[false, false], [false, false]]:
        |x, y| x.minus(y), |g, x, y| g, -g;
    number Number Product, "mul", itself common reads [[false, true], [true, false]]:
        |x, y| x.times(y), |g, x, y| g * y, g * x;
    real Real Quotient, "div", fused common reads [[false, true], [true, true]]:
        |x, y| x / y, |g, x, y| g / y, -(g * (x / y / y));
}

/// `a + b` for tensors of one shape, without a graph, in the memory of `a` if nothing else refers to it.
pub(crate) fn added<T: Real>(a: Tensor<T>, b: &Tensor<T>) -> Tensor<T> {
    or_panic(no_grad(|| two_onto(Sum::row(), a.into_detached(), b)))
}

/// One row per operator: the fallible method, the operator for every combination of values and references, and with a
/// constant.
macro_rules! operators {
    ($($(#[$doc:meta])* $bound:ident, $row:ident, $try:ident, $trait:ident :: $method:ident;)*) => {$(
        impl<T: $bound> Tensor<T> {
            $(#[$doc])*
            ///
            /// # Errors
            /// If the shapes do not broadcast together.
            pub fn $try(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
                two($row::row(), self, other)
            }
        }
        operators!(@ $bound, $trait::$method, &Tensor<T>, &Tensor<T>, |a, b| or_panic(a.$try(b)));
        operators!(@ $bound, $trait::$method, &Tensor<T>, Tensor<T>, |a, b| or_panic(a.$try(&b)));
        operators!(@ $bound, $trait::$method, Tensor<T>, &Tensor<T>, |a, b| or_panic(two_onto($row::row(), a, b)));
        operators!(@ $bound, $trait::$method, Tensor<T>, Tensor<T>, |a, b| or_panic(two_onto($row::row(), a, &b)));
        operators!(@ $bound, $trait::$method, &Tensor<T>, T, |a, b| constant($row::row(), a, b));
        operators!(@ $bound, $trait::$method, Tensor<T>, T, |a, b| constant($row::row(), &a, b));
    )*};
    (@ $bound:ident, $trait:ident :: $method:ident, $left:ty, $right:ty, |$a:ident, $b:ident| $value:expr) => {
        impl<T: $bound> ops::$trait<$right> for $left {
            type Output = Tensor<T>;
            #[track_caller]
            fn $method(self, other: $right) -> Tensor<T> {
                let ($a, $b) = (self, other);
                $value
            }
        }
    };
}

operators! {
    /// `self + other`, broadcasting.
    Number, Sum, try_add, Add::add;
    /// `self - other`, broadcasting.
    Number, Difference, try_sub, Sub::sub;
    /// `self * other`, elementwise, broadcasting.
    Number, Product, try_mul, Mul::mul;
    /// `self / other`, elementwise, broadcasting. For integers use [`Tensor::div_floor`] or [`Tensor::div_trunc`]:
    /// PyTorch's `/` converts them to floats.
    Real, Quotient, try_div, Div::div;
}

/// A scalar on the left; only for each type by name, since Rust does not allow to implement a foreign trait for every
/// `T`.
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
            #[track_caller]
            fn sub(self, x: &Tensor<$t>) -> Tensor<$t> {
                or_panic(Tensor::scalar(self).try_sub(x))
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
            #[track_caller]
            fn $method(self, x: Tensor<$t>) -> Tensor<$t> {
                ops::$trait::$method(self, &x)
            }
        }
    )*};
    (div $($t:ty),*) => {$(
        impl ops::Div<&Tensor<$t>> for $t {
            type Output = Tensor<$t>;
            #[track_caller]
            fn div(self, x: &Tensor<$t>) -> Tensor<$t> {
                or_panic(Tensor::scalar(self).try_div(x))
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
        row!(number Number "neg", (), common, |x| x.negated(), from nothing |g, x| -g);
        one(row(), self)
    }
}

impl<T: Number> ops::Neg for Tensor<T> {
    type Output = Tensor<T>;
    fn neg(self) -> Tensor<T> {
        -&self
    }
}

// ------------------------------------------------------------------------------------------------------ whole quotients

/// The remainder of `a / b` truncated; has the sign of `a`.
fn rem<T: Number>(a: T, b: T) -> T {
    // i64::MIN % -1 would overflow.
    if T::DTYPE == DType::I64 && b == -T::ONE { T::ZERO } else { a % b }
}

/// The remainder of `a / b` rounded down; has the sign of `b`.
fn rem_floor<T: Number>(a: T, b: T) -> T {
    let rest = rem(a, b);
    if rest != T::ZERO && (b < T::ZERO) != (rest < T::ZERO) { rest + b } else { rest }
}

pub(super) fn quotient_trunc<T: Number>(a: T, b: T) -> T {
    match T::DTYPE {
        DType::I64 if b == -T::ONE => a.negated(),
        DType::I64 => a / b,
        _ => T::of((a / b).as_f64().trunc()),
    }
}

pub(super) fn quotient_floor<T: Number>(a: T, b: T) -> T {
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

pairs! {
    number Number QuotientFloor, "div_floor", composed libm reads [[false, false], [false, false]]:
        |x, y| quotient_floor(x, y), |g, x, y| g.zero(), g.zero();
    number Number QuotientTrunc, "div_trunc", composed libm reads [[false, false], [false, false]]:
        |x, y| quotient_trunc(x, y), |g, x, y| g.zero(), g.zero();
    // Flat in the divisor where the whole quotient is 0.
    number Number RemainderFloor, "remainder", composed libm reads [[false, false], [true, true]]:
        |x, y| rem_floor(x, y), |g, x, y| g, {
            let q = x.div_floor(y);
            -(g.kept(!q.equals(0.)) * q)
        };
    number Number RemainderTrunc, "fmod", composed libm reads [[false, false], [true, true]]:
        |x, y| rem(x, y), |g, x, y| g, {
            let q = x.div_trunc(y);
            -(g.kept(!q.equals(0.)) * q)
        };
}

/// A quotient or remainder; returns an error if an integer is divided by zero.
fn whole_division<T: Number>(op: &str, row: Two, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    match T::DTYPE == DType::I64 && row_major(&y.view()).contains(&T::ZERO) {
        true => Err(Error::value(op, "an integer is divided by zero; use floats, or fill the zeros first")),
        false => two(row, x, y),
    }
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
        whole_division("div_floor", QuotientFloor::row(), self, &other.operand())
    }

    /// `self / other` rounded towards zero, broadcasting, for floats and integers; the gradient is zero. PyTorch's `div`
    /// with `rounding_mode="trunc"`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn div_trunc(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        whole_division("div_trunc", QuotientTrunc::row(), self, &other.operand())
    }

    /// `self - other · ⌊self / other⌋`, broadcasting: the remainder, with the sign of `other`. Python's `%`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn remainder(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        whole_division("remainder", RemainderFloor::row(), self, &other.operand())
    }

    /// The remainder of the division rounded towards zero, broadcasting; has the sign of `self`. Rust's `%`.
    ///
    /// # Errors
    /// If the shapes do not broadcast together, or an integer is divided by zero.
    pub fn fmod(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        whole_division("fmod", RemainderTrunc::row(), self, &other.operand())
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

    /// `self + weight · (end - self)`, broadcasting: exactly `self` for weight 0 and `end` for weight 1.
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
    #[concrete(Real)]
    pub fn lerp(&self, end: &Tensor<T>, weight: impl Operand<T>) -> Result<Tensor<T>> {
        let near = |a: T, b: T, w: T| if w.abs() < T::of(0.5) { a + w * (b - a) } else { b - (b - a) * (T::ONE - w) };
        let weight = weight.operand();
        let shape = broadcast_three("lerp", ["input", "end", "weight"], [self, end, &weight])?;
        let out = zip3(self.data(), end.data(), weight.data(), shape, near);
        Ok(of_three("lerp", out, [self, end, &weight], |k, g, [a, b, w]| {
            g.try_mul(&match k {
                0 => -w + T::ONE,
                1 => w.clone(),
                _ => b - a,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Total, loss};

    /// A row without loops for its gradients, whose values are added.
    #[test]
    fn a_total_of_a_composed_row() {
        let (x, y) = (tensor(&[1., 2., 3.]), tensor(&[4., 5., 6.]));
        let mean = loss("dot", Product::row(), &x, &y, Total::Mean).unwrap();
        assert_eq!(mean.item().unwrap(), 32. / 3.);
        (mean * 3.).backward().unwrap();
        assert_eq!((x.grad().unwrap(), y.grad().unwrap()), (y.detach(), x.detach()));
    }

    fn tensor(values: &[f64]) -> Tensor<f64> {
        Tensor::from_vec([values.len()], values.to_vec()).unwrap().set_requires_grad(true)
    }

    #[test]
    fn gradients_are_added_at_any_strides_and_without_a_graph() {
        let (a, b) = (Tensor::<f64>::randn([3, 4]), Tensor::randn([3, 4]).set_requires_grad(true));
        let turned = |x: &Tensor<f64>| x.transpose(0, 1).unwrap().contiguous().transpose(0, 1).unwrap();
        for (x, y) in
            [(a.clone(), b.clone()), (turned(&a), b.clone()), (a.clone(), turned(&b)), (turned(&a), turned(&b))]
        {
            let (kept, whole) = (x.clone(), (&x + &y).detach());
            assert_eq!(added(x.clone(), &y), whole);
            assert!(!added(x, &y).requires_grad());
            assert_eq!((kept, added(turned(&a), &y)), (a.clone(), whole));
        }
        // In the memory of the first, if nothing else refers to it.
        let (x, one) = (Tensor::<f32>::zeros([5]), Tensor::ones([5]));
        let at = x.view().as_ptr();
        assert_eq!(added(x, &one).view().as_ptr(), at);
    }
}
