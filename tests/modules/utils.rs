//! torch.nn.utils: against PyTorch step by step (`golden/utils.safetensors`, written by `golden/utils.py`), and what goes wrong.

use std::collections::BTreeSet;

use ndnn::{
    nn::{
        AnyParam,
        utils::{
            BatchNormTensors, TotalNormOptions, clip_grad_norm_with, clip_grads_with_norm, fuse_conv_bn_eval,
            fuse_conv_bn_weights, fuse_linear_bn_eval, fuse_linear_bn_weights, get_total_norm, parameters_to_vector,
            parametrize::{is_parametrized, remove_parametrizations},
            skip_init, vector_to_parameters,
        },
    },
    optim::SGD,
};

use super::{common::panic_of, sources::rand, *};

pub fn message<R>(result: Result<R>) -> String {
    result.err().expect("an error").to_string()
}

pub fn names(module: &impl Module) -> Vec<String> {
    module.state_dict().keys().map(str::to_string).collect()
}

/// The parameter `i` of the model, of those that [`ModuleExt::parameters`] lists.
pub fn parameter(module: &impl Module, i: usize) -> Param<f64> {
    match module.parameters().swap_remove(i) {
        AnyParam::F64(param) => param,
        AnyParam::F32(_) => unreachable!("an f64 model"),
    }
}

pub struct Golden(StateDict);

impl Golden {
    pub fn new() -> Self {
        Golden(safetensors::from_bytes(include_bytes!("../golden/utils.safetensors")).unwrap())
    }

    pub fn get(&self, name: &str) -> Tensor<f64> {
        self.0.get(name).unwrap_or_else(|| panic!("no {name}")).to()
    }

    /// The entries directly below `prefix`, without it.
    pub fn part(&self, prefix: &str) -> StateDict {
        let inside = |(name, t): (&str, &ndnn::AnyTensor)| {
            let name = name.strip_prefix(prefix)?.strip_prefix('/')?;
            (!name.contains('/') && name != "y").then(|| (name.to_string(), t.clone()))
        };
        self.0.iter().filter_map(inside).collect()
    }
}

#[track_caller]
pub fn close(what: &str, got: &Tensor<f64>, expected: &Tensor<f64>) {
    assert_eq!(got.shape(), expected.shape(), "{what}");
    let near = got.allclose(expected, 1e-9, 1e-11, true).unwrap();
    assert!(near, "{what}: {got} is not {expected}");
}

#[track_caller]
pub fn same_state(what: &str, got: &StateDict, expected: &StateDict) {
    let keys = |state: &StateDict| state.keys().map(str::to_string).collect::<BTreeSet<_>>();
    assert_eq!(keys(got), keys(expected), "{what}");
    got.iter().for_each(|(name, t)| close(&format!("{what} {name}"), &t.to(), &expected.get(name).unwrap().to()));
}

/// Three steps of training from PyTorch's state.
pub fn train<M: Module + Forward<f64>>(golden: &Golden, name: &str, mut layer: M) -> M {
    let x = golden.get(&format!("{name}/x"));
    layer.load_state_dict(&golden.part(&format!("{name}/0"))).unwrap();
    let mut sgd = SGD::new(&layer, 0.1).momentum(0.9);
    for step in 1..=3 {
        let at = format!("{name}/{step}");
        sgd.zero_grad();
        let y = layer.forward(&x).unwrap();
        close(&at, &y, &golden.get(&format!("{at}/y")));
        let n = y.numel() as f64;
        let weights = Tensor::arange(0.0, n, 1.0).unwrap().reshape(-1).unwrap() / n + 1.0;
        (y.sin().reshape(-1).unwrap() * weights).sum().backward().unwrap();
        let with_grad = |(name, p): (String, AnyParam)| p.grad().map(|grad| (name, grad));
        let grads = layer.named_parameters().into_iter().filter_map(with_grad).collect();
        same_state(&format!("{at}/grad"), &grads, &golden.part(&format!("{at}/grad")));
        sgd.step().unwrap();
        same_state(&at, &layer.state_dict(), &golden.part(&at));
    }
    layer.eval();
    close(name, &layer.forward(&x).unwrap(), &golden.get(&format!("{name}/eval")));
    layer
}

pub fn linear(inputs: usize, outputs: usize) -> Linear<f64> {
    Linear::new(inputs, outputs).dtype()
}

