//! User code panics, wherever the library calls it: everything continues to work.

use std::{env, fs, process};

use ndnn::{
    AnyTensor, Tensors,
    autograd::grad,
    data::{DataLoader, Dataset, random_split},
    module::{AnyParam, Members, Parameters, hooks},
    optim::{Adam, SGD},
    prelude::*,
    random::{Distribution, Rng},
};

use super::panic_of;

/// A distribution, a data set, a sample, a layer and a list of parameters: each panics at the place it is told to.
struct Faulty(&'static str);

impl Faulty {
    fn at(&self, place: &str) {
        assert_ne!(self.0, place, "told so");
    }
}

impl Clone for Faulty {
    fn clone(&self) -> Self {
        self.at("clone");
        Faulty(self.0)
    }
}

impl Distribution<f32> for Faulty {
    fn sample<R: Rng + ?Sized>(&self, rng: &mut R) -> f32 {
        let x = rng.next_u32();
        if x.is_multiple_of(20_000) {
            self.at("sample");
        }
        x as f32
    }
}

impl Dataset for Faulty {
    type Sample = Faulty;
    fn len(&self) -> usize {
        self.at("len");
        8
    }
    fn get(&self, position: usize) -> Result<Faulty> {
        if position == 5 {
            self.at("get");
        }
        Ok(Faulty(self.0))
    }
}

impl Tensors for Faulty {
    fn map(&self, _: &mut dyn FnMut(AnyTensor) -> Result<AnyTensor>) -> Result<Self> {
        self.at("map");
        Ok(Faulty(self.0))
    }
}

impl Module for Faulty {
    fn type_name(&self) -> String {
        self.at("type_name");
        "Faulty".into()
    }
    fn members<'a>(&'a self, members: &mut Members<'a>) {
        self.at("members");
        if self.0 == "child_mut" {
            members.child("none", &Tanh);
        }
    }
    fn child_mut(&mut self, _: &str) -> Option<&mut dyn Module> {
        self.at("child_mut");
        None
    }
}

#[forward]
impl Forward for Faulty {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.at("forward");
        Ok(x * 2.0)
    }
}

impl Parameters for Faulty {
    fn named(self) -> Vec<(String, AnyParam)> {
        self.at("named");
        Linear::new(1, 1).named_parameters()
    }
}

