//! `#[forward]`: turns the body of a `forward` into a call that hooks, summaries and errors see.

use proc_macro2::{Span, TokenStream};
use quote::{format_ident, quote};
use syn::{
    Error, FnArg, Ident, ImplItem, ImplItemFn, ItemImpl, Pat, ReceiverKind, Result, ReturnType, Signature, Type,
    parse_quote, parse2, spanned::Spanned,
};

pub(crate) fn expand(attribute: TokenStream, item: TokenStream) -> Result<TokenStream> {
    if !attribute.is_empty() {
        return Err(Error::new(attribute.span(), "#[forward] takes no arguments"));
    }
    if let Ok(mut block) = parse2::<ItemImpl>(item.clone()) {
        let mut found = false;
        for item in &mut block.items {
            if let ImplItem::Fn(function) = item
                && function.sig.ident == "forward"
            {
                found = true;
                wrap(function)?;
            }
        }
        return match found {
            true => Ok(quote!(#block)),
            false => Err(Error::new(block.self_ty.span(), "there is no `forward` in this impl block")),
        };
    }
    match parse2::<ImplItemFn>(item.clone()) {
        Ok(mut function) => {
            wrap(&mut function)?;
            Ok(quote!(#function))
        }
        Err(_) => Err(Error::new(item.span(), "#[forward] is for an impl block with a `forward`, or for one method")),
    }
}

/// How an argument is passed on: hooks may replace it.
enum Passed {
    Reference,
    Value,
}

/// Replaces the body by a call that contains it.
fn wrap(function: &mut ImplItemFn) -> Result<()> {
    let output = check(&function.sig)?;
    let arguments = arguments(&function.sig);
    let body = &function.block;
    let arg = |(name, passed, _): &(Ident, Passed, _)| match passed {
        Passed::Reference => quote!((&Arg(#name))),
        Passed::Value => quote!((&Arg(&#name))),
    };
    let slot = |(name, ..): &(Ident, Passed, _)| format_ident!("__{}", name, span = Span::call_site());
    let (args, slots): (Vec<_>, Vec<_>) = arguments.iter().map(|a| (arg(a), slot(a))).unzip();
    let bound = arguments.iter().zip(&slots).map(|((name, passed, mutable), slot)| {
        let given = match passed {
            Passed::Reference => quote!(::core::option::Option::as_ref(&#slot)),
            Passed::Value => quote!(#slot),
        };
        quote! {
            let #mutable #name = match #given {
                ::core::option::Option::Some(other) => other,
                ::core::option::Option::None => #name,
            };
        }
    });
    let call: syn::Block = parse_quote!({
        let mut __call = ::ndnn::__private::Call::of(self);
        #(let mut #slots = ::core::option::Option::None;)*
        if let ::core::option::Option::Some(call) = &mut __call {
            #[allow(unused_imports)]
            use ::ndnn::__private::{Arg, Seen as _, Unseen as _};
            #(#args.show(call);)*
            call.before()?;
            #(#slots = #args.taken(call)?;)*
        }
        #(#bound)*
        let __output = ::ndnn::__private::run(self, || -> #output #body);
        match __call {
            ::core::option::Option::None => __output,
            ::core::option::Option::Some(mut call) => {
                #[allow(unused_imports)]
                use ::ndnn::__private::{Arg, Seen as _, Unseen as _};
                let output = __output?;
                call.ran();
                (&Arg(&output)).show(&mut call);
                call.after()?;
                let other = (&Arg(&output)).taken(&mut call)?;
                ::core::result::Result::Ok(::core::option::Option::unwrap_or(other, output))
            }
        }
    });
    function.block = call;
    for input in &mut function.sig.inputs {
        if let FnArg::Typed(typed) = input
            && let Pat::Ident(name) = &mut *typed.pat
            && arguments.iter().any(|(wrapped, ..)| *wrapped == name.ident)
        {
            name.mutability = None;
        }
    }
    Ok(())
}

/// The type of the result.
fn check(signature: &Signature) -> Result<&Type> {
    let by_reference = matches!(signature.receiver(), Some(r) if matches!(r.kind, ReceiverKind::Reference(_, _, None)));
    if !by_reference {
        return Err(Error::new(signature.span(), "#[forward] is for a method that takes `&self`"));
    }
    let is_result =
        |ty: &Type| matches!(ty, Type::Path(p) if p.path.segments.last().is_some_and(|s| s.ident == "Result"));
    match &signature.output {
        ReturnType::Type(_, ty) if is_result(ty) => Ok(ty),
        _ => Err(Error::new(signature.span(), "#[forward] is for a method that returns `ndnn::Result<…>`")),
    }
}

/// The arguments that may be tensors; the compiler determines by their types whether they are.
fn arguments(signature: &Signature) -> Vec<(Ident, Passed, Option<syn::Token![mut]>)> {
    let typed = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Typed(typed) => Some(typed),
        FnArg::Receiver(_) => None,
    });
    let named = typed.filter_map(|typed| {
        let Pat::Ident(name) = &*typed.pat else { return None };
        let passed = match &*typed.ty {
            // A replacement would not live as long as a named lifetime.
            Type::Reference(r) if r.lifetime.is_none() && r.mutability.is_none() && is_sized(&r.elem) => {
                Passed::Reference
            }
            Type::Path(_) | Type::Tuple(_) | Type::Array(_) => Passed::Value,
            _ => return None,
        };
        (name.by_ref.is_none() && name.subpat.is_none()).then(|| (name.ident.clone(), passed, name.mutability))
    });
    named.collect()
}

fn is_sized(ty: &Type) -> bool {
    match ty {
        Type::Path(p) => {
            p.path.segments.last().is_none_or(|s| !["str", "Path", "OsStr", "CStr"].iter().any(|u| s.ident == u))
        }
        Type::Tuple(_) | Type::Array(_) | Type::Reference(_) => true,
        _ => false,
    }
}
