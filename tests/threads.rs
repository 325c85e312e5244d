//! Threads: eight threads using one model, equal bits for any number of threads, graphs too deep for recursion, the
//! state after a panic, and what still works while a thread ends.

mod common;

use std::{
    env,
    process::Command,
    sync::{
        Arc, Barrier, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
};

use common::{panic_of, until_the_end};
use ndnn::{
    autograd::grad,
    functional as F,
    optim::{Adam, Optimizer, SGD},
    prelude::*,
};

#[path = "threads/faulty.rs"]
mod faulty;
#[path = "threads/parallel.rs"]
mod parallel;
#[path = "threads/synced.rs"]
mod synced;

/// Fails to compile if a type cannot be shared between threads.
#[test]
fn everything_is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<(Tensor, Tensor<f64>, Tensor<i64>, Tensor<bool>, ndnn::AnyTensor, ndnn::Error)>();
    shared::<(Param, Param<f64>, Buffer, Buffer<i64>, ndnn::nn::AnyParam, ndnn::nn::StateDict)>();
    shared::<(Linear, Bilinear, Identity, Flatten, Unflatten, Dropout, Dropout2d, AlphaDropout, FeatureAlphaDropout)>();
    shared::<(
        Conv1d,
        Conv2d,
        Conv3d,
        MaxPool1d,
        MaxPool2d,
        MaxPool3d,
        MaxUnpool2d,
        LPPool2d,
        AdaptiveAvgPool2d,
        FractionalMaxPool2d,
        ReflectionPad2d,
        BatchNorm1d,
        BatchNorm2d,
        BatchNorm3d,
        GroupNorm,
        LayerNorm,
        RMSNorm,
    )>();
    shared::<(InstanceNorm1d, InstanceNorm2d, InstanceNorm3d, SyncBatchNorm, LocalResponseNorm, CrossMapLRN2d)>();
    shared::<(LSTM, LSTMCell, GRU, GRUCell, GRU<f64>)>();
    shared::<(Embedding, EmbeddingBag, MultiheadAttention, ReLU, GELU, PReLU, RReLU, Softmax, Threshold, Hardtanh)>();
    shared::<(CrossEntropyLoss, NLLLoss, BCELoss, BCEWithLogitsLoss, MSELoss, L1Loss, SmoothL1Loss, HuberLoss)>();
    shared::<(Sequential, Sequential<f64>, ModuleList, ModuleDict, ParameterList, ParameterDict, Box<dyn Forward>)>();
    shared::<(Box<dyn Module>, Adam, SGD)>();
}

fn model() -> Sequential {
    sequential![
        Conv2d::new(1, 4, 3).padding(1),
        BatchNorm2d::new(4),
        ReLU,
        MaxPool2d::new(2),
        Flatten,
        Linear::new(64, 16),
        Tanh,
        Linear::new(16, 3)
    ]
}

#[test]
fn eight_threads_infer_on_one_model() {
    let mut model = model();
    model.eval();
    let inputs: Vec<Tensor> = (0..8).map(|_| Tensor::randn([5, 1, 8, 8])).collect();
    let alone: Vec<Tensor> = inputs.iter().map(|x| no_grad(|| model.forward(x)).unwrap()).collect();
    thread::scope(|scope| {
        for (x, expected) in inputs.iter().zip(&alone) {
            let model = &model;
            scope.spawn(move || {
                for _ in 0..10 {
                    assert_eq!(&no_grad(|| model.forward(x)).unwrap(), expected);
                }
            });
        }
    });
    assert!(model.parameters().iter().all(|p| !p.has_grad()));
}

