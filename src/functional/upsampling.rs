//! Interpolation: images, sequences and volumes of another size.
//!
//! Interpolation is linear and works on one axis after the other, so it is a table of taps per axis; its derivative is
//! the same operation with the transposed tables.

use ndnn_derive::concrete;

use super::{PerAxis, options, pooling, words};
use crate::{
    Error, Result,
    kernels::{
        interpolation::{Taps, resample, transposed},
        memory::collected,
        sizes::room,
    },
    tensor::{Real, Tensor},
};

/// The size of an interpolation's result: in elements, or relative to the input.
///
/// ```
/// use ndnn::functional::Resize;
/// assert_eq!(Resize::size([5, 7]).to_string(), "size=(5, 7)");
/// assert_eq!(Resize::scale_factor(2.0).to_string(), "scale_factor=2.0");
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Resize(By);

#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    Size(PerAxis<usize>),
    /// Positive and finite.
    ScaleFactor(PerAxis<f64>),
}

impl Resize {
    /// This number of elements: one number for all axes after the first two, or an array with one per axis.
    pub fn size(size: impl Into<PerAxis<usize>>) -> Self {
        Resize(By::Size(size.into()))
    }

    /// The input's size times this, rounded down: one number for all axes after the first two, or an array with one per
    /// axis.
    ///
    /// # Panics
    /// If a factor is not positive and finite.
    #[track_caller]
    pub fn scale_factor(scale_factor: impl Into<PerAxis<f64>>) -> Self {
        let factor = scale_factor.into();
        assert!(factor.all(|f| f > 0. && f.is_finite()), "a scale factor is positive and finite, got {factor}");
        Resize(By::ScaleFactor(factor))
    }
}

/// As PyTorch prints it in a layer: `size=7`, `scale_factor=2.0`.
impl std::fmt::Display for Resize {
    #[inline]
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            By::Size(size) => write!(f, "size={size}"),
            By::ScaleFactor(factor) => write!(f, "scale_factor={factor}"),
        }
    }
}

words! {
    /// How [`interpolate`] computes an element that lies between those of the input.
    pub enum InterpolateMode, "mode" {
        /// The element below: `x[⌊i · n / m⌋]`; the default.
        #[default]
        Nearest = "nearest",
        /// The nearest element: `x[⌊(i + ½) · n / m⌋]`, as other libraries define it.
        NearestExact = "nearest-exact",
        /// Linear between neighbours, over one axis.
        Linear = "linear",
        /// Linear along each of two axes.
        Bilinear = "bilinear",
        /// Cubic convolution along each of two axes.
        Bicubic = "bicubic",
        /// Linear along each of three axes.
        Trilinear = "trilinear",
        /// A windowed sinc along each of two axes, with `antialias` only.
        Lanczos = "lanczos",
        /// The mean of the elements that an element of the result covers: adaptive average pooling.
        Area = "area",
    }
}

impl InterpolateMode {
    /// The number of axes after the first two, where it is fixed.
    fn axes(self) -> Option<usize> {
        match self {
            InterpolateMode::Nearest | InterpolateMode::NearestExact | InterpolateMode::Area => None,
            InterpolateMode::Linear => Some(1),
            InterpolateMode::Bilinear | InterpolateMode::Bicubic | InterpolateMode::Lanczos => Some(2),
            InterpolateMode::Trilinear => Some(3),
        }
    }

    /// The filter of antialiasing, and how far it reaches.
    fn filter<T: Real>(self) -> Option<(fn(T) -> T, f64)> {
        match self {
            InterpolateMode::Bilinear => Some((triangle, 1.)),
            InterpolateMode::Bicubic => Some((cubic, 2.)),
            InterpolateMode::Lanczos => Some((lanczos, 3.)),
            _ => None,
        }
    }
}

options! {
    /// The options of [`interpolate`]. A mode or its name can be given instead: `"bilinear"`.
    pub struct InterpolateOptions, setters interpolate_setters {
        /// How elements between those of the input are computed; the nearest one by default.
        mode: into InterpolateMode = InterpolateMode::Nearest;
        /// Whether the first and the last elements of input and result are at the same places, and not the outer edges
        /// of these elements; false by default. Only linear, bilinear, bicubic and trilinear modes take it.
        align_corners: into Option<bool> = None;
        /// Whether the step between elements follows from the sizes and not from the given scale factor, which may
        /// differ since sizes are rounded; false by default.
        recompute_scale_factor: into Option<bool> = None;
        /// Whether a smaller result is made of all elements of the input and not only of the nearest ones; false by
        /// default. Only bilinear, bicubic and lanczos modes take it.
        antialias: of bool = false;
    }
}

