//! [`Optimizer`], and [`RuleOptimizer`], the optimizer of a rule: parameters and groups with their own options.

use std::collections::HashSet;

use super::{
    options::{GroupOptions, LR_RANGE, at_least_0, refused},
    rule::{Closure, Member, Rule},
    state::StateReader,
};
use crate::{
    Error, Result,
    error::{ErrorKind, listed, or_panic},
    module::{AnyParam, Parameters},
    number::Real,
    state::{StateDict, pattern},
    tensor::Tensor,
};

/// Updates parameters by their gradients.
pub trait Optimizer {
    /// Updates every parameter that has a gradient.
    ///
    /// # Errors
    /// If no parameter has one, a parametrization that was registered since computes a parameter, an option of a group is
    /// outside its range, or the options contradict each other; then nothing is changed.
    fn step(&mut self) -> Result<()>;

    /// As [`step`](Optimizer::step), with a closure that computes the loss and the gradients; returns the loss before the
    /// step.
    ///
    /// Some optimizers (L-BFGS) call it several times per step, others once.
    ///
    /// ```
    /// use ndnn::{functional as F, optim, prelude::*};
    /// let model = Linear::new(3, 1);
    /// let (x, y) = (Tensor::<f32>::ones([8, 3]), Tensor::<f32>::zeros([8, 1]));
    /// let mut sgd = optim::SGD::new(&model, 0.1);
    /// let loss = sgd.step_with(|| {
    ///     model.zero_grad();
    ///     let loss = F::mse_loss(&model.forward(&x)?, &y, Default::default())?;
    ///     loss.backward()?;
    ///     Ok(loss)
    /// })?;
    /// # assert!(loss.item()? > 0.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of the closure, and as [`step`](Optimizer::step).
    fn step_with<T: Real>(&mut self, mut closure: impl FnMut() -> Result<Tensor<T>>) -> Result<Tensor<T>>
    where
        Self: Sized,
    {
        let mut first = None;
        self.step_closure(&mut || {
            let loss = closure()?.detach();
            let value = loss.item()?.as_f64();
            first.get_or_insert(loss);
            Ok(value)
        })?;
        first.ok_or_else(|| Error::new(ErrorKind::Graph, "step_with", "the optimizer did not ask for the loss"))
    }

