//! Linear maps along the axes of planes: interpolation, and its derivative, which is the transposed map.

use ndnn_derive::concrete;

use super::{
    memory::{Aligned, buffer, filled, push, recycle},
    passes::{Blank, write},
    sizes::saturating,
    threads,
    thresholds::{INTERPOLATION_PARALLEL as PARALLEL, INTERPOLATION_TASK as TASK},
};
use crate::number::Real;

/// The number of rows that share the reading of taps.
const ROWS: usize = 4;

/// A linear map along one axis: for each place of the output the places of the input that it is made of, with their
/// weights.
pub struct Taps<T> {
    input: usize,
    /// The taps of output place `o` are `starts[o]..starts[o + 1]`.
    starts: Vec<usize>,
    places: Vec<usize>,
    weights: Vec<T>,
}

impl<T: Real> Taps<T> {
    /// A map from an axis of `input` places to none yet.
    pub fn new(input: usize) -> Self {
        Taps { input, starts: vec![0], places: Vec::new(), weights: Vec::new() }
    }

    /// Adds a tap of the next place of the output.
    ///
    /// # Panics
    /// If there is no such place in the input.
    pub fn tap(&mut self, place: usize, weight: T) {
        assert!(place < self.input);
        push(&mut self.places, place);
        push(&mut self.weights, weight);
    }

    /// The next place of the output has all its taps.
    pub fn end(&mut self) {
        push(&mut self.starts, self.places.len());
    }

    /// The number of places of the input.
    pub fn input(&self) -> usize {
        self.input
    }

    /// The number of places of the output.
    fn output(&self) -> usize {
        self.starts.len() - 1
    }

    #[inline(always)]
    fn of(&self, o: usize) -> (&[usize], &[T]) {
        let range = self.starts[o]..self.starts[o + 1];
        (&self.places[range.clone()], &self.weights[range])
    }
}

/// The transposed map. A weight of 0 passes nothing back, not even of an infinite gradient.
#[concrete]
pub fn transposed<T: Real>(taps: &Taps<T>) -> Taps<T> {
    let mut starts = filled(taps.input + 1, 0);
    let kept = |i: &usize| taps.weights[*i] != T::ZERO;
    (0..taps.places.len()).filter(kept).for_each(|i| starts[taps.places[i] + 1] += 1);
    for place in 0..taps.input {
        starts[place + 1] += starts[place];
    }
    let mut next = starts.clone();
    let mut places = filled(starts[taps.input], 0);
    let mut weights = filled(starts[taps.input], T::ZERO);
    for o in 0..taps.output() {
        for i in (taps.starts[o]..taps.starts[o + 1]).filter(kept) {
            let at = &mut next[taps.places[i]];
            (places[*at], weights[*at]) = (o, taps.weights[i]);
            *at += 1;
        }
    }
    Taps { input: taps.output(), starts, places, weights }
}

/// Planes mapped along each of their axes in turn. An axis that becomes shorter comes before one that becomes longer,
/// so that what is between them is small.
///
/// Panics unless `x` is whole planes.
#[concrete]
#[allow(unsafe_code)]
pub fn resample<T: Real>(x: &[T], axes: &[Taps<T>]) -> Aligned<T> {
    let len = |of: fn(&Taps<T>) -> usize| axes.iter().map(of).product::<usize>();
    let (from, to) = (len(|t| t.input), len(Taps::output));
    assert!(from > 0 && to > 0 && x.len().is_multiple_of(from));
    let shorter = |axis: &usize| axes[*axis].output() < axes[*axis].input;
    let mut order = Vec::with_capacity(axes.len());
    order.extend((0..axes.len()).filter(shorter));
    order.extend((0..axes.len()).rev().filter(|axis| !shorter(axis)));
    let planes = x.len() / from;
    let work = saturating([planes, from.max(to)]);
    let step = if work < PARALLEL { planes.max(1) } else { TASK.div_ceil(from.max(to)) };
    let mut out = Aligned::with_capacity(planes * to);
    threads::chunks(out.spare(planes * to), to * step, &|i, out| {
        let mut spaces = [Vec::new(), Vec::new()];
        for (x, out) in x[i * step * from..].chunks_exact(from).zip(out.chunks_exact_mut(to)) {
            plane(x, axes, &order, &mut spaces, out);
        }
        spaces.into_iter().for_each(recycle);
    });
    // SAFETY: there is one task for each `step` planes, and `plane` wrote all of each of its planes.
    unsafe { out.set_len(planes * to) };
    out
}

