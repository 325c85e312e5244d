//! Elements as numbers: the element types and their arithmetic.

use std::fmt;

use num_traits::{Float, FloatConst, NumAssign};

/// The type of a tensor's elements, as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// `f32`
    F32,
    /// `f64`
    F64,
    /// `i64`
    I64,
    /// `bool`
    Bool,
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F64 => "f64",
            DType::I64 => "i64",
            DType::Bool => "bool",
        })
    }
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
    impl Sealed for i64 {}
    impl Sealed for bool {}
}

/// The forms of one function for each element type; those with a constant, which are not generic, are compiled in this
/// crate. Written by `#[concrete]`. `element_form`, `number_form` and `real_form` choose the form, so that a program
/// links only the forms that it calls.
macro_rules! forms {
    ($($forms:ident of $bound:ident: $($constant:ident $t:ty),*;)*) => {$(
        #[doc(hidden)]
        pub trait $forms {
            /// The function's type.
            type Of<T: $bound>;
            $(const $constant: Self::Of<$t>;)*
            fn of<T: $bound>() -> Self::Of<T>;
        }
    )*};
}
forms! {
    ElementForms of Element: F32 f32, I64 i64;
    NumberForms of Number: F32 f32;
    RealForms of Real: F32 f32;
}

/// A function with one body per type, written where it is needed: a `match` on the type, which costs nothing at run time.
/// So code that has something for each type need not be known here.
macro_rules! per_type {
    ($($per:ident of $bound:ident: $($t:ident),*;)*) => {$(
        #[doc(hidden)]
        pub trait $per {
            type In<T: $bound>;
            type Out<T: $bound>;
            $(fn $t(x: Self::In<$t>) -> Self::Out<$t>;)*
        }
    )*};
}
per_type! {
    PerNumber of Number: f32, f64, i64;
    PerReal of Real: f32, f64;
}

/// What a tensor may hold: `f32`, `f64`, `i64` (labels, indices) or `bool` (masks).
pub trait Element:
    sealed::Sealed + Copy + Default + PartialEq + PartialOrd + fmt::Debug + fmt::Display + Send + Sync + 'static
{
    /// This type as a value.
    const DTYPE: DType;
    /// 0, or `false`.
    const ZERO: Self;
    /// 1, or `true`.
    const ONE: Self;
    /// Whether it is `f32` or `f64`. A test of it leaves what is behind it out of the program, as one of `DTYPE` does not.
    #[doc(hidden)]
    const REAL: bool = matches!(Self::DTYPE, DType::F32 | DType::F64);

    /// The sum; for `bool`, "or". Accumulating scatters use this.
    #[doc(hidden)]
    fn plus(self, other: Self) -> Self;
    /// As `f64`; `bool` is 0 or 1.
    fn as_f64(self) -> f64;
    /// From `f64`, as `as` converts; for `bool`, whether it is not zero.
    fn of(value: f64) -> Self;
    /// As `i64`, as `as` converts.
    fn as_i64(self) -> i64;
    /// From `i64`, as `as` converts; for `bool`, whether it is not zero.
    #[doc(hidden)]
    fn of_i64(value: i64) -> Self;
    #[doc(hidden)]
    #[inline(always)]
    fn element_form<F: ElementForms>() -> F::Of<Self> {
        F::of::<Self>()
    }
}

/// An element with arithmetic: `f32`, `f64` or `i64`.
///
/// Integers wrap around on overflow, in every build, as in PyTorch. Code that adds or multiplies elements of any type
/// must use these functions and [`plus`](Element::plus), since `+` panics in a debug build.
pub trait Number: Element + NumAssign + num_traits::Signed {
    #[doc(hidden)]
    fn minus(self, other: Self) -> Self;
    #[doc(hidden)]
    fn times(self, other: Self) -> Self;
    #[doc(hidden)]
    fn negated(self) -> Self;
    #[doc(hidden)]
    fn magnitude(self) -> Self;
    #[doc(hidden)]
    fn per_number<F: PerNumber>(x: F::In<Self>) -> F::Out<Self>;
    #[doc(hidden)]
    #[inline(always)]
    fn number_form<F: NumberForms>() -> F::Of<Self> {
        F::of::<Self>()
    }
}