impl From<InterpolateMode> for InterpolateOptions {
    #[inline]
    fn from(mode: InterpolateMode) -> Self {
        InterpolateOptions::default().mode(mode)
    }
}

/// From the mode's name.
///
/// # Panics
/// If there is no such mode.
impl From<&str> for InterpolateOptions {
    #[track_caller]
    fn from(mode: &str) -> Self {
        InterpolateOptions::default().mode(mode)
    }
}

impl InterpolateOptions {
    /// # Errors
    /// If options exclude each other, or the mode is for another number of axes.
    #[inline]
    fn check(&self, shape: &[usize], to: Resize) -> Result<()> {
        let InterpolateOptions { mode, align_corners, recompute_scale_factor, antialias } = *self;
        let wrong = |why: String| Err(Error::value(OP, why));
        let plain = matches!(mode, InterpolateMode::Nearest | InterpolateMode::NearestExact | InterpolateMode::Area);
        if align_corners.is_some() && plain {
            return wrong(format!(
                "the mode \"{mode}\" has no align_corners; linear, bilinear, bicubic and trilinear have"
            ));
        }
        if recompute_scale_factor == Some(true) && matches!(to.0, By::Size(_)) {
            return wrong(format!("recompute_scale_factor needs a scale factor, got {to}"));
        }
        if antialias && mode.filter::<f32>().is_none() {
            return wrong(format!("the mode \"{mode}\" has no antialias; bilinear, bicubic and lanczos have"));
        }
        if mode == InterpolateMode::Lanczos && !antialias {
            return wrong("the mode \"lanczos\" needs antialias".into());
        }
        if mode == InterpolateMode::Lanczos && align_corners == Some(true) {
            return wrong("the mode \"lanczos\" has no align_corners".into());
        }
        match mode.axes() {
            Some(axes) if axes + 2 != shape.len() => {
                let what = format!("the input is {shape:?}, the mode \"{mode}\" expects {}", AXES[axes - 1]);
                Err(Error::shape(OP, what))
            }
            _ => Ok(()),
        }
    }
}

const OP: &str = "interpolate";
const AXES: [&str; 3] = ["(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)"];

/// Another size for all axes after the first two.
///
/// `input` is `(N, C, L)`, `(N, C, H, W)` or `(N, C, D, H, W)`. An axis of `n` elements becomes one of `m`: the given
/// size, or `⌊n · scale_factor⌋`. Element `i` of the result lies at `s · (i + ½) − ½` in the input, with `s = n / m` or,
/// if a scale factor is given and not recomputed, `s = 1 / scale_factor`; with `align_corners` at `i · (n − 1) / (m − 1)`.
/// Around this place
/// - linear modes take `(1 − t) · x[k] + t · x[k + 1]`, `t` being the fraction of the place;
/// - bicubic takes four elements, weighted by the cubic convolution with `a = −¾` (with `antialias`, `a = −½`);
/// - nearest ones take one, and area the mean of `x[⌊i · n / m⌋]` to `x[⌈(i + 1) · n / m⌉ − 1]`.
///
/// Elements outside the input are those at its ends. With `antialias` the weights become `s` times as wide where
/// `s > 1`. As torch.nn.functional.interpolate.
///
/// ```
/// use ndnn::{functional::{self as F, InterpolateOptions, Resize}, prelude::*};
/// let x = tensor![[[0.0, 1.0, 2.0]]];
/// assert_eq!(F::interpolate(&x, Resize::size(6), "nearest")?, tensor![[[0.0, 0.0, 1.0, 1.0, 2.0, 2.0]]]);
/// assert_eq!(F::interpolate(&x, Resize::scale_factor(2.0), "linear")?, tensor![[[0.0, 0.25, 0.75, 1.25, 1.75, 2.0]]]);
/// let corners = InterpolateOptions::from("linear").align_corners(true);
/// assert_eq!(F::interpolate(&x, Resize::size(5), corners)?, tensor![[[0.0, 0.5, 1.0, 1.5, 2.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has another number of axes than the mode expects or more than the size has numbers, options exclude each
/// other, the input without its batch or the result is empty, or there is not enough memory for the result.
pub fn interpolate<T: Real>(
    input: &Tensor<T>,
    to: Resize,
    options: impl Into<InterpolateOptions>,
) -> Result<Tensor<T>> {
    interpolated(input, to, options.into())
}

/// [`interpolate`] under its former name.
///
/// # Errors
/// As [`interpolate`].
pub fn upsample<T: Real>(input: &Tensor<T>, to: Resize, options: impl Into<InterpolateOptions>) -> Result<Tensor<T>> {
    interpolated(input, to, options.into())
}

