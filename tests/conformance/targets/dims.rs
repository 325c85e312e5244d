//! Arguments that hold one size per axis, and options that are refused where they are set.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndnn::{
    Error, Real, Result,
    functional::{Dims, PyNumber},
};

use crate::args::Args;

/// One number, or a list of one or of N; `None` if it is missing, None or an empty list.
pub fn dims<const N: usize, T: Real>(a: &Args<T>, index: usize, name: &str) -> Result<Option<Dims<N>>> {
    let is_list = a.is_list(index, name);
    let Some(sizes) = a.opt_sizes(index, name)? else { return Ok(None) };
    match (sizes.as_slice(), <[usize; N]>::try_from(sizes.as_slice())) {
        ([], _) => Ok(None),
        (_, Ok(each)) if is_list => Ok(Some(each.into())),
        (&[one], _) => Ok(Some(one.into())),
        _ => Err(Error::value("case", format!("`{name}` is {sizes:?}, expected {N} numbers"))),
    }
}

/// As [`dims`], with a default.
pub fn dims_or<const N: usize, T: Real>(a: &Args<T>, index: usize, name: &str, default: usize) -> Result<Dims<N>> {
    Ok(dims(a, index, name)?.unwrap_or(default.into()))
}

/// A number that prints as it was given: `1` or `1.0`.
pub fn py_number<T: Real>(a: &Args<T>, index: usize, name: &str, default: PyNumber) -> Result<PyNumber> {
    if !a.has(index, name) {
        return Ok(default);
    }
    Ok(if a.is_int(index, name) { (a.int(index, name)? as i32).into() } else { a.float(index, name)?.into() })
}

/// The text of the error that [`refused`] makes of a panic.
pub const REFUSED: &str = "refused where it was set";

/// The result of `make`; a panic becomes an error: PyTorch's constructors raise where ndnn's setters panic.
pub fn refused<R>(make: impl FnOnce() -> R) -> Result<R> {
    catch_unwind(AssertUnwindSafe(make)).map_err(|_| Error::value("case", REFUSED))
}
