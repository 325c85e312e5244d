//! [`DataParallel`]: the parts of a batch run through one module on several threads.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use super::utils::snapshot::{Snapshot, buffers};
use crate::{
    AnyTensor, Error, Real, Result, Tensor,
    autograd::gradients,
    forward,
    functional::apart,
    kernels::threads::{num_threads, with_num_threads},
    module::{AnyBuffer, hooks},
    nn::{Forward, Module},
    random::{self, Rng, RngState},
    sync::lock,
    tensor::{grad_enabled, with_grad},
};

/// Cuts a batch into parts, runs each through the module on a thread of its own, and joins the outputs; the backward pass
/// does the same. The threads share the parameters.
///
/// The batch is cut along axis 0, by its size alone: into parts of at least 16 elements, at most 8 of them, or as many as
/// [`parts`](DataParallel::parts) says. Gradients are added in the order of the parts. So the results have the same bits on any number
/// of threads, though not those of the whole batch at once: sums are added in another order, dropout draws for each
/// part, and batch norms normalise each part. As in PyTorch, buffers such as running statistics are those of the first part.
///
/// It pays where the operations are too small to be shared among threads one by one: for small layers and long models.
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
    /// axis 0 as its part of the input, or a parameter has no values yet or is of another type than the input.
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let Some(&batch) = x.shape().first() else {
            return Err(Error::shape("DataParallel", "needs a batch along axis 0, got a tensor without axes"));
        };
        let parts = self.cut(batch);
        if parts.len() < 2 {
            return self.module.forward(x);
        }
        let snapshot = Snapshot::of("DataParallel", &self.module, buffers(&self.module))?;
        let run = |x: &Tensor<T>| self.module.forward(x);
        divided(&snapshot, x, &parts, &run)
    }
}

/// What a part of the forward pass leaves.
type Done<T> = (Tensor<T>, Vec<(AnyBuffer, AnyTensor)>);

/// The output of all parts, as one operation on the input and the parameters.
fn divided<T: Real>(
    snapshot: &Snapshot<T>,
    x: &Tensor<T>,
    parts: &[(usize, usize)],
    run: &(dyn Fn(&Tensor<T>) -> Result<Tensor<T>> + Sync),
) -> Result<Tensor<T>> {
    let inputs = parts.iter().map(|&(start, len)| x.narrow(0, start, len)).collect::<Result<Vec<_>>>()?;
    let params: Vec<Tensor<T>> = snapshot.params.iter().map(|(_, tensor)| apart(tensor)).collect();
    let mut rng = random::draw();
    let draws: Vec<RngState> = parts.iter().map(|_| RngState { seed: rng.next_u64(), draws: 0 }).collect();
    let recorded = grad_enabled();
    let done: Vec<Done<T>> = each_part(parts, &|i| {
        let forward = || random::from_state(draws[i], || with_grad(recorded, || run(&inputs[i])));
        let (out, written) = snapshot.scope(&params).run(forward);
        let out = out?;
        if out.shape().first() != Some(&parts[i].1) {
            let why =
                format!("expected an output of {} elements along axis 0, got shape {:?}", parts[i].1, out.shape());
            return Err(Error::shape("DataParallel", why));
        }
        Ok((out, written))
    })?;
    let (outs, mut written): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    for (buffer, value) in written.swap_remove(0) {
        buffer.set(&value)?;
    }
    let whole = Tensor::cat(&outs.iter().map(Tensor::detach).collect::<Vec<_>>(), 0)?;
    let originals: Vec<&Tensor<T>> = [x].into_iter().chain(snapshot.params.iter().map(|(_, tensor)| tensor)).collect();
    let parts = parts.to_vec();
    Ok(Tensor::op_many("data_parallel", whole.into_array(), &originals, move |g, needed| {
        let pieces = parts.iter().map(|&(start, len)| g.narrow(0, start, len)).collect::<Result<Vec<_>>>()?;
        let differentiable = grad_enabled();
        let found = each_part(&parts, &|i| {
            let targets: Vec<&Tensor<T>> = [&inputs[i]].into_iter().chain(&params).collect();
            with_grad(differentiable, || backward(&outs[i], &pieces[i], &targets, needed))
        })?;
        joined(found, &parts, &inputs)
    }))
}

/// The gradients of one part's targets, of those that are needed.
fn backward<T: Real>(
    out: &Tensor<T>,
    g: &Tensor<T>,
    targets: &[&Tensor<T>],
    needed: &[bool],
) -> Result<Vec<Option<Tensor<T>>>> {
    let mut found = vec![None; targets.len()];
    if !out.requires_grad() {
        return Ok(found);
    }
    let wanted: Vec<usize> = (0..targets.len()).filter(|&i| needed[i]).collect();
    let tensors: Vec<&Tensor<T>> = wanted.iter().map(|&i| targets[i]).collect();
    // Retained, since this may be a pass that retains the whole graph; it is freed with the operation.
    let gradients = gradients(&[out], &[Some(g)], &tensors, grad_enabled(), false)?;
    wanted.into_iter().zip(gradients).for_each(|(i, gradient)| found[i] = gradient);
    Ok(found)
}

/// The gradient of the whole input, and those of the parameters, added in the order of the parts.
fn joined<T: Real>(
    found: Vec<Vec<Option<Tensor<T>>>>,
    parts: &[(usize, usize)],
    inputs: &[Tensor<T>],
) -> Result<Vec<Option<Tensor<T>>>> {
    let along = |i: usize| found[i][0].clone().unwrap_or_else(|| inputs[i].zeros_like());
    let input = match found.iter().any(|part| part[0].is_some()) {
        true => Some(Tensor::cat(&(0..parts.len()).map(along).collect::<Vec<_>>(), 0)?),
        false => None,
    };
    let mut all = vec![input];
    for k in 1..found[0].len() {
        let each = found.iter().filter_map(|part| part[k].clone());
        all.push(each.reduce(|sum, part| sum + part));
    }
    Ok(all)
}

/// `f` of each part's index, on several threads if nothing observes this one. All parts run, even if one fails; then the first error or panic is
/// passed on, with its place.
fn each_part<R: Send>(parts: &[(usize, usize)], f: &(dyn Fn(usize) -> Result<R> + Sync)) -> Result<Vec<R>> {
    let (next, slots) = (AtomicUsize::new(0), parts.iter().map(|_| Mutex::new(None)).collect::<Vec<_>>());
    let work = || loop {
        let i = next.fetch_add(1, Ordering::Relaxed);
        let Some(slot) = slots.get(i) else { return };
        let done = catch_unwind(AssertUnwindSafe(|| with_num_threads(1, || f(i))));
        *lock(slot) = Some(done);
    };
    // What observes calls on this thread sees those of all parts.
    let threads = if hooks::are_only_here() { 1 } else { num_threads().min(parts.len()) };
    thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    let place = |i: usize| {
        let (start, len) = parts[i];
        format!("part {i} of {} (elements {start} to {})", parts.len(), start + len - 1)
    };
    let each = slots.into_iter().enumerate().map(|(i, slot)| match lock(&slot).take().expect("every part ran") {
        Ok(done) => done.map_err(|error| error.within(place(i))),
        Err(payload) => resume_unwind(placed(payload, &place(i))),
    });
    each.collect()
}

/// The payload of a panic with the place added, if it is text.
fn placed(payload: Box<dyn Any + Send>, place: &str) -> Box<dyn Any + Send> {
    let text = payload.downcast_ref::<String>().map(String::as_str).or(payload.downcast_ref::<&str>().copied());
    match text {
        Some(text) => Box::new(format!("{text}, in {place}")),
        None => payload,
    }
}
