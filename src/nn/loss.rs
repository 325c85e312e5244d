//! Losses as layers; see [`functional`].
//!
//! A loss compares two tensors, so it has a `forward(&input, &target)` of its own and does not stand in a `Sequential`.

use crate::{
    Result, forward,
    functional::{self as F, Reduction, Target},
    nn::{Buffer, Module},
    tensor::{Real, Tensor},
};

/// What a field or setter says: which option of the function it is.
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

/// A row a layer: its options, which are those of its function, and the function. Weights are buffers, as in PyTorch.
macro_rules! losses {
    ($($(#[$doc:meta])* $name:ident<T>: $function:ident, $options:ident, target[$($life:lifetime)?] $target:ty,
       buffers { $($buffer:ident),* }, plain { $($field:ident: $ty:ty),* };)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        pub struct $name<T: Real = f32> {
            $(#[doc = see!($options $buffer)]
            pub $buffer: Option<Buffer<T>>,)*
            $(#[doc = see!($options $field)]
            pub $field: $ty,)*
        }

        impl $name {
            /// With PyTorch's default options.
            pub fn new() -> Self {
                let F::$options { $($buffer: _,)* $($field),* } = F::$options::<f32>::default();
                $name { $($buffer: None,)* $($field),* }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl<T: Real> $name<T> {
            $(#[doc = see!($options $buffer)]
            pub fn $buffer(mut self, $buffer: impl Into<Option<Tensor<T>>>) -> Self {
                self.$buffer = $buffer.into().map(Buffer::new);
                self
            })*

            losses!(@ setters $options $($field: $ty),*);

            #[doc = concat!("The loss; see [`", stringify!($function), "`](F::", stringify!($function), "()).")]
            ///
            /// # Errors
            /// As the function.
            #[forward]
            pub fn forward<$($life)?>(&self, input: &Tensor<T>, target: $target) -> Result<Tensor<T>> {
                $(let $buffer = self.$buffer.as_ref().map(Buffer::tensor);)*
                let options = F::$options { $($buffer: $buffer.as_ref(),)* $($field: self.$field),* };
                F::$function(input, target, options)
            }
        }
    )*};
    ($($(#[$doc:meta])* $name:ident: $function:ident, $options:ident, plain { $($field:ident: $ty:ty),* };)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(stateless)]
        pub struct $name {
            $(#[doc = see!($options $field)]
            pub $field: $ty,)*
        }

        impl $name {
            /// With PyTorch's default options.
            pub fn new() -> Self {
                let options = losses!(@ default $options);
                $name { $($field: options.$field),* }
            }

            losses!(@ setters $options $($field: $ty),*);

            #[doc = concat!("The loss; see [`", stringify!($function), "`](F::", stringify!($function), "()).")]
            ///
            /// # Errors
            /// As the function.
            #[forward]
            pub fn forward<T: Real>(&self, input: &Tensor<T>, target: &Tensor<T>) -> Result<Tensor<T>> {
                F::$function(input, target, F::$options::default()$(.$field(self.$field))*)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
    )*};
    (@ default SmoothL1LossOptions) => { F::SmoothL1LossOptions::default() };
    (@ default $options:ident) => { F::$options::<f32>::default() };
    (@ setters $options:ident $($field:ident: $ty:ty),*) => {$(
        #[doc = see!($options $field)]
        pub fn $field(mut self, $field: $ty) -> Self {
            self.$field = $field;
            self
        }
    )*};
}

losses! {
    /// The squared error; see [`mse_loss`](F::mse_loss()).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// let loss = MSELoss::new().reduction(Reduction::Sum);
    /// assert_eq!(loss.forward(&tensor![1.0, 2.0], &tensor![1.0, 4.0])?.item()?, 4.0);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    MSELoss: mse_loss, DistanceOptions, plain { reduction: Reduction };

    /// The absolute error; see [`l1_loss`](F::l1_loss()).
    L1Loss: l1_loss, DistanceOptions, plain { reduction: Reduction };

    /// The absolute error, rounded off near 0; see [`smooth_l1_loss`](F::smooth_l1_loss()).
    SmoothL1Loss: smooth_l1_loss, SmoothL1LossOptions, plain { reduction: Reduction, beta: f64 };

    /// The squared error, made linear far from 0; see [`huber_loss`](F::huber_loss()).
    HuberLoss: huber_loss, HuberLossOptions, plain { reduction: Reduction, delta: f64 };
}

losses! {
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
    CrossEntropyLoss<T>: cross_entropy, CrossEntropyOptions, target['t] impl Into<Target<'t, T>>,
        buffers { weight }, plain { ignore_index: i64, reduction: Reduction, label_smoothing: f64 };

    /// The negative log likelihood of class indices under log probabilities; see [`nll_loss`](F::nll_loss()).
    NLLLoss<T>: nll_loss, NllLossOptions, target[] &Tensor<i64>,
        buffers { weight }, plain { ignore_index: i64, reduction: Reduction };

    /// Cross entropy between probabilities of yes and no; see [`binary_cross_entropy`](F::binary_cross_entropy()).
    BCELoss<T>: binary_cross_entropy, BceOptions, target[] &Tensor<T>,
        buffers { weight }, plain { reduction: Reduction };

    /// Cross entropy between scores (logits) of yes and probabilities; see
    /// [`binary_cross_entropy_with_logits`](F::binary_cross_entropy_with_logits()).
    BCEWithLogitsLoss<T>: binary_cross_entropy_with_logits, BceWithLogitsOptions, target[] &Tensor<T>,
        buffers { weight, pos_weight }, plain { reduction: Reduction };
}
