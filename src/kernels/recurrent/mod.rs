//! Recurrent networks: one layer in one direction, forth through all steps and back.
//!
//! The rows of step 0 come first, then those of step 1, …; `sizes[t]` sequences, the first ones, have a step t. Each
//! sequence has a running state, which is its initial one until it begins and its last one from its end on, so no
//! direction and no length is a case of its own. Threads share the sequences: each takes some of them through all steps.

mod back;
mod forth;
mod gates;

use std::ops::Range;

use ndarray::{Array2, ArrayView2, ArrayViewMut2, ShapeBuilder};

pub use forth::Kept;

use super::{
    gemm::{DOT_ROWS, Packed, product},
    memory::{Aligned, collected},
    sizes::{must, saturating},
    threads,
    thresholds::{PRODUCT_PARALLEL, RECURRENT_PACKED, RECURRENT_ROWS},
};
use crate::number::Real;

/// What a step computes from the input's part of its gates, the products of the hidden state, and the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Tanh,
    Relu,
    Lstm,
    Gru,
}

impl Kind {
    /// Blocks of `hidden` columns in the gates.
    pub fn gates(self) -> usize {
        match self {
            Kind::Tanh | Kind::Relu => 1,
            Kind::Lstm => 4,
            Kind::Gru => 3,
        }
    }

    /// Blocks of `hidden` columns in the gates' gradients: those of a GRU are n, r, z, and n's product with the state.
    fn gradients(self) -> usize {
        if self == Kind::Gru { 4 } else { self.gates() }
    }
}

/// One layer in one direction.
pub struct Sweep<'a, T> {
    pub kind: Kind,
    /// The number of sequences that have a step 0, a step 1, …; they do not rise.
    pub sizes: &'a [usize],
    pub backwards: bool,
    /// `[gates · hidden, width]`
    pub weight_hh: ArrayView2<'a, T>,
    /// `[3 · hidden]` of a GRU, zeros if there is none; otherwise it is part of the projected input.
    pub bias_hh: &'a [T],
    /// `[width, hidden]`
    pub weight_hr: Option<ArrayView2<'a, T>>,
}

impl<'s, T: Real> Sweep<'s, T> {
    /// Values of the cell.
    fn hidden(&self) -> usize {
        self.weight_hh.nrows() / self.kind.gates()
    }

    /// Values of the state that `weight_hh` takes.
    fn width(&self) -> usize {
        self.weight_hh.ncols()
    }

    /// Values of the state that only an LSTM has.
    fn cells(&self) -> usize {
        if self.kind == Kind::Lstm { self.hidden() } else { 0 }
    }

    /// Values that are kept besides gates and hidden state.
    fn beside(&self) -> usize {
        if self.kind.gates() > 1 { self.hidden() } else { 0 }
    }

