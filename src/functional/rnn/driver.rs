//! The driver of all recurrent networks: layers, directions, lengths, dropout and axes.

use super::{PackedSequence, RecurrentKind, RecurrentOptions, RecurrentState, RecurrentWeights, fused::Layer};
use crate::{
    Error, Result,
    functional::{dropout, linear},
    kernels::{
        memory::{copied, filled, vector},
        sizes::room,
    },
    tensor::{Real, Tensor},
};

/// Runs a network of one kind, under the name of the function that was called.
pub(super) struct Driver<K> {
    pub(super) kind: K,
    pub(super) op: &'static str,
}

impl<K: RecurrentKind> Driver<K> {
    /// The number of values of each part of the state: the first is what `weight_hh` takes, the others are not
    /// projected.
    fn widths<T: Real>(&self, weights: &RecurrentWeights<T>) -> Vec<usize> {
        let hidden = weights.weight_ih.shape()[0] / K::GATES;
        (0..K::State::<T>::PARTS).map(|part| if part == 0 { weights.weight_hh.shape()[1] } else { hidden }).collect()
    }

    /// Returns an error if weights do not match one another or do not take `features` inputs.
    fn check_weights<T: Real>(&self, weights: &RecurrentWeights<T>, features: usize) -> Result<()> {
        let wrong = |name: &str, shape: &[usize], expected: String| {
            Err(Error::shape(self.op, format!("{name} is {shape:?}, expected {expected}")))
        };
        let RecurrentWeights { weight_ih, weight_hh, bias_ih, bias_hh, weight_hr } = weights;
        let &[rows, inputs] = weight_ih.shape() else {
            return wrong("weight_ih", weight_ih.shape(), "two axes".into());
        };
        if !rows.is_multiple_of(K::GATES) {
            return wrong("weight_ih", weight_ih.shape(), format!("{} gates of as many rows", K::GATES));
        }
        if inputs != features {
            let what = format!(
                "the input's last axis has {features} features, weight_ih {:?} expects {inputs}",
                [rows, inputs]
            );
            return Err(Error::shape(self.op, what));
        }
        let hidden = rows / K::GATES;
        let width = weight_hr.as_ref().map_or(hidden, |w| w.shape().first().copied().unwrap_or(0));
        if weight_hh.shape() != [rows, width] {
            return wrong("weight_hh", weight_hh.shape(), format!("{:?}", [rows, width]));
        }
        if let Some(w) = weight_hr.as_ref().filter(|w| !K::PROJECTS || w.shape() != [width, hidden]) {
            let expected =
                if K::PROJECTS { format!("{:?}", [width, hidden]) } else { "none: only an LSTM projects".into() };
            return wrong("weight_hr", w.shape(), expected);
        }
        for (name, bias) in [("bias_ih", bias_ih), ("bias_hh", bias_hh)] {
            if let Some(b) = bias.as_ref().filter(|b| b.shape() != [rows]) {
                return wrong(name, b.shape(), format!("{:?}", [rows]));
            }
        }
        Ok(())
    }

    /// The initial state, whose parts have the shape `lead` and then their own width: the caller's, or zeros.
    fn initial<T: Real>(
        &self,
        state: Option<K::State<T>>,
        weights: &[RecurrentWeights<T>],
        lead: &[usize],
        input: &Tensor<T>,
    ) -> Result<K::State<T>> {
        let widths = self.widths(&weights[0]);
        K::State::of(|i| {
            let expected = [lead, &widths[i..=i]].concat();
            let Some(part) = state.as_ref().map(|state| state.part(i)) else {
                room::<T>(self.op, &expected)?;
                return Ok(Tensor::zeros(expected));
            };
            if part.shape() != expected {
                let name =
                    if K::State::<T>::PARTS == 1 { "the state".to_string() } else { format!("the state's part {i}") };
                let (is, shape) = (part.shape(), input.shape());
                let what = format!("{name} is {is:?}, expected {expected:?} for an input of {shape:?}");
                return Err(Error::shape(self.op, what));
            }
            Ok(part.clone())
        })
    }

    /// The input's part of the gates for all steps at once, and the weights that are left for the steps.
    fn project<T: Real>(
        &self,
        input: &Tensor<T>,
        weights: &RecurrentWeights<T>,
    ) -> Result<(Tensor<T>, RecurrentWeights<T>)> {
        let mut weights = weights.clone();
        if let (Some(ih), Some(hh)) = (&weights.bias_ih, &weights.bias_hh)
            && K::SUMS_BIASES
        {
            (weights.bias_ih, weights.bias_hh) = (Some(ih.try_add(hh)?), None);
        }
        Ok((linear(input, &weights.weight_ih, weights.bias_ih.as_ref())?, weights))
    }

