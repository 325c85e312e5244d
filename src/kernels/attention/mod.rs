//! Attention in tiles: the scores of some queries and keys at a time, which stay in the second-level cache, with the largest
//! score and the sum of powers so far of each query, so that memory grows with the number of keys and not with that of scores.
//!
//! A tile holds a key per row and a query per column: all that is done to a query is then done to a lane of a vector, and only
//! queries and their gradients have to be transposed for the products. What is computed, and in what order, depends on the
//! sizes alone; every task writes what is its own.

mod backward;
mod tile;

use std::{ops::Range, slice};

use ndarray::{ArrayD, ArrayViewD, IxDyn};

use self::tile::{Fill, Online, Scratch, filled, near, packed, put};
pub use self::{
    backward::backward,
    tile::{Dropped, kept},
};
use super::{
    gemm::{Mat, serial},
    isa::dispatch,
    layout::by_stride,
    memory::{self, Aligned},
    sizes::{must, saturating},
    threads,
    thresholds::PRODUCT_PARALLEL as PARALLEL,
};
use crate::number::Real;

/// Queries of a tile.
const QUERIES: usize = 64;
/// Keys of a tile.
const KEYS: usize = 128;
/// A tile is a multiple of this number of queries wide.
const LANES: usize = 16;

/// Where the heads are in an array.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// `(*, L, E)`: one for each place of the leading axes.
    Matrices,
    /// `(L, N, heads · E)`: for each of N, and each head.
    Features { heads: usize },
}

/// A matrix per head, in an array of any strides.
pub struct Heads<'a, T> {
    at: *mut T,
    /// Length and stride of the leading axes.
    lead: Vec<(usize, isize)>,
    shape: (usize, usize),
    strides: [isize; 2],
    life: std::marker::PhantomData<&'a T>,
}

// SAFETY: what tasks share is only read, and of what is written each task has its own part.
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for Heads<'_, T> {}

impl<'a, T: Copy> Heads<'a, T> {
    fn new(at: *mut T, shape: &[usize], strides: &[isize]) -> Self {
        let lead = shape.len() - 2;
        Heads {
            at,
            lead: shape[..lead].iter().copied().zip(strides[..lead].iter().copied()).collect(),
            shape: (shape[lead], shape[lead + 1]),
            strides: [strides[lead], strides[lead + 1]],
            life: std::marker::PhantomData,
        }
    }

    /// Part `part.0` of `part.1` equal parts of the features of an array.
    pub fn of(x: &ArrayViewD<'a, T>, layout: Layout, part: (usize, usize)) -> Self {
        Heads::new(x.as_ptr().cast_mut(), x.shape(), x.strides()).part(layout, part)
    }

    /// As [`of`](Heads::of), repeated along axes of length 1 and new leading axes, which must fit `shape`.
    pub fn broadcast(x: &ArrayViewD<'a, T>, shape: &[usize]) -> Self {
        let new = shape.len() - x.ndim();
        assert!(x.shape().iter().zip(&shape[new..]).all(|(&m, &n)| m == 1 || m == n), "a mask that broadcasts");
        let strides: Vec<isize> = (0..shape.len())
            .map(|i| if i < new || x.shape()[i - new] == 1 { 0 } else { x.strides()[i - new] })
            .collect();
        Heads::new(x.as_ptr().cast_mut(), shape, &strides)
    }

    fn part(self, layout: Layout, (part, parts): (usize, usize)) -> Self {
        let (step, features) = (self.strides[1], self.shape.1 / parts);
        let at = self.at.wrapping_offset((part * features) as isize * step);
        match layout {
            Layout::Matrices => Heads { at, shape: (self.shape.0, features), ..self },
            Layout::Features { heads } => Heads {
                at,
                lead: vec![(self.shape.0, self.strides[0]), (heads, (features / heads) as isize * step)],
                shape: (self.lead[0].0, features / heads),
                strides: [self.lead[0].1, step],
                life: self.life,
            },
        }
    }

    fn count(&self) -> usize {
        self.lead.iter().map(|&(n, _)| n).product()
    }

    #[inline(never)]
    fn matrix(&self, mut i: usize) -> Mat<T> {
        let mut at = self.at;
        for &(n, stride) in self.lead.iter().rev() {
            at = at.wrapping_offset((i % n) as isize * stride);
            i /= n;
        }
        Mat::new(at, self.shape, &self.strides)
    }
}

/// Memory for a result, of which each element is written by the kernel.
pub struct Blank<T> {
    memory: Aligned<T>,
    at: *mut T,
    shape: Vec<usize>,
    strides: Vec<isize>,
    order: Vec<usize>,
}

