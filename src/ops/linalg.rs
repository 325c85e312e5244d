//! Functions of square matrices, for parametrizations.

use crate::{
    Result,
    kernels::{layout::array, linalg},
    tensor::{Real, Tensor},
};

impl<T: Real> Tensor<T> {
    /// `X` with `A X = B`, for stacks of matrices `(*, n, n)` and `(*, n, k)` of the same leading axes; not finite where a matrix is
    /// singular.
    pub(crate) fn solve(&self, b: &Tensor<T>) -> Result<Tensor<T>> {
        let (mut matrices, mut x) = (self.to_vec(), b.to_vec());
        linalg::solve(&mut matrices, &mut x, self.size(-1)?);
        let a = self.clone();
        Ok(Tensor::op_with_output("solve", array(b.shape(), x), [self, b], move |g, [da, _], x| {
            let db = a.m_t()?.solve(g)?;
            let da = if da { Some(-db.matmul(&x.m_t()?)?) } else { None };
            Ok([da, Some(db)])
        }))
    }

    /// `exp(A) = Σ Aᵏ / k!` for a stack of square matrices: the Taylor polynomial of `A / 2ˢ`, squared s times.
    pub(crate) fn matrix_exp(&self) -> Result<Tensor<T>> {
        let sums = self.detach().abs().cast::<f64>().sum_dim(-1, false)?;
        let norm = if sums.numel() == 0 { 0. } else { sums.max()?.item()? };
        // Of numbers up to 1/2 these terms are all that can be seen.
        let terms = if T::epsilon() > T::of(1e-10) { 9 } else { 16 };
        let squarings = if norm.is_finite() && norm > 0.5 { (2. * norm).log2().ceil() as i32 } else { 0 };
        let (a, one) = (self * T::of(0.5f64.powi(squarings)), Tensor::eye(self.size(-1)?));
        let mut sum = one.broadcast_to(self.shape())?;
        for k in (1..=terms).rev() {
            sum = (a.matmul(&sum)? * T::of(1. / k as f64)).try_add(&one)?;
        }
        for _ in 0..squarings {
            sum = sum.matmul(&sum)?;
        }
        Ok(sum)
    }
}
