//! Sizes and indices near the limits of their types: no panic, abort, endless loop or wrong shape, but the empty result
//! that is mathematically correct, or an error that gives the shape and the bytes.

mod common;
#[cfg(target_os = "linux")]
#[path = "sizes/memory.rs"]
mod memory;
#[path = "sizes/refused.rs"]
mod refused;

use std::panic::{AssertUnwindSafe, catch_unwind};

use ndnn::{
    ErrorKind, Ints, Reduce,
    data::{DataLoader, Dataset, TensorDataset, random_split},
    functional::{
        self as F, AttentionOptions, AvgPoolOptions, ConvOptions, ConvTransposeOptions, EmbeddingOptions, FoldOptions,
        InterpolateOptions, MaxPoolOptions, MaxUnpoolOptions, NormalizeOptions, PaddingMode, Resize,
    },
    io,
    prelude::*,
};

const MAX: usize = isize::MAX as usize;
/// More `f32` than any address space holds: no result of this size is ever allocated.
const HUGE: usize = 1 << 46;

/// Every size that may overflow a sum or a product; none for which an allocator that overcommits would grant memory.
const SIZES: [usize; 12] = [0, 1, 2, 3, HUGE, 1 << 60, 1 << 61, 1 << 62, MAX - 1, MAX, MAX + 1, usize::MAX];
const INTS: [isize; 15] = [
    0,
    1,
    2,
    3,
    -1,
    -2,
    -3,
    HUGE as isize,
    1 << 61,
    -(1 << 61),
    isize::MAX - 1,
    isize::MAX,
    isize::MIN,
    isize::MIN + 1,
    isize::MIN + 2,
];

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape)
}

/// Small tensors, and tensors without elements, some of which have very long axes.
fn inputs() -> Vec<Tensor> {
    let shapes: [&[usize]; 17] = [
        &[],
        &[1],
        &[3],
        &[2, 3],
        &[1, 2, 3],
        &[2, 1, 3, 4],
        &[0],
        &[2, 0],
        &[0, 2, 3],
        &[HUGE, 0],
        &[0, HUGE],
        &[1 << 15, 0, HUGE],
        &[MAX, 0],
        &[0, MAX],
        &[0, 1, HUGE],
        &[1, 1, 0, 1 << 60],
        &[HUGE, 1, 0],
    ];
    shapes.iter().map(|shape| zeros(shape)).collect()
}

/// Runs `f`: it must not panic, whatever it returns.
fn calm<R>(name: &str, input: &dyn std::fmt::Debug, f: impl FnOnce() -> Result<R>) -> Option<R> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(result) => result.ok(),
        Err(payload) => panic!("{name} of {input:?}: {}", common::text(&*payload)),
    }
}

/// One row per function: its name, and a call with a tensor and a number, which accepts every input and every number.
macro_rules! all {
    ($numbers:expr, |$x:ident, $n:ident| $($name:literal => $call:expr;)*) => {$(
        for $x in &inputs() {
            for $n in $numbers {
                calm($name, &($x.shape(), $n), || Ok($call));
            }
        }
    )*};
}

