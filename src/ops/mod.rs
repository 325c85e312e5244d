//! The operations of a tensor, each with its derivative beside it.

mod arithmetic;
mod compare;
mod cumulative;
mod einsum;
mod formula;
mod index;
mod indexing;
mod join;
mod math;
mod matmul;
mod moments;
mod norm;
mod reduce;
mod scatter;
mod shape;
mod softmax;
mod sort;
mod special;

pub(crate) use arithmetic::broadcast;
pub use compare::Operand;
pub(crate) use compare::{scaled, shared, step};
pub(crate) use formula::{Formula, Lane, RealFormula, gradient_of};
pub use indexing::{Index, Indices};
pub(crate) use moments::faint;
pub use scatter::Reduce;
