//! Instance, RMS and local response norm, `normalize`, and the lazy forms of norms.

use ndnn::{
    ErrorKind,
    autograd::grad,
    functional::{self as F, BatchNormOptions, InstanceNormOptions, LocalResponseNormOptions, NormalizeOptions},
    prelude::*,
    random::{Generator, SeedableRng},
};

use super::{
    T, close,
    common::{check, panic_of, refused},
    strided,
};

fn rng(seed: u64) -> Generator {
    Generator::seed_from_u64(seed)
}

/// A running mean and variance.
fn statistics(channels: usize) -> [T; 2] {
    [T::randn_with([channels], &mut rng(3)), T::rand_with([channels], &mut rng(4)) + 0.5]
}

#[test]
fn derivatives() {
    let mut rng = rng(1);
    let [w, b] = [(); 2].map(|()| T::randn_with([3], &mut rng));
    let [mean, var] = statistics(3);
    for shape in [&[2, 3, 4][..], &[1, 3, 2, 3], &[2, 3, 2, 1, 2]] {
        let x = strided(shape, &mut rng);
        let options = InstanceNormOptions::default().eps(0.1);
        let inputs = [x.clone(), w.clone(), b.clone()];
        check(|t| F::instance_norm(&t[0], None, None, Some(&t[1]), Some(&t[2]), options), &inputs);
        check(|t| F::instance_norm(&t[0], None, None, Some(&t[1]), None, options), &inputs[..2]);
        check(|t| F::instance_norm(&t[0], None, None, None, None, options), &inputs[..1]);
        let running = |t: &[T]| {
            let (mut mean, mut var) = (mean.clone(), var.clone());
            let options = options.use_input_stats(false);
            F::instance_norm(&t[0], Some(&mut mean), Some(&mut var), Some(&t[1]), Some(&t[2]), options)
        };
        check(running, &inputs);
        for size in [1, 2, 3, 5] {
            let options = LocalResponseNormOptions::default().alpha(0.7).beta(0.6).k(1.2);
            check(|t| F::local_response_norm(&t[0], size, options), &inputs[..1]);
        }
    }
    let (x, w) = (strided(&[2, 3, 4], &mut rng), T::randn_with([3, 4], &mut rng));
    for eps in [None, Some(0.1), Some(0.)] {
        check(|t| F::rms_norm(&t[0], &[3, 4], Some(&t[1]), eps), &[x.clone(), w.clone()]);
        check(|t| F::rms_norm(&t[0], &[4], None, eps), std::slice::from_ref(&x));
    }
    for p in [1., 2., 3.5, f64::INFINITY] {
        for dim in [0, 1, -1] {
            let options = NormalizeOptions::default().p(p).dim(dim);
            check(|t| F::normalize(&t[0], options), std::slice::from_ref(&x));
            check(|t| F::normalize(&t[0], options.eps(100.)), std::slice::from_ref(&x));
        }
    }
}

#[test]
fn instance_norm_is_batch_norm_of_each_sample() {
    let mut rng = rng(2);
    let x = strided(&[4, 3, 2, 5], &mut rng) * 3. + 7.;
    let [w, b] = [(); 2].map(|()| T::randn_with([3], &mut rng));
    let options = InstanceNormOptions::default().momentum(0.3).eps(0.01);
    let ([mut mean, mut var], [mean0, var0]) = (statistics(3), statistics(3));
    let y = F::instance_norm(&x, Some(&mut mean), Some(&mut var), Some(&w), Some(&b), options).unwrap();
    let (mut means, mut vars) = (T::zeros([3]), T::zeros([3]));
    for i in 0..4 {
        let sample = x.narrow(0, i, 1).unwrap();
        let ([mut mean, mut var], training) = (statistics(3), BatchNormOptions::default().training(true));
        let training = training.momentum(0.3).eps(0.01);
        let one = F::batch_norm(&sample, Some(&mut mean), Some(&mut var), Some(&w), Some(&b), training).unwrap();
        close(&one, &y.narrow(0, i, 1).unwrap());
        (means, vars) = (means + mean / 4., vars + var / 4.);
    }
    close(&mean, &means);
    close(&var, &vars);
    assert!(!mean.allclose(&mean0, 0.1, 0.1, false).unwrap() && !var.allclose(&var0, 0.1, 0.1, false).unwrap());
    // Used as they are, they do not change.
    let before = [mean.clone(), var.clone()];
    let options = options.use_input_stats(false);
    let y = F::instance_norm(&x, Some(&mut mean), Some(&mut var), Some(&w), Some(&b), options).unwrap();
    let along = |t: &T| t.reshape([3, 1, 1]).unwrap();
    close(&y, &((&x - along(&mean)) / (along(&var) + 0.01).sqrt() * along(&w) + along(&b)));
    assert_eq!([mean, var], before);
}

