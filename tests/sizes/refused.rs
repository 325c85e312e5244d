//! What cannot be counted or does not fit into memory: the error, or the panic, gives the shape and the bytes.

use ndnn::{
    ErrorKind::{Shape, Value},
    data::{DataLoader, Dataset, TensorDataset},
    functional::{self as F, ConvOptions, PaddingMode},
    prelude::*,
};

use super::{
    common::{self, refused_with as refused},
    zeros,
};

#[test]
fn what_cannot_be_counted_is_an_error() {
    let (x, empty) = (zeros(&[1]), zeros(&[0]));
    let bytes = |n: u128| format!("does not fit into memory, it takes {n} bytes");
    let wide = "[8589934592, 8589934592]";
    let square = bytes(1 << 68);
    refused(zeros(&[1 << 33, 0]).mm(&zeros(&[0, 1 << 33])), Value, &["mm: a result of shape ", wide, &square]);
    refused(
        zeros(&[1 << 20, 0]).mm(&zeros(&[0, (1 << 44) + 1])),
        Value,
        &["mm: a result of shape [1048576, 17592186044417] ", &bytes(((1 << 44) + 1) << 22)],
    );
    refused(zeros(&[1 << 33, 0]).matmul(&zeros(&[0, 1 << 33])), Value, &["mm: ", wide, &square]);
    refused(zeros(&[1, 1 << 33, 0]).bmm(&zeros(&[1, 0, 1 << 33])), Value, &["bmm: ", "[1, 8589934592, ", &square]);
    refused(F::linear(&zeros(&[1 << 33, 0]), &zeros(&[1 << 33, 0]), None), Value, &["linear: ", wide, &square]);
    refused(empty.reshape([0, isize::MAX, isize::MAX]), Shape, &["reshape: [0] (0 elements) does not fit"]);
    refused(
        empty.reshape([1usize << 32, 1 << 32]),
        Shape,
        &["reshape: [0] (0 elements) does not fit", "[4294967296, "],
    );
    refused(x.constant_pad(&[(isize::MAX, 1)], 0.), Value, &["constant_pad: ", &bytes(((1 << 63) + 1) * 4)]);
    refused(F::pad(&x, [isize::MAX, 1], 0.), Value, &["pad: ", &bytes(((1 << 63) + 1) * 4)]);
    refused(F::pad(&x, [isize::MIN, 1], 0.), Shape, &["pad: [1] by [-9223372036854775808, 1]: an axis would have"]);
    refused(zeros(&[2]).diag_embed(isize::MAX, 0, 1), Value, &["diag_embed: ", "it takes more than 2^128 bytes"]);
    refused(empty.chunk(usize::MAX, 0), Value, &["chunk: a result of shape [18446744073709551615]"]);
    refused(x.expand([1usize << 60]), Value, &["expand: a result of shape [1152921504606846976]", &bytes(1 << 62)]);
    refused(x.broadcast_to([1 << 61]), Value, &["broadcast_to: ", &bytes(1 << 63)]);
    refused(
        zeros(&[1 << 33, 1, 0]).try_add(&zeros(&[1, 1 << 33, 0])),
        Value,
        &["add: a result of shape [8589934592, 8589934592, 0] is empty, but its other sizes multiply to more than"],
    );
    refused(
        zeros(&[2]).repeat_interleave_each(&tensor![i64::MAX, 1], None),
        Value,
        &["repeat_interleave: a result of shape [9223372036854775808]", &bytes(1 << 65)],
    );
    refused(Tensor::from_vec([usize::MAX, 2], vec![1f32, 2.]), Shape, &["from_vec: the sizes of shape ", "2 elements"]);
    refused(
        zeros(&[2]).repeat([1usize << 60]),
        Value,
        &["repeat: a result of shape [2305843009213693952]", &bytes(1 << 63)],
    );
    refused(zeros(&[1 << 60, 0]).sum_dim(1, false), Value, &["sum: a result of shape [1152921504606846976]"]);
    refused(Tensor::<i64>::arange(0, i64::MAX, 1), Value, &["arange: ", &bytes((1 << 66) - 8)]);
    refused(Tensor::<f64>::arange(0., 1e18, 1.), Value, &["arange: ", &bytes(8_000_000_000_000_000_000)]);
    refused(Tensor::<f32>::uniform([1 << 60], 0., 1.), Value, &["uniform: ", &bytes(1 << 62)]);
    let weight = zeros(&[1, 1, 1]);
    let conv = |options| F::conv1d(&zeros(&[1, 1, 4]), &weight, None, options);
    refused(conv(ConvOptions::default().padding(1 << 46)), Value, &["conv1d: ", &bytes(((1 << 47) + 4) * 4)]);
    let too_long = "conv1d: axis 0 of the sizes, 4 elements, is too long with a padding of 18446744073709551615";
    refused(conv(ConvOptions::default().padding(usize::MAX)), Value, &[too_long]);
    for mode in [PaddingMode::Reflect, PaddingMode::Replicate, PaddingMode::Circular] {
        assert!(conv(ConvOptions::default().padding(usize::MAX).padding_mode(mode)).is_err());
    }
    assert!(Tensor::from_vec([2, usize::MAX], Vec::<f32>::new()).is_err());
    // As a size it is not the -1 that is computed from the others.
    assert!(zeros(&[6]).reshape(&[usize::MAX][..]).is_err());
    assert!(TensorDataset::new(zeros(&[3])).unwrap().get(usize::MAX).is_err());
}

