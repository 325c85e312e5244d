//! Functions of images: shuffled pixels and channels, sampling at the places of a grid.

use std::sync::Arc;

use ndnn_derive::concrete;

use super::{options, upsampling::CUBIC, words};
use crate::{
    Error, Result,
    autograd::grad_with,
    kernels::{
        layout::array,
        memory::{collected, filled, vector},
        sampling::{self as kernel, OUTSIDE, Places},
        sizes::{count, room},
        threads,
    },
    ops::shared,
    tensor::{Element, Real, Tensor, grad_enabled},
};

/// Moves groups of `upscale_factor²` channels into the space of an image: `y[c, h·r + i, w·r + j] = x[c·r² + i·r + j, h,
/// w]` with `r = upscale_factor`.
///
/// `input` is `(*, C·r², H, W)`, the result `(*, C, H·r, W·r)`. From "Real-Time Single Image and Video Super-Resolution
/// Using an Efficient Sub-Pixel Convolutional Neural Network", Shi et al. 2016.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0]], [[2.0]], [[3.0]], [[4.0]]];
/// assert_eq!(F::pixel_shuffle(&x, 2)?, tensor![[[1.0, 2.0], [3.0, 4.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer than three axes, its channels cannot be divided so, the factor is 0, or the image would be too
/// large.
pub fn pixel_shuffle<T: Element>(input: &Tensor<T>, upscale_factor: usize) -> Result<Tensor<T>> {
    let r = upscale_factor;
    let (outer, [c, h, w]) = image("pixel_shuffle", input.shape(), r)?;
    let rows = r.checked_mul(r).filter(|&rr| c % rr == 0).ok_or_else(|| {
        let what = format!("the input {:?} has {c} channels, which cannot be divided by {r}²", input.shape());
        Error::shape("pixel_shuffle", what)
    })?;
    let out = sized("pixel_shuffle", input.shape(), outer, [Some(c / rows), h.checked_mul(r), w.checked_mul(r)])?;
    let batch = outer.iter().product();
    let apart = input.reshape(vec![batch, c / rows, r, r, h, w])?;
    apart.permute([0, 1, 4, 2, 5, 3])?.reshape(out)
}

/// Moves squares of `downscale_factor²` pixels into channels; it undoes [`pixel_shuffle`].
///
/// `input` is `(*, C, H·r, W·r)`, the result `(*, C·r², H, W)` with `r = downscale_factor`.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0, 2.0], [3.0, 4.0]]];
/// assert_eq!(F::pixel_unshuffle(&x, 2)?, tensor![[[1.0]], [[2.0]], [[3.0]], [[4.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer than three axes, its height or width cannot be divided so, the factor is 0, or there would be
/// too many channels.
pub fn pixel_unshuffle<T: Element>(input: &Tensor<T>, downscale_factor: usize) -> Result<Tensor<T>> {
    let r = downscale_factor;
    let (outer, [c, h, w]) = image("pixel_unshuffle", input.shape(), r)?;
    if h % r != 0 || w % r != 0 {
        let what = format!("the input {:?} is an image of {h} x {w}, which cannot be divided by {r}", input.shape());
        return Err(Error::shape("pixel_unshuffle", what));
    }
    let channels = r.checked_mul(r).and_then(|rr| c.checked_mul(rr));
    let out = sized("pixel_unshuffle", input.shape(), outer, [channels, Some(h / r), Some(w / r)])?;
    let batch = outer.iter().product();
    let apart = input.reshape(vec![batch, c, h / r, r, w / r, r])?;
    apart.permute([0, 1, 3, 5, 2, 4])?.reshape(out)
}

/// The axes before an image, and its channels, height and width.
fn image<'a>(op: &str, shape: &'a [usize], factor: usize) -> Result<(&'a [usize], [usize; 3])> {
    if factor == 0 {
        return Err(Error::value(op, "a factor of 0, expected at least 1"));
    }
    match shape.split_last_chunk() {
        Some((outer, image)) => Ok((outer, *image)),
        None => Err(Error::shape(op, format!("the input is {shape:?}, expected (*, C, H, W)"))),
    }
}

/// The shape of the result, whose sizes are `None` where they are too large.
#[inline]
fn sized(op: &str, from: &[usize], outer: &[usize], image: [Option<usize>; 3]) -> Result<Vec<usize>> {
    let whole = image.into_iter().collect::<Option<Vec<usize>>>().map(|image| [outer, &image].concat());
    let fits = whole.filter(|shape| count(shape.iter().copied()).is_some());
    fits.ok_or_else(|| Error::shape(op, format!("the result of the input {from:?} would have too long axes")))
}

