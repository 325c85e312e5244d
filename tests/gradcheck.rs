//! `gradcheck` and `gradgradcheck`: what they accept, and the mistakes that they must find. Also what `backward` and
//! `grad` do with part of a graph, with a wrong gradient, and with leaves.

use ndnn::{
    ErrorKind,
    autograd::{CheckOptions, grad, grad_with, gradcheck, gradgradcheck},
    prelude::*,
};

type T = Tensor<f64>;

fn x() -> T {
    tensor![[0.5, -1.0, 0.25], [1.5, 2.0, -0.75]; f64]
}

fn message(result: Result<()>) -> String {
    result.expect_err("a mistake goes unseen").to_string()
}

/// x³ with the given derivatives, as formulas of x.
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
    // Output element [1, 1] has the largest error: 3·2² is not 2·2².
    let error =
        message(gradcheck(|t| Ok([t[1].exp(), cube(&t[0], wrong)]), &[x(), T::scalar(1.0)], Default::default()));
    assert!(error.starts_with("gradcheck: output 1 [2, 3] by input 0 [2, 3]: off by up to "), "{error}");
    assert!(error.contains("at element [1, 1] by [1, 1]: 8e0, by finite differences 1.2000000"), "{error}");
    // Its second derivative matches the wrong first one.
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
    // Correct for the first pass, but not linear in the incoming gradient.
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
    // A fused first-order path and the formula, one of them wrong.
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
    gradcheck(f, &[x().set_requires_grad(true), x()], Default::default()).unwrap();
    gradgradcheck(f, &[x().set_requires_grad(true), x()], Default::default()).unwrap();
}

#[test]
fn tolerances_and_errors() {
    let slightly = |x: &T| x * x * 3.003;
    let f = move |t: &[T]| Ok(cube(&t[0], slightly));
    gradcheck(f, &[x()], CheckOptions::default().rtol(2e-3)).unwrap();
    message(gradcheck(f, &[x()], CheckOptions::default().rtol(5e-4)));
    gradcheck(f, &[x()], CheckOptions::default().rtol(0.0).atol(0.02)).unwrap();
    message(gradcheck(f, &[x()], CheckOptions::default().rtol(0.0)));
    // A step this long shows the curvature: ((x + h)³ − (x − h)³) / 2h = 3x² + h².
    message(gradcheck(|t| Ok(cube(&t[0], |x| x * x * 3.0)), &[x()], CheckOptions::default().eps(0.5)));
    // Errors of the function are passed on.
    assert!(message(gradcheck(|t| t[0].mm(&t[0]), &[x()], Default::default())).starts_with("mm: "));
}

#[test]
fn a_function_that_changes_is_refused() {
    let random = |t: &[T]| Ok(&t[0] * &T::rand([3]));
    assert!(message(gradcheck(random, &[x()], Default::default())).contains("seed them inside it"));
    let shifting = |t: &[T]| if t[0].to_vec()[0] > 0.5 { Ok(vec![]) } else { Ok(vec![t[0].exp()]) };
    assert!(message(gradcheck(shifting, &[x()], Default::default())).contains("change with its inputs' values"));
}

// -------------------------------------------------------------------------------------------------- parts of a graph

#[test]
fn a_gradient_taken_half_way_can_be_carried_on() {
    let x = tensor![2.0, 3.0].set_requires_grad(true);
    let h = x.square();
    let y = h.exp().sum();
    let dh = grad(&[&y], &[&h], false).unwrap()[0].clone().unwrap();
    assert_eq!(dh, h.detach().exp());
    // The part of the graph that computed h was not freed.
    h.backward_with(&dh).unwrap();
    assert_eq!(x.grad().unwrap(), &dh * (x.detach() * 2.0));
    // The part in between was freed.
    let error = grad(&[&y], &[&h], false).unwrap_err();
    assert!(error.to_string().contains("already freed by an earlier backward (at operation `sum`)"), "{error}");
}

#[test]
fn a_target_on_the_way_to_another() {
    let x = tensor![2.0].set_requires_grad(true);
    let h = x.square();
    let y = h.square().sum();
    // dy/dh = 2h, dy/dx = 4x³; the outputs may be targets themselves.
    let found = grad(&[&y], &[&h, &x, &y, &h], false).unwrap();
    let found: Vec<f32> = found.into_iter().map(|g| g.unwrap().sum().item().unwrap()).collect();
    assert_eq!(found, [8.0, 32.0, 1.0, 8.0]);
    assert!(h.backward_with(&tensor![1.0]).is_err(), "h led to x, so it was freed");
    let other = tensor![1.0].set_requires_grad(true);
    assert_eq!(grad(&[&other.exp().sum()], &[&x], false).unwrap(), [None]);
}

