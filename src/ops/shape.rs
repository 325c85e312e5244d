//! Shape: the same elements, arranged otherwise.

use ndarray::IxDyn;

use crate::{
    Error, Result,
    tensor::{Element, Ints, Tensor, axis},
};

impl<T: Element> Tensor<T> {
    /// The same elements in row-major order in another shape; one size may be -1, to be worked out. Shares memory where
    /// the elements lie in row-major order.
    ///
    /// # Errors
    /// If the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Ints>) -> Result<Tensor<T>> {
        let shape = resolve("reshape", self.shape(), &shape.into())?;
        let data = match self.data.clone().into_shape_with_order(IxDyn(&shape)) {
            Ok(data) => data,
            Err(_) => {
                self.data.to_shape((IxDyn(&shape), ndarray::Order::RowMajor)).expect("as many elements").to_shared()
            }
        };
        let from = self.shape().to_vec();
        Ok(Tensor::op("reshape", data, [self], move |g, _| Ok([Some(g.reshape(from.as_slice())?)])))
    }

    /// Repeats axes of length 1, and adds axes in front, until the shape is `shape`; shares memory.
    ///
    /// # Errors
    /// If an axis that is not 1 would change.
    pub fn broadcast_to(&self, shape: impl AsRef<[usize]>) -> Result<Tensor<T>> {
        let shape = shape.as_ref();
        let Some(view) = self.data.broadcast(IxDyn(shape)) else {
            return Err(Error::shape("broadcast_to", format!("{:?} does not broadcast to {shape:?}", self.shape())));
        };
        // A shared array cannot have zero strides over an allocation that it may write to: copy.
        let from = self.shape().to_vec();
        Ok(Tensor::op("broadcast_to", view.to_shared(), [self], move |g, _| Ok([Some(g.sum_to(&from)?)])))
    }

    /// The axes in another order; shares memory.
    ///
    /// # Errors
    /// If `dims` does not name each axis once.
    pub fn permute(&self, dims: impl Into<Ints>) -> Result<Tensor<T>> {
        let dims = dims.into();
        let order = dims.0.iter().map(|&d| axis("permute", d, self.ndim())).collect::<Result<Vec<_>>>()?;
        let mut back = vec![usize::MAX; self.ndim()];
        for (to, &from) in order.iter().enumerate() {
            back[from] = to;
        }
        if order.len() != self.ndim() || back.contains(&usize::MAX) {
            return Err(Error::shape(
                "permute",
                format!("{:?} does not name each of {} axes once", dims.0, self.ndim()),
            ));
        }
        let back: Vec<isize> = back.into_iter().map(|b| b as isize).collect();
        let data = self.data.clone().permuted_axes(IxDyn(&order));
        Ok(Tensor::op("permute", data, [self], move |g, _| Ok([Some(g.permute(back.as_slice())?)])))
    }

    /// Two axes swapped; shares memory.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Result<Tensor<T>> {
        let (a, b) = (axis("transpose", dim0, self.ndim())?, axis("transpose", dim1, self.ndim())?);
        if self.ndim() == 0 {
            return Ok(self.clone());
        }
        let mut data = self.data.clone();
        data.swap_axes(a, b);
        let (a, b) = (a as isize, b as isize);
        Ok(Tensor::op("transpose", data, [self], move |g, _| Ok([Some(g.transpose(a, b)?)])))
    }

    /// The matrix transposed; a vector or a scalar as it is.
    ///
    /// # Errors
    /// If there are more than two axes.
    pub fn t(&self) -> Result<Tensor<T>> {
        match self.ndim() {
            0 | 1 => Ok(self.clone()),
            2 => self.transpose(0, 1),
            n => Err(Error::shape("t", format!("expected at most 2 axes, got {n} ({:?})", self.shape()))),
        }
    }
}

/// The sizes that `shape` means for as many elements as `from` has.
pub(crate) fn resolve(op: &str, from: &[usize], shape: &Ints) -> Result<Vec<usize>> {
    let n: usize = from.iter().product();
    let known: usize = shape.0.iter().filter(|&&s| s != -1).map(|&s| s.max(0) as usize).product();
    let open = shape.0.iter().filter(|&&s| s == -1).count();
    let fits = match open {
        0 => known == n,
        1 => known != 0 && n.is_multiple_of(known),
        _ => false,
    };
    if !fits || shape.0.iter().any(|&s| s < -1) {
        return Err(Error::shape(op, format!("{from:?} ({n} elements) does not fit the shape {:?}", shape.0)));
    }
    Ok(shape.0.iter().map(|&s| if s == -1 { n / known } else { s as usize }).collect())
}
