//! More requests than the server can answer: they come at four times the rate of its best, whatever becomes of those before.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::http::{Client, Streamed, percentile, prompt};
use crate::server::Home;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Of each of the two parts.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Requests at once, of the closed loop that finds the best rate, and of the server.
    #[arg(long, default_value_t = 32)]
    running: u32,
    #[arg(long, default_value_t = 64)]
    waiting: u32,
    /// How long a request may wait.
    #[arg(long, default_value_t = 10_000)]
    wait_ms: u64,
    /// Tokens of a prompt.
    #[arg(long, default_value_t = 64)]
    input: usize,
    /// Tokens of an answer.
    #[arg(long, default_value_t = 64)]
    output: u32,
}

/// What came of requests.
#[derive(Default)]
struct Outcomes {
    answered: Vec<Streamed>,
    refused: usize,
}

impl Outcomes {
    /// Output tokens a second, of those that were answered within `time`.
    fn rate(&self, time: Duration) -> f64 {
        self.answered.iter().map(|one| one.tokens).sum::<u64>() as f64 / time.as_secs_f64()
    }

    fn firsts(&self) -> Vec<Duration> {
        self.answered.iter().map(|one| one.first).collect()
    }
}

pub(crate) async fn run(model: &Path, options: &Options) -> Result<()> {
    let Options { seconds, running, waiting, wait_ms, output, .. } = *options;
    let home = Home::new()?;
    let keys = ["many", "one"].map(|user| home.pie(&["key", "add", user]));
    let [many, one] = keys;
    let config = format!(
        "[admission]\nrunning = {running}\nwaiting = {waiting}\nwait_ms = {wait_ms}\n\
         [http]\nconnections_per_address = 4096\n"
    );
    let server = home.start(model, &config, true).await?;
    let of = |key: String| Client { key: Some(key), ..server.client.clone() };
    let (many, one) = (of(many?), of(one?));
    let time = Duration::from_secs(seconds);

    // A little more clients than places of one key: there is always one that waits.
    let start = Instant::now();
    let peak = closed(&many, running as usize, options, start + time).await?;
    let best = peak.rate(start.elapsed());
    let mut firsts = peak.firsts();
    println!(
        "closed loop of {running}: {best:.0} output tokens/s, TTFT p50 {:.0} p99 {:.0} ms",
        percentile(&mut firsts, 50),
        percentile(&mut firsts, 99)
    );
    let start = Instant::now();
    let alone = closed(&one, 1, options, start + time / 4).await?;
    let mut alone = alone.answered.iter().map(|one| one.whole).collect::<Vec<_>>();

    let each = Duration::from_secs_f64(f64::from(output) / (4.0 * best));
    let start = Instant::now();
    let beside = tokio::spawn({
        let (one, options) = (one.clone(), Options { ..*options });
        async move { closed(&one, 1, &options, start + time).await }
    });
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let mut requests = Vec::new();
    while start.elapsed() < time {
        let at = requests.len() as u32;
        tokio::time::sleep_until((start + each * at).into()).await;
        let (client, outcomes, ids) =
            (many.clone(), outcomes.clone(), prompt(u64::from(at) << 20, options.input));
        requests.push(tokio::spawn(async move {
            let came = client.stream(&ids, output).await?;
            let mut outcomes = outcomes.lock().expect("not poisoned");
            match came {
                Ok(streamed) => outcomes.answered.push(streamed),
                Err(429) => outcomes.refused += 1,
                Err(status) => anyhow::bail!("answered {status}"),
            }
            Ok::<(), anyhow::Error>(())
        }));
    }
    let sent = requests.len();
    // What was admitted in the last seconds ends a little later: the rate counts until then.
    for request in requests {
        request.await??;
    }
    let elapsed = start.elapsed();
    let beside = beside.await??;
    let outcomes = outcomes.lock().expect("not poisoned");
    let good = outcomes.rate(elapsed) + beside.rate(elapsed);
    let mut firsts = outcomes.firsts();
    println!(
        "{sent} requests in {seconds} s, four times the best rate: {} answered, {} refused; {good:.0} output tokens/s over {:.1} s, \
         {:.0} % of the best; TTFT p50 {:.0} p99 {:.0} ms",
        outcomes.answered.len(),
        outcomes.refused,
        elapsed.as_secs_f64(),
        good / best * 100.0,
        percentile(&mut firsts, 50),
        percentile(&mut firsts, 99)
    );
    let mut times = beside.answered.iter().map(|one| one.whole).collect::<Vec<_>>();
    let (before, during) = (percentile(&mut alone, 50), percentile(&mut times, 50));
    println!(
        "one client of another key: p50 of a request {before:.0} ms alone, {during:.0} ms beside, {:.1} times; {} answered, {} refused",
        during / before,
        beside.answered.len(),
        beside.refused
    );
    ensure!(good > 0.9 * best, "goodput below 90 %");
    let bound = wait_ms as f64 + percentile(&mut peak.firsts(), 99) * 2.0;
    ensure!(percentile(&mut firsts, 99) < bound, "p99 of TTFT above {bound:.0} ms");
    server.stop()
}

/// So many clients, each with one request after the other.
async fn closed(client: &Client, clients: usize, options: &Options, end: Instant) -> Result<Outcomes> {
    let all = (0..clients).map(|_| {
        let (client, input, output) = (client.clone(), options.input, options.output);
        tokio::spawn(async move {
            let mut outcomes = Outcomes::default();
            while Instant::now() < end {
                match client.stream(&prompt(fastrand::u64(..), input), output).await? {
                    Ok(streamed) => outcomes.answered.push(streamed),
                    Err(429) => {
                        outcomes.refused += 1;
                        tokio::time::sleep(Duration::from_millis(fastrand::u64(50..150))).await;
                    }
                    Err(status) => anyhow::bail!("answered {status}"),
                }
            }
            Ok::<Outcomes, anyhow::Error>(outcomes)
        })
    });
    let mut outcomes = Outcomes::default();
    for one in all.collect::<Vec<_>>() {
        let Outcomes { answered, refused } = one.await??;
        outcomes.answered.extend(answered);
        outcomes.refused += refused;
    }
    Ok(outcomes)
}