#[test]
fn sizes_of_every_function() {
    let (w, pair) = (zeros(&[2, 1, 1]), zeros(&[1, 1, 2]));
    all!(SIZES, |x, n|
        "broadcast_to" => x.broadcast_to([n])?;
        "broadcast_to" => x.broadcast_to([n, n, 3])?;
        "broadcast_to" => x.broadcast_to([n, 2, 3])?;
        "from_vec" => Tensor::from_vec([n, 2], x.to_vec())?;
        "from_vec" => Tensor::from_vec([n, n, 0], x.to_vec())?;
        "try_add" => x.try_add(&Tensor::from_vec([n, 0], Vec::new())?)?;
        "reshape" => x.reshape(&[n, n, 0][..])?;
        "reshape" => x.reshape(&[n, n][..])?;
        "repeat_interleave" => x.repeat_interleave(n, None)?;
        "repeat_interleave" => x.repeat_interleave(n, 0)?;
        "repeat_interleave" => x.repeat_interleave(n, -1)?;
        "narrow" => x.narrow(0, 0, n)?;
        "narrow" => x.narrow(-1, -1, n)?;
        "slice" => x.slice(-1, None, None, n)?;
        "unfold" => x.unfold(0, n, 1)?;
        "unfold" => x.unfold(0, 1, n)?;
        "unfold" => x.unfold(-1, n, n)?;
        "topk" => x.topk(n, -1, true)?;
        "split_with_sizes" => x.split_with_sizes([n, n, n], 0)?;
        "diff" => x.diff(n, -1, None, None)?;
        "tensordot" => x.tensordot(x, n)?;
        "bernoulli" => Tensor::<f32>::bernoulli([n, n, 0], 0.5)?;
        "uniform" => Tensor::<f32>::uniform([n, 0], 0., 1.)?;
        "normal" => Tensor::<f64>::normal([n, 3, n], 0., 1.)?;
        "randint" => Tensor::randint(0, 9, [n, n, n, 0])?;
        "group_norm" => F::group_norm(x, n, None, None, 1e-5)?;
        "layer_norm" => F::layer_norm(x, &[n], None, None, 1e-5)?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().padding(n))?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().stride(n.max(1)).padding(HUGE))?;
        "conv" => F::conv1d(x, &zeros(&[2, 1, 2]), None, ConvOptions::default().dilation(n.max(1)).padding("same"))?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().dilation(n.max(1)))?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().groups(n.max(1)))?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().padding(n).padding_mode("reflect"))?;
        "conv" => F::conv1d(x, &w, None, ConvOptions::default().padding(n).padding_mode("circular"))?;
        "conv" => F::conv2d(x, &zeros(&[2, 1, 1, 1]), None, ConvOptions::default().padding([n, 1]))?;
        "conv_transpose" => F::conv_transpose1d(x, &pair, None, ConvTransposeOptions::default().padding(n))?;
        "conv_transpose" => F::conv_transpose1d(x, &pair, None, ConvTransposeOptions::default().stride(n.max(1)))?;
        "conv_transpose" => F::conv_transpose1d(x, &pair, None, ConvTransposeOptions::default().dilation(n.max(1)).padding(n / 2))?;
        "conv_transpose" => F::conv_transpose1d(x, &pair, None, ConvTransposeOptions::default().stride(usize::MAX).output_padding(n))?;
        "conv_transpose" => F::conv_transpose1d(x, &pair, None, ConvTransposeOptions::default().groups(n.max(1)))?;
        "conv_tbc" => F::conv_tbc(x, &pair, &zeros(&[2]), n)?;
        "unfold" => F::unfold(x, [n, 1], Default::default())?;
        "unfold" => F::unfold(x, [n, 2], FoldOptions::default().padding([n, 1]).stride(n.max(1)).dilation([1, n.max(1)]))?;
        "fold" => F::fold(x, n, [1, 2], Default::default())?;
        "fold" => F::fold(x, [3, n], [n, 1], FoldOptions::default().padding([n, 1]).stride(n.max(1)))?;
        "avg_pool" => F::avg_pool1d(x, n, Default::default())?;
        "avg_pool" => F::avg_pool1d(x, n, AvgPoolOptions::default().padding(n / 2).stride(1))?;
        "avg_pool" => F::avg_pool1d(x, n, AvgPoolOptions::default().stride(usize::MAX).ceil_mode(true))?;
        "avg_pool" => F::avg_pool2d(x, [n, 1], AvgPoolOptions::default().padding([n / 2, 0]).count_include_pad(false))?;
        "max_pool" => F::max_pool1d(x, n, Default::default())?;
        "max_pool" => F::max_pool1d(x, n, MaxPoolOptions::default().padding(n / 2).stride(1))?;
        "max_pool" => F::max_pool1d(x, n, MaxPoolOptions::default().stride(usize::MAX).ceil_mode(true))?;
        "max_pool" => F::max_pool1d(x, 1, MaxPoolOptions::default().stride(n.max(1)).dilation(n.max(1)))?;
        "max_pool" => F::max_pool1d(x, 2, MaxPoolOptions::default().stride(n.max(1)).dilation(n.max(1)).ceil_mode(true).padding(1))?;
        "max_pool" => F::max_pool2d(x, [n, 1], MaxPoolOptions::default().padding([n / 2, 0]))?;
        "lp_pool" => F::lp_pool1d(x, 2., n, Default::default())?;
        "adaptive" => F::adaptive_avg_pool1d(x, n)?;
        "adaptive" => F::adaptive_max_pool1d(x, n)?;
        "adaptive" => F::adaptive_max_pool2d_with_indices(x, [n, n])?;
        "fractional" => F::fractional_max_pool2d(x, n, 1, None)?;
        "fractional" => F::fractional_max_pool2d(x, [n, 1], [1, n], None)?;
        "max_unpool" => F::max_unpool1d(x, &x.cast(), n, Default::default(), None)?;
        "max_unpool" => F::max_unpool1d(x, &x.cast(), 1, MaxUnpoolOptions::default().stride(n.max(1)).padding(n), None)?;
        "max_unpool" => F::max_unpool1d(x, &x.cast(), n, MaxUnpoolOptions::default().stride(n.max(1)), Some(&[n]))?;
        "interpolate" => F::interpolate(x, Resize::size(n), "nearest")?;
        "interpolate" => F::interpolate(x, Resize::size(n), "linear")?;
        "interpolate" => F::interpolate(x, Resize::size([n, n]), InterpolateOptions::from("bicubic").antialias(true))?;
        "interpolate" => F::interpolate(x, Resize::size([1, n]), "area")?;
        "interpolate" => F::interpolate(x, Resize::scale_factor((n as f64).max(0.1)), "bilinear")?;
        "pixel_shuffle" => F::pixel_shuffle(x, n)?;
        "pixel_unshuffle" => F::pixel_unshuffle(x, n)?;
        "channel_shuffle" => F::channel_shuffle(x, n)?;
        "grid_sample" => F::grid_sample(x, &zeros(&[0, n.min(1 << 60), 1, 2]), Default::default())?;
        "affine_grid" => F::affine_grid(&zeros(&[1, 2, 3]), [1, 1, n, n], false)?;
        "random_split" => random_split(TensorDataset::new(zeros(&[3]))?, [n, n])?;
        "sample" => TensorDataset::new(zeros(&[3]))?.get(n)?;
        "batch" => TensorDataset::new(zeros(&[3]))?.batch(&[n])?;
        "dirac" => init::dirac(&Param::new(zeros(&[2, 2, 2])), n)?;
        "dirac" => init::dirac(&Param::new(zeros(&[2, 2, 0])), n)?;
    );
}

