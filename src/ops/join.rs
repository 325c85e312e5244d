//! Joining and splitting tensors.

use std::borrow::Borrow;

use ndarray::{Axis, Slice};
use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::{
        copy::{concat, placed},
        memory::{filled, vector},
        sizes::room,
    },
    tensor::{Element, Ints, Tensor, axis},
};

impl<T: Element> Tensor<T> {
    /// Joins tensors along an existing axis; all other axes must be equal. As in PyTorch, tensors of shape `[0]` are
    /// ignored, whatever the shape of the others.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (a, b) = (tensor![[1, 2]], tensor![[3, 4], [5, 6]]);
    /// assert_eq!(Tensor::cat(&[a, b], 0)?, tensor![[1, 2], [3, 4], [5, 6]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are no tensors or there is no such axis, the shapes differ on another axis, or there is not enough
    /// memory for the result.
    pub fn cat<B: Borrow<Tensor<T>>>(tensors: &[B], dim: isize) -> Result<Tensor<T>> {
        Self::joined(&borrowed(tensors), dim)
    }

    #[concrete(Element)]
    fn joined(tensors: &[&Tensor<T>], dim: isize) -> Result<Tensor<T>> {
        let mut shapes = vector(tensors.len());
        for t in tensors {
            shapes.push(t.shape());
        }
        let Joined { at, shape, places } = Joined::of(&shapes, dim)?;
        room::<T>("cat", &shape)?;
        let mut views = vector(tensors.len());
        for (t, place) in tensors.iter().zip(&places) {
            if place.is_some() {
                views.push(t.view());
            }
        }
        let out = concat(&shape, at, &views);
        Ok(Tensor::op_many("cat", out, tensors, move |g, needed| {
            let mut grads = vector(needed.len());
            for (&needed, place) in needed.iter().zip(&places) {
                grads.push(match place {
                    _ if !needed => None,
                    &Some((start, n)) => Some(g.narrow(at as isize, start as isize, n)?),
                    None => Some(Tensor::zeros([0])),
                });
            }
            Ok(grads)
        }))
    }

    /// Joins tensors of equal shape along a new axis.
    ///
    /// # Errors
    /// If there are no tensors or there is no such position, or the shapes differ.
    pub fn stack<B: Borrow<Tensor<T>>>(tensors: &[B], dim: isize) -> Result<Tensor<T>> {
        Self::stacked(&borrowed(tensors), dim)
    }

    #[concrete(Element)]
    fn stacked(tensors: &[&Tensor<T>], dim: isize) -> Result<Tensor<T>> {
        let first = tensors.first().ok_or_else(|| Error::shape("stack", "expected at least one tensor"))?;
        let at = axis("stack", dim, first.ndim() + 1)? as isize;
        if let Some((i, t)) = tensors.iter().enumerate().find(|(_, t)| t.shape() != first.shape()) {
            return Err(Error::shape(
                "stack",
                format!("tensor {i} is {:?}, the first is {:?}: expected one shape", t.shape(), first.shape()),
            ));
        }
        let mut longer = vector(tensors.len());
        for t in tensors {
            longer.push(t.unsqueeze(at)?);
        }
        Tensor::cat(&longer, at)
    }

    /// Pieces of `size` elements along an axis, the last of which may be smaller; views.
    ///
    /// # Errors
    /// If there is no such axis, or `size` is 0 and the axis is not empty.
    pub fn split(&self, size: usize, dim: isize) -> Result<Vec<Tensor<T>>> {
        let at = self.real_axis("split", dim)?;
        let n = self.shape()[at];
        if size == 0 && n != 0 {
            return Err(Error::value("split", format!("a size of 0 takes nothing from an axis of {n}")));
        }
        let pieces = n.div_ceil(size.max(1)).max(1);
        room::<Tensor<T>>("split", &[pieces])?;
        let mut sizes = vector(pieces);
        for i in 0..pieces {
            sizes.push(size.min(n - (i * size).min(n)));
        }
        self.pieces(at, &sizes)
    }

    /// Pieces of the given sizes along an axis; views.
    ///
    /// # Errors
    /// If there is no such axis, or the sizes do not add up to its length.
    pub fn split_with_sizes(&self, sizes: impl AsRef<[usize]>, dim: isize) -> Result<Vec<Tensor<T>>> {
        const OP: &str = "split_with_sizes";
        let (at, sizes) = (self.real_axis(OP, dim)?, sizes.as_ref());
        let n = self.shape()[at];
        if sizes.iter().try_fold(0usize, |sum, &s| sum.checked_add(s)) != Some(n) {
            return Err(Error::shape(OP, format!("{sizes:?} do not add up to axis {at} of {:?}", self.shape())));
        }
        self.pieces(at, sizes)
    }

