//! Softmax and its logarithm along one axis, and their derivatives.

use std::mem::MaybeUninit;

use ndarray::{ArrayD, ArrayViewD};

use super::{
    gather::Rows,
    isa::Baseline,
    layout::row_major,
    memory::{filled, recycle},
    passes::{self, Blank, combine, dot, largest, less, log_softmax_slope, passes, powers, sum, write},
    prefetch,
    reduce::add_row,
    row_kernel::{Piece, Sizes, Written, run, run_pieces, write_parts},
    scalar::max_num,
    vmath::VectorMath,
};
use crate::number::Real;

/// Powers that are computed at a time: they stay in the first-level cache.
const NEAR: usize = 1 << 11;

/// Blocks of rows, one per task: `len` rows of `inner` elements, where the softmax is taken along the columns.
#[derive(Clone, Copy)]
pub struct Block {
    len: usize,
    inner: usize,
}

impl Block {
    /// Of the blocks into which the axis divides an array.
    fn sizes(self, outer: usize) -> Sizes {
        let size = self.len * self.inner;
        // Without elements there may be any number of blocks.
        Sizes { rows: if size == 0 { 0 } else { outer }, read: size, written: size, sums: 0 }
    }

    /// The elements of block `i`.
    #[inline(always)]
    fn of<'a, T>(&self, x: &'a [T], i: usize) -> &'a [T] {
        let n = self.len * self.inner;
        prefetch::for_reading(x, (i + 1) * n, n);
        &x[i * n..][..n]
    }

    /// How many elements of whole rows are computed at a time.
    fn part(&self) -> usize {
        self.inner * (NEAR / self.inner).clamp(1, self.len)
    }
}

/// Sums of columns that add a few rows at a time, for accuracy.
struct ColumnSums<T: Real> {
    total: Vec<T>,
    few: Vec<T>,
    rows: usize,
}

impl<T: Real> ColumnSums<T> {
    const FEW: usize = 16;

    fn new(width: usize) -> Self {
        ColumnSums { total: filled(width, T::ZERO), few: filled(width, T::ZERO), rows: 0 }
    }

    #[inline(always)]
    fn add(&mut self, term: impl Fn(usize) -> T) {
        for i in 0..self.few.len() {
            self.few[i] += term(i);
        }
        self.rows += 1;
        if self.rows.is_multiple_of(Self::FEW) {
            self.finish();
        }
    }

    /// Adds what is left.
    fn finish(&mut self) {
        add_row(&mut self.total, &self.few, T::plus);
        self.few.fill(T::ZERO);
    }

    fn recycle(self) {
        recycle(self.total);
        recycle(self.few);
    }
}

impl Block {
    /// The softmax of each column.
    fn columns<'a, T: Real>(&self, x: &[T], log: bool, out: &'a mut Blank<T>) -> &'a mut [T] {
        let (inner, part) = (self.inner, self.part());
        let (mut max, mut sums) = (filled(inner, T::neg_infinity()), ColumnSums::new(inner));
        // As in `LogSum::of`, the largest is kept apart if the logarithm is wanted.
        let mut ones = ColumnSums::new(if log { inner } else { 0 });
        for row in x.chunks_exact(inner) {
            add_row(&mut max, row, max_num);
        }
        let mut differences = filled(part, T::ZERO);
        let out = write_parts(out, part, &mut |k, out| {
            let x = &x[k * part..][..out.len()];
            for (to, row) in differences.chunks_exact_mut(inner).zip(x.chunks_exact(inner)) {
                subtract(to, row, &max);
            }
            let out = powers(&differences[..x.len()], T::ZERO, out);
            for row in out.chunks_exact(inner) {
                if log {
                    sums.add(|i| if row[i] == T::ONE { T::ZERO } else { row[i] });
                    ones.add(|i| if row[i] == T::ONE { T::ONE } else { T::ZERO });
                } else {
                    sums.add(|i| row[i]);
                }
            }
            out
        });
        sums.finish();
        ones.finish();
        let total = &mut sums.total;
        if log {
            total.iter_mut().zip(&ones.total).for_each(|(s, &n)| *s = (n - T::ONE + *s).ln_1p());
            for (out, x) in out.chunks_exact_mut(inner).zip(x.chunks_exact(inner)) {
                subtract(out, x, &max);
                add_row(out, total, |o, s| o - s);
            }
        } else {
            total.iter_mut().for_each(|s| *s = s.recip());
            for out in out.chunks_exact_mut(inner) {
                add_row(out, total, |o, s| o * s);
            }
        }
        recycle(max);
        recycle(differences);
        sums.recycle();
        ones.recycle();
        out
    }
}

