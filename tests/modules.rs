//! Modules as users write them: names, state, modes, freezing, copies, files.

use std::{any::Any, fs, path::PathBuf, sync::Arc};

use ndnn::{DType, ErrorKind, io::safetensors, nn::StateDict, prelude::*};

#[path = "modules/checkpoint.rs"]
mod checkpoint;
mod common;
#[path = "modules/containers.rs"]
mod containers;
#[path = "modules/files.rs"]
mod files;
#[path = "modules/hooks.rs"]
mod hooks;
#[path = "modules/lazy.rs"]
mod lazy;
#[path = "modules/parametrizations.rs"]
mod parametrizations;
#[path = "modules/prune.rs"]
mod prune;
#[path = "modules/replace.rs"]
mod replace;
#[path = "modules/setters.rs"]
mod setters;
#[path = "modules/sources.rs"]
mod sources;
#[path = "modules/state.rs"]
mod state;
#[path = "modules/state_hooks.rs"]
mod state_hooks;
#[path = "modules/summary.rs"]
mod summary;
#[path = "modules/utils.rs"]
mod utils;

#[derive(Module)]
struct Net {
    fc1: Linear,
    layers: ModuleList<Linear>,
    heads: ModuleDict<Linear>,
    mode: Mode,
    seq: Sequential,
    norm: BatchNorm1d,
    steps: usize,
    scale: Option<Param>,
    tied: Param,
    #[module(skip)]
    note: Arc<str>,
}

fn net() -> Net {
    let fc1 = Linear::new(4, 3);
    Net {
        tied: fc1.weight.clone(),
        fc1,
        layers: vec![Linear::new(2, 2), Linear::new(2, 2)],
        heads: ModuleDict::from([("z", Linear::new(2, 1)), ("a", Linear::new(2, 1))]),
        mode: Mode::default(),
        seq: sequential![Linear::new(4, 3), Dropout::new(0.5), Linear::new(3, 1).bias(false)],
        norm: BatchNorm1d::new(2),
        steps: 3,
        scale: None,
        note: "n".into(),
    }
}

/// A folder for one test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("ndnn-modules-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(&self.0).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn values(module: &impl Module) -> Vec<Vec<f64>> {
    module.state_dict().iter().map(|(_, t)| t.to::<f64>().to_vec()).collect()
}

// -------------------------------------------------------------------------------------------------------------- names

#[test]
fn names_are_in_the_order_of_pytorch() {
    let net = net();
    let parameters: Vec<_> = net.named_parameters().into_iter().map(|(name, _)| name).collect();
    let expected = [
        "tied",
        "fc1.bias",
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "heads.z.weight",
        "heads.z.bias",
        "heads.a.weight",
        "heads.a.bias",
        "seq.0.weight",
        "seq.0.bias",
        "seq.2.weight",
        "norm.weight",
        "norm.bias",
    ];
    assert_eq!(parameters, expected);
    let modules: Vec<_> = net.named_modules().into_iter().map(|(name, _)| name).collect();
    let expected = [
        "fc1", "layers", "layers.0", "layers.1", "heads", "heads.z", "heads.a", "seq", "seq.0", "seq.1", "seq.2",
        "norm",
    ];
    assert_eq!(modules, expected);
    let buffers: Vec<_> = net.named_buffers().into_iter().map(|(name, _)| name).collect();
    assert_eq!(buffers, ["norm.running_mean", "norm.running_var", "norm.num_batches_tracked"]);
    let children: Vec<_> = net.children().into_iter().map(|(name, child)| (name, child.type_name())).collect();
    let expected = [("fc1", "Linear"), ("layers", "ModuleList"), ("heads", "ModuleDict"), ("seq", "Sequential")];
    for ((name, kind), expected) in children.iter().zip(expected) {
        assert_eq!((name.as_str(), kind.as_str()), expected);
    }
}

