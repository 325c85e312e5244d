//! Recurrent networks: one driver for layers, directions, dropout and axes, and a step for each kind.

use crate::{
    Error, Result,
    functional::{dropout, linear, options},
    kernels::{memory::vector, sizes::room},
    tensor::{Real, Tensor},
};
use ndnn_derive::concrete;

options! {
    /// What [`lstm`] takes besides tensors.
    pub struct RnnOptions, setters rnn_setters {
        /// Whether each layer also runs from the end to the start, with weights of its own; `false` by default.
        bidirectional: of bool = false;
        /// Whether input and output are `(N, L, *)` and not `(L, N, *)`; `false` by default. Says nothing of the state.
        batch_first: of bool = false;
        /// The probability with which an element between two layers is dropped in training; 0 by default.
        dropout: of f64 = 0., if |p| (0. ..=1.).contains(&p), "dropout is a probability, from 0 to 1";
        /// Whether elements are dropped; `false` by default.
        training: of bool = false;
    }
}

/// The weights of one layer in one direction; `G` gates (4 of an LSTM) of `hidden` values stand one below the other.
#[derive(Clone, Debug)]
pub struct RnnWeights<T: Real = f32> {
    /// `[G · hidden, input]`
    pub weight_ih: Tensor<T>,
    /// `[G · hidden, hidden]`, or `[G · hidden, proj]`
    pub weight_hh: Tensor<T>,
    /// `[G · hidden]`
    pub bias_ih: Option<Tensor<T>>,
    /// `[G · hidden]`
    pub bias_hh: Option<Tensor<T>>,
    /// `[proj, hidden]`: projects the hidden state to a smaller one.
    pub weight_hr: Option<Tensor<T>>,
}

/// The state of an LSTM: `(h, c)`.
pub type LstmState<T = f32> = (Tensor<T>, Tensor<T>);

/// What a step does with the hidden state, ready for products from the right.
struct Recurrence<T: Real> {
    /// `(hidden or proj, G · hidden)`
    weight: Tensor<T>,
    /// `(G · hidden)`
    bias: Option<Tensor<T>>,
    /// `(hidden, proj)`
    projection: Option<Tensor<T>>,
}

/// From the inputs' part of the gates, `(N, G · hidden)`, and the state to the next state.
type Step<T, const S: usize> = fn(&Tensor<T>, &[Tensor<T>; S], &Recurrence<T>) -> Result<[Tensor<T>; S]>;

/// What tells one kind of network from another: its state has `S` parts, the first of which is the output.
struct Kind<T: Real, const S: usize> {
    op: &'static str,
    gates: usize,
    /// Whether both biases are just added up, so that it can be done once for the whole sequence.
    sums_biases: bool,
    step: Step<T, S>,
}

fn lstm_kind<T: Real>(op: &'static str) -> Kind<T, 2> {
    Kind { op, gates: 4, sums_biases: true, step: lstm_step }
}

fn lstm_step<T: Real>(input: &Tensor<T>, [h, c]: &[Tensor<T>; 2], by: &Recurrence<T>) -> Result<[Tensor<T>; 2]> {
    let mut gates = input.try_add(&h.matmul(&by.weight)?)?;
    if let Some(bias) = &by.bias {
        gates = gates.try_add(bias)?;
    }
    let gates = gates.chunk(4, -1)?;
    let c = gates[1].sigmoid().try_mul(c)?.try_add(&gates[0].sigmoid().try_mul(&gates[2].tanh())?)?;
    let h = gates[3].sigmoid().try_mul(&c.tanh())?;
    let h = by.projection.as_ref().map_or(Ok(h.clone()), |projection| h.matmul(projection))?;
    Ok([h, c])
}

