//! The memory of how a tensor was made: [`Node`], and the one way to make one, [`Tensor::op`].

use std::{
    cell::{Cell, RefCell},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use ndarray::IxDyn;

use super::{AnyTensor, Data, Element, Held, Real, Tensor};
use crate::{Error, Result, error::ErrorKind, kernels::count};

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

    /// Calls `f` on the node of each input that has one.
    pub(crate) fn inputs(&self, f: &mut dyn FnMut(AnyNode)) {
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
    fn inputs(&self, f: &mut dyn FnMut(AnyNode));
    /// Hands the inputs' gradients to `sink`. `free` drops what the node holds, before it runs.
    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()>;
    /// Where a leaf's gradient gathers; `None` for a result.
    fn leaf(&self) -> Option<&Mutex<Option<Tensor<T>>>>;
}

fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    count::atomic();
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn new_node<T: Element, B: Backward<T> + 'static>(shape: &[usize], op: B) -> NodeRef<T> {
    NodeRef(Some(Arc::new(Node { id: next_id(), shape: IxDyn(shape), marker: std::marker::PhantomData, op })))
}

// ---------------------------------------------------------------------------------------------- references to nodes

/// A tensor's link to its node, empty where no gradient flows.
///
/// Dropping the last link to a node drops the links that it holds, and so on: a chain of 100,000 steps would overflow
/// the stack. So the last link hands its node to a queue that is emptied by the outermost drop.
pub struct NodeRef<T: Element>(pub(crate) Option<Arc<Node<T>>>);

impl<T: Element> Clone for NodeRef<T> {
    fn clone(&self) -> Self {
        if self.0.is_some() {
            count::atomic();
        }
        NodeRef(self.0.clone())
    }
}

thread_local! {
    static DROPPING: Cell<bool> = const { Cell::new(false) };
    static DROP_QUEUE: RefCell<Vec<AnyNode>> = const { RefCell::new(Vec::new()) };
}

impl<T: Element> Drop for NodeRef<T> {
    fn drop(&mut self) {
        let Some(node) = self.0.take() else { return };
        count::atomic();
        if Arc::strong_count(&node) > 1 {
            return;
        }
        // While a thread ends its thread-locals may be gone; then the node drops in place.
        let _ = DROPPING.try_with(|dropping| {
            if dropping.replace(true) {
                let _ = DROP_QUEUE.try_with(|queue| queue.borrow_mut().push(T::erase_node(node)));
                return;
            }
            drop(node);
            while let Ok(Some(next)) = DROP_QUEUE.try_with(|queue| queue.borrow_mut().pop()) {
                drop(next);
            }
            dropping.set(false);
        });
    }
}

// ---------------------------------------------------------------------------------------------------- kinds of nodes

struct Leaf<T: Element> {
    grad: Mutex<Option<Tensor<T>>>,
}

impl<T: Element> Backward<T> for Leaf<T> {
    fn name(&self) -> &'static str {
        "leaf"
    }
    fn inputs(&self, _: &mut dyn FnMut(AnyNode)) {}
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

/// An operation; its state is dropped when the graph is freed.
struct Op<T: Element, I, F> {
    name: &'static str,
    state: Mutex<Option<OpState<T, I, F>>>,
}

struct OpState<T: Element, I, F> {
    inputs: I,
    output: Option<Held<T>>,
    backward: F,
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

impl<T, I, F, G> Backward<T> for Op<T, I, F>
where
    T: Element,
    I: AsRef<[NodeRef<T>]> + Clone + Send + Sync,
    F: Fn(&Tensor<T>, &[bool], Option<Tensor<T>>) -> Result<G> + Send + Sync,
    G: IntoIterator<Item = Option<Tensor<T>>>,
{
    fn name(&self) -> &'static str {
        self.name
    }

    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) {
        if let Some(state) = &*self.state.lock().unwrap() {
            state.inputs.as_ref().iter().filter_map(|i| i.0.clone()).for_each(|n| f(T::erase_node(n)));
        }
    }

    fn run(&self, node: &Arc<Node<T>>, grad: &Tensor<T>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        count::atomic();
        let mut guard = self.state.lock().unwrap();
        let taken;
        let state = if free {
            taken = guard.take();
            drop(guard);
            taken.as_ref()
        } else {
            guard.as_mut().map(|s| &*s)
        };
        let state = state.ok_or_else(|| freed(self.name))?;
        let inputs = state.inputs.as_ref();
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
        let grads = (state.backward)(grad, needed, output)?;
        for (input, grad) in inputs.iter().zip(grads) {
            if let (Some(input), Some(grad)) = (&input.0, grad) {
                debug_assert_eq!(
                    grad.shape(),
                    ndarray::Dimension::slice(&input.shape),
                    "{}: a gradient has another shape than its input",
                    self.name
                );
                sink(T::erase_node(input.clone()), T::erase(grad));
            }
        }
        Ok(())
    }

    fn leaf(&self) -> Option<&Mutex<Option<Tensor<T>>>> {
        None
    }
}

/// A conversion between element types: the one operation whose input and output differ in type.
struct Cast<T: Element> {
    input: Mutex<Option<NodeRef<T>>>,
}

impl<T: Real, U: Real> Backward<U> for Cast<T> {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn inputs(&self, f: &mut dyn FnMut(AnyNode)) {
        if let Some(node) = self.input.lock().unwrap().as_ref().and_then(|i| i.0.clone()) {
            f(T::erase_node(node));
        }
    }

