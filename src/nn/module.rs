//! [`Module`]: what has parameters, buffers, children and a mode; [`Forward`]: one tensor in, one out.

use std::{any::Any, collections::BTreeMap};

use super::{
    Identity,
    copies::{self, copying},
    param::{AnyBuffer, AnyParam, Buffer, Param},
    pattern, repr,
    state::{LoadReport, StateDict},
    walk,
};
use crate::{
    Error, Result,
    error::ErrorKind,
    io,
    tensor::{DType, Element, Real, Tensor},
};

/// The direct members of a module, each with its name, in the order of declaration.
#[derive(Default)]
pub struct Members<'a> {
    pub(crate) params: Vec<(String, AnyParam)>,
    pub(crate) buffers: Vec<(String, AnyBuffer)>,
    pub(crate) children: Vec<(String, &'a dyn Module)>,
    pub(crate) training: Option<bool>,
}

impl<'a> Members<'a> {
    /// Shows one field.
    pub fn field(&mut self, name: &str, field: &'a (impl Field + ?Sized)) {
        field.show(name, self);
    }

    /// Shows a child.
    pub fn child(&mut self, name: impl Into<String>, child: &'a dyn Module) {
        self.children.push((name.into(), child));
    }
}

/// The direct members of a module that change with its mode.
#[derive(Default)]
pub struct MembersMut<'a> {
    pub(crate) modes: Vec<&'a mut Mode>,
    pub(crate) children: Vec<&'a mut dyn Module>,
}

impl<'a> MembersMut<'a> {
    /// Shows one field.
    pub fn field(&mut self, field: &'a mut (impl Field + ?Sized)) {
        field.show_mut(self);
    }

    /// Shows a child.
    pub fn child(&mut self, child: &'a mut dyn Module) {
        self.children.push(child);
    }
}

/// What may be a field of a `#[derive(Module)]` struct: parameters, buffers, modules, and plain data, which is skipped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a module, a parameter, a buffer nor plain data",
    label = "#[derive(Module)] does not know this type",
    note = "derive `Module` for `{Self}` or for what it holds, or add `#[module(skip)]` to the field if it holds nothing to learn or to save"
)]
pub trait Field {
    /// Shows what is inside, under this name.
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>);
    /// Shows what changes with the mode.
    fn show_mut<'a>(&'a mut self, members: &mut MembersMut<'a>);
    /// A copy that shares nothing with the original.
    fn copy(&self) -> Self
    where
        Self: Sized;
}

/// Whether a layer trains or evaluates: a field of each layer that behaves differently in the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    training: bool,
}

impl Default for Mode {
    fn default() -> Self {
        Mode::TRAINING
    }
}

impl Mode {
    /// How a layer starts.
    pub(crate) const TRAINING: Mode = Mode { training: true };

