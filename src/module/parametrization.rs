//! [`Parametrization`]: parameters that are computed from others.

use std::{any::Any, sync::Arc};

use super::{AnyParam, Module, Param, copying, field::Members, param::Source, scope::ByAddress, walk};
use crate::{
    Error, Real, Result, Tensor,
    state::StateDict,
    sync::{Scoped, during},
    tensor::{grad_enabled, no_grad, unerase},
};

/// A module that computes a parameter from other tensors, for
/// [`register_parametrization`](crate::nn::utils::parametrize::register_parametrization).
///
/// ```
/// use ndnn::{nn::utils::parametrize::{Parametrization, register_parametrization}, prelude::*};
/// #[derive(Module)]
/// struct Symmetric;
/// impl Parametrization for Symmetric {
///     fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
///         originals[0].triu(0)?.try_add(&originals[0].triu(1)?.transpose(0, 1)?)
///     }
/// }
/// let layer = Linear::new(3, 3);
/// register_parametrization(&layer.weight, Symmetric)?;
/// assert_eq!(layer.weight.tensor(), layer.weight.tensor().transpose(0, 1)?);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub trait Parametrization<T: Real = f32>: Module + CloneParametrization<T> {
    /// Computes the parameter from its originals: one tensor, or as many as
    /// [`right_inverse`](Parametrization::right_inverse) returns.
    ///
    /// # Errors
    /// If they do not match.
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>>;

    /// Originals from which [`forward`](Parametrization::forward) computes these values, for the initial values and for
    /// assignments. By default `None`, which means that the values themselves become the original.
    ///
    /// # Errors
    /// If there are no such originals.
    fn right_inverse(&self, _values: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        Ok(None)
    }

    /// The suffixes that older files append to the parameter's name for each original: `["_g", "_v"]` for a weight
    /// norm.
    fn old_names(&self) -> &[&str] {
        &[]
    }

    /// The suffixes of the originals' names if they are shown among the layer's own members, as PyTorch's older utilities do
    /// (`weight_g` and `weight_v` for `["_g", "_v"]`), and not under `parametrizations`. The names of this module's own
    /// members are then appended to the parameter's, too. By default `None`.
    ///
    /// Such a parametrization is the only one of its parameter, and is not printed.
    fn beside(&self) -> Option<&[&str]> {
        None
    }
}

/// Makes a parametrization cloneable together with its model; implemented for everything that is `Clone`.
pub trait CloneParametrization<T: Real> {
    #[doc(hidden)]
    fn clone_parametrization(&self) -> Arc<dyn Parametrization<T>>;
}

impl<T: Real, P: Parametrization<T> + Clone> CloneParametrization<T> for P {
    fn clone_parametrization(&self) -> Arc<dyn Parametrization<T>> {
        Arc::new(self.copied())
    }
}

/// The originals of a parameter, and the parametrizations that are applied to them one after another.
pub(crate) struct ParametrizationList<T: Real> {
    originals: Vec<Param<T>>,
    steps: Vec<Arc<dyn Parametrization<T>>>,
    shape: Vec<usize>,
}

impl<T: Real> Module for ParametrizationList<T> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        for (i, original) in self.originals.iter().enumerate() {
            members.field(&self.name(i), original);
        }
        for (i, step) in self.steps.iter().enumerate() {
            members.child(i.to_string(), &**step);
        }
    }

    fn type_name(&self) -> String {
        "ParametrizationList".into()
    }

    fn upgrade(&self, prefix: &str, state: &mut StateDict) {
        rename(prefix, self.steps[0].old_names(), &|i| self.name(i), state);
    }
}

/// Renames the entries of the originals that an older file has with these suffixes behind the parameter's name, if it has
/// all of them.
fn rename(prefix: &str, suffixes: &[&str], name_of: &dyn Fn(usize) -> String, state: &mut StateDict) {
    let Some((outer, name)) = prefix.trim_end_matches('.').rsplit_once("parametrizations.") else { return };
    let mut renamed = Vec::new();
    for (i, suffix) in suffixes.iter().enumerate() {
        let (old, new) = (format!("{outer}{name}{suffix}"), format!("{prefix}{}", name_of(i)));
        if state.get(&old).is_none() || state.get(&new).is_some() {
            return;
        }
        renamed.push((old, new));
    }
    for (old, new) in renamed {
        let tensor = state.remove(&old).expect("looked up above");
        state.insert(new, tensor);
    }
}

