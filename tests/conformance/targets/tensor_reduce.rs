//! Reductions, scans, softmax, matrix products.

use ndnn::{AnyTensor, DType, Error, Real, Result, Tensor};

use super::{Called, out};
use crate::args::{Args, KW};

const TARGETS: &[&str] = &[
    "addmm",
    "addmv",
    "all",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "baddbmm",
    "bmm",
    "count_nonzero",
    "cummax",
    "cummin",
    "cumprod",
    "cumsum",
    "diff",
    "dot",
    "einsum",
    "inner",
    "linalg.vector_norm",
    "log_softmax",
    "logcumsumexp",
    "logsumexp",
    "matmul",
    "max",
    "mean",
    "min",
    "mm",
    "mv",
    "norm",
    "outer",
    "prod",
    "softmax",
    "std",
    "std_mean",
    "sum",
    "tensordot",
    "trace",
    "var",
    "var_mean",
];

/// Runs one expression on a tensor of any number type.
macro_rules! number {
    ($any:expr, $x:ident => $body:expr) => {
        match $any {
            AnyTensor::F32($x) => $body,
            AnyTensor::F64($x) => $body,
            AnyTensor::I64($x) => $body,
            AnyTensor::Bool(mask) => {
                let $x = mask.cast::<i64>();
                $body
            }
        }
    };
}

/// Runs one expression on a tensor of any type.
macro_rules! any {
    ($any:expr, $x:ident => $body:expr) => {
        match $any {
            AnyTensor::F32($x) => $body,
            AnyTensor::F64($x) => $body,
            AnyTensor::I64($x) => $body,
            AnyTensor::Bool($x) => $body,
        }
    };
}

/// The input, converted first if there is a `dtype`.
fn input<T: Real>(a: &Args<T>, dtype_at: usize) -> Result<AnyTensor> {
    let dtype = a.dtype(dtype_at, "dtype")?;
    let x = a.any(0, "input|self")?;
    Ok(match dtype {
        None => x,
        Some(DType::F32) => any!(x, x => x.cast::<f32>().into()),
        Some(DType::F64) => any!(x, x => x.cast::<f64>().into()),
        Some(DType::I64) => any!(x, x => x.cast::<i64>().into()),
        Some(DType::Bool) => any!(x, x => x.cast::<bool>().into()),
    })
}

/// Runs one expression on a floating tensor; others are an error.
macro_rules! real {
    ($any:expr, $x:ident => $body:expr) => {
        match $any {
            AnyTensor::F32($x) => $body,
            AnyTensor::F64($x) => $body,
            other => return Err(Error::value("case", format!("expected a floating tensor, got {}", other.dtype()))),
        }
    };
}

