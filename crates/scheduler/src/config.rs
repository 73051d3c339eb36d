//! Settings of the scheduler and its thread.

use std::time::Duration;

use crate::policy::PolicyKind;

/// Settings of the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchedulerConfig {
    /// When to fire a batch. Default: adaptive.
    pub policy: PolicyKind,
    /// Pages that fit the host memory given to suspended contexts and idle snapshots. When it is full nothing more is
    /// suspended and passes wait; one that lacked pages for `patience` because of it fails with out-of-pages.
    /// Default: 16384.
    pub host_pages: u32,
    /// Distinct pages an owner may hold unless told otherwise. Default: no bound but the pool.
    pub pages_quota: Option<u32>,
    /// Whether computed prefixes are kept and reused. Default: yes.
    pub prefix_cache: bool,
    /// A pass that waited this long goes before everybody who waited less, whatever the priorities: nobody waits
    /// for ever. Default: 5 s.
    pub patience: Duration,
    /// A context may lose its pages to a pass of lower rank only when its last pass was answered this long ago: a
    /// program that merely thinks about its next token keeps its pages. Default: 50 ms.
    pub idle_after: Duration,
}

impl Default for SchedulerConfig {
    fn default() -> SchedulerConfig {
        SchedulerConfig {
            policy: PolicyKind::Adaptive,
            host_pages: 16384,
            pages_quota: None,
            prefix_cache: true,
            patience: Duration::from_secs(5),
            idle_after: Duration::from_millis(50),
        }
    }
}

/// Settings of the engine's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Passes and operations that may wait in the inbox. When it is full, passes, calls and operations that take
    /// something are refused as overloaded; those that give back are always accepted. Default: 65536.
    pub inbox: usize,
    /// How long the thread looks for work after a batch before it sleeps. At most 50 µs. Default: 20 µs.
    pub spin: Duration,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig { inbox: 65536, spin: Duration::from_micros(20) }
    }
}
