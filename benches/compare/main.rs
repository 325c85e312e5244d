//! ndnn's side of the comparison with PyTorch: the same work as `torch_side.py`, started by `run`.
//!
//! `WORKLOAD FILE SECONDS`, with the number of threads in `NDNN_NUM_THREADS`. It loads the weights and the data, runs
//! 20 steps whose losses are compared, warms up, times each further step separately, and prints one line of JSON: the
//! losses (or sums of the results, if there is no loss), times in µs, memory in MiB.

use std::{fs, time::Instant};

use ndnn::{
    AnyTensor, autograd,
    functional::{self as F, RecurrentKind},
    io::safetensors,
    prelude::*,
};

const CHECKED: usize = 20;

/// The samples whose scores are held at a time.
const CHUNK: usize = 64;
/// The inputs of a function.
const INPUTS: [&str; 9] = ["x", "weight", "bias", "conv1", "scale1", "shift1", "conv2", "scale2", "shift2"];

/// The tensors in the file of a workload, taken by name.
struct Data(StateDict);

impl Data {
    fn float(&mut self, name: &str) -> Option<Tensor> {
        match self.0.remove(name)? {
            AnyTensor::F32(tensor) => Some(tensor),
            other => panic!("{name} is {:?}", other.dtype()),
        }
    }

    fn labels(&mut self) -> Option<Tensor<i64>> {
        match self.0.remove("target")? {
            AnyTensor::I64(tensor) => Some(tensor),
            other => panic!("target is {:?}", other.dtype()),
        }
    }
}

/// One workload: the preparation of each step, which is not timed, and the step, which receives its result.
struct Work {
    prepare: Box<dyn Fn() -> Result<Option<Tensor>>>,
    step: Box<dyn FnMut(Option<&Tensor>) -> Result<Vec<Tensor>>>,
}

impl Work {
    fn new(step: impl FnMut(Option<&Tensor>) -> Result<Vec<Tensor>> + 'static) -> Work {
        Work { prepare: Box::new(|| Ok(None)), step: Box::new(step) }
    }

    fn run(&mut self) -> Result<Vec<Tensor>> {
        let prepared = (self.prepare)()?;
        (self.step)(prepared.as_ref())
    }

    /// The µs of each step, and the last result. A result replaces the one before it, as in any loop.
    fn measure(&mut self, seconds: f64, least: usize) -> Result<(Vec<f32>, Vec<Tensor>)> {
        let (mut times, mut result, begin) = (Vec::new(), Vec::new(), Instant::now());
        while times.len() < least || begin.elapsed().as_secs_f64() < seconds {
            let prepared = (self.prepare)()?;
            let start = Instant::now();
            result = (self.step)(prepared.as_ref())?;
            times.push(start.elapsed().as_secs_f32() * 1e6);
        }
        Ok((times, result))
    }
}

fn network(name: &str) -> Sequential {
    match name {
        "B" => sequential![Linear::new(2, 16), Tanh, Linear::new(16, 16), Tanh, Linear::new(16, 1)],
        "adam" => sequential![Linear::new(1024, 1024), ReLU, Linear::new(1024, 1024)],
        "D" => sequential![Linear::new(1024, 4096), GELU, Linear::new(4096, 4096), GELU, Linear::new(4096, 1024)],
        _ => sequential![Linear::new(784, 256), ReLU, Linear::new(256, 128), ReLU, Linear::new(128, 10)],
    }
}

fn training(
    model: Sequential,
    mut optimizer: impl Optimizer + 'static,
    loss: impl Fn(&Sequential) -> Result<Tensor> + 'static,
) -> Work {
    Work::new(move |_| {
        optimizer.zero_grad();
        let loss = loss(&model)?;
        loss.backward()?;
        optimizer.step()?;
        Ok(vec![loss])
    })
}

