//! Connectionist temporal classification: the probability of all the ways in which a sequence of labels can be spread over
//! steps, with blanks between.
//!
//! The ways are paths through states: a blank, the first label, a blank, the second, …, a blank. Each step stays, goes on
//! to the next state, or passes over a blank between labels that differ. All numbers are logarithms, and those of a step are
//! relative to the largest, so that no length costs digits and no path is lost. The way back is the way forth through the
//! reversed labels.

use ndarray::{Array3, ArrayView2, ArrayView3, ArrayViewMut2, Axis};

use super::{
    isa::{Isa, Kernel, dispatch},
    memory::{collected, filled, full},
    threads,
    thresholds::CTC_PARALLEL,
};
use crate::number::Real;

/// States before the first, which no path has reached.
const BEFORE: usize = 2;

/// Log probabilities `(steps, batch, classes)` and what they are compared with.
pub struct Ctc<'a, T> {
    pub log_probs: ArrayView3<'a, T>,
    /// The labels of each sample.
    pub labels: &'a [Vec<usize>],
    /// The steps of each sample.
    pub steps: &'a [usize],
    pub blank: usize,
}

/// The probabilities of the paths to each state at each step of a sample, with [`BEFORE`] states in front.
pub struct Paths<T> {
    forth: Vec<T>,
}

/// The states of one direction.
struct States<T> {
    classes: Vec<usize>,
    /// 0 where a state may be reached by passing over the one before it, −∞ elsewhere.
    passing: Vec<T>,
}

impl<T: Real> States<T> {
    fn new(labels: impl ExactSizeIterator<Item = usize> + Clone, blank: usize) -> Self {
        let before = std::iter::once(None).chain(labels.clone().map(Some));
        let pairs = || labels.clone().zip(before.clone());
        let nowhere = T::neg_infinity();
        let passing = |(label, before)| if Some(label) == before { nowhere } else { T::ZERO };
        States {
            classes: collected(labels.clone().flat_map(|label| [blank, label]).chain([blank])),
            passing: collected(pairs().flat_map(|pair| [nowhere, passing(pair)]).chain([nowhere])),
        }
    }
}

/// `log(eᵃ + eᵇ + eᶜ)` for the three ways into each state, from the step before.
#[inline(always)]
fn arrive<T: Real, I: Isa>(before: &[T], passing: &[T], out: &mut [T]) {
    let n = out.len();
    let (over, last, here) = (&before[..n], &before[1..][..n], &before[BEFORE..][..n]);
    let passing = &passing[..n];
    for s in 0..n {
        let (a, b, c) = (here[s], last[s], over[s] + passing[s]);
        let largest = larger(larger(a, b), c);
        let base = if largest == T::neg_infinity() { T::ZERO } else { largest };
        let sum = T::vexp::<I>(a - base) + T::vexp::<I>(b - base) + T::vexp::<I>(c - base);
        out[s] = T::vln::<I>(sum) + base;
    }
}

#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// Subtracts the largest number from all, and returns it; 0 if it is infinite or NaN.
#[inline(always)]
fn relative<T: Real>(x: &mut [T]) -> T {
    let largest = x.iter().fold(T::neg_infinity(), |a, &b| larger(a, b));
    if !largest.is_finite() {
        return T::ZERO;
    }
    x.iter_mut().for_each(|x| *x -= largest);
    largest
}

/// The start of all paths: the state before the first is the only one that was reached.
fn start<T: Real>(states: usize) -> Vec<T> {
    let mut start = filled(BEFORE + states, T::neg_infinity());
    start[BEFORE - 1] = T::ZERO;
    start
}

/// The row of a step.
#[inline(always)]
fn row<'a, T>(x: &'a ArrayView2<'_, T>, step: usize) -> &'a [T] {
    x.row(step).to_slice().expect("the classes lie side by side")
}

struct Forth<'a, T> {
    x: ArrayView2<'a, T>,
    states: States<T>,
    steps: usize,
}

