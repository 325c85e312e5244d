//! Convolutions, padding, pooling and norms: against plain loops, finite differences, and PyTorch's rules.

mod common;
#[path = "layers_conv/kinds.rs"]
mod kinds;
#[path = "layers_conv/normalization.rs"]
mod normalization;
#[path = "layers_conv/pooling.rs"]
mod pooling;
#[path = "layers_conv/transposed.rs"]
mod transposed;
#[path = "layers_conv/vision.rs"]
mod vision;

use ndarray::{IxDyn, indices};
use ndnn::{
    autograd::{grad, gradcheck, gradgradcheck},
    functional::{self as F, ConvOptions, MaxPoolOptions, PadOptions, PaddingMode},
    prelude::*,
    random::{Generator, SeedableRng},
};
use pooling::plain_pool;
use rand::RngExt;

type T = Tensor<f64>;

/// Random numbers whose axes are in memory in reverse order: not contiguous.
fn strided(shape: &[usize], rng: &mut Generator) -> T {
    let reversed: Vec<usize> = shape.iter().rev().copied().collect();
    let order: Vec<isize> = (0..shape.len() as isize).rev().collect();
    T::randn_with(reversed, rng).permute(order).unwrap()
}

fn close(a: &T, b: &T) {
    assert_eq!(a.shape(), b.shape());
    for (x, y) in a.to_vec().iter().zip(b.to_vec()) {
        assert!((x - y).abs() <= 1e-11 * y.abs().max(1.0), "{x} is not {y}");
    }
}

/// The element of `x` at `tap` in the window at `o`, unless it is in the padding.
fn source(o: &[usize], tap: &[usize], sizes: &[usize], step: [&[usize]; 2], before: &[usize]) -> Option<Vec<usize>> {
    (0..sizes.len())
        .map(|i| (o[i] * step[0][i] + tap[i] * step[1][i]).checked_sub(before[i]).filter(|&at| at < sizes[i]))
        .collect()
}

/// `y`, and the derivatives of `Σ y g` with respect to x and w, one product at a time.
fn plain<const N: usize>(x: &T, w: &T, g: &T, options: ConvOptions<N>, before: [usize; N]) -> [T; 3] {
    let (stride, dilation) = (options.get_stride().get(), options.get_dilation().get());
    let (f, c) = (w.shape()[0] / options.get_groups(), w.shape()[1]);
    let (x, w, g) = (x.view(), w.view(), g.view());
    let mut y = ndarray::ArrayD::zeros(g.raw_dim());
    let (mut dx, mut dw) = (ndarray::ArrayD::zeros(x.raw_dim()), ndarray::ArrayD::zeros(w.raw_dim()));
    for to in indices(g.raw_dim()) {
        let to = ndarray::Dimension::slice(&to).to_vec();
        for tap in indices(IxDyn(&w.shape()[1..])) {
            let tap = ndarray::Dimension::slice(&tap).to_vec();
            let Some(at) = source(&to[2..], &tap[1..], &x.shape()[2..], [&stride, &dilation], &before) else {
                continue;
            };
            let from = IxDyn(&[&[to[0], to[1] / f * c + tap[0]], at.as_slice()].concat());
            let (to, weight) = (IxDyn(&to), IxDyn(&[&[to[1]], tap.as_slice()].concat()));
            y[&to] += x[&from] * w[&weight];
            dx[&from] += g[&to] * w[&weight];
            dw[&weight] += g[&to] * x[&from];
        }
    }
    [y.into(), dx.into(), dw.into()]
}

/// One convolution and its derivatives against the plain loops.
fn compare<const N: usize>(x: &T, w: &T, options: ConvOptions<N>, before: [usize; N], rng: &mut Generator) {
    let (x, w) = (x.set_requires_grad(true), w.set_requires_grad(true));
    let y = F::conv(&x, &w, None, options).unwrap();
    let g = strided(y.shape(), rng);
    let [expected, dx, dw] = plain(&x, &w, &g, options, before);
    close(&y, &expected);
    (y * &g).sum().backward().unwrap();
    close(&x.grad().unwrap(), &dx);
    close(&w.grad().unwrap(), &dw);
}

