//! A network in f64 fitted to an ordinary differential equation through second derivatives:
//! `cargo run --release --example physics`.
//!
//! The damped oscillator u'' + 0.4 u' + 4 u = 0 with u(0) = 1, u'(0) = 0 on 0 ≤ t ≤ 4: there is no data; the equation
//! is the loss.

use ndnn::{autograd::grad_with, prelude::*};

const DAMPING: f64 = 0.4;
const STIFFNESS: f64 = 4.;

/// The exact solution.
fn exact(t: f64) -> f64 {
    let decay = DAMPING / 2.;
    let omega = (STIFFNESS - decay * decay).sqrt();
    (-decay * t).exp() * ((omega * t).cos() + decay / omega * (omega * t).sin())
}

/// The derivative of each element of `y` with respect to the element of `t` from which it was computed.
fn derivative(y: &Tensor<f64>, t: &Tensor<f64>) -> Result<Tensor<f64>> {
    let ones = y.detach().ones_like();
    Ok(grad_with(&[y], &[Some(&ones)], &[t], true)?.remove(0).expect("y depends on t"))
}

fn main() -> Result<()> {
    ndnn::manual_seed(0);
    let net: Sequential<f64> =
        sequential![f64; Linear::new(1, 32), Tanh, Linear::new(32, 32), Tanh, Linear::new(32, 1)];
    println!("{net}");

    let t = Tensor::linspace(0., 4., 81).unsqueeze(1)?.set_requires_grad(true);
    let mut adam = optim::Adam::new(&net, 5e-3);
    for step in 1..=4000 {
        if step == 3000 {
            adam.set_lr(1e-3);
        }
        // u = 1 + t² · net(t) satisfies the initial conditions by construction.
        let u = net.forward(&t)? * t.square() + 1.;
        let du = derivative(&u, &t)?;
        let d2u = derivative(&du, &t)?;
        let loss = (d2u + du * DAMPING + u * STIFFNESS).square().mean();
        adam.zero_grad();
        t.zero_grad();
        loss.backward()?;
        adam.step()?;
        if step % 1000 == 0 {
            println!("step {step}  mean squared residual {:.2e}", loss.item()?);
        }
    }

    let u = no_grad(|| Ok::<_, ndnn::Error>(net.forward(&t)? * t.square() + 1.))?;
    let error = u.view().iter().zip(t.view()).map(|(u, &t)| (u - exact(t)).abs()).fold(0., f64::max);
    println!("largest error against the exact solution: {error:.1e}");
    assert!(error < 0.05, "the network did not find the solution");
    Ok(())
}