#[test]
fn a_freed_part_of_a_graph_is_no_missing_path() {
    let x = tensor![2.0].set_requires_grad(true);
    let h = x.square();
    h.sum().backward().unwrap();
    // Only through the freed part, and also past it: it must not return a part of the gradient as the whole.
    for y in [h.exp(), &h.exp() + &x] {
        let error = grad(&[&y], &[&x], false).unwrap_err();
        assert!(error.to_string().contains("already freed by an earlier backward (at operation `square`)"), "{error}");
    }
    // Up to the freed part, and if the freed part is older than all targets.
    assert_eq!(grad(&[&(&h * 5.0)], &[&h], false).unwrap(), [Some(tensor![5.0])]);
    let w = tensor![1.0].set_requires_grad(true);
    assert_eq!(grad(&[&(&h * &w)], &[&w], false).unwrap(), [Some(tensor![4.0])]);
}

#[test]
fn one_start_for_each_output() {
    let x = tensor![2.0].set_requires_grad(true);
    let (a, b) = (x.exp(), x.square());
    let error = message(grad_with(&[&a, &b], &[None], &[&x], false).map(drop));
    assert_eq!(error, "grad: 1 gradients to start from for 2 outputs, expected one per output");
}

#[test]
fn a_gradient_of_another_shape_is_an_error() {
    let x = Tensor::<f32>::ones([2, 3]).set_requires_grad(true);
    let wrong = |gradient: Tensor| {
        let shape: Vec<usize> = gradient.shape().to_vec();
        let y = Tensor::op("mine", x.detach().into_array(), [&x], move |_, _| Ok([Some(gradient.clone())]));
        for retain in [true, false] {
            let error = if retain { y.sum().backward_retain() } else { y.sum().backward() }.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Shape);
            let expected = format!(
                "mine: backward gave a gradient of shape {shape:?} for input 0, which is [2, 3]; undo a broadcast with \
                 sum_to(), a change of shape with reshape()"
            );
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(x.grad(), None);
    };
    // All of these would broadcast, or have as many elements.
    for shape in [&[][..], &[1], &[3], &[1, 3], &[2, 1], &[6], &[3, 2], &[1, 2, 3], &[0], &[2, 0]] {
        wrong(Tensor::ones(shape));
    }
    // A leaf that accumulated a gradient before keeps it, and can be used.
    x.sum().backward().unwrap();
    let y = Tensor::op("mine", ndarray::arr0(1.0).into_dyn(), [&x], |g, _| Ok([Some(g.clone())]));
    assert!(y.backward().is_err());
    x.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap(), Tensor::full([2, 3], 2.0));
}

#[test]
fn as_many_gradients_as_inputs() {
    let x = tensor![1.0].set_requires_grad(true);
    for given in [0, 1, 3] {
        let y =
            Tensor::op_many("mine", x.detach().into_array(), &[&x, &x], move |g, _| Ok(vec![Some(g.clone()); given]));
        let error = y.sum().backward().unwrap_err().to_string();
        assert_eq!(error, format!("mine: backward gave {given} gradients for 2 inputs; expected an Option per input"));
    }
    // None means that no gradient flows there.
    let y = Tensor::op("mine", x.detach().into_array(), [&x, &x], |g, _| Ok([None, Some(g * 3.0)]));
    y.sum().backward().unwrap();
    assert_eq!(x.grad(), Some(tensor![3.0]));
}

#[test]
fn a_gathered_gradient_has_no_graph() {
    let x = tensor![3.0].set_requires_grad(true);
    // The derivative of x²/2 is x itself, which the closure holds with its graph.
    let half_square = |x: &Tensor| {
        let saved = x.clone();
        Tensor::op("half_square", x.detach().square().into_array() / 2.0, [x], move |_, _| Ok([Some(saved.clone())]))
    };
    half_square(&x).sum().backward().unwrap();
    assert!(!x.grad().unwrap().requires_grad());
    assert!(!grad(&[&half_square(&x)], &[&x], false).unwrap()[0].as_ref().unwrap().requires_grad());
    x.zero_grad();
    x.backward_with(&x.exp()).unwrap();
    assert!(!x.grad().unwrap().requires_grad());
}

