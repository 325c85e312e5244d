//! Shapes: the same elements in another arrangement.

use ndarray::{Axis, Dimension, IxDyn};
use ndnn_derive::concrete;

use crate::{
    Error, Result,
    kernels::{
        copy::contiguous,
        elementwise::broadcast_shape,
        layout::array,
        memory,
        sizes::{count, room},
    },
    tensor::{Element, Ints, Tensor, axes, axis},
};

impl<T: Element> Tensor<T> {
    /// The same elements in row-major order in another shape; one size may be -1, which is then computed from the
    /// others. Shares memory if the elements are in row-major order. This is PyTorch's `view` too: tensors are values,
    /// so the two cannot be told apart.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![1, 2, 3, 4, 5, 6].reshape([2, -1])?, tensor![[1, 2, 3], [4, 5, 6]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the number of elements differs, or the value of -1 cannot be determined.
    pub fn reshape(&self, shape: impl Into<Ints>) -> Result<Tensor<T>> {
        self.reshaped(&shape.into())
    }

    #[concrete(Element)]
    fn reshaped(&self, shape: &Ints) -> Result<Tensor<T>> {
        Ok(self.arranged(resolve("reshape", self.shape(), shape)?))
    }

    /// [`reshape`](Tensor::reshape) to a shape with as many elements, so that there is no error.
    fn arranged(&self, shape: IxDyn) -> Tensor<T> {
        let data =
            if self.data.is_standard_layout() { self.data().clone() } else { contiguous(self.view()).into_shared() };
        let (data, from) = (data.into_shape_with_order(shape).expect("as many elements"), self.raw_dim());
        Tensor::op("reshape", data, [self], move |g, _| Ok([Some(g.arranged(from.clone()))]))
    }

    /// The same tensor with its elements in row-major order in memory; unchanged if they already are.
    #[concrete(Element)]
    pub fn contiguous(&self) -> Tensor<T> {
        if self.data.is_standard_layout() {
            return self.clone();
        }
        Tensor::op("contiguous", contiguous(self.view()), [self], |g, _| Ok([Some(g.clone())]))
    }

    /// Repeats axes of length 1, and adds axes in front, until the shape is `shape`.
    ///
    /// # Errors
    /// If an axis whose length is not 1 would change, or there is not enough memory for the result.
    #[concrete(Element)]
    pub fn broadcast_to(&self, shape: impl AsRef<[usize]>) -> Result<Tensor<T>> {
        let shape = shape.as_ref();
        if self.shape() == shape {
            return Ok(self.clone());
        }
        if broadcast_shape(self.shape(), shape).as_deref() != Some(shape) {
            return Err(Error::shape("broadcast_to", format!("{:?} does not broadcast to {shape:?}", self.shape())));
        }
        self.spread("broadcast_to", shape)
    }

    /// [`broadcast_to`](Tensor::broadcast_to) a shape that is known to fit.
    fn spread(&self, op: &str, shape: &[usize]) -> Result<Tensor<T>> {
        if room::<T>(op, shape)? == 0 {
            return Ok(self.nothing("broadcast_to", shape));
        }
        let view = self.data.broadcast(IxDyn(shape)).expect("a shape that fits");
        // An array that owns its elements cannot have strides of zero, so this copies.
        let from = self.shape().to_vec();
        Ok(Tensor::op("broadcast_to", contiguous(view), [self], move |g, _| Ok([Some(g.sum_to(&from)?)])))
    }

    /// As [`broadcast_to`](Tensor::broadcast_to), where -1 keeps the length of an axis.
    ///
    /// # Errors
    /// If an axis whose length is not 1 would change, -1 is given for an axis that does not exist, or there is not
    /// enough memory for the result.
    pub fn expand(&self, sizes: impl Into<Ints>) -> Result<Tensor<T>> {
        let shape = expanded(self.shape(), &sizes.into().0)?;
        if self.shape() == shape { Ok(self.clone()) } else { self.spread("expand", &shape) }
    }

