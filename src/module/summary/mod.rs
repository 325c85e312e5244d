//! [`summary`]: a table of a model's layers with their shapes, parameters and multiply-adds.

mod print;
mod record;
mod rows;

use super::{Forward, Module, Scope, hooks::Watch, walk};
use crate::{
    Result,
    kernels::profile,
    tensor::{AnyTensor, Real, Tensors, no_grad},
};

pub(super) use record::{Observed, is_running};
use rows::Tree;

/// One row of a [`Summary`]: a call of a layer, or a layer that did not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The path from the model; empty for the model itself.
    pub path: String,
    /// The layer's type.
    pub type_name: String,
    /// How deep it lies in the model, which has depth 0.
    pub depth: usize,
    /// Its number among the rows of this depth, from 1.
    pub index: usize,
    /// Whether its forward was seen: not if it did not run, or is not marked [`#[forward]`](crate::forward).
    pub ran: bool,
    /// Whether an earlier row shows the same layer.
    pub recursive: bool,
    /// The shapes of the tensors that it got.
    pub input: Vec<Vec<usize>>,
    /// The shapes of the tensors that it returned.
    pub output: Vec<Vec<usize>>,
    /// The number of learnable values of its own, without those of its children.
    pub own_parameters: usize,
    /// Those of them that no earlier row has counted: of a layer that runs again and of a tied parameter, none.
    pub parameters: usize,
    /// Those of `parameters` that are not frozen.
    pub trainable: usize,
    /// The multiply-adds of its own in this call, without those of its children.
    pub multiply_adds: u64,
}

/// The table that [`summary`] returns. It prints as that of Python's torchinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The model first, then every call inside in its order, each below what it belongs to.
    pub rows: Vec<Row>,
    /// All learnable values; a tied parameter counts once.
    pub parameters: usize,
    /// Those of them that are not frozen.
    pub trainable: usize,
    /// All multiply-adds of one forward.
    pub multiply_adds: u64,
    /// The bytes of the model's input.
    pub input_bytes: usize,
    /// The bytes of the outputs of all layers with parameters and without children, twice: forward, and their gradients.
    pub pass_bytes: usize,
    /// The bytes of all parameters.
    pub parameter_bytes: usize,
    depth: usize,
    hide_recursive: bool,
}

impl Summary {
    /// Prints the rows down to this depth, 3 by default; those of the last one include what is inside them.
    #[inline]
    pub fn depth(mut self, depth: usize) -> Self {
        self.depth = depth;
        self
    }

    /// Does not print layers that run again.
    #[inline]
    pub fn hide_recursive(mut self) -> Self {
        self.hide_recursive = true;
        self
    }
}

/// Runs the model once and returns a table of its layers: a tree with shapes, parameters and multiply-adds, with totals and an
/// estimate of the memory of a training step. `input` is whatever the model takes: a tensor of any type, or a tuple or list.
///
/// It prints as torchinfo's `summary` does, with layers in the order of their calls, `(recursive)` for one that ran before,
/// `(shared)` for parameters that another layer has shown, frozen ones in parentheses, and `--` for nothing. Unlike torchinfo it
///
/// - counts the multiply-adds of all matrix products and convolutions that ran, attention and `matmul` in your own `forward`
///   included. torchinfo estimates them from the number of parameters, those of biases and norms included; it takes a linear layer
///   for one vector per sample, whatever the length of the sequence, and gives attention nothing;
/// - shows all tensors that go in and out, not the first one, and a row for each layer that did not run;
/// - counts a tied parameter once.
///
/// The model runs in its present mode, without gradients; its buffers, such as a batch norm's statistics, stay as they are.
///
/// ```
/// use ndnn::{nn::summary, prelude::*};
/// let model = sequential![Linear::new(784, 256), ReLU, Linear::new(256, 10)];
/// let table = summary(&model, &Tensor::zeros([64, 784]))?;
/// assert_eq!(table.parameters, 203_530);
/// println!("{table}"); // or table.depth(1), or table.to_markdown()
/// let tagger = sequential![Embedding::new(1000, 64), LSTM::new(64, 128), Linear::new(128, 10)];
/// assert_eq!(summary(&tagger, &tensor![[1, 2, 3]])?.rows[3].output, [[1, 3, 10]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the model does not accept the input; if a parameter is still [lazy](super::Param::is_lazy) after it.
pub fn summary<T: Real, X: Tensors + 'static>(model: &impl Forward<T, X>, input: &X) -> Result<Summary> {
    of(model, Some(input.tensors()), &mut || Ok(model.forward(input)?.tensors()))
}

/// As [`summary`], for a `forward` with several arguments or results: `run` calls it once.
///
/// ```
/// use ndnn::{nn::summary_of, prelude::*};
/// let bilinear = Bilinear::new(4, 3, 2);
/// let table = summary_of(&bilinear, || bilinear.forward(&Tensor::zeros([8, 4]), &Tensor::zeros([8, 3])))?;
/// assert_eq!(table.rows[0].input, [[8, 4], [8, 3]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// Those of `run`; if a parameter is still [lazy](super::Param::is_lazy) after it.
pub fn summary_of<R: Tensors>(model: &impl Module, run: impl FnOnce() -> Result<R>) -> Result<Summary> {
    let mut run = Some(run);
    of(model, None, &mut || Ok((run.take().expect("it runs once"))()?.tensors()))
}

#[inline]
fn of(
    model: &dyn Module,
    input: Option<Vec<AnyTensor>>,
    run: &mut dyn FnMut() -> Result<Vec<AnyTensor>>,
) -> Result<Summary> {
    let _watch = Watch::new();
    let isolated = || Scope::new().capture_buffers().run(|| no_grad(run)).0;
    let ((output, multiply_adds), calls) = record::recorded(|| profile::counting(isolated));
    let output = output?;
    let params = walk::named_parameters(model);
    walk::no_lazy("summary", params.iter().map(|(name, p)| (name.as_str(), p.is_lazy())))?;

    let Tree { mut rows, pass_bytes, input_bytes, .. } = Tree::of(model, calls);
    let root = &mut rows[0];
    if let Some(input) = &input {
        root.input = record::shapes(input);
    }
    root.output = record::shapes(&output);
    Ok(Summary {
        rows,
        parameters: params.iter().map(|(_, p)| p.numel()).sum(),
        trainable: params.iter().filter(|(_, p)| p.requires_grad()).map(|(_, p)| p.numel()).sum(),
        multiply_adds,
        input_bytes: input.map_or(input_bytes, |input| record::bytes(&input)),
        pass_bytes,
        parameter_bytes: params.iter().map(|(_, p)| p.numel() * record::size(p.dtype())).sum(),
        depth: 3,
        hide_recursive: false,
    })
}
