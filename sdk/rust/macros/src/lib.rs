//! The attributes that make a function the entry of an inferlet.

use proc_macro::TokenStream;
use quote::quote;
use syn::{Error, ItemFn, parse_macro_input};

/// Makes `async fn main(args: Args) -> Result<String>` the program's entry.
///
/// The argument may be left out. The returned text is the inferlet's result; an error ends it with that
/// error.
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
    // In a test on the developer's machine the function is called by the tests, if at all.
    quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
        #function

        #[cfg(target_family = "wasm")]
        struct InferletProgram;

        #[cfg(target_family = "wasm")]
        impl ::inferlet::bindings::Guest for InferletProgram {
            async fn run() -> ::core::result::Result<String, String> {
                ::inferlet::finish(#call.await)
            }
        }

        #[cfg(target_family = "wasm")]
        ::inferlet::bindings::export!(InferletProgram with_types_in ::inferlet::bindings);
    }
    .into()
}

/// Makes `async fn serve(request: http::Request) -> Result<http::Response>` answer HTTP requests.
///
/// An error becomes a response that says it, with the status that fits the error: 400 for `invalid-argument`.
#[proc_macro_attribute]
pub fn serve(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let signature = &function.sig;
    let name = &signature.ident;
    if !attributes.is_empty() || signature.asyncness.is_none() || signature.inputs.len() != 1 {
        let message =
            "expected `#[inferlet::serve] async fn serve(request: http::Request) -> Result<http::Response>`";
        return Error::new_spanned(signature, message).to_compile_error().into();
    }
    quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
        #function

        #[cfg(target_family = "wasm")]
        struct InferletService;

        #[cfg(target_family = "wasm")]
        impl ::inferlet::wasip3::exports::http::handler::Guest for InferletService {
            async fn handle(
                request: ::inferlet::wasip3::http::types::Request,
            ) -> ::core::result::Result<
                ::inferlet::wasip3::http::types::Response,
                ::inferlet::wasip3::http::types::ErrorCode,
            > {
                ::inferlet::http::answer(request, #name).await
            }
        }

        #[cfg(target_family = "wasm")]
        ::inferlet::wasip3::http::service::export!(InferletService with_types_in ::inferlet::wasip3);
    }
    .into()
}