    /// A result of this operation that has no elements, so that only zeros flow back.
    pub(crate) fn nothing(&self, op: &'static str, shape: &[usize]) -> Tensor<T> {
        let from = self.shape().to_vec();
        let backward = move |g: &Tensor<T>, _| Ok([Some(g.sum_to(&[])?.broadcast_to(&from)?)]);
        Tensor::op(op, array(shape, Vec::new()), [self], backward)
    }

    /// The axes in another order; shares memory.
    ///
    /// # Errors
    /// If `dims` does not name each axis once.
    #[concrete(Element)]
    pub fn permute(&self, dims: impl Into<Ints>) -> Result<Tensor<T>> {
        let (mut order, back) = permutation(&dims.into(), self.ndim())?;
        let mut data = self.data().clone();
        for to in 0..order.len() {
            data.swap_axes(to, swapped(&mut order, to));
        }
        Ok(Tensor::op("permute", data, [self], move |g, _| Ok([Some(g.permute(back.clone())?)])))
    }

    /// Swaps two axes; shares memory.
    ///
    /// # Errors
    /// If there is no such axis.
    #[concrete(Element)]
    pub fn transpose(&self, dim0: isize, dim1: isize) -> Result<Tensor<T>> {
        let (a, b) = (axis("transpose", dim0, self.ndim())?, axis("transpose", dim1, self.ndim())?);
        if self.ndim() == 0 {
            return Ok(self.clone());
        }
        let mut data = self.data().clone();
        data.swap_axes(a, b);
        let (a, b) = (a as isize, b as isize);
        Ok(Tensor::op("transpose", data, [self], move |g, _| Ok([Some(g.transpose(a, b)?)])))
    }

    /// Another name for [`transpose`](Tensor::transpose).
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn swapaxes(&self, axis0: isize, axis1: isize) -> Result<Tensor<T>> {
        self.transpose(axis0, axis1)
    }

    /// The transpose of a matrix; a vector or a scalar is returned unchanged.
    ///
    /// # Errors
    /// If there are more than two axes.
    pub fn t(&self) -> Result<Tensor<T>> {
        match self.ndim() {
            0 | 1 => Ok(self.clone()),
            2 => self.transpose(0, 1),
            n => Err(Error::shape("t", format!("expected at most 2 axes, got {n} ({:?})", self.shape()))),
        }
    }

    /// Transposes the matrices of the last two axes: PyTorch's `mT`.
    ///
    /// # Errors
    /// If there are fewer than two axes.
    pub fn m_t(&self) -> Result<Tensor<T>> {
        at_least_two("m_t", self.shape())?;
        self.transpose(-2, -1)
    }

    /// Moves the axes `source` to the positions `destination`; the others keep their order. Shares memory.
    ///
    /// # Errors
    /// If there is no such axis, one is named twice, or the lists differ in length.
    pub fn movedim(&self, source: impl Into<Ints>, destination: impl Into<Ints>) -> Result<Tensor<T>> {
        let order = moved(&source.into(), &destination.into(), self.ndim())?;
        if self.ndim() == 0 { Ok(self.clone()) } else { self.permute(order) }
    }

    /// Joins the axes from `start_dim` to `end_dim` (included) into one; a scalar becomes a vector of one element.
    ///
    /// # Errors
    /// If there is no such axis, or `end_dim` comes before `start_dim`.
    pub fn flatten(&self, start_dim: isize, end_dim: isize) -> Result<Tensor<T>> {
        self.reshape(flattened(self.shape(), start_dim, end_dim)?)
    }

    /// Splits the axis `dim` into `sizes`, one of which may be -1.
    ///
    /// # Errors
    /// If there is no such axis, or the sizes do not multiply to its length.
    pub fn unflatten(&self, dim: isize, sizes: impl Into<Ints>) -> Result<Tensor<T>> {
        self.reshape(unflattened(self.shape(), dim, &sizes.into())?)
    }

    /// Removes all axes of length 1; shares memory.
    pub fn squeeze(&self) -> Tensor<T> {
        self.without((0..self.ndim()).collect())
    }

