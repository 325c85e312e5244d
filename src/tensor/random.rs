//! Tensors of random numbers. Each function ending in `_with` takes the caller's generator; the other draws from the
//! process's own, which [`manual_seed`](crate::manual_seed) seeds.

use ndnn_derive::concrete;
use rand::{Rng, RngExt, distr, seq::SliceRandom};
use rand_distr::{Bernoulli, Distribution, StandardNormal};

use super::{DType, Element, Real, Tensor};
use crate::{
    Error, Result,
    kernels::{
        memory::{self, collected},
        random::{Key, fill},
        sizes::{must, room},
    },
    random::draw,
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
    #[track_caller]
    pub fn sample(shape: impl AsRef<[usize]>, distribution: impl Distribution<T> + Sync) -> Tensor<T> {
        Self::sample_with(shape, distribution, &mut draw())
    }

    /// As [`sample`](Tensor::sample), from the caller's generator: it gives the key of the draw, so that it advances by the same
    /// amount whatever the shape.
    #[track_caller]
    pub fn sample_with(
        shape: impl AsRef<[usize]>,
        distribution: impl Distribution<T> + Sync,
        rng: &mut (impl Rng + ?Sized),
    ) -> Tensor<T> {
        Self::filled(shape.as_ref(), Key::of(rng), |out, key| fill(out, &distribution, key))
    }

    #[track_caller]
    fn filled(shape: &[usize], key: Key, fill: impl FnOnce(&mut [T], Key)) -> Tensor<T> {
        let mut out = memory::full("sample", shape, T::ZERO);
        fill(out.as_slice_mut().expect("elements in order"), key);
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
        // Converted afterwards: between two numbers the compiler branches, which a fair coin mispredicts.
        Ok(Tensor::filled(shape.as_ref(), Key::of(rng), |out, key| coins(out, coin, key)).cast())
    }
}

impl<T: Real> Tensor<T> {
    /// Uniform over [0, 1).
    #[track_caller]
    pub fn rand(shape: impl AsRef<[usize]>) -> Tensor<T> {
        Self::rand_with(shape, &mut draw())
    }

    /// As [`rand`](Tensor::rand), from the caller's generator.
    #[track_caller]
    pub fn rand_with(shape: impl AsRef<[usize]>, rng: &mut (impl Rng + ?Sized)) -> Tensor<T> {
        Self::filled(shape.as_ref(), Key::of(rng), units)
    }

    /// Normal, of mean 0 and standard deviation 1.
    #[track_caller]
    pub fn randn(shape: impl AsRef<[usize]>) -> Tensor<T> {
        Self::randn_with(shape, &mut draw())
    }

    /// As [`randn`](Tensor::randn), from the caller's generator.
    #[track_caller]
    pub fn randn_with(shape: impl AsRef<[usize]>, rng: &mut (impl Rng + ?Sized)) -> Tensor<T> {
        Self::filled(shape.as_ref(), Key::of(rng), |out, key| normals(out, T::ZERO, T::ONE, key))
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
        Ok(Self::filled(shape.as_ref(), Key::of(rng), |out, key| between(out, low, high, key)))
    }

    /// Normal, of the given mean and standard deviation.
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
        Ok(Self::filled(shape.as_ref(), Key::of(rng), |out, key| normals(out, mean, std, key)))
    }
}

impl Tensor<i64> {
    /// Integers from `low` up to but without `high`, each as likely.
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

    /// The integers from 0 up to but without `n` in random order, each order as likely.
    #[track_caller]
    pub fn randperm(n: usize) -> Tensor<i64> {
        Self::randperm_with(n, &mut draw())
    }

    /// As [`randperm`](Tensor::randperm), from the caller's generator.
    #[track_caller]
    pub fn randperm_with(n: usize, rng: &mut (impl Rng + ?Sized)) -> Tensor<i64> {
        must::<i64>("randperm", &[n]);
        let mut order = collected(0..n as i64);
        order.shuffle(rng);
        order.into()
    }
}
