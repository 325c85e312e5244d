//! The functions of torch.nn.functional, in files with the names of `src/functional/`.

pub mod activation;
pub mod attention;
mod conv;
mod dropout;
mod linear;
pub mod loss;
mod normalization;
mod pooling;
mod sparse;

use ndnn::Real;

use super::{Called, families};
use crate::args::Args;

pub use conv::padding;
pub use pooling::{adaptive_size, avg_pool_options, fractional_size, max_unpool_options};

pub fn call<T: Real>(target: &str, variant: &str, args: &Args<T>) -> Called {
    families!(call (target, variant, args); activation, attention, conv, dropout, linear, loss, normalization, pooling, sparse)
}

pub fn built() -> Vec<&'static str> {
    [
        activation::BUILT,
        attention::BUILT,
        conv::BUILT,
        dropout::BUILT,
        linear::BUILT,
        loss::BUILT,
        normalization::BUILT,
        pooling::BUILT,
        sparse::BUILT,
    ]
    .concat()
}
