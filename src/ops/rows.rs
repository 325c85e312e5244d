//! How functions of one number and of two are written: [`row!`] and [`pairs!`]. [`elementwise`](super::elementwise) runs them.

/// A function of one number: defines `row`, which takes its parameters. `libm`, `short`, `long`, `common` or `common_long` is its
/// [`Work`](super::elementwise::Work); `many` names its [`MANY`](crate::kernels::elementwise::Map::MANY), if
/// [`VectorMath`](crate::kernels::vmath::VectorMath) has one. A `real` value is written in [`Lane`]s, that of any `number`
/// in the number itself. The derivative is `from input`, `output` or `nothing`, which says what is kept for the backward
/// pass; `in f64 from input` is a different form for `f64`. With one argument it is the slope, by which the gradient is
/// multiplied; with two it is the gradient itself, for cases in which a product is not enough. `row` is `#[inline]`: it only
/// puts parameters beside an address, in functions that callers compile.
macro_rules! row {
    ($class:ident $bound:ident $name:expr, ($($param:ident),*), $work:ident $(many $many:ident)?, |$x:ident| $value:expr,
     $($derivative:tt)*) => {
        struct Row;
        impl<T: $bound> $crate::kernels::elementwise::Map<$crate::ops::elementwise::Params, T, T> for Row {
            const SPEED: $crate::kernels::elementwise::Speed = $crate::ops::row!(@ $work).speed::<T>();
            $(const MANY: Option<$crate::kernels::elementwise::Many<T, T>> =
                <T as $crate::kernels::vmath::VectorMath>::$many;)?
            #[inline(always)]
            fn at<I: $crate::kernels::isa::Isa>(p: &$crate::ops::elementwise::Params, x: T) -> T {
                let [$($param,)* ..] = *p;
                $crate::ops::row!(@ value $class x |$x| $value)
            }
        }
        #[allow(unused_variables)]
        impl<T: $bound> $crate::ops::elementwise::Unary<T> for Row {
            const NAME: &'static str = $name;
            const READS: $crate::ops::elementwise::Reads = $crate::ops::row!(@ reads T $($derivative)*);
            #[inline(always)]
            fn gradient<E: $crate::ops::Formula>(p: &$crate::ops::elementwise::Params, g: E, kept: E) -> E
            where
                T: $crate::number::Real,
            {
                let [$($param,)* ..] = *p;
                $crate::ops::row!(@ gradient T g kept $($derivative)*)
            }
        }
        #[inline]
        fn row($($param: f64),*) -> $crate::ops::elementwise::One {
            static ROWS: $crate::ops::elementwise::UnaryRows = $crate::ops::elementwise::UnaryRows::$class::<Row>();
            $crate::ops::elementwise::One { rows: &ROWS, params: $crate::ops::elementwise::params([$($param),*]) }
        }
    };
    (@ libm) => { $crate::ops::elementwise::Work::LIBM };
    (@ short) => { $crate::ops::elementwise::Work::SHORT };
    (@ long) => { $crate::ops::elementwise::Work::LONG };
    (@ common) => { $crate::ops::elementwise::Work::COMMON };
    (@ common_long) => { $crate::ops::elementwise::Work::COMMON_LONG };
    (@ reads $t:ident from input |$($k:ident),+| $d:expr) => { $crate::ops::elementwise::Reads::Input };
    (@ reads $t:ident from output |$($k:ident),+| $d:expr) => { $crate::ops::elementwise::Reads::Output };
    (@ reads $t:ident from nothing |$($k:ident),+| $d:expr) => { $crate::ops::elementwise::Reads::Nothing };
    (@ reads $t:ident from output |$($k:ident),+| $d:expr, in f64 from input |$($w:ident),+| $wide:expr) => {
        match $t::DTYPE {
            $crate::tensor::DType::F64 => $crate::ops::elementwise::Reads::Input,
            _ => $crate::ops::elementwise::Reads::Output,
        }
    };
    (@ value real $v:ident |$x:ident| $value:expr) => {{
        #[allow(unused_imports)]
        use $crate::ops::{Conditions as _, Formula as _, Functions as _};
        let $x = $crate::ops::Lane::<I, T>::new($v);
        $value.0
    }};
    (@ value number $v:ident |$x:ident| $value:expr) => {{
        let $x = $v;
        $value
    }};
    (@ gradient $t:ident $g:ident $kept:ident from $from:ident |$k:ident| $slope:expr) => {{
        let $k = $kept;
        $g * $slope
    }};
    (@ gradient $t:ident $g:ident $kept:ident from $from:ident |$gradient:ident, $k:ident| $whole:expr) => {{
        let ($gradient, $k) = ($g, $kept);
        $whole
    }};
    (@ gradient $t:ident $g:ident $kept:ident from output |$($k:ident),+| $d:expr, in f64 from input |$($w:ident),+| $wide:expr) => {
        match $t::DTYPE {
            $crate::tensor::DType::F64 => $crate::ops::row!(@ gradient $t $g $kept from input |$($w),+| $wide),
            _ => $crate::ops::row!(@ gradient $t $g $kept from output |$($k),+| $d),
        }
    };
}
pub(crate) use row;

