//! Elementwise operations.

use ndnn::{Real, Result, Tensor};

use super::{Called, out};
use crate::args::{Args, KW};

#[rustfmt::skip]
/// The arms of operations whose signature is one tensor (`unary`), or two that broadcast (`binary`).
macro_rules! by_name {
    ($target:expr, $a:expr; unary $($unary:ident)*; binary $($binary:ident)*) => {
        match $target {
            $(stringify!($unary) => return Ok(Some(out![$a.tensor(0, "input")?.$unary()])),)*
            $(stringify!($binary) => {
                return Ok(Some(out![$a.tensor(0, "input")?.$binary(&$a.promoted(1, "other")?)?]));
            })*
            _ => {}
        }
    };
}

pub fn call<T: Real>(target: &str, variant: &str, a: &Args<T>) -> Called {
    by_name! { target, a;
        unary abs ceil cos cosh digamma erf erfc erfinv exp exp2 expm1 floor frac isfinite isinf isnan lgamma log log10
            log1p log2 logical_not neg reciprocal rsqrt sigmoid sign sin sinh sqrt square tan tanh trunc acos acosh asin
            asinh atan atanh relu sgn;
        binary atan2 copysign eq fmod ge gt hypot le logaddexp logical_and logical_or logical_xor lt maximum minimum ne
            remainder xlogy
    }
    Ok(Some(match (target, variant) {
        ("add", _) => out![a.tensor(0, "input")?.try_add(&scaled(a)?)?],
        ("sub", _) => out![a.tensor(0, "input")?.try_sub(&scaled(a)?)?],
        ("mul", _) => out![a.tensor(0, "input")?.try_mul(&a.promoted(1, "other")?)?],
        ("div" | "true_divide", _) => out![div(a)?],
        ("max", "binary") => out![a.tensor(0, "input")?.maximum(&a.promoted(1, "other")?)?],
        ("min", "binary") => out![a.tensor(0, "input")?.minimum(&a.promoted(1, "other")?)?],
        ("addcmul", _) => {
            out![a.tensor(0, "input")?.addcmul(&a.tensor(1, "tensor1")?, &a.tensor(2, "tensor2")?, value(a)?)?]
        }
        ("addcdiv", _) => {
            out![a.tensor(0, "input")?.addcdiv(&a.tensor(1, "tensor1")?, &a.tensor(2, "tensor2")?, value(a)?)?]
        }
        ("lerp", _) => out![a.tensor(0, "input")?.lerp(&a.tensor(1, "end")?, &a.promoted(2, "weight")?)?],
        ("pow", _) => out![pow(a)?],
        ("clamp", _) => out![clamp(a)?],
        ("where", _) => {
            out![Tensor::where_(&a.mask(1, "condition")?, &a.promoted(0, "input")?, &a.promoted(2, "other")?)?]
        }
        ("masked_fill", _) => out![a.tensor(0, "input")?.masked_fill(&a.mask(1, "mask")?, &a.promoted(2, "value")?)?],
        ("round", _) => out![match a.opt_int(KW, "decimals")? {
            Some(decimals) => a.tensor(0, "input")?.round_decimals(decimals as i32),
            None => a.tensor(0, "input")?.round(),
        }],
        ("logit", _) => out![a.tensor(0, "input")?.logit(a.opt_float(1, "eps")?.map(T::of))],
        ("nan_to_num", _) => {
            let number = |i, name| -> Result<Option<T>> { Ok(a.opt_float(i, name)?.map(T::of)) };
            out![a.tensor(0, "input")?.nan_to_num(number(1, "nan")?, number(2, "posinf")?, number(3, "neginf")?)]
        }
        ("isclose", _) => out![a.tensor(0, "input")?.isclose(
            &a.tensor(1, "other")?,
            a.float_or(2, "rtol", 1e-5)?,
            a.float_or(3, "atol", 1e-8)?,
            a.bool_or(4, "equal_nan", false)?,
        )?],
        _ => return Ok(None),
    }))
}

fn scaled<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let other = a.promoted(1, "other")?;
    Ok(match a.opt_float(KW, "alpha")? {
        Some(alpha) => other * T::of(alpha),
        None => other,
    })
}

fn value<T: Real>(a: &Args<T>) -> Result<T> {
    Ok(T::of(a.float_or(KW, "value", 1.)?))
}

fn div<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let (x, y) = (a.tensor(0, "input")?, a.promoted(1, "other")?);
    match a.opt_str(KW, "rounding_mode")? {
        Some("floor") => x.div_floor(&y),
        Some("trunc") => x.div_trunc(&y),
        Some(other) => Err(ndnn::Error::value("div", format!("rounding_mode is {other:?}"))),
        None => x.try_div(&y),
    }
}

fn pow<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    if a.is_tensor(0, "input") {
        a.tensor(0, "input")?.pow(&a.promoted(1, "exponent")?)
    } else {
        Ok(a.tensor(1, "exponent")?.rpow(T::of(a.float(0, "input")?)))
    }
}

fn clamp<T: Real>(a: &Args<T>) -> Result<Tensor<T>> {
    let x = a.tensor(0, "input")?;
    if a.is_tensor(1, "min") || a.is_tensor(2, "max") {
        let bound = |i, name| if a.has(i, name) { a.promoted(i, name).map(Some) } else { Ok(None) };
        return x.clamp_tensor(bound(1, "min")?.as_ref(), bound(2, "max")?.as_ref());
    }
    let bound = |i, name| -> Result<Option<T>> { Ok(a.opt_float(i, name)?.map(T::of)) };
    Ok(x.clamp(bound(1, "min")?, bound(2, "max")?))
}