/// Deals the channels to `groups` groups in turn: channel `i` of group `j` comes to `i · groups + j`.
///
/// `input` is `(N, C, *)` with at least three axes, and so is the result.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[1.0], [2.0], [3.0], [4.0]]];
/// assert_eq!(F::channel_shuffle(&x, 2)?, tensor![[[1.0], [3.0], [2.0], [4.0]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If the input has fewer than three axes, or its channels are not a multiple of `groups`.
pub fn channel_shuffle<T: Element>(input: &Tensor<T>, groups: usize) -> Result<Tensor<T>> {
    let shape = input.shape();
    let wrong = |why: String| Error::shape("channel_shuffle", why);
    if shape.len() < 3 {
        return Err(wrong(format!("the input is {shape:?}, expected (N, C, *) with at least three axes")));
    }
    let channels = shape[1];
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(wrong(format!("the input {shape:?} has {channels} channels, which {groups} groups do not divide")));
    }
    if input.numel() == 0 {
        return input.reshape(shape.to_vec());
    }
    let apart = input.reshape(vec![shape[0], groups, channels / groups, shape[2..].iter().product()])?;
    apart.transpose(1, 2)?.reshape(shape.to_vec())
}

words! {
    /// How [`grid_sample`] computes an element that lies between those of the input.
    pub enum GridSampleMode, "mode" {
        /// Linear along each axis, over two and over three axes; the default.
        #[default]
        Bilinear = "bilinear",
        /// The nearest element; of two equally near ones that with the even index.
        Nearest = "nearest",
        /// Cubic convolution along each axis, with `a = −¾`.
        Bicubic = "bicubic",
    }
}

words! {
    /// What [`grid_sample`] takes outside the input.
    pub enum GridSamplePadding, "padding mode" {
        /// Zeros; the default.
        #[default]
        Zeros = "zeros",
        /// The elements at the border.
        Border = "border",
        /// The elements inside, reflected at the border as often as needed.
        Reflection = "reflection",
    }
}

options! {
    /// The options of [`grid_sample`].
    pub struct GridSampleOptions, setters grid_sample_setters {
        /// How elements between those of the input are computed; linearly by default.
        mode: into GridSampleMode = GridSampleMode::Bilinear;
        /// What lies outside the input; zeros by default.
        padding_mode: into GridSamplePadding = GridSamplePadding::Zeros;
        /// Whether -1 and 1 are the centres of the first and the last elements, and not their outer edges; false by
        /// default.
        align_corners: of bool = false;
    }
}

/// The elements of `input` at the places that `grid` names.
///
/// `input` is `(N, C, H, W)` and `grid` `(N, H', W', 2)`, or `(N, C, D, H, W)` and `(N, D', H', W', 3)`; the result is
/// `(N, C, H', W')` or `(N, C, D', H', W')`. The last axis of `grid` is `(x, y)` or `(x, y, z)`: `x` from -1, the left
/// edge, to 1, the right edge, and likewise `y` from top to bottom. As torch.nn.functional.grid_sample.
///
/// The gradient of `grid` is that of the piecewise smooth function, 0 in the mode nearest and where the border holds a
/// place; unlike PyTorch's it can be differentiated again.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let x = tensor![[[[1.0, 2.0], [3.0, 4.0]]]];
/// let grid = tensor![[[[0.0, 0.0], [0.5, -0.5]]]];
/// assert_eq!(F::grid_sample(&x, &grid, Default::default())?, tensor![[[[2.5, 2.0]]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If input and grid have other shapes than these, the input has no elements to take, or there is not enough memory for
/// the result.
pub fn grid_sample<T: Real>(input: &Tensor<T>, grid: &Tensor<T>, options: GridSampleOptions) -> Result<Tensor<T>> {
    let out = sampled_shape(input.shape(), grid.shape())?;
    room::<T>("grid_sample", &out)?;
    let sizes = &input.shape()[2..];
    let (axes, taps) = (sizes.len(), options.taps());
    room::<usize>("grid_sample", &[&grid.shape()[..=axes], &[taps.pow(axes as u32)]].concat())?;
    let spots = grid.shape()[1..=axes].iter().product();
    let rules: Vec<Rule<T>> = sizes.iter().rev().map(|&size| Rule::new(size, options)).collect();
    let (weights, at) = tapped(grid, rules, options);
    let weights = weights.reshape(vec![input.shape()[0], spots, taps.pow(axes as u32)])?;
    let places = Places {
        batch: input.shape()[0],
        channels: input.shape()[1],
        plane: sizes.iter().product(),
        spots,
        taps: taps.pow(axes as u32),
        at,
    };
    let shapes = [input.shape().to_vec(), weights.shape().to_vec(), out];
    Ok(sampled(input, &weights, &Arc::new(Sampling { places, shapes })))
}

