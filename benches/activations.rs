//! Activations, forward alone and forward with backward, on 1024 rows of 1024: `cargo bench --bench activations`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndnn::{functional as F, prelude::*};

type Activation = fn(&Tensor) -> Result<Tensor>;

const ACTIVATIONS: [(&str, Activation); 5] = [
    ("relu", |x| Ok(F::relu(x))),
    ("gelu", |x| Ok(F::gelu(x, F::GELUApproximate::None))),
    ("tanh", |x| Ok(F::tanh(x))),
    ("sigmoid", |x| Ok(F::sigmoid(x))),
    ("softmax", |x| F::softmax(x, 1)),
];

fn activations(c: &mut Criterion) {
    ndnn::manual_seed(0);
    let x: Tensor = Tensor::randn([1024, 1024]);
    let gradient: Tensor = Tensor::randn([1024, 1024]);
    let leaf = x.set_requires_grad(true);

    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(x.numel() as u64));
    for (name, f) in ACTIVATIONS {
        group.bench_function(name, |b| b.iter(|| f(black_box(&x))));
    }
    group.finish();

    let mut group = c.benchmark_group("forward and backward");
    group.throughput(Throughput::Elements(x.numel() as u64));
    for (name, f) in ACTIVATIONS {
        group.bench_function(name, |b| {
            b.iter(|| {
                leaf.zero_grad();
                f(black_box(&leaf))?.backward_with(&gradient)
            })
        });
    }
    group.finish();
}

criterion_group!(benches, activations);
criterion_main!(benches);
