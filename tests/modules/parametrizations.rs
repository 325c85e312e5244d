//! Parametrizations, their older forms, LoRA and the cache.

use ndnn::{
    autograd::{gradcheck, gradgradcheck},
    module::Scope,
    nn::{
        functional_call,
        utils::{
            self,
            parametrizations::{self, OrthogonalMap, OrthogonalOptions, SpectralNormOptions, lora, orthogonal},
            parametrize::{Parametrization, cached, register_parametrization, remove_parametrizations},
            prune,
        },
    },
};

use super::{
    common::panic_of,
    utils::{Golden, close, linear, message, names, parameter, removed, train, unparametrize},
    *,
};

#[test]
fn orthogonal_matrices_train_as_in_pytorch() {
    let golden = Golden::new();
    for (inputs, outputs) in [(4, 4), (5, 3), (3, 5)] {
        for map in ["matrix_exp", "cayley", "householder"] {
            for (trivial, shown) in [(true, "True"), (false, "False")] {
                let layer = linear(inputs, outputs);
                let options = OrthogonalOptions::default().orthogonal_map(OrthogonalMap::from(map));
                orthogonal(&layer.weight, options.use_trivialization(trivial)).unwrap();
                let name = format!("orthogonal.{inputs}x{outputs}.{map}.{shown}");
                removed(&golden, &name, &train(&golden, &name, layer).weight, unparametrize);
            }
        }
    }
    // Several in a row.
    let layer = linear(3, 3);
    parametrizations::spectral_norm(&layer.weight, Default::default()).unwrap();
    let cayley = OrthogonalOptions::default().orthogonal_map(OrthogonalMap::Cayley);
    let error = message(orthogonal(&layer.weight, cayley));
    assert!(error.starts_with("orthogonal: with use_trivialization it is the first parametrization"), "{error}");
    orthogonal(&layer.weight, cayley.use_trivialization(false)).unwrap();
    removed(&golden, "several", &train(&golden, "several", layer).weight, unparametrize);
}

#[test]
fn norms_train_as_in_pytorch() {
    let golden = Golden::new();
    for (dim, shown) in [(Some(0), "0"), (Some(1), "1"), (None, "None")] {
        let (new, old) = (linear(4, 3), linear(4, 3));
        parametrizations::weight_norm(&new.weight, dim).unwrap();
        utils::weight_norm(&old.weight, dim).unwrap();
        let new = train(&golden, &format!("weight_norm.{shown}"), new);
        removed(&golden, &format!("weight_norm.{shown}"), &new.weight, unparametrize);
        let old = train(&golden, &format!("old_weight_norm.{shown}"), old);
        removed(&golden, &format!("old_weight_norm.{shown}"), &old.weight, utils::remove_weight_norm);
        assert_eq!(names(&old), ["weight", "bias"]);
    }
    for (dim, steps) in [(0, 1), (1, 3)] {
        let options = SpectralNormOptions::default().dim(dim).n_power_iterations(steps);
        let case = |kind, shape| format!("{kind}.{shape}.{dim}.{steps}");
        let layer = linear(4, 3);
        parametrizations::spectral_norm(&layer.weight, options).unwrap();
        let layer = train(&golden, &case("spectral_norm", "linear"), layer);
        removed(&golden, &case("spectral_norm", "linear"), &layer.weight, unparametrize);
        let layer = Conv1d::new(2, 3, 2).dtype::<f64>();
        parametrizations::spectral_norm(&layer.weight, options).unwrap();
        let layer = train(&golden, &case("spectral_norm", "conv"), layer);
        removed(&golden, &case("spectral_norm", "conv"), &layer.weight, unparametrize);

        let layer = linear(4, 3);
        utils::spectral_norm(&layer.weight, options).unwrap();
        let layer = train(&golden, &case("old_spectral_norm", "linear"), layer);
        removed(&golden, &case("old_spectral_norm", "linear"), &layer.weight, utils::remove_spectral_norm);
        let layer = Conv1d::new(2, 3, 2).dtype::<f64>();
        utils::spectral_norm(&layer.weight, options).unwrap();
        let layer = train(&golden, &case("old_spectral_norm", "conv"), layer);
        removed(&golden, &case("old_spectral_norm", "conv"), &layer.weight, utils::remove_spectral_norm);
    }
    let layer = linear(4, 3);
    parametrizations::spectral_norm(layer.bias.as_ref().unwrap(), Default::default()).unwrap();
    let _ = train(&golden, "spectral_norm.bias", layer);
}

