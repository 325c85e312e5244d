//! [`checkpoint`]: activations that are computed again in the backward pass instead of being kept.

use super::snapshot::{Snapshot, buffers};
use crate::{
    Error, Real, Result, Tensor,
    autograd::gradients_again,
    module::{Forward, Module, hooks, sharing},
    random::{self, RngState},
    tensor::{grad_enabled, no_grad},
};

/// `module.forward(x)`, of which only `x` and the result are kept: the backward pass computes the rest again. This costs
/// one more forward pass and saves the memory of everything between.
///
/// The gradients have the same bits, also with dropout, whose draws are repeated; buffers, such as running statistics,
/// are written once. Gradients of gradients are right too. The backward pass reads the parameters and modes as they are in the
/// forward pass, and calls the module's forward hooks again.
///
/// It runs a copy of the module that shares the parameters. Two things are not kept with it. What is behind an `Arc` is not
/// copied, so modes there are those of the time of the backward pass. And hooks know a module by its address: if it is dropped or moved
/// before the backward pass, and hooks are registered for another module of its type at that address, these are called.
///
/// PyTorch's `torch.utils.checkpoint.checkpoint`.
///
/// ```
/// use ndnn::{nn::utils::checkpoint, prelude::*};
/// let block = sequential![Linear::new(8, 32), ReLU, Dropout::new(0.1), Linear::new(32, 8)];
/// let x = Tensor::randn([4, 8]);
/// checkpoint(&block, &x)?.sum().backward()?;
/// assert!(block.parameters().iter().all(|p| p.has_grad()));
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// Those of the module, and if it has parameters of another floating type than `x`.
pub fn checkpoint<T: Real, M: Forward<T> + Clone + 'static>(module: &M, x: &Tensor<T>) -> Result<Tensor<T>> {
    checkpoint_with(module, [x], |module, [x]| module.forward(x))
}

/// As [`checkpoint`], for modules with several inputs: `f` calls the module, and must draw and compute the same again when
/// it is called with the same tensors. Gradients flow to the inputs and to the module's parameters, not to other tensors
/// that `f` uses.
///
/// ```
/// use ndnn::{nn::utils::checkpoint_with, prelude::*};
/// let layer = Bilinear::new(3, 4, 2);
/// let (x, y) = (Tensor::randn([5, 3]), Tensor::randn([5, 4]));
/// let z = checkpoint_with(&layer, [&x, &y], |layer, [x, y]| layer.forward(x, y))?;
/// z.sum().backward()?;
/// assert!(layer.weight.has_grad());
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// Those of `f`, and if the module has parameters of another floating type than the inputs.
pub fn checkpoint_with<T: Real, M: Module + Clone + 'static, const N: usize>(
    module: &M,
    inputs: [&Tensor<T>; N],
    f: impl Fn(&M, [&Tensor<T>; N]) -> Result<Tensor<T>> + Send + Sync + 'static,
) -> Result<Tensor<T>> {
    if !grad_enabled() {
        return f(module, inputs);
    }
    let (buffers, random) = (buffers(module), random::state());
    let out = no_grad(|| f(module, inputs))?;
    // After the pass, which may have been the first one of a lazy layer.
    let start = Start { random, snapshot: Snapshot::of("checkpoint", module, buffers)? };
    // Boxed, since hooks know its layers by their addresses.
    let copy = Box::new(sharing(|| module.clone()));
    let origins = hooks::origins(&*copy, module);
    let again =
        move |inputs: &[Tensor<T>]| hooks::with_origins(&origins, || f(&copy, std::array::from_fn(|i| &inputs[i])));
    Ok(start.recorded(out, &inputs, Box::new(again)))
}

/// What the pass is repeated from.
struct Start<T: Real> {
    random: RngState,
    snapshot: Snapshot<T>,
}

/// Computes the output from other inputs.
type Again<T> = Box<dyn Fn(&[Tensor<T>]) -> Result<Tensor<T>> + Send + Sync>;

impl<T: Real> Start<T> {
    /// The output as an operation on the inputs and the parameters.
    fn recorded(self, out: Tensor<T>, inputs: &[&Tensor<T>], again: Again<T>) -> Tensor<T> {
        let all: Vec<Tensor<T>> =
            inputs.iter().copied().chain(self.snapshot.params.iter().map(|(_, tensor)| tensor)).cloned().collect();
        let (kept, shape) = (all.clone(), out.shape().to_vec());
        let backward = move |g: &Tensor<T>, needed: &[bool]| self.gradients(&kept, &shape, g, needed, &again);
        Tensor::op_many("checkpoint", out, &all.iter().collect::<Vec<_>>(), backward)
    }

    fn gradients(
        &self,
        kept: &[Tensor<T>],
        shape: &[usize],
        g: &Tensor<T>,
        needed: &[bool],
        again: &Again<T>,
    ) -> Result<Vec<Option<Tensor<T>>>> {
        let inputs = kept.len() - self.snapshot.params.len();
        gradients_again(&kept.iter().collect::<Vec<_>>(), needed, g, &|tensors| {
            let (inputs, values) = tensors.split_at(inputs);
            let run = || random::from_state(self.random, || again(inputs));
            let out = self.snapshot.scope(values).run(run).0?;
            if out.shape() != shape {
                let why = format!("computed again, the output has shape {:?}, before it had {shape:?}", out.shape());
                return Err(Error::shape("checkpoint", why));
            }
            Ok(out)
        })
    }
}

#[cfg(test)]
mod tests {
    use allocation_counter::measure;

    use super::*;
    use crate::{kernels::memory, prelude::*};

    /// Of 64 layers only the inputs of the 8 blocks are kept.
    #[test]
    fn a_deep_network_takes_less_memory() {
        let layers = || (0..8).map(|_| Linear::new(32, 32)).collect();
        let blocks: Vec<ModuleList<Linear>> = (0..8).map(|_| layers()).collect();
        let run = |block: &ModuleList<Linear>, [x]: [&Tensor; 1]| {
            block.iter().try_fold(x.clone(), |x, layer| Ok(layer.forward(&x)?.tanh()))
        };
        let x = Tensor::randn([256, 32]);
        let peak = |again: bool| {
            let step = || {
                let mut x = x.clone();
                for block in &blocks {
                    x = if again { checkpoint_with(block, [&x], run) } else { run(block, [&x]) }.unwrap();
                }
                x.sum().backward().unwrap();
            };
            // What earlier passes left in the pool is not counted.
            memory::clear();
            measure(step).bytes_max
        };
        let (again, plain) = (peak(true), peak(false));
        assert!(2 * again < plain, "{again} bytes instead of {plain}");
    }
}
