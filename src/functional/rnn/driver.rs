//! The driver of all recurrent networks: layers, directions, lengths, dropout and axes.
//!
//! The kind is a value and a state is a list of its parts, so that all kinds are compiled once.

use ndnn_derive::concrete;

use super::{PackedSequence, RecurrentOptions, RecurrentWeights, fused::Layer, step::step};
use crate::{
    Error, Result,
    functional::{dropout, linear},
    kernels::{
        memory::{filled, vector},
        recurrent::Kind,
        sizes::room,
    },
    tensor::{Real, Tensor},
};

/// Runs a network of one kind, under the name of the function that was called.
#[derive(Clone, Copy)]
pub(super) struct Driver {
    pub(super) kind: Kind,
    pub(super) op: &'static str,
}

/// The parts of a state: `h`, or `h` and `c`.
pub(super) type State<T> = Vec<Tensor<T>>;

/// `f` of each part of a state.
fn each<T: Real>(state: &[Tensor<T>], f: &dyn Fn(&Tensor<T>) -> Result<Tensor<T>>) -> Result<State<T>> {
    let mut parts = Vec::with_capacity(state.len());
    for part in state {
        parts.push(f(part)?);
    }
    Ok(parts)
}

/// Each part of some states, one behind the other or, if they are `stacked`, on a new axis.
fn joined<T: Real>(states: &[State<T>], stacked: bool) -> Result<State<T>> {
    let mut parts = Vec::with_capacity(states[0].len());
    for part in 0..states[0].len() {
        let each: Vec<&Tensor<T>> = states.iter().map(|state| &state[part]).collect();
        parts.push(if stacked { Tensor::stack(&each, 0)? } else { Tensor::cat(&each, 0)? });
    }
    Ok(parts)
}

// ---------------------------------------------------------------------------------------------------- what is compiled

/// All layers over a sequence.
#[concrete]
pub(super) fn sequence<T: Real>(
    driver: Driver,
    input: &Tensor<T>,
    state: Option<State<T>>,
    weights: &[RecurrentWeights<T>],
    options: RecurrentOptions,
) -> Result<(Tensor<T>, State<T>)> {
    let batched = input.ndim() == 3;
    let x = time_first(driver.op, input, options)?;
    let [steps, batch, features] = [x.shape()[0], x.shape()[1], x.shape()[2]];
    let widths = driver.check_layers(weights.len(), &|i| shapes(&weights[i]), features, options)?;
    let lead = [weights.len(), batch];
    let mut state = driver.initial(state, &widths, &lead[..1 + usize::from(batched)], input)?;
    if !batched {
        state = each(&state, &|part| part.unsqueeze(1))?;
    }
    let sizes = filled(room::<usize>(driver.op, &[steps])?, batch);
    let (y, end) = driver.layers(x.reshape(&[steps * batch, features][..])?, &sizes, &state, weights, options)?;
    let y = y.reshape(&[steps, batch, y.shape()[1]][..])?;
    Ok(match (batched, options.batch_first) {
        (false, _) => (y.squeeze_dim(1)?, each(&end, &|part| part.squeeze_dim(1))?),
        (true, false) => (y, end),
        (true, true) => (y.transpose(0, 1)?, end),
    })
}

/// All layers over packed sequences.
#[concrete]
pub(super) fn packed<T: Real>(
    driver: Driver,
    input: &PackedSequence<T>,
    state: Option<State<T>>,
    weights: &[RecurrentWeights<T>],
    options: RecurrentOptions,
) -> Result<(PackedSequence<T>, State<T>)> {
    let (data, sizes) = (input.data(), input.batch_sizes());
    let &[_, features] = data.shape() else {
        let what = format!("expected packed steps (total, input), got {:?}", data.shape());
        return Err(Error::shape(driver.op, what));
    };
    let widths = driver.check_layers(weights.len(), &|i| shapes(&weights[i]), features, options)?;
    let in_order = |state: State<T>, order: Option<&[usize]>| match order {
        Some(order) => each(&state, &|part| part.rows_taken(driver.op, 1, order.to_vec())),
        None => Ok(state),
    };
    let state = driver.initial(state, &widths, &[weights.len(), sizes[0]], data)?;
    let state = in_order(state, input.sorted_indices())?;
    let (y, end) = driver.layers(data.clone(), sizes, &state, weights, options)?;
    Ok((input.with_data(y)?, in_order(end, input.unsorted_indices())?))
}

/// One step of one layer.
#[concrete]
pub(super) fn cell<T: Real>(
    driver: Driver,
    input: &Tensor<T>,
    state: Option<State<T>>,
    weights: &RecurrentWeights<T>,
) -> Result<State<T>> {
    let (lead, features) = match input.shape() {
        [lead @ .., last] if lead.len() <= 1 => (lead, *last),
        other => {
            return Err(Error::shape(driver.op, format!("expected an input (N, input) or (input), got {other:?}")));
        }
    };
    let widths = driver.check_layers(1, &|_| shapes(weights), features, RecurrentOptions::default())?;
    let state = driver.initial(state, &widths, lead, input)?;
    if lead.len() == 1 {
        return Ok(Layer::new(driver, input, lead, &state, weights, false).run()?.1);
    }
    let state = each(&state, &|part| part.unsqueeze(0))?;
    let (_, end) = Layer::new(driver, &input.unsqueeze(0)?, &[1], &state, weights, false).run()?;
    each(&end, &|part| part.squeeze_dim(0))
}

