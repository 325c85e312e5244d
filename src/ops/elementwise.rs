//! The mechanism of all elementwise operations: functions of one number ([`Unary`]) and of two ([`Binary`]), each with
//! a value and a derivative. The code that runs them is here: as fast loops if nothing is recorded, on tensors
//! otherwise.
//!
//! A function is compiled in this crate for each element type, as a row of data ([`UnaryRows`], [`BinaryRows`]): the
//! loops, and the derivative on tensors. What runs a row knows only the type.

use std::marker::PhantomData;

use ndarray::{Dimension, aview0};

use super::{
    broadcast,
    formula::{Formula, Lane, Symbol, on_tensors},
};
use crate::{
    Result,
    kernels::{
        elementwise::{Body, Loops, Map, Speed, map_by, zip_by, zip_in_place, zip_one, zip3_by},
        isa::Isa,
        layout::row_major,
        memory::single,
        reduce::sum_of,
    },
    tensor::{BackwardFn, DType, Grads, Number, Real, Recorded, Tensor, grad_enabled, known, known_ref},
};

pub(crate) use super::rows::{pairs, row};

/// The parameters of a function; those that it does not have are 0.
pub(crate) type Params = [f64; 3];

/// Of a function without parameters.
const NONE: Params = [0.; 3];

/// The parameters of a function that has at most as many.
#[inline]
pub(crate) const fn params<const N: usize>(given: [f64; N]) -> Params {
    let mut all = NONE;
    let mut i = 0;
    while i < N {
        all[i] = given[i];
        i += 1;
    }
    all
}

/// What the derivative of a function of one number is computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// From nothing: it is constant.
    Nothing,
    Input,
    Output,
}

/// How the loops of a function are compiled for `f32` and for `f64`; integers have one version.
#[derive(Clone, Copy)]
pub(crate) struct Work(Speed, Speed);

impl Work {
    /// Calls of libm.
    pub const LIBM: Work = Work(Speed::PLAIN, Speed::PLAIN);
    /// A few instructions, of which memory takes most of the time.
    pub const SHORT: Work = Work(Speed::NARROW.in_blocks(), Speed::NARROW.in_blocks());
    /// Many instructions on `f32`, calls of libm on `f64`.
    pub const LONG: Work = Work(Speed::WIDE.in_blocks(), Speed::PLAIN);
    /// As [`SHORT`](Work::SHORT), for what programs call all the time, also on a few elements.
    pub const COMMON: Work = Work(Speed::WIDE, Speed::NARROW);
    /// The same of [`LONG`](Work::LONG).
    pub const COMMON_LONG: Work = Work(Speed::WIDE, Speed::PLAIN);

    pub const fn speed<T: Number>(self) -> Speed {
        match T::DTYPE {
            DType::F32 => self.0,
            DType::F64 => self.1,
            _ => Speed::PLAIN,
        }
    }
}

/// A function of one number: its value is the [`Map`]. All of its methods must be `#[inline(always)]`.
pub(crate) trait Unary<T: Number>: Map<Params, T, T> + 'static {
    const NAME: &'static str;
    const READS: Reads;

    /// The gradient of the input, from that of the output.
    fn gradient<E: Formula>(p: &Params, g: E, kept: E) -> E
    where
        T: Real;
}

/// What computes the gradient of an operand where nothing is recorded.
pub(crate) enum Own<L> {
    /// A loop of its own.
    Fused(L),
    /// The function itself, of the gradient of the output and the other operand.
    Itself,
    /// Operations on tensors: a loop does not pay if they are rarely needed.
    Composed,
}

/// A function of two numbers: its value is the [`Map`]. All of its methods must be `#[inline(always)]`.
pub(crate) trait Binary<T: Number>: Map<Params, (T, T), T> + 'static {
    /// The name of the operation; for a loss the name is passed separately.
    const NAME: &'static str = "loss";
    /// Which operands the gradients of the first and of the second operand read.
    const READS: [[bool; 2]; 2] = [[true, true]; 2];
    /// What computes each gradient.
    const GRADIENTS: [Own<()>; 2] = [Own::Fused(()), Own::Fused(())];

    /// The gradient of the first operand, from that of the output.
    fn gradient<E: Formula>(p: &Params, g: E, x: E, y: E) -> E
    where
        T: Real;

    /// The gradient of the second operand: by default the negated one, as for all functions of `x − y`.
    #[inline(always)]
    fn second_gradient<E: Formula>(p: &Params, g: E, x: E, y: E) -> E
    where
        T: Real,
    {
        -Self::gradient(p, g, x, y)
    }
}

