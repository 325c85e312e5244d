//! Losses: derivatives, layers against functions, edges and errors. The values are checked in `conformance`.

mod common;
#[path = "losses/ctc.rs"]
mod ctc;
#[path = "losses/edges.rs"]
mod edges;
#[path = "losses/families.rs"]
mod families;
#[path = "losses/classes.rs"]
mod many_classes;

use common::check;
use ndnn::{
    ErrorKind,
    autograd::{grad, gradcheck},
    functional::{self as F, Reduction},
    prelude::*,
};

type T = Tensor<f64>;

const REDUCTIONS: [Reduction; 3] = [Reduction::None, Reduction::Mean, Reduction::Sum];

/// Values between -1 and 1, all different.
fn values(shape: &[usize], start: f64) -> T {
    let n: usize = shape.iter().product();
    T::from_vec(shape, (0..n).map(|i| (start + 1.7 * i as f64).sin()).collect()).unwrap()
}

/// Values strictly between 0 and 1.
fn chances(shape: &[usize], start: f64) -> T {
    values(shape, start) * 0.4 + 0.5
}

fn close(a: &T, b: &T) {
    assert!(a.allclose(b, 1e-12, 1e-12, true).unwrap(), "{a} is not {b}");
}

fn text(result: Result<T>, kind: ErrorKind) -> String {
    let error = result.expect_err("no error");
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

// -------------------------------------------------------------------------------------------------------- derivatives

#[test]
fn distances() {
    let shape = [2, 3];
    let (x, y, w) = (values(&shape, 0.3) * 2.0, values(&shape, 1.1), chances(&shape, 0.7));
    for reduction in REDUCTIONS {
        for loss in [F::mse_loss, F::l1_loss] {
            let options = F::MSELossOptions::default().reduction(reduction);
            check(|t| loss(&t[0], &t[1], options), &[x.clone(), y.clone()]);
            let weighted =
                |t: &[T]| loss(&t[0], &t[1], F::MSELossOptions::default().weight(&t[2]).reduction(reduction));
            check(weighted, &[x.clone(), y.clone(), w.clone()]);
        }
        for bend in [0.5, 1.0, 10.0, f64::INFINITY] {
            let options = F::SmoothL1LossOptions::default().beta(bend).reduction(reduction);
            check(|t| F::smooth_l1_loss(&t[0], &t[1], options), &[x.clone(), y.clone()]);
            let huber = |t: &[T]| {
                let options = F::HuberLossOptions::default().delta(bend).reduction(reduction);
                F::huber_loss(&t[0], &t[1], if t.len() > 2 { options.weight(&t[2]) } else { options })
            };
            check(huber, &[x.clone(), y.clone()]);
            check(huber, &[x.clone(), y.clone(), w.clone()]);
        }
        let options = F::SmoothL1LossOptions::default().beta(0.0).reduction(reduction);
        check(|t| F::smooth_l1_loss(&t[0], &t[1], options), &[x.clone(), y.clone()]);
    }
}

#[test]
fn binary() {
    let shape = [2, 3];
    let (x, p, y) = (values(&shape, 0.3) * 4.0, chances(&shape, 0.2), chances(&shape, 1.9));
    for reduction in REDUCTIONS {
        check(
            |t| F::binary_cross_entropy(&t[0], &t[1], F::BCELossOptions::default().reduction(reduction)),
            &[p.clone(), y.clone()],
        );
        check(|t| F::soft_margin_loss(&t[0], &t[1], reduction.into()), &[x.clone(), y.clone()]);
        for size in [&[][..], &[3], &[2, 1], &[2, 3]] {
            let weight = chances(size, 0.4);
            let options = F::BCELossOptions::default().reduction(reduction).weight(&weight);
            check(|t| F::binary_cross_entropy(&t[0], &t[1], options), &[p.clone(), y.clone()]);
            let with_logits = |t: &[T]| {
                let options = F::BCEWithLogitsLossOptions::default().reduction(reduction).weight(&t[2]);
                let plain = F::binary_cross_entropy_with_logits(&t[0], &t[1], options)?;
                F::binary_cross_entropy_with_logits(&t[0], &t[1], options.pos_weight(&t[3]))?.try_add(&plain)
            };
            check(with_logits, &[x.clone(), y.clone(), weight.clone(), chances(size, 2.5) * 3.0]);
        }
    }
    // Of scores and of their sigmoid.
    let logits = F::binary_cross_entropy_with_logits(&x, &y, Default::default()).unwrap();
    close(&logits, &F::binary_cross_entropy(&x.sigmoid(), &y, Default::default()).unwrap());
}

/// Scores with their targets: without a batch axis, with one, with positions.
fn scores() -> Vec<(T, Tensor<i64>)> {
    vec![
        (values(&[3], 0.3), Tensor::scalar(1)),
        (values(&[4, 3], 0.3) * 3.0, tensor![2, 0, 1, 1]),
        (values(&[2, 3, 2], 0.3) * 3.0, tensor![[0, 2], [1, 1]]),
        (values(&[2, 3, 2, 2], 0.9), tensor![[[0, 2], [1, 1]], [[2, 2], [0, 1]]]),
        (values(&[2, 2, 3], 0.5).permute([1, 2, 0]).unwrap(), tensor![[0, 2], [1, 1]]),
    ]
}

#[test]
fn classes() {
    let weight = tensor![0.5, 2.0, 1.5; f64];
    for (x, y) in scores() {
        for reduction in REDUCTIONS {
            for ignore_index in [-100, 2] {
                for weight in [None, Some(&weight)] {
                    let options =
                        F::NLLLossOptions::default().weight(weight).ignore_index(ignore_index).reduction(reduction);
                    check(|t| F::nll_loss(&t[0], &y, options), std::slice::from_ref(&x));
                    for label_smoothing in [0.0, 0.2, 1.0] {
                        let options = F::CrossEntropyLossOptions::default()
                            .weight(weight)
                            .ignore_index(ignore_index)
                            .reduction(reduction)
                            .label_smoothing(label_smoothing);
                        check(|t| F::cross_entropy(&t[0], &y, options), std::slice::from_ref(&x));
                    }
                }
            }
        }
    }
}

#[test]
fn class_probabilities() {
    for (x, _) in scores() {
        let p = chances(x.shape(), 0.6);
        for reduction in REDUCTIONS {
            for label_smoothing in [0.0, 0.2] {
                let loss = |t: &[T]| {
                    let options = F::CrossEntropyLossOptions::default().reduction(reduction);
                    let options = options.label_smoothing(label_smoothing);
                    F::cross_entropy(&t[0], &t[1], if t.len() > 2 { options.weight(&t[2]) } else { options })
                };
                check(loss, &[x.clone(), p.clone()]);
                check(loss, &[x.clone(), p.clone(), tensor![0.5, 2.0, 1.5; f64]]);
            }
        }
    }
}

// ---------------------------------------------------------------------------------------------- one against the other

/// 1 at the class of each target.
fn one_hot(x: &T, y: &Tensor<i64>) -> T {
    let axis = isize::from(x.ndim() > 1);
    x.zeros_like().scatter_value(axis, &y.unsqueeze(axis).unwrap(), 1.0).unwrap()
}

#[test]
fn an_index_is_its_one_hot_probabilities() {
    let weight = tensor![0.5, 2.0, 1.5; f64];
    for (x, y) in scores() {
        let p = one_hot(&x, &y);
        for reduction in [Reduction::None, Reduction::Sum] {
            for label_smoothing in [0.0, 0.3] {
                let options =
                    F::CrossEntropyLossOptions::default().reduction(reduction).label_smoothing(label_smoothing);
                for options in [options, options.weight(&weight)] {
                    let (a, b) = (x.set_requires_grad(true), x.set_requires_grad(true));
                    let by_index = F::cross_entropy(&a, &y, options).unwrap();
                    let by_chance = F::cross_entropy(&b, &p, options).unwrap();
                    close(&by_index, &by_chance);
                    by_index.sum().backward().unwrap();
                    by_chance.sum().backward().unwrap();
                    close(&a.grad().unwrap(), &b.grad().unwrap());
                }
            }
        }
        // And the same as its two halves.
        let whole = F::cross_entropy(&x, &y, F::CrossEntropyLossOptions::default().weight(&weight)).unwrap();
        let log_probabilities = x.log_softmax(isize::from(x.ndim() > 1)).unwrap();
        close(&whole, &F::nll_loss(&log_probabilities, &y, F::NLLLossOptions::default().weight(&weight)).unwrap());
    }
}

#[test]
fn the_mean_is_weighted() {
    // PyTorch's numbers.
    let (x, y) = (values(&[2, 3, 2], 0.3), tensor![[0, 2], [1, 1]]);
    let weight = tensor![0.5, 2.0, 1.5; f64];
    let options = F::CrossEntropyLossOptions::default();
    let weighted = options.weight(&weight);
    for (options, expected) in [
        (options, 0.8261958442847854),
        (weighted, 0.7476475345674353),
        (weighted.ignore_index(1), 1.0012413516911134),
        (weighted.ignore_index(1).label_smoothing(0.2), 1.1945277876656641),
        (weighted.label_smoothing(0.2).reduction(Reduction::Sum), 4.977119956459433),
    ] {
        close(&F::cross_entropy(&x, &y, options).unwrap(), &T::scalar(expected));
    }
}

/// A layer against its function: the losses and the gradient of the input.
fn same(x: &T, layer: impl Fn(&T) -> Result<T>, function: impl Fn(&T) -> Result<T>) {
    let run = |f: &dyn Fn(&T) -> Result<T>| {
        let x = x.set_requires_grad(true);
        let loss = f(&x).unwrap();
        loss.sum().backward().unwrap();
        (loss.detach(), x.grad().unwrap())
    };
    assert_eq!(run(&layer), run(&function));
}

#[test]
fn layers_are_their_functions() {
    let (x, y) = (values(&[4, 3], 0.3), values(&[4, 3], 1.2));
    let weight = tensor![0.5, 2.0, 1.5; f64];
    for reduction in REDUCTIONS {
        let options = F::MSELossOptions::default().reduction(reduction);
        same(&x, |x| MSELoss::new().reduction(reduction).forward(x, &y), |x| F::mse_loss(x, &y, options));
        same(&x, |x| L1Loss::new().reduction(reduction).forward(x, &y), |x| F::l1_loss(x, &y, options));
        let options = F::SmoothL1LossOptions::default().reduction(reduction).beta(0.4);
        let layer = SmoothL1Loss::new().reduction(reduction).beta(0.4);
        same(&x, |x| layer.forward(x, &y), |x| F::smooth_l1_loss(x, &y, options));
        let options = F::HuberLossOptions::default().reduction(reduction).delta(0.4);
        let layer = HuberLoss::new().reduction(reduction).delta(0.4);
        same(&x, |x| layer.forward(x, &y), |x| F::huber_loss(x, &y, options));

        let options = F::MarginRankingLossOptions::default().reduction(reduction).margin(0.4);
        let layer = MarginRankingLoss::new().reduction(reduction).margin(0.4);
        let signs = (&y * 3.0).sign();
        same(&x, |x| layer.forward(x, &y, &signs), |x| F::margin_ranking_loss(x, &y, &signs, options));

        let layer = SoftMarginLoss::new().reduction(reduction);
        same(&x, |x| layer.forward(x, &y), |x| F::soft_margin_loss(x, &y, reduction.into()));

        let (p, q) = (chances(&[4, 3], 0.3), chances(&[4, 3], 2.0));
        let options = F::BCELossOptions::default().reduction(reduction).weight(&weight);
        let layer = BCELoss::new().dtype::<f64>().reduction(reduction).weight(weight.clone());
        same(&p, |x| layer.forward(x, &q), |x| F::binary_cross_entropy(x, &q, options));
        let options =
            F::BCEWithLogitsLossOptions::default().weight(Some(&weight)).pos_weight(Some(&weight)).reduction(reduction);
        let layer = BCEWithLogitsLoss::new().dtype::<f64>().reduction(reduction);
        let layer = layer.weight(weight.clone()).pos_weight(weight.clone());
        same(&x, |x| layer.forward(x, &q), |x| F::binary_cross_entropy_with_logits(x, &q, options));

        let labels = tensor![2, 0, 1, 1];
        let options = F::NLLLossOptions::default().weight(Some(&weight)).ignore_index(1).reduction(reduction);
        let layer = NLLLoss::new().dtype::<f64>().weight(weight.clone()).ignore_index(1).reduction(reduction);
        same(&x, |x| layer.forward(x, &labels), |x| F::nll_loss(x, &labels, options));
        let options = F::CrossEntropyLossOptions::default()
            .weight(Some(&weight))
            .ignore_index(1)
            .reduction(reduction)
            .label_smoothing(0.1);
        let layer = CrossEntropyLoss::new().dtype::<f64>().weight(weight.clone()).ignore_index(1);
        let layer = layer.reduction(reduction).label_smoothing(0.1);
        same(&x, |x| layer.forward(x, &labels), |x| F::cross_entropy(x, &labels, options));
        let layer = layer.ignore_index(-100);
        same(&x, |x| layer.forward(x, &q), |x| F::cross_entropy(x, &q, options.ignore_index(-100)));
    }
}

#[test]
fn layers_print_and_save_as_pytorch() {
    let printed = [
        MSELoss::default().to_string(),
        L1Loss::default().to_string(),
        SmoothL1Loss::default().beta(2.0).to_string(),
        HuberLoss::default().to_string(),
        SoftMarginLoss::default().to_string(),
        MarginRankingLoss::default().margin(1.0).to_string(),
        CrossEntropyLoss::default().weight(tensor![1.0, 2.0]).to_string(),
        NLLLoss::default().to_string(),
        BCELoss::default().reduction(Reduction::Sum).to_string(),
        BCEWithLogitsLoss::default().to_string(),
    ];
    let names = [
        "MSE",
        "L1",
        "SmoothL1",
        "Huber",
        "SoftMargin",
        "MarginRanking",
        "CrossEntropy",
        "NLL",
        "BCE",
        "BCEWithLogits",
    ];
    assert_eq!(printed, names.map(|name| format!("{name}Loss()")));

    let layer = BCEWithLogitsLoss::new().weight(tensor![1.0, 2.0]).pos_weight(tensor![3.0]);
    let state: Vec<String> = layer.state_dict().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(state, ["weight", "pos_weight"]);
    assert!(layer.parameters().is_empty());
    assert!(CrossEntropyLoss::new().state_dict().iter().next().is_none());
    let doubled = layer.dtype::<f64>();
    assert_eq!(doubled.pos_weight.unwrap().tensor(), tensor![3.0; f64]);

    let defaults = F::CrossEntropyLossOptions::<f32>::default();
    assert_eq!((defaults.get_ignore_index(), defaults.get_label_smoothing()), (-100, 0.0));
    assert_eq!(defaults.get_reduction(), Reduction::Mean);
    assert_eq!(REDUCTIONS.map(|r| r.to_string()), ["none", "mean", "sum"]);
    assert_eq!("sum".parse::<Reduction>().unwrap(), Reduction::Sum);
}

// ------------------------------------------------------------------------------------------------------------- errors

#[test]
fn shapes_that_do_not_fit() {
    let shape = ErrorKind::Shape;
    let (column, row) = (T::zeros([4, 1]), T::zeros([4]));
    assert_eq!(
        text(F::mse_loss(&column, &row, Default::default()), shape),
        "mse_loss: the input is [4, 1], the target [4], they must have one shape; reshape one of them"
    );
    assert_eq!(
        text(L1Loss::new().forward(&T::zeros([5, 4]), &row,), shape),
        "l1_loss: the input is [5, 4], the target [4], they must have one shape; losses do not broadcast; use \
         broadcast_to if that is meant; in L1Loss()"
    );
    for result in [
        F::smooth_l1_loss(&column, &row, Default::default()),
        F::huber_loss(&column, &row, Default::default()),
        F::binary_cross_entropy(&column, &row, Default::default()),
        F::binary_cross_entropy_with_logits(&column, &row, Default::default()),
        F::cross_entropy(&column, &row, Default::default()),
        F::mse_loss(&row, &row, F::MSELossOptions::default().weight(&T::zeros([1]))),
        F::huber_loss(&row, &row, F::HuberLossOptions::default().weight(&T::zeros([1]))),
        F::cross_entropy(&T::scalar(1.0), &T::scalar(1.0), Default::default()),
        F::nll_loss(&T::scalar(1.0), &Tensor::scalar(0), Default::default()),
        F::nll_loss(&row, &tensor![0, 1], Default::default()),
        F::nll_loss(&column, &tensor![[0], [0], [0], [0]], Default::default()),
    ] {
        text(result, shape);
    }
    let wide = T::zeros([2, 4]);
    assert_eq!(
        text(F::binary_cross_entropy(&row, &row, F::BCELossOptions::default().weight(&wide)), shape),
        "binary_cross_entropy: the weight [2, 4] does not broadcast to the input's shape [4]"
    );
    assert_eq!(
        text(
            F::binary_cross_entropy_with_logits(&row, &row, F::BCEWithLogitsLossOptions::default().pos_weight(&wide)),
            shape
        ),
        "binary_cross_entropy_with_logits: the pos_weight [2, 4] does not broadcast to the input's shape [4]"
    );
    let x = T::zeros([2, 3, 5]);
    assert_eq!(
        text(CrossEntropyLoss::new().dtype::<f64>().forward(&x, &Tensor::<i64>::zeros([2, 4])), shape),
        "cross_entropy: the input is [2, 3, 5] with 3 classes on axis 1, so class indices are [2, 5], got [2, 4]; in \
         CrossEntropyLoss()"
    );
    assert!(
        text(F::cross_entropy(&x, &Tensor::<i64>::zeros([2, 3, 5]), Default::default()), shape)
            .ends_with("got [2, 3, 5]; probabilities must be of the input's floating type")
    );
    let weight = T::ones([2]);
    let expected = "the weight is [2], expected [3]: one for each class of the input";
    let options = F::CrossEntropyLossOptions::default().weight(&weight);
    assert_eq!(
        text(F::cross_entropy(&x, &Tensor::<i64>::zeros([2, 5]), options), shape),
        format!("cross_entropy: {expected}")
    );
    assert_eq!(text(F::cross_entropy(&x, &x, options), shape), format!("cross_entropy: {expected}"));
}

#[test]
fn values_out_of_range() {
    let x = T::zeros([2, 3, 2]);
    let y = tensor![[0, 1], [3, 1]];
    for result in [F::nll_loss(&x, &y, Default::default()), F::nll_loss(&x, &-(&y - 2), Default::default())] {
        text(result, ErrorKind::Index);
    }
    assert_eq!(
        text(F::cross_entropy(&x, &y, Default::default()), ErrorKind::Index),
        "cross_entropy: the target is 3 at [1, 0], the input [2, 3, 2] has 3 classes: expected 0 to 2, or ignore_index = -100"
    );
    let value = ErrorKind::Value;
    let half = tensor![0.5, 0.5; f64];
    assert_eq!(
        text(F::binary_cross_entropy(&tensor![0.5, 1.5; f64], &half, Default::default()), value),
        "binary_cross_entropy: the input is 1.5 at [1], expected a probability from 0 to 1; for scores use \
         binary_cross_entropy_with_logits"
    );
    assert_eq!(
        text(F::binary_cross_entropy(&half, &tensor![-1.0, 1.0; f64], Default::default()), value),
        "binary_cross_entropy: the target is -1 at [0], expected a probability from 0 to 1"
    );
    text(F::binary_cross_entropy(&tensor![0.5, f64::NAN; f64], &half, Default::default()), value);
    assert_eq!(
        text(F::cross_entropy(&half, &half, F::CrossEntropyLossOptions::default().ignore_index(1)), value),
        "cross_entropy: ignore_index = 1 is for class indices, the target holds probabilities"
    );
    assert!(
        "abc".parse::<Reduction>().unwrap_err().to_string().contains("reduction: there is no \"abc\"; expected one of")
    );
}

/// As in PyTorch 2.15: at the bend the slope is that of the line, beyond it nothing passes, not even what is infinite.
#[test]
fn a_margin_between_two_scores() {
    let inf = f64::INFINITY;
    let options = F::MarginRankingLossOptions::default().margin(1.0).reduction("none");
    let leaf = |t: T| t.set_requires_grad(true);
    let a = leaf(tensor![3.0, 1.0, 0.0, 1e300, inf, 1e-300, 2.0; f64]);
    let b = leaf(tensor![0.0, 0.0, 2.0, -1e300, 0.0, 0.0, 0.0; f64]);
    let y = leaf(tensor![1.0, 1.0, -1.0, -1.0, 1.0, 0.0, inf; f64]);
    let loss = F::margin_ranking_loss(&a, &b, &y, options).unwrap();
    assert_eq!(loss.to_vec(), [0.0, 0.0, 0.0, 2e300, 0.0, 1.0, 0.0]);
    let want = [
        [0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0, 1.0, 0.0, -1.0, 0.0, 0.0, 0.0],
        [0.0, -1.0, 0.0, -2e300, 0.0, -1e-300, 0.0],
    ];
    for create_graph in [true, false] {
        let got = grad(&[&loss.sum()], &[&a, &b, &y], create_graph).unwrap();
        for (got, want) in got.into_iter().zip(want) {
            assert_eq!(got.unwrap().to_vec(), want, "{create_graph}");
        }
    }
    let inputs = [values(&[3, 2], 0.3), values(&[3, 2], 1.1), values(&[3, 2], 2.3)];
    let f = |t: &[T]| F::margin_ranking_loss(&t[0], &t[1], &t[2], options.reduction(Reduction::Mean));
    check(f, &inputs);
    assert_eq!(
        text(F::margin_ranking_loss(&T::zeros([2, 1]), &T::zeros([2]), &T::zeros([2]), options), ErrorKind::Shape),
        "margin_ranking_loss: the first input is [2, 1], the second [2], they must have one shape; reshape one of them"
    );
}

#[test]
fn a_linear_loss_has_a_second_derivative() {
    let x = values(&[2, 3], 0.3).set_requires_grad(true);
    let loss = F::nll_loss(&x, &tensor![0, 2], Default::default()).unwrap();
    let first = grad(&[&loss], &[&x], true).unwrap()[0].clone().unwrap();
    let second = grad(&[&first.sum()], &[&x], false).unwrap()[0].clone().unwrap();
    assert_eq!(second, T::zeros([2, 3]));
}

#[test]
fn class_weights_have_a_gradient_where_targets_are_probabilities() {
    let x = values(&[2, 3], 0.3);
    let target = tensor![[0.2, 0.3, 0.5], [0.6, 0.1, 0.3]; f64];
    let loss = |t: &[T]| F::cross_entropy(&x, &target, F::CrossEntropyLossOptions::default().weight(&t[0]));
    let weight = tensor![0.5, 1.0, 2.0; f64];
    assert!(loss(&[weight.set_requires_grad(true)]).unwrap().requires_grad());
    gradcheck(loss, &[weight.set_requires_grad(true)], Default::default()).unwrap();
}
