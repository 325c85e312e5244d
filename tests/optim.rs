//! Optimizers: single steps against their formulas, options, groups, the learning rate, clipping.

mod common;
#[path = "optim/rules.rs"]
mod rules;
#[path = "optim/state.rs"]
mod state;

use ndnn::{
    ErrorKind,
    nn::utils::{TotalNormOptions, clip_grad_norm, clip_grad_norm_with, clip_grad_value},
    optim::{self, Adam, AdamW, RMSprop, SGD},
    prelude::*,
};

/// A parameter with this gradient.
fn param(value: f64, grad: f64) -> Param<f64> {
    let p = Param::new(tensor![value; f64]);
    p.set_grad(Some(tensor![grad; f64])).unwrap();
    p
}

fn value(p: &Param<f64>) -> f64 {
    p.detach().item().unwrap()
}

fn close(a: f64, b: f64) {
    assert!((a - b).abs() <= 1e-12 * b.abs().max(1.0), "{a} is not {b}");
}

#[test]
fn sgd_by_hand() {
    let (x, g, lr) = (2.0, 0.5, 0.1);
    let after = |steps: usize, change: &dyn Fn(SGD) -> SGD| {
        let p = param(x, g);
        let mut sgd = change(SGD::new(vec![p.clone()], lr));
        (0..steps).for_each(|_| sgd.step().unwrap());
        value(&p)
    };
    close(after(1, &|o| o), x - lr * g);
    close(after(1, &|o| o.maximize(true)), x + lr * g);
    close(after(1, &|o| o.weight_decay(0.3)), x - lr * (g + 0.3 * x));
    // In the first step the momentum is the gradient itself; dampening begins with the second step.
    close(after(1, &|o| o.momentum(0.9).dampening(0.5)), x - lr * g);
    close(after(2, &|o| o.momentum(0.9)), x - lr * g - lr * (0.9 * g + g));
    close(after(2, &|o| o.momentum(0.9).dampening(0.5)), x - lr * g - lr * (0.9 * g + 0.5 * g));
    close(after(1, &|o| o.momentum(0.9).nesterov(true)), x - lr * (g + 0.9 * g));
}

#[test]
fn adam_by_hand() {
    let (x, g, lr, eps) = (2.0f64, 0.5f64, 0.1, 1e-3);
    // After one step the corrected means are the gradient and its square.
    let p = param(x, g);
    Adam::new(vec![p.clone()], lr).eps(eps).step().unwrap();
    close(value(&p), x - lr * g / (g + eps));
    let p = param(x, g);
    Adam::new(vec![p.clone()], lr).eps(eps).weight_decay(0.1).step().unwrap();
    let decayed = g + 0.1 * x;
    close(value(&p), x - lr * decayed / (decayed + eps));
    let p = param(x, g);
    AdamW::new(vec![p.clone()], lr).eps(eps).weight_decay(0.1).step().unwrap();
    close(value(&p), x * (1.0 - lr * 0.1) - lr * g / (g + eps));
    let p = param(x, g);
    AdamW::new(vec![p.clone()], lr).eps(eps).maximize(true).weight_decay(0.0).step().unwrap();
    close(value(&p), x + lr * g / (g + eps));
    assert_eq!(AdamW::new(vec![p.clone()], lr).groups()[0].weight_decay, 0.01);
    assert_eq!(Adam::new(vec![p], lr).groups()[0].weight_decay, 0.0);
}

#[test]
fn amsgrad_remembers_the_largest() {
    let (x, lr, eps, b1, b2) = (2.0, 0.1, 1e-3, 0.8, 0.5);
    let (large, small) = (4.0f64, 0.1f64);
    let run = |amsgrad| {
        let p = param(x, large);
        let mut adam = Adam::new(vec![p.clone()], lr).betas((b1, b2)).eps(eps).amsgrad(amsgrad);
        adam.step().unwrap();
        p.set_grad(Some(tensor![small; f64])).unwrap();
        adam.step().unwrap();
        value(&p)
    };
    let first = x - lr * large / (large + eps);
    let mean = (b1 * (1.0 - b1) * large + (1.0 - b1) * small) / (1.0 - b1 * b1);
    let squares = [(1.0 - b2) * large * large, b2 * (1.0 - b2) * large * large + (1.0 - b2) * small * small];
    let second = |v: f64| first - lr * mean / ((v / (1.0 - b2 * b2)).sqrt() + eps);
    close(run(false), second(squares[1]));
    close(run(true), second(squares[0]));
}