// --------------------------------------------------------------------------------------------------------------- shapes

/// The shapes of the weights of one layer in one direction.
struct Shapes<'a> {
    weight_ih: &'a [usize],
    weight_hh: &'a [usize],
    biases: [Option<&'a [usize]>; 2],
    weight_hr: Option<&'a [usize]>,
}

fn shapes<'a, T: Real>(weights: &'a RecurrentWeights<T>) -> Shapes<'a> {
    let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
    let of = |t: &'a Option<Tensor<T>>| t.as_ref().map(Tensor::shape);
    let biases = [of(bias_ih), of(bias_hh)];
    Shapes { weight_ih: weight_ih.shape(), weight_hh: weight_hh.shape(), biases, weight_hr: of(weight_hr) }
}

impl Driver {
    /// The number of parts of a state.
    fn parts(self) -> usize {
        if self.kind == Kind::Lstm { 2 } else { 1 }
    }

    /// The number of values of each part of the state: the first is what `weight_hh` takes, the other is not projected.
    fn widths(self, weights: &Shapes<'_>) -> [usize; 2] {
        [weights.weight_hh[1], weights.weight_ih[0] / self.kind.gates()]
    }

    /// Returns an error if weights do not match one another or do not take `features` inputs.
    fn check_weights(self, weights: &Shapes<'_>, features: usize) -> Result<()> {
        let wrong = |name: &str, shape: &[usize], expected: String| {
            Err(Error::shape(self.op, format!("{name} is {shape:?}, expected {expected}")))
        };
        let (gates, projects) = (self.kind.gates(), self.kind == Kind::Lstm);
        let &Shapes { weight_ih, weight_hh, biases, weight_hr } = weights;
        let &[rows, inputs] = weight_ih else {
            return wrong("weight_ih", weight_ih, "two axes".into());
        };
        if !rows.is_multiple_of(gates) {
            return wrong("weight_ih", weight_ih, format!("{gates} gates of as many rows"));
        }
        if inputs != features {
            let what =
                format!("the input's last axis has {features} features, weight_ih {weight_ih:?} expects {inputs}");
            return Err(Error::shape(self.op, what));
        }
        let hidden = rows / gates;
        let width = weight_hr.map_or(hidden, |shape| shape.first().copied().unwrap_or(0));
        if weight_hh != [rows, width] {
            return wrong("weight_hh", weight_hh, format!("{:?}", [rows, width]));
        }
        if let Some(shape) = weight_hr.filter(|&shape| !projects || shape != [width, hidden]) {
            let expected =
                if projects { format!("{:?}", [width, hidden]) } else { "none: only an LSTM projects".into() };
            return wrong("weight_hr", shape, expected);
        }
        for (name, bias) in ["bias_ih", "bias_hh"].into_iter().zip(biases) {
            if let Some(shape) = bias.filter(|&shape| shape != [rows]) {
                return wrong(name, shape, format!("{:?}", [rows]));
            }
        }
        Ok(())
    }

    /// The widths of the state's parts; an error for weights of another number of directions, or whose layers do not match
    /// one another.
    fn check_layers<'a>(
        self,
        count: usize,
        weights: &dyn Fn(usize) -> Shapes<'a>,
        mut features: usize,
        options: RecurrentOptions,
    ) -> Result<[usize; 2]> {
        let directions = 1 + usize::from(options.bidirectional);
        if count == 0 || !count.is_multiple_of(directions) {
            let what = format!("expected at least one layer of weights, {directions} per layer, got {count}");
            return Err(Error::value(self.op, what));
        }
        let mut first = None;
        for layer in 0..count / directions {
            let layer = layer * directions..(layer + 1) * directions;
            layer.clone().try_for_each(|i| self.check_weights(&weights(i), features))?;
            for i in layer {
                let (widths, parts) = (self.widths(&weights(i)), self.parts());
                let first = first.get_or_insert(widths);
                if first[..parts] != widths[..parts] {
                    let (first, widths) = (&first[..parts], &widths[..parts]);
                    let what = format!("the layers' states are of {first:?} and {widths:?} values");
                    return Err(Error::shape(self.op, what));
                }
                features = first[0] * directions;
            }
        }
        Ok(first.expect("at least one layer"))
    }

    /// The error for a part of a state that has another shape.
    #[cold]
    fn other_state(self, part: Option<usize>, is: &[usize], expected: &[usize], input: &[usize]) -> Error {
        let name = part.map_or("the state".to_string(), |part| format!("the state's part {part}"));
        Error::shape(self.op, format!("{name} is {is:?}, expected {expected:?} for an input of {input:?}"))
    }
}