#[test]
fn eight_threads_add_their_gradients_to_one_model() {
    let model = sequential![f64; Linear::new(6, 16), Tanh, Linear::new(16, 3)];
    let batches: Vec<(Tensor<f64>, Tensor<i64>)> =
        (0..8).map(|i| (Tensor::randn([4, 6]), Tensor::full([4], i % 3))).collect();
    let step = |(x, y): &(Tensor<f64>, Tensor<i64>)| {
        F::cross_entropy(&model.forward(x).unwrap(), y, Default::default()).unwrap().backward().unwrap();
    };
    let gradients =
        || -> Vec<f64> { model.parameters().iter().flat_map(|p| p.grad().unwrap().to::<f64>().to_vec()).collect() };
    batches.iter().for_each(step);
    let alone = gradients();
    model.zero_grad();
    thread::scope(|scope| {
        for batch in &batches {
            scope.spawn(|| step(batch));
        }
    });
    // The threads determine the order of addition, so the last digits may differ.
    for (a, b) in gradients().iter().zip(&alone) {
        assert!((a - b).abs() <= 1e-12 * (1.0 + b.abs()), "{a} is not {b}");
    }
    assert!(alone.iter().any(|&g| g != 0.0));
}

#[test]
fn threads_choose_no_grad_each_for_itself() {
    let w = Param::new(tensor![2.0]);
    no_grad(|| {
        thread::scope(|scope| {
            scope.spawn(|| assert!(w.tensor().exp().requires_grad()));
        });
        assert!(!w.tensor().exp().requires_grad());
    });
}

#[test]
fn a_hundred_thousand_steps() {
    const STEPS: usize = 100_000;
    let chain = |x: &Tensor<f64>| (0..STEPS).fold(x.clone(), |y, _| &y * 1.00001);
    let slope = 1.00001f64.powi(STEPS as i32);
    // Small stacks, so that recursion would overflow them.
    let run = move || {
        let x = tensor![1.0; f64].set_requires_grad(true);
        chain(&x).sum().backward().unwrap();
        assert!((x.grad().unwrap().item().unwrap() / slope - 1.0).abs() < 1e-9);
        // Dropped without a backward pass.
        drop(chain(&x));
        // Retained for a second derivative, and dropped afterwards.
        let y = chain(&x).square().sum();
        let dy = grad(&[&y], &[&x], true).unwrap()[0].clone().unwrap();
        let d2y = grad(&[&dy.sum()], &[&x], false).unwrap()[0].clone().unwrap();
        assert!((d2y.item().unwrap() / (2.0 * slope * slope) - 1.0).abs() < 1e-9);
        drop((y, dy));
    };
    thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn threads_that_train_one_batch_norm_lose_no_batch() {
    const THREADS: usize = 4;
    const BATCHES: usize = 150;
    for momentum in [None, Some(0.1)] {
        let norm = BatchNorm1d::new(3).momentum(momentum).dtype::<f64>();
        let start = Barrier::new(THREADS);
        thread::scope(|scope| {
            for t in 0..THREADS {
                let (norm, start) = (&norm, &start);
                scope.spawn(move || {
                    start.wait();
                    for i in 0..BATCHES {
                        // Its mean is the number of the batch, its unbiased variance 2.
                        let mean = (t * BATCHES + i) as f64;
                        let x = Tensor::from(ndarray::arr2(&[[mean - 1.0; 3], [mean + 1.0; 3]]));
                        let _ = norm.forward(&x).unwrap();
                    }
                });
            }
        });
        let [mean, var] = [&norm.running_mean, &norm.running_var].map(|b| b.as_ref().unwrap().tensor().to_vec());
        let count = norm.num_batches_tracked.as_ref().unwrap().tensor().item().unwrap();
        assert_eq!(count, (THREADS * BATCHES) as i64);
        if momentum.is_none() {
            // The average over all batches, in whatever order they came.
            let average = (THREADS * BATCHES - 1) as f64 / 2.0;
            assert!(mean.iter().all(|m| (m / average - 1.0).abs() < 1e-12), "{mean:?} is not {average}");
        }
        assert!(var.iter().all(|v| (v - 2.0).abs() < 1e-12), "{var:?}");
        // One after another they give the same, if the order does not matter: a lost update would show in the mean.
        assert!(mean.iter().all(|&m| m == mean[0]));
    }
}

#[test]
fn a_norm_limit_loses_no_step_of_another_thread() {
    const STEPS: usize = 300;
    let table = Embedding::from_pretrained(&Tensor::<f32>::ones([2, 4]), false).unwrap().max_norm(0.5);
    let start = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            start.wait();
            (0..STEPS).for_each(|_| {
                table.weight.update(|mut w| w.index_axis_mut(ndarray::Axis(0), 0).mapv_inplace(|v| v + 1.0))
            });
        });
        scope.spawn(|| {
            start.wait();
            (0..STEPS).for_each(|_| drop(table.forward(&tensor![1]).unwrap()));
        });
    });
    let rows = table.weight.detach();
    assert_eq!(rows.select(0, 0).unwrap(), Tensor::full([4], 1.0 + STEPS as f32));
    approx::assert_abs_diff_eq!(rows.select(0, 1).unwrap().square().sum().item().unwrap(), 0.25, epsilon = 1e-5);
}