impl GridSampleOptions {
    /// The number of elements along each axis of which one is made.
    fn taps(&self) -> usize {
        match self.mode {
            GridSampleMode::Nearest => 1,
            GridSampleMode::Bilinear => 2,
            GridSampleMode::Bicubic => 4,
        }
    }
}

/// The shape of the result.
#[inline]
fn sampled_shape(input: &[usize], grid: &[usize]) -> Result<Vec<usize>> {
    let wrong =
        |why: &str| Err(Error::shape("grid_sample", format!("the input is {input:?}, the grid {grid:?}: {why}")));
    let axes = input.len().wrapping_sub(2);
    if !(2..=3).contains(&axes) || grid.len() != input.len() {
        return wrong("expected (N, C, H, W) and (N, H', W', 2), or (N, C, D, H, W) and (N, D', H', W', 3)");
    }
    if grid[axes + 1] != axes {
        return wrong(&format!("expected a last axis of {axes}, one number for each axis after the channels"));
    }
    if grid[0] != input[0] {
        return wrong("expected equal batches");
    }
    if input[2..].contains(&0) {
        return wrong("only the batch, the channels and the grid may be empty");
    }
    Ok([&input[..2], &grid[1..=axes]].concat())
}

/// Where the coordinates of one axis lie on it.
struct Rule<T> {
    size: usize,
    /// A place is `(x + 1) · scale − shift`.
    scale: T,
    shift: T,
    padding: GridSamplePadding,
    aligned: bool,
}

impl<T: Real> Rule<T> {
    fn new(size: usize, options: GridSampleOptions) -> Self {
        let aligned = options.align_corners;
        let (length, shift) = if aligned { (size - 1, 0.) } else { (size, 0.5) };
        Rule { size, scale: T::of(length as f64 / 2.), shift: T::of(shift), padding: options.padding_mode, aligned }
    }

    fn place(&self, x: T) -> T {
        (x + T::ONE) * self.scale - self.shift
    }

    /// The place inside that stands for a place, and the slope there: 1, -1, or 0 where the border holds it.
    fn inside(&self, place: T) -> (T, T) {
        let clipped = |place: T, slope: T| match T::of((self.size - 1) as f64) {
            last if place >= last => (last, T::ZERO),
            _ if place > T::ZERO => (place, slope),
            // NaN too, as in PyTorch.
            _ => (T::ZERO, T::ZERO),
        };
        match self.padding {
            GridSamplePadding::Zeros => (place, T::ONE),
            GridSamplePadding::Border => clipped(place, T::ONE),
            GridSamplePadding::Reflection => {
                let low = if self.aligned { T::ZERO } else { T::of(-0.5) };
                let span = self.scale * T::of(2.);
                if span == T::ZERO {
                    return (T::ZERO, T::ZERO);
                }
                let sign = if place < low { -T::ONE } else { T::ONE };
                let rest = (place - low).abs() % (span + span);
                let (rest, slope) = if rest > span { (span + span - rest, -sign) } else { (rest, sign) };
                clipped(rest + low, slope)
            }
        }
    }

    /// The index of the element at a whole place, times `stride`.
    fn index(&self, place: T, stride: usize) -> usize {
        let place = place.as_f64();
        if place >= 0. && place < self.size as f64 { place as usize * stride } else { OUTSIDE }
    }