/// A list whose members are shown among those of the layer, under names that begin with the parameter's.
pub(super) struct Beside<T: Real> {
    name: String,
    list: Arc<ParametrizationList<T>>,
}

impl<T: Real> Module for Beside<T> {
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        let [step] = &*self.list.steps else { unreachable!("it is the only one") };
        for (original, suffix) in self.list.originals.iter().zip(step.beside().unwrap_or_default()) {
            members.field(&format!("{}{suffix}", self.name), original);
        }
        members.extend(&self.name, walk::members(&**step));
    }

    fn type_name(&self) -> String {
        self.list.steps()
    }

    fn upgrade(&self, prefix: &str, state: &mut StateDict) {
        self.list.steps[0].upgrade(&format!("{prefix}{}", self.name), state);
    }
}

impl<T: Real> ParametrizationList<T> {
    /// Shows the parameter with this name.
    pub(super) fn show(self: Arc<Self>, name: &str, members: &mut Members<'_>) {
        match self.is_beside() {
            true => members.beside.push(Arc::new(Beside { name: name.to_string(), list: self })),
            false => members.parametrized.push((name.to_string(), self)),
        }
    }

    fn is_beside(&self) -> bool {
        self.steps[0].beside().is_some()
    }

    /// The parametrization, if it is of this type and is shown among the layer's members.
    fn step_beside<P: 'static>(&self) -> Option<&P> {
        let step: &dyn Any = &*self.steps[0];
        step.downcast_ref().filter(|_| self.is_beside())
    }

    /// All parameters from which the values are computed: the originals, and those of the parametrizations.
    pub(super) fn parameters(&self) -> Vec<AnyParam> {
        walk::parameters(self)
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The names of the parametrizations, for a message.
    pub(super) fn steps(&self) -> String {
        let mut names = self.steps[0].type_name();
        for step in &self.steps[1..] {
            names += " and ";
            names += &step.type_name();
        }
        names
    }

    fn is_there(&self, op: &str) -> Error {
        Error::state(op, format!("{} computes the parameter already; remove it first", self.steps()))
    }

    fn name(&self, original: usize) -> String {
        if self.originals.len() == 1 { "original".into() } else { format!("original{original}") }
    }

    /// The parameter's values, from which gradients flow to the originals.
    pub(super) fn tensor(&self) -> Result<Tensor<T>> {
        let originals: Vec<Tensor<T>> = self.originals.iter().map(Param::tensor).collect();
        let mut values = self.steps[0].forward(&originals)?;
        for step in &self.steps[1..] {
            values = step.forward(&[values])?;
        }
        Ok(values)
    }

    /// Sets the originals so that they give these values.
    pub(super) fn set(&self, values: &Tensor<T>) -> Result<()> {
        let mut values = vec![values.detach()];
        for step in self.steps.iter().rev() {
            values = no_grad(|| step.right_inverse(&values[0]))?.ok_or_else(|| {
                let what = "has no right inverse; set what it is computed from, which named_parameters() lists";
                Error::state("set", format!("the parameter is computed by {}, which {what}", step.type_name()))
            })?;
        }
        self.originals.iter().zip(&values).try_for_each(|(original, values)| original.set(values))
    }

    /// A copy that shares nothing with this one.
    pub(super) fn copied(&self) -> Self {
        let _copying = copying();
        ParametrizationList {
            originals: self.originals.iter().map(Param::deep_clone).collect(),
            steps: self.steps.iter().map(|step| step.clone_parametrization()).collect(),
            shape: self.shape.clone(),
        }
    }
}

/// What each list computed, without and with gradients.
type Values = [ByAddress<Arc<dyn Module>>; 2];

thread_local! {
    static CACHE: Scoped<Values> = const { Scoped::new() };
}

/// Runs `f`, in which each parameter is computed at most once on this thread.
pub(crate) fn cached<R>(f: impl FnOnce() -> R) -> R {
    if CACHE.with(Scoped::is_some) { f() } else { during(&CACHE, Values::default(), f).0 }
}

/// Runs `f`, for which other tensors replace parameters: what was computed before does not hold in it.
pub(super) fn anew<R>(f: impl FnOnce() -> R) -> R {
    if CACHE.with(Scoped::is_some) { during(&CACHE, Values::default(), f).0 } else { f() }
}