// --------------------------------------------------------------------------------------------------------- as kernels

/// The gradient of a function, compiled as the function is; with two operands, that of the first, and of the second.
struct Gradient<F>(PhantomData<F>);
struct SecondGradient<F>(PhantomData<F>);

impl<T: Real, F: Unary<T>> Map<Params, (T, T), T> for Gradient<F> {
    const SPEED: Speed = F::SPEED;
    #[inline(always)]
    fn at<I: Isa>(p: &Params, (g, kept): (T, T)) -> T {
        F::gradient(p, Lane::<I, T>::new(g), Lane::new(kept)).0
    }
}

impl<T: Real, F: Binary<T>> Map<Params, (T, T, T), T> for Gradient<F> {
    const SPEED: Speed = F::SPEED;
    #[inline(always)]
    fn at<I: Isa>(p: &Params, (g, x, y): (T, T, T)) -> T {
        F::gradient(p, Lane::<I, T>::new(g), Lane::new(x), Lane::new(y)).0
    }
}

impl<T: Real, F: Binary<T>> Map<Params, (T, T, T), T> for SecondGradient<F> {
    const SPEED: Speed = F::SPEED;
    #[inline(always)]
    fn at<I: Isa>(p: &Params, (g, x, y): (T, T, T)) -> T {
        F::second_gradient(p, Lane::<I, T>::new(g), Lane::new(x), Lane::new(y)).0
    }
}

// ------------------------------------------------------------------------------------------------------------- as data

type OnTensors<const N: usize> = for<'a> fn(&Params, [Symbol<'a>; N]) -> Symbol<'a>;

/// A function of one number as what its operation needs.
pub(crate) struct UnaryRow<T: Real> {
    name: &'static str,
    reads: Reads,
    value: Loops<Params, T, T>,
    /// `None` if it reads nothing, and so needs no loop of its own.
    gradient: Option<Loops<Params, (T, T), T>>,
    on_tensors: OnTensors<2>,
}

impl<T: Real> UnaryRow<T> {
    const fn of<F: Unary<T> + Unary<f32>>() -> Self {
        fn on_tensors<'a, T: Real, F: Unary<T>>(p: &Params, [g, kept]: [Symbol<'a>; 2]) -> Symbol<'a> {
            F::gradient(p, g, kept)
        }
        let gradient =
            if matches!(<F as Unary<T>>::READS, Reads::Nothing) { None } else { Some(Loops::of_two::<Gradient<F>>()) };
        let value = Loops::of_one::<F>();
        // One for both types, unless they read different numbers.
        let on_tensors: OnTensors<2> = match <F as Unary<T>>::READS as u8 == <F as Unary<f32>>::READS as u8 {
            true => on_tensors::<f32, F>,
            false => on_tensors::<T, F>,
        };
        UnaryRow { name: <F as Unary<T>>::NAME, reads: <F as Unary<T>>::READS, value, gradient, on_tensors }
    }
}

/// A function of two numbers as what its operation needs.
pub(crate) struct BinaryRow<T: Real> {
    name: &'static str,
    /// See [`Binary::READS`].
    reads: [[bool; 2]; 2],
    value: Loops<Params, (T, T), T>,
    /// The gradient of each operand.
    gradients: [Own<Loops<Params, (T, T, T), T>>; 2],
    on_tensors: [OnTensors<3>; 2],
}

impl<T: Real> BinaryRow<T> {
    const fn of<F: Binary<T> + Binary<f32>>() -> Self {
        fn first<'a, F: Binary<f32>>(p: &Params, [g, x, y]: [Symbol<'a>; 3]) -> Symbol<'a> {
            F::gradient(p, g, x, y)
        }
        fn second<'a, F: Binary<f32>>(p: &Params, [g, x, y]: [Symbol<'a>; 3]) -> Symbol<'a> {
            F::second_gradient(p, g, x, y)
        }
        let gradients = [
            match <F as Binary<T>>::GRADIENTS[0] {
                Own::Fused(()) => Own::Fused(Loops::of_three::<Gradient<F>>()),
                Own::Itself => Own::Itself,
                Own::Composed => Own::Composed,
            },
            match <F as Binary<T>>::GRADIENTS[1] {
                Own::Fused(()) => Own::Fused(Loops::of_three::<SecondGradient<F>>()),
                Own::Itself => Own::Itself,
                Own::Composed => Own::Composed,
            },
        ];
        let (value, on_tensors): (_, [OnTensors<3>; 2]) = (Loops::of_two::<F>(), [first::<F>, second::<F>]);
        BinaryRow { name: <F as Binary<T>>::NAME, reads: <F as Binary<T>>::READS, value, gradients, on_tensors }
    }
}

