//! Attention: ways that agree, masks, derivatives, names, errors.

use ndnn::{
    autograd::{self, CheckOptions, gradcheck, gradgradcheck},
    functional::{
        self as F, AttentionMask, AttentionOptions, InProjection, MultiheadAttentionParameters,
        ScaledDotProductAttentionOptions,
    },
    prelude::*,
};

use super::{T, close, numbers};

fn dot(q: &T, k: &T, v: &T, mask: Option<&AttentionMask<f64>>, options: ScaledDotProductAttentionOptions) -> Result<T> {
    F::scaled_dot_product_attention(q, k, v, mask, options)
}

/// True where query i may attend to key j.
fn seen(len: usize, keys: usize) -> Tensor<bool> {
    Tensor::from_vec([len, keys], (0..len * keys).map(|n| n % keys <= n / keys).collect()).unwrap()
}

#[test]
fn causal_is_an_explicit_mask() {
    let (q, k, v) = (numbers(1, &[2, 3, 4]), numbers(2, &[2, 5, 4]), numbers(3, &[2, 5, 6]));
    let options = ScaledDotProductAttentionOptions::default();
    let causal = dot(&q, &k, &v, None, options.is_causal(true)).unwrap();
    close(&causal, &dot(&q, &k, &v, Some(&AttentionMask::attended(&seen(3, 5))), options).unwrap());
    let added = T::zeros([3, 5]).masked_fill(&seen(3, 5).logical_not(), f64::NEG_INFINITY).unwrap();
    close(&causal, &dot(&q, &k, &v, Some(&AttentionMask::added(&added)), options).unwrap());
    close(&causal.select(1, 0).unwrap(), &v.select(1, 0).unwrap());
    assert!(
        dot(&q, &k, &v, Some(&AttentionMask::added(&added)), options.is_causal(true))
            .unwrap_err()
            .to_string()
            .contains("not both")
    );
}

/// `softmax(scale · Q Kᵀ + mask) V`, of whose masks some are not numbers.
fn formula(q: &T, k: &T, v: &T, mask: &T, scale: f64) -> T {
    let scores = (q.matmul(&k.transpose(-2, -1).unwrap()).unwrap() * scale).try_add(mask).unwrap();
    scores.softmax(-1).unwrap().matmul(v).unwrap()
}

#[test]
fn sizes_of_0_and_1() {
    let options = ScaledDotProductAttentionOptions::default().scale(0.7);
    for (l, s) in [0, 1, 9].into_iter().flat_map(|l| [0, 1, 2, 1000].map(|s| (l, s))) {
        for (e, ev) in [(0, 2), (1, 0), (1, 1), (3, 2), (0, 0)] {
            let case = format!("L {l}, S {s}, E {e}, Ev {ev}");
            let inputs = [&[2, l, e], &[2, s, e], &[2, s, ev]].map(|shape| numbers(1, shape).set_requires_grad(true));
            let [q, k, v] = &inputs;
            let rows = AttentionMask::added(&numbers(4, &[l.min(1), s]));
            for mask in [None, Some(&rows)].into_iter().take(if l == 0 { 1 } else { 2 }) {
                let y = dot(q, k, v, mask, options).unwrap();
                let added = mask.map_or(T::zeros([1]), AttentionMask::numbers);
                let want = if s == 0 { T::zeros([2, l, ev]) } else { formula(q, k, v, &added, 0.7) };
                assert_eq!(y.shape(), want.shape(), "{case}");
                assert!(y.allclose(&want, 1e-11, 1e-12, false).unwrap(), "{case}");
                let weight = numbers(5, y.shape());
                let gradients = |y: &T| {
                    let loss = (y * &weight).sum();
                    if !loss.requires_grad() {
                        return inputs.each_ref().map(|t| T::zeros(t.shape())).to_vec();
                    }
                    let found = autograd::grad(&[&loss], &inputs.each_ref(), false).unwrap();
                    found.into_iter().map(Option::unwrap).collect::<Vec<_>>()
                };
                for (a, b) in gradients(&y).iter().zip(&gradients(&want)) {
                    assert!(a.allclose(b, 1e-11, 1e-12, false).unwrap(), "{case}: {a} {b}");
                }
            }
        }
    }
    // The default scale of no features is infinite, and that of nothing.
    let y = dot(
        &T::ones([9, 0]),
        &T::ones([2, 0]),
        &T::from_vec([2, 1], vec![1.0, 3.0]).unwrap(),
        None,
        Default::default(),
    );
    close(&y.unwrap(), &T::full([9, 1], 2.0));
    let y = dot(&T::ones([1, 0]), &T::ones([70, 0]), &T::ones([70, 1]), None, Default::default());
    close(&y.unwrap(), &T::ones([1, 1]));
    // Axes of any length.
    let (q, k, v) = (T::zeros([0, 1 << 40, 1]), T::zeros([0, 5, 1]), T::zeros([0, 5, 1 << 40]));
    let error = dot(&q, &k, &v, None, options).unwrap_err().to_string();
    assert!(error.contains("a result of shape [0, 1099511627776, 1099511627776] is empty, but"), "{error}");
}

