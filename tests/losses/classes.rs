//! Losses of many classes: the cross entropy of a linear map in chunks, and the adaptive softmax.

use ndnn::{
    ErrorKind, autograd,
    functional::{self as F, CrossEntropyTarget, LinearCrossEntropyLossOptions},
    memory,
    prelude::*,
};

use super::{REDUCTIONS, T, chances, check, close, same, text, values};

/// The scores of [`F::linear_cross_entropy`] as a tensor.
fn whole(
    t: &[T],
    bias: Option<&T>,
    target: CrossEntropyTarget<'_, f64>,
    options: F::CrossEntropyLossOptions<'_, f64>,
) -> Result<T> {
    let (x, w) = (&t[0], &t[1]);
    let scores = &w.shape()[..w.ndim() - 1];
    let flat = w.reshape([scores.iter().product(), x.shape()[1]])?;
    let y = F::linear(x, &flat, bias.map(|b| b.reshape(-1)).transpose()?.as_ref())?;
    F::cross_entropy(&y.reshape([&x.shape()[..1], scores].concat())?, target, options)
}

#[test]
fn chunks_give_what_all_scores_give() {
    let (x, class_weight) = (values(&[5, 3], 0.3), tensor![0.5, 2.0, 1.5, 1.0; f64]);
    for (shape, labels) in
        [(&[4, 3][..], tensor![0, 3, 1, 2, 2]), (&[4, 2, 3], tensor![[0, 1], [3, 2], [1, 1], [2, 0], [2, 3]])]
    {
        let (w, b) = (values(shape, 1.1), values(&shape[..shape.len() - 1], 0.6));
        let probabilities = chances(&[&[5], &shape[..shape.len() - 1]].concat(), 0.9);
        for reduction in REDUCTIONS {
            for smoothing in [0.0, 0.2] {
                for size in [1, 2, 4] {
                    let options = LinearCrossEntropyLossOptions::from(reduction).label_smoothing(smoothing);
                    let options = options.batch_chunk_size(size);
                    let plain = F::CrossEntropyLossOptions::from(reduction).label_smoothing(smoothing);
                    for ignore_index in [None, Some(2)] {
                        let f = |t: &[T]| {
                            let options = options.linear_bias(&t[2]).weight(&class_weight).ignore_index(ignore_index);
                            F::linear_cross_entropy(&t[0], &t[1], &labels, options)
                        };
                        let inputs = [x.clone(), w.clone(), b.clone()];
                        let plain = plain.weight(&class_weight).ignore_index(ignore_index.unwrap_or(-100));
                        close(&f(&inputs).unwrap(), &whole(&inputs, Some(&b), (&labels).into(), plain).unwrap());
                        if size == 2 && smoothing > 0.0 {
                            check(f, &inputs);
                        }
                    }
                    let f = |t: &[T]| {
                        let options = if t.len() > 3 { options.weight(&t[3]) } else { options };
                        F::linear_cross_entropy(&t[0], &t[1], &t[2], options)
                    };
                    let inputs = [x.clone(), w.clone(), probabilities.clone(), class_weight.clone()];
                    let expected = whole(&inputs, None, (&probabilities).into(), plain.weight(&class_weight)).unwrap();
                    close(&f(&inputs).unwrap(), &expected);
                    if size == 2 && smoothing > 0.0 {
                        check(f, &inputs);
                    }
                }
            }
        }
    }
}

#[test]
fn one_tensor_as_input_and_weight() {
    let (x, labels) = (values(&[5, 3], 0.3).set_requires_grad(true), tensor![0, 3, 1, 2, 4]);
    let gradient = |size: usize, create_graph: bool| {
        let options = LinearCrossEntropyLossOptions::default().batch_chunk_size(size);
        let loss = F::linear_cross_entropy(&x, &x, &labels, options).unwrap();
        autograd::grad(&[&loss], &[&x], create_graph).unwrap().remove(0).unwrap().detach()
    };
    for (size, create_graph) in [(2, false), (2, true)] {
        close(&gradient(size, create_graph), &gradient(5, false));
    }
}