    /// At most `chunks` pieces of equal size (the last one may be smaller) along an axis; views.
    ///
    /// # Errors
    /// If there is no such axis, or `chunks` is 0.
    pub fn chunk(&self, chunks: usize, dim: isize) -> Result<Vec<Tensor<T>>> {
        let at = self.real_axis("chunk", dim)?;
        if chunks == 0 {
            return Err(Error::value("chunk", "expected at least one chunk, got 0"));
        }
        match self.shape()[at] {
            0 => {
                room::<Tensor<T>>("chunk", &[chunks])?;
                self.pieces(at, &filled(chunks, 0))
            }
            n => self.split(n.div_ceil(chunks), dim),
        }
    }

    /// The slices along an axis, each without that axis; views.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn unbind(&self, dim: isize) -> Result<Vec<Tensor<T>>> {
        let at = self.real_axis("unbind", dim)?;
        room::<Tensor<T>>("unbind", &self.shape()[at..=at])?;
        let pieces = self.pieces(at, &filled(self.shape()[at], 1))?;
        let mut slices = vector(pieces.len());
        for piece in pieces {
            slices.push(piece.squeeze_dim(at as isize)?);
        }
        Ok(slices)
    }

    /// An existing axis: a scalar has none.
    pub(crate) fn real_axis(&self, op: &str, dim: isize) -> Result<usize> {
        match self.ndim() {
            0 => Err(Error::shape(op, "a scalar has no axes")),
            n => axis(op, dim, n),
        }
    }

    /// Splits into halves recursively: the gradient of a piece is padded to the halves that contain it, not to the
    /// whole tensor, so the backward pass of n pieces costs log n times the size of the tensor, not n times.
    fn pieces(&self, axis: usize, sizes: &[usize]) -> Result<Vec<Tensor<T>>> {
        fn push<T: Element>(x: &Tensor<T>, axis: usize, sizes: &[usize], pieces: &mut Vec<Tensor<T>>) -> Result<()> {
            match sizes {
                [] => return Ok(()),
                [_] => {
                    pieces.push(x.clone());
                    return Ok(());
                }
                _ => {}
            }
            let (left, right) = sizes.split_at(sizes.len() / 2);
            let (m, n) = (left.iter().sum::<usize>(), right.iter().sum());
            push(&x.narrow(axis as isize, 0, m)?, axis, left, pieces)?;
            push(&x.narrow(axis as isize, m as isize, n)?, axis, right, pieces)
        }
        let mut pieces = vector(sizes.len());
        push(self, axis, sizes, &mut pieces)?;
        Ok(pieces)
    }

    /// Shifts each axis of `dims` by the number of places in `shifts`; what leaves at one end comes back at the other.
    /// Without axes, this applies to the flattened tensor.
    ///
    /// # Errors
    /// If there is no such axis, or the number of shifts differs from that of axes.
    pub fn roll(&self, shifts: impl Into<Ints>, dims: impl Into<Ints>) -> Result<Tensor<T>> {
        let (shifts, dims) = (shifts.into().0, dims.into().0);
        if dims.is_empty() && shifts.len() == 1 {
            return self.reshape(self.numel() as isize)?.roll(shifts, 0)?.reshape(self.shape());
        }
        if shifts.len() != dims.len() || shifts.is_empty() {
            return Err(Error::shape("roll", format!("expected a shift for each axis, got {shifts:?} for {dims:?}")));
        }
        let mut out = self.clone();
        for (shift, dim) in shifts.into_iter().zip(dims) {
            let at = self.real_axis("roll", dim)?;
            let n = self.shape()[at] as isize;
            let back = shift.rem_euclid(n.max(1));
            if back != 0 {
                let at = at as isize;
                out = Tensor::cat(
                    &[out.narrow(at, n - back, back as usize)?, out.narrow(at, 0, (n - back) as usize)?],
                    at,
                )?;
            }
        }
        Ok(out)
    }

    /// Adds `pads[i] = (before, after)` elements of `value` to axis `i`; negative numbers cut elements off.
    ///
    /// # Errors
    /// If there is not one pair per axis, more is cut off than there is, or there is not enough memory for the result.
    pub fn constant_pad(&self, pads: &[(isize, isize)], value: T) -> Result<Tensor<T>> {
        const OP: &str = "constant_pad";
        let (shape, at) = padded(OP, self.shape(), pads)?;
        room::<T>(OP, &shape)?;
        let mut kept = self.data().clone();
        for (i, &(before, after)) in pads.iter().enumerate() {
            let end = kept.shape()[i] as isize + after.min(0);
            kept.slice_axis_inplace(Axis(i), Slice::new((-before).max(0), Some(end), 1));
        }
        if kept.shape() != shape {
            kept = placed(kept.view(), &shape, &at, value).into_shared();
        }
        let mut back = pads.to_vec();
        for (before, after) in &mut back {
            (*before, *after) = (-*before, -*after);
        }
        Ok(Tensor::op(OP, kept, [self], move |g, _| Ok([Some(g.constant_pad(&back, T::ZERO)?)])))
    }

    /// The coordinates of a grid: tensor `i` (a vector or a scalar) varies along axis `i` of every result. This is
    /// PyTorch's `indexing="ij"`.
    ///
    /// # Errors
    /// If a tensor has more than one axis, or there are none.
    pub fn meshgrid<B: Borrow<Tensor<T>>>(tensors: &[B]) -> Result<Vec<Tensor<T>>> {
        let shape: Vec<usize> = tensors.iter().map(|t| t.borrow().numel()).collect();
        if tensors.is_empty() || tensors.iter().any(|t| t.borrow().ndim() > 1) {
            return Err(Error::shape("meshgrid", "expected at least one tensor, each a vector or a scalar"));
        }
        let along = |(i, t): (usize, &B)| {
            let mut ones = vec![1; shape.len()];
            ones[i] = shape[i];
            t.borrow().reshape(&ones)?.broadcast_to(&shape)
        };
        tensors.iter().enumerate().map(along).collect()
    }
}

