//! `messaging`: topics and queues.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::messaging;
use super::{Failure, HostState};
use crate::RuntimeState;
use crate::messaging::Listener;

/// A program's handle to a topic.
pub struct Subscription(Arc<Listener>);

impl messaging::Host for HostState {
    fn broadcast(&mut self, topic: String, message: String, keep: bool) -> Result<(), Failure> {
        Ok(self.shared.broker.broadcast(&self.inferlet.user, topic, &message, keep)?)
    }

    fn subscribe(&mut self, topic: String, kept: bool) -> Result<Resource<Subscription>, Failure> {
        let listener = self.shared.broker.subscribe(&self.inferlet.user, topic, kept)?;
        Ok(self.table.push(Subscription(listener))?)
    }
}

impl messaging::HostSubscription for HostState {
    fn drop(&mut self, subscription: Resource<Subscription>) -> wasmtime::Result<()> {
        self.table.delete(subscription)?;
        Ok(())
    }
}

fn shared<T: Send + 'static>(accessor: &Accessor<T, HasSelf<HostState>>) -> (Arc<RuntimeState>, String) {
    accessor.with(|mut access| {
        let state = access.get();
        (state.shared.clone(), state.inferlet.user.clone())
    })
}

impl<T: Send + 'static> messaging::HostWithStore<T> for HasSelf<HostState> {
    async fn push(accessor: &Accessor<T, Self>, queue: String, message: String) -> Result<(), Failure> {
        let (shared, user) = shared(accessor);
        Ok(shared.broker.push(&user, queue, message).await?)
    }

    async fn pull(accessor: &Accessor<T, Self>, queue: String) -> Result<String, Failure> {
        let (shared, user) = shared(accessor);
        Ok(shared.broker.pull(&user, queue).await?)
    }
}

impl<T: Send + 'static> messaging::HostSubscriptionWithStore<T> for HasSelf<HostState> {
    async fn next(
        accessor: &Accessor<T, Self>,
        subscription: Resource<Subscription>,
    ) -> Result<String, Failure> {
        let listener =
            accessor.with(|mut access| access.get().table.get(&subscription).map(|s| s.0.clone()))?;
        Ok(listener.next().await?)
    }
}
