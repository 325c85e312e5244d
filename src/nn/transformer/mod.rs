//! The layers of the transformer, their stacks, and the whole.

mod layers;
mod options;
mod stacks;

use std::sync::Arc;

pub use layers::{TransformerDecoderLayer, TransformerEncoderLayer};
use options::Activation;
pub use options::{TransformerActivation, TransformerDecoderOptions, TransformerEncoderOptions, TransformerOptions};
pub use stacks::{TransformerDecoder, TransformerEncoder};

use crate::{
    Error, Result, forward, functional as F,
    module::AnyParam,
    nn::{LayerNorm, Module, ModuleExt, init},
    tensor::{Real, Tensor},
};

/// Setters that set the same in all layers of both stacks, and what else follows from it.
macro_rules! in_all_layers {
    ($($(#[$doc:meta])* $name:ident: $ty:ty, |$model:ident| $rest:expr;)*) => {$(
        $(#[$doc])*
        #[track_caller]
        pub fn $name(mut self, $name: $ty) -> Self {
            // Not closures, which would lose the caller's line.
            for layer in std::mem::take(&mut self.encoder.layers) {
                self.encoder.layers.push(layer.$name($name));
            }
            for layer in std::mem::take(&mut self.decoder.layers) {
                self.decoder.layers.push(layer.$name($name));
            }
            let $model = self;
            $rest
        }
    )*};
}

/// An encoder and a decoder that attends to the encoder's output.
///
/// `src` is `(S, N, d_model)`, `tgt` and the result are `(L, N, d_model)`, with `batch_first` `(N, S, d_model)` and
/// `(N, L, d_model)`, or all without `N`. By default six layers each, with 2048 features between the linear layers. All
/// weights are drawn by [`init::xavier_uniform`]. As torch.nn.Transformer; Vaswani and others, 2017.
///
/// ```
/// use ndnn::{functional::AttentionMask, nn::TransformerOptions, prelude::*};
/// let model = Transformer::new(8, 2).num_encoder_layers(2).num_decoder_layers(2).dim_feedforward(16).batch_first(true);
/// let (src, tgt) = (Tensor::ones([3, 7, 8]), Tensor::ones([3, 5, 8]));
/// let causal = TransformerOptions::default().tgt_mask(AttentionMask::causal(5, 5)?);
/// assert_eq!(model.forward(&src, &tgt, causal)?.shape(), [3, 5, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct Transformer<T: Real = f32> {
    /// Reads the source.
    pub encoder: TransformerEncoder<T>,
    /// Writes the target.
    pub decoder: TransformerDecoder<T>,
    d_model: usize,
    batch_first: bool,
}

impl Transformer {
    /// A transformer for `d_model` features, with attention of `nhead` heads.
    ///
    /// # Panics
    /// If either is 0, or `d_model` is not a multiple of `nhead`.
    #[track_caller]
    #[inline]
    pub fn new(d_model: usize, nhead: usize) -> Self {
        let norm = || LayerNorm::new([d_model]);
        let encoder = TransformerEncoder::new(TransformerEncoderLayer::new(d_model, nhead), 6).norm(norm());
        let decoder = TransformerDecoder::new(TransformerDecoderLayer::new(d_model, nhead), 6).norm(norm());
        Transformer { encoder, decoder, d_model, batch_first: false }.drawn()
    }
}

impl<T: Real> Transformer<T> {
    /// The numbers to add to `sz` × `sz` scores so that each query attends only to the keys up to its own position: 0 and
    /// −∞. [`AttentionMask::causal`](F::AttentionMask::causal) is the same as a mask.
    ///
    /// # Panics
    /// If there is not enough memory.
    #[track_caller]
    pub fn generate_square_subsequent_mask(sz: usize) -> Tensor<T> {
        crate::error::or_panic(F::causal("generate_square_subsequent_mask", sz, sz, 0))
    }

    in_all_layers! {
        /// Whether each block normalizes its input and not its sum; `false` by default.
        norm_first: bool, |model| model;
        /// The number of features between two linear layers; 2048 by default. Initialises all weights again.
        dim_feedforward: usize, |model| model.drawn();
        /// The probability with which elements, and weights of the attention, are dropped in training; 0.1 by default.
        ///
        /// # Panics
        /// If it is not from 0 to 1.
        dropout: f64, |model| model;
        /// Added to the variances; 1e-5 by default.
        layer_norm_eps: f64, |model| model.norms(|norm| norm.eps(layer_norm_eps));
        /// Whether inputs and output are `(N, L, d_model)` and not `(L, N, d_model)`; `false` by default.
        batch_first: bool, |model| Transformer { batch_first, ..model };
        /// With (the default) or without biases in all linear layers and norms.
        bias: bool, |model| model.norms(|norm| norm.bias(bias));
    }

    /// What is applied between two linear layers: `"relu"` (the default) or `"gelu"`.
    ///
    /// # Panics
    /// If the word is another one.
    #[track_caller]
    pub fn activation(self, activation: impl Into<TransformerActivation>) -> Self {
        self.activated(&Activation::Word(activation.into()))
    }

    /// A function that is applied between two linear layers, in the place of a word. `dtype` refuses to convert it, so
    /// convert the model first.
    pub fn activation_fn(self, function: impl Fn(&Tensor<T>) -> Tensor<T> + Send + Sync + 'static) -> Self {
        self.activated(&Activation::Function(Arc::new(function)))
    }

    fn activated(mut self, activation: &Activation<T>) -> Self {
        self.encoder.layers.iter_mut().for_each(|layer| layer.activation = activation.clone());
        self.decoder.layers.iter_mut().for_each(|layer| layer.activation = activation.clone());
        self
    }

    /// The number of layers of the encoder; 6 by default. Initialises all weights again.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn num_encoder_layers(mut self, num_encoder_layers: usize) -> Self {
        self.encoder =
            TransformerEncoder::new(self.encoder.layers.swap_remove(0), num_encoder_layers).norm(self.encoder.norm);
        self.drawn()
    }

    /// The number of layers of the decoder; 6 by default. Initialises all weights again.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn num_decoder_layers(mut self, num_decoder_layers: usize) -> Self {
        self.decoder =
            TransformerDecoder::new(self.decoder.layers.swap_remove(0), num_decoder_layers).norm(self.decoder.norm);
        self.drawn()
    }

    /// An encoder of the caller's. Initialises all weights again.
    #[track_caller]
    pub fn custom_encoder(self, encoder: TransformerEncoder<T>) -> Self {
        Transformer { encoder, ..self }.drawn()
    }

    /// A decoder of the caller's. Initialises all weights again.
    #[track_caller]
    pub fn custom_decoder(self, decoder: TransformerDecoder<T>) -> Self {
        Transformer { decoder, ..self }.drawn()
    }

    /// With the final norms changed.
    fn norms(mut self, change: impl Fn(LayerNorm<T>) -> LayerNorm<T>) -> Self {
        (self.encoder.norm, self.decoder.norm) = (self.encoder.norm.map(&change), self.decoder.norm.map(&change));
        self
    }

    /// With new values in all weights that have more than one axis.
    #[track_caller]
    fn drawn(self) -> Self {
        for param in self.parameters().iter().filter(|param| param.shape().len() > 1) {
            let drawn = match param {
                AnyParam::F32(param) => init::xavier_uniform(param, 1.),
                AnyParam::F64(param) => init::xavier_uniform(param, 1.),
            };
            crate::error::or_panic(drawn);
        }
        self
    }

    /// The decoder's output.
    ///
    /// # Errors
    /// If `src` and `tgt` differ in their batch, have other than `d_model` features, a mask does not match, or a hint that a
    /// mask is causal is given without the mask.
    #[forward]
    pub fn forward(&self, src: &Tensor<T>, tgt: &Tensor<T>, options: TransformerOptions<T>) -> Result<Tensor<T>> {
        let (s, t) = (src.shape(), tgt.shape());
        let came = || format!("got src {s:?}, tgt {t:?}");
        if !matches!(s.len(), 2 | 3) || t.len() != s.len() {
            let what = format!("expected (S, N, d_model) and (L, N, d_model), or both without a batch, {}", came());
            return Err(Error::shape("Transformer", what));
        }
        let batch = usize::from(!self.batch_first);
        if s.len() == 3 && s[batch] != t[batch] {
            let what = format!("expected one batch size in src and tgt, {} with the batch on axis {batch}", came());
            return Err(Error::shape("Transformer", what));
        }
        if s.last() != Some(&self.d_model) || t.last() != Some(&self.d_model) {
            let what = format!("expected d_model = {} features in src and tgt, {}", self.d_model, came());
            return Err(Error::shape("Transformer", what));
        }
        let TransformerOptions { src: of_src, tgt: of_tgt, memory: of_memory } = options;
        let memory = self.encoder.forward(src, TransformerEncoderOptions { src: of_src })?;
        self.decoder.forward(tgt, &memory, TransformerDecoderOptions { tgt: of_tgt, memory: of_memory })
    }
}
