//! Pruning: torch.nn.utils.prune. A pruned parameter is computed as `weight_orig · weight_mask`, until [`remove`].
//!
//! Pruning again acts on what is left: on the elements whose mask is 1, or on the channels that are not masked entirely.
//!
//! ```
//! use ndnn::{nn::utils::prune, prelude::*};
//! let layer = Linear::new(4, 3).bias(false);
//! prune::l1_unstructured(&layer.weight, 0.5, None)?;
//! assert_eq!(layer.weight.tensor().ne(0.0)?.cast::<i64>().sum().item()?, 6);
//! assert_eq!(layer.state_dict().keys().collect::<Vec<_>>(), ["weight_orig", "weight_mask"]);
//! prune::remove(&layer.weight)?;
//! # Ok::<(), ndnn::Error>(())
//! ```

use std::sync::Arc;

use super::parametrize::Parametrization;
use crate::{
    Element, Error, Real, Result, Tensor,
    kernels::linalg,
    module::has_beside,
    nn::{Buffer, Module, ModuleExt, Param},
    tensor::axis,
};

const OP: &str = "prune";

/// How much is pruned: a number of elements or channels, or a share of them from 0 to 1.
///
/// ```
/// use ndnn::nn::utils::prune::Amount;
/// assert_eq!((Amount::from(3), Amount::from(0.3)), (Amount::Count(3), Amount::Share(0.3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Amount {
    /// So many.
    Count(usize),
    /// This share of all, rounded, halves to the even number.
    Share(f64),
}

impl From<usize> for Amount {
    fn from(count: usize) -> Self {
        Amount::Count(count)
    }
}

impl From<f64> for Amount {
    fn from(share: f64) -> Self {
        Amount::Share(share)
    }
}

impl Amount {
    #[inline]
    fn of(self, size: usize, what: &str) -> Result<usize> {
        match self {
            Amount::Count(count) if count > size => {
                Err(Error::value(OP, format!("an amount of {count} of {size} {what}; expected at most as many")))
            }
            Amount::Count(count) => Ok(count),
            Amount::Share(share) if (0. ..=1.).contains(&share) => Ok((share * size as f64).round_ties_even() as usize),
            Amount::Share(share) => Err(Error::value(OP, format!("an amount is a share from 0 to 1, got {share}"))),
        }
    }
}

/// What a [`PruningMethod`] sees of a parameter that is pruned already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PruningType {
    /// The elements whose mask is 1, in one axis.
    Unstructured,
    /// The channels along this axis that are not masked entirely.
    Structured(isize),
    /// Everything.
    Global,
}

/// How to choose what is pruned; the ready ones are [`L1Unstructured`] and its neighbours.
///
/// ```
/// use ndnn::{nn::utils::prune::{PruningMethod, PruningType}, prelude::*};
/// struct Negative;
/// impl PruningMethod for Negative {
///     fn pruning_type(&self) -> PruningType {
///         PruningType::Unstructured
///     }
///     fn compute_mask(&self, scores: &Tensor, mask: &Tensor) -> Result<Tensor> {
///         mask.try_mul(&scores.gt(0.0)?.cast::<f32>())
///     }
/// }
/// let layer = Linear::new(4, 3);
/// Negative.apply(&layer.weight, None)?;
/// assert!(layer.weight.tensor().min()?.item()? >= 0.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub trait PruningMethod<T: Real = f32> {
    /// What [`compute_mask`](PruningMethod::compute_mask) sees.
    fn pruning_type(&self) -> PruningType;

    /// The mask for elements of this importance, by default their values, with 0 for those that are pruned; `default_mask` is the
    /// one before, and both have the shape of `scores`.
    ///
    /// # Errors
    /// If there is no such mask.
    fn compute_mask(&self, scores: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>>;

    /// Prunes a parameter; without `importance_scores`, its values are the scores.
    ///
    /// # Errors
    /// If the scores do not have the parameter's shape, the parameter has no values yet or is computed by something else, and those
    /// of [`compute_mask`](PruningMethod::compute_mask).
    fn apply(&self, param: &Param<T>, importance_scores: Option<&Tensor<T>>) -> Result<()> {
        let shape = param.known(OP)?;
        let scores = scores(&param.detach(), importance_scores)?;
        let Some(kept) = param.beside(|pruned: &Pruned<T>| pruned._mask.clone()) else {
            let mask = same_shape(self.compute_mask(&scores, &Tensor::ones(&*shape))?, &scores)?;
            return param.parametrize(OP, Arc::new(Pruned { _mask: Buffer::new(mask) }));
        };
        kept.set(&combined(self, &scores, &kept.tensor())?)
    }

    /// A pruned tensor: `t` times the mask that is computed for it.
    ///
    /// # Errors
    /// If the scores or a mask do not have its shape, and those of [`compute_mask`](PruningMethod::compute_mask).
    fn prune(
        &self,
        t: &Tensor<T>,
        default_mask: Option<&Tensor<T>>,
        importance_scores: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let scores = scores(&t.detach(), importance_scores)?;
        let default_mask = same_shape(default_mask.cloned().unwrap_or_else(|| t.ones_like()), &scores)?;
        t.try_mul(&same_shape(self.compute_mask(&scores, &default_mask)?, &scores)?)
    }
}

