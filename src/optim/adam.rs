//! Adam and AdamW.

use super::{
    each::{Each, ParamRule, Step, compiled, lerp, penalized},
    optimizer::RuleOptimizer,
    options::{at_least_0, optimizer_options},
};
use crate::{kernels::optimizer_pass::Pass, module::Parameters, number::Real};

optimizer_options! {
    /// The options of [`Adam`] and [`AdamW`] for one group of parameters.
    pub struct AdamOptions for AdamRule[const DECOUPLED: bool][DECOUPLED] {
        /// The decay of the running means of the gradient and of its square; (0.9, 0.999) by default.
        betas: (f64, f64) = (0.9, 0.999),
            if |b| (0. ..1.).contains(&b.0) && (0. ..1.).contains(&b.1), "betas are at least 0 and below 1";
        /// Added to the denominator; 1e-8 by default.
        eps: f64 = 1e-8, if |e| at_least_0(e), "eps is at least 0 and finite";
        /// The weight decay; 0 by default in Adam, 0.01 in AdamW.
        weight_decay: f64 = 0., if |w| at_least_0(w), "a weight decay is at least 0 and finite";
        /// Divides by the largest mean square so far (AMSGrad).
        amsgrad: bool = false;
        /// Maximizes the objective instead of minimizing it.
        maximize: bool = false;
    }
}

/// The rule of [`Adam`] and, with weight decay decoupled from the gradient, of [`AdamW`].
pub struct AdamRule<const DECOUPLED: bool>;

/// Adam: steps by the running mean of the gradient divided by the root of the running mean of its square.
///
/// `g ← ∇ + λθ`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`, `θ ← θ − γ · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)`; γ is
/// the learning rate, λ the weight decay, t the step. With AMSGrad, v is the largest one so far. As
/// [torch.optim.Adam](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html); Kingma and Ba, 2015.
///
/// ```
/// use ndnn::{optim, prelude::*};
/// let model = Linear::new(3, 1);
/// let adam = optim::Adam::new(&model, 1e-3).weight_decay(1e-4);
/// # let _ = adam;
/// ```
pub type Adam = RuleOptimizer<Each<AdamRule<false>>>;

/// Adam with decoupled weight decay: `θ ← θ − γλθ` before the step, instead of `λθ` in the gradient; λ is 0.01 by
/// default.
///
/// As [torch.optim.AdamW](https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html); Loshchilov and
/// Hutter, 2019. Otherwise as [`Adam`].
pub type AdamW = RuleOptimizer<Each<AdamRule<true>>>;

impl Adam {
    /// An optimizer for these parameters with a learning rate.
    ///
    /// # Panics
    /// As [`with_options`](RuleOptimizer::with_options), and if the learning rate is negative, infinite or NaN.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        RuleOptimizer::with_options(params, AdamOptions::new(lr))
    }
}

impl AdamW {
    /// An optimizer for these parameters with a learning rate.
    ///
    /// # Panics
    /// As [`with_options`](RuleOptimizer::with_options), and if the learning rate is negative, infinite or NaN.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        RuleOptimizer::with_options(params, AdamOptions::new(lr).weight_decay(0.01))
    }
}

/// The rules of [`Adam`] and [`AdamW`], which are compiled in this crate: see [`compiled`].
macro_rules! adam {
    ($($decoupled:literal)*) => {$(
        impl ParamRule for AdamRule<$decoupled> {
            type Options = AdamOptions;
            const SLOTS: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

            fn uses(o: &AdamOptions, slot: usize, _: &[usize]) -> bool {
                slot < 2 || o.amsgrad
            }

            fn update<T: Real>(o: &AdamOptions, step: &mut Step<'_, T>) {
                let moments = Moments::new(o, $decoupled, step.count);
                if o.amsgrad { step.elements(&Largest(moments)) } else { step.elements(&moments) }
            }

            compiled!();
        }
    )*};
}
adam!(false true);

/// The constants of one step.
struct Moments<T> {
    step_size: T,
    /// The factor of the root of the mean square.
    root: T,
    eps: T,
    /// The weights of the new gradient and of its square in the running means.
    fresh: [T; 2],
    kept: T,
    /// The factor by which decoupled decay multiplies the value.
    shrink: T,
    /// The weight decay in the gradient.
    penalty: T,
    sign: T,
}

impl<T: Real> Moments<T> {
    fn new(o: &AdamOptions, decoupled: bool, step: u64) -> Self {
        // The corrections are computed in f64: for 1 − β₂ᵗ an f32 would lose digits.
        let correction = |beta: f64| 1. - beta.powf(step as f64);
        let (shrink, penalty) = if decoupled { (1. - o.lr * o.weight_decay, 0.) } else { (1., o.weight_decay) };
        Moments {
            step_size: T::of(o.lr / correction(o.betas.0)),
            root: T::of(1. / correction(o.betas.1).sqrt()),
            eps: T::of(o.eps),
            fresh: [1. - o.betas.0, 1. - o.betas.1].map(T::of),
            kept: T::of(o.betas.1),
            shrink: T::of(shrink),
            penalty: T::of(penalty),
            sign: if o.maximize { -T::ONE } else { T::ONE },
        }
    }

    /// Updates one element: its value and its means; `largest` maps the new mean square to the divisor.
    #[inline(always)]
    fn step(&self, value: T, grad: T, [mean, square]: [T; 2], largest: impl FnOnce(T) -> T) -> (T, [T; 2]) {
        let theta = value * self.shrink;
        let g = penalized(self.sign * grad, self.penalty, theta);
        let mean = lerp(mean, g, self.fresh[0]);
        let square = self.kept * square + self.fresh[1] * g * g;
        let value = theta - self.step_size * mean / (largest(square).sqrt() * self.root + self.eps);
        (value, [mean, square])
    }
}

impl<T: Real> Pass<T, 2> for Moments<T> {
    const WIDE: bool = true;

    #[inline(always)]
    fn element(&self, value: T, grad: T, means: [T; 2]) -> (T, [T; 2]) {
        self.step(value, grad, means, |square| square)
    }
}

struct Largest<T>(Moments<T>);

impl<T: Real> Pass<T, 3> for Largest<T> {
    #[inline(always)]
    fn element(&self, value: T, grad: T, [mean, square, mut largest]: [T; 3]) -> (T, [T; 3]) {
        let (value, [mean, square]) = self.0.step(value, grad, [mean, square], |square| {
            largest = if largest > square { largest } else { square };
            largest
        });
        (value, [mean, square, largest])
    }
}
