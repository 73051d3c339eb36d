//! `messaging`: topics and queues.

use std::sync::Arc;

use wasmtime::component::{Accessor, HasSelf, Resource};

use super::bindings::api::messaging;
use super::{Failure, HostState, call};
use crate::messaging::Listener;
use crate::users::User;

/// A program's handle to a topic.
pub struct Subscription(Arc<Listener>);

impl messaging::Host for HostState {
    fn broadcast(&mut self, topic: String, message: String, keep: bool) -> Result<(), Failure> {
        Ok(self.inferlet.user.broker.broadcast(topic, &message, keep)?)
    }

    fn forget(&mut self, topic: String) -> Result<(), Failure> {
        Ok(self.inferlet.user.broker.forget(&topic)?)
    }

    fn subscribe(&mut self, topic: String, kept: bool) -> Result<Resource<Subscription>, Failure> {
        let listener = self.inferlet.user.broker.subscribe(topic, kept)?;
        Ok(self.table.push(Subscription(listener))?)
    }
}

impl messaging::HostSubscription for HostState {
    fn drop(&mut self, subscription: Resource<Subscription>) -> wasmtime::Result<()> {
        self.table.delete(subscription)?;
        Ok(())
    }
}

fn user<T: Send + 'static>(accessor: &Accessor<T, HasSelf<HostState>>) -> Arc<User> {
    accessor.with(|mut access| access.get().inferlet.user.clone())
}

impl<T: Send + 'static> messaging::HostWithStore<T> for HasSelf<HostState> {
    async fn push(accessor: &Accessor<T, Self>, queue: String, message: String) -> Result<(), Failure> {
        let _call = call(accessor, "messaging.push", || {
            vec![("queue", queue.as_str().into()), ("bytes", message.len().into())]
        });
        Ok(user(accessor).broker.push(queue, message).await?)
    }

    async fn pull(accessor: &Accessor<T, Self>, queue: String) -> Result<String, Failure> {
        let _call = call(accessor, "messaging.pull", || vec![("queue", queue.as_str().into())]);
        Ok(user(accessor).broker.pull(queue).await?)
    }
}

impl<T: Send + 'static> messaging::HostSubscriptionWithStore<T> for HasSelf<HostState> {
    async fn next(
        accessor: &Accessor<T, Self>,
        subscription: Resource<Subscription>,
    ) -> Result<String, Failure> {
        let _call = call(accessor, "messaging.next", Vec::new);
        let listener =
            accessor.with(|mut access| access.get().table.get(&subscription).map(|s| s.0.clone()))?;
        Ok(listener.next().await?)
    }
}
