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
    /// Bytes of linear memory, of all memories of the program together. Default: 256 MiB. At most the pool's slot size.
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

/// Linear memories, tables and core instances of one inferlet: those of a component with its adapters, several times over.
const MEMORIES: usize = 32;
const TABLES: usize = 64;
const CORE_INSTANCES: usize = 64;
/// Elements of all tables together: function pointers of a program, of which none has near as many.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Bounds linear memory and tables, each summed over all that the program has, and remembers what was refused: a program
/// that runs out of memory traps without saying so.
pub(crate) struct MemoryLimiter {
    limit: usize,
    bytes: usize,
    elements: usize,
    pub(crate) refused: Option<usize>,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize) -> MemoryLimiter {
        MemoryLimiter { limit, bytes: 0, elements: 0, refused: None }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let bytes = self.bytes.saturating_add(desired.saturating_sub(current));
        let fits = bytes <= self.limit;
        match fits {
            true => self.bytes = bytes,
            false => self.refused = Some(bytes),
        }
        Ok(fits)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let elements = self.elements.saturating_add(desired.saturating_sub(current));
        let fits = elements <= TABLE_ELEMENTS;
        if fits {
            self.elements = elements;
        }
        Ok(fits)
    }

    fn memories(&self) -> usize {
        MEMORIES
    }

    fn tables(&self) -> usize {
        TABLES
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_are_summed() {
        let mut limiter = MemoryLimiter::new(100);
        let mut memory = |from, to| limiter.memory_growing(from, to, None).unwrap();
        assert!(memory(0, 60) && memory(0, 30) && memory(30, 40));
        assert!(!memory(0, 1) && !memory(40, 41), "each is small, together they are too large");
        assert_eq!(limiter.refused, Some(101));
        let mut table = |from, to| limiter.table_growing(from, to, None).unwrap();
        assert!(table(0, TABLE_ELEMENTS / 2) && table(0, TABLE_ELEMENTS / 2) && !table(0, 1));
    }
}
