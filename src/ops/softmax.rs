//! Softmax, its logarithm, and the logarithm of a sum of exponentials.

use super::reduce::ReducedShapes;
use crate::{
    Result,
    kernels::{
        elementwise::{map, zip},
        reduce,
        scalar::max_nan,
        softmax as kernel,
    },
    tensor::{Ints, Real, Tensor, axis, grad_enabled},
};
use ndnn_derive::concrete;

impl<T: Real> Tensor<T> {
    /// `yᵢ = eˣⁱ / Σⱼ eˣʲ` along one axis, without overflow.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![[1000., 1000.]].softmax(-1)?, tensor![[0.5, 0.5]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn softmax(&self, dim: isize) -> Result<Tensor<T>> {
        self.softmax_op("softmax", dim, false)
    }

    /// `yᵢ = xᵢ − log Σⱼ eˣʲ` along one axis: the logarithm of [`softmax`](Tensor::softmax), computed more accurately.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn log_softmax(&self, dim: isize) -> Result<Tensor<T>> {
        self.softmax_op("log_softmax", dim, true)
    }

    #[concrete(Real)]
    fn softmax_op(&self, op: &'static str, dim: isize, log: bool) -> Result<Tensor<T>> {
        let axis = axis(op, dim, self.ndim())?;
        let data = kernel::softmax(self.view(), axis, log);
        Ok(Tensor::op_with_output(op, data, [self], move |g, _, y| {
            Ok([Some(match (grad_enabled(), log) {
                (false, _) => kernel::softmax_backward(g.view(), y.view(), axis, log).into(),
                (true, false) => {
                    let gy = g.try_mul(y)?;
                    gy.try_sub(&y.try_mul(&gy.sum_dim(dim, true)?)?)?
                }
                (true, true) => {
                    let sum = g.sum_dim(dim, true)?;
                    let dominant = g.try_sub(&sum)?.try_sub(&y.expm1().try_mul(&sum)?)?;
                    let others = g.try_sub(&y.exp().try_mul(&sum)?)?;
                    let at = y.gt(T::of(kernel::DOMINANT))?.logical_and(&sum.isfinite())?;
                    Tensor::where_(&at, dominant, others)?
                }
            })])
        }))
    }

    /// `log Σ eˣ` over the given axes (an empty list means all), which stay with length 1 if `keepdim`, without
    /// overflow.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    #[concrete(Real)]
    pub fn logsumexp(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("logsumexp", self.shape(), &dims.into(), keepdim)?;
        let max = reduce::fold(self.view(), &r.axes, T::neg_infinity(), max_nan);
        // An infinite maximum would give ∞ − ∞.
        let shift = map(&r.keep(max), |m| if m.is_infinite() { T::ZERO } else { m });
        // The largest, whose power is 1, is kept apart: added to it, a small rest would be lost.
        let sum = |f: fn(T) -> T| {
            let terms = zip(self.data(), &shift, self.raw_dim(), |x, m| f(x - m));
            r.keep(reduce::sum(terms.view(), &r.axes))
        };
        let rest = sum(|d| if d == T::ZERO { T::ZERO } else { d.exp() });
        let largest = sum(|d| if d == T::ZERO { T::ONE } else { T::ZERO });
        let log = zip(&largest, &rest, rest.raw_dim(), |n, s| (n - T::ONE + s).ln_1p());
        let data = r.place(zip(&log, &shift, log.raw_dim(), |s, m| s + m));
        let (x, kept) = (self.clone(), r.kept);
        Ok(Tensor::op_with_output("logsumexp", data, [self], move |g, _, y| {
            let y = y.reshape(kept.as_slice())?;
            Ok([Some(x.try_sub(&y)?.exp().try_mul(&g.reshape(kept.as_slice())?)?)])
        }))
    }
}
