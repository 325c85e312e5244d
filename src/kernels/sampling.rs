//! Weighted sums of elements of a plane at given places, and the two derivatives: of each of the three the other two are
//! the derivatives.

use super::{
    memory::filled,
    sizes::saturating,
    threads,
    thresholds::{SAMPLING_PARALLEL as PARALLEL, SAMPLING_TASK as TASK},
};
use crate::number::Real;

/// The place of a tap that lies outside the plane: it takes nothing, and gets nothing back.
pub const OUTSIDE: usize = usize::MAX;

/// The places in `batch` times `channels` planes of `plane` elements that `spots` results per plane are made of, the same
/// for all channels: `(batch, spots, taps)`.
pub struct Places {
    pub batch: usize,
    pub channels: usize,
    pub plane: usize,
    pub spots: usize,
    pub taps: usize,
    pub at: Vec<usize>,
}

impl Places {
    /// The number of planes.
    fn rows(&self) -> usize {
        self.batch * self.channels
    }

    /// What the taps of the spots of row `i` are in arrays `(batch, spots, taps)`.
    fn row<'a, V>(&self, i: usize, each: &'a [V]) -> std::slice::ChunksExact<'a, V> {
        let len = self.spots * self.taps;
        each[i / self.channels * len..][..len].chunks_exact(self.taps)
    }

    /// Calls `f(i, row)` for each of the rows of `len` elements of the result, which starts with zeros.
    fn rows_of<T: Real>(&self, len: usize, f: impl Fn(usize, &mut [T]) + Sync) -> Vec<T> {
        let mut out = filled(self.rows() * len, T::ZERO);
        let work = saturating([self.rows(), self.spots, self.taps]);
        let step = if work < PARALLEL { self.rows().max(1) } else { TASK.div_ceil(self.spots * self.taps) };
        if !out.is_empty() && self.spots > 0 {
            let tasks = out.chunks_mut(step * len).enumerate();
            threads::each(work, tasks, |(task, rows)| {
                rows.chunks_exact_mut(len).enumerate().for_each(|(r, row)| f(task * step + r, row));
            });
        }
        out
    }

    /// `y[n, c, o] = Σₖ w[n, o, k] · x[n, c, at[n, o, k]]`
    pub fn sample<T: Real>(&self, x: &[T], weights: &[T]) -> Vec<T> {
        self.rows_of(self.spots, |i, out| {
            let plane = &x[i * self.plane..][..self.plane];
            for ((out, at), weights) in out.iter_mut().zip(self.row(i, &self.at)).zip(self.row(i, weights)) {
                for (&at, &w) in at.iter().zip(weights) {
                    if let Some(&x) = plane.get(at) {
                        *out += w * x;
                    }
                }
            }
        })
    }

    /// `x[n, c, i] = Σ w[n, o, k] · g[n, c, o]` over all `o` and `k` with `at[n, o, k] = i`.
    pub fn spread<T: Real>(&self, g: &[T], weights: &[T]) -> Vec<T> {
        self.rows_of(self.plane, |i, plane| {
            let g = &g[i * self.spots..][..self.spots];
            for ((&g, at), weights) in g.iter().zip(self.row(i, &self.at)).zip(self.row(i, weights)) {
                for (&at, &w) in at.iter().zip(weights) {
                    if let Some(x) = plane.get_mut(at) {
                        *x += w * g;
                    }
                }
            }
        })
    }

    /// `w[n, o, k] = Σ_c g[n, c, o] · x[n, c, at[n, o, k]]`
    pub fn products<T: Real>(&self, g: &[T], x: &[T]) -> Vec<T> {
        let mut out = filled(self.at.len(), T::ZERO);
        let work = saturating([self.channels, self.at.len()]);
        // Spots per task.
        let step = if work < PARALLEL { self.spots } else { TASK.div_ceil(saturating([self.channels, self.taps])) };
        if out.is_empty() {
            return out;
        }
        let samples = out.chunks_exact_mut(self.spots * self.taps).enumerate();
        let tasks = samples.flat_map(|(n, out)| {
            out.chunks_mut(step * self.taps).enumerate().map(move |(part, out)| (n, part * step, out))
        });
        threads::each(work, tasks, |(n, first, out)| {
            for row in n * self.channels..(n + 1) * self.channels {
                let (plane, g) = (&x[row * self.plane..][..self.plane], &g[row * self.spots + first..]);
                let at = self.row(row, &self.at).skip(first);
                for ((out, &g), at) in out.chunks_exact_mut(self.taps).zip(g).zip(at) {
                    for (out, &at) in out.iter_mut().zip(at) {
                        if let Some(&x) = plane.get(at) {
                            *out += g * x;
                        }
                    }
                }
            }
        });
        out
    }
}
