//! A convolutional autoencoder squeezes handwritten digits into 16 numbers, and a second one removes noise from them:
//! `cargo run --release --example autoencoder`.

use ndnn::{
    data::{DataLoader, TensorDataset, idx},
    functional as F,
    prelude::*,
};

#[path = "plots/mod.rs"]
mod plots;

/// How many numbers stand for an image.
const CODE: usize = 16;
const EPOCHS: u64 = 8;

#[derive(Module)]
struct Autoencoder {
    encoder: Sequential,
    decoder: Sequential,
}

impl Autoencoder {
    fn new() -> Self {
        Autoencoder {
            // 28 × 28 to 14 × 14 to 7 × 7 to 1 × 1, and back.
            encoder: sequential![
                Conv2d::new(1, 16, 3).stride(2).padding(1),
                ReLU,
                Conv2d::new(16, 32, 3).stride(2).padding(1),
                ReLU,
                Conv2d::new(32, CODE, 7),
            ],
            decoder: sequential![
                ConvTranspose2d::new(CODE, 32, 7),
                ReLU,
                ConvTranspose2d::new(32, 16, 4).stride(2).padding(1),
                ReLU,
                ConvTranspose2d::new(16, 1, 4).stride(2).padding(1),
                Sigmoid,
            ],
        }
    }
}

#[forward]
impl Forward for Autoencoder {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.decoder.forward(&self.encoder.forward(x)?)
    }
}

/// The images under noise; no pixel is darker than black or brighter than white.
fn noisy(images: &Tensor) -> Tensor {
    (images + Tensor::randn(images.shape()) * 0.5).clamp(0., 1.)
}

/// Trains a model to return the images that `seen` changed.
fn train(name: &str, images: &Tensor, test: &Tensor, seen: fn(&Tensor) -> Tensor) -> Result<Autoencoder> {
    let model = Autoencoder::new();
    let batches = DataLoader::new(TensorDataset::new((images.clone(), images.clone()))?, 64).shuffle(true);
    let mut adam = optim::Adam::new(&model, 2e-3);
    println!("{name}: {} parameters", model.num_parameters());
    for epoch in 0..EPOCHS {
        let mut total = 0.;
        for (x, _) in batches.epoch(epoch) {
            let loss = F::binary_cross_entropy(&model.forward(&seen(&x))?, &x, Default::default())?;
            adam.zero_grad();
            loss.backward()?;
            adam.step()?;
            total += loss.item()?;
        }
        let error = no_grad(|| F::mse_loss(&model.forward(&seen(test))?, test, Default::default()))?;
        let loss = total / batches.len() as f32;
        println!("epoch {}  loss {loss:.4}  squared error per pixel of new images {:.4}", epoch + 1, error.item()?);
    }
    Ok(model)
}

fn main() -> Result<()> {
    ndnn::manual_seed(1);
    let (images, _) = idx::mnist("data/mnist", true)?;
    let (test, _) = idx::mnist("data/mnist", false)?;
    let plain = train("autoencoder", &images, &test, Tensor::clone)?;
    let denoising = train("denoising autoencoder", &images, &test, noisy)?;

    let shown = test.narrow(0, 0, 12)?;
    let hidden = noisy(&shown);
    let (rebuilt, cleaned) = no_grad(|| Ok((plain.forward(&shown)?, denoising.forward(&hidden)?)))?;
    let rows =
        [("new images", &shown), ("from 16 numbers", &rebuilt), ("with noise", &hidden), ("noise removed", &cleaned)];
    plots::sheet("autoencoder.svg", &rows);
    println!("wrote autoencoder.svg");
    Ok(())
}