#[test]
fn groups_by_pattern() {
    let model = sequential![Linear::new(3, 4), Linear::new(4, 1)];
    let mut adam =
        AdamW::new(&model, 1e-3).group("*.bias", |g| g.weight_decay(0.0)).unwrap().group("1.*", |g| g.lr(0.5)).unwrap();
    assert_eq!(adam.group_names(0), ["0.weight"]);
    assert_eq!(adam.group_names(1), ["0.bias"]);
    // A change starts from the options that each group has by then.
    assert_eq!((adam.group_names(2), adam.group_names(3)), (vec!["1.weight"], vec!["1.bias"]));
    assert_eq!(
        adam.groups().iter().map(|g| (g.lr, g.weight_decay)).collect::<Vec<_>>(),
        [(1e-3, 0.01), (1e-3, 0.0), (0.5, 0.01), (0.5, 0.0)]
    );
    assert_eq!((adam.lr(), adam.group_count()), (1e-3, 4));
    adam.set_lr(0.25);
    assert!(adam.groups().iter().all(|g| g.lr == 0.25));
    adam.set_option(1, "lr", 0.125).unwrap();
    assert_eq!((adam.groups()[0].lr, adam.groups()[1].lr), (0.25, 0.125));
    let error = AdamW::new(&model, 1e-3).group("2.*", |g| g).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::State);
    let expected = "pattern: `2.*` matches no parameter; there are 0.weight, 0.bias, 1.weight, 1.bias";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_group_steps_by_its_own_options() {
    let model = Linear::new(1, 1).dtype::<f64>();
    let (weight, bias) = (model.weight.clone(), model.bias.clone().unwrap());
    for p in [&weight, &bias] {
        p.update(|mut x| x.fill(1.0));
        p.set_grad(Some(Tensor::ones(p.shape()))).unwrap();
    }
    let mut sgd = SGD::new(&model, 0.1).group("bias", |g| g.lr(0.5)).unwrap();
    sgd.step().unwrap();
    close(weight.detach().item().unwrap(), 0.9);
    close(bias.detach().item().unwrap(), 0.5);
    // A parameter without a gradient is unchanged.
    sgd.zero_grad();
    assert!(!weight.has_grad());
    bias.set_grad(Some(Tensor::ones([1]))).unwrap();
    sgd.step().unwrap();
    close(weight.detach().item().unwrap(), 0.9);
    close(bias.detach().item().unwrap(), 0.0);
}

#[test]
fn training_learns() {
    ndnn::manual_seed(0);
    let model = Linear::new(2, 1);
    let x: Tensor = Tensor::randn([64, 2]);
    let y = x.matmul(&tensor![[2.0], [-1.0]]).unwrap() + 0.5;
    let mut adam = Adam::new(&model, 0.1);
    for _ in 0..200 {
        let loss = (model.forward(&x).unwrap() - &y).square().mean();
        adam.zero_grad();
        loss.backward().unwrap();
        adam.step().unwrap();
    }
    let [w, b] = [model.weight.detach().to_vec(), model.bias.as_ref().unwrap().detach().to_vec()];
    assert!((w[0] - 2.0).abs() < 0.01 && (w[1] + 1.0).abs() < 0.01 && (b[0] - 0.5).abs() < 0.01, "{w:?} {b:?}");
}

#[test]
fn steps_that_cannot_be() {
    let model = Linear::new(2, 1);
    let before = model.weight.detach();
    let error = SGD::new(&model, 0.1).step().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Graph);
    assert!(error.to_string().starts_with("step: none of the 2 parameters has a gradient; call backward()"), "{error}");
    model.forward(&Tensor::ones([1, 2])).unwrap().sum().backward().unwrap();
    let error = SGD::new(&model, 0.1).nesterov(true).step().unwrap_err();
    assert_eq!(
        error.to_string(),
        "SGDOptions: Nesterov's momentum needs a momentum and no dampening; momentum is 0, dampening 0; \
         in the optimizer's group 0 (weight, bias)"
    );
    assert_eq!(model.weight.detach(), before);
}

#[test]
#[should_panic(expected = "a learning rate is at least 0 and finite, got -0.1")]
fn a_negative_rate() {
    let _ = SGD::new(&Linear::new(1, 1), -0.1);
}

