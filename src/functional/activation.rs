//! Activations: elementwise functions, and softmax and related functions along one axis.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI, SQRT_2};

use num_traits::Float;

use crate::{
    Error, Result,
    functional::words,
    kernels::{
        elementwise::{map, zip},
        scalar::clamp,
        vmath::VectorMath,
    },
    ops::{self, Formula, one, pairs, row, two},
    tensor::{Real, Tensor, axis},
};

/// From here on σ, Φ and similar functions are 0 or 1 in all types. Their argument as a factor in an activation is
/// limited to this, since it must not be infinite.
const FAR: f64 = 1e3;

// ----------------------------------------------------------------------------------------------------------- the table

/// One row per function, with its parameters: see [`row`].
macro_rules! activations {
    ($($(#[$doc:meta])* $vis:vis $name:ident($($param:ident),*) $work:ident: |$x:ident| $value:expr,
       from $from:ident |$($k:ident),+| $derivative:expr;)*) => {$(
        $(#[$doc])*
        $vis fn $name<T: Real>(input: &Tensor<T>, $($param: f64),*) -> Tensor<T> {
            row!(real Real stringify!($name), ($($param),*), $work, |$x| $value, from $from |$($k),+| $derivative);
            one(row($($param),*), input)
        }
    )*};
}

activations! {
    /// `max(x, 0) + slope · min(x, 0)`: ReLU with a small slope below 0; PyTorch's default slope is 0.01.
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// assert_eq!(F::leaky_relu(&tensor![-10.0, 2.0], 0.5), tensor![-5.0, 2.0]);
    /// ```
    pub leaky_relu(negative_slope) common: |x| if x.gt(0.) { x } else { x * negative_slope }, from input |g, x| {
        let slope = E::either(x.gt(0.), 1., negative_slope);
        if negative_slope == 0. { g.kept(x.gt(0.)) } else { g * slope }
    };

    /// `max(x, 0)²`, which grows faster than ReLU and has no jump in its slope (So et al. 2021, Primer); torch.nn does not
    /// have it.
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// assert_eq!(F::squared_relu(&tensor![-1.0, 3.0]), tensor![0.0, 9.0]);
    /// ```
    pub squared_relu() short: |x| if x.le(0.) { x.zero() } else { x * x }, from input |g, x| {
        let above = !x.le(0.);
        g.kept(above) * x.kept(above) * 2.
    };

    /// `min(max(x, 0), 6)`
    pub relu6() short: |x| x.clamp(0., 6.), from input |g, x| g.kept(x.gt(0.) & x.lt(6.));

    clamped(min_val, max_val) short: |x| x.clamp(min_val, max_val),
        from input |g, x| g.kept(x.gt(min_val) & x.lt(max_val));

    /// `x` where it is above `threshold`, else `value`.
    pub threshold(threshold, value) short: |x| if x.le(threshold) { x.constant(value) } else { x },
        from input |g, x| g.kept(!x.le(threshold));

    // `positive · x` above 0, `negative · (e^(x · rate) - 1)` below: ELU and its variants.
    exponential(positive, negative, rate) long: |x| if x.lt(0.) { (x * rate).expm1() * negative } else { x * positive },
        from input |g, x| {
            // Only below 0: far above 0 the power would overflow, and ∞ · 0 is NaN.
            let power = (x.kept(x.lt(0.)) * rate).exp();
            let slope = power * E::either(x.le(0.), negative * rate, 0.) + E::either(x.le(0.), 0., positive);
            if negative == 0. { g.kept(!x.le(0.)) * slope } else { g * slope }
        };

    /// `x · σ(x)`, also called swish.
    pub silu() common_long: |x| x.not_below(-FAR) * x.sigmoid(), from input |x| {
        let s = x.sigmoid();
        s * (x.bounded(FAR) * s.rest() + 1.)
    };

    /// `x · tanh(softplus(x))`
    pub mish() long: |x| x.not_below(-FAR) * mish_gate(x.sigmoid()), from input |x| {
        let (s, t) = (x.sigmoid(), mish_gate(x.sigmoid()));
        x.bounded(FAR) * s * (t * t).rest() + t
    };

    gelu_erf() common_long: |x| x.not_below(-FAR) * x.normal_cdf(), from input |x| {
        let density = x.bell() * (FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * 0.5);
        x.normal_cdf() + x.bounded(FAR) * density
    };

    // Uses `(1 + tanh u) / 2 = σ(2u)`, which loses no digits far below 0.
    gelu_tanh() common_long: |x| x.not_below(-FAR) * gelu_inner(x.bounded(FAR)).sigmoid(), from input |x| {
        let x = x.bounded(FAR);
        let s = gelu_inner(x).sigmoid();
        let rate = (x * x * (3. * GELU_CUBIC) + 1.) * GELU_SCALE;
        s * (x * rate * s.rest() + 1.)
    };

    /// `x` outside [-lambd, lambd], else 0; PyTorch's default `lambd` is 0.5.
    pub hardshrink(lambd) short: |x| if x.ge(-lambd) & x.le(lambd) { x.zero() } else { x },
        from input |g, x| g.kept(x.lt(-lambd) | x.gt(lambd));

    shrunk(lambd) short: |x| if x.gt(lambd) { x - lambd } else if x.lt(-lambd) { x + lambd } else { x * 0. },
        from input |g, x| g.kept(x.lt(-lambd) | x.gt(lambd));

    /// `min(max(x + 3, 0), 6) / 6`
    pub hardsigmoid() short: |x| (x + 3.).clamp(0., 6.) / 6., from input |g, x| g.kept(x.gt(-3.) & x.lt(3.)) * ONE_SIXTH;

    /// `x · min(max(x + 3, 0), 6) / 6`
    pub hardswish() common: |x| x.not_below(-FAR) * ((x + 3.).clamp(0., 6.) / 6.), from input |g, x| {
        let middle = x.kept(x.gt(-3.) & x.lt(3.)) * (1. / 3.);
        g.kept(!x.le(-3.)) * (middle + E::either(x.lt(3.), 0.5, 1.))
    };

    /// `log σ(x)`, without overflow.
    pub logsigmoid() long: |x| -(-x).softplus(), from input |x| (-x).sigmoid();

    /// `log(1 + e^(beta · x)) / beta`, a smooth ReLU; `x` itself where `beta · x` is above `threshold`.
    ///
    /// PyTorch's defaults are a `beta` of 1 and a `threshold` of 20.
    pub softplus(beta, threshold) long: |x| if (x * beta).gt(threshold) { x } else { (x * beta).softplus() / beta },
        from input |x| {
            let z = x * beta;
            z.sigmoid() * E::either(z.le(threshold), 1., 0.) + E::either(z.gt(threshold), 1., 0.)
        };

    /// `x / (1 + |x|)`
    pub softsign() short: |x| {
        let near = x.by(|x| clamp(x, Float::min_value(), Float::max_value()));
        near / (near.abs() + 1.)
    }, from input |g, x| {
        let r = (x.abs() + 1.).reciprocal();
        g * r * r
    };

    /// `x - tanh(x)`
    pub tanhshrink() long: |x| x - x.tanh(), from input |x| x.tanh() * x.tanh();
}

const GELU_CUBIC: f64 = 0.044715;

/// `2 √(2/π)`
const GELU_SCALE: f64 = FRAC_2_SQRT_PI * SQRT_2;

/// `2 √(2/π) (x + 0.044715 x³)`
#[inline(always)]
fn gelu_inner<E: Formula>(x: E) -> E {
    x * (x * x * GELU_CUBIC + 1.) * GELU_SCALE
}

/// PyTorch rounds one sixth to `f32` in the derivative, even in `f64`.
const ONE_SIXTH: f64 = (1f32 / 6.) as f64;

/// `tanh(softplus(x))` from `s = σ(x)`: `s (1 + q) / (1 + q²)` with `q = 1 - s`, which never overflows.
#[inline(always)]
fn mish_gate<E: Formula>(s: E) -> E {
    let q = s.rest();
    s * (q + 1.) * (q * q + 1.).reciprocal()
}

// ---------------------------------------------------------------------------------------- those with names of their own

/// `max(x, 0)`; the gradient at 0 is 0.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// assert_eq!(F::relu(&tensor![-1.0, 0.0, 2.0]), tensor![0.0, 0.0, 2.0]);
/// ```
pub fn relu<T: Real>(input: &Tensor<T>) -> Tensor<T> {
    input.relu()
}

/// `σ(x) = 1 / (1 + e⁻ˣ)`
pub fn sigmoid<T: Real>(input: &Tensor<T>) -> Tensor<T> {
    input.sigmoid()
}

/// The hyperbolic tangent.
pub fn tanh<T: Real>(input: &Tensor<T>) -> Tensor<T> {
    input.tanh()
}

/// `x` above 0, `alpha · (eˣ - 1)` below; PyTorch's default `alpha` is 1.
pub fn elu<T: Real>(input: &Tensor<T>, alpha: f64) -> Tensor<T> {
    exponential(input, 1., alpha, 1.)
}

/// `max(x, 0) + min(alpha · (e^(x / alpha) - 1), 0)`: ELU with a continuous slope; PyTorch's default `alpha` is 1.
///
/// # Errors
/// If `alpha` is 0.
pub fn celu<T: Real>(input: &Tensor<T>, alpha: f64) -> Result<Tensor<T>> {
    if alpha == 0. {
        return Err(Error::value("celu", "expected an alpha other than 0"));
    }
    Ok(exponential(input, 1., alpha, 1. / alpha))
}

pub(super) const SELU_ALPHA: f64 = 1.673_263_242_354_377_2;
pub(super) const SELU_SCALE: f64 = 1.050_700_987_355_480_5;

/// `scale · ELU(x, alpha)` with the two constants that preserve mean 0 and variance 1 from layer to layer: alpha ≈
/// 1.6733, scale ≈ 1.0507 (Klambauer et al. 2017).
pub fn selu<T: Real>(input: &Tensor<T>) -> Tensor<T> {
    exponential(input, SELU_SCALE, SELU_ALPHA * SELU_SCALE, 1.)
}

words! {
    /// How [`gelu`] computes the normal distribution.
    pub enum GELUApproximate, "approximate" {
        /// Exactly, with the error function; the default.
        #[default]
        None = "none",
        /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`
        Tanh = "tanh",
    }
}

/// `x · Φ(x)`, where Φ is the distribution function of the standard normal distribution.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::gelu(&tensor![0.0, 100.0], F::GELUApproximate::None);
/// assert_eq!(y, tensor![0.0, 100.0]);
/// ```
pub fn gelu<T: Real>(input: &Tensor<T>, approximate: GELUApproximate) -> Tensor<T> {
    match approximate {
        GELUApproximate::None => gelu_erf(input),
        GELUApproximate::Tanh => gelu_tanh(input),
    }
}

/// `min(max(x, min_val), max_val)`; PyTorch's defaults are -1 and 1.
///
/// # Errors
/// If `min_val` is above `max_val`.
pub fn hardtanh<T: Real>(input: &Tensor<T>, min_val: f64, max_val: f64) -> Result<Tensor<T>> {
    if min_val > max_val {
        return Err(Error::value("hardtanh", format!("min_val {min_val} is above max_val {max_val}")));
    }
    Ok(clamped(input, min_val, max_val))
}

/// `x` moved towards 0 by `lambd`, and 0 within that distance; PyTorch's default `lambd` is 0.5.
///
/// # Errors
/// If `lambd` is negative or NaN.
pub fn softshrink<T: Real>(input: &Tensor<T>, lambd: f64) -> Result<Tensor<T>> {
    if lambd < 0. || lambd.is_nan() {
        return Err(Error::value("softshrink", format!("expected a lambd of 0 or more, got {lambd}")));
    }
    Ok(shrunk(input, lambd))
}

pairs! {
    // At 0 the slope is the weight, and its derivative is 0, as in PyTorch.
    real Real Leaky, "prelu", fused short: |x, w| if x > T::ZERO { x } else { w * x }, |g, x, w| {
        let below = !x.gt(0.);
        let slope = w.kept(below & !x.equals(0.)) + w.kept(x.equals(0.)).fixed();
        g.kept(x.gt(0.)) + g.kept(below & (g.is_finite() | !w.equals(0.))) * slope
    }, g.kept(!x.ge(0.)) * x.kept(!x.ge(0.));
}

/// `max(x, 0) + weight · min(x, 0)` with a learnable weight: one for all channels, or one per channel (axis 1 of
/// `input`).
///
/// # Errors
/// If `weight` has more than one axis, or neither one element nor one for each channel.
pub fn prelu<T: Real>(input: &Tensor<T>, weight: &Tensor<T>) -> Result<Tensor<T>> {
    let (shape, n) = (input.shape(), weight.numel());
    if weight.ndim() > 1 {
        return Err(Error::shape("prelu", format!("expected a weight of at most 1 axis, got {:?}", weight.shape())));
    }
    let channels = if shape.len() > 1 { shape[1] } else { 1 };
    if n != 1 && (n != channels || shape.is_empty()) {
        return Err(Error::shape(
            "prelu",
            format!("the weight has {n} elements, an input of {shape:?} has {channels} channels (axis 1)"),
        ));
    }
    let mut wide = vec![1; shape.len()];
    if let Some(at) = wide.get_mut(1) {
        *at = n;
    }
    let weight = weight.reshape(&wide)?;
    two(Leaky::row(), input, &weight)
}

/// Leaky ReLU with a slope drawn from U(lower, upper) for each element that is not above 0; outside training, with the
/// mean slope. PyTorch's defaults are 1/8 and 1/3.
///
/// # Errors
/// If `lower` is above `upper`, or one of them is not finite.
pub fn rrelu<T: Real>(input: &Tensor<T>, lower: f64, upper: f64, training: bool) -> Result<Tensor<T>> {
    if lower > upper || !lower.is_finite() || !upper.is_finite() {
        return Err(Error::value("rrelu", format!("expected finite bounds in rising order, got {lower} and {upper}")));
    }
    if !training || lower == upper {
        return Ok(leaky_relu(input, (lower + upper) / 2.));
    }
    let slopes = Tensor::uniform(input.shape(), T::of(lower), T::of(upper))?;
    let slopes: Tensor<T> =
        zip(input.data(), slopes.data(), input.raw_dim(), |x, s| if x <= T::ZERO { s } else { T::ONE }).into();
    let out = zip(input.data(), slopes.data(), input.raw_dim(), |x, s| x * s);
    Ok(Tensor::op("rrelu", out, [input], move |g, _| Ok([Some(ops::shared(g, &slopes)?)])))
}

// -------------------------------------------------------------------------------------------------------- along an axis

pairs! {
    // The small factors first: the gradient times `a` may overflow where the gate is 0.
    real Real Gated, "glu", fused short reads [[false, true], [true, true]]: |a, b| a * b.vsigmoid::<I>(), |g, a, b|
        g * b.sigmoid(), g * (a * (b.sigmoid() * (-b).sigmoid()));
}

/// `a · σ(b)`, where `a` and `b` are the halves of `input` along the axis `dim` (-1 by default in PyTorch).
///
/// # Errors
/// If there is no such axis, or its length is odd.
pub fn glu<T: Real>(input: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    let at = axis("glu", dim, input.ndim())?;
    let Some(&n) = input.shape().get(at).filter(|&n| n % 2 == 0) else {
        return Err(Error::shape("glu", format!("expected an axis {dim} of even length, got {:?}", input.shape())));
    };
    let (at, half) = (at as isize, n / 2);
    let (a, b) = (input.narrow(at, 0, half)?, input.narrow(at, half as isize, half)?);
    two(Gated::row(), &a, &b)
}

/// `yᵢ = eˣⁱ / Σⱼ eˣʲ` along the axis `dim`, without overflow. To compute in another type:
/// `F::softmax(&x.cast::<f64>(), dim)`.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// assert_eq!(F::softmax(&tensor![[1000.0, 1000.0]], -1)?, tensor![[0.5, 0.5]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If there is no such axis.
pub fn softmax<T: Real>(input: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    input.softmax(dim)
}

/// [`softmax`] of `-input`.
///
/// # Errors
/// If there is no such axis.
pub fn softmin<T: Real>(input: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    (-input).softmax(dim)
}

/// The logarithm of [`softmax`], computed more accurately than by taking the logarithm.
///
/// # Errors
/// If there is no such axis.
pub fn log_softmax<T: Real>(input: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    input.log_softmax(dim)
}

/// A sample from the Gumbel-softmax distribution of `logits` along `dim`: `softmax((logits + noise) / tau)`.
///
/// With `hard`, the sample is one-hot, and its gradient is that of the soft sample (Jang et al. 2016).
///
/// # Errors
/// If there is no such axis.
pub fn gumbel_softmax<T: Real>(logits: &Tensor<T>, tau: f64, hard: bool, dim: isize) -> Result<Tensor<T>> {
    let uniform = Tensor::<T>::rand(logits.shape());
    // -log of an exponential sample; `1 - u` is never 0, and `tiny` keeps the outer logarithm finite.
    let tiny = T::min_positive_value();
    let noise: Tensor<T> = map(uniform.data(), |u: T| -(-(T::ONE - u).ln()).max(tiny).ln()).into();
    let soft = ((logits + noise) / T::of(tau)).softmax(dim)?;
    if !hard || soft.ndim() == 0 {
        return Ok(soft);
    }
    let place = soft.detach().argmax(Some(dim), true)?;
    let one_hot = soft.zeros_like().scatter(dim, &place, &Tensor::ones(place.shape()))?;
    // The value is the one-hot sample, the derivative that of the soft sample.
    Ok(Tensor::op("gumbel_softmax", one_hot.data().clone(), [&soft], |g, _| Ok([Some(g.clone())])))
}
