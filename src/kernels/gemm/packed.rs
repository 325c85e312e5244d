//! A matrix that many products have as their right operand, packed once.

use ndarray::ArrayView2;

use super::{
    Mat, Start, Strategy,
    block::{Job, STEPS},
    pack::pack_columns,
    tile::{Kernels, kernels},
};
use crate::{
    kernels::{
        memory::{LINE, buffer, recycle},
        threads,
    },
    number::Number,
};

/// `b` of many products `c (+)= a · b`, each of which runs on the thread that calls it. Each element of a result is summed
/// in the same order, whatever the number of rows of `a`.
pub struct Packed<T: Copy + 'static> {
    kernels: &'static Kernels<T>,
    /// Nothing but uninitialised space, whose elements are behind `at`.
    space: Vec<T>,
    at: *mut T,
    rows: usize,
    columns: usize,
    /// Vectors per panel.
    vectors: usize,
    /// Maximum number of rows per tile.
    tall: usize,
}

// SAFETY: the elements are only read once they are packed, and belong to this value.
#[allow(unsafe_code)]
unsafe impl<T: Copy + Send + Sync> Sync for Packed<T> {}

impl<T: Number> Packed<T> {
    /// For products of up to `most` rows.
    pub fn new(b: ArrayView2<'_, T>, most: usize) -> Self {
        let kernels = kernels::<T>();
        let (rows, columns) = b.dim();
        let (vectors, tall) = kernels.shape(most);
        let wide = columns.next_multiple_of(kernels.lanes);
        let mut space = buffer::<T>(rows * wide + 8 + LINE / size_of::<T>());
        let at = space.as_mut_ptr();
        let at = at.wrapping_add(at.align_offset(LINE));
        let packed = Packed { kernels, space, at, rows, columns, vectors, tall };
        if rows * columns > 0 {
            let b = Mat::of(b);
            for block in packed.blocks() {
                let part = b.part(block.clone(), 0..columns);
                // SAFETY: the blocks are inside `b`, and the space holds all of them in order, then 8 more elements.
                #[allow(unsafe_code)]
                unsafe {
                    pack_columns(part, packed.width(), kernels.lanes, at.wrapping_add(block.start * wide));
                }
            }
        }
        packed
    }

    /// Columns per panel.
    fn width(&self) -> usize {
        self.vectors * self.kernels.lanes
    }

    /// The rows that are worked on at a time.
    fn blocks(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let (rows, count) = (self.rows, self.rows.div_ceil(STEPS));
        (0..count).map(move |i| threads::portion(rows, i, count))
    }

    /// `c (+)= a · b` for `rows` rows, whose elements are contiguous.
    ///
    /// # Safety
    /// `a` and `c` are valid for reading and for writing so many rows, at these strides; those of `c` hold numbers if `add`.
    #[allow(unsafe_code)]
    pub unsafe fn multiply(&self, rows: usize, (a, a_row): (*const T, usize), (c, c_row): (*mut T, usize), add: bool) {
        let a = Mat::new(a.cast_mut(), (rows, self.rows), &[a_row as isize, 1]);
        let c = Mat::new(c, (rows, self.columns), &[c_row as isize, 1]);
        if rows == 0 || self.columns == 0 {
            return;
        }
        if self.rows == 0 && !add {
            for i in 0..rows {
                // SAFETY: the caller's promise.
                (0..self.columns).for_each(|j| unsafe { c.element(i, j).write(T::default()) });
            }
        }
        let strategy =
            Strategy { width: self.width(), rows: self.tall, pack_columns: true, pack_rows: false, stream: false };
        let nothing = std::ptr::null_mut();
        let next = Mat { at: nothing, rows: 0, columns: 0, row: 0, column: 0 };
        let job = Job { kernels: self.kernels, strategy, rows_at: nothing, transposed_at: nothing, next };
        let wide = self.columns.next_multiple_of(self.kernels.lanes);
        for block in self.blocks() {
            let at = self.at.wrapping_add(block.start * wide);
            let b = Mat { at, rows: block.len(), columns: self.columns, row: 0, column: 1 };
            let start = if add || block.start > 0 { Start::Itself } else { Start::Zero };
            // SAFETY: the caller's promise; the columns were packed in this order, and a result whose rows are contiguous
            // needs no space.
            unsafe { job.run(a.part(0..rows, block), b, c, start) };
        }
    }
}

impl<T: Copy> Drop for Packed<T> {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.space));
    }
}
