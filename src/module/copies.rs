//! What a clone or a conversion of a module has copied so far, so that tied parameters stay tied.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::Arc,
};

use crate::sync::{Scoped, during};

/// A shared handle to a tensor, or a shared module.
pub(super) trait Handle: Clone + 'static {
    /// The address of what is shared, which identifies it as long as a handle exists.
    fn address(&self) -> usize;
}

impl<M: 'static> Handle for Arc<M> {
    fn address(&self) -> usize {
        Arc::as_ptr(self) as *const () as usize
    }
}

#[derive(Default)]
struct Copies {
    /// By the address of the source and the type of the copy.
    made: HashMap<(usize, TypeId), Box<dyn Any>>,
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

/// Runs `f`; meanwhile a parameter that is met twice is copied once.
///
/// # Panics
/// If something inside cannot be converted; at the place of the outermost call, which is the user's.
#[track_caller]
pub fn copying<R>(f: impl FnOnce() -> R) -> R {
    let (mut f, mut result) = (Some(f), None);
    outermost(&mut || result = f.take().map(|f| f()));
    result.expect("it ran")
}

/// Runs `f`; meanwhile a clone of a module has the same parameters, buffers and shared modules as the original.
pub(crate) fn sharing<R>(f: impl FnOnce() -> R) -> R {
    during(&COPIES, Copies { shared: true, ..Copies::default() }, f).0
}

/// Of all that [`copying`] does, what need not be compiled for each type of module.
#[track_caller]
fn outermost(f: &mut dyn FnMut()) {
    if COPIES.with(Scoped::is_some) {
        return f();
    }
    if let ((), Copies { failed: Some(why), .. }) = during(&COPIES, Copies::default(), f) {
        panic!("{why}");
    }
}

/// Leaves it to the outermost [`copying`] to say why a conversion failed.
pub(super) fn fail(why: String) {
    with(|c| Some(c.failed.get_or_insert(why).len()));
}

fn with<R>(f: impl FnOnce(&mut Copies) -> Option<R>) -> Option<R> {
    COPIES.with(|copies| copies.with(|c| c.as_mut().and_then(f)))
}

/// The existing clone of `source`, or a new one.
pub(super) fn cloned<H: Handle>(source: &H, make: impl FnOnce() -> H) -> H {
    if with(|c| c.shared.then_some(())).is_some() {
        return source.clone();
    }
    remember(source, source.address(), make)
}

/// The existing conversion of `source`, or a new one. A shared module is cloned before it is converted; converting such
/// a clone counts as converting the original, to which other parts of the model may be tied.
pub(super) fn converted<S: Handle, C: Handle>(source: &S, make: impl FnOnce() -> C) -> C {
    let address = source.address();
    let origin = with(|c| c.origins.get(&address).copied());
    remember(source, origin.unwrap_or(address), make)
}

fn remember<S: Handle, C: Handle>(source: &S, origin: usize, make: impl FnOnce() -> C) -> C {
    let key = (origin, TypeId::of::<C>());
    let known = with(|c| c.made.get(&key)?.downcast_ref::<C>().cloned());
    known.unwrap_or_else(|| {
        let copy = make();
        with(|c| {
            c.sources.push(Box::new(source.clone()));
            c.origins.insert(copy.address(), *c.origins.get(&origin).unwrap_or(&origin));
            c.made.insert(key, Box::new(copy.clone()))
        });
        copy
    })
}
