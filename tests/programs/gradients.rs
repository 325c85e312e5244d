//! Gradients of programs: compared with finite differences, and the ways to compute them with one another.

use ndnn::{AnyTensor, Tensor, autograd::grad};

use crate::{naive::Array, outputs, program::Program};

type X = Tensor<f64>;

const STEP: f64 = 1e-5;

/// The leaves of a program, and the values that its loss sums: all those that no later step used.
struct Graph<'p> {
    program: &'p Program,
    leaves: Vec<usize>,
    ends: Vec<usize>,
}

/// The factor of element `k` of value `i` in a loss.
fn weight(i: usize, k: usize) -> f64 {
    (1. + i as f64 + 1.7 * k as f64).cos()
}

fn weighted(x: &X, i: usize) -> X {
    let weights = X::from_vec(x.shape(), (0..x.numel()).map(|k| weight(i, k)).collect()).unwrap();
    (x * weights).sum()
}

impl<'p> Graph<'p> {
    fn new(program: &'p Program) -> Self {
        let steps = &program.steps;
        let kept = |i: &usize| program.values[*i].is_some();
        let leaves = (0..steps.len()).filter(|&i| steps[i].inputs.is_empty()).collect();
        let used = |i: &usize| (0..steps.len()).any(|j| kept(&j) && steps[j].inputs.contains(i));
        let ends = (0..steps.len()).filter(|i| kept(i) && !used(i)).collect();
        Graph { program, leaves, ends }
    }

    /// The values of the leaves, as new leaves.
    fn tracked(&self) -> Vec<X> {
        let value = |i: usize| match &self.program.values[i] {
            Some((AnyTensor::F64(x), _)) => x.set_requires_grad(true),
            _ => unreachable!("a leaf of f64"),
        };
        self.leaves.iter().map(|&i| value(i)).collect()
    }

    fn loss(&self, leaves: &[X]) -> X {
        let leaves: Vec<_> = self.leaves.iter().zip(leaves).map(|(&i, x)| (i, AnyTensor::from(x.clone()))).collect();
        let values = outputs(&self.program.steps, &leaves);
        let end = |&i: &usize| match values[i].as_ref().expect("a value") {
            AnyTensor::F64(x) => weighted(x, i),
            _ => unreachable!("all is f64"),
        };
        self.ends.iter().map(end).reduce(|a, b| a + b).expect("a value")
    }

    /// The loss of the reference, with one element of one leaf moved.
    fn naive_loss(&self, leaf: usize, k: usize, by: f64) -> f64 {
        let mut values: Vec<Option<Array>> = Vec::new();
        for (i, step) in self.program.steps.iter().enumerate() {
            let inputs: Option<Vec<&Array>> = step.inputs.iter().map(|&i| values[i].as_ref()).collect();
            let value = inputs.filter(|_| self.program.values[i].is_some()).and_then(|inputs| (step.naive)(&inputs));
            values.push(value.map(|mut array| {
                if i == leaf {
                    array.data[k] += by;
                }
                array
            }));
        }
        let end = |&i: &usize| {
            let array = values[i].as_ref().expect("a value");
            array.data.iter().enumerate().map(|(k, x)| x * weight(i, k)).sum::<f64>()
        };
        self.ends.iter().map(end).sum()
    }

    /// The gradients of the loss; zeros if it does not depend on a leaf.
    fn gradients(&self, leaves: &[X], create_graph: bool) -> Vec<X> {
        let found = grad(&[&self.loss(leaves)], &leaves.iter().collect::<Vec<_>>(), create_graph).unwrap();
        found.into_iter().zip(leaves).map(|(g, x)| g.unwrap_or_else(|| x.zeros_like().detach())).collect()
    }
}

/// The derivative at 0 by central differences; `None` at a kink, where the slopes of the two sides do not converge.
fn derivative(f: impl Fn(f64) -> f64) -> Option<f64> {
    let at = f(0.);
    let sides = |h: f64| ((f(h) - at) / h, (at - f(-h)) / h);
    let ((right, left), (nearer_right, nearer_left)) = (sides(STEP), sides(STEP / 4.));
    let noise = 1e-6 * (1. + at.abs());
    let kink = (nearer_right - nearer_left).abs() > (right - left).abs() / 2. + noise;
    (!kink).then_some((right + left) / 2.)
}

