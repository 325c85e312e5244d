//! Pruning.

use ndnn::nn::utils::{
    parametrize::is_parametrized,
    prune::{
        self, Amount, L1Unstructured, LnStructured, NormOrder, PruningMethod, RandomStructured, RandomUnstructured,
    },
};

use super::{
    common::panic_of,
    sources::rand,
    utils::{Golden, close, linear, message, names, parameter, removed, train},
    *,
};

#[test]
fn pruned_layers_train_as_in_pytorch() {
    let golden = Golden::new();
    let scores = golden.get("scores");
    let mask = tensor![[1, 0, 1, 1], [0, 1, 1, 1], [1, 1, 1, 0]];
    type Apply<'a> = &'a dyn Fn(&Param<f64>) -> Result<()>;
    let cases: [(&str, Apply); 10] = [
        ("identity", &prune::identity),
        ("l1.count", &|w| prune::l1_unstructured(w, 5, None)),
        ("l1.share", &|w| prune::l1_unstructured(w, 0.3, None)),
        ("l1.scores", &|w| prune::l1_unstructured(w, 0.5, Some(&scores))),
        ("ln.2", &|w| prune::ln_structured(w, 2, 2.0, 1, None)),
        ("ln.1", &|w| prune::ln_structured(w, 0.4, 1.0, 0, None)),
        ("ln.inf", &|w| prune::ln_structured(w, 1, f64::NEG_INFINITY, -1, None)),
        ("ln.scores", &|w| prune::ln_structured(w, 1, 3.0, 0, Some(&scores))),
        ("custom", &|w| prune::custom_from_mask(w, &mask)),
        ("twice", &|w| {
            prune::l1_unstructured(w, 3, None)?;
            prune::ln_structured(w, 1, 2.0, 0, None)?;
            prune::custom_from_mask(w, &mask.ne(0)?)?;
            prune::l1_unstructured(w, 0.5, None)
        }),
    ];
    for (name, apply) in cases {
        let name = format!("prune.{name}");
        let layer = linear(4, 3);
        layer.weight.set(&golden.get(&format!("{name}/before"))).unwrap();
        apply(&layer.weight).unwrap();
        // The mask is chosen here, before PyTorch's state is loaded.
        let chosen: Tensor<f64> = layer.state_dict().get("weight_mask").unwrap().to();
        assert_eq!(chosen, golden.get(&format!("{name}/0/weight_mask")), "{name}");
        assert!(prune::is_pruned(&layer) && !is_parametrized(&layer.weight));
        let layer = train(&golden, &name, layer);
        removed(&golden, &name, &layer.weight, prune::remove);
        assert!(!prune::is_pruned(&layer) && names(&layer) == ["weight", "bias"]);
    }
    let (first, second) = (linear(4, 3), linear(3, 2));
    first.weight.set(&golden.get("global/first/before")).unwrap();
    second.weight.set(&golden.get("global/second/before")).unwrap();
    prune::l1_unstructured(&first.weight, 2, None).unwrap();
    prune::global_unstructured(&[&first.weight, &second.weight], &L1Unstructured(0.4.into()), &[]).unwrap();
    for (name, layer) in [("first", first), ("second", second)] {
        close(name, &layer.weight.tensor(), &golden.get(&format!("global/{name}/after")));
    }
}

