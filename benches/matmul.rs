//! Matrix products of square and of elongated shapes, and of stacks: `cargo bench --bench matmul`.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndnn::prelude::*;

/// The shapes of both operands.
const SHAPES: [(&[usize], &[usize]); 7] = [
    (&[64, 64], &[64, 64]),
    (&[256, 256], &[256, 256]),
    (&[1024, 1024], &[1024, 1024]),
    (&[1, 784], &[784, 256]),
    (&[64, 784], &[784, 256]),
    (&[1024, 1024], &[1024]),
    (&[32, 64, 64], &[32, 64, 64]),
];

fn matmul(c: &mut Criterion) {
    ndnn::manual_seed(0);
    let mut group = c.benchmark_group("matmul");
    for (left, right) in SHAPES {
        let (a, b): (Tensor, Tensor) = (Tensor::rand(left), Tensor::rand(right));
        let columns = if right.len() == 1 { 1 } else { right[right.len() - 1] };
        group.throughput(Throughput::Elements((a.numel() * columns) as u64));
        group.bench_function(format!("{left:?} {right:?}"), |bench| bench.iter(|| black_box(&a).matmul(black_box(&b))));
    }
    // A weight is stored as `[out, in]`; a linear layer multiplies by its transpose.
    let (x, weight): (Tensor, Tensor) = (Tensor::rand([64, 784]), Tensor::rand([256, 784]));
    let weight = weight.t().expect("a matrix");
    group.throughput(Throughput::Elements(64 * 784 * 256));
    group.bench_function("[64, 784] [256, 784] transposed", |bench| {
        bench.iter(|| black_box(&x).matmul(black_box(&weight)))
    });
    group.finish();
}

criterion_group!(benches, matmul);
criterion_main!(benches);
