//! Matrix products for any strides: `c = a · b`.
//!
//! One operand is read one element at a time (the *rows*, here always called `a`), the other one vector at a time (the
//! *columns*, `b`). A product and its transpose take the same work, so either operand may play either part;
//! [`Strategy`] takes what is cheaper. Every element of the result is summed along the common axis in the same order
//! however the work is cut, so its bits do not depend on the number of threads.

mod block;
mod pack;
mod packed;
mod simd;
#[cfg(test)]
mod tests;
mod tile;

use std::ops::Range;

use ndarray::{Array2, ArrayD, ArrayView2, ArrayViewD, ArrayViewMut2, Axis, Ix2, IxDyn};

pub use {
    pack::{pack_columns, transpose},
    packed::Packed,
    tile::DOT_ROWS,
};

use super::{
    copy::copy_into,
    memory,
    sizes::{must, saturating},
    threads,
    thresholds::{DOTS_PARALLEL, PRODUCT_FINE, PRODUCT_PARALLEL as PARALLEL},
};
use crate::number::Number;
use block::{PACKED_STEPS, STEPS, block};
use tile::{Dots, Kernels, kernels};

/// Maximum number of products that one loop adds; longer sums are split into halves, for accuracy.
const DOT_STEPS: usize = 1 << 10;
/// Maximum number of products that one lane adds.
const DOT_LANE: usize = 1 << 7;
/// Minimum number of bytes of a result that does not stay in the caches. (Tests use a small limit.)
const STREAMED: usize = if cfg!(test) { 1 << 12 } else { 32 << 20 };
/// Cache lines at distances that are multiples of this number of bytes compete for the same place in the cache.
const PAGE: usize = 1 << 12;

/// A matrix in memory.
#[derive(Clone, Copy)]
pub struct Mat<T> {
    pub at: *mut T,
    pub rows: usize,
    pub columns: usize,
    /// Stride between rows.
    pub row: isize,
    /// Stride between columns.
    pub column: isize,
}

// SAFETY: what threads share is only read, and what is written is cut into parts that do not overlap.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Mat<T> {}

impl<T: Copy> Mat<T> {
    fn of(view: ArrayView2<'_, T>) -> Self {
        // The matrix is only read, like the view.
        Mat::new(view.as_ptr().cast_mut(), view.dim(), view.strides())
    }

    fn of_mut(view: &mut ArrayViewMut2<'_, T>) -> Self {
        Mat::new(view.as_mut_ptr(), view.dim(), view.strides())
    }

    /// Along an axis of one element every stride is correct, and 1 is the fastest.
    pub fn new(at: *mut T, (rows, columns): (usize, usize), strides: &[isize]) -> Self {
        let stride = |n: usize, stride: isize| if n == 1 { 1 } else { stride };
        Mat { at, rows, columns, row: stride(rows, strides[0]), column: stride(columns, strides[1]) }
    }

    pub fn t(self) -> Self {
        Mat { at: self.at, rows: self.columns, columns: self.rows, row: self.column, column: self.row }
    }

    /// The address of an element, which may be just past the end.
    pub fn element(self, i: usize, j: usize) -> *mut T {
        self.at.wrapping_offset(i as isize * self.row + j as isize * self.column)
    }

    /// Copies all elements to a matrix of the same shape that nothing else points to.
    #[allow(unsafe_code)]
    fn copy_to(self, to: Self) {
        for i in 0..to.rows {
            for j in 0..to.columns {
                // SAFETY: the matrices have the same shape and are valid for reading and writing.
                unsafe { to.element(i, j).write(*self.element(i, j)) };
            }
        }
    }

    pub fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        Mat { at: self.element(rows.start, columns.start), rows: rows.len(), columns: columns.len(), ..self }
    }
}

/// What a product is added to.
#[derive(Clone, Copy)]
enum Start<T> {
    Zero,
    /// To what the result already holds.
    Itself,
    /// To a matrix of the result's shape, of which either axis may have length 1.
    Values(Mat<T>),
}

impl<T: Copy> Start<T> {
    fn t(self) -> Self {
        self.map(Mat::t)
    }

    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        self.map(|values| values.part(rows, columns))
    }

    fn map(self, f: impl FnOnce(Mat<T>) -> Mat<T>) -> Self {
        match self {
            Start::Values(values) => Start::Values(f(values)),
            other => other,
        }
    }
}