/// An element with gradients: `f32` or `f64`.
pub trait Real: Number + Float + FloatConst + ndarray::LinalgScalar + ndarray::ScalarOperand {
    #[doc(hidden)]
    fn per_real<F: PerReal>(x: F::In<Self>) -> F::Out<Self>;
    #[doc(hidden)]
    #[inline(always)]
    fn real_form<F: RealForms>() -> F::Of<Self> {
        F::of::<Self>()
    }
}

macro_rules! element {
    ($t:ty, $dtype:ident, $zero:expr, $one:expr, |$a:ident, $b:ident| $plus:expr, |$x:ident| $as_f64:expr, |$y:ident| $of:expr,
     |$i:ident| $as_i64:expr, |$j:ident| $of_i64:expr $(, $form:item)?) => {
        impl Element for $t {
            const DTYPE: DType = DType::$dtype;
            const ZERO: Self = $zero;
            const ONE: Self = $one;
            #[inline(always)]
            fn plus(self, $b: Self) -> Self {
                let $a = self;
                $plus
            }
            #[inline(always)]
            fn as_f64(self) -> f64 {
                let $x = self;
                $as_f64
            }
            #[inline(always)]
            fn of($y: f64) -> Self {
                $of
            }
            fn as_i64(self) -> i64 {
                let $i = self;
                $as_i64
            }
            fn of_i64($j: i64) -> Self {
                $of_i64
            }
            $($form)?
        }
    };
}

element!(
    f32,
    F32,
    0.,
    1.,
    |a, b| a + b,
    |x| x as f64,
    |y| y as f32,
    |i| i as i64,
    |j| j as f32,
    #[inline(always)]
    fn element_form<F: ElementForms>() -> F::Of<f32> {
        F::F32
    }
);
element!(f64, F64, 0., 1., |a, b| a + b, |x| x, |y| y, |i| i as i64, |j| j as f64);
element!(
    i64,
    I64,
    0,
    1,
    |a, b| a.wrapping_add(b),
    |x| x as f64,
    |y| y as i64,
    |i| i,
    |j| j,
    #[inline(always)]
    fn element_form<F: ElementForms>() -> F::Of<i64> {
        F::I64
    }
);
element!(bool, Bool, false, true, |a, b| a | b, |x| f64::from(x), |y| y != 0., |i| i64::from(i), |j| j != 0);

macro_rules! number {
    ($($t:ident: |$a:ident, $b:ident| $minus:expr, $times:expr, $negated:expr, $magnitude:expr $(, $form:item)?;)*) => {$(
        impl Number for $t {
            #[inline(always)]
            fn minus(self, $b: Self) -> Self {
                let $a = self;
                $minus
            }
            #[inline(always)]
            fn times(self, $b: Self) -> Self {
                let $a = self;
                $times
            }
            #[inline(always)]
            fn negated(self) -> Self {
                let $a = self;
                $negated
            }
            #[inline(always)]
            fn magnitude(self) -> Self {
                let $a = self;
                $magnitude
            }
            #[inline(always)]
            fn per_number<F: PerNumber>(x: F::In<$t>) -> F::Out<$t> {
                F::$t(x)
            }
            $($form)?
        }
    )*};
}
number! {
    f32: |a, b| a - b, a * b, -a, a.abs(),
        #[inline(always)]
        fn number_form<F: NumberForms>() -> F::Of<f32> {
            F::F32
        };
    f64: |a, b| a - b, a * b, -a, a.abs();
    i64: |a, b| a.wrapping_sub(b), a.wrapping_mul(b), a.wrapping_neg(), a.wrapping_abs();
}

impl Real for f32 {
    #[inline(always)]
    fn per_real<F: PerReal>(x: F::In<f32>) -> F::Out<f32> {
        F::f32(x)
    }
    #[inline(always)]
    fn real_form<F: RealForms>() -> F::Of<f32> {
        F::F32
    }
}
impl Real for f64 {
    #[inline(always)]
    fn per_real<F: PerReal>(x: F::In<f64>) -> F::Out<f64> {
        F::f64(x)
    }
}