/// [`interpolate`] in the mode nearest.
///
/// # Errors
/// As [`interpolate`].
pub fn upsample_nearest<T: Real>(input: &Tensor<T>, to: Resize) -> Result<Tensor<T>> {
    interpolated(input, to, InterpolateMode::Nearest.into())
}

/// [`interpolate`] in the mode bilinear with `align_corners`.
///
/// ```
/// use ndnn::{functional::{self as F, Resize}, prelude::*};
/// let x = tensor![[[[0.0, 1.0], [2.0, 3.0]]]];
/// let y = F::upsample_bilinear(&x, Resize::size(3))?;
/// assert_eq!(y, tensor![[[[0.0, 0.5, 1.0], [1.0, 1.5, 2.0], [2.0, 2.5, 3.0]]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// As [`interpolate`].
pub fn upsample_bilinear<T: Real>(input: &Tensor<T>, to: Resize) -> Result<Tensor<T>> {
    interpolated(input, to, InterpolateOptions::from(InterpolateMode::Bilinear).align_corners(true))
}

fn interpolated<T: Real>(input: &Tensor<T>, to: Resize, options: InterpolateOptions) -> Result<Tensor<T>> {
    let shape = input.shape();
    if !(3..=5).contains(&shape.len()) {
        return Err(Error::shape(
            OP,
            format!("the input is {shape:?}, expected {}, {} or {}", AXES[0], AXES[1], AXES[2]),
        ));
    }
    options.check(shape, to)?;
    let (sizes, factors) = resized(&shape[2..], to)?;
    let area = options.mode == InterpolateMode::Area;
    let channels = if area { &[] } else { &shape[1..2] };
    if channels.contains(&0) || shape[2..].contains(&0) || (!area && sizes.contains(&0)) {
        let what = format!("the input {shape:?} to {sizes:?}: only the batch may be empty");
        return Err(Error::shape(OP, what));
    }
    let out = [&shape[..2], &sizes].concat();
    if room::<T>(OP, &out)? == 0 {
        return Ok(input.nothing(OP, &out));
    }
    if area {
        return pooling::area(OP, input, &sizes);
    }
    let used = factors.filter(|_| options.recompute_scale_factor != Some(true));
    let mut axes = Vec::new();
    for (i, &size) in sizes.iter().enumerate() {
        axes.push(taps(&options, shape[2 + i], size, used.as_ref().map(|f| f[i])));
    }
    Ok(mapped(OP, input, axes, &out))
}

/// The size of the result, and the factors where they were given.
#[inline]
fn resized(from: &[usize], to: Resize) -> Result<(Vec<usize>, Option<Vec<f64>>)> {
    let wrong = |why: &str| Error::shape(OP, format!("{to} of an input with the sizes {from:?}: {why}"));
    let each = "expected one number per axis after the first two, or one for all";
    match to.0 {
        By::Size(size) => Ok((size.over(from.len()).ok_or_else(|| wrong(each))?, None)),
        By::ScaleFactor(factor) => {
            let factors = factor.over(from.len()).ok_or_else(|| wrong(each))?;
            let size = |(&n, &f): (&usize, &f64)| Some(n as f64 * f).filter(|&m| m < isize::MAX as f64);
            let sizes: Option<Vec<usize>> = from.iter().zip(&factors).map(|both| Some(size(both)? as usize)).collect();
            Ok((sizes.ok_or_else(|| wrong("the result is too large"))?, Some(factors)))
        }
    }
}

/// The planes of `x` mapped along their axes; linear, so its derivative maps gradients back by the transposed tables.
fn mapped<T: Real>(op: &'static str, x: &Tensor<T>, axes: Vec<Taps<T>>, shape: &[usize]) -> Tensor<T> {
    let (data, from) = (resample(&x.elements(), &axes).array(shape), x.shape().to_vec());
    Tensor::op(op, data, [x], move |g, _| {
        let back = collected(axes.iter().map(transposed));
        Ok([Some(mapped("interpolate_backward", g, back, &from))])
    })
}

