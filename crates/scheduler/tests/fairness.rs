//! What users get of the work while others want some: in simulated time, where a batch of n rows takes a + b n.
//!
//! A *stream* is a program that asks for one pass after another. Nothing is measured: every number follows from the model.

mod common;

use std::collections::BTreeMap;
use std::time::Duration;

use common::{A, B, Stream, World, decoding};
use scheduler::{POLICIES, Priority, SchedulerConfig};

/// Rows of each user in so many seconds.
fn rows_in(seconds: u64, config: &SchedulerConfig, streams: &[(u64, Stream)]) -> BTreeMap<u64, u64> {
    let mut world = World::new(4096, config.clone());
    streams.iter().for_each(|(count, stream)| world.add(*count, *stream));
    world.run(seconds)
}

/// `share` of `all`, but for what the beginning and the end cut off.
fn at_least(rows: u64, all: u64, divisor: u64) -> bool {
    divisor * (rows + 2) >= all
}

#[test]
fn a_thousand_streams_slow_one_of_another_user_by_half_at_most() {
    for row in POLICIES {
        let config = SchedulerConfig {
            policy: (row.make)(8, Duration::from_millis(2)),
            // All of the thousand wait for longer, so all of them are impatient.
            patience: Duration::from_millis(500),
            ..SchedulerConfig::default()
        };
        let alone = rows_in(6, &config, &[(1, decoding(2))])[&2];
        let crowd = rows_in(6, &config, &[(1000, decoding(1))])[&1];
        let mut world = World::new(4096, config);
        world.add(1000, decoding(1));
        world.add(1, decoding(2));
        let both = world.run(6);
        assert!(at_least(both[&2], alone, 2), "{}: {} of {alone}", row.name, both[&2]);
        // The others get the rest: nothing is left idle, and of the half of the time that is theirs most is used.
        assert!(world.computing >= world.now * 99 / 100, "{}: {:?}", row.name, world.computing);
        assert!(at_least(both[&1], crowd, 3), "{}: {} of {crowd}", row.name, both[&1]);
    }
}

#[test]
fn a_users_priorities_are_among_its_own_unless_the_operator_lets_them_count() {
    let high = Stream { priority: Priority::High, ..decoding(1) };
    let config = SchedulerConfig::default();
    let normal = rows_in(5, &config, &[(1000, decoding(1)), (1, decoding(2))]);
    assert_eq!(rows_in(5, &config, &[(1000, high), (1, decoding(2))]), normal);
    // Among its own they count: two go with each batch, as the other user's does.
    let mut world = World::new(4096, config.clone());
    world.add(1000, Stream { priority: Priority::Low, ..decoding(1) });
    world.add(2, decoding(1));
    world.add(1, decoding(2));
    world.run(3);
    let answers: Vec<usize> = world.answers.values().rev().take(3).map(Vec::len).collect();
    assert!(answers.iter().all(|passes| passes.abs_diff(answers[0]) * 10 < answers[0]), "{answers:?}");

    let allowed = SchedulerConfig { priority_across_tenants: true, ..config };
    let both = rows_in(4, &allowed, &[(5000, high), (1, decoding(2))]);
    assert!(both.get(&2).is_none_or(|rows| *rows < 3), "{both:?}");
    let other_way =
        rows_in(4, &allowed, &[(1000, decoding(1)), (1, Stream { priority: Priority::High, ..decoding(2) })]);
    assert!(other_way[&2] > 2 * normal[&2] / 5, "{other_way:?}");
}

#[test]
fn three_users_get_a_third_each_of_what_they_can_use() {
    let config = SchedulerConfig::default();
    let alone = rows_in(6, &config, &[(1, decoding(3))])[&3];
    let all = rows_in(6, &config, &[(1000, decoding(1)), (300, decoding(2)), (1, decoding(3))]);
    assert!(at_least(all[&3], alone, 3), "{all:?}");
    assert!(all[&1].abs_diff(all[&2]) * 50 < all[&1], "as much for 300 streams as for 1000: {all:?}");
}