#[test]
fn extreme_calls() {
    let options = ScaledDotProductAttentionOptions::default();
    let (q, k, v) = (numbers(1, &[2, 6, 9, 4]), numbers(2, &[2, 3, 20, 4]), numbers(3, &[2, 3, 20, 5]));
    // A mask for each of the heads that share keys.
    let hidden = Tensor::from_vec([2, 6, 9, 20], (0..2160).map(|i| i * 7 % 11 < 4).collect()).unwrap();
    let mask = AttentionMask::hidden(&hidden);
    let y = dot(&q, &k, &v, Some(&mask), options.enable_gqa(true)).unwrap();
    let [many_k, many_v] = [&k, &v].map(|t| t.repeat_interleave(2, 1).unwrap());
    close(&y, &formula(&q, &many_k, &many_v, &mask.numbers(), 0.5));
    // All weights are dropped.
    for (l, s) in [(9, 20), (1, 200)] {
        let (q, k) = (numbers(1, &[l, 4]).set_requires_grad(true), numbers(2, &[s, 4]));
        let y = dot(&q, &k, &numbers(3, &[s, 5]), None, options.dropout_p(1.0)).unwrap();
        close(&y, &T::zeros([l, 5]));
        y.sum().backward().unwrap();
        close(&q.grad().unwrap(), &T::zeros([l, 4]));
    }
    // Not a number in one key.
    for (l, s, causal) in [(9, 20, false), (1, 200, false), (9, 9, true), (2, 150, true), (200, 200, true)] {
        let mut numbers_of_key = numbers(2, &[s, 4]).to_vec();
        numbers_of_key[4 * (s / 2)] = f64::NAN;
        let k = T::from_vec([s, 4], numbers_of_key).unwrap();
        let y = dot(&numbers(1, &[l, 4]), &k, &numbers(3, &[s, 2]), None, options.is_causal(causal)).unwrap();
        // A query that attends to it; of PyTorch's kernels the default one.
        let wanted: Vec<bool> = (0..l).map(|i| !causal || i >= s / 2).collect();
        let is: Vec<bool> = y.select(1, 0).unwrap().to_vec().iter().map(|x| x.is_nan()).collect();
        assert_eq!(is, wanted, "L {l}, S {s}");
    }
}

#[test]
fn blind_queries_give_zeros_and_no_gradient() {
    let q = numbers(1, &[3, 4]).set_requires_grad(true);
    let (k, v) = (numbers(2, &[5, 4]), numbers(3, &[5, 2]));
    let mask = Tensor::from_vec([3, 5], (0..15).map(|i| i >= 5).collect::<Vec<bool>>()).unwrap();
    let y =
        dot(&q, &k, &v, Some(&AttentionMask::attended(&mask)), ScaledDotProductAttentionOptions::default()).unwrap();
    close(&y.select(0, 0).unwrap(), &T::zeros([2]));
    y.square().sum().backward().unwrap();
    let gradient = q.grad().unwrap();
    close(&gradient.select(0, 0).unwrap(), &T::zeros([4]));
    assert!(gradient.select(0, 1).unwrap().abs().sum().item().unwrap() > 0.0);
}