#[test]
fn a_tied_parameter_is_counted_once_and_saved_under_both_names() {
    let net = net();
    assert_eq!(net.named_parameters().iter().filter(|(_, p)| p.is_same(&(&net.tied).into())).count(), 1);
    let numel = 12 + 3 + 2 * 6 + 2 * 3 + 15 + 3 + 4;
    assert_eq!(net.num_parameters(), numel);
    let keys: Vec<_> = net.state_dict().keys().map(String::from).collect();
    assert!(keys.contains(&"tied".to_string()) && keys.contains(&"fc1.weight".to_string()));
    assert_eq!(keys.len(), 15 + 1 + 3);
}

#[test]
fn a_clone_shares_nothing_and_keeps_ties() {
    let net = net();
    net.fc1.weight.tensor().sum().backward().unwrap();
    net.fc1.bias.as_ref().unwrap().set_requires_grad(false);
    let copy = net.clone();
    assert!(copy.tied.is_same(&copy.fc1.weight) && !copy.tied.is_same(&net.tied));
    assert_eq!(values(&copy), values(&net));
    assert!(net.tied.has_grad() && !copy.tied.has_grad());
    assert!(!copy.fc1.bias.as_ref().unwrap().requires_grad() && copy.fc1.weight.requires_grad());
    let before = values(&net);
    copy.parameters().iter().for_each(|p| p.set(&(p.detach().to::<f32>() + 1.0).into()).unwrap());
    copy.norm.running_mean.as_ref().unwrap().set(&Tensor::ones([2])).unwrap();
    assert_eq!(values(&net), before);
    assert_eq!((copy.steps, &*copy.note, copy.scale.is_none()), (3, "n", true));
    // Inside a Sequential too, whose layers are boxed.
    let tied = Linear::new(2, 2);
    let mut layer = Linear::new(2, 2);
    layer.weight = tied.weight.clone();
    let seq = sequential![tied, layer].clone();
    assert_eq!(
        seq.named_parameters().iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>(),
        ["0.weight", "0.bias", "1.bias"]
    );
}

// ------------------------------------------------------------------------------------------------- freezing and modes

#[test]
fn freezing_by_module_and_by_pattern() {
    let net = net();
    net.seq.set_requires_grad(false);
    let frozen = |net: &Net| -> Vec<String> {
        net.named_parameters().into_iter().filter(|(_, p)| !p.requires_grad()).map(|(n, _)| n).collect()
    };
    assert_eq!(frozen(&net), ["seq.0.weight", "seq.0.bias", "seq.2.weight"]);
    let x = tensor![[1.0, 2.0, 3.0, 4.0]].set_requires_grad(true);
    net.seq.forward(&x).unwrap().sum().backward().unwrap();
    assert!(net.seq.parameters().iter().all(|p| !p.has_grad()) && x.grad().is_some());

    net.set_requires_grad(true);
    assert_eq!(net.set_requires_grad_matching("*.bias", false).unwrap(), 7);
    assert!(frozen(&net).iter().all(|n| n.ends_with(".bias")) && frozen(&net).len() == 7);
    assert_eq!(net.set_requires_grad_matching("heads.*", false).unwrap(), 4);
    assert_eq!(frozen(&net).len(), 9);
    let error = net.set_requires_grad_matching("head.*", true).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(
        error.to_string().starts_with("pattern: `head.*` matches no parameter; there are tied, fc1.bias, "),
        "{error}"
    );
    assert_eq!(frozen(&net).len(), 9);
}

#[test]
fn apply_visits_children_first() {
    let net = net();
    let mut seen = Vec::new();
    net.apply(|path, module| {
        seen.push(path.to_string());
        if let Some(linear) = (module as &dyn Any).downcast_ref::<Linear>() {
            linear.weight.update(|mut w| w.fill(0.5));
        }
    });
    let expected = [
        "fc1", "layers.0", "layers.1", "layers", "heads.z", "heads.a", "heads", "seq.0", "seq.1", "seq.2", "seq",
        "norm", "",
    ];
    assert_eq!(seen, expected);
    let weights = net.state_dict();
    for name in ["tied", "layers.1.weight", "heads.a.weight", "seq.2.weight"] {
        assert!(weights.get(name).unwrap().to::<f32>().to_vec().iter().all(|&w| w == 0.5), "{name}");
    }
}

