//! A long prompt among streams that decode: what it costs them, and they it, in simulated time. A batch takes a time of its
//! own, one for each row, token attended to and output, and is late by a seeded part of that.

mod common;

use std::time::Duration;

use backend::Batch;
use common::{Stream, World, decoding};
use scheduler::{ContextId, POLICIES, Priority, SchedulerConfig};

const STREAMS: u64 = 16;
const PROMPT: u32 = 2048;
/// Of the time of a batch, by which it is late at most.
const NOISE: f64 = 0.05;
/// Time between an answer and the next pass of a stream.
const TURN: Duration = Duration::from_micros(1500);

fn microseconds(time: f64) -> Duration {
    Duration::from_nanos((time * 1e3) as u64)
}

/// About the times of a small model on two cores, which take 17 ms for 16 streams and 2.4 s for the prompt.
fn time_of(batch: &Batch, late: f64) -> Duration {
    let attended: u64 = batch.positions.iter().map(|position| u64::from(*position) + 1).sum();
    let (rows, outputs) = (batch.rows() as f64, batch.outputs.len() as f64);
    microseconds((2500.0 + 550.0 * rows + 0.6 * attended as f64 + 300.0 * outputs) * (1.0 + late))
}

fn world(config: &SchedulerConfig, seed: u64) -> World {
    let config = SchedulerConfig { prefix_cache: false, ..config.clone() };
    let mut world = World::new(8192, config);
    let mut random = fastrand::Rng::with_seed(seed);
    world.time_of = Box::new(move |batch| time_of(batch, NOISE * random.f64()));
    world
}

fn growing(tenant: u64) -> Stream {
    Stream { keep_kv: true, pause: TURN, ..decoding(tenant) }
}

/// A prompt whose answer nobody goes on from.
fn prompt(tenant: u64) -> Stream {
    Stream { rows: PROMPT, pause: Duration::from_secs(3600), ..decoding(tenant) }
}

/// Adds a prompt and runs until it is answered. How long that took.
fn prefill(world: &mut World, prompt: Stream) -> Duration {
    let before = world.streams.keys().copied().collect::<Vec<_>>();
    let (sent, _) = (world.now, world.add(1, prompt));
    let id = *world.streams.keys().find(|id| !before.contains(id)).expect("it was added");
    while !world.answers.contains_key(&id) {
        world.turn();
    }
    world.scheduler.check();
    world.now - sent
}

/// What streams and prompt are to each other.
#[derive(Debug)]
struct Mixed {
    /// The median gap of streams alone.
    usual: f64,
    /// All gaps beside the prompt, as multiples of that, in order.
    gaps: Vec<f64>,
    /// The prompt's time among streams, as a multiple of that alone.
    ttft: f64,
}

impl Mixed {
    fn percentile(&self, percent: usize) -> f64 {
        self.gaps[(self.gaps.len() * percent / 100).min(self.gaps.len() - 1)]
    }
}

/// A prompt among streams that each belong to `user(stream)`.
fn mixed(config: &SchedulerConfig, seed: u64, user: impl Fn(u64) -> u64, prompt: Stream) -> Mixed {
    let alone = prefill(&mut world(config, seed), prompt);
    let mut world = world(config, seed);
    (0..STREAMS).for_each(|stream| world.add(1, growing(user(stream))));
    // Their contexts grow to 64 tokens and more.
    world.run(2);
    let streams: Vec<ContextId> = world.streams.keys().copied().collect();
    let sent = world.now;
    let among = prefill(&mut world, prompt);
    let gaps = |from: Duration, to: Duration| {
        let mut gaps = Vec::new();
        for stream in &streams {
            let times = world.answers[stream].windows(2).filter(|pair| pair[1] > from && pair[1] <= to);
            gaps.extend(times.map(|pair| (pair[1] - pair[0]).as_secs_f64()));
        }
        gaps.sort_by(f64::total_cmp);
        gaps
    };
    let usual = gaps(sent - Duration::from_secs(1), sent);
    let usual = usual[usual.len() / 2];
    let gaps = gaps(sent, world.now).into_iter().map(|gap| gap / usual).collect();
    Mixed { usual, gaps, ttft: among.as_secs_f64() / alone.as_secs_f64() }
}

/// Shares of prompts, with what the p99 and the longest gap must be under, times the usual: one that keeps both goals in
/// simulated time, and the default, of whose plan the client sees less than the batches do.
fn shares() -> [(SchedulerConfig, [f64; 2]); 2] {
    let default = SchedulerConfig::default();
    let planned = 100.0 / f64::from(100 - default.prefill_share);
    [
        (SchedulerConfig { prefill_share: 58, ..default.clone() }, [2.5, 3.0]),
        (default, [1.05 * planned, 1.25 * planned]),
    ]
}

fn check(found: &Mixed, [p99_limit, max_limit]: [f64; 2], what: &str) {
    let [p99, max] = [99, 100].map(|percent| found.percentile(percent));
    assert!((0.014..0.020).contains(&found.usual), "{what}: {found:?}");
    assert!(p99 < p99_limit, "{what}: of the gaps 99 in 100 are under {p99:.2} of the usual");
    assert!(max < max_limit, "{what}: the longest gap is {max:.2} of the usual");
    assert!(found.ttft < 2.0, "{what}: the prompt took {:.2} of its time alone", found.ttft);
    assert!(!found.gaps.is_empty());
}