#[test]
fn long_sequences_are_attended_to_as_short_ones() {
    let of = |seed| numbers(seed, &[2, 1, 1500, 1]);
    let (q, k, v) = (of(1), of(2), of(3));
    let options = ScaledDotProductAttentionOptions::default();
    let numbers_of = |mask: AttentionMask<f64>| AttentionMask::added(&mask.numbers().set_requires_grad(true));
    let padding = AttentionMask::lengths(&[1000, 1], 1500).unwrap().unsqueeze(1).unwrap().unsqueeze(1).unwrap();
    let keys = AttentionMask::attended(&Tensor::from_vec([1500], (0..1500).map(|i| i % 3 == 1).collect()).unwrap());
    for mask in [padding, keys] {
        // A mask that needs a gradient is not attended to in tiles.
        let whole = dot(&q, &k, &v, Some(&numbers_of(mask.clone())), options).unwrap();
        close(&dot(&q, &k, &v, Some(&mask), options).unwrap(), &whole.detach());
    }
    let causal = dot(&q, &k, &v, Some(&numbers_of(AttentionMask::causal(1500, 1500).unwrap())), options).unwrap();
    close(&dot(&q, &k, &v, None, options.is_causal(true)).unwrap(), &causal.detach());
    for shape in [&[7][..], &[1, 2, 1, 1, 1500], &[3, 1, 1, 1500]] {
        let error = dot(&q, &k, &v, Some(&AttentionMask::added(&T::zeros(shape))), options).unwrap_err().to_string();
        assert!(error.contains("does not broadcast to the scores [2, 1, 1500, 1500]"), "{error}");
    }
}

#[test]
fn groups_of_heads_share_keys() {
    let (q, k, v) = (numbers(1, &[2, 6, 3, 4]), numbers(2, &[2, 3, 5, 4]), numbers(3, &[2, 2, 5, 4]));
    let options = ScaledDotProductAttentionOptions::default().enable_gqa(true).scale(0.3);
    let y = dot(&q, &k, &v, None, options).unwrap();
    let head = |t: &T, i: isize| t.select(1, i).unwrap();
    for i in 0..6 {
        let alone = dot(&head(&q, i), &head(&k, i / 2), &head(&v, i / 3), None, options.enable_gqa(false)).unwrap();
        close(&head(&y, i), &alone);
    }
    let error = dot(&q, &numbers(2, &[2, 4, 5, 4]), &v, None, options).unwrap_err().to_string();
    assert!(error.contains("must divide"), "{error}");
}

#[test]
fn attention_derivatives() {
    let heads = |t: &[T]| MultiheadAttentionParameters {
        num_heads: 2,
        in_proj_weight: InProjection::Separate([t[3].clone(), t[4].clone(), t[5].clone()]),
        in_proj_bias: Some(t[6].clone()),
        bias_kv: Some((t[7].clone(), t[8].clone())),
        add_zero_attn: true,
        out_proj_weight: t[9].clone(),
        out_proj_bias: Some(t[10].clone()),
        dropout_p: 0.0,
        training: true,
    };
    let shapes: [&[usize]; 12] = [
        &[2, 2, 4],
        &[3, 2, 3],
        &[3, 2, 2],
        &[4, 4],
        &[4, 3],
        &[4, 2],
        &[12],
        &[1, 1, 4],
        &[1, 1, 4],
        &[4, 4],
        &[4],
        &[2, 3],
    ];
    let inputs: Vec<T> = shapes.iter().enumerate().map(|(i, shape)| numbers(i as u64, shape)).collect();
    for need in [true, false] {
        let f = |t: &[T]| {
            let options = AttentionOptions::default().attn_mask(&t[11]).need_weights(need);
            let (y, weights) = F::multi_head_attention_forward(&t[0], &t[1], &t[2], &heads(t), options)?;
            Ok([Some(y), weights].into_iter().flatten().collect::<Vec<T>>())
        };
        gradcheck(f, &inputs, CheckOptions::default()).unwrap();
        gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
    }
}

