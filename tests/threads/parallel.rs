//! One model, several threads, one batch.

use ndnn::{
    autograd::{gradcheck, gradgradcheck},
    module::hooks,
    nn::{StateDict, parallel::DataParallel, summary, utils::functional_call},
    prelude::*,
    random::{self, RngState},
    with_num_threads,
};

use super::common::panic_of;

fn model() -> Sequential {
    sequential![Linear::new(6, 16), BatchNorm1d::new(16), ReLU, Dropout::new(0.5), Linear::new(16, 3)]
}

type Bits = (Tensor, Tensor, Vec<Option<ndnn::AnyTensor>>, Option<ndnn::AnyTensor>);

fn step(model: &DataParallel<Sequential>, threads: usize, batch: usize) -> Bits {
    with_num_threads(threads, || {
        random::from_state(RngState { seed: 5, draws: 0 }, || {
            let x = Tensor::linspace(-1., 1., 6 * batch).reshape([batch, 6]).unwrap().set_requires_grad(true);
            model.zero_grad();
            let y = model.forward(&x).unwrap();
            y.square().sum().backward().unwrap();
            let gradients = model.parameters().iter().map(|p| p.grad()).collect();
            (y.detach(), x.grad().unwrap(), gradients, model.state_dict().get("module.1.running_mean").cloned())
        })
    })
}

#[test]
fn parts_have_equal_bits_on_any_number_of_threads() {
    ndnn::manual_seed(0);
    let first = DataParallel::new(model());
    for batch in [2, 15, 40, 129] {
        let (mut same, again) = (Vec::new(), first.clone());
        for threads in [1, 2, 3, 4, 8] {
            same.push(step(&again.clone(), threads, batch));
            same.push(step(&again.clone(), threads, batch));
        }
        assert!(same.iter().all(|bits| *bits == same[0]), "batch {batch}");
    }
}

/// Without dropout and batch norm the parts are the whole.
#[test]
fn parts_are_the_whole() {
    let plain = sequential![f64; Linear::new(3, 4), Tanh, Linear::new(4, 2)];
    let divided = DataParallel::new(plain.clone()).parts(3);
    let x = Tensor::<f64>::linspace(-1., 1., 21).reshape([7, 3]).unwrap();
    let close = |a: &Tensor<f64>, b: &Tensor<f64>| (a - b).abs().max().unwrap().item().unwrap() < 1e-14;
    let (y, z) = (plain.forward(&x).unwrap(), divided.forward(&x).unwrap());
    assert!(close(&y, &z));
    // Twice, since the graph is retained.
    y.square().sum().backward_retain().unwrap();
    y.square().sum().backward().unwrap();
    z.square().sum().backward_retain().unwrap();
    z.square().sum().backward().unwrap();
    for (p, q) in plain.parameters().iter().zip(divided.parameters()) {
        assert!(close(&p.grad().unwrap().get().unwrap(), &q.grad().unwrap().get().unwrap()));
    }
    let f = |x: &[Tensor<f64>]| divided.forward(&x[0]);
    gradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
    gradgradcheck(f, std::slice::from_ref(&x), Default::default()).unwrap();
    assert_eq!(format!("{divided}").lines().next(), Some("DataParallel("));
    assert!(!no_grad(|| divided.forward(&x)).unwrap().requires_grad());
}

/// The statistics are those of the first part, as in PyTorch, and are written once.
#[test]
fn buffers_are_those_of_the_first_part() {
    let divided = DataParallel::new(BatchNorm1d::new(2)).parts(2);
    let alone = BatchNorm1d::new(2);
    let x = Tensor::randn([8, 2]);
    let _ = divided.forward(&x).unwrap();
    let _ = alone.forward(&x.narrow(0, 0, 4).unwrap()).unwrap();
    assert_eq!(divided.module.state_dict().get("running_mean"), alone.state_dict().get("running_mean"));
    assert_eq!(divided.module.state_dict().get("num_batches_tracked"), alone.state_dict().get("num_batches_tracked"));
}

