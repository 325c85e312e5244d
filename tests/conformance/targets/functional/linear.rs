//! Linear and bilinear maps.

use ndnn::{Real, functional as F};

use crate::{
    args::{Args, KW},
    targets::{Called, out},
};

pub fn call<T: Real>(target: &str, _variant: &str, a: &Args<T>) -> Called {
    Ok(Some(match target {
        "bilinear" => {
            let (x1, x2) = (a.tensor(0, "input1")?, a.tensor(1, "input2")?);
            out![F::bilinear(&x1, &x2, &a.tensor(2, "weight")?, a.opt_tensor(3, "bias")?.as_ref())?]
        }
        "grouped_mm" => {
            // The type of the result is that of the operands.
            a.ignore(KW, "out_dtype");
            let (x, y) = (a.tensor(0, "mat_a")?, a.tensor(1, "mat_b")?);
            out![F::grouped_mm(&x, &y, a.opt_long(KW, "offs")?.as_ref())?]
        }
        "linear" => {
            out![F::linear(&a.tensor(0, "input")?, &a.tensor(1, "weight")?, a.opt_tensor(2, "bias")?.as_ref())?]
        }
        _ => return Ok(None),
    }))
}
