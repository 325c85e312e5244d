//! Reductions over any axes.

use ndarray::{Axis, IxDyn};

use crate::{
    Result,
    tensor::{Data, Element, Ints, Number, Real, Tensor, axes},
};

impl<T: Element> Tensor<T> {
    /// The sum over the axes by which `self` was broadcast from `shape`: the derivative of broadcasting.
    pub(crate) fn sum_to(&self, shape: &[usize]) -> Result<Tensor<T>> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let lead = self.ndim() - shape.len();
        let mut data = self.data().clone();
        for _ in 0..lead {
            data = fold(&data, 0);
        }
        for (i, &n) in shape.iter().enumerate() {
            if n == 1 && data.shape()[i] != 1 {
                data = fold(&data, i).insert_axis(Axis(i));
            }
        }
        let from = self.shape().to_vec();
        Ok(Tensor::op("sum_to", data, [self], move |g, _| Ok([Some(g.broadcast_to(&from)?)])))
    }
}

fn fold<T: Element>(data: &Data<T>, axis: usize) -> Data<T> {
    data.fold_axis(Axis(axis), T::ZERO, |&a, &b| a.plus(b)).into_shared()
}

/// The shape after reducing `axes`: with 1 in their place, and without them.
pub(crate) fn reduced_shapes(shape: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let kept = shape.iter().enumerate().map(|(i, &n)| if axes.contains(&i) { 1 } else { n }).collect();
    let gone = shape.iter().enumerate().filter(|(i, _)| !axes.contains(i)).map(|(_, &n)| n).collect();
    (kept, gone)
}

impl<T: Number> Tensor<T> {
    /// The sum of all elements.
    pub fn sum(&self) -> Tensor<T> {
        self.sum_dim(Vec::<isize>::new(), false).expect("all axes")
    }

    /// The sum over the given axes (none given: over all), which stay with length 1 if `keepdim`.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn sum_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let axes = axes("sum", &dims.into(), self.ndim())?;
        let (kept, gone) = reduced_shapes(self.shape(), &axes);
        let mut data = self.data().clone();
        for &axis in axes.iter().rev() {
            data = fold(&data, axis);
        }
        let from = self.shape().to_vec();
        let data = data.to_shape(IxDyn(if keepdim { &kept } else { &gone })).expect("the same elements").to_shared();
        Ok(Tensor::op("sum", data, [self], move |g, _| Ok([Some(g.reshape(kept.as_slice())?.broadcast_to(&from)?)])))
    }
}

impl<T: Real> Tensor<T> {
    /// The mean of all elements; NaN where there is none.
    pub fn mean(&self) -> Tensor<T> {
        self.mean_dim(Vec::<isize>::new(), false).expect("all axes")
    }

    /// The mean over the given axes (none given: over all), which stay with length 1 if `keepdim`.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn mean_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let dims = dims.into();
        let n: usize = axes("mean", &dims, self.ndim())?.iter().map(|&a| self.shape()[a]).product();
        Ok(self.sum_dim(dims, keepdim)? / T::of(n as f64))
    }
}
