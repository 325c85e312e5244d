//! Elementwise mathematics: a table of values and derivatives.

use std::mem::MaybeUninit;

use num_traits::Float;

use super::{
    Lane,
    arithmetic::{binary, broadcast},
    select::{gate, keep_where},
    special::via_f64,
};
use crate::{
    Result,
    kernels::{
        elementwise::{Map, map, map_with, zip, zip_with},
        isa::Isa,
        special_f64,
    },
    tensor::{DType, Number, Operand, Real, Tensor, grad_enabled},
};

/// A row an operation: its value on numbers, in a loop compiled for `I` (in brackets the function of many elements, where
/// [`VectorMath`](crate::kernels::vmath::VectorMath) has one), and its derivative as a [`Formula`](super::Formula) of the
/// input (`from input`) or of the output (`from output`), or `zero`; the row says thereby what is kept for the backward
/// pass. `in f64 from input` is another form for `f64`. What a derivative of two names is, says [`gradient_of`].
macro_rules! unary {
    ($bound:ident, $formula:ident: $($(#[$doc:meta])* $name:ident $(($each:ident))?: |$v:ident| $value:expr,
     $kind:ident $($kept:ident |$($k:ident),+| $derivative:expr $(, in f64 from input |$wide:ident| $exact:expr)?)?;)*) => {
        impl<T: $bound> Tensor<T> {$(
            $(#[$doc])*
            pub fn $name(&self) -> Tensor<T> {
                struct Row;
                impl<T: $bound> Map<T, T> for Row {
                    #[inline(always)]
                    fn at<I: Isa>(&self, $v: T) -> T {
                        $value
                    }
                    $(
                        #[inline(always)]
                        fn each<I: Isa>(&self, x: &[T], out: &mut [MaybeUninit<T>]) {
                            T::$each::<I>(x, out)
                        }
                    )?
                }
                let out = map_with(self.view(), Row);
                $($(
                    if T::DTYPE == DType::F64 {
                        return unary!(@ from input $bound, $formula, self, stringify!($name), out, |$wide| $exact);
                    }
                )?)?
                unary!(@ $kind $($kept)? $bound, $formula, self, stringify!($name), out $(, |$($k),+| $derivative)?)
            }
        )*}
    };
    (@ from input $bound:ident, $formula:ident, $x:ident, $name:expr, $out:ident, $($derivative:tt)*) => {{
        unary!(@ gradient $bound, $formula, $($derivative)*);
        let kept = $x.clone();
        Tensor::op($name, $out, [$x], move |g, _| Ok([Some(gradient(g, &kept))]))
    }};
    (@ from output $bound:ident, $formula:ident, $x:ident, $name:expr, $out:ident, $($derivative:tt)*) => {{
        unary!(@ gradient $bound, $formula, $($derivative)*);
        Tensor::op_with_output($name, $out, [$x], |g, _, kept| Ok([Some(gradient(g, kept))]))
    }};
    (@ zero $bound:ident, $formula:ident, $x:ident, $name:expr, $out:ident) => {
        Tensor::op($name, $out, [$x], |g, _| Ok([Some(g.zeros_like())]))
    };
    // `gradient(g, kept)`: one pass over numbers, or tensor operations where these are recorded.
    (@ gradient $bound:ident, $formula:ident, $($derivative:tt)*) => {
        #[inline(always)]
        fn formula<T: $bound, E: $crate::ops::$formula<T>>(g: E, kept: E) -> E {
            $crate::ops::gradient_of!(g, kept, $($derivative)*)
        }
        struct Slope;
        impl<T: $bound> Map<(T, T), T> for Slope {
            #[inline(always)]
            fn at<I: Isa>(&self, (g, kept): (T, T)) -> T {
                formula::<T, Lane<I, T>>(Lane::new(g), Lane::new(kept)).0
            }
        }
        fn gradient<T: $bound>(g: &Tensor<T>, kept: &Tensor<T>) -> Tensor<T> {
            match grad_enabled() {
                true => formula::<T, Tensor<T>>(g.clone(), kept.clone()),
                false => zip_with(g.view(), kept.view(), g.shape(), Slope).into(),
            }
        }
    };
}
pub(super) use unary;

unary! { Number, Formula:
    /// `|x|`; the gradient at 0 is 0.
    abs: |x| x.magnitude(), from input |g, x| g.kept(&x, |x| sign_of(x) != T::ZERO) * x.step(sign_of);
    /// -1, 0 or 1, as `x` is negative, zero (or NaN) or positive; the gradient is 0.
    sign: |x| sign_of(x), zero;
    /// `x²`
    square: |x| x.times(x), from input |x| x * T::of(2.);
}

unary! { Real, RealFormula:
    /// `eˣ`
    exp: |x| x.vexp::<I>(), from output |y| y;
    /// `2ˣ`
    exp2: |x| x.exp2(), from output |y| y * T::LN_2();
    /// `eˣ - 1`, exact near 0.
    expm1: |x| x.vexp_m1::<I>(), from input |x| x.exp();
    /// The natural logarithm.
    log: |x| x.vln::<I>(), from input |g, x| g.over(x);
    /// The logarithm to base 2.
    log2: |x| x.log2(), from input |g, x| (g * T::LOG2_E()).over(x);
    /// The logarithm to base 10.
    log10: |x| x.log10(), from input |g, x| (g * T::LOG10_E()).over(x);
    /// `log(1 + x)`, exact near 0.
    log1p: |x| x.vln_1p::<I>(), from input |x| (x + T::ONE).reciprocal();
    /// `√x`
    sqrt: |x| x.sqrt(), from output |y| (y * T::of(2.)).reciprocal();
    /// `1/√x`
    rsqrt: |x| x.sqrt().recip(), from output |g, y| g * T::of(-0.5) * y.clone() * y.clone() * y;
    /// `1/x`
    reciprocal: |x| x.recip(), from output |g, y| -(g * y.clone() * y);
    /// The sine, of radians.
    sin: |x| x.sin(), from input |x| x.cos();
    /// The cosine, of radians.
    cos: |x| x.cos(), from input |x| -x.sin();
    /// The tangent, of radians.
    tan: |x| x.tan(), from output |y| y.clone() * y + T::ONE;
    /// The inverse sine, in radians; NaN outside [-1, 1].
    asin: |x| x.asin(), from input |x| x.one_less_square().rsqrt();
    /// The inverse cosine, in radians; NaN outside [-1, 1].
    acos: |x| x.acos(), from input |x| -x.one_less_square().rsqrt();
    /// The inverse tangent, in radians.
    atan: |x| x.atan(), from input |g, x| {
        let r = x.hypot_1().reciprocal();
        g * r.clone() * r
    };
    /// The hyperbolic sine.
    sinh: |x| x.sinh(), from input |x| x.cosh();
    /// The hyperbolic cosine.
    cosh: |x| x.cosh(), from input |x| x.sinh();
    /// The hyperbolic tangent.
    tanh (vtanh_each): |x| x.vtanh::<I>(), from output |y| y.one_less_square(),
        in f64 from input |x| x.sech_square();
    /// The inverse hyperbolic sine.
    asinh: |x| via_f64(x, special_f64::asinh), from input |x| x.hypot_1().reciprocal();
    /// The inverse hyperbolic cosine; NaN below 1.
    acosh: |x| via_f64(x, special_f64::acosh), from input |x| (x.clone() + -T::ONE).rsqrt() * (x + T::ONE).rsqrt();
    /// The inverse hyperbolic tangent; NaN outside [-1, 1].
    atanh: |x| artanh(x), from input |x| x.one_less_square().reciprocal();
    /// `1 / (1 + e⁻ˣ)`
    sigmoid: |x| x.vsigmoid::<I>(), from output |y| y.clone() * (-y + T::ONE),
        in f64 from input |x| x.clone().sigmoid() * (-x).sigmoid();
    /// The largest whole number that is not above `x`; the gradient is 0.
    floor: |x| x.floor(), zero;
    /// The smallest whole number that is not below `x`; the gradient is 0.
    ceil: |x| x.ceil(), zero;
    /// `x` without its fraction; the gradient is 0.
    trunc: |x| x.trunc(), zero;
    /// The nearest whole number, halves going to the even one; the gradient is 0.
    round: |x| half_to_even(x), zero;
}

fn sign_of<T: Number>(x: T) -> T {
    if x > T::ZERO {
        T::ONE
    } else if x < T::ZERO {
        -T::ONE
    } else {
        T::ZERO
    }
}

fn artanh<T: Real>(x: T) -> T {
    // std's formula loses digits near -1, where ln_1p's argument is near -1 too.
    let a = x.abs();
    (((a + a) / (T::ONE - a)).ln_1p() * T::of(0.5)).copysign(x)
}

fn half_to_even<T: Real>(x: T) -> T {
    // Exact: every f32 is an f64, and whole numbers that round to are in both.
    T::of(x.as_f64().round_ties_even())
}

impl<T: Number> Tensor<T> {
    /// `-x`
    pub fn neg(&self) -> Tensor<T> {
        -self
    }

    /// [`sign`](Tensor::sign): PyTorch has both, and they differ for complex numbers only.
    pub fn sgn(&self) -> Tensor<T> {
        self.sign()
    }
}

impl<T: Real> Tensor<T> {
    /// `x - trunc(x)`; has the sign of `x`.
    pub fn frac(&self) -> Tensor<T> {
        Tensor::op("frac", map(self.view(), |x| x - x.trunc()), [self], |g, _| Ok([Some(g.clone())]))
    }

    /// `x` rounded to so many decimals, or, if negative, to tens, hundreds, …; the gradient is 0.
    pub fn round_decimals(&self, decimals: i32) -> Tensor<T> {
        let ten = T::of(10f64.powi(decimals.saturating_abs()));
        let out = map(self.view(), |x| match decimals {
            0 => half_to_even(x),
            1.. => half_to_even(x * ten) / ten,
            _ => half_to_even(x / ten) * ten,
        });
        Tensor::op("round", out, [self], |g, _| Ok([Some(g.zeros_like())]))
    }

    /// NaN, +∞ and -∞ replaced by these values, by default 0, the type's largest and its smallest number; they get no
    /// gradient.
    pub fn nan_to_num(&self, nan: Option<T>, posinf: Option<T>, neginf: Option<T>) -> Tensor<T> {
        let (nan, posinf, neginf) =
            (nan.unwrap_or(T::ZERO), posinf.unwrap_or(Float::max_value()), neginf.unwrap_or(Float::min_value()));
        let out = map(self.view(), |x: T| match x {
            x if x.is_finite() => x,
            x if x.is_nan() => nan,
            x if x > T::ZERO => posinf,
            _ => neginf,
        });
        let x = self.clone();
        Tensor::op("nan_to_num", out, [self], move |g, _| Ok([Some(gate(g, &x, |x| x.is_finite()))]))
    }

    /// `xᵉ` for one exponent; the gradient is 0 where the exponent is.
    pub fn pow_scalar(&self, exponent: T) -> Tensor<T> {
        let out = match exponent.as_f64() {
            1. => map(self.view(), |x| x),
            2. => map(self.view(), |x: T| x * x),
            3. => map(self.view(), |x: T| x * x * x),
            0.5 => map(self.view(), |x: T| x.sqrt()),
            -0.5 => map(self.view(), |x: T| x.sqrt().recip()),
            -1. => map(self.view(), |x: T| x.recip()),
            -2. => map(self.view(), |x: T| (x * x).recip()),
            _ => map(self.view(), |x: T| x.powf(exponent)),
        };
        let x = self.clone();
        Tensor::op("pow", out, [self], move |g, _| {
            let slope = |e: T| g * (x.pow_scalar(e - T::ONE) * e);
            Ok([Some(if exponent == T::ZERO { g.zeros_like() } else { slope(exponent) })])
        })
    }

    /// `selfᵉ`, element by element, broadcasting; the exponent is a tensor or a scalar.
    ///
    /// The base gets no gradient where the exponent is 0, the exponent none where the base is 0 and it is not negative.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn pow(&self, exponent: impl Operand<T>) -> Result<Tensor<T>> {
        let exponent = exponent.operand();
        if exponent.ndim() == 0 && !exponent.requires_grad() {
            return Ok(self.pow_scalar(exponent.item()?));
        }
        binary(
            "pow",
            [self, &exponent],
            |x, e| x.powf(e),
            [true, true],
            |g, x, e| (g * (e * x.pow(&(e - T::ONE))?)).masked_fill(&e.eq(T::ZERO)?, T::ZERO),
            |g, x, e| {
                let flat = &x.eq(T::ZERO)?.logical_and(&e.ge(T::ZERO)?)?;
                (g * (x.pow(e)? * x.log())).masked_fill(flat, T::ZERO)
            },
        )
    }

    /// `baseˣ`: Python's `base ** x`.
    pub fn rpow(&self, base: T) -> Tensor<T> {
        let out = map(self.view(), |x| base.powf(x));
        let x = self.clone();
        Tensor::op_with_output("rpow", out, [self], move |g, _, y| {
            let grad = g * (y * base.ln());
            Ok([Some(match base {
                // 1 everywhere.
                b if b == T::ONE => g.zeros_like(),
                b if b == T::ZERO => gate(&grad, &x, |x| x < T::ZERO || x.is_nan()),
                _ => grad,
            })])
        })
    }

    /// The angle of the point `(other, self)`, in (-π, π], broadcasting; no gradient at the origin.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn atan2(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        fn over_square<T: Real>(y: &Tensor<T>, x: &Tensor<T>) -> Result<Tensor<T>> {
            let square = x * x + y * y;
            square.reciprocal().masked_fill(&square.eq(T::ZERO)?, T::ZERO)
        }
        binary(
            "atan2",
            [self, &other.operand()],
            |y, x| y.atan2(x),
            [true, true],
            |g, y, x| Ok(g * x * over_square(y, x)?),
            |g, y, x| Ok(-(g * y * over_square(y, x)?)),
        )
    }

    /// `√(self² + other²)`, broadcasting, without overflow; the gradient at (0, 0) is NaN, as in PyTorch.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn hypot(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        // `x / √(x² + y²)`, also where the root is beyond all numbers.
        fn cosine<T: Real>(x: &Tensor<T>, y: &Tensor<T>) -> Result<Tensor<T>> {
            let large = |x: T, y: T| x.abs() > T::ONE || y.abs() > T::ONE;
            let shape = broadcast("hypot", x, y)?;
            let scale: Tensor<T> =
                zip(x.view(), y.view(), &shape, |x, y| if large(x, y) { T::of(0.5) } else { T::ONE }).into();
            let (x, y) = (x * &scale, y * &scale);
            x.try_div(&x.hypot(&y)?)
        }
        binary(
            "hypot",
            [self, &other.operand()],
            |x, y| x.hypot(y),
            [true, true],
            |g, x, y| Ok(g * cosine(x, y)?),
            |g, x, y| Ok(g * cosine(y, x)?),
        )
    }

    /// `|self|` with the sign of `other`, broadcasting; the gradient at 0 is 0.
    ///
    /// # Errors
    /// If the shapes do not broadcast together.
    pub fn copysign(&self, other: impl Operand<T>) -> Result<Tensor<T>> {
        binary(
            "copysign",
            [self, &other.operand()],
            |x, y| x.abs().copysign(y),
            [true, true],
            |g, x, y| {
                let one = Tensor::scalar(T::ONE);
                Ok(keep_where(g, &x.broadcast_to(g.shape())?, |x| x != T::ZERO) * (x.sign() * one.copysign(y)?))
            },
            |g, _, _| Ok(g.zeros_like()),
        )
    }
}
