//! Hooks of saving and loading a state_dict.

use std::sync::{Arc, OnceLock};

use super::{
    super::{
        LoadReport, Module,
        load::{Write, write},
        walk,
    },
    Hooked,
    table::{Handle, HookKind, Places, Table, places},
};
use crate::{Result, state::StateDict};

/// What a hook may change.
pub(in crate::module) enum Step<'a> {
    Saving,
    Saved(&'a mut StateDict),
    Loading(&'a mut StateDict),
    Loaded(&'a mut LoadReport),
}

impl Step<'_> {
    #[inline]
    fn kind(&self) -> HookKind {
        match self {
            Step::Saving => HookKind::StateDictPre,
            Step::Saved(_) => HookKind::StateDictPost,
            Step::Loading(_) => HookKind::LoadPre,
            Step::Loaded(_) => HookKind::LoadPost,
        }
    }
}

type OfState = dyn Fn(&str, &dyn Module, &mut Step<'_>) + Send + Sync;

pub(super) static REGISTERED: Table<OfState> = Table::new();

/// What runs hooks of this kind. Only the registration of one names it, so that a program without them does not contain it.
pub(in crate::module) struct Runner {
    /// Runs the hooks of all modules in a tree.
    pub run: fn(&dyn Module, &mut Step<'_>),
    /// Loads, where hooks may see the result and change the report, before `accept` decides whether it stays.
    pub load: fn(&dyn Module, &mut LoadReport, Vec<Write<'_>>, fn(&LoadReport) -> Result<()>) -> Result<()>,
}

static RUNNER: OnceLock<Runner> = OnceLock::new();

/// What runs these hooks, once there was one.
#[inline]
pub(in crate::module) fn runner() -> Option<&'static Runner> {
    RUNNER.get()
}

/// Runs the hooks of all modules in a tree, parents first where they run before something, children first where after.
#[inline]
fn run(root: &dyn Module, step: &mut Step<'_>) {
    let kind = step.kind();
    let mut modules = vec![(String::new(), root)];
    for (path, module) in walk::named_modules(root) {
        modules.push((path + ".", module));
    }
    if matches!(kind, HookKind::StateDictPost | HookKind::LoadPost) {
        modules = children_first(modules);
    }
    for (prefix, module) in modules {
        let place = Some(module.place());
        // Called after the lock is released: a hook may register or remove hooks.
        let mut hooks = Vec::new();
        REGISTERED.each(&mut |h| {
            if h.kind == kind && h.place == place {
                hooks.push(h.call.clone());
            }
        });
        for hook in hooks {
            hook(&prefix, module, step);
        }
    }
}

/// The order in which each module comes after its children, which is that of their ends.
#[inline]
fn children_first(modules: Vec<(String, &dyn Module)>) -> Vec<(String, &dyn Module)> {
    let (mut open, mut ordered): (Vec<(String, &dyn Module)>, _) = (Vec::new(), Vec::new());
    for entry in modules {
        while open.last().is_some_and(|(prefix, _)| !entry.0.starts_with(prefix)) {
            ordered.extend(open.pop());
        }
        open.push(entry);
    }
    ordered.extend(open.into_iter().rev());
    ordered
}

/// Takes back what was loaded, unless it is accepted; also if a hook panics.
struct Undo(Vec<Box<dyn FnOnce()>>);

impl Drop for Undo {
    #[inline]
    fn drop(&mut self) {
        self.0.drain(..).for_each(|undo| undo());
    }
}

#[inline]
fn load(
    root: &dyn Module,
    report: &mut LoadReport,
    writes: Vec<Write<'_>>,
    accept: fn(&LoadReport) -> Result<()>,
) -> Result<()> {
    let mut undo = Undo(writes.iter().map(|(entry, _)| entry.undo()).collect());
    write(writes);
    run(root, &mut Step::Loaded(report));
    accept(report)?;
    undo.0.clear();
    Ok(())
}

fn register<'a>(
    places: Places,
    kind: HookKind,
    call: impl Fn(&str, &dyn Module, &mut Step<'_>) + Send + Sync + 'static,
) -> Handle<'a> {
    RUNNER.get_or_init(|| Runner { run, load });
    REGISTERED.register(places, kind, Arc::new(call), || None)
}

/// The functions that register such hooks, on the modules of a model and on a [`Hooked`] one.
macro_rules! kinds {
    ($($kind:ident $(($step:pat => $what:ident: $t:ty))?: $(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            ///
            /// # Errors
            /// If no path matches.
            pub fn $name<'a, M: Module>(
                model: &'a M,
                pattern: &str,
                hook: impl Fn(&str, &dyn Module $(, &mut $t)?) + Send + Sync + 'static,
            ) -> Result<Handle<'a>> {
                Ok(register(places(model, pattern)?, HookKind::$kind, kinds!(@ hook $($step => $what)?)))
            }
        )*

        impl<M: Module + Clone> Hooked<M> {
            $(
                #[doc = concat!("As [`", stringify!($name), "`](", stringify!($name), "()), of this module.")]
                pub fn $name(
                    &self,
                    hook: impl Fn(&str, &dyn Module $(, &mut $t)?) + Send + Sync + 'static,
                ) -> Handle<'static> {
                    let place = vec![(Some((**self).as_module().place()), Arc::from(""))];
                    register(place, HookKind::$kind, kinds!(@ hook $($step => $what)?))
                }
            )*
        }
    };
    (@ $hook:ident) => { move |prefix, module, _| $hook(prefix, module) };
    (@ $hook:ident $step:pat => $what:ident) => {
        move |prefix, module, step| {
            if let $step = step {
                $hook(prefix, module, $what);
            }
        }
    };
}
kinds! {
    StateDictPre:
    /// Registers `hook(prefix, module)` of each module whose path matches, which runs before a state_dict is made, parents first.
    ///
    /// `prefix` is the module's path in the model whose state_dict it is, followed by a dot, or empty, as for all hooks of
    /// saving and loading.
    register_state_dict_pre_hook;

    StateDictPost (Step::Saved(state) => state: StateDict):
    /// Registers `hook(prefix, module, state)` of each module whose path matches, which may change the state_dict that was made:
    /// add, rename or remove entries. Children come first; what is below this module has names that begin with `prefix`.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(2, 2), Linear::new(2, 1)];
    /// let handle = hooks::register_state_dict_post_hook(&model, "0", |prefix, _, state| {
    ///     drop(state.remove(&format!("{prefix}bias")));
    /// })?;
    /// assert_eq!(model.state_dict().keys().collect::<Vec<_>>(), ["0.weight", "1.weight", "1.bias"]);
    /// handle.remove();
    /// assert_eq!(model.state_dict().len(), 4);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_state_dict_post_hook;

    LoadPre (Step::Loading(state) => state: StateDict):
    /// Registers `hook(prefix, module, state)` of each module whose path matches, which may change the state_dict before it is
    /// loaded, parents first and before [`Module::upgrade`]; it is a copy, so that the caller's does not change.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![LayerNorm::new(3)];
    /// let old = model.state_dict().rename(|name| name.replace("weight", "gamma").replace("bias", "beta"))?;
    /// let handle = hooks::register_load_state_dict_pre_hook(&model, "0", |prefix, _, state| {
    ///     for (old, new) in [("gamma", "weight"), ("beta", "bias")] {
    ///         if let Some(tensor) = state.remove(&format!("{prefix}{old}")) {
    ///             state.insert(format!("{prefix}{new}"), tensor);
    ///         }
    ///     }
    /// })?;
    /// model.load_state_dict(&old)?;
    /// # drop(handle);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_load_state_dict_pre_hook;

    LoadPost (Step::Loaded(report) => report: LoadReport):
    /// Registers `hook(prefix, module, report)` of each module whose path matches, which runs once the state_dict is loaded,
    /// children first. It may change what is reported: without missing, unexpected and mismatched entries a strict load succeeds,
    /// and with one that it adds it fails. If it fails, the values are again as before.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(2, 2), BatchNorm1d::new(2)];
    /// let old = sequential![Linear::new(2, 2)].state_dict();
    /// let handle = hooks::register_load_state_dict_post_hook(&model, "1", |prefix, _, report| {
    ///     report.missing.retain(|(name, _)| !name.starts_with(prefix));
    /// })?;
    /// model.load_state_dict(&old)?;
    /// # drop(handle);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_load_state_dict_post_hook;
}
