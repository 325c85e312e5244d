//! Layers that take their sizes from the first input.

use ndnn::{
    nn::utils::{clip_grad_norm, parameters_to_vector, parametrize::register_parametrization, vector_to_parameters},
    optim::Adam,
};

use super::{
    common::panic_of,
    sources::{Symmetric, message, rand},
    *,
};

#[test]
fn a_lazy_linear_takes_its_size_from_the_first_input() {
    ndnn::random::with(&mut rand(7), || {
        let plain = sequential![Linear::new(5, 3), Linear::new(3, 2).bias(false)];
        ndnn::random::set_state(ndnn::random::RngState { draws: 0, ..ndnn::random::state() });
        let lazy = sequential![LazyLinear::new(3), LazyLinear::new(2).bias(false)];
        let expected = "Sequential(
  (0): LazyLinear(in_features=0, out_features=3, bias=True)
  (1): LazyLinear(in_features=0, out_features=2, bias=False)
)";
        assert_eq!(lazy.to_string(), expected);
        let _ = lazy.forward(&Tensor::ones([4, 5])).unwrap();
        assert_eq!((lazy.to_string(), values(&lazy)), (plain.to_string(), values(&plain)));
        assert_eq!(lazy.forward(&Tensor::ones([4, 6])).unwrap_err().kind(), ErrorKind::Shape);
    });
    let layer = LazyLinear::new(3).bias(false).bias(true);
    let copy = layer.clone();
    let error = layer.forward(&Tensor::scalar(1.0)).unwrap_err().to_string();
    assert!(error.starts_with("linear: expected an input of at least 1 axis, got a scalar; in LazyLinear("), "{error}");
    layer.weight.set_requires_grad(false);
    assert_eq!(layer.forward(&Tensor::ones([0])).unwrap().shape(), [3]);
    assert!(!layer.weight.requires_grad() && layer.bias.as_ref().unwrap().requires_grad());
    assert_eq!(layer.weight.shape(), [3, 0]);
    assert!(copy.weight.is_lazy(), "a clone is drawn by itself");
    let double = copy.dtype::<f64>();
    assert_eq!(double.forward(&Tensor::ones([2, 7])).unwrap().shape(), [2, 3]);
    assert_eq!(double.to_string(), "Linear(in_features=7, out_features=3, bias=True)");
}