fn near(what: &str, leaf: usize, k: usize, got: f64, expected: f64, scale: f64) -> Result<(), String> {
    if (got - expected).abs() <= 1e-5 * scale {
        return Ok(());
    }
    Err(format!("{what} by element {k} of v{leaf} is {got:?}, expected {expected:?}"))
}

pub fn check(program: &Program) -> Result<(), String> {
    let graph = Graph::new(program);
    if graph.ends.iter().all(|i| graph.leaves.contains(i)) {
        return Ok(());
    }
    let leaves = graph.tracked();
    let first = graph.gradients(&leaves, true);
    let plain = graph.gradients(&leaves, false);
    graph.loss(&leaves).backward().map_err(|e| e.to_string())?;
    let largest = |g: &[X]| g.iter().flat_map(|g| g.to_vec()).fold(1., |a: f64, x| a.max(x.abs()));
    let scale = largest(&first);
    for (at, (&leaf, x)) in graph.leaves.iter().zip(&leaves).enumerate() {
        let gathered = x.grad().unwrap_or_else(|| x.zeros_like().detach());
        for other in [&first[at], &plain[at], &gathered] {
            if other.shape() != x.shape() {
                return Err(format!("the gradient of v{leaf} is {:?}, expected {:?}", other.shape(), x.shape()));
            }
        }
        let (a, b, c) = (first[at].to_vec(), plain[at].to_vec(), gathered.to_vec());
        for k in 0..a.len() {
            if (a[k] - b[k]).abs() > 1e-10 * scale || (a[k] - c[k]).abs() > 1e-10 * scale {
                let got = (a[k], b[k], c[k]);
                return Err(format!("element {k} of v{leaf}: grad, recorded or not, and backward give {got:?}"));
            }
        }
        // Some elements, spread over the leaf.
        for k in (0..a.len()).step_by(a.len().div_ceil(3).max(1)) {
            if let Some(expected) = derivative(|by| graph.naive_loss(leaf, k, by)) {
                near("the derivative", leaf, k, a[k], expected, scale)?;
            }
        }
    }
    if program.mode == crate::program::Mode::Gradients(true) { second(&graph, &leaves, &first) } else { Ok(()) }
}

/// Checks the gradient of a weighted sum of the first gradients against differences of that sum.
fn second(graph: &Graph, leaves: &[X], first: &[X]) -> Result<(), String> {
    let sum = |gradients: &[X]| {
        let sums = gradients.iter().enumerate().map(|(i, g)| weighted(g, i));
        sums.reduce(|a, b| a + b).expect("a leaf")
    };
    let total = sum(first);
    if !total.requires_grad() {
        return Ok(());
    }
    let found = grad(&[&total], &leaves.iter().collect::<Vec<_>>(), false).map_err(|e| e.to_string())?;
    let found: Vec<X> =
        found.into_iter().zip(leaves).map(|(g, x)| g.unwrap_or_else(|| x.zeros_like().detach())).collect();
    let scale =
        found.iter().flat_map(|g| g.to_vec()).fold(total.item().unwrap().abs().max(1.), |a: f64, x| a.max(x.abs()));
    for (at, x) in leaves.iter().enumerate().filter(|(_, x)| x.numel() > 0) {
        let k = x.numel() / 2;
        let moved = |by: f64| {
            let mut elements = x.to_vec();
            elements[k] += by;
            let mut leaves = leaves.to_vec();
            leaves[at] = X::from_vec(x.shape(), elements).unwrap().set_requires_grad(true);
            sum(&graph.gradients(&leaves, false)).item().unwrap()
        };
        let expected = (moved(STEP) - moved(-STEP)) / (2. * STEP);
        near("the second derivative", graph.leaves[at], k, found[at].to_vec()[k], expected, scale)?;
    }
    Ok(())
}
