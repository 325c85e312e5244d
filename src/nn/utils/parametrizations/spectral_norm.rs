//! [`spectral_norm`].

use std::sync::Arc;

use crate::{
    Error, Real, Result, Tensor,
    functional::options,
    nn::{Buffer, Mode, Module, Param, utils::parametrize::Parametrization},
    tensor::axis,
};

options! {
    /// The options of [`spectral_norm`], in both its forms.
    pub struct SpectralNormOptions, setters spectral_norm_setters {
        /// The iterations of the power method each time the weight is used in training mode; 1 by default.
        n_power_iterations: of usize = 1, if |n| n > 0, "the number of power iterations is at least 1";
        /// The smallest norm by which a vector is divided; 1e-12 by default.
        eps: of f64 = 1e-12;
        /// The axis of the outputs; 0 by default. Set 1 for a transposed convolution: PyTorch does so by the type of the layer,
        /// which a parameter does not know.
        dim: of isize = 0;
    }
}

/// Divides a weight by its largest singular value, `W / σ(W)`, which is estimated by the power method (Miyato et al. 2018).
///
/// A weight of more than 2 axes counts as a matrix of `dim` by the rest; a vector is divided by its norm. Each use of the weight
/// in training mode takes `n_power_iterations` steps of the power method, whose vectors are the buffers
/// `parametrizations.weight.0._u` and `_v`; at the start it takes 15. It starts in training mode, as a layer does; in a model
/// that is in evaluation mode, call `eval()` again.
///
/// ```
/// use ndnn::{nn::utils::parametrizations::{SpectralNormOptions, spectral_norm}, prelude::*};
/// let layer = Linear::new(20, 40);
/// spectral_norm(&layer.weight, Default::default())?;
/// let names: Vec<String> = layer.state_dict().keys().map(str::to_string).collect();
/// assert_eq!(names[1..], ["original", "0._u", "0._v"].map(|name| format!("parametrizations.weight.{name}")));
/// // A transposed convolution has its output channels in axis 1.
/// let up = ConvTranspose2d::new(8, 4, 3);
/// spectral_norm(&up.weight, SpectralNormOptions::default().dim(1))?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no axis `dim`, or the parameter has no values yet.
pub fn spectral_norm<T: Real>(param: &Param<T>, options: SpectralNormOptions) -> Result<()> {
    SpectralNorm::register("spectral_norm", param, options, false)
}

/// `W / (uᵀ W v)`, of either of PyTorch's two forms.
#[derive(Module)]
#[module(name = "_SpectralNorm")]
pub(in crate::nn::utils) struct SpectralNorm<T: Real> {
    _u: Option<Buffer<T>>,
    _v: Option<Buffer<T>>,
    n_power_iterations: usize,
    eps: f64,
    dim: usize,
    pub beside: bool,
    pub mode: Mode,
}

impl<T: Real> SpectralNorm<T> {
    pub fn register(op: &str, param: &Param<T>, options: SpectralNormOptions, beside: bool) -> Result<()> {
        let shape = param.known(op)?;
        if shape.is_empty() {
            return Err(Error::shape(op, "expected a parameter of at least 1 axis, got a scalar"));
        }
        let SpectralNormOptions { n_power_iterations, eps, dim } = options;
        let (dim, mode) = (axis(op, dim, shape.len())?, Mode::default());
        let mut norm = SpectralNorm { _u: None, _v: None, n_power_iterations, eps, dim, beside, mode };
        if shape.len() > 1 || beside {
            let matrix = norm.matrix(&param.detach())?;
            let unit = |axis: usize| -> Result<_> {
                Ok(Some(Buffer::new(norm.normalized(&Tensor::randn([matrix.shape()[axis]]))?)))
            };
            (norm._u, norm._v) = (unit(0)?, unit(1)?);
            if !beside {
                let _ = norm.power_method(&matrix, 15)?;
            }
        }
        param.parametrize(op, Arc::new(norm))
    }

    /// The weight with axis `dim` first and the others joined.
    fn matrix(&self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        let weight = weight.movedim(self.dim as isize, 0)?;
        let rows = weight.shape()[0];
        let columns: usize = weight.shape()[1..].iter().product();
        weight.reshape([rows, columns].as_slice())
    }

    fn normalized(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        x.try_div(&x.norm(2., (), false)?.clamp_min(T::of(self.eps)))
    }

    /// Iterates, and returns the two vectors.
    fn power_method(&self, matrix: &Tensor<T>, iterations: usize) -> Result<(Tensor<T>, Tensor<T>)> {
        let (Some(u), Some(v)) = (&self._u, &self._v) else { unreachable!("a matrix has both") };
        let matrix = matrix.detach();
        // Under both locks, so that the two fit each other whatever other threads do.
        u.update(|mut kept_u| {
            v.update(|mut kept_v| {
                let mut u: Tensor<T> = kept_u.to_owned().into();
                let mut v: Tensor<T> = kept_v.to_owned().into();
                for _ in 0..iterations {
                    if self.beside {
                        v = self.normalized(&matrix.t()?.mv(&u)?)?;
                        u = self.normalized(&matrix.mv(&v)?)?;
                    } else {
                        u = self.normalized(&matrix.mv(&v)?)?;
                        v = self.normalized(&matrix.t()?.mv(&u)?)?;
                    }
                }
                kept_u.assign(&u.view());
                kept_v.assign(&v.view());
                Ok((u, v))
            })
        })
    }
}

impl<T: Real> Parametrization<T> for SpectralNorm<T> {
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>> {
        let weight = &originals[0];
        if self._u.is_none() {
            return self.normalized(weight);
        }
        let matrix = self.matrix(weight)?;
        let iterations = if self.mode.is_training() { self.n_power_iterations } else { 0 };
        let (u, v) = self.power_method(&matrix, iterations)?;
        weight.try_div(&u.dot(&matrix.mv(&v)?)?)
    }

    fn right_inverse(&self, weight: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        Ok(Some(vec![weight.clone()]))
    }

    fn beside(&self) -> Option<&[&str]> {
        self.beside.then_some(&["_orig"])
    }
}
