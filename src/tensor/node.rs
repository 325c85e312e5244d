//! The memory of how a tensor was made: [`Node`], and the one way to make one, [`Tensor::op`].

use std::{
    cell::Cell,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use ndarray::{Dimension, IxDyn};

use super::{
    AnyTensor, Array, Element, Held, Real, Tensor,
    erase::{erase, erase_node},
};
use crate::{
    Error, Result,
    error::ErrorKind,
    kernels::profile,
    sync::{Scoped, during, lock},
};

/// One step of a computation: knows its inputs' nodes and how a gradient flows back to them.
///
/// Ids grow with creation, so an input's id is smaller than its output's: walking by falling ids is reverse
/// topological order.
pub struct Node<T: Element, B: ?Sized = dyn Backward<T>> {
    pub(crate) id: u64,
    pub(crate) shape: IxDyn,
    marker: std::marker::PhantomData<fn() -> T>,
    pub(crate) op: B,
}

/// A node of either element type that has gradients.
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

    /// Calls `f` on the node of each input that has one; `false` if they are not known any more, since the graph was freed.
    pub(crate) fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool {
        match self {
            AnyNode::F32(n) => n.op.inputs(f),
            AnyNode::F64(n) => n.op.inputs(f),
        }
    }
}

/// What receives an input's gradient: its node, and the gradient.
pub(crate) type Sink<'a> = dyn FnMut(AnyNode, AnyTensor) + 'a;

/// How a gradient flows through a node.
pub trait Backward<T: Element>: Send + Sync {
    fn name(&self) -> &'static str;
    /// See [`AnyNode::inputs`].
    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool;
    /// Hands the inputs' gradients to `sink`. `free` drops what the node holds, before it runs.
    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()>;
    /// Where a leaf's gradient gathers; `None` for a result.
    fn leaf(&self) -> Option<&Mutex<Option<Tensor<T>>>>;
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    profile::atomic();
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn new_node<T: Element, B: Backward<T> + 'static>(shape: &[usize], op: B) -> NodeRef<T> {
    NodeRef(Some(Arc::new(Node { id: next_id(), shape: IxDyn(shape), marker: std::marker::PhantomData, op })))
}

// ---------------------------------------------------------------------------------------------- references to nodes

/// A tensor's link to its node, empty where no gradient flows.
///
/// Dropping the last link to a node drops the links that it holds, and so on: a chain of 100,000 steps would overflow
/// the stack. So the last link hands its node to the list of the outermost drop.
pub struct NodeRef<T: Element>(pub(crate) Option<Arc<Node<T>>>);

impl<T: Element> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        if self.0.is_some() {
            profile::atomic();
        }
        NodeRef(self.0.clone())
    }
}

impl<T: Element> Drop for NodeRef<T> {
    fn drop(&mut self) {
        let Some(node) = self.0.take() else { return };
        profile::atomic();
        if Arc::strong_count(&node) == 1 {
            drop_last(erase_node(node));
        }
    }
}

thread_local! {
    /// The nodes that wait for the drop that is under way on this thread.
    static WAITING: Scoped<Vec<AnyNode>> = const { Scoped::new() };
    /// The memory of that list, kept for the next drop.
    static SPARE: Cell<Vec<AnyNode>> = const { Cell::new(Vec::new()) };
}