fn attention() -> MultiheadAttention<f64> {
    ndnn::manual_seed(3);
    let attention = MultiheadAttention::new(4, 2).dtype::<f64>();
    attention.in_proj_bias.as_ref().unwrap().set(&numbers(5, &[12])).unwrap();
    attention
}

#[test]
fn the_ways_through_attention_agree() {
    let attention = attention();
    let (x, keys) = (numbers(1, &[3, 2, 4]), numbers(2, &[5, 2, 4]));
    let options = AttentionOptions::default;
    // One product for all three, or one for each.
    let copy = || T::from(x.view().to_owned());
    let (y, weights) = attention.forward(&x, &x, &x, options()).unwrap();
    close(&y, &attention.forward(&x, &copy(), &copy(), options()).unwrap().0);
    close(&y, &Forward::forward(&attention, &x).unwrap());
    close(&weights.unwrap().sum_dim(-1, false).unwrap(), &T::ones([2, 3]));
    // With and without weights; each head's weights and their mean.
    let mask = seen(3, 5).logical_not();
    let padding = Tensor::from_vec([2, 5], (0..10).map(|i| i == 4 || i == 8).collect::<Vec<bool>>()).unwrap();
    let masked = || options().attn_mask(AttentionMask::hidden(&mask)).key_padding_mask(AttentionMask::hidden(&padding));
    let (y, mean) = attention.forward(&x, &keys, &keys, masked()).unwrap();
    let (without, none) = attention.forward(&x, &keys, &keys, masked().need_weights(false)).unwrap();
    let (_, each) = attention.forward(&x, &keys, &keys, masked().average_attn_weights(false)).unwrap();
    close(&y, &without);
    assert!(none.is_none());
    close(&mean.unwrap(), &each.unwrap().mean_dim(1, false).unwrap());
    // A mask of floats, a mask for each head, the batch first, without a batch.
    let added = T::zeros([3, 5]).masked_fill(&mask, f64::NEG_INFINITY).unwrap();
    let floats =
        options().attn_mask(&added.repeat([4, 1, 1]).unwrap()).key_padding_mask(AttentionMask::hidden(&padding));
    close(&y, &attention.forward(&x, &keys, &keys, floats).unwrap().0);
    let first = attention.clone().batch_first(true);
    let swap = |t: &T| t.transpose(0, 1).unwrap();
    close(&swap(&y), &first.forward(&swap(&x), &swap(&keys), &swap(&keys), masked()).unwrap().0);
    let one = |t: &T| t.select(1, 1).unwrap();
    let alone = options()
        .attn_mask(AttentionMask::hidden(&mask))
        .key_padding_mask(AttentionMask::hidden(&padding.select(0, 1).unwrap()));
    let (y1, w1) = attention.forward(&one(&x), &one(&keys), &one(&keys), alone).unwrap();
    close(&one(&y), &y1);
    assert_eq!(w1.unwrap().shape(), [3, 5]);
    // The hint in the message.
    let causal = options().attn_mask(AttentionMask::hidden(&mask)).is_causal(true);
    let (hinted, _) = attention.forward(&x, &keys, &keys, causal.clone().need_weights(false)).unwrap();
    close(&hinted, &attention.forward(&x, &keys, &keys, causal).unwrap().0);
}

#[test]
fn blind_queries_of_attention_give_zeros_with_and_without_weights() {
    let attention = attention();
    let x = numbers(1, &[3, 2, 4]).set_requires_grad(true);
    let options = || AttentionOptions::default().key_padding_mask(AttentionMask::lengths(&[0, 2], 3).unwrap());
    for need in [true, false] {
        let (y, weights) = attention.forward(&x, &x, &x, options().need_weights(need)).unwrap();
        close(&y.select(1, 0).unwrap(), &T::zeros([3, 4]));
        assert!(y.select(1, 1).unwrap().to_vec().iter().all(|v| v.is_finite() && *v != 0.0));
        if let Some(weights) = weights {
            close(&weights.select(0, 0).unwrap(), &T::zeros([3, 3]));
            close(&weights.select(0, 1).unwrap().select(1, 2).unwrap(), &T::zeros([3]));
        }
        x.zero_grad();
        y.square().sum().backward().unwrap();
        let gradient = x.grad().unwrap();
        close(&gradient.select(1, 0).unwrap(), &T::zeros([3, 4]));
        assert!(gradient.to_vec().iter().all(|v| v.is_finite()));
        assert!(gradient.select(1, 1).unwrap().abs().max().unwrap().item().unwrap() > 0.0);
    }
}

