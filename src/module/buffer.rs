//! [`Buffer`]: a shared handle to a tensor that a module keeps but does not learn.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use ndarray::ArrayViewMutD;

use super::{
    copies::{Handle, cloned, converted},
    scope,
};
use crate::{
    Element, Error, Result, Tensor,
    kernels::copy::contiguous,
    sync::{read, write},
};

/// A tensor that belongs to a module's state but is not learned: running statistics, counters.
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

    /// The current values.
    pub fn tensor(&self) -> Tensor<T> {
        scope::value(self.address()).unwrap_or_else(|| read(&self.0).clone())
    }

    /// Replaces the values.
    ///
    /// # Errors
    /// If the shape differs.
    pub fn set(&self, values: &Tensor<T>) -> Result<()> {
        let keeper = scope::keeper(self.address());
        let mut state = write(&self.0);
        if state.shape() != values.shape() {
            let shapes = format!("the buffer is {:?}, the new values are {:?}", state.shape(), values.shape());
            return Err(Error::shape("set", shapes));
        }
        match keeper {
            Some(scope) => scope.keep(self, values.detach()),
            None => *state = values.detach(),
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
    pub fn update<R>(&self, f: impl FnOnce(ArrayViewMutD<'_, T>) -> R) -> R {
        let Some(scope) = scope::keeper(self.address()) else { return f(write(&self.0).data.writable()) };
        let mut value = self.tensor();
        let result = f(value.data.writable());
        scope.keep(self, value);
        result
    }

    /// A copy that shares nothing with this one; within one clone of a module, shared buffers stay shared.
    pub fn deep_clone(&self) -> Buffer<T> {
        cloned(self, || Buffer::new(contiguous(self.tensor().view()).into()))
    }

    /// A copy with another element type; within one conversion of a module, shared buffers stay shared.
    pub fn cast<U: Element>(&self) -> Buffer<U> {
        converted(self, || Buffer::new(self.tensor().cast::<U>()))
    }
}

impl<T: Element> Handle for Buffer<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}
