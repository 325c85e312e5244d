//! Looking up rows of a table: embeddings.

use std::collections::HashMap;

use super::options;
use crate::{
    Error, Result,
    ops::shared,
    tensor::{Real, Tensor, no_grad},
};

options! {
    /// What [`embedding`] takes besides tensors.
    pub struct EmbeddingOptions, setters embedding_setters {
        /// The row that gets no gradient; negative counts from the end; none by default.
        padding_idx: into Option<isize> = None;
        /// Divides the gradient of each row by how often the row was looked up; `false` by default.
        scale_grad_by_freq: of bool = false;
    }
}

/// The row that `padding_idx` names among `rows`.
pub(crate) fn padding_row(padding_idx: Option<isize>, rows: usize) -> Result<Option<usize>> {
    let Some(index) = padding_idx else { return Ok(None) };
    let row = if index < 0 { index + rows as isize } else { index };
    match usize::try_from(row).ok().filter(|&r| r < rows) {
        Some(row) => Ok(Some(row)),
        None => Err(Error::index("embedding", format!("padding_idx {index} is outside a table of {rows} rows"))),
    }
}

/// The rows of `weight` that `input` names.
///
/// `input` is `(*)` of indices, `weight` `(num_embeddings, embedding_dim)`; the result is `(*, embedding_dim)`. As
/// torch.nn.functional.embedding; its `max_norm` is [`embedding_renorm`].
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let table = tensor![[1.0, 1.5], [2.0, 2.5], [3.0, 3.5]];
/// assert_eq!(F::embedding(&tensor![2, 0], &table, Default::default())?, tensor![[3.0, 3.5], [1.0, 1.5]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `weight` is no matrix, or an index or `padding_idx` is outside it.
pub fn embedding<T: Real>(input: &Tensor<i64>, weight: &Tensor<T>, options: EmbeddingOptions) -> Result<Tensor<T>> {
    let &[rows, width] = weight.shape() else {
        return Err(Error::shape("embedding", format!("the weight has 2 axes, this one is {:?}", weight.shape())));
    };
    let padding = padding_row(options.padding_idx, rows)?;
    let index = input.reshape([-1])?;
    if let Some(bad) = index.view().iter().find(|&&i| i < 0 || i >= rows as i64) {
        return Err(Error::index(
            "embedding",
            format!("index {bad} is outside a table of {rows} rows ({:?})", weight.shape()),
        ));
    }
    let found = no_grad(|| weight.index_select(0, &index))?;
    let shape: Vec<usize> = input.shape().iter().copied().chain([width]).collect();
    let flat = [index.numel() as isize, width as isize];
    let share = shares(&index, padding, options.scale_grad_by_freq)?;
    Ok(Tensor::op("embedding", found.reshape(shape.as_slice())?.data().clone(), [weight], move |g, _| {
        let mut g = g.reshape(flat)?;
        if let Some(share) = &share {
            g = shared(&g, share)?;
        }
        Ok([Some(Tensor::zeros([rows, width]).index_add(0, &index, &g)?)])
    }))
}

/// The factor of each lookup's gradient, `(n, 1)`; `None` where all are 1.
fn shares<T: Real>(index: &Tensor<i64>, padding: Option<usize>, by_frequency: bool) -> Result<Option<Tensor<T>>> {
    if padding.is_none() && !by_frequency {
        return Ok(None);
    }
    let mut count: HashMap<i64, usize> = HashMap::new();
    index.view().iter().for_each(|&i| *count.entry(i).or_default() += 1);
    let factor = |i: i64| match padding {
        Some(row) if row as i64 == i => T::ZERO,
        _ if by_frequency => T::ONE / T::of(count[&i] as f64),
        _ => T::ONE,
    };
    let factors: Tensor<T> = index.view().iter().map(|&i| factor(i)).collect();
    factors.unsqueeze(1).map(Some)
}

/// A table in which the rows that `input` names have a `norm_type`-norm of at most `max_norm`: larger ones are scaled down.
///
/// What PyTorch's `max_norm` does to the weight in place before it looks up; no gradient flows through it.
///
/// # Errors
/// If `weight` is no matrix or an index is outside it.
pub fn embedding_renorm<T: Real>(
    weight: &Tensor<T>,
    input: &Tensor<i64>,
    max_norm: f64,
    norm_type: f64,
) -> Result<Tensor<T>> {
    no_grad(|| {
        let rows = embedding(&input.reshape([-1])?, weight, EmbeddingOptions::default())?;
        let norms = rows.norm(norm_type, [1], false)?;
        let mut table = weight.detach().into_array();
        for (&row, &norm) in input.view().iter().zip(norms.view().iter()) {
            if norm.as_f64() > max_norm {
                // Scaled from the original row, so that a row named twice is scaled once.
                let scale = T::of(max_norm / (norm.as_f64() + 1e-7));
                let original = weight.view();
                let from = original.index_axis(ndarray::Axis(0), row as usize);
                table.index_axis_mut(ndarray::Axis(0), row as usize).assign(&from.mapv(|x| x * scale));
            }
        }
        Ok(table.into())
    })
}
