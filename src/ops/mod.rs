//! The operations of a tensor, each with its derivative.

mod arithmetic;
mod compare;
mod cumulative;
mod einsum;
mod formula;
mod gather;
mod index;
mod join;
mod math;
mod matmul;
mod norm;
mod reduce;
mod scatter;
mod select;
mod shape;
mod slice;
mod softmax;
mod sort;
mod special;
mod variance;

pub(crate) use arithmetic::broadcast;
pub(crate) use formula::{Formula, Lane, RealFormula, gradient_of};
pub use index::{Index, Indices};
pub use scatter::Reduce;
pub(crate) use select::{scaled, shared, step};
pub(crate) use variance::faint;
