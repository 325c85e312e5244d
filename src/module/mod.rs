//! What a module is: [`Module`] and its fields, parameters and buffers, containers, and the walks over the tree that all of
//! them make.
//!
//! A program needs what [`nn`](crate::nn) and the prelude re-export. The rest is for a module written by hand, without
//! `#[derive(Module)]`.

mod any;
mod backward_hooks;
mod buffer;
mod call;
mod containers;
mod copies;
mod dtype;
mod field;
mod forward;
pub mod hooks;
mod load;
mod mode;
mod operators;
mod param;
mod parametrization;
mod printing;
mod scope;
mod summary;
mod walk;

use std::any::Any;

use crate::{
    Result, io,
    state::{StateDict, pattern},
};
pub use any::{AnyBuffer, AnyParam, Parameters};
pub use buffer::Buffer;
#[doc(hidden)]
pub use call::{Arg, Call, Place, Seen, Unseen, run};
pub use containers::{ModuleDict, ModuleList, Named, ParameterDict, ParameterList, Sequential};
#[doc(hidden)]
pub use containers::{first, further};
pub use copies::copying;
pub use dtype::Dtype;
pub use field::{Field, Members};
pub use forward::{CloneForward, Forward};
pub use load::LoadReport;
pub use mode::Mode;
pub use param::Param;
pub(crate) use param::optional;
pub use parametrization::{CloneParametrization, Parametrization};
pub use printing::{ExtraRepr, repr};
pub use scope::Scope;

pub use crate::python::AsPython;
pub use summary::{Row, Summary, summary, summary_of};

/// A part of a network: names its parameters, buffers and children. `#[derive(Module)]` writes it.
///
/// Everything else follows from that: names, `state_dict`, saving and loading, train and eval mode, printing.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a module, a parameter, a buffer nor plain data",
    label = "not a `Module`",
    note = "derive `Module` for `{Self}` or for what it holds, or add `#[module(skip)]` to the field if it holds nothing to learn or to save"
)]
pub trait Module: Any + Send + Sync {
    /// Shows every field, in the order of declaration.
    fn members<'a>(&'a self, members: &mut Members<'a>);

    /// The name that is printed: the struct's.
    fn type_name(&self) -> String;

    /// What is printed between the parentheses, besides the children.
    fn extra_repr(&self) -> String {
        String::new()
    }

    /// Renames, adds or removes the entries of an older file before they are loaded; `prefix` is this module's path with a dot at
    /// its end, or nothing. Called on every module, parents first.
    fn upgrade(&self, _prefix: &str, _state: &mut StateDict) {}

    /// What tells it from every other module that lives: that of what is inside, where it only stands for it.
    #[doc(hidden)]
    fn place(&self) -> Place {
        (self as *const Self as *const () as usize, self.type_id())
    }

    /// Whether equal neighbours among the children are printed once: a `ModuleList`'s way.
    #[doc(hidden)]
    fn folds(&self) -> bool {
        false
    }

    /// The copy of this module in a copy of the model around it: a clone, unless it is shared.
    #[doc(hidden)]
    fn copied(&self) -> Self
    where
        Self: Clone,
    {
        self.clone()
    }

    // ------------------------------------------------------------------------------------------------------- contents

    /// Every parameter once, in the order of PyTorch: a tied one under its first name.
    fn parameters(&self) -> Vec<AnyParam> {
        self.named_parameters().into_iter().map(|(_, p)| p).collect()
    }

    /// Every parameter once with its path, such as `encoder.0.weight`.
    fn named_parameters(&self) -> Vec<(String, AnyParam)> {
        walk::named_parameters(walk::members(self))
    }

    /// Every buffer with its path.
    fn named_buffers(&self) -> Vec<(String, AnyBuffer)> {
        walk::named_buffers(walk::members(self))
    }

    /// Every module inside with its path, parents before children; this one itself is not among them.
    fn named_modules(&self) -> Vec<(String, &dyn Module)> {
        walk::named_modules(walk::members(self))
    }

