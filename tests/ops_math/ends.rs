//! Operations where they are flat, large, small or not numbers, and integers at the ends of their range.

use super::*;

#[test]
fn flat_regions_pass_nothing() {
    type Row<'a> = (&'a str, &'a dyn Fn(&T64) -> Result<T64>, &'a dyn Fn(f64) -> bool);
    let never = |_: f64| false;
    let one = tensor![1.; f64];
    let rows: [Row; 41] = [
        ("relu", &|x| Ok(x.relu()), &|x| x <= 0.),
        ("clamp", &|x| Ok(x.clamp(-1., 1.)), &|x| x.abs() >= 1.),
        ("clamp_tensor", &|x| x.clamp_tensor(Some(&-&one), Some(&one)), &|x| x.abs() > 1.),
        ("maximum", &|x| x.maximum(1.), &|x| x < 1.),
        ("minimum", &|x| x.minimum(1.), &|x| x > 1.),
        ("where_", &|x| Tensor::where_(&x.gt(1.)?, x, 0.), &|x| x <= 1.),
        ("masked_fill", &|x| x.masked_fill(&x.gt(1.)?, 0.), &|x| x > 1.),
        ("nan_to_num", &|x| Ok(x.nan_to_num(None, None, None)), &|x| !x.is_finite()),
        ("abs", &|x| Ok(x.abs()), &|x| x == 0.),
        ("copysign", &|x| x.copysign(-1.), &|x| x == 0.),
        ("sign", &|x| Ok(x.sign()), &|_| true),
        ("floor", &|x| Ok(x.floor()), &|_| true),
        ("ceil", &|x| Ok(x.ceil()), &|_| true),
        ("trunc", &|x| Ok(x.trunc()), &|_| true),
        ("round", &|x| Ok(x.round()), &|_| true),
        ("div_floor", &|x| x.div_floor(3.), &|_| true),
        ("remainder, by the divisor", &|x| one.remainder(x), &|x| x > 1. && x.is_finite()),
        ("pow_scalar", &|x| Ok(x.pow_scalar(0.)), &|_| true),
        ("rpow", &|x| Ok(x.rpow(1.)), &|_| true),
        ("max", &|x| Tensor::cat(&[x, &one], 0)?.max(), &|x| x < 1.),
        ("amin", &|x| Tensor::cat(&[x, &one], 0)?.amin(0, false), &|x| x > 1.),
        ("cummax", &|x| Tensor::cat(&[&one, x], 0)?.cummax(0)?.0.narrow(0, 1, 1), &|x| x < 1.),
        ("exp", &|x| Ok(x.exp()), &never),
        ("expm1", &|x| Ok(x.expm1()), &never),
        ("log", &|x| Ok(x.log()), &never),
        ("log10", &|x| Ok(x.log10()), &never),
        ("log1p", &|x| Ok(x.log1p()), &never),
        ("sqrt", &|x| Ok(x.sqrt()), &never),
        ("tanh", &|x| Ok(x.tanh()), &never),
        ("sigmoid", &|x| Ok(x.sigmoid()), &never),
        ("asin", &|x| Ok(x.asin()), &never),
        ("acos", &|x| Ok(x.acos()), &never),
        ("atan", &|x| Ok(x.atan()), &never),
        ("sinh", &|x| Ok(x.sinh()), &never),
        ("asinh", &|x| Ok(x.asinh()), &never),
        ("acosh", &|x| Ok(x.acosh()), &never),
        ("atanh", &|x| Ok(x.atanh()), &never),
        ("erf", &|x| Ok(x.erf()), &never),
        ("ndtr", &|x| Ok(x.ndtr()), &never),
        ("reciprocal", &|x| Ok(x.reciprocal()), &never),
        ("square", &|x| Ok(x.square()), &never),
    ];
    for (name, f, flat) in rows {
        passes::check(name, f, flat, 1e-12);
    }
}

