//! Tensors of random numbers. Each function that ends in `_with` takes a generator from the caller; the others draw from
//! the generator of the process, which [`manual_seed`](crate::manual_seed) seeds, or from that of
//! [`random::with`](crate::random::with).

use ndnn_derive::concrete;
use rand::{Rng, RngExt, distr, seq::SliceRandom};
use rand_distr::{Bernoulli, Distribution, StandardNormal};

use super::{DType, Element, Real, Tensor};
use crate::{
    Error, Result,
    kernels::{
        layout::row_major,
        memory::{self, collected},
        random::{Key, fill},
        sizes::{must, room},
        sort,
    },
    random::{draw, is_skipped},
};

/// Uniform over [0, 1): the multiples of 2⁻²⁴ in `f32`, of 2⁻⁵³ in `f64`.
struct Unit;

impl<T: Real> Distribution<T> for Unit {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> T {
        match T::DTYPE {
            DType::F32 => T::of(rng.random::<f32>().into()),
            _ => T::of(rng.random::<f64>()),
        }
    }
}

fn coins(out: &mut [bool], coin: Bernoulli, key: Key) {
    fill(out, &coin, key);
}

#[concrete]
fn units<T: Real>(out: &mut [T], key: Key) {
    fill(out, &Unit, key);
}

#[concrete]
fn between<T: Real>(out: &mut [T], low: T, high: T, key: Key) {
    let range = high - low;
    // Rounding may reach `high`.
    fill(out, &Unit.map(|u: T| if u * range + low < high { u * range + low } else { low }), key);
}

#[concrete]
fn normals<T: Real>(out: &mut [T], mean: T, std: T, key: Key) {
    fill(out, &StandardNormal.map(|z: f64| T::of(z) * std + mean), key);
}

impl<T: Element> Tensor<T> {
    /// Independent samples of any distribution of `rand` or `rand_distr`.
    ///
    /// ```
    /// use ndnn::{Tensor, random::Distribution};
    /// struct Die;
    /// impl Distribution<i64> for Die {
    ///     fn sample<R: ndnn::random::Rng + ?Sized>(&self, rng: &mut R) -> i64 {
    ///         1 + i64::from(rng.next_u32() % 6)
    ///     }
    /// }
    /// assert!(Tensor::sample([10], Die).to_vec().iter().all(|n| (1..=6).contains(n)));
    /// ```
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn sample(shape: impl AsRef<[usize]>, distribution: impl Distribution<T> + Sync) -> Tensor<T> {
        Self::sample_with(shape, distribution, &mut draw())
    }

    /// As [`sample`](Tensor::sample), from the caller's generator. The generator only provides the key of the draw, so
    /// it advances by the same amount whatever the shape.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn sample_with(
        shape: impl AsRef<[usize]>,
        distribution: impl Distribution<T> + Sync,
        rng: &mut (impl Rng + ?Sized),
    ) -> Tensor<T> {
        Self::drawn(shape.as_ref(), Key::of(rng), |out, key| fill(out, &distribution, key))
    }

    #[track_caller]
    fn drawn(shape: &[usize], key: Key, fill: impl FnOnce(&mut [T], Key)) -> Tensor<T> {
        let mut out = memory::full("sample", shape, T::ZERO);
        if !is_skipped() {
            fill(out.as_slice_mut().expect("elements in order"), key);
        }
        out.into()
    }

    /// Ones (`true`) with probability `p` each, zeros (`false`) otherwise.
    ///
    /// # Errors
    /// If `p` is not a probability.
    pub fn bernoulli(shape: impl AsRef<[usize]>, p: f64) -> Result<Tensor<T>> {
        Self::bernoulli_with(shape, p, &mut draw())
    }

    /// As [`bernoulli`](Tensor::bernoulli), from the caller's generator.
    ///
    /// # Errors
    /// If `p` is not a probability.
    pub fn bernoulli_with(shape: impl AsRef<[usize]>, p: f64, rng: &mut (impl Rng + ?Sized)) -> Result<Tensor<T>> {
        let coin = Bernoulli::new(p)
            .map_err(|_| Error::value("bernoulli", format!("expected a probability from 0 to 1, got {p}")))?;
        room::<T>("bernoulli", shape.as_ref())?;
        // Converted afterwards: choosing between two numbers would be a branch, which is mispredicted half the time.
        Ok(Tensor::drawn(shape.as_ref(), Key::of(rng), |out, key| coins(out, coin, key)).cast())
    }
}

impl<T: Real> Tensor<T> {
    /// Uniform over [0, 1).
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn rand(shape: impl AsRef<[usize]>) -> Tensor<T> {
        Self::rand_with(shape, &mut draw())
    }

