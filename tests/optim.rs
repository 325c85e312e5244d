//! Optimizers: single steps against their formulas, options, groups, the learning rate, clipping.

use ndnn::{
    ErrorKind,
    nn::utils::{clip_grad_norm, clip_grad_norm_p, clip_grad_value},
    optim::{Adam, AdamW, SGD},
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
    // The first step of a momentum is the gradient itself, the dampening enters with the second.
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
    assert_eq!(adam.group_names(2), ["1.weight", "1.bias"]);
    assert_eq!(
        adam.groups().iter().map(|g| (g.lr, g.weight_decay)).collect::<Vec<_>>(),
        [(1e-3, 0.01), (1e-3, 0.0), (0.5, 0.01)]
    );
    assert_eq!((adam.lr(), adam.lrs_mut().len()), (1e-3, 3));
    adam.set_lr(0.25);
    assert!(adam.groups().iter().all(|g| g.lr == 0.25));
    *adam.lrs_mut()[1] = 0.125;
    assert_eq!(adam.groups()[1].lr, 0.125);
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
    // What has no gradient stays as it is.
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
    let error = SGD::new(Vec::<Param>::new(), 0.1).step().unwrap_err();
    assert_eq!(error.to_string(), "step: this optimizer was given no parameters");
    model.forward(&Tensor::ones([1, 2])).unwrap().sum().backward().unwrap();
    let error = SGD::new(&model, 0.1).nesterov(true).step().unwrap_err();
    assert_eq!(
        error.to_string(),
        "SGD: Nesterov's momentum needs a momentum and no dampening; momentum is 0, dampening 0"
    );
    assert_eq!(model.weight.detach(), before);
}

#[test]
#[should_panic(expected = "a learning rate is at least 0, got -0.1")]
fn a_negative_rate() {
    let _ = SGD::new(&Linear::new(1, 1), -0.1);
}

#[test]
#[should_panic(expected = "betas are at least 0 and below 1, got (0.9, 1.0)")]
fn a_beta_of_one() {
    let _ = Adam::new(&Linear::new(1, 1), 0.1).betas((0.9, 1.0));
}

#[test]
#[should_panic(expected = "a weight decay is at least 0, got NaN")]
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
    assert_eq!(clip_grad_norm_p(params(), 1.0, f64::INFINITY).unwrap(), 4.0);
    assert_eq!(clip_grad_norm_p(params(), 1.0, 1.0).unwrap(), 7.0);
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
}
