//! The options of the transformer's layers: activations and masks.

use std::sync::Arc;

use crate::{
    functional::{self as F, AttentionMask, AttentionOptions, words},
    module::{Dtype, Field, Members},
    tensor::{Real, Tensor},
};

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
pub(super) enum Activation<T: Real> {
    Word(TransformerActivation),
    Function(Arc<dyn Fn(&Tensor<T>) -> Tensor<T> + Send + Sync>),
}

impl<T: Real> Activation<T> {
    pub(super) fn of(&self, x: &Tensor<T>) -> Tensor<T> {
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
            $(pub(super) $attention: AttentionOptions<T>,)*
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
    /// The masks for [`TransformerEncoderLayer`](crate::nn::TransformerEncoderLayer) and [`TransformerEncoder`](crate::nn::TransformerEncoder).
    TransformerEncoderOptions { src, "the attention of the source to itself": src_mask, src_key_padding_mask, is_causal; }
    /// The masks for [`TransformerDecoderLayer`](crate::nn::TransformerDecoderLayer) and [`TransformerDecoder`](crate::nn::TransformerDecoder).
    TransformerDecoderOptions {
        tgt, "the attention of the target to itself": tgt_mask, tgt_key_padding_mask, tgt_is_causal;
        memory, "the attention of the target to the memory": memory_mask, memory_key_padding_mask, memory_is_causal;
    }
    /// The masks for [`Transformer`](crate::nn::Transformer).
    TransformerOptions {
        src, "the attention of the source to itself": src_mask, src_key_padding_mask, src_is_causal;
        tgt, "the attention of the target to itself": tgt_mask, tgt_key_padding_mask, tgt_is_causal;
        memory, "the attention of the target to the memory": memory_mask, memory_key_padding_mask, memory_is_causal;
    }
}
