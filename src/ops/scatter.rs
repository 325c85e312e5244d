//! Writing into a tensor by index: the result is a new tensor, and the old one is unchanged.

use ndnn_derive::concrete;

use super::gather::{fits, positions, vector};
use crate::{
    Error, Result,
    kernels::{
        elementwise::map,
        gather::{Rows, places, put_rows},
        layout::{array, row_major},
        memory::{collected, copied, filled, mapped, push},
        scalar::{max_nan, min_nan},
        sizes::room,
        sort,
    },
    tensor::{DType, Element, Operand, Real, Tensor, axis, grad_enabled},
};

// ------------------------------------------------------------------------------------------------------- slice by slice

impl<T: Element> Tensor<T> {
    /// `self` with slice `k` of `source` added to the slice with the index `index[k]`. For PyTorch's `alpha`, scale the
    /// source.
    ///
    /// # Errors
    /// If there is no such axis, an index is negative or out of range, or the shape of `source` is not that of `self`
    /// with `index.len()` on this axis.
    pub fn index_add(&self, dim: isize, index: &Tensor<i64>, source: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "index_add";
        let at = axis(OP, dim, self.ndim())?;
        let index = vector(OP, index, at, self.shape(), false)?;
        slices_fit(OP, self.shape(), at, index.len(), source.shape(), self.ndim() == source.ndim())?;
        Ok(self.rows_added(at, &index, source))
    }

    /// The derivative of taking rows, and vice versa; the indices and shapes were checked.
    #[concrete(Element)]
    pub(crate) fn rows_added(&self, at: usize, index: &[usize], source: &Tensor<T>) -> Tensor<T> {
        let mut out = self.to_vec();
        put_rows(&mut out, Rows::new(self.shape(), at), index, &row_major(&source.view()), T::plus);
        let index = copied(index);
        Tensor::op("index_add", array(self.shape(), out), [self, source], move |g, [left, right]| {
            Ok([left.then(|| g.clone()), right.then(|| g.rows_taken("index_select", at, index.clone())).transpose()?])
        })
    }

    /// `self` with the slice with the index `index[k]` replaced by slice `k` of `source`.
    ///
    /// # Errors
    /// If there is no such axis, an index is negative or out of range, or the shape of `source` is not that of `self`
    /// with `index.len()` on this axis.
    pub fn index_copy(&self, dim: isize, index: &Tensor<i64>, source: &Tensor<T>) -> Result<Tensor<T>> {
        const OP: &str = "index_copy";
        let at = axis(OP, dim, self.ndim())?;
        let index = vector(OP, index, at, self.shape(), false)?;
        let ranks = self.ndim() == source.ndim() || self.ndim().max(source.ndim()) == 1;
        slices_fit(OP, self.shape(), at, index.len(), source.shape(), ranks)?;
        Ok(self.rows_copied(at, index, source))
    }

    /// `self` with the rows of axis `at` that `index` names replaced by those of `source`; all was checked.
    #[concrete(Element)]
    pub(crate) fn rows_copied(&self, at: usize, index: Vec<usize>, source: &Tensor<T>) -> Tensor<T> {
        let mut out = self.to_vec();
        put_rows(&mut out, Rows::new(self.shape(), at), &index, &row_major(&source.view()), |_, b| b);
        let from = source.shape().to_vec();
        Tensor::op("index_copy", array(self.shape(), out), [self, source], move |g, [left, right]| {
            let dx = left.then(|| g.rows_copied(at, index.clone(), &Tensor::zeros(&from)));
            let ds = right.then(|| g.rows_or_scalar(at, &index, &from)).transpose()?;
            Ok([dx, ds])
        })
    }

    /// The rows that `index` names, in the shape of the source.
    fn rows_or_scalar(&self, at: usize, index: &[usize], shape: &[usize]) -> Result<Tensor<T>> {
        self.rows_taken("index_select", at, index.to_vec())?.reshape(shape)
    }

    /// `self` with the slices that `index` names (negative counts from the end) filled with one value: a number, or a
    /// tensor with no axes, which gets a gradient.
    ///
    /// # Errors
    /// If there is no such axis, an index is out of range, or `value` has axes.
    pub fn index_fill(&self, dim: isize, index: &Tensor<i64>, value: impl Operand<T>) -> Result<Tensor<T>> {
        const OP: &str = "index_fill";
        let (at, value) = (axis(OP, dim, self.ndim())?, value.operand());
        // An index that occurs twice is filled once, and counts once in the gradient.
        let index = sort::distinct(&vector(OP, index, at, self.shape(), true)?);
        if value.ndim() != 0 {
            return Err(Error::shape(OP, format!("expected a scalar to fill with, got {:?}", value.shape())));
        }
        let mut shape = if self.ndim() == 0 { vec![1] } else { self.shape().to_vec() };
        shape[at] = index.len();
        Ok(self.rows_copied(at, index, &value.broadcast_to(&shape)?))
    }
}

