//! Recurrent layers and their cells; see [`functional::rnn`](crate::functional::rnn()),
//! [`functional::lstm`](crate::functional::lstm) and [`functional::gru`](crate::functional::gru).

use crate::{
    Error, Result, forward,
    functional::{
        GruKind, Lengths, LstmKind, PackedSequence, RecurrentKind, RecurrentOptions, RecurrentWeights, RnnKind,
        RnnNonlinearity,
        packed::{PackOptions, PadPackedOptions, pack_padded_sequence, pad_packed_sequence},
        recurrent_setters,
    },
    kernels::sizes::must,
    module::{ExtraRepr, optional},
    nn::{Forward, Mode, Module, Param, ParameterDict, init},
    tensor::{Real, Tensor},
};

/// A recurrent network over a sequence: [`RNN`], [`LSTM`], [`GRU`].
///
/// Input `(L, N, input_size)`, with `batch_first` `(N, L, input_size)`, or without a batch `(L, input_size)`; output
/// the same with `directions · hidden_size` features. The parts of the state are `(layers · directions, N,
/// hidden_size)`, without `N` if the input has none. The weights are named as in PyTorch, `weight_ih_l0`,
/// `weight_hh_l0`, `bias_ih_l0`, `bias_hh_l0`, `weight_hr_l0`, `weight_ih_l0_reverse`, …, and drawn from U(−√k, √k)
/// with k = 1 / hidden_size.
#[derive(Module)]
#[module(repr, name)]
pub struct Recurrent<K: RecurrentKind, T: Real = f32> {
    #[module(skip)]
    kind: K,
    input_size: usize,
    hidden_size: usize,
    num_layers: usize,
    bias: bool,
    /// 0 if the hidden state is not projected.
    proj_size: usize,
    options: RecurrentOptions,
    /// By layer, then direction.
    #[module(flatten)]
    weights: ParameterDict<T>,
    mode: Mode,
}

/// An Elman network over a sequence; see [`functional::rnn`](crate::functional::rnn()).
///
/// Input `(L, N, input_size)`, output the same with `directions · hidden_size` features, state `h`; for details see
/// [`Recurrent`].
///
/// ```
/// use ndnn::prelude::*;
/// let rnn = RNN::new(10, 20).num_layers(2).nonlinearity("relu");
/// let (output, h) = rnn.forward(&Tensor::zeros([5, 3, 10]), None)?;
/// assert_eq!((output.shape(), h.shape()), (&[5, 3, 20][..], &[2, 3, 20][..]));
/// let (output, _) = rnn.forward(&Tensor::zeros([5, 3, 10]), Some(h))?;
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type RNN<T = f32> = Recurrent<RnnKind, T>;

/// Long short-term memory over a sequence; see [`functional::lstm`](crate::functional::lstm).
///
/// Input `(L, N, input_size)`, output the same with `directions · hidden_size` features, state `(h, c)`; for details
/// see [`Recurrent`]. With `proj_size`, output and `h` have this many values instead of `hidden_size`.
///
/// ```
/// use ndnn::prelude::*;
/// let lstm = LSTM::new(10, 20).num_layers(2).bidirectional(true);
/// let (output, (h, c)) = lstm.forward(&Tensor::zeros([5, 3, 10]), None)?;
/// assert_eq!((output.shape(), h.shape()), (&[5, 3, 40][..], &[4, 3, 20][..]));
/// let (output, _) = lstm.forward(&Tensor::zeros([5, 3, 10]), Some((h, c)))?;
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type LSTM<T = f32> = Recurrent<LstmKind, T>;

/// Gated recurrent units over a sequence; see [`functional::gru`](crate::functional::gru).
///
/// Input `(L, N, input_size)`, output the same with `directions · hidden_size` features, state `h`; for details see
/// [`Recurrent`].
///
/// ```
/// use ndnn::prelude::*;
/// let gru = GRU::new(10, 20).num_layers(2).batch_first(true);
/// let (output, h) = gru.forward(&Tensor::zeros([3, 5, 10]), None)?;
/// assert_eq!((output.shape(), h.shape()), (&[3, 5, 20][..], &[2, 3, 20][..]));
/// let (output, _) = gru.forward(&Tensor::zeros([3, 5, 10]), Some(h))?;
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type GRU<T = f32> = Recurrent<GruKind, T>;