/// The input as `(L, N, input)`, with at least one step.
fn time_first<T: Real>(op: &str, input: &Tensor<T>, options: RecurrentOptions) -> Result<Tensor<T>> {
    let x = match (input.ndim(), options.batch_first) {
        (2, _) => input.unsqueeze(1)?,
        (3, false) => input.clone(),
        (3, true) => input.transpose(0, 1)?,
        _ => return Err(Error::shape(op, format!("expected an input of 2 or 3 axes, got {:?}", input.shape()))),
    };
    if x.shape()[0] == 0 {
        let what = format!("expected a sequence of at least one step, got {:?}", input.shape());
        return Err(Error::shape(op, what));
    }
    Ok(x)
}

// --------------------------------------------------------------------------------------------------------------- layers

impl Driver {
    /// The initial state, whose parts have the shape `lead` and then their own width: the caller's, or zeros.
    fn initial<T: Real>(
        self,
        state: Option<State<T>>,
        widths: &[usize; 2],
        lead: &[usize],
        input: &Tensor<T>,
    ) -> Result<State<T>> {
        let mut parts = Vec::with_capacity(self.parts());
        for (i, &width) in widths[..self.parts()].iter().enumerate() {
            let expected = [lead, &[width]].concat();
            match &state {
                None => parts.push(Tensor::try_full(self.op, &expected, T::ZERO)?),
                Some(state) if state[i].shape() == expected => parts.push(state[i].clone()),
                Some(state) => {
                    let part = (self.parts() > 1).then_some(i);
                    return Err(self.other_state(part, state[i].shape(), &expected, input.shape()));
                }
            }
        }
        Ok(parts)
    }

    /// What [`Layer::run`] computes, in tensor operations.
    #[inline(never)]
    pub(super) fn steps<T: Real>(self, layer: &Layer<T>) -> Result<(Tensor<T>, State<T>)> {
        let (sizes, start) = (&layer.sizes, layer.start());
        let (projected, weights) = self.project(layer)?;
        let steps = projected.split_with_sizes(sizes, 0)?;
        let some = |state: &State<T>, from: usize, to: usize| each(state, &|part| part.narrow(0, from, to - from));
        let mut outputs = vector(steps.len());
        let mut order: Vec<(&Tensor<T>, usize)> = steps.iter().zip(sizes.iter().copied()).collect();
        if layer.backwards {
            order.reverse();
        }
        let mut running = order.first().map_or(0, |&(_, n)| n);
        let mut state = if running == sizes[0] { start.clone() } else { some(&start, 0, running)? };
        let mut ended = Vec::new();
        for (gates, n) in order {
            if n > running {
                // Backwards, a sequence begins at its own last step.
                state = joined(&[state, some(&start, running, n)?], false)?;
            } else if n < running {
                ended.push(some(&state, n, running)?);
                state = some(&state, 0, n)?;
            }
            running = n;
            state = step(self.kind, gates, &state, &weights)?;
            outputs.push(state[0].clone());
        }
        if layer.backwards {
            outputs.reverse();
        }
        if !ended.is_empty() {
            ended.push(state);
            ended.reverse();
            state = joined(&ended, false)?;
        }
        Ok((Tensor::cat(&outputs, 0)?, state))
    }

    /// The input's part of the gates for all steps at once, and the weights that are left for the steps.
    fn project<T: Real>(self, layer: &Layer<T>) -> Result<(Tensor<T>, RecurrentWeights<T>)> {
        let mut weights = layer.weights();
        if let (Some(ih), Some(hh)) = (&weights.bias_ih, &weights.bias_hh)
            && self.kind != Kind::Gru
        {
            (weights.bias_ih, weights.bias_hh) = (Some(ih.try_add(hh)?), None);
        }
        Ok((linear(layer.input(), &weights.weight_ih, weights.bias_ih.as_ref())?, weights))
    }

    /// All layers over packed steps `(sum of sizes, input)`, from a state `(layers · directions, N, *)`.
    fn layers<T: Real>(
        self,
        mut x: Tensor<T>,
        sizes: &[usize],
        state: &State<T>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(Tensor<T>, State<T>)> {
        let directions = 1 + usize::from(options.bidirectional);
        let layers = weights.len() / directions;
        let mut last = vector(weights.len());
        for (layer, weights) in weights.chunks(directions).enumerate() {
            let mut outputs = Vec::with_capacity(directions);
            for (direction, weights) in weights.iter().enumerate() {
                let own = each(state, &|part| part.select(0, layer * directions + direction))?;
                let (output, end) = Layer::new(self, &x, sizes, &own, weights, direction == 1).run()?;
                outputs.push(output);
                last.push(end);
            }
            x = if directions == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, -1)? };
            if layer + 1 < layers {
                x = dropout(&x, options.dropout, options.training)?;
            }
        }
        Ok((x, joined(&last, true)?))
    }
}