/// Numbers whose squares overflow or vanish have the statistics of the same numbers times a power of two.
#[test]
fn numbers_of_any_size() {
    let x = tensor![[[1., 2., 4.], [-3., 0.5, 1.]], [[2., 2., 2.], [0., 1., -1.]]];
    let (plain, options) =
        (InstanceNormOptions::default().eps(0.), InstanceNormOptions::default().eps(0.).momentum(1.));
    let norm = |x: &Tensor, options| {
        let (mut mean, mut var) = (Tensor::zeros([2]), Tensor::ones([2]));
        (F::instance_norm(x, Some(&mut mean), Some(&mut var), None, None, options).unwrap(), mean, var)
    };
    let (want, mean, var) = norm(&x, options);
    for power in [-60, 30, 60, 100] {
        let scale = 2f32.powi(power);
        let (y, scaled_mean, scaled_var) = norm(&(&x * scale), options);
        assert!(y.allclose(&want, 1e-6, 1e-6, true).unwrap(), "{power}: {y}");
        assert!(scaled_mean.allclose(&(&mean * scale), 1e-6, 0., true).unwrap(), "{power}: {scaled_mean}");
        assert!(power > 60 || scaled_var.allclose(&(&var * scale * scale), 1e-6, 0., true).unwrap(), "{scaled_var}");
        let rms = F::rms_norm(&(&x * scale), &[3], None, 0.).unwrap();
        assert!(rms.allclose(&F::rms_norm(&x, &[3], None, 0.).unwrap(), 1e-6, 1e-6, true).unwrap(), "{power}: {rms}");
        let unit = F::normalize(&(&x * scale), NormalizeOptions::default().eps(0.)).unwrap();
        assert!(unit.allclose(&F::normalize(&x, Default::default()).unwrap(), 1e-6, 0., true).unwrap(), "{unit}");
    }
    // Equal numbers are exactly at their mean, and have no variance.
    let (y, ..) = norm(&Tensor::full([2, 2, 3], 1e30), plain.eps(1e-5));
    assert_eq!(y, Tensor::zeros([2, 2, 3]));
    // PyTorch's answers: 0 for a row of zeros, NaN without ε; NaN for ∞, and 0 beside it.
    let rows = tensor![[0., 0.], [f32::INFINITY, 1.], [f32::NAN, 1.]];
    let y = F::rms_norm(&rows, &[2], None, None).unwrap();
    assert_eq!(y.narrow(0, 0, 1).unwrap().to_vec(), [0., 0.]);
    let rest = y.narrow(0, 1, 2).unwrap().to_vec();
    assert!(rest[0].is_nan() && rest[1] == 0. && rest[2].is_nan() && rest[3].is_nan());
    assert!(F::rms_norm(&rows, &[2], None, 0.).unwrap().to_vec()[..2].iter().all(|y| y.is_nan()));
    assert!(F::rms_norm(&tensor![[0.5, 0.5]], &[2], None, -0.5).unwrap().to_vec()[0].is_nan());
    assert_eq!(F::normalize(&Tensor::<f32>::zeros([2, 3]), Default::default()).unwrap(), Tensor::zeros([2, 3]));
}

