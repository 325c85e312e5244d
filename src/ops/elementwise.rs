//! The mechanism of all elementwise operations: functions of one number ([`Unary`]) and of two ([`Binary`]), each with
//! a value and a derivative. The code that runs them is here: as fast loops if nothing is recorded, on tensors
//! otherwise.
//!
//! A function is compiled in this crate for each element type ([`On`], [`OnPairs`]), once; its callers compile only the
//! choice.

use std::mem::MaybeUninit;

use ndarray::{Dimension, arr0, aview0};

use super::{
    broadcast,
    formula::{Formula, Lane, Symbol, on_tensors},
};
use crate::{
    Result,
    kernels::{
        elementwise::{Body, Map, map_by, map_with, zip_by, zip_in_place, zip3_by},
        isa::Isa,
        layout::row_major,
        reduce::sum_of,
        vmath::fill,
    },
    tensor::{BackwardFn, DType, Grads, Number, Real, Tensor, grad_enabled, known, known_ref},
};

pub(crate) use super::rows::{pairs, row};

/// What the derivative of a function of one number is computed from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reads {
    /// From nothing: it is constant.
    Nothing,
    Input,
    Output,
}

/// A function of one number. All of its methods must be `#[inline(always)]`.
pub(crate) trait Unary<T: Number>: Copy + Send + Sync + 'static {
    const NAME: &'static str;
    const READS: Reads;
    /// See [`Map::VECTORS`].
    const VECTORS: bool = true;

    fn value<I: Isa>(self, x: T) -> T;

    /// See [`Map::each`].
    #[inline(always)]
    fn many<I: Isa>(self, x: &[T], out: &mut [MaybeUninit<T>]) {
        fill(x, out, |x| self.value::<I>(x));
    }

    /// The gradient of the input, from that of the output.
    fn gradient<E: Formula<T>>(self, g: E, kept: E) -> E
    where
        T: Real;
}

/// A function of two numbers. All of its methods must be `#[inline(always)]`.
pub(crate) trait Binary<T: Number>: Copy + Send + Sync + 'static {
    /// The name of the operation; for a loss the name is passed separately.
    const NAME: &'static str = "loss";
    /// Which operands the gradients of the first and of the second operand read.
    const READS: [[bool; 2]; 2] = [[true, true]; 2];
    /// Whether gradients have loops of their own, which does not pay if they are a single operation or rarely needed.
    const FUSED: bool = true;
    /// See [`Map::VECTORS`].
    const VECTORS: bool = true;

    fn value<I: Isa>(self, x: T, y: T) -> T;

    /// The gradient of the first operand, from that of the output.
    fn gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E
    where
        T: Real;

    /// The gradient of the second operand: by default the negated one, as for all functions of `x − y`.
    #[inline(always)]
    fn second_gradient<E: Formula<T>>(self, g: E, x: E, y: E) -> E
    where
        T: Real,
    {
        -self.gradient(g, x, y)
    }
}

// --------------------------------------------------------------------------------------------------------- as kernels

/// A function whose value is computed.
#[derive(Clone, Copy)]
struct Value<F>(F);

/// A function whose gradient is computed; with two operands, that of operand `K`.
#[derive(Clone, Copy)]
struct Gradient<F, const K: usize>(F);

impl<T: Number, F: Unary<T>> Map<T, T> for Value<F> {
    const VECTORS: bool = F::VECTORS;
    #[inline(always)]
    fn at<I: Isa>(&self, x: T) -> T {
        self.0.value::<I>(x)
    }
    #[inline(always)]
    fn each<I: Isa>(&self, x: &[T], out: &mut [MaybeUninit<T>]) {
        self.0.many::<I>(x, out);
    }
}

impl<T: Real, F: Unary<T>> Map<(T, T), T> for Gradient<F, 0> {
    const VECTORS: bool = F::VECTORS;
    #[inline(always)]
    fn at<I: Isa>(&self, (g, kept): (T, T)) -> T {
        self.0.gradient(Lane::<I, T>::new(g), Lane::new(kept)).0
    }
}

/// The same for two numbers.
#[derive(Clone, Copy)]
struct Pair<F>(F);

impl<T: Number, F: Binary<T>> Map<(T, T), T> for Pair<F> {
    const VECTORS: bool = F::VECTORS;
    #[inline(always)]
    fn at<I: Isa>(&self, (x, y): (T, T)) -> T {
        self.0.value::<I>(x, y)
    }
}