/// `x − y`, place by place.
fn subtract<T: Real>(to: &mut [T], x: &[T], y: &[T]) {
    let (x, y) = (&x[..to.len()], &y[..to.len()]);
    for i in 0..to.len() {
        to[i] = x[i] - y[i];
    }
}

passes! {
    /// The softmax of each row of a piece. Subtracting the largest changes nothing but keeps every power in [0, 1].
    wide fn softmax_rows<T: Real, I>(piece: Piece<'o, T, ()>, block: Block, x: &'a [T]) -> Written<'o, T, ()> {
        piece.each(|i, out, _| {
            let x = &block.of(x, i)[..out.len()];
            let [largest] = combine::<T, I, _, _>([x], |x| x, T::neg_infinity(), max_num);
            let out = write(out, |i| T::vexp::<I>(x[i] - largest));
            let [sum] = combine::<T, I, _, _>([&*out], |x| x, T::ZERO, T::plus);
            let scale = sum.recip();
            for x in &mut *out {
                *x *= scale;
            }
            (out, ())
        })
    }

    /// `(g − Σ g y) y` for each row of a piece.
    narrow fn softmax_rows_slope<T: Real, I>(
        piece: Piece<'o, T, ()>, block: Block, g: &'a [T], y: &'a [T]
    ) -> Written<'o, T, ()> {
        piece.each(|i, out, _| {
            let (g, y) = (&block.of(g, i)[..out.len()], &block.of(y, i)[..out.len()]);
            let [sum] = combine::<T, I, _, _>([g, y], |[g, y]| [g * y], T::ZERO, T::plus);
            (write(out, |i| (g[i] - sum) * y[i]), ())
        })
    }
}

/// `eˣ / Σ eˣ` along `axis`, or its logarithm with `log`.
pub fn softmax<T: Real>(x: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    let data = row_major(&x);
    let Rows { outer, len, inner } = Rows::new(x.shape(), axis);
    let block = Block { len, inner };
    let (out, ..) = match (inner, log) {
        (1, false) => run_pieces(block.sizes(outer), &|piece| softmax_rows(piece, block, &data)),
        _ => run(block.sizes(outer), &|i, out, _| {
            let x = block.of(&data, i);
            if inner > 1 {
                return (block.columns(x, log, out), ());
            }
            let LogSum { max, log_sum } = LogSum::of(x);
            (less(x, max, log_sum, out), ())
        }),
    };
    out.array(x.shape())
}

/// From this logarithm on, a class has more than half of the probability.
pub const DOMINANT: f64 = -0.5;

/// Recomputes the gradients of classes whose probability is near 1: the digits of `g − p Σg` are those of `1 − p`.
fn dominant<T: Real>(g: &[T], y: &[T], sums: &[T], out: &mut [T]) {
    let limit = T::of(DOMINANT);
    if largest(y) <= limit {
        return;
    }
    for (i, out) in out.iter_mut().enumerate().filter(|&(i, _)| y[i] > limit) {
        let sum = sums[i % sums.len()];
        if sum.is_finite() {
            *out = (g[i] - sum) - T::vexp_m1::<Baseline>(y[i]) * sum;
        }
    }
}

