//! Windows over the last axes of an input: what convolution, pooling, folding and interpolation have in common.

use crate::{
    Error, Result,
    kernels::windows::Windows,
    tensor::{Real, Tensor},
};

/// An input with N sizes: `(N, C, *sizes)` or, without a batch, `(C, *sizes)`.
#[derive(Clone, Copy)]
pub(crate) struct Spatial<'a, const N: usize> {
    pub op: &'static str,
    pub shape: &'a [usize],
    pub sizes: [usize; N],
}

impl<'a, const N: usize> Spatial<'a, N> {
    /// The axes without a batch.
    const AXES: &'static str = ["(C, L)", "(C, H, W)", "(C, D, H, W)"][N - 1];
    /// The axes with a batch.
    const BATCHED: &'static str = ["(N, C, L)", "(N, C, H, W)", "(N, C, D, H, W)"][N - 1];

    /// # Errors
    /// If there are too few or too many axes.
    pub fn new(op: &'static str, shape: &'a [usize]) -> Result<Self> {
        let sizes = shape.last_chunk().filter(|_| shape.len() == N + 1 || shape.len() == N + 2);
        let wrong = || format!("the input is {shape:?}, expected {} or {}", Self::BATCHED, Self::AXES);
        Ok(Spatial { op, shape, sizes: *sizes.ok_or_else(|| Error::shape(op, wrong()))? })
    }

    /// The axes before the sizes.
    pub fn leading(&self) -> &'a [usize] {
        &self.shape[..self.shape.len() - N]
    }

    pub fn channels(&self) -> usize {
        self.shape[self.shape.len() - N - 1]
    }

    /// The shape for a message; without a batch axis, also how it was interpreted.
    pub fn described(&self) -> String {
        let (shape, axes) = (self.shape, self.shape.len());
        if axes == N + 2 { format!("{shape:?}") } else { format!("{shape:?}; {axes} axes are {}", Self::AXES) }
    }

    /// # Errors
    /// If there are no elements, unless the batch is empty or, if `channels_may`, there are no channels.
    pub fn filled(&self, channels_may: bool) -> Result<()> {
        let (refused, may) = match channels_may {
            true => (self.sizes.contains(&0) && !self.leading().contains(&0), "batch or channels"),
            false => (self.sizes.contains(&0) || self.channels() == 0, "the batch"),
        };
        if refused {
            return Err(Error::shape(self.op, format!("the input {:?} is empty; only {may} may be", self.shape)));
        }
        Ok(())
    }
}

/// Applies `f` to an input with a batch: an input without one becomes a batch of one, and the batch axis is removed
/// from the result.
pub(crate) fn batched<const N: usize, T: Real>(
    input: &Tensor<T>,
    f: impl FnOnce(&Tensor<T>) -> Result<Tensor<T>>,
) -> Result<Tensor<T>> {
    if input.ndim() == N + 2 { f(input) } else { f(&input.unsqueeze(0)?)?.squeeze_dim(0) }
}

/// How windows slide over N axes. Strides and dilations are at least 1.
#[derive(Clone, Copy)]
pub(crate) struct Sliding<const N: usize> {
    pub kernel: [usize; N],
    pub stride: [usize; N],
    pub dilation: [usize; N],
    /// The number of elements added before and after each axis.
    pub pads: [(usize, usize); N],
    /// Whether an incomplete last window counts too.
    pub ceil_mode: bool,
}

impl<const N: usize> Sliding<N> {
    /// The positions of the windows on an input.
    ///
    /// # Errors
    /// If the kernel has no taps, an axis is too long with its padding, or no window fits.
    pub fn over(&self, input: &Spatial<'_, N>) -> Result<Windows> {
        let &Spatial { op, shape, sizes } = input;
        let Sliding { kernel, dilation, pads, .. } = *self;
        if kernel.contains(&0) {
            return Err(Error::value(op, format!("windows of {kernel:?}: each size is at least 1")));
        }
        let (mut output, mut whole) = ([0; N], [0; N]);
        for i in 0..N {
            whole[i] = padded(op, i, sizes[i], pads[i])?;
            output[i] = self.count(i, sizes[i]).ok_or_else(|| {
                let reach = self.reach(i).min(usize::MAX as i128);
                let what =
                    format!("windows of {kernel:?} with dilation {dilation:?} span {reach} elements of axis {i}");
                let there = format!("the input {shape:?} has {} there, padding included", whole[i]);
                Error::shape(op, format!("{what} of the sizes, {there}"))
            })?;
        }
        Ok(self.windows(sizes, output, whole))
    }

