//! Containers: changing sequences, lists and dicts.

use ndnn::{nn::Dict, prelude::*};

use super::common::panic_of;

#[test]
fn layers_are_inserted_removed_replaced_and_shared() {
    let mut model = sequential![Linear::new(2, 3), Linear::new(3, 1)];
    model.insert(1, Tanh);
    model.insert(3, Sigmoid);
    let names = |model: &Sequential| model.children().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    assert_eq!(names(&model), ["0", "1", "2", "3"]);
    assert_eq!(model.get::<Linear>(2).unwrap().weight.shape(), [1, 3]);
    assert!(model.get::<Linear>(1).is_none() && model.get::<Tanh>(4).is_none());

    // A slice shares parameters under their names.
    let part = model.slice(1..3);
    assert_eq!(part.named_parameters()[0].0, "2.weight");
    part.parameters()[0].set(&Tensor::<f32>::ones([1, 3]).into()).unwrap();
    assert_eq!(model.get::<Linear>(2).unwrap().weight.detach(), Tensor::ones([1, 3]));
    assert_eq!((model.slice(..).len(), model.slice(2..=3).len(), model.slice(4..).len()), (4, 2, 0));

    let old = model.replace(1, ReLU);
    assert_eq!((old.type_name(), model[1].type_name()), ("Tanh".into(), "ReLU".into()));
    assert_eq!(model.remove(0).type_name(), "Linear");
    assert_eq!(model.pop().unwrap().type_name(), "Sigmoid");
    assert_eq!(names(&model), ["0", "1"]);
    assert_eq!(model.forward(&Tensor::ones([1, 3])).unwrap().shape(), [1, 1]);

    // Names of one's own stay.
    let mut named = Sequential::<f32>::default().push_named("body", Tanh).push(Tanh);
    named.insert(0, ReLU);
    assert_eq!(names(&named), ["0", "body", "2"]);
    assert!(Sequential::<f32>::default().pop().is_none());
    let mut clash = Sequential::<f32>::default().push_named("2", Tanh).push(Tanh);
    assert_eq!(panic_of(|| clash.insert(0, ReLU)), "Sequential: two layers would be named `2`");
    assert_eq!(panic_of(|| named.insert(9, ReLU)), "Sequential: cannot insert at position 9 of 3 layers");
    assert_eq!(panic_of(|| named.remove(3)), "Sequential: there is no position 3 among 3 layers");
    assert_eq!(panic_of(|| named.replace(3, ReLU)), "Sequential: there is no position 3 among 3 layers");
    assert_eq!(panic_of(|| named.slice(2..5)), "Sequential: there is no slice 2..5 of 3 layers");
}

fn names(module: &impl Module) -> Vec<String> {
    module.children().into_iter().map(|(name, _)| name).collect()
}

/// A name clash is found before anything changes.
#[test]
fn a_caught_panic_loses_no_layers() {
    let model = || {
        let mut model = Sequential::<f32>::default().push(ReLU).push_named("3", Tanh).push(Sigmoid);
        model.append(Linear::new(2, 2));
        model
    };
    let clash = |name: &str| format!("Sequential: two layers would be named `{name}`");
    // `0`, `3`, `2`, and then `3` again.
    let first = Sequential::<f32>::default().push(ReLU).push_named("3", Tanh).push(Sigmoid);
    let mut appended = first.clone();
    assert_eq!(
        panic_of(|| appended.append(Tanh).len()),
        "Sequential: there is a layer named `3`; each needs a name of its own"
    );
    assert_eq!(names(&appended), ["0", "3", "2"]);
    let two = || [Box::new(Tanh) as Box<dyn Forward>, Box::new(ReLU)];
    assert_eq!(panic_of(|| appended.extend(two())), clash("3"));
    assert_eq!(names(&appended), ["0", "3", "2"]);
    assert_eq!(panic_of(|| appended.insert(0, ReLU)), clash("3"));
    assert_eq!(names(&appended), ["0", "3", "2"]);
    assert!(panic_of(model).contains("named `3`"));
    let mut removed = Sequential::<f32>::default().push_named("1", Tanh).push_named("x", ReLU).push(Sigmoid);
    assert_eq!(panic_of(|| drop(removed.remove(1))), clash("1"));
    assert_eq!(panic_of(|| drop(removed.drain(1..2))), clash("1"));
    assert_eq!(names(&removed), ["1", "x", "2"]);
    // An iterator that panics takes nothing along.
    assert_eq!(panic_of(|| removed.extend(std::iter::once_with(|| panic!("half way")))), "half way");
    assert_eq!(names(&removed), ["1", "x", "2"]);
}

