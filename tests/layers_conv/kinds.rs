//! Adaptive, fractional and power-average pooling, max unpooling: against plain loops, finite differences, and PyTorch's
//! rules.

use std::ops::Range;

use ndarray::{Dimension, IxDyn, indices};
use ndnn::{
    autograd::{grad, gradcheck, gradgradcheck},
    functional::{self as F, AdaptiveSize, LPPoolOptions, MaxUnpoolOptions},
    prelude::*,
    random::{self, Generator, SeedableRng},
};
use rand::RngExt;

use super::{T, close, strided};

/// For each output element the sum and the place of the largest element of its window, whose range along axis `i` of the
/// sizes is `window(plane, i, o)`; and the number of elements.
fn plain(x: &T, sizes: &[usize], window: impl Fn(usize, usize, usize) -> Range<usize>) -> (T, Tensor<i64>, Vec<f64>) {
    let (n, view) = (sizes.len(), x.view());
    let lead = &x.shape()[..x.ndim() - n];
    let shape = [lead, sizes].concat();
    let (mut sums, mut places, mut counts) = (Vec::new(), Vec::new(), Vec::new());
    for to in indices(IxDyn(&shape)) {
        let (first, to) = to.slice().split_at(lead.len());
        let plane = first.iter().zip(lead).fold(0, |plane, (&i, &len)| plane * len + i);
        let ranges: Vec<Range<usize>> = (0..n).map(|i| window(plane, i, to[i])).collect();
        let lengths: Vec<usize> = ranges.iter().map(Range::len).collect();
        let (mut sum, mut best) = (0., (f64::NEG_INFINITY, -1));
        for tap in indices(IxDyn(&lengths)) {
            let at: Vec<usize> = tap.slice().iter().zip(&ranges).map(|(&k, range)| range.start + k).collect();
            let value = view[IxDyn(&[first, &at].concat())];
            sum += value;
            if best.1 < 0 || value > best.0 {
                best = (
                    value,
                    at.iter().zip(&x.shape()[lead.len()..]).fold(0, |place, (&i, &len)| place * len + i) as i64,
                );
            }
        }
        sums.push(sum);
        places.push(best.1);
        counts.push(lengths.iter().product::<usize>() as f64);
    }
    (T::from_vec(&shape, sums).unwrap(), Tensor::from_vec(&shape, places).unwrap(), counts)
}

fn adaptive_window(n: usize, m: usize, o: usize) -> Range<usize> {
    o * n / m..((o + 1) * n).div_ceil(m)
}

fn grad_of(y: &T, x: &T) -> T {
    grad(&[y], &[x], true).unwrap()[0].clone().unwrap()
}

/// Elements picked from each plane by their places.
fn picked(x: &T, places: &Tensor<i64>, axes: isize) -> T {
    let flat = x.flatten(-axes, -1).unwrap();
    flat.gather(-1, &places.flatten(-axes, -1).unwrap()).unwrap().reshape(places.shape()).unwrap()
}

fn random_adaptive<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let (sizes, out): ([usize; N], [usize; N]) =
        (std::array::from_fn(|_| 1 + below(8)), std::array::from_fn(|_| 1 + below(9)));
    let lead = [below(3), 1 + below(3)];
    let lead = &lead[below(2)..];
    let x = strided(&[lead, &sizes].concat(), rng);
    let (sums, places, counts) = plain(&x, &out, |_, i, o| adaptive_window(sizes[i], out[i], o));
    let counts = T::from_vec(sums.shape(), counts).unwrap();
    close(&F::adaptive_avg_pool(&x, out).unwrap(), &(sums / &counts));
    let (largest, found) = F::adaptive_max_pool_with_indices(&x, out).unwrap();
    assert_eq!((&largest, &found), (&picked(&x, &places, N as isize), &places));
    assert_eq!(F::adaptive_max_pool(&x, out).unwrap(), largest);
    // The first and second derivatives of the mean against the function, which is linear.
    let (leaf, g) = (x.set_requires_grad(true), T::randn_with(largest.shape(), rng).set_requires_grad(true));
    let by_x = grad_of(&(F::adaptive_avg_pool(&leaf, out).unwrap() * &g).sum(), &leaf);
    let h = strided(x.shape(), rng);
    let mean = F::adaptive_avg_pool(&h, out).unwrap();
    close(&(&by_x * &h).sum().detach(), &(&mean * &g).sum().detach());
    close(&grad_of(&(&by_x * &h).sum(), &g), &mean);
}

