//! Loads a table, splits it, trains, predicts, saves, and loads again: `cargo run --release --example iris`.

use ndnn::{
    data::{Csv, DataLoader, Dataset, TensorDataset, random_split},
    functional as F,
    prelude::*,
};

const SPECIES: [&str; 3] = ["setosa", "versicolor", "virginica"];

fn model() -> Sequential {
    sequential![Linear::new(4, 16), Tanh, Linear::new(16, 3)]
}

fn main() -> Result<()> {
    ndnn::manual_seed(7);
    // Four measurements in centimetres and the species of 150 flowers.
    let table = Csv::new().header(true).load::<f32>("data/iris.csv")?;
    let x = table.narrow(1, 0, 4)?;
    let y = table.select(1, 4)?.cast::<i64>();

    // Standardizes each measurement to mean 0 and standard deviation 1.
    let x = (&x - x.mean_dim(0, true)?) / x.std_dim(0, 1., true)?;
    let [train, test] = random_split(TensorDataset::new((x, y))?, [120, 30])?;

    let mut net = model();
    println!("{net}");
    let mut sgd = optim::SGD::new(&net, 0.1).momentum(0.9);
    let batches = DataLoader::new(train, 16).shuffle(true);
    net.train();
    for epoch in 0..40 {
        let mut total = 0.;
        for (x, y) in batches.epoch(epoch) {
            let loss = F::cross_entropy(&net.forward(&x)?, &y, Default::default())?;
            sgd.zero_grad();
            loss.backward()?;
            sgd.step()?;
            total += loss.item()?;
        }
        if epoch % 10 == 9 {
            println!("epoch {:2}  loss {:.4}", epoch + 1, total / batches.len() as f32);
        }
    }

    net.eval();
    let (x, y) = test.batch(&(0..test.len()).collect::<Vec<_>>())?;
    let predicted = no_grad(|| net.forward(&x)?.argmax(Some(1), false))?;
    let right = predicted.eq(&y)?.cast::<i64>().sum().item()?;
    println!("{right} of {} test flowers named right", test.len());

    net.save("iris.safetensors")?;
    let mut again = model();
    again.load("iris.safetensors")?;
    again.eval();
    let probabilities = F::softmax(&no_grad(|| again.forward(&x.narrow(0, 0, 1)?))?, 1)?;
    let (best, class) = probabilities.max_dim(1, false)?;
    println!(
        "loaded again: the first test flower is {} ({:.1} %), and is in truth {}",
        SPECIES[class.item()? as usize],
        best.item()? * 100.,
        SPECIES[y.view()[0] as usize]
    );
    assert_eq!(no_grad(|| again.forward(&x))?, no_grad(|| net.forward(&x))?);
    Ok(())
}