impl<K: RecurrentKind> Recurrent<K> {
    /// A network with one layer in one direction, with biases.
    ///
    /// # Panics
    /// If a size is 0.
    #[track_caller]
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        assert!(input_size > 0 && hidden_size > 0, "sizes are above 0, got {input_size} inputs, {hidden_size} hidden");
        let (kind, options, weights, mode) = Default::default();
        let layer = Recurrent {
            kind,
            input_size,
            hidden_size,
            num_layers: 1,
            bias: true,
            proj_size: 0,
            options,
            weights,
            mode,
        };
        layer.drawn()
    }
}

impl<K: RecurrentKind, T: Real> Recurrent<K, T> {
    recurrent_setters!(through with, except(training));

    /// The number of layers, each of which takes the outputs of the one before; 1 by default. Initialises the weights
    /// that are new or change their shape, as every setter does.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn num_layers(mut self, num_layers: usize) -> Self {
        assert!(num_layers > 0, "num_layers is at least 1");
        self.num_layers = num_layers;
        self.drawn()
    }

    /// With (the default) or without biases; biases that were removed before are initialised again.
    #[track_caller]
    pub fn bias(mut self, bias: bool) -> Self {
        self.bias = bias;
        self.drawn()
    }

    /// A parameter by its name, such as `weight_ih_l0` or `bias_hh_l1_reverse`.
    pub fn weight(&self, name: &str) -> Option<&Param<T>> {
        self.weights.get(name)
    }

    #[track_caller]
    fn with(mut self, options: RecurrentOptions) -> Self {
        self.options = options;
        self.drawn()
    }

    /// The suffixes of the names of the weights, per layer and direction: `l0`, `l0_reverse`, `l1`, ….
    fn places(&self) -> Vec<String> {
        let suffixes = if self.options.bidirectional { &["", "_reverse"][..] } else { &[""] };
        (0..self.num_layers).flat_map(|layer| suffixes.iter().map(move |suffix| format!("l{layer}{suffix}"))).collect()
    }

    /// With the weights that the options require: existing ones with the right shape are kept, others are new.
    #[track_caller]
    fn drawn(mut self) -> Self {
        let (rows, hidden) = (K::GATES.saturating_mul(self.hidden_size), self.hidden_size);
        let width = if self.proj_size > 0 { self.proj_size } else { hidden };
        let directions = 1 + usize::from(self.options.bidirectional);
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
                // Not a closure, which would lose the caller's line.
                let weight = match before.get(&name).filter(|p| p.shape() == shape) {
                    Some(kept) => kept.clone(),
                    None => init::drawn(&shape, hidden),
                };
                self.weights.insert(name, weight);
            }
        }
        self
    }

    /// A snapshot of the weights, as the functions take them: in the order in which they were initialised.
    fn tensors(&self) -> Vec<RecurrentWeights<T>> {
        let mut next = self.weights.iter().map(|(_, param)| param.tensor());
        std::iter::from_fn(|| {
            Some(RecurrentWeights {
                weight_ih: next.next()?,
                weight_hh: next.next()?,
                bias_ih: self.bias.then(|| next.next()).flatten(),
                bias_hh: self.bias.then(|| next.next()).flatten(),
                weight_hr: (self.proj_size > 0).then(|| next.next()).flatten(),
            })
        })
        .collect()
    }

    fn type_name(&self) -> String {
        K::NAME.into()
    }

    fn extra_repr(&self) -> String {
        let RecurrentOptions { batch_first, dropout, bidirectional, .. } = self.options;
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

    /// The output, and the last state. Without a state, it starts from zeros.
    ///
    /// # Errors
    /// If input or state do not match, or the sequence is empty.
    #[forward]
    pub fn forward(&self, x: &Tensor<T>, state: Option<K::State<T>>) -> Result<(Tensor<T>, K::State<T>)> {
        self.kind.sequence(x, state, &self.tensors(), self.options.training(self.mode.is_training()))
    }

    /// The output and the last state for sequences of different lengths, in any order, of which the first `lengths[n]`
    /// steps are there and the others are padding. Each is as if it ran alone: padding touches neither the state nor a
    /// gradient, the reverse direction begins at the sequence's last step, and the output is 0 at padded steps.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let gru = GRU::new(10, 20).bidirectional(true).batch_first(true);
    /// let (output, h) = gru.forward_lengths(&Tensor::ones([3, 5, 10]), None, &[2, 5, 4])?;
    /// assert_eq!((output.shape(), h.shape()), (&[3, 5, 40][..], &[2, 3, 20][..]));
    /// assert_eq!(output.select(0, 0)?.select(0, 2)?, Tensor::zeros([40]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If input or state do not match, there is not one length for each sequence, or one is 0 or longer than the input.
    #[forward]
    pub fn forward_lengths(
        &self,
        x: &Tensor<T>,
        state: Option<K::State<T>>,
        lengths: impl Into<Lengths>,
    ) -> Result<(Tensor<T>, K::State<T>)> {
        let batch_first = self.options.get_batch_first();
        if x.ndim() != 3 {
            let expected = if batch_first { "(N, L, input)" } else { "(L, N, input)" };
            let what = format!("expected an input {expected} with the lengths of its sequences, got {:?}", x.shape());
            return Err(Error::shape(K::NAME, what));
        }
        let options = PackOptions::default().batch_first(batch_first).enforce_sorted(false);
        let packed = pack_padded_sequence(x, lengths, options)?;
        let (packed, end) = self.run(&packed, state)?;
        let options = PadPackedOptions::default().batch_first(batch_first);
        let steps = x.shape()[usize::from(batch_first)];
        Ok((pad_packed_sequence(&packed, options.total_length(steps))?.0, end))
    }

    /// The output and the last state for packed sequences; the state is in the order of the caller's batch.
    ///
    /// ```
    /// use ndnn::{nn::utils::rnn::{pack_sequence, unpack_sequence}, prelude::*};
    /// let packed = pack_sequence(&[Tensor::ones([2, 10]), Tensor::ones([5, 10])], false)?;
    /// let (output, (h, c)) = LSTM::new(10, 20).forward_packed(&packed, None)?;
    /// assert_eq!((unpack_sequence(&output)?[1].shape(), h.shape()), (&[5, 20][..], &[1, 2, 20][..]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If input or state do not match.
    #[forward]
    pub fn forward_packed(
        &self,
        x: &PackedSequence<T>,
        state: Option<K::State<T>>,
    ) -> Result<(PackedSequence<T>, K::State<T>)> {
        self.run(x, state)
    }

    fn run(&self, x: &PackedSequence<T>, state: Option<K::State<T>>) -> Result<(PackedSequence<T>, K::State<T>)> {
        self.kind.packed(x, state, &self.tensors(), self.options.training(self.mode.is_training()))
    }
}

