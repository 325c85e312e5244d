//! Parameters that are computed from others: torch.nn.utils.parametrize.

use std::sync::Arc;

pub use crate::module::Parametrization;
use crate::{Error, Real, Result, nn::Param};

/// Lets a [`Parametrization`] compute a parameter from now on, in all layers that share it; it is applied after existing ones.
///
/// Its originals appear in its place under PyTorch's names, such as `parametrizations.weight.original`, in
/// `named_parameters`, the state_dict, the printed form and a new optimizer; `named_modules` and `children` do not list it. Make
/// optimizers afterwards.
///
/// A parametrization that differs in training starts in training mode, since a parameter does not know the mode of its module; in
/// PyTorch it starts in that of the module. In a model that is in evaluation mode, call `eval()` again.
///
/// ```
/// use ndnn::{nn::utils::parametrize::{Parametrization, register_parametrization}, prelude::*};
/// #[derive(Module)]
/// struct Positive;
/// impl Parametrization for Positive {
///     fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
///         Ok(originals[0].exp())
///     }
///     fn right_inverse(&self, values: &Tensor) -> Result<Option<Vec<Tensor>>> {
///         Ok(Some(vec![values.abs().log()]))
///     }
/// }
/// let layer = Linear::new(2, 1).bias(false);
/// register_parametrization(&layer.weight, Positive)?;
/// assert!(layer.weight.tensor().to_vec().iter().all(|&w| w > 0.0));
/// assert_eq!(layer.named_parameters()[0].0, "parametrizations.weight.original");
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the parameter has no values yet, or the parametrization fails or computes another shape.
pub fn register_parametrization<T: Real>(param: &Param<T>, parametrization: impl Parametrization<T>) -> Result<()> {
    param.parametrize("register_parametrization", Arc::new(parametrization))
}

/// Removes all parametrizations from a parameter. It then has its current values or, without `leave_parametrized`, those of
/// the original. Make optimizers afterwards.
///
/// # Errors
/// If it has none or, without `leave_parametrized`, the parameter is computed from several originals.
pub fn remove_parametrizations<T: Real>(param: &Param<T>, leave_parametrized: bool) -> Result<()> {
    let op = "remove_parametrizations";
    match is_parametrized(param) {
        true => param.unparametrize(op, leave_parametrized),
        false => Err(Error::state(op, "the parameter has no parametrization")),
    }
}

/// Whether parametrizations compute the parameter, as opposed to PyTorch's older utilities, such as
/// [`prune`](super::prune).
pub fn is_parametrized<T: Real>(param: &Param<T>) -> bool {
    param.has_parametrizations()
}

/// Runs `f`, in which each parametrized parameter is computed only once on this thread, however often it is used; in PyTorch
/// `with parametrize.cached():`.
///
/// Changes of what it is computed from are seen afterwards. A [`functional_call`](super::functional_call) inside computes anew.
///
/// ```
/// use ndnn::{nn::utils::{parametrizations::weight_norm, parametrize::cached}, prelude::*};
/// let cell = GRUCell::new(4, 8);
/// weight_norm(&cell.weight_hh, 0)?;
/// let steps = Tensor::randn([10, 2, 4]).unbind(0)?;
/// let start = Tensor::zeros([2, 8]);
/// let h = cached(|| steps.iter().try_fold(start, |h, x| cell.forward(x, Some(h))))?;
/// assert_eq!(h.shape(), [2, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn cached<R>(f: impl FnOnce() -> R) -> R {
    crate::module::cached(f)
}
