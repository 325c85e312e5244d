//! Max and average pooling against plain loops, finite differences, and PyTorch's rules.

use ndarray::{IxDyn, indices};
use ndnn::{
    autograd::{grad, gradcheck, gradgradcheck},
    functional::{self as F, AvgPoolOptions, MaxPoolOptions},
    prelude::*,
    random::{Generator, SeedableRng},
};
use rand::RngExt;

use super::{T, close, source, strided};

/// Values and positions, one window at a time.
pub fn plain_pool<const N: usize>(
    x: &T,
    out: &[usize],
    kernel: [usize; N],
    options: MaxPoolOptions<N>,
) -> (T, Tensor<i64>) {
    let (stride, dilation) = (options.get_stride().or(kernel.into()).get(), options.get_dilation().get());
    let (sizes, view) = (x.shape()[2..].to_vec(), x.view());
    let (mut values, mut places) = (Vec::new(), Vec::new());
    for to in indices(IxDyn(out)) {
        let to = ndarray::Dimension::slice(&to).to_vec();
        let mut best = (f64::NEG_INFINITY, -1);
        for tap in indices(IxDyn(&kernel)) {
            let tap = ndarray::Dimension::slice(&tap).to_vec();
            if let Some(at) = source(&to[2..], &tap, &sizes, [&stride, &dilation], &options.get_padding().get()) {
                let place = at.iter().zip(&sizes).fold(0, |place, (&i, &n)| place * n + i);
                let value = view[IxDyn(&[&to[..2], at.as_slice()].concat())];
                if best.1 < 0 || value > best.0 {
                    best = (value, place as i64);
                }
            }
        }
        values.push(best.0);
        places.push(best.1);
    }
    (T::from_vec(out, values).unwrap(), Tensor::from_vec(out, places).unwrap())
}

fn random_pool<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let kernel: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let dilation: [usize; N] = std::array::from_fn(|_| 1 + below(2));
    let padding: [usize; N] = std::array::from_fn(|i| below(kernel[i] / 2 + 1));
    let stride: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let sizes: [usize; N] = std::array::from_fn(|i| (kernel[i] - 1) * dilation[i] + 1 + below(5));
    let lead = [below(3), 1 + below(2)];
    let options = MaxPoolOptions::<N>::default().stride(stride).padding(padding).dilation(dilation);
    let options = options.ceil_mode(below(2) == 1);
    // Few different values, so that some are equal.
    let x = (strided(&[&lead, &sizes[..]].concat(), rng) * 2.0).round();
    let (y, places) = F::max_pool_with_indices(&x, kernel, options).unwrap();
    assert_eq!((y.clone(), places), plain_pool(&x, y.shape(), kernel, options));
}

#[test]
fn pooling_takes_the_first_maximum() {
    let mut rng = Generator::seed_from_u64(6);
    for _ in 0..60 {
        random_pool::<1>(&mut rng);
        random_pool::<2>(&mut rng);
        random_pool::<3>(&mut rng);
    }
    let x = strided(&[8, 16, 30, 30], &mut rng);
    let (y, places) = F::max_pool2d_with_indices(&x, 3, MaxPoolOptions::default().stride(2)).unwrap();
    assert_eq!((y.clone(), places), plain_pool(&x, y.shape(), [3, 3], MaxPoolOptions::default().stride(2)));
}

#[test]
fn pooling_gradients() {
    let mut rng = Generator::seed_from_u64(7);
    // Values far apart, so that a finite difference never changes which one is the largest.
    let x = T::from_vec([2, 2, 5, 4], Tensor::<i64>::randperm_with(80, &mut rng).cast::<f64>().to_vec()).unwrap();
    let f = |t: &[T]| F::max_pool2d(&t[0], [2, 3], MaxPoolOptions::default().stride(1).padding([0, 1]));
    gradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
    gradgradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
    gradgradcheck(|t| F::max_pool2d(&(&t[0] * 0.1).sin(), 2, Default::default()), &[x], Default::default()).unwrap();
}

// ------------------------------------------------------------------------------------------------------- average pooling

/// The mean of each window as PyTorch takes it, one element at a time.
fn plain_mean<const N: usize>(x: &T, out: &[usize], kernel: [usize; N], options: AvgPoolOptions<N>) -> T {
    let (stride, padding) = (options.get_stride().or(kernel.into()).get(), options.get_padding().get());
    let sizes = &x.shape()[2..];
    let means = indices(IxDyn(out)).into_iter().map(|to| {
        let to = ndarray::Dimension::slice(&to);
        let (mut padded, mut inside) = (1, 1);
        for i in 0..N {
            let (start, end) =
                (to[2 + i] * stride[i], (to[2 + i] * stride[i] + kernel[i]).min(sizes[i] + 2 * padding[i]));
            padded *= end - start;
            inside *= end.min(sizes[i] + padding[i]) - start.max(padding[i]);
        }
        let taps = indices(IxDyn(&kernel)).into_iter().filter_map(|tap| {
            let at = source(&to[2..], ndarray::Dimension::slice(&tap), sizes, [&stride, &[1; N]], &padding)?;
            Some(x.view()[IxDyn(&[&to[..2], at.as_slice()].concat())])
        });
        let by_default = if options.get_count_include_pad() { padded } else { inside };
        taps.sum::<f64>() / options.get_divisor_override().unwrap_or(by_default) as f64
    });
    T::from_vec(out, means.collect()).unwrap()
}

