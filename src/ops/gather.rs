//! Taking elements of a tensor by index and by mask.

use ndarray::{ArrayD, Dimension, IxDyn};
use ndnn_derive::concrete;

use super::broadcast;
use crate::{
    Error, Result,
    kernels::{
        gather::{Rows, places, take_rows},
        layout::{array, coordinates, row_major},
        memory::{buffer, filled, push},
        sizes::room,
    },
    tensor::{Element, Tensor, axis},
};

/// The elements of an index tensor as positions on axis `at` of `shape`; with `wrap`, negative ones count from the end.
pub(crate) fn positions(op: &str, index: &Tensor<i64>, at: usize, shape: &[usize], wrap: bool) -> Result<Vec<usize>> {
    let n = shape.get(at).copied().unwrap_or(1) as i64;
    let position = |&i: &i64| {
        let from = if wrap && i < 0 { i + n } else { i };
        if (0..n).contains(&from) { Ok(from as usize) } else { Err(out_of_range(op, i, at, shape)) }
    };
    let mut out = buffer(index.numel());
    for i in row_major(&index.view()).iter() {
        out.push(position(i)?);
    }
    Ok(out)
}

pub(super) fn out_of_range(op: &str, index: i64, at: usize, shape: &[usize]) -> Error {
    let n = shape.get(at).copied().unwrap_or(1);
    Error::index(op, format!("index {index} is out of range for axis {at} of size {n} ({shape:?})"))
}

/// The positions in a vector (or scalar) of indices.
pub(crate) fn vector(op: &str, index: &Tensor<i64>, at: usize, shape: &[usize], wrap: bool) -> Result<Vec<usize>> {
    if index.ndim() > 1 {
        return Err(Error::shape(op, format!("expected a vector of indices, got {:?}", index.shape())));
    }
    positions(op, index, at, shape, wrap)
}

/// Checks that `index` is no larger than `shape` on every axis but `at`; scalars count as vectors of one element.
pub(crate) fn fits(op: &str, what: &str, shape: &[usize], index: &[usize], at: Option<usize>) -> Result<()> {
    let (long, part) = (if shape.is_empty() { &[1] } else { shape }, if index.is_empty() { &[1] } else { index });
    let fits = long.len() == part.len() && (0..long.len()).all(|i| Some(i) == at || part[i] <= long[i]);
    if !fits {
        let but = at.map_or(String::new(), |at| format!(" on every axis but {at}"));
        return Err(Error::shape(op, format!("the index {index:?} must be no larger than {what} {shape:?}{but}")));
    }
    Ok(())
}

impl<T: Element> Tensor<T> {
    /// The slices that a vector of indices selects along an axis, in its order.
    ///
    /// # Errors
    /// If there is no such axis, the indices are not a vector, or one is negative or beyond the axis.
    pub fn index_select(&self, dim: isize, index: &Tensor<i64>) -> Result<Tensor<T>> {
        const OP: &str = "index_select";
        let at = axis(OP, dim, self.ndim())?;
        let index = vector(OP, index, at, self.shape(), false)?;
        if self.ndim() == 0 && index.len() != 1 {
            return Err(Error::shape(OP, format!("a scalar takes one index, got {}", index.len())));
        }
        self.rows_taken(OP, at, index)
    }

    /// The rows of axis `at` that `index` names; the indices were checked.
    ///
    /// # Errors
    /// If there is not enough memory for them.
    #[concrete(Element)]
    pub(crate) fn rows_taken(&self, name: &'static str, at: usize, index: Vec<usize>) -> Result<Tensor<T>> {
        let mut shape = self.shape().to_vec();
        if let Some(n) = shape.get_mut(at) {
            *n = index.len();
        }
        let out = match room::<T>(name, &shape)? {
            0 => array(&shape, Vec::new()),
            _ => {
                let rows = take_rows(&row_major(&self.view()), Rows::new(self.shape(), at), &index);
                rows.into_shape_with_order(IxDyn(&shape)).expect("as many elements")
            }
        };
        let from = self.shape().to_vec();
        Ok(Tensor::op(name, out, [self], move |g, _| Ok([Some(Tensor::zeros(&from).rows_added(at, &index, g))])))
    }

