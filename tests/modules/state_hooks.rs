//! Hooks of saving and loading: their order, what they see and change, and that a refused load changes nothing.

use std::{
    any::Any,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ndnn::{
    AnyTensor,
    module::{
        LoadReport,
        hooks::{self, Hooked},
    },
    nn::StateDict,
    prelude::*,
};

use super::common::panic_of;

fn model() -> Sequential {
    sequential![Linear::new(2, 2), sequential![BatchNorm1d::new(2), Tanh]]
}

/// As PyTorch's, printed by the same hooks there, but that there those before and after alternate.
#[test]
fn hooks_of_a_state_dict_have_pytorchs_order() {
    let (model, log) = (model(), Arc::new(Mutex::new(Vec::new())));
    let below = |state: &StateDict, prefix: &str| state.keys().filter(|name| name.starts_with(prefix)).count();
    let note = |log: &Arc<Mutex<Vec<String>>>| {
        let log = log.clone();
        move |line: String| log.lock().unwrap().push(line)
    };
    let [pre, post, load_pre, load_post] = [note(&log), note(&log), note(&log), note(&log)];
    let handles = [
        hooks::register_state_dict_pre_hook(&model, "*", move |prefix, m| {
            pre(format!("pre `{prefix}` {}", m.type_name()));
        }),
        hooks::register_state_dict_post_hook(&model, "*", move |prefix, _, state| {
            post(format!("post `{prefix}` {}", below(state, prefix)));
        }),
        hooks::register_load_state_dict_pre_hook(&model, "*", move |prefix, _, state| {
            load_pre(format!("load pre `{prefix}` {}", below(state, prefix)));
        }),
        hooks::register_load_state_dict_post_hook(&model, "*", move |_, m, report| {
            let names = |list: &[(String, Vec<usize>)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
            let (missing, unexpected) = (names(&report.missing), names(&report.unexpected));
            load_post(format!("load post {} {missing:?} {unexpected:?}", m.type_name()));
        }),
    ]
    .map(Result::unwrap);
    let mut state = model.state_dict();
    let saved =
        ["pre `` Sequential", "pre `0.` Linear", "pre `1.` Sequential", "pre `1.0.` BatchNorm1d", "pre `1.1.` Tanh"];
    let made = ["post `0.` 2", "post `1.0.` 5", "post `1.1.` 0", "post `1.` 5", "post `` 7"];
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), [saved, made].concat());
    drop(state.remove("1.0.running_mean"));
    state.insert("1.1.x", Tensor::<f32>::zeros([1]));
    let report = model.load_state_dict_partial(&state).unwrap();
    assert_eq!((report.missing.len(), report.unexpected.len(), report.applied.len()), (1, 1, 6));
    let before = ["load pre `` 7", "load pre `0.` 2", "load pre `1.` 5", "load pre `1.0.` 4", "load pre `1.1.` 1"];
    let lists = r#"["1.0.running_mean"] ["1.1.x"]"#;
    let after = ["Linear", "BatchNorm1d", "Tanh", "Sequential", "Sequential"].map(|m| format!("load post {m} {lists}"));
    assert_eq!(std::mem::take(&mut *log.lock().unwrap()), [before.map(String::from), after].concat());
    // Files take the same way; and a removed hook is gone.
    model.load_bytes(&model.to_bytes().unwrap()).unwrap();
    assert_eq!(log.lock().unwrap().len(), 20);
    drop(handles);
    model.load_state_dict(&model.state_dict()).unwrap();
    assert_eq!(log.lock().unwrap().len(), 20);
    let error = hooks::register_state_dict_pre_hook(&model, "2", |_, _| ()).unwrap_err().to_string();
    assert!(error.contains("`2` matches no module; there are 0, 1, 1.0, 1.1"), "{error}");
}

#[test]
fn hooks_change_what_is_saved_and_what_is_loaded() {
    let model = model();
    // A pre-hook changes the module itself.
    let zero = hooks::register_state_dict_pre_hook(&model, "0", |_, module| {
        let linear = (module as &dyn Any).downcast_ref::<Linear>().unwrap();
        linear.weight.set(&Tensor::zeros([2, 2])).unwrap();
    });
    let renamed = hooks::register_state_dict_post_hook(&model, "0", |prefix, _, state| {
        let bias = state.remove(&format!("{prefix}bias")).unwrap();
        state.insert(format!("{prefix}b"), bias);
    });
    let state = model.state_dict();
    assert_eq!(state.get("0.weight").unwrap().get(), Some(Tensor::<f32>::zeros([2, 2])));
    assert_eq!(state.keys().last(), Some("0.b"));
    drop((zero, renamed));
    let other = self::model();
    assert!(
        other.load_state_dict(&state).unwrap_err().to_string().contains("missing: 0.bias [2]; unexpected: 0.b [2]")
    );
    let _back = hooks::register_load_state_dict_pre_hook(&other, "0", |prefix, _, state| {
        let bias = state.remove(&format!("{prefix}b")).unwrap();
        state.insert(format!("{prefix}bias"), bias);
    });
    other.load_state_dict(&state).unwrap();
    assert_eq!(state.keys().last(), Some("0.b"), "the caller's is as it was");
    assert_eq!(other.parameters()[1].detach().get::<f32>(), model.parameters()[1].detach().get::<f32>());
}

