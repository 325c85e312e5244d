//! Compares what a case expects with the result: values, gradients, and the texts of differences.

use ndnn::{AnyTensor, Element, Real, Result, Tensor, autograd::grad_with};

/// Everything that differs in one run of a case.
#[derive(Default)]
pub struct Differences(pub Vec<String>);

impl Differences {
    pub fn add(&mut self, what: impl Into<String>) {
        self.0.push(what.into());
    }

    /// Records how `got` differs from `expected`, if it does.
    pub fn compare(&mut self, what: &str, got: &AnyTensor, expected: &AnyTensor) {
        if let Err(difference) = equal(got, expected) {
            self.add(format!("{what}: {difference}"));
        }
    }

    /// As [`compare`](Differences::compare), for lists, which must have the same length.
    pub fn compare_all(&mut self, what: &str, got: &[AnyTensor], expected: &[AnyTensor]) {
        if got.len() != expected.len() {
            self.add(format!("{what}: {} came, {} were expected", got.len(), expected.len()));
        }
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            self.compare(&format!("{what} {i}"), got, expected);
        }
    }

    /// Compares gradients by name; a gradient that is not expected is not a difference.
    pub fn compare_grads<T: Real>(&mut self, what: &str, got: &Grads<T>, expected: &[(String, AnyTensor)]) {
        for (name, expected) in expected {
            match got.iter().find(|(key, _)| key == name) {
                // A gradient has the type of its tensor, which may differ from that of the case.
                Some((_, Some(grad))) => self.compare(&format!("{what} {name}"), &like(grad, expected), expected),
                Some((_, None)) => {
                    self.add(format!("{what} {name}: no gradient came, {:?} expected", expected.shape()))
                }
                None => self.add(format!("{what} {name}: this tensor was never asked for as a floating one")),
            }
        }
    }
}

fn like<T: Real>(grad: &Tensor<T>, expected: &AnyTensor) -> AnyTensor {
    match expected {
        AnyTensor::F32(_) => grad.cast::<f32>().into(),
        AnyTensor::F64(_) => grad.cast::<f64>().into(),
        _ => grad.clone().into(),
    }
}

/// Whether two tensors are equal in type and shape, and in elements within FORMAT.md's tolerance.
fn equal(got: &AnyTensor, expected: &AnyTensor) -> Result<(), String> {
    let shapes = format!("shapes {:?} and {:?}", got.shape(), expected.shape());
    if got.dtype() != expected.dtype() {
        return Err(format!("{} came, {} expected, {shapes}", got.dtype(), expected.dtype()));
    }
    if got.shape() != expected.shape() {
        return Err(format!("{:?} came, {:?} expected", got.shape(), expected.shape()));
    }
    match (got, expected) {
        (AnyTensor::F32(a), AnyTensor::F32(b)) => close(a, b, 2e-5),
        (AnyTensor::F64(a), AnyTensor::F64(b)) => close(a, b, 1e-9),
        (AnyTensor::I64(a), AnyTensor::I64(b)) => same(a, b),
        (AnyTensor::Bool(a), AnyTensor::Bool(b)) => same(a, b),
        _ => unreachable!("the types are equal"),
    }
    .map_err(|difference| format!("{difference}, {shapes}"))
}

fn close<T: Real>(got: &Tensor<T>, expected: &Tensor<T>, tolerance: f64) -> Result<(), String> {
    let (got, expected) = (got.to_vec(), expected.to_vec());
    let scale = expected.iter().map(|b| b.as_f64().abs()).filter(|b| b.is_finite()).fold(1., f64::max);
    let errors = got.iter().zip(&expected).map(|(a, b)| {
        let (a, b) = (a.as_f64(), b.as_f64());
        if a == b || a.is_nan() && b.is_nan() {
            return 0.;
        }
        let error = (a - b).abs();
        if error.is_nan() { f64::INFINITY } else { error }
    });
    let (mut worst, mut at, mut wrong) = (0., 0, 0);
    for (i, error) in errors.enumerate() {
        wrong += usize::from(error > tolerance * scale);
        if error > worst {
            (worst, at) = (error, i);
        }
    }
    match wrong {
        0 => Ok(()),
        _ => Err(format!(
            "{wrong} of {} elements, largest error {worst:.3e} at {at} ({:?} came, {:?} expected)",
            got.len(),
            got[at],
            expected[at]
        )),
    }
}

fn same<T: Element>(got: &Tensor<T>, expected: &Tensor<T>) -> Result<(), String> {
    let (got, expected) = (got.to_vec(), expected.to_vec());
    let wrong: Vec<usize> = (0..got.len()).filter(|&i| got[i] != expected[i]).collect();
    let Some(&at) = wrong.first() else { return Ok(()) };
    Err(format!(
        "{} of {} elements, the first at {at} ({:?} came, {:?} expected)",
        wrong.len(),
        got.len(),
        got[at],
        expected[at]
    ))
}

/// The floating outputs that carry gradients, as type `T`.
pub fn differentiable<T: Real>(outputs: &[AnyTensor]) -> Vec<Tensor<T>> {
    let floating = outputs.iter().filter_map(|output| match output {
        AnyTensor::F32(t) => Some(t.cast::<T>()),
        AnyTensor::F64(t) => Some(t.cast::<T>()),
        _ => None,
    });
    floating.filter(Tensor::requires_grad).collect()
}

/// Gradients by the name of their tensor.
pub type Grads<T> = Vec<(String, Option<Tensor<T>>)>;

/// The gradients of FORMAT.md's loss `Σⱼ Σᵢ oⱼ[i]·cos(1+i)` over `outputs`, accumulated in the leaves; retains the
/// graph.
pub fn backward<T: Real>(outputs: &[Tensor<T>], leaves: &[(String, Tensor<T>)]) -> Result<Grads<T>> {
    let mut loss = Tensor::scalar(T::ZERO);
    for output in outputs {
        loss = loss + (output * cosines(output)?).sum();
    }
    if loss.requires_grad() {
        loss.backward_retain()?;
    }
    Ok(leaves.iter().filter(|(_, leaf)| leaf.requires_grad()).map(|(name, leaf)| (name.clone(), leaf.grad())).collect())
}

/// The same gradients, which can be differentiated again.
pub fn gradients<T: Real>(outputs: &[Tensor<T>], leaves: &[(String, Tensor<T>)]) -> Result<Grads<T>> {
    let leaves: Vec<_> = leaves.iter().filter(|(_, leaf)| leaf.requires_grad()).collect();
    let names = leaves.iter().map(|(name, _)| name.clone());
    if outputs.is_empty() {
        return Ok(names.map(|name| (name, None)).collect());
    }
    let weights = outputs.iter().map(cosines).collect::<Result<Vec<_>>>()?;
    let grads = grad_with(
        &outputs.iter().collect::<Vec<_>>(),
        &weights.iter().map(Some).collect::<Vec<_>>(),
        &leaves.iter().map(|(_, leaf)| leaf).collect::<Vec<_>>(),
        true,
    )?;
    Ok(names.zip(grads).collect())
}

fn cosines<T: Real>(output: &Tensor<T>) -> Result<Tensor<T>> {
    Tensor::from_vec(output.shape(), (0..output.numel()).map(|i| T::of((1. + i as f64).cos())).collect())
}
