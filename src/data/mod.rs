//! Data sets and loaders: [`Dataset`], [`TensorDataset`], [`DataLoader`], [`random_split`]; readers for IDX and CSV
//! files.
//!
//! ```
//! use ndnn::{data::{DataLoader, TensorDataset}, prelude::*};
//! let (x, y) = (Tensor::<f32>::zeros([100, 3]), Tensor::<i64>::zeros([100]));
//! let loader = DataLoader::new(TensorDataset::new((x, y))?, 32).shuffle(true);
//! for (x, y) in loader.epoch(0) {
//!     assert!(x.shape()[0] <= 32 && x.shape()[0] == y.shape()[0]);
//! }
//! # Ok::<(), ndnn::Error>(())
//! ```

mod collate;
#[cfg(feature = "csv")]
mod csv;
mod dataset;
mod file;
pub mod idx;
mod loader;

#[cfg(feature = "csv")]
pub use self::csv::Csv;
pub use collate::collate;
pub use dataset::{Dataset, Subset, TensorDataset, random_split};
pub use loader::{DataLoader, Epoch};