impl<T: Real, F: Binary<T>, const K: usize> Map<(T, T, T), T> for Gradient<F, K> {
    const VECTORS: bool = F::VECTORS;
    #[inline(always)]
    fn at<I: Isa>(&self, (g, x, y): (T, T, T)) -> T {
        let (g, x, y) = (Lane::<I, T>::new(g), Lane::new(x), Lane::new(y));
        if K == 0 { self.0.gradient(g, x, y).0 } else { self.0.second_gradient(g, x, y).0 }
    }
}

/// A function of one number as what an operation needs of it: operations are compiled once, for all functions.
pub(crate) trait UnaryRow<T: Real>: BackwardFn<T> {
    fn parts(&self) -> UnaryParts<'_, T>;
    fn on_tensors<'a>(&self, g: Symbol<'a, T>, kept: Symbol<'a, T>) -> Symbol<'a, T>;
    /// The same, to be kept.
    fn boxed(&self) -> Box<dyn UnaryRow<T>>;
}

/// The name of a function of one number, what its derivative reads, and its loops.
pub(crate) struct UnaryParts<'a, T> {
    name: &'static str,
    reads: Reads,
    value: Body<'a, T, T>,
    /// `None` if it reads nothing, and so needs no loop of its own.
    gradient: Option<Body<'a, (T, T), T>>,
}

/// A function of two numbers as what an operation needs of it.
pub(crate) trait BinaryRow<T: Real>: Send + Sync {
    /// See [`Binary::READS`].
    fn reads(&self) -> [[bool; 2]; 2];
    fn value(&self) -> Body<'_, (T, T), T>;
    /// The gradient of operand `k`; `None` if it has no loop of its own.
    fn gradient(&self, k: usize) -> Option<Body<'_, (T, T, T), T>>;
    fn on_tensors<'a>(&self, k: usize, inputs: [Symbol<'a, T>; 3]) -> Symbol<'a, T>;
    /// The same, to be kept.
    fn boxed(&self) -> Box<dyn BinaryRow<T>>;
}

/// A function with the loops of its value and of its gradients.
#[derive(Clone, Copy)]
struct Row<F>(Value<F>, Gradient<F, 0>);
#[derive(Clone, Copy)]
struct PairRow<F>(Pair<F>, Gradient<F, 0>, Gradient<F, 1>);

impl<T: Real, F: Unary<T>> UnaryRow<T> for Row<F> {
    fn parts(&self) -> UnaryParts<'_, T> {
        let gradient = if const { matches!(F::READS, Reads::Nothing) } { None } else { Some(Body::of_two(&self.1)) };
        UnaryParts { name: F::NAME, reads: F::READS, value: Body::of_one(&self.0), gradient }
    }
    fn on_tensors<'a>(&self, g: Symbol<'a, T>, kept: Symbol<'a, T>) -> Symbol<'a, T> {
        self.0.0.gradient(g, kept)
    }
    fn boxed(&self) -> Box<dyn UnaryRow<T>> {
        Box::new(*self)
    }
}

/// The gradient of a function that does not read its input.
impl<T: Real, F: Unary<T>> BackwardFn<T> for Row<F> {
    fn call(&self, g: &Tensor<T>, _: &[bool], y: Option<&Tensor<T>>, grads: &mut Grads<'_, T>) -> Result<()> {
        of_output(self, g, y, grads)
    }
}

#[inline(never)]
fn of_output<T: Real>(
    f: &dyn UnaryRow<T>,
    g: &Tensor<T>,
    y: Option<&Tensor<T>>,
    grads: &mut Grads<'_, T>,
) -> Result<()> {
    grads(&mut [Some(gradient(f, g, y))])
}

impl<T: Real, F: Binary<T>> BinaryRow<T> for PairRow<F> {
    fn reads(&self) -> [[bool; 2]; 2] {
        F::READS
    }
    fn value(&self) -> Body<'_, (T, T), T> {
        Body::of_two(&self.0)
    }
    fn gradient(&self, k: usize) -> Option<Body<'_, (T, T, T), T>> {
        if const { !F::FUSED } {
            return None;
        }
        Some(if k == 0 { Body::of_three(&self.1) } else { Body::of_three(&self.2) })
    }
    fn on_tensors<'a>(&self, k: usize, [g, x, y]: [Symbol<'a, T>; 3]) -> Symbol<'a, T> {
        if k == 0 { self.0.0.gradient(g, x, y) } else { self.0.0.second_gradient(g, x, y) }
    }
    fn boxed(&self) -> Box<dyn BinaryRow<T>> {
        Box::new(*self)
    }
}

// ------------------------------------------------------------------------------------------------------ the operations

/// A function of one number as an operation.
#[inline]
pub(crate) fn unary<T: Real, F: Unary<T>>(f: F, x: &Tensor<T>) -> Tensor<T> {
    unary_row(&Row(Value(f), Gradient(f)), x)
}

