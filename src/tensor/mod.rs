//! [`Tensor`]: an `ndarray` value that knows how it was computed.

mod backward;
mod creation;
mod dims;
mod erase;
mod format;
mod group;
mod leaf;
mod node;
mod operand;
mod random;

use std::sync::Arc;

use ndarray::{ArcArray, ArrayD, ArrayViewD, Dimension, IxDyn};
use ndnn_derive::concrete;

pub(crate) use backward::{BackwardFn, Grads, Recorded};
#[doc(hidden)]
pub use creation::{tensor_default, tensor_of};
pub use dims::{Int, Ints, Sizes};
pub(crate) use dims::{axes, axis};
use erase::erase;
pub(crate) use erase::{erase_node, known, known_ref, unerase};
pub use group::Tensors;
pub(crate) use leaf::{Leaf, LeafHook, gradient_hook};
pub(crate) use node::{AnyNode, NodeRef, cast, leaf, with_grad};
pub use node::{grad_enabled, no_grad};
pub use operand::Operand;

pub(crate) use crate::number::{DType, Element, Number, Real};
use crate::{
    Error, Result,
    kernels::{
        copy::{self, RowMajor},
        elementwise::convert,
        held::Held,
    },
    sync::lock,
};

/// The array inside a tensor: of dynamic rank, shared, copied on write while shared.
pub type Array<T> = ArcArray<T, IxDyn>;

/// An n-dimensional array and, if gradients flow, the operation that computed it.
///
/// A tensor is an immutable value: cloning is O(1), views share memory, and nothing that happens later can change what
/// a backward pass uses. `T` is `f32` (the default), `f64`, `i64` (labels, indices) or `bool` (masks).
///
/// ```
/// use ndnn::prelude::*;
/// let x = tensor![[1.0, 2.0], [3.0, 4.0]].set_requires_grad(true);
/// let y = (&x * &x).sum();
/// y.backward()?;
/// println!("{}", x.grad().unwrap());
/// # Ok::<(), ndnn::Error>(())
/// ```
#[must_use = "an operation leaves its tensors as they are and returns a new one"]
#[derive(Clone)]
pub struct Tensor<T: Element = f32> {
    pub(crate) data: Held<T>,
    pub(crate) node: NodeRef<T>,
}

/// A tensor of any element type, as a state_dict holds it.
/// Two of them are equal if their types, shapes and elements are.
#[must_use]
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum AnyTensor {
    F32(Tensor<f32>),
    F64(Tensor<f64>),
    I64(Tensor<i64>),
    Bool(Tensor<bool>),
}

/// Runs one expression on the tensor inside an [`AnyTensor`], whatever its type.
macro_rules! any_tensor {
    ($any:expr, $t:ident => $body:expr) => {
        match $any {
            $crate::tensor::AnyTensor::F32($t) => $body,
            $crate::tensor::AnyTensor::F64($t) => $body,
            $crate::tensor::AnyTensor::I64($t) => $body,
            $crate::tensor::AnyTensor::Bool($t) => $body,
        }
    };
}
#[allow(unused_imports)]
pub(crate) use any_tensor;

impl AnyTensor {
    /// The type of the elements.
    pub fn dtype(&self) -> DType {
        match self {
            AnyTensor::F32(_) => DType::F32,
            AnyTensor::F64(_) => DType::F64,
            AnyTensor::I64(_) => DType::I64,
            AnyTensor::Bool(_) => DType::Bool,
        }
    }

    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        any_tensor!(self, t => t.shape())
    }

    /// The tensor inside, with its graph; `None` if its elements are not of type `T`.
    pub fn get<T: Element>(&self) -> Option<Tensor<T>> {
        unerase(self.clone())
    }

    /// Whether gradients flow through it.
    pub fn requires_grad(&self) -> bool {
        match self {
            AnyTensor::F32(t) => t.requires_grad(),
            AnyTensor::F64(t) => t.requires_grad(),
            AnyTensor::I64(_) | AnyTensor::Bool(_) => false,
        }
    }

    /// Whether both are one tensor: the same array, seen the same way, with the same history.
    pub(crate) fn is_same(&self, other: &AnyTensor) -> bool {
        let identity = any_tensor!(self, t => t.identity());
        self.dtype() == other.dtype() && identity == any_tensor!(other, t => t.identity())
    }

    /// The tensor converted to elements of type `T`, detached from its graph.
    pub fn to<T: Element>(&self) -> Tensor<T> {
        any_tensor!(self, t => t.detach().cast())
    }
}

impl<T: Element> From<Tensor<T>> for AnyTensor {
    fn from(tensor: Tensor<T>) -> Self {
        erase(tensor)
    }
}

