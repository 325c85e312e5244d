//! How a tensor was computed: [`Node`], and the only way to create one, [`Tensor::op`].

use std::{
    cell::Cell,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ndarray::{Dimension, IxDyn};

use super::{
    AnyTensor, Array, Element, Real, Tensor,
    backward::{Closure, OfGradient, OfMany, OfOutput, Recorded},
    erase::{erase, erase_node},
    leaf::Leaf,
};
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::{held::Held, profile},
    sync::{Restore, Scoped, during, lock},
};

/// One operation of a computation: it knows the nodes of its inputs, and how a gradient flows back to them.
///
/// Ids increase with creation, so the id of an input is smaller than that of the output: visiting nodes by descending
/// id is reverse topological order.
pub struct Node<T: Element, B: ?Sized = dyn Backward<T>> {
    pub(crate) id: u64,
    pub(crate) shape: IxDyn,
    marker: std::marker::PhantomData<fn() -> T>,
    pub(crate) op: B,
}

/// A node of one of the element types that have gradients.
#[derive(Clone)]
pub enum AnyNode {
    F32(Arc<Node<f32>>),
    F64(Arc<Node<f64>>),
}

impl AnyNode {
    pub(crate) fn id(&self) -> u64 {
        match self {
            AnyNode::F32(n) => n.id,
            AnyNode::F64(n) => n.id,
        }
    }

    /// Calls `f` on the node of each input that has one; returns `false` if they are no longer known because the graph
    /// was freed.
    pub(crate) fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool {
        match self {
            AnyNode::F32(n) => n.op.inputs(f),
            AnyNode::F64(n) => n.op.inputs(f),
        }
    }
}

/// Receives the gradient of an input, together with its node.
pub(crate) type Sink<'a> = dyn FnMut(AnyNode, AnyTensor) + 'a;

/// How a gradient flows through a node.
pub trait Backward<T: Element>: Send + Sync {
    fn name(&self) -> &'static str;
    /// See [`AnyNode::inputs`].
    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool;
    /// Passes the gradients of the inputs to `sink`. With `free`, what the node holds is removed from it first.
    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()>;
    /// Where the gradient of a leaf accumulates; `None` for a result.
    fn leaf(&self) -> Option<&Leaf<T>>;
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    profile::atomic();
    NEXT.fetch_add(1, Ordering::Relaxed)
}

#[inline]
fn new_node<T: Element, B: Backward<T> + 'static>(data: &Held<T>, op: B) -> NodeRef<T> {
    NodeRef(Some(Arc::new(Node { id: next_id(), shape: data.raw_dim(), marker: std::marker::PhantomData, op })))
}

// ---------------------------------------------------------------------------------------------- references to nodes

/// A tensor's reference to its node; empty if no gradient flows.
///
/// Dropping the last reference to a node drops the references that it holds, and so on: a chain of 100,000 operations
/// would overflow the stack. So the last reference hands its node to the list of the outermost drop.
pub struct NodeRef<T: Element>(pub(crate) Option<Arc<Node<T>>>);

impl<T: Element> NodeRef<T> {
    /// Calls `f` on the node, if there is one.
    fn show(&self, f: &mut dyn FnMut(AnyNode)) {
        if let Some(node) = &self.0 {
            f(erase_node(node.clone()));
        }
    }
}

impl<T: Element> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        if !T::REAL {
            return NodeRef(None);
        }
        if self.0.is_some() {
            profile::atomic();
        }
        NodeRef(self.0.clone())
    }
}

impl<T: Element> Drop for NodeRef<T> {
    fn drop(&mut self) {
        if T::REAL
            && let Some(node) = self.0.take()
        {
            release(node);
        }
    }
}

/// A call, since almost every function drops some.
#[inline(never)]
fn release<T: Element>(node: Arc<Node<T>>) {
    profile::atomic();
    if Arc::strong_count(&node) == 1 {
        drop_last(erase_node(node));
    }
}

thread_local! {
    /// The nodes that wait for the running drop on this thread.
    static WAITING: Scoped<Vec<AnyNode>> = const { Scoped::new() };
    /// The memory of that list, kept for the next drop.
    static SPARE: Cell<Vec<AnyNode>> = const { Cell::new(Vec::new()) };
}