#[test]
fn masks_from_lengths_and_their_errors() {
    let mask = |lengths: &Tensor<i64>| AttentionMask::<f64>::lengths(lengths, 3);
    let numbers = mask(&tensor![2_i64, 0, 3]).unwrap().numbers();
    let (o, x) = (0.0, f64::NEG_INFINITY);
    assert_eq!(numbers, Tensor::from_vec([3, 3], vec![o, o, x, x, x, x, o, o, o]).unwrap());
    let error = mask(&tensor![2_i64, 4]).unwrap_err().to_string();
    assert_eq!(error, "AttentionMask::lengths: the length of sequence 1 is 4, expected 0 to 3");
    assert!(mask(&tensor![-1_i64]).unwrap_err().to_string().contains("sequence 0 is -1"));
    let error = mask(&tensor![[2_i64, 1]]).unwrap_err().to_string();
    assert_eq!(error, "AttentionMask::lengths: the lengths are [1, 2], expected one axis: one per sequence");
    assert_eq!(mask(&tensor![2_i64]).unwrap().unsqueeze(1).unwrap().shape(), [1, 1, 3]);
}

#[test]
fn static_keys_and_values_replace_the_projected_ones() {
    let attention = attention();
    let heads = |t: &T| t.reshape([5, 4, 2]).unwrap().transpose(0, 1).unwrap();
    let x = numbers(1, &[3, 2, 4]);
    let keys = numbers(2, &[5, 2, 4]);
    let (weight, bias) = (attention.in_proj_weight.as_ref().unwrap().tensor(), numbers(5, &[12]));
    let (w, b) = (weight.chunk(3, 0).unwrap(), bias.chunk(3, 0).unwrap());
    let project = |i: usize| heads(&F::linear(&keys, &w[i], Some(&b[i])).unwrap());
    let parameters = |bias_kv: Option<(T, T)>| MultiheadAttentionParameters {
        num_heads: 2,
        in_proj_weight: InProjection::Packed(weight.clone()),
        in_proj_bias: Some(bias.clone()),
        bias_kv,
        add_zero_attn: true,
        out_proj_weight: attention.out_proj.weight.tensor(),
        out_proj_bias: None,
        dropout_p: 0.0,
        training: false,
    };
    let run = |keys: &T, bias_kv, options| {
        F::multi_head_attention_forward(&x, keys, keys, &parameters(bias_kv), options).map(|(y, _)| y)
    };
    let options = AttentionOptions::default();
    let given = options.clone().static_k(&project(1)).static_v(&project(2));
    close(&run(&keys, None, options.clone()).unwrap(), &run(&x, None, given.clone()).unwrap());
    let error = |keys: &T, bias_kv, options| run(keys, bias_kv, options).unwrap_err().to_string();
    let bias_kv = Some((numbers(6, &[1, 1, 4]), numbers(7, &[1, 1, 4])));
    assert!(error(&x, bias_kv, given).contains("static_k cannot be combined"));
    let short = options.clone().static_k(&numbers(3, &[3, 5, 2]));
    assert!(error(&x, None, short).contains("static_k is [3, 5, 2], expected"));
    let uneven = options.clone().static_k(&project(1));
    assert!(error(&x, None, uneven).contains("as many keys as values, got 6 and 4"));
    let out_proj = MultiheadAttentionParameters { out_proj_weight: numbers(8, &[4]), ..parameters(None) };
    let result = F::multi_head_attention_forward(&x, &keys, &keys, &out_proj, options);
    let error = result.unwrap_err().to_string();
    assert!(error.contains("out_proj_weight is [4], [4, 4] is expected for query [3, 2, 4]"), "{error}");
}

