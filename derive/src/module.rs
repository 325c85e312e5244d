//! `#[derive(Module)]`: the members of a struct, its clone, its printed form, and its conversion between element types.

use proc_macro2::{Span, TokenStream};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericParam, Ident, Index, Member, Result, Type, TypeParamBound,
    WherePredicate, parse_quote, spanned::Spanned, visit::Visit,
};

/// One field: how it is reached, its type, and whether it was marked `#[module(skip)]`.
struct Field {
    member: Member,
    name: String,
    ty: Type,
    skip: bool,
}

/// What stands in `#[module(…)]` on the struct.
#[derive(Default)]
struct Options {
    /// `extra_repr` is a method of the struct.
    repr: bool,
    /// `type_name` is a method of the struct.
    name: bool,
    /// No `Dtype` although there is a type parameter bound by `Real`.
    no_dtype: bool,
}

pub(crate) fn expand(input: DeriveInput) -> Result<TokenStream> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new(
            input.ident.span(),
            "#[derive(Module)] is for structs; write `impl Module` for an enum",
        ));
    };
    let options = options(&input.attrs)?;
    let fields = fields(&data.fields)?;
    let module = module(&input, &options, &fields);
    let clone = clone(&input, &fields);
    let display = display(&input);
    let dtype = match real_parameter(&input) {
        Some(real) if !options.no_dtype => dtype(&input, &real, &fields),
        _ => TokenStream::new(),
    };
    Ok(quote!(#module #clone #display #dtype))
}

fn options(attrs: &[Attribute]) -> Result<Options> {
    let mut options = Options::default();
    for attr in attrs.iter().filter(|a| a.path().is_ident("module")) {
        attr.parse_nested_meta(|meta| {
            match meta.path.to_token_stream().to_string().as_str() {
                "repr" => options.repr = true,
                "name" => options.name = true,
                "no_dtype" => options.no_dtype = true,
                other => return Err(meta.error(format!("no option `{other}`; there are repr, name and no_dtype"))),
            }
            Ok(())
        })?;
    }
    Ok(options)
}

fn fields(fields: &Fields) -> Result<Vec<Field>> {
    let mut found = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let mut skip = false;
        for attr in field.attrs.iter().filter(|a| a.path().is_ident("module")) {
            attr.parse_nested_meta(|meta| {
                if !meta.path.is_ident("skip") {
                    return Err(meta.error("a field takes #[module(skip)] only"));
                }
                skip = true;
                Ok(())
            })?;
        }
        let member =
            field.ident.clone().map_or(Member::Unnamed(Index { index: i as u32, span: field.span() }), Member::Named);
        let name = match &member {
            Member::Named(ident) => ident.to_string().trim_start_matches("r#").to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        };
        found.push(Field { member, name, ty: field.ty.clone(), skip });
    }
    Ok(found)
}

/// Whether a type names one of the given type parameters.
fn mentions(ty: &Type, params: &[Ident]) -> bool {
    struct Search<'a>(&'a [Ident], bool);
    impl<'ast> Visit<'ast> for Search<'_> {
        fn visit_ident(&mut self, ident: &'ast Ident) {
            self.1 |= self.0.contains(ident);
        }
    }
    let mut search = Search(params, false);
    search.visit_type(ty);
    search.1
}

