//! From which size on work is split among threads, and how large a task is.
//!
//! `…_PARALLEL` is the minimum size for which work is split, `…_TASK` the approximate size of a task, both in the unit
//! given at the pair. The size of the problem alone decides, never the number of threads, so that results have the same
//! bits on any number of threads. Only matrix products, and the sequences of a recurrent layer, are cut by the number of threads:
//! each element of theirs is summed in the same order wherever they are cut.

/// Elementwise operations, in elements of the result.
pub const ELEMENTWISE_PARALLEL: usize = 1 << 16;
pub const ELEMENTWISE_TASK: usize = 1 << 15;

/// One pass of an optimizer, in elements of the parameter.
pub const OPTIMIZER_PARALLEL: usize = 1 << 16;
pub const OPTIMIZER_TASK: usize = 1 << 14;

/// Kernels that see one row each, in elements read.
pub const ROW_PARALLEL: usize = 1 << 16;
pub const ROW_TASK: usize = 1 << 14;

/// Reductions, in elements of the input.
pub const REDUCE_PARALLEL: usize = 1 << 17;
pub const REDUCE_TASK: usize = 1 << 15;

/// Copies, in bytes.
pub const COPY_PARALLEL: usize = 1 << 18;
pub const COPY_TASK: usize = 1 << 17;

/// Pooling, in taps: windows times elements per window.
pub const POOLING_PARALLEL: usize = 200_000;
pub const POOLING_TASK: usize = 50_000;

/// Interpolation, in elements of the input or of the result, whichever are more.
pub const INTERPOLATION_PARALLEL: usize = 1 << 16;
pub const INTERPOLATION_TASK: usize = 1 << 14;

/// Sampling at the places of a grid, in multiply-adds.
pub const SAMPLING_PARALLEL: usize = 100_000;
pub const SAMPLING_TASK: usize = 25_000;

/// Convolutions, in multiply-adds.
pub const CONV_PARALLEL: usize = 1_000_000;
pub const CONV_TASK: usize = 250_000;

/// Connectionist temporal classification, in states times steps; a task is a sample.
pub const CTC_PARALLEL: usize = 1 << 13;

/// Matrix products, in multiply-adds; from `PRODUCT_FINE` on each thread gets several parts.
pub const PRODUCT_PARALLEL: usize = 1 << 20;
pub const PRODUCT_FINE: usize = 1 << 26;

/// Products of a few rows with a matrix each of whose elements is used once per row, in elements of the matrix.
pub const DOTS_PARALLEL: usize = 1 << 19;

/// Recurrent networks, in sequences that a task takes through all steps: the state and the gates of so many stay in the
/// second-level cache.
pub const RECURRENT_ROWS: usize = 64;
/// The number of steps from which on a copy of the weights pays for a few sequences.
pub const RECURRENT_PACKED: usize = 32;