#[test]
fn attention_names_printing_and_start() {
    let shapes = |m: &MultiheadAttention| -> Vec<(String, Vec<usize>)> {
        m.named_parameters().into_iter().map(|(name, p)| (name, p.shape())).collect()
    };
    let own = |name: &str, shape: &[usize]| (name.to_string(), shape.to_vec());
    let packed = MultiheadAttention::new(4, 2).add_bias_kv(true);
    assert_eq!(
        packed.to_string(),
        "MultiheadAttention(\n  (out_proj): NonDynamicallyQuantizableLinear(in_features=4, out_features=4, bias=True)\n)"
    );
    let expected = [
        own("in_proj_weight", &[12, 4]),
        own("in_proj_bias", &[12]),
        own("bias_k", &[1, 1, 4]),
        own("bias_v", &[1, 1, 4]),
        own("out_proj.weight", &[4, 4]),
        own("out_proj.bias", &[4]),
    ];
    assert_eq!(shapes(&packed), expected);
    let separate = MultiheadAttention::new(4, 2).kdim(3).vdim(4).bias(false);
    let expected = [
        own("q_proj_weight", &[4, 4]),
        own("k_proj_weight", &[4, 3]),
        own("v_proj_weight", &[4, 4]),
        own("out_proj.weight", &[4, 4]),
    ];
    assert_eq!(shapes(&separate), expected);
    let bound = (6f32 / 16.).sqrt();
    let start = packed.in_proj_weight.as_ref().unwrap().detach().abs().max().unwrap().item().unwrap();
    assert!(start <= bound && start > 0.8 * bound);
    assert_eq!(packed.out_proj.bias.as_ref().unwrap().detach(), Tensor::zeros([4]));
}

#[test]
fn attention_dropout_only_in_training() {
    let mut attention = attention().dropout(0.5);
    let x = numbers(1, &[6, 2, 4]);
    let run = |m: &MultiheadAttention<f64>, need| {
        m.forward(&x, &x, &x, AttentionOptions::default().need_weights(need)).unwrap().0
    };
    assert_ne!(run(&attention, true), run(&attention, true));
    assert_ne!(run(&attention, false), run(&attention, false));
    attention.eval();
    close(&run(&attention, true), &run(&attention, false));
}

#[test]
fn attention_errors() {
    let attention = MultiheadAttention::new(4, 2);
    let x = |shape: &[usize]| Tensor::<f32>::zeros(shape);
    let options = AttentionOptions::default;
    let message = |q: &[usize], k: &[usize], v: &[usize], options: AttentionOptions| {
        attention.forward(&x(q), &x(k), &x(v), options).unwrap_err().to_string()
    };
    let contains = |text: String, part: &str| assert!(text.contains(part), "{text}");
    contains(message(&[4], &[4], &[4], options()), "expected (L, N, E)");
    contains(message(&[3, 2, 4], &[5, 4], &[5, 4], options()), "expected (L, N, E)");
    contains(message(&[3, 2, 4], &[5, 2, 4], &[6, 2, 4], options()), "keys and values of one length");
    contains(message(&[3, 2, 4], &[5, 3, 4], &[5, 3, 4], options()), "one batch size");
    contains(message(&[3, 2, 6], &[5, 2, 6], &[5, 2, 6], options()), "in_proj_weight is [12, 4]");
    contains(message(&[3, 2, 4], &[5, 2, 3], &[5, 2, 3], options()), "packed in_proj_weight");
    let same = [3, 2, 4];
    contains(message(&same, &same, &same, options().is_causal(true)), "attn_mask is needed");
    contains(message(&same, &same, &same, options().attn_mask(&x(&[3, 4]))), "expected [3, 3] or [4, 3, 3]");
    let padding = options().key_padding_mask(AttentionMask::hidden(&Tensor::zeros([3, 2])));
    contains(message(&same, &same, &same, padding), "key_padding_mask is [3, 2], expected [2, 3]");
    assert!(message(&[4], &[4], &[4], options()).ends_with("in MultiheadAttention"));
}
