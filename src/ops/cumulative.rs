//! Running sums, products and extremes along an axis.

use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::{products, reduce as kernel, scalar::is_nan},
    tensor::{DType, Element, Number, Real, Tensor, axis},
};

impl<T: Element> Tensor<T> {
    /// Moves by `by` along an axis; places that become free get `fill`.
    fn shift(&self, axis: usize, by: isize, fill: T) -> Tensor<T> {
        let data = kernel::shift(self.view(), axis, by, fill);
        Tensor::op("shift", data, [self], move |g, _| Ok([Some(g.shift(axis, -by, T::ZERO))]))
    }
}

impl<T: Number> Tensor<T> {
    /// `rᵢ = selfᵢ + factorsᵢ · rᵢ₋₁` along an axis, or from its end with `rᵢ₊₁`, in log₂ n elementwise steps, each of
    /// which has its own derivative.
    fn recur(&self, factors: Tensor<T>, axis: usize, from_end: bool) -> Result<Tensor<T>> {
        let (mut sums, mut factors) = (self.clone(), factors);
        let mut step = 1;
        while step < self.shape()[axis] {
            let by = if from_end { -(step as isize) } else { step as isize };
            sums = sums.try_add(&factors.try_mul(&sums.shift(axis, by, T::ZERO))?)?;
            factors = factors.try_mul(&factors.shift(axis, by, T::ZERO))?;
            step *= 2;
        }
        Ok(sums)
    }

    /// The `n`-th differences along an axis, `xᵢ₊₁ − xᵢ` taken `n` times, of `prepend`, this tensor and `append`
    /// joined.
    ///
    /// # Errors
    /// If this is a scalar, there is no such axis, or the joined tensors differ on another axis.
    pub fn diff(
        &self,
        n: usize,
        dim: isize,
        prepend: Option<&Tensor<T>>,
        append: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        if self.ndim() == 0 {
            return Err(Error::shape("diff", "expected at least one axis, got a scalar"));
        }
        let at = axis("diff", dim, self.ndim())?;
        let parts: Vec<&Tensor<T>> = [prepend, Some(self), append].into_iter().flatten().collect();
        let fits = |t: &Tensor<T>| {
            t.ndim() == self.ndim() && (0..t.ndim()).all(|d| d == at || t.shape()[d] == self.shape()[d])
        };
        if let Some(other) = parts.iter().find(|t| !fits(t)) {
            let message = format!("{:?} cannot be joined to {:?} along axis {at}", other.shape(), self.shape());
            return Err(Error::shape("diff", message));
        }
        if n == 0 {
            return Ok(self.clone());
        }
        let mut x = if parts.len() > 1 { Tensor::cat(&parts, dim)? } else { self.clone() };
        let times = n.min(x.shape()[at]);
        if x.numel() == 0 {
            // Without elements an axis may have any length.
            return x.narrow(dim, 0, x.shape()[at] - times);
        }
        for _ in 0..times {
            let rest = x.shape()[at] - 1;
            x = x.narrow(dim, 1, rest)?.try_sub(&x.narrow(dim, 0, rest)?)?;
        }
        Ok(x)
    }

