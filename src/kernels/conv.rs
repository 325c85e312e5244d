//! Convolution and its two derivatives, as products of a matrix with columns.
//!
//! Work is split by the problem's size alone, so that the bits of a result do not depend on the number of threads.

use std::ops::Range;

use ndarray::{Array3, ArrayD, ArrayView2, ArrayViewD, ArrayViewMut2, Axis, Dimension, IxDyn, s};

use super::{
    gemm::product,
    im2col::{col2im, im2col},
    layout::row_major,
    memory::{buffer, collected, full, push, recycle, sized},
    profile,
    sizes::saturating,
    taps::{self, Plan},
    threads,
    thresholds::{CONV_PARALLEL as PARALLEL, CONV_TASK as TASK},
    windows::Windows,
};
use crate::number::Real;

/// Elements of the columns that are worked on at a time: they stay in the cache.
const COLUMNS: usize = 1 << 16;
/// Minimum number of windows per product.
const LEAST: usize = 64;
/// Maximum number of partial sums into which the gradient of the weight is split.
pub const SUMS: usize = 16;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub struct ConvSizes {
    /// The number of axes besides batch and channels, 1 to 3.
    pub axes: usize,
    pub batch: usize,
    pub groups: usize,
    /// Channels of the input, all groups together.
    pub channels: usize,
    /// Channels of the output, all groups together.
    pub features: usize,
    pub windows: Windows,
}

impl ConvSizes {
    fn shape(&self, lead: [usize; 2], sizes: [usize; 3]) -> Vec<usize> {
        [&lead[..], &sizes[3 - self.axes..]].concat()
    }

    /// `(batch, channels, sizes…)`
    pub fn input_shape(&self) -> Vec<usize> {
        self.shape([self.batch, self.channels], self.windows.input)
    }

    /// `(features, channels / groups, kernel sizes…)`
    pub fn weight_shape(&self) -> Vec<usize> {
        self.shape([self.features, self.channels / self.groups], self.windows.kernel)
    }

    /// `(batch, features, sizes…)`
    pub fn output_shape(&self) -> Vec<usize> {
        self.shape([self.batch, self.features], self.windows.output)
    }

    /// The channels of the input and of the output in one group.
    pub fn group(&self) -> (usize, usize) {
        (self.channels / self.groups, self.features / self.groups)
    }

    /// The number of rows of one group's columns: channels times taps, which is also the number of weights per feature.
    fn rows(&self) -> usize {
        self.group().0 * self.windows.kernel_len()
    }

    /// The number of multiply-adds, the same for the convolution and its derivatives. It also adds them to the profile.
    fn work(&self) -> usize {
        let work = saturating([self.batch, self.features, self.rows(), self.windows.output_len()]);
        profile::add(work);
        work
    }

    /// The number of windows that are worked on at a time.
    fn tile(&self) -> usize {
        (COLUMNS / self.rows().max(1)).max(LEAST).next_multiple_of(16).min(self.windows.output_len())
    }

    /// The ranges of windows, one per tile.
    fn tiles(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        let (len, tile) = (self.windows.output_len(), self.tile());
        (0..len).step_by(tile.max(1)).map(move |start| start..len.min(start + tile))
    }

    /// The weights of one group as a matrix with one row per feature.
    fn weight<'a, T>(&self, weight: &'a [T], group: usize) -> ArrayView2<'a, T> {
        matrix(weight, group, self.group().1, self.rows())
    }

    /// The columns of one group of one sample; `i` counts through samples and groups.
    fn columns<'a, T: Real>(&self, x: &'a [T], i: usize, at: Range<usize>, space: &'a mut Vec<T>) -> ArrayView2<'a, T> {
        let (channels, len) = (self.group().0, self.windows.input_len());
        if self.windows.is_identity() {
            return matrix(x, i, channels, len).slice_move(s![.., at]);
        }
        let x = &x[i * channels * len..][..channels * len];
        let len = saturating([self.rows(), at.len()]);
        sized(space, len, T::zero());
        im2col(x, &self.windows, at.clone(), space);
        matrix(space, 0, self.rows(), at.len())
    }
}

