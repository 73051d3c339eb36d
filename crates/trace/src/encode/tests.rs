//! What a recording becomes, read back with the same messages. That Perfetto's own read it is tested in `tests/clients`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use prost::Message;

use super::*;
use crate::{Batch, Counters, Life, Recorder};

#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<TracePacket>,
}

/// A recording of one inferlet with two calls at once, one pass of which is computed in two batches.
fn recording() -> Recording {
    let recorder = Arc::new(Recorder::default());
    let began = Instant::now();
    let session = recorder.begin(1 << 20).unwrap();
    let before = began.checked_sub(Duration::from_secs(3)).unwrap();
    recorder.inferlet_began(&Life {
        owner: 5,
        id: "12345678-9",
        program: "p",
        user: "u",
        parent: None,
        began: before,
    });
    let mut pass = recorder.pass(5, "forward.execute", 70, || vec![("rows", 12u32.into())]);
    let endless = recorder.call(5, "session.receive", Vec::new);
    let engine = recorder.engine("m");
    for rows in [8, 4] {
        let now = Instant::now();
        let [moved, ended] = [1, 2].map(|ms| now + Duration::from_millis(ms));
        let passes = vec![(70, rows), (71, 1)];
        let (cached, outputs, copies, spills, restores, failed) = (0, 1, u64::from(rows == 8), 0, 0, false);
        engine.batch(Batch {
            began: now,
            moved,
            ended,
            passes,
            cached,
            outputs,
            copies,
            spills,
            restores,
            failed,
        });
        let counters = Counters {
            pages_free: 3,
            pages_cached: 2,
            pages_held: 1,
            pages_spilled: 0,
            passes_running: 2,
            passes_waiting: 9,
        };
        engine.sample(ended, counters);
        std::thread::sleep(Duration::from_millis(3));
    }
    pass.answered(|| vec![("cached", 0u32.into())]);
    drop(pass);
    recorder.inferlet_ended(5);
    let recording = session.end();
    drop(endless);
    recording
}

/// Slices by track as (name, begin, end), checked to nest.
fn slices(packets: &[TracePacket]) -> BTreeMap<u64, Vec<(String, u64, u64)>> {
    let mut open: BTreeMap<u64, Vec<(String, u64)>> = BTreeMap::new();
    let mut slices: BTreeMap<u64, Vec<(String, u64, u64)>> = BTreeMap::new();
    let mut last = 0;
    for packet in packets {
        let Some(Data::TrackEvent(event)) = &packet.data else { continue };
        let (at, track) = (packet.timestamp.unwrap(), event.track_uuid.unwrap());
        assert!(at >= last, "in the order of time");
        last = at;
        match event.kind.unwrap() {
            SLICE_BEGIN => open.entry(track).or_default().push((event.name.clone().unwrap(), at)),
            SLICE_END => {
                let (name, began) = open.get_mut(&track).and_then(Vec::pop).expect("a slice ends that began");
                slices.entry(track).or_default().push((name, began, at));
            }
            _ => {}
        }
    }
    assert!(open.values().all(Vec::is_empty), "every slice ends: {open:?}");
    slices
}

fn event<'a>(packets: &'a [TracePacket], name: &str) -> Vec<&'a TrackEvent> {
    let events = packets.iter().filter_map(|packet| match &packet.data {
        Some(Data::TrackEvent(event)) => Some(event),
        _ => None,
    });
    events.filter(|event| event.name.as_deref() == Some(name)).collect()
}

#[test]
fn a_recording_comes_back_with_its_tracks_slices_and_flows() {
    let recording = recording();
    let packets = Trace::decode(&recording.encode()[..]).unwrap().packet;
    let mut tracks = BTreeMap::new();
    for packet in &packets {
        if let Some(Data::TrackDescriptor(track)) = &packet.data {
            assert!(tracks.insert(track.uuid.unwrap(), track.clone()).is_none(), "each track once");
        }
    }
    let name = |uuid: u64| match &tracks[&uuid] {
        TrackDescriptor { process: Some(process), .. } => process.process_name.clone().unwrap(),
        track => track.name.clone().unwrap(),
    };
    let path = |uuid: u64| format!("{}/{}", name(tracks[&uuid].parent_uuid.unwrap()), name(uuid));
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for (track, slices) in slices(&packets) {
        found.push((path(track), slices.into_iter().map(|(name, ..)| name).collect()));
    }
    found.sort();
    let expected = [
        ("engine m/batches", vec!["page moves", "compute", "batch", "compute", "batch"]),
        ("p 12345678/calls", vec!["forward.execute"]),
        ("p 12345678/calls", vec!["session.receive"]),
        ("p 12345678/life", vec!["p"]),
        ("pie/recording", vec!["recording"]),
    ];
    let expected = expected
        .map(|(path, names)| (path.to_string(), names.into_iter().map(String::from).collect::<Vec<_>>()));
    assert_eq!(found, expected);
    assert_eq!(event(&packets, "forward.execute")[0].flow_ids, [70]);
    assert_eq!(
        event(&packets, "batch").iter().map(|batch| &batch.flow_ids[..]).collect::<Vec<_>>(),
        [[70, 71]; 2]
    );
    assert_eq!(event(&packets, "answer")[0].terminating_flow_ids, [70]);
    let counters = packets.iter().filter_map(|packet| match &packet.data {
        Some(Data::TrackEvent(event)) => {
            event.counter_value.map(|value| (name(event.track_uuid.unwrap()), value))
        }
        _ => None,
    });
    let counters: Vec<(String, i64)> = counters.collect();
    assert_eq!(counters.len(), 12);
    assert!(counters.contains(&("pages free".into(), 3)) && counters.contains(&("passes waiting".into(), 9)));
}

#[test]
fn what_reaches_beyond_the_recording_is_cut_there_and_says_so() {
    let recording = recording();
    let packets = Trace::decode(&recording.encode()[..]).unwrap().packet;
    let (began, ended) = (recording.at(recording.began), recording.at(recording.ended));
    let all = slices(&packets);
    assert!(
        all.values().flatten().all(|(_, from, to)| began <= *from && from <= to && *to <= ended),
        "{all:?}"
    );
    let says = |name: &str, argument: &str| {
        let annotations = &event(&packets, name)[0].debug_annotations;
        annotations.iter().find(|a| a.name.as_deref() == Some(argument)).and_then(|a| a.value.clone())
    };
    assert!(matches!(says("p", "ran_before_ms"), Some(AnnotationValue::Count(ms)) if ms >= 2999));
    assert!(says("session.receive", "state").is_some() && says("forward.execute", "state").is_none());
    assert_eq!(says("recording", "dropped"), Some(AnnotationValue::Count(0)));
    // A call that outlives its inferlet, by the clock of another thread, ends with it.
    let life = all.values().flatten().find(|(name, ..)| name == "p").unwrap();
    let call = all.values().flatten().find(|(name, ..)| name == "session.receive").unwrap();
    assert!(life.2 <= ended && call.2 <= life.2);
}