    /// Rows of all steps.
    fn rows(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Multiply-adds of one product with the weights for each row.
    fn work(&self) -> usize {
        let projected = self.weight_hr.map_or(0, |w| w.len());
        saturating([self.rows(), self.weight_hh.len() + projected])
    }

    /// A matrix that is multiplied by the rows of each step.
    fn operand(&self, matrix: ArrayView2<'s, T>) -> Operand<'s, T> {
        // A copy pays if it is read in many steps; for a few rows the matrix can be read as it is.
        match self.sizes {
            [_] => Operand::Stored(matrix),
            [most, ..] if *most <= DOT_ROWS && self.sizes.len() < RECURRENT_PACKED => Operand::Stored(matrix),
            _ => Operand::Packed(Packed::new(matrix, self.sizes[0])),
        }
    }

    /// Calls `task` for some sequences and the first row of each step, on the threads.
    fn share(&self, kind: usize, task: &(dyn Fn(&Walk<'_>) + Sync)) {
        // So the first sequences are those that have a step, and each has a step 0.
        assert!(self.sizes.is_sorted_by(|a, b| a >= b), "sizes of a sweep");
        let (width, hidden) = (self.width(), self.hidden());
        assert!(
            self.weight_hh.nrows() == self.kind.gates() * hidden
                && self.weight_hr.map_or((hidden, hidden), |w| w.dim()) == (width, hidden),
            "weights of a sweep"
        );
        let mut end = 0;
        let starts = collected(self.sizes.iter().map(|n| {
            end += n;
            end - n
        }));
        let walk = |sequences| Walk { sizes: self.sizes, starts: &starts, backwards: self.backwards, sequences };
        let most = self.sizes[0];
        let together = if self.work() < PRODUCT_PARALLEL { 1 } else { threads::num_threads().min(most / DOT_ROWS) };
        let parts = together.max(most.div_ceil(RECURRENT_ROWS));
        // A product of one step has threads of its own.
        if parts <= 1 || self.sizes.len() == 1 {
            return task(&walk(0..most));
        }
        let cuts = self.cuts(parts);
        threads::for_each_of(kind, self.work(), parts, &|i| task(&walk(cuts[i]..cuts[i + 1])));
    }

    /// Where the sequences are cut into parts with about as many steps each.
    fn cuts(&self, parts: usize) -> Vec<usize> {
        let rows = self.rows();
        let (mut sequence, mut before, mut steps) = (0, 0, self.sizes.len());
        collected((0..=parts).map(|i| {
            while sequence < self.sizes[0] && before * parts < rows * i {
                while self.sizes[steps - 1] <= sequence {
                    steps -= 1;
                }
                (sequence, before) = (sequence + 1, before + steps);
            }
            sequence
        }))
    }
}

/// Some sequences of a sweep.
struct Walk<'a> {
    sizes: &'a [usize],
    /// The first row of each step.
    starts: &'a [usize],
    backwards: bool,
    sequences: Range<usize>,
}

impl Walk<'_> {
    /// Calls `f` for each step in order, or in reverse, with the first row of these sequences and the number of rows.
    fn each(&self, reverse: bool, f: &mut dyn FnMut(usize, usize)) {
        let steps = self.sizes.len();
        for i in 0..steps {
            let t = if reverse == self.backwards { i } else { steps - 1 - i };
            let count = self.sizes[t].min(self.sequences.end).saturating_sub(self.sequences.start);
            if count > 0 {
                f(self.starts[t] + self.sequences.start, count);
            }
        }
    }
}

/// The right operand of the products of all steps.
enum Operand<'a, T: Copy + 'static> {
    Stored(ArrayView2<'a, T>),
    Packed(Packed<T>),
}

impl<T: Real> Operand<'_, T> {
    /// `c (+)= a · b`.
    ///
    /// # Safety
    /// The rows of `a` and `c`, which must be as wide as `b` requires, exist, and nothing else uses those of `c`; they hold
    /// numbers if `add`.
    #[allow(unsafe_code)]
    unsafe fn multiply(&self, (a, a_row): (*const T, usize), (c, c_row): (*mut T, usize), rows: usize, add: bool) {
        match self {
            // SAFETY: the caller's promise.
            Operand::Packed(packed) => unsafe { packed.multiply(rows, (a, a_row), (c, c_row), add) },
            Operand::Stored(matrix) => {
                let (k, n) = matrix.dim();
                if rows == 0 || n == 0 {
                    return;
                }
                // SAFETY: the caller's promise.
                unsafe {
                    let a = ArrayView2::from_shape_ptr((rows, k).strides((a_row.max(1), 1)), a);
                    let mut c = ArrayViewMut2::from_shape_ptr((rows, n).strides((c_row, 1)), c);
                    product(a, *matrix, &mut c, add);
                }
            }
        }
    }
}

/// An array of which tasks use different rows.
#[derive(Clone, Copy)]
struct Rows<T> {
    at: *mut T,
    width: usize,
}

// SAFETY: tasks use different rows.
#[allow(unsafe_code)]
unsafe impl<T: Send> Sync for Rows<T> {}

impl<T: Copy> Rows<T> {
    fn new(at: *mut T, width: usize) -> Self {
        Rows { at, width }
    }

    fn of(elements: &mut [T], width: usize) -> Self {
        Rows { at: elements.as_mut_ptr(), width }
    }

    fn row(self, row: usize) -> *mut T {
        self.at.wrapping_add(row * self.width)
    }

    /// # Safety
    /// The rows exist and hold numbers, and nothing else uses them meanwhile.
    #[allow(unsafe_code)]
    unsafe fn slice<'a>(self, row: usize, count: usize) -> &'a mut [T] {
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.row(row), count * self.width) }
    }

    /// # Safety
    /// The rows exist, and nothing else uses them meanwhile.
    #[allow(unsafe_code)]
    unsafe fn copy_from(self, row: usize, elements: &[T]) {
        debug_assert!(self.width == 0 || elements.len().is_multiple_of(self.width));
        // SAFETY: the caller's promise.
        unsafe { std::ptr::copy_nonoverlapping(elements.as_ptr(), self.row(row), elements.len()) };
    }
}

/// An array that is being written.
struct Fresh<T> {
    elements: Aligned<T>,
    shape: (usize, usize),
}

impl<T: Real> Fresh<T> {
    fn new(rows: usize, width: usize) -> Self {
        Fresh { elements: Aligned::with_capacity(must::<T>("recurrent", &[rows, width])), shape: (rows, width) }
    }

    fn rows(&mut self) -> Rows<T> {
        let (rows, width) = self.shape;
        Rows::new(self.elements.spare(rows * width).as_mut_ptr().cast(), width)
    }

    /// # Safety
    /// All rows were written.
    #[allow(unsafe_code)]
    unsafe fn written(mut self) -> Array2<T> {
        // SAFETY: the caller's promise.
        unsafe { self.elements.set_len(self.shape.0 * self.shape.1) };
        self.elements.array(self.shape)
    }
}
