//! Losses as layers; see [`functional`].
//!
//! A loss compares two or three tensors, so it has a different `forward(&input, &target)` and cannot be in a `Sequential`.

use crate::{
    Result, forward,
    functional::{self as F, CrossEntropyTarget, Reduction, setters},
    nn::{Buffer, Module},
    tensor::{Real, Tensor},
};

/// The documentation of a field or setter: which option of the function it is.
macro_rules! see {
    ($options:ident $field:ident) => {
        concat!(
            "See [`",
            stringify!($options),
            "::",
            stringify!($field),
            "`](F::",
            stringify!($options),
            "::",
            stringify!($field),
            ")."
        )
    };
}

/// One row per layer: its own options, besides `reduction`, and those that are weights, which are buffers as in PyTorch
/// (then the layer has the type of its weights, and is not `stateless`); the tensors it takes, two or more; the function;
/// and the options of the function, whose setters check values for the layer too.
macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident$(<$t:ident>)? $($stateless:ident)? { $($field:ident: $ty:ty),* } $([$($buffer:ident),*])?
       forward[$($own:tt)*]($($arg:ident: $arg_ty:ty),*) = $function:ident, $options:ident$(<$option_t:ty>)?;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        $(#[module($stateless)])?
        pub struct $name<$($t: Real = f32)?> {
            $($(#[doc = see!($options $buffer)]
            pub $buffer: Option<Buffer<T>>,)*)?
            $($field: $ty,)*
            reduction: Reduction,
        }

        impl $name {
            /// With PyTorch's default options.
            pub fn new() -> Self {
                let options = Self::defaults();
                $name { $($($buffer: None,)*)? $($field: options.$field,)* reduction: options.reduction }
            }

            fn defaults() -> F::$options$(<'static, losses!(@ f32 $option_t)>)? {
                Default::default()
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<$($t: Real)?> $name<$($t)?> {
            $($(#[doc = see!($options $buffer)]
            pub fn $buffer(mut self, $buffer: impl Into<Option<Tensor<T>>>) -> Self {
                self.$buffer = $buffer.into().map(Buffer::new);
                self
            })*)?

            $(#[doc = see!($options $field)]
            #[track_caller]
            pub fn $field(mut self, $field: $ty) -> Self {
                self.$field = $name::defaults().$field($field).$field;
                self
            })*

            setters! {
                #[doc = see!($options reduction)]
                reduction: into Reduction;
            }

            #[doc = concat!("The loss; see [`", stringify!($function), "`](F::", stringify!($function), "()).")]
            ///
            /// # Errors
            /// As the function.
            #[forward]
            pub fn forward<$($own)*>(&self, $($arg: $arg_ty),*) -> Result<Tensor<T>> {
                $($(let $buffer = self.$buffer.as_ref().map(Buffer::tensor);)*)?
                let options = F::$options::default().reduction(self.reduction)$($(.$buffer($buffer.as_ref()))*)?$(.$field(self.$field))*;
                F::$function($($arg,)* options)
            }
        }
    )*};
    (@ f32 $t:ty) => { f32 };
}

losses! {
    /// The squared error; see [`mse_loss`](F::mse_loss()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let loss = MSELoss::new().reduction("sum");
    /// assert_eq!(loss.forward(&tensor![1.0, 2.0], &tensor![1.0, 4.0])?.item()?, 4.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    MSELoss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = mse_loss, MSELossOptions<f32>;

    /// The absolute error; see [`l1_loss`](F::l1_loss()).
    L1Loss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = l1_loss, L1LossOptions<f32>;

    /// The absolute error, smooth near 0; see [`smooth_l1_loss`](F::smooth_l1_loss()).
    SmoothL1Loss stateless { beta: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = smooth_l1_loss, SmoothL1LossOptions;

    /// The squared error, linear far from 0; see [`huber_loss`](F::huber_loss()).
    HuberLoss stateless { delta: f64 }
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = huber_loss, HuberLossOptions<f32>;

    /// The logistic loss of scores and targets of −1 or 1; see [`soft_margin_loss`](F::soft_margin_loss()).
    SoftMarginLoss stateless {}
        forward[T: Real](input: &Tensor<T>, target: &Tensor<T>) = soft_margin_loss, SoftMarginLossOptions;

    /// Which of two scores should be larger; see [`margin_ranking_loss`](F::margin_ranking_loss()).
    MarginRankingLoss stateless { margin: f64 }
        forward[T: Real](input1: &Tensor<T>, input2: &Tensor<T>, target: &Tensor<T>) = margin_ranking_loss, MarginRankingLossOptions;

    /// Cross entropy of scores (logits) with class indices or probabilities; see [`cross_entropy`](F::cross_entropy()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let loss = CrossEntropyLoss::new().label_smoothing(0.1).weight(tensor![1.0, 2.0]);
    /// let logits = tensor![[3.0, -1.0], [0.5, 0.0]];
    /// let by_index = loss.forward(&logits, &tensor![0, 1])?;
    /// let by_probability = loss.forward(&logits, &tensor![[0.9, 0.1], [0.2, 0.8]])?;
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    CrossEntropyLoss<T> { ignore_index: i64, label_smoothing: f64 } [weight]
        forward['t](input: &Tensor<T>, target: impl Into<CrossEntropyTarget<'t, T>>) = cross_entropy, CrossEntropyLossOptions<T>;

    /// The negative log likelihood of class indices under log probabilities; see [`nll_loss`](F::nll_loss()).
    NLLLoss<T> { ignore_index: i64 } [weight]
        forward[](input: &Tensor<T>, target: &Tensor<i64>) = nll_loss, NLLLossOptions<T>;

    /// Cross entropy of binary probabilities; see [`binary_cross_entropy`](F::binary_cross_entropy()).
    BCELoss<T> {} [weight]
        forward[](input: &Tensor<T>, target: &Tensor<T>) = binary_cross_entropy, BCELossOptions<T>;

    /// Cross entropy of binary scores (logits) and probabilities; see
    /// [`binary_cross_entropy_with_logits`](F::binary_cross_entropy_with_logits()).
    BCEWithLogitsLoss<T> {} [weight, pos_weight]
        forward[](input: &Tensor<T>, target: &Tensor<T>) = binary_cross_entropy_with_logits, BCEWithLogitsLossOptions<T>;
}
