//! Distances, and the losses of distributions, embeddings and margins: derivatives over their options, layers against
//! functions, odd numbers and sizes, errors. The values are checked in `conformance`.

use ndnn::{
    ErrorKind,
    autograd::grad,
    functional::{self as F, Reduction},
    nn::Distance,
    prelude::*,
};

use super::{REDUCTIONS, T, chances, check, close, same, text, values};

const INF: f64 = f64::INFINITY;

fn signs(n: usize) -> T {
    (0..n).map(|i| if i % 3 == 0 { -1.0 } else { 1.0 }).collect()
}

/// The gradients of the sum of a loss, in the fast and in the differentiable pass.
fn gradients(loss: &T, inputs: &[&T]) -> Vec<Vec<f64>> {
    let of = |create_graph| {
        let grads = grad(&[&loss.sum()], inputs, create_graph).unwrap();
        grads.into_iter().map(|g| g.unwrap().to_vec()).collect::<Vec<_>>()
    };
    // The first pass keeps the graph.
    let (slow, fast) = (of(true), of(false));
    for (fast, slow) in fast.iter().flatten().zip(slow.iter().flatten()) {
        assert!(fast == slow || fast.is_nan() && slow.is_nan(), "{fast} in the fast pass, {slow} in the other");
    }
    fast
}

// ---------------------------------------------------------------------------------------------------------- distances

#[test]
fn distances_of_vectors() {
    let (x, y) = (values(&[3, 4], 0.3), values(&[3, 4], 1.4));
    for dim in [0, 1, -1] {
        for eps in [1e-8, 1.5] {
            let options = F::CosineSimilarityOptions::default().dim(dim).eps(eps);
            let f = |t: &[T]| F::cosine_similarity(&t[0], &t[1], options);
            // Below the floor the derivative is not that of the value, as in PyTorch.
            if eps < 1.0 {
                check(f, &[x.clone(), y.clone()]);
            }
            let layer = CosineSimilarity::new().dim(dim).eps(eps);
            same(&x, |x| layer.forward(x, &y), |x| f(&[x.clone(), y.clone()]));
        }
    }
    check(|t| F::cosine_similarity(&t[0], &t[1], Default::default()), &[values(&[2, 3, 1], 0.2), values(&[3, 2], 0.9)]);
    for p in [-1.0, 0.5, 1.0, 2.0, 3.0, INF] {
        for keepdim in [false, true] {
            let options = F::PairwiseDistanceOptions::default().p(p).keepdim(keepdim);
            let f = |t: &[T]| F::pairwise_distance(&t[0], &t[1], options);
            check(f, &[x.clone(), y.clone()]);
            check(f, &[x.clone(), values(&[4], 2.0)]);
            let layer = PairwiseDistance::new().p(p).keepdim(keepdim);
            same(&x, |x| layer.forward(x, &y), |x| f(&[x.clone(), y.clone()]));
        }
    }
    for p in [0.5, 1.0, 2.0, 3.0, INF] {
        check(|t| F::pdist(&t[0], p), std::slice::from_ref(&x));
        // Each pair as a distance of its own.
        let rows = |at: [i64; 3]| x.index_select(0, &at.into_iter().collect()).unwrap();
        let options = F::PairwiseDistanceOptions::default().p(p).eps(0.0);
        close(&F::pdist(&x, p).unwrap(), &F::pairwise_distance(&rows([0, 0, 1]), &rows([1, 2, 2]), options).unwrap());
    }
    assert_eq!(F::pdist(&x, 0.0).unwrap().to_vec(), [4.0; 3]);
}

