//! The operations of a tensor, each with its derivative beside it.

mod arithmetic;
mod cumulative;
mod einsum;
mod math;
mod matmul;
mod moments;
mod norm;
mod reduce;
mod shape;
mod softmax;

pub(crate) use arithmetic::broadcast;
