//! Bad input of every kind: an `Err` whose text says what was given, what was expected, and where. Files are tested in
//! `modules.rs` and `data.rs`, optimizers in `optim.rs`.

mod common;

use common::{panic_of, refused_with as refused};
use ndnn::{
    ErrorKind::{Graph, Index, Shape, Value},
    autograd::grad,
    functional::{self as F, ConvOptions},
    prelude::*,
};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape)
}

#[test]
fn shapes() {
    let (x, y) = (zeros(&[2, 3]), zeros(&[4, 3]));
    refused(x.try_add(&y), Shape, &["add: ", "[2, 3]", "[4, 3]", "do not broadcast"]);
    refused(x.try_mul(&y), Shape, &["mul: ", "[2, 3]", "[4, 3]"]);
    refused(x.lerp(&y, zeros(&[3])), Shape, &["lerp: ", "together: input [2, 3], end [4, 3], weight [3]"]);
    let clamped = x.clamp_tensor(Some(&zeros(&[3])), Some(&y));
    refused(clamped, Shape, &["clamp: ", "together: input [2, 3], min [3], max [4, 3]"]);
    refused(x.matmul(&y), Shape, &["m: ", "[2, 3]", "[4, 3]", "3", "4"]);
    refused(x.bmm(&y), Shape, &["bmm: ", "[2, 3]", "[4, 3]"]);
    refused(x.reshape([4, 2]), Shape, &["reshape: ", "[2, 3] (6 elements)", "[4, 2]"]);
    refused(x.reshape([-1, 4]), Shape, &["reshape: ", "[-1, 4]"]);
    refused(x.expand([5, 3]), Shape, &["expand: ", "[2, 3] does not expand to [5, 3]"]);
    refused(x.permute([0, 0]), Shape, &["permute: ", "[0, 0] does not name each of 2 axes once"]);
    refused(x.sum().permute([0]), Shape, &["permute: ", "[0] does not name each of 0 axes once"]);
    refused(Tensor::cat(&[&x, &zeros(&[2, 4])], 0), Shape, &["cat: ", "tensor 1 is [2, 4], the first is [2, 3]"]);
    refused(Tensor::cat(&Vec::<Tensor>::new(), 0), Shape, &["cat: expected at least one tensor"]);
    refused(Tensor::stack(&[&x, &y], 0), Shape, &["stack: ", "[4, 3]", "[2, 3]"]);
    refused(Tensor::from_vec([2, 2], vec![1.0f32]), Shape, &["[2, 2]", "1"]);
    refused(x.item(), Shape, &["item: ", "[2, 3]"]);
}

#[test]
fn axes_and_indices() {
    let x = zeros(&[2, 3]);
    refused(x.sum_dim([2], false), Shape, &["sum: ", "no axis 2 in a tensor of 2 (expected -2 to 1)"]);
    refused(x.softmax(-3), Shape, &["softmax: ", "-3"]);
    refused(x.select(1, 3), Index, &["select: ", "index 3 is out of range for axis 1 of size 3 ([2, 3])"]);
    refused(x.narrow(0, 1, 2), Index, &["narrow: ", "axis 0 of size 2"]);
    refused(x.index_select(0, &tensor![0, 2]), Index, &["index_select: ", "index 2 is out of range"]);
    refused(x.gather(1, &tensor![[5]]), Index, &["gather: ", "5", "[2, 3]"]);
    refused(x.split(0, 0), Value, &["split: ", "a size of 0"]);
    refused(x.topk(4, -1, true), Value, &["topk: ", "k is 4", "has 3"]);
}

