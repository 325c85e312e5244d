//! What is at a path: modules to see, change and replace, parameters and buffers.

use std::{any::Any, collections::BTreeMap, sync::Arc};

use ndnn::{
    ErrorKind,
    module::hooks::{self, Hooked},
    nn::StateDict,
    prelude::*,
};

use super::common::{panic_of, refused};

#[derive(Module)]
struct Net {
    encoder: Sequential,
    list: ModuleList,
    dict: ModuleDict,
    typed: ModuleList<Linear>,
    map: BTreeMap<String, Linear>,
    array: [Linear; 2],
    maybe: Option<Linear>,
    none: Option<Linear>,
    boxed: Box<dyn Forward>,
    hooked: Hooked<Box<dyn Forward>>,
    shared: Arc<Linear>,
    part: Part,
    attention: MultiheadAttention,
    norm: BatchNorm1d,
    scale: Param,
}

#[derive(Module)]
enum Part {
    One(Linear),
    Two { first: Linear, second: Sequential },
}

fn linear() -> Linear {
    Linear::new(2, 2)
}

fn net() -> Net {
    Net {
        encoder: sequential![linear(), sequential![ReLU, linear()]],
        list: vec![Box::new(linear()), Box::new(Tanh)],
        dict: ModuleDict::from([("a", Box::new(linear()) as Box<dyn Forward>)]),
        typed: vec![linear(), linear()],
        map: BTreeMap::from([("m".to_string(), linear())]),
        array: [linear(), linear()],
        maybe: Some(linear()),
        none: None,
        boxed: Box::new(Tanh),
        hooked: Hooked::new(Box::new(Tanh)),
        shared: Arc::new(linear()),
        part: Part::Two { first: linear(), second: sequential![Tanh] },
        attention: MultiheadAttention::new(4, 2),
        norm: BatchNorm1d::new(2),
        scale: Param::new(Tensor::ones([1])),
    }
}

const BOXES: [&str; 9] =
    ["encoder.0", "encoder.1", "encoder.1.0", "list.0", "list.1", "dict.a", "boxed", "hooked", "part.second.0"];
const FIELDS: [&str; 7] = ["typed.1", "map.m", "array.1", "maybe", "part.first", "encoder.1.1", "attention.out_proj"];

#[test]
fn modules_are_replaced_by_path() {
    let mut net = net();
    // Any layer into a box, a layer of the same type into a field.
    for path in BOXES {
        net.set_submodule::<f32>(path, Sigmoid).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(net.get_submodule(path).unwrap().type_name(), "Sigmoid");
        net.set_submodule(path, sequential![ReLU, linear()]).unwrap();
    }
    for path in &FIELDS[..6] {
        net.set_submodule(path, linear().bias(false)).unwrap_or_else(|e| panic!("{e}"));
        let found = net.get_submodule(path).unwrap() as &dyn Any;
        assert!(found.downcast_ref::<Linear>().unwrap().bias.is_none());
        if *path != "encoder.1.1" {
            let error = net.set_submodule::<f32>(path, Tanh).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::State);
            let part = format!(
                "set_submodule: `{path}` is a Linear, got a ndnn::nn::activation::Tanh; a field takes a module of exactly"
            );
            assert!(error.to_string().starts_with(&part), "{error}");
        }
    }
    *net.get_submodule_mut("attention").unwrap() = MultiheadAttention::new(8, 2);
    assert_eq!(net.get_parameter("attention.in_proj_weight").unwrap().shape(), [24, 8]);
    // Names are as before, and the new parameters are those of the model.
    assert_eq!(net.named_parameters()[1].0, "encoder.0.1.weight");
    assert!(net.get_parameter("scale").unwrap().is_same(&(&net.scale).into()));
    *net.get_submodule_mut::<Part>("part").unwrap() = Part::One(linear());
    assert_eq!(net.get_submodule("part.0").unwrap().type_name(), "Linear");
    // The model itself.
    let mut model: Sequential = sequential![Tanh];
    model.set_submodule::<f32>("", sequential![ReLU, Tanh]).unwrap();
    assert_eq!((model.len(), model.get_submodule("").unwrap().type_name()), (2, "Sequential".to_string()));
    let mut wide = sequential![f64; Linear::new(2, 2), Tanh];
    wide.set_submodule("0", Linear::new(2, 3).dtype::<f64>()).unwrap();
    wide.set_submodule::<f64>("1", ReLU).unwrap();
    assert_eq!(wide.forward(&Tensor::ones([1, 2])).unwrap().shape(), [1, 3]);
    assert!(wide.set_submodule("0", linear()).unwrap_err().to_string().contains("same input and element type"));
}