impl<T: Real> Kernel for Forth<'_, T> {
    type Output = (T, Paths<T>);
    #[inline(always)]
    fn run<I: Isa>(self) -> (T, Paths<T>) {
        let States { classes, passing } = &self.states;
        let n = classes.len();
        let width = BEFORE + n;
        let mut forth = filled(self.steps * width, T::neg_infinity());
        let first = start(n);
        let mut size = 0.;
        for t in 0..self.steps {
            let (done, rest) = forth.split_at_mut(t * width);
            let before = if t == 0 { &first[..] } else { &done[(t - 1) * width..] };
            let now = &mut rest[BEFORE..width];
            arrive::<T, I>(before, passing, now);
            let x = row(&self.x, t);
            now.iter_mut().zip(classes).for_each(|(now, &class)| *now += x[class]);
            size += relative(now).as_f64();
        }
        // Paths end in the last label or in the blank behind it.
        let last = if self.steps == 0 { &first[..] } else { &forth[(self.steps - 1) * width..] };
        let mut end = [T::ZERO];
        arrive::<T, I>(&[T::neg_infinity(), last[width - 2], last[width - 1]], &[T::neg_infinity()], &mut end);
        (-T::of(end[0].as_f64() + size), Paths { forth })
    }
}

struct Back<'a, T> {
    x: ArrayView2<'a, T>,
    states: States<T>,
    forth: &'a [T],
    g: T,
    grad: ArrayViewMut2<'a, T>,
}

impl<T: Real> Kernel for Back<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<I: Isa>(mut self) {
        let States { classes, passing } = &self.states;
        let n = classes.len();
        let width = BEFORE + n;
        // The paths from each state to the end, in reversed order, and those through it.
        let (mut back, mut next) = (start(n), filled(width, T::neg_infinity()));
        let mut through = filled(n, T::ZERO);
        for t in (0..self.forth.len() / width).rev() {
            let now = &mut next[BEFORE..];
            arrive::<T, I>(&back, passing, now);
            relative(now);
            let forth = &self.forth[t * width + BEFORE..][..n];
            for s in 0..n {
                through[s] = forth[s] + now[n - 1 - s];
            }
            relative(&mut through);
            through.iter_mut().for_each(|p| *p = T::vexp::<I>(*p));
            let share = self.g / through.iter().fold(T::ZERO, |a, &b| a + b);
            let (x, mut grad) = (row(&self.x, t), self.grad.row_mut(t));
            let grad = grad.as_slice_mut().expect("the classes lie side by side");
            for (grad, &x) in grad.iter_mut().zip(x) {
                *grad = self.g * T::vexp::<I>(x);
            }
            for (s, p) in through.iter().enumerate() {
                grad[classes[n - 1 - s]] -= share * *p;
            }
            now.iter_mut().zip(classes).for_each(|(now, &class)| *now += x[class]);
            std::mem::swap(&mut back, &mut next);
            back[..BEFORE].fill(T::neg_infinity());
        }
    }
}

impl<T: Real> Ctc<'_, T> {
    fn work(&self) -> usize {
        self.labels.iter().zip(self.steps).map(|(labels, steps)| (2 * labels.len() + 1) * steps).sum()
    }

    /// Minus the logarithm of the probability of each sample's labels, and what the gradient needs.
    pub fn losses(&self) -> (Vec<T>, Vec<Paths<T>>) {
        let mut out = collected(self.steps.iter().map(|_| None));
        let each = |(n, out): (usize, &mut Option<_>)| {
            let states = States::new(self.labels[n].iter().copied(), self.blank);
            let x = self.log_probs.index_axis(Axis(1), n);
            *out = Some(dispatch(Forth { x, states, steps: self.steps[n] }));
        };
        self.each(out.iter_mut().enumerate(), each);
        out.into_iter().map(|done| done.expect("each sample ran")).unzip()
    }

    /// `g (eˣ − p)` for each sample, where `p` is the share of the paths that are in the class at the step: the gradient of
    /// the scores whose log softmax was passed; 0 behind a sample's steps, and where `g` is `None`.
    pub fn gradient(&self, paths: &[Paths<T>], g: &[Option<T>]) -> Array3<T> {
        let (steps, batch, classes) = self.log_probs.dim();
        let grad = full("ctc_loss", &[steps, batch, classes], T::ZERO);
        let mut grad = grad.into_dimensionality().expect("three axes");
        let each = |(n, grad): (usize, ArrayViewMut2<'_, T>)| {
            let Some(g) = g[n] else { return };
            let states = States::new(self.labels[n].iter().rev().copied(), self.blank);
            let x = self.log_probs.index_axis(Axis(1), n);
            dispatch(Back { x, states, forth: &paths[n].forth, g, grad });
        };
        self.each(grad.axis_iter_mut(Axis(1)).enumerate(), each);
        grad
    }

    fn each<J: Send>(&self, samples: impl Iterator<Item = J>, f: impl Fn(J) + Sync) {
        match self.work() < CTC_PARALLEL {
            true => samples.for_each(f),
            false => threads::each(self.work(), samples, f),
        }
    }
}
