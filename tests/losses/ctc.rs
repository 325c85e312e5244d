//! CTC: against all sequences one by one, derivatives, long and extreme sequences, errors.

use ndnn::{
    ErrorKind, Real,
    autograd::{grad, gradcheck},
    functional::{self as F, CTCLossOptions, Reduction},
    prelude::*,
    with_num_threads,
};

use super::{REDUCTIONS, T, close, same, text, values};

type Labels = Tensor<i64>;

fn log_probs(shape: &[usize]) -> T {
    (values(shape, 0.3) * 3.0).log_softmax(-1).unwrap()
}

/// The loss of each sample.
fn each<R: Real>(x: &Tensor<R>, y: &Labels, steps: &Labels, sizes: &Labels) -> Vec<R> {
    F::ctc_loss(x, y, steps, sizes, Reduction::None.into()).unwrap().to_vec()
}

/// The sum over all sequences of classes that are read as the target.
fn by_hand(x: &T, sample: usize, steps: usize, target: &[usize], blank: usize) -> f64 {
    let classes = x.shape()[2];
    let mut sum = 0.0;
    for mut code in 0..classes.pow(steps as u32) {
        let mut path = Vec::new();
        for _ in 0..steps {
            path.push(code % classes);
            code /= classes;
        }
        let logarithm: f64 = path.iter().enumerate().map(|(t, &c)| x.view()[[t, sample, c]]).sum();
        path.dedup();
        path.retain(|&c| c != blank);
        if path == target {
            sum += logarithm.exp();
        }
    }
    -sum.ln()
}

#[test]
fn all_sequences_one_by_one() {
    let x = log_probs(&[6, 3, 3]);
    let steps = [6, 5, 4];
    for blank in 0..3 {
        let others: Vec<usize> = (0..3).filter(|&c| c != blank).collect();
        let [a, b] = others[..] else { unreachable!() };
        for targets in [[vec![a, b, b], vec![a, a], vec![b, a, b]], [vec![], vec![b], vec![a, a]]] {
            let longest = 4;
            let padded = |t: &Vec<usize>| (0..longest).map(|i| t.get(i).map_or(-7, |&c| c as i64)).collect::<Vec<_>>();
            let y = Tensor::from_vec([3, longest], targets.iter().flat_map(padded).collect()).unwrap();
            let joined: Labels = targets.iter().flatten().map(|&c| c as i64).collect();
            let sizes: Labels = targets.iter().map(|t| t.len() as i64).collect();
            let lengths: Labels = steps.iter().map(|&n| n as i64).collect();
            let expected: T = (0..3).map(|n| by_hand(&x, n, steps[n], &targets[n], blank)).collect();
            for reduction in REDUCTIONS {
                let options = CTCLossOptions::from(reduction).blank(blank);
                let expected = match reduction {
                    Reduction::None => expected.clone(),
                    Reduction::Sum => expected.sum(),
                    Reduction::Mean => expected.try_div(&sizes.clamp_min(1).cast()).unwrap().mean(),
                };
                let layer = CTCLoss::new().blank(blank).reduction(reduction);
                for y in [&y, &joined] {
                    close(&F::ctc_loss(&x, y, &lengths, &sizes, options).unwrap(), &expected);
                    same(
                        &x,
                        |x| layer.forward(x, y, &lengths, &sizes),
                        |x| F::ctc_loss(x, y, &lengths, &sizes, options),
                    );
                    if blank == 1 {
                        continue;
                    }
                    let scores = |t: &[T]| F::ctc_loss(&t[0].log_softmax(2)?, y, &lengths, &sizes, options);
                    gradcheck(scores, &[values(&[6, 3, 3], 0.8)], Default::default()).unwrap();
                }
            }
            // A sample without a batch; classes first in memory.
            let one = x.select(1, 0).unwrap();
            let (steps, size) = (Tensor::scalar(6), Tensor::scalar(targets[0].len() as i64));
            let y = y.select(0, 0).unwrap().narrow(0, 0, targets[0].len()).unwrap();
            let options = CTCLossOptions::from(Reduction::None).blank(blank);
            let alone = F::ctc_loss(&one, &y, &steps, &size, options).unwrap();
            assert_eq!(alone.ndim(), 0);
            close(&alone, &Tensor::scalar(expected.to_vec()[0]));
            let strided = one.t().unwrap().contiguous().t().unwrap();
            assert_eq!(F::ctc_loss(&strided, &y, &steps, &size, options).unwrap(), alone);
        }
    }
}

/// The gradient of a sum of losses.
fn gradient<R: Real>(x: &Tensor<R>, y: &Labels, steps: &Labels, sizes: &Labels, options: CTCLossOptions) -> Tensor<R> {
    let x = x.set_requires_grad(true);
    let loss = F::ctc_loss(&x, y, steps, sizes, options).unwrap().sum();
    grad(&[&loss], &[&x], false).unwrap()[0].clone().unwrap()
}