#[test]
fn chunks_do_not_hold_all_scores() {
    // 64 samples of 4096 classes: all scores are 1 MiB.
    let x = Tensor::<f32>::ones([64, 8]).set_requires_grad(true);
    let w = Tensor::<f32>::ones([4096, 8]).set_requires_grad(true);
    let y = Tensor::<i64>::zeros([64]);
    let step = |size: Option<usize>| {
        memory::clear();
        let options = LinearCrossEntropyLossOptions::default().batch_chunk_size(size);
        F::linear_cross_entropy(&x, &w, &y, options).unwrap().backward().unwrap();
        // Buffers that the step left behind: those of its scores among them.
        memory::stats().bytes
    };
    let (all, some) = (step(None), step(Some(4)));
    assert!(all > 1 << 20 && some < 1 << 20, "{all} and {some} bytes");
}

#[test]
fn a_layer_of_scores() {
    let x = values(&[5, 3], 0.3);
    let labels = tensor![[0, 1], [3, 2], [1, 1], [2, 0], [2, 3]];
    ndnn::manual_seed(0);
    let layer = LinearCrossEntropyLoss::new(3, 4).out_features([2]).bias(true).dtype::<f64>();
    let layer = layer.batch_chunk_size(2).weight(tensor![0.5, 2.0, 1.5, 1.0; f64]).label_smoothing(0.1).ignore_index(3);
    assert_eq!(
        layer.to_string(),
        "LinearCrossEntropyLoss(\n  in_features=3, num_classes=4, out_features=(2,), bias=True, reduction=mean, \
         ignore_index=3, label_smoothing=0.1, options=LinearCrossEntropyOptions(batch_chunk_size=2)\n  (linear): \
         Linear(in_features=3, out_features=8, bias=True)\n)"
    );
    let (w, b) =
        (layer.linear.weight.tensor().reshape([4, 2, 3]).unwrap(), layer.linear.bias.as_ref().unwrap().tensor());
    let b = b.reshape([4, 2]).unwrap();
    let class_weight = layer.weight.as_ref().unwrap().tensor();
    let options = LinearCrossEntropyLossOptions::default().linear_bias(&b).weight(&class_weight).ignore_index(3);
    let options = options.label_smoothing(0.1);
    same(&x, |x| layer.forward(x, &labels), |x| F::linear_cross_entropy(x, &w, &labels, options.batch_chunk_size(2)));

    let panic = super::common::panic_of(|| LinearCrossEntropyLoss::new(3, 4).weight(Tensor::ones([3])));
    assert_eq!(panic, "LinearCrossEntropyLoss: the weight is [3], expected [4]: one for each class");
    assert_eq!(
        super::common::panic_of(|| LinearCrossEntropyLossOptions::<f32>::default().batch_chunk_size(0)),
        "batch_chunk_size is at least 1, got 0"
    );
    super::common::panic_of(|| LinearCrossEntropyLoss::new(3, 4).batch_chunk_size(0));
    let panic = super::common::panic_of(|| LinearCrossEntropyLoss::new(3, 4).out_features([1 << 40, 1 << 40]));
    assert!(panic.starts_with("LinearCrossEntropyLoss: "), "{panic}");
    super::common::panic_of(|| LinearCrossEntropyLoss::new(3, 4).label_smoothing(1.5));
}

#[test]
fn scores_that_do_not_fit() {
    let (x, w, y) = (T::zeros([2, 3]), T::zeros([4, 3]), tensor![0, 1]);
    let shape = ErrorKind::Shape;
    for size in [None, Some(1)] {
        let options = LinearCrossEntropyLossOptions::default().batch_chunk_size(size);
        let loss = |x: &T, w: &T, y: CrossEntropyTarget<'_, f64>| F::linear_cross_entropy(x, w, y, options);
        let three = T::zeros([1, 2, 3]);
        let labels = (&y).into();
        for (result, message) in [
            (
                loss(&three, &w, labels),
                "[1, 2, 3], the linear weight [4, 3]; the input has 1 or 2 axes, (in_features) or (N, in_features)",
            ),
            (
                loss(&T::scalar(0.0), &w, labels),
                "[], the linear weight [4, 3]; the input has 1 or 2 axes, (in_features) or (N, in_features)",
            ),
            (
                loss(&x, &T::zeros([3]), labels),
                "[2, 3], the linear weight [3]; the weight has at least 2 axes, (C, in_features) or (C, d1, …, in_features)",
            ),
            (
                loss(&x, &T::zeros([4, 5]), labels),
                "[2, 3], the linear weight [4, 5]; their last axes have 3 and 5 features",
            ),
            (
                loss(&T::zeros([3]), &three, labels),
                "[3], the linear weight [1, 2, 3]; a weight of more than 2 axes takes inputs in a batch, (N, in_features)",
            ),
            (
                F::linear_cross_entropy(&x, &w, &y, options.linear_bias(&T::zeros([3]))),
                "[2, 3], the linear weight [4, 3]; the bias is [3], expected [4]",
            ),
        ] {
            assert_eq!(text(result, shape), format!("linear_cross_entropy: the input is {message}"));
        }
        text(loss(&x, &w, (&tensor![0, 1, 2]).into()), shape);
        text(loss(&x, &w, (&tensor![0, 4]).into()), ErrorKind::Index);
        text(loss(&x, &w, (&T::zeros([2, 3])).into()), shape);
        assert_eq!(
            text(F::linear_cross_entropy(&x, &w, &T::zeros([2, 4]), options.ignore_index(0)), ErrorKind::Value),
            "linear_cross_entropy: ignore_index is for class indices, the target holds probabilities"
        );
    }
}

