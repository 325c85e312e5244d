//! Programs: steps with the results of ndnn and of the reference, and the choices of the generator.

use ndarray::{ArrayD, Axis, IxDyn, Slice};
use ndnn::{AnyTensor, DType, Element, Result, Tensor};

use crate::naive::{Array, count};

/// Whether a gradient may be compared with finite differences.
#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    /// Twice differentiable.
    Smooth,
    /// Differentiable except at kinks.
    Kinked,
    /// Not differentiable.
    Flat,
}

/// One operation with its arguments. Its inputs are earlier steps; a leaf has none.
pub struct Step {
    pub text: String,
    pub inputs: Vec<usize>,
    /// Whether the operation only copies or compares elements, so that the bits must be equal.
    pub exact: bool,
    pub ours: Box<dyn Fn(&[&AnyTensor]) -> Result<AnyTensor>>,
    pub naive: Box<dyn Fn(&[&Array]) -> Option<Array>>,
}

/// The number of memory layouts.
const LAYOUTS: usize = 7;

/// The array as a tensor whose elements are in memory in row-major order, in column-major order, with gaps, reversed,
/// after other elements, or with the first axis last, or all of these: in another order, with gaps, every other axis
/// reversed.
pub fn laid<T: Element>(array: &Array, layout: usize) -> Tensor<T> {
    let plain = ArrayD::from_shape_vec(IxDyn(&array.shape), array.data.iter().map(|&x| T::of(x)).collect()).unwrap();
    let n = array.shape.len();
    if n == 0 {
        return plain.into();
    }
    let at = Axis(layout % n);
    let wide = |factor: usize, extra: usize| {
        let mut shape = array.shape.clone();
        shape[at.0] = shape[at.0] * factor + extra;
        ArrayD::from_elem(IxDyn(&shape), T::ONE)
    };
    let view = |mut large: ArrayD<T>, range: Slice| {
        large.slice_axis_mut(at, range).assign(&plain);
        let mut shared = large.into_shared();
        shared.slice_axis_inplace(at, range);
        Tensor::from(shared)
    };
    let turned = |order: Vec<usize>| {
        let mut back = vec![0; n];
        order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
        let moved = plain.view().permuted_axes(order).as_standard_layout().into_owned();
        Tensor::from(moved.into_shared().permuted_axes(back))
    };
    match layout {
        0 => plain.into(),
        1 => turned((0..n).rev().collect()),
        2 => view(wide(2, 0), Slice::new(0, None, 2)),
        3 => view(wide(1, 0), Slice::new(0, None, -1)),
        4 => view(wide(1, 2), Slice::new(2, None, 1)),
        6 => {
            let order: Vec<usize> = (layout..layout + n).map(|i| (i + n / 2) % n).collect();
            let moved = plain.view().permuted_axes(order.clone());
            let mut large = ArrayD::from_elem(moved.shape().iter().map(|n| 2 * n + 1).collect::<Vec<_>>(), T::ONE);
            let slice = |i: usize| Slice::new(1, None, if i.is_multiple_of(2) { -2 } else { 2 });
            large.slice_each_axis_mut(|axis| slice(axis.axis.0)).assign(&moved);
            let mut shared = large.into_shared();
            (0..n).for_each(|i| shared.slice_axis_inplace(Axis(i), slice(i)));
            let mut back = vec![0; n];
            order.iter().enumerate().for_each(|(to, &from)| back[from] = to);
            Tensor::from(shared.permuted_axes(back))
        }
        _ => turned((1..n).chain([0]).collect()),
    }
}

/// A tensor that is an argument, not an input: an index or a mask.
#[derive(Clone)]
pub struct Given {
    pub array: Array,
    layout: usize,
}

impl Given {
    pub fn to<T: Element>(&self) -> Tensor<T> {
        laid(&self.array, self.layout)
    }
}

impl std::fmt::Debug for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}{:?} (layout {})", self.array.shape, self.array.data, self.layout)
    }
}

