//! Losses at the edges: scores and probabilities of any size, nothing to count.

use ndnn::{
    autograd::grad,
    functional::{self as F, Reduction},
    prelude::*,
};

use super::{T, close, values};

#[test]
fn targets_of_both_types() {
    let (single, double) = (Tensor::<f32>::zeros([2, 3]), T::zeros([2, 3]));
    let y = tensor![0, 1];
    assert!((F::cross_entropy(&single, &y, Default::default()).unwrap().item().unwrap() - 3f32.ln()).abs() < 1e-6);
    assert!((F::cross_entropy(&double, &y, Default::default()).unwrap().item().unwrap() - 3f64.ln()).abs() < 1e-12);
    let _ = F::cross_entropy(&single, &single, Default::default()).unwrap();
    let _ = F::cross_entropy(&double, &double, Default::default()).unwrap();
    assert_eq!(
        F::cross_entropy(&single.set_requires_grad(true), &y, Default::default()).unwrap().grad_fn(),
        Some("cross_entropy")
    );
}

#[test]
fn scores_of_any_size() {
    // Exact in f32, where a softmax followed by a logarithm is not.
    let x = tensor![[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4], [1e4, 9999.0, -1e4]].set_requires_grad(true);
    let options = F::CrossEntropyLossOptions::default().reduction(Reduction::None);
    let loss = F::cross_entropy(&x, &tensor![1, 2, 0], options).unwrap();
    assert!(loss.allclose(&tensor![20000.0, 1.098_612_3, 0.313_261_7], 1e-6, 0.0, false).unwrap(), "{loss}");
    loss.sum().backward().unwrap();
    let third = 1.0 / 3.0;
    let grad = tensor![[1.0, -1.0, 0.0], [third, third, third - 1.0], [-0.268_941_4, 0.268_941_4, 0.0]];
    assert!(x.grad().unwrap().allclose(&grad, 1e-6, 1e-7, false).unwrap());

    let x = tensor![1e4, -1e4, 1e30, -1e30, 0.0, -30.0].set_requires_grad(true);
    let y = tensor![0.0, 1.0, 1.0, 0.0, 0.5, 0.0];
    let options = F::BCEWithLogitsLossOptions::default().reduction(Reduction::None);
    let loss = F::binary_cross_entropy_with_logits(&x, &y, options).unwrap();
    let expected = tensor![1e4, 1e4, 0.0, 0.0, std::f64::consts::LN_2, 9.357_623e-14];
    assert!(loss.allclose(&expected, 1e-6, 0.0, false).unwrap(), "{loss}");
    loss.sum().backward().unwrap();
    assert!(x.grad().unwrap().allclose(&tensor![1.0, -1.0, 0.0, 0.0, 0.0, 9.357_623e-14], 1e-6, 0.0, false).unwrap());
}

#[test]
fn many_positions_give_what_few_give() {
    // Enough for several tasks, contiguous and not.
    let x = values(&[300, 7, 31], 0.1);
    let y: Tensor<i64> = (0..300 * 31).map(|i| i % 7).collect();
    let y = y.reshape([300, 31]).unwrap();
    let options = F::CrossEntropyLossOptions::default().reduction(Reduction::None).label_smoothing(0.1);
    let run = |x: &T, y: &Tensor<i64>| {
        let x = x.set_requires_grad(true);
        let loss = F::cross_entropy(&x, y, options).unwrap();
        loss.sum().backward().unwrap();
        (loss.detach(), x.grad().unwrap())
    };
    let (loss, grad) = run(&x, &y);
    for i in [0, 150, 299] {
        let part = run(&x.narrow(0, i, 1).unwrap(), &y.narrow(0, i, 1).unwrap());
        assert_eq!(part.0, loss.narrow(0, i, 1).unwrap());
        assert_eq!(part.1, grad.narrow(0, i, 1).unwrap());
    }
    let last = x.permute([0, 2, 1]).unwrap().contiguous().permute([0, 2, 1]).unwrap();
    assert_eq!(run(&last, &y), (loss, grad));
}

