//! One layer in one direction as one operation: what it is computed from, and its derivative.

use ndarray::{Array2, ArrayView2, Ix2};

use super::{
    RecurrentWeights,
    driver::{Driver, State},
};
use crate::{
    Result,
    autograd::gradients_again,
    kernels::{
        copy::contiguous,
        gemm,
        memory::{copied, filled},
        recurrent::{Kept, Kind, Sweep},
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
};

/// The tensors that a layer is computed from, by their place in [`Layer::tensors`].
const INPUT: usize = 0;
const H: usize = 1;
const C: usize = 2;
const WEIGHT_IH: usize = 3;
const WEIGHT_HH: usize = 4;
const BIAS_IH: usize = 5;
const BIAS_HH: usize = 6;
const WEIGHT_HR: usize = 7;

/// One layer in one direction over packed steps, `(sum of sizes, input)`; `sizes[t]` sequences, the first ones, have a step
/// t.
pub(super) struct Layer<T: Real> {
    driver: Driver,
    pub(super) sizes: Vec<usize>,
    pub(super) backwards: bool,
    /// Those that there are.
    tensors: [Option<Tensor<T>>; 8],
}

impl<T: Real> Layer<T> {
    pub(super) fn new(
        driver: Driver,
        input: &Tensor<T>,
        sizes: &[usize],
        start: &[Tensor<T>],
        weights: &RecurrentWeights<T>,
        backwards: bool,
    ) -> Self {
        let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
        let (bias_ih, bias_hh, weight_hr) = (bias_ih.as_ref(), bias_hh.as_ref(), weight_hr.as_ref());
        let state = [Some(&start[0]), start.get(1)];
        let given = [Some(input), state[0], state[1], Some(weight_ih), Some(weight_hh), bias_ih, bias_hh, weight_hr];
        Self::of(driver, sizes, backwards, &given)
    }

    /// Of these tensors, in their places.
    fn of(driver: Driver, sizes: &[usize], backwards: bool, given: &[Option<&Tensor<T>>]) -> Self {
        let mut tensors = [const { None }; 8];
        for (tensor, &given) in tensors.iter_mut().zip(given) {
            *tensor = given.cloned();
        }
        Layer { driver, sizes: copied(sizes), backwards, tensors }
    }

    /// The same, of other tensors in the place of [`inputs`](Layer::inputs).
    fn with(&self, inputs: &[&Tensor<T>]) -> Self {
        let (mut given, mut next) = ([None; 8], inputs.iter());
        for (given, tensor) in given.iter_mut().zip(&self.tensors) {
            if tensor.is_some() {
                *given = Some(*next.next().expect("as many tensors"));
            }
        }
        Self::of(self.driver, &self.sizes, self.backwards, &given)
    }

    fn tensor(&self, which: usize) -> &Tensor<T> {
        self.tensors[which].as_ref().expect("there")
    }

    pub(super) fn input(&self) -> &Tensor<T> {
        self.tensor(INPUT)
    }

    /// The initial state.
    pub(super) fn start(&self) -> State<T> {
        self.tensors[H..=C].iter().flatten().cloned().collect()
    }

    pub(super) fn weights(&self) -> RecurrentWeights<T> {
        RecurrentWeights {
            weight_ih: self.tensor(WEIGHT_IH).clone(),
            weight_hh: self.tensor(WEIGHT_HH).clone(),
            bias_ih: self.tensors[BIAS_IH].clone(),
            bias_hh: self.tensors[BIAS_HH].clone(),
            weight_hr: self.tensors[WEIGHT_HR].clone(),
        }
    }

    /// The tensors that there are.
    fn inputs(&self) -> Vec<&Tensor<T>> {
        self.tensors.iter().flatten().collect()
    }

    /// The output and the last state, one after the other, step by step: in a form that can be differentiated twice.
    fn again(&self) -> Result<Tensor<T>> {
        let (output, end) = self.driver.steps(self)?;
        let mut flat = vec![output.reshape(-1)?];
        for part in &end {
            flat.push(part.reshape(-1)?);
        }
        Tensor::cat(&flat, 0)
    }

    /// The bias of the hidden state's product, if it is not part of the projected input.
    fn bias_hh(&self) -> Vec<T> {
        match &self.tensors[BIAS_HH] {
            Some(bias) if self.driver.kind == Kind::Gru => bias.to_vec(),
            None if self.driver.kind == Kind::Gru => filled(self.tensor(WEIGHT_HH).shape()[0], T::ZERO),
            _ => Vec::new(),
        }
    }

    /// Calls `f` with the kernel of this layer.
    fn sweep<R>(&self, f: impl FnOnce(&Sweep<'_, T>) -> R) -> R {
        f(&Sweep {
            kind: self.driver.kind,
            sizes: &self.sizes,
            backwards: self.backwards,
            weight_hh: matrix(self.tensor(WEIGHT_HH)),
            bias_hh: &self.bias_hh(),
            weight_hr: self.tensors[WEIGHT_HR].as_ref().map(matrix),
        })
    }

    /// The input's part of the gates for all steps at once.
    fn projected(&self) -> Result<Array2<T>> {
        let (input, weight) = (self.input(), self.tensor(WEIGHT_IH));
        let mut bias: Option<Vec<T>> = self.tensors[BIAS_IH].as_ref().map(Tensor::to_vec);
        if let Some(other) = self.tensors[BIAS_HH].as_ref().filter(|_| self.driver.kind != Kind::Gru) {
            let bias = bias.get_or_insert_with(|| filled(other.numel(), T::ZERO));
            bias.iter_mut().zip(other.elements().iter()).for_each(|(sum, &b)| *sum += b);
        }
        room::<T>(self.driver.op, &[input.shape()[0], weight.shape()[0]])?;
        Ok(gemm::linear(matrix(input), matrix(weight), bias.as_deref()))
    }

    /// The output of all steps, `(sum of sizes, width)`, and the last state.
    pub(super) fn run(&self) -> Result<(Tensor<T>, State<T>)> {
        let (op, rows, sequences) = (self.driver.op, self.input().shape()[0], self.sizes[0]);
        let width = |part: usize| self.tensors[part].as_ref().map_or(0, |part| part.shape()[1]);
        let (width, cells) = (width(H), width(C));
        room::<T>(op, &[rows + sequences, width.saturating_add(cells)])?;
        let inputs = self.inputs();
        let keep = grad_enabled() && inputs.iter().any(|t| t.requires_grad());
        let all = match self.computed(keep)? {
            (all, None) => all,
            (all, Some(kept)) => {
                let layer = self.with(&inputs);
                Tensor::op_many(op, all, &inputs, move |g, needed| match grad_enabled() {
                    true => gradients_again(&layer.inputs(), needed, g, &|inputs| {
                        layer.with(&inputs.iter().collect::<Vec<_>>()).again()
                    }),
                    false => layer.gradients(&kept, g, needed),
                })
            }
        };
        let output = part(&all, 0, [rows, width])?;
        let (mut end, mut from) = (Vec::with_capacity(2), rows * width);
        for start in self.tensors[H..=C].iter().flatten() {
            let width = start.shape()[1];
            let part = part(&all, from, [sequences, width])?;
            // A state would keep the memory of all outputs.
            end.push(if keep { part } else { Tensor::from(contiguous(part.view())) });
            from += sequences * width;
        }
        Ok((output, end))
    }

    /// All outputs and the last state, one after the other, and what the way back needs.
    fn computed(&self, keep: bool) -> Result<(Tensor<T>, Option<[Tensor<T>; 3]>)> {
        let gates = self.projected()?;
        let (h, c) = (self.tensor(H).elements(), self.tensors[C].as_ref().map(Tensor::elements));
        let outputs = self.sweep(|sweep| sweep.forth(gates, [&h, c.as_deref().unwrap_or(&[])], keep));
        let kept = outputs.kept.map(|Kept { gates, h, beside }| [gates.into(), h.into(), beside.into()]);
        Ok((outputs.all.into(), kept))
    }

    /// The gradients of the tensors that need one.
    fn gradients(&self, kept: &[Tensor<T>; 3], g: &Tensor<T>, needed: &[bool]) -> Result<Vec<Option<Tensor<T>>>> {
        let [gates, h, beside] = [kept[0].elements(), kept[1].elements(), kept[2].elements()];
        let found = self.sweep(|sweep| sweep.back([&gates, &h, &beside], &g.elements()));
        let gates = Tensor::from(found.gates);
        let of = Of { gates: &gates, kind: self.driver.kind };
        let [dh, dc] = found.start;
        let (dh, dc): (Tensor<T>, Tensor<T>) = (dh.into(), dc.into());
        let projected = found.projected.map(|[outputs, whole]| (Tensor::from(outputs), Tensor::from(whole)));
        let mut needed = needed.iter();
        let mut grads = Vec::with_capacity(needed.len());
        for which in (0..self.tensors.len()).filter(|&which| self.tensors[which].is_some()) {
            if !needed.next().expect("a flag per tensor") {
                grads.push(None);
                continue;
            }
            grads.push(Some(match which {
                INPUT => of.input(self.tensor(WEIGHT_IH))?,
                H => dh.clone(),
                C => dc.clone(),
                WEIGHT_IH => of.weight(self.input(), true)?,
                WEIGHT_HH => of.weight(&kept[1], false)?,
                BIAS_IH | BIAS_HH => of.bias(which == BIAS_IH)?,
                _ => {
                    let (outputs, whole) = projected.as_ref().expect("of an LSTM that projects");
                    outputs.t()?.mm(whole)?
                }
            }));
        }
        Ok(grads)
    }
}

fn matrix<T: Real>(tensor: &Tensor<T>) -> ArrayView2<'_, T> {
    tensor.view().into_dimensionality::<Ix2>().expect("two axes")
}

/// Some rows of what a layer computes.
fn part<T: Real>(all: &Tensor<T>, from: usize, [rows, width]: [usize; 2]) -> Result<Tensor<T>> {
    all.narrow(0, from, rows * width)?.reshape([rows, width])
}

/// What follows from the gradients of the gates of all steps.
struct Of<'a, T: Real> {
    gates: &'a Tensor<T>,
    kind: Kind,
}

