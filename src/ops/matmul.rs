//! Matrix products.

use ndarray::Ix2;
use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::{
        elementwise::broadcast_shape,
        gemm,
        sizes::{count, room},
    },
    tensor::{Number, Tensor},
};

impl<T: Number> Tensor<T> {
    fn ranks(&self, op: &str, other: &Tensor<T>, ranks: [usize; 2], expected: &str) -> Result<()> {
        if [self.ndim(), other.ndim()] == ranks {
            return Ok(());
        }
        Err(Error::shape(op, format!("expected {expected}, got {:?} and {:?}", self.shape(), other.shape())))
    }

    /// The product of two matrices, `(m, k)` and `(k, n)` to `(m, n)`.
    ///
    /// # Errors
    /// If they are not matrices, or their inner axes differ.
    #[concrete(Number)]
    pub fn mm(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        self.ranks("mm", other, [2, 2], "two matrices")?;
        inner_axes("mm", self, other)?;
        room::<T>("mm", &[self.shape()[0], other.shape()[1]])?;
        let matrix = |x: &Tensor<T>| x.data().clone().into_dimensionality::<Ix2>().expect("a matrix");
        let out = gemm::matmul(matrix(self).view(), matrix(other).view()).into_dyn();
        let (x, y) = (self.clone(), other.clone());
        Ok(Tensor::op("mm", out, [self, other], move |g, [dx, dy]| {
            let dx = if dx { Some(g.mm(&y.t()?)?) } else { None };
            let dy = if dy { Some(x.t()?.mm(g)?) } else { None };
            Ok([dx, dy])
        }))
    }

    /// The products of two stacks of matrices, `(b, m, k)` and `(b, k, n)` to `(b, m, n)`.
    ///
    /// # Errors
    /// If they are not stacks of the same number of matrices, or their inner axes differ.
    #[concrete(Number)]
    pub fn bmm(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        self.ranks("bmm", other, [3, 3], "two stacks of matrices (3 axes each)")?;
        if self.shape()[0] != other.shape()[0] {
            let message =
                format!("expected the same number of matrices in both, got {:?} and {:?}", self.shape(), other.shape());
            return Err(Error::shape("bmm", message));
        }
        self.stacks("bmm", other)
    }

    /// Products of stacks of matrices, whose leading axes broadcast.
    fn stacks(&self, op: &'static str, other: &Tensor<T>) -> Result<Tensor<T>> {
        inner_axes(op, self, other)?;
        let [lead, other_lead] = [self, other].map(|x| &x.shape()[..x.ndim() - 2]);
        let batch = broadcast_shape(lead, other_lead).ok_or_else(|| {
            let message = format!("the leading axes of {:?} and {:?} do not broadcast", self.shape(), other.shape());
            Error::shape(op, message)
        })?;
        // If a result has elements, so have the operands, unless they have an empty inner axis: then broadcasting may
        // make them too large.
        let (a, b) = (self.shape(), other.shape());
        let [m, k, n] = [a[a.len() - 2], a[a.len() - 1], b[b.len() - 1]];
        if room::<T>(op, &[&batch[..], &[m, n]].concat())? > 0 {
            for tail in [[m, k], [k, n]] {
                if count(batch.iter().copied().chain(tail)).is_none() {
                    room::<T>(op, &[&batch[..], &tail].concat())?;
                }
            }
        }
        let out = gemm::batch_matmul(self.view(), other.view(), &batch);
        let (x, y) = (self.clone(), other.clone());
        Ok(Tensor::op(op, out, [self, other], move |g, [dx, dy]| {
            let dx = if dx { Some(g.stacks(op, &y.transpose(-2, -1)?)?.sum_to(x.shape())?) } else { None };
            let dy = if dy { Some(x.transpose(-2, -1)?.stacks(op, g)?.sum_to(y.shape())?) } else { None };
            Ok([dx, dy])
        }))
    }

    /// The product of a matrix and a vector, `(m, k)` and `(k)` to `(m)`.
    ///
    /// # Errors
    /// If they are not a matrix and a vector, or their lengths do not match.
    pub fn mv(&self, vector: &Tensor<T>) -> Result<Tensor<T>> {
        self.ranks("mv", vector, [2, 1], "a matrix and a vector")?;
        self.matmul(vector)
    }

    /// The dot product of two vectors.
    ///
    /// # Errors
    /// If they are not vectors of equal length.
    pub fn dot(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        self.ranks("dot", other, [1, 1], "two vectors")?;
        self.matmul(other)
    }

    /// The outer product of two vectors: `out[i, j] = self[i] · other[j]`.
    ///
    /// # Errors
    /// If they are not vectors.
    pub fn outer(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        self.ranks("outer", other, [1, 1], "two vectors")?;
        self.reshape([self.numel(), 1].as_slice())?.try_mul(other)
    }