#[test]
fn rms_norm_of_rows() {
    let x = strided(&[5, 3, 4], &mut rng(5));
    let w = T::randn_with([3, 4], &mut rng(6));
    let mean = x.square().mean_dim([1, 2], true).unwrap();
    close(&F::rms_norm(&x, &[3, 4], Some(&w), 0.3).unwrap(), &(&x / (mean + 0.3).sqrt() * &w));
    // PyTorch's ε: that of the type.
    let [tiny, wide] = [1e-4f64, 1e-8].map(|x| F::rms_norm(&T::scalar(x).reshape([1]).unwrap(), &[1], None, None));
    assert!((tiny.unwrap().item().unwrap() - 1. / (1. + 2.220446049250313e-8f64).sqrt()).abs() < 1e-15);
    assert!((wide.unwrap().item().unwrap() - 1. / (1. + 2.220446049250313f64).sqrt()).abs() < 1e-15);
    assert_eq!(RMSNorm::new([2, 3]).eps(1e-3).to_string(), "RMSNorm((2, 3), eps=0.001, elementwise_affine=True)");
    let plain = RMSNorm::new(4).elementwise_affine(false);
    assert!(plain.parameters().is_empty() && plain.elementwise_affine(true).weight.is_some());
}

/// PyTorch's figures for CrossMapLRN2d(size, alpha=size, beta=1, k=0) of ones: the number of channels that count.
#[test]
fn the_windows_of_cross_map_lrn() {
    let counts = [
        (1, [1., 2., 2., 2., 2., 2., 2., 2., 2.]),
        (2, [1., 2., 2., 2., 2., 2., 2., 2., 2.]),
        (3, [2., 3., 4., 4., 4., 4., 4., 4., 3.]),
        (4, [2., 3., 4., 4., 4., 4., 4., 4., 3.]),
        (5, [3., 4., 5., 6., 6., 6., 6., 5., 4.]),
    ];
    for (size, counts) in counts {
        let layer = CrossMapLRN2d::new(size).alpha(size as f64).beta(1.).k(0);
        let y = layer.forward(&T::ones([1, 9, 1, 1])).unwrap();
        close(&y, &T::from_vec([1, 9, 1, 1], counts.iter().map(|n| 1. / n).collect()).unwrap());
    }
    // Fewer channels than a window has.
    let wide = CrossMapLRN2d::new(9).alpha(9.).beta(1.).k(0).forward(&T::ones([1, 3, 1, 1])).unwrap();
    close(&wide, &T::full([1, 3, 1, 1], 1. / 3.));
    // The gradient counts channels from 2 before to its own one for a size of 3: that of channel 0 sees itself alone.
    let x = T::ones([1, 3, 1, 1]).set_requires_grad(true);
    let y = CrossMapLRN2d::new(3).alpha(3.).beta(1.).k(0).forward(&x).unwrap();
    let dx = grad(&[&y.sum()], &[&x], true).unwrap().remove(0).unwrap();
    let s = [2., 3., 3f64];
    let ratio = s.map(|s| 1. / s / s);
    let want = [0, 1, 2].map(|c| 1. / s[c] - 2. * ratio[..=c].iter().sum::<f64>());
    close(&dx.detach(), &T::from_vec([1, 3, 1, 1], want.to_vec()).unwrap());
    refused(CrossMapLRN2d::new(3).forward(&T::ones([2, 3, 4])), ErrorKind::Shape, "needs an input (N, C, H, W)");
    let layer = CrossMapLRN2d::new(5).alpha(0.02).k(2);
    assert_eq!(layer.forward(&T::ones([2, 0, 4, 4])).unwrap().shape(), [2, 0, 4, 4]);
    assert_eq!(layer.to_string(), "CrossMapLRN2d(5, alpha=0.02, beta=0.75, k=2)");
}