/// A function for each type; integers have no gradients.
pub(crate) struct UnaryRows {
    f32: UnaryRow<f32>,
    f64: UnaryRow<f64>,
    i64: Option<Loops<Params, i64, i64>>,
}

pub(crate) struct BinaryRows {
    f32: BinaryRow<f32>,
    f64: BinaryRow<f64>,
    i64: Option<Loops<Params, (i64, i64), i64>>,
}

impl UnaryRows {
    pub const fn real<F: Unary<f32> + Unary<f64>>() -> Self {
        UnaryRows { f32: UnaryRow::of::<F>(), f64: UnaryRow::of::<F>(), i64: None }
    }
    pub const fn number<F: Unary<f32> + Unary<f64> + Unary<i64>>() -> Self {
        UnaryRows { i64: Some(Loops::of_one::<F>()), ..Self::real::<F>() }
    }
}

impl BinaryRows {
    pub const fn real<F: Binary<f32> + Binary<f64>>() -> Self {
        BinaryRows { f32: BinaryRow::of::<F>(), f64: BinaryRow::of::<F>(), i64: None }
    }
    pub const fn number<F: Binary<f32> + Binary<f64> + Binary<i64>>() -> Self {
        BinaryRows { i64: Some(Loops::of_two::<F>()), ..Self::real::<F>() }
    }
}

/// A function of one number with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct One {
    pub rows: &'static UnaryRows,
    pub params: Params,
}

/// A function of two numbers with its parameters.
#[derive(Clone, Copy)]
pub(crate) struct Two {
    pub rows: &'static BinaryRows,
    pub params: Params,
}

// ------------------------------------------------------------------------------------------------------ the operations

/// A function of one number as an operation.
fn unary<T: Real>(row: &'static UnaryRow<T>, p: Params, x: &Tensor<T>) -> Tensor<T> {
    let out = map_by(x.data(), row.value.with(&p));
    if !grad_enabled() || !x.requires_grad() {
        return out.into();
    }
    let backward = if row.reads != Reads::Input && p == NONE {
        Recorded::Row(row)
    } else {
        let kept = (row.reads == Reads::Input).then(|| x.clone());
        Recorded::Closure(Box::new(Called { row, p, kept }))
    };
    Tensor::recorded(row.name, out, &[x], row.reads == Reads::Output, backward)
}

/// A function with its parameters, and with its input if the gradient reads it.
struct Called<T: Real> {
    row: &'static UnaryRow<T>,
    p: Params,
    kept: Option<Tensor<T>>,
}

impl<T: Real> BackwardFn<T> for Called<T> {
    fn call(&self, g: &Tensor<T>, _: &[bool], y: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        grads(&mut [Some(gradient(self.row, &self.p, g, self.kept.as_ref().or(y)))])
    }
}

/// The gradient of a function that has no parameters and does not read its input.
impl<T: Real> BackwardFn<T> for UnaryRow<T> {
    fn call(&self, g: &Tensor<T>, _: &[bool], y: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        grads(&mut [Some(gradient(self, &NONE, g, y))])
    }
}

/// The gradient of the input, from what was kept if it reads anything.
fn gradient<T: Real>(row: &UnaryRow<T>, p: &Params, g: &Tensor<T>, kept: Option<&Tensor<T>>) -> Tensor<T> {
    match (kept, &row.gradient) {
        (Some(kept), Some(loops)) if !grad_enabled() => {
            zip_by(g.data(), kept.data(), g.raw_dim(), loops.with(p)).into()
        }
        _ => on_tensors([g, kept.unwrap_or(g), g], &|[g, kept, _]| (row.on_tensors)(p, [g, kept])),
    }
}