// ------------------------------------------------------------------------------------------------------ after a panic

#[test]
fn a_parameter_lives_on_after_a_panic() {
    let w = Param::new(tensor![1.0, 2.0]);
    let before = w.tensor();
    panic_of(|| w.update(|_| panic!("inside")));
    panic_of(|| w.update_slice(|_| panic!("inside")));
    let b = Buffer::new(tensor![1, 2]);
    panic_of(|| b.update(|_| panic!("inside")));
    assert_eq!((w.tensor(), b.tensor()), (before, tensor![1, 2]));
    w.update(|mut v| v += 1.0);
    (&w * 2.0).sum().backward().unwrap();
    w.set(&w.detach()).unwrap();
    assert_eq!((w.detach(), w.grad()), (tensor![2.0, 3.0], Some(tensor![2.0, 2.0])));
    w.zero_grad();
    assert!(!w.has_grad() && w.requires_grad() && w.numel() == 2);
}

#[test]
fn a_graph_lives_on_after_a_panic_in_backward() {
    let x = tensor![3.0].set_requires_grad(true);
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = calls.clone();
    let y = Tensor::op("faulty", x.detach().into_array(), [&x], move |g, _| {
        assert!(counted.fetch_add(1, SeqCst) > 0, "the first time");
        Ok([Some(g.clone())])
    });
    panic_of(|| y.sum().backward_retain().unwrap());
    assert!(ndnn::grad_enabled());
    y.sum().backward_retain().unwrap();
    y.sum().backward().unwrap();
    assert_eq!((x.grad(), calls.load(SeqCst)), (Some(tensor![2.0]), 3));
}

/// Counts how often it is dropped, and panics when dropped if told to.
struct Dropped(Arc<AtomicUsize>, bool);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
        assert!(!self.1, "dropped");
    }
}

/// A chain of `n` nodes, each of which holds a value; those for which `bad` returns true panic when dropped.
fn chain_of_values(n: usize, drops: &Arc<AtomicUsize>, bad: fn(usize) -> bool) -> Tensor {
    (0..n).fold(tensor![1.0].set_requires_grad(true), |x, i| {
        let value = Dropped(drops.clone(), bad(i));
        Tensor::op("holds", x.detach().into_array(), [&x], move |g, _| {
            let _ = &value;
            Ok([Some(g.clone())])
        })
    })
}

