//! [`weight_norm`].

use std::sync::Arc;

use crate::{
    Error, Real, Result, Tensor,
    nn::{Module, Param, utils::parametrize::Parametrization},
};

/// Computes a weight from its length and its direction, `w = g · v / ‖v‖`, which are learned instead of the weight
/// (Salimans and Kingma 2016): `parametrizations.weight.original0` and `original1`.
///
/// The norm is taken over all axes but `dim`, usually 0, or over all axes for `None`. Files with `weight_g` and
/// `weight_v` can be loaded.
///
/// ```
/// use ndnn::{nn::utils::parametrizations::weight_norm, prelude::*};
/// let layer = Linear::new(20, 40);
/// let before = layer.weight.detach();
/// weight_norm(&layer.weight, 0)?;
/// assert!((layer.weight.tensor() - before).abs().max()?.item()? < 1e-6);
/// assert_eq!(layer.state_dict().get("parametrizations.weight.original0").unwrap().shape(), [40, 1]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no such axis, or the parameter has no values yet.
pub fn weight_norm<T: Real>(param: &Param<T>, dim: impl Into<Option<usize>>) -> Result<()> {
    WeightNorm { dim: dim.into(), beside: false }.register("weight_norm", param)
}

/// `g · v / ‖v‖`, of either of PyTorch's two forms.
#[derive(Module)]
#[module(name = "_WeightNorm")]
pub(in crate::nn::utils) struct WeightNorm {
    #[module(skip)]
    pub dim: Option<usize>,
    pub beside: bool,
}

impl WeightNorm {
    pub fn register<T: Real>(self, op: &str, param: &Param<T>) -> Result<()> {
        let axes = param.known_shape().len();
        if let Some(dim) = self.dim.filter(|&dim| dim >= axes) {
            return Err(Error::shape(op, format!("the parameter has {axes} axes, there is no axis {dim}")));
        }
        param.parametrize(op, Arc::new(self))
    }

    /// The 2-norm over all axes but `dim`, which stay with length 1.
    fn norm<T: Real>(&self, v: &Tensor<T>) -> Result<Tensor<T>> {
        let Some(dim) = self.dim else { return v.norm(2., (), false) };
        let others: Vec<isize> = (0..v.ndim()).filter(|&axis| axis != dim).map(|axis| axis as isize).collect();
        if others.is_empty() { Ok(v.abs()) } else { v.norm(2., others, true) }
    }
}

impl<T: Real> Parametrization<T> for WeightNorm {
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>> {
        let [g, v] = originals else {
            let why = "it computes from two tensors, so it is the first parametrization of its parameter";
            return Err(Error::state("weight_norm", why));
        };
        v.try_mul(&g.try_div(&self.norm(v)?)?)
    }

    fn right_inverse(&self, weight: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        Ok(Some(vec![self.norm(weight)?, weight.clone()]))
    }

    fn old_names(&self) -> &[&str] {
        &["_g", "_v"]
    }

    fn beside(&self) -> Option<&[&str]> {
        self.beside.then_some(&["_g", "_v"])
    }
}