fn unary_row<T: Real>(f: &dyn UnaryRow<T>, x: &Tensor<T>) -> Tensor<T> {
    let UnaryParts { name, reads, value, .. } = f.parts();
    let out = map_by(x.view(), value);
    if !grad_enabled() || !x.requires_grad() {
        return out.into();
    }
    let f = f.boxed();
    if reads != Reads::Input {
        let mut result = Tensor::from(out);
        result.track(name, &[x], reads == Reads::Output, f);
        return result;
    }
    let kept = x.clone();
    Tensor::op(name, out, [x], move |g, _| Ok([Some(gradient(&*f, g, Some(&kept)))]))
}

/// The gradient of the input of `f`, from what was kept if it reads anything.
fn gradient<T: Real>(f: &dyn UnaryRow<T>, g: &Tensor<T>, kept: Option<&Tensor<T>>) -> Tensor<T> {
    match (kept, f.parts().gradient) {
        (Some(kept), Some(body)) if !grad_enabled() => zip_by(g.view(), kept.view(), g.shape(), body).into(),
        _ => on_tensors([g, kept.unwrap_or(g), g], &|[g, kept, _]| f.on_tensors(g, kept)),
    }
}

/// A function of two numbers as an operation, broadcasting.
#[inline]
pub(crate) fn binary<T: Real, F: Binary<T>>(f: F, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    binary_row(F::NAME, &PairRow(Pair(f), Gradient(f), Gradient(f)), x, y)
}

/// It keeps the operands that the required gradients will read.
fn binary_row<T: Real>(name: &'static str, f: &dyn BinaryRow<T>, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
    let shape = broadcast(name, x, y)?;
    let out = zip_by(x.view(), y.view(), &shape, f.value());
    let tracked = [x.requires_grad(), y.requires_grad()];
    if !grad_enabled() || tracked == [false; 2] {
        return Ok(out.into());
    }
    let (f, reads) = (f.boxed(), f.reads());
    let kept = |k: usize, of: &Tensor<T>| (0..2).any(|i| tracked[i] && reads[i][k]).then(|| of.clone());
    let (kept_x, kept_y) = (kept(0, x), kept(1, y));
    let (from_x, from_y) = (x.data().raw_dim(), y.data().raw_dim());
    Ok(Tensor::op(name, out, [x, y], move |g, [left, right]| {
        // Operands that are not read may hold anything.
        let (x, y) = (kept_x.as_ref().unwrap_or(g), kept_y.as_ref().unwrap_or(g));
        let dx = if left { Some(pair_gradient(&*f, 0, [g, x, y]).sum_to(from_x.slice())?) } else { None };
        let dy = if right { Some(pair_gradient(&*f, 1, [g, x, y]).sum_to(from_y.slice())?) } else { None };
        Ok([dx, dy])
    }))
}

