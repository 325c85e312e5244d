//! Products whose partial products may lie outside the range of `f64`, running products, and their derivatives.

use ndarray::{ArrayD, ArrayViewD, Axis};

use super::{
    elementwise::map,
    gather::Rows,
    layout::{Shared, array, row_major},
    memory::{collected, filled, full, vector},
    reduce::fold,
    scalar::max_nan,
};
use crate::number::Number;

/// `digits · 2^exponent`, where the magnitude of `digits` is from 1 up to 2, or 0, ∞ or NaN: a float that neither
/// overflows nor underflows.
#[derive(Clone, Copy)]
struct Wide {
    digits: f64,
    exponent: i64,
}

impl Wide {
    const ONE: Wide = Wide { digits: 1., exponent: 0 };
    const ZERO: Wide = Wide { digits: 0., exponent: 0 };

    fn new(digits: f64, exponent: i64) -> Self {
        if digits == 0. || !digits.is_finite() {
            return Wide { digits, exponent: 0 };
        }
        let (bits, field) = (digits.to_bits(), 0x7FF << 52);
        match (bits & field) >> 52 {
            // A subnormal number, made normal by an exact product.
            0 => Self::new(digits * 2f64.powi(64), exponent - 64),
            e => Wide { digits: f64::from_bits(bits & !field | 1023 << 52), exponent: exponent + e as i64 - 1023 },
        }
    }

    fn of(x: impl Number) -> Self {
        Self::new(x.as_f64(), 0)
    }

    fn times(self, other: Wide) -> Self {
        Self::new(self.digits * other.digits, self.exponent + other.exponent)
    }

    fn plus(self, other: Wide) -> Self {
        let (high, low) = if self.exponent >= other.exponent { (self, other) } else { (other, self) };
        if high.digits == 0. {
            return low;
        }
        // What is 2^200 times smaller does not change the sum.
        Self::new(
            high.digits + low.digits * 2f64.powi(-((high.exponent - low.exponent).min(200) as i32)),
            high.exponent,
        )
    }

    fn to<T: Number>(self) -> T {
        let exponent = self.exponent.clamp(-1300, 1300) as i32;
        // In two steps, of which only the second may round.
        T::of(self.digits * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2))
    }
}

/// The product of floats along `axis`, which is removed. It is correct whenever it can be represented, whatever the
/// partial products.
pub fn product<T: Number>(x: ArrayViewD<'_, T>, axis: usize) -> Shared<T> {
    let n = x.len_of(Axis(axis));
    let size = map(&x, |x| x.as_f64().abs().max(x.as_f64().abs().recip()));
    let all: Vec<usize> = (0..x.ndim()).collect();
    let most = fold(size.view(), &all, 1., max_nan).into_iter().fold(1., max_nan);
    if n as f64 * most.log2() < 1000. {
        // No partial product can leave the range of f64.
        let x = map(&x, |x| x.as_f64());
        return map(&fold(x.view(), &[axis], 1., |a, b| a * b), T::of);
    }
    let Rows { outer, len, inner } = Rows::new(x.shape(), axis);
    let mut products = filled(outer * inner, Wide::ONE);
    for (i, row) in row_major(&x).chunks_exact(inner.max(1)).enumerate() {
        let at = i / len * inner;
        products[at..].iter_mut().zip(row).for_each(|(product, &x)| *product = product.times(Wide::of(x)));
    }
    let mut shape = x.shape().to_vec();
    shape.remove(axis);
    array(&shape, collected(products.into_iter().map(Wide::to))).into_shared()
}

/// The product so far of `xᵢ + Σᵣ εᵣ uᵣᵢ`, where each εᵣ² is 0: one coefficient for each subset of the ε, indexed by
/// its bits.
struct Product(Vec<Wide>);

impl Product {
    fn one(tangents: usize) -> Self {
        let mut of = vec![Wide::ZERO; 1 << tangents];
        of[0] = Wide::ONE;
        Product(of)
    }