/// The setter `nonlinearity` of an RNN and its cell.
macro_rules! nonlinearity {
    ($layer:ident) => {
        impl<T: Real> $layer<T> {
            /// What is applied to each sum: `"tanh"` (the default) or `"relu"`.
            ///
            /// # Panics
            /// If the word is another one.
            #[track_caller]
            pub fn nonlinearity(mut self, nonlinearity: impl Into<RnnNonlinearity>) -> Self {
                self.kind.nonlinearity = nonlinearity.into();
                self
            }
        }
    };
}
nonlinearity!(RNN);
nonlinearity!(RNNCell);

impl<T: Real> LSTM<T> {
    /// Projects the hidden state to this many values, fewer than `hidden_size`; 0 (the default) means no projection.
    /// Initialises the weights that are new or change their shape.
    ///
    /// # Panics
    /// If it is not below `hidden_size`.
    #[track_caller]
    pub fn proj_size(mut self, proj_size: usize) -> Self {
        let hidden = self.hidden_size;
        assert!(proj_size < hidden, "proj_size has to be smaller than hidden_size ({hidden}), got {proj_size}");
        self.proj_size = proj_size;
        self.drawn()
    }
}

/// The output alone, from a state of zeros, for use in a `Sequential`.
impl<K: RecurrentKind, T: Real> Forward<T> for Recurrent<K, T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        Ok(Recurrent::forward(self, x, None)?.0)
    }
}

/// One step of a recurrent network: [`RNNCell`], [`LSTMCell`], [`GRUCell`].
///
/// Input `(N, input_size)` or `(input_size)`; the parts of the state are `(N, hidden_size)` or `(hidden_size)`. The
/// weights are drawn from U(−√k, √k) with k = 1 / hidden_size; G is the number of gates, 4 for an LSTM, 3 for a
/// GRU, 1 for an RNN.
#[derive(Module)]
#[module(repr, name)]
pub struct RecurrentCell<K: RecurrentKind, T: Real = f32> {
    #[module(skip)]
    kind: K,
    /// `[G · hidden_size, input_size]`
    pub weight_ih: Param<T>,
    /// `[G · hidden_size, hidden_size]`
    pub weight_hh: Param<T>,
    /// `[G · hidden_size]`
    pub bias_ih: Option<Param<T>>,
    /// `[G · hidden_size]`
    pub bias_hh: Option<Param<T>>,
}