/// One step of an LSTM:
/// `i, f, g, o = W_ih x + b_ih + W_hh h + b_hh`, `c' = σ(f) c + σ(i) tanh(g)`, `h' = σ(o) tanh(c')`; with `weight_hr`,
/// `h' = W_hr (σ(o) tanh(c'))`.
///
/// `input` is `(N, input)` or `(input)`, the state `(h, c)` `(N, hidden)` or `(hidden)` each; so is the result.
///
/// ```
/// use ndnn::{functional::{self as F, RnnWeights}, prelude::*};
/// let weights: RnnWeights = RnnWeights {
///     weight_ih: Tensor::ones([12, 2]),
///     weight_hh: Tensor::ones([12, 3]),
///     bias_ih: None,
///     bias_hh: None,
///     weight_hr: None,
/// };
/// let zeros = Tensor::zeros([5, 3]);
/// let (h, c) = F::lstm_cell(&Tensor::zeros([5, 2]), (&zeros, &zeros), &weights)?;
/// assert_eq!((h.shape(), c.shape()), (&[5, 3][..], &[5, 3][..]));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the shapes do not fit.
pub fn lstm_cell<T: Real>(
    input: &Tensor<T>,
    (h, c): (&Tensor<T>, &Tensor<T>),
    weights: &RnnWeights<T>,
) -> Result<LstmState<T>> {
    let kind = lstm_kind("lstm_cell");
    let lead = match input.shape() {
        [lead @ .., last] if lead.len() <= 1 => {
            kind.check_weights(weights, *last)?;
            lead.to_vec()
        }
        other => return Err(Error::shape(kind.op, format!("expected an input (N, input) or (input), got {other:?}"))),
    };
    for (i, (part, width)) in [h, c].into_iter().zip(kind.widths(weights)).enumerate() {
        let expected = [&lead[..], &[width]].concat();
        if part.shape() != expected {
            let what =
                format!("expected hidden[{i}] size {expected:?}, got {:?}; input is {:?}", part.shape(), input.shape());
            return Err(Error::shape(kind.op, what));
        }
    }
    let (projected, by) = kind.project(input, weights)?;
    let [h, c] = (kind.step)(&projected, &[h.clone(), c.clone()], &by)?;
    Ok((h, c))
}

/// Long short-term memory over a sequence: [`lstm_cell`] step by step, in one or more layers, each in one direction or
/// two, whose outputs stand side by side and are the next layer's input.
///
/// `input` is `(L, N, input)`, with `batch_first` `(N, L, input)`, or without a batch `(L, input)`. The state `(h, c)` is
/// `(layers · directions, N, hidden)` each (`h` with `proj` values where the weights project; without `N` if the input is),
/// zeros where it is `None`. The results are the output `(L, N, directions · hidden)`, laid out as the input, and the last
/// state. `weights` are those of layer 0, forwards and backwards, then of layer 1, …. As torch.nn.LSTM; Hochreiter and
/// Schmidhuber, 1997.
///
/// # Errors
/// If the input, the state or the weights do not fit together, or the sequence is empty.
#[concrete]
pub fn lstm<T: Real>(
    input: &Tensor<T>,
    state: Option<(&Tensor<T>, &Tensor<T>)>,
    weights: &[RnnWeights<T>],
    options: RnnOptions,
) -> Result<(Tensor<T>, LstmState<T>)> {
    let (output, [h, c]) = lstm_kind("lstm").run(input, state.map(|(h, c)| [h, c]), weights, options)?;
    Ok((output, (h, c)))
}

impl<T: Real, const S: usize> Kind<T, S> {
    /// How many values each part of the state has: the first is what `weight_hh` takes, the others are not projected.
    fn widths(&self, weights: &RnnWeights<T>) -> [usize; S] {
        let hidden = weights.weight_ih.shape()[0] / self.gates;
        std::array::from_fn(|part| if part == 0 { weights.weight_hh.shape()[1] } else { hidden })
    }