fn scores<T: Real>(values: &Tensor<T>, importance: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    match importance {
        Some(scores) if scores.shape() != values.shape() => {
            let what = format!("the parameter is {:?}, its importance scores {:?}", values.shape(), scores.shape());
            Err(Error::shape(OP, what))
        }
        Some(scores) => Ok(scores.detach()),
        None => Ok(values.clone()),
    }
}

fn same_shape<T: Real>(mask: Tensor<T>, scores: &Tensor<T>) -> Result<Tensor<T>> {
    match mask.shape() == scores.shape() {
        true => Ok(mask),
        false => Err(Error::shape(OP, format!("expected a mask of {:?}, got {:?}", scores.shape(), mask.shape()))),
    }
}

/// The mask after `method` has pruned what `mask` leaves.
fn combined<T: Real>(
    method: &(impl PruningMethod<T> + ?Sized),
    scores: &Tensor<T>,
    mask: &Tensor<T>,
) -> Result<Tensor<T>> {
    let (dim, left) = match method.pruning_type() {
        PruningType::Global => return same_shape(method.compute_mask(scores, mask)?, scores),
        PruningType::Unstructured => {
            let flat = combined_along(method, &scores.reshape(-1)?, &mask.reshape(-1)?, 0, |mask| mask.eq(T::ONE))?;
            return flat.reshape(mask.shape());
        }
        PruningType::Structured(dim) => {
            (dim, move |mask: &Tensor<T>| mask.sum_dim(others(mask, dim)?, false)?.ne(T::ZERO))
        }
    };
    combined_along(method, scores, mask, dim, left)
}

fn combined_along<T: Real>(
    method: &(impl PruningMethod<T> + ?Sized),
    scores: &Tensor<T>,
    mask: &Tensor<T>,
    dim: isize,
    left: impl FnOnce(&Tensor<T>) -> Result<Tensor<bool>>,
) -> Result<Tensor<T>> {
    let left = left(mask)?.nonzero().reshape(-1)?;
    let (scores, part) = (scores.index_select(dim, &left)?, mask.index_select(dim, &left)?);
    mask.index_copy(dim, &left, &same_shape(method.compute_mask(&scores, &part)?, &scores)?)
}

/// All axes but `dim`.
fn others<T: Real>(t: &Tensor<T>, dim: isize) -> Result<Vec<isize>> {
    let dim = axis(OP, dim, t.ndim())?;
    Ok((0..t.ndim()).filter(|&other| other != dim).map(|other| other as isize).collect())
}

#[derive(Module)]
struct Pruned<T: Real> {
    _mask: Buffer<T>,
}

impl<T: Real> Parametrization<T> for Pruned<T> {
    fn forward(&self, originals: &[Tensor<T>]) -> Result<Tensor<T>> {
        self._mask.tensor().try_mul(&originals[0])
    }

    fn right_inverse(&self, values: &Tensor<T>) -> Result<Option<Vec<Tensor<T>>>> {
        Ok(Some(vec![values.clone()]))
    }

    fn beside(&self) -> Option<&[&str]> {
        Some(&["_orig"])
    }
}

// ------------------------------------------------------------------------------------------------------------- methods

/// Prunes nothing, but makes the mask.
#[derive(Clone, Copy, Debug)]
pub struct Identity;

/// Prunes elements at random.
#[derive(Clone, Copy, Debug)]
pub struct RandomUnstructured(pub Amount);