/// Drops a node and then, one after another, all nodes that nothing else refers to.
fn drop_last(node: AnyNode) {
    let ours = WAITING.with(|waiting| {
        waiting.with(|list| match list {
            Some(list) => {
                list.push(node);
                None
            }
            None => Some(node),
        })
    });
    let Some(node) = ours else { return };
    let mut panicked = None;
    // The spare memory may be gone while the thread ends; the list itself is not.
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    let ((), list) = during(&WAITING, spare, || {
        let mut next = Some(node);
        while let Some(node) = next {
            // A value that a closure captured may panic when it is dropped: the rest of the graph is freed
            // nevertheless.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(node)))
                && let Some(further) = panicked.replace(payload)
            {
                // Only one panic can be passed on, and dropping the payload of another one might panic again.
                std::mem::forget(further);
            }
            next = WAITING.with(|waiting| waiting.with(|list| list.as_mut().and_then(Vec::pop)));
        }
    });
    if list.capacity() <= SPARE_NODES {
        let _ = SPARE.try_with(|spare| spare.set(list));
    }
    if let Some(payload) = panicked {
        resume_unwind(payload);
    }
}

/// The length of the longest list whose memory is kept.
const SPARE_NODES: usize = 1024;

// ---------------------------------------------------------------------------------------------------- kinds of nodes

impl<T: Element> Backward<T> for Leaf<T> {
    fn name(&self) -> &'static str {
        "leaf"
    }
    fn inputs(&self, _: &mut dyn FnMut(AnyNode)) -> bool {
        true
    }
    fn run(&self, _: &Arc<Node<T>>, _: &Tensor<T>, _: bool, _: &mut Sink<'_>) -> Result<()> {
        Ok(())
    }
    fn leaf(&self) -> Option<&Leaf<T>> {
        Some(self)
    }
}

/// A new leaf, in which a gradient accumulates.
pub(crate) fn leaf<T: Real>(data: &Held<T>) -> NodeRef<T> {
    new_node(data, Leaf::new())
}

/// What a node needs for its backward pass, until the graph is freed.
///
/// It is lent out, so that nothing is locked while a closure runs: a closure may differentiate through its own node,
/// and threads may share a graph that is retained.
struct Kept<S>(Mutex<Option<Lent<S>>>);

/// Shared from the first pass that retains the graph; most graphs are freed by their first pass.
enum Lent<S> {
    Own(S),
    Shared(Arc<S>),
}

impl<S> Deref for Lent<S> {
    type Target = S;
    fn deref(&self) -> &S {
        match self {
            Lent::Own(state) => state,
            Lent::Shared(state) => state,
        }
    }
}

impl<S> Kept<S> {
    fn new(state: S) -> Self {
        Kept(Mutex::new(Some(Lent::Own(state))))
    }

    /// Runs `f` on the state; returns `false` if it was freed.
    fn peek(&self, f: impl FnOnce(&S)) -> bool {
        lock(&self.0).as_deref().map(f).is_some()
    }

    /// The state; `free` removes it from the node.
    fn take(&self, name: &str, free: bool) -> Result<Lent<S>> {
        profile::atomic();
        let mut kept = lock(&self.0);
        let lent = kept.take().ok_or_else(|| freed(name))?;
        if free {
            return Ok(lent);
        }
        let shared = match lent {
            Lent::Own(state) => Arc::new(state),
            Lent::Shared(state) => state,
        };
        *kept = Some(Lent::Shared(shared.clone()));
        Ok(Lent::Shared(shared))
    }
}

/// An operation; its state is dropped when the graph is freed. Only the closure is compiled for each operation; the
/// rest is the same for all.
struct Op<T: Element> {
    name: &'static str,
    state: Kept<OpState<T>>,
}

struct OpState<T: Element> {
    inputs: Inputs<T>,
    output: Option<Held<T>>,
    backward: Closure<T>,
}

/// The references to an operation's inputs; a few of them need no allocation.
enum Inputs<T: Element> {
    Few([NodeRef<T>; 3], usize),
    Many(Vec<NodeRef<T>>),
}

impl<T: Element> Inputs<T> {
    fn of(inputs: &[&Tensor<T>]) -> Self {
        if inputs.len() > 3 {
            let mut nodes = Vec::with_capacity(inputs.len());
            for input in inputs {
                nodes.push(input.node.clone());
            }
            return Inputs::Many(nodes);
        }
        let at = |i: usize| if i < inputs.len() { inputs[i].node.clone() } else { NodeRef(None) };
        Inputs::Few([at(0), at(1), at(2)], inputs.len())
    }
}

impl<T: Element> Deref for Inputs<T> {
    type Target = [NodeRef<T>];
    fn deref(&self) -> &[NodeRef<T>] {
        match self {
            Inputs::Few(nodes, n) => &nodes[..*n],
            Inputs::Many(nodes) => nodes,
        }
    }
}

