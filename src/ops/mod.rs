//! The operations of a tensor, each with its derivative beside it.

mod arithmetic;
mod compare;
mod math;
mod matmul;
mod reduce;
mod shape;
mod special;

pub(crate) use arithmetic::broadcast;
pub use compare::Operand;
