//! Batches of a data set, one epoch at a time.

use rand::{SeedableRng, seq::SliceRandom};

use super::dataset::Dataset;
use crate::{
    Result,
    kernels::{memory::collected, sizes::must},
    random,
};

/// Divides a data set into batches, in order or shuffled.
///
/// The order of an epoch depends only on the seed and the epoch's number, so a run can be resumed at any epoch.
pub struct DataLoader<D> {
    dataset: D,
    batch_size: usize,
    shuffle: bool,
    drop_last: bool,
    seed: Option<u64>,
}

impl<D: Dataset> DataLoader<D> {
    /// Batches of `batch_size` samples, in order; the last one may be smaller.
    ///
    /// # Panics
    /// If `batch_size` is 0.
    #[track_caller]
    pub fn new(dataset: D, batch_size: usize) -> Self {
        assert!(batch_size > 0, "DataLoader: a batch_size is at least 1, got 0");
        DataLoader { dataset, batch_size, shuffle: false, drop_last: false, seed: None }
    }

    /// Whether each epoch is shuffled; `false` by default.
    pub fn shuffle(mut self, shuffle: bool) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// Whether to leave out a last batch that is not full; `false` by default.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// The seed of the order; by default that of [`manual_seed`](crate::manual_seed).
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The number of batches in an epoch.
    pub fn len(&self) -> usize {
        match self.drop_last {
            true => self.dataset.len() / self.batch_size,
            false => self.dataset.len().div_ceil(self.batch_size),
        }
    }

    /// Whether an epoch has no batches.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The data set.
    pub fn dataset(&self) -> &D {
        &self.dataset
    }

    /// The batches of one epoch. Panics if a sample cannot be read, and the message names the line of this call;
    /// [`try_epoch`](DataLoader::try_epoch) returns the error instead.
    #[track_caller]
    pub fn epoch(&self, epoch: u64) -> impl ExactSizeIterator<Item = D::Sample> {
        let place = std::panic::Location::caller();
        self.try_epoch(epoch)
            .map(move |batch| batch.unwrap_or_else(|error| panic!("{error}; in the epoch begun at {place}")))
    }

    /// The batches of one epoch, each as a `Result`.
    #[track_caller]
    pub fn try_epoch(&self, epoch: u64) -> Epoch<'_, D> {
        must::<usize>("DataLoader", &[self.dataset.len()]);
        let mut order = collected(0..self.dataset.len());
        if self.shuffle {
            let seed = self.seed.unwrap_or_else(random::seed);
            let own = epoch.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            order.shuffle(&mut random::Generator::seed_from_u64(seed ^ own));
        }
        if self.drop_last {
            // Only full batches.
            order.truncate(self.len() * self.batch_size);
        }
        Epoch { loader: self, order, at: 0 }
    }
}

/// The batches of one epoch.
pub struct Epoch<'a, D> {
    loader: &'a DataLoader<D>,
    order: Vec<usize>,
    at: usize,
}

impl<D: Dataset> Iterator for Epoch<'_, D> {
    type Item = Result<D::Sample>;

    fn next(&mut self) -> Option<Self::Item> {
        let end = self.at.saturating_add(self.loader.batch_size).min(self.order.len());
        let positions = &self.order[self.at..end];
        self.at = end;
        (!positions.is_empty()).then(|| self.loader.dataset.batch(positions))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = (self.order.len() - self.at).div_ceil(self.loader.batch_size);
        (left, Some(left))
    }
}

impl<D: Dataset> ExactSizeIterator for Epoch<'_, D> {}