    /// Refuses weights that do not fit together or do not take `features` inputs.
    fn check_weights(&self, weights: &RnnWeights<T>, features: usize) -> Result<()> {
        let wrong = |name: &str, shape: &[usize], expected: String| {
            Err(Error::shape(self.op, format!("{name} is {shape:?}, expected {expected}")))
        };
        let RnnWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
        let &[rows, inputs] = weight_ih.shape() else {
            return wrong("weight_ih", weight_ih.shape(), "two axes".into());
        };
        if rows == 0 || !rows.is_multiple_of(self.gates) {
            return wrong("weight_ih", weight_ih.shape(), format!("{} gates of as many rows", self.gates));
        }
        if inputs != features {
            let what = format!(
                "the input's last axis has {features} features, weight_ih {:?} expects {inputs}",
                [rows, inputs]
            );
            return Err(Error::shape(self.op, what));
        }
        let hidden = rows / self.gates;
        let width = weight_hr.as_ref().map_or(hidden, |w| w.shape().first().copied().unwrap_or(0));
        if weight_hh.shape() != [rows, width] {
            return wrong("weight_hh", weight_hh.shape(), format!("{:?}", [rows, width]));
        }
        if let Some(w) = weight_hr.as_ref().filter(|w| w.shape() != [width, hidden]) {
            return wrong("weight_hr", w.shape(), format!("{:?}", [width, hidden]));
        }
        for (name, bias) in [("bias_ih", bias_ih), ("bias_hh", bias_hh)] {
            if let Some(b) = bias.as_ref().filter(|b| b.shape() != [rows]) {
                return wrong(name, b.shape(), format!("{:?}", [rows]));
            }
        }
        Ok(())
    }

    /// The inputs' part of the gates, of all steps at once, and what is left to do in a step.
    fn project(&self, input: &Tensor<T>, weights: &RnnWeights<T>) -> Result<(Tensor<T>, Recurrence<T>)> {
        let (of_input, of_hidden) = match (&weights.bias_ih, &weights.bias_hh) {
            (Some(ih), Some(hh)) if self.sums_biases => (Some(ih.try_add(hh)?), None),
            (ih, hh) => (ih.clone(), hh.clone()),
        };
        let projected = linear(input, &weights.weight_ih, of_input.as_ref())?;
        let projection = weights.weight_hr.as_ref().map(Tensor::t).transpose()?;
        Ok((projected, Recurrence { weight: weights.weight_hh.t()?, bias: of_hidden, projection }))
    }

    /// One layer in one direction over `(L, N, input)`.
    fn sweep(
        &self,
        input: &Tensor<T>,
        mut state: [Tensor<T>; S],
        weights: &RnnWeights<T>,
        backwards: bool,
    ) -> Result<(Tensor<T>, [Tensor<T>; S])> {
        let (projected, by) = self.project(input, weights)?;
        let mut steps = projected.unbind(0)?;
        if backwards {
            steps.reverse();
        }
        let mut outputs = vector(steps.len());
        for step in &steps {
            state = (self.step)(step, &state, &by)?;
            outputs.push(state[0].clone());
        }
        if backwards {
            outputs.reverse();
        }
        Ok((Tensor::stack(&outputs, 0)?, state))
    }

