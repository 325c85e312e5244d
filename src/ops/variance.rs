//! Variance and standard deviation.

use ndarray::{ArrayRefD, ArrayViewD};
use ndnn_derive::concrete;

use super::reduce::{ALL, ReducedShapes, all};
use crate::{
    Result,
    kernels::{
        elementwise::{map, zip},
        layout::row_major,
        normalization::{is_rough, spread},
        reduce as kernel,
        scalar::max_nan,
    },
    tensor::{Array, Ints, Real, Tensor},
};

/// Below this size the square of a number is, or soon becomes, inaccurate because it is nearly subnormal.
pub(crate) fn faint<T: Real>() -> T {
    T::min_positive_value() / T::epsilon()
}

/// The power of two that scales a magnitude to 1 or just above; 1 for 0, infinity and NaN.
fn inverse_power<T: Real>(size: T) -> T {
    let exponent = |x: T| (x.as_f64().to_bits() >> 52 & 0x7FF) as i32 - 1023;
    match size > T::ZERO && size.is_finite() {
        true => T::of(2f64.powi(-exponent(size.max(T::min_positive_value())))),
        false => T::ONE,
    }
}

/// Whether the mean of some of `n` elements must be corrected.
fn any_rough<T: Real>(rest: &ArrayRefD<T>, squares: &ArrayRefD<T>, n: T) -> bool {
    let (rest, squares) = (rest.view(), squares.view());
    row_major(&rest).iter().zip(row_major(&squares).iter()).any(|(&rest, &sum)| is_rough(rest, sum / n))
}

/// Mean and sum of squared deviations, with length 1 for the axes.
struct Moments<T: Real> {
    mean: Array<T>,
    squares: Array<T>,
    /// What the elements were multiplied by, if their squares would overflow or underflow.
    scale: Option<Tensor<T>>,
}

#[concrete]
fn moments<T: Real>(x: &Tensor<T>, r: &ReducedShapes) -> Moments<T> {
    let [mean, squares] = corrected(x.view(), r);
    if all(&squares, &|sum| sum.is_finite() && sum >= faint()) {
        return Moments { mean, squares, scale: None };
    }
    let Some(scale) = x.balance(&r.axes, T::ZERO) else { return Moments { mean, squares, scale: None } };
    let scaled = zip(x.data(), scale.data(), x.raw_dim(), |x, s| x * s);
    let [mean, squares] = corrected(scaled.view(), r);
    Moments { mean, squares, scale: Some(scale) }
}

fn corrected<T: Real>(x: ArrayViewD<'_, T>, r: &ReducedShapes) -> [Array<T>; 2] {
    let n = T::of(r.count as f64);
    let sum = |x: ArrayViewD<'_, T>| r.keep(kernel::sum(x, &r.axes));
    let about = |mean: &ArrayRefD<T>| {
        let apart = zip(&x, mean, x.raw_dim(), |x, mean| x - mean);
        (r.mean(apart.view()), sum(map(&apart, |x| x * x).view()))
    };
    // An infinite mean has no remaining error.
    let whole = |mean: T, rest: T| if mean.is_infinite() { mean } else { mean + rest };
    let mut mean = r.mean(x.view()).into_shared();
    let (mut rest, mut squares) = about(&mean);
    if any_rough(&rest, &squares, n) {
        mean = zip(&mean, &rest, mean.raw_dim(), whole);
        (rest, squares) = about(&mean);
    }
    let squares = zip(&squares, &rest, mean.raw_dim(), |sum, rest| spread(sum, rest * n.sqrt()));
    [zip(&mean, &rest, mean.raw_dim(), whole), squares]
}

/// What a function of moments returns.
#[derive(Clone, Copy)]
enum Wanted {
    Mean,
    Variance,
    Deviation,
}

/// What is wanted, without the scale, with length 1 for the axes.
#[concrete]
fn unscaled<T: Real>(moments: &Moments<T>, wanted: Wanted, divisor: T) -> Array<T> {
    let value = |v: T| match wanted {
        Wanted::Mean => v,
        Wanted::Variance => v / divisor,
        Wanted::Deviation => (v / divisor).sqrt(),
    };
    let values = if let Wanted::Mean = wanted { &moments.mean } else { &moments.squares };
    match &moments.scale {
        None => map(values, value),
        Some(scale) => zip(values, scale.data(), values.raw_dim(), |v, s| match wanted {
            Wanted::Variance => value(v) / s / s,
            _ => value(v) / s,
        }),
    }
}

impl<T: Real> Tensor<T> {
    /// Powers of two, one per group of elements along `axes`, that scale the largest of a group to 1 or just above, if
    /// it is at least `floor`: products of the scaled elements neither overflow nor underflow. `None` if all are 1.
    #[concrete(Real)]
    pub(crate) fn balance(&self, axes: &[usize], floor: T) -> Option<Tensor<T>> {
        let r = ReducedShapes::over(self.shape(), axes.to_vec(), true);
        let sizes = kernel::fold(map(self.data(), |x| x.abs()).view(), axes, floor, max_nan);
        let scale = map(&r.keep(sizes), inverse_power);
        (!all(&scale, &|s| s == T::ONE)).then(|| scale.into())
    }

