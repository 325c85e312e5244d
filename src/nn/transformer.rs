//! The layers of the transformer, their stacks, and the whole.

use std::sync::Arc;

use crate::{
    Error, Result, forward,
    functional::{self as F, AttentionMask, AttentionOptions, KeyValueCache, Slot, words},
    module::{AnyParam, Dtype, Field, Members, ModuleList},
    nn::{Dropout, Forward, LayerNorm, Linear, Module, MultiheadAttention, init},
    tensor::{Real, Tensor},
};

// ---------------------------------------------------------------------------------------------------------- activation

words! {
    /// What a transformer's layer applies between its two linear layers, as a word.
    pub enum TransformerActivation, "activation" {
        /// `max(x, 0)`; the default.
        #[default]
        Relu = "relu",
        /// The error function's [`gelu`](crate::functional::gelu).
        Gelu = "gelu",
    }
}

/// A word, or a function of the caller's.
#[derive(Clone)]
enum Activation<T: Real> {
    Word(TransformerActivation),
    Function(Arc<dyn Fn(&Tensor<T>) -> Tensor<T> + Send + Sync>),
}

impl<T: Real> Activation<T> {
    fn of(&self, x: &Tensor<T>) -> Tensor<T> {
        match self {
            Activation::Word(TransformerActivation::Relu) => F::relu(x),
            Activation::Word(TransformerActivation::Gelu) => F::gelu(x, Default::default()),
            Activation::Function(function) => function(x),
        }
    }
}

impl<T: Real> Field for Activation<T> {
    fn show<'a>(&'a self, _: &str, _: &mut Members<'a>) {}
    fn copy(&self) -> Self {
        self.clone()
    }
}

impl<T: Real> Dtype for Activation<T> {
    type With<U: Real> = Activation<U>;
    #[track_caller]
    fn dtype<U: Real>(self) -> Activation<U> {
        match self {
            Activation::Word(word) => Activation::Word(word),
            Activation::Function(_) => panic!(
                "a function for tensors of {} cannot be applied to those of {}: call activation_fn after dtype",
                T::DTYPE,
                U::DTYPE
            ),
        }
    }
}

// --------------------------------------------------------------------------------------------------------------- masks

/// Options: for each attention of a module its mask, its padding, and whether the mask is the causal one.
macro_rules! mask_options {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($attention:ident, $what:literal: $mask:ident, $padding:ident, $causal:ident;)* }
    )*) => {$(
        $(#[$doc])*
        #[must_use = "a setter returns the options changed"]
        #[derive(Clone, Debug)]
        pub struct $name<T: Real = f32> {
            $($attention: AttentionOptions<T>,)*
        }

        impl<T: Real> Default for $name<T> {
            fn default() -> Self {
                $name { $($attention: AttentionOptions::default().need_weights(false),)* }
            }
        }

        impl<T: Real> $name<T> {$(
            #[doc = concat!("Which keys each query attends to, in ", $what, ": `(L, S)` or `(N · nhead, L, S)`.")]
            pub fn $mask(mut self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
                self.$attention = self.$attention.attn_mask(mask);
                self
            }

            #[doc = concat!("Which keys are padding, in ", $what, ": `(N, S)`, or `(S)` without a batch.")]
            pub fn $padding(mut self, mask: impl Into<Option<AttentionMask<T>>>) -> Self {
                self.$attention = self.$attention.key_padding_mask(mask);
                self
            }

            #[doc = concat!("A hint that `", stringify!($mask), "`, which must be given, is the causal mask; `false` by default.")]
            pub fn $causal(mut self, is_causal: bool) -> Self {
                self.$attention = self.$attention.is_causal(is_causal);
                self
            }
        )*}
    )*};
}
mask_options! {
    /// The masks for [`TransformerEncoderLayer`] and [`TransformerEncoder`].
    TransformerEncoderOptions { src, "the attention of the source to itself": src_mask, src_key_padding_mask, is_causal; }
    /// The masks for [`TransformerDecoderLayer`] and [`TransformerDecoder`].
    TransformerDecoderOptions {
        tgt, "the attention of the target to itself": tgt_mask, tgt_key_padding_mask, tgt_is_causal;
        memory, "the attention of the target to the memory": memory_mask, memory_key_padding_mask, memory_is_causal;
    }
    /// The masks for [`Transformer`].
    TransformerOptions {
        src, "the attention of the source to itself": src_mask, src_key_padding_mask, src_is_causal;
        tgt, "the attention of the target to itself": tgt_mask, tgt_key_padding_mask, tgt_is_causal;
        memory, "the attention of the target to the memory": memory_mask, memory_key_padding_mask, memory_is_causal;
    }
}

