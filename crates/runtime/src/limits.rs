//! Limits of an inferlet, of a user and of the server, and the parts that meter programs.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use wasmtime::ResourceLimiter;

use crate::account::{Account, Taken};
use crate::inferlet::InferletState;

/// Limits of one inferlet. Beyond one, the call or the inferlet ends with an error that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferletLimits {
    /// Bytes of linear memory, of all memories of the program together. Default: 256 MiB. At most the pool's slot size.
    pub memory_bytes: usize,
    /// Processor time of the program and of all that it launched, the model's not counted. Default: none.
    pub cpu: Option<Duration>,
    /// Distinct pages of key/value memory held at once. Default: no bound but the pool.
    pub pages: Option<u32>,
    /// Bytes of messages, stdout and stderr together; as many again for the result. Default: 64 MiB.
    pub output_bytes: u64,
    /// Contexts held at once. Default: 4096.
    pub contexts: u32,
    /// Bytes that the host holds for it and all that it launched: embeddings, adapters, grammars, messages, texts being
    /// worked on. Default: 512 MiB.
    pub host_memory_bytes: u64,
}

impl Default for InferletLimits {
    fn default() -> InferletLimits {
        InferletLimits {
            memory_bytes: 256 << 20,
            cpu: None,
            pages: None,
            output_bytes: 64 << 20,
            contexts: 4096,
            host_memory_bytes: 512 << 20,
        }
    }
}

/// Limits of all programs of one user together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserLimits {
    /// Inferlets that run at once, of [`crate::RuntimeConfig::inferlets`]; more wait. Default: seven eighths of those, so
    /// that no user takes all.
    pub inferlets: Option<u32>,
    /// Inferlets that run or wait; a launch beyond is refused. Default: 8192.
    pub inferlets_waiting: u32,
    /// Bytes of linear memory. Default: 8 GiB.
    pub memory_bytes: u64,
    /// Bytes that the host holds for programs, see [`InferletLimits::host_memory_bytes`]. Default: 2 GiB.
    pub host_memory_bytes: u64,
    /// Bytes of keys and values in the store. Default: 1 GiB.
    pub store_bytes: u64,
    /// Keys in the store. Default: 65536.
    pub store_keys: u64,
    /// Bytes of uploaded programs. Default: 1 GiB.
    pub program_bytes: u64,
    /// Uploaded programs. Default: 256.
    pub programs: u64,
}

impl Default for UserLimits {
    fn default() -> UserLimits {
        UserLimits {
            inferlets: None,
            inferlets_waiting: 8192,
            memory_bytes: 8 << 30,
            host_memory_bytes: 2 << 30,
            store_bytes: 1 << 30,
            store_keys: 65536,
            program_bytes: 1 << 30,
            programs: 256,
        }
    }
}

/// Limits of all programs of all users together, for the machine's sake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLimits {
    /// Bytes of linear memory. Default: 16 GiB.
    pub memory_bytes: u64,
    /// Bytes that the host holds for programs. Default: 4 GiB.
    pub host_memory_bytes: u64,
}

impl Default for ServerLimits {
    fn default() -> ServerLimits {
        ServerLimits { memory_bytes: 16 << 30, host_memory_bytes: 4 << 30 }
    }
}

/// Linear memories, tables and core instances of one inferlet: those of a component with its adapters, several times over.
pub(crate) const MEMORIES: u32 = 32;
pub(crate) const TABLES: u32 = 64;
pub(crate) const CORE_INSTANCES: u32 = 64;
/// Elements of all tables together: function pointers of a program, of which none has near as many.
const TABLE_ELEMENTS: usize = 1 << 20;

/// Bounds linear memory and tables, each summed over all that the program has, and the memory over all programs of the
/// user too. It remembers what was refused: a program that runs out of memory traps without saying so.
pub(crate) struct MemoryLimiter {
    limit: usize,
    bytes: usize,
    /// The same bytes, in the user's account.
    held: Taken,
    elements: usize,
    pub(crate) refused: Option<Refused>,
}

