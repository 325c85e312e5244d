//! One thread's part of a product: blocks that fit into the caches, packed where that pays, and their tiles.

use std::{ops::Range, ptr};

use super::{
    Mat, Start, Strategy,
    pack::{Space, pack_columns, pack_rows, unpack},
    tile::{Ahead, Kernels, Tile},
};
use crate::{
    kernels::{memory, threads},
    number::Number,
};

/// Steps along the common axis that are worked on at a time, so that a panel of columns stays in the cache.
pub const STEPS: usize = 800;
/// As [`STEPS`], if the rows of a tile are packed: they stay in the first-level cache.
pub const PACKED_STEPS: usize = 512;
/// Elements of packed columns that are worked on at a time: they stay in the second-level cache.
const PACKED: usize = 1 << 17;
/// Elements of the rows that are worked on at a time: they stay in the second-level cache.
const ROWS: usize = 1 << 16;
/// Rows of the result that are computed before they are transposed.
const TRANSPOSED: usize = 64;
/// Matrices of more bytes may lie beyond the second-level cache. (Tests use a small limit.)
const FAR: usize = if cfg!(test) { 1 << 12 } else { 1 << 20 };

/// The product of `a` with some columns, on this thread.
#[allow(unsafe_code)]
pub fn block<T: Number>(kernels: &Kernels<T>, strategy: Strategy, a: Mat<T>, b: Mat<T>, c: Mat<T>, start: Start<T>) {
    let (k, n, lanes, width) = (b.rows, b.columns, kernels.lanes, strategy.width);
    let k_blocks = k.div_ceil(if strategy.pack_rows { PACKED_STEPS } else { STEPS });
    if c.column != 1 && k_blocks > 1 {
        // Computed elsewhere, and transposed at the end.
        let mut sums = memory::buffer(c.rows * c.columns);
        let whole = Mat::new(sums.as_mut_ptr(), (c.rows, c.columns), &[c.columns as isize, 1]);
        let add = matches!(start, Start::Itself);
        block(kernels, strategy, a, b, whole, if add { Start::Zero } else { start });
        // SAFETY: `whole` was written, and both are valid for all of their elements.
        unsafe { unpack(whole, c.t(), add) };
        return memory::recycle(sums);
    }
    let steps = k.div_ceil(k_blocks);
    let block_steps = |kb: usize| k * kb / k_blocks..k * (kb + 1) / k_blocks;
    let group = (PACKED / steps / width).max(1) * width;
    let mut space = Space::take();
    let columns_len = if strategy.pack_columns { steps * group.min(n.next_multiple_of(lanes)) + 8 } else { 0 };
    let rows_len = if strategy.pack_rows { steps * strategy.rows + 8 } else { 0 };
    let transposed_len = if c.column == 1 { 0 } else { TRANSPOSED * width };
    let [columns_at, rows_at, transposed_at] = space.parts([columns_len, rows_len, transposed_len]);
    for first in (0..n).step_by(group) {
        let columns = first..n.min(first + group);
        for kb in 0..k_blocks {
            let mut part = b.part(block_steps(kb), columns.clone());
            if strategy.pack_columns {
                // SAFETY: the space is large enough for this number of steps and columns.
                unsafe { pack_columns(part, width, lanes, columns_at) };
                (part.at, part.column) = (columns_at, 1);
            }
            let start = if kb > 0 { Start::Itself } else { start.part(0..a.rows, columns.clone()) };
            // What is packed after this block.
            let far = b.rows * b.columns > a.rows * a.columns && b.rows * b.columns * size_of::<T>() > FAR;
            let next = match strategy.pack_columns && far {
                true if kb + 1 < k_blocks => b.part(block_steps(kb + 1), columns.clone()),
                true if columns.end < n => b.part(block_steps(0), columns.end..n.min(columns.end + group)),
                _ => b.part(0..0, 0..0),
            };
            let job = Job { kernels, strategy, rows_at, transposed_at, next: contiguous_rows(next) };
            // SAFETY: all parts are inside the matrices, and the spaces are as large as the strategy requires.
            unsafe { job.run(a.part(0..a.rows, block_steps(kb)), part, c.part(0..c.rows, columns.clone()), start) };
        }
    }
    space.give();
    #[cfg(target_arch = "x86_64")]
    if strategy.stream {
        // SAFETY: every x86-64 CPU has this instruction. It makes streamed results visible before other threads see
        // that the task is done.
        unsafe { std::arch::x86_64::_mm_sfence() };
    }
}

