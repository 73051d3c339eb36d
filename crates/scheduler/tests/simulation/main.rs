//! A seeded simulation: random operations on a small pool, in virtual time, under every policy.
//!
//! Invariants:
//! - After each operation [`scheduler::Scheduler::check`] holds: every page is free, held or cached, and its holders
//!   are counted right; lengths, prefix nodes and places agree with what is stored.
//! - A planned batch keeps the contract of the backend ([`backend::Batch::check`]).
//! - Every pass is answered exactly once. With values: bit for bit those of the same pass run alone, on a plain list of
//!   slots in an unlimited pool, without sharing and cache. With an error: one that has a reason.
//! - No user with passes that wait for rows is passed over for others.
//! - A context is what the reference says, also after passes on it failed or were cancelled.
//! - The same operations plan the same batches.
//! - With nothing new coming in, every pass is answered in bounded time.
//! - When all owners are gone and all snapshots deleted, every page is free or cached.
//!
//! Each seed draws how often each operation comes. A failure prints the seed, the last operations and the shortest trace
//! found that still fails; `SIMULATION_SEED=n cargo test -p scheduler --test simulation` runs a seed again, and
//! `SIMULATION_SEEDS=n` runs more seeds than usual.

mod ops;
mod reference;
mod shorten;
mod world;

use std::cell::Cell;
use std::hash::Hasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use ops::Op;
use shorten::shorten;
use world::{Setup, World};

const SEEDS: u64 = 20;
/// Seeds that found something once.
const FOUND: [u64; 2] = [426, 712];
const OPERATIONS: usize = 400;
/// Operations shown of a trace that failed.
const SHOWN: usize = 50;

/// Runs all policies and seeds; returns the sums of what happened.
#[expect(clippy::print_stderr, reason = "the reader of a failure needs the seed and the trace")]
fn run_all(name: &str, setup: impl Fn(u64, scheduler::PolicyKind) -> Setup) -> Seen {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("SIMULATION_SEEDS").unwrap_or(SEEDS)).chain(FOUND).collect(),
    };
    let mut seen = Seen::default();
    for row in scheduler::POLICIES {
        let policy = (row.make)(3, std::time::Duration::from_millis(2));
        for seed in seeds.iter().copied() {
            let trace = ops::trace(seed, OPERATIONS, setup(seed, policy).fault_percent);
            let done = Cell::new(0);
            let run = |trace: &[Op]| {
                let world = || World::new(setup(seed, policy)).run(trace, &done);
                catch_unwind(AssertUnwindSafe(world))
            };
            match run(&trace) {
                Ok(stats) => seen.add(&stats),
                Err(panic) => {
                    let until = &trace[..trace.len().min(done.get() + 1)];
                    let last = &until[until.len().saturating_sub(SHOWN)..];
                    let short = quietly(|| shorten(until, |trace| run(trace).is_err()));
                    eprintln!("simulation `{name}`, policy `{}`: SIMULATION_SEED={seed}", row.name);
                    eprintln!("the last {} of {} operations:\n{}", last.len(), until.len(), lines(last));
                    eprintln!("{} operations are enough to fail:\n{}", short.len(), lines(&short));
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    seen
}

fn lines(trace: &[Op]) -> String {
    trace.iter().map(|op| format!("  {op:?}\n")).collect()
}

/// Runs `work` without messages of the panics of this thread.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                hook(panic)
            }
        }));
    });
    QUIET.set(true);
    let result = work();
    QUIET.set(false);
    result
}

/// What a simulation must have met to mean anything.
#[derive(Debug, Default)]
struct Seen {
    completed: u64,
    cancelled: u64,
    failed: u64,
    cached: u64,
    suspensions: u64,
    restores: u64,
}

impl Seen {
    fn add(&mut self, stats: &scheduler::Stats) {
        self.completed += stats.completed;
        self.cancelled += stats.cancelled;
        self.failed += stats.failed;
        self.cached += stats.rows_cached;
        self.suspensions += stats.suspensions;
        self.restores += stats.restores;
    }
}

#[test]
fn roomy_pool() {
    let seen = run_all("roomy_pool", |_, policy| Setup { policy, pool: 400, ..Setup::default() });
    assert!(seen.completed > 1000 && seen.cancelled > 0 && seen.cached > 0 && seen.failed == 0, "{seen:?}");
}

#[test]
fn tiny_pool_and_faults() {
    let seen = run_all("tiny_pool_and_faults", |seed, policy| Setup {
        policy,
        pool: 12 + (seed % 9) as u32,
        fault_percent: 3,
        ..Setup::default()
    });
    assert!(seen.suspensions > 0 && seen.restores > 0 && seen.cached > 0 && seen.failed > 0, "{seen:?}");
}

#[test]
fn small_batches() {
    let seen = in_small_batches("small_batches", true);
    assert!(seen.suspensions > 0 && seen.restores > 0 && seen.cached > 0, "{seen:?}");
}

#[test]
fn small_batches_without_cache() {
    let seen = in_small_batches("small_batches_without_cache", false);
    assert!(seen.suspensions > 0 && seen.restores > 0 && seen.cached == 0, "{seen:?}");
}

fn in_small_batches(name: &str, prefix_cache: bool) -> Seen {
    run_all(name, |seed, policy| Setup {
        policy,
        pool: 24,
        batch_tokens: 3 + (seed % 13) as u32,
        batch_sequences: 2 + (seed % 3) as u32,
        batch_outputs: 4 + (seed % 3) as u32,
        prefix_cache,
        priority_across_tenants: seed % 3 == 2,
        prefill_share: [1, 30, 100][(seed / 2 % 3) as usize],
        ..Setup::default()
    })
}

#[test]
fn little_host_memory_and_quotas() {
    let seen = run_all("little_host_memory_and_quotas", |seed, policy| Setup {
        policy,
        pool: 16,
        host_pages: (seed % 24) as u32,
        quota: Some(6 + (seed % 8) as u32),
        tenant_quota: Some(12 + (seed % 16) as u32),
        ..Setup::default()
    });
    assert!(seen.suspensions > 0 && seen.failed > 0, "{seen:?}");
}

#[test]
fn texts_of_an_encoder() {
    let seen = run_all("texts_of_an_encoder", |seed, policy| Setup {
        policy,
        encoder: true,
        // A text of a whole batch fits; two do not always.
        pool: 4 + (seed % 5) as u32,
        batch_sequences: 2 + (seed % 3) as u32,
        batch_outputs: 4 + (seed % 3) as u32,
        priority_across_tenants: seed % 3 == 2,
        fault_percent: 3,
        ..Setup::default()
    });
    assert!(seen.completed > 1000 && seen.cancelled > 0 && seen.failed > 0, "{seen:?}");
    assert!(seen.cached == 0 && seen.suspensions == 0, "{seen:?}");
}

/// No decision may depend on the order of a hash map, which differs from map to map, nor on anything else.
#[test]
fn the_same_operations_plan_the_same_batches() {
    for seed in 0..SEEDS {
        let trace = ops::trace(seed, OPERATIONS, 3);
        let planned = || {
            let mut world = World::new(Setup { pool: 16, ..Setup::default() });
            world.run(&trace, &Cell::new(0));
            world.planned.finish()
        };
        assert_eq!(planned(), planned(), "seed {seed}");
    }
}
