//! [`Param`]: a shared handle to a tensor that a module learns.

use std::{
    fmt,
    sync::{Arc, RwLock},
};

use ndarray::ArrayViewMutD;

use super::{
    any::AnyParam,
    copies::{self, Handle, cloned, converted, copying},
    parametrization::{self, ParametrizationList},
    scope,
};
use crate::{
    Error, Result,
    error::or_panic,
    kernels::{copy::contiguous, profile},
    sync::{read, write},
    tensor::{Real, Tensor, no_grad},
};

/// A learnable tensor of a module. It is a shared handle: the optimizer holds clones of it, and a tied weight is a
/// clone.
///
/// A forward pass takes a snapshot, [`tensor`](Param::tensor), whose gradient accumulates here; `+ - * /` take one
/// themselves. A later change of the parameter does not affect the snapshots that a backward pass still needs.
///
/// ```
/// use ndnn::prelude::*;
/// let w = Param::new(tensor![1.0, 2.0]);
/// (&w * 3.0).sum().backward()?;
/// assert_eq!(w.grad(), Some(tensor![3.0, 3.0]));
/// assert_eq!(w.tensor().exp().grad_fn(), Some("exp"));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// A parameter has values of its own; or a [parametrization](crate::nn::utils::parametrize) computes them from other
/// parameters; or it is [lazy](Param::lazy) and has no values yet.
pub struct Param<T: Real = f32>(Arc<RwLock<Content<T>>>);

struct Content<T: Real> {
    source: Source<T>,
    requires_grad: bool,
}

/// The source of a parameter's values.
#[derive(Clone)]
pub(super) enum Source<T: Real> {
    /// Always has its leaf, which also holds the gradient.
    Own(Tensor<T>),
    Computed(Arc<ParametrizationList<T>>),
    /// The part of the shape that is known.
    Lazy(Vec<Option<usize>>),
}

const LAZY: &str = "the parameter has no values yet, since its shape comes from the first input; run a batch through the \
                    model first, or load a state_dict";
const COMPUTED: &str = "the parameter is computed by a parametrization; change what it is computed from, which \
                        named_parameters() lists, or call remove_parametrizations() first";

#[cold]
#[track_caller]
pub(super) fn refuse(op: &str, why: &str) -> ! {
    panic!("{op}: {why}")
}

impl<T: Real> Source<T> {
    pub(super) fn own(values: Tensor<T>) -> Self {
        Source::Own(values.into_detached().set_requires_grad(true))
    }

    /// Its own values, or why it has none.
    fn values(&mut self) -> Result<&mut Tensor<T>, &'static str> {
        match self {
            Source::Own(tensor) => Ok(tensor),
            Source::Computed(_) => Err(COMPUTED),
            Source::Lazy(_) => Err(LAZY),
        }
    }
}

/// Shares the parameter: both handles see every change.
impl<T: Real> Clone for Param<T> {
    fn clone(&self) -> Self {
        Param(self.0.clone())
    }
}

impl<T: Real> fmt::Debug for Param<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_lazy() {
            true => f.write_str("<UninitializedParameter>"),
            false => write!(f, "Parameter containing:\n{}", self.tensor()),
        }
    }
}

impl<T: Real> Param<T> {
    /// A parameter with these values; their own graph is not used.
    #[inline(never)]
    pub fn new(values: Tensor<T>) -> Self {
        Self::of(Source::own(values), true)
    }

    #[inline(never)]
    fn of(source: Source<T>, requires_grad: bool) -> Self {
        Param(Arc::new(RwLock::new(Content { source, requires_grad })))
    }

    /// A parameter without values, with the part of its shape that is known: a layer initialises it at its first input, by
    /// [`tensor_or`](Param::tensor_or), or it gets values from a state_dict.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let weight: Param = Param::lazy([Some(2), None]);
    /// assert!(weight.is_lazy() && weight.set(&Tensor::zeros([3, 3])).is_err());
    /// assert_eq!(weight.tensor_or(|_| Tensor::ones([2, 5])).shape(), [2, 5]);
    /// assert!(!weight.is_lazy());
    /// ```
    pub fn lazy(shape: impl Into<Vec<Option<usize>>>) -> Self {
        Self::of(Source::Lazy(shape.into()), true)
    }