#[test]
#[should_panic(expected = "betas are at least 0 and below 1, got (0.9, 1.0)")]
fn a_beta_of_one() {
    let _ = Adam::new(&Linear::new(1, 1), 0.1).betas((0.9, 1.0));
}

#[test]
#[should_panic(expected = "a weight decay is at least 0 and finite, got nan")]
fn a_decay_that_is_no_number() {
    let _ = AdamW::new(&Linear::new(1, 1), 0.1).weight_decay(f64::NAN);
}

#[test]
fn clipping() {
    let params = || vec![param(0.0, 3.0), param(0.0, -4.0)];
    let grads = |p: &[Param<f64>]| p.iter().map(|p| p.grad().unwrap().item().unwrap()).collect::<Vec<f64>>();
    let p = params();
    close(clip_grad_norm(p.clone(), 1.0).unwrap(), 5.0);
    let scale = 1.0 / (5.0 + 1e-6);
    close(grads(&p)[0], 3.0 * scale);
    close(grads(&p)[1], -4.0 * scale);
    let p = params();
    close(clip_grad_norm(p.clone(), 6.0).unwrap(), 5.0);
    assert_eq!(grads(&p), [3.0, -4.0]);
    let with = |p| clip_grad_norm_with(params(), 1.0, TotalNormOptions::default().norm_type(p)).unwrap();
    assert_eq!((with(f64::INFINITY), with(1.0)), (4.0, 7.0));
    let p = params();
    clip_grad_value(p.clone(), 3.5).unwrap();
    assert_eq!(grads(&p), [3.0, -3.5]);
    for wrong in [-1.0, f64::NAN] {
        let error = clip_grad_norm(params(), wrong).unwrap_err();
        assert_eq!(error.to_string(), format!("clip_grad_norm: max_norm is at least 0, got {wrong}"));
    }
}

#[test]
fn clipping_names_what_is_not_finite_and_changes_nothing() {
    let model = sequential![Linear::new(1, 1), Linear::new(1, 1)];
    for (_, p) in model.named_parameters() {
        let ndnn::nn::AnyParam::F32(p) = p else { panic!("f32") };
        p.set_grad(Some(Tensor::full(p.shape(), 100.0))).unwrap();
    }
    let (name, bad) = model.named_parameters().swap_remove(2);
    let ndnn::nn::AnyParam::F32(bad) = bad else { panic!("f32") };
    bad.set_grad(Some(tensor![[f32::NAN]])).unwrap();
    let error = clip_grad_norm(&model, 1.0).unwrap_err();
    assert_eq!(name, "1.weight");
    let expected = "clip_grad_norm: the gradient is not finite in 1.weight; no gradient was changed";
    assert_eq!(error.to_string(), expected);
    let grads: Vec<f32> = model.parameters().iter().map(|p| p.grad().unwrap().to::<f32>().to_vec()[0]).collect();
    assert!(grads[0] == 100.0 && grads[1] == 100.0 && grads[2].is_nan() && grads[3] == 100.0);

    let many: Vec<Param> = (0..12).map(|_| Param::new(tensor![1.0])).collect();
    many.iter().for_each(|p| p.set_grad(Some(tensor![f32::NAN])).unwrap());
    let expected = "clip_grad_norm: the gradient is not finite in 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more; no gradient was changed";
    assert_eq!(clip_grad_norm(many, 1.0).unwrap_err().to_string(), expected);
}

#[test]
fn groups_that_are_whole_stay_one() {
    let model = sequential![Linear::new(3, 4), Linear::new(4, 1)];
    let sgd = SGD::new(&model, 0.1).group("*", |g| g.lr(0.2)).unwrap().group("1.*", |g| g.momentum(0.5)).unwrap();
    let double = |g: optim::SGDOptions| {
        let lr = g.lr;
        g.lr(lr * 2.)
    };
    let sgd = sgd.group("1.*", double).unwrap().weight_decay(0.25);
    let all: Vec<_> = sgd.groups().iter().map(|g| (g.lr, g.momentum, g.weight_decay)).collect();
    assert_eq!(all, [(0.2, 0., 0.25), (0.4, 0.5, 0.25)]);
    assert_eq!((sgd.group_names(0), sgd.group_names(1)), (vec!["0.weight", "0.bias"], vec!["1.weight", "1.bias"]));
}

