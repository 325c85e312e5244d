//! Back through all steps.

use std::mem::MaybeUninit;

use ndarray::Array2;

use super::{Fresh, Kind, Operand, Rows, Sweep, Walk, gates::Back};
use crate::{
    kernels::{
        memory::{filled, recycle},
        threads,
        thresholds::{ELEMENTWISE_PARALLEL, ELEMENTWISE_TASK},
    },
    number::Real,
};

/// What [`Sweep::back`] returns.
pub struct Gradients<T> {
    /// Of the gates before their functions, for each row: blocks of `hidden` columns in the order of the weights; of a GRU
    /// those of n, r, z, and of n's product with the state.
    pub gates: Array2<T>,
    /// Of the initial state, `[sequences, width]` and `[sequences, hidden]`.
    pub start: [Array2<T>; 2],
    /// Of an LSTM that projects: the gradients of the outputs, and what was projected.
    pub projected: Option<[Array2<T>; 2]>,
}

/// What the tasks share.
struct Job<'a, 's, T: Copy + 'static> {
    sweep: &'a Sweep<'s, T>,
    by_hh: Operand<'s, T>,
    by_hr: Option<Operand<'s, T>>,
    gates: &'a [T],
    /// The state before a step: of an LSTM the cells, of a GRU the hidden state.
    before: &'a [T],
    inner: &'a [T],
    /// The gradients of all outputs.
    g: &'a [T],
    dgates: Rows<MaybeUninit<T>>,
    dh: Rows<T>,
    dc: Rows<T>,
    /// The rows of [`Gradients::projected`].
    projected: [Rows<MaybeUninit<T>>; 2],
}

impl<T: Real> Sweep<'_, T> {
    /// From what [`Sweep::forth`] kept (`gates`, `h`, `beside`) and the gradient of all that it returned.
    #[allow(unsafe_code)]
    pub fn back(&self, [gates, h, beside]: [&[T]; 3], g: &[T]) -> Gradients<T> {
        let (rows, hidden, width, sequences) = (self.rows(), self.hidden(), self.width(), self.sizes[0]);
        let (of_outputs, of_state) = g.split_at(rows * width);
        let (of_h, of_c) = of_state.split_at(sequences * width);
        assert!(
            gates.len() == rows * self.weight_hh.nrows()
                && h.len() == rows * width
                && beside.len() == rows * self.beside()
                && of_c.len() == sequences * self.cells(),
            "sizes of a sweep"
        );
        let projects = self.weight_hr.is_some();
        let mut dgates = Fresh::new(rows, self.kind.gradients() * hidden);
        let mut projected = [width, hidden].map(|width| Fresh::new(if projects { rows } else { 0 }, width));
        let (mut dh, mut dc) = (Fresh::new(sequences, width), Fresh::new(sequences, self.cells()));
        let uninit = |rows: Rows<T>| Rows::new(rows.at.cast::<MaybeUninit<T>>(), rows.width);
        let (before, inner) = if self.kind == Kind::Gru { (h, beside) } else { (beside, &[][..]) };
        let job = Job {
            sweep: self,
            by_hh: self.operand(self.weight_hh),
            by_hr: self.weight_hr.map(|w| self.operand(w)),
            gates,
            before,
            inner,
            g: of_outputs,
            dgates: uninit(dgates.rows()),
            dh: dh.rows(),
            dc: dc.rows(),
            projected: projected.each_mut().map(|fresh| uninit(fresh.rows())),
        };
        // SAFETY: the gradients of the state have space for as many elements. Tasks have different sequences, and so
        // different rows. Each row belongs to a sequence, whose task writes all that there is of the row.
        unsafe {
            job.dh.copy_from(0, of_h);
            job.dc.copy_from(0, of_c);
            self.share(Sweep::<T>::back as *const () as usize, &|walk| job.run(walk));
            drop(job);
            let start = [dh.written(), dc.written()];
            let projected = projects.then(|| projected.map(|fresh| fresh.written()));
            Gradients { gates: dgates.written(), start, projected }
        }
    }
}

impl<T: Real> Job<'_, '_, T> {
    /// Takes some sequences back through all steps.
    ///
    /// # Safety
    /// Nothing else uses these sequences, and the gradient of their last state is there.
    #[allow(unsafe_code)]
    unsafe fn run(&self, walk: &Walk<'_>) {
        let of_whole = if self.by_hr.is_some() { self.sweep.hidden() } else { 0 };
        let mut whole = filled(walk.sequences.len() * of_whole, T::ZERO);
        let scratch = Rows::of(&mut whole, of_whole);
        // SAFETY: the caller's promise, and the rows of a step are those of some of these sequences.
        walk.each(true, &mut |row, count| unsafe { self.step(walk.sequences.start, row, count, scratch) });
        recycle(whole);
    }

    /// One step of `count` sequences from `first` on, whose rows begin at `row`.
    ///
    /// # Safety
    /// As [`run`](Job::run).
    #[allow(unsafe_code)]
    unsafe fn step(&self, first: usize, row: usize, count: usize, whole: Rows<T>) {
        let Sweep { kind, .. } = *self.sweep;
        let (hidden, dh) = (self.sweep.hidden(), self.dh);
        // SAFETY: the caller's promise.
        unsafe {
            let sums = dh.slice(first, count);
            for (sum, &g) in sums.iter_mut().zip(&self.g[row * dh.width..]) {
                *sum += g;
            }
            if let Some(by_hr) = &self.by_hr {
                let kept = Rows::new(self.projected[0].at.cast::<T>(), dh.width);
                kept.copy_from(row, sums);
                by_hr.multiply((dh.row(first), dh.width), (whole.row(0), whole.width), count, false);
            }
            let elements = count * self.dgates.width;
            let tasks =
                if elements < ELEMENTWISE_PARALLEL { 1 } else { elements.div_ceil(ELEMENTWISE_TASK).min(count) };
            threads::for_each(elements, tasks, &|i| {
                let some = threads::portion(count, i, tasks);
                let (from, n, row) = (some.start, some.len(), row + some.start);
                let some = |x: &'_ [T], width: usize| {
                    let width = if x.is_empty() { 0 } else { width };
                    std::slice::from_raw_parts(x.as_ptr().wrapping_add(row * width), n * width)
                };
                let dh = if self.by_hr.is_some() { whole.slice(from, n) } else { dh.slice(first + from, n) };
                Back {
                    kind,
                    hidden,
                    gates: some(self.gates, kind.gates() * hidden),
                    before: some(self.before, hidden),
                    inner: some(self.inner, hidden),
                    dh,
                    dc: self.dc.slice(first + from, n),
                    dgates: self.dgates.slice(row, n),
                    whole: if self.by_hr.is_some() { self.projected[1].slice(row, n) } else { &mut [] },
                }
                .call();
            });
            // The last blocks of a GRU's gradients are those of its products.
            let gru = kind == Kind::Gru;
            let from = self.dgates.row(row).wrapping_add(if gru { hidden } else { 0 });
            self.by_hh.multiply((from.cast(), self.dgates.width), (dh.row(first), dh.width), count, gru);
        }
    }
}
