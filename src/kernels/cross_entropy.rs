//! Cross entropy of scores and the indices of the right classes: one row of scores per position.

use super::{
    isa::Baseline,
    memory::Aligned,
    passes::{scaled_powers, write},
    reduce::add_row,
    row_kernel::{Sizes, run},
    softmax::LogSum,
    vmath::VectorMath,
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
    fn weight(&self, class: usize) -> T {
        self.weight.map_or(T::ONE, |w| w[class])
    }

    /// Whether positions of this class contribute nothing: its weight is 0, and no part of the target goes to others.
    pub fn ignores(&self, class: usize) -> bool {
        self.spread == T::ZERO && self.weight(class) == T::ZERO
    }

    fn sizes(&self, scores: usize, backward: bool) -> Sizes {
        let rows = self.classes.len();
        let read = scores / rows.max(1);
        Sizes { rows, read, written: if backward { read } else { 1 }, sums: 0 }
    }
}

/// The loss of each row of scores, and log Σ eˣ of each row.
pub fn losses<T: Real>(x: &[T], targets: &Targets<'_, T>) -> (Aligned<T>, Vec<LogSum<T>>) {
    let sizes = targets.sizes(x.len(), false);
    let (out, sums, _) = run(sizes, &|i, out, _| {
        let x = &x[i * sizes.read..][..sizes.read];
        let sum = LogSum::of(x);
        let loss = targets.classes[i].map_or(T::ZERO, |class| {
            let at_class = targets.weight(class) * sum.log_softmax(x[class]);
            // Only in this case: a class of probability 0 contributes nothing if no part of the target is spread to it.
            if targets.spread == T::ZERO {
                return -at_class;
            }
            let everywhere = sum.sum_of_log_softmax(x, targets.weight);
            -(targets.keep * at_class + targets.spread * everywhere)
        });
        (write(out, |_| loss), sum)
    });
    (out, sums)
}

/// The gradient of the scores from that of the losses, which is one number for all positions or one per position; `all` is
/// the sum of the weights.
pub fn gradient<T: Real>(x: &[T], targets: &Targets<'_, T>, sums: &[LogSum<T>], all: T, g: &[T]) -> Aligned<T> {
    run(targets.sizes(x.len(), true), &|i, out, _| {
        let (n, t, LogSum { max, log_sum }) = (out.len(), targets, sums[i]);
        let x = &x[i * n..][..n];
        let Some(class) = t.classes[i].filter(|&class| !t.ignores(class)) else {
            return (write(out, |_| T::ZERO), ());
        };
        let g = g[if g.len() == 1 { 0 } else { i }];
        let at_class = t.keep * t.weight(class);
        let total = at_class + t.spread * all;
        let out = match t.weight {
            Some(w) if t.spread != T::ZERO => {
                let out = scaled_powers(T::ONE, x, max, log_sum, total, T::ZERO, out);
                add_row(out, w, |p, w| g * (p - t.spread * w));
                out
            }
            _ => scaled_powers(g, x, max, log_sum, total, t.spread, out),
        };
        // `p total − spread − keep`, which would lose its digits where p is near 1.
        let less_1 = T::vexp_m1::<Baseline>((x[class] - max) - log_sum);
        out[class] = g * (less_1 * total + t.spread * (all - t.weight(class)));
        (out, ())
    })
    .0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The smaller a probability is than its part of the target, the more its score must grow.
    #[test]
    fn an_infinite_gradient_reaches_all_scores() {
        let (x, inf) = ([0f32, 1., 2.], f32::INFINITY);
        for weight in [None, Some(&[1f32, 1., 1.][..])] {
            for (spread, want) in [(0., [inf, -inf, inf]), (0.05, [inf, -inf, inf]), (0.1, [-inf, -inf, inf])] {
                let targets = Targets { classes: &[Some(1)], weight, keep: 1. - 3. * spread, spread };
                let (_, sums) = losses(&x, &targets);
                assert_eq!(gradient(&x, &targets, &sums, 3., &[inf])[..], want, "{weight:?}, {spread}");
            }
        }
    }
}