#[test]
fn pruning_at_random_and_by_scores() {
    let zeros = |t: &Tensor<f64>| t.to_vec().iter().filter(|&&x| x == 0.0).count();
    let layer = linear(6, 5);
    prune::random_unstructured(&layer.weight, 9).unwrap();
    assert_eq!(zeros(&layer.weight.detach()), 9);
    prune::random_unstructured(&layer.weight, 0.5).unwrap();
    assert_eq!(zeros(&layer.weight.detach()), 9 + 10, "half of the 21 that are left, rounded to an even number");
    assert_eq!(names(&layer), ["bias", "weight_orig", "weight_mask"]);
    let copy = layer.clone();
    prune::random_structured(&copy.weight, 2, 0).unwrap();
    prune::random_structured(&copy.weight, 1, 0).unwrap();
    let rows = copy.weight.detach().abs().sum_dim(1, false).unwrap();
    assert!(zeros(&rows) >= 3 && zeros(&layer.weight.detach()) == 19, "a clone has a mask of its own");

    // The same seed, the same elements.
    let chosen = || {
        let layer = Linear::new(6, 5).bias(false);
        ndnn::random::with(&mut rand(3), || prune::random_unstructured(&layer.weight, 10)).unwrap();
        layer.state_dict().get("weight_mask").unwrap().to::<f32>()
    };
    assert_eq!(chosen(), chosen());

    // Scores of one of two parameters; nothing; everything.
    let (a, b) = (linear(2, 2), linear(2, 1));
    a.weight.set(&Tensor::full([2, 2], 3.0)).unwrap();
    b.weight.set(&Tensor::full([1, 2], 2.0)).unwrap();
    let scores = tensor![[1.0, 9.0], [9.0, 1.5]; f64];
    let method = L1Unstructured(Amount::Count(2));
    prune::global_unstructured(&[&a.weight, &b.weight], &method, &[(&a.weight, scores)]).unwrap();
    assert_eq!((a.weight.detach(), zeros(&b.weight.detach())), (tensor![[0.0, 3.0], [3.0, 0.0]; f64], 0));
    prune::l1_unstructured(&b.weight, 0, None).unwrap();
    prune::l1_unstructured(&b.weight, 1.0, None).unwrap();
    assert_eq!(b.weight.detach(), Tensor::zeros([1, 2]));
    let t = tensor![1.0, -3.0, 2.0];
    assert_eq!(L1Unstructured(1.into()).prune(&t, None, None).unwrap(), tensor![0.0, -3.0, 2.0]);
    assert_eq!(prune::Identity.prune(&t, Some(&tensor![0.0, 1.0, 1.0]), None).unwrap(), tensor![0.0, -3.0, 2.0]);
    let empty = Param::<f64>::new(Tensor::zeros([0, 3]));
    prune::ln_structured(&empty, 1, 2.0, 1, None).unwrap();
    prune::random_unstructured(&empty, 0.5).unwrap();
}

/// Against torch.nn.utils.prune.
#[test]
fn channels_are_pruned_by_every_norm() {
    // Channels of the nuclear norms 3, 4 and 3.5, and of the 2-norms 3, 2.83 and 3.5.
    let values = tensor![[[3.0, 0.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 2.0]], [[0.0, 3.5], [0.0, 0.0]]; f64];
    let pruned = |n: NormOrder, dim: isize, values: &Tensor<f64>| {
        let param = Param::new(values.movedim(0, dim).unwrap());
        prune::ln_structured(&param, 1, n, dim, None).unwrap();
        let left = param.detach().movedim(dim, 0).unwrap().flatten(1, -1).unwrap().abs().sum_dim(1, false).unwrap();
        left.to_vec().iter().position(|&x| x == 0.0).unwrap()
    };
    for dim in [0, 1, 2, -1] {
        assert_eq!(pruned("nuc".into(), dim, &values), 0);
        assert_eq!(pruned("fro".into(), dim, &values), 1);
        assert_eq!(pruned(f64::INFINITY.into(), dim, &values), 1);
    }
    assert_eq!(pruned(1.into(), 0, &values), 0);
    let values = tensor![[1.0, 0.0, 9.0], [0.1, 0.2, 0.3]; f64];
    assert_eq!((pruned(0.into(), 0, &values), pruned(2.5.into(), 0, &values)), (0, 1));
    assert_eq!(pruned(f64::NEG_INFINITY.into(), 0, &values), 0);
    let wide = Param::<f32>::new(Tensor::zeros([2, 0, 3]));
    prune::ln_structured(&wide, 1, "nuc", 0, None).unwrap();
}

/// An error of one parameter leaves the others as they were.
#[test]
fn pruning_several_parameters_happens_whole_or_not_at_all() {
    let (a, b, lazy) = (linear(2, 2), linear(2, 1), LazyLinear::new(2).dtype::<f64>());
    ndnn::nn::utils::weight_norm(&b.weight, 0).unwrap();
    let method = L1Unstructured(Amount::Share(0.5));
    for (other, why) in
        [(&b.weight, "prune: _WeightNorm computes the parameter already"), (&lazy.weight, "no values yet")]
    {
        assert!(message(prune::global_unstructured(&[&a.weight, other], &method, &[])).contains(why));
        assert!(!prune::is_pruned(&a) && names(&a) == ["weight", "bias"]);
    }
    // One that is pruned already is pruned on, also if it is named twice.
    prune::l1_unstructured(&a.weight, 1, None).unwrap();
    prune::global_unstructured(&[&a.weight, &a.weight], &L1Unstructured(2.into()), &[]).unwrap();
    assert_eq!(a.weight.detach().eq(0.0).unwrap().cast::<i64>().sum().item().unwrap(), 2);
}