/// The matrix or its transpose, such that the elements of a row are contiguous.
fn contiguous_rows<T: Copy>(x: Mat<T>) -> Mat<T> {
    if x.column == 1 { x } else { x.t() }
}

/// What is prefetched while tiles are computed: rows of contiguous elements, divided among a number of tiles.
#[derive(Clone, Copy)]
struct Fetch<T> {
    rows: Mat<T>,
    tiles: usize,
    /// Tiles that are done.
    done: usize,
}

impl<T: Copy> Fetch<T> {
    /// What is left after `tiles` more tiles.
    fn after(self, tiles: usize) -> Self {
        Fetch { done: self.done + tiles, ..self }
    }

    /// The share of the next tile, which takes `steps` steps.
    fn share(self, steps: usize) -> Ahead<T> {
        let (rows, line) = (self.rows, Ahead::<T>::LINE);
        let (some, lines) = (threads::portion(rows.rows, self.done, self.tiles), rows.columns.div_ceil(line));
        match lines * some.len() {
            0 => Ahead::NOTHING,
            all => Ahead { at: rows.element(some.start, 0), row: rows.row, lines, every: (steps / all).max(1) },
        }
    }
}

/// The tiles of one block.
pub struct Job<'a, T: 'static> {
    pub kernels: &'a Kernels<T>,
    pub strategy: Strategy,
    pub rows_at: *mut T,
    pub transposed_at: *mut T,
    /// What is packed after this block, if it is not in the cache.
    pub next: Mat<T>,
}