    /// Removes those of the given axes that have length 1; shares memory. An empty list changes nothing.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    #[concrete(Element)]
    pub fn squeeze_dim(&self, dims: impl Into<Ints>) -> Result<Tensor<T>> {
        let dims: Ints = dims.into();
        if dims.0.is_empty() {
            return Ok(self.clone());
        }
        Ok(self.without(axes("squeeze", &dims, self.ndim())?))
    }

    /// Removes those of `axes` (in ascending order) that have length 1.
    fn without(&self, mut axes: Vec<usize>) -> Tensor<T> {
        axes.retain(|&a| self.shape()[a] == 1);
        if axes.is_empty() {
            return self.clone();
        }
        let mut data = self.data().clone();
        for &a in axes.iter().rev() {
            data.index_axis_inplace(Axis(a), 0);
        }
        let from = self.raw_dim();
        Tensor::op("squeeze", data, [self], move |g, _| Ok([Some(g.arranged(from.clone()))]))
    }

    /// Adds an axis of length 1 at `dim`; shares memory.
    ///
    /// # Errors
    /// If there is no such position.
    #[concrete(Element)]
    pub fn unsqueeze(&self, dim: isize) -> Result<Tensor<T>> {
        let at = axis("unsqueeze", dim, self.ndim() + 1)?;
        let data = self.data().clone().insert_axis(Axis(at));
        Ok(Tensor::op("unsqueeze", data, [self], move |g, _| Ok([Some(g.squeeze_dim(at as isize)?)])))
    }

    /// Reverses the order along each of the given axes; shares memory. An empty list changes nothing.
    ///
    /// # Errors
    /// If there is no such axis, or one is named twice.
    pub fn flip(&self, dims: impl Into<Ints>) -> Result<Tensor<T>> {
        let dims = dims.into();
        let axes = axes("flip", &dims, self.ndim())?;
        if dims.0.is_empty() || axes.is_empty() {
            return Ok(self.clone());
        }
        let mut data = self.data().clone();
        axes.iter().for_each(|&a| data.invert_axis(Axis(a)));
        Ok(Tensor::op("flip", data, [self], move |g, _| Ok([Some(g.flip(dims.clone())?)])))
    }

    /// Repeats the whole tensor along each axis; if there are more numbers than axes, axes are added in front.
    ///
    /// # Errors
    /// If there are fewer numbers than axes, one is negative, or there is not enough memory for the result.
    pub fn repeat(&self, repeats: impl Into<Ints>) -> Result<Tensor<T>> {
        let [apart, wide, joined] = repeated(self.shape(), &repeats.into().0)?;
        if room::<T>("repeat", &joined)? == 0 {
            return Ok(self.nothing("repeat", &joined));
        }
        self.reshape(&apart)?.broadcast_to(&wide)?.reshape(&joined)
    }

    /// As [`repeat`](Tensor::repeat), but if there are fewer numbers than axes, they apply to the last axes.
    ///
    /// # Errors
    /// If a number is negative.
    pub fn tile(&self, repeats: impl Into<Ints>) -> Result<Tensor<T>> {
        let mut repeats = repeats.into().0;
        let missing = self.ndim().saturating_sub(repeats.len());
        repeats.splice(0..0, std::iter::repeat_n(1, missing));
        self.repeat(repeats)
    }

    /// Repeats each element (along `dim`, or of the flattened tensor) `repeats` times in a row.
    ///
    /// # Errors
    /// If there is no such axis, or not enough memory for the result.
    pub fn repeat_interleave(&self, repeats: usize, dim: impl Into<Option<isize>>) -> Result<Tensor<T>> {
        const OP: &str = "repeat_interleave";
        let (x, at) = self.along(OP, dim.into())?;
        let mut joined = x.shape().to_vec();
        joined[at] = joined[at].saturating_mul(repeats);
        if room::<T>(OP, &joined)? == 0 {
            return Ok(x.nothing(OP, &joined));
        }
        let mut shape = x.shape().to_vec();
        shape.insert(at + 1, repeats);
        let wide = x.unsqueeze(at as isize + 1)?.broadcast_to(&shape)?;
        wide.flatten(at as isize, at as isize + 1)
    }

