//! The engine that visits the nodes from outputs to leaves, by descending id and without recursion.

use ndnn_derive::concrete;
use std::{
    collections::{BinaryHeap, HashMap},
    mem,
};

use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::sort,
    ops::added,
    tensor::{AnyNode, AnyTensor, Leaf, Real, Tensor, erase_node, no_grad, unerase, with_grad},
};

/// Gradients whose nodes were not run yet, in ascending order of id: the newest node is last and runs next, which is
/// reverse topological order.
///
/// Most graphs have only a few at a time, for which a sorted list is the fastest queue. If there are many (the inputs
/// of a `cat`), all of them are in a table until it is empty again.
struct Pending {
    /// Adds gradients.
    sum: SumFn,
    few: Vec<(AnyNode, AnyTensor)>,
    many: HashMap<u64, (AnyNode, AnyTensor)>,
    /// The ids of `many`.
    ids: BinaryHeap<u64>,
}

/// The sum of two gradients of one node, in the memory of the first if nothing else refers to it.
type SumFn = fn(AnyTensor, &AnyTensor) -> AnyTensor;

impl Pending {
    const FEW: usize = 64;

    fn new(sum: SumFn) -> Self {
        Pending { sum, few: Vec::new(), many: HashMap::new(), ids: BinaryHeap::new() }
    }

    fn add(&mut self, node: AnyNode, grad: AnyTensor) {
        let id = node.id();
        if self.many.is_empty() {
            match self.few.binary_search_by_key(&id, |(n, _)| n.id()) {
                Ok(at) => return add_to(&mut self.few[at].1, grad, self.sum),
                Err(at) if self.few.len() < Self::FEW => return self.few.insert(at, (node, grad)),
                Err(_) => {
                    for entry in mem::take(&mut self.few) {
                        let id = entry.0.id();
                        self.ids.push(id);
                        self.many.insert(id, entry);
                    }
                }
            }
        }
        match self.many.get_mut(&id) {
            Some((_, waiting)) => add_to(waiting, grad, self.sum),
            None => {
                self.ids.push(id);
                self.many.insert(id, (node, grad));
            }
        }
    }

    fn next(&mut self) -> Option<(AnyNode, AnyTensor)> {
        self.few.pop().or_else(|| self.many.remove(&self.ids.pop()?))
    }
}

/// Adds `grad` to a pending gradient.
fn add_to(waiting: &mut AnyTensor, grad: AnyTensor, sum: SumFn) {
    let before = mem::replace(waiting, grad);
    *waiting = sum(before, waiting);
}

/// Where nothing is recorded. It brings no more of f64 into a program that has only f32 than one loop.
fn plain_sum(a: AnyTensor, b: &AnyTensor) -> AnyTensor {
    match (a, b) {
        (AnyTensor::F32(a), AnyTensor::F32(b)) => AnyTensor::F32(added(a, b)),
        (AnyTensor::F64(a), AnyTensor::F64(b)) => AnyTensor::F64(added(a, b)),
        _ => unreachable!("one node's gradients are of one type"),
    }
}

fn recorded_sum(a: AnyTensor, b: &AnyTensor) -> AnyTensor {
    match (a, b) {
        (AnyTensor::F32(a), AnyTensor::F32(b)) => AnyTensor::F32(a + b),
        (AnyTensor::F64(a), AnyTensor::F64(b)) => AnyTensor::F64(a + b),
        _ => unreachable!("one node's gradients are of one type"),
    }
}

/// Runs one node on its gradient; the gradients of its inputs go to `sink`.
fn run_node(node: &AnyNode, grad: &AnyTensor, free: bool, mut sink: impl FnMut(AnyNode, AnyTensor)) -> Result<()> {
    match (node, grad) {
        (AnyNode::F32(n), AnyTensor::F32(g)) => n.op.run(n, g, free, &mut sink),
        (AnyNode::F64(n), AnyTensor::F64(g)) => n.op.run(n, g, free, &mut sink),
        _ => unreachable!("a node's gradient is of its type"),
    }
}

/// Adds a gradient to that of a leaf; returns the gradient if the node is not a leaf, or has hooks, which need it complete.
fn accumulate(node: &AnyNode, grad: AnyTensor) -> Option<AnyTensor> {
    fn into<T: Real>(leaf: Option<&Leaf<T>>, grad: Tensor<T>) -> Option<AnyTensor> {
        match leaf {
            Some(leaf) if !leaf.is_hooked() => leaf.gather(grad, added),
            _ => return Some(AnyTensor::from(grad)),
        }
        None
    }
    match (node, grad) {
        (AnyNode::F32(n), AnyTensor::F32(g)) => into(n.op.leaf(), g),
        (AnyNode::F64(n), AnyTensor::F64(g)) => into(n.op.leaf(), g),
        _ => unreachable!("a node's gradient is of its type"),
    }
}

