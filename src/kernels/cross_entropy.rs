//! Cross entropy of scores and the indices of the right classes: one row of scores per position.

use super::{
    isa::{Isa, Kernel, dispatch_narrow},
    memory::Aligned,
    reduce::{Each, combine},
    row_kernel::{Blank, RowKernel, Sizes, run, write},
    softmax::LogSum,
};
use crate::number::Real;

/// The targets of a cross entropy.
pub struct Targets<'a, T> {
    /// The class at each position; `None` for positions that are ignored.
    pub classes: &'a [Option<usize>],
    /// The weight of each class; `None` if all are 1.
    pub weight: Option<&'a [T]>,
    /// The part of a target that its own class gets.
    pub keep: T,
    /// The part of a target that every class gets.
    pub spread: T,
}

impl<T: Real> Targets<'_, T> {
    #[inline(always)]
    fn weight(&self, class: usize) -> T {
        self.weight.map_or(T::ONE, |w| w[class])
    }

    /// Whether positions of this class contribute nothing: its weight is 0, and no part of the target goes to others.
    #[inline(always)]
    pub fn ignores(&self, class: usize) -> bool {
        self.spread == T::ZERO && self.weight(class) == T::ZERO
    }

    fn sizes(&self, scores: usize, backward: bool) -> Sizes {
        let rows = self.classes.len();
        let read = scores / rows.max(1);
        Sizes { rows, read, written: if backward { read } else { 1 }, sums: 0 }
    }
}

struct Losses<'a, T> {
    x: &'a [T],
    targets: &'a Targets<'a, T>,
}

impl<T: Real> RowKernel<T> for Losses<'_, T> {
    type Note = LogSum<T>;
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], LogSum<T>) {
        let t = self.targets;
        let n = self.x.len() / t.classes.len();
        let x = &self.x[i * n..][..n];
        let sum = LogSum::of::<I>(x);
        let loss = t.classes[i].map_or(T::ZERO, |class| {
            let at_class = t.weight(class) * sum.log_softmax(x[class]);
            // Only in this case: a class of probability 0 contributes nothing if no part of the target is spread to it.
            if t.spread == T::ZERO {
                return -at_class;
            }
            let everywhere = dispatch_narrow(Everywhere { x, weight: t.weight, sum });
            -(t.keep * at_class + t.spread * everywhere)
        });
        (write(out, |_| loss), sum)
    }
}

/// The sum of the log-softmax of all classes, times their weights.
struct Everywhere<'a, T> {
    x: &'a [T],
    weight: Option<&'a [T]>,
    sum: LogSum<T>,
}

impl<T: Real> Kernel for Everywhere<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self) -> T {
        let Everywhere { x, weight, sum } = self;
        let (n, plus) = (x.len(), |a, b| a + b);
        match weight {
            Some(w) => combine(Each([x, &w[..n]], |[x, w]: [T; 2]| w * sum.log_softmax(x)), n, T::ZERO, plus),
            None => combine(Each([x], |[x]: [T; 1]| sum.log_softmax(x)), n, T::ZERO, plus),
        }
    }
}

/// The loss of each row of scores, and log Σ eˣ of each row.
pub fn losses<T: Real>(x: &[T], targets: &Targets<'_, T>) -> (Aligned<T>, Vec<LogSum<T>>) {
    let (out, sums, _) = run(&Losses { x, targets }, targets.sizes(x.len(), false));
    (out, sums)
}

struct Gradient<'a, T> {
    x: &'a [T],
    targets: &'a Targets<'a, T>,
    sums: &'a [LogSum<T>],
    /// The sum of the weights.
    all: T,
    /// One number for all positions, or one per position.
    g: &'a [T],
}

impl<T: Real> RowKernel<T> for Gradient<'_, T> {
    type Note = ();
    #[inline(always)]
    fn row<'a, I: Isa>(&self, i: usize, out: &'a mut Blank<T>, _: &mut [T]) -> (&'a mut [T], ()) {
        let (n, t, LogSum { max, log_sum }) = (out.len(), self.targets, self.sums[i]);
        let x = &self.x[i * n..][..n];
        let Some(class) = t.classes[i] else { return (write(out, |_| T::ZERO), ()) };
        let g = self.g[if self.g.len() == 1 { 0 } else { i }];
        let at_class = t.keep * t.weight(class);
        if t.ignores(class) {
            return (write(out, |_| T::ZERO), ());
        }
        let total = at_class + t.spread * self.all;
        let power = |x: T| T::vexp::<I>((x - max) - log_sum);
        let out = match t.weight {
            Some(w) if t.spread != T::ZERO => {
                let w = &w[..n];
                write(out, |i| g * (power(x[i]) * total - t.spread * w[i]))
            }
            _ => write(out, |i| g * (power(x[i]) * total - t.spread)),
        };
        // `p total − spread − keep`, which would lose its digits where p is near 1.
        let less_1 = T::vexp_m1::<I>((x[class] - max) - log_sum);
        out[class] = g * (less_1 * total + t.spread * (self.all - t.weight(class)));
        (out, ())
    }
}

/// The gradient of the scores from that of the losses; `all` is the sum of the weights.
pub fn gradient<T: Real>(x: &[T], targets: &Targets<'_, T>, sums: &[LogSum<T>], all: T, g: &[T]) -> Aligned<T> {
    run(&Gradient { x, targets, sums, all, g }, targets.sizes(x.len(), true)).0
}