#[test]
fn the_older_names_do_not_mix_with_others() {
    let model: Sequential = sequential![Linear::new(4, 3), Linear::new(3, 3)];
    let weight = |i: usize| &model.get::<Linear>(i).unwrap().weight;
    utils::weight_norm(weight(0), 0).unwrap();
    utils::spectral_norm(weight(1), Default::default()).unwrap();
    let expected = ["0.bias", "0.weight_g", "0.weight_v", "1.bias", "1.weight_orig", "1.weight_u", "1.weight_v"];
    assert_eq!(names(&model), expected);
    assert_eq!(model.to_string(), sequential![Linear::new(4, 3), Linear::new(3, 3)].to_string());
    let table = ndnn::nn::summary(&model, &Tensor::zeros([2, 4])).unwrap();
    assert_eq!((table.parameters, table.rows[1].parameters), (3 + 3 + 12 + 3 + 9, 18));
    for (result, taken) in [
        (utils::weight_norm(weight(0), 0), "weight_norm: _WeightNorm"),
        (prune::identity(weight(1)), "prune: _SpectralNorm"),
        (parametrizations::weight_norm(weight(1), 0), "weight_norm: _SpectralNorm"),
    ] {
        assert_eq!(message(result), format!("{taken} computes the parameter already; remove it first"));
    }
    let none = "the parameter has no parametrization";
    assert_eq!(message(remove_parametrizations(weight(0), true)), format!("remove_parametrizations: {none}"));
    assert!(message(utils::remove_spectral_norm(weight(0))).contains("no spectral norm of the older form"));
    assert!(message(utils::remove_weight_norm(weight(1))).contains("no weight norm of the older form"));
    let other = Linear::new(3, 3);
    lora(&other.weight, 1, 1.0).unwrap();
    assert_eq!(message(prune::identity(&other.weight)), "prune: LoRA computes the parameter already; remove it first");

    // Modes are set with the model's; a file loads into a copy, which shares nothing.
    let mut copy = model.clone();
    copy.eval();
    let before = values(&copy);
    let _ = copy.forward(&Tensor::ones([1, 4])).unwrap();
    assert_eq!(values(&copy), before, "no power iteration");
    let _ = model.forward(&Tensor::ones([1, 4])).unwrap();
    assert!(values(&model) != before && values(&copy) == before);
    copy.load_state_dict(&model.state_dict()).unwrap();
    assert_eq!(values(&copy), values(&model));
    // Tied: one source, two names.
    let (a, mut b) = (Linear::new(2, 2), Linear::new(2, 2));
    b.weight = a.weight.clone();
    prune::identity(&a.weight).unwrap();
    let tied = sequential![a, b].clone();
    assert_eq!((tied.parameters().len(), names(&tied).len()), (3, 6));
}

#[test]
fn orthogonal_starts_where_the_weight_is() {
    let identity = Tensor::eye(3);
    for map in ["matrix_exp", "cayley", "householder"] {
        let options = OrthogonalOptions::default().orthogonal_map(OrthogonalMap::from(map));
        // An orthogonal matrix stays as it is, and can be set.
        let (layer, q) = (linear(3, 3), linear(3, 3));
        ndnn::nn::init::orthogonal(&q.weight, 1.0).unwrap();
        layer.weight.set(&q.weight.detach()).unwrap();
        orthogonal(&layer.weight, options).unwrap();
        close(map, &layer.weight.tensor(), &q.weight.detach());
        let turned = q.weight.detach().t().unwrap();
        layer.weight.set(&turned).unwrap();
        close(map, &layer.weight.tensor(), &turned);
        // Others become one, in stacks too.
        for shape in [&[3, 3][..], &[5, 3], &[3, 5], &[2, 4, 3], &[1, 1], &[0, 0], &[2, 0]] {
            let param = Param::<f64>::new(Tensor::randn(shape));
            orthogonal(&param, options).unwrap();
            let q = param.tensor();
            let narrow = if shape[shape.len() - 2] < shape[shape.len() - 1] { q.m_t().unwrap() } else { q };
            let product = narrow.m_t().unwrap().matmul(&narrow).unwrap();
            let one = Tensor::eye(product.shape()[product.ndim() - 1]).broadcast_to(product.shape()).unwrap();
            close(map, &product, &one);
        }
    }
    // By QR, without a base, for reflections alone; an f32 weight.
    let (layer, weight) = (Linear::new(3, 3), tensor![[2.0, 0.0, 0.0], [0.0, 3.0, 0.0], [0.0, 0.0, -1.0]]);
    layer.weight.set(&weight).unwrap();
    let plain = OrthogonalOptions::default().use_trivialization(false);
    orthogonal(&layer.weight, plain.orthogonal_map(OrthogonalMap::Householder)).unwrap();
    let signs = tensor![[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, -1.0]];
    assert_eq!(layer.weight.detach(), signs);
    layer.weight.set(&Tensor::eye(3)).unwrap();
    assert_eq!(layer.weight.detach().cast::<f64>(), identity);
    // The other maps have no right inverse, and start from the values as they are.
    let layer = linear(3, 3);
    orthogonal(&layer.weight, plain).unwrap();
    assert!(message(layer.weight.set(&identity)).contains("_Orthogonal, which has no right inverse"));
    let error = message(orthogonal(layer.bias.as_ref().unwrap(), plain));
    assert_eq!(error, "orthogonal: expected a matrix or a stack of matrices, got [3]");
    assert!(panic_of(|| OrthogonalMap::from("qr")).starts_with("orthogonal_map: there is no \"qr\""));
    // Large angles: as many squarings as it takes.
    let huge = Param::<f64>::new(Tensor::eye(4).flip(0).unwrap() * 1e6);
    orthogonal(&huge, plain.orthogonal_map(OrthogonalMap::MatrixExp)).unwrap();
    let q = huge.tensor();
    assert!(q.mm(&q.t().unwrap()).unwrap().allclose(&Tensor::eye(4), 0.0, 1e-8, false).unwrap());
}

