//! The learning-rate schedulers of torch.optim.lr_scheduler.

use ndnn::{Real, Result};

use crate::args::Args;

pub const BUILT: &[&str] = &[];

/// A scheduler together with its optimizer, SGD with momentum 0.9.
pub trait Schedule {
    fn lr(&self) -> f64;
    fn momentum(&self) -> f64;
    /// `metric` is given only for ReduceLROnPlateau.
    fn step(&mut self, metric: Option<f64>) -> Result<()>;
}

/// The scheduler with this name, over an optimizer with this learning rate; the case's kwargs are keyword-only here.
pub fn build<T: Real>(target: &str, _base_lr: f64, _a: &Args<T>) -> Result<Option<Box<dyn Schedule>>> {
    let _ = target;
    Ok(None)
}
