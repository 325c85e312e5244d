//! Transformers: layers against their parts, masks, options, decoding with a cache, errors.

use std::panic::catch_unwind;

use ndnn::{
    autograd::{CheckOptions, gradcheck, gradgradcheck},
    functional::{self as F, AttentionMask, AttentionOptions, KeyValueCache},
    nn::{TransformerDecoderOptions, TransformerEncoderOptions, TransformerOptions},
    prelude::*,
};

use super::{T, close, numbers};

fn encoder_layer() -> TransformerEncoderLayer<f64> {
    ndnn::manual_seed(5);
    TransformerEncoderLayer::new(4, 2).dim_feedforward(6).dropout(0.).dtype()
}

fn decoder_layer() -> TransformerDecoderLayer<f64> {
    ndnn::manual_seed(6);
    TransformerDecoderLayer::new(4, 2).dim_feedforward(6).dropout(0.).dtype()
}

fn causal(n: usize) -> AttentionMask<f64> {
    AttentionMask::causal(n, n).unwrap()
}

#[test]
fn layers_are_their_parts() {
    let (x, memory) = (numbers(1, &[3, 2, 4]), numbers(2, &[5, 2, 4]));
    for norm_first in [false, true] {
        let layer = encoder_layer().norm_first(norm_first).activation("gelu");
        let attended = |x: &T| layer.self_attn.forward(x, x, x, AttentionOptions::default()).unwrap().0;
        let fed = |x: &T| {
            let hidden = F::gelu(&layer.linear1.forward(x).unwrap(), Default::default());
            layer.linear2.forward(&hidden).unwrap()
        };
        let norm = |norm: &LayerNorm<f64>, x: &T| norm.forward(x).unwrap();
        let expected = if norm_first {
            let y = &x + attended(&norm(&layer.norm1, &x));
            &y + fed(&norm(&layer.norm2, &y))
        } else {
            let y = norm(&layer.norm1, &(&x + attended(&x)));
            norm(&layer.norm2, &(&y + fed(&y)))
        };
        close(&Forward::forward(&layer, &x).unwrap(), &expected);

        let layer = decoder_layer().norm_first(norm_first).activation_fn(|x| x.tanh());
        let to = |a: &MultiheadAttention<f64>, x: &T, k: &T| a.forward(x, k, k, AttentionOptions::default()).unwrap().0;
        let fed = |x: &T| layer.linear2.forward(&layer.linear1.forward(x).unwrap().tanh()).unwrap();
        let expected = if norm_first {
            let z = norm(&layer.norm1, &x);
            let y = &x + to(&layer.self_attn, &z, &z);
            let y = &y + to(&layer.multihead_attn, &norm(&layer.norm2, &y), &memory);
            &y + fed(&norm(&layer.norm3, &y))
        } else {
            let y = norm(&layer.norm1, &(&x + to(&layer.self_attn, &x, &x)));
            let y = norm(&layer.norm2, &(&y + to(&layer.multihead_attn, &y, &memory)));
            norm(&layer.norm3, &(&y + fed(&y)))
        };
        close(&layer.forward(&x, &memory, Default::default()).unwrap(), &expected);
    }
}