/// Functions that would be busy or run out of memory with a number of pieces for which an allocator may grant memory.
#[test]
fn numbers_of_pieces() {
    all!([0, 1, 2, 3, MAX, MAX + 1, usize::MAX], |x, n|
        "chunk" => if x.shape().first().is_none_or(|&n| n < 100) { x.chunk(n, 0)? } else { Vec::new() };
        "split" => if n > 100 { x.split(n, 0)? } else { Vec::new() };
    );
    for x in [zeros(&[MAX, 0]), zeros(&[1 << 60, 0])] {
        assert!(x.split(1, 0).is_err() && x.unbind(0).is_err() && x.chunk(usize::MAX, 0).is_err());
        assert_eq!(x.split(MAX, 0).unwrap().len(), 1);
    }
}

#[test]
fn numbers_of_every_function() {
    all!(INTS, |x, n|
        "reshape" => x.reshape([n, n])?;
        "reshape" => x.reshape([0, n, n])?;
        "reshape" => x.reshape([n, -1])?;
        "expand" => x.expand([n])?;
        "expand" => x.expand([n, -1, 3])?;
        "permute" => x.permute([n, 0])?;
        "transpose" => x.transpose(n, 0)?;
        "movedim" => x.movedim(n, 0)?;
        "flatten" => x.flatten(0, n)?;
        "flatten" => x.flatten(n, -1)?;
        "unflatten" => x.unflatten(n, [n, n])?;
        "unflatten" => x.unflatten(0, [n, -1])?;
        "squeeze" => x.squeeze_dim(n)?;
        "unsqueeze" => x.unsqueeze(n)?;
        "flip" => x.flip(n)?;
        "repeat" => x.repeat([n, 1, 2, n])?;
        "repeat" => x.repeat([n])?;
        "repeat" => x.repeat([n, n])?;
        "tile" => x.tile(n)?;
        "repeat_interleave_each" => x.repeat_interleave_each(&tensor![n as i64, n as i64], 0)?;
        "repeat_interleave_each" => x.repeat_interleave_each(&tensor![n as i64], None)?;
        "narrow" => x.narrow(n, 0, 0)?;
        "narrow" => x.narrow(0, n, 0)?;
        "narrow" => x.narrow(-1, n, 1)?;
        "select" => x.select(0, n)?;
        "select" => x.select(n, 0)?;
        "slice" => x.slice(0, n, None, 1)?;
        "slice" => x.slice(-1, None, n, usize::MAX)?;
        "slice" => x.slice(-1, n, n, 2)?;
        "index" => x.index(n)?;
        "index" => x.index((n..n, ..))?;
        "index" => x.index((.., n..))?;
        "index" => x.index(&tensor![n as i64])?;
        "index_select" => x.index_select(0, &tensor![n as i64])?;
        "gather" => x.gather(0, &tensor![n as i64])?;
        "take_along_dim" => x.take_along_dim(&tensor![n as i64], None)?;
        "scatter_add" => x.scatter_add(0, &tensor![n as i64], &zeros(&[1]))?;
        "scatter_reduce" => x.scatter_reduce(n, &tensor![0], &zeros(&[1]), Reduce::Mean, true)?;
        "index_add" => x.index_add(0, &tensor![n as i64], x)?;
        "index_fill" => x.index_fill(0, &tensor![n as i64], 1.)?;
        "index_copy" => x.index_copy(n, &tensor![0], x)?;
        "diagonal" => x.diagonal(n, 0, 1)?;
        "diagonal" => x.diagonal(0, n, -1)?;
        "diag_embed" => x.diag_embed(n, 0, 1)?;
        "diag_embed" => x.diag_embed(n, -1, 0)?;
        "tril" => x.tril(n)?;
        "triu" => x.triu(n)?;
        "roll" => x.roll(n, 0)?;
        "roll" => x.roll(n, Ints(vec![]))?;
        "roll" => x.roll([n, n], [0, n])?;
        "constant_pad" => x.constant_pad(&vec![(n, 1); x.ndim()], 1.)?;
        "constant_pad" => x.constant_pad(&vec![(n, n); x.ndim()], 1.)?;
        "constant_pad" => x.constant_pad(&vec![(n, isize::MAX); x.ndim()], 1.)?;
        "constant_pad" => x.constant_pad(&vec![(isize::MIN, n); x.ndim()], 1.)?;
        "pad" => F::pad(x, [n, n], 0.)?;
        "pad" => F::pad(x, [isize::MIN, n], 0.)?;
        "pad" => F::pad(x, [n, 1], PaddingMode::Reflect)?;
        "pad" => F::pad(x, [n, n, 1, 1], PaddingMode::Replicate)?;
        "pad" => F::pad(x, [isize::MIN, n], PaddingMode::Replicate)?;
        "pad" => F::pad(x, [n, isize::MAX], PaddingMode::Replicate)?;
        "pad" => F::pad(x, [n, isize::MAX], PaddingMode::Circular)?;
        "pad" => F::pad(x, [n, -1], PaddingMode::Circular)?;
        "sum" => x.sum_dim(n, false)?;
        "mean" => x.mean_dim([n, 0], true)?;
        "prod" => x.prod_dim(n, false)?;
        "amax" => x.amax(n, false)?;
        "max" => x.max_dim(n, false)?;
        "argmin" => x.argmin(Some(n), true)?;
        "var" => x.var_dim(n, 1., false)?;
        "norm" => x.norm(3., n, false)?;
        "all" => x.all_dim(n, false)?;
        "count_nonzero" => x.count_nonzero(n)?;
        "logsumexp" => x.logsumexp(n, false)?;
        "softmax" => x.softmax(n)?;
        "cumsum" => x.cumsum(n)?;
        "cumprod" => x.cumprod(n)?;
        "cummax" => x.cummax(n)?;
        "logcumsumexp" => x.logcumsumexp(n)?;
        "sort" => x.sort(n, false)?;
        "topk" => x.topk(0, n, true)?;
        "glu" => F::glu(x, n)?;
        "cat" => Tensor::cat(&[x, x, x], n)?;
        "stack" => Tensor::stack(&[x, x], n)?;
        "unbind" => if x.numel() > 0 { x.unbind(n)? } else { Vec::new() };
        "size" => x.size(n)?;
        "arange" => Tensor::<i64>::arange(n as i64, i64::MAX, 1 << 62)?;
        "arange" => Tensor::<i64>::arange(0, n as i64, -1)?;
        "arange" => Tensor::<i64>::arange(i64::MIN, n as i64, 1)?;
        "arange" => Tensor::<f32>::arange(0., n as f32, 1.)?;
        "embedding" => F::embedding(&tensor![n as i64], x, EmbeddingOptions::default())?;
        "embedding" => F::embedding(&Tensor::zeros([0]), x, EmbeddingOptions::default().padding_idx(n))?;
        "embedding_bag" => F::embedding_bag(&tensor![[n as i64]], x, None, None, Default::default())?;
        "embedding_bag" => F::embedding_bag(&tensor![0], x, Some(&tensor![n as i64]), None, Default::default())?;
        "one_hot" => F::one_hot(&tensor![n as i64], None)?;
        "one_hot" => F::one_hot(&tensor![0], n.unsigned_abs())?;
        "normalize" => F::normalize(x, NormalizeOptions::default().dim(n))?;
        "local_response_norm" => F::local_response_norm(x, n.unsigned_abs(), Default::default())?;
        "cross_entropy" => F::cross_entropy(x, &tensor![n as i64], Default::default())?;
    );
}