// -------------------------------------------------------------------------------------------------------------- layers

/// `norm(x + block(x))`, or `x + block(norm(x))` if the norm comes first.
fn residual<T: Real>(
    x: &Tensor<T>,
    norm: &LayerNorm<T>,
    norm_first: bool,
    block: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    match norm_first {
        true => x.try_add(&block(&norm.forward(x)?)?),
        false => norm.forward(&x.try_add(&block(x)?)?),
    }
}

/// What both layers have in common: construction and setters, over the fields of each kind.
macro_rules! layer {
    ($layer:ident { $($attention:ident),* } { $($norm:ident),* } { $($dropout:ident),* }) => {
        impl $layer {
            /// A layer for `d_model` features, with attention of `nhead` heads.
            ///
            /// # Panics
            /// If either is 0, or `d_model` is not a multiple of `nhead`.
            #[track_caller]
            pub fn new(d_model: usize, nhead: usize) -> Self {
                const HIDDEN: usize = 2048;
                $layer {
                    $($attention: MultiheadAttention::new(d_model, nhead).dropout(0.1),)*
                    linear1: Linear::new(d_model, HIDDEN),
                    dropout: Dropout::new(0.1),
                    linear2: Linear::new(HIDDEN, d_model),
                    $($norm: LayerNorm::new([d_model]),)*
                    $($dropout: Dropout::new(0.1),)*
                    norm_first: false,
                    activation: Activation::Word(TransformerActivation::Relu),
                }
            }
        }

        impl<T: Real> $layer<T> {
            F::setters! {
                /// Whether each block normalizes its input and not its sum; `false` by default.
                norm_first: of bool;
            }

            /// The number of features between the two linear layers, which are initialised again; 2048 by default.
            #[track_caller]
            pub fn dim_feedforward(mut self, dim_feedforward: usize) -> Self {
                let (d_model, bias) = (self.linear2.weight.shape()[0], self.linear1.bias.is_some());
                self.linear1 = Linear::new(d_model, dim_feedforward).bias(bias).dtype();
                self.linear2 = Linear::new(dim_feedforward, d_model).bias(bias).dtype();
                self
            }

            /// The probability with which elements, and weights of the attention, are dropped in training; 0.1 by default.
            ///
            /// # Panics
            /// If it is not from 0 to 1.
            #[track_caller]
            pub fn dropout(mut self, dropout: f64) -> Self {
                self.dropout = Dropout::new(dropout);
                $(self.$attention = self.$attention.dropout(dropout);)*
                $(self.$dropout = Dropout::new(dropout);)*
                self
            }

            /// What is applied between the two linear layers: `"relu"` (the default) or `"gelu"`.
            ///
            /// # Panics
            /// If the word is another one.
            #[track_caller]
            pub fn activation(mut self, activation: impl Into<TransformerActivation>) -> Self {
                self.activation = Activation::Word(activation.into());
                self
            }

            /// A function that is applied between the two linear layers, in the place of a word. `dtype` refuses to
            /// convert it, so convert the layer first.
            pub fn activation_fn(mut self, function: impl Fn(&Tensor<T>) -> Tensor<T> + Send + Sync + 'static) -> Self {
                self.activation = Activation::Function(Arc::new(function));
                self
            }

            /// Added to the variances; 1e-5 by default.
            #[track_caller]
            pub fn layer_norm_eps(mut self, eps: f64) -> Self {
                $(self.$norm = self.$norm.eps(eps);)*
                self
            }

            /// Whether inputs and output are `(N, L, d_model)` and not `(L, N, d_model)`; `false` by default.
            pub fn batch_first(mut self, batch_first: bool) -> Self {
                $(self.$attention = self.$attention.batch_first(batch_first);)*
                self
            }

            /// With (the default) or without biases in all linear layers and norms.
            #[track_caller]
            pub fn bias(mut self, bias: bool) -> Self {
                (self.linear1, self.linear2) = (self.linear1.bias(bias), self.linear2.bias(bias));
                $(self.$attention = self.$attention.bias(bias);)*
                $(self.$norm = self.$norm.bias(bias);)*
                self
            }

            /// The block of the two linear layers, before its dropout.
            fn fed_forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
                let hidden = self.activation.of(&self.linear1.forward(x)?);
                self.linear2.forward(&self.dropout.forward(&hidden)?)
            }
        }
    };
}

