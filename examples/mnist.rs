//! A network with two hidden layers learns to read handwritten digits.
//!
//! `cargo run --release --example mnist [-- --data DIR --epochs N]`: without `--data` it uses the 10,000 images of
//! `data/mnist`; with it, a folder that contains the four IDX files of MNIST.

use std::time::Instant;

use indicatif::{ProgressBar, ProgressStyle};
use ndnn::{
    data::{DataLoader, TensorDataset, idx},
    functional as F,
    prelude::*,
};

#[path = "plots/mod.rs"]
mod plots;

#[derive(Module)]
struct Net {
    fc1: Linear,
    dropout: Dropout,
    fc2: Linear,
    fc3: Linear,
}

impl Net {
    fn new() -> Self {
        Net {
            fc1: Linear::new(784, 256),
            dropout: Dropout::new(0.2),
            fc2: Linear::new(256, 128),
            fc3: Linear::new(128, 10),
        }
    }
}

impl Forward for Net {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = x.flatten(1, -1)?;
        let x = self.dropout.forward(&F::relu(&self.fc1.forward(&x)?))?;
        let x = self.dropout.forward(&F::relu(&self.fc2.forward(&x)?))?;
        self.fc3.forward(&x)
    }
}

type Batches = DataLoader<TensorDataset<(Tensor, Tensor<i64>)>>;

/// The class that the model predicts for each image.
fn predict(model: &Net, images: &Tensor) -> Result<Tensor<i64>> {
    no_grad(|| model.forward(images)?.argmax(Some(1), false))
}

/// Trains for one epoch; returns the mean loss and the images per second.
fn train(model: &mut Net, adam: &mut optim::Adam, batches: &Batches, epoch: u64) -> Result<(f32, f32)> {
    model.train();
    // Draws nothing if the output is not a terminal.
    let style = "{prefix} {wide_bar} {pos}/{len} batches, {msg}";
    let bar = ProgressBar::new(batches.len() as u64)
        .with_style(ProgressStyle::with_template(style).expect("a valid template"))
        .with_prefix(format!("epoch {:2}", epoch + 1));
    let (start, mut seen, mut total, mut rate) = (Instant::now(), 0, 0., 0.);
    for (images, labels) in batches.epoch(epoch) {
        let loss = F::cross_entropy(&model.forward(&images)?, &labels, Default::default())?;
        adam.zero_grad();
        loss.backward()?;
        adam.step()?;
        let n = labels.numel();
        (seen, total) = (seen + n, total + loss.item()? * n as f32);
        rate = seen as f32 / start.elapsed().as_secs_f32();
        bar.set_message(format!("loss {:.4}, {rate:.0} images/s", total / seen as f32));
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok((total / seen as f32, rate))
}

fn main() -> Result<()> {
    let mut args = pico_args::Arguments::from_env();
    let folder = args.opt_value_from_str("--data").expect("--data DIR").unwrap_or("data/mnist".to_string());
    let epochs = args.opt_value_from_str("--epochs").expect("--epochs N").unwrap_or(10);

    ndnn::manual_seed(1);
    let (images, labels) = idx::mnist(&folder, true)?;
    let (test_images, test_labels) = idx::mnist(&folder, false)?;
    println!("{} images to train on, {} to test on", labels.numel(), test_labels.numel());
    let batches: Batches = DataLoader::new(TensorDataset::new((images, labels))?, 64).shuffle(true);

    let mut model = Net::new();
    println!("{model}\n{} parameters", model.num_parameters());
    let mut adam = optim::Adam::new(&model, 1e-3);
    let (mut losses, mut accuracies, mut predicted) = (Vec::new(), Vec::new(), Tensor::zeros([0]));
    for epoch in 0..epochs {
        let start = Instant::now();
        let (loss, rate) = train(&mut model, &mut adam, &batches, epoch)?;
        let seconds = start.elapsed().as_secs_f32();
        model.eval();
        predicted = predict(&model, &test_images)?;
        let accuracy = predicted.eq(&test_labels)?.cast::<f32>().mean().item()?;
        println!(
            "epoch {:2}  loss {loss:.4}  test accuracy {:.2} %  {seconds:.2} s  {rate:.0} images/s",
            epoch + 1,
            accuracy * 100.
        );
        losses.push(loss);
        accuracies.push(accuracy);
    }

    println!("\nconfusion matrix (row: the digit, column: what was read)\n{}", confusion(&test_labels, &predicted)?);
    model.save("mnist.safetensors")?;
    plots::learning_curve("mnist_curve.svg", &losses, &accuracies);
    let wrong: Vec<usize> = (0..predicted.numel()).filter(|&i| predicted.view()[i] != test_labels.view()[i]).collect();
    plots::digits("mnist_wrong.svg", &test_images, &test_labels, &predicted, &wrong);
    println!("wrote mnist.safetensors, mnist_curve.svg and mnist_wrong.svg ({} digits misread)", wrong.len());
    Ok(())
}

/// How often each digit (row) was read as each digit (column).
fn confusion(labels: &Tensor<i64>, predicted: &Tensor<i64>) -> Result<Tensor<i64>> {
    let cells = labels * 10 + predicted;
    Tensor::<i64>::zeros([100]).index_add(0, &cells, &cells.ones_like())?.reshape([10, 10])
}
