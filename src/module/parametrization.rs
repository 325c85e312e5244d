//! [`Parametrization`]: parameters that are computed from others.

use std::sync::Arc;

use super::{Module, Param, copying, field::Members, param::Source};
use crate::{Error, Real, Result, Tensor, state::StateDict, tensor::no_grad};

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
        let Some((outer, name)) = prefix.trim_end_matches('.').rsplit_once("parametrizations.") else { return };
        let old = self.steps[0].old_names().iter().map(|suffix| format!("{outer}{name}{suffix}"));
        let renamed: Vec<_> = old.enumerate().map(|(i, old)| (old, format!("{prefix}{}", self.name(i)))).collect();
        if renamed.iter().all(|(old, new)| state.get(old).is_some() && state.get(new).is_none()) {
            for (old, new) in renamed {
                let tensor = state.remove(&old).expect("looked up above");
                state.insert(new, tensor);
            }
        }
    }
}

impl<T: Real> ParametrizationList<T> {
    pub(super) fn originals(&self) -> &[Param<T>] {
        &self.originals
    }

    pub(super) fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The names of the parametrizations, for a message.
    pub(super) fn steps(&self) -> String {
        self.steps.iter().map(|step| step.type_name()).collect::<Vec<_>>().join(" and ")
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
        copying(|| ParametrizationList {
            originals: self.originals.iter().map(Param::deep_clone).collect(),
            steps: self.steps.iter().map(|step| step.clone_parametrization()).collect(),
            shape: self.shape.clone(),
        })
    }
}

impl<T: Real> Param<T> {
    /// Adds a parametrization that computes the values from now on, after the existing ones.
    pub(crate) fn parametrize(&self, step: Arc<dyn Parametrization<T>>) -> Result<()> {
        let op = "register_parametrization";
        let requires_grad = self.requires_grad();
        let list = match self.source() {
            Source::Lazy(_) => {
                let why = "the parameter has no values yet; run a batch through the model first";
                return Err(Error::state(op, why));
            }
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
        let made = no_grad(|| list.tensor())?;
        if made.shape() != list.shape {
            let what = format!("the parameter is {:?}, {} computes {:?}", list.shape, step.type_name(), made.shape());
            return Err(Error::shape(op, what));
        }
        self.set_source(Source::Computed(Arc::new(list)), requires_grad);
        Ok(())
    }

    /// Turns it into an ordinary parameter again, with its current values or those of the original.
    pub(crate) fn unparametrize(&self, leave_parametrized: bool) -> Result<()> {
        let op = "remove_parametrizations";
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
