//! The same network built twice, from layers and from plain functions, with equal outputs and gradients: `cargo run
//! --release --example functional`.

use ndnn::{functional as F, prelude::*};

fn main() -> Result<()> {
    ndnn::manual_seed(3);
    let digits = ndnn::data::Csv::new().load::<f32>("data/digits.csv.gz")?;
    let x = digits.narrow(0, 0, 32)?.narrow(1, 0, 64)? / 16.;
    let y = digits.narrow(0, 0, 32)?.select(1, 64)?.cast::<i64>();

    // From layers, which hold the parameters.
    let model = sequential![Linear::new(64, 32), GELU::default(), LayerNorm::new(32), Linear::new(32, 10)];
    let layers = model.forward(&x)?;
    let loss = CrossEntropyLoss::new().forward(&layers, &y)?;
    loss.backward()?;

    // From functions: the parameters are tensors, here copies of those of the layers.
    let state = model.state_dict();
    let param = |name: &str| state.get(name).expect("a parameter of the model").to::<f32>().set_requires_grad(true);
    let [w0, b0, w2, b2, w3, b3] = ["0.weight", "0.bias", "2.weight", "2.bias", "3.weight", "3.bias"].map(param);
    let h = F::linear(&x, &w0, Some(&b0))?;
    let h = F::gelu(&h, F::GELUApproximate::None);
    let h = F::layer_norm(&h, &[32], Some(&w2), Some(&b2), 1e-5)?;
    let functions = F::linear(&h, &w3, Some(&b3))?;
    let loss_of_functions = F::cross_entropy(&functions, &y, Default::default())?;
    loss_of_functions.backward()?;

    println!("loss from layers    {:.6}", loss.item()?);
    println!("loss from functions {:.6}", loss_of_functions.item()?);
    assert_eq!(layers.detach(), functions.detach());
    for ((name, layer), tensor) in model.named_parameters().iter().zip([&w0, &b0, &w2, &b2, &w3, &b3]) {
        let gradient = layer.grad().expect("a gradient").to::<f32>();
        println!("{name:9} gradient of norm {:.6}, the same in both", gradient.norm(2., (), false)?.item()?);
        assert_eq!(Some(gradient), tensor.grad());
    }
    Ok(())
}
