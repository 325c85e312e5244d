//! Convolution as a sum over the taps of its kernel: one product of matrices per tap, and no columns.
//!
//! One operand is copied once into padded planes, in which elements that are a stride apart are neighbours. Then what one tap
//! meets, for all windows of some rows, is a part of these planes as it stands. Between two rows there are a few results
//! that belong to no window; they are computed and left out.

use std::collections::BTreeMap;

use ndarray::{ArrayView2, ArrayViewMut2, ShapeBuilder, s};

use super::{
    conv::{ConvSizes, SUMS, run_tasks},
    copy::copy_into,
    gemm::product,
    im2col::{gather, scatter},
    layout::sort_falling,
    memory::{collected, filled, recycle, sized},
    sizes::saturating,
    threads::{self, Cut},
    thresholds::ELEMENTWISE_TASK,
    windows::{Windows, per_axis},
};
use crate::number::Real;

/// Columns of one product. (Tests have several tiles.)
const COLUMNS: usize = if cfg!(test) { 16 } else { 512 };
/// Minimum number of channels of input and output in a group: each product takes as many steps.
const CHANNELS: usize = 16;
/// Maximum number of parts into which the planes are divided.
const PHASES: usize = 16;
/// Maximum number of results per result that is wanted, in quarters. (Tests compute any.)
const SPARE: usize = if cfg!(test) { 1000 } else { 5 };

/// How the elements of one axis stand in the planes: first those at places that are multiples of `step`, then those after
/// them, and so on.
#[derive(Clone, Copy)]
struct Line {
    len: usize,
    /// The zeros before the first element.
    before: usize,
    step: usize,
    /// The places for each remainder.
    size: usize,
}

impl Line {
    /// The first element with this remainder, its place, and how many there are.
    fn phase(&self, remainder: usize) -> (usize, usize, usize) {
        let first = (remainder + self.step - self.before % self.step) % self.step;
        let place = (first + self.before) / self.step;
        let count = self.len.saturating_sub(first).div_ceil(self.step);
        (first, place, count.min(self.size.saturating_sub(place)))
    }
}

/// Taps of one product: a single one, or one for each part of the planes, all of which meet elements at the same place of their
/// parts.
struct Bundle {
    taps: Vec<usize>,
    /// Where they begin in the planes.
    offset: usize,
    /// How many taps stand before them in the weight.
    first: usize,
}

impl Bundle {
    fn one(tap: usize, offset: usize) -> Self {
        Bundle { taps: vec![tap], offset, first: 0 }
    }
}

/// Results at places next to one another: what is added to them, and which elements of the result they are.
struct Pass {
    taps: Vec<Bundle>,
    first: [usize; 3],
    step: [usize; 3],
    count: [usize; 3],
}

/// Rows of results that are computed together.
struct Tile {
    row: usize,
    rows: usize,
    /// Where the first row begins, and the number of results up to the end of the last one.
    start: usize,
    columns: usize,
}

/// A convolution, or a transposed one, by taps.
pub struct Plan {
    windows: Windows,
    transposed: bool,
    lines: [Line; 3],
    passes: Vec<Pass>,
}

/// The tap `n` along each axis.
fn tap(windows: &Windows, n: usize) -> [usize; 3] {
    let [_, kh, kw] = windows.kernel;
    [n / (kh * kw), n / kw % kh, n % kw]
}

impl Plan {
    /// Whether products by taps are faster than columns, and how they are done.
    fn worth(sizes: &ConvSizes) -> Option<Windows> {
        let windows = sizes.windows.merged();
        let (channels, features) = sizes.group();
        let phases = saturating(windows.stride);
        let spans = |i: usize| (windows.kernel[i] - 1).saturating_mul(windows.dilation[i]) >= windows.stride[i] - 1;
        let worth = windows.kernel_len() > 1 && channels.min(features) >= CHANNELS && phases <= PHASES;
        (worth && (0..3).all(spans)).then_some(windows)
    }

    /// A plan without passes, unless the planes of all channels are mostly padding.
    fn of(windows: Windows, transposed: bool, lines: [Line; 3], (channels, features): (usize, usize)) -> Option<Plan> {
        let plan = Plan { windows, transposed, lines, passes: Vec::new() };
        let copied = if transposed { features } else { channels };
        let [input, output] = [(channels, windows.input), (features, windows.output)]
            .map(|(n, sizes)| saturating([n.min(copied)].into_iter().chain(sizes)));
        let room = input.saturating_add(output).saturating_mul(SPARE);
        (saturating([copied, plan.plane()]) <= room).then_some(plan)
    }