/// With respect to what the weight is computed from.
#[test]
fn parametrizations_are_twice_differentiable() {
    let check = |layer: &Linear<f64>| {
        let original = parameter(layer, layer.parameters().len() - 1);
        let f = |t: &[Tensor<f64>]| Scope::new().parameter(&original, t[0].clone()).run(|| Ok(layer.weight.tensor())).0;
        // Reflections read the signs on the diagonal.
        let inputs = [original.detach().tril(-1).unwrap() + Tensor::eye(3)];
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    };
    for map in ["matrix_exp", "cayley"] {
        let layer = linear(3, 3);
        orthogonal(&layer.weight, OrthogonalOptions::default().orthogonal_map(OrthogonalMap::from(map))).unwrap();
        check(&layer);
    }
    let mut layer = linear(3, 3);
    utils::spectral_norm(&layer.weight, Default::default()).unwrap();
    layer.eval();
    check(&layer);
    // Of reflections everything but the diagonal.
    let layer = linear(3, 4).bias(false);
    let householder = OrthogonalOptions::default().orthogonal_map(OrthogonalMap::Householder);
    orthogonal(&layer.weight, householder.use_trivialization(false)).unwrap();
    let original = parameter(&layer, 0);
    let signs = original.detach().tril(0).unwrap() - original.detach().tril(-1).unwrap();
    let f = |t: &[Tensor<f64>]| {
        let x = t[0].tril(-1)?.try_add(&signs)?;
        Scope::new().parameter(&original, x).run(|| Ok(layer.weight.tensor())).0
    };
    gradcheck(f, &[original.detach()], Default::default()).unwrap();
    gradgradcheck(f, &[original.detach()], Default::default()).unwrap();
}

#[test]
fn lora_learns_a_difference_and_is_merged() {
    for conv in [false, true] {
        let shape: &[usize] = if conv { &[3, 2, 2] } else { &[3, 4] };
        let weight = Param::<f64>::new(Tensor::randn(shape));
        let model = ParameterDict::from([("weight", weight.clone())]);
        let before = weight.detach();
        lora(&weight, 2, 6.0).unwrap();
        assert_eq!(weight.detach(), before);
        let [w, a, b] = ["original", "0.lora_A", "0.lora_B"].map(|name| format!("parametrizations.weight.{name}"));
        assert_eq!(names(&model), [w, a, b]);
        let [w, a, b] = [0, 1, 2].map(|i| parameter(&model, i));
        assert_eq!((a.shape(), b.shape()), (vec![2, 4], vec![3, 2]));
        assert_eq!([&w, &a, &b].map(Param::requires_grad), [false, true, true]);
        assert!(weight.requires_grad() && b.detach() == Tensor::zeros([3, 2]));
        b.set(&Tensor::randn([3, 2])).unwrap();
        let sum = before.try_add(&(b.detach().mm(&a.detach()).unwrap() * 3.0).reshape(shape).unwrap()).unwrap();
        close("lora", &weight.tensor(), &sum);
        weight.tensor().square().sum().backward().unwrap();
        assert!(!w.has_grad() && a.has_grad() && b.has_grad());
        weight.zero_grad();
        assert!(!a.has_grad());
        // Set to a value, it has this value, by its original.
        weight.set(&before).unwrap();
        close("set", &weight.tensor(), &before);
        weight.set(&sum).unwrap();
        let copy = weight.deep_clone();
        remove_parametrizations(&weight, true).unwrap();
        close("merged", &weight.tensor(), &sum);
        assert!(weight.requires_grad());
        remove_parametrizations(&copy, false).unwrap();
        close("removed", &copy.tensor(), &before);
    }
    let layer = Linear::new(2, 2);
    let expected = "lora: expected a rank of at least 1 and a finite alpha, got rank 0 and alpha 1";
    assert_eq!(message(lora(&layer.weight, 0, 1.0)), expected);
    assert!(message(lora(&layer.weight, 1, f64::NAN)).ends_with("got rank 1 and alpha NaN"));
    let expected = "lora: expected a weight of at least 2 axes, got [2]";
    assert_eq!(message(lora(layer.bias.as_ref().unwrap(), 1, 1.0)), expected);
}