#[test]
fn groups_of_channels() {
    let norm = |shape: &[usize], groups| F::group_norm(&zeros(shape), groups, None, None, 1e-5);
    refused(norm(&[4], 2), Shape, &["group_norm: needs an input (N, C, *) of 2 axes or more, got [4]"]);
    refused(
        norm(&[2, 4, 0], 2),
        Shape,
        &["group_norm: needs at least one value per channel, and a channel, got [2, 4, 0]"],
    );
    refused(norm(&[2, 0, 3], 1), Shape, &["got [2, 0, 3]"]);
    refused(norm(&[2, 4], 3), Shape, &["group_norm: 4 channels ([2, 4]) cannot be cut into 3 groups of as many"]);
    refused(norm(&[2, 4], 0), Shape, &["into 0 groups"]);
    refused(norm(&[1, 4], 4), Value, &["group_norm: needs more than 1 value per group, got [1, 4] and 4 groups"]);
    refused(
        F::group_norm(&zeros(&[2, 4]), 2, Some(&zeros(&[3])), None, 1e-5),
        Shape,
        &["4 channels on axis 1, weight is [3]"],
    );
}

#[test]
fn layers_name_themselves_and_their_place() {
    let net = sequential![sequential![Linear::new(4, 3)].push_named("second", Conv2d::new(3, 8, 3)), ReLU];
    refused(
        net.forward(&zeros(&[2, 5])),
        Shape,
        &["linear: the input's last axis has 5 features ([2, 5]), weight [3, 4] expects 4; in Sequential.0.0 \
           (Linear(in_features=4, out_features=3, bias=True))"],
    );
    refused(
        net.forward(&zeros(&[2, 4])),
        Shape,
        &["[2, 3]", "; in Sequential.0.second (Conv2d(3, 8, kernel_size=(3, 3), stride=(1, 1)))"],
    );
    refused(LSTM::new(4, 3).forward(&zeros(&[5, 2, 6]), None), Shape, &["6", "4", "in LSTM(4, 3)"]);
    refused(GRU::new(4, 3).forward(&zeros(&[5, 2, 6]), None), Shape, &["6", "4", "in GRU(4, 3)"]);
    refused(GRUCell::new(4, 3).forward(&zeros(&[2, 6]), None), Shape, &["6", "4", "in GRUCell(4, 3)"]);
    refused(BatchNorm2d::new(3).forward(&zeros(&[2, 4, 5, 5])), Shape, &["4", "3", "in BatchNorm2d(3, "]);
    refused(GroupNorm::new(2, 4).forward(&zeros(&[2, 6, 5])), Shape, &["4", "6", "in GroupNorm(2, 4, "]);
    refused(LayerNorm::new([4]).forward(&zeros(&[2, 5])), Shape, &["[2, 5]", "in LayerNorm((4,), "]);
    refused(MaxPool2d::new(4).forward(&zeros(&[1, 1, 3, 3])), Shape, &["[1, 1, 3, 3]", "in MaxPool2d(kernel_size=4, "]);
    refused(
        Flatten.forward(&zeros(&[2])),
        Shape,
        &["flatten: there is no axis 1", "; in Flatten(start_dim=1, end_dim=-1)"],
    );
}

#[test]
fn convolutions() {
    let weight = zeros(&[8, 3, 3, 3]);
    let conv = |x: &[usize], options| F::conv2d(&zeros(x), &weight, None, options);
    refused(conv(&[1, 4, 9, 9], ConvOptions::default()), Shape, &["conv2d: ", "4", "3", "[8, 3, 3, 3]"]);
    refused(conv(&[1, 3, 2, 9], ConvOptions::default()), Shape, &["conv2d: ", "[1, 3, 2, 9]"]);
    refused(conv(&[3], ConvOptions::default()), Shape, &["conv2d: ", "[3]"]);
    let bias = zeros(&[7]);
    refused(
        F::conv2d(&zeros(&[1, 3, 9, 9]), &weight, Some(&bias), ConvOptions::default()),
        Shape,
        &["conv2d: ", "[7]", "8"],
    );
}

