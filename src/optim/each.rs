//! [`ParamRule`]: what an optimizer does to one parameter independently of the others, and [`Each`], the rule that
//! applies it to all.

use std::marker::PhantomData;

use super::{
    options::GroupOptions,
    rule::{Member, Rule},
    state::{Layout, StateReader},
};
use crate::{
    Result,
    kernels::{
        layout::{empty_slices, row_major},
        memory::filled,
        optimizer_pass::{Pass, update},
    },
    module::{AnyParam, Param},
    number::Real,
    state::StateDict,
};

/// The most slots of any rule with a [`Pass`].
const MOST_SLOTS: usize = 3;

/// One array of an optimizer's state for a parameter.
#[derive(Default)]
pub struct Slot<T> {
    /// The elements in row-major order; empty before the first step that uses the slot.
    pub values: Vec<T>,
    /// How many steps have used it since it was created or loaded, including this one.
    pub(super) uses: u64,
    /// Whether this step uses it.
    pub(super) used: bool,
}

impl<T> Slot<T> {
    /// Whether no earlier step used it.
    pub fn is_new(&self) -> bool {
        self.uses <= 1
    }
}

/// The state that [`Each`] keeps for one parameter.
#[derive(Default)]
pub struct ParamState<T> {
    pub(super) step: u64,
    pub(super) scalars: Vec<f64>,
    pub(super) slots: Vec<Slot<T>>,
}

/// One step for one parameter.
pub struct Step<'a, T> {
    /// The number of steps in which this parameter had a gradient, including this one.
    pub count: u64,
    /// The parameter's shape.
    pub shape: &'a [usize],
    /// The parameter in row-major order, for writing.
    pub value: &'a mut [T],
    /// The gradient in row-major order.
    pub grad: &'a [T],
    /// In the order of [`SLOTS`](ParamRule::SLOTS).
    pub slots: &'a mut [Slot<T>],
    /// In the order of [`SCALARS`](ParamRule::SCALARS).
    pub scalars: &'a mut [f64],
}

impl<T: Real> Step<'_, T> {
    /// Runs a pass over all elements, with the `N` slots that the options use.
    pub(super) fn elements<const N: usize>(&mut self, pass: &impl Pass<T, N>) {
        let (mut slots, count) = in_use(self.slots);
        update(pass, self.value, self.grad, &mut slots[..count]);
    }
}

/// The slots that the options use, and how many there are.
#[inline(never)]
fn in_use<T>(all: &mut [Slot<T>]) -> ([&mut [T]; MOST_SLOTS], usize) {
    let (mut slots, mut count) = (empty_slices(), 0);
    for slot in all {
        if slot.used {
            slots[count] = &mut slot.values;
            count += 1;
        }
    }
    (slots, count)
}

