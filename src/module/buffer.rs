//! [`Buffer`]: a shared handle to a tensor that a module keeps but does not learn.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use ndarray::ArrayViewMutD;

use super::{
    copies::{Handle, cloned, converted},
    param::{all_known, check, fits, misfit, refuse},
    scope,
};
use crate::{
    Element, Result, Tensor,
    kernels::copy::contiguous,
    sync::{read, write},
};

/// A tensor that belongs to a module's state but is not learned: running statistics, counters.
///
/// It has values, or it is [lazy](Buffer::lazy) and has none yet.
pub struct Buffer<T: Element = f32>(Arc<RwLock<Value<T>>>);

enum Value<T: Element> {
    Known(Tensor<T>),
    /// The part of the shape that is known.
    Lazy(Vec<Option<usize>>),
}

const LAZY: &str = "the buffer has no values yet, since its shape comes from the first input; run a batch through the model \
                    first, or load a state_dict";

impl<T: Element> Value<T> {
    #[track_caller]
    fn known(&mut self, op: &str) -> &mut Tensor<T> {
        match self {
            Value::Known(tensor) => tensor,
            Value::Lazy(_) => refuse(op, LAZY),
        }
    }
}

/// Shares the buffer: both handles see every change.
impl<T: Element> Clone for Buffer<T> {
    fn clone(&self) -> Self {
        Buffer(self.0.clone())
    }
}

impl<T: Element> fmt::Debug for Buffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.present() {
            Some(tensor) => fmt::Display::fmt(&tensor, f),
            None => f.write_str("<UninitializedBuffer>"),
        }
    }
}

impl<T: Element> Buffer<T> {
    /// A buffer with these values.
    pub fn new(values: Tensor<T>) -> Self {
        Buffer(Arc::new(RwLock::new(Value::Known(values.detach()))))
    }

    /// A buffer without values, with the part of its shape that is known, as [`Param::lazy`](super::Param::lazy).
    pub fn lazy(shape: impl Into<Vec<Option<usize>>>) -> Self {
        Buffer(Arc::new(RwLock::new(Value::Lazy(shape.into()))))
    }

    /// Whether it has no values yet: its shape comes from the first input of the layer, or from a state_dict.
    pub fn is_lazy(&self) -> bool {
        matches!(&*read(&self.0), Value::Lazy(_))
    }

    /// The part of the shape that is known: all of it, unless the buffer is [lazy](Buffer::is_lazy).
    pub fn known_shape(&self) -> Vec<Option<usize>> {
        match &*read(&self.0) {
            Value::Known(tensor) => all_known(tensor.shape()),
            Value::Lazy(known) => known.clone(),
        }
    }

    fn present(&self) -> Option<Tensor<T>> {
        scope::value(self.address()).or_else(|| match &*read(&self.0) {
            Value::Known(tensor) => Some(tensor.clone()),
            Value::Lazy(_) => None,
        })
    }

    /// The current values.
    ///
    /// # Panics
    /// If it is [lazy](Buffer::is_lazy).
    #[track_caller]
    pub fn tensor(&self) -> Tensor<T> {
        match self.present() {
            Some(tensor) => tensor,
            None => refuse("tensor", LAZY),
        }
    }

    /// As [`tensor`](Buffer::tensor), but a [lazy](Buffer::is_lazy) buffer first gets the values that `values` returns for the
    /// known part of the shape.
    ///
    /// # Panics
    /// If the shape of these values contradicts the known part.
    #[track_caller]
    pub fn tensor_or(&self, values: impl FnOnce(&[Option<usize>]) -> Tensor<T>) -> Tensor<T> {
        if let Some(tensor) = self.present() {
            return tensor;
        }
        // Under the lock, so that only one of two simultaneous first inputs initialises it.
        let mut state = write(&self.0);
        if let Value::Lazy(known) = &*state {
            let values = values(known);
            assert!(fits(known, values.shape()), "tensor_or: {}", misfit("buffer", known, values.shape()));
            *state = Value::Known(values.detach());
        }
        state.known("tensor_or").clone()
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &Tensor<T>) -> Result<()> {
        check("buffer", &self.known_shape(), values.shape())?;
        match scope::keeper(self.address()) {
            Some(scope) => scope.keep(self, values.detach()),
            None => *write(&self.0) = Value::Known(values.detach()),
        }
        Ok(())
    }

    /// Updates the values in place, so that no update is lost if two threads do this; earlier snapshots keep the old
    /// values.
    ///
    /// The buffer is locked meanwhile, as a parameter is in [`Param::update`](super::Param::update).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let count = Buffer::new(Tensor::scalar(7));
    /// count.update(|mut n| n += 1);
    /// assert_eq!(count.tensor(), Tensor::scalar(8));
    /// ```
    ///
    /// # Panics
    /// If it is [lazy](Buffer::is_lazy).
    #[track_caller]
    pub fn update<R>(&self, f: impl FnOnce(ArrayViewMutD<'_, T>) -> R) -> R {
        let Some(scope) = scope::keeper(self.address()) else {
            return f(write(&self.0).known("update").data.view_mut());
        };
        let mut value = self.tensor();
        let result = f(value.data.view_mut());
        scope.keep(self, value);
        result
    }

    /// What gives it the value that it has now.
    pub(super) fn undo(self) -> impl FnOnce() {
        let (value, known) = (self.present(), self.known_shape());
        move || match value {
            Some(value) => self.set(&value).expect("it has had this shape"),
            None => *write(&self.0) = Value::Lazy(known),
        }
    }

    /// A copy that shares nothing with this one; within one clone of a module, shared buffers stay shared.
    pub fn deep_clone(&self) -> Buffer<T> {
        cloned(self, || match self.present() {
            Some(tensor) => Buffer::new(contiguous(tensor.view()).into()),
            None => Buffer::lazy(self.known_shape()),
        })
    }

    /// A copy with another element type; within one conversion of a module, shared buffers stay shared.
    pub fn cast<U: Element>(&self) -> Buffer<U> {
        converted(self, || match self.present() {
            Some(tensor) => Buffer::new(tensor.cast::<U>()),
            None => Buffer::lazy(self.known_shape()),
        })
    }
}

impl<T: Element> Handle for Buffer<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}
