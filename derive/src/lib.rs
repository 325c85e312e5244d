//! The macros of ndnn: `#[derive(Module)]`, `#[forward]` and `tensor!`; inside ndnn, `#[concrete]` and
//! `#[derive(Getters)]`.

mod concrete;
mod forward;
mod getters;
mod literal;
mod module;

use proc_macro::TokenStream;

/// A tensor from its elements: `tensor![1.0, 2.0]`, `tensor![[1, 2], [3, 4]]`, `tensor![0.5; f64]`.
///
/// Floats become `f32`, integers `i64` and bools `bool`, as in PyTorch; a type after `;` overrides this.
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

/// Makes a struct a module with the parameters, buffers and children in its fields, under the names of the fields.
///
/// Every field is visited. Plain data (numbers, `bool`, `String`, …) are skipped by their types; any other type is a
/// compile-time error, unless the field is marked `#[module(skip)]`. The macro also implements a deep `Clone`,
/// `Display` as in PyTorch and, for a struct with a type parameter bounded by `Real`, `Dtype`. For an enum, the members
/// are the fields of the current variant, and it prints as `Enum::Variant`.
///
/// On a field:
/// - `#[module(skip)]` ignores it; it is cloned by its own `Clone`.
/// - `#[module(flatten)]`, on a module, shows its members as if they were the struct's, without the field's name: for
///   wrappers.
/// - `#[module(name = "self")]` shows it under another name, for example one that Rust does not allow.
///
/// On the struct:
/// - `#[module(repr)]` prints what its method `extra_repr(&self) -> String` returns.
/// - `#[module(name = "LayerNorm")]` prints another name; `#[module(name)]` prints what its method
///   `type_name(&self) -> String` returns.
/// - `#[module(stateless)]` declares that it holds no numbers of an element type: `Dtype` returns it
///   unchanged.
/// - `#[module(upgrade)]` renames the entries of older files with the struct's method `upgrade(&self, prefix: &str, state: &mut
///   StateDict)`.
/// - `#[module(no_dtype)]` does not implement `Dtype`.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Net {
///     fc1: Linear,
///     fc2: Linear,
///     steps: usize,
///     #[module(skip)]
///     started: std::time::Instant,
/// }
/// let net = Net { fc1: Linear::new(4, 8), fc2: Linear::new(8, 2), steps: 0, started: std::time::Instant::now() };
/// let names: Vec<String> = net.named_parameters().into_iter().map(|(name, _)| name).collect();
/// assert_eq!(names, ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]);
/// # let _ = (net.steps, net.started);
/// ```
#[proc_macro_derive(Module, attributes(module))]
pub fn derive_module(input: TokenStream) -> TokenStream {
    module::expand(syn::parse_macro_input!(input)).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Inside ndnn: compiles a function of `T: Real` for `f32` in ndnn itself. A user's crate calls that form, and compiles
/// the function for another type only if it uses it.
///
/// On a function in `impl<T: Real> Tensor<T>` its argument is the bound of `T`: `#[concrete(Real)]`. `impl Into<X>`,
/// `impl AsRef<X>`, `impl Operand<T>` and `impl Int` are converted before the call.
#[doc(hidden)]
#[proc_macro_attribute]
pub fn concrete(bound: TokenStream, function: TokenStream) -> TokenStream {
    let bound = if bound.is_empty() { None } else { Some(syn::parse_macro_input!(bound)) };
    concrete::expand(bound, syn::parse_macro_input!(function)).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Inside ndnn: a method `get_<field>` for each field of a struct of options.
#[doc(hidden)]
#[proc_macro_derive(Getters)]
pub fn derive_getters(input: TokenStream) -> TokenStream {
    getters::expand(syn::parse_macro_input!(input)).unwrap_or_else(syn::Error::into_compile_error).into()
}

/// Turns a `forward` into a call, like PyTorch's `__call__`: on an `impl Forward for Net`, on an `impl` block that
/// contains a `forward` with another signature, or on a single method.
///
/// - An error says where it happened: `in Net.encoder.0 (Linear(…))`.
/// - [`summary`](../ndnn/nn/fn.summary.html) sees the call.
/// - [Hooks](../ndnn/module/hooks/index.html) see arguments and results that are tensors or groups of them, and may replace them.
///
/// The method takes `&self` and returns a [`Result`](../ndnn/type.Result.html); its body may use `?` and `return`.
/// Without hooks and summaries it costs one relaxed load.
///
/// ```
/// use ndnn::prelude::*;
/// #[derive(Module)]
/// struct Scaled { fc: Linear }
/// #[forward]
/// impl Scaled {
///     fn forward(&self, x: &Tensor, scale: Option<f32>) -> Result<Tensor> {
///         let y = self.fc.forward(x)?;
///         Ok(match scale {
///             Some(scale) => y * scale,
///             None => return Ok(y),
///         })
///     }
/// }
/// let net = Scaled { fc: Linear::new(2, 1) };
/// let error = net.forward(&Tensor::zeros([1, 3]), None).unwrap_err().to_string();
/// assert!(error.ends_with("; in Scaled.fc (Linear(in_features=2, out_features=1, bias=True))"));
/// ```
#[proc_macro_attribute]
pub fn forward(attribute: TokenStream, item: TokenStream) -> TokenStream {
    forward::expand(attribute.into(), item.into()).unwrap_or_else(syn::Error::into_compile_error).into()
}