#[test]
fn a_user_that_comes_back_gets_a_share_and_no_arrears() {
    let mut world = World::new(8192, SchedulerConfig::default());
    world.add(1, decoding(2));
    world.add(300, decoding(1));
    world.run(2);
    world.stop(2);
    world.run(10);
    // Back, and with more streams than the other has.
    world.add(3000, decoding(2));
    let rows = world.run(10);
    assert!(rows[&1].abs_diff(rows[&2]) * 20 < rows[&1], "{rows:?}");
}

#[test]
fn a_long_prompt_of_one_user_slows_the_stream_of_another_by_half_at_most() {
    let config = SchedulerConfig { prefix_cache: false, ..SchedulerConfig::default() };
    let prompts = Stream { rows: 4096, ..decoding(1) };
    let alone = rows_in(30, &config, &[(1, decoding(2))])[&2];
    let prompts_alone = rows_in(30, &config, &[(1, prompts)])[&1];
    let both = rows_in(30, &config, &[(1, prompts), (1, decoding(2))]);
    assert!(at_least(both[&2], alone, 2), "{} of {alone}", both[&2]);
    // A prompt is counted when it is through.
    assert!(3 * (both[&1] + 4096) >= prompts_alone, "{} of {prompts_alone}", both[&1]);
}

#[test]
fn a_stream_that_pauses_comes_back_to_short_batches() {
    for pause in [1, 40, 150, 600].map(Duration::from_millis) {
        let config = SchedulerConfig::default();
        let pausing = Stream { pause, ..decoding(2) };
        let alone = rows_in(30, &config, &[(1, pausing)])[&2];
        let both = rows_in(30, &config, &[(200, decoding(1)), (1, pausing)])[&2];
        // At worst it comes when a batch has just begun: one of twice its own time, or, after a pause that is longer
        // than that, one of all the others' rows.
        let (own, all) = (A + B, A + B * 200);
        let slowest = pause + if pause > all { all } else { 2 * own } + 2 * own;
        let expected = alone as f64 * (pause + own).as_secs_f64() / slowest.as_secs_f64();
        assert!(both as f64 + 2.0 >= expected, "{pause:?}: {both} of {alone}, at least {expected}");
    }
}

#[test]
fn pages_are_shared_too_and_priority_takes_none_of_another_user() {
    let growing = Stream { keep_kv: true, ..decoding(2) };
    // Contexts that grow until they are more than the pool.
    let hoard = Stream { keep_kv: true, priority: Priority::High, ..decoding(1) };
    let mut alone = World::new(90, SchedulerConfig::default());
    alone.add(1, growing);
    let alone = alone.run(2)[&2];
    let mut world = World::new(90, SchedulerConfig::default());
    world.add(30, hoard);
    while world.scheduler.stats().pages_spilled < 20 {
        world.turn();
    }
    world.add(1, growing);
    let both = world.run(2);
    assert!(at_least(both[&2], alone, 2), "{} of {alone}", both[&2]);
    assert!(both[&1] > 0, "{both:?}");
}

#[test]
fn a_pass_that_needs_more_than_its_users_share_is_served_in_the_end() {
    let config = SchedulerConfig { prefix_cache: false, ..SchedulerConfig::default() };
    let patience = config.patience;
    let mut world = World::new(40, config);
    // The older user holds less than its share of the pool, and always has passes on all of it.
    world.add(15, Stream { keep_kv: true, ..decoding(1) });
    world.turn();
    world.streams.values_mut().for_each(|stream| stream.keep_kv = false);
    world.run(1);
    assert_eq!(world.scheduler.stats().pages_held, 15);
    world.add(1, Stream { rows: 30 * 16, ..decoding(2) });
    let begun = world.now;
    while world.rows.get(&2).is_none_or(|rows| *rows == 0) {
        world.turn();
        assert!(world.now < begun + 4 * patience, "it waits for ever");
    }
    assert!(world.now > begun + patience, "no page of the other user before");
    assert!(world.run(1)[&1] > 0, "and the others go on");
}
