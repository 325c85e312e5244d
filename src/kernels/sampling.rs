//! Weighted sums of elements of a plane at given places, and the two derivatives: of each of the three the other two are
//! the derivatives.

use ndnn_derive::concrete;

use super::{
    memory::filled,
    sizes::saturating,
    threads::{self, Cut},
    thresholds::{SAMPLING_PARALLEL as PARALLEL, SAMPLING_TASK as TASK},
};
use crate::number::Real;

/// The place of a tap that lies outside the plane: it takes nothing, and gets nothing back.
pub const OUTSIDE: usize = usize::MAX;

/// The number of channels that share the reading of places and weights.
const GROUP: usize = 4;

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

    /// A result of `len` elements per plane, which starts with zeros: calls `f(i, rows)` for groups of [`GROUP`]
    /// channels of one sample, and for single ones that are left; their first plane is number `i`.
    #[allow(unsafe_code)]
    #[track_caller]
    fn groups<T: Real>(&self, len: usize, f: &(dyn Fn(usize, &mut [T]) + Sync)) -> Vec<T> {
        let mut out = filled(self.rows() * len, T::ZERO);
        let work = saturating([self.rows(), self.spots, self.taps]);
        if out.is_empty() || self.spots == 0 {
            return out;
        }
        // Channels per task.
        let step = match work < PARALLEL {
            true => self.channels,
            false => TASK.div_ceil(self.spots * self.taps).next_multiple_of(GROUP),
        };
        let (parts, cut) = (self.channels.div_ceil(step), &Cut::new(&mut out));
        threads::for_each_from(PARALLEL, work, self.batch * parts, &|task| {
            let (sample, first) = (task / parts * self.channels, task % parts * step);
            let (mut i, end) = (sample + first, sample + self.channels.min(first + step));
            while i < end {
                let count = if i + GROUP <= end { GROUP } else { 1 };
                // SAFETY: each channel is handed out once.
                f(i, unsafe { cut.part(i * len, count * len) });
                i += count;
            }
        });
        out
    }

    #[allow(unsafe_code)]
    fn sample_group<T: Real, const R: usize>(&self, i: usize, x: &[T], weights: &[T], out: &mut [T]) {
        let (plane, spots) = (self.plane, self.spots);
        let x = &x[i * plane..][..R * plane];
        for (o, (at, weights)) in self.row(i, &self.at).zip(self.row(i, weights)).enumerate() {
            let mut sums = [T::ZERO; R];
            for (&at, &w) in at.iter().zip(weights) {
                if at < plane {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        // SAFETY: `r < R` and `at < plane`, and `x` has `R · plane` elements.
                        *sum += w * unsafe { *x.get_unchecked(r * plane + at) };
                    }
                }
            }
            for (r, &sum) in sums.iter().enumerate() {
                out[r * spots + o] = sum;
            }
        }
    }

    #[allow(unsafe_code)]
    fn spread_group<T: Real, const R: usize>(&self, i: usize, g: &[T], weights: &[T], out: &mut [T]) {
        let (plane, spots) = (self.plane, self.spots);
        let (g, out) = (&g[i * spots..][..R * spots], &mut out[..R * plane]);
        for (o, (at, weights)) in self.row(i, &self.at).zip(self.row(i, weights)).enumerate() {
            let mut gradients = [T::ZERO; R];
            for (r, gradient) in gradients.iter_mut().enumerate() {
                *gradient = g[r * spots + o];
            }
            for (&at, &w) in at.iter().zip(weights) {
                if at < plane {
                    for (r, &g) in gradients.iter().enumerate() {
                        // SAFETY: `r < R` and `at < plane`, and `out` has `R · plane` elements.
                        unsafe { *out.get_unchecked_mut(r * plane + at) += w * g };
                    }
                }
            }
        }
    }

    /// Adds the products of `R` channels, from spot number `first` on.
    #[allow(unsafe_code)]
    fn products_group<T: Real, const R: usize>(&self, i: usize, first: usize, g: &[T], x: &[T], out: &mut [T]) {
        let (plane, spots) = (self.plane, self.spots);
        let (g, x) = (&g[i * spots..][..R * spots], &x[i * plane..][..R * plane]);
        let at = self.row(i, &self.at).skip(first);
        for ((o, at), out) in (first..).zip(at).zip(out.chunks_exact_mut(self.taps)) {
            let mut gradients = [T::ZERO; R];
            for (r, gradient) in gradients.iter_mut().enumerate() {
                *gradient = g[r * spots + o];
            }
            for (out, &at) in out.iter_mut().zip(at) {
                if at < plane {
                    for (r, &g) in gradients.iter().enumerate() {
                        // SAFETY: `r < R` and `at < plane`, and `x` has `R · plane` elements.
                        *out += g * unsafe { *x.get_unchecked(r * plane + at) };
                    }
                }
            }
        }
    }
}

/// `y[n, c, o] = Σₖ w[n, o, k] · x[n, c, at[n, o, k]]`
#[concrete]
pub fn sample<T: Real>(places: &Places, x: &[T], weights: &[T]) -> Vec<T> {
    places.groups(places.spots, &|i, out| match out.len() / places.spots {
        GROUP => places.sample_group::<T, GROUP>(i, x, weights, out),
        _ => places.sample_group::<T, 1>(i, x, weights, out),
    })
}

/// `x[n, c, i] = Σ w[n, o, k] · g[n, c, o]` over all `o` and `k` with `at[n, o, k] = i`.
#[concrete]
pub fn spread<T: Real>(places: &Places, g: &[T], weights: &[T]) -> Vec<T> {
    places.groups(places.plane, &|i, out| match out.len() / places.plane {
        GROUP => places.spread_group::<T, GROUP>(i, g, weights, out),
        _ => places.spread_group::<T, 1>(i, g, weights, out),
    })
}

/// `w[n, o, k] = Σ_c g[n, c, o] · x[n, c, at[n, o, k]]`
#[concrete]
#[allow(unsafe_code)]
pub fn products<T: Real>(places: &Places, g: &[T], x: &[T]) -> Vec<T> {
    let mut out = filled(places.at.len(), T::ZERO);
    let work = saturating([places.channels, places.at.len()]);
    if out.is_empty() {
        return out;
    }
    // Spots per task.
    let step = match work < PARALLEL {
        true => places.spots,
        false => TASK.div_ceil(saturating([places.channels.max(1), places.taps])),
    };
    let (parts, cut) = (places.spots.div_ceil(step), &Cut::new(&mut out));
    threads::for_each_from(PARALLEL, work, places.batch * parts, &|task| {
        let (n, first) = (task / parts, task % parts * step);
        let count = step.min(places.spots - first);
        // SAFETY: each part of the spots is handed out once.
        let out = unsafe { cut.part((n * places.spots + first) * places.taps, count * places.taps) };
        let (mut i, end) = (n * places.channels, (n + 1) * places.channels);
        while i + GROUP <= end {
            places.products_group::<T, GROUP>(i, first, g, x, out);
            i += GROUP;
        }
        (i..end).for_each(|i| places.products_group::<T, 1>(i, first, g, x, out));
    });
    out
}
