//! Figures of a run, each under the name of its definition.
//!
//! ```text
//! intended ------- started ---- first token ------------ last token -- end
//!         <- wait ->|<-- TTFT -->|<------ decode -------->|
//!                   |<------------- E2E service ------------------->|
//! |<---------------------- E2E response ----------------------------|
//! ```

mod bootstrap;
mod definitions;
mod distribution;
mod goodput;
mod percentile;
mod streaming;
mod summary;
mod verdict;
mod window;

pub use bootstrap::{Interval, of_mean, of_median, of_percentile};
pub use definitions::{METRICS, Metric, TpotDefinition};
pub use distribution::Distribution;
pub use goodput::{Goodput, Slo, SloError};
pub use percentile::{linear, nearest_rank};
pub use streaming::Streaming;
pub use summary::{ErrorCount, Summary, SummaryOptions, Throughput};
pub use verdict::{Limits, Verdict, verdict};
pub use window::{Window, steady_state};
