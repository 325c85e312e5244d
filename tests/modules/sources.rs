//! The source of a parameter: a parametrization, nothing yet (lazy), or another tensor in a scope.

use ndnn::{
    AnyTensor,
    autograd::{grad, gradcheck, gradgradcheck},
    module::Scope,
    nn::{
        functional_call,
        utils::{
            parametrizations::weight_norm,
            parametrize::{Parametrization, is_parametrized, register_parametrization, remove_parametrizations},
        },
    },
    optim::SGD,
};

use super::{common::panic_of, *};

pub fn message(result: ndnn::Result<()>) -> String {
    result.unwrap_err().to_string()
}

fn names(module: &impl Module) -> Vec<String> {
    module.state_dict().keys().map(str::to_string).collect()
}

fn close(got: &Tensor<f64>, expected: &[f64]) {
    let got = got.to_vec();
    assert_eq!(got.len(), expected.len());
    for (g, e) in got.iter().zip(expected) {
        assert!((g - e).abs() <= 1e-12 * e.abs().max(1.), "{got:?} is not {expected:?}");
    }
}

/// Mirrors the upper triangle; it has no right inverse.
#[derive(Module)]
pub struct Symmetric;

impl Parametrization for Symmetric {
    fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
        originals[0].triu(0)?.try_add(&originals[0].triu(1)?.transpose(0, 1)?)
    }
}

/// Has a parameter, a buffer and a mode of its own.
#[derive(Module)]
#[module(repr)]
struct Scale {
    k: Param,
    b: Buffer,
    mode: Mode,
}

impl Scale {
    fn new(k: f32) -> Self {
        Scale { k: Param::new(tensor![k]), b: Buffer::new(Tensor::zeros([2])), mode: Mode::default() }
    }

    fn extra_repr(&self) -> String {
        "k=1".into()
    }
}

impl Parametrization for Scale {
    fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
        originals[0].try_mul(&self.k.tensor())
    }
    fn right_inverse(&self, values: &Tensor) -> Result<Option<Vec<Tensor>>> {
        Ok(Some(vec![values.try_div(&self.k.tensor())?]))
    }
}

// ---------------------------------------------------------------------------------------------------- parametrizations

/// PyTorch 2.15's numbers of `v * (g / v.norm(…))`: the gradients of `g` and `v`, and those of the sum of their squares. The
/// second derivative of PyTorch's own fused `_weight_norm` with respect to `v` differs, and fails its gradgradcheck.
#[test]
fn weight_norm_in_numbers() {
    #[rustfmt::skip]
    let rows: [(Option<usize>, &[usize], [&[f64]; 4]); 3] = [
        (Some(0), &[2, 1], [
            &[11.25, 91.28086467265706],
            &[14.625, 34.875, 27.5625, -60.26293103448277, -110.56896551724137, -14.443426724137893],
            &[2002.78125, 13358.066083141088],
            &[424.6875, 4953.7265625, 2551.53515625, -4450.640934135126, -5990.904653489978, 7102.103126367634],
        ]),
        (Some(1), &[1, 3], [
            &[-0.8385254915624211, -24.070490681218267, 101.04232173327175],
            &[21.375, -12.201923076923086, -28.96874999999999, -42.75, -97.61538461538461, -14.484375000000021],
            &[1812.307563737394, 5375.49749550996, 8099.3834847662365],
            &[-1950.1442307692307, 8246.000577847633, -3526.2856257512003, -5237.524038461538, -11453.197300295857, -1238.6500150240408],
        ]),
        (None, &[], [
            &[79.98601494514872],
            &[-3.597222222222225, 71.31944444444446, -8.88194444444445, -55.236111111111114, -108.05555555555556, -54.6579861111111],
            &[13829.407909459864],
            &[-2920.3331618655693, 9047.101219564473, -4070.1728341478047, -5321.883160793896, -8223.613889424727, 2978.477721246996],
        ]),
    ];
    for (dim, shape, expected) in rows {
        let layer = Linear::new(3, 2).bias(false).dtype::<f64>();
        let weight = tensor![[1.0, -2.0, 2.0], [0.5, 0.25, -4.0]; f64];
        layer.weight.set(&weight).unwrap();
        weight_norm(&layer.weight, dim).unwrap();
        close(&layer.weight.tensor(), &weight.to_vec());
        let originals: Vec<_> = layer.named_parameters();
        let names: Vec<_> = originals.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["parametrizations.weight.original0", "parametrizations.weight.original1"]);
        let param = |i: usize| match &originals[i].1 {
            ndnn::nn::AnyParam::F64(p) => p.clone(),
            _ => unreachable!(),
        };
        let (g, v) = (param(0), param(1));
        assert_eq!(g.shape(), shape);
        g.set(&(g.detach() * 1.5)).unwrap();
        close(&layer.weight.tensor(), &(weight * 1.5).to_vec());

        let (g, v) = (g.tensor(), v.tensor());
        let x = tensor![[1.0, 2.0, 3.0], [-1.0, 0.5, 0.25]; f64];
        let y = layer.forward(&x).unwrap().square().sum();
        let first: Vec<_> = grad(&[&y], &[&g, &v], true).unwrap().into_iter().map(Option::unwrap).collect();
        let squares = first[0].square().sum() + first[1].square().sum();
        let second: Vec<_> = grad(&[&squares], &[&g, &v], false).unwrap().into_iter().map(Option::unwrap).collect();
        first.iter().chain(&second).zip(expected).for_each(|(got, expected)| close(got, expected));
    }
    let error = message(weight_norm(&Linear::new(3, 2).weight, 2));
    assert_eq!(error, "weight_norm: the parameter has 2 axes, there is no axis 2");
}

