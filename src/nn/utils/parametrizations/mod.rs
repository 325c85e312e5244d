//! Ready parametrizations: torch.nn.utils.parametrizations, and [`lora`].

mod lora;
mod orthogonal;
mod spectral_norm;
mod weight_norm;

pub use lora::lora;
pub use orthogonal::{OrthogonalMap, OrthogonalOptions, orthogonal};
pub(super) use spectral_norm::SpectralNorm;
pub use spectral_norm::{SpectralNormOptions, spectral_norm};
pub(super) use weight_norm::WeightNorm;
pub use weight_norm::weight_norm;
