//! Reductions over any axes: sums, products, extremes, tests.

use ndarray::{ArrayD, ArrayRefD, ArrayViewD, IxDyn};
use ndnn_derive::concrete;

use super::shared;
use crate::{
    Error, Result,
    kernels::{
        copy::contiguous,
        elementwise::{map, zip},
        layout::row_major,
        products, reduce as kernel,
        scalar::{is_nan, max_nan, min_nan},
        sizes::room,
    },
    tensor::{Array, DType, Element, Ints, Number, Real, Tensor, axes},
};

/// The shapes after reducing `axes`: with length 1 in their place, and without them.
pub(crate) fn reduced_shapes(shape: &[usize], axes: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (mut kept, mut gone) = (shape.to_vec(), Vec::with_capacity(shape.len() - axes.len()));
    for (i, n) in kept.iter_mut().enumerate() {
        if axes.contains(&i) {
            *n = 1;
        } else {
            gone.push(*n);
        }
    }
    (kept, gone)
}

/// The shapes of a reduction over some axes.
pub(crate) struct ReducedShapes {
    pub axes: Vec<usize>,
    /// The reduced shape in which the axes have length 1.
    pub kept: Vec<usize>,
    /// The shape of the result.
    pub shape: Vec<usize>,
    /// The number of elements that are combined into one.
    pub count: usize,
}

impl ReducedShapes {
    /// Over `dims`; over all axes if the list is empty.
    pub fn new(op: &str, shape: &[usize], dims: &Ints, keepdim: bool) -> Result<ReducedShapes> {
        if shape.len() > MAX_AXES && !dims.0.is_empty() {
            let message = format!("a tensor of {} axes cannot be reduced over {:?}", shape.len(), dims.0);
            return Err(Error::shape(op, format!("{message}; expected at most {MAX_AXES} axes")));
        }
        let r = Self::over(shape, axes(op, dims, shape.len())?, keepdim);
        if shape.contains(&0) {
            // A result can have more elements than its input only if the input is empty; no element type is larger than
            // f64.
            room::<f64>(op, &r.shape)?;
        }
        Ok(r)
    }

    pub(super) fn over(shape: &[usize], axes: Vec<usize>, keepdim: bool) -> ReducedShapes {
        let (kept, gone) = reduced_shapes(shape, &axes);
        let count = axes.iter().map(|&a| shape[a]).product();
        ReducedShapes { axes, shape: if keepdim { kept.clone() } else { gone }, kept, count }
    }

    /// The mean, with length 1 for the reduced axes; finite if only the sum overflows.
    pub fn mean<T: Real>(&self, x: ArrayViewD<'_, T>) -> ArrayD<T> {
        let n = T::of(self.count as f64);
        let mut mean = self.keep(kernel::sum(x.view(), &self.axes));
        let mut finite = true;
        for sum in mean.as_slice_mut().expect("row-major order") {
            *sum /= n;
            finite &= sum.is_finite();
        }
        if self.count == 0 || finite { mean } else { self.keep(kernel::sum(map(&x, |x| x / n).view(), &self.axes)) }
    }

    /// What part of the gradient of an extreme each element gets: those that are the `same` share it equally.
    pub fn shares<T: Number>(
        &self,
        x: ArrayViewD<'_, T>,
        extreme: ArrayViewD<'_, T>,
        same: impl Fn(T, T) -> bool + Sync,
    ) -> Array<T> {
        let hit = zip(&x, &extreme, x.raw_dim(), |x, y| if same(x, y) { T::ONE } else { T::ZERO });
        let count = self.keep(kernel::sum(hit.view(), &self.axes));
        zip(&hit, &count, hit.raw_dim(), |h, n| h / n)
    }

    /// The reduced array in the shape of the result.
    pub fn place<T: Element>(&self, data: impl Into<Array<T>>) -> Array<T> {
        let data = data.into();
        let data = if data.is_standard_layout() { data } else { contiguous(data.view()).into_shared() };
        if data.ndim() == self.shape.len() {
            return data;
        }
        data.into_shape_with_order(IxDyn(&self.shape)).expect("as many elements")
    }

    /// The reduced array with length 1 for its axes, so that it broadcasts against the input.
    pub fn keep<T: Element>(&self, data: ArrayD<T>) -> ArrayD<T> {
        shaped(data, &self.kept)
    }
}

/// Whether a condition holds for all elements.
pub(super) fn all<T: Element>(x: &ArrayRefD<T>, holds: &dyn Fn(T) -> bool) -> bool {
    row_major(&x.view()).iter().all(|&x| holds(x))
}