#[test]
fn paths_that_cannot_be_replaced_say_why() {
    let mut net = net();
    refused(
        net.set_submodule("list.2", linear()),
        ErrorKind::State,
        "set_submodule: there is no module `list.2`; there are encoder, encoder.0, encoder.1, encoder.1.0",
    );
    refused(net.get_submodule("none"), ErrorKind::State, "get_submodule: there is no module `none`; there are");
    refused(net.get_submodule("scale"), ErrorKind::State, "there is no module `scale`");
    // What is shared is replaced as an `Arc`, and cannot be changed in one of its places.
    refused(net.set_submodule("shared", linear()), ErrorKind::State, "one in an Arc is replaced as an Arc");
    *net.get_submodule_mut("shared").unwrap() = Arc::new(linear());
    let mut model: Sequential = sequential![Arc::new(sequential![Tanh, linear()])];
    refused(
        model.set_submodule("0.1", linear()),
        ErrorKind::State,
        "set_submodule: `0.1` cannot be changed at `1`: it is inside an Arc, or a module that does not show it in `child_mut`",
    );
    refused(
        model.get_submodule_mut::<Dropout>("0"),
        ErrorKind::State,
        "get_submodule_mut: `0` is a Sequential, got a ndnn::nn::dropout::Dropout; a field takes",
    );
}

#[test]
fn parameters_and_buffers_by_path() {
    let net = net();
    assert_eq!(net.get_parameter("encoder.1.1.weight").unwrap().shape(), [2, 2]);
    assert_eq!(net.get_buffer("norm.num_batches_tracked").unwrap().dtype(), ndnn::DType::I64);
    let small = sequential![BatchNorm1d::new(2)];
    refused(
        small.get_parameter("0.running_mean"),
        ErrorKind::State,
        "get_parameter: there is no parameter `0.running_mean`; there are 0.weight, 0.bias",
    );
    refused(
        small.get_buffer("0.weight"),
        ErrorKind::State,
        "get_buffer: there is no buffer `0.weight`; there are 0.running_mean, 0.running_var, 0.num_batches_tracked",
    );
    // A tied parameter under each of its names.
    let first = linear();
    let mut second = linear();
    second.weight = first.weight.clone();
    let tied = sequential![first, second];
    assert!(tied.get_parameter("0.weight").unwrap().is_same(&tied.get_parameter("1.weight").unwrap()));
}

/// Also through boxes, `Arc` and `Hooked`.
#[test]
fn modules_are_found_by_type() {
    let net = net();
    let found = |is: fn(&dyn Any) -> bool| {
        let modules = net.named_modules();
        modules.into_iter().filter(|(_, m)| is(*m)).map(|(path, _)| path).collect::<Vec<_>>()
    };
    let linears = ["encoder.0", "encoder.1.1", "list.0", "dict.a", "typed.0", "typed.1", "map.m", "array.0", "array.1"];
    assert_eq!(
        found(|m| m.is::<Linear>()),
        [&linears[..], &["maybe", "shared", "part.first", "attention.out_proj"]].concat()
    );
    assert_eq!(found(|m| m.is::<Tanh>()), ["list.1", "boxed", "hooked", "part.second.0"]);
    let mut visited = Vec::new();
    net.apply(|path, module| {
        if (module as &dyn Any).is::<Tanh>() {
            visited.push(path.to_string());
        }
    });
    assert_eq!(visited, ["list.1", "boxed", "hooked", "part.second.0"]);
}

