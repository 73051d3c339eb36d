//! The attributes that make a function the entry of an inferlet, and the derive of its parameters.

mod parameters;

use proc_macro::TokenStream;
use quote::quote;
use syn::{DeriveInput, Error, FnArg, ItemFn, parse_macro_input};

/// Makes `async fn main(parameters: P) -> Result<String>` the program's entry, where `P` is a struct with
/// `#[derive(Parameters)]`.
///
/// The argument may be left out. The returned text is the inferlet's result; an error ends it with that
/// error. The program carries the parameters, and the name, version and description of its package.
#[proc_macro_attribute]
pub fn main(attributes: TokenStream, item: TokenStream) -> TokenStream {
    let function = parse_macro_input!(item as ItemFn);
    let signature = &function.sig;
    let name = &signature.ident;
    let expected = || {
        let message = "expected `#[inferlet::main] async fn main(parameters: P) -> Result<String>`";
        Error::new_spanned(signature, message).to_compile_error().into()
    };
    if !attributes.is_empty() || signature.asyncness.is_none() || signature.inputs.len() > 1 {
        return expected();
    }
    let (call, declared) = match signature.inputs.first() {
        None => (quote! { #name().await }, quote! { ::core::option::Option::None }),
        Some(FnArg::Typed(argument)) => {
            let ty = &argument.ty;
            let call = quote! { #name(<#ty as ::inferlet::Parameters>::from_launch()?).await };
            let declared = quote! { <#ty as ::inferlet::Parameters>::DECLARED };
            (call, quote! { ::core::option::Option::Some(::std::borrow::Cow::Borrowed(#declared)) })
        }
        Some(FnArg::Receiver(_)) => return expected(),
    };
    let manifest = manifest(&declared);
    // In a test on the developer's machine the function is called by the tests, if at all.
    quote! {
        #[cfg_attr(not(target_family = "wasm"), allow(dead_code))]
        #function

        #[cfg(target_family = "wasm")]
        struct InferletProgram;

        #[cfg(target_family = "wasm")]
        impl ::inferlet::bindings::Guest for InferletProgram {
            async fn run() -> ::core::result::Result<String, String> {
                ::inferlet::finish(async { #call }.await)
            }
        }

        #[cfg(target_family = "wasm")]
        ::inferlet::bindings::export!(InferletProgram with_types_in ::inferlet::bindings);

        #manifest
    }
    .into()
}

/// The custom section that says what the program is.
fn manifest(parameters: &proc_macro2::TokenStream) -> proc_macro2::TokenStream {
    quote! {
        #[cfg(target_family = "wasm")]
        const _: () = {
            const MANIFEST: ::inferlet::manifest::Manifest = ::inferlet::manifest::Manifest {
                name: ::std::borrow::Cow::Borrowed(env!("CARGO_PKG_NAME")),
                version: ::std::borrow::Cow::Borrowed(env!("CARGO_PKG_VERSION")),
                description: ::std::borrow::Cow::Borrowed(env!("CARGO_PKG_DESCRIPTION")),
                parameters: #parameters,
            };
            #[unsafe(link_section = "pie:program")]
            static SECTION: [u8; MANIFEST.json_bytes()] = MANIFEST.json();
        };
    }
}

/// Makes a struct the parameters of a program: each field is one, its documentation says what it is.
///
/// Fields are `String`, `bool`, whole numbers, `f32`, `f64`; `Option` of these for what may be left out, `Vec` for values
/// with commas between. A `bool` is false where it is not given; another field without a default has to be given. Of
/// `#[parameter(...)]`:
///
/// - `short = 'n'`: `-n` is `--name`;
/// - `default = 256`: the value where none is given; of a `Vec`, a text as a user writes it;
/// - `min = 1`, `max = 9`: of whole numbers, both inclusive;
/// - `choices = ["one", "two"]`: of a `String`, what it can be;
/// - `file`: of a `String`, the text of a file, whose path is given to `pie run`;
/// - `positional`: given by its place, without a name.
#[proc_macro_derive(Parameters, attributes(parameter))]
pub fn derive_parameters(item: TokenStream) -> TokenStream {
    let input = parse_macro_input!(item as DeriveInput);
    parameters::derive(&input).unwrap_or_else(Error::into_compile_error).into()
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
    let manifest = manifest(&quote! { ::core::option::Option::None });
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

        #manifest
    }
    .into()
}