#[test]
fn layers_by_index_range_and_type() {
    let mut model = sequential![Linear::new(2, 3), Dropout::new(0.5), Linear::new(3, 1)];
    assert_eq!((model[2].type_name(), model.layer(3).is_none()), ("Linear".into(), true));
    model[1].eval();
    assert!(!model.get::<Dropout>(1).unwrap().is_training() && model.get_mut::<Linear>(1).is_none());
    assert_eq!(panic_of(|| model[3].type_name()), "Sequential: there is no position 3 among 3 layers");
    model.append(Tanh).append_named("last", Sigmoid).extend(sequential![ReLU, Linear::new(1, 1)]);
    assert_eq!(names(&model), ["0", "1", "2", "3", "last", "5", "6"]);
    assert_eq!(model.drain(1..4).iter().map(|l| l.type_name()).collect::<Vec<_>>(), ["Dropout", "Linear", "Tanh"]);
    assert_eq!(names(&model), ["0", "last", "2", "3"]);
    assert_eq!(panic_of(|| drop(model.drain(3..5))), "Sequential: there is no slice 3..5 of 4 layers");
    // With labels as the input, the layers are there by type; through boxes and shared layers, too.
    let mut tagger = sequential![Embedding::new(10, 4), std::sync::Arc::new(Linear::new(4, 2))];
    assert_eq!(tagger.get::<Embedding>(0).unwrap().weight.shape(), [10, 4]);
    assert_eq!(tagger.get::<Linear>(1).unwrap().weight.shape(), [2, 4]);
    assert!(tagger.get::<std::sync::Arc<Linear>>(1).is_some() && tagger.get::<std::sync::Arc<Embedding>>(1).is_none());
    *tagger.get_mut(0).unwrap() = Embedding::new(5, 4);
    assert_eq!(tagger.named_parameters()[0].1.shape(), [5, 4]);
}

#[test]
fn a_dict_is_changed_as_a_map() {
    let size = |head: &Linear| head.weight.shape()[0];
    let mut heads = ModuleDict::from([("a", Linear::new(2, 1)), ("b", Linear::new(2, 2))]);
    assert!(heads.insert("c", Linear::new(2, 3)).is_none());
    assert_eq!(size(&heads.insert("a", Linear::new(2, 4)).unwrap()), 1);
    let sizes = |heads: &ModuleDict<Linear>| heads.values().map(size).collect::<Vec<_>>();
    assert_eq!((names(&heads), sizes(&heads)), (vec!["a".into(), "b".into(), "c".into()], vec![4, 2, 3]));
    assert!(heads.contains_key("b") && !heads.contains_key("d"));
    assert_eq!(size(&heads.remove("b").unwrap()), 2);
    assert!(heads.remove("b").is_none());
    *heads.get_mut("c").unwrap() = Linear::new(2, 5);
    assert_eq!(size(heads.get_or_insert_with("c", || unreachable!())), 5);
    assert_eq!(size(heads.get_or_insert_with("d", || Linear::new(2, 6))), 6);
    assert_eq!(heads.keys().rev().collect::<Vec<_>>(), ["d", "c", "a"]);
    heads.values_mut().for_each(|head| head.eval());
    heads.extend([("e", Linear::new(2, 7)), ("a", Linear::new(2, 8))]);
    assert_eq!(sizes(&heads), [8, 5, 6, 7]);
    assert_eq!(heads.pop_last().map(|(name, head)| (name, size(&head))), Some(("e".to_string(), 7)));
    assert_eq!(heads.iter_mut().map(|(name, head)| (name.to_string(), size(head))).next_back(), Some(("d".into(), 6)));
    assert_eq!(panic_of(|| size(&heads["x"])), "Dict: there is no entry `x`; there are a, c, d");
    let dotted = [("f", Linear::new(2, 1)), ("g.h", Linear::new(2, 1))];
    assert!(panic_of(|| heads.extend(dotted)).contains("got `g.h`"));
    assert_eq!((sizes(&heads), size(&heads["d"])), (vec![8, 5, 6], 6));
    assert!(heads.to_string().starts_with("ModuleDict(\n  (a): Linear(in_features=2, out_features=8"));
    assert_eq!(heads.clone().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "c", "d"]);
    heads.clear();
    assert!(heads.is_empty() && heads.pop_last().is_none());
}