    pub(super) fn cell<T: Real>(
        &self,
        input: &Tensor<T>,
        state: Option<K::State<T>>,
        weights: &RecurrentWeights<T>,
    ) -> Result<K::State<T>> {
        let (lead, features) = match input.shape() {
            [lead @ .., last] if lead.len() <= 1 => (lead, *last),
            other => {
                return Err(Error::shape(self.op, format!("expected an input (N, input) or (input), got {other:?}")));
            }
        };
        self.check_weights(weights, features)?;
        let state = self.initial(state, std::slice::from_ref(weights), lead, input)?;
        if lead.len() == 1 {
            return Ok(self.sweep(self.layer(input, lead, &state, weights, false))?.1);
        }
        let state = K::State::of(|part| state.part(part).unsqueeze(0))?;
        let (_, end) = self.sweep(self.layer(&input.unsqueeze(0)?, &[1], &state, weights, false))?;
        K::State::of(|part| end.part(part).squeeze_dim(0))
    }

    /// One layer in one direction over packed steps `(sum of sizes, input)`; `sizes[t]` sequences, the first ones, have a
    /// step t.
    pub(super) fn layer<T: Real>(
        &self,
        input: &Tensor<T>,
        sizes: &[usize],
        start: &K::State<T>,
        weights: &RecurrentWeights<T>,
        backwards: bool,
    ) -> Layer<T> {
        let (h, c) = (start.part(0).clone(), (K::State::<T>::PARTS > 1).then(|| start.part(1).clone()));
        let (op, kind, sizes) = (self.op, self.kind.kernel(), copied(sizes));
        Layer { op, kind, sizes, backwards, input: input.clone(), h, c, weights: weights.clone() }
    }

    /// The output of a layer, `(sum of sizes, width)`, and its last state.
    pub(super) fn sweep<T: Real>(&self, layer: Layer<T>) -> Result<(Tensor<T>, K::State<T>)> {
        let driver = Driver { kind: self.kind, op: self.op };
        let (output, h, mut c) = layer.run(Box::new(move |layer| driver.again(layer)))?;
        let mut h = Some(h);
        let state = K::State::of(|_| Ok(h.take().or_else(|| c.take()).expect("a tensor for each part")))?;
        Ok((output, state))
    }

    /// The output and the last state of a layer, one after the other, by [`steps`](Driver::steps).
    fn again<T: Real>(&self, layer: &Layer<T>) -> Result<Tensor<T>> {
        let (output, end) = self.steps(layer)?;
        let parts = std::iter::once(&output).chain((0..K::State::<T>::PARTS).map(|part| end.part(part)));
        let flat: Vec<Tensor<T>> = parts.map(|part| part.reshape(part.numel() as isize)).collect::<Result<_>>()?;
        Tensor::cat(&flat, 0)
    }

    /// What [`sweep`](Driver::sweep) computes, in tensor operations.
    pub(super) fn steps<T: Real>(&self, layer: &Layer<T>) -> Result<(Tensor<T>, K::State<T>)> {
        let Layer { sizes, backwards, input, weights, .. } = layer;
        let start =
            K::State::of(|part| Ok(if part == 0 { Some(&layer.h) } else { layer.c.as_ref() }.expect("given").clone()))?;
        let (projected, weights) = self.project(input, weights)?;
        let steps = projected.split_with_sizes(sizes, 0)?;
        let some = |state: &K::State<T>, from: usize, to: usize| {
            K::State::of(|part| state.part(part).narrow(0, from as isize, to - from))
        };
        let all = |states: &[K::State<T>]| {
            K::State::of(|part| {
                let parts: Vec<&Tensor<T>> = states.iter().map(|state| state.part(part)).collect();
                Tensor::cat(&parts, 0)
            })
        };
        let mut outputs = vector(steps.len());
        let mut order: Vec<(&Tensor<T>, usize)> = steps.iter().zip(sizes.iter().copied()).collect();
        if *backwards {
            order.reverse();
        }
        let mut running = order.first().map_or(0, |&(_, n)| n);
        let mut state = if running == sizes[0] { start.clone() } else { some(&start, 0, running)? };
        let mut ended = Vec::new();
        for (step, n) in order {
            if n > running {
                // Backwards, a sequence begins at its own last step.
                state = all(&[state, some(&start, running, n)?])?;
            } else if n < running {
                ended.push(some(&state, n, running)?);
                state = some(&state, 0, n)?;
            }
            running = n;
            state = self.kind.step(step, &state, &weights)?;
            outputs.push(state.part(0).clone());
        }
        if *backwards {
            outputs.reverse();
        }
        if !ended.is_empty() {
            ended.push(state);
            ended.reverse();
            state = all(&ended)?;
        }
        Ok((Tensor::cat(&outputs, 0)?, state))
    }

