//! [`functional_call`]: runs a model with other tensors in place of its own.

use crate::{
    Result,
    module::{Module, Scope},
    state::StateDict,
};

/// Runs `f` while the named tensors replace the parameters and buffers of `model` with these names, as
/// torch.func.functional_call does.
///
/// Gradients flow to the tensors. Parameters and buffers that are not named are the model's own. A tied parameter has
/// its tensor under all its names. What is written to a named buffer is discarded at the end. This applies only to this
/// thread, so that other threads may use the model meanwhile.
///
/// ```
/// use ndnn::{autograd::grad, nn::{StateDict, functional_call}, prelude::*};
/// let model = Linear::new(3, 1);
/// let x = Tensor::ones([8, 3]);
/// // One step of gradient descent that is itself differentiable, as in MAML.
/// let (w, b) = (model.weight.tensor(), model.bias.as_ref().unwrap().tensor());
/// let loss = model.forward(&x)?.square().mean();
/// let steps = grad(&[&loss], &[&w, &b], true)?;
/// let [dw, db] = steps.try_into().unwrap();
/// let adapted = StateDict::from([("weight", w - dw.unwrap() * 0.1), ("bias", b - db.unwrap() * 0.1)]);
/// functional_call(&model, &adapted, || model.forward(&x))?.square().mean().backward()?;
/// assert!(model.weight.has_grad());
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the model has no such name, a tensor has another type or shape, or tied names are given different tensors; and
/// the errors of `f`.
pub fn functional_call<R>(model: &dyn Module, tensors: &StateDict, f: impl FnOnce() -> Result<R>) -> Result<R> {
    Scope::of(model, tensors)?.run(f).0
}