#[test]
fn distances_at_the_edges() {
    // As in PyTorch 2.15, but where its squares overflow.
    let zero = T::zeros([1, 2]).set_requires_grad(true);
    let similarity = F::cosine_similarity(&zero, &T::ones([1, 2]), Default::default()).unwrap();
    assert_eq!(similarity.to_vec(), [0.0]);
    close(&T::from_vec([2], gradients(&similarity, &[&zero])[0].clone()).unwrap(), &T::full([2], 0.5f64.sqrt() * 1e8));
    let huge = Tensor::<f32>::full([1, 2], 1e30);
    let similarity = F::cosine_similarity(&huge, &-&huge, Default::default()).unwrap().item().unwrap();
    assert!((similarity + 1.0).abs() < 1e-6);
    let one = F::CosineSimilarityOptions::default().dim(0);
    assert_eq!(F::cosine_similarity(&T::scalar(2.0), &T::scalar(-3.0), one).unwrap().item().unwrap(), -1.0);
    assert_eq!(F::cosine_similarity(&T::zeros([3, 0]), &T::zeros([3, 0]), Default::default()).unwrap(), T::zeros([3]));
    assert_eq!(F::pairwise_distance(&T::zeros([2, 0]), &T::zeros([2, 0]), Default::default()).unwrap(), T::zeros([2]));

    let same = tensor![[1.0, 2.0], [1.0, 2.0]; f64].set_requires_grad(true);
    for p in [1.0, 2.0, 3.0, INF] {
        let distance = F::pdist(&same, p).unwrap();
        assert_eq!((distance.to_vec(), gradients(&distance, &[&same])), (vec![0.0], vec![vec![0.0; 4]]), "{p}");
    }
    for (shape, pairs) in [([0, 3], 0), ([1, 3], 0), ([3, 0], 3)] {
        for p in [2.0, INF] {
            assert_eq!(F::pdist(&T::zeros(shape), p).unwrap(), T::zeros([pairs]));
        }
    }

    let shape = ErrorKind::Shape;
    assert_eq!(text(F::pdist(&T::zeros([3]), 2.0), shape), "pdist: the input is [3], expected rows of vectors, (N, D)");
    assert_eq!(
        text(F::pdist(&T::zeros([3, 2]), -1.0), ErrorKind::Value),
        "pdist: p is -1, expected a degree of at least 0"
    );
    text(F::pdist(&T::zeros([3, 2]), f64::NAN), ErrorKind::Value);
    // More pairs than can be counted, of vectors without elements.
    let pairs = F::pdist(&T::zeros([1 << 40, 0]), 2.0).unwrap_err().to_string();
    assert!(pairs.starts_with("pdist: "), "{pairs}");
    let (a, b) = (T::zeros([2, 3]), T::zeros([2, 4]));
    assert!(text(F::cosine_similarity(&a, &b, Default::default()), shape).starts_with("cosine_similarity: "));
    assert!(text(F::pairwise_distance(&a, &b, Default::default()), shape).starts_with("pairwise_distance: "));
    assert_eq!(
        text(F::cosine_similarity(&a, &a, F::CosineSimilarityOptions::default().dim(2)), shape),
        "cosine_similarity: there is no axis 2 in a tensor of 2 (expected -2 to 1)"
    );
}

// ------------------------------------------------------------------------------------------------------ distributions