#[test]
fn layers_and_functions() {
    let x = strided(&[2, 3, 4, 5], &mut rng(7));
    let options = InstanceNormOptions::default().momentum(0.25);
    let mut layer = InstanceNorm2d::new(3).affine(true).track_running_stats(true).momentum(0.25).dtype::<f64>();
    let (mut mean, mut var) = (T::zeros([3]), T::ones([3]));
    let want = F::instance_norm(&x, Some(&mut mean), Some(&mut var), None, None, options).unwrap();
    close(&layer.forward(&x).unwrap(), &want);
    let running =
        |layer: &InstanceNorm2d<f64>| [&layer.running_mean, &layer.running_var].map(|b| b.as_ref().unwrap().tensor());
    assert_eq!(running(&layer), [mean.clone(), var.clone()]);
    assert_eq!(layer.num_batches_tracked.as_ref().unwrap().tensor(), Tensor::scalar(0));
    layer.eval();
    let used = F::instance_norm(&x, Some(&mut mean), Some(&mut var), None, None, options.use_input_stats(false));
    close(&layer.forward(&x).unwrap(), &used.unwrap());
    assert_eq!(running(&layer), [mean.clone(), var]);
    let mut still = layer.momentum(None);
    still.train();
    let _ = still.forward(&x).unwrap();
    assert_eq!(running(&still)[0], mean);
    // Without a batch; without statistics eval changes nothing.
    let (one, mut plain) = (x.narrow(0, 1, 1).unwrap().reshape([3, 4, 5]).unwrap(), InstanceNorm2d::new(3));
    plain.eval();
    close(&plain.dtype::<f64>().forward(&one).unwrap(), &want.narrow(0, 1, 1).unwrap().reshape([3, 4, 5]).unwrap());
    let lrn = LocalResponseNorm::new(3).alpha(0.5).beta(2.).k(3);
    assert_eq!(lrn.to_string(), "LocalResponseNorm(3, alpha=0.5, beta=2.0, k=3)");
    let options = LocalResponseNormOptions::default().alpha(0.5).beta(2.).k(3);
    assert_eq!(lrn.forward(&x).unwrap(), F::local_response_norm(&x, 3, options).unwrap());
    // A window of even size has one more channel before than after.
    let pairs = F::local_response_norm(&tensor![[[1.], [2.], [3.]]; f64], 2, options.alpha(2.).beta(1.).k(0));
    close(&pairs.unwrap(), &tensor![[[1.], [2. / 5.], [3. / 13.]]; f64]);
    // A window that is larger than the input; PyTorch's numbers for ones: 1 / (1 + 3 / 9).
    let wide = F::local_response_norm(&T::ones([2, 3, 4]), 9, LocalResponseNormOptions::default().alpha(1.).beta(1.));
    close(&wide.unwrap(), &T::full([2, 3, 4], 0.75));
    let sync = SyncBatchNorm::new(3).dtype::<f64>();
    let batch = BatchNorm2d::new(3).dtype::<f64>();
    assert_eq!(sync.forward(&x).unwrap(), batch.forward(&x).unwrap());
    assert!(sync.state_dict().keys().eq(batch.state_dict().keys()));
    assert_eq!(sync.to_string().replace("SyncBatchNorm", "BatchNorm2d"), batch.to_string());
    refused(
        sync.forward(&T::ones([3])),
        ErrorKind::Shape,
        "expected an input of 2 or more axes, got [3]; in SyncBatchNorm(3",
    );
}

#[test]
fn sizes_0_and_1() {
    let norm = |shape: &[usize]| F::instance_norm(&T::ones(shape), None, None, None, None, Default::default());
    for shape in [&[0, 2, 3][..], &[2, 0, 3], &[2, 2, 0], &[1, 1, 2]] {
        assert_eq!(norm(shape).unwrap().shape(), shape);
        let (mut mean, mut var) = (T::zeros([shape[1]]), T::ones([shape[1]]));
        let x = T::ones(shape).set_requires_grad(true);
        let y = F::instance_norm(&x, Some(&mut mean), Some(&mut var), None, None, Default::default()).unwrap();
        assert!(mean.to_vec().iter().chain(&var.to_vec()).all(|x| x.is_finite()));
        assert_eq!(grad(&[&y.sum()], &[&x], false).unwrap()[0].as_ref().unwrap().shape(), shape);
    }
    for shape in [&[2, 3, 1][..], &[2, 3], &[1, 1, 1, 1]] {
        refused(norm(shape), ErrorKind::Value, "instance_norm: needs more than 1 value per channel of a sample, got [");
    }
    refused(norm(&[3]), ErrorKind::Shape, "needs an input (N, C, *) of 2 axes or more, got [3]");
    for shape in [[0, 3], [3, 0], [1, 1]] {
        assert_eq!(F::rms_norm(&T::ones(shape), &shape[1..], None, None).unwrap().shape(), shape);
    }
    for shape in [[0, 2, 3], [2, 0, 3], [1, 1, 1]] {
        assert_eq!(F::local_response_norm(&T::ones(shape), 2, Default::default()).unwrap().shape(), shape);
        assert_eq!(F::normalize(&T::ones(shape), Default::default()).unwrap().shape(), shape);
    }
    assert_eq!(F::normalize(&T::scalar(3.), NormalizeOptions::default().dim(0)).unwrap(), T::scalar(1.));
}

