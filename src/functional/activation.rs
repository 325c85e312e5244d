//! Activations: elementwise functions, and softmax and its kin along one axis.

use std::{fmt, marker::PhantomData};

use crate::{
    Error, Result,
    kernels::{
        elementwise::{Map, map, map_with, zip, zip_with, zip3},
        isa::Isa,
    },
    ops::{self, Formula, Lane, gradient_of},
    tensor::{Real, Tensor, axis, grad_enabled},
};

/// `max(x, 0) + log(1 + e^(-|x|))`, which is `log(1 + eˣ)` without overflow.
#[inline(always)]
pub(super) fn softplus_of<I: Isa, T: Real>(x: T) -> T {
    let positive = if x < T::ZERO { T::ZERO } else { x };
    positive + (-num_traits::Float::abs(x)).vexp::<I>().vln_1p::<I>()
}

/// `min(max(x, low), high)`; NaN stays NaN.
fn clamp_of<T: Real>(x: T, low: T, high: T) -> T {
    if x < low {
        low
    } else if x > high {
        high
    } else {
        x
    }
}

/// `max(x, low)`; NaN stays NaN.
fn not_below<T: Real>(x: T, low: f64) -> T {
    if x < T::of(low) { T::of(low) } else { x }
}

/// From here on σ, Φ and their kin are 0 and 1 in all types: their factor in an activation need not be larger, and must
/// not be infinite.
const FAR: f64 = 1e3;

// ----------------------------------------------------------------------------------------------------------- the table

