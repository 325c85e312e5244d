//! The options of a group of parameters: fields with setters, and numbers by name.

use crate::{Error, Result, error::listed, python::AsPython};

/// The options of one group of parameters.
///
/// Each can be read and set as a number by its name, as schedules and files do; a pair such as `betas` is two numbers,
/// `betas.0` and `betas.1`, and `true` is 1.
///
/// ```
/// use ndnn::optim::{AdamOptions, GroupOptions};
/// let mut options = AdamOptions::new(1e-3);
/// options.set("betas.0", 0.8)?;
/// assert_eq!((options.betas, options.get("amsgrad")?), ((0.8, 0.999), 0.0));
/// let error = options.set("lr", -1.0).unwrap_err();
/// assert_eq!(error.to_string(), "AdamOptions: a learning rate is at least 0 and finite, got -1.0");
/// # Ok::<(), ndnn::Error>(())
/// ```
pub trait GroupOptions: Clone + Send + Sync {
    /// The names of all options; `lr`, the learning rate, is one of them.
    fn names() -> Vec<String>;

    /// The option with this name.
    ///
    /// # Errors
    /// If there is no such option; the error lists the ones that exist.
    fn get(&self, name: &str) -> Result<f64>;

    /// Sets the option with this name.
    ///
    /// # Errors
    /// If there is no such option, or the value is out of its range; then nothing is changed.
    fn set(&mut self, name: &str, value: f64) -> Result<()>;

    /// Checks that each option is in its range, and that they are compatible.
    ///
    /// # Errors
    /// If they are not.
    fn check(&self) -> Result<()>;
}

/// The type of an option: one or more numbers.
pub(super) trait OptionValue {
    /// The suffix of the option's name for each number.
    const PARTS: &'static [&'static str];

    fn part(&self, part: usize) -> f64;

    /// Sets one of the numbers; the error says which values are possible.
    fn set_part(&mut self, part: usize, value: f64) -> std::result::Result<(), &'static str>;
}

impl OptionValue for f64 {
    const PARTS: &'static [&'static str] = &[""];

    fn part(&self, _: usize) -> f64 {
        *self
    }

    fn set_part(&mut self, _: usize, value: f64) -> std::result::Result<(), &'static str> {
        *self = value;
        Ok(())
    }
}

impl OptionValue for bool {
    const PARTS: &'static [&'static str] = &[""];

    fn part(&self, _: usize) -> f64 {
        f64::from(u8::from(*self))
    }

    fn set_part(&mut self, _: usize, value: f64) -> std::result::Result<(), &'static str> {
        *self = value == 1.;
        if [0., 1.].contains(&value) { Ok(()) } else { Err("0 or 1") }
    }
}

impl OptionValue for (f64, f64) {
    const PARTS: &'static [&'static str] = &[".0", ".1"];

    fn part(&self, part: usize) -> f64 {
        [self.0, self.1][part]
    }

    fn set_part(&mut self, part: usize, value: f64) -> std::result::Result<(), &'static str> {
        *[&mut self.0, &mut self.1][part] = value;
        Ok(())
    }
}

/// The index of the number of option `field` that is called `name`.
#[inline]
pub(super) fn part_named<V: OptionValue>(_: &V, field: &str, name: &str) -> Option<usize> {
    let part = name.strip_prefix(field)?;
    V::PARTS.iter().position(|&p| p == part)
}

/// Adds the names of the numbers that an option has.
#[inline]
pub(super) fn name_parts(names: &mut Vec<String>, option: &str, parts: &[&str]) {
    for part in parts {
        names.push([option, part].concat());
    }
}

#[inline]
pub(super) fn no_option<O: GroupOptions>(options: &str, name: &str) -> Error {
    let names = O::names();
    Error::value(options, format!("there is no option `{name}`; there are {}", listed(names.iter())))
}

/// The range of most options: not negative, infinite or NaN.
pub(super) fn at_least_0(value: f64) -> bool {
    (0. ..f64::INFINITY).contains(&value)
}

/// What is said of a value that is not in its range.
pub(super) fn refused(range: &str, value: &dyn AsPython) -> String {
    format!("{range}, got {}", value.python())
}

/// The range of a learning rate, for the message where [`at_least_0`] refuses.
pub(super) const LR_RANGE: &str = "a learning rate is at least 0 and finite";