#[test]
fn gradients_pass_only_where_the_mask_is_1() {
    let layer = linear(2, 1).bias(false);
    layer.weight.set(&tensor![[1.0, 5.0]; f64]).unwrap();
    prune::l1_unstructured(&layer.weight, 1, None).unwrap();
    layer.forward(&tensor![[2.0, 3.0]; f64]).unwrap().sum().backward().unwrap();
    assert_eq!(parameter(&layer, 0).grad().unwrap(), tensor![[0.0, 3.0]; f64]);
    layer.weight.set(&tensor![[7.0, 8.0]; f64]).unwrap();
    assert_eq!(layer.weight.detach(), tensor![[0.0, 8.0]; f64]);
    layer.weight.set_requires_grad(false);
    assert!(!layer.weight.tensor().requires_grad());
    prune::remove(&layer.weight).unwrap();
    assert!(!layer.weight.requires_grad());
}

#[test]
fn what_cannot_be_pruned() {
    let layer = Linear::new(4, 3);
    let bias = layer.bias.as_ref().unwrap();
    let w = &layer.weight;
    let cases = [
        (prune::l1_unstructured(w, 13, None), "an amount of 13 of 12 elements; expected at most as many"),
        (prune::random_unstructured(w, 1.5), "an amount is a share from 0 to 1, got 1.5"),
        (prune::random_unstructured(w, f64::NAN), "an amount is a share from 0 to 1, got NaN"),
        (prune::random_structured(w, 4, 0), "an amount of 4 of 3 channels; expected at most as many"),
        (prune::ln_structured(bias, 1, 2.0, 0, None), "channels need at least 2 axes, the parameter is [3]"),
        (prune::l1_unstructured(w, 1, Some(&Tensor::ones([3]))), "the parameter is [3, 4], its importance scores [3]"),
        (prune::custom_from_mask(w, &tensor![true]), "expected a mask of [3, 4], got [1]"),
        (prune::remove(w), "the parameter is not pruned, so there is nothing to remove"),
        (
            prune::global_unstructured(&[w], &RandomStructured { amount: 1.into(), dim: 0 }, &[]),
            "pruning several parameters needs an unstructured method, got Structured(0)",
        ),
    ];
    for (result, expected) in cases {
        assert_eq!(message(result), format!("prune: {expected}"));
    }
    let nuclear = LnStructured { amount: 1.into(), n: "nuc".into(), dim: 0 }.apply(w, None);
    let expected = "prune: a nuclear norm is of channels that are matrices, the parameter is [3, 4]; expected 3 axes";
    assert_eq!(message(nuclear), expected);
    assert_eq!(
        panic_of(|| prune::ln_structured(w, 1, "max", 0, None)),
        r#"a norm is a number, "fro" or "nuc", got "max""#
    );
    // Masks of another shape, also where broadcasting would accept them.
    struct One;
    impl PruningMethod for One {
        fn pruning_type(&self) -> prune::PruningType {
            prune::PruningType::Unstructured
        }
        fn compute_mask(&self, _: &Tensor, _: &Tensor) -> Result<Tensor> {
            Ok(Tensor::ones([1]))
        }
    }
    let t = Tensor::ones([2, 3]);
    assert_eq!(message(One.prune(&t, None, None)), "prune: expected a mask of [2, 3], got [1]");
    assert_eq!(
        message(prune::Identity.prune(&t, Some(&tensor![1.0]), None)),
        "prune: expected a mask of [2, 3], got [1]"
    );
    assert!(message(LnStructured { amount: 1.into(), n: 2.into(), dim: 2 }.apply(w, None)).contains("axis"));
    assert!(message(RandomUnstructured(1.into()).apply(&LazyLinear::new(2).weight, None)).contains("no values yet"));
    assert!(!prune::is_pruned(&layer) && names(&layer) == ["weight", "bias"]);
}