/// The `i`-th of several matrices that are stored one after another.
fn matrix<T>(elements: &[T], i: usize, rows: usize, columns: usize) -> ArrayView2<'_, T> {
    let len = rows * columns;
    ArrayView2::from_shape((rows, columns), &elements[i * len..][..len]).expect("as many elements")
}

fn zeros<T: Real>(shape: [usize; 3]) -> Array3<T> {
    full("conv", &shape, T::zero()).into_dimensionality().expect("three axes")
}

/// Runs `f` on each task, on several threads if there is enough work, and lends it scratch space.
pub fn run_tasks<T: Real, I: Send>(work: usize, tasks: Vec<I>, f: impl Fn(&mut Vec<T>, I) + Send + Sync) {
    // Tasks that share their scratch space.
    let least = if work < PARALLEL { tasks.len() } else { saturating([TASK, tasks.len()]).div_ceil(work) };
    let mut tasks = tasks.into_iter();
    let parts = std::iter::from_fn(|| Some(collected(tasks.by_ref().take(least))).filter(|p| !p.is_empty()));
    threads::each(work, parts, |part| {
        let mut space = buffer(COLUMNS);
        part.into_iter().for_each(|task| f(&mut space, task));
        recycle(space);
    });
}

/// The convolution: `y[n, f] = bias[f] + Σ_c w[f, c] ⋆ x[n, c]`.
pub fn conv<T: Real>(
    x: ArrayViewD<'_, T>,
    weight: ArrayViewD<'_, T>,
    bias: Option<ArrayViewD<'_, T>>,
    sizes: &ConvSizes,
) -> ArrayD<T> {
    let shape = IxDyn(&sizes.output_shape());
    if shape.slice().contains(&0) {
        return full("conv", shape.slice(), T::zero());
    }
    let (x, weight, bias) = (row_major(&x), row_major(&weight), bias.as_ref().map(row_major));
    let ((_, features), len) = (sizes.group(), sizes.windows.output_len());
    let mut out = zeros([sizes.batch * sizes.groups, features, len]);
    let work = sizes.work();
    if work > 0
        && let Some(plan) = Plan::forward(sizes)
    {
        let elements = out.as_slice_mut().expect("standard layout");
        plan.run((&x, &weight, bias.as_deref()), sizes, work, elements);
        return out.into_shape_with_order(shape).expect("as many elements");
    }
    if let Some(bias) = &bias {
        for (i, mut out) in out.outer_iter_mut().enumerate() {
            let bias = &bias[i % sizes.groups * features..];
            out.outer_iter_mut().zip(bias).for_each(|(mut row, &b)| row.fill(b));
        }
    }
    if work > 0 {
        let mut tasks = Vec::new();
        for (i, mut rest) in out.outer_iter_mut().enumerate() {
            for at in sizes.tiles() {
                let (part, behind) = rest.split_at(Axis(1), at.len());
                push(&mut tasks, (i, at, part));
                rest = behind;
            }
        }
        run_tasks(work, tasks, |space, (i, at, mut out)| {
            product(sizes.weight(&weight, i % sizes.groups), sizes.columns(&x, i, at, space), &mut out, true);
        });
    }
    out.into_shape_with_order(shape).expect("as many elements")
}