#[test]
fn stacks_are_their_layers_and_the_whole_its_stacks() {
    let mut model =
        Transformer::new(4, 2).num_encoder_layers(2).num_decoder_layers(1).dim_feedforward(6).dtype::<f64>();
    model.eval();
    let (src, tgt) = (numbers(1, &[5, 2, 4]), numbers(2, &[3, 2, 4]));
    let padding = || AttentionMask::lengths(&[5, 2], 5).unwrap();
    let options = TransformerOptions::default().src_key_padding_mask(padding()).memory_key_padding_mask(padding());
    let y = model.forward(&src, &tgt, options.tgt_mask(causal(3)).tgt_is_causal(true)).unwrap();
    let mut memory = src.clone();
    for layer in &model.encoder.layers {
        let options = TransformerEncoderOptions::default().src_key_padding_mask(padding());
        memory = layer.forward(&memory, options).unwrap();
    }
    let memory = model.encoder.norm.as_ref().unwrap().forward(&memory).unwrap();
    let options = TransformerDecoderOptions::default().tgt_mask(causal(3)).memory_key_padding_mask(padding());
    let expected = model.decoder.layers[0].forward(&tgt, &memory, options).unwrap();
    close(&y, &model.decoder.norm.as_ref().unwrap().forward(&expected).unwrap());
    // Other axes, and no batch.
    let swap = |t: &T| t.transpose(0, 1).unwrap();
    let first = model.clone().batch_first(true);
    let plain = model.forward(&src, &tgt, Default::default()).unwrap();
    close(&plain, &swap(&first.forward(&swap(&src), &swap(&tgt), Default::default()).unwrap()));
    let one = |t: &T| t.select(1, 1).unwrap();
    close(&one(&plain), &first.forward(&one(&src), &one(&tgt), Default::default()).unwrap());
    assert_eq!(
        model.forward(&T::zeros([5, 0, 4]), &T::zeros([3, 0, 4]), Default::default()).unwrap().shape(),
        [3, 0, 4]
    );
}

#[test]
fn training_and_evaluation_agree_and_padding_is_not_seen() {
    let layer = encoder_layer().batch_first(true).activation("gelu");
    let mut encoder = TransformerEncoder::new(layer, 2);
    let x = numbers(1, &[2, 4, 4]);
    let other = T::cat(&[x.narrow(1, 0, 2).unwrap(), numbers(9, &[2, 2, 4])], 1).unwrap();
    let options = || {
        let padding = AttentionMask::lengths(&[2, 2], 4).unwrap();
        TransformerEncoderOptions::default().src_key_padding_mask(padding)
    };
    let trained = encoder.forward(&x, options()).unwrap();
    encoder.eval();
    close(&trained, &no_grad(|| encoder.forward(&x, options())).unwrap());
    let kept = |t: T| t.narrow(1, 0, 2).unwrap();
    close(&kept(trained), &kept(encoder.forward(&other, options()).unwrap()));
    // What is padding everywhere gives finite numbers.
    let blind = TransformerEncoderOptions::default().src_key_padding_mask(AttentionMask::lengths(&[0, 4], 4).unwrap());
    let x = x.set_requires_grad(true);
    let y = encoder.forward(&x, blind).unwrap();
    y.square().sum().backward().unwrap();
    assert!(y.to_vec().iter().chain(&x.grad().unwrap().to_vec()).all(|v| v.is_finite()));
}

#[test]
fn derivatives_of_layers() {
    for (norm_first, activation, bias) in [(false, "gelu", true), (true, "relu", false)] {
        let layer = encoder_layer().norm_first(norm_first).activation(activation).bias(bias);
        let padding = Tensor::from_vec([1, 2], vec![false, true]).unwrap();
        let f = |t: &[T]| {
            let options = TransformerEncoderOptions::default().src_mask(&t[1]);
            layer.forward(&t[0], options.src_key_padding_mask(AttentionMask::hidden(&padding)))
        };
        let inputs = [numbers(1, &[2, 1, 4]), numbers(2, &[2, 2])];
        gradcheck(f, &inputs, CheckOptions::default()).unwrap();
        gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
        let layer = decoder_layer().norm_first(norm_first).activation(activation).bias(bias);
        let f = |t: &[T]| {
            let options = TransformerDecoderOptions::default().tgt_mask(causal(2));
            layer.forward(&t[0], &t[1], options.memory_mask(&t[2]))
        };
        let inputs = [numbers(1, &[2, 1, 4]), numbers(2, &[3, 1, 4]), numbers(3, &[2, 3])];
        gradcheck(f, &inputs, CheckOptions::default()).unwrap();
        gradgradcheck(f, &inputs, CheckOptions::default()).unwrap();
    }
}

