//! Sets of samples.

use std::sync::Arc;

use super::collate::{collate, common_len, sample, select};
use crate::{
    Error, Result,
    kernels::{
        memory::{collected, copied, try_collected},
        sizes::room,
    },
    tensor::{Tensor, Tensors},
};

/// A set of samples that are accessed by position.
pub trait Dataset: Send + Sync {
    /// One sample: a tensor or a tuple of tensors, or another group.
    type Sample: Tensors;

    /// The number of samples.
    fn len(&self) -> usize;

    /// Whether it has no samples.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sample at a position below [`len`](Dataset::len).
    ///
    /// # Errors
    /// If there is no such position, or the sample cannot be read.
    fn get(&self, position: usize) -> Result<Self::Sample>;

    /// The samples at these positions as one batch.
    ///
    /// # Errors
    /// As [`get`](Dataset::get), and if the samples cannot be combined.
    fn batch(&self, positions: &[usize]) -> Result<Self::Sample> {
        room::<Self::Sample>("Dataset", &[positions.len()])?;
        collate(&try_collected(positions.iter().map(|&p| self.get(p)))?)
    }
}

/// Samples along the first axis of one or several tensors.
#[derive(Clone, Debug)]
pub struct TensorDataset<B> {
    tensors: B,
    len: usize,
}

impl<B: Tensors> TensorDataset<B> {
    /// A data set over a tuple of tensors (or a single tensor) with the same number of samples each.
    ///
    /// # Errors
    /// If their first axes differ in length.
    pub fn new(tensors: B) -> Result<Self> {
        let len = common_len(&tensors.tensors())?;
        Ok(TensorDataset { tensors, len })
    }

    /// The tensors.
    pub fn tensors(&self) -> &B {
        &self.tensors
    }
}

impl<B: Tensors + Send + Sync> Dataset for TensorDataset<B> {
    type Sample = B;

    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, position: usize) -> Result<B> {
        sample(&self.tensors, position)
    }

    fn batch(&self, positions: &[usize]) -> Result<B> {
        select(&self.tensors, positions)
    }
}

/// Some samples of a data set, in any order.
pub struct Subset<D> {
    dataset: Arc<D>,
    positions: Vec<usize>,
}

impl<D> Clone for Subset<D> {
    fn clone(&self) -> Self {
        Subset { dataset: self.dataset.clone(), positions: copied(&self.positions) }
    }
}

impl<D: Dataset> Subset<D> {
    /// The samples at these positions.
    ///
    /// # Errors
    /// If there is no such position.
    pub fn new(dataset: Arc<D>, positions: Vec<usize>) -> Result<Self> {
        match positions.iter().find(|&&p| p >= dataset.len()) {
            Some(p) => {
                Err(Error::index("Subset", format!("there is no sample {p} in a data set of {}", dataset.len())))
            }
            None => Ok(Subset { dataset, positions }),
        }
    }

    /// The positions in the whole data set.
    pub fn positions(&self) -> &[usize] {
        &self.positions
    }
}

impl<D: Dataset> Dataset for Subset<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        self.positions.len()
    }

    fn get(&self, position: usize) -> Result<D::Sample> {
        match self.positions.get(position) {
            Some(&p) => self.dataset.get(p),
            None => Err(Error::index("Subset", format!("there is no sample {position} among {}", self.len()))),
        }
    }

    fn batch(&self, positions: &[usize]) -> Result<D::Sample> {
        match positions.iter().find(|&&p| p >= self.len()) {
            Some(p) => Err(Error::index("Subset", format!("there is no sample {p} among {}", self.len()))),
            None => {
                room::<usize>("Subset", &[positions.len()])?;
                self.dataset.batch(&collected(positions.iter().map(|&p| self.positions[p])))
            }
        }
    }
}

impl<D: Dataset + ?Sized> Dataset for Arc<D> {
    type Sample = D::Sample;

    fn len(&self) -> usize {
        (**self).len()
    }

    fn get(&self, position: usize) -> Result<D::Sample> {
        (**self).get(position)
    }

    fn batch(&self, positions: &[usize]) -> Result<D::Sample> {
        (**self).batch(positions)
    }
}

/// Splits a data set at random into parts of the given lengths, as determined by the seed of
/// [`manual_seed`](crate::manual_seed).
///
/// ```
/// use ndnn::{data::{Dataset, TensorDataset, random_split}, prelude::*};
/// let all = TensorDataset::new((Tensor::<f32>::zeros([150, 4]), Tensor::<i64>::zeros([150])))?;
/// let [train, test] = random_split(all, [120, 30])?;
/// assert_eq!((train.len(), test.len()), (120, 30));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the lengths do not add up to the number of samples.
pub fn random_split<D: Dataset, const N: usize>(dataset: D, lengths: [usize; N]) -> Result<[Subset<D>; N]> {
    let total = lengths.iter().fold(0, |sum: usize, &n| sum.saturating_add(n));
    if total != dataset.len() {
        return Err(Error::value(
            "random_split",
            format!("the lengths {lengths:?} add up to {total}, the data set has {} samples", dataset.len()),
        ));
    }
    room::<usize>("random_split", &[total])?;
    let order = collected(Tensor::<i64>::randperm(total).to_vec().into_iter().map(|p| p as usize));
    let dataset = Arc::new(dataset);
    let mut at = 0;
    Ok(lengths.map(|n| {
        at += n;
        Subset { dataset: dataset.clone(), positions: copied(&order[at - n..at]) }
    }))
}