/// Memory that was requested and not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Beyond the inferlet's limit: all the bytes it would have had.
    Inferlet(usize),
    /// The user's programs, or those of all users, have too much already.
    Others,
}

impl MemoryLimiter {
    pub(crate) fn new(limit: usize, user: &Arc<Account>) -> MemoryLimiter {
        let held = user.take(0).expect("nothing is never too much");
        MemoryLimiter { limit, bytes: 0, held, elements: 0, refused: None }
    }
}

impl ResourceLimiter for MemoryLimiter {
    fn memory_growing(&mut self, current: usize, desired: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let bytes = self.bytes.saturating_add(more);
        if bytes > self.limit {
            self.refused = Some(Refused::Inferlet(bytes));
        } else if self.held.grow(more as u64).is_err() {
            self.refused = Some(Refused::Others);
        } else {
            self.bytes = bytes;
            return Ok(true);
        }
        Ok(false)
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
        MEMORIES as usize
    }

    fn tables(&self) -> usize {
        TABLES as usize
    }

    fn instances(&self) -> usize {
        CORE_INSTANCES as usize
    }
}

/// Polls a program and adds what each poll takes to the inferlet's processor time: what its thread had of a processor, so
/// that nobody pays for the time in which others had it.
pub(crate) struct Metered<F> {
    pub(crate) program: Pin<Box<F>>,
    pub(crate) inferlet: Arc<InferletState>,
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        self.inferlet.runs();
        let result = self.program.as_mut().poll(context);
        self.inferlet.pauses();
        result
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::inferlet::tests::inferlet;
    use crate::inferlet::thread_time;

    #[test]
    fn a_program_pays_for_the_processor_and_not_for_waiting_for_one() {
        let (inferlet, _client) = inferlet();
        let run = |program: fn()| {
            let program = Box::pin(async move { program() });
            let before = inferlet.cpu.spent();
            Metered { program, inferlet: inferlet.clone() }.now_or_never().unwrap();
            inferlet.cpu.spent() - before
        };
        let sleeps = || std::thread::sleep(Duration::from_millis(50));
        let works = || {
            let start = thread_time();
            while thread_time() - start < Duration::from_millis(6) {}
        };
        assert_eq!(run(sleeps), 2 * crate::TICK, "it is interrupted long before");
        assert!(run(sleeps) < Duration::from_millis(25), "without a processor");
        assert!(
            !inferlet.is_out_of_cpu() && run(works) >= Duration::from_millis(6) && inferlet.is_out_of_cpu()
        );
        // What runs shortly pays for the clock's time: behind a short run, which one that waited for a processor is not.
        let pays_for_clock = || {
            run(|| ());
            run(|| std::thread::sleep(crate::TICK)) >= crate::TICK
        };
        assert!((0..20).any(|_| pays_for_clock()));
    }

    #[test]
    fn memories_and_tables_are_summed() {
        let user = Account::root("the user", "bytes", 150);
        let mut limiter = MemoryLimiter::new(100, &user);
        let mut memory = |from, to| limiter.memory_growing(from, to, None).unwrap();
        assert!(memory(0, 60) && memory(0, 30) && memory(30, 40));
        assert!(!memory(0, 1) && !memory(40, 41), "each is small, together they are too large");
        assert_eq!(limiter.refused, Some(Refused::Inferlet(101)));
        let mut table = |from, to| limiter.table_growing(from, to, None).unwrap();
        assert!(table(0, TABLE_ELEMENTS / 2) && table(0, TABLE_ELEMENTS / 2) && !table(0, 1));
        // Another program of the same user has what this one left.
        let mut other = MemoryLimiter::new(100, &user);
        assert!(other.memory_growing(0, 50, None).unwrap() && !other.memory_growing(50, 51, None).unwrap());
        assert_eq!(other.refused, Some(Refused::Others));
        drop(limiter);
        assert!(other.memory_growing(50, 100, None).unwrap());
    }
}
