//! [`Leaf`]: where a gradient accumulates, and the hooks that wait for it.

use std::sync::{
    Arc, Mutex, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use super::{Element, Real, Tensor, Tensors};
use crate::{Error, Result, sync::lock};

/// The end of a graph.
pub struct Leaf<T: Element> {
    pub(crate) grad: Mutex<Option<Tensor<T>>>,
    hooks: OnceLock<Box<Mutex<Hooks<T>>>>,
}

type Hooks<T> = Vec<(u64, LeafHook<T>)>;

/// What runs when the gradient of one backward pass is complete.
pub enum LeafHook<T: Element> {
    /// Before it is added to the accumulated gradient; may return another one.
    Before(Arc<GradientHook<T>>),
    /// After it was added.
    After(Arc<dyn Fn() + Send + Sync>),
}

/// Sees a gradient, and may return another.
pub type GradientHook<T> = dyn Fn(&Tensor<T>) -> Result<Option<Tensor<T>>> + Send + Sync;

impl<T: Element> Clone for LeafHook<T> {
    fn clone(&self) -> Self {
        match self {
            LeafHook::Before(f) => LeafHook::Before(f.clone()),
            LeafHook::After(f) => LeafHook::After(f.clone()),
        }
    }
}

impl<T: Element> Leaf<T> {
    pub(super) fn new() -> Self {
        Leaf { grad: Mutex::new(None), hooks: OnceLock::new() }
    }

    fn hooks(&self) -> Hooks<T> {
        self.hooks.get().map(|hooks| lock(hooks).clone()).unwrap_or_default()
    }

    /// Whether gradients must wait until they are complete.
    pub(crate) fn is_hooked(&self) -> bool {
        self.hooks.get().is_some_and(|hooks| !lock(hooks).is_empty())
    }

    /// Adds a hook; returns its number for [`remove_hook`](Leaf::remove_hook).
    pub(crate) fn add_hook(&self, hook: LeafHook<T>) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(self.hooks.get_or_init(Default::default)).push((id, hook));
        id
    }

    pub(crate) fn remove_hook(&self, id: u64) {
        let removed = self.hooks.get().and_then(|hooks| {
            let mut hooks = lock(hooks);
            let at = hooks.iter().position(|(i, _)| *i == id)?;
            Some(hooks.remove(at))
        });
        // After the lock is released: what a hook captured may access this leaf again.
        drop(removed);
    }
}

/// The sum of two tensors of one shape, in the memory of the first if nothing else refers to it.
type AddFn<T> = fn(Tensor<T>, &Tensor<T>) -> Tensor<T>;

impl<T: Real> Leaf<T> {
    /// Adds to the accumulated gradient, by `add`.
    pub(crate) fn gather(&self, grad: Tensor<T>, add: AddFn<T>) {
        // A backward function may return a tensor that it captured, with its graph: an accumulated gradient has none.
        let grad = grad.into_detached();
        let mut slot = lock(&self.grad);
        *slot = Some(match slot.take() {
            Some(sum) => add(sum, &grad),
            None => grad,
        });
    }

    /// As [`gather`](Leaf::gather), with the hooks before and after.
    pub(crate) fn complete(&self, mut grad: Tensor<T>, add: AddFn<T>) -> Result<()> {
        let hooks = self.hooks();
        for (_, hook) in &hooks {
            if let LeafHook::Before(f) = hook {
                grad = replaced(&grad, f(&grad)?)?;
            }
        }
        self.gather(grad, add);
        for (_, hook) in &hooks {
            if let LeafHook::After(f) = hook {
                f();
            }
        }
        Ok(())
    }
}

/// The gradient that a hook returned, or the one that it saw.
fn replaced<T: Element>(grad: &Tensor<T>, other: Option<Tensor<T>>) -> Result<Tensor<T>> {
    match other {
        Some(other) if other.shape() == grad.shape() => Ok(other),
        Some(other) => {
            let shapes = format!("the hook returned {:?} for a gradient of {:?}", other.shape(), grad.shape());
            Err(Error::shape("hook", shapes))
        }
        None => Ok(grad.clone()),
    }
}

/// The result of a hook: nothing, or the gradient to continue with.
pub(crate) fn gradient_hook<T: Element, H: Tensors>(
    hook: impl Fn(&Tensor<T>) -> H,
) -> impl Fn(&Tensor<T>) -> Result<Option<Tensor<T>>> {
    move |grad| {
        let mut returned = hook(grad).tensors();
        match returned.pop() {
            None => Ok(None),
            Some(other) if returned.is_empty() => grad.map(&mut |_| Ok(other.clone())).map(Some),
            Some(_) => Err(Error::value("hook", "a hook of a gradient returns one tensor, or ()")),
        }
    }
}

impl<T: Real> Tensor<T> {
    /// This tensor with a hook: `hook(gradient)` runs when a backward pass has computed its gradient, and what it
    /// returns, unless it is `()`, replaces the gradient.
    ///
    /// A tensor is a value: the hook belongs to the returned tensor, as long as its graph exists, and not to this one.
    /// For parameters there is [`Param::register_hook`](crate::nn::Param::register_hook).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![1.0, 2.0].set_requires_grad(true);
    /// let y = (&x * 3.0).with_hook(|g| g.clamp(-1.0, 1.0));
    /// (y * 10.0).sum().backward()?;
    /// assert_eq!(x.grad(), Some(tensor![3.0, 3.0]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    pub fn with_hook<H: Tensors + 'static>(&self, hook: impl Fn(&Tensor<T>) -> H + Send + Sync + 'static) -> Tensor<T> {
        let hook = gradient_hook(hook);
        Tensor::op("hook", self.data().clone(), [self], move |g, _| Ok([Some(replaced(g, hook(g)?)?)]))
    }
}