pub fn call<T: Real>(target: &str, variant: &str, a: &Args<T>) -> Called {
    if TARGETS.contains(&target) && a.has(KW, "out") {
        // Tensors are values: a given one cannot be written to, so the argument does not exist.
        return Err(Error::value(target, "there is no `out`"));
    }
    let first = || a.tensor(0, "input|self");
    let dims = || Ok::<_, Error>(a.opt_ints(1, "dim|axis")?.unwrap_or_default());
    let keepdim = |at| a.bool_or(at, "keepdim", false);
    Ok(Some(match target {
        "sum" => number!(input(a, KW)?, x => out![x.sum_dim(dims()?, keepdim(2)?)?]),
        "mean" => real!(input(a, KW)?, x => out![x.mean_dim(dims()?, keepdim(2)?)?]),
        "prod" => number!(input(a, KW)?, x => match a.opt_int(1, "dim")? {
            Some(dim) => out![x.prod_dim(dim, keepdim(2)?)?],
            None => out![x.prod()],
        }),
        "var" | "std" | "var_mean" | "std_mean" => moments(target, a)?,
        "all" | "any" => test(target == "all", a)?,
        "count_nonzero" => any!(a.any(0, "input")?, x => out![x.count_nonzero(dims()?)?]),
        "amax" | "amin" => number!(a.any(0, "input")?, x => match target {
            "amax" => out![x.amax(dims()?, keepdim(2)?)?],
            _ => out![x.amin(dims()?, keepdim(2)?)?],
        }),
        "argmax" => number!(a.any(0, "input")?, x => out![x.argmax(a.opt_int(1, "dim")?, keepdim(2)?)?]),
        "argmin" => number!(a.any(0, "input")?, x => out![x.argmin(a.opt_int(1, "dim")?, keepdim(2)?)?]),
        "max" | "min" if variant != "binary" => extreme(target == "max", a)?,
        "norm" | "linalg.vector_norm" => norm(target, a)?,
        "logsumexp" => out![first()?.logsumexp(dims()?, keepdim(2)?)?],
        "cumsum" => number!(input(a, KW)?, x => out![x.cumsum(a.int(1, "dim")?)?]),
        "cumprod" => number!(input(a, KW)?, x => out![x.cumprod(a.int(1, "dim")?)?]),
        "logcumsumexp" => out![first()?.logcumsumexp(a.int(1, "dim")?)?],
        "cummax" => pair(first()?.cummax(a.int(1, "dim")?)?),
        "cummin" => pair(first()?.cummin(a.int(1, "dim")?)?),
        "softmax" => real!(input(a, 2)?, x => out![x.softmax(a.int(1, "dim")?)?]),
        "log_softmax" => real!(input(a, 2)?, x => out![x.log_softmax(a.int(1, "dim")?)?]),
        "diff" => {
            let n = usize::try_from(a.int_or(1, "n", 1)?);
            let n = n.map_err(|_| Error::value("diff", "expected n of at least 0"))?;
            let (prepend, append) = (a.opt_tensor(3, "prepend")?, a.opt_tensor(4, "append")?);
            out![first()?.diff(n, a.int_or(2, "dim", -1)?, prepend.as_ref(), append.as_ref())?]
        }
        "trace" => number!(a.any(0, "input")?, x => out![x.trace()?]),
        "matmul" => out![first()?.matmul(&a.tensor(1, "other")?)?],
        "mm" => out![first()?.mm(&a.tensor(1, "mat2")?)?],
        "bmm" => {
            a.ignore(2, "out_dtype");
            out![first()?.bmm(&a.tensor(1, "mat2")?)?]
        }
        "mv" => out![first()?.mv(&a.tensor(1, "vec")?)?],
        "dot" => out![first()?.dot(&a.tensor(1, "other|tensor")?)?],
        "inner" => out![first()?.inner(&a.tensor(1, "other")?)?],
        "outer" => out![first()?.outer(&a.tensor(1, "vec2")?)?],
        "addmm" | "addmv" | "baddbmm" => {
            let (x, y) = (a.tensor(1, "mat1|mat|batch1")?, a.tensor(2, "mat2|vec|batch2")?);
            let (beta, alpha) = (T::of(a.float_or(KW, "beta", 1.)?), T::of(a.float_or(KW, "alpha", 1.)?));
            match target {
                "addmm" => out![first()?.addmm(&x, &y, beta, alpha)?],
                "addmv" => out![first()?.addmv(&x, &y, beta, alpha)?],
                _ => out![first()?.baddbmm(&x, &y, beta, alpha)?],
            }
        }
        // OpInfo passes (operands, equation).
        "einsum" if a.is_list(0, "operands") => {
            let operands = a.tensors(0, "operands")?;
            out![Tensor::einsum(a.str(1, "equation")?, &operands.iter().collect::<Vec<_>>())?]
        }
        "einsum" => {
            let operands = a.tensors(1, "operands")?;
            out![Tensor::einsum(a.str(0, "equation")?, &operands.iter().collect::<Vec<_>>())?]
        }
        "tensordot" => tensordot(a)?,
        _ => return Ok(None),
    }))
}

fn pair<T: ndnn::Element>((values, indices): (Tensor<T>, Tensor<i64>)) -> Vec<AnyTensor> {
    out![values, indices]
}

