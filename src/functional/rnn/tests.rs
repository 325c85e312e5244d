//! The kernel against the formula step by step.

use super::{
    GruKind, LstmKind, RecurrentKind, RecurrentState, RecurrentWeights, RnnKind, RnnNonlinearity, driver::Driver,
    fused::Layer,
};
use crate::{
    autograd::grad_with,
    prelude::*,
    random::{Generator, Rng, SeedableRng},
};

/// The shape of a layer, and how it runs.
#[derive(Clone, Debug)]
struct Case {
    sizes: Vec<usize>,
    backwards: bool,
    biases: [bool; 2],
    input: usize,
    hidden: usize,
    /// 0 if the hidden state is not projected.
    proj: usize,
}

impl Case {
    /// Any: many or no sequences, few or many steps, lengths that differ or not, sizes from 0 on.
    fn random<K: RecurrentKind>(rng: &mut Generator) -> Self {
        let mut below = |n: u64| (rng.next_u64() % n) as usize;
        let (batch, steps) = ([0, 1, 2, 4, 5, 7, 70][below(7)], [1, 2, 5, 33][below(4)]);
        let mut sizes = vec![batch; steps];
        if batch > 0 && below(2) == 0 {
            (1..steps).for_each(|t| sizes[t] = usize::saturating_sub(sizes[t - 1], below(2) * below(3)).max(1));
        }
        let (input, hidden) = ([0, 1, 3, 17][below(4)], [0, 1, 2, 5, 19][below(5)]);
        let proj = if K::NAME == "LSTM" && hidden > 1 && below(2) == 0 { 1 + below(hidden as u64 - 1) } else { 0 };
        Case { sizes, backwards: below(2) == 0, biases: [below(3) > 0, below(3) > 0], input, hidden, proj }
    }

    /// The shapes of the input, of the parts of the state and of the weights that there are.
    fn shapes<K: RecurrentKind>(&self) -> Vec<Vec<usize>> {
        let (batch, width) = (self.sizes[0], if self.proj > 0 { self.proj } else { self.hidden });
        let rows = K::GATES * self.hidden;
        let mut shapes = vec![vec![self.sizes.iter().sum(), self.input], vec![batch, width], vec![batch, self.hidden]];
        shapes.truncate(1 + K::State::<f64>::PARTS);
        shapes.extend([vec![rows, self.input], vec![rows, width]]);
        shapes.extend(self.biases.iter().filter(|&&there| there).map(|_| vec![rows]));
        shapes.extend((self.proj > 0).then(|| vec![width, self.hidden]));
        shapes
    }

    fn run<K: RecurrentKind, T: Real>(&self, kind: K, tensors: &[Tensor<T>], fused: bool) -> Vec<Tensor<T>> {
        let mut next = tensors.iter().cloned();
        let mut taken = || next.next().unwrap();
        let input = taken();
        let start: Vec<Tensor<T>> = (0..K::State::<T>::PARTS).map(|_| taken()).collect();
        let mut weights = RecurrentWeights::new(&taken(), &taken());
        weights.bias_ih = self.biases[0].then(&mut taken);
        weights.bias_hh = self.biases[1].then(&mut taken);
        weights.weight_hr = (self.proj > 0).then(taken);
        let driver = Driver { kind: kind.kernel(), op: "test" };
        let layer = Layer::new(driver, &input, &self.sizes, &start, &weights, self.backwards);
        let (output, end) = if fused { layer.run() } else { driver.steps(&layer) }.unwrap();
        std::iter::once(output).chain(end).collect()
    }
}

fn numbers<T: Real>(shape: &[usize], rng: &mut Generator) -> Tensor<T> {
    Tensor::uniform_with(shape, -T::ONE, T::ONE, rng).unwrap()
}

/// The same numbers, in another order in memory.
fn strided<T: Real>(x: &Tensor<T>) -> Tensor<T> {
    if x.ndim() < 2 { x.clone() } else { x.t().unwrap().contiguous().t().unwrap() }
}

#[track_caller]
fn close<T: Real>(a: &Tensor<T>, b: &Tensor<T>, tolerance: f64, what: &dyn std::fmt::Debug) {
    assert_eq!(a.shape(), b.shape(), "{what:?}");
    assert!(a.allclose(b, tolerance, tolerance, true).unwrap(), "{what:?}\n{a}\n{b}");
}

