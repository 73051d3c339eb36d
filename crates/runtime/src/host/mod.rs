//! What programs call: one file for each WIT interface, one state for each running inferlet.
//!
//! A wrong argument of a program becomes a typed [`ApiError`]; a broken host becomes a trap. Every number and length
//! that comes in is checked in the file that takes it.

pub(crate) mod adapter;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod embeds;
pub(crate) mod forward;
pub(crate) mod grammar;
pub(crate) mod messaging;
pub(crate) mod model;
pub(crate) mod runtime;
pub(crate) mod session;
pub(crate) mod store;

use std::sync::Arc;

use scheduler::{CallError, ForwardError};
use wasmtime::component::{HasSelf, Linker, ResourceTable, ResourceTableError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::Shared;
use crate::bindings::{ApiError, api};
use crate::instance::Instance;
use crate::limits::MemoryLimiter;
use crate::network::Outgoing;

/// Everything that one inferlet's store owns.
pub(crate) struct HostState {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) shared: Arc<Shared>,
    pub(crate) instance: Arc<Instance>,
    pub(crate) memory: MemoryLimiter,
    /// Contexts that the program holds now.
    pub(crate) contexts: u32,
}

impl WasiView for HostState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for HostState {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { hooks: &mut self.outgoing, table: &mut self.table, ctx: &mut self.http }
    }
}

/// Why a host function did not succeed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The program's own mistake or misfortune: it gets the typed error.
    Guest(ApiError),
    /// The host's: the program ends with a trap.
    Host(wasmtime::Error),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Failure {
        Failure::Guest(error)
    }
}

impl From<ResourceTableError> for Failure {
    fn from(error: ResourceTableError) -> Failure {
        Failure::Host(error.into())
    }
}

impl From<wasmtime::Error> for Failure {
    fn from(error: wasmtime::Error) -> Failure {
        Failure::Host(error)
    }
}

impl From<ForwardError> for ApiError {
    fn from(error: ForwardError) -> ApiError {
        let text = error.to_string();
        match error {
            ForwardError::InvalidArgument(reason) => ApiError::InvalidArgument(reason),
            ForwardError::OutOfPages { .. } => ApiError::OutOfPages(text),
            ForwardError::Cancelled => ApiError::Cancelled,
            ForwardError::Backend(reason) => ApiError::Backend(reason),
            ForwardError::Closed => ApiError::Closed(text),
            ForwardError::Busy => ApiError::InvalidArgument(text),
            ForwardError::Overloaded => ApiError::LimitExceeded(text),
        }
    }
}

impl From<CallError> for ApiError {
    fn from(error: CallError) -> ApiError {
        let text = error.to_string();
        match error {
            CallError::NotFound(_) => ApiError::NotFound(text),
            CallError::OutOfPages { .. } => ApiError::OutOfPages(text),
            CallError::Backend(reason) => ApiError::Backend(reason),
            CallError::Closed => ApiError::Closed(text),
            CallError::Overloaded => ApiError::LimitExceeded(text),
            CallError::UnknownContext(_)
            | CallError::ContextExists(_)
            | CallError::Busy
            | CallError::OutOfRange { .. }
            | CallError::Mismatch(_) => ApiError::InvalidArgument(text),
        }
    }
}

/// The answer of a thread that is gone.
pub(crate) fn engine_gone<E>(_: E) -> ApiError {
    ApiError::Closed("the model's engine has stopped".into())
}

pub(crate) fn invalid(reason: impl Into<String>) -> ApiError {
    ApiError::InvalidArgument(reason.into())
}

/// Refuses a text or byte string longer than `limit` bytes; `what` names it.
pub(crate) fn check_length(what: &str, bytes: usize, limit: usize) -> Result<(), ApiError> {
    match bytes > limit {
        true => Err(ApiError::LimitExceeded(format!("{what} of {bytes} bytes exceeds the limit of {limit}"))),
        false => Ok(()),
    }
}

impl api::types::Host for HostState {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<ApiError> {
        match failure {
            Failure::Guest(error) => Ok(error),
            Failure::Host(error) => Err(error),
        }
    }
}

/// Offers every interface to programs.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    crate::bindings::Inferlet::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}
