//! Modules: [`Module`] and its fields, parameters and buffers, containers, and the functions that walk over the tree of
//! modules.
//!
//! Programs need what [`nn`](crate::nn) and the prelude re-export. The rest is for modules that are implemented by
//! hand, without `#[derive(Module)]`.

mod any;
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
mod replace;
mod scope;
mod sequential;
mod summary;
mod walk;

use std::any::Any;

pub use crate::python::AsPython;
use crate::{Real, Result, io, state::StateDict};
pub use any::{AnyBuffer, AnyParam, Parameters};
pub use buffer::Buffer;
#[doc(hidden)]
pub use call::{Arg, Call, Place, Seen, Unseen, run};
pub use containers::{Dict, ModuleDict, ModuleList, ParameterDict, ParameterList};
pub use copies::{Copying, copying};
pub(crate) use copies::{cloned, sharing};
pub use dtype::Dtype;
pub use field::{Field, Members};
pub use forward::{CloneForward, Forward};
pub use load::LoadReport;
pub use mode::Mode;
pub use param::Param;
pub(crate) use param::optional;
pub use parametrization::{CloneParametrization, Parametrization};
pub(crate) use parametrization::{cached, has_beside};
pub use printing::{ExtraRepr, repr};
pub use scope::Scope;
pub use sequential::Sequential;
#[doc(hidden)]
pub use sequential::{first, further};
pub use summary::{Row, Summary, summary, summary_of};
pub(crate) use walk::no_lazy;

/// Every module as the type that the walks take.
#[doc(hidden)]
pub trait AsModule {
    fn as_module(&self) -> &dyn Module;
    fn as_module_mut(&mut self) -> &mut dyn Module;
}

impl<M: Module> AsModule for M {
    #[inline]
    fn as_module(&self) -> &dyn Module {
        self
    }
    #[inline]
    fn as_module_mut(&mut self) -> &mut dyn Module {
        self
    }
}

/// A part of a network: it names its parameters, buffers and children. `#[derive(Module)]` implements it.
///
/// Everything else follows from that, and is in [`ModuleExt`]: names, `state_dict`, saving and loading, train and eval mode.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a module, a parameter, a buffer nor plain data",
    label = "not a `Module`",
    note = "derive `Module` for `{Self}` or for what it holds, or add `#[module(skip)]` to the field if it holds nothing to learn or to save"
)]
pub trait Module: Any + Send + Sync + AsModule {
    /// Shows every field, in the order of declaration.
    fn members<'a>(&'a self, members: &mut Members<'a>);

    /// The name that is printed, by default that of the struct.
    fn type_name(&self) -> String;

    /// What is printed between the parentheses in addition to the children.
    fn extra_repr(&self) -> String {
        String::new()
    }

    /// Renames, adds or removes the entries of an older file before they are loaded; `prefix` is this module's path followed by a
    /// dot, or empty. Called for every module, parents first.
    fn upgrade(&self, _prefix: &str, _state: &mut StateDict) {}

    /// The child with this name, so that it can be changed or replaced; a wrapper shows what is inside under an empty name.
    /// `#[derive(Module)]` implements it; without it, what is inside can only be seen.
    fn child_mut(&mut self, _name: &str) -> Option<&mut dyn Module> {
        None
    }

    /// The module inside, if this is only a wrapper around one.
    #[doc(hidden)]
    fn inside(&self) -> Option<&dyn Module> {
        None
    }

    /// Whether equal neighbours among the children are printed once, as in a `ModuleList`.
    #[doc(hidden)]
    fn folds(&self) -> bool {
        false
    }

    /// The copy of this module in a copy of the model that contains it: a clone, unless the module is shared.
    #[doc(hidden)]
    fn copied(&self) -> Self
    where
        Self: Clone,
    {
        self.clone()
    }
}

impl dyn Module {
    /// Identifies it among all existing modules; a wrapper has the identity of the module inside.
    pub(crate) fn place(&self) -> Place {
        let module = self.inside().unwrap_or(self);
        (module as *const dyn Module as *const () as usize, module.type_id())
    }
}

/// What every [`Module`] can do: names, `state_dict`, saving and loading, train and eval mode. The prelude has it.
///
/// A trait of its own, so that these methods are not in the table of functions of each type of module: a program contains
/// those that it calls, once.
pub trait ModuleExt: Module {
    // ------------------------------------------------------------------------------------------------------- contents

    /// Every parameter once, in PyTorch's order: a tied one under its first name.
    fn parameters(&self) -> Vec<AnyParam> {
        walk::parameters(self.as_module())
    }

    /// Every parameter once with its path, such as `encoder.0.weight`.
    fn named_parameters(&self) -> Vec<(String, AnyParam)> {
        walk::named_parameters(self.as_module())
    }