    /// Whether it trains.
    pub fn is_training(self) -> bool {
        self.training
    }
}

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

    /// Shows every field that changes with the mode.
    fn members_mut<'a>(&'a mut self, members: &mut MembersMut<'a>);

    /// The name that is printed: the struct's.
    fn type_name(&self) -> String;

    /// What is printed between the parentheses, besides the children.
    fn extra_repr(&self) -> String {
        String::new()
    }

    /// Whether equal neighbours among the children are printed once: a `ModuleList`'s way.
    #[doc(hidden)]
    fn folds(&self) -> bool {
        false
    }

    // ------------------------------------------------------------------------------------------------------- contents

    /// Every parameter once, in the order of PyTorch: a tied one under its first name.
    fn parameters(&self) -> Vec<AnyParam> {
        self.named_parameters().into_iter().map(|(_, p)| p).collect()
    }

    /// Every parameter once with its path, such as `encoder.0.weight`.
    fn named_parameters(&self) -> Vec<(String, AnyParam)> {
        walk::named_parameters(self)
    }

    /// Every buffer with its path.
    fn named_buffers(&self) -> Vec<(String, AnyBuffer)> {
        walk::named_buffers(self)
    }

    /// Every module inside with its path, parents before children; this one itself is not among them.
    fn named_modules(&self) -> Vec<(String, &dyn Module)> {
        walk::named_modules(self)
    }

    /// The direct children with their names.
    fn children(&self) -> Vec<(String, &dyn Module)> {
        walk::members(self).children
    }

    /// The number of learnable values, a tied parameter counted once.
    fn num_parameters(&self) -> usize {
        self.parameters().iter().map(AnyParam::numel).sum()
    }

    // ---------------------------------------------------------------------------------------------------------- state

    /// Every parameter and buffer under its name; a tied parameter under each of its names.
    ///
    /// # Panics
    /// If two entries have one name, as only a `Module` written by hand, or keys with dots in a map of modules, can have.
    #[track_caller]
    fn state_dict(&self) -> StateDict {
        match walk::state_dict("state_dict", self) {
            Ok(state) => state,
            Err(e) => panic!("{e}"),
        }
    }

    /// Takes over a state_dict; nothing may be missing, left over or of another shape.
    ///
    /// # Errors
    /// Names everything that is missing, unexpected and mis-shaped, and changes nothing.
    fn load_state_dict(&self, state: &StateDict) -> Result<()> {
        super::state::load_strict(self, state)
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
        super::state::load_partial(self, state)
    }

    /// Writes the state_dict as a safetensors file: whole, or not at all; see [`safetensors::save`](io::safetensors::save).
    ///
    /// # Errors
    /// If the file cannot be written.
    fn save(&self, path: impl AsRef<std::path::Path>) -> Result<()>
    where
        Self: Sized,
    {
        io::safetensors::save(path, &walk::state_dict("save", self)?)
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

    /// The state_dict as the bytes of a safetensors file.
    ///
    /// # Errors
    /// If the format has no place for a name.
    fn to_bytes(&self) -> Result<Vec<u8>> {
        io::safetensors::to_bytes(&walk::state_dict("to_bytes", self)?)
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
        walk::set_mode(self, true);
    }

    /// Evaluation mode.
    fn eval(&mut self) {
        walk::set_mode(self, false);
    }

    /// Whether any layer inside is in training mode; true where no layer has a mode.
    fn is_training(&self) -> bool {
        walk::is_training(self).unwrap_or(true)
    }

    // ------------------------------------------------------------------------------------------------------ gradients

    /// Forgets the gradient of every parameter.
    fn zero_grad(&self) {
        self.parameters().iter().for_each(AnyParam::zero_grad);
    }

    /// Freezes (`false`) or thaws every parameter.
    fn requires_grad(&self, requires_grad: bool) {
        self.parameters().iter().for_each(|p| p.requires_grad(requires_grad));
    }

    /// Freezes (`false`) or thaws the parameters whose path matches a pattern such as `backbone.*` or `*.bias`; answers
    /// how many.
    ///
    /// # Errors
    /// If the pattern matches none.
    fn requires_grad_matching(&self, pattern: &str, requires_grad: bool) -> Result<usize> {
        let params = self.named_parameters();
        let chosen = pattern::select(pattern, &params)?;
        chosen.iter().for_each(|&i| params[i].1.requires_grad(requires_grad));
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

/// A module that takes one tensor and gives one: what a [`Sequential`](super::Sequential) holds.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net { fc: Linear, act: Tanh }
/// impl Forward for Net {
///     fn forward(&self, x: &Tensor) -> Result<Tensor> {
///         self.act.forward(&self.fc.forward(x)?)
///     }
/// }
/// let net = Net { fc: Linear::new(3, 2), act: Tanh };
/// assert_eq!(net.forward(&Tensor::zeros([5, 3]))?.shape(), [5, 2]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub trait Forward<T: Real = f32>: Module + CloneForward<T> {
    /// The output for `x`.
    ///
    /// # Errors
    /// If `x` does not fit; the error names the layer.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>>;

    /// This layer in another element type, as a `Box<dyn Forward<U>>`; `None` where it has no such form.
    #[doc(hidden)]
    fn dtype_boxed(&self, _dtype: DType) -> Option<Box<dyn Any>> {
        None
    }
}

/// What makes `Box<dyn Forward>` cloneable; holds for everything that is `Clone`, as `#[derive(Module)]` makes it.
pub trait CloneForward<T: Real> {
    #[doc(hidden)]
    fn clone_forward(&self) -> Box<dyn Forward<T>>;
}

impl<T: Real, M: Forward<T> + Clone> CloneForward<T> for M {
    fn clone_forward(&self) -> Box<dyn Forward<T>> {
        Box::new(self.clone())
    }
}

impl<T: Real> Clone for Box<dyn Forward<T>> {
    fn clone(&self) -> Self {
        (**self).clone_forward()
    }
}

impl<T: Real> Forward<T> for Box<dyn Forward<T>> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
    fn dtype_boxed(&self, dtype: DType) -> Option<Box<dyn Any>> {
        (**self).dtype_boxed(dtype)
    }
}