#[test]
fn divergences_and_likelihoods() {
    let shape = [2, 3];
    let (x, y) = (values(&shape, 0.3) * 2.0, chances(&shape, 0.2) * 4.0);
    for reduction in REDUCTIONS {
        for log_target in [false, true] {
            let options = F::KLDivLossOptions::default().reduction(reduction).log_target(log_target);
            let f = |t: &[T]| F::kl_div(&t[0], &t[1], options);
            check(f, &[x.clone(), y.clone()]);
            let layer = KLDivLoss::new().reduction(reduction).log_target(log_target);
            same(&x, |x| layer.forward(x, &y), |x| f(&[x.clone(), y.clone()]));
        }
        for full in [false, true] {
            for log_input in [false, true] {
                let options = F::PoissonNLLLossOptions::from(reduction).full(full).log_input(log_input).eps(0.01);
                let f = |t: &[T]| F::poisson_nll_loss(&t[0], &t[1], options);
                let x = if log_input { x.clone() } else { chances(&shape, 0.8) };
                check(f, &[x.clone(), y.clone()]);
                let layer = PoissonNLLLoss::new().reduction(reduction).full(full).log_input(log_input).eps(0.01);
                same(&x, |x| layer.forward(x, &y), |x| f(&[x.clone(), y.clone()]));
            }
            let options = F::GaussianNLLLossOptions::from(reduction).full(full);
            let f = |t: &[T]| F::gaussian_nll_loss(&t[0], &t[1], &t[2], options);
            for (target, var) in
                [([2, 3], &[2, 3][..]), ([1, 3], &[2]), ([2, 1], &[2, 1]), ([2, 3], &[1, 3]), ([1, 1], &[])]
            {
                check(f, &[x.clone(), values(&target, 0.1), chances(var, 0.4)]);
            }
            let (y, v) = (values(&shape, 0.1), chances(&shape, 0.4));
            let layer = GaussianNLLLoss::new().reduction(reduction).full(full).eps(0.5);
            let options = options.eps(0.5);
            same(&x, |x| layer.forward(x, &y, &v), |x| F::gaussian_nll_loss(x, &y, &v, options));
        }
    }
    let options = F::KLDivLossOptions::default();
    let sum = F::kl_div(&x, &y, options.reduction("sum")).unwrap();
    close(&F::kl_div(&x, &y, options.reduction("batchmean")).unwrap(), &(&sum / 2.0));
    let one = F::kl_div(&T::scalar(0.3), &T::scalar(0.5), options.reduction("batchmean")).unwrap();
    close(&one, &F::kl_div(&T::scalar(0.3), &T::scalar(0.5), options.reduction("sum")).unwrap());
}

