//! Looking up rows of a table: embeddings.

use ndnn_derive::concrete;

use ndarray::{ArrayViewMutD, Axis};

use super::options;
use crate::{
    Error, Result,
    kernels::{
        gather::{Rows, take_rows},
        layout::row_major,
        memory::collected,
    },
    ops::shared,
    tensor::{Real, Tensor, no_grad},
};

options! {
    /// The options of [`embedding`].
    pub struct EmbeddingOptions, setters embedding_setters {
        /// The row that gets no gradient; a negative index counts from the end; none by default.
        padding_idx: into Option<isize> = None;
        /// Divides the gradient of each row by how often the row was looked up; `false` by default.
        scale_grad_by_freq: of bool = false;
    }
}

/// The row of `padding_idx` among `rows`.
pub(crate) fn padding_row(padding_idx: Option<isize>, rows: usize) -> Result<Option<usize>> {
    let Some(index) = padding_idx else { return Ok(None) };
    let row = if index < 0 { index + rows as isize } else { index };
    match usize::try_from(row).ok().filter(|&r| r < rows) {
        Some(row) => Ok(Some(row)),
        None => Err(Error::index("embedding", format!("padding_idx {index} is outside a table of {rows} rows"))),
    }
}

/// The sizes of a table of this shape; an error if `input` names a row that it does not have.
fn matrix_with(shape: &[usize], input: &Tensor<i64>) -> Result<[usize; 2]> {
    let &[rows, width] = shape else {
        return Err(Error::shape("embedding", format!("the weight has 2 axes, this one is {shape:?}")));
    };
    match input.view().iter().find(|&&i| i < 0 || i >= rows as i64) {
        Some(bad) => {
            Err(Error::index("embedding", format!("index {bad} is outside a table of {rows} rows ({shape:?})")))
        }
        None => Ok([rows, width]),
    }
}

/// The rows of `weight` with the indices in `input`.
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
/// If `weight` is not a matrix, or an index or `padding_idx` is out of range.
#[concrete]
pub fn embedding<T: Real>(input: &Tensor<i64>, weight: &Tensor<T>, options: EmbeddingOptions) -> Result<Tensor<T>> {
    let [rows, width] = matrix_with(weight.shape(), input)?;
    let padding = padding_row(options.padding_idx, rows)?;
    let index = input.reshape([-1])?;
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

/// The factor for the gradient of each lookup, `(n, 1)`; `None` if all are 1.
fn shares<T: Real>(index: &Tensor<i64>, padding: Option<usize>, by_frequency: bool) -> Result<Option<Tensor<T>>> {
    if padding.is_none() && !by_frequency {
        return Ok(None);
    }
    let mut sorted = if by_frequency { index.to_vec() } else { Vec::new() };
    sorted.sort_unstable();
    let count = |i: i64| sorted.partition_point(|&j| j <= i) - sorted.partition_point(|&j| j < i);
    let factor = |i: i64| match padding {
        Some(row) if row as i64 == i => T::ZERO,
        _ if by_frequency => T::ONE / T::of(count(i) as f64),
        _ => T::ONE,
    };
    let factors: Tensor<T> = index.view().iter().map(|&i| factor(i)).collect();
    factors.unsqueeze(1).map(Some)
}

/// A table in which the rows with the indices in `input` have a `norm_type`-norm of at most `max_norm`: longer rows are
/// scaled down.
///
/// PyTorch's `max_norm` does this to the weight, in place, before the lookup; no gradient flows through it.
///
/// # Errors
/// If `weight` is not a matrix or an index is out of range.
pub fn embedding_renorm<T: Real>(
    weight: &Tensor<T>,
    input: &Tensor<i64>,
    max_norm: f64,
    norm_type: f64,
) -> Result<Tensor<T>> {
    let mut table = weight.detach().into_array();
    renorm(table.view_mut(), input, max_norm, norm_type)?;
    Ok(table.into())
}

/// As [`embedding_renorm`], in place.
pub(crate) fn renorm<T: Real>(
    mut table: ArrayViewMutD<'_, T>,
    input: &Tensor<i64>,
    max_norm: f64,
    norm_type: f64,
) -> Result<()> {
    matrix_with(table.shape(), input)?;
    // Each row once, so that none is scaled twice.
    let mut named = collected(input.view().iter().map(|&i| i as usize));
    named.sort_unstable();
    named.dedup();
    // In f64, in which the norm of a finite row of f32 is finite.
    let rows = take_rows(&row_major(&table.view()), Rows::new(table.shape(), 0), &named);
    let norms = no_grad(|| Tensor::from(rows).cast::<f64>().norm(norm_type, [2], false))?;
    for (&row, &norm) in named.iter().zip(norms.view()) {
        if norm > max_norm {
            let scale = max_norm / (norm + 1e-7);
            table.index_axis_mut(Axis(0), row).mapv_inplace(|x| T::of(x.as_f64() * scale));
        }
    }
    Ok(())
}
