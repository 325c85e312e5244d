//! All parameters as one vector, and back.

use crate::{
    DType, Error, Result,
    nn::{AnyParam, Parameters},
    tensor::{Real, Tensor},
};

/// All parameters as one vector, each in row-major order; gradients flow from it to them.
///
/// Parameters in `f32` become `f64` if a vector of that is asked for.
///
/// ```
/// use ndnn::{nn::utils::{parameters_to_vector, vector_to_parameters}, prelude::*};
/// let (model, other) = (Linear::new(3, 2), Linear::new(3, 2));
/// let vector: Tensor = parameters_to_vector(&model)?;
/// assert_eq!(vector.shape(), [8]);
/// vector_to_parameters(&vector, &other)?;
/// assert_eq!(other.weight.detach(), model.weight.detach());
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there are no parameters, one has no values yet, or one is `f64` and the vector is `f32`.
pub fn parameters_to_vector<T: Real>(params: impl Parameters) -> Result<Tensor<T>> {
    let op = "parameters_to_vector";
    let mut parts = Vec::new();
    for (name, param) in params.named() {
        if param.is_lazy() {
            return Err(lazy(op, &name));
        }
        let tensor: Tensor<T> = match &param {
            AnyParam::F32(p) => p.tensor().cast(),
            AnyParam::F64(p) if T::DTYPE == DType::F64 => p.tensor().cast(),
            AnyParam::F64(_) => {
                let what = format!("`{name}` is {}, which a vector of {} cannot hold", param.dtype(), T::DTYPE);
                return Err(Error::value(op, format!("{what}; ask for a Tensor<f64>")));
            }
        };
        parts.push(tensor.reshape(-1)?);
    }
    if parts.is_empty() {
        return Err(Error::value(op, "there are no parameters"));
    }
    Tensor::cat(&parts, 0)
}

/// Sets the parameters to consecutive parts of a vector, as [`parameters_to_vector`] joins them.
///
/// # Errors
/// If the vector is not one axis of as many elements as all parameters together, or a parameter has no values yet. Then no
/// parameter has changed.
pub fn vector_to_parameters<T: Real>(vector: &Tensor<T>, params: impl Parameters) -> Result<()> {
    let op = "vector_to_parameters";
    let params = params.named();
    if let Some((name, _)) = params.iter().find(|(_, p)| p.is_lazy()) {
        return Err(lazy(op, name));
    }
    let shapes: Vec<Vec<usize>> = params.iter().map(|(_, p)| p.shape()).collect();
    let sizes: Vec<usize> = shapes.iter().map(|shape| shape.iter().product()).collect();
    let all: usize = sizes.iter().sum();
    if vector.shape() != [all] {
        let what = format!("the parameters have {all} elements, the vector is {:?}", vector.shape());
        return Err(Error::shape(op, what));
    }
    let parts = vector.detach().split_with_sizes(&sizes, 0)?;
    for (((_, param), shape), part) in params.iter().zip(&shapes).zip(parts) {
        param.set(&part.reshape(shape.as_slice())?.into())?;
    }
    Ok(())
}

#[inline]
fn lazy(op: &str, name: &str) -> Error {
    Error::state(op, format!("`{name}` has no values yet; run a batch through the model first"))
}