fn random_case<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let groups = 1 + below(3);
    let (batch, channels, features) = (below(4), groups * (1 + below(3)), groups * (1 + below(3)));
    let kernel: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let dilation: [usize; N] = std::array::from_fn(|_| 1 + below(2));
    let (stride, pads): ([usize; N], [usize; N]) =
        (std::array::from_fn(|_| 1 + below(3)), std::array::from_fn(|_| below(3)));
    let sizes: [usize; N] =
        std::array::from_fn(|i| ((kernel[i] - 1) * dilation[i] + 1 + below(5)).saturating_sub(2 * pads[i]).max(1));
    let options = ConvOptions::<N>::default().stride(stride).padding(pads).dilation(dilation).groups(groups);
    let x = strided(&[&[batch, channels], &sizes[..]].concat(), rng);
    let w = strided(&[&[features, channels / groups], &kernel[..]].concat(), rng);
    compare(&x, &w, options, pads, rng);
}

#[test]
fn convolutions_are_sums_of_products() {
    let mut rng = Generator::seed_from_u64(1);
    for _ in 0..40 {
        random_case::<1>(&mut rng);
        random_case::<2>(&mut rng);
        random_case::<3>(&mut rng);
    }
}

#[test]
fn large_convolutions_in_tiles_and_threads() {
    let mut rng = Generator::seed_from_u64(2);
    let (x, w) = (strided(&[3, 400, 200], &mut rng), strided(&[4, 400, 3], &mut rng));
    compare(&x, &w, ConvOptions::<1>::default().padding(1), [1], &mut rng);
    // One sample: the gradient of the input is split by channels.
    let (x, w) = (strided(&[1, 37, 20, 21], &mut rng), strided(&[11, 37, 3, 3], &mut rng));
    compare(&x, &w, ConvOptions::<2>::default().stride([1, 2]), [0, 0], &mut rng);
    // 1x1 windows: no columns are written.
    let (x, w) = (strided(&[5, 30, 12, 12], &mut rng), strided(&[60, 15, 1, 1], &mut rng));
    compare(&x, &w, ConvOptions::<2>::default().groups(2), [0, 0], &mut rng);
    // One channel per group.
    let (x, w) = (strided(&[4, 40, 16, 16], &mut rng), strided(&[80, 1, 3, 3], &mut rng));
    compare(&x, &w, ConvOptions::<2>::default().groups(40).padding("same"), [1, 1], &mut rng);
}

/// The kernel uses the last axes in place: inside it, they are merged with the axis before.
#[test]
fn axes_that_are_taken_whole() {
    let mut rng = Generator::seed_from_u64(9);
    for width in 1..4 {
        for (stride, dilation, before) in [(1, 1, 0), (1, 2, 3), (2, 1, 1)] {
            let (x, w) = (strided(&[2, 3, 20, width], &mut rng), strided(&[4, 3, 5, 1], &mut rng));
            let options = ConvOptions::<2>::default().stride([stride, 1]).dilation([dilation, 1]);
            compare(&x, &w, options.padding([before, 0]), [before, 0], &mut rng);
            let (x, w) = (strided(&[2, 3, 9, width, 2], &mut rng), strided(&[4, 3, 3, 1, 1], &mut rng));
            let options = ConvOptions::<3>::default().stride([stride, 1, 1]).dilation([dilation, 1, 1]);
            compare(&x, &w, options.padding([before, 0, 0]), [before, 0, 0], &mut rng);
        }
        // Many taps and no padding: the derivatives need no columns.
        for (dilation, groups) in [(1, 1), (2, 2)] {
            let (x, w) = (strided(&[2, 4, 40, width], &mut rng), strided(&[18, 4 / groups, 11, 1], &mut rng));
            compare(&x, &w, ConvOptions::<2>::default().dilation(dilation).groups(groups), [0, 0], &mut rng);
        }
        let x = strided(&[2, 3, 20, width], &mut rng);
        let options = MaxPoolOptions::<2>::default().stride([2, 1]).padding([1, 0]);
        let (y, places) = F::max_pool2d_with_indices(&x, [3, 1], options).unwrap();
        assert_eq!((y.clone(), places), plain_pool(&x, y.shape(), [3, 1], options));
    }
}