    /// As [`rand`](Tensor::rand), from the caller's generator.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn rand_with(shape: impl AsRef<[usize]>, rng: &mut (impl Rng + ?Sized)) -> Tensor<T> {
        Self::drawn(shape.as_ref(), Key::of(rng), units)
    }

    /// Normal, with mean 0 and standard deviation 1.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn randn(shape: impl AsRef<[usize]>) -> Tensor<T> {
        Self::randn_with(shape, &mut draw())
    }

    /// As [`randn`](Tensor::randn), from the caller's generator.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn randn_with(shape: impl AsRef<[usize]>, rng: &mut (impl Rng + ?Sized)) -> Tensor<T> {
        Self::drawn(shape.as_ref(), Key::of(rng), |out, key| normals(out, T::ZERO, T::ONE, key))
    }

    /// Uniform over [`low`, `high`).
    ///
    /// # Errors
    /// If `low` is above `high`, or one of them or their difference is not finite.
    pub fn uniform(shape: impl AsRef<[usize]>, low: T, high: T) -> Result<Tensor<T>> {
        Self::uniform_with(shape, low, high, &mut draw())
    }

    /// As [`uniform`](Tensor::uniform), from the caller's generator.
    ///
    /// # Errors
    /// As [`uniform`](Tensor::uniform).
    pub fn uniform_with(
        shape: impl AsRef<[usize]>,
        low: T,
        high: T,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Tensor<T>> {
        let range = high - low;
        if !(range >= T::ZERO && range.is_finite()) {
            return Err(Error::value("uniform", format!("expected a finite range, got {low} to {high}")));
        }
        room::<T>("uniform", shape.as_ref())?;
        Ok(Self::drawn(shape.as_ref(), Key::of(rng), |out, key| between(out, low, high, key)))
    }

    /// Normal, with the given mean and standard deviation.
    ///
    /// # Errors
    /// If the standard deviation is negative or NaN.
    pub fn normal(shape: impl AsRef<[usize]>, mean: T, std: T) -> Result<Tensor<T>> {
        Self::normal_with(shape, mean, std, &mut draw())
    }

    /// As [`normal`](Tensor::normal), from the caller's generator.
    ///
    /// # Errors
    /// As [`normal`](Tensor::normal).
    pub fn normal_with(
        shape: impl AsRef<[usize]>,
        mean: T,
        std: T,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Tensor<T>> {
        if std.is_nan() || std < T::ZERO {
            return Err(Error::value("normal", format!("expected a standard deviation of 0 or more, got {std}")));
        }
        room::<T>("normal", shape.as_ref())?;
        Ok(Self::drawn(shape.as_ref(), Key::of(rng), |out, key| normals(out, mean, std, key)))
    }
}

impl<T: Real> Tensor<T> {
    /// Random numbers in the shape of this tensor, uniform over [0, 1).
    pub fn rand_like(&self) -> Tensor<T> {
        Self::rand(self.shape())
    }

    /// Random numbers in the shape of this tensor, normal, with mean 0 and standard deviation 1.
    pub fn randn_like(&self) -> Tensor<T> {
        Self::randn(self.shape())
    }

    /// Draws `num_samples` categories, numbered from 0, each with a probability in proportion to its weight.
    ///
    /// The weights `(categories)` or `(rows, categories)` need not add up to 1; the result is `(num_samples)` or
    /// `(rows, num_samples)`. Without `replacement` no category is drawn twice.
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let logits = tensor![[0.0, 2.0, 1.0]];
    /// let word = logits.softmax(-1)?.multinomial(1, true)?;
    /// assert_eq!(word.shape(), [1, 1]);
    /// assert_eq!(tensor![0.0, 3.0, 0.0].multinomial(2, true)?, tensor![1, 1]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there are not 1 or 2 axes, `num_samples` is 0, a weight is negative, infinite or NaN, or a row has no weight
    /// above 0 or, without `replacement`, fewer of them than samples.
    pub fn multinomial(&self, num_samples: usize, replacement: bool) -> Result<Tensor<i64>> {
        let (rows, categories) = match *self.shape() {
            [categories] => (1, categories),
            [rows, categories] => (rows, categories),
            _ => {
                let what = format!("expected weights of 1 or 2 axes, got {:?}", self.shape());
                return Err(Error::shape("multinomial", what));
            }
        };
        let shape = [&self.shape()[..self.ndim() - 1], &[num_samples]].concat();
        let weights = self.detach().cast::<f64>();
        let drawn = match replacement {
            true => draws::repeated(&row_major(&weights.view()), [rows, categories], num_samples),
            false => draws::distinct(&row_major(&weights.view()), [rows, categories], num_samples),
        };
        Tensor::from_vec(shape, drawn?)
    }
}

/// Draws of categories by weight.
mod draws {
    use super::*;

    const OP: &str = "multinomial";

    /// The weights of a row, divided by the largest, so that their sum is finite.
    fn scaled(row: &[f64], number: usize) -> Result<Vec<f64>> {
        if let Some(bad) = row.iter().find(|w| !(0. ..f64::INFINITY).contains(*w)) {
            return Err(Error::value(OP, format!("a weight is finite and at least 0, got {bad} in row {number}")));
        }
        let most = row.iter().copied().fold(0., f64::max);
        if most == 0. {
            return Err(Error::value(OP, format!("row {number} has no weight above 0")));
        }
        Ok(row.iter().map(|w| w / most).collect())
    }

    fn checked([rows, categories]: [usize; 2], samples: usize) -> Result<()> {
        if samples == 0 {
            return Err(Error::value(OP, "num_samples is at least 1, got 0"));
        }
        room::<f64>(OP, &[rows, samples.max(categories)]).map(|_| ())
    }

    pub(super) fn repeated(weights: &[f64], sizes: [usize; 2], samples: usize) -> Result<Vec<i64>> {
        checked(sizes, samples)?;
        let [rows, categories] = sizes;
        let uniform = Tensor::<f64>::rand([rows, samples]).to_vec();
        let mut drawn = memory::buffer(rows * samples);
        for row in 0..rows {
            let mut sums = scaled(&weights[row * categories..][..categories], row)?;
            (1..categories).for_each(|i| sums[i] += sums[i - 1]);
            let total = sums.last().copied().unwrap_or(0.);
            // The first sum above the number: never a category of weight 0, whose sum equals the one before it.
            let last = sums.partition_point(|&sum| sum < total);
            let of = |u: &f64| sums.partition_point(|&sum| sum <= u * total).min(last) as i64;
            drawn.extend(uniform[row * samples..][..samples].iter().map(of));
        }
        Ok(drawn)
    }

    /// Each category gets a random time from the exponential distribution whose rate is its weight; categories are drawn
    /// in the order of their times.
    pub(super) fn distinct(weights: &[f64], sizes: [usize; 2], samples: usize) -> Result<Vec<i64>> {
        checked(sizes, samples)?;
        let [rows, categories] = sizes;
        let uniform = Tensor::<f64>::rand([rows, categories]).to_vec();
        let mut drawn = memory::buffer(rows * samples);
        for row in 0..rows {
            let weights = scaled(&weights[row * categories..][..categories], row)?;
            // Logarithms of the times, which distinguish even the smallest weights.
            let time = |i: usize| (-(1. - uniform[row * categories + i]).ln()).ln() - weights[i].ln();
            let mut choices = Vec::new();
            for (i, &weight) in weights.iter().enumerate() {
                if weight > 0. {
                    choices.push(i);
                }
            }
            if choices.len() < samples {
                let what = format!("{samples} samples without replacement need as many weights above 0");
                return Err(Error::value(OP, format!("{what}; row {row} has {}", choices.len())));
            }
            let order = sort::order(choices.len(), &|i| sort::rank(time(choices[i])));
            for &i in &order[..samples] {
                drawn.push(choices[i] as i64);
            }
        }
        Ok(drawn)
    }
}

impl Tensor<i64> {
    /// Integers from `low` (included) to `high` (excluded), all equally likely.
    ///
    /// # Errors
    /// If there is no such integer.
    pub fn randint(low: i64, high: i64, shape: impl AsRef<[usize]>) -> Result<Tensor<i64>> {
        Self::randint_with(low, high, shape, &mut draw())
    }

    /// As [`randint`](Tensor::randint), from the caller's generator.
    ///
    /// # Errors
    /// As [`randint`](Tensor::randint).
    pub fn randint_with(
        low: i64,
        high: i64,
        shape: impl AsRef<[usize]>,
        rng: &mut (impl Rng + ?Sized),
    ) -> Result<Tensor<i64>> {
        let range = distr::Uniform::new(low, high)
            .map_err(|_| Error::value("randint", format!("there is no integer from {low} up to but without {high}")))?;
        room::<i64>("randint", shape.as_ref())?;
        Ok(Self::sample_with(shape, range, rng))
    }

    /// The integers from 0 to `n` (excluded) in random order, all orders equally likely.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn randperm(n: usize) -> Tensor<i64> {
        Self::randperm_with(n, &mut draw())
    }

    /// As [`randperm`](Tensor::randperm), from the caller's generator.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn randperm_with(n: usize, rng: &mut (impl Rng + ?Sized)) -> Tensor<i64> {
        must::<i64>("randperm", &[n]);
        let mut order = collected(0..n as i64);
        order.shuffle(rng);
        order.into()
    }
}
