//! [`Snapshot`]: a module's parameters and buffers at one moment, from which a pass can be repeated or divided.

use crate::{
    AnyTensor, DType, Error, Real, Result, Tensor,
    module::{AnyBuffer, AnyParam, Module, ModuleExt, Scope},
};

/// The parameters that require a gradient, and the buffers, with their values.
pub(crate) struct Snapshot<T: Real> {
    pub params: Vec<(AnyParam, Tensor<T>)>,
    pub buffers: Vec<(AnyBuffer, AnyTensor)>,
}

impl<T: Real> Snapshot<T> {
    /// # Errors
    /// If a parameter is of another type.
    pub fn of(op: &str, module: &dyn Module) -> Result<Self> {
        Ok(Snapshot { params: parameters(op, module)?, buffers: buffers(module) })
    }

    /// A scope with other tensors in place of the parameters; what is written to buffers stays in it.
    pub fn scope(&self, params: &[Tensor<T>]) -> Scope {
        let mut scope = Scope::new().capture_buffers();
        for ((param, _), tensor) in self.params.iter().zip(params) {
            scope = scope.any_parameter(param, tensor.clone().into());
        }
        for (buffer, value) in &self.buffers {
            scope = scope.any_buffer(buffer, value.clone());
        }
        scope
    }
}

/// The parameters of a module that require a gradient, with their tensors.
pub(crate) fn parameters<T: Real>(op: &str, module: &dyn Module) -> Result<Vec<(AnyParam, Tensor<T>)>> {
    let other_type = |name: &str, dtype: DType| {
        let why = format!("the parameter `{name}` is {dtype}, the inputs are {}; expected one type", T::DTYPE);
        Error::value(op, why)
    };
    let mut found = Vec::new();
    for (name, param) in module.named_parameters() {
        if param.is_lazy() {
            let why = format!("the parameter `{name}` has no values yet; run the module once before");
            return Err(Error::state(op, why));
        }
        let tensor = param.tensor();
        if tensor.requires_grad() {
            let tensor = tensor.get().ok_or_else(|| other_type(&name, tensor.dtype()))?;
            found.push((param, tensor));
        }
    }
    Ok(found)
}

/// The buffers of a module with their values.
pub(crate) fn buffers(module: &dyn Module) -> Vec<(AnyBuffer, AnyTensor)> {
    module.named_buffers().into_iter().map(|(_, buffer)| (buffer.clone(), buffer.tensor())).collect()
}

/// The same tensor with a node of its own, at which a search for gradients can end.
pub(crate) fn apart<T: Real>(tensor: &Tensor<T>) -> Tensor<T> {
    Tensor::op("apart", tensor.detach().into_array(), [tensor], |g, _| Ok([Some(g.clone())]))
}
