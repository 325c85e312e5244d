//! Batch norm over all parts of a batch, and what happens if the parts do not meet.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use ndnn::{
    autograd::grad,
    module::hooks,
    nn::{StateDict, parallel::DataParallel, summary, utils::checkpoint},
    prelude::*,
    with_num_threads,
};

use super::common::{check, text};

/// What a training step leaves: output, gradients of input and parameters, the state.
struct Left(Vec<(String, Tensor<f64>)>);

impl Left {
    fn of<M: Forward<f64>>(model: &M, x: &Tensor<f64>) -> Self {
        let x = x.detach().set_requires_grad(true);
        model.zero_grad();
        let y = model.forward(&x).unwrap();
        (y.square() * &y).sum().backward().unwrap();
        let mut all = vec![("output".into(), y.detach()), ("input".into(), x.grad().unwrap())];
        all.extend(model.named_parameters().iter().filter_map(|(name, p)| Some((name.clone(), p.grad()?.to()))));
        let state = model.state_dict();
        all.extend(state.iter().filter(|(name, _)| name.contains("running")).map(|(n, t)| (n.into(), t.to())));
        Left(all)
    }

    fn near(&self, other: &Self, most: f64) {
        assert_eq!(self.0.len(), other.0.len());
        for ((name, a), (_, b)) in self.0.iter().zip(&other.0) {
            let size = b.abs().max().unwrap().item().unwrap();
            let error = (a - b).abs().max().unwrap().item().unwrap();
            assert!(error <= most * size.max(1.), "{name}: {error:e} of {size:e}");
        }
    }

    fn same(&self, other: &Self) {
        for ((name, a), (_, b)) in self.0.iter().zip(&other.0) {
            assert!(a.view().iter().zip(b.view()).all(|(a, b)| a.to_bits() == b.to_bits()), "{name}");
        }
    }
}

/// In parts it is the batch norm of the whole batch: forward, backward, running statistics.
#[test]
fn a_synced_batch_norm_is_that_of_the_whole_batch() {
    ndnn::manual_seed(0);
    let image = || sequential![f64; Conv2d::new(2, 3, 3).padding(1), SyncBatchNorm::new(3), Tanh, Flatten::new(), Linear::new(12, 2)];
    let rows = || {
        sequential![f64; Linear::new(5, 4), SyncBatchNorm::new(4).momentum(None), Tanh,
            SyncBatchNorm::new(4).affine(false), Linear::new(4, 3), SyncBatchNorm::new(3).track_running_stats(false)]
    };
    let mixed = Tensor::<f64>::randn([11, 5]) * 1e3 + 1e5;
    let images = Tensor::<f64>::randn([7, 2, 2, 2]);
    let one = Tensor::<f64>::randn([8, 5]);
    for (model, x, parts) in [(rows(), mixed, 3), (image(), images, 2), (rows(), one, 8)] {
        let whole = model.clone();
        let expected = [Left::of(&whole, &x), Left::of(&whole, &x)];
        let mut first: Option<[Left; 2]> = None;
        for threads in [1, 2, 3, 4, 8] {
            let divided = DataParallel::new(model.clone()).parts(parts);
            let found = with_num_threads(threads, || [Left::of(&divided, &x), Left::of(&divided, &x)]);
            let first = first.get_or_insert_with(|| {
                with_num_threads(1, || {
                    let divided = DataParallel::new(model.clone()).parts(parts);
                    [Left::of(&divided, &x), Left::of(&divided, &x)]
                })
            });
            for i in 0..2 {
                found[i].near(&expected[i], 1e-9);
                found[i].same(&first[i]);
            }
        }
        assert_eq!(whole.state_dict().get("1.num_batches_tracked"), Some(&Tensor::scalar(2i64).into()));
    }
}