/// Tensors without elements but with long axes, combined with one another and passed to functions that take no number.
#[test]
fn long_axes_without_elements() {
    for x in &inputs() {
        for y in &inputs() {
            let both = (x.shape(), y.shape());
            calm("add", &both, || x.try_add(y));
            calm("maximum", &both, || x.maximum(y));
            calm("where", &both, || Tensor::where_(&y.gt(0.)?, x, y));
            calm("lerp", &both, || x.lerp(y, y));
            calm("matmul", &both, || x.matmul(y));
            calm("matmul", &both, || x.matmul(&y.m_t()?));
            calm("mm", &both, || x.mm(y));
            calm("bmm", &both, || x.unsqueeze(0)?.bmm(&y.unsqueeze(0)?));
            calm("linear", &both, || F::linear(x, y, None));
            calm("outer", &both, || x.outer(y));
            calm("inner", &both, || x.inner(y));
            calm("tensordot", &both, || x.tensordot(y, 1));
            calm("einsum", &both, || Tensor::einsum("ij,kl->ikjl", &[x, y]));
            calm("einsum", &both, || Tensor::einsum("ij,kj->ik", &[x, y]));
            calm("einsum", &both, || Tensor::einsum("i...,j...->ij...", &[x, y]));
            calm("meshgrid", &both, || Tensor::meshgrid(&[x.flatten(0, -1)?, y.flatten(0, -1)?]));
            calm("cat", &both, || Tensor::cat(&[x, y], 0));
            calm("masked_select", &both, || x.masked_select(&y.gt(0.)?));
            calm("gather", &both, || x.gather(0, &y.cast()));
            calm("take_along_dim", &both, || x.take_along_dim(&y.cast(), 0));
            calm("index_select", &both, || x.index_select(0, &y.cast()));
            calm("index_select", &both, || x.index_select(-1, &y.cast()));
            calm("index", &both, || x.index((&y.cast::<i64>(), &x.cast::<i64>())));
            calm("scatter_add", &both, || x.scatter_add(0, &y.cast(), y));
            calm("searchsorted", &both, || x.searchsorted(y, false));
            calm("embedding", &both, || F::embedding(&x.cast(), y, Default::default()));
            calm("embedding_bag", &both, || F::embedding_bag(&x.cast(), y, None, None, Default::default()));
            calm("grouped_mm", &both, || F::grouped_mm(x, y, None));
            calm("grouped_mm", &both, || F::grouped_mm(x, y, Some(&Tensor::zeros([1]))));
            calm("attention", &both, || F::scaled_dot_product_attention(x, y, y, None, Default::default()));
            calm("attention", &both, || {
                let options = F::ScaledDotProductAttentionOptions::default().is_causal(true);
                F::scaled_dot_product_attention(x, y, y, None, options)
            });
            calm("bilinear", &both, || F::bilinear(x, x, y, None));
            calm("conv", &both, || F::conv1d(x, y, None, Default::default()));
            calm("conv", &both, || F::conv2d(x, y, None, Default::default()));
            calm("conv_transpose", &both, || F::conv_transpose1d(x, y, None, Default::default()));
            calm("conv_transpose", &both, || F::conv_transpose2d(x, y, None, Default::default()));
            calm("conv_tbc", &both, || F::conv_tbc(x, y, &y.sum_dim([0, 1], false)?, 1));
            calm("grid_sample", &both, || F::grid_sample(x, y, Default::default()));
            calm("mse_loss", &both, || F::mse_loss(x, y, Default::default()));
            calm("cross_entropy", &both, || F::cross_entropy(x, y, Default::default()));
            calm("nll_loss", &both, || F::nll_loss(x, &y.cast(), Default::default()));
            calm("layer_norm", &both, || F::layer_norm(x, y.shape(), None, None, 1e-5));
        }
        let shape = x.shape();
        calm("batch_norm", &shape, || F::batch_norm(x, None, None, None, None, Default::default()));
        calm("instance_norm", &shape, || F::instance_norm(x, None, None, None, None, Default::default()));
        calm("mv", &shape, || x.mv(&x.sum_dim(0, false)?));
        calm("sort", &shape, || x.sort(0, true));
        calm("flatten", &shape, || x.flatten(0, -1));
        calm("sum", &shape, || Ok((x.sum(), x.prod(), x.mean(), x.var(), x.all(), x.any())));
        calm("nonzero", &shape, || Ok((x.nonzero(), x.contiguous(), x.exp(), x.cast::<f64>(), x.to_vec())));
        calm("equal", &shape, || Ok((x == &x.ones_like(), x.ones_like(), x.to_string(), format!("{x:?}"))));
        calm("max_pool", &shape, || F::max_pool2d_with_indices(x, 1, Default::default()));
        calm("reductions", &shape, || {
            (0..x.ndim() as isize).try_for_each(|d| {
                let results = [x.sum_dim(d, false), x.mean_dim(d, true), x.prod_dim(d, false), x.norm(2., d, false)];
                calm("mv", &d, || x.matmul(&x.transpose(d, -1)?));
                results.into_iter().for_each(drop);
                Ok(())
            })
        });
        calm("gradients", &shape, || {
            let x = x.set_requires_grad(true);
            let zero: Ints = Ints(vec![0; x.ndim().max(1)]);
            let results =
                [x.repeat(zero), x.repeat_interleave(0, None), x.narrow(0, 0, 0), x.exp().broadcast_to(x.shape())];
            results.into_iter().flatten().try_for_each(|y| y.sum().backward())?;
            assert!(x.grad().is_none_or(|g| g.shape() == x.shape()));
            Ok(())
        });
    }
}

