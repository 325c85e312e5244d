//! [`Rule`]: what an optimizer does at a step to all its parameters.

use super::{options::GroupOptions, state::StateReader};
use crate::{Result, module::AnyParam, state::StateDict};

/// A parameter in an optimizer.
pub struct Member {
    pub(super) name: String,
    pub(super) param: AnyParam,
    pub(super) group: usize,
    /// Whether any step found a gradient.
    pub(super) stepped: bool,
}

impl Member {
    /// Its name in the model or list that the optimizer was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameter.
    pub fn param(&self) -> &AnyParam {
        &self.param
    }

    /// The number of its group.
    pub fn group(&self) -> usize {
        self.group
    }
}

/// Computes the loss and the gradients anew; see [`Optimizer::step_with`](super::Optimizer::step_with).
pub type Closure<'a> = dyn FnMut() -> Result<f64> + 'a;

/// What an optimizer does at a step to all parameters of all groups, and what it remembers meanwhile.
///
/// Most optimizers treat each parameter by itself: they are a [`ParamRule`](super::ParamRule), of which
/// [`Each`](super::Each) makes a `Rule`. What needs all of them at once (L-BFGS, a line search, clipping by the norm of all
/// gradients) is a `Rule` of its own.
pub trait Rule: Sized + Send + Sync {
    /// The options of a group.
    type Options: GroupOptions;

    /// The rule for these parameters, before its first step.
    ///
    /// # Errors
    /// If there is a parameter that it cannot serve.
    fn new(members: &[Member]) -> Result<Self>;

    /// Changes the parameters by their gradients, of which there is at least one; `groups` are the options by the members'
    /// [`group`](Member::group).
    ///
    /// # Errors
    /// If the rule needs the loss: see [`step_with`](Rule::step_with).
    fn step(&mut self, members: &[Member], groups: &[Self::Options]) -> Result<()>;

    /// As [`step`](Rule::step), with a closure that computes loss and gradients for the parameters as they are; by default
    /// it is called once.
    ///
    /// # Errors
    /// Those of the closure and of the step.
    fn step_with(&mut self, members: &[Member], groups: &[Self::Options], closure: &mut Closure<'_>) -> Result<()> {
        closure()?;
        self.step(members, groups)
    }

    /// Adds what the rule remembers to a state_dict: of a parameter under `state.<parameter>.`, else under `rule.`.
    fn save(&self, members: &[Member], groups: &[Self::Options], state: &mut StateDict);

    /// The rule as [`save`](Rule::save) left it; `state` notes what is missing or does not fit, and then refuses all.
    fn load(members: &[Member], groups: &[Self::Options], state: &mut StateReader<'_>) -> Self;
}