/// A function of two numbers as an operation, broadcasting. It keeps the operands that the required gradients will read.
fn binary<T: Real>(
    name: &'static str,
    row: &'static BinaryRow<T>,
    p: Params,
    x: &Tensor<T>,
    y: &Tensor<T>,
) -> Result<Tensor<T>> {
    let shape = broadcast(name, x, y)?;
    let out = zip_by(x.data(), y.data(), shape, row.value.with(&p));
    let tracked = [x.requires_grad(), y.requires_grad()];
    if !grad_enabled() || tracked == [false; 2] {
        return Ok(out.into());
    }
    let kept = |k: usize, of: &Tensor<T>| (0..2).any(|i| tracked[i] && row.reads[i][k]).then(|| of.clone());
    let (kept_x, kept_y) = (kept(0, x), kept(1, y));
    let (from_x, from_y) = (x.raw_dim(), y.raw_dim());
    Ok(Tensor::op(name, out, [x, y], move |g, [left, right]| {
        // Operands that are not read may hold anything.
        let (x, y) = (kept_x.as_ref().unwrap_or(g), kept_y.as_ref().unwrap_or(g));
        let dx = if left { Some(pair_gradient(row, &p, 0, [g, x, y]).into_sum_to(from_x.slice())?) } else { None };
        let dy = if right { Some(pair_gradient(row, &p, 1, [g, x, y]).into_sum_to(from_y.slice())?) } else { None };
        Ok([dx, dy])
    }))
}

/// The gradient of operand `k`, in the shape to which `x` and `y` broadcast, which is that of `g`.
fn pair_gradient<T: Real>(row: &BinaryRow<T>, p: &Params, k: usize, [g, x, y]: [&Tensor<T>; 3]) -> Tensor<T> {
    match &row.gradients[k] {
        Own::Fused(loops) if !grad_enabled() => {
            zip3_by(g.data(), x.data(), y.data(), g.raw_dim(), loops.with(p)).into()
        }
        Own::Itself if !grad_enabled() => {
            let other = [y, x][k];
            zip_by(g.data(), other.data(), g.raw_dim(), row.value.with(p)).into()
        }
        _ => on_tensors([g, x, y], &|inputs| (row.on_tensors[k])(p, inputs)),
    }
}

/// What is done with the values of all pairs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Total {
    /// They are returned.
    Each,
    Sum,
    Mean,
}

/// The values of pairs of one shape, or their sum or mean, as one operation: for losses.
fn total_of<T: Real>(
    name: &'static str,
    row: &'static BinaryRow<T>,
    p: Params,
    x: &Tensor<T>,
    y: &Tensor<T>,
    total: Total,
) -> Result<Tensor<T>> {
    if total == Total::Each {
        return binary(name, row, p, x, y);
    }
    let count = if total == Total::Mean { T::of(x.numel() as f64) } else { T::ONE };
    let sum = sum_of(&row_major(&x.view()), &row_major(&y.view()), row.value.with(&p)) / count;
    if !grad_enabled() || !(x.requires_grad() || y.requires_grad()) {
        return Ok(single(sum).into());
    }
    let kept = [x.clone(), y.clone()];
    Ok(Tensor::op(name, single(sum), [x, y], move |g, needed| {
        let [x, y] = &kept;
        let mut gradients = [None, None];
        for (k, gradient) in gradients.iter_mut().enumerate().filter(|&(k, _)| needed[k]) {
            *gradient = Some(match &row.gradients[k] {
                // One for all.
                Own::Fused(loops) if !grad_enabled() => {
                    let one = g.item()? / count;
                    zip3_by(&aview0(&one).into_dyn(), x.data(), y.data(), x.raw_dim(), loops.with(&p)).into()
                }
                _ => pair_gradient(row, &p, k, [&(g / count).broadcast_to(x.shape())?, x, y]),
            });
        }
        Ok(gradients)
    }))
}

/// A function of a tensor and a constant as an operation, for `+ - * /`: the gradient is multiplied by the same constant, or
/// divided by it, if it reads it.
#[inline(never)]
fn with_constant<T: Real>(row: &'static BinaryRow<T>, p: Params, x: &Tensor<T>, constant: T) -> Tensor<T> {
    let out = zip_one(x.data(), &constant, row.value.with(&p));
    Tensor::op(row.name, out, [x], move |g, _| {
        Ok([Some(if row.reads[0][1] { with_constant(row, p, g, constant) } else { g.clone() })])
    })
}

/// The values for integers.
fn whole_pairs(rows: &Two, x: &Tensor<i64>, y: &Tensor<i64>) -> Result<Tensor<i64>> {
    let shape = broadcast(rows.rows.f32.name, x, y)?;
    Ok(zip_by(x.data(), y.data(), shape, rows.whole()).into())
}

/// `f` of each pair in the memory of `x`, if nothing else refers to it and nothing is recorded; `x` then has no graph.
fn reuse<T: Number>(f: Body<'_, (T, T), T>, x: &mut Tensor<T>, y: &Tensor<T>) -> bool {
    let recorded = grad_enabled() && (x.requires_grad() || y.requires_grad());
    if recorded || x.shape() != y.shape() {
        return false;
    }
    let (Some(elements), Some(other)) = (x.data.unshared(), y.data().as_slice()) else { return false };
    zip_in_place(elements, other, f);
    x.detached();
    true
}