    /// The fraction of a place and the slope there, and into `along` the indices of its taps. The fraction of the nearest
    /// element is its weight, 1.
    fn tapped(&self, place: T, mode: GridSampleMode, stride: usize, along: &mut [usize; 4]) -> (T, T) {
        // A place that is no number makes the result NaN: it has a tap.
        let below = |place: T| if place.is_finite() { place.floor() } else { T::ZERO };
        match mode {
            GridSampleMode::Nearest => {
                let nearest = T::of(self.inside(place).0.as_f64().round_ties_even());
                along[0] = self.index(nearest, stride);
                (T::ONE, T::ZERO)
            }
            GridSampleMode::Bilinear => {
                let (place, slope) = self.inside(place);
                let below = below(place);
                along[0] = self.index(below, stride);
                along[1] = self.index(below + T::ONE, stride);
                (place - below, slope)
            }
            GridSampleMode::Bicubic => {
                let below = below(place);
                for (k, along) in along.iter_mut().enumerate() {
                    let tap = below + T::of(k as f64 - 1.);
                    *along = self.index(self.inside(tap).0.round(), stride);
                }
                (place - below, T::ONE)
            }
        }
    }
}

impl GridSampleOptions {
    /// The weights of the taps along one axis, and their slopes, from the fraction of a place.
    fn along<T: Real>(&self, t: T) -> ([T; 4], [T; 4]) {
        match self.mode {
            GridSampleMode::Nearest => ([T::ONE; 4], [T::ZERO; 4]),
            GridSampleMode::Bilinear => ([T::ONE - t, t, T::ZERO, T::ZERO], [-T::ONE, T::ONE, T::ZERO, T::ZERO]),
            GridSampleMode::Bicubic => (
                CUBIC.map(|[a, b, c, d]| ((t * T::of(d) + T::of(c)) * t + T::of(b)) * t + T::of(a)),
                CUBIC.map(|[_, b, c, d]| (t * T::of(3. * d) + T::of(2. * c)) * t + T::of(b)),
            ),
        }
    }
}

/// The weight of each tap of each place, and its index in a plane: the taps of the first axis of a place next to one another.
#[concrete]
fn grid_taps<T: Real>(grid: &[T], rules: &[Rule<T>], options: GridSampleOptions) -> (Vec<T>, Vec<usize>) {
    let (axes, taps) = (rules.len(), options.taps());
    let all = taps.pow(axes as u32);
    let spots = grid.len() / axes;
    let (mut weights, mut at) = (filled(spots * all, T::ONE), filled(spots * all, 0usize));
    let parts = weights.chunks_mut(SPOTS * all).zip(at.chunks_mut(SPOTS * all));
    threads::each(spots * all, grid.chunks(SPOTS * axes).zip(parts), |(grid, (weights, at))| {
        let each = weights.chunks_exact_mut(all).zip(at.chunks_exact_mut(all));
        for (spot, (weights, at)) in grid.chunks_exact(axes).zip(each) {
            // The distance of elements along the axis.
            let (mut count, mut stride) = (1, 1);
            for (rule, &x) in rules.iter().zip(spot) {
                let mut along = [OUTSIDE; 4];
                let (fraction, _) = rule.tapped(rule.place(x), options.mode, stride, &mut along);
                let (factors, _) = options.along(fraction);
                for k in (0..taps).rev() {
                    for i in 0..count {
                        // `OUTSIDE` stays what it is.
                        at[k * count + i] = at[i].saturating_add(along[k]);
                        weights[k * count + i] = factors[k] * weights[i];
                    }
                }
                (count, stride) = (count * taps, stride * rule.size);
            }
        }
    });
    (weights, at)
}

/// [`grid_taps`], whose weights are a function of the grid.
fn tapped<T: Real>(grid: &Tensor<T>, rules: Vec<Rule<T>>, options: GridSampleOptions) -> (Tensor<T>, Vec<usize>) {
    let (weights, at) = grid_taps(&grid.elements(), &rules, options);
    let axes = rules.len();
    let (spots, all) = (grid.numel() / axes, options.taps().pow(axes as u32));
    let kept = grid.clone();
    let weights = Tensor::op("grid_weights", array(&[spots, all], weights), [grid], move |g, _| {
        if !grad_enabled() {
            return Ok([Some(array(kept.shape(), grid_slopes(g, &kept, &rules, options)).into())]);
        }
        // Composed of operations, which can be differentiated in turn.
        let fractions = fractions(&kept, &rules, options).reshape([spots, axes])?;
        let weights = self::weights(&fractions, options)?;
        Ok([grad_with(&[&weights], &[Some(g)], &[&kept], true)?.swap_remove(0)])
    });
    (weights, at)
}

/// Places per task.
const SPOTS: usize = 1 << 11;

