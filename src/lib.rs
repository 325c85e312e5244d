//! PyTorch's `torch.nn` for Rust, on `ndarray`, on the CPU.

// The macros name this crate `::ndnn`, inside it too.
extern crate self as ndnn;

pub mod autograd;
pub mod data;
mod error;
pub mod functional;
pub mod io;
mod kernels;
pub mod nn;
mod ops;
pub mod optim;
pub mod random;
mod tensor;

pub use ndnn_derive::tensor;

pub use error::{Error, ErrorKind, Result};
pub use ops::Operand;
pub use ops::{Index, Indices, Reduce};
pub use random::manual_seed;
pub use tensor::{AnyTensor, DType, Data, Element, Ints, Number, Real, Sizes, Tensor, grad_enabled, no_grad};

#[doc(hidden)]
pub mod __private {
    pub use crate::tensor::{tensor_default, tensor_of};
}

/// What most programs need: `use ndnn::prelude::*;`.
pub mod prelude {
    pub use crate::{
        Real, Result, Tensor,
        nn::*,
        no_grad,
        optim::{self, Optimizer},
        sequential, tensor,
    };
}