/// One plane, mapped along the axes in this order; what is between two axes goes into the spaces.
fn plane<'a, T: Real>(
    mut x: &'a [T],
    axes: &[Taps<T>],
    order: &[usize],
    spaces: &'a mut [Vec<T>; 2],
    out: &mut Blank<T>,
) {
    let mut sizes: Vec<usize> = axes.iter().map(|t| t.input).collect();
    let (&last, before) = order.split_last().expect("an axis");
    for (&axis, space) in before.iter().zip(spaces) {
        let len = x.len() / sizes[axis] * axes[axis].output();
        if space.capacity() < len {
            *space = buffer(len);
        }
        x = along(x, &axes[axis], sizes[axis + 1..].iter().product(), &mut space.spare_capacity_mut()[..len]);
        sizes[axis] = axes[axis].output();
    }
    along(x, &axes[last], sizes[last + 1..].iter().product(), out);
}

/// Maps an axis that is followed by `inner` elements; writes all of `out` and returns it.
#[allow(unsafe_code)]
fn along<'a, T: Real>(x: &[T], taps: &Taps<T>, inner: usize, out: &'a mut Blank<T>) -> &'a [T] {
    let outer = x.len() / (taps.input * inner);
    assert!(out.len() == outer * taps.output() * inner && outer > 0);
    if inner == 1 {
        let rows = (x.chunks(taps.input * ROWS)).zip(out.chunks_mut(taps.output() * ROWS));
        rows.for_each(|(x, out)| match x.len() / taps.input {
            ROWS => across::<T, ROWS>(x, taps, out),
            _ => x
                .chunks(taps.input)
                .zip(out.chunks_mut(taps.output()))
                .for_each(|(x, out)| across::<T, 1>(x, taps, out)),
        });
    } else {
        for (x, out) in x.chunks_exact(taps.input * inner).zip(out.chunks_exact_mut(taps.output() * inner)) {
            for (o, out) in out.chunks_exact_mut(inner).enumerate() {
                mixed(x, taps.of(o), out);
            }
        }
    }
    // SAFETY: `across` writes all of its rows and `mixed` all of its row; together they are all of `out`.
    unsafe { &*(std::ptr::from_mut(out) as *const [T]) }
}

/// A row as the weighted sum of rows of `x`.
fn mixed<T: Real>(x: &[T], (places, weights): (&[usize], &[T]), out: &mut Blank<T>) {
    let inner = out.len();
    let row = |i: usize| (&x[places[i] * inner..][..inner], weights[i]);
    let (out, done) = match places.len() {
        0 => (write(out, |_| T::ZERO), 0),
        1 => {
            let (a, u) = row(0);
            (write(out, |i| a[i] * u), 1)
        }
        _ => {
            let ((a, u), (b, v)) = (row(0), row(1));
            (write(out, |i| a[i] * u + b[i] * v), 2)
        }
    };
    for k in (done..places.len()).step_by(2) {
        let (a, u) = row(k);
        if k + 1 < places.len() {
            let (b, v) = row(k + 1);
            for i in 0..inner {
                out[i] += a[i] * u + b[i] * v;
            }
        } else {
            out.iter_mut().zip(a).for_each(|(out, &a)| *out += a * u);
        }
    }
}

/// `R` rows, each element of which is the weighted sum of elements of the same row of `x`.
#[allow(unsafe_code)]
fn across<T: Real, const R: usize>(x: &[T], taps: &Taps<T>, out: &mut Blank<T>) {
    let (n, m) = (taps.input, taps.output());
    assert!(x.len() == R * n && out.len() == R * m);
    // SAFETY: `r < R`, and each place is below `n`: `tap` checks it, and those of `transposed` are numbers of outputs.
    let element = |r: usize, place: usize| unsafe { *x.get_unchecked(r * n + place) };
    for o in 0..m {
        let mut sums = [T::ZERO; R];
        match taps.of(o) {
            // Nearly all rows of linear interpolation.
            (&[p, q], &[u, v]) => {
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = element(r, p) * u + element(r, q) * v;
                }
            }
            (&[p, ref places @ ..], &[u, ref weights @ ..]) => {
                // The first product is not added to 0: a nearest neighbour of -0 is -0.
                for (r, sum) in sums.iter_mut().enumerate() {
                    *sum = element(r, p) * u;
                }
                for (&p, &w) in places.iter().zip(weights) {
                    for (r, sum) in sums.iter_mut().enumerate() {
                        *sum += element(r, p) * w;
                    }
                }
            }
            _ => {}
        }
        for (r, &sum) in sums.iter().enumerate() {
            // SAFETY: `r < R` and `o < m`, and `out` has `R · m` elements.
            unsafe { out.get_unchecked_mut(r * m + o) }.write(sum);
        }
    }
}
