//! Axes and sizes as a caller writes them: `1`, `-1`, `[0, 2]`.

use crate::{Error, Result};

/// A list of axes or sizes. A negative axis counts from the end; a negative size is computed from the others.
///
/// Made from one number, an array, a slice of `isize`, or a shape (`&[usize]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ints(pub Vec<isize>);

impl From<isize> for Ints {
    fn from(one: isize) -> Self {
        Ints(vec![one])
    }
}

impl<const N: usize> From<[isize; N]> for Ints {
    fn from(array: [isize; N]) -> Self {
        Ints(array.to_vec())
    }
}

impl From<&[isize]> for Ints {
    fn from(slice: &[isize]) -> Self {
        Ints(slice.to_vec())
    }
}

impl From<Vec<isize>> for Ints {
    fn from(vec: Vec<isize>) -> Self {
        Ints(vec)
    }
}

impl From<&[usize]> for Ints {
    fn from(shape: &[usize]) -> Self {
        // No axis is longer than that: a larger size is still too large, and does not become negative.
        Ints(shape.iter().map(|&n| n.min(isize::MAX as usize) as isize).collect())
    }
}

impl From<&Vec<usize>> for Ints {
    fn from(shape: &Vec<usize>) -> Self {
        shape.as_slice().into()
    }
}

/// A list of sizes, made from one number, an array or a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes(pub Vec<usize>);

impl From<usize> for Sizes {
    fn from(one: usize) -> Self {
        Sizes(vec![one])
    }
}

impl<const N: usize> From<[usize; N]> for Sizes {
    fn from(array: [usize; N]) -> Self {
        Sizes(array.to_vec())
    }
}

impl From<&[usize]> for Sizes {
    fn from(slice: &[usize]) -> Self {
        Sizes(slice.to_vec())
    }
}

impl From<Vec<usize>> for Sizes {
    fn from(vec: Vec<usize>) -> Self {
        Sizes(vec)
    }
}

/// The axis `dim` of `ndim` axes; a negative one counts from the end. As in PyTorch, a scalar accepts 0 and -1.
pub(crate) fn axis(op: &str, dim: isize, ndim: usize) -> Result<usize> {
    let n = ndim.max(1) as isize;
    if dim < -n || dim >= n {
        return Err(Error::shape(
            op,
            format!("there is no axis {dim} in a tensor of {ndim} (expected {} to {})", -n, n - 1),
        ));
    }
    Ok(if dim < 0 { dim + n } else { dim } as usize)
}

/// Several axes, each given once, in ascending order; an empty list means all of them.
pub(crate) fn axes(op: &str, dims: &Ints, ndim: usize) -> Result<Vec<usize>> {
    if dims.0.is_empty() {
        return Ok((0..ndim).collect());
    }
    let mut axes = dims.0.iter().map(|&d| axis(op, d, ndim)).collect::<Result<Vec<_>>>()?;
    axes.sort_unstable();
    if let Some(twice) = axes.windows(2).find(|w| w[0] == w[1]) {
        return Err(Error::shape(op, format!("axis {} is named twice in {:?}", twice[0], dims.0)));
    }
    Ok(if ndim == 0 { Vec::new() } else { axes })
}