#[test]
fn poolings_and_paddings() {
    let x = |shape: &[usize]| zeros(shape);
    let adaptive = AdaptiveAvgPool2d::new([Some(2), None]);
    refused(
        adaptive.forward(&x(&[3, 4])),
        Shape,
        &[
            "adaptive_avg_pool2d: the input is [3, 4], expected (N, C, H, W) or (C, H, W); in AdaptiveAvgPool2d(output_size=(2, None))",
        ],
    );
    refused(adaptive.forward(&x(&[1, 2, 0, 4])), Shape, &["[1, 2, 0, 4] is empty; only batch or channels may be"]);
    let empty = "adaptive_max_pool1d: the input [2, 0, 4] is empty; only the first axis may be";
    refused(F::adaptive_max_pool1d(&x(&[2, 0, 4]), 2), Shape, &[empty]);
    refused(F::adaptive_avg_pool3d(&x(&[2, 0, 4, 4, 4]), 2), Shape, &["only the first axis may be"]);
    refused(F::adaptive_max_pool1d(&x(&[1, 1, 4]), 1 << 60), Value, &["[1, 1, 1152921504606846976]", "memory"]);
    refused(
        F::avg_pool3d(&x(&[1, 2, 4, 4]), 3, F::AvgPoolOptions::default().padding(1)),
        Shape,
        &["avg_pool3d: windows of 3", "[1, 2, 4, 4]"],
    );
    refused(F::lp_pool1d(&x(&[1, 4]), 0., 2, Default::default()), Value, &["lp_pool1d: a norm_type of 0"]);
    refused(
        LPPool1d::new(2, 5).forward(&x(&[1, 4])),
        Shape,
        &["lp_pool1d: windows of [5]", "; in LPPool1d(norm_type=2, kernel_size=5, "],
    );
    refused(
        F::lp_pool2d(&x(&[1, 4, 2]), f64::INFINITY, 3, Default::default()),
        Shape,
        &["lp_pool2d: windows of [3, 3]"],
    );

    let fractional = |kernel: usize, size: F::FractionalSize<2>, u: Option<&Tensor>| {
        F::fractional_max_pool2d(&x(&[2, 3, 5, 5]), kernel, size, u)
    };
    refused(
        fractional(2, 5.into(), None),
        Shape,
        &[
            "fractional_max_pool2d: 5 windows of 2 for axis 0 of the sizes, which has 5 elements (input [2, 3, 5, 5]); a window has \
           1 element or more, and 4 of these fit",
        ],
    );
    refused(fractional(0, 2.into(), None), Shape, &["2 windows of 0"]);
    refused(F::fractional_max_pool3d(&x(&[3, 5, 5, 5]), 2, 4, None), Shape, &["and 3 of these fit"]);
    refused(fractional(2, 1.5.into(), None), Value, &["output ratios of [1.5, 1.5]: each is between 0 and 1"]);
    refused(
        fractional(2, 2.into(), Some(&x(&[2, 3, 3]))),
        Shape,
        &["the random samples are [2, 3, 3], expected [2, 3, 2]"],
    );
    refused(fractional(2, 2.into(), Some(&(x(&[2, 3, 2]) - 0.5))), Value, &["between 0 and 1, got -0.5"]);
    refused(F::fractional_max_pool2d(&x(&[2, 0, 5, 5]), 2, 2, None), Shape, &["[2, 0, 5, 5] is empty"]);

    let (y, places) = (x(&[1, 2, 2]), Tensor::<i64>::zeros([1, 2, 2]));
    let unpool = |places: &Tensor<i64>, size| F::max_unpool1d(&y, places, 2, Default::default(), size);
    refused(unpool(&Tensor::zeros([1, 2, 3]), None), Shape, &["the indices are [1, 2, 3], the input [1, 2, 2]"]);
    refused(
        unpool(&(&places - 1), None),
        Index,
        &["max_unpool1d: the index -1 is outside the result", "4 elements per channel"],
    );
    refused(unpool(&(&places + 4), None), Index, &["the index 4 is outside the result"]);
    refused(
        unpool(&places, Some(&[6])),
        Value,
        &["an output size of [6] for the input [1, 2, 2]: axis 0 of the sizes may have 3 to 5 elements"],
    );
    refused(
        unpool(&places, Some(&[2, 4])),
        Shape,
        &["the output size is [2, 4], expected 1 sizes or the shape of the result"],
    );
    refused(
        F::max_unpool1d(&y, &places, 2, F::MaxUnpoolOptions::default().padding(3), None),
        Value,
        &[
            "axis 0 of the sizes of the input [1, 2, 2] would become -2 elements long with windows of [2], stride 2, padding [3]",
        ],
    );

    refused(
        ReflectionPad2d::new(4).forward(&x(&[2, 4, 4])),
        Shape,
        &["pad: [2, 4, 4] by [4, 4, 4, 4]: axis 1 has only 4", "; in ReflectionPad2d((4, 4, 4, 4))"],
    );
    refused(
        CircularPad2d::new(1).forward(&x(&[4, 4])),
        Shape,
        &["one or two axes more", "in CircularPad2d((1, 1, 1, 1))"],
    );
    refused(ReplicationPad1d::new([1, 2]).forward(&x(&[2, 2, 2, 2])), Shape, &["in ReplicationPad1d((1, 2))"]);
    refused(ZeroPad1d::new(-2).forward(&x(&[3])), Shape, &["pad: [3] by [-2, -2]: an axis would have fewer than 0"]);
    refused(ConstantPad3d::new(1, 0.5).forward(&x(&[3, 3])), Shape, &["at most 2 axes", "value=0.5)"]);
}

