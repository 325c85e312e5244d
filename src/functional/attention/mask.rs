//! [`AttentionMask`]: which keys a query may attend to.

use ndnn_derive::concrete;

use crate::{
    Result,
    functional::Lengths,
    kernels::{
        attention::{self as kernel, Heads},
        elementwise::map,
        gather::mask_matrix,
        memory::filled,
        sizes::room,
    },
    tensor::{Real, Tensor},
};

/// Which keys a query may attend to.
///
/// PyTorch reads `true` as "attends" in `scaled_dot_product_attention` and as "hidden" in `MultiheadAttention` and the
/// transformer layers. Here the constructor says which one is meant, and every function takes either:
///
/// ```
/// use ndnn::{functional::AttentionMask, tensor};
/// let causal: AttentionMask = AttentionMask::causal(2, 2)?;
/// let attended: AttentionMask = AttentionMask::attended(&tensor![[true, false], [true, true]]);
/// let hidden: AttentionMask = AttentionMask::hidden(&tensor![[false, true], [false, false]]);
/// let added: AttentionMask = AttentionMask::added(&tensor![[0.0, f32::NEG_INFINITY], [0.0, 0.0]]);
/// assert_eq!((causal.numbers(), attended.numbers()), (added.numbers(), hidden.numbers()));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// A query that attends to no key gives zeros and passes no gradient.
#[derive(Clone, Debug)]
pub struct AttentionMask<T: Real = f32>(Mask<T>);

#[derive(Clone, Debug)]
enum Mask<T: Real> {
    /// A key is hidden where the mask equals the second value.
    Bool(Tensor<bool>, bool),
    Float(Tensor<T>),
}

impl<T: Real> AttentionMask<T> {
    /// `true` where the query attends to the key, as in PyTorch's `scaled_dot_product_attention`.
    pub fn attended(mask: &Tensor<bool>) -> Self {
        AttentionMask(Mask::Bool(mask.clone(), false))
    }

    /// `true` where the key is hidden, as in PyTorch's `MultiheadAttention`, transformer layers, and every
    /// `key_padding_mask`.
    pub fn hidden(mask: &Tensor<bool>) -> Self {
        AttentionMask(Mask::Bool(mask.clone(), true))
    }

    /// Numbers that are added to the scores, −∞ where a key is hidden, as everywhere in PyTorch. Gradients flow through
    /// them. `From<&Tensor<T>>` does the same.
    pub fn added(mask: &Tensor<T>) -> Self {
        AttentionMask(Mask::Float(mask.clone()))
    }

    /// `(queries, keys)`: query i attends to the keys 0 to i.
    ///
    /// # Errors
    /// If there is not enough memory.
    pub fn causal(queries: usize, keys: usize) -> Result<Self> {
        Self::kept("AttentionMask::causal", &[queries, keys], |i, j| j <= i)
    }

    /// `(N, keys)`: the first `lengths[n]` keys of sequence n are there, the others are padding. This is a
    /// `key_padding_mask`; [`unsqueeze`](Self::unsqueeze) gives it the axes that
    /// [`scaled_dot_product_attention`](crate::functional::scaled_dot_product_attention) expects.
    ///
    /// # Errors
    /// If a length is not between 0 and `keys`, or there is not enough memory.
    pub fn lengths(lengths: impl Into<Lengths>, keys: usize) -> Result<Self> {
        const OP: &str = "AttentionMask::lengths";
        let lengths = lengths.into().within(OP, "length", 0..=keys)?;
        Self::kept(OP, &[lengths.len(), keys], |n, j| j < lengths[n as usize] as isize)
    }

    fn kept(op: &str, shape: &[usize], keep: impl Fn(isize, isize) -> bool) -> Result<Self> {
        let all = filled(room::<bool>(op, shape)?, true);
        Ok(Self::attended(&mask_matrix(all, shape, false, keep).into()))
    }

    /// The same mask with an axis of length 1 inserted at `dim`, along which it broadcasts.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn unsqueeze(&self, dim: isize) -> Result<Self> {
        Ok(AttentionMask(match &self.0 {
            Mask::Bool(mask, hidden) => Mask::Bool(mask.unsqueeze(dim)?, *hidden),
            Mask::Float(mask) => Mask::Float(mask.unsqueeze(dim)?),
        }))
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        match &self.0 {
            Mask::Bool(mask, _) => mask.shape(),
            Mask::Float(mask) => mask.shape(),
        }
    }

    /// Whether gradients flow through it.
    pub(super) fn requires_grad(&self) -> bool {
        matches!(&self.0, Mask::Float(mask) if mask.requires_grad())
    }

    /// For the kernel, broadcast to the shape of the scores.
    pub(super) fn heads(&self, scores: &[usize]) -> kernel::Mask<'_, T> {
        match &self.0 {
            Mask::Bool(mask, hidden) => kernel::Mask::Bool(Heads::broadcast(&mask.view(), scores), *hidden),
            Mask::Float(mask) => kernel::Mask::Float(Heads::broadcast(&mask.view(), scores)),
        }
    }

    /// The same mask in another shape of as many elements.
    pub(super) fn reshape(&self, shape: &[usize]) -> Result<Self> {
        Ok(AttentionMask(match &self.0 {
            Mask::Bool(mask, hidden) => Mask::Bool(mask.reshape(shape)?, *hidden),
            Mask::Float(mask) => Mask::Float(mask.reshape(shape)?),
        }))
    }

    /// The numbers that are added to the scores: −∞ where a key is hidden.
    pub fn numbers(&self) -> Tensor<T> {
        match &self.0 {
            Mask::Bool(mask, hidden) => numbers(mask, *hidden),
            Mask::Float(mask) => mask.clone(),
        }
    }
}

#[concrete]
fn numbers<T: Real>(mask: &Tensor<bool>, hidden: bool) -> Tensor<T> {
    map(mask.data(), |m| if m == hidden { T::neg_infinity() } else { T::ZERO }).into()
}

impl<T: Real> From<&Tensor<T>> for AttentionMask<T> {
    fn from(mask: &Tensor<T>) -> Self {
        AttentionMask::added(mask)
    }
}

impl<T: Real> From<&Tensor<T>> for Option<AttentionMask<T>> {
    fn from(mask: &Tensor<T>) -> Self {
        Some(mask.into())
    }
}
