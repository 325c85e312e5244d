//! What every optimizer shares: parameters, groups with their own options, state, and the walk over all of them.

use std::collections::HashSet;

use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::layout::row_major,
    nn::{AnyParam, Param, Parameters},
    state::pattern,
    tensor::Real,
};

/// Changes parameters by their gradients.
pub trait Optimizer {
    /// Changes every parameter that has a gradient.
    ///
    /// # Errors
    /// If no parameter has one, an option of a group is outside its range, or the options contradict each other; then
    /// nothing is changed.
    fn step(&mut self) -> Result<()>;

    /// Forgets the gradient of every parameter.
    fn zero_grad(&self);

    /// The learning rate of the first group.
    fn lr(&self) -> f64;

    /// Sets the learning rate of every group.
    ///
    /// # Panics
    /// If it is negative, infinite or NaN.
    #[track_caller]
    fn set_lr(&mut self, lr: f64);

    /// The learning rate of each group, to read and to set: what a schedule changes. The next
    /// [`step`](Optimizer::step) refuses one that is negative, infinite or NaN.
    fn lrs_mut(&mut self) -> Vec<&mut f64>;
}

/// The options of one group of parameters.
pub trait GroupOptions: Clone + Send + Sync {
    /// The learning rate.
    fn lr(&mut self) -> &mut f64;

    /// Whether each option is in its range, and they go together.
    ///
    /// # Errors
    /// If not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// The memory of an optimizer for one parameter: as many elements as the parameter; empty until a step with options that
/// use it.
pub type Slot<T> = Vec<T>;

/// What one optimizer does to one parameter.
pub trait Rule: Send + Sync {
    /// The options of a group.
    type Options: GroupOptions;

    /// The names of the slots, as PyTorch names them in its state.
    const SLOTS: &'static [&'static str];

    /// Whether these options need the slot of this number.
    fn uses(_options: &Self::Options, _slot: usize) -> bool {
        true
    }

    /// Changes `value` by `grad`; `step` counts from 1. `slots` are in the order of [`SLOTS`](Rule::SLOTS), and as long as
    /// `value` where they are [used](Rule::uses).
    fn update<T: Real>(options: &Self::Options, step: u64, value: &mut [T], grad: &[T], slots: &mut [Slot<T>]);
}

struct State<T> {
    step: u64,
    slots: Vec<Slot<T>>,
}

impl<T> State<T> {
    fn new(slots: usize) -> Self {
        State { step: 0, slots: (0..slots).map(|_| Vec::new()).collect() }
    }
}

enum Handle {
    F32(Param<f32>, State<f32>),
    F64(Param<f64>, State<f64>),
}

struct Entry {
    name: String,
    param: AnyParam,
    handle: Handle,
    group: usize,
}

impl Entry {
    /// Whether any step found a gradient.
    fn stepped(&self) -> bool {
        match &self.handle {
            Handle::F32(_, state) => state.step > 0,
            Handle::F64(_, state) => state.step > 0,
        }
    }
}

/// After so many steps an optimizer tells which parameters had no gradient in any of them.
const FIRST_STEPS: usize = 3;

/// An optimizer made of a [`Rule`]: [`SGD`](super::SGD), [`Adam`](super::Adam), [`AdamW`](super::AdamW).
#[must_use = "an optimizer does something when it is stepped; a setter returns it changed"]
pub struct Optim<R: Rule> {
    entries: Vec<Entry>,
    groups: Vec<R::Options>,
    /// How many steps are left until it tells which parameters had no gradient; 0 if it has, or is not to.
    until_told: usize,
}

impl<R: Rule> Optim<R> {
    /// An optimizer of these parameters, all in one group. A parameter that is listed twice is stepped once.
    ///
    /// # Panics
    /// If there are no parameters.
    #[track_caller]
    pub fn with_options(params: impl Parameters, options: R::Options) -> Self {
        let handle = |param: &AnyParam| match param {
            AnyParam::F32(p) => Handle::F32(p.clone(), State::new(R::SLOTS.len())),
            AnyParam::F64(p) => Handle::F64(p.clone(), State::new(R::SLOTS.len())),
        };
        let mut known = HashSet::new();
        let entries: Vec<Entry> = params
            .named()
            .into_iter()
            .filter(|(_, param)| known.insert(param.address()))
            .map(|(name, param)| Entry { name, handle: handle(&param), param, group: 0 })
            .collect();
        assert!(!entries.is_empty(), "an optimizer needs parameters; the model or list that it was given has none");
        Optim { entries, groups: vec![options], until_told: FIRST_STEPS }
    }