    /// The direct children with their names.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        walk::members(self).children
    }

    /// The number of learnable values, a tied parameter counted once.
    ///
    /// # Panics
    /// If a parameter is [lazy](Param::is_lazy).
    #[track_caller]
    fn num_parameters(&self) -> usize {
        let params = self.named_parameters();
        match walk::no_lazy("num_parameters", params.iter().map(|(name, p)| (name.as_str(), p))) {
            Ok(()) => params.iter().map(|(_, p)| p.numel()).sum(),
            Err(e) => panic!("{e}"),
        }
    }

    // ---------------------------------------------------------------------------------------------------------- state

    /// Every parameter and buffer under its name; a tied parameter under each of its names.
    ///
    /// # Panics
    /// If two entries have one name, as only a `Module` written by hand, or keys with dots in a map of modules, can have; or if a
    /// parameter is [lazy](Param::is_lazy).
    #[track_caller]
    fn state_dict(&self) -> StateDict {
        match walk::state_dict("state_dict", walk::members(self)) {
            Ok(state) => state,
            Err(e) => panic!("{e}"),
        }
    }

    /// Takes over a state_dict; nothing may be missing, left over or of another shape.
    ///
    /// # Errors
    /// Names everything that is missing, unexpected and mis-shaped, and changes nothing.
    fn load_state_dict(&self, state: &StateDict) -> Result<()> {
        load::strict(walk::members(self), &walk::upgraded(self, state))
    }

    /// Takes over what fits of a state_dict, and reports what was applied, missing, unexpected and mis-shaped.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let (model, trained) = (sequential![Linear::new(4, 8), Linear::new(8, 3)], sequential![Linear::new(4, 8)]);
    /// let report = model.load_state_dict_partial(&trained.state_dict())?;
    /// assert_eq!((report.applied.len(), report.missing[0].0.as_str()), (2, "1.weight"));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If nothing fits; the error says so if the names would fit with a prefix removed or added.
    fn load_state_dict_partial(&self, state: &StateDict) -> Result<LoadReport> {
        load::partial(walk::members(self), &walk::upgraded(self, state))
    }

    /// Writes the state_dict as a safetensors file: whole, or not at all; see [`safetensors::save`](io::safetensors::save).
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()>
    where
        Self: Sized,
    {
        io::safetensors::save(path, &walk::state_dict("save", walk::members(self))?)
    }

    /// Loads a safetensors file as [`load_state_dict`](Module::load_state_dict) does.
    ///
    /// # Errors
    /// If the file cannot be read, is not in the format, or does not fit.
    fn load(&self, path: impl AsRef<std::path::Path>) -> Result<()>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        self.load_state_dict(&io::safetensors::load(path)?).map_err(|e| e.within(path.display()))
    }

    /// Loads what fits of a safetensors file as [`load_state_dict_partial`](Module::load_state_dict_partial) does.
    ///
    /// # Errors
    /// If the file cannot be read, is not in the format, or nothing of it fits.
    fn load_partial(&self, path: impl AsRef<std::path::Path>) -> Result<LoadReport>
    where
        Self: Sized,
    {
        let path = path.as_ref();
        self.load_state_dict_partial(&io::safetensors::load(path)?).map_err(|e| e.within(path.display()))
    }

    /// The state_dict as the bytes of a safetensors file.
    ///
    /// # Errors
    /// If the format has no place for a name.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        io::safetensors::to_bytes(&walk::state_dict("to_bytes", walk::members(self))?)
    }

    /// Loads the bytes of a safetensors file, such as `include_bytes!` gives.
    ///
    /// # Errors
    /// If they are not in the format or do not fit.
    fn load_bytes(&self, bytes: &[u8]) -> Result<()> {
        self.load_state_dict(&io::safetensors::from_bytes(bytes)?)
    }

    // ----------------------------------------------------------------------------------------------------------- mode

    /// Training mode: dropout drops, batch norm uses the batch's statistics.
    fn train(&mut self) {
        walk::set_mode(walk::members(self), true);
    }

    /// Evaluation mode.
    fn eval(&mut self) {
        walk::set_mode(walk::members(self), false);
    }

    /// Puts the modules whose path matches a pattern such as `bn*` or `encoder.0`, and what is inside them, into training
    /// (`true`) or evaluation mode; returns how many of the layers that have a mode it reached.
    ///
    /// A later [`train`](Module::train) or [`eval`](Module::eval) of the whole sets these too.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), BatchNorm1d::new(8), Dropout::new(0.5)];
    /// assert_eq!(model.train_matching("1", false)?, 1); // a frozen batch norm: the running statistics are used and kept
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the pattern matches no layer that has a mode.
    fn train_matching(&mut self, pattern: &str, training: bool) -> Result<usize> {
        walk::set_modes(walk::members(self), pattern, training)
    }

    /// Whether any layer inside is in training mode; true where no layer has a mode.
    fn is_training(&self) -> bool {
        walk::is_training(walk::members(self)).unwrap_or(true)
    }

    // ------------------------------------------------------------------------------------------------------ gradients

    /// Forgets the gradient of every parameter.
    fn zero_grad(&self) {
        self.parameters().iter().for_each(AnyParam::zero_grad);
    }

    /// Freezes (`false`) or thaws every parameter.
    fn set_requires_grad(&self, requires_grad: bool) {
        self.parameters().iter().for_each(|p| p.set_requires_grad(requires_grad));
    }

    /// Freezes (`false`) or thaws the parameters whose path matches a pattern such as `backbone.*` or `*.bias`; answers
    /// how many.
    ///
    /// # Errors
    /// If the pattern matches none.
    fn set_requires_grad_matching(&self, pattern: &str, requires_grad: bool) -> Result<usize> {
        let params = self.named_parameters();
        let chosen = pattern::select("parameter", pattern, &params)?;
        chosen.iter().for_each(|&i| params[i].1.set_requires_grad(requires_grad));
        Ok(chosen.len())
    }

    /// Calls `f` with the path of every module, children before parents, and this one last with an empty path. To
    /// change a layer, downcast: `(m as &dyn Any).downcast_ref::<Linear>()`.
    fn apply(&self, mut f: impl FnMut(&str, &dyn Module))
    where
        Self: Sized,
    {
        walk::apply(self, "", &mut f);
    }
}
