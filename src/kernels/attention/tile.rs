//! What is done to a tile of scores besides products: masks, the softmax so far, dropped weights; and memory for it.

use std::{ops::Range, slice};

use ndarray::ArrayD;

use super::{Attention, Block, Grid, KEYS, LANES, Mask, QUERIES};
use crate::{
    kernels::{
        gemm::{Mat, pack_columns, transpose},
        isa::{Isa, Kernel},
        memory::{LINE, buffer, full, recycle},
        random::Key,
        scalar::max_num,
        vmath::VectorMath,
    },
    number::Real,
};

/// Elements beyond their end that packing and transposing may write.
const BEYOND: usize = 8;

/// Memory for the parts of one task, each at the start of a cache line.
pub struct Scratch<T: Copy>(Vec<T>);

impl<T: Copy> Scratch<T> {
    /// The memory, and the parts of these lengths, uninitialised.
    pub fn new<const N: usize>(lens: [usize; N]) -> (Self, [*mut T; N]) {
        let mut parts = [std::ptr::null_mut(); N];
        (Self::of(&lens, &mut parts), parts)
    }

    fn of(lens: &[usize], parts: &mut [*mut T]) -> Self {
        let line = LINE / size_of::<T>();
        let padded = |len: usize| (len + BEYOND).next_multiple_of(line);
        let mut memory = buffer(lens.iter().map(|&len| padded(len)).sum::<usize>() + line);
        let mut at: *mut T = memory.as_mut_ptr();
        at = at.wrapping_add(at.align_offset(LINE));
        for (part, &len) in parts.iter_mut().zip(lens) {
            *part = at;
            at = at.wrapping_add(padded(len));
        }
        Scratch(memory)
    }
}

impl<T: Copy> Drop for Scratch<T> {
    fn drop(&mut self) {
        recycle(std::mem::take(&mut self.0));
    }
}

/// `count` elements with one value.
///
/// # Safety
/// `at` must be valid for writing them for as long as the result is used, and nothing else may use them meanwhile.
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn filled<'a, T: Copy>(at: *mut T, count: usize, value: T) -> &'a mut [T] {
    // SAFETY: the caller's promise; all elements are written before they are borrowed.
    unsafe {
        (0..count).for_each(|i| at.add(i).write(value));
        slice::from_raw_parts_mut(at, count)
    }
}

/// Queries (or gradients of results) `(rows, E)` as a matrix `(E, width)`, times `scale`, padded with zeros.
///
/// # Safety
/// `x` must be valid for reading, `space` for writing `E · width` elements and [`BEYOND`] more.
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn packed<T: Real>(x: Mat<T>, scale: T, width: usize, space: *mut T) -> Mat<T> {
    let len = x.columns * width;
    // SAFETY: the caller's promise. A panel is as wide as the padded rows, so it is all there is.
    unsafe {
        pack_columns(x.t(), width, width, space);
        if scale != T::ONE {
            slice::from_raw_parts_mut(space, len).iter_mut().for_each(|x| *x *= scale);
        }
    }
    Mat::new(space, (x.columns, width), &[width as isize, 1])
}

/// The matrix, or a copy of it in `space` if its rows are in places that compete for the cache.
///
/// # Safety
/// `x` must be valid for reading, `space` for writing as many elements.
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn near<T: Real>(x: Mat<T>, space: *mut T) -> Mat<T> {
    if x.column == 1 && !is_far(x) {
        return x;
    }
    let copy = Mat::new(space, (x.rows, x.columns), &[x.columns as isize, 1]);
    // SAFETY: the caller's promise.
    unsafe { put(x, copy, T::ONE) };
    copy
}

/// Whether cache lines of different rows have few places in the first-level cache.
pub fn is_far<T>(x: Mat<T>) -> bool {
    x.column != 1 || (x.row.unsigned_abs() * size_of::<T>()).is_multiple_of(1 << 11)
}

