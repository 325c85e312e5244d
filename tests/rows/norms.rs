//! Norms: against plain loops, of equal numbers and of numbers of any size.

use ndnn::{autograd::grad_with, functional as F, prelude::*, random::Generator, random::SeedableRng};

use super::{SIZES, at_each_level, gradients, layouts, near, numbers, rounded::Rounded, sum};

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

/// Rows of `n` elements, most of them ordinary, and some whose mean needs care, whose sum or squares overflow or vanish, or
/// that have no norm.
fn wild_rows<T: ndnn::Real>(rows: usize, n: usize) -> Tensor<T> {
    let (large, max) = (T::epsilon().recip(), T::max_value());
    let element = |i: usize| {
        let (x, first) = (T::of((i as f64 * 0.7).sin()), i.is_multiple_of(n));
        match i / n % 16 {
            2 => x + large,
            5 => large,
            7 if first => T::nan(),
            9 if first => T::infinity(),
            11 => max - max * x * x * T::of(0.01),
            13 => x * T::min_positive_value(),
            _ => x,
        }
    };
    (0..rows * n).map(element).collect::<Tensor<T>>().reshape([rows as isize, n as isize]).unwrap()
}

/// Asserts that `f` gives each row, and its gradient, the same bits as if the row were alone.
fn rows_alone<T: ndnn::Real>(what: &str, x: &Tensor<T>, f: impl Fn(&Tensor<T>) -> Tensor<T>) {
    let run = |x: &Tensor<T>, g: &Tensor<T>| {
        let x = x.detach().set_requires_grad(true);
        let y = f(&x);
        let dx = grad_with(&[&y], &[Some(g)], &[&x], false).unwrap().remove(0).unwrap();
        [y, dx].map(|t| t.to_vec().into_iter().map(|v| v.as_f64()).collect::<Vec<_>>())
    };
    let n = x.shape()[1];
    let g: Tensor<T> = (0..x.numel()).map(|i| T::of((i as f64).cos())).collect();
    let g = g.reshape([x.shape()[0] as isize, n as isize]).unwrap();
    let all = run(x, &g);
    for i in 0..x.shape()[0] {
        let row = |t: &Tensor<T>| t.narrow(0, i as isize, 1).unwrap();
        for (all, one) in all.iter().zip(run(&row(x), &row(&g))) {
            let all = &all[i * n..][..n];
            let equal = all.iter().zip(&one).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
            assert!(equal, "{what}, row {i} of {:?}: {all:?}, alone {one:?}", x.shape());
            assert_eq!(one.iter().any(|y| y.is_nan()), matches!(i % 16, 7 | 9), "{what}, row {i}: {one:?}");
        }
    }
}

fn rows_in_pieces<T: ndnn::Real>() {
    // In one piece, in several, and in pieces of one row each.
    for [rows, n] in [[1, 7], [30, 33], [129, 512], [5, 17_000]] {
        let x = wild_rows::<T>(rows, n);
        let w: Tensor<T> = (0..n).map(|i| T::of(1. + (i as f64).sin())).collect();
        for (weight, bias) in [(None, None), (Some(&w), None), (Some(&w), Some(&w))] {
            rows_alone("layer_norm", &x, |x| F::layer_norm(x, &[n], weight, bias, 1e-5).unwrap());
        }
        rows_alone("rms_norm", &x, |x| F::rms_norm(x, &[n], Some(&w), 1e-5).unwrap());
        rows_alone("softmax", &x, |x| x.softmax(1).unwrap());
    }
}

#[test]
fn a_row_does_not_depend_on_its_piece() {
    at_each_level(|| {
        rows_in_pieces::<f32>();
        rows_in_pieces::<f64>();
    });
}

/// Groups of single elements: each row of the kernel has its own part of the weights.
#[test]
fn groups_of_columns_are_layer_norms() {
    let mut rng = Generator::seed_from_u64(5);
    for [rows, groups, n] in [[3, 2, 4], [700, 3, 40]] {
        let channels = groups * n;
        let mut randn = |shape: &[usize]| Tensor::<f32>::randn_with(shape, &mut rng).set_requires_grad(true);
        let (x, w, b) = (randn(&[rows, channels]), randn(&[channels]), randn(&[channels]));
        let g = Tensor::randn([rows, channels]);
        let y = F::group_norm(&x, groups, Some(&w), Some(&b), 1e-5).unwrap();
        let all = [vec![y.clone()], gradients(&y, &g, &[&x, &w, &b])].concat();
        for k in 0..groups {
            let part = |t: &Tensor| t.narrow(-1, (k * n) as isize, n).unwrap().contiguous();
            let [x, w, b] = [&x, &w, &b].map(|t| part(&t.detach()).set_requires_grad(true));
            let y = F::layer_norm(&x, &[n], Some(&w), Some(&b), 1e-5).unwrap();
            let one = [vec![y.clone()], gradients(&y, &part(&g), &[&x, &w, &b])].concat();
            for (all, one) in all.iter().zip(&one) {
                assert!(part(all).allclose(one, 1e-4, 1e-4, false).unwrap(), "{rows}, group {k} of {groups}");
            }
        }
    }
}

/// `rstd (g − E[g] − d rstd E[g d rstd])` in floating point: ∞ − ∞ and 0 · ∞ are NaN, and nothing else.
#[test]
fn an_infinite_gradient() {
    let row: [f32; 4] = [1., 2., 4., 9.];
    // Its mean is no `f32`: what is left of it is half of a distance.
    let rough: [f32; 4] = [16777216., 16777218., 16777218., 16777218.];
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let cases = [
        (row, 0, inf, [nan, -inf, nan, nan]),
        (row, 0, -inf, [nan, inf, nan, nan]),
        (row, 3, inf, [nan, nan, nan, nan]),
        (rough, 1, inf, [nan, nan, -inf, -inf]),
        (rough, 0, -inf, [nan, nan, nan, nan]),
    ];
    type Norm = fn(&Tensor) -> ndnn::Result<Tensor>;
    let norms: [Norm; 6] = [
        |x| F::layer_norm(x, &[4], None, None, 1e-5),
        |x| F::group_norm(x, 1, None, None, 1e-5),
        |x| F::group_norm(&x.reshape([2, 2, 2])?, 1, None, None, 1e-5)?.reshape([2, 4]),
        |x| F::instance_norm(&x.reshape([1, 2, 4])?, None, None, None, None, Default::default())?.reshape([2, 4]),
        |x| F::batch_norm(&x.t()?, None, None, None, None, Default::default())?.t(),
        |x| F::batch_norm(&x.reshape([1, 2, 4])?, None, None, None, None, Default::default())?.reshape([2, 4]),
    ];
    at_each_level(|| {
        for (k, norm) in norms.into_iter().enumerate() {
            for (row, at, infinite, want) in cases {
                let x = Tensor::from_vec([2, 4], [row, [0., 0.5, -3., 1.]].concat()).unwrap().set_requires_grad(true);
                let mut g = vec![1.; 8];
                g[at] = infinite;
                let g = Tensor::from_vec([2, 4], g).unwrap();
                let got = gradients(&norm(&x).unwrap(), &g, &[&x]).remove(0).to_vec();
                let same = got.iter().zip(&want).all(|(got, want)| got.to_bits() == want.to_bits() || got.is_nan());
                let nans = got.iter().map(|got| got.is_nan()).eq(want.iter().map(|w| w.is_nan()).chain([false; 4]));
                assert!(same && nans, "norm {k} of {row:?}, {infinite} at {at}: {got:?}, expected {want:?}");
            }
        }
    });
}