#[test]
fn orders_and_digits() {
    let x = tensor![0.5, 2.0].set_requires_grad(true);
    for n in [0, 1, 170, 171, 1 << 31, u32::MAX - 1, u32::MAX] {
        calm("polygamma", &n, || x.polygamma(n).sum().backward());
        calm("polygamma", &n, || Ok(tensor![-0.5].polygamma(n)));
    }
    for n in [i32::MIN, -1, 0, 1, i32::MAX] {
        calm("round_decimals", &n, || x.round_decimals(n).sum().backward());
    }
}

#[test]
fn what_can_be_represented_is_a_result() {
    let range = Tensor::<i64>::arange(i64::MIN, i64::MAX, 1 << 62).unwrap();
    assert_eq!(range.to_vec(), [i64::MIN, -(1 << 62), 0, 1 << 62]);
    assert_eq!(Tensor::<i64>::arange(i64::MAX, i64::MIN, i64::MIN).unwrap().to_vec(), [i64::MAX, -1]);
    assert_eq!(Tensor::<i64>::arange(i64::MAX - 1, i64::MAX, 1).unwrap().to_vec(), [i64::MAX - 1]);
    assert!(Tensor::<i64>::arange(i64::MAX, i64::MAX - 1, 1).is_err(), "leads away");
    assert_eq!(zeros(&[0]).reshape([0, isize::MAX]).unwrap().shape(), [0, MAX]);
    assert_eq!(zeros(&[0, 0]).repeat([1usize << 60, 1 << 60]).unwrap().shape(), [0, 0]);
    assert_eq!(zeros(&[0]).repeat_interleave(MAX, None).unwrap().shape(), [0]);
    assert_eq!(zeros(&[1 << 60, 0]).index_select(1, &Tensor::zeros([0])).unwrap().shape(), [1 << 60, 0]);
    assert_eq!(zeros(&[0, 1 << 40]).softmax(1).unwrap().shape(), [0, 1 << 40]);
    assert_eq!(F::layer_norm(&zeros(&[0, 1 << 60]), &[1 << 60], None, None, 1e-5).unwrap().shape(), [0, 1 << 60]);
    assert_eq!(F::max_pool1d(&zeros(&[0, 1, 1 << 40]), 1, Default::default()).unwrap().shape(), [0, 1, 1 << 40]);
    assert_eq!(zeros(&[1 << 60, 0]).sum_dim([0, 1], true).unwrap(), zeros(&[1, 1]));
    assert_eq!(zeros(&[1 << 40, 4, 0]).sum_dim([0, 2], false).unwrap(), zeros(&[4]));
    assert_eq!(zeros(&[1 << 40, 0]).mm(&zeros(&[0, 0])).unwrap().shape(), [1 << 40, 0]);
    assert_eq!(zeros(&[3, 0]).mm(&zeros(&[0, 2])).unwrap(), zeros(&[3, 2]));
    let x = tensor![0., 1., 2., 3.];
    assert_eq!(x.slice(0, 1, 3, usize::MAX).unwrap(), tensor![1.]);
    assert_eq!(x.unfold(0, 2, usize::MAX).unwrap(), tensor![[0., 1.]]);
    assert_eq!(zeros(&[1 << 60, 0]).unfold(0, 2, 1).unwrap().shape(), [(1 << 60) - 1, 0, 2]);
    assert_eq!(zeros(&[1 << 60, 0]).unfold(0, 0, 1).unwrap().shape(), [(1 << 60) + 1, 0, 0]);
    assert_eq!(zeros(&[1 << 60, 0]).diff(1 << 59, 0, None, None).unwrap().shape(), [1 << 59, 0]);
    assert_eq!(zeros(&[1 << 60, 0]).cumsum(1).unwrap().to_string(), "tensor([], size=(1152921504606846976, 0))");
    assert_eq!(x.split(usize::MAX, 0).unwrap().len(), 1);
    assert_eq!(x.chunk(usize::MAX, 0).unwrap().len(), 4);
    assert_eq!(x.roll(isize::MIN, 0).unwrap(), x);
    assert_eq!(x.roll(isize::MAX, 0).unwrap(), tensor![1., 2., 3., 0.]);
    let square = Tensor::<f32>::ones([2, 2]);
    assert_eq!(square.tril(isize::MIN).unwrap(), zeros(&[2, 2]));
    assert_eq!(square.triu(isize::MIN).unwrap(), square);
    assert_eq!(square.diagonal(isize::MIN, 0, 1).unwrap().shape(), [0]);
}