// ------------------------------------------------------------------------------------------------------------- leaves

#[test]
fn requires_grad_keeps_the_graph() {
    let x = tensor![2.0].set_requires_grad(true);
    let y = x.square().set_requires_grad(true);
    assert_eq!(y.grad_fn(), Some("square"));
    y.sum().backward().unwrap();
    assert_eq!(x.grad(), Some(tensor![4.0]));
    // A leaf stays the same leaf; a new one must be requested.
    assert_eq!(x.set_requires_grad(true).grad(), x.grad());
    assert_eq!(x.detach().set_requires_grad(true).grad(), None);
    let cut = x.set_requires_grad(false);
    assert!(!cut.requires_grad() && cut.shares_memory_with(&x) && x.requires_grad());
    assert!(!cut.set_requires_grad(false).requires_grad());
    // A parameter is a leaf of its own, whatever its values were computed from.
    let (w, v) = (Param::new(x.clone()), Param::new(x.exp()));
    (w.tensor() * v.tensor()).sum().backward().unwrap();
    assert!(w.has_grad() && v.has_grad() && x.grad() == Some(tensor![4.0]));
}

#[test]
#[should_panic(
    expected = "set_requires_grad(false): this tensor [1] is the result of `square`, through which gradients flow; \
                           use detach() for the same values without gradients"
)]
fn a_result_cannot_be_cut_by_a_flag() {
    let _ = tensor![2.0].set_requires_grad(true).square().set_requires_grad(false);
}

// ---------------------------------------------------------------------------------------------------- very many inputs

#[test]
fn very_many_gradients_wait_at_once() {
    // In descending order of creation each comes before all that wait, in ascending order after them, in the third
    // order between them.
    let orders: [(usize, fn(usize, usize) -> usize); 3] =
        [(40_000, |n, i| n - 1 - i), (9_000, |_, i| i), (9_000, |n, i| i * 7 % n)];
    let x = Tensor::<f32>::ones([1]).set_requires_grad(true);
    for (n, order) in orders {
        let parts: Vec<Tensor> = (0..n).map(|i| &x * i as f32).collect();
        let sorted: Vec<&Tensor> = (0..n).map(|i| &parts[order(n, i)]).collect();
        let joined = || Tensor::cat(&sorted, 0).unwrap();
        x.zero_grad();
        joined().sum().backward_retain().unwrap();
        let sum = (0..n as u64).sum::<u64>() as f32;
        assert!((x.grad().unwrap().item().unwrap() / sum - 1.0).abs() < 1e-4);
        // With respect to each of them.
        let starts: Tensor = (0..n).map(|i| (i % 3) as f32).collect();
        let found = grad_with(&[&joined()], &[Some(&starts)], &sorted[..9_000], false).unwrap();
        assert!(found.iter().enumerate().all(|(i, g)| g == &Some(tensor![(i % 3) as f32])));
    }
}

#[test]
fn gradients_of_one_node_add_up_among_many() {
    // Each of 200 nodes receives gradients from three places, while all others wait.
    let x = tensor![1.0; f64].set_requires_grad(true);
    let parts: Vec<T> = (0..200).map(|i| &x * f64::from(i)).collect();
    let mixed: Vec<&T> = parts.iter().rev().chain(&parts).chain(parts.iter().rev()).collect();
    let y = Tensor::cat(&mixed, 0).unwrap().square().sum();
    y.backward().unwrap();
    let expected: f64 = (0..200).map(|i| 6.0 * f64::from(i * i)).sum();
    assert_eq!(x.grad().unwrap().item().unwrap(), expected);
}

/// An operation's result may be given as a tensor; what that was computed from gets no gradient by it.
#[test]
fn a_result_that_has_a_graph() {
    let (x, other) = (tensor![2.0; f64].set_requires_grad(true), tensor![3.0; f64].set_requires_grad(true));
    let y = Tensor::op("mine", &other * 2.0, [&x], |g, _| Ok([Some(g * 5.0)]));
    y.sum().backward().unwrap();
    assert_eq!((x.grad(), other.grad()), (Some(tensor![5.0; f64]), None));
    let untracked = Tensor::op("mine", &other * 2.0, [&x.detach()], |g, _| Ok([Some(g * 5.0)]));
    assert!(!untracked.requires_grad());
}
