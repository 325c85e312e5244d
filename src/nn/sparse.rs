//! Embeddings; see [`functional::embedding`](crate::functional::embedding).

use ndarray::Axis;

use crate::{
    Result,
    error::or_panic,
    forward,
    functional::{self as F, EmbeddingOptions},
    kernels::memory::collected,
    module::ExtraRepr,
    nn::{Forward, Module, Param, init},
    tensor::{Real, Tensor},
};

/// A table of learnable rows, looked up by index; see [`functional::embedding`](crate::functional::embedding).
///
/// Input `(*)` of indices below `num_embeddings`, output `(*, embedding_dim)`. `weight` is `[num_embeddings,
/// embedding_dim]`, drawn from N(0, 1); the row of `padding_idx` is 0 and does not change.
///
/// ```
/// use ndnn::prelude::*;
/// let table = Embedding::new(10, 3).padding_idx(0);
/// assert_eq!(table.forward(&tensor![[1, 2, 4, 5], [4, 3, 2, 0]])?.shape(), [2, 4, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct Embedding<T: Real = f32> {
    /// `[num_embeddings, embedding_dim]`
    pub weight: Param<T>,
    options: EmbeddingOptions,
    max_norm: Option<f64>,
    norm_type: f64,
    /// The original values of the row of `padding_idx`.
    covered: Vec<f64>,
}

impl Embedding {
    /// A table of `num_embeddings` rows of `embedding_dim` values.
    #[track_caller]
    pub fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
        let weight = Param::new(Tensor::zeros([num_embeddings, embedding_dim]));
        init::normal(&weight, 0., 1.).expect("a finite deviation");
        Embedding::of(weight)
    }
}

impl<T: Real> Embedding<T> {
    /// A table with these initial rows; frozen if `freeze`.
    ///
    /// # Errors
    /// If `rows` is not a matrix.
    pub fn from_pretrained(rows: &Tensor<T>, freeze: bool) -> Result<Self> {
        let _ = F::embedding(&Tensor::zeros([0]), rows, EmbeddingOptions::default())?;
        let weight = Param::new(rows.clone());
        weight.set_requires_grad(!freeze);
        Ok(Embedding::of(weight))
    }

    fn of(weight: Param<T>) -> Self {
        Embedding { weight, options: EmbeddingOptions::default(), max_norm: None, norm_type: 2., covered: Vec::new() }
    }

    /// The row that is set to 0 and gets no gradient; a negative index counts from the end. The previous padding row
    /// gets its values back.
    ///
    /// # Panics
    /// If there is no such row.
    #[track_caller]
    pub fn padding_idx(mut self, padding_idx: isize) -> Self {
        let row = or_panic(F::padding_row(Some(padding_idx), self.weight.shape()[0]));
        let before = std::mem::replace(&mut self.options.padding_idx, row.map(|r| r as isize));
        self.weight.update(|mut table| {
            if let Some(row) = before {
                let restored = table.index_axis_mut(Axis(0), row as usize);
                restored.into_iter().zip(&self.covered).for_each(|(x, &was)| *x = T::of(was));
            }
            let mut row = table.index_axis_mut(Axis(0), row.expect("given"));
            self.covered = collected(row.iter().map(|x| x.as_f64()));
            row.fill(T::ZERO);
        });
        self
    }

    /// Scales rows down to this norm, in place, before each lookup; none by default.
    pub fn max_norm(mut self, max_norm: f64) -> Self {
        self.max_norm = Some(max_norm);
        self
    }

    /// The p of the norm that [`max_norm`](Embedding::max_norm) limits; 2 by default.
    pub fn norm_type(mut self, norm_type: f64) -> Self {
        self.norm_type = norm_type;
        self
    }

    F::embedding_setters!(except(padding_idx));

    /// The rows with the indices in `input`.
    ///
    /// # Errors
    /// If an index is out of range.
    #[forward]
    pub fn forward(&self, input: &Tensor<i64>) -> Result<Tensor<T>> {
        if let Some(max_norm) = self.max_norm {
            self.weight.update(|table| F::renorm(table, input, max_norm, self.norm_type))?;
        }
        F::embedding(input, &self.weight.tensor(), self.options)
    }

    fn extra_repr(&self) -> String {
        let shape = self.weight.shape();
        let EmbeddingOptions { padding_idx, scale_grad_by_freq } = self.options;
        ExtraRepr::new()
            .value(shape[0])
            .value(shape[1])
            .unless_default("padding_idx", padding_idx, None)
            .unless_default("max_norm", self.max_norm, None)
            .unless_default("norm_type", self.norm_type, 2.)
            .unless_default("scale_grad_by_freq", scale_grad_by_freq, false)
            .finish()
    }
}

/// The same as the method, for a `Sequential` whose input is indices.
impl<T: Real> Forward<T, Tensor<i64>> for Embedding<T> {
    fn forward(&self, input: &Tensor<i64>) -> Result<Tensor<T>> {
        Embedding::forward(self, input)
    }
}