// ------------------------------------------------------------------------------------------------------------ decoding

/// Runs the steps of `x`, in pieces of these sizes along axis 0.
fn stepwise(x: &T, sizes: &[usize], mut step: impl FnMut(&T) -> Result<T>) -> T {
    let pieces = x.split_with_sizes(sizes, 0).unwrap();
    T::cat(&pieces.iter().map(|piece| step(piece).unwrap()).collect::<Vec<T>>(), 0).unwrap()
}

#[test]
fn decoding_step_by_step_is_the_whole_pass() {
    let (x, memory) = (numbers(1, &[6, 2, 4]), numbers(2, &[5, 2, 4]));
    for sizes in [&[1; 6][..], &[3, 1, 2], &[6]] {
        for norm_first in [false, true] {
            let encoder = TransformerEncoder::new(encoder_layer().norm_first(norm_first), 3);
            let encoder = encoder.norm(LayerNorm::new([4]).dtype::<f64>());
            let whole = encoder.forward(&x, TransformerEncoderOptions::default().src_mask(causal(6))).unwrap();
            let mut cache = KeyValueCache::default();
            close(&whole, &stepwise(&x, sizes, |x| encoder.forward_cached(x, &mut cache)));
            assert_eq!((cache.len(), cache.is_empty()), (6, false));

            let decoder = TransformerDecoder::new(decoder_layer().norm_first(norm_first), 2);
            let options = TransformerDecoderOptions::default().tgt_mask(causal(6));
            let whole = decoder.forward(&x, &memory, options).unwrap();
            let mut cache = KeyValueCache::default();
            close(&whole, &stepwise(&x, sizes, |x| decoder.forward_cached(x, &memory, &mut cache)));
        }
        // With additional keys, weights of their own for each projection, and without a batch.
        let attention = MultiheadAttention::new(4, 2).add_bias_kv(true).add_zero_attn(true).dtype::<f64>();
        attention.in_proj_bias.as_ref().unwrap().set(&numbers(5, &[12])).unwrap();
        let x = x.select(1, 1).unwrap();
        let options = AttentionOptions::default().attn_mask(causal(6));
        let whole = attention.forward(&x, &x, &x, options).unwrap().0;
        let mut cache = KeyValueCache::default();
        close(&whole, &stepwise(&x, sizes, |x| attention.forward_cached(x, &mut cache)));
    }
    // The batch first.
    let layer = encoder_layer().batch_first(true);
    let swap = |t: &T| t.transpose(0, 1).unwrap();
    let whole = layer.forward(&swap(&x), TransformerEncoderOptions::default().src_mask(causal(6))).unwrap();
    let mut cache = KeyValueCache::default();
    close(&swap(&whole), &stepwise(&x, &[1; 6], |x| layer.forward_cached(&swap(x), &mut cache).map(|y| swap(&y))));
}

#[test]
fn a_cache_does_not_attend_to_padding() {
    let (x, memory) = (numbers(1, &[6, 2, 4]), numbers(2, &[5, 2, 4]));
    // The second beginning has 2 steps of 3; what follows is attended to.
    let padding = AttentionMask::lengths(&[3, 2], 3).unwrap();
    let of_memory = AttentionMask::lengths(&[5, 2], 5).unwrap();
    let seen = |n: usize| n / 6 != 1 || n % 6 != 2;
    let all = AttentionMask::attended(&Tensor::from_vec([2, 6], (0..12).map(seen).collect()).unwrap());
    let decoder = TransformerDecoder::new(decoder_layer(), 2);
    let options = TransformerDecoderOptions::default()
        .tgt_mask(causal(6))
        .tgt_key_padding_mask(all)
        .memory_key_padding_mask(of_memory.clone());
    let whole = decoder.forward(&x, &memory, options).unwrap();
    for sizes in [&[1; 6][..], &[3, 1, 2], &[6]] {
        let mut cache =
            KeyValueCache::default().key_padding_mask(padding.clone()).memory_key_padding_mask(of_memory.clone());
        close(&whole, &stepwise(&x, sizes, |x| decoder.forward_cached(x, &memory, &mut cache)));
    }
    let refused =
        |cache: KeyValueCache<f64>| decoder.forward_cached(&x, &memory, &mut { cache }).unwrap_err().to_string();
    let three = AttentionMask::lengths(&[3, 2, 1], 3).unwrap();
    let error = refused(KeyValueCache::default().key_padding_mask(three));
    assert!(error.contains("the cache's key_padding_mask is [3, 3], expected [2, S]"), "{error}");
    let error = refused(KeyValueCache::default().memory_key_padding_mask(padding));
    assert!(error.contains("the cache's memory_key_padding_mask is [2, 3], expected [2, 5]"), "{error}");
}

