//! Sequences of different lengths: packed one step after the other, and padded to one length.

use crate::{
    AnyTensor, Error, Result,
    functional::{Lengths, options, words},
    kernels::{memory::vector, sort},
    tensor::{Element, Tensor, Tensors},
};

words! {
    /// The side on which [`pad_sequence`] fills in.
    pub enum PaddingSide, "padding_side" {
        /// After the last step; the default.
        #[default]
        Right = "right",
        /// Before the first step.
        Left = "left",
    }
}

options! {
    /// The options of [`pack_padded_sequence`].
    pub struct PackOptions, setters pack_setters {
        /// Whether the input is `(N, L, *)` and not `(L, N, *)`; `false` by default.
        batch_first: of bool = false;
        /// Whether lengths that do not fall are refused; `true` by default. Otherwise they are sorted, and what comes
        /// back is in the caller's order.
        enforce_sorted: of bool = true;
    }
}

options! {
    /// The options of [`pad_packed_sequence`].
    pub struct PadPackedOptions, setters pad_packed_setters {
        /// Whether the result is `(N, L, *)` and not `(L, N, *)`; `false` by default.
        batch_first: of bool = false;
        /// What is filled in; 0 by default.
        padding_value: of f64 = 0.;
        /// The number of steps of the result; by default that of the longest sequence.
        total_length: into Option<usize> = None;
    }
}

options! {
    /// The options of [`pad_sequence`].
    pub struct PadSequenceOptions, setters pad_sequence_setters {
        /// Whether the result is `(N, L, *)` and not `(L, N, *)`; `false` by default.
        batch_first: of bool = false;
        /// What is filled in; 0 by default.
        padding_value: of f64 = 0.;
        /// The side on which it is filled in: `"right"` by default.
        padding_side: into PaddingSide = PaddingSide::Right;
    }
}

/// The steps of sequences of different lengths, without padding: step 0 of all, then step 1 of those that have one, and
/// so on, the longest sequence first. As torch.nn.utils.rnn.PackedSequence.
///
/// ```
/// use ndnn::{nn::utils::rnn::{pack_sequence, unpack_sequence}, tensor};
/// let packed = pack_sequence(&[tensor![1.0, 2.0], tensor![3.0, 4.0, 5.0]], false)?;
/// assert_eq!(packed.data(), &tensor![3.0, 1.0, 4.0, 2.0, 5.0]);
/// assert_eq!((packed.batch_sizes(), packed.sorted_indices()), (&[2, 2, 1][..], Some(&[1, 0][..])));
/// assert_eq!(unpack_sequence(&packed.with_data(packed.data() * 2.0)?)?[0], tensor![2.0, 4.0]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct PackedSequence<T: Element = f32> {
    data: Tensor<T>,
    batch_sizes: Vec<usize>,
    sorted_indices: Option<Vec<usize>>,
    unsorted_indices: Option<Vec<usize>>,
}

impl<T: Element> PackedSequence<T> {
    /// From its parts; `sorted_indices[i]` is the position in the caller's batch of the sequence that is the i-th here,
    /// `None` if they are in the caller's order.
    ///
    /// # Errors
    /// If `batch_sizes` rise, are 0 or do not add up to the first axis of `data`, or the indices do not name each sequence
    /// once.
    pub fn new(
        data: Tensor<T>,
        batch_sizes: impl Into<Vec<usize>>,
        sorted_indices: impl Into<Option<Vec<usize>>>,
    ) -> Result<Self> {
        let (batch_sizes, sorted_indices) = (batch_sizes.into(), sorted_indices.into());
        let unsorted_indices = unsorted(data.shape(), &batch_sizes, sorted_indices.as_deref())?;
        Ok(PackedSequence { data, batch_sizes, sorted_indices, unsorted_indices })
    }

    /// The steps, `(sum of the lengths, *)`.
    pub fn data(&self) -> &Tensor<T> {
        &self.data
    }

    /// The number of sequences that have a step 0, a step 1, and so on.
    pub fn batch_sizes(&self) -> &[usize] {
        &self.batch_sizes
    }