    /// The part of [`step_with`](Optimizer::step_with) that does not depend on the type; the closure returns the loss
    /// as a number.
    ///
    /// # Errors
    /// Those of the closure, and as [`step`](Optimizer::step).
    fn step_closure(&mut self, closure: &mut Closure<'_>) -> Result<()>;

    /// Clears the gradient of every parameter.
    fn zero_grad(&self);

    /// The learning rate of the first group.
    fn lr(&self) -> f64;

    /// Sets the learning rate of every group.
    ///
    /// # Panics
    /// If it is negative, infinite or NaN.
    #[track_caller]
    fn set_lr(&mut self, lr: f64);

    /// The number of groups.
    fn group_count(&self) -> usize;

    /// The names of the options that each group has, such as `lr` and `betas.0`.
    fn option_names(&self) -> Vec<String>;

    /// An option of a group, by name; see [`GroupOptions`].
    ///
    /// # Errors
    /// If there is no such group or option.
    fn option(&self, group: usize, name: &str) -> Result<f64>;

    /// Sets an option of a group, by name, as a schedule does.
    ///
    /// ```
    /// use ndnn::{optim, prelude::*};
    /// let mut sgd = optim::SGD::new(&Linear::new(3, 1), 0.1).momentum(0.9);
    /// for group in 0..sgd.group_count() {
    ///     sgd.set_option(group, "momentum", 0.95)?;
    /// }
    /// assert_eq!(sgd.option(0, "momentum")?, 0.95);
    /// let error = sgd.option(0, "betas.0").unwrap_err().to_string();
    /// assert!(error.ends_with("there are lr, momentum, dampening, weight_decay, nesterov, maximize"));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such group or option, or the value is out of its range; then nothing is changed.
    fn set_option(&mut self, group: usize, name: &str, value: f64) -> Result<()>;

    /// The state and the options of the optimizer, to be saved together with the model: training resumes from it with
    /// the same bits.
    ///
    /// | name | what |
    /// |---|---|
    /// | `state.<parameter>.<slot>` | what is remembered of a parameter, under PyTorch's names: `state.fc1.weight.exp_avg` |
    /// | `state.<parameter>.step` | how many steps it has had, i64 |
    /// | `state.<parameter>.group` | the number of its group, i64 |
    /// | `groups.<number>.<option>` | an option as an f64: `groups.0.lr`, `groups.0.betas.1` |
    ///
    /// ```
    /// use ndnn::{io::safetensors, optim, prelude::*};
    /// let model = Linear::new(3, 1);
    /// let mut adam = optim::Adam::new(&model, 1e-3);
    /// model.forward(&Tensor::ones([8, 3]))?.sum().backward()?;
    /// adam.step()?;
    /// let bytes = safetensors::to_bytes(&adam.state_dict()?)?;
    ///
    /// let mut resumed = optim::Adam::new(&model, 1.0);
    /// resumed.load_state_dict(&safetensors::from_bytes(&bytes)?)?;
    /// assert_eq!(resumed.lr(), 1e-3);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If two parameters have the same name.
    fn state_dict(&self) -> Result<StateDict>;

    /// Loads a state_dict of an optimizer of the same kind, with the same parameters and groups; numbers are converted
    /// to the types of the parameters.
    ///
    /// # Errors
    /// If anything is missing, unexpected or does not match: the error names everything, and nothing is changed.
    fn load_state_dict(&mut self, state: &StateDict) -> Result<()>;
}

/// Number of steps after which an optimizer reports which parameters had no gradient in any of them.
const FIRST_STEPS: usize = 3;

/// The optimizer of a [`Rule`]: [`SGD`](super::SGD), [`Adam`](super::Adam), and all others.
#[must_use = "an optimizer does something when it is stepped; a setter returns it changed"]
pub struct RuleOptimizer<R: Rule> {
    members: Vec<Member>,
    groups: Vec<R::Options>,
    rule: R,
    /// How many steps are left until it reports which parameters had no gradient; 0 if it has done so or should not.
    until_told: usize,
}

/// The parameters, each once.
///
/// # Panics
/// If a parameter has no values yet.
#[track_caller]
fn members(params: impl Parameters) -> Vec<Member> {
    let mut known = HashSet::new();
    let named = params.named();
    for (name, param) in &named {
        assert!(
            !param.is_lazy(),
            "an optimizer needs parameters that have values; `{name}` gets its shape from the first input: run a batch \
             through the model first"
        );
    }
    let once = named.into_iter().filter(|(_, param)| known.insert(param.address()));
    once.map(|(name, param)| Member { name, param, group: 0, stepped: false }).collect()
}

/// # Errors
/// If no parameter has a gradient.
fn any_gradient(members: &[Member]) -> Result<()> {
    if members.iter().any(|m| m.param.has_grad()) {
        return Ok(());
    }
    let what = format!(
        "none of the {} parameters has a gradient; call backward() on the loss first, and check that the optimizer was \
         made from the model that computed it",
        members.len()
    );
    Err(Error::new(ErrorKind::Graph, "step", what))
}

/// # Errors
/// If two parameters have the same name.
fn unique(op: &str, members: &[Member]) -> Result<()> {
    let mut known = HashSet::new();
    match members.iter().find(|m| !known.insert(m.name.as_str())) {
        None => Ok(()),
        Some(twice) => {
            let what = format!(
                "two parameters are named `{}`; make the optimizer from a list of pairs (name, parameter) whose names differ",
                twice.name
            );
            Err(Error::new(ErrorKind::State, op, what))
        }
    }
}

impl<R: Rule> RuleOptimizer<R> {
    /// An optimizer for these parameters, all in one group. A parameter that is listed twice is updated once.
    ///
    /// # Panics
    /// If there are no parameters, one has no values yet (a lazy layer before its first input), or the rule does not
    /// support one of them.
    #[track_caller]
    pub fn with_options(params: impl Parameters, options: R::Options) -> Self {
        let members = members(params);
        assert!(!members.is_empty(), "an optimizer needs parameters; the model or list that it was given has none");
        let rule = or_panic(R::new(&members));
        RuleOptimizer { members, groups: vec![options], rule, until_told: FIRST_STEPS }
    }

