//! Norms of vectors.

use ndarray::{ArrayD, ArrayViewD};
use ndnn_derive::concrete;

use super::{
    faint,
    reduce::{ReducedShapes, all},
    shared,
};
use crate::{
    Error, Result,
    kernels::{
        elementwise::{map, zip},
        reduce as kernel,
        scalar::{is_nan, max_nan, min_nan, sign},
    },
    tensor::{Array, Ints, Real, Tensor},
};

/// `size` with the sign of `x`; 0 where `x` is, and NaN where it is that.
fn signed<T: Real>(x: T, size: T) -> T {
    if is_nan(x) { x } else { sign(x) * size }
}

impl<T: Real> Tensor<T> {
    /// `|x|^q`
    #[concrete(Real)]
    fn abs_pow(&self, q: f64) -> Tensor<T> {
        let x = self.clone();
        let power = T::of(q);
        let data = map(self.data(), |x| if q == 1. { x.abs() } else { x.abs().powf(power) });
        Tensor::op("abs_pow", data, [self], move |g, _| {
            Ok([if q == 0. { None } else { Some(g.try_mul(&(x.signed_pow(q - 1.) * T::of(q)))?) }])
        })
    }

    /// `sign(x) |x|^q`, and 0 at 0 for every `q`.
    #[concrete(Real)]
    fn signed_pow(&self, q: f64) -> Tensor<T> {
        if q == 1. {
            return self.clone();
        }
        let x = self.clone();
        let power = T::of(q);
        let data = map(self.data(), |x| match x == T::ZERO {
            true => T::ZERO,
            false if q == 0. => signed(x, T::ONE),
            false => signed(x, x.abs().powf(power)),
        });
        Tensor::op("signed_pow", data, [self], move |g, _| {
            Ok([if q == 0. { None } else { Some(g.try_mul(&(x.abs_pow(q - 1.) * T::of(q)))?) }])
        })
    }

    /// The `p`-norm over the given axes (an empty list means all), which stay with length 1 if `keepdim`: `(Σ
    /// |x|ᵖ)^(1/p)`; for ∞ and −∞ the largest and the smallest `|x|`, for 0 the number of elements that are not 0.
    ///
    /// Where the norm is 0, so is its gradient; for ±∞, elements of equal `|x|` share the gradient.
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
        let r = ReducedShapes::new("norm", self.shape(), &dims.into(), keepdim)?;
        if r.count == 0 && (p < 0. || p.is_infinite()) {
            let message = format!("there is no {p}-norm of no elements (the axes {:?} of {:?})", r.axes, self.shape());
            return Err(Error::shape("norm", message));
        }
        if p.is_infinite() {
            let x = self.detach();
            return Ok(Tensor::op_with_output("norm", r.place(x.extreme_size(&r, p > 0.)), [self], move |g, _, y| {
                let [g, extreme] = [g.reshape(r.kept.as_slice())?, y.detach().reshape(r.kept.as_slice())?];
                Ok([Some(shared(&g, &x.shares_of_extreme(&r, &extreme))?)])
            }));
        }
        if p == 0. {
            let counted: Tensor<T> = self.ne(T::ZERO)?.cast().sum_dim(signed_axes(&r), keepdim)?;
            // A count, which small changes do not alter.
            let x = self.detach();
            return Ok(Tensor::op("norm", counted, [self], move |_, _| Ok([Some(x.zeros_like())])));
        }
        let data = r.place(self.p_norm(&r, p));
        let x = self.clone();
        Ok(Tensor::op_with_output("norm", data, [self], move |g, _, y| {
            let [g, y] = [g.reshape(r.kept.as_slice())?, y.reshape(r.kept.as_slice())?];
            if p == 1. {
                // As for `abs`, even where x is NaN.
                return Ok([Some(shared(&g, &x.detach().sign())?)]);
            }
            let zero = y.eq(T::ZERO)?;
            let g = g.zero_where(&zero);
            if p == 2. {
                return Ok([Some(x.try_div(&y.masked_fill(&zero, T::ONE)?)?.try_mul(&g)?)]);
            }
            // (|x|/y)^(p−1), with |x| divided by the largest: dividing by y would round away differences that matter
            // for a large p.
            let largest = Tensor::from(x.largest(&r, p));
            let part = x.try_div(&largest)?;
            let sum = part.abs_pow(p).sum_dim(signed_axes(&r), true)?.masked_fill(&zero, T::ONE)?;
            let power = match (0. ..2.).contains(&p) {
                // The two factors separately, neither of which leaves the range: their quotient may be too small for
                // it.
                true => x.signed_pow(p - 1.).try_mul(&largest.abs_pow(1. - p))?,
                false => part.signed_pow(p - 1.),
            };
            Ok([Some(power.try_mul(&sum.abs_pow((1. - p) / p))?.try_mul(&g)?)])
        }))
    }

    /// The magnitude that determines a norm: the largest one, or the smallest for a negative `p`; 1 if that is 0, infinite
    /// or NaN.
    #[concrete(Real)]
    fn largest(&self, r: &ReducedShapes, p: f64) -> Array<T> {
        let size = self.extreme_size(r, p > 0.);
        map(&size, |s| if s > T::ZERO && s.is_finite() { s } else { T::ONE })
    }

    /// The norm, with length 1 for its axes; where powers of the elements overflow or underflow, the elements are first
    /// divided by the largest.
    #[concrete(Real)]
    fn p_norm(&self, r: &ReducedShapes, p: f64) -> Array<T> {
        let power = T::of(p);
        let sum = |x: ArrayViewD<'_, T>| {
            let powers = match p {
                1. => map(&x, |x| x.abs()),
                2. => map(&x, |x| x * x),
                _ => map(&x, |x| x.abs().powf(power)),
            };
            r.keep(kernel::sum(powers.view(), &r.axes))
        };
        let root = |sum: T| match p {
            1. => sum,
            2. => sum.sqrt(),
            _ => sum.powf(power.recip()),
        };
        let plain = sum(self.view());
        if all(&plain, &|sum| sum.is_finite() && sum >= faint()) {
            return map(&plain, root);
        }
        let size = self.largest(r, p);
        let parts = zip(self.data(), &size, self.raw_dim(), |x, size| x / size);
        zip(&sum(parts.view()), &size, size.raw_dim(), |sum, size| root(sum) * size)
    }

    /// The largest or the smallest magnitude, with length 1 for the axes; NaN if there is one.
    #[concrete(Real)]
    fn extreme_size(&self, r: &ReducedShapes, greatest: bool) -> ArrayD<T> {
        let size = map(self.data(), |x| x.abs());
        r.keep(match greatest {
            true => kernel::fold(size.view(), &r.axes, T::ZERO, max_nan),
            false => kernel::fold(size.view(), &r.axes, T::infinity(), min_nan),
        })
    }

    /// What part of the gradient of an extreme magnitude each element gets, with its sign.
    #[concrete(Real)]
    fn shares_of_extreme(&self, r: &ReducedShapes, extreme: &Tensor<T>) -> Tensor<T> {
        let size = map(self.data(), |x| x.abs());
        // As PyTorch: a NaN takes the share of all others, and has the sign 0.
        let share = r.shares(size.view(), extreme.view(), |s, e| s == e || (is_nan(s) && is_nan(e)));
        zip(self.data(), &share, self.raw_dim(), |x, share| sign(x) * share).into()
    }
}

fn signed_axes(r: &ReducedShapes) -> Vec<isize> {
    r.axes.iter().map(|&axis| axis as isize).collect()
}