fn freed(name: &str) -> Error {
    Error::new(
        ErrorKind::Graph,
        "backward",
        format!(
            "the graph was already freed by an earlier backward (at operation `{name}`); \
             use backward_retain() for every pass but the last"
        ),
    )
}

/// The error of a backward closure that returns a gradient whose shape is not the input's.
#[cold]
fn misshapen(name: &str, i: usize, gradient: &[usize], input: &[usize]) -> Error {
    Error::shape(
        name,
        format!(
            "backward gave a gradient of shape {gradient:?} for input {i}, which is {input:?}; undo a broadcast with \
             sum_to(), a change of shape with reshape()"
        ),
    )
}

/// The error of a backward closure that returns too few or too many gradients.
#[cold]
fn miscounted(name: &str, gradients: usize, inputs: usize) -> Error {
    Error::shape(name, format!("backward gave {gradients} gradients for {inputs} inputs; expected an Option per input"))
}

impl<T: Element> Backward<T> for Op<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool {
        self.state.peek(|s| {
            for input in &*s.inputs {
                input.show(f);
            }
        })
    }

    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        let state = self.state.take(self.name, free)?;
        let inputs = &*state.inputs;
        let (mut few, mut many) = ([false; 8], Vec::new());
        let needed = if inputs.len() <= few.len() {
            &mut few[..inputs.len()]
        } else {
            many.resize(inputs.len(), false);
            &mut many[..]
        };
        for (flag, input) in needed.iter_mut().zip(inputs) {
            *flag = input.0.is_some();
        }
        let output = match &state.output {
            Some(data) => Some(Tensor { data: data.clone(), node: NodeRef(Some(node.clone())) }),
            None => None,
        };
        let run = match state.backward.0.as_ref().expect("there until it drops") {
            Recorded::Closure(closure) => &**closure,
            Recorded::Row(row) => *row,
        };
        run.call(grad, needed, output.as_ref(), &mut |grads| {
            if grads.len() != inputs.len() {
                return Err(miscounted(self.name, grads.len(), inputs.len()));
            }
            for (i, (input, grad)) in inputs.iter().zip(grads).enumerate() {
                if let (Some(input), Some(grad)) = (&input.0, grad.take()) {
                    let expected = input.shape.slice();
                    if grad.shape() != expected {
                        return Err(misshapen(self.name, i, grad.shape(), expected));
                    }
                    sink(erase_node(input.clone()), erase(grad));
                }
            }
            Ok(())
        })
    }

    fn leaf(&self) -> Option<&Leaf<T>> {
        None
    }
}

/// A conversion between element types: the one operation whose input and output differ in type.
struct Cast<T: Element> {
    input: Kept<NodeRef<T>>,
}

impl<T: Real, U: Real> Backward<U> for Cast<T> {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool {
        self.input.peek(|input| input.show(f))
    }

    fn run(&self, _: &Arc<Node<U>>, grad: &Tensor<U>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        let input = self.input.take("cast", free)?;
        if let Some(node) = &input.0 {
            sink(erase_node(node.clone()), erase(grad.cast::<T>()));
        }
        Ok(())
    }

    fn leaf(&self) -> Option<&Leaf<U>> {
        None
    }
}

/// The result of converting `input`.
pub(crate) fn cast<T: Real, U: Real>(input: &Tensor<T>, data: Held<U>) -> Tensor<U> {
    if input.node.0.is_none() || !grad_enabled() {
        return Tensor { data, node: NodeRef(None) };
    }
    let node = new_node(&data, Cast { input: Kept::new(input.node.clone()) });
    Tensor { data, node }
}

// ------------------------------------------------------------------------------------------------- the one constructor

