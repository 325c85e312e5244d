//! Convolution and its two derivatives, as products of a matrix with columns.
//!
//! Work is split by the problem's size alone, so that the bits of a result do not depend on the number of threads.

use std::ops::Range;

use ndarray::{ArrayD, ArrayView2, ArrayViewD, ArrayViewMut2, ShapeBuilder, s};

use super::{
    gemm::product,
    im2col::{col2im, im2col},
    layout::row_major,
    memory::{buffer, filled, full, recycle, sized},
    profile,
    reduce::add_row,
    sizes::saturating,
    taps::{self, Plan},
    threads::{self, Cut},
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

    /// The number of tiles.
    fn tiles(&self) -> usize {
        self.windows.output_len().div_ceil(self.tile().max(1))
    }

    /// The windows of a tile.
    fn windows_of(&self, tile: usize) -> Range<usize> {
        let (len, size) = (self.windows.output_len(), self.tile());
        tile * size..len.min((tile + 1) * size)
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

/// Runs `f` on each of a number of tasks, on several threads if there is enough work, and lends it scratch space.
#[track_caller]
pub fn run_tasks<T: Real>(work: usize, tasks: usize, f: &(dyn Fn(&mut Vec<T>, usize) + Sync)) {
    // Tasks that share their scratch space.
    let least = if work < PARALLEL { tasks } else { saturating([TASK, tasks]).div_ceil(work) }.max(1);
    threads::for_each(work, tasks.div_ceil(least), &|part| {
        let mut space = buffer(COLUMNS);
        for task in part * least..tasks.min((part + 1) * least) {
            f(&mut space, task);
        }
        recycle(space);
    });
}

/// The convolution: `y[n, f] = bias[f] + Σ_c w[f, c] ⋆ x[n, c]`.
#[allow(unsafe_code)]
pub fn conv<T: Real>(
    x: ArrayViewD<'_, T>,
    weight: ArrayViewD<'_, T>,
    bias: Option<ArrayViewD<'_, T>>,
    sizes: &ConvSizes,
) -> ArrayD<T> {
    let mut out = full("conv", &sizes.output_shape(), T::zero());
    if out.is_empty() {
        return out;
    }
    let (x, weight, bias) = (row_major(&x), row_major(&weight), bias.as_ref().map(row_major));
    let ((_, features), len) = (sizes.group(), sizes.windows.output_len());
    let (work, elements) = (sizes.work(), out.as_slice_mut().expect("standard layout"));
    if work > 0
        && let Some(plan) = Plan::forward(sizes)
    {
        plan.run((&x, &weight, bias.as_deref()), sizes, work, elements);
        return out;
    }
    begin(elements, len, bias.as_deref());
    if work > 0 {
        let (tiles, cut) = (sizes.tiles(), &Cut::new(elements));
        run_tasks(work, sizes.batch * sizes.groups * tiles, &|space, task| {
            let (i, at) = (task / tiles, sizes.windows_of(task % tiles));
            let part = (features, at.len()).strides((len, 1));
            // SAFETY: each tile is handed out once, and lies inside the result.
            let mut out = unsafe { ArrayViewMut2::from_shape_ptr(part, cut.at(i * features * len + at.start)) };
            product(sizes.weight(&weight, i % sizes.groups), sizes.columns(&x, i, at, space), &mut out, true);
        });
    }
    out
}

/// The values to which products are added: those of the bias, if there is one.
fn begin<T: Real>(out: &mut [T], len: usize, bias: Option<&[T]>) {
    if let Some(bias) = bias {
        for (i, row) in out.chunks_exact_mut(len).enumerate() {
            row.fill(bias[i % bias.len()]);
        }
    }
}

/// The derivative with respect to the input, which is also the transposed convolution: `dx[n, c] = bias[c] + Σ_f w[f, c] ∗
/// g[n, f]`.
#[allow(unsafe_code)]
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
    begin(elements, len, bias.as_deref());
    let (parts, elements) = (channels.div_ceil(part), &Cut::new(elements));
    run_tasks(work, count * parts, &|space, task| {
        let (i, first) = (task / parts, task % parts * part);
        let some = part.min(channels - first);
        let rows = first * per_channel..(first + some) * per_channel;
        // SAFETY: each part of the channels is handed out once.
        let x = unsafe { elements.part((i * channels + first) * len, some * len) };
        let weight = sizes.weight(&weight, i % sizes.groups).slice_move(s![.., rows.clone()]).reversed_axes();
        let g = matrix(&g, i, features, windows.output_len());
        if windows.is_identity() {
            let mut x = ArrayViewMut2::from_shape((some, len), x).expect("as many elements");
            return product(weight, g, &mut x, bias.is_some());
        }
        for at in (0..sizes.tiles()).map(|tile| sizes.windows_of(tile)) {
            sized(space, saturating([rows.len(), at.len()]), T::zero());
            let mut columns = ArrayViewMut2::from_shape((rows.len(), at.len()), space).expect("as many elements");
            product(weight, g.slice(s![.., at.clone()]), &mut columns, false);
            col2im(space, windows, at, x);
        }
    });
    out
}

/// The derivative with respect to the weight: `dw[f, c] = Σ_n g[n, f] ⋆ x[n, c]`.
#[allow(unsafe_code)]
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
    let (tiles, block) = (sizes.tiles(), features * rows);
    let units = sizes.batch * tiles;
    let part = units.div_ceil((SUMS / sizes.groups).max(1));
    let parts = units.div_ceil(part);
    let mut sums = filled(sizes.groups * parts * block, T::ZERO);
    let cut = &Cut::new(&mut sums);
    run_tasks(work, sizes.groups * parts, &|space, task| {
        let first = task % parts * part;
        // SAFETY: each sum is handed out once.
        let sum = unsafe { cut.chunk(task, block) };
        let mut sum = ArrayViewMut2::from_shape((features, rows), sum).expect("as many elements");
        for unit in first..units.min(first + part) {
            let (i, at) = (unit / tiles * sizes.groups + task / parts, sizes.windows_of(unit % tiles));
            let g = matrix(&g, i, features, len).slice_move(s![.., at.clone()]);
            product(g, sizes.columns(&x, i, at, space).reversed_axes(), &mut sum, true);
        }
    });
    let blocks = out.as_slice_mut().expect("standard layout").chunks_exact_mut(block);
    for (sums, out) in sums.chunks_exact(parts * block).zip(blocks) {
        for sum in sums.chunks_exact(block) {
            add_row(out, sum, T::plus);
        }
    }
    recycle(sums);
    out
}