#[test]
fn bias_and_no_batch() {
    let mut rng = Generator::seed_from_u64(3);
    let (x, w) = (T::randn_with([2, 4, 5], &mut rng), T::randn_with([8, 1, 3], &mut rng));
    let b = T::randn_with([8], &mut rng);
    let options = ConvOptions::default().groups(4).padding(2);
    let y = F::conv1d(&x, &w, Some(&b), options).unwrap();
    close(&y, &(F::conv1d(&x, &w, None, options).unwrap() + b.reshape([8, 1]).unwrap()));
    for i in 0..2 {
        let one = F::conv1d(&x.select(0, i).unwrap(), &w, Some(&b), options).unwrap();
        close(&one, &y.select(0, i).unwrap());
    }
}

#[test]
fn convolution_gradients() {
    let mut rng = Generator::seed_from_u64(4);
    let mut check = |x: &[usize], w: &[usize], options: ConvOptions<2>| {
        let inputs = [strided(x, &mut rng), strided(w, &mut rng), T::randn_with([w[0]], &mut rng)];
        let f = |t: &[T]| F::conv2d(&t[0], &t[1], Some(&t[2]), options);
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    };
    let options = ConvOptions::default;
    check(&[2, 2, 4, 3], &[3, 2, 2, 2], options());
    check(&[4, 4, 3], &[4, 2, 3, 1], options().groups(2).stride([2, 1]).padding([1, 0]).dilation([1, 2]));
    check(&[1, 2, 3, 4], &[2, 1, 2, 3], options().padding("same").groups(2));
    check(&[2, 2, 2, 2], &[3, 2, 1, 1], options());
    check(&[0, 2, 3, 3], &[2, 2, 2, 2], options());
    for mode in ["reflect", "replicate", "circular"] {
        check(&[1, 1, 3, 3], &[1, 1, 2, 2], options().padding(1).padding_mode(mode));
    }
}

#[test]
fn no_batch_and_no_channels() {
    let conv = Conv2d::new(3, 4, 2);
    let x = Tensor::zeros([0, 3, 5, 5]).set_requires_grad(true);
    let y = conv.forward(&x).unwrap();
    assert_eq!(y.shape(), [0, 4, 4, 4]);
    y.sum().backward().unwrap();
    assert_eq!(x.grad().unwrap().shape(), x.shape());
    assert_eq!(conv.weight.grad().unwrap(), Tensor::zeros([4, 3, 2, 2]));
    assert_eq!(conv.bias.as_ref().unwrap().grad().unwrap(), Tensor::zeros([4]));
    // PyTorch: without input channels there are no output channels either.
    let conv = Conv2d::new(0, 4, 2);
    assert_eq!(conv.bias.as_ref().unwrap().detach(), Tensor::zeros([4]));
    let y = conv.forward(&Tensor::zeros([2, 0, 5, 5])).unwrap();
    assert_eq!(y.shape(), [2, 0, 4, 4]);
    y.sum().backward().unwrap();
    assert_eq!(conv.bias.as_ref().unwrap().grad().unwrap(), Tensor::zeros([4]));
}

#[test]
fn layer_and_function_are_the_same() {
    let conv =
        Conv2d::new(4, 6, [3, 2]).stride([1, 2]).padding([1, 0]).groups(2).padding_mode("circular").dtype::<f64>();
    let x = T::randn([2, 4, 5, 6]).set_requires_grad(true);
    let (w, b) =
        (conv.weight.detach().set_requires_grad(true), conv.bias.as_ref().unwrap().detach().set_requires_grad(true));
    let options = ConvOptions::default().stride([1, 2]).padding([1, 0]).groups(2).padding_mode(PaddingMode::Circular);
    let y = F::conv2d(&x, &w, Some(&b), options).unwrap();
    assert_eq!(conv.forward(&x).unwrap(), y);
    let grads = grad(&[&y.square().sum()], &[&x, &w, &b], false).unwrap();
    conv.forward(&x).unwrap().square().sum().backward().unwrap();
    assert_eq!(x.grad().as_ref(), grads[0].as_ref());
    assert_eq!(conv.weight.grad().as_ref(), grads[1].as_ref());
    assert_eq!(conv.bias.unwrap().grad().as_ref(), grads[2].as_ref());

    let pool = MaxPool2d::new(3).stride(2).padding(1).ceil_mode(true);
    let options = MaxPoolOptions::default().stride(2).padding(1).ceil_mode(true);
    let (y, indices) = F::max_pool2d_with_indices(&x, 3, options).unwrap();
    assert_eq!(pool.forward(&x).unwrap(), y);
    assert_eq!(pool.forward_with_indices(&x).unwrap().1, indices);
}