pub fn removed(golden: &Golden, name: &str, weight: &Param<f64>, remove: impl Fn(&Param<f64>) -> Result<()>) {
    let before = weight.detach();
    remove(weight).unwrap();
    assert_eq!(weight.detach(), before, "{name}");
    close(name, &weight.tensor(), &golden.get(&format!("{name}/removed")));
    assert!(weight.requires_grad() && !is_parametrized(weight) && remove(weight).is_err(), "{name}");
}

pub fn unparametrize(weight: &Param<f64>) -> Result<()> {
    remove_parametrizations(weight, true)
}

#[test]
fn a_batch_norm_is_fused_as_in_pytorch() {
    let golden = Golden::new();
    let check = |name: &str, fused: &dyn Forward<f64>, state: StateDict| {
        same_state(name, &state, &golden.part(&format!("fuse.{name}/fused")));
        let y = fused.forward(&golden.get(&format!("fuse.{name}/x"))).unwrap();
        close(name, &y, &golden.get(&format!("fuse.{name}/y")));
    };
    let load = |name: &str, layer: &dyn Fn(&StateDict), bn: &dyn Fn(&StateDict)| {
        layer(&golden.part(&format!("fuse.{name}/layer")));
        bn(&golden.part(&format!("fuse.{name}/bn")));
    };
    let (conv, mut bn) = (Conv2d::new(2, 3, 2).dtype::<f64>(), BatchNorm2d::new(3).dtype::<f64>());
    load("conv", &|s| conv.load_state_dict(s).unwrap(), &|s| bn.load_state_dict(s).unwrap());
    let error = message(fuse_conv_bn_eval(&conv, &bn));
    assert_eq!(error, "fuse_conv_bn_eval: the batch norm is in training mode; call eval() first");
    bn.eval();
    let fused = fuse_conv_bn_eval(&conv, &bn).unwrap();
    check("conv", &fused, fused.state_dict());
    assert!(fused.weight.requires_grad() && fused.bias.as_ref().unwrap().requires_grad());

    let plain = Conv1d::new(2, 3, 2).bias(false).dtype::<f64>();
    let mut bn = BatchNorm1d::new(3).eps(1e-3).affine(false).dtype::<f64>();
    load("plain", &|s| plain.load_state_dict(s).unwrap(), &|s| bn.load_state_dict(s).unwrap());
    bn.eval();
    let fused = fuse_conv_bn_eval(&plain, &bn).unwrap();
    check("plain", &fused, fused.state_dict());
    assert!(!fused.bias.as_ref().unwrap().requires_grad(), "as in PyTorch");

    let (layer, mut bn) = (linear(2, 3), BatchNorm1d::new(3).dtype::<f64>());
    load("linear", &|s| layer.load_state_dict(s).unwrap(), &|s| bn.load_state_dict(s).unwrap());
    bn.eval();
    let fused = fuse_linear_bn_eval(&layer, &bn).unwrap();
    check("linear", &fused, fused.state_dict());

    let (mean, var) = (tensor![0.0, 1.0, 2.0; f64], golden.get("fuse.transpose/var"));
    let norm = BatchNormTensors { running_mean: &mean, running_var: &var, eps: 1e-5, weight: None, bias: None };
    let weight = golden.get("fuse.transpose/weight");
    let (fused, bias) = fuse_conv_bn_weights(&weight, None, norm, true).unwrap();
    close("transpose", &fused.tensor(), &golden.get("fuse.transpose/fused"));
    close("transpose", &bias.tensor(), &golden.get("fuse.transpose/bias"));
    let error = message(fuse_conv_bn_weights(&weight, None, norm, false));
    assert_eq!(error, "fuse_conv_bn_weights: 2 outputs, but running_mean is [3]");
    let error = message(fuse_linear_bn_weights(&Tensor::ones([3, 1]), Some(&Tensor::ones([1])), norm));
    assert_eq!(error, "fuse_linear_bn_weights: 3 outputs, but the layer's bias is [1]");
    // Transposed, in groups.
    let conv = ConvTranspose2d::new(4, 6, 2).groups(2).dtype::<f64>();
    let mut bn = BatchNorm2d::new(6).dtype::<f64>();
    let x = Tensor::randn([3, 4, 3, 3]);
    let _ = bn.forward(&conv.forward(&x).unwrap()).unwrap();
    bn.eval();
    let fused = fuse_conv_bn_eval(&conv, &bn).unwrap();
    close("groups", &fused.forward(&x).unwrap(), &bn.forward(&conv.forward(&x).unwrap()).unwrap());
    // One feature for all outputs.
    let (layer, mut one) = (Linear::new(2, 3).bias(false), BatchNorm1d::new(1));
    one.running_var.as_ref().unwrap().set(&tensor![4.0]).unwrap();
    one.eval();
    let fused = fuse_linear_bn_eval(&layer, &one).unwrap();
    assert_eq!(fused.bias.as_ref().unwrap().shape(), [3]);
    let half = layer.weight.detach() * (4.0 + 1e-5_f32).sqrt().recip();
    assert!(fused.weight.detach().allclose(&half, 1e-5, 0.0, false).unwrap());
    let mut two = BatchNorm1d::new(2);
    two.eval();
    let error = message(fuse_linear_bn_eval(&layer, &two));
    assert_eq!(error, "fuse_linear_bn_eval: the linear layer has 3 outputs, the batch norm 2 features");
    let mut none = BatchNorm1d::new(3).track_running_stats(false);
    none.eval();
    let error = message(fuse_linear_bn_eval(&layer, &none));
    assert_eq!(error, "fuse_linear_bn_eval: the batch norm has no running statistics");
    let error = message(fuse_conv_bn_eval(&Conv1d::new(2, 4, 1), &two));
    assert_eq!(error, "fuse_conv_bn_eval: the convolution has 4 output channels, the batch norm 2");
}

