//! More requests than the server can answer: they come at four times the rate of its best, whatever becomes of those before.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::http::{Client, Streamed, percentile, prompt};
use crate::server::Home;

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Of each part.
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
    let Options { seconds, running, waiting, wait_ms, .. } = *options;
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
    // What both users get in a closed loop is the peak of that load: a share for each costs batches of the other.
    let alone = closed(&one, 1, options, Instant::now() + time / 4).await?;
    let end = || Instant::now() + time;
    let nobody = || async { Ok(Outcomes::default()) };
    let first = closed(&many, running as usize, options, end());
    let peak = loaded("closed loop", first, nobody()).await?;
    let each = Duration::from_secs_f64(f64::from(options.output) / (4.0 * peak.rate));
    let over = loaded("four times", open(&many, each, options), nobody()).await?;
    let first = closed(&many, running as usize - 1, options, end());
    let peak_of_both = loaded("closed loop, two keys", first, closed(&one, 1, options, end())).await?;
    let second = closed(&one, 1, options, end());
    let over_of_both = loaded("four times, two keys", open(&many, each, options), second).await?;

    let p50 = |outcomes: &Outcomes| {
        let mut times = outcomes.answered.iter().map(|one| one.whole).collect::<Vec<_>>();
        percentile(&mut times, 50)
    };
    let (before, during) = (p50(&alone), p50(&over_of_both.second));
    println!(
        "goodput {:.0} % of the peak, with two keys {:.0} % of theirs; p50 of a request of the second key {before:.0} ms alone, \
         {during:.0} ms beside, {:.1} times; {} of its requests refused",
        over.rate / peak.rate * 100.0,
        over_of_both.rate / peak_of_both.rate * 100.0,
        during / before,
        over_of_both.second.refused
    );
    ensure!(over.rate > 0.9 * peak.rate, "goodput below 90 %");
    ensure!(over_of_both.rate > 0.9 * peak_of_both.rate, "goodput of two keys below 90 %");
    ensure!(during < 2.0 * before && over_of_both.second.refused == 0, "the second key is not kept from it");
    let bound = wait_ms as f64 + peak.first_p99 * 2.0;
    ensure!(over.first_p99 < bound, "p99 of TTFT above {bound:.0} ms");
    server.stop()
}

/// What a load came to.
struct Loaded {
    /// Output tokens a second of what was answered, until the last of it was.
    rate: f64,
    /// Milliseconds to the first token, of the first key.
    first_p99: f64,
    second: Outcomes,
}

/// A load of the two keys.
async fn loaded(
    name: &str,
    first: impl Future<Output = Result<Outcomes>>,
    second: impl Future<Output = Result<Outcomes>>,
) -> Result<Loaded> {
    let start = Instant::now();
    let (first, second) = tokio::try_join!(first, second)?;
    let elapsed = start.elapsed();
    let rate = first.rate(elapsed) + second.rate(elapsed);
    let mut firsts = first.firsts();
    let (p50, p99) = (percentile(&mut firsts, 50), percentile(&mut firsts, 99));
    println!(
        "{name}: {:.1} s, {} and {} answered, {} refused; {rate:.0} output tokens/s; TTFT p50 {p50:.0} p99 {p99:.0} ms",
        elapsed.as_secs_f64(),
        first.answered.len(),
        second.answered.len(),
        first.refused
    );
    Ok(Loaded { rate, first_p99: p99, second })
}

/// A request each time, whatever becomes of those before. Those that were admitted in the last seconds end a little later.
async fn open(client: &Client, each: Duration, options: &Options) -> Result<Outcomes> {
    let (start, time) = (Instant::now(), Duration::from_secs(options.seconds));
    let outcomes = Arc::new(Mutex::new(Outcomes::default()));
    let mut requests = Vec::new();
    while start.elapsed() < time {
        let at = requests.len() as u32;
        tokio::time::sleep_until((start + each * at).into()).await;
        let (client, outcomes, output) = (client.clone(), outcomes.clone(), options.output);
        let ids = prompt(fastrand::u64(..), options.input);
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
    for request in requests {
        request.await??;
    }
    let outcomes = std::mem::take(&mut *outcomes.lock().expect("not poisoned"));
    Ok(outcomes)
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
