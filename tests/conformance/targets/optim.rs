//! The optimizers of torch.optim.

use ndnn::{Real, Result, Tensor, nn::Param};

use crate::args::Args;

pub const BUILT: &[&str] = &[];

/// An optimizer in the runner's hands; `closure` forgets the gradients, computes the objective and its gradients anew.
pub trait Steps<T: Real> {
    fn step(&mut self, closure: &mut dyn FnMut() -> Result<Tensor<T>>) -> Result<()>;
}

/// An optimizer of these parameters by its name; the case's kwargs are keyword-only here.
pub fn build<T: Real>(target: &str, _params: &[Param<T>], _a: &Args<T>) -> Result<Option<Box<dyn Steps<T>>>> {
    let _ = target;
    Ok(None)
}