    /// The position in the caller's batch of each sequence; `None` if they are in that order.
    pub fn sorted_indices(&self) -> Option<&[usize]> {
        self.sorted_indices.as_deref()
    }

    /// The position here of each sequence of the caller's batch; `None` if they are in that order.
    pub fn unsorted_indices(&self) -> Option<&[usize]> {
        self.unsorted_indices.as_deref()
    }

    /// The lengths of the sequences, in the order of the caller's batch.
    pub fn lengths(&self) -> Vec<usize> {
        lengths_in(&self.batch_sizes, self.unsorted_indices())
    }

    /// The same sequences with other values for each step, such as those of a linear layer.
    ///
    /// # Errors
    /// If there are not as many steps.
    pub fn with_data<U: Element>(&self, data: Tensor<U>) -> Result<PackedSequence<U>> {
        PackedSequence::new(data, self.batch_sizes.clone(), self.sorted_indices.clone())
    }
}

impl<T: Element> Tensors for PackedSequence<T> {
    fn map(&self, f: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        self.with_data(self.data.map(f)?)
    }
}

/// For each sequence of the batch, its position among those that were sorted; an error unless data of this shape is packed in
/// this way.
fn unsorted(shape: &[usize], batch_sizes: &[usize], sorted: Option<&[usize]>) -> Result<Option<Vec<usize>>> {
    const OP: &str = "PackedSequence";
    let total = batch_sizes.iter().try_fold(0usize, |sum, &n| sum.checked_add(n));
    let falls = batch_sizes.is_sorted_by(|a, b| a >= b) && batch_sizes.last().is_some_and(|&n| n > 0);
    if !falls || shape.is_empty() || total != Some(shape[0]) {
        let what = format!(
            "expected batch_sizes that do not rise, are above 0 and add up to the first axis of the data, got \
             {batch_sizes:?} for {shape:?}"
        );
        return Err(Error::value(OP, what));
    }
    let Some(sorted) = sorted else { return Ok(None) };
    let mut unsorted = vec![usize::MAX; batch_sizes[0]];
    for (i, &at) in sorted.iter().enumerate() {
        if let Some(place) = unsorted.get_mut(at) {
            *place = i;
        }
    }
    if sorted.len() != unsorted.len() || unsorted.contains(&usize::MAX) {
        let what = format!("sorted_indices {sorted:?} do not name each of {} sequences once", unsorted.len());
        return Err(Error::value(OP, what));
    }
    Ok(Some(unsorted))
}

/// The sequences by falling length; equal ones keep their order.
fn longest_first(lengths: &[usize]) -> Vec<usize> {
    sort::order(lengths.len(), &|i| !(lengths[i] as u64))
}

/// The position of sequence `i` of the caller's batch among those that were sorted.
fn place(unsorted: Option<&[usize]>, i: usize) -> usize {
    unsorted.map_or(i, |unsorted| unsorted[i])
}

/// The lengths of the sequences, in the order of the caller's batch.
fn lengths_in(batch_sizes: &[usize], unsorted: Option<&[usize]>) -> Vec<usize> {
    let length = |i: usize| batch_sizes.partition_point(|&n| n > i);
    (0..batch_sizes[0]).map(|i| length(place(unsorted, i))).collect()
}

/// The rows of each sequence of the caller's batch.
fn rows_in(batch_sizes: &[usize], unsorted: Option<&[usize]>) -> Vec<Vec<usize>> {
    let mut rows: Vec<Vec<usize>> = lengths_in(batch_sizes, unsorted).into_iter().map(Vec::with_capacity).collect();
    let mut start = 0;
    for &n in batch_sizes {
        for (i, rows) in rows.iter_mut().enumerate() {
            let place = place(unsorted, i);
            if place < n {
                rows.push(start + place);
            }
        }
        start += n;
    }
    rows
}

/// Where the steps of sequences stand: step `t` of sequence `n` is row `starts[n] + t · stride`.
struct Rows {
    starts: Vec<usize>,
    stride: usize,
}

impl Rows {
    /// Of padded sequences.
    fn padded([batch, steps]: [usize; 2], batch_first: bool) -> Self {
        let (apart, stride) = if batch_first { (steps, 1) } else { (1, batch) };
        Rows { starts: (0..batch).map(|n| n * apart).collect(), stride }
    }

