//! `tensor!`: the element type of nested literals.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::quote;

/// The expansion of `tensor![rows]` or `tensor![rows; type]`.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = input.into_iter().collect();
    let semicolon = tokens.iter().position(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ';'));
    let rows: TokenStream = tokens[..semicolon.unwrap_or(tokens.len())].iter().cloned().collect();
    let named: Option<TokenStream> = semicolon.map(|at| tokens[at + 1..].iter().cloned().collect());
    match named.or_else(|| element(rows.clone())) {
        Some(element) => quote!(::ndnn::__private::tensor_of::<#element, _>([#rows])),
        None => quote!(::ndnn::__private::tensor_default([#rows])),
    }
}

/// The element type for the first element that is a literal, as PyTorch would choose it; `None` if there is no literal, and
/// the type of the expressions decides. Only a literal that is the whole element counts: in `v[0]` and `pair.1` it does not
/// determine the type. An explicit `f64` suffix counts, since to Rust `1.0` is an `f64` too.
fn element(rows: TokenStream) -> Option<TokenStream> {
    let tokens: Vec<TokenTree> = rows.into_iter().collect();
    let is = |token: &TokenTree, c| matches!(token, TokenTree::Punct(p) if p.as_char() == c);
    tokens.split(|token| is(token, ',')).find_map(|element_tokens| match element_tokens {
        [TokenTree::Group(group)] if group.delimiter() == Delimiter::Bracket => element(group.stream()),
        [TokenTree::Ident(word)] if word == "true" || word == "false" => Some(quote!(bool)),
        [signs @ .., TokenTree::Literal(literal)] if signs.iter().all(|token| is(token, '-')) => {
            let text = literal.to_string();
            Some(if text.ends_with("f64") {
                quote!(f64)
            } else if text.contains('.')
                || text.ends_with("f32")
                || (text.contains('e') && !text.starts_with("0x") && !text.ends_with("size"))
            {
                quote!(f32)
            } else {
                quote!(i64)
            })
        }
        others => {
            let is_f64 = |token: &TokenTree| matches!(token, TokenTree::Literal(l) if l.to_string().ends_with("f64"));
            others.iter().any(is_f64).then(|| quote!(f64))
        }
    })
}