    /// As [`repeat_interleave`](Tensor::repeat_interleave), with one number for each element along the axis.
    ///
    /// # Errors
    /// If there is no such axis, the number of repeats differs from that of elements, one is negative, or there is not
    /// enough memory for the result.
    pub fn repeat_interleave_each(&self, repeats: &Tensor<i64>, dim: impl Into<Option<isize>>) -> Result<Tensor<T>> {
        const OP: &str = "repeat_interleave";
        let (x, at) = self.along(OP, dim.into())?;
        let counts = repeats.to_vec();
        if let Some(negative) = counts.iter().find(|&&r| r < 0) {
            return Err(Error::value(OP, format!("a number of repeats must not be negative, got {negative}")));
        }
        let n = x.shape()[at];
        if repeats.ndim() > 1 || (counts.len() != n && counts.len() != 1) {
            return Err(Error::shape(OP, format!("expected {n} numbers of repeats, got {:?}", repeats.shape())));
        }
        let total = match counts[..] {
            [count] => (count as usize).saturating_mul(n),
            _ => counts.iter().fold(0, |sum: usize, &count| sum.saturating_add(count as usize)),
        };
        let mut shape = x.shape().to_vec();
        shape[at] = total;
        if room::<T>(OP, &shape)? == 0 {
            return Ok(x.nothing(OP, &shape));
        }
        room::<usize>(OP, &[total])?;
        let mut index = memory::vector(total);
        for i in 0..n {
            let end = index.len() + counts[if counts.len() == 1 { 0 } else { i }] as usize;
            index.resize(end, i);
        }
        x.rows_taken("index_select", at, index)
    }

    /// The tensor and an axis, or the flattened tensor and its only axis; a scalar counts as a vector.
    fn along(&self, op: &str, dim: Option<isize>) -> Result<(Tensor<T>, usize)> {
        Ok(match dim {
            None => (self.flatten(0, -1)?, 0),
            Some(dim) => {
                (if self.ndim() == 0 { self.reshape([1])? } else { self.clone() }, axis(op, dim, self.ndim())?)
            }
        })
    }
}

/// Returns an error for a shape with fewer than two axes.
pub(crate) fn at_least_two(op: &str, shape: &[usize]) -> Result<()> {
    if shape.len() < 2 {
        return Err(Error::shape(op, format!("expected at least 2 axes, got {} ({shape:?})", shape.len())));
    }
    Ok(())
}

/// The shape that `sizes` stand for in [`Tensor::expand`], to which `from` broadcasts.
fn expanded(from: &[usize], sizes: &[isize]) -> Result<Vec<usize>> {
    let wrong = || Error::shape("expand", format!("{from:?} does not expand to {sizes:?}"));
    let lead = sizes.len().checked_sub(from.len()).ok_or_else(wrong)?;
    let mut shape = Vec::with_capacity(sizes.len());
    for (i, &size) in sizes.iter().enumerate() {
        shape.push(match size {
            -1 if i >= lead => from[i - lead],
            0.. => size as usize,
            _ => return Err(wrong()),
        });
    }
    if broadcast_shape(from, &shape).as_deref() == Some(&shape[..]) { Ok(shape) } else { Err(wrong()) }
}

/// The axes in the order `dims`, and the order that undoes this.
fn permutation(dims: &Ints, ndim: usize) -> Result<(Vec<usize>, Ints)> {
    let (mut order, mut back) = (Vec::with_capacity(ndim), vec![-1; ndim]);
    for (to, &dim) in dims.0.iter().enumerate() {
        let from = axis("permute", dim, ndim)?;
        order.push(from);
        if to < ndim {
            back[from] = to as isize;
        }
    }
    if order.len() != ndim || back.contains(&-1) {
        return Err(Error::shape("permute", format!("{:?} does not name each of {ndim} axes once", dims.0)));
    }
    Ok((order, Ints(back)))
}

/// The axis to be swapped with axis `to`, once those before it are in this order; the rest of the order then changes with it.
fn swapped(order: &mut [usize], to: usize) -> usize {
    let from = order[to];
    for later in &mut order[to..] {
        if *later == to {
            *later = from;
        }
    }
    from
}