/// The taps of an axis of `m` elements in one of `n`.
#[concrete]
fn taps<T: Real>(options: &InterpolateOptions, n: usize, m: usize, factor: Option<f64>) -> Taps<T> {
    use InterpolateMode::{Area, Bicubic, Bilinear, Lanczos, Linear, Nearest, NearestExact, Trilinear};
    let (mode, aligned) = (options.mode, options.align_corners == Some(true));
    let number = |n: usize| T::of(n as f64);
    let step = match factor {
        _ if aligned => {
            if m > 1 {
                number(n - 1) / number(m - 1)
            } else {
                T::ZERO
            }
        }
        Some(factor) => T::of(1. / factor),
        None => number(n) / number(m),
    };
    let half = T::of(0.5);
    let mut taps = Taps::new(n);
    for i in 0..m {
        let place = if aligned { step * number(i) } else { step * (number(i) + half) - half };
        match mode {
            Nearest => taps.tap(floor_single(step * number(i)).min(n - 1), T::ONE),
            NearestExact => taps.tap(floor_single(place.max(T::ZERO) + half).min(n - 1), T::ONE),
            Area => unreachable!("the mean of a window"),
            Bilinear | Bicubic | Lanczos if options.antialias => {
                let (filter, reach) = mode.filter().expect("checked");
                antialiased(&mut taps, step * (number(i) + half), step, filter, reach);
            }
            Linear | Bilinear | Trilinear if n == m => {
                taps.tap(i, T::ONE);
                taps.tap(i, T::ZERO);
            }
            Linear | Bilinear | Trilinear => {
                let k = floor(place.max(T::ZERO)).min(n - 1);
                let t = fraction(place.max(T::ZERO), k as isize);
                taps.tap(k, T::ONE - t);
                taps.tap((k + 1).min(n - 1), t);
            }
            Bicubic | Lanczos => {
                let k = (place.as_f64().floor() as isize).min(n as isize - 1);
                let t = fraction(place, k);
                for (j, weight) in (-1..).zip(CUBIC) {
                    taps.tap((k + j).clamp(0, n as isize - 1) as usize, polynomial(weight, t));
                }
            }
        }
        taps.end();
    }
    taps
}

/// The place below, of a place that is not negative.
fn floor<T: Real>(place: T) -> usize {
    place.as_f64().floor() as usize
}

/// The place below, after rounding to single precision as in PyTorch where that has a fraction: `7.5 / 0.3` is 25.
fn floor_single<T: Real>(place: T) -> usize {
    let single = place.as_f64() as f32;
    if single < (1 << 23) as f32 { single as usize } else { floor(place) }
}

/// How far a place is from the one below it, towards the next.
fn fraction<T: Real>(place: T, below: isize) -> T {
    (place - T::of(below as f64)).max(T::ZERO).min(T::ONE)
}

/// The four weights of a cubic convolution with `a = −¾`, as polynomials in the fraction, from its 0th power on.
pub(super) const CUBIC: [[f64; 4]; 4] =
    [[0., -0.75, 1.5, -0.75], [1., 0., -2.25, 1.25], [0., 0.75, 1.5, -1.25], [0., 0., -0.75, 0.75]];

fn polynomial<T: Real>(coefficients: [f64; 4], t: T) -> T {
    coefficients.into_iter().rev().fold(T::ZERO, |sum, c| sum * t + T::of(c))
}

/// The taps of a filter around `centre`, as wide as `step` where that is more than 1, with weights that sum to 1.
fn antialiased<T: Real>(taps: &mut Taps<T>, centre: T, step: T, filter: fn(T) -> T, reach: f64) {
    let (half, wide) = (T::of(0.5), step.max(T::ONE));
    let support = T::of(reach) * wide;
    let whole = |place: T| place.max(T::ZERO).as_f64() as usize;
    let (from, end) = (whole(centre - support + half), whole(centre + support + half).min(taps.input()));
    let weight = |k: usize| filter((T::of(k as f64) - centre + half) / wide);
    let total = (from..end).map(weight).fold(T::ZERO, |sum, w| sum + w);
    let total = if total == T::ZERO { T::ONE } else { total };
    (from..end).for_each(|k| taps.tap(k, weight(k) / total));
}

fn triangle<T: Real>(x: T) -> T {
    (T::ONE - x.abs()).max(T::ZERO)
}

/// Cubic convolution with `a = −½`.
fn cubic<T: Real>(x: T) -> T {
    match x.abs() {
        x if x < T::ONE => (T::of(1.5) * x - T::of(2.5)) * x * x + T::ONE,
        x if x < T::of(2.) => (((x - T::of(5.)) * x + T::of(8.)) * x - T::of(4.)) * T::of(-0.5),
        _ => T::ZERO,
    }
}

/// `sinc(x) · sinc(x / 3)`
fn lanczos<T: Real>(x: T) -> T {
    let sinc = |x: T| if x == T::ZERO { T::ONE } else { (x * T::PI()).sin() / (x * T::PI()) };
    if x.abs() < T::of(3.) { sinc(x) * sinc(x / T::of(3.)) } else { T::ZERO }
}
