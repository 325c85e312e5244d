//! The reference: arrays as a shape and a `Vec<f64>`, and each operation as a plain loop over positions. It shares no
//! code with ndnn. `None` means that the operation must be refused.

/// Elements in row-major order. Integers are whole numbers, `bool` is 0 or 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// The axis that `dim` refers to; a scalar accepts 0 and -1.
pub fn axis(dim: isize, ndim: usize) -> Option<usize> {
    let n = ndim.max(1) as isize;
    (-n..n).contains(&dim).then_some(dim.rem_euclid(n) as usize)
}

/// The axes that `dims` refers to; none means all.
fn axes(dims: &[isize], ndim: usize) -> Option<Vec<usize>> {
    if dims.is_empty() {
        return Some((0..ndim).collect());
    }
    let mut all = dims.iter().map(|&d| axis(d, ndim)).collect::<Option<Vec<_>>>()?;
    all.sort();
    let twice = all.windows(2).any(|w| w[0] == w[1]);
    (!twice).then(|| all.into_iter().filter(|_| ndim > 0).collect())
}

pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let n = a.len().max(b.len());
    let size = |s: &[usize], i: usize| if i + s.len() < n { 1 } else { s[i + s.len() - n] };
    (0..n)
        .map(|i| match (size(a, i), size(b, i)) {
            (x, y) if x == y => Some(x),
            (1, x) | (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

pub fn count(shape: &[usize]) -> usize {
    shape.iter().product()
}

/// The array whose element at each position is `f` of it.
pub fn build(shape: &[usize], mut f: impl FnMut(&[usize]) -> f64) -> Array {
    let mut at = vec![0; shape.len()];
    let mut data = Vec::with_capacity(count(shape));
    for _ in 0..count(shape) {
        data.push(f(&at));
        for i in (0..shape.len()).rev() {
            at[i] += 1;
            if at[i] < shape[i] {
                break;
            }
            at[i] = 0;
        }
    }
    Array { shape: shape.to_vec(), data }
}

fn with(at: &[usize], axis: usize, place: usize) -> Vec<usize> {
    let mut at = at.to_vec();
    at[axis] = place;
    at
}

impl Array {
    pub fn ndim(&self) -> usize {
        self.shape.len()
    }

    fn place(&self, at: &[usize]) -> usize {
        at.iter().zip(&self.shape).fold(0, |k, (i, n)| k * n + i)
    }

    pub fn get(&self, at: &[usize]) -> f64 {
        self.data[self.place(at)]
    }

    /// The element at a position of a shape to which this array is broadcast.
    fn spread(&self, at: &[usize]) -> f64 {
        let own: Vec<usize> =
            at[at.len() - self.ndim()..].iter().zip(&self.shape).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
        self.get(&own)
    }

    pub fn map(&self, f: impl Fn(f64) -> f64) -> Array {
        Array { shape: self.shape.clone(), data: self.data.iter().map(|&x| f(x)).collect() }
    }

    pub fn zip(&self, other: &Array, f: impl Fn(f64, f64) -> f64) -> Option<Array> {
        let shape = broadcast(&self.shape, &other.shape)?;
        Some(build(&shape, |at| f(self.spread(at), other.spread(at))))
    }

    pub fn choose(mask: &Array, a: &Array, b: &Array) -> Option<Array> {
        let shape = broadcast(&broadcast(&a.shape, &b.shape)?, &mask.shape)?;
        Some(build(&shape, |at| if mask.spread(at) != 0. { a.spread(at) } else { b.spread(at) }))
    }

    /// Replaces the elements along an axis by `f` of them, `len` elements.
    pub fn along(&self, dim: isize, len: usize, f: impl Fn(&[f64]) -> Vec<f64>) -> Option<Array> {
        let at = axis(dim, self.ndim())?;
        let mut shape = if self.shape.is_empty() { vec![1] } else { self.shape.clone() };
        let (n, inner) = (shape[at], count(&shape[at + 1..]));
        shape[at] = len;
        let mut data = vec![f64::NAN; count(&shape)];
        for outer in 0..count(&shape[..at]) {
            for k in 0..inner {
                let lane: Vec<f64> = (0..n).map(|i| self.data[(outer * n + i) * inner + k]).collect();
                for (i, y) in f(&lane).into_iter().enumerate() {
                    data[(outer * len + i) * inner + k] = y;
                }
            }
        }
        Some(Array { shape: if self.shape.is_empty() { vec![] } else { shape }, data })
    }

    /// The length of an axis; 1 for a scalar.
    pub fn size(&self, dim: isize) -> Option<usize> {
        Some(self.shape.get(axis(dim, self.ndim())?).copied().unwrap_or(1))
    }

    /// The length of an axis; a scalar has none.
    pub fn real_size(&self, dim: isize) -> Option<usize> {
        if self.ndim() == 0 { None } else { self.size(dim) }
    }

    /// The elements at the given places along an axis.
    pub fn take(&self, dim: isize, places: &[usize]) -> Option<Array> {
        self.along(dim, places.len(), |lane| places.iter().map(|&p| lane[p]).collect())
    }

    // -------------------------------------------------------------------------------------------------------- reductions

    /// `f` of the elements that are reduced to one, in row-major order.
    pub fn reduce(&self, dims: &[isize], keepdim: bool, f: impl Fn(&[f64]) -> f64) -> Option<Array> {
        let axes = axes(dims, self.ndim())?;
        let kept: Vec<usize> = (0..self.ndim()).map(|i| if axes.contains(&i) { 1 } else { self.shape[i] }).collect();
        let mut groups = vec![Vec::new(); count(&kept)];
        let to = Array { shape: kept.clone(), data: vec![] };
        build(&self.shape, |at| {
            let own: Vec<usize> = at.iter().zip(&kept).map(|(&i, &n)| if n == 1 { 0 } else { i }).collect();
            groups[to.place(&own)].push(self.get(at));
            0.
        });
        let gone = (0..self.ndim()).filter(|i| !axes.contains(i)).map(|i| self.shape[i]).collect();
        Some(Array { shape: if keepdim { kept } else { gone }, data: groups.iter().map(|g| f(g)).collect() })
    }

    /// As [`reduce`](Self::reduce), but refused if there are no elements to choose from.
    pub fn choice(&self, dims: &[isize], keepdim: bool, f: impl Fn(&[f64]) -> f64) -> Option<Array> {
        let axes = axes(dims, self.ndim())?;
        if axes.iter().any(|&a| self.shape[a] == 0) { None } else { self.reduce(dims, keepdim, f) }
    }

    // ------------------------------------------------------------------------------------------------------------ shapes

    pub fn reshape(&self, sizes: &[isize]) -> Option<Array> {
        let n = self.data.len();
        let known: usize = sizes.iter().filter(|&&s| s >= 0).map(|&s| s as usize).product();
        let open = sizes.iter().filter(|&&s| s == -1).count();
        if sizes.iter().any(|&s| s < -1) || open > 1 || (open == 1 && (known == 0 || !n.is_multiple_of(known))) {
            return None;
        }
        let shape: Vec<usize> = sizes.iter().map(|&s| if s == -1 { n / known } else { s as usize }).collect();
        (count(&shape) == n).then(|| Array { shape, data: self.data.clone() })
    }

    pub fn permute(&self, dims: &[isize]) -> Option<Array> {
        let order = dims.iter().map(|&d| axis(d, self.ndim())).collect::<Option<Vec<_>>>()?;
        if order.len() != self.ndim() || (0..self.ndim()).any(|i| !order.contains(&i)) {
            return None;
        }
        let shape: Vec<usize> = order.iter().map(|&a| self.shape[a]).collect();
        Some(build(&shape, |at| {
            let mut from = vec![0; at.len()];
            order.iter().zip(at).for_each(|(&a, &i)| from[a] = i);
            self.get(&from)
        }))
    }

    pub fn transpose(&self, a: isize, b: isize) -> Option<Array> {
        let (a, b) = (axis(a, self.ndim())?, axis(b, self.ndim())?);
        let mut order: Vec<isize> = (0..self.ndim() as isize).collect();
        if !order.is_empty() {
            order.swap(a, b);
        }
        self.permute(&order)
    }

    pub fn broadcast_to(&self, shape: &[usize]) -> Option<Array> {
        (broadcast(&self.shape, shape)? == shape).then(|| build(shape, |at| self.spread(at)))
    }

    pub fn expand(&self, sizes: &[isize]) -> Option<Array> {
        let lead = sizes.len().checked_sub(self.ndim())?;
        let size = |(i, &s): (usize, &isize)| match s {
            -1 => Some(*self.shape.get(i.checked_sub(lead)?)?),
            s => usize::try_from(s).ok(),
        };
        self.broadcast_to(&sizes.iter().enumerate().map(size).collect::<Option<Vec<_>>>()?)
    }

    pub fn squeeze(&self, dims: &[isize]) -> Option<Array> {
        let axes = if dims.is_empty() { vec![] } else { axes(dims, self.ndim())? };
        let keep = (0..self.ndim()).filter(|i| !axes.contains(i) || self.shape[*i] != 1);
        Some(Array { shape: keep.map(|i| self.shape[i]).collect(), data: self.data.clone() })
    }

    pub fn unsqueeze(&self, dim: isize) -> Option<Array> {
        let at = axis(dim, self.ndim() + 1)?;
        let mut shape = self.shape.clone();
        shape.insert(at, 1);
        Some(Array { shape, data: self.data.clone() })
    }

    pub fn flip(&self, dims: &[isize]) -> Option<Array> {
        let axes = if dims.is_empty() { vec![] } else { axes(dims, self.ndim())? };
        Some(build(&self.shape, |at| {
            let mirrored = |i: usize| if axes.contains(&i) { self.shape[i] - 1 - at[i] } else { at[i] };
            self.get(&(0..at.len()).map(mirrored).collect::<Vec<_>>())
        }))
    }

    pub fn roll(&self, shift: isize, dim: isize) -> Option<Array> {
        let n = self.real_size(dim)? as isize;
        self.take(dim, &(0..n).map(|i| (i - shift).rem_euclid(n) as usize).collect::<Vec<_>>())
    }

    pub fn repeat(&self, times: &[isize]) -> Option<Array> {
        let lead = times.len().checked_sub(self.ndim())?;
        let times = times.iter().map(|&t| usize::try_from(t).ok()).collect::<Option<Vec<_>>>()?;
        let wide = Array { shape: [vec![1; lead], self.shape.clone()].concat(), data: self.data.clone() };
        let shape: Vec<usize> = wide.shape.iter().zip(&times).map(|(n, t)| n * t).collect();
        Some(build(&shape, |at| wide.get(&at.iter().zip(&wide.shape).map(|(i, n)| i % n).collect::<Vec<_>>())))
    }

    pub fn tile(&self, times: &[isize]) -> Option<Array> {
        self.repeat(&[vec![1; self.ndim().saturating_sub(times.len())], times.to_vec()].concat())
    }

    pub fn triangle(&self, keep: impl Fn(isize) -> bool) -> Option<Array> {
        let n = self.ndim().checked_sub(2)?;
        Some(build(&self.shape, |at| if keep(at[n + 1] as isize - at[n] as isize) { self.get(at) } else { 0. }))
    }

    pub fn diagonal(&self, offset: isize, dim1: isize, dim2: isize) -> Option<Array> {
        let (a, b) = (axis(dim1, self.ndim())?, axis(dim2, self.ndim())?);
        if a == b || self.ndim() < 2 {
            return None;
        }
        let (down, right) = ((-offset).max(0) as usize, offset.max(0) as usize);
        let len = self.shape[a].saturating_sub(down).min(self.shape[b].saturating_sub(right));
        let mut shape: Vec<usize> = (0..self.ndim()).filter(|&i| i != a && i != b).map(|i| self.shape[i]).collect();
        shape.push(len);
        Some(build(&shape, |at| {
            let (i, mut rest) = (at[at.len() - 1], at.iter());
            let place = |axis| match axis {
                _ if axis == a => i + down,
                _ if axis == b => i + right,
                _ => *rest.next().unwrap(),
            };
            self.get(&(0..self.ndim()).map(place).collect::<Vec<_>>())
        }))
    }

    // ------------------------------------------------------------------------------------------------- parts and joining

    pub fn narrow(&self, dim: isize, start: isize, len: usize) -> Option<Array> {
        let n = self.real_size(dim)? as isize;
        let from = if start < 0 { start + n } else { start };
        let inside = from >= 0 && from + len as isize <= n;
        if inside { self.take(dim, &(from as usize..from as usize + len).collect::<Vec<_>>()) } else { None }
    }

    /// Python's `start:end:step` along an axis.
    pub fn slice(&self, dim: isize, start: Option<isize>, end: Option<isize>, step: usize) -> Option<Array> {
        let n = self.real_size(dim)? as isize;
        let clip = |i: isize| if i < 0 { (i + n).max(0) } else { i.min(n) } as usize;
        let range = clip(start.unwrap_or(0))..clip(end.unwrap_or(n));
        if step == 0 { None } else { self.take(dim, &range.step_by(step).collect::<Vec<_>>()) }
    }

    pub fn select(&self, dim: isize, index: isize) -> Option<Array> {
        let mut one = self.narrow(dim, index, 1)?;
        one.shape.remove(axis(dim, self.ndim())?);
        Some(one)
    }

    pub fn cat(parts: &[&Array], dim: isize) -> Option<Array> {
        if parts.iter().any(|p| p.ndim() == 0) {
            return None;
        }
        // A tensor of shape [0] is accepted with any others.
        let real: Vec<&Array> = parts.iter().copied().filter(|p| p.shape != [0]).collect();
        let Some(first) = real.first() else { return axis(dim, 1).map(|_| parts[0].clone()) };
        let at = axis(dim, first.ndim())?;
        let same = |p: &Array| (0..p.ndim()).all(|i| i == at || p.shape[i] == first.shape[i]);
        if real.iter().any(|p| p.ndim() != first.ndim() || !same(p)) {
            return None;
        }
        let mut shape = first.shape.clone();
        shape[at] = real.iter().map(|p| p.shape[at]).sum();
        Some(build(&shape, |place| {
            let mut i = place[at];
            let part = real
                .iter()
                .find(|p| {
                    i < p.shape[at] || {
                        i -= p.shape[at];
                        false
                    }
                })
                .unwrap();
            part.get(&with(place, at, i))
        }))
    }

    pub fn stack(parts: &[&Array], dim: isize) -> Option<Array> {
        if parts.iter().any(|p| p.shape != parts[0].shape) {
            return None;
        }
        let at = axis(dim, parts[0].ndim() + 1)?;
        let mut shape = parts[0].shape.clone();
        shape.insert(at, parts.len());
        Some(build(&shape, |place| {
            let mut inner = place.to_vec();
            parts[inner.remove(at)].get(&inner)
        }))
    }

    /// Piece `k` (modulo the number of pieces) of the pieces of `size` elements along an axis, the last of which may be
    /// smaller.
    pub fn split(&self, size: usize, dim: isize, k: usize) -> Option<Array> {
        let n = self.real_size(dim)?;
        if size == 0 && n > 0 {
            return None;
        }
        let start = k % n.div_ceil(size.max(1)).max(1) * size;
        self.narrow(dim, start as isize, size.min(n - start))
    }

    pub fn chunk(&self, chunks: usize, dim: isize, k: usize) -> Option<Array> {
        let n = self.real_size(dim)?;
        if chunks == 0 { None } else { self.split(n.div_ceil(chunks), dim, k) }
    }

    pub fn index_select(&self, dim: isize, index: &Array) -> Option<Array> {
        let n = self.size(dim)? as f64;
        let fits = index.ndim() <= 1 && index.data.iter().all(|&i| 0. <= i && i < n);
        if !fits || (self.ndim() == 0 && index.data.len() != 1) {
            return None;
        }
        self.take(dim, &index.data.iter().map(|&i| i as usize).collect::<Vec<_>>())
    }

    /// With at least one axis: a scalar counts as a vector of one element.
    fn vector(&self) -> Array {
        Array { shape: if self.ndim() == 0 { vec![1] } else { self.shape.clone() }, data: self.data.clone() }
    }

    /// The axis `dim`, if it has every place in the index, and the index is no larger than `self` on the other axes, nor
    /// than `source` on any axis.
    fn reached(&self, dim: isize, index: &Array, source: Option<&Array>) -> Option<usize> {
        let at = axis(dim, self.ndim())?;
        let reach = index.vector().shape;
        let within = |shape: &[usize], but: Option<usize>| {
            shape.len() == reach.len() && (0..shape.len()).all(|i| Some(i) == but || reach[i] <= shape[i])
        };
        let n = self.size(dim)? as f64;
        let fits = within(&self.vector().shape, Some(at)) && source.is_none_or(|s| within(&s.vector().shape, None));
        let inside = index.data.iter().all(|&i| 0. <= i && i < n);
        ((fits || index.data.is_empty()) && inside).then_some(at)
    }

    pub fn gather(&self, dim: isize, index: &Array) -> Option<Array> {
        let at = self.reached(dim, index, None)?;
        let (x, places) = (self.vector(), index.vector());
        let out = build(&places.shape, |place| x.get(&with(place, at, places.get(place) as usize)));
        Some(Array { shape: index.shape.clone(), data: out.data })
    }

    /// Combines each element of `source` by `f` with the element that the index refers to.
    pub fn scatter(&self, dim: isize, index: &Array, source: &Array, f: impl Fn(f64, f64) -> f64) -> Option<Array> {
        let at = self.reached(dim, index, Some(source))?;
        let (mut out, places, source) = (self.vector(), index.vector(), source.vector());
        build(&places.shape, |place| {
            let to = out.place(&with(place, at, places.get(place) as usize));
            out.data[to] = f(out.data[to], source.get(place));
            0.
        });
        Some(Array { shape: self.shape.clone(), data: out.data })
    }

    // --------------------------------------------------------------------------------------------------- along one axis

    /// The order of the elements along an axis (of equal elements, the first one first), `len` of them: values or
    /// positions.
    pub fn ordered(&self, dim: isize, len: usize, falling: bool, positions: bool) -> Option<Array> {
        if len > self.size(dim)? {
            return None;
        }
        // As in PyTorch, a scalar returns its element, whatever `len` is.
        let len = if self.ndim() == 0 { 1 } else { len };
        let order = |lane: &[f64]| {
            let mut order: Vec<usize> = (0..lane.len()).collect();
            order.sort_by(|&a, &b| {
                let (a, b) = if falling { (b, a) } else { (a, b) };
                lane[a].partial_cmp(&lane[b]).unwrap()
            });
            order.into_iter().take(len).map(|i| if positions { i as f64 } else { lane[i] }).collect()
        };
        self.along(dim, len, order)
    }

    pub fn log_softmax(&self, dim: isize) -> Option<Array> {
        self.along(dim, self.size(dim)?, |lane| {
            let top = lane.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = lane.iter().map(|x| (x - top).exp()).sum();
            lane.iter().map(|x| x - top - sum.ln()).collect()
        })
    }

    /// Windows of `size` elements, `step` apart, along an axis, as a new last axis.
    pub fn unfold(&self, dim: isize, size: usize, step: usize) -> Option<Array> {
        let (at, n) = (axis(dim, self.ndim())?, self.size(dim)?);
        if size > n || step == 0 {
            return None;
        }
        if self.ndim() == 0 {
            return self.reshape(&[1])?.narrow(0, 0, size);
        }
        let mut shape = self.shape.clone();
        shape[at] = (n - size) / step + 1;
        shape.push(size);
        Some(build(&shape, |place| {
            let (window, rest) = place.split_last().unwrap();
            self.get(&with(rest, at, rest[at] * step + window))
        }))
    }

    /// Pads the last axis: `"constant"` (with `value`), `"reflect"`, `"replicate"` or `"circular"`.
    pub fn pad_last(&self, before: usize, after: usize, mode: &str, value: f64) -> Option<Array> {
        let n = self.real_size(-1)?;
        let refused = match mode {
            "constant" => false,
            _ if !(2..=3).contains(&self.ndim()) => true,
            "circular" => before.max(after) > n,
            _ if count(&self.shape[self.ndim() - 2..]) == 0 => true,
            "reflect" => before.max(after) >= n,
            _ => false,
        };
        let element = |lane: &[f64], i: isize| {
            let n = n as isize;
            let from = match mode {
                "constant" if i < 0 || i >= n => return value,
                "reflect" if i < 0 => -i,
                "reflect" if i >= n => 2 * (n - 1) - i,
                "replicate" => i.clamp(0, n - 1),
                "circular" => i.rem_euclid(n),
                _ => i,
            };
            lane[from as usize]
        };
        let places = -(before as isize)..(n + after) as isize;
        let padded = |lane: &[f64]| places.clone().map(|i| element(lane, i)).collect();
        if refused { None } else { self.along(-1, before + n + after, padded) }
    }

    pub fn layer_norm(&self, sizes: &[usize], weight: &Array, bias: &Array, eps: f64) -> Option<Array> {
        if sizes.is_empty() || !self.shape.ends_with(sizes) || weight.shape != sizes || bias.shape != sizes {
            return None;
        }
        let n = count(sizes);
        let mut out = self.clone();
        for row in out.data.chunks_mut(n.max(1)) {
            let mean = row.iter().sum::<f64>() / n as f64;
            let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n as f64;
            row.iter_mut().enumerate().for_each(|(i, x)| {
                *x = (*x - mean) / (var + eps).sqrt() * weight.data[i] + bias.data[i];
            });
        }
        Some(out)
    }
}
