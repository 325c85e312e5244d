//! Layers and what they are made of: structs with parameters whose forward is one call into [`functional`](crate::functional).

mod container;
mod conv;
pub mod init;
mod linear;
mod module;
mod param;
pub(crate) mod pattern;
mod pooling;
mod repr;
mod state;
mod summary;
pub mod utils;
mod walk;

pub use container::{ModuleDict, ModuleList, Named, ParameterDict, ParameterList, Sequential};
pub use conv::{Conv, Conv1d, Conv2d, Conv3d};
pub use linear::Linear;
pub use module::{CloneForward, Dtype, Field, Forward, Members, MembersMut, Mode, Module, run};
pub use ndnn_derive::Module;
pub use param::{AnyBuffer, AnyParam, Buffer, Param, Parameters, copying};
pub use pooling::{MaxPool, MaxPool1d, MaxPool2d, MaxPool3d};
pub use repr::{py_bool, py_float, py_tuple, repr};
pub use state::{LoadReport, StateDict};
pub use summary::{Output, Row, Summary, summary, summary_of};