#[test]
fn train_and_eval() {
    let mut net = net();
    let x = Tensor::ones([8, 4]);
    assert!(net.is_training() && net.mode.is_training());
    net.eval();
    assert!(!net.is_training() && !net.mode.is_training());
    assert_eq!(net.seq.forward(&x).unwrap(), net.seq.forward(&x).unwrap());
    let counter = || net.norm.num_batches_tracked.as_ref().unwrap().tensor().item().unwrap();
    let _ = net.norm.forward(&Tensor::ones([4, 2])).unwrap();
    assert_eq!(counter(), 0);
    net.train();
    let _ = net.norm.forward(&Tensor::ones([4, 2])).unwrap();
    assert_eq!(net.norm.num_batches_tracked.as_ref().unwrap().tensor().item().unwrap(), 1);
    assert!(net.is_training() && net.mode.is_training());
}

#[test]
fn a_layer_may_evaluate_while_the_others_train() {
    let mut net = net();
    let copy = net.clone();
    assert_eq!(net.train_matching("norm", false).unwrap(), 1);
    assert!(net.is_training() && !net.norm.is_training() && net.seq.is_training());
    let _ = net.norm.forward(&Tensor::ones([4, 2])).unwrap();
    assert_eq!(net.norm.num_batches_tracked.as_ref().unwrap().tensor(), Tensor::scalar(0));
    assert!(!net.clone().norm.is_training() && copy.norm.is_training(), "a clone's mode is its own");
    // Inner modules too, and the model itself.
    assert_eq!(net.train_matching("seq", false).unwrap(), 1);
    assert!(!net.seq.is_training() && net.mode.is_training());
    assert_eq!(net.train_matching("*", false).unwrap(), 3);
    assert!(!net.is_training());
    assert_eq!(net.train_matching("s*.1", true).unwrap(), 1);
    assert!(net.seq.is_training() && !net.norm.is_training());
    let error = net.train_matching("fc1", true).unwrap_err();
    assert_eq!(error.to_string(), "pattern: `fc1` matches no layer with a mode; there are seq.1, norm");

    net.seq[1].eval();
    *net.seq.get_mut(1).unwrap() = Dropout::new(0.25);
    assert!(net.seq.to_string().contains("(1): Dropout(p=0.25, inplace=False)") && net.seq.layer_mut(3).is_none());
}

#[test]
fn a_shared_module_is_one_in_a_clone_too() {
    #[derive(Module)]
    struct Shared {
        first: Arc<BatchNorm1d>,
        list: ModuleList<Arc<BatchNorm1d>>,
        seq: Sequential,
    }
    let norm = Arc::new(BatchNorm1d::new(2));
    let net = Shared { first: norm.clone(), list: vec![norm.clone()], seq: sequential![norm.clone(), ReLU] };
    assert_eq!((net.parameters().len(), net.state_dict().len()), (2, 15));
    let mut copy = net.clone();
    assert!(Arc::ptr_eq(&copy.first, &copy.list[0]) && !Arc::ptr_eq(&copy.first, &net.first));
    copy.eval();
    assert!(net.is_training() && !copy.is_training());
    copy.train();
    let y = copy.seq.forward(&tensor![[1.0, 2.0], [3.0, 5.0]]).unwrap();
    assert_eq!(y.shape(), [2, 2]);
    let seen = |net: &Shared| net.first.num_batches_tracked.as_ref().unwrap().tensor().item().unwrap();
    assert_eq!((seen(&copy), seen(&net), copy.parameters().len()), (1, 0, 2));
    // The same in f64.
    #[derive(Module)]
    struct Pair<T: Real = f32>(Arc<Linear<T>>, Arc<Linear<T>>);
    let layer = Arc::new(Linear::new(2, 2));
    let pair = Pair(layer.clone(), layer).dtype::<f64>();
    assert!(Arc::ptr_eq(&pair.0, &pair.1) && pair.0.weight.tensor().dtype() == DType::F64);
}