#[test]
fn adaptive_windows_cover_the_input_evenly() {
    let mut rng = Generator::seed_from_u64(11);
    for _ in 0..80 {
        random_adaptive::<1>(&mut rng);
        random_adaptive::<2>(&mut rng);
        random_adaptive::<3>(&mut rng);
    }
    // On all threads.
    let x = strided(&[8, 16, 31, 30], &mut rng);
    let (sums, places, counts) = plain(&x, &[7, 7], |_, i, o| adaptive_window([31, 30][i], 7, o));
    close(&F::adaptive_avg_pool2d(&x, 7).unwrap(), &(&sums / &T::from_vec(sums.shape(), counts).unwrap()));
    assert_eq!(F::adaptive_max_pool2d_with_indices(&x, 7).unwrap().1, places);
}

#[test]
fn sizes_of_adaptive_pooling() {
    let x = Tensor::<f32>::ones([2, 3, 8, 9]);
    let shape = |size: AdaptiveSize<2>| F::adaptive_avg_pool2d(&x, size).unwrap().shape().to_vec();
    assert_eq!(shape(5.into()), [2, 3, 5, 5]);
    assert_eq!(shape([5, 20].into()), [2, 3, 5, 20]);
    assert_eq!(shape([Some(5), None].into()), [2, 3, 5, 9]);
    assert_eq!(shape([None; 2].into()), [2, 3, 8, 9]);
    assert_eq!(shape([0, 2].into()), [2, 3, 0, 2]);
    assert_eq!(F::adaptive_max_pool1d(&Tensor::<f32>::ones([3, 4]), 0).unwrap().shape(), [3, 0]);
    assert_eq!(F::adaptive_avg_pool2d(&Tensor::<f32>::ones([0, 3, 4, 4]), 2).unwrap().shape(), [0, 3, 2, 2]);
    assert_eq!(F::adaptive_avg_pool2d(&Tensor::<f32>::ones([0, 4, 4]), 1).unwrap().shape(), [0, 1, 1]);
    assert_eq!(F::adaptive_max_pool3d(&Tensor::<f32>::ones([0, 3, 4, 4, 4]), 2).unwrap().shape(), [0, 3, 2, 2, 2]);
    // As PyTorch, which divides infinities too.
    let (n, i) = (f32::NAN, f32::INFINITY);
    let y = F::adaptive_avg_pool1d(&tensor![[1., n, 2., i, -i, 1e30, 3e30]], 4).unwrap().to_vec();
    assert!(y[0].is_nan() && y[1].is_nan() && y[2].is_nan() && y[3] == 2e30, "{y:?}");
    let (y, places) = F::adaptive_max_pool1d_with_indices(&tensor![[1., n, 2., -i, -i, -i]], 3).unwrap();
    assert!(y.to_vec()[0].is_nan() && y.to_vec()[1..] == [2., -i]);
    assert_eq!(places, tensor![[1, 2, 4]]);
}

/// The start of window `o` of `m` by PyTorch's formula.
fn fractional_start(n: usize, k: usize, m: usize, o: usize, u: f64) -> usize {
    if o + 1 == m {
        return n - k;
    }
    let step = (n - k) as f64 / (m - 1) as f64;
    ((o as f64 + u) * step) as usize - (u * step) as usize
}

fn random_fractional<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let kernel: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let sizes: [usize; N] = std::array::from_fn(|i| kernel[i] + 1 + below(5));
    let out: [usize; N] = std::array::from_fn(|i| 1 + below(sizes[i] - kernel[i]));
    let (batch, channels) = (1 + below(2), 1 + below(3));
    let x = strided(&[&[batch, channels], &sizes[..]].concat(), rng);
    let samples = T::rand_with([batch, channels, N], rng);
    let u = samples.to_vec();
    let (_, places, _) = plain(&x, &out, |plane, i, o| {
        // Over two axes the first sample is that of the width.
        let start = fractional_start(sizes[i], kernel[i], out[i], o, u[plane * N + if N == 2 { 1 - i } else { i }]);
        start..start + kernel[i]
    });
    let (y, found) = F::fractional_max_pool_with_indices(&x, kernel, out, Some(&samples)).unwrap();
    assert_eq!((&y, &found), (&picked(&x, &places, N as isize), &places));
}