// ------------------------------------------------------------------------------------------------------- compiled once

/// The operations for a type, compiled in this crate.
macro_rules! compiled {
    ($($t:ty),*) => {$(
        impl UnaryRow<$t> {
            fn run(&'static self, p: Params, x: &Tensor<$t>) -> Tensor<$t> {
                unary(self, p, x)
            }
        }

        impl BinaryRow<$t> {
            fn run(&'static self, p: Params, x: &Tensor<$t>, y: &Tensor<$t>) -> Result<Tensor<$t>> {
                binary(self.name, self, p, x, y)
            }
            fn onto(&'static self, p: Params, mut x: Tensor<$t>, y: &Tensor<$t>) -> Result<Tensor<$t>> {
                if reuse(self.value.with(&p), &mut x, y) { Ok(x) } else { self.run(p, &x, y) }
            }
            fn constant(&'static self, p: Params, x: &Tensor<$t>, constant: $t) -> Tensor<$t> {
                with_constant(self, p, x, constant)
            }
            fn total(&'static self, name: &'static str, p: Params, [x, y]: [&Tensor<$t>; 2], total: Total) -> Result<Tensor<$t>> {
                total_of(name, self, p, x, y, total)
            }
        }
    )*};
}
compiled!(f32, f64);

impl One {
    fn whole(&self, x: &Tensor<i64>) -> Tensor<i64> {
        map_by(x.data(), self.rows.i64.as_ref().expect("a row for integers").with(&self.params)).into()
    }
}

impl Two {
    fn whole(&self) -> Body<'_, (i64, i64), i64> {
        self.rows.i64.as_ref().expect("a row for integers").with(&self.params)
    }
    fn whole_onto(&self, mut x: Tensor<i64>, y: &Tensor<i64>) -> Result<Tensor<i64>> {
        if reuse(self.whole(), &mut x, y) { Ok(x) } else { whole_pairs(self, &x, y) }
    }
    fn whole_constant(&self, x: &Tensor<i64>, constant: i64) -> Tensor<i64> {
        zip_one(x.data(), &constant, self.whole()).into()
    }
}

/// A row on a tensor: only the choice of the type is compiled where it is called.
#[inline]
pub(crate) fn one<T: Number>(row: One, x: &Tensor<T>) -> Tensor<T> {
    match T::DTYPE {
        DType::F32 => known(row.rows.f32.run(row.params, known_ref(x))),
        DType::F64 => known(row.rows.f64.run(row.params, known_ref(x))),
        _ => known(row.whole(known_ref(x))),
    }
}

/// A row on two tensors.
#[inline]
pub(crate) fn two<T: Number>(row: Two, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    match T::DTYPE {
        DType::F32 => row.rows.f32.run(row.params, known_ref(x), known_ref(y)).map(known),
        DType::F64 => row.rows.f64.run(row.params, known_ref(x), known_ref(y)).map(known),
        _ => whole_pairs(&row, known_ref(x), known_ref(y)).map(known),
    }
}

/// The same if the first tensor is no longer needed.
#[inline]
pub(crate) fn two_onto<T: Number>(row: Two, x: Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    match T::DTYPE {
        DType::F32 => row.rows.f32.onto(row.params, known(x), known_ref(y)).map(known),
        DType::F64 => row.rows.f64.onto(row.params, known(x), known_ref(y)).map(known),
        _ => row.whole_onto(known(x), known_ref(y)).map(known),
    }
}

/// A row of `+ - * /` on a tensor and a constant.
#[inline]
pub(crate) fn constant<T: Number>(row: Two, x: &Tensor<T>, constant: T) -> Tensor<T> {
    match T::DTYPE {
        DType::F32 => known(row.rows.f32.constant(row.params, known_ref(x), known(constant))),
        DType::F64 => known(row.rows.f64.constant(row.params, known_ref(x), known(constant))),
        _ => known(row.whole_constant(known_ref(x), known(constant))),
    }
}

/// A loss of two tensors.
#[inline]
pub(crate) fn loss<T: Real>(
    name: &'static str,
    row: Two,
    x: &Tensor<T>,
    y: &Tensor<T>,
    total: Total,
) -> Result<Tensor<T>> {
    match T::DTYPE {
        DType::F32 => row.rows.f32.total(name, row.params, [known_ref(x), known_ref(y)], total).map(known),
        _ => row.rows.f64.total(name, row.params, [known_ref(x), known_ref(y)], total).map(known),
    }
}
