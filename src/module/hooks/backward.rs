//! Backward hooks: what is recorded around a call, so that they run once its gradients are known.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, Ordering},
};

use super::{
    calls::{Event, Hook, Key, find},
    table::HookKind,
};
use crate::{
    Error, Result,
    sync::lock,
    tensor::{AnyTensor, DType, Real, Tensor, Tensors},
};

/// The backward hooks of one call; it keeps the gradient of the output until that of the input is known.
#[derive(Clone)]
pub(in crate::module) struct Gradients(Arc<Recorded>);

struct Recorded {
    /// Looked up again when they run: a removed hook must not run, and the graph that keeps this may run on any thread.
    hooks: Vec<(HookKind, Key)>,
    /// Whether a gradient flows to the input.
    to_input: AtomicBool,
    output: Mutex<Vec<AnyTensor>>,
}

impl Gradients {
    /// Returns `None` if no hook waits for a gradient.
    #[inline]
    pub fn of(hooks: &[Hook]) -> Option<Self> {
        let waiting = hooks.iter().filter(|h| matches!(h.kind, HookKind::BackwardPre | HookKind::Backward));
        let hooks: Vec<_> = waiting.map(|h| (h.kind, h.key())).collect();
        if hooks.is_empty() {
            return None;
        }
        let (to_input, output) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        Some(Gradients(Arc::new(Recorded { hooks, to_input, output })))
    }

    /// Replaces the input by tensors that pass their gradient to the hooks; returns whether there is such a gradient.
    #[inline]
    pub fn watch_input(&self, input: &mut [AnyTensor]) -> Result<bool> {
        let this = self.clone();
        let watched = watch(
            input,
            Arc::new(move |gradients| {
                let output = lock(&this.0.output).clone();
                this.run(HookKind::Backward, gradients, output).map(|e| e.input)
            }),
        )?;
        self.0.to_input.store(watched, Ordering::Relaxed);
        Ok(watched)
    }

    /// The same for the output.
    #[inline]
    pub fn watch_output(&self, output: &mut [AnyTensor]) -> Result<bool> {
        let this = self.clone();
        watch(
            output,
            Arc::new(move |gradients| {
                let gradients = this.run(HookKind::BackwardPre, Vec::new(), gradients)?.output;
                if this.0.to_input.load(Ordering::Relaxed) {
                    *lock(&this.0.output) = gradients.clone();
                } else {
                    this.run(HookKind::Backward, Vec::new(), gradients.clone())?;
                }
                Ok(gradients)
            }),
        )
    }

    #[inline]
    fn run(&self, kind: HookKind, input: Vec<AnyTensor>, output: Vec<AnyTensor>) -> Result<Event> {
        let mut event = Event::new(input, output);
        for (_, key) in self.0.hooks.iter().filter(|(k, _)| *k == kind) {
            if let Some(hook) = find(key) {
                event.run(&hook)?;
            }
        }
        Ok(event)
    }
}

type OfGradients = dyn Fn(Vec<AnyTensor>) -> Result<Vec<AnyTensor>> + Send + Sync;

/// Replaces the tensors that carry gradients by equal ones, the results of an operation that passes all their gradients
/// together to `f` and continues with what it returns. Returns whether there are any.
#[inline]
fn watch(tensors: &mut [AnyTensor], f: Arc<OfGradients>) -> Result<bool> {
    let mut tracked: Vec<&mut AnyTensor> = tensors.iter_mut().filter(|t| t.requires_grad()).collect();
    match &mut tracked[..] {
        [] => return Ok(false),
        [AnyTensor::F32(t)] => *t = watched(t, None, f),
        [AnyTensor::F64(t)] => *t = watched(t, None, f),
        several if several.iter().all(|t| t.dtype() == DType::F32) => watch_several::<f32>(several, f)?,
        several => watch_several::<f64>(several, f)?,
    }
    Ok(true)
}

/// The shapes and the types of the tensors that are joined in one.
type Kinds = Arc<[(Vec<usize>, DType)]>;

/// `x`, whose gradient, taken apart if there are `kinds`, passes through `f`.
fn watched<T: Real>(x: &Tensor<T>, kinds: Option<Kinds>, f: Arc<OfGradients>) -> Tensor<T> {
    Tensor::op("hook", x.data().clone(), [x], move |g, _| {
        let Some(kinds) = &kinds else { return Ok([Some(one(f(vec![g.clone().into()])?)?)]) };
        let gradients = f(apart(g, kinds)?)?;
        for (g, (shape, _)) in gradients.iter().zip(kinds.iter()) {
            if g.shape() != shape {
                return Err(Error::shape("hook", "a gradient was replaced by one of another shape"));
            }
        }
        Ok([Some(join(&gradients)?)])
    })
}

/// The only gradient.
fn one<T: Real>(mut gradients: Vec<AnyTensor>) -> Result<Tensor<T>> {
    let mut next = |_| Ok(gradients.remove(0));
    Tensor::zeros([0]).map(&mut next)
}

/// A node has one gradient, so the tensors pass through one node as a single tensor: it runs once, when all their
/// gradients are complete.
fn watch_several<T: Real>(tensors: &mut [&mut AnyTensor], f: Arc<OfGradients>) -> Result<()> {
    let kinds: Kinds = tensors.iter().map(|t| (t.shape().to_vec(), t.dtype())).collect();
    let flat = join::<T>(&tensors.iter().map(|t| (**t).clone()).collect::<Vec<_>>())?;
    let flat = watched(&flat, Some(kinds.clone()), f);
    for (tensor, piece) in tensors.iter_mut().zip(apart(&flat, &kinds)?) {
        **tensor = piece;
    }
    Ok(())
}

/// All elements in one vector.
fn join<T: Real>(tensors: &[AnyTensor]) -> Result<Tensor<T>> {
    let mut rows = Vec::with_capacity(tensors.len());
    for t in tensors {
        let t: Tensor<T> = match t {
            AnyTensor::F32(t) => t.cast(),
            AnyTensor::F64(t) => t.cast(),
            other => return Err(Error::value("hook", format!("a gradient cannot be of {}", other.dtype()))),
        };
        rows.push(t.reshape([-1])?);
    }
    Tensor::cat(&rows, 0)
}

fn apart<T: Real>(flat: &Tensor<T>, kinds: &[(Vec<usize>, DType)]) -> Result<Vec<AnyTensor>> {
    let (mut at, mut pieces) = (0, Vec::with_capacity(kinds.len()));
    for (shape, dtype) in kinds {
        let len = shape.iter().product();
        let piece = flat.narrow(0, at as isize, len)?.reshape(shape)?;
        at += len;
        pieces.push(match dtype {
            DType::F32 => piece.cast::<f32>().into(),
            _ => piece.cast::<f64>().into(),
        });
    }
    Ok(pieces)
}