    /// The current values; gradients flow from them to this parameter, unless it is frozen.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn tensor(&self) -> Tensor<T> {
        match self.present() {
            Some(tensor) => tensor,
            None => refuse("tensor", LAZY),
        }
    }

    /// As [`tensor`](Param::tensor), but a [lazy](Param::is_lazy) parameter first gets the values that `values` returns for the
    /// known part of the shape, converted to its type.
    ///
    /// # Panics
    /// If the shape of these values contradicts the known part.
    #[track_caller]
    pub fn tensor_or(&self, values: impl FnOnce(&[Option<usize>]) -> Tensor<f32>) -> Tensor<T> {
        or_panic(self.tensor_or_try(|known| Ok(values(known))))
    }

    /// As [`tensor_or`](Param::tensor_or), for values that may not be possible.
    #[track_caller]
    pub(crate) fn tensor_or_try(
        &self,
        values: impl FnOnce(&[Option<usize>]) -> Result<Tensor<f32>>,
    ) -> Result<Tensor<T>> {
        match self.present() {
            Some(tensor) => Ok(tensor),
            None => {
                self.begin(values)?;
                Ok(self.tensor())
            }
        }
    }

    /// Under the lock, so that only one of two simultaneous first inputs initialises it.
    #[track_caller]
    fn begin(&self, values: impl FnOnce(&[Option<usize>]) -> Result<Tensor<f32>>) -> Result<()> {
        let mut state = write(&self.0);
        if let Source::Lazy(known) = &state.source {
            let values = values(known)?;
            assert!(fits(known, values.shape()), "tensor_or: {}", misfit("parameter", known, values.shape()));
            state.source = Source::own(values.cast());
        }
        Ok(())
    }

    #[track_caller]
    fn present(&self) -> Option<Tensor<T>> {
        profile::atomic();
        if let Some(tensor) = scope::tensor(self.address()) {
            return Some(tensor);
        }
        let computed = {
            let state = read(&self.0);
            match &state.source {
                Source::Own(tensor) if state.requires_grad => return Some(tensor.clone()),
                Source::Own(tensor) => return Some(tensor.detach()),
                Source::Lazy(_) => return None,
                Source::Computed(list) => list.clone(),
            }
        };
        Some(or_panic(parametrization::values(computed)))
    }

    /// The current values, detached: gradients of what is computed from them do not reach this parameter.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn detach(&self) -> Tensor<T> {
        match no_grad(|| self.present()) {
            Some(tensor) => tensor.into_detached(),
            None => refuse("detach", LAZY),
        }
    }

    /// The length of each axis.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn shape(&self) -> Vec<usize> {
        match &read(&self.0).source {
            Source::Own(tensor) => tensor.shape().to_vec(),
            Source::Computed(list) => list.shape().to_vec(),
            Source::Lazy(_) => refuse("shape", LAZY),
        }
    }

    /// The length of each axis, for the operation `op`.
    ///
    /// # Errors
    /// If it is lazy.
    pub(crate) fn known(&self, op: &str) -> Result<Vec<usize>> {
        if self.is_lazy() { Err(Error::state(op, LAZY)) } else { Ok(self.shape()) }
    }

    /// The number of elements.
    ///
    /// # Panics
    /// If it is [lazy](Param::is_lazy).
    #[track_caller]
    pub fn numel(&self) -> usize {
        match &read(&self.0).source {
            Source::Own(tensor) => tensor.numel(),
            Source::Computed(list) => list.shape().iter().product(),
            Source::Lazy(_) => refuse("numel", LAZY),
        }
    }

    /// The part of the shape that is known: all of it, unless the parameter is [lazy](Param::is_lazy).
    pub fn known_shape(&self) -> Vec<Option<usize>> {
        match &read(&self.0).source {
            Source::Own(tensor) => all_known(tensor.shape()),
            Source::Computed(list) => all_known(list.shape()),
            Source::Lazy(known) => known.clone(),
        }
    }

    /// Whether it has no values yet: its shape comes from the first input of the layer, or from a state_dict.
    pub fn is_lazy(&self) -> bool {
        matches!(read(&self.0).source, Source::Lazy(_))
    }

    /// Whether a parametrization computes the values.
    pub(crate) fn is_parametrized(&self) -> bool {
        matches!(read(&self.0).source, Source::Computed(_))
    }

    /// Replaces the values. If a [parametrization](crate::nn::utils::parametrize) computes them, its originals are set by its
    /// right inverse.
    ///
    /// # Errors
    /// If the shape differs, or a parametrization has no right inverse.
    pub fn set(&self, values: &Tensor<T>) -> Result<()> {
        check("parameter", &self.known_shape(), values.shape())?;
        let mut state = write(&self.0);
        match &mut state.source {
            Source::Own(tensor) => tensor.data = values.data.clone(),
            Source::Lazy(_) => state.source = Source::own(values.clone()),
            Source::Computed(list) => {
                let list = list.clone();
                drop(state);
                return list.set(values);
            }
        }
        Ok(())
    }

    /// Updates the values in place; earlier snapshots keep the old values.
    ///
    /// Inside a [`Scope`](super::Scope) that replaces the parameter by a tensor, this still changes the parameter itself, whose
    /// values are seen again when the scope is left; so do [`set`](Param::set) and an optimizer's step.
    ///
    /// The parameter is locked meanwhile: other threads wait, and if `f` reads or changes this same parameter, it waits
    /// forever. The view has everything that `f` needs.
    ///
    /// # Panics
    /// If it has no values of its own: it is [lazy](Param::is_lazy) or computed by a
    /// [parametrization](crate::nn::utils::parametrize).
    #[track_caller]
    pub fn update<R>(&self, f: impl FnOnce(ArrayViewMutD<'_, T>) -> R) -> R {
        match write(&self.0).source.values() {
            Ok(tensor) => f(tensor.data.view_mut()),
            Err(why) => refuse("update", why),
        }
    }

    /// As [`update`](Param::update), on the elements in row-major order.
    ///
    /// # Panics
    /// As [`update`](Param::update).
    #[track_caller]
    pub fn update_slice<R>(&self, f: impl FnOnce(&mut [T]) -> R) -> R {
        match write(&self.0).source.values() {
            Ok(tensor) => f(tensor.data.writable()),
            Err(why) => refuse("update_slice", why),
        }
    }

    /// The gradient accumulated by backward passes.
    pub fn grad(&self) -> Option<Tensor<T>> {
        match &read(&self.0).source {
            Source::Own(tensor) => tensor.grad(),
            _ => None,
        }
    }

    /// Whether backward passes accumulated a gradient.
    pub fn has_grad(&self) -> bool {
        self.grad().is_some()
    }

    /// Replaces the accumulated gradient.
    ///
    /// # Errors
    /// If the shape differs, or the parameter has no values of its own.
    pub fn set_grad(&self, grad: Option<Tensor<T>>) -> Result<()> {
        let tensor = match write(&self.0).source.values() {
            Ok(tensor) => tensor.clone(),
            Err(why) => return Err(Error::state("set_grad", why)),
        };
        if let Some(g) = grad.as_ref().filter(|g| g.shape() != tensor.shape()) {
            return Err(Error::shape(
                "set_grad",
                format!("the parameter is {:?}, the gradient is {:?}", tensor.shape(), g.shape()),
            ));
        }
        tensor.set_grad(grad.map(|g| g.detach()));
        Ok(())
    }

    /// Clears the accumulated gradient; if a parametrization computes the values, those of all that it computes them from.
    pub fn zero_grad(&self) {
        match &read(&self.0).source {
            Source::Own(tensor) => tensor.zero_grad(),
            Source::Computed(list) => list.parameters().iter().for_each(AnyParam::zero_grad),
            Source::Lazy(_) => {}
        }
    }

    /// Freezes (`false`) or unfreezes the parameter for forward passes from now on; if a parametrization computes the values, all
    /// that it computes them from.
    pub fn set_requires_grad(&self, requires_grad: bool) {
        let mut state = write(&self.0);
        state.requires_grad = requires_grad;
        if let Source::Computed(list) = &state.source {
            list.parameters().iter().for_each(|p| p.set_requires_grad(requires_grad));
        }
    }

    /// Whether gradients flow to this parameter.
    pub fn requires_grad(&self) -> bool {
        let state = read(&self.0);
        match &state.source {
            Source::Computed(list) => list.parameters().iter().any(AnyParam::requires_grad),
            _ => state.requires_grad,
        }
    }

    /// Returns the parameter as long as a handle to it exists, without keeping it.
    pub(super) fn weak(&self) -> impl Fn() -> Option<Param<T>> + Send + Sync + 'static {
        let weak = Arc::downgrade(&self.0);
        move || weak.upgrade().map(Param)
    }

    /// Whether both handles refer to the same parameter.
    pub fn is_same(&self, other: &Param<T>) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn source(&self) -> Source<T> {
        read(&self.0).source.clone()
    }

    pub(super) fn set_source(&self, source: Source<T>, requires_grad: bool) {
        *write(&self.0) = Content { source, requires_grad };
    }

    /// What gives it the source that it has now.
    pub(super) fn undo(self) -> impl FnOnce() {
        let source = self.source();
        move || write(&self.0).source = source
    }

    /// A copy that shares nothing with this one; within one clone of a module, tied parameters stay tied.
    pub fn deep_clone(&self) -> Param<T> {
        cloned(self, || {
            let source = match self.source() {
                // The copy has its own array; otherwise the first update would copy it, at a worse time.
                Source::Own(tensor) => Source::own(contiguous(tensor.view()).into()),
                Source::Computed(list) => Source::Computed(Arc::new(list.copied())),
                Source::Lazy(known) => Source::Lazy(known),
            };
            Param::of(source, self.requires_grad())
        })
    }

    /// A copy with another element type; within one conversion of a module, tied parameters stay tied.
    ///
    /// # Panics
    /// If it is computed by a [parametrization](crate::nn::utils::parametrize), which has one element type.
    #[track_caller]
    pub fn cast<U: Real>(&self) -> Param<U> {
        let copying = copying();
        copying.end(converted(self, || {
            let source = match self.source() {
                Source::Own(tensor) => Source::own(tensor.into_detached().cast()),
                Source::Lazy(known) => Source::Lazy(known),
                Source::Computed(list) => {
                    copies::fail(format!(
                        "dtype: a parameter that {} computes is of one element type; convert the model first, then \
                         parametrize it",
                        list.steps()
                    ));
                    Source::Lazy(Vec::new())
                }
            };
            Param::of(source, self.requires_grad())
        }))
    }
}

