//! The older form of weight norm: torch.nn.utils.weight_norm.

use super::parametrizations::WeightNorm;
use crate::{Error, Real, Result, nn::Param};

/// Weight norm under the names of PyTorch's older form: `weight_g` and `weight_v`.
///
/// It computes the same as [`parametrizations::weight_norm`](super::parametrizations::weight_norm), which reads files of both
/// forms; this one is for files that others are to read.
///
/// ```
/// use ndnn::{nn::utils::{remove_weight_norm, weight_norm}, prelude::*};
/// let layer = Linear::new(20, 40);
/// weight_norm(&layer.weight, 0)?;
/// assert_eq!(layer.state_dict().keys().collect::<Vec<_>>(), ["bias", "weight_g", "weight_v"]);
/// remove_weight_norm(&layer.weight)?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no such axis, the parameter has no values yet, or it is computed already.
pub fn weight_norm<T: Real>(param: &Param<T>, dim: impl Into<Option<usize>>) -> Result<()> {
    WeightNorm { dim: dim.into(), beside: true }.register("weight_norm", param)
}

/// Makes the current values an ordinary parameter again.
///
/// # Errors
/// If [`weight_norm`] does not compute the parameter.
pub fn remove_weight_norm<T: Real>(param: &Param<T>) -> Result<()> {
    match param.beside(|_: &WeightNorm| ()) {
        Some(()) => param.unparametrize("remove_weight_norm", true),
        None => Err(Error::state("remove_weight_norm", "the parameter has no weight norm of the older form")),
    }
}