/// What an optimizer does to one parameter independently of the others, and the state that it keeps for it.
///
/// ```
/// use ndnn::{Real, optim::{Each, ParamRule, RuleOptimizer, SGDOptions, Step}, prelude::*};
///
/// /// Steps by the sign of the gradient.
/// struct SignRule;
///
/// impl ParamRule for SignRule {
///     type Options = SGDOptions;
///
///     fn update<T: Real>(options: &SGDOptions, step: &mut Step<'_, T>) {
///         for (value, grad) in step.value.iter_mut().zip(step.grad) {
///             *value -= T::of(options.lr) * grad.signum();
///         }
///     }
/// }
///
/// let p = Param::new(tensor![1.0, 2.0]);
/// let options = SGDOptions::new(0.5);
/// let mut sign = RuleOptimizer::<Each<SignRule>>::with_options(vec![p.clone()], options);
/// (p.tensor() * tensor![3.0, -0.1]).sum().backward()?;
/// sign.step()?;
/// assert_eq!(p.detach(), tensor![0.5, 2.5]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub trait ParamRule: Sized + Send + Sync {
    /// The options of a group.
    type Options: GroupOptions;

    /// The names of the arrays in its state, as PyTorch names them.
    const SLOTS: &'static [&'static str] = &[];

    /// The names of the numbers in its state besides the step count, as PyTorch names them.
    const SCALARS: &'static [&'static str] = &[];

    /// Whether it supports parameters of this shape.
    ///
    /// # Errors
    /// If it does not.
    fn accept(_shape: &[usize]) -> Result<()> {
        Ok(())
    }

    /// Whether a slot is used with these options for a parameter of this shape. A slot that is no longer used keeps its
    /// values.
    fn uses(_options: &Self::Options, _slot: usize, _shape: &[usize]) -> bool {
        true
    }

    /// The shape of a slot, by default the parameter's.
    fn slot_shape(_slot: usize, shape: &[usize]) -> Vec<usize> {
        shape.to_vec()
    }

    /// The initial value of the elements of a slot.
    fn initial(_options: &Self::Options, _slot: usize) -> f64 {
        0.
    }

    /// The value of a scalar before the first step.
    fn initial_scalar(_options: &Self::Options, _scalar: usize) -> f64 {
        0.
    }

    /// Updates the parameter by its gradient, and its state.
    fn update<T: Real>(options: &Self::Options, step: &mut Step<'_, T>);

    #[doc(hidden)]
    fn step_f32(options: &Self::Options, param: &Param<f32>, state: &mut ParamState<f32>) {
        step_one::<Self, f32>(options, param, state);
    }

    #[doc(hidden)]
    fn step_f64(options: &Self::Options, param: &Param<f64>, state: &mut ParamState<f64>) {
        step_one::<Self, f64>(options, param, state);
    }
}

/// Inside the `impl` of a [`ParamRule`]: compiles its steps in this crate, and not again in each program.
macro_rules! compiled {
    () => {
        fn step_f32(o: &Self::Options, p: &$crate::module::Param<f32>, s: &mut $crate::optim::each::ParamState<f32>) {
            $crate::optim::each::step_one::<Self, f32>(o, p, s);
        }

        fn step_f64(o: &Self::Options, p: &$crate::module::Param<f64>, s: &mut $crate::optim::each::ParamState<f64>) {
            $crate::optim::each::step_one::<Self, f64>(o, p, s);
        }
    };
}
pub(super) use compiled;

/// `gradient + decay · value`. Without a decay the value is not used: 0 times an infinite one is NaN.
#[inline(always)]
pub(super) fn penalized<T: Real>(gradient: T, decay: T, value: T) -> T {
    if decay == T::ZERO { gradient } else { gradient + decay * value }
}

/// `(1 − weight) · from + weight · to`, computed from the nearer end, as torch.lerp does: with a weight of 1 it is
/// exactly `to`, however large `from` is.
#[inline(always)]
pub(super) fn lerp<T: Real>(from: T, to: T, weight: T) -> T {
    if weight < T::of(0.5) { from + weight * (to - from) } else { to - (T::ONE - weight) * (to - from) }
}

/// Applies the rule to one parameter, if it has a gradient.
pub(super) fn step_one<R: ParamRule, T: Real>(options: &R::Options, param: &Param<T>, state: &mut ParamState<T>) {
    step_by(param, state, &WithOptions::<R>(options), &|step| R::update(options, step));
}

/// What a rule says of its state, whatever the type of the elements.
trait States {
    /// How many slots and how many scalars there are.
    fn counts(&self) -> [usize; 2];
    fn uses(&self, slot: usize, shape: &[usize]) -> bool;
    /// The number of elements of a slot, and their initial value.
    fn slot(&self, slot: usize, shape: &[usize]) -> (usize, f64);
    fn scalar(&self, scalar: usize) -> f64;
}

struct WithOptions<'a, R: ParamRule>(&'a R::Options);