/// As PyTorch: batch norm refuses it, the others take the root of what there is.
#[test]
fn a_negative_eps() {
    let x = tensor![[1.0, 3.0]; f64];
    for (eps, expected) in [(-0.5, 2f64.sqrt()), (-10., f64::NAN)] {
        let norms: [Result<Tensor<f64>>; 2] =
            [F::layer_norm(&x, &[2], None, None, eps), F::group_norm(&x, 1, None, None, eps)];
        for y in norms {
            let y = y.unwrap().to_vec();
            assert!((y[1] - expected).abs() < 1e-12 || y[1].is_nan() && expected.is_nan(), "{y:?}");
        }
    }
    let error = BatchNorm1d::new(2).eps(-0.5).forward(&Tensor::ones([3, 2])).unwrap_err().to_string();
    assert!(error.contains("batch_norm: eps must be above 0 in training, got -0.5"), "{error}");
}

#[test]
fn what_is_refused() {
    use ErrorKind::{Shape, Value};
    let x = T::ones([2, 3, 4]);
    let [mut mean, mut var] = statistics(3);
    let options = InstanceNormOptions::default();
    let both = "running_mean and running_var must both be given, or neither of them";
    refused(F::instance_norm(&x, Some(&mut mean), None, None, None, options), Value, &format!("instance_norm: {both}"));
    let training = BatchNormOptions::default().training(true);
    refused(F::batch_norm(&x, None, Some(&mut var), None, None, training), Value, &format!("batch_norm: {both}"));
    let without = F::instance_norm(&x, None, None, None, None, options.use_input_stats(false));
    refused(without, Value, "without use_input_stats it needs running_mean and running_var");
    let four = T::ones([4]);
    let weighted = F::instance_norm(&x, None, None, Some(&four), None, options);
    refused(weighted, Shape, "the input [2, 3, 4] has 3 channels on axis 1, weight is [4]");
    let affine = InstanceNorm1d::new(2).affine(true);
    refused(affine.forward(&Tensor::ones([2, 3, 4])), Shape, "weight is [2]; in InstanceNorm1d(2, ");
    // As in PyTorch, nothing is checked that is not used.
    assert!(InstanceNorm1d::new(2).forward(&Tensor::ones([2, 3, 4])).is_ok());
    refused(affine.forward(&Tensor::ones([4])), Shape, "expected an input of 2 or 3 axes, got [4]; in InstanceNorm1d");
    refused(affine.forward(&Tensor::ones([2, 2, 3, 4])), Shape, "expected an input of 2 or 3 axes, got [2, 2, 3, 4]");
    let rms = |shape: &[usize], w: Option<&T>| F::rms_norm(&x, shape, w, None);
    refused(
        rms(&[3], None),
        Shape,
        "rms_norm: normalized_shape [3] is to be the input's last axes, the input is [2, 3, 4]",
    );
    refused(rms(&[], None), Shape, "rms_norm: normalized_shape []");
    refused(rms(&[3, 4], Some(&four)), Shape, "rms_norm: weight is [4], normalized_shape is [3, 4]");
    let lrn = |x: &T, size| F::local_response_norm(x, size, Default::default());
    refused(
        lrn(&T::ones([2, 3]), 2),
        Shape,
        "local_response_norm: needs an input (N, C, *) of 3 axes or more, got [2, 3]",
    );
    refused(lrn(&x, 0), Value, "local_response_norm: size must be at least 1, got 0");
    refused(F::normalize(&T::scalar(1.), Default::default()), Shape, "norm: there is no axis 1");
    assert!(panic_of(|| LocalResponseNorm::new(0)).contains("a size is at least 1, got 0"));
}
