//! Options by name, and the state_dict of an optimizer.

use ndnn::{
    ErrorKind,
    io::safetensors,
    nn::StateDict,
    optim::{self, Adam, AdamOptions, AdamW, GroupOptions, RMSprop, SGD},
    prelude::*,
    random::{self, Generator, SeedableRng},
};

use super::{close, param, value};

#[test]
fn options_by_name() {
    let mut adam = AdamOptions::new(0.1);
    let names = ["lr", "betas.0", "betas.1", "eps", "weight_decay", "amsgrad", "maximize"];
    assert_eq!(AdamOptions::names(), names);
    assert_eq!(names.map(|name| adam.get(name).unwrap()), [0.1, 0.9, 0.999, 1e-8, 0., 0., 0.]);
    for (name, value) in names.iter().zip([0.2, 0.5, 0.25, 1e-3, 0.75, 1., 1.]) {
        adam.set(name, value).unwrap();
        assert_eq!(adam.get(name).unwrap(), value);
    }
    let by_setters = AdamOptions::new(0.2).betas((0.5, 0.25)).eps(1e-3).weight_decay(0.75).amsgrad(true).maximize(true);
    assert_eq!(adam, by_setters);
    for (name, value, message) in [
        ("lr", -1., "a learning rate is at least 0 and finite, got -1.0"),
        ("betas.1", 1., "betas are at least 0 and below 1, got (0.5, 1.0)"),
        ("eps", f64::NAN, "eps is at least 0 and finite, got nan"),
        ("amsgrad", 0.5, "amsgrad is 0 or 1, got 0.5"),
        (
            "momentum",
            0.5,
            "there is no option `momentum`; there are lr, betas.0, betas.1, eps, weight_decay, amsgrad, maximize",
        ),
        (
            "betas",
            0.5,
            "there is no option `betas`; there are lr, betas.0, betas.1, eps, weight_decay, amsgrad, maximize",
        ),
    ] {
        let error = adam.set(name, value).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::Value, format!("AdamOptions: {message}")));
        assert_eq!(adam, by_setters);
    }
    assert!(adam.get("betas.2").is_err());
    // An option can be set even if another one is out of range.
    adam.eps = -1.;
    adam.set("lr", 0.5).unwrap();
}

/// As a schedule does it: over any optimizer, of which it knows only names.
#[test]
fn options_of_any_optimizer() {
    let model = sequential![Linear::new(3, 4), Linear::new(4, 1)];
    let sgd = SGD::new(&model, 0.1).momentum(0.9).group("1.*", |g| g.lr(0.2)).unwrap();
    let mut any: Vec<Box<dyn Optimizer>> = vec![Box::new(sgd), Box::new(AdamW::new(&model, 0.3))];
    let momentum = |o: &dyn Optimizer| *["momentum", "betas.0"].iter().find(|&&n| o.option(0, n).is_ok()).unwrap();
    for o in &mut any {
        let name = momentum(&**o);
        for group in 0..o.group_count() {
            let lr = o.option(group, "lr").unwrap();
            o.set_option(group, "lr", lr / 2.).unwrap();
            o.set_option(group, name, 0.5).unwrap();
        }
    }
    let sgd = &any[0];
    assert_eq!((sgd.group_count(), sgd.option(0, "lr").unwrap(), sgd.option(1, "lr").unwrap()), (2, 0.05, 0.1));
    assert_eq!((any[1].lr(), any[1].option(0, "betas.0").unwrap()), (0.15, 0.5));
    assert_eq!(any[1].option_names()[..2], ["lr", "betas.0"]);
    let error = any[0].set_option(2, "lr", 0.).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string()),
        (ErrorKind::Index, "set_option: there is no group 2; there are 2".into())
    );
    assert_eq!(any[0].option(7, "lr").unwrap_err().to_string(), "option: there is no group 7; there are 2");
    // `step_with` of a boxed optimizer.
    let loss: Tensor<f32> = any[0]
        .step_with(|| {
            model.zero_grad();
            let loss = model.forward(&Tensor::ones([2, 3]))?.square().sum();
            loss.backward()?;
            Ok(loss)
        })
        .unwrap();
    assert!(loss.item().unwrap() > 0.);
}