impl<T: Real> Of<'_, T> {
    /// The gradients of the gates as the columns of the input's or of the hidden state's product, in parts.
    fn parts(&self, of_input: bool) -> Result<Vec<Tensor<T>>> {
        let n = self.gates.shape()[1] / 4;
        let part = |from: usize, count: usize| self.gates.narrow(1, from * n, count * n);
        match (self.kind, of_input) {
            // The blocks are n, r, z, and n's product with the hidden state.
            (Kind::Gru, true) => Ok(vec![part(1, 2)?, part(0, 1)?]),
            (Kind::Gru, false) => Ok(vec![part(1, 3)?]),
            _ => Ok(vec![self.gates.clone()]),
        }
    }

    /// The gradient of the input.
    fn input(&self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        let parts = self.parts(true)?;
        let (mut sum, mut from): (Option<Tensor<T>>, usize) = (None, 0);
        for part in &parts {
            let rows = part.shape()[1];
            let product = if parts.len() == 1 { part.mm(weight)? } else { part.mm(&weight.narrow(0, from, rows)?)? };
            sum = Some(match sum {
                None => product,
                Some(sum) => sum.try_add(&product)?,
            });
            from += rows;
        }
        Ok(sum.expect("at least one part"))
    }

    /// `f` of the parts, one below the other.
    fn below(&self, of_input: bool, f: &dyn Fn(&Tensor<T>) -> Result<Tensor<T>>) -> Result<Tensor<T>> {
        let parts = self.parts(of_input)?;
        if let [part] = &parts[..] {
            return f(part);
        }
        let mut found = Vec::with_capacity(parts.len());
        for part in &parts {
            found.push(f(part)?);
        }
        Tensor::cat(&found, 0)
    }

    /// The gradient of a weight, which was multiplied by `x`.
    fn weight(&self, x: &Tensor<T>, of_input: bool) -> Result<Tensor<T>> {
        self.below(of_input, &|part| part.t()?.mm(x))
    }

    fn bias(&self, of_input: bool) -> Result<Tensor<T>> {
        self.below(of_input, &|part| part.sum_dim(0isize, false))
    }
}