    /// Changes the options of the parameters whose names match a pattern such as `*.bias` or `head.*`.
    ///
    /// `change` is handed the options that these parameters have by now, so that calls compose. Where only some of a
    /// group's parameters match, they move into a new group behind the others.
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
        let named: Vec<(String, AnyParam)> = self.entries.iter().map(|e| (e.name.clone(), e.param.clone())).collect();
        let chosen: HashSet<usize> = pattern::select(pattern, &named)?.into_iter().collect();
        for group in 0..self.groups.len() {
            let members = (0..self.entries.len()).filter(|&i| self.entries[i].group == group);
            let (matching, others): (Vec<usize>, Vec<usize>) = members.partition(|i| chosen.contains(i));
            if matching.is_empty() {
                continue;
            }
            let changed = change(self.groups[group].clone());
            if others.is_empty() {
                self.groups[group] = changed;
            } else {
                matching.into_iter().for_each(|i| self.entries[i].group = self.groups.len());
                self.groups.push(changed);
            }
        }
        Ok(self)
    }

    /// The options of each group; no group is empty.
    pub fn groups(&self) -> &[R::Options] {
        &self.groups
    }

    /// The options of each group, to change. The next [`step`](Optimizer::step) refuses what is outside its range.
    pub fn groups_mut(&mut self) -> &mut [R::Options] {
        &mut self.groups
    }

    /// The names of the parameters of one group.
    pub fn group_names(&self, group: usize) -> Vec<&str> {
        self.entries.iter().filter(|e| e.group == group).map(|e| e.name.as_str()).collect()
    }

    /// The names of the parameters that had no gradient in any step so far: what a forward pass does not use, or cuts
    /// off. Frozen parameters are left out.
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
        let silent = |e: &&Entry| e.param.requires_grad() && !e.stepped();
        self.entries.iter().filter(silent).map(|e| e.name.as_str()).collect()
    }

    /// Whether the optimizer writes to standard error, once, after its third step, which parameters had
    /// [no gradient](Optim::without_gradient) in any of the three; `true` by default.
    pub fn warn_without_gradient(mut self, warn: bool) -> Self {
        self.until_told = if warn { FIRST_STEPS } else { 0 };
        self
    }

    /// After the first steps, what there is to tell.
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
                self.entries.len(),
                names.join(", ")
            );
        }
    }

    /// Whether the options of every group can be; the error names the group's parameters.
    fn check(&self) -> Result<()> {
        self.groups.iter().enumerate().try_for_each(|(i, group)| {
            group
                .check()
                .map_err(|e| e.within(format!("the optimizer's group {i} ({})", self.group_names(i).join(", "))))
        })
    }
}

/// Applies the rule to one parameter, if it has a gradient.
fn update<R: Rule, T: Real>(options: &R::Options, param: &Param<T>, state: &mut State<T>) {
    let Some(grad) = param.grad() else { return };
    let grad = grad.view();
    let grad = row_major(&grad);
    state.step += 1;
    for (i, slot) in state.slots.iter_mut().enumerate() {
        // One that is not used now keeps what it has, for when it is again.
        if R::uses(options, i) {
            slot.resize(grad.len(), T::ZERO);
        }
    }
    param.update_slice(|value| R::update(options, state.step, value, &grad, &mut state.slots));
}

