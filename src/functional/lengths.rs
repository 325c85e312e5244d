//! [`Lengths`]: how long each sequence of a batch is; and offsets, where groups begin or end.

use std::{fmt, ops::RangeInclusive};

use crate::{Error, Result, kernels::memory::vector, tensor::Tensor};

/// The lengths of the sequences of a batch: from a slice, an array or a `Vec` of `usize`, or from a `Tensor<i64>`, all by
/// reference.
///
/// ```
/// use ndnn::{functional::Lengths, tensor};
/// assert_eq!(Lengths::from(&[3, 1]), Lengths::from(&tensor![3_i64, 1]));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Lengths(Tensor<i64>);

macro_rules! from_sizes {
    ($([$($generics:tt)*] $ty:ty;)*) => {$(
        impl<$($generics)*> From<$ty> for Lengths {
            #[inline]
            fn from(lengths: $ty) -> Self {
                Lengths(lengths.iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect())
            }
        }
    )*};
}
from_sizes! { [] &[usize]; [const N: usize] &[usize; N]; [] &Vec<usize>; }

impl From<&Tensor<i64>> for Lengths {
    fn from(lengths: &Tensor<i64>) -> Self {
        Lengths(lengths.clone())
    }
}

impl Lengths {
    /// The lengths, each in `range`; `name` is what they are called.
    pub(crate) fn within(&self, op: &str, name: &str, range: RangeInclusive<usize>) -> Result<Vec<usize>> {
        if self.0.ndim() > 1 {
            let what = format!("the {name}s are {:?}, expected one axis: one per sequence", self.0.shape());
            return Err(Error::shape(op, what));
        }
        let one = |(i, n): (usize, i64)| {
            usize::try_from(n).ok().filter(|n| range.contains(n)).ok_or_else(|| {
                let (shortest, longest) = (range.start(), range.end());
                let what = format!("the {name} of sequence {i} is {n}, expected {shortest} to {longest}");
                Error::value(op, what)
            })
        };
        self.0.to_vec().into_iter().enumerate().map(one).collect()
    }

    /// The lengths of `batch` sequences, each in `range`.
    pub(crate) fn of_batch(
        &self,
        op: &str,
        name: &str,
        batch: usize,
        range: RangeInclusive<usize>,
    ) -> Result<Vec<usize>> {
        let lengths = self.within(op, name, range)?;
        match lengths.len() {
            n if n == batch => Ok(lengths),
            n => Err(Error::shape(op, format!("expected {batch} {name}s, one per sequence, got {n}"))),
        }
    }
}

/// The offsets, with space for one more, if they do not decrease and none is above `len`, which an error calls `most`.
pub(super) fn ascending(op: &str, offsets: &[i64], len: usize, most: fmt::Arguments<'_>) -> Result<Vec<usize>> {
    let mut out: Vec<usize> = vector(offsets.len() + 1);
    for (i, &offset) in offsets.iter().enumerate() {
        match usize::try_from(offset) {
            Ok(at) if at <= len && out.last().is_none_or(|&before| before <= at) => out.push(at),
            _ => {
                let what = format!("it must not be less than the one before it, nor more than {most}");
                return Err(Error::value(op, format!("offset {i} is {offset}; {what}")));
            }
        }
    }
    Ok(out)
}