/// The struct's generics, with `Field` asked of every field type that depends on them, and of each type parameter what a
/// module must be.
fn bounded(input: &DeriveInput, fields: &[Field]) -> syn::Generics {
    let mut generics = input.generics.clone();
    let params: Vec<Ident> = generics.type_params().map(|p| p.ident.clone()).collect();
    for param in &params {
        let bound: WherePredicate = parse_quote!(#param: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(bound);
    }
    for field in fields.iter().filter(|f| mentions(&f.ty, &params)) {
        let ty = &field.ty;
        let bound = if field.skip { quote!(::core::clone::Clone) } else { quote!(::ndnn::module::Field) };
        generics.make_where_clause().predicates.push(parse_quote!(#ty: #bound));
    }
    generics
}

fn module(input: &DeriveInput, options: &Options, fields: &[Field]) -> TokenStream {
    let ident = &input.ident;
    let generics = bounded(input, fields);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    // Spanned at the type, so that an unknown one is marked in the struct and not at the derive.
    let each = |call: &dyn Fn(&Field) -> TokenStream| -> Vec<TokenStream> {
        fields.iter().filter(|f| !f.skip).map(call).collect()
    };
    let show = each(
        &|Field { member, name, ty, .. }| quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Field>::show(&self.#member, #name, members);),
    );
    let show_mut = each(
        &|Field { member, ty, .. }| quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Field>::show_mut(&mut self.#member, members);),
    );
    let type_name = match options.name {
        true => quote!(Self::type_name(self)),
        false => {
            let name = ident.to_string();
            quote!(::std::string::String::from(#name))
        }
    };
    let extra_repr = options.repr.then(|| {
        quote! {
            fn extra_repr(&self) -> ::std::string::String {
                Self::extra_repr(self)
            }
        }
    });
    quote! {
        impl #impl_generics ::ndnn::module::Module for #ident #ty_generics #where_clause {
            fn members<'__members>(&'__members self, members: &mut ::ndnn::module::Members<'__members>) {
                let _ = &members;
                #(#show)*
            }
            fn members_mut<'__members>(&'__members mut self, members: &mut ::ndnn::module::MembersMut<'__members>) {
                let _ = &members;
                #(#show_mut)*
            }
            fn type_name(&self) -> ::std::string::String {
                #type_name
            }
            #extra_repr
        }
    }
}

fn clone(input: &DeriveInput, fields: &[Field]) -> TokenStream {
    let ident = &input.ident;
    let generics = bounded(input, fields);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let copies = fields.iter().map(|f| {
        let Field { member, ty, .. } = f;
        match f.skip {
            true => quote_spanned!(ty.span()=> #member: <#ty as ::core::clone::Clone>::clone(&self.#member)),
            false => quote_spanned!(ty.span()=> #member: <#ty as ::ndnn::module::Field>::copy(&self.#member)),
        }
    });
    quote! {
        /// A deep copy: nothing is shared with the original; parameters tied inside stay tied.
        impl #impl_generics ::core::clone::Clone for #ident #ty_generics #where_clause {
            fn clone(&self) -> Self {
                ::ndnn::module::copying(|| #ident { #(#copies),* })
            }
        }
    }
}

fn display(input: &DeriveInput) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let mut generics = input.generics.clone();
    let this: Type = parse_quote!(#ident #ty_generics);
    let bounded = (!generics.params.is_empty()).then(|| {
        generics.make_where_clause().predicates.push(parse_quote!(#this: ::ndnn::module::Module));
        generics.where_clause.clone()
    });
    let where_clause = bounded.as_ref().map_or(where_clause, Option::as_ref);
    quote! {
        /// As PyTorch prints a module.
        impl #impl_generics ::core::fmt::Display for #ident #ty_generics #where_clause {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(&::ndnn::module::repr(self))
            }
        }
    }
}

/// The type parameter bound by `Real`, where there is one.
fn real_parameter(input: &DeriveInput) -> Option<Ident> {
    let is_real = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Trait(t) if t.path.segments.last().is_some_and(|s| s.ident == "Real"));
    input.generics.type_params().find(|p| p.bounds.iter().any(is_real)).map(|p| p.ident.clone())
}

fn dtype(input: &DeriveInput, real: &Ident, fields: &[Field]) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let to = format_ident!("__U", span = Span::call_site());
    let arguments = input.generics.params.iter().map(|p| match p {
        GenericParam::Type(t) if t.ident == *real => to.to_token_stream(),
        GenericParam::Type(t) => t.ident.to_token_stream(),
        GenericParam::Const(c) => c.ident.to_token_stream(),
        GenericParam::Lifetime(l) => l.lifetime.to_token_stream(),
    });
    let with = quote!(#ident<#(#arguments),*>);
    let converted = fields.iter().map(|f| {
        let member = &f.member;
        match mentions(&f.ty, std::slice::from_ref(real)) {
            true => quote!(#member: ::ndnn::module::Dtype::dtype::<#to>(self.#member)),
            false => quote!(#member: self.#member),
        }
    });
    quote! {
        impl #impl_generics ::ndnn::module::Dtype for #ident #ty_generics #where_clause {
            type With<#to: ::ndnn::Real> = #with;
            #[track_caller]
            fn dtype<#to: ::ndnn::Real>(self) -> #with {
                ::ndnn::module::copying(|| #ident { #(#converted),* })
            }
        }
    }
}
