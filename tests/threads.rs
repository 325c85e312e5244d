//! Threads: eight of them on one model, the same bits whatever their number, and graphs too deep for recursion.

use std::{env, process::Command, thread};

use ndnn::{
    autograd::grad,
    functional as F,
    optim::{Adam, Optimizer, SGD},
    prelude::*,
};

/// Fails to compile where a type cannot be shared between threads.
#[test]
fn everything_is_send_and_sync() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<(Tensor, Tensor<f64>, Tensor<i64>, Tensor<bool>, ndnn::AnyTensor, ndnn::Error)>();
    shared::<(Param, Param<f64>, Buffer, Buffer<i64>, ndnn::nn::AnyParam, ndnn::nn::StateDict)>();
    shared::<(Linear, Bilinear, Identity, Flatten, Unflatten, Dropout, Dropout2d, AlphaDropout, FeatureAlphaDropout)>();
    shared::<(Conv1d, Conv2d, Conv3d, MaxPool1d, MaxPool2d, MaxPool3d, BatchNorm1d, BatchNorm2d, BatchNorm3d, LayerNorm)>(
    );
    shared::<(Embedding, LSTM, MultiheadAttention, ReLU, GELU, PReLU, RReLU, Softmax, Threshold, Hardtanh)>();
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
    let model = sequential![Linear::new(6, 16), Tanh, Linear::new(16, 3)].dtype::<f64>();
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
    // The order of addition is the threads', so the last digits may differ.
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
            scope.spawn(|| assert!(w.tensor().exp().is_tracked()));
        });
        assert!(!w.tensor().exp().is_tracked());
    });
}

#[test]
fn a_hundred_thousand_steps() {
    const STEPS: usize = 100_000;
    let chain = |x: &Tensor<f64>| (0..STEPS).fold(x.clone(), |y, _| &y * 1.00001);
    let slope = 1.00001f64.powi(STEPS as i32);
    // Small stacks, so that recursion would show.
    let run = move || {
        let x = tensor![1.0; f64].requires_grad(true);
        chain(&x).sum().backward().unwrap();
        assert!((x.grad().unwrap().item().unwrap() / slope - 1.0).abs() < 1e-9);
        // Dropped whole, never walked.
        drop(chain(&x));
        // Kept for a second derivative, and dropped after.
        let y = chain(&x).square().sum();
        let dy = grad(&[&y], &[&x], true).unwrap()[0].clone().unwrap();
        let d2y = grad(&[&dy.sum()], &[&x], false).unwrap()[0].clone().unwrap();
        assert!((d2y.item().unwrap() / (2.0 * slope * slope) - 1.0).abs() < 1e-9);
        drop((y, dy));
    };
    thread::Builder::new().stack_size(512 * 1024).spawn(run).unwrap().join().unwrap();
}

// ------------------------------------------------------------------------- the same bits whatever the number of threads

const WORKER: &str = "NDNN_TEST_WORKER";

/// Every bit of the parameters and losses of a short training run, as one number.
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
    // Larger than one thread's share: sums, products, sorting, random fills.
    let big: Tensor = Tensor::randn([300, 700]);
    let product = big.matmul(&big.t().unwrap()).unwrap();
    [big.sum(), big.exp().mean(), product.sum(), big.logsumexp(1, false).unwrap().sum()]
        .iter()
        .for_each(|t| add(t.item().unwrap()));
    product.to_vec().into_iter().for_each(&mut add);
    hash
}

/// Not a test of its own: what the test below runs in processes with other numbers of threads.
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
