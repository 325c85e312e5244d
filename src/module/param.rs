//! [`Param`]: a shared handle on a tensor that a module learns.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use ndarray::ArrayViewMutD;

use super::copies::{Handle, cloned, converted};
use crate::{
    Error, Result,
    kernels::{copy::contiguous, profile},
    sync::{read, write},
    tensor::{Real, Tensor},
};

/// A learnable tensor of a module: a shared handle, so that the optimizer holds clones of it and a tied weight is a
/// clone.
///
/// A forward pass takes a snapshot, [`tensor`](Param::tensor), whose gradient gathers here; `+ - * /` take one themselves. A
/// later change of the parameter does not touch the snapshots that a backward pass still needs.
///
/// ```
/// use ndnn::prelude::*;
/// let w = Param::new(tensor![1.0, 2.0]);
/// (&w * 3.0).sum().backward()?;
/// assert_eq!(w.grad(), Some(tensor![3.0, 3.0]));
/// assert_eq!(w.tensor().exp().grad_fn(), Some("exp"));
/// # Ok::<(), ndnn::Error>(())
/// ```
pub struct Param<T: Real = f32>(Arc<RwLock<State<T>>>);

struct State<T: Real> {
    /// Always carries its leaf, which also holds the gradient.
    tensor: Tensor<T>,
    requires_grad: bool,
}

/// Shares the parameter: both handles see every change.
impl<T: Real> Clone for Param<T> {
    fn clone(&self) -> Self {
        Param(self.0.clone())
    }
}

impl<T: Real> fmt::Debug for Param<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Parameter containing:\n{}", self.tensor())
    }
}

impl<T: Real> Param<T> {
    /// A parameter with these values; what they were made from does not matter.
    pub fn new(values: Tensor<T>) -> Self {
        let tensor = values.into_detached().set_requires_grad(true);
        Param(Arc::new(RwLock::new(State { tensor, requires_grad: true })))
    }

    /// The values as they are now; gradients flow from them to this parameter, unless it is frozen.
    pub fn tensor(&self) -> Tensor<T> {
        profile::atomic();
        let state = read(&self.0);
        if state.requires_grad { state.tensor.clone() } else { state.tensor.detach() }
    }

    /// The values as they are now, cut off: nothing made from them changes this parameter's gradient.
    pub fn detach(&self) -> Tensor<T> {
        read(&self.0).tensor.detach()
    }

    /// The length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        read(&self.0).tensor.shape().to_vec()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        read(&self.0).tensor.numel()
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &Tensor<T>) -> Result<()> {
        let mut state = write(&self.0);
        same_shape("parameter", state.tensor.shape(), values.shape())?;
        state.tensor.data = values.data.clone();
        Ok(())
    }

    /// Changes the values in place; snapshots taken before keep the old ones.
    ///
    /// The parameter is locked meanwhile: other threads wait, and an `f` that reads or changes this same parameter waits for
    /// ever. What it needs of it is in the view.
    pub fn update<R>(&self, f: impl FnOnce(ArrayViewMutD<'_, T>) -> R) -> R {
        f(write(&self.0).tensor.data.writable())
    }

    /// As [`update`](Param::update), on the elements in row-major order.
    pub fn update_slice<R>(&self, f: impl FnOnce(&mut [T]) -> R) -> R {
        let data = &mut write(&self.0).tensor.data;
        if !data.is_standard_layout() {
            *data = contiguous(data.view()).into_shared().into();
        }
        f(data.writable().into_slice().expect("row-major order"))
    }

    /// The gradient that backward passes have gathered.
    pub fn grad(&self) -> Option<Tensor<T>> {
        read(&self.0).tensor.grad()
    }

    /// Whether backward passes have gathered a gradient.
    pub fn has_grad(&self) -> bool {
        self.grad().is_some()
    }

    /// Replaces the gathered gradient.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set_grad(&self, grad: Option<Tensor<T>>) -> Result<()> {
        let state = read(&self.0);
        if let Some(g) = grad.as_ref().filter(|g| g.shape() != state.tensor.shape()) {
            return Err(Error::shape(
                "set_grad",
                format!("the parameter is {:?}, the gradient is {:?}", state.tensor.shape(), g.shape()),
            ));
        }
        state.tensor.set_grad(grad.map(|g| g.detach()));
        Ok(())
    }

    /// Forgets the gathered gradient.
    pub fn zero_grad(&self) {
        read(&self.0).tensor.zero_grad();
    }

    /// Freezes (`false`) or thaws the parameter for forward passes from now on.
    pub fn set_requires_grad(&self, requires_grad: bool) {
        write(&self.0).requires_grad = requires_grad;
    }

    /// Whether gradients flow to this parameter.
    pub fn requires_grad(&self) -> bool {
        read(&self.0).requires_grad
    }

    /// Whether both handles are of the same parameter.
    pub fn is_same(&self, other: &Param<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A parameter of its own with these values, frozen if this one is.
    fn with_values<U: Real>(&self, values: Tensor<U>) -> Param<U> {
        let copy = Param::new(values);
        copy.set_requires_grad(self.requires_grad());
        copy
    }

    /// A copy that shares nothing; within one clone of a module, tied parameters stay tied.
    pub fn deep_clone(&self) -> Param<T> {
        // The copy's array is its own, or the first update would copy anyway, at a worse time.
        cloned(self, || self.with_values(contiguous(self.detach().view()).into()))
    }

    /// A copy of another element type; within one conversion of a module, tied parameters stay tied.
    pub fn cast<U: Real>(&self) -> Param<U> {
        converted(self, || self.with_values(self.detach().cast::<U>()))
    }
}

impl<T: Real> Handle for Param<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}

/// What a setter such as `bias(true)` leaves of a member: nothing where it is not wanted, what is there, or a new one.
pub(crate) fn optional<M>(member: Option<M>, wanted: bool, new: impl FnOnce() -> M) -> Option<M> {
    wanted.then(|| member.unwrap_or_else(new))
}

/// What `set` of a parameter and of a buffer asks of the new values.
pub(super) fn same_shape(of: &str, shape: &[usize], values: &[usize]) -> Result<()> {
    if shape == values {
        return Ok(());
    }
    Err(Error::shape("set", format!("the {of} is {shape:?}, the new values are {values:?}")))
}