/// Prunes the elements of the smallest magnitude.
#[derive(Clone, Copy, Debug)]
pub struct L1Unstructured(pub Amount);

/// Prunes channels at random.
#[derive(Clone, Copy, Debug)]
pub struct RandomStructured {
    /// How many channels.
    pub amount: Amount,
    /// Their axis.
    pub dim: isize,
}

/// The order of the norm of a channel.
///
/// ```
/// use ndnn::nn::utils::prune::NormOrder;
/// assert_eq!((NormOrder::from(2), NormOrder::from("fro")), (NormOrder::P(2.), NormOrder::P(2.)));
/// assert_eq!((NormOrder::from(f64::INFINITY), NormOrder::from("nuc")), (NormOrder::P(f64::INFINITY), NormOrder::Nuclear));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormOrder {
    /// The [p-norm](Tensor::norm) of all elements, of either sign or infinite; for 0, how many are not 0.
    P(f64),
    /// The sum of the singular values of a channel that is a matrix.
    Nuclear,
}

impl From<f64> for NormOrder {
    fn from(p: f64) -> Self {
        NormOrder::P(p)
    }
}

impl From<i32> for NormOrder {
    fn from(p: i32) -> Self {
        NormOrder::P(p.into())
    }
}

impl From<&str> for NormOrder {
    /// `"fro"`, which is 2, or `"nuc"`.
    ///
    /// # Panics
    /// For any other word.
    #[track_caller]
    fn from(word: &str) -> Self {
        match word {
            "fro" => NormOrder::P(2.),
            "nuc" => NormOrder::Nuclear,
            other => panic!("a norm is a number, \"fro\" or \"nuc\", got {other:?}"),
        }
    }
}

/// Prunes the channels of the smallest norm.
#[derive(Clone, Copy, Debug)]
pub struct LnStructured {
    /// How many channels.
    pub amount: Amount,
    /// The order of the norm.
    pub n: NormOrder,
    /// The channels' axis.
    pub dim: isize,
}

/// Multiplies the mask by this one.
#[derive(Clone, Debug)]
pub struct CustomFromMask<T: Real = f32>(pub Tensor<T>);

impl<T: Real> PruningMethod<T> for Identity {
    fn pruning_type(&self) -> PruningType {
        PruningType::Unstructured
    }
    fn compute_mask(&self, _: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(default_mask.clone())
    }
}

impl<T: Real> PruningMethod<T> for RandomUnstructured {
    fn pruning_type(&self) -> PruningType {
        PruningType::Unstructured
    }
    fn compute_mask(&self, scores: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        without_least(self.0, &scores.rand_like(), default_mask)
    }
}

impl<T: Real> PruningMethod<T> for L1Unstructured {
    fn pruning_type(&self) -> PruningType {
        PruningType::Unstructured
    }
    fn compute_mask(&self, scores: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        without_least(self.0, &scores.abs(), default_mask)
    }
}

impl<T: Real> PruningMethod<T> for RandomStructured {
    fn pruning_type(&self) -> PruningType {
        PruningType::Structured(self.dim)
    }
    fn compute_mask(&self, scores: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        let channels = channels(scores, self.dim)?;
        without_channels(self.amount, &Tensor::rand([channels]), default_mask, self.dim)
    }
}

impl<T: Real> PruningMethod<T> for LnStructured {
    fn pruning_type(&self) -> PruningType {
        PruningType::Structured(self.dim)
    }
    fn compute_mask(&self, scores: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        channels(scores, self.dim)?;
        let norms = match self.n {
            NormOrder::P(p) => scores.detach().norm(p, others(scores, self.dim)?, false)?,
            NormOrder::Nuclear => nuclear_norms(scores, self.dim)?,
        };
        without_channels(self.amount, &norms, default_mask, self.dim)
    }
}

impl<T: Real> PruningMethod<T> for CustomFromMask<T> {
    fn pruning_type(&self) -> PruningType {
        PruningType::Global
    }
    fn compute_mask(&self, _: &Tensor<T>, default_mask: &Tensor<T>) -> Result<Tensor<T>> {
        same_shape(self.0.clone(), default_mask)?.try_mul(default_mask)
    }
}

