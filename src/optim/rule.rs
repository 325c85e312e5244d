//! [`Rule`]: what an optimizer does to all its parameters in a step.

use super::{options::GroupOptions, state::StateReader};
use crate::{Result, module::AnyParam, state::StateDict};

/// A parameter in an optimizer.
pub struct Member {
    pub(super) name: String,
    pub(super) param: AnyParam,
    pub(super) group: usize,
    /// Whether it had a gradient in any step.
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

/// Computes the loss and new gradients; see [`Optimizer::step_with`](super::Optimizer::step_with).
pub type Closure<'a> = dyn FnMut() -> Result<f64> + 'a;

/// What an optimizer does to all parameters of all groups in a step, and the state that it keeps.
///
/// Most optimizers treat each parameter independently: they implement [`ParamRule`](super::ParamRule), which
/// [`Each`](super::Each) turns into a `Rule`. Optimizers that need all parameters at once (L-BFGS, a line search,
/// clipping by the norm of all gradients) implement `Rule`.
pub trait Rule: Sized + Send + Sync {
    /// The options of a group.
    type Options: GroupOptions;

    /// The rule for these parameters, before its first step.
    ///
    /// # Errors
    /// If it does not support one of the parameters.
    fn new(members: &[Member]) -> Result<Self>;

    /// Updates the parameters by their gradients, of which there is at least one; `groups` holds the options, indexed
    /// by the members' [`group`](Member::group).
    ///
    /// # Errors
    /// If the rule needs the loss: see [`step_with`](Rule::step_with).
    fn step(&mut self, members: &[Member], groups: &[Self::Options]) -> Result<()>;

    /// As [`step`](Rule::step), with a closure that computes loss and gradients for the current parameters; by default
    /// it is called once.
    ///
    /// # Errors
    /// Those of the closure and of the step.
    fn step_with(&mut self, members: &[Member], groups: &[Self::Options], closure: &mut Closure<'_>) -> Result<()> {
        closure()?;
        self.step(members, groups)
    }

    /// Adds the rule's state to a state_dict: under `state.<parameter>.` if it belongs to a parameter, else under
    /// `rule.`.
    fn save(&self, members: &[Member], groups: &[Self::Options], state: &mut StateDict);

    /// The rule as [`save`](Rule::save) saved it. `state` records what is missing or does not match; if there is
    /// anything, loading fails.
    fn load(members: &[Member], groups: &[Self::Options], state: &mut StateReader<'_>) -> Self;
}