    /// Changes the options of the parameters whose names match a pattern such as `*.bias` or `head.*`.
    ///
    /// `change` receives the current options of these parameters, so that calls compose. If only some parameters of a
    /// group match, they move into a new group after the others.
    ///
    /// ```
    /// use ndnn::{optim, prelude::*};
    /// let model = sequential![Linear::new(3, 4), Linear::new(4, 1)];
    /// let adam = optim::AdamW::new(&model, 1e-3)
    ///     .group("1.*", |g| g.lr(1e-2))?
    ///     .group("*.bias", |g| g.weight_decay(0.0))?;
    /// let options = |group: usize| (adam.groups()[group].lr, adam.groups()[group].weight_decay);
    /// assert_eq!((adam.group_names(0), options(0)), (vec!["0.weight"], (1e-3, 0.01)));
    /// assert_eq!((adam.group_names(1), options(1)), (vec!["1.weight"], (1e-2, 0.01)));
    /// assert_eq!((adam.group_names(2), options(2)), (vec!["0.bias"], (1e-3, 0.0)));
    /// assert_eq!((adam.group_names(3), options(3)), (vec!["1.bias"], (1e-2, 0.0)));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the pattern matches no parameter.
    pub fn group(mut self, pattern: &str, change: impl Fn(R::Options) -> R::Options) -> Result<Self> {
        let named: Vec<(String, AnyParam)> = self.members.iter().map(|m| (m.name.clone(), m.param.clone())).collect();
        let chosen: HashSet<usize> = pattern::select("parameter", pattern, &named)?.into_iter().collect();
        for group in 0..self.groups.len() {
            let own = (0..self.members.len()).filter(|&i| self.members[i].group == group);
            let (matching, others): (Vec<usize>, Vec<usize>) = own.partition(|i| chosen.contains(i));
            if matching.is_empty() {
                continue;
            }
            let changed = change(self.groups[group].clone());
            if others.is_empty() {
                self.groups[group] = changed;
            } else {
                matching.into_iter().for_each(|i| self.members[i].group = self.groups.len());
                self.groups.push(changed);
            }
        }
        Ok(self)
    }

    /// The options of each group; no group is empty.
    pub fn groups(&self) -> &[R::Options] {
        &self.groups
    }

    /// The options of each group, for writing. The next [`step`](Optimizer::step) returns an error if one is out of
    /// range.
    pub fn groups_mut(&mut self) -> &mut [R::Options] {
        &mut self.groups
    }

    /// The names of the parameters of one group.
    pub fn group_names(&self, group: usize) -> Vec<&str> {
        self.members.iter().filter(|m| m.group == group).map(|m| m.name.as_str()).collect()
    }

    /// The names of the parameters that had no gradient in any step so far, because the forward pass does not use them
    /// or detaches them. Frozen parameters are left out.
    ///
    /// ```
    /// use ndnn::{optim, prelude::*};
    /// let (used, unused) = (Param::new(tensor![1.0]), Param::new(tensor![1.0]));
    /// let mut sgd = optim::SGD::new(vec![used.clone(), unused], 0.1);
    /// used.tensor().sum().backward()?;
    /// sgd.step()?;
    /// assert_eq!(sgd.without_gradient(), ["1"]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    pub fn without_gradient(&self) -> Vec<&str> {
        let silent = |m: &&Member| m.param.requires_grad() && !m.stepped;
        self.members.iter().filter(silent).map(|m| m.name.as_str()).collect()
    }

    /// Whether the optimizer writes to standard error, once, after its third step, which parameters had [no
    /// gradient](RuleOptimizer::without_gradient) in any of the three; `true` by default.
    pub fn warn_without_gradient(mut self, warn: bool) -> Self {
        self.until_told = if warn { FIRST_STEPS } else { 0 };
        self
    }

    /// Reports, after the first steps.
    fn tell(&mut self) {
        if self.until_told == 0 {
            return;
        }
        self.until_told -= 1;
        let names = self.without_gradient();
        if self.until_told == 0 && !names.is_empty() {
            eprintln!(
                "ndnn: {} of {} parameters had no gradient in the optimizer's first {FIRST_STEPS} steps: {}. Use them in \
                 the forward pass, freeze them, or turn this off with warn_without_gradient(false).",
                names.len(),
                self.members.len(),
                listed(names.iter())
            );
        }
    }

    /// Checks that every parameter has values of its own, and the options of every group; the error names the
    /// parameters concerned.
    fn check(&self) -> Result<()> {
        if let Some(member) = self.members.iter().find(|m| m.param.is_parametrized()) {
            let what = "a parametrization computes it now; make the optimizer after registering one";
            return Err(Error::state("step", format!("`{}` has no values of its own: {what}", member.name)));
        }
        self.groups.iter().enumerate().try_for_each(|(i, group)| {
            group
                .check()
                .map_err(|e| e.within(format!("the optimizer's group {i} ({})", listed(self.group_names(i).iter()))))
        })
    }

    /// After a step: records which parameters had a gradient.
    fn stepped(&mut self) {
        self.members.iter_mut().filter(|m| !m.stepped).for_each(|m| m.stepped = m.param.has_grad());
        self.tell();
    }

    /// # Errors
    /// If there is no such group.
    fn group_at(&self, op: &str, group: usize) -> Result<&R::Options> {
        let missing = || Error::index(op, format!("there is no group {group}; there are {}", self.groups.len()));
        self.groups.get(group).ok_or_else(missing)
    }

