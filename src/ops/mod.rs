//! The operations of a tensor, each with its derivative beside it.

mod arithmetic;
mod math;
mod matmul;
mod reduce;
mod shape;

pub(crate) use arithmetic::broadcast;
