//! What a call of the host costs more for being recorded, and for not being recorded: `cargo run --release --workspace
//! --example cost`.

#![allow(clippy::print_stdout, reason = "this is a benchmark")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use trace::{Life, Recorder};

/// Median nanoseconds of a call, of several rounds of so many calls.
fn nanoseconds(recorder: &Arc<Recorder>, calls: u32) -> f64 {
    let round = || {
        let start = Instant::now();
        for ticket in 0..calls {
            let mut call = recorder.pass(1, "forward.execute", ticket.into(), || {
                vec![("model", "small".into()), ("rows", black_box(1u32).into()), ("context", 100u32.into())]
            });
            call.answered(|| vec![("computed", 1u32.into()), ("cached", 0u32.into())]);
            drop(black_box(call));
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    let mut rounds: Vec<f64> = (0..9).map(|_| round()).collect();
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn main() {
    let recorder = Arc::new(Recorder::default());
    println!("a pass, without a recording: {:.1} ns", nanoseconds(&recorder, 1_000_000));
    let session = recorder.begin(1 << 30).expect("no other recording runs");
    let life = Life { owner: 1, id: "1", program: "p", user: "u", parent: None, began: Instant::now() };
    recorder.inferlet_began(&life);
    println!("a pass, in a recording: {:.0} ns", nanoseconds(&recorder, 100_000));
    let recording = session.end();
    assert_eq!(recording.dropped(), 0, "every call was recorded");
    let start = Instant::now();
    let (events, bytes) = (recording.events(), recording.encode().len());
    println!("encoding {events} events: {:?}, {} bytes each", start.elapsed(), bytes as u64 / events);
}
