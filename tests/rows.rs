//! Kernels that work on rows (softmax, norms, cross entropy, losses of pairs, sums) against plain loops in f64, at
//! every level of vector instructions, with equal bits on any number of threads. The permitted error of a result is
//! computed next to it, rounding by rounding (`rounded/`).

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

/// `(x − mean) rstd w + b` and its three gradients, where `group(i)` identifies elements that are normalized together
/// and `at(i)` their weight.
fn normed(
    [x, g, w, b]: [&[Rounded]; 4],
    groups: usize,
    group: impl Fn(usize) -> usize,
    at: impl Fn(usize) -> usize,
) -> [Vec<Rounded>; 4] {
    let mut members = vec![Vec::new(); groups];
    (0..x.len()).for_each(|i| members[group(i)].push(i));
    let zero = Rounded::exact(0.);
    let (mut y, mut dx) = (vec![zero; x.len()], vec![zero; x.len()]);
    let (mut dw, mut db) = (vec![Vec::new(); w.len()], vec![Vec::new(); w.len()]);
    for members in members {
        let n = Rounded::exact(members.len() as f64);
        let mean = sum(members.iter().map(|&i| x[i])) / n;
        let apart = |i: usize| x[i] - mean;
        let var = sum(members.iter().map(|&i| apart(i) * apart(i))) / n;
        let rstd = Rounded::exact(1.) / (var + Rounded::of(1e-5)).sqrt();
        let all = sum(members.iter().map(|&i| g[i] * w[at(i)])) / n;
        let along = sum(members.iter().map(|&i| g[i] * w[at(i)] * apart(i))) * rstd / n;
        for &i in &members {
            let normal = apart(i) * rstd;
            y[i] = normal * w[at(i)] + b[at(i)];
            dx[i] = rstd * (g[i] * w[at(i)] - all - normal * along);
            dw[at(i)].push(g[i] * normal);
            db[at(i)].push(g[i]);
        }
    }
    let added = |terms: Vec<Vec<Rounded>>| terms.into_iter().map(Rounded::sum_in_order).collect();
    [y, dx, added(dw), added(db)]
}

#[test]
fn layer_norm_of_rows() {
    at_each_level(|| {
        for (seed, size) in SIZES.into_iter().enumerate() {
            for x in layouts(size, seed as u64 + 100) {
                let n = size[1];
                // A mean that is large relative to the deviation.
                let x = (x + 20.0).set_requires_grad(true);
                let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn([n]).set_requires_grad(true));
                let g = Tensor::randn(x.shape());
                let y = F::layer_norm(&x, &[n], Some(&w), Some(&b), 1e-5).unwrap();
                let inputs = [&x, &g, &w, &b].map(numbers);
                let group = |i| i / n.max(1);
                let want = normed(inputs.each_ref().map(Vec::as_slice), size[0], group, |i| i % n);
                let got = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
                for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                    near(&format!("layer_norm {size:?}, result {k}"), got, want);
                }
                let plain = F::layer_norm(&x, &[n], None, None, 1e-5).unwrap();
                let [ones, zeros] = [1., 0.].map(|v| vec![Rounded::exact(v); n]);
                let want = normed([&inputs[0], &inputs[1], &ones, &zeros], size[0], group, |i| i % n);
                near("layer_norm without parameters", &plain, &want[0]);
                near("its gradient", &gradients(&plain, &g, &[&x])[0], &want[1]);
            }
        }
    });
}