/// Means and variances that f32 cannot add, or whose squares overflow or vanish.
#[test]
fn a_synced_batch_norm_of_extreme_numbers() {
    for (scale, shift) in [(1e30, 0.), (1e-30, 0.), (1., 3e4), (3e37, 0.), (0., 2.)] {
        let x = (Tensor::<f64>::linspace(-1., 1., 24).reshape([8, 3]).unwrap() * scale + shift).cast::<f32>();
        let whole = SyncBatchNorm::new(3);
        let divided = DataParallel::new(whole.clone()).parts(4);
        let (a, b) = (whole.forward(&x).unwrap(), divided.forward(&x).unwrap());
        let error = (a - b).abs().max().unwrap().item().unwrap();
        assert!(error < 1e-5, "{scale:e} + {shift}: {error:e}");
        for name in ["running_mean", "running_var"] {
            let of = |state: StateDict, name: &str| state.get(name).unwrap().get::<f32>().unwrap().clone();
            let (a, b) = (of(whole.state_dict(), name), of(divided.state_dict(), &format!("module.{name}")));
            let close = |(a, b): (&f32, &f32)| a == b || (a - b).abs() <= 1e-5 * a.abs();
            assert!(a.view().iter().zip(b.view()).all(close), "{scale:e} + {shift}: {name} {a} {b}");
        }
        let mut found = divided;
        found.eval();
        assert_eq!(found.forward(&x).unwrap(), found.module.forward(&x).unwrap());
    }
    // Without values per channel there are no statistics.
    let (model, x) = (DataParallel::new(SyncBatchNorm::new(2)).parts(2), Tensor::<f32>::zeros([4, 2, 0]));
    let x = x.set_requires_grad(true);
    let before = model.state_dict();
    let y = model.forward(&x).unwrap();
    y.sum().backward().unwrap();
    assert_eq!((y.shape(), x.grad().unwrap().shape()), (&[4, 2, 0][..], &[4, 2, 0][..]));
    let running = |state: &StateDict| state.get("module.running_var").unwrap().get::<f32>().unwrap().clone();
    assert_eq!(running(&model.state_dict()), running(&before));
    let nan = tensor![[1.0], [f32::NAN], [2.0], [3.0]];
    let y = DataParallel::new(SyncBatchNorm::new(1)).parts(2).forward(&nan).unwrap();
    assert!(y.view().iter().all(|y| y.is_nan()));
}

#[test]
fn a_synced_batch_norm_twice_differentiated() {
    ndnn::manual_seed(0);
    let model = sequential![f64; Linear::new(3, 2), SyncBatchNorm::new(2), Tanh, SyncBatchNorm::new(2).affine(false), Linear::new(2, 2)];
    let divided = DataParallel::new(model.clone()).parts(3);
    let x = Tensor::<f64>::randn([7, 3]);
    let f = |x: &[Tensor<f64>]| divided.forward(&x[0]);
    check(f, std::slice::from_ref(&x));
    let twice = |model: &dyn Forward<f64>| {
        let x = x.detach().set_requires_grad(true);
        model.parameters().iter().for_each(|p| p.zero_grad());
        let dx = grad(&[&model.forward(&x).unwrap().square().sum()], &[&x], true).unwrap()[0].clone().unwrap();
        dx.square().sum().backward().unwrap();
        let of = |p: &ndnn::nn::AnyParam| p.grad().map(|g| g.get::<f64>().unwrap());
        (model.parameters().iter().map(of).collect::<Vec<_>>(), x.grad().unwrap())
    };
    let ((a, da), (b, db)) = (twice(&model), twice(&divided));
    let close = |a: &Tensor<f64>, b: &Tensor<f64>| {
        (a - b).abs().max().unwrap().item().unwrap() < 1e-8 * (1. + b.abs().max().unwrap().item().unwrap())
    };
    assert!(close(&da, &db));
    for (a, b) in a.iter().zip(&b) {
        assert!(a.as_ref().zip(b.as_ref()).is_none_or(|(a, b)| close(a, b)) && a.is_some() == b.is_some());
    }
}

/// Calls its norms in an order, or as often, as its input says.
#[derive(Module)]
struct Branches {
    a: SyncBatchNorm,
    b: SyncBatchNorm,
    #[module(skip)]
    kept: Arc<Mutex<Option<Tensor>>>,
}

#[forward]
impl Forward for Branches {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        match x.max()?.item()? {
            2. => self.b.forward(&self.a.forward(x)?),
            3. => Ok(x.clone()),
            4. => {
                let x = x.detach().set_requires_grad(true);
                Ok(grad(&[&self.a.forward(&x)?.square().sum()], &[&x], false)?[0].clone().unwrap())
            }
            _ => {
                let y = self.a.forward(x)?;
                *self.kept.lock().unwrap() = Some(y.clone());
                self.b.forward(&y)
            }
        }
    }
}