/// A shape of which every part is known.
pub(super) fn all_known(shape: &[usize]) -> Vec<Option<usize>> {
    shape.iter().copied().map(Some).collect()
}

/// # Errors
/// If new values do not have the part of the shape that is known.
pub(super) fn check(what: &str, known: &[Option<usize>], values: &[usize]) -> Result<()> {
    if fits(known, values) { Ok(()) } else { Err(Error::shape("set", misfit(what, known, values))) }
}

/// Whether a shape agrees with the known part.
pub(super) fn fits(known: &[Option<usize>], shape: &[usize]) -> bool {
    known.len() == shape.len() && known.iter().zip(shape).all(|(known, n)| known.is_none_or(|k| k == *n))
}

pub(super) fn misfit(what: &str, known: &[Option<usize>], values: &[usize]) -> String {
    let mut sizes = String::new();
    for n in known {
        sizes += if sizes.is_empty() { "" } else { ", " };
        match n {
            Some(n) => sizes += &n.to_string(),
            None => sizes += "?",
        }
    }
    format!("the {what} is [{sizes}], the new values are {values:?}")
}

impl<T: Real> Handle for Param<T> {
    fn address(&self) -> usize {
        Arc::as_ptr(&self.0) as *const () as usize
    }
}

/// The member after a setter such as `bias(true)`: none if it is not wanted, the existing one, or a new one.
pub(crate) fn optional<M>(member: Option<M>, wanted: bool, new: impl FnOnce() -> M) -> Option<M> {
    wanted.then(|| member.unwrap_or_else(new))
}
