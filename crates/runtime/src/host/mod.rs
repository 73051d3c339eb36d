//! What programs call: one file for each WIT interface, one state for each running inferlet.
//!
//! A wrong argument of a program becomes a typed [`ApiError`], which is turned into the error of the WIT here and
//! nowhere else; a broken host becomes a trap.

pub(crate) mod adapter;
pub(crate) mod answer;
pub(crate) mod bindings;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod counts;
pub(crate) mod embeds;
pub(crate) mod forward;
pub(crate) mod grammar;
pub(crate) mod mcp;
pub(crate) mod messaging;
pub(crate) mod model;
pub(crate) mod runtime;
pub(crate) mod session;
pub(crate) mod store;

use std::sync::Arc;

use ::model::Wanted;
use scheduler::CacheSalt;
use trace::{Call, Value};
use wasmtime::component::{Accessor, HasSelf, Linker, ResourceTable, ResourceTableError};
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

use crate::RuntimeState;
use crate::error::ApiError;
use crate::inferlet::InferletState;
use crate::limits::MemoryLimiter;
use crate::network::Outgoing;
use bindings::{WitError, api};

/// Everything that one inferlet's store owns.
pub(crate) struct HostState {
    pub(crate) table: ResourceTable,
    pub(crate) wasi: WasiCtx,
    pub(crate) http: WasiHttpCtx,
    pub(crate) outgoing: Outgoing,
    pub(crate) shared: Arc<RuntimeState>,
    pub(crate) inferlet: Arc<InferletState>,
    pub(crate) memory: MemoryLimiter,
    /// Which cached prefixes its contexts share, see `context.set-cache-salt`.
    pub(crate) cache_salt: Option<CacheSalt>,
    /// Held by each context of the program: so many it has, and this.
    pub(crate) contexts: Arc<()>,
    /// Adapters that it has loaded.
    pub(crate) adapters: u32,
    /// Token counts that it holds.
    pub(crate) counts: counts::Held,
}

/// The server and the inferlet of a call that waits.
fn state<T: Send + 'static>(
    accessor: &Accessor<T, HasSelf<HostState>>,
) -> (Arc<RuntimeState>, Arc<InferletState>) {
    accessor.with(|mut access| {
        let state = access.get();
        (state.shared.clone(), state.inferlet.clone())
    })
}

/// Notes a call that waits, as [`HostState::call`].
fn call<T: Send + 'static>(
    accessor: &Accessor<T, HasSelf<HostState>>,
    name: &'static str,
    arguments: impl FnOnce() -> Vec<(&'static str, Value)>,
) -> Call {
    accessor.with(|mut access| access.get().call(name, arguments))
}

impl HostState {
    /// Notes a call of the program, to where the guard is dropped, while a recording is made.
    pub(crate) fn call(
        &self,
        name: &'static str,
        arguments: impl FnOnce() -> Vec<(&'static str, Value)>,
    ) -> Call {
        self.shared.recorder.call(self.inferlet.owner.0, name, arguments)
    }

    /// Does long work off the threads that run programs, see [`crate::work`]. `bytes` are held meanwhile.
    pub(crate) async fn work<T: Send + 'static>(
        &mut self,
        bytes: usize,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        self.work_while(bytes, |_| work()).await
    }

    /// The same with work that can stop in the middle: what it gets says whether its result is still wanted.
    pub(crate) async fn work_while<T: Send + 'static>(
        &mut self,
        bytes: usize,
        work: impl FnOnce(Wanted<'_>) -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, Failure> {
        let (shared, inferlet) = (self.shared.clone(), self.inferlet.clone());
        Ok(shared.workers.run_while(&inferlet, bytes, work).await?)
    }
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

impl api::types::Host for HostState {
    fn convert_error(&mut self, failure: Failure) -> wasmtime::Result<WitError> {
        match failure {
            Failure::Guest(error) => Ok(error.into()),
            Failure::Host(error) => Err(error),
        }
    }
}

impl From<ApiError> for WitError {
    fn from(error: ApiError) -> WitError {
        match error {
            ApiError::InvalidArgument(text) => WitError::InvalidArgument(text),
            ApiError::NotFound(text) => WitError::NotFound(text),
            ApiError::Denied(text) => WitError::Denied(text),
            ApiError::OutOfPages(text) => WitError::OutOfPages(text),
            ApiError::LimitExceeded(text) => WitError::LimitExceeded(text),
            ApiError::Cancelled => WitError::Cancelled,
            ApiError::Closed(text) => WitError::Closed(text),
            ApiError::Backend(text) => WitError::Backend(text),
        }
    }
}

/// Offers every interface to programs.
pub(crate) fn add_to_linker(linker: &mut Linker<HostState>) -> wasmtime::Result<()> {
    wasmtime_wasi::p2::add_to_linker_async(linker)?;
    wasmtime_wasi::p3::add_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    wasmtime_wasi_http::p3::add_to_linker(linker)?;
    bindings::Inferlet::add_to_linker::<_, HasSelf<HostState>>(linker, |state| state)
}
