//! `clock`: waiting.

use std::time::Duration;

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::api::clock;
use super::{HostState, call};

impl clock::Host for HostState {
    fn elapsed(&mut self) -> wasmtime::Result<u64> {
        Ok(self.inferlet.started().elapsed().as_nanos() as u64)
    }
}

impl<T: Send + 'static> clock::HostWithStore<T> for HasSelf<HostState> {
    async fn sleep(accessor: &Accessor<T, Self>, milliseconds: u64) -> wasmtime::Result<()> {
        let _call = call(accessor, "clock.sleep", || vec![("ms", milliseconds.into())]);
        tokio::time::sleep(Duration::from_millis(milliseconds)).await;
        Ok(())
    }
}