impl<R: ParamRule> States for WithOptions<'_, R> {
    fn counts(&self) -> [usize; 2] {
        [R::SLOTS.len(), R::SCALARS.len()]
    }

    fn uses(&self, slot: usize, shape: &[usize]) -> bool {
        R::uses(self.0, slot, shape)
    }

    fn slot(&self, slot: usize, shape: &[usize]) -> (usize, f64) {
        (R::slot_shape(slot, shape).iter().product(), R::initial(self.0, slot))
    }

    fn scalar(&self, scalar: usize) -> f64 {
        R::initial_scalar(self.0, scalar)
    }
}

/// Counts the step, and makes what it uses for the first time.
fn prepare<T: Real>(state: &mut ParamState<T>, rule: &dyn States, shape: &[usize]) {
    if state.step == 0 {
        let [slots, scalars] = rule.counts();
        state.slots.resize_with(slots, Slot::default);
        state.scalars.extend((0..scalars).map(|i| rule.scalar(i)));
    }
    for (i, slot) in state.slots.iter_mut().enumerate() {
        slot.used = rule.uses(i, shape);
        if slot.used && slot.uses == 0 {
            let (len, value) = rule.slot(i, shape);
            slot.values = filled(len, T::of(value));
        }
        slot.uses += u64::from(slot.used);
    }
    state.step += 1;
}

/// Compiled once for all rules.
fn step_by<T: Real>(param: &Param<T>, state: &mut ParamState<T>, rule: &dyn States, update: &dyn Fn(&mut Step<'_, T>)) {
    let Some(grad) = param.grad() else { return };
    let (shape, grad) = (grad.shape(), grad.view());
    let grad = row_major(&grad);
    prepare(state, rule, shape);
    let ParamState { step: count, scalars, slots } = state;
    param.update_slice(|value| update(&mut Step { count: *count, shape, value, grad: &grad, slots, scalars }));
}

/// A [`ParamState`] of either element type.
pub(super) enum AnyState {
    F32(ParamState<f32>),
    F64(ParamState<f64>),
}

impl AnyState {
    pub(super) fn new(param: &AnyParam) -> Self {
        match param {
            AnyParam::F32(_) => AnyState::F32(ParamState::default()),
            AnyParam::F64(_) => AnyState::F64(ParamState::default()),
        }
    }
}

/// The [`Rule`] that applies a [`ParamRule`] to each parameter that has a gradient.
pub struct Each<R> {
    /// One per member.
    pub(super) states: Vec<AnyState>,
    rule: PhantomData<R>,
}

impl<R: ParamRule> Rule for Each<R> {
    type Options = R::Options;

    fn new(members: &[Member]) -> Result<Self> {
        for member in members {
            R::accept(&member.param.shape()).map_err(|e| e.within(format!("the parameter {}", member.name)))?;
        }
        Ok(Each { states: members.iter().map(|m| AnyState::new(&m.param)).collect(), rule: PhantomData })
    }

    fn step(&mut self, members: &[Member], groups: &[R::Options]) -> Result<()> {
        for (member, state) in members.iter().zip(&mut self.states) {
            let options = &groups[member.group];
            match (&member.param, state) {
                (AnyParam::F32(param), AnyState::F32(state)) => R::step_f32(options, param, state),
                (AnyParam::F64(param), AnyState::F64(state)) => R::step_f64(options, param, state),
                _ => unreachable!("a state is made for its parameter"),
            }
        }
        Ok(())
    }

    fn save(&self, members: &[Member], groups: &[R::Options], state: &mut StateDict) {
        for (member, own) in members.iter().zip(&self.states) {
            let layout = Layout::of::<R>(member, groups);
            match own {
                AnyState::F32(own) => layout.save(own, state),
                AnyState::F64(own) => layout.save(own, state),
            }
        }
    }

    fn load(members: &[Member], groups: &[R::Options], state: &mut StateReader<'_>) -> Self {
        let states = members.iter().map(|member| {
            let layout = Layout::of::<R>(member, groups);
            match &member.param {
                AnyParam::F32(_) => AnyState::F32(layout.load(state)),
                AnyParam::F64(_) => AnyState::F64(layout.load(state)),
            }
        });
        Each { states: states.collect(), rule: PhantomData }
    }
}
