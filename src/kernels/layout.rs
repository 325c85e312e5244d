//! The order of an array's elements in memory, and arrays made from elements.

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use super::copy::RowMajor;

/// The elements in row-major order; copies only if they are not in that order already.
pub fn row_major<'a, T: Copy>(x: &'a ArrayViewD<'_, T>) -> RowMajor<'a, T> {
    RowMajor::of(x)
}

/// The axes in order of falling stride: in this order a transposed array has no gaps in memory.
pub fn memory_order<T>(x: &ArrayViewD<'_, T>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..x.ndim()).collect();
    order.sort_by_key(|&axis| std::cmp::Reverse(x.strides()[axis]));
    order
}

/// An array of the given shape from its elements.
pub fn array<T>(shape: &[usize], elements: Vec<T>) -> ArrayD<T> {
    ArrayD::from_shape_vec(IxDyn(shape), elements).expect("as many elements as the shape has")
}
