//! Stochastic gradient descent.

use super::core::{GroupOptions, Optim, Rule, Slot, at_least_0, optimizer_options, penalized};
use crate::{
    Error, Result,
    kernels::optimizer_pass::{Stretch, update},
    nn::Parameters,
    tensor::Real,
};

optimizer_options! {
    /// The options of [`SGD`] for one group of parameters.
    pub struct SGDOptions for SGDRule {
        /// The share of the last step's direction that is kept; 0 by default.
        momentum: f64 = 0., if |m| at_least_0(m), "a momentum is at least 0 and finite, got {}";
        /// How much less of the new gradient enters the momentum; 0 by default.
        dampening: f64 = 0., if |d| d.is_finite(), "a dampening is finite, got {}";
        /// The L2 penalty, added to the gradient; 0 by default.
        weight_decay: f64 = 0., if |w| at_least_0(w), "a weight decay is at least 0 and finite, got {}";
        /// Nesterov's momentum; needs a momentum and no dampening.
        nesterov: bool = false;
        /// Climbs instead of descending.
        maximize: bool = false;
    }
}

/// The rule of [`SGD`].
pub struct SGDRule;

/// Stochastic gradient descent, with momentum if asked for.
///
/// `g ← ∇ + λθ`, `b ← μb + (1 − τ)g` (`b = g` in the first step), `θ ← θ − γb`, or `θ − γ(g + μb)` with Nesterov's
/// momentum; γ the learning rate, μ the momentum, τ the dampening, λ the weight decay. As
/// [torch.optim.SGD](https://docs.pytorch.org/docs/stable/generated/torch.optim.SGD.html).
///
/// ```
/// use ndnn::{optim, prelude::*};
/// let model = Linear::new(3, 1);
/// let sgd = optim::SGD::new(&model, 0.1).momentum(0.9).nesterov(true);
/// # let _ = sgd;
/// ```
pub type SGD = Optim<SGDRule>;

impl SGD {
    /// An optimizer of these parameters with a learning rate.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        Optim::with_options(params, SGDOptions::new(lr))
    }
}

impl GroupOptions for SGDOptions {
    fn lr(&mut self) -> &mut f64 {
        &mut self.lr
    }

    fn check(&self) -> Result<()> {
        self.check_values()?;
        if self.nesterov && (self.momentum <= 0. || self.dampening != 0.) {
            return Err(Error::value(
                "SGD",
                format!(
                    "Nesterov's momentum needs a momentum and no dampening; momentum is {}, dampening {}",
                    self.momentum, self.dampening
                ),
            ));
        }
        Ok(())
    }
}

impl Rule for SGDRule {
    type Options = SGDOptions;
    const SLOTS: &'static [&'static str] = &["momentum_buffer"];

    fn uses(o: &SGDOptions, _: usize) -> bool {
        o.momentum != 0.
    }

    fn update<T: Real>(o: &SGDOptions, step: u64, value: &mut [T], grad: &[T], slots: &mut [Slot<T>]) {
        let [momentum, decay, lr] = [o.momentum, o.weight_decay, o.lr].map(T::of);
        let sign = if o.maximize { -T::ONE } else { T::ONE };
        // The first step takes the whole gradient, whatever the dampening.
        let fresh = if step == 1 { T::ONE } else { T::of(1. - o.dampening) };
        let descent = Descent { lr, sign, decay, momentum, fresh };
        match (o.momentum == 0., o.nesterov) {
            (true, _) => update(&Plain(descent), value, grad, slots),
            (false, false) => update(&Momentum(descent), value, grad, slots),
            (false, true) => update(&Nesterov(descent), value, grad, slots),
        }
    }
}

/// The numbers of one step.
struct Descent<T> {
    lr: T,
    sign: T,
    decay: T,
    momentum: T,
    fresh: T,
}

impl<T: Real> Descent<T> {
    /// The gradient with the penalty.
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

// One type a formula, and not one formula with factors of 0: 0 times an infinite gradient is NaN.

struct Plain<T>(Descent<T>);

impl<T: Real> Stretch<T> for Plain<T> {
    #[inline(always)]
    fn update(&self, value: &mut [T], grad: &[T], _: &mut [&mut [T]]) {
        for (v, &g) in value.iter_mut().zip(grad) {
            *v -= self.0.lr * self.0.gradient(*v, g);
        }
    }
}

struct Momentum<T>(Descent<T>);

impl<T: Real> Stretch<T> for Momentum<T> {
    #[inline(always)]
    fn update(&self, value: &mut [T], grad: &[T], slots: &mut [&mut [T]]) {
        for ((v, &g), b) in value.iter_mut().zip(grad).zip(&mut *slots[0]) {
            *b = self.0.buffer(*b, self.0.gradient(*v, g));
            *v -= self.0.lr * *b;
        }
    }
}

struct Nesterov<T>(Descent<T>);

impl<T: Real> Stretch<T> for Nesterov<T> {
    #[inline(always)]
    fn update(&self, value: &mut [T], grad: &[T], slots: &mut [&mut [T]]) {
        for ((v, &g), b) in value.iter_mut().zip(grad).zip(&mut *slots[0]) {
            let g = self.0.gradient(*v, g);
            *b = self.0.buffer(*b, g);
            *v -= self.0.lr * (g + self.0.momentum * *b);
        }
    }
}