#[test]
fn long_sequences_keep_their_digits() {
    // A thousand steps in f32 against f64; and the same bits on any number of threads.
    let x = log_probs(&[1000, 4, 9]);
    let y = (0..800).map(|i| 1 + i * i % 8).collect::<Labels>().reshape([4, 200]).unwrap();
    let (steps, sizes) = (tensor![1000, 900, 1000, 400], tensor![200, 150, 1, 200]);
    let single = x.cast::<f32>();
    let wanted: Vec<f64> = each(&x, &y, &steps, &sizes);
    for (got, want) in each(&single, &y, &steps, &sizes).into_iter().zip(wanted) {
        assert!((f64::from(got) - want).abs() < 1e-6 * want, "{got} is not {want}");
    }
    let sum = CTCLossOptions::from(Reduction::Sum);
    let run = |threads| with_num_threads(threads, || gradient(&single, &y, &steps, &sizes, sum));
    let (exact, near) = (gradient(&x, &y, &steps, &sizes, sum), run(1));
    let worst = (near.cast::<f64>() - exact).abs().max().unwrap().item().unwrap();
    assert!(worst < 2e-5, "{worst}");
    assert_eq!(run(3), near);
    // Behind a sample's steps nothing passes.
    let rest = near.select(1, 3).unwrap().narrow(0, 400, 600).unwrap();
    assert_eq!(rest, Tensor::zeros([600, 9]));
}

#[test]
fn improbable_paths_are_not_lost() {
    // Scores for which probabilities and their products are far below the smallest number.
    for size in [1e3f32, 1e6, 1e30] {
        let x = Tensor::from_vec([4, 1, 3], (0..12).map(|i| if i % 3 == 0 { 0.0 } else { -size }).collect()).unwrap();
        let loss = each(&x, &tensor![[1, 2]], &tensor![4], &tensor![2])[0];
        // 6 paths.
        assert!(((loss + 6f32.ln()) / size - 2.0).abs() < 1e-5, "{loss} for {size}");
        let options = CTCLossOptions::from(Reduction::Sum);
        let grad = gradient(&x, &tensor![[1, 2]], &tensor![4], &tensor![2], options);
        // e⁰ minus the share of blanks, and minus the share of each label: 1 of 4 and 1 of 4 steps on average.
        assert!((grad.select(2, 0).unwrap().sum().item().unwrap() - 2.0).abs() < 1e-5);
        assert!((grad.select(2, 1).unwrap().sum().item().unwrap() + 1.0).abs() < 1e-5);
    }
    // A class of probability 0 is avoided; if it is the target, the loss is infinite.
    let zero = f64::NEG_INFINITY;
    let x = tensor![[[0.5, 0.5, 0.0]], [[0.5, 0.5, 0.0]]; f64].log();
    assert_eq!(x.view()[[0, 0, 2]], zero);
    close(&T::from_vec([1], each(&x, &tensor![[1]], &tensor![2], &tensor![1])).unwrap(), &-tensor![0.75; f64].log());
    assert_eq!(each(&x, &tensor![[2]], &tensor![2], &tensor![1]), [f64::INFINITY]);
    let grad = gradient(&x, &tensor![[1]], &tensor![2], &tensor![1], Default::default());
    assert!(grad.to_vec().iter().all(|g| g.is_finite()));
    let nan = tensor![[[0.0, f64::NAN, 0.0]]; f64];
    assert!(each(&nan, &tensor![[1]], &tensor![1], &tensor![1])[0].is_nan());
}

#[test]
fn targets_that_do_not_fit_into_their_steps() {
    // "1 1" takes 3 steps.
    let x = log_probs(&[3, 3, 3]);
    let (y, steps, sizes) = (tensor![[1, 1], [1, 1], [2, 1]], tensor![2, 3, 0], tensor![2, 2, 0]);
    let losses = each(&x, &y, &steps, &sizes);
    assert!(losses[0].is_infinite() && losses[1].is_finite() && losses[2] == 0.0, "{losses:?}");
    assert_eq!(each(&x, &y, &tensor![0, 3, 0], &sizes)[0], f64::INFINITY);
    let sum = CTCLossOptions::from(Reduction::Sum);
    let grad = gradient(&x, &y, &steps, &sizes, sum);
    // As in PyTorch, within the steps.
    let sample = |grad: &T, n| grad.select(1, n).unwrap().to_vec();
    assert!(sample(&grad, 0)[..6].iter().all(|g| g.is_nan()));
    assert!(sample(&grad, 0)[6..].iter().chain(&sample(&grad, 2)).all(|&g| g == 0.0));
    let zeroed = gradient(&x, &y, &steps, &sizes, sum.zero_infinity(true));
    assert_eq!(sample(&zeroed, 0), [0.0; 9]);
    assert_eq!(sample(&zeroed, 1), sample(&grad, 1));
    let options = CTCLossOptions::from(Reduction::None).zero_infinity(true);
    assert_eq!(F::ctc_loss(&x, &y, &steps, &sizes, options).unwrap().to_vec(), [0.0, losses[1], 0.0]);
}