    /// `out[i][j][k] = self[index[i][j][k]][j][k]` for `dim` 0, and accordingly for the others.
    ///
    /// The index has as many axes as `self` and is no larger than it on any axis but `dim`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let picked = tensor![[1, 2], [3, 4]].gather(1, &tensor![[0, 0], [1, 0]])?;
    /// assert_eq!(picked, tensor![[1, 1], [4, 3]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shapes do not match, or an index is negative or out of range.
    #[concrete(Element)]
    pub fn gather(&self, dim: isize, index: &Tensor<i64>) -> Result<Tensor<T>> {
        self.gathered("gather", dim, index, false)
    }

    fn gathered(&self, op: &'static str, dim: isize, index: &Tensor<i64>, wrap: bool) -> Result<Tensor<T>> {
        let at = axis(op, dim, self.ndim())?;
        if index.numel() > 0 {
            fits(op, "the tensor", self.shape(), index.shape(), Some(at))?;
        }
        let position = positions(op, index, at, self.shape(), wrap)?;
        let view = self.view();
        let x = row_major(&view);
        let mut out = buffer(position.len());
        places(self.shape(), index.shape(), at, &position, |from, _| out.push(x[from]));
        let (from, index_shape) = (self.shape().to_vec(), index.shape().to_vec());
        Ok(Tensor::op(op, array(index.shape(), out), [self], move |g, _| {
            Ok([Some(Tensor::zeros(&from).added(at, &index_shape, &position, g))])
        }))
    }

    /// The elements that an index selects along an axis, where index and tensor broadcast against each other on the
    /// other axes; without an axis, of the flattened tensor. It accepts the results of argsort, argmax and topk.
    ///
    /// # Errors
    /// If the shapes do not match, or an index is out of range.
    pub fn take_along_dim(&self, indices: &Tensor<i64>, dim: impl Into<Option<isize>>) -> Result<Tensor<T>> {
        const OP: &str = "take_along_dim";
        let Some(dim) = dim.into() else {
            return self.flatten(0, -1)?.gathered(OP, 0, &indices.flatten(0, -1)?, true);
        };
        if self.ndim() != indices.ndim() {
            return Err(Error::shape(
                OP,
                format!("expected the same number of axes, got {:?} and indices {:?}", self.shape(), indices.shape()),
            ));
        }
        let at = axis(OP, dim, self.ndim())?;
        let (mut mine, mut theirs) = (self.shape().to_vec(), indices.shape().to_vec());
        for i in (0..mine.len()).filter(|&i| i != at) {
            match (mine[i], theirs[i]) {
                (1, n) => mine[i] = n,
                (n, _) => theirs[i] = n,
            }
        }
        self.broadcast_to(mine)?.gathered(OP, dim, &indices.broadcast_to(theirs)?, true)
    }

    /// The elements where the mask is true, as a vector; tensor and mask broadcast against each other.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn masked_select(&self, mask: &Tensor<bool>) -> Result<Tensor<T>> {
        let shape = broadcast("masked_select", self, mask)?;
        let mask = mask.broadcast_to(shape.slice())?;
        self.broadcast_to(shape.slice())?.reshape(shape.size())?.rows_taken("masked_select", 0, mask.set())
    }

    /// The coordinates of the elements that are not zero, one row per element: `(n, ndim)`.
    pub fn nonzero(&self) -> Tensor<i64> {
        all_coordinates(&self.set(), self.shape()).into()
    }

    /// The positions, in row-major order, of the elements that are not zero.
    fn set(&self) -> Vec<usize> {
        let mut set = Vec::new();
        for (at, &x) in row_major(&self.view()).iter().enumerate() {
            if x != T::ZERO {
                push(&mut set, at);
            }
        }
        set
    }
}

/// The coordinates of positions in row-major order, one row each.
fn all_coordinates(positions: &[usize], shape: &[usize]) -> ArrayD<i64> {
    let mut out = filled(positions.len() * shape.len(), 0);
    if !shape.is_empty() {
        for (row, &at) in out.chunks_exact_mut(shape.len()).zip(positions) {
            coordinates(at, shape, row);
        }
    }
    array(&[positions.len(), shape.len()], out)
}
