//! The hooks of a call: what they see, and which of them run.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use super::{
    super::{Module, call::Place, printing, summary, walk},
    table::{Handle, HookKind, Places, Table, next_id, places},
    watch::{Watch, is_anybody_watching},
};
use crate::{
    Error, Result,
    kernels::lend::{Lent, lend},
    sync::{self, Scoped},
    tensor::AnyTensor,
};

/// What a hook sees, and what it returned.
#[derive(Default)]
pub(in crate::module) struct Event {
    pub(super) path: Arc<str>,
    pub input: Vec<AnyTensor>,
    pub output: Vec<AnyTensor>,
    pub(super) returned: Vec<AnyTensor>,
}

impl Event {
    #[inline]
    pub fn new(input: Vec<AnyTensor>, output: Vec<AnyTensor>) -> Self {
        Event { input, output, ..Event::default() }
    }

    /// Runs a hook; returns whether it replaced something.
    #[inline]
    pub fn run(&mut self, hook: &Hook) -> Result<bool> {
        self.path = hook.path.clone();
        match &hook.call {
            Caller::Registered(f) => f(self),
            Caller::Lent(f) => drop(f.call(self)),
        }
        let returned = std::mem::take(&mut self.returned);
        let of_input = matches!(hook.kind, HookKind::ForwardPre | HookKind::Backward);
        let place = if of_input { &mut self.input } else { &mut self.output };
        if returned.is_empty() {
            return Ok(false);
        }
        if returned.len() != place.len() {
            let (got, there) = (returned.len(), place.len());
            let why = format!(
                "the hook returned {got} tensors in the place of {there}; return as many, or () to leave them as they are"
            );
            return Err(Error::value("hook", why));
        }
        *place = returned;
        Ok(true)
    }
}

pub(super) type OfCalls = dyn Fn(&mut Event) + Send + Sync;

#[derive(Clone)]
enum Caller {
    Registered(Arc<OfCalls>),
    Lent(Rc<Lent<Event>>),
}

/// A hook of one module, or of all.
#[derive(Clone)]
pub(in crate::module) struct Hook {
    pub kind: HookKind,
    id: u64,
    /// The module; `None` for all.
    place: Option<Place>,
    /// What the hook sees as the path.
    path: Arc<str>,
    call: Caller,
}

/// Identifies a hook of a call, on any thread.
pub(super) struct Key {
    id: u64,
    place: Option<Place>,
    path: Arc<str>,
}

pub(super) static REGISTERED: Table<OfCalls> = Table::new();

thread_local! {
    /// The hooks of this thread, set by [`during`](super::during).
    static HERE: Scoped<Vec<Hook>> = const { Scoped::new() };
    /// For the modules of a copy that runs instead of its original, those of the original.
    static ORIGINS: Scoped<Origins> = const { Scoped::new() };
}

pub(crate) type Origins = Arc<HashMap<Place, Place>>;

#[inline]
fn origin(place: Place) -> Place {
    ORIGINS.with(|o| o.with(|o| o.as_ref().and_then(|o| o.get(&place).copied()))).unwrap_or(place)
}

/// For each module of a copy, that of the original; nothing if there are no hooks.
#[inline]
pub(crate) fn origins(copy: &dyn Module, original: &dyn Module) -> Origins {
    if !is_anybody_watching() {
        return Origins::default();
    }
    let mut origins = HashMap::from([(copy.place(), origin(original.place()))]);
    let originals = walk::named_modules(original);
    for ((_, copy), (_, module)) in walk::named_modules(copy).into_iter().zip(originals) {
        origins.insert(copy.place(), origin(module.place()));
    }
    Arc::new(origins)
}

/// Runs `f`, in which the modules of a copy have the hooks of the original.
pub(crate) fn with_origins<R>(origins: &Origins, f: impl FnOnce() -> R) -> R {
    if origins.is_empty() { f() } else { sync::during(&ORIGINS, origins.clone(), f).0 }
}

/// The originals of the copies that run on this thread, for threads that continue its work.
#[inline]
pub(crate) fn origins_here() -> Origins {
    ORIGINS.with(|o| o.with(|o| o.clone())).unwrap_or_default()
}

/// Whether a hook or a summary observes the calls on this thread, and not those on others.
#[inline]
pub(crate) fn are_only_here() -> bool {
    HERE.with(Scoped::is_some) || summary::is_running()
}

#[inline]
fn select(wanted: &dyn Fn(u64, Option<Place>) -> bool) -> Vec<Hook> {
    let mut found = Vec::new();
    REGISTERED.each(&mut |h| {
        if wanted(h.id, h.place) {
            let call = Caller::Registered(h.call.clone());
            found.push(Hook { id: h.id, kind: h.kind, place: h.place, path: h.path.clone(), call });
        }
    });
    HERE.with(|here| {
        here.with(|hooks| {
            for hook in hooks.iter().flatten() {
                if wanted(hook.id, hook.place) {
                    found.push(hook.clone());
                }
            }
        });
    });
    // Those of all modules first, each in the order of registration.
    found.sort_by_key(|hook| (hook.place.is_some(), hook.id));
    found
}

/// The hooks for a call of this module: first those of all modules, each in the order of registration.
#[inline]
pub(in crate::module) fn of(module: &dyn Module) -> Vec<Hook> {
    let place = origin(module.place());
    let mut found = select(&|_, at| at.is_none_or(|at| at == place));
    let mut line: Option<Arc<str>> = None;
    for hook in &mut found {
        if hook.place.is_none() {
            hook.path = line.get_or_insert_with(|| printing::line(module).into()).clone();
        }
    }
    found
}

/// The hook with this key, if it still exists and is active on this thread.
#[inline]
pub(super) fn find(key: &Key) -> Option<Hook> {
    let hook = select(&|id, at| id == key.id && at == key.place).pop()?;
    Some(Hook { path: key.path.clone(), ..hook })
}

impl Hook {
    #[inline]
    pub(super) fn key(&self) -> Key {
        Key { id: self.id, place: self.place, path: self.path.clone() }
    }
}

/// Runs `run`, in which the hook is that of the modules whose path matches, on this thread.
pub(super) fn lent<R>(
    model: &dyn Module,
    pattern: &str,
    kind: HookKind,
    hook: &mut dyn FnMut(&mut Event),
    run: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let (places, id, _watch) = (places(model, pattern)?, next_id(), Watch::new());
    lend(hook, |lent| {
        let mut here = HERE.with(|h| h.with(|h| h.clone())).unwrap_or_default();
        let call = || Caller::Lent(lent.clone());
        for (place, path) in places {
            here.push(Hook { id, kind, place, path, call: call() });
        }
        sync::during(&HERE, here, run).0
    })
}

pub(super) fn register<'a>(
    places: Places,
    kind: HookKind,
    call: impl Fn(&mut Event) + Send + Sync + 'static,
) -> Handle<'a> {
    REGISTERED.register(places, kind, Arc::new(call), || Some(Watch::new()))
}
