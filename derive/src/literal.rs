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

/// The element type that the first literal stands for, as PyTorch would choose; `None` where there is no literal.
fn element(rows: TokenStream) -> Option<TokenStream> {
    rows.into_iter().find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket => element(group.stream()),
        TokenTree::Ident(word) if word == "true" || word == "false" => Some(quote!(bool)),
        TokenTree::Literal(literal) => {
            let text = literal.to_string();
            Some(if text.ends_with("f64") {
                quote!(f64)
            } else if text.contains('.') || text.ends_with("f32") || (text.contains('e') && !text.starts_with("0x")) {
                quote!(f32)
            } else {
                quote!(i64)
            })
        }
        _ => None,
    })
}
