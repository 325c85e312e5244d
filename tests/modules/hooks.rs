//! Hooks of all kinds, and the places that errors of calls name.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use ndnn::{
    AnyTensor,
    module::hooks::{self, Hooked},
    prelude::*,
};

type Log = Arc<Mutex<Vec<String>>>;

fn shown(tensors: &[AnyTensor]) -> String {
    let numbers =
        |t: &AnyTensor| t.to::<f64>().to_vec().iter().map(|x| format!("{x:.4}")).collect::<Vec<_>>().join(" ");
    tensors.iter().map(numbers).collect::<Vec<_>>().join(", ")
}

fn model() -> Sequential<f64> {
    let model = sequential![f64; Linear::new(2, 2).bias(false), Tanh, Linear::new(2, 1).bias(false)];
    let weights = [tensor![[0.125, 0.25], [0.375, 0.5]; f64], tensor![[0.5, -1.0]; f64]];
    model.parameters().iter().zip(weights).for_each(|(p, w)| p.set(&w.into()).unwrap());
    model
}

/// The order and the numbers of PyTorch, printed by the same hooks there.
#[test]
fn the_order_and_the_numbers_are_pytorchs() {
    let (model, log) = (model(), Log::default());
    let note = |kind: &'static str| {
        let log = log.clone();
        move |path: &str, a: &[AnyTensor], b: &[AnyTensor]| {
            log.lock().unwrap().push(format!("{kind} `{path}` {} | {}", shown(a), shown(b)));
        }
    };
    let (pre, bpre) = (note("pre"), note("bpre"));
    let handles = [
        hooks::register_forward_pre_hook(&model, "*", move |path, x| pre(path, x, &[])).unwrap(),
        hooks::register_forward_hook(&model, "*", note("fwd")).unwrap(),
        hooks::register_full_backward_pre_hook(&model, "*", move |path, g| bpre(path, &[], g)).unwrap(),
        hooks::register_full_backward_hook(&model, "*", note("bwd")).unwrap(),
    ];
    let doubled = |_: &str, gi: &[AnyTensor], _: &[AnyTensor]| gi[0].get::<f64>().unwrap() * 2.;
    let doubled = hooks::register_full_backward_hook(&model, "1", doubled).unwrap();
    let raised = |_: &str, go: &[AnyTensor]| go[0].get::<f64>().unwrap() + 1.;
    let raised = hooks::register_full_backward_pre_hook(&model, "0", raised).unwrap();
    let x = tensor![[1.0, -1.0]; f64].set_requires_grad(true);
    model.forward(&x).unwrap().sum().backward().unwrap();
    let expected = [
        "pre `` 1.0000 -1.0000 | ",
        "pre `0` 1.0000 -1.0000 | ",
        "fwd `0` 1.0000 -1.0000 | -0.1250 -0.1250",
        "pre `1` -0.1250 -0.1250 | ",
        "fwd `1` -0.1250 -0.1250 | -0.1244 -0.1244",
        "pre `2` -0.1244 -0.1244 | ",
        "fwd `2` -0.1244 -0.1244 | 0.0622",
        "fwd `` 1.0000 -1.0000 | 0.0622",
        "bpre ``  | 1.0000",
        "bpre `2`  | 1.0000",
        "bwd `2` 0.5000 -1.0000 | 1.0000",
        "bpre `1`  | 0.5000 -1.0000",
        "bwd `1` 0.4923 -0.9845 | 0.5000 -1.0000",
        "bpre `0`  | 0.9845 -1.9691",
        "bwd `0` -0.1153 0.0116 | 1.9845 -0.9691",
        "bwd `` -0.1153 0.0116 | 1.0000",
    ];
    assert_eq!(*log.lock().unwrap(), expected);
    assert_eq!(shown(&[x.grad().unwrap().into()]), "-0.1153 0.0116");
    assert_eq!(shown(&[model.parameters()[0].grad().unwrap()]), "1.9845 -1.9845 -0.9691 0.9691");
    // If no input needs a gradient, the hooks run with that of the output alone, as in PyTorch.
    drop((doubled, raised));
    log.lock().unwrap().clear();
    model.forward(&x.detach()).unwrap().sum().backward().unwrap();
    let backward: Vec<String> = log.lock().unwrap().iter().filter(|l| l.starts_with('b')).cloned().collect();
    assert_eq!(backward[..2], ["bpre ``  | 1.0000", "bwd ``  | 1.0000"]);
    assert_eq!(backward.last().unwrap(), "bwd `0`  | 0.4923 -0.9845");
    // No hook is left.
    drop(handles);
    log.lock().unwrap().clear();
    model.forward(&x).unwrap().sum().backward().unwrap();
    assert!(log.lock().unwrap().is_empty());
}

