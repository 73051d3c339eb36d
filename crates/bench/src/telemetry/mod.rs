//! What servers and machines tell about themselves while they are measured: the server's `/metrics`, memory and CPU of
//! its process, the GPU. One thread takes samples; what cannot be had is left out and said.

pub mod gpu;
pub mod process;
pub mod prometheus;
mod repeated;

pub use repeated::{Repeated, When};

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{ClientOptions, fetch};

/// What to look at.
#[derive(Clone, Debug)]
pub struct Watch {
    /// The route of the server's metrics; `None` for none.
    pub metrics_route: Option<String>,
    /// The server's process, where it is on this machine.
    pub pid: Option<u32>,
    /// Whether to look at the GPU.
    pub gpu: bool,
    /// Time between samples.
    pub interval: Duration,
}

/// One sample.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// Seconds since the watch began.
    pub at: f64,
    /// Values of the server's metrics, summed over their labels.
    pub metrics: BTreeMap<String, f64>,
    /// Resident memory of the server's process in bytes.
    pub memory_bytes: Option<u64>,
    /// Seconds of CPU of the server's process so far.
    pub cpu_secs: Option<f64>,
    /// The GPUs.
    pub gpus: Vec<gpu::Gpu>,
}

/// All samples: the first from before the load, the last from after it.
#[derive(Clone, Debug, Default)]
pub struct Telemetry {
    /// In the order of time.
    pub samples: Vec<Sample>,
    /// What could not be had.
    pub notes: Vec<String>,
}

impl Telemetry {
    /// How much a counter of the server grew.
    pub fn growth(&self, name: &str) -> Option<f64> {
        let value = |sample: Option<&Sample>| sample.and_then(|sample| sample.metrics.get(name).copied());
        Some(value(self.samples.last())? - value(self.samples.first())?)
    }

    /// The largest value of a gauge.
    pub fn peak(&self, name: &str) -> Option<f64> {
        self.samples.iter().filter_map(|sample| sample.metrics.get(name).copied()).reduce(f64::max)
    }
}

/// A thread that takes samples.
#[derive(Debug)]
pub struct Watcher(Repeated<Telemetry>);

impl Watcher {
    /// Takes the first sample and starts.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(watch: Watch, options: Arc<ClientOptions>) -> std::io::Result<Self> {
        let (start, interval) = (Instant::now(), watch.interval);
        let mut telemetry = Telemetry::default();
        take(&watch, &options, start, &mut telemetry);
        let sample = move |telemetry: &mut Telemetry, _| take(&watch, &options, start, telemetry);
        Ok(Self(Repeated::start("telemetry", interval, telemetry, sample)?))
    }

    /// Takes the last sample, and returns all.
    pub fn finish(self) -> Telemetry {
        self.0.finish().unwrap_or_else(|| Telemetry {
            notes: vec!["the watch ended by a defect of its own".into()],
            ..Telemetry::default()
        })
    }
}

fn take(watch: &Watch, options: &ClientOptions, start: Instant, telemetry: &mut Telemetry) {
    let mut note = |text: String| {
        if !telemetry.notes.contains(&text) {
            telemetry.notes.push(text);
        }
    };
    let mut sample = Sample { at: start.elapsed().as_secs_f64(), ..Sample::default() };
    if let Some(route) = &watch.metrics_route {
        match fetch(options, "GET", route, None, Duration::from_secs(2)) {
            Ok(fetched) if fetched.status == 200 => {
                sample.metrics = prometheus::sums(&String::from_utf8_lossy(&fetched.body));
            }
            Ok(fetched) => note(format!("{route} has status {}", fetched.status)),
            Err(failure) => note(format!("{route}: {}", failure.class.name())),
        }
    }
    if let Some(pid) = watch.pid {
        sample.memory_bytes = process::memory_bytes(pid);
        sample.cpu_secs = process::cpu_secs(pid);
        if sample.memory_bytes.is_none() {
            note(format!("process {pid} has no figures"));
        }
    }
    if watch.gpu {
        match gpu::gpus() {
            Ok(gpus) => sample.gpus = gpus,
            Err(error) => note(format!("no figures of a GPU: {error}")),
        }
    }
    telemetry.samples.push(sample);
}

/// What is written of it: growth of counters, peaks of gauges, and the course of memory, CPU and GPUs.
pub fn json(telemetry: &Telemetry) -> Value {
    let names = telemetry.samples.last().map(|sample| sample.metrics.keys().cloned().collect::<Vec<_>>());
    let (mut counters, mut gauges) = (BTreeMap::new(), BTreeMap::new());
    for name in names.unwrap_or_default() {
        let is_counter = ["_total", "_count", "_sum"].iter().any(|end| name.ends_with(end));
        let value = if is_counter { telemetry.growth(&name) } else { telemetry.peak(&name) };
        let list = if is_counter { &mut counters } else { &mut gauges };
        list.insert(name, value);
    }
    let course: Vec<Value> = telemetry
        .samples
        .iter()
        .map(|sample| {
            let gpus: Vec<Value> = sample.gpus.iter().map(gpu::Gpu::json).collect();
            json!({"at": sample.at, "memory_bytes": sample.memory_bytes, "cpu_secs": sample.cpu_secs, "gpus": gpus})
        })
        .collect();
    json!({"counter_growth": counters, "gauge_peak": gauges, "course": course, "notes": telemetry.notes})
}
