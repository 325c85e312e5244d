//! Whether anything watches calls: hooks or a summary.

use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};

use super::super::{
    Module,
    call::{self, Observer},
};

/// The number of registered hooks, and of running functions with hooks or summaries.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// Whether a call must look for hooks and summaries.
#[inline]
pub(in crate::module) fn is_anybody_watching() -> bool {
    WATCHING.load(Ordering::Relaxed) > 0
}

/// What finds the observer of a call, once anything has watched.
static OBSERVER: OnceLock<fn(&dyn Module) -> Option<Box<dyn Observer + '_>>> = OnceLock::new();

/// What observes a call of this module now, if anything does.
#[cold]
pub(in crate::module) fn observer(module: &dyn Module) -> Option<Box<dyn Observer + '_>> {
    OBSERVER.get().and_then(|find| find(module))
}

/// Makes calls look for hooks and summaries as long as it exists.
pub(in crate::module) struct Watch;

impl Watch {
    #[inline]
    pub fn new() -> Self {
        OBSERVER.get_or_init(|| call::observer);
        WATCHING.fetch_add(1, Ordering::Relaxed);
        Watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        WATCHING.fetch_sub(1, Ordering::Relaxed);
    }
}
