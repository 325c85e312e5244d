//! The hooks that are registered for all threads, and the handles that remove them.

use std::{
    collections::HashSet,
    fmt,
    marker::PhantomData,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    super::{Module, call::Place, walk},
    watch::Watch,
};
use crate::{
    Error, Result,
    error::there_are,
    state::pattern,
    sync::{read, write},
};

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(in crate::module) enum HookKind {
    ForwardPre,
    Forward,
    BackwardPre,
    Backward,
    StateDictPre,
    StateDictPost,
    LoadPre,
    LoadPost,
}

/// Where hooks are registered: the modules, `None` for all, each with what the hook sees as its path.
pub(super) type Places = Vec<(Option<Place>, Arc<str>)>;

/// A hook of one module, or of all.
pub(super) struct Registered<C: ?Sized> {
    pub id: u64,
    pub kind: HookKind,
    pub place: Option<Place>,
    pub path: Arc<str>,
    pub call: Arc<C>,
    /// Makes calls look for hooks, if it is one of calls.
    _watch: Option<Watch>,
}

/// Hooks that are called as `C`, in order of registration.
pub(super) struct Table<C: ?Sized + 'static>(RwLock<Vec<Registered<C>>>);

impl<C: ?Sized + Send + Sync> Table<C> {
    pub const fn new() -> Self {
        Table(RwLock::new(Vec::new()))
    }

    pub fn register<'a>(
        &'static self,
        places: Places,
        kind: HookKind,
        call: Arc<C>,
        watch: impl Fn() -> Option<Watch>,
    ) -> Handle<'a> {
        let id = next_id();
        let mut hooks = write(&self.0);
        for (place, path) in places {
            hooks.push(Registered { id, kind, place, path, call: call.clone(), _watch: watch() });
        }
        drop(hooks);
        Handle::new(move || self.remove(|h| h.id == id))
    }

    pub fn remove(&self, which: impl Fn(&Registered<C>) -> bool) {
        // Dropped after the lock is released: what a hook captured may register or remove hooks.
        let removed: Vec<Registered<C>> = write(&self.0).extract_if(.., |h| which(h)).collect();
        drop(removed);
    }

    /// Shows each hook to `f`, under the lock.
    pub fn each(&self, f: &mut dyn FnMut(&Registered<C>)) {
        for hook in &*read(&self.0) {
            f(hook);
        }
    }

    pub fn relocate(&self, from: Place, to: Place) {
        for hook in &mut *write(&self.0) {
            if hook.place == Some(from) {
                hook.place = Some(to);
            }
        }
    }
}

#[inline]
pub(super) fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// The identities of the modules whose path matches, each once with its first path; the model's own path is empty.
#[inline]
pub(super) fn places(model: &dyn Module, pattern: &str) -> Result<Places> {
    let mut modules: Vec<(String, &dyn Module)> = vec![(String::new(), model)];
    modules.extend(walk::named_modules(model));
    // A call of a module in several places of the model is one call.
    let (mut seen, mut found) = (HashSet::new(), Places::new());
    for (path, module) in &modules {
        if pattern::matches(pattern, path) && seen.insert(module.place()) {
            found.push((Some(module.place()), Arc::from(&**path)));
        }
    }
    if found.is_empty() {
        let paths = there_are(modules[1..].iter().map(|(path, _)| path));
        return Err(Error::state("hooks", format!("`{pattern}` matches no module; {paths}")));
    }
    Ok(found)
}

/// A registered hook; dropping it, or [`remove`](Handle::remove), removes the hook.
///
/// The hook of a [`Hooked`](super::Hooked) module, a parameter or all modules can be made permanent with [`keep`](Handle::keep).
#[must_use = "the hook is removed when the handle is dropped"]
pub struct Handle<'a> {
    remove: Option<Box<dyn FnOnce() + Send + Sync>>,
    model: PhantomData<&'a ()>,
}

impl Handle<'_> {
    pub(crate) fn new(remove: impl FnOnce() + Send + Sync + 'static) -> Self {
        Handle { remove: Some(Box::new(remove)), model: PhantomData }
    }

    /// Removes the hook.
    #[inline]
    pub fn remove(self) {}
}

impl Handle<'static> {
    /// Makes the hook permanent: it stays as long as its module or parameter exists; a hook of all modules, as long as the
    /// program runs.
    #[inline]
    pub fn keep(mut self) {
        self.remove = None;
    }
}

impl Drop for Handle<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            remove();
        }
    }
}

impl fmt::Debug for Handle<'_> {
    #[inline]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}