#[derive(Module)]
struct Two {
    n: usize,
}

#[forward]
impl Two {
    fn forward(&self, a: &Tensor, b: &Tensor, times: f32) -> Result<(Tensor, Option<Tensor>)> {
        if times == 0. {
            return Ok((a.clone(), None));
        }
        Ok((a * b * times, Some(a + b)))
    }
}

#[test]
fn several_tensors_are_hooked_together() {
    let (two, mut seen) = (Two { n: 2 }, Vec::new());
    assert_eq!(two.clone().n, 2);
    let (a, b) = (tensor![2.0].set_requires_grad(true), tensor![3.0].set_requires_grad(true));
    let note = |_: &str, gi: &[AnyTensor], go: &[AnyTensor]| seen.push(format!("{} | {}", shown(gi), shown(go)));
    hooks::during_backward(&two, "", note, || {
        let (y, z) = two.forward(&a, &b, 1.)?;
        (y * 10.0 + z.unwrap()).sum().backward()
    })
    .unwrap();
    // PyTorch: two (tensor([31.]), tensor([21.])) (tensor([10.]), tensor([1.]))
    assert_eq!(seen, ["31.0000, 21.0000 | 10.0000, 1.0000"]);
    assert_eq!((a.grad(), b.grad()), (Some(tensor![31.0]), Some(tensor![21.0])));
    // A pre-hook replaces the tensors among the arguments.
    let swap = |_: &str, x: &[AnyTensor]| vec![x[0].clone(), tensor![5.0].into()];
    let (y, z) = hooks::during_pre(&two, "", swap, || two.forward(&a, &b, 1.)).unwrap();
    assert_eq!((y, z.unwrap()), (tensor![10.0], tensor![7.0]));
    // An option that is `None` shows nothing.
    let mut lengths = Vec::new();
    let _ = hooks::during(&two, "", |_, _, y| lengths.push(y.len()), || two.forward(&a, &b, 0.)).unwrap();
    assert_eq!(lengths, [1]);
}

#[derive(Module)]
struct Many<M> {
    inner: M,
}

#[forward]
impl<M> Many<M>
where
    M: Forward + Clone,
{
    #[allow(clippy::too_many_arguments)]
    fn forward<'t, const N: usize>(
        &self,
        mut x: Tensor,
        pair: &(Tensor, Vec<Tensor<i64>>),
        axes: &[usize; N],
        name: &str,
        kept: &'t Tensor,
        r#type: Option<&Tensor<bool>>,
        scale: impl Into<f64>,
        (low, high): (f32, f32),
    ) -> Result<Vec<Tensor>> {
        x = self.inner.forward(&x)? * scale.into() as f32;
        if name == "first" {
            return Ok(vec![x]);
        }
        let count = axes.len() + pair.1.len() + usize::from(r#type.is_some());
        Ok(vec![x + &pair.0, kept.clamp(low, high), Tensor::scalar(count as f32)])
    }
}

#[test]
fn a_call_has_any_signature() {
    let many = Many { inner: Tanh };
    let (x, pair) = (tensor![0.0], (tensor![2.0], vec![tensor![1], tensor![2]]));
    let call = |name| many.forward(x.clone(), &pair, &[0, 1], name, &tensor![5.0], None, 2.0f32, (0.0, 1.0));
    let plain = call("all").unwrap();
    assert_eq!(plain, [tensor![2.0], tensor![1.0], Tensor::scalar(4.0)]);
    let mut dtypes = Vec::new();
    let see = |_: &str, x: &[AnyTensor], _: &[AnyTensor]| dtypes.extend(x.iter().map(AnyTensor::dtype));
    assert_eq!(hooks::during(&many, "", see, || call("all")).unwrap(), plain);
    use ndnn::DType::{F32, I64};
    assert_eq!(dtypes, [F32, F32, I64, I64]);
    let add = |_: &str, x: &[AnyTensor]| {
        let mut x = x.to_vec();
        x[1] = tensor![7.0].into();
        x
    };
    assert_eq!(hooks::during_pre(&many, "", add, || call("all")).unwrap()[0], tensor![7.0]);
    assert_eq!(call("first").unwrap(), [tensor![0.0]]);
}