#[test]
fn a_lazy_parameter_says_what_to_do() {
    let model: Sequential = sequential![LazyLinear::new(3)];
    let layer = model.get::<Linear>(0).unwrap();
    let first = "run a batch through the model first";
    let why = format!("`0.weight` has no values yet, since its shape comes from the first input; {first}");
    assert_eq!(panic_of(|| model.num_parameters()), format!("num_parameters: {why}"));
    assert_eq!(panic_of(|| model.state_dict()), format!("state_dict: {why}"));
    assert_eq!(message(model.to_bytes().map(drop)), format!("to_bytes: {why}"));
    let expected = "an optimizer needs parameters that have values; `0.weight` gets its shape from the first input";
    assert!(panic_of(|| Adam::new(&model, 0.1)).starts_with(expected));
    let why = "the parameter has no values yet";
    for (op, f) in [
        ("tensor", (|p| drop(p.tensor())) as fn(&Param)),
        ("detach", |p| drop(p.detach())),
        ("shape", |p| drop(p.shape())),
        ("numel", |p| _ = p.numel()),
        ("update", |p| p.update(|_| ())),
        ("update_slice", |p| p.update_slice(|_| ())),
        ("constant", |p| ndnn::nn::init::zeros(p)),
    ] {
        assert!(panic_of(|| f(&layer.weight)).starts_with(&format!("{op}: {why}")), "{op}");
    }
    assert!(message(layer.weight.set_grad(None)).starts_with(&format!("set_grad: {why}")));
    let fills: [(&str, fn(&Param) -> Result<()>); 11] = {
        use ndnn::nn::init::{self, Fan::In, Nonlinearity::ReLU};
        [
            ("uniform", |p| init::uniform(p, 0.0, 1.0)),
            ("normal", |p| init::normal(p, 0.0, 1.0)),
            ("trunc_normal", |p| init::trunc_normal(p, 0.0, 1.0, -2.0, 2.0)),
            ("eye", |p| init::eye(p)),
            ("dirac", |p| init::dirac(p, 1)),
            ("orthogonal", |p| init::orthogonal(p, 1.0)),
            ("sparse", |p| init::sparse(p, 0.5, 1.0)),
            ("xavier_uniform", |p| init::xavier_uniform(p, 1.0)),
            ("xavier_normal", |p| init::xavier_normal(p, 1.0)),
            ("kaiming_uniform", |p| init::kaiming_uniform(p, In, ReLU)),
            ("kaiming_normal", |p| init::kaiming_normal(p, In, ReLU)),
        ]
    };
    for (op, fill) in fills {
        assert!(message(fill(&layer.weight)).starts_with(&format!("{op}: {why}")), "{op}");
    }
    let [lazy, filled] = [layer.clone(), Linear::new(4, 3)].map(|l| l.parameters().remove(0));
    for (a, b) in [(&lazy, &filled), (&filled, &lazy)] {
        assert!(message(a.lerp(b, 0.5)).starts_with(&format!("lerp: {why}")));
    }
    assert!(layer.weight.grad().is_none() && layer.weight.requires_grad());
    layer.weight.zero_grad();
    let error = message(register_parametrization(&layer.weight, Symmetric));
    assert_eq!(error, format!("register_parametrization: {why}; {first}"));
    assert_eq!(format!("{:?}", layer.weight), "<UninitializedParameter>");

    // A state_dict determines its shape, and is checked first.
    let state = |sizes: [usize; 3]| {
        let [a, b, c] = sizes;
        StateDict::from([("0.weight", Tensor::<f32>::ones([a, b])), ("0.bias", Tensor::ones([c]))])
    };
    let error = message(model.load_state_dict(&state([4, 5, 3])));
    assert!(error.contains("of another shape: 0.weight (model [3, 0], file [4, 5])"), "{error}");
    assert_eq!(
        message(layer.weight.set(&Tensor::ones([4, 5]))),
        "set: the parameter is [3, ?], the new values are [4, 5]"
    );
    assert!(layer.weight.is_lazy());
    model.load_state_dict(&state([3, 5, 3])).unwrap();
    assert_eq!(model.forward(&Tensor::ones([1, 5])).unwrap(), Tensor::full([1, 3], 6.0));
    assert_eq!(model.num_parameters(), 18);
}

#[test]
fn lazy_norms_take_their_size_from_the_first_input() {
    let x = Tensor::<f32>::randn([4, 6, 5]);
    let rest = "eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True";
    let printed = |layer: &dyn Forward| ndnn::module::repr(layer);
    let tracking = InstanceNorm1d::new(6).affine(true).track_running_stats(true);
    let pairs: [(Box<dyn Forward>, Box<dyn Forward>, &str); 2] = [
        (Box::new(LazyBatchNorm1d::new()), Box::new(BatchNorm1d::new(6)), "BatchNorm1d"),
        (Box::new(LazyInstanceNorm1d::new()), Box::new(tracking), "InstanceNorm1d"),
    ];
    for (layer, plain, name) in pairs {
        assert_eq!(printed(&*layer), format!("Lazy{name}(0, {rest})"));
        let first = "run a batch through the model first";
        let why = format!("`weight` has no values yet, since its shape comes from the first input; {first}");
        assert_eq!(panic_of(|| layer.state_dict()), format!("state_dict: {why}"));
        let mut loaded = layer.clone();
        assert_eq!(layer.forward(&x).unwrap(), plain.forward(&x).unwrap());
        assert_eq!(printed(&*layer), format!("{name}(6, {rest})"));
        assert_eq!(values(&layer), values(&plain));
        assert_eq!(layer.forward(&Tensor::ones([4, 7, 5])).unwrap_err().kind(), ErrorKind::Shape);
        // A state_dict gives the sizes too.
        loaded.load_state_dict(&layer.state_dict()).unwrap();
        assert_eq!(printed(&*loaded), format!("{name}(6, {rest})"));
        loaded.eval();
        assert_eq!(loaded.forward(&x).unwrap().shape(), [4, 6, 5]);
        assert_eq!(loaded.forward(&Tensor::ones([4, 7, 5])).unwrap_err().kind(), ErrorKind::Shape);
    }
}