impl<T: Number> Job<'_, T> {
    /// Computes all tiles.
    ///
    /// # Safety
    /// The spaces must be as large as the strategy requires, and the matrices valid for reading and writing.
    #[allow(unsafe_code)]
    pub unsafe fn run(&self, a: Mat<T>, b: Mat<T>, c: Mat<T>, start: Start<T>) {
        let width = self.strategy.width;
        let tiles = a.rows.div_ceil(self.strategy.rows);
        let tile = |i: usize| threads::portion(a.rows, i, tiles);
        let panels = b.columns.div_ceil(width);
        let next = Fetch { rows: self.next, tiles: tiles * panels, done: 0 };
        // SAFETY: the caller's promise.
        unsafe {
            if self.strategy.pack_rows {
                // The rows of a tile stay in the first-level cache while the panels pass through it.
                let far = self.next.rows == 0 && a.rows * a.columns * size_of::<T>() > FAR;
                for i in 0..tiles {
                    let rows = tile(i);
                    let fetch = if far && i + 1 < tiles {
                        Fetch { rows: contiguous_rows(a.part(tile(i + 1), 0..a.columns)), tiles: panels, done: 0 }
                    } else {
                        next.after(i * panels)
                    };
                    let mut part = a.part(rows.clone(), 0..a.columns);
                    pack_rows(part, self.rows_at);
                    (part.at, part.row, part.column) = (self.rows_at, 1, rows.len() as isize);
                    for j in (0..b.columns).step_by(width) {
                        let c = c.part(rows.clone(), 0..c.columns);
                        let start = start.part(rows.clone(), 0..b.columns);
                        self.panel(part, b, j, c, 1, start, fetch.after(j / width));
                    }
                }
            } else {
                // The panel stays in the first-level cache while rows pass through it, as many as the second-level
                // cache holds.
                let at_once = (ROWS / a.columns / self.strategy.rows).max(1);
                for first in (0..tiles).step_by(at_once) {
                    let last = tiles.min(first + at_once);
                    let rows = tile(first).start..tile(last - 1).end;
                    let (part, c) = (a.part(rows.clone(), 0..a.columns), c.part(rows.clone(), 0..c.columns));
                    for j in (0..b.columns).step_by(width) {
                        let start = start.part(rows.clone(), 0..b.columns);
                        let done = first * panels + j / width * (last - first);
                        self.panel(part, b, j, c, last - first, start, next.after(done));
                    }
                }
            }
        }
    }

    /// Computes the tiles of the panel of columns that begins at `j`.
    ///
    /// # Safety
    /// As [`run`](Job::run).
    #[allow(unsafe_code)]
    unsafe fn panel(&self, a: Mat<T>, b: Mat<T>, j: usize, c: Mat<T>, tiles: usize, start: Start<T>, fetch: Fetch<T>) {
        let columns = self.strategy.width.min(b.columns - j);
        let b = match self.strategy.pack_columns {
            // A panel that is not full is as wide as the vectors it needs.
            true => {
                let row = columns.next_multiple_of(self.kernels.lanes) as isize;
                Mat { at: b.at.wrapping_add(j * b.rows), columns, row, ..b }
            }
            false => b.part(0..b.rows, j..j + columns),
        };
        let (c, start) = (c.part(0..c.rows, j..j + columns), start.part(0..a.rows, j..j + columns));
        if c.column == 1 {
            // SAFETY: the caller's promise.
            return unsafe { self.tiles(a, b, c, tiles, start, fetch) };
        }
        // The rows of the result are contiguous: some tiles are computed elsewhere and then transposed.
        let at_once = (TRANSPOSED / self.strategy.rows).max(1);
        for from in (0..tiles).step_by(at_once) {
            let to = tiles.min(from + at_once);
            let rows = a.rows * from / tiles..a.rows * to / tiles;
            let transposed =
                Mat { at: self.transposed_at, rows: rows.len(), columns, row: self.strategy.width as isize, column: 1 };
            // SAFETY: the caller's promise; there is space for `TRANSPOSED` rows.
            unsafe {
                let add = matches!(start, Start::Itself);
                let start = if add { Start::Zero } else { start.part(rows.clone(), 0..columns) };
                self.tiles(a.part(rows.clone(), 0..a.columns), b, transposed, to - from, start, fetch.after(from));
                unpack(transposed, c.part(rows, 0..columns).t(), add);
            }
        }
    }

    /// Computes `tiles` tiles of nearly equal height.
    ///
    /// # Safety
    /// As [`run`](Job::run).
    #[allow(unsafe_code)]
    unsafe fn tiles(&self, a: Mat<T>, b: Mat<T>, c: Mat<T>, tiles: usize, start: Start<T>, fetch: Fetch<T>) {
        let vectors = b.columns.div_ceil(self.kernels.lanes);
        if vectors == 3 {
            // SAFETY: the caller's promise.
            return unsafe { self.three_vectors(a, b, c, tiles, start, fetch) };
        }
        let loops = self.kernels.tiles(vectors);
        let tallest = loops[loops.len() - 1].0;
        let stream = self.strategy.stream && b.columns.is_multiple_of(self.kernels.lanes);
        let nothing = Mat { at: ptr::null_mut(), rows: 0, columns: 0, row: 0, column: 0 };
        let begin = if let Start::Values(values) = start { values } else { nothing };
        for i in 0..tiles {
            let Range { start: mut from, end: to } = threads::portion(a.rows, i, tiles);
            let mut ahead = fetch.after(i).share(a.columns);
            while from < to {
                // If no loop is as tall as the tile, its parts are of nearly equal height.
                let left = to - from;
                let height = if left <= tallest { left } else { left.div_ceil(left.div_ceil(tallest)) };
                let fits = loops[..loops.len().min(height)].iter().rfind(|(rows, _)| *rows <= height);
                let &(rows, tile) = fits.expect("a loop for one row");
                let job = Tile {
                    k: a.columns,
                    a: a.element(from, 0),
                    a_row: a.row,
                    a_k: a.column,
                    b: b.at,
                    b_k: b.row,
                    c: c.element(from, 0),
                    c_row: c.row,
                    columns: b.columns,
                    add: matches!(start, Start::Itself),
                    start: begin.element(from, 0),
                    start_row: begin.row,
                    start_column: begin.column,
                    ahead,
                    stream,
                    ends: self.kernels.ends,
                };
                // SAFETY: the loops are those of this CPU, this one takes no more rows than are left, and everything is
                // inside the matrices.
                unsafe { tile(&job) };
                (from, ahead) = (from + rows, Ahead::NOTHING);
            }
        }
    }

    /// As [`tiles`](Job::tiles), for columns that fill three vectors: two, then one.
    ///
    /// # Safety
    /// As [`run`](Job::run).
    #[allow(unsafe_code)]
    unsafe fn three_vectors(&self, a: Mat<T>, b: Mat<T>, c: Mat<T>, tiles: usize, start: Start<T>, fetch: Fetch<T>) {
        let two = 2 * self.kernels.lanes;
        for columns in [0..two, two..b.columns] {
            let (b, c) = (b.part(0..b.rows, columns.clone()), c.part(0..c.rows, columns.clone()));
            // SAFETY: the caller's promise.
            unsafe { self.tiles(a, b, c, tiles, start.part(0..a.rows, columns), fetch) };
        }
    }
}
