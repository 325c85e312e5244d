//! Hooks: functions that see the inputs and outputs of a module, forward and backward, and may replace them.
//!
//! A module is called where its `forward` is marked [`#[forward]`](crate::forward), as those of all layers are. As in
//! PyTorch there are four kinds of hooks:
//!
//! | | sees, after the path | may replace |
//! |---|---|---|
//! | forward pre-hook | the input | the input |
//! | forward hook | input and output | the output |
//! | backward pre-hook | the gradient of the output | that gradient |
//! | backward hook | the gradients of input and output | the gradient of the input |
//!
//! Each sees the tensors in order: those of all arguments that are [`Tensors`], that is `&Tensor`, and tuples, lists and
//! options of tensors. A backward hook sees the gradients of those through which gradients flow: none if the input needs
//! none, and zeros for one of several outputs that is not used. A hook returns nothing, `()`, or as many tensors as it may
//! replace, as one tensor, a tuple or a `Vec`.
//!
//! - [`during`] and its variants borrow the hook, so that the hook may borrow too; it is active while a function runs,
//!   on the caller's thread.
//! - [`register_forward_hook`] and its variants are active until their [`Handle`] is dropped, on all threads. A handle
//!   borrows the model, so its layers cannot move meanwhile.
//! - [`Hooked`] is a wrapper around a module, whose hooks stay while it is moved, trained and evaluated.
//! - [`register_module_forward_hook`] and its variants are active for every module of the program, until their handle is
//!   dropped. They see the module as it prints, without its children, in the place of a path, and run before the other hooks.
//!
//! A module in several places of a model has one hook, which gets the first path that matches. Hooks run in the order in
//! which they were registered. If one panics, the panic propagates, and hooks of [`during`] are removed.
//!
//! ```
//! use ndnn::{module::hooks, prelude::*};
//! let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
//! let mut features = Vec::new();
//! let y = hooks::during(
//!     &model,
//!     "1",
//!     |path, _input, output| features.push((path.to_string(), output[0].shape().to_vec())),
//!     || model.forward(&Tensor::ones([5, 4])),
//! )?;
//! assert_eq!((y.shape(), &features[..]), (&[5, 2][..], &[("1".to_string(), vec![5, 8])][..]));
//! # Ok::<(), ndnn::Error>(())
//! ```

