// Before rustc inlines a function, it looks for recursion through calls up to an eighth of this depth: with the default of
// 128 that search takes 4 s of a clean build. The types of this crate need 26.
#![recursion_limit = "39"]
//! PyTorch's `torch.nn` for Rust, on `ndarray`, on the CPU.
//!
//! Names, defaults, printed forms, names of weights and numerical results are PyTorch's. Where Rust requires something else
//! (errors, options, the mode), the pages below say so.
//!
//! ```
//! use ndnn::{functional as F, prelude::*};
//!
//! ndnn::manual_seed(0);
//! let model = sequential![Linear::new(2, 16), Tanh, Linear::new(16, 1)];
//! assert_eq!(
//!     model.to_string(),
//!     "Sequential(
//!   (0): Linear(in_features=2, out_features=16, bias=True)
//!   (1): Tanh()
//!   (2): Linear(in_features=16, out_features=1, bias=True)
//! )"
//! );
//!
//! // XOR: no line separates its classes, but a hidden layer does.
//! let x = tensor![[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];
//! let y = tensor![[0.0], [1.0], [1.0], [0.0]];
//! let mut adam = optim::Adam::new(&model, 0.05);
//! for _ in 0..300 {
//!     let loss = F::mse_loss(&model.forward(&x)?, &y, Default::default())?;
//!     adam.zero_grad();
//!     loss.backward()?;
//!     adam.step()?;
//! }
//! let answers = no_grad(|| model.forward(&x))?;
//! assert_eq!(answers.gt(0.5)?, y.gt(0.5)?);
//!
//! // Saved and loaded under PyTorch's names: 0.weight, 0.bias, 2.weight, 2.bias.
//! let again = sequential![Linear::new(2, 16), Tanh, Linear::new(16, 1)];
//! again.load_bytes(&model.to_bytes()?)?;
//! assert_eq!(no_grad(|| again.forward(&x))?, answers);
//! # Ok::<(), ndnn::Error>(())
//! ```
//!
//! # Contents
//!
//! - [`Tensor`]: an immutable array of `f32` (the default), `f64`, `i64` or `bool`, that knows how it was computed.
//!   Operations are methods ([`matmul`](Tensor::matmul), [`sum_dim`](Tensor::sum_dim), [`cat`](Tensor::cat)) and the
//!   operators; [`tensor!`] creates one from literals, [`view`](Tensor::view) and `Tensor::from` convert to and from `ndarray`.
//! - Gradients: [`Tensor::backward`] adds to the leaves, [`autograd::grad`] returns them and can be differentiated again,
//!   [`no_grad`] records nothing, [`autograd::gradcheck`] checks a function of your own made with [`Tensor::op`].
//! - [`nn`]: the layers, [`Module`](nn::Module) and its derive, containers, state_dict, [`init`](nn::init),
//!   [`summary`](nn::summary()). [`#[forward]`](macro@forward) makes errors name the path in a model of your own, and lets
//!   [hooks](module::hooks) see inputs and outputs.
//! - [`functional`]: the same layers as plain functions, with their formulas.
//! - [`optim`]: the optimizers and their groups of parameters.
//! - [`data`]: data sets, loaders, readers of IDX and CSV.
//! - [`io`]: files of weights.
//! - [`random`]: the seed, and generators of your own.
//!
//! # Errors
//!
//! What can fail because of shapes, values or files returns a [`Result`] whose [`Error`] says which operation failed, what it
//! was given and what was expected. `+ - * /` on tensors panic instead, as std's operators do; [`try_add`](Tensor::try_add)
//! and similar methods do not. An option that is never valid, such as `Dropout::new(1.5)`, panics where it is set.
//!
//! # Features
//!
//! - `gzip`: reads IDX and CSV files compressed with gzip.
//! - `csv`: `data::Csv`, the CSV reader.

// The macros name this crate `::ndnn`, inside it too.
extern crate self as ndnn;

pub mod autograd;
pub mod data;
mod error;
pub mod functional;
pub mod io;
mod kernels;
/// The memory of freed tensors that is kept for the next ones: how much is kept, and its limit.
pub mod memory {
    pub use crate::kernels::memory::{Stats, clear, set_limit, stats};
}
pub mod module;
pub mod nn;
mod number;
mod ops;
pub mod optim;
#[cfg(test)]
mod overhead;
mod python;
pub mod random;
mod state;
mod sync;
mod tensor;

pub use ndnn_derive::{forward, tensor};

pub use error::{Error, ErrorKind, Result};
pub use kernels::isa::{Capability, capability as cpu_capability, set_capability as set_cpu_capability};
pub use kernels::threads::{WaitPolicy, num_threads, set_num_threads, set_wait_policy, wait_policy, with_num_threads};
pub use number::{DType, Element, Number, Real};
pub use ops::{Index, Indices, Reduce};
pub use random::manual_seed;
pub use tensor::{AnyTensor, Array, Int, Ints, Operand, Sizes, Tensor, Tensors, grad_enabled, no_grad};

#[doc(hidden)]
pub mod __private {
    pub use crate::{
        module::{Arg, Call, Seen, Unseen, first, further, run},
        tensor::{tensor_default, tensor_of},
    };
}

/// The README's code, compiled and run as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// What most programs need, by `use ndnn::prelude::*;`: [`Tensor`] and [`tensor!`], everything in [`nn`] with
/// [`sequential!`], [`optim`] with the trait [`Optimizer`](optim::Optimizer), [`no_grad`], and [`Result`].
///
/// [`functional`] is not included; by convention it is imported with `use ndnn::functional as F;`.
pub mod prelude {
    pub use crate::{
        Real, Result, Tensor, forward,
        nn::*,
        no_grad,
        optim::{self, Optimizer},
        sequential, tensor,
    };
}