/// A row a function: its value on numbers, in a loop compiled for `I`, and its derivative as a [`Formula`]; both of the
/// input, which is kept. [`gradient_of`] says what a derivative of two names is.
macro_rules! elementwise {
    ($(
        $(#[$doc:meta])*
        $vis:vis $name:ident($($param:ident),*): |$x:ident| $value:expr, slope |$($k:ident),+| $slope:expr;
    )*) => {$(
        $(#[$doc])*
        $vis fn $name<T: Real>(input: &Tensor<T>, $($param: f64),*) -> Tensor<T> {
            #[derive(Clone, Copy)]
            struct Row<T> {
                $($param: T,)*
                element: PhantomData<T>,
            }
            #[allow(unused_variables)]
            impl<T: Real> Row<T> {
                #[inline(always)]
                fn gradient<E: ops::RealFormula<T>>(self, g: E, kept: E) -> E {
                    let Row { $($param,)* .. } = self;
                    gradient_of!(g, kept, |$($k),+| $slope)
                }
            }
            #[allow(unused_variables)]
            impl<T: Real> Map<T, T> for Row<T> {
                #[inline(always)]
                fn at<I: Isa>(&self, $x: T) -> T {
                    let Row { $($param,)* .. } = *self;
                    $value
                }
            }
            impl<T: Real> Map<(T, T), T> for Row<T> {
                #[inline(always)]
                fn at<I: Isa>(&self, (g, kept): (T, T)) -> T {
                    self.gradient(Lane::<I, T>::new(g), Lane::new(kept)).0
                }
            }
            let row = Row { $($param: T::of($param),)* element: PhantomData };
            let kept = input.clone();
            Tensor::op(stringify!($name), map_with(input.view(), row), [input], move |g, _| {
                Ok([Some(match grad_enabled() {
                    true => row.gradient(g.clone(), kept.clone()),
                    false => zip_with(g.view(), kept.view(), g.shape(), row).into(),
                })])
            })
        }
    )*};
}

elementwise! {
    /// `max(x, 0) + slope · min(x, 0)`: ReLU that lets a little through below 0; PyTorch's default slope is 0.01.
    ///
    /// ```
    /// use ndnn::{functional as F, prelude::*};
    /// assert_eq!(F::leaky_relu(&tensor![-10.0, 2.0], 0.5), tensor![-5.0, 2.0]);
    /// ```
    pub leaky_relu(negative_slope): |x| if x > T::ZERO { x } else { x * negative_slope },
        slope |g, x| {
            let g = g.kept(&x, |x| x > T::ZERO || negative_slope != T::ZERO);
            g * x.step(|x| if x > T::ZERO { T::ONE } else { negative_slope })
        };

    /// `min(max(x, 0), 6)`
    pub relu6(): |x| clamp_of(x, T::ZERO, T::of(6.)), slope |g, x| g.kept(&x, |x| x > T::ZERO && x < T::of(6.));

    clamped(min_val, max_val): |x| clamp_of(x, min_val, max_val),
        slope |g, x| g.kept(&x, |x| x > min_val && x < max_val);

    /// `x` where it is above `threshold`, else `value`.
    pub threshold(threshold, value): |x| if x <= threshold { value } else { x },
        slope |g, x| g.kept(&x, |x| x > threshold || x.is_nan());

    // `positive · x` above 0, `negative · (e^(x · rate) - 1)` below: ELU and its kin.
    exponential(positive, negative, rate):
        |x| if x < T::ZERO { negative * (x * rate).vexp_m1::<I>() } else { x * positive },
        slope |g, x| {
            // Only below 0: the power would overflow far above, and ∞ · 0 is NaN.
            let power = (x.clone().only(|x| x < T::ZERO) * rate).exp();
            let g = g.kept(&x, |x| x > T::ZERO || x.is_nan() || negative != T::ZERO);
            g * (power * x.clone().step(|x| if x <= T::ZERO { negative * rate } else { T::ZERO })
                + x.step(|x| if x <= T::ZERO { T::ZERO } else { positive }))
        };

    /// `x · σ(x)`, also called swish.
    pub silu(): |x| not_below(x, -FAR) * x.vsigmoid::<I>(), slope |x| {
        let s = x.clone().sigmoid();
        s.clone() * (x.bounded(T::of(FAR)) * (-s + T::ONE) + T::ONE)
    };

    /// `x · tanh(softplus(x))`
    pub mish(): |x| not_below(x, -FAR) * mish_gate(Lane::<I, T>::new(x.vsigmoid::<I>())).0, slope |x| {
        let s = x.clone().sigmoid();
        let t = mish_gate(s.clone());
        x.bounded(T::of(FAR)) * s * (-(t.clone() * t.clone()) + T::ONE) + t
    };

    gelu_erf(): |x| not_below(x, -FAR) * x.vnormal_cdf::<I>(), slope |x| {
        let density = x.clone().bell() * (T::FRAC_1_SQRT_2() * T::FRAC_2_SQRT_PI() * T::of(0.5));
        x.clone().normal_cdf() + x.bounded(T::of(FAR)) * density
    };

    // With `(1 + tanh u) / 2 = σ(2u)`, which loses no digits far below 0.
    gelu_tanh(): |x| {
        let near = Lane::<I, T>::new(x).bounded(T::of(FAR));
        not_below(x, -FAR) * gelu_inner(near).0.vsigmoid::<I>()
    }, slope |x| {
        let x = x.bounded(T::of(FAR));
        let s = gelu_inner(x.clone()).sigmoid();
        let rate = (x.clone() * x.clone() * T::of(3. * GELU_CUBIC) + T::ONE) * gelu_scale::<T>();
        s.clone() * (x * rate * (-s + T::ONE) + T::ONE)
    };

    /// `x` outside [-lambd, lambd], else 0; PyTorch's default `lambd` is 0.5.
    pub hardshrink(lambd): |x| if x >= -lambd && x <= lambd { T::ZERO } else { x },
        slope |g, x| g.kept(&x, |x| x < -lambd || x > lambd);

    shrunk(lambd): |x| if x > lambd { x - lambd } else if x < -lambd { x + lambd } else { x * T::ZERO },
        slope |g, x| g.kept(&x, |x| x < -lambd || x > lambd);

    /// `min(max(x + 3, 0), 6) / 6`
    pub hardsigmoid(): |x| clamp_of(x + T::of(3.), T::ZERO, T::of(6.)) / T::of(6.),
        slope |g, x| g.kept(&x, |x| x > T::of(-3.) && x < T::of(3.)) * T::of(ONE_SIXTH);

    /// `x · min(max(x + 3, 0), 6) / 6`
    pub hardswish(): |x| not_below(x, -FAR) * (clamp_of(x + T::of(3.), T::ZERO, T::of(6.)) / T::of(6.)), slope |g, x| {
        let middle = x.clone().only(|x| x > T::of(-3.) && x < T::of(3.)) * T::of(1. / 3.);
        g.kept(&x, |x| x > T::of(-3.) || x.is_nan()) * (middle + x.step(|x| T::of(if x < T::of(3.) { 0.5 } else { 1. })))
    };

    /// `log σ(x)`, without overflow.
    pub logsigmoid(): |x| -softplus_of::<I, T>(-x), slope |x| (-x).sigmoid();

    /// `log(1 + e^(beta · x)) / beta`, a smooth ReLU; `x` itself where `beta · x` is above `threshold`.
    ///
    /// PyTorch's defaults are a `beta` of 1 and a `threshold` of 20.
    pub softplus(beta, threshold): |x| if x * beta > threshold { x } else { softplus_of::<I, T>(x * beta) / beta }, slope |x| {
        let z = x * beta;
        let one = |above: bool| if above { T::ONE } else { T::ZERO };
        z.clone().sigmoid() * z.clone().step(|z| one(z <= threshold)) + z.step(|z| one(z > threshold))
    };

    /// `x / (1 + |x|)`
    pub softsign(): |x| {
        let near = Lane::<I, T>::new(x).bounded(T::max_value()).0;
        near / (T::ONE + num_traits::Float::abs(near))
    }, slope |g, x| {
        let r = (x.abs() + T::ONE).reciprocal();
        g * r.clone() * r
    };

    /// `x - tanh(x)`
    pub tanhshrink(): |x| x - x.vtanh::<I>(), slope |x| {
        let t = x.tanh();
        t.clone() * t
    };
}

const GELU_CUBIC: f64 = 0.044715;

/// `2 √(2/π) (x + 0.044715 x³)`
#[inline(always)]
fn gelu_inner<T: Real, E: Formula<T>>(x: E) -> E {
    let square = x.clone() * x.clone();
    x * (square * T::of(GELU_CUBIC) + T::ONE) * gelu_scale::<T>()
}

/// PyTorch's sixth is rounded to `f32` in the derivative, also in `f64`.
const ONE_SIXTH: f64 = (1f32 / 6.) as f64;

/// `2 √(2/π)`
fn gelu_scale<T: Real>() -> T {
    T::FRAC_2_SQRT_PI() * T::SQRT_2()
}

/// `tanh(softplus(x))` from `s = σ(x)`: `s (1 + q) / (1 + q²)` with `q = 1 - s`, which overflows nowhere.
#[inline(always)]
fn mish_gate<T: Real, E: ops::RealFormula<T>>(s: E) -> E {
    let q = -s.clone() + T::ONE;
    s * (q.clone() + T::ONE) * (q.clone() * q + T::ONE).reciprocal()
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

/// `scale · ELU(x, alpha)` with the two numbers that keep mean 0 and variance 1 from layer to layer: alpha ≈ 1.6733,
/// scale ≈ 1.0507 (Klambauer et al. 2017).
pub fn selu<T: Real>(input: &Tensor<T>) -> Tensor<T> {
    exponential(input, SELU_SCALE, SELU_ALPHA * SELU_SCALE, 1.)
}

/// How [`gelu`] works out the normal distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Approximate {
    /// Exactly, with the error function.
    #[default]
    None,
    /// `0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³)))`
    Tanh,
}

/// As PyTorch names it: `none`, `tanh`.
impl fmt::Display for Approximate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Approximate::None => "none",
            Approximate::Tanh => "tanh",
        })
    }
}

