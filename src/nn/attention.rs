//! Attention layers; see [`functional::multi_head_attention_forward`](crate::functional::multi_head_attention_forward).

use crate::{
    Result, forward,
    functional::{
        self as F, AttentionOptions, InProjection, KeyValueCache, MultiheadAttentionParameters, Slot, setters,
    },
    kernels::sizes::must,
    module::optional,
    nn::{Forward, Linear, Mode, Module, Param, init},
    tensor::{Real, Tensor},
};

/// Multi-head attention; see
/// [`functional::multi_head_attention_forward`](crate::functional::multi_head_attention_forward).
///
/// Query `(L, N, embed_dim)`, key `(S, N, kdim)`, value `(S, N, vdim)`, with `batch_first` `(N, L, …)`, or without a
/// batch `(L, …)`; the output has the shape of the query. The weights of the input projections are a single
/// `in_proj_weight`, or three if `kdim` or `vdim` differs from `embed_dim`; they are initialised by
/// [`init::xavier_uniform`], `bias_k` and `bias_v` by [`init::xavier_normal`]; the other biases start at 0.
///
/// ```
/// use ndnn::{functional::{AttentionMask, AttentionOptions}, prelude::*};
/// let attention = MultiheadAttention::new(8, 2).batch_first(true);
/// let x = Tensor::ones([3, 5, 8]);
/// let options = AttentionOptions::default().key_padding_mask(AttentionMask::lengths(&[5, 4, 2], 5)?);
/// let (y, weights) = attention.forward(&x, &x, &x, options)?;
/// assert_eq!((y.shape(), weights.unwrap().shape()), (&[3, 5, 8][..], &[3, 5, 5][..]));
/// # Ok::<(), ndnn::Error>(())
/// ```
#[derive(Module)]
pub struct MultiheadAttention<T: Real = f32> {
    /// `[3 · embed_dim, embed_dim]`, if `kdim` and `vdim` equal `embed_dim`.
    pub in_proj_weight: Option<Param<T>>,
    /// `[embed_dim, embed_dim]`
    pub q_proj_weight: Option<Param<T>>,
    /// `[embed_dim, kdim]`
    pub k_proj_weight: Option<Param<T>>,
    /// `[embed_dim, vdim]`
    pub v_proj_weight: Option<Param<T>>,
    /// `[3 · embed_dim]`
    pub in_proj_bias: Option<Param<T>>,
    /// `[1, 1, embed_dim]`: an additional key.
    pub bias_k: Option<Param<T>>,
    /// `[1, 1, embed_dim]`: an additional value.
    pub bias_v: Option<Param<T>>,
    /// Projects the concatenated heads to the output.
    pub out_proj: Linear<T>,
    embed_dim: usize,
    num_heads: usize,
    kdim: usize,
    vdim: usize,
    dropout: f64,
    add_zero_attn: bool,
    batch_first: bool,
    mode: Mode,
}

impl MultiheadAttention {
    /// `num_heads` heads, each of `embed_dim / num_heads` features.
    ///
    /// # Panics
    /// If either is 0, or `embed_dim` is not a multiple of `num_heads`.
    #[track_caller]
    pub fn new(embed_dim: usize, num_heads: usize) -> Self {
        assert!(
            embed_dim > 0 && num_heads > 0 && embed_dim.is_multiple_of(num_heads),
            "embed_dim must be a multiple of num_heads, both above 0, got {embed_dim} and {num_heads}"
        );
        let attention = MultiheadAttention {
            in_proj_weight: None,
            q_proj_weight: None,
            k_proj_weight: None,
            v_proj_weight: None,
            in_proj_bias: None,
            bias_k: None,
            bias_v: None,
            out_proj: Linear::new(embed_dim, embed_dim).bias(false).named("NonDynamicallyQuantizableLinear"),
            embed_dim,
            num_heads,
            kdim: embed_dim,
            vdim: embed_dim,
            dropout: 0.,
            add_zero_attn: false,
            batch_first: false,
            mode: Mode::default(),
        };
        attention.drawn().bias(true)
    }
}

impl<T: Real> MultiheadAttention<T> {
    /// Sets up the input projections for `kdim` and `vdim`: existing ones with the right shape are kept, others are
    /// new.
    #[track_caller]
    fn drawn(mut self) -> Self {
        must::<T>("parameter", &[self.embed_dim, self.embed_dim.max(self.kdim).max(self.vdim), 3]);
        let xavier = |before: Option<Param<T>>, wanted: bool, shape: [usize; 2]| {
            let new = || {
                let weight = Param::new(Tensor::zeros(shape));
                init::xavier_uniform(&weight, 1.).expect("two axes");
                weight
            };
            optional(before.filter(|weight| weight.shape() == shape), wanted, new)
        };
        let dim = self.embed_dim;
        let packed = self.kdim == dim && self.vdim == dim;
        self.in_proj_weight = xavier(self.in_proj_weight, packed, [dim.saturating_mul(3), dim]);
        self.q_proj_weight = xavier(self.q_proj_weight, !packed, [dim, dim]);
        self.k_proj_weight = xavier(self.k_proj_weight, !packed, [dim, self.kdim]);
        self.v_proj_weight = xavier(self.v_proj_weight, !packed, [dim, self.vdim]);
        self
    }