impl Block {
    /// The gradient of each column of the input.
    fn columns_backward<'a, T: Real>(&self, g: &[T], y: &[T], log: bool, out: &'a mut Blank<T>) -> &'a mut [T] {
        let (inner, part) = (self.inner, self.part());
        let mut sums = ColumnSums::new(inner);
        for (g, y) in g.chunks_exact(inner).zip(y.chunks_exact(inner)) {
            if log {
                sums.add(|i| g[i]);
            } else {
                sums.add(|i| g[i] * y[i]);
            }
        }
        sums.finish();
        let at = &sums.total[..inner];
        let out = write_parts(out, part, &mut |k, out| {
            let (g, y) = (&g[k * part..][..out.len()], &y[k * part..][..out.len()]);
            if !log {
                return write_parts(out, inner, &mut |k, out| {
                    let (g, y) = (&g[k * inner..][..inner], &y[k * inner..][..inner]);
                    write(&mut out[..inner], |i| (g[i] - at[i]) * y[i])
                });
            }
            let out = powers(y, T::ZERO, out);
            for (out, g) in out.chunks_exact_mut(inner).zip(g.chunks_exact(inner)) {
                for i in 0..inner {
                    out[i] = g[i] - out[i] * at[i];
                }
            }
            out
        });
        if log {
            dominant(g, y, at, out);
        }
        sums.recycle();
        out
    }
}

/// The gradient of [`softmax`]'s input from that of its output `y`: `(g − Σ g·y)·y`, with `log` `g − eʸ Σ g`.
pub fn softmax_backward<T: Real>(g: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    let (g_data, y_data) = (row_major(&g), row_major(&y));
    let Rows { outer, len, inner } = Rows::new(g.shape(), axis);
    let block = Block { len, inner };
    let (out, ..) = match (inner, log) {
        (1, false) => run_pieces(block.sizes(outer), &|piece| softmax_rows_slope(piece, block, &g_data, &y_data)),
        _ => run(block.sizes(outer), &|i, out, _| {
            let (g, y) = (block.of(&g_data, i), block.of(&y_data, i));
            if inner > 1 {
                return (block.columns_backward(g, y, log, out), ());
            }
            let (out, sum) = log_softmax_slope(g, y, out);
            dominant(g, y, &[sum], out);
            (out, ())
        }),
    };
    out.array(g.shape())
}

// ------------------------------------------------------------------------------------------------------ log Σ eˣ

/// The largest score of a row, and `log Σ e^(x − max)`: their sum is log Σ eˣ, and kept apart they lose no digits.
#[derive(Clone, Copy)]
pub struct LogSum<T> {
    pub max: T,
    pub log_sum: T,
}

impl<T: Real> LogSum<T> {
    pub fn of(x: &[T]) -> Self {
        let [max, all] = passes::log_sum(x);
        if all >= T::of(2.) {
            return LogSum { max, log_sum: all.ln() };
        }
        // Without the largest, whose power is 1: added to it, a small rest would be lost.
        let rest = near(x, &mut |_, x, space| {
            let powers = powers(x, max, space);
            for power in &mut *powers {
                *power = if *power == T::ONE { T::ZERO } else { *power };
            }
            sum(powers)
        });
        LogSum { max, log_sum: rest.ln_1p() }
    }

    /// The log-softmax of the score `x`.
    pub fn log_softmax(self, x: T) -> T {
        (x - self.max) - self.log_sum
    }

    /// The sum of the log-softmax of some scores, times their weights.
    pub fn sum_of_log_softmax(self, x: &[T], weight: Option<&[T]>) -> T {
        near(x, &mut |from, x, space| {
            let logs = less(x, self.max, self.log_sum, space);
            weight.map_or_else(|| sum(logs), |w| dot(logs, &w[from..][..x.len()]))
        })
    }
}

/// The sum of `f(i, part, space)` over the parts of `x`, which begin at i, with space for as many numbers.
fn near<T: Real>(x: &[T], f: &mut dyn FnMut(usize, &[T], &mut Blank<T>) -> T) -> T {
    let mut space = [MaybeUninit::uninit(); NEAR];
    let mut total = T::ZERO;
    for (k, x) in x.chunks(NEAR).enumerate() {
        total += f(k * NEAR, x, &mut space[..x.len()]);
    }
    total
}