/// Calls of everything that runs user code, each with the place where it panics.
fn calls() -> Vec<(&'static str, Box<dyn Fn(Faulty)>)> {
    let x = tensor![0.5, -1.0; f64];
    let check = move |f: fn(&Tensor<f64>)| {
        let options = Default::default();
        let function = move |x: &[Tensor<f64>]| {
            f(&x[0]);
            Ok(x[0].exp())
        };
        ndnn::autograd::gradgradcheck(function, std::slice::from_ref(&x), options).unwrap();
        ndnn::autograd::gradcheck(function, std::slice::from_ref(&x), options).unwrap();
    };
    let model = |faulty| sequential![Linear::new(3, 2), faulty, BatchNorm1d::new(2)];
    let input = Tensor::<f32>::ones([4, 3]);
    let (a, b, c, d) = (input.clone(), input.clone(), input.clone(), input.clone());
    vec![
        ("sample", Box::new(|f| drop(Tensor::sample([1 << 18], f)))),
        ("len", Box::new(|f| assert_eq!(DataLoader::new(f, 3).shuffle(true).epoch(0).count(), 3))),
        ("get", Box::new(|f| assert_eq!(DataLoader::new(f, 3).epoch(0).count(), 3))),
        ("map", Box::new(|f| assert!(random_split(f, [4, 4]).unwrap()[0].batch(&[0, 1]).is_ok()))),
        ("named", Box::new(|f| drop(SGD::new(f, 0.1)))),
        ("named", Box::new(|f| assert_eq!(ndnn::nn::utils::clip_grad_norm(f, 0.1).unwrap(), 0.))),
        ("forward", Box::new(move |f| drop(model(f).forward(&a).unwrap()))),
        ("forward", Box::new(move |f| drop(ndnn::nn::summary(&model(f), &Tensor::<f32>::ones([4, 3])).unwrap()))),
        ("type_name", Box::new(move |f| drop(ndnn::nn::summary(&model(f), &Tensor::<f32>::ones([4, 3])).unwrap()))),
        ("type_name", Box::new(move |f| drop(model(f).to_string()))),
        ("clone", Box::new(move |f| drop(model(f).clone()))),
        ("members", Box::new(move |f| drop(model(f).state_dict()))),
        (
            "members",
            Box::new(move |f| {
                let path = env::temp_dir().join(format!("ndnn-faulty-{}", process::id()));
                model(f).save(&path).unwrap();
                fs::remove_file(&path).unwrap();
            }),
        ),
        ("members", Box::new(move |f| model(f).eval())),
        ("apply", Box::new(move |f| model(Faulty("")).apply(|_, _| f.at("apply")))),
        (
            "group",
            Box::new(move |f| {
                let changed = |o| {
                    f.at("group");
                    o
                };
                drop(Adam::new(&model(Faulty("")), 0.1).group("0.*", changed).unwrap());
            }),
        ),
        ("no_grad", Box::new(|f| no_grad(|| f.at("no_grad")))),
        ("threads", Box::new(|f| ndnn::with_num_threads(3, || ndnn::with_num_threads(1, || f.at("threads"))))),
        (
            "summary",
            Box::new(move |f| {
                let model = model(Faulty(""));
                let forward = || {
                    drop(model.forward(&b)?);
                    f.at("summary");
                    model.forward(&b)
                };
                drop(ndnn::nn::summary_of(&model, forward).unwrap());
            }),
        ),
        (
            "hook",
            Box::new(move |f| {
                let model = model(Faulty(""));
                drop(hooks::during(&model, "*", |_, _, _| f.at("hook"), || model.forward(&d)).unwrap());
            }),
        ),
        (
            "state hook",
            Box::new(move |f| {
                let (model, f) = (model(Faulty("")), std::sync::Arc::new(f));
                let (saved, loaded) = (f.clone(), f);
                let _saved = hooks::register_state_dict_post_hook(&model, "0", move |_, _, _| saved.at("state hook"));
                let state = model.state_dict();
                let _loaded =
                    hooks::register_load_state_dict_post_hook(&model, "0", move |_, _, _| loaded.at("state hook"));
                model.load_state_dict(&state).unwrap();
            }),
        ),
        (
            "child_mut",
            Box::new(move |f| {
                let mut model = model(f);
                assert!(model.set_submodule("1.none", Linear::new(1, 1)).is_err());
                *model.get_submodule_mut("1").unwrap() = Box::new(Faulty("")) as Box<dyn Forward>;
            }),
        ),
        ("check", Box::new(move |f| if f.0 == "check" { check(|_| panic!("told so")) } else { check(|_| ()) })),
        (
            "graph",
            Box::new(move |f| {
                let x = c.set_requires_grad(true);
                let y = Tensor::op("faulty", x.detach().into_array(), [&x], move |g, _| {
                    f.at("graph");
                    Ok([Some(g * 2.0)])
                });
                let dy = grad(&[&(y.square().sum())], &[&x], true).unwrap()[0].clone().unwrap();
                dy.sum().backward().unwrap();
            }),
        ),
        (
            "iterator",
            Box::new(|f| {
                drop(
                    (0..100)
                        .map(|i| {
                            if i == 50 {
                                f.at("iterator")
                            }
                            i as f32
                        })
                        .collect::<Tensor>(),
                )
            }),
        ),
    ]
}

#[test]
fn everything_lives_on_after_a_panic_in_a_users_code() {
    let threads = ndnn::num_threads();
    let square = Tensor::<f32>::ones([300, 300]);
    for (place, call) in calls() {
        let text = panic_of(|| call(Faulty(place)));
        assert!(text.contains("told so"), "{place}: {text}");
        // Nothing is poisoned, switched off or left on this thread, and all other calls still work.
        assert!(ndnn::grad_enabled() && ndnn::num_threads() == threads, "{place}");
        for (_, call) in calls() {
            call(Faulty(""));
        }
        assert_eq!(square.mm(&square).unwrap().sum().item().unwrap(), 2.7e7, "{place}");
    }
}
