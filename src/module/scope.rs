//! [`Scope`]: other tensors in place of a model's parameters and buffers on this thread while a function runs.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use super::{
    Buffer, Module, Param,
    any::{AnyBuffer, AnyParam},
    copies::Handle,
    param::fits,
    parametrization::anew,
    walk::{self, Entry},
};
use crate::{
    AnyTensor, Element, Error, Real, Result, Tensor,
    error::{listed, there_are},
    state::StateDict,
    sync::{Scoped, during},
    tensor::unerase,
};

thread_local! {
    static SCOPE: Scoped<Rc<Scope>> = const { Scoped::new() };
}

/// Other tensors in place of a model's parameters on this thread while a function runs, and other places to which its
/// buffers are written.
///
/// Inside another scope, the outer one applies to everything that the inner one does not mention. Threads started
/// inside are outside the scope. [`random::with`](crate::random::with) chooses the generator in the same way.
///
/// ```
/// use ndnn::{module::Scope, prelude::*};
/// let norm = BatchNorm1d::new(2);
/// let (y, written) = Scope::new().capture_buffers().run(|| norm.forward(&Tensor::ones([4, 2])));
/// assert_eq!((y?.shape(), written.len()), (&[4, 2][..], 3));
/// assert_eq!(norm.running_mean.as_ref().unwrap().tensor(), Tensor::zeros([2]));
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Default)]
pub struct Scope {
    params: ByAddress<AnyParam>,
    buffers: RefCell<ByAddress<AnyBuffer>>,
    /// Whether a buffer without a value in this scope gets one when it is written.
    captures: bool,
    outer: Option<Rc<Scope>>,
}

/// Values by the address of a parameter, a buffer or a module, in order of insertion. The handles are kept, since the address of
/// what is freed may be reused.
pub(super) struct ByAddress<H> {
    places: HashMap<usize, usize>,
    values: Vec<(H, AnyTensor)>,
}

impl<H> Default for ByAddress<H> {
    fn default() -> Self {
        ByAddress { places: HashMap::new(), values: Vec::new() }
    }
}

impl<H> ByAddress<H> {
    pub(super) fn get(&self, address: usize) -> Option<AnyTensor> {
        self.places.get(&address).map(|&place| self.values[place].1.clone())
    }

    /// Returns the value before.
    pub(super) fn set(&mut self, address: usize, handle: H, value: AnyTensor) -> Option<AnyTensor> {
        let place = *self.places.entry(address).or_insert(self.values.len());
        if let Some((_, old)) = self.values.get_mut(place) {
            return Some(std::mem::replace(old, value));
        }
        self.values.push((handle, value));
        None
    }
}

impl Scope {
    /// A scope that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// A scope in which the named tensors replace the model's parameters and buffers with these names. A tied parameter
    /// may be given under any of its names, and has this value under all of them.
    ///
    /// # Errors
    /// If the model has no such name, a tensor has another type or shape, or one parameter is given two tensors.
    #[inline]
    pub fn of(model: &dyn Module, tensors: &StateDict) -> Result<Self> {
        let op = "functional_call";
        let entries = walk::entries(op, model)?;
        let unknown: Vec<&str> = tensors.keys().filter(|name| entries.get(name).is_none()).collect();
        if !unknown.is_empty() {
            let known: Vec<&str> = entries.keys().collect();
            let (unknown, known) = (listed(unknown.into_iter()), there_are(known.into_iter()));
            return Err(Error::state(op, format!("the model has no {unknown}; {known}")));
        }
        let mut scope = Scope::new();
        for (name, tensor) in tensors.iter() {
            let entry = entries.get(name).expect("looked up above");
            if entry.dtype() != tensor.dtype() || !fits(&entry.known_shape(), tensor.shape()) {
                let is = format!("{} {:?}", entry.dtype(), entry.shown_shape());
                let got = format!("{} {:?}", tensor.dtype(), tensor.shape());
                return Err(Error::shape(op, format!("`{name}` is {is}, the tensor for it is {got}")));
            }
            let before = match entry {
                Entry::Param(p) => scope.params.set(p.address(), p.clone(), tensor.clone()),
                Entry::Buffer(b) => scope.buffers.get_mut().set(b.address(), b.clone(), tensor.clone()),
            };
            if before.is_some_and(|before| !before.is_same(tensor)) {
                let why = "is tied to one that was given another tensor; give the same, or only one of them";
                return Err(Error::state(op, format!("`{name}` {why}")));
            }
        }
        Ok(scope)
    }

    /// Replaces a parameter by a tensor; gradients flow to the tensor.
    pub fn parameter<T: Real>(self, param: &Param<T>, tensor: Tensor<T>) -> Self {
        self.any_parameter(&param.into(), tensor.into())
    }

    pub(crate) fn any_parameter(mut self, param: &AnyParam, tensor: AnyTensor) -> Self {
        self.params.set(param.address(), param.clone(), tensor);
        self
    }

    /// Gives a buffer this value inside the scope, and keeps what is written to it there.
    pub fn buffer<T: Element>(self, buffer: &Buffer<T>, value: Tensor<T>) -> Self {
        self.any_buffer(&buffer.into(), value.into())
    }

    pub(crate) fn any_buffer(self, buffer: &AnyBuffer, value: AnyTensor) -> Self {
        self.buffers.borrow_mut().set(buffer.address(), buffer.clone(), value);
        self
    }

    /// Keeps what is written to buffers inside the scope, so that their values outside do not change.
    pub fn capture_buffers(mut self) -> Self {
        self.captures = true;
        self
    }

    /// Runs `f` in this scope; also returns the buffers that have a value in it, with their final values. A panic
    /// leaves the scope, too.
    pub fn run<R>(mut self, f: impl FnOnce() -> R) -> (R, Vec<(AnyBuffer, AnyTensor)>) {
        self.outer = current();
        let (result, scope) = anew(|| during(&SCOPE, Rc::new(self), f));
        (result, std::mem::take(&mut *scope.buffers.borrow_mut()).values)
    }
}

fn current() -> Option<Rc<Scope>> {
    SCOPE.with(|scope| scope.with(|scope| scope.clone()))
}

/// The result of the innermost scope for which `ask` returns one.
#[cold]
fn find<R>(ask: impl Fn(&Rc<Scope>) -> Option<R>) -> Option<R> {
    let mut scope = current();
    while let Some(here) = scope {
        if let Some(found) = ask(&here) {
            return Some(found);
        }
        scope = here.outer.clone();
    }
    None
}

fn entered() -> bool {
    SCOPE.with(Scoped::is_some)
}

/// The tensor that replaces the parameter with this address.
#[inline]
pub(super) fn tensor<T: Real>(address: usize) -> Option<Tensor<T>> {
    if !entered() {
        return None;
    }
    find(|scope| scope.params.get(address)).and_then(unerase)
}

/// The value that replaces that of the buffer with this address.
#[inline]
pub(super) fn value<T: Element>(address: usize) -> Option<Tensor<T>> {
    if !entered() {
        return None;
    }
    find(|scope| scope.buffers.borrow().get(address)).and_then(unerase)
}

/// The scope that keeps what is written to the buffer with this address.
#[inline]
pub(super) fn keeper(address: usize) -> Option<Rc<Scope>> {
    if !entered() {
        return None;
    }
    find(|scope| (scope.captures || scope.buffers.borrow().places.contains_key(&address)).then(|| scope.clone()))
}

impl Scope {
    pub(super) fn keep<T: Element>(&self, buffer: &Buffer<T>, value: Tensor<T>) {
        self.buffers.borrow_mut().set(buffer.address(), buffer.into(), value.into());
    }
}