/// The parameter's values, from which gradients flow to the originals.
pub(super) fn values<T: Real>(list: Arc<ParametrizationList<T>>) -> Result<Tensor<T>> {
    if !CACHE.with(Scoped::is_some) {
        return list.tensor();
    }
    let (address, with_grad) = (Arc::as_ptr(&list) as *const () as usize, usize::from(grad_enabled()));
    let known = CACHE.with(|cache| cache.with(|values| values.as_ref()?[with_grad].get(address)));
    if let Some(tensor) = known.and_then(unerase) {
        return Ok(tensor);
    }
    let tensor = list.tensor()?;
    CACHE.with(|cache| cache.with(|values| values.as_mut()?[with_grad].set(address, list, tensor.clone().into())));
    Ok(tensor)
}

/// Whether `module` shows a parametrization of this type among the names of its own parameters.
pub(crate) fn has_beside<P: 'static, T: Real>(module: &dyn Module) -> bool {
    walk::members(module).beside.iter().any(|beside| {
        let beside: &dyn Any = &**beside;
        beside.downcast_ref::<Beside<T>>().is_some_and(|beside| beside.list.step_beside::<P>().is_some())
    })
}

impl<T: Real> Param<T> {
    /// What `f` returns for the parametrization of this type, if one computes the parameter and is shown among the layer's members.
    pub(crate) fn beside<P: 'static, R>(&self, f: impl FnOnce(&P) -> R) -> Option<R> {
        match self.source() {
            Source::Computed(list) => list.step_beside().map(f),
            _ => None,
        }
    }

    /// Whether a parametrization computes the values, and is shown under `parametrizations`.
    pub(crate) fn has_parametrizations(&self) -> bool {
        matches!(self.source(), Source::Computed(list) if !list.is_beside())
    }

    /// # Errors
    /// If a parametrization computes it.
    pub(crate) fn check_unparametrized(&self, op: &str) -> Result<()> {
        match self.source() {
            Source::Computed(list) => Err(list.is_there(op)),
            _ => Ok(()),
        }
    }

    /// Adds a parametrization that computes the values from now on, after the existing ones.
    pub(crate) fn parametrize(&self, op: &str, step: Arc<dyn Parametrization<T>>) -> Result<()> {
        let (beside, requires_grad) = (step.beside().is_some(), self.requires_grad());
        let list = match self.source() {
            Source::Lazy(_) => {
                let why = "the parameter has no values yet; run a batch through the model first";
                return Err(Error::state(op, why));
            }
            Source::Computed(list) if beside || list.is_beside() => return Err(list.is_there(op)),
            Source::Computed(list) => ParametrizationList {
                originals: list.originals.clone(),
                steps: list.steps.iter().cloned().chain([step.clone()]).collect(),
                shape: list.shape.clone(),
            },
            Source::Own(tensor) => {
                let values = tensor.into_detached();
                let shape = values.shape().to_vec();
                let originals = no_grad(|| step.right_inverse(&values))?.unwrap_or_else(|| vec![values]);
                let original = |values: Tensor<T>| {
                    let original = Param::new(values);
                    original.set_requires_grad(requires_grad);
                    original
                };
                let originals = originals.into_iter().map(original).collect();
                ParametrizationList { originals, steps: vec![step.clone()], shape }
            }
        };
        // PyTorch's older utilities compute nothing before the first forward pass, and a power iteration is seen.
        let made = if beside { list.shape.clone() } else { no_grad(|| list.tensor())?.shape().to_vec() };
        if made != list.shape {
            let what = format!("the parameter is {:?}, {} computes {made:?}", list.shape, step.type_name());
            return Err(Error::shape(op, what));
        }
        self.set_source(Source::Computed(Arc::new(list)), requires_grad);
        Ok(())
    }

    /// Freezes what a parametrization computes the parameter from, but not what the parametrization learns itself.
    pub(crate) fn freeze_originals(&self) {
        if let Source::Computed(list) = self.source() {
            list.originals.iter().for_each(|original| original.set_requires_grad(false));
        }
    }

    /// Turns it into an ordinary parameter again, with its current values or those of the original.
    pub(crate) fn unparametrize(&self, op: &str, leave_parametrized: bool) -> Result<()> {
        let Source::Computed(list) = self.source() else {
            return Err(Error::state(op, "the parameter has no parametrization"));
        };
        let values = match (leave_parametrized, &*list.originals) {
            (true, _) => no_grad(|| list.tensor())?,
            (false, [original]) => original.detach(),
            (false, originals) => {
                let what = format!("it is computed from {} tensors, none of which is the parameter", originals.len());
                return Err(Error::state(op, what));
            }
        };
        self.set_source(Source::own(values), self.requires_grad());
        Ok(())
    }
}