/// The nuclear norm of each channel.
fn nuclear_norms<T: Real>(scores: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    let matrices = scores.movedim(dim, 0)?.cast::<f64>();
    let &[channels, rows, columns] = matrices.shape() else {
        let what = format!("a nuclear norm is of channels that are matrices, the parameter is {:?}", scores.shape());
        return Err(Error::shape(OP, what + "; expected 3 axes"));
    };
    // Of a matrix and its transpose it is the same, and of fewer rows faster.
    let matrices = if rows > columns { matrices.transpose(1, 2)? } else { matrices };
    let norms = match rows.min(columns) {
        0 => vec![0.; channels],
        rows => linalg::nuclear_norms(&mut matrices.to_vec(), rows, matrices.shape()[2]),
    };
    Ok(Tensor::from_vec([channels], norms)?.cast())
}

/// The mask with 0 for the elements of the smallest sizes.
fn without_least<T: Real>(amount: Amount, sizes: &Tensor<T>, mask: &Tensor<T>) -> Result<Tensor<T>> {
    let count = amount.of(sizes.numel(), "elements")?;
    let least = sizes.reshape(-1)?.topk(count, -1, false)?.1;
    mask.reshape(-1)?.index_fill(0, &least, T::ZERO)?.reshape(mask.shape())
}

/// The mask with 0 for the channels of the smallest sizes.
fn without_channels<T: Real>(amount: Amount, sizes: &Tensor<T>, mask: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    let count = amount.of(sizes.numel(), "channels")?;
    mask.index_fill(dim, &sizes.topk(count, -1, false)?.1, T::ZERO)
}

fn channels<T: Real>(scores: &Tensor<T>, dim: isize) -> Result<usize> {
    match scores.shape() {
        shape @ ([] | [_]) => {
            Err(Error::shape(OP, format!("channels need at least 2 axes, the parameter is {shape:?}")))
        }
        shape => Ok(shape[axis(OP, dim, shape.len())?]),
    }
}

// ----------------------------------------------------------------------------------------------------------- functions

/// Gives a parameter a mask of ones, [`Identity`].
///
/// # Errors
/// If the parameter has no values yet, or is computed by something else.
pub fn identity<T: Real>(param: &Param<T>) -> Result<()> {
    Identity.apply(param, None)
}

/// Prunes elements at random.
///
/// # Errors
/// As [`l1_unstructured`].
pub fn random_unstructured<T: Real>(param: &Param<T>, amount: impl Into<Amount>) -> Result<()> {
    RandomUnstructured(amount.into()).apply(param, None)
}

/// Prunes the elements of the smallest magnitude, that of the `importance_scores` if there are any.
///
/// # Errors
/// If `amount` is a share outside 0 to 1 or more than there is, the scores have another shape, or the parameter has no values yet
/// or is computed by something else.
pub fn l1_unstructured<T: Real>(
    param: &Param<T>,
    amount: impl Into<Amount>,
    importance_scores: Option<&Tensor<T>>,
) -> Result<()> {
    L1Unstructured(amount.into()).apply(param, importance_scores)
}

/// Prunes channels along axis `dim` at random.
///
/// ```
/// use ndnn::{nn::utils::prune, prelude::*};
/// let layer = Conv2d::new(4, 8, 3);
/// prune::random_structured(&layer.weight, 2, 1)?;
/// let left = layer.weight.tensor().abs().sum_dim([0, 2, 3], false)?;
/// assert_eq!(left.eq(0.0)?.cast::<i64>().sum().item()?, 2);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// As [`ln_structured`].
pub fn random_structured<T: Real>(param: &Param<T>, amount: impl Into<Amount>, dim: isize) -> Result<()> {
    RandomStructured { amount: amount.into(), dim }.apply(param, None)
}

/// Prunes the channels along axis `dim` of the smallest norm, that of the `importance_scores` if there are any. `n` is a number, of
/// either sign or infinite, `"fro"` or `"nuc"`.
///
/// PyTorch takes `"nuc"` also for parameters that do not have 3 axes, of whose last two axes it is then, whatever `dim` says; here
/// that is an error.
///
/// ```
/// use ndnn::{nn::utils::prune, prelude::*};
/// let layer = Conv1d::new(4, 8, 3);
/// prune::ln_structured(&layer.weight, 2, "nuc", 0, None)?;
/// prune::ln_structured(&layer.weight, 0.5, f64::INFINITY, 1, None)?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// As [`l1_unstructured`], and if the parameter has fewer than 2 axes, or for `"nuc"` not 3, or no axis `dim`.
pub fn ln_structured<T: Real>(
    param: &Param<T>,
    amount: impl Into<Amount>,
    n: impl Into<NormOrder>,
    dim: isize,
    importance_scores: Option<&Tensor<T>>,
) -> Result<()> {
    LnStructured { amount: amount.into(), n: n.into(), dim }.apply(param, importance_scores)
}