    /// With these passes, as long as few results are left out.
    fn with(mut self, passes: Vec<Pass>) -> Option<Plan> {
        self.passes = passes;
        self.passes.iter_mut().flat_map(|p| &mut p.taps).fold(0, |before, bundle| {
            bundle.first = before;
            before + bundle.taps.len()
        });
        let all: usize = self.passes.iter().map(|p| self.rows(p) * self.lines[2].size).sum();
        let wanted: usize = self.passes.iter().map(|p| p.count.iter().product::<usize>()).sum();
        (wanted > 0 && all / SPARE <= wanted / 4).then_some(self)
    }

    /// The plan of a convolution; the planes are those of its input.
    pub fn forward(sizes: &ConvSizes) -> Option<Plan> {
        let windows = Self::worth(sizes)?;
        let Windows { input, kernel, stride, dilation, before, output } = windows;
        let size = |i: usize| output[i] + (kernel[i] - 1) * dilation[i] / stride[i];
        let lines = per_axis(|i| Line { len: input[i], before: before[i], step: stride[i], size: size(i) });
        let plan = Self::of(windows, false, lines, sizes.group())?;
        let inner = lines[0].size * lines[1].size * lines[2].size;
        let mut places: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for n in 0..windows.kernel_len() {
            let along = tap(&windows, n);
            let (mut phase, mut at) = (0, 0);
            for i in 0..3 {
                let place = along[i] * dilation[i];
                phase = phase * stride[i] + place % stride[i];
                at = at * lines[i].size + place / stride[i];
            }
            places.entry(at).or_default().push((phase, n));
        }
        let mut taps = Vec::new();
        for (at, mut found) in places {
            sort_falling(&mut found, |&(phase, _)| -(phase as isize));
            match found.len() == saturating(stride) {
                true => taps.push(Bundle { taps: found.into_iter().map(|(_, n)| n).collect(), offset: at, first: 0 }),
                false => taps.extend(found.into_iter().map(|(phase, n)| Bundle::one(n, phase * inner + at))),
            }
        }
        let passes = vec![Pass { taps, first: [0; 3], step: [1; 3], count: output }];
        plan.with(passes)
    }

    /// The plan of a transposed convolution; the planes are those of the convolution's output.
    pub fn transposed(sizes: &ConvSizes) -> Option<Plan> {
        let windows = Self::worth(sizes)?;
        let Windows { input, stride, dilation, before, output, .. } = windows;
        let whole = |i: usize| Line { len: input[i], before: before[i], step: stride[i], size: usize::MAX };
        let remainders = per_axis(|i| collected((0..stride[i]).map(|r| whole(i).phase(r))));
        // Along each axis, result j of a remainder takes from element `place + j - shift` for each of its taps.
        let shift = |i: usize, k: usize| (k * dilation[i] % stride[i], k * dilation[i] / stride[i]);
        let lines = per_axis(|i| {
            let shifts = (0..windows.kernel[i]).map(|k| shift(i, k));
            let zeros = shifts.clone().map(|(r, shift)| shift.saturating_sub(remainders[i][r].1)).max().unwrap_or(0);
            let end = shifts.map(|(r, shift)| {
                let (_, place, count) = remainders[i][r];
                (place + count + zeros).saturating_sub(shift)
            });
            Line { len: output[i], before: zeros, step: 1, size: end.max().unwrap_or(1).max(output[i] + zeros) }
        });
        let plan = Self::of(windows, true, lines, sizes.group())?;
        let passes = collected((0..saturating(stride)).map(|phase| {
            let r = [phase / (stride[1] * stride[2]), phase / stride[2] % stride[1], phase % stride[2]];
            let of = per_axis(|i| remainders[i][r[i]]);
            let offset = |n: usize| {
                let taps = tap(&windows, n);
                (0..3).try_fold(0, |at, i| {
                    let (remainder, shift) = shift(i, taps[i]);
                    let place = of[i].1 + lines[i].before;
                    (remainder == r[i]).then(|| at * lines[i].size + place - shift)
                })
            };
            let taps = (0..windows.kernel_len()).filter_map(|n| Some(Bundle::one(n, offset(n)?)));
            Pass { taps: collected(taps), first: of.map(|o| o.0), step: stride, count: of.map(|o| o.2) }
        }));
        plan.with(passes)
    }

    /// The elements of one plane.
    fn plane(&self) -> usize {
        saturating(self.lines.map(|line| line.step.saturating_mul(line.size)))
    }

    /// The rows of results, some of which may belong to no window.
    fn rows(&self, pass: &Pass) -> usize {
        match pass.count {
            [d, h, w] if d > 0 && h > 0 && w > 0 => (d - 1) * self.lines[1].size + h,
            _ => 0,
        }
    }

