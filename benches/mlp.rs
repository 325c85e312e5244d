//! Training step and inference of two small networks: `cargo bench --bench mlp`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndnn::{functional as F, prelude::*};

/// Network A: classifies images.
fn classifier() -> Sequential {
    sequential![Linear::new(784, 256), ReLU, Linear::new(256, 128), ReLU, Linear::new(128, 10)]
}

/// Network B: so small that overhead dominates the arithmetic.
fn curve() -> Sequential {
    sequential![Linear::new(2, 16), Tanh, Linear::new(16, 16), Tanh, Linear::new(16, 1)]
}

/// So small that the network hardly changes: once a batch is memorized, its gradients become tiny or even subnormal,
/// which changes the timing.
const RATE: f64 = 1e-6;

fn step(optimizer: &mut impl Optimizer, loss: Result<Tensor>) -> Result<f32> {
    let loss = loss?;
    optimizer.zero_grad();
    loss.backward()?;
    optimizer.step()?;
    loss.item()
}

fn training(c: &mut Criterion) {
    ndnn::manual_seed(0);
    let mut group = c.benchmark_group("step");

    let images: Tensor = Tensor::rand([64, 784]);
    let labels = Tensor::<i64>::randint(0, 10, [64]).expect("a range");
    group.throughput(Throughput::Elements(64));
    let model = classifier();
    let loss = || F::cross_entropy(&model.forward(&images)?, &labels, Default::default());
    let mut sgd = optim::SGD::new(&model, RATE).momentum(0.9);
    group.bench_function("A: 784-256-128-10, batch 64, SGD momentum", |b| b.iter(|| step(&mut sgd, loss())));
    let mut adam = optim::Adam::new(&model, RATE);
    group.bench_function("A: 784-256-128-10, batch 64, Adam", |b| b.iter(|| step(&mut adam, loss())));

    let points: Tensor = Tensor::rand([32, 2]);
    let heights: Tensor = Tensor::rand([32, 1]);
    group.throughput(Throughput::Elements(32));
    let model = curve();
    let mut sgd = optim::SGD::new(&model, RATE);
    group.bench_function("B: 2-16-16-1, batch 32, SGD", |b| {
        b.iter(|| step(&mut sgd, model.forward(&points).and_then(|y| F::mse_loss(&y, &heights, Default::default()))))
    });
    group.finish();
}

fn inference(c: &mut Criterion) {
    ndnn::manual_seed(0);
    let mut group = c.benchmark_group("inference");
    let mut model = classifier();
    model.eval();
    for batch in [1, 1024] {
        let images: Tensor = Tensor::rand([batch, 784]);
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(format!("A: 784-256-128-10, batch {batch}"), |b| {
            b.iter(|| no_grad(|| model.forward(black_box(&images))))
        });
    }
    group.finish();
}

criterion_group!(benches, training, inference);
criterion_main!(benches);