/// Writes each element of a matrix, times `scale`, to another of its shape.
///
/// # Safety
/// They must be valid for reading and for writing.
#[allow(unsafe_code)]
#[inline(never)]
pub unsafe fn put<T: Real>(x: Mat<T>, to: Mat<T>, scale: T) {
    for i in 0..x.rows {
        let (from, to_row) = (x.element(i, 0), to.element(i, 0));
        // SAFETY: the caller's promise.
        unsafe {
            if x.column == 1 && to.column == 1 {
                (0..x.columns).for_each(|j| to_row.add(j).write(*from.add(j) * scale));
            } else {
                (0..x.columns).for_each(|j| to.element(i, j).write(*x.element(i, j) * scale));
            }
        }
    }
}

/// What a product of queries and keys is added to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    Nothing,
    /// To what the tile holds now.
    Tile,
    /// No query sees any of these keys.
    Hidden,
}

impl<T: Real> Attention<'_, T> {
    /// Writes the masks of a block and some keys to a tile.
    ///
    /// # Safety
    /// `tile` must be valid for writing a row of the block's width for each key, and [`BEYOND`] more elements.
    #[allow(unsafe_code)]
    pub unsafe fn fill(&self, block: &Block, keys: Range<usize>, tile: *mut T) -> Fill {
        if self.masks.is_empty() {
            return Fill::Nothing;
        }
        let (rows, width) = (block.rows.len(), block.width);
        // SAFETY: the caller's promise; the masks are valid for reading, and the tile has a row for each key.
        unsafe {
            filled(tile, keys.len() * width, T::ZERO);
            for (number, mask) in self.masks.iter().enumerate() {
                match mask {
                    Mask::Float(added) => {
                        let added = added.matrix(block.head).part(block.rows.clone(), keys.clone());
                        match number {
                            0 if added.column == 1 && added.row != 0 => transpose(added, tile, width),
                            _ => each(tile, width, added, |x, m| x + m),
                        }
                    }
                    Mask::Bool(mask, hidden) => {
                        let mask = mask.matrix(block.head).part(block.rows.clone(), keys.clone());
                        each(tile, width, mask, |x, m| if m == *hidden { T::neg_infinity() } else { x });
                    }
                }
            }
        }
        // SAFETY: all of its elements were written.
        let tile = unsafe { slice::from_raw_parts_mut(tile, keys.len() * width) };
        self.hide_later(block, keys, tile);
        let blind = |row: &[T]| row[..rows].iter().all(|&x| x == T::neg_infinity());
        if tile.chunks_exact(width).all(blind) { Fill::Hidden } else { Fill::Tile }
    }

    /// Hides later keys from each query, if attention is causal; of scores, also those that are not numbers.
    pub fn hide_later(&self, block: &Block, keys: Range<usize>, tile: &mut [T]) {
        if self.causal {
            for (j, row) in keys.zip(tile.chunks_exact_mut(block.width)) {
                let hidden = j.saturating_sub(block.rows.start).min(block.rows.len());
                row[..hidden].fill(T::neg_infinity());
            }
        }
    }
}

/// Changes each element of a tile by that of a mask `(L, S)`.
///
/// # Safety
/// The mask must be valid for reading, and the tile, for writing too, have a row for each of its keys.
#[allow(unsafe_code)]
#[inline(always)]
unsafe fn each<T: Copy, M: Copy>(tile: *mut T, width: usize, mask: Mat<M>, f: impl Fn(T, M) -> T) {
    for j in 0..mask.columns {
        for i in 0..mask.rows {
            // SAFETY: the caller's promise.
            unsafe {
                let x = tile.add(j * width + i);
                *x = f(*x, *mask.element(i, j));
            }
        }
    }
}

/// The softmax so far: makes powers of a tile's scores, and corrects what was summed before them.
pub struct Online<'a, T> {
    pub scores: &'a mut [T],
    pub width: usize,
    /// The largest score of each query.
    pub largest: &'a mut [T],
    /// The sum of its powers.
    pub total: &'a mut [T],
    pub factors: &'a mut [T],
    /// The sums of values so far, a row for each query; empty if there are none.
    pub sums: &'a mut [T],
    pub columns: usize,
}

