//! RMSprop.

use super::{
    each::{Each, ParamRule, Step, compiled, lerp, penalized},
    optimizer::RuleOptimizer,
    options::{at_least_0, optimizer_options},
};
use crate::{kernels::optimizer_pass::Pass, module::Parameters, number::Real};

optimizer_options! {
    /// The options of [`RMSprop`] for one group of parameters.
    pub struct RMSpropOptions for RMSpropRule {
        /// The decay of the running mean of the gradient's square; 0.99 by default.
        alpha: f64 = 0.99, if |a| at_least_0(a), "alpha is at least 0 and finite";
        /// Added to the denominator; 1e-8 by default.
        eps: f64 = 1e-8, if |e| at_least_0(e), "eps is at least 0 and finite";
        /// The L2 penalty, added to the gradient; 0 by default.
        weight_decay: f64 = 0., if |w| at_least_0(w), "a weight decay is at least 0 and finite";
        /// The factor of the previous step's direction in this one; 0 by default.
        momentum: f64 = 0., if |m| at_least_0(m), "a momentum is at least 0 and finite";
        /// Divides by the standard deviation of the gradient instead of the root of its mean square.
        centered: bool = false;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
}

/// The rule of [`RMSprop`].
pub struct RMSpropRule;

/// RMSprop: steps by the gradient divided by the root of the running mean of its square.
///
/// `g ← ∇ + λθ`, `v ← αv + (1 − α)g²`, `b ← μb + g / (√v + ε)`, `θ ← θ − γb`; γ is the learning rate, λ the weight
/// decay, μ the momentum. If centered, the root is taken of `v − ḡ²`, with `ḡ ← αḡ + (1 − α)g`. As
/// [torch.optim.RMSprop](https://docs.pytorch.org/docs/stable/generated/torch.optim.RMSprop.html), whose learning rate
/// is 0.01 by default; Hinton's lecture notes, 2012, and for the centered form Graves, 2013.
///
/// ```
/// use ndnn::{optim, prelude::*};
/// let model = Linear::new(3, 1);
/// let rmsprop = optim::RMSprop::new(&model, 1e-2).momentum(0.9).centered(true);
/// # let _ = rmsprop;
/// ```
pub type RMSprop = RuleOptimizer<Each<RMSpropRule>>;

impl RMSprop {
    /// An optimizer for these parameters with a learning rate.
    ///
    /// # Panics
    /// As [`with_options`](RuleOptimizer::with_options), and if the learning rate is negative, infinite or NaN.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        RuleOptimizer::with_options(params, RMSpropOptions::new(lr))
    }
}

impl ParamRule for RMSpropRule {
    type Options = RMSpropOptions;
    const SLOTS: &'static [&'static str] = &["square_avg", "grad_avg", "momentum_buffer"];

    fn uses(o: &RMSpropOptions, slot: usize, _: &[usize]) -> bool {
        [true, o.centered, o.momentum > 0.][slot]
    }

    fn update<T: Real>(o: &RMSpropOptions, step: &mut Step<'_, T>) {
        match (o.centered, o.momentum > 0.) {
            (false, false) => step.elements::<1>(&Root::<T, false>::new(o)),
            (false, true) => step.elements::<2>(&Root::<T, false>::new(o)),
            (true, false) => step.elements::<2>(&Root::<T, true>::new(o)),
            (true, true) => step.elements::<3>(&Root::<T, true>::new(o)),
        }
    }

    compiled!();
}

/// The constants of one step.
struct Root<T, const CENTERED: bool> {
    lr: T,
    alpha: T,
    fresh: T,
    eps: T,
    decay: T,
    momentum: T,
    sign: T,
}

impl<T: Real, const CENTERED: bool> Root<T, CENTERED> {
    fn new(o: &RMSpropOptions) -> Self {
        let [lr, alpha, fresh, eps] = [o.lr, o.alpha, 1. - o.alpha, o.eps].map(T::of);
        let [decay, momentum, sign] = [o.weight_decay, o.momentum, if o.maximize { -1. } else { 1. }].map(T::of);
        Root { lr, alpha, fresh, eps, decay, momentum, sign }
    }
}

/// The slots are the mean square, the mean if centered, and the momentum, if there is one, last.
impl<T: Real, const CENTERED: bool, const N: usize> Pass<T, N> for Root<T, CENTERED> {
    #[inline(always)]
    fn element(&self, value: T, grad: T, mut slots: [T; N]) -> (T, [T; N]) {
        let g = penalized(self.sign * grad, self.decay, value);
        slots[0] = self.alpha * slots[0] + self.fresh * g * g;
        let mut square = slots[0];
        if CENTERED {
            slots[1] = lerp(slots[1], g, self.fresh);
            // An infinite square is kept: minus the square of the mean, which also overflows, it would be NaN.
            square = if square.is_infinite() { square } else { square - slots[1] * slots[1] };
        }
        let root = square.sqrt() + self.eps;
        if N == 1 + usize::from(CENTERED) {
            return (value - self.lr * g / root, slots);
        }
        slots[N - 1] = self.momentum * slots[N - 1] + g / root;
        (value - self.lr * slots[N - 1], slots)
    }
}
