//! Transformers.

use ndnn::{
    Error, Real, Result,
    nn::{
        Dtype, LayerNorm, Transformer, TransformerActivation, TransformerDecoder, TransformerDecoderLayer,
        TransformerDecoderOptions, TransformerEncoder, TransformerEncoderLayer, TransformerEncoderOptions,
        TransformerOptions,
    },
};

use super::{Built, case};
use crate::{
    args::Args,
    targets::{dims::refused, functional::attention::mask, out},
};

/// Reads the options from the argument `dim_feedforward` on, which is at position `$at`, and sets them.
macro_rules! configured {
    ($a:ident, $at:expr, $after:expr, $layer:expr) => {{
        let at = $at;
        let dim_feedforward = $a.size_or(at, "dim_feedforward", 2048)?;
        let dropout = $a.float_or(at + 1, "dropout", 0.1)?;
        let activation: TransformerActivation = $a.str_or(at + 2, "activation", "relu")?.parse()?;
        let at = at + 3 + $after;
        let eps = $a.float_or(at, "layer_norm_eps", 1e-5)?;
        let batch_first = $a.bool_or(at + 1, "batch_first", false)?;
        let norm_first = $a.bool_or(at + 2, "norm_first", false)?;
        let bias = $a.bool_or(at + 3, "bias", true)?;
        refused(|| {
            let layer = $layer.dim_feedforward(dim_feedforward).dropout(dropout).activation(activation);
            layer.layer_norm_eps(eps).batch_first(batch_first).norm_first(norm_first).bias(bias)
        })?
    }};
}

fn encoder_layer<T: Real>(a: &Args<T>) -> Result<TransformerEncoderLayer> {
    let (d_model, nhead) = (a.size(0, "d_model")?, a.size(1, "nhead")?);
    Ok(configured!(a, 2, 0, TransformerEncoderLayer::new(d_model, nhead)))
}

fn decoder_layer<T: Real>(a: &Args<T>) -> Result<TransformerDecoderLayer> {
    let (d_model, nhead) = (a.size(0, "d_model")?, a.size(1, "nhead")?);
    Ok(configured!(a, 2, 0, TransformerDecoderLayer::new(d_model, nhead)))
}

/// A module in the arguments.
fn inner<T: Real>(a: &Args<T>, index: usize, name: &str) -> Result<Args<T>> {
    let found = a.module(index, name)?.ok_or_else(|| Error::value("case", format!("`{name}` is missing")))?;
    Ok(found.1)
}

fn norm<T: Real>(a: &Args<T>) -> Result<Option<LayerNorm>> {
    let Some((_, norm)) = a.module(2, "norm")? else { return Ok(None) };
    let layer = LayerNorm::new(norm.sizes(0, "normalized_shape")?).eps(norm.float_or(1, "eps", 1e-5)?);
    let layer = layer.elementwise_affine(norm.bool_or(2, "elementwise_affine", true)?);
    Ok(Some(layer.bias(norm.bool_or(3, "bias", true)?)))
}

fn encoder<T: Real>(a: &Args<T>) -> Result<TransformerEncoder> {
    let (layer, layers, norm) = (encoder_layer(&inner(a, 0, "encoder_layer")?)?, a.size(1, "num_layers")?, norm(a)?);
    a.ignore(3, "enable_nested_tensor");
    a.ignore(4, "mask_check");
    refused(|| TransformerEncoder::new(layer, layers).norm(norm))
}

fn decoder<T: Real>(a: &Args<T>) -> Result<TransformerDecoder> {
    let (layer, layers, norm) = (decoder_layer(&inner(a, 0, "decoder_layer")?)?, a.size(1, "num_layers")?, norm(a)?);
    refused(|| TransformerDecoder::new(layer, layers).norm(norm))
}