/// Waits, so that every thread gets a part.
#[derive(Module)]
struct Slow {
    linear: Linear,
}

#[forward]
impl Forward for Slow {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        std::thread::sleep(std::time::Duration::from_millis(5));
        self.linear.forward(x)
    }
}

/// What applies to one thread applies to all parts.
#[test]
fn parts_see_what_the_calling_thread_sees() {
    let model = DataParallel::new(Slow { linear: Linear::new(2, 1).bias(false) }).parts(8);
    let x = Tensor::ones([8, 2]);
    let others: StateDict = [("module.linear.weight".to_string(), tensor![[3.0, 4.0]].into())].into_iter().collect();
    with_num_threads(4, || {
        let y = functional_call(&model, &others, || model.forward(&x)).unwrap();
        assert_eq!(y, Tensor::full([8, 1], 7.0));
        let mut calls = 0;
        let y = hooks::during(&model, "module.linear", |_, _, _| calls += 1, || model.forward(&x)).unwrap();
        assert_eq!((y.shape(), calls), (&[8, 1][..], 8));
        let table = summary(&model, &x).unwrap();
        let linear = table.rows.iter().filter(|row| row.path == "module.linear" && row.ran);
        assert_eq!((linear.count(), table.multiply_adds), (8, 16));
    });
}

/// Fails for batches that hold a number above 1: with an error, or above 2 with a panic.
#[derive(Module)]
struct Careful {
    linear: Linear,
}

#[forward]
impl Forward for Careful {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let most = x.max()?.item()?;
        assert!(most <= 2., "too much");
        let wrong = if most > 1. { Tensor::zeros([3, 3]) } else { x.clone() };
        self.linear.forward(&wrong)
    }
}

#[test]
fn what_a_part_does_wrong_comes_back_with_its_place() {
    let model = DataParallel::new(Careful { linear: Linear::new(2, 2) }).parts(4);
    let at = |row: usize, value: f32| {
        let mut rows = vec![0.; 32];
        rows[2 * row] = value;
        Tensor::from_vec([16, 2], rows).unwrap()
    };
    for _ in 0..250 {
        let error = model.forward(&at(9, 1.5)).unwrap_err().to_string();
        assert!(error.contains("in part 2 of 4 (elements 8 to 11)"), "{error}");
        let panic = panic_of(|| model.forward(&at(5, 3.)));
        assert_eq!(panic, "too much, in part 1 of 4 (elements 4 to 7)");
        let y = model.forward(&at(0, 0.5)).unwrap();
        y.sum().backward().unwrap();
    }
    let error = model.forward(&Tensor::scalar(1.0)).unwrap_err().to_string();
    assert!(error.contains("needs a batch along axis 0, got a tensor without axes"), "{error}");
}

/// Sizes come from a first batch in one part: as in PyTorch, the parts do not find them.
#[test]
fn lazy_layers_need_a_first_batch() {
    let whats = ["`weight`", "`running_mean`"];
    let lazy: [DataParallel<Sequential>; 2] = [
        DataParallel::new(sequential![LazyLinear::new(2)]).parts(2),
        DataParallel::new(sequential![LazyBatchNorm1d::new().affine(false)]).parts(2),
    ];
    for (model, what) in lazy.iter().zip(whats) {
        let error = model.forward(&Tensor::ones([2, 3])).unwrap_err().to_string();
        let what = what.replace('`', "");
        assert!(error.contains(&format!("DataParallel: `0.{what}` has no values yet")), "{error}");
        assert!(error.contains("run a batch through the model first"), "{error}");
        let _ = model.module.forward(&Tensor::ones([2, 3])).unwrap();
        assert_eq!(model.forward(&Tensor::ones([4, 3])).unwrap().shape()[0], 4);
    }
}
