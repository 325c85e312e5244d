//! What can be a field of a module, and how its members are shown.

use std::sync::Arc;

use super::{
    Module,
    any::{AnyBuffer, AnyParam},
    buffer::Buffer,
    mode::Mode,
    param::{Param, Source},
};
use crate::{
    functional as F,
    number::{Element, Real},
};

/// The direct members of a module, each with its name, in the order of declaration.
#[derive(Default)]
pub struct Members<'a> {
    pub(crate) params: Vec<(String, AnyParam)>,
    pub(crate) buffers: Vec<(String, AnyBuffer)>,
    pub(crate) children: Vec<(String, &'a dyn Module)>,
    /// The modules that compute parameters, by the name of the parameter.
    pub(crate) parametrized: Vec<(String, Arc<dyn Module>)>,
    /// Those whose members have names among the module's own, which are complete.
    pub(crate) beside: Vec<Arc<dyn Module>>,
    pub(crate) modes: Vec<&'a Mode>,
}

impl<'a> Members<'a> {
    /// Shows one field.
    pub fn field(&mut self, name: &str, field: &'a (impl Field + ?Sized)) {
        field.show(name, self);
    }

    /// Adds what another module shows itself, under names that begin with `prefix`.
    pub(super) fn extend(&mut self, prefix: &str, other: Members<'a>) {
        for (name, param) in other.params {
            self.params.push((format!("{prefix}{name}"), param));
        }
        for (name, buffer) in other.buffers {
            self.buffers.push((format!("{prefix}{name}"), buffer));
        }
        self.modes.extend(other.modes);
    }

    /// Shows a child.
    pub fn child(&mut self, name: impl Into<String>, child: &'a dyn Module) {
        self.children.push((name.into(), child.inside().unwrap_or(child)));
    }
}

/// What can be a field of a `#[derive(Module)]` struct: parameters, buffers, modules, and plain data, which is skipped.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is neither a module, a parameter, a buffer nor plain data",
    label = "#[derive(Module)] does not know this type",
    note = "derive `Module` for `{Self}` or for what it holds, or add `#[module(skip)]` to the field if it holds nothing to learn or to save",
    note = "a type parameter of a module needs `Clone` too: `M: Forward + Clone`, `M: Module + Clone`"
)]
pub trait Field {
    /// Shows the members of the field, under this name.
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>);
    /// A copy that shares nothing with the original.
    fn copy(&self) -> Self
    where
        Self: Sized;
    /// The module that the field is, so that it can be changed or replaced.
    fn module_mut(&mut self) -> Option<&mut dyn Module> {
        None
    }
}

// For an unknown type the error is that it is not a field; the note says that it could be a module.
#[diagnostic::do_not_recommend]
impl<M: Module + Clone> Field for M {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        members.child(name, self);
    }
    fn copy(&self) -> Self {
        self.copied()
    }
    fn module_mut(&mut self) -> Option<&mut dyn Module> {
        Some(self)
    }
}

impl<T: Real> Field for Param<T> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        match self.source() {
            Source::Computed(list) => list.show(name, members),
            _ => members.params.push((name.to_string(), self.into())),
        }
    }
    fn copy(&self) -> Self {
        self.deep_clone()
    }
}

impl<T: Element> Field for Buffer<T> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        members.buffers.push((name.to_string(), self.into()));
    }
    fn copy(&self) -> Self {
        self.deep_clone()
    }
}

impl<F: Field> Field for Option<F> {
    fn show<'a>(&'a self, name: &str, members: &mut Members<'a>) {
        if let Some(field) = self {
            field.show(name, members);
        }
    }
    fn copy(&self) -> Self {
        self.as_ref().map(F::copy)
    }
    fn module_mut(&mut self) -> Option<&mut dyn Module> {
        self.as_mut()?.module_mut()
    }
}

/// Plain data: nothing to learn, to save or to switch.
macro_rules! plain {
    ($([$($generics:tt)*] $t:ty),* $(,)?) => {$(
        impl<$($generics)*> Field for $t {
            fn show<'a>(&'a self, _: &str, _: &mut Members<'a>) {}
            fn copy(&self) -> Self {
                self.clone()
            }
        }
    )*};
}
plain! {
    [] F::BatchNormOptions,
    [] F::CosineSimilarityOptions,
    [] F::EmbeddingBagOptions,
    [] F::EmbeddingOptions,
    [] F::FoldOptions,
    [] F::GELUApproximate,
    [] F::InterpolateOptions,
    [] F::KLDivReduction,
    [] F::LocalResponseNormOptions,
    [] F::PadOptions,
    [] F::PaddingMode,
    [] F::PairwiseDistanceOptions,
    [] F::PyNumber,
    [] F::RecurrentOptions,
    [] F::Reduction,
    [] F::Resize,
    [] F::TripletMarginWithDistanceLossOptions,
    [const N: usize] F::AdaptiveSize<N>,
    [const N: usize] F::AvgPoolOptions<N>,
    [const N: usize] F::ConvOptions<N>,
    [const N: usize] F::ConvTransposeOptions<N>,
    [const N: usize] F::Dims<N>,
    [const N: usize] F::FractionalSize<N>,
    [const N: usize] F::LPPoolOptions<N>,
    [const N: usize] F::MaxPoolOptions<N>,
    [const N: usize] F::MaxUnpoolOptions<N>,
    [const N: usize] F::Padding<N>,
    [const N: usize] F::Pads<N>,
    [const N: usize] F::PoolStride<N>,
    [] bool, [] char, [] u8, [] u16, [] u32, [] u64, [] usize, [] i8, [] i16, [] i32, [] i64, [] isize, [] f32, [] f64,
    [] String, [] &'static str, [] Vec<usize>, [] Vec<isize>, [] Vec<i64>, [] Vec<f32>, [] Vec<f64>, [] Vec<bool>, [] Vec<String>,
    [const N: usize] [usize; N], [const N: usize] [isize; N], [const N: usize] [f32; N], [const N: usize] [f64; N],
    [const N: usize] [bool; N], [] (usize, usize), [] (f32, f32), [] (f64, f64), [P] std::marker::PhantomData<P>,
}
