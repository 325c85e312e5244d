//! `#[derive(Module)]`: what it generates for each kind of field.

use std::{collections::BTreeMap, marker::PhantomData, sync::Arc};

use ndnn::{DType, module::Field, nn::Dtype, prelude::*};

fn names(module: &impl Module) -> Vec<String> {
    module.named_parameters().into_iter().map(|(name, _)| name).collect()
}

#[derive(Module)]
struct Everything {
    fc: Linear,
    maybe: Option<Linear>,
    never: Option<Linear>,
    scale: Option<Param>,
    list: Vec<Linear>,
    array: [Linear; 2],
    map: BTreeMap<String, Linear>,
    any: Box<dyn Forward>,
    boxed: Box<Linear>,
    mean: Buffer,
    count: Buffer<i64>,
    r#type: Param,
    mode: Mode,
    size: usize,
    sizes: [usize; 2],
    name: String,
    phantom: PhantomData<u8>,
    #[module(skip)]
    shared: Arc<str>,
    #[module(skip)]
    hidden: Linear,
}

fn everything() -> Everything {
    let fc = || Linear::new(2, 2).bias(false);
    Everything {
        fc: fc(),
        maybe: Some(fc()),
        never: None,
        scale: Some(Param::new(Tensor::ones([3]))),
        list: vec![fc(), fc()],
        array: [fc(), fc()],
        map: BTreeMap::from([("b".to_string(), fc()), ("a".to_string(), fc())]),
        any: Box::new(fc()),
        boxed: Box::new(fc()),
        mean: Buffer::new(Tensor::zeros([2])),
        count: Buffer::new(Tensor::scalar(7)),
        r#type: Param::new(Tensor::zeros([1])),
        mode: Mode::default(),
        size: 3,
        sizes: [4, 5],
        name: "n".into(),
        phantom: PhantomData,
        shared: "s".into(),
        hidden: fc(),
    }
}

#[test]
fn every_field_is_visited_in_the_order_of_pytorch() {
    let net = everything();
    // As in PyTorch, a module's own parameters come first, then those of its children.
    let parameters = [
        "scale",
        "type",
        "fc.weight",
        "maybe.weight",
        "list.0.weight",
        "list.1.weight",
        "array.0.weight",
        "array.1.weight",
        "map.a.weight",
        "map.b.weight",
        "any.weight",
        "boxed.weight",
    ];
    assert_eq!(names(&net), parameters);
    let buffers: Vec<_> = net.named_buffers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(buffers, ["mean", "count"]);
    let children: Vec<_> = net.children().into_iter().map(|(name, _)| name).collect();
    assert_eq!(children, ["fc", "maybe", "list", "array", "map", "any", "boxed"]);
}

#[test]
fn a_clone_is_deep_and_keeps_plain_data() {
    let net = everything();
    let copy = net.clone();
    assert_eq!((copy.size, copy.sizes, copy.name.as_str(), copy.phantom), (3, [4, 5], "n", PhantomData));
    assert!(Arc::ptr_eq(&copy.shared, &net.shared), "a skipped field is cloned by its own Clone");
    assert!(!copy.hidden.weight.is_same(&net.hidden.weight));
    for (a, b) in net.parameters().iter().zip(copy.parameters()) {
        assert!(!a.is_same(&b));
        assert_eq!(a.detach().to::<f32>(), b.detach().to::<f32>());
    }
    copy.count.set(&Tensor::scalar(8)).unwrap();
    assert_eq!((net.count.tensor().item().unwrap(), copy.count.tensor().item().unwrap()), (7, 8));
    assert_eq!(copy.mean.tensor(), net.mean.tensor());
}

#[test]
fn the_mode_reaches_every_level() {
    #[derive(Module)]
    struct Deep {
        list: Vec<Dropout>,
        maybe: Option<Dropout>,
        any: Box<dyn Forward>,
        mode: Mode,
    }
    let mut net = Deep {
        list: vec![Dropout::new(0.5)],
        maybe: Some(Dropout::new(0.5)),
        any: Box::new(Dropout::new(0.5)),
        mode: Mode::default(),
    };
    let x: Tensor = Tensor::ones([100]);
    net.eval();
    assert!(!net.is_training() && !net.mode.is_training());
    assert_eq!(net.any.forward(&x).unwrap(), x);
    assert_eq!(net.list[0].forward(&x).unwrap(), x);
    assert_eq!(net.maybe.as_ref().unwrap().forward(&x).unwrap(), x);
    net.train();
    assert!(net.is_training());
    assert_ne!(net.any.forward(&x).unwrap(), x);
}

#[derive(Module)]
struct Tuple(Linear, usize, Param);

#[derive(Module)]
struct Unit;

#[derive(Module)]
struct Empty {}