/// The order of the axes after [`Tensor::movedim`].
fn moved(source: &Ints, destination: &Ints, ndim: usize) -> Result<Ints> {
    let places = |dims: &Ints| {
        axes("movedim", dims, ndim)?;
        let mut places = Vec::with_capacity(dims.0.len());
        for &dim in &dims.0 {
            places.push(axis("movedim", dim, ndim)?);
        }
        Ok(places)
    };
    let (from, to) = (places(source)?, places(destination)?);
    if from.len() != to.len() {
        let message = format!("{:?} and {:?} do not name the same number of axes", source.0, destination.0);
        return Err(Error::shape("movedim", message));
    }
    let mut rest = (0..ndim).filter(|a| !from.contains(a));
    let mut order = Vec::with_capacity(ndim);
    for place in 0..ndim {
        order.push(match to.iter().position(|&t| t == place) {
            Some(i) => from[i] as isize,
            None => rest.next().expect("as many places as axes") as isize,
        });
    }
    Ok(Ints(order))
}

/// The shape after [`Tensor::flatten`].
fn flattened(shape: &[usize], start_dim: isize, end_dim: isize) -> Result<Vec<usize>> {
    let (start, end) = (axis("flatten", start_dim, shape.len())?, axis("flatten", end_dim, shape.len())?);
    if end < start {
        return Err(Error::shape("flatten", format!("end_dim {end_dim} comes before start_dim {start_dim}")));
    }
    if shape.is_empty() {
        return Ok(vec![1]);
    }
    Ok([&shape[..start], &[shape[start..=end].iter().product()], &shape[end + 1..]].concat())
}

/// The shape after [`Tensor::unflatten`].
fn unflattened(shape: &[usize], dim: isize, sizes: &Ints) -> Result<Vec<usize>> {
    let at = axis("unflatten", dim, shape.len())?;
    if sizes.0.is_empty() || shape.is_empty() {
        return Err(Error::shape("unflatten", format!("cannot take {shape:?} apart into {:?}", sizes.0)));
    }
    let sizes = resolve("unflatten", &shape[at..=at], sizes)?;
    Ok([&shape[..at], sizes.slice(), &shape[at + 1..]].concat())
}

/// The shapes of [`Tensor::repeat`]: with an axis of length 1 before each, with these repeated, and with both joined.
fn repeated(shape: &[usize], repeats: &[isize]) -> Result<[Vec<usize>; 3]> {
    let wrong = |why: &str| Error::shape("repeat", format!("{shape:?} by {repeats:?}: {why}"));
    let lead = repeats.len().checked_sub(shape.len()).ok_or_else(|| wrong("expected a number for each axis"))?;
    let (mut apart, mut wide, mut joined) = (Vec::new(), Vec::new(), Vec::new());
    for (i, &r) in repeats.iter().enumerate() {
        if r < 0 {
            return Err(wrong("a negative number"));
        }
        let (r, n) = (r as usize, if i < lead { 1 } else { shape[i - lead] });
        apart.extend([1, n]);
        wide.extend([r, n]);
        joined.push(r.saturating_mul(n));
    }
    Ok([apart, wide, joined])
}

/// The sizes that `shape` stands for, given the number of elements of `from`.
fn resolve(op: &str, from: &[usize], shape: &Ints) -> Result<IxDyn> {
    // These are sizes of an existing tensor, so the product cannot overflow.
    let n: usize = from.iter().product();
    let (mut sizes, mut open) = (IxDyn::zeros(shape.0.len()), None);
    let mut fits = true;
    for (i, &size) in shape.0.iter().enumerate() {
        if size == -1 {
            fits &= open.replace(i).is_none();
        }
        fits &= size >= -1;
        sizes[i] = if size < 0 { 1 } else { size as usize };
    }
    if let (true, Some(known)) = (fits, count(sizes.slice().iter().copied())) {
        match open {
            None if known == n => return Ok(sizes),
            Some(at) if known != 0 && n.is_multiple_of(known) => {
                sizes[at] = n / known;
                return Ok(sizes);
            }
            _ => {}
        }
    }
    Err(Error::shape(op, format!("{from:?} ({n} elements) does not fit the shape {:?}", shape.0)))
}
