//! Softmax and its logarithm along one axis, and their derivatives.

use ndarray::{ArrayD, ArrayViewD};

use super::{
    gather::Rows,
    isa::{Isa, Kernel, dispatch_narrow},
    layout::{array, row_major},
    memory::{filled, recycle},
    prefetch,
    reduce::{Each, combine, fold_contiguous},
    row_kernel::{Blank, RowKernel, Sizes, run, write, write_rows},
    scalar::max_num,
};
use crate::number::Real;

/// Blocks of rows, one per task: `len` rows of `inner` elements, where the softmax is taken along the columns.
#[derive(Clone, Copy)]
struct Block {
    len: usize,
    inner: usize,
}

impl Block {
    /// Runs `kernel` on the blocks into which `axis` divides `shape`.
    fn run_on<T: Real, K: RowKernel<T>>(shape: &[usize], axis: usize, kernel: impl Fn(Block) -> K) -> ArrayD<T> {
        let Rows { outer, len, inner } = Rows::new(shape, axis);
        if outer * len * inner == 0 {
            return array(shape, Vec::new());
        }
        let sizes = Sizes { rows: outer, read: len * inner, written: len * inner, sums: 0 };
        run(&kernel(Block { len, inner }), sizes).0.array(shape)
    }

    fn of<'a, T>(&self, x: &'a [T], i: usize) -> &'a [T] {
        let n = self.len * self.inner;
        &x[i * n..][..n]
    }
}

struct Softmax<'a, T> {
    x: &'a [T],
    block: Block,
    log: bool,
}

impl<T: Real> RowKernel<T> for Softmax<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        prefetch::for_reading(self.x, (i + 1) * out.len(), out.len());
        let x = self.block.of(self.x, i);
        let out = match (self.block.inner, self.log) {
            (1, false) => softmax_row::<I, T>(x, out),
            (1, true) => {
                let x = &x[..out.len()];
                let LogSum { max, log_sum } = LogSum::of::<I>(x);
                write(out, |i| (x[i] - max) - log_sum)
            }
            _ => self.columns::<I>(x, out),
        };
        (out, ())
    }
}

#[inline(always)]
fn softmax_row<'a, I: Isa, T: Real>(x: &[T], out: &'a mut Blank<T>) -> &'a mut [T] {
    let x = &x[..out.len()];
    // Subtracting the maximum changes nothing but keeps every power in [0, 1].
    let max = combine(Each([x], |[x]: [T; 1]| x), x.len(), T::neg_infinity(), max_num);
    let out = write(out, |i| T::vexp::<I>(x[i] - max));
    let scale = combine(Each([&*out], |[e]: [T; 1]| e), out.len(), T::ZERO, |a, b| a + b).recip();
    out.iter_mut().for_each(|o| *o *= scale);
    out
}

/// Sums of columns that add a few rows at a time, for accuracy.
struct ColumnSums<T: Real> {
    total: Vec<T>,
    few: Vec<T>,
    rows: usize,
}

impl<T: Real> ColumnSums<T> {
    const FEW: usize = 16;

    #[inline(always)]
    fn new(width: usize) -> Self {
        ColumnSums { total: filled(width, T::ZERO), few: filled(width, T::ZERO), rows: 0 }
    }

    #[inline(always)]
    fn add(&mut self, term: impl Fn(usize) -> T) {
        (0..self.few.len()).for_each(|i| self.few[i] += term(i));
        self.rows += 1;
        if self.rows.is_multiple_of(Self::FEW) {
            self.finish();
        }
    }

    /// Adds what is left.
    #[inline(always)]
    fn finish(&mut self) {
        self.total.iter_mut().zip(&mut self.few).for_each(|(t, f)| *t += std::mem::take(f));
    }

    fn recycle(self) {
        recycle(self.total);
        recycle(self.few);
    }
}

impl<T: Real> Softmax<'_, T> {
    #[inline(always)]
    fn columns<'a, I: Isa>(&self, x: &[T], out: &'a mut Blank<T>) -> &'a mut [T] {
        let inner = self.block.inner;
        let (mut max, mut sums) = (filled(inner, T::neg_infinity()), ColumnSums::new(inner));
        // As in `LogSum::of`, the largest is kept apart if the logarithm is wanted.
        let mut largest = ColumnSums::new(if self.log { inner } else { 0 });
        for row in x.chunks_exact(inner) {
            max.iter_mut().zip(row).for_each(|(m, &x)| *m = max_num(*m, x));
        }
        let shift = &max[..inner];
        let power = |k: usize| {
            let x = &x[k * inner..][..inner];
            move |i: usize| (x[i] - shift[i]).vexp::<I>()
        };
        let out = write_rows(out, inner, power, |row| {
            let row = &row[..inner];
            if self.log {
                sums.add(|i| if row[i] == T::ONE { T::ZERO } else { row[i] });
                largest.add(|i| if row[i] == T::ONE { T::ONE } else { T::ZERO });
            } else {
                sums.add(|i| row[i]);
            }
        });
        sums.finish();
        largest.finish();
        let total = &mut sums.total;
        if self.log {
            total.iter_mut().zip(&largest.total).for_each(|(s, &n)| *s = (n - T::ONE + *s).ln_1p());
            for (out, x) in out.chunks_exact_mut(inner).zip(x.chunks_exact(inner)) {
                for (((o, &x), &m), &s) in out.iter_mut().zip(x).zip(shift).zip(&*total) {
                    *o = (x - m) - s;
                }
            }
        } else {
            total.iter_mut().for_each(|s| *s = s.recip());
            for out in out.chunks_exact_mut(inner) {
                out.iter_mut().zip(&*total).for_each(|(o, &s)| *o *= s);
            }
        }
        recycle(max);
        sums.recycle();
        largest.recycle();
        out
    }
}