#[test]
fn tuple_and_unit_structs() {
    let tuple = Tuple(Linear::new(2, 1), 3, Param::new(Tensor::zeros([4])));
    assert_eq!(names(&tuple), ["2", "0.weight", "0.bias"]);
    assert_eq!(tuple.to_string(), "Tuple(\n  (0): Linear(in_features=2, out_features=1, bias=True)\n)");
    assert_eq!(tuple.clone().1, 3);
    assert_eq!((Unit.to_string(), Empty {}.to_string()), ("Unit()".into(), "Empty()".into()));
    assert!(Unit.state_dict().is_empty() && names(&Empty {}.clone()).is_empty());
}

#[derive(Module)]
struct Residual<M> {
    inner: M,
    scale: f64,
}

#[derive(Module)]
struct Block<T: Real = f32, const N: usize = 2> {
    layers: [Linear<T>; N],
    gate: Option<Param<T>>,
    stats: Buffer<T>,
    act: ReLU,
    n: usize,
}

#[derive(Module)]
struct Nested<T: Real = f32> {
    blocks: Vec<Block<T, 1>>,
    body: Linear<T>,
    seen: Buffer<i64>,
}

#[forward]
impl<T: Real> Forward<T> for Nested<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let x = self.body.forward(x)?;
        self.blocks.iter().try_fold(x, |x, block| block.act.forward(&block.layers[0].forward(&x)?))
    }
}

fn nested() -> Nested {
    let block = || Block {
        layers: [Linear::new(3, 3)],
        gate: Some(Param::new(Tensor::ones([3]))),
        stats: Buffer::new(Tensor::ones([3])),
        act: ReLU,
        n: 5,
    };
    Nested { blocks: vec![block(), block()], body: Linear::new(2, 3), seen: Buffer::new(Tensor::scalar(1)) }
}

#[test]
fn generics() {
    let net = Residual { inner: Residual { inner: Linear::new(2, 2), scale: 0.5 }, scale: 2.0 };
    assert_eq!(names(&net), ["inner.inner.weight", "inner.inner.bias"]);
    assert_eq!(net.clone().inner.scale, 0.5);
    assert!(net.to_string().starts_with("Residual(\n  (inner): Residual(\n    (inner): Linear("));
}

#[test]
fn dtype_reaches_every_level() {
    ndnn::manual_seed(3);
    let net = nested();
    let copy: Nested<f64> = net.clone().dtype::<f64>();
    assert_eq!(names(&copy), names(&net));
    assert!(copy.parameters().iter().all(|p| p.dtype() == DType::F64));
    assert_eq!((copy.blocks[0].stats.tensor().dtype(), copy.seen.tensor().dtype()), (DType::F64, DType::I64));
    assert_eq!((copy.blocks[1].n, copy.blocks.len()), (5, 2));
    let x = tensor![[0.5, -1.0]];
    let (y, y64) = (net.forward(&x).unwrap(), copy.forward(&x.cast::<f64>()).unwrap());
    for (a, b) in y.to_vec().into_iter().zip(y64.to_vec()) {
        assert!((f64::from(a) - b).abs() < 1e-6, "{a} is not {b}");
    }
    // Inside a Sequential too, converted before it is boxed.
    let outer = sequential![f64; net, ReLU];
    assert_eq!(outer.forward(&Tensor::zeros([1, 2])).unwrap().dtype(), DType::F64);
}

#[derive(Module)]
struct StemAndBody<T: Real = f32> {
    stem: Linear<T>,
    body: Vec<Linear<T>>,
}

/// Fails if two parameters are the same, or the values of a copy differ from those of the original.
fn converts_apart<M: Module + Clone, N: Module>(net: M, to: impl Fn(M) -> N) {
    let before = net.state_dict();
    let copy = to(net.clone());
    assert_eq!(names(&copy), names(&net));
    let params = copy.parameters();
    assert_eq!(params.len(), net.parameters().len(), "each is counted once, so none is another");
    for (i, a) in params.iter().enumerate() {
        assert!(params[..i].iter().all(|b| !a.is_same(b)));
    }
    for ((name, value), (_, expected)) in copy.state_dict().iter().zip(before.iter()) {
        assert_eq!(value.to::<f32>(), expected.to::<f32>(), "{name}");
    }
}

#[test]
fn a_conversion_ties_nothing_by_accident() {
    // Sources are freed while others are converted, and their addresses are reused: many times, for one size.
    let square = || Linear::new(3, 3);
    for _ in 0..20 {
        converts_apart(StemAndBody { stem: square(), body: vec![square(), square()] }, |m| m.dtype::<f64>());
        converts_apart(StemAndBody { stem: square(), body: vec![square(), square()] }, |m| m.dtype::<f32>());
        converts_apart(nested(), |m| m.dtype::<f64>());
        converts_apart(ModuleList::from(vec![square(), square()]), |m| m.dtype::<f64>());
    }
}