/// Windows whose step, extent or padding is longer than any axis.
#[test]
fn windows_of_every_size() {
    let x = tensor![[[1., 2., 3., 4.]]];
    let conv = |k: usize, options| F::conv1d(&x, &Tensor::ones([1, 1, k]), None, options).unwrap();
    let far = ConvOptions::default();
    assert_eq!(conv(1, far.stride(1 << 46).padding(1 << 46)), tensor![[[0., 1., 0.]]], "as PyTorch");
    assert_eq!(conv(1, far.dilation(usize::MAX)), x);
    assert_eq!(conv(2, far.stride(usize::MAX)), tensor![[[3.]]]);
    assert_eq!(conv(2, far.dilation(1 << 40).padding(1 << 39).stride(1 << 39)), tensor![[[0.]]]);
    let pool = |k: usize, options| F::max_pool1d(&x, k, options).unwrap();
    let wide = MaxPoolOptions::default();
    assert_eq!(pool(1 << 40, wide.padding(1 << 39).stride(1)), tensor![[[4., 4., 4., 4., 4.]]]);
    assert_eq!(pool(1, wide.dilation(usize::MAX)), x);
    assert_eq!(pool(2, wide.stride(usize::MAX)), tensor![[[2.]]]);
    assert_eq!(pool(usize::MAX, wide.stride(usize::MAX).ceil_mode(true)), tensor![[[4.]]]);
    assert_eq!(pool(2, wide.dilation(usize::MAX).stride(usize::MAX).ceil_mode(true)), tensor![[[1.]]]);
}

