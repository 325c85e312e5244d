//! The order of an array's elements in memory, and arrays made from elements.

use ndarray::{ArcArray, ArrayD, ArrayViewD, Dimension, IxDyn};

use super::copy::RowMajor;

/// The elements in row-major order; copies only if they are not in that order already.
#[inline(never)]
pub fn row_major<'a, T: Copy>(x: &'a ArrayViewD<'_, T>) -> RowMajor<'a, T> {
    RowMajor::of(x.view())
}

/// The axes in order of falling stride: in this order a transposed array has no gaps in memory.
pub fn memory_order<T>(x: &ArrayViewD<'_, T>) -> Vec<usize> {
    by_stride(x.strides())
}

/// The axes in order of falling stride.
pub fn by_stride(strides: &[isize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..strides.len()).collect();
    sort_falling(&mut order, |&axis| strides[axis]);
    order
}

/// An array that may be shared, as that of a tensor is.
pub type Shared<T> = ArcArray<T, IxDyn>;

/// A shape with its strides in row-major order. It is made before the elements are: what was written a moment ago, number by
/// number, is slow to read in vectors.
pub struct Strided {
    shape: IxDyn,
    strides: IxDyn,
}

impl Strided {
    pub fn of(shape: IxDyn) -> Self {
        let mut all = Strided { strides: shape.clone(), shape };
        let mut step = 1usize;
        for n in all.strides.slice_mut().iter_mut().rev() {
            (*n, step) = (step, step.wrapping_mul(*n));
        }
        all
    }

    pub fn shape(&self) -> &[usize] {
        self.shape.slice()
    }

    /// The shape and the strides.
    pub fn into_parts(self) -> (IxDyn, IxDyn) {
        (self.shape, self.strides)
    }
}

/// Sorts a few things, the largest key first; equal ones keep their order. A sort of the standard library is ten times as
/// much code.
pub fn sort_falling<A>(things: &mut [A], key: impl Fn(&A) -> isize) {
    for end in 1..things.len() {
        let mut i = end;
        while i > 0 && key(&things[i - 1]) < key(&things[i]) {
            things.swap(i - 1, i);
            i -= 1;
        }
    }
}

/// Fails to compile unless elements of this type can be moved as `u8`, `u32` or `u64`: unless they have the size and the
/// alignment of one of them.
pub const fn assert_word<T>() {
    let align = match size_of::<T>() {
        1 => align_of::<u8>(),
        4 => align_of::<u32>(),
        8 => align_of::<u64>(),
        _ => panic!("elements of 1, 4 or 8 bytes"),
    };
    assert!(align_of::<T>() == align, "elements aligned as words of their size");
}

/// Writes where the element at a position in row-major order is: its index on each axis.
pub fn coordinates(mut position: usize, shape: &[usize], index: &mut [i64]) {
    for (i, &n) in index.iter_mut().zip(shape).rev() {
        *i = (position % n) as i64;
        position /= n;
    }
}

/// The same as a list.
#[inline]
pub fn index_of(position: usize, shape: &[usize]) -> Vec<i64> {
    let mut index = vec![0; shape.len()];
    coordinates(position, shape, &mut index);
    index
}

/// An array of the given shape from its elements.
#[inline(never)]
pub fn array<T>(shape: &[usize], elements: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(shape), elements).expect("as many elements as the shape has")
}

/// An array of slices to be filled in. (A closure in a generic function would be compiled for each of that function's types.)
#[inline(always)]
pub fn empty_slices<'a, T, const N: usize>() -> [&'a mut [T]; N] {
    std::array::from_fn(|_| Default::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_things_are_sorted_as_the_standard_library_sorts_them() {
        for code in 0..4_usize.pow(6) {
            let things: Vec<(isize, usize)> = (0..code % 7).map(|i| ((code >> (2 * i)) as isize % 4, i)).collect();
            let (mut ours, mut theirs) = (things.clone(), things);
            sort_falling(&mut ours, |&(key, _)| key);
            theirs.sort_by_key(|&(key, _)| std::cmp::Reverse(key));
            assert_eq!(ours, theirs);
        }
    }
}
