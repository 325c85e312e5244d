//! [`Param`] and [`Buffer`]: shared handles on the tensors that a module owns.

use std::{
    any::Any,
    fmt,
    sync::{Arc, RwLock},
};

use ndarray::ArrayViewMutD;

use super::{
    copies::{Handle, cloned, converted},
    module::Module,
};
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::{copy::contiguous, count},
    sync::{read, write},
    tensor::{AnyTensor, DType, Element, Real, Tensor},
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
        let tensor = values.into_detached().requires_grad(true);
        Param(Arc::new(RwLock::new(State { tensor, requires_grad: true })))
    }

    /// The values as they are now; gradients flow from them to this parameter, unless it is frozen.
    pub fn tensor(&self) -> Tensor<T> {
        count::atomic();
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
    pub fn requires_grad(&self, requires_grad: bool) {
        write(&self.0).requires_grad = requires_grad;
    }

    /// Whether gradients flow to this parameter.
    pub fn is_trainable(&self) -> bool {
        read(&self.0).requires_grad
    }

    /// Whether both handles are of the same parameter.
    pub fn is_same(&self, other: &Param<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// A parameter of its own with these values, frozen if this one is.
    fn with_values<U: Real>(&self, values: Tensor<U>) -> Param<U> {
        let copy = Param::new(values);
        copy.requires_grad(self.is_trainable());
        copy
    }

    /// A copy that shares nothing; within one clone of a module, tied parameters stay tied.
    pub fn deep_clone(&self) -> Param<T> {
        // The copy's array is its own, or the first update would copy anyway, at a worse time.
        cloned(self, T::DTYPE, || self.with_values(contiguous(self.detach().view()).into()))
    }

    /// A copy of another element type; within one conversion of a module, tied parameters stay tied.
    pub fn cast<U: Real>(&self) -> Param<U> {
        converted(self, U::DTYPE, || self.with_values(self.detach().cast::<U>()))
    }
}

impl<T: Real> Handle for Param<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}

/// What a setter such as `bias(true)` leaves of a member: nothing where it is not wanted, what is there, or a new one.
pub(super) fn optional<M>(member: Option<M>, wanted: bool, new: impl FnOnce() -> M) -> Option<M> {
    wanted.then(|| member.unwrap_or_else(new))
}

/// A tensor of a module that is state but not learnt: running statistics, counters.
pub struct Buffer<T: Element = f32>(Arc<RwLock<Tensor<T>>>);

/// Shares the buffer: both handles see every change.
impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer(self.0.clone())
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.tensor(), f)
    }
}

impl<T: Element> Buffer<T> {
    /// A buffer with these values.
    pub fn new(values: Tensor<T>) -> Self {
        Buffer(Arc::new(RwLock::new(values.detach())))
    }

    /// The values as they are now.
    pub fn tensor(&self) -> Tensor<T> {
        read(&self.0).clone()
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &Tensor<T>) -> Result<()> {
        let mut state = write(&self.0);
        same_shape("buffer", state.shape(), values.shape())?;
        *state = values.detach();
        Ok(())
    }

    /// Changes the values in place, so that of two threads that do so none is lost; snapshots taken before keep the old
    /// ones.
    ///
    /// The buffer is locked meanwhile, as a parameter is in [`Param::update`].
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let count = Buffer::new(Tensor::scalar(7));
    /// count.update(|mut n| n += 1);
    /// assert_eq!(count.tensor(), Tensor::scalar(8));
    /// ```
    pub fn update<R>(&self, f: impl FnOnce(ArrayViewMutD<'_, T>) -> R) -> R {
        f(write(&self.0).data.writable())
    }

    /// A copy that shares nothing; within one clone of a module, shared buffers stay shared.
    pub fn deep_clone(&self) -> Buffer<T> {
        cloned(self, T::DTYPE, || Buffer::new(contiguous(self.tensor().view()).into()))
    }

    /// A copy of another element type; within one conversion of a module, shared buffers stay shared.
    pub fn cast<U: Element>(&self) -> Buffer<U> {
        converted(self, U::DTYPE, || Buffer::new(self.tensor().cast::<U>()))
    }
}

impl<T: Element> Handle for Buffer<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}

/// What [`Param::set`] and [`Buffer::set`] ask of new values.
fn same_shape(of: &str, shape: &[usize], values: &[usize]) -> Result<()> {
    if shape == values {
        return Ok(());
    }
    Err(Error::shape("set", format!("the {of} is {shape:?}, the new values are {values:?}")))
}

// ------------------------------------------------------------------------------------------------ of any element type

/// A parameter of either element type: what one optimizer and one state_dict hold side by side.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum AnyParam {
    F32(Param<f32>),
    F64(Param<f64>),
}

/// Runs one expression on the parameter inside an [`AnyParam`], whatever its type.
macro_rules! any_param {
    ($any:expr, $p:ident => $body:expr) => {
        match $any {
            $crate::nn::AnyParam::F32($p) => $body,
            $crate::nn::AnyParam::F64($p) => $body,
        }
    };
}

