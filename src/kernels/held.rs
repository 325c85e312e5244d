//! The array of a tensor: its memory goes back to the pool when the last tensor that uses it is dropped.

use std::{
    mem::ManuallyDrop,
    ops::Deref,
    sync::atomic::{Ordering::Acquire, fence},
};

use ndarray::{ArcArray, ArrayViewMutD, Dimension, IxDyn, ShapeBuilder};

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

    /// The elements, for writing. If they are shared or stored backwards they are copied first, into memory of the pool.
    ///
    /// `view_mut` of the shared array would do the same, but compile a copy of its own, which is large.
    #[allow(unsafe_code)]
    pub fn writable(&mut self) -> ArrayViewMutD<'_, T> {
        if !self.is_unique() || self.strides().iter().any(|&stride| stride < 0) {
            *self = contiguous(self.view()).into_shared().into();
        }
        let mut strides = self.raw_dim();
        for (to, &from) in strides.slice_mut().iter_mut().zip(self.strides()) {
            *to = from as usize;
        }
        // What other threads did with the elements before they let go of them is done.
        fence(Acquire);
        let elements = self.as_ptr().cast_mut();
        // SAFETY: the array's own elements, at its own strides, none of which is negative; no other array shares them, and this
        // one is borrowed as long as the view lives.
        unsafe { ArrayViewMutD::from_shape_ptr(self.raw_dim().strides(strides), elements) }
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

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, Axis, Slice, array};

    use super::Held;

    /// Writes numbers in row-major order, and returns those of the array and of a clone made before.
    fn written(array: ArrayD<i64>, shared: bool) -> (ArrayD<i64>, Option<ArrayD<i64>>) {
        let mut held = Held::from(array.into_shared());
        let clone = shared.then(|| held.clone());
        held.writable().iter_mut().enumerate().for_each(|(i, x)| *x = i as i64);
        (held.view().to_owned(), clone.map(|clone| clone.view().to_owned()))
    }

    #[test]
    fn arrays_at_any_strides_are_written_to() {
        let x = array![[1, 2, 3], [4, 5, 6]].into_dyn();
        let mut backwards = x.clone();
        backwards.invert_axis(Axis(1));
        let mut part = x.clone();
        part.slice_axis_inplace(Axis(1), Slice::new(0, None, 2));
        for before in [x.clone(), x.reversed_axes(), backwards, part, array![7].into_dyn(), ArrayD::zeros(vec![0, 3])] {
            let expected = ArrayD::from_shape_vec(before.raw_dim(), (0..before.len() as i64).collect()).unwrap();
            assert_eq!(written(before.clone(), false), (expected.clone(), None));
            assert_eq!(written(before.clone(), true), (expected, Some(before)));
        }
    }
}
