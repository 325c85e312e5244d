//! Matrix products.
//!
//! Work is split among threads by the size of the problem alone, so that the bits do not depend on their number.

use ndarray::{
    Array2, ArrayD, ArrayView1, ArrayView2, ArrayViewD, ArrayViewMut2, Axis, Ix2, IxDyn, LinalgScalar, linalg,
};
use rayon::prelude::*;

/// From so many multiplications on, the work is split among threads.
const PARALLEL: usize = 4_000_000;
/// So many multiplications make a task.
const TASK: usize = 1_000_000;
/// So many products are added in one loop; longer runs are added by halves, for accuracy.
const LEAF: usize = 1 << 10;

/// `a · b`.
pub fn matmul<T: LinalgScalar + Send + Sync>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
    let mut c = Array2::zeros((a.nrows(), b.ncols()));
    let work = a.nrows() * a.ncols() * b.ncols();
    super::count::add(work);
    if work < PARALLEL {
        serial(a, b, c.view_mut());
        return c;
    }
    // Whole multiples of the kernel's 8 rows; columns where there are few rows.
    let (axis, n) = if a.nrows() >= b.ncols() { (0, a.nrows()) } else { (1, b.ncols()) };
    let step = (n * TASK).div_ceil(work).max(64).next_multiple_of(8);
    let out = c.axis_chunks_iter_mut(Axis(axis), step);
    let parts = if axis == 0 { a.axis_chunks_iter(Axis(0), step) } else { b.axis_chunks_iter(Axis(1), step) };
    let tasks: Vec<_> = out.zip(parts).collect();
    tasks.into_par_iter().for_each(|(c, part)| if axis == 0 { serial(part, b, c) } else { serial(a, part, c) });
    c
}

/// The `i`-th matrix of a stack.
fn matrix<'a, T>(mut x: ArrayViewD<'a, T>, mut i: usize) -> ArrayView2<'a, T> {
    while x.ndim() > 2 {
        let axis = Axis(x.ndim() - 3);
        let len = x.len_of(axis);
        x = x.index_axis_move(axis, i % len);
        i /= len;
    }
    x.into_dimensionality::<Ix2>().expect("two axes")
}

/// `a · b` for each matrix of two stacks; the leading axes broadcast to `batch`.
pub fn batch_matmul<T: LinalgScalar + Send + Sync>(
    a: ArrayViewD<'_, T>,
    b: ArrayViewD<'_, T>,
    batch: &[usize],
) -> ArrayD<T> {
    let (m, k) = (a.shape()[a.ndim() - 2], a.shape()[a.ndim() - 1]);
    let n = b.shape()[b.ndim() - 1];
    let shape = |tail: [usize; 2]| [batch, &tail].concat();
    let mut c = ArrayD::zeros(IxDyn(&shape([m, n])));
    if c.is_empty() {
        return c;
    }
    let (a_shape, b_shape) = (shape([m, k]), shape([k, n]));
    let a = a.broadcast(IxDyn(&a_shape)).expect("a broadcastable shape");
    let b = b.broadcast(IxDyn(&b_shape)).expect("a broadcastable shape");
    let count: usize = batch.iter().product();
    let one = |i: usize, c: &mut [T]| {
        let c = ArrayViewMut2::from_shape((m, n), c).expect("a matrix");
        serial(matrix(a.view(), i), matrix(b.view(), i), c);
    };
    let work = m * k * n;
    let out = c.as_slice_mut().expect("standard layout");
    if count == 1 {
        let c = matmul(matrix(a.view(), 0), matrix(b.view(), 0));
        return c.into_shape_with_order(IxDyn(&shape([m, n]))).expect("one matrix");
    }
    super::count::add(count * work);
    if count * work < PARALLEL {
        out.chunks_mut(m * n).enumerate().for_each(|(i, c)| one(i, c));
    } else {
        let least = TASK.div_ceil(work.max(1));
        out.par_chunks_mut(m * n).with_min_len(least).enumerate().for_each(|(i, c)| one(i, c));
    }
    c
}

/// `c = a · b` on this thread.
fn serial<T: LinalgScalar>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, mut c: ArrayViewMut2<'_, T>) {
    let (m, k, n) = (a.nrows(), a.ncols(), b.ncols());
    if m * k * n == 0 {
        c.fill(T::zero());
    } else if n == 1 {
        mat_vec(a, b.column(0), c.column_mut(0).iter_mut());
    } else if m == 1 {
        mat_vec(b.reversed_axes(), a.row(0), c.row_mut(0).iter_mut());
    } else {
        linalg::general_mat_mul(T::one(), &a, &b, T::zero(), &mut c);
    }
}

/// `out = a · x`.
fn mat_vec<'a, T: LinalgScalar>(a: ArrayView2<'_, T>, x: ArrayView1<'_, T>, out: impl Iterator<Item = &'a mut T>) {
    let x = x.as_standard_layout();
    let x = x.as_slice().expect("standard layout");
    if a.ncols() == 1 || a.strides()[1] == 1 {
        for (o, row) in out.zip(a.rows()) {
            *o = match row.as_slice() {
                Some(row) => dot(row, x),
                None => row[0] * x[0],
            };
        }
        return;
    }
    // Columns lie together: their multiples are added up, by halves.
    let sum = columns(a, x);
    out.zip(sum).for_each(|(o, s)| *o = s);
}

fn columns<T: LinalgScalar>(a: ArrayView2<'_, T>, x: &[T]) -> Vec<T> {
    if x.len() > LEAF {
        let half = x.len() / 2;
        let (left, right) = a.split_at(Axis(1), half);
        let (mut left, right) = (columns(left, &x[..half]), columns(right, &x[half..]));
        left.iter_mut().zip(right).for_each(|(l, r)| *l = *l + r);
        return left;
    }
    let mut sum = vec![T::zero(); a.nrows()];
    for (column, &x) in a.columns().into_iter().zip(x) {
        match column.as_slice() {
            Some(column) => sum.iter_mut().zip(column).for_each(|(s, &a)| *s = *s + a * x),
            None => sum.iter_mut().zip(column).for_each(|(s, &a)| *s = *s + a * x),
        }
    }
    sum
}

/// `Σ aᵢ bᵢ`.
pub fn dot<T: LinalgScalar>(a: &[T], b: &[T]) -> T {
    if a.len() > LEAF {
        let half = (a.len() / 2).next_multiple_of(LEAF);
        return dot(&a[..half], &b[..half]) + dot(&a[half..], &b[half..]);
    }
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [T::zero(); 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] = lanes[i] + a[i] * b[i];
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(T::zero(), |sum, (&a, &b)| sum + a * b);
    lanes.iter().fold(rest, |sum, &lane| sum + lane)
}
