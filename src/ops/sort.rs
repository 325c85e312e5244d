//! Sorting along an axis, and searching in sorted tensors. NaN counts as the largest.

use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::{
        layout::{array, row_major},
        memory::vector,
        sort::{self, search},
    },
    tensor::{Element, Number, Tensor, axis},
};

impl<T: Element> Tensor<T> {
    /// The elements in ascending (or descending) order along an axis, and their positions; equal elements keep their
    /// order.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (values, indices) = tensor![3.0, 1.0, 2.0].sort(-1, false)?;
    /// assert_eq!((values, indices), (tensor![1.0, 2.0, 3.0], tensor![1, 2, 0]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn sort(&self, dim: isize, descending: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        let indices = self.argsort(dim, descending)?;
        Ok((self.gather(dim, &indices)?, indices))
    }

    /// The indices that sort the elements along an axis; equal elements keep their order.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn argsort(&self, dim: isize, descending: bool) -> Result<Tensor<i64>> {
        let at = axis("argsort", dim, self.ndim())?;
        let n = self.shape().get(at).copied().unwrap_or(1);
        self.in_rows(dim, n, descending)
    }

    /// The `k` largest (or smallest) elements along an axis and their positions, best first; of equal elements, the
    /// first one first.
    ///
    /// # Errors
    /// If there is no such axis, or it has fewer than `k` elements.
    pub fn topk(&self, k: usize, dim: isize, largest: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        let at = axis("topk", dim, self.ndim())?;
        let n = self.shape().get(at).copied().unwrap_or(1);
        if k > n {
            return Err(Error::value("topk", format!("k is {k}, axis {at} of {:?} has {n}", self.shape())));
        }
        if self.ndim() == 0 {
            return Ok((self.clone(), Tensor::scalar(0)));
        }
        let indices = self.in_rows(dim, k, largest)?;
        Ok((self.gather(dim, &indices)?, indices))
    }

    /// The positions of the `k` largest (or smallest) elements along axis `dim`, best first.
    #[concrete(Element)]
    fn in_rows(&self, dim: isize, k: usize, largest: bool) -> Result<Tensor<i64>> {
        if self.ndim() == 0 {
            return Ok(Tensor::scalar(0));
        }
        let x = self.detach().transpose(dim, -1)?;
        let mut shape = x.shape().to_vec();
        let last = shape.last_mut().expect("an axis");
        let out = sort::topk(&row_major(&x.view()), *last, k, largest);
        *last = k;
        Ok(Tensor::from(array(&shape, out)).transpose(dim, -1)?.contiguous())
    }
}

impl<T: Number> Tensor<T> {
    /// The position at which each of `values` belongs in this sorted tensor: before equal elements, or after them with
    /// `right`.
    ///
    /// The last axis is sorted. A vector may be used with values of any shape; otherwise all axes but the last must
    /// agree.
    ///
    /// # Errors
    /// If the shapes do not match.
    #[concrete(Number)]
    pub fn searchsorted(&self, values: &Tensor<T>, right: bool) -> Result<Tensor<i64>> {
        let (n, v) = (self.ndim(), values.ndim());
        if n == 0 || (n > 1 && (v != n || self.shape()[..n - 1] != values.shape()[..n - 1])) {
            return Err(Error::shape(
                "searchsorted",
                format!("a sorted tensor {:?} does not fit the values {:?}", self.shape(), values.shape()),
            ));
        }
        let (sorted, wanted) = (self.view(), values.view());
        let (sorted, wanted) = (row_major(&sorted), row_major(&wanted));
        let len = self.shape()[n - 1];
        let per_row = if n == 1 { wanted.len() } else { values.shape()[n - 1] };
        let row = |k: usize| if n == 1 { &sorted[..] } else { &sorted[k / per_row * len..][..len] };
        let mut out = vector(wanted.len());
        for (k, value) in wanted.iter().enumerate() {
            out.push(search(row(k), value, right));
        }
        Ok(array(values.shape(), out).into())
    }

    /// The bucket of each element between sorted boundaries: `boundaries[i-1] < x <= boundaries[i]`, or with `right`
    /// `boundaries[i-1] <= x < boundaries[i]`.
    ///
    /// # Errors
    /// If the boundaries are not a vector.
    pub fn bucketize(&self, boundaries: &Tensor<T>, right: bool) -> Result<Tensor<i64>> {
        if boundaries.ndim() != 1 {
            return Err(Error::shape(
                "bucketize",
                format!("expected a vector of boundaries, got {:?}", boundaries.shape()),
            ));
        }
        boundaries.searchsorted(self, right)
    }
}