#[test]
fn fractional_windows_are_pytorchs() {
    let mut rng = Generator::seed_from_u64(12);
    for _ in 0..80 {
        random_fractional::<2>(&mut rng);
        random_fractional::<3>(&mut rng);
    }
    // Each plane has windows of its own, on all threads.
    let x = strided(&[8, 16, 31, 30], &mut rng);
    // Not from the generator of the process, from which other tests draw at the same time.
    random::with(&mut rng, || {
        ndnn::manual_seed(5);
        let first = F::fractional_max_pool2d_with_indices(&x, 2, 0.6, None).unwrap();
        assert_eq!(first.0.shape(), [8, 16, 18, 18]);
        assert_eq!(first.0, picked(&x, &first.1, 2));
        assert_ne!(F::fractional_max_pool2d(&x, 2, 0.6, None).unwrap(), first.0);
        ndnn::manual_seed(5);
        assert_eq!(F::fractional_max_pool2d(&x, 2, 0.6, None).unwrap(), first.0);
    });
    assert_eq!(F::fractional_max_pool2d(&Tensor::<f32>::ones([0, 3, 5, 5]), 2, 3, None).unwrap().shape(), [0, 3, 3, 3]);
    assert_eq!(F::fractional_max_pool3d(&Tensor::<f32>::ones([3, 5, 5, 5]), 1, 0, None).unwrap().shape(), [3, 0, 0, 0]);
}

#[test]
fn norms_of_windows() {
    let x = tensor![[[3., 4., 0., 0., -6., 8., 1.]]];
    let pool = |p: f64, options| F::lp_pool1d(&x, p, 2, options).unwrap();
    assert_eq!(pool(2., LPPoolOptions::default()), tensor![[[5., 0., 10.]]]);
    assert_eq!(pool(f64::INFINITY, LPPoolOptions::default().stride(3)), tensor![[[4., 6.]]]);
    assert_eq!(pool(f64::NEG_INFINITY, Default::default()), tensor![[[3., 0., 6.]]]);
    // An incomplete window is scaled to a whole one.
    assert_eq!(pool(1., LPPoolOptions::default().ceil_mode(true)), tensor![[[7., 0., 2., 2.]]]);
    // As PyTorch, powers are not those of the magnitude.
    assert!(F::lp_pool1d(&tensor![[-1.0f32, 2.]], 1.5, 2, Default::default()).unwrap().item().unwrap().is_nan());
    assert_eq!(F::lp_pool1d(&tensor![[-1.0f32, 3.]], 1., 2, Default::default()).unwrap(), tensor![[2.]]);
    // Where all is 0 there is no slope, and not NaN.
    let leaf = x.set_requires_grad(true);
    F::lp_pool1d(&leaf, 2., 2, Default::default()).unwrap().sum().backward().unwrap();
    let g = leaf.grad().unwrap();
    assert!(g.allclose(&tensor![[[0.6, 0.8, 0., 0., -0.6, 0.8, 0.]]], 1e-6, 1e-6, false).unwrap(), "{g}");
}

#[test]
fn unpooling_reverses_pooling() {
    let mut rng = Generator::seed_from_u64(13);
    let x = strided(&[2, 3, 7, 6], &mut rng);
    let (y, places) = F::max_pool2d_with_indices(&x, 2, Default::default()).unwrap();
    let back = F::max_unpool2d(&y, &places, 2, Default::default(), Some(x.shape())).unwrap();
    assert_eq!(back.shape(), x.shape());
    assert_eq!(picked(&back, &places, 2), y);
    assert_eq!(back.ne(0.).unwrap().to_vec().iter().filter(|v| **v).count(), y.numel());
    assert_eq!(F::max_unpool2d(&y, &places, 2, Default::default(), Some(&[7, 7])).unwrap().shape(), [2, 3, 7, 7]);
    // The usual size, with a stride and padding.
    let one = tensor![[1.0, 2.0]];
    let options = MaxUnpoolOptions::default().stride(2).padding(1);
    assert_eq!(F::max_unpool1d(&one, &tensor![[2, 0]], 3, options, None).unwrap(), tensor![[2.0, 0.0, 1.0]]);
    // Of elements with one place the last is used, and both get the gradient.
    let leaf = one.set_requires_grad(true);
    let y = F::max_unpool1d(&leaf, &tensor![[1, 1]], 2, Default::default(), None).unwrap();
    assert_eq!(y, tensor![[0.0, 2.0, 0.0, 0.0]]);
    (y * 3.0).sum().backward().unwrap();
    assert_eq!(leaf.grad().unwrap(), tensor![[3.0, 3.0]]);
    let empty = Tensor::<f32>::zeros([0, 1, 2]);
    let places = Tensor::<i64>::zeros([0, 1, 2]);
    assert_eq!(F::max_unpool1d(&empty, &places, 2, Default::default(), None).unwrap().shape(), [0, 1, 4]);
}