impl<T: Element> Tensor<T> {
    /// Creates the result of an operation together with its backward function: the only way to create a tensor that is
    /// not a leaf.
    ///
    /// `backward(g, needed)` receives the gradient of the result and which inputs need one; it returns one
    /// `Option<Tensor>` per input, of the input's shape, or `None` if no gradient flows. A gradient of another shape is
    /// an error of the backward pass. It must be written with tensor operations, so that it can itself be
    /// differentiated. It runs without recording, unless the caller wants to differentiate again, so a faster
    /// first-order path may be used if `!grad_enabled()`. (A thread that it starts records, and takes the slower path.)
    ///
    /// `out` is an array or a tensor, whose own graph is not used.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// fn cube(x: &Tensor) -> Tensor {
    ///     let saved = x.clone();
    ///     Tensor::op("cube", x.view().mapv(|v| v * v * v), [x], move |g, _| Ok([Some(g * saved.square() * 3.0)]))
    /// }
    /// let x = tensor![2.0].set_requires_grad(true);
    /// cube(&x).sum().backward()?;
    /// assert_eq!(x.grad().unwrap().item()?, 12.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    #[inline]
    pub fn op<const N: usize, F>(
        name: &'static str,
        out: impl Into<Tensor<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N]) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        let Tensor { data, .. } = out.into();
        let node = match T::REAL && is_recorded(&inputs) {
            true => recorded(name, &data, &inputs, false, Recorded::Closure(Box::new(OfGradient::<F, N>(backward)))),
            false => NodeRef(None),
        };
        Tensor { data, node }
    }

    /// As [`Tensor::op`], for a derivative that reads the operation's own output: `backward(g, needed, output)`.
    ///
    /// A closure that captured its own output as a tensor would keep itself alive; this passes the output to it
    /// instead.
    #[inline]
    pub fn op_with_output<const N: usize, F>(
        name: &'static str,
        out: impl Into<Tensor<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N], &Tensor<T>) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        let Tensor { data, .. } = out.into();
        let node = match T::REAL && is_recorded(&inputs) {
            true => recorded(name, &data, &inputs, true, Recorded::Closure(Box::new(OfOutput::<F, N>(backward)))),
            false => NodeRef(None),
        };
        Tensor { data, node }
    }

    /// The result of an operation that is recorded.
    pub(crate) fn recorded(
        name: &'static str,
        out: Array<T>,
        inputs: &[&Tensor<T>],
        keep_output: bool,
        backward: Recorded<T>,
    ) -> Tensor<T> {
        let data = Held::from(out);
        let node = recorded(name, &data, inputs, keep_output, backward);
        Tensor { data, node }
    }

    /// As [`Tensor::op`], for any number of inputs.
    #[inline]
    pub fn op_many<F>(name: &'static str, out: impl Into<Tensor<T>>, inputs: &[&Tensor<T>], backward: F) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, &[bool]) -> Result<Vec<Option<Tensor<T>>>> + Send + Sync + 'static,
    {
        let Tensor { data, .. } = out.into();
        let node = match T::REAL && is_recorded(inputs) {
            true => recorded(name, &data, inputs, false, Recorded::Closure(Box::new(OfMany(backward)))),
            false => NodeRef(None),
        };
        Tensor { data, node }
    }
}

/// Whether an operation on these inputs is recorded. The callers ask for [`Element::REAL`] too: so an operation on integers does
/// not contain its derivative.
#[inline(never)]
fn is_recorded<T: Element>(inputs: &[&Tensor<T>]) -> bool {
    if grad_enabled() {
        for input in inputs {
            if input.node.0.is_some() {
                return true;
            }
        }
    }
    false
}

/// The node of an operation that is recorded. It is returned, and not written into the result: a tensor that is read again a moment
/// after a part of it was written is slow to move.
#[inline(never)]
fn recorded<T: Element>(
    name: &'static str,
    data: &Held<T>,
    inputs: &[&Tensor<T>],
    keep_output: bool,
    backward: Recorded<T>,
) -> NodeRef<T> {
    let state = OpState {
        inputs: Inputs::of(inputs),
        output: keep_output.then(|| data.clone()),
        backward: Closure(Some(backward)),
    };
    new_node(data, Op { name, state: Kept::new(state) })
}

// ------------------------------------------------------------------------------------------------------------- no_grad

thread_local! {
    static GRAD_ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Whether operations on this thread are recorded.
pub fn grad_enabled() -> bool {
    GRAD_ENABLED.get()
}

/// Runs `f` with recording switched on or off; a panic inside restores the previous state.
pub(crate) fn with_grad<R>(enabled: bool, f: impl FnOnce() -> R) -> R {
    let _restored = Restore::set(&GRAD_ENABLED, enabled);
    f()
}

/// Runs `f` without recording on this thread, which is faster and keeps nothing for a backward pass.
///
/// This applies only to the thread that calls it: a thread that `f` starts records, as every thread does initially,
/// until it calls `no_grad` itself.
///
/// ```
/// use ndnn::prelude::*;
/// let x = tensor![1.0, 2.0].set_requires_grad(true);
/// assert!((&x * 2.0).requires_grad());
/// assert!(!no_grad(|| &x * 2.0).requires_grad());
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_grad(false, f)
}