/// One step of an [`RNN`]; see [`functional::rnn_cell`](crate::functional::rnn_cell).
///
/// Input `(N, input_size)` or `(input_size)`, state `(N, hidden_size)` or `(hidden_size)`.
///
/// ```
/// use ndnn::prelude::*;
/// let cell = RNNCell::new(10, 20).nonlinearity("relu");
/// let mut h = None;
/// for x in Tensor::zeros([5, 3, 10]).unbind(0)? {
///     h = Some(cell.forward(&x, h)?);
/// }
/// assert_eq!(h.expect("there were steps").shape(), [3, 20]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type RNNCell<T = f32> = RecurrentCell<RnnKind, T>;

/// One step of an [`LSTM`]; see [`functional::lstm_cell`](crate::functional::lstm_cell).
///
/// Input `(N, input_size)` or `(input_size)`, state `(h, c)`, each `(N, hidden_size)` or `(hidden_size)`.
///
/// ```
/// use ndnn::prelude::*;
/// let cell = LSTMCell::new(10, 20);
/// let mut state = None;
/// for x in Tensor::zeros([5, 3, 10]).unbind(0)? {
///     state = Some(cell.forward(&x, state)?);
/// }
/// let (h, c) = state.expect("there were steps");
/// assert_eq!((h.shape(), c.shape()), (&[3, 20][..], &[3, 20][..]));
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type LSTMCell<T = f32> = RecurrentCell<LstmKind, T>;

/// One step of a [`GRU`]; see [`functional::gru_cell`](crate::functional::gru_cell).
///
/// Input `(N, input_size)` or `(input_size)`, state `(N, hidden_size)` or `(hidden_size)`.
///
/// ```
/// use ndnn::prelude::*;
/// let cell = GRUCell::new(10, 20);
/// let mut h = None;
/// for x in Tensor::zeros([5, 3, 10]).unbind(0)? {
///     h = Some(cell.forward(&x, h)?);
/// }
/// assert_eq!(h.expect("there were steps").shape(), [3, 20]);
/// # Ok::<(), ndnn::Error>(())
/// ```
pub type GRUCell<T = f32> = RecurrentCell<GruKind, T>;

impl<K: RecurrentKind> RecurrentCell<K> {
    /// A cell with biases.
    #[track_caller]
    pub fn new(input_size: usize, hidden_size: usize) -> Self {
        let rows = K::GATES.saturating_mul(hidden_size);
        let weight_ih = init::drawn(&[rows, input_size], hidden_size);
        let weight_hh = init::drawn(&[rows, hidden_size], hidden_size);
        RecurrentCell { kind: K::default(), weight_ih, weight_hh, bias_ih: None, bias_hh: None }.bias(true)
    }
}

impl<K: RecurrentKind, T: Real> RecurrentCell<K, T> {
    /// With (the default) or without biases; biases that were removed before are initialised again.
    pub fn bias(mut self, bias: bool) -> Self {
        let shape = self.weight_hh.shape();
        let new = || init::drawn(&shape[..1], shape[1]);
        (self.bias_ih, self.bias_hh) = (optional(self.bias_ih, bias, new), optional(self.bias_hh, bias, new));
        self
    }

    fn type_name(&self) -> String {
        format!("{}Cell", K::NAME)
    }

    fn extra_repr(&self) -> String {
        let sizes = ExtraRepr::new().value(self.weight_ih.shape()[1]).value(self.weight_hh.shape()[1]);
        let sizes = sizes.unless_default("bias", self.bias_ih.is_some(), true);
        sizes.unless_default("nonlinearity", self.kind.nonlinearity(), RnnNonlinearity::Tanh).finish()
    }

    /// The next state. Without a state, it starts from zeros.
    ///
    /// # Errors
    /// If input or state do not match.
    #[forward]
    pub fn forward(&self, x: &Tensor<T>, state: Option<K::State<T>>) -> Result<K::State<T>> {
        let bias = |param: &Option<Param<T>>| param.as_ref().map(Param::tensor);
        let weights = RecurrentWeights {
            weight_ih: self.weight_ih.tensor(),
            weight_hh: self.weight_hh.tensor(),
            bias_ih: bias(&self.bias_ih),
            bias_hh: bias(&self.bias_hh),
            weight_hr: None,
        };
        self.kind.cell(x, state, &weights)
    }
}