/// The derivative with respect to the input, which is also the transposed convolution: `dx[n, c] = bias[c] + Σ_f w[f, c] ∗
/// g[n, f]`.
pub fn input_grad<T: Real>(
    g: ArrayViewD<'_, T>,
    weight: ArrayViewD<'_, T>,
    bias: Option<ArrayViewD<'_, T>>,
    sizes: &ConvSizes,
) -> ArrayD<T> {
    let (g, weight, bias) = (row_major(&g), row_major(&weight), bias.as_ref().map(row_major));
    let ((channels, features), windows) = (sizes.group(), &sizes.windows);
    let (per_channel, len) = (windows.kernel_len(), windows.input_len());
    let mut out = full("conv", &sizes.input_shape(), T::zero());
    let work = sizes.work();
    if work == 0 {
        return out;
    }
    // The windows overlap, so one task takes all windows; where there are few samples, it takes only a part of the
    // channels.
    let count = sizes.batch * sizes.groups;
    let part = if count >= SUMS { channels } else { channels.div_ceil(SUMS) };
    let elements = out.as_slice_mut().expect("standard layout");
    if let Some(plan) = Plan::transposed(sizes).filter(|_| taps::finite(&weight)) {
        plan.run((&g, &weight, bias.as_deref()), sizes, work, elements);
        return out;
    }
    if let Some(bias) = &bias {
        elements.chunks_exact_mut(len).zip(bias.iter().cycle()).for_each(|(row, &b)| row.fill(b));
    }
    let blocks = elements.chunks_mut(channels * len).enumerate();
    let tasks =
        collected(blocks.flat_map(|(i, block)| block.chunks_mut(part * len).enumerate().map(move |(j, x)| (i, j, x))));
    run_tasks(work, tasks, |space, (i, j, x)| {
        let rows = j * part * per_channel..(j * part + x.len() / len) * per_channel;
        let weight = sizes.weight(&weight, i % sizes.groups).slice_move(s![.., rows.clone()]).reversed_axes();
        let g = matrix(&g, i, features, windows.output_len());
        if windows.is_identity() {
            let mut x = ArrayViewMut2::from_shape((x.len() / len, len), x).expect("as many elements");
            return product(weight, g, &mut x, bias.is_some());
        }
        for at in sizes.tiles() {
            sized(space, saturating([rows.len(), at.len()]), T::zero());
            let mut columns = ArrayViewMut2::from_shape((rows.len(), at.len()), space).expect("as many elements");
            product(weight, g.slice(s![.., at.clone()]), &mut columns, false);
            col2im(space, windows, at, x);
        }
    });
    out
}

/// The derivative with respect to the weight: `dw[f, c] = Σ_n g[n, f] ⋆ x[n, c]`.
pub fn weight_grad<T: Real>(x: ArrayViewD<'_, T>, g: ArrayViewD<'_, T>, sizes: &ConvSizes) -> ArrayD<T> {
    let (x, g) = (row_major(&x), row_major(&g));
    let ((_, features), rows, len) = (sizes.group(), sizes.rows(), sizes.windows.output_len());
    let mut out = full("conv", &sizes.weight_shape(), T::zero());
    let work = sizes.work();
    if work == 0 {
        return out;
    }
    if let Some(plan) = Plan::forward(sizes).filter(|_| taps::finite(&x)) {
        plan.weight_grad(&x, &g, sizes, work, out.as_slice_mut().expect("standard layout"));
        return out;
    }
    // The weights of one group are a sum over samples and tiles, taken in a few parts that are added in a fixed order.
    let units = collected((0..sizes.batch).flat_map(|n| sizes.tiles().map(move |at| (n, at))));
    let part = units.len().div_ceil((SUMS / sizes.groups).max(1));
    let parts = collected(units.chunks(part));
    let mut sums = zeros([sizes.groups * parts.len(), features, rows]);
    let tasks = collected(sums.outer_iter_mut().enumerate());
    run_tasks(work, tasks, |space, (t, mut sum)| {
        let group = t / parts.len();
        for (n, at) in parts[t % parts.len()] {
            let i = n * sizes.groups + group;
            let g = matrix(&g, i, features, len).slice_move(s![.., at.clone()]);
            product(g, sizes.columns(&x, i, at.clone(), space).reversed_axes(), &mut sum, true);
        }
    });
    let blocks = out.as_slice_mut().expect("standard layout").chunks_mut(features * rows);
    for (group, block) in blocks.enumerate() {
        for sum in sums.slice(s![group * parts.len()..(group + 1) * parts.len(), .., ..]).outer_iter() {
            block.iter_mut().zip(sum).for_each(|(a, &b)| *a += b);
        }
    }
    out
}
