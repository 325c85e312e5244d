//! State and its files: names, order, many entries, and messages for what does not match.

use std::{collections::BTreeMap, fs, sync::Arc};

use ndnn::{ErrorKind, io::safetensors, module::hooks::Hooked, nn::StateDict, prelude::*};

use super::{Folder, common::panic_of, values};

fn layer() -> Linear {
    Linear::new(1, 1)
}

/// Checks the beginning of the panic's text.
#[track_caller]
fn panics(expected: &str, f: impl FnOnce()) {
    let text = panic_of(f);
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn a_name_stands_for_one_thing() {
    let twice = "Sequential: there is a layer named `a`; each needs a name of its own";
    panics(twice, || drop(Sequential::default().push_named("a", layer()).push_named("a", layer())));
    panics("Sequential: there is a layer named `1`", || {
        drop(Sequential::default().push_named("1", layer()).push(layer()))
    });
    let dot = "a name has no dot, which separates the parts of a path; got `a.b`";
    panics(&format!("Sequential: {dot}"), || drop(Sequential::default().push_named("a.b", layer())));
    panics("Sequential: a name cannot be empty", || drop(Sequential::default().push_named("", layer())));
    panics(&format!("insert: {dot}"), || drop(ModuleDict::from([("a.b", layer())])));
    panics("insert: a name cannot be empty", || drop(ParameterDict::from([("", Param::new(tensor![1.0]))])));
    let heads = ModuleDict::from([("a", Linear::new(1, 2)), ("b", layer()), ("a", Linear::new(1, 3))]);
    assert_eq!(heads.iter().map(|(n, l)| (n, l.weight.shape()[0])).collect::<Vec<_>>(), [("a", 3), ("b", 1)]);
    assert_eq!(heads.state_dict().len(), 4);

    let pairs = [("b", 1.0), ("a", 2.0), ("b", 3.0)].map(|(n, x)| (n.to_string(), tensor![x; f32].into()));
    let state: StateDict = pairs.into_iter().collect();
    let again = safetensors::from_bytes(&safetensors::to_bytes(&state).unwrap()).unwrap();
    for state in [state, again] {
        let values: Vec<_> = state.iter().map(|(n, t)| (n, t.to::<f32>().to_vec())).collect();
        assert_eq!(values, [("b", vec![3.0]), ("a", vec![2.0])]);
    }
}

#[test]
fn two_entries_of_one_name_are_not_saved() {
    let folder = Folder::new("twice");
    // Keys with dots, in a map of the user's own.
    #[derive(Module)]
    struct Clash {
        maps: BTreeMap<String, Sequential>,
    }
    let inner = || Sequential::default().push_named("b", sequential![layer()]);
    let maps = [("a".to_string(), inner()), ("a.b".to_string(), sequential![layer()])].into();
    let net = Clash { maps };
    let two = "the model has two entries named `maps.a.b.0.weight`; give each module a name of its own";
    let is = |error: ndnn::Error, op: &str| {
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::State, format!("{op}: {two}")));
    };
    is(net.to_bytes().unwrap_err(), "to_bytes");
    is(net.save(folder.0.join("a")).unwrap_err(), "save");
    is(net.load_state_dict(&StateDict::new()).unwrap_err(), "load_state_dict");
    is(net.load_state_dict_partial(&StateDict::new()).unwrap_err(), "load_state_dict_partial");
    panics(&format!("state_dict: {two}"), || drop(net.state_dict()));
    assert!(folder.names().is_empty());
}

#[test]
fn what_cannot_be_read_back_is_not_written() {
    let folder = Folder::new("metadata");
    let path = folder.0.join("a");
    fs::write(&path, "old").unwrap();
    let mut state = layer().state_dict();
    state.insert("__metadata__", tensor![1.0]);
    let text = "safetensors: a tensor cannot be named `__metadata__`, which the format keeps for remarks; rename it";
    for error in [safetensors::to_bytes(&state).unwrap_err(), safetensors::save(&path, &state).unwrap_err()] {
        assert_eq!((error.kind(), error.to_string().as_str()), (ErrorKind::Format, text));
    }
    assert_eq!((fs::read_to_string(&path).unwrap().as_str(), folder.names().len()), ("old", 1));
    // In a file it is metadata, and every other name survives writing and reading.
    state.remove("__metadata__");
    for name in ["", "a\"b\\c", "ä\n\u{1}\u{1F600}", "__metadata__.weight"] {
        state.insert(name, tensor![2.0]);
    }
    let again = safetensors::from_bytes(&safetensors::to_bytes(&state).unwrap()).unwrap();
    assert_eq!(again.keys().collect::<Vec<_>>(), state.keys().collect::<Vec<_>>());
    let header = r#"{"__metadata__":{"format":"pt"},"x":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}}"#;
    let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[1]].concat();
    assert_eq!(safetensors::from_bytes(&bytes).unwrap().keys().collect::<Vec<_>>(), ["x"]);
}