#[test]
fn gradients_pass_through_the_cache() {
    let layer = decoder_layer();
    let f = |t: &[T]| {
        let mut cache = KeyValueCache::default();
        let mut step = |i: isize| layer.forward_cached(&t[0].narrow(0, i, 1)?, &t[1], &mut cache);
        Ok((step(0)?, step(1)?))
    };
    gradcheck(f, &[numbers(1, &[2, 1, 4]), numbers(2, &[3, 1, 4])], CheckOptions::default()).unwrap();
}

#[test]
fn a_cache_can_be_continued_twice_and_refuses_another_model() {
    let encoder = TransformerEncoder::new(encoder_layer(), 2);
    let x = numbers(1, &[3, 2, 4]);
    let mut cache = KeyValueCache::default();
    let _ = encoder.forward_cached(&x, &mut cache).unwrap();
    let mut other = cache.clone();
    let (a, b) = (numbers(2, &[1, 2, 4]), numbers(3, &[2, 2, 4]));
    let first = encoder.forward_cached(&a, &mut cache).unwrap();
    let _ = encoder.forward_cached(&b, &mut other).unwrap();
    assert_eq!((cache.len(), other.len()), (4, 5));
    let mut again = KeyValueCache::default();
    let _ = encoder.forward_cached(&x, &mut again).unwrap();
    close(&first, &encoder.forward_cached(&a, &mut again).unwrap());
    // A refused step changes nothing.
    let error = encoder.forward_cached(&numbers(4, &[1, 3, 4]), &mut cache).unwrap_err().to_string();
    assert!(error.contains("the cache holds keys of [4, 2, 4] (steps, batch, features), got [1, 3, 4]"), "{error}");
    assert_eq!(cache.len(), 4);
    let error = encoder.layers[0].forward_cached(&a, &mut cache).unwrap_err().to_string();
    assert!(error.contains("filled by a model of 2 attentions, this one has 1: start with an empty cache"), "{error}");
    let (decoder, mut cache) = (decoder_layer(), KeyValueCache::default());
    let _ = decoder.forward_cached(&a, &x, &mut cache).unwrap();
    let error = decoder.forward_cached(&a, &b, &mut cache).unwrap_err().to_string();
    assert!(error.contains("the cache holds keys of [3, 2, 4]"), "{error}");
}

// ------------------------------------------------------------------------------------------------------------- options

