//! Recurrent layers; see [`functional::lstm`](crate::functional::lstm).

use std::fmt;

use crate::{
    Result, forward,
    functional::{self as F, LstmState, RnnOptions, RnnWeights},
    kernels::sizes::must,
    module::{ExtraRepr, Members, repr},
    nn::{Dtype, Forward, Mode, Module, Param, ParameterDict, init},
    tensor::{Real, Tensor},
};

/// What the recurrent layers share: sizes, options, and the weights of each layer and direction by PyTorch's names.
#[derive(Clone)]
struct Stack<T: Real> {
    /// Blocks of `hidden_size` rows in a weight.
    gates: usize,
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
    bias: bool,
    /// 0 where the hidden state is not projected.
    proj_size: usize,
    options: RnnOptions,
    weights: ParameterDict<T>,
    mode: Mode,
}

impl<T: Real> Stack<T> {
    #[track_caller]
    fn new(gates: usize, input_size: usize, hidden_size: usize) -> Self {
        assert!(input_size > 0 && hidden_size > 0, "sizes are above 0, got {input_size} inputs, {hidden_size} hidden");
        let options = RnnOptions::default();
        let (weights, mode) = (ParameterDict::default(), Mode::default());
        let stack =
            Stack { gates, input_size, hidden_size, num_layers: 1, bias: true, proj_size: 0, options, weights, mode };
        stack.drawn()
    }

    /// What follows each layer's and direction's weights in their names: `l0`, `l0_reverse`, `l1`, ….
    fn places(&self) -> Vec<String> {
        let suffixes = if self.options.bidirectional { &["", "_reverse"][..] } else { &[""] };
        (0..self.num_layers).flat_map(|layer| suffixes.iter().map(move |suffix| format!("l{layer}{suffix}"))).collect()
    }

    /// With the weights that the options ask for: those that are there in the right shape, and new ones.
    #[track_caller]
    fn drawn(mut self) -> Self {
        let (rows, hidden) = (self.gates.saturating_mul(self.hidden_size), self.hidden_size);
        let width = if self.proj_size > 0 { self.proj_size } else { hidden };
        let directions = 1 + usize::from(self.options.bidirectional);
        let bound = 1. / (hidden as f64).sqrt();
        let before = std::mem::take(&mut self.weights);
        must::<String>("num_layers", &[self.num_layers, directions]);
        for (i, place) in self.places().into_iter().enumerate() {
            let inputs = if i < directions { self.input_size } else { width.saturating_mul(directions) };
            let mut shapes = vec![("weight_ih", vec![rows, inputs]), ("weight_hh", vec![rows, width])];
            if self.bias {
                shapes.extend([("bias_ih", vec![rows]), ("bias_hh", vec![rows])]);
            }
            if self.proj_size > 0 {
                shapes.push(("weight_hr", vec![self.proj_size, hidden]));
            }
            for (name, shape) in shapes {
                let name = format!("{name}_{place}");
                // No closure: it would lose the caller's place.
                let weight = match before.get(&name).filter(|p| p.shape() == shape) {
                    Some(kept) => kept.clone(),
                    None => Param::new(init::draw(&shape, -bound, bound)),
                };
                self.weights.insert(name, weight);
            }
        }
        self
    }

    /// A snapshot of the weights, as the functions take them.
    fn tensors(&self) -> Vec<RnnWeights<T>> {
        let at = |place: String| {
            let get = |name: &str| self.weights.get(&format!("{name}_{place}")).map(Param::tensor);
            RnnWeights {
                weight_ih: get("weight_ih").expect("always there"),
                weight_hh: get("weight_hh").expect("always there"),
                bias_ih: get("bias_ih"),
                bias_hh: get("bias_hh"),
                weight_hr: get("weight_hr"),
            }
        };
        self.places().into_iter().map(at).collect()
    }

    fn options(&self) -> RnnOptions {
        self.options.training(self.mode.is_training())
    }

    fn extra_repr(&self) -> String {
        let RnnOptions { batch_first, dropout, bidirectional, .. } = self.options;
        ExtraRepr::new()
            .value(self.input_size)
            .value(self.hidden_size)
            .unless_default("proj_size", self.proj_size, 0)
            .unless_default("num_layers", self.num_layers, 1)
            .unless_default("bias", self.bias, true)
            .unless_default("batch_first", batch_first, false)
            .unless_default("dropout", dropout, 0.)
            .unless_default("bidirectional", bidirectional, false)
            .finish()
    }

    fn dtype<U: Real>(self) -> Stack<U> {
        let Stack { gates, input_size, hidden_size, num_layers, bias, proj_size, options, weights, mode } = self;
        let weights = weights.dtype::<U>();
        Stack { gates, input_size, hidden_size, num_layers, bias, proj_size, options, weights, mode }
    }
}