/// One layer of the encoder: attention of the source to itself, then two linear layers with an activation between them,
/// each added to its input.
///
/// `src` and the result are `(L, N, d_model)`, with `batch_first` `(N, L, d_model)`, or without a batch `(L, d_model)`.
/// As torch.nn.TransformerEncoderLayer; Vaswani and others, 2017.
///
/// ```
/// use ndnn::{functional::AttentionMask, nn::TransformerEncoderOptions, prelude::*};
/// let layer = TransformerEncoderLayer::new(8, 2).dim_feedforward(16).activation("gelu").batch_first(true);
/// let x = Tensor::ones([3, 5, 8]);
/// let padding = AttentionMask::lengths(&[5, 2, 4], 5)?;
/// let y = layer.forward(&x, TransformerEncoderOptions::default().src_key_padding_mask(padding))?;
/// assert_eq!(y.shape(), [3, 5, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct TransformerEncoderLayer<T: Real = f32> {
    /// The attention of the source to itself.
    pub self_attn: MultiheadAttention<T>,
    /// From `d_model` to `dim_feedforward` features.
    pub linear1: Linear<T>,
    dropout: Dropout,
    /// From `dim_feedforward` to `d_model` features.
    pub linear2: Linear<T>,
    /// The norm of the attention.
    pub norm1: LayerNorm<T>,
    /// The norm of the linear layers.
    pub norm2: LayerNorm<T>,
    dropout1: Dropout,
    dropout2: Dropout,
    norm_first: bool,
    activation: Activation<T>,
}
layer! { TransformerEncoderLayer { self_attn } { norm1, norm2 } { dropout1, dropout2 } }

impl<T: Real> TransformerEncoderLayer<T> {
    /// The output.
    ///
    /// # Errors
    /// If `src` or a mask does not match, or `is_causal` is given without a mask.
    #[forward]
    pub fn forward(&self, src: &Tensor<T>, options: TransformerEncoderOptions<T>) -> Result<Tensor<T>> {
        self.blocks(src, |x| Ok(self.self_attn.forward(x, x, x, options.src)?.0))
    }

    /// The output for further steps of a sequence, each of which attends to the steps up to itself; earlier ones are in the
    /// cache. See [`KeyValueCache`].
    ///
    /// # Errors
    /// If the input does not match the layer or the cache.
    #[forward]
    pub fn forward_cached(&self, src: &Tensor<T>, cache: &mut KeyValueCache<T>) -> Result<Tensor<T>> {
        cache.with(1, |slots| self.cached(src, &mut slots[0]))
    }

    fn cached(&self, src: &Tensor<T>, slot: &mut Slot<T>) -> Result<Tensor<T>> {
        self.blocks(src, |x| self.self_attn.attended(x, None, slot))
    }

    fn blocks(&self, src: &Tensor<T>, attention: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>) -> Result<Tensor<T>> {
        let x = residual(src, &self.norm1, self.norm_first, |x| self.dropout1.forward(&attention(x)?))?;
        residual(&x, &self.norm2, self.norm_first, |x| self.dropout2.forward(&self.fed_forward(x)?))
    }
}

/// Without masks.
impl<T: Real> Forward<T> for TransformerEncoderLayer<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        TransformerEncoderLayer::forward(self, x, Default::default())
    }
}

/// One layer of the decoder: attention of the target to itself, attention of the target to the memory (the encoder's
/// output), then two linear layers with an activation between them, each added to its input.
///
/// `tgt` and the result are `(L, N, d_model)`, `memory` is `(S, N, d_model)`, with `batch_first` `(N, L, d_model)` and
/// `(N, S, d_model)`, or without a batch `(L, d_model)` and `(S, d_model)`. As torch.nn.TransformerDecoderLayer; Vaswani and
/// others, 2017.
///
/// ```
/// use ndnn::{functional::AttentionMask, nn::TransformerDecoderOptions, prelude::*};
/// let layer = TransformerDecoderLayer::new(8, 2).dim_feedforward(16).batch_first(true);
/// let (tgt, memory) = (Tensor::ones([3, 5, 8]), Tensor::ones([3, 7, 8]));
/// let causal = TransformerDecoderOptions::default().tgt_mask(AttentionMask::causal(5, 5)?);
/// assert_eq!(layer.forward(&tgt, &memory, causal)?.shape(), [3, 5, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct TransformerDecoderLayer<T: Real = f32> {
    /// The attention of the target to itself.
    pub self_attn: MultiheadAttention<T>,
    /// The attention of the target to the memory.
    pub multihead_attn: MultiheadAttention<T>,
    /// From `d_model` to `dim_feedforward` features.
    pub linear1: Linear<T>,
    dropout: Dropout,
    /// From `dim_feedforward` to `d_model` features.
    pub linear2: Linear<T>,
    /// The norm of the attention of the target to itself.
    pub norm1: LayerNorm<T>,
    /// The norm of the attention of the target to the memory.
    pub norm2: LayerNorm<T>,
    /// The norm of the linear layers.
    pub norm3: LayerNorm<T>,
    dropout1: Dropout,
    dropout2: Dropout,
    dropout3: Dropout,
    norm_first: bool,
    activation: Activation<T>,
}
layer! { TransformerDecoderLayer { self_attn, multihead_attn } { norm1, norm2, norm3 } { dropout1, dropout2, dropout3 } }