#[test]
fn a_conversion_keeps_ties() {
    #[derive(Module)]
    struct Ends<T: Real = f32> {
        first: Vec<Linear<T>>,
        middle: Linear<T>,
        last: Box<Linear<T>>,
    }
    let ends = |weight: &Param| {
        let tied = || {
            let mut layer = Linear::new(3, 3);
            layer.weight = weight.clone();
            layer
        };
        Ends { first: vec![tied()], middle: tied(), last: Box::new(tied()) }
    };
    let net = ends(&Linear::new(3, 3).weight);
    let expected = ["first.0.weight", "first.0.bias", "middle.bias", "last.bias"];
    assert_eq!(names(&net), expected);
    assert_eq!(names(&net.clone()), expected);
    assert_eq!(names(&net.clone().dtype::<f64>()), expected);
    assert_eq!(names(&net.clone().dtype::<f32>()), expected);
    assert_eq!(names(&net.clone().dtype::<f64>().dtype::<f32>().clone()), expected);
}

#[derive(Module)]
struct Gated<M> {
    #[module(flatten)]
    inner: M,
    gate: Param,
}

#[test]
fn a_flattened_field_shows_what_is_inside() {
    let net = Gated { inner: sequential![Linear::new(2, 2), Dropout::new(0.5)], gate: Param::new(tensor![1.0]) };
    assert_eq!(names(&net), ["gate", "0.weight", "0.bias"]);
    assert!(net.to_string().starts_with("Gated(\n  (0): Linear("));
    let mut copy = net.clone();
    assert!(!copy.inner[0].parameters()[0].is_same(&net.parameters()[1]));
    copy.eval();
    assert!(!copy.is_training() && net.is_training());
    copy.load_state_dict(&net.state_dict()).unwrap();
}

#[test]
fn other_names() {
    #[derive(Module)]
    #[module(name = "LayerNorm")]
    struct ChannelsFirst {
        #[module(name = "self")]
        this: Linear,
        #[module(name = "conv1_BN")]
        norm: Option<Param>,
    }
    let net = ChannelsFirst { this: Linear::new(1, 1), norm: Some(Param::new(tensor![1.0])) };
    assert_eq!(names(&net), ["conv1_BN", "self.weight", "self.bias"]);
    assert_eq!(net.to_string(), "LayerNorm(\n  (self): Linear(in_features=1, out_features=1, bias=True)\n)");
}

#[derive(Module)]
enum Norm<T: Real = f32> {
    Batch(BatchNorm1d<T>),
    Scaled {
        scale: Param<T>,
        #[module(flatten)]
        norm: LayerNorm<T>,
    },
    None,
}

#[test]
fn an_enum_shows_its_variant() {
    let mut batch = Norm::Batch(BatchNorm1d::new(2));
    assert_eq!(names(&batch), ["0.weight", "0.bias"]);
    assert!(batch.to_string().starts_with("Norm::Batch(\n  (0): BatchNorm1d(2"), "{batch}");
    batch.eval();
    assert!(!batch.clone().is_training());
    let scaled = Norm::Scaled { scale: Param::new(tensor![1.0]), norm: LayerNorm::new(2) };
    assert_eq!(names(&scaled), ["scale", "weight", "bias"]);
    assert_eq!((Norm::<f32>::None.to_string(), names(&Norm::<f32>::None).len()), ("Norm::None()".into(), 0));
    let double = scaled.dtype::<f64>();
    assert!(matches!(&double, Norm::Scaled { .. }) && double.parameters().iter().all(|p| p.dtype() == DType::F64));
}

#[test]
fn a_stateless_module_is_the_same_for_every_type() {
    #[derive(Module)]
    #[module(stateless)]
    struct Scale<const N: usize> {
        by: f64,
    }
    impl<T: Real, const N: usize> Forward<T> for Scale<N> {
        fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
            Ok(x * T::of(self.by * N as f64))
        }
    }
    let x = tensor![1.0; f64];
    assert_eq!(Scale::<2> { by: 1.5 }.dtype::<f64>().forward(&x).unwrap(), tensor![3.0; f64]);
}

#[test]
fn options_of_the_struct() {
    #[derive(Module)]
    #[module(repr, name, no_dtype)]
    struct Renamed<T: Real> {
        weight: Param<T>,
    }
    impl<T: Real> Renamed<T> {
        fn type_name(&self) -> String {
            "Other".into()
        }
        fn extra_repr(&self) -> String {
            format!("n={}", self.weight.numel())
        }
    }
    assert_eq!(Renamed { weight: Param::new(Tensor::<f64>::zeros([4])) }.to_string(), "Other(n=4)");
}

