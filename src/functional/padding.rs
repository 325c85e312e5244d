//! Padding: more elements at the ends of axes.

use std::fmt;

use crate::{
    Error, Result,
    kernels::{memory::collected, sizes::room},
    tensor::{Element, Tensor},
};

/// What a convolution pads its input with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PaddingMode {
    /// Zeros; the default.
    #[default]
    Zeros,
    /// The elements next to the end in reverse order, the last one not repeated: `3 2 | 1 2 3`.
    Reflect,
    /// The last element again and again: `1 1 | 1 2 3`.
    Replicate,
    /// The elements of the other end: `2 3 | 1 2 3`.
    Circular,
}

/// As PyTorch prints it: `reflect`.
impl fmt::Display for PaddingMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PaddingMode::Zeros => "zeros",
            PaddingMode::Reflect => "reflect",
            PaddingMode::Replicate => "replicate",
            PaddingMode::Circular => "circular",
        })
    }
}

/// By PyTorch's name.
impl TryFrom<&str> for PaddingMode {
    type Error = Error;
    fn try_from(name: &str) -> Result<Self> {
        let modes = [PaddingMode::Zeros, PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular];
        modes.into_iter().find(|mode| mode.to_string() == name).ok_or_else(|| {
            let what = format!("{name:?}: expected \"zeros\", \"reflect\", \"replicate\" or \"circular\"");
            Error::value("padding_mode", what)
        })
    }
}

/// What [`pad`] pads with: a value, or what there is at the ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PadMode {
    /// One value.
    Constant(f64),
    /// See [`PaddingMode::Reflect`].
    Reflect,
    /// See [`PaddingMode::Replicate`].
    Replicate,
    /// See [`PaddingMode::Circular`].
    Circular,
}

impl From<f64> for PadMode {
    fn from(value: f64) -> Self {
        PadMode::Constant(value)
    }
}

impl From<PaddingMode> for PadMode {
    fn from(mode: PaddingMode) -> Self {
        match mode {
            PaddingMode::Zeros => PadMode::Constant(0.),
            PaddingMode::Reflect => PadMode::Reflect,
            PaddingMode::Replicate => PadMode::Replicate,
            PaddingMode::Circular => PadMode::Circular,
        }
    }
}

/// Adds elements at the ends of the last axes; negative numbers cut off.
///
/// `pads` is PyTorch's order: before and after the last axis, before and after the one before it, and so on. A constant
/// pads any axes of any tensor; the other modes the last 1, 2 or 3 axes, in front of which are one or two more.
///
/// ```
/// use ndnn::{functional::{self as F, PadMode}, prelude::*};
/// let x = tensor![[1.0, 2.0, 3.0]];
/// assert_eq!(F::pad(&x, [1, 2], 0.5)?, tensor![[0.5, 1.0, 2.0, 3.0, 0.5, 0.5]]);
/// assert_eq!(F::pad(&x, [2, 1], PadMode::Reflect)?, tensor![[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]);
/// assert_eq!(F::pad(&x, [2, -1], PadMode::Replicate)?, tensor![[1.0, 1.0, 1.0, 2.0]]);
/// assert_eq!(F::pad(&x, [1, 1], PadMode::Circular)?, tensor![[3.0, 1.0, 2.0, 3.0, 1.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no pair for each axis to pad, more is cut off than there is, or there are too few elements to reflect or
/// to go round.
pub fn pad<T: Element>(input: &Tensor<T>, pads: impl AsRef<[isize]>, mode: impl Into<PadMode>) -> Result<Tensor<T>> {
    let (pads, mode, ndim) = (pads.as_ref(), mode.into(), input.ndim());
    let wrong = |why: String| Error::shape("pad", format!("{:?} by {pads:?}: {why}", input.shape()));
    let (pairs, rest) = pads.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > ndim {
        return Err(wrong(format!("expected a pair of numbers for each axis to pad, for at most {ndim} axes")));
    }
    let mut each = vec![(0, 0); ndim];
    each.iter_mut().rev().zip(pairs).for_each(|(pair, &[before, after])| *pair = (before, after));
    // All of -isize::MAX..=isize::MAX can be negated.
    let size = |(&n, &(before, after)): (&usize, &(isize, isize))| {
        before.checked_neg().and(after.checked_neg())?;
        usize::try_from(n as i128 + before as i128 + after as i128).ok()
    };
    let shape: Option<Vec<usize>> = input.shape().iter().zip(&each).map(size).collect();
    let shape = shape.ok_or_else(|| wrong("an axis would have fewer than 0 elements, or too many".into()))?;
    room::<T>("pad", &shape)?;
    if let PadMode::Constant(value) = mode {
        return input.constant_pad(&each, T::of(value));
    }
    if !(1..=3).contains(&pairs.len()) || !(pairs.len() + 1..=pairs.len() + 2).contains(&ndim) {
        return Err(wrong(
            "this mode pads the last 1, 2 or 3 axes of a tensor with one or two axes more; \
             PadMode::Constant pads any"
                .into(),
        ));
    }
    // As in PyTorch the batch may be empty, and with circular padding everything.
    let data = if ndim == pairs.len() + 2 { 1.. } else { 0.. };
    if mode != PadMode::Circular && (input.shape()[data].contains(&0) || shape[ndim - pairs.len()..].contains(&0)) {
        return Err(wrong(format!("no axis but the batch may be empty, before or after; the result is {shape:?}")));
    }
    let mut out = input.clone();
    for (axis, (&n, &(before, after))) in input.shape().iter().zip(&each).enumerate() {
        if (before, after) != (0, 0) {
            room::<usize>("pad", &shape[axis..=axis])?;
            let index = sources(mode, n, before, after).ok_or_else(|| {
                wrong(format!("axis {axis} has only {n} elements to pad from, {before} and {after} are asked for"))
            })?;
            out = out.rows_taken("pad", axis, index)?;
        }
    }
    Ok(out)
}

/// Which element of an axis of `n` stands at each place of the padded one; `None` where there are too few.
fn sources(mode: PadMode, n: usize, before: isize, after: isize) -> Option<Vec<usize>> {
    let n = n as isize;
    let reach = before.max(after);
    // What is left of the axis after all can be counted, what was cut off after an enormous start cannot.
    let places = -before..n.checked_add(after)?;
    let index = |place: fn(isize, isize) -> isize| collected(places.clone().map(|i| place(i, n) as usize));
    match mode {
        PadMode::Constant(_) => None,
        PadMode::Replicate => Some(index(|i, n| i.clamp(0, n - 1))),
        PadMode::Reflect if reach >= n => None,
        PadMode::Reflect => Some(index(|i, n| if i < 0 { -i } else { i.min(2 * (n - 1) - i) })),
        PadMode::Circular => {
            // What is cut off does not come back at the other end.
            let (first, end) = ((-before).max(0), n + after.min(0));
            let len = end - first;
            let at = |i: isize| (first + (i - first).rem_euclid(len)) as usize;
            (len >= 0 && reach <= len).then(|| collected(places.map(at)))
        }
    }
}
