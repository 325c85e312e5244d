//! Linear and bilinear maps.

use ndarray::IxDyn;

use crate::{
    Error, Result, no_grad,
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
/// If the last axis of `input` is not the weight's, or the bias does not fit.
pub fn linear<T: Real>(input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    let sizes = LinearSizes::new(input.shape(), weight.shape(), bias.map(Tensor::shape))?;
    let mut out = no_grad(|| sizes.rows(input)?.mm(&sizes.matrix(weight)?.t()?))?.into_array();
    if let Some(bias) = bias {
        out += &bias.view();
    }
    let out = out.into_shape_with_order(IxDyn(&sizes.out)).expect("a new array");
    let (x, w) = (input.clone(), weight.clone());
    let inputs = [Some(input), Some(weight), bias];
    let inputs: Vec<&Tensor<T>> = inputs.into_iter().flatten().collect();
    Ok(Tensor::op_many("linear", out, &inputs, move |g, needed| {
        let g = g.reshape([sizes.n, sizes.out_features].as_slice())?;
        let dx = |g: &Tensor<T>| g.mm(&sizes.matrix(&w)?)?.reshape(x.shape());
        let dw = |g: &Tensor<T>| g.t()?.mm(&sizes.rows(&x)?)?.reshape(w.shape());
        let db = |g: &Tensor<T>| if sizes.scalar_bias { Ok(g.sum()) } else { g.sum_dim(0isize, false) };
        let mut grads = vec![needed[0].then(|| dx(&g)).transpose()?, needed[1].then(|| dw(&g)).transpose()?];
        if let Some(&bias) = needed.get(2) {
            grads.push(bias.then(|| db(&g)).transpose()?);
        }
        Ok(grads)
    }))
}

/// The sizes of one [`linear`] as a product of matrices, `[n, in] · [in, out]`.
struct LinearSizes {
    n: usize,
    in_features: usize,
    out_features: usize,
    /// The shape of the result.
    out: Vec<usize>,
    scalar_bias: bool,
}

impl LinearSizes {
    fn new(input: &[usize], weight: &[usize], bias: Option<&[usize]>) -> Result<Self> {
        let (out_features, expected) = match *weight {
            [inputs] => (None, inputs),
            [outputs, inputs] => (Some(outputs), inputs),
            _ => {
                return Err(Error::shape("linear", format!("the weight has 1 or 2 axes, this one is {weight:?}")));
            }
        };
        let Some((&in_features, lead)) = input.split_last() else {
            return Err(Error::shape(
                "linear",
                format!("the input is a scalar, weight {weight:?} expects {expected} features"),
            ));
        };
        if in_features != expected {
            return Err(Error::shape(
                "linear",
                format!(
                    "the input's last axis has {in_features} features ({input:?}), weight {weight:?} expects {expected}"
                ),
            ));
        }
        if let Some(bias) =
            bias.filter(|b| !b.is_empty() && Some(*b) != out_features.as_ref().map(std::slice::from_ref))
        {
            let wanted = out_features.map_or("a scalar".to_string(), |n| format!("[{n}] or a scalar"));
            return Err(Error::shape("linear", format!("the bias is {bias:?}, weight {weight:?} expects {wanted}")));
        }
        Ok(LinearSizes {
            n: lead.iter().product(),
            in_features,
            out_features: out_features.unwrap_or(1),
            out: lead.iter().copied().chain(out_features).collect(),
            scalar_bias: bias.is_some_and(<[usize]>::is_empty),
        })
    }

    /// The input as a matrix.
    fn rows<T: Real>(&self, input: &Tensor<T>) -> Result<Tensor<T>> {
        input.reshape([self.n, self.in_features].as_slice())
    }

    /// The weight as a matrix.
    fn matrix<T: Real>(&self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        weight.reshape([self.out_features, self.in_features].as_slice())
    }
}

/// `yₒ = x₁ᵀ Wₒ x₂ + bₒ` over the last axes.
///
/// `input1` is `(*, in1_features)`, `input2` `(*, in2_features)`, `weight` `(out_features, in1_features, in2_features)`,
/// `bias` `(out_features)`; the result is `(*, out_features)`.
///
/// # Errors
/// If the leading axes of the inputs differ, or the weight or the bias does not fit.
pub fn bilinear<T: Real>(
    input1: &Tensor<T>,
    input2: &Tensor<T>,
    weight: &Tensor<T>,
    bias: Option<&Tensor<T>>,
) -> Result<Tensor<T>> {
    let &[outputs, in1, in2] = weight.shape() else {
        return Err(Error::shape("bilinear", format!("the weight has 3 axes, this one is {:?}", weight.shape())));
    };
    let wrong = |what: String| {
        let shapes = (input1.shape(), input2.shape(), weight.shape());
        Error::shape("bilinear", format!("{what}: inputs {:?} and {:?}, weight {:?}", shapes.0, shapes.1, shapes.2))
    };
    let (Some((&features1, lead)), Some((&features2, lead2))) =
        (input1.shape().split_last(), input2.shape().split_last())
    else {
        return Err(wrong("an input is a scalar".into()));
    };
    if (features1, features2) != (in1, in2) {
        return Err(wrong(format!(
            "the last axes have {features1} and {features2} features, expected {in1} and {in2}"
        )));
    }
    if lead != lead2 {
        return Err(wrong("the leading axes differ".into()));
    }
    if let Some(bias) = bias.filter(|b| b.shape() != [outputs]) {
        return Err(wrong(format!("the bias is {:?}, expected [{outputs}]", bias.shape())));
    }
    let n: usize = lead.iter().product();
    let maps = weight.permute([1, 0, 2])?.reshape([in1, outputs * in2].as_slice())?;
    let half = input1.reshape([n, in1].as_slice())?.mm(&maps)?.reshape([n, outputs, in2].as_slice())?;
    let y = half.try_mul(&input2.reshape([n, 1, in2].as_slice())?)?.sum_dim(2isize, false)?;
    let y = if let Some(bias) = bias { y.try_add(bias)? } else { y };
    let out: Vec<usize> = lead.iter().copied().chain([outputs]).collect();
    y.reshape(&out)
}