/// Outputs, and gradients of some inputs from gradients of some outputs, in both passes.
fn agrees<K: RecurrentKind>(kind: K, seed: u64) {
    let mut rng = Generator::seed_from_u64(seed);
    let case = Case::random::<K>(&mut rng);
    let what = (K::NAME, seed, &case);
    let wanted = rng.next_u64() | 1 << (rng.next_u64() % 4);
    let mut tensors = Vec::new();
    for (i, shape) in case.shapes::<K>().iter().enumerate() {
        // Small enough that roundings do not grow over many steps.
        let tensor = numbers::<f64>(shape, &mut rng) * 0.3;
        let tensor = if rng.next_u64() % 3 == 0 { strided(&tensor) } else { tensor };
        tensors.push(if wanted >> i & 1 == 1 { tensor.set_requires_grad(true) } else { tensor });
    }
    let (fused, steps) = (case.run(kind, &tensors, true), case.run(kind, &tensors, false));
    let without = no_grad(|| case.run(kind, &tensors, true));
    for ((a, b), c) in fused.iter().zip(&steps).zip(&without) {
        close(a, b, 1e-12, &what);
        close(c, b, 1e-12, &what);
        assert!(!c.requires_grad());
    }
    let inputs: Vec<&Tensor<f64>> = tensors.iter().filter(|t| t.requires_grad()).collect();
    let gradients: Vec<Tensor<f64>> = steps.iter().map(|y| numbers(y.shape(), &mut rng)).collect();
    // Some outputs are not used.
    let used: Vec<usize> = (0..steps.len()).filter(|_| rng.next_u64() % 3 > 0).collect();
    let derivatives = |outputs: &[Tensor<f64>], twice: bool| {
        let (y, g) = used.iter().map(|&i| (&outputs[i], Some(&gradients[i]))).collect::<(Vec<_>, Vec<_>)>();
        grad_with(&y, &g, &inputs, twice).unwrap()
    };
    if used.is_empty() {
        return;
    }
    let expected = derivatives(&steps, false);
    for twice in [true, false] {
        for ((a, b), input) in derivatives(&fused, twice).into_iter().zip(&expected).zip(&inputs) {
            let zeros = || Tensor::zeros(input.shape());
            close(&a.unwrap_or_else(zeros), &b.clone().unwrap_or_else(zeros), 1e-11, &what);
        }
    }
}

#[test]
fn the_kernel_is_the_formula_step_by_step() {
    for seed in 0..150 {
        agrees(LstmKind, seed);
        agrees(GruKind, seed);
        let nonlinearity = if seed % 2 == 0 { RnnNonlinearity::Tanh } else { RnnNonlinearity::Relu };
        agrees(RnnKind { nonlinearity }, seed);
    }
}

/// One number of an input is extreme; in f32 the vector functions are those of f32.
#[test]
fn extreme_numbers() {
    fn check<K: RecurrentKind, T: Real>(kind: K, tolerance: f64) {
        let case = Case { sizes: vec![2, 2, 1], backwards: false, biases: [true; 2], input: 3, hidden: 5, proj: 0 };
        for (i, shape) in case.shapes::<K>().iter().enumerate() {
            for extreme in [0., 1e30, -1e30, 1e-30, f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
                let mut rng = Generator::seed_from_u64(9);
                let mut tensors: Vec<Tensor<T>> =
                    case.shapes::<K>().iter().map(|shape| numbers(shape, &mut rng)).collect();
                let mut values = tensors[i].to_vec();
                values[1] = T::of(extreme);
                tensors[i] = Tensor::from_vec(shape, values).unwrap();
                let tensors: Vec<Tensor<T>> = tensors.into_iter().map(|t| t.set_requires_grad(true)).collect();
                let inputs: Vec<&Tensor<T>> = tensors.iter().collect();
                let gradients = |fused: bool| {
                    let outputs = case.run(kind, &tensors, fused);
                    let sum = outputs[0].sum();
                    let found = grad_with(&[&sum], &[None], &inputs, false).unwrap();
                    (outputs, found.into_iter().flatten().collect::<Vec<_>>())
                };
                let (fused, steps) = (gradients(true), gradients(false));
                let what = (K::NAME, i, extreme, T::DTYPE);
                let pairs = fused.0.iter().zip(&steps.0).chain(fused.1.iter().zip(&steps.1));
                pairs.for_each(|(a, b)| close(a, b, tolerance, &what));
            }
        }
    }
    fn all<T: Real>(tolerance: f64) {
        check::<_, T>(LstmKind, tolerance);
        check::<_, T>(GruKind, tolerance);
        check::<_, T>(RnnKind::default(), tolerance);
        check::<_, T>(RnnKind { nonlinearity: RnnNonlinearity::Relu }, tolerance);
    }
    all::<f64>(1e-11);
    all::<f32>(2e-5);
}

/// Inference keeps no gates, and a thousand steps take memory in proportion to their number.
#[test]
fn memory_grows_with_the_number_of_steps() {
    let peak = |steps: usize, train: bool| {
        let lstm = LSTM::new(8, 32);
        let x = Tensor::ones([steps, 4, 8]);
        let run = || match train {
            true => lstm.forward(&x, None).unwrap().0.sum().backward().unwrap(),
            false => drop(no_grad(|| lstm.forward(&x, None)).unwrap()),
        };
        // What earlier passes left in the pool is not counted.
        crate::memory::clear();
        allocation_counter::measure(run).bytes_max
    };
    // The gates of a step, and its outputs.
    let step = 4 * 4 * (4 * 32 + 32);
    let (training, inference) = (peak(1000, true), peak(1000, false));
    assert!(inference < 1000 * step * 5 / 4 && training < 1000 * step * 4, "{inference} and {training} bytes");
    assert!(peak(2000, true) < training * 9 / 4);
}

#[test]
#[should_panic(expected = "weights of a sweep")]
fn weights_of_another_size_are_not_read() {
    let case = Case { sizes: vec![2], backwards: false, biases: [false; 2], input: 3, hidden: 4, proj: 2 };
    let mut shapes = case.shapes::<LstmKind>();
    *shapes.last_mut().unwrap() = vec![2, 3];
    let tensors: Vec<Tensor<f64>> = shapes.iter().map(Tensor::zeros).collect();
    case.run(LstmKind, &tensors, true);
}
