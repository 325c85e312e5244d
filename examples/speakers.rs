//! Who is speaking? A bidirectional GRU tells nine speakers apart by two vowels, recorded as sequences of unequal length:
//! `cargo run --release --example speakers`.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

use flate2::read::GzDecoder;
use ndnn::{
    functional as F,
    nn::utils::rnn::{PadSequenceOptions, pad_sequence},
    prelude::*,
};

/// Recordings, each of shape (steps, 12), and their speakers.
struct Recordings {
    sequences: Vec<Tensor>,
    speakers: Vec<i64>,
}

impl Recordings {
    /// Reads lines of the form `channel:channel:…:label`, whose channels are numbers separated by commas.
    fn read(part: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let file = File::open(format!("data/JapaneseVowels_{part}.ts.gz"))?;
        let (mut sequences, mut speakers) = (Vec::new(), Vec::new());
        for line in BufReader::new(GzDecoder::new(file)).lines() {
            let line = line?;
            if line.starts_with(['#', '@']) {
                continue;
            }
            let (channels, label) = line.rsplit_once(':').ok_or("a line without a label")?;
            let mut numbers = Vec::new();
            for number in channels.split([':', ',']) {
                numbers.push(number.parse::<f32>()?);
            }
            sequences.push(Tensor::from_vec([12, numbers.len() / 12], numbers)?.t()?);
            speakers.push(label.parse::<i64>()? - 1);
        }
        Ok(Recordings { sequences, speakers })
    }

    fn len(&self) -> usize {
        self.speakers.len()
    }

    /// Some of the recordings side by side, padded to the longest; their lengths; the speakers.
    fn batch(&self, chosen: &[usize]) -> Result<(Tensor, Vec<usize>, Tensor<i64>)> {
        let sequences: Vec<Tensor> = chosen.iter().map(|&i| self.sequences[i].clone()).collect();
        let lengths = sequences.iter().map(|sequence| sequence.shape()[0]).collect();
        let speakers = chosen.iter().map(|&i| self.speakers[i]).collect();
        Ok((
            pad_sequence(&sequences, PadSequenceOptions::default().batch_first(true))?,
            lengths,
            Tensor::from_vec([chosen.len()], speakers)?,
        ))
    }
}

#[derive(Module)]
struct Listener {
    gru: GRU,
    dropout: Dropout,
    scores: Linear,
}

impl Listener {
    fn new() -> Self {
        Listener {
            gru: GRU::new(12, 64).bidirectional(true).batch_first(true),
            dropout: Dropout::new(0.3),
            scores: Linear::new(128, 9),
        }
    }

    /// Scores of the nine speakers, from the last state of both directions.
    fn forward(&self, x: &Tensor, lengths: &[usize]) -> Result<Tensor> {
        let (_, last) = self.gru.forward_lengths(x, None, lengths)?;
        let both = Tensor::cat(&[last.select(0, 0)?, last.select(0, 1)?], 1)?;
        self.scores.forward(&self.dropout.forward(&both)?)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    ndnn::manual_seed(0);
    let (train, test) = (Recordings::read("TRAIN")?, Recordings::read("TEST")?);
    println!("{} recordings to learn from, {} to test on", train.len(), test.len());
    let mut model = Listener::new();
    let mut adam = optim::AdamW::new(&model, 3e-3).weight_decay(0.01);
    for epoch in 1..=40 {
        let order: Vec<usize> = Tensor::<i64>::randperm(train.len()).to_vec().iter().map(|&i| i as usize).collect();
        let mut total = 0.;
        for chosen in order.chunks(30) {
            let (x, lengths, speakers) = train.batch(chosen)?;
            let loss = F::cross_entropy(&model.forward(&x, &lengths)?, &speakers, Default::default())?;
            adam.zero_grad();
            loss.backward()?;
            adam.step()?;
            total += loss.item()? * chosen.len() as f32;
        }
        if epoch % 10 == 0 {
            println!("epoch {epoch:2}: loss {:.4}", total / train.len() as f32);
        }
    }
    model.eval();
    let all: Vec<usize> = (0..test.len()).collect();
    let (x, lengths, speakers) = test.batch(&all)?;
    let heard = no_grad(|| model.forward(&x, &lengths))?.argmax(Some(1), false)?;
    let right = heard.eq(&speakers)?.cast::<f32>().mean().item()?;
    println!("{:.1} % of the test recordings are recognised", 100. * right);
    Ok(())
}
