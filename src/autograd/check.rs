//! Checks of gradients against finite differences: [`gradcheck`] for first derivatives, [`gradgradcheck`] for second.

use crate::{
    AnyTensor, Error, ErrorKind, Result, Tensor, Tensors,
    autograd::grad_with,
    kernels::{
        copy::contiguous,
        layout::index_of,
        memory::{collected, full, try_collected},
        sizes::room,
    },
    random::{Generator, SeedableRng},
    tensor::unerase,
};

/// How far the gradients may be from finite differences: `|gradient − difference| ≤ atol + rtol · |difference|`.
///
/// The defaults are PyTorch's. They suit `f64` inputs of magnitude about 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CheckOptions {
    eps: f64,
    atol: f64,
    rtol: f64,
}

impl Default for CheckOptions {
    #[inline]
    fn default() -> Self {
        CheckOptions { eps: 1e-6, atol: 1e-5, rtol: 1e-3 }
    }
}

impl CheckOptions {
    /// The step of the differences in each direction (1e-6).
    #[inline]
    pub fn eps(self, eps: f64) -> Self {
        CheckOptions { eps, ..self }
    }

    /// The absolute tolerance (1e-5).
    #[inline]
    pub fn atol(self, atol: f64) -> Self {
        CheckOptions { atol, ..self }
    }

    /// The tolerance relative to the difference (1e-3).
    #[inline]
    pub fn rtol(self, rtol: f64) -> Self {
        CheckOptions { rtol, ..self }
    }
}

/// What a checked function returned.
fn doubles(op: &str, outputs: impl Tensors) -> Result<Vec<Tensor<f64>>> {
    let double = |(k, t): (usize, AnyTensor)| {
        let dtype = t.dtype();
        unerase(t).ok_or_else(|| Error::value(op, format!("output {k} is of {dtype}, expected f64")))
    };
    outputs.tensors().into_iter().enumerate().map(double).collect()
}

/// Compares the whole Jacobian of every output of `f` with respect to every input with central differences, `(f(x +
/// eps) − f(x − eps)) / 2 eps`.
///
/// The Jacobian is computed twice: as `backward` computes it, and with `create_graph`, for a gradient that can be
/// differentiated again. Inputs that do not require a gradient are constants, unless none does: then all are checked.
/// `f` must return the same outputs for the same inputs: dropout needs a generator of its own that is seeded inside
/// `f`.
///
/// ```
/// use ndnn::{autograd::gradcheck, prelude::*};
/// let (x, w) = (tensor![[0.5, -1.0]; f64], tensor![[2.0], [3.0]; f64]);
/// gradcheck(|t| Ok(t[0].mm(&t[1])?.tanh()), &[x, w], Default::default())?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `f` or a gradient returns one, or a gradient is too far off. The message names the input, the output, and the
/// elements with the largest difference, with both numbers.
pub fn gradcheck<O: Tensors>(
    f: impl Fn(&[Tensor<f64>]) -> Result<O>,
    inputs: &[Tensor<f64>],
    options: CheckOptions,
) -> Result<()> {
    let check = Check {
        op: "gradcheck",
        f: |x: &[Tensor<f64>]| doubles("gradcheck", f(x)?),
        inputs: checked(inputs),
        options,
        input_name: &|i| format!("input {i}"),
        output_name: &|k| format!("output {k}"),
    };
    check.run()
}

