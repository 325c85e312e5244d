//! Training steps of the network of `examples/mnist_cnn.rs` in one piece and in parts, on 1 and 2 threads, one after the
//! other: `cargo bench --bench parallel`.

use std::{collections::BTreeMap, time::Instant};

use ndnn::{functional as F, nn::parallel::DataParallel, prelude::*, with_num_threads};

fn cnn() -> Sequential {
    sequential![
        Conv2d::new(1, 32, 3).padding(1),
        ReLU,
        MaxPool2d::new(2),
        Conv2d::new(32, 64, 3).padding(1),
        ReLU,
        MaxPool2d::new(2),
        Flatten::new(),
        Dropout::new(0.25),
        Linear::new(64 * 7 * 7, 128),
        ReLU,
        Dropout::new(0.25),
        Linear::new(128, 10),
    ]
}

/// A long model of small layers, with a norm over the whole batch in the second form.
fn deep(norm: bool) -> Sequential {
    let mut layers = sequential![Linear::new(784, 64)];
    for _ in 0..16 {
        layers = layers.push(Linear::new(64, 64));
        if norm {
            layers = layers.push(SyncBatchNorm::new(64));
        }
        layers = layers.push(Tanh);
    }
    layers.push(Linear::new(64, 10))
}

fn step(model: &DataParallel<Sequential>, adam: &mut optim::Adam, x: &Tensor, labels: &Tensor<i64>) -> Result<f32> {
    let loss = F::cross_entropy(&model.forward(x)?, labels, Default::default())?;
    adam.zero_grad();
    loss.backward()?;
    adam.step()?;
    loss.item()
}

fn main() -> Result<()> {
    ndnn::manual_seed(0);
    let images = Tensor::rand([64, 1, 28, 28]);
    let labels = Tensor::<i64>::randint(0, 10, [64])?;
    let models = [
        ("CNN", cnn(), images.clone()),
        ("17 linear layers", deep(false), images.flatten(1, -1)?),
        ("17 linear layers, SyncBatchNorm", deep(true), images.flatten(1, -1)?),
    ];
    println!("| model | threads | whole | 2 parts | 4 parts |\n|---|--:|--:|--:|--:|");
    for (name, model, x) in models {
        let mut forms = Vec::new();
        for parts in [1, 2, 4] {
            let form = DataParallel::new(model.clone()).parts(parts);
            let adam = optim::Adam::new(&form, 1e-6);
            forms.push((form, adam));
        }
        for threads in [1, 2] {
            let mut times: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
            for round in 0..60 {
                for (form, (model, adam)) in forms.iter_mut().enumerate() {
                    let start = Instant::now();
                    with_num_threads(threads, || step(model, adam, &x, &labels))?;
                    if round >= 10 {
                        times.entry(form).or_default().push(start.elapsed().as_secs_f64() * 1e3);
                    }
                }
            }
            let median = |mut times: Vec<f64>| {
                times.sort_by(f64::total_cmp);
                format!("{:.2} ms", times[times.len() / 2])
            };
            let row: Vec<String> = times.into_values().map(median).collect();
            println!("| {name} | {threads} | {} |", row.join(" | "));
        }
    }
    Ok(())
}
