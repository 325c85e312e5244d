//! What an operation costs besides its arithmetic: allocations, and atomic operations of our own (links to arrays and
//! nodes taken and dropped, locks, numbers of nodes). A bound here is what was counted when the test was written: raise it
//! only for a reason.

use allocation_counter::measure;

use crate::{functional as F, kernels::count::atomics, prelude::*};

/// The allocations and the atomic operations of one call, after others that filled what is kept between calls.
fn cost<R>(mut f: impl FnMut() -> R) -> (u64, u64) {
    (0..3).for_each(|_| drop(f()));
    let mut result = None;
    let before = atomics();
    let allocations = measure(|| result = Some(f())).count_total;
    (allocations, atomics() - before)
}

fn at_most(what: &str, f: impl FnMut() -> Tensor, bound: (u64, u64)) {
    let (allocations, atomics) = cost(f);
    assert!(
        allocations <= bound.0 && atomics <= bound.1,
        "{what}: {allocations} allocations and {atomics} atomic operations, expected at most {bound:?}"
    );
}

#[test]
fn forward_and_backward_of_one_operation() {
    let plain = Tensor::<f32>::ones([8, 8]);
    let (x, y) = (plain.requires_grad(true), Tensor::<f32>::ones([8, 8]).requires_grad(true));
    let (weight, bias) =
        (Tensor::<f32>::ones([4, 8]).requires_grad(true), Tensor::<f32>::ones([4]).requires_grad(true));
    let g = Tensor::<f32>::ones([8, 8]);
    let g4 = Tensor::<f32>::ones([8, 4]);

    at_most("relu, untracked", || F::relu(&plain), (2, 0));
    at_most("add, untracked", || &plain + &plain, (3, 0));
    at_most("relu", || F::relu(&x), (3, 4));
    at_most("tanh", || F::tanh(&x), (3, 4));
    at_most("add", || &x + &y, (5, 6));
    at_most("linear", || F::linear(&x, &weight, Some(&bias)).unwrap(), (4, 8));

    let backward = |y: Tensor, g: &Tensor| {
        y.backward_with(g).unwrap();
        [&x, &weight, &bias].map(|leaf| leaf.zero_grad());
        y
    };
    at_most("relu and back", || backward(F::relu(&x), &g), (8, 20));
    at_most("tanh and back", || backward(F::tanh(&x), &g), (8, 20));
    at_most("linear and back", || backward(F::linear(&x, &weight, Some(&bias)).unwrap(), &g4), (16, 30));
}

#[test]
fn a_step_of_a_small_network() {
    let model = sequential![Linear::new(2, 16), Tanh, Linear::new(16, 16), Tanh, Linear::new(16, 1)];
    let (points, heights) = (Tensor::rand([32, 2]), Tensor::rand([32, 1]));
    let mut sgd = optim::SGD::new(&model, 0.01).momentum(0.9);
    let step = || {
        let loss = F::mse_loss(&model.forward(&points).unwrap(), &heights, Default::default()).unwrap();
        sgd.zero_grad();
        loss.backward().unwrap();
        sgd.step().unwrap();
        loss
    };
    at_most("a step", step, (90, 220));
}