#[test]
fn a_file_keeps_the_order() {
    let folder = Folder::new("order");
    let mut state = StateDict::new();
    for i in 0..40 {
        // An order that is not sorted by name, type or size; several tensors are empty, and so begin where the next one
        // begins.
        let (name, n) = (format!("{}", (i * 17) % 40), i % 3);
        match i % 4 {
            0 => state.insert(name, Tensor::<bool>::zeros([n])),
            1 => state.insert(name, Tensor::<f32>::full([n], i as f32)),
            2 => state.insert(name, Tensor::<i64>::full([n, 1], i as i64)),
            _ => state.insert(name, Tensor::<f64>::full([n], i as f64)),
        }
    }
    let path = folder.0.join("a");
    safetensors::save(&path, &state).unwrap();
    let bytes = safetensors::to_bytes(&state).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    let again = safetensors::load(&path).unwrap();
    let all = |s: &StateDict| s.iter().map(|(n, t)| (n.to_string(), t.dtype(), t.to::<f64>())).collect::<Vec<_>>();
    assert_eq!(all(&again), all(&state));
    // Each tensor begins at a multiple of its element's width, as PyTorch's reader requires.
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    for entry in header.as_object().unwrap().values() {
        let width = match entry["dtype"].as_str().unwrap() {
            "BOOL" => 1,
            "F32" => 4,
            _ => 8,
        };
        assert_eq!(entry["data_offsets"][0].as_u64().unwrap() % width, 0);
    }
    assert_eq!(length % 8, 0);
    // A header whose order differs from that of its bytes.
    let header = r#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    let data = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
    let state =
        safetensors::from_bytes(&[&(header.len() as u64).to_le_bytes(), header.as_bytes(), &data].concat()).unwrap();
    let values: Vec<_> = state.iter().map(|(n, t)| (n, t.to::<f32>().to_vec())).collect();
    assert_eq!(values, [("b", vec![2.0]), ("a", vec![1.0])]);
}

/// If any step looked at all names for each name, it would take 10^10 comparisons, which is minutes.
#[test]
fn a_hundred_thousand_names() {
    let mut net: ParameterDict = ParameterDict::default();
    net.extend((0..100_000).map(|i| (i.to_string(), Param::new(Tensor::zeros([])))));
    let ones: StateDict = net.state_dict().into_iter().map(|(n, t)| (n, (t.to::<f32>() + 1.0).into())).collect();
    let state = safetensors::from_bytes(&safetensors::to_bytes(&ones).unwrap()).unwrap();
    net.load_state_dict(&state).unwrap();
    assert!(net.iter().all(|(_, p)| p.detach().item().unwrap() == 1.0));
    assert!(net.load_state_dict_partial(&state).unwrap().is_complete());
    let prefixed: StateDict = state.into_iter().map(|(n, t)| (format!("module.{n}"), t)).collect();
    let error = net.load_state_dict(&prefixed).unwrap_err().to_string();
    assert!(error.contains("and 99990 more") && error.len() < 1000, "{error}");
    let layers = (0..30_000).fold(Sequential::<f32>::default(), |all, _| all.push(Dropout::new(0.5)));
    assert_eq!((layers.len(), layers.clone().named_modules().len()), (30_000, 30_000));
}

// ------------------------------------------------------------------------------------------------- what does not fit, and why

fn renamed(state: StateDict, name: impl Fn(&str) -> String) -> StateDict {
    state.into_iter().map(|(n, t)| (name(&n), t)).collect()
}