/// `x · Φ(x)`, Φ being the distribution function of the standard normal distribution.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let y = F::gelu(&tensor![0.0, 100.0], F::Approximate::None);
/// assert_eq!(y, tensor![0.0, 100.0]);
/// ```
pub fn gelu<T: Real>(input: &Tensor<T>, approximate: Approximate) -> Tensor<T> {
    match approximate {
        Approximate::None => gelu_erf(input),
        Approximate::Tanh => gelu_tanh(input),
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

/// `x` moved towards 0 by `lambd`, 0 within; PyTorch's default `lambd` is 0.5.
///
/// # Errors
/// If `lambd` is negative or NaN.
pub fn softshrink<T: Real>(input: &Tensor<T>, lambd: f64) -> Result<Tensor<T>> {
    if lambd < 0. || lambd.is_nan() {
        return Err(Error::value("softshrink", format!("expected a lambd of 0 or more, got {lambd}")));
    }
    Ok(shrunk(input, lambd))
}

/// `max(x, 0) + weight · min(x, 0)` with a learnable weight: one for all, or one a channel (axis 1 of `input`).
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
    let out = zip(input.view(), weight.view(), shape, |x, w| if x > T::ZERO { x } else { w * x });
    let (x, w) = (input.clone(), weight.clone());
    Ok(Tensor::op("prelu", out, [input, &weight], move |g, [dx, dw]| {
        let dx = match dx {
            // At 0 the slope is the weight's, and changes with nothing, as in PyTorch.
            true if grad_enabled() => {
                let w = Tensor::where_(&x.eq(T::ZERO)?, w.detach(), &w)?;
                Some(Tensor::where_(&x.gt(T::ZERO)?, g, &ops::scaled(g, &w)?)?)
            }
            true => {
                let slope = |g: T, x: T, w: T| match x > T::ZERO {
                    true => g,
                    false if w == T::ZERO => T::ZERO,
                    false => g * w,
                };
                Some(zip3(g.view(), x.view(), w.view(), x.shape(), slope).into())
            }
            false => None,
        };
        let dw = match dw {
            true => {
                let below = |x: T| x < T::ZERO || x.is_nan();
                Some((g.clone().kept(&x, below) * x.clone().only(below)).sum_to(w.shape())?)
            }
            false => None,
        };
        Ok([dx, dw])
    }))
}

/// Leaky ReLU with a slope drawn from U(lower, upper) for each element that is not above 0; when not training, with the
/// slope in the middle. PyTorch's defaults are 1/8 and 1/3.
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
        zip(input.view(), slopes.view(), input.shape(), |x, s| if x <= T::ZERO { s } else { T::ONE }).into();
    let out = zip(input.view(), slopes.view(), input.shape(), |x, s| x * s);
    Ok(Tensor::op("rrelu", out, [input], move |g, _| Ok([Some(ops::shared(g, &slopes)?)])))
}

