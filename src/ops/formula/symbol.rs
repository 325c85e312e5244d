//! Formulas on tensors, for derivatives that are differentiated again.

use std::{
    cell::OnceCell,
    ops::{BitAnd, BitOr, Neg, Not},
    ptr,
};

use ndarray::Dimension;

use super::{super::select::connected, Formula};
use crate::{
    kernels::elementwise::{map, zip},
    ops::broadcast,
    tensor::{AnyTensor, DType, Real, Tensor, known_ref, unerase},
};

/// One expression on tensors of the one type that a formula has, as what it makes of them.
macro_rules! each_type {
    ($($x:ident = $of:expr),+; $result:expr) => {
        match ($($of,)+) {
            ($(Values::F32($x),)+) => AnyTensor::F32($result),
            ($(Values::F64($x),)+) => AnyTensor::F64($result),
            #[allow(unreachable_patterns)] // of a single tensor
            _ => unreachable!("a formula has one type"),
        }
    };
}

/// A tensor of one of the types that have gradients.
#[derive(Clone, Copy)]
enum Values<'a> {
    F32(&'a Tensor<f32>),
    F64(&'a Tensor<f64>),
}

impl<'a> Values<'a> {
    fn of<T: Real>(tensor: &'a Tensor<T>) -> Self {
        match T::DTYPE {
            DType::F32 => Values::F32(known_ref(tensor)),
            _ => Values::F64(known_ref(tensor)),
        }
    }

    fn inside(tensor: &'a AnyTensor) -> Self {
        match tensor {
            AnyTensor::F32(t) => Values::F32(t),
            AnyTensor::F64(t) => Values::F64(t),
            other => unreachable!("{} has no gradients", other.dtype()),
        }
    }

    fn address(self) -> *const () {
        match self {
            Values::F32(t) => ptr::from_ref(t).cast(),
            Values::F64(t) => ptr::from_ref(t).cast(),
        }
    }
}

/// A tensor in a formula. Intermediate results are stored on a [`Page`], so that this can be copied as a number can.
#[derive(Clone, Copy)]
pub(crate) struct Symbol<'a> {
    of: Values<'a>,
    page: &'a Page,
}

impl<'a> Symbol<'a> {
    #[inline(never)]
    pub(super) fn by(self, f: fn(&Tensor<f32>) -> Tensor<f32>, g: fn(&Tensor<f64>) -> Tensor<f64>) -> Self {
        self.page.keep(match self.of {
            Values::F32(x) => AnyTensor::F32(f(x)),
            Values::F64(x) => AnyTensor::F64(g(x)),
        })
    }

    #[inline(never)]
    pub(super) fn with(
        self,
        constant: f64,
        f: fn(&Tensor<f32>, f32) -> Tensor<f32>,
        g: fn(&Tensor<f64>, f64) -> Tensor<f64>,
    ) -> Self {
        self.page.keep(match self.of {
            Values::F32(x) => AnyTensor::F32(f(x, constant as f32)),
            Values::F64(x) => AnyTensor::F64(g(x, constant)),
        })
    }

    #[inline(never)]
    pub(super) fn and(
        self,
        other: Self,
        f: fn(&Tensor<f32>, &Tensor<f32>) -> Tensor<f32>,
        g: fn(&Tensor<f64>, &Tensor<f64>) -> Tensor<f64>,
    ) -> Self {
        self.page.keep(match (self.of, other.of) {
            (Values::F32(x), Values::F32(y)) => AnyTensor::F32(f(x, y)),
            (Values::F64(x), Values::F64(y)) => AnyTensor::F64(g(x, y)),
            _ => unreachable!("a formula has one type"),
        })
    }

    /// Where a condition on the elements and a limit holds.
    pub(super) fn marked(self, limit: f64, holds: fn(f64, f64) -> bool) -> Marks<'a> {
        fn ones<T: Real>(x: &Tensor<T>, limit: f64, holds: fn(f64, f64) -> bool) -> Tensor<T> {
            let limit = T::of(limit).as_f64();
            map(x.data(), |x| T::of(f64::from(holds(x.as_f64(), limit)))).into()
        }
        let ones = each_type!(x = self.of; ones(x, limit, holds));
        Marks { ones: self.page.write(ones), by: self }
    }

    /// Where a condition on the elements of both holds.
    pub(super) fn marked_with(self, other: Self, holds: fn(f64, f64) -> bool) -> Marks<'a> {
        Marks { ones: self.page.combined(self.of, other.of, &|x, y| f64::from(holds(x, y))), by: self }
    }
}

/// The tensors of a formula.
pub(crate) struct Page {
    lines: [OnceCell<AnyTensor>; 4],
    next: OnceCell<Box<Page>>,
}

impl Page {
    fn new() -> Self {
        Page { lines: [const { OnceCell::new() }; 4], next: OnceCell::new() }
    }

