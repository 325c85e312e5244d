//! Elementwise mathematics: a table of values and derivatives.

use crate::{
    kernels::elementwise::map,
    tensor::{Real, Tensor},
};

/// A row an operation: its value on numbers, and its derivative as tensors, of the input (`from input`) or of the
/// output (`from output`); the row says thereby what is kept for the backward pass.
macro_rules! unary {
    ($($(#[$doc:meta])* $name:ident: |$v:ident| $value:expr, from $kept:ident |$k:ident| $derivative:expr;)*) => {
        impl<T: Real> Tensor<T> {$(
            $(#[$doc])*
            pub fn $name(&self) -> Tensor<T> {
                let out = map(self.view(), |$v| $value);
                unary!(@ $kept self, stringify!($name), out, |$k| $derivative)
            }
        )*}
    };
    (@ input $x:ident, $name:expr, $out:ident, |$k:ident| $derivative:expr) => {{
        let kept = $x.clone();
        Tensor::op($name, $out, [$x], move |g, _| {
            let $k = &kept;
            Ok([Some(g * $derivative)])
        })
    }};
    (@ output $x:ident, $name:expr, $out:ident, |$k:ident| $derivative:expr) => {
        Tensor::op_with_output($name, $out, [$x], move |g, _, $k| Ok([Some(g * $derivative)]))
    };
}

unary! {
    /// `eˣ`
    exp: |x| x.exp(), from output |y| y;
    /// The natural logarithm.
    log: |x| x.ln(), from input |x| x.reciprocal();
    /// `√x`
    sqrt: |x| x.sqrt(), from output |y| (y * T::of(2.)).reciprocal();
    /// `1/x`
    reciprocal: |x| x.recip(), from output |y| -(y * y);
    /// `x²`
    square: |x| x * x, from input |x| x * T::of(2.);
    /// The sine.
    sin: |x| x.sin(), from input |x| x.cos();
    /// The cosine.
    cos: |x| x.cos(), from input |x| -x.sin();
    /// The hyperbolic tangent.
    tanh: |x| x.tanh(), from output |y| -(y * y) + T::ONE;
    /// `1 / (1 + e⁻ˣ)`
    sigmoid: |x| T::ONE / (T::ONE + (-x).exp()), from output |y| y * (-y + T::ONE);
}