/// Passes a complete gradient to a leaf with hooks; returns `false` if the node is not a leaf.
fn complete(node: &AnyNode, grad: &AnyTensor) -> Result<bool> {
    fn into<T: Real>(leaf: Option<&Leaf<T>>, grad: &Tensor<T>) -> Result<bool> {
        leaf.map_or(Ok(false), |leaf| leaf.complete(grad.clone(), added).map(|()| true))
    }
    match (node, grad) {
        (AnyNode::F32(n), AnyTensor::F32(g)) => into(n.op.leaf(), g),
        (AnyNode::F64(n), AnyTensor::F64(g)) => into(n.op.leaf(), g),
        _ => unreachable!("a node's gradient is of its type"),
    }
}

fn untracked(what: &str) -> Error {
    Error::new(
        ErrorKind::Graph,
        what,
        "this tensor has no graph: nothing it was made from requires a gradient, or it was made inside no_grad",
    )
}

fn node_of<T: Real>(op: &str, tensor: &Tensor<T>) -> Result<AnyNode> {
    tensor.node.0.clone().map(erase_node).ok_or_else(|| untracked(op))
}

impl<T: Real> Tensor<T> {
    /// Adds the gradient of this scalar to every leaf that it was computed from, and frees the graph.
    ///
    /// # Errors
    /// If this is not a single element, has no graph, or its graph was freed by an earlier call.
    pub fn backward(&self) -> Result<()> {
        self.backward_from(None, true)
    }

    /// As [`backward`](Tensor::backward), but retains the graph for another pass.
    ///
    /// # Errors
    /// As [`backward`](Tensor::backward).
    pub fn backward_retain(&self) -> Result<()> {
        self.backward_from(None, false)
    }

    /// As [`backward`](Tensor::backward) for a tensor of any shape, with the gradient to start from.
    ///
    /// # Errors
    /// As [`backward`](Tensor::backward), and if `gradient` has another shape.
    pub fn backward_with(&self, gradient: &Tensor<T>) -> Result<()> {
        self.backward_from(Some(gradient), true)
    }

    #[concrete(Real)]
    fn backward_from(&self, gradient: Option<&Tensor<T>>, free: bool) -> Result<()> {
        let root = node_of("backward", self)?;
        let start = start("backward", self, gradient)?;
        let mut pending = Pending::new(plain_sum);
        let add = |pending: &mut Pending, node: AnyNode, grad| {
            // A leaf without hooks need not wait: it only accumulates.
            if let Some(grad) = accumulate(&node, grad) {
                pending.add(node, grad);
            }
        };
        no_grad(|| {
            add(&mut pending, root, AnyTensor::from(start));
            while let Some((node, grad)) = pending.next() {
                if !complete(&node, &grad)? {
                    run_node(&node, &grad, free, |input, grad| add(&mut pending, input, grad))?;
                }
            }
            Ok(())
        })
    }
}

/// The gradient to start from: the given one, or 1 if there is a single element.
fn start<T: Real>(op: &str, output: &Tensor<T>, gradient: Option<&Tensor<T>>) -> Result<Tensor<T>> {
    match gradient {
        Some(g) if g.shape() == output.shape() => Ok(g.clone()),
        Some(g) => Err(Error::shape(
            op,
            format!("the gradient to start from is {:?}, the tensor is {:?}", g.shape(), output.shape()),
        )),
        None if output.numel() == 1 => Ok(output.detach().ones_like()),
        None => Err(Error::shape(
            op,
            format!(
                "needs a single element to start from, this tensor is {:?}; sum() it, or give its gradient",
                output.shape()
            ),
        )),
    }
}

/// The gradients of the sum of `outputs` with respect to each of `inputs`, which may be leaves or results.
///
/// Nothing is added to any leaf. With `create_graph` the results can be differentiated again, and the graph is
/// retained. Without it, the graph is freed between the outputs and the inputs; what an input itself was computed from
/// is retained, so that its gradient can be propagated further with [`backward_with`](Tensor::backward_with). An input
/// on which the outputs do not depend gets `None`.
///
/// ```
/// use ndnn::{autograd::grad, prelude::*};
/// let x = tensor![3.0].set_requires_grad(true);
/// let y = &x * &x * &x;
/// let dy = grad(&[&y], &[&x], true)?[0].clone().unwrap();
/// let d2y = grad(&[&dy], &[&x], false)?[0].clone().unwrap();
/// assert_eq!((dy.item()?, d2y.item()?), (27.0, 18.0));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If an output is not a single element, or has no graph or a freed one, or an input requires no gradient.
pub fn grad<T: Real>(
    outputs: &[&Tensor<T>],
    inputs: &[&Tensor<T>],
    create_graph: bool,
) -> Result<Vec<Option<Tensor<T>>>> {
    grad_with(outputs, &vec![None; outputs.len()], inputs, create_graph)
}