#[test]
fn options_in_any_order() {
    let a = TransformerEncoderLayer::new(4, 2).bias(false).dim_feedforward(6).layer_norm_eps(1e-3).dropout(0.5);
    let b = TransformerEncoderLayer::new(4, 2).dropout(0.5).layer_norm_eps(1e-3).dim_feedforward(6).bias(false);
    assert_eq!(a.to_string(), b.to_string());
    let names: Vec<String> = a.named_parameters().into_iter().map(|(name, _)| name).collect();
    let weights = ["self_attn.in_proj_weight", "self_attn.out_proj.weight", "linear1.weight", "linear2.weight"];
    assert_eq!(names, [&weights[..], &["norm1.weight", "norm2.weight"]].concat());
    let a = Transformer::new(4, 2).num_encoder_layers(1).num_decoder_layers(2).dim_feedforward(6).bias(false);
    let b = Transformer::new(4, 2).bias(false).dim_feedforward(6).num_decoder_layers(2).num_encoder_layers(1);
    assert_eq!(a.to_string(), b.to_string());
    // Drawn by xavier_uniform, each layer on its own.
    let [first, second] = [0, 1].map(|i: usize| a.decoder.layers[i].linear1.weight.detach());
    assert_ne!(first, second);
    let bound = (6f32 / 10.).sqrt();
    let most = first.abs().max().unwrap().item().unwrap();
    assert!(most <= bound && most > 0.6 * bound);
    // In a stack all layers begin alike.
    let stack = TransformerEncoder::new(TransformerEncoderLayer::new(4, 2).dim_feedforward(6), 2);
    assert_eq!(stack.layers[0].linear1.weight.detach(), stack.layers[1].linear1.weight.detach());
    let model = a.custom_encoder(stack);
    assert_eq!(model.encoder.layers.len(), 2);
    assert_eq!(Transformer::generate_square_subsequent_mask(2), tensor![[0.0, f32::NEG_INFINITY], [0.0, 0.0]]);
}

#[test]
fn dropout_only_in_training() {
    let mut layer = decoder_layer().dropout(0.5);
    let (x, memory) = (numbers(1, &[3, 2, 4]), numbers(2, &[5, 2, 4]));
    let run = |layer: &TransformerDecoderLayer<f64>| layer.forward(&x, &memory, Default::default()).unwrap();
    assert_ne!(run(&layer), run(&layer));
    layer.eval();
    assert_eq!(run(&layer), run(&layer));
    close(&run(&layer), &run(&decoder_layer()));
}

#[test]
fn errors_of_transformers() {
    let model = Transformer::new(4, 2).num_encoder_layers(1).num_decoder_layers(1).dim_feedforward(6);
    let text = |src: &[usize], tgt: &[usize], options: TransformerOptions| {
        model.forward(&Tensor::zeros(src), &Tensor::zeros(tgt), options).unwrap_err().to_string()
    };
    let none = TransformerOptions::default;
    let contains = |text: String, part: &str| assert!(text.contains(part), "{text}");
    contains(text(&[5, 2, 4], &[3, 1, 4], none()), "one batch size in src and tgt, got src [5, 2, 4], tgt [3, 1, 4]");
    contains(text(&[5, 2, 4], &[3, 2, 6], none()), "expected d_model = 4 features");
    contains(text(&[5, 2, 4], &[3, 4], none()), "or both without a batch");
    let mask = AttentionMask::causal(4, 4).unwrap();
    contains(text(&[5, 2, 4], &[3, 2, 4], none().src_mask(mask)), "attn_mask is [4, 4], expected [5, 5]");
    contains(text(&[5, 2, 4], &[3, 2, 4], none().tgt_is_causal(true)), "attn_mask is needed too");
    contains(text(&[5, 2, 4], &[3, 2, 4], none().tgt_is_causal(true)), "decoder.layers.0.self_attn");
    let panic = |f: fn()| *catch_unwind(f).unwrap_err().downcast::<String>().unwrap();
    contains(panic(|| drop(TransformerEncoderLayer::new(4, 2).activation("tanh"))), "one of \"relu\", \"gelu\"");
    contains(panic(|| drop(Transformer::new(5, 2))), "must be a multiple");
    contains(
        panic(|| drop(TransformerEncoderLayer::new(4, 2).activation_fn(Tensor::tanh).dtype::<f64>())),
        "call activation_fn after dtype",
    );
    assert!(catch_unwind(|| TransformerEncoder::new(TransformerEncoderLayer::new(4, 2), 0)).is_err());
}