#[test]
fn distributions_at_the_edges() {
    // A probability of 0 contributes nothing, and its slope is what the mathematics says.
    let leaf = |t: T| t.set_requires_grad(true);
    let none = F::KLDivLossOptions::default().reduction("none");
    let (x, y) = (leaf(tensor![-INF, 0.0, -1.0, 1e300; f64]), leaf(tensor![0.0, 0.0, 1.0, 0.0; f64]));
    let loss = F::kl_div(&x, &y, none).unwrap();
    assert_eq!(loss.to_vec(), [0.0, 0.0, 1.0, 0.0]);
    assert_eq!(gradients(&loss, &[&x, &y])[0], [0.0, 0.0, -1.0, 0.0]);
    assert!(F::kl_div(&tensor![0.0; f64], &tensor![-1.0; f64], none).unwrap().item().unwrap().is_nan());
    let (x, y) = (leaf(tensor![-INF, 0.0, 1.0; f64]), leaf(tensor![-INF, -INF, 0.0; f64]));
    let loss = F::kl_div(&x, &y, none.log_target(true)).unwrap();
    assert_eq!(loss.to_vec(), [0.0, 0.0, -1.0]);
    assert_eq!(gradients(&loss, &[&x, &y]), [[-0.0, -0.0, -1.0], [0.0, 0.0, 0.0]]);

    let full = F::PoissonNLLLossOptions::from(Reduction::None).full(true);
    let (x, y) = (leaf(tensor![-INF, 0.0, 0.0, 0.0; f64]), leaf(tensor![0.0, 0.0, 1.0, 2.0; f64]));
    let loss = F::poisson_nll_loss(&x, &y, full).unwrap();
    let stirling = 2.0 * 2f64.ln() - 2.0 + 0.5 * (4.0 * std::f64::consts::PI).ln();
    close(&loss, &tensor![0.0, 1.0, 1.0, 1.0 + stirling; f64]);
    let slopes = gradients(&loss, &[&x, &y]);
    assert_eq!((&slopes[0][..], &slopes[1][1..3]), (&[0.0, 1.0, 0.0, -1.0][..], &[0.0, 0.0][..]));

    // As PyTorch, of which these are the numbers.
    let rate = F::PoissonNLLLossOptions::from(Reduction::None).log_input(false);
    let (x, y) =
        (leaf(tensor![0.0, 1.0, -1.0, -1e-8, INF, 0.0; f64]), leaf(tensor![0.0, 0.0, 0.0, 0.0, 0.0, 1.0; f64]));
    let loss = F::poisson_nll_loss(&x, &y, rate).unwrap();
    let (at, found) = (18.420680743952367, loss.to_vec());
    assert!((found[5] - at).abs() < 1e-12 && found[..2] == [0.0, 1.0] && found[2..5].iter().all(|l| l.is_nan()));
    let slopes = gradients(&loss, &[&x, &y]);
    assert_eq!(slopes[0][..3], [1.0; 3]);
    assert!(slopes[0][3].is_nan() && (slopes[0][5] + 1e8).abs() < 2.0);
    assert!(slopes[1][2].is_nan() && slopes[1][3..5] == [INF, -INF] && (slopes[1][0] - at).abs() < 1e-12);

    // PyTorch clamps the variance without recording: its slope passes below the floor.
    let v = leaf(tensor![0.0, 4.0; f64]);
    let options = F::GaussianNLLLossOptions::from(Reduction::None).eps(0.5);
    let loss = F::gaussian_nll_loss(&tensor![1.0, 1.0; f64], &tensor![0.0, 0.0; f64], &v, options).unwrap();
    close(&loss, &tensor![0.5 * (0.5f64.ln() + 2.0), 0.5 * (4f64.ln() + 0.25); f64]);
    assert_eq!(gradients(&loss, &[&v])[0], [-1.0, 0.5 * (0.25 - 0.0625)]);

    for reduction in ["mean", "sum"] {
        let empty = T::zeros([0, 3]);
        let nothing = [
            F::kl_div(&empty, &empty, F::KLDivLossOptions::default().reduction(reduction)).unwrap(),
            F::poisson_nll_loss(&empty, &empty, Reduction::from(reduction).into()).unwrap(),
            F::gaussian_nll_loss(&empty, &empty, &empty, Reduction::from(reduction).into()).unwrap(),
        ];
        for loss in nothing {
            let loss = loss.item().unwrap();
            assert!(if reduction == "sum" { loss == 0.0 } else { loss.is_nan() });
        }
    }

    let (row, x) = (T::zeros([3]), T::zeros([2, 3]));
    let shape = ErrorKind::Shape;
    for result in [
        F::kl_div(&x, &row, Default::default()),
        F::poisson_nll_loss(&x, &row, Default::default()),
        F::gaussian_nll_loss(&row, &x, &row, Default::default()),
        F::gaussian_nll_loss(&x, &x, &T::zeros([1, 1]), Default::default()),
    ] {
        text(result, shape);
    }
    assert_eq!(
        text(F::gaussian_nll_loss(&x, &x, &row, Default::default()), shape),
        "gaussian_nll_loss: the variance is [3], the input [2, 3]; expected its shape, the same without the last axis or \
         with one axis of length 1, or a scalar"
    );
    assert_eq!(
        text(GaussianNLLLoss::new().forward(&row, &row, &tensor![1.0, -0.5, 0.0; f64]), ErrorKind::Value),
        "gaussian_nll_loss: the variance is -0.5 at [1], expected at least 0; in GaussianNLLLoss()"
    );
    let eps = || F::GaussianNLLLossOptions::default().eps(0.0);
    assert_eq!(super::common::panic_of(eps), "eps is above 0, got 0.0");
}

// --------------------------------------------------------------------------------------------------------- embeddings