#[test]
fn a_parametrized_layer_prints_and_names_as_in_pytorch() {
    let model: Sequential = sequential![Linear::new(3, 2), ReLU, Conv2d::new(1, 2, 3), Linear::new(3, 3)];
    let linear = |i: usize| model.get::<Linear>(i).unwrap();
    weight_norm(&linear(0).weight, 0).unwrap();
    register_parametrization(&linear(3).weight, Symmetric).unwrap();
    register_parametrization(&linear(3).weight, Scale::new(1.0)).unwrap();
    register_parametrization(linear(3).bias.as_ref().unwrap(), Scale::new(1.0)).unwrap();
    let expected = "Sequential(
  (0): ParametrizedLinear(
    in_features=3, out_features=2, bias=True
    (parametrizations): ModuleDict(
      (weight): ParametrizationList(
        (0): _WeightNorm()
      )
    )
  )
  (1): ReLU()
  (2): Conv2d(1, 2, kernel_size=(3, 3), stride=(1, 1))
  (3): ParametrizedLinear(
    in_features=3, out_features=3, bias=True
    (parametrizations): ModuleDict(
      (weight): ParametrizationList(
        (0): Symmetric()
        (1): Scale(k=1)
      )
      (bias): ParametrizationList(
        (0): Scale(k=1)
      )
    )
  )
)";
    assert_eq!(model.to_string(), expected);
    let expected = [
        "0.bias",
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "2.weight",
        "2.bias",
        "3.parametrizations.weight.original",
        "3.parametrizations.weight.1.k",
        "3.parametrizations.weight.1.b",
        "3.parametrizations.bias.original",
        "3.parametrizations.bias.0.k",
        "3.parametrizations.bias.0.b",
    ];
    assert_eq!(names(&model), expected);
    assert_eq!(model.num_parameters(), 2 + 2 + 6 + 18 + 2 + 9 + 1 + 3 + 1);
    let table = ndnn::nn::summary(linear(0), &Tensor::zeros([4, 3])).unwrap();
    assert_eq!((table.parameters, table.rows[0].parameters), (10, 10));
    // Modes inside a parametrization are set with the others, and a clone shares nothing.
    let mut copy = model.clone();
    assert_eq!(values(&copy), values(&model));
    assert!(copy.is_training());
    copy.eval();
    assert!(!copy.is_training() && model.is_training());
    let changed = |p: &ndnn::nn::AnyParam| p.set(&(p.detach().to::<f32>() + 1.0).into()).unwrap();
    let before = values(&model);
    copy.parameters().iter().for_each(changed);
    assert_eq!(values(&model), before);
    assert_ne!(values(&copy), before);
}