    fn at(&self, sequence: usize, step: usize) -> usize {
        self.starts[sequence] + step * self.stride
    }

    /// The rows of packed sequences in order, the batch sizes, and, if they were sorted, the order of the sequences.
    #[allow(clippy::type_complexity)]
    fn packed(
        &self,
        op: &str,
        lengths: &[usize],
        enforce_sorted: bool,
    ) -> Result<(Vec<usize>, Vec<usize>, Option<Vec<usize>>)> {
        if enforce_sorted && !lengths.is_sorted_by(|a, b| a >= b) {
            let what = format!("the lengths {lengths:?} must fall; pass enforce_sorted = false to sort the sequences");
            return Err(Error::value(op, what));
        }
        let order = longest_first(lengths);
        let steps = lengths.iter().max().copied().unwrap_or(0);
        let (mut batch_sizes, mut index) = (vector(steps), vector(lengths.iter().sum()));
        for step in 0..steps {
            let n = order.partition_point(|&i| lengths[i] > step);
            index.extend(order[..n].iter().map(|&i| self.at(i, step)));
            batch_sizes.push(n);
        }
        Ok((index, batch_sizes, (!enforce_sorted).then_some(order)))
    }

    /// The rows of the steps of packed sequences.
    fn unpacked(&self, batch_sizes: &[usize], sorted: Option<&[usize]>) -> Vec<usize> {
        let mut index = vector(batch_sizes.iter().sum());
        for (step, &n) in batch_sizes.iter().enumerate() {
            index.extend((0..n).map(|i| self.at(sorted.map_or(i, |sorted| sorted[i]), step)));
        }
        index
    }

    /// The rows of the steps of sequences of these lengths, one sequence after the other; the first step of each is number
    /// `longest` minus its length on the `left`, or 0.
    fn joined(&self, lengths: &[usize], longest: usize, left: bool) -> Vec<usize> {
        let mut index = vector(lengths.iter().sum());
        for (i, &n) in lengths.iter().enumerate() {
            let skipped = if left { longest - n } else { 0 };
            index.extend((0..n).map(|step| self.at(i, skipped + step)));
        }
        index
    }
}

/// Packs sequences, whose steps stand at these rows of the first axis of `data`.
fn packed<T: Element>(
    op: &'static str,
    data: &Tensor<T>,
    rows: &Rows,
    lengths: &[usize],
    enforce_sorted: bool,
) -> Result<PackedSequence<T>> {
    let (index, batch_sizes, sorted) = rows.packed(op, lengths, enforce_sorted)?;
    PackedSequence::new(data.rows_taken(op, 0, index)?, batch_sizes, sorted)
}

/// Packs padded sequences, of which the first `lengths[n]` steps are kept.
///
/// `input` is `(L, N, *)`, with `batch_first` `(N, L, *)`. As torch.nn.utils.rnn.pack_padded_sequence.
///
/// ```
/// use ndnn::{nn::utils::rnn::{PackOptions, pack_padded_sequence}, tensor};
/// let padded = tensor![[1.0, 2.0, 3.0], [4.0, 0.0, 0.0]];
/// let packed = pack_padded_sequence(&padded, &[3, 1], PackOptions::default().batch_first(true))?;
/// assert_eq!((packed.data(), packed.batch_sizes()), (&tensor![1.0, 4.0, 2.0, 3.0], &[2, 1, 1][..]));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is not one length for each sequence, one is 0 or longer than the input, or they do not fall although
/// `enforce_sorted` requires it.
pub fn pack_padded_sequence<T: Element>(
    input: &Tensor<T>,
    lengths: impl Into<Lengths>,
    options: PackOptions,
) -> Result<PackedSequence<T>> {
    packed_from(input, &lengths.into(), options)
}