/// The gradient of the grid, from that of the weights.
#[concrete]
fn grid_slopes<T: Real>(g: &Tensor<T>, grid: &Tensor<T>, rules: &[Rule<T>], options: GridSampleOptions) -> Vec<T> {
    let (axes, taps) = (rules.len(), options.taps());
    let all = taps.pow(axes as u32);
    let mut slopes = filled(grid.numel(), T::ZERO);
    let (g, grid) = (g.elements(), grid.elements());
    let parts = g.chunks(SPOTS * all).zip(grid.chunks(SPOTS * axes)).zip(slopes.chunks_mut(SPOTS * axes));
    threads::each(g.len(), parts, |((g, grid), slopes)| {
        let each = g.chunks_exact(all).zip(grid.chunks_exact(axes)).zip(slopes.chunks_exact_mut(axes));
        for ((g, spot), slopes) in each {
            let mut factors = [([T::ONE; 4], [T::ZERO; 4]); 3];
            for (i, (rule, &x)) in rules.iter().zip(spot).enumerate() {
                let (fraction, slope) = rule.tapped(rule.place(x), options.mode, 1, &mut [0; 4]);
                (factors[i], slopes[i]) = (options.along(fraction), slope * rule.scale);
            }
            for (axis, slope) in slopes.iter_mut().enumerate().filter(|(_, slope)| **slope != T::ZERO) {
                let mut sum = T::ZERO;
                for (n, &g) in g.iter().enumerate() {
                    let (mut rest, mut product) = (n, g);
                    for (i, (weights, slopes)) in factors[..axes].iter().enumerate() {
                        product *= if i == axis { slopes[rest % taps] } else { weights[rest % taps] };
                        rest /= taps;
                    }
                    sum += product;
                }
                *slope *= sum;
            }
        }
    });
    slopes
}

/// How far each coordinate is from the element before it, and its slope.
#[concrete]
fn fractions_and_slopes<T: Real>(grid: &[T], rules: &[Rule<T>], options: GridSampleOptions) -> [Vec<T>; 2] {
    let (mut fractions, mut slopes) = (vector(grid.len()), vector(grid.len()));
    for spot in grid.chunks_exact(rules.len()) {
        for (&x, rule) in spot.iter().zip(rules) {
            let (fraction, slope) = rule.tapped(rule.place(x), options.mode, 1, &mut [0; 4]);
            fractions.push(fraction);
            slopes.push(slope * rule.scale);
        }
    }
    [fractions, slopes]
}

/// How far each place is from the element below it, as a function of the grid.
fn fractions<T: Real>(grid: &Tensor<T>, rules: &[Rule<T>], options: GridSampleOptions) -> Tensor<T> {
    let [fractions, slopes] = fractions_and_slopes(&grid.elements(), rules, options);
    let slopes = Tensor::from(array(grid.shape(), slopes));
    let run = move |g: &Tensor<T>, _| Ok([Some(shared(g, &slopes)?)]);
    Tensor::op("grid_position", array(grid.shape(), fractions), [grid], run)
}

/// The weight of each tap, `(spots, taps)`, from the fractions `(spots, axes)`.
fn weights<T: Real>(fractions: &Tensor<T>, options: GridSampleOptions) -> Result<Tensor<T>> {
    let mut all: Option<Tensor<T>> = None;
    for t in fractions.unbind(-1)? {
        let along = match options.mode {
            GridSampleMode::Nearest => vec![t],
            GridSampleMode::Bicubic => collected(CUBIC.map(|[a, b, c, d]| {
                let slope = (&t * T::of(d) + T::of(c)) * &t + T::of(b);
                slope * &t + T::of(a)
            })),
            _ => vec![-&t + T::ONE, t],
        };
        let along = Tensor::stack(&along, -1)?;
        all = Some(match all {
            None => along,
            Some(inner) => (along.unsqueeze(-1)? * inner.unsqueeze(-2)?).flatten(-2, -1)?,
        });
    }
    Ok(all.expect("two or three axes"))
}

/// The places of a sampling, and the shapes of the input, the weights and the result.
struct Sampling {
    places: Places,
    shapes: [Vec<usize>; 3],
}

/// The weighted sums of elements of `x`. It is linear in both, and so are its two derivatives, [`spread`] and
/// [`products`]: of each of the three the other two are the derivatives.
fn sampled<T: Real>(x: &Tensor<T>, w: &Tensor<T>, by: &Arc<Sampling>) -> Tensor<T> {
    let out = array(&by.shapes[2], kernel::sample(&by.places, &x.elements(), &w.elements()));
    let (kept, by) = ([x.clone(), w.clone()], by.clone());
    Tensor::op("grid_sample", out, [x, w], move |g, [to_x, to_w]| {
        let [x, w] = &kept;
        Ok([to_x.then(|| spread(g, w, &by)), to_w.then(|| products(g, x, &by))])
    })
}