#[test]
fn a_parametrized_parameter_learns_through_its_originals() {
    let layer = Linear::new(3, 3).bias(false);
    let handle = layer.weight.clone();
    let mut outdated = SGD::new(&layer, 0.1);
    register_parametrization(&layer.weight, Symmetric).unwrap();
    let mut sgd = SGD::new(&layer, 0.1);
    let before = handle.detach();
    layer.forward(&Tensor::ones([1, 3])).unwrap().sum().backward().unwrap();
    assert!(!handle.has_grad() && layer.parameters()[0].has_grad());
    sgd.step().unwrap();
    let after = handle.detach();
    assert_ne!(before, after);
    assert_eq!(after, after.transpose(0, 1).unwrap());
    let error = message(outdated.step());
    assert!(error.starts_with("step: `weight` has no values of its own: a parametrization computes it now"), "{error}");
    handle.zero_grad();
    assert!(!layer.parameters()[0].has_grad());

    // Frozen parameters, and calls that make no sense.
    handle.set_requires_grad(false);
    assert!(!handle.requires_grad() && !layer.parameters()[0].requires_grad() && !handle.tensor().requires_grad());
    let error = message(handle.set(&Tensor::zeros([3, 3])));
    let expected = "set: the parameter is computed by Symmetric, which has no right inverse; set what it is computed from, \
                    which named_parameters() lists";
    assert_eq!(error, expected);
    let refused = "the parameter is computed by a parametrization; change what it is computed from";
    assert!(panic_of(|| handle.update(|_| ())).starts_with(&format!("update: {refused}")));
    assert!(panic_of(|| handle.update_slice(|_| ())).starts_with(&format!("update_slice: {refused}")));
    assert!(message(handle.set_grad(None)).starts_with(&format!("set_grad: {refused}")));
    let error = panic_of(|| layer.clone().dtype::<f64>());
    assert!(error.starts_with("dtype: a parameter that Symmetric computes is of one element type"), "{error}");
    let error = message(remove_parametrizations(&Linear::new(1, 1).weight, true));
    assert_eq!(error, "remove_parametrizations: the parameter has no parametrization");

    // Setting a value uses the right inverses.
    let scaled = Linear::new(2, 2).bias(false);
    let weight = scaled.weight.detach();
    register_parametrization(&scaled.weight, Scale::new(2.0)).unwrap();
    assert_eq!((scaled.weight.tensor(), scaled.parameters()[0].detach()), (weight.clone(), (weight * 0.5).into()));
    scaled.weight.set(&Tensor::full([2, 2], 3.0)).unwrap();
    assert_eq!(scaled.weight.tensor(), Tensor::full([2, 2], 3.0));
    assert_eq!(message(scaled.weight.set(&Tensor::zeros([3]))), "set: the parameter is [2, 2], the new values are [3]");
    assert!(is_parametrized(&scaled.weight));
    remove_parametrizations(&scaled.weight, true).unwrap();
    assert!(!is_parametrized(&scaled.weight) && names(&scaled) == ["weight"]);
    assert_eq!(scaled.weight.tensor(), Tensor::full([2, 2], 3.0));
    register_parametrization(&scaled.weight, Scale::new(2.0)).unwrap();
    remove_parametrizations(&scaled.weight, false).unwrap();
    assert_eq!(scaled.weight.tensor(), Tensor::full([2, 2], 1.5));
    weight_norm(&scaled.weight, 0).unwrap();
    assert!(message(remove_parametrizations(&scaled.weight, false)).contains("computed from 2 tensors"));
}

#[test]
fn a_parametrization_of_another_shape_is_refused() {
    #[derive(Module)]
    struct Bad;
    impl Parametrization for Bad {
        fn forward(&self, originals: &[Tensor]) -> Result<Tensor> {
            originals[0].narrow(0, 0, 1)
        }
    }
    let layer = Linear::new(2, 2);
    let error = message(register_parametrization(&layer.weight, Bad));
    assert_eq!(error, "register_parametrization: the parameter is [2, 2], Bad computes [1, 2]");
    assert!(!is_parametrized(&layer.weight));
}

#[test]
fn tied_parameters_are_parametrized_together() {
    let (first, mut second) = (Linear::new(2, 2), Linear::new(2, 2));
    second.weight = first.weight.clone();
    weight_norm(&second.weight, 0).unwrap();
    let model = sequential![first, second];
    let expected = [
        "0.bias",
        "0.parametrizations.weight.original0",
        "0.parametrizations.weight.original1",
        "1.bias",
        "1.parametrizations.weight.original0",
        "1.parametrizations.weight.original1",
    ];
    assert_eq!(names(&model), expected);
    assert_eq!((model.parameters().len(), model.clone().parameters().len()), (4, 4));
}