/// ResNet-18's: two convolutions, each with batch norm, and the input added.
fn basic_block(inputs: &[Tensor]) -> Result<Tensor> {
    let [x, conv1, scale1, shift1, conv2, scale2, shift2] = inputs else { panic!("7 inputs") };
    let half = |x: &Tensor, weight, scale, shift| {
        let y = F::conv2d(x, weight, None, F::ConvOptions::default().padding(1))?;
        F::batch_norm(&y, None, None, Some(scale), Some(shift), F::BatchNormOptions::default().training(true))
    };
    let y = F::relu(&half(x, conv1, scale1, shift1)?);
    Ok(F::relu(&half(&y, conv2, scale2, shift2)?.try_add(x)?))
}

/// The forward or backward pass of one function.
fn row_work(name: &str, mut data: Data) -> Result<Work> {
    let (function, direction) = name.split_once('-').expect("function-direction");
    let (gradient, labels) = (data.float("grad"), data.labels());
    let inputs: Vec<Tensor> = INPUTS.iter().filter_map(|n| Some(data.float(n)?.set_requires_grad(true))).collect();
    let call: fn(&[Tensor], Option<&Tensor<i64>>) -> Result<Tensor> = match function {
        "softmax" => |i, _| F::softmax(&i[0], 1),
        "layer_norm" => |i, _| F::layer_norm(&i[0], &i[0].shape()[1..], Some(&i[1]), Some(&i[2]), 1e-5),
        "group_norm" => |i, _| F::group_norm(&i[0], 32, Some(&i[1]), Some(&i[2]), 1e-5),
        "embedding" => |i, rows| F::embedding(rows.expect("rows"), &i[0], Default::default()),
        "embedding_bag" => |i, rows| F::embedding_bag(rows.expect("rows"), &i[0], None, None, Default::default()),
        "gelu" => |i, _| Ok(F::gelu(&i[0], F::GELUApproximate::None)),
        "tanh" => |i, _| Ok(i[0].tanh()),
        "cross_entropy" => |i, labels| F::cross_entropy(&i[0], labels.expect("labels"), Default::default()),
        "chunk" => |i, _| Ok(i[0].narrow(2, 384, 384)?.contiguous()),
        "reshape" => |i, _| i[0].transpose(0, 1)?.reshape([128, 2048]),
        "t" => |i, _| Ok(i[0].t()?.contiguous()),
        "heads" => |i, _| Ok(i[0].transpose(1, 2)?.contiguous()),
        "pad" => |i, _| F::pad(&i[0], [1, 1], 0.),
        "pad_reflect" => |i, _| F::pad(&i[0], [0, 0, 1, 1], F::PaddingMode::Reflect),
        "conv_column" => |i, _| F::conv2d(&i[0], &i[1], Some(&i[2]), Default::default()),
        "max_pool1d" => |i, _| F::max_pool1d(&i[0], 2, Default::default()),
        "max_pool2d" => |i, _| F::max_pool2d(&i[0], 2, Default::default()),
        "avg_pool2d" => |i, _| F::avg_pool2d(&i[0], 2, Default::default()),
        "adaptive_avg_pool2d" => |i, _| F::adaptive_avg_pool2d(&i[0], 7),
        "bilinear" => |i, _| F::interpolate(&i[0], F::Resize::scale_factor(2.0), "bilinear"),
        "bilinear_down" => |i, _| F::interpolate(&i[0], F::Resize::scale_factor(0.75), "bilinear"),
        "conv_transpose2d" => |i, _| {
            let options = F::ConvTransposeOptions::default().stride(2).padding(1);
            F::conv_transpose2d(&i[0], &i[1], Some(&i[2]), options)
        },
        "basic_block" => |i, _| basic_block(i),
        _ => panic!("no workload {name}"),
    };
    if direction == "forward" {
        return Ok(Work::new(move |_| Ok(vec![call(&inputs, labels.as_ref())?])));
    }
    let leaves = inputs.clone();
    let backward = move |y: Option<&Tensor>| {
        let leaves: Vec<&Tensor> = leaves.iter().collect();
        let grads = autograd::grad_with(&[y.expect("prepared")], &[gradient.as_ref()], &leaves, false)?;
        Ok(grads.into_iter().flatten().collect())
    };
    // A backward pass frees its graph, so each one gets a new graph.
    Ok(Work { prepare: Box::new(move || Ok(Some(call(&inputs, labels.as_ref())?))), step: Box::new(backward) })
}

