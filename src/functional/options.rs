//! What the options of functions and layers share: sizes along N axes, numbers and words as PyTorch writes them,
//! structs with chained setters, and names for 1, 2 and 3 axes.

use std::fmt;

use crate::{Error, error::listed, python::AsPython};

/// A size along each of N axes, given as one number for all or as an array; it prints the way it was given.
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

    /// As a tuple in any case, as PyTorch prints the sizes of a convolution: `(3, 3)`.
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

/// As PyTorch prints the argument: `3`, `(3, 5)`.
impl<const N: usize> fmt::Display for Dims<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.one {
            true => write!(f, "{}", self.sizes[0]),
            false => f.write_str(&self.tuple()),
        }
    }
}

/// One value for all axes or one per axis, where the input determines the number of axes; it prints the way it was given.
///
/// ```
/// use ndnn::functional::PerAxis;
/// assert_eq!(PerAxis::<f64>::from(2.0).to_string(), "2.0");
/// assert_eq!(PerAxis::<usize>::from([3, 5]).to_string(), "(3, 5)");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PerAxis<V> {
    values: [V; 3],
    /// 0 for one value for all.
    len: usize,
}

impl<V: Copy> PerAxis<V> {
    /// The value of each of so many axes; `None` if there are other numbers of values and axes.
    pub(crate) fn over(self, axes: usize) -> Option<Vec<V>> {
        match self.len {
            0 => Some(vec![self.values[0]; axes]),
            len => (len == axes).then(|| self.values[..len].to_vec()),
        }
    }

    pub(crate) fn all(self, valid: impl Fn(V) -> bool) -> bool {
        self.values[..self.len.max(1)].iter().all(|&value| valid(value))
    }
}

impl<V: Copy> From<V> for PerAxis<V> {
    fn from(one: V) -> Self {
        PerAxis { values: [one; 3], len: 0 }
    }
}

/// From one value per axis.
macro_rules! per_axis {
    ($($n:literal),*) => {$(
        impl<V: Copy> From<[V; $n]> for PerAxis<V> {
            fn from(each: [V; $n]) -> Self {
                PerAxis { values: std::array::from_fn(|i| each[i.min($n - 1)]), len: $n }
            }
        }
    )*};
}
per_axis!(1, 2, 3);

/// As PyTorch prints the argument: `3`, `(3, 5)`.
impl<V: Copy + AsPython> fmt::Display for PerAxis<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.len {
            0 => f.write_str(&self.values[0].python()),
            len => f.write_str(&crate::python::py_tuple(&self.values[..len].iter().map(V::python).collect::<Vec<_>>())),
        }
    }
}

/// A number that prints as it was written: `2` or `2.0`.
///
/// ```
/// use ndnn::functional::PyNumber;
/// assert_eq!((PyNumber::from(2).to_string(), PyNumber::from(2.0).to_string()), ("2".into(), "2.0".into()));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PyNumber {
    value: f64,
    whole: bool,
}

impl PyNumber {
    /// A number that prints as a float.
    pub const fn float(value: f64) -> Self {
        PyNumber { value, whole: false }
    }

    /// The number.
    pub fn get(self) -> f64 {
        self.value
    }
}

impl From<f64> for PyNumber {
    fn from(value: f64) -> Self {
        PyNumber::float(value)
    }
}

impl From<i32> for PyNumber {
    fn from(value: i32) -> Self {
        PyNumber { value: value.into(), whole: true }
    }
}

/// As Python prints it.
impl fmt::Display for PyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.whole {
            true => write!(f, "{}", self.value),
            false => f.write_str(&crate::python::py_float(self.value)),
        }
    }
}