    /// The positions of the windows on the output of a transposed convolution, one per element of `input`.
    ///
    /// # Errors
    /// If an output padding is neither less than the stride nor than the dilation, or the output would have an axis
    /// without elements or one that is too long.
    pub fn transposed(&self, input: &Spatial<'_, N>, output_padding: [usize; N]) -> Result<Windows> {
        let &Spatial { op, shape, sizes } = input;
        let Sliding { kernel, stride, dilation, pads, .. } = *self;
        let (least, mut output, mut whole) = (self.reached(input), [0; N], [0; N]);
        for i in 0..N {
            if output_padding[i] >= stride[i].max(dilation[i]) {
                let (p, s, d) = (output_padding[i], stride[i], dilation[i]);
                let than = format!("less than the stride, {s}, or the dilation, {d}");
                return Err(Error::value(
                    op,
                    format!("an output padding of {p} (axis {i} of the sizes) is not {than}"),
                ));
            }
            let size = least[i].saturating_add(output_padding[i] as i128);
            let fits = usize::try_from(size).ok().filter(|&n| (1..=isize::MAX as usize).contains(&n));
            output[i] = fits.ok_or_else(|| {
                let what = format!("windows of {kernel:?} with padding {:?} on the input {shape:?}", pads.map(|p| p.0));
                Error::shape(op, format!("{what} would give axis {i} of the output's sizes {size} elements"))
            })?;
            whole[i] = padded(op, i, output[i], pads[i])?;
        }
        Ok(self.windows(output, sizes, whole))
    }

    /// The windows on axes that are `whole` long with their padding.
    fn windows(&self, input: [usize; N], output: [usize; N], whole: [usize; N]) -> Windows {
        Windows {
            input: pad_to_3(input, 1),
            kernel: pad_to_3(self.kernel, 1),
            stride: pad_to_3(no_longer(self.stride, whole), 1),
            dilation: pad_to_3(no_longer(self.dilation, whole), 1),
            before: pad_to_3(self.pads.map(|p| p.0), 0),
            output: pad_to_3(output, 1),
        }
    }

    /// How many elements of each axis the windows of a transposed convolution reach, without the padding.
    pub fn reached(&self, input: &Spatial<'_, N>) -> [i128; N] {
        let mut reached = [0; N];
        for (i, reached) in reached.iter_mut().enumerate() {
            let (size, stride, (before, after)) = (input.sizes[i] as i128, self.stride[i] as i128, self.pads[i]);
            let steps = (size - 1).saturating_mul(stride).min(1 << 100);
            *reached = steps - before as i128 - after as i128 + self.reach(i);
        }
        reached
    }

    /// How many elements of axis `i` a window spans.
    fn reach(&self, i: usize) -> i128 {
        let (kernel, dilation) = (self.kernel[i] as i128, self.dilation[i] as i128);
        (kernel - 1).saturating_mul(dilation).min(1 << 100) + 1
    }

    /// The number of windows along axis `i`, `⌊(padded size − reach) / stride⌋ + 1`, rounded up with `ceil_mode`, but
    /// without a last window that starts in the padding at the end; `None` if there is none.
    fn count(&self, i: usize, size: usize) -> Option<usize> {
        let wide = |n: usize| n as i128;
        let (stride, before, after) = (wide(self.stride[i]), wide(self.pads[i].0), wide(self.pads[i].1));
        let up = if self.ceil_mode { stride - 1 } else { 0 };
        let mut count = (before + wide(size) + after - self.reach(i) + up).div_euclid(stride) + 1;
        if self.ceil_mode && (count - 1) * stride >= before + wide(size) {
            count -= 1;
        }
        usize::try_from(count).ok().filter(|&count| count > 0)
    }

    /// # Errors
    /// If the padding of an axis is more than half a window, so that a window could be entirely in it.
    pub fn half_padded(&self, op: &str) -> Result<()> {
        match (0..N).find(|&i| self.pads[i].0 > self.kernel[i] / 2) {
            None => Ok(()),
            Some(i) => {
                let (p, k) = (self.pads[i].0, self.kernel[i]);
                let what = format!("a padding of {p} is more than half a window of {k} (axis {i} of the sizes)");
                Err(Error::value(op, what))
            }
        }
    }
}

/// The length of axis `i` of the sizes including its padding.
fn padded(op: &str, i: usize, size: usize, (before, after): (usize, usize)) -> Result<usize> {
    let padded = size.checked_add(before).and_then(|n| n.checked_add(after));
    padded.filter(|&n| n <= isize::MAX as usize).ok_or_else(|| {
        Error::value(
            op,
            format!("axis {i} of the sizes, {size} elements, is too long with a padding of {before} and {after}"),
        )
    })
}

/// Limits steps to the length of an axis: no longer step leads to another place inside.
fn no_longer<const N: usize>(mut steps: [usize; N], whole: [usize; N]) -> [usize; N] {
    for i in 0..N {
        steps[i] = steps[i].min(whole[i].max(1));
    }
    steps
}

/// Pads N numbers in front to three.
pub(crate) fn pad_to_3(numbers: impl AsRef<[usize]>, fill: usize) -> [usize; 3] {
    let (numbers, mut three) = (numbers.as_ref(), [fill; 3]);
    three[3 - numbers.len()..].copy_from_slice(numbers);
    three
}
