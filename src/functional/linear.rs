//! Linear maps.

use crate::{
    Error, Result,
    tensor::{Real, Tensor},
};

/// `y = x Wᵀ + b` over the last axis.
///
/// `input` is `(*, in_features)`, `weight` `(out_features, in_features)` or `(in_features)`, `bias` `(out_features)` or
/// a scalar; the result is `(*, out_features)`, or `(*)` for a weight of one axis.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::linear(&tensor![[1.0, 2.0]], &tensor![[1.0, 1.0], [0.0, 1.0]], Some(&tensor![0.5, 0.5]))?;
/// assert_eq!(y, tensor![[3.5, 2.5]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the last axis of `input` is not the weight's.
pub fn linear<T: Real>(input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    let (features, expected) = (input.shape().last().copied(), weight.shape().last().copied());
    if !matches!(weight.ndim(), 1 | 2) {
        return Err(Error::shape("linear", format!("the weight has 1 or 2 axes, this one is {:?}", weight.shape())));
    }
    if features != expected {
        return Err(Error::shape(
            "linear",
            match features {
                Some(n) => format!(
                    "the input's last axis has {n} features ({:?}), weight {:?} expects {}",
                    input.shape(),
                    weight.shape(),
                    expected.unwrap_or(0)
                ),
                None => format!(
                    "the input is a scalar, weight {:?} expects {} features",
                    weight.shape(),
                    expected.unwrap_or(0)
                ),
            },
        ));
    }
    let rows = input.reshape([-1, features.unwrap_or(0) as isize])?;
    let y = rows.mm(&weight.t()?)?;
    let mut shape = input.shape().to_vec();
    *shape.last_mut().expect("an axis") = weight.shape()[0];
    let y = y.reshape(shape.as_slice())?;
    match bias {
        Some(b) => y.try_add(b),
        None => Ok(y),
    }
}