#[test]
fn options_written_past_their_setters() {
    let refused = |change: &dyn Fn(&mut Adam), expected: &str| {
        let (p, q) = (param(1., 1.), param(1., 1.));
        let mut adam = Adam::new(vec![p.clone(), q], 0.1).group("1", |g| g.lr(0.2)).unwrap();
        change(&mut adam);
        let error = adam.step().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Value);
        assert_eq!(error.to_string(), format!("AdamOptions: {expected}; in the optimizer's group 1 (1)"));
        assert_eq!(value(&p), 1.);
    };
    for (bad, shown) in [(f64::NAN, "nan"), (-1., "-1.0"), (f64::INFINITY, "inf")] {
        refused(&|o| o.groups_mut()[1].lr = bad, &format!("a learning rate is at least 0 and finite, got {shown}"));
        refused(&|o| o.groups_mut()[1].eps = bad, &format!("eps is at least 0 and finite, got {shown}"));
        let decay = format!("a weight decay is at least 0 and finite, got {shown}");
        refused(&|o| o.groups_mut()[1].weight_decay = bad, &decay);
        let betas = format!("betas are at least 0 and below 1, got (0.9, {shown})");
        refused(&|o| o.groups_mut()[1].betas.1 = bad, &betas);
        for change in
            [(|o, v| o.lr = v) as fn(&mut optim::SGDOptions, f64), |o, v| o.momentum = v, |o, v| o.weight_decay = v]
        {
            let mut sgd = SGD::new(vec![param(1., 1.)], 0.1);
            change(&mut sgd.groups_mut()[0], bad);
            assert_eq!(sgd.step().unwrap_err().kind(), ErrorKind::Value);
        }
    }
    let mut sgd = SGD::new(vec![param(1., 1.)], 0.1);
    sgd.groups_mut()[0].dampening = f64::NAN;
    assert!(sgd.step().unwrap_err().to_string().contains("a dampening is finite, got nan"));
}

#[test]
fn rates_that_cannot_be_panic_at_the_caller() {
    for (bad, shown) in [(f64::NAN, "nan"), (-0.1, "-0.1"), (f64::INFINITY, "inf")] {
        let text = common::panic_of(|| SGD::new(vec![param(1., 1.)], 0.1).set_lr(bad));
        assert_eq!(text, format!("a learning rate is at least 0 and finite, got {shown}"));
    }
}

#[test]
#[should_panic(expected = "an optimizer needs parameters; the model or list that it was given has none")]
fn over_nothing() {
    let _ = Adam::new(&ReLU, 0.1);
}

#[test]
fn a_parameter_listed_twice_steps_once() {
    let p = param(1., 1.);
    SGD::new(vec![p.clone(), p.clone()], 0.25).step().unwrap();
    close(value(&p), 0.75);
}

#[test]
fn rmsprop_by_hand() {
    let (x, g, lr, eps) = (2.0f64, 0.5f64, 0.1, 1e-3);
    let after = |grads: &[f64], change: &dyn Fn(RMSprop) -> RMSprop| {
        let p = param(x, 0.);
        let mut rmsprop = change(RMSprop::new(vec![p.clone()], lr).eps(eps));
        for &g in grads {
            p.set_grad(Some(tensor![g; f64])).unwrap();
            rmsprop.step().unwrap();
        }
        value(&p)
    };
    let (square, mean) = (0.01 * g * g, 0.01 * g);
    let first = lr * g / (square.sqrt() + eps);
    close(after(&[g], &|o| o), x - first);
    close(after(&[g], &|o| o.momentum(0.9)), x - first);
    close(after(&[g], &|o| o.maximize(true)), x + first);
    close(after(&[g], &|o| o.centered(true)), x - lr * g / ((square - mean * mean).sqrt() + eps));
    let decayed = g + 0.3 * x;
    close(after(&[g], &|o| o.weight_decay(0.3)), x - lr * decayed / ((0.01 * decayed * decayed).sqrt() + eps));
    let second = g / ((0.99 * square + 0.01 * g * g).sqrt() + eps);
    close(after(&[g, g], &|o| o.momentum(0.9)), x - first - lr * (0.9 * first / lr + second));
    // The mean square is that of the last gradient alone.
    close(after(&[8., g], &|o| o.alpha(0.)), x - lr * 8. / (8. + eps) - lr * g / (g + eps));
}

