//! Connectionist temporal classification: the probability of all the ways in which a sequence of labels can be spread over
//! steps, with blanks between.
//!
//! The ways are paths through states: a blank, the first label, a blank, the second, …, a blank. Each step stays, goes on
//! to the next state, or passes over a blank between labels that differ. All numbers are logarithms, and those of a step are
//! relative to the largest, so that no length costs digits and no path is lost. The way back is the way forth through the
//! reversed labels.

use ndarray::{ArrayD, ArrayView2, ArrayViewD, Axis, Ix2};
use ndnn_derive::concrete;

use super::{
    memory::{filled, full, vector},
    passes::passes,
    threads::{self, Cut},
    thresholds::CTC_PARALLEL,
    vmath::VectorMath,
};
use crate::number::Real;

/// States before the first, which no path has reached.
const BEFORE: usize = 2;

/// Arrays of numbers are this much longer than asked for at most, so that no loop over them has a rest outside of vectors.
const fn padded<T>(len: usize) -> usize {
    // Functions of f64 are computed one by one.
    if size_of::<T>() == 4 { len.next_multiple_of(LANES) } else { len }
}

const LANES: usize = 16;

/// `f` over all numbers, in the order of vectors.
#[inline(always)]
fn fold<T: Real>(x: &[T], start: T, f: impl Fn(T, T) -> T) -> T {
    let mut lanes = [start; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder().iter().fold(start, |a, &b| f(a, b));
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = f(lanes[i], chunk[i]);
        }
    }
    lanes.iter().fold(rest, |a, &b| f(a, b))
}

/// Log probabilities `(steps, batch, classes)` and what they are compared with.
pub struct Ctc<'a, T> {
    pub log_probs: ArrayViewD<'a, T>,
    /// The labels of each sample.
    pub labels: &'a [Vec<usize>],
    /// The steps of each sample.
    pub steps: &'a [usize],
    pub blank: usize,
}

/// The probabilities of the paths to each state at each step of a sample, with [`BEFORE`] states in front, [`padded`].
pub struct Paths<T>(Vec<T>);

/// The states of one direction.
struct States<T> {
    classes: Vec<usize>,
    /// 0 where a state may be reached by passing over the one before it, −∞ elsewhere; [`padded`].
    passing: Vec<T>,
}

impl<T: Real> States<T> {
    fn new(labels: &[usize], reversed: bool, blank: usize) -> Self {
        let (n, mut classes) = (labels.len(), vector(2 * labels.len() + 1));
        let mut passing = filled(padded::<T>(2 * n + 1), T::neg_infinity());
        classes.push(blank);
        for i in 0..n {
            let label = labels[if reversed { n - 1 - i } else { i }];
            // Two states back there is the label before.
            if i == 0 || classes[2 * i - 1] != label {
                passing[2 * i + 1] = T::ZERO;
            }
            classes.push(label);
            classes.push(blank);
        }
        States { classes, passing }
    }

    /// The length of the numbers of a step, and of those of all states.
    fn sizes(&self) -> [usize; 2] {
        [BEFORE + self.passing.len(), self.classes.len()]
    }
}

passes! {
    /// `log(eᵃ + eᵇ + eᶜ)` for the three ways into each state, from the step before.
    wide fn arrive<T: Real, I>(before: &'a [T], passing: &'a [T], out: &'o mut [T]) -> () {
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

    /// `eˣ`
    wide fn exponentials<T: Real, I>(x: &'o mut [T]) -> () {
        for x in x {
            *x = T::vexp::<I>(*x);
        }
    }
}

#[inline(always)]
fn larger<T: Real>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// Subtracts the largest number from all, and returns it; 0 if it is infinite or NaN.
fn relative<T: Real>(x: &mut [T]) -> T {
    let largest = fold(x, T::neg_infinity(), larger);
    if !largest.is_finite() {
        return T::ZERO;
    }
    x.iter_mut().for_each(|x| *x -= largest);
    largest
}

/// The start of all paths: the state before the first is the only one that was reached.
fn start<T: Real>(width: usize) -> Vec<T> {
    let mut start = filled(width, T::neg_infinity());
    start[BEFORE - 1] = T::ZERO;
    start
}

/// The row of a step.
fn row<'a, T>(x: &'a ArrayView2<'_, T>, step: usize) -> &'a [T] {
    x.row(step).to_slice().expect("the classes lie side by side")
}

struct Forth<'a, T> {
    x: ArrayView2<'a, T>,
    states: States<T>,
    steps: usize,
}

impl<T: Real> Forth<'_, T> {
    fn run(self) -> (T, Paths<T>) {
        let States { classes, passing } = &self.states;
        let [width, n] = self.states.sizes();
        let nowhere = T::neg_infinity();
        let mut paths = filled(self.steps * width, nowhere);
        let first = start(width);
        let mut size = 0.;
        for t in 0..self.steps {
            let (done, rest) = paths.split_at_mut(t * width);
            let before = if t == 0 { &first[..] } else { &done[(t - 1) * width..] };
            let now = &mut rest[BEFORE..width];
            arrive(before, passing, now);
            let x = row(&self.x, t);
            now.iter_mut().zip(classes).for_each(|(now, &class)| *now += x[class]);
            now[n..].fill(nowhere);
            size += relative(now).as_f64();
        }
        // Paths end in the last label or in the blank behind it.
        let last = if self.steps == 0 { &first[..] } else { &paths[(self.steps - 1) * width..] };
        let mut end = [T::ZERO];
        arrive(&[nowhere, last[n], last[n + 1]], &[nowhere], &mut end);
        (-T::of(end[0].as_f64() + size), Paths(paths))
    }
}

