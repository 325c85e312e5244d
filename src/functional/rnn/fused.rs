//! One layer in one direction as one operation: what it is computed from, and its derivative.

use ndarray::{Array2, Ix2};

use super::RecurrentWeights;
use crate::{
    Result,
    autograd::gradients_again,
    kernels::{
        copy::contiguous,
        gemm,
        layout::row_major,
        memory::filled,
        recurrent::{Kept, Kind, Sweep},
        sizes::room,
    },
    tensor::{Real, Tensor, grad_enabled},
};

/// One layer in one direction over packed steps, `(sum of sizes, input)`; `sizes[t]` sequences, the first ones, have a step
/// t.
#[derive(Clone)]
pub(super) struct Layer<T: Real> {
    pub(super) op: &'static str,
    pub(super) kind: Kind,
    pub(super) sizes: Vec<usize>,
    pub(super) backwards: bool,
    pub(super) input: Tensor<T>,
    pub(super) h: Tensor<T>,
    pub(super) c: Option<Tensor<T>>,
    pub(super) weights: RecurrentWeights<T>,
}

/// Computes the result again, step by step, in a form that can be differentiated twice.
pub(super) type Again<T> = Box<dyn Fn(&Layer<T>) -> Result<Tensor<T>> + Send + Sync>;

/// The output of all steps, `(sum of sizes, width)`, and the last state.
pub(super) type Output<T> = (Tensor<T>, Tensor<T>, Option<Tensor<T>>);

impl<T: Real> Layer<T> {
    /// The tensors that it is computed from, in the order of [`with`](Layer::with).
    fn tensors(&self) -> Vec<&Tensor<T>> {
        let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = &self.weights;
        let of_state = [Some(&self.input), Some(&self.h), self.c.as_ref()];
        let of_weights = [Some(weight_ih), Some(weight_hh), bias_ih.as_ref(), bias_hh.as_ref(), weight_hr.as_ref()];
        of_state.into_iter().chain(of_weights).flatten().collect()
    }

    /// The same with other tensors.
    fn with(&self, tensors: &[Tensor<T>]) -> Self {
        let mut next = tensors.iter().cloned();
        let mut taken = |there: bool| there.then(|| next.next().expect("as many tensors"));
        let mut layer = self.clone();
        let weights = &mut layer.weights;
        for tensor in [&mut layer.input, &mut layer.h] {
            *tensor = taken(true).expect("there");
        }
        layer.c = taken(layer.c.is_some());
        for tensor in [&mut weights.weight_ih, &mut weights.weight_hh] {
            *tensor = taken(true).expect("there");
        }
        for tensor in [&mut weights.bias_ih, &mut weights.bias_hh, &mut weights.weight_hr] {
            *tensor = taken(tensor.is_some());
        }
        layer
    }

    /// The bias of the hidden state's product, if it is not part of the projected input.
    fn bias_hh(&self) -> Vec<T> {
        match &self.weights.bias_hh {
            Some(bias) if self.kind == Kind::Gru => bias.to_vec(),
            None if self.kind == Kind::Gru => filled(self.weights.weight_hh.shape()[0], T::ZERO),
            _ => Vec::new(),
        }
    }

