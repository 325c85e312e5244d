//! From a static element type to an enum of all types, and back: this lets one tree hold f32 weights, f64 weights and
//! i64 counters.

use std::sync::Arc;

use super::{
    AnyTensor, Tensor,
    node::{AnyNode, Node},
};
use crate::{
    kernels::retype::{same, same_ref},
    number::{DType, Element},
};

/// `value` as the type that it is, which `DTYPE` has told.
#[inline(always)]
pub(crate) fn known<A: 'static, B: 'static>(value: A) -> B {
    same(value).expect("the type that DTYPE names")
}

/// The same of a reference.
#[inline(always)]
pub(crate) fn known_ref<A: 'static, B: 'static>(value: &A) -> &B {
    same_ref(value).expect("the type that DTYPE names")
}

/// A tensor as an enum of all element types.
#[inline(never)]
pub(super) fn erase<T: Element>(tensor: Tensor<T>) -> AnyTensor {
    match T::DTYPE {
        DType::F32 => AnyTensor::F32(known(tensor)),
        DType::F64 => AnyTensor::F64(known(tensor)),
        DType::I64 => AnyTensor::I64(known(tensor)),
        DType::Bool => AnyTensor::Bool(known(tensor)),
    }
}

/// The tensor inside, if it is of this type.
#[inline(never)]
pub(crate) fn unerase<T: Element>(tensor: AnyTensor) -> Option<Tensor<T>> {
    match tensor {
        AnyTensor::F32(t) => same(t),
        AnyTensor::F64(t) => same(t),
        AnyTensor::I64(t) => same(t),
        AnyTensor::Bool(t) => same(t),
    }
}

/// A node as an enum of the element types that have gradients, f32 and f64.
pub(crate) fn erase_node<T: Element>(node: Arc<Node<T>>) -> AnyNode {
    match T::DTYPE {
        DType::F32 => AnyNode::F32(known(node)),
        DType::F64 => AnyNode::F64(known(node)),
        other => unreachable!("{other} has no gradients"),
    }
}
