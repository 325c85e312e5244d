//! Joining and splitting tensors.

use std::borrow::Borrow;

use ndarray::{Axis, Slice};

use crate::{
    Error, Result,
    kernels::{
        copy::{concat, placed},
        memory::{collected, filled, try_collected, vector},
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
        const OP: &str = "cat";
        let tensors = collected(tensors.iter().map(Borrow::<Tensor<T>>::borrow));
        if let Some(i) = tensors.iter().position(|t| t.ndim() == 0) {
            return Err(Error::shape(OP, format!("tensor {i} is a scalar; stack() joins scalars")));
        }
        let passed_over = |t: &Tensor<T>| t.shape() == [0];
        let first = tensors.iter().find(|t| !passed_over(t)).or(tensors.first());
        let mut shape = first.ok_or_else(|| Error::shape(OP, "expected at least one tensor"))?.shape().to_vec();
        let at = axis(OP, dim, shape.len())?;
        shape[at] = 0;
        let mut starts = vector(tensors.len());
        for (i, t) in tensors.iter().enumerate() {
            starts.push(shape[at]);
            if passed_over(t) {
                continue;
            }
            let same = |(a, (m, n)): (usize, (&usize, &usize))| a == at || m == n;
            if t.ndim() != shape.len() || !t.shape().iter().zip(&shape).enumerate().all(same) {
                let first = first.expect("a tensor").shape();
                return Err(Error::shape(
                    OP,
                    format!("tensor {i} is {:?}, the first is {first:?}: they may differ only on axis {at}", t.shape()),
                ));
            }
            shape[at] = shape[at].saturating_add(t.shape()[at]);
        }
        room::<T>(OP, &shape)?;
        let views = collected(tensors.iter().filter(|t| !passed_over(t)).map(|t| t.view()));
        let out = concat(&shape, at, &views);
        let lengths = collected(tensors.iter().map(|t| (!passed_over(t)).then(|| t.shape()[at])));
        Ok(Tensor::op_many(OP, out, &tensors, move |g, needed| {
            let part = |i: usize| match lengths[i] {
                Some(n) => g.narrow(at as isize, starts[i] as isize, n),
                None => Ok(Tensor::zeros([0])),
            };
            try_collected(needed.iter().enumerate().map(|(i, &n)| n.then(|| part(i)).transpose()))
        }))
    }

    /// Joins tensors of equal shape along a new axis.
    ///
    /// # Errors
    /// If there are no tensors or there is no such position, or the shapes differ.
    pub fn stack<B: Borrow<Tensor<T>>>(tensors: &[B], dim: isize) -> Result<Tensor<T>> {
        let tensors = collected(tensors.iter().map(Borrow::<Tensor<T>>::borrow));
        let first = tensors.first().ok_or_else(|| Error::shape("stack", "expected at least one tensor"))?;
        let at = axis("stack", dim, first.ndim() + 1)? as isize;
        if let Some((i, t)) = tensors.iter().enumerate().find(|(_, t)| t.shape() != first.shape()) {
            return Err(Error::shape(
                "stack",
                format!("tensor {i} is {:?}, the first is {:?}: expected one shape", t.shape(), first.shape()),
            ));
        }
        Tensor::cat(&try_collected(tensors.iter().map(|t| t.unsqueeze(at)))?, at)
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
        let sizes = collected((0..pieces).map(|i| size.min(n - (i * size).min(n))));
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
        try_collected(pieces.into_iter().map(|p| p.squeeze_dim(at as isize)))
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
            if let [] | [_] = sizes {
                pieces.extend(sizes.first().map(|_| x.clone()));
                return Ok(());
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
        let wrong = |why: &str| Error::shape(OP, format!("{:?} by {pads:?}: {why}", self.shape()));
        if pads.len() != self.ndim() {
            return Err(wrong("expected (before, after) for each axis"));
        }
        // Once it is known that no axis loses more than it has, each number can be negated without overflow.
        let size = |(&n, &(before, after)): (&usize, &(isize, isize))| {
            let kept = (n as isize).checked_add(before.min(0))?.checked_add(after.min(0)).filter(|&kept| kept >= 0)?;
            Some((kept as usize).saturating_add_signed(before.max(0)).saturating_add_signed(after.max(0)))
        };
        let shape: Option<Vec<usize>> = self.shape().iter().zip(pads).map(size).collect();
        let shape = shape.ok_or_else(|| wrong("no axis is that long"))?;
        room::<T>(OP, &shape)?;
        let mut kept = self.data().clone();
        for (i, &(before, after)) in pads.iter().enumerate() {
            let end = kept.shape()[i] as isize + after.min(0);
            kept.slice_axis_inplace(Axis(i), Slice::new((-before).max(0), Some(end), 1));
        }
        if pads.iter().any(|&(before, after)| before > 0 || after > 0) {
            let at: Vec<usize> = pads.iter().map(|&(before, _)| before.max(0) as usize).collect();
            kept = placed(kept.view(), &shape, &at, value).into_shared();
        }
        let back: Vec<_> = pads.iter().map(|&(before, after)| (-before, -after)).collect();
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