struct Back<'a, T> {
    x: ArrayView2<'a, T>,
    /// Those of the reversed labels.
    states: States<T>,
    paths: &'a Paths<T>,
    g: T,
    grad: &'a Cut<'a, T>,
    /// The first row of the gradient, and the distance to the next.
    rows: (usize, usize),
}

impl<T: Real> Back<'_, T> {
    #[allow(unsafe_code)]
    fn run(self) {
        let States { classes, passing } = &self.states;
        let [width, n] = self.states.sizes();
        let nowhere = T::neg_infinity();
        // The paths from each state to the end, in reversed order, and those through it.
        let (mut back, mut next) = (start(width), filled(width, nowhere));
        let mut through = filled(width - BEFORE, nowhere);
        let mut powers = filled(padded::<T>(self.x.ncols()), T::ZERO);
        for t in (0..self.paths.0.len() / width).rev() {
            let now = &mut next[BEFORE..];
            arrive(&back, passing, now);
            now[n..].fill(nowhere);
            relative(now);
            let forth = &self.paths.0[t * width + BEFORE..][..n];
            let reversed = forth.iter().rev().zip(&*now);
            through.iter_mut().zip(reversed).for_each(|(through, (&forth, &back))| *through = forth + back);
            through[n..].fill(nowhere);
            relative(&mut through);
            exponentials(&mut through);
            let share = self.g / fold(&through, T::ZERO, |a, b| a + b);

            let x = row(&self.x, t);
            powers[..x.len()].copy_from_slice(x);
            exponentials(&mut powers);
            powers.iter_mut().for_each(|p| *p *= self.g);
            for (p, &class) in through.iter().zip(classes) {
                powers[class] -= share * *p;
            }
            // SAFETY: each sample has its own rows, of which this is one.
            let grad = unsafe { self.grad.chunk(self.rows.0 + t * self.rows.1, x.len()) };
            grad.copy_from_slice(&powers[..x.len()]);
            now.iter_mut().zip(classes).for_each(|(now, &class)| *now += x[class]);
            std::mem::swap(&mut back, &mut next);
            back[..BEFORE].fill(nowhere);
        }
    }
}

impl<T: Real> Ctc<'_, T> {
    fn work(&self) -> usize {
        self.labels.iter().zip(self.steps).map(|(labels, steps)| (2 * labels.len() + 1) * steps).sum()
    }

    /// The log probabilities of sample `n`, `(steps, classes)`.
    fn sample(&self, n: usize) -> ArrayView2<'_, T> {
        self.log_probs.index_axis(Axis(1), n).into_dimensionality::<Ix2>().expect("three axes")
    }

    #[track_caller]
    fn each(&self, f: &(dyn Fn(usize) + Sync)) {
        threads::for_each_from(CTC_PARALLEL, self.work(), self.steps.len(), f);
    }
}

/// Minus the logarithm of the probability of each sample's labels, and what the gradient needs.
#[concrete]
#[allow(unsafe_code)]
pub fn losses<T: Real>(ctc: &Ctc<'_, T>) -> (Vec<T>, Vec<Paths<T>>) {
    let count = ctc.steps.len();
    let (mut sums, mut paths) = (filled(count, T::ZERO), vector(count));
    paths.resize_with(count, || Paths(Vec::new()));
    let (sum_of, paths_of) = (&Cut::new(&mut sums), &Cut::new(&mut paths));
    ctc.each(&|n| {
        let states = States::new(&ctc.labels[n], false, ctc.blank);
        let (sum, paths) = Forth { x: ctc.sample(n), states, steps: ctc.steps[n] }.run();
        // SAFETY: each sample is handed out once.
        unsafe { (sum_of.part(n, 1)[0], paths_of.part(n, 1)[0]) = (sum, paths) };
    });
    (sums, paths)
}

/// `g (eˣ − p)` for each sample, where `p` is the share of the paths that are in the class at the step: the gradient of
/// the scores whose log softmax was passed; 0 behind a sample's steps, and where `g` is `None`.
#[concrete]
pub fn gradient<T: Real>(ctc: &Ctc<'_, T>, paths: &[Paths<T>], g: &[Option<T>]) -> ArrayD<T> {
    let mut grad = full("ctc_loss", ctc.log_probs.shape(), T::ZERO);
    let cut = &Cut::new(grad.as_slice_mut().expect("standard layout"));
    ctc.each(&|n| {
        let Some(g) = g[n] else { return };
        let states = States::new(&ctc.labels[n], true, ctc.blank);
        Back { x: ctc.sample(n), states, paths: &paths[n], g, grad: cut, rows: (n, ctc.steps.len()) }.run();
    });
    grad
}