/// A value and a slope, compared with the exact result by relative error.
#[test]
fn no_square_overflows() {
    fn check<R: Real>(name: &str, f: fn(&Tensor<R>) -> Tensor<R>, rows: &[[f64; 3]], tolerance: f64) {
        for &[x, value, slope] in rows {
            let point = Tensor::from_vec([1], vec![R::of(x)]).unwrap();
            let got = [f(&point).to_vec()[0].as_f64(), passes::slope(&|x| Ok(f(x)), x, 1., false)];
            for (got, want) in got.into_iter().zip([value, slope]) {
                assert!(got == want || (got / want - 1.).abs() < tolerance, "{name} at {x}: {got}, expected {want}");
            }
        }
    }
    let large = 3e38f32 as f64;
    let (log, end) = ((2. * large).ln(), f64::MAX);
    let end_log = end.ln() + std::f64::consts::LN_2;
    check::<f32>(
        "asinh",
        |x| x.asinh(),
        &[[large, log, 1. / large], [-large, -log, 1. / large], [1e20, 2e20f64.ln(), 1e-20]],
        1e-5,
    );
    check::<f32>("acosh", |x| x.acosh(), &[[large, log, 1. / large], [1e20, 2e20f64.ln(), 1e-20]], 1e-5);
    check::<f64>("asinh", |x| x.asinh(), &[[end, end_log, 1. / end], [-1e-300, -1e-300, 1.], [0., 0., 1.]], 1e-13);
    check::<f64>("acosh", |x| x.acosh(), &[[end, end_log, 1. / end], [1., 0., INF]], 1e-13);
    check::<f64>("atan", |x| x.atan(), &[[1e154, std::f64::consts::FRAC_PI_2, 1e-308]], 1e-13);
    check::<f32>("log10", |x| x.log10(), &[[large, large.log10(), 1. / large / std::f64::consts::LN_10]], 1e-5);
    check::<f64>("expm1", |x| x.expm1(), &[[-40., -1., (-40f64).exp()]], 1e-13);
    let (x, y) = (tensor![3e38].set_requires_grad(true), tensor![3e38].set_requires_grad(true));
    x.hypot(&y).unwrap().backward().unwrap();
    assert!((x.grad().unwrap().item().unwrap() - std::f32::consts::FRAC_1_SQRT_2).abs() < 1e-6);
}

#[test]
fn a_small_rest_of_a_sum_of_powers_counts() {
    let rest = (-20f64).exp();
    let near = |got: f32, want: f64| assert!((f64::from(got) / want - 1.).abs() < 1e-6, "{got}, expected {want}");
    let x = tensor![20.0, 0.0];
    near(-x.log_softmax(0).unwrap().to_vec()[0], rest);
    for create_graph in [false, true] {
        for (axis, x) in [(1, tensor![[20.0, 0.0]]), (0, tensor![[20.0, 1.0], [0.0, 1.0]])] {
            let x = x.set_requires_grad(true);
            let y = x.log_softmax(axis).unwrap().narrow(axis, 0, 1).unwrap();
            let grads = ndnn::autograd::grad(&[&y.sum()], &[&x], create_graph).unwrap().remove(0).unwrap().to_vec();
            near(grads[0], rest);
            near(-grads[if axis == 0 { 2 } else { 1 }], rest);
        }
        let first = |x: &Tensor| Tensor::cat(&[&tensor![[0.0]], &x.unsqueeze(0)?], 1)?.log_softmax(1)?.narrow(1, 0, 1);
        assert_eq!(passes::slope::<f32>(&first, 3., INF, create_graph), -INF);
    }
    near(-tensor![[20.0, 1.0], [0.0, 1.0]].log_softmax(0).unwrap().to_vec()[0], rest);
    near(tensor![0.0, -20.0].logsumexp(0, false).unwrap().item().unwrap(), rest);
    near(tensor![0.0].logaddexp(tensor![-20.0]).unwrap().to_vec()[0], rest);
    near(tensor![0.0, -20.0].logcumsumexp(0).unwrap().to_vec()[1], rest);
    near(tensor![1.0, 1.0].logsumexp(0, false).unwrap().item().unwrap(), 1. + std::f64::consts::LN_2);
    assert_eq!(tensor![-f32::INFINITY, -f32::INFINITY].logsumexp(0, false).unwrap().item().unwrap(), -f32::INFINITY);
}