impl<T: Real> TransformerDecoderLayer<T> {
    /// The output.
    ///
    /// # Errors
    /// If `tgt`, `memory` or a mask does not match, or a hint that a mask is causal is given without the mask.
    #[forward]
    pub fn forward(
        &self,
        tgt: &Tensor<T>,
        memory: &Tensor<T>,
        options: TransformerDecoderOptions<T>,
    ) -> Result<Tensor<T>> {
        self.blocks(
            tgt,
            |x| Ok(self.self_attn.forward(x, x, x, options.tgt)?.0),
            |x| Ok(self.multihead_attn.forward(x, memory, memory, options.memory)?.0),
        )
    }

    /// The output for further steps of a target, each of which attends to the steps up to itself and to the memory; earlier
    /// steps are in the cache, and so is what the first call read of the memory. See [`KeyValueCache`].
    ///
    /// # Errors
    /// If the input does not match the layer or the cache.
    #[forward]
    pub fn forward_cached(
        &self,
        tgt: &Tensor<T>,
        memory: &Tensor<T>,
        cache: &mut KeyValueCache<T>,
    ) -> Result<Tensor<T>> {
        cache.with(2, |slots| self.cached(tgt, memory, slots))
    }

    /// The two slots are those of the target and of the memory.
    fn cached(&self, tgt: &Tensor<T>, memory: &Tensor<T>, slots: &mut [Slot<T>]) -> Result<Tensor<T>> {
        let [of_tgt, of_memory] = slots else { unreachable!("two slots per layer") };
        self.blocks(
            tgt,
            |x| self.self_attn.attended(x, None, of_tgt),
            |x| self.multihead_attn.attended(x, Some(memory), of_memory),
        )
    }

    fn blocks(
        &self,
        tgt: &Tensor<T>,
        attention: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
        to_memory: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
    ) -> Result<Tensor<T>> {
        let x = residual(tgt, &self.norm1, self.norm_first, |x| self.dropout1.forward(&attention(x)?))?;
        let x = residual(&x, &self.norm2, self.norm_first, |x| self.dropout2.forward(&to_memory(x)?))?;
        residual(&x, &self.norm3, self.norm_first, |x| self.dropout3.forward(&self.fed_forward(x)?))
    }
}

// -------------------------------------------------------------------------------------------------------------- stacks

/// A stack of copies of a layer, and the setter of its final norm.
macro_rules! stack {
    ($stack:ident, $layer:ident) => {
        impl<T: Real> $stack<T> {
            /// `num_layers` copies of `layer`, which all start with its weights, without a final norm.
            ///
            /// # Panics
            /// If `num_layers` is 0.
            #[track_caller]
            pub fn new(layer: $layer<T>, num_layers: usize) -> Self {
                assert!(num_layers > 0, "num_layers is at least 1");
                let mut layers: Vec<_> = (1..num_layers).map(|_| layer.clone()).collect();
                layers.push(layer);
                $stack { layers, norm: None }
            }

            F::setters! {
                /// The norm of the last layer's output; none by default.
                norm: into Option<LayerNorm<T>>;
            }

            fn normalized(&self, x: Tensor<T>) -> Result<Tensor<T>> {
                self.norm.as_ref().map_or(Ok(x.clone()), |norm| norm.forward(&x))
            }
        }
    };
}

/// A stack of [`TransformerEncoderLayer`]s.
///
/// `src` and the result are as those of the layer. With padding, training and evaluation give the same numbers at all
/// positions that are not padding (PyTorch's fast path in evaluation writes zeros at the padded ones).
///
/// ```
/// use ndnn::prelude::*;
/// let layer = TransformerEncoderLayer::new(8, 2).dim_feedforward(16);
/// let encoder = TransformerEncoder::new(layer, 3).norm(LayerNorm::new([8]));
/// let y = encoder.forward(&Tensor::ones([5, 3, 8]), Default::default())?;
/// assert_eq!(y.shape(), [5, 3, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct TransformerEncoder<T: Real = f32> {
    /// From the first to the last.
    pub layers: ModuleList<TransformerEncoderLayer<T>>,
    /// The norm of the last layer's output.
    pub norm: Option<LayerNorm<T>>,
}
stack! { TransformerEncoder, TransformerEncoderLayer }

