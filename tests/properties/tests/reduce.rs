//! Properties of products, sums and softmax, over random shapes and orders in memory.

use ndnn::Tensor;
use proptest::prelude::*;

type X = Tensor<f64>;

const INF: f64 = f64::INFINITY;

/// Values without ties or zeros.
fn values(shape: &[usize], seed: usize) -> X {
    let n = shape.iter().product();
    let value = |i: usize| 1.5 * ((i + 1) as f64 * 0.7 + seed as f64 * 1.3).sin() + 0.05 * i as f64 + 0.01;
    X::from_vec(shape, (0..n).map(value).collect()).unwrap()
}

/// The same values in column-major memory.
fn strided(x: &X) -> X {
    if x.ndim() < 2 {
        return x.clone();
    }
    let back: Vec<isize> = (0..x.ndim() as isize).rev().collect();
    let turned = x.permute(back.clone()).unwrap();
    Tensor::from_vec(turned.shape(), turned.to_vec()).unwrap().permute(back).unwrap()
}

fn near(name: &str, a: &[f64], b: &[f64]) {
    assert_eq!(a.len(), b.len(), "{name}");
    let scale = b.iter().fold(1., |m: f64, x| m.max(x.abs()));
    for (i, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= 1e-10 * scale, "{name}: element {i} is {x}, expected {y}");
    }
}

fn plain_matmul(a: &X, b: &X) -> Vec<f64> {
    let (m, k, n) = (a.shape()[0], a.shape()[1], b.shape()[1]);
    let (a, b) = (a.to_vec(), b.to_vec());
    let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum();
    (0..m * n).map(|ij| at(ij / n, ij % n)).collect()
}

proptest! {
    #[test]
    fn products(m in 0..9usize, k in 0..20usize, n in 0..9usize, turn_a: bool, turn_b: bool) {
        let (mut a, mut b) = (values(&[m, k], 1), values(&[k, n], 2));
        let expected = plain_matmul(&a, &b);
        if turn_a { a = strided(&a) }
        if turn_b { b = strided(&b) }
        near("mm", &a.mm(&b).unwrap().to_vec(), &expected);
        let stack = |x: &X| Tensor::cat(&[x, x, x], 0).unwrap().reshape(vec![3, x.shape()[0] as isize, x.shape()[1] as isize]).unwrap();
        near("bmm", &stack(&a).bmm(&stack(&b)).unwrap().to_vec(), &[&expected[..], &expected, &expected].concat());
        near("einsum", &Tensor::einsum("ij,jk", &[&a, &b]).unwrap().to_vec(), &expected);
    }

    #[test]
    fn sums(shape in prop::collection::vec(0..5usize, 1..5), mask in 0..16usize, order in 0..24usize) {
        let x = values(&shape, 1);
        let n = shape.len();
        // A random order of the axes in memory.
        let mut axes: Vec<isize> = (0..n as isize).collect();
        axes.rotate_left(order % n);
        if order >= 12 { axes.reverse() }
        let mut back = vec![0isize; n];
        axes.iter().enumerate().for_each(|(i, &a)| back[a as usize] = i as isize);
        let turned = x.permute(axes).unwrap();
        let turned = Tensor::from_vec(turned.shape(), turned.to_vec()).unwrap().permute(back).unwrap();
        let dims: Vec<isize> = (0..n as isize).filter(|d| mask >> d & 1 == 1).collect();
        prop_assume!(!dims.is_empty());
        let (mut sum, mut max) = (x.clone().into_array(), x.clone().into_array());
        for &d in dims.iter().rev() {
            let axis = ndarray::Axis(d as usize);
            sum = sum.sum_axis(axis);
            max = max.fold_axis(axis, -INF, |&a, &b| a.max(b));
        }
        let sum: Vec<f64> = sum.iter().copied().collect();
        near("sum", &x.sum_dim(dims.clone(), false).unwrap().to_vec(), &sum);
        near("sum, turned", &turned.sum_dim(dims.clone(), true).unwrap().to_vec(), &sum);
        let max: Vec<f64> = max.iter().copied().collect();
        match turned.amax(dims.clone(), false) {
            Ok(y) => near("amax", &y.to_vec(), &max),
            Err(_) => prop_assert!(dims.iter().any(|&d| shape[d as usize] == 0)),
        }
    }

    #[test]
    fn softmaxes(rows in 0..6usize, n in 1..40usize, columns in 1..4usize) {
        let x = values(&[rows, n, columns], 1);
        let (y, log) = (x.softmax(1).unwrap(), strided(&x).log_softmax(1).unwrap());
        near("sums to 1", &y.sum_dim(1, false).unwrap().to_vec(), &vec![1.; rows * columns]);
        near("log", &y.log().to_vec(), &log.to_vec());
        let plain = x.exp().try_div(&x.exp().sum_dim(1, true).unwrap()).unwrap();
        near("softmax", &y.to_vec(), &plain.to_vec());
    }
}