#[test]
fn embeddings() {
    let (a, b, c) = (values(&[6, 4], 0.3), values(&[6, 4], 1.4), values(&[6, 4], 2.2));
    for reduction in REDUCTIONS {
        let options = F::CosineEmbeddingLossOptions::from(reduction).margin(0.1);
        let y = signs(6);
        let f = |t: &[T]| F::cosine_embedding_loss(&t[0], &t[1], &y, options);
        check(f, &[a.clone(), b.clone()]);
        let layer = CosineEmbeddingLoss::new().reduction(reduction).margin(0.1);
        same(&a, |a| layer.forward(a, &b, &y), |a| f(&[a.clone(), b.clone()]));
        let options = F::HingeEmbeddingLossOptions::from(reduction).margin(0.4);
        let y = signs(24).reshape([6, 4]).unwrap();
        check(|t| F::hinge_embedding_loss(&t[0], &y, options), std::slice::from_ref(&a));
        let layer = HingeEmbeddingLoss::new().reduction(reduction).margin(0.4);
        same(&a, |a| layer.forward(a, &y), |a| F::hinge_embedding_loss(a, &y, options));
        for swap in [false, true] {
            for p in [1.0, 2.0, 3.0] {
                let options = F::TripletMarginLossOptions::from(reduction).swap(swap).p(p).margin(0.5);
                let f = |t: &[T]| F::triplet_margin_loss(&t[0], &t[1], &t[2], options);
                check(f, &[a.clone(), b.clone(), c.clone()]);
                let layer = TripletMarginLoss::new().reduction(reduction).swap(swap).p(p).margin(0.5);
                same(&a, |a| layer.forward(a, &b, &c), |a| f(&[a.clone(), b.clone(), c.clone()]));
                let layer = TripletMarginWithDistanceLoss::by(PairwiseDistance::new().p(p)).margin(0.5);
                let layer = layer.swap(swap).reduction(reduction);
                same(&a, |a| layer.forward(a, &b, &c), |a| f(&[a.clone(), b.clone(), c.clone()]));
            }
        }
    }
    // As in PyTorch: at the margin no gradient passes, targets other than ±1 get both terms or none.
    let x = tensor![1.0, 0.5, 2.0, INF, 0.5, f64::NAN; f64].set_requires_grad(true);
    let y = tensor![-1.0, -1.0, -1.0, -1.0, 0.0, 1.0; f64];
    let loss = F::hinge_embedding_loss(&x, &y, Reduction::None.into()).unwrap();
    assert_eq!(loss.to_vec()[..5], [0.0, 0.5, 0.0, 0.0, 1.0]);
    assert!(loss.to_vec()[5].is_nan());
    assert_eq!(gradients(&loss, &[&x])[0], [0.0, -1.0, 0.0, 0.0, 0.0, 1.0]);
    let (a, b) = (tensor![[1.0, 0.0], [1.0, 0.0]; f64], tensor![[0.0, 1.0], [1.0, 0.0]; f64].set_requires_grad(true));
    let loss = F::cosine_embedding_loss(&a, &b, &tensor![-1.0, 3.0; f64], Reduction::None.into()).unwrap();
    assert_eq!((loss.to_vec(), gradients(&loss, &[&b])), (vec![0.0; 2], vec![vec![0.0; 4]]));
}

/// A distance with a parameter.
#[derive(Module)]
struct Weighted {
    weight: Param<f64>,
}

impl Distance<f64> for Weighted {
    fn distance(&self, a: &T, b: &T) -> Result<T> {
        a.try_sub(b)?.square().try_mul(&self.weight.tensor())?.sum_dim(-1, false)
    }
}

