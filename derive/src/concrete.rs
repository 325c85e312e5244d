//! `#[concrete]`: a generic function whose form for `f32` ndnn compiles itself, so that its users need not.

use proc_macro2::TokenStream;
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, GenericArgument, GenericParam, Ident, ItemFn, Pat, PathArguments, Result, Type, TypeParamBound,
    parse_quote, spanned::Spanned,
};

const EXPECTED: &str = "expected impl Into<…>, impl AsRef<…>, impl Operand<…> or impl Int";

/// One argument: its name, the type that the compiled form takes, and the conversion of the caller's argument.
struct Argument {
    name: Ident,
    ty: Type,
    conversion: TokenStream,
}

pub fn expand(bound: Option<Ident>, function: ItemFn) -> Result<TokenStream> {
    let mut outer = function.sig.clone();
    let mut inner = function.sig.clone();
    let arguments =
        outer.inputs.iter_mut().zip(&mut inner.inputs).map(|(o, i)| argument(o, i)).collect::<Result<Vec<_>>>()?;
    let method = bound.is_some();
    let bound = match bound {
        Some(bound) => bound,
        None => type_bound(&function)?,
    };
    inner.ident = if method {
        format_ident!("{}_generic", function.sig.ident.to_string().trim_end_matches('_'))
    } else {
        format_ident!("generic")
    };
    let name = &inner.ident;
    let call = if method { quote!(Tensor::<T>::#name) } else { quote!(#name::<T>) };
    let lifetimes: Vec<_> = function.sig.generics.lifetimes().collect();
    let (names, types): (Vec<_>, Vec<_>) = arguments.iter().map(|a| (&a.name, &a.ty)).unzip();
    let conversions = arguments.iter().map(|a| &a.conversion);
    let passed = function.sig.inputs.iter().zip(&names).map(|(input, name)| match input {
        FnArg::Receiver(_) => quote!(self),
        FnArg::Typed(_) => quote!(#name),
    });
    let output = &function.sig.output;
    let forms = format_ident!("{bound}Forms");
    let form = format_ident!("{}_form", bound.to_string().to_lowercase());
    let (attributes, visibility, body) = (&function.attrs, &function.vis, &function.block);
    let allowed = attributes.iter().filter(|a| a.path().is_ident("allow"));
    // The body converts arguments that were converted before the call.
    let inner = quote!(#(#allowed)* #[allow(clippy::useless_conversion, clippy::useless_asref)] #inner #body);
    let (nested, beside) = if method { (quote!(), inner) } else { (inner, quote!()) };
    // Labels are tensors as common as weights.
    let numbers: &[_] = if bound == "Element" { &["f32", "i64"] } else { &["f32"] };
    let compiled = numbers.iter().map(|number| {
        let (constant, number) = (format_ident!("{}", number.to_uppercase()), format_ident!("{number}"));
        quote! {
            const #constant: Self::Of<#number> = {
                #[allow(dead_code)]
                type T = #number;
                #[inline(never)]
                fn form<#(#lifetimes),*>(#(#names: #types),*) #output {
                    #call(#(#names),*)
                }
                form
            };
        }
    });
    Ok(quote! {
        #(#attributes)*
        #visibility #outer {
            struct Compiled;
            impl crate::number::#forms for Compiled {
                type Of<T: crate::number::#bound> = for<#(#lifetimes),*> fn(#(#types),*) #output;
                #(#compiled)*
                fn of<T: crate::number::#bound>() -> Self::Of<T> {
                    #call
                }
            }
            #nested
            #(#conversions)*
            <T as crate::number::#bound>::#form::<Compiled>()(#(#passed),*)
        }
        #beside
    })
}

/// The bound of the one type parameter.
fn type_bound(function: &ItemFn) -> Result<Ident> {
    let bound = function.sig.generics.params.iter().find_map(|p| match p {
        GenericParam::Type(t) if t.ident == "T" => t.bounds.iter().find_map(|b| match b {
            TypeParamBound::Trait(t) => t.path.get_ident().cloned(),
            _ => None,
        }),
        _ => None,
    });
    bound.ok_or_else(|| Error::new(function.sig.span(), "of a method, say the bound of T: #[concrete(Real)]"))
}

/// Analyses one argument; `inner` becomes what the compiled form takes, `outer` loses its `mut`.
fn argument(outer: &mut FnArg, inner: &mut FnArg) -> Result<Argument> {
    let (outer, inner) = match (outer, inner) {
        (FnArg::Typed(outer), FnArg::Typed(inner)) => (outer, inner),
        (FnArg::Receiver(receiver), _) => {
            let ty = if matches!(receiver.kind, syn::ReceiverKind::Reference(..)) {
                parse_quote!(&Tensor<T>)
            } else {
                parse_quote!(Tensor<T>)
            };
            return Ok(Argument { name: format_ident!("this"), ty, conversion: quote!() });
        }
        (outer, _) => return Err(Error::new(outer.span(), "not an argument")),
    };
    let Pat::Ident(pattern) = &mut *outer.pat else {
        return Err(Error::new(outer.pat.span(), "an argument of a concrete function is a name"));
    };
    pattern.mutability = None;
    let name = pattern.ident.clone();
    let mut conversion = quote!();
    if let Type::ImplTrait(what) = &*outer.ty {
        let Some(TypeParamBound::Trait(bound)) = what.bounds.first() else {
            return Err(Error::new(what.span(), EXPECTED));
        };
        let last = bound.path.segments.last().expect("a path has a last segment");
        if last.ident == "Int" {
            *inner.ty = parse_quote!(isize);
            let conversion = quote!(let #name = #name.to_isize(););
            return Ok(Argument { name, ty: parse_quote!(isize), conversion });
        }
        let PathArguments::AngleBracketed(of) = &last.arguments else {
            return Err(Error::new(what.span(), EXPECTED));
        };
        let Some(GenericArgument::Type(target)) = of.args.first().cloned() else {
            return Err(Error::new(what.span(), "expected a type"));
        };
        match last.ident.to_string().as_str() {
            "Into" => {
                conversion = quote!(let #name: #target = #name.into(););
                *inner.ty = target;
            }
            "AsRef" => {
                conversion = quote!(let #name: &#target = #name.as_ref(););
                *inner.ty = parse_quote!(&#target);
            }
            "Operand" => {
                conversion = quote!(let #name = #name.operand(););
                *inner.ty = parse_quote!(Tensor<#target>);
            }
            _ => return Err(Error::new(what.span(), EXPECTED)),
        }
    }
    Ok(Argument { name, ty: (*inner.ty).clone(), conversion })
}
