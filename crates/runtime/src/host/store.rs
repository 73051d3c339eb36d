//! `store`: the user's key-value store.

use wasmtime::component::{Accessor, HasSelf};

use super::bindings::api::store;
use super::{Failure, HostState};
use crate::error::ApiError;
use crate::store::UserStore;

fn user_store<T: Send + 'static>(accessor: &Accessor<T, HasSelf<HostState>>) -> Result<UserStore, ApiError> {
    accessor.with(|mut access| access.get().user_store())
}

impl HostState {
    fn user_store(&self) -> Result<UserStore, ApiError> {
        self.shared.store.of(&self.inferlet.user)
    }
}

impl store::Host for HostState {
    fn get(&mut self, key: String) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.user_store()?.get(&key)?)
    }

    fn keys(&mut self, prefix: String) -> Result<Vec<String>, Failure> {
        Ok(self.user_store()?.keys(&prefix)?)
    }
}

impl<T: Send + 'static> store::HostWithStore<T> for HasSelf<HostState> {
    async fn set(accessor: &Accessor<T, Self>, key: String, value: Vec<u8>) -> Result<(), Failure> {
        Ok(user_store(accessor)?.set(key, value).await?)
    }

    async fn delete(accessor: &Accessor<T, Self>, key: String) -> Result<bool, Failure> {
        Ok(user_store(accessor)?.delete(key).await?)
    }
}