/// What every recurrent layer has around its `Stack`: constructor, options, members, printing, conversion.
macro_rules! recurrent {
    ($layer:ident, gates: $gates:literal) => {
        impl $layer {
            /// One layer in one direction, with biases.
            ///
            /// # Panics
            /// If a size is 0.
            #[track_caller]
            pub fn new(input_size: usize, hidden_size: usize) -> Self {
                $layer { stack: Stack::new($gates, input_size, hidden_size) }
            }
        }

        impl<T: Real> $layer<T> {
            /// Layers above each other, each with the outputs of the one below as its inputs; 1 by default. Draws the
            /// weights that are new or change their shape.
            ///
            /// # Panics
            /// If it is 0.
            #[track_caller]
            pub fn num_layers(mut self, num_layers: usize) -> Self {
                assert!(num_layers > 0, "num_layers is at least 1");
                self.stack.num_layers = num_layers;
                self.stack = self.stack.drawn();
                self
            }

            /// With (the default) or without biases; those that were left out before are drawn anew.
            #[track_caller]
            pub fn bias(mut self, bias: bool) -> Self {
                self.stack.bias = bias;
                self.stack = self.stack.drawn();
                self
            }

            /// Whether input and output are `(N, L, *)` and not `(L, N, *)`; `false` by default. Says nothing of the state.
            pub fn batch_first(mut self, batch_first: bool) -> Self {
                self.stack.options = self.stack.options.batch_first(batch_first);
                self
            }

            /// The probability with which an element between two layers is dropped in training; 0 by default.
            ///
            /// # Panics
            /// If it is no probability.
            #[track_caller]
            pub fn dropout(mut self, dropout: f64) -> Self {
                self.stack.options = self.stack.options.dropout(dropout);
                self
            }

            /// Whether each layer also runs from the end to the start; `false` by default. Draws the
            /// weights that are new or change their shape.
            #[track_caller]
            pub fn bidirectional(mut self, bidirectional: bool) -> Self {
                self.stack.options = self.stack.options.bidirectional(bidirectional);
                self.stack = self.stack.drawn();
                self
            }

            /// A parameter by its name, such as `weight_ih_l0` or `bias_hh_l1_reverse`.
            pub fn weight(&self, name: &str) -> Option<&Param<T>> {
                self.stack.weights.get(name)
            }
        }

        impl<T: Real> Module for $layer<T> {
            fn members<'a>(&'a self, members: &mut Members<'a>) {
                self.stack.weights.iter().for_each(|(name, param)| members.field(name, param));
                members.field("mode", &self.stack.mode);
            }
            fn type_name(&self) -> String {
                stringify!($layer).into()
            }
            fn extra_repr(&self) -> String {
                self.stack.extra_repr()
            }
        }

        /// A deep copy: nothing is shared with the original.
        impl<T: Real> Clone for $layer<T> {
            fn clone(&self) -> Self {
                $layer { stack: self.stack.clone() }
            }
        }

        impl<T: Real> Dtype for $layer<T> {
            type With<U: Real> = $layer<U>;
            fn dtype<U: Real>(self) -> $layer<U> {
                $layer { stack: self.stack.dtype() }
            }
        }

        /// As PyTorch prints a module.
        impl<T: Real> fmt::Display for $layer<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&repr(self))
            }
        }

        /// The output alone, from a state of zeros: what a `Sequential` hands on.
        impl<T: Real> Forward<T> for $layer<T> {
            fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                Ok($layer::forward(self, x, None)?.0)
            }
        }
    };
}

/// Long short-term memory over a sequence; see [`functional::lstm`](crate::functional::lstm).
///
/// Input `(L, N, input_size)`, with `batch_first` `(N, L, input_size)`, or without a batch `(L, input_size)`; output the
/// same with `directions · hidden_size` features. The weights are named as in PyTorch, `weight_ih_l0`, `weight_hh_l0`,
/// `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0`, `weight_ih_l0_reverse`, …, and drawn from U(−√k, √k) with
/// k = 1 / hidden_size.
///
/// ```
/// use ndnn::prelude::*;
/// let lstm = LSTM::new(10, 20).num_layers(2).bidirectional(true);
/// let (output, (h, c)) = lstm.forward(&Tensor::zeros([5, 3, 10]), None)?;
/// assert_eq!((output.shape(), h.shape()), (&[5, 3, 40][..], &[4, 3, 20][..]));
/// let (output, _) = lstm.forward(&Tensor::zeros([5, 3, 10]), Some((h, c)))?;
/// # Ok::<(), ndnn::Error>(())
/// ```
pub struct LSTM<T: Real = f32> {
    stack: Stack<T>,
}

recurrent!(LSTM, gates: 4);

impl<T: Real> LSTM<T> {
    /// Projects the hidden state to this many values, fewer than `hidden_size`; 0 (the default): no projection. Draws the
    /// weights that are new or change their shape.
    ///
    /// # Panics
    /// If it is not below `hidden_size`.
    #[track_caller]
    pub fn proj_size(mut self, proj_size: usize) -> Self {
        let hidden = self.stack.hidden_size;
        assert!(proj_size < hidden, "proj_size has to be smaller than hidden_size ({hidden}), got {proj_size}");
        self.stack.proj_size = proj_size;
        self.stack = self.stack.drawn();
        self
    }

    /// The output, and the last state `(h, c)`; without a state, it starts from zeros.
    ///
    /// `h` is `(layers · directions, N, hidden_size or proj_size)`, `c` `(layers · directions, N, hidden_size)`; without `N`
    /// if the input has none.
    ///
    /// # Errors
    /// If input or state do not fit, or the sequence is empty.
    #[forward]
    pub fn forward(&self, x: &Tensor<T>, state: Option<LstmState<T>>) -> Result<(Tensor<T>, LstmState<T>)> {
        let state = state.as_ref().map(|(h, c)| (h, c));
        F::lstm(x, state, &self.stack.tensors(), self.stack.options())
    }
}
