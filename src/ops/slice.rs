//! Taking parts of a tensor: by range and by diagonal.

use ndarray::{Axis, Slice};
use ndnn_derive::concrete;

use super::{gather::out_of_range, shape::at_least_two};
use crate::{
    Error, Result,
    kernels::{
        copy::{copy_into, diagonals, put_diagonals},
        gather::mask_matrix,
        memory::{collected, full},
        sizes::room,
    },
    tensor::{Element, Int, Tensor, axis},
};

// ------------------------------------------------------------------------------------------------ ranges: always views

impl<T: Element> Tensor<T> {
    /// The `length` elements from `start` (negative counts from the end) along an axis; shares memory.
    ///
    /// # Errors
    /// If there is no such axis, or the range exceeds it.
    #[concrete(Element)]
    pub fn narrow(&self, dim: isize, start: impl Int, length: usize) -> Result<Tensor<T>> {
        let at = self.real_axis("narrow", dim)?;
        let n = self.shape()[at];
        let from = if start < 0 { start + n as isize } else { start };
        if from < 0 || (from as usize).checked_add(length).is_none_or(|end| end > n) {
            return Err(Error::index(
                "narrow",
                format!("{length} elements from {start} leave axis {at} of size {n} ({:?})", self.shape()),
            ));
        }
        Ok(self.sliced("narrow", at, from as usize, length, 1))
    }

    /// Every `step`-th element from `start` (included) to `end` (excluded) along an axis, as in Python slices: negative
    /// numbers count from the end, `None` means the end of the axis, and positions out of range are cut off. Shares
    /// memory.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![0, 1, 2, 3, 4].slice(0, -4, None, 2)?, tensor![1, 3]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis, or `step` is 0.
    pub fn slice(
        &self,
        dim: isize,
        start: impl Into<Option<isize>>,
        end: impl Into<Option<isize>>,
        step: usize,
    ) -> Result<Tensor<T>> {
        let at = self.real_axis("slice", dim)?;
        if step == 0 {
            return Err(Error::value("slice", "expected a step above 0"));
        }
        let n = self.shape()[at] as isize;
        let clamp = |i: isize| if i < 0 { i.saturating_add(n).max(0) } else { i.min(n) } as usize;
        let (start, end) = (clamp(start.into().unwrap_or(0)), clamp(end.into().unwrap_or(n)));
        Ok(self.sliced("slice", at, start, end.saturating_sub(start).div_ceil(step), step))
    }

    /// `count` elements from `start`, `step` apart; the range was checked.
    fn sliced(&self, name: &'static str, at: usize, start: usize, count: usize, step: usize) -> Tensor<T> {
        let mut data = self.data().clone();
        data.slice_axis_inplace(Axis(at), range(start, count, step));
        let n = self.shape()[at];
        Tensor::op(name, data, [self], move |g, _| Ok([Some(g.unsliced(at, n, start, step))]))
    }

    /// The derivative of [`sliced`](Tensor::sliced): puts the elements back into their places on an axis of length `n`,
    /// with zeros in between.
    fn unsliced(&self, at: usize, n: usize, start: usize, step: usize) -> Tensor<T> {
        let count = self.shape()[at];
        let mut shape = self.shape().to_vec();
        shape[at] = n;
        let mut out = full("unslice", &shape, T::ZERO);
        copy_into(out.slice_axis_mut(Axis(at), range(start, count, step)), self.view());
        Tensor::op("unslice", out, [self], move |g, _| Ok([Some(g.sliced("slice", at, start, count, step))]))
    }

    /// The slice at one index (negative counts from the end) of an axis, without the axis; shares memory.
    ///
    /// # Errors
    /// If there is no such axis or index.
    #[concrete(Element)]
    pub fn select(&self, dim: isize, index: impl Int) -> Result<Tensor<T>> {
        let at = self.real_axis("select", dim)?;
        let n = self.shape()[at];
        let from = if index < 0 { index + n as isize } else { index };
        if from < 0 || from >= n as isize {
            return Err(out_of_range("select", index as i64, at, self.shape()));
        }
        let from = from as usize;
        let mut data = self.data().clone();
        data.index_axis_inplace(Axis(at), from);
        Ok(Tensor::op("select", data, [self], move |g, _| {
            Ok([Some(g.unsqueeze(at as isize)?.unsliced(at, n, from, 1))])
        }))
    }

    /// Windows of `size` elements, `step` apart, along an axis: the axis counts the windows, and a new last axis holds
    /// their elements.
    ///
    /// # Errors
    /// If there is no such axis, it is shorter than `size`, or `step` is 0.
    pub fn unfold(&self, dim: isize, size: usize, step: usize) -> Result<Tensor<T>> {
        let at = axis("unfold", dim, self.ndim())?;
        let n = self.shape().get(at).copied().unwrap_or(1);
        if size > n || step == 0 {
            return Err(Error::value(
                "unfold",
                format!("windows of {size}, {step} apart, do not fit an axis of {n}; a step is at least 1"),
            ));
        }
        if self.ndim() == 0 {
            return self.reshape([1])?.narrow(0, 0, size);
        }
        let windows = (n - size) / step + 1;
        let mut shape = self.shape().to_vec();
        shape.splice(at..=at, [windows, size]);
        if room::<T>("unfold", &shape)? == 0 {
            shape.remove(at + 1);
            shape.push(size);
            return Ok(self.nothing("unfold", &shape));
        }
        room::<usize>("unfold", &[windows, size])?;
        let index = collected((0..windows * size).map(|i| i / size * step + i % size));
        self.rows_taken("unfold", at, index)?.reshape(&shape)?.movedim(at as isize + 1, -1)
    }
}

