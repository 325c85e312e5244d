//! Variance and standard deviation.

use super::reduce::{ALL, Reduction};
use crate::{
    Result,
    kernels::{
        elementwise::{map, zip},
        reduce as kernel,
    },
    tensor::{Ints, Real, Tensor},
};

impl<T: Real> Tensor<T> {
    /// The unbiased variance of all elements: `Σ (x − mean)² / (n − 1)`; NaN for fewer than two.
    pub fn var(&self) -> Tensor<T> {
        self.var_dim(ALL, 1., false).expect("all axes")
    }

    /// The variance over the given axes (none given: over all), which stay with length 1 if `keepdim`:
    /// `Σ (x − mean)² / max(0, n − correction)`, where `correction` is 1 for the unbiased variance (PyTorch's default)
    /// and 0 for the population's.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn var_dim(&self, dims: impl Into<Ints>, correction: f64, keepdim: bool) -> Result<Tensor<T>> {
        let r = Reduction::new("var", self.shape(), &dims.into(), keepdim)?;
        let (n, freedom) = (T::of(r.count as f64), r.count as f64 - correction);
        let mean = map(r.keep(kernel::sum(self.view(), &r.axes)).view(), |sum| sum / n);
        let squares = zip(self.view(), mean.view(), self.shape(), |x, mean| (x - mean) * (x - mean));
        let divisor = T::of(freedom.max(0.));
        let data = map(r.place(kernel::sum(squares.view(), &r.axes)).view(), |sum| sum / divisor);
        let (x, axes, kept) = (self.clone(), r.axes, r.kept);
        Ok(Tensor::op("var", data, [self], move |g, _| {
            let g = g.reshape(kept.as_slice())?;
            let dims: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
            let centred = x.try_sub(&x.mean_dim(dims, true)?)?;
            if freedom <= 0. && axes.len() == x.ndim() {
                // PyTorch's answer to an infinite variance.
                let slope = map(centred.view(), |c| if c == T::ZERO { T::nan() } else { T::infinity() });
                return Ok([Some(Tensor::from(slope).try_mul(&g)?)]);
            }
            Ok([Some(centred.try_mul(&(g * T::of(2. / freedom)))?)])
        }))
    }

    /// The unbiased standard deviation of all elements; NaN for fewer than two.
    pub fn std(&self) -> Tensor<T> {
        self.std_dim(ALL, 1., false).expect("all axes")
    }

    /// The standard deviation, the root of [`var_dim`](Tensor::var_dim). Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`var_dim`](Tensor::var_dim).
    pub fn std_dim(&self, dims: impl Into<Ints>, correction: f64, keepdim: bool) -> Result<Tensor<T>> {
        let var = self.var_dim(dims, correction, keepdim)?;
        Ok(Tensor::op_with_output("std", map(var.view(), T::sqrt), [&var], |g, _, y| {
            let constant = Tensor::from(map(y.view(), |y| y == T::ZERO));
            Ok([Some(g.try_div(&(y * T::of(2.)))?.zero_where(&constant))])
        }))
    }

    /// [`var_dim`](Tensor::var_dim) and [`mean_dim`](Tensor::mean_dim).
    ///
    /// # Errors
    /// As [`var_dim`](Tensor::var_dim).
    pub fn var_mean_dim(
        &self,
        dims: impl Into<Ints>,
        correction: f64,
        keepdim: bool,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let dims = dims.into();
        Ok((self.var_dim(dims.clone(), correction, keepdim)?, self.mean_dim(dims, keepdim)?))
    }

    /// [`std_dim`](Tensor::std_dim) and [`mean_dim`](Tensor::mean_dim).
    ///
    /// # Errors
    /// As [`var_dim`](Tensor::var_dim).
    pub fn std_mean_dim(
        &self,
        dims: impl Into<Ints>,
        correction: f64,
        keepdim: bool,
    ) -> Result<(Tensor<T>, Tensor<T>)> {
        let dims = dims.into();
        Ok((self.std_dim(dims.clone(), correction, keepdim)?, self.mean_dim(dims, keepdim)?))
    }
}