/// As [`grad`], for outputs of any shape, each with the gradient to start from.
///
/// # Errors
/// As [`grad`], and if the number of gradients differs from that of outputs, or one differs in shape from its output.
pub fn grad_with<T: Real>(
    outputs: &[&Tensor<T>],
    gradients: &[Option<&Tensor<T>>],
    inputs: &[&Tensor<T>],
    create_graph: bool,
) -> Result<Vec<Option<Tensor<T>>>> {
    self::gradients(outputs, gradients, inputs, create_graph, !create_graph)
}

/// As [`grad_with`]; `free` frees the graph between the outputs and the inputs.
#[concrete]
pub(crate) fn gradients<T: Real>(
    outputs: &[&Tensor<T>],
    gradients: &[Option<&Tensor<T>>],
    inputs: &[&Tensor<T>],
    create_graph: bool,
    free: bool,
) -> Result<Vec<Option<Tensor<T>>>> {
    if gradients.len() != outputs.len() {
        let what = format!(
            "{} gradients to start from for {} outputs, expected one per output",
            gradients.len(),
            outputs.len()
        );
        return Err(Error::shape("grad", what));
    }
    let (mut targets, mut roots) = (Vec::with_capacity(inputs.len()), Vec::with_capacity(outputs.len()));
    for input in inputs {
        targets.push(node_of("grad", input)?.id());
    }
    for output in outputs {
        roots.push(node_of("grad", output)?);
    }
    let wanted = leading_to(&roots, &targets);
    let mut pending = Pending::new(recorded_sum);
    for (i, root) in roots.into_iter().enumerate() {
        pending.add(root, AnyTensor::from(start("grad", outputs[i], gradients[i])?));
    }
    let mut found: HashMap<u64, Option<AnyTensor>> = HashMap::new();
    for &id in &targets {
        found.insert(id, None);
    }
    with_grad(create_graph, || -> Result<()> {
        while let Some((node, grad)) = pending.next() {
            if let Some(found) = found.get_mut(&node.id()) {
                *found = Some(grad.clone());
            }
            if wanted.get(&node.id()) == Some(&Role::Between) {
                run_node(&node, &grad, free, |input, grad| {
                    if wanted.contains_key(&input.id()) {
                        pending.add(input, grad);
                    }
                })?;
            }
        }
        Ok(())
    })?;
    let mut answers = Vec::with_capacity(targets.len());
    for id in &targets {
        let gradient = found[id].clone().and_then(unerase::<T>);
        answers.push(if create_graph { gradient } else { gradient.map(Tensor::into_detached) });
    }
    Ok(answers)
}

/// The part that a node plays in the search for gradients.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    /// A target that leads to no other target: its gradient is wanted, those of its inputs are not.
    Target,
    /// It leads to a target.
    Between,
}

/// The nodes on a path from `roots` to `targets`, including the targets, and those that were freed and may have been on
/// such a path: a gradient that reaches one of these is an error, since it is unknown where it would go.
fn leading_to(roots: &[AnyNode], targets: &[u64]) -> HashMap<u64, Role> {
    let mut oldest = u64::MAX;
    for &target in targets {
        oldest = oldest.min(target);
    }
    let mut seen: HashMap<u64, Vec<u64>> = HashMap::new();
    let (mut stack, mut freed) = (roots.to_vec(), Vec::new());
    while let Some(node) = stack.pop() {
        let mut below = Vec::new();
        if seen.contains_key(&node.id()) {
            continue;
        }
        let known = node.inputs(&mut |input| {
            below.push(input.id());
            if input.id() >= oldest {
                stack.push(input);
            }
        });
        if !known && node.id() > oldest {
            freed.push(node.id());
        }
        seen.insert(node.id(), below);
    }
    let (mut ids, mut wanted) = (Vec::with_capacity(seen.len()), HashMap::new());
    for &id in seen.keys() {
        ids.push(id);
    }
    for &target in targets {
        if seen.contains_key(&target) {
            wanted.insert(target, Role::Target);
        }
    }
    for id in freed {
        wanted.insert(id, Role::Between);
    }
    for at in sort::order(ids.len(), &|at| ids[at]) {
        let id = ids[at];
        if seen[&id].iter().any(|below| wanted.contains_key(below)) {
            wanted.insert(id, Role::Between);
        }
    }
    wanted
}
