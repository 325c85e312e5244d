//! The gradients of attention: the weights are computed again, tile by tile.

use std::{ops::Range, slice};

use ndarray::{ArrayD, ArrayViewD};

use super::{
    Attention, Blank, Block, Heads, KEYS, Layout, Stats,
    tile::{Fill, Scratch, Slopes, filled, is_far, near, packed, put},
};
use crate::{
    kernels::{
        gemm::{Mat, serial},
        isa::dispatch,
        memory,
        passes::dot,
        threads,
        thresholds::PRODUCT_PARALLEL as PARALLEL,
    },
    number::Real,
};

/// The number of tasks that is aimed at: if heads are fewer, the keys of a head are divided.
const TASKS: usize = 8;
/// Minimum number of keys of a task.
const KEYS_OF_TASK: usize = 4 * KEYS;

/// Where the gradients are written; those that are not needed are left out.
struct Slots<'a, T> {
    query: Option<Heads<'a, T>>,
    key: Option<Heads<'a, T>>,
    value: Option<Heads<'a, T>>,
}

/// The gradients of queries, keys and values, each in the layout of its array, from that of the result; `inputs` are these
/// arrays, or the one that holds all three side by side.
#[allow(unsafe_code)]
pub fn backward<T: Real>(
    attention: &Attention<'_, T>,
    inputs: &[(ArrayViewD<'_, T>, bool)],
    layout: Layout,
    [g, y]: [&ArrayViewD<'_, T>; 2],
    stats: &Stats<T>,
) -> Vec<Option<ArrayD<T>>> {
    if g.is_empty() {
        let zeros = |x: &ArrayViewD<'_, T>| memory::full("scaled_dot_product_attention", x.shape(), T::ZERO);
        return inputs.iter().map(|(x, needed)| needed.then(|| zeros(x))).collect();
    }
    let blanks: Vec<Option<Blank<T>>> =
        inputs.iter().map(|(x, needed)| needed.then(|| Blank::like(x, x.shape()[x.ndim() - 1]))).collect();
    {
        let slot = |i: usize| match &blanks[..] {
            [all] => all.as_ref().map(|all| all.heads(layout, (i, 3))),
            each => each[i].as_ref().map(|one| one.heads(layout, (0, 1))),
        };
        let slots = Slots { query: slot(0), key: slot(1), value: slot(2) };
        let [g, y] = [g, y].map(|x| Heads::of(x, layout, (0, 1)));
        attention.check(&g);
        attention.check(&y);
        Pass { attention, slots, g, y, stats }.run();
    }
    // SAFETY: the pass wrote the gradients of all queries, keys and values.
    blanks.into_iter().map(|blank| blank.map(|blank| unsafe { blank.array() })).collect()
}

struct Pass<'a, T> {
    attention: &'a Attention<'a, T>,
    slots: Slots<'a, T>,
    g: Heads<'a, T>,
    y: Heads<'a, T>,
    stats: &'a Stats<T>,
}

impl<T: Real> Pass<'_, T> {
    #[allow(unsafe_code)]
    fn run(&self) {
        let attention = self.attention;
        let (grid, heads) = (attention.grid(), attention.key.count());
        let parts = TASKS.div_ceil(heads.max(1)).min(grid.keys.div_ceil(KEYS_OF_TASK)).max(1);
        let size = grid.keys.div_ceil(parts).next_multiple_of(KEYS);
        let parts = grid.keys.div_ceil(size.max(1)).max(1);
        // Several tasks have a part in the gradients of the queries; these are added in order.
        let (len, features) = attention.query.shape;
        let several = parts > 1 && self.slots.query.is_some();
        let mut sums = memory::buffer(if several { parts * attention.heads() * len * features } else { 0 });
        let shape = [parts, attention.heads(), len, features];
        let strides = [attention.heads() * len * features, len * features, features, 1].map(|n| n as isize);
        let sums_at = Heads::new(sums.as_mut_ptr(), &shape, &strides);
        threads::for_each_from(PARALLEL, attention.work().saturating_mul(2), heads * parts, &|task| {
            let (head, part) = (task / parts, task % parts);
            let keys = (part * size).min(grid.keys)..((part + 1) * size).min(grid.keys);
            let to = |query: usize| match &self.slots.query {
                Some(_) if several => Some(sums_at.matrix(part * attention.heads() + query)),
                Some(slot) => Some(slot.matrix(query)),
                None => None,
            };
            // SAFETY: each head and part is handed out once.
            unsafe { self.gradients(head, keys, &to) };
        });
        if let Some(slot) = self.slots.query.as_ref().filter(|_| several) {
            threads::for_each_from(PARALLEL, sums.capacity(), attention.heads(), &|head| {
                // SAFETY: all tasks wrote their sums; each head is handed out once.
                unsafe {
                    let total = sums_at.matrix(head);
                    for part in 1..parts {
                        let more = sums_at.matrix(part * attention.heads() + head);
                        for i in 0..len * features {
                            *total.at.add(i) += *more.at.add(i);
                        }
                    }
                    put(total, slot.matrix(head), T::ONE);
                }
            });
        }
        drop(sums_at);
        memory::recycle(sums);
    }

    /// Writes the gradients of some keys and values, and what these keys add to those of the queries that see them.
    ///
    /// # Safety
    /// Nothing else may use these gradients meanwhile.
    #[allow(unsafe_code)]
    unsafe fn gradients(&self, head: usize, keys: Range<usize>, to: &dyn Fn(usize) -> Option<Mat<T>>) {
        let attention = self.attention;
        let [key, value] = [&attention.key, &attention.value].map(|x| x.matrix(head).part(keys.clone(), 0..x.shape.1));
        let (features, columns) = (key.columns, value.columns);
        let copied = |x: Mat<T>| if is_far(x) { x.rows * x.columns } else { 0 };
        let (_scratch, [dk, dv, near_key, near_value]) =
            Scratch::new([keys.len() * features, keys.len() * columns, copied(key), copied(value)]);
        // SAFETY: the inputs are valid for reading, and each part of the scratch memory is as large as what is written to
        // it.
        unsafe {
            filled(dk, keys.len() * features, T::ZERO);
            filled(dv, keys.len() * columns, T::ZERO);
            let part = Part {
                key: near(key, near_key),
                value: near(value, near_value),
                dk: Mat::new(dk, (keys.len(), features), &[features as isize, 1]),
                dv: Mat::new(dv, (keys.len(), columns), &[columns as isize, 1]),
                keys: keys.clone(),
            };
            for query in head * attention.group()..(head + 1) * attention.group() {
                for number in 0..attention.grid().blocks() {
                    let block = attention.grid().block(query, number);
                    let rows = block.rows.clone();
                    self.block(&part, &block, to(query).map(|to| to.part(rows, 0..features)));
                }
            }
            if let Some(slot) = &self.slots.key {
                put(part.dk, slot.matrix(head).part(keys.clone(), 0..features), attention.scale);
            }
            if let Some(slot) = &self.slots.value {
                put(part.dv, slot.matrix(head).part(keys, 0..columns), T::ONE);
            }
        }
    }

    /// Adds what the queries of a block add to the gradients of keys and values; writes what these keys add to those of the
    /// queries.
    ///
    /// # Safety
    /// As [`gradients`](Pass::gradients).
    #[allow(unsafe_code)]
    unsafe fn block(&self, part: &Part<T>, block: &Block, to: Option<Mat<T>>) {
        let attention = self.attention;
        let (rows, width, features, columns) = (block.rows.len(), block.width, part.key.columns, part.value.columns);
        let of_block = |x: &Heads<'_, T>| x.matrix(block.head).part(block.rows.clone(), 0..x.shape.1);
        let (scratch, [query, gradient, scores, slopes, near_query, near_gradient, near_result, dq, lanes]) =
            Scratch::new([
                features * width,
                columns * width,
                KEYS * width,
                KEYS * width,
                features * rows,
                columns * rows,
                columns * rows,
                features * rows,
                3 * width,
            ]);
        let dq = Mat::new(dq, (rows, features), &[features as isize, 1]);
        let (mut begun, mut words) = (false, Vec::new());
        let by_scores = to.is_some() || self.slots.key.is_some();
        // SAFETY: the inputs are valid for reading, and each part of the scratch memory is as large as what is written to
        // it.
        unsafe {
            let (q, g) = (of_block(&attention.query), of_block(&self.g));
            let (queries, gradients) = (packed(q, attention.scale, width, query), packed(g, T::ONE, width, gradient));
            let (q, g, y) = (near(q, near_query), near(g, near_gradient), near(of_block(&self.y), near_result));
            let (largest, rest) = filled(lanes, 3 * width, T::ZERO).split_at_mut(width);
            let (inverse, mean) = rest.split_at_mut(width);
            let stats = self.stats.of(attention, block);
            largest[..rows].copy_from_slice(stats[0]);
            inverse[..rows].copy_from_slice(stats[1]);
            for (i, mean) in mean[..rows].iter_mut().enumerate() {
                let row = |x: Mat<T>| slice::from_raw_parts(x.element(i, 0).cast_const(), columns);
                *mean = dot(row(g), row(y));
            }
            for from in (part.keys.start..part.keys.end.min(attention.seen(block))).step_by(KEYS) {
                let keys = from..part.keys.end.min(attention.seen(block)).min(from + KEYS);
                let fill = attention.fill(block, keys.clone(), scores);
                if fill == Fill::Hidden {
                    continue;
                }
                let own = from - part.keys.start..keys.end - part.keys.start;
                let [tile, slope] = [scores, slopes].map(|at| Mat::new(at, (own.len(), width), &[width as isize, 1]));
                let (key, value) = (part.key.part(own.clone(), 0..features), part.value.part(own.clone(), 0..columns));
                serial(key, queries, tile, fill == Fill::Tile);
                match by_scores {
                    true => serial(value, gradients, slope, false),
                    false => drop(filled(slopes, own.len() * width, T::ZERO)),
                }
                let [scores, slopes] = [scores, slopes].map(|at| slice::from_raw_parts_mut(at, own.len() * width));
                attention.hide_later(block, keys, scores);
                let words =
                    attention.dropped.map(|dropped| dropped.words(attention.grid().tile(block, from), &mut words));
                let thin = |tile: &mut [T]| {
                    if let (Some(dropped), Some(words)) = (&attention.dropped, words) {
                        dropped.thin(tile, words);
                    }
                };
                thin(slopes);
                dispatch(Slopes { scores, slopes, width, largest, inverse, mean });
                thin(scores);
                let (weights, slope) = (tile.part(0..own.len(), 0..rows), slope.part(0..own.len(), 0..rows));
                if self.slots.value.is_some() {
                    serial(weights, g, part.dv.part(own.clone(), 0..columns), true);
                }
                if self.slots.key.is_some() {
                    serial(slope, q, part.dk.part(own.clone(), 0..features), true);
                }
                if to.is_some() {
                    serial(slope.t(), key, dq, begun);
                }
                begun = true;
            }
            if let Some(to) = to {
                if !begun {
                    filled(dq.at, rows * features, T::ZERO);
                }
                put(dq, to, attention.scale);
            }
        }
        drop(scratch);
    }
}

/// Some keys of one head, their values, and the sums of their gradients.
struct Part<T> {
    keys: Range<usize>,
    key: Mat<T>,
    value: Mat<T>,
    dk: Mat<T>,
    dv: Mat<T>,
}