/// Trains for some steps; returns the bits of the losses.
fn train<O: Optimizer>(model: &Sequential, optimizer: &mut O, from: usize, to: usize) -> Vec<u32> {
    let batch = |step: usize| {
        let x: Tensor = Tensor::from_vec([4, 3], (0..12).map(|i| ((i + 5 * step) % 7) as f32 - 3.).collect()).unwrap();
        (x.clone(), x.narrow(1, 0, 1).unwrap().square())
    };
    let step = |step| {
        let (x, y) = batch(step);
        let loss = (model.forward(&x).unwrap() - &y).square().mean();
        optimizer.zero_grad();
        loss.backward().unwrap();
        optimizer.step().unwrap();
        loss.item().unwrap().to_bits()
    };
    (from..to).map(step).collect()
}

/// Ten steps equal five steps, saving, loading into a new model and optimizer, and five more, bit for bit.
fn resumes<O: Optimizer>(make: impl Fn(&Sequential) -> O, slots: &[&str]) {
    // Not from the generator of the process, from which other tests draw at the same time.
    let model = || {
        let mut rng = Generator::seed_from_u64(1);
        random::with(&mut rng, || sequential![Linear::new(3, 8), Tanh, Linear::new(8, 1)])
    };
    let whole = model();
    let mut optimizer = make(&whole);
    // A learning rate that was changed while training is saved.
    let halve = |optimizer: &mut O| optimizer.set_option(0, "lr", optimizer.lr() / 2.).unwrap();
    let mut losses = train(&whole, &mut optimizer, 0, 5);
    halve(&mut optimizer);
    losses.extend(train(&whole, &mut optimizer, 5, 10));

    let first = model();
    let mut optimizer = make(&first);
    train(&first, &mut optimizer, 0, 5);
    halve(&mut optimizer);
    let state = optimizer.state_dict().unwrap();
    let names: Vec<&str> = state.keys().filter_map(|name| name.strip_prefix("state.0.weight.")).collect();
    assert_eq!(names, [&["group", "step"], slots].concat());
    let files = [first.to_bytes().unwrap(), safetensors::to_bytes(&state).unwrap()];

    let second = sequential![Linear::new(3, 8), Tanh, Linear::new(8, 1)];
    let mut optimizer = make(&second);
    train(&second, &mut optimizer, 7, 9);
    optimizer.set_lr(123.);
    second.load_bytes(&files[0]).unwrap();
    optimizer.load_state_dict(&safetensors::from_bytes(&files[1]).unwrap()).unwrap();
    assert_eq!(train(&second, &mut optimizer, 5, 10), losses[5..]);
    assert_eq!(second.to_bytes().unwrap(), whole.to_bytes().unwrap());
}

#[test]
fn training_resumes_with_the_same_bits() {
    let group = "*.bias";
    resumes(|m| SGD::new(m, 0.1), &[]);
    resumes(|m| SGD::new(m, 0.05).momentum(0.9).dampening(0.5), &["momentum_buffer"]);
    resumes(|m| Adam::new(m, 0.01).group(group, |g| g.lr(0.1).betas((0.5, 0.9))).unwrap(), &["exp_avg", "exp_avg_sq"]);
    resumes(|m| AdamW::new(m, 0.01).amsgrad(true), &["exp_avg", "exp_avg_sq", "max_exp_avg_sq"]);
    resumes(|m| RMSprop::new(m, 0.01), &["square_avg"]);
    resumes(|m| RMSprop::new(m, 0.01).momentum(0.9), &["square_avg", "momentum_buffer"]);
    let all = ["square_avg", "grad_avg", "momentum_buffer"];
    resumes(|m| RMSprop::new(m, 0.01).momentum(0.9).centered(true).group(group, |g| g.alpha(0.5)).unwrap(), &all);
}

