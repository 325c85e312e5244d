//! The operations of a tensor, each with its derivative.

mod arithmetic;
mod compare;
mod cumulative;
mod einsum;
pub(crate) mod elementwise;
mod formula;
mod gather;
mod index;
mod join;
mod linalg;
mod math;
mod matmul;
mod norm;
mod reduce;
mod rows;
mod scatter;
mod select;
mod shape;
mod slice;
mod softmax;
mod sort;
mod special;
mod variance;

pub(crate) use arithmetic::{added, broadcast};
pub(crate) use elementwise::{Total, Two, loss, one, pairs, row, two};
pub(crate) use formula::{Conditions, Formula, Functions, Lane};
pub use index::{Index, Indices};
pub use scatter::Reduce;
pub(crate) use select::{scaled, shared};
pub(crate) use variance::faint;
