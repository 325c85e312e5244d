//! Norms of vectors.

use ndarray::ArrayD;

use super::reduce::Reduction;
use crate::{
    Error, Result,
    kernels::{
        elementwise::{map, zip},
        reduce::{self as kernel, greater, is_nan, smaller},
    },
    tensor::{Ints, Real, Tensor},
};

fn sign<T: Real>(x: T) -> T {
    if x == T::ZERO || is_nan(x) { x } else { x.signum() }
}

impl<T: Real> Tensor<T> {
    /// `|x|^q`
    fn abs_pow(&self, q: f64) -> Tensor<T> {
        let x = self.clone();
        let power = T::of(q);
        let data = map(self.view(), |x| if q == 1. { x.abs() } else { x.abs().powf(power) });
        Tensor::op("abs_pow", data, [self], move |g, _| {
            Ok([if q == 0. { None } else { Some(g.try_mul(&(x.signed_pow(q - 1.) * T::of(q)))?) }])
        })
    }

    /// `sign(x) |x|^q`, and 0 at 0 for every `q`.
    fn signed_pow(&self, q: f64) -> Tensor<T> {
        if q == 1. {
            return self.clone();
        }
        let x = self.clone();
        let power = T::of(q);
        let data = map(self.view(), |x| match x == T::ZERO {
            true => T::ZERO,
            false if q == 0. => sign(x),
            false => sign(x) * x.abs().powf(power),
        });
        Tensor::op("signed_pow", data, [self], move |g, _| {
            Ok([if q == 0. { None } else { Some(g.try_mul(&(x.abs_pow(q - 1.) * T::of(q)))?) }])
        })
    }

    /// The `p`-norm over the given axes (none given: over all), which stay with length 1 if `keepdim`:
    /// `(Σ |x|ᵖ)^(1/p)`; for ∞ and −∞ the greatest and the smallest `|x|`, for 0 the number of elements that are not 0.
    ///
    /// Where the norm is 0, so is its gradient; at ±∞, elements that share the place share the gradient.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![[3., 4.], [0., -2.]];
    /// assert_eq!(x.norm(2., 1, false)?, tensor![5., 2.]);
    /// assert_eq!(x.norm(f64::INFINITY, [0, 1], false)?.item()?, 4.);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis, one is named twice, or `p` is infinite or negative and there are no elements.
    pub fn norm(&self, p: f64, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let r = Reduction::new("norm", self.shape(), &dims.into(), keepdim)?;
        if r.count == 0 && (p < 0. || p.is_infinite()) {
            let message = format!("there is no {p}-norm of no elements (the axes {:?} of {:?})", r.axes, self.shape());
            return Err(Error::shape("norm", message));
        }
        if p.is_infinite() {
            return Ok(self.infinity_norm(&r, p > 0.));
        }
        let sum = |f: &(dyn Fn(T) -> T + Sync)| r.place(kernel::sum(map(self.view(), f).view(), &r.axes));
        if p == 0. {
            return Ok(sum(&|x| if x == T::ZERO { T::ZERO } else { T::ONE }).into());
        }
        let power = T::of(p);
        let data = match p {
            1. => sum(&|x| x.abs()),
            2. => map(sum(&|x| x * x).view(), |s| s.sqrt()),
            _ => map(sum(&|x| x.abs().powf(power)).view(), |s| s.powf(power.recip())),
        };
        let (x, kept) = (self.clone(), r.kept.clone());
        Ok(Tensor::op_with_output("norm", data, [self], move |g, _, y| {
            let zero = Tensor::from(map(y.view(), |y| y == T::ZERO));
            let scale = g.try_mul(&y.abs_pow(1. - p))?.zero_where(&zero);
            Ok([Some(x.signed_pow(p - 1.).try_mul(&scale.reshape(kept.as_slice())?)?)])
        }))
    }

    fn infinity_norm(&self, r: &Reduction, greatest: bool) -> Tensor<T> {
        let size = map(self.view(), |x| x.abs());
        let fold = |size: &ArrayD<T>| match greatest {
            true => kernel::fold(size.view(), &r.axes, T::ZERO, greater),
            false => kernel::fold(size.view(), &r.axes, T::infinity(), smaller),
        };
        let extreme = r.keep(fold(&size));
        let x = self.detach();
        let (axes, kept) = (r.axes.clone(), r.kept.clone());
        let data = r.place(extreme.clone());
        Tensor::op("norm", data, [self], move |g, _| {
            let hit = zip(size.view(), extreme.view(), x.shape(), |s, e| {
                if s == e || (is_nan(s) && is_nan(e)) { T::ONE } else { T::ZERO }
            });
            let count = kernel::sum(hit.view(), &axes).into_shape_with_order(kept.as_slice()).expect("as many");
            let share = zip(hit.view(), count.view(), x.shape(), |h, n| h / n);
            let slope = Tensor::from(zip(x.view(), share.view(), x.shape(), |x, s| sign(x) * s));
            Ok([Some(slope.try_mul(&g.reshape(kept.as_slice())?)?)])
        })
    }
}