#[test]
fn nothing_to_count() {
    let item = |loss: Result<T>| loss.unwrap().item().unwrap();
    let x = values(&[2, 3], 0.3).set_requires_grad(true);
    let ignored = tensor![-100, -100];
    for label_smoothing in [0.0, 0.1] {
        let options = F::CrossEntropyLossOptions::default().label_smoothing(label_smoothing);
        let loss = F::cross_entropy(&x, &ignored, options).unwrap();
        assert!(loss.item().unwrap().is_nan());
        x.zero_grad();
        loss.backward().unwrap();
        assert_eq!(x.grad().unwrap(), x.zeros_like().detach());
        assert_eq!(item(F::cross_entropy(&x, &ignored, options.reduction(Reduction::Sum))), 0.0);
    }
    let empty = T::zeros([0, 3]);
    let none = Tensor::<i64>::zeros([0]);
    assert!(item(F::cross_entropy(&empty, &none, Default::default())).is_nan());
    assert!(item(F::cross_entropy(&empty, &empty, Default::default())).is_nan());
    assert!(item(F::mse_loss(&empty, &empty, Default::default())).is_nan());
    assert!(item(F::binary_cross_entropy(&empty, &empty, Default::default())).is_nan());
    let options = F::NLLLossOptions::default().reduction(Reduction::None);
    assert_eq!(F::nll_loss(&T::zeros([2, 3, 0]), &Tensor::zeros([2, 0]), options).unwrap().shape(), [2, 0]);
    // Without classes, only ignored targets are valid.
    let no_class = T::zeros([2, 0]);
    assert_eq!(F::nll_loss(&no_class, &ignored, options).unwrap(), tensor![0.0, 0.0; f64]);
    assert!(item(F::cross_entropy(&no_class, &ignored, Default::default())).is_nan());
    assert!(item(F::cross_entropy(&no_class, &no_class, Default::default())).is_nan());
}

#[test]
fn certain_probabilities() {
    // The logarithms are limited to -100, the gradient of the input to 10¹², as in PyTorch.
    let x = tensor![0.0, 1.0, 0.0, 1.0, 0.5; f64].set_requires_grad(true);
    let options = F::BCELossOptions::default().reduction(Reduction::None);
    let loss = F::binary_cross_entropy(&x, &tensor![0.0, 0.0, 1.0, 1.0, 0.5; f64], options).unwrap();
    close(&loss, &tensor![0.0, 100.0, 100.0, 0.0, std::f64::consts::LN_2; f64]);
    loss.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), tensor![0.0, 1e12, -1e12, 0.0, 0.0; f64]);
}

#[test]
fn the_corners_of_distances() {
    let x = tensor![0.0, 1.0, -1.0, 2.0, -2.0, 0.5, f64::INFINITY; f64].set_requires_grad(true);
    let y = x.zeros_like();
    let gradient = |loss: Result<T>| {
        x.zero_grad();
        loss.unwrap().sum().backward().unwrap();
        x.grad().unwrap()
    };
    let sum = Reduction::Sum;
    let l1 = F::l1_loss(&x, &y, F::MSELossOptions::default().reduction(sum));
    assert_eq!(gradient(l1), tensor![0.0, 1.0, -1.0, 1.0, -1.0, 1.0, 1.0; f64]);
    let bent = tensor![0.0, 1.0, -1.0, 1.0, -1.0, 0.5, 1.0; f64];
    assert_eq!(gradient(F::smooth_l1_loss(&x, &y, F::SmoothL1LossOptions::default().reduction(sum))), bent);
    assert_eq!(gradient(F::huber_loss(&x, &y, F::HuberLossOptions::default().reduction(sum))), bent);
    let nan = T::scalar(f64::NAN).set_requires_grad(true);
    let loss = F::huber_loss(&nan, &T::scalar(0.0), Default::default()).unwrap();
    loss.backward().unwrap();
    assert!(loss.item().unwrap().is_nan() && nan.grad().unwrap().item().unwrap().is_nan());
}

