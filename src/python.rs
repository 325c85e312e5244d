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
    let exponent = if value == 0. { 0 } else { value.abs().log10().floor() as i32 };
    // `{:e}` gives the shortest digits that round-trip, as Python does; only the layout differs.
    let scientific = format!("{value:e}");
    let (digits, power) = scientific.split_once('e').expect("an exponent");
    let power: i32 = power.parse().unwrap_or(exponent);
    if (-4..16).contains(&power) {
        let plain = format!("{value}");
        return if plain.contains('.') { plain } else { format!("{plain}.0") };
    }
    let sign = if power < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", power.abs())
}

/// A tuple as Python writes it: `(3,)`, `(3, 5)`.
pub fn py_tuple<T: fmt::Display>(values: &[T]) -> String {
    match values {
        [one] => format!("({one},)"),
        _ => format!("({})", values.iter().map(T::to_string).collect::<Vec<_>>().join(", ")),
    }
}
