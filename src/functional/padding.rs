//! Padding: adding elements at the ends of axes.

use super::{options, words};
use crate::{
    Error, Result,
    kernels::{memory::collected, sizes::room},
    python::{AsPython, py_tuple},
    tensor::{Element, Tensor},
};

/// How many elements a layer adds before and after each of N axes: one number for all, or an array in PyTorch's order, the
/// last axis first; negative numbers cut elements off.
///
/// ```
/// use ndnn::functional::Pads;
/// assert_eq!(Pads::<2>::from([1, 2, 3, 4]).get(), [[1, 2], [3, 4]]);
/// assert_eq!(Pads::<2>::from(1).get(), [[1, 1], [1, 1]]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pads<const N: usize>([[isize; 2]; N]);

impl<const N: usize> Pads<N> {
    /// Before and after each axis, the last axis first.
    pub fn get(self) -> [[isize; 2]; N] {
        self.0
    }
}

impl<const N: usize> From<isize> for Pads<N> {
    fn from(one: isize) -> Self {
        Pads([[one; 2]; N])
    }
}

impl From<[isize; 2]> for Pads<1> {
    fn from(pads: [isize; 2]) -> Self {
        Pads([pads])
    }
}

impl From<[isize; 4]> for Pads<2> {
    fn from([a, b, c, d]: [isize; 4]) -> Self {
        Pads([[a, b], [c, d]])
    }
}

impl From<[isize; 6]> for Pads<3> {
    fn from([a, b, c, d, e, f]: [isize; 6]) -> Self {
        Pads([[a, b], [c, d], [e, f]])
    }
}

/// As PyTorch prints them: `(1, 1, 1, 1)`.
impl<const N: usize> AsPython for Pads<N> {
    fn python(&self) -> String {
        py_tuple(self.0.as_flattened())
    }
}

words! {
    /// What padding fills in: the argument `padding_mode` of layers and `mode` of [`pad`].
    pub enum PaddingMode, "padding mode" {
        /// One value: zeros, unless [`pad`] is given another one; the default.
        #[default]
        Constant = "constant" | "zeros",
        /// The elements next to the end in reverse order, without repeating the last one: `3 2 | 1 2 3`.
        Reflect = "reflect",
        /// The last element, repeated: `1 1 | 1 2 3`.
        Replicate = "replicate",
        /// The elements from the other end: `2 3 | 1 2 3`.
        Circular = "circular",
    }
}

options! {
    /// The options of [`pad`]. A number, a mode or its name can be given instead: `0.5`, `"reflect"`.
    pub struct PadOptions, setters pad_setters {
        /// What is filled in; one value by default.
        mode: into PaddingMode = PaddingMode::Constant;
        /// The value of [`PaddingMode::Constant`]; 0 by default.
        value: into Option<f64> = None;
    }
    if |o| o.value.is_none_or(|value| value == 0.) || o.mode == PaddingMode::Constant, "only the padding mode \"constant\" takes a value"
}

impl From<f64> for PadOptions {
    #[inline]
    fn from(value: f64) -> Self {
        PadOptions::default().value(value)
    }
}

impl From<PaddingMode> for PadOptions {
    #[inline]
    fn from(mode: PaddingMode) -> Self {
        PadOptions::default().mode(mode)
    }
}

/// From the mode's name.
///
/// # Panics
/// If there is no such mode.
impl From<&str> for PadOptions {
    #[track_caller]
    #[inline]
    fn from(mode: &str) -> Self {
        PadOptions::default().mode(mode)
    }
}

/// Adds elements at the ends of the last axes; negative numbers cut elements off.
///
/// `pads` is in PyTorch's order: before and after the last axis, before and after the one before it, and so on. A
/// constant pads any axes of any tensor; the other modes pad the last 1, 2 or 3 axes, which must follow one or two
/// more.
///
/// ```
/// use ndnn::{functional::{self as F, PaddingMode}, prelude::*};
/// let x = tensor![[1.0, 2.0, 3.0]];
/// assert_eq!(F::pad(&x, [1, 2], 0.5)?, tensor![[0.5, 1.0, 2.0, 3.0, 0.5, 0.5]]);
/// assert_eq!(F::pad(&x, [2, 1], PaddingMode::Reflect)?, tensor![[3.0, 2.0, 1.0, 2.0, 3.0, 2.0]]);
/// assert_eq!(F::pad(&x, [2, -1], "replicate")?, tensor![[1.0, 1.0, 1.0, 2.0]]);
/// assert_eq!(F::pad(&x, [1, 1], "circular")?, tensor![[3.0, 1.0, 2.0, 3.0, 1.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is not one pair per axis to pad, more is cut off than there is, or there are too few elements to reflect or
/// to wrap around.
pub fn pad<T: Element>(
    input: &Tensor<T>,
    pads: impl AsRef<[isize]>,
    options: impl Into<PadOptions>,
) -> Result<Tensor<T>> {
    let (pads, PadOptions { mode, value }) = (pads.as_ref(), options.into());
    let each = of_each_axis(input.shape(), pads)?;
    let shape: Vec<usize> = each.iter().map(|axis| axis.padded).collect();
    room::<T>("pad", &shape)?;
    if mode == PaddingMode::Constant {
        let pads: Vec<_> = each.iter().map(|axis| (axis.before, axis.after)).collect();
        return input.constant_pad(&pads, T::of(value.unwrap_or(0.)));
    }
    let mut out = if mode == PaddingMode::Circular { input.clone() } else { connected(input) };
    for (axis, index) in indices(mode, input.shape(), pads, &each)? {
        out = out.rows_taken("pad", axis, index)?;
    }
    Ok(out)
}

