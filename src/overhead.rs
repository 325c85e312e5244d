//! What an operation costs in addition to its arithmetic: allocations, and our own atomic operations (references to
//! arrays and nodes created and dropped, locks, node ids). The bounds are what was counted when the test was written;
//! raise one only for a good reason.

use allocation_counter::measure;

use crate::{functional as F, kernels::profile::atomics, prelude::*};

/// The allocations and atomic operations of one call, after earlier calls filled what is kept between calls.
fn cost<R>(mut f: impl FnMut() -> R) -> (u64, u64) {
    (0..3).for_each(|_| drop(f()));
    let mut result = None;
    let before = atomics();
    let allocations = measure(|| result = Some(f())).count_total;
    (allocations, atomics() - before)
}

/// What exceeds its bounds, as text.
#[derive(Default)]
struct Excess(String);

impl Excess {
    fn at_most(&mut self, what: &str, f: impl FnMut() -> Tensor, bound: (u64, u64)) {
        let (allocations, atomics) = cost(f);
        if allocations > bound.0 || atomics > bound.1 {
            self.0 += &format!("\n{what}: {allocations} allocations, {atomics} atomic operations, at most {bound:?}");
        }
    }
}

#[test]
fn forward_and_backward_of_one_operation() {
    let mut excess = Excess::default();
    let plain = Tensor::<f32>::ones([8, 8]);
    let (x, y) = (plain.set_requires_grad(true), Tensor::<f32>::ones([8, 8]).set_requires_grad(true));
    let (weight, bias) =
        (Tensor::<f32>::ones([4, 8]).set_requires_grad(true), Tensor::<f32>::ones([4]).set_requires_grad(true));
    let g = Tensor::<f32>::ones([8, 8]);
    let g4 = Tensor::<f32>::ones([8, 4]);

    excess.at_most("relu, untracked", || F::relu(&plain), (2, 0));
    excess.at_most("add, untracked", || &plain + &plain, (3, 0));
    excess.at_most("relu", || F::relu(&x), (3, 3));
    excess.at_most("tanh", || F::tanh(&x), (3, 3));
    excess.at_most("add", || &x + &y, (7, 3));
    excess.at_most("linear", || F::linear(&x, &weight, Some(&bias)).unwrap(), (5, 8));

    let backward = |y: Tensor, g: &Tensor| {
        y.backward_with(g).unwrap();
        [&x, &weight, &bias].into_iter().for_each(Tensor::zero_grad);
        y
    };
    excess.at_most("relu and back", || backward(F::relu(&x), &g), (6, 14));
    excess.at_most("tanh and back", || backward(F::tanh(&x), &g), (6, 12));
    excess.at_most("linear and back", || backward(F::linear(&x, &weight, Some(&bias)).unwrap(), &g4), (14, 21));
    assert!(excess.0.is_empty(), "{}", excess.0);
}

#[test]
fn a_step_of_a_small_network() {
    let mut excess = Excess::default();
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
    excess.at_most("a step", step, (56, 140));
    assert!(excess.0.is_empty(), "{}", excess.0);
}

#[test]
fn one_step_of_a_recurrent_layer() {
    let mut excess = Excess::default();
    let (lstm, cell, gru) = (LSTM::new(8, 16), LSTMCell::new(8, 16), GRU::new(8, 16));
    let (x, rows) = (Tensor::<f32>::ones([1, 1, 8]), Tensor::<f32>::ones([1, 8]));
    excess.at_most("LSTM", || no_grad(|| lstm.forward(&x, None)).unwrap().0, (71, 62));
    excess.at_most("LSTMCell", || no_grad(|| cell.forward(&rows, None)).unwrap().0, (35, 52));
    let train = || {
        let y = gru.forward(&x, None).unwrap().0;
        y.sum().backward().unwrap();
        gru.zero_grad();
        y
    };
    excess.at_most("GRU and back", train, (189, 182));
    assert!(excess.0.is_empty(), "{}", excess.0);
}
