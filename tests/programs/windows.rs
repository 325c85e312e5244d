//! Matrix products and windowed operations of the reference.

use crate::naive::{Array, broadcast, build, count};

impl Array {
    pub fn matmul(&self, other: &Array) -> Option<Array> {
        let (mut a, mut b) = (self.clone(), other.clone());
        if a.ndim() == 0 || b.ndim() == 0 {
            return None;
        }
        if self.ndim() == 1 {
            a.shape.insert(0, 1);
        }
        if other.ndim() == 1 {
            b.shape.push(1);
        }
        let ([lead_a @ .., m, k], [lead_b @ .., rows, n]) = (&a.shape[..], &b.shape[..]) else { unreachable!() };
        if k != rows {
            return None;
        }
        let lead = broadcast(lead_a, lead_b)?;
        let part = |x: &Array, at: &[usize], i: usize, j: usize| {
            let own = &at[lead.len() + 2 - x.ndim()..lead.len()];
            let own = own.iter().zip(&x.shape).map(|(&i, &n)| if n == 1 { 0 } else { i });
            x.get(&own.chain([i, j]).collect::<Vec<_>>())
        };
        let mut out = build(&[&lead[..], &[*m, *n]].concat(), |at| {
            let (i, j) = (at[lead.len()], at[lead.len() + 1]);
            (0..*k).map(|l| part(&a, at, i, l) * part(&b, at, l, j)).sum()
        });
        if other.ndim() == 1 {
            out.shape.pop();
        }
        if self.ndim() == 1 {
            out.shape.remove(lead.len());
        }
        Some(out)
    }

    /// `x Wᵀ + b` over the last axis.
    pub fn linear(&self, weight: &Array, bias: Option<&Array>) -> Option<Array> {
        let (outputs, inputs) = match weight.shape[..] {
            [inputs] => (None, inputs),
            [outputs, inputs] => (Some(outputs), inputs),
            _ => return None,
        };
        let (&features, lead) = self.shape.split_last()?;
        let bias_fits = bias.is_none_or(|b| b.shape.is_empty() || (outputs.is_some() && b.shape == [outputs.unwrap()]));
        if features != inputs || !bias_fits {
            return None;
        }
        let shape: Vec<usize> = lead.iter().copied().chain(outputs).collect();
        Some(build(&shape, |at| {
            let (row, o) = (&at[..lead.len()], at.get(lead.len()).copied().unwrap_or(0));
            let product = |i: usize| self.get(&[row, &[i]].concat()) * weight.data[o * inputs + i];
            (0..inputs).map(product).sum::<f64>() + bias.map_or(0., |b| b.data[if b.ndim() == 0 { 0 } else { o }])
        }))
    }

    /// Convolution over two axes, `(B, C, H, W)` or `(C, H, W)`.
    pub fn conv2d(&self, weight: &Array, bias: Option<&Array>, w: Window) -> Option<Array> {
        let &[features, per_group, kh, kw] = &weight.shape[..] else { return None };
        let mut x = self.clone();
        if self.ndim() == 3 {
            x.shape.insert(0, 1);
        }
        let &[batch, channels, height, width] = &x.shape[..] else { return None };
        if channels != per_group * w.groups || features % w.groups != 0 || bias.is_some_and(|b| b.shape != [features]) {
            return None;
        }
        let (oh, ow) = (w.places(height, kh, 0)?, w.places(width, kw, 1)?);
        let mut out = build(&[batch, features, oh, ow], |at| {
            let first = at[1] / (features / w.groups) * per_group;
            let mut sum = bias.map_or(0., |b| b.data[at[1]]);
            for (c, i, j) in (0..per_group).flat_map(|c| (0..kh).flat_map(move |i| (0..kw).map(move |j| (c, i, j)))) {
                if let (Some(h), Some(v)) = (w.source(at[2], i, height, 0), w.source(at[3], j, width, 1)) {
                    sum += x.get(&[at[0], first + c, h, v]) * weight.get(&[at[1], c, i, j]);
                }
            }
            sum
        });
        if self.ndim() == 3 {
            out.shape.remove(0);
        }
        Some(out)
    }

    /// Transposed convolution over two axes, `(B, C, H, W)` or `(C, H, W)`.
    pub fn conv_transpose2d(&self, weight: &Array, w: Window) -> Option<Array> {
        let &[inputs, per_group, kh, kw] = &weight.shape[..] else { return None };
        let mut x = self.clone();
        if self.ndim() == 3 {
            x.shape.insert(0, 1);
        }
        let &[batch, channels, height, width] = &x.shape[..] else { return None };
        if channels != inputs || !channels.is_multiple_of(w.groups) || channels * per_group * height * width == 0 {
            return None;
        }
        let size = |n: usize, k: usize, i: usize| {
            let reached = (n - 1) * w.stride[i] + (k - 1) * w.dilation[i] + 1;
            reached.checked_sub(2 * w.padding[i]).filter(|&n| n > 0)
        };
        let (oh, ow, each) = (size(height, kh, 0)?, size(width, kw, 1)?, channels / w.groups);
        let mut out = build(&[batch, per_group * w.groups, oh, ow], |at| {
            let (first, mut sum) = (at[1] / per_group * each, 0.);
            for (c, i, j) in (0..each).flat_map(|c| (0..kh).flat_map(move |i| (0..kw).map(move |j| (c, i, j)))) {
                if let (Some(h), Some(v)) = (w.place(at[2], i, height, 0), w.place(at[3], j, width, 1)) {
                    let weight = weight.get(&[first + c, at[1] % per_group, i, j]);
                    sum += x.get(&[at[0], first + c, h, v]) * weight;
                }
            }
            sum
        });
        if self.ndim() == 3 {
            out.shape.remove(0);
        }
        Some(out)
    }