#[test]
fn what_a_hook_may_not_return() {
    let net = sequential![Linear::new(2, 2), Tanh];
    let x = Tensor::ones([1, 2]);
    let error = |e: Result<Tensor>| e.unwrap_err().to_string();
    let two = hooks::during(&net, "0", |_, _, y| vec![y[0].clone(), y[0].clone()], || net.forward(&x));
    assert_eq!(
        error(two),
        "hook: the hook returned 2 tensors in the place of 1; return as many, or () to leave them as they are; in Sequential.0 \
         (Linear(in_features=2, out_features=2, bias=True))"
    );
    let other = hooks::during(&net, "0", |_, _, _| tensor![1], || net.forward(&x));
    assert!(error(other).starts_with("tensors: a tensor of i64 cannot take the place of one of f32; in Sequential.0 "));
    let none = hooks::during(&net, "layer4.*", |_, _, _| (), || net.forward(&x));
    assert!(error(none).contains("`layer4.*` matches no module; there are 0, 1"));
    let y = hooks::during_backward(
        &net,
        "0",
        |_, _, _| tensor![1.0],
        || {
            let y = net.forward(&x.clone().set_requires_grad(true))?;
            y.sum().backward()?;
            Ok(y)
        },
    );
    assert!(error(y).contains("shape [1]"));
}

#[test]
fn a_hook_that_panics_leaves_nothing_behind() {
    let net = sequential![Linear::new(2, 2), Tanh];
    let forward = || net.forward(&Tensor::ones([1, 2]));
    let panics = || hooks::during(&net, "1", |_, _, _| -> () { panic!("half way") }, forward);
    assert!(catch_unwind(AssertUnwindSafe(panics)).is_err());
    let y = forward().unwrap();
    // Nested: both run, the outer one first.
    let mut order = Vec::new();
    let order_of = &Mutex::new(&mut order);
    let inner = || hooks::during(&net, "1", |_, _, _| order_of.lock().unwrap().push(2), forward);
    let z = hooks::during(&net, "1", |_, _, _| order_of.lock().unwrap().push(1), inner).unwrap();
    assert_eq!((order, z), (vec![1, 2], y));
}

#[test]
fn a_lent_hook_is_its_threads_and_a_registered_one_everybodys() {
    let net = sequential![Linear::new(2, 2), Tanh];
    let count = Arc::new(Mutex::new(0));
    let counted = count.clone();
    let handle = hooks::register_forward_hook(&net, "0", move |_, _, _| *counted.lock().unwrap() += 1).unwrap();
    let mut here = 0;
    let forward = || net.forward(&Tensor::ones([1, 2]));
    let elsewhere = || std::thread::scope(|s| s.spawn(forward).join().unwrap());
    let _ = hooks::during(&net, "0", |_, _, _| here += 1, || elsewhere().and_then(|_| forward())).unwrap();
    assert_eq!((here, *count.lock().unwrap()), (1, 2));
    handle.remove();
    let _ = forward().unwrap();
    assert_eq!(*count.lock().unwrap(), 2);
}

#[test]
fn a_hooked_module_moves_and_trains() {
    let mut layer = Hooked::new(Dropout::new(0.5));
    let handle = layer.register_forward_hook(|_, y| y[0].get::<f32>().unwrap() + 100.0);
    layer.eval();
    let mut boxed = vec![sequential![Linear::new(2, 2), layer]];
    boxed[0].eval();
    let moved = boxed.remove(0);
    let x = Tensor::ones([3, 2]);
    let y = moved.forward(&x).unwrap();
    assert!(y.gt(50.0).unwrap().all().item().unwrap());
    assert_eq!(moved.to_string().lines().nth(2).unwrap(), "  (1): Dropout(p=0.5, inplace=False)");
    assert!(moved.clone().forward(&x).unwrap().lt(50.0).unwrap().all().item().unwrap(), "a clone has no hooks");
    handle.remove();
    assert!(moved.forward(&x).unwrap().lt(50.0).unwrap().all().item().unwrap());
    // Two layers that have no fields of their own still have different identities.
    #[derive(Module)]
    struct Nothing;
    #[forward]
    impl Forward for Nothing {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            Ok(x.clone())
        }
    }
    let (a, b) = (Hooked::new(Nothing), Hooked::new(Nothing));
    a.register_forward_hook(|_, y| y[0].get::<f32>().unwrap() * 2.0).keep();
    assert_eq!((a.forward(&x).unwrap(), b.forward(&x).unwrap()), (&x * 2.0, x));
}

