//! The operations of a tensor, each with its derivative beside it.

mod arithmetic;
mod index;
mod indexing;
mod join;
mod math;
mod matmul;
mod reduce;
mod scatter;
mod shape;
mod sort;

pub(crate) use arithmetic::broadcast;
pub use indexing::{Index, Indices};
pub use scatter::Reduce;
