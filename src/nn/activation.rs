//! Activations; see [`functional`](crate::functional).
//!
//! The name of a layer by itself is the layer with PyTorch's defaults, and setters change an option: `ReLU`, `GELU`,
//! `Softplus.beta(2)`. `new` also creates a layer; it takes the numbers that define the function, if there are any, in
//! PyTorch's order: `ReLU::new()`, `LeakyReLU::new(0.2)`.

use crate::{
    Error, Result, forward,
    functional::{self as F, GELUApproximate, PyNumber, argument, panics, setters},
    module::ExtraRepr,
    nn::{Forward, Mode, Module, Param},
    tensor::{Real, Tensor},
};

/// One row per layer: the options that `new` takes in round brackets and the others in braces, each with PyTorch's default
/// and taken `into` its type or `of` the type itself; in square brackets `inplace`, which is only printed, and `mode`; and
/// the function. An option is refused unless the condition after its `if` holds; what must hold for all of them together
/// follows `new if`, since setters may come in any order. All options are printed as `name=value`, unless other text
/// follows `prints`.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident
        $(($($(#[$arg_doc:meta])* $arg:ident: $arg_kind:tt $arg_ty:ty $(= $arg_default:expr)?
             $(, if $arg_valid:expr, $arg_message:literal)?);+))?
        $({$(#[$other_doc:meta])* $other:ident: $other_kind:tt $other_ty:ty = $other_default:expr})?
        $([$($flag:ident),+])?
        |$x:ident, $layer:ident| $forward:expr
        $(, new if |$($both:ident),+| $valid:expr, $message:literal)?
        $(, prints $repr:expr)?;
    )*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {
            $($($arg: $arg_ty,)+)?
            $($other: $other_ty,)?
            $($($flag: layers!(@ type $flag),)+)?
            /// Without a field it would have no address of its own.
            _place: u8,
        }

        layers! {
            @ default $name [$($($arg $(= $arg_default)?),+)?]
            [$($other: $other_default,)? $($($flag: layers!(@ value $flag),)+)? _place: 0]
        }

        impl $name {
            /// The layer with these options, and PyTorch's defaults for the others.
            $($($(#[doc = panics!($arg_message)])?)+)?
            $(#[doc = panics!($message)])?
            #[inline]
            #[track_caller]
            pub fn new($($($arg: argument!($arg_kind $arg_ty)),+)?) -> Self {
                $($(
                    let $arg: $arg_ty = $arg.into();
                    $(layers!(@ check $name $arg_valid, $arg_message, $arg);)?
                )+)?
                $(layers!(@ check $name $valid, $message, $($both)+);)?
                $name {
                    $($($arg,)+)?
                    $($other: $other_default,)?
                    $($($flag: layers!(@ value $flag),)+)?
                    _place: 0,
                }
            }

            $($(layers! { @ setter $name $arg $arg_kind $arg_ty, [$(#[$arg_doc])*] $($arg_default)? $(, if $arg_valid, $arg_message)? })+)?
            $(layers! { @ setter $name $other $other_kind $other_ty, [$(#[$other_doc])*] $other_default })?
            $($(layers! { @ setter $flag })+)?

            #[inline]
            fn extra_repr(&self) -> String {
                let $layer = self;
                let _ = $layer;
                layers!(@ repr $layer [$($($arg)+)? $($other)? $($($flag)+)?] $($repr)?)
            }
        }

        #[forward]
        impl<T: Real> Forward<T> for $name {
            fn forward(&self, $x: &Tensor<T>) -> Result<Tensor<T>> {
                let $layer = self;
                let _ = $layer;
                $forward
            }
        }
    )*};
    (@ type inplace) => { bool };
    (@ value inplace) => { false };
    (@ type mode) => { Mode };
    (@ value mode) => { Mode::training() };
    // Without a default for each option, the layer has none.
    (@ default $name:ident [$($arg:ident),+] $rest:tt) => {};
    (@ default $name:ident [$($arg:ident = $default:expr),*] [$($rest:tt)*]) => {
        #[doc(hidden)]
        #[allow(non_upper_case_globals, clippy::declare_interior_mutable_const)] // each use is a layer of its own
        pub const $name: $name = $name { $($arg: $default,)* $($rest)* };

        impl Default for $name {
            #[inline]
            fn default() -> Self {
                $name
            }
        }
    };
    (@ setter inplace) => {
        setters! {
            /// Only printed, as in PyTorch: a tensor here is a value, and a layer never changes its input.
            inplace: of bool;
        }
    };
    (@ setter mode) => {};
    // `new` always takes an option that has no default.
    (@ setter $name:ident $field:ident $kind:tt $ty:ty, []) => {};
    (@ setter $name:ident $field:ident $kind:tt $ty:ty, [$(#[$doc:meta])*] $default:expr $(, if $valid:expr, $message:literal)?) => {
        $(#[$doc])*
        $(#[doc = panics!($message)])?
        #[inline]
        #[track_caller]
        pub fn $field(mut self, $field: argument!($kind $ty)) -> Self {
            let $field: $ty = $field.into();
            $(layers!(@ check $name $valid, $message, $field);)?
            self.$field = $field;
            self
        }
    };
    (@ repr $layer:ident [$($field:ident)*] $repr:expr) => { $repr };
    (@ repr $layer:ident [$($field:ident)*]) => {{
        let text = ExtraRepr::new();
        $(let text = layers!(@ part text $layer $field);)*
        text.finish()
    }};
    (@ part $text:ident $layer:ident inplace) => { $text.unless_default("inplace", $layer.inplace, false) };
    (@ part $text:ident $layer:ident mode) => { $text };
    (@ part $text:ident $layer:ident $field:ident) => { $text.named(stringify!($field), $layer.$field) };
    // Refuses options.
    (@ check $name:ident $valid:expr, $message:literal, $($field:ident)+) => {
        assert!($valid, "{}: {}, got {}", stringify!($name), $message, [$($field.to_string()),+].join(" and "))
    };
}

layers! {
    /// `max(x, 0)`; see [`functional::relu`](F::relu).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(ReLU.forward(&tensor![-1.0, 2.0])?, tensor![0.0, 2.0]);
    /// assert_eq!(ReLU.to_string(), "ReLU()");
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    ReLU [inplace] |x, l| Ok(F::relu(x));

    /// `max(x, 0)²`; see [`functional::squared_relu`](F::squared_relu).
    SquaredReLU |x, l| Ok(F::squared_relu(x));

    /// `min(max(x, 0), 6)`; see [`functional::relu6`](F::relu6).
    ReLU6 [inplace] |x, l| Ok(F::relu6(x));

    /// ReLU with a slope below 0, 0.01 by default; see [`functional::leaky_relu`](F::leaky_relu).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(LeakyReLU::new(0.5).forward(&tensor![-2.0, 2.0])?, tensor![-1.0, 2.0]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    LeakyReLU(
        /// The slope below 0; 0.01 by default.
        negative_slope: into PyNumber = PyNumber::float(0.01)
    ) [inplace] |x, l| Ok(F::leaky_relu(x, l.negative_slope.get()));

    /// Exponential below 0; see [`functional::elu`](F::elu).
    ELU(
        /// The limit for large negative inputs, negated; 1 by default.
        alpha: into PyNumber = PyNumber::float(1.)
    ) [inplace] |x, l| Ok(F::elu(x, l.alpha.get()));

    /// ELU with a continuous slope; see [`functional::celu`](F::celu).
    CELU(
        /// The limit for large negative inputs, negated; 1 by default, not 0.
        alpha: into PyNumber = PyNumber::float(1.), if alpha.get() != 0., "expected an alpha other than 0"
    ) [inplace] |x, l| F::celu(x, l.alpha.get());

    /// ELU scaled to preserve mean 0 and variance 1; see [`functional::selu`](F::selu).
    SELU [inplace] |x, l| Ok(F::selu(x));

    /// `x · Φ(x)`; see [`functional::gelu`](F::gelu).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(GELU.to_string(), "GELU(approximate='none')");
    /// assert_eq!(GELU.approximate("tanh").to_string(), "GELU(approximate='tanh')");
    /// ```
    GELU {
        /// Exact, or approximated with tanh; exact by default.
        approximate: into GELUApproximate = GELUApproximate::None
    } |x, l| Ok(F::gelu(x, l.approximate)), prints format!("approximate='{}'", l.approximate);

    /// `x · σ(x)`; see [`functional::silu`](F::silu).
    SiLU [inplace] |x, l| Ok(F::silu(x));

    /// `x · tanh(softplus(x))`; see [`functional::mish`](F::mish).
    Mish [inplace] |x, l| Ok(F::mish(x));

    /// `1 / (1 + e⁻ˣ)`; see [`functional::sigmoid`](F::sigmoid).
    Sigmoid |x, l| Ok(F::sigmoid(x));

    /// The hyperbolic tangent; see [`functional::tanh`](F::tanh).
    Tanh |x, l| Ok(F::tanh(x));

    /// `log σ(x)`; see [`functional::logsigmoid`](F::logsigmoid).
    LogSigmoid |x, l| Ok(F::logsigmoid(x));

    /// `x / (1 + |x|)`; see [`functional::softsign`](F::softsign).
    Softsign |x, l| Ok(F::softsign(x));

    /// `x - tanh(x)`; see [`functional::tanhshrink`](F::tanhshrink).
    Tanhshrink |x, l| Ok(F::tanhshrink(x));

    /// `min(max(x + 3, 0), 6) / 6`; see [`functional::hardsigmoid`](F::hardsigmoid).
    Hardsigmoid [inplace] |x, l| Ok(F::hardsigmoid(x)), prints String::new();

    /// `x · min(max(x + 3, 0), 6) / 6`; see [`functional::hardswish`](F::hardswish).
    Hardswish [inplace] |x, l| Ok(F::hardswish(x)), prints String::new();

    /// `x` limited to two bounds, -1 and 1 by default; see [`functional::hardtanh`](F::hardtanh).
    Hardtanh(
        /// The lower bound; -1 by default.
        min_val: into PyNumber = PyNumber::float(-1.);
        /// The upper bound; 1 by default.
        max_val: into PyNumber = PyNumber::float(1.)
    ) [inplace] |x, l| F::hardtanh(x, l.min_val.get(), l.max_val.get()),
    new if |min_val, max_val| min_val.get() < max_val.get(), "min_val must be below max_val";

    /// 0 between -lambd and lambd; see [`functional::hardshrink`](F::hardshrink).
    Hardshrink(
        /// The bound; 0.5 by default.
        lambd: into PyNumber = PyNumber::float(0.5)
    ) |x, l| Ok(F::hardshrink(x, l.lambd.get())), prints l.lambd.to_string();

    /// `x` moved towards 0 by lambd; see [`functional::softshrink`](F::softshrink).
    Softshrink(
        /// The distance; 0.5 by default, not negative.
        lambd: into PyNumber = PyNumber::float(0.5), if lambd.get() >= 0., "expected a lambd of 0 or more"
    ) |x, l| F::softshrink(x, l.lambd.get()), prints l.lambd.to_string();

    /// `log(1 + e^(beta · x)) / beta`; see [`functional::softplus`](F::softplus).
    Softplus(
        /// The sharpness of the bend; 1 by default.
        beta: into PyNumber = PyNumber::float(1.);
        /// Above this value of `beta · x` the result is `x`; 20 by default.
        threshold: into PyNumber = PyNumber::float(20.)
    ) |x, l| Ok(F::softplus(x, l.beta.get(), l.threshold.get()));

    /// `x` above a threshold, a value elsewhere; see [`functional::threshold`](F::threshold()).
    Threshold(threshold: into PyNumber; value: into PyNumber) [inplace]
    |x, l| Ok(F::threshold(x, l.threshold.get(), l.value.get()));

    /// Leaky ReLU with a random slope while training, from 1/8 to 1/3 by default; see [`functional::rrelu`](F::rrelu).
    RReLU(
        /// The least slope; 1/8 by default.
        lower: into PyNumber = PyNumber::float(1. / 8.), if lower.get().is_finite(), "expected a finite lower bound";
        /// The greatest slope; 1/3 by default.
        upper: into PyNumber = PyNumber::float(1. / 3.), if upper.get().is_finite(), "expected a finite upper bound"
    ) [inplace, mode] |x, l| F::rrelu(x, l.lower.get(), l.upper.get(), l.mode.is_training()),
    new if |lower, upper| lower.get() <= upper.get(), "lower must not be above upper";

    /// One half of an axis, gated by the other; see [`functional::glu`](F::glu).
    GLU(
        /// The axis; -1 by default.
        dim: of isize = -1
    ) |x, l| F::glu(x, l.dim);

    /// Turns numbers along the axis `dim` into probabilities; see [`functional::softmax`](F::softmax).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(Softmax::new(-1).forward(&tensor![[0.0, 0.0]])?, tensor![[0.5, 0.5]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    Softmax(dim: of isize) |x, l| F::softmax(x, l.dim);

    /// [`Softmax`] of the negated input; see [`functional::softmin`](F::softmin).
    Softmin(dim: of isize) |x, l| F::softmin(x, l.dim);

    /// The logarithm of [`Softmax`]; see [`functional::log_softmax`](F::log_softmax).
    LogSoftmax(dim: of isize) |x, l| F::log_softmax(x, l.dim);

    /// Softmax over the channels of `(N, C, H, W)` or `(C, H, W)`; see [`functional::softmax`](F::softmax).
    Softmax2d |x, l| match x.ndim() {
        3 | 4 => F::softmax(x, -3),
        _ => Err(Error::shape("softmax2d", format!("expected (N, C, H, W) or (C, H, W), got {:?}", x.shape()))),
    };
}

// ------------------------------------------------------------------------------------------------ that with a parameter

/// ReLU with a learnable slope below 0; see [`functional::prelu`](F::prelu).
///
/// Input `(N, C, *)` with one slope per channel, or any shape with one slope for all; `weight` is `[num_parameters]`,
/// initially all 0.25.
#[derive(Module)]
#[module(repr)]
pub struct PReLU<T: Real = f32> {
    /// `[num_parameters]`
    pub weight: Param<T>,
    init: f64,
}

impl Default for PReLU {
    #[inline]
    fn default() -> Self {
        PReLU { weight: Param::new(Tensor::full([1], 0.25)), init: 0.25 }
    }
}

impl PReLU {
    /// A layer with one slope for all channels.
    #[inline]
    pub fn new() -> Self {
        Self::default()
    }
}

impl<T: Real> PReLU<T> {
    /// The number of slopes: 1 (the default), or one per channel. Resets them to their initial value if their number
    /// changes.
    #[track_caller]
    pub fn num_parameters(mut self, num_parameters: usize) -> Self {
        if self.weight.numel() != num_parameters {
            self.weight = Param::new(Tensor::full([num_parameters], T::of(self.init)));
        }
        self
    }

    /// The initial value of the slopes; 0.25 by default.
    pub fn init(mut self, init: f64) -> Self {
        self.init = init;
        self.weight.update(|mut slopes| slopes.fill(T::of(init)));
        self
    }

    fn extra_repr(&self) -> String {
        ExtraRepr::new().named("num_parameters", self.weight.shape()[0]).finish()
    }
}

#[forward]
impl<T: Real> Forward<T> for PReLU<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::prelu(x, &self.weight.tensor())
    }
}
