//! Stacks of layers.

use super::{TransformerDecoderLayer, TransformerDecoderOptions, TransformerEncoderLayer, TransformerEncoderOptions};
use crate::{
    Result, forward,
    functional::{self as F, KeyValueCache},
    module::ModuleList,
    nn::{Forward, LayerNorm, Module},
    tensor::{Real, Tensor},
};

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