// -------------------------------------------------------------------------------------------------------------- state

#[test]
fn strict_loading_names_every_problem_and_changes_nothing() {
    let net = net();
    let mut state: StateDict = net.state_dict().into_iter().map(|(n, t)| (n, (t.to::<f32>() + 1.0).into())).collect();
    state.remove("fc1.bias");
    state.remove("norm.running_mean");
    state.insert("seq.0.weight", Tensor::<f32>::zeros([1, 2]));
    state.insert("extra", Tensor::<f32>::zeros([5]));
    let before = values(&net);
    let error = net.load_state_dict(&state).unwrap_err();
    assert_eq!(
        error.to_string(),
        "load_state_dict: missing: fc1.bias [3], norm.running_mean [2]; unexpected: extra [5]; of another shape: \
         seq.0.weight (model [3, 4], file [1, 2]); nothing was changed"
    );
    assert_eq!(error.kind(), ErrorKind::State);
    assert_eq!(values(&net), before);

    let report = net.load_state_dict_partial(&state).unwrap();
    assert_eq!(report.missing, [("fc1.bias".to_string(), vec![3]), ("norm.running_mean".to_string(), vec![2])]);
    assert_eq!(report.unexpected, [("extra".to_string(), vec![5])]);
    assert_eq!(report.mismatched, [("seq.0.weight".to_string(), vec![3, 4], vec![1, 2])]);
    assert_eq!(report.applied.len(), 19 - 3);
    assert!(!report.is_complete() && report.to_string().starts_with("applied 16; missing: fc1.bias [3]"), "{report}");
    let now = values(&net);
    for (i, (name, _)) in net.state_dict().iter().enumerate() {
        let changed = now[i] != before[i];
        assert_eq!(changed, report.applied.iter().any(|n| n == name), "{name}");
    }
    assert!(net.load_state_dict_partial(&net.state_dict()).unwrap().is_complete());
    assert!(net.load_state_dict(&StateDict::new()).is_err(), "an empty state is no state");
}

#[test]
fn a_state_of_another_type_is_converted() {
    let (a, b) = (Linear::new(3, 2), Linear::new(3, 2).dtype::<f64>());
    a.load_state_dict(&b.state_dict()).unwrap();
    assert_eq!(a.weight.detach().dtype(), DType::F32);
    assert_eq!(a.weight.detach(), b.weight.detach().cast::<f32>());
}

#[test]
fn a_sequential_in_f64() {
    let net = sequential![Linear::new(4, 3), Tanh, Linear::new(3, 1)];
    let x = tensor![[0.1, 0.2, 0.3, 0.4]];
    let y = net.forward(&x).unwrap().item().unwrap();
    let wide = sequential![f64; Linear::new(4, 3), Tanh, Linear::new(3, 1)];
    wide.load_state_dict(&net.state_dict()).unwrap();
    let y64 = wide.forward(&x.cast::<f64>()).unwrap();
    assert!((y64.item().unwrap() - f64::from(y)).abs() < 1e-6);
    assert_eq!(wide.to_string(), net.to_string());
    assert_eq!(wide.state_dict().get("2.weight").unwrap().dtype(), DType::F64);
}

#[test]
fn errors_name_the_place() {
    let net = net();
    let error = net.seq.forward(&Tensor::zeros([2, 5])).unwrap_err();
    assert_eq!(
        error.to_string(),
        "linear: the input's last axis has 5 features ([2, 5]), weight [3, 4] expects 4; in Sequential.0 \
         (Linear(in_features=4, out_features=3, bias=True))"
    );
}