#[test]
fn parts_that_do_not_meet_are_told_so() {
    let branches = Branches { a: SyncBatchNorm::new(1), b: SyncBatchNorm::new(1), kept: Default::default() };
    let kept = branches.kept.clone();
    let model = DataParallel::new(branches).parts(4);
    let of = |values: [f32; 8]| Tensor::from_vec([8, 1], values.to_vec()).unwrap();
    for threads in [1, 2, 4] {
        with_num_threads(threads, || {
            let error = model.forward(&of([0., 1., 0., 1., 0., 3., 0., 1.])).unwrap_err().to_string();
            let why = "it needs all parts of the batch, and part 2 of 4 ended without calling this layer as often as another part";
            assert!(error.contains(why) && error.contains("in part 0 of 4 (elements 0 to 1)"), "{error}");
            assert!(error.contains("SyncBatchNorm(1, "), "{error}");
            let error = model.forward(&of([0., 4., 0., 4., 0., 4., 0., 4.])).unwrap_err().to_string();
            assert!(error.contains("call backward on what is computed from the output of DataParallel"), "{error}");
            let x = of([0., 2., 0., 1., 0., 2., 0., 1.]).set_requires_grad(true);
            let y = model.forward(&x).unwrap();
            y.square().sum().backward().unwrap();
            let y = kept.lock().unwrap().take().unwrap();
            let error = y.sum().backward().unwrap_err().to_string();
            assert!(error.contains("nor on a tensor that was kept there"), "{error}");
        });
    }
    // Hooks of one thread.
    let x = of([0., 1., 2., 3., 4., 5., 6., 7.]);
    let model = DataParallel::new(SyncBatchNorm::new(1)).parts(2);
    let error = summary(&model, &Tensor::zeros([8, 1])).unwrap_err().to_string();
    assert!(error.contains("hooks or a summary of one thread observe this pass"), "{error}");
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let handle = hooks::register_forward_hook(&model, "module", |_, _, _| {
        CALLS.fetch_add(1, Relaxed);
    });
    let _ = model.forward(&x).unwrap();
    drop(handle);
    assert_eq!(CALLS.load(Relaxed), 2);
    // One value per channel.
    let error = SyncBatchNorm::new(1).forward(&Tensor::ones([1, 1])).unwrap_err().to_string();
    assert!(error.contains("training needs more than 1 value per channel"), "{error}");
}

/// Calls its norms in an order that its input says.
#[derive(Module)]
struct Swapped(SyncBatchNorm, SyncBatchNorm);

#[forward]
impl Forward for Swapped {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let [first, second] = if x.max()?.item()? > 2. { [&self.1, &self.0] } else { [&self.0, &self.1] };
        second.forward(&first.forward(x)?)
    }
}

#[test]
fn norms_without_tensors_are_told_apart() {
    let norm = SyncBatchNorm::new(1).affine(false).track_running_stats(false);
    // A clone is another layer.
    let model = DataParallel::new(Swapped(norm.clone(), norm)).parts(2);
    let of = |values: [f32; 4]| Tensor::from_vec([4, 1], values.to_vec()).unwrap();
    assert!(model.forward(&of([0., 1., 2., 1.])).is_ok());
    let error = model.forward(&of([0., 1., 3., 1.])).unwrap_err().to_string();
    assert!(error.contains("do not call the same layers in the same order"), "{error}");
}

#[test]
fn batch_norms_become_synced_ones() {
    let model =
        sequential![sequential![Conv2d::new(1, 2, 1), BatchNorm2d::new(2)], Flatten::new(), BatchNorm1d::new(8)];
    let mut model = SyncBatchNorm::convert_sync_batchnorm(model);
    assert_eq!(model.to_string().matches("SyncBatchNorm(").count(), 2, "{model}");
    let x = Tensor::randn([6, 1, 2, 2]);
    let y = model.forward(&x).unwrap();
    let divided = DataParallel::new(model.clone()).parts(3);
    assert!((y - divided.forward(&x).unwrap()).abs().max().unwrap().item().unwrap() < 1e-5);
    model.eval();
    assert_eq!(
        SyncBatchNorm::convert_sync_batchnorm(BatchNorm3d::new(2)).to_string(),
        SyncBatchNorm::new(2).to_string()
    );
}

/// Checkpoints in the parts meet again when they are computed again.
#[derive(Module)]
struct Checkpointed(Sequential<f64>);

#[forward]
impl Forward<f64> for Checkpointed {
    fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
        checkpoint(&self.0, x)
    }
}

#[derive(Module)]
struct Outside(DataParallel<Sequential<f64>>);

#[forward]
impl Forward<f64> for Outside {
    fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
        checkpoint(&self.0, x)
    }
}

#[test]
fn synced_batch_norms_in_checkpoints() {
    let layers = sequential![f64; Linear::new(2, 3), SyncBatchNorm::new(3), Tanh, SyncBatchNorm::new(3)];
    let x = Tensor::<f64>::randn([9, 2]);
    let divided = DataParallel::new(Checkpointed(layers.clone())).parts(4);
    Left::of(&divided, &x).near(&Left::of(&layers, &x), 1e-9);
    // The other way round, with a hook that is called again.
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    let hooked = Outside(DataParallel::new(layers.clone()).parts(3));
    let handle = hooks::register_forward_hook(&hooked.0, "module.1", |_, _, _| {
        CALLS.fetch_add(1, Relaxed);
    });
    Left::of(&hooked, &x).near(&Left::of(&layers, &x), 1e-9);
    drop(handle);
    assert_eq!(CALLS.load(Relaxed), 6);
    let x = x.set_requires_grad(true);
    let y = divided.forward(&x).unwrap().square().sum();
    let error = grad(&[&y], &[&x], true).unwrap_err().to_string();
    assert!(error.contains("cannot meet the other parts of the batch"), "{error}");
}

