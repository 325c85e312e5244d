//! Kernels that work on rows (softmax, norms, cross entropy, losses of pairs, sums) against plain loops in f64, at
//! every level of vector instructions, with equal bits on any number of threads. The permitted error of a result is
//! computed next to it, rounding by rounding (`rounded/`).

#[path = "rows/norms.rs"]
mod norms;

mod rounded;

use std::sync::{Mutex, MutexGuard};

use ndnn::{
    Capability, autograd::grad_with, cpu_capability, functional as F, prelude::*, random::Generator,
    random::SeedableRng, set_cpu_capability, set_num_threads,
};
use rounded::Rounded;

/// The capability and the number of threads belong to the process: one test at a time.
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

/// Random numbers of this shape: row-major at an odd address, inside a larger array, and transposed.
fn layouts([rows, n]: [usize; 2], seed: u64) -> Vec<Tensor> {
    let mut rng = Generator::seed_from_u64(seed);
    let mut randn = |shape: [usize; 2]| Tensor::<f32>::randn_with(shape, &mut rng) * 3.0;
    vec![
        randn([rows + 1, n]).narrow(0, 1, rows).unwrap(),
        randn([rows, n + 3]).narrow(1, 2, n).unwrap(),
        randn([n, rows]).t().unwrap(),
    ]
}

fn numbers(x: &Tensor) -> Vec<Rounded> {
    x.to_vec().into_iter().map(|x| Rounded::exact(f64::from(x))).collect()
}

/// Applies `f` to each row of `n` elements.
fn by_row(inputs: &[&[Rounded]], n: usize, f: impl Fn(&[&[Rounded]]) -> Vec<Rounded>) -> Vec<Rounded> {
    let rows = inputs[0].len().checked_div(n).unwrap_or(0);
    (0..rows).flat_map(|i| f(&inputs.iter().map(|x| &x[i * n..][..n]).collect::<Vec<_>>())).collect()
}

/// As close as the roundings allow.
fn near(what: &str, got: &Tensor, want: &[Rounded]) {
    let got = got.to_vec();
    assert_eq!(got.len(), want.len(), "{what}");
    for (i, (&got, want)) in got.iter().zip(want).enumerate() {
        assert!(want.allows(got), "{what}: element {i} is {got}, expected {} to {}", want.value, want.error);
    }
}

fn sum(terms: impl IntoIterator<Item = Rounded>) -> Rounded {
    Rounded::sum(terms)
}

fn gradients(y: &Tensor, g: &Tensor, inputs: &[&Tensor]) -> Vec<Tensor> {
    let all = grad_with(&[y], &[Some(g)], inputs, false).unwrap();
    all.into_iter().map(|g| g.unwrap()).collect()
}

/// The largest element of a row, and the logarithm of `Σ e^(x − max)`.
fn log_sum(x: &[Rounded]) -> (Rounded, Rounded) {
    let max = Rounded::exact(x.iter().fold(f64::NEG_INFINITY, |a, b| a.max(b.value)));
    // The largest is kept apart if the sum of the others is smaller.
    let one = |d: &Rounded| d.value == 0.;
    let distances: Vec<_> = x.iter().map(|&x| x - max).collect();
    let all = sum(distances.iter().copied().map(Rounded::exp));
    if all.value >= 2. {
        return (max, all.ln());
    }
    (max, sum(distances.into_iter().filter(|d| !one(d)).map(Rounded::exp)).ln_1p())
}

fn log_softmax(x: &[Rounded]) -> Vec<Rounded> {
    let (max, log_sum) = log_sum(x);
    x.iter().map(|&x| (x - max) - log_sum).collect()
}

fn softmax(x: &[Rounded]) -> Vec<Rounded> {
    let max = log_sum(x).0;
    let powers: Vec<_> = x.iter().map(|&x| (x - max).exp()).collect();
    let scale = Rounded::exact(1.) / sum(powers.iter().copied());
    powers.into_iter().map(|power| power * scale).collect()
}

