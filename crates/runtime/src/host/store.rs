//! `store`: the user's key-value store. All of it waits for the disk, and so is work for other threads.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::api::store;
use super::{Failure, HostState, call, state};
use crate::RuntimeState;
use crate::error::ApiError;
use crate::inferlet::InferletState;
use crate::store::{UserStore, check_set};

/// Does something with the store of the inferlet's user. `bytes` are held meanwhile.
async fn with_store<R: Send + 'static>(
    shared: Arc<RuntimeState>,
    inferlet: &Arc<InferletState>,
    bytes: usize,
    work: impl FnOnce(&UserStore) -> Result<R, ApiError> + Send + 'static,
) -> Result<R, Failure> {
    let (store, user) = (shared.clone(), inferlet.user.clone());
    let work = move || work(&store.store.of(&user.name)?);
    Ok(shared.workers.run(inferlet, bytes, work).await?)
}

impl store::Host for HostState {
    async fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Failure> {
        let _call = self.call("store.get", || vec![("key", key.as_str().into())]);
        let (shared, inferlet) = (self.shared.clone(), self.inferlet.clone());
        with_store(shared, &inferlet, key.len(), move |store| store.get(&key)).await
    }

    async fn keys(&mut self, prefix: String) -> Result<Vec<String>, Failure> {
        let _call = self.call("store.keys", || vec![("prefix", prefix.as_str().into())]);
        let (shared, inferlet) = (self.shared.clone(), self.inferlet.clone());
        with_store(shared, &inferlet, prefix.len(), move |store| store.keys(&prefix)).await
    }
}

impl<T: Send + 'static> store::HostWithStore<T> for HasSelf<HostState> {
    async fn set(accessor: &Accessor<T, Self>, key: String, value: Vec<u8>) -> Result<(), Failure> {
        let _call =
            call(accessor, "store.set", || vec![("key", key.as_str().into()), ("bytes", value.len().into())]);
        check_set(&key, &value)?;
        let (shared, inferlet) = state(accessor);
        with_store(shared, &inferlet, key.len() + value.len(), move |store| store.set(&key, &value)).await
    }

    async fn delete(accessor: &Accessor<T, Self>, key: String) -> Result<bool, Failure> {
        let _call = call(accessor, "store.delete", || vec![("key", key.as_str().into())]);
        let (shared, inferlet) = state(accessor);
        with_store(shared, &inferlet, key.len(), move |store| store.delete(&key)).await
    }
}