#[test]
fn a_graph_is_freed_although_a_value_in_it_panics() {
    let drops = Arc::new(AtomicUsize::new(0));
    for bad in [|i| i == 99, |i| i == 50, |i| i == 0, |i: usize| i.is_multiple_of(7), |_| true] {
        let graph = chain_of_values(100, &drops, bad);
        panic_of(|| drop(graph));
        assert_eq!(drops.swap(0, SeqCst), 100);
        // Later graphs of this thread are freed.
        drop(chain_of_values(100, &drops, |_| false));
        assert_eq!(drops.swap(0, SeqCst), 100);
        // While another panic unwinds, that one continues.
        let graph = chain_of_values(100, &drops, bad);
        let first = panic_of(|| {
            let _graph = graph;
            panic!("first");
        });
        assert_eq!((first.as_str(), drops.swap(0, SeqCst)), ("first", 100));
        // A pass that frees nodes as it visits them.
        let graph = chain_of_values(100, &drops, bad);
        panic_of(|| graph.sum().backward().unwrap());
        drop(graph);
        assert_eq!(drops.swap(0, SeqCst), 100);
        assert!(ndnn::grad_enabled());
    }
}

// --------------------------------------------------------------------------------------------- closures and their graph

#[test]
fn a_backward_may_run_through_its_own_node() {
    let x = tensor![3.0].set_requires_grad(true);
    let own: Arc<Mutex<Option<Tensor>>> = Arc::default();
    let (inside, depth) = (own.clone(), Arc::new(AtomicUsize::new(0)));
    let y = Tensor::op("nested", x.detach().square().into_array(), [&x], move |g, _| {
        if depth.fetch_add(1, SeqCst) == 0 {
            let own = inside.lock().unwrap().clone().unwrap();
            own.backward_retain().unwrap();
        }
        Ok([Some(g * 6.0)])
    });
    *own.lock().unwrap() = Some(y.clone());
    y.sum().backward_retain().unwrap();
    assert_eq!(x.grad(), Some(tensor![12.0]));
    // If a pass frees the graph, a pass inside it gets an error.
    let refused = Arc::new(Mutex::new(None));
    let (inside, answer) = (own.clone(), refused.clone());
    let y = Tensor::op("nested", x.detach().square().into_array(), [&x], move |g, _| {
        let own = inside.lock().unwrap().clone().unwrap();
        *answer.lock().unwrap() = Some(own.backward().unwrap_err().to_string());
        Ok([Some(g * 6.0)])
    });
    *own.lock().unwrap() = Some(y.clone());
    y.sum().backward().unwrap();
    assert!(
        refused
            .lock()
            .unwrap()
            .take()
            .unwrap()
            .contains("already freed by an earlier backward (at operation `nested`)")
    );
    *own.lock().unwrap() = None;
}

#[test]
fn threads_run_one_kept_graph_at_once() {
    let x = Tensor::<f64>::ones([8]).set_requires_grad(true);
    // Every thread is inside the closure before any of them leaves it.
    let inside = Arc::new(Barrier::new(2));
    let met = inside.clone();
    let y = Tensor::op("meet", x.detach().into_array(), [&x], move |g, _| {
        met.wait();
        Ok([Some(g.clone())])
    });
    thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(|| y.sum().backward_retain().unwrap()))));
    assert_eq!(x.grad().unwrap(), Tensor::full([8], 2.0));
}

// ------------------------------------------------------------------------------------------------ while a thread ends

/// Runs `before` on a new thread with a small stack, then `end` while the thread-locals of that thread are destroyed.
fn at_end_of_thread<R: 'static>(before: impl FnOnce() -> R + Send + 'static, end: impl FnOnce(R) + Send + 'static) {
    let ended = Arc::new(AtomicUsize::new(0));
    let flag = ended.clone();
    let end = move |kept| {
        end(kept);
        flag.store(1, SeqCst);
    };
    let run = move || until_the_end(before, end);
    thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
    assert_eq!(ended.load(SeqCst), 1, "the destructor did not come to its end");
}

#[test]
fn a_deep_graph_may_outlive_the_locals_of_its_thread() {
    let chain = || (0..100_000).fold(tensor![1.0].set_requires_grad(true), |y, _| y + 1.0);
    // Other graphs were dropped on that thread before, so that all its thread-locals are in use.
    at_end_of_thread(
        move || {
            drop(chain());
            chain()
        },
        drop,
    );
}

