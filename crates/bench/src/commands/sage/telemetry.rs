//! What the server says of its cache, and its memory, during a workload: pie's and vLLM's names of metrics. Labels are
//! needed, such as the state of pages, so pages are kept whole and not as sums.

use std::sync::Arc;
use std::time::Duration;

use crate::client::{ClientOptions, fetch};
use crate::metrics::Distribution;
use crate::telemetry::{Repeated, process, prometheus};

/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(250);

/// A page of metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct Page(String);

impl Page {
    /// Of a text in the format of Prometheus.
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    /// The sum over models of a metric, of lines whose labels hold `label`.
    pub(super) fn sum(&self, name: &str, label: &str) -> Option<f64> {
        prometheus::sum(&self.0, name, label)
    }

    /// The value of a label, as a number.
    fn label(&self, name: &str, label: &str) -> Option<f64> {
        let (_, labels, _) = prometheus::samples(&self.0).find(|(named, _, _)| *named == name)?;
        let (_, rest) = labels.split_once(&format!("{label}=\""))?;
        rest.split('"').next()?.parse().ok()
    }

    /// Tokens that the cache of a vLLM server has in use now.
    fn kv_tokens(&self) -> Option<f64> {
        let share =
            self.sum("vllm:kv_cache_usage_perc", "").or_else(|| self.sum("vllm:gpu_cache_usage_perc", ""))?;
        let config = "vllm:cache_config_info";
        Some(share * self.label(config, "num_gpu_blocks")? * self.label(config, "block_size")?)
    }
}

/// What was seen. What a server does not say is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Most pages in use, of pie.
    pub(super) kv_pages_used: Option<f64>,
    /// Most tokens in the cache, of vLLM.
    pub(super) kv_tokens_used: Option<f64>,
    /// Share of the tokens that the prefix cache was asked for and had.
    pub(super) prefix_hit_rate: Option<f64>,
    /// Contexts that lost their pages.
    pub(super) evictions: Option<f64>,
    /// Share of guessed tokens that were kept.
    pub(super) spec_accept_rate: Option<f64>,
    /// Resident memory of the server's process in MB, at most and on average.
    pub(super) memory_mb: Option<(f64, f64)>,
}

/// The names of the counters, pie's before vLLM's.
const ASKED: [&str; 2] = ["pie_prefix_asked_tokens_total", "vllm:prefix_cache_queries_total"];
const FOUND: [&str; 2] = ["pie_prefix_found_tokens_total", "vllm:prefix_cache_hits_total"];
const EVICTIONS: [&str; 2] = ["pie_suspensions_total", "vllm:num_preemptions_total"];
const GUESSED: [&str; 1] = ["vllm:spec_decode_num_draft_tokens_total"];
const ACCEPTED: [&str; 1] = ["vllm:spec_decode_num_accepted_tokens_total"];

/// What was seen on pages in the order of time, with the server's memory in MB beside them; without it, what the pages
/// say of it.
pub(super) fn seen(pages: &[Page], memory: &[f64], peak_memory: Option<f64>) -> Seen {
    let (Some(first), Some(last)) = (pages.first(), pages.last()) else { return Seen::default() };
    let grown = |names: &[&str]| {
        names.iter().find_map(|name| Some(last.sum(name, "")? - first.sum(name, "").unwrap_or(0.0)))
    };
    let share = |part: Option<f64>, whole: Option<f64>| {
        let (part, whole) = (part?, whole.filter(|whole| *whole > 0.0)?);
        Some(part / whole)
    };
    let highest = |value: fn(&Page) -> Option<f64>| pages.iter().filter_map(value).reduce(f64::max);
    // Servers elsewhere say their own, as Prometheus' libraries do.
    let said =
        pages.iter().filter_map(|page| page.sum("process_resident_memory_bytes", "")).map(|bytes| bytes / MB);
    let memory = match memory {
        [] => Distribution::new(said),
        memory => Distribution::new(memory.iter().copied()),
    };
    Seen {
        kv_pages_used: highest(|page| page.sum("pie_kv_pages", "state=\"used\"")),
        kv_tokens_used: highest(Page::kv_tokens),
        prefix_hit_rate: share(grown(&FOUND), grown(&ASKED)),
        evictions: grown(&EVICTIONS),
        spec_accept_rate: share(grown(&ACCEPTED), grown(&GUESSED)),
        memory_mb: peak_memory.or(memory.max()).zip(memory.mean()),
    }
}

/// Looks at a server at an interval.
pub(super) struct Watch {
    looks: Repeated<(Vec<Page>, Vec<f64>)>,
    pid: Option<u32>,
}

const MB: f64 = 1e6;

impl Watch {
    /// Begins, with a look before the first request. `pid` is the server's process, where it is on this machine.
    pub(super) fn start(options: &Arc<ClientOptions>, pid: Option<u32>) -> std::io::Result<Self> {
        let options = Arc::clone(options);
        let look = move |(pages, memory): &mut (Vec<Page>, Vec<f64>)| {
            // A server without the page has no such figures, which are null then.
            let page = fetch(&options, "GET", "/metrics", None, Duration::from_secs(5));
            if let Some(page) = page.ok().filter(|page| page.status == 200) {
                pages.push(Page::new(String::from_utf8_lossy(&page.body).into_owned()));
            }
            memory.extend(pid.and_then(process::memory_bytes).map(|bytes| bytes as f64 / MB));
        };
        let mut seen = (Vec::new(), Vec::new());
        look(&mut seen);
        Ok(Self { looks: Repeated::start("sage-watch", INTERVAL, seen, move |seen, _| look(seen))?, pid })
    }

    /// Ends, with a look after the last request.
    pub(super) fn finish(self) -> Seen {
        let peak = self.pid.and_then(process::peak_memory_bytes).map(|bytes| bytes as f64 / MB);
        // A panic has been printed, and there is nothing to say then.
        let (pages, memory) = self.looks.finish().unwrap_or_default();
        seen(&pages, &memory, peak)
    }
}