    /// The columns of windows over the last two axes of `(B, C, H, W)` or `(C, H, W)`.
    pub fn im2col(&self, [kh, kw]: [usize; 2], w: Window) -> Option<Array> {
        if !(3..=4).contains(&self.ndim()) || count(&self.shape[self.ndim() - 3..]) == 0 {
            return None;
        }
        let (lead, at_channel) = (self.ndim() - 3, self.ndim() - 2);
        let &[channels, height, width] = &self.shape[lead..] else { return None };
        let (oh, ow) = (w.places(height, kh, 0)?, w.places(width, kw, 1)?);
        Some(build(&[&self.shape[..lead], &[channels * kh * kw, oh * ow]].concat(), |at| {
            let (row, window) = (at[lead], at[at_channel]);
            let (tap, c) = (row % (kh * kw), row / (kh * kw));
            let from = (w.source(window / ow, tap / kw, height, 0), w.source(window % ow, tap % kw, width, 1));
            let (Some(h), Some(v)) = from else { return 0. };
            self.get(&[&at[..lead], &[c, h, v]].concat())
        }))
    }

    /// The largest element of each window over the last two axes.
    pub fn max_pool2d(&self, kernel: [usize; 2], w: Window) -> Option<Array> {
        if !(3..=4).contains(&self.ndim()) || count(&self.shape[self.ndim() - 3..]) == 0 {
            return None;
        }
        if (0..2).any(|i| w.padding[i] > kernel[i] / 2) {
            return None;
        }
        let lead = self.ndim() - 2;
        let (height, width) = (self.shape[lead], self.shape[lead + 1]);
        let (oh, ow) = (w.places(height, kernel[0], 0)?, w.places(width, kernel[1], 1)?);
        let shape = [&self.shape[..lead], &[oh, ow]].concat();
        // A window that is entirely in the padding has no largest element.
        let empty = |places: usize, size, i: usize| {
            (0..places).any(|place| (0..kernel[i]).all(|tap| w.source(place, tap, size, i).is_none()))
        };
        if count(&shape) > 0 && (empty(oh, height, 0) || empty(ow, width, 1)) {
            return None;
        }
        Some(build(&shape, |at| {
            let mut best = f64::NEG_INFINITY;
            for (i, j) in (0..kernel[0]).flat_map(|i| (0..kernel[1]).map(move |j| (i, j))) {
                let from = (w.source(at[lead], i, height, 0), w.source(at[lead + 1], j, width, 1));
                if let (Some(h), Some(v)) = from {
                    best = best.max(self.get(&[&at[..lead], &[h, v]].concat()));
                }
            }
            best
        }))
    }

    /// Combines the elements of each of as many windows as the result has, which cover the last two axes evenly; no axis
    /// from `filled` on is empty.
    pub fn adaptive_pool2d(&self, size: [usize; 2], filled: usize, combine: fn(&[f64]) -> f64) -> Option<Array> {
        if !(3..=4).contains(&self.ndim()) || self.shape[filled..].contains(&0) {
            return None;
        }
        let lead = self.ndim() - 2;
        let window = |i: usize, o: usize| {
            let (n, m) = (self.shape[lead + i], size[i]);
            o * n / m..((o + 1) * n).div_ceil(m)
        };
        Some(build(&[&self.shape[..lead], &size].concat(), |at| {
            let places = window(0, at[lead]).flat_map(|h| window(1, at[lead + 1]).map(move |w| [h, w]));
            combine(&places.map(|place| self.get(&[&at[..lead], &place].concat())).collect::<Vec<_>>())
        }))
    }

    /// Adds an axis of length 1 before the last one, so that operations over one axis become operations over two; and
    /// removes it.
    pub fn lifted(&self) -> Option<Array> {
        self.unsqueeze(-2)
    }

    pub fn lowered(&self) -> Option<Array> {
        self.squeeze(&[-2])
    }
}

/// The positions of the windows of a convolution or a pooling.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub stride: [usize; 2],
    pub padding: [usize; 2],
    pub dilation: [usize; 2],
    pub groups: usize,
}

impl Window {
    /// The number of windows along an axis.
    fn places(&self, size: usize, kernel: usize, i: usize) -> Option<usize> {
        let room = (size + 2 * self.padding[i]).checked_sub((kernel - 1) * self.dilation[i] + 1)?;
        (size > 0).then(|| room / self.stride[i] + 1)
    }

    /// The window, of as many, whose tap reads this element.
    fn place(&self, at: usize, tap: usize, places: usize, i: usize) -> Option<usize> {
        let start = (at + self.padding[i]).checked_sub(tap * self.dilation[i])?;
        Some(start / self.stride[i]).filter(|&place| start.is_multiple_of(self.stride[i]) && place < places)
    }

    /// The element that a tap of a window reads, unless it is in the padding.
    fn source(&self, place: usize, tap: usize, size: usize, i: usize) -> Option<usize> {
        let at = (place * self.stride[i] + tap * self.dilation[i]).checked_sub(self.padding[i])?;
        (at < size).then_some(at)
    }
}