#[test]
fn hooks_of_parameters_wait_for_the_whole_gradient() {
    let w = Param::new(tensor![1.0, 2.0]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (before, after) = (seen.clone(), seen.clone());
    let first = w.register_hook(move |g| before.lock().unwrap().push(g.to_vec()));
    let double = w.register_hook(|g| g * 2.0);
    let last = w.register_post_accumulate_grad_hook(move |w| after.lock().unwrap().push(w.grad().unwrap().to_vec()));
    let loss = || (&w.tensor() * &w.tensor()).sum() + w.tensor().sum();
    loss().backward().unwrap();
    assert_eq!(*seen.lock().unwrap(), [[3.0, 5.0], [6.0, 10.0]]);
    drop((first, double));
    loss().backward().unwrap();
    assert_eq!(seen.lock().unwrap()[2..], [[9.0, 15.0]]);
    last.remove();
    w.zero_grad();
    loss().backward().unwrap();
    assert_eq!((w.grad(), seen.lock().unwrap().len()), (Some(tensor![3.0, 5.0]), 3));
    w.set_requires_grad(false);
    assert!(catch_unwind(AssertUnwindSafe(|| w.register_hook(|_| ()).keep())).is_err());
    let x = tensor![1.0, 2.0].set_requires_grad(true);
    let (double, handle) = x.register_hook(|g| g * 2.0);
    double.sum().backward_retain().unwrap();
    assert_eq!(x.grad(), Some(tensor![2.0, 2.0]));
    handle.remove();
    double.sum().backward().unwrap();
    assert_eq!(x.grad(), Some(tensor![3.0, 3.0]));
    let (four, kept) = x.register_hook(|g| g * 4.0);
    kept.keep();
    four.sum().backward().unwrap();
    assert_eq!(x.grad(), Some(tensor![7.0, 7.0]));
    let wrong = x.with_hook(|_| tensor![1.0]).sum().backward().unwrap_err().to_string();
    assert!(wrong.contains("the hook returned [1] for a gradient of [2]"), "{wrong}");
}

#[derive(Module)]
pub struct Block {
    pub convs: ModuleList<Linear>,
    pub act: Tanh,
}

#[forward]
impl Forward for Block {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.convs.iter().try_fold(x.clone(), |x, conv| conv.forward(&x))?;
        self.act.forward(&x)?.reshape([-1, 2])
    }
}

#[derive(Module)]
struct Deep {
    #[module(name = "self")]
    encoder: Sequential,
    head: Box<dyn Forward>,
}

#[forward]
impl Forward for Deep {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.head.forward(&self.encoder.forward(x)?)
    }
}

fn block() -> Block {
    Block { convs: vec![Linear::new(3, 3), Linear::new(3, 3)], act: Tanh }
}

fn deep() -> Deep {
    Deep { encoder: sequential![Tanh, block(), block()], head: Box::new(Linear::new(2, 1)) }
}

#[test]
fn an_error_has_one_path_through_fields_lists_and_boxes() {
    let net = deep();
    let error = |shape: &[usize]| net.forward(&Tensor::zeros(shape)).unwrap_err().to_string();
    let place = |e: &str| e.split("; ").skip(1).map(str::to_string).collect::<Vec<_>>().join("; ");
    assert_eq!(place(&error(&[1, 4])), "in Deep.self.1.convs.0 (Linear(in_features=3, out_features=3, bias=True))");
    assert_eq!(place(&error(&[1, 3])), "in Deep.self.1 (Block)");
    // A module that is not a part of the model is named alone, before the place in the model.
    #[derive(Module)]
    struct Temporary {
        n: usize,
    }
    #[forward]
    impl Forward for Temporary {
        fn forward(&self, x: &Tensor) -> Result<Tensor> {
            Linear::new(self.n, 1).bias(false).forward(x)
        }
    }
    let net = sequential![Temporary { n: 2 }];
    let error = net.forward(&Tensor::zeros([1, 3])).unwrap_err().to_string();
    assert_eq!(place(&error), "in Linear(in_features=2, out_features=1, bias=False); in Sequential.0 (Temporary())");
}

