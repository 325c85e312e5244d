//! Gradients of what is computed again in the backward pass.

use super::grad_with;
use crate::{
    Result,
    tensor::{Real, Tensor, grad_enabled, with_grad},
};

/// The same tensor with a node of its own, at which a search for gradients can end.
pub(crate) fn apart<T: Real>(tensor: &Tensor<T>) -> Tensor<T> {
    Tensor::op("apart", tensor.detach(), [tensor], |g, _| Ok([Some(g.clone())]))
}

/// The gradients of the inputs that need one, from that of what `f` computes of them all again; differentiable where gradients
/// are recorded.
pub(crate) fn gradients_again<T: Real>(
    inputs: &[&Tensor<T>],
    needed: &[bool],
    g: &Tensor<T>,
    f: &dyn Fn(&[Tensor<T>]) -> Result<Tensor<T>>,
) -> Result<Vec<Option<Tensor<T>>>> {
    let differentiable = grad_enabled();
    // One tensor may be several inputs, each with its own gradient.
    let own = |(&tensor, &needed): (&&Tensor<T>, &bool)| match (needed, differentiable) {
        (false, _) => tensor.detach(),
        (true, false) => tensor.detach().set_requires_grad(true),
        (true, true) => apart(tensor),
    };
    let own: Vec<Tensor<T>> = inputs.iter().zip(needed).map(own).collect();
    let y = with_grad(true, || f(&own))?;
    if !y.requires_grad() {
        return Ok(vec![None; own.len()]);
    }
    let wanted: Vec<&Tensor<T>> = own.iter().zip(needed).filter(|(_, needed)| **needed).map(|(t, _)| t).collect();
    let mut found = grad_with(&[&y], &[Some(g)], &wanted, differentiable)?.into_iter();
    Ok(needed.iter().map(|&needed| if needed { found.next().flatten() } else { None }).collect())
}