#[test]
fn a_boxed_list_prints_as_the_list() {
    #[derive(Module)]
    struct Boxed {
        layers: Box<ModuleList<Linear>>,
    }
    let net = Boxed { layers: Box::new(vec![Linear::new(2, 2), Linear::new(2, 2)]) };
    let expected =
        "Boxed(\n  (layers): ModuleList(\n    (0-1): 2 x Linear(in_features=2, out_features=2, bias=True)\n  )\n)";
    assert_eq!(net.to_string(), expected);
}

// ------------------------------------------------------------------------------------- a parameter in an expression

#[test]
fn a_parameter_is_an_operand_and_learns() {
    let x = tensor![2.0, 4.0];
    let w = Param::new(tensor![3.0, 5.0]);
    let gradient = |y: Tensor| {
        w.zero_grad();
        y.sum().backward().unwrap();
        w.grad().unwrap().to_vec()
    };
    let t = || w.tensor();
    let cases: [(Tensor, Tensor); 25] = [
        (&w + &x, t() + &x),
        (&w - &x, t() - &x),
        (&w * &x, t() * &x),
        (&w / &x, t() / &x),
        (&w + x.clone(), t() + &x),
        (&w - x.clone(), t() - &x),
        (&w * x.clone(), t() * &x),
        (&w / x.clone(), t() / &x),
        (&x + &w, &x + t()),
        (&x - &w, &x - t()),
        (&x * &w, &x * t()),
        (&x / &w, &x / t()),
        (x.clone() + &w, &x + t()),
        (x.clone() / &w, &x / t()),
        (&w + 2.0, t() + 2.0),
        (&w - 2.0, t() - 2.0),
        (&w * 2.0, t() * 2.0),
        (&w / 2.0, t() / 2.0),
        (2.0 + &w, 2.0 + t()),
        (2.0 - &w, 2.0 - t()),
        (2.0 * &w, 2.0 * t()),
        (2.0 / &w, 2.0 / t()),
        (-&w, -t()),
        (&w * &w, t().square()),
        (x.maximum(&w).unwrap(), x.maximum(t()).unwrap()),
    ];
    for (i, (y, expected)) in cases.into_iter().enumerate() {
        assert!((&y - &expected).abs().sum().item().unwrap() < 1e-6, "{i}");
        assert_eq!(gradient(y), gradient(expected), "{i}");
    }
    let wide = Param::new(tensor![3.0; f64]);
    (1.0 / &wide - &wide / &wide).sum().backward().unwrap();
    assert!((wide.grad().unwrap().item().unwrap() + 1.0 / 9.0).abs() < 1e-15);

    // Frozen, and detached.
    w.set_requires_grad(false);
    assert!(!(&w * &x).requires_grad());
    w.set_requires_grad(true);
    assert!((&w * &x).requires_grad() && !(w.detach() * &x).requires_grad());
}

#[test]
fn a_sequential_is_a_container() {
    let mut net = sequential![Linear::new(2, 2)].push_named("norm", BatchNorm1d::new(2));
    net.layer_mut(1).unwrap().eval();
    assert!(!net.layer_named("norm").unwrap().is_training() && net[0].is_training());
    assert!(net.layer_named("other").is_none() && net.layer(2).is_none() && net.layer_mut(2).is_none());
    net.iter_mut().for_each(|layer| layer.train());
    assert!(net.layer_named("norm").unwrap().is_training());
    net.extend([Box::new(Tanh) as Box<dyn Forward>, Box::new(Linear::new(2, 1))]);
    let names: Vec<String> = net.children().into_iter().map(|(name, _)| name).collect();
    assert_eq!((names, net.iter().count()), (["0", "norm", "2", "3"].map(String::from).to_vec(), 4));
    let empty = Sequential::<f32>::default();
    assert_eq!(empty.forward(&tensor![1.0]).unwrap(), tensor![1.0]);
}