fn shaped<T: Element>(data: ArrayD<T>, shape: &[usize]) -> ArrayD<T> {
    let data = if data.is_standard_layout() { data } else { contiguous(data.view()) };
    // One with as many axes has them in the same places.
    if data.ndim() == shape.len() {
        return data;
    }
    data.into_shape_with_order(IxDyn(shape)).expect("as many elements")
}

/// The axes by which `to` was broadcast from `from`.
fn broadcast_axes(to: &[usize], from: &[usize]) -> Vec<usize> {
    let lead = to.len() - from.len();
    let mut axes = Vec::with_capacity(to.len());
    for i in 0..to.len() {
        if i < lead || (from[i - lead] == 1 && to[i] != 1) {
            axes.push(i);
        }
    }
    axes
}

/// PyTorch's limit for reductions over named axes.
const MAX_AXES: usize = 64;

/// An empty list of axes, which means all of them.
pub(crate) const ALL: Ints = Ints(Vec::new());

impl<T: Element> Tensor<T> {
    /// The sum over the axes by which `self` was broadcast from `shape`: the derivative of broadcasting.
    pub(crate) fn sum_to(&self, shape: &[usize]) -> Result<Tensor<T>> {
        if self.shape() == shape {
            return Ok(self.clone());
        }
        let from = self.shape().to_vec();
        let data = shaped(kernel::sum(self.view(), &broadcast_axes(&from, shape)), shape);
        Ok(Tensor::op("sum_to", data, [self], move |g, _| Ok([Some(g.broadcast_to(&from)?)])))
    }

    /// As [`sum_to`](Tensor::sum_to), of a tensor that is no longer needed.
    pub(crate) fn into_sum_to(self, shape: &[usize]) -> Result<Tensor<T>> {
        if self.shape() == shape { Ok(self) } else { self.sum_to(shape) }
    }

    /// Whether all elements are true (not zero; NaN is true).
    pub fn all(&self) -> Tensor<bool> {
        Tensor::scalar(row_major(&self.view()).iter().all(|&x| x != T::ZERO))
    }

    /// Whether any element is true (not zero; NaN is true).
    pub fn any(&self) -> Tensor<bool> {
        Tensor::scalar(row_major(&self.view()).iter().any(|&x| x != T::ZERO))
    }

    /// [`all`](Tensor::all) over the given axes, which stay with length 1 if `keepdim`. An empty list, as in PyTorch,
    /// reduces nothing: it tests each element.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn all_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<bool>> {
        self.test("all", &dims.into(), keepdim, true)
    }

    /// [`any`](Tensor::any) over the given axes, which stay with length 1 if `keepdim`. An empty list, as in PyTorch,
    /// reduces nothing: it tests each element.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn any_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<bool>> {
        self.test("any", &dims.into(), keepdim, false)
    }

    /// Whether any element is not zero, or whether `all` are: whether none is zero.
    fn test(&self, op: &str, dims: &Ints, keepdim: bool, all: bool) -> Result<Tensor<bool>> {
        let found = map(self.data(), |x| (x == T::ZERO) == all);
        let of = |found: Array<bool>| if all { map(&found, |x| !x) } else { found };
        if dims.0.is_empty() {
            return Ok(of(found).into());
        }
        let r = ReducedShapes::new(op, self.shape(), dims, keepdim)?;
        Ok(r.place(of(kernel::sum(found.view(), &r.axes).into_shared())).into())
    }

    /// The number of elements that are not zero, over the given axes (an empty list means all).
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn count_nonzero(&self, dims: impl Into<Ints>) -> Result<Tensor<i64>> {
        let r = ReducedShapes::new("count_nonzero", self.shape(), &dims.into(), false)?;
        let ones = map(self.data(), |x| i64::from(x != T::ZERO));
        Ok(r.place(kernel::sum(ones.view(), &r.axes)).into())
    }
}

impl<T: Number> Tensor<T> {
    /// The sum of all elements.
    pub fn sum(&self) -> Tensor<T> {
        self.sum_dim(ALL, false).expect("all axes")
    }