impl<R: Rule> Optimizer for Optim<R> {
    fn step(&mut self) -> Result<()> {
        self.check()?;
        if !self.entries.iter().any(|e| e.param.has_grad()) {
            let what = format!(
                "none of the {} parameters has a gradient; call backward() on the loss first, and check that the \
                 optimizer was made from the model that computed it",
                self.entries.len()
            );
            return Err(Error::new(ErrorKind::Graph, "step", what));
        }
        for entry in &mut self.entries {
            let options = &self.groups[entry.group];
            match &mut entry.handle {
                Handle::F32(param, state) => update::<R, f32>(options, param, state),
                Handle::F64(param, state) => update::<R, f64>(options, param, state),
            }
        }
        self.tell();
        Ok(())
    }

    fn zero_grad(&self) {
        self.entries.iter().for_each(|e| e.param.zero_grad());
    }

    fn lr(&self) -> f64 {
        *self.groups[0].clone().lr()
    }

    #[track_caller]
    fn set_lr(&mut self, lr: f64) {
        check_lr(lr);
        self.groups.iter_mut().for_each(|g| *g.lr() = lr);
    }

    fn lrs_mut(&mut self) -> Vec<&mut f64> {
        self.groups.iter_mut().map(GroupOptions::lr).collect()
    }
}

/// What most options are: neither negative nor infinite nor NaN.
pub(super) fn at_least_0(value: f64) -> bool {
    (0. ..f64::INFINITY).contains(&value)
}

#[track_caller]
pub(super) fn check_lr(lr: f64) {
    assert!(at_least_0(lr), "a learning rate is at least 0 and finite, got {lr}");
}

/// `gradient + decay · value`. Without a decay the value plays no part: 0 times an infinite one is NaN.
#[inline(always)]
pub(super) fn penalized<T: Real>(gradient: T, decay: T, value: T) -> T {
    if decay == T::ZERO { gradient } else { gradient + decay * value }
}

/// The setters of an optimizer's options: on the options of one group, and on the optimizer for all groups.
///
/// A value that can never be right panics where it is set.
macro_rules! optimizer_options {
    (
        $(#[$doc:meta])*
        pub struct $options:ident for $rule:ident $([$($generics:tt)*][$($args:tt)*])? {$(
            $(#[$field_doc:meta])*
            $field:ident: $ty:ty = $default:expr $(, if |$value:ident| $valid:expr, $message:literal)?;
        )*}
    ) => {
        $(#[$doc])*
        #[must_use = "a setter returns the options changed"]
        #[derive(Clone, Debug, PartialEq)]
        pub struct $options {
            /// The learning rate.
            pub lr: f64,
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $options {
            /// PyTorch's defaults with this learning rate.
            ///
            /// # Panics
            /// If it is negative, infinite or NaN.
            #[track_caller]
            pub fn new(lr: f64) -> Self {
                let options = Self { lr: 0., $($field: $default),* };
                options.lr(lr)
            }

            /// The learning rate.
            #[track_caller]
            pub fn lr(mut self, lr: f64) -> Self {
                $crate::optim::core::check_lr(lr);
                self.lr = lr;
                self
            }

            /// Whether each option is in the range that its setter asks for: a field can be written without it.
            fn check_values(&self) -> $crate::Result<()> {
                let refuse = |what: String| Err($crate::Error::value(stringify!($options), what));
                if !$crate::optim::core::at_least_0(self.lr) {
                    return refuse(format!("a learning rate is at least 0 and finite, got {}", self.lr));
                }
                $($(
                    let $value = self.$field;
                    if !($valid) {
                        return refuse(format!($message, self.$field));
                    }
                )?)*
                Ok(())
            }

            $(
                $(#[$field_doc])*
                #[track_caller]
                pub fn $field(mut self, $field: $ty) -> Self {
                    $(let $value = $field; assert!($valid, $message, $field);)?
                    self.$field = $field;
                    self
                }
            )*
        }

        impl $(<$($generics)*>)? $crate::optim::Optim<$rule $(<$($args)*>)?> {$(
            $(#[$field_doc])*
            #[track_caller]
            pub fn $field(mut self, $field: $ty) -> Self {
                // No closure: it would lose the caller's place.
                for group in self.groups_mut() {
                    *group = group.clone().$field($field);
                }
                self
            }
        )*}
    };
}
pub(super) use optimizer_options;
