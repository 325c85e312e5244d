//! `tensor!`: the element type of nested literals.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::quote;

/// The expansion of `tensor![rows]` or `tensor![rows; type]`.
pub(crate) fn expand(input: TokenStream) -> TokenStream {
    let tokens: Vec<TokenTree> = input.into_iter().collect();
    let semicolon = tokens.iter().position(|t| matches!(t, TokenTree::Punct(p) if p.as_char() == ';'));
    let rows: TokenStream = tokens[..semicolon.unwrap_or(tokens.len())].iter().cloned().collect();
    let named: Option<TokenStream> = semicolon.map(|at| tokens[at + 1..].iter().cloned().collect());
    match named.or_else(|| has_f64(rows.clone()).then(|| quote!(f64))) {
        Some(element) => quote!(::ndnn::__private::tensor_of::<#element, _>([#rows])),
        None => quote!(::ndnn::__private::tensor_default([#rows])),
    }
}

/// Whether the first literal of the rows is written as an `f64`: to Rust `1.0` is one too, and so the type does not tell.
/// Everything else does; brackets behind an expression, as in `v[0]`, are no rows.
fn has_f64(rows: TokenStream) -> bool {
    fn first(rows: TokenStream) -> Option<bool> {
        let mut starts = true;
        for token in rows {
            match &token {
                TokenTree::Group(group) if starts && group.delimiter() == Delimiter::Bracket => {
                    if let Some(found) = first(group.stream()) {
                        return Some(found);
                    }
                }
                TokenTree::Literal(literal) => return Some(literal.to_string().ends_with("f64")),
                _ => {}
            }
            starts = matches!(&token, TokenTree::Punct(p) if p.as_char() == ',');
        }
        None
    }
    first(rows) == Some(true)
}