#[test]
fn a_distance_may_learn() {
    let layer = TripletMarginWithDistanceLoss::by(Weighted { weight: Param::new(tensor![1.0, 2.0; f64]) });
    assert_eq!(layer.to_string(), "TripletMarginWithDistanceLoss(\n  (distance_function): Weighted()\n)");
    assert_eq!(layer.named_parameters()[0].0, "distance_function.weight");
    let (a, p, n) = (T::zeros([1, 2]), tensor![[1.0, 1.0]; f64], tensor![[1.0, 0.0]; f64]);
    let loss = layer.forward(&a, &p, &n).unwrap();
    loss.backward().unwrap();
    assert_eq!(loss.item().unwrap(), 3.0);
    assert_eq!(layer.distance_function.weight.grad().unwrap(), tensor![0.0, 1.0; f64]);
    let broken = |_: &T, _: &T| Err(ndnn::Error::value("apart", "no"));
    let result = F::triplet_margin_with_distance_loss(&a, &p, &n, broken, Default::default());
    assert_eq!(text(result, ErrorKind::Value), "apart: no");
}

#[test]
fn embeddings_that_do_not_fit() {
    let (x, row, y) = (T::zeros([2, 3]), T::zeros([3]), T::zeros([2]));
    let shape = ErrorKind::Shape;
    let options = F::CosineEmbeddingLossOptions::default();
    assert_eq!(
        text(F::cosine_embedding_loss(&x, &x, &row, options), shape),
        "cosine_embedding_loss: the inputs are [2, 3], the target [3]; expected (N, D) and (N), or (D) and a scalar"
    );
    for (a, b, y) in [(&x, &row, &y), (&row, &row, &T::zeros([1])), (&T::zeros([1, 2, 3]), &T::zeros([1, 2, 3]), &x)] {
        text(F::cosine_embedding_loss(a, b, y, options), shape);
    }
    text(F::hinge_embedding_loss(&x, &row, Default::default()), shape);
    assert_eq!(
        text(F::triplet_margin_loss(&x, &x, &row, Default::default()), shape),
        "triplet_margin_loss: the anchor is [2, 3], the negative example [3], they must have one shape; losses do not \
         broadcast; use broadcast_to if that is meant"
    );
    text(TripletMarginWithDistanceLoss::new().forward(&x, &row, &x), shape);
    for margin in [0.0, -1.0, f64::NAN] {
        let panic = super::common::panic_of(|| TripletMarginLoss::new().margin(margin));
        assert!(panic.starts_with("margin is above 0, got "), "{panic}");
        super::common::panic_of(|| TripletMarginWithDistanceLoss::new().margin(margin));
    }
}

// ------------------------------------------------------------------------------------------------------------ margins

#[test]
fn margins_of_classes() {
    let weight = tensor![0.5, 2.0, -1.5, 1.0; f64];
    for (x, y) in [
        (values(&[3, 4], 0.3), tensor![1, 3, 0]),
        (values(&[4], 0.3), tensor![2]),
        (values(&[4], 0.9), Tensor::scalar(0)),
        (values(&[4, 3], 0.4).t().unwrap(), tensor![1, 3, 0]),
    ] {
        for reduction in REDUCTIONS {
            for p in [1, 2] {
                for margin in [1.0, -0.3] {
                    for weight in [None, Some(&weight)] {
                        let options = F::MultiMarginLossOptions::from(reduction).p(p).margin(margin).weight(weight);
                        let f = |t: &[T]| F::multi_margin_loss(&t[0], &y, options);
                        check(f, std::slice::from_ref(&x));
                        let layer = MultiMarginLoss::new().dtype::<f64>().p(p).margin(margin).reduction(reduction);
                        let layer = layer.weight(weight.cloned());
                        same(&x, |x| layer.forward(x, &y), |x| f(std::slice::from_ref(x)));
                    }
                }
            }
        }
    }
    for (x, y) in [
        (values(&[2, 4], 0.3), tensor![[3, 0, -1, 1], [-1, 2, 2, 2]]),
        (values(&[4], 0.3), tensor![1, 1, 2, -1]),
        (values(&[4, 2], 0.3).t().unwrap(), tensor![[3, 0, -1, 1], [0, 1, 2, 3]]),
    ] {
        for reduction in REDUCTIONS {
            let f = |t: &[T]| F::multilabel_margin_loss(&t[0], &y, reduction.into());
            check(f, std::slice::from_ref(&x));
            let layer = MultiLabelMarginLoss::new().reduction(reduction);
            same(&x, |x| layer.forward(x, &y), |x| f(std::slice::from_ref(x)));
        }
    }
    let (x, y) = (values(&[2, 4], 0.3), chances(&[2, 4], 0.2));
    for reduction in REDUCTIONS {
        let options = F::MultiLabelSoftMarginLossOptions::from(reduction);
        let f = |t: &[T]| F::multilabel_soft_margin_loss(&t[0], &t[1], options);
        check(f, &[x.clone(), y.clone()]);
        let weighted = |t: &[T]| F::multilabel_soft_margin_loss(&t[0], &t[1], options.weight(&t[2]));
        check(weighted, &[x.clone(), y.clone(), weight.clone()]);
        let layer = MultiLabelSoftMarginLoss::new().dtype::<f64>().reduction(reduction).weight(weight.clone());
        same(&x, |x| layer.forward(x, &y), |x| weighted(&[x.clone(), y.clone(), weight.clone()]));
    }
}