fn packed_from<T: Element>(input: &Tensor<T>, lengths: &Lengths, options: PackOptions) -> Result<PackedSequence<T>> {
    const OP: &str = "pack_padded_sequence";
    let (batch, steps) = batch_and_steps(OP, input.shape(), options.batch_first)?;
    let lengths = lengths.of_batch(OP, "length", batch, 1..=steps)?;
    let rows = Rows::padded([batch, steps], options.batch_first);
    packed(OP, &input.flatten(0, 1)?, &rows, &lengths, options.enforce_sorted)
}

/// The sizes of the batch, which is not empty, and of the steps.
fn batch_and_steps(op: &str, shape: &[usize], batch_first: bool) -> Result<(usize, usize)> {
    match shape {
        &[n, l, ..] if batch_first && n > 0 => Ok((n, l)),
        &[l, n, ..] if !batch_first && n > 0 => Ok((n, l)),
        other => {
            let expected = if batch_first { "(N, L, *)" } else { "(L, N, *)" };
            Err(Error::shape(op, format!("expected {expected} with at least one sequence, got {other:?}")))
        }
    }
}

/// Rows as sequences that are padded: row k of `data` becomes row `index(rows)[k]` of them.
fn padded<T: Element>(
    op: &str,
    data: &Tensor<T>,
    index: &dyn Fn(Rows) -> Vec<usize>,
    [batch, steps]: [usize; 2],
    batch_first: bool,
    padding_value: f64,
) -> Result<Tensor<T>> {
    let lead = if batch_first { [batch, steps] } else { [steps, batch] };
    let shape = [&lead, &data.shape()[1..]].concat();
    let filled = Tensor::try_full(op, &shape, T::of(padding_value))?.flatten(0, 1)?;
    // Only now is it known that so many rows can be counted.
    let index = index(Rows::padded([batch, steps], batch_first));
    filled.rows_copied(0, index, data).reshape(&shape[..])
}

/// Packed sequences with padding after each, in the order of the caller's batch, and their lengths.
///
/// The result is `(L, N, *)`, with `batch_first` `(N, L, *)`. As torch.nn.utils.rnn.pad_packed_sequence.
///
/// ```
/// use ndnn::{nn::utils::rnn::{pack_sequence, pad_packed_sequence, PadPackedOptions}, tensor};
/// let packed = pack_sequence(&[tensor![1.0], tensor![2.0, 3.0]], false)?;
/// let (padded, lengths) = pad_packed_sequence(&packed, PadPackedOptions::default().batch_first(true))?;
/// assert_eq!((padded, lengths), (tensor![[1.0, 0.0], [2.0, 3.0]], vec![1, 2]));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `total_length` is less than the longest sequence, or there is not enough memory.
pub fn pad_packed_sequence<T: Element>(
    sequence: &PackedSequence<T>,
    options: PadPackedOptions,
) -> Result<(Tensor<T>, Vec<usize>)> {
    const OP: &str = "pad_packed_sequence";
    let longest = sequence.batch_sizes.len();
    let steps = options.total_length.unwrap_or(longest);
    if steps < longest {
        let what = format!("total_length is {steps}, the longest sequence has {longest} steps");
        return Err(Error::value(OP, what));
    }
    let sizes = [sequence.batch_sizes[0], steps];
    let index = |rows: Rows| rows.unpacked(&sequence.batch_sizes, sequence.sorted_indices());
    let result = padded(OP, &sequence.data, &index, sizes, options.batch_first, options.padding_value)?;
    Ok((result, sequence.lengths()))
}

/// Returns an error unless there are sequences `(L, *)` that agree in all further axes; their lengths.
fn lengths_of<T: Element>(op: &str, sequences: &[Tensor<T>]) -> Result<Vec<usize>> {
    let Some(first) = sequences.first() else {
        return Err(Error::value(op, "expected at least one sequence, got none"));
    };
    for (i, sequence) in sequences.iter().enumerate() {
        if sequence.ndim() == 0 || sequence.shape().get(1..) != first.shape().get(1..) {
            let (is, first) = (sequence.shape(), first.shape());
            let what =
                format!("expected sequences (L, *) that differ in L only, got {first:?} and, as number {i}, {is:?}");
            return Err(Error::shape(op, what));
        }
    }
    Ok(sequences.iter().map(|sequence| sequence.shape()[0]).collect())
}