// --------------------------------------------------------------------------------------------------- adaptive softmax

#[test]
fn an_adaptive_softmax() {
    ndnn::manual_seed(1);
    let layer = AdaptiveLogSoftmaxWithLoss::new(8, 12, [2, 5]).div_value(2.0).head_bias(true).dtype::<f64>();
    let (x, y) = (values(&[6, 8], 0.3) * 3.0, tensor![0, 11, 4, 2, 5, 1]);
    let (output, loss) = layer.forward(&x, &y).unwrap();
    // Against the probabilities of all classes, which are 1 together.
    let all = layer.log_prob(&x).unwrap();
    close(&all.exp().sum_dim(1, false).unwrap(), &T::ones([6]));
    close(&output, &all.gather(1, &y.unsqueeze(1).unwrap()).unwrap().squeeze_dim(1).unwrap());
    close(&loss, &-output.mean());
    assert_eq!(layer.predict(&x).unwrap(), all.argmax(Some(1), false).unwrap());
    let (alone, _) = layer.forward(&x.select(0, 1).unwrap(), &Tensor::scalar(11)).unwrap();
    assert_eq!(alone.ndim(), 0);
    close(&alone, &output.select(0, 1).unwrap());
    check(|t| Ok(layer.forward(&t[0], &y)?.0), std::slice::from_ref(&x));
    check(|t| layer.log_prob(&t[0]), std::slice::from_ref(&x));
    loss.backward().unwrap();
    let gradients = layer.named_parameters().into_iter().map(|(name, p)| (name, p.has_grad())).collect::<Vec<_>>();
    assert!(gradients.iter().all(|(_, has)| *has), "{gradients:?}");

    let empty = layer.forward(&T::zeros([0, 8]), &Tensor::<i64>::zeros([0])).unwrap();
    assert!(empty.0.numel() == 0 && empty.1.item().unwrap().is_nan());
}

#[test]
fn an_adaptive_softmax_refuses() {
    let layer = AdaptiveLogSoftmaxWithLoss::new(8, 12, [2, 5]);
    let x = Tensor::zeros([2, 8]);
    let fail = |x: &Tensor, y: Tensor<i64>| layer.forward(x, &y).map(|_| T::zeros([0]));
    let (shape, index) = (ErrorKind::Shape, ErrorKind::Index);
    for (result, kind, message) in [
        (fail(&x, tensor![0, 12]), index, "the target of sample 1 is 12, expected 0 to 11"),
        (fail(&x, tensor![-1, 0]), index, "the target of sample 0 is -1, expected 0 to 11"),
        (
            fail(&x, tensor![0, 1, 2]),
            shape,
            "the input is [2, 8], the target [3]; expected (N, in_features) and (N), or (in_features) and a scalar",
        ),
    ] {
        let expected = format!("adaptive_log_softmax_with_loss: {message}; in AdaptiveLogSoftmaxWithLoss");
        assert_eq!(text(result, kind), expected);
    }
    text(fail(&Tensor::zeros([2, 7]), tensor![0, 1]), shape);
    text(layer.log_prob(&Tensor::zeros([8])).map(|_| T::zeros([0])), shape);
    for cutoffs in [&[][..], &[0, 5], &[5, 5], &[6, 5], &[5, 12]] {
        let panic = super::common::panic_of(|| AdaptiveLogSoftmaxWithLoss::new(8, 12, cutoffs));
        assert!(panic.contains("expected at least one, rising, from 1 to 11"), "{panic}");
    }
    super::common::panic_of(|| AdaptiveLogSoftmaxWithLoss::new(8, 12, [2]).div_value(0.0));
}