/// Implements `AsPython` for a type by its `Display`.
macro_rules! as_displayed {
    ($([$($generics:tt)*] $ty:ty),*) => {$(
        impl<$($generics)*> AsPython for $ty {
            #[inline]
            fn python(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
as_displayed!([const N: usize] Dims<N>, [] PyNumber);

/// An enum of PyTorch's words, with parsing and printing.
///
/// ```text
/// words! {
///     /// What becomes of the losses.
///     pub enum Reduction, "reduction" {
///         /// Nothing.
///         None = "none",
///         /// Their mean; the default.
///         #[default]
///         Mean = "mean",
///     }
/// }
/// ```
///
/// `"mean".into()` panics at the caller's line if there is no such word, `"mean".parse()` returns an error. Alternative
/// spellings follow after `|`. To be a field of a module, the enum must be listed at `plain!` in `module/field.rs`.
macro_rules! words {
    ($(#[$doc:meta])* pub enum $name:ident, $what:literal {
        $($(#[$variant_doc:meta])* $variant:ident = $word:literal $(| $other:literal)*,)*
    }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        /// As PyTorch spells it.
        impl std::fmt::Display for $name {
            #[inline]
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $($name::$variant => $word,)*
                })
            }
        }

        impl $crate::python::AsPython for $name {
            #[inline]
            fn python(&self) -> String {
                self.to_string()
            }
        }

        /// From PyTorch's word.
        impl std::str::FromStr for $name {
            type Err = $crate::Error;
            #[inline]
            fn from_str(word: &str) -> $crate::Result<Self> {
                match word {
                    $($word $(| $other)* => Ok($name::$variant),)*
                    _ => Err($crate::functional::no_word($what, word, &[$($word $(, $other)*),*])),
                }
            }
        }

        /// From PyTorch's word.
        ///
        /// # Panics
        /// If there is no such word.
        impl From<&str> for $name {
            #[track_caller]
            #[inline]
            fn from(word: &str) -> Self {
                $crate::error::or_panic(word.parse())
            }
        }
    };
}

/// The error for a word that an option does not have.
pub(crate) fn no_word(what: &str, word: &str, words: &[&str]) -> Error {
    Error::value(
        what,
        format!("there is no {word:?}; expected one of {}", listed(words.iter().map(|w| format!("{w:?}")))),
    )
}

/// A struct of options, each with a default, a chained setter and a getter, and a macro that gives a layer the same setters.
///
/// ```text
/// options! {
///     /// The options of `conv`.
///     pub struct ConvOptions[const N: usize][N], setters conv_setters {
///         /// The step from one window to the next; 1 by default.
///         stride: into Dims<N> = Dims::from(1), if |s| s.is_positive(), "a stride is at least 1";
///         /// Groups of channels that do not see each other; 1 by default.
///         groups: of usize = 1;
///     }
///     if |o| o.groups == 1 || o.stride.get() == [1; N], "groups take a stride of 1"
/// }
/// ```
///
/// A setter takes a value that converts `into` the option's type, or a value `of` the type. A value that is never valid
/// panics where it is set, with the message after `if` and the value; a condition on all together follows the braces. Outside the
/// crate options change only through their setters, so nothing is checked again.
///
/// A layer whose field `options` is such a struct gets all setters, except those that it implements itself, by
/// `conv_setters!(except(groups))` in an `impl` block. With `conv_setters!(through changed)` they call the layer's
/// method `changed(self, options) -> Self`, which may initialise weights again. To be a field of a module, the struct
/// must be listed at `plain!` in `module/field.rs`.
macro_rules! options {
    ($(#[$doc:meta])* pub struct $name:ident $($rest:tt)*) => {
        $crate::functional::options! { @($) $(#[$doc])* pub struct $name $($rest)* }
    };
    (
        @($d:tt) $(#[$doc:meta])*
        pub struct $name:ident $([$($generics:tt)*][$($args:tt)*])?, setters $setters:ident {$(
            $(#[$field_doc:meta])*
            $field:ident: $kind:tt $ty:ty = $default:expr
            $(, if |$value:ident| $valid:expr, $message:literal)?;
        )*}
        $(if |$all:ident| $valid_together:expr, $together:literal)*
    ) => {
        $(#[$doc])*
        #[must_use = "a setter returns the options changed"]
        #[derive(Clone, Copy, Debug, PartialEq, ndnn_derive::Getters)]
        pub struct $name $(<$($generics)*>)? {$(
            $(#[$field_doc])*
            pub(crate) $field: $ty,
        )*}

        impl $(<$($generics)*>)? Default for $name $(<$($args)*>)? {
            #[inline]
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $(<$($generics)*>)? $name $(<$($args)*>)? {
            $(
                $(#[$field_doc])*
                $(#[doc = $crate::functional::panics!($message)])?
                #[inline]
                #[track_caller]
                pub fn $field(mut self, $field: $crate::functional::argument!($kind $ty)) -> Self {
                    self.$field = $field.into();
                    $($crate::functional::refuse_unless!(self.$field, |$value| $valid, $message);)?
                    self.checked()
                }
            )*

            #[inline]
            #[track_caller]
            fn checked(self) -> Self {
                $({
                    let $all = &self;
                    assert!($valid_together, $together);
                })*
                self
            }
        }

        /// The same setters for a layer with a field `options`.
        #[allow(unused_macros)]
        macro_rules! $setters {
            ($d(through $d through:ident)? $d(,)? $d(except($d($d except:ident),*))?) => {
                $($crate::functional::$setters! { @$field [$d($d through)?] $d($d($d except)*)? })*
            };
            $(
                // A field that is excepted, and one that is not.
                (@$field $d through:tt $field $d($d except:ident)*) => {};
                (@$field $d through:tt $d other:ident $d($d except:ident)*) => {
                    $crate::functional::$setters! { @$field $d through $d($d except)* }
                };
                (@$field [$d($d through:ident)?]) => {
                    $(#[$field_doc])*
                    $(#[doc = $crate::functional::panics!($message)])?
                    #[inline]
                    #[track_caller]
                    pub fn $field(self, $field: $crate::functional::argument!($kind $ty)) -> Self {
                        let options = self.options.$field($field);
                        $crate::functional::changed!(self, options, $d($d through)?)
                    }
                };
            )*
        }
        #[allow(unused_imports)]
        pub(crate) use $setters;
    };
}

/// Chained setters of a layer's own fields, a row each, as in [`options!`].
macro_rules! setters {
    ($(
        $(#[$doc:meta])*
        $field:ident: $kind:tt $ty:ty $(, if |$value:ident| $valid:expr, $message:literal)?;
    )*) => {$(
        $(#[$doc])*
        $(#[doc = $crate::functional::panics!($message)])?
        #[inline]
        #[track_caller]
        pub fn $field(mut self, $field: $crate::functional::argument!($kind $ty)) -> Self {
            self.$field = $field.into();
            $($crate::functional::refuse_unless!(self.$field, |$value| $valid, $message);)?
            self
        }
    )*};
}

/// Panics with the message and the value, unless it is valid.
macro_rules! refuse_unless {
    ($field:expr, |$value:ident| $valid:expr, $message:literal) => {{
        let $value = $field;
        assert!($valid, "{}, got {}", $message, $crate::python::AsPython::python(&$value));
    }};
}

/// How a setter takes its value: `into` converts it, `of` takes the type itself.
macro_rules! argument {
    (into $ty:ty) => { impl Into<$ty> };
    (of $ty:ty) => { $ty };
}

/// The documentation of a setter that refuses a value with this message.
macro_rules! panics {
    ($message:literal) => {
        concat!("\n# Panics\nIf the value is not valid: ", $message, ".")
    };
}

/// A layer with changed options: set directly, or passed to its method.
macro_rules! changed {
    ($layer:ident, $options:ident, ) => {{
        let mut layer = $layer;
        layer.options = $options;
        layer
    }};
    ($layer:ident, $options:ident, $through:ident) => {
        $layer.$through($options)
    };
}

/// Names for 1, 2 and 3 axes of what is written once over `const N: usize`: functions and, with `type`, layers.
///
/// ```text
/// by_rank! { ($n) conv(input, options): (input: &Tensor<T>, options: ConvOptions<$n>) -> Tensor<T>; conv1d, conv2d, conv3d }
/// by_rank! { type Conv<_, T = f32>: Conv1d, Conv2d, Conv3d }
/// ```
///
/// A doc comment before a name is added after the common one.
macro_rules! by_rank {
    (
        type $family:ident<_ $(, $t:ident = $default:ty)?>:
        $(#[$doc1:meta])* $one:ident, $(#[$doc2:meta])* $two:ident, $(#[$doc3:meta])* $three:ident
    ) => {
        #[doc = concat!("[`", stringify!($family), "`] over one axis: `(N, C, L)` or `(C, L)`.\n")]
        $(#[$doc1])*
        pub type $one$(<$t = $default>)? = $family<1 $(, $t)?>;
        #[doc = concat!("[`", stringify!($family), "`] over two axes: `(N, C, H, W)` or `(C, H, W)`.\n")]
        $(#[$doc2])*
        pub type $two$(<$t = $default>)? = $family<2 $(, $t)?>;
        #[doc = concat!("[`", stringify!($family), "`] over three axes: `(N, C, D, H, W)` or `(C, D, H, W)`.\n")]
        $(#[$doc3])*
        pub type $three$(<$t = $default>)? = $family<3 $(, $t)?>;
    };
    (
        ($d:tt $n:ident) $family:ident($($arg:ident),*): ($($args:tt)*) -> $result:ty;
        $(#[$doc1:meta])* $one:ident, $(#[$doc2:meta])* $two:ident, $(#[$doc3:meta])* $three:ident
    ) => {
        macro_rules! named {
            ($d($d(#[$d doc:meta])* $d name:ident, $d $n:literal, $d axes:literal;)*) => {$d(
                #[doc = concat!("[`", stringify!($family), "`] over ", $d axes, ".\n")]
                $d(#[$d doc])*
                ///
                /// # Errors
                #[doc = concat!("As [`", stringify!($family), "`].")]
                pub fn $d name<T: Real>($($args)*) -> Result<$result> {
                    $family($($arg),*)
                }
            )*};
        }
        named! {
            $(#[$doc1])* $one, 1, "one axis: `(N, C, L)` or `(C, L)`";
            $(#[$doc2])* $two, 2, "two axes: `(N, C, H, W)` or `(C, H, W)`";
            $(#[$doc3])* $three, 3, "three axes: `(N, C, D, H, W)` or `(C, D, H, W)`";
        }
    };
}

pub(crate) use {argument, by_rank, changed, options, panics, refuse_unless, setters, words};

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
        if |o| !o.ceil_mode || o.stride.get() != [7; N], "no rounding up with a stride of 7"
    }

    words! {
        /// Words.
        pub enum Colour, "colour" {
            /// Bright.
            #[default]
            Red = "red" | "scarlet",
            /// Dark.
            Blue = "blue",
        }
    }

    #[test]
    fn set_and_read() {
        let options = WindowOptions::<2>::default().stride([2, 3]).ceil_mode(true);
        assert_eq!((options.get_stride().get(), options.get_ceil_mode()), ([2, 3], true));
    }

    #[test]
    #[should_panic(expected = "a stride is at least 1, got (1, 0)")]
    fn refused_alone() {
        let _ = WindowOptions::<2>::default().stride([1, 0]);
    }

    #[test]
    #[should_panic(expected = "no rounding up with a stride of 7")]
    fn refused_together() {
        let _ = WindowOptions::<1>::default().ceil_mode(true).stride(7);
    }

    #[test]
    fn words_parse_and_print() {
        assert_eq!(
            (Colour::from("blue"), Colour::from("scarlet"), Colour::default()),
            (Colour::Blue, Colour::Red, Colour::Red)
        );
        assert_eq!(format!("{} {}", Colour::Red, Colour::Blue.python()), "red blue");
        let error = "green".parse::<Colour>().unwrap_err().to_string();
        assert_eq!(error, "colour: there is no \"green\"; expected one of \"red\", \"scarlet\", \"blue\"");
    }
}
