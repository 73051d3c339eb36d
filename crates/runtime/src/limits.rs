//! Limits of one inferlet, and the parts that meter it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use wasmtime::ResourceLimiter;

use crate::inferlet::InferletState;

/// Limits of one inferlet. Beyond one, the call or the inferlet ends with an error that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferletLimits {
    /// Bytes of linear memory. Default: 256 MiB. At most the pool's slot size.
    pub memory_bytes: usize,
    /// Processor time of the program itself, the model's not counted. Default: none.
    pub cpu: Option<Duration>,
    /// Distinct pages of key/value memory held at once. Default: no bound but the pool.
    pub pages: Option<u32>,
    /// Bytes of messages, stdout and stderr together. Default: 64 MiB.
    pub output_bytes: u64,
    /// Contexts held at once. Default: 4096.
    pub contexts: u32,
}

impl Default for InferletLimits {
    fn default() -> InferletLimits {
        InferletLimits {
            memory_bytes: 256 << 20,
            cpu: None,
            pages: None,
            output_bytes: 64 << 20,
            contexts: 4096,
        }
    }
}

/// Bounds linear memory, and remembers what was refused: a program that runs out of memory traps without saying so.
pub(crate) struct MemoryLimiter {
    limit: usize,
    pub(crate) refused: Option<usize>,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize) -> MemoryLimiter {
        MemoryLimiter { limit, refused: None }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= self.limit;
        if !fits {
            self.refused = Some(desired);
        }
        Ok(fits)
    }

    fn table_growing(&mut self, _: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        // Function pointers of a program; a million is far more than any has.
        Ok(desired <= 1 << 20)
    }
}

/// Polls a program and adds the time each poll takes to the inferlet's processor time.
pub(crate) struct Metered<F> {
    pub(crate) program: Pin<Box<F>>,
    pub(crate) inferlet: Arc<InferletState>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let start = Instant::now();
        self.inferlet.cpu.begin(start);
        let result = self.program.as_mut().poll(context);
        self.inferlet.cpu.end(start);
        result
    }
}
