//! From samples to a batch.

use crate::{
    Error, Result,
    kernels::memory::vector,
    tensor::{Element, Tensor},
};

/// What a sample may be, so that samples can be put together into a batch: a tensor, or a tuple of such.
pub trait Collate: Sized {
    /// The samples as one batch, with a new first axis.
    ///
    /// # Errors
    /// If the samples differ in shape.
    fn collate(samples: Vec<Self>) -> Result<Self>;
}

/// What holds a batch of samples along the first axis of each tensor: a tensor, or a tuple of such.
pub trait Batch: Sized + Clone + Send + Sync {
    /// The number of samples in each tensor.
    fn lens(&self) -> Vec<usize>;

    /// The samples at these positions, in this order.
    ///
    /// # Errors
    /// If there is no such position.
    fn select(&self, positions: &[usize]) -> Result<Self>;

    /// One sample, without the first axis.
    ///
    /// # Errors
    /// If there is no such position.
    fn sample(&self, position: usize) -> Result<Self>;
}

impl<T: Element> Collate for Tensor<T> {
    fn collate(samples: Vec<Self>) -> Result<Self> {
        Tensor::stack(&samples, 0)
    }
}

impl<T: Element> Batch for Tensor<T> {
    fn lens(&self) -> Vec<usize> {
        vec![self.shape().first().copied().unwrap_or(0)]
    }

    fn select(&self, positions: &[usize]) -> Result<Self> {
        self.index_select(0, &positions.iter().map(|&p| p as i64).collect())
    }

    fn sample(&self, position: usize) -> Result<Self> {
        // A position beyond all numbers of an axis must not count from the end.
        Tensor::select(self, 0, isize::try_from(position).unwrap_or(isize::MAX))
    }
}

macro_rules! tuples {
    ($(($($name:ident $i:tt),+)),*) => {$(
        impl<$($name: Collate),+> Collate for ($($name,)+) {
            fn collate(samples: Vec<Self>) -> Result<Self> {
                let mut columns = ($(vector::<$name>(samples.len()),)+);
                for sample in samples {
                    $(columns.$i.push(sample.$i);)+
                }
                Ok(($($name::collate(columns.$i)?,)+))
            }
        }

        impl<$($name: Batch),+> Batch for ($($name,)+) {
            fn lens(&self) -> Vec<usize> {
                let mut lens = Vec::new();
                $(lens.extend(self.$i.lens());)+
                lens
            }
            fn select(&self, positions: &[usize]) -> Result<Self> {
                Ok(($(self.$i.select(positions)?,)+))
            }
            fn sample(&self, position: usize) -> Result<Self> {
                Ok(($(self.$i.sample(position)?,)+))
            }
        }
    )*};
}
tuples!((A 0), (A 0, B 1), (A 0, B 1, C 2), (A 0, B 1, C 2, D 3), (A 0, B 1, C 2, D 3, E 4), (A 0, B 1, C 2, D 3, E 4, F 5));

/// The common number of samples.
pub(super) fn common_len(lens: &[usize]) -> Result<usize> {
    match lens {
        [first, rest @ ..] if rest.iter().all(|n| n == first) => Ok(*first),
        _ => Err(Error::shape("TensorDataset", format!("the tensors hold different numbers of samples: {lens:?}"))),
    }
}
