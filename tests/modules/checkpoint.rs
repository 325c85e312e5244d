//! Activations that are computed again.

use ndnn::{
    AnyTensor,
    autograd::{grad, gradcheck, gradgradcheck},
    module::hooks::{register_forward_hook, register_full_backward_hook},
    nn::StateDict,
    nn::utils::{checkpoint, checkpoint_with, functional_call},
    prelude::*,
    random,
};

fn block() -> Sequential {
    sequential![Linear::new(6, 16), BatchNorm1d::new(16), ReLU, Dropout::new(0.5), Linear::new(16, 6)]
}

/// The loss, the gradient of the input, those of the parameters, and the state afterwards.
fn pass(model: &Sequential, again: bool) -> (Tensor, Tensor, Vec<AnyTensor>, StateDict) {
    let x = Tensor::linspace(-1., 1., 30).reshape([5, 6]).unwrap().set_requires_grad(true);
    model.zero_grad();
    let y = random::from_state(random::RngState { seed: 7, draws: 0 }, || match again {
        true => checkpoint(model, &x),
        false => model.forward(&x),
    });
    let loss = y.unwrap().square().sum();
    loss.backward().unwrap();
    let gradients = model.parameters().iter().map(|p| p.grad().unwrap()).collect();
    (loss.detach(), x.grad().unwrap(), gradients, model.state_dict())
}

#[test]
fn checkpoints_have_the_same_bits() {
    ndnn::manual_seed(1);
    let model = block();
    let other = model.clone();
    let (loss, dx, gradients, state) = pass(&model, false);
    let (loss_2, dx_2, gradients_2, state_2) = pass(&other, true);
    assert_eq!((loss, dx, gradients), (loss_2, dx_2, gradients_2));
    // The running statistics were updated once.
    for (name, tensor) in state.iter() {
        assert_eq!(Some(tensor), state_2.get(name), "{name}");
    }
    assert_eq!(other.state_dict().get("1.num_batches_tracked").unwrap(), &tensor![1].reshape(()).unwrap().into());
}

#[test]
fn checkpoints_are_differentiated_twice() {
    ndnn::manual_seed(0);
    let model = sequential![f64; Linear::new(3, 4), Tanh, Linear::new(4, 2), Sigmoid];
    let x = Tensor::<f64>::linspace(-1., 1., 6).reshape([2, 3]).unwrap();
    let f = |x: &[Tensor<f64>]| checkpoint(&model, &x[0]);
    gradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
    gradgradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();

    // Also with respect to the parameters, and without writing into them.
    let w = model.parameters()[0].tensor();
    let w = w.get::<f64>().unwrap();
    let second = |y: Tensor<f64>| {
        let first = grad(&[&y.sum()], &[&w], true).unwrap().remove(0).unwrap();
        grad(&[&first.square().sum()], &[&w], false).unwrap().remove(0).unwrap()
    };
    let (plain, again) = (second(model.forward(&x).unwrap()), second(checkpoint(&model, &x).unwrap()));
    assert!((&plain - &again).abs().max().unwrap().item().unwrap() < 1e-14);
    assert!(plain.abs().max().unwrap().item().unwrap() > 1e-3);
    assert!(model.parameters().iter().all(|p| !p.has_grad()));
}

#[test]
fn checkpoints_in_checkpoints() {
    let inner = Linear::new(3, 3);
    let x = Tensor::ones([2, 3]).set_requires_grad(true);
    let y = checkpoint_with(&inner, [&x, &x], |inner, [x, y]| Ok(checkpoint(inner, x)? * inner.forward(y)?)).unwrap();
    y.sum().backward().unwrap();
    let (weight, gx) = (inner.weight.grad().unwrap(), x.grad().unwrap());
    inner.zero_grad();
    x.zero_grad();
    inner.forward(&x).unwrap().square().sum().backward().unwrap();
    assert_eq!((inner.weight.grad().unwrap(), x.grad().unwrap()), (weight, gx));
}

#[test]
fn checkpoints_of_what_needs_no_gradient() {
    let layer = Linear::new(3, 3);
    assert!(!no_grad(|| checkpoint(&layer, &Tensor::ones([1, 3]))).unwrap().requires_grad());
    layer.set_requires_grad(false);
    assert!(!checkpoint(&layer, &Tensor::ones([1, 3])).unwrap().requires_grad());
    let x = Tensor::ones([1, 3]).set_requires_grad(true);
    checkpoint(&layer, &x).unwrap().sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), layer.weight.tensor().sum_dim(0, true).unwrap());
    // A layer whose output does not depend on the input.
    let y = checkpoint_with(&layer, [&x], |_, _| Ok(Tensor::ones([2]))).unwrap();
    x.zero_grad();
    y.sum().backward().unwrap();
    assert!(x.grad().is_none());
}

