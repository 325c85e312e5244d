//! [`Snapshot`]: a module's parameters and buffers at one moment, from which a pass can be repeated or divided.

use crate::{
    AnyTensor, Error, Real, Result, Tensor,
    module::{AnyBuffer, AnyParam, Module, ModuleExt, Scope, no_lazy},
};

/// The parameters and the buffers with their values.
pub(crate) struct Snapshot<T: Real> {
    /// The parameters that require a gradient.
    pub params: Vec<(AnyParam, Tensor<T>)>,
    /// The others, which a scope may replace, too.
    frozen: Vec<(AnyParam, AnyTensor)>,
    buffers: Vec<(AnyBuffer, AnyTensor)>,
}

impl<T: Real> Snapshot<T> {
    /// The parameters as they are now, with [`buffers`].
    ///
    /// # Errors
    /// If a parameter that requires a gradient is of another type, or one has no values yet.
    #[inline]
    pub fn of(op: &str, module: &dyn Module, buffers: Vec<(AnyBuffer, AnyTensor)>) -> Result<Self> {
        let (mut params, mut frozen) = (Vec::new(), Vec::new());
        let named = module.named_parameters();
        no_lazy(op, named.iter().map(|(name, param)| (name.as_str(), param.is_lazy())))?;
        for (name, param) in named {
            let any = param.tensor();
            match any.get() {
                _ if !any.requires_grad() => frozen.push((param, any)),
                Some(tensor) => params.push((param, tensor)),
                None => {
                    let (is, expected) = (any.dtype(), T::DTYPE);
                    let why = format!("the parameter `{name}` is {is}, the inputs are {expected}; expected one type");
                    return Err(Error::value(op, why));
                }
            }
        }
        Ok(Snapshot { params, frozen, buffers })
    }

    /// A scope with other tensors in place of the parameters that require a gradient; what is written to buffers stays in it.
    pub fn scope(&self, params: &[Tensor<T>]) -> Scope {
        let mut scope = Scope::new().capture_buffers();
        for ((param, _), tensor) in self.params.iter().zip(params) {
            scope = scope.any_parameter(param, tensor.clone().into());
        }
        for (param, tensor) in &self.frozen {
            scope = scope.any_parameter(param, tensor.clone());
        }
        for (buffer, value) in &self.buffers {
            scope = scope.any_buffer(buffer, value.clone());
        }
        scope
    }
}

/// The buffers of a module with their values, of those that have any yet.
#[inline]
pub(crate) fn buffers(module: &dyn Module) -> Vec<(AnyBuffer, AnyTensor)> {
    let known = module.named_buffers().into_iter().filter(|(_, buffer)| !buffer.is_lazy());
    known.map(|(_, buffer)| (buffer.clone(), buffer.tensor())).collect()
}
