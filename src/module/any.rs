//! Parameters and buffers of any element type, and lists of parameters.

use super::{Module, buffer::Buffer, copies::Handle, param::Param, walk};
use crate::{AnyTensor, DType, Element, Error, Real, Result, tensor::known_ref};

/// A parameter of either element type, so that one optimizer and one state_dict can hold both.
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
            $crate::module::AnyParam::F32($p) => $body,
            $crate::module::AnyParam::F64($p) => $body,
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
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    #[inline]
    pub fn shape(&self) -> Vec<usize> {
        any_param!(self, p => p.shape())
    }

    /// The part of the shape that is known.
    pub fn known_shape(&self) -> Vec<Option<usize>> {
        any_param!(self, p => p.known_shape())
    }

    /// Whether it has no values yet.
    pub fn is_lazy(&self) -> bool {
        any_param!(self, p => p.is_lazy())
    }

    /// What gives it the values that it has now.
    #[inline]
    pub(super) fn undo(&self) -> Box<dyn FnOnce()> {
        any_param!(self.clone(), p => Box::new(p.undo()))
    }

    /// Whether a parametrization computes its values.
    pub(crate) fn is_parametrized(&self) -> bool {
        any_param!(self, p => p.is_parametrized())
    }

    /// The number of elements.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    #[inline]
    pub fn numel(&self) -> usize {
        any_param!(self, p => p.numel())
    }

    /// The current values, detached: gradients of what is computed from them do not reach this parameter.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn detach(&self) -> AnyTensor {
        any_param!(self, p => p.detach().into())
    }

    /// Its [`Param::tensor`]: gradients of what is computed from it reach this parameter.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn tensor(&self) -> AnyTensor {
        any_param!(self, p => p.tensor().into())
    }

    /// The gradient accumulated by backward passes.
    #[inline]
    pub fn grad(&self) -> Option<AnyTensor> {
        any_param!(self, p => p.grad().map(AnyTensor::from))
    }

    /// Whether backward passes accumulated a gradient.
    pub fn has_grad(&self) -> bool {
        any_param!(self, p => p.has_grad())
    }

    /// Replaces the values, converting them to the parameter's type.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &AnyTensor) -> Result<()> {
        any_param!(self, p => p.set(&values.to()))
    }

    /// Moves the values towards those of `end`, as [`Tensor::lerp`](crate::Tensor::lerp): `self + weight · (end −
    /// self)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// // The soft update of a target network, or of an average of the weights:
    /// let (target, online) = (Linear::new(4, 2), Linear::new(4, 2));
    /// for (slow, fast) in target.parameters().iter().zip(online.parameters()) {
    ///     slow.lerp(&fast, 0.005)?;
    /// }
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the shape differs, or one of them is [lazy](Param::is_lazy).
    #[inline]
    pub fn lerp(&self, end: &AnyParam, weight: f64) -> Result<()> {
        fn lerp<T: Real>(param: &Param<T>, end: &AnyTensor, weight: f64) -> Result<()> {
            let (start, end) = (param.detach(), end.to::<T>());
            if start.shape() != end.shape() {
                let shapes = format!("the parameter is {:?}, the other is {:?}", start.shape(), end.shape());
                return Err(Error::shape("lerp", shapes));
            }
            param.set(&start.lerp(&end, T::of(weight))?)
        }
        any_param!(self, p => p.known("lerp"))?;
        any_param!(end, p => p.known("lerp"))?;
        let end = end.detach();
        any_param!(self, p => lerp(p, &end, weight))
    }

    /// Clears the accumulated gradient.
    pub fn zero_grad(&self) {
        any_param!(self, p => p.zero_grad());
    }

    /// Freezes (`false`) or unfreezes the parameter.
    pub fn set_requires_grad(&self, requires_grad: bool) {
        any_param!(self, p => p.set_requires_grad(requires_grad));
    }

    /// Whether gradients flow to this parameter.
    pub fn requires_grad(&self) -> bool {
        any_param!(self, p => p.requires_grad())
    }

    /// Whether both handles refer to the same parameter.
    pub fn is_same(&self, other: &AnyParam) -> bool {
        self.address() == other.address()
    }

    pub(crate) fn address(&self) -> usize {
        any_param!(self, p => p.address())
    }
}

impl<T: Real> From<&Param<T>> for AnyParam {
    fn from(param: &Param<T>) -> Self {
        match T::DTYPE {
            DType::F32 => AnyParam::F32(Param::clone(known_ref(param))),
            _ => AnyParam::F64(Param::clone(known_ref(param))),
        }
    }
}

/// A source of parameters: `&model`, or a `Vec` of parameters, with or without names.
pub trait Parameters {
    /// The parameters, each with its name.
    fn named(self) -> Vec<(String, AnyParam)>;
}

impl<M: Module> Parameters for &M {
    fn named(self) -> Vec<(String, AnyParam)> {
        walk::named_parameters(self)
    }
}

impl<M: Module> Parameters for &mut M {
    fn named(self) -> Vec<(String, AnyParam)> {
        walk::named_parameters(self)
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
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        fn of<T: Element>(_: &Buffer<T>) -> DType {
            T::DTYPE
        }
        any_buffer!(self, b => of(b))
    }

    /// Whether it has no values yet.
    pub fn is_lazy(&self) -> bool {
        any_buffer!(self, b => b.is_lazy())
    }

    /// What gives it the value that it has now.
    #[inline]
    pub(super) fn undo(&self) -> Box<dyn FnOnce()> {
        any_buffer!(self.clone(), b => Box::new(b.undo()))
    }

    /// The part of the shape that is known.
    pub fn known_shape(&self) -> Vec<Option<usize>> {
        any_buffer!(self, b => b.known_shape())
    }

    pub(crate) fn address(&self) -> usize {
        any_buffer!(self, b => b.address())
    }

    /// The current values.
    ///
    /// # Panics
    /// If it is [lazy](Buffer::is_lazy).
    #[track_caller]
    pub fn tensor(&self) -> AnyTensor {
        any_buffer!(self, b => b.tensor().into())
    }

    /// The length of each axis.
    ///
    /// # Panics
    /// If it is [lazy](Buffer::is_lazy).
    #[track_caller]
    #[inline]
    pub fn shape(&self) -> Vec<usize> {
        any_buffer!(self, b => b.tensor().shape().to_vec())
    }

    /// Replaces the values, converting them to the buffer's type.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &AnyTensor) -> Result<()> {
        any_buffer!(self, b => b.set(&values.to()))
    }
}

impl<T: Element> From<&Buffer<T>> for AnyBuffer {
    fn from(buffer: &Buffer<T>) -> Self {
        match T::DTYPE {
            DType::F32 => AnyBuffer::F32(Buffer::clone(known_ref(buffer))),
            DType::F64 => AnyBuffer::F64(Buffer::clone(known_ref(buffer))),
            DType::I64 => AnyBuffer::I64(Buffer::clone(known_ref(buffer))),
            DType::Bool => AnyBuffer::Bool(Buffer::clone(known_ref(buffer))),
        }
    }
}
