//! A small transformer learns first names letter by letter and invents new ones:
//! `cargo run --release --example names [temperature]`.

use std::{collections::HashSet, fs};

use ndnn::{functional as F, prelude::*};

/// The end of a name, which is also its beginning; then the letters a to z.
const LETTERS: usize = 27;
/// The longest name, with its end.
const LONGEST: usize = 16;

#[derive(Module)]
struct Namer {
    letter: Embedding,
    place: Embedding,
    encoder: TransformerEncoder,
    norm: LayerNorm,
    scores: Linear,
}

impl Namer {
    fn new() -> Self {
        let layer = TransformerEncoderLayer::new(64, 4).dim_feedforward(256).dropout(0.1).norm_first(true);
        Namer {
            letter: Embedding::new(LETTERS, 64),
            place: Embedding::new(LONGEST, 64),
            encoder: TransformerEncoder::new(layer.batch_first(true).activation("gelu"), 2),
            norm: LayerNorm::new(64),
            scores: Linear::new(64, LETTERS),
        }
    }

    /// What is known of letters at places from `first` on.
    fn embed(&self, letters: &Tensor<i64>, first: i64) -> Result<Tensor> {
        let steps = letters.shape()[1] as i64;
        let places = Tensor::<i64>::arange(first, first + steps, 1)?;
        Ok(self.letter.forward(letters)? + self.place.forward(&places)?)
    }

    /// Scores of the letter that follows each letter, for whole names.
    fn forward(&self, letters: &Tensor<i64>) -> Result<Tensor> {
        let steps = letters.shape()[1];
        let causal = TransformerEncoderOptions::default().src_mask(F::AttentionMask::causal(steps, steps)?);
        let x = self.encoder.forward(&self.embed(letters, 0)?, causal)?;
        self.scores.forward(&self.norm.forward(&x)?)
    }

    /// Draws a name letter by letter. What the encoder computed for earlier letters is kept, so each costs one step.
    fn invent(&self, temperature: f32) -> Result<String> {
        let (mut name, mut letter, mut cache) = (String::new(), 0, F::KeyValueCache::default());
        for place in 0..LONGEST as i64 {
            let x = self.embed(&tensor![[letter]], place)?;
            let x = self.encoder.forward_cached(&x, &mut cache)?;
            let scores = self.scores.forward(&self.norm.forward(&x)?)?.reshape([LETTERS])? / temperature;
            letter = F::softmax(&scores, 0)?.multinomial(1, false)?.item()?;
            if letter == 0 {
                break;
            }
            name.push((b'a' + letter as u8 - 1) as char);
        }
        Ok(name)
    }
}

/// Each name as the letters 0, n, a, m, e and, shifted by one, n, a, m, e, 0; −100 is ignored.
fn letters(names: &[&str]) -> Result<(Tensor<i64>, Tensor<i64>)> {
    let (mut input, mut target) = (vec![0; names.len() * LONGEST], vec![-100; names.len() * LONGEST]);
    for (i, name) in names.iter().enumerate() {
        for (place, letter) in name.bytes().enumerate() {
            let letter = i64::from(letter - b'a') + 1;
            input[i * LONGEST + place + 1] = letter;
            target[i * LONGEST + place] = letter;
        }
        target[i * LONGEST + name.len()] = 0;
    }
    let shape = [names.len(), LONGEST];
    Ok((Tensor::from_vec(shape, input)?, Tensor::from_vec(shape, target)?))
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ndnn::manual_seed(0);
    let temperature = std::env::args().nth(1).map_or(Ok(0.8), |text| text.parse())?;
    let text = fs::read_to_string("data/names.txt")?.to_lowercase();
    let plain = |name: &&str| name.len() < LONGEST && name.bytes().all(|letter| letter.is_ascii_lowercase());
    let names: Vec<&str> = text.lines().filter(plain).collect();
    let (input, target) = letters(&names)?;

    let mut model = Namer::new();
    println!("{} names, {} parameters", names.len(), model.num_parameters());
    let mut adam = optim::AdamW::new(&model, 2e-3);
    let epochs = 12;
    for epoch in 1..=epochs {
        adam.set_lr(2e-3 * (1. - f64::from(epoch - 1) / f64::from(epochs)));
        let (order, mut total, mut batches) = (Tensor::<i64>::randperm(names.len()), 0., 0);
        for chosen in order.split(64, 0)? {
            let (x, y) = (input.index_select(0, &chosen)?, target.index_select(0, &chosen)?);
            let scores = model.forward(&x)?.reshape((-1, LETTERS))?;
            let loss = F::cross_entropy(&scores, &y.reshape([-1])?, Default::default())?;
            adam.zero_grad();
            loss.backward()?;
            adam.step()?;
            (total, batches) = (total + loss.item()?, batches + 1);
        }
        println!("epoch {epoch:2}: loss {:.3}", total / batches as f32);
    }

    model.eval();
    let known: HashSet<&str> = names.into_iter().collect();
    println!("invented at temperature {temperature} (* is new):");
    for _ in 0..20 {
        let name = no_grad(|| model.invent(temperature))?;
        let mark = if known.contains(name.as_str()) { " " } else { "*" };
        println!("  {mark} {name}");
    }
    Ok(())
}