    fn keep(&self, tensor: AnyTensor) -> Symbol<'_> {
        Symbol { of: self.write(tensor), page: self }
    }

    fn write(&self, tensor: AnyTensor) -> Values<'_> {
        match self.lines.iter().find(|line| line.get().is_none()) {
            Some(empty) => Values::inside(empty.get_or_init(|| tensor)),
            None => self.next.get_or_init(|| Box::new(Page::new())).write(tensor),
        }
    }

    /// `f` of each pair, broadcasting; no gradient flows.
    fn combined(&self, a: Values<'_>, b: Values<'_>, f: &(dyn Fn(f64, f64) -> f64 + Sync)) -> Values<'_> {
        fn combined<T: Real>(a: &Tensor<T>, b: &Tensor<T>, f: &(dyn Fn(f64, f64) -> f64 + Sync)) -> Tensor<T> {
            let shape = broadcast("formula", a, b).expect("shapes that the operation has checked");
            zip(a.data(), b.data(), shape, |x, y| T::of(f(x.as_f64(), y.as_f64()))).into()
        }
        self.write(each_type!(a = a, b = b; combined(a, b, f)))
    }

    /// The tensor at this address, if it is on this page.
    fn take(&mut self, at: *const ()) -> Option<AnyTensor> {
        let here = |line: &&mut OnceCell<AnyTensor>| line.get().is_some_and(|t| Values::inside(t).address() == at);
        match self.lines.iter_mut().find(here) {
            Some(line) => line.take(),
            None => self.next.get_mut()?.take(at),
        }
    }
}

/// The value of a formula on tensors.
pub(crate) fn on_tensors<T: Real>(
    inputs: [&Tensor<T>; 3],
    formula: &dyn for<'a> Fn([Symbol<'a>; 3]) -> Symbol<'a>,
) -> Tensor<T> {
    let mut page = Page::new();
    let [x, y, z] = inputs;
    let symbol = |of| Symbol { of: Values::of(of), page: &page };
    let at = formula([symbol(x), symbol(y), symbol(z)]).of.address();
    match page.take(at) {
        Some(result) => unerase(result).expect("the type of the inputs"),
        None => inputs.into_iter().find(|&input| ptr::from_ref(input).cast() == at).expect("an input").clone(),
    }
}

/// A mask of ones and zeros for a condition, and the tensors that were compared.
#[derive(Clone, Copy)]
pub(crate) struct Marks<'a> {
    ones: Values<'a>,
    by: Symbol<'a>,
}

impl Marks<'_> {
    fn with(self, other: Self, f: fn(f64, f64) -> f64) -> Self {
        Marks { ones: self.by.page.combined(self.ones, other.ones, &f), by: self.by }
    }
}

impl BitAnd for Marks<'_> {
    type Output = Self;
    fn bitand(self, other: Self) -> Self {
        self.with(other, |a, b| a * b)
    }
}
impl BitOr for Marks<'_> {
    type Output = Self;
    fn bitor(self, other: Self) -> Self {
        self.with(other, f64::max)
    }
}
impl Not for Marks<'_> {
    type Output = Self;
    fn not(self) -> Self {
        self.with(self, |a, _| 1. - a)
    }
}

impl Neg for Symbol<'_> {
    type Output = Self;
    #[inline(never)]
    fn neg(self) -> Self {
        typed!(self.by(), |x| -x)
    }
}

impl<'a> Formula for Symbol<'a> {
    #[inline(never)]
    fn kept(self, truth: Marks<'a>) -> Self {
        let kept = each_type!(x = self.of, ones = truth.ones, by = truth.by.of; connected(x, ones, by));
        self.page.keep(kept)
    }
    #[inline(never)]
    fn either(truth: Marks<'a>, yes: f64, no: f64) -> Self {
        fn either<T: Real>(ones: &Tensor<T>, by: &Tensor<T>, [yes, no]: [f64; 2]) -> Tensor<T> {
            let value = map(ones.data(), |one| T::of(if one == T::ONE { yes } else { no }));
            let shape = by.data().raw_dim();
            Tensor::op("either", value, [by], move |_, _| Ok([Some(Tensor::zeros(shape.slice()))]))
        }
        truth.by.page.keep(each_type!(ones = truth.ones, by = truth.by.of; either(ones, by, [yes, no])))
    }
    fn bounded(self, limit: f64) -> Self {
        typed!(self.with(limit), |x, limit| x.clamp(-limit, limit))
    }
    fn zero(self) -> Self {
        typed!(self.by(), |x| x.zeros_like())
    }
    fn fixed(self) -> Self {
        typed!(self.by(), |x| x.detach())
    }
    fn power(self, exponent: f64) -> Self {
        typed!(self.with(exponent), |x, exponent| x.pow_scalar(exponent))
    }
    fn power_of(self, base: f64) -> Self {
        typed!(self.with(base), |x, base| x.rpow(base))
    }
    fn polygamma(self, n: u32) -> Self {
        self.page.keep(each_type!(x = self.of; x.polygamma(n)))
    }
}
