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
    /// Distinct pages an owner and those it launched may hold, unless its registration says otherwise. Default: no bound
    /// but the pool.
    pub pages_quota: Option<u32>,
    /// Distinct pages that a tenant may hold: all its owners and snapshots together, wherever the pages are. Default: no
    /// bound but the pool and host memory.
    pub tenant_pages: Option<u32>,
    /// Whether computed prefixes are kept and reused. Default: yes.
    pub prefix_cache: bool,
    /// Whether priority counts across tenants, before their shares of the rows and of the pool. If not, a tenant's
    /// priorities order its own contexts only, so that programs may set them freely. Default: no.
    pub priority_across_tenants: bool,
    /// Of the time of a batch in which streams decode, that of prompts, in hundredths: 1 to 100, which is as many rows as
    /// fit. A step of the streams takes 100 / (100 - share) times as long beside a prompt, and the prompt 100 / share times as
    /// long as without them. Default: 64, so 2.8 and 1.6 of the time of batches; of what a client sees less, since it waits for
    /// more than batches.
    pub prefill_share: u32,
    /// A pass that waited this long goes before everybody of its tenant who waited less, whatever the priorities, and the
    /// one of each tenant that waited longest gets pages before all tenants: nobody waits for ever. Default: 5 s.
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
            tenant_pages: None,
            prefix_cache: true,
            priority_across_tenants: false,
            prefill_share: 64,
            patience: Duration::from_secs(5),
            idle_after: Duration::from_millis(50),
        }
    }
}

/// Settings of the engine's thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineConfig {
    /// Passes and operations that may wait in the inbox. When it is full, passes, calls and operations are refused as
    /// overloaded, but for those that end something ([`crate::ContextOp::ends`]). Default: 65536.
    pub inbox: usize,
    /// Of these, those of one owner, so that no owner fills the inbox for all. Default: 8192.
    pub inbox_of_owner: usize,
    /// How long the thread looks for work after a batch before it sleeps. At most 50 µs. Default: 20 µs.
    pub spin: Duration,
}

impl Default for EngineConfig {
    fn default() -> EngineConfig {
        EngineConfig { inbox: 65536, inbox_of_owner: 8192, spin: Duration::from_micros(20) }
    }
}