/// The options of an optimizer, the learning rate first: a struct with setters, its [`GroupOptions`], and setters on
/// the optimizer that apply to all groups.
///
/// A row has a field's name, type and default, and the range that is checked when it is set and at each step.
/// Conditions on several options follow the rows. A value that is never valid panics where it is set.
macro_rules! optimizer_options {
    (
        $(#[$doc:meta])*
        pub struct $options:ident for $rule:ident $([$($generics:tt)*][$($args:tt)*])? {$(
            $(#[$field_doc:meta])*
            $field:ident: $ty:ty = $default:expr $(, if |$value:ident| $valid:expr, $message:literal)?;
        )*}
        $(if |$all:ident| $together:expr, $($apart:expr),+;)?
    ) => {
        $(#[$doc])*
        #[must_use = "a setter returns the options changed"]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $options {
            /// The learning rate.
            pub lr: f64,
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $options {
            /// PyTorch's defaults with this learning rate.
            ///
            /// # Panics
            /// If it is negative, infinite or NaN.
            #[inline]
            #[track_caller]
            pub fn new(lr: f64) -> Self {
                let options = Self { lr: 0., $($field: $default),* };
                options.lr(lr)
            }

            /// Checks that each option is in its range, or only the given one: a field can be written without its
            /// setter.
            fn in_range(&self, only: Option<&str>) -> std::result::Result<(), String> {
                if only.is_none_or(|name| name == "lr") && !$crate::optim::options::at_least_0(self.lr) {
                    return Err($crate::optim::options::refused($crate::optim::options::LR_RANGE, &self.lr));
                }
                $($(
                    let $value = self.$field;
                    if only.is_none_or(|name| name == stringify!($field)) && !($valid) {
                        return Err($crate::optim::options::refused($message, &self.$field));
                    }
                )?)*
                Ok(())
            }

            /// The learning rate.
            ///
            /// # Panics
            /// If it is negative, infinite or NaN.
            #[inline]
            #[track_caller]
            pub fn lr(mut self, lr: f64) -> Self {
                self.lr = lr;
                match self.in_range(Some("lr")) {
                    Ok(()) => self,
                    Err(what) => panic!("{what}"),
                }
            }

            $(
                $(#[$field_doc])*
                $(#[doc = $crate::functional::panics!($message)])?
                #[inline]
                #[track_caller]
                pub fn $field(mut self, $field: $ty) -> Self {
                    self.$field = $field;
                    match self.in_range(Some(stringify!($field))) {
                        Ok(()) => self,
                        Err(what) => panic!("{what}"),
                    }
                }
            )*
        }

        impl $crate::optim::GroupOptions for $options {
            #[inline]
            fn names() -> Vec<String> {
                let mut names = vec!["lr".to_string()];
                $(
                    let parts = <$ty as $crate::optim::options::OptionValue>::PARTS;
                    $crate::optim::options::name_parts(&mut names, stringify!($field), parts);
                )*
                names
            }

            #[inline]
            fn get(&self, name: &str) -> $crate::Result<f64> {
                use $crate::optim::options::{OptionValue, no_option, part_named};
                if name == "lr" {
                    return Ok(self.lr);
                }
                $(if let Some(part) = part_named(&self.$field, stringify!($field), name) {
                    return Ok(self.$field.part(part));
                })*
                Err(no_option::<Self>(stringify!($options), name))
            }

            #[inline]
            fn set(&mut self, name: &str, value: f64) -> $crate::Result<()> {
                use $crate::optim::options::{OptionValue, no_option, part_named};
                let (mut changed, mut found) = (self.clone(), None);
                if name == "lr" {
                    changed.lr = value;
                    found = Some("lr");
                }
                $(if let Some(part) = part_named(&self.$field, stringify!($field), name) {
                    changed.$field.set_part(part, value).map_err(|can_be| {
                        $crate::Error::value(stringify!($options), format!("{name} is {can_be}, got {value}"))
                    })?;
                    found = Some(stringify!($field));
                })*
                if found.is_none() {
                    return Err(no_option::<Self>(stringify!($options), name));
                }
                changed.in_range(found).map_err(|what| $crate::Error::value(stringify!($options), what))?;
                *self = changed;
                Ok(())
            }

            fn check(&self) -> $crate::Result<()> {
                let refused = |what| $crate::Error::value(stringify!($options), what);
                self.in_range(None).map_err(refused)?;
                $(
                    let $all = self;
                    if !($together) {
                        return Err(refused(format!($($apart),+)));
                    }
                )?
                Ok(())
            }
        }

        impl $(<$($generics)*>)? $crate::optim::RuleOptimizer<$crate::optim::Each<$rule $(<$($args)*>)?>>
        where
            $crate::optim::Each<$rule $(<$($args)*>)?>: $crate::optim::Rule<Options = $options>,
        {$(
            $(#[$field_doc])*
            $(#[doc = $crate::functional::panics!($message)])?
            #[inline]
            #[track_caller]
            pub fn $field(mut self, $field: $ty) -> Self {
                // Not a closure, which would lose the caller's line.
                for group in self.groups_mut() {
                    *group = group.clone().$field($field);
                }
                self
            }
        )*}
    };
}

pub(super) use optimizer_options;
