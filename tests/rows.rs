//! Kernels that see rows (softmax, norms, cross entropy, losses of pairs, sums) against plain loops in f64, at every
//! level of vector instructions, and the same bits on any number of threads.

use std::sync::{Mutex, MutexGuard};

use ndnn::{
    Capability, autograd::grad_with, cpu_capability, functional as F, prelude::*, random::Generator,
    random::SeedableRng, set_cpu_capability, set_num_threads,
};

/// Level and number of threads are the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn at_each_level(f: impl Fn()) {
    let _alone = alone();
    let before = cpu_capability();
    for level in [Capability::Default, Capability::Avx2, Capability::Avx512] {
        set_cpu_capability(level);
        ndnn::manual_seed(1);
        f();
    }
    set_cpu_capability(before);
}

const SIZES: [[usize; 2]; 16] = [
    [0, 3],
    [3, 0],
    [1, 1],
    [5, 1],
    [1, 2],
    [4, 7],
    [3, 8],
    [2, 9],
    [3, 31],
    [2, 32],
    [7, 33],
    [130, 20],
    [260, 63],
    [300, 512],
    [40, 1000],
    [3, 10_001],
];

/// Random numbers of this shape: row-major at an odd address, inside of a larger array, and transposed.
fn layouts([rows, n]: [usize; 2], seed: u64) -> Vec<Tensor> {
    let mut rng = Generator::seed_from_u64(seed);
    let mut randn = |shape: [usize; 2]| Tensor::<f32>::randn_with(shape, &mut rng) * 3.0;
    vec![
        randn([rows + 1, n]).narrow(0, 1, rows).unwrap(),
        randn([rows, n + 3]).narrow(1, 2, n).unwrap(),
        randn([n, rows]).t().unwrap(),
    ]
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_vec().into_iter().map(f64::from).collect()
}

/// Rows of `n`, each through `f`.
fn by_row(inputs: &[&[f64]], n: usize, f: impl Fn(&[&[f64]]) -> Vec<f64>) -> Vec<f64> {
    let rows = inputs[0].len().checked_div(n).unwrap_or(0);
    (0..rows).flat_map(|i| f(&inputs.iter().map(|x| &x[i * n..][..n]).collect::<Vec<_>>())).collect()
}

/// Within `ulps` roundings of the largest number that the result is made of.
fn near(what: &str, got: &Tensor, want: &[f64], ulps: f64) {
    let got = numbers(got);
    assert_eq!(got.len(), want.len(), "{what}");
    let largest = want.iter().fold(0.05, |m: f64, w| if w.is_finite() { m.max(w.abs()) } else { m });
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        let same = (g.is_nan() && w.is_nan()) || g == w;
        let error = (g - w).abs() / largest / f64::from(f32::EPSILON);
        assert!(same || error <= ulps, "{what}: element {i} is {g}, expected {w}: {error} ulp");
    }
}

fn gradients(y: &Tensor, g: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    let all = grad_with(&[y], &[Some(g)], inputs, false).unwrap();
    all.into_iter().map(|g| g.unwrap()).collect()
}

