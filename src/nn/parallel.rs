//! [`DataParallel`]: the parts of a batch run through one module on several threads.

use std::{any::Any, panic::resume_unwind};

use super::utils::snapshot::{Snapshot, buffers};
use crate::{
    AnyTensor, Error, Real, Result, Tensor,
    autograd::{apart, gradients},
    forward,
    kernels::{
        parts::{self, Failure, Phase, Plan},
        threads::num_threads,
    },
    module::{AnyBuffer, hooks, no_lazy, sharing},
    nn::{Forward, Module, ModuleExt},
    random::{self, Rng, RngState},
    tensor::{grad_enabled, with_grad},
};

/// Cuts a batch into parts, runs them through the module on several threads, and joins the outputs; the backward pass does
/// the same. The threads share the parameters.
///
/// The batch is cut along axis 0, by its size alone: into parts of at least 16 elements, at most 8 of them, or as many as
/// [`parts`](DataParallel::parts) says. Gradients are added in the order of the parts. So the results have the same bits on any number
/// of threads, though not those of the whole batch at once: sums are added in another order, dropout draws for each
/// part, and batch norms normalize each part, except [`SyncBatchNorm`](crate::nn::SyncBatchNorm), which normalizes the whole batch. As in
/// PyTorch, buffers such as running statistics are those of the first part. Inside another `DataParallel`, the whole of its part is
/// the batch.
///
/// Operations share threads one by one without it, so it pays only where most of them are too small for that and a part still
/// takes a fraction of a millisecond: each part costs what every operation costs besides its arithmetic. Whether the
/// parts run at the same time is measured as they run.
///
/// ```
/// use ndnn::{nn::parallel::DataParallel, prelude::*};
/// let model = DataParallel::new(sequential![Linear::new(8, 16), Tanh, Linear::new(16, 2)]);
/// let y = model.forward(&Tensor::randn([64, 8]))?;
/// y.square().mean().backward()?;
/// assert!(model.parameters().iter().all(|p| p.has_grad()));
/// assert_eq!(model.named_parameters()[0].0, "module.0.weight");
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// PyTorch's `torch.nn.DataParallel`, with threads in place of devices.
#[derive(Module)]
pub struct DataParallel<M: Module + Clone> {
    /// The module that all threads run.
    pub module: M,
    #[module(skip)]
    parts: Option<usize>,
}

impl<M: Module + Clone> DataParallel<M> {
    /// Runs `module` on the parts of a batch.
    pub fn new(module: M) -> Self {
        DataParallel { module, parts: None }
    }

    /// The number of parts, if the batch has as many elements.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn parts(mut self, parts: usize) -> Self {
        assert!(parts > 0, "DataParallel: the number of parts is at least 1, got 0");
        self.parts = Some(parts);
        self
    }

    /// The first element and the length of each part, as PyTorch's `chunk` cuts.
    fn cut(&self, batch: usize) -> Vec<(usize, usize)> {
        let parts = self.parts.unwrap_or((batch / 16).clamp(1, 8));
        let size = batch.div_ceil(parts).max(1);
        (0..batch).step_by(size).map(|start| (start, size.min(batch - start))).collect()
    }
}

#[forward]
impl<T: Real, M: Forward<T> + Clone + 'static> Forward<T> for DataParallel<M> {
    /// # Errors
    /// Those of the module, with the part in which they occurred; if the input has no axis, an output has not as many elements along
    /// axis 0 as its part of the input, a parameter or a buffer has no values yet, or a parameter is of another type than the input.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let Some(&batch) = x.shape().first() else {
            return Err(Error::shape(OP, "needs a batch along axis 0, got a tensor without axes"));
        };
        let parts = self.cut(batch);
        if parts.len() < 2 {
            return self.module.forward(x);
        }
        let snapshot = Snapshot::of(OP, &self.module, buffers(&self.module))?;
        // The parts would draw and count apart from each other.
        no_lazy(OP, self.module.named_buffers().iter().map(|(name, b)| (name.as_str(), b.is_lazy())))?;
        let again = || -> Box<Run<T>> {
            let copy = Box::new(sharing(|| self.module.clone()));
            let origins = hooks::origins(&*copy, &self.module);
            Box::new(move |x| hooks::with_origins(&origins, || copy.forward(x)))
        };
        divided(snapshot, x, parts, &|x| self.module.forward(x), &again)
    }
}

