//! `#[derive(Module)]`: the members of a struct or an enum, its clone, its printed form, and its conversion between
//! element types.

use proc_macro2::{Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote, quote_spanned};
use syn::{
    Attribute, Data, DeriveInput, Error, Fields, GenericArgument, GenericParam, Ident, Index, LitStr, Member,
    PathArguments, Result, Token, Type, TypeParamBound, WherePredicate, ext::IdentExt, meta::ParseNestedMeta,
    parse_quote, spanned::Spanned,
};

/// How a field is treated.
#[derive(Clone, Copy, PartialEq)]
enum FieldKind {
    /// It is shown under its name.
    Member,
    /// Its members appear among the struct's own.
    Flattened,
    /// It is ignored.
    Skipped,
}

/// One field: how it is accessed, the name under which it is shown, and its type.
struct Field {
    member: Member,
    name: String,
    ty: Type,
    kind: FieldKind,
}

impl Field {
    /// The variable that a pattern binds the field to.
    fn binding(&self) -> Ident {
        format_ident!("__{}", self.member.to_token_stream().to_string().trim_start_matches("r#"))
    }
}

/// A struct, or one variant of an enum.
struct Variant {
    /// The path before the braces: `Self`, or `Self::Variant`.
    path: TokenStream,
    /// The name that is printed.
    name: String,
    fields: Vec<Field>,
}

impl Variant {
    /// The pattern that binds every field.
    fn pattern(&self) -> TokenStream {
        let path = &self.path;
        let bound = self.fields.iter().map(|f| {
            let (member, binding) = (&f.member, f.binding());
            quote!(#member: #binding)
        });
        quote!(#path { #(#bound),* })
    }
}

/// The options in `#[module(…)]` on the struct.
#[derive(Default)]
struct Options {
    /// `extra_repr` is a method of the struct.
    repr: bool,
    /// `type_name` is a method of the struct.
    name: bool,
    /// The name that is printed, if it is not the struct's.
    renamed: Option<String>,
    /// `upgrade` is a method of the struct.
    upgrade: bool,
    /// Do not implement `Dtype`, although there is a type parameter bounded by `Real`.
    no_dtype: bool,
    /// It is the same for every element type.
    stateless: bool,
}

pub(crate) fn expand(input: DeriveInput) -> Result<TokenStream> {
    let options = options(&input.attrs)?;
    let variants = variants(&input, &options)?;
    let module = module(&input, &options, &variants);
    let clone = clone(&input, &variants);
    let display = display(&input);
    let dtype = match real_parameter(&input) {
        _ if options.stateless => stateless(&input),
        Some(real) if !options.no_dtype => dtype(&input, &real, &variants),
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
                "name" => match text(&meta)? {
                    None => options.name = true,
                    renamed => options.renamed = renamed,
                },
                "upgrade" => options.upgrade = true,
                "no_dtype" => options.no_dtype = true,
                "stateless" => options.stateless = true,
                other => {
                    let known = "there are repr, name, name = \"…\", upgrade, stateless and no_dtype";
                    return Err(meta.error(format!("no option `{other}`; {known}")));
                }
            }
            Ok(())
        })?;
    }
    Ok(options)
}

/// The value after an option's `=`, if there is one.
fn text(meta: &ParseNestedMeta<'_>) -> Result<Option<String>> {
    match meta.input.peek(Token![=]) {
        true => Ok(Some(meta.value()?.parse::<LitStr>()?.value())),
        false => Ok(None),
    }
}

