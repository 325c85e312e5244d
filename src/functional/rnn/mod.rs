//! Recurrent networks: the functions, and one step per kind.

mod driver;
mod fused;
pub(crate) mod packed;
mod step;
#[cfg(test)]
mod tests;

use driver::Driver;
pub use packed::PackedSequence;

use crate::{
    Result,
    functional::{options, words},
    kernels::recurrent::Kind,
    tensor::{Real, Tensor, Tensors},
};

options! {
    /// The options of recurrent networks such as [`lstm`] and [`gru`].
    pub struct RecurrentOptions, setters recurrent_setters {
        /// Whether each layer also runs from the end to the start, with separate weights; `false` by default.
        bidirectional: of bool = false;
        /// Whether input and output are `(N, L, *)` and not `(L, N, *)`; `false` by default. It does not apply to the
        /// state.
        batch_first: of bool = false;
        /// The probability with which an element between two layers is dropped in training; 0 by default.
        dropout: of f64 = 0., if |p| (0. ..=1.).contains(&p), "dropout is a probability, from 0 to 1";
        /// Whether elements are dropped; `false` by default.
        training: of bool = false;
    }
}

/// The weights of one layer in one direction: G blocks of `hidden` rows, one per gate (4 for an LSTM, 3 for a GRU).
#[derive(Clone, Debug)]
pub struct RecurrentWeights<T: Real = f32> {
    /// `[G · hidden, input]`
    pub weight_ih: Tensor<T>,
    /// `[G · hidden, hidden]`, or `[G · hidden, proj]`
    pub weight_hh: Tensor<T>,
    /// `[G · hidden]`
    pub bias_ih: Option<Tensor<T>>,
    /// `[G · hidden]`
    pub bias_hh: Option<Tensor<T>>,
    /// `[proj, hidden]`: projects the hidden state of an LSTM to a smaller one.
    pub weight_hr: Option<Tensor<T>>,
}

impl<T: Real> RecurrentWeights<T> {
    /// The weights of the input and of the hidden state, without biases.
    pub fn new(weight_ih: &Tensor<T>, weight_hh: &Tensor<T>) -> Self {
        let (weight_ih, weight_hh) = (weight_ih.clone(), weight_hh.clone());
        RecurrentWeights { weight_ih, weight_hh, bias_ih: None, bias_hh: None, weight_hr: None }
    }

    /// With biases.
    pub fn biases(mut self, bias_ih: &Tensor<T>, bias_hh: &Tensor<T>) -> Self {
        (self.bias_ih, self.bias_hh) = (Some(bias_ih.clone()), Some(bias_hh.clone()));
        self
    }

    /// With a projection of the hidden state.
    pub fn projection(mut self, weight_hr: &Tensor<T>) -> Self {
        self.weight_hr = Some(weight_hr.clone());
        self
    }
}

mod sealed {
    pub trait Sealed {}
}

/// The state of a recurrent network between two steps: `h`, or `(h, c)`.
pub trait RecurrentState<T: Real>: sealed::Sealed + Tensors + Clone {
    #[doc(hidden)]
    const PARTS: usize;
    #[doc(hidden)]
    fn part(&self, part: usize) -> &Tensor<T>;
    #[doc(hidden)]
    fn of(part: impl FnMut(usize) -> Result<Tensor<T>>) -> Result<Self>;
}

impl<T: Real> sealed::Sealed for Tensor<T> {}
impl<T: Real> RecurrentState<T> for Tensor<T> {
    const PARTS: usize = 1;
    fn part(&self, _: usize) -> &Tensor<T> {
        self
    }
    fn of(mut part: impl FnMut(usize) -> Result<Tensor<T>>) -> Result<Self> {
        part(0)
    }
}

/// The state of an LSTM: `(h, c)`.
pub type LstmState<T = f32> = (Tensor<T>, Tensor<T>);

impl<T: Real> sealed::Sealed for LstmState<T> {}
impl<T: Real> RecurrentState<T> for LstmState<T> {
    const PARTS: usize = 2;
    fn part(&self, part: usize) -> &Tensor<T> {
        if part == 0 { &self.0 } else { &self.1 }
    }
    fn of(mut part: impl FnMut(usize) -> Result<Tensor<T>>) -> Result<Self> {
        Ok((part(0)?, part(1)?))
    }
}