/// Conversion of a module, or a part of one, to another floating type: `Linear::new(10, 1).dtype::<f64>()`.
///
/// `#[derive(Module)]` writes it for structs with a type parameter bound by [`Real`].
pub trait Dtype {
    /// The same in elements of type `U`.
    type With<U: Real>;

    /// Converts every parameter and floating buffer.
    fn dtype<U: Real>(self) -> Self::With<U>;
}

impl<T: Real> Dtype for Param<T> {
    type With<U: Real> = Param<U>;
    fn dtype<U: Real>(self) -> Param<U> {
        self.cast()
    }
}

impl<T: Real> Dtype for Buffer<T> {
    type With<U: Real> = Buffer<U>;
    fn dtype<U: Real>(self) -> Buffer<U> {
        self.cast()
    }
}

impl<F: Dtype> Dtype for Option<F> {
    type With<U: Real> = Option<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Option<F::With<U>> {
        copying(|| self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for Vec<F> {
    type With<U: Real> = Vec<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Vec<F::With<U>> {
        copying(|| self.into_iter().map(F::dtype::<U>).collect())
    }
}

impl<F: Dtype, const N: usize> Dtype for [F; N] {
    type With<U: Real> = [F::With<U>; N];
    #[track_caller]
    fn dtype<U: Real>(self) -> [F::With<U>; N] {
        copying(|| self.map(F::dtype::<U>))
    }
}

impl<F: Dtype> Dtype for BTreeMap<String, F> {
    type With<U: Real> = BTreeMap<String, F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> BTreeMap<String, F::With<U>> {
        copying(|| self.into_iter().map(|(name, m)| (name, m.dtype::<U>())).collect())
    }
}

impl<F: Dtype> Dtype for Box<F> {
    type With<U: Real> = Box<F::With<U>>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Box<F::With<U>> {
        copying(|| Box::new((*self).dtype::<U>()))
    }
}

impl<T: Real> Dtype for Box<dyn Forward<T>> {
    type With<U: Real> = Box<dyn Forward<U>>;
    /// # Panics
    /// If the layer inside is written for one element type only.
    #[track_caller]
    fn dtype<U: Real>(self) -> Box<dyn Forward<U>> {
        copying(|| match self.dtype_boxed(U::DTYPE).and_then(|b| b.downcast::<Box<dyn Forward<U>>>().ok()) {
            Some(boxed) => *boxed,
            None => {
                let name = self.type_name();
                copies::fail(format!(
                    "dtype: {name} is written for {} only; give it a type parameter (`struct {name}<T: Real>`) and put \
                     `ndnn::forward_dtype!();` into its `impl Forward<T>`",
                    T::DTYPE
                ));
                Box::new(Identity)
            }
        })
    }
}

/// Inside an `impl<T: Real> Forward<T>` of a module that has [`Dtype`]: lets `dtype` reach it inside a `Sequential`.
#[macro_export]
macro_rules! forward_dtype {
    () => {
        fn dtype_boxed(&self, dtype: $crate::DType) -> Option<Box<dyn std::any::Any>> {
            match dtype {
                $crate::DType::F32 => {
                    let layer = $crate::nn::Dtype::dtype::<f32>(self.clone());
                    Some(Box::new(Box::new(layer) as Box<dyn $crate::nn::Forward<f32>>))
                }
                $crate::DType::F64 => {
                    let layer = $crate::nn::Dtype::dtype::<f64>(self.clone());
                    Some(Box::new(Box::new(layer) as Box<dyn $crate::nn::Forward<f64>>))
                }
                _ => None,
            }
        }
    };
}

/// [`Dtype`] of layers that hold no numbers of a type: they are the same for all. `stateless_dtype!(ReLU, Tanh)`, and
/// with generics `stateless_dtype!([const N: usize] ChannelDropout<N>)`.
macro_rules! stateless_dtype {
    ($($name:ident),+ $(,)?) => { $(stateless_dtype!([] $name);)+ };
    ([$($generics:tt)*] $layer:ty) => {
        impl<$($generics)*> $crate::nn::Dtype for $layer {
            type With<U: $crate::Real> = $layer;
            fn dtype<U: $crate::Real>(self) -> $layer {
                self
            }
        }
    };
}
pub(crate) use stateless_dtype;

// ------------------------------------------------------------------------------------------------- fields of a module

// An unknown type is no field; that it might have been a module is said with it.
#[diagnostic::do_not_recommend]
impl<M: Module + Clone> Field for M {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        members.child(name, self);
    }
    fn show_mut<'a>(&'a mut self, members: &mut MembersMut<'a>) {
        members.child(self);
    }
    fn copy(&self) -> Self {
        self.clone()
    }
}

impl<T: Real> Field for Param<T> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        members.params.push((name.to_string(), self.into()));
    }
    fn show_mut<'a>(&'a mut self, _: &mut MembersMut<'a>) {}
    fn copy(&self) -> Self {
        self.deep_clone()
    }
}