/// Their sizes come from the first pass, after which the second one repeats it.
#[test]
fn checkpoints_of_lazy_layers() {
    let model = sequential![LazyBatchNorm1d::new().affine(false), LazyLinear::new(2), LazyBatchNorm1d::new()];
    let x = Tensor::linspace(-1., 1., 12).reshape([4, 3]).unwrap().set_requires_grad(true);
    checkpoint(&model, &x).unwrap().square().sum().backward().unwrap();
    assert!(x.grad().is_some() && model.parameters().iter().all(|p| p.has_grad()));
    let state = model.state_dict();
    for name in ["0.num_batches_tracked", "2.num_batches_tracked"] {
        assert_eq!(state.get(name).unwrap(), &Tensor::<i64>::scalar(1).into(), "{name}");
    }
}

/// Those of the forward pass, even if they need no gradient and the backward pass runs elsewhere.
#[test]
fn checkpoints_keep_the_parameters_of_their_scope() {
    let layer = Linear::new(2, 2).bias(false);
    let x = Tensor::ones([1, 2]).set_requires_grad(true);
    let others: StateDict = [("weight".to_string(), tensor![[1.0, 2.0], [3.0, 4.0]].into())].into_iter().collect();
    let y = functional_call(&layer, &others, || checkpoint(&layer, &x)).unwrap();
    y.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), tensor![[4.0, 6.0]]);
}

#[test]
fn checkpoints_with_hooks() {
    let model = sequential![Linear::new(2, 2), Tanh, Linear::new(2, 1)];
    let x = Tensor::ones([1, 2]).set_requires_grad(true);
    let calls = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let (forward, backward) = (calls.clone(), calls.clone());
    let _twice = register_forward_hook(&model, "0", move |_, _, output| {
        forward.lock().unwrap().push("forward");
        output[0].get::<f32>().map(|y| y * 2.0)
    });
    let _seen = register_full_backward_hook(&model, "0", move |path, _, output| {
        backward.lock().unwrap().push("backward");
        assert_eq!((path, output[0].shape()), ("0", &[1, 2][..]));
    });
    model.forward(&x).unwrap().sum().backward().unwrap();
    assert_eq!(std::mem::take(&mut *calls.lock().unwrap()), ["forward", "backward"]);
    let plain = x.grad();
    x.zero_grad();
    checkpoint(&model, &x).unwrap().sum().backward().unwrap();
    assert_eq!(*calls.lock().unwrap(), ["forward", "forward", "backward"]);
    assert_eq!(x.grad(), plain);
}

/// A mode of the module's own is that of the forward pass, one behind an `Arc` that of the backward pass.
#[test]
fn modes_of_checkpoints() {
    let x = Tensor::ones([1000]).set_requires_grad(true);
    let dropped = |gradient: Tensor| gradient.to_vec().iter().filter(|&&g| g == 0.).count();
    let mut own = sequential![Dropout::new(0.5)];
    let y = checkpoint(&own, &x).unwrap();
    own.eval();
    y.sum().backward().unwrap();
    assert_eq!(dropped(x.grad().unwrap()), dropped(y));
    x.zero_grad();
    let mut shared = sequential![std::sync::Arc::new(Dropout::new(0.5))];
    let y = checkpoint(&shared, &x).unwrap();
    shared.eval();
    y.sum().backward().unwrap();
    assert!(dropped(y) > 300 && dropped(x.grad().unwrap()) == 0);
}

#[test]
fn checkpoints_that_cannot_be() {
    #[derive(Module)]
    struct Mixed {
        scale: Param<f64>,
    }
    let mixed = Mixed { scale: Param::new(tensor![2.0f64]) };
    let x: Tensor = Tensor::ones([1]);
    let error = checkpoint_with(&mixed, [&x], |_, [x]| Ok(x.clone())).unwrap_err();
    assert_eq!(error.to_string(), "checkpoint: the parameter `scale` is f64, the inputs are f32; expected one type");

    let calls = std::sync::atomic::AtomicUsize::new(1);
    let x = x.set_requires_grad(true);
    let y = checkpoint_with(&Identity, [&x], move |_, [x]| {
        x.broadcast_to([calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed)])
    });
    let error = y.unwrap().sum().backward().unwrap_err();
    assert_eq!(error.to_string(), "checkpoint: computed again, the output has shape [2], before it had [1]");
}