fn random_mean<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let kernel: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let padding: [usize; N] = std::array::from_fn(|i| below(kernel[i] / 2 + 1));
    let stride: [usize; N] = std::array::from_fn(|_| 1 + below(4));
    let sizes: [usize; N] = std::array::from_fn(|i| kernel[i] + below(5));
    let lead = [below(3), 1 + below(2)];
    let options = AvgPoolOptions::<N>::default().stride(stride).padding(padding).ceil_mode(below(2) == 1);
    let mut options = options.count_include_pad(below(2) == 1);
    if N > 1 && below(3) == 0 {
        options = options.divisor_override(1 + below(5));
    }
    let x = strided(&[&lead, &sizes[..]].concat(), rng);
    let y = F::avg_pool(&x, kernel, options).unwrap();
    close(&y, &plain_mean(&x, y.shape(), kernel, options));
    if x.numel() > 0 {
        // The first and second derivatives against the function, which is linear.
        let (leaf, g) = (x.set_requires_grad(true), T::randn_with(y.shape(), rng).set_requires_grad(true));
        let y = F::avg_pool(&leaf, kernel, options).unwrap();
        let by_x = grad_of(&(&y * &g).sum(), &leaf);
        let h = strided(x.shape(), rng);
        close(&(&by_x * &h).sum().detach(), &(F::avg_pool(&h, kernel, options).unwrap() * &g).sum().detach());
        close(&grad_of(&(&by_x * &h).sum(), &g), &F::avg_pool(&h, kernel, options).unwrap());
    }
}

fn grad_of(y: &T, x: &T) -> T {
    grad(&[y], &[x], true).unwrap()[0].clone().unwrap()
}

#[test]
fn means_are_pytorchs() {
    let mut rng = Generator::seed_from_u64(8);
    for _ in 0..60 {
        random_mean::<1>(&mut rng);
        random_mean::<2>(&mut rng);
        random_mean::<3>(&mut rng);
    }
    // On all threads; and windows of (3, 1), which equal those over one axis.
    for kernel in [[3, 3], [3, 1], [1, 3], [30, 30]] {
        let x = strided(&[8, 16, 30, 30], &mut rng);
        for options in [AvgPoolOptions::default(), AvgPoolOptions::default().stride([1, 2]).padding([1, 0])] {
            // A window of one row takes no padding.
            let options = if kernel[0] == 1 { options.padding(0) } else { options };
            let y = F::avg_pool2d(&x, kernel, options).unwrap();
            close(&y, &plain_mean(&x, y.shape(), kernel, options));
        }
    }
}

#[test]
fn mean_gradients() {
    let x = T::randn([2, 2, 5, 4]);
    let options = AvgPoolOptions::default().stride(2).padding([0, 1]).ceil_mode(true);
    for options in [options, options.count_include_pad(false), options.divisor_override(3)] {
        let f = |t: &[T]| F::avg_pool2d(&t[0], [2, 3], options);
        gradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
        gradgradcheck(|t| f(&[t[0].sin()]), std::slice::from_ref(&x), Default::default()).unwrap();
    }
}

#[test]
fn means_of_little_and_of_extremes() {
    // Without a batch, one element, an empty batch, and a plane that is one window.
    let pool = AvgPool2d::new(2);
    assert_eq!(pool.forward(&tensor![[[1., 2.], [3., 6.]]]).unwrap(), tensor![[[3.]]]);
    assert_eq!(AvgPool1d::new(1).forward(&tensor![[5.]]).unwrap(), tensor![[5.]]);
    assert_eq!(pool.forward(&Tensor::<f32>::zeros([0, 3, 4, 4])).unwrap().shape(), [0, 3, 2, 2]);
    // A divisor no larger than the number of elements in the window.
    let (n, i) = (f32::NAN, f32::INFINITY);
    let y = F::avg_pool1d(&tensor![[1., n, 1., i, -i, 0., 1e30, 3e30]], 2, Default::default()).unwrap().to_vec();
    assert!(y[0].is_nan() && y[1] == i && y[2] == -i && y[3] == 2e30, "{y:?}");
    // In the order of the taps, as PyTorch adds them.
    let x = tensor![[16_777_216., 1., 1., 1.]];
    assert_eq!(F::avg_pool1d(&x, 4, Default::default()).unwrap(), tensor![[4_194_304.]]);
}

#[test]
fn nan_and_infinity_in_windows() {
    let (n, i) = (f32::NAN, f32::NEG_INFINITY);
    let pool = |x: Tensor, padding| {
        let options = MaxPoolOptions::default().stride(1).padding(padding);
        F::max_pool1d_with_indices(&x, 3, options).unwrap()
    };
    let (y, places) = pool(tensor![[1.0, n, 3.0, n, 2.0, 5.0]], 0);
    assert!(y.to_vec().iter().all(|v| v.is_nan()));
    assert_eq!(places, tensor![[1, 3, 3, 3]]);
    let (y, places) = pool(tensor![[i, i, i, 1.0, 1.0, 1.0]], 1);
    assert_eq!(y, tensor![[i, i, 1.0, 1.0, 1.0, 1.0]]);
    assert_eq!(places, tensor![[0, 0, 3, 3, 3, 4]]);
}