// ---------------------------------------------------------------------------------------------- to and from ndarray

impl<T: Element> From<Array<T>> for Tensor<T> {
    fn from(data: Array<T>) -> Self {
        Tensor { data: data.into(), node: NodeRef(None) }
    }
}

impl<T: Element, D: Dimension> From<ndarray::Array<T, D>> for Tensor<T> {
    fn from(array: ndarray::Array<T, D>) -> Self {
        shared(array.into_dyn())
    }
}

/// A call, since almost every operation makes its result by it.
#[inline(never)]
fn shared<T: Element>(array: ArrayD<T>) -> Tensor<T> {
    Array::from(array).into()
}

impl<T: Element> Tensor<T> {
    /// The elements, as an ndarray view.
    pub fn view(&self) -> ArrayViewD<'_, T> {
        self.data.view()
    }

    /// The elements in row-major order; copies only if they are not in that order already.
    #[concrete(Element)]
    pub(crate) fn elements(&self) -> RowMajor<'_, T> {
        RowMajor::of(self.view())
    }

    /// The elements as an owned array; copies only if they are shared.
    pub fn into_array(self) -> ArrayD<T> {
        self.data.into_inner().try_into_owned_nocopy().unwrap_or_else(|shared| copy::contiguous(shared.view()))
    }

    /// The shared array.
    pub(crate) fn data(&self) -> &Array<T> {
        &self.data
    }

    /// The shape as ndarray has it, which takes no memory of its own.
    pub(crate) fn raw_dim(&self) -> IxDyn {
        self.data.raw_dim()
    }

    /// The elements in row-major order.
    #[concrete(Element)]
    pub fn to_vec(&self) -> Vec<T> {
        copy::to_vec(&self.view())
    }
}

// ------------------------------------------------------------------------------------------------------- what it is

impl<T: Element> Tensor<T> {
    /// The length of each axis.
    pub fn shape(&self) -> &[usize] {
        self.data.shape()
    }

    /// The number of axes.
    pub fn ndim(&self) -> usize {
        self.data.ndim()
    }

    /// The number of elements.
    pub fn numel(&self) -> usize {
        self.data.len()
    }

    /// The length of one axis; a negative one counts from the end.
    ///
    /// # Errors
    /// If there is no such axis.
    pub fn size(&self, dim: isize) -> Result<usize> {
        let axis = axis("size", dim, self.ndim())?;
        self.shape().get(axis).copied().ok_or_else(|| Error::shape("size", "a tensor of no axes has no sizes"))
    }

    /// The type of the elements, as a value.
    pub fn dtype(&self) -> DType {
        T::DTYPE
    }

    /// The value of a tensor with one element.
    ///
    /// # Errors
    /// If there is not exactly one element.
    #[concrete(Element)]
    pub fn item(&self) -> Result<T> {
        match self.numel() {
            1 => Ok(*self.data.first().expect("one element")),
            n => Err(Error::shape(
                "item",
                format!("needs a tensor of one element, this one has {n} ({:?})", self.shape()),
            )),
        }
    }

    /// Whether both refer to the same array, not just to equal ones.
    pub fn shares_memory_with(&self, other: &Tensor<T>) -> bool {
        self.data.as_ptr() == other.data.as_ptr()
    }

    /// Whether both are the same tensor: the same array, with the same view and the same history.
    pub(crate) fn is_same(&self, other: &Tensor<T>) -> bool {
        self.identity() == other.identity()
    }

    /// The addresses of the first element and of the node, the shape and the strides.
    fn identity(&self) -> (usize, usize, &[usize], &[isize]) {
        let node = self.node.0.as_ref().map_or(0, |node| Arc::as_ptr(node) as *const () as usize);
        (self.data.as_ptr() as usize, node, self.data.shape(), self.data.strides())
    }
}

// ---------------------------------------------------------------------------------------------------------- gradients

impl<T: Element> Tensor<T> {
    /// Whether operations on this tensor are recorded: PyTorch's `tensor.requires_grad`, for reading.
    pub fn requires_grad(&self) -> bool {
        self.node.0.is_some()
    }

    /// The same values, detached from the graph.
    pub fn detach(&self) -> Tensor<T> {
        Tensor { data: self.data.clone(), node: NodeRef(None) }
    }

    /// As [`detach`](Tensor::detach), in place.
    pub(crate) fn detached(&mut self) {
        self.node = NodeRef(None);
    }

    /// As [`detach`](Tensor::detach), without another reference to the array.
    pub(crate) fn into_detached(mut self) -> Tensor<T> {
        self.detached();
        self
    }

