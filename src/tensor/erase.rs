//! From a static element type to an enum of all types, and back: this lets one tree hold f32 weights, f64 weights and
//! i64 counters.

use std::{any::Any, sync::Arc};

use super::{
    AnyTensor, Tensor,
    node::{AnyNode, Node},
};
use crate::number::{DType, Element};

/// `value` as type `B`; `None` if its type is another one. With both types known at compile time it costs nothing.
fn same<A: Any, B: Any>(value: A) -> Option<B> {
    let mut value = Some(value);
    (&mut value as &mut dyn Any).downcast_mut::<Option<B>>()?.take()
}

/// `value` as the type that it is, which `DTYPE` has told.
pub(crate) fn known<A: Any, B: Any>(value: A) -> B {
    same(value).expect("the type that DTYPE names")
}

/// The same of a reference.
pub(crate) fn known_ref<A: Any, B: Any>(value: &A) -> &B {
    (value as &dyn Any).downcast_ref().expect("the type that DTYPE names")
}

/// A tensor as an enum of all element types.
pub(super) fn erase<T: Element>(tensor: Tensor<T>) -> AnyTensor {
    match T::DTYPE {
        DType::F32 => AnyTensor::F32(known(tensor)),
        DType::F64 => AnyTensor::F64(known(tensor)),
        DType::I64 => AnyTensor::I64(known(tensor)),
        DType::Bool => AnyTensor::Bool(known(tensor)),
    }
}

/// The tensor inside, if it is of this type.
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