#[test]
fn softmax_along_each_axis() {
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for x in layouts(size, seed as u64) {
                for dim in [1, 0] {
                    let x = if dim == 0 { x.t().unwrap() } else { x.clone() }.set_requires_grad(true);
                    let g = Tensor::randn(x.shape());
                    let rows = |t: &Tensor| numbers(&if dim == 0 { t.t().unwrap() } else { t.clone() });
                    let n = size[1];
                    let (xs, gs) = (rows(&x), rows(&g));
                    let y = x.softmax(dim).unwrap();
                    let dx = &gradients(&y, &g, &[&x])[0];
                    let back = |v: &[&[Rounded]]| {
                        let y = softmax(v[0]);
                        let along = sum(y.iter().zip(v[1]).map(|(&y, &g)| y * g));
                        y.iter().zip(v[1]).map(|(&y, &g)| (g - along) * y).collect()
                    };
                    // From rows to the order of the tensor's elements.
                    let place = |v: Vec<Rounded>| match dim {
                        0 => (0..v.len()).map(|i| v[i % size[0] * n + i / size[0]]).collect(),
                        _ => v,
                    };
                    let what = |of: &str| format!("{of} {size:?} along {dim}");
                    near(&what("softmax"), &y, &place(by_row(&[&xs], n, |v| softmax(v[0]))));
                    near(&what("its gradient"), dx, &place(by_row(&[&xs, &gs], n, back)));
                    let y = x.log_softmax(dim).unwrap();
                    let dx = &gradients(&y, &g, &[&x])[0];
                    let back = |v: &[&[Rounded]]| {
                        let all = sum(v[1].iter().copied());
                        log_softmax(v[0]).iter().zip(v[1]).map(|(y, &g)| g - y.exp() * all).collect()
                    };
                    near(&what("log_softmax"), &y, &place(by_row(&[&xs], n, |v| log_softmax(v[0]))));
                    near(&what("its gradient"), dx, &place(by_row(&[&xs, &gs], n, back)));
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

#[test]
fn cross_entropy_of_rows() {
    at_each_level(|| {
        for (seed, [rows, n]) in SIZES.into_iter().filter(|size| size[1] > 0).enumerate() {
            for x in layouts([rows, n], seed as u64 + 200) {
                let x = x.set_requires_grad(true);
                let target: Vec<i64> = (0..rows).map(|i| if i % 5 == 3 { -100 } else { (i * 7 % n) as i64 }).collect();
                let t = Tensor::from_vec([rows], target.clone()).unwrap();
                for (weighted, smoothing) in [(false, 0.), (true, 0.), (false, 0.1), (true, 0.2)] {
                    let weight = Tensor::<f32>::rand([n]) + 0.5;
                    let w = if weighted { numbers(&weight) } else { vec![Rounded::exact(1.); n] };
                    let options = F::CrossEntropyLossOptions::default()
                        .weight(weighted.then_some(&weight))
                        .label_smoothing(smoothing)
                        .reduction(F::Reduction::Sum);
                    let loss = F::cross_entropy(&x, &t, options).unwrap();
                    let (keep, spread) = (Rounded::of(1. - smoothing), Rounded::of(smoothing / n as f64));
                    let of_all = sum(w.iter().copied());
                    let (mut losses, mut dx) = (Vec::new(), Vec::new());
                    for (x, &t) in numbers(&x).chunks_exact(n).zip(&target) {
                        if t < 0 {
                            dx.extend(vec![Rounded::exact(0.); n]);
                            continue;
                        }
                        let (t, y) = (t as usize, log_softmax(x));
                        let everywhere = sum((0..n).map(|c| w[c] * y[c]));
                        losses.push(-(keep * w[t] * y[t] + spread * everywhere));
                        let all = keep * w[t] + spread * of_all;
                        dx.extend((0..n).map(|c| match c == t {
                            true => y[c].exp_m1() * all + spread * (of_all - w[c]),
                            false => y[c].exp() * all - spread * w[c],
                        }));
                    }
                    let what = format!("cross_entropy [{rows}, {n}], weights {weighted}, smoothing {smoothing}");
                    near(&what, &loss, &[sum(losses)]);
                    near(&what, &gradients(&loss, &Tensor::scalar(1.0), &[&x])[0], &dx);
                }
            }
        }
    });
}

type Loss = fn(&Tensor, &Tensor, F::Reduction) -> Tensor;

#[test]
fn losses_of_pairs() {
    let cases: [(&str, Loss, fn(Rounded, Rounded) -> [Rounded; 2]); 4] = [
        (
            "mse",
            |x, y, r| F::mse_loss(x, y, F::MSELossOptions::default().reduction(r)).unwrap(),
            |x, y| [(x - y) * (x - y), Rounded::exact(2.) * (x - y)],
        ),
        (
            "l1",
            |x, y, r| F::l1_loss(x, y, F::MSELossOptions::default().reduction(r)).unwrap(),
            |x, y| [(x - y).abs(), Rounded::exact((x - y).value.signum())],
        ),
        (
            "huber",
            |x, y, r| F::huber_loss(x, y, F::HuberLossOptions::default().delta(0.5).reduction(r)).unwrap(),
            |x, y| {
                let (d, half, quarter) = (x - y, Rounded::exact(0.5), Rounded::exact(0.25));
                match d.value.abs() < 0.5 {
                    true => [half * d * d, d],
                    false => [half * (d.abs() - quarter), Rounded::exact(d.value.signum() * 0.5)],
                }
            },
        ),
        (
            "bce",
            |x, y, r| {
                let options = F::BCEWithLogitsLossOptions::default().reduction(r);
                F::binary_cross_entropy_with_logits(x, y, options).unwrap()
            },
            |x, y| {
                let one = Rounded::exact(1.);
                let power = (-x.abs()).exp();
                let (wrong, sign) = if x.value > 0. { (one - y, -1.) } else { (y, 1.) };
                [x.abs() * wrong + power.ln_1p(), Rounded::exact(sign) * (power / (one + power) - wrong)]
            },
        ),
    ];
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for (x, y) in layouts(size, seed as u64).iter().zip(layouts(size, 300 + seed as u64)) {
                let x = x.set_requires_grad(true);
                let pairs: Vec<_> = numbers(&x).into_iter().zip(numbers(&y)).collect();
                for (name, loss, plain) in cases {
                    let [want, slopes] = [0, 1].map(|k| pairs.iter().map(|&(x, y)| plain(x, y)[k]).collect::<Vec<_>>());
                    let each = loss(&x, &y, F::Reduction::None);
                    near(name, &each, &want);
                    let (one, n) = (Rounded::exact(1.), Rounded::exact(x.numel() as f64));
                    let mean = loss(&x, &y, F::Reduction::Mean);
                    near(name, &mean, &[sum(want) / n]);
                    near(name, &gradients(&each, &Tensor::ones(x.shape()), &[&x])[0], &slopes);
                    let dx = &gradients(&mean, &Tensor::scalar(1.0), &[&x])[0];
                    near(name, dx, &slopes.iter().map(|&slope| slope * (one / n)).collect::<Vec<_>>());
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
                near(&what, &x.sum(), &[sum(v.iter().copied())]);
                let want: Vec<_> = (0..rows).map(|i| sum(v[i * n..][..n].iter().copied())).collect();
                near(&what, &x.sum_dim(1, false).unwrap(), &want);
                let want: Vec<_> = (0..n).map(|j| sum(columns(j).map(|i| v[i]))).collect();
                near(&what, &x.sum_dim(0, false).unwrap(), &want);
                if rows * n > 0 {
                    let largest = |x: &mut dyn Iterator<Item = Rounded>| x.map(|x| x.value).fold(f64::MIN, f64::max);
                    let want: Vec<_> = (0..n).map(|j| largest(&mut columns(j).map(|i| v[i])) as f32).collect();
                    assert_eq!(x.amax(0, false).unwrap().to_vec(), want, "{what}");
                    let want: Vec<_> =
                        (0..rows).map(|i| -largest(&mut v[i * n..][..n].iter().map(|&x| -x)) as f32).collect();
                    assert_eq!(x.amin(1, false).unwrap().to_vec(), want, "{what}");
                }
            }
        }
    });
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let _alone = alone();
    let mut rng = Generator::seed_from_u64(9);
    let x = Tensor::<f32>::randn_with([700, 300], &mut rng).set_requires_grad(true);
    let target = (&x + 0.3).detach();
    let classes = Tensor::from_vec([700], (0..700).map(|i| i % 300).collect()).unwrap();
    let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn_with([300], &mut rng).set_requires_grad(true));
    let g = Tensor::<f32>::randn_with([700, 300], &mut rng);
    let rows = Tensor::from_vec([500, 20], (0..10_000).map(|i| i * i % 700).collect()).unwrap();
    let planes = Tensor::<f32>::randn_with([30, 20, 500], &mut rng).set_requires_grad(true);
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
        let bags = F::embedding_bag(&rows, &x, None, None, Default::default()).unwrap();
        all.extend(gradients(&bags, &bags.detach().square(), &[&x]));
        all.push(bags);
        let instances = F::instance_norm(&planes, None, None, None, None, Default::default()).unwrap();
        all.extend(gradients(&instances, &planes.detach().square(), &[&planes]));
        all.push(instances);
        let rms = F::rms_norm(&x, &[300], Some(&w), None).unwrap();
        all.extend(gradients(&rms, &g, &[&x, &w]));
        all.push(rms);
        let groups = F::group_norm(&x, 20, Some(&w), Some(&b), 1e-5).unwrap();
        for y in [norm, batch, groups] {
            all.extend(gradients(&y, &g, &[&x, &w, &b]));
            all.push(y);
        }
        let [pw, pb] = [&w, &b].map(|p| p.narrow(0, 0, 20).unwrap());
        let planes_in_groups = F::group_norm(&planes, 5, Some(&pw), Some(&pb), 1e-5).unwrap();
        for y in [planes_normed, planes_in_groups] {
            all.extend(gradients(&y, &planes.detach().square(), &[&planes]));
        }
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

#[test]
fn statistics_take_nothing_with_a_factor_of_0() {
    let options = F::BatchNormOptions::default().training(true);
    let run = |x: &Tensor, from: f32, momentum: f64| {
        let (mut mean, mut var) = (Tensor::full([1], from), Tensor::full([1], from));
        let y = F::batch_norm(x, Some(&mut mean), Some(&mut var), None, None, options.momentum(momentum));
        assert_eq!(y.unwrap().shape(), x.shape());
        [mean.to_vec()[0], var.to_vec()[0]]
    };
    assert_eq!(run(&tensor![[1.0], [3.0]], f32::INFINITY, 1.), [2., 2.]);
    assert_eq!(run(&tensor![[1.0], [3.0]], f32::NAN, 1.), [2., 2.]);
    assert_eq!(run(&tensor![[1e30], [3e30]], 1., 0.), [1., 1.]);
    for shape in [vec![1, 0], vec![1, 0, 1], vec![1, 2]] {
        let e = F::batch_norm(&Tensor::<f32>::zeros(shape.clone()), None, None, None, None, options).unwrap_err();
        let want = format!("batch_norm: training needs more than 1 value per channel, the input is {shape:?}");
        assert_eq!(e.to_string(), want);
    }
    // A finite row has a finite norm, even if f32 cannot represent it.
    let index = tensor![0];
    let row = F::embedding_renorm(&tensor![[3e38, -3e38]], &index, 1., 2.).unwrap();
    let half = std::f32::consts::FRAC_1_SQRT_2;
    assert!(row.allclose(&tensor![[half, -half]], 1e-6, 0., false).unwrap(), "{row}");
    let none = F::cross_entropy(&Tensor::<f32>::zeros([1, 0]), &index, Default::default()).unwrap_err();
    let want = "cross_entropy: the target is 0 at [0], the input [1, 0] has 0 classes: expected ignore_index = -100";
    assert_eq!(none.to_string(), want);
}