    /// Whether gradients accumulate here: it was created by [`Tensor::set_requires_grad`], or it is not tracked at all.
    pub fn is_leaf(&self) -> bool {
        self.node.0.as_ref().is_none_or(|n| n.op.leaf().is_some())
    }

    /// The name of the operation that made it; `None` for a leaf or an untracked tensor.
    pub fn grad_fn(&self) -> Option<&'static str> {
        self.node.0.as_ref().filter(|n| n.op.leaf().is_none()).map(|n| n.op.name())
    }
}

impl<T: Real> Tensor<T> {
    /// The same values as a new leaf, in which [`backward`](Tensor::backward) accumulates the gradient; a tensor that
    /// is already tracked is returned unchanged. With `false`, a leaf becomes a tensor that is not tracked.
    ///
    /// For a new leaf with the values of a tracked tensor, write `x.detach().set_requires_grad(true)`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let x = tensor![2.0].set_requires_grad(true);
    /// let y = (&x * 3.0).set_requires_grad(true);     // still the result of x
    /// y.sum().backward()?;
    /// assert_eq!(x.grad(), Some(tensor![3.0]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Panics
    /// With `false` on the result of an operation, through which gradients flow in any case. Use
    /// [`detach`](Tensor::detach).
    #[track_caller]
    pub fn set_requires_grad(&self, requires_grad: bool) -> Tensor<T> {
        match (requires_grad, self.grad_fn()) {
            (true, _) if self.requires_grad() => self.clone(),
            (true, _) => Tensor { data: self.data.clone(), node: leaf(&self.data) },
            (false, None) => self.detach(),
            (false, Some(op)) => panic!(
                "set_requires_grad(false): this tensor {:?} is the result of `{op}`, through which gradients flow; use \
                 detach() for the same values without gradients",
                self.shape()
            ),
        }
    }

    /// The gradient accumulated in this leaf.
    pub fn grad(&self) -> Option<Tensor<T>> {
        lock(&self.node.0.as_ref()?.op.leaf()?.grad).clone()
    }

    /// Discards the gradient accumulated in this leaf.
    pub fn zero_grad(&self) {
        self.set_grad(None);
    }

    /// Replaces the gradient accumulated in this leaf; does nothing if this is not a leaf.
    pub(crate) fn set_grad(&self, grad: Option<Tensor<T>>) {
        if let Some(leaf) = self.node.0.as_ref().and_then(|n| n.op.leaf()) {
            *lock(&leaf.grad) = grad;
        }
    }
}

impl<T: Element> Tensor<T> {
    /// Converts to another element type as Rust's `as` does; gradients flow between `f32` and `f64`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(tensor![1, 0, 2].cast::<bool>(), tensor![true, false, true]);
    /// let x = tensor![0.5].set_requires_grad(true);
    /// x.cast::<f64>().square().sum().backward()?;
    /// assert_eq!(x.grad().unwrap().item()?, 1.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    pub fn cast<U: Element>(&self) -> Tensor<U> {
        unerase(converted(erase(self.clone()), U::DTYPE)).expect("the arm is chosen by type")
    }
}

/// Not generic, so that it is compiled here.
fn converted(tensor: AnyTensor, dtype: DType) -> AnyTensor {
    fn to<T: Element>(tensor: AnyTensor) -> Tensor<T> {
        match tensor {
            AnyTensor::F32(t) => convert(t.data(), |x| T::of(x.into())).into(),
            AnyTensor::F64(t) => convert(t.data(), T::of).into(),
            // Going to f32 through f64 would round twice.
            AnyTensor::I64(t) => convert(t.data(), T::of_i64).into(),
            AnyTensor::Bool(t) => convert(t.data(), |x| if x { T::ONE } else { T::ZERO }).into(),
        }
    }
    match (tensor, dtype) {
        (AnyTensor::F32(t), DType::F64) => AnyTensor::F64(cast(&t, to(AnyTensor::F32(t.clone())).data)),
        (AnyTensor::F64(t), DType::F32) => AnyTensor::F32(cast(&t, to(AnyTensor::F64(t.clone())).data)),
        (same, dtype) if same.dtype() == dtype => same,
        (other, DType::F32) => AnyTensor::F32(to(other)),
        (other, DType::F64) => AnyTensor::F64(to(other)),
        (other, DType::I64) => AnyTensor::I64(to(other)),
        (other, DType::Bool) => AnyTensor::Bool(to(other)),
    }
}

/// Equal shapes and equal elements (NaN equals nothing); gradients are not compared.
impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Self) -> bool {
        *self.data == *other.data
    }
}