const OP: &str = "DataParallel";

/// Computes an output from an input.
type Run<T> = dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Send + Sync;

/// The output of all parts, as one operation on the input and the parameters. `again` makes a `run` that lives on.
fn divided<T: Real>(
    snapshot: Snapshot<T>,
    x: &Tensor<T>,
    parts: Vec<(usize, usize)>,
    run: &(dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Sync),
    again: &dyn Fn() -> Box<Run<T>>,
) -> Result<Tensor<T>> {
    let mut rng = random::draw();
    let pass = Pass {
        inputs: parts.iter().map(|&(start, len)| x.narrow(0, start, len)).collect::<Result<_>>()?,
        params: snapshot.params.iter().map(|(_, tensor)| apart(tensor)).collect(),
        draws: parts.iter().map(|_| RngState { seed: rng.next_u64(), draws: 0 }).collect(),
        parts,
        snapshot,
    };
    let (done, met) = pass.forward(Phase::Forward, run)?;
    let (outs, mut written): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    for (buffer, value) in written.swap_remove(0) {
        buffer.set(&value)?;
    }
    let whole = Tensor::cat(&outs.iter().map(Tensor::detach).collect::<Vec<_>>(), 0)?;
    let originals = pass.snapshot.params.iter().map(|(_, tensor)| tensor.clone());
    let originals: Vec<Tensor<T>> = [x.clone()].into_iter().chain(originals).collect();
    let again = (met && grad_enabled()).then(again);
    let backward = move |g: &Tensor<T>, needed: &[bool]| pass.backward(&outs, g, needed, again.as_deref());
    Ok(Tensor::op_many("data_parallel", whole, &originals.iter().collect::<Vec<_>>(), backward))
}

/// What the parts of a batch are computed from.
struct Pass<T: Real> {
    snapshot: Snapshot<T>,
    /// The first element and the length of each part.
    parts: Vec<(usize, usize)>,
    inputs: Vec<Tensor<T>>,
    params: Vec<Tensor<T>>,
    draws: Vec<RngState>,
}

/// What a part of the forward pass leaves.
type Done<T> = (Tensor<T>, Vec<(AnyBuffer, AnyTensor)>);

impl<T: Real> Pass<T> {
    /// What tells a model from others, roughly.
    fn work(&self) -> usize {
        self.params.iter().chain(&self.inputs).map(Tensor::numel).fold(0, usize::wrapping_add)
    }

    /// The output of each part, and whether the parts met.
    fn forward(
        &self,
        phase: Phase,
        run: &(dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Sync),
    ) -> Result<(Vec<Done<T>>, bool)> {
        let recorded = grad_enabled();
        each_part(&self.parts, phase, self.work(), &|i| {
            let forward = || random::from_state(self.draws[i], || with_grad(recorded, || run(&self.inputs[i])));
            let (out, written) = self.snapshot.scope(&self.params).run(forward);
            let (out, len) = (out?, self.parts[i].1);
            if out.shape().first() != Some(&len) {
                let why = format!("expected an output of {len} elements along axis 0, got shape {:?}", out.shape());
                return Err(Error::shape(OP, why));
            }
            Ok((out, written))
        })
    }

    /// The gradients of the input and the parameters; `again` computes the parts once more, if they met.
    fn backward(
        &self,
        outs: &[Tensor<T>],
        g: &Tensor<T>,
        needed: &[bool],
        again: Option<&Run<T>>,
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let pieces = self.parts.iter().map(|&(start, len)| g.narrow(0, start, len)).collect::<Result<Vec<_>>>()?;
        let differentiable = grad_enabled();
        if let (true, Some(again)) = (differentiable, again) {
            return self.backward_jointly(&pieces, needed, again);
        }
        let (found, _) = each_part(&self.parts, Phase::Backward, self.work(), &|i| {
            let targets: Vec<&Tensor<T>> = [&self.inputs[i]].into_iter().chain(&self.params).collect();
            with_grad(differentiable, || backward(&outs[i..=i], &pieces[i..=i], &targets, needed))
        })?;
        let input = self.joined(found.iter().map(|part| part[0].clone()).collect())?;
        let mut all = vec![input];
        for k in 1..needed.len() {
            let each = found.iter().filter_map(|part| part[k].clone());
            all.push(each.reduce(|sum, part| sum + part));
        }
        Ok(all)
    }