#[test]
fn classes_and_targets() {
    let logits = zeros(&[2, 3]);
    let loss = |y: &Tensor<i64>| F::cross_entropy(&logits, y, Default::default());
    refused(loss(&tensor![0, 3]), Index, &["cross_entropy: ", "3"]);
    refused(loss(&tensor![0, -1]), Index, &["cross_entropy: ", "-1"]);
    refused(loss(&tensor![0, 1, 2]), Shape, &["cross_entropy: ", "[2, 3]", "[3]"]);
    refused(F::nll_loss(&logits, &tensor![0, 7], Default::default()), Index, &["nll_loss: ", "7"]);
    refused(
        Embedding::new(4, 2).forward(&tensor![[0, 4]]),
        Index,
        &["index 4 is outside a table of 4 rows", "in Embedding(4, 2)"],
    );
    refused(Embedding::new(4, 2).forward(&tensor![-1]), Index, &["index -1 is outside"]);
    refused(F::binary_cross_entropy(&zeros(&[2]), &zeros(&[3]), Default::default()), Shape, &["[2]", "[3]"]);
}

#[test]
fn an_empty_batch_is_an_answer_or_an_error() {
    assert_eq!(Linear::new(3, 2).forward(&zeros(&[0, 3])).unwrap().shape(), [0, 2]);
    assert!(F::mse_loss(&zeros(&[0, 2]), &zeros(&[0, 2]), Default::default()).unwrap().item().unwrap().is_nan());
    refused(BatchNorm1d::new(2).forward(&zeros(&[1, 2])), Value, &["batch_norm: ", "[1, 2]", "in BatchNorm1d(2, "]);
    refused(zeros(&[0, 2]).amax([0], false), Shape, &["amax: ", "[0, 2]"]);
    refused(MaxPool1d::new(2).forward(&zeros(&[1, 0, 4])), Shape, &["[1, 0, 4] is empty"]);
}

#[test]
fn gradients() {
    let x = tensor![1.0, 2.0].set_requires_grad(true);
    refused((&x * 2.0).backward(), Shape, &["backward: ", "single element", "[2]", "sum()"]);
    let y = x.square().sum();
    y.backward().unwrap();
    refused(y.backward(), Graph, &["freed", "backward_retain"]);
    refused(zeros(&[1]).backward(), Graph, &["backward: this tensor has no graph", "no_grad"]);
    refused(no_grad(|| x.sum()).backward(), Graph, &["no graph"]);
    refused((&x * 2.0).backward_with(&zeros(&[3])), Shape, &["[3]", "[2]"]);
    refused(grad(&[&x.sum()], &[&zeros(&[1])], false), Graph, &["grad: ", "no graph"]);
    let p = Param::new(zeros(&[2]));
    refused(p.set(&zeros(&[3])), Shape, &["set: the parameter is [2], the new values are [3]"]);
    let buffer = Buffer::new(zeros(&[2]));
    refused(buffer.set(&zeros(&[3])), Shape, &["set: the buffer is [2], the new values are [3]"]);
    assert_eq!(buffer.tensor().shape(), [2]);
    refused(p.set_grad(Some(zeros(&[3]))), Shape, &["set_grad: the parameter is [2], the gradient is [3]"]);
}