    /// The sum of products over the last axes of both; with a scalar, the elementwise product.
    ///
    /// # Errors
    /// If the last axes differ.
    pub fn inner(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        if self.ndim() == 0 || other.ndim() == 0 {
            return self.try_mul(other);
        }
        if self.shape().last() != other.shape().last() {
            let message = format!("the last axes of {:?} and {:?} differ", self.shape(), other.shape());
            return Err(Error::shape("inner", message));
        }
        self.tensordot_dims(other, [-1], [-1])
    }

    /// The matrix product, as PyTorch defines it for every rank: `dot` for two vectors, `mv` for a matrix and a vector,
    /// `mm` for two matrices; with more axes, stacks of matrices whose leading axes broadcast.
    ///
    /// A vector on the left is a row, on the right a column; its axis of length 1 is removed from the result.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x: Tensor = Tensor::ones([2, 1, 3, 4]);
    /// assert_eq!(x.matmul(&Tensor::ones([5, 4, 6]))?.shape(), [2, 5, 3, 6]);
    /// assert_eq!(x.matmul(&Tensor::ones([4]))?.shape(), [2, 1, 3]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If either is a scalar, the inner axes differ, or the leading axes do not broadcast.
    #[concrete(Number)]
    pub fn matmul(&self, other: &Tensor<T>) -> Result<Tensor<T>> {
        let (a, b) = (self.shape(), other.shape());
        match (a.len(), b.len()) {
            (0, _) | (_, 0) => {
                Err(Error::shape("matmul", format!("expected at least 1 axis each, got {a:?} and {b:?}")))
            }
            (2, 2) => self.mm(other),
            (_, 1) => {
                inner_axes("matmul", self, other)?;
                // One product for all rows.
                let product = self.rows()?.mm(&other.reshape([b[0], 1].as_slice())?)?;
                product.reshape(&a[..a.len() - 1])
            }
            (1, n) => {
                inner_axes("matmul", self, other)?;
                let product = self.reshape([1, a[0]].as_slice())?.matmul(other)?;
                product.reshape([&b[..n - 2], &b[n - 1..]].concat().as_slice())
            }
            (m, 2) => {
                inner_axes("matmul", self, other)?;
                let product = self.rows()?.mm(other)?;
                product.reshape([&a[..m - 1], &b[1..]].concat().as_slice())
            }
            _ => self.stacks("matmul", other),
        }
    }

    /// Joins all leading axes into one.
    fn rows(&self) -> Result<Tensor<T>> {
        let (last, lead) = self.shape().split_last().expect("an axis");
        self.reshape([lead.iter().product(), *last].as_slice())
    }

    /// `beta · self + alpha · (a · b)`; `self` broadcasts to the product. With a `beta` of 0, `self` is ignored, even
    /// if it holds NaN.
    ///
    /// # Errors
    /// As [`mm`](Tensor::mm), and if `self` does not broadcast to the product.
    pub fn addmm(&self, a: &Tensor<T>, b: &Tensor<T>, beta: T, alpha: T) -> Result<Tensor<T>> {
        self.add_product("addmm", a.mm(b)?, beta, alpha)
    }

    /// `beta · self + alpha · (matrix · vector)`, as [`addmm`](Tensor::addmm).
    ///
    /// # Errors
    /// As [`mv`](Tensor::mv), and if `self` does not broadcast to the product.
    pub fn addmv(&self, matrix: &Tensor<T>, vector: &Tensor<T>, beta: T, alpha: T) -> Result<Tensor<T>> {
        self.add_product("addmv", matrix.mv(vector)?, beta, alpha)
    }

    /// `beta · self + alpha · (a · b)` over stacks of matrices, as [`addmm`](Tensor::addmm).
    ///
    /// # Errors
    /// As [`bmm`](Tensor::bmm), and if `self` does not broadcast to the product.
    pub fn baddbmm(&self, a: &Tensor<T>, b: &Tensor<T>, beta: T, alpha: T) -> Result<Tensor<T>> {
        self.add_product("baddbmm", a.bmm(b)?, beta, alpha)
    }

    fn add_product(&self, op: &str, product: Tensor<T>, beta: T, alpha: T) -> Result<Tensor<T>> {
        if broadcast_shape(self.shape(), product.shape()).as_deref() != Some(product.shape()) {
            let message = format!("{:?} does not broadcast to the product, {:?}", self.shape(), product.shape());
            return Err(Error::shape(op, message));
        }
        let scaled = |x: &Tensor<T>, by: T| if by == T::ONE { x.clone() } else { x * by };
        let bias = if beta == T::ZERO { self.zero_where(&Tensor::ones(self.shape())) } else { scaled(self, beta) };
        scaled(&product, alpha).try_add(&bias)
    }
}

/// Returns an error for a product whose inner axes differ.
fn inner_axes<T: Number>(op: &str, a: &Tensor<T>, b: &Tensor<T>) -> Result<()> {
    let (x, y) = (a.shape(), b.shape());
    let (k, rows) = (x[x.len() - 1], y[y.len().saturating_sub(2)]);
    if k == rows {
        return Ok(());
    }
    Err(Error::shape(op, format!("the last axis of {x:?} is {k}, the rows of {y:?} are {rows}; expected equal sizes")))
}
