//! One layer of the encoder, one of the decoder.

use std::sync::Arc;

use super::{Activation, TransformerActivation, TransformerDecoderOptions, TransformerEncoderOptions};
use crate::{
    Result, forward,
    functional::{self as F, KeyValueCache, Slot},
    module::Dtype,
    nn::{Dropout, Forward, LayerNorm, Linear, Module, MultiheadAttention},
    tensor::{Real, Tensor},
};

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
    pub(super) activation: Activation<T>,
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

    pub(super) fn cached(&self, src: &Tensor<T>, slot: &mut Slot<T>) -> Result<Tensor<T>> {
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
    pub(super) activation: Activation<T>,
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
    pub(super) fn cached(&self, tgt: &Tensor<T>, memory: &Tensor<T>, slots: &mut [Slot<T>]) -> Result<Tensor<T>> {
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
