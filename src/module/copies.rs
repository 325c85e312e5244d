//! What a clone or a conversion of a module has copied so far, so that tied parameters stay tied.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
};

use crate::sync::{Scoped, during};

/// A shared handle to a tensor, or a shared module.
pub(crate) trait Handle: Clone + 'static {
    /// The address of what is shared, which identifies it as long as a handle exists.
    fn address(&self) -> usize;
}

impl<M: 'static> Handle for Arc<M> {
    fn address(&self) -> usize {
        Arc::as_ptr(self) as *const () as usize
    }
}

type Key = (usize, TypeId);

#[derive(Default)]
struct Copies {
    /// By the address of the source and the type of the copy.
    made: HashMap<Key, Rc<dyn Any>>,
    /// From the address of a copy to that of the original from which it was derived.
    origins: HashMap<usize, usize>,
    /// Keeps the sources: a conversion drops them as it proceeds, and their addresses could then be reused.
    sources: Vec<Box<dyn Any>>,
    /// Whether a clone shares what is behind its handles with the original.
    shared: bool,
    /// Why a conversion failed.
    failed: Option<String>,
}

thread_local! {
    /// The copies made so far by the running clone or conversion of a module on this thread.
    static COPIES: Scoped<Copies> = const { Scoped::new() };
}

/// A running clone or conversion: until the outermost one is dropped, a parameter that is met twice is copied once. (A
/// function that takes a closure would be compiled for each type of module.)
#[must_use = "it ends when it is dropped"]
pub struct Copying {
    outermost: bool,
}

/// Begins a clone, or a conversion, which [`Copying::end`] ends.
#[inline(never)]
pub fn copying() -> Copying {
    let outermost = !COPIES.with(Scoped::is_some);
    if outermost {
        COPIES.with(|copies| copies.with(|c| *c = Some(Copies::default())));
    }
    Copying { outermost }
}

impl Copying {
    fn take(&mut self) -> Option<Copies> {
        if !std::mem::take(&mut self.outermost) {
            return None;
        }
        COPIES.with(|copies| copies.with(Option::take))
    }

    /// Ends a conversion, and returns what it made.
    ///
    /// # Panics
    /// If something inside could not be converted; at the place of the outermost call, which is the user's.
    #[track_caller]
    #[inline]
    pub fn end<R>(self, converted: R) -> R {
        self.ended();
        converted
    }

    /// Of [`end`](Copying::end), what need not be compiled for each type of module.
    #[track_caller]
    fn ended(mut self) {
        if let Some(Copies { failed: Some(why), .. }) = self.take() {
            panic!("{why}");
        }
    }
}

impl Drop for Copying {
    #[inline(never)]
    fn drop(&mut self) {
        // Dropped after the borrow ended, since a module's destructor may clone another one.
        let copies = self.take();
        // A clone may contain a conversion, whose failure is not lost.
        if let Some(Copies { failed: Some(why), .. }) = copies
            && !std::thread::panicking()
        {
            panic!("{why}");
        }
    }
}

/// Runs `f`; meanwhile a clone of a module has the same parameters, buffers and shared modules as the original.
pub(crate) fn sharing<R>(f: impl FnOnce() -> R) -> R {
    during(&COPIES, Copies { shared: true, ..Copies::default() }, f).0
}

/// Leaves it to the outermost [`copying`] to say why a conversion failed.
pub(super) fn fail(why: String) {
    with(|c| Some(c.failed.get_or_insert(why).len()));
}

fn with<R>(f: impl FnOnce(&mut Copies) -> Option<R>) -> Option<R> {
    COPIES.with(|copies| copies.with(|c| c.as_mut().and_then(f)))
}

/// The existing clone of `source`, or a new one.
pub(crate) fn cloned<H: Handle>(source: &H, make: impl FnOnce() -> H) -> H {
    if is_sharing() {
        return source.clone();
    }
    remember(source, source.address(), make)
}

/// The existing conversion of `source`, or a new one. A shared module is cloned before it is converted; converting such
/// a clone counts as converting the original, to which other parts of the model may be tied.
pub(super) fn converted<S: Handle, C: Handle>(source: &S, make: impl FnOnce() -> C) -> C {
    let address = source.address();
    remember(source, origin_of(address), make)
}

fn is_sharing() -> bool {
    with(|c| c.shared.then_some(())).is_some()
}

fn origin_of(address: usize) -> usize {
    with(|c| c.origins.get(&address).copied()).unwrap_or(address)
}

fn remember<S: Handle, C: Handle>(source: &S, origin: usize, make: impl FnOnce() -> C) -> C {
    let key = (origin, TypeId::of::<C>());
    if let Some(copy) = known(key) {
        return copy.downcast_ref::<C>().expect("the type in its key").clone();
    }
    let copy = make();
    keep(key, copy.address(), Rc::new(copy.clone()), Box::new(source.clone()));
    copy
}

fn known(key: Key) -> Option<Rc<dyn Any>> {
    with(|c| c.made.get(&key).cloned())
}

fn keep(key: Key, address: usize, copy: Rc<dyn Any>, source: Box<dyn Any>) {
    with(|c| {
        c.sources.push(source);
        c.origins.insert(address, *c.origins.get(&key.0).unwrap_or(&key.0));
        c.made.insert(key, copy)
    });
}

#[cfg(test)]
mod tests {
    use super::{copying, fail};

    #[test]
    #[should_panic(expected = "no conversion")]
    fn a_failed_conversion_inside_a_clone_panics() {
        let _clone = copying();
        let conversion = copying();
        fail("no conversion".into());
        conversion.end(());
    }
}
