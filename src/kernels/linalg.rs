//! Linear equations, reflections and nuclear norms, on stacks of matrices in row-major order.

use ndnn_derive::concrete;

use super::memory;
use crate::number::Real;

/// Solves `A X = B` for a stack of `n × n` matrices, by elimination with partial pivoting; X takes the place of `b`, and `a` is
/// overwritten. Where a matrix is singular, X is not finite.
#[concrete]
pub fn solve<T: Real>(a: &mut [T], b: &mut [T], n: usize) {
    let Some(count) = a.len().checked_div(n * n) else { return };
    let columns = b.len() / (n * count).max(1);
    for s in 0..count {
        eliminate(&mut a[s * n * n..][..n * n], &mut b[s * n * columns..][..n * columns], n, columns);
    }
}

#[concrete]
fn eliminate<T: Real>(a: &mut [T], b: &mut [T], n: usize, columns: usize) {
    for i in 0..n {
        let mut pivot = i;
        for r in i + 1..n {
            if a[r * n + i].abs() > a[pivot * n + i].abs() {
                pivot = r;
            }
        }
        swap(a, n, i, pivot);
        swap(b, columns, i, pivot);
        for r in i + 1..n {
            let factor = a[r * n + i] / a[i * n + i];
            subtract(a, n, i, r, factor);
            subtract(b, columns, i, r, factor);
        }
    }
    for i in (0..n).rev() {
        for r in i + 1..n {
            subtract(b, columns, r, i, a[i * n + r]);
        }
        b[i * columns..][..columns].iter_mut().for_each(|x| *x /= a[i * n + i]);
    }
}

fn swap<T>(rows: &mut [T], length: usize, i: usize, j: usize) {
    if i < j {
        let (upper, lower) = rows.split_at_mut(j * length);
        upper[i * length..][..length].swap_with_slice(&mut lower[..length]);
    }
}

/// Subtracts `factor` times row `from` from row `to`.
fn subtract<T: Real>(rows: &mut [T], length: usize, from: usize, to: usize, factor: T) {
    let (upper, lower) = rows.split_at_mut(from.max(to) * length);
    let (upper, lower) = (&mut upper[from.min(to) * length..][..length], &mut lower[..length]);
    let (from, to) = if from < to { (upper, lower) } else { (lower, upper) };
    to.iter_mut().zip(from).for_each(|(x, y)| *x -= factor * *y);
}

/// The QR decomposition of an `m × n` matrix by reflections, as LAPACK's geqrf: R takes the place of the upper triangle of `a`,
/// the vectors of the reflections that of the rest, without their leading 1; returns the factors of the reflections.
#[concrete]
pub fn geqrf<T: Real>(a: &mut [T], m: usize, n: usize) -> Vec<T> {
    let mut factors = memory::filled(m.min(n), T::ZERO);
    for i in 0..m.min(n) {
        let below = (i + 1..m).fold(T::ZERO, |norm, r| norm.hypot(a[r * n + i]));
        if below == T::ZERO {
            continue;
        }
        let alpha = a[i * n + i];
        let beta = -alpha.hypot(below).copysign(alpha);
        (i + 1..m).for_each(|r| a[r * n + i] /= alpha - beta);
        let vector: Vec<T> = memory::collected((i + 1..m).map(|r| a[r * n + i]));
        (a[i * n + i], factors[i]) = (beta, (beta - alpha) / beta);
        reflect(&mut a[i * n..], n, i + 1, &vector, factors[i]);
    }
    factors
}

/// The first `n` columns of the product of the reflections that [`geqrf`] wrote into the `m × n` matrix `a`.
#[concrete]
pub fn householder_product<T: Real>(a: &[T], factors: &[T], m: usize, n: usize) -> Vec<T> {
    let mut q = memory::filled(m * n, T::ZERO);
    (0..m.min(n)).for_each(|i| q[i * n + i] = T::ONE);
    for i in (0..factors.len()).rev() {
        let vector: Vec<T> = memory::collected((i + 1..m).map(|r| a[r * n + i]));
        reflect(&mut q[i * n..], n, i, &vector, factors[i]);
    }
    q
}

/// Applies `I − factor · v vᵀ` with `v = (1, vector)` to the columns of `rows` from `first` on.
fn reflect<T: Real>(rows: &mut [T], length: usize, first: usize, vector: &[T], factor: T) {
    let (head, tail) = rows.split_at_mut(length);
    let head = &mut head[first..];
    let mut along = memory::copied(head);
    for (row, &v) in tail.chunks_exact(length).zip(vector) {
        along.iter_mut().zip(&row[first..]).for_each(|(sum, &x)| *sum += v * x);
    }
    along.iter_mut().for_each(|x| *x *= factor);
    head.iter_mut().zip(&along).for_each(|(x, &a)| *x -= a);
    for (row, &v) in tail.chunks_exact_mut(length).zip(vector) {
        row[first..].iter_mut().zip(&along).for_each(|(x, &a)| *x -= v * a);
    }
}

