//! Reads strings of handwritten digits of any length, without being told where a digit begins:
//! `cargo run --release --example reading`.
//!
//! A convolutional network looks at the image, a recurrent one reads its columns from left to right and back, and the CTC
//! loss finds out by itself which columns belong to which digit.

use ndnn::{data::idx, functional as F, nn::utils::rnn, prelude::*};

/// Where there is no digit; the digits are classes 1 to 10.
const BLANK: i64 = 0;
/// Columns of the image per column that is read.
const COLUMNS: usize = 4;

/// Digits from which strings are drawn.
struct Digits {
    images: Tensor,
    labels: Vec<i64>,
}

impl Digits {
    fn load(train: bool) -> Result<Self> {
        let (images, labels) = idx::mnist("data/mnist", train)?;
        Ok(Digits { images, labels: labels.to_vec() })
    }

    /// Images of three to six digits side by side, a few columns nearer to each other or further apart, as `(batch, 1, 28,
    /// width)`; how many columns of each are read; the strings as classes.
    fn strings(&self, batch: usize) -> Result<(Tensor, Vec<usize>, Vec<Vec<i64>>)> {
        let (mut images, mut widths, mut strings) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..batch {
            let count = Tensor::<i64>::randint(3, 7, [1])?.item()? as usize;
            let chosen = Tensor::<i64>::randint(0, self.labels.len() as i64, [count])?;
            let mut pieces = Vec::new();
            for &digit in &chosen.to_vec() {
                let image = self.images.select(0, digit as isize)?.reshape([28, 28])?;
                let cut = Tensor::<i64>::randint(-3, 4, [1])?.item()? as isize;
                // Columns first: axis 0 is that along which digits are joined.
                pieces.push(F::pad(&image.t()?, [0, 0, -cut, -cut], F::PadOptions::default())?);
            }
            let string = Tensor::cat(&pieces, 0)?;
            widths.push(string.shape()[0] / COLUMNS);
            images.push(string);
            strings.push(chosen.to_vec().iter().map(|&digit| self.labels[digit as usize] + 1).collect());
        }
        let padded = rnn::pad_sequence(&images, rnn::PadSequenceOptions::default().batch_first(true))?;
        Ok((padded.transpose(1, 2)?.unsqueeze(1)?, widths, strings))
    }
}

#[derive(Module)]
struct Reader {
    look: Sequential,
    read: GRU,
    scores: Linear,
}

impl Reader {
    fn new() -> Self {
        let conv = |from, to| Conv2d::new(from, to, 3).padding(1);
        Reader {
            look: sequential![conv(1, 16), ReLU, MaxPool2d::new(2), conv(16, 32), ReLU, MaxPool2d::new(2)],
            read: GRU::new(32 * 7, 64).bidirectional(true),
            scores: Linear::new(128, 11),
        }
    }

    /// The logarithm of the probability of each class at each column, `(columns, batch, 11)`.
    fn forward(&self, images: &Tensor, widths: &[usize]) -> Result<Tensor> {
        let seen = self.look.forward(images)?.permute([3, 0, 1, 2])?.flatten(2, -1)?;
        let (read, _) = self.read.forward_lengths(&seen, None, widths)?;
        self.scores.forward(&read)?.log_softmax(-1)
    }

    /// The most likely class of each column, with runs of one class as one, and without blanks.
    fn strings(&self, images: &Tensor, widths: &[usize]) -> Result<Vec<Vec<i64>>> {
        let best = no_grad(|| self.forward(images, widths))?.argmax(Some(-1), false)?.t()?;
        let read = |(row, &width): (&[i64], &usize)| {
            let mut classes = row[..width].to_vec();
            classes.dedup();
            classes.retain(|&class| class != BLANK);
            classes
        };
        let columns = best.shape()[1];
        Ok(best.to_vec().chunks(columns).zip(widths).map(read).collect())
    }
}

fn main() -> Result<()> {
    ndnn::manual_seed(0);
    let (train, test) = (Digits::load(true)?, Digits::load(false)?);
    let mut model = Reader::new();
    let mut adam = optim::Adam::new(&model, 2e-3);
    let mut total = 0.;
    for step in 1..=1500 {
        let (images, widths, strings) = train.strings(32)?;
        let lengths: Vec<usize> = strings.iter().map(Vec::len).collect();
        let targets = Tensor::from(strings.concat());
        let log_probs = model.forward(&images, &widths)?;
        let loss = F::ctc_loss(&log_probs, &targets, &widths, &lengths, Default::default())?;
        adam.zero_grad();
        loss.backward()?;
        utils::clip_grad_norm(&model, 5.)?;
        adam.step()?;
        total += loss.item()?;
        if step % 250 == 0 {
            println!("step {step}: loss {:.4}", total / 250.);
            total = 0.;
        }
        if step == 1000 {
            adam.set_lr(5e-4);
        }
    }

    model.eval();
    let (mut wrong, mut digits, mut strings_wrong) = (0, 0, 0);
    for _ in 0..20 {
        let (images, widths, strings) = test.strings(50)?;
        for (string, read) in strings.iter().zip(model.strings(&images, &widths)?) {
            wrong += distance(string, &read);
            digits += string.len();
            strings_wrong += usize::from(*string != read);
        }
    }
    println!("digit error rate {:.2} %", 100. * wrong as f32 / digits as f32);
    println!("{strings_wrong} of 1000 strings have a mistake");
    Ok(())
}

/// The number of digits to change, insert or remove.
fn distance(a: &[i64], b: &[i64]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut corner = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let changed = corner + usize::from(x != y);
            corner = row[j + 1];
            row[j + 1] = changed.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}