fn moments<T: Real>(target: &str, a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let x = a.tensor(0, "input|self")?;
    // The overload var(unbiased) has no axes.
    let overload = matches!(a.value(1, "dim"), Some(crate::values::Value::Bool(_)));
    let (dims, unbiased) = match overload {
        true => (Vec::new(), a.opt_bool(1, "dim")?),
        false => (a.opt_ints(1, "dim")?.unwrap_or_default(), a.opt_bool(2, "unbiased")?),
    };
    let correction = a.opt_float(KW, "correction")?.unwrap_or(if unbiased.unwrap_or(true) { 1. } else { 0. });
    let keepdim = a.bool_or(3, "keepdim", false)?;
    Ok(match target {
        "var" => out![x.var_dim(dims, correction, keepdim)?],
        "std" => out![x.std_dim(dims, correction, keepdim)?],
        "var_mean" => both(x.var_mean_dim(dims, correction, keepdim)?),
        _ => both(x.std_mean_dim(dims, correction, keepdim)?),
    })
}

fn both<T: Real>((first, second): (Tensor<T>, Tensor<T>)) -> Vec<AnyTensor> {
    out![first, second]
}

fn test<T: Real>(all: bool, a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (dims, keepdim) = (a.opt_ints(1, "dim|axis")?, a.bool_or(2, "keepdim", false)?);
    any!(a.any(0, "input|self")?, x => Ok(match (dims, all) {
        (Some(dims), true) => out![x.all_dim(dims, keepdim)?],
        (Some(dims), false) => out![x.any_dim(dims, keepdim)?],
        (None, true) => out![x.all()],
        (None, false) => out![x.any()],
    }))
}

fn extreme<T: Real>(max: bool, a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (dim, keepdim) = (a.opt_int(1, "dim")?, a.bool_or(2, "keepdim", false)?);
    number!(a.any(0, "input|self")?, x => Ok(match (dim, max) {
        (Some(dim), true) => pair(x.max_dim(dim, keepdim)?),
        (Some(dim), false) => pair(x.min_dim(dim, keepdim)?),
        (None, true) => out![x.max()?],
        (None, false) => out![x.min()?],
    }))
}

fn norm<T: Real>(target: &str, a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let name = if target == "norm" { "p" } else { "ord" };
    let p = match a.is_str(1, name) {
        false => a.float_or(1, name, 2.)?,
        true => match a.str(1, name)? {
            "fro" => 2.,
            "inf" => f64::INFINITY,
            "-inf" => f64::NEG_INFINITY,
            other => return Err(Error::value("norm", format!("no norm is called `{other}`"))),
        },
    };
    let (dims, keepdim) = (a.opt_ints(2, "dim")?.unwrap_or_default(), a.bool_or(3, "keepdim", false)?);
    let dtype_at = if target == "norm" { 5 } else { KW };
    real!(input(a, dtype_at)?, x => Ok(out![x.norm(p, dims, keepdim)?]))
}

fn tensordot<T: Real>(a: &Args<T>) -> Result<Vec<AnyTensor>> {
    let (x, y) = (a.tensor(0, "a")?, a.tensor(1, "b")?);
    if let Some(crate::values::Value::List(lists)) = a.value(2, "dims") {
        let ints = |list: &crate::values::Value| -> Vec<isize> {
            use crate::values::Value;
            match list {
                Value::List(list) => {
                    list.iter().filter_map(|v| if let Value::Int(i) = v { Some(*i as isize) } else { None }).collect()
                }
                Value::Int(i) => vec![*i as isize],
                _ => Vec::new(),
            }
        };
        let [left, right] = &lists[..] else {
            return Err(Error::value("case", "expected two lists of axes"));
        };
        return Ok(out![x.tensordot_dims(&y, ints(left), ints(right))?]);
    }
    let n = usize::try_from(a.int_or(2, "dims", 2)?);
    let n = n.map_err(|_| Error::value("tensordot", "expected dims of at least 0"))?;
    Ok(out![x.tensordot(&y, n)?])
}