/// How an axis is padded.
struct Padded {
    before: isize,
    after: isize,
    /// Its length with what is added.
    padded: usize,
}

fn wrong(shape: &[usize], pads: &[isize], why: String) -> Error {
    Error::shape("pad", format!("{shape:?} by {pads:?}: {why}"))
}

fn of_each_axis(shape: &[usize], pads: &[isize]) -> Result<Vec<Padded>> {
    let ndim = shape.len();
    let (pairs, rest) = pads.as_chunks::<2>();
    if !rest.is_empty() || pairs.len() > ndim {
        let why = format!("expected a pair of numbers for each axis to pad, for at most {ndim} axes");
        return Err(wrong(shape, pads, why));
    }
    let mut each = Vec::with_capacity(ndim);
    for (axis, &n) in shape.iter().enumerate() {
        let [before, after] = pairs.get(ndim - 1 - axis).copied().unwrap_or([0, 0]);
        let padded = usize::try_from(n as i128 + before as i128 + after as i128).ok();
        // All of -isize::MAX..=isize::MAX can be negated.
        let padded = padded
            .filter(|_| before != isize::MIN && after != isize::MIN)
            .ok_or_else(|| wrong(shape, pads, "an axis would have fewer than 0 elements, or too many".into()))?;
        each.push(Padded { before, after, padded });
    }
    Ok(each)
}

/// The axes that are padded by elements of their own, with the element for each place.
fn indices(mode: PaddingMode, shape: &[usize], pads: &[isize], each: &[Padded]) -> Result<Vec<(usize, Vec<usize>)>> {
    let (ndim, last) = (shape.len(), pads.len() / 2);
    if !(1..=3).contains(&last) || !(last + 1..=last + 2).contains(&ndim) {
        let why = "this mode pads the last 1, 2 or 3 axes of a tensor with one or two axes more; the mode \"constant\" pads any";
        return Err(wrong(shape, pads, why.into()));
    }
    // As in PyTorch the batch may be empty, and with circular padding any axis.
    let data = usize::from(ndim == last + 2);
    if mode != PaddingMode::Circular
        && (shape[data..].contains(&0) || each[ndim - last..].iter().any(|axis| axis.padded == 0))
    {
        let padded: Vec<usize> = each.iter().map(|axis| axis.padded).collect();
        let why = format!("no axis but the batch may be empty, before or after; the result is {padded:?}");
        return Err(wrong(shape, pads, why));
    }
    let mut indices = Vec::new();
    for (axis, &Padded { before, after, padded }) in
        each.iter().enumerate().filter(|(_, a)| (a.before, a.after) != (0, 0))
    {
        room::<usize>("pad", &[padded])?;
        let index = sources(mode, shape[axis], before, after).ok_or_else(|| {
            let why = format!("has only {} elements to pad from, {before} and {after} are asked for", shape[axis]);
            wrong(shape, pads, format!("axis {axis} {why}"))
        })?;
        indices.push((axis, index));
    }
    Ok(indices)
}

/// `x`, with a gradient that is connected to `x` by a derivative of 0, as PyTorch's is.
fn connected<T: Element>(x: &Tensor<T>) -> Tensor<T> {
    let input = x.clone();
    Tensor::op("pad", x.data().clone(), [x], move |g, _| {
        let x = input.clone();
        Ok([Some(Tensor::op("pad_backward", g.data().clone(), [g, &input], move |h, [by_g, by_x]| {
            Ok([by_g.then(|| h.clone()), by_x.then(|| x.zeros_like())])
        }))])
    })
}

/// For each place of a padded axis, the element of the original axis of length `n`; `None` if there are too few.
fn sources(mode: PaddingMode, n: usize, before: isize, after: isize) -> Option<Vec<usize>> {
    let n = n as isize;
    let reach = before.max(after);
    // `n + after` may overflow although the length of the result does not, if a negative `before` cuts elements off.
    let places = -before..n.checked_add(after)?;
    let index = |place: fn(isize, isize) -> isize| collected(places.clone().map(|i| place(i, n) as usize));
    match mode {
        PaddingMode::Constant => None,
        PaddingMode::Replicate => Some(index(|i, n| i.clamp(0, n - 1))),
        PaddingMode::Reflect if reach >= n => None,
        PaddingMode::Reflect => Some(index(|i, n| if i < 0 { -i } else { i.min(2 * (n - 1) - i) })),
        PaddingMode::Circular => {
            // Elements that are cut off do not come back at the other end.
            let (first, end) = ((-before).max(0), n + after.min(0));
            let len = end - first;
            let at = |i: isize| (first + (i - first).rem_euclid(len)) as usize;
            (len >= 0 && reach <= len).then(|| collected(places.map(at)))
        }
    }
}