impl<T: Real> Kernel for Online<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Online { scores, width, largest, total, factors, sums, columns } = self;
        for q in (0..width).step_by(LANES) {
            let mut old = [T::ZERO; LANES];
            old.copy_from_slice(&largest[q..q + LANES]);
            let (mut new, mut powers) = (old, [T::ZERO; LANES]);
            for row in scores.chunks_exact(width) {
                let row = &row[q..q + LANES];
                (0..LANES).for_each(|i| new[i] = max_num(new[i], row[i]));
            }
            // A query that sees no key yet subtracts nothing: its powers are 0.
            let mut shift = new;
            for i in 0..LANES {
                shift[i] = if new[i] == T::neg_infinity() { T::ZERO } else { new[i] };
            }
            for row in scores.chunks_exact_mut(width) {
                let row = &mut row[q..q + LANES];
                for i in 0..LANES {
                    let power = (row[i] - shift[i]).vexp::<I>();
                    row[i] = power;
                    powers[i] += power;
                }
            }
            for i in 0..LANES {
                let factor = (old[i] - shift[i]).vexp::<I>();
                factors[q + i] = factor;
                largest[q + i] = new[i];
                total[q + i] = total[q + i] * factor + powers[i];
            }
        }
        for (row, &factor) in sums.chunks_exact_mut(columns.max(1)).zip(&*factors) {
            row.iter_mut().for_each(|x| *x *= factor);
        }
    }
}

/// Makes weights of a tile's scores, and of the gradients of the weights those of the scores.
pub struct Slopes<'a, T> {
    pub scores: &'a mut [T],
    pub slopes: &'a mut [T],
    pub width: usize,
    /// The largest score of each query, the reciprocal of the sum of its powers, and the sum of its gradients times
    /// weights.
    pub largest: &'a [T],
    pub inverse: &'a [T],
    pub mean: &'a [T],
}

impl<T: Real> Kernel for Slopes<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(self) {
        let Slopes { scores, slopes, width, largest, inverse, mean } = self;
        let (largest, inverse, mean) = (&largest[..width], &inverse[..width], &mean[..width]);
        for (scores, slopes) in scores.chunks_exact_mut(width).zip(slopes.chunks_exact_mut(width)) {
            for i in 0..width {
                let weight = (scores[i] - largest[i]).vexp::<I>() * inverse[i];
                scores[i] = weight;
                // What has no weight passes nothing, not even an infinite gradient.
                slopes[i] = if weight == T::ZERO { T::ZERO } else { weight * (slopes[i] - mean[i]) };
            }
        }
    }
}

/// Weights that are dropped with a probability; the others are divided by that of being kept.
#[derive(Clone, Copy)]
pub struct Dropped {
    pub key: Key,
    pub p: f64,
}

impl Dropped {
    /// The random numbers of a tile, which are the same in every pass.
    pub fn words<'a>(&self, tile: usize, space: &'a mut Vec<u32>) -> &'a [u32] {
        space.resize(KEYS * QUERIES, 0);
        self.key.words(tile as u64, space);
        space
    }

    /// Multiplies the elements of a tile by 0, or by the reciprocal of the probability of being kept.
    pub fn thin<T: Real>(&self, tile: &mut [T], words: &[u32]) {
        let (limit, scale) = ((self.p * 2f64.powi(32)) as u64, T::of(1. / (1. - self.p)));
        for (x, &word) in tile.iter_mut().zip(words) {
            *x = if u64::from(word) < limit { T::ZERO } else { *x * scale };
        }
    }
}

/// What each weight of `(*, L, S)` is multiplied by: 0 if it is dropped.
pub fn kept<T: Real>(dropped: Dropped, shape: &[usize]) -> ArrayD<T> {
    let [queries, keys] = [shape[shape.len() - 2], shape[shape.len() - 1]];
    let (grid, mut words) = (Grid { queries, keys }, Vec::new());
    let mut out = full("dropout", shape, T::ONE);
    let all = out.as_slice_mut().expect("row-major");
    for (head, out) in all.chunks_exact_mut((queries * keys).max(1)).enumerate() {
        for number in 0..grid.blocks() {
            let block = grid.block(head, number);
            for from in (0..keys).step_by(KEYS) {
                let mut tile = [T::ONE; KEYS * QUERIES];
                dropped.thin(&mut tile, dropped.words(grid.tile(&block, from), &mut words));
                for i in block.rows.clone() {
                    let row = &mut out[i * keys..(i + 1) * keys];
                    for (j, x) in row[from..].iter_mut().take(KEYS).enumerate() {
                        *x = tile[j * block.width + i - block.rows.start];
                    }
                }
            }
        }
    }
    out
}