    /// All layers over packed steps `(sum of sizes, input)`, from a state `(layers · directions, N, *)`.
    fn layers<T: Real>(
        &self,
        mut x: Tensor<T>,
        sizes: &[usize],
        state: &K::State<T>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(Tensor<T>, K::State<T>)> {
        let directions = 1 + usize::from(options.bidirectional);
        let layers = weights.len() / directions;
        let mut last = vector(weights.len());
        for (layer, weights) in weights.chunks(directions).enumerate() {
            let mut outputs = Vec::with_capacity(directions);
            for (direction, weights) in weights.iter().enumerate() {
                let own = K::State::of(|part| state.part(part).select(0, (layer * directions + direction) as isize))?;
                let (output, end) = self.sweep(self.layer(&x, sizes, &own, weights, direction == 1))?;
                outputs.push(output);
                last.push(end);
            }
            x = if directions == 1 { outputs.remove(0) } else { Tensor::cat(&outputs, -1)? };
            if layer + 1 < layers {
                x = dropout(&x, options.dropout, options.training)?;
            }
        }
        let end = K::State::of(|part| {
            let parts: Vec<&Tensor<T>> = last.iter().map(|state| state.part(part)).collect();
            Tensor::stack(&parts, 0)
        })?;
        Ok((x, end))
    }

    pub(super) fn sequence<T: Real>(
        &self,
        input: &Tensor<T>,
        state: Option<K::State<T>>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(Tensor<T>, K::State<T>)> {
        let batched = input.ndim() == 3;
        let x = self.time_first(input, options)?;
        let [steps, batch, features] = [x.shape()[0], x.shape()[1], x.shape()[2]];
        self.check_layers(weights, features, options)?;
        let lead = [weights.len(), batch];
        let state = self.initial(state, weights, &lead[..1 + usize::from(batched)], input)?;
        let state = if batched { state } else { K::State::of(|part| state.part(part).unsqueeze(1))? };
        let sizes = filled(room::<usize>(self.op, &[steps])?, batch);
        let (y, end) = self.layers(x.reshape(&[steps * batch, features][..])?, &sizes, &state, weights, options)?;
        let y = y.reshape(&[steps, batch, y.shape()[1]][..])?;
        Ok(match (batched, options.batch_first) {
            (false, _) => (y.squeeze_dim(1)?, K::State::of(|part| end.part(part).squeeze_dim(1))?),
            (true, false) => (y, end),
            (true, true) => (y.transpose(0, 1)?, end),
        })
    }

    pub(super) fn packed<T: Real>(
        &self,
        input: &PackedSequence<T>,
        state: Option<K::State<T>>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(PackedSequence<T>, K::State<T>)> {
        let (data, sizes) = (input.data(), input.batch_sizes());
        let &[_, features] = data.shape() else {
            let what = format!("expected packed steps (total, input), got {:?}", data.shape());
            return Err(Error::shape(self.op, what));
        };
        self.check_layers(weights, features, options)?;
        let in_order = |state: K::State<T>, order: Option<&[usize]>| match order {
            Some(order) => K::State::of(|part| state.part(part).rows_taken(self.op, 1, order.to_vec())),
            None => Ok(state),
        };
        let state = self.initial(state, weights, &[weights.len(), sizes[0]], data)?;
        let state = in_order(state, input.sorted_indices())?;
        let (y, end) = self.layers(data.clone(), sizes, &state, weights, options)?;
        Ok((input.with_data(y)?, in_order(end, input.unsorted_indices())?))
    }

    /// The input as `(L, N, input)`, with at least one step.
    fn time_first<T: Real>(&self, input: &Tensor<T>, options: RecurrentOptions) -> Result<Tensor<T>> {
        let x = match (input.ndim(), options.batch_first) {
            (2, _) => input.unsqueeze(1)?,
            (3, false) => input.clone(),
            (3, true) => input.transpose(0, 1)?,
            _ => {
                let what = format!("expected an input of 2 or 3 axes, got {:?}", input.shape());
                return Err(Error::shape(self.op, what));
            }
        };
        if x.shape()[0] == 0 {
            let what = format!("expected a sequence of at least one step, got {:?}", input.shape());
            return Err(Error::shape(self.op, what));
        }
        Ok(x)
    }

    /// Returns an error for weights of another number of directions, or whose layers do not match one another.
    fn check_layers<T: Real>(
        &self,
        weights: &[RecurrentWeights<T>],
        mut features: usize,
        options: RecurrentOptions,
    ) -> Result<()> {
        let directions = 1 + usize::from(options.bidirectional);
        if weights.is_empty() || !weights.len().is_multiple_of(directions) {
            let what = format!("expected at least one layer of weights, {directions} per layer, got {}", weights.len());
            return Err(Error::value(self.op, what));
        }
        for layer in weights.chunks(directions) {
            layer.iter().try_for_each(|w| self.check_weights(w, features))?;
            let first = self.widths(&weights[0]);
            if let Some(other) = layer.iter().map(|w| self.widths(w)).find(|w| *w != first) {
                return Err(Error::shape(self.op, format!("the layers' states are of {first:?} and {other:?} values")));
            }
            features = first[0] * directions;
        }
        Ok(())
    }
}