/// Drops a node and, one after the other, all that nothing else holds then.
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
    // The spare memory is gone while a thread ends; the list itself is not.
    let spare = SPARE.try_with(Cell::take).unwrap_or_default();
    let ((), list) = during(&WAITING, spare, || {
        let mut next = Some(node);
        while let Some(node) = next {
            // What a closure captured may panic when it drops: the rest of the graph is freed all the same.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(node)))
                && let Some(further) = panicked.replace(payload)
            {
                // One panic can be passed on. The drop of another one's payload might panic in turn.
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

/// The longest list whose memory is kept.
const SPARE_NODES: usize = 1024;

// ---------------------------------------------------------------------------------------------------- kinds of nodes

struct Leaf<T: Element> {
    grad: Mutex<Option<Tensor<T>>>,
}

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
    fn leaf(&self) -> Option<&Mutex<Option<Tensor<T>>>> {
        Some(&self.grad)
    }
}

/// A new leaf: where a gradient gathers.
pub(crate) fn leaf<T: Real>(shape: &[usize]) -> NodeRef<T> {
    new_node(shape, Leaf { grad: Mutex::new(None) })
}

/// What a node needs for its backward pass, until the graph is freed.
///
/// It is handed out, so that nothing is locked while a closure runs: one may differentiate through its own node, and threads
/// may share a graph that is kept.
struct Kept<S>(Mutex<Option<Lent<S>>>);

/// Shared from the first pass on that keeps the graph; most graphs are freed by their first.
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

    /// Runs `f` on what is kept; `false` if it was freed.
    fn peek(&self, f: impl FnOnce(&S)) -> bool {
        lock(&self.0).as_deref().map(f).is_some()
    }

    /// What is kept; `free` leaves nothing behind.
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

/// An operation; its state is dropped when the graph is freed. Only its closure is compiled for each operation: the rest is
/// the same for all.
struct Op<T: Element> {
    name: &'static str,
    state: Kept<OpState<T>>,
}

struct OpState<T: Element> {
    inputs: Inputs<T>,
    output: Option<Held<T>>,
    backward: Closure<T>,
}

/// The links to an operation's inputs: few of them without memory of their own.
enum Inputs<T: Element> {
    Few([NodeRef<T>; 3], usize),
    Many(Box<[NodeRef<T>]>),
}

impl<T: Element> Inputs<T> {
    fn of(inputs: &[&Tensor<T>]) -> Self {
        if inputs.len() > 3 {
            return Inputs::Many(inputs.iter().map(|i| i.node.clone()).collect());
        }
        Inputs::Few(std::array::from_fn(|i| inputs.get(i).map_or(NodeRef(None), |i| i.node.clone())), inputs.len())
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

/// A backward function, whatever it was written for: it is handed the gradient, which inputs need one and the output, where it
/// is kept, and hands the inputs' gradients on.
type Run<T> = dyn Fn(&Tensor<T>, &[bool], Option<&Tensor<T>>, &mut Grads<'_, T>) -> Result<()> + Send + Sync;

/// What takes the gradients of an operation's inputs.
type Grads<'a, T> = dyn FnMut(&mut [Option<Tensor<T>>]) -> Result<()> + 'a;

/// A backward closure: what it captured may panic when it drops.
struct Closure<T: Element>(Option<Box<Run<T>>>);

impl<T: Element> Drop for Closure<T> {
    fn drop(&mut self) {
        contained(&mut || drop(self.0.take()));
    }
}

/// Runs what drops a user's values. A panic is passed on, unless another one unwinds already: to leave a drop then would end the
/// process.
fn contained(drops: &mut dyn FnMut()) {
    match catch_unwind(AssertUnwindSafe(drops)) {
        Err(payload) if thread::panicking() => std::mem::forget(payload),
        Err(payload) => resume_unwind(payload),
        Ok(()) => {}
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

/// The mistake of a backward closure that gives a gradient of another shape than the input's.
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

/// The mistake of a backward closure that gives too few or too many gradients.
#[cold]
fn miscounted(name: &str, gradients: usize, inputs: usize) -> Error {
    Error::shape(name, format!("backward gave {gradients} gradients for {inputs} inputs; expected an Option per input"))
}

impl<T: Element> Backward<T> for Op<T> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) -> bool {
        self.state.peek(|s| s.inputs.iter().filter_map(|i| i.0.clone()).for_each(|n| f(erase_node(n))))
    }

    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        let state = self.state.take(self.name, free)?;
        let inputs = &*state.inputs;
        let (mut few, many): ([bool; 8], Vec<bool>);
        let needed = match inputs.len() {
            n @ ..=8 => {
                few = [false; 8];
                few.iter_mut().zip(inputs).for_each(|(flag, i)| *flag = i.0.is_some());
                &few[..n]
            }
            _ => {
                many = inputs.iter().map(|i| i.0.is_some()).collect();
                &many[..]
            }
        };
        let output = state.output.clone().map(|data| Tensor { data, node: NodeRef(Some(node.clone())) });
        let run = state.backward.0.as_ref().expect("there until it drops");
        run(grad, needed, output.as_ref(), &mut |grads| {
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

    fn leaf(&self) -> Option<&Mutex<Option<Tensor<T>>>> {
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
        self.input.peek(|input| input.0.clone().into_iter().for_each(|n| f(erase_node(n))))
    }

    fn run(&self, _: &Arc<Node<U>>, grad: &Tensor<U>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        let input = self.input.take("cast", free)?;
        if let Some(node) = &input.0 {
            sink(erase_node(node.clone()), erase(grad.cast::<T>()));
        }
        Ok(())
    }

    fn leaf(&self) -> Option<&Mutex<Option<Tensor<U>>>> {
        None
    }
}

/// The result of a conversion of `input`.
pub(crate) fn cast<T: Real, U: Real>(input: &Tensor<T>, data: Held<U>) -> Tensor<U> {
    if input.node.0.is_none() || !grad_enabled() {
        return Tensor { data, node: NodeRef(None) };
    }
    let node = new_node(data.shape(), Cast { input: Kept::new(input.node.clone()) });
    Tensor { data, node }
}

// ------------------------------------------------------------------------------------------------- the one constructor

impl<T: Element> Tensor<T> {
    /// Makes the result of an operation together with how its gradient flows back: the only way to make a tensor
    /// that is not a leaf.
    ///
    /// `backward(g, needed)` gets the gradient of the result and which inputs need one; it returns one `Option<Tensor>` per
    /// input, of the input's shape: `None` where no gradient flows. A gradient of another shape is an error of the backward
    /// pass. It must be written with tensor operations, so that it can be differentiated in turn. It runs with gradients off,
    /// unless the caller wants to differentiate again: a faster first-order path may stand behind `if !grad_enabled()`. (A
    /// thread that it starts has gradients on, and takes the slower path there.)
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
    pub fn op<const N: usize, F>(
        name: &'static str,
        out: impl Into<Array<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N]) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        if !tracked(&inputs) {
            return Tensor::from(out.into());
        }
        let run = move |g: &Tensor<T>, needed: &[bool], _: Option<&Tensor<T>>, grads: &mut Grads<'_, T>| {
            grads(&mut backward(g, flags(needed))?)
        };
        Self::record(name, out.into(), &inputs, false, Box::new(run))
    }

    /// As [`Tensor::op`], for a derivative that reads the operation's own output: `backward(g, needed, output)`.
    ///
    /// A closure that captured its own output as a tensor would keep itself alive; this hands it back.
    pub fn op_with_output<const N: usize, F>(
        name: &'static str,
        out: impl Into<Array<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N], &Tensor<T>) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        if !tracked(&inputs) {
            return Tensor::from(out.into());
        }
        let run = move |g: &Tensor<T>, needed: &[bool], output: Option<&Tensor<T>>, grads: &mut Grads<'_, T>| {
            grads(&mut backward(g, flags(needed), output.expect("kept"))?)
        };
        Self::record(name, out.into(), &inputs, true, Box::new(run))
    }

    /// As [`Tensor::op`], for any number of inputs.
    pub fn op_many<F>(name: &'static str, out: impl Into<Array<T>>, inputs: &[&Tensor<T>], backward: F) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, &[bool]) -> Result<Vec<Option<Tensor<T>>>> + Send + Sync + 'static,
    {
        if !tracked(inputs) {
            return Tensor::from(out.into());
        }
        let run = move |g: &Tensor<T>, needed: &[bool], _: Option<&Tensor<T>>, grads: &mut Grads<'_, T>| {
            grads(&mut backward(g, needed)?)
        };
        Self::record(name, out.into(), inputs, false, Box::new(run))
    }

    /// The result of an operation that is tracked.
    fn record(
        name: &'static str,
        data: Array<T>,
        inputs: &[&Tensor<T>],
        keep_output: bool,
        backward: Box<Run<T>>,
    ) -> Tensor<T> {
        let data = Held::from(data);
        let state = OpState {
            inputs: Inputs::of(inputs),
            output: keep_output.then(|| data.clone()),
            backward: Closure(Some(backward)),
        };
        let node = new_node(data.shape(), Op { name, state: Kept::new(state) });
        Tensor { data, node }
    }
}

/// Whether an operation on these inputs is recorded.
fn tracked<T: Element>(inputs: &[&Tensor<T>]) -> bool {
    grad_enabled() && inputs.iter().any(|i| i.node.0.is_some())
}

fn flags<const N: usize>(needed: &[bool]) -> [bool; N] {
    needed.try_into().expect("a flag per input")
}

// ------------------------------------------------------------------------------------------------------------- no_grad

thread_local! {
    static GRAD_ENABLED: Cell<bool> = const { Cell::new(true) };
}

/// Whether operations on this thread record how they were made.
pub fn grad_enabled() -> bool {
    GRAD_ENABLED.get()
}

/// Runs `f` with recording switched on or off; a panic inside restores what was.
pub(crate) fn with_grad<R>(enabled: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(bool);
    impl Drop for Restore {
        fn drop(&mut self) {
            GRAD_ENABLED.set(self.0);
        }
    }
    let _restore = Restore(GRAD_ENABLED.replace(enabled));
    f()
}

/// Runs `f` without recording gradients on this thread: faster, and nothing is kept for a backward pass.
///
/// It holds for the thread that calls it: a thread that `f` starts records, as every thread does at its start, until it calls
/// `no_grad` itself.
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