/// Functions that do not return a `Result` panic at the caller's line, with the same message.
#[test]
fn panics_tell_the_shape() {
    let n = 1 << 60;
    let calls: Vec<(&str, Box<dyn Fn()>)> = vec![
        ("zeros", Box::new(move || drop(Tensor::<f32>::zeros([n])))),
        ("ones", Box::new(move || drop(Tensor::<f64>::ones([n, n, n, 0])))),
        ("full", Box::new(move || drop(Tensor::<i64>::full([n, n], 3)))),
        ("eye", Box::new(move || drop(Tensor::<f32>::eye(n)))),
        ("linspace", Box::new(move || drop(Tensor::<f32>::linspace(0., 1., n)))),
        ("sample", Box::new(move || drop(Tensor::<f32>::rand([n])))),
        ("sample", Box::new(move || drop(Tensor::<f64>::randn([n, usize::MAX])))),
        ("randperm", Box::new(move || drop(Tensor::<i64>::randperm(usize::MAX)))),
        ("parameter", Box::new(move || drop(Linear::new(n, n)))),
        ("parameter", Box::new(move || drop(Bilinear::new(n, n, n)))),
        ("parameter", Box::new(move || drop(Conv2d::new(n, n, n)))),
        ("zeros", Box::new(move || drop(Embedding::new(n, 2)))),
        ("parameter", Box::new(move || drop(LayerNorm::new([n, n])))),
        ("parameter", Box::new(move || drop(BatchNorm1d::new(n)))),
        ("parameter", Box::new(move || drop(LSTM::new(2, usize::MAX / 2)))),
        ("parameter", Box::new(move || drop(GRUCell::new(2, usize::MAX / 2)))),
        ("num_layers", Box::new(move || drop(LSTM::new(2, 3).num_layers(n)))),
        ("parameter", Box::new(move || drop(MultiheadAttention::new(usize::MAX, 1)))),
        ("parameter", Box::new(move || drop(AdaptiveLogSoftmaxWithLoss::new(2, usize::MAX, [usize::MAX - 1])))),
        ("parameter", Box::new(move || drop(AdaptiveLogSoftmaxWithLoss::new(2, usize::MAX, [1, usize::MAX - 1])))),
        ("parameter", Box::new(move || drop(AdaptiveLogSoftmaxWithLoss::new(0, usize::MAX, [1])))),
        ("full", Box::new(move || drop(PReLU::new().num_parameters(n)))),
        ("add", Box::new(move || drop(&zeros(&[1 << 33, 1, 0]) + &zeros(&[1, 1 << 33, 0])))),
        ("DataLoader", Box::new(move || drop(DataLoader::new(Endless, 3).try_epoch(0).next()))),
    ];
    for (op, call) in calls {
        let text = common::panic_of(call);
        assert!(text.starts_with(&format!("{op}: a result of shape [")), "{op}: {text}");
    }
}

/// A data set that claims more samples than there are integers.
struct Endless;

impl Dataset for Endless {
    type Sample = Tensor;
    fn len(&self) -> usize {
        1 << 60
    }
    fn get(&self, _: usize) -> Result<Tensor> {
        Ok(zeros(&[]))
    }
    fn batch(&self, _: &[usize]) -> Result<Tensor> {
        Ok(zeros(&[]))
    }
}
