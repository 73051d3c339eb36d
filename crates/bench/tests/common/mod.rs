//! A scripted server in this process, and runs against it.

#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use bench::client::api::Api;
use bench::client::{self, ClientOptions, Run, Silent, Stop};
use bench::dataset::{Prompt, Sample};
use bench::mock::{Mock, Script};
use bench::workload::{Limit, Plan};

pub(crate) fn mock(script: Script) -> Mock {
    Mock::start(script, "127.0.0.1:0".parse().expect("an address")).expect("a mock server")
}

pub(crate) fn options(mock: &Mock, api: Api) -> ClientOptions {
    let address = format!("http://{}", mock.address()).parse().expect("an address");
    let mut options = ClientOptions::new(address, api);
    options.model = Some("mock".into());
    options
}

pub(crate) fn samples(count: usize, output_tokens: u32) -> Vec<Sample> {
    (0..count).map(|_| Sample::new(Prompt::Text("one two three".into()), 3, output_tokens)).collect()
}

pub(crate) fn plan(samples: Vec<Sample>, arrival: &str, limit: Limit) -> Plan {
    Plan::new(samples, &arrival.parse().expect("a schedule"), None, limit, 1).expect("a plan")
}

pub(crate) fn run(plan: Plan, options: ClientOptions) -> Run {
    client::run(&Arc::new(plan), &Arc::new(options), &Silent, &Stop::default()).expect("a run")
}

/// Runs until the figures are as near as wanted, for a machine that is busy with something else now and then. What
/// must hold always is asserted in `attempt`; it says how far off the rest was, as a share.
pub(crate) fn within(share: f64, mut attempt: impl FnMut() -> f64) {
    let mut off = Vec::new();
    for _ in 0..8 {
        off.push(attempt());
        if off.last().is_some_and(|off| *off <= share) {
            return;
        }
    }
    panic!("in no attempt were the figures within {share} of what the server did: {off:?}");
}