#[test]
fn both_passes_of_losses_agree() {
    fn check<R: Real>(tolerance: f64) {
        type Row<'a, R> = (&'a str, &'a dyn Fn(&Tensor<R>) -> Result<Tensor<R>>, &'a dyn Fn(f64) -> bool);
        let never = |_: f64| false;
        let one = Tensor::<R>::ones([1]);
        for reduction in [F::Reduction::None, F::Reduction::Mean] {
            let plain = F::MSELossOptions::default().reduction(reduction);
            let logits = F::BCEWithLogitsLossOptions::default().reduction(reduction);
            let bent = F::SmoothL1LossOptions::default().reduction(reduction);
            let classes = F::CrossEntropyLossOptions::default().reduction(reduction);
            let scores = |x: &Tensor<R>| Tensor::cat(&[x, &Tensor::zeros([1])], 0)?.unsqueeze(0);
            let twice = Tensor::full([1], R::of(2.));
            let rows: [Row<R>; 11] = [
                ("mse", &|x| F::mse_loss(x, &one, plain), &never),
                ("l1", &|x| F::l1_loss(x, &one, plain), &|x| x == 1. || x.is_nan()),
                ("l1, by the target", &|x| F::l1_loss(&one, x, plain), &|x| x == 1. || x.is_nan()),
                ("smooth_l1", &|x| F::smooth_l1_loss(x, &one, bent), &never),
                ("smooth_l1, beta 1e-45", &|x| F::smooth_l1_loss(x, &one, bent.beta(1e-45)), &never),
                ("huber", &|x| F::huber_loss(x, &one, F::HuberLossOptions::default().reduction(reduction)), &never),
                ("bce", &|x| F::binary_cross_entropy_with_logits(x, &one, logits), &never),
                ("soft_margin", &|x| F::soft_margin_loss(x, &one, reduction.into()), &never),
                ("bce, weighted", &|x| F::binary_cross_entropy_with_logits(x, &one, logits.pos_weight(&twice)), &never),
                ("cross_entropy", &|x| F::cross_entropy(&scores(x)?, &tensor![0], classes), &never),
                ("ignored", &|x| F::cross_entropy(&scores(x)?, &tensor![-100], classes), &|_| true),
            ];
            for (name, f, flat) in rows {
                passes::check(name, f, flat, tolerance);
            }
        }
    }
    check::<f32>(1e-6);
    check::<f64>(1e-12);
}

#[test]
fn integers_are_compared_as_they_are() {
    const BIG: i64 = 1 << 53;
    let close = |a: i64, b: i64, rtol, atol| tensor![a].isclose(&tensor![b], rtol, atol, false).unwrap().to_vec()[0];
    assert!(!close(BIG, BIG + 1, 0., 0.) && close(BIG, BIG + 1, 0., 1.) && !close(BIG, BIG + 2, 0., 1.));
    assert!(!close(i64::MAX, i64::MAX - 1, 0., 0.5) && close(i64::MIN, i64::MIN, 0., 0.));
    assert!(!close(i64::MIN, i64::MAX, 0.5, 0.) && close(i64::MIN, i64::MAX, 2., 0.) && close(100, 101, 0.01, 0.));
    let x = tensor![BIG + 1, i64::MAX, i64::MIN];
    assert_eq!(x.eq(BIG).unwrap().to_vec(), [false; 3]);
    assert_eq!((x.narrow(0, 0, 2).unwrap() - 1).to_vec(), [BIG, i64::MAX - 1]);
    assert_eq!(x.narrow(0, 0, 1).unwrap().sum().item().unwrap(), BIG + 1);
    assert_eq!(x.narrow(0, 0, 1).unwrap().prod().item().unwrap(), BIG + 1);
    assert_eq!(x.clamp(BIG + 1, i64::MAX - 1).to_vec(), [BIG + 1, i64::MAX - 1, BIG + 1]);
    assert_eq!(x.max().unwrap().item().unwrap(), i64::MAX);
    assert_eq!(x.sort(0, false).unwrap().0.to_vec(), [i64::MIN, BIG + 1, i64::MAX]);
    assert_eq!(x.remainder(BIG).unwrap().to_vec(), [1, BIG - 1, 0]);
    assert_eq!(tensor![i64::MAX].div_floor(2).unwrap().to_vec(), [i64::MAX / 2]);
    assert_eq!(Tensor::arange(BIG + 1, BIG + 4, 1).unwrap().to_vec(), [BIG + 1, BIG + 2, BIG + 3]);
    assert_eq!(x.narrow(0, 0, 1).unwrap().cumsum(0).unwrap().to_vec(), [BIG + 1]);
    assert_eq!(Tensor::full([1], BIG + 1).to_string(), format!("tensor([{}])", BIG + 1));
}