/// Against a list of pairs.
#[test]
fn a_dict_keeps_its_order_whatever_is_done() {
    let (mut dict, mut pairs, mut state) = (Dict::new(), Vec::<(String, usize)>::new(), 1u64);
    for step in 0..3000 {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (name, what) = (format!("n{}", (state >> 33) % 12), (state >> 60) % 12);
        let at = pairs.iter().position(|(n, _)| *n == name);
        match what {
            0..4 => {
                let old = at.map(|at| std::mem::replace(&mut pairs[at].1, step));
                if at.is_none() {
                    pairs.push((name.clone(), step));
                }
                assert_eq!(dict.insert(&name, step), old);
            }
            4..9 => assert_eq!(dict.remove(&name), at.map(|at| pairs.remove(at).1)),
            9 => assert_eq!(dict.pop_last(), pairs.pop()),
            10 => assert_eq!(dict.get_mut(&name).copied(), at.map(|at| pairs[at].1)),
            _ => {
                if at.is_none() {
                    pairs.push((name.clone(), step));
                }
                let value = *dict.get_or_insert_with(&name, || step);
                assert_eq!(pairs.iter().find(|(n, _)| *n == name).unwrap().1, value);
            }
        }
        assert!(dict.iter().eq(pairs.iter().map(|(name, value)| (name.as_str(), value))), "step {step}");
        assert!(dict.keys().rev().eq(pairs.iter().rev().map(|(name, _)| name.as_str())));
        assert_eq!((dict.len(), dict.get(&name)), (pairs.len(), pairs.iter().find(|p| p.0 == name).map(|p| &p.1)));
    }
}

#[test]
fn lists_and_dicts_of_parameters_are_changed_as_a_vec_and_a_map() {
    let param = |n: usize| Param::<f32>::new(Tensor::zeros([n]));
    let sizes = |module: &dyn Module| module.parameters().iter().map(|p| p.numel()).collect::<Vec<_>>();
    let mut list: ParameterList = (1..4).map(param).collect();
    list.push(param(4));
    list.insert(0, param(5));
    list.extend([param(6)]);
    assert_eq!((list.pop().unwrap().numel(), list.remove(1).numel(), sizes(&list)), (6, 1, vec![5, 2, 3, 4]));
    list[0] = param(7);
    assert_eq!((sizes(&list), list[1..3].len(), list.into_iter().count()), (vec![7, 2, 3, 4], 2, 4));
    let mut dict = ParameterDict::from([("a", param(1)), ("b", param(2))]);
    dict.extend(ParameterDict::from([("b", param(3)), ("c", param(4))]));
    assert_eq!((sizes(&dict), dict.remove("a").unwrap().numel()), (vec![1, 3, 4], 1));
    assert_eq!((dict.pop_last().unwrap().0, dict.get_or_insert_with("d", || param(8)).numel()), ("c".into(), 8));
    assert_eq!(dict.named_parameters().into_iter().map(|(name, _)| name).collect::<Vec<_>>(), ["b", "d"]);
    dict.clear();
    assert!(dict.is_empty());
}
