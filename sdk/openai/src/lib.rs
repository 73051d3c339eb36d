//! The OpenAI API's requests, answers and errors, over the SDK's own builder: what the programs that serve it share, and
//! what a program of one's own that takes over a route begins with.
//!
//! ```no_run
//! # mod program {
//! use inferlet::http::{Request, Response};
//! use inferlet_openai::{Fields, Result, serve, chat};
//!
//! #[inferlet::serve]
//! async fn route(request: Request) -> inferlet::Result<Response> {
//!     serve(request, async |fields: Fields| {
//!         let mut request = chat::ChatRequest::read(fields).await?;
//!         request.chat.system("Answer in one sentence.");
//!         request.answer().await
//!     })
//!     .await
//! }
//! # }
//! # fn main() {}
//! ```
//!
//! [`messages`] is the route of Anthropic's API, over the same parts.
//!
//! A request is read field by field ([`Fields`]), and what is left is refused by its name: nothing that a client asks
//! for is dropped silently. Every mistake is an [`ApiError`] with the status, parameter and code that clients look at.

pub mod chat;
pub mod completions;
mod error;
mod fields;
mod format;
pub mod generate;
mod generation;
pub mod infill;
mod logprobs;
pub mod messages;
mod prompts;
pub mod responses;
pub mod scores;
mod server;
mod sse;
mod turn;
mod usage;
mod vectors;

pub use error::{ApiError, Result};
pub use fields::Fields;
pub use format::OutputFormat;
pub use generation::{Served, Settings, open_model};
pub use prompts::{documents, prompt_tokens};
pub use server::{json, respond, serve, serve_get};
pub use sse::Events;
pub use usage::usage;
pub use vectors::{embed, vector};

/// The routes and their parameters as an OpenAPI document. `tests/clients` compares it with what the server takes.
pub const OPENAPI: &str = include_str!("openapi.json");