#[test]
fn values() {
    refused(Tensor::<f32>::bernoulli([2], 1.5), Value, &["bernoulli: ", "1.5"]);
    refused(tensor![4, 2].div_floor(tensor![0, 1]), Value, &["div_floor: ", "divided by zero"]);
    refused(F::dropout(&zeros(&[2]), 1.5, true), Value, &["dropout: ", "1.5"]);
    refused(Tensor::<f32>::arange(0.0, 1.0, 0.0), Value, &["arange: ", "0"]);
}

#[test]
fn options_that_can_never_be_right() {
    let parts: Vec<(String, &str)> = vec![
        (
            panic_of(|| {
                let _ = Dropout::new(1.5);
            }),
            "1.5",
        ),
        (
            panic_of(|| {
                let _ = Conv2d::new(3, 8, 3).stride(0);
            }),
            "stride",
        ),
        (
            panic_of(|| {
                let _ = Conv2d::new(3, 8, 3).groups(2);
            }),
            "groups",
        ),
        (
            panic_of(|| {
                let _ = MaxPool2d::new(2).stride(0);
            }),
            "stride",
        ),
        (
            panic_of(|| {
                let _ = Hardtanh::new(1.0, -1.0);
            }),
            "Hardtanh: min_val must be below max_val, got 1.0 and -1.0",
        ),
        (
            panic_of(|| {
                let _ = HuberLoss::new().delta(-1.);
            }),
            "delta is above 0, got -1.0",
        ),
        (
            panic_of(|| {
                let _ = CrossEntropyLoss::new().label_smoothing(f64::NAN);
            }),
            "label_smoothing is a share, from 0 to 1, got nan",
        ),
        (
            panic_of(|| {
                let _ = MSELoss::new().reduction("max");
            }),
            "reduction: there is no \"max\"; expected one of \"none\", \"mean\", \"sum\"",
        ),
        (
            panic_of(|| {
                let _ = MultiheadAttention::new(5, 2);
            }),
            "5",
        ),
        (
            panic_of(|| {
                let _ = &zeros(&[2]) + &zeros(&[3]);
            }),
            "[2] and [3] do not broadcast",
        ),
    ];
    for (text, part) in parts {
        assert!(text.contains(part), "`{part}` is not in: {text}");
    }
}

/// The line at which code panics.
fn place(f: impl FnOnce() + std::panic::UnwindSafe) -> String {
    use std::sync::{Arc, Mutex};
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let found = Arc::new(Mutex::new(String::new()));
    let (before, write, this) = (std::panic::take_hook(), found.clone(), std::thread::current().id());
    std::panic::set_hook(Box::new(move |info| match std::thread::current().id() == this {
        true => *write.lock().unwrap() = info.location().unwrap().file().to_string(),
        false => eprintln!("{info}"),
    }));
    let result = std::panic::catch_unwind(f);
    std::panic::set_hook(before);
    assert!(result.is_err(), "it did not panic");
    found.lock().unwrap().clone()
}