    fn run(
        &self,
        input: &Tensor<T>,
        state: Option<[&Tensor<T>; S]>,
        weights: &[RnnWeights<T>],
        options: RnnOptions,
    ) -> Result<(Tensor<T>, [Tensor<T>; S])> {
        let batched = input.ndim() == 3;
        let mut x = match (input.ndim(), options.batch_first) {
            (2, _) => input.unsqueeze(1)?,
            (3, false) => input.clone(),
            (3, true) => input.transpose(0, 1)?,
            _ => {
                return Err(Error::shape(
                    self.op,
                    format!("expected an input of 2 or 3 axes, got {:?}", input.shape()),
                ));
            }
        };
        let (len, batch) = (x.shape()[0], x.shape()[1]);
        if len == 0 {
            let what = format!("expected a sequence of at least one step, got {:?}", input.shape());
            return Err(Error::shape(self.op, what));
        }
        let directions = 1 + usize::from(options.bidirectional);
        self.check_layers(weights, x.shape()[2], directions)?;
        let state = self.initial(state, weights, batched.then_some(batch))?;

        let layers = weights.len() / directions;
        let mut last = Vec::with_capacity(weights.len());
        for (layer, weights) in weights.chunks(directions).enumerate() {
            let mut outputs = Vec::with_capacity(directions);
            for (direction, weights) in weights.iter().enumerate() {
                let mut own = state.clone();
                for part in &mut own {
                    *part = part.select(0, (layer * directions + direction) as isize)?;
                }
                let (output, end) = self.sweep(&x, own, weights, direction == 1)?;
                outputs.push(output);
                last.push(end);
            }
            x = if directions == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, -1)? };
            if layer + 1 < layers {
                x = dropout(&x, options.dropout, options.training)?;
            }
        }
        let mut end = state;
        for (part, whole) in end.iter_mut().enumerate() {
            let parts: Vec<_> = last.iter().map(|state| &state[part]).collect();
            *whole = Tensor::stack(&parts, 0)?;
            if !batched {
                *whole = whole.squeeze_dim(1)?;
            }
        }
        let output = match (batched, options.batch_first) {
            (false, _) => x.squeeze_dim(1)?,
            (true, false) => x,
            (true, true) => x.transpose(0, 1)?,
        };
        Ok((output, end))
    }

    /// Refuses weights of another number of directions, or whose layers do not follow each other.
    fn check_layers(&self, weights: &[RnnWeights<T>], features: usize, directions: usize) -> Result<()> {
        if weights.is_empty() || !weights.len().is_multiple_of(directions) {
            let what = format!("expected weights of layers in {directions} directions each, got {}", weights.len());
            return Err(Error::value(self.op, what));
        }
        let mut features = features;
        for layer in weights.chunks(directions) {
            layer.iter().try_for_each(|w| self.check_weights(w, features))?;
            let widths = layer.iter().chain(&weights[..1]).map(|w| self.widths(w));
            if let Some(other) = widths.into_iter().find(|&w| w != self.widths(&weights[0])) {
                let what = format!("the layers' states are of {:?} and {other:?} values", self.widths(&weights[0]));
                return Err(Error::shape(self.op, what));
            }
            features = self.widths(&weights[0])[0] * directions;
        }
        Ok(())
    }

    /// The state to start with, `(layers · directions, N, width)` in every part.
    fn initial(
        &self,
        state: Option<[&Tensor<T>; S]>,
        weights: &[RnnWeights<T>],
        batch: Option<usize>,
    ) -> Result<[Tensor<T>; S]> {
        let widths = self.widths(&weights[0]);
        let Some(parts) = state else {
            let shape = |width| [weights.len(), batch.unwrap_or(1), width];
            widths.iter().try_for_each(|&width| room::<T>(self.op, &shape(width)).map(drop))?;
            return Ok(widths.map(|width| Tensor::zeros(shape(width))));
        };
        let mut own = parts.map(Tensor::clone);
        for (i, (part, width)) in own.iter_mut().zip(widths).enumerate() {
            let expected: Vec<usize> = [weights.len()].into_iter().chain(batch).chain([width]).collect();
            if part.shape() != expected {
                let kind = if batch.is_some() { "batched input (3 axes)" } else { "unbatched input (2 axes)" };
                let name = if S == 1 { "hidden".to_string() } else { format!("hidden[{i}]") };
                let what = format!("expected {name} size {expected:?} for {kind}, got {:?}", part.shape());
                return Err(Error::shape(self.op, what));
            }
            if batch.is_none() {
                *part = part.unsqueeze(1)?;
            }
        }
        Ok(own)
    }
}