/// Checks that `source` has the shape `shape` with `count` on axis `at`; a scalar counts as a vector of one element.
fn slices_fit(op: &str, shape: &[usize], at: usize, count: usize, source: &[usize], ranks: bool) -> Result<()> {
    let mut wanted = if shape.is_empty() { vec![1] } else { shape.to_vec() };
    wanted[at] = count;
    if !ranks || wanted != if source.is_empty() { &[1] } else { source } {
        return Err(Error::shape(
            op,
            format!("the source is {source:?}, {count} indices on axis {at} of {shape:?} expect {wanted:?}"),
        ));
    }
    Ok(())
}

// --------------------------------------------------------------------------------------------------- element by element

/// How [`Tensor::scatter_reduce`] combines the elements that go to one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduce {
    /// Their sum.
    Sum,
    /// Their product.
    Prod,
    /// Their mean.
    Mean,
    /// The smallest.
    Amin,
    /// The largest.
    Amax,
}

/// The axis and the positions of a scatter; checks that index, target and source match.
fn targets<T: Element>(
    op: &str,
    target: &Tensor<T>,
    dim: isize,
    index: &Tensor<i64>,
    source: Option<&Tensor<T>>,
) -> Result<(usize, Vec<usize>)> {
    let at = axis(op, dim, target.ndim())?;
    if index.numel() > 0 {
        fits(op, "the tensor", target.shape(), index.shape(), Some(at))?;
        if let Some(source) = source {
            fits(op, "the source", source.shape(), index.shape(), None)?;
        }
    }
    Ok((at, positions(op, index, at, target.shape(), false)?))
}

impl<T: Element> Tensor<T> {
    /// `self` with `self[index[i][j][k]][j][k] = src[i][j][k]` for `dim` 0, and accordingly for the others.
    ///
    /// The index has as many axes as `self` and `src` and is no larger than `src`, nor than `self` on any axis but
    /// `dim`. If two elements go to one place the later one is used, and the gradient flows to both, as in PyTorch.
    ///
    /// # Errors
    /// If the shapes do not match, or an index is negative or out of range.
    pub fn scatter(&self, dim: isize, index: &Tensor<i64>, src: &Tensor<T>) -> Result<Tensor<T>> {
        let (at, position) = targets("scatter", self, dim, index, Some(src))?;
        Ok(self.replaced(at, index.shape().to_vec(), position, &src.first_part(index)?))
    }

    /// As [`scatter`](Tensor::scatter), with one value for all places.
    ///
    /// # Errors
    /// As [`scatter`](Tensor::scatter).
    pub fn scatter_value(&self, dim: isize, index: &Tensor<i64>, value: T) -> Result<Tensor<T>> {
        let (at, position) = targets("scatter", self, dim, index, None)?;
        Ok(self.replaced(at, index.shape().to_vec(), position, &Tensor::full(index.shape(), value)))
    }

    /// As [`scatter`](Tensor::scatter), but adds: `self[index[i][j][k]][j][k] += src[i][j][k]`.
    ///
    /// # Errors
    /// As [`scatter`](Tensor::scatter).
    pub fn scatter_add(&self, dim: isize, index: &Tensor<i64>, src: &Tensor<T>) -> Result<Tensor<T>> {
        let (at, position) = targets("scatter_add", self, dim, index, Some(src))?;
        Ok(self.added(at, index.shape(), &position, &src.first_part(index)?))
    }

    /// The elements of `self` in the shape of an index that is no larger.
    fn first_part(&self, index: &Tensor<i64>) -> Result<Tensor<T>> {
        if index.numel() == 0 || self.ndim() != index.ndim() {
            return self.reshape(self.numel() as isize)?.narrow(0, 0, index.numel())?.reshape(index.shape());
        }
        let mut part = self.clone();
        for (i, &n) in index.shape().iter().enumerate().filter(|&(i, &n)| n != self.shape()[i]) {
            part = part.narrow(i as isize, 0, n)?;
        }
        Ok(part)
    }