/// Prunes the elements for which `mask` is 0 or false.
///
/// ```
/// use ndnn::{nn::utils::prune, prelude::*};
/// let layer = Linear::new(4, 3);
/// let bias = layer.bias.as_ref().unwrap();
/// prune::custom_from_mask(bias, &tensor![true, false, true])?;
/// assert_eq!(bias.tensor().to_vec()[1], 0.0);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If it has another shape, or the parameter has no values yet or is computed by something else.
pub fn custom_from_mask<T: Real, M: Element>(param: &Param<T>, mask: &Tensor<M>) -> Result<()> {
    CustomFromMask(mask.cast::<T>()).apply(param, None)
}

/// Prunes several parameters as if they were one, by an unstructured method; `importance_scores` has those of some parameters, the
/// scores of the others are their values.
///
/// ```
/// use ndnn::{nn::utils::prune::{self, L1Unstructured}, prelude::*};
/// let (a, b) = (Linear::new(10, 4), Linear::new(4, 1));
/// prune::global_unstructured(&[&a.weight, &b.weight], &L1Unstructured(10.into()), &[])?;
/// let zeros = |layer: &Linear| layer.weight.tensor().eq(0.0).unwrap().cast::<i64>().sum().item().unwrap();
/// assert_eq!(zeros(&a) + zeros(&b), 10);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the method is not unstructured, and as [`l1_unstructured`]; then no parameter has changed.
pub fn global_unstructured<T: Real>(
    params: &[&Param<T>],
    method: &impl PruningMethod<T>,
    importance_scores: &[(&Param<T>, Tensor<T>)],
) -> Result<()> {
    if method.pruning_type() != PruningType::Unstructured {
        let what = format!("pruning several parameters needs an unstructured method, got {:?}", method.pruning_type());
        return Err(Error::value(OP, what));
    }
    let (mut all_scores, mut masks) = (vec![Tensor::zeros([0])], vec![Tensor::zeros([0])]);
    for &param in params {
        let shape = param.known(OP)?;
        let given = importance_scores.iter().find(|(of, _)| of.is_same(param)).map(|(_, scores)| scores);
        all_scores.push(scores(&param.detach(), given)?.reshape(-1)?);
        let mask = param.beside(|pruned: &Pruned<T>| pruned._mask.tensor());
        if mask.is_none() {
            param.check_unparametrized(OP)?;
        }
        masks.push(mask.unwrap_or_else(|| Tensor::ones(shape)).reshape(-1)?);
    }
    let mask = combined(method, &Tensor::cat(&all_scores, 0)?, &Tensor::cat(&masks, 0)?)?;
    let mut start = 0;
    for &param in params {
        custom_from_mask(param, &mask.narrow(0, start, param.numel())?.reshape(param.shape())?)?;
        start += param.numel();
    }
    Ok(())
}

/// Makes the pruned values an ordinary parameter again.
///
/// # Errors
/// If it is not pruned.
pub fn remove<T: Real>(param: &Param<T>) -> Result<()> {
    match param.beside(|_: &Pruned<T>| ()) {
        Some(()) => param.unparametrize(OP, true),
        None => Err(Error::state(OP, "the parameter is not pruned, so there is nothing to remove")),
    }
}

/// Whether a parameter of the module, or of one inside it, is pruned.
///
/// ```
/// use ndnn::{nn::utils::prune, prelude::*};
/// let model = Linear::new(5, 7);
/// assert!(!prune::is_pruned(&model));
/// prune::random_unstructured(&model.weight, 0.2)?;
/// assert!(prune::is_pruned(&model));
/// # Ok::<(), ndnn::Error>(())
/// ```
pub fn is_pruned(module: &impl Module) -> bool {
    let pruned = |module: &dyn Module| has_beside::<Pruned<f32>, f32>(module) || has_beside::<Pruned<f64>, f64>(module);
    pruned(module) || module.named_modules().into_iter().any(|(_, module)| pruned(module))
}
