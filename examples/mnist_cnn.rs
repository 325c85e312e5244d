//! A convolutional network learns to read handwritten digits: `cargo run --release --example mnist_cnn`.

use std::time::Instant;

use ndnn::{
    data::{DataLoader, TensorDataset, idx},
    functional as F,
    prelude::*,
};

#[derive(Module)]
struct Net {
    conv1: Conv2d,
    conv2: Conv2d,
    pool: MaxPool2d,
    dropout: Dropout,
    fc1: Linear,
    fc2: Linear,
}

impl Net {
    fn new() -> Self {
        Net {
            conv1: Conv2d::new(1, 32, 3).padding(1),
            conv2: Conv2d::new(32, 64, 3).padding(1),
            pool: MaxPool2d::new(2),
            dropout: Dropout::new(0.25),
            fc1: Linear::new(64 * 7 * 7, 128),
            fc2: Linear::new(128, 10),
        }
    }
}

impl Forward for Net {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.pool.forward(&F::relu(&self.conv1.forward(x)?))?;
        let x = self.pool.forward(&F::relu(&self.conv2.forward(&x)?))?;
        let x = self.dropout.forward(&x.flatten(1, -1)?)?;
        let x = self.dropout.forward(&F::relu(&self.fc1.forward(&x)?))?;
        self.fc2.forward(&x)
    }
}

/// The proportion of images that are classified correctly, computed in batches.
fn evaluate(model: &Net, images: &Tensor, labels: &Tensor<i64>) -> Result<f32> {
    let test = DataLoader::new(TensorDataset::new((images.clone(), labels.clone()))?, 256);
    let mut right = 0.;
    for (x, y) in test.epoch(0) {
        let predicted = no_grad(|| model.forward(&x)?.argmax(Some(1), false))?;
        right += predicted.eq(&y)?.cast::<f32>().sum().item()?;
    }
    Ok(right / labels.numel() as f32)
}

fn main() -> Result<()> {
    ndnn::manual_seed(1);
    let (images, labels) = idx::mnist("data/mnist", true)?;
    let (test_images, test_labels) = idx::mnist("data/mnist", false)?;
    let batches = DataLoader::new(TensorDataset::new((images, labels))?, 64).shuffle(true);

    let mut model = Net::new();
    println!("{}", summary(&model, &Tensor::zeros([64, 1, 28, 28]))?);
    let mut adam = optim::Adam::new(&model, 1e-3);
    for epoch in 0..4 {
        let (start, mut total) = (Instant::now(), 0.);
        model.train();
        for (x, y) in batches.epoch(epoch) {
            let loss = F::cross_entropy(&model.forward(&x)?, &y, Default::default())?;
            adam.zero_grad();
            loss.backward()?;
            adam.step()?;
            total += loss.item()?;
        }
        let seconds = start.elapsed().as_secs_f32();
        model.eval();
        let accuracy = evaluate(&model, &test_images, &test_labels)?;
        let loss = total / batches.len() as f32;
        println!("epoch {}  loss {loss:.4}  test accuracy {:.2} %  {seconds:.1} s", epoch + 1, accuracy * 100.);
    }
    model.save("mnist_cnn.safetensors")?;
    Ok(())
}