/// In every profile, as in PyTorch: a debug build does not panic.
#[test]
fn integers_wrap_round() {
    const MAX: i64 = i64::MAX;
    const MIN: i64 = i64::MIN;
    let x = &tensor![MAX, MIN];
    assert_eq!((x + x).to_vec(), [-2, 0]);
    assert_eq!((x.clone() + x.clone()).to_vec(), [-2, 0]);
    assert_eq!((x - x.flip(0).unwrap()).to_vec(), [-1, 1]);
    assert_eq!((x * x).to_vec(), [1, 0]);
    assert_eq!([(x + 1).to_vec(), (x - 1).to_vec(), (x * 2).to_vec()], [[MIN, MIN + 1], [MAX - 1, MAX], [-2, 0]]);
    assert_eq!((2 - x).to_vec(), [MIN + 3, MIN + 2]);
    assert_eq!((-x).to_vec(), [MIN + 1, MIN]);
    assert_eq!([x.abs().to_vec(), x.square().to_vec()], [[MAX, MIN], [1, 0]]);
    let many = Tensor::full([300, 2], MAX);
    assert_eq!(many.sum().item().unwrap(), -600);
    assert_eq!(many.sum_dim(0, false).unwrap().to_vec(), [-300, -300]);
    assert_eq!(tensor![MAX, 3].prod().item().unwrap(), MAX - 2);
    assert_eq!(tensor![MAX, 3].cumsum(0).unwrap().to_vec(), [MAX, MIN + 2]);
    assert_eq!(tensor![MAX, 3].cumprod(0).unwrap().to_vec(), [MAX, MAX - 2]);
    assert_eq!(x.diff(1, 0, None, None).unwrap().to_vec(), [1]);
    assert_eq!(x.scatter_add(0, &tensor![0, 0], x).unwrap().to_vec(), [MAX - 1, MIN]);
    assert_eq!([x.div_floor(-1).unwrap().to_vec(), x.div_trunc(-1).unwrap().to_vec()], [[MIN + 1, MIN]; 2]);
    for n in [1, 2, 9, 40] {
        let a = Tensor::full([n, n], MAX);
        assert_eq!(a.mm(&a).unwrap().to_vec(), vec![n as i64; n * n]);
        assert_eq!(a.addmm(&a, &a, 2, 3).unwrap().to_vec(), vec![3 * n as i64 - 2; n * n]);
        assert_eq!(a.trace().unwrap().item().unwrap(), MAX.wrapping_mul(n as i64));
    }
}

/// The gradient is multiplied by one factor after the other where their product leaves the range.
#[test]
fn slopes_that_do_not_fit_alone() {
    let single = [
        ("log", (|x| x.log()) as fn(&Tensor) -> Tensor, 1e-40, 0., 0.),
        ("log", |x| x.log(), 1e-40, 1e-10, 1e30),
        ("log2", |x| x.log2(), 1e-40, 0., 0.),
        ("log10", |x| x.log10(), 1e-40, 0., 0.),
        ("rsqrt", |x| x.rsqrt(), 1e30, 1e30, -5e-16),
        ("rsqrt", |x| x.rsqrt(), 1e30, INF, -INF),
        ("reciprocal", |x| x.reciprocal(), 1e30, 1e30, -1e-30),
        ("reciprocal", |x| x.reciprocal(), 1e30, INF, -INF),
        ("atan", |x| x.atan(), 1e30, 1e30, 1e-30),
        ("softsign", F::softsign, 1e30, INF, INF),
        ("xlogy, by y", |x| tensor![1e30].xlogy(x).unwrap(), 1e-30, 0., 0.),
        ("xlogy, by y", |x| tensor![1e-30].xlogy(x).unwrap(), 1e30, INF, INF),
    ];
    for (name, f, x, g, want) in single {
        for create_graph in [false, true] {
            let got = passes::slope::<f32>(&|x| Ok(f(x)), x, g, create_graph);
            assert!(
                got == want || (got / want - 1.).abs() < 1e-4,
                "{name} at {x}, gradient {g}: {got}, expected {want}"
            );
        }
    }
}