#[test]
fn a_common_prefix_is_noticed() {
    let net = sequential![Linear::new(2, 3), Linear::new(3, 1)];
    let before = values(&net);
    let wrapped = renamed(net.state_dict(), |n| format!("module.{n}"));
    let error = net.load_state_dict(&wrapped).unwrap_err();
    let expected = "load_state_dict: 4 of the 4 unexpected names would fit with the prefix `module.` removed; missing: \
                    0.weight [3, 2], 0.bias [3], 1.weight [1, 3], 1.bias [1]; unexpected: module.0.weight [3, 2], \
                    module.0.bias [3], module.1.weight [1, 3], module.1.bias [1]; nothing was changed";
    assert_eq!(error.to_string(), expected);
    let partial = |net: &Sequential, state: &StateDict| net.load_state_dict_partial(state).unwrap_err().to_string();
    assert_eq!(
        partial(&net, &wrapped),
        "load_state_dict_partial: none of the 4 names fits; they would with the prefix `module.` removed; nothing was changed"
    );
    let deep = renamed(net.state_dict(), |n| format!("model.net.{n}"));
    assert!(partial(&net, &deep).contains("they would with the prefix `model.net.` removed"));
    let mut more = wrapped;
    more.insert("optimizer.step", tensor![1]);
    assert!(
        partial(&net, &more).contains("none of the 5 names fits; 4 of them would with the prefix `module.` removed")
    );
    let outer = Sequential::default().push_named("body", net.clone());
    assert!(partial(&outer, &net.state_dict()).contains("they would with the prefix `body.` added"));
    // For these no prefix helps.
    assert_eq!(
        partial(&net, &StateDict::new()),
        "load_state_dict_partial: the state_dict is empty; nothing was changed"
    );
    let other = renamed(net.state_dict(), |n| format!("x_{n}"));
    let text = partial(&net, &other);
    assert!(
        text.starts_with("load_state_dict_partial: none of the 4 names fits; missing: 0.weight [3, 2], "),
        "{text}"
    );
    let wider = sequential![Linear::new(5, 4), Linear::new(4, 6)].state_dict();
    assert!(
        partial(&net, &wider)
            .contains("none of the 4 names fits; of another shape: 0.weight (model [3, 2], file [4, 5])")
    );
    assert!(!partial(&net, &renamed(wider, |n| format!("module.{n}"))).contains("prefix"));
    assert_eq!(values(&net), before);
    // Nothing to load, and nothing given.
    let nothing: Sequential = sequential![ReLU];
    assert!(nothing.load_state_dict_partial(&StateDict::new()).unwrap().is_complete());
}

#[test]
fn long_lists_are_cut_in_messages_and_whole_in_the_report() {
    let net: ModuleList<Linear> = (0..30).map(|_| layer()).collect();
    let mut state = StateDict::new();
    state.insert("0.weight", tensor![[2.0]]);
    let text = net.load_state_dict(&state).unwrap_err().to_string();
    let shown = "missing: 0.bias [1], 1.weight [1, 1], 1.bias [1], 2.weight [1, 1], 2.bias [1], 3.weight [1, 1], 3.bias [1], \
                 4.weight [1, 1], 4.bias [1], 5.weight [1, 1] and 49 more";
    assert_eq!(text, format!("load_state_dict: {shown}; nothing was changed"));
    let report = net.load_state_dict_partial(&state).unwrap();
    assert_eq!((report.to_string(), report.missing.len()), (format!("applied 1; {shown}"), 59));
    let error = net.set_requires_grad_matching("head.*", false).unwrap_err().to_string();
    assert!(error.ends_with("4.weight, 4.bias and 50 more"), "{error}");
}

#[test]
fn files_of_another_kind_are_recognised() {
    let folder = Folder::new("kinds");
    let path = folder.0.join("net.pt");
    let pytorch = " but look like PyTorch's own format, as torch.save writes it; write them in Python with \
                   safetensors.torch.save_file(model.state_dict(), path): ";
    let lfs = " but a pointer of Git LFS to one; fetch the file itself with `git lfs pull`: ";
    // This file has no end.
    #[cfg(unix)]
    assert_eq!(safetensors::load("/dev/zero").unwrap_err().kind(), ErrorKind::Format);
    // torch.save's archive, its older form, a plain pickle, and files that are none of them.
    let zip = [b"PK\x03\x04\x00\x00\x08\x08\x00\x00".as_slice(), &[0; 200]].concat();
    let kinds: [(&[u8], &str); 6] = [
        (&zip, pytorch),
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.", pytorch),
        (b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00}\x94.", pytorch),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", lfs),
        (b"<!DOCTYPE html><html></html>", ": "),
        (b"PK", ": "),
    ];
    for (bytes, hint) in kinds {
        fs::write(&path, bytes).unwrap();
        let expected = format!("safetensors: this is not a safetensors file{hint}");
        for error in [layer().load(&path).unwrap_err(), layer().load_bytes(bytes).unwrap_err()] {
            assert_eq!(error.kind(), ErrorKind::Format);
            assert!(error.to_string().starts_with(&expected), "{error}");
        }
    }
}

#[test]
fn an_older_file_reaches_what_stands_in_anothers_place() {
    #[derive(Module)]
    struct Wrapped<M> {
        #[module(flatten)]
        inner: M,
    }
    let norm = || BatchNorm1d::new(2);
    let mut old = norm().state_dict();
    assert!(old.remove("num_batches_tracked").is_some());
    Wrapped { inner: norm() }.load_state_dict(&old).unwrap();
    Hooked::new(norm()).load_state_dict(&old).unwrap();
    Box::new(norm()).load_state_dict(&old).unwrap();
    Arc::new(Wrapped { inner: Box::new(norm()) }).load_state_dict(&old).unwrap();
}