#[test]
fn older_files_load() {
    let model: Sequential = sequential![Linear::new(3, 2), BatchNorm1d::new(2)];
    weight_norm(&model.get::<Linear>(0).unwrap().weight, 0).unwrap();
    let saved = model.state_dict();
    let mut old = saved
        .clone()
        .rename(|name| {
            name.replace("parametrizations.weight.original0", "weight_g")
                .replace("parametrizations.weight.original1", "weight_v")
        })
        .unwrap();
    assert!(old.remove("1.num_batches_tracked").is_some() && old.get("0.weight_g").is_some());
    let copy = model.clone();
    copy.parameters().iter().for_each(|p| p.set(&(p.detach().to::<f32>() * 0.0).into()).unwrap());
    copy.load_state_dict(&old).unwrap();
    assert_eq!(values(&copy), values(&model));
    let report = copy.load_state_dict_partial(&old).unwrap();
    assert!(report.is_complete(), "{report}");
    // A model without the parametrization does not accept them; a norm without statistics in the file lacks its count.
    let error = message(Sequential::<f32>::load_state_dict(&sequential![Linear::new(3, 2), BatchNorm1d::new(2)], &old));
    assert!(error.contains("missing: 0.weight [2, 3]; unexpected: "), "{error}");
    let _ = old.remove("1.running_mean");
    assert!(message(copy.load_state_dict(&old)).contains("missing: 1.running_mean [2], 1.num_batches_tracked []"));
}

