//! What needs a few lines only: the session, the inferlet itself, its store, time.

pub mod session {
    use super::super::Error;
    use crate::testing::{host, pause};

    pub async fn send(text: String) -> Result<(), Error> {
        pause().await;
        host().sent.borrow_mut().push(text);
        Ok(())
    }

    pub async fn send_blob(bytes: Vec<u8>) -> Result<(), Error> {
        pause().await;
        host().blobs.borrow_mut().push(bytes);
        Ok(())
    }

    pub async fn receive() -> Result<String, Error> {
        pause().await;
        let next = host().inputs.borrow_mut().pop_front();
        next.ok_or_else(|| Error::Closed("the test has no more messages".to_string()))
    }

    pub async fn receive_blob() -> Result<Vec<u8>, Error> {
        pause().await;
        Err(Error::Closed("a test has no bytes to send".to_string()))
    }
}

pub mod runtime {
    use super::super::Error;
    use crate::testing::{host, pause};

    #[derive(Clone, Debug)]
    pub struct Limits {
        pub pages: u32,
        pub pages_used: u32,
        pub memory_bytes: u64,
        pub cpu_ms: Option<u64>,
        pub output_bytes: u64,
    }

    #[derive(Debug)]
    pub struct Child;

    impl Child {
        pub fn id(&self) -> String {
            String::new()
        }

        pub async fn wait(&self) -> Result<String, Error> {
            Err(Error::Closed("no child runs in a test".to_string()))
        }

        pub fn cancel(&self) {}
    }

    pub fn arguments() -> Vec<String> {
        host().arguments.clone()
    }

    pub fn instance_id() -> String {
        "test".to_string()
    }

    pub fn user() -> String {
        "tester".to_string()
    }

    pub fn version() -> String {
        env!("CARGO_PKG_VERSION").to_string()
    }

    /// A test ends no program because of its client.
    pub fn detach() {}

    pub async fn usage() -> Result<Limits, Error> {
        pause().await;
        Ok(Limits { pages: 0, pages_used: 0, memory_bytes: 0, cpu_ms: None, output_bytes: 0 })
    }

    pub async fn launch(program: String, _arguments: Vec<String>) -> Result<Child, Error> {
        pause().await;
        Err(Error::NotFound(format!("no program `{program}`: a test runs one program")))
    }
}

pub mod store {
    use super::super::Error;
    use crate::testing::{host, pause};

    pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(host().store.borrow().get(key).cloned())
    }

    pub async fn set(key: String, value: Vec<u8>) -> Result<(), Error> {
        pause().await;
        host().store.borrow_mut().insert(key, value);
        Ok(())
    }

    pub async fn delete(key: String) -> Result<bool, Error> {
        pause().await;
        Ok(host().store.borrow_mut().remove(&key).is_some())
    }

    pub fn keys(prefix: &str) -> Result<Vec<String>, Error> {
        Ok(host().store.borrow().keys().filter(|key| key.starts_with(prefix)).cloned().collect())
    }
}

/// Time passes only where every task waits for it.
pub mod clock {
    use crate::testing::host;

    pub async fn sleep(milliseconds: u64) {
        let host = host();
        let until = host.clock_ns.get().saturating_add(milliseconds.saturating_mul(1_000_000));
        host.sleepers.borrow_mut().push(until);
        crate::testing::wait(|host| (host.clock_ns.get() >= until).then_some(())).await;
    }

    pub fn elapsed() -> u64 {
        host().clock_ns.get()
    }
}