/// Checks second derivatives: [`gradcheck`] of the function that returns the gradients of `f`, with respect to its
/// inputs and to the gradients of its outputs, which are drawn from [-1, 1) with a fixed seed.
///
/// ```
/// use ndnn::{autograd::gradgradcheck, prelude::*};
/// gradgradcheck(|t| Ok(t[0].exp() * &t[1]), &[tensor![0.5, -1.0; f64], tensor![2.0; f64]], Default::default())?;
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// As [`gradcheck`].
pub fn gradgradcheck<O: Tensors>(
    f: impl Fn(&[Tensor<f64>]) -> Result<O>,
    inputs: &[Tensor<f64>],
    options: CheckOptions,
) -> Result<()> {
    let mut all = checked(inputs);
    let mut rng = Generator::seed_from_u64(0);
    for output in doubles("gradgradcheck", f(&all)?)? {
        all.push(Tensor::uniform_with(output.shape(), -1.0, 1.0, &mut rng)?.set_requires_grad(true));
    }
    let n = inputs.len();
    // The position of each gradient's input among all inputs.
    let wanted: Vec<usize> = (0..n).filter(|&i| all[i].requires_grad()).collect();
    let gradients = |x: &[Tensor<f64>]| {
        let (inputs, starts) = x.split_at(n);
        let outputs = doubles("gradgradcheck", f(inputs)?)?;
        let by: Vec<&Tensor<f64>> = wanted.iter().map(|&i| &inputs[i]).collect();
        jacobian_row(&outputs, &starts.iter().map(Some).collect::<Vec<_>>(), &by, true)
    };
    let check = Check {
        op: "gradgradcheck",
        f: gradients,
        inputs: all,
        options,
        input_name: &|i| if i < n { format!("input {i}") } else { format!("the gradient of output {}", i - n) },
        output_name: &|k| format!("the gradient of input {}", wanted[k]),
    };
    check.run()
}

/// The inputs as new leaves if they are checked, and as constants otherwise.
#[inline]
fn checked(inputs: &[Tensor<f64>]) -> Vec<Tensor<f64>> {
    let all = inputs.iter().all(|x| !x.requires_grad());
    inputs.iter().map(|x| x.detach().set_requires_grad(all || x.requires_grad())).collect()
}

/// The gradients of `outputs` with respect to `inputs`; zeros if there is no graph or no path.
#[inline]
fn jacobian_row(
    outputs: &[Tensor<f64>],
    starts: &[Option<&Tensor<f64>>],
    inputs: &[&Tensor<f64>],
    create_graph: bool,
) -> Result<Vec<Tensor<f64>>> {
    let (outputs, starts): (Vec<_>, Vec<_>) = outputs.iter().zip(starts).filter(|(y, _)| y.requires_grad()).unzip();
    let starts: Vec<_> = starts.into_iter().copied().collect();
    let gradients = grad_with(&outputs, &starts, inputs, create_graph)?;
    Ok(gradients.into_iter().zip(inputs).map(|(g, x)| g.unwrap_or_else(|| x.zeros_like())).collect())
}

struct Check<'a, F> {
    op: &'static str,
    f: F,
    inputs: Vec<Tensor<f64>>,
    options: CheckOptions,
    input_name: &'a dyn Fn(usize) -> String,
    output_name: &'a dyn Fn(usize) -> String,
}

/// Indexed by input element, output, and output element.
type Differences = Vec<Vec<Vec<f64>>>;