#[test]
fn batches_of_any_size() {
    for drop_last in [false, true] {
        for size in [1, 2, 3, 4, MAX, usize::MAX] {
            let data = TensorDataset::new(tensor![1., 2., 3.]).unwrap();
            let loader = DataLoader::new(data, size).drop_last(drop_last).shuffle(true).seed(1);
            let samples: usize = loader.epoch(u64::MAX).map(|batch| batch.numel()).sum();
            assert_eq!(samples, if drop_last { 3 / size * size } else { 3 }, "{size} {drop_last}");
            assert_eq!(loader.epoch(0).len(), loader.len());
        }
    }
}

#[test]
fn shapes_in_files() {
    for (shape, ok) in
        [("18446744073709551615,0", false), ("9223372036854775807,0", true), ("8589934592,8589934592,0", false)]
    {
        let header = format!(r#"{{"w":{{"dtype":"F32","shape":[{shape}],"data_offsets":[0,0]}}}}"#);
        let bytes = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
        match io::safetensors::from_bytes(&bytes) {
            Ok(state) => assert!(ok && state.get("w").unwrap().shape() == [MAX, 0], "{shape}"),
            Err(error) => {
                assert!(!ok && error.kind() == ErrorKind::Format, "{error}");
                assert!(error.to_string().starts_with("safetensors: "), "{error}");
            }
        }
    }
}

#[test]
fn heads_and_masks() {
    let attention = MultiheadAttention::new(4, 2);
    for x in &inputs() {
        calm("attention", &x.shape(), || attention.forward(x, x, x, AttentionOptions::default()));
        calm("lstm", &x.shape(), || LSTM::new(3, 2).forward(x, None));
        calm("gru", &x.shape(), || GRU::new(3, 2).forward(x, None));
        calm("gru_cell", &x.shape(), || GRUCell::new(3, 2).forward(x, None));
    }
    for (features, num_heads) in [(0, 1), (0, usize::MAX), (4, usize::MAX), (4, usize::MAX / 2 + 1), (4, 1 << 62)] {
        let square = || zeros(&[features, features]);
        let parameters = F::MultiheadAttentionParameters {
            num_heads,
            in_proj_weight: F::InProjection::Separate([square(), square(), square()]),
            in_proj_bias: None,
            bias_kv: None,
            add_zero_attn: false,
            dropout_p: 0.,
            out_proj_weight: square(),
            out_proj_bias: None,
            training: false,
        };
        let x = zeros(&[3, 2, features]);
        let options =
            AttentionOptions::default().key_padding_mask(F::AttentionMask::hidden(&Tensor::full([2, 3], false)));
        let error = F::multi_head_attention_forward(&x, &x, &x, &parameters, options).unwrap_err().to_string();
        let why = format!("the query's {features} features do not divide into {num_heads} heads");
        assert!(error.contains(&why), "{error}");
    }
}
