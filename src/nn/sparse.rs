//! Embeddings; see [`functional::embedding`](crate::functional::embedding) and
//! [`functional::embedding_bag`](crate::functional::embedding_bag).

use ndarray::Axis;

use crate::{
    Result,
    error::or_panic,
    forward,
    functional::{self as F, EmbeddingBagOptions, EmbeddingOptions, setters},
    kernels::memory::collected,
    module::ExtraRepr,
    nn::{Forward, Module, Param, init},
    tensor::{Real, Tensor},
};

/// What embeddings share: a table as it starts, and the setters that concern it.
macro_rules! table {
    ($name:ident, $options:ident) => {
        impl $name {
            /// A table of `num_embeddings` rows of `embedding_dim` values.
            #[track_caller]
            pub fn new(num_embeddings: usize, embedding_dim: usize) -> Self {
                let weight = Param::new(Tensor::zeros([num_embeddings, embedding_dim]));
                init::normal(&weight, 0., 1.).expect("a finite deviation");
                $name::of(weight, false)
            }
        }

        impl<T: Real> $name<T> {
            /// A table with these initial rows; frozen if `freeze`.
            ///
            /// # Errors
            /// If `rows` is not a matrix.
            pub fn from_pretrained(rows: &Tensor<T>, freeze: bool) -> Result<Self> {
                let _ = F::embedding(&Tensor::zeros([0]), rows, EmbeddingOptions::default())?;
                let weight = Param::new(rows.clone());
                weight.set_requires_grad(!freeze);
                Ok($name::of(weight, true))
            }

            fn of(weight: Param<T>, pretrained: bool) -> Self {
                let (options, covered) = ($options::default(), Vec::new());
                $name { weight, options, max_norm: None, norm_type: 2., pretrained, covered }
            }

            /// The row that gets no gradient; a negative index counts from the end. It is set to 0, unless the rows were given,
            /// and the previous padding row gets its values back.
            ///
            /// # Panics
            /// If there is no such row.
            #[track_caller]
            pub fn padding_idx(mut self, padding_idx: isize) -> Self {
                let row = or_panic(F::padding_row(stringify!($name), Some(padding_idx), self.weight.shape()[0]));
                let before = std::mem::replace(&mut self.options.padding_idx, row.map(|r| r as isize));
                if !self.pretrained {
                    self.covered = cover(&self.weight, before, row.expect("given"), &self.covered);
                }
                self
            }

            setters! {
                /// Scales rows down to this norm, in place, before each lookup; none by default.
                max_norm: into Option<f64>;
                /// The p of the norm that `max_norm` limits; 2 by default.
                norm_type: of f64;
            }

            /// The table for a lookup of these rows, in which they are not too long.
            fn table(&self, input: &Tensor<i64>) -> Result<Tensor<T>> {
                if let Some(max_norm) = self.max_norm {
                    self.weight.update(|table| F::renorm(table, input, max_norm, self.norm_type))?;
                }
                Ok(self.weight.tensor())
            }

            fn sizes(&self) -> ExtraRepr {
                let shape = self.weight.shape();
                ExtraRepr::new().value(shape[0]).value(shape[1])
            }
        }
    };
}

/// Sets a row to 0 and returns its values; the row that was covered `before` gets back those that it had.
fn cover<T: Real>(weight: &Param<T>, before: Option<isize>, row: usize, covered: &[f64]) -> Vec<f64> {
    weight.update(|mut table| {
        if let Some(before) = before {
            let restored = table.index_axis_mut(Axis(0), before as usize);
            restored.into_iter().zip(covered).for_each(|(x, &was)| *x = T::of(was));
        }
        let mut row = table.index_axis_mut(Axis(0), row);
        let values = collected(row.iter().map(|x| x.as_f64()));
        row.fill(T::ZERO);
        values
    })
}

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
    pretrained: bool,
    /// The original values of the row of `padding_idx`.
    covered: Vec<f64>,
}

table!(Embedding, EmbeddingOptions);

impl<T: Real> Embedding<T> {
    F::embedding_setters!(except(padding_idx));

    /// The rows with the indices in `input`.
    ///
    /// # Errors
    /// If an index is out of range.
    #[forward]
    pub fn forward(&self, input: &Tensor<i64>) -> Result<Tensor<T>> {
        F::embedding(input, &self.table(input)?, self.options)
    }

    fn extra_repr(&self) -> String {
        let EmbeddingOptions { padding_idx, scale_grad_by_freq } = self.options;
        self.sizes()
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

/// A table of learnable rows, whose sums, means or maxima over bags of indices are computed without the rows in between; see
/// [`functional::embedding_bag`](crate::functional::embedding_bag).
///
/// Input `(bags, n)`, or `(*)` with the start of each bag; output `(bags, embedding_dim)`. `weight` is `[num_embeddings,
/// embedding_dim]`, drawn from N(0, 1); the row of `padding_idx` is 0, does not change, and counts in no bag.
///
/// ```
/// use ndnn::prelude::*;
/// let table = EmbeddingBag::new(10, 3).mode("sum");
/// assert_eq!(table.to_string(), "EmbeddingBag(10, 3, mode='sum')");
/// assert_eq!(table.forward(&tensor![[1, 2, 4, 5], [4, 3, 2, 9]], None, None)?.shape(), [2, 3]);
/// let (indices, starts) = (tensor![1, 2, 4, 5, 4, 3, 2, 9], tensor![0, 4, 4]);    // the second bag is empty
/// assert_eq!(table.forward(&indices, Some(&starts), None)?.shape(), [3, 3]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
#[module(repr)]
pub struct EmbeddingBag<T: Real = f32> {
    /// `[num_embeddings, embedding_dim]`
    pub weight: Param<T>,
    options: EmbeddingBagOptions,
    max_norm: Option<f64>,
    norm_type: f64,
    pretrained: bool,
    /// The original values of the row of `padding_idx`.
    covered: Vec<f64>,
}

table!(EmbeddingBag, EmbeddingBagOptions);

impl<T: Real> EmbeddingBag<T> {
    F::embedding_bag_setters!(except(padding_idx));

    /// The sum, mean or maximum of each bag of rows; see [`functional::embedding_bag`](crate::functional::embedding_bag).
    ///
    /// # Errors
    /// If an index is out of range, or offsets or weights do not fit.
    #[forward]
    pub fn forward(
        &self,
        input: &Tensor<i64>,
        offsets: Option<&Tensor<i64>>,
        per_sample_weights: Option<&Tensor<T>>,
    ) -> Result<Tensor<T>> {
        F::embedding_bag(input, &self.table(input)?, offsets, per_sample_weights, self.options)
    }

    fn extra_repr(&self) -> String {
        let EmbeddingBagOptions { mode, padding_idx, scale_grad_by_freq, .. } = self.options;
        self.sizes()
            .unless_default("max_norm", self.max_norm, None)
            .unless_default("norm_type", self.norm_type, 2.)
            .unless_default("scale_grad_by_freq", scale_grad_by_freq, false)
            .named("mode", format!("'{mode}'"))
            .unless_default("padding_idx", padding_idx, None)
            .finish()
    }
}

/// The bags are the rows of the input, for a `Sequential` whose input is indices.
impl<T: Real> Forward<T, Tensor<i64>> for EmbeddingBag<T> {
    fn forward(&self, input: &Tensor<i64>) -> Result<Tensor<T>> {
        EmbeddingBag::forward(self, input, None, None)
    }
}