// -------------------------------------------------------------------------------------------------------- along an axis

struct Gated;

impl<T: Real> Map<(T, T), T> for Gated {
    #[inline(always)]
    fn at<I: Isa>(&self, (a, b): (T, T)) -> T {
        a * b.vsigmoid::<I>()
    }
}

/// `a · σ(b)`, `a` and `b` being the halves of `input` along the axis `dim` (-1 by default in PyTorch).
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
    let value = zip_with(a.view(), b.view(), a.shape(), Gated);
    let kept = [a.clone(), b.clone()];
    Ok(Tensor::op("glu", value, [&a, &b], move |g, _| {
        let [a, b] = &kept;
        let open = b.sigmoid();
        // The small factors first: the gradient times `a` may overflow where the gate is shut.
        let slope = a * (&open * (-b).sigmoid());
        Ok([Some(g * open), Some(g * slope)])
    }))
}

/// `yᵢ = eˣⁱ / Σⱼ eˣʲ` along the axis `dim`, without overflow. To work in another type: `F::softmax(&x.cast::<f64>(), dim)`.
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

/// The logarithm of [`softmax`], more accurate than taking it.
///
/// # Errors
/// If there is no such axis.
pub fn log_softmax<T: Real>(input: &Tensor<T>, dim: isize) -> Result<Tensor<T>> {
    input.log_softmax(dim)
}

/// A sample from the Gumbel-softmax distribution of `logits` along `dim`: `softmax((logits + noise) / tau)`.
///
/// With `hard`, the sample is one-hot, and the gradient that of the soft one (Jang et al. 2016).
///
/// # Errors
/// If there is no such axis.
pub fn gumbel_softmax<T: Real>(logits: &Tensor<T>, tau: f64, hard: bool, dim: isize) -> Result<Tensor<T>> {
    let uniform = Tensor::<T>::rand(logits.shape());
    // -log of an exponential sample; `1 - u` is never 0, and `tiny` keeps the outer logarithm finite.
    let tiny = T::min_positive_value();
    let noise: Tensor<T> = map(uniform.view(), |u: T| -(-(T::ONE - u).ln()).max(tiny).ln()).into();
    let soft = ((logits + noise) / T::of(tau)).softmax(dim)?;
    if !hard || soft.ndim() == 0 {
        return Ok(soft);
    }
    let place = soft.detach().argmax(Some(dim), true)?;
    let one_hot = soft.zeros_like().scatter(dim, &place, &Tensor::ones(place.shape()))?;
    // The value is the one-hot sample, the derivative that of the soft one.
    Ok(Tensor::op("gumbel_softmax", one_hot.data().clone(), [&soft], |g, _| Ok([Some(g.clone())])))
}
