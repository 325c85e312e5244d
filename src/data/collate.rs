//! From samples to a batch and back: each tensor of a group has its samples along the first axis.

use crate::{
    Error, Result,
    tensor::{AnyTensor, Element, Tensor, Tensors, any_tensor, unerase},
};

/// The samples as one batch, with a new first axis in each tensor.
///
/// # Errors
/// If there are no samples, or they differ in shape, type or number of tensors.
pub fn collate<S: Tensors>(samples: &[S]) -> Result<S> {
    let Some(first) = samples.first() else {
        return Err(Error::shape("collate", "there is no sample to make a batch of"));
    };
    let columns: Vec<Vec<AnyTensor>> = samples.iter().map(Tensors::tensors).collect();
    let mut column = 0;
    first.map(&mut |tensor| {
        let at = column;
        column += 1;
        any_tensor!(tensor, t => stack(&t, &mut columns.iter().map(|sample| sample.get(at))))
    })
}

/// The tensors at one place of each sample, all with the type of the first one.
fn stack<T: Element>(_: &Tensor<T>, samples: &mut dyn Iterator<Item = Option<&AnyTensor>>) -> Result<AnyTensor> {
    let differ = || Error::value("collate", "the samples differ in the number or in the types of their tensors");
    let tensors = samples.map(|t| t.cloned().and_then(unerase::<T>).ok_or_else(differ));
    Ok(Tensor::stack(&tensors.collect::<Result<Vec<_>>>()?, 0)?.into())
}

/// The samples at these positions, in this order.
pub(super) fn select<B: Tensors>(batch: &B, positions: &[usize]) -> Result<B> {
    fn rows_of(tensor: AnyTensor, rows: &Tensor<i64>) -> Result<AnyTensor> {
        any_tensor!(tensor, t => Ok(t.index_select(0, rows)?.into()))
    }
    let rows = positions.iter().map(|&p| p as i64).collect();
    batch.map(&mut |tensor| rows_of(tensor, &rows))
}

/// One sample, without the first axis.
pub(super) fn sample<B: Tensors>(batch: &B, position: usize) -> Result<B> {
    fn row_of(tensor: AnyTensor, position: usize) -> Result<AnyTensor> {
        // A position that is too large for an axis must not count from the end.
        let position = isize::try_from(position).unwrap_or(isize::MAX);
        any_tensor!(tensor, t => Ok(t.select(0, position)?.into()))
    }
    batch.map(&mut |tensor| row_of(tensor, position))
}

/// The number of samples that all of them have.
pub(super) fn common_len(tensors: &[AnyTensor]) -> Result<usize> {
    let lens: Vec<usize> = tensors.iter().map(|t| t.shape().first().copied().unwrap_or(0)).collect();
    match &lens[..] {
        [first, rest @ ..] if rest.iter().all(|n| n == first) => Ok(*first),
        _ => Err(Error::shape("TensorDataset", format!("the tensors hold different numbers of samples: {lens:?}"))),
    }
}