/// As PyTorch: a lazy layer without any tensor is printed with 0 channels once it has run, and accepts any number of them.
#[test]
fn lazy_norms_with_other_options() {
    let rest = "eps=0.1, momentum=None, affine=False, bias=False, track_running_stats=False";
    let bare = LazyInstanceNorm2d::new().affine(false).track_running_stats(false).eps(0.1).momentum(None);
    assert_eq!(bare.to_string(), format!("LazyInstanceNorm2d(0, {rest})"));
    let _ = bare.forward(&Tensor::ones([2, 3, 2, 2])).unwrap();
    assert_eq!(bare.to_string(), format!("InstanceNorm2d(0, {rest})"));
    assert!(bare.forward(&Tensor::ones([2, 4, 2, 2])).is_ok());
    let tracking = LazyBatchNorm2d::new().affine(false);
    assert!(tracking.running_mean.as_ref().unwrap().is_lazy() && tracking.parameters().is_empty());
    let error = panic_of(|| tracking.state_dict());
    assert!(error.starts_with("state_dict: `running_mean` has no values yet"), "{error}");
    let why = "tensor: the buffer has no values yet, since its shape comes from the first input";
    assert!(panic_of(|| tracking.running_mean.as_ref().unwrap().tensor()).starts_with(why));
    assert!(
        panic_of(|| tracking.running_var.as_ref().unwrap().update(|_| ())).starts_with("update: the buffer has no")
    );
    assert_eq!(format!("{:?}", tracking.running_mean.as_ref().unwrap()), "<UninitializedBuffer>");
    // A refused input initialises nothing.
    assert_eq!(tracking.forward(&Tensor::ones([2, 3])).unwrap_err().kind(), ErrorKind::Shape);
    assert!(tracking.to_string().starts_with("LazyBatchNorm2d(0, "), "{tracking}");
    assert!(tracking.forward(&Tensor::zeros([0, 1 << 62, 1, 1])).is_err());
    assert!(tracking.running_mean.as_ref().unwrap().is_lazy());
    let (copy, double) = (tracking.clone(), tracking.clone().dtype::<f64>());
    let _ = tracking.forward(&Tensor::ones([2, 3, 2, 2])).unwrap();
    assert!(copy.running_mean.as_ref().unwrap().is_lazy(), "a clone gets its own sizes");
    let _ = double.forward(&Tensor::ones([2, 5, 2, 2])).unwrap();
    assert!(double.to_string().starts_with("BatchNorm2d(5, "), "{double}");
    // Setters after the sizes are known.
    let affine = tracking.affine(true).track_running_stats(false);
    assert_eq!(affine.weight.as_ref().unwrap().shape(), [3]);
    let [buffer, known] = [Buffer::<f32>::lazy([None, Some(2)]), Buffer::lazy([None])];
    assert!(
        message(buffer.set(&Tensor::ones([2, 3]))).starts_with("set: the buffer is [?, 2], the new values are [2, 3]")
    );
    assert!(panic_of(|| buffer.tensor_or(|_| Tensor::ones([3]))).starts_with("tensor_or: the buffer is [?, 2]"));
    assert_eq!(known.tensor_or(|_| Tensor::ones([3])), Tensor::ones([3]));
    assert_eq!(known.known_shape(), [Some(3)]);
}

