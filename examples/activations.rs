//! Why networks need activations, and what they look like: `cargo run --release --example activations`.

use ndnn::{autograd::grad_with, functional as F, prelude::*};

#[path = "plots/mod.rs"]
mod plots;

fn main() -> Result<()> {
    ndnn::manual_seed(0);
    collapse()?;
    println!("\nXOR, mean squared error after 500 steps (0 is learnt, 0.25 is what a constant reaches):");
    let linear = learn_xor(sequential![Linear::new(2, 8), Linear::new(8, 1)])?;
    let tanh = learn_xor(sequential![Linear::new(2, 8), Tanh, Linear::new(8, 1)])?;
    println!("  without activation {linear:.4}");
    println!("  with tanh          {tanh:.4}");
    draw()
}

/// Linear layers in sequence are one linear layer, whose matrix is the product of theirs.
fn collapse() -> Result<()> {
    let (first, second) = (Linear::new(5, 7).bias(false), Linear::new(7, 3).bias(false));
    let x = Tensor::randn([4, 5]);
    let stacked = second.forward(&first.forward(&x)?)?;
    let product = second.weight.tensor().matmul(&first.weight.tensor())?;
    let one = F::linear(&x, &product, None)?;
    let difference = (&stacked - &one).abs().max()?.item()?;
    println!("two linear layers, 5 -> 7 -> 3: the product of their matrices is {:?}", product.shape());
    println!("largest difference between the two layers and that one matrix: {difference:.1e}");
    let with_tanh = second.forward(&first.forward(&x)?.tanh())?;
    println!("with tanh between them: {:.1e}", (&with_tanh - &one).abs().max()?.item()?);
    Ok(())
}

/// Trains a network on the four rows of XOR; returns the last loss.
fn learn_xor(net: Sequential) -> Result<f32> {
    let x = tensor![[0., 0.], [0., 1.], [1., 0.], [1., 1.]];
    let y = tensor![[0.], [1.], [1.], [0.]];
    let mut adam = optim::Adam::new(&net, 0.05);
    let mut last = f32::NAN;
    for _ in 0..500 {
        let loss = F::mse_loss(&net.forward(&x)?, &y, Default::default())?;
        adam.zero_grad();
        loss.backward()?;
        adam.step()?;
        last = loss.item()?;
    }
    Ok(last)
}

/// Draws four activations and their derivatives, which autograd computes.
fn draw() -> Result<()> {
    type Activation = fn(&Tensor) -> Tensor;
    let activations: [(&str, Activation); 4] =
        [("sigmoid", F::sigmoid), ("tanh", F::tanh), ("relu", F::relu), ("leaky_relu", |x| F::leaky_relu(x, 0.1))];
    let x = Tensor::linspace(-4., 4., 401).set_requires_grad(true);
    let points = |y: &Tensor| x.to_vec().into_iter().zip(y.to_vec()).collect::<Vec<_>>();
    let (mut values, mut derivatives) = (Vec::new(), Vec::new());
    for (name, f) in activations {
        let y = f(&x);
        let dy = grad_with(&[&y], &[Some(&y.detach().ones_like())], &[&x], false)?.remove(0).expect("it depends on x");
        values.push((name, points(&y)));
        derivatives.push((name, points(&dy)));
    }
    plots::charts("activations.svg", &[("f(x)", "x", values), ("f'(x), by autograd", "x", derivatives)]);
    println!("\nwrote activations.svg");
    Ok(())
}
