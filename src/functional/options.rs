//! What functions and layers share in their options: sizes along N axes, and structs with chained setters.

use std::fmt;

/// A size along each of N axes, given as one number for all or as an array; printing remembers which.
///
/// ```
/// use ndnn::functional::Dims;
/// assert_eq!(Dims::<2>::from(3).get(), [3, 3]);
/// assert_eq!((Dims::<2>::from(3).to_string(), Dims::<2>::from([3, 5]).to_string()), ("3".into(), "(3, 5)".into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims<const N: usize> {
    sizes: [usize; N],
    one: bool,
}

impl<const N: usize> Dims<N> {
    /// The size along each axis.
    pub fn get(self) -> [usize; N] {
        self.sizes
    }

    /// Always as a tuple, as PyTorch prints a convolution's sizes: `(3, 3)`.
    pub fn tuple(self) -> String {
        crate::python::py_tuple(&self.sizes)
    }

    /// Whether every size is at least 1.
    pub fn is_positive(self) -> bool {
        self.sizes.iter().all(|&s| s > 0)
    }
}

impl<const N: usize> From<usize> for Dims<N> {
    fn from(one: usize) -> Self {
        Dims { sizes: [one; N], one: true }
    }
}

impl<const N: usize> From<[usize; N]> for Dims<N> {
    fn from(sizes: [usize; N]) -> Self {
        Dims { sizes, one: false }
    }
}

/// As PyTorch prints what it was given: `3`, `(3, 5)`.
impl<const N: usize> fmt::Display for Dims<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.one {
            true => write!(f, "{}", self.sizes[0]),
            false => f.write_str(&self.tuple()),
        }
    }
}

/// A number that prints as it was written: `2` or `2.0`.
///
/// ```
/// use ndnn::functional::Scalar;
/// assert_eq!((Scalar::from(2).to_string(), Scalar::from(2.0).to_string()), ("2".into(), "2.0".into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scalar {
    value: f64,
    whole: bool,
}

impl Scalar {
    /// A number that prints as a float.
    pub const fn float(value: f64) -> Self {
        Scalar { value, whole: false }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.value
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Scalar::float(value)
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Scalar { value: value.into(), whole: true }
    }
}

/// As Python prints it.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole {
            true => write!(f, "{}", self.value),
            false => f.write_str(&crate::python::py_float(self.value)),
        }
    }
}

/// A struct of options with a default and a chained setter each, and a macro that gives a layer the same setters.
///
/// ```text
/// options! {
///     /// What `conv` takes besides its tensors.
///     pub struct ConvOptions[const N: usize][N], setters conv_setters {
///         /// The step from one window to the next; 1 by default.
///         stride: into Dims<N> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
///         /// Groups of channels that do not see each other; 1 by default.
///         groups: of usize = 1;
///     }
/// }
/// impl<T: Real, const N: usize> Conv<N, T> { conv_setters!(); }   // the struct has a field `options: ConvOptions<N>`
/// ```
///
/// A value that can never be right panics where it is set, with the message behind `if`.
macro_rules! options {
    (
        $(#[$doc:meta])*
        pub struct $name:ident $([$($generics:tt)*][$($args:tt)*])?, setters $setters:ident {$(
            $(#[$field_doc:meta])*
            $field:ident: $kind:tt $ty:ty = $default:expr
            $(, if |$value:ident| $valid:expr, $message:literal)?;
        )*}
    ) => {
        $(#[$doc])*
        #[must_use = "a setter returns the options changed"]
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub struct $name $(<$($generics)*>)? {$(
            $(#[$field_doc])*
            pub $field: $ty,
        )*}

        impl $(<$($generics)*>)? Default for $name $(<$($args)*>)? {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $(<$($generics)*>)? $name $(<$($args)*>)? {$(
            $(#[$field_doc])*
            #[track_caller]
            pub fn $field(mut self, $field: $crate::functional::argument!($kind $ty)) -> Self {
                self.$field = $crate::functional::converted!($kind $field);
                $({
                    let $value = self.$field;
                    assert!($valid, $message);
                })?
                self
            }
        )*}

        /// The same setters for a layer with a field `options`.
        #[allow(unused_macros)]
        macro_rules! $setters {
            () => {$(
                $(#[$field_doc])*
                #[track_caller]
                pub fn $field(mut self, $field: $crate::functional::argument!($kind $ty)) -> Self {
                    self.options = self.options.$field($field);
                    self
                }
            )*};
        }
        #[allow(unused_imports)]
        pub(crate) use $setters;
    };
}

/// How a setter takes its value: `into` what converts, `word` what converts or is one of its words, `of` the type itself.
macro_rules! argument {
    (into $ty:ty) => { impl Into<$ty> };
    (word $ty:ty) => { impl TryInto<$ty, Error: std::fmt::Display> };
    (of $ty:ty) => { $ty };
}

/// A setter's argument as the type that it takes; a word that is none panics at the place of the setter's caller.
macro_rules! converted {
    (word $value:ident) => {
        match $value.try_into() {
            Ok(value) => value,
            Err(why) => panic!("{why}"),
        }
    };
    ($kind:tt $value:ident) => {
        $value.into()
    };
}

pub(crate) use {argument, converted, options};

#[cfg(test)]
mod tests {
    use super::*;

    options! {
        /// Options.
        pub struct WindowOptions[const N: usize][N], setters window_setters {
            /// The step.
            stride: into Dims<N> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
            /// Rounding up.
            ceil_mode: of bool = false;
        }
    }

    struct Window<const N: usize> {
        options: WindowOptions<N>,
    }

    impl<const N: usize> Window<N> {
        window_setters!();
    }

    #[test]
    fn chained() {
        let window = Window::<2> { options: WindowOptions::default() }.stride([2, 3]).ceil_mode(true);
        assert_eq!(window.options, WindowOptions::default().stride([2, 3]).ceil_mode(true));
    }

    #[test]
    #[should_panic(expected = "a stride is at least 1")]
    fn refused() {
        let _ = WindowOptions::<1>::default().stride(0);
    }
}