#[test]
fn a_field_of_its_own_kind() {
    /// Plain data of a user's own type.
    #[derive(Clone, PartialEq, Debug)]
    struct Config(u8);
    impl Field for Config {
        fn show<'a>(&'a self, _: &str, _: &mut ndnn::module::Members<'a>) {}
        fn copy(&self) -> Self {
            self.clone()
        }
    }
    #[derive(Module)]
    struct Net {
        config: Config,
    }
    assert_eq!(Net { config: Config(3) }.clone().config, Config(3));
}

#[test]
fn literals_are_taken_as_they_are() {
    const BIG: i64 = 9007199254740993;
    assert_eq!(tensor![9007199254740993i64].to_vec(), [BIG]);
    assert_eq!(tensor![[i64::MAX, i64::MIN], [BIG, -BIG]].to_vec(), [i64::MAX, i64::MIN, BIG, -BIG]);
    assert_eq!(tensor![BIG as usize].to_vec(), [BIG]);
    // Rounded once: through f64 it would be 2⁶⁰.
    let near = (1i64 << 60) + (1 << 36) + 1;
    assert_eq!(tensor![near; f32].to_vec(), [near as f32]);
    assert_eq!(tensor![near].cast::<f32>().to_vec(), [near as f32]);
    let (v, pair, whole) = ([0.5f32, 1.5], (2.5f32, 3.5f64), [7i64, 8]);
    assert_eq!(tensor![v[0], v[1]], tensor![0.5, 1.5]);
    assert_eq!(tensor![[v[0]], [v[1]]], tensor![[0.5], [1.5]]);
    assert_eq!(tensor![-v[0], v[1] * 2.0, v[usize::from(true)]], tensor![-0.5, 3.0, 1.5]);
    assert_eq!(tensor![pair.0], tensor![2.5]);
    assert_eq!(tensor![pair.1], tensor![3.5]);
    assert_eq!(tensor![whole[0], whole[1]], tensor![7, 8]);
    assert_eq!(tensor![v[0] > 1.0, v[1] > 1.0], tensor![false, true]);
    assert_eq!(tensor![v.len(), 3 - 1], tensor![2, 2]);
    assert_eq!(tensor![[1.0f64, 2.0]].dtype(), DType::F64);
    assert_eq!(tensor![-1f64].dtype(), DType::F64);
    assert_eq!(tensor![v[0]; f64].dtype(), DType::F64);
    assert_eq!(tensor![1e3].dtype(), DType::F32);
    assert_eq!(tensor![2usize, 3].to_vec(), [2, 3]);
    assert_eq!(tensor![v[0] * 2f64 as f32].dtype(), DType::F64);
    // The type is known immediately: calling a method of an element needs no annotation.
    assert_eq!(tensor![[-1.5]].to_vec()[0].abs(), 1.5);
}

#[test]
fn every_container_keeps_ties_and_has_other_types() {
    let weight = Linear::new(3, 3).weight;
    let tied = || {
        let mut layer = Linear::new(3, 3);
        layer.weight = weight.clone();
        layer
    };
    let by_name = || [("a", tied()), ("b", tied())];
    fn one<M: Module>(module: M) {
        let names: Vec<_> = module.named_parameters().into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.iter().filter(|name| name.ends_with("weight")).count(), 1, "{names:?}");
    }
    one(vec![tied(), tied()].dtype::<f64>());
    one([tied(), tied()].dtype::<f64>());
    one(Box::new([tied(), tied()]).dtype::<f64>());
    one(Some(vec![tied(), tied()]).dtype::<f64>().unwrap());
    one(BTreeMap::from(by_name().map(|(name, layer)| (name.to_string(), layer))).dtype::<f64>());
    one(ModuleDict::from(by_name()).dtype::<f64>());
    one(ModuleDict::from(by_name()).clone());
    one(ModuleDict::from([("a", Box::new(tied()) as Box<dyn Forward>), ("b", Box::new(sequential![tied()]))]).clone());

    #[derive(Module)]
    struct Net<T: Real = f32> {
        boxed: Option<Box<Linear<T>>>,
        named: ModuleDict<Linear<T>>,
        sorted: BTreeMap<String, Linear<T>>,
        rows: Vec<Vec<Linear<T>>>,
    }
    let sorted = BTreeMap::from([("a".to_string(), tied())]);
    let net = Net { boxed: Some(Box::new(tied())), named: by_name().into(), sorted, rows: vec![vec![tied()]] };
    let names: Vec<String> = net.named_parameters().into_iter().map(|(name, _)| name).collect();
    one(net.clone());
    let net = net.dtype::<f64>();
    assert_eq!(names, net.named_parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    assert!(net.parameters().iter().all(|p| p.dtype() == ndnn::DType::F64));
}