    fn times(&mut self, x: Wide, tangents: &[Wide]) {
        // The largest subset first: the smaller ones that it reads must still be those from before this factor.
        for set in (0..self.0.len()).rev() {
            let with = |sum: Wide, (r, u): (usize, &Wide)| match set >> r & 1 {
                1 => sum.plus(self.0[set ^ 1 << r].times(*u)),
                _ => sum,
            };
            self.0[set] = tangents.iter().enumerate().fold(self.0[set].times(x), with);
        }
    }
}

/// The lanes of an array and of others with its shape, one after another, and a result of that shape.
fn lanes<T: Number>(
    x: ArrayViewD<'_, T>,
    others: &[ArrayViewD<'_, T>],
    axis: usize,
    f: impl Fn(&[Wide], &[Vec<Wide>], &mut [Wide]),
) -> ArrayD<T> {
    let mut out = full("cumprod", x.shape(), T::ZERO);
    if x.is_empty() {
        // There may be very many lanes without elements.
        return out;
    }
    let wide = |lane: ndarray::ArrayView1<'_, T>| collected(lane.iter().map(|&x| Wide::of(x)));
    let mut lanes: Vec<_> = others.iter().map(|other| other.lanes(Axis(axis)).into_iter()).collect();
    for (x, mut out) in x.lanes(Axis(axis)).into_iter().zip(out.lanes_mut(Axis(axis))) {
        let others: Vec<_> = lanes.iter_mut().map(|lanes| wide(lanes.next().expect("a shape in common"))).collect();
        let mut result = filled(x.len(), Wide::ZERO);
        f(&wide(x), &others, &mut result);
        out.iter_mut().zip(result).for_each(|(out, result)| *out = result.to());
    }
    out
}

/// The tangents at place `i`.
fn at(tangents: &[Vec<Wide>], i: usize) -> Vec<Wide> {
    tangents.iter().map(|tangent| tangent[i]).collect()
}

/// For each place `k` the coefficient of `ε₁ … εᵣ` in `Π (xⱼ + Σ εᵣ uᵣⱼ)` over `j ≤ k`; without tangents, the running
/// product.
pub fn running<T: Number>(x: ArrayViewD<'_, T>, tangents: &[ArrayViewD<'_, T>], axis: usize) -> ArrayD<T> {
    lanes(x, tangents, axis, |x, tangents, out| {
        let mut product = Product::one(tangents.len());
        for (i, out) in out.iter_mut().enumerate() {
            product.times(x[i], &at(tangents, i));
            *out = product.0[product.0.len() - 1];
        }
    })
}

/// The derivative of `Σₖ wₖ` [`running`]`ₖ` with respect to each `xᵢ`, without a division, which would fail at zeros:
/// `(x₀ … xᵢ₋₁)(wᵢ + xᵢ₊₁(wᵢ₊₁ + xᵢ₊₂(…)))`.
pub fn running_gradient<T: Number>(
    x: ArrayViewD<'_, T>,
    weights: ArrayViewD<'_, T>,
    tangents: &[ArrayViewD<'_, T>],
    axis: usize,
) -> ArrayD<T> {
    let others: Vec<_> = std::iter::once(&weights).chain(tangents).map(|other| other.view()).collect();
    lanes(x, &others, axis, |x, others, out| {
        let (weights, tangents) = others.split_first().expect("weights");
        let full = (1 << tangents.len()) - 1;
        let mut after = Product(vec![Wide::ZERO; full + 1]);
        let mut behind = vector(x.len());
        for i in (0..x.len()).rev() {
            if let Some(&next) = x.get(i + 1) {
                after.times(next, &at(tangents, i + 1));
            }
            after.0[0] = after.0[0].plus(weights[i]);
            behind.push(after.0.clone());
        }
        let mut before = Product::one(tangents.len());
        for ((i, out), behind) in out.iter_mut().enumerate().zip(behind.iter().rev()) {
            *out = (0..=full).fold(Wide::ZERO, |sum, set| sum.plus(before.0[set].times(behind[full ^ set])));
            before.times(x[i], &at(tangents, i));
        }
    })
}
