//! How functions of one number and of two are written: [`row!`] and [`pairs!`]. [`elementwise`](super::elementwise) runs them.

/// A function of one number, as a struct `Row` whose fields are its parameters. `vectors` or `plain` is
/// [`Map::VECTORS`]; `many` names the function of many elements, if [`VectorMath`](crate::kernels::vmath::VectorMath)
/// has one. A `real` value is written in [`Lane`]s, that of any `number` in the number itself. The derivative is `from
/// input`, `output` or `nothing`, which says what is kept for the backward pass; `in f64 from input` is a different
/// form for `f64`. With one argument it is the slope, by which the gradient is multiplied; with two it is the gradient
/// itself, for cases in which a product is not enough.
macro_rules! row {
    ($class:ident $bound:ident $name:expr, ($($param:ident),*), $speed:ident $(many $each:ident)?, |$x:ident| $value:expr,
     $($derivative:tt)*) => {
        #[derive(Clone, Copy)]
        struct Row {
            $($param: f64),*
        }
        #[allow(unused_variables)]
        impl<T: $bound> $crate::ops::elementwise::Unary<T> for Row {
            const NAME: &'static str = $name;
            const READS: $crate::ops::elementwise::Reads = $crate::ops::row!(@ reads T $($derivative)*);
            const VECTORS: bool = $crate::ops::row!(@ $speed);
            #[inline(always)]
            fn value<I: $crate::kernels::isa::Isa>(self, x: T) -> T {
                let Row { $($param),* } = self;
                $crate::ops::row!(@ value $class x |$x| $value)
            }
            $(
                #[inline(always)]
                fn many<I: $crate::kernels::isa::Isa>(self, x: &[T], out: &mut [std::mem::MaybeUninit<T>]) {
                    T::$each::<I>(x, out)
                }
            )?
            #[inline(always)]
            fn gradient<E: $crate::ops::Formula<T>>(self, g: E, kept: E) -> E
            where
                T: $crate::number::Real,
            {
                let Row { $($param),* } = self;
                $crate::ops::row!(@ gradient T g kept $($derivative)*)
            }
        }
        $crate::ops::compiled!(unary $class Row);
    };
    (@ vectors) => { true };
    (@ plain) => { false };
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
        use $crate::ops::{Formula as _, Functions as _};
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

/// One function of two numbers per row, as a struct with its parameters: its class (`real` or `number`), the name of its
/// operation, whether its gradients have loops of their own (`fused`, or `composed` of other operations) and versions for
/// each instruction set (`vectors`, or `plain`); its value on numbers, and the gradient of each operand, where that of the
/// second is the negated first if it is left out; `reads` says which operands they read, if not all.
macro_rules! pairs {
    ($($(#[$doc:meta])* $class:ident $bound:ident $row:ident $(($($param:ident),+))?, $name:literal, $fused:ident $speed:ident
     $(reads $reads:tt)?: |$x:ident, $y:ident| $value:expr, |$g:ident, $a:ident, $b:ident| $dx:expr $(, $dy:expr)?;)*) => {$(
        $crate::ops::pairs! { @ struct $(#[$doc])* $row $($($param)+)? }
        #[allow(unused_variables)]
        impl<T: $bound> $crate::ops::elementwise::Binary<T> for $row {
            const NAME: &'static str = $name;
            $(const READS: [[bool; 2]; 2] = $reads;)?
            const FUSED: bool = $crate::ops::pairs!(@ $fused);
            const VECTORS: bool = $crate::ops::pairs!(@ $speed);
            #[inline(always)]
            fn value<I: $crate::kernels::isa::Isa>(self, $x: T, $y: T) -> T {
                let $row { $($($param),+)? } = self;
                $value
            }
            #[inline(always)]
            fn gradient<E: $crate::ops::Formula<T>>(self, $g: E, $a: E, $b: E) -> E
            where
                T: $crate::number::Real,
            {
                let $row { $($($param),+)? } = self;
                $dx
            }
            $crate::ops::pairs! { @ second [$row $($($param)+)?] |$g, $a, $b| $($dy)? }
        }
        $crate::ops::compiled!(binary $class $row);
    )*};
    (@ struct $(#[$doc:meta])* $row:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $row;
    };
    (@ struct $(#[$doc:meta])* $row:ident $($param:ident)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy)]
        pub(crate) struct $row { $(pub $param: f64),+ }
    };
    (@ second [$row:ident $($param:ident)*] |$g:ident, $a:ident, $b:ident|) => {};
    (@ second [$row:ident $($param:ident)*] |$g:ident, $a:ident, $b:ident| $dy:expr) => {
        #[inline(always)]
        fn second_gradient<E: $crate::ops::Formula<T>>(self, $g: E, $a: E, $b: E) -> E
        where
            T: $crate::number::Real,
        {
            let $row { $($param),* } = self;
            $dy
        }
    };
    (@ fused) => { true };
    (@ composed) => { false };
    (@ vectors) => { true };
    (@ plain) => { false };
}
pub(crate) use pairs;
