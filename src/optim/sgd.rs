//! Stochastic gradient descent.

use super::core::{GroupOptions, Optim, Rule, Slot, optimizer_options};
use crate::{Error, Result, nn::Parameters, tensor::Real};

optimizer_options! {
    /// The options of [`SGD`] for one group of parameters.
    pub struct SGDOptions for SGDRule {
        /// The share of the last step's direction that is kept; 0 by default.
        momentum: f64 = 0., if |m| m >= 0., "a momentum is at least 0, got {}";
        /// How much less of the new gradient enters the momentum; 0 by default.
        dampening: f64 = 0.;
        /// The L2 penalty, added to the gradient; 0 by default.
        weight_decay: f64 = 0., if |w| w >= 0., "a weight decay is at least 0, got {}";
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

    fn update<T: Real>(o: &SGDOptions, step: u64, value: &mut [T], grad: &[T], slots: &mut [Slot<T>]) {
        let [momentum, fresh, decay, lr] = [o.momentum, 1. - o.dampening, o.weight_decay, o.lr].map(T::of);
        let sign = if o.maximize { -T::ONE } else { T::ONE };
        if o.momentum == 0. {
            for (v, &g) in value.iter_mut().zip(grad) {
                *v -= lr * (sign * g + decay * *v);
            }
            return;
        }
        // The first step takes the whole gradient, whatever the dampening.
        let fresh = if step == 1 { T::ONE } else { fresh };
        let buffer = &mut slots[0];
        buffer.resize(value.len(), T::ZERO);
        for ((v, &g), b) in value.iter_mut().zip(grad).zip(buffer) {
            let g = sign * g + decay * *v;
            *b = momentum * *b + fresh * g;
            *v -= lr * if o.nesterov { g + momentum * *b } else { *b };
        }
    }
}
