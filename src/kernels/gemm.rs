//! Matrix products.

use ndarray::{Array2, ArrayView2, LinalgScalar, linalg::general_mat_mul};

/// `a · b`.
pub fn matmul<T: LinalgScalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
    super::count::add(a.nrows() * a.ncols() * b.ncols());
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    general_mat_mul(T::one(), &a, &b, T::zero(), &mut c);
    c
}