/// `c = a · b`, or `c += a · b`.
pub fn product<T: Number>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, c: &mut ArrayViewMut2<'_, T>, add: bool) {
    assert!(a.nrows() == c.nrows() && b.ncols() == c.ncols() && a.ncols() == b.nrows(), "shapes of a product");
    if c.is_empty() || a.ncols() == 0 {
        if !add {
            c.fill(T::default());
        }
        return;
    }
    let out = Mat::of_mut(c);
    if out.row != 1 && out.column != 1 {
        let mut space = memory::filled(c.len(), T::default());
        let mut whole = ArrayViewMut2::from_shape(c.dim(), &mut space).expect("as many elements");
        if add {
            copy_into(whole.view_mut().into_dyn(), c.view().into_dyn());
        }
        product(a, b, &mut whole, add);
        copy_into(c.view_mut().into_dyn(), whole.view().into_dyn());
        return memory::recycle(space);
    }
    multiply(Mat::of(a), Mat::of(b), out, if add { Start::Itself } else { Start::Zero });
}

/// How one product is computed.
#[derive(Clone, Copy)]
struct Strategy {
    /// Columns per panel: one, two or four vectors.
    width: usize,
    /// Maximum number of rows per tile.
    rows: usize,
    /// Whether the columns are packed first.
    pack_columns: bool,
    /// Whether the rows of a tile are packed first.
    pack_rows: bool,
    /// Whether the result is written around the caches.
    stream: bool,
}

impl Strategy {
    fn new<T: Number>(kernels: &Kernels<T>, a: Mat<T>, b: Mat<T>, c: Mat<T>, add: bool) -> Self {
        let (vectors, rows) = match (b.columns.div_ceil(kernels.lanes), kernels.shape(a.rows)) {
            (vectors @ (1 | 2), (most, _)) => (vectors.min(most), kernels.rows),
            (_, shape) => shape,
        };
        // Elements so far apart share few lines of the first-level cache and evict one another. A stride is inside the
        // memory of a matrix, or 1, so this cannot overflow.
        let far = |stride: isize, far: usize| (stride.unsigned_abs() * size_of::<T>()).is_multiple_of(far);
        let width = vectors * kernels.lanes;
        let whole_lines = |bytes: usize| bytes.is_multiple_of(memory::LINE);
        // The result is in memory, so its size in bytes cannot overflow.
        let stream = c.rows * c.columns * size_of::<T>() >= STREAMED
            && (c.column == 1 && a.columns <= PACKED_STEPS && !add)
            && (whole_lines(c.at.addr()) && whole_lines(c.row.unsigned_abs() * size_of::<T>()));
        Strategy {
            stream,
            width,
            rows,
            pack_columns: b.column != 1 || far(b.row, PAGE) && a.rows > rows,
            pack_rows: (a.row != 1 && a.column != 1
                || if a.row == 1 { far(a.column, PAGE) } else { far(a.row, PAGE / 2) })
                && b.columns > 3 * width,
        }
    }
}

/// Roughly how many cycles the loops take if `b` is the operand that is read by vectors.
fn cost<T: Copy>(kernels: &Kernels<T>, a: Mat<T>, b: Mat<T>, c: Mat<T>) -> usize {
    let vectors = b.columns.div_ceil(kernels.lanes);
    let sums = saturating([a.rows.div_ceil(if a.rows < 4 { 1 } else { 2 }), vectors, b.rows]);
    // Copying an element to the next place costs about half a cycle, storing one to a distant place a whole cycle.
    let pack = if b.column == 1 { 0 } else { b.rows * b.columns / 2 };
    let store = if c.column == 1 { 0 } else { saturating([c.rows, c.columns, b.rows.div_ceil(STEPS)]) };
    sums.saturating_add(pack).saturating_add(store)
}