fn spread<T: Real>(g: &Tensor<T>, w: &Tensor<T>, by: &Arc<Sampling>) -> Tensor<T> {
    let out = array(&by.shapes[0], kernel::spread(&by.places, &g.elements(), &w.elements()));
    let (kept, by) = ([g.clone(), w.clone()], by.clone());
    Tensor::op("grid_sample_spread", out, [g, w], move |h, [to_g, to_w]| {
        let [g, w] = &kept;
        Ok([to_g.then(|| sampled(h, w, &by)), to_w.then(|| products(g, h, &by))])
    })
}

fn products<T: Real>(g: &Tensor<T>, x: &Tensor<T>, by: &Arc<Sampling>) -> Tensor<T> {
    let out = array(&by.shapes[1], kernel::products(&by.places, &g.elements(), &x.elements()));
    let (kept, by) = ([g.clone(), x.clone()], by.clone());
    Tensor::op("grid_sample_products", out, [g, x], move |h, [to_g, to_x]| {
        let [g, x] = &kept;
        Ok([to_g.then(|| sampled(x, h, &by)), to_x.then(|| spread(g, h, &by))])
    })
}

/// The grid with which [`grid_sample`] applies affine maps: `theta · (x, y, 1)ᵀ` for each place of an image.
///
/// `theta` is `(N, 2, 3)` and `size` `(N, C, H, W)`, or `(N, 3, 4)` and `(N, C, D, H, W)`; the result is `(N, H, W, 2)`
/// or `(N, D, H, W, 3)`. With `align_corners`, `x` goes from -1 to 1 over the centres of the elements, otherwise over
/// their outer edges. As torch.nn.functional.affine_grid, whose `align_corners` is false by default.
///
/// ```
/// use ndnn::{functional as F, prelude::*};
/// let mirrored = tensor![[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]];
/// let grid = F::affine_grid(&mirrored, [1, 1, 1, 2], false)?;
/// assert_eq!(grid, tensor![[[[0.5, 0.0], [-0.5, 0.0]]]]);
/// assert_eq!(F::grid_sample(&tensor![[[[1.0, 2.0]]]], &grid, Default::default())?, tensor![[[[2.0, 1.0]]]]);
/// # Ok::<(), ndnn::Error>(())
/// ```
///
/// # Errors
/// If `theta` and `size` do not match, a size is 0, or there is not enough memory for the result.
pub fn affine_grid<T: Real>(theta: &Tensor<T>, size: impl AsRef<[usize]>, align_corners: bool) -> Result<Tensor<T>> {
    let size = size.as_ref();
    let wrong = |why: &str| Error::shape("affine_grid", format!("theta {:?}, size {size:?}: {why}", theta.shape()));
    let axes = match size.len() {
        4 => 2,
        5 => 3,
        _ => return Err(wrong("expected a size (N, C, H, W) or (N, C, D, H, W)")),
    };
    if *theta.shape() != [size[0], axes, axes + 1] {
        return Err(wrong(&format!("expected theta [{}, {axes}, {}]", size[0], axes + 1)));
    }
    if size.contains(&0) {
        return Err(wrong("each size is at least 1"));
    }
    let sizes = &size[2..];
    let out = [&size[..1], sizes, &[axes]].concat();
    room::<T>("affine_grid", &out)?;
    room::<T>("affine_grid", &[sizes, &[axes + 1]].concat())?;
    let base = places::<T>(sizes, align_corners)?;
    base.matmul(&theta.transpose(1, 2)?)?.reshape(out)
}

/// The coordinates `(x, y, 1)` or `(x, y, z, 1)` of each place.
fn places<T: Real>(sizes: &[usize], align_corners: bool) -> Result<Tensor<T>> {
    let line = |&n: &usize| {
        let line = if n == 1 { Tensor::zeros([1]) } else { Tensor::linspace(-T::ONE, T::ONE, n) };
        if align_corners { line } else { line * (T::of((n - 1) as f64) / T::of(n as f64)) }
    };
    let mut columns = Tensor::meshgrid(&collected(sizes.iter().map(line)))?;
    columns.reverse();
    columns.push(Tensor::ones(sizes));
    Tensor::stack(&columns, -1)?.flatten(0, -2)
}