use std::{
    any::TypeId,
    collections::{HashMap, HashSet},
    fmt,
    marker::PhantomData,
    ops::{Deref, DerefMut},
    ptr,
    rc::Rc,
    sync::{
        Arc, OnceLock, RwLock,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use super::{
    Forward, Module,
    call::{self, Observer, Place},
    containers::as_inside,
    copies::copying,
    printing, summary, walk,
};
use crate::{
    Error, Real, Result,
    kernels::lend::{Lent, lend},
    state::pattern,
    sync::{self, Scoped, read, write},
    tensor::{AnyTensor, Tensor, Tensors},
};

// ------------------------------------------------------------------------------------------------------------ the table

/// When a hook runs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum HookKind {
    ForwardPre,
    Forward,
    BackwardPre,
    Backward,
}

/// What a hook sees, and what it returned.
#[derive(Default)]
pub(super) struct Event {
    path: Arc<str>,
    pub input: Vec<AnyTensor>,
    pub output: Vec<AnyTensor>,
    returned: Vec<AnyTensor>,
}

impl Event {
    pub fn new(input: Vec<AnyTensor>, output: Vec<AnyTensor>) -> Self {
        Event { input, output, ..Event::default() }
    }

    /// Runs a hook; returns whether it replaced something.
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

#[derive(Clone)]
enum Caller {
    Registered(Arc<dyn Fn(&mut Event) + Send + Sync>),
    Lent(Rc<Lent<Event>>),
}

/// A hook of one module, or of all.
#[derive(Clone)]
pub(super) struct Hook {
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

/// A hook that is registered for all threads.
struct Registered {
    id: u64,
    kind: HookKind,
    place: Option<Place>,
    path: Arc<str>,
    call: Arc<dyn Fn(&mut Event) + Send + Sync>,
    _watch: Watch,
}

static REGISTERED: RwLock<Vec<Registered>> = RwLock::new(Vec::new());

thread_local! {
    /// The hooks of this thread, set by [`during`].
    static HERE: Scoped<Vec<Hook>> = const { Scoped::new() };
    /// For the modules of a copy that runs instead of its original, those of the original.
    static ORIGINS: Scoped<Origins> = const { Scoped::new() };
}

pub(crate) type Origins = Arc<HashMap<Place, Place>>;

fn origin(place: Place) -> Place {
    ORIGINS.with(|o| o.with(|o| o.as_ref().and_then(|o| o.get(&place).copied()))).unwrap_or(place)
}

/// For each module of a copy, that of the original; nothing if there are no hooks.
pub(crate) fn origins(copy: &dyn Module, original: &dyn Module) -> Origins {
    if !is_anybody_watching() {
        return Origins::default();
    }
    let all = |root| std::iter::once(root).chain(walk::named_modules(root).into_iter().map(|(_, module)| module));
    Arc::new(all(copy).zip(all(original)).map(|(copy, module)| (copy.place(), origin(module.place()))).collect())
}

/// Runs `f`, in which the modules of a copy have the hooks of the original.
pub(crate) fn with_origins<R>(origins: &Origins, f: impl FnOnce() -> R) -> R {
    if origins.is_empty() { f() } else { sync::during(&ORIGINS, origins.clone(), f).0 }
}

/// The originals of the copies that run on this thread, for threads that continue its work.
pub(crate) fn origins_here() -> Origins {
    ORIGINS.with(|o| o.with(|o| o.clone())).unwrap_or_default()
}

/// Whether a hook or a summary observes the calls on this thread, and not those on others.
pub(crate) fn are_only_here() -> bool {
    HERE.with(Scoped::is_some) || summary::is_running()
}

/// The number of registered hooks, and of running functions with hooks or summaries.
static WATCHING: AtomicUsize = AtomicUsize::new(0);

/// Whether a call must look for hooks and summaries.
#[inline]
pub(super) fn is_anybody_watching() -> bool {
    WATCHING.load(Ordering::Relaxed) > 0
}

/// What finds the observer of a call, once anything has watched.
static OBSERVER: OnceLock<fn(&dyn Module) -> Option<Box<dyn Observer + '_>>> = OnceLock::new();

/// What observes a call of this module now, if anything does.
#[cold]
pub(super) fn observer(module: &dyn Module) -> Option<Box<dyn Observer + '_>> {
    OBSERVER.get().and_then(|find| find(module))
}

/// Makes calls look for hooks and summaries as long as it exists.
pub(super) struct Watch;

impl Watch {
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

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn select(wanted: impl Fn(u64, Option<Place>) -> bool) -> Vec<Hook> {
    let mut found = Vec::new();
    for Registered { id, kind, place, path, call, .. } in read(&REGISTERED).iter().filter(|h| wanted(h.id, h.place)) {
        let (path, call) = (path.clone(), Caller::Registered(call.clone()));
        found.push(Hook { id: *id, kind: *kind, place: *place, path, call });
    }
    HERE.with(|here| here.with(|h| found.extend(h.iter().flatten().filter(|h| wanted(h.id, h.place)).cloned())));
    found.sort_by_key(|h| (h.place.is_some(), h.id));
    found
}

/// The hooks for a call of this module: first those of all modules, each in the order of registration.
pub(super) fn of(module: &dyn Module) -> Vec<Hook> {
    let place = origin(module.place());
    let mut found = select(|_, at| at.is_none_or(|at| at == place));
    let mut of_all = found.iter_mut().take_while(|h| h.place.is_none()).peekable();
    if of_all.peek().is_some() {
        let line: Arc<str> = printing::line(module).into();
        of_all.for_each(|hook| hook.path = line.clone());
    }
    found
}

/// The hook with this key, if it still exists and is active on this thread.
pub(super) fn find(key: &Key) -> Option<Hook> {
    let hook = select(|id, at| id == key.id && at == key.place).pop()?;
    Some(Hook { path: key.path.clone(), ..hook })
}

impl Hook {
    pub fn key(&self) -> Key {
        Key { id: self.id, place: self.place, path: self.path.clone() }
    }
}

/// The identities of the modules whose path matches, each once with its first path; the model's own path is empty.
fn places<M: Module>(model: &M, pattern: &str) -> Result<Vec<(Option<Place>, Arc<str>)>> {
    let mut modules: Vec<(String, &dyn Module)> = vec![(String::new(), model)];
    modules.extend(walk::named_modules(model));
    let found = modules.iter().filter(|(path, _)| pattern::matches(pattern, path));
    // A call of a module in several places of the model is one call.
    let mut seen = HashSet::new();
    let found = found.map(|(path, module)| (module.place(), Arc::from(&**path)));
    let found = found.filter(|(place, _)| seen.insert(*place));
    let found: Vec<_> = found.map(|(place, path)| (Some(place), path)).collect();
    if found.is_empty() {
        let paths = crate::error::listed(modules[1..].iter().map(|(path, _)| path));
        return Err(Error::state("hooks", format!("`{pattern}` matches no module; there are {paths}")));
    }
    Ok(found)
}

// ------------------------------------------------------------------------------------------------ while a function runs

fn lent<M: Module, R>(
    model: &M,
    pattern: &str,
    kind: HookKind,
    hook: &mut dyn FnMut(&mut Event),
    run: impl FnOnce() -> Result<R>,
) -> Result<R> {
    let (places, id, _watch) = (places(model, pattern)?, next_id(), Watch::new());
    lend(hook, |lent| {
        let mut here = HERE.with(|h| h.with(|h| h.clone())).unwrap_or_default();
        let call = || Caller::Lent(lent.clone());
        here.extend(places.into_iter().map(|(place, path)| Hook { id, kind, place, path, call: call() }));
        sync::during(&HERE, here, run).0
    })
}

// ---------------------------------------------------------------------------------------------------------- until removed

/// A registered hook; dropping it, or [`remove`](Handle::remove), removes the hook.
///
/// The hook of a [`Hooked`] module, a tensor, a parameter or all modules can be made permanent with [`keep`](Handle::keep).
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
    pub fn remove(self) {}
}

impl Handle<'static> {
    /// Makes the hook permanent: it stays as long as its module, tensor or parameter exists; a hook of all modules, as long
    /// as the program runs.
    pub fn keep(mut self) {
        self.remove = None;
    }
}

impl Drop for Handle<'_> {
    fn drop(&mut self) {
        if let Some(remove) = self.remove.take() {
            remove();
        }
    }
}

