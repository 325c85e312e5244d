//! Forth through all steps.

use ndarray::{Array1, Array2};

use super::{Fresh, Kind, Operand, Rows, Sweep, Walk, gates::Forth};
use crate::{
    kernels::{
        memory::{Aligned, filled, recycle},
        profile,
        sizes::must,
        threads,
        thresholds::{ELEMENTWISE_PARALLEL, ELEMENTWISE_TASK},
    },
    number::Real,
};

/// What a sweep returns.
pub struct Outputs<T> {
    /// The outputs of all rows, `[rows, width]`, then the last hidden state, `[sequences, width]`, then, of an LSTM, the last
    /// cells, `[sequences, hidden]`.
    pub all: Array1<T>,
    pub kept: Option<Kept<T>>,
}

/// What the way back needs, for each row.
pub struct Kept<T> {
    /// After their functions.
    pub gates: Array2<T>,
    /// The hidden state before the step.
    pub h: Array2<T>,
    /// Of an LSTM: the cells before the step. Of a GRU: what r is multiplied by.
    pub beside: Array2<T>,
}

/// What the tasks of a sweep share.
struct Job<'a, 's, T: Copy + 'static> {
    sweep: &'a Sweep<'s, T>,
    by_hh: Operand<'s, T>,
    by_hr: Option<Operand<'s, T>>,
    gates: Rows<T>,
    outputs: Rows<T>,
    h: Rows<T>,
    c: Rows<T>,
    kept: Option<[Rows<T>; 2]>,
}

impl<T: Real> Sweep<'_, T> {
    /// From the projected input, `[rows, gates · hidden]`, biases included, and the initial state, `h` and then `c`.
    #[allow(unsafe_code)]
    pub fn forth(&self, mut gates: Array2<T>, start: [&[T]; 2], keep: bool) -> Outputs<T> {
        profile::add(self.work());
        let (rows, hidden, sequences) = (self.rows(), self.hidden(), self.sizes[0]);
        let [before_h, before_c] = [rows * self.width(), (rows + sequences) * self.width()];
        let len = must::<T>("recurrent", &[before_c + sequences * self.cells()]);
        let mut all = Aligned::with_capacity(len);
        let mut kept_h = Fresh::new(if keep { rows } else { 0 }, self.width());
        let mut beside = Fresh::new(if keep { rows } else { 0 }, self.beside());
        let at: *mut T = all.spare(len).as_mut_ptr().cast();
        let part = |from: usize, width: usize| Rows::new(at.wrapping_add(from), width);
        let job = Job {
            sweep: self,
            by_hh: self.operand(self.weight_hh.reversed_axes()),
            by_hr: self.weight_hr.map(|w| self.operand(w.reversed_axes())),
            gates: Rows::of(gates.as_slice_mut().expect("the product's own memory"), self.kind.gates() * hidden),
            outputs: part(0, self.width()),
            h: part(before_h, self.width()),
            c: part(before_c, self.cells()),
            kept: keep.then(|| [kept_h.rows(), beside.rows()]),
        };
        assert!(
            gates.dim() == (rows, self.weight_hh.nrows())
                && start.map(<[T]>::len) == [sequences * self.width(), sequences * self.cells()],
            "sizes of a sweep"
        );
        // SAFETY: the state has space for as many elements. Tasks have different sequences, and so different rows. Each row
        // belongs to a sequence, whose task writes all that there is of the row.
        unsafe {
            job.h.copy_from(0, start[0]);
            job.c.copy_from(0, start[1]);
            self.share(Sweep::<T>::forth as *const () as usize, &|walk| job.run(walk));
            drop(job);
            all.set_len(len);
            let kept = keep.then(|| (kept_h.written(), beside.written()));
            let kept = match kept {
                Some((h, beside)) => Some(Kept { gates, h, beside }),
                None => {
                    recycle(gates.into_raw_vec_and_offset().0);
                    None
                }
            };
            Outputs { all: all.array(len), kept }
        }
    }
}

impl<T: Real> Job<'_, '_, T> {
    /// Takes some sequences through all steps.
    ///
    /// # Safety
    /// Nothing else uses these sequences, and their state is there.
    #[allow(unsafe_code)]
    unsafe fn run(&self, walk: &Walk<'_>) {
        let hidden = self.sweep.hidden();
        let of_product = if self.sweep.kind == Kind::Gru { 3 * hidden } else { 0 };
        let of_whole = if self.by_hr.is_some() { hidden } else { 0 };
        let count = walk.sequences.len();
        let mut product = filled(count * of_product, T::ZERO);
        let mut whole = filled(count * of_whole, T::ZERO);
        let scratch = [Rows::of(&mut product, of_product), Rows::of(&mut whole, of_whole)];
        // SAFETY: the caller's promise, and the rows of a step are those of some of these sequences.
        walk.each(false, &mut |row, count| unsafe { self.step(walk.sequences.start, row, count, scratch) });
        recycle(product);
        recycle(whole);
    }

    /// One step of `count` sequences from `first` on, whose rows begin at `row`.
    ///
    /// # Safety
    /// As [`run`](Job::run).
    #[allow(unsafe_code)]
    unsafe fn step(&self, first: usize, row: usize, count: usize, [product, whole]: [Rows<T>; 2]) {
        let (gru, h) = (self.sweep.kind == Kind::Gru, self.h);
        // SAFETY: the caller's promise. The rows of the state are read before they are borrowed.
        unsafe {
            let to = if gru { (product.row(0), product.width) } else { (self.gates.row(row), self.gates.width) };
            self.by_hh.multiply((h.row(first), h.width), to, count, !gru);
            if let Some([kept_h, beside]) = self.kept {
                kept_h.copy_from(row, h.slice(first, count));
                if !gru {
                    beside.copy_from(row, self.c.slice(first, count));
                }
            }
            let hidden = self.sweep.hidden();
            let elements = count * self.gates.width;
            let tasks =
                if elements < ELEMENTWISE_PARALLEL { 1 } else { elements.div_ceil(ELEMENTWISE_TASK).min(count) };
            threads::for_each(elements, tasks, &|i| {
                let some = threads::portion(count, i, tasks);
                let (from, n) = (some.start, some.len());
                let h = if self.by_hr.is_some() { whole.slice(from, n) } else { h.slice(first + from, n) };
                let product = product.slice(from, n);
                let (gates, c) = (self.gates.slice(row + from, n), self.c.slice(first + from, n));
                let bias = self.sweep.bias_hh;
                Forth { kind: self.sweep.kind, hidden, gates, product: &mut *product, bias, h, c }.call();
                if let Some([_, beside]) = self.kept.filter(|_| gru) {
                    for (i, product) in product.chunks_exact((3 * hidden).max(1)).enumerate() {
                        beside.copy_from(row + from + i, &product[2 * hidden..]);
                    }
                }
            });
            if let Some(by_hr) = &self.by_hr {
                by_hr.multiply((whole.row(0), whole.width), (h.row(first), h.width), count, false);
            }
            self.outputs.copy_from(row, h.slice(first, count));
        }
    }
}