    /// Reads the options from a state_dict.
    fn load_groups(&self, state: &mut StateReader<'_>) -> Vec<R::Options> {
        for member in &self.members {
            let name = format!("state.{}.group", member.name);
            let (is_there, found) = (state.shape(&name).is_some(), state.count(&name));
            if is_there && found != member.group as u64 {
                state.refuse(format!("{} is in group {}, in the file in group {found}", member.name, member.group));
            }
        }
        let mut groups = self.groups.clone();
        for (i, group) in groups.iter_mut().enumerate() {
            for option in R::Options::names() {
                let value = state.take(&format!("groups.{i}.{option}"), &[]).map(|t| t.to::<f64>().to_vec()[0]);
                if let Some(Err(e)) = value.map(|value| group.set(&option, value)) {
                    state.refuse(format!("groups.{i}: {e}"));
                }
            }
            if let Err(e) = group.check() {
                state.refuse(format!("groups.{i}: {e}"));
            }
        }
        groups
    }
}

impl<R: Rule> Optimizer for RuleOptimizer<R> {
    fn step(&mut self) -> Result<()> {
        self.check()?;
        any_gradient(&self.members)?;
        self.rule.step(&self.members, &self.groups)?;
        self.stepped();
        Ok(())
    }

    fn step_closure(&mut self, closure: &mut Closure<'_>) -> Result<()> {
        self.check()?;
        let members = &self.members;
        self.rule.step_with(members, &self.groups, &mut || {
            let loss = closure()?;
            any_gradient(members)?;
            Ok(loss)
        })?;
        self.stepped();
        Ok(())
    }

    fn zero_grad(&self) {
        self.members.iter().for_each(|m| m.param.zero_grad());
    }

    fn lr(&self) -> f64 {
        or_panic(self.groups[0].get("lr"))
    }

    #[track_caller]
    fn set_lr(&mut self, lr: f64) {
        assert!(at_least_0(lr), "{}", refused(LR_RANGE, &lr));
        for group in &mut self.groups {
            or_panic(group.set("lr", lr));
        }
    }

    fn group_count(&self) -> usize {
        self.groups.len()
    }

    fn option_names(&self) -> Vec<String> {
        R::Options::names()
    }

    fn option(&self, group: usize, name: &str) -> Result<f64> {
        self.group_at("option", group)?.get(name)
    }

    fn set_option(&mut self, group: usize, name: &str, value: f64) -> Result<()> {
        self.group_at("set_option", group)?;
        self.groups[group].set(name, value)
    }

    fn state_dict(&self) -> Result<StateDict> {
        unique("state_dict", &self.members)?;
        let mut state = StateDict::new();
        for member in &self.members {
            state.insert(format!("state.{}.group", member.name), Tensor::scalar(member.group as i64));
        }
        self.rule.save(&self.members, &self.groups, &mut state);
        for (i, group) in self.groups.iter().enumerate() {
            for option in R::Options::names() {
                state.insert(format!("groups.{i}.{option}"), Tensor::scalar(group.get(&option)?));
            }
        }
        Ok(state)
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        unique("load_state_dict", &self.members)?;
        let mut reader = StateReader::new(state);
        let groups = self.load_groups(&mut reader);
        let rule = R::load(&self.members, &groups, &mut reader);
        reader.finish()?;
        (self.groups, self.rule) = (groups, rule);
        Ok(())
    }
}

impl<O: Optimizer + ?Sized> Optimizer for Box<O> {
    fn step(&mut self) -> Result<()> {
        (**self).step()
    }

    fn step_closure(&mut self, closure: &mut Closure<'_>) -> Result<()> {
        (**self).step_closure(closure)
    }

    fn zero_grad(&self) {
        (**self).zero_grad();
    }

    fn lr(&self) -> f64 {
        (**self).lr()
    }

    #[track_caller]
    fn set_lr(&mut self, lr: f64) {
        (**self).set_lr(lr);
    }

    fn group_count(&self) -> usize {
        (**self).group_count()
    }

    fn option_names(&self) -> Vec<String> {
        (**self).option_names()
    }

    fn option(&self, group: usize, name: &str) -> Result<f64> {
        (**self).option(group, name)
    }

    fn set_option(&mut self, group: usize, name: &str, value: f64) -> Result<()> {
        (**self).set_option(group, name, value)
    }

    fn state_dict(&self) -> Result<StateDict> {
        (**self).state_dict()
    }

    fn load_state_dict(&mut self, state: &StateDict) -> Result<()> {
        (**self).load_state_dict(state)
    }
}
