//! Activations that are computed again.

use ndnn::{
    AnyTensor,
    autograd::{grad, gradcheck, gradgradcheck},
    nn::StateDict,
    nn::utils::{checkpoint, checkpoint_with},
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
