//! `gradcheck` and `gradgradcheck`: what they pass, and the mistakes that they must find.

use ndnn::{
    autograd::{CheckOptions, gradcheck, gradgradcheck},
    prelude::*,
};

type T = Tensor<f64>;

fn x() -> T {
    tensor![[0.5, -1.0, 0.25], [1.5, 2.0, -0.75]; f64]
}

fn message(result: Result<()>) -> String {
    result.expect_err("a mistake goes unseen").to_string()
}

/// x³ with the derivatives that are handed in, as formulas of x.
fn cube(x: &T, derivative: fn(&T) -> T) -> T {
    let saved = x.clone();
    Tensor::op("cube", x.view().mapv(|v| v * v * v), [x], move |g, _| Ok([Some(g * derivative(&saved))]))
}

#[test]
fn right_gradients_pass() {
    let right = |x: &T| x * x * 3.0;
    gradcheck(|t| Ok(cube(&t[0], right)), &[x()], Default::default()).unwrap();
    gradgradcheck(|t| Ok(cube(&t[0], right)), &[x()], Default::default()).unwrap();
    // Several inputs that broadcast, several outputs, one without a path to an input.
    let f = |t: &[T]| Ok([(&t[0] * &t[1]).exp(), t[0].t()?.mm(&t[0])?, t[1].tanh()]);
    let inputs = [x(), tensor![0.3, 0.7, -0.2; f64]];
    gradcheck(f, &inputs, Default::default()).unwrap();
    gradgradcheck(f, &inputs, Default::default()).unwrap();
    // Not contiguous, no axes, empty.
    gradcheck(|t| Ok(t[0].exp()), &[x().t().unwrap()], Default::default()).unwrap();
    gradgradcheck(|t| Ok(t[0].exp()), &[T::scalar(0.5)], Default::default()).unwrap();
    gradgradcheck(|t| Ok(t[0].exp()), &[T::zeros([0, 3])], Default::default()).unwrap();
    // Pairs, and an output that depends on nothing.
    gradcheck(|t| Ok((t[0].exp(), vec![T::ones([2])])), &[x()], Default::default()).unwrap();
}

#[test]
fn a_wrong_first_derivative_is_found() {
    let wrong = |x: &T| x * x * 2.0;
    // Output element [1, 1] has the largest mistake: 3·2² is not 2·2².
    let error =
        message(gradcheck(|t| Ok([t[1].exp(), cube(&t[0], wrong)]), &[x(), T::scalar(1.0)], Default::default()));
    assert!(error.starts_with("gradcheck: output 1 [2, 3] by input 0 [2, 3]: off by up to "), "{error}");
    assert!(error.contains("at element [1, 1] by [1, 1]: 8e0, by finite differences 1.2000000"), "{error}");
    // Its second derivative does fit the first.
    gradgradcheck(|t| Ok(cube(&t[0], wrong)), &[x()], Default::default()).unwrap();
}

#[test]
fn a_wrong_second_derivative_is_found() {
    let detaches = |x: &T| x.detach().square() * 3.0;
    gradcheck(|t| Ok(cube(&t[0], detaches)), &[x()], Default::default()).unwrap();
    let error = message(gradgradcheck(|t| Ok(cube(&t[0], detaches)), &[x()], Default::default()));
    assert!(error.starts_with("gradgradcheck: the gradient of input 0 [2, 3] by input 0 [2, 3]: off by"), "{error}");
}

#[test]
fn a_derivative_that_does_not_follow_the_gradient_is_found() {
    // Right for the first pass, but not linear in the gradient that comes in.
    let f = |t: &[T]| {
        let saved = t[0].clone();
        Ok(Tensor::op("odd", t[0].view().mapv(f64::exp), [&t[0]], move |g, _| Ok([Some(g.detach() * saved.exp())])))
    };
    gradcheck(f, &[x()], Default::default()).unwrap();
    let error = message(gradgradcheck(f, &[x()], Default::default()));
    assert!(error.contains("the gradient of input 0 [2, 3] by the gradient of output 0 [2, 3]"), "{error}");
}

#[test]
fn two_paths_that_differ_are_found() {
    // A fused first-order path beside the formula, one of them wrong.
    for wrong_with_graph in [false, true] {
        let f = move |t: &[T]| {
            let saved = t[0].clone();
            Ok(Tensor::op("exp", t[0].view().mapv(f64::exp), [&t[0]], move |g, _| {
                let wrong = ndnn::grad_enabled() == wrong_with_graph;
                Ok([Some(g * saved.exp() * if wrong { 2.0 } else { 1.0 })])
            }))
        };
        let error = message(gradcheck(f, &[x()], Default::default()));
        assert_eq!(error.contains("with create_graph"), wrong_with_graph, "{error}");
    }
}

#[test]
fn a_cut_graph_is_found() {
    let cut = message(gradcheck(|t| Ok(t[0].exp().detach()), &[x()], Default::default()));
    assert!(cut.contains(": 0e0, by finite differences"), "{cut}");
    message(gradcheck(|t| Ok(&t[0].detach() * &t[0]), &[x()], Default::default()));
    let nan = message(gradcheck(|t| Ok(&t[0] * f64::NAN), &[x()], Default::default()));
    assert!(nan.contains("NaN"), "{nan}");
}

#[test]
fn constants_are_not_checked() {
    let f = |t: &[T]| Ok(&t[0] * &t[1].detach());
    message(gradcheck(f, &[x(), x()], Default::default()));
    gradcheck(f, &[x().requires_grad(true), x()], Default::default()).unwrap();
    gradgradcheck(f, &[x().requires_grad(true), x()], Default::default()).unwrap();
}

#[test]
fn tolerances_and_errors() {
    let slightly = |x: &T| x * x * 3.003;
    let f = move |t: &[T]| Ok(cube(&t[0], slightly));
    gradcheck(f, &[x()], CheckOptions::default().rtol(2e-3)).unwrap();
    message(gradcheck(f, &[x()], CheckOptions::default().rtol(5e-4)));
    gradcheck(f, &[x()], CheckOptions::default().rtol(0.0).atol(0.02)).unwrap();
    message(gradcheck(f, &[x()], CheckOptions::default().rtol(0.0)));
    // A step this long sees the curve: ((x + h)³ − (x − h)³) / 2h = 3x² + h².
    message(gradcheck(|t| Ok(cube(&t[0], |x| x * x * 3.0)), &[x()], CheckOptions::default().eps(0.5)));
    // The function's own errors come through.
    assert!(message(gradcheck(|t| t[0].mm(&t[0]), &[x()], Default::default())).starts_with("mm: "));
}

#[test]
fn a_function_that_changes_is_refused() {
    let random = |t: &[T]| Ok(&t[0] * &T::rand([3]));
    assert!(message(gradcheck(random, &[x()], Default::default())).contains("seed them inside it"));
    let shifting = |t: &[T]| if t[0].to_vec()[0] > 0.5 { Ok(vec![]) } else { Ok(vec![t[0].exp()]) };
    assert!(message(gradcheck(shifting, &[x()], Default::default())).contains("change with its inputs' values"));
}