#[test]
fn a_sequential_may_begin_with_labels() {
    let mut net = sequential![Embedding::new(10, 4), LSTM::new(4, 5), Linear::new(5, 2)];
    let y = net.forward(&tensor![[1, 2, 3]]).unwrap();
    assert_eq!(y.shape(), [1, 3, 2]);
    net.eval();
    assert_eq!(net.parameters().len(), 7);
    assert_eq!((net.len(), net.clone().to_string()), (3, net.to_string()));
    // The hook sees the labels as the input.
    let mut seen = Vec::new();
    let see = |_: &str, x: &[AnyTensor], _: &[AnyTensor]| seen.push(x[0].dtype());
    let _ = hooks::during(&net, "", see, || net.forward(&tensor![[1]])).unwrap();
    assert_eq!(seen, [ndnn::DType::I64]);
    let double = sequential![f64; Embedding::new(10, 4), Linear::new(4, 2)];
    assert_eq!(double.forward(&tensor![1]).unwrap().dtype(), ndnn::DType::F64);
    let error = Sequential::<f32, Tensor<i64>>::default().forward(&tensor![1]).unwrap_err();
    assert!(error.to_string().contains("no layer makes a tensor of the input"), "{error}");
}

/// Hooks of all modules run first, see each module as it prints, and may replace; they see the other tests' modules too.
#[test]
fn hooks_of_all_modules() {
    let (first, log) = ("Linear(in_features=3, out_features=5, bias=False)", Log::default());
    let model = sequential![f64; Linear::new(3, 5).bias(false), Tanh];
    let note = |kind: &'static str| {
        let log = log.clone();
        move |name: &str, _: &[AnyTensor], _: &[AnyTensor]| {
            if name == first || name == "0" {
                log.lock().unwrap().push(format!("{kind} {name}"));
            }
        }
    };
    let halved = move |name: &str, input: &[AnyTensor]| (name == first).then(|| input[0].get::<f64>().unwrap() * 0.5);
    let own = hooks::register_forward_hook(&model, "0", note("own")).unwrap();
    let own_backward = hooks::register_full_backward_hook(&model, "0", note("own backward")).unwrap();
    let all = [
        hooks::register_module_forward_pre_hook(halved),
        hooks::register_module_forward_hook(note("all")),
        hooks::register_module_full_backward_pre_hook({
            let note = note("all backward pre");
            move |name, g| note(name, &[], g)
        }),
        hooks::register_module_full_backward_hook(note("all backward")),
    ];
    let x = tensor![[1.0, -1.0, 2.0]; f64].set_requires_grad(true);
    let y = model.forward(&x).unwrap();
    y.sum().backward_retain().unwrap();
    let seen = |names: [&str; 2]| names.map(|name| format!("{name} {first}"));
    let [pre, backward] = seen(["all backward pre", "all backward"]);
    let expected = [format!("all {first}"), "own 0".into(), pre, backward, "own backward 0".into()];
    assert_eq!(*log.lock().unwrap(), expected);
    drop((all, own, own_backward));
    // The graph of the call outlives the hooks, which do not run any more.
    y.sum().backward().unwrap();
    assert_eq!(log.lock().unwrap().len(), expected.len());
    assert_eq!(y.detach(), model.forward(&(&x * 0.5)).unwrap().detach());
}

/// The hook goes along to the module that takes the place of the one in the box, and not to what gets its address.
#[test]
fn a_hooked_box_keeps_its_hooks() {
    let log = Log::default();
    let mut layer = Hooked::new(Box::new(Linear::new(2, 1)) as Box<dyn Forward>);
    let note = log.clone();
    let handle = layer.register_forward_hook(move |_, y| note.lock().unwrap().push(format!("{:?}", y[0].shape())));
    let x = Tensor::ones([4, 2]);
    *layer = Box::new(Linear::new(2, 3));
    // Some of these get the address of the first one.
    let others: Vec<Box<Linear>> = (0..100).map(|_| Box::new(Linear::new(2, 7))).collect();
    others.iter().for_each(|other| drop(other.forward(&x).unwrap()));
    let _ = layer.forward(&x).unwrap();
    assert_eq!(*log.lock().unwrap(), ["[4, 3]"]);
    handle.remove();
    let _ = layer.forward(&x).unwrap();
    assert_eq!(log.lock().unwrap().len(), 1);
}