/// An optimizer with two groups that has stepped once, its model, and its state.
fn stepped() -> (Linear, Adam, StateDict) {
    let model = Linear::new(2, 3);
    model.forward(&Tensor::ones([1, 2])).unwrap().sum().backward().unwrap();
    let mut adam = Adam::new(&model, 0.1).group("bias", |g| g.lr(0.2)).unwrap();
    adam.step().unwrap();
    let state = adam.state_dict().unwrap();
    (model, adam, state)
}

fn with(state: &StateDict, changes: &[(&str, Option<Tensor>)]) -> StateDict {
    let mut state = state.clone();
    for (name, tensor) in changes {
        match tensor {
            Some(tensor) => state.insert(*name, tensor.clone()),
            None => drop(state.remove(name)),
        }
    }
    state
}

#[test]
fn a_state_loads_whole_or_not_at_all() {
    let (_, mut adam, state) = stepped();
    let numbers =
        |state: &StateDict| state.iter().map(|(n, t)| (n.to_string(), t.to::<f64>().to_vec())).collect::<Vec<_>>();
    let before = numbers(&state);
    let mut refused = |changes: &[(&str, Option<Tensor>)], expected: &str| {
        let error = adam.load_state_dict(&with(&state, changes)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        assert_eq!(error.to_string(), format!("load_state_dict: {expected}; nothing was changed"));
        assert_eq!(numbers(&adam.state_dict().unwrap()), before);
    };
    let number = |x: f32| Some(Tensor::scalar(x));
    refused(&[("state.weight.exp_avg_sq", None)], "missing: state.weight.exp_avg_sq [3, 2]");
    refused(
        &[("state.bias.step", None)],
        "missing: state.bias.step []; unexpected: state.bias.exp_avg [3], state.bias.exp_avg_sq [3]",
    );
    refused(&[("groups.1.betas.0", None)], "missing: groups.1.betas.0 []");
    refused(&[("groups.2.lr", number(0.1))], "unexpected: groups.2.lr []");
    refused(&[("state.other.step", number(1.))], "unexpected: state.other.step []");
    refused(
        &[("state.weight.exp_avg", Some(Tensor::ones([2, 3]))), ("groups.0.lr", Some(Tensor::ones([1])))],
        "of another shape: groups.0.lr (model [], file [1]), state.weight.exp_avg (model [3, 2], file [2, 3])",
    );
    refused(&[("state.bias.group", number(0.))], "bias is in group 1, in the file in group 0");
    let range = "state.bias.step is a whole number from 0 to 2^53, got";
    refused(&[("state.bias.step", number(1.5))], &format!("{range} 1.5"));
    refused(&[("state.bias.step", number((1u64 << 54) as f32))], &format!("{range} 18014398509481984"));
    refused(&[("state.bias.step", number(f32::NAN))], &format!("{range} NaN"));
    refused(
        &[("groups.0.lr", number(-1.))],
        "groups.0: AdamOptions: a learning rate is at least 0 and finite, got -1.0",
    );
    refused(&[("groups.0.amsgrad", number(1.))], "missing: state.weight.max_exp_avg_sq [3, 2]");
    refused(
        &[("groups.1.amsgrad", number(2.)), ("state.bias.exp_avg", None)],
        "missing: state.bias.exp_avg [3]; groups.1: AdamOptions: amsgrad is 0 or 1, got 2",
    );
    // Types are converted: PyTorch's `step` is a float.
    adam.load_state_dict(&with(&state, &[("state.bias.step", number(7.))])).unwrap();
    assert_eq!(adam.state_dict().unwrap().get("state.bias.step").unwrap().to::<i64>(), Tensor::scalar(7));
}

#[test]
fn options_that_go_together_are_checked_in_a_file() {
    let p = param(1., 1.);
    let mut sgd = SGD::new(vec![p], 0.1);
    let state = with(&sgd.state_dict().unwrap(), &[("groups.0.nesterov", Some(Tensor::scalar(1.)))]);
    let error = sgd.load_state_dict(&state).unwrap_err().to_string();
    let expected = "load_state_dict: groups.0: SGDOptions: Nesterov's momentum needs a momentum and no dampening; momentum is 0, \
                    dampening 0; nothing was changed";
    assert_eq!(error, expected);
}

#[test]
fn names_that_are_not_unique() {
    let (a, b) = (Linear::new(1, 1), Linear::new(1, 1));
    let both = [a.named_parameters(), b.named_parameters()].concat();
    let sgd = SGD::new(both, 0.1);
    let error = sgd.state_dict().unwrap_err();
    let expected = "state_dict: two parameters are named `weight`; make the optimizer from a list of pairs (name, parameter) \
                    whose names differ";
    assert_eq!((error.kind(), error.to_string()), (ErrorKind::State, expected.to_string()));
}

#[test]
fn a_momentum_that_is_switched_on_later() {
    // PyTorch: 0.9, then 0.8, since the first gradient enters the buffer completely, then 0.675.
    let p = param(1., 1.);
    let make = || SGD::new(vec![p.clone()], 0.1).dampening(0.25);
    let mut sgd = make();
    sgd.step().unwrap();
    close(value(&p), 0.9);
    sgd.set_option(0, "momentum", 0.5).unwrap();
    // A state saved before the first step with the buffer has an empty tensor in its place.
    let state = sgd.state_dict().unwrap();
    assert_eq!(state.get("state.0.momentum_buffer").unwrap().shape(), [0]);
    let mut sgd = make();
    sgd.load_state_dict(&state).unwrap();
    for expected in [0.8, 0.675] {
        sgd.step().unwrap();
        close(value(&p), expected);
        // A loaded buffer does not count as new.
        let state = sgd.state_dict().unwrap();
        sgd = make();
        sgd.load_state_dict(&state).unwrap();
    }
    // Switched off, the buffer is kept, in a file too.
    sgd.set_option(0, "momentum", 0.).unwrap();
    sgd.step().unwrap();
    let state = sgd.state_dict().unwrap();
    let mut sgd = make();
    sgd.load_state_dict(&state).unwrap();
    assert_eq!(sgd.state_dict().unwrap().get("state.0.momentum_buffer").unwrap().to::<f64>().item().unwrap(), 1.25);
}

#[test]
fn parameters_of_all_sizes_and_types() {
    let empty: Param<f64> = Param::new(Tensor::zeros([0, 3]));
    let single: Param<f32> = Param::new(tensor![1.0]);
    let large: Param<f32> = Param::new(Tensor::ones([300, 300]));
    let all: Vec<ndnn::nn::AnyParam> = vec![(&empty).into(), (&single).into(), (&large).into()];
    empty.set_grad(Some(Tensor::zeros([0, 3]))).unwrap();
    single.set_grad(Some(tensor![1.0])).unwrap();
    large.set_grad(Some(Tensor::ones([300, 300]))).unwrap();
    let mut rms = RMSprop::new(all.clone(), 0.1).momentum(0.5).centered(true);
    rms.step().unwrap();
    // All elements follow the same formula, on one thread or several.
    assert!(large.detach().to_vec().iter().all(|&x| x == single.detach().to_vec()[0]));
    let state = safetensors::from_bytes(&safetensors::to_bytes(&rms.state_dict().unwrap()).unwrap()).unwrap();
    assert_eq!(state.get("state.0.square_avg").unwrap().shape(), [0, 3]);
    let mut resumed = optim::RMSprop::new(all.clone(), 1.);
    resumed.load_state_dict(&state).unwrap();
    resumed.step().unwrap();
    assert_eq!(state.len(), resumed.state_dict().unwrap().len());
    // A slot that no step has used yet, including one of a parameter without elements.
    let mut sgd = SGD::new(all.clone(), 0.1);
    sgd.step().unwrap();
    sgd.set_option(0, "momentum", 0.5).unwrap();
    let state = sgd.state_dict().unwrap();
    let shapes = ["0", "1", "2"].map(|name| state.get(&format!("state.{name}.momentum_buffer")).unwrap().shape());
    assert_eq!(shapes, [&[0, 3][..], &[0], &[0]]);
    let mut resumed = SGD::new(all, 1.);
    resumed.load_state_dict(&state).unwrap();
    resumed.step().unwrap();
}