/// The matrices are not empty. They are in memory, so rows times columns of each cannot overflow.
fn multiply<T: Number>(a: Mat<T>, b: Mat<T>, c: Mat<T>, start: Start<T>) {
    let kernels = kernels::<T>();
    if b.columns < a.rows && dotted(kernels, b.t(), a.t()) {
        return dots(kernels, b.t(), a.t(), c.t(), start.t());
    }
    if dotted(kernels, a, b) {
        return dots(kernels, a, b, c, start);
    }
    let swap = cost(kernels, b.t(), a.t(), c.t()) < cost(kernels, a, b, c);
    let (a, b, c, start) = if swap { (b.t(), a.t(), c.t(), start.t()) } else { (a, b, c, start) };
    let strategy = Strategy::new(kernels, a, b, c, matches!(start, Start::Itself));
    let Strategy { width, rows, .. } = strategy;
    let work = saturating([a.rows, a.columns, b.columns]);
    let threads = if work < PARALLEL { 1 } else { threads::num_threads() };
    let (panels, blocks) = (b.columns.div_ceil(width), a.rows.div_ceil(rows));
    // Each part packs for itself what all parts have in common: let that be the smaller operand.
    let copied = |pack: bool, x: Mat<T>| if pack { x.rows * x.columns } else { 0 };
    let by_columns = copied(strategy.pack_rows, a) <= copied(strategy.pack_columns, b);
    let by_columns = if by_columns { panels >= 2 * threads || panels >= blocks } else { blocks < 2 * threads };
    // Large products are cut into smaller parts, so that no thread waits long for the last one.
    let fine = if work < PRODUCT_FINE { threads } else { 4 * threads };
    let parts = |n: usize| if n < 2 * threads { n.min(threads) } else { n.min(fine) };
    match threads {
        1 => block(kernels, strategy, a, b, c, start),
        _ if by_columns => threads::for_each(work, parts(panels), &|i| {
            let some = threads::portion(panels, i, parts(panels));
            let some = (some.start * width).min(b.columns)..(some.end * width).min(b.columns);
            let (b, c) = (b.part(0..b.rows, some.clone()), c.part(0..c.rows, some.clone()));
            block(kernels, strategy, a, b, c, start.part(0..a.rows, some));
        }),
        _ => threads::for_each(work, parts(blocks), &|i| {
            let some = threads::portion(a.rows, i, parts(blocks));
            let (a, c) = (a.part(some.clone(), 0..a.columns), c.part(some.clone(), 0..c.columns));
            block(kernels, strategy, a, b, c, start.part(some, 0..b.columns));
        }),
    }
}

/// `c = a · b`, or `c += a · b` with `add`, on this thread alone.
///
/// # Safety
/// `a` and `b` must be valid for reading, `c`, of which the elements of a row or of a column are contiguous, for writing
/// (and for reading, to add to it).
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn serial<T: Number>(a: Mat<T>, b: Mat<T>, c: Mat<T>, add: bool) {
    if c.rows * c.columns == 0 {
        return;
    }
    if a.columns > 0 {
        let kernels = kernels::<T>();
        let start = if add { Start::Itself } else { Start::Zero };
        return block(kernels, Strategy::new(kernels, a, b, c, add), a, b, c, start);
    }
    let zero = [T::default()];
    if !add {
        Mat { at: zero.as_ptr().cast_mut(), row: 0, column: 0, ..c }.copy_to(c);
    }
}

/// Whether `a` has so few rows, and both matrices such strides, that dot products are fastest.
fn dotted<T: Copy>(kernels: &Kernels<T>, a: Mat<T>, b: Mat<T>) -> bool {
    a.rows <= DOT_ROWS.min(2 * kernels.dots.len()) && a.column == 1 && (b.row == 1 && b.rows >= kernels.lanes)
}

fn dots<T: Number>(kernels: &'static Kernels<T>, a: Mat<T>, b: Mat<T>, c: Mat<T>, start: Start<T>) {
    let zero = T::default();
    let start = match start {
        Start::Zero => Mat { at: (&raw const zero).cast_mut(), row: 0, column: 0, ..c },
        Start::Itself => c,
        Start::Values(values) => values,
    };
    let start = &start;
    let threads = if b.rows * b.columns < DOTS_PARALLEL { 1 } else { threads::num_threads() };
    threads::for_each(b.rows * b.columns, threads, &|i| {
        let some = threads::portion(b.columns, i, threads);
        let (c, start) = (c.part(0..c.rows, some.clone()), start.part(0..c.rows, some.clone()));
        some_dots(kernels, a, b.part(0..b.rows, some), c, start);
    });
}

/// `c = start + a · b`; `start` has the shape of `c`, and may be `c` itself.
#[allow(unsafe_code)]
fn some_dots<T: Number>(kernels: &Kernels<T>, a: Mat<T>, b: Mat<T>, c: Mat<T>, start: Mat<T>) {
    let most = (DOT_LANE * kernels.lanes).min(DOT_STEPS);
    if a.columns > most {
        // By halves.
        let half = (a.columns / 2).next_multiple_of(most);
        let part = |steps: Range<usize>| (a.part(0..a.rows, steps.clone()), b.part(steps, 0..b.columns));
        let (left, right) = (part(0..half), part(half..a.columns));
        let mut sums = memory::filled(c.rows * c.columns, T::default());
        let rest = Mat::new(sums.as_mut_ptr(), (c.rows, c.columns), &[c.columns as isize, 1]);
        some_dots(kernels, right.0, right.1, rest, rest);
        some_dots(kernels, left.0, left.1, c, start);
        for i in 0..c.rows {
            for j in 0..c.columns {
                // SAFETY: both are valid for reading and writing all their elements.
                unsafe { *c.element(i, j) = (*c.element(i, j)).plus(*rest.element(i, j)) };
            }
        }
        return memory::recycle(sums);
    }
    for from in (0..a.rows).step_by(kernels.dots.len()) {
        let dots = Dots {
            k: a.columns,
            a: a.element(from, 0),
            a_row: a.row,
            b: b.at,
            b_row: b.column,
            n: b.columns,
            c: c.element(from, 0),
            c_row: c.row,
            c_column: c.column,
            start: start.element(from, 0),
            start_row: start.row,
            start_column: start.column,
            add: kernels.add,
        };
        let rows = kernels.dots.len().min(a.rows - from);
        // SAFETY: the loops are those of this CPU, and this one takes no more rows than are left.
        unsafe { kernels.dots[rows - 1](&dots) };
    }
}