/// `eˣ / Σ eˣ` along `axis`, or its logarithm with `log`.
pub fn softmax<T: Real>(x: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    let data = row_major(&x);
    Block::run_on(x.shape(), axis, |block| Softmax { x: &data, block, log })
}

/// From this logarithm on, a class has more than half of the probability.
pub const DOMINANT: f64 = -0.5;

struct Backward<'a, T> {
    g: &'a [T],
    y: &'a [T],
    block: Block,
    log: bool,
}

impl<T: Real> Backward<'_, T> {
    /// Recomputes the gradients of classes whose probability is near 1: the digits of `g − p Σg` are those of `1 − p`.
    #[inline(always)]
    fn dominant<I: Isa>(&self, g: &[T], y: &[T], sums: &[T], out: &mut [T]) {
        let limit = T::of(DOMINANT);
        if !self.log || fold_contiguous(y, T::neg_infinity(), max_num) <= limit {
            return;
        }
        for (i, out) in out.iter_mut().enumerate().filter(|&(i, _)| y[i] > limit) {
            let sum = sums[i % sums.len()];
            if sum.is_finite() {
                *out = (g[i] - sum) - T::vexp_m1::<I>(y[i]) * sum;
            }
        }
    }
}

impl<T: Real> RowKernel<T> for Backward<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let (g, y, inner) = (self.block.of(self.g, i), self.block.of(self.y, i), self.block.inner);
        let n = out.len();
        prefetch::for_reading(self.g, (i + 1) * n, n);
        prefetch::for_reading(self.y, (i + 1) * n, n);
        let (g, y) = (&g[..n], &y[..n]);
        // A copy, which nothing that is written can change: the loops are made for either value.
        let log = self.log;
        let term = move |g: T, y: T| if log { g } else { g * y };
        let slope = move |g: T, y: T, sum: T| if log { g - T::vexp::<I>(y) * sum } else { (g - sum) * y };
        if inner == 1 {
            let sum = combine(Each([g, y], |[g, y]: [T; 2]| term(g, y)), g.len(), T::ZERO, |a, b| a + b);
            let out = write(out, move |i| slope(g[i], y[i], sum));
            self.dominant::<I>(g, y, &[sum], out);
            return (out, ());
        }
        let mut sums = ColumnSums::new(inner);
        for (g, y) in g.chunks_exact(inner).zip(y.chunks_exact(inner)) {
            sums.add(|i| term(g[i], y[i]));
        }
        sums.finish();
        let at = &sums.total[..inner];
        let row = |k: usize| {
            let (g, y) = (&g[k * inner..][..inner], &y[k * inner..][..inner]);
            move |i: usize| slope(g[i], y[i], at[i])
        };
        let out = write_rows(out, inner, row, |_| ());
        self.dominant::<I>(g, y, at, out);
        sums.recycle();
        (out, ())
    }
}

/// The gradient of [`softmax`]'s input from that of its output `y`: `(g − Σ g·y)·y`, with `log` `g − eʸ Σ g`.
pub fn softmax_backward<T: Real>(g: ArrayViewD<'_, T>, y: ArrayViewD<'_, T>, axis: usize, log: bool) -> ArrayD<T> {
    let (g_data, y_data) = (row_major(&g), row_major(&y));
    Block::run_on(g.shape(), axis, |block| Backward { g: &g_data, y: &y_data, block, log })
}

// ------------------------------------------------------------------------------------------------------ log Σ eˣ

/// The largest score of a row, and `log Σ e^(x − max)`: their sum is log Σ eˣ, and kept apart they lose no digits.
#[derive(Clone, Copy)]
pub struct LogSum<T> {
    pub max: T,
    pub log_sum: T,
}

/// `Σ e^(x − max)` without the largest, whose power is 1: added to it, a small rest would be lost. It is rarely needed, so it
/// is a kernel of its own instead of a part of each kernel with a [`LogSum`].
struct Rest<'a, T> {
    x: &'a [T],
    max: T,
}

impl<T: Real> Kernel for Rest<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self) -> T {
        let power = |d| if d == T::ZERO { T::ZERO } else { T::vexp::<I>(d) };
        combine(Each([self.x], |[x]: [T; 1]| power(x - self.max)), self.x.len(), T::ZERO, |a, b| a + b)
    }
}

impl<T: Real> LogSum<T> {
    #[inline(always)]
    pub fn of<I: Isa>(x: &[T]) -> Self {
        let max = combine(Each([x], |[x]: [T; 1]| x), x.len(), T::neg_infinity(), max_num);
        let sum = combine(Each([x], |[x]: [T; 1]| T::vexp::<I>(x - max)), x.len(), T::ZERO, |a, b| a + b);
        if sum >= T::of(2.) {
            return LogSum { max, log_sum: sum.ln() };
        }
        LogSum { max, log_sum: dispatch_narrow(Rest { x, max }).ln_1p() }
    }

    /// The log-softmax of the score `x`.
    #[inline(always)]
    pub fn log_softmax(self, x: T) -> T {
        (x - self.max) - self.log_sum
    }
}