    /// The number of features of keys; `embed_dim` by default. Initialises the input projections that are new or change
    /// their shape.
    #[track_caller]
    pub fn kdim(mut self, kdim: usize) -> Self {
        self.kdim = kdim;
        self.drawn()
    }

    /// The number of features of values; `embed_dim` by default. Initialises the input projections that are new or
    /// change their shape.
    #[track_caller]
    pub fn vdim(mut self, vdim: usize) -> Self {
        self.vdim = vdim;
        self.drawn()
    }

    /// With (the default) or without biases in the input and output projections, which start at 0.
    pub fn bias(mut self, bias: bool) -> Self {
        let zeros = |n: usize| move || Param::new(Tensor::zeros([n]));
        self.in_proj_bias = optional(self.in_proj_bias, bias, zeros(3 * self.embed_dim));
        self.out_proj.bias = optional(self.out_proj.bias, bias, zeros(self.embed_dim));
        self
    }

    /// With or without (the default) an additional, learnable key and value.
    pub fn add_bias_kv(mut self, add_bias_kv: bool) -> Self {
        let dim = self.embed_dim;
        let drawn = || {
            let bias = Param::new(Tensor::zeros([1, 1, dim]));
            init::xavier_normal(&bias, 1.).expect("three axes");
            bias
        };
        self.bias_k = optional(self.bias_k, add_bias_kv, drawn);
        self.bias_v = optional(self.bias_v, add_bias_kv, drawn);
        self
    }

    setters! {
        /// With or without (the default) an additional key and value of zeros.
        add_zero_attn: of bool;
        /// The probability with which a weight is dropped in training; 0 by default.
        dropout: of f64, if |p| (0. ..=1.).contains(&p), "dropout is a probability, from 0 to 1";
        /// Whether inputs and output are `(N, L, *)` and not `(L, N, *)`; `false` by default.
        batch_first: of bool;
    }

    /// A snapshot of the weights, in the form that the function takes.
    fn snapshot(&self) -> MultiheadAttentionParameters<T> {
        let tensor = |param: &Option<Param<T>>| param.as_ref().map(Param::tensor);
        let separate =
            || Some([tensor(&self.q_proj_weight)?, tensor(&self.k_proj_weight)?, tensor(&self.v_proj_weight)?]);
        let in_proj_weight = match tensor(&self.in_proj_weight) {
            Some(weight) => InProjection::Packed(weight),
            None => InProjection::Separate(separate().expect("one weight or three")),
        };
        MultiheadAttentionParameters {
            num_heads: self.num_heads,
            in_proj_weight,
            in_proj_bias: tensor(&self.in_proj_bias),
            bias_kv: tensor(&self.bias_k).zip(tensor(&self.bias_v)),
            add_zero_attn: self.add_zero_attn,
            out_proj_weight: self.out_proj.weight.tensor(),
            out_proj_bias: tensor(&self.out_proj.bias),
            dropout_p: self.dropout,
            training: self.mode.is_training(),
        }
    }

    /// The output, and the weights if requested (the default): `(N, L, S)`, whatever `batch_first` is, or for each head
    /// `(N, num_heads, L, S)`.
    ///
    /// # Errors
    /// If inputs or masks do not match, or `is_causal` is given without `attn_mask`.
    #[forward]
    pub fn forward(
        &self,
        query: &Tensor<T>,
        key: &Tensor<T>,
        value: &Tensor<T>,
        options: AttentionOptions<T>,
    ) -> Result<(Tensor<T>, Option<Tensor<T>>)> {
        let swap = |t: &Tensor<T>| self.swapped(t);
        // The same tensor stays the same, so that it is projected in one product.
        let q = swap(query)?;
        let k = if key.is_same(query) { q.clone() } else { swap(key)? };
        let v = if value.is_same(key) { k.clone() } else { swap(value)? };
        let (y, weights) = F::multi_head_attention_forward(&q, &k, &v, &self.snapshot(), options)?;
        Ok((swap(&y)?, weights))
    }

    /// The output for further steps of a sequence, each of which attends to the steps up to itself; earlier ones are in the
    /// cache. See [`KeyValueCache`].
    ///
    /// # Errors
    /// If the input does not match the layer or the cache.
    #[forward]
    pub fn forward_cached(&self, x: &Tensor<T>, cache: &mut KeyValueCache<T>) -> Result<Tensor<T>> {
        cache.with(1, |slots| self.attended(x, None, &mut slots[0]))
    }

    /// Attention of `x` to the steps so far and to itself, or to a memory.
    pub(super) fn attended(&self, x: &Tensor<T>, memory: Option<&Tensor<T>>, slot: &mut Slot<T>) -> Result<Tensor<T>> {
        let memory = memory.map(|memory| self.swapped(memory)).transpose()?;
        self.swapped(&F::attended(&self.swapped(x)?, memory.as_ref(), &self.snapshot(), slot)?)
    }

    /// Between the caller's order of axes and `(L, N, *)`.
    fn swapped(&self, t: &Tensor<T>) -> Result<Tensor<T>> {
        if self.batch_first && t.ndim() == 3 { t.transpose(0, 1) } else { Ok(t.clone()) }
    }
}

/// Self-attention without masks: returns only the output.
impl<T: Real> Forward<T> for MultiheadAttention<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        let options = AttentionOptions::default().need_weights(false);
        Ok(MultiheadAttention::forward(self, x, x, x, options)?.0)
    }
}