    /// `self` with the elements of `src`, which has the shape of the index, added at their places.
    pub(crate) fn added(&self, at: usize, index_shape: &[usize], position: &[usize], src: &Tensor<T>) -> Tensor<T> {
        let mut out = self.to_vec();
        let view = src.view();
        let source = row_major(&view);
        places(self.shape(), index_shape, at, position, |to, k| out[to] = out[to].plus(source[k]));
        let index = index_tensor(index_shape, position);
        Tensor::op("scatter_add", array(self.shape(), out), [self, src], move |g, [left, right]| {
            Ok([left.then(|| g.clone()), right.then(|| g.gather(at as isize, &index)).transpose()?])
        })
    }

    fn replaced(&self, at: usize, index_shape: Vec<usize>, position: Vec<usize>, src: &Tensor<T>) -> Tensor<T> {
        let mut out = self.to_vec();
        let view = src.view();
        let source = row_major(&view);
        places(self.shape(), &index_shape, at, &position, |to, k| out[to] = source[k]);
        let index = index_tensor(&index_shape, &position);
        Tensor::op("scatter", array(self.shape(), out), [self, src], move |g, [left, right]| {
            let dx = left.then(|| g.scatter_value(at as isize, &index, T::ZERO)).transpose()?;
            Ok([dx, right.then(|| g.gather(at as isize, &index)).transpose()?])
        })
    }
}

fn index_tensor(shape: &[usize], position: &[usize]) -> Tensor<i64> {
    array(shape, collected(position.iter().map(|&i| i as i64))).into()
}

impl<T: Real> Tensor<T> {
    /// As [`scatter`](Tensor::scatter), but combines all elements that go to one place, with `include_self` also the
    /// one that is already there.
    ///
    /// Elements that tie for the smallest or largest share the gradient equally.
    ///
    /// # Errors
    /// As [`scatter`](Tensor::scatter).
    pub fn scatter_reduce(
        &self,
        dim: isize,
        index: &Tensor<i64>,
        src: &Tensor<T>,
        reduce: Reduce,
        include_self: bool,
    ) -> Result<Tensor<T>> {
        let (at, position) = targets("scatter_reduce", self, dim, index, Some(src))?;
        if reduce == Reduce::Prod && T::DTYPE == DType::F32 {
            // A product of f32 may overflow or underflow where its factors, and the gradients from them, do not.
            let [x, src] = [self, src].map(|t| t.cast::<f64>());
            return Ok(x.scatter_reduce(dim, index, &src, reduce, include_self)?.cast());
        }
        let src = src.first_part(index)?;
        let out = reduced(self, at, index, &position, &src, reduce, include_self);
        let dim = at as isize;
        let (x, s, index) = (self.clone(), src.clone(), index.clone());
        Ok(Tensor::op_with_output("scatter_reduce", out, [self, &src], move |g, [left, right], out| {
            let (dx, ds) = match reduce {
                Reduce::Sum => (g.clone(), g.gather(dim, &index)?),
                Reduce::Mean => {
                    let base = if include_self { g.detach().ones_like() } else { g.detach().zeros_like() };
                    let n = base.scatter_add(dim, &index, &Tensor::ones(index.shape()))?;
                    let n: Tensor<T> = map(n.data(), |n| n.max(T::ONE)).into();
                    (g / &n, g.gather(dim, &index)? / n.gather(dim, &index)?)
                }
                Reduce::Amin | Reduce::Amax => {
                    let mine = x.eq(out)?;
                    // Elements that are overwritten take no part in a tie.
                    let mine = if include_self { mine } else { mine.scatter_value(dim, &index, false)? };
                    let theirs = s.eq(&out.gather(dim, &index)?)?;
                    let share = g / &mine.cast::<T>().scatter_add(dim, &index, &theirs.cast())?;
                    let theirs_share = share.gather(dim, &index)?.zero_where(&!theirs);
                    (share.zero_where(&!mine), theirs_share)
                }
                Reduce::Prod => product_grads(g, &x, dim, &index, &s, include_self, out)?,
            };
            let dx = if include_self || !left { dx } else { dx.scatter_value(dim, &index, T::ZERO)? };
            Ok([left.then_some(dx), right.then_some(ds)])
        }))
    }
}