/// A loss and the gradients of its inputs, forward and backward in one step.
fn loss_work(name: &str, mut data: Data) -> Work {
    let (x, target) = (data.float("x").expect("x").set_requires_grad(true), data.labels().expect("target"));
    let weight = data.float("weight").map(|weight| weight.set_requires_grad(true));
    let chunked = F::LinearCrossEntropyLossOptions::default().batch_chunk_size((name == "Lchunks").then_some(CHUNK));
    Work::new(move |_| {
        let loss = match &weight {
            Some(weight) => F::linear_cross_entropy(&x, weight, &target, chunked)?,
            None => {
                let lengths = [x.shape()[0], target.shape()[1]].map(|n| Tensor::full([x.shape()[1]], n as i64));
                F::ctc_loss(&x.log_softmax(2)?, &target, &lengths[0], &lengths[1], Default::default())?
            }
        };
        let inputs: Vec<&Tensor> = [&x].into_iter().chain(&weight).collect();
        autograd::grad(&[&loss], &inputs, false)?;
        Ok(vec![loss])
    })
}

/// A recurrent layer from 64 to 128: the gradients of its parameters, or, if there is a state, inference.
fn recurrent_work<K: RecurrentKind>(layer: Recurrent<K>, state: Option<K::State<f32>>, mut data: Data) -> Result<Work> {
    let (x, weight) = (data.float("x").expect("x"), data.float("weight"));
    layer.load_state_dict(&data.0)?;
    let Some(weight) = weight else {
        return Ok(Work::new(move |_| Ok(vec![no_grad(|| layer.forward(&x, state.clone()))?.0])));
    };
    Ok(Work::new(move |_| {
        let params = layer.parameters();
        let params: Vec<Tensor> = params.iter().filter_map(|p| p.tensor().get()).collect();
        let loss = (layer.forward(&x, None)?.0 * &weight).mean();
        let grads = autograd::grad(&[&loss], &params.iter().collect::<Vec<_>>(), false)?;
        Ok(grads.into_iter().flatten().collect())
    }))
}

/// The result and the gradients of the inputs and weights: of a layer of a transformer, or of attention alone.
fn attention_work(name: &str, mut data: Data) -> Result<Work> {
    let gradient = data.float("grad");
    let inputs = ["x", "key", "value"].into_iter().filter_map(|n| Some(data.float(n)?.set_requires_grad(true)));
    let inputs: Vec<Tensor> = inputs.collect();
    let mut layer = (name == "G").then(|| TransformerEncoderLayer::new(256, 8).dim_feedforward(1024).dropout(0.));
    if let Some(layer) = &mut layer {
        layer.load_state_dict(&data.0)?;
    }
    Ok(Work::new(move |_| {
        let causal = F::ScaledDotProductAttentionOptions::default().is_causal(true);
        let y = match &layer {
            Some(layer) => Forward::forward(layer, &inputs[0])?,
            None => F::scaled_dot_product_attention(&inputs[0], &inputs[1], &inputs[2], None, causal)?,
        };
        let weights = layer.iter().flat_map(|layer| layer.parameters()).filter_map(|p| match p.tensor() {
            AnyTensor::F32(weight) => Some(weight),
            _ => None,
        });
        let leaves: Vec<Tensor> = inputs.iter().cloned().chain(weights).collect();
        let leaves: Vec<&Tensor> = leaves.iter().collect();
        let gradients = autograd::grad_with(&[&y], &[gradient.as_ref()], &leaves, false)?;
        Ok([Some(y)].into_iter().chain(gradients).flatten().collect())
    }))
}