impl fmt::Debug for Handle<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

fn register<'a>(
    places: Vec<(Option<Place>, Arc<str>)>,
    kind: HookKind,
    call: impl Fn(&mut Event) + Send + Sync + 'static,
) -> Handle<'a> {
    let (id, call): (_, Arc<dyn Fn(&mut Event) + Send + Sync>) = (next_id(), Arc::new(call));
    let entry = |(place, path)| Registered { id, kind, place, path, call: call.clone(), _watch: Watch::new() };
    write(&REGISTERED).extend(places.into_iter().map(entry));
    Handle::new(move || unregister(|h| h.id == id))
}

fn unregister(which: impl Fn(&Registered) -> bool) {
    // Dropped after the lock is released: what a hook captured may register or remove hooks.
    let removed: Vec<Registered> = write(&REGISTERED).extract_if(.., |h| which(h)).collect();
    drop(removed);
}

/// The functions for the four kinds of hooks, each with what such a hook sees: while a function runs, until removed, on a
/// [`Hooked`] module, and on all modules.
macro_rules! kinds {
    ($(
        $kind:ident, ($($arg:ident),+):
        $(#[$during_doc:meta])* $during:ident,
        $(#[$doc:meta])* $name:ident,
        $(#[$all_doc:meta])* $all:ident;
    )*) => {
        $(
            $(#[$during_doc])*
            pub fn $during<M: Module, H: Tensors, R>(
                model: &M,
                pattern: &str,
                mut hook: impl FnMut(&str, $(kinds!(@ $arg)),+) -> H,
                run: impl FnOnce() -> Result<R>,
            ) -> Result<R> {
                let mut hook = |e: &mut Event| e.returned = hook(&e.path, $(&e.$arg),+).tensors();
                lent(model, pattern, HookKind::$kind, &mut hook, run)
            }

            $(#[$doc])*
            ///
            /// # Errors
            /// If no path matches.
            pub fn $name<'a, M: Module, H: Tensors>(
                model: &'a M,
                pattern: &str,
                hook: impl Fn(&str, $(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
            ) -> Result<Handle<'a>> {
                let places = places(model, pattern)?;
                Ok(register(places, HookKind::$kind, move |e| e.returned = hook(&e.path, $(&e.$arg),+).tensors()))
            }

            #[doc = concat!("As [`", stringify!($name), "`](", stringify!($name), "()), for every module of the program, on all threads: the hook")]
            /// sees the module as it prints, without its children, and runs before those of the module itself.
            $(#[$all_doc])*
            pub fn $all<H: Tensors>(
                hook: impl Fn(&str, $(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
            ) -> Handle<'static> {
                let everywhere = vec![(None, Arc::from(""))];
                register(everywhere, HookKind::$kind, move |e| e.returned = hook(&e.path, $(&e.$arg),+).tensors())
            }
        )*

        impl<M: Module + Clone> Hooked<M> {
            $(
                #[doc = concat!("As [`", stringify!($name), "`](", stringify!($name), "()), of this module, without a path.")]
                pub fn $name<H: Tensors>(
                    &self,
                    hook: impl Fn($(kinds!(@ $arg)),+) -> H + Send + Sync + 'static,
                ) -> Handle<'static> {
                    let place = vec![(Some(self.place()), Arc::from(""))];
                    register(place, HookKind::$kind, move |e| e.returned = hook($(&e.$arg),+).tensors())
                }
            )*
        }
    };
    (@ $arg:ident) => { &[AnyTensor] };
}
kinds! {
    ForwardPre, (input):
    /// As [`during`], with a forward pre-hook `hook(path, input)`, whose result replaces the input.
    ///
    /// # Errors
    /// As [`during`].
    during_pre,

    /// Registers the forward pre-hook `hook(path, input)` of each module whose path matches, for all threads.
    register_forward_pre_hook,

    register_module_forward_pre_hook;

    Forward, (input, output):
    /// Runs `run`; meanwhile, on this thread, the forward hook `hook(path, input, output)` of each module of `model` whose
    /// path matches `pattern` is active (`"layer4.*"`; `""` is the model itself).
    ///
    /// What the hook returns replaces the output, unless it is `()`.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(2, 2), ReLU];
    /// let (x, double) = (tensor![[1.0, 2.0]], |output: &[ndnn::AnyTensor]| output[0].get::<f32>().map(|y| y * 2.0));
    /// let y = hooks::during(&model, "1", |_, _, output| double(output), || model.forward(&x))?;
    /// assert_eq!(y, model.forward(&x)? * 2.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// Those of `run`; if no path matches; if the hook returns a different number or type of tensors than it may replace.
    during,

    /// Registers the forward hook `hook(path, input, output)` of each module whose path matches, for all threads.
    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    /// static CALLS: AtomicUsize = AtomicUsize::new(0);
    /// let model = sequential![Linear::new(2, 2), ReLU, Linear::new(2, 1)];
    /// let count = |_: &str, _: &[ndnn::AnyTensor], _: &[ndnn::AnyTensor]| drop(CALLS.fetch_add(1, Relaxed));
    /// let handle = hooks::register_forward_hook(&model, "*", count)?;
    /// model.forward(&Tensor::ones([3, 2]))?;
    /// handle.remove();
    /// model.forward(&Tensor::ones([3, 2]))?;
    /// assert_eq!(CALLS.load(Relaxed), 4, "three layers, and the model");
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_forward_hook,

    ///
    /// ```
    /// use ndnn::{module::hooks, prelude::*};
    /// let model = sequential![Linear::new(4, 8), ReLU, Linear::new(8, 2)];
    /// let handle = hooks::register_module_forward_hook(|module, _input, output| println!("{module}: {:?}", output[0].shape()));
    /// model.forward(&Tensor::ones([5, 4]))?;  // Linear(in_features=4, out_features=8, bias=True): [5, 8] …
    /// handle.remove();
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    register_module_forward_hook;

    BackwardPre, (output):
    /// As [`during_backward`], with a backward pre-hook `hook(path, grad_output)`, whose result replaces the gradient of
    /// the output.
    ///
    /// # Errors
    /// As [`during`].
    during_backward_pre,

    /// Registers the backward pre-hook `hook(path, grad_output)` of each module whose path matches, for all threads.
    register_full_backward_pre_hook,

    register_module_full_backward_pre_hook;

    Backward, (input, output):
    /// As [`during`], with a backward hook `hook(path, grad_input, grad_output)`, whose result replaces the gradient of the
    /// input. `run` calls both `forward` and `backward`.
    ///
    /// # Errors
    /// As [`during`].
    during_backward,

    /// Registers the backward hook `hook(path, grad_input, grad_output)` of each module whose path matches, for all threads.
    register_full_backward_hook,

    register_module_full_backward_hook;
}

// ------------------------------------------------------------------------------------------------- hooks that move along

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

fn move_hooks(from: Place, to: Place) {
    write(&REGISTERED).iter_mut().filter(|h| h.place == Some(from)).for_each(|h| h.place = Some(to));
}

impl<M: Module + Clone> Hooked<M> {
    /// A module to which hooks can be added.
    pub fn new(module: M) -> Self {
        Hooked { boxed: Box::new(Slot { module, parked: AtomicBool::new(false) }) }
    }
}

impl<M: Module> Drop for Hooked<M> {
    fn drop(&mut self) {
        if is_anybody_watching() {
            // Another module may get the same address.
            let place = (**self).place();
            unregister(|h| h.place == Some(place));
        }
    }
}

impl<M: Module> Deref for Hooked<M> {
    type Target = M;
    fn deref(&self) -> &M {
        let slot = &*self.boxed;
        if slot.parked.load(Ordering::Acquire) {
            move_hooks(slot.parking(), slot.module.place());
            slot.parked.store(false, Ordering::Release);
        }
        &slot.module
    }
}

impl<M: Module> DerefMut for Hooked<M> {
    fn deref_mut(&mut self) -> &mut M {
        if is_anybody_watching() {
            move_hooks((**self).place(), self.boxed.parking());
            self.boxed.parked.store(true, Ordering::Release);
        }
        &mut self.boxed.module
    }
}

impl<M: Module + Clone> Module for Hooked<M> {
    as_inside!();
}

impl<M: Module + Clone> Clone for Hooked<M> {
    fn clone(&self) -> Self {
        copying(|| Hooked::new((**self).copied()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prelude::*;

    #[test]
    fn a_shared_module_has_one_hook() {
        let tanh = Arc::new(Tanh);
        let model: Sequential = sequential![tanh.clone(), ReLU, tanh];
        let (mut paths, x) = (Vec::new(), Tensor::ones([1]));
        let y = during(&model, "*", |path, _, _| paths.push(path.to_string()), || model.forward(&x)).unwrap();
        assert_eq!((y.shape(), paths), (&[1][..], ["0", "1", "0", ""].map(String::from).to_vec()));
    }
}