fn log_sum(x: &[f64]) -> f64 {
    let max = x.iter().fold(f64::NEG_INFINITY, |a, &b| a.max(b));
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

#[test]
fn softmax_along_each_axis() {
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for x in layouts(size, seed as u64) {
                for dim in [1, 0] {
                    let x = if dim == 0 { x.t().unwrap() } else { x.clone() }.requires_grad(true);
                    let g = Tensor::randn(x.shape());
                    let rows = |t: &Tensor| numbers(&if dim == 0 { t.t().unwrap() } else { t.clone() });
                    let n = size[1];
                    let (xs, gs) = (rows(&x), rows(&g));
                    let y = x.softmax(dim).unwrap();
                    let dx = &gradients(&y, &g, &[&x])[0];
                    let log = |x: &[f64]| {
                        let sum = log_sum(x);
                        x.iter().map(|v| v - sum).collect::<Vec<_>>()
                    };
                    let soft = |x: &[f64]| log(x).into_iter().map(f64::exp).collect::<Vec<_>>();
                    let back = |v: &[&[f64]]| {
                        let y = soft(v[0]);
                        let sum: f64 = y.iter().zip(v[1]).map(|(y, g)| y * g).sum();
                        y.iter().zip(v[1]).map(|(y, g)| (g - sum) * y).collect()
                    };
                    let place = |v: Vec<f64>| {
                        let t = Tensor::<f64>::from_vec([size[0], n], v).unwrap();
                        if dim == 0 { t.t().unwrap().to_vec() } else { t.to_vec() }
                    };
                    let what = |of: &str| format!("{of} {size:?} along {dim}");
                    near(&what("softmax"), &y, &place(by_row(&[&xs], n, |v| soft(v[0]))), 8.);
                    near(&what("its gradient"), dx, &place(by_row(&[&xs, &gs], n, back)), 80.);
                    let y = x.log_softmax(dim).unwrap();
                    let dx = &gradients(&y, &g, &[&x])[0];
                    let back = |v: &[&[f64]]| {
                        let sum: f64 = v[1].iter().sum();
                        soft(v[0]).iter().zip(v[1]).map(|(y, g)| g - y * sum).collect()
                    };
                    near(&what("log_softmax"), &y, &place(by_row(&[&xs], n, |v| log(v[0]))), 4.);
                    near(&what("its gradient"), dx, &place(by_row(&[&xs, &gs], n, back)), 80.);
                }
            }
        }
    });
}

#[test]
fn softmax_of_what_is_no_number() {
    at_each_level(|| {
        for n in [3, 40] {
            let mut row = vec![0f32; n];
            row[1] = f32::NEG_INFINITY;
            let soft = |row: &[f32]| Tensor::from_vec([1, n], row.to_vec()).unwrap().softmax(1).unwrap().to_vec();
            let y = soft(&row);
            assert_eq!(y[1], 0.);
            assert!((y[0] - 1. / (n - 1) as f32).abs() < 1e-6);
            row[2] = f32::NAN;
            assert!(soft(&row).iter().all(|y| y.is_nan()));
            assert!(soft(&vec![f32::NEG_INFINITY; n]).iter().all(|y| y.is_nan()));
            assert!(soft(&vec![f32::INFINITY; n]).iter().all(|y| y.is_nan()));
            assert_eq!(soft(&vec![1e30; n]), vec![1. / n as f32; n]);
        }
    });
}

fn moments(x: impl Iterator<Item = f64> + Clone) -> [f64; 2] {
    let n = x.clone().count() as f64;
    let mean = x.clone().sum::<f64>() / n;
    [mean, (x.map(|v| (v - mean) * (v - mean)).sum::<f64>() / n + 1e-5).sqrt().recip()]
}

/// `(x − mean) rstd w + b` and its three gradients, where `group(i)` names what is normed together and `at(i)` the weight.
fn normed(
    [x, g, w, b]: [&[f64]; 4],
    groups: usize,
    group: impl Fn(usize) -> usize,
    at: impl Fn(usize) -> usize,
) -> [Vec<f64>; 4] {
    let mut members = vec![Vec::new(); groups];
    (0..x.len()).for_each(|i| members[group(i)].push(i));
    let (mut y, mut dx) = (vec![0.; x.len()], vec![0.; x.len()]);
    let (mut dw, mut db) = (vec![0.; w.len()], vec![0.; w.len()]);
    for members in members {
        let [mean, rstd] = moments(members.iter().map(|&i| x[i]));
        let n = members.len() as f64;
        let normal = |i: usize| (x[i] - mean) * rstd;
        let all = members.iter().map(|&i| g[i] * w[at(i)]).sum::<f64>() / n;
        let along = members.iter().map(|&i| g[i] * w[at(i)] * normal(i)).sum::<f64>() / n;
        for &i in &members {
            y[i] = normal(i) * w[at(i)] + b[at(i)];
            dx[i] = rstd * (g[i] * w[at(i)] - all - normal(i) * along);
            dw[at(i)] += g[i] * normal(i);
            db[at(i)] += g[i];
        }
    }
    [y, dx, dw, db]
}