/// Breaks in the ways that it is told to, in the part that begins with this row.
#[derive(Module)]
struct Breaks {
    norm: SyncBatchNorm<f64>,
    first: Linear<f64>,
    second: SyncBatchNorm<f64>,
    last: Linear<f64>,
    #[module(skip)]
    told: Arc<(AtomicUsize, AtomicUsize)>,
}

#[forward]
impl Forward<f64> for Breaks {
    fn forward(&self, x: &Tensor<f64>) -> Result<Tensor<f64>> {
        let mine = x.view()[[0, 0]] as usize == self.told.1.load(Relaxed);
        let how = if mine { self.told.0.load(Relaxed) } else { 0 };
        let stop = |error: usize, panic: usize| match how {
            how if how == error => Err(ndnn::Error::value("breaks", "it was told so")),
            how if how == panic => panic!("it was told so"),
            _ => Ok(()),
        };
        let x = if how == 5 { x.clone() } else { self.norm.forward(x)? };
        stop(1, 2)?;
        let x = Tensor::op("breaks", x.detach().into_array(), [&x], move |g, _| match how {
            3 => Err(ndnn::Error::value("breaks", "it was told so")),
            4 => panic!("it was told so"),
            _ => Ok([Some(g.clone())]),
        });
        self.last.forward(&self.second.forward(&self.first.forward(&x)?)?.tanh())
    }
}

/// 1,000 steps of which half break in one part, in all ways; what the others learn is what a model learns that was never in
/// parts, to the bit on any number of threads.
#[test]
fn a_thousand_steps_in_parts() {
    ndnn::manual_seed(0);
    let model = Breaks {
        norm: SyncBatchNorm::new(3).dtype(),
        first: Linear::new(3, 4).dtype(),
        second: SyncBatchNorm::new(4).dtype(),
        last: Linear::new(4, 1).dtype(),
        told: Default::default(),
    };
    let rows = Tensor::<f64>::linspace(0., 7., 8).unsqueeze(1).unwrap();
    let train = |threads: Option<&[usize]>| {
        let whole = model.clone();
        let divided = DataParallel::new(model.clone()).parts(4);
        let mut sgd = optim::SGD::new(if threads.is_some() { divided.parameters() } else { whole.parameters() }, 0.05);
        for step in 0..1000 {
            let how = [0, 1, 0, 2, 0, 3, 0, 4, 0, 5][step % 10];
            let x = Tensor::cat(&[rows.clone(), (&rows * (0.5 + step as f64)).sin(), (&rows + step as f64).cos()], 1)
                .unwrap();
            let pass = || {
                let y = if threads.is_some() { divided.forward(&x) } else { whole.forward(&x) }?;
                (y - x.select(1, 1)?.unsqueeze(1)?).square().mean().backward()
            };
            sgd.zero_grad();
            let part = step / 10 % 4;
            model.told.0.store(how, Relaxed);
            model.told.1.store(2 * part, Relaxed);
            match threads {
                // Only the backward pass breaks.
                None if how == 3 || how == 4 => drop(whole.forward(&x).unwrap()),
                None if how > 0 => {}
                None => pass().unwrap(),
                Some(threads) => {
                    let run = || with_num_threads(threads[step % threads.len()], pass);
                    let place = format!("part {part} of 4");
                    match (catch_unwind(AssertUnwindSafe(run)), how) {
                        (Ok(Ok(())), 0) => {}
                        (Ok(Err(error)), 1 | 3) => {
                            assert!(error.to_string().contains(&format!("in {place}")), "{error}")
                        }
                        (Ok(Err(error)), 5) => {
                            assert!(error.to_string().contains("do not call the same layers"), "{error}")
                        }
                        (Err(payload), 2 | 4) => assert!(text(&*payload).contains(&format!("in {place}"))),
                        (result, how) => panic!("step {step}: {result:?} after {how}"),
                    }
                }
            }
            if how == 0 {
                sgd.step().unwrap();
            }
        }
        let state = if threads.is_some() { divided.module.state_dict() } else { whole.state_dict() };
        Left(state.iter().map(|(name, t)| (name.to_string(), t.to())).collect())
    };
    let (plain, one) = (train(None), train(Some(&[1])));
    one.near(&plain, 1e-9);
    train(Some(&[2, 1, 8, 3, 4])).same(&one);
}