/// What distinguishes one kind of recurrent network from another: [`RnnKind`], [`LstmKind`], [`GruKind`]. The layers
/// [`Recurrent`](crate::nn::Recurrent) and [`RecurrentCell`](crate::nn::RecurrentCell) are written once for all kinds.
pub trait RecurrentKind: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// The name of its layer; that of its cell is this name followed by `Cell`.
    const NAME: &'static str;
    /// The number of blocks of `hidden` rows in a weight.
    const GATES: usize;
    /// The names of its functions over a sequence, over packed ones, and for one step.
    #[doc(hidden)]
    const OPS: [&'static str; 3];
    /// The state that is passed from step to step: its first or only part is the output.
    type State<T: Real>: RecurrentState<T>;

    /// What an RNN applies to each sum; the others have no choice.
    #[doc(hidden)]
    fn nonlinearity(self) -> RnnNonlinearity {
        RnnNonlinearity::Tanh
    }

    /// The kernel's name for it.
    #[doc(hidden)]
    fn kernel(self) -> Kind;

    /// The function of this kind over a sequence.
    #[doc(hidden)]
    fn sequence<T: Real>(
        self,
        input: &Tensor<T>,
        state: Option<Self::State<T>>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(Tensor<T>, Self::State<T>)> {
        let (output, end) = driver::sequence(driver_of(self, 0), input, state.map(parts), weights, options)?;
        Ok((output, state_of(end)?))
    }

    /// The function of this kind over packed sequences.
    #[doc(hidden)]
    fn packed<T: Real>(
        self,
        input: &PackedSequence<T>,
        state: Option<Self::State<T>>,
        weights: &[RecurrentWeights<T>],
        options: RecurrentOptions,
    ) -> Result<(PackedSequence<T>, Self::State<T>)> {
        let (output, end) = driver::packed(driver_of(self, 1), input, state.map(parts), weights, options)?;
        Ok((output, state_of(end)?))
    }

    /// The function of this kind for one step.
    #[doc(hidden)]
    fn cell<T: Real>(
        self,
        input: &Tensor<T>,
        state: Option<Self::State<T>>,
        weights: &RecurrentWeights<T>,
    ) -> Result<Self::State<T>> {
        state_of(driver::cell(driver_of(self, 2), input, state.map(parts), weights)?)
    }
}

fn driver_of<K: RecurrentKind>(kind: K, function: usize) -> Driver {
    Driver { kind: kind.kernel(), op: K::OPS[function] }
}

/// The parts of a state: the driver, which is compiled once for all kinds, has them in a list.
fn parts<T: Real, S: RecurrentState<T>>(state: S) -> Vec<Tensor<T>> {
    (0..S::PARTS).map(|part| state.part(part).clone()).collect()
}

fn state_of<T: Real, S: RecurrentState<T>>(mut parts: Vec<Tensor<T>>) -> Result<S> {
    S::of(|_| Ok(parts.remove(0)))
}

/// The three functions of a kind: over a sequence, over packed ones, and for one step.
macro_rules! functions {
    (
        $kind:expr, $state:ident $(, $own:ident: $ty:ident)?;
        $(#[$of_sequence:meta])* $sequence:ident;
        $packed:ident;
        $(#[$of_cell:meta])* $cell:ident;
    ) => {
        $(#[$of_sequence])*
        ///
        /// # Errors
        /// If the input, the state or the weights do not match, or the sequence is empty.
        pub fn $sequence<T: Real>(
            input: &Tensor<T>,
            state: Option<$state<T>>,
            weights: &[RecurrentWeights<T>],
            $($own: $ty,)?
            options: RecurrentOptions,
        ) -> Result<(Tensor<T>, $state<T>)> {
            RecurrentKind::sequence($kind, input, state, weights, options)
        }

        #[doc = concat!("[`", stringify!($sequence), "`](", stringify!($sequence), "()) over sequences of different lengths, each")]
        /// as if it ran alone; the state is in the order of the caller's batch.
        ///
        /// # Errors
        /// If the input, the state or the weights do not match.
        pub fn $packed<T: Real>(
            input: &PackedSequence<T>,
            state: Option<$state<T>>,
            weights: &[RecurrentWeights<T>],
            $($own: $ty,)?
            options: RecurrentOptions,
        ) -> Result<(PackedSequence<T>, $state<T>)> {
            RecurrentKind::packed($kind, input, state, weights, options)
        }

        $(#[$of_cell])*
        ///
        /// # Errors
        /// If the shapes do not match.
        pub fn $cell<T: Real>(
            input: &Tensor<T>,
            state: Option<$state<T>>,
            weights: &RecurrentWeights<T>,
            $($own: $ty,)?
        ) -> Result<$state<T>> {
            RecurrentKind::cell($kind, input, state, weights)
        }
    };
}

// ----------------------------------------------------------------------------------------------------------------- RNN

words! {
    /// What an [`rnn`] applies to each sum.
    pub enum RnnNonlinearity, "nonlinearity" {
        /// The hyperbolic tangent; the default.
        #[default]
        Tanh = "tanh",
        /// `max(x, 0)`
        Relu = "relu",
    }
}

/// The kind of [`RNN`](crate::nn::RNN) and [`RNNCell`](crate::nn::RNNCell).
#[derive(Clone, Copy, Debug, Default)]
pub struct RnnKind {
    pub(crate) nonlinearity: RnnNonlinearity,
}

impl sealed::Sealed for RnnKind {}
impl RecurrentKind for RnnKind {
    const NAME: &'static str = "RNN";
    const GATES: usize = 1;
    const OPS: [&'static str; 3] = ["rnn", "rnn_packed", "rnn_cell"];
    type State<T: Real> = Tensor<T>;

    fn nonlinearity(self) -> RnnNonlinearity {
        self.nonlinearity
    }

    fn kernel(self) -> Kind {
        match self.nonlinearity {
            RnnNonlinearity::Tanh => Kind::Tanh,
            RnnNonlinearity::Relu => Kind::Relu,
        }
    }
}

functions! {
    RnnKind { nonlinearity }, Tensor, nonlinearity: RnnNonlinearity;
    /// An Elman network over a sequence: [`rnn_cell`] step by step, in one or more layers, each in one direction or two,
    /// whose outputs are concatenated and are the input of the next layer.
    ///
    /// `input` is `(L, N, input)`, with `batch_first` `(N, L, input)`, or without a batch `(L, input)`. The state `h` is
    /// `(layers · directions, N, hidden)` (without `N` if the input has none), or zeros if it is `None`. Returns the output
    /// `(L, N, directions · hidden)`, with the axes of the input, and the last state. `weights` are those of layer 0,
    /// forward and backward, then those of layer 1, …. As torch.nn.RNN; Elman, 1990.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentOptions, RecurrentWeights, RnnNonlinearity}, prelude::*};
    /// let weights: [RecurrentWeights; 1] = [RecurrentWeights::new(&Tensor::ones([3, 2]), &Tensor::ones([3, 3]))];
    /// let x = Tensor::ones([7, 5, 2]);
    /// let (output, h) = F::rnn(&x, None, &weights, RnnNonlinearity::Relu, RecurrentOptions::default())?;
    /// assert_eq!((output.shape(), h.shape()), (&[7, 5, 3][..], &[1, 5, 3][..]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    rnn;
    rnn_packed;
    /// One step of an Elman network: `h' = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or `max(…, 0)`.
    ///
    /// `input` is `(N, input)` or `(input)`, the state `h` is `(N, hidden)` or `(hidden)`, or zeros if it is `None`; the
    /// result has the form of the state.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentWeights, RnnNonlinearity}, prelude::*};
    /// let weights: RecurrentWeights = RecurrentWeights::new(&Tensor::ones([3, 2]), &Tensor::ones([3, 3]));
    /// let h = F::rnn_cell(&Tensor::ones([5, 2]), None, &weights, RnnNonlinearity::Relu)?;
    /// assert_eq!(h, Tensor::full([5, 3], 2.0));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    rnn_cell;
}

// ---------------------------------------------------------------------------------------------------------------- LSTM

/// The kind of [`LSTM`](crate::nn::LSTM) and [`LSTMCell`](crate::nn::LSTMCell).
#[derive(Clone, Copy, Debug, Default)]
pub struct LstmKind;

impl sealed::Sealed for LstmKind {}
impl RecurrentKind for LstmKind {
    const NAME: &'static str = "LSTM";
    const GATES: usize = 4;
    const OPS: [&'static str; 3] = ["lstm", "lstm_packed", "lstm_cell"];
    type State<T: Real> = LstmState<T>;

    fn kernel(self) -> Kind {
        Kind::Lstm
    }
}

functions! {
    LstmKind, LstmState;
    /// Long short-term memory over a sequence: [`lstm_cell`] step by step, in one or more layers, each in one direction or
    /// two, whose outputs are concatenated and are the input of the next layer.
    ///
    /// `input` is `(L, N, input)`, with `batch_first` `(N, L, input)`, or without a batch `(L, input)`. The state `(h, c)`
    /// is `(layers · directions, N, hidden)` each (`h` has `proj` values if the weights project; there is no `N` if the
    /// input has none), or zeros if it is `None`. Returns the output `(L, N, directions · hidden)`, with the axes of the
    /// input, and the last state. `weights` are those of layer 0, forward and backward, then those of layer 1, …. As
    /// torch.nn.LSTM; Hochreiter and Schmidhuber, 1997.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentOptions, RecurrentWeights}, prelude::*};
    /// let weights: [RecurrentWeights; 1] = [RecurrentWeights::new(&Tensor::ones([12, 2]), &Tensor::ones([12, 3]))];
    /// let (output, (h, c)) = F::lstm(&Tensor::ones([7, 5, 2]), None, &weights, RecurrentOptions::default())?;
    /// assert_eq!((output.shape(), h.shape()), (&[7, 5, 3][..], &[1, 5, 3][..]));
    /// let (output, _) = F::lstm(&Tensor::ones([7, 5, 2]), Some((h, c)), &weights, RecurrentOptions::default())?;
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    lstm;
    lstm_packed;
    /// One step of an LSTM:
    /// `i, f, g, o = W_ih x + b_ih + W_hh h + b_hh`, `c' = σ(f) c + σ(i) tanh(g)`, `h' = σ(o) tanh(c')`; with `weight_hr`,
    /// `h' = W_hr (σ(o) tanh(c'))`.
    ///
    /// `input` is `(N, input)` or `(input)`, the state `(h, c)` is `(N, hidden)` or `(hidden)` each, or zeros if it is
    /// `None`; the result has the form of the state.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentWeights}, prelude::*};
    /// let weights: RecurrentWeights = RecurrentWeights::new(&Tensor::ones([12, 2]), &Tensor::ones([12, 3]));
    /// let (h, c) = F::lstm_cell(&Tensor::ones([5, 2]), None, &weights)?;
    /// let (h, c) = F::lstm_cell(&Tensor::ones([5, 2]), Some((h, c)), &weights)?;
    /// assert_eq!((h.shape(), c.shape()), (&[5, 3][..], &[5, 3][..]));
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    lstm_cell;
}

// ----------------------------------------------------------------------------------------------------------------- GRU

/// The kind of [`GRU`](crate::nn::GRU) and [`GRUCell`](crate::nn::GRUCell).
#[derive(Clone, Copy, Debug, Default)]
pub struct GruKind;

impl sealed::Sealed for GruKind {}
impl RecurrentKind for GruKind {
    const NAME: &'static str = "GRU";
    const GATES: usize = 3;
    const OPS: [&'static str; 3] = ["gru", "gru_packed", "gru_cell"];
    type State<T: Real> = Tensor<T>;

    fn kernel(self) -> Kind {
        Kind::Gru
    }
}

functions! {
    GruKind, Tensor;
    /// Gated recurrent units over a sequence: [`gru_cell`] step by step, in one or more layers, each in one direction or
    /// two, whose outputs are concatenated and are the input of the next layer.
    ///
    /// `input` is `(L, N, input)`, with `batch_first` `(N, L, input)`, or without a batch `(L, input)`. The state `h` is
    /// `(layers · directions, N, hidden)` (without `N` if the input has none), or zeros if it is `None`. Returns the output
    /// `(L, N, directions · hidden)`, with the axes of the input, and the last state. `weights` are those of layer 0,
    /// forward and backward, then those of layer 1, …. As torch.nn.GRU; Cho et al., 2014.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentOptions, RecurrentWeights}, prelude::*};
    /// let weights: [RecurrentWeights; 1] = [RecurrentWeights::new(&Tensor::ones([9, 2]), &Tensor::ones([9, 3]))];
    /// let (output, h) = F::gru(&Tensor::ones([7, 5, 2]), None, &weights, RecurrentOptions::default())?;
    /// assert_eq!((output.shape(), h.shape()), (&[7, 5, 3][..], &[1, 5, 3][..]));
    /// let (output, _) = F::gru(&Tensor::ones([7, 5, 2]), Some(h), &weights, RecurrentOptions::default())?;
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    gru;
    gru_packed;
    /// One step of a GRU: `r = σ(W_ir x + b_ir + W_hr h + b_hr)`, `z = σ(W_iz x + b_iz + W_hz h + b_hz)`,
    /// `n = tanh(W_in x + b_in + r (W_hn h + b_hn))`, `h' = (1 − z) n + z h`.
    ///
    /// `input` is `(N, input)` or `(input)`, the state `h` is `(N, hidden)` or `(hidden)`, or zeros if it is `None`; the
    /// result has the form of the state. The blocks of the weights are those of r, z and n.
    ///
    /// ```
    /// use ndnn::{functional::{self as F, RecurrentWeights}, prelude::*};
    /// let weights: RecurrentWeights = RecurrentWeights::new(&Tensor::ones([9, 2]), &Tensor::ones([9, 3]));
    /// let h = F::gru_cell(&Tensor::ones([5, 2]), None, &weights)?;
    /// let h = F::gru_cell(&Tensor::ones([5, 2]), Some(h), &weights)?;
    /// assert_eq!(h.shape(), [5, 3]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    gru_cell;
}
