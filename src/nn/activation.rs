//! Activations; see [`functional`](crate::functional).
//!
//! The name of a layer by itself is the layer with PyTorch's defaults, and setters change an option: `ReLU`, `GELU`,
//! `Softplus.beta(2)`. `new` also creates a layer; it takes the numbers that define the function, if there are any, in
//! PyTorch's order: `ReLU::new()`, `LeakyReLU::new(0.2)`.

use crate::{
    Error, Result, forward,
    functional::{self as F, GELUApproximate, PyNumber, argument},
    nn::{Forward, Mode, Module, Param},
    tensor::{Real, Tensor},
};

/// The call of a layer without parameters.
macro_rules! elementwise {
    ($name:ident, |$x:ident, $layer:ident| $forward:expr) => {
        #[forward]
        impl<T: Real> Forward<T> for $name {
            fn forward(&self, $x: &Tensor<T>) -> Result<Tensor<T>> {
                let $layer = self;
                let _ = $layer;
                $forward
            }
        }
    };
}

/// A setter; `inplace` exists only to be printed.
macro_rules! setter {
    ($(#[$doc:meta])* inplace, $kind:tt $ty:ty) => {
        /// Only printed, as in PyTorch: a tensor here is a value, and a layer never changes its input.
        pub fn inplace(mut self, inplace: bool) -> Self {
            self.inplace = inplace;
            self
        }
    };
    ($(#[$doc:meta])* $field:ident, $kind:tt $ty:ty) => {
        $(#[$doc])*
        pub fn $field(mut self, $field: argument!($kind $ty)) -> Self {
            self.$field = $field.into();
            self
        }
    };
}

/// One row per layer: its options (each `into`, with conversion, or `of` the type itself) with PyTorch's defaults, the
/// ones that `new` takes, the function, and what is printed.
macro_rules! layers {
    ($(
        $(#[$doc:meta])*
        $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:tt $ty:ty = $default:expr),* }
        $(new($($arg:ident: $arg_kind:tt $arg_ty:ty),*))?
        |$x:ident, $layer:ident| $forward:expr, $repr:expr;
    )*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {$(
            $field: $ty,
        )*
            /// Without a field it would have no address of its own.
            _place: u8,
        }

        #[doc(hidden)]
        #[allow(non_upper_case_globals)]
        pub const $name: $name = $name { $($field: $default,)* _place: 0 };

        impl Default for $name {
            fn default() -> Self {
                $name
            }
        }

        impl $name {
            $(
                /// The layer with these options, and PyTorch's defaults for the others.
                pub fn new($($arg: argument!($arg_kind $arg_ty)),*) -> Self {
                    $name { $($arg: $arg.into(),)* ..$name }
                }
            )?

            $(setter!($(#[$field_doc])* $field, $kind $ty);)*

            fn extra_repr(&self) -> String {
                let $layer = self;
                $repr
            }
        }

        elementwise!($name, |$x, $layer| $forward);
    )*};
}

/// `inplace=True`, after a comma if something precedes it.
fn inplace(before: String, inplace: bool) -> String {
    match (before.is_empty(), inplace) {
        (_, false) => before,
        (true, true) => "inplace=True".into(),
        (false, true) => format!("{before}, inplace=True"),
    }
}

/// Prints nothing.
fn nothing<M>(_: &M) -> String {
    String::new()
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
    ReLU { inplace: of bool = false } new()
    |x, l| Ok(F::relu(x)), inplace(String::new(), l.inplace);

    /// `min(max(x, 0), 6)`; see [`functional::relu6`](F::relu6).
    ReLU6 { inplace: of bool = false } new()
    |x, l| Ok(F::relu6(x)), inplace(String::new(), l.inplace);

    /// ReLU with a slope below 0, 0.01 by default; see [`functional::leaky_relu`](F::leaky_relu).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(LeakyReLU::new(0.5).forward(&tensor![-2.0, 2.0])?, tensor![-1.0, 2.0]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    LeakyReLU {
        /// The slope below 0; 0.01 by default.
        negative_slope: into PyNumber = PyNumber::float(0.01),
        inplace: of bool = false
    }
    new(negative_slope: into PyNumber)
    |x, l| Ok(F::leaky_relu(x, l.negative_slope.get())),
    inplace(format!("negative_slope={}", l.negative_slope), l.inplace);

    /// Exponential below 0; see [`functional::elu`](F::elu).
    ELU {
        /// The limit for large negative inputs, negated; 1 by default.
        alpha: into PyNumber = PyNumber::float(1.),
        inplace: of bool = false
    }
    new(alpha: into PyNumber)
    |x, l| Ok(F::elu(x, l.alpha.get())), inplace(format!("alpha={}", l.alpha), l.inplace);

    /// ELU with a continuous slope; see [`functional::celu`](F::celu).
    CELU {
        /// The limit for large negative inputs, negated; 1 by default.
        alpha: into PyNumber = PyNumber::float(1.),
        inplace: of bool = false
    }
    new(alpha: into PyNumber)
    |x, l| F::celu(x, l.alpha.get()), inplace(format!("alpha={}", l.alpha), l.inplace);

    /// ELU scaled to preserve mean 0 and variance 1; see [`functional::selu`](F::selu).
    SELU { inplace: of bool = false } new()
    |x, l| Ok(F::selu(x)), inplace(String::new(), l.inplace);

    /// `x · Φ(x)`; see [`functional::gelu`](F::gelu).
    ///
    /// ```
    /// use ndnn::{functional::GELUApproximate, prelude::*};
    /// assert_eq!(GELU.to_string(), "GELU(approximate='none')");
    /// assert_eq!(GELU.approximate(GELUApproximate::Tanh).to_string(), "GELU(approximate='tanh')");
    /// ```
    GELU {
        /// Exact, or approximated with tanh; exact by default.
        approximate: of GELUApproximate = GELUApproximate::None
    }
    new()
    |x, l| Ok(F::gelu(x, l.approximate)), format!("approximate='{}'", l.approximate);

    /// `x · σ(x)`; see [`functional::silu`](F::silu).
    SiLU { inplace: of bool = false } new()
    |x, l| Ok(F::silu(x)), inplace(String::new(), l.inplace);

    /// `x · tanh(softplus(x))`; see [`functional::mish`](F::mish).
    Mish { inplace: of bool = false } new()
    |x, l| Ok(F::mish(x)), inplace(String::new(), l.inplace);

    /// `1 / (1 + e⁻ˣ)`; see [`functional::sigmoid`](F::sigmoid).
    Sigmoid {} new() |x, l| Ok(F::sigmoid(x)), nothing(l);

    /// The hyperbolic tangent; see [`functional::tanh`](F::tanh).
    Tanh {} new() |x, l| Ok(F::tanh(x)), nothing(l);

    /// `log σ(x)`; see [`functional::logsigmoid`](F::logsigmoid).
    LogSigmoid {} new() |x, l| Ok(F::logsigmoid(x)), nothing(l);

    /// `x / (1 + |x|)`; see [`functional::softsign`](F::softsign).
    Softsign {} new() |x, l| Ok(F::softsign(x)), nothing(l);

    /// `x - tanh(x)`; see [`functional::tanhshrink`](F::tanhshrink).
    Tanhshrink {} new() |x, l| Ok(F::tanhshrink(x)), nothing(l);

    /// `min(max(x + 3, 0), 6) / 6`; see [`functional::hardsigmoid`](F::hardsigmoid).
    Hardsigmoid { inplace: of bool = false } new()
    |x, l| Ok(F::hardsigmoid(x)), nothing(&l.inplace);

    /// `x · min(max(x + 3, 0), 6) / 6`; see [`functional::hardswish`](F::hardswish).
    Hardswish { inplace: of bool = false } new()
    |x, l| Ok(F::hardswish(x)), nothing(&l.inplace);

    /// `x` limited to two bounds, -1 and 1 by default; see [`functional::hardtanh`](F::hardtanh).
    Hardtanh {
        /// The lower bound; -1 by default.
        min_val: into PyNumber = PyNumber::float(-1.),
        /// The upper bound; 1 by default.
        max_val: into PyNumber = PyNumber::float(1.),
        inplace: of bool = false
    }
    |x, l| F::hardtanh(x, l.min_val.get(), l.max_val.get()),
    inplace(format!("min_val={}, max_val={}", l.min_val, l.max_val), l.inplace);

    /// 0 between -lambd and lambd; see [`functional::hardshrink`](F::hardshrink).
    Hardshrink {
        /// The bound; 0.5 by default.
        lambd: into PyNumber = PyNumber::float(0.5)
    }
    new(lambd: into PyNumber)
    |x, l| Ok(F::hardshrink(x, l.lambd.get())), l.lambd.to_string();

    /// `x` moved towards 0 by lambd; see [`functional::softshrink`](F::softshrink).
    Softshrink {
        /// The distance; 0.5 by default, not negative.
        lambd: into PyNumber = PyNumber::float(0.5)
    }
    new(lambd: into PyNumber)
    |x, l| F::softshrink(x, l.lambd.get()), l.lambd.to_string();

    /// `log(1 + e^(beta · x)) / beta`; see [`functional::softplus`](F::softplus).
    Softplus {
        /// The sharpness of the bend; 1 by default.
        beta: into PyNumber = PyNumber::float(1.),
        /// Above this value of `beta · x` the result is `x`; 20 by default.
        threshold: into PyNumber = PyNumber::float(20.)
    }
    new(beta: into PyNumber, threshold: into PyNumber)
    |x, l| Ok(F::softplus(x, l.beta.get(), l.threshold.get())),
    format!("beta={}, threshold={}", l.beta, l.threshold);

    /// One half of an axis, gated by the other; see [`functional::glu`](F::glu).
    GLU {
        /// The axis; -1 by default.
        dim: of isize = -1
    }
    new(dim: of isize)
    |x, l| F::glu(x, l.dim), format!("dim={}", l.dim);

    /// Softmax over the channels of `(N, C, H, W)` or `(C, H, W)`; see [`functional::softmax`](F::softmax).
    Softmax2d {} new()
    |x, l| match x.ndim() {
        3 | 4 => F::softmax(x, -3),
        _ => Err(Error::shape("softmax2d", format!("expected (N, C, H, W) or (C, H, W), got {:?}", x.shape()))),
    }, nothing(l);
}

impl Hardtanh {
    /// The layer with these bounds.
    ///
    /// # Panics
    /// If `min_val` is not below `max_val`.
    #[track_caller]
    pub fn new(min_val: impl Into<PyNumber>, max_val: impl Into<PyNumber>) -> Self {
        let (min_val, max_val) = (min_val.into(), max_val.into());
        assert!(
            min_val.get() < max_val.get(),
            "Hardtanh: max_val ({max_val}) must be greater than min_val ({min_val})"
        );
        Hardtanh { min_val, max_val, ..Hardtanh }
    }
}

// ------------------------------------------------------------------------------------------- those without all defaults

/// One row per layer along an axis that has no default.
macro_rules! along_axis {
    ($($(#[$doc:meta])* $name:ident, $function:path;)*) => {$(
        $(#[$doc])*
        #[derive(Module)]
        #[module(repr, stateless)]
        pub struct $name {
            dim: isize,
        }

        impl $name {
            /// The layer along the axis `dim`; a negative one counts from the end.
            pub fn new(dim: isize) -> Self {
                $name { dim }
            }

            fn extra_repr(&self) -> String {
                format!("dim={}", self.dim)
            }
        }

        elementwise!($name, |x, l| $function(x, l.dim));
    )*};
}

along_axis! {
    /// Turns numbers along an axis into probabilities; see [`functional::softmax`](F::softmax).
    ///
    /// ```
    /// use ndnn::prelude::*;
    /// assert_eq!(Softmax::new(-1).forward(&tensor![[0.0, 0.0]])?, tensor![[0.5, 0.5]]);
    /// # Ok::<(), ndnn::Error>(())
    /// ```
    Softmax, F::softmax;
    /// [`Softmax`] of the negated input; see [`functional::softmin`](F::softmin).
    Softmin, F::softmin;
    /// The logarithm of [`Softmax`]; see [`functional::log_softmax`](F::log_softmax).
    LogSoftmax, F::log_softmax;
}

/// `x` above a threshold, a value elsewhere; see [`functional::threshold`](F::threshold()).
#[derive(Module)]
#[module(repr, stateless)]
pub struct Threshold {
    threshold: PyNumber,
    value: PyNumber,
    inplace: bool,
}

impl Threshold {
    /// A layer that keeps elements above `threshold` and replaces the others by `value`.
    pub fn new(threshold: impl Into<PyNumber>, value: impl Into<PyNumber>) -> Self {
        Threshold { threshold: threshold.into(), value: value.into(), inplace: false }
    }

    setter!(inplace, of bool);

    fn extra_repr(&self) -> String {
        inplace(format!("threshold={}, value={}", self.threshold, self.value), self.inplace)
    }
}

elementwise!(Threshold, |x, l| Ok(F::threshold(x, l.threshold.get(), l.value.get())));

// --------------------------------------------------------------------------------------------- those that train or learn

/// Leaky ReLU with a random slope while training, from 1/8 to 1/3 by default; see [`functional::rrelu`](F::rrelu).
#[derive(Module)]
#[module(repr, stateless)]
pub struct RReLU {
    lower: PyNumber,
    upper: PyNumber,
    inplace: bool,
    mode: Mode,
}

#[doc(hidden)]
#[allow(non_upper_case_globals, clippy::declare_interior_mutable_const)] // each use is a layer of its own
pub const RReLU: RReLU =
    RReLU { lower: PyNumber::float(1. / 8.), upper: PyNumber::float(1. / 3.), inplace: false, mode: Mode::training() };

impl Default for RReLU {
    fn default() -> Self {
        RReLU
    }
}

impl RReLU {
    /// The layer with slopes drawn from U(lower, upper).
    ///
    /// # Panics
    /// If `lower` is above `upper`.
    #[track_caller]
    pub fn new(lower: impl Into<PyNumber>, upper: impl Into<PyNumber>) -> Self {
        let (lower, upper) = (lower.into(), upper.into());
        assert!(lower.get() <= upper.get(), "RReLU: lower ({lower}) must not be above upper ({upper})");
        RReLU { lower, upper, ..RReLU }
    }

    setter!(inplace, of bool);

    fn extra_repr(&self) -> String {
        inplace(format!("lower={}, upper={}", self.lower, self.upper), self.inplace)
    }
}

elementwise!(RReLU, |x, l| F::rrelu(x, l.lower.get(), l.upper.get(), l.mode.is_training()));

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
    fn default() -> Self {
        PReLU { weight: Param::new(Tensor::full([1], 0.25)), init: 0.25 }
    }
}

impl PReLU {
    /// A layer with one slope for all channels.
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
        format!("num_parameters={}", self.weight.shape()[0])
    }
}

#[forward]
impl<T: Real> Forward<T> for PReLU<T> {
    fn forward(&self, x: &Tensor<T>) -> Result<Tensor<T>> {
        F::prelu(x, &self.weight.tensor())
    }
}
