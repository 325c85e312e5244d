//! [`Hooked`]: a module whose hooks move along.

use std::{
    any::TypeId,
    fmt,
    ops::{Deref, DerefMut},
    ptr,
    sync::atomic::{AtomicBool, Ordering},
};

use super::{
    super::{Forward, Module, call::Place, containers::as_inside, copies::copying, printing},
    calls, is_anybody_watching,
    state::{self, runner},
};
use crate::{Real, Result, Tensor};

/// A module with permanent hooks: it replaces the module inside, with the same names, and may be moved, trained and
/// evaluated while a hook is registered.
///
/// Hooks stay with the wrapper: if it holds a box, and another module is put into it, they are those of the new module. A
/// clone has no hooks.
///
/// ```
/// use ndnn::{module::hooks::Hooked, prelude::*};
/// let layer = Hooked::new(Linear::new(3, 2));
/// let handle = layer.register_forward_hook(|_input, output| output[0].get::<f32>().map(|y| y.relu()));
/// let mut model = sequential![layer, Tanh];
/// model.eval();
/// assert_eq!(model.named_parameters()[0].0, "0.weight");
/// assert!(model.forward(&Tensor::randn([8, 3]))?.ge(0.0)?.all().item()?);
/// handle.remove();
/// # Ok::<(), ndnn::Error>(())
/// ```
pub struct Hooked<M: Module> {
    /// Boxed, so that the module's address never changes.
    boxed: Box<Slot<M>>,
}

struct Slot<M> {
    module: M,
    /// Whether its hooks are parked, since the module may be replaced by one with another address. It also gives an address
    /// to a module without fields.
    parked: AtomicBool,
}

impl<M: Module> Slot<M> {
    /// Where hooks wait that no call runs.
    fn parking(&self) -> Place {
        (ptr::from_ref(&self.parked) as usize, TypeId::of::<AtomicBool>())
    }
}

/// Whether it may have hooks.
fn may_have_hooks() -> bool {
    is_anybody_watching() || runner().is_some()
}

fn move_hooks(from: Place, to: Place) {
    calls::REGISTERED.relocate(from, to);
    state::REGISTERED.relocate(from, to);
}

impl<M: Module + Clone> Hooked<M> {
    /// A module to which hooks can be added.
    pub fn new(module: M) -> Self {
        Hooked { boxed: Box::new(Slot { module, parked: AtomicBool::new(false) }) }
    }
}

impl<M: Module> Drop for Hooked<M> {
    fn drop(&mut self) {
        if may_have_hooks() {
            // Another module may get the same address.
            let place = (**self).as_module().place();
            calls::REGISTERED.remove(|h| h.place == Some(place));
            state::REGISTERED.remove(|h| h.place == Some(place));
        }
    }
}

impl<M: Module> Deref for Hooked<M> {
    type Target = M;
    fn deref(&self) -> &M {
        let slot = &*self.boxed;
        if slot.parked.load(Ordering::Acquire) {
            move_hooks(slot.parking(), slot.module.as_module().place());
            slot.parked.store(false, Ordering::Release);
        }
        &slot.module
    }
}

impl<M: Module> DerefMut for Hooked<M> {
    fn deref_mut(&mut self) -> &mut M {
        if may_have_hooks() {
            move_hooks((**self).as_module().place(), self.boxed.parking());
            self.boxed.parked.store(true, Ordering::Release);
        }
        &mut self.boxed.module
    }
}

impl<M: Module + Clone> Module for Hooked<M> {
    as_inside!();
    as_inside!(mut);
}

impl<M: Module + Clone> Clone for Hooked<M> {
    fn clone(&self) -> Self {
        let _copying = copying();
        Hooked::new((**self).copied())
    }
}

impl<T: Real, X: 'static, M: Forward<T, X> + Clone> Forward<T, X> for Hooked<M> {
    fn forward(&self, x: &X) -> Result<Tensor<T>> {
        (**self).forward(x)
    }
}

impl<M: Module + Clone> fmt::Display for Hooked<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&printing::repr(self))
    }
}