impl<T: Real> TransformerEncoder<T> {
    /// The output.
    ///
    /// # Errors
    /// If `src` or a mask does not match, or `is_causal` is given without a mask.
    #[forward]
    pub fn forward(&self, src: &Tensor<T>, options: TransformerEncoderOptions<T>) -> Result<Tensor<T>> {
        let mut x = src.clone();
        for layer in &self.layers {
            x = layer.forward(&x, options.clone())?;
        }
        self.normalized(x)
    }

    /// The output for further steps of a sequence, each of which attends to the steps up to itself; earlier ones are in the
    /// cache. See [`KeyValueCache`].
    ///
    /// # Errors
    /// If the input does not match the layers or the cache.
    #[forward]
    pub fn forward_cached(&self, src: &Tensor<T>, cache: &mut KeyValueCache<T>) -> Result<Tensor<T>> {
        let mut x = src.clone();
        cache.with(self.layers.len(), |slots| {
            for (layer, slot) in self.layers.iter().zip(slots) {
                x = layer.cached(&x, slot)?;
            }
            self.normalized(x)
        })
    }
}

/// Without masks.
impl<T: Real> Forward<T> for TransformerEncoder<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        TransformerEncoder::forward(self, x, Default::default())
    }
}

/// A stack of [`TransformerDecoderLayer`]s, which all attend to the same memory.
///
/// ```
/// use ndnn::prelude::*;
/// let layer = TransformerDecoderLayer::new(8, 2).dim_feedforward(16);
/// let decoder = TransformerDecoder::new(layer, 3).norm(LayerNorm::new([8]));
/// let y = decoder.forward(&Tensor::ones([5, 3, 8]), &Tensor::ones([7, 3, 8]), Default::default())?;
/// assert_eq!(y.shape(), [5, 3, 8]);
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct TransformerDecoder<T: Real = f32> {
    /// From the first to the last.
    pub layers: ModuleList<TransformerDecoderLayer<T>>,
    /// The norm of the last layer's output.
    pub norm: Option<LayerNorm<T>>,
}
stack! { TransformerDecoder, TransformerDecoderLayer }

impl<T: Real> TransformerDecoder<T> {
    /// The output.
    ///
    /// # Errors
    /// If `tgt`, `memory` or a mask does not match, or a hint that a mask is causal is given without the mask.
    #[forward]
    pub fn forward(
        &self,
        tgt: &Tensor<T>,
        memory: &Tensor<T>,
        options: TransformerDecoderOptions<T>,
    ) -> Result<Tensor<T>> {
        let mut x = tgt.clone();
        for layer in &self.layers {
            x = layer.forward(&x, memory, options.clone())?;
        }
        self.normalized(x)
    }

    /// The output for further steps of a target, each of which attends to the steps up to itself and to the memory; earlier
    /// steps are in the cache, and so is what the first call read of the memory. See [`KeyValueCache`].
    ///
    /// # Errors
    /// If the input does not match the layers or the cache.
    #[forward]
    pub fn forward_cached(
        &self,
        tgt: &Tensor<T>,
        memory: &Tensor<T>,
        cache: &mut KeyValueCache<T>,
    ) -> Result<Tensor<T>> {
        let mut x = tgt.clone();
        cache.with(2 * self.layers.len(), |slots| {
            for (layer, slots) in self.layers.iter().zip(slots.chunks_mut(2)) {
                x = layer.cached(&x, memory, slots)?;
            }
            self.normalized(x)
        })
    }
}

// --------------------------------------------------------------------------------------------------------- transformer

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
    pub fn new(d_model: usize, nhead: usize) -> Self {
        let norm = || LayerNorm::new([d_model]);
        let encoder = TransformerEncoder::new(TransformerEncoderLayer::new(d_model, nhead), 6).norm(norm());
        let decoder = TransformerDecoder::new(TransformerDecoderLayer::new(d_model, nhead), 6).norm(norm());
        Transformer { encoder, decoder, d_model, batch_first: false }.drawn()
    }
}

impl<T: Real> Transformer<T> {
    /// The numbers to add to `sz` × `sz` scores so that each query attends only to the keys up to its own position: 0 and
    /// −∞. [`AttentionMask::causal`] is the same as a mask.
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
