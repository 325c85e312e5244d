//! From the name of a target to a call: the only place where cases and ndnn meet.
//!
//! Each family file has `call` (or `build`, for modules), with one arm per target. `Ok(None)` means that the target belongs
//! to another file, so read arguments only inside the arms.

pub mod dims;
mod functional;
pub mod module;
pub mod optim;
pub mod sched;
mod tensor_math;
mod tensor_reduce;
mod tensor_shape;

use ndnn::{AnyTensor, Real, Result};

use crate::args::Args;

/// What a call returned, flattened in order; `None` if the target belongs to another file.
pub type Called = Result<Option<Vec<AnyTensor>>>;

/// The outputs of a call, of any types: `out![values, indices]`.
macro_rules! out {
    ($($tensor:expr),+ $(,)?) => { vec![$(ndnn::AnyTensor::from($tensor)),+] };
}
pub(crate) use out;

/// The outputs of a call that returns a list.
#[allow(dead_code)]
pub fn list<T: ndnn::Element>(tensors: impl IntoIterator<Item = ndnn::Tensor<T>>) -> Vec<AnyTensor> {
    tensors.into_iter().map(AnyTensor::from).collect()
}

/// Asks each family in turn, until one knows the target.
macro_rules! families {
    ($function:ident $arguments:tt; $($family:path),+ $(,)?) => {{
        $({
            use $family as family;
            if let Some(found) = family::$function $arguments? {
                return Ok(Some(found));
            }
        })+
        Ok(None)
    }};
}
use families;

/// Calls a tensor operation.
pub fn call_tensor<T: Real>(target: &str, variant: &str, args: &Args<T>) -> Called {
    families!(call (target, variant, args); tensor_math, tensor_reduce, tensor_shape)
}

/// Calls a function of torch.nn.functional.
pub fn call_functional<T: Real>(target: &str, variant: &str, args: &Args<T>) -> Called {
    functional::call(target, variant, args)
}

/// Whether ndnn has the target. Tensors, functions and modules are complete: what no file knows is a failure there.
pub fn built(kind: &str, target: &str) -> bool {
    match kind {
        "optim" => optim::BUILT.contains(&target),
        "sched" => sched::BUILT.contains(&target),
        _ => true,
    }
}
