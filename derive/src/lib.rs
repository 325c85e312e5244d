//! The macros of ndnn: `#[derive(Module)]` and `tensor!`.

mod literal;

use proc_macro::TokenStream;

/// A tensor from its elements: `tensor![1.0, 2.0]`, `tensor![[1, 2], [3, 4]]`, `tensor![0.5; f64]`.
///
/// Floats make `f32`, integers `i64` and bools `bool`, as in PyTorch; a type after `;` makes that.
///
/// ```
/// use ndnn::prelude::*;
/// assert_eq!(tensor![[1.0, 2.0], [3.0, 4.0]].shape(), [2, 2]);
/// assert_eq!(tensor![[1, 2, 3]; f64].dtype(), ndnn::DType::F64);
/// assert_eq!(tensor![true, false].dtype(), ndnn::DType::Bool);
/// ```
#[proc_macro]
pub fn tensor(input: TokenStream) -> TokenStream {
    literal::expand(input.into()).into()
}
