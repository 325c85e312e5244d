//! What a clone or a conversion of a module has copied so far, so that what was tied stays tied.

use std::{any::Any, collections::HashMap};

use crate::{
    sync::{Scoped, during},
    tensor::DType,
};

/// A shared handle on a tensor.
pub(super) trait Handle: Clone + 'static {
    /// Where what is shared lies: a name for it, as long as a handle lives.
    fn address(&self) -> usize;
}

#[derive(Default)]
struct Copies {
    /// By the address of what was copied and the element type of the copy.
    made: HashMap<(usize, DType), Box<dyn Any>>,
    /// What was copied: a conversion drops its sources as it goes, and an address names another parameter then.
    sources: Vec<Box<dyn Any>>,
}

thread_local! {
    /// The copies made so far by the clone or conversion of a module that is under way on this thread.
    static COPIES: Scoped<Copies> = const { Scoped::new() };
}

/// Runs `f`, during which one parameter met twice is copied once.
#[track_caller]
pub fn copying<R>(f: impl FnOnce() -> R) -> R {
    if COPIES.with(Scoped::is_some) {
        return f();
    }
    during(&COPIES, Copies::default(), f).0
}

fn with<R>(f: impl FnOnce(&mut Copies) -> Option<R>) -> Option<R> {
    COPIES.with(|copies| copies.with(|c| c.as_mut().and_then(f)))
}

/// The copy of `source` in elements of `dtype` that was made already, or a new one.
pub(super) fn copied<S: Handle, C: Handle>(source: &S, dtype: DType, make: impl FnOnce() -> C) -> C {
    let address = source.address();
    let known = with(|c| c.made.get(&(address, dtype))?.downcast_ref::<C>().cloned());
    known.unwrap_or_else(|| {
        let copy = make();
        with(|c| {
            c.sources.push(Box::new(source.clone()));
            c.made.insert((address, dtype), Box::new(copy.clone()))
        });
        copy
    })
}