    /// The rows of one tile.
    fn tall(&self) -> usize {
        (COLUMNS / self.lines[2].size).max(1)
    }

    /// The number of tiles into which the rows of a pass are cut.
    fn tiles(&self, pass: &Pass) -> usize {
        self.rows(pass).div_ceil(self.tall())
    }

    /// The `i`-th tile of a pass.
    fn tile(&self, pass: &Pass, i: usize) -> Tile {
        let (width, row) = (self.lines[2].size, i * self.tall());
        let rows = self.tall().min(self.rows(pass) - row);
        Tile { row, rows, start: row * width, columns: (rows - 1) * width + pass.count[2] }
    }

    /// Calls `f` for each row of windows in a tile: where it begins in the tile, and its row and plane of windows.
    fn each_row(&self, pass: &Pass, tile: &Tile, f: &mut dyn FnMut(usize, usize, usize)) {
        for row in 0..tile.rows {
            let (d, h) = ((tile.row + row) / self.lines[1].size, (tile.row + row) % self.lines[1].size);
            if h < pass.count[1] {
                f(row * self.lines[2].size, d, h);
            }
        }
    }

    /// The planes of all channels of `x`.
    fn planes<T: Real>(&self, x: &[T]) -> Vec<T> {
        let (size, len) = (self.plane(), self.lines.iter().map(|line| line.len).product::<usize>());
        let mut planes = filled(x.len() / len * size, T::zero());
        let each = ELEMENTWISE_TASK.div_ceil(size);
        threads::chunks(&mut planes, each * size, &|i, planes| {
            for (j, plane) in planes.chunks_exact_mut(size).enumerate() {
                self.place(&x[(i * each + j) * len..][..len], plane);
            }
        });
        planes
    }

    fn place<T: Real>(&self, x: &[T], plane: &mut [T]) {
        let [d, h, w] = self.lines;
        for phase in 0..d.step * h.step * w.step {
            let [pd, ph, pw] =
                [d.phase(phase / (h.step * w.step)), h.phase(phase / w.step % h.step), w.phase(phase % w.step)];
            for i in 0..pd.2 * ph.2 {
                let (i, j) = (i / ph.2, i % ph.2);
                let from = &x[((pd.0 + i * d.step) * h.len + ph.0 + j * h.step) * w.len..][..w.len];
                let to = ((phase * d.size + pd.1 + i) * h.size + ph.1 + j) * w.size + pw.1;
                gather(&from[pw.0.min(w.len)..], w.step, &mut plane[to..to + pw.2]);
            }
        }
    }