    /// The sum over the given axes (an empty list means all), which stay with length 1 if `keepdim`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![[1., 2.], [3., 4.]];
    /// assert_eq!(x.sum_dim(0, false)?, tensor![4., 6.]);
    /// assert_eq!(x.sum_dim([0, 1], true)?, tensor![[10.]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    #[concrete(Number)]
    pub fn sum_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("sum", self.shape(), &dims.into(), keepdim)?;
        let data = r.place(kernel::sum(self.view(), &r.axes));
        let (from, kept) = (self.shape().to_vec(), r.kept);
        Ok(Tensor::op("sum", data, [self], move |g, _| Ok([Some(g.reshape(kept.as_slice())?.broadcast_to(&from)?)])))
    }

    /// The product of all elements.
    pub fn prod(&self) -> Tensor<T> {
        let flat = self.reshape([self.numel()].as_slice()).expect("as many elements");
        flat.prod_dim(0, false).expect("one axis")
    }

    /// The product over one axis, which stays with length 1 if `keepdim`. For floats, the product and its gradient are
    /// correct whenever they can be represented, even if a partial product overflows.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn prod_dim(&self, dim: isize, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("prod", self.shape(), &dim.into(), keepdim)?;
        let [axis] = r.axes[..] else { return Ok(self.clone()) };
        let product = match T::DTYPE {
            DType::I64 => kernel::fold(self.view(), &[axis], T::ONE, T::times).into_shared(),
            _ => products::product(self.view(), axis),
        };
        let (x, kept) = (self.clone(), r.kept.clone());
        Ok(Tensor::op("prod", r.place(product), [self], move |g, _| {
            // The gradient with respect to the last of the running products.
            let mut others = x.shape().to_vec();
            others[axis] = others[axis].saturating_sub(1);
            let weights = Tensor::cat(&[&Tensor::zeros(others), &g.reshape(kept.as_slice())?], axis as isize)?;
            Ok([Some(x.running_product_gradient(
                &weights.narrow(axis as isize, 0, x.shape()[axis])?,
                Vec::new(),
                axis,
            ))])
        }))
    }

    /// The sum of a matrix's diagonal.
    ///
    /// # Errors
    /// If this is not a matrix.
    pub fn trace(&self) -> Result<Tensor<T>> {
        if self.ndim() != 2 {
            return Err(Error::shape("trace", format!("expected a matrix, got {:?}", self.shape())));
        }
        Ok(self.diagonal(0, 0, 1)?.sum())
    }
}

impl<T: Real> Tensor<T> {
    /// The mean of all elements; NaN if there are none.
    pub fn mean(&self) -> Tensor<T> {
        self.mean_dim(ALL, false).expect("all axes")
    }

    /// The mean over the given axes (an empty list means all), which stay with length 1 if `keepdim`. It is finite even
    /// if the sum overflows.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    #[concrete(Real)]
    pub fn mean_dim(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new("mean", self.shape(), &dims.into(), keepdim)?;
        Ok(self.mean_op(&r, r.mean(self.view())))
    }
}

// ----------------------------------------------------------------------------------------------------------- extremes

/// Which elements an extreme over several axes was taken from, if NaN may be among them.
#[derive(Clone, Copy, PartialEq)]
enum Ties {
    /// As `amax`: those equal to the extreme; NaN equals nothing.
    Equal,
    /// As `max`: those equal to the extreme, and NaN if the extreme is NaN.
    EqualOrNan,
}

impl<T: Number> Tensor<T> {
    fn empty(&self, op: &str, dims: &[usize]) -> Error {
        Error::shape(op, format!("there is no element to choose along the axes {dims:?} of {:?}", self.shape()))
    }

    /// The largest or the smallest element over `dims`; its gradient is divided equally among the elements equal to it.
    fn extreme(&self, op: &'static str, dims: &Ints, keepdim: bool, ties: Ties, largest: bool) -> Result<Tensor<T>> {
        let r = ReducedShapes::new(op, self.shape(), dims, keepdim)?;
        if r.count == 0 {
            return Err(self.empty(op, &r.axes));
        }
        // The infinity that any element replaces; for i64, the smallest or largest number.
        let data = match largest {
            true => kernel::fold(self.view(), &r.axes, T::of(f64::NEG_INFINITY), max_nan),
            false => kernel::fold(self.view(), &r.axes, T::of(f64::INFINITY), min_nan),
        };
        let x = self.detach();
        let data = r.place(data);
        Ok(Tensor::op_with_output(op, data, [self], move |g, _, y| {
            let same = |x: T, y: T| x == y || (ties == Ties::EqualOrNan && is_nan(x) && is_nan(y));
            let y = y.detach().reshape(r.kept.as_slice())?;
            let share = r.shares(x.view(), y.view(), same);
            Ok([Some(shared(&g.reshape(r.kept.as_slice())?, &share.into())?)])
        }))
    }

