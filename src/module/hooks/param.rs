//! Hooks of a parameter, which run once its gradient is complete, and of a tensor.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{super::Param, table::Handle};
use crate::{
    Real,
    tensor::{LeafHook, Tensor, Tensors, gradient_hook},
};

impl<T: Real> Tensor<T> {
    /// This tensor [with a hook](Tensor::with_hook) that runs until the handle is removed or dropped.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![1.0, 2.0].set_requires_grad(true);
    /// let (y, handle) = (&x * 3.0).register_hook(|g| g * 10.0);
    /// y.sum().backward_retain()?;
    /// handle.remove();
    /// y.sum().backward()?;
    /// assert_eq!(x.grad(), Some(tensor![33.0, 33.0]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    pub fn register_hook<H: Tensors + 'static>(
        &self,
        hook: impl Fn(&Tensor<T>) -> H + Send + Sync + 'static,
    ) -> (Tensor<T>, Handle<'static>) {
        let active = Arc::new(AtomicBool::new(true));
        let here = active.clone();
        let tensor = self.with_hook(move |g| here.load(Ordering::Relaxed).then(|| hook(g)));
        (tensor, Handle::new(move || active.store(false, Ordering::Relaxed)))
    }
}

impl<T: Real> Param<T> {
    /// Registers `hook(gradient)`, which runs in each backward pass when this parameter's gradient is complete, before
    /// it is added to the accumulated one; what it returns, unless it is `()`, replaces the gradient.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let w = Param::new(tensor![1.0, 2.0]);
    /// let handle = w.register_hook(|g| g * 10.0);
    /// (&w + &w).sum().backward()?;
    /// assert_eq!(w.grad(), Some(tensor![20.0, 20.0]));
    /// handle.remove();
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the parameter is frozen, is [lazy](Param::is_lazy), or is computed from others.
    #[track_caller]
    pub fn register_hook<H: Tensors + 'static>(
        &self,
        hook: impl Fn(&Tensor<T>) -> H + Send + Sync + 'static,
    ) -> Handle<'static> {
        on_leaf(&self.tensor(), LeafHook::Before(Arc::new(gradient_hook(hook))))
    }

    /// Registers `hook(parameter)`, which runs in each backward pass when the parameter's gradient is complete and
    /// accumulated: for example to update the parameter and clear the gradient at once, before the next one is
    /// computed.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let w = Param::new(tensor![1.0, 2.0]);
    /// let step = w.register_post_accumulate_grad_hook(|w| {
    ///     let gradient = w.grad().expect("it is complete");
    ///     w.update(|mut values| values.scaled_add(-0.1, &gradient.view()));
    ///     w.zero_grad();
    /// });
    /// (&w * 10.0).sum().backward()?;
    /// assert_eq!((w.detach(), w.grad()), (tensor![0.0, 1.0], None));
    /// # drop(step);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Panics
    /// If the parameter is frozen, is [lazy](Param::is_lazy), or is computed from others.
    #[track_caller]
    pub fn register_post_accumulate_grad_hook(
        &self,
        hook: impl Fn(&Param<T>) + Send + Sync + 'static,
    ) -> Handle<'static> {
        let param = self.weak();
        on_leaf(&self.tensor(), LeafHook::After(Arc::new(move || param().iter().for_each(&hook))))
    }
}

#[track_caller]
fn on_leaf<T: Real>(tensor: &Tensor<T>, hook: LeafHook<T>) -> Handle<'static> {
    let added = tensor.node.0.as_ref().and_then(|node| Some((node, node.op.leaf()?.add_hook(hook))));
    let Some((node, id)) = added else {
        panic!("a hook waits for a gradient, and none flows to this parameter: it is frozen, or computed from others");
    };
    let weak = Arc::downgrade(node);
    Handle::new(move || {
        if let Some(node) = weak.upgrade() {
            node.op.leaf().into_iter().for_each(|leaf| leaf.remove_hook(id));
        }
    })
}
