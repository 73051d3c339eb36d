//! `session`: messages to and from the launching client.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::api::session;
use super::{Failure, HostState, call};
use crate::error::ApiError;
use crate::inferlet::{Event, InferletState};

impl session::Host for HostState {}

fn inferlet<T: Send + 'static>(accessor: &Accessor<T, HasSelf<HostState>>) -> Arc<InferletState> {
    accessor.with(|mut access| access.get().inferlet.clone())
}

fn closed() -> Failure {
    ApiError::Closed("the client sends no more messages".into()).into()
}

impl<T: Send + 'static> session::HostWithStore<T> for HasSelf<HostState> {
    async fn send(accessor: &Accessor<T, Self>, text: String) -> Result<(), Failure> {
        let _call = call(accessor, "session.send", || vec![("bytes", text.len().into())]);
        Ok(inferlet(accessor).emit(text.len(), Event::Text(text)).await?)
    }

    async fn send_blob(accessor: &Accessor<T, Self>, bytes: Vec<u8>) -> Result<(), Failure> {
        let _call = call(accessor, "session.send-blob", || vec![("bytes", bytes.len().into())]);
        Ok(inferlet(accessor).emit(bytes.len(), Event::Blob(bytes)).await?)
    }

    async fn receive(accessor: &Accessor<T, Self>) -> Result<String, Failure> {
        let _call = call(accessor, "session.receive", Vec::new);
        inferlet(accessor).texts.lock().await.receive().await.ok_or_else(closed)
    }

    async fn receive_blob(accessor: &Accessor<T, Self>) -> Result<Vec<u8>, Failure> {
        let _call = call(accessor, "session.receive-blob", Vec::new);
        inferlet(accessor).blobs.lock().await.receive().await.ok_or_else(closed)
    }
}