#[test]
fn panics_point_at_the_caller() {
    macro_rules! here {
        ($($code:expr),* $(,)?) => {$(
            assert_eq!(place(|| { let _ = $code; }), file!(), "{}", stringify!($code));
        )*};
    }
    macro_rules! operators {
        ($x:expr, $y:expr; $($op:tt)*) => {$(
            here!(&$x() $op &$y(), $x() $op &$y(), &$x() $op $y(), $x() $op $y());
        )*};
    }
    let (x, y): (fn() -> Tensor, fn() -> Tensor) = (|| zeros(&[2]), || zeros(&[3]));
    operators!(x, y; + - * /);
    let (i, j): (fn() -> Tensor<i64>, fn() -> Tensor<i64>) = (|| Tensor::zeros([2]), || Tensor::zeros([3]));
    operators!(i, j; + - *);
    let (a, b): (fn() -> Tensor<bool>, fn() -> Tensor<bool>) = (|| Tensor::zeros([2]), || Tensor::zeros([3]));
    operators!(a, b; & | ^);
    let model = || Linear::new(2, 1);
    here!(
        optim::SGD::new(&model(), -1.),
        optim::SGD::new(&model(), 1.).momentum(-1.),
        optim::SGD::new(&ReLU, 1.),
        optim::SGD::new(&model(), 1.).set_lr(f64::NAN),
        optim::Adam::new(&model(), f64::NAN),
        optim::Adam::new(&model(), 1.).betas((1., 1.)),
        optim::AdamW::new(&model(), 1.).weight_decay(-1.),
        Conv2d::new(1, 1, 0),
        Conv2d::new(1, 1, 3).stride(0),
        Conv2d::new(1, 1, 3).dilation(0),
        Conv2d::new(1, 1, 3).groups(2),
        ConvOptions::<2>::default().stride(0),
        Conv2d::new(1, 1, 3).padding("some"),
        Conv2d::new(1, 1, 3).padding_mode("reflection"),
        ConvOptions::<2>::default().padding("some"),
        ConvOptions::<2>::default().padding_mode("reflection"),
        Conv2d::new(usize::MAX, 2, 1),
        LSTM::new(usize::MAX, 1),
        BatchNorm2d::new(usize::MAX),
        LayerNorm::new(usize::MAX),
        PReLU::new().num_parameters(usize::MAX),
        MultiheadAttention::new(4, 2).kdim(1 << 62),
        ModuleDict::from([("a.b", model())]),
        ParameterDict::from([("a.b", model().weight)]),
        MaxPool2d::new(0),
        MaxUnpool2d::new(0),
        MaxUnpool2d::new(2).stride(0),
        LPPool2d::new(0, 2),
        LPPool1d::new(2, 0),
        LPPool1d::new(2, 2).stride(0),
        FractionalMaxPool2d::new(0, 2),
        FractionalMaxPool2d::new(2, 1.),
        FractionalMaxPool3d::new(2, [0.5, 0.5, f64::NAN]),
        Dropout::new(2.),
        LSTM::new(0, 1),
        GRU::new(1, 0),
        GRU::new(2, 2).dropout(-0.1),
        GRUCell::new(usize::MAX, 1),
        LSTM::new(2, 2).num_layers(0),
        LSTM::new(2, 2).dropout(2.),
        LSTM::new(2, 2).proj_size(3),
        MultiheadAttention::new(3, 2),
        Bilinear::new(0, 1, 1),
        Embedding::new(2, 2).padding_idx(5),
        Hardtanh::new(1, 0),
        RReLU::new(1, 0),
        RReLU.upper(f64::NAN),
        HuberLoss::new().delta(0.),
        HuberLoss::new().delta(f64::NAN),
        SmoothL1Loss::new().beta(-1.),
        SmoothL1Loss::new().beta(f64::NAN),
        CrossEntropyLoss::new().label_smoothing(1.5),
        CrossEntropyLoss::new().dtype::<f64>().label_smoothing(f64::NAN),
        F::HuberLossOptions::<f32>::default().delta(-1.),
        MSELoss::new().reduction("max"),
        CELU::new(0),
        CELU.alpha(0.),
        Softshrink::new(-1),
        Softshrink.lambd(f64::NAN),
        GELU.approximate("sigmoid"),
        ndnn::data::DataLoader::new(ndnn::data::TensorDataset::new(zeros(&[2])).unwrap(), 0),
    );
    // What cannot be converted, and what contains it.
    let computed = || {
        let layer = model();
        ndnn::nn::utils::parametrizations::weight_norm(&layer.weight, 0).unwrap();
        layer
    };
    here!(
        computed().weight.cast::<f64>(),
        computed().dtype::<f64>(),
        Some(computed()).dtype::<f64>(),
        vec![computed()].dtype::<f64>(),
        [computed()].dtype::<f64>(),
        Box::new(computed()).dtype::<f64>(),
        std::sync::Arc::new(computed()).dtype::<f64>(),
        ModuleDict::from([("a", computed())]).dtype::<f64>(),
        ParameterList::from(vec![computed().weight]).dtype::<f64>(),
    );
}
