//! The array of a tensor: its memory goes back to the pool when the last tensor that uses it is dropped.

use std::{mem::ManuallyDrop, ops::Deref};

use ndarray::{ArcArray, ArrayViewMutD, IxDyn};

use super::{copy::contiguous, memory, profile};
use crate::number::Element;

/// A shared array. Almost every function of this crate drops some: dropping one is a call, and no test whether it is there.
pub struct Held<T: Element>(ManuallyDrop<ArcArray<T, IxDyn>>);

impl<T: Element> Held<T> {
    #[allow(unsafe_code)]
    pub fn into_inner(self) -> ArcArray<T, IxDyn> {
        let mut held = ManuallyDrop::new(self);
        // SAFETY: `held` is neither used nor dropped after this.
        unsafe { ManuallyDrop::take(&mut held.0) }
    }

    /// The elements, for writing. If they are shared they are copied first, into memory of the pool.
    pub fn writable(&mut self) -> ArrayViewMutD<'_, T> {
        if !self.is_unique() {
            *self = contiguous(self.view()).into_shared().into();
        }
        self.0.view_mut()
    }
}

impl<T: Element> Clone for Held<T> {
    #[inline(never)]
    fn clone(&self) -> Self {
        profile::atomic();
        Held(self.0.clone())
    }
}

impl<T: Element> From<ArcArray<T, IxDyn>> for Held<T> {
    fn from(data: ArcArray<T, IxDyn>) -> Self {
        Held(ManuallyDrop::new(data))
    }
}

impl<T: Element> Deref for Held<T> {
    type Target = ArcArray<T, IxDyn>;
    #[inline]
    fn deref(&self) -> &ArcArray<T, IxDyn> {
        &self.0
    }
}

impl<T: Element> Drop for Held<T> {
    #[inline(never)]
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        profile::atomic();
        // SAFETY: nothing uses it after this.
        memory::recycle_shared(unsafe { ManuallyDrop::take(&mut self.0) });
    }
}