#[test]
fn layer_norm_of_rows() {
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for x in layouts(size, seed as u64 + 100) {
                let n = size[1];
                // A mean that is large beside the deviation.
                let x = (x + 20.0).requires_grad(true);
                let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn([n]).requires_grad(true));
                let g = Tensor::randn(x.shape());
                let y = F::layer_norm(&x, &[n], Some(&w), Some(&b), 1e-5).unwrap();
                let inputs = [&x, &g, &w, &b].map(numbers);
                let group = |i| i / n.max(1);
                let want = normed(inputs.each_ref().map(Vec::as_slice), size[0], group, |i| i % n);
                let got = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    // At one element the variance is 0, and 1 / √ε large.
                    near(&format!("layer_norm {size:?}, result {k}"), got, want, if n < 3 { 2e4 } else { 200. });
                }
                let plain = F::layer_norm(&x, &[n], None, None, 1e-5).unwrap();
                let (ones, zeros) = (vec![1.; n], vec![0.; n]);
                let want = normed([&inputs[0], &inputs[1], &ones, &zeros], size[0], group, |i| i % n);
                near("layer_norm without parameters", &plain, &want[0], 200.);
                near("its gradient", &gradients(&plain, &g, &[&x])[0], &want[1], if n < 3 { 2e4 } else { 200. });
            }
        }
    });
}

#[test]
fn batch_norm_of_channels() {
    at_each_level(|| {
        for (seed, shape) in [[2, 1, 1], [40, 33, 1], [300, 5, 1], [3, 4, 7], [1, 2, 70], [20, 3, 1000], [2, 0, 3]]
            .into_iter()
            .enumerate()
        {
            let [_, c, len] = shape;
            let mut rng = Generator::seed_from_u64(seed as u64);
            let x = Tensor::<f32>::randn_with([shape[2], shape[1], shape[0]], &mut rng).transpose(0, 2).unwrap();
            let x = (x + 5.0).requires_grad(true);
            let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn([c]).requires_grad(true));
            let g = Tensor::randn(x.shape());
            let options = F::BatchNormOptions::default().training(true);
            let y = F::batch_norm(&x, None, None, Some(&w), Some(&b), options).unwrap();
            let inputs = [&x, &g, &w, &b].map(numbers);
            let channel = |i: usize| i / len % c;
            let want = normed(inputs.each_ref().map(Vec::as_slice), c, channel, channel);
            let got = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                near(&format!("batch_norm {shape:?}, result {k}"), got, want, 500.);
            }
            // With running statistics: a line through each channel.
            let (mut mean, mut var) = (Tensor::randn([c]), Tensor::rand([c]) + 0.5);
            let (m, v) = (numbers(&mean), numbers(&var));
            let y = F::batch_norm(&x, Some(&mut mean), Some(&mut var), Some(&w), None, Default::default()).unwrap();
            let slope = |i: usize| inputs[2][channel(i)] / (v[channel(i)] + 1e-5).sqrt();
            let want: Vec<f64> = (0..x.numel()).map(|i| (inputs[0][i] - m[channel(i)]) * slope(i)).collect();
            near("batch_norm in evaluation", &y, &want, 8.);
            let want: Vec<f64> = (0..x.numel()).map(|i| inputs[1][i] * slope(i)).collect();
            near("its gradient", &gradients(&y, &g, &[&x])[0], &want, 8.);
        }
    });
}