#[test]
fn a_prompt_among_the_streams_of_its_own_user_slows_them_and_is_slowed_as_said() {
    for (config, limits) in shares() {
        for seed in 0..10 {
            let what = format!("share {}, seed {seed}", config.prefill_share);
            check(&mixed(&config, seed, |_| 1, prompt(1)), limits, &what);
        }
    }
}

#[test]
fn and_so_among_streams_of_other_users() {
    for (config, limits) in shares() {
        for seed in 0..10 {
            let what = format!("share {}, seed {seed}, a user for each stream", config.prefill_share);
            check(&mixed(&config, seed, |stream| stream, prompt(99)), limits, &what);
        }
    }
    // With a few users the part that each is due is the lower bound: of two, a half, of which some is left as room.
    let two = mixed(&SchedulerConfig::default(), 1, |_| 1, prompt(2));
    assert!(two.percentile(50) < 2.5 && two.ttft < 3.0, "{:.2} {:.2}", two.percentile(50), two.ttft);
}

#[test]
fn the_share_of_prompts_is_between_the_two_goals() {
    let of = |prefill_share| {
        let config = SchedulerConfig { prefill_share, ..SchedulerConfig::default() };
        mixed(&config, 7, |_| 1, prompt(1))
    };
    let all = of(100);
    assert!(all.percentile(50) > 10.0 && all.ttft < 1.3, "as many rows as fit: {:.1}", all.percentile(50));
    for share in [25, 40, 60, 70, 85] {
        let found = of(share);
        let expected = 100.0 / f64::from(100 - share);
        let (gap, ttft) = (found.percentile(50), found.ttft * f64::from(share) / 100.0);
        assert!(
            (gap / expected - 1.0).abs() < 0.15,
            "{share}: the gap is {gap:.2}, {expected:.2} was planned"
        );
        assert!((0.85..1.2).contains(&ttft), "{share}: the prompt takes {ttft:.2} of what was planned");
    }
    // With next to nothing for prompts they go on.
    let least = of(1);
    assert!(
        least.percentile(50) < 2.0 && least.ttft < 100.0,
        "{:.2} {:.1}",
        least.percentile(50),
        least.ttft
    );
}

#[test]
fn streams_that_are_away_for_a_moment_keep_their_time() {
    // A pause longer than the scheduler waits for: they come back while the prompt is computed.
    for pause in [3, 10, 50].map(Duration::from_millis) {
        let mut world = world(&SchedulerConfig::default(), 3);
        world.add(1, Stream { pause, ..growing(1) });
        world.run(1);
        let alone = prefill(&mut world, prompt(1));
        let stream = &world.answers[&ContextId(1)];
        let gaps = stream.windows(2).filter(|pair| pair[1] > world.now - alone);
        let mut gaps: Vec<Duration> = gaps.map(|pair| pair[1] - pair[0]).collect();
        // The last rows of the prompt, a page of them at most, go as those of streams do.
        gaps.pop();
        let longest = gaps.into_iter().max().expect("it went on");
        // One step of the stream, 4 ms, stretched, in which it comes back, and another.
        assert!(longest < pause + Duration::from_millis(26), "{pause:?}: {longest:?}");
    }
    // What is away for longer than a whole batch takes counts no more: the prompt takes all rows. How long that is is known
    // once there was a prompt.
    let mut world = world(&SchedulerConfig::default(), 3);
    prefill(&mut world, prompt(1));
    let pause = Duration::from_secs(1);
    world.add(STREAMS, Stream { pause, ..growing(1) });
    world.run(3);
    let steps = world.answers[&ContextId(3)].len();
    while world.answers[&ContextId(3)].len() == steps {
        world.turn();
    }
    world.now += pause * 7 / 10;
    let batches = world.scheduler.stats().batches;
    prefill(&mut world, Stream { rows: 512, ..prompt(1) });
    assert_eq!(world.scheduler.stats().batches, batches + 1);
}

#[test]
fn what_a_prompt_goes_before_does_not_slow_it() {
    let high = Stream { priority: Priority::High, ..prompt(1) };
    let found = mixed(&SchedulerConfig::default(), 5, |_| 1, high);
    assert!(found.ttft < 1.3, "its user put it before the streams: {:.2}", found.ttft);
    for (config, [limit, _]) in shares() {
        let p99 = mixed(&config, 5, |stream| 2 + stream, high).percentile(99);
        assert!(p99 < limit, "that is no concern of other users: {p99:.2}");
    }
    let across = SchedulerConfig { priority_across_tenants: true, ..SchedulerConfig::default() };
    assert!(mixed(&across, 5, |stream| 2 + stream, high).ttft < 1.3, "unless the operator says so");
}

#[test]
fn prompts_with_nobody_beside_them_take_what_fits() {
    for row in POLICIES.iter().filter(|row| row.name != "eager") {
        let config = SchedulerConfig {
            policy: (row.make)(1, Duration::from_millis(2)),
            prefix_cache: false,
            ..SchedulerConfig::default()
        };
        let mut world = world(&config, 1);
        for _ in 0..3 {
            prefill(&mut world, prompt(1));
        }
        let stats = world.scheduler.stats();
        assert_eq!(stats.batches, 3, "{}: batches of 2048 rows", row.name);
    }
}
