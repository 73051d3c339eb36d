//! A seeded simulation: random programs on a small pool, in virtual time, under every policy.
//!
//! After each step all invariants are checked. Every pass that was answered with values is compared with the same
//! program run alone: a plain list of slots, each with its backend page, in an unlimited pool, one batch a pass, no
//! sharing, no cache. Batching, chunks, sharing, suspension and the prefix cache must not change one bit.
//!
//! A failure prints its seed; `SIMULATION_SEED=n cargo test -p scheduler --test simulation` runs it again, and
//! `SIMULATION_SEEDS=n` runs more seeds than usual.

mod simulation_parts;

use simulation_parts::world::{Setup, World};

const SEEDS: u64 = 6;
const STEPS: u32 = 400;

/// Runs all policies and seeds; returns the sums of what happened.
#[expect(clippy::print_stderr, reason = "whoever reads the failure needs the seed")]
fn run_all(name: &str, setup: impl Fn(u64, scheduler::PolicyKind) -> Setup) -> Seen {
    let number = |name: &str| std::env::var(name).ok().map(|n| n.parse::<u64>().expect("a number"));
    let seeds = match number("SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut seen = Seen::default();
    for row in scheduler::POLICIES {
        let policy = (row.make)(3, std::time::Duration::from_millis(2));
        for seed in seeds.clone() {
            let run = || World::new(setup(seed, policy), seed).run(STEPS);
            match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
                Ok(stats) => seen.add(&stats),
                Err(panic) => {
                    eprintln!("simulation `{name}`, policy `{}`: SIMULATION_SEED={seed}", row.name);
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    seen
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
fn small_batches_without_cache() {
    let seen = run_all("small_batches_without_cache", |seed, policy| Setup {
        policy,
        pool: 24,
        batch_tokens: 3 + (seed % 13) as u32,
        batch_sequences: 2 + (seed % 3) as u32,
        prefix_cache: false,
        ..Setup::default()
    });
    assert!(seen.suspensions > 0 && seen.restores > 0 && seen.cached == 0, "{seen:?}");
}

#[test]
fn little_host_memory_and_quotas() {
    let seen = run_all("little_host_memory_and_quotas", |seed, policy| Setup {
        policy,
        pool: 16,
        host_pages: (seed % 24) as u32,
        quota: Some(6 + (seed % 8) as u32),
        ..Setup::default()
    });
    assert!(seen.suspensions > 0 && seen.failed > 0, "{seen:?}");
}