#[test]
fn a_hook_that_panics_leaves_nothing_behind() {
    let model = model();
    let state = model.state_dict();
    let before = model.parameters()[0].detach().get::<f32>();
    let changed = StateDict::from_iter(state.clone().into_iter().map(|(name, t)| match t.get::<f32>() {
        Some(t) => (name, (t + 1.0).into()),
        None => (name, t),
    }));
    let pre = hooks::register_state_dict_pre_hook(&model, "1", |prefix, _| panic!("before {prefix}")).unwrap();
    assert_eq!(panic_of(|| model.state_dict()), "before 1.");
    drop(pre);
    let post = hooks::register_state_dict_post_hook(&model, "1", |prefix, _, _| panic!("after {prefix}")).unwrap();
    assert_eq!(panic_of(|| model.to_bytes()), "after 1.");
    drop(post);
    let load = hooks::register_load_state_dict_pre_hook(&model, "1", |prefix, _, _| panic!("load {prefix}")).unwrap();
    assert_eq!(panic_of(|| model.load_state_dict(&changed)), "load 1.");
    assert_eq!(model.parameters()[0].detach().get::<f32>(), before);
    drop(load);
    model.load_state_dict(&changed).unwrap();
    assert_eq!((model.state_dict().len(), model.parameters()[0].detach().get::<f32>() == before), (state.len(), false));
}

/// It runs for each place, with its prefix.
#[test]
fn a_hook_of_a_module_in_two_places_renames_in_both() {
    let shared = Arc::new(Linear::new(2, 2));
    let model = sequential![shared.clone(), Tanh, shared];
    let old = model.state_dict().rename(|name| name.replace("weight", "w")).unwrap();
    assert!(model.load_state_dict(&old).is_err());
    let _rename = hooks::register_load_state_dict_pre_hook(&model, "0", |prefix, _, state| {
        let weight = state.remove(&format!("{prefix}w")).unwrap();
        state.insert(format!("{prefix}weight"), weight);
    })
    .unwrap();
    model.load_state_dict(&old).unwrap();
    assert_eq!(model.load_state_dict_partial(&old).unwrap().applied.len(), 4);
}

#[test]
fn a_hook_after_loading_decides() {
    let layer = || sequential![Linear::new(2, 1), LazyLinear::new(3)];
    let (model, source) = (layer(), layer());
    let _ = source.forward(&Tensor::ones([1, 2])).unwrap();
    let (before, mut state) = (model.parameters()[0].detach(), source.state_dict());
    let get = |t: &AnyTensor| t.get::<f32>().unwrap();
    let is_as_before = || {
        assert_eq!(get(&model.parameters()[0].detach()), get(&before));
        assert!(model.parameters()[2].is_lazy(), "it has no values again");
    };
    // An added entry makes the load fail, and what the hook saw is taken back.
    let new = get(state.get("0.weight").unwrap());
    let refuse = hooks::register_load_state_dict_post_hook(&model, "0", move |prefix, module, report| {
        let linear = (module as &dyn Any).downcast_ref::<Linear>().unwrap();
        assert_eq!(linear.weight.detach(), new);
        report.missing.push((format!("{prefix}scale"), vec![1]));
    });
    let error = model.load_state_dict(&state).unwrap_err().to_string();
    assert_eq!(error, "load_state_dict: missing: 0.scale [1]; nothing was changed");
    is_as_before();
    drop(refuse);
    // So does a panic.
    let panics = hooks::register_load_state_dict_post_hook(&model, "", |_, _, _| panic!("half way"));
    assert_eq!(panic_of(|| model.load_state_dict(&state)), "half way");
    is_as_before();
    drop(panics);
    // A hook forgives what is missing and unexpected.
    state.insert("old", Tensor::<f32>::zeros([1]));
    drop(state.remove("0.bias"));
    assert!(model.load_state_dict(&state).is_err());
    is_as_before();
    let forgive = |_: &str, _: &dyn Module, report: &mut LoadReport| {
        report.missing.clear();
        report.unexpected.clear();
    };
    let _forgive = hooks::register_load_state_dict_post_hook(&model, "", forgive);
    model.load_state_dict(&state).unwrap();
    assert_eq!(get(&model.parameters()[0].detach()), get(state.get("0.weight").unwrap()));
    assert!(!model.parameters()[2].is_lazy());
}

#[test]
fn a_hooked_module_keeps_its_hooks_of_state() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let mut layer = Hooked::new(Linear::new(2, 1));
    let count = |_: &str, _: &dyn Module| {
        CALLS.fetch_add(1, Relaxed);
    };
    let handle = layer.register_state_dict_pre_hook(count);
    layer.register_load_state_dict_pre_hook(|prefix, _, _| assert_eq!(prefix, "1.")).keep();
    layer.register_state_dict_post_hook(|prefix, _, state| state.insert(format!("{prefix}n"), tensor![1])).keep();
    layer.register_load_state_dict_post_hook(|_, _, report| report.unexpected.clear()).keep();
    layer.eval();
    let model = sequential![Tanh, layer];
    let state = model.state_dict();
    assert_eq!(state.keys().collect::<Vec<_>>(), ["1.weight", "1.bias", "1.n"]);
    model.load_state_dict(&state).unwrap();
    assert_eq!((CALLS.load(Relaxed), model.clone().state_dict().len()), (1, 2), "a clone has no hooks");
    handle.remove();
    assert_eq!((model.state_dict().len(), CALLS.load(Relaxed)), (3, 1));
}
