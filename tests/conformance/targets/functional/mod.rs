//! The functions of torch.nn.functional, in files with the names of `src/functional/`.

pub mod activation;
pub mod attention;
mod conv;
mod distance;
mod dropout;
mod linear;
pub mod loss;
mod normalization;
mod pooling;
pub mod sparse;
mod vision;

use ndnn::Real;

use super::{Called, families};
use crate::args::Args;

pub use conv::{fold_options, padding};
pub use pooling::{adaptive_size, avg_pool_options, fractional_size, max_unpool_options};
pub use vision::{interpolate_options, resize};

pub fn call<T: Real>(target: &str, variant: &str, args: &Args<T>) -> Called {
    families!(call (target, variant, args);
        activation,
        attention,
        conv,
        distance,
        dropout,
        linear,
        loss,
        normalization,
        pooling,
        sparse,
        vision,
    )
}