#[test]
fn parameters_as_a_vector_and_back() {
    let model = sequential![Linear::new(2, 1), Linear::new(1, 2).bias(false)];
    let vector: Tensor = parameters_to_vector(&model).unwrap();
    assert_eq!(vector.shape(), [5]);
    vector.square().sum().backward().unwrap();
    let grads: Tensor = Tensor::cat(
        &model.parameters().iter().map(|p| p.grad().unwrap().to().flatten(0, -1).unwrap()).collect::<Vec<_>>(),
        0,
    )
    .unwrap();
    assert_eq!(grads, vector.detach() * 2.0);
    vector_to_parameters(&tensor![1.0, 2.0, 3.0, 4.0, 5.0], &model).unwrap();
    assert_eq!(values(&model), [vec![1.0, 2.0], vec![3.0], vec![4.0, 5.0]]);
    for wrong in [Tensor::<f32>::ones([4]), Tensor::ones([6]), Tensor::ones([5, 1]), Tensor::scalar(1.0)] {
        let error = message(vector_to_parameters(&wrong, &model));
        let expected = format!("the parameters have 5 elements, the vector is {:?}", wrong.shape());
        assert_eq!(error, format!("vector_to_parameters: {expected}"));
    }
    assert_eq!(values(&model)[1], [3.0], "nothing has changed");
    let mixed = vec![AnyParam::from(&Param::new(tensor![1.5])), AnyParam::from(&Param::new(tensor![[2.0]; f64]))];
    assert_eq!(parameters_to_vector::<f64>(mixed.clone()).unwrap().detach(), tensor![1.5, 2.0; f64]);
    let error = message(parameters_to_vector::<f32>(mixed));
    assert!(error.starts_with("parameters_to_vector: `1` is") && error.ends_with("ask for a Tensor<f64>"), "{error}");
    assert_eq!(message(parameters_to_vector::<f32>(&ReLU)), "parameters_to_vector: there are no parameters");
    vector_to_parameters(&Tensor::<f32>::zeros([0]), &ReLU).unwrap();
    let lazy = LazyLinear::new(2);
    let why = "`weight` has no values yet; run a batch through the model first";
    assert_eq!(message(parameters_to_vector::<f32>(&lazy)), format!("parameters_to_vector: {why}"));
    assert_eq!(message(vector_to_parameters(&vector, &lazy)), format!("vector_to_parameters: {why}"));
}