    /// As [`backward`](Pass::backward), differentiable where the gradient of one part depends on all: through one graph.
    fn backward_jointly(
        &self,
        pieces: &[Tensor<T>],
        needed: &[bool],
        again: &Run<T>,
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let (done, _) = self.forward(Phase::Joint, &|x| again(x))?;
        let outs: Vec<Tensor<T>> = done.into_iter().map(|(out, _)| out).collect();
        let targets: Vec<&Tensor<T>> = self.inputs.iter().chain(&self.params).collect();
        let each: Vec<bool> = self.inputs.iter().map(|_| needed[0]).chain(needed[1..].iter().copied()).collect();
        let mut found = parts::alone(|| backward(&outs, pieces, &targets, &each))?;
        let params = found.split_off(self.inputs.len());
        Ok([self.joined(found)?].into_iter().chain(params).collect())
    }

    /// The gradient of the whole input.
    fn joined(&self, found: Vec<Option<Tensor<T>>>) -> Result<Option<Tensor<T>>> {
        if found.iter().all(Option::is_none) {
            return Ok(None);
        }
        let each = found.into_iter().zip(&self.inputs);
        let each: Vec<Tensor<T>> = each.map(|(g, input)| g.unwrap_or_else(|| input.zeros_like())).collect();
        Tensor::cat(&each, 0).map(Some)
    }
}

/// The gradients of those targets that are needed.
fn backward<T: Real>(
    outs: &[Tensor<T>],
    pieces: &[Tensor<T>],
    targets: &[&Tensor<T>],
    needed: &[bool],
) -> Result<Vec<Option<Tensor<T>>>> {
    let mut found = vec![None; targets.len()];
    let (outs, pieces): (Vec<_>, Vec<_>) =
        outs.iter().zip(pieces).filter(|(out, _)| out.requires_grad()).map(|(out, g)| (out, Some(g))).unzip();
    if outs.is_empty() {
        return Ok(found);
    }
    let wanted: Vec<usize> = (0..targets.len()).filter(|&i| needed[i]).collect();
    let tensors: Vec<&Tensor<T>> = wanted.iter().map(|&i| targets[i]).collect();
    // Retained, since this may be a pass that retains the whole graph; it is freed with the operation.
    let gradients = gradients(&outs, &pieces, &tensors, grad_enabled(), false)?;
    wanted.into_iter().zip(gradients).for_each(|(i, gradient)| found[i] = gradient);
    Ok(found)
}

/// `f` of each part's index, on several threads if nothing observes this one, and whether the parts met. All parts run, even if
/// one fails; then its error or panic is passed on, with its place.
fn each_part<R: Send>(
    parts: &[(usize, usize)],
    phase: Phase,
    work: usize,
    f: &(dyn Fn(usize) -> Result<R> + Sync),
) -> Result<(Vec<R>, bool)> {
    // What observes calls on this thread sees those of all parts.
    let why = "it needs all parts of the batch at once, each on a thread, and hooks or a summary of one thread observe this \
               pass; observe the model outside DataParallel, or register the hooks for all threads";
    let one_thread = hooks::are_only_here().then_some(why);
    let origins = hooks::origins_here();
    let plan = Plan { parts: parts.len(), phase, threads: num_threads(), work, one_thread };
    let place = |i: usize| {
        let (start, len) = parts[i];
        format!("part {i} of {} (elements {start} to {})", parts.len(), start + len - 1)
    };
    match parts::run(plan, &|i| hooks::with_origins(&origins, || f(i))) {
        Ok(found) => Ok(found),
        Err(Failure::Error(i, error)) => Err(error.within(place(i))),
        Err(Failure::Panic(i, payload)) => resume_unwind(placed(payload, &place(i))),
    }
}

/// The payload of a panic with the place added, if it is text.
#[inline]
fn placed(payload: Box<dyn Any + Send>, place: &str) -> Box<dyn Any + Send> {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    match text {
        Some(text) => Box::new(format!("{text}, in {place}")),
        None => payload,
    }
}