pub fn tensor(array: &Array, dtype: DType, layout: usize) -> AnyTensor {
    match dtype {
        DType::F32 => laid::<f32>(array, layout).into(),
        DType::F64 => laid::<f64>(array, layout).into(),
        DType::I64 => laid::<i64>(array, layout).into(),
        DType::Bool => laid::<bool>(array, layout).into(),
    }
}

/// The kind of program to generate.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// Small, every operation, all types.
    Values,
    /// Small, f64, operations with gradients; without kinks if true.
    Gradients(bool),
    /// Large enough to be split among threads; the reference is not used.
    Large,
}

/// A program while it is generated, and the source of its choices.
pub struct Program {
    pub mode: Mode,
    pub steps: Vec<Step>,
    /// The result of each step, if later steps may use it.
    pub values: Vec<Option<(AnyTensor, Array)>>,
    state: u64,
}

impl Program {
    pub fn new(mode: Mode, seed: u64) -> Program {
        Program { mode, steps: vec![], values: vec![], state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5bd1_e995 }
    }

    // ----------------------------------------------------------------------------------------------------------- choices

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 (included) to `n` (excluded).
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn between(&mut self, low: isize, high: isize) -> isize {
        low + self.below((high - low + 1) as usize) as isize
    }

    pub fn percent(&mut self, p: usize) -> bool {
        self.below(100) < p
    }

    pub fn real(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 * 2. - 2.
    }

    pub fn pick<X: Copy>(&mut self, from: &[X]) -> X {
        from[self.below(from.len())]
    }

    /// 0 and 1 are common.
    pub fn size(&mut self) -> usize {
        match self.mode {
            Mode::Large => self.pick(&[1, 2, 3, 17, 64, 130, 257]),
            Mode::Gradients(_) => self.pick(&[1, 1, 2, 2, 3, 4]),
            Mode::Values => self.pick(&[0, 1, 1, 2, 2, 3, 3, 4, 5]),
        }
    }

    /// A size that does not make a shape of `n` elements too large, as an additional axis or in place of a 1.
    pub fn beside(&mut self, n: usize) -> usize {
        let most = if self.mode == Mode::Large { (400_000 / n.max(1)).max(1) } else { usize::MAX };
        self.size().min(most)
    }

    pub fn shape(&mut self, ndim: usize) -> Vec<usize> {
        let mut shape: Vec<usize> = (0..ndim).map(|_| self.size()).collect();
        if self.mode == Mode::Large && ndim > 0 {
            let at = self.below(ndim);
            while count(&shape) > 300_000 {
                let largest = (0..ndim).max_by_key(|&i| shape[i]).unwrap();
                shape[largest] /= 2;
            }
            shape[at] *= (280_000 / count(&shape)).max(1);
        }
        shape
    }

    pub fn any_shape(&mut self) -> Vec<usize> {
        let ndim = self.pick(&[0, 1, 1, 2, 2, 2, 3, 3, 4]);
        self.shape(ndim)
    }

    /// An axis, which nearly always exists.
    pub fn axis(&mut self, shape: &[usize]) -> isize {
        let n = shape.len().max(1) as isize;
        if self.percent(3) { self.pick(&[n, -n - 1]) } else { self.between(-n, n - 1) }
    }

    /// Axes, which are nearly always different, or none.
    pub fn axes(&mut self, shape: &[usize]) -> Vec<isize> {
        let n = shape.len() as isize;
        if self.percent(4) {
            return vec![self.axis(shape), self.axis(shape)];
        }
        let mut dims = Vec::new();
        for i in 0..n {
            if self.percent(45) {
                dims.push(if self.percent(50) { i } else { i - n });
            }
        }
        dims
    }

    pub fn order(&mut self, shape: &[usize]) -> Vec<isize> {
        let mut dims: Vec<isize> = (0..shape.len() as isize).collect();
        for i in (1..dims.len()).rev() {
            let j = self.below(i + 1);
            dims.swap(i, j);
        }
        if self.percent(4) {
            dims.push(0);
        }
        dims
    }