/// The value of scatter_reduce.
fn reduced<T: Real>(
    x: &Tensor<T>,
    at: usize,
    index: &Tensor<i64>,
    position: &[usize],
    src: &Tensor<T>,
    reduce: Reduce,
    include_self: bool,
) -> ndarray::ArrayD<T> {
    let mut out = x.to_vec();
    let mut count = filled(out.len(), usize::from(include_self));
    let view = src.view();
    let source = row_major(&view);
    let join = |a: T, b: T| match reduce {
        Reduce::Sum | Reduce::Mean => a + b,
        Reduce::Prod => a * b,
        Reduce::Amin => min_nan(a, b),
        Reduce::Amax => max_nan(a, b),
    };
    places(x.shape(), index.shape(), at, position, |to, k| {
        out[to] = if count[to] == 0 { source[k] } else { join(out[to], source[k]) };
        count[to] += 1;
    });
    if reduce == Reduce::Mean {
        out.iter_mut().zip(&count).filter(|(_, n)| **n > 1).for_each(|(x, &n)| *x /= T::of(n as f64));
    }
    array(x.shape(), out)
}

/// The gradients of a scattered product with respect to the tensor and the source: the product of all other factors,
/// even if one factor is zero.
fn product_grads<T: Real>(
    g: &Tensor<T>,
    x: &Tensor<T>,
    dim: isize,
    index: &Tensor<i64>,
    src: &Tensor<T>,
    include_self: bool,
    out: &Tensor<T>,
) -> Result<(Tensor<T>, Tensor<T>)> {
    let x_one = x.masked_fill(&x.eq(T::ZERO)?, T::ONE)?;
    let dx = g * x_one.scatter_reduce(dim, index, src, Reduce::Prod, include_self)? / &x_one;

    let zero = src.eq(T::ZERO)?;
    let zeros = x.detach().zeros_like().scatter_add(dim, index, &zero.cast())?.gather(dim, index)?;
    let single = zero.logical_and(&zeros.eq(T::ONE)?)?;
    let others = x.scatter_reduce(dim, index, &src.masked_fill(&single, T::ONE)?, Reduce::Prod, include_self)?;
    let at_zero = (g * others).gather(dim, index)?;
    let elsewhere = (g * out).gather(dim, index)? / src.masked_fill(&zero, T::ONE)?;
    let ds = Tensor::where_(&single, at_zero, elsewhere)?;
    let several = zeros.gt(T::ONE)?;
    if grad_enabled() && several.elements().iter().any(|&several| several) {
        let whole = product_grads_by_rows(g, x, dim as usize, index, src, include_self, &several)?;
        return Ok((dx, Tensor::where_(&several, whole, ds)?));
    }
    Ok((dx, ds))
}

/// The gradient of the source where `several` zeros go to one place. The formula above gives its value, but not its
/// derivatives: this puts all factors of such a place into one row of a table, whose products have all derivatives.
fn product_grads_by_rows<T: Real>(
    g: &Tensor<T>,
    x: &Tensor<T>,
    at: usize,
    index: &Tensor<i64>,
    src: &Tensor<T>,
    include_self: bool,
    several: &Tensor<bool>,
) -> Result<Tensor<T>> {
    // Factors are numbered: those of `x`, of the source, and a 1.
    let (several, one) = (several.to_vec(), (x.numel() + src.numel()) as i64);
    let mut row_of = filled(x.numel(), None);
    let (mut rows, mut targets, mut slots) = (Vec::new(), Vec::new(), filled(src.numel(), (0, 0)));
    let position = mapped(&row_major(&index.view()), |i| i as usize);
    places(x.shape(), index.shape(), at, &position, |to, k| {
        if several[k] {
            let row = *row_of[to].get_or_insert_with(|| {
                push(&mut targets, to as i64);
                push(&mut rows, vec![if include_self { to as i64 } else { one }]);
                rows.len() - 1
            });
            slots[k] = (row, rows[row].len());
            push(&mut rows[row], (x.numel() + k) as i64);
        }
    });
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    room::<i64>("scatter_reduce", &[rows.len(), width])?;
    let table = rows.iter().flat_map(|row| (0..width).map(|i| row.get(i).copied().unwrap_or(one)));
    let flat = |x: &Tensor<T>| x.reshape(-1);
    let factors = Tensor::cat(&[flat(x)?, flat(src)?, Tensor::ones([1])], 0)?;
    let factors = factors.index_select(0, &table.collect())?.reshape([rows.len() as isize, width as isize])?;
    // The gradient with respect to the last of each row's running products.
    let last = flat(g)?.index_select(0, &targets.into())?.unsqueeze(1)?;
    let before = (width as isize).saturating_sub(1);
    let weights = last.constant_pad(&[(0, 0), (before, 0)], T::ZERO)?;
    let grads = flat(&factors.running_product_gradient(&weights, Vec::new(), 1))?;
    let slots = slots.iter().map(|&(row, i)| (row * width + i) as i64).collect();
    grads.index_select(0, &slots)?.reshape(src.shape())
}
