//! Numbers, bools and tuples as Python prints them.

use std::fmt;

/// `True` and `False`, as Python writes them.
pub fn py_bool(value: bool) -> &'static str {
    if value { "True" } else { "False" }
}

/// A float as Python's `repr` writes it: `1e-05`, `0.1`, `1.0`, `inf`.
pub fn py_float(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0. { "inf".into() } else { "-inf".into() };
    }
    // `{:e}` gives the shortest digits that round-trip, as Python does; only the layout differs.
    let (scientific, power) = py_scientific(&format!("{value:e}"));
    if (-4..16).contains(&power) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    scientific
}

/// A number that Rust wrote as `1e-8` as C and Python write it, `1e-08`; and its exponent.
pub fn py_scientific(text: &str) -> (String, i32) {
    let (digits, power) = text.split_once('e').expect("written with an exponent");
    let power: i32 = power.parse().expect("a whole number");
    let sign = if power < 0 { '-' } else { '+' };
    (format!("{digits}e{sign}{:02}", power.abs()), power)
}

/// A tuple as Python writes it: `(3,)`, `(3, 5)`.
pub fn py_tuple<T: fmt::Display>(values: &[T]) -> String {
    match values {
        [one] => format!("({one},)"),
        _ => format!("({})", values.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A value that can be shown as Python prints it.
pub trait AsPython {
    /// As Python prints it: `True`, `1e-05`, `(3, 5)`, `None`; strings are unchanged.
    fn python(&self) -> String;
}

macro_rules! as_python {
    ($([$($generics:tt)*] $ty:ty, |$value:ident| $text:expr;)*) => {$(
        impl<$($generics)*> AsPython for $ty {
            fn python(&self) -> String {
                let $value = self;
                $text
            }
        }
    )*};
}
as_python! {
    [] bool, |value| py_bool(*value).into();
    [] f64, |value| py_float(*value);
    [] i32, |value| value.to_string();
    [] usize, |value| value.to_string();
    [] isize, |value| value.to_string();
    [] i64, |value| value.to_string();
    [A: AsPython, B: AsPython] (A, B), |value| format!("({}, {})", value.0.python(), value.1.python());
    [] str, |value| value.to_string();
    [] String, |value| value.clone();
    [V: fmt::Display] [V], |value| py_tuple(value);
    [V: fmt::Display] Vec<V>, |value| py_tuple(value);
    [V: AsPython] Option<V>, |value| value.as_ref().map_or("None".into(), V::python);
    [V: AsPython + ?Sized] &V, |value| (**value).python();
}
