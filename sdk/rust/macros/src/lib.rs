//! The attribute that makes a function the entry of an inferlet.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, parse_macro_input};

/// Makes `async fn main(args: Args) -> Result<String>` the program's entry.
///
/// The argument may be left out. The returned text is the inferlet's result; an error ends it with that error.
#[proc_macro_attribute]
pub fn main(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let signature = &function.sig;
    let name = &signature.ident;
    if !attributes.is_empty() || signature.asyncness.is_none() || signature.inputs.len() > 1 {
        let message = "expected `#[inferlet::main] async fn main(args: Args) -> Result<String>`";
        return Error::new_spanned(signature, message).to_compile_error().into();
    }
    let call = match signature.inputs.is_empty() {
        true => quote! { #name() },
        false => quote! { #name(::inferlet::Args::from_launch()) },
    };
    quote! {
        #function

        struct InferletProgram;

        impl ::inferlet::bindings::Guest for InferletProgram {
            async fn run() -> ::core::result::Result<String, String> {
                ::inferlet::finish(#call.await)
            }
        }

        ::inferlet::bindings::export!(InferletProgram with_types_in ::inferlet::bindings);
    }
    .into()
}