#[test]
fn the_gradient_has_none() {
    let x = values(&[3, 1, 3], 0.3).set_requires_grad(true);
    let loss = F::ctc_loss(&x.log_softmax(2).unwrap(), &tensor![[1]], &tensor![3], &tensor![1], Default::default());
    let first = grad(&[&loss.unwrap()], &[&x], true).unwrap()[0].clone().unwrap();
    assert_eq!(
        first.square().sum().backward().unwrap_err().to_string(),
        "ctc_loss: the gradient has no derivative of its own, as in PyTorch"
    );
}

#[test]
fn what_does_not_fit() {
    let x = log_probs(&[5, 2, 3]);
    let (y, steps, sizes) = (tensor![[1, 2], [1, 1]], tensor![5, 5], tensor![2, 2]);
    let (shape, value) = (ErrorKind::Shape, ErrorKind::Value);
    let loss = |x: &T, y: &Labels, steps: &Labels, sizes: &Labels| F::ctc_loss(x, y, steps, sizes, Default::default());
    for (result, kind, message) in [
        (loss(&x, &y, &tensor![5, 6], &sizes), value, "the input length of sequence 1 is 6, expected 0 to 5"),
        (loss(&x, &y, &tensor![-1, 5], &sizes), value, "the input length of sequence 0 is -1, expected 0 to 5"),
        (loss(&x, &y, &steps, &tensor![2, 3]), value, "the target length of sequence 1 is 3, expected 0 to 2"),
        (loss(&x, &y, &steps, &tensor![2, -3]), value, "the target length of sequence 1 is -3, expected 0 to 2"),
        (loss(&x, &y, &tensor![5], &sizes), shape, "expected 2 input lengths, one per sequence, got 1"),
        (
            loss(&x, &y, &steps, &tensor![[2, 2]]),
            shape,
            "the target lengths are [1, 2], expected one axis: one per sequence",
        ),
        (
            loss(&x, &tensor![1, 2, 1], &steps, &sizes),
            shape,
            "the targets are [3], expected [2, longest], or [4]: one after another, as long as the target lengths together",
        ),
        (
            loss(&x, &tensor![1, 2, 1, 1, 2], &steps, &sizes),
            shape,
            "the targets are [5], expected [2, longest], or [4]: one after another, as long as the target lengths together",
        ),
        (
            loss(&x, &tensor![[1, 2]], &steps, &sizes),
            shape,
            "the targets are [1, 2], expected [2, longest], or [4]: one after another, as long as the target lengths together",
        ),
        (
            loss(&x, &tensor![[1, 2], [1, 3]], &steps, &sizes),
            ErrorKind::Index,
            "label 1 of sample 1 is 3, expected 0 to 2",
        ),
        (
            loss(&x, &tensor![1, -2, 1, 1], &steps, &sizes),
            ErrorKind::Index,
            "label 1 of sample 0 is -2, expected 0 to 2",
        ),
        (
            F::ctc_loss(&x, &y, &steps, &sizes, CTCLossOptions::default().blank(3)),
            value,
            "blank is 3, expected a class, below 3",
        ),
        (
            loss(&T::zeros([0, 2, 3]), &y, &steps, &sizes),
            shape,
            "log_probs is [0, 2, 3], expected (T, N, C) or (T, C) with at least 1 step and 1 sample",
        ),
        (
            loss(&T::zeros([5, 0, 3]), &y, &steps, &sizes),
            shape,
            "log_probs is [5, 0, 3], expected (T, N, C) or (T, C) with at least 1 step and 1 sample",
        ),
        (
            loss(&T::zeros([3]), &y, &steps, &sizes),
            shape,
            "log_probs is [3], expected (T, N, C) or (T, C) with at least 1 step and 1 sample",
        ),
    ] {
        assert_eq!(text(result, kind), format!("ctc_loss: {message}"));
    }
    // States at all steps that no address space holds, of inputs that are small beside them.
    const LONG: usize = 1 << 23;
    let (many, labels) = (Tensor::<f32>::zeros([LONG, 1, 1]), Labels::zeros([1, LONG]));
    let error = F::ctc_loss(&many, &labels, &[LONG], &[LONG], Default::default()).unwrap_err().to_string();
    assert!(error.starts_with("ctc_loss: "), "{error}");
    // What lies behind a target's length is not read.
    assert_eq!(each(&x, &tensor![[1, 99], [1, 1]], &steps, &tensor![1, 2]).len(), 2);
    assert!(text(CTCLoss::new().forward(&x, &y, &steps, &tensor![3, 2]), value).ends_with("; in CTCLoss()"));
}