    /// The deviations from the mean along `axes`. The mean is corrected, so that for equal numbers they are exactly 0.
    pub(crate) fn centred(&self, axes: &[isize]) -> Result<Tensor<T>> {
        let mean = |x: &Tensor<T>| x.mean_dim(axes, true);
        let first = mean(self)?;
        // A correction is 0 except for rounding, and so is its derivative.
        let first = first.try_add(&mean(&self.try_sub(&first)?)?.detach())?;
        let apart = self.try_sub(&first)?;
        apart.try_sub(&mean(&apart)?.detach())
    }

    /// The mean over the axes of `r`, whose values are `data`.
    pub(super) fn mean_op(&self, r: &ReducedShapes, data: impl Into<Array<T>>) -> Tensor<T> {
        let (from, kept, n) = (self.shape().to_vec(), r.kept.clone(), T::of(r.count as f64));
        Tensor::op("mean", r.place(data), [self], move |g, _| {
            Ok([Some((g / n).reshape(kept.as_slice())?.broadcast_to(&from)?)])
        })
    }
}

impl<T: Real> Tensor<T> {
    /// The unbiased variance of all elements: `Σ (x − mean)² / (n − 1)`; NaN for fewer than two.
    pub fn var(&self) -> Tensor<T> {
        self.var_dim(ALL, 1., false).expect("all axes")
    }

    /// The variance over the given axes (an empty list means all), which stay with length 1 if `keepdim`: `Σ (x −
    /// mean)² / max(0, n − correction)`, where `correction` is 1 for the unbiased variance (PyTorch's default) and 0
    /// for that of a whole population.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn var_dim(&self, dims: impl Into<Ints>, correction: f64, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("var", self.shape(), &dims.into(), keepdim)?;
        let moments = moments(self, &r);
        Ok(self.var_op(r, correction, &moments))
    }

    fn var_op(&self, r: ReducedShapes, correction: f64, moments: &Moments<T>) -> Tensor<T> {
        let freedom = r.count as f64 - correction;
        let divisor = T::of(freedom.max(0.));
        let data = r.place(unscaled(moments, Wanted::Variance, divisor));
        let (x, axes, kept, scale) = (self.clone(), r.axes, r.kept, moments.scale.as_ref());
        // A deviation from the mean may be twice as large as the largest number.
        let large = scale.is_some_and(|scale| scale.elements().iter().any(|&s| s < T::ONE));
        let quarter = large.then(|| T::of(0.25));
        Tensor::op("var", data, [self], move |g, _| {
            let g = g.reshape(kept.as_slice())?;
            let dims: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
            let centred = match quarter {
                Some(quarter) => (&x * quarter).centred(&dims)?,
                None => x.centred(&dims)?,
            };
            if freedom <= 0. && axes.len() == x.ndim() {
                // What PyTorch returns for an infinite variance.
                let slope = Tensor::where_(&centred.eq(T::ZERO)?, T::nan(), T::infinity())?;
                return Ok([Some(slope.try_mul(&g)?)]);
            }
            let dx = centred.try_mul(&(g * T::of(2. / freedom)))?;
            Ok([Some(match quarter {
                Some(quarter) => dx / quarter,
                None => dx,
            })])
        })
    }

    /// The unbiased standard deviation of all elements; NaN for fewer than two.
    pub fn std(&self) -> Tensor<T> {
        self.std_dim(ALL, 1., false).expect("all axes")
    }

    /// The standard deviation, the square root of [`var_dim`](Tensor::var_dim). Where it is 0, so is its gradient.
    ///
    /// # Errors
    /// As [`var_dim`](Tensor::var_dim).
    pub fn std_dim(&self, dims: impl Into<Ints>, correction: f64, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("std", self.shape(), &dims.into(), keepdim)?;
        let moments = moments(self, &r);
        Ok(self.std_op(r, correction, &moments))
    }

    fn std_op(&self, r: ReducedShapes, correction: f64, moments: &Moments<T>) -> Tensor<T> {
        let freedom = r.count as f64 - correction;
        let divisor = T::of(freedom.max(0.));
        let data = r.place(unscaled(moments, Wanted::Deviation, divisor));
        let (x, axes, kept, scale) = (self.clone(), r.axes, r.kept, moments.scale.clone());
        Tensor::op_with_output("std", data, [self], move |g, _, y| {
            let constant = y.eq(T::ZERO)?.reshape(kept.as_slice())?;
            let [g, y] = [g.reshape(kept.as_slice())?, y.reshape(kept.as_slice())?];
            let dims: Vec<isize> = axes.iter().map(|&a| a as isize).collect();
            let share =
                (g / T::of(if axes.len() == x.ndim() { freedom.max(0.) } else { freedom })).zero_where(&constant);
            // The quotient does not depend on the scale.
            let [x, y] = match &scale {
                Some(scale) => [x.try_mul(scale)?, y.try_mul(scale)?],
                None => [x.clone(), y],
            };
            Ok([Some(x.centred(&dims)?.try_div(&y.masked_fill(&constant, T::ONE)?)?.try_mul(&share)?)])
        })
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
        let r = ReducedShapes::new("var_mean", self.shape(), &dims.into(), keepdim)?;
        let moments = moments(self, &r);
        let mean = self.mean_op(&r, unscaled(&moments, Wanted::Mean, T::ONE));
        Ok((self.var_op(r, correction, &moments), mean))
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
        let r = ReducedShapes::new("std_mean", self.shape(), &dims.into(), keepdim)?;
        let moments = moments(self, &r);
        let mean = self.mean_op(&r, unscaled(&moments, Wanted::Mean, T::ONE));
        Ok((self.std_op(r, correction, &moments), mean))
    }
}