impl<F: Fn(&[Tensor<f64>]) -> Result<Vec<Tensor<f64>>>> Check<'_, F> {
    fn run(&self) -> Result<()> {
        let checked: Vec<usize> = (0..self.inputs.len()).filter(|&i| self.inputs[i].requires_grad()).collect();
        let outputs = (self.f)(&self.inputs)?;
        let differences = try_collected(checked.iter().map(|&i| self.differences(i, &outputs)))?;
        for create_graph in [false, true] {
            for (k, output) in outputs.iter().enumerate() {
                let rows = self.rows(k, &outputs, &checked, create_graph)?;
                for (column, &i) in checked.iter().enumerate() {
                    let gradients = collected(rows.iter().map(|row| &row[column]));
                    self.compare(i, k, output.shape(), &gradients, &differences[column], create_graph)?;
                }
            }
        }
        Ok(())
    }

    /// `f` of other inputs, or of the same ones again; `outputs` is what it returned first.
    fn call(&self, inputs: &[Tensor<f64>], outputs: &[Tensor<f64>], again: bool) -> Result<Vec<Tensor<f64>>> {
        let now = (self.f)(inputs)?;
        let same = |a: &f64, b: &f64| a == b || (a.is_nan() && b.is_nan());
        let fits = |(a, b): (&Tensor<f64>, &Tensor<f64>)| {
            a.shape() == b.shape() && (!again || a.view().iter().zip(b.view()).all(|(a, b)| same(a, b)))
        };
        if now.len() == outputs.len() && now.iter().zip(outputs).all(fits) {
            return Ok(now);
        }
        let message = if again {
            "the function gave other outputs for the same inputs; if it draws random numbers, seed them inside it"
        } else {
            "the shapes of the function's outputs change with its inputs' values"
        };
        Err(Error::value(self.op, message))
    }

    /// The central differences for each element of input `i`.
    fn differences(&self, i: usize, outputs: &[Tensor<f64>]) -> Result<Differences> {
        let mut inputs = self.inputs.clone();
        for output in outputs {
            room::<f64>(self.op, &[self.inputs[i].numel(), output.numel()])?;
        }
        let mut at = |element: usize, step: f64| {
            let mut array = contiguous(self.inputs[i].view());
            *array.iter_mut().nth(element).expect("an element") += step;
            inputs[i] = Tensor::from(array).set_requires_grad(true);
            self.call(&inputs, outputs, false)
        };
        let eps = self.options.eps;
        try_collected((0..self.inputs[i].numel()).map(|element| {
            let (above, below) = (at(element, eps)?, at(element, -eps)?);
            let slope = |(a, b): (&Tensor<f64>, &Tensor<f64>)| {
                collected(a.view().iter().zip(b.view()).map(|(a, b)| (a - b) / (2.0 * eps)))
            };
            Ok(above.iter().zip(&below).map(slope).collect())
        }))
    }

    /// The gradients of each element of output `k`, each with a graph of its own, since a first-order pass frees it.
    fn rows(
        &self,
        k: usize,
        outputs: &[Tensor<f64>],
        checked: &[usize],
        create_graph: bool,
    ) -> Result<Vec<Vec<Tensor<f64>>>> {
        let by: Vec<&Tensor<f64>> = checked.iter().map(|&i| &self.inputs[i]).collect();
        try_collected((0..outputs[k].numel()).map(|element| {
            let mut unit = full(self.op, outputs[k].shape(), 0.0);
            *unit.iter_mut().nth(element).expect("an element") = 1.0;
            let again = self.call(&self.inputs, outputs, true)?;
            jacobian_row(&again[k..=k], &[Some(&unit.into())], &by, create_graph)
        }))
    }

    /// Returns an error if the gradients of output `k` with respect to input `i` do not match the differences.
    fn compare(
        &self,
        i: usize,
        k: usize,
        output: &[usize],
        gradients: &[&Tensor<f64>],
        differences: &Differences,
        create_graph: bool,
    ) -> Result<()> {
        let input = self.inputs[i].shape();
        let names = || {
            let with = if create_graph { ", with create_graph" } else { "" };
            format!("{} {output:?} by {} {input:?}{with}", (self.output_name)(k), (self.input_name)(i))
        };
        let error = |message: String| Err(Error::new(ErrorKind::Graph, self.op, message));
        let CheckOptions { atol, rtol, .. } = self.options;
        let mut worst: Option<(f64, String)> = None;
        for (row, gradient) in gradients.iter().enumerate() {
            if gradient.shape() != input {
                return error(format!("{}: the gradient's shape is {:?}", names(), gradient.shape()));
            }
            for (column, &analytic) in gradient.view().iter().enumerate() {
                let numeric = differences[column][k][row];
                let off = (analytic - numeric).abs();
                // NaN is never within the bounds, and counts as infinitely far off.
                let within = off <= atol + rtol * numeric.abs();
                let size = if off.is_nan() { f64::INFINITY } else { off };
                if !within && worst.as_ref().is_none_or(|(largest, _)| size > *largest) {
                    let (at, by) = (index_of(row, output), index_of(column, input));
                    let numbers = format!("element {at:?} by {by:?}: {analytic:e}, by finite differences {numeric:e}");
                    worst = Some((size, numbers));
                }
            }
        }
        match worst {
            None => Ok(()),
            Some((size, numbers)) => error(format!("{}: off by up to {size:e}, at {numbers}", names())),
        }
    }
}