#[test]
fn gradients_of_poolings() {
    let mut rng = Generator::seed_from_u64(14);
    // Values far apart, so that a finite difference never changes which one is the largest.
    let apart = |shape: [usize; 4], rng: &mut Generator| {
        let order = Tensor::<i64>::randperm_with(shape.iter().product(), rng).cast::<f64>();
        ((order + 1.) * 0.05).reshape(shape.map(|n| n as isize)).unwrap()
    };
    let x = apart([2, 2, 5, 4], &mut rng);
    let samples = T::rand_with([2, 2, 2], &mut rng);
    let (_, places) = F::max_pool2d_with_indices(&x, [2, 1], Default::default()).unwrap();
    type Function = Box<dyn Fn(&T) -> Result<T>>;
    let mut functions: Vec<Function> = Vec::new();
    for size in [[2, 3], [5, 2], [1, 1], [7, 3], [5, 4]] {
        functions.push(Box::new(move |x| F::adaptive_avg_pool2d(x, size)));
        functions.push(Box::new(move |x| F::adaptive_max_pool2d(x, size)));
    }
    for p in [1., 2., 3., 1.5, -1., f64::INFINITY, f64::NEG_INFINITY] {
        let options = LPPoolOptions::default().stride([1, 2]).ceil_mode(p == 2.);
        functions.push(Box::new(move |x| F::lp_pool2d(x, p, [2, 3], options)));
    }
    functions.push(Box::new(move |x| F::fractional_max_pool2d(x, 2, [3, 2], Some(&samples))));
    functions.push(Box::new(move |x| {
        F::max_unpool2d(&x.narrow(2, 0, 2)?, &places, [2, 1], Default::default(), Some(&[5, 4]))
    }));
    for (i, f) in functions.iter().enumerate() {
        let checked = gradcheck(|t| f(&t[0]), std::slice::from_ref(&x), Default::default());
        checked.unwrap_or_else(|e| panic!("{i}: {e}"));
        let curved = |t: &[T]| f(&(t[0].square() + &t[0]));
        gradgradcheck(curved, std::slice::from_ref(&x), Default::default()).unwrap_or_else(|e| panic!("{i}: {e}"));
    }
}

#[test]
fn layers_and_functions_of_pooling_are_the_same() {
    let x = T::arange(0., 432., 1.).unwrap().reshape([2, 3, 9, 8]).unwrap() * 0.01 + 0.1;
    let same = |layer: &dyn Forward<f64>, y: Result<T>| assert_eq!(layer.forward(&x).unwrap(), y.unwrap());
    same(&AdaptiveAvgPool2d::new([4, 3]), F::adaptive_avg_pool2d(&x, [4, 3]));
    same(&AdaptiveMaxPool2d::new([Some(4), None]), F::adaptive_max_pool2d(&x, [4, 8]));
    let options = LPPoolOptions::default().stride(2).ceil_mode(true);
    same(&LPPool2d::new(3, 3).stride(2).ceil_mode(true), F::lp_pool2d(&x, 3., 3, options));
    let samples = T::rand([2, 3, 2]);
    let fractional = FractionalMaxPool2d::new(2, 0.5).dtype::<f64>().random_samples(samples.clone());
    same(&fractional, F::fractional_max_pool2d(&x, 2, 0.5, Some(&samples)));
    assert_eq!(
        fractional.state_dict().iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>(),
        ["_random_samples"]
    );
    let (y, places) = MaxPool2d::new(3).stride(2).forward_with_indices(&x).unwrap();
    let unpool = MaxUnpool2d::new(3).stride(2);
    // Another width gives the indices another meaning.
    let error = unpool.forward(&y, &places).unwrap_err().to_string();
    let text = "max_unpool2d: the index 66 is outside the result, which has 63 elements per channel, [9, 7]; if the pooling's \
                input had other sizes, give them as the output size; in MaxUnpool2d(kernel_size=(3, 3), ";
    assert!(error.starts_with(text), "{error}");
    let back = unpool.forward_with_output_size(&y, &places, x.shape()).unwrap();
    let options = MaxUnpoolOptions::default().stride(2);
    assert_eq!(back, F::max_unpool2d(&y, &places, 3, options, Some(&[9, 8])).unwrap());
    let (y, places) = AdaptiveMaxPool2d::new(3).forward_with_indices(&x).unwrap();
    assert_eq!((y, places), F::adaptive_max_pool2d_with_indices(&x, 3).unwrap());
}