fn work(name: &str, mut data: Data) -> Result<Work> {
    if name.contains('-') {
        return row_work(name, data);
    }
    if name == "Fgru" {
        return recurrent_work(GRU::new(64, 128), None, data);
    }
    if name.starts_with('F') {
        let state = data.float("h").zip(data.float("c"));
        return recurrent_work(LSTM::new(64, 128), state, data);
    }
    if matches!(name, "N" | "L" | "Lchunks") {
        return Ok(loss_work(name, data));
    }
    if matches!(name, "G" | "G2") {
        return attention_work(name, data);
    }
    let mut model = network(name);
    let x = data.float("x").expect("x");
    if name.starts_with('C') {
        model.load_state_dict(&data.0)?;
        model.eval();
        return Ok(Work::new(move |_| Ok(vec![no_grad(|| model.forward(&x))?])));
    }
    if name.starts_with('A') {
        let labels = data.labels().expect("labels");
        model.load_state_dict(&data.0)?;
        let loss = move |model: &Sequential| F::cross_entropy(&model.forward(&x)?, &labels, Default::default());
        return Ok(match name {
            "A" => {
                let sgd = optim::SGD::new(&model, 0.01).momentum(0.9);
                training(model, sgd, loss)
            }
            _ => {
                let adam = optim::Adam::new(&model, 1e-3);
                training(model, adam, loss)
            }
        });
    }
    let target = data.float("target").expect("target");
    if name == "adam" {
        model.load_state_dict(&data.0)?;
        let mut adam = optim::Adam::new(&model, 1e-3);
        F::mse_loss(&model.forward(&x)?, &target, Default::default())?.backward()?;
        return Ok(Work::new(move |_| {
            adam.step()?;
            // A separate tensor: a view of the weight would force the next step to copy it.
            let weight = model.parameters()[0].detach().to::<f32>();
            Ok(vec![Tensor::scalar(weight.view()[[0, 0]])])
        }));
    }
    model.load_state_dict(&data.0)?;
    let sgd = match name {
        "B" => optim::SGD::new(&model, 0.01).momentum(0.9),
        "D" => optim::SGD::new(&model, 1.),
        _ => panic!("no workload {name}"),
    };
    Ok(training(model, sgd, move |model| F::mse_loss(&model.forward(&x)?, &target, Default::default())))
}

/// Equal tensors give equal numbers: the sum of magnitudes, the sum relative to it, and elements relative to the mean
/// magnitude.
fn sums(tensor: &Tensor) -> Vec<f64> {
    let values: Vec<f64> = tensor.to_vec().into_iter().map(f64::from).collect();
    let magnitude: f64 = values.iter().map(|v| v.abs()).sum();
    let mean = magnitude / values.len() as f64;
    let elements = [0, values.len() / 2, values.len() - 1].map(|i| values[i] / mean);
    [magnitude, values.iter().sum::<f64>() / magnitude].into_iter().chain(elements).collect()
}

/// MiB of this process: VmRSS is the current value, VmHWM the maximum since the last reset.
fn memory(field: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find(|l| l.starts_with(field)).and_then(|l| l.split_whitespace().nth(1)?.parse().ok());
    kib.unwrap_or(f64::NAN) / 1024.
}

fn compare(name: &str, file: &str, seconds: f64) -> Result<()> {
    let mut work = work(name, Data(safetensors::load(file)?))?;
    // If the kernel does not allow the reset, the peak includes loading.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = memory("VmRSS");
    let mut values = Vec::new();
    for _ in 0..CHECKED {
        let result = work.run()?;
        if result[0].numel() == 1 {
            values.push(f64::from(result[0].item()?));
        }
    }
    work.measure(seconds / 5., 1)?;
    let (mut times, result) = work.measure(seconds, 10)?;
    let peak = memory("VmHWM");
    if values.is_empty() {
        values = result.iter().flat_map(sums).collect();
    }
    times.sort_by(f32::total_cmp);
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
    let mean = times.iter().map(|&t| f64::from(t)).sum::<f64>() / times.len() as f64;
    let figures = serde_json::json!({
        "values": values, "steps": times.len(), "mean": mean, "median": quantile(0.5), "p10": quantile(0.1),
        "p90": quantile(0.9), "before": before, "peak": peak,
    });
    println!("{figures}");
    Ok(())
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.as_slice() {
        [name, file, seconds] if seconds.parse::<f64>().is_ok() => {
            compare(name, file, seconds.parse().expect("just parsed"))
        }
        _ => {
            println!("The comparison with PyTorch: benches/compare/run --help");
            Ok(())
        }
    }
}
