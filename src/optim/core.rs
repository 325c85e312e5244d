//! What every optimizer shares: parameters, groups with their own options, state, and the walk over all of them.

use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::index::row_major,
    nn::{AnyParam, Param, Parameters, pattern},
    tensor::Real,
};

/// Changes parameters by their gradients.
pub trait Optimizer {
    /// Changes every parameter that has a gradient.
    ///
    /// # Errors
    /// If no parameter has one, or the options contradict each other; then nothing is changed.
    fn step(&mut self) -> Result<()>;

    /// Forgets the gradient of every parameter.
    fn zero_grad(&self);

    /// The learning rate of the first group.
    fn lr(&self) -> f64;

    /// Sets the learning rate of every group.
    fn set_lr(&mut self, lr: f64);

    /// The learning rate of each group, to read and to set: what a schedule changes.
    fn lrs_mut(&mut self) -> Vec<&mut f64>;
}

/// The options of one group of parameters.
pub trait GroupOptions: Clone + Send + Sync {
    /// The learning rate.
    fn lr(&mut self) -> &mut f64;

    /// Whether the options go together.
    ///
    /// # Errors
    /// If they do not.
    fn check(&self) -> Result<()> {
        Ok(())
    }
}

/// The memory of an optimizer for one parameter: as many elements as the parameter; empty before the first step, or where
/// the options do without.
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

/// An optimizer made of a [`Rule`]: [`SGD`](super::SGD), [`Adam`](super::Adam), [`AdamW`](super::AdamW).
pub struct Optim<R: Rule> {
    entries: Vec<Entry>,
    groups: Vec<R::Options>,
}

impl<R: Rule> Optim<R> {
    /// An optimizer of these parameters, all in one group.
    pub fn with_options(params: impl Parameters, options: R::Options) -> Self {
        let handle = |param: &AnyParam| match param {
            AnyParam::F32(p) => Handle::F32(p.clone(), State::new(R::SLOTS.len())),
            AnyParam::F64(p) => Handle::F64(p.clone(), State::new(R::SLOTS.len())),
        };
        let entries = params
            .named()
            .into_iter()
            .map(|(name, param)| Entry { name, handle: handle(&param), param, group: 0 })
            .collect();
        Optim { entries, groups: vec![options] }
    }

    /// Moves the parameters whose names match a pattern such as `*.bias` or `head.*` into a group of their own, whose
    /// options are the first group's as `change` leaves them. A parameter is in the last group that chose it.
    ///
    /// ```
    /// use ndnn::{optim, prelude::*};
    /// let model = sequential![Linear::new(3, 4), Linear::new(4, 1)];
    /// let adam = optim::AdamW::new(&model, 1e-3).group("*.bias", |g| g.weight_decay(0.0))?;
    /// assert_eq!(adam.groups().len(), 2);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If the pattern matches no parameter.
    pub fn group(mut self, pattern: &str, change: impl FnOnce(R::Options) -> R::Options) -> Result<Self> {
        let named: Vec<(String, AnyParam)> = self.entries.iter().map(|e| (e.name.clone(), e.param.clone())).collect();
        let chosen = pattern::select(pattern, &named)?;
        let group = self.groups.len();
        self.groups.push(change(self.groups[0].clone()));
        chosen.into_iter().for_each(|i| self.entries[i].group = group);
        Ok(self)
    }

    /// The options of each group; the first is that of the parameters no pattern chose.
    pub fn groups(&self) -> &[R::Options] {
        &self.groups
    }

    /// The options of each group, to change.
    pub fn groups_mut(&mut self) -> &mut [R::Options] {
        &mut self.groups
    }

    /// The names of the parameters of one group.
    pub fn group_names(&self, group: usize) -> Vec<&str> {
        self.entries.iter().filter(|e| e.group == group).map(|e| e.name.as_str()).collect()
    }

    /// Changes the options of every group there is.
    pub(super) fn each(mut self, change: impl Fn(R::Options) -> R::Options) -> Self {
        self.groups.iter_mut().for_each(|g| *g = change(g.clone()));
        self
    }
}

/// Applies the rule to one parameter, if it has a gradient.
fn update<R: Rule, T: Real>(options: &R::Options, param: &Param<T>, state: &mut State<T>) {
    let Some(grad) = param.grad() else { return };
    let grad = grad.view();
    let grad = row_major(&grad);
    state.step += 1;
    for (i, slot) in state.slots.iter_mut().enumerate() {
        slot.resize(if R::uses(options, i) { grad.len() } else { 0 }, T::ZERO);
    }
    param.update_slice(|value| R::update(options, state.step, value, &grad, &mut state.slots));
}

impl<R: Rule> Optimizer for Optim<R> {
    fn step(&mut self) -> Result<()> {
        self.groups.iter().try_for_each(R::Options::check)?;
        if !self.entries.iter().any(|e| e.param.has_grad()) {
            let what = match self.entries.len() {
                0 => "this optimizer was given no parameters".to_string(),
                n => format!(
                    "none of the {n} parameters has a gradient; call backward() on the loss first, and check that the \
                     optimizer was made from the model that computed it"
                ),
            };
            return Err(Error::new(ErrorKind::Graph, "step", what));
        }
        for entry in &mut self.entries {
            let options = &self.groups[entry.group];
            match &mut entry.handle {
                Handle::F32(param, state) => update::<R, f32>(options, param, state),
                Handle::F64(param, state) => update::<R, f64>(options, param, state),
            }
        }
        Ok(())
    }

    fn zero_grad(&self) {
        self.entries.iter().for_each(|e| e.param.zero_grad());
    }

    fn lr(&self) -> f64 {
        *self.groups[0].clone().lr()
    }

    fn set_lr(&mut self, lr: f64) {
        self.groups.iter_mut().for_each(|g| *g.lr() = lr);
    }

    fn lrs_mut(&mut self) -> Vec<&mut f64> {
        self.groups.iter_mut().map(GroupOptions::lr).collect()
    }
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
            /// If it is negative or NaN.
            #[track_caller]
            pub fn new(lr: f64) -> Self {
                let options = Self { lr: 0., $($field: $default),* };
                options.lr(lr)
            }

            /// The learning rate.
            #[track_caller]
            pub fn lr(mut self, lr: f64) -> Self {
                assert!(lr >= 0., "a learning rate is at least 0, got {lr}");
                self.lr = lr;
                self
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
            pub fn $field(self, $field: $ty) -> Self {
                self.each(|group| group.$field($field))
            }
        )*}
    };
}
pub(super) use optimizer_options;