#[test]
fn group_norm_of_channels() {
    at_each_level(|| {
        let cases = [
            ([2, 4, 1], 2),
            ([40, 33, 1], 3),
            ([1, 6, 7], 6),
            ([3, 4, 7], 1),
            ([5, 12, 70], 4),
            ([2, 3, 6000], 3),
            ([0, 4, 3], 2),
        ];
        for (seed, (shape, groups)) in cases.into_iter().enumerate() {
            let [n, c, len] = shape;
            let mut rng = Generator::seed_from_u64(seed as u64);
            let x = Tensor::<f32>::randn_with([len, c, n], &mut rng).transpose(0, 2).unwrap();
            let x = (x + 5.0).set_requires_grad(true);
            let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn_with([c], &mut rng).set_requires_grad(true));
            let g = Tensor::randn_with(x.shape(), &mut rng);
            let y = F::group_norm(&x, groups, Some(&w), Some(&b), 1e-5).unwrap();
            let inputs = [&x, &g, &w, &b].map(numbers);
            let (group, channel) = (|i: usize| i / (c / groups * len), |i: usize| i / len % c);
            let want = normed(inputs.each_ref().map(Vec::as_slice), n * groups, group, channel);
            let got = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                near(&format!("group_norm {shape:?} in {groups}, result {k}"), got, want);
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
            let x = (x + 5.0).set_requires_grad(true);
            let [w, b] = [(); 2].map(|()| Tensor::<f32>::randn([c]).set_requires_grad(true));
            let g = Tensor::randn(x.shape());
            let options = F::BatchNormOptions::default().training(true);
            let y = F::batch_norm(&x, None, None, Some(&w), Some(&b), options).unwrap();
            let inputs = [&x, &g, &w, &b].map(numbers);
            let channel = |i: usize| i / len % c;
            let want = normed(inputs.each_ref().map(Vec::as_slice), c, channel, channel);
            let got = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
            for (k, (got, want)) in got.iter().zip(&want).enumerate() {
                near(&format!("batch_norm {shape:?}, result {k}"), got, want);
            }
            // With running statistics: a linear function of each channel.
            let (mut mean, mut var) = (Tensor::randn([c]), Tensor::rand([c]) + 0.5);
            let (m, v) = (numbers(&mean), numbers(&var));
            let y = F::batch_norm(&x, Some(&mut mean), Some(&mut var), Some(&w), None, Default::default()).unwrap();
            let rstd = |i: usize| Rounded::exact(1.) / (v[channel(i)] + Rounded::of(1e-5)).sqrt();
            let slope = |i: usize| inputs[2][channel(i)] * rstd(i);
            let want: Vec<_> = (0..x.numel()).map(|i| (inputs[0][i] - m[channel(i)]) * slope(i)).collect();
            near("batch_norm in evaluation", &y, &want);
            let want: Vec<_> = (0..x.numel()).map(|i| inputs[1][i] * slope(i)).collect();
            near("its gradient", &gradients(&y, &g, &[&x])[0], &want);
        }
    });
}

/// The mean of equal numbers is that number, to the last bit.
fn equal<T: ndnn::Real>(values: &[f64]) {
    for &value in values {
        let v = T::of(value);
        for n in [1, 2, 3, 7, 33, 1000, 4099] {
            let what = format!("{n} times {v}");
            let flat = |y: &Tensor<T>| assert!(y.view().iter().all(|&y| y == T::ZERO), "{what}: {y}");
            let x = Tensor::<T>::full([2, n], v);
            flat(&F::layer_norm(&x, &[n], None, None, 1e-5).unwrap());
            flat(&F::group_norm(&Tensor::full([2, 2, n], v), 1, None, None, 1e-5).unwrap());
            let options = F::BatchNormOptions::default().training(true);
            flat(&F::batch_norm(&Tensor::full([n, 3], v), None, None, None, None, Default::default()).unwrap());
            let (mut mean, mut var) = (Tensor::zeros([3]), Tensor::zeros([3]));
            let x3 = Tensor::full([2, 3, n], v);
            flat(&F::batch_norm(&x3, Some(&mut mean), Some(&mut var), None, None, options.momentum(1.)).unwrap());
            assert!(mean.view().iter().all(|&m| m == v) && var.view().iter().all(|&v| v == T::ZERO), "{what}");
            flat(&x.std_dim(1, 0., false).unwrap());
            let (var, mean) = x.var_mean_dim(1, 0., false).unwrap();
            flat(&var);
            assert!(mean.view().iter().all(|&m| m == v), "{what}: {mean}");
            // The differentiable pass agrees: only eps is left.
            let x = x.set_requires_grad(true);
            let g: Tensor<T> =
                (0..2 * n).map(|i| T::of((i as f64).cos())).collect::<Tensor<T>>().reshape([2, n as isize]).unwrap();
            for create_graph in [false, true] {
                let y = F::layer_norm(&x, &[n], None, None, 1e-5).unwrap();
                let dx = grad_with(&[&y], &[Some(&g)], &[&x], create_graph).unwrap().remove(0).unwrap();
                let want = (&g - g.mean_dim(1, true).unwrap()) * T::of(1e-5f64.sqrt().recip());
                assert!(
                    dx.detach().allclose(&want.detach(), 1e-4, 1e-3, false).unwrap(),
                    "{what}: {dx}, expected {want}"
                );
            }
        }
    }
}

#[test]
fn norms_of_equal_numbers() {
    at_each_level(|| {
        equal::<f32>(&[123456.789, 0.1, -3.3e37, 3e38, 1e30, 1e-30, 0.]);
        equal::<f64>(&[123456.789, 0.1, -1.7e308, 1e300, 1e-300]);
    });
}