    /// The largest element over the given axes (an empty list means all); NaN if there is one. If several elements are
    /// the largest, they share the gradient equally.
    ///
    /// # Errors
    /// If there is no such axis, one is named twice, or there are no elements to choose from.
    #[concrete(Number)]
    pub fn amax(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        self.extreme("amax", &dims.into(), keepdim, Ties::Equal, true)
    }

    /// The smallest element over the given axes (an empty list means all), as [`amax`](Tensor::amax).
    ///
    /// # Errors
    /// As [`amax`](Tensor::amax).
    #[concrete(Number)]
    pub fn amin(&self, dims: impl Into<Ints>, keepdim: bool) -> Result<Tensor<T>> {
        self.extreme("amin", &dims.into(), keepdim, Ties::Equal, false)
    }

    /// The largest element; NaN if there is one.
    ///
    /// # Errors
    /// If there are no elements.
    #[concrete(Number)]
    pub fn max(&self) -> Result<Tensor<T>> {
        self.extreme("max", &ALL, false, Ties::EqualOrNan, true)
    }

    /// The smallest element; NaN if there is one.
    ///
    /// # Errors
    /// If there are no elements.
    #[concrete(Number)]
    pub fn min(&self) -> Result<Tensor<T>> {
        self.extreme("min", &ALL, false, Ties::EqualOrNan, false)
    }

    /// The largest element over one axis and its position, the first one if there are several; NaN counts as the
    /// largest.
    ///
    /// # Errors
    /// If there is no such axis, or there are no elements along it.
    #[concrete(Number)]
    pub fn max_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        self.extreme_dim("max", dim, keepdim, true)
    }

    /// The smallest element over one axis and its position, the first one if there are several; NaN counts as the
    /// smallest.
    ///
    /// # Errors
    /// If there is no such axis, or there are no elements along it.
    #[concrete(Number)]
    pub fn min_dim(&self, dim: isize, keepdim: bool) -> Result<(Tensor<T>, Tensor<i64>)> {
        self.extreme_dim("min", dim, keepdim, false)
    }

    fn extreme_dim(
        &self,
        op: &'static str,
        dim: isize,
        keepdim: bool,
        largest: bool,
    ) -> Result<(Tensor<T>, Tensor<i64>)> {
        let indices = self.position(op, Some(dim), true, largest)?;
        let values = self.gather(dim, &indices)?;
        let r = ReducedShapes::new(op, self.shape(), &dim.into(), keepdim)?;
        Ok((values.reshape(r.shape.as_slice())?, indices.reshape(r.shape.as_slice())?))
    }

    /// The position of the largest element along `dim` or, without one, in the flattened tensor: the first one if there
    /// are several; NaN counts as the largest.
    ///
    /// # Errors
    /// If there is no such axis, or there are no elements to choose from.
    #[concrete(Number)]
    pub fn argmax(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor<i64>> {
        self.position("argmax", dim, keepdim, true)
    }

    /// The position of the smallest element, as [`argmax`](Tensor::argmax).
    ///
    /// # Errors
    /// As [`argmax`](Tensor::argmax).
    #[concrete(Number)]
    pub fn argmin(&self, dim: Option<isize>, keepdim: bool) -> Result<Tensor<i64>> {
        self.position("argmin", dim, keepdim, false)
    }

    fn position(&self, op: &str, dim: Option<isize>, keepdim: bool, largest: bool) -> Result<Tensor<i64>> {
        let r = ReducedShapes::new(op, self.shape(), &dim.map_or(ALL, Ints::from), keepdim)?;
        if r.count == 0 {
            return Err(self.empty(op, &r.axes));
        }
        let data = match largest {
            true => self.first_of(&r, dim.is_some(), |a, b| a > b),
            false => self.first_of(&r, dim.is_some(), |a, b| a < b),
        };
        Ok(r.place(data).into())
    }

    /// The position of the first element that no other comes before, along the only axis or in the flattened tensor.
    fn first_of(
        &self,
        r: &ReducedShapes,
        along: bool,
        before: impl Fn(T, T) -> bool + Copy + Send + Sync,
    ) -> ArrayD<i64> {
        match r.axes[..] {
            [axis] if along => kernel::positions(self.view(), axis, before),
            _ => ndarray::arr0(kernel::position(&row_major(&self.view()), self.numel(), 1, before) as i64).into_dyn(),
        }
    }
}
