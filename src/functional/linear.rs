//! Linear and bilinear maps.

use ndarray::{Array2, Axis, CowArray, Dimension, Ix2, IxDyn};

use ndnn_derive::concrete;

use super::lengths::ascending;
use crate::{
    Error, Result,
    kernels::{
        copy::contiguous,
        gemm,
        memory::{collected, vector},
        reduce,
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
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
/// If the last axis of `input` does not match the weight, or the bias does not.
#[concrete]
pub fn linear<T: Real>(input: &Tensor<T>, weight: &Tensor<T>, bias: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    let sizes = LinearSizes::new(input.shape(), weight.shape(), bias.map(Tensor::shape))?;
    let shape = sizes.out(input.shape(), weight.ndim());
    room::<T>("linear", shape.slice())?;
    let out = {
        let (x, w) = (sizes.rows(input), sizes.matrix(weight));
        let spread = |b: &Tensor<T>| {
            collected(b.data().broadcast(sizes.out_features).expect("one for each output").iter().copied())
        };
        let bias = bias.map(spread);
        let out = gemm::linear(x.view(), w.view(), bias.as_deref());
        out.into_shape_with_order(shape).expect("as many elements")
    };
    let (x, w) = (input.clone(), weight.clone());
    Ok(match bias {
        Some(bias) => {
            Tensor::op("linear", out, [input, weight, bias], move |g, needed| sizes.backward(g, &x, &w, needed))
        }
        None => Tensor::op("linear", out, [input, weight], move |g, [dx, dw]| {
            let [dx, dw, _] = sizes.backward(g, &x, &w, [dx, dw, false])?;
            Ok([dx, dw])
        }),
    })
}

/// The sizes of [`linear`] as a matrix product, `[n, in] · [in, out]`.
#[derive(Clone, Copy)]
struct LinearSizes {
    n: usize,
    in_features: usize,
    out_features: usize,
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
            scalar_bias: bias.is_some_and(<[usize]>::is_empty),
        })
    }

    /// The shape of the result.
    fn out(&self, input: &[usize], weight_axes: usize) -> IxDyn {
        let mut out = IxDyn(&input[..input.len() + weight_axes - 2]);
        if weight_axes == 2 {
            out.slice_mut()[input.len() - 1] = self.out_features;
        }
        out
    }

    /// The input as a matrix.
    fn rows<'a, T: Real>(&self, x: &'a Tensor<T>) -> CowArray<'a, T, Ix2> {
        matrix(x, [self.n, self.in_features])
    }

    /// The weight as a matrix.
    fn matrix<'a, T: Real>(&self, weight: &'a Tensor<T>) -> CowArray<'a, T, Ix2> {
        matrix(weight, [self.out_features, self.in_features])
    }

    /// The gradients of input, weight and bias.
    fn backward<T: Real>(
        &self,
        g: &Tensor<T>,
        x: &Tensor<T>,
        w: &Tensor<T>,
        [dx, dw, db]: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        if grad_enabled() {
            return self.differentiable(g, x, w, [dx, dw, db]);
        }
        let rows = matrix(g, [self.n, self.out_features]);
        let shaped = |out: Array2<T>, like: &Tensor<T>| -> Tensor<T> {
            out.into_shape_with_order(like.data().raw_dim()).expect("as many elements").into()
        };
        let dx = dx.then(|| shaped(gemm::matmul(rows.view(), self.matrix(w).view()), x));
        let dw = dw.then(|| shaped(gemm::matmul(rows.t(), self.rows(x).view()), w));
        let axes: &[usize] = if self.scalar_bias { &[0, 1] } else { &[0] };
        let db = db.then(|| reduce::sum(rows.view().into_dyn(), axes).into());
        Ok([dx, dw, db])
    }

    /// As [`backward`](Self::backward), in operations that have gradients themselves.
    fn differentiable<T: Real>(
        &self,
        g: &Tensor<T>,
        x: &Tensor<T>,
        w: &Tensor<T>,
        [dx, dw, db]: [bool; 3],
    ) -> Result<[Option<Tensor<T>>; 3]> {
        let g = g.reshape([self.n, self.out_features].as_slice())?;
        let rows = || x.reshape([self.n, self.in_features].as_slice());
        let weight = || w.reshape([self.out_features, self.in_features].as_slice());
        let dx = dx.then(|| g.mm(&weight()?)?.reshape(x.shape())).transpose()?;
        let dw = dw.then(|| g.t()?.mm(&rows()?)?.reshape(w.shape())).transpose()?;
        let db = db.then(|| if self.scalar_bias { Ok(g.sum()) } else { g.sum_dim(0isize, false) }).transpose()?;
        Ok([dx, dw, db])
    }
}

/// The elements as a matrix: a view, if all axes but the last can be merged without a copy.
fn matrix<T: Real>(x: &Tensor<T>, shape: [usize; 2]) -> CowArray<'_, T, Ix2> {
    let mut view = x.view();
    let lead = view.ndim().saturating_sub(2);
    let joined = !view.is_empty() && (0..lead).all(|i| view.merge_axes(Axis(i), Axis(i + 1)));
    if joined && view.shape()[lead..] == shape {
        (0..lead).for_each(|_| view.index_axis_inplace(Axis(0), 0));
        return view.into_dimensionality::<Ix2>().expect("two axes").into();
    }
    match x.view().into_shape_with_order(shape) {
        Ok(matrix) => matrix.into(),
        Err(_) => contiguous(x.view()).into_shape_with_order(shape).expect("as many elements").into(),
    }
}