#[test]
fn cross_entropy_of_rows() {
    at_each_level(|| {
        for (seed, [rows, n]) in SIZES.into_iter().filter(|size| size[1] > 0).enumerate() {
            for x in layouts([rows, n], seed as u64 + 200) {
                let x = x.requires_grad(true);
                let target: Vec<i64> = (0..rows).map(|i| if i % 5 == 3 { -100 } else { (i * 7 % n) as i64 }).collect();
                let t = Tensor::from_vec([rows], target.clone()).unwrap();
                for (weighted, smoothing) in [(false, 0.), (true, 0.), (false, 0.1), (true, 0.2)] {
                    let weight = Tensor::<f32>::rand([n]) + 0.5;
                    let w = if weighted { numbers(&weight) } else { vec![1.; n] };
                    let options = F::CrossEntropyOptions::default()
                        .weight(weighted.then_some(&weight))
                        .label_smoothing(smoothing)
                        .reduction(F::Reduction::Sum);
                    let loss = F::cross_entropy(&x, &t, options).unwrap();
                    let (mut total, mut dx) = (0., Vec::new());
                    for (x, &t) in numbers(&x).chunks_exact(n).zip(&target) {
                        let keep = |c: usize| if c as i64 == t { 1. - smoothing } else { 0. };
                        let q = |c: usize| if t < 0 { 0. } else { w[c] * (keep(c) + smoothing / n as f64) };
                        let sum = log_sum(x);
                        total -= (0..n).map(|c| q(c) * (x[c] - sum)).sum::<f64>();
                        let all: f64 = (0..n).map(q).sum();
                        dx.extend((0..n).map(|c| (x[c] - sum).exp() * all - q(c)));
                    }
                    let what = format!("cross_entropy [{rows}, {n}], weights {weighted}, smoothing {smoothing}");
                    near(&what, &loss, &[total], 8.);
                    near(&what, &gradients(&loss, &Tensor::scalar(1.0), &[&x])[0], &dx, 20.);
                }
            }
        }
    });
}

type Loss = fn(&Tensor, &Tensor, F::Reduction) -> Tensor;

#[test]
fn losses_of_pairs() {
    let cases: [(&str, Loss, fn(f64, f64) -> [f64; 2]); 4] = [
        (
            "mse",
            |x, y, r| F::mse_loss(x, y, F::DistanceOptions::default().reduction(r)).unwrap(),
            |x, y| [(x - y) * (x - y), 2. * (x - y)],
        ),
        (
            "l1",
            |x, y, r| F::l1_loss(x, y, F::DistanceOptions::default().reduction(r)).unwrap(),
            |x, y| [(x - y).abs(), (x - y).signum()],
        ),
        (
            "huber",
            |x, y, r| F::huber_loss(x, y, F::HuberLossOptions::default().delta(0.5).reduction(r)).unwrap(),
            |x, y| match (x - y).abs() {
                d if d < 0.5 => [d * d / 2., x - y],
                d => [0.5 * (d - 0.25), (x - y).signum() * 0.5],
            },
        ),
        (
            "bce",
            |x, y, r| {
                let options = F::BceWithLogitsOptions::default().reduction(r);
                F::binary_cross_entropy_with_logits(x, y, options).unwrap()
            },
            |x, y| [x.max(0.) + (-x.abs()).exp().ln_1p() - x * y, 1. / (1. + (-x).exp()) - y],
        ),
    ];
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for (x, y) in layouts(size, seed as u64).iter().zip(layouts(size, 300 + seed as u64)) {
                let x = x.requires_grad(true);
                let pairs: Vec<(f64, f64)> = numbers(&x).into_iter().zip(numbers(&y)).collect();
                for (name, loss, plain) in cases {
                    let want: Vec<[f64; 2]> = pairs.iter().map(|&(x, y)| plain(x, y)).collect();
                    let each = loss(&x, &y, F::Reduction::None);
                    near(name, &each, &want.iter().map(|w| w[0]).collect::<Vec<_>>(), 4.);
                    let n = x.numel() as f64;
                    let mean = loss(&x, &y, F::Reduction::Mean);
                    near(name, &mean, &[want.iter().map(|w| w[0]).sum::<f64>() / n], 8.);
                    let slopes: Vec<f64> = want.iter().map(|w| w[1]).collect();
                    near(name, &gradients(&each, &Tensor::ones(x.shape()), &[&x])[0], &slopes, 4.);
                    let dx = &gradients(&mean, &Tensor::scalar(1.0), &[&x])[0] * n as f32;
                    near(name, &dx, &slopes, 8.);
                }
            }
        }
    });
}

