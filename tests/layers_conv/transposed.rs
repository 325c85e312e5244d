//! Transposed convolutions, folding, convolution over time, and lazy forms.

use ndnn::{
    autograd::{grad, gradcheck, gradgradcheck},
    functional::{self as F, ConvOptions, ConvTransposeOptions, FoldOptions},
    prelude::*,
    random::{Generator, SeedableRng},
};
use rand::RngExt;

use super::{T, close, plain, refused, strided};

fn message<R>(result: Result<R>) -> String {
    result.map(drop).unwrap_err().to_string()
}

/// Against the plain loops of the convolution of which it is the derivative.
fn random_case<const N: usize>(rng: &mut Generator) {
    let mut below = |n: usize| rng.random_range(0..n);
    let groups = 1 + below(3);
    let (batch, inputs, outputs) = (below(4), groups * (1 + below(3)), groups * (1 + below(3)));
    let kernel: [usize; N] = std::array::from_fn(|_| 1 + below(3));
    let [stride, dilation, sizes]: [[usize; N]; 3] = std::array::from_fn(|_| std::array::from_fn(|_| 1 + below(3)));
    let more: [usize; N] = std::array::from_fn(|i| below(stride[i].max(dilation[i])));
    let reach: [usize; N] =
        std::array::from_fn(|i| (sizes[i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + more[i] + 1);
    let pads: [usize; N] = std::array::from_fn(|i| below(3).min((reach[i] - 1) / 2));
    let x = strided(&[&[batch, inputs], &sizes[..]].concat(), rng);
    let w = strided(&[&[inputs, outputs / groups], &kernel[..]].concat(), rng);
    let options = ConvTransposeOptions::<N>::default().stride(stride).padding(pads).dilation(dilation).groups(groups);
    let y = F::conv_transpose(&x, &w, None, options.output_padding(more)).unwrap();
    let out: Vec<usize> = (0..N).map(|i| reach[i] - 2 * pads[i]).collect();
    assert_eq!(y.shape(), [&[batch, outputs], &out[..]].concat());
    let conv = ConvOptions::<N>::default().stride(stride).dilation(dilation).groups(groups);
    let [_, expected, _] = plain(&T::zeros(y.shape()), &w, &x, conv, pads);
    close(&y, &expected);
}

#[test]
fn a_transposed_convolution_is_the_derivative_of_a_convolution() {
    let mut rng = Generator::seed_from_u64(1);
    for _ in 0..40 {
        random_case::<1>(&mut rng);
        random_case::<2>(&mut rng);
        random_case::<3>(&mut rng);
    }
    // In tiles and threads; 1x1 windows; many taps of one axis.
    for (x, w, options) in [
        ([3, 2, 30, 31], [2, 20, 3, 3], ConvTransposeOptions::default().stride([2, 1]).output_padding([1, 0])),
        ([5, 60, 12, 12], [60, 15, 1, 1], ConvTransposeOptions::default().groups(2)),
        ([2, 18, 40, 1], [18, 9, 11, 1], ConvTransposeOptions::default().groups(2)),
        // Every other row of the result sees no tap.
        ([2, 16, 9, 8], [16, 16, 3, 3], ConvTransposeOptions::default().stride([2, 1]).dilation([2, 1])),
    ] {
        let (x, w) = (strided(&x, &mut rng), strided(&w, &mut rng));
        let bias = strided(&[w.shape()[1] * options.get_groups()], &mut rng);
        let y = F::conv_transpose(&x, &w, None, options).unwrap();
        let conv = ConvOptions::<2>::default().stride(options.get_stride()).dilation(options.get_dilation());
        let conv = conv.groups(options.get_groups());
        let [_, expected, _] = plain(&T::zeros(y.shape()), &w, &x, conv, [0, 0]);
        close(&y, &expected);
        let y = F::conv_transpose(&x, &w, Some(&bias), options).unwrap();
        close(&y, &(expected + bias.reshape([-1, 1, 1]).unwrap()));
    }
}

#[test]
fn gradients_of_transposed_convolutions() {
    let mut rng = Generator::seed_from_u64(2);
    let mut check = |x: &[usize], w: &[usize], options: ConvTransposeOptions<2>| {
        let bias = T::randn_with([w[1] * options.get_groups()], &mut rng);
        let inputs = [strided(x, &mut rng), strided(w, &mut rng), bias];
        let f = |t: &[T]| F::conv_transpose2d(&t[0], &t[1], Some(&t[2]), options);
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    };
    let options = ConvTransposeOptions::default;
    check(&[2, 2, 3, 2], &[2, 3, 2, 2], options());
    check(&[4, 3, 2], &[4, 2, 3, 1], options().groups(2).stride([2, 1]).padding([1, 0]).output_padding([1, 0]));
    check(&[1, 2, 2, 2], &[2, 1, 2, 2], options().dilation([1, 3]).output_padding([0, 2]).padding([1, 2]));
    check(&[2, 2, 2, 2], &[2, 3, 1, 1], options());
    check(&[0, 2, 3, 3], &[2, 2, 2, 2], options());
    let inputs = [T::randn([1, 2, 3]), T::randn([2, 1, 2])];
    let f = |t: &[T]| F::conv_transpose1d(&t[0], &t[1], None, ConvTransposeOptions::default().stride(2));
    gradgradcheck(f, &inputs, Default::default()).unwrap();
    let inputs = [T::randn([1, 2, 1, 2, 2]), T::randn([2, 1, 2, 1, 2])];
    let f = |t: &[T]| F::conv_transpose3d(&t[0], &t[1], None, ConvTransposeOptions::default().stride([1, 2, 1]));
    gradcheck(f, &inputs, Default::default()).unwrap();
}

#[test]
fn the_transposed_layer() {
    let layer = ConvTranspose2d::new(4, 6, [3, 2]).groups(2).stride([2, 1]).padding([1, 0]).output_padding([1, 0]);
    let layer = layer.dtype::<f64>();
    assert_eq!(
        layer.to_string(),
        "ConvTranspose2d(4, 6, kernel_size=(3, 2), stride=(2, 1), padding=(1, 0), output_padding=(1, 0), groups=2)"
    );
    assert_eq!(layer.weight.shape(), [4, 3, 3, 2]);
    let x = T::randn([2, 4, 3, 5]).set_requires_grad(true);
    let w = layer.weight.detach().set_requires_grad(true);
    let b = layer.bias.as_ref().unwrap().detach().set_requires_grad(true);
    let options = ConvTransposeOptions::default().groups(2).stride([2, 1]).padding([1, 0]).output_padding([1, 0]);
    let y = F::conv_transpose2d(&x, &w, Some(&b), options).unwrap();
    assert_eq!((y.shape(), &layer.forward(&x).unwrap()), (&[2, 6, 6, 6][..], &y));
    let grads = grad(&[&y.square().sum()], &[&x, &w, &b], false).unwrap();
    layer.forward(&x).unwrap().square().sum().backward().unwrap();
    let ours = [x.grad(), layer.weight.grad(), layer.bias.as_ref().unwrap().grad()];
    assert_eq!(ours.as_slice(), grads);
    let one = layer.forward(&x.select(0, 1).unwrap()).unwrap();
    close(&one, &y.select(0, 1).unwrap());

    let bare = ConvTranspose1d::new(4, 5, 3).dilation(2).bias(false);
    assert_eq!(bare.to_string(), "ConvTranspose1d(4, 5, kernel_size=(3,), stride=(1,), dilation=(2,), bias=False)");
    assert_eq!(bare.bias(true).bias.unwrap().shape(), [5]);
    let bound = 1. / 18f32.sqrt();
    let drawn = ConvTranspose2d::new(40, 6, [3, 2]).groups(2);
    let values = [drawn.weight.detach(), drawn.bias.unwrap().detach()].map(|t| t.to_vec()).concat();
    assert!(values.iter().all(|v| v.abs() <= bound) && values.iter().any(|v| v.abs() > 0.9 * bound));
    // Without input channels it can be made, as in PyTorch, but sees no input.
    let none = ConvTranspose2d::new(0, 4, 2);
    assert!(message(none.forward(&Tensor::zeros([1, 0, 2, 2]))).contains("weight [0, 4, 2, 2] has 0 input channels"));
}

#[test]
fn the_size_of_the_output_can_be_asked_for() {
    let layer = ConvTranspose2d::new(2, 3, 3).stride([3, 2]).padding(1);
    let x = Tensor::randn([1, 2, 4, 4]);
    for height in 10..13 {
        for width in 7..9 {
            let y = layer.forward_with_output_size(&x, [height, width]).unwrap();
            assert_eq!(y, layer.forward_with_output_size(&x, [1, 3, height, width]).unwrap());
            let padded =
                ConvTransposeOptions::default().stride([3, 2]).padding(1).output_padding([height - 10, width - 7]);
            let bias = layer.bias.as_ref().map(Param::tensor);
            assert_eq!(y, F::conv_transpose2d(&x, &layer.weight.tensor(), bias.as_ref(), padded).unwrap());
        }
    }
    assert_eq!(layer.forward_with_output_size(&x.select(0, 0).unwrap(), [3, 10, 8]).unwrap().shape(), [3, 10, 8]);
    let wrong = |size: &[usize]| message(layer.forward_with_output_size(&x, size));
    let end = "; in ConvTranspose2d(2, 3, kernel_size=(3, 3), stride=(3, 2), padding=(1, 1))";
    let range = "output_size: [10, 9] for an input [1, 2, 4, 4]: axis 1 of the sizes may have 7 to 8 elements";
    assert_eq!(wrong(&[10, 9]), format!("{range}{end}"));
    assert!(wrong(&[9, 8]).contains("axis 0 of the sizes may have 10 to 12 elements"));
    assert!(wrong(&[usize::MAX, 8]).contains("may have 10 to 12"));
    let all = "output_size: [3, 10, 8] for an input [1, 2, 4, 4], expected 2 sizes, or all 4 axes";
    assert_eq!(wrong(&[3, 10, 8]), format!("{all}{end}"));
    let rank = message(layer.forward_with_output_size(&Tensor::zeros([2, 3]), [2, 3]));
    assert!(rank.starts_with("output_size: the input is [2, 3], expected (N, C, H, W) or (C, H, W)"), "{rank}");
}

#[test]
fn errors_of_transposed_convolutions() {
    let conv = |x: &[usize], w: &[usize], b: Option<&[usize]>, options: ConvTransposeOptions<2>| {
        message(F::conv_transpose2d(&T::zeros(x), &T::zeros(w), b.map(T::zeros).as_ref(), options))
    };
    let o = ConvTransposeOptions::default;
    let (x, w) = ([2, 4, 3, 3], [4, 2, 3, 3]);
    let cases: [(&[usize], &[usize], Option<&[usize]>, ConvTransposeOptions<2>, &str); 13] = [
        (&[3, 3], &w, None, o(), "the input is [3, 3], expected (N, C, H, W) or (C, H, W)"),
        (&x, &[4, 2, 3], None, o(), "the weight is [4, 2, 3], expected 4 axes: (in, out / groups, kernel sizes)"),
        (
            &x,
            &[4, 2, 0, 3],
            None,
            o(),
            "weight [4, 2, 0, 3] has a kernel without taps, each of its sizes is at least 1",
        ),
        (&x, &[3, 2, 3, 3], None, o(), "the input has 4 channels ([2, 4, 3, 3]), weight [3, 2, 3, 3] expects 3"),
        (
            &x[1..],
            &[3, 2, 3, 3],
            None,
            o(),
            "the input has 4 channels ([4, 3, 3]; 3 axes are (C, H, W)), weight [3, 2, 3, 3] expects 3",
        ),
        (&x, &w, None, o().groups(3), "weight [4, 2, 3, 3] has 4 input channels, 3 groups need a multiple of 3"),
        (&x, &[4, 0, 3, 3], None, o(), "weight [4, 0, 3, 3] has no output channels"),
        (
            &x,
            &w,
            Some(&[2]),
            o().groups(2),
            "the bias is [2], weight [4, 2, 3, 3] expects one for each output channel: [4]",
        ),
        (&[2, 4, 0, 3], &w, None, o(), "the input [2, 4, 0, 3] is empty; only batch or channels may be"),
        (
            &x,
            &w,
            None,
            o().stride([2, 3]).output_padding(2),
            "an output padding of 2 (axis 0 of the sizes) is not less than the stride, 2, or the dilation, 1",
        ),
        (
            &[1, 4, 1, 1],
            &[4, 1, 1, 1],
            None,
            o().padding([0, 1]),
            "windows of [1, 1] with padding [0, 1] on the input [1, 4, 1, 1] would give axis 1 of the output's sizes -1 elements",
        ),
        (
            &[1, 4, 1, 2],
            &[4, 1, 1, 1],
            None,
            o().padding([0, 1]),
            "windows of [1, 1] with padding [0, 1] on the input [1, 4, 1, 2] would give axis 1 of the output's sizes 0 elements",
        ),
        (
            &x,
            &w,
            None,
            o().stride(1 << 60),
            "a result of shape [2, 2, 2305843009213693955, 2305843009213693955] does not fit into memory, it takes \
             170141183460469232174409161484913344800 bytes",
        ),
    ];
    for (x, w, b, options, expected) in cases {
        assert_eq!(conv(x, w, b, options), format!("conv_transpose2d: {expected}"));
    }
    for far in [o().stride(usize::MAX), o().dilation(usize::MAX), o().padding(usize::MAX), o().stride(1 << 62)] {
        conv(&x, &w, None, far);
        conv(&x, &w, None, far.output_padding(1 << 61).stride(usize::MAX));
    }
    refused("a stride is at least 1, got 0", || drop(ConvTranspose2d::new(3, 4, 3).stride(0)));
    refused("a dilation is at least 1, got (1, 0)", || drop(ConvTranspose2d::new(3, 4, 3).dilation([1, 0])));
    refused("there is at least 1 group, got 0", || drop(ConvTranspose2d::new(3, 4, 3).groups(0)));
    refused("3 input and 4 output channels do not divide into 2 groups", || {
        drop(ConvTranspose2d::new(3, 4, 3).groups(2))
    });
    refused("a kernel size is at least 1, got 0", || drop(ConvTranspose1d::new(3, 4, 0)));
}

#[test]
fn transposed_convolutions_of_odd_sizes() {
    let o = ConvTransposeOptions::<1>::default;
    // PyTorch's sizes for an empty batch.
    let of = |x: &[usize]| {
        F::conv_transpose2d(&T::zeros(x), &T::zeros([2, 3, 2, 2]), Some(&T::ones([3])), Default::default())
    };
    assert_eq!(of(&[0, 2, 2, 2]).unwrap().shape(), [0, 3, 3, 3]);
    assert_eq!(of(&[0, 2, 0, 2]).unwrap().shape(), [0, 3, 1, 3]);
    // One element; steps that lead far outside are no steps at all.
    let (one, w) = (tensor![[[3.0]]], tensor![[[2.0]]]);
    for options in [o(), o().stride(usize::MAX), o().dilation(usize::MAX), o().stride(1 << 40).dilation(1 << 50)] {
        assert_eq!(F::conv_transpose1d(&one, &w, Some(&tensor![1.0]), options).unwrap(), tensor![[[7.0]]]);
    }
    let cut = F::conv_transpose1d(&one, &tensor![[[1.0, 2.0]]], None, o().dilation(1 << 40).padding(1 << 39)).unwrap();
    assert_eq!(cut, tensor![[[0.0]]]);
    // No product with an element outside of the kernel's reach: infinities stay where they are.
    let y = F::conv_transpose1d(&tensor![[[f32::INFINITY, 1.0]]], &tensor![[[1.0, 0.5]]], None, o().stride(2)).unwrap();
    assert_eq!(y, tensor![[[f32::INFINITY, f32::INFINITY, 1.0, 0.5]]]);
    // The same with many channels, also in the gradient of a weight.
    let mut w = vec![1.0; 16 * 16 * 3];
    w[0] = f32::INFINITY;
    let w = Tensor::from_vec([16, 16, 3], w).unwrap();
    let y = F::conv_transpose1d(&Tensor::ones([1, 16, 8]), &w, None, Default::default()).unwrap().to_vec();
    assert!(y[..8].iter().all(|&v| v == f32::INFINITY) && y[8..10] == [32.0, 16.0], "{y:?}");
    let mut x = vec![1.0; 16 * 20 * 20];
    x[19] = f32::INFINITY;
    let x = Tensor::from_vec([1, 16, 20, 20], x).unwrap();
    let w = Tensor::zeros([16, 16, 3, 3]).set_requires_grad(true);
    F::conv2d(&x, &w, None, Default::default()).unwrap().backward_with(&Tensor::ones([1, 16, 18, 18])).unwrap();
    let g = w.grad().unwrap().to_vec();
    assert!(g.iter().enumerate().all(|(i, &v)| v == if i % 144 == 2 { f32::INFINITY } else { 324.0 }), "{g:?}");
}

// --------------------------------------------------------------------------------------------------- folding and unfolding

#[test]
fn unfolding_shows_what_a_convolution_sees() {
    let mut rng = Generator::seed_from_u64(6);
    let options = FoldOptions::default().dilation([1, 2]).padding([2, 1]).stride([2, 1]);
    let (x, w) = (strided(&[2, 3, 7, 6], &mut rng), strided(&[4, 3, 3, 2], &mut rng));
    let columns = F::unfold(&x, [3, 2], options).unwrap();
    let conv = ConvOptions::default().dilation([1, 2]).padding([2, 1]).stride([2, 1]);
    let y = F::conv2d(&x, &w, None, conv).unwrap();
    close(&w.reshape([4, 18]).unwrap().matmul(&columns).unwrap(), &y.reshape([2, 4, -1]).unwrap());
    let one = F::unfold(&x.select(0, 1).unwrap(), [3, 2], options).unwrap();
    assert_eq!(one, columns.select(0, 1).unwrap());
    // Folded back, each element comes as often as windows contain it.
    let back = F::fold(&columns, [7, 6], [3, 2], options).unwrap();
    let ones = F::unfold(&T::ones(x.shape()), [3, 2], options).unwrap();
    close(&back, &(&x * F::fold(&ones, [7, 6], [3, 2], options).unwrap()));
    // Large enough for several threads.
    let x = strided(&[4, 16, 40, 40], &mut rng);
    let columns = ndnn::with_num_threads(3, || F::unfold(&x, 3, Default::default()).unwrap());
    assert_eq!(columns, ndnn::with_num_threads(1, || F::unfold(&x, 3, Default::default()).unwrap()));
    let each = columns.reshape([4, 16, 9, 38 * 38]).unwrap();
    assert_eq!(each.select(2, 5).unwrap().to_vec(), x.narrow(2, 1, 38).unwrap().narrow(3, 2, 38).unwrap().to_vec());
    let fold = || F::fold(&columns, 40, 3, Default::default()).unwrap();
    assert_eq!(ndnn::with_num_threads(3, fold), ndnn::with_num_threads(1, fold));
}

#[test]
fn gradients_of_folding() {
    let options = FoldOptions::default().dilation([1, 2]).padding([1, 0]).stride([1, 2]);
    for x in [&[2, 2, 3, 5][..], &[2, 3, 5], &[0, 1, 3, 5]] {
        let x = [T::randn(x)];
        let f = |t: &[T]| F::unfold(&t[0], [2, 2], options);
        gradcheck(f, &x, Default::default()).unwrap();
        gradgradcheck(|t: &[T]| Ok(f(t)?.square()), &x, Default::default()).unwrap();
        let columns = [f(&x).unwrap().detach()];
        let f = |t: &[T]| F::fold(&t[0], [3, 5], 2, options);
        gradcheck(f, &columns, Default::default()).unwrap();
        gradgradcheck(|t: &[T]| Ok(f(t)?.square()), &columns, Default::default()).unwrap();
    }
}

#[test]
fn errors_of_folding() {
    let unfold = |x: &[usize], kernel: usize| message(F::unfold(&T::zeros(x), kernel, Default::default()));
    assert_eq!(unfold(&[4, 5], 2), "unfold: the input is [4, 5], expected (N, C, H, W) or (C, H, W)");
    assert_eq!(unfold(&[2, 0, 4, 5], 2), "unfold: the input [2, 0, 4, 5] is empty; only the batch may be");
    assert_eq!(unfold(&[2, 1, 4, 5], 0), "unfold: windows of [0, 0]: each size is at least 1");
    let span = "windows of [2, 2] with dilation [1, 1] span 2 elements of axis 0 of the sizes";
    assert_eq!(
        unfold(&[2, 1, 1, 5], 2),
        format!("unfold: {span}, the input [2, 1, 1, 5] has 1 there, padding included")
    );
    assert_eq!(F::unfold(&T::zeros([0, 1, 4, 5]), 2, Default::default()).unwrap().shape(), [0, 4, 12]);
    let wide = FoldOptions::default().padding(1 << 40);
    assert!(message(F::unfold(&T::zeros([1, 1, 4, 5]), 1 << 40, wide)).contains("does not fit into memory"));
    message(F::unfold(&T::zeros([0, 1, 4, 5]), 1 << 40, wide));

    let fold = |x: &[usize], output: [usize; 2], kernel: [usize; 2]| {
        message(F::fold(&T::zeros(x), output, kernel, Default::default()))
    };
    let axes = "expected (N, C * taps, windows) or (C * taps, windows)";
    assert_eq!(fold(&[1, 2, 12, 12], [4, 5], [2, 2]), format!("fold: the input is [1, 2, 12, 12], {axes}"));
    assert_eq!(
        fold(&[2, 13, 12], [4, 5], [2, 2]),
        "fold: the input [2, 13, 12] has 13 rows, expected a multiple of 4, since kernel (2, 2) has 4 taps: one row for each \
         channel and tap"
    );
    assert!(fold(&[2, 0, 12], [4, 5], [2, 2]).contains("has 0 rows"));
    assert_eq!(
        fold(&[2, 12, 11], [4, 5], [2, 2]),
        "fold: the input [2, 12, 11] has 11 windows, an output of (4, 5) has 12 windows of (2, 2) with these options"
    );
    assert_eq!(fold(&[4, 0], [0, 5], [2, 2]), "fold: output (0, 5), kernel (2, 2): each size is at least 1");
    let none = "fold: an output of (1, 5) has no windows of (2, 2) with these options";
    assert_eq!(fold(&[4, 0], [1, 5], [2, 2]), none);
    assert_eq!(F::fold(&T::zeros([0, 4, 20]), [5, 6], 2, Default::default()).unwrap().shape(), [0, 1, 5, 6]);
    let far = FoldOptions::default().stride(usize::MAX);
    assert!(message(F::fold(&T::zeros([1, 1]), 1 << 40, 1, far)).contains("does not fit into memory"));
    refused("a stride is at least 1, got 0", || _ = Fold::new(3, 2).stride(0));
    refused("each kernel size is at least 1, got (2, 0)", || _ = Unfold::new([2, 0]));
    refused("each output size is at least 1, got 0", || _ = Fold::new(0, 1));
    let error = message(Unfold::new(3).forward(&Tensor::<f32>::zeros([1, 1, 2, 2])));
    assert!(error.ends_with("; in Unfold(kernel_size=3, dilation=1, padding=0, stride=1)"), "{error}");
}

#[test]
fn the_layers_of_folding() {
    let x = T::randn([2, 3, 6, 5]);
    let options = FoldOptions::default().dilation(2).padding(1).stride([2, 1]);
    let (unfold, fold) =
        (Unfold::new(2).dilation(2).padding(1).stride([2, 1]), Fold::new([6, 5], 2).dilation(2).padding(1));
    let fold = fold.stride([2, 1]);
    assert_eq!(fold.to_string(), "Fold(output_size=(6, 5), kernel_size=2, dilation=2, padding=1, stride=(2, 1))");
    let columns = unfold.forward(&x).unwrap();
    assert_eq!(columns, F::unfold(&x, 2, options).unwrap());
    assert_eq!(fold.forward(&columns).unwrap(), F::fold(&columns, [6, 5], 2, options).unwrap());
}

// ------------------------------------------------------------------------------------------------- convolution over time

#[test]
fn convolution_over_time() {
    let mut rng = Generator::seed_from_u64(7);
    let (x, w, b) = (strided(&[6, 2, 3], &mut rng), strided(&[4, 3, 5], &mut rng), strided(&[5], &mut rng));
    for padding in 0..4 {
        let y = F::conv_tbc(&x, &w, &b, padding).unwrap();
        let (by_channel, kernel) = (x.permute([1, 2, 0]).unwrap(), w.permute([2, 1, 0]).unwrap());
        let options = ConvOptions::default().padding(padding);
        close(&y, &F::conv1d(&by_channel, &kernel, Some(&b), options).unwrap().permute([2, 0, 1]).unwrap());
        let f = |t: &[T]| F::conv_tbc(&t[0], &t[1], &t[2], padding);
        let inputs = [T::randn([3, 2, 2]), T::randn([2, 2, 3]), T::randn([3])];
        gradcheck(f, &inputs, Default::default()).unwrap();
        gradgradcheck(f, &inputs, Default::default()).unwrap();
    }
}

#[test]
fn convolution_over_time_of_odd_sizes() {
    // PyTorch's shapes; without channels or taps the bias alone is left.
    let tbc = |x: &[usize], w: &[usize], padding| F::conv_tbc(&T::zeros(x), &T::zeros(w), &T::ones([w[2]]), padding);
    assert_eq!(tbc(&[1, 1, 3], &[2, 3, 4], 0).unwrap().shape(), [0, 1, 4]);
    assert_eq!(tbc(&[3, 0, 3], &[2, 3, 4], 0).unwrap().shape(), [2, 0, 4]);
    assert_eq!(tbc(&[3, 1, 0], &[2, 0, 4], 0).unwrap(), T::ones([2, 1, 4]));
    assert_eq!(tbc(&[3, 1, 2], &[0, 2, 1], 0).unwrap(), T::ones([4, 1, 1]));
    assert_eq!(tbc(&[3, 1, 2], &[2, 2, 0], 0).unwrap().shape(), [2, 1, 0]);
    let error = |x: &[usize], w: &[usize], padding| message(tbc(x, w, padding));
    let too_many = "conv_tbc: 3 taps are too many for 1 times with a padding of 0 at each end";
    assert_eq!(error(&[1, 1, 3], &[3, 3, 4], 0), too_many);
    assert_eq!(
        error(&[3, 2], &[2, 2, 1], 0),
        "conv_tbc: input [3, 2], weight [2, 2, 1]; expected (T, B, C) and (kernel_size, C, F)"
    );
    assert_eq!(
        error(&[3, 1, 2], &[2, 3, 1], 0),
        "conv_tbc: the input [3, 1, 2] has 2 channels, weight [2, 3, 1] expects 3"
    );
    let bias = F::conv_tbc(&T::zeros([3, 1, 2]), &T::zeros([2, 2, 1]), &T::zeros([2]), 0);
    assert_eq!(message(bias), "conv_tbc: the bias is [2], weight [2, 2, 1] expects [1]");
    for padding in [1 << 40, 1 << 62, usize::MAX] {
        error(&[3, 1, 2], &[2, 2, 1], padding);
    }
    assert_eq!(tbc(&[0, 1, 0], &[1 << 40, 0, 1], 1 << 39).unwrap(), T::ones([1, 1, 1]));
}

// ------------------------------------------------------------------------------------------------------------------ lazy

#[test]
fn lazy_convolutions_take_their_channels_from_the_first_input() {
    let x = T::randn([2, 4, 5, 6]);
    let lazy = LazyConv2d::new(6, [3, 2]).stride(2).groups(2).padding_mode("reflect").padding(1).bias(false).bias(true);
    let lazy = lazy.dtype::<f64>();
    let end = "6, kernel_size=(3, 2), stride=(2, 2), padding=(1, 1), groups=2, padding_mode=reflect)";
    assert_eq!(lazy.to_string(), format!("LazyConv2d(0, {end}"));
    let copy = lazy.clone();
    let y = lazy.forward(&x).unwrap();
    assert_eq!(lazy.to_string(), format!("Conv2d(4, {end}"));
    assert_eq!((lazy.weight.shape(), lazy.bias.as_ref().unwrap().shape()), (vec![6, 2, 3, 2], vec![6]));
    let options = ConvOptions::default().stride(2).groups(2).padding_mode("reflect").padding(1);
    assert_eq!(
        y,
        F::conv2d(&x, &lazy.weight.tensor(), lazy.bias.as_ref().map(Param::tensor).as_ref(), options).unwrap()
    );
    let bound = 1. / 12f64.sqrt();
    let values = [lazy.weight.detach(), lazy.bias.as_ref().unwrap().detach()].map(|t| t.to_vec()).concat();
    assert!(values.iter().all(|v| v.abs() <= bound) && values.iter().any(|v| v.abs() > 0.8 * bound));
    assert!(copy.weight.is_lazy(), "a clone is drawn by itself");
    // Without a batch; an input that does not fit initialises nothing.
    let refused = message(copy.forward(&T::zeros([3, 5, 6])));
    let why = "conv2d: the input [3, 5, 6] has 3 channels, 2 groups need a multiple of 2; in LazyConv2d(0, 6";
    assert!(refused.starts_with(why) && copy.weight.is_lazy(), "{refused}");
    let refused = message(copy.forward(&T::zeros([5, 6])));
    assert!(refused.starts_with("conv2d: the input is [5, 6], expected (N, C, H, W) or (C, H, W)"), "{refused}");
    assert_eq!(copy.forward(&T::zeros([8, 5, 6])).unwrap().shape(), [6, 3, 4]);
    assert_eq!(copy.to_string(), format!("Conv2d(8, {end}"));

    let lazy = LazyConvTranspose1d::new(6, 3).groups(3).stride(2).output_padding(1);
    let end = "6, kernel_size=(3,), stride=(2,), output_padding=(1,), groups=3)";
    assert_eq!(lazy.to_string(), format!("LazyConvTranspose1d(0, {end}"));
    assert!(
        message(lazy.forward(&Tensor::zeros([1, 4, 5]))).starts_with("conv_transpose1d: the input [1, 4, 5] has 4")
    );
    assert_eq!(lazy.forward_with_output_size(&Tensor::zeros([1, 9, 5]), [11]).unwrap().shape(), [1, 6, 11]);
    assert_eq!(lazy.to_string(), format!("ConvTranspose1d(9, {end}"));
    assert_eq!((lazy.weight.shape(), lazy.bias.unwrap().shape()), (vec![9, 2, 3], vec![6]));
    assert_eq!(LazyConv1d::new(2, 3).forward(&Tensor::zeros([1, 5, 4])).unwrap().shape(), [1, 2, 2]);
    assert_eq!(LazyConv3d::new(2, 1).forward(&Tensor::zeros([1, 5, 4, 3, 2])).unwrap().shape(), [1, 2, 4, 3, 2]);
    assert_eq!(LazyConvTranspose2d::new(2, 2).forward(&Tensor::zeros([5, 4, 3])).unwrap().shape(), [2, 5, 4]);
    assert_eq!(LazyConvTranspose3d::new(2, 1).forward(&Tensor::zeros([5, 4, 3, 2])).unwrap().shape(), [2, 4, 3, 2]);
}

#[test]
fn lazy_convolutions_draw_as_the_layers_they_become() {
    let drawn = |lazy: bool| {
        ndnn::manual_seed(3);
        let down = if lazy { LazyConv2d::new(4, 3) } else { Conv2d::new(2, 4, 3) };
        let y = down.forward(&Tensor::ones([1, 2, 5, 5])).unwrap();
        let up = if lazy { LazyConvTranspose2d::new(2, 3) } else { ConvTranspose2d::new(4, 2, 3) };
        up.forward(&y).unwrap()
    };
    ndnn::random::with(&mut Generator::seed_from_u64(1), || assert_eq!(drawn(true).shape(), drawn(false).shape()));
}

#[test]
fn lazy_convolutions_say_what_to_do() {
    refused("5 output channels do not divide into 2 groups", || drop(LazyConv2d::new(5, 3).groups(2)));
    refused("5 output channels do not divide into 2 groups", || drop(LazyConvTranspose2d::new(5, 3).groups(2)));
    refused("a kernel size is at least 1, got 0", || drop(LazyConv1d::new(5, 0)));
    let wide = LazyConv1d::new(1 << 20, 1).bias(false);
    let error = message(wide.forward(&Tensor::zeros([0, 1 << 40, 1])));
    assert!(
        error.starts_with("conv1d: a result of shape [1048576, 1099511627776, 1]") && wide.weight.is_lazy(),
        "{error}"
    );
    let model: Sequential = sequential![LazyConv2d::new(4, 3), ReLU, LazyConvTranspose2d::new(2, 3)];
    let why =
        "`0.weight` has no values yet, since its shape comes from the first input; run a batch through the model first";
    refused(&format!("num_parameters: {why}"), || _ = model.num_parameters());
    // A state_dict of the layers that they become gives them their shape.
    let full: Sequential = sequential![Conv2d::new(3, 4, 3), ReLU, ConvTranspose2d::new(4, 2, 3)];
    model.load_state_dict(&full.state_dict()).unwrap();
    let x = Tensor::randn([2, 3, 6, 6]);
    assert_eq!(model.forward(&x).unwrap(), full.forward(&x).unwrap());
    assert_eq!((model.to_string(), model.num_parameters()), (full.to_string(), full.num_parameters()));
    let other: Sequential = sequential![LazyConv2d::new(4, 2)];
    let error = message(other.load_state_dict(&sequential![Conv2d::new(3, 4, 3)].state_dict()));
    assert!(error.contains("of another shape: 0.weight (model [4, 0, 2, 2], file [4, 3, 3, 3])"), "{error}");
    let layer = other.get::<Conv2d>(0).unwrap();
    assert!(layer.weight.is_lazy());
}
