//! Write programs that run inside the pie server, next to the model, and drive every forward pass.
//!
//! ```no_run
//! # mod program {
//! use inferlet::{Context, Model, Parameters, Result, SamplingParams};
//!
//! #[derive(Parameters)]
//! struct Options {
//!     /// Text to complete.
//!     #[parameter(short = 'p', default = "Once upon a time")]
//!     prompt: String,
//! }
//!
//! #[inferlet::main]
//! async fn main(options: Options) -> Result<String> {
//!     let model = Model::open_default()?;
//!     let mut context = Context::new(&model)?;
//!     context.append(&options.prompt);
//!     Ok(context.generate(SamplingParams::greedy()).max_tokens(64).answer().await?.text)
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! Two layers: [`bindings`] is the API as `wit/` defines it, a call for each thing the server does; the rest
//! of this crate is built on it and has no other access. Futures compose as usual: `futures::join!`,
//! `select!`, `FuturesUnordered`. Passes awaited together are computed in one batch.

mod beam;
mod calculator;
mod chat;
mod context;
mod embedding;
mod generate;
pub mod http;
pub mod mcp;
mod model;
mod parameters;
mod sampling;
mod search;
mod tools;

#[cfg(not(target_family = "wasm"))]
pub mod testing;

/// The API exactly as `wit/` defines it.
#[cfg(target_family = "wasm")]
pub mod bindings {
    #![allow(missing_docs, reason = "generated; the documentation is in wit/")]
    wit_bindgen::generate!({
        world: "inferlet",
        path: "wit",
        pub_export_macro: true,
        generate_all,
        additional_derives: [Clone],
    });
}

/// The API as `wit/` defines it, over the host of [`testing`].
#[cfg(not(target_family = "wasm"))]
pub mod bindings {
    /// The package of `wit/`.
    pub mod pie {
        pub use crate::testing::api as inferlet;
    }
}

// What the derive writes names the crate as programs do.
#[cfg(test)]
extern crate self as inferlet;

pub use anyhow;
pub use beam::{Beam, BeamSearch, BeamStop};
pub use bindings::pie::inferlet::grammar::{Constraint, Source as Grammar};
pub use bindings::pie::inferlet::types::Error;
pub use bindings::pie::inferlet::{adapter, clock, embeds, forward, messaging, runtime, session, store};
pub use calculator::calculate;
pub use chat::{Chat, IncompleteJson, Message, answer_all, choose_all, regex_literal};
pub use context::{Context, EMBEDDING, Layout, mask, tree_tokens};
pub use futures;
pub use generate::{
    Answer, Budget, Detokenizer, Draft, Drafter, FinishReason, Generation, Item, Logprob, ModelDrafter,
    NgramDrafter, Trigger, Usage, Window,
};
pub use inferlet_macros::{Parameters, main, serve};
pub use model::{Model, Work};
pub use parameters::Parameters;
pub use sampling::{SamplingParams, arg_max, log_softmax, random_seed};
pub use schemars;
pub use search::Documents;
pub use serde_json::{self, Value, json};
#[cfg(not(target_family = "wasm"))]
pub use testing::spawn;
pub use tools::{ToolCall, tool_call_schema, tool_calls};
#[cfg(target_family = "wasm")]
pub use wasip3::spawn_local as spawn;

#[doc(hidden)]
pub use wasip3;

/// What a program says of itself; [`Parameters`] is derived to what is here.
pub mod manifest {
    pub use inferlet_manifest::{Kind, Manifest, Parameter, Values};

    pub use crate::parameters::take;
}

/// The result of almost everything here. The server's typed error is found with
/// `error.downcast_ref::<Error>()`.
pub type Result<T, E = anyhow::Error> = std::result::Result<T, E>;

/// Turns the result of the program into the export's form. Called by [`main`].
#[doc(hidden)]
pub fn finish(result: Result<String>) -> std::result::Result<String, String> {
    let text = |cause: &(dyn std::error::Error + 'static)| match cause.downcast_ref::<Error>() {
        Some(error) => describe(error),
        None => cause.to_string(),
    };
    let result = result.or_else(|error| error.downcast::<parameters::Help>().map(|help| help.to_string()));
    result.map_err(|error| error.chain().map(text).collect::<Vec<_>>().join(": "))
}

/// The typed error of the server in an error, if there is one.
pub(crate) fn typed(error: &anyhow::Error) -> Option<&Error> {
    error.chain().find_map(|cause| cause.downcast_ref())
}

/// The server's error for people to read.
fn describe(error: &Error) -> String {
    match error {
        Error::InvalidArgument(text) => format!("invalid argument: {text}"),
        Error::NotFound(text) => format!("not found: {text}"),
        Error::Denied(text) => format!("denied: {text}"),
        Error::OutOfPages(text) => format!("out of pages: {text}"),
        Error::LimitExceeded(text) => format!("limit exceeded: {text}"),
        Error::Cancelled => "cancelled".to_string(),
        Error::Closed(text) => format!("closed: {text}"),
        Error::Backend(text) => format!("the server failed: {text}"),
    }
}

/// Waits without holding up the program's other tasks.
pub async fn sleep(duration: std::time::Duration) {
    clock::sleep(duration.as_millis().try_into().unwrap_or(u64::MAX)).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_server_are_readable() {
        let error = anyhow::Error::from(Error::NotFound("no snapshot `a`".to_string())).context("opening");
        assert_eq!(finish(Err(error)), Err("opening: not found: no snapshot `a`".to_string()));
    }
}
