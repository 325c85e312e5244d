//! Stochastic gradient descent.

use super::{
    each::{Each, ParamRule, Step, compiled, penalized},
    optimizer::RuleOptimizer,
    options::{at_least_0, optimizer_options},
};
use crate::{kernels::optimizer_pass::Pass, module::Parameters, number::Real};

optimizer_options! {
    /// The options of [`SGD`] for one group of parameters.
    pub struct SGDOptions for SGDRule {
        /// The factor of the previous step's direction in this one; 0 by default.
        momentum: f64 = 0., if |m| at_least_0(m), "a momentum is at least 0 and finite";
        /// The new gradient enters the momentum with the factor 1 − `dampening`; 0 by default.
        dampening: f64 = 0., if |d| d.is_finite(), "a dampening is finite";
        /// The L2 penalty, added to the gradient; 0 by default.
        weight_decay: f64 = 0., if |w| at_least_0(w), "a weight decay is at least 0 and finite";
        /// Nesterov momentum; requires a momentum and no dampening.
        nesterov: bool = false;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
    if |o| !o.nesterov || (o.momentum > 0. && o.dampening == 0.),
        "Nesterov's momentum needs a momentum and no dampening; momentum is {}, dampening {}", o.momentum, o.dampening;
}

/// The rule of [`SGD`].
pub struct SGDRule;

/// Stochastic gradient descent, optionally with momentum.
///
/// `g ← ∇ + λθ`, `b ← μb + (1 − τ)g` (`b = g` in the first step with a momentum), `θ ← θ − γb`, or `θ − γ(g + μb)` with
/// Nesterov momentum; γ is the learning rate, μ the momentum, τ the dampening, λ the weight decay. As
/// [torch.optim.SGD](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html).
///
/// ```
/// use ndnn::{optim, prelude::*};
/// let model = Linear::new(3, 1);
/// let sgd = optim::SGD::new(&model, 0.1).momentum(0.9).nesterov(true);
/// # let _ = sgd;
/// ```
pub type SGD = RuleOptimizer<Each<SGDRule>>;

impl SGD {
    /// An optimizer for these parameters with a learning rate.
    ///
    /// # Panics
    /// As [`with_options`](RuleOptimizer::with_options), and if the learning rate is negative, infinite or NaN.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        RuleOptimizer::with_options(params, SGDOptions::new(lr))
    }
}

impl ParamRule for SGDRule {
    type Options = SGDOptions;
    const SLOTS: &'static [&'static str] = &["momentum_buffer"];

    fn uses(o: &SGDOptions, _: usize, _: &[usize]) -> bool {
        o.momentum != 0.
    }

    fn update<T: Real>(o: &SGDOptions, step: &mut Step<'_, T>) {
        let [momentum, decay, lr] = [o.momentum, o.weight_decay, o.lr].map(T::of);
        let sign = if o.maximize { -T::ONE } else { T::ONE };
        // The first gradient enters completely, whatever the dampening.
        let fresh = if step.slots[0].is_new() { T::ONE } else { T::of(1. - o.dampening) };
        let descent = Descent { lr, sign, decay, momentum, fresh };
        match (o.momentum == 0., o.nesterov) {
            (true, _) => step.elements(&Plain(descent)),
            (false, false) => step.elements(&Momentum(descent)),
            (false, true) => step.elements(&Nesterov(descent)),
        }
    }

    compiled!();
}

/// The constants of one step.
struct Descent<T> {
    lr: T,
    sign: T,
    decay: T,
    momentum: T,
    fresh: T,
}

impl<T: Real> Descent<T> {
    /// The gradient with the L2 penalty.
    #[inline(always)]
    fn gradient(&self, value: T, grad: T) -> T {
        penalized(self.sign * grad, self.decay, value)
    }

    /// The buffer after this gradient.
    #[inline(always)]
    fn buffer(&self, buffer: T, gradient: T) -> T {
        self.momentum * buffer + self.fresh * gradient
    }
}

// One type per formula, instead of one formula with factors of 0: 0 times an infinite gradient is NaN.

struct Plain<T>(Descent<T>);

impl<T: Real> Pass<T, 0> for Plain<T> {
    #[inline(always)]
    fn element(&self, value: T, grad: T, _: [T; 0]) -> (T, [T; 0]) {
        (value - self.0.lr * self.0.gradient(value, grad), [])
    }
}

struct Momentum<T>(Descent<T>);

impl<T: Real> Pass<T, 1> for Momentum<T> {
    #[inline(always)]
    fn element(&self, value: T, grad: T, [buffer]: [T; 1]) -> (T, [T; 1]) {
        let buffer = self.0.buffer(buffer, self.0.gradient(value, grad));
        (value - self.0.lr * buffer, [buffer])
    }
}

struct Nesterov<T>(Descent<T>);

impl<T: Real> Pass<T, 1> for Nesterov<T> {
    #[inline(always)]
    fn element(&self, value: T, grad: T, [buffer]: [T; 1]) -> (T, [T; 1]) {
        let g = self.0.gradient(value, grad);
        let buffer = self.0.buffer(buffer, g);
        (value - self.0.lr * (g + self.0.momentum * buffer), [buffer])
    }
}
