//! [`orthogonal`].

use std::sync::Arc;

use crate::{
    Error, Real, Result, Tensor,
    functional::{options, words},
    kernels::{layout::array, linalg, scalar::sign, sizes::room},
    nn::{Buffer, Module, Param, utils::parametrize::Parametrization},
};

words! {
    /// From a matrix of any numbers to an orthogonal one.
    pub enum OrthogonalMap, "orthogonal_map" {
        /// `exp(A)`, with the lower triangle minus its transpose as A.
        #[default]
        MatrixExp = "matrix_exp",
        /// `(I + A/2) (I − A/2)⁻¹`, with the same A.
        Cayley = "cayley",
        /// A product of reflections, whose vectors are the columns below the diagonal.
        Householder = "householder",
    }
}

options! {
    /// The options of [`orthogonal`].
    pub struct OrthogonalOptions, setters orthogonal_setters {
        /// The map; by default `matrix_exp` for square matrices and `householder` for others.
        orthogonal_map: into Option<OrthogonalMap> = None;
        /// Whether the map is multiplied by a fixed orthogonal matrix, `base`, to start from; true by default.
        use_trivialization: of bool = true;
    }
}

/// Keeps a matrix, or each of a stack of matrices `(*, m, n)`, orthogonal: orthonormal columns if `m ≥ n`, rows otherwise.
///
/// The matrix is computed from `parametrizations.weight.original` and, with `use_trivialization`, from the buffer
/// `parametrizations.weight.0.base` (Lezcano Casado 2019). It starts at its present value if that is orthogonal, at the closest
/// matrix of a QR decomposition otherwise. Without `use_trivialization` this holds for `householder` alone; the other maps start from
/// the present value as the original, and the parameter cannot be [set](Param::set).
///
/// ```
/// use ndnn::{nn::utils::parametrizations::{OrthogonalMap, OrthogonalOptions, orthogonal}, prelude::*};
/// let layer = Linear::new(20, 40);
/// orthogonal(&layer.weight, OrthogonalOptions::default().orthogonal_map(OrthogonalMap::Cayley))?;
/// let q = layer.weight.tensor();
/// assert!((q.t()?.mm(&q)? - Tensor::eye(20)).abs().max()?.item()? < 1e-5);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the parameter has fewer than 2 axes or no values yet, or has a parametrization and `use_trivialization` is true.
pub fn orthogonal<T: Real>(param: &Param<T>, options: OrthogonalOptions) -> Result<()> {
    let op = "orthogonal";
    let shape = param.known(op)?;
    let &[ref stack @ .., m, n] = &*shape else {
        return Err(Error::shape(op, format!("expected a matrix or a stack of matrices, got {shape:?}")));
    };
    if options.use_trivialization && param.has_parametrizations() {
        let why =
            "with use_trivialization it is the first parametrization of its parameter; register the others after it";
        return Err(Error::state(op, why));
    }
    let by_shape = if m == n { OrthogonalMap::MatrixExp } else { OrthogonalMap::Householder };
    let square = [stack, &[m.max(n); 2]].concat();
    room::<T>(op, &square)?;
    let base = options.use_trivialization.then(|| Buffer::new(Tensor::zeros(square)));
    param.parametrize(op, Arc::new(Orthogonal { base, map: options.orthogonal_map.unwrap_or(by_shape) }))
}

#[derive(Module)]
#[module(name = "_Orthogonal")]
struct Orthogonal<T: Real> {
    /// `(*, n, n)` with the larger of the two sizes.
    base: Option<Buffer<T>>,
    #[module(skip)]
    map: OrthogonalMap,
}

/// Calls `f` on matrices that are at least as tall as wide, and turns its result back.
fn tall<T: Real>(x: &Tensor<T>, f: impl FnOnce(&Tensor<T>, usize, usize) -> Result<Tensor<T>>) -> Result<Tensor<T>> {
    let (rows, columns) = (x.size(-2)?, x.size(-1)?);
    if rows < columns { f(&x.m_t()?, columns, rows)?.m_t() } else { f(x, rows, columns) }
}

impl<T: Real> Orthogonal<T> {
    /// `exp(A)` or Cayley's map of the lower triangle minus its transpose, the first k columns.
    fn skew(&self, x: &Tensor<T>, n: usize, k: usize) -> Result<Tensor<T>> {
        let mut shape = x.shape().to_vec();
        *shape.last_mut().expect("a matrix") = n - k;
        let x = Tensor::cat(&[x.tril(0)?, Tensor::zeros(shape)], -1)?;
        let a = x.try_sub(&x.m_t()?)?;
        let q = match self.map {
            OrthogonalMap::MatrixExp => a.matrix_exp()?,
            _ => {
                let (one, half) = (Tensor::eye(n), &a * T::of(0.5));
                one.try_sub(&half)?.solve(&one.try_add(&half)?)?
            }
        };
        q.narrow(-1, 0, k)
    }

