//! Does nothing: the time from its launch to its end is what a launch costs. With `--launches`, it launches
//! that many of itself at once, waits for all, and says how long that took; a median of several rounds, in
//! microseconds.

use std::time::Instant;

use inferlet::futures::future::try_join_all;
use inferlet::{Parameters, Result, json, runtime};

/// What the program is given.
#[derive(Parameters)]
struct Options {
    /// Programs to launch at once.
    #[parameter(short = 'n', default = 0)]
    launches: usize,
    /// Repetitions.
    #[parameter(short = 'r', default = 20)]
    rounds: usize,
}

#[inferlet::main]
async fn main(options: Options) -> Result<String> {
    let Options { launches, rounds } = options;
    if launches == 0 {
        return Ok(String::new());
    }
    let mut samples = Vec::new();
    // The first round fills the pool of instances and is not counted.
    for _ in 0..=rounds.max(1) {
        let start = Instant::now();
        let launched = (0..launches).map(|_| runtime::launch("bench-spawn".to_string(), Vec::new()));
        let children = try_join_all(launched).await?;
        try_join_all(children.iter().map(|child| child.wait())).await?;
        samples.push(start.elapsed().as_secs_f64() * 1e6);
    }
    samples.remove(0);
    samples.sort_by(f64::total_cmp);
    let (low, median, high) = (samples[0], samples[samples.len() / 2], samples[samples.len() - 1]);
    Ok(json!({ "unit": "us", "launches": launches, "median": median, "min": low, "max": high }).to_string())
}