    /// What the taps meet in a tile of the `i`-th sample and group, one row per channel and tap.
    fn seen<'a, T>(
        &self,
        planes: &'a [T],
        i: usize,
        channels: usize,
        bundle: &Bundle,
        tile: &Tile,
    ) -> ArrayView2<'a, T> {
        let (rows, apart) = (channels * bundle.taps.len(), self.plane() / bundle.taps.len());
        let from = &planes[i * channels * self.plane() + bundle.offset + tile.start..];
        ArrayView2::from_shape((rows, tile.columns).strides((apart, 1)), from).expect("all inside")
    }

    /// The convolution, or the transposed one.
    #[allow(unsafe_code)]
    pub fn run<T: Real>(
        &self,
        (x, weight, bias): (&[T], &[T], Option<&[T]>),
        sizes: &ConvSizes,
        work: usize,
        out: &mut [T],
    ) {
        let (transposed, (channels, features)) = (self.transposed, sizes.group());
        let (results, steps) = if transposed { (channels, features) } else { (features, channels) };
        let (planes, by_tap) = (self.planes(x), self.by_tap(weight));
        let per_tap = weight.len() / self.windows.kernel_len();
        let shape = if transposed { self.windows.input } else { self.windows.output };
        let (len, count) = (shape.iter().product::<usize>(), sizes.batch * sizes.groups);
        let part = results.div_ceil((SUMS / count).max(1)).max(CHANNELS);
        let (parts, out) = (results.div_ceil(part), &Cut::new(out));
        run_tasks(work, count * parts, &|space, task| {
            let (i, first) = (task / parts, task % parts * part);
            let (group, rows) = (i % sizes.groups, first..results.min(first + part));
            // SAFETY: each part of the results is handed out once.
            let out = unsafe { out.part((i * results + first) * len, rows.len() * len) };
            let tiles = self.passes.iter().flat_map(|pass| (0..self.tiles(pass)).map(move |tile| (pass, tile)));
            for (pass, tile) in tiles {
                let tile = self.tile(pass, tile);
                sized(space, rows.len() * tile.columns, T::zero());
                match bias {
                    Some(bias) => {
                        let bias = &bias[group * results..][rows.clone()];
                        space.chunks_exact_mut(tile.columns).zip(bias).for_each(|(row, &b)| row.fill(b));
                    }
                    // No product overwrites what an earlier tile left there.
                    None if pass.taps.is_empty() => space.fill(T::zero()),
                    None => (),
                }
                let mut sum = ArrayViewMut2::from_shape((rows.len(), tile.columns), space).expect("as many elements");
                for (n, bundle) in pass.taps.iter().enumerate() {
                    let columns = channels * bundle.taps.len();
                    let weight = &by_tap[bundle.first * per_tap + group * features * columns..][..features * columns];
                    let weight = ArrayView2::from_shape((features, columns), weight).expect("as many elements");
                    let weight = if transposed { weight.reversed_axes() } else { weight };
                    let seen = self.seen(&planes, i, steps, bundle, &tile);
                    product(weight.slice(s![rows.clone(), ..]), seen, &mut sum, n > 0 || bias.is_some());
                }
                self.each_row(pass, &tile, &mut |at, d, h| {
                    let [line, plane] = [pass.first[1] + h * pass.step[1], pass.first[0] + d * pass.step[0]];
                    let to = (plane * shape[1] + line) * shape[2] + pass.first[2];
                    for (row, out) in out.chunks_exact_mut(len).enumerate() {
                        let from = &space[row * tile.columns + at..][..pass.count[2]];
                        scatter(from, pass.step[2], &mut out[to..]);
                    }
                });
            }
        });
        recycle(planes);
        recycle(by_tap);
    }

    /// A weight `(features, channels, taps)` as one matrix per group and bundle.
    fn by_tap<T: Real>(&self, weight: &[T]) -> Vec<T> {
        let taps = self.windows.kernel_len();
        let (mut out, per_tap) = (filled(weight.len(), T::zero()), weight.len() / taps);
        for bundle in self.passes.iter().flat_map(|pass| &pass.taps) {
            let len = bundle.taps.len();
            let to = out[bundle.first * per_tap..][..len * per_tap].chunks_exact_mut(len);
            for (to, from) in to.zip(weight.chunks_exact(taps)) {
                to.iter_mut().zip(&bundle.taps).for_each(|(to, &tap)| *to = from[tap]);
            }
        }
        out
    }

    /// The derivative of a convolution with respect to its weight.
    #[allow(unsafe_code)]
    pub fn weight_grad<T: Real>(&self, x: &[T], g: &[T], sizes: &ConvSizes, work: usize, out: &mut [T]) {
        let ((channels, features), pass) = (sizes.group(), &self.passes[0]);
        let (planes, taps, [_, oh, ow]) = (self.planes(x), self.windows.kernel_len(), pass.count);
        let (len, block) = (pass.count.iter().product::<usize>(), channels * features);
        let (tiles, per_group) = (self.tiles(pass), (SUMS / sizes.groups).max(1));
        let units = sizes.batch * tiles;
        let part = units.div_ceil(per_group);
        let parts = units.div_ceil(part);
        let mut sums = filled(sizes.groups * parts * taps * block, T::zero());
        let cut = &Cut::new(&mut sums);
        run_tasks(work, sizes.groups * parts, &|space, task| {
            let first = task % parts * part;
            // SAFETY: each sum is handed out once.
            let sum = unsafe { cut.chunk(task, taps * block) };
            for unit in first..units.min(first + part) {
                let (i, tile) = (unit / tiles * sizes.groups + task / parts, self.tile(pass, unit % tiles));
                // Zeros between the rows, so that what stands in the planes there does not count. Over three axes they are at
                // other places in each tile.
                space.clear();
                sized(space, tile.columns * features, T::zero());
                self.each_row(pass, &tile, &mut |at, d, h| {
                    let from = &g[i * features * len + (d * oh + h) * ow..];
                    let from = ArrayView2::from_shape((ow, features).strides((1, len)), from).expect("all inside");
                    let to = &mut space[at * features..][..ow * features];
                    let to = ArrayViewMut2::from_shape((ow, features), to).expect("as many elements");
                    copy_into(to.into_dyn(), from.into_dyn());
                });
                let g = ArrayView2::from_shape((tile.columns, features), space).expect("as many elements");
                for bundle in &pass.taps {
                    let rows = channels * bundle.taps.len();
                    let sum = &mut sum[bundle.first * block..][..rows * features];
                    let mut sum = ArrayViewMut2::from_shape((rows, features), sum).expect("as many elements");
                    product(self.seen(&planes, i, channels, bundle, &tile), g, &mut sum, true);
                }
            }
        });
        let groups = sums.chunks_mut(parts * taps * block).zip(out.chunks_mut(block * taps));
        for (sums, out) in groups {
            let (first, rest) = sums.split_at_mut(taps * block);
            for sum in rest.chunks(taps * block) {
                first.iter_mut().zip(sum).for_each(|(a, &b)| *a += b);
            }
            for bundle in &pass.taps {
                let rows = first[bundle.first * block..].chunks_exact(features).take(channels * bundle.taps.len());
                for (row, from) in rows.enumerate() {
                    let (c, tap) = (row / bundle.taps.len(), bundle.taps[row % bundle.taps.len()]);
                    from.iter().enumerate().for_each(|(f, &v)| out[(f * channels + c) * taps + tap] = v);
                }
            }
        }
        recycle(planes);
        recycle(sums);
    }
}