    /// The first k columns of the product of the reflections `I − 2 v vᵀ / vᵀv`, times the signs on the diagonal. With the vectors as
    /// the columns of V it is `I − V S⁻¹ Vᵀ`, where S is the upper triangle of `VᵀV` with half its diagonal.
    fn reflections(&self, x: &Tensor<T>, n: usize, k: usize) -> Result<Tensor<T>> {
        let one = Tensor::eye(n).narrow(-1, 0, k)?;
        let v = x.tril(-1)?.try_add(&one)?;
        let products = v.m_t()?.matmul(&v)?;
        let s = (products.triu(0)? + products.triu(1)?) * T::of(0.5);
        let q = one.try_sub(&v.matmul(&s.solve(&v.narrow(-2, 0, k)?.m_t()?)?)?)?;
        q.try_mul(&x.detach().diagonal(0, -2, -1)?.trunc().unsqueeze(-2)?)
    }
}

impl<T: Real> Parametrization<T> for Orthogonal<T> {
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>> {
        tall(&originals[0], |x, n, k| {
            let q = match self.map {
                OrthogonalMap::Householder => self.reflections(x, n, k)?,
                OrthogonalMap::MatrixExp | OrthogonalMap::Cayley => self.skew(x, n, k)?,
            };
            self.base.as_ref().map_or(Ok(q.clone()), |base| base.tensor().matmul(&q))
        })
    }

    fn right_inverse(&self, weight: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        let original = match &self.base {
            None if self.map != OrthogonalMap::Householder => return Ok(None),
            None => tall(weight, |q, n, k| Ok(Decomposition::of(q, n, k).signed()))?,
            Some(base) => tall(weight, |q, n, k| {
                base.set(&start(q, n, k)?)?;
                Tensor::zeros(q.shape()).try_sub(&Tensor::eye(n).narrow(-1, 0, k)?)
            })?,
        };
        Ok(Some(vec![original]))
    }
}

/// An orthogonal `n × n` matrix whose first k columns are `q`, if these are orthonormal.
fn start<T: Real>(q: &Tensor<T>, n: usize, k: usize) -> Result<Tensor<T>> {
    let close = 10. * n as f64 * T::epsilon().to_f64().expect("a float");
    if n == k && q.m_t()?.matmul(q)?.allclose(&Tensor::eye(n).broadcast_to(q.shape())?, 1e-5, close, false)? {
        return Ok(q.clone());
    }
    let mut shape = q.shape().to_vec();
    *shape.last_mut().expect("a matrix") = n - k;
    let square = Tensor::cat(&[q.clone(), Tensor::randn(shape)], -1)?;
    Ok(Decomposition::of(&square, n, n).orthogonal())
}

/// The QR decompositions of a stack of `n × k` matrices, as reflections.
struct Decomposition<T> {
    shape: Vec<usize>,
    n: usize,
    k: usize,
    packed: Vec<T>,
    /// Of each matrix.
    factors: Vec<Vec<T>>,
}

impl<T: Real> Decomposition<T> {
    fn of(matrices: &Tensor<T>, n: usize, k: usize) -> Self {
        let (shape, mut packed) = (matrices.shape().to_vec(), matrices.to_vec());
        let factors = packed.chunks_exact_mut((n * k).max(1)).map(|matrix| linalg::geqrf(matrix, n, k)).collect();
        Decomposition { shape, n, k, packed, factors }
    }

    /// The orthogonal factors, for which the diagonal of R is positive.
    fn orthogonal(self) -> Tensor<T> {
        let mut all = Vec::new();
        for (packed, factors) in self.packed.chunks_exact((self.n * self.k).max(1)).zip(&self.factors) {
            let mut q = linalg::householder_product(packed, factors, self.n, self.k);
            for row in q.chunks_exact_mut(self.k) {
                row.iter_mut().enumerate().for_each(|(j, x)| *x *= sign(packed[j * self.k + j]));
            }
            all.extend(q);
        }
        array(&self.shape, all).into()
    }

    /// The reflections' vectors, with the signs by which their product must be multiplied on the diagonal.
    fn signed(mut self) -> Tensor<T> {
        for (packed, factors) in self.packed.chunks_exact_mut((self.n * self.k).max(1)).zip(&self.factors) {
            for (j, &factor) in factors.iter().enumerate() {
                let x = sign(packed[j * self.k + j]);
                packed[j * self.k + j] = if factor == T::ZERO { -x } else { x };
            }
        }
        array(&self.shape, self.packed).into()
    }
}