    /// Calls `f` with the kernel of this layer.
    fn sweep<R>(&self, f: impl FnOnce(&Sweep<'_, T>) -> R) -> R {
        let matrix = |w| Tensor::<T>::view(w).into_dimensionality::<Ix2>().expect("two axes");
        f(&Sweep {
            kind: self.kind,
            sizes: &self.sizes,
            backwards: self.backwards,
            weight_hh: matrix(&self.weights.weight_hh),
            bias_hh: &self.bias_hh(),
            weight_hr: self.weights.weight_hr.as_ref().map(matrix),
        })
    }

    /// The input's part of the gates for all steps at once.
    fn projected(&self) -> Result<Array2<T>> {
        let RecurrentWeights { weight_ih, bias_ih, bias_hh, .. } = &self.weights;
        let mut bias: Option<Vec<T>> = bias_ih.as_ref().map(Tensor::to_vec);
        if let Some(other) = bias_hh.as_ref().filter(|_| self.kind != Kind::Gru) {
            let bias = bias.get_or_insert_with(|| filled(other.numel(), T::ZERO));
            bias.iter_mut().zip(other.view().iter()).for_each(|(sum, &b)| *sum += b);
        }
        room::<T>(self.op, &[self.input.shape()[0], weight_ih.shape()[0]])?;
        let matrix = |t| Tensor::<T>::view(t).into_dimensionality::<Ix2>().expect("two axes");
        Ok(gemm::linear(matrix(&self.input), matrix(weight_ih), bias.as_deref()))
    }

    /// Runs it.
    pub(super) fn run(self, again: Again<T>) -> Result<Output<T>> {
        let (rows, sequences) = (self.input.shape()[0], self.sizes[0]);
        let [width, cells] = [Some(&self.h), self.c.as_ref()].map(|part| part.map_or(0, |part| part.shape()[1]));
        room::<T>(self.op, &[rows + sequences, width.saturating_add(cells)])?;
        let inputs = self.tensors();
        let keep = grad_enabled() && inputs.iter().any(|t| t.requires_grad());
        let gates = self.projected()?;
        let (h, c) = (self.h.view(), self.c.as_ref().map(Tensor::view));
        let (h, c) = (row_major(&h), c.as_ref().map(row_major));
        let outputs = self.sweep(|sweep| sweep.forth(gates, [&h, c.as_deref().unwrap_or(&[])], keep));
        let all = outputs.all.into_dyn();
        let all = match outputs.kept {
            None => Tensor::from(all),
            Some(Kept { gates, h, beside }) => {
                let (layer, kept) = (self.clone(), [gates, h, beside].map(Tensor::from));
                Tensor::op_many(self.op, all, &inputs, move |g, needed| match grad_enabled() {
                    true => gradients_again(&layer.tensors(), needed, g, &|tensors| again(&layer.with(tensors))),
                    false => layer.gradients(&kept, g, needed),
                })
            }
        };
        let part = |from: usize, rows: usize, width: usize| {
            let part = all.narrow(0, from as isize, rows * width)?.reshape([rows, width])?;
            // A state would keep the memory of all outputs.
            Ok(if keep || from == 0 { part } else { Tensor::from(contiguous(part.view())) })
        };
        let [before_h, before_c] = [rows * width, (rows + sequences) * width];
        let c = self.c.is_some().then(|| part(before_c, sequences, cells)).transpose()?;
        Ok((part(0, rows, width)?, part(before_h, sequences, width)?, c))
    }

    /// The gradients of the tensors that need one.
    fn gradients(&self, kept: &[Tensor<T>; 3], g: &Tensor<T>, needed: &[bool]) -> Result<Vec<Option<Tensor<T>>>> {
        let views = kept.each_ref().map(Tensor::view);
        let [gates, h, beside] = views.each_ref().map(row_major);
        let found = self.sweep(|sweep| sweep.back([&gates, &h, &beside], &row_major(&g.view())));
        let gates = Tensor::from(found.gates);
        let of = Of { gates: &gates, kind: self.kind };
        let [dh, dc] = found.start.map(Tensor::from);
        let mut needed = needed.iter().copied();
        let mut grads = Vec::with_capacity(needed.len());
        let mut next = |there: bool, grad: &mut dyn FnMut() -> Result<Tensor<T>>| {
            if there {
                let needed = needed.next().expect("a flag per tensor");
                grads.push(if needed { Some(grad()?) } else { None });
            }
            Ok::<_, crate::Error>(())
        };
        let RecurrentWeights { weight_ih, bias_ih, bias_hh, weight_hr, .. } = &self.weights;
        next(true, &mut || of.input(weight_ih))?;
        next(true, &mut || Ok(dh.clone()))?;
        next(self.c.is_some(), &mut || Ok(dc.clone()))?;
        next(true, &mut || of.weight(&self.input, true))?;
        next(true, &mut || of.weight(&kept[1], false))?;
        next(bias_ih.is_some(), &mut || of.bias(true))?;
        next(bias_hh.is_some(), &mut || of.bias(false))?;
        if let Some([outputs, whole]) = found.projected {
            let (outputs, whole) = (Tensor::from(outputs), Tensor::from(whole));
            next(weight_hr.is_some(), &mut || outputs.t()?.mm(&whole))?;
        }
        Ok(grads)
    }
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
        let part = |from: usize, count: usize| self.gates.narrow(1, (from * n) as isize, count * n);
        match (self.kind, of_input) {
            // The blocks are n, r, z, and n's product with the hidden state.
            (Kind::Gru, true) => Ok(vec![part(1, 2)?, part(0, 1)?]),
            (Kind::Gru, false) => Ok(vec![part(1, 3)?]),
            _ => Ok(vec![self.gates.clone()]),
        }
    }

    /// The gradient of the input.
    fn input(&self, weight: &Tensor<T>) -> Result<Tensor<T>> {
        let (mut sum, mut from): (Option<Tensor<T>>, usize) = (None, 0);
        for part in self.parts(true)? {
            let rows = part.shape()[1];
            let product = part.mm(&weight.narrow(0, from as isize, rows)?)?;
            (sum, from) = (Some(sum.map_or(Ok(product.clone()), |sum| sum.try_add(&product))?), from + rows);
        }
        Ok(sum.expect("at least one part"))
    }

    /// The gradient of a weight, which was multiplied by `x`.
    fn weight(&self, x: &Tensor<T>, of_input: bool) -> Result<Tensor<T>> {
        let parts = self.parts(of_input)?;
        let products: Vec<_> = parts.iter().map(|part| part.t()?.mm(x)).collect::<Result<_>>()?;
        if products.len() == 1 { Ok(products[0].clone()) } else { Tensor::cat(&products, 0) }
    }

    fn bias(&self, of_input: bool) -> Result<Tensor<T>> {
        let parts = self.parts(of_input)?;
        let sums: Vec<_> = parts.iter().map(|part| part.sum_dim(0isize, false)).collect::<Result<_>>()?;
        if sums.len() == 1 { Ok(sums[0].clone()) } else { Tensor::cat(&sums, 0) }
    }
}