impl<T: Element> Field for Buffer<T> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        members.buffers.push((name.to_string(), self.into()));
    }
    fn show_mut<'a>(&'a mut self, _: &mut MembersMut<'a>) {}
    fn copy(&self) -> Self {
        self.deep_clone()
    }
}

impl Field for Mode {
    fn show<'a>(&'a self, _: &str, members: &mut Members<'a>) {
        members.training = Some(self.training);
    }
    fn show_mut<'a>(&'a mut self, members: &mut MembersMut<'a>) {
        members.modes.push(self);
    }
    fn copy(&self) -> Self {
        *self
    }
}

impl Mode {
    pub(crate) fn set(&mut self, training: bool) {
        self.training = training;
    }
}

impl<F: Field> Field for Option<F> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        if let Some(field) = self {
            field.show(name, members);
        }
    }
    fn show_mut<'a>(&'a mut self, members: &mut MembersMut<'a>) {
        if let Some(field) = self {
            field.show_mut(members);
        }
    }
    fn copy(&self) -> Self {
        self.as_ref().map(F::copy)
    }
}

/// Plain data: nothing to learn, to save or to switch.
macro_rules! plain {
    ($([$($generics:tt)*] $t:ty),* $(,)?) => {$(
        impl<$($generics)*> Field for $t {
            fn show<'a>(&'a self, _: &str, _: &mut Members<'a>) {}
            fn show_mut<'a>(&'a mut self, _: &mut MembersMut<'a>) {}
            fn copy(&self) -> Self {
                self.clone()
            }
        }
    )*};
}
plain! {
    [] crate::functional::Reduction,
    [] bool, [] char, [] u8, [] u16, [] u32, [] u64, [] usize, [] i8, [] i16, [] i32, [] i64, [] isize, [] f32, [] f64,
    [] String, [] &'static str, [] Vec<usize>, [] Vec<isize>, [] Vec<i64>, [] Vec<f32>, [] Vec<f64>, [] Vec<bool>, [] Vec<String>,
    [const N: usize] [usize; N], [const N: usize] [isize; N], [const N: usize] [f32; N], [const N: usize] [f64; N],
    [const N: usize] [bool; N], [] (usize, usize), [] (f32, f32), [] (f64, f64), [P] std::marker::PhantomData<P>,
}

// ------------------------------------------------------------------------------------------------- running one layer

/// Runs a layer's forward: an error in it names the layer, and a [`summary`](super::summary) under way sees the output.
pub fn run<M: Module, R: super::summary::Output>(module: &M, forward: impl FnOnce() -> Result<R>) -> Result<R> {
    super::summary::observe(module, || forward().map_err(|e| e.within(repr::line(module))))
}

/// What a pattern or a name that fits nothing gives.
pub(crate) fn no_such(op: &str, message: String) -> Error {
    Error::new(ErrorKind::State, op, message)
}