/// The parameter that PyTorch's SGD, Adam and RMSprop produce in each of two steps with infinities.
#[test]
fn gradients_that_are_extreme() {
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    let run = |mut optimizer: Box<dyn Optimizer>, p: &Param<f64>, grads: [f64; 2]| {
        grads.map(|g| {
            p.set_grad(Some(tensor![g; f64])).unwrap();
            optimizer.step().unwrap();
            value(p)
        })
    };
    let check = |what: &str, got: [f64; 2], want: [f64; 2]| {
        let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() < 1e-6 * b.abs();
        assert!(same(got[0], want[0]) && same(got[1], want[1]), "{what}: {got:?}, expected {want:?}");
    };
    let sgd: [(&str, fn(SGD) -> SGD); 4] = [
        ("plain", |o| o),
        ("momentum", |o| o.momentum(0.9)),
        ("nesterov", |o| o.momentum(0.9).nesterov(true)),
        ("dampening", |o| o.momentum(0.9).dampening(0.5)),
    ];
    for (name, change) in sgd {
        let after = |start, grads| {
            let p = param(start, 0.);
            run(Box::new(change(SGD::new(vec![p.clone()], 0.1))), &p, grads)
        };
        let first = if name == "nesterov" { 0.81 } else { 0.9 };
        check(name, after(1., [INF, 1.]), [-INF, -INF]);
        check(name, after(1., [1., INF]), [first, -INF]);
        check(name, after(1., [INF, -INF]), [-INF, NAN]);
        check(name, after(1., [NAN, 1.]), [NAN, NAN]);
        check(name, after(INF, [1., 1.]), [INF, INF]);
        check(name, after(1., [0., 0.]), [1., 1.]);
    }
    let climbing = |grads| {
        let p = param(1., 0.);
        run(Box::new(SGD::new(vec![p.clone()], 0.1).momentum(0.9).maximize(true)), &p, grads)
    };
    check("maximize", climbing([INF, 1.]), [INF, INF]);
    let adam: [fn(Adam) -> Adam; 3] = [|o| o, |o| o.amsgrad(true), |o| o.betas((0., 0.5))];
    for (k, change) in adam.into_iter().enumerate() {
        let after = |start, grads| {
            let p = param(start, 0.);
            run(Box::new(change(Adam::new(vec![p.clone()], 0.1))), &p, grads)
        };
        let what = format!("Adam {k}");
        check(&what, after(1., [INF, 1.]), [NAN, NAN]);
        check(&what, after(1., [1., INF]), [0.9, NAN]);
        check(&what, after(INF, [1., 1.]), [INF, INF]);
        check(&what, after(1., [0., 0.]), [1., 1.]);
    }
    let p = param(INF, 0.);
    check("AdamW", run(Box::new(AdamW::new(vec![p.clone()], 0.1)), &p, [1., 1.]), [INF, INF]);
    let rmsprop: [(fn(RMSprop) -> RMSprop, f64); 4] = [
        (|o| o, 9.99999903994464e-08),
        (|o| o.centered(true), -0.005037714249120917),
        (|o| o.momentum(0.9), 9.999999027732188e-08),
        (|o| o.momentum(0.9).centered(true), -0.005037714249120796),
    ];
    for (k, (change, first)) in rmsprop.into_iter().enumerate() {
        let after = |start, grads| {
            let p = param(start, 0.);
            run(Box::new(change(RMSprop::new(vec![p.clone()], 0.1))), &p, grads)
        };
        let what = format!("RMSprop {k}");
        check(&what, after(1., [INF, 1.]), [NAN, NAN]);
        check(&what, after(1., [1., INF]), [first, NAN]);
        check(&what, after(1., [1e200, 1.]), [1., 1.]);
        check(&what, after(1., [1e-200, 1e-200]), [1., 1.]);
        check(&what, after(INF, [1., 1.]), [INF, INF]);
        check(&what, after(1., [0., 0.]), [1., 1.]);
    }
    // With a β₁ of 0 the mean is the gradient, whatever it was before.
    let p = param(1., 0.);
    let adam = Adam::new(vec![p.clone()], 0.1).betas((0., 0.)).eps(0.);
    check("a mean without memory", run(Box::new(adam), &p, [1e30, 1.]), [0.9, 0.8]);
}