#[test]
fn logits_that_are_nearly_certain() {
    let options = || F::BCEWithLogitsLossOptions::default().reduction(Reduction::None);
    let x = tensor![12.0, 16.0, -16.0, 100.0, -100.0, f32::INFINITY, -f32::INFINITY, 30.0].set_requires_grad(true);
    let y = tensor![1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0];
    let loss = F::binary_cross_entropy_with_logits(&x, &y, options()).unwrap();
    let tail = |x: f64| (-x).exp().ln_1p() as f32;
    let want = tensor![6.144_193e-6, 1.125_351_7e-7, 1.125_351_7e-7, tail(100.), tail(100.), 0.0, 0.0, 30.0];
    assert!(loss.allclose(&want, 1e-6, 2e-45, false).unwrap(), "{loss}");
    // And their gradient, σ(x) − y.
    for create_graph in [true, false] {
        let got = grad(&[&loss.sum()], &[&x], create_graph).unwrap().remove(0).unwrap().detach();
        let want = tensor![-6.144_174e-6, -1.125_351_6e-7, 1.125_351_6e-7, -tail(100.), tail(100.), 0.0, 0.0, 1.0];
        assert!(got.allclose(&want, 1e-6, 2e-45, false).unwrap(), "{got}");
    }
    for p in [1e-9, 3.0, 1e30] {
        let p = tensor![p];
        let (x, y) = (tensor![16.0, -16.0], tensor![1.0, 0.0]);
        let loss = F::binary_cross_entropy_with_logits(&x, &y, options().pos_weight(&p)).unwrap();
        let want = tensor![1.125_351_7e-7, 1.125_351_7e-7] * Tensor::cat(&[&p, &tensor![1.0]], 0).unwrap();
        assert!(loss.allclose(&want, 1e-6, 0., false).unwrap(), "{loss}");
    }
    let wide = F::binary_cross_entropy_with_logits(&tensor![40.; f64], &tensor![1.; f64], Default::default());
    assert!((wide.unwrap().item().unwrap() / (-40f64).exp() - 1.).abs() < 1e-13);
    // The same for a dominant class, with its gradient in both passes.
    let x = tensor![[20.0, 0.0]].set_requires_grad(true);
    let loss = F::cross_entropy(&x, &tensor![0], Default::default()).unwrap();
    let rest = (-20f32).exp();
    assert!((loss.item().unwrap() / rest - 1.).abs() < 1e-6, "{loss}");
    for create_graph in [true, false] {
        let got = grad(&[&loss], &[&x], create_graph).unwrap().remove(0).unwrap().detach();
        assert!(got.allclose(&tensor![[-rest, rest]], 1e-6, 0., false).unwrap(), "{got}");
    }
}

#[test]
fn second_derivatives_of_nearly_certain_probabilities() {
    let x = tensor![1e-13, 0.25, 0.0, 1.0; f64].set_requires_grad(true);
    let y = tensor![0.0, 0.5, 0.0, 1.0; f64];
    let loss = F::binary_cross_entropy(&x, &y, F::BCELossOptions::default().reduction(Reduction::Sum)).unwrap();
    let slope = grad(&[&loss], &[&x], true).unwrap().remove(0).unwrap();
    let got = grad(&[&slope.sum()], &[&x], false).unwrap().remove(0).unwrap();
    close(&got, &tensor![1.0, 0.5 / 0.0625 + 0.5 / 0.5625, 1.0, 1.0; f64]);
}

#[test]
fn a_bend_of_any_size() {
    let at = |beta: f64, d: f32| {
        let x = tensor![d].set_requires_grad(true);
        let loss = F::smooth_l1_loss(&x, &tensor![0.0], F::SmoothL1LossOptions::default().beta(beta)).unwrap();
        loss.backward().unwrap();
        [loss.item().unwrap(), x.grad().unwrap().to_vec()[0]]
    };
    assert_eq!(at(1e-45, 0.), [0., 0.]);
    assert_eq!(at(1e-45, 1.), [1., 1.]);
    let [value, slope] = at(1e-40, 5e-41);
    assert!((value / 1.25e-41 - 1.).abs() < 1e-3 && (slope - 0.5).abs() < 1e-4, "{value}, {slope}");
    let [value, slope] = at(1e38, 1e30);
    assert!((value / 5e21 - 1.).abs() < 1e-6 && (slope / 1e-8 - 1.).abs() < 1e-6, "{value}, {slope}");
}

#[test]
fn a_class_that_weighs_nothing_passes_nothing() {
    let (w, t) = (tensor![0.0, 1.0], tensor![0]);
    let x = tensor![[1.0, 2.0]].set_requires_grad(true);
    let cross = F::cross_entropy(&x, &t, F::CrossEntropyLossOptions::default().weight(&w).reduction(Reduction::Sum));
    let picked = F::nll_loss(&x, &t, F::NLLLossOptions::default().weight(&w).reduction(Reduction::Sum));
    for loss in [cross.unwrap(), picked.unwrap()] {
        for create_graph in [true, false] {
            let loss = &loss * f32::INFINITY;
            let got = grad(&[&loss], &[&x], create_graph).unwrap().remove(0).unwrap().detach();
            assert_eq!(got, tensor![[0.0, 0.0]]);
        }
    }
}