#[test]
fn a_cached_parameter_is_computed_once() {
    #[derive(Module)]
    struct Counted {
        count: Buffer<i64>,
    }
    impl Parametrization for Counted {
        fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
            self.count.update(|mut n| n += 1);
            Ok(originals[0].clone() * 2.0)
        }
    }
    let layer = Linear::new(2, 2).bias(false);
    let count = Buffer::new(Tensor::scalar(0));
    register_parametrization(&layer.weight, Counted { count: count.clone() }).unwrap();
    let taken = |f: &dyn Fn()| {
        let before = count.tensor().item().unwrap();
        f();
        count.tensor().item().unwrap() - before
    };
    let x = Tensor::ones([1, 2]);
    let forward = || layer.forward(&x).unwrap();
    assert_eq!(taken(&|| drop((forward(), forward()))), 2);
    assert_eq!(taken(&|| cached(|| drop((forward(), cached(forward), forward())))), 1);
    assert_eq!(taken(&|| drop(forward())), 1, "nothing is kept");
    // Without gradients it is another tensor; where other tensors replace the original, too.
    let other = StateDict::from([("parametrizations.weight.original", Tensor::<f32>::ones([2, 2]))]);
    cached(|| {
        let plain = ndnn::no_grad(|| layer.weight.tensor());
        assert!(!plain.requires_grad() && layer.weight.tensor().requires_grad());
        let replaced = functional_call(&layer, &other, || Ok(layer.weight.tensor())).unwrap();
        assert_eq!((replaced, layer.weight.detach()), (Tensor::full([2, 2], 2.0), plain));
    });
    // One graph: the gradient is that of both uses.
    let y = cached(|| forward().try_add(&forward())).unwrap().sum();
    let original = layer.parameters().remove(0);
    y.backward().unwrap();
    assert_eq!(original.grad().unwrap().to::<f32>(), Tensor::full([2, 2], 4.0));
    assert!(panic_of(|| cached(|| panic!("inside"))).contains("inside"));
    assert_eq!(taken(&|| drop((forward(), forward()))), 2, "a panic ends it");
}

#[test]
fn the_power_method_converges_and_its_options_are_checked() {
    let layer = Linear::new(3, 2).bias(false);
    layer.weight.set(&tensor![[3.0, 0.0, 0.0], [0.0, 1.0, 0.0]]).unwrap();
    parametrizations::spectral_norm(&layer.weight, Default::default()).unwrap();
    let near = |t: &Tensor, to: &Tensor| assert!(t.allclose(to, 1e-4, 1e-4, false).unwrap(), "{t}");
    near(&layer.weight.tensor(), &tensor![[1.0, 0.0, 0.0], [0.0, 1.0 / 3.0, 0.0]]);
    layer.weight.set(&Tensor::zeros([2, 3])).unwrap();
    assert!(layer.weight.tensor().to_vec()[0].is_nan(), "0 / 0, as in PyTorch");
    let bias = Param::new(tensor![3.0, 4.0]);
    parametrizations::spectral_norm(&bias, Default::default()).unwrap();
    assert_eq!(bias.detach(), tensor![0.6, 0.8]);
    utils::spectral_norm(&Param::new(tensor![3.0, 4.0]), Default::default()).unwrap();
    let options = SpectralNormOptions::default();
    assert_eq!(panic_of(|| options.n_power_iterations(0)), "the number of power iterations is at least 1, got 0");
    let error = message(parametrizations::spectral_norm(&Param::new(tensor![1.0]), options.dim(1)));
    assert!(error.starts_with("spectral_norm: "), "{error}");
    let error = message(utils::spectral_norm(&Param::new(Tensor::scalar(1.0)), options));
    assert_eq!(error, "spectral_norm: expected a parameter of at least 1 axis, got a scalar");
    let error = message(parametrizations::spectral_norm(&LazyLinear::new(2).weight, options));
    assert!(error.starts_with("spectral_norm: the parameter has no values yet"), "{error}");
    // A weight norm computes from two tensors.
    let layer = Linear::new(3, 3);
    parametrizations::spectral_norm(&layer.weight, options).unwrap();
    let error = message(parametrizations::weight_norm(&layer.weight, 0));
    let expected = "it computes from two tensors, so it is the first parametrization of its parameter";
    assert_eq!(error, format!("weight_norm: {expected}"));
}