/// A normalized value does not depend on the scale of the input.
fn any_size<T: ndnn::Real>(sizes: &[f64], tolerance: f64) {
    let row: Tensor<T> = [1., -1., 2., 0.5, -0.25, 1.5].into_iter().map(T::of).collect();
    let g: Tensor<T> = [0.3, -1., 0.2, 0.7, 1., -0.4].into_iter().map(T::of).collect();
    type Norm<T> = fn(&Tensor<T>) -> Tensor<T>;
    let norms: [Norm<T>; 5] = [
        |x| F::layer_norm(&x.reshape([1, 6]).unwrap(), &[6], None, None, 0.).unwrap().reshape([6]).unwrap(),
        |x| {
            let options = F::BatchNormOptions::default().training(true).eps(1e-300);
            F::batch_norm(&x.reshape([6, 1]).unwrap(), None, None, None, None, options).unwrap().reshape([6]).unwrap()
        },
        |x| x / x.std().reshape([1]).unwrap(),
        |x| x / x.norm(2., 0, true).unwrap(),
        |x| F::group_norm(&x.reshape([1, 2, 3]).unwrap(), 1, None, None, 0.).unwrap().reshape([6]).unwrap(),
    ];
    let run = |norm: Norm<T>, x: &Tensor<T>, create_graph| {
        let x = x.detach().set_requires_grad(true);
        let y = norm(&x);
        let dx = grad_with(&[&y], &[Some(&g)], &[&x], create_graph).unwrap().remove(0).unwrap();
        (y.detach(), dx.detach())
    };
    for (k, norm) in norms.into_iter().enumerate() {
        // The eps of a batch norm is above 0, and matters for numbers that are smaller still.
        for &size in sizes.iter().filter(|&&size| k != 1 || size > 1e-100) {
            for create_graph in [false, true] {
                let (y, dx) = run(norm, &row, create_graph);
                let (big, d_big) = run(norm, &(&row * T::of(size)), create_graph);
                let near = |a: &Tensor<T>, b: &Tensor<T>| a.allclose(b, tolerance, tolerance, false).unwrap();
                assert!(near(&big, &y), "norm {k} of size {size}: {big}, expected {y}");
                let d_big = d_big * T::of(size);
                assert!(near(&d_big, &dx), "norm {k} of size {size}, graph {create_graph}: {d_big}, expected {dx}");
            }
        }
    }
}

#[test]
fn norms_of_extreme_numbers() {
    at_each_level(|| {
        any_size::<f32>(&[1e18, 1e20, 1e30, 1e37, 1e-20, 1e-30], 1e-4);
        any_size::<f64>(&[1e150, 1e200, 1e307, 1e-200, 1e-300], 1e-9);
        // A mean between two neighbouring floats.
        let x: Tensor = Tensor::from_vec([1, 4], vec![16777216., 16777218., 16777216., 16777218.]).unwrap();
        assert_eq!(F::layer_norm(&x, &[4], None, None, 0.).unwrap().to_vec(), [-1., 1., -1., 1.]);
        // The statistics of numbers whose mean fits, but whose variance does not.
        let (mut mean, mut var) = (Tensor::zeros([2]), Tensor::zeros([2]));
        let x: Tensor = tensor![[1e30, 1.0], [3e30, 3.0]];
        let options = F::BatchNormOptions::default().training(true).momentum(1.);
        let y = F::batch_norm(&x, Some(&mut mean), Some(&mut var), None, None, options).unwrap();
        assert!(y.allclose(&tensor![[-1.0, -1.0], [1.0, 1.0]], 1e-4, 0., false).unwrap(), "{y}");
        assert_eq!((mean.to_vec(), var.to_vec()), (vec![2e30, 2.], vec![f32::INFINITY, 2.]));
        // Sums overflow, means do not; infinite values stay infinite.
        assert!((tensor![3e38, 3e38, 3e38].mean().item().unwrap() / 3e38 - 1.).abs() < 1e-6);
        assert_eq!(tensor![3e38, -3e38, 3e38, -3e38].mean().item().unwrap(), 0.);
        assert_eq!(tensor![3e38, f32::INFINITY].mean().item().unwrap(), f32::INFINITY);
        assert!(tensor![f32::NEG_INFINITY, f32::INFINITY].mean().item().unwrap().is_nan());
        assert!(F::layer_norm(&tensor![[1.0, f32::INFINITY]], &[2], None, None, 1e-5).unwrap().view()[[0, 0]].is_nan());
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
