//! Layers and what they are made of: structs with parameters whose forward is one call into [`functional`](crate::functional).

mod container;
pub mod init;
mod linear;
mod module;
mod norm;
mod param;
pub(crate) mod pattern;
mod repr;
mod sparse;
mod state;
mod summary;
pub mod utils;
mod walk;

pub use container::{ModuleDict, ModuleList, Named, ParameterDict, ParameterList, Sequential};
pub use linear::Linear;
pub use module::{CloneForward, Dtype, Field, Forward, Members, MembersMut, Mode, Module, run};
pub use ndnn_derive::Module;
pub use norm::{BatchNorm, BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm};
pub use param::{AnyBuffer, AnyParam, Buffer, Param, Parameters, copying};
pub use repr::{py_bool, py_float, py_tuple, repr};
pub use sparse::Embedding;
pub use state::{LoadReport, StateDict};
pub use summary::{Output, Row, Summary, summary, summary_of};