#[test]
fn sums_and_extremes() {
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().chain([[5000, 3], [3, 100_000], [70_000, 2]]).enumerate() {
            for x in layouts(size, seed as u64 + 400) {
                let ([rows, n], v) = (size, numbers(&x));
                let columns = |j: usize| (0..rows).map(move |i| i * n + j);
                let what = format!("sum of {size:?}");
                near(&what, &x.sum(), &[v.iter().sum()], 4. * v.len() as f64);
                let want: Vec<f64> = (0..rows).map(|i| v[i * n..][..n].iter().sum()).collect();
                near(&what, &x.sum_dim(1, false).unwrap(), &want, 40.);
                let want: Vec<f64> = (0..n).map(|j| columns(j).map(|i| v[i]).sum()).collect();
                near(&what, &x.sum_dim(0, false).unwrap(), &want, 40.);
                if rows * n > 0 {
                    let want: Vec<f64> = (0..n).map(|j| columns(j).map(|i| v[i]).fold(f64::MIN, f64::max)).collect();
                    near(&what, &x.amax(0, false).unwrap(), &want, 0.);
                    let want: Vec<f64> =
                        (0..rows).map(|i| v[i * n..][..n].iter().fold(f64::MAX, |a, &b| a.min(b))).collect();
                    near(&what, &x.amin(1, false).unwrap(), &want, 0.);
                }
            }
        }
    });
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let _alone = alone();
    let mut rng = Generator::seed_from_u64(9);
    let x = Tensor::<f32>::randn_with([700, 300], &mut rng).requires_grad(true);
    let target = (&x + 0.3).detach();
    let classes = Tensor::from_vec([700], (0..700).map(|i| i % 300).collect()).unwrap();
    let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn_with([300], &mut rng).requires_grad(true));
    let g = Tensor::<f32>::randn_with([700, 300], &mut rng);
    let planes = Tensor::<f32>::randn_with([30, 20, 500], &mut rng).requires_grad(true);
    let run = |threads| {
        set_num_threads(threads);
        let options = F::BatchNormOptions::default().training(true);
        let norm = F::layer_norm(&x, &[300], Some(&w), Some(&b), 1e-5).unwrap();
        let batch = F::batch_norm(&x, None, None, Some(&w), Some(&b), options).unwrap();
        let planes_normed = F::batch_norm(&planes, None, None, None, None, options).unwrap();
        let mut all =
            vec![planes_normed.clone(), x.sum(), x.sum_dim(0, false).unwrap(), planes.sum_dim(1, false).unwrap()];
        for y in [x.softmax(1).unwrap(), x.softmax(0).unwrap(), x.log_softmax(1).unwrap()] {
            all.extend(gradients(&y, &g, &[&x]));
            all.push(y);
        }
        for y in [norm, batch] {
            all.extend(gradients(&y, &g, &[&x, &w, &b]));
            all.push(y);
        }
        all.extend(gradients(&planes_normed, &planes.detach().square(), &[&planes]));
        for loss in [
            F::cross_entropy(&x, &classes, Default::default()).unwrap(),
            F::mse_loss(&x, &target, Default::default()).unwrap(),
            F::binary_cross_entropy_with_logits(&x, &target, Default::default()).unwrap(),
        ] {
            all.extend(gradients(&loss, &Tensor::scalar(1.0), &[&x]));
            all.push(loss);
        }
        all.iter().flat_map(Tensor::to_vec).map(f32::to_bits).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}
