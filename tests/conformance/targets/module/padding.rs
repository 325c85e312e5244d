//! Padding.

use ndnn::{
    Error, Real, Result,
    functional::{Pads, PyNumber},
    nn::{CircularPad, ConstantPad, ReflectionPad, ReplicationPad, ZeroPad},
};

use super::{Built, Case, layer};
use crate::args::Args;

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    let Some((name, axes)) = target.strip_suffix('d').and_then(|t| t.split_at_checked(t.len() - 1)) else {
        return Ok(None);
    };
    if !name.ends_with("Pad") {
        return Ok(None);
    }
    let wrong = || Error::value("case", format!("the padding of {target}"));
    let pads = a.ints(0, "padding")?;
    Ok(Some(match (axes, pads.as_slice()) {
        ("1", &[one]) => pad::<1, T>(name, one.into(), a)?,
        ("2", &[one]) => pad::<2, T>(name, one.into(), a)?,
        ("3", &[one]) => pad::<3, T>(name, one.into(), a)?,
        ("1", pads) => pad::<1, T>(name, <[isize; 2]>::try_from(pads).map_err(|_| wrong())?.into(), a)?,
        ("2", pads) => pad::<2, T>(name, <[isize; 4]>::try_from(pads).map_err(|_| wrong())?.into(), a)?,
        (_, pads) => pad::<3, T>(name, <[isize; 6]>::try_from(pads).map_err(|_| wrong())?.into(), a)?,
    }))
}

fn pad<const N: usize, T: Real>(name: &str, pads: Pads<N>, a: &Args<T>) -> Result<Box<dyn Case<T>>> {
    Ok(match name {
        "ReflectionPad" => layer(ReflectionPad::new(pads)),
        "ReplicationPad" => layer(ReplicationPad::new(pads)),
        "ZeroPad" => layer(ZeroPad::new(pads)),
        "CircularPad" => layer(CircularPad::new(pads)),
        _ => {
            let (value, whole) = (a.float(1, "value")?, a.is_int(1, "value"));
            layer(ConstantPad::new(pads, if whole { PyNumber::from(value as i32) } else { value.into() }))
        }
    })
}