#[test]
fn margins_at_the_edges() {
    // PyTorch's numbers; a label that comes twice counts twice.
    let x = tensor![0.1, 0.2, 0.4, 0.8; f64];
    let loss = |y: Tensor<i64>| F::multilabel_margin_loss(&x, &y, Default::default()).unwrap().item().unwrap();
    assert!((loss(tensor![3, 3, -1, 1]) - 0.65).abs() < 1e-12);
    assert!((loss(tensor![3, 0, -1, 1]) - 0.85).abs() < 1e-12);
    assert_eq!(loss(tensor![-1, 0, 1, 2]), 0.0);
    assert_eq!(
        F::multilabel_margin_loss(&T::scalar(0.3), &Tensor::scalar(0), Default::default()).unwrap(),
        T::scalar(0.0)
    );
    assert_eq!(F::multi_margin_loss(&T::scalar(0.3), &Tensor::scalar(0), Default::default()).unwrap(), T::scalar(0.0));
    // Beyond the margin nothing passes, not even to a score that is infinite.
    let x = tensor![[INF, 0.0, -INF], [0.0, 1.0, 3.0]; f64].set_requires_grad(true);
    for p in [1, 2] {
        let options = F::MultiMarginLossOptions::from(Reduction::None).p(p);
        let loss = F::multi_margin_loss(&x, &tensor![0, 2], options).unwrap();
        assert_eq!((loss.to_vec(), gradients(&loss, &[&x])), (vec![0.0; 2], vec![vec![0.0; 6]]));
    }
    let loss = F::multilabel_margin_loss(&x, &tensor![[0, -1, 0], [2, -1, 0]], Reduction::None.into()).unwrap();
    assert_eq!((loss.to_vec(), gradients(&loss, &[&x])), (vec![0.0; 2], vec![vec![0.0; 6]]));
    let (none, some) = (T::zeros([0, 3]), Tensor::<i64>::zeros([0]));
    assert!(F::multi_margin_loss(&none, &some, Default::default()).unwrap().item().unwrap().is_nan());
    assert_eq!(F::multi_margin_loss(&none, &some, Reduction::None.into()).unwrap().shape(), [0]);
    assert_eq!(F::multi_margin_loss(&none, &some, Reduction::Sum.into()).unwrap(), T::scalar(0.0));
    let labels = Tensor::<i64>::zeros([0, 3]);
    assert!(F::multilabel_margin_loss(&none, &labels, Default::default()).unwrap().item().unwrap().is_nan());
    assert_eq!(F::multilabel_margin_loss(&none, &labels, Reduction::Sum.into()).unwrap(), T::scalar(0.0));
    assert!(
        F::multilabel_soft_margin_loss(&T::zeros([3, 0]), &T::zeros([3, 0]), Default::default())
            .unwrap()
            .item()
            .unwrap()
            .is_nan()
    );
}