/// Writes `a · b`, plus `bias` in each row, to `c` in row-major order; `c` may be uninitialised.
///
/// # Safety
/// `c` must be valid for writing `a.nrows() · b.ncols()` elements.
#[allow(unsafe_code)]
unsafe fn write<T: Number>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, bias: Option<&[T]>, c: *mut T) {
    let (rows, columns) = (a.nrows(), b.ncols());
    let c = Mat::new(c, (rows, columns), &[columns as isize, 1]);
    let zero = [T::default()];
    let (values, column) = bias.map_or((zero.as_slice(), 0), |bias| (bias, 1));
    let values = Mat { at: values.as_ptr().cast_mut(), rows, columns, row: 0, column };
    match (rows.min(columns), a.ncols()) {
        (0, _) => {}
        (_, 0) => values.copy_to(c),
        _ => multiply(Mat::of(a), Mat::of(b), c, if bias.is_some() { Start::Values(values) } else { Start::Zero }),
    }
}

/// `a · b`.
pub fn matmul<T: Number>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>) -> Array2<T> {
    with_bias(a, b, None)
}

/// `x · wᵀ`, plus `bias` in each row.
pub fn linear<T: Number>(x: ArrayView2<'_, T>, w: ArrayView2<'_, T>, bias: Option<&[T]>) -> Array2<T> {
    with_bias(x, w.reversed_axes(), bias)
}

#[allow(unsafe_code)]
fn with_bias<T: Number>(a: ArrayView2<'_, T>, b: ArrayView2<'_, T>, bias: Option<&[T]>) -> Array2<T> {
    assert!(a.ncols() == b.nrows() && bias.is_none_or(|bias| bias.len() == b.ncols()), "shapes of a product");
    super::profile::add(saturating([a.nrows(), a.ncols(), b.ncols()]));
    let shape = (a.nrows(), b.ncols());
    let len = must::<T>("matmul", &[shape.0, shape.1]);
    let mut c = memory::Aligned::with_capacity(len);
    // SAFETY: there is space for the product, and `write` fills it.
    unsafe {
        write(a, b, bias, c.spare(len).as_mut_ptr().cast());
        c.set_len(len);
    }
    c.array(shape)
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
#[allow(unsafe_code)]
pub fn batch_matmul<T: Number>(a: ArrayViewD<'_, T>, b: ArrayViewD<'_, T>, batch: &[usize]) -> ArrayD<T> {
    let (m, k) = (a.shape()[a.ndim() - 2], a.shape()[a.ndim() - 1]);
    let n = b.shape()[b.ndim() - 1];
    let shape = |tail: [usize; 2]| [batch, &tail].concat();
    let (a_shape, b_shape, c_shape) = (shape([m, k]), shape([k, n]), shape([m, n]));
    let len = must::<T>("matmul", &c_shape);
    let mut c = memory::Aligned::with_capacity(len);
    if len > 0 {
        let a = a.broadcast(IxDyn(&a_shape)).expect("a broadcastable shape");
        let b = b.broadcast(IxDyn(&b_shape)).expect("a broadcastable shape");
        // A part of `len`, since no axis is 0.
        let count: usize = batch.iter().product();
        let work = saturating([m, k, n]);
        super::profile::add(saturating([count, work]));
        // Small matrices are grouped into tasks; a large matrix is split among the threads.
        let each = if work >= PARALLEL { count } else { (PARALLEL / work.max(1)).max(1) };
        let stack =
            Mat { at: c.spare(len).as_mut_ptr().cast(), rows: count, columns: m * n, row: (m * n) as isize, column: 1 };
        let stack = &stack;
        threads::for_each(work, count.div_ceil(each), &|task| {
            for i in task * each..count.min((task + 1) * each) {
                // SAFETY: each matrix of the stack is written once, and the buffer has space for all of them.
                unsafe { write(matrix(a.view(), i), matrix(b.view(), i), None, stack.element(i, 0)) };
            }
        });
        // SAFETY: all matrices were written.
        unsafe { c.set_len(len) };
    }
    c.array(c_shape)
}
