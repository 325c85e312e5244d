//! `#[derive(Getters)]`: reading the private fields of a struct of options.

use quote::{format_ident, quote};
use syn::{Data, DeriveInput, Error, Result};

/// A method `get_<field>` for each field, which copies it.
pub(crate) fn expand(input: DeriveInput) -> Result<proc_macro2::TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(input.ident.span(), "#[derive(Getters)] is for structs"));
    };
    let getters = data.fields.iter().filter_map(|field| {
        let (name, ty) = (field.ident.as_ref()?, &field.ty);
        let getter = format_ident!("get_{name}");
        let docs = field.attrs.iter().filter(|attr| attr.path().is_ident("doc"));
        Some(quote! {
            #(#docs)*
            pub fn #getter(&self) -> #ty {
                self.#name
            }
        })
    });
    let ident = &input.ident;
    let (generics, arguments, wheres) = input.generics.split_for_impl();
    Ok(quote! { impl #generics #ident #arguments #wheres { #(#getters)* } })
}