/// A struct's only variant, or those of an enum.
fn variants(input: &DeriveInput, options: &Options) -> Result<Vec<Variant>> {
    let ident = &input.ident;
    let name = options.renamed.clone().unwrap_or_else(|| ident.to_string());
    match &input.data {
        Data::Struct(data) => Ok(vec![Variant { path: quote!(#ident), name, fields: fields(&data.fields)? }]),
        Data::Enum(data) if !data.variants.is_empty() => data
            .variants
            .iter()
            .map(|v| {
                let variant = &v.ident;
                let name = format!("{name}::{variant}");
                Ok(Variant { path: quote!(#ident::#variant), name, fields: fields(&v.fields)? })
            })
            .collect(),
        _ => Err(Error::new(ident.span(), "#[derive(Module)] is for structs, and for enums that have a variant")),
    }
}

fn fields(fields: &Fields) -> Result<Vec<Field>> {
    let mut found = Vec::new();
    for (i, field) in fields.iter().enumerate() {
        let (mut kind, mut renamed) = (FieldKind::Member, None);
        for attr in field.attrs.iter().filter(|a| a.path().is_ident("module")) {
            attr.parse_nested_meta(|meta| {
                match meta.path.to_token_stream().to_string().as_str() {
                    "skip" => kind = FieldKind::Skipped,
                    "flatten" => kind = FieldKind::Flattened,
                    "name" => renamed = text(&meta)?,
                    _ => return Err(meta.error("a field takes #[module(skip)], flatten or name = \"…\"")),
                }
                Ok(())
            })?;
        }
        let member =
            field.ident.clone().map_or(Member::Unnamed(Index { index: i as u32, span: field.span() }), Member::Named);
        let name = renamed.unwrap_or_else(|| match &member {
            Member::Named(ident) => ident.unraw().to_string(),
            Member::Unnamed(index) => index.index.to_string(),
        });
        if name.is_empty() || name.contains('.') {
            let why = "a name is not empty and has no dot, which separates the parts of a path";
            return Err(Error::new(field.span(), why));
        }
        if kind == FieldKind::Member && mentions(&field.ty, &[format_ident!("HashMap")]) {
            let why = "a HashMap has no order, so that neither names nor draws would be the same twice: use \
                       BTreeMap<String, _> or ModuleDict; #[module(skip)] if there is nothing in it to learn or to save";
            return Err(Error::new(field.ty.span(), why));
        }
        found.push(Field { member, name, ty: field.ty.clone(), kind });
    }
    Ok(found)
}

/// Whether a type contains one of the given names.
fn mentions(ty: &Type, names: &[Ident]) -> bool {
    fn found(tokens: TokenStream, names: &[Ident]) -> bool {
        tokens.into_iter().any(|token| match token {
            TokenTree::Ident(ident) => names.contains(&ident),
            TokenTree::Group(group) => found(group.stream(), names),
            _ => false,
        })
    }
    found(ty.to_token_stream(), names)
}

/// The struct's generics, with the bound `Field` for every field type that depends on them, and with the bounds of a
/// module for each type parameter.
fn bounded(input: &DeriveInput, variants: &[Variant]) -> syn::Generics {
    let mut generics = input.generics.clone();
    let params: Vec<Ident> = generics.type_params().map(|p| p.ident.clone()).collect();
    for param in &params {
        let bound: WherePredicate = parse_quote!(#param: ::core::marker::Send + ::core::marker::Sync + 'static);
        generics.make_where_clause().predicates.push(bound);
    }
    for field in variants.iter().flat_map(|v| &v.fields).filter(|f| mentions(&f.ty, &params)) {
        let ty = &field.ty;
        let bound = match field.kind {
            FieldKind::Member => quote!(::ndnn::module::Field),
            FieldKind::Flattened => quote!(::ndnn::module::Module + ::core::clone::Clone),
            FieldKind::Skipped => quote!(::core::clone::Clone),
        };
        generics.make_where_clause().predicates.push(parse_quote!(#ty: #bound));
    }
    generics
}

/// One arm per variant, with one expression for each of its fields.
fn arms(
    variants: &[Variant],
    of: &dyn Fn(&Variant, Vec<TokenStream>) -> TokenStream,
    field: &dyn Fn(&Field) -> TokenStream,
) -> TokenStream {
    let arms = variants.iter().map(|variant| {
        let (pattern, body) = (variant.pattern(), of(variant, variant.fields.iter().map(field).collect()));
        quote!(#pattern => #body)
    });
    quote!(match self { #(#arms,)* })
}

/// What it writes is `#[inline]`: of ndnn's many layers a program compiles those that it has.
fn module(input: &DeriveInput, options: &Options, variants: &[Variant]) -> TokenStream {
    let ident = &input.ident;
    let generics = bounded(input, variants);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let block = |_: &Variant, calls: Vec<TokenStream>| quote!({ #(#calls)* });
    // With the span of the type, so that an unknown type is marked in the struct and not at the derive.
    let show = arms(variants, &block, &|f| {
        let (Field { name, ty, .. }, binding) = (f, f.binding());
        match f.kind {
            FieldKind::Member => {
                quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Field>::show(#binding, #name, members);)
            }
            FieldKind::Flattened => {
                quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Module>::members(#binding, members);)
            }
            FieldKind::Skipped => TokenStream::new(),
        }
    });
    let type_name = match options.name {
        true => quote!(Self::type_name(self)),
        false => arms(
            variants,
            &|variant, _| {
                let name = &variant.name;
                quote!(::std::string::String::from(#name))
            },
            &|_| TokenStream::new(),
        ),
    };
    let extra_repr = options.repr.then(|| {
        quote! {
            #[inline]
            fn extra_repr(&self) -> ::std::string::String {
                Self::extra_repr(self)
            }
        }
    });
    let flattened = variants.iter().flat_map(|v| &v.fields).any(|f| f.kind == FieldKind::Flattened);
    let upgrade = (options.upgrade || flattened).then(|| {
        let own = options.upgrade.then(|| quote!(Self::upgrade(self, prefix, state);));
        // The module inside has no path of its own, so nothing else calls it.
        let inside = arms(variants, &block, &|f| match f.kind {
            FieldKind::Flattened => {
                let binding = f.binding();
                quote!(::ndnn::module::Module::upgrade(#binding, prefix, state);)
            }
            _ => TokenStream::new(),
        });
        quote! {
            #[inline]
            fn upgrade(&self, prefix: &str, state: &mut ::ndnn::nn::StateDict) {
                #own
                #inside
            }
        }
    });
    let child_mut = child_mut(variants);
    quote! {
        impl #impl_generics ::ndnn::module::Module for #ident #ty_generics #where_clause {
            #[inline]
            fn members<'__members>(&'__members self, members: &mut ::ndnn::module::Members<'__members>) {
                let _ = &members;
                #show
            }
            #child_mut
            #[inline]
            fn type_name(&self) -> ::std::string::String {
                #type_name
            }
            #extra_repr
            #upgrade
        }
    }
}

/// Whether a field of this type may hold a module, as far as its name says.
fn may_be_module(ty: &Type) -> bool {
    const OTHERS: [&str; 20] = [
        "Param",
        "Buffer",
        "Mode",
        "PhantomData",
        "String",
        "bool",
        "char",
        "u8",
        "u16",
        "u32",
        "u64",
        "usize",
        "i8",
        "i16",
        "i32",
        "i64",
        "isize",
        "f32",
        "f64",
        "PyNumber",
    ];
    match ty {
        Type::Path(path) => path.path.segments.last().is_none_or(|last| match &last.arguments {
            PathArguments::AngleBracketed(inside) if last.ident == "Option" || last.ident == "Vec" => {
                inside.args.iter().any(|arg| matches!(arg, GenericArgument::Type(ty) if may_be_module(ty)))
            }
            _ => !OTHERS.iter().any(|other| last.ident == other),
        }),
        Type::Array(array) => may_be_module(&array.elem),
        Type::Reference(_) | Type::Tuple(_) => false,
        _ => true,
    }
}

/// `child_mut`, if a field may be a module.
fn child_mut(variants: &[Variant]) -> TokenStream {
    let is_needed = |f: &&Field| f.kind != FieldKind::Skipped && may_be_module(&f.ty);
    if !variants.iter().flat_map(|v| &v.fields).any(|f| is_needed(&f)) {
        return TokenStream::new();
    }
    let arms = variants.iter().map(|variant| {
        let fields: Vec<&Field> = variant.fields.iter().filter(is_needed).collect();
        let (path, members) = (&variant.path, fields.iter().map(|f| &f.member));
        let bindings = fields.iter().map(|f| f.binding());
        let of_kind = |kind| fields.iter().filter(move |f| f.kind == kind);
        let named = of_kind(FieldKind::Member).map(|f| {
            let (Field { name, ty, .. }, binding) = (f, f.binding());
            quote!(#name => <#ty as ::ndnn::module::Field>::module_mut(#binding),)
        });
        let flattened = of_kind(FieldKind::Flattened).map(|f| {
            let (ty, binding) = (&f.ty, f.binding());
            quote! {
                if let ::core::option::Option::Some(child) = <#ty as ::ndnn::module::Module>::child_mut(#binding, name) {
                    return ::core::option::Option::Some(child);
                }
            }
        });
        quote! {
            #path { #(#members: #bindings,)* .. } => match name {
                #(#named)*
                _ => {
                    #(#flattened)*
                    ::core::option::Option::None
                }
            }
        }
    });
    quote! {
        #[inline]
        fn child_mut(&mut self, name: &str) -> ::core::option::Option<&mut dyn ::ndnn::module::Module> {
            match self { #(#arms,)* }
        }
    }
}

/// Rebuilds the variant, with one expression for each field.
fn made(variant: &Variant, fields: Vec<TokenStream>) -> TokenStream {
    let path = &variant.path;
    let members = variant.fields.iter().map(|f| &f.member);
    quote!(#path { #(#members: #fields),* })
}

fn clone(input: &DeriveInput, variants: &[Variant]) -> TokenStream {
    let ident = &input.ident;
    let generics = bounded(input, variants);
    let (impl_generics, _, where_clause) = generics.split_for_impl();
    let (_, ty_generics, _) = input.generics.split_for_impl();
    let copies = arms(variants, &made, &|f| {
        let (Field { ty, .. }, binding) = (f, f.binding());
        match f.kind {
            FieldKind::Member => quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Field>::copy(#binding)),
            FieldKind::Flattened => quote_spanned!(ty.span()=> <#ty as ::ndnn::module::Module>::copied(#binding)),
            FieldKind::Skipped => quote_spanned!(ty.span()=> <#ty as ::core::clone::Clone>::clone(#binding)),
        }
    });
    quote! {
        /// A deep copy: nothing is shared with the original; parameters tied inside stay tied.
        impl #impl_generics ::core::clone::Clone for #ident #ty_generics #where_clause {
            #[inline]
            fn clone(&self) -> Self {
                let _copying = ::ndnn::module::copying();
                #copies
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
            #[inline]
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(&::ndnn::module::repr(self))
            }
        }
    }
}

/// The type parameter bounded by `Real`, if there is one.
fn real_parameter(input: &DeriveInput) -> Option<Ident> {
    let is_real = |bound: &TypeParamBound| matches!(bound, TypeParamBound::Trait(t) if t.path.segments.last().is_some_and(|s| s.ident == "Real"));
    input.generics.type_params().find(|p| p.bounds.iter().any(is_real)).map(|p| p.ident.clone())
}

/// `Dtype` of a layer that holds no numbers of an element type: it is the same for all.
fn stateless(input: &DeriveInput) -> TokenStream {
    let ident = &input.ident;
    let (impl_generics, ty_generics, where_clause) = input.generics.split_for_impl();
    let to = format_ident!("__U", span = Span::call_site());
    quote! {
        impl #impl_generics ::ndnn::module::Dtype for #ident #ty_generics #where_clause {
            type With<#to: ::ndnn::Real> = Self;
            fn dtype<#to: ::ndnn::Real>(self) -> Self {
                self
            }
        }
    }
}

fn dtype(input: &DeriveInput, real: &Ident, variants: &[Variant]) -> TokenStream {
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
    let converted = arms(variants, &made, &|f| {
        let (Field { ty, .. }, binding) = (f, f.binding());
        match mentions(ty, std::slice::from_ref(real)) {
            true => quote!(::ndnn::module::Dtype::dtype::<#to>(#binding)),
            false => quote!(#binding),
        }
    });
    quote! {
        impl #impl_generics ::ndnn::module::Dtype for #ident #ty_generics #where_clause {
            type With<#to: ::ndnn::Real> = #with;
            #[track_caller]
            fn dtype<#to: ::ndnn::Real>(self) -> #with {
                let copying = ::ndnn::module::copying();
                copying.end(#converted)
            }
        }
    }
}