/// What could never be allocated is refused where it is asked for: by the constructor, or by the first input.
#[test]
fn a_lazy_layer_of_any_size() {
    assert!(panic_of(|| LazyLinear::new(usize::MAX)).starts_with("parameter: "));
    let wide = LazyLinear::new(1 << 20).bias(false);
    let error = wide.forward(&Tensor::zeros([0, 1 << 40])).unwrap_err().to_string();
    assert!(error.starts_with("linear: ") && error.contains("[1048576, 1099511627776]"), "{error}");
    assert!(wide.weight.is_lazy(), "a refused input initialises nothing");
}

/// All of PyTorch's, as it prints them; each says what to do before its first input, converts and copies.
#[test]
fn every_lazy_layer_says_what_to_do() {
    fn check<M: Module + Clone + Dtype + std::fmt::Display>(layer: M, printed: &str)
    where
        M::With<f64>: Module + std::fmt::Display,
    {
        assert_eq!(layer.to_string(), printed);
        assert!(layer.parameters().iter().all(|p| p.requires_grad()));
        let first = "`weight` has no values yet, since its shape comes from the first input; run a batch through the model first";
        assert_eq!(panic_of(|| layer.num_parameters()), format!("num_parameters: {first}"));
        assert_eq!(panic_of(|| layer.state_dict()), format!("state_dict: {first}"));
        let optimizer = panic_of(|| Adam::new(&layer, 0.1));
        let expected = "an optimizer needs parameters that have values; `weight` gets its shape from the first input";
        assert!(optimizer.starts_with(expected), "{optimizer}");
        let copy = layer.clone();
        assert!(copy.parameters()[0].is_lazy() && !copy.parameters()[0].is_same(&layer.parameters()[0]));
        let double = copy.dtype::<f64>();
        assert_eq!((double.to_string().as_str(), double.parameters()[0].dtype()), (printed, DType::F64));
        // The tools that need values.
        let why = "no values yet";
        for panics in [
            panic_of(|| parameters_to_vector::<f32>(&layer).unwrap()),
            panic_of(|| vector_to_parameters(&Tensor::<f32>::ones([3]), &layer).unwrap()),
        ] {
            assert!(panics.contains(why), "{panics}");
        }
        layer.zero_grad();
        assert_eq!(clip_grad_norm(&layer, 1.0).unwrap(), 0.0, "nothing has a gradient");
    }
    check(LazyLinear::new(3), "LazyLinear(in_features=0, out_features=3, bias=True)");
    check(LazyConv1d::new(4, 3), "LazyConv1d(0, 4, kernel_size=(3,), stride=(1,))");
    check(LazyConv2d::new(4, 3).padding(1), "LazyConv2d(0, 4, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1))");
    check(LazyConv3d::new(4, 2), "LazyConv3d(0, 4, kernel_size=(2, 2, 2), stride=(1, 1, 1))");
    check(LazyConvTranspose1d::new(4, 3), "LazyConvTranspose1d(0, 4, kernel_size=(3,), stride=(1,))");
    check(LazyConvTranspose2d::new(4, 3), "LazyConvTranspose2d(0, 4, kernel_size=(3, 3), stride=(1, 1))");
    check(LazyConvTranspose3d::new(4, 2), "LazyConvTranspose3d(0, 4, kernel_size=(2, 2, 2), stride=(1, 1, 1))");
    let rest = "(0, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)";
    check(LazyBatchNorm1d::new(), &format!("LazyBatchNorm1d{rest}"));
    check(LazyBatchNorm2d::new(), &format!("LazyBatchNorm2d{rest}"));
    check(LazyBatchNorm3d::new(), &format!("LazyBatchNorm3d{rest}"));
    check(LazyInstanceNorm1d::new(), &format!("LazyInstanceNorm1d{rest}"));
    check(LazyInstanceNorm2d::new(), &format!("LazyInstanceNorm2d{rest}"));
    check(LazyInstanceNorm3d::new(), &format!("LazyInstanceNorm3d{rest}"));
}