fn borrowed<T: Element, B: Borrow<Tensor<T>>>(tensors: &[B]) -> Vec<&Tensor<T>> {
    let mut borrowed = vector(tensors.len());
    for t in tensors {
        borrowed.push(t.borrow());
    }
    borrowed
}

/// The result of joining tensors.
struct Joined {
    at: usize,
    shape: Vec<usize>,
    /// Where each tensor begins on the axis, and its length; `None` for one that is ignored.
    places: Vec<Option<(usize, usize)>>,
}

impl Joined {
    fn of(shapes: &[&[usize]], dim: isize) -> Result<Joined> {
        const OP: &str = "cat";
        if let Some(i) = shapes.iter().position(|shape| shape.is_empty()) {
            return Err(Error::shape(OP, format!("tensor {i} is a scalar; stack() joins scalars")));
        }
        let first = shapes.iter().find(|&&shape| shape != [0]).or(shapes.first());
        let first = *first.ok_or_else(|| Error::shape(OP, "expected at least one tensor"))?;
        let at = axis(OP, dim, first.len())?;
        let (mut len, mut places) = (0usize, vector(shapes.len()));
        for (i, &shape) in shapes.iter().enumerate() {
            if shape == [0] {
                places.push(None);
                continue;
            }
            if shape.len() != first.len() || shape[..at] != first[..at] || shape[at + 1..] != first[at + 1..] {
                let message = format!("tensor {i} is {shape:?}, the first is {first:?}");
                return Err(Error::shape(OP, format!("{message}: they may differ only on axis {at}")));
            }
            places.push(Some((len, shape[at])));
            len = len.saturating_add(shape[at]);
        }
        let mut shape = first.to_vec();
        shape[at] = len;
        Ok(Joined { at, shape, places })
    }
}

/// The shape after padding, and where the elements begin on each axis.
fn padded(op: &str, shape: &[usize], pads: &[(isize, isize)]) -> Result<(Vec<usize>, Vec<usize>)> {
    let wrong = |why: &str| Error::shape(op, format!("{shape:?} by {pads:?}: {why}"));
    if pads.len() != shape.len() {
        return Err(wrong("expected (before, after) for each axis"));
    }
    let (mut padded, mut at) = (Vec::with_capacity(shape.len()), Vec::with_capacity(shape.len()));
    for (&n, &(before, after)) in shape.iter().zip(pads) {
        // Once it is known that no axis loses more than it has, each number can be negated without overflow.
        let kept = (n as isize).checked_add(before.min(0)).and_then(|kept| kept.checked_add(after.min(0)));
        let kept = kept.filter(|&kept| kept >= 0).ok_or_else(|| wrong("no axis is that long"))? as usize;
        padded.push(kept.saturating_add_signed(before.max(0)).saturating_add_signed(after.max(0)));
        at.push(before.max(0) as usize);
    }
    Ok((padded, at))
}