    /// Sizes with (nearly always) the same number of elements; one of them may be -1.
    pub fn resized(&mut self, shape: &[usize]) -> Vec<isize> {
        let mut sizes: Vec<isize> = shape.iter().map(|&n| n as isize).collect();
        for _ in 0..3 {
            let at = self.below(sizes.len() + 1);
            match self.below(3) {
                0 => sizes.insert(at, 1),
                1 if at + 1 < sizes.len() => {
                    let joined = sizes.remove(at);
                    sizes[at] *= joined;
                }
                _ if at < sizes.len() && sizes[at] > 0 && sizes[at] % 2 == 0 => {
                    sizes[at] /= 2;
                    sizes.insert(at, 2);
                }
                _ => {}
            }
        }
        if !sizes.is_empty() {
            let at = self.below(sizes.len());
            match self.below(20) {
                0 => sizes[at] += 1,
                1..8 => sizes[at] = -1,
                _ => {}
            }
        }
        sizes
    }

    /// A shape that broadcasts with the given one.
    pub fn partner(&mut self, shape: &[usize]) -> Vec<usize> {
        let lead = self.below(shape.len() + 1);
        let mut other: Vec<usize> = shape[if self.percent(60) { 0 } else { lead }..].to_vec();
        let mut total = count(shape);
        for n in &mut other {
            match self.below(4) {
                0 => *n = 1,
                1 if *n == 1 => {
                    *n = self.beside(total);
                    total *= *n;
                }
                _ => {}
            }
        }
        if self.percent(10) && self.mode != Mode::Large {
            other.insert(0, self.size());
        }
        other
    }

    /// A shape by which a matrix can be multiplied, including stacks and vectors.
    pub fn factor(&mut self, shape: &[usize]) -> Vec<usize> {
        let inner = shape.last().copied().unwrap_or(1);
        if self.percent(20) {
            return vec![inner];
        }
        let lead = if shape.len() > 2 && self.percent(60) { self.partner(&shape[..shape.len() - 2]) } else { vec![] };
        let columns = self.beside(count(shape).max(inner * count(&lead)));
        [lead, vec![inner, columns]].concat()
    }

    /// The shape with one axis of another length.
    pub fn resized_axis(&mut self, shape: &[usize], dim: isize) -> Vec<usize> {
        let mut other = shape.to_vec();
        if let Some(at) = crate::naive::axis(dim, shape.len()).filter(|&at| at < shape.len()) {
            other[at] = self.beside(count(shape) / shape[at].max(1));
        }
        other
    }

    pub fn mask(&mut self, shape: &[usize]) -> Given {
        let data = (0..count(shape)).map(|_| self.below(2) as f64).collect();
        Given { array: Array { shape: shape.to_vec(), data }, layout: self.below(LAYOUTS) }
    }

    /// Places on an axis, one of them out of range now and then.
    pub fn index(&mut self, shape: &[usize], shape_of: &[usize], dim: isize) -> Given {
        let at = crate::naive::axis(dim, shape_of.len()).unwrap_or(0);
        let n = shape_of.get(at).copied().unwrap_or(1).max(1);
        let mut data: Vec<f64> = (0..count(shape)).map(|_| self.below(n) as f64).collect();
        if self.percent(4) && !data.is_empty() {
            let k = self.below(data.len());
            data[k] = if self.percent(50) { -1. } else { n as f64 };
        }
        Given { array: Array { shape: shape.to_vec(), data }, layout: self.below(LAYOUTS) }
    }

    /// A shape that is no larger on any axis.
    pub fn smaller(&mut self, shape: &[usize]) -> Vec<usize> {
        shape.iter().map(|&n| if self.percent(60) { n } else { self.below(n + 1) }).collect()
    }

    // ------------------------------------------------------------------------------------------------------------ inputs