#[test]
fn margins_that_do_not_fit() {
    let (x, y) = (T::zeros([2, 3]), tensor![0, 1]);
    let shape = ErrorKind::Shape;
    let options = F::MultiMarginLossOptions::default();
    assert_eq!(
        text(F::multi_margin_loss(&x, &tensor![0, 1, 2], options), shape),
        "multi_margin_loss: the input is [2, 3], the target [3], expected [2]"
    );
    assert_eq!(
        text(F::multi_margin_loss(&T::zeros([3]), &y, options), shape),
        "multi_margin_loss: the input is [3], the target [2], expected a scalar or [1]"
    );
    assert_eq!(
        text(F::multi_margin_loss(&T::zeros([2, 0]), &y, options), shape),
        "multi_margin_loss: the input is [2, 0], expected (C) or (N, C) with at least 1 class"
    );
    let weight = T::ones([2]);
    text(F::multi_margin_loss(&x, &y, options.weight(&weight)), shape);
    assert_eq!(
        text(MultiMarginLoss::new().dtype::<f64>().forward(&x, &tensor![0, 3]), ErrorKind::Index),
        "multi_margin_loss: the target is 3 at [1], expected a class from 0 to 2; in MultiMarginLoss()"
    );
    text(F::multi_margin_loss(&x, &tensor![-1, 0], options), ErrorKind::Index);
    assert_eq!(super::common::panic_of(|| MultiMarginLoss::new().p(3)), "p is 1 or 2, got 3");

    let labels = |y: Tensor<i64>| F::multilabel_margin_loss(&x, &y, Default::default());
    assert_eq!(
        text(labels(y), shape),
        "multilabel_margin_loss: the input is [2, 3], the target [2], they must have one shape"
    );
    assert_eq!(
        text(labels(tensor![[0, 1, 2], [-1, 0, -2]]), ErrorKind::Index),
        "multilabel_margin_loss: the target is -2 at [1, 2], expected a class from 0 to 2, or -1 after the last one"
    );
    text(labels(tensor![[0, 1, 3], [-1, 0, 0]]), ErrorKind::Index);
    let soft =
        |x: &T, y: &T, w| F::multilabel_soft_margin_loss(x, y, F::MultiLabelSoftMarginLossOptions::default().weight(w));
    assert_eq!(
        text(soft(&T::scalar(0.0), &T::scalar(0.0), None), shape),
        "multilabel_soft_margin_loss: the input is a scalar, expected scores of classes, (*, C)"
    );
    text(soft(&x, &T::zeros([3]), None), shape);
    text(soft(&x, &x, Some(&weight)), shape);
}

#[test]
fn words_and_printed_forms() {
    let printed = [
        KLDivLoss::default().to_string(),
        PoissonNLLLoss::default().to_string(),
        MultiLabelSoftMarginLoss::default().weight(tensor![1.0]).to_string(),
        NLLLoss2d::default().to_string(),
        CosineSimilarity::default().to_string(),
    ];
    assert_eq!(
        printed,
        ["KLDivLoss()", "PoissonNLLLoss()", "MultiLabelSoftMarginLoss()", "NLLLoss2d()", "CosineSimilarity()"]
    );
    assert_eq!(
        "average".parse::<F::KLDivReduction>().unwrap_err().to_string(),
        "reduction: there is no \"average\"; expected one of \"none\", \"mean\", \"batchmean\", \"sum\""
    );
    let x = values(&[2, 3, 2], 0.3);
    let y = tensor![[0, 2], [1, 1]];
    let layer = NLLLoss2d::new().dtype::<f64>().ignore_index(2);
    same(&x, |x| layer.forward(x, &y), |x| F::nll_loss(x, &y, F::NLLLossOptions::default().ignore_index(2)));
    let f = |t: &[T]| layer.forward(&t[0], &y);
    check(f, &[x]);
}