impl<T: Real> Blank<T> {
    /// Of the shape of `x` but for the last axis, with the axes in the order that they have in the memory of `x`.
    pub fn like(x: &ArrayViewD<'_, T>, last: usize) -> Self {
        let lead = x.ndim() - 1;
        let mut order = by_stride(&x.strides()[..lead]);
        order.push(lead);
        let mut shape = x.shape().to_vec();
        shape[lead] = last;
        let len = must::<T>("scaled_dot_product_attention", &shape);
        let mut memory = Aligned::with_capacity(len);
        let at = memory.spare(len).as_mut_ptr().cast();
        let (mut strides, mut step) = (vec![0; lead + 1], 1);
        for &axis in order.iter().rev() {
            strides[axis] = step;
            step *= shape[axis].max(1) as isize;
        }
        Blank { memory, at, shape, strides, order }
    }

    /// As [`Heads::of`].
    fn heads(&self, layout: Layout, part: (usize, usize)) -> Heads<'_, T> {
        Heads::new(self.at, &self.shape, &self.strides).part(layout, part)
    }

    /// The array.
    ///
    /// # Safety
    /// All elements must have been written.
    #[allow(unsafe_code)]
    unsafe fn array(mut self) -> ArrayD<T> {
        let shape: Vec<usize> = self.order.iter().map(|&axis| self.shape[axis]).collect();
        let mut back = vec![0; shape.len()];
        self.order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        // SAFETY: the caller's promise.
        unsafe { self.memory.set_len(shape.iter().product()) };
        self.memory.array(IxDyn(&shape)).permuted_axes(IxDyn(&back))
    }
}

/// What is added to the scores, or where they are hidden; broadcast to `(*, L, S)`.
pub enum Mask<'a, T> {
    /// A key is hidden where the mask equals the second value.
    Bool(Heads<'a, bool>, bool),
    Float(Heads<'a, T>),
}

/// Attention of queries `(L, E)` to keys `(S, E)` and values `(S, Ev)`; a head of keys and values serves as many heads of
/// queries, one after another, as there are more of these.
pub struct Attention<'a, T> {
    pub query: Heads<'a, T>,
    pub key: Heads<'a, T>,
    pub value: Heads<'a, T>,
    pub masks: Vec<Mask<'a, T>>,
    /// Whether query i attends only to the keys 0 to i.
    pub causal: bool,
    /// The factor of the scores.
    pub scale: T,
    /// Which weights are dropped.
    pub dropped: Option<Dropped>,
}

/// Some queries of one head.
pub struct Block {
    head: usize,
    /// The number of the block among those of all heads.
    number: usize,
    rows: Range<usize>,
    /// The width of their tiles.
    width: usize,
}

/// How the scores of a head are cut into tiles.
#[derive(Clone, Copy)]
struct Grid {
    queries: usize,
    keys: usize,
}

impl Grid {
    /// The blocks of queries of one head.
    fn blocks(self) -> usize {
        self.queries.div_ceil(QUERIES)
    }

    fn block(self, head: usize, number: usize) -> Block {
        let count = self.blocks();
        let rows = threads::portion(self.queries, number, count);
        Block { head, number: head * count + number, width: rows.len().next_multiple_of(LANES), rows }
    }

    /// The number of the tile of a block that begins at a key.
    fn tile(self, block: &Block, key: usize) -> usize {
        block.number * self.keys.div_ceil(KEYS) + key / KEYS
    }
}

impl<T: Real> Attention<'_, T> {
    fn heads(&self) -> usize {
        self.query.count()
    }

    /// The number of heads of queries per head of keys.
    fn group(&self) -> usize {
        self.heads() / self.key.count().max(1)
    }

    fn grid(&self) -> Grid {
        Grid { queries: self.query.shape.0, keys: self.key.shape.0 }
    }

    /// # Panics
    /// If queries, keys and values do not match, or the results are not a row of values for each query.
    fn check(&self, results: &Heads<'_, T>) {
        let (query, key, value) = (&self.query, &self.key, &self.value);
        assert!(
            query.shape.1 == key.shape.1
                && key.shape.0 == value.shape.0
                && key.count() == value.count()
                && self.heads() == key.count() * self.group()
                && results.count() == self.heads()
                && results.shape == (query.shape.0, value.shape.1),
            "sizes of attention"
        );
    }

    /// Multiply-adds of the scores and of the result.
    fn work(&self) -> usize {
        let (len, features) = self.query.shape;
        saturating([self.heads(), len, self.key.shape.0, features + self.value.shape.1])
    }

    /// The keys before this one are all that a block may see.
    fn seen(&self, block: &Block) -> usize {
        if self.causal { self.key.shape.0.min(block.rows.end) } else { self.key.shape.0 }
    }
}

/// What the backward pass needs of each query: the largest score, and the reciprocal of the sum of powers, one after the
/// other for all queries of a head. A query that sees no key has 0 and 0.
pub struct Stats<T>(Vec<T>);