    pub fn shape_of(&self, value: usize) -> Vec<usize> {
        self.values[value].as_ref().expect("a value").0.shape().to_vec()
    }

    pub fn dtype_of(&self, value: usize) -> DType {
        self.values[value].as_ref().expect("a value").0.dtype()
    }

    fn choose(&mut self, fits: impl Fn(&AnyTensor) -> bool) -> Option<usize> {
        let found: Vec<usize> =
            (0..self.values.len()).filter(|&i| self.values[i].as_ref().is_some_and(|v| fits(&v.0))).collect();
        // The last value is one that nothing has used yet.
        let recent = if self.percent(50) { found.len().saturating_sub(3) } else { 0 };
        if found.is_empty() { None } else { Some(found[recent + self.below(found.len() - recent)]) }
    }

    /// A value of one of these types.
    pub fn input(&mut self, types: &[DType], shape: Option<Vec<usize>>) -> usize {
        if shape.is_none() && self.percent(85) {
            let large = if self.mode == Mode::Large { 1 << 16 } else { 0 };
            if let Some(value) = self.choose(|v| types.contains(&v.dtype()) && count(v.shape()) >= large) {
                return value;
            }
        }
        let dtype = match self.mode {
            Mode::Gradients(_) => DType::F64,
            _ => *types.iter().cycle().nth(self.pick(&[0, 0, 0, 1, 1, 2, 3])).unwrap(),
        };
        let shape = shape.unwrap_or_else(|| self.any_shape());
        self.given(dtype, shape)
    }

    /// A value of this type and nearly always of this shape: an existing one, or a new leaf.
    pub fn given(&mut self, dtype: DType, mut shape: Vec<usize>) -> usize {
        if self.percent(4) {
            let at = self.below(shape.len() + 1);
            match shape.get_mut(at) {
                Some(n) => *n += 1,
                None => shape.insert(0, 2),
            }
        } else if self.percent(40)
            && let Some(value) = self.choose(|v| v.dtype() == dtype && v.shape() == shape)
        {
            return value;
        }
        self.leaf(dtype, shape)
    }

    pub fn leaf(&mut self, dtype: DType, shape: Vec<usize>) -> usize {
        let ties = self.mode == Mode::Values && self.percent(25);
        let data = (0..count(&shape))
            .map(|_| match dtype {
                DType::Bool => self.below(2) as f64,
                DType::I64 => self.between(-4, 4) as f64,
                _ if ties => self.between(-4, 4) as f64 / 2.,
                // With as many digits as an f32 has.
                _ => self.real() as f32 as f64,
            })
            .collect();
        let (array, layout) = (Array { shape, data }, self.below(LAYOUTS));
        let (ours, naive) = (tensor(&array, dtype, layout), array.clone());
        let data = if array.data.len() > 64 { vec![] } else { array.data.clone() };
        self.steps.push(Step {
            text: format!("leaf {dtype} {:?} in layout {layout}: {data:?}", array.shape),
            inputs: vec![],
            exact: true,
            ours: Box::new({
                let ours = ours.clone();
                move |_| Ok(ours.clone())
            }),
            naive: Box::new(move |_| Some(naive.clone())),
        });
        self.values.push(Some((ours, array)));
        self.steps.len() - 1
    }
}

/// One line per step: those that led to the last one, or all of them if gradients flow through all.
impl std::fmt::Display for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut needed = vec![matches!(self.mode, Mode::Gradients(_)); self.steps.len()];
        needed.last_mut().into_iter().for_each(|last| *last = true);
        for (i, step) in self.steps.iter().enumerate().rev() {
            if needed[i] {
                step.inputs.iter().for_each(|&input| needed[input] = true);
            }
        }
        for (i, step) in self.steps.iter().enumerate().filter(|(i, _)| needed[*i]) {
            let inputs: Vec<String> = step.inputs.iter().map(|i| format!(" v{i}")).collect();
            writeln!(f, "  v{i} = {}{}", step.text, inputs.concat())?;
        }
        Ok(())
    }
}