/// The gradient of operand `k`, in the shape to which `x` and `y` broadcast, which is that of `g`.
fn pair_gradient<T: Real>(f: &dyn BinaryRow<T>, k: usize, [g, x, y]: [&Tensor<T>; 3]) -> Tensor<T> {
    match f.gradient(k) {
        Some(body) if !grad_enabled() => zip3_by(g.view(), x.view(), y.view(), g.shape(), body).into(),
        _ => on_tensors([g, x, y], &|inputs| f.on_tensors(k, inputs)),
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
#[inline]
pub(crate) fn total<T: Real, F: Binary<T>>(
    name: &'static str,
    f: F,
    x: &Tensor<T>,
    y: &Tensor<T>,
    total: Total,
) -> Result<Tensor<T>> {
    total_row(name, &PairRow(Pair(f), Gradient(f), Gradient(f)), x, y, total)
}

fn total_row<T: Real>(
    name: &'static str,
    f: &dyn BinaryRow<T>,
    x: &Tensor<T>,
    y: &Tensor<T>,
    total: Total,
) -> Result<Tensor<T>> {
    if total == Total::Each {
        return binary_row(name, f, x, y);
    }
    let count = if total == Total::Mean { T::of(x.numel() as f64) } else { T::ONE };
    let sum = sum_of(&row_major(&x.view()), &row_major(&y.view()), f.value()) / count;
    let (f, kept_x, kept_y) = (f.boxed(), x.clone(), y.clone());
    Ok(Tensor::op(name, arr0(sum).into_dyn(), [x, y], move |g, [left, right]| {
        let (x, y) = (&kept_x, &kept_y);
        let gradient = |k: usize| match f.gradient(k) {
            // One for all.
            Some(body) if !grad_enabled() => {
                let one = g.item()? / count;
                Ok(zip3_by(aview0(&one).into_dyn(), x.view(), y.view(), x.shape(), body).into())
            }
            _ => Ok(pair_gradient(&*f, k, [&(g / count).broadcast_to(x.shape())?, x, y])),
        };
        let [dx, dy] = [(left, 0), (right, 1)].map(|(needed, k)| needed.then(|| gradient(k)).transpose());
        Ok([dx?, dy?])
    }))
}

/// A function of a tensor and a constant; `slope` computes the gradient.
pub(crate) fn with_constant<T: Number, F: Binary<T>>(
    f: F,
    x: &Tensor<T>,
    constant: T,
    slope: fn(&Tensor<T>, T) -> Tensor<T>,
) -> Tensor<T> {
    let out = zip_by(x.view(), aview0(&constant).into_dyn(), x.shape(), Body::of_two(&Pair(f)));
    Tensor::op(F::NAME, out, [x], move |g, _| Ok([Some(slope(g, constant))]))
}

/// The values for integers, which have no gradients.
pub(crate) fn whole<F: Unary<i64>>(f: F, x: &Tensor<i64>) -> Tensor<i64> {
    map_with(x.view(), Value(f)).into()
}

/// The same for two tensors.
pub(crate) fn whole_pairs<F: Binary<i64>>(f: F, x: &Tensor<i64>, y: &Tensor<i64>) -> Result<Tensor<i64>> {
    Ok(zip_by(x.view(), y.view(), &broadcast(F::NAME, x, y)?, Body::of_two(&Pair(f))).into())
}

/// `f` of each pair in the memory of `x`, if nothing else refers to it and nothing is recorded; otherwise returns `x`.
#[inline]
pub(crate) fn reuse<T: Number, F: Binary<T>>(
    f: F,
    x: Tensor<T>,
    y: &Tensor<T>,
) -> std::result::Result<Tensor<T>, Tensor<T>> {
    reuse_by(Body::of_two(&Pair(f)), x, y)
}

fn reuse_by<T: Number>(
    f: Body<'_, (T, T), T>,
    x: Tensor<T>,
    y: &Tensor<T>,
) -> std::result::Result<Tensor<T>, Tensor<T>> {
    let recorded = grad_enabled() && (x.requires_grad() || y.requires_grad());
    let Some(other) = y.data().as_slice().filter(|_| !recorded && x.shape() == y.shape()) else { return Err(x) };
    if !x.data().is_standard_layout() {
        return Err(x);
    }
    let Tensor { data, node } = x;
    match data.into_inner().try_into_owned_nocopy() {
        Ok(mut owned) => {
            zip_in_place(owned.as_slice_mut().expect("row-major order"), other, f);
            Ok(owned.into())
        }
        Err(shared) => Err(Tensor { data: shared.into(), node }),
    }
}

// ------------------------------------------------------------------------------------------------------- compiled once

/// An operation on a tensor of `T`, compiled in this crate.
pub(crate) trait On<T: Number>: Copy {
    fn on(self, x: &Tensor<T>) -> Tensor<T>;
}

/// An operation on two tensors of `T`, compiled in this crate.
pub(crate) trait OnPairs<T: Number>: Copy {
    fn on(self, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>>;
    /// The same if `x` is no longer needed.
    fn onto(self, x: Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>>;
}

/// An operation on a tensor of `T` and a constant, compiled in this crate.
pub(crate) trait OnConstant<T: Number>: Copy {
    fn on(self, x: &Tensor<T>, constant: T) -> Tensor<T>;
}

/// A loss of two tensors of `T`, compiled in this crate.
pub(crate) trait Totals<T: Real>: Copy {
    fn total(self, name: &'static str, x: &Tensor<T>, y: &Tensor<T>, total: Total) -> Result<Tensor<T>>;
}

/// Compiles a row for its types: `real` for f32 and f64, `number` for i64 too. A parameter of a row is a field of the
/// struct.
macro_rules! compiled {
    (unary real $row:ty) => {
        $crate::ops::compiled!(@ unary $row: f32, f64);
    };
    (unary number $row:ty) => {
        $crate::ops::compiled!(@ unary $row: f32, f64);
        impl $crate::ops::elementwise::On<i64> for $row {
            fn on(self, x: &$crate::tensor::Tensor<i64>) -> $crate::tensor::Tensor<i64> {
                $crate::ops::elementwise::whole(self, x)
            }
        }
    };
    (binary real $row:ty) => {
        $crate::ops::compiled!(@ binary binary $row: f32, f64);
    };
    (binary number $row:ty) => {
        $crate::ops::compiled!(@ binary binary $row: f32, f64);
        $crate::ops::compiled!(@ binary whole_pairs $row: i64);
    };
    (@ unary $row:ty: $($t:ty),+) => {$(
        impl $crate::ops::elementwise::On<$t> for $row {
            fn on(self, x: &$crate::tensor::Tensor<$t>) -> $crate::tensor::Tensor<$t> {
                $crate::ops::elementwise::unary(self, x)
            }
        }
    )+};
    (@ binary $machine:ident $row:ty: $($t:ty),+) => {$(
        impl $crate::ops::elementwise::OnPairs<$t> for $row {
            fn on(self, x: &$crate::tensor::Tensor<$t>, y: &$crate::tensor::Tensor<$t>) -> $crate::Result<$crate::tensor::Tensor<$t>> {
                $crate::ops::elementwise::$machine(self, x, y)
            }
            fn onto(self, x: $crate::tensor::Tensor<$t>, y: &$crate::tensor::Tensor<$t>) -> $crate::Result<$crate::tensor::Tensor<$t>> {
                $crate::ops::elementwise::reuse(self, x, y).or_else(|x| $crate::ops::elementwise::OnPairs::<$t>::on(self, &x, y))
            }
        }
    )+};
    (binary loss $row:ty) => {
        $crate::ops::compiled!(loss $row);
    };
    (loss $row:ty) => {
        $crate::ops::compiled!(@ loss $row: f32, f64);
    };
    (@ loss $row:ty: $($t:ty),+) => {$(
        impl $crate::ops::Totals<$t> for $row {
            fn total(self, name: &'static str, x: &$crate::tensor::Tensor<$t>, y: &$crate::tensor::Tensor<$t>, total: $crate::ops::Total) -> $crate::Result<$crate::tensor::Tensor<$t>> {
                $crate::ops::elementwise::total(name, self, x, y, total)
            }
        }
    )+};
}
pub(crate) use compiled;

/// The callers of a row, for the types of a class: only the choice is compiled where it is called.
macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident $bound:ident: $($t:ty = $dtype:ident),+;)*) => {$(
        $(#[$doc])*
        // Of a list of bounds the last one ends it.
        #[allow(clippy::implied_bounds_in_impls)]
        pub(crate) mod $class {
            use super::*;

            /// A row on a tensor.
            #[inline]
            pub(crate) fn one<T: $bound>(row: impl $(On<$t> +)+ Copy, x: &Tensor<T>) -> Tensor<T> {
                match T::DTYPE {
                    $(DType::$dtype => known(On::<$t>::on(row, known_ref(x))),)+
                    other => unreachable!("a row for {other}"),
                }
            }

            /// A row on two tensors.
            #[inline]
            pub(crate) fn pairs<T: $bound>(row: impl $(OnPairs<$t> +)+ Copy, x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
                match T::DTYPE {
                    $(DType::$dtype => OnPairs::<$t>::on(row, known_ref(x), known_ref(y)).map(known),)+
                    other => unreachable!("a row for {other}"),
                }
            }

            /// The same if the first tensor is no longer needed.
            #[inline]
            pub(crate) fn pairs_onto<T: $bound>(row: impl $(OnPairs<$t> +)+ Copy, x: Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
                match T::DTYPE {
                    $(DType::$dtype => OnPairs::<$t>::onto(row, known(x), known_ref(y)).map(known),)+
                    other => unreachable!("a row for {other}"),
                }
            }

            /// A row on a tensor and a constant.
            #[inline]
            pub(crate) fn constant<T: $bound>(row: impl $(OnConstant<$t> +)+ Copy, x: &Tensor<T>, constant: T) -> Tensor<T> {
                match T::DTYPE {
                    $(DType::$dtype => known(OnConstant::<$t>::on(row, known_ref(x), known(constant))),)+
                    other => unreachable!("a row for {other}"),
                }
            }
        }
    )*};
}

classes! {
    /// Rows of floating-point numbers.
    real Real: f32 = F32, f64 = F64;
    /// Rows of any numbers.
    number Number: f32 = F32, f64 = F64, i64 = I64;
}

/// A loss of two tensors.
#[inline]
pub(crate) fn loss<T: Real>(
    name: &'static str,
    row: impl Totals<f32> + Totals<f64>,
    x: &Tensor<T>,
    y: &Tensor<T>,
    total: Total,
) -> Result<Tensor<T>> {
    match T::DTYPE {
        DType::F32 => Totals::<f32>::total(row, name, known_ref(x), known_ref(y), total).map(known),
        _ => Totals::<f64>::total(row, name, known_ref(x), known_ref(y), total).map(known),
    }
}
