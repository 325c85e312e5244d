//! The array of a tensor: its memory goes back to the pool when the last tensor that uses it is dropped.

use std::{
    mem::ManuallyDrop,
    ops::Deref,
    slice,
    sync::atomic::{Ordering::Acquire, fence},
};

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

    /// The elements in row-major order, for writing, if they are in this order and not shared.
    #[allow(unsafe_code)]
    pub fn unshared(&mut self) -> Option<&mut [T]> {
        if !self.is_unique() || !self.is_standard_layout() {
            return None;
        }
        // `is_unique` only reads the count: what other threads did with the elements before they let go of them is done.
        fence(Acquire);
        // SAFETY: no other array refers to them, and this one is borrowed mutably. ndarray's own way to them contains a
        // copy, for each type.
        Some(unsafe { slice::from_raw_parts_mut(self.as_ptr().cast_mut(), self.len()) })
    }

    /// The same of any elements: if need be they are copied first, into memory of the pool.
    pub fn writable(&mut self) -> &mut [T] {
        if self.unshared().is_none() {
            *self = contiguous(self.view()).into_shared().into();
        }
        self.unshared().expect("a copy of its own")
    }

    /// The array, for writing, as [`writable`](Held::writable).
    pub fn view_mut(&mut self) -> ArrayViewMutD<'_, T> {
        let shape = self.raw_dim();
        ArrayViewMutD::from_shape(shape, self.writable()).expect("as many elements")
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
        unsafe {
            match memory::is_kept::<T>(self.0.len()) {
                true => memory::recycle_shared(ManuallyDrop::take(&mut self.0)),
                false => ManuallyDrop::drop(&mut self.0),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ndarray::{Array, ArrayD, Axis, IxDyn, Slice, array};

    use super::*;

    #[test]
    fn what_is_shared_or_in_another_order_is_copied_before_it_is_written() {
        let array = Array::from_shape_fn((2, 3), |(i, j)| (10 * i + j) as f32).into_dyn().into_shared();
        let mut alone = Held::from(array);
        let at = alone.as_ptr();
        alone.writable()[1] = 7.;
        assert_eq!((alone.as_ptr(), alone[[0, 1]]), (at, 7.));
        let kept = alone.clone();
        assert!(alone.unshared().is_none());
        alone.view_mut().fill(1.);
        assert_eq!((kept[[0, 1]], alone.sum()), (7., 6.));
        let mut turned = Held::from(kept.into_inner().reversed_axes());
        assert!(turned.unshared().is_none());
        turned.writable()[1] = -1.;
        assert_eq!(turned.view(), ndarray::arr2(&[[0., -1.], [7., 11.], [2., 12.]]).into_dyn().view());
        let mut empty = Held::<f32>::from(Array::zeros(IxDyn(&[0, 3])).into_shared());
        assert!(empty.writable().is_empty() && empty.view_mut().shape() == [0, 3]);
    }

    /// Writes numbers in row-major order, and returns those of the array and of a clone made before.
    fn written(array: ArrayD<i64>, shared: bool) -> (ArrayD<i64>, Option<ArrayD<i64>>) {
        let mut held = Held::from(array.into_shared());
        let clone = shared.then(|| held.clone());
        held.view_mut().iter_mut().enumerate().for_each(|(i, x)| *x = i as i64);
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
