//! The older form of spectral norm: torch.nn.utils.spectral_norm.

use super::parametrizations::{SpectralNorm, SpectralNormOptions};
use crate::{Error, Real, Result, nn::Param};

/// Spectral norm under the names of PyTorch's older form: `weight_orig`, `weight_u` and `weight_v`.
///
/// Unlike [`parametrizations::spectral_norm`](super::parametrizations::spectral_norm) it does not iterate at the start, and a step
/// of the power method computes `v` before `u`.
///
/// ```
/// use ndnn::{nn::utils::{remove_spectral_norm, spectral_norm}, prelude::*};
/// let layer = Linear::new(20, 40);
/// spectral_norm(&layer.weight, Default::default())?;
/// assert_eq!(layer.state_dict().keys().collect::<Vec<_>>(), ["bias", "weight_orig", "weight_u", "weight_v"]);
/// remove_spectral_norm(&layer.weight)?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no axis `dim`, the parameter has no values yet, or it is computed already.
pub fn spectral_norm<T: Real>(param: &Param<T>, options: SpectralNormOptions) -> Result<()> {
    SpectralNorm::register("spectral_norm", param, options, true)
}

/// Makes the current values an ordinary parameter again, without another step of the power method.
///
/// # Errors
/// If [`spectral_norm`] does not compute the parameter.
pub fn remove_spectral_norm<T: Real>(param: &Param<T>) -> Result<()> {
    match param.beside(|norm: &SpectralNorm<T>| norm.mode.set(false)) {
        Some(()) => param.unparametrize("remove_spectral_norm", true),
        None => Err(Error::state("remove_spectral_norm", "the parameter has no spectral norm of the older form")),
    }
}