fn encoder_options<T: Real>(a: &Args<T>) -> Result<TransformerEncoderOptions<T>> {
    let options = TransformerEncoderOptions::default().src_mask(mask(a, 1, "src_mask|mask")?);
    let options = options.src_key_padding_mask(mask(a, 2, "src_key_padding_mask")?);
    Ok(options.is_causal(a.bool_or(3, "is_causal", false)?))
}

fn decoder_options<T: Real>(a: &Args<T>) -> Result<TransformerDecoderOptions<T>> {
    Ok(TransformerDecoderOptions::default()
        .tgt_mask(mask(a, 2, "tgt_mask")?)
        .memory_mask(mask(a, 3, "memory_mask")?)
        .tgt_key_padding_mask(mask(a, 4, "tgt_key_padding_mask")?)
        .memory_key_padding_mask(mask(a, 5, "memory_key_padding_mask")?)
        .tgt_is_causal(a.bool_or(6, "tgt_is_causal", false)?)
        .memory_is_causal(a.bool_or(7, "memory_is_causal", false)?))
}

fn whole_options<T: Real>(a: &Args<T>) -> Result<TransformerOptions<T>> {
    Ok(TransformerOptions::default()
        .src_mask(mask(a, 2, "src_mask")?)
        .tgt_mask(mask(a, 3, "tgt_mask")?)
        .memory_mask(mask(a, 4, "memory_mask")?)
        .src_key_padding_mask(mask(a, 5, "src_key_padding_mask")?)
        .tgt_key_padding_mask(mask(a, 6, "tgt_key_padding_mask")?)
        .memory_key_padding_mask(mask(a, 7, "memory_key_padding_mask")?)
        .src_is_causal(a.bool_or(8, "src_is_causal", false)?)
        .tgt_is_causal(a.bool_or(9, "tgt_is_causal", false)?)
        .memory_is_causal(a.bool_or(10, "memory_is_causal", false)?))
}

fn whole<T: Real>(a: &Args<T>) -> Result<Transformer> {
    let (d_model, nhead) = (a.size_or(0, "d_model", 512)?, a.size_or(1, "nhead", 8)?);
    let (encoders, decoders) = (a.size_or(2, "num_encoder_layers", 6)?, a.size_or(3, "num_decoder_layers", 6)?);
    let model = refused(|| Transformer::new(d_model, nhead).num_encoder_layers(encoders).num_decoder_layers(decoders))?;
    let mut model = configured!(a, 4, 2, model);
    if a.has(7, "custom_encoder") {
        model = model.custom_encoder(encoder(&inner(a, 7, "custom_encoder")?)?);
    }
    if a.has(8, "custom_decoder") {
        model = model.custom_decoder(decoder(&inner(a, 8, "custom_decoder")?)?);
    }
    Ok(model)
}

pub fn build<T: Real>(target: &str, a: &Args<T>) -> Built<T> {
    /// A module that reads the source alone, and one that reads a target and a second tensor.
    macro_rules! reads {
        ($module:expr, src) => {
            case($module.dtype::<T>(), |m, a: &Args<T>| Ok(out![m.forward(&a.tensor(0, "src")?, encoder_options(a)?)?]))
        };
        ($module:expr, $first:literal, $second:literal, $options:expr) => {
            case($module.dtype::<T>(), |m, a: &Args<T>| {
                Ok(out![m.forward(&a.tensor(0, $first)?, &a.tensor(1, $second)?, $options(a)?)?])
            })
        };
    }
    Ok(Some(match target {
        "TransformerEncoderLayer" => reads!(encoder_layer(a)?, src),
        "TransformerEncoder" => reads!(encoder(a)?, src),
        "TransformerDecoderLayer" => reads!(decoder_layer(a)?, "tgt", "memory", decoder_options),
        "TransformerDecoder" => reads!(decoder(a)?, "tgt", "memory", decoder_options),
        "Transformer" => reads!(whole(a)?, "src", "tgt", whole_options),
        _ => return Ok(None),
    }))
}