    fn run(&self, _: &Arc<Node<U>>, grad: &Tensor<U>, free: bool, sink: &mut Sink<'_>) -> Result<()> {
        let mut guard = self.input.lock().unwrap();
        let input = if free { guard.take() } else { guard.clone() };
        drop(guard);
        let input = input.ok_or_else(|| freed("cast"))?;
        if let Some(node) = &input.0 {
            sink(T::erase_node(node.clone()), T::erase(grad.cast::<T>()));
        }
        Ok(())
    }

    fn leaf(&self) -> Option<&Mutex<Option<Tensor<U>>>> {
        None
    }
}

/// The result of a conversion of `input`.
pub(crate) fn cast<T: Real, U: Real>(input: &Tensor<T>, out: Data<U>) -> Tensor<U> {
    if input.node.0.is_none() || !grad_enabled() {
        return Tensor::from(out);
    }
    let node = new_node(out.shape(), Cast { input: Mutex::new(Some(input.node.clone())) });
    Tensor { data: out.into(), node }
}

// ------------------------------------------------------------------------------------------------- the one constructor

impl<T: Element> Tensor<T> {
    /// Makes the result of an operation together with how its gradient flows back: the only way to make a tensor
    /// that is not a leaf.
    ///
    /// `backward(g, needed)` gets the gradient of the result and says which inputs need one; it answers with one
    /// `Option<Tensor>` an input, of the input's shape. It must be written with tensor operations, so that it can be
    /// differentiated in turn. It runs with gradients off, unless the caller wants to differentiate again: a faster
    /// first-order path may stand behind `if !grad_enabled()`.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// fn cube(x: &Tensor) -> Tensor {
    ///     let saved = x.clone();
    ///     Tensor::op("cube", x.view().mapv(|v| v * v * v), [x], move |g, _| Ok([Some(g * saved.square() * 3.0)]))
    /// }
    /// let x = tensor![2.0].requires_grad(true);
    /// cube(&x).sum().backward()?;
    /// assert_eq!(x.grad().unwrap().item()?, 12.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    pub fn op<const N: usize, F>(
        name: &'static str,
        out: impl Into<Data<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N]) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        let tracked = grad_enabled() && inputs.iter().any(|i| i.node.0.is_some());
        Self::build(
            name,
            out.into(),
            tracked,
            false,
            || inputs.map(|i| i.node.clone()),
            move |g, needed, _| backward(g, needed.try_into().expect("one flag an input")),
        )
    }

    /// As [`Tensor::op`], for a derivative that reads the operation's own output: `backward(g, needed, output)`.
    ///
    /// A closure that captured its own output as a tensor would keep itself alive; this hands it back.
    pub fn op_with_output<const N: usize, F>(
        name: &'static str,
        out: impl Into<Data<T>>,
        inputs: [&Tensor<T>; N],
        backward: F,
    ) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, [bool; N], &Tensor<T>) -> Result<[Option<Tensor<T>>; N]> + Send + Sync + 'static,
    {
        let tracked = grad_enabled() && inputs.iter().any(|i| i.node.0.is_some());
        Self::build(
            name,
            out.into(),
            tracked,
            true,
            || inputs.map(|i| i.node.clone()),
            move |g, needed, output| backward(g, needed.try_into().expect("one flag an input"), &output.expect("kept")),
        )
    }

    /// As [`Tensor::op`], for any number of inputs.
    pub fn op_many<F>(name: &'static str, out: impl Into<Data<T>>, inputs: &[&Tensor<T>], backward: F) -> Tensor<T>
    where
        F: Fn(&Tensor<T>, &[bool]) -> Result<Vec<Option<Tensor<T>>>> + Send + Sync + 'static,
    {
        let tracked = grad_enabled() && inputs.iter().any(|i| i.node.0.is_some());
        let nodes = || inputs.iter().map(|i| i.node.clone()).collect::<Arc<[_]>>();
        Self::build(name, out.into(), tracked, false, nodes, move |g, needed, _| backward(g, needed))
    }

    fn build<I, F, G>(
        name: &'static str,
        data: Data<T>,
        tracked: bool,
        keep_output: bool,
        inputs: impl FnOnce() -> I,
        backward: F,
    ) -> Tensor<T>
    where
        I: AsRef<[NodeRef<T>]> + Clone + Send + Sync + 'static,
        F: Fn(&Tensor<T>, &[bool], Option<Tensor<T>>) -> Result<G> + Send + Sync + 'static,
        G: IntoIterator<Item = Option<Tensor<T>>> + 'static,
    {
        let data = Held::from(data);
        if !tracked {
            return Tensor { data, node: NodeRef(None) };
        }
        let state = OpState { inputs: inputs(), output: keep_output.then(|| data.clone()), backward };
        let node = new_node(data.shape(), Op { name, state: Mutex::new(Some(state)) });
        Tensor { data, node }
    }
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
/// ```
/// use ndnn::prelude::*;
/// let x = tensor![1.0, 2.0].requires_grad(true);
/// assert!((&x * 2.0).is_tracked());
/// assert!(!no_grad(|| &x * 2.0).is_tracked());
/// ```
pub fn no_grad<R>(f: impl FnOnce() -> R) -> R {
    with_grad(false, f)
}