impl AnyParam {
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            AnyParam::F32(_) => DType::F32,
            AnyParam::F64(_) => DType::F64,
        }
    }

    /// The length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        any_param!(self, p => p.shape())
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        any_param!(self, p => p.numel())
    }

    /// The values as they are now, cut off: nothing made from them changes this parameter's gradient.
    pub fn detach(&self) -> AnyTensor {
        any_param!(self, p => p.detach().into())
    }

    /// The gradient that backward passes have gathered.
    pub fn grad(&self) -> Option<AnyTensor> {
        any_param!(self, p => p.grad().map(AnyTensor::from))
    }

    /// Whether backward passes have gathered a gradient.
    pub fn has_grad(&self) -> bool {
        any_param!(self, p => p.has_grad())
    }

    /// Replaces the values, converting their type.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &AnyTensor) -> Result<()> {
        any_param!(self, p => p.set(&values.to()))
    }

    /// Forgets the gathered gradient.
    pub fn zero_grad(&self) {
        any_param!(self, p => p.zero_grad());
    }

    /// Freezes (`false`) or thaws the parameter.
    pub fn requires_grad(&self, requires_grad: bool) {
        any_param!(self, p => p.requires_grad(requires_grad));
    }

    /// Whether gradients flow to this parameter.
    pub fn is_trainable(&self) -> bool {
        any_param!(self, p => p.is_trainable())
    }

    /// Whether both handles are of the same parameter.
    pub fn is_same(&self, other: &AnyParam) -> bool {
        self.address() == other.address()
    }

    pub(crate) fn address(&self) -> usize {
        any_param!(self, p => p.address())
    }
}

impl<T: Real> From<&Param<T>> for AnyParam {
    fn from(param: &Param<T>) -> Self {
        let any: &dyn Any = param;
        match any.downcast_ref() {
            Some(p) => AnyParam::F32(Param::clone(p)),
            None => AnyParam::F64(any.downcast_ref().cloned().expect("f32 or f64")),
        }
    }
}

/// Where a list of parameters may come from: `&model`, or a `Vec` of parameters, named or not.
pub trait Parameters {
    /// The parameters, each with its name.
    fn named(self) -> Vec<(String, AnyParam)>;
}

impl<M: Module> Parameters for &M {
    fn named(self) -> Vec<(String, AnyParam)> {
        self.named_parameters()
    }
}

impl<M: Module> Parameters for &mut M {
    fn named(self) -> Vec<(String, AnyParam)> {
        self.named_parameters()
    }
}

impl Parameters for Vec<(String, AnyParam)> {
    fn named(self) -> Vec<(String, AnyParam)> {
        self
    }
}

impl Parameters for Vec<AnyParam> {
    fn named(self) -> Vec<(String, AnyParam)> {
        self.into_iter().enumerate().map(|(i, p)| (i.to_string(), p)).collect()
    }
}

impl<T: Real> Parameters for Vec<Param<T>> {
    fn named(self) -> Vec<(String, AnyParam)> {
        self.iter().map(AnyParam::from).collect::<Vec<_>>().named()
    }
}

/// A buffer of any element type.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum AnyBuffer {
    F32(Buffer<f32>),
    F64(Buffer<f64>),
    I64(Buffer<i64>),
    Bool(Buffer<bool>),
}

macro_rules! any_buffer {
    ($any:expr, $b:ident => $body:expr) => {
        match $any {
            AnyBuffer::F32($b) => $body,
            AnyBuffer::F64($b) => $body,
            AnyBuffer::I64($b) => $body,
            AnyBuffer::Bool($b) => $body,
        }
    };
}

impl AnyBuffer {
    /// The values as they are now.
    pub fn tensor(&self) -> AnyTensor {
        any_buffer!(self, b => b.tensor().into())
    }

    /// The length of each axis.
    pub fn shape(&self) -> Vec<usize> {
        any_buffer!(self, b => b.tensor().shape().to_vec())
    }

    /// Replaces the values, converting their type.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &AnyTensor) -> Result<()> {
        any_buffer!(self, b => b.set(&values.to()))
    }
}

impl<T: Element> From<&Buffer<T>> for AnyBuffer {
    fn from(buffer: &Buffer<T>) -> Self {
        let any: &dyn Any = buffer;
        None.or_else(|| any.downcast_ref().map(|b| AnyBuffer::F32(Buffer::clone(b))))
            .or_else(|| any.downcast_ref().map(|b| AnyBuffer::F64(Buffer::clone(b))))
            .or_else(|| any.downcast_ref().map(|b| AnyBuffer::I64(Buffer::clone(b))))
            .or_else(|| any.downcast_ref().map(|b| AnyBuffer::Bool(Buffer::clone(b))))
            .expect("every element type has an arm")
    }
}