/// `yₒ = x₁ᵀ Wₒ x₂ + bₒ` over the last axes.
///
/// `input1` is `(*, in1_features)`, `input2` `(*, in2_features)`, `weight` `(out_features, in1_features, in2_features)`,
/// `bias` `(out_features)`; the result is `(*, out_features)`.
///
/// # Errors
/// If the leading axes of the inputs differ, or the weight or the bias does not match.
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

/// Products of groups of matrices, as a mixture of experts has them.
///
/// Each operand has 2 or 3 axes. One with 3 holds a matrix per group; one with 2 is cut into groups, of which `offs[i]` is the end
/// of group `i`:
///
/// | `a` | `b` | result |
/// |---|---|---|
/// | `(m, k)`, cut along m | `(groups, k, n)` | `(m, n)` |
/// | `(groups, m, k)` | `(k, n)`, cut along n | `(m, n)` |
/// | `(m, k)`, cut along k | `(k, n)`, cut along k | `(groups, m, n)` |
/// | `(groups, m, k)` | `(groups, k, n)` | `(groups, m, n)`, without `offs` |
///
/// Beyond the last end the result is 0. As torch.nn.functional.grouped_mm.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let experts = Tensor::stack(&[Tensor::<f32>::eye(2), Tensor::eye(2) * 10.0], 0)?;
/// let tokens = tensor![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];          // one for the first expert, two for the second
/// let y = F::grouped_mm(&tokens, &experts, Some(&tensor![1, 3]))?;
/// assert_eq!(y, tensor![[1.0, 2.0], [30.0, 40.0], [50.0, 60.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the axes do not match, or `offs` is missing, superfluous, of another length than the groups, decreases or passes the end.
pub fn grouped_mm<T: Real>(a: &Tensor<T>, b: &Tensor<T>, offs: Option<&Tensor<i64>>) -> Result<Tensor<T>> {
    const OP: &str = "grouped_mm";
    let (x, y) = (a.shape(), b.shape());
    let (&[.., m, k], &[.., k2, n], 2..=3, 2..=3) = (x, y, x.len(), y.len()) else {
        return Err(Error::shape(OP, format!("expected two operands of 2 or 3 axes, got {x:?} and {y:?}")));
    };
    if k != k2 {
        return Err(Error::shape(OP, format!("the inner axes of {x:?} and {y:?} differ: {k} and {k2}")));
    }
    let Some(offs) = offs else {
        return match (x, y) {
            (&[groups, ..], &[other, ..]) if x.len() == 3 && y.len() == 3 && groups == other => a.bmm(b),
            (&[groups, _, _], &[other, _, _]) => {
                Err(Error::shape(OP, format!("{x:?} has {groups} matrices, {y:?} has {other}")))
            }
            _ => Err(Error::value(OP, format!("an operand of 2 axes needs offs, got {x:?} and {y:?}"))),
        };
    };
    let (cut, groups) = match (x, y) {
        (&[_, _], &[groups, _, _]) => (m, Some(groups)),
        (&[groups, _, _], &[_, _]) => (n, Some(groups)),
        (&[_, _], &[_, _]) => (k, None),
        _ => return Err(Error::value(OP, format!("operands of 3 axes, {x:?} and {y:?}, take no offs"))),
    };
    let ends = group_ends(offs, groups, cut)?;
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let mut parts = vector(ends.len() + 1);
    for (i, (start, &end)) in starts.zip(&ends).enumerate() {
        let part = |t: &Tensor<T>, dim| t.narrow(dim, start as isize, end - start);
        parts.push(match (x.len(), y.len()) {
            (2, 3) => part(a, 0)?.mm(&b.select(0, i as isize)?)?,
            (3, 2) => a.select(0, i as isize)?.mm(&part(b, 1)?)?,
            _ => part(a, 1)?.mm(&part(b, 0)?)?,
        });
    }
    let (dim, left) = (if x.len() == 2 { 0 } else { 1 }, cut - ends.last().copied().unwrap_or(0));
    match groups {
        None if parts.is_empty() => Ok(a.nothing(OP, &[0, m, n])),
        None => Tensor::stack(&parts, 0),
        Some(_) => {
            let rest = if dim == 0 { [left, n] } else { [m, left] };
            room::<T>(OP, &rest)?;
            parts.push(Tensor::zeros(rest));
            Tensor::cat(&parts, dim)
        }
    }
}

/// The ends of the groups, which must be those of so many elements along the axis that is cut.
fn group_ends(offs: &Tensor<i64>, groups: Option<usize>, len: usize) -> Result<Vec<usize>> {
    const OP: &str = "grouped_mm";
    if offs.ndim() != 1 || groups.is_some_and(|groups| groups != offs.numel()) {
        let needed = groups.map_or("a vector".into(), |groups| format!("a vector of {groups} ends"));
        return Err(Error::shape(OP, format!("offs are {:?}, expected {needed}", offs.shape())));
    }
    ascending(OP, &offs.to_vec(), len, format_args!("{len}"))
}