/// The sum of the singular values of each matrix of a stack with rows that are no longer than columns; `a` is overwritten.
/// NaN where an element is not finite.
///
/// One-sided Jacobi: pairs of rows are rotated until all are orthogonal, when their lengths are the singular values.
pub fn nuclear_norms(a: &mut [f64], rows: usize, columns: usize) -> Vec<f64> {
    let mut norms = Vec::new();
    for matrix in a.chunks_exact_mut((rows * columns).max(1)) {
        if matrix.iter().any(|x| !x.is_finite()) {
            norms.push(f64::NAN);
            continue;
        }
        let largest = matrix.iter().fold(0., |largest: f64, x| largest.max(x.abs()));
        if largest == 0. {
            norms.push(0.);
            continue;
        }
        // So that no square overflows or vanishes.
        matrix.iter_mut().for_each(|x| *x /= largest);
        orthogonalise(matrix, rows, columns);
        norms.push(largest * matrix.chunks_exact(columns).map(|row| dot(row, row).sqrt()).sum::<f64>());
    }
    norms
}

fn orthogonalise(matrix: &mut [f64], rows: usize, columns: usize) {
    // It converges quadratically; few sweeps are needed, and more change nothing.
    for _ in 0..30 {
        let mut rotated = false;
        for q in 1..rows {
            for p in 0..q {
                let (before, from_q) = matrix.split_at_mut(q * columns);
                let (x, y) = (&mut before[p * columns..][..columns], &mut from_q[..columns]);
                let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
                if xy.abs() <= 1e-15 * (xx * yy).sqrt() {
                    continue;
                }
                rotated = true;
                let zeta = (yy - xx) / (2. * xy);
                let tan = zeta.signum() / (zeta.abs() + (1. + zeta * zeta).sqrt());
                let cos = (1. + tan * tan).sqrt().recip();
                for (x, y) in x.iter_mut().zip(y) {
                    (*x, *y) = (cos * (*x - tan * *y), cos * (*y + tan * *x));
                }
            }
        }
        if !rotated {
            break;
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations_are_solved_with_pivots() {
        let mut x = vec![1., 2., 3., 4., 5., 6.];
        solve(&mut [0., 2., 0., 0., 0., 1., 4., 0., 0.], &mut x, 3);
        assert_eq!(x, [1.25, 1.5, 0.5, 1., 3., 4.]);
        // Two matrices in one call; without a row exchange the small pivot of the first would cost all digits.
        let mut x = [1., 2., 6., 8.];
        solve(&mut [1e-20, 1., 1., 1., 2., 0., 1., 4.], &mut x, 2);
        assert_eq!(x, [1., 1., 3., 1.25]);
        let mut x = [4., 9.];
        solve(&mut [2., 3.], &mut x, 1);
        assert_eq!(x, [2., 3.]);
        solve::<f64>(&mut [], &mut [], 0);
    }

    #[test]
    fn reflections_give_back_the_matrix() {
        let a = [1., 2., 2., 0.5, -2., 1., 0., 0., 3.];
        let mut packed = a;
        let factors = geqrf(&mut packed, 3, 3);
        let q = householder_product(&packed, &factors, 3, 3);
        for i in 0..3 {
            for j in 0..3 {
                let product: f64 = (0..=j).map(|k| q[3 * i + k] * packed[3 * k + j]).sum();
                assert!((product - a[3 * i + j]).abs() < 1e-14, "{i} {j}: {product}");
            }
        }
        assert_eq!(factors[2], 0., "nothing is below the last element");
    }

    #[test]
    fn nuclear_norms_are_those_of_pytorch() {
        let close = |norms: Vec<f64>, expected: &[f64]| {
            assert!(norms.len() == expected.len(), "{norms:?}");
            for (norm, expected) in norms.into_iter().zip(expected) {
                assert!((norm - expected).abs() <= 1e-14 * expected, "{norm} {expected}");
            }
        };
        // torch.linalg.matrix_norm(torch.arange(1., 25.).sin().reshape(2, 3, 4), "nuc"): matrices of rank 2
        let sines: Vec<f64> = (1..25).map(|i| f64::from(i).sin()).collect();
        close(nuclear_norms(&mut sines.clone(), 3, 4), &[3.4597793362158598, 3.453228737781954]);
        for scale in [1e-300, 1e300] {
            let mut scaled: Vec<f64> = sines[..12].iter().map(|x| x * scale).collect();
            close(nuclear_norms(&mut scaled, 3, 4), &[3.4597793362158598 * scale]);
        }
        // A matrix of rank 1, equal rows, a diagonal, a row, zeros.
        close(nuclear_norms(&mut [1., 2., 2., 4.], 2, 2), &[5.]);
        close(nuclear_norms(&mut [3., 4., 3., 4., 3., 4.], 3, 2), &[75f64.sqrt()]);
        close(nuclear_norms(&mut [2., 0., 0., -3.], 2, 2), &[5.]);
        close(nuclear_norms(&mut [3., -4.], 1, 2), &[5.]);
        assert_eq!(nuclear_norms(&mut [0.; 4], 2, 2), [0.]);
        for other in [1., 0., f64::NAN] {
            assert!(nuclear_norms(&mut [other, f64::NAN, 0., other], 2, 2)[0].is_nan());
            assert!(nuclear_norms(&mut [other, f64::INFINITY, 0., other], 2, 2)[0].is_nan());
        }
        assert!(nuclear_norms(&mut [], 0, 3).is_empty());
    }
}