impl<T: Real> Stats<T> {
    /// Both, from the first query of a block on.
    fn of(&self, attention: &Attention<'_, T>, block: &Block) -> [&[T]; 2] {
        let len = attention.query.shape.0;
        let at = 2 * block.head * len + block.rows.start;
        [at, at + len].map(|at| &self.0[at..at + block.rows.len()])
    }
}

/// The result, in the layout of `like`, an array of queries, but with another number of features.
#[allow(unsafe_code)]
pub fn forward<T: Real>(
    attention: &Attention<'_, T>,
    like: &ArrayViewD<'_, T>,
    features: usize,
    layout: Layout,
) -> (ArrayD<T>, Stats<T>) {
    let (grid, count) = (attention.grid(), attention.heads());
    let (len, blocks) = (grid.queries, grid.blocks());
    let y = Blank::like(like, features);
    if y.shape.contains(&0) {
        // Its other axes may have any length.
        // SAFETY: it has no elements.
        return (unsafe { y.array() }, Stats(Vec::new()));
    }
    super::profile::add(attention.work());
    let mut stats = memory::filled(2 * count * len, T::ZERO);
    {
        let out = y.heads(layout, (0, 1));
        attention.check(&out);
        let at = Heads::new(stats.as_mut_ptr(), &[count, 2, len], &[2 * len as isize, len as isize, 1]);
        threads::for_each_from(PARALLEL, attention.work(), count * blocks, &|task| {
            let block = grid.block(task / blocks, task % blocks);
            let (y, stats) = (out.matrix(block.head), at.matrix(block.head));
            let (y, stats) = (y.part(block.rows.clone(), 0..y.columns), stats.part(0..2, block.rows.clone()));
            // SAFETY: each block is handed out once, and its rows are its own.
            unsafe { attend(attention, &block, y, stats) };
        });
    }
    // SAFETY: every row of every head was written.
    (unsafe { y.array() }, Stats(stats))
}

/// Writes the rows of one block, and their [`Stats`].
///
/// # Safety
/// `y` and `stats` must be valid for writing, and nothing else may use them meanwhile.
#[allow(unsafe_code)]
unsafe fn attend<T: Real>(attention: &Attention<'_, T>, block: &Block, y: Mat<T>, stats: Mat<T>) {
    let (rows, width) = (block.rows.len(), block.width);
    let [key, value] = [&attention.key, &attention.value].map(|x| x.matrix(block.head / attention.group()));
    let (features, columns) = (key.columns, value.columns);
    let (scratch, [query, scores, sums, near_keys, near_values, lanes]) =
        Scratch::new([features * width, KEYS * width, rows * columns, KEYS * features, KEYS * columns, 3 * width]);
    let mut words = Vec::new();
    let seen = attention.seen(block);
    let result = Mat::new(sums, (rows, columns), &[columns as isize, 1]);
    // SAFETY: the inputs are valid for reading, and each part of the scratch memory is as large as what is written to it.
    unsafe {
        let query = packed(
            attention.query.matrix(block.head).part(block.rows.clone(), 0..features),
            attention.scale,
            width,
            query,
        );
        let (largest, rest) = filled(lanes, 3 * width, T::ZERO).split_at_mut(width);
        let (total, factors) = rest.split_at_mut(width);
        largest.fill(T::neg_infinity());
        let mut begun = false;
        for from in (0..seen).step_by(KEYS) {
            let keys = from..seen.min(from + KEYS);
            let fill = attention.fill(block, keys.clone(), scores);
            if fill == Fill::Hidden {
                continue;
            }
            let tile = Mat::new(scores, (keys.len(), width), &[width as isize, 1]);
            let key = near(key.part(keys.clone(), 0..features), near_keys);
            serial(key, query, tile, fill == Fill::Tile);
            let scores = slice::from_raw_parts_mut(scores, keys.len() * width);
            attention.hide_later(block, keys.clone(), scores);
            let sums = slice::from_raw_parts_mut(sums, if begun { rows * columns } else { 0 });
            dispatch(Online { scores, width, largest, total, factors, sums, columns });
            if let Some(dropped) = &attention.dropped {
                dropped.thin(scores, dropped.words(attention.grid().tile(block, from), &mut words));
            }
            let value = near(value.part(keys.clone(), 0..columns), near_values);
            serial(tile.part(0..keys.len(), 0..rows).t(), value, result, begun);
            begun = true;
        }
        if !begun {
            filled(sums, rows * columns, T::ZERO);
        }
        for i in 0..rows {
            let inverse = if total[i] == T::ZERO { T::ZERO } else { total[i].recip() };
            put(result.part(i..i + 1, 0..columns), y.part(i..i + 1, 0..columns), inverse);
            *stats.element(0, i) = if largest[i] == T::neg_infinity() { T::ZERO } else { largest[i] };
            *stats.element(1, i) = inverse;
        }
    }
    drop(scratch);
}
