//! The classes of torch.nn, in files with the names of `src/nn/`.

mod activation;
mod attention;
mod conv;
mod distance;
mod dropout;
mod linear;
mod loss;
mod normalization;
mod padding;
mod pooling;
mod rnn;
mod sparse;
mod transformer;
mod vision;

use ndnn::{
    AnyTensor, Real, Result,
    nn::{Forward, Module},
};

use super::{families, out};
use crate::args::Args;

/// A module built from the arguments of a constructor; `None` if the target belongs to another file.
pub type Built<T> = Result<Option<Box<dyn Case<T>>>>;

/// A module, and how to call it.
pub trait Case<T: Real> {
    fn module(&mut self) -> &mut dyn Module;
    fn forward(&self, args: &Args<T>) -> Result<Vec<AnyTensor>>;
}

struct Called<M, F> {
    module: M,
    forward: F,
}

impl<T: Real, M: Module, F: Fn(&M, &Args<T>) -> Result<Vec<AnyTensor>>> Case<T> for Called<M, F> {
    fn module(&mut self) -> &mut dyn Module {
        &mut self.module
    }

    fn forward(&self, args: &Args<T>) -> Result<Vec<AnyTensor>> {
        (self.forward)(&self.module, args)
    }
}

/// A module, and a closure that reads the arguments of forward and calls it.
pub fn case<T: Real, M: Module>(
    module: M,
    forward: impl Fn(&M, &Args<T>) -> Result<Vec<AnyTensor>> + 'static,
) -> Box<dyn Case<T>> {
    Box::new(Called { module, forward })
}

/// A module that takes one tensor, `input`, and returns one.
pub fn layer<T: Real>(module: impl Forward<T>) -> Box<dyn Case<T>> {
    case(module, |module, a| Ok(out![module.forward(&a.tensor(0, "input")?)?]))
}

pub fn build<T: Real>(target: &str, args: &Args<T>) -> Built<T> {
    families!(build(target, args);
        activation,
        attention,
        conv,
        distance,
        dropout,
        linear,
        loss,
        normalization,
        padding,
        pooling,
        rnn,
        sparse,
        transformer,
        vision,
    )
}
