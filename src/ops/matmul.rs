//! Matrix products.

use ndarray::Ix2;

use crate::{
    Error, Result, kernels,
    tensor::{Real, Tensor},
};

impl<T: Real> Tensor<T> {
    /// The product of two matrices.
    ///
    /// # Errors
    /// If they are not matrices, or their inner axes differ.
    pub fn mm(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        let (Ok(a), Ok(b)) = (self.view().into_dimensionality::<Ix2>(), other.view().into_dimensionality::<Ix2>())
        else {
            return Err(Error::shape(
                "mm",
                format!("expected two matrices, got {:?} and {:?}", self.shape(), other.shape()),
            ));
        };
        if a.ncols() != b.nrows() {
            return Err(Error::shape(
                "mm",
                format!("{:?} has {} columns, {:?} has {} rows", self.shape(), a.ncols(), other.shape(), b.nrows()),
            ));
        }
        let (x, y) = (self.clone(), other.clone());
        Ok(Tensor::op("mm", kernels::gemm::matmul(a, b).into_dyn(), [self, other], move |g, [dx, dy]| {
            let dx = if dx { Some(g.mm(&y.t()?)?) } else { None };
            let dy = if dy { Some(x.t()?.mm(g)?) } else { None };
            Ok([dx, dy])
        }))
    }
}
