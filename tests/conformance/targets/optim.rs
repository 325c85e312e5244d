//! The optimizers of torch.optim.

use ndnn::{
    Real, Result, Tensor,
    nn::Param,
    optim::{Adam, AdamOptions, AdamW, Optimizer, RMSprop, Rule, RuleOptimizer, SGD},
};

use crate::args::Args;

pub const BUILT: &[&str] = &["SGD", "Adam", "AdamW", "RMSprop"];

/// An optimizer as the runner uses it; `closure` clears the gradients, computes the objective and new gradients.
pub trait Steps<T: Real> {
    fn step(&mut self, closure: &mut dyn FnMut() -> Result<Tensor<T>>) -> Result<()>;
}

impl<T: Real, R: Rule> Steps<T> for RuleOptimizer<R> {
    fn step(&mut self, closure: &mut dyn FnMut() -> Result<Tensor<T>>) -> Result<()> {
        self.step_with(closure).map(drop)
    }
}

/// Keyword-only.
const KW: usize = usize::MAX;

/// The options that Adam and AdamW share.
fn adam<T: Real, R: Rule<Options = AdamOptions>>(
    mut optimizer: RuleOptimizer<R>,
    a: &Args<T>,
) -> Result<RuleOptimizer<R>> {
    let betas = a.opt_floats(KW, "betas")?.unwrap_or(vec![0.9, 0.999]);
    let decay = a.float_or(KW, "weight_decay", optimizer.groups()[0].weight_decay)?;
    let (eps, amsgrad) = (a.float_or(KW, "eps", 1e-8)?, a.bool_or(KW, "amsgrad", false)?);
    let maximize = a.bool_or(KW, "maximize", false)?;
    for group in optimizer.groups_mut() {
        let changed = group.clone().betas((betas[0], betas[1])).weight_decay(decay);
        *group = changed.eps(eps).amsgrad(amsgrad).maximize(maximize);
    }
    Ok(optimizer)
}

/// The optimizer with this name over these parameters; the case's kwargs are keyword-only here.
pub fn build<T: Real>(target: &str, params: &[Param<T>], a: &Args<T>) -> Result<Option<Box<dyn Steps<T>>>> {
    // These change how PyTorch computes, not what.
    ["foreach", "fused", "capturable", "differentiable"].iter().for_each(|name| a.ignore(KW, name));
    let params = params.to_vec();
    Ok(Some(match target {
        "SGD" => Box::new(
            SGD::new(params, a.float_or(KW, "lr", 1e-3)?)
                .momentum(a.float_or(KW, "momentum", 0.)?)
                .dampening(a.float_or(KW, "dampening", 0.)?)
                .weight_decay(a.float_or(KW, "weight_decay", 0.)?)
                .nesterov(a.bool_or(KW, "nesterov", false)?)
                .maximize(a.bool_or(KW, "maximize", false)?),
        ),
        "Adam" if a.bool_or(KW, "decoupled_weight_decay", false)? => {
            Box::new(adam(AdamW::new(params, a.float_or(KW, "lr", 1e-3)?), a)?)
        }
        "Adam" => Box::new(adam(Adam::new(params, a.float_or(KW, "lr", 1e-3)?), a)?),
        "AdamW" => Box::new(adam(AdamW::new(params, a.float_or(KW, "lr", 1e-3)?), a)?),
        "RMSprop" => Box::new(
            RMSprop::new(params, a.float_or(KW, "lr", 1e-2)?)
                .alpha(a.float_or(KW, "alpha", 0.99)?)
                .eps(a.float_or(KW, "eps", 1e-8)?)
                .weight_decay(a.float_or(KW, "weight_decay", 0.)?)
                .momentum(a.float_or(KW, "momentum", 0.)?)
                .centered(a.bool_or(KW, "centered", false)?)
                .maximize(a.bool_or(KW, "maximize", false)?),
        ),
        _ => return Ok(None),
    }))
}