/// The numbers are PyTorch's.
#[test]
fn norms_of_every_order() {
    let inf = f64::INFINITY;
    let tensors = (tensor![3.0, 0.0, -4.0], tensor![0.0, 0.0], tensor![[2.0]; f64]);
    let any = TotalNormOptions::default().error_if_nonfinite(false);
    let norm = |p: f64| get_total_norm(&tensors, any.norm_type(p)).unwrap();
    for (p, expected) in [
        (2.0, 5.385165),
        (1.0, 9.0),
        (0.0, 2.0),
        (-1.0, 0.0),
        (-2.0, 0.0),
        (inf, 4.0),
        (-inf, 0.0),
        (0.5, 26.484043),
        (3.0, 4.6260650),
    ] {
        assert!((norm(p) - expected).abs() < 1e-5, "{p}: {}", norm(p));
    }
    // Rows: the order; the norm with an infinite element; with a NaN.
    for (p, infinite, nan) in [
        (2.0, inf, f64::NAN),
        (0.0, 2.0, 2.0),
        (1.0, inf, f64::NAN),
        (inf, inf, f64::NAN),
        (-inf, 1.0, f64::NAN),
        (-1.0, 6.0 / 11.0, f64::NAN),
    ] {
        for (element, expected) in [(inf, infinite), (f64::NAN, nan)] {
            let tensors = [tensor![1.0, element; f64], tensor![2.0, 3.0; f64]];
            let got = get_total_norm(&tensors, any.norm_type(p)).unwrap();
            assert!(
                got == expected || (got.is_nan() && expected.is_nan()) || (got - expected).abs() < 1e-12,
                "{p}: {got}"
            );
            let error = message(get_total_norm(&tensors, any.error_if_nonfinite(true)));
            assert_eq!(error, "get_total_norm: there are elements that are not finite in tensor 0");
        }
    }
    assert_eq!(get_total_norm(&Vec::<Tensor>::new(), any).unwrap(), 0.0);
    assert_eq!(get_total_norm(&Tensor::<f32>::zeros([0]), any.norm_type(-1.0)).unwrap(), 0.0);
    assert_eq!(get_total_norm(&tensor![1e-30, 1e-30], any).unwrap(), 2f64.sqrt() * f64::from(1e-30_f32));
    assert!(message(get_total_norm(&tensor![1], any)).contains("expected tensors of floats, got one of"));
    assert_eq!(panic_of(|| any.norm_type(f64::NAN)), "the order of a norm is a number, got nan");
}

#[test]
fn clipping_what_is_not_finite() {
    let clipped = |grads: &[f64], clip: &dyn Fn(Vec<Param<f64>>) -> Result<()>| {
        let param = Param::new(Tensor::from_vec([grads.len()], grads.to_vec()).unwrap());
        param.set_grad(Some(param.detach())).unwrap();
        clip(vec![param.clone()]).unwrap();
        param.grad().unwrap().to_vec()
    };
    let all = TotalNormOptions::default().error_if_nonfinite(false);
    let by_norm = |p: f64| move |params| clip_grad_norm_with(params, 1.0, all.norm_type(p)).map(drop);
    let infinite = clipped(&[2.0, f64::INFINITY], &by_norm(2.0));
    assert!(infinite[0] == 0.0 && infinite[1].is_nan(), "{infinite:?}");
    assert!(clipped(&[2.0, f64::NAN], &by_norm(2.0)).iter().all(|g| g.is_nan()));
    assert_eq!(clipped(&[2.0, f64::INFINITY], &by_norm(f64::NEG_INFINITY)), [1.0 / (1.0 + 5e-7), f64::INFINITY]);
    // Nothing to clip, however large the norm is.
    for max_norm in [1e200, f64::INFINITY] {
        let clip = |params| clip_grad_norm_with(params, max_norm, all).map(drop);
        assert_eq!(clipped(&[1e160, 0.0, -3.0], &clip), [1e160, 0.0, -3.0]);
    }
    let unbounded = |params| clip_grad_norm_with(params, f64::INFINITY, all).map(drop);
    assert_eq!(clipped(&[1e308; 16], &unbounded), [1e308; 16]);
    let by_known = |norm: f64| move |params| clip_grads_with_norm(params, 1.0, norm);
    assert_eq!(clipped(&[2.0, 4.0], &by_known(0.5)), [2.0, 4.0]);
    assert_eq!(clipped(&[2.0, 4.0], &by_known(2.0)), [2.0 / (2.0 + 1e-6), 4.0 / (2.0 + 1e-6)]);
    assert!(clipped(&[2.0], &by_known(f64::NAN))[0].is_nan());
    let error = message(clip_grads_with_norm(Vec::<Param>::new(), -1.0, 1.0));
    assert_eq!(error, "clip_grads_with_norm: max_norm is at least 0, got -1");
}

#[test]
fn a_model_without_initialisation_draws_nothing() {
    ndnn::random::with(&mut rand(1), || {
        let before = ndnn::random::state();
        let model = skip_init(|| sequential![Linear::new(3, 2), LSTM::new(2, 2)]);
        assert_eq!(ndnn::random::state(), before);
        assert!(values(&model).iter().flatten().all(|&x| x == 0.0));
        assert!(panic_of(|| skip_init(|| panic!("inside"))).contains("inside"));
        assert!(values(&Linear::new(3, 2))[0].iter().all(|&x| x != 0.0), "initialised again");
    });
}