/// Sequences `(L, *)` of different lengths in one tensor, `(L, N, *)` with the longest L, or with `batch_first`
/// `(N, L, *)`. As torch.nn.utils.rnn.pad_sequence.
///
/// ```
/// use ndnn::{nn::utils::rnn::{PadSequenceOptions, pad_sequence}, tensor};
/// let sequences = [tensor![1.0], tensor![2.0, 3.0]];
/// let padded = pad_sequence(&sequences, PadSequenceOptions::default().batch_first(true).padding_value(-1.0))?;
/// assert_eq!(padded, tensor![[1.0, -1.0], [2.0, 3.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is none, they differ in other axes than the first, or there is not enough memory.
pub fn pad_sequence<T: Element>(sequences: &[Tensor<T>], options: PadSequenceOptions) -> Result<Tensor<T>> {
    const OP: &str = "pad_sequence";
    let lengths = lengths_of(OP, sequences)?;
    let steps = lengths.iter().max().copied().unwrap_or(0);
    let (sizes, left) = ([lengths.len(), steps], options.padding_side == PaddingSide::Left);
    let index = |rows: Rows| rows.joined(&lengths, steps, left);
    padded(OP, &Tensor::cat(sequences, 0)?, &index, sizes, options.batch_first, options.padding_value)
}

/// Packs sequences `(L, *)` of different lengths; see [`PackedSequence`]. With `enforce_sorted`, which is PyTorch's
/// default, lengths that do not fall are refused. As torch.nn.utils.rnn.pack_sequence.
///
/// # Errors
/// If there is none, one is empty, they differ in other axes than the first, or their lengths do not fall although
/// `enforce_sorted` requires it.
pub fn pack_sequence<T: Element>(sequences: &[Tensor<T>], enforce_sorted: bool) -> Result<PackedSequence<T>> {
    const OP: &str = "pack_sequence";
    let lengths = lengths_of(OP, sequences)?;
    if let Some(i) = lengths.iter().position(|&n| n == 0) {
        return Err(Error::value(OP, format!("sequence {i} has no step, expected at least one")));
    }
    let starts = lengths.iter().scan(0, |sum, n| Some(std::mem::replace(sum, *sum + n))).collect();
    packed(OP, &Tensor::cat(sequences, 0)?, &Rows { starts, stride: 1 }, &lengths, enforce_sorted)
}

/// The sequences of a [`PackedSequence`], each `(L, *)`, in the order of the caller's batch. As
/// torch.nn.utils.rnn.unpack_sequence.
///
/// # Errors
/// If there is not enough memory.
pub fn unpack_sequence<T: Element>(sequence: &PackedSequence<T>) -> Result<Vec<Tensor<T>>> {
    let mut sequences = Vec::new();
    for rows in rows_in(&sequence.batch_sizes, sequence.unsorted_indices()) {
        sequences.push(sequence.data.rows_taken("unpack_sequence", 0, rows)?);
    }
    Ok(sequences)
}

/// The sequences of a padded tensor `(L, N, *)`, with `batch_first` `(N, L, *)`: the first `lengths[n]` steps of each. As
/// torch.nn.utils.rnn.unpad_sequence.
///
/// ```
/// use ndnn::{nn::utils::rnn::unpad_sequence, tensor};
/// let sequences = unpad_sequence(&tensor![[1.0, 0.0], [2.0, 3.0]], &[1, 2], true)?;
/// assert_eq!(sequences, [tensor![1.0], tensor![2.0, 3.0]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is not one length for each sequence, or one is longer than the tensor.
pub fn unpad_sequence<T: Element>(
    padded: &Tensor<T>,
    lengths: impl Into<Lengths>,
    batch_first: bool,
) -> Result<Vec<Tensor<T>>> {
    const OP: &str = "unpad_sequence";
    let (batch, steps) = batch_and_steps(OP, padded.shape(), batch_first)?;
    let lengths = lengths.into().of_batch(OP, "length", batch, 0..=steps)?;
    let one = |(i, &n): (usize, &usize)| padded.select(isize::from(!batch_first), i as isize)?.narrow(0, 0, n);
    lengths.iter().enumerate().map(one).collect()
}
