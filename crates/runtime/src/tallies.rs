//! How often each program was launched, how its inferlets ended, and what they took of the processor.
//!
//! Programs come from strangers, and so may their names: the first [`PROGRAMS`] have a tally of their own, all others
//! share one.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::InferletError;

/// Programs with a tally of their own.
const PROGRAMS: usize = 256;
/// Bytes of a name that are kept.
const NAME_BYTES: usize = 128;
/// The program of the tally that all others share.
const OTHER: &str = "other";

/// How an inferlet ends, as metrics name it.
pub(crate) const OUTCOMES: [&str; 5] = ["ok", "error", "limit", "trap", "killed"];

fn outcome<T>(result: &Result<T, InferletError>) -> usize {
    match result {
        Ok(_) => 0,
        Err(InferletError::Program(_)) => 1,
        Err(InferletError::Cpu { .. } | InferletError::Memory { .. } | InferletError::SharedMemory) => 2,
        Err(InferletError::Trap(_)) => 3,
        Err(InferletError::Killed) => 4,
    }
}

/// The counts of one program.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) program: String,
    /// Inferlets that have not begun, and those that have.
    waiting: AtomicU64,
    running: AtomicU64,
    launches: AtomicU64,
    ends: [AtomicU64; OUTCOMES.len()],
    cpu_ns: AtomicU64,
}

impl Tally {
    pub(crate) fn launched(&self) {
        self.launches.fetch_add(1, Ordering::Relaxed);
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn begins(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// An inferlet is no longer there, however it ended.
    pub(crate) fn gone(&self, has_begun: bool) {
        let count = if has_begun { &self.running } else { &self.waiting };
        count.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn ended<T>(&self, result: &Result<T, InferletError>) {
        self.ends[outcome(result)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn spent(&self, nanoseconds: u64) {
        self.cpu_ns.fetch_add(nanoseconds, Ordering::Relaxed);
    }

    pub(crate) fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(crate) fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    pub(crate) fn launches(&self) -> u64 {
        self.launches.load(Ordering::Relaxed)
    }

    /// In the order of [`OUTCOMES`].
    pub(crate) fn ends(&self) -> [u64; OUTCOMES.len()] {
        std::array::from_fn(|outcome| self.ends[outcome].load(Ordering::Relaxed))
    }

    pub(crate) fn cpu(&self) -> Duration {
        Duration::from_nanos(self.cpu_ns.load(Ordering::Relaxed))
    }
}

/// The tallies of all programs.
#[derive(Default)]
pub(crate) struct Tallies(Mutex<BTreeMap<String, Arc<Tally>>>);

impl Tallies {
    /// That of a program.
    pub(crate) fn of(&self, program: &str) -> Arc<Tally> {
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let program = &program[..program.floor_char_boundary(NAME_BYTES)];
        let is_known = tallies.contains_key(program);
        let name = if is_known || tallies.len() < PROGRAMS { program } else { OTHER };
        let new = || Arc::new(Tally { program: name.to_string(), ..Tally::default() });
        tallies.entry(name.to_string()).or_insert_with(new).clone()
    }

    /// By the names of the programs.
    pub(crate) fn all(&self) -> Vec<Arc<Tally>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inferlet_waits_runs_and_is_gone() {
        let tally = Tally::default();
        let counts = || (tally.waiting(), tally.running());
        (0..2).for_each(|_| tally.launched());
        assert_eq!(counts(), (2, 0));
        tally.begins();
        assert_eq!(counts(), (1, 1));
        tally.gone(true);
        // Killed before its turn.
        tally.gone(false);
        assert_eq!((counts(), tally.launches()), ((0, 0), 2));
    }

    #[test]
    fn so_many_programs_have_a_tally_and_the_others_share_one() {
        let tallies = Tallies::default();
        for program in 0..PROGRAMS + 10 {
            tallies.of(&format!("program {program}")).launched();
        }
        tallies.of("program 3").launched();
        let all = tallies.all();
        assert_eq!(all.len(), PROGRAMS + 1);
        let launches =
            |name: &str| all.iter().find(|tally| tally.program == name).map(|tally| tally.launches());
        assert_eq!(
            (launches("program 3"), launches("other"), launches("program 256")),
            (Some(2), Some(10), None)
        );
        assert!(tallies.of(&"é".repeat(500)).program.len() <= NAME_BYTES);
    }
}