    /// The running sum along an axis: `yᵢ = x₀ + … + xᵢ`.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn cumsum(&self, dim: isize) -> Result<Tensor<T>> {
        let axis = axis("cumsum", dim, self.ndim())?;
        Ok(if self.ndim() == 0 { self.clone() } else { self.running_sum(axis, false) })
    }

    #[concrete(Number)]
    fn running_sum(&self, axis: usize, reverse: bool) -> Tensor<T> {
        let data = kernel::cumsum(self.view(), axis, reverse);
        Tensor::op("cumsum", data, [self], move |g, _| Ok([Some(g.running_sum(axis, !reverse))]))
    }

    /// The running product along an axis: `yᵢ = x₀ · … · xᵢ`. For floats, it and its gradient are correct wherever they
    /// can be represented.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn cumprod(&self, dim: isize) -> Result<Tensor<T>> {
        let axis = axis("cumprod", dim, self.ndim())?;
        if self.ndim() == 0 {
            return Ok(self.clone());
        }
        Ok(self.running_product(Vec::new(), axis))
    }

    /// The derivative of the running products in the directions `tangents`, taken one after another; without tangents,
    /// the running products themselves.
    fn running_product(&self, tangents: Vec<Tensor<T>>, axis: usize) -> Tensor<T> {
        let views: Vec<_> = tangents.iter().map(Tensor::view).collect();
        let data = match T::DTYPE {
            DType::I64 => {
                kernel::scan(self.view(), axis, false, T::ONE, |product, x, _| product.times(x), |product| product)
            }
            _ => products::running(self.view(), &views, axis),
        };
        drop(views);
        let inputs: Vec<Tensor<T>> = [self.clone()].into_iter().chain(tangents.iter().cloned()).collect();
        let x = self.clone();
        Tensor::op_many("cumprod", data, &inputs.iter().collect::<Vec<_>>(), move |g, needed| {
            let without = |r: usize| [&tangents[..r], &tangents[r + 1..]].concat();
            let along = |r: Option<usize>| r.map_or_else(|| tangents.clone(), without);
            let grad = |(i, &needed): (usize, &bool)| {
                needed.then(|| x.running_product_gradient(g, along(i.checked_sub(1)), axis))
            };
            Ok(needed.iter().enumerate().map(grad).collect())
        })
    }

    /// The gradient of [`running_product`](Tensor::running_product)'s input, where its results have the gradients
    /// `weights`.
    pub(super) fn running_product_gradient(
        &self,
        weights: &Tensor<T>,
        tangents: Vec<Tensor<T>>,
        axis: usize,
    ) -> Tensor<T> {
        let views: Vec<_> = tangents.iter().map(Tensor::view).collect();
        let data = products::running_gradient(self.view(), weights.view(), &views, axis);
        drop(views);
        let inputs: Vec<Tensor<T>> = [self, weights].into_iter().chain(&tangents).cloned().collect();
        let (x, w) = (self.clone(), weights.clone());
        Tensor::op_many("cumprod_backward", data, &inputs.iter().collect::<Vec<_>>(), move |v, needed| {
            let and_v = || tangents.iter().chain([v]).cloned().collect::<Vec<_>>();
            let in_place_of = |r: usize| {
                let mut tangents = tangents.clone();
                tangents[r] = v.clone();
                tangents
            };
            let grad = |(i, &needed): (usize, &bool)| {
                needed.then(|| match i {
                    0 => x.running_product_gradient(&w, and_v(), axis),
                    1 => x.running_product(and_v(), axis),
                    _ => x.running_product_gradient(&w, in_place_of(i - 2), axis),
                })
            };
            Ok(needed.iter().enumerate().map(grad).collect())
        })
    }

    /// The largest element so far along an axis and its position, the last one if there are several; NaN counts as the
    /// largest.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn cummax(&self, dim: isize) -> Result<(Tensor<T>, Tensor<i64>)> {
        self.running_extreme("cummax", dim, |new, best| new >= best)
    }

    /// The smallest element so far along an axis and its position, the last one if there are several; NaN counts as the
    /// smallest.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn cummin(&self, dim: isize) -> Result<(Tensor<T>, Tensor<i64>)> {
        self.running_extreme("cummin", dim, |new, best| new <= best)
    }

    fn running_extreme(
        &self,
        op: &'static str,
        dim: isize,
        wins: impl Fn(T, T) -> bool,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        let axis = axis(op, dim, self.ndim())?;
        if self.ndim() == 0 {
            return Ok((self.clone(), Tensor::zeros([])));
        }
        let step = |best: Option<(T, usize)>, x, i| match best {
            Some((b, _)) if !(is_nan(x) || (!is_nan(b) && wins(x, b))) => best,
            _ => Some((x, i)),
        };
        let indices = kernel::scan(self.view(), axis, false, None, step, |best| best.map_or(0, |b| b.1 as i64));
        let indices = Tensor::from(indices);
        Ok((self.gather(dim, &indices)?, indices))
    }
}

impl<T: Real> Tensor<T> {
    /// The logarithm of the running sum of exponentials along an axis: `yᵢ = log(eˣ⁰ + … + eˣⁱ)`, without overflow.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn logcumsumexp(&self, dim: isize) -> Result<Tensor<T>> {
        let axis = axis("logcumsumexp", dim, self.ndim())?;
        if self.ndim() == 0 {
            return Ok(self.clone());
        }
        let data = kernel::logcumsumexp(self.view(), axis, false);
        let x = self.clone();
        Ok(Tensor::op_with_output("logcumsumexp", data, [self], move |g, _, y| {
            Ok([Some(logcumsumexp_backward(g, &x, y, axis))])
        }))
    }
}

/// The gradient of the input of logcumsumexp: `dᵢ = Σₖ gₖ eˣⁱ⁻ʸᵏ` over `k ≥ i`.
fn logcumsumexp_backward<T: Real>(g: &Tensor<T>, x: &Tensor<T>, y: &Tensor<T>, axis: usize) -> Tensor<T> {
    let data = kernel::logcumsumexp_backward(g.view(), x.view(), y.view(), axis);
    let (saved_g, saved_x, saved_y) = (g.clone(), x.clone(), y.clone());
    Tensor::op("logcumsumexp_backward", data, [g, x, y], move |u, _| {
        let (g, x, y) = (&saved_g, &saved_x, &saved_y);
        // pₖ = Σᵢ uᵢ eˣⁱ⁻ʸᵏ over i ≤ k, term by term: y never decreases, so no power exceeds 1. While the sum is still
        // 0, its logarithm has no derivative.
        let none = &y.eq(T::neg_infinity())?;
        let power = |of: &Tensor<T>| Ok(of.try_sub(y)?.zero_where(none).exp().zero_where(none));
        let ratios = power(&y.shift(axis, 1, T::neg_infinity()))?;
        let p = u.try_mul(&power(x)?)?.recur(ratios, axis, false)?;
        let dx = u.try_mul(&logcumsumexp_backward(g, x, y, axis))?;
        let dy = -g.try_mul(&p)?;
        Ok([Some(p), Some(dx), Some(dy)])
    })
}