/// One function of two numbers per row, as a type whose `row` takes its parameters: its class (`real` or `number`), the
/// name of its operation, which gradients have loops of their own (`fused`, only the `first`, or none if they are the
/// function `itself` of the gradient and the other operand, or `composed` of other operations) and its work, as in
/// [`row!`]; its value on numbers, and the gradient of each operand, where that of the second is the negated first if it is
/// left out; `reads` says which operands they read, if not all.
macro_rules! pairs {
    ($($(#[$doc:meta])* $class:ident $bound:ident $row:ident $(($($param:ident),+))?, $name:literal, $fused:ident $work:ident
     $(reads $reads:tt)?: |$x:ident, $y:ident| $value:expr, |$g:ident, $a:ident, $b:ident| $dx:expr $(, $dy:expr)?;)*) => {$(
        $(#[$doc])*
        pub(crate) struct $row;
        impl $row {
            #[inline]
            pub(crate) fn row($($($param: f64),+)?) -> $crate::ops::Two {
                static ROWS: $crate::ops::elementwise::BinaryRows = $crate::ops::elementwise::BinaryRows::$class::<$row>();
                $crate::ops::Two { rows: &ROWS, params: $crate::ops::elementwise::params([$($($param),+)?]) }
            }
        }
        impl<T: $bound> $crate::kernels::elementwise::Map<$crate::ops::elementwise::Params, (T, T), T> for $row {
            const SPEED: $crate::kernels::elementwise::Speed = $crate::ops::row!(@ $work).speed::<T>();
            #[inline(always)]
            fn at<I: $crate::kernels::isa::Isa>(p: &$crate::ops::elementwise::Params, ($x, $y): (T, T)) -> T {
                let [$($($param,)+)? ..] = *p;
                $value
            }
        }
        #[allow(unused_variables)]
        impl<T: $bound> $crate::ops::elementwise::Binary<T> for $row {
            const NAME: &'static str = $name;
            $(const READS: [[bool; 2]; 2] = $reads;)?
            const GRADIENTS: [$crate::ops::elementwise::Own<()>; 2] = {
                use $crate::ops::elementwise::Own::*;
                $crate::ops::pairs!(@ $fused)
            };
            #[inline(always)]
            fn gradient<E: $crate::ops::Formula>(p: &$crate::ops::elementwise::Params, $g: E, $a: E, $b: E) -> E
            where
                T: $crate::number::Real,
            {
                let [$($($param,)+)? ..] = *p;
                $dx
            }
            $crate::ops::pairs! { @ second [$($($param)+)?] |$g, $a, $b| $($dy)? }
        }
    )*};
    (@ second [$($param:ident)*] |$g:ident, $a:ident, $b:ident|) => {};
    (@ second [$($param:ident)*] |$g:ident, $a:ident, $b:ident| $dy:expr) => {
        #[inline(always)]
        fn second_gradient<E: $crate::ops::Formula>(p: &$crate::ops::elementwise::Params, $g: E, $a: E, $b: E) -> E
        where
            T: $crate::number::Real,
        {
            let [$($param,)* ..] = *p;
            $dy
        }
    };
    (@ fused) => { [Fused(()), Fused(())] };
    (@ first) => { [Fused(()), Composed] };
    (@ itself) => { [Itself, Itself] };
    (@ composed) => { [Composed, Composed] };
}
pub(crate) use pairs;