    /// Every buffer with its path.
    fn named_buffers(&self) -> Vec<(String, AnyBuffer)> {
        walk::named_buffers(self.as_module())
    }

    /// Every module inside with its path, parents before children, without this module itself. Downcast to find those of a type;
    /// what is in a `Box`, an `Arc` or a [`Hooked`](hooks::Hooked) is itself the module.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// use std::any::Any;
    /// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// let is_linear = |module: &dyn Module| (module as &dyn Any).is::<Linear>();
    /// assert_eq!(model.named_modules().iter().filter(|(_, module)| is_linear(*module)).count(), 2);
    /// ```
    ///
    /// [Parametrizations](crate::nn::utils::parametrize) are not among them, since they may be removed from a parameter at
    /// any time and so cannot be borrowed from it; [`apply`](ModuleExt::apply) visits them under PyTorch's names, such as
    /// `parametrizations.weight.0`.
    fn named_modules(&self) -> Vec<(String, &dyn Module)> {
        walk::named_modules(self.as_module())
    }

    /// The direct children with their names.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        walk::children(self.as_module())
    }

    /// The module at this path, such as `encoder.0`; an empty path is this module. Downcast to read a layer's own fields.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// use std::any::Any;
    /// let model = sequential![Linear::new(4, 8), sequential![ReLU, Linear::new(8, 2)]];
    /// let last = model.get_submodule("1.1")? as &dyn Any;
    /// assert_eq!(last.downcast_ref::<Linear>().unwrap().weight.shape(), [2, 8]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is none; the error lists what there is.
    fn get_submodule(&self, path: &str) -> Result<&dyn Module> {
        replace::get(self.as_module(), "get_submodule", path)
    }

    /// The module at this path, if it is an `L`, to change or replace it: `*model.get_submodule_mut("fc")? = Linear::new(8, 3)`.
    /// The boxed children of a [`Sequential`], a [`ModuleList`] or a [`ModuleDict`] are also of type `Box<dyn Forward>`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), Dropout::new(0.5)];
    /// model.get_submodule_mut::<Dropout>("1")?.eval();
    /// let old = std::mem::replace(model.get_submodule_mut("1")?, Box::new(ReLU) as Box<dyn Forward>);
    /// assert_eq!((old.type_name(), model[1].type_name()), ("Dropout".to_string(), "ReLU".to_string()));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is none, it is of another type, or it cannot be reached: it is inside an `Arc`, or in a module whose
    /// [`child_mut`](Module::child_mut) does not show it.
    fn get_submodule_mut<L: Module>(&mut self, path: &str) -> Result<&mut L> {
        replace::get_mut(self.as_module_mut(), path)
    }

    /// Puts a module in the place of the one at this path. A child of a [`Sequential`], a [`ModuleList`] or a [`ModuleDict`] may
    /// be any layer, a field only one of its own type. Make optimizers afterwards.
    ///
    /// A layer without an element type needs that of the model: `model.set_submodule::<f32>("1", ReLU)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// #[derive(Module)]
    /// struct Net { encoder: Sequential, head: Linear }
    /// let mut net = Net { encoder: sequential![Linear::new(4, 8), ReLU], head: Linear::new(8, 10) };
    /// net.set_submodule("head", Linear::new(8, 3))?;
    /// net.set_submodule("encoder.1", PReLU::new())?;
    /// assert_eq!(net.encoder[1].type_name(), "PReLU");
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is none, it takes modules of another type, or it cannot be reached, as in
    /// [`get_submodule_mut`](ModuleExt::get_submodule_mut).
    fn set_submodule<T: Real>(&mut self, path: &str, module: impl Forward<T>) -> Result<()> {
        replace::set(self.as_module_mut(), path, module)
    }

    /// The parameter at this path, such as `encoder.0.weight`.
    ///
    /// # Errors
    /// If there is none; the error lists what there is.
    fn get_parameter(&self, path: &str) -> Result<AnyParam> {
        replace::parameter(self.as_module(), path)
    }

    /// The buffer at this path, such as `norm.running_mean`.
    ///
    /// # Errors
    /// If there is none; the error lists what there is.
    fn get_buffer(&self, path: &str) -> Result<AnyBuffer> {
        replace::buffer(self.as_module(), path)
    }

    /// The number of learnable values; a tied parameter counts once.
    ///
    /// # Panics
    /// If a parameter is [lazy](Param::is_lazy).
    #[track_caller]
    fn num_parameters(&self) -> usize {
        walk::num_parameters(self.as_module())
    }

    // ---------------------------------------------------------------------------------------------------------- state

    /// Every parameter and buffer under its name; a tied parameter under each of its names.
    ///
    /// # Panics
    /// If two entries have the same name, which is possible only in a `Module` implemented by hand, or with dots in the keys
    /// of a map of modules; or if a parameter is [lazy](Param::is_lazy).
    #[track_caller]
    fn state_dict(&self) -> StateDict {
        walk::state_dict(self.as_module())
    }

    /// Loads a state_dict; nothing may be missing, unexpected or of another shape.
    ///
    /// # Errors
    /// If anything is: the error names everything that is missing, unexpected or of another shape, and nothing is
    /// changed.
    fn load_state_dict(&self, state: &StateDict) -> Result<()> {
        load::strict(self.as_module(), state)
    }

    /// Loads what matches from a state_dict, and reports what was loaded, missing, unexpected or of another shape.
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
    /// If nothing matches; the error says whether the names would match with a prefix removed or added.
    fn load_state_dict_partial(&self, state: &StateDict) -> Result<LoadReport> {
        load::partial(self.as_module(), state)
    }

    /// Writes the state_dict as a safetensors file, completely or not at all; see
    /// [`safetensors::save`](io::safetensors::save).
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        io::safetensors::save(path, &walk::state("save", self.as_module())?)
    }

    /// Loads a safetensors file as [`load_state_dict`](ModuleExt::load_state_dict) does.
    ///
    /// # Errors
    /// If the file cannot be read, is not in the format, or does not match.
    fn load(&self, path: impl AsRef<std::path::Path>) -> Result<()> {
        load::file(path.as_ref(), |state| load::strict(self.as_module(), state))
    }

    /// Loads what matches from a safetensors file, as [`load_state_dict_partial`](ModuleExt::load_state_dict_partial) does.
    ///
    /// # Errors
    /// If the file cannot be read, is not in the format, or nothing in it matches.
    fn load_partial(&self, path: impl AsRef<std::path::Path>) -> Result<LoadReport> {
        load::file(path.as_ref(), |state| load::partial(self.as_module(), state))
    }

    /// The state_dict as the bytes of a safetensors file.
    ///
    /// # Errors
    /// If the format does not allow a name.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        load::to_bytes(self.as_module())
    }

    /// Loads the bytes of a safetensors file, for example from `include_bytes!`.
    ///
    /// # Errors
    /// If they are not in the format or do not match.
    fn load_bytes(&self, bytes: &[u8]) -> Result<()> {
        load::bytes(self.as_module(), bytes)
    }

    // ----------------------------------------------------------------------------------------------------------- mode

    /// Training mode: dropout drops, batch norm uses the statistics of the batch.
    fn train(&mut self) {
        walk::train(self.as_module());
    }

    /// Evaluation mode.
    fn eval(&mut self) {
        walk::eval(self.as_module());
    }

    /// Puts the modules whose path matches a pattern such as `bn*` or `encoder.0`, and everything inside them, into
    /// training (`true`) or evaluation mode; returns the number of layers with a mode that were set.
    ///
    /// A later [`train`](ModuleExt::train) or [`eval`](ModuleExt::eval) of the whole model sets these too.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let mut model = sequential![Linear::new(4, 8), BatchNorm1d::new(8), Dropout::new(0.5)];
    /// assert_eq!(model.train_matching("1", false)?, 1); // a frozen batch norm: the running statistics are used and kept
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the pattern matches no layer with a mode.
    fn train_matching(&mut self, pattern: &str, training: bool) -> Result<usize> {
        walk::set_modes(self.as_module(), pattern, training)
    }

    /// Whether any layer inside is in training mode; true if no layer has a mode.
    fn is_training(&self) -> bool {
        walk::is_training(self.as_module())
    }

    // ------------------------------------------------------------------------------------------------------ gradients

    /// Clears the gradient of every parameter.
    fn zero_grad(&self) {
        walk::zero_grad(self.as_module());
    }

    /// Freezes (`false`) or unfreezes every parameter.
    fn set_requires_grad(&self, requires_grad: bool) {
        walk::set_requires_grad(self.as_module(), requires_grad);
    }

    /// Freezes (`false`) or unfreezes the parameters whose path matches a pattern such as `backbone.*` or `*.bias`;
    /// returns their number.
    ///
    /// # Errors
    /// If the pattern matches no parameter.
    fn set_requires_grad_matching(&self, pattern: &str, requires_grad: bool) -> Result<usize> {
        walk::set_requires_grad_matching(self.as_module(), pattern, requires_grad)
    }

    /// Calls `f` with every module and its path, children before parents, and this module last with an empty path;
    /// parametrizations too. To change a layer, downcast.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// use std::any::Any;
    /// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// model.apply(|_path, module| {
    ///     if let Some(linear) = (module as &dyn Any).downcast_ref::<Linear>() {
    ///         init::normal(&linear.weight, 0., 0.02);
    ///     }
    /// });
    /// ```
    fn apply(&self, mut f: impl FnMut(&str, &dyn Module)) {
        walk::apply(self.as_module(), "", &mut f);
    }
}

impl<M: Module + ?Sized> ModuleExt for M {}
