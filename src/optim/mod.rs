//! Optimizers: [`SGD`], [`Adam`], [`AdamW`], [`RMSprop`]; parameter groups chosen by name; saving and resuming.
//!
//! An optimizer holds handles to the parameters that it was given. After `backward`, [`step`](Optimizer::step) updates
//! those that have a gradient:
//!
//! ```
//! use ndnn::{functional as F, optim, prelude::*};
//! ndnn::manual_seed(0);
//! let model = Linear::new(3, 1);
//! let mut sgd = optim::SGD::new(&model, 0.1).momentum(0.9);
//! let (x, y) = (Tensor::<f32>::ones([8, 3]), Tensor::<f32>::zeros([8, 1]));
//! for _ in 0..3 {
//!     let loss = (model.forward(&x)? - &y).square().mean();
//!     sgd.zero_grad();
//!     loss.backward()?;
//!     sgd.step()?;
//! }
//! # Ok::<(), ndnn::Error>(())
//! ```
//!
//! [`set_lr`](Optimizer::set_lr), [`set_option`](Optimizer::set_option) and [`groups_mut`](RuleOptimizer::groups_mut)
//! change options during training; [`state_dict`](Optimizer::state_dict) is what to save in order to resume training
//! later.
//!
//! To write an optimizer, implement [`ParamRule`], if it treats each parameter independently, or else [`Rule`].

mod adam;
mod each;
mod optimizer;
mod options;
mod rmsprop;
mod rule;
mod sgd;
mod state;

pub use adam::{Adam, AdamOptions, AdamRule, AdamW};
pub use each::{Each, ParamRule, ParamState, Slot, Step};
pub use optimizer::{Optimizer, RuleOptimizer};
pub use options::GroupOptions;
pub use rmsprop::{RMSprop, RMSpropOptions, RMSpropRule};
pub use rule::{Closure, Member, Rule};
pub use sgd::{SGD, SGDOptions, SGDRule};
pub use state::StateReader;
