//! Looking up rows of a table: embeddings, bags of them, and one-hot vectors.

use ndarray::{ArrayViewMutD, Axis};
use ndnn_derive::concrete;

use super::{lengths::ascending, options, words};
use crate::{
    Error, Result,
    kernels::{
        gather::{Rows, take_rows},
        layout::{array, row_major},
        memory::{collected, copied, filled, mapped, vector},
        row_sums::{Groups, row_maxima, row_sums},
        sizes::room,
        sort,
    },
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

words! {
    /// How [`embedding_bag`] joins the rows of a bag.
    pub enum EmbeddingBagMode, "embedding bag mode" {
        /// Their sum.
        Sum = "sum",
        /// Their mean; the default.
        #[default]
        Mean = "mean",
        /// The largest of each column.
        Max = "max",
    }
}

options! {
    /// The options of [`embedding_bag`].
    pub struct EmbeddingBagOptions, setters embedding_bag_setters {
        /// How the rows of a bag are joined; their mean by default.
        mode: into crate::functional::EmbeddingBagMode = EmbeddingBagMode::Mean;
        /// Whether the last offset is the end of the last bag, instead of the start of one more; `false` by default.
        include_last_offset: of bool = false;
        /// The row that is left out of every bag; a negative index counts from the end; none by default.
        padding_idx: into Option<isize> = None;
        /// Divides the gradient of each row by how often the row was looked up; `false` by default.
        scale_grad_by_freq: of bool = false;
    }
    if |o| o.mode != EmbeddingBagMode::Max || !o.scale_grad_by_freq,
        "the mode \"max\" does not scale gradients by frequency: use \"sum\" or \"mean\""
}

/// The row of `padding_idx` among `rows`.
pub(crate) fn padding_row(op: &str, padding_idx: Option<isize>, rows: usize) -> Result<Option<usize>> {
    let Some(index) = padding_idx else { return Ok(None) };
    let row = if index < 0 { index + rows as isize } else { index };
    match usize::try_from(row).ok().filter(|&r| r < rows) {
        Some(row) => Ok(Some(row)),
        None => Err(Error::index(op, format!("padding_idx {index} is outside a table of {rows} rows"))),
    }
}

/// The sizes of a table of this shape.
fn matrix(op: &str, shape: &[usize]) -> Result<[usize; 2]> {
    shape.try_into().map_err(|_| Error::shape(op, format!("the weight has 2 axes, this one is {shape:?}")))
}

/// The rows that `input` names in a table of this shape.
fn rows_of(op: &str, input: &Tensor<i64>, shape: &[usize]) -> Result<Vec<usize>> {
    let rows = matrix(op, shape)?[0];
    let given = input.elements();
    // The sign of a number tells that it, or what is left of the table after it, is negative: a vector loop.
    let last = (rows as i64).wrapping_sub(1);
    let mut signs = 0;
    for &i in given.iter() {
        signs |= i | last.wrapping_sub(i);
    }
    if signs < 0 {
        let i = given.iter().find(|&&i| i as u64 >= rows as u64).expect("one was found");
        return Err(Error::index(op, format!("index {i} is outside a table of {rows} rows ({shape:?})")));
    }
    Ok(mapped(&given, |i| i as usize))
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
pub fn embedding<T: Real>(input: &Tensor<i64>, weight: &Tensor<T>, options: EmbeddingOptions) -> Result<Tensor<T>> {
    const OP: &str = "embedding";
    let index = rows_of(OP, input, weight.shape())?;
    let [rows, width] = matrix(OP, weight.shape())?;
    let padding = padding_row(OP, options.padding_idx, rows)?;
    let shape = input.shape().iter().copied().chain([width]).collect();
    let groups = Groups { starts: None, index };
    looked_up(weight, Lookup { op: OP, groups, shape, mean: false, by_frequency: options.scale_grad_by_freq, padding })
}

/// Sums of groups of rows, or means: a linear function of the matrix, and so is its derivative.
struct Lookup {
    op: &'static str,
    groups: Groups,
    /// The shape of the result.
    shape: Vec<usize>,
    mean: bool,
    /// Whether the gradient of a row is the mean over its lookups, not the sum.
    by_frequency: bool,
    /// The row without a gradient.
    padding: Option<usize>,
}

#[concrete]
fn looked_up<T: Real>(x: &Tensor<T>, lookup: Lookup) -> Result<Tensor<T>> {
    let Lookup { op, groups, shape, mean, by_frequency, padding } = lookup;
    let [rows, width] = matrix(op, x.shape())?;
    room::<T>(op, &shape)?;
    let out = row_sums(&x.elements(), width, &groups, mean).array(shape);
    Ok(Tensor::op(op, out, [x], move |g, _| {
        if width == 0 {
            return Ok([Some(Tensor::zeros([rows, 0]))]);
        }
        let mut g = g.reshape([groups.len() as isize, width as isize])?;
        if mean {
            let counts = collected((0..groups.len()).map(|i| T::of(groups.places(i).len().max(1) as f64)));
            g = g.try_div(&array(&[groups.len(), 1], counts).into())?;
        }
        let (groups, shape) = (without_row(groups.transposed(rows), padding), vec![rows, width]);
        let back = Lookup { op, groups, shape, mean: by_frequency, by_frequency: false, padding: None };
        Ok([Some(looked_up(&g, back)?)])
    }))
}

/// The groups with no lookup of one of the rows.
fn without_row(mut groups: Groups, row: Option<usize>) -> Groups {
    if let (Some(row), Some(starts)) = (row, &mut groups.starts) {
        let (from, to) = (starts[row], starts[row + 1]);
        groups.index.drain(from..to);
        starts[row + 1..].iter_mut().for_each(|start| *start -= to - from);
    }
    groups
}

/// For each bag of indices the sum, mean or maximum of the rows of `weight` that they name; 0 for an empty bag.
///
/// `input` is `(bags, n)`, or `(*)` with the start of each bag in `offsets`; `weight` is `(num_embeddings, embedding_dim)`, the
/// result `(bags, embedding_dim)`. With `per_sample_weights`, of the input's shape, rows are multiplied by them and
/// summed. The padding row counts in no mean. As torch.nn.functional.embedding_bag; its `max_norm` is [`embedding_renorm`].
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let table = tensor![[1.0, 1.5], [2.0, 2.5], [3.0, 3.5]];
/// let means = F::embedding_bag(&tensor![2, 0, 1], &table, Some(&tensor![0, 2]), None, Default::default())?;
/// assert_eq!(means, tensor![[2.0, 2.5], [2.0, 2.5]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `weight` is not a matrix, an index or `padding_idx` is out of range, `input` has another number of axes, offsets are
/// missing, given for two axes, do not start at 0 or decrease, or `per_sample_weights` do not fit or come with another mode
/// than the sum.
pub fn embedding_bag<T: Real>(
    input: &Tensor<i64>,
    weight: &Tensor<T>,
    offsets: Option<&Tensor<i64>>,
    per_sample_weights: Option<&Tensor<T>>,
    options: EmbeddingBagOptions,
) -> Result<Tensor<T>> {
    const OP: &str = "embedding_bag";
    let EmbeddingBagOptions { mode, include_last_offset, padding_idx, scale_grad_by_freq } = options;
    let [rows, width] = matrix(OP, weight.shape())?;
    let padding = padding_row(OP, padding_idx, rows)?;
    let index = rows_of(OP, input, weight.shape())?;
    if let (&[bags, _], None) = (input.shape(), offsets) {
        // There may be any number of bags without indices: none is listed before their results have room.
        room::<T>(OP, &[bags, width])?;
        if width == 0 {
            return Ok(weight.nothing(OP, &[bags, 0]));
        }
    }
    let starts = bag_starts(input.shape(), offsets, include_last_offset)?;
    let (bags, kept) = without_padding(starts, index, padding);
    let (mean, shape) = (mode == EmbeddingBagMode::Mean, vec![bags.len(), width]);
    let lookup = Lookup { op: OP, groups: bags, shape, mean, by_frequency: scale_grad_by_freq, padding: None };
    match (per_sample_weights, mode) {
        (None, EmbeddingBagMode::Max) => bag_maxima(weight, lookup.groups),
        (None, _) => looked_up(weight, lookup),
        (Some(factors), EmbeddingBagMode::Sum) if factors.shape() == input.shape() => {
            let factors = factors.reshape([factors.numel() as isize, 1])?;
            let factors = kept.map_or(Ok(factors.clone()), |kept| factors.rows_taken(OP, 0, kept))?;
            weighted_sums(weight, lookup, &factors)
        }
        (Some(factors), EmbeddingBagMode::Sum) => {
            let what = format!("per_sample_weights are {:?}, the input is {:?}", factors.shape(), input.shape());
            Err(Error::shape(OP, what))
        }
        (Some(_), _) => {
            Err(Error::value(OP, format!("per_sample_weights are for the mode \"sum\", this one is \"{mode}\"")))
        }
    }
}

/// The sums of bags of rows that are multiplied by these factors, `(n, 1)`.
fn weighted_sums<T: Real>(weight: &Tensor<T>, bags: Lookup, factors: &Tensor<T>) -> Result<Tensor<T>> {
    let (n, width) = (bags.groups.index.len(), weight.shape()[1]);
    let Groups { starts, index } = bags.groups;
    let each = Groups { starts: None, index };
    let found = looked_up(weight, Lookup { groups: each, shape: vec![n, width], ..bags })?;
    let (groups, shape) = (Groups { starts, index: collected(0..n) }, bags.shape);
    looked_up(&found.try_mul(factors)?, Lookup { groups, shape, by_frequency: false, ..bags })
}

/// The places in the input where bags begin, and where the last one ends.
fn bag_starts(shape: &[usize], offsets: Option<&Tensor<i64>>, include_last: bool) -> Result<Vec<usize>> {
    const OP: &str = "embedding_bag";
    let (len, offsets) = match (shape, offsets) {
        (&[bags, n], None) => return Ok(collected((0..=bags).map(|bag| bag * n))),
        ([_, _], Some(_)) => {
            return Err(Error::value(
                OP,
                format!("the rows of an input of two axes, {shape:?}, are the bags: no offsets"),
            ));
        }
        (&[len], Some(offsets)) if offsets.ndim() == 1 => (len, offsets.to_vec()),
        ([_], Some(offsets)) => {
            return Err(Error::shape(OP, format!("expected a vector of offsets, got {:?}", offsets.shape())));
        }
        ([_], None) => return Err(Error::value(OP, "an input of one axis needs offsets, the starts of the bags")),
        _ => return Err(Error::shape(OP, format!("expected an input of 1 or 2 axes, got {shape:?}"))),
    };
    if let Some(first) = offsets.first().filter(|&&first| first != 0) {
        return Err(Error::value(OP, format!("the first offset must be 0, got {first}")));
    }
    if offsets.is_empty() && include_last {
        return Err(Error::value(OP, "include_last_offset needs an offset, where the last bag ends"));
    }
    let mut starts = ascending(OP, &offsets, len, format_args!("the number of indices, {len}"))?;
    if !include_last {
        starts.push(if offsets.is_empty() { 0 } else { len });
    }
    Ok(starts)
}

/// The bags without the lookups of the padding row, and the places in the input of those that are left, unless all are. What
/// lies beyond the last bag is left out.
fn without_padding(starts: Vec<usize>, index: Vec<usize>, padding: Option<usize>) -> (Groups, Option<Vec<usize>>) {
    let end = starts.last().copied().unwrap_or(0);
    if padding.is_none() && end == index.len() {
        return (Groups { starts: Some(starts), index }, None);
    }
    let kept = collected((0..end).filter(|&k| Some(index[k]) != padding));
    let starts = collected(starts.iter().map(|&start| kept.partition_point(|&k| k < start)));
    (Groups { starts: Some(starts), index: collected(kept.iter().map(|&k| index[k])) }, Some(kept))
}

/// The bags that are not empty, and the positions in the table of their largest elements.
fn chosen(bags: &Groups, places: &[usize], width: usize) -> (Vec<usize>, Vec<usize>) {
    let full = collected((0..bags.len()).filter(|&bag| !bags.places(bag).is_empty()));
    let mut chosen = vector(full.len() * width);
    for bag in &full {
        let places = &places[bag * width..][..width];
        chosen.extend(places.iter().enumerate().map(|(j, &place)| bags.index[place] * width + j));
    }
    (full, chosen)
}

/// The maxima of bags of rows.
fn bag_maxima<T: Real>(weight: &Tensor<T>, bags: Groups) -> Result<Tensor<T>> {
    const OP: &str = "embedding_bag";
    let [rows, width] = matrix(OP, weight.shape())?;
    room::<T>(OP, &[bags.len(), width])?;
    let (out, places) = row_maxima(&weight.elements(), width, &bags);
    let (full, chosen) = chosen(&bags, &places, width);
    Ok(Tensor::op(OP, array(&[bags.len(), width], out), [weight], move |g, _| {
        let g = g.rows_taken(OP, 0, copied(&full))?.reshape([-1])?;
        Ok([Some(Tensor::zeros([rows * width]).rows_added(0, &chosen, &g).reshape([rows as isize, width as isize])?)])
    }))
}

/// For each class number a vector that is 1 at its place and 0 elsewhere.
///
/// `input` is `(*)`, the result `(*, num_classes)`; without `num_classes` there are as many as the largest number requires. As
/// torch.nn.functional.one_hot.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// assert_eq!(F::one_hot(&tensor![0, 2], None)?, tensor![[1, 0, 0], [0, 0, 1]]);
/// assert_eq!(F::one_hot(&tensor![0, 2], 4)?, tensor![[1, 0, 0, 0], [0, 0, 1, 0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If a number is negative or not below `num_classes`, there are neither numbers nor `num_classes`, or there is not enough
/// memory for the result.
pub fn one_hot(input: &Tensor<i64>, num_classes: impl Into<Option<usize>>) -> Result<Tensor<i64>> {
    const OP: &str = "one_hot";
    let (classes, given) = (input.elements().to_vec(), num_classes.into());
    if let Some(bad) = classes.iter().find(|&&class| class < 0) {
        return Err(Error::index(OP, format!("class {bad} is negative")));
    }
    let n = match (given, classes.iter().max()) {
        (None | Some(0), None) => {
            return Err(Error::value(OP, "without class numbers, num_classes must be given and at least 1"));
        }
        (None, Some(&max)) => max as usize + 1,
        (Some(n), _) => n,
    };
    if let Some(bad) = classes.iter().find(|&&class| class as usize >= n) {
        return Err(Error::index(OP, format!("class {bad} is not below num_classes, {n}")));
    }
    let shape: Vec<usize> = input.shape().iter().copied().chain([n]).collect();
    let mut out = filled(room::<i64>(OP, &shape)?, 0);
    classes.iter().enumerate().for_each(|(i, &class)| out[i * n + class as usize] = 1);
    Ok(array(&shape, out).into())
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
    // Each row once, so that none is scaled twice.
    let named = sort::distinct(&rows_of("embedding", input, table.shape())?);
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