/// Whether there is neither an infinity nor NaN: then a product with 0 is 0.
pub fn finite<T: Real>(x: &[T]) -> bool {
    x.iter().fold(true, |all, &v| all & (v * T::zero()).is_zero())
}

#[cfg(test)]
mod tests {
    use super::{
        super::windows::tests::{many, under},
        *,
    };

    /// Small whole numbers, whose sums are exact.
    fn numbers(len: usize, seed: usize) -> Vec<f64> {
        (0..len).map(|i| ((i * 7 + seed) * 31 % 11) as f64 - 5.).collect()
    }

    /// The planes of very many channels would take far more memory than input and output.
    #[test]
    fn wide_padding_of_many_channels_is_not_copied() {
        let (input, kernel, before, output) = ([1; 3], [1, 3, 3], [0, 50, 50], [1, 99, 99]);
        let windows = Windows { input, kernel, stride: [1; 3], dilation: [1; 3], before, output };
        let plan =
            |channels| Plan::forward(&ConvSizes { axes: 2, batch: 1, groups: 1, channels, features: 16, windows });
        assert!(plan(16).is_some() && plan(1 << 20).is_none());
    }

    #[test]
    fn as_the_sums_that_they_are() {
        let mut planned = [0; 2];
        for windows in many() {
            let (groups, channels, features) = (1 + windows.kernel[1] % 2, 16, 17);
            let sizes = ConvSizes {
                axes: 3,
                batch: 2,
                groups,
                channels: channels * groups,
                features: features * groups,
                windows,
            };
            let (inside, outside, taps) = (windows.input_len(), windows.output_len(), windows.kernel_len());
            let plans = [Plan::forward(&sizes), Plan::transposed(&sizes)];
            if plans.iter().all(Option::is_none) {
                continue;
            }
            let count = 2 * groups;
            let (x, g) = (numbers(count * channels * inside, 1), numbers(count * features * outside, 2));
            let (w, bias) = (numbers(groups * features * channels * taps, 3), numbers(groups * features, 4));
            let (mut y, mut dx) = (vec![0.; g.len()], vec![0.; x.len()]);
            let mut dw = vec![0.; w.len()];
            for (i, f, o) in
                (0..count).flat_map(|i| (0..features).flat_map(move |f| (0..outside).map(move |o| (i, f, o))))
            {
                let (to, f) = ((i * features + f) * outside + o, i % groups * features + f);
                y[to] += bias[f];
                for (tap, at) in (0..taps).filter_map(|tap| Some((tap, under(&windows, o, tap)?))) {
                    for c in 0..channels {
                        let (from, weight) = ((i * channels + c) * inside + at, (f * channels + c) * taps + tap);
                        y[to] += w[weight] * x[from];
                        dx[from] += w[weight] * g[to];
                        dw[weight] += x[from] * g[to];
                    }
                }
            }
            if let Some(plan) = &plans[0] {
                planned[0] += 1;
                let mut out = vec![9.; y.len()];
                plan.run((&x, &w, Some(&bias)), &sizes, 1, &mut out);
                assert_eq!(out, y, "{windows:?}");
                out = vec![9.; w.len()];
                plan.weight_grad(&x, &g, &sizes, 1, &mut out);
                assert_eq!(out, dw, "{windows:?}");
            }
            if let Some(plan) = &plans[1] {
                planned[1] += 1;
                let mut out = vec![9.; x.len()];
                plan.run((&g, &w, None), &sizes, 1, &mut out);
                assert_eq!(out, dx, "{windows:?}");
            }
        }
        assert!(planned.iter().all(|&n| n > 100), "{planned:?}");
    }
}
