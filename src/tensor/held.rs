//! The array of a tensor: its memory goes back to the pool when the last tensor that uses it is dropped.

use std::ops::Deref;

use ndarray::ArrayViewMutD;

use super::{Array, Element};
use crate::kernels::{copy::contiguous, memory, profile};

/// A shared array; empty only while it is being dropped.
pub(crate) struct Held<T: Element>(Option<Array<T>>);

const HELD: &str = "held until it is dropped";

impl<T: Element> Held<T> {
    pub fn into_inner(mut self) -> Array<T> {
        self.0.take().expect(HELD)
    }

    /// The elements, for writing. If they are shared they are copied first, into memory of the pool.
    pub fn writable(&mut self) -> ArrayViewMutD<'_, T> {
        if !self.is_unique() {
            *self = contiguous(self.view()).into_shared().into();
        }
        self.0.as_mut().expect(HELD).view_mut()
    }
}

impl<T: Element> Clone for Held<T> {
    fn clone(&self) -> Self {
        profile::atomic();
        Held(self.0.clone())
    }
}

impl<T: Element> From<Array<T>> for Held<T> {
    fn from(data: Array<T>) -> Self {
        Held(Some(data))
    }
}

impl<T: Element> Deref for Held<T> {
    type Target = Array<T>;
    #[inline]
    fn deref(&self) -> &Array<T> {
        self.0.as_ref().expect(HELD)
    }
}

impl<T: Element> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(data) = self.0.take() {
            profile::atomic();
            memory::recycle_shared(data);
        }
    }
}