#[test]
fn without_gradient() {
    let net = sequential![Linear::new(2, 2), Linear::new(2, 2), Linear::new(2, 2)];
    for (name, p) in net.named_parameters() {
        p.set_requires_grad(name != "2.bias");
        if name.starts_with("0.") {
            let ndnn::nn::AnyParam::F32(p) = p else { panic!("f32") };
            p.set_grad(Some(Tensor::ones(p.shape()))).unwrap();
        }
    }
    let mut sgd = SGD::new(&net, 0.1);
    assert_eq!(sgd.without_gradient().len(), 5);
    (0..5).for_each(|_| sgd.step().unwrap());
    assert_eq!(sgd.without_gradient(), ["1.weight", "1.bias", "2.weight"]);
    let mut quiet = SGD::new(&net, 0.1).warn_without_gradient(false);
    (0..5).for_each(|_| quiet.step().unwrap());
}

/// Runs the test above in a process of its own: what it writes to standard error.
#[test]
fn told_once() {
    let this = std::env::current_exe().unwrap();
    // This file may be a module of another test.
    let test = [module_path!(), "::without_gradient"].concat();
    let test = test.split_once("::").expect("a crate's name first").1;
    let output = std::process::Command::new(this).args(["--exact", test, "--nocapture"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    let told: Vec<&str> = text.lines().filter(|line| line.starts_with("ndnn: ")).collect();
    let expected = "ndnn: 3 of 6 parameters had no gradient in the optimizer's first 3 steps: 1.weight, 1.bias, 2.weight. \
                    Use them in the forward pass, freeze them, or turn this off with warn_without_gradient(false).";
    assert_eq!(told, [expected], "{text}");
}

#[test]
fn clipping_of_any_size() {
    let clipped = |grads: &[f64], max_norm: f64, p: f64| {
        let params: Vec<_> = grads.iter().map(|&g| param(0., g)).collect();
        let norm = clip_grad_norm_with(params.clone(), max_norm, TotalNormOptions::default().norm_type(p)).unwrap();
        (norm, params.iter().map(|p| p.grad().unwrap().item().unwrap()).collect::<Vec<f64>>())
    };
    for p in [0.5, 1., 2., 3., 10., 100., f64::INFINITY] {
        let (unit, small) = clipped(&[3., -4.], 0.125, p);
        for size in [1e35, 1.2e154, 1e300] {
            let (norm, grads) = clipped(&[3. * size, -4. * size], 0.125, p);
            assert!((norm / size / unit - 1.).abs() < 1e-12, "p {p}, size {size}: {norm}");
            grads.iter().zip(&small).for_each(|(a, b)| assert!((a - b).abs() < 1e-6, "p {p}, size {size}: {grads:?}"));
        }
        let (norm, _) = clipped(&[3e-200, -4e-200], 1., p);
        assert!((norm / 1e-200 / unit - 1.).abs() < 1e-12, "p {p}: {norm}");
    }
    // Finite gradients whose norm does not fit an f64.
    let (norm, grads) = clipped(&[1.7e308, 1.7e308, -1.7e308], 3f64.sqrt(), 2.);
    assert_eq!(norm, f64::INFINITY);
    grads.iter().for_each(|g| close(g.abs(), 1.));
    let p: Param = Param::new(tensor![1e35, -1e35]);
    p.set_grad(Some(tensor![1e35, -1e35])).unwrap();
    clip_grad_norm_with(vec![p.clone()], 1., TotalNormOptions::default().norm_type(10.)).unwrap();
    assert!((p.grad().unwrap().to_vec()[0] - 0.5_f32.powf(0.1)).abs() < 1e-5);
    let p: Param = Param::new(tensor![3e38, 3e38]);
    p.set_grad(Some(tensor![3e38, 3e38])).unwrap();
    clip_grad_norm(vec![p.clone()], 1e-5).unwrap();
    assert!((p.grad().unwrap().to_vec()[1] / 7.0710677e-6 - 1.).abs() < 1e-5);
}

#[test]
fn a_momentum_that_is_switched_off_waits() {
    let p = param(1.0, 1.0);
    let mut sgd = SGD::new(vec![p.clone()], 0.1).momentum(0.5);
    let mut step = |momentum| {
        sgd.groups_mut()[0].momentum = momentum;
        sgd.step().unwrap();
        value(&p)
    };
    // The buffer is 1, then 1.5, not touched, then 0.5 · 1.5 + 1: PyTorch's numbers.
    for (momentum, expected) in [(0.5, 0.9), (0.5, 0.75), (0.0, 0.65), (0.5, 0.475)] {
        close(step(momentum), expected);
    }
}