#[test]
fn everything_works_while_a_thread_ends() {
    fn all() {
        let x = Tensor::<f32>::ones([2, 1, 8, 8]).set_requires_grad(true);
        let model = model();
        let copy = model.clone();
        let wide = sequential![f64; Flatten, Linear::new(64, 2)];
        wide.forward(&x.cast::<f64>()).unwrap().sum().backward().unwrap();
        let loss = F::cross_entropy(&copy.forward(&x).unwrap(), &tensor![0, 1], Default::default()).unwrap();
        let mut adam = Adam::new(&copy, 1e-3);
        loss.backward().unwrap();
        adam.step().unwrap();
        let summary = ndnn::nn::summary(&model, &x).unwrap();
        assert!(summary.multiply_adds > 0 && x.grad().is_some());
        let big = Tensor::<f32>::randn([200, 200]);
        assert!(no_grad(|| big.mm(&big).unwrap().sum().item().unwrap().is_finite()));
        assert!(!model.to_string().is_empty() && copy.load_bytes(&model.to_bytes().unwrap()).is_ok());
    }
    at_end_of_thread(all, |()| all());
    // And if nothing was used before.
    at_end_of_thread(|| (), |()| all());
}

// ------------------------------------------------------------------------- the same bits whatever the number of threads

const WORKER: &str = "NDNN_TEST_WORKER";

/// A hash of all bits of the parameters and losses of a short training run.
fn training_run() -> u64 {
    ndnn::manual_seed(7);
    let model = sequential![
        Conv2d::new(1, 8, 3).padding(1),
        BatchNorm2d::new(8),
        ReLU,
        Dropout2d::new(0.2),
        MaxPool2d::new(2),
        Flatten,
        Linear::new(8 * 14 * 14, 128),
        GELU,
        Dropout::new(0.5),
        Linear::new(128, 10)
    ];
    let (x, y) = (Tensor::randn([64, 1, 28, 28]), Tensor::<i64>::randint(0, 10, [64]).unwrap());
    let mut adam = Adam::new(&model, 1e-2);
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    let mut add = |x: f32| hash = (hash ^ u64::from(x.to_bits())).wrapping_mul(0x0100_0000_01b3);
    for _ in 0..2 {
        let loss = F::cross_entropy(&model.forward(&x).unwrap(), &y, Default::default()).unwrap();
        adam.zero_grad();
        loss.backward().unwrap();
        adam.step().unwrap();
        add(loss.item().unwrap());
    }
    model.state_dict().iter().for_each(|(_, t)| t.to::<f32>().to_vec().into_iter().for_each(&mut add));
    // More than one thread's share of work: sums, products, sorting, random fills.
    let big: Tensor = Tensor::randn([300, 700]);
    let product = big.matmul(&big.t().unwrap()).unwrap();
    [big.sum(), big.exp().mean(), product.sum(), big.logsumexp(1, false).unwrap().sum()]
        .iter()
        .for_each(|t| add(t.item().unwrap()));
    product.to_vec().into_iter().for_each(&mut add);
    hash
}

/// Not a test by itself: the test below runs it in processes with other numbers of threads.
#[test]
fn worker() {
    if env::var_os(WORKER).is_some() {
        println!("bits {:016x}", training_run());
    }
}

#[test]
fn the_same_bits_with_one_two_and_four_threads() {
    let bits = |threads: &str| -> String {
        let output = Command::new(env::current_exe().unwrap())
            .args(["--exact", "worker", "--nocapture", "--test-threads=1"])
            .env(WORKER, "1")
            .env("NDNN_NUM_THREADS", threads)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = text.find("bits ").unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        text[at..at + 21].to_string()
    };
    let one = bits("1");
    assert_eq!([bits("2"), bits("4")], [one.clone(), one]);
}