/// The range of `count` elements from `start`, `step` apart, which is valid for ndarray even if it is empty.
fn range(start: usize, count: usize, step: usize) -> Slice {
    // If there are two elements or more, the step fits the axis.
    let step = if count > 1 { step } else { 1 };
    let end = if count == 0 { start } else { start + (count - 1) * step + 1 };
    Slice::new(start as isize, Some(end as isize), step as isize)
}

// ------------------------------------------------------------------------------------------- diagonals and triangles

impl<T: Element> Tensor<T> {
    /// The diagonals of the matrices formed by `dim1` and `dim2`, as the last axis; `offset` is above the main
    /// diagonal, or below it if negative. The diagonal of a matrix shares memory.
    ///
    /// # Errors
    /// If there are no such axes, or they are the same.
    pub fn diagonal(&self, offset: isize, dim1: isize, dim2: isize) -> Result<Tensor<T>> {
        let (a, b) = two_axes("diagonal", dim1, dim2, self.ndim())?;
        Ok(self.diagonals(offset, a, b))
    }

    /// The inverse of [`diagonal`](Tensor::diagonal): square matrices, formed by `dim1` and `dim2`, whose diagonals are
    /// the last axis of this tensor.
    ///
    /// # Errors
    /// If there are no such axes in a tensor with one more axis, they are the same, or there is not enough memory for
    /// the result.
    pub fn diag_embed(&self, offset: isize, dim1: isize, dim2: isize) -> Result<Tensor<T>> {
        self.real_axis("diag_embed", -1)?;
        let (a, b) = two_axes("diag_embed", dim1, dim2, self.ndim() + 1)?;
        let (last, rest) = self.shape().split_last().expect("an axis");
        let mut shape = rest.to_vec();
        for at in [a.min(b), a.max(b)] {
            shape.insert(at, last.saturating_add(offset.unsigned_abs()));
        }
        room::<T>("diag_embed", &shape)?;
        Ok(self.undiagonals(&shape, offset, a, b))
    }

    fn diagonals(&self, offset: isize, a: usize, b: usize) -> Tensor<T> {
        let (row, column, count) = diagonal(self.shape(), offset, a, b);
        let mut on = self.data().clone();
        on.slice_axis_inplace(Axis(a), range(row, count, 1));
        on.slice_axis_inplace(Axis(b), range(column, count, 1));
        let data = if self.ndim() == 2 { on.into_diag().into_dyn() } else { diagonals(on.view(), a, b).into_shared() };
        let from = self.shape().to_vec();
        Tensor::op("diagonal", data, [self], move |g, _| Ok([Some(g.undiagonals(&from, offset, a, b))]))
    }

    /// The derivative of [`diagonals`](Tensor::diagonals): puts the last axis on the diagonals of zeros of `shape`.
    fn undiagonals(&self, shape: &[usize], offset: isize, a: usize, b: usize) -> Tensor<T> {
        let (row, column, count) = diagonal(shape, offset, a, b);
        let mut out = full("diag_embed", shape, T::ZERO);
        let mut on = out.view_mut();
        on.slice_axis_inplace(Axis(a), range(row, count, 1));
        on.slice_axis_inplace(Axis(b), range(column, count, 1));
        put_diagonals(on, a, b, self.view());
        Tensor::op("diag_embed", out, [self], move |g, _| Ok([Some(g.diagonals(offset, a, b))]))
    }

    /// The lower triangles of the matrices of the last two axes, up to the diagonal `diagonal`, with zeros above.
    ///
    /// # Errors
    /// If there are fewer than two axes.
    pub fn tril(&self, diagonal: isize) -> Result<Tensor<T>> {
        at_least_two("tril", self.shape())?;
        let out = mask_matrix(self.to_vec(), self.shape(), T::ZERO, |i, j| j.saturating_sub(i) <= diagonal);
        Ok(Tensor::op("tril", out, [self], move |g, _| Ok([Some(g.tril(diagonal)?)])))
    }

    /// The upper triangles of the matrices of the last two axes, from the diagonal `diagonal` on, with zeros below.
    ///
    /// # Errors
    /// If there are fewer than two axes.
    pub fn triu(&self, diagonal: isize) -> Result<Tensor<T>> {
        at_least_two("triu", self.shape())?;
        let out = mask_matrix(self.to_vec(), self.shape(), T::ZERO, |i, j| j.saturating_sub(i) >= diagonal);
        Ok(Tensor::op("triu", out, [self], move |g, _| Ok([Some(g.triu(diagonal)?)])))
    }
}

fn two_axes(op: &str, dim1: isize, dim2: isize, ndim: usize) -> Result<(usize, usize)> {
    let (a, b) = (axis(op, dim1, ndim)?, axis(op, dim2, ndim)?);
    if a == b || ndim < 2 {
        return Err(Error::shape(op, format!("expected two axes, got {dim1} and {dim2} in a tensor of {ndim}")));
    }
    Ok((a, b))
}

/// The row and the column at which a diagonal starts, and its length.
fn diagonal(shape: &[usize], offset: isize, a: usize, b: usize) -> (usize, usize, usize) {
    let (down, right) = (offset.min(0).unsigned_abs().min(shape[a]), offset.max(0).unsigned_abs().min(shape[b]));
    (down, right, (shape[a] - down).min(shape[b] - right))
}
