//! Adam and AdamW.

use super::core::{GroupOptions, Optim, Rule, Slot, at_least_0, optimizer_options, penalized};
use crate::{
    Result,
    kernels::optimizer_pass::{Stretch, update},
    nn::Parameters,
    tensor::Real,
};

optimizer_options! {
    /// The options of [`Adam`] and [`AdamW`] for one group of parameters.
    pub struct AdamOptions for AdamRule[const DECOUPLED: bool][DECOUPLED] {
        /// The decay of the running means of the gradient and of its square; (0.9, 0.999) by default.
        betas: (f64, f64) = (0.9, 0.999),
            if |b| (0. ..1.).contains(&b.0) && (0. ..1.).contains(&b.1), "betas are at least 0 and below 1, got {:?}";
        /// Added to the denominator; 1e-8 by default.
        eps: f64 = 1e-8, if |e| at_least_0(e), "eps is at least 0 and finite, got {}";
        /// The weight decay; 0 by default in Adam, 0.01 in AdamW.
        weight_decay: f64 = 0., if |w| at_least_0(w), "a weight decay is at least 0 and finite, got {}";
        /// Divides by the largest mean square so far: AMSGrad.
        amsgrad: bool = false;
        /// Climbs instead of descending.
        maximize: bool = false;
    }
}

/// The rule of [`Adam`], and, with the weight decay decoupled from the gradient, of [`AdamW`].
pub struct AdamRule<const DECOUPLED: bool>;

/// Adam: steps by the running mean of the gradient over the root of that of its square.
///
/// `g ← ∇ + λθ`, `m ← β₁m + (1 − β₁)g`, `v ← β₂v + (1 − β₂)g²`, `θ ← θ − γ · m/(1 − β₁ᵗ) / (√(v/(1 − β₂ᵗ)) + ε)`; γ the
/// learning rate, λ the weight decay, t the step. With AMSGrad, v is the largest so far. As
/// [torch.optim.Adam](https://docs.pytorch.org/docs/stable/generated/torch.optim.Adam.html); Kingma and Ba, 2015.
///
/// ```
/// use ndnn::{optim, prelude::*};
/// let model = Linear::new(3, 1);
/// let adam = optim::Adam::new(&model, 1e-3).weight_decay(1e-4);
/// # let _ = adam;
/// ```
pub type Adam = Optim<AdamRule<false>>;

/// Adam with decoupled weight decay: `θ ← θ − γλθ` before the step, instead of `λθ` in the gradient; λ is 0.01 by
/// default.
///
/// As [torch.optim.AdamW](https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html); Loshchilov and
/// Hutter, 2019. Otherwise as [`Adam`].
pub type AdamW = Optim<AdamRule<true>>;

impl Adam {
    /// An optimizer of these parameters with a learning rate.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        Optim::with_options(params, AdamOptions::new(lr))
    }
}

impl AdamW {
    /// An optimizer of these parameters with a learning rate.
    #[track_caller]
    pub fn new(params: impl Parameters, lr: f64) -> Self {
        Optim::with_options(params, AdamOptions::new(lr).weight_decay(0.01))
    }
}

impl GroupOptions for AdamOptions {
    fn lr(&mut self) -> &mut f64 {
        &mut self.lr
    }

    fn check(&self) -> Result<()> {
        self.check_values()
    }
}

impl<const DECOUPLED: bool> Rule for AdamRule<DECOUPLED> {
    type Options = AdamOptions;
    const SLOTS: &'static [&'static str] = &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"];

    fn uses(o: &AdamOptions, slot: usize) -> bool {
        slot < 2 || o.amsgrad
    }

    fn update<T: Real>(o: &AdamOptions, step: u64, value: &mut [T], grad: &[T], slots: &mut [Slot<T>]) {
        // The corrections in f64: at 1 − β₂ᵗ an f32 would lose digits.
        let correction = |beta: f64| 1. - beta.powf(step as f64);
        let (shrink, penalty) = if DECOUPLED { (1. - o.lr * o.weight_decay, 0.) } else { (1., o.weight_decay) };
        let moments = Moments {
            step_size: T::of(o.lr / correction(o.betas.0)),
            root: T::of(1. / correction(o.betas.1).sqrt()),
            eps: T::of(o.eps),
            fresh: [1. - o.betas.0, 1. - o.betas.1].map(T::of),
            share: T::of((1. - o.betas.0).min(o.betas.0)),
            kept: T::of(o.betas.1),
            shrink: T::of(shrink),
            penalty: T::of(penalty),
            sign: if o.maximize { -T::ONE } else { T::ONE },
        };
        update(&moments, value, grad, slots);
    }
}

/// The numbers of one step.
struct Moments<T> {
    step_size: T,
    /// By what the root of the mean square is multiplied.
    root: T,
    eps: T,
    /// The share of the new gradient and of its square.
    fresh: [T; 2],
    /// How far the mean is from the nearer one of its old value and the gradient.
    share: T,
    kept: T,
    /// By what the decoupled decay multiplies the value.
    shrink: T,
    /// The weight decay in the gradient.
    penalty: T,
    sign: T,
}

impl<T: Real> Moments<T> {
    /// One element, given what to divide by instead of its mean square.
    #[inline(always)]
    fn element(&self, value: &mut T, grad: T, [mean, square]: [&mut T; 2], largest: impl FnOnce(T) -> T) {
        let theta = *value * self.shrink;
        let g = penalized(self.sign * grad, self.penalty, theta);
        // From the nearer end, as torch.lerp does: with a β₁ of 0 the mean is the gradient, however large it was before.
        let (near, far) = if self.fresh[0] < T::of(0.5) { (*mean, g) } else { (g, *mean) };
        *mean = near + self.share * (far - near);
        *square = self.kept * *square + self.fresh[1] * g * g;
        *value = theta - self.step_size * *mean / (largest(*square).sqrt() * self.root + self.eps);
    }
}

impl<T: Real> Stretch<T> for Moments<T> {
    #[inline(always)]
    fn update(&self, value: &mut [T], grad: &[T], slots: &mut [&mut [T]]) {
        let [mean, square, largest] = slots else { unreachable!("three slots") };
        let elements = value.iter_mut().zip(grad).zip(mean.iter_mut().zip(square.iter_mut()));
        if largest.is_empty() {
            // A loop: `for_each` is a function of its own where it is large, without this loop's vector instructions.
            for ((v, &g), (m, s)) in elements {
                self.element(v, g, [m, s], |s| s);
            }
        } else {
            for (((v, &g), (m, s)), most) in elements.zip(largest.iter_mut()) {
                self.element(v, g, [m, s], |s| {
                    *most = if *most > s { *most } else { s };
                    *most
                });
            }
        }
    }
}