fn second<R: Real>(f: &dyn Fn(&Tensor<R>) -> Tensor<R>, x: &[f64]) -> Vec<f64> {
    let x = x.iter().map(|&x| R::of(x)).collect::<Tensor<R>>().set_requires_grad(true);
    let slope = ndnn::autograd::grad(&[&f(&x).sum()], &[&x], true).unwrap().remove(0).unwrap();
    let twice = ndnn::autograd::grad(&[&slope.sum()], &[&x], false).unwrap().remove(0).unwrap();
    twice.to_vec().iter().map(|x| x.as_f64()).collect()
}

#[test]
fn second_derivatives_keep_their_digits() {
    fn near_0<R: Real>() {
        for x in [1e-30, 1e-10, -1e-6] {
            let rows: [(&str, &dyn Fn(&Tensor<R>) -> Tensor<R>, f64); 4] = [
                ("tanh", &|x| x.tanh(), -2. * x),
                ("asin", &|x| x.asin(), x),
                ("acos", &|x| x.acos(), -x),
                ("atanh", &|x| x.atanh(), 2. * x),
            ];
            for (name, f, want) in rows {
                let got = second(f, &[x])[0];
                assert!((got / want - 1.).abs() < 1e-6, "{name} at {x}: {got}, expected {want}");
            }
        }
    }
    near_0::<f32>();
    near_0::<f64>();
    // The gradients that an output gives its terms sum to 1, whatever the terms are.
    let got = second::<f64>(&|x| x.logcumsumexp(0).unwrap(), &[-INF, -INF, 1., 2., 0.5]);
    assert!(got[2..].iter().all(|d| d.abs() < 1e-15), "{got:?}");
    // x² does not need its logarithm, even where x² is 0 in f32.
    let square = second::<f32>(&|x| x.pow(Tensor::full([1], 2f32)).unwrap(), &[1e-40]);
    assert_eq!(square, [2.]);
}

#[test]
fn a_nan_is_within_any_bounds() {
    for (lo, hi) in [(INF, 1.), (-1., -INF), (-1., 1.)] {
        let (x, lo, hi) = (tensor![NAN; f64].set_requires_grad(true), tensor![lo; f64], tensor![hi; f64]);
        let y = x.clamp_tensor(Some(&lo), Some(&hi)).unwrap();
        y.backward().unwrap();
        assert!(y.to_vec()[0].is_nan() && x.grad().unwrap().to_vec() == [1.]);
    }
}

#[test]
fn weighted_logits_at_infinity() {
    let at = |x: f64, y: f64, p: f64, g: f64, create_graph| {
        let [x, y, p] = [x, y, p].map(|v| tensor![v; f64].set_requires_grad(true));
        let options = F::BCEWithLogitsLossOptions::default().pos_weight(&p).reduction(F::Reduction::None);
        let loss = F::binary_cross_entropy_with_logits(&x, &y, options).unwrap();
        let grads = grad_with(&[&loss], &[Some(&tensor![g; f64])], &[&x, &y, &p], create_graph).unwrap();
        let grads = grads.into_iter().map(|g| g.unwrap().to_vec()[0]);
        std::iter::once(loss.to_vec()[0]).chain(grads).collect::<Vec<_>>()
    };
    let log_2 = std::f64::consts::LN_2;
    for create_graph in [false, true] {
        for ([x, y, p, g], want) in [
            ([INF, 1., 2., 1.], [0., 0., -INF, 0.]),
            ([-INF, 0., 2., 1.], [0., 0., INF, 0.]),
            ([-INF, 1., 2., 1.], [INF, -2., INF, INF]),
            ([INF, 0., 2., 1.], [INF, 1., -INF, 0.]),
            ([-INF, 1., 0., 1.], [0., 0., 0., INF]),
            ([0., 1., 2., 1.], [2. * log_2, -1., log_2, log_2]),
            ([0., 0., 2., INF], [log_2, INF, INF, NAN]),
            ([0., 1., 2., INF], [2. * log_2, -INF, INF, INF]),
        ] {
            let got = at(x, y, p, g, create_graph);
            let near = |(a, b): (&f64, &f64)| a == b || a.is_nan() && b.is_nan() || (a - b).abs() < 1e-15;
            assert!(got.iter().zip(&want).all(near), "x {x}, y {y}, p {p}, g {g}: {got:?}, expected {want:?}");
        }
    }
}