#[test]
fn the_same_bits_on_any_number_of_threads() {
    let mut rng = Generator::seed_from_u64(5);
    let x = Tensor::<f32>::randn_with([6, 16, 24, 24], &mut rng).set_requires_grad(true);
    let w = Tensor::randn_with([16, 16, 3, 3], &mut rng).set_requires_grad(true);
    let run = |threads| {
        ndnn::set_num_threads(threads);
        let y = F::conv2d(&x, &w, None, ConvOptions::default().padding(1)).unwrap();
        let z = F::max_pool2d(&y, 3, MaxPoolOptions::default().stride(2)).unwrap();
        let grads = grad(&[&z.square().sum()], &[&x, &w], false).unwrap();
        let all = [Some(y), Some(z)].into_iter().chain(grads).map(|t| t.unwrap().to_vec());
        all.map(|v| v.into_iter().map(f32::to_bits).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let one = run(1);
    assert!(one == run(2) && one == run(4));
}

// --------------------------------------------------------------------------------------------------------------- padding

#[test]
fn padding_gradients() {
    let x = T::randn([2, 3, 4]);
    // Many blocks of one element each: copied along the blocks.
    let long = T::randn([40, 30, 1]);
    for mode in [PadOptions::from(0.5), "replicate".into(), "circular".into()] {
        let leaf = long.set_requires_grad(true);
        let y = F::pad(&leaf, [1, 1], mode).unwrap();
        let ends = if mode == 0.5.into() { T::full([40, 30, 1], 0.5) } else { long.clone() };
        assert_eq!(y.detach(), T::cat(&[&ends, &long, &ends], -1).unwrap());
        let g = T::randn(y.shape());
        (&y * &g).sum().backward().unwrap();
        let share = if mode == 0.5.into() { g.narrow(-1, 1, 1) } else { g.sum_dim(-1, true) };
        close(&leaf.grad().unwrap(), &share.unwrap());
    }
    for mode in [PadOptions::from(0.5), "reflect".into(), "replicate".into(), "circular".into()] {
        for pads in [[1, 2], [-1, 2], [2, -2], [0, 0]] {
            gradcheck(|t| F::pad(&t[0], pads, mode), std::slice::from_ref(&x), Default::default()).unwrap();
            gradgradcheck(
                |t| F::pad(&t[0], pads, mode)?.square().sum_dim(-1, false),
                std::slice::from_ref(&x),
                Default::default(),
            )
            .unwrap();
        }
    }
}

#[test]
fn padding_layers() {
    let x = T::randn([2, 3, 4, 4, 4]);
    let same = |layer: &dyn Forward<f64>, x: &T, pads: &[isize], options: PadOptions| {
        assert_eq!(layer.forward(x).unwrap(), F::pad(x, pads, options).unwrap());
    };
    same(&ReflectionPad3d::new([1, 2, 3, 0, -1, 1]), &x, &[1, 2, 3, 0, -1, 1], "reflect".into());
    same(&ReplicationPad3d::new([1, 2, 3, 4, 5, 6]), &x, &[1, 2, 3, 4, 5, 6], "replicate".into());
    same(&CircularPad3d::new([1, 2, 3, 4, 0, 1]), &x, &[1, 2, 3, 4, 0, 1], "circular".into());
    same(&ZeroPad3d::new([1, -2, 3, 4, 0, 1]), &x, &[1, -2, 3, 4, 0, 1], 0.0.into());
    same(&ConstantPad2d::new([1, -2, 3, 4], 7), &x, &[1, -2, 3, 4], 7.0.into());
    let plane = x.select(0, 0).unwrap().select(1, 0).unwrap();
    same(&ReflectionPad2d::new(3), &plane, &[3, 3, 3, 3], "reflect".into());
    same(&ReflectionPad1d::new(2), &plane, &[2, 2], "reflect".into());
    assert_eq!(ConstantPad1d::new(-1, 2.5).to_string(), "ConstantPad1d(padding=(-1, -1), value=2.5)");
    // PyTorch takes a value of 0 in any mode.
    let reflected = F::pad(&plane, [1, 1], PadOptions::default().mode("reflect").value(0.)).unwrap();
    assert_eq!(reflected, F::pad(&plane, [1, 1], "reflect").unwrap());
}

#[test]
fn padding_as_pytorch() {
    let x = tensor![[1, 2, 3, 4, 5]];
    let pad = |pads: [isize; 2], mode: PadOptions| F::pad(&x, pads, mode).map(|y| y.to_vec());
    assert_eq!(pad([-2, 3], PaddingMode::Circular.into()).unwrap(), [3, 4, 5, 3, 4, 5]);
    assert_eq!(pad([3, -2], PaddingMode::Circular.into()).unwrap(), [1, 2, 3, 1, 2, 3]);
    assert_eq!(pad([-3, -2], PaddingMode::Circular.into()).unwrap(), Vec::<i64>::new());
    assert_eq!(pad([-2, 3], PaddingMode::Reflect.into()).unwrap(), [3, 4, 5, 4, 3, 2]);
    assert_eq!(pad([4, -6], PaddingMode::Reflect.into()).unwrap(), [5, 4, 3]);
    assert_eq!(pad([-6, 5], PaddingMode::Replicate.into()).unwrap(), [5, 5, 5, 5]);
    assert_eq!(pad([4, -6], PaddingMode::Replicate.into()).unwrap(), [1, 1, 1]);
    assert_eq!(pad([-4, 5], 7.0.into()).unwrap(), [5, 7, 7, 7, 7, 7]);
    let error = pad([5, 0], PaddingMode::Reflect.into()).unwrap_err().to_string();
    assert_eq!(error, "pad: [1, 5] by [5, 0]: axis 1 has only 5 elements to pad from, 5 and 0 are asked for");
    for (pads, mode) in [
        ([6, 0], PaddingMode::Circular.into()),
        ([-5, 5], PaddingMode::Circular.into()),
        ([-4, 4], PaddingMode::Circular.into()),
        ([-3, -2], PaddingMode::Reflect.into()),
        ([-3, -2], PaddingMode::Replicate.into()),
        ([-6, 5], 0.0.into()),
        ([isize::MAX, isize::MAX], 0.0.into()),
        ([isize::MAX, 0], PaddingMode::Replicate.into()),
        ([isize::MIN, 0], PaddingMode::Replicate.into()),
    ] {
        pad(pads, mode).expect_err("what PyTorch refuses");
    }
    F::pad(&x, [1, 1, 1], 0.0).expect_err("half a pair");
    F::pad(&x, [1, 1, 1, 1], PaddingMode::Replicate).expect_err("a matrix has one axis to pad");
    F::pad(&Tensor::<f32>::zeros([1, 0, 3]), [1, 1], PaddingMode::Replicate).expect_err("no channels");
    assert_eq!(F::pad(&Tensor::<f32>::zeros([0, 2, 3]), [1, 1], PaddingMode::Replicate).unwrap().shape(), [0, 2, 5]);
    assert_eq!(F::pad(&Tensor::<f32>::zeros([1, 0, 3]), [1, 1], PaddingMode::Circular).unwrap().shape(), [1, 0, 5]);
}

// ------------------------------------------------------------------------------------------------- printing and refusing

#[test]
fn printed_as_pytorch() {
    let conv =
        Conv2d::new(4, 8, [3, 2]).stride([2, 1]).padding([1, 2]).dilation([1, 2]).groups(4).padding_mode("reflect");
    assert_eq!(
        conv.to_string(),
        "Conv2d(4, 8, kernel_size=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=4, padding_mode=reflect)"
    );
    let conv = Conv1d::new(4, 5, 3).padding("same").bias(false).dtype::<f64>();
    assert_eq!(conv.to_string(), "Conv1d(4, 5, kernel_size=(3,), stride=(1,), padding=same, bias=False)");
    assert_eq!(
        Conv3d::new(4, 5, 3).padding("valid").to_string(),
        "Conv3d(4, 5, kernel_size=(3, 3, 3), stride=(1, 1, 1), padding=valid)"
    );
    let pool = MaxPool3d::new(2).stride([2, 2, 2]).padding(1).ceil_mode(true);
    assert_eq!(pool.to_string(), "MaxPool3d(kernel_size=2, stride=(2, 2, 2), padding=1, dilation=1, ceil_mode=True)");
    assert_eq!(AvgPool3d::new([1, 2, 3]).to_string(), "AvgPool3d(kernel_size=(1, 2, 3), stride=(1, 2, 3), padding=0)");
    assert_eq!(Conv1d::new(4, 5, 3).padding(0).to_string(), "Conv1d(4, 5, kernel_size=(3,), stride=(1,))");
    let model = sequential![f64; Conv2d::new(1, 2, 3), MaxPool2d::new(2)];
    assert_eq!(model.forward(&T::zeros([1, 1, 8, 8])).unwrap().shape(), [1, 2, 3, 3]);
}

#[test]
fn initial_weights() {
    let conv = Conv2d::new(6, 8, [3, 2]).groups(2);
    assert_eq!(conv.weight.shape(), [8, 3, 3, 2]);
    let bound = 1.0 / 18f32.sqrt();
    let weights = conv.weight.detach().to_vec();
    assert!(weights.iter().all(|w| w.abs() <= bound) && weights.iter().any(|w| w.abs() > 0.8 * bound));
    assert!(conv.bias.unwrap().detach().to_vec().iter().all(|w| w.abs() <= bound));
}

#[test]
fn summary_counts_multiplications_on_all_threads() {
    let model = sequential![Conv2d::new(16, 32, 3).padding(1)];
    let table = ndnn::nn::summary(&model, &Tensor::zeros([4, 16, 20, 20])).unwrap();
    assert_eq!(table.multiply_adds, 4 * 32 * 16 * 9 * 400);
}

fn refused(message: &str, set: impl FnOnce()) {
    assert_eq!(common::panic_of(set), message);
}

#[test]
fn options_that_cannot_be_right_are_refused() {
    refused("a stride is at least 1, got 0", || drop(Conv2d::new(3, 4, 3).stride(0)));
    refused("a dilation is at least 1, got (1, 0)", || drop(Conv2d::new(3, 4, 3).dilation([1, 0])));
    refused("there is at least 1 group, got 0", || drop(Conv2d::new(3, 4, 3).groups(0)));
    refused("3 input and 4 output channels do not divide into 2 groups", || drop(Conv2d::new(3, 4, 3).groups(2)));
    refused("a kernel size is at least 1, got (3, 0)", || drop(Conv2d::new(3, 4, [3, 0])));
    refused("padding \"same\" takes a stride of 1", || drop(Conv2d::new(3, 4, 3).padding("same").stride(2)));
    refused("padding \"same\" takes a stride of 1", || drop(Conv2d::new(3, 4, 3).stride(2).padding("same")));
    refused("padding: \"full\": expected \"same\", \"valid\" or numbers", || {
        drop(Conv2d::new(3, 4, 3).padding("full"))
    });
    refused("a stride is at least 1, got (0, 1)", || {
        let _ = MaxPool2d::new(3).stride([0, 1]);
    });
    refused("padding \"same\" takes a stride of 1", || {
        let _ = ConvOptions::<2>::default().stride(2).padding("same");
    });
    refused("a divisor is not 0, got 0", || _ = AvgPool2d::new(3).divisor_override(0));
    refused("average pooling over one axis has no divisor_override", || _ = AvgPool1d::new(3).divisor_override(2));
    refused("only the padding mode \"constant\" takes a value", || {
        let _ = PadOptions::from("reflect").value(1.);
    });
    refused(
        "padding mode: there is no \"mirror\"; expected one of \"constant\", \"zeros\", \"reflect\", \"replicate\", \"circular\"",
        || drop(Conv2d::new(3, 4, 3).padding_mode("mirror")),
    );
}

#[test]
fn errors_say_what_is_wrong() {
    let conv = |x: &[usize], w: &[usize], b: Option<&[usize]>, options: ConvOptions<2>| {
        F::conv2d(&T::zeros(x), &T::zeros(w), b.map(T::zeros).as_ref(), options).unwrap_err().to_string()
    };
    let options = ConvOptions::default;
    assert_eq!(
        conv(&[2, 3, 5, 5], &[4, 2, 3, 3], None, options()),
        "conv2d: the input has 3 channels ([2, 3, 5, 5]), weight [4, 2, 3, 3] expects 2"
    );
    assert_eq!(
        conv(&[2, 3, 5, 5], &[4, 2, 3, 3], None, options().groups(2)),
        "conv2d: the input has 3 channels ([2, 3, 5, 5]), weight [4, 2, 3, 3] in 2 groups expects 4"
    );
    assert_eq!(
        conv(&[5, 5], &[4, 2, 3, 3], None, options()),
        "conv2d: the input is [5, 5], expected (N, C, H, W) or (C, H, W)"
    );
    assert_eq!(
        conv(&[4, 28, 28], &[8, 1, 3, 3], None, options()),
        "conv2d: the input has 4 channels ([4, 28, 28]; 3 axes are (C, H, W)), weight [8, 1, 3, 3] expects 1"
    );
    assert_eq!(
        conv(&[1, 2, 5, 5], &[4, 2, 3], None, options()),
        "conv2d: the weight is [4, 2, 3], expected 4 axes: (out, in / groups, kernel sizes)"
    );
    assert_eq!(
        conv(&[1, 2, 5, 5], &[4, 2, 3, 3], Some(&[3]), options()),
        "conv2d: the bias is [3], weight [4, 2, 3, 3] expects one for each output channel: [4]"
    );
    assert_eq!(
        conv(&[1, 2, 5, 5], &[4, 2, 3, 3], None, options().dilation(3)),
        "conv2d: windows of [3, 3] with dilation [3, 3] span 7 elements of axis 0 of the sizes, the input [1, 2, 5, 5] \
         has 5 there, padding included"
    );
    assert_eq!(
        conv(&[2, 2, 0, 5], &[4, 2, 1, 1], None, options().padding(1)),
        "conv2d: the input [2, 2, 0, 5] is empty; only batch or channels may be"
    );
    conv(&[1, 1, 3, 3], &[1, 1, 1, 1], None, options().padding(usize::MAX / 2));
    conv(&[1, 1, 3, 3], &[1, 1, 3, 3], None, options().dilation(usize::MAX));
    let error = Conv2d::new(3, 4, 3).forward(&Tensor::zeros([1, 4, 8, 8])).unwrap_err().to_string();
    assert!(error.ends_with("; in Conv2d(3, 4, kernel_size=(3, 3), stride=(1, 1))"), "{error}");

    let pool = |x: &[usize], kernel: usize, options: MaxPoolOptions<2>| {
        F::max_pool2d(&T::zeros(x), kernel, options).unwrap_err().to_string()
    };
    let options = MaxPoolOptions::default;
    assert_eq!(
        pool(&[1, 1, 4, 4], 3, options().padding(2)),
        "max_pool2d: a padding of 2 is more than half a window of 3 (axis 0 of the sizes)"
    );
    assert_eq!(pool(&[4, 4], 2, options()), "max_pool2d: the input is [4, 4], expected (N, C, H, W) or (C, H, W)");
    assert_eq!(pool(&[1, 0, 4, 4], 2, options()), "max_pool2d: the input [1, 0, 4, 4] is empty; only the batch may be");
    assert_eq!(
        pool(&[0, 1, 4, 4], 5, options()),
        "max_pool2d: windows of [5, 5] with dilation [1, 1] span 5 elements of axis 0 of the sizes, the input [0, 1, 4, 4] \
         has 4 there, padding included"
    );
    assert_eq!(pool(&[1, 1, 4, 4], 0, options()), "max_pool2d: windows of [0, 0]: each size is at least 1");
    let error = F::avg_pool3d(&T::zeros([2, 4, 4]), 2, Default::default()).unwrap_err().to_string();
    assert_eq!(error, "avg_pool3d: the input is [2, 4, 4], expected (N, C, D, H, W) or (C, D, H, W)");
    let error = AvgPool1d::new(2).padding(2).forward(&T::zeros([2, 4])).unwrap_err().to_string();
    assert_eq!(
        error,
        "avg_pool1d: a padding of 2 is more than half a window of 2 (axis 0 of the sizes); \
         in AvgPool1d(kernel_size=(2,), stride=(2,), padding=(2,))"
    );
    pool(&[1, 1, 4, 4], usize::MAX, options().dilation(usize::MAX).stride(usize::MAX).ceil_mode(true));
    let error = MaxPool2d::new(9).forward(&Tensor::<f32>::zeros([1, 1, 8, 8])).unwrap_err().to_string();
    assert!(error.contains("; in MaxPool2d(kernel_size=9, stride=9, padding=0"), "{error}");
}