#[test]
fn renaming_a_state() {
    let state = StateDict::from([("module.a", tensor![1.0]), ("module.b", tensor![2.0]), ("c", tensor![3.0])]);
    let stripped = state.clone().strip_prefix("module.").unwrap();
    assert_eq!(stripped.keys().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(stripped.get("b"), Some(&AnyTensor::from(tensor![2.0])));
    assert_ne!(stripped.get("b"), Some(&AnyTensor::from(tensor![2.0; f64])));
    let error = stripped.clone().strip_prefix("module.").unwrap_err().to_string();
    assert_eq!(error, "strip_prefix: no name begins with `module.`; there are a, b, c");
    let replaced = state.clone().replace_prefix("module.", "m.").unwrap();
    assert_eq!(replaced.keys().collect::<Vec<_>>(), ["m.a", "m.b", "c"]);
    assert_eq!(
        message(stripped.clone().replace_prefix("m.", "").map(drop)),
        "replace_prefix: no name begins with `m.`; there are a, b, c"
    );
    assert_eq!(replaced.clone().select("m.*").unwrap().keys().collect::<Vec<_>>(), ["m.a", "m.b"]);
    assert_eq!(message(replaced.select("a*").map(drop)), "pattern: `a*` matches no entry; there are m.a, m.b, c");
    let error = stripped.rename(|_| "x".into()).unwrap_err().to_string();
    assert_eq!(error, "rename: two entries would be named `x`, one of them `b`");
}

// ------------------------------------------------------------------------------------------------------ functional_call

pub fn rand(seed: u64) -> ndnn::random::Generator {
    ndnn::random::SeedableRng::seed_from_u64(seed)
}

#[test]
fn functional_call_replaces_parameters_and_buffers() {
    let model = sequential![Linear::new(2, 3), BatchNorm1d::new(3), Linear::new(3, 1)];
    let x = tensor![[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]];
    let own = values(&model);
    let other = model.clone();
    other.parameters().iter().for_each(|p| p.set(&(p.detach().to::<f32>() * 0.5 + 0.25).into()).unwrap());
    let tensors: StateDict = other.state_dict();
    let got = functional_call(&model, &tensors, || model.forward(&x)).unwrap();
    assert_eq!(got, other.forward(&x).unwrap());
    assert_eq!(values(&model), own, "what is written to a buffer that was given is dropped");

    // Only some parameters, differentiably; the model's own buffers are updated.
    let w = tensor![[0.1, 0.2, 0.3]].set_requires_grad(true);
    let some = StateDict::from([("2.weight", w.clone())]);
    functional_call(&model, &some, || model.forward(&x)).unwrap().sum().backward().unwrap();
    let last = model.named_parameters().pop().unwrap();
    assert!(w.grad().is_some() && last.0 == "2.bias" && last.1.has_grad());
    assert!(model.named_parameters().iter().all(|(name, p)| p.has_grad() == (name != "2.weight")));
    assert_ne!(values(&model), own);

    // A panic and an error leave nothing behind; nested scopes, and other threads.
    let inside = || functional_call(&model, &some, || -> Result<()> { panic!("inside") });
    assert_eq!(panic_of(inside), "inside");
    let weight = |model: &Sequential| model.named_parameters()[4].1.detach();
    assert_ne!(weight(&model), w.detach().into());
    let bias = StateDict::from([("2.bias", tensor![7.0])]);
    let both = functional_call(&model, &some, || {
        functional_call(&model, &bias, || {
            let elsewhere = std::thread::scope(|s| s.spawn(|| weight(&model)).join().unwrap());
            Ok((weight(&model), model.named_parameters()[5].1.detach(), elsewhere))
        })
    });
    let (inner, bias, elsewhere) = both.unwrap();
    assert_eq!((inner, bias), (w.detach().into(), tensor![7.0].into()));
    assert_eq!(elsewhere, weight(&model));
}

#[test]
fn functional_call_is_strict() {
    let (first, mut second) = (Linear::new(2, 2), Linear::new(2, 2));
    second.weight = first.weight.clone();
    let model = sequential![first, second];
    let call = |tensors: StateDict| functional_call(&model, &tensors, || model.forward(&Tensor::ones([1, 2])));
    let (a, b) = (Tensor::<f32>::ones([2, 2]), Tensor::<f32>::zeros([2, 2]));
    let under = |name: &str| call(StateDict::from([(name, a.clone())])).unwrap();
    assert_eq!(under("0.weight"), under("1.weight"));
    assert!(call(StateDict::from([("0.weight", a.clone()), ("1.weight", a.clone())])).is_ok());
    let error = |tensors: StateDict| call(tensors).unwrap_err().to_string();
    assert_eq!(
        error(StateDict::from([("0.weight", a.clone()), ("1.weight", b)])),
        "functional_call: `1.weight` is tied to one that was given another tensor; give the same, or only one of them"
    );
    assert_eq!(
        error(StateDict::from([("weight", a.clone())])),
        "functional_call: the model has no weight; there are 0.weight, 0.bias, 1.weight, 1.bias"
    );
    assert_eq!(
        error(StateDict::from([("0.bias", a.clone())])),
        "functional_call: `0.bias` is f32 [2], the tensor for it is f32 [2, 2]"
    );
    assert_eq!(
        error(StateDict::from([("0.weight", a.cast::<f64>())])),
        "functional_call: `0.weight` is f32 [2, 2], the tensor for it is f64 [2, 2]"
    );
    // Under the names of the originals.
    let layer = Linear::new(2, 2).bias(false);
    weight_norm(&layer.weight, 0).unwrap();
    let doubled =
        StateDict::from([("parametrizations.weight.original0", layer.parameters()[0].detach().to::<f32>() * 2.0)]);
    let x = tensor![[1.0, -3.0]];
    let twice = functional_call(&layer, &doubled, || layer.forward(&x)).unwrap();
    assert!((twice - layer.forward(&x).unwrap() * 2.0).abs().sum().item().unwrap() < 1e-6);
    // Twice differentiable with respect to the tensors that are passed.
    let model = sequential![f64; Linear::new(2, 3), Tanh, Linear::new(3, 1)];
    let inputs: Vec<Tensor<f64>> = model.parameters().iter().map(|p| p.detach().to()).collect();
    let names = names(&model);
    let f = |t: &[Tensor<f64>]| {
        let tensors: StateDict = names.iter().cloned().zip(t.iter().cloned().map(AnyTensor::from)).collect();
        functional_call(&model, &tensors, || model.forward(&tensor![[0.5, -1.0], [1.5, 0.25]; f64]))
    };
    gradcheck(f, &inputs, Default::default()).unwrap();
    gradgradcheck(f, &inputs, Default::default()).unwrap();
}

/// What DataParallel, checkpoint and SyncBatchNorm are built on.
#[test]
fn a_scope_keeps_what_is_written_and_replays() {
    let norm = BatchNorm1d::new(2);
    let mean = norm.running_mean.as_ref().unwrap();
    let x = tensor![[1.0, 2.0], [3.0, 6.0]];
    let inner = || Scope::new().buffer(mean, tensor![10.0, 20.0]).run(|| norm.forward(&x).unwrap());
    let (given, outer) = Scope::new().capture_buffers().run(inner);
    let inside: Vec<AnyTensor> = given.1.into_iter().map(|(_, value)| value).collect();
    assert_eq!(inside, [AnyTensor::from(tensor![9.2, 18.4])], "the inner scope keeps what it was given");
    assert_eq!(outer.len(), 2, "the outer one the rest");
    assert_eq!(
        (mean.tensor(), norm.num_batches_tracked.as_ref().unwrap().tensor()),
        (Tensor::zeros([2]), Tensor::scalar(0))
    );
    // Committed afterwards.
    let (_, written) = Scope::new().capture_buffers().run(|| (norm.forward(&x).unwrap(), norm.forward(&x).unwrap()));
    written.iter().for_each(|(buffer, value)| buffer.set(value).unwrap());
    assert_eq!(norm.num_batches_tracked.as_ref().unwrap().tensor(), Tensor::scalar(2));

    // Separate leaves for a part of a batch, and the same random draws again.
    let model: Sequential = sequential![Linear::new(2, 2), Dropout::new(0.5)];
    let layer = model.get::<Linear>(0).unwrap();
    let leaf = layer.weight.detach().set_requires_grad(true);
    let state = ndnn::random::state();
    let run = || Scope::new().parameter(&layer.weight, leaf.clone()).run(|| model.forward(&x)).0.unwrap();
    let first = ndnn::random::from_state(state, run);
    let again = ndnn::random::from_state(state, run);
    assert_eq!(first, again);
    again.sum().backward().unwrap();
    assert!(leaf.grad().is_some() && !layer.weight.has_grad());
}

#[test]
fn a_soft_update() {
    let (slow, fast) = (Linear::new(2, 2), Linear::new(2, 2).dtype::<f64>());
    slow.weight.set(&Tensor::zeros([2, 2])).unwrap();
    fast.weight.set(&Tensor::full([2, 2], 2.0)).unwrap();
    let (a, b) = (&slow.parameters()[0], &fast.parameters()[0]);
    a.lerp(b, 0.25).unwrap();
    assert_eq!(slow.weight.detach(), Tensor::full([2, 2], 0.5));
    a.lerp(b, 1.0).unwrap();
    assert_eq!(slow.weight.detach(), Tensor::full([2, 2], 2.0));
    assert_eq!(message(a.lerp(&fast.parameters()[1], 0.5)), "lerp: the parameter is [2, 2], the other is [2]");
}

/// A struct whose type parameter is in no value of its own.
#[derive(Module)]
struct Marked<T: Real = f32> {
    linear: Linear<T>,
    marker: std::marker::PhantomData<T>,
}

#[test]
fn a_marker_is_converted() {
    let model = Marked { linear: Linear::new(2, 1), marker: std::marker::PhantomData::<f32> }.dtype::<f64>();
    let _: std::marker::PhantomData<f64> = model.marker;
    assert_eq!(model.linear.weight.tensor().dtype(), ndnn::DType::F64);
}

/// `update`, `set` and an optimizer's step reach the parameter itself, behind the tensor that a scope puts in its place.
#[test]
fn a_change_inside_a_scope() {
    let w = Param::new(tensor![1.0]);
    let inside = || {
        w.update(|mut values| values.fill(5.0));
        w.tensor()
    };
    let (seen, _) = Scope::new().parameter(&w, tensor![2.0]).run(inside);
    assert_eq!((seen, w.detach()), (tensor![2.0], tensor![5.0]));
}

/// The names of torch's `named_modules`, without the dictionary and the model itself.
#[test]
fn apply_visits_parametrizations() {
    let model = sequential![Linear::new(3, 3), Tanh];
    let layer = model.get::<Linear>(0).unwrap();
    register_parametrization(&layer.weight, Symmetric).unwrap();
    let mut seen = Vec::new();
    model.apply(|path, module| seen.push(format!("{path} {}", module.type_name())));
    let list = ["0.parametrizations.weight.0 Symmetric", "0.parametrizations.weight ParametrizationList"];
    assert_eq!(seen, [list[0], list[1], "0 Linear", "1 Tanh", " Sequential"]);
    assert_eq!(model.named_modules().len(), 2);
}
