//! `x.index((0, 1..3, ..))`: several ways of indexing at once, as in `x[0, 1:3, :]`.

use std::ops::{Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::{
    Error, Result,
    kernels::{elementwise::broadcast_shape, memory::filled, sizes::room},
    ops::gather::positions,
    tensor::{Element, Int, Tensor},
};

/// One entry of [`Tensor::index`].
#[derive(Clone, Debug)]
pub enum Index {
    /// One position; the axis is removed. Negative counts from the end.
    At(isize),
    /// `start..end` with a step, as in Python slices.
    Slice(Option<isize>, Option<isize>, usize),
    /// All axes that no other entry refers to: Python's `...`.
    Ellipsis,
    /// A new axis of length 1: Python's `None`.
    NewAxis,
    /// The positions that a tensor holds; negative ones count from the end.
    Places(Tensor<i64>),
    /// The positions where a mask is true; it covers as many axes as it has.
    Mask(Tensor<bool>),
}

/// The end of a range that includes `last`; `None` if it includes the last element of the axis.
fn after(last: isize) -> Option<isize> {
    (last != -1).then(|| last.saturating_add(1))
}

macro_rules! index_from {
    ($([$($generics:tt)*] $t:ty: $x:ident => $index:expr;)*) => {$(
        impl<$($generics)*> From<$t> for Index {
            fn from($x: $t) -> Index {
                $index
            }
        }
        impl<$($generics)*> Indices for $t {
            fn indices(self) -> Vec<Index> {
                vec![self.into()]
            }
        }
    )*};
}
index_from! {
    [I: Int] I: i => Index::At(i.to_isize());
    [I: Int] Range<I>: r => Index::Slice(Some(r.start.to_isize()), Some(r.end.to_isize()), 1);
    [I: Int] RangeFrom<I>: r => Index::Slice(Some(r.start.to_isize()), None, 1);
    [I: Int] RangeTo<I>: r => Index::Slice(None, Some(r.end.to_isize()), 1);
    [I: Int] RangeInclusive<I>: r => Index::Slice(Some(r.start().to_isize()), after(r.end().to_isize()), 1);
    [I: Int] RangeToInclusive<I>: r => Index::Slice(None, after(r.end.to_isize()), 1);
    [] RangeFull: _r => Index::Slice(None, None, 1);
    [] &Tensor<i64>: t => Index::Places(t.clone());
    [] &Tensor<bool>: t => Index::Mask(t.clone());
}

/// What [`Tensor::index`] accepts: one entry, a tuple of entries, or a list of [`Index`].
pub trait Indices {
    /// The entries, in the order of the axes.
    fn indices(self) -> Vec<Index>;
}

impl Indices for Index {
    fn indices(self) -> Vec<Index> {
        vec![self]
    }
}

impl Indices for Vec<Index> {
    fn indices(self) -> Vec<Index> {
        self
    }
}

impl<const N: usize> Indices for [Index; N] {
    fn indices(self) -> Vec<Index> {
        self.into()
    }
}

macro_rules! tuples {
    ($(($($t:ident $x:ident),+))*) => {$(
        impl<$($t: Into<Index>),+> Indices for ($($t,)+) {
            fn indices(self) -> Vec<Index> {
                let ($($x,)+) = self;
                vec![$($x.into()),+]
            }
        }
    )*};
}
tuples! { (A a) (A a, B b) (A a, B b, C c) (A a, B b, C c, D d) (A a, B b, C c, D d, E e) (A a, B b, C c, D d, E e, F f) }

impl<T: Element> Tensor<T> {
    /// PyTorch's `x[…]`: numbers, ranges, tensors of positions and masks, one per axis, and [`Index::NewAxis`] and
    /// [`Index::Ellipsis`]. Without tensors the result is a view.
    ///
    /// Tensors of positions broadcast together; their axes take the place of the indexed axes, or come first if those
    /// are not adjacent.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![[0, 1, 2], [3, 4, 5]];
    /// assert_eq!(x.index(-1)?, tensor![3, 4, 5]);
    /// assert_eq!(x.index((.., 1..))?, tensor![[1, 2], [4, 5]]);
    /// assert_eq!(x.index((0, ..=1))?, tensor![0, 1]);
    /// assert_eq!(x.index((.., &tensor![2, 0]))?, tensor![[2, 0], [5, 3]]);
    /// assert_eq!(x.index(&tensor![[true, false, true], [false, true, false]])?, tensor![0, 2, 4]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are more entries than axes, more than one ellipsis, an index is out of range, or tensors do not match.
    pub fn index(&self, indices: impl Indices) -> Result<Tensor<T>> {
        const OP: &str = "index";
        let indices = indices.indices();
        let takes = |i: &Index| match i {
            Index::NewAxis | Index::Ellipsis => 0,
            Index::Mask(mask) => mask.ndim(),
            _ => 1,
        };
        let named: usize = indices.iter().map(takes).sum();
        let Some(open) = self.ndim().checked_sub(named) else {
            return Err(Error::index(OP, format!("{named} indices for the axes of {:?}", self.shape())));
        };
        if indices.iter().filter(|i| matches!(i, Index::Ellipsis)).count() > 1 {
            return Err(Error::index(OP, "there can be only one ellipsis"));
        }
        // Views first, while collecting the tensors; `at` is the current axis of `out`.
        let (mut out, mut at, mut places) = (self.clone(), 0, Vec::new());
        for index in indices {
            match index {
                Index::At(i) => out = out.select(at as isize, i)?,
                Index::Slice(start, end, step) => {
                    out = out.slice(at as isize, start, end, step)?;
                    at += 1;
                }
                Index::Ellipsis => at += open,
                Index::NewAxis => {
                    out = out.unsqueeze(at as isize)?;
                    at += 1;
                }
                Index::Places(t) => {
                    places.push((at, t));
                    at += 1;
                }
                Index::Mask(mask) => {
                    if mask.shape() != &out.shape()[at..at + mask.ndim()] {
                        return Err(Error::index(
                            OP,
                            format!("a mask {:?} on axis {at} of {:?}", mask.shape(), out.shape()),
                        ));
                    }
                    if mask.ndim() == 0 {
                        out = out.unsqueeze(at as isize)?;
                        places.push((at, if mask.item()? { Tensor::zeros([1]) } else { Tensor::zeros([0]) }));
                        at += 1;
                    }
                    for column in mask.nonzero().unbind(1)? {
                        places.push((at, column));
                        at += 1;
                    }
                }
            }
        }
        if places.is_empty() { Ok(out) } else { out.at_places(&places) }
    }

    /// The elements that tensors of positions select on their axes, which are in ascending order.
    fn at_places(&self, places: &[(usize, Tensor<i64>)]) -> Result<Tensor<T>> {
        const OP: &str = "index";
        let mut shape = Vec::new();
        for (_, t) in places {
            shape = broadcast_shape(&shape, t.shape())
                .ok_or_else(|| {
                    let shapes: Vec<_> = places.iter().map(|(_, t)| t.shape()).collect();
                    Error::index(OP, format!("tensors of places {shapes:?} do not broadcast together"))
                })?
                .into_owned();
        }
        // The indexed axes become one in front, and their positions one index into it.
        let axes: Vec<usize> = places.iter().map(|&(axis, _)| axis).collect();
        let mut row = filled(room::<usize>(OP, &shape)?, 0);
        let mut count = 1;
        for (axis, t) in places {
            let n = self.shape()[*axis];
            let positions = positions(OP, &t.broadcast_to(&shape)?, *axis, self.shape(), true)?;
            row.iter_mut().zip(positions).for_each(|(r, p)| *r = *r * n + p);
            count *= n;
        }
        let from: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
        let to: Vec<isize> = (0..axes.len() as isize).collect();
        let front = self.movedim(from, to)?;
        let rest = front.shape()[axes.len()..].to_vec();
        let rows = front.reshape([&[count], &rest[..]].concat())?;
        let taken = rows.rows_taken(OP, 0, row)?.reshape([&shape[..], &rest].concat())?;
        if axes.windows(2).any(|w| w[1] != w[0] + 1) {
            return Ok(taken);
        }
        let from: Vec<isize> = (0..shape.len() as isize).collect();
        let to: Vec<isize> = from.iter().map(|i| i + axes[0] as isize).collect();
        if from.is_empty() { Ok(taken) } else { taken.movedim(from, to) }
    }
}
