//! [`lora`].

use std::sync::Arc;

use crate::{
    Error, Real, Result, Tensor,
    kernels::sizes::room,
    nn::{Module, Param, init, utils::parametrize::Parametrization},
};

/// Freezes a weight and learns a difference of low rank to it, `W + alpha / rank · B A` (Hu et al. 2021).
///
/// `A` is `[rank, in]` and drawn from U(−1/√in, 1/√in), `B` is `[out, rank]` and 0 at first, so that nothing changes; `in` is the
/// product of all axes but the first. They are `parametrizations.weight.0.lora_A` and `lora_B`, beside the frozen
/// `parametrizations.weight.original`.
///
/// [`remove_parametrizations`](crate::nn::utils::parametrize::remove_parametrizations) leaves the sum as an ordinary weight, which
/// learns; with `leave_parametrized` false it leaves `W`.
///
/// ```
/// use ndnn::{nn::utils::{parametrizations::lora, parametrize::remove_parametrizations}, prelude::*};
/// let layer = Linear::new(64, 32);
/// lora(&layer.weight, 4, 8.0)?;
/// let learned = layer.parameters().iter().filter(|p| p.requires_grad()).map(|p| p.numel()).sum::<usize>();
/// assert_eq!(learned, 32 + 4 * (64 + 32));
/// // … train …
/// remove_parametrizations(&layer.weight, true)?;
/// assert_eq!(layer.state_dict().keys().collect::<Vec<_>>(), ["weight", "bias"]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the parameter has fewer than 2 axes or no values yet, `rank` is 0, or `alpha` is not finite.
pub fn lora<T: Real>(param: &Param<T>, rank: usize, alpha: f64) -> Result<()> {
    let op = "lora";
    let shape = param.known(op)?;
    let [outputs, inner @ ..] = &*shape else {
        return Err(Error::shape(op, "expected a weight of at least 2 axes, got a scalar"));
    };
    if inner.is_empty() {
        return Err(Error::shape(op, format!("expected a weight of at least 2 axes, got {shape:?}")));
    }
    if rank == 0 || !alpha.is_finite() {
        let what = format!("expected a rank of at least 1 and a finite alpha, got rank {rank} and alpha {alpha}");
        return Err(Error::value(op, what));
    }
    let inputs: usize = inner.iter().product();
    room::<T>(op, &[rank, inputs])?;
    room::<T>(op, &[*outputs, rank])?;
    let lora = LoRA {
        a: init::drawn(&[rank, inputs], inputs),
        b: Param::new(Tensor::zeros([*outputs, rank])),
        scaling: alpha / rank as f64,
    };
    param.parametrize(op, Arc::new(lora))?;
    param.freeze_originals();
    Ok(())
}

#[derive(Module)]
struct LoRA<T: Real> {
    #[module(name = "lora_A")]
    a: Param<T>,
    #[module(name = "lora_B")]
    b: Param<T>,
    scaling: f64,
}

impl<T: Real> LoRA<T> {
    fn difference(&self, shape: &[usize]) -> Result<Tensor<T>> {
        (self.b.tensor().mm(&self.a.tensor())? * T::of(self.scaling)).reshape(shape)
    }
}

impl<T: Real> Parametrization<T> for LoRA<T> {
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>> {
        originals[0].try_add(&self.difference(originals[0].shape())?)
    }

    fn right_inverse(&self, weight: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        Ok(Some(vec![weight.try_sub(&self.difference(weight.shape())?)?]))
    }
}