/// Fields that wrap what they hold, and names with dots in a map.
#[test]
fn modules_in_wrappers_are_replaced() {
    #[derive(Module)]
    struct Wrapped {
        layer: Option<Box<dyn Forward>>,
        linear: Option<Box<Linear>>,
        inner: Option<Sequential>,
        boxed: Box<Sequential>,
        dicts: ModuleList<ModuleDict>,
        hooked: Hooked<Sequential>,
        map: BTreeMap<String, Sequential>,
    }
    let nested = || sequential![Tanh, sequential![Tanh]];
    let mut net = Wrapped {
        layer: Some(Box::new(Tanh)),
        linear: Some(Box::new(linear())),
        inner: Some(nested()),
        boxed: Box::new(nested()),
        dicts: vec![ModuleDict::from([("x", Box::new(Tanh) as Box<dyn Forward>)])],
        hooked: Hooked::new(nested()),
        map: ["a", "a.b", "a.b.c"].map(|name| (name.to_string(), nested())).into(),
    };
    let nested = ["inner", "boxed", "hooked", "map.a", "map.a.b", "map.a.b.c"].map(|path| format!("{path}.1.0"));
    for path in ["layer", "dicts.0.x"].into_iter().chain(nested.iter().map(String::as_str)) {
        net.set_submodule::<f32>(path, Sigmoid).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(net.get_submodule(path).unwrap().type_name(), "Sigmoid");
    }
    net.set_submodule("linear", linear().bias(false)).unwrap();
    assert!(net.linear.as_ref().unwrap().bias.is_none());
    for path in ["inner", "boxed", "hooked", "map.a", "map.a.b"] {
        net.set_submodule(path, sequential![linear()]).unwrap();
        let error = net.set_submodule::<f32>(path, ReLU).unwrap_err().to_string();
        assert!(error.starts_with(&format!("set_submodule: `{path}` is a Sequential, got a ")), "{error}");
    }
    // A layer that takes labels is replaced by its type.
    let mut tagger = sequential![Embedding::new(3, 2), linear()];
    refused(tagger.set_submodule("0", linear()), ErrorKind::State, "`0` is a Embedding, got a ");
    *tagger.get_submodule_mut("0").unwrap() = Embedding::new(5, 2);
    assert_eq!(tagger.get_parameter("0.weight").unwrap().shape(), [5, 2]);
}

#[test]
fn errors_of_what_has_nothing_inside() {
    refused(Tanh.get_submodule("x"), ErrorKind::State, "get_submodule: there is no module `x`; there are none");
    refused(Tanh.get_parameter("x"), ErrorKind::State, "get_parameter: there is no parameter `x`; there are none");
    refused(Tanh.get_buffer("x"), ErrorKind::State, "get_buffer: there is no buffer `x`; there are none");
    let hook = hooks::register_forward_hook(&Tanh, "x", |_, _, _| ());
    refused(hook, ErrorKind::State, "hooks: `x` matches no module; there are none");
    refused(Tanh.set_requires_grad_matching("x", true), ErrorKind::State, "`x` matches no parameter; there are none");
    refused(StateDict::new().strip_prefix("x"), ErrorKind::State, "no name begins with `x`; there are none");
    let state = StateDict::from([("x", Tensor::<f32>::ones([1]))]);
    let call = utils::functional_call(&Tanh, &state, || Ok(()));
    refused(call, ErrorKind::State, "functional_call: the model has no x; there are none");
    let empty: ModuleDict<Linear> = ModuleDict::new();
    assert_eq!(panic_of(|| empty["x"].weight.shape()), "Dict: there is no entry `x`; there are none");
}

/// A hook stays with the wrapper when the module in it is replaced.
#[test]
fn a_hook_stays_where_a_module_is_replaced() {
    let mut net = net();
    net.hooked.register_forward_hook(|_, y| y[0].get::<f32>().unwrap() * 0.0).keep();
    net.set_submodule("hooked", linear()).unwrap();
    assert_eq!(net.hooked.forward(&Tensor::ones([1, 2])).unwrap(), Tensor::zeros([1, 2]));
}
